//! Certificates for `localhost`, vouched for by an authority of the test's own.

use std::io;

use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair};

/// A certificate for `localhost`, its key, and who vouches for it.
pub struct Vouched {
    /// The certificate.
    pub certificate: Certificate,
    /// Its key.
    pub key: KeyPair,
    /// The authority's certificate, in PEM.
    pub authority: String,
}

impl Vouched {
    /// Makes all of it anew.
    ///
    /// # Errors
    ///
    /// If there is no randomness.
    pub fn new() -> Result<Self, rcgen::Error> {
        let mut authority = CertificateParams::new(Vec::new())?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate()?;
        let pem = authority.self_signed(&authority_key)?.pem();
        let issuer = Issuer::new(authority, authority_key);
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(vec!["localhost".to_owned()])?;
        Ok(Self {
            certificate: certificate.signed_by(&key, &issuer)?,
            key,
            authority: pem,
        })
    }
}

/// An HTTP client that trusts this authority alone, in PEM, and follows no redirects.
///
/// # Errors
///
/// If the certificate or the client cannot be made.
pub fn trusting_client(authority: &str) -> io::Result<reqwest::Client> {
    let authority =
        reqwest::Certificate::from_pem(authority.as_bytes()).map_err(io::Error::other)?;
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .tls_certs_only([authority])
        .build()
        .map_err(io::Error::other)
}
