//! The backend in pure Rust, on the RustCrypto crates.

use core::fmt;

use aes_gcm::aead::{AeadInOut as _, KeyInit as _};
use bulla_protocol::jwk::{PublicKey, Thumbprint};
use hkdf::{Hkdf, HmacImpl};
use hmac::{Hmac, Mac as _};
use p256::SecretKey;
use p256::ecdsa::signature::{Signer as _, Verifier as _};
use p256::ecdsa::{self, Signature, SigningKey as EcdsaKey};
use p256::elliptic_curve::ecdh::diffie_hellman;
use p256::elliptic_curve::sec1::ToSec1Point as _;
use p256::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _};
use sha2::Sha256;
use zeroize::{Zeroize as _, Zeroizing};

use crate::{BadSignature, KeyError, OpenError, Random, SealError, SharedSecret, draw_scalar};

/// The system's random bytes, by way of getrandom. A bare Wasm module has no system to ask, so
/// there the caller brings a [`Random`] of his own.
#[cfg(not(all(target_family = "wasm", any(target_os = "unknown", target_os = "none"))))]
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

#[cfg(not(all(target_family = "wasm", any(target_os = "unknown", target_os = "none"))))]
impl Random for SystemRandom {
    fn fill(&self, out: &mut [u8]) -> Result<(), crate::RandomError> {
        getrandom::fill(out).map_err(|_| crate::RandomError)
    }
}

/// An ES256 key: ECDSA on P-256 with SHA-256 (RFC 7518 section 3.4).
pub struct SigningKey {
    key: EcdsaKey,
    public: PublicKey,
    thumbprint: Thumbprint,
}

impl SigningKey {
    /// Makes a key.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if there are no random bytes, or none that make a key.
    pub fn generate(random: &dyn Random) -> Result<Self, KeyError> {
        Self::new(&secret_key(random)?)
    }

    /// Reads a PKCS #8 key (RFC 5958), DER.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if it is no key on P-256, or not written so.
    pub fn from_pkcs8_der(der: &[u8]) -> Result<Self, KeyError> {
        Self::new(&SecretKey::from_pkcs8_der(der).map_err(|_| KeyError)?)
    }

    /// Writes the key as PKCS #8, DER.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if the key cannot be written.
    pub fn to_pkcs8_der(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let der = self.key.to_pkcs8_der().map_err(|_| KeyError)?;
        Ok(der.to_bytes())
    }

    /// The public key.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The public key's RFC 7638 thumbprint.
    pub fn thumbprint(&self) -> Thumbprint {
        self.thumbprint
    }

    /// Signs; the signature is `r || s`, and always the same for one message (RFC 6979).
    ///
    /// # Errors
    ///
    /// [`KeyError`] if the backend cannot sign.
    pub fn sign(&self, message: &[u8]) -> Result<[u8; 64], KeyError> {
        let signature: Signature = self.key.try_sign(message).map_err(|_| KeyError)?;
        Ok(signature.to_bytes().into())
    }

    fn new(secret: &SecretKey) -> Result<Self, KeyError> {
        let public = public_key(secret)?;
        Ok(Self {
            key: secret.into(),
            public,
            thumbprint: public.thumbprint(),
        })
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.thumbprint)
    }
}

/// A public key that is made ready once to verify many signatures.
#[derive(Debug)]
pub struct VerifyingKey(ecdsa::VerifyingKey);

impl VerifyingKey {
    /// Takes a point.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if the backend does not take the point.
    pub fn new(key: &PublicKey) -> Result<Self, KeyError> {
        let parsed = ecdsa::VerifyingKey::from_sec1_bytes(key.as_uncompressed());
        parsed.map(Self).map_err(|_| KeyError)
    }

    /// Verifies an ES256 signature, `r || s`.
    ///
    /// # Errors
    ///
    /// [`BadSignature`] if it does not hold, or has another length than 64 bytes.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        Signature::from_slice(signature)
            .and_then(|signature| self.0.verify(message, &signature))
            .map_err(|_| BadSignature)
    }
}

/// Verifies one ES256 signature, `r || s`.
///
/// # Errors
///
/// [`BadSignature`], as [`VerifyingKey::verify`].
pub fn verify(key: &PublicKey, message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
    let key = VerifyingKey::new(key).map_err(|_| BadSignature)?;
    key.verify(message, signature)
}

/// An ephemeral ECDH key on P-256.
pub struct AgreementKey {
    secret: SecretKey,
    public: PublicKey,
}

impl AgreementKey {
    /// Makes a key.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if there are no random bytes, or none that make a key.
    pub fn generate(random: &dyn Random) -> Result<Self, KeyError> {
        let secret = secret_key(random)?;
        let public = public_key(&secret)?;
        Ok(Self { secret, public })
    }

    /// The public key.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The secret shared with the holder of `peer`.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if the backend does not take the point.
    pub fn agree(&self, peer: &PublicKey) -> Result<SharedSecret, KeyError> {
        let peer = p256::PublicKey::from_sec1_bytes(peer.as_uncompressed());
        let peer = peer.map_err(|_| KeyError)?;
        let secret = diffie_hellman(self.secret.to_nonzero_scalar(), peer.as_affine());
        Ok(SharedSecret((*secret.raw_secret_bytes()).into()))
    }
}

