//! The manifest itself.
//!
//! Its file has two lines. The first is JSON with the members of the WAICT draft "Signalling and Integrity"
//! (waict-wg/waict-integrity-spec): `hashes` and `wasm_hashes`, SHA-256 in base64url without padding. `version` and `base`
//! are ours; the draft has members that it does not know ignored. The second line is where the draft has a proof of
//! transparency, and anything at all where there is none (`max-age=0`): here it is the identity's signature of the
//! first, a JWS with detached content.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bulla_protocol::base64 as url_safe;
use bulla_server::{ConfigError, Identity, Thumbprint, is_signed_by};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// What a signature is for.
const TYPE: &str = "bulla-manifest";

/// The highest version: beyond it scripts cannot tell whole numbers apart.
pub(super) const LAST: u64 = (1 << 53) - 1;

/// The code of an application, as browsers are to get it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Manifest {
    /// Grows with each manifest, from 1 on. Whoever has seen one goes by none that is lower.
    pub version: u64,
    /// The path below which there is no code but what is listed. It ends with a slash.
    pub base: String,
    /// What is at each path, written as in URLs.
    pub hashes: BTreeMap<String, Hash>,
    /// The hashes of those that are Wasm modules.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub wasm_hashes: BTreeSet<Hash>,
}

/// Why a text is no manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    /// It has another form.
    #[error("it is no manifest such as `bulla-gateway sign` writes")]
    Form,
    /// It is signed by nobody, or by another.
    #[error("this gateway's identity has not signed it")]
    Signature,
}

impl Manifest {
    pub(crate) fn listing(base: &str, hashes: BTreeMap<String, Hash>) -> Self {
        Self {
            version: 1,
            base: base.to_owned(),
            hashes,
            wasm_hashes: BTreeSet::new(),
        }
    }

    /// Reads a file's text, if this identity has signed it.
    ///
    /// # Errors
    ///
    /// [`Invalid`].
    pub fn open(text: &str, identity: Thumbprint) -> Result<Self, Invalid> {
        let lines = text.strip_suffix('\n').ok_or(Invalid::Form)?;
        let (json, signature) = lines.split_once('\n').ok_or(Invalid::Form)?;
        if !is_signed_by(identity, TYPE, json.as_bytes(), signature) {
            return Err(Invalid::Signature);
        }
        let manifest: Self = serde_json::from_str(json).map_err(|_| Invalid::Form)?;
        let is_whole = (1..=LAST).contains(&manifest.version) && is_base(&manifest.base);
        is_whole.then_some(manifest).ok_or(Invalid::Form)
    }

    /// The text of its file.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Identity`] if the identity signs nothing.
    pub fn signed(&self, identity: &Identity) -> Result<String, ConfigError> {
        let json = serde_json::to_string(self).map_err(|_| ConfigError::Identity)?;
        let signature = identity.sign_detached(TYPE, json.as_bytes())?;
        Ok(format!("{json}\n{signature}\n"))
    }
}

/// Whether code can be below this path: it begins and ends with a slash.
pub(crate) fn is_base(path: &str) -> bool {
    path.starts_with('/') && path.ends_with('/') && !path.contains("//")
}

/// Whether files whose names end so are code.
pub(super) fn is_code(end: &str) -> bool {
    ["js", "mjs", "cjs", "css", "wasm"].contains(&end)
}

/// SHA-256 of a file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hash([u8; 32]);

impl Hash {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Of what has been read.
    pub(super) fn read(all: Sha256) -> Self {
        Self(all.finalize().into())
    }

    /// As in an `integrity` attribute (Subresource Integrity, section 3.1): `sha256-…`.
    pub fn integrity(&self) -> String {
        format!("sha256-{}", STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.integrity())
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&url_safe::encode(self.0))
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let hash = url_safe::decode_array(&text).map(Self);
        hash.ok_or_else(|| D::Error::custom("no SHA-256 in base64url"))
    }
}

#[cfg(test)]
mod tests {
    use bulla_server::SystemRandom;

    use super::*;

    fn manifest(version: u64) -> Manifest {
        Manifest {
            version,
            base: "/static/".to_owned(),
            hashes: [("/static/a.js".to_owned(), Hash::of(b"1"))].into(),
            wasm_hashes: BTreeSet::new(),
        }
    }

    #[test]
    fn one_that_was_signed_is_read_and_no_other() {
        let identity = Identity::generate(&SystemRandom).unwrap();
        let pin = identity.thumbprint();
        let text = manifest(7).signed(&identity).unwrap();
        assert_eq!(Manifest::open(&text, pin), Ok(manifest(7)));
        let json = r#"{"version":7,"base":"/static/","hashes":{"/static/a.js":"a4ayc_80_OGda4BO_1o_V0etpOqiLx1JwB5S3beHW0s"}}"#;
        assert_eq!(text.lines().next(), Some(json));

        let other = Identity::generate(&SystemRandom).unwrap().thumbprint();
        assert_eq!(Manifest::open(&text, other), Err(Invalid::Signature));
        let changed = text.replace("\"version\":7", "\"version\":8");
        assert_eq!(Manifest::open(&changed, pin), Err(Invalid::Signature));
        for bad in ["", "\n", "{}", text.trim_end()] {
            assert!(Manifest::open(bad, pin).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_was_signed_and_makes_no_sense_is_refused() {
        let identity = Identity::generate(&SystemRandom).unwrap();
        for version in [0, LAST + 1] {
            let text = manifest(version).signed(&identity).unwrap();
            let opened = Manifest::open(&text, identity.thumbprint());
            assert_eq!(opened, Err(Invalid::Form), "{version}");
        }
    }
}
