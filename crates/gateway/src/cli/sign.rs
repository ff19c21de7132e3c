//! Signs what an application is made of.

use std::fs;
use std::io;
use std::path::Path;

use bulla_gateway::delivery::Manifest;
use bulla_server::Identity;

use super::{Failure, Sign};

/// What a manifest is called where nobody says otherwise.
const NAME: &str = "bulla-manifest.json";

pub(super) fn sign(asked: &Sign) -> Result<(), Failure> {
    // Nobody would go by one that is made up here.
    let identity = asked.state.existing()?;
    let out = asked.out.clone().unwrap_or_else(|| asked.folder.join(NAME));
    let before = before(&out, &identity)?;
    let version = asked.number.unwrap_or(before + 1);
    if version <= before {
        let out = out.display();
        return Err(format!("{out} has version {before} already; versions only grow").into());
    }
    let manifest = Manifest::of_folder(&asked.folder, &asked.base, version)?;
    Manifest::write(&manifest.signed(&identity)?, &out)?;
    println!(
        "{}: version {version}, {} files below {}",
        out.display(),
        manifest.hashes.len(),
        manifest.base
    );
    Ok(())
}

/// The version of the manifest that is there, or 0.
fn before(out: &Path, identity: &Identity) -> Result<u64, Failure> {
    let text = match fs::read_to_string(out) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(format!("{} cannot be read: {error}", out.display()).into()),
    };
    let manifest = Manifest::open(&text, identity.thumbprint());
    let manifest = manifest.map_err(|invalid| format!("{}: {invalid}", out.display()))?;
    Ok(manifest.version)
}
