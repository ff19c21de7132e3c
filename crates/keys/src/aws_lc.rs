//! The backend on aws-lc-rs.

use core::fmt;

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, ECDH_P256, PrivateKey, UnparsedPublicKey};
use aws_lc_rs::encoding::{AsBigEndian, EcPrivateKeyBin};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::{self, SecureRandom as _};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    ParsedPublicKey,
};
use bulla_protocol::jwk::{PublicKey, Thumbprint};
use zeroize::Zeroizing;

use crate::{
    BadSignature, KeyError, OpenError, Random, RandomError, SealError, SharedSecret, draw_scalar,
};

/// The system's random bytes, by way of aws-lc.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, out: &mut [u8]) -> Result<(), RandomError> {
        rand::SystemRandom::new().fill(out).map_err(|_| RandomError)
    }
}

/// An ES256 key: ECDSA on P-256 with SHA-256 (RFC 7518 section 3.4).
pub struct SigningKey {
    pair: EcdsaKeyPair,
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
        let scalar = private_key(random)?;
        let public = PublicKey::from_uncompressed(
            scalar.compute_public_key().map_err(|_| KeyError)?.as_ref(),
        )
        .map_err(|_| KeyError)?;
        let bytes: EcPrivateKeyBin<'_> = scalar.as_be_bytes().map_err(|_| KeyError)?;
        let pair = EcdsaKeyPair::from_private_key_and_public_key(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            bytes.as_ref(),
            public.as_uncompressed(),
        )
        .map_err(|_| KeyError)?;
        Self::new(pair)
    }

    /// Reads a PKCS #8 key (RFC 5958), DER.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if it is no key on P-256, or not written so.
    pub fn from_pkcs8_der(der: &[u8]) -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der);
        Self::new(pair.map_err(|_| KeyError)?)
    }

    /// Writes the key as PKCS #8, DER.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if the key cannot be written.
    pub fn to_pkcs8_der(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let der = self.pair.to_pkcs8v1().map_err(|_| KeyError)?;
        Ok(Zeroizing::new(der.as_ref().to_vec()))
    }

    /// The public key.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The public key's RFC 7638 thumbprint.
    pub fn thumbprint(&self) -> Thumbprint {
        self.thumbprint
    }

    /// Signs; the signature is `r || s`.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if the backend cannot sign: it draws random bytes of its own for it.
    pub fn sign(&self, message: &[u8]) -> Result<[u8; 64], KeyError> {
        let signature = self
            .pair
            .sign(&rand::SystemRandom::new(), message)
            .map_err(|_| KeyError)?;
        signature.as_ref().try_into().map_err(|_| KeyError)
    }

    fn new(pair: EcdsaKeyPair) -> Result<Self, KeyError> {
        let point = pair.public_key().as_ref();
        let public = PublicKey::from_uncompressed(point).map_err(|_| KeyError)?;
        Ok(Self {
            pair,
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
pub struct VerifyingKey(ParsedPublicKey);

impl VerifyingKey {
    /// Takes a point.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if the backend does not take the point.
    pub fn new(key: &PublicKey) -> Result<Self, KeyError> {
        let parsed = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.as_uncompressed());
        parsed.map(Self).map_err(|_| KeyError)
    }

    /// Verifies an ES256 signature, `r || s`.
    ///
    /// # Errors
    ///
    /// [`BadSignature`] if it does not hold, or has another length than 64 bytes.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        let verified = self.0.verify_sig(message, signature);
        verified.map_err(|_| BadSignature)
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
    private: PrivateKey,
    public: PublicKey,
}

impl AgreementKey {
    /// Makes a key.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if there are no random bytes, or none that make a key.
    pub fn generate(random: &dyn Random) -> Result<Self, KeyError> {
        let private = private_key(random)?;
        let point = private.compute_public_key().map_err(|_| KeyError)?;
        let public = PublicKey::from_uncompressed(point.as_ref()).map_err(|_| KeyError)?;
        Ok(Self { private, public })
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
        let peer = UnparsedPublicKey::new(&ECDH_P256, peer.as_uncompressed());
        agreement::agree(&self.private, peer, KeyError, |secret| {
            secret.try_into().map(SharedSecret).map_err(|_| KeyError)
        })
    }
}

impl fmt::Debug for AgreementKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AgreementKey({:?})", self.public)
    }
}

