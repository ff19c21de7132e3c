//! Certificates, and how they are changed without anybody noticing.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};

use crate::config::Tls;

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read, or is no PEM.
    #[error("{} cannot be read: {}", .0.display(), said(.1))]
    File(PathBuf, #[source] pem::Error),
    /// There is no certificate in it.
    #[error("{} has no certificate in PEM", .0.display())]
    NoCertificate(PathBuf),
    /// The key is not the certificate's, or one of the two is unusable.
    #[error("{} and {} do not go together: {error}", .tls.certificate.display(), .tls.key.display())]
    Unusable {
        /// The files.
        tls: Tls,
        /// What is wrong with them.
        #[source]
        error: rustls::Error,
    },
}

fn said(error: &pem::Error) -> String {
    match error {
        pem::Error::Io(error) => error.to_string(),
        pem::Error::NoItemsFound => "it has no private key in PEM".to_owned(),
        // What is in the file may be secret.
        _ => "it is no PEM".to_owned(),
    }
}

/// The certificate that new connections see. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Certificate(Arc<RwLock<Arc<ServerConfig>>>);

impl Certificate {
    /// Reads a chain and its key.
    ///
    /// # Errors
    ///
    /// [`TlsError`].
    pub fn load(tls: &Tls) -> Result<Self, TlsError> {
        Ok(Self(Arc::new(RwLock::new(read(tls)?))))
    }

    /// Reads them again, for connections from now on.
    ///
    /// # Errors
    ///
    /// [`TlsError`]; then new connections see the old one.
    pub fn reload(&self, tls: &Tls) -> Result<(), TlsError> {
        let read = read(tls)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = read;
        Ok(())
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        let config = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&config)
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").finish_non_exhaustive()
    }
}

fn read(tls: &Tls) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = certificates(&tls.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&tls.key)
        .map_err(|error| TlsError::File(tls.key.clone(), error))?;
    let unusable = |error| TlsError::Unusable {
        tls: tls.clone(),
        error,
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(unusable)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The certificates of a file, of which there is one at least.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unreadable = |error| TlsError::File(path.to_owned(), error);
    let chain: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(unreadable)?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate(path.to_owned()));
    }
    Ok(chain)
}
