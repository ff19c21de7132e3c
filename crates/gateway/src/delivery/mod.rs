//! What browsers hold the application's code to: a signed list of its scripts, styles, Wasm modules and pages.
//!
//! `bulla-gateway sign` makes a [`Manifest`] of a folder (`folder`); where there is none, the gateway makes one of what
//! the application serves (`found`, `own`). It hands it out and writes its hashes into pages; the service
//! worker (`page/delivery.js`) compares what comes with it before a page gets it, whoever has sent it.

mod folder;
mod found;
mod latest;
mod manifest;
mod own;
mod page;
mod strict;
mod validator;

use std::io;
use std::path::{Path, PathBuf};

use bulla_server::{ConfigError, Thumbprint};
use bytes::Bytes;
use http::HeaderValue;

use crate::config::{self, ScriptRule, Source};
use crate::within::read_text_within;

pub use self::folder::FolderError;
pub(crate) use self::found::{Found, Looked, found, may_be_listed};
use self::latest::Latest;
pub(crate) use self::manifest::is_base;
pub use self::manifest::{Hash, Invalid, Manifest};
pub(crate) use self::own::Signer;
pub(crate) use self::strict::strict_policy;
pub(crate) use self::validator::Validator;

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
    /// The identity signs nothing.
    #[error("the manifest is not signed: {0}")]
    Unsigned(#[source] ConfigError),
}

/// A manifest that is gone by.
pub(crate) struct Delivery {
    pub(crate) manifest: Manifest,
    /// The file as it is handed out.
    pub(crate) text: Bytes,
    /// What the operator says of it.
    pub(crate) config: config::Delivery,
    /// The value of the strict policy (CSP).
    pub(crate) strict: HeaderValue,
}

impl Delivery {
    /// What the configuration names, if the identity has signed it and nothing later was seen.
    ///
    /// # Errors
    ///
    /// [`DeliveryError`].
    pub(crate) fn load(
        config: &config::Delivery,
        scripts: &[ScriptRule],
        signer: &Signer,
    ) -> Result<Self, DeliveryError> {
        let (manifest, text) = match &config.source {
            Source::Signed(file) => {
                let (manifest, text) = read(file, signer.identity())?;
                let version = manifest.version;
                signer.latest.admit(file, version, text.as_bytes())?;
                (manifest, text)
            }
            Source::Learnt(base) => signer.last(base)?,
        };
        Ok(Self {
            manifest,
            text: text.into(),
            config: config.clone(),
            strict: strict_policy(scripts),
        })
    }

    /// The path below which the gateway looks for itself what there is, if it does.
    pub(crate) fn learns(&self) -> Option<&str> {
        match &self.config.source {
            Source::Learnt(base) => Some(base),
            Source::Signed(_) => None,
        }
    }

    /// What authorises scripts. Whoever has looked for itself what there is has not asked anybody whether it should be.
    pub(crate) fn authority(&self) -> Option<&Manifest> {
        self.learns().is_none().then_some(&self.manifest)
    }

    /// The next version, with what was found at these paths; `None` if nothing of it is new.
    ///
    /// # Errors
    ///
    /// [`DeliveryError`].
    pub(crate) fn with(
        &self,
        found: &[(String, Found)],
        signer: &Signer,
    ) -> Result<Option<Self>, DeliveryError> {
        let mut next = self.manifest.clone();
        let put = |(path, found): &(String, Found)| next.put(path, *found);
        if found.iter().map(put).filter(|is_new| *is_new).count() == 0 {
            return Ok(None);
        }
        let (manifest, text) = signer.sign(next)?;
        Ok(Some(Self {
            manifest,
            text: text.into(),
            config: self.config.clone(),
            strict: self.strict.clone(),
        }))
    }
}

/// Reads a file, if the identity has signed it. Whether it is too old is not asked.
///
/// # Errors
///
/// [`DeliveryError`].
pub fn read(path: &Path, identity: Thumbprint) -> Result<(Manifest, String), DeliveryError> {
    let unusable = |error| DeliveryError::File(path.to_owned(), error);
    let text = read_text_within(path, MOST).map_err(unusable)?;
    let manifest = Manifest::open(&text, identity)
        .map_err(|invalid| DeliveryError::Invalid(path.to_owned(), invalid))?;
    Ok((manifest, text))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn only_what_somebody_has_signed_authorises_scripts() {
        let authorises = |source| {
            let delivery = Delivery {
                manifest: Manifest::listing("/static/", BTreeMap::new()),
                text: Bytes::new(),
                config: config::Delivery::of(source),
                strict: strict_policy(&[]),
            };
            delivery.authority().is_some()
        };
        assert!(authorises(Source::Signed("m".into())));
        assert!(!authorises(Source::Learnt("/static/".to_owned())));
    }
}
