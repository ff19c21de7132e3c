//! The bare operations of aws-lc-rs.

use std::hint::black_box;
use std::time::Instant;

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    UnparsedPublicKey,
};

use crate::Outcome;
use crate::measure::Probe;

/// One ES256 signature over 512 bytes, about as long as the signature base of a request, by a key in
/// the form in which it travels.
pub(crate) fn es256_verify() -> Outcome<Probe> {
    const MESSAGE: [u8; 512] = [7; 512];
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
    let public = pair.public_key().as_ref().to_vec();
    Ok(Probe::new("raw/es256-verify", 8, move |operations| {
        let random = SystemRandom::new();
        let signatures: Result<Vec<_>, _> = (0..operations)
            .map(|_| pair.sign(&random, &MESSAGE))
            .collect();
        let signatures = signatures?;
        let start = Instant::now();
        for signature in &signatures {
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, black_box(&public))
                .verify(&MESSAGE, signature.as_ref())?;
        }
        Ok(start.elapsed())
    }))
}

/// 1 MiB encrypted in place, by a key that is set up already.
pub(crate) fn aes128gcm() -> Outcome<Probe> {
    const LEN: usize = 1 << 20;
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &[1; 16])?);
    let mut buffer = Vec::with_capacity(LEN + AES_128_GCM.tag_len());
    let mut number = 0_u64;
    Ok(Probe::new("raw/aes128gcm-1MiB", 2, move |operations| {
        buffer.resize(LEN, 0);
        let start = Instant::now();
        for _ in 0..operations {
            buffer.truncate(LEN);
            number += 1;
            let mut nonce = [0; 12];
            nonce[4..].copy_from_slice(&number.to_be_bytes());
            let nonce = Nonce::assume_unique_for_key(nonce);
            key.seal_in_place_append_tag(nonce, Aad::empty(), &mut buffer)?;
            black_box(&buffer);
        }
        Ok(start.elapsed())
    }))
}