impl fmt::Debug for AgreementKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AgreementKey({:?})", self.public)
    }
}

/// An HMAC-SHA256 key.
pub struct MacKey(Hmac<Sha256>);

impl MacKey {
    /// Takes 256 bits.
    pub fn new(key: &[u8; 32]) -> Self {
        Self(HmacImpl::new_from_slice(key))
    }

    /// The MAC of a message.
    pub fn sign(&self, message: &[u8]) -> [u8; 32] {
        let mut mac = self.0.clone();
        hmac::Mac::update(&mut mac, message);
        hmac::Mac::finalize(mac).into_bytes().into()
    }

    /// Compares in constant time.
    ///
    /// # Errors
    ///
    /// [`BadSignature`] if it does not hold, or has another length than 32 bytes.
    pub fn verify(&self, message: &[u8], mac: &[u8]) -> Result<(), BadSignature> {
        let expected = self.0.clone().chain_update(message);
        expected.verify_slice(mac).map_err(|_| BadSignature)
    }
}

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MacKey(..)")
    }
}

/// A pseudorandom key of HKDF-SHA256 (RFC 5869).
pub struct Prk(Hkdf<Sha256>);

impl Prk {
    /// HKDF-Extract (section 2.2).
    pub fn extract(salt: &[u8], ikm: &[u8]) -> Self {
        let (mut prk, hkdf) = Hkdf::extract(Some(salt), ikm);
        prk.as_mut_slice().zeroize();
        Self(hkdf)
    }

    /// Takes a key that is uniformly random already (section 3.3).
    #[allow(clippy::missing_panics_doc, reason = "32 bytes are long enough")]
    pub fn from_uniform(key: &[u8; 32]) -> Self {
        Self(Hkdf::from_prk(key).expect("a key as long as the hash"))
    }

    /// HKDF-Expand (section 2.3), over the parts of `info` one after the other. `out` is at most
    /// 255 * 32 bytes long; what lies beyond is left as it was.
    #[allow(
        clippy::missing_panics_doc,
        reason = "the length is cut to what is allowed"
    )]
    pub fn expand(&self, info: &[&[u8]], out: &mut [u8]) {
        let len = out.len().min(255 * 32);
        self.0
            .expand_multi_info(info, &mut out[..len])
            .expect("a length that is allowed");
    }
}

impl fmt::Debug for Prk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prk(..)")
    }
}

macro_rules! aes_gcm {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        pub struct $name(aes_gcm::$name);

        impl $name {
            /// Takes the key's bytes.
            pub fn new(key: &[u8; $len]) -> Self {
                Self(aes_gcm::$name::new(key.into()))
            }

            /// Encrypts the whole buffer and appends the 16-byte tag. A nonce must never be used twice
            /// with one key.
            pub fn seal_in_place(
                &self,
                nonce: [u8; 12],
                aad: &[u8],
                buffer: &mut Vec<u8>,
            ) -> Result<(), SealError> {
                self.0
                    .encrypt_in_place(&nonce.into(), aad, buffer)
                    .map_err(|_| SealError)
            }

            /// Encrypts `text`, then `end`, into `out`, which is as long as both and the 16-byte tag
            /// together. A nonce must never be used twice with one key.
            pub fn seal_into(
                &self,
                nonce: [u8; 12],
                aad: &[u8],
                text: &[u8],
                end: &[u8],
                out: &mut [u8],
            ) -> Result<(), SealError> {
                let (sealed, tag) = out.split_last_chunk_mut::<16>().ok_or(SealError)?;
                let (head, tail) = sealed.split_at_mut_checked(text.len()).ok_or(SealError)?;
                if tail.len() != end.len() {
                    return Err(SealError);
                }
                head.copy_from_slice(text);
                tail.copy_from_slice(end);
                let made = self
                    .0
                    .encrypt_inout_detached(&nonce.into(), aad, sealed.into())
                    .map_err(|_| SealError)?;
                *tag = made.into();
                Ok(())
            }

            /// Decrypts in place and returns the text without its tag.
            pub fn open_in_place<'b>(
                &self,
                nonce: [u8; 12],
                aad: &[u8],
                buffer: &'b mut [u8],
            ) -> Result<&'b mut [u8], OpenError> {
                let (text, tag) = buffer.split_last_chunk_mut::<16>().ok_or(OpenError)?;
                self.0
                    .decrypt_inout_detached(&nonce.into(), aad, (&mut *text).into(), (&*tag).into())
                    .map_err(|_| OpenError)?;
                Ok(text)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    };
}

aes_gcm!(
    /// AES-128-GCM.
    Aes128Gcm, 16
);
aes_gcm!(
    /// AES-256-GCM.
    Aes256Gcm, 32
);

fn secret_key(random: &dyn Random) -> Result<SecretKey, KeyError> {
    draw_scalar(random, |candidate| SecretKey::from_slice(candidate).ok())
}

fn public_key(secret: &SecretKey) -> Result<PublicKey, KeyError> {
    let point = secret.public_key().to_sec1_point(false);
    PublicKey::from_uncompressed(point.as_bytes()).map_err(|_| KeyError)
}