/// An HMAC-SHA256 key.
pub struct MacKey(hmac::Key);

impl MacKey {
    /// Takes 256 bits.
    pub fn new(key: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// The MAC of a message.
    pub fn sign(&self, message: &[u8]) -> [u8; 32] {
        bytes_of(&hmac::sign(&self.0, message))
    }

    /// Compares in constant time.
    ///
    /// # Errors
    ///
    /// [`BadSignature`] if it does not hold, or has another length than 32 bytes.
    pub fn verify(&self, message: &[u8], mac: &[u8]) -> Result<(), BadSignature> {
        hmac::verify(&self.0, message, mac).map_err(|_| BadSignature)
    }
}

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MacKey(..)")
    }
}

/// A pseudorandom key of HKDF-SHA256 (RFC 5869).
pub struct Prk(hmac::Key);

impl Prk {
    /// HKDF-Extract (section 2.2).
    pub fn extract(salt: &[u8], ikm: &[u8]) -> Self {
        let prk = Zeroizing::new(bytes_of(&hmac::sign(
            &hmac::Key::new(hmac::HMAC_SHA256, salt),
            ikm,
        )));
        Self::from_uniform(&prk)
    }

    /// Takes a key that is uniformly random already (section 3.3).
    pub fn from_uniform(key: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// HKDF-Expand (section 2.3), over the parts of `info` one after the other. `out` is at most
    /// 255 * 32 bytes long; what lies beyond is left as it was.
    pub fn expand(&self, info: &[&[u8]], out: &mut [u8]) {
        let mut block = Zeroizing::new([0; 32]);
        for (counter, chunk) in (1..=u8::MAX).zip(out.chunks_mut(32)) {
            let mut context = hmac::Context::with_key(&self.0);
            if counter > 1 {
                context.update(block.as_slice());
            }
            for part in info {
                context.update(part);
            }
            context.update(&[counter]);
            *block = bytes_of(&context.sign());
            chunk.copy_from_slice(&block[..chunk.len()]);
        }
    }
}

impl fmt::Debug for Prk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prk(..)")
    }
}

macro_rules! aes_gcm {
    ($(#[$doc:meta])* $name:ident, $algorithm:ident, $len:literal) => {
        $(#[$doc])*
        pub struct $name(Option<LessSafeKey>);

        impl $name {
            /// Takes the key's bytes.
            pub fn new(key: &[u8; $len]) -> Self {
                Self(UnboundKey::new(&$algorithm, key).ok().map(LessSafeKey::new))
            }

            /// Encrypts the whole buffer and appends the 16-byte tag. A nonce must never be used twice
            /// with one key.
            pub fn seal_in_place(
                &self,
                nonce: [u8; 12],
                aad: &[u8],
                buffer: &mut Vec<u8>,
            ) -> Result<(), SealError> {
                let key = self.0.as_ref().ok_or(SealError)?;
                key.seal_in_place_append_tag(
                    Nonce::assume_unique_for_key(nonce),
                    Aad::from(aad),
                    buffer,
                )
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
                let key = self.0.as_ref().ok_or(SealError)?;
                let (sealed, rest) = out.split_at_mut_checked(text.len()).ok_or(SealError)?;
                let nonce = Nonce::assume_unique_for_key(nonce);
                key.seal_out_of_place_scatter(nonce, Aad::from(aad), text, sealed, end, rest)
                    .map_err(|_| SealError)
            }

            /// Decrypts in place and returns the text without its tag.
            pub fn open_in_place<'b>(
                &self,
                nonce: [u8; 12],
                aad: &[u8],
                buffer: &'b mut [u8],
            ) -> Result<&'b mut [u8], OpenError> {
                let key = self.0.as_ref().ok_or(OpenError)?;
                key.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(aad), buffer)
                    .map_err(|_| OpenError)
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
    Aes128Gcm, AES_128_GCM, 16
);
aes_gcm!(
    /// AES-256-GCM.
    Aes256Gcm, AES_256_GCM, 32
);

fn private_key(random: &dyn Random) -> Result<PrivateKey, KeyError> {
    draw_scalar(random, |candidate| {
        PrivateKey::from_private_key(&ECDH_P256, candidate).ok()
    })
}

fn bytes_of(tag: &hmac::Tag) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(tag.as_ref());
    bytes
}
