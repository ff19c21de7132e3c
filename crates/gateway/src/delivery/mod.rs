//! What browsers hold the application's code to: a signed list of its scripts, styles, Wasm modules and pages.
//!
//! `bulla-gateway sign` makes a [`Manifest`]. The gateway hands it out and writes its hashes into pages; the service
//! worker (`page/delivery.js`) compares what comes with it before a page gets it, whoever has sent it.

mod folder;
mod latest;
mod manifest;
mod page;
mod strict;

use std::fs;
use std::io;
use std::path::PathBuf;

use bulla_server::Thumbprint;
use bytes::Bytes;
use http::HeaderValue;

use crate::config::{self, Policy, ScriptRule};

pub use self::folder::FolderError;
pub(crate) use self::latest::Latest;
pub use self::manifest::{Hash, Invalid, Manifest};
pub(crate) use self::strict::strict_policy;

/// The media type of a manifest in the draft of WAICT.
pub(crate) const TYPE: &str = "application/waict-integrity-manifest";

/// How long a file may be, in bytes: some hundred thousand names.
const MOST: u64 = 32 << 20;

/// Why a manifest is not gone by.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeliveryError {
    /// A file, of the manifest or of the version that was seen last, cannot be read or written.
    #[error("{} cannot be used: {}", .0.display(), .1)]
    File(PathBuf, #[source] io::Error),
    /// It is no manifest that this identity has signed.
    #[error("{}: {}", .0.display(), .1)]
    Invalid(PathBuf, #[source] Invalid),
    /// A later one has been gone by.
    #[error("{} has version {version}, and version {seen} was in use already: browsers would refuse it", .path.display())]
    Older {
        /// Its file.
        path: PathBuf,
        /// Its version.
        version: u64,
        /// The highest that was seen.
        seen: u64,
    },
    /// Another one with this version has been gone by.
    #[error("{} has version {}, and another manifest with that version was in use: sign it with a new one", .0.display(), .1)]
    Reused(PathBuf, u64),
}

/// A manifest that is gone by.
pub(crate) struct Delivery {
    pub(crate) manifest: Manifest,
    /// The file as it is handed out.
    pub(crate) text: Bytes,
    pub(crate) policy: Policy,
    /// The value of the policy (CSP) that `policy` is about.
    pub(crate) strict: HeaderValue,
}

impl Delivery {
    /// Reads what the configuration names, if the identity has signed it and nothing later was seen.
    ///
    /// # Errors
    ///
    /// [`DeliveryError`].
    pub(crate) fn load(
        config: &config::Delivery,
        scripts: &[ScriptRule],
        identity: Thumbprint,
        latest: &Latest,
    ) -> Result<Self, DeliveryError> {
        let (manifest, text) = read(config, identity)?;
        latest.admit(&config.manifest, manifest.version, text.as_bytes())?;
        Ok(Self {
            manifest,
            text: text.into(),
            policy: config.policy,
            strict: strict_policy(scripts),
        })
    }
}

/// Reads what the configuration names, if the identity has signed it. Whether it is too old is not asked.
///
/// # Errors
///
/// [`DeliveryError`].
pub fn read(
    config: &config::Delivery,
    identity: Thumbprint,
) -> Result<(Manifest, String), DeliveryError> {
    let path = &config.manifest;
    let unusable = |error| DeliveryError::File(path.clone(), error);
    if fs::metadata(path).map_err(unusable)?.len() > MOST {
        return Err(unusable(io::ErrorKind::FileTooLarge.into()));
    }
    let text = fs::read_to_string(path).map_err(unusable)?;
    let manifest = Manifest::open(&text, identity)
        .map_err(|invalid| DeliveryError::Invalid(path.clone(), invalid))?;
    Ok((manifest, text))
}
