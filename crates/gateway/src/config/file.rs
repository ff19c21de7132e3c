//! `bulla.toml` as a whole. What is below a table, and what goes with it, is read beside what it stands for.

use std::path::{Path, PathBuf};

use bulla_server::ProofKind;

use super::reader::{Problem, Reader, Section};
use super::{
    Config, Overrides, access, delivery, limits, listen, network, runtime, upstreams, values,
};

/// Reads the text of a file, or of none.
///
/// # Errors
///
/// All that is wrong, in the order of lines.
pub(super) fn read(
    text: &str,
    file: Option<&Path>,
    over: &Overrides,
) -> Result<Config, Vec<Problem>> {
    let name = file.map(|file| file.display().to_string());
    let folder = file.and_then(Path::parent).unwrap_or(Path::new(""));
    let reader = Reader::new(name, text);
    let config = config(reader.root(), folder, over);
    let problems = reader.into_problems();
    if problems.is_empty() {
        Ok(config)
    } else {
        Err(problems)
    }
}

/// What is wrong is reported, and has its default here.
fn config(mut root: Section<'_, '_>, folder: &Path, over: &Overrides) -> Config {
    let listen = root.text("listen", values::address);
    let listen = over.listen.or(listen).unwrap_or(super::LISTEN);
    let tls = root
        .section("tls")
        .and_then(|section| listen::tls(section, folder));
    let state = root.text("state", values::file);
    let state = state.unwrap_or_else(|| PathBuf::from(super::STATE));
    let (paths, places) = access::paths(&mut root);
    let (tokens, token_places) = access::tokens(&mut root);
    let mut learnt = None;
    let config = Config {
        listen,
        origins: listen::origins(&mut root, over, listen, tls.is_some()),
        upstreams: upstreams::upstreams(&mut root, over),
        upstream_tls: root
            .section("upstream_tls")
            .and_then(|section| upstreams::upstream_tls(section, folder)),
        tls,
        state: over.state.clone().unwrap_or_else(|| folder.join(state)),
        access: root.text("access", values::access).unwrap_or_default(),
        mode: root.text("mode", values::mode).unwrap_or_default(),
        proof: root
            .text("proof", values::proof)
            .unwrap_or(ProofKind::Device),
        bound_cookies: root
            .texts("bound_cookies", values::cookie, |one, other| one == other)
            .unwrap_or_else(super::usual_cookies),
        unbound_cookies: root
            .texts("unbound_cookies", values::cookie, |one, other| one == other)
            .unwrap_or_default(),
        paths,
        tokens,
        unbound_tokens: root
            .text("unbound_tokens", values::unbound)
            .unwrap_or_default(),
        health: root
            .section("health")
            .map(upstreams::health)
            .unwrap_or_default(),
        limits: root.section("limits").map(limits::read).unwrap_or_default(),
        network: root
            .section("network")
            .map(network::read)
            .unwrap_or_default(),
        operator: root
            .section("operator")
            .and_then(|section| listen::operator(section, folder, listen)),
        delivery: root.section("delivery").and_then(|section| {
            learnt = Some(section.place("learn"));
            delivery::read(section, folder)
        }),
        runtime: root
            .section("runtime")
            .map(runtime::read)
            .unwrap_or_default(),
        scripts: runtime::scripts(&mut root),
        fields: runtime::fields(&mut root),
        decision: root
            .section("decision")
            .and_then(|section| listen::decision(section, listen)),
    };
    root.end();
    access::check_rules(&config, &places);
    access::check_tokens(&config, &token_places);
    delivery::check_learnt(&config, learnt.as_ref());
    config
}
