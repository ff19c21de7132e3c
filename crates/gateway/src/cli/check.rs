//! What it would do, and what is wrong with it.

use std::fs;
use std::io;

use bulla_gateway::config::{Access, Config, Source, UpstreamTls};
use bulla_gateway::delivery::{self, Manifest};
use bulla_gateway::serve::Certificate;
use bulla_server::Identity;

use super::{Failure, Options};

pub(super) fn check(options: &Options) -> Result<(), Failure> {
    let config = options.load()?;
    let certificate = config.tls.as_ref().map(Certificate::load).transpose();
    let upstreams = config.upstream_tls.as_ref().map(UpstreamTls::check);
    let identity = identity(&config);
    let manifest = manifest(&config);
    let wrong = [
        certificate.err().map(|error| error.to_string()),
        upstreams
            .and_then(Result::err)
            .map(|error| error.to_string()),
        identity.as_ref().err().cloned(),
        manifest.as_ref().err().cloned(),
    ];
    let wrong: Vec<_> = wrong.into_iter().flatten().collect();
    if !wrong.is_empty() {
        return Err(wrong.join("\n").into());
    }
    for line in said(
        &config,
        identity.unwrap_or_default(),
        manifest.unwrap_or_default(),
    ) {
        println!("{line}");
    }
    Ok(())
}

/// The manifest that somebody has signed, if there is to be one.
pub(super) fn manifest(config: &Config) -> Result<Option<Manifest>, String> {
    let Some(Source::Signed(file)) = config.delivery.as_ref().map(|delivery| &delivery.source)
    else {
        return Ok(None);
    };
    let path = config.identity_file();
    if !path.exists() {
        return Err(
            "there is [delivery], and no identity that could have signed a manifest".to_owned(),
        );
    }
    let identity = Identity::load_or_create(&path).map_err(|error| error.to_string())?;
    let (manifest, _) =
        delivery::read(file, identity.thumbprint()).map_err(|error| error.to_string())?;
    Ok(Some(manifest))
}

/// What is known of the identity.
fn identity(config: &Config) -> Result<String, String> {
    let path = config.identity_file();
    match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let path = path.display();
            Ok(format!("it has no identity yet, and will make one: {path}"))
        }
        Err(error) => Err(format!("{} cannot be read: {error}", path.display())),
        Ok(_) => match Identity::load_or_create(&path) {
            Ok(identity) => Ok(format!("its identity is {}", identity.thumbprint())),
            Err(error) => Err(error.to_string()),
        },
    }
}

fn said(config: &Config, identity: String, manifest: Option<Manifest>) -> Vec<String> {
    let tls = if config.tls.is_some() { " by TLS" } else { "" };
    let mut said = vec![
        format!(
            "it listens at {}{tls}, for {}",
            config.listen,
            config.origins.join(", ")
        ),
        format!("it stands before {}", before(config)),
        format!("it asks for {}", asked(config.access)),
    ];
    let rule = |rule: &bulla_gateway::config::PathRule| {
        format!("it asks for {} below {}", asked(rule.access), rule.prefix)
    };
    said.extend(config.paths.iter().map(rule));
    said.push(identity);
    said.extend(manifest.map(|manifest| {
        let Manifest {
            base,
            version,
            hashes,
            ..
        } = manifest;
        let files = hashes.len();
        format!("it holds code below {base} to version {version} of its manifest, {files} files")
    }));
    if let Some(Source::Learnt(base)) = config.delivery.as_ref().map(|delivery| &delivery.source) {
        said.push(format!(
            "it holds code below {base} to what the application serves there"
        ));
    }
    let note = |note| format!("note: {note}");
    said.extend(config.notes().into_iter().map(note));
    said
}

/// The upstreams as an operator writes them.
pub(super) fn before(config: &Config) -> String {
    let upstream = |upstream: &http::Uri| upstream.to_string().trim_end_matches('/').to_owned();
    let upstreams: Vec<_> = config.upstreams.iter().map(upstream).collect();
    upstreams.join(", ")
}

fn asked(access: Access) -> &'static str {
    match access {
        Access::Public => "nothing",
        Access::Signed => "a verified session",
        Access::Sealed => "a sealed request",
        Access::Concealed => "a sealed request with a concealed path",
    }
}
