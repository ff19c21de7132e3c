//! The server's identity key, which clients pin.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use bulla_keys::{Prk, Random, SigningKey, SystemRandom};
use bulla_protocol::base64;
use bulla_protocol::jwk::Thumbprint;
use zeroize::Zeroizing;

use crate::error::ConfigError;
use crate::file::write_private;

/// The server's identity: an ES256 key that signs the answers to openings.
///
/// Clients pin its RFC 7638 thumbprint.
pub struct Identity(SigningKey);

impl Identity {
    /// Makes a new identity that lives as long as the process.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Random`] if it gives no random bytes.
    pub fn generate(random: &dyn Random) -> Result<Self, ConfigError> {
        SigningKey::generate(random)
            .map(Self)
            .map_err(|_| ConfigError::Random)
    }

    /// Loads the identity from a PKCS #8 file in PEM (RFC 7468), or makes one and writes it there,
    /// readable by its owner only.
    ///
    /// # Errors
    ///
    /// [`ConfigError::File`] if the file cannot be read or written, or holds something else;
    /// [`ConfigError::Random`] if the system gives no random bytes.
    pub fn load_or_create(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        Self::load_or_create_with(path, &SystemRandom)
    }

    /// As [`Self::load_or_create`], with randomness that is handed in.
    ///
    /// # Errors
    ///
    /// As [`Self::load_or_create`].
    pub fn load_or_create_with(
        path: impl AsRef<Path>,
        random: &dyn Random,
    ) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        let unusable = ConfigError::of_file(path);
        match fs::read_to_string(path) {
            Ok(text) => Self::from_pem(&Zeroizing::new(text))
                .map_err(|error| unusable(io::Error::new(io::ErrorKind::InvalidData, error))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let identity = Self::generate(random)?;
                let pem = identity.to_pem()?;
                write_private(path, pem.as_bytes()).map_err(unusable)?;
                Ok(identity)
            }
            Err(error) => Err(unusable(error)),
        }
    }

    /// Reads a PKCS #8 key in PEM.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Identity`] if it is no P-256 key, or not written so.
    pub fn from_pem(text: &str) -> Result<Self, ConfigError> {
        let body: Zeroizing<String> = Zeroizing::new(
            text.lines()
                .map(str::trim)
                .filter(|line| !line.starts_with("-----"))
                .collect(),
        );
        let der = base64::decode_standard(body.as_bytes()).ok_or(ConfigError::Identity)?;
        SigningKey::from_pkcs8_der(&Zeroizing::new(der))
            .map(Self)
            .map_err(|_| ConfigError::Identity)
    }

    /// Writes the key as PKCS #8 in PEM.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Identity`] if the key cannot be written.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, ConfigError> {
        let der = self.0.to_pkcs8_der().map_err(|_| ConfigError::Identity)?;
        let body = Zeroizing::new(base64::encode_standard(der.as_slice()));
        let mut pem = Zeroizing::new(String::with_capacity(body.len() + 64));
        pem.push_str("-----BEGIN PRIVATE KEY-----\n");
        for line in body.as_bytes().chunks(64) {
            pem.push_str(&String::from_utf8_lossy(line));
            pem.push('\n');
        }
        pem.push_str("-----END PRIVATE KEY-----\n");
        Ok(pem)
    }

    /// What clients pin.
    pub fn thumbprint(&self) -> Thumbprint {
        self.0.thumbprint()
    }

    pub(crate) fn key(&self) -> &SigningKey {
        &self.0
    }

    /// A secret that all have who have the identity, and that tells nothing of it.
    pub(crate) fn derive(&self, label: &[u8]) -> Result<Zeroizing<[u8; 32]>, ConfigError> {
        let der = self.0.to_pkcs8_der().map_err(|_| ConfigError::Identity)?;
        let mut secret = Zeroizing::new([0; 32]);
        Prk::extract(b"bulla identity", &der).expand(&[label], secret.as_mut());
        Ok(secret)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.thumbprint()).finish()
    }
}

#[cfg(test)]
mod tests {
    use bulla_keys::RandomError;

    use super::*;

    /// Not random at all, or empty.
    struct Fixed(Option<u8>);

    impl Random for Fixed {
        fn fill(&self, out: &mut [u8]) -> Result<(), RandomError> {
            out.fill(self.0.ok_or(RandomError)?);
            Ok(())
        }
    }

    #[test]
    fn is_made_of_the_randomness_that_is_handed_in_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity.pem");
        let load = |byte| Identity::load_or_create_with(&path, &Fixed(byte));
        assert!(matches!(load(None), Err(ConfigError::Random)));
        assert!(!path.exists());
        let made = load(Some(7)).unwrap().thumbprint();
        assert_eq!(
            made,
            Identity::generate(&Fixed(Some(7))).unwrap().thumbprint()
        );
        assert_eq!(load(None).unwrap().thumbprint(), made);
        fs::write(&path, "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n").unwrap();
        let refused = load(None).err().unwrap();
        assert!(matches!(&refused, ConfigError::File { path: of, .. } if *of == path));
        assert!(!format!("{refused:?}").contains("c2VjcmV0"));
    }
}
