//! What the server seals for itself and hands out: tickets, bound cookies and bound tokens.
//!
//! Version, ring key id and salt, then AES-256-GCM. Key and nonce are derived from the ring with the
//! salt, since random nonces under one key run out.

use bulla_keys::{Aes256Gcm, Random};
use zeroize::Zeroizing;

use crate::ring::{Purpose, Ring, RingKey};

const VERSION: u8 = 1;
pub(crate) const SALT_LEN: usize = 16;
const HEADER_LEN: usize = 2 + SALT_LEN;

/// How much longer a sealed text is, in bytes.
pub(crate) const OVERHEAD: usize = HEADER_LEN + 16;

/// Where the salt stands.
pub(crate) const SALT_AT: std::ops::Range<usize> = 2..HEADER_LEN;

/// No random bytes could be had, or the text is too long.
pub(crate) struct VaultError;

/// Seals a text for one context: the text opens for no other one.
pub(crate) fn seal(
    key: &RingKey,
    purpose: Purpose,
    context: &[&[u8]],
    plain: &[u8],
    random: &dyn Random,
) -> Result<Vec<u8>, VaultError> {
    let mut header = [0; HEADER_LEN];
    header[..2].copy_from_slice(&[VERSION, key.id]);
    random.fill(&mut header[SALT_AT]).map_err(|_| VaultError)?;
    let (cipher, nonce) = cipher(key, purpose, &header[SALT_AT]);
    // Room for the tag, so that no copy of the text is left behind by a reallocation.
    let mut text = Vec::with_capacity(plain.len() + 16);
    text.extend_from_slice(plain);
    cipher
        .seal_in_place(nonce, &associated_data(key.id, context), &mut text)
        .map_err(|_| VaultError)?;
    Ok([&header[..], &text].concat())
}

/// The name of the ring's key that a text says it is sealed under.
pub(crate) fn key_of(sealed: &[u8]) -> Option<u8> {
    let &[version, id, ..] = sealed else {
        return None;
    };
    (version == VERSION).then_some(id)
}

/// Opens what was sealed for this purpose and this context. `None`, whatever is wrong with it.
pub(crate) fn open(
    ring: &Ring,
    purpose: Purpose,
    context: &[&[u8]],
    sealed: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let (header, text) = sealed.split_first_chunk::<HEADER_LEN>()?;
    let key = ring.by_id(key_of(header)?)?;
    let (cipher, nonce) = cipher(&key, purpose, &header[SALT_AT]);
    let mut text = Zeroizing::new(text.to_vec());
    let len = cipher
        .open_in_place(nonce, &associated_data(key.id, context), &mut text)
        .ok()?
        .len();
    text.truncate(len);
    Some(text)
}

fn cipher(key: &RingKey, purpose: Purpose, salt: &[u8]) -> (Aes256Gcm, [u8; 12]) {
    let mut derived = Zeroizing::new([0; 44]);
    key.derive(purpose, salt, derived.as_mut());
    let (mut secret, mut nonce) = (Zeroizing::new([0; 32]), [0; 12]);
    secret.copy_from_slice(&derived[..32]);
    nonce.copy_from_slice(&derived[32..]);
    (Aes256Gcm::new(&secret), nonce)
}

fn associated_data(key_id: u8, context: &[&[u8]]) -> Vec<u8> {
    let mut data = vec![VERSION, key_id];
    for part in context {
        data.extend_from_slice(part);
    }
    data
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bulla_keys::SystemRandom;

    use super::*;

    /// Who can choose what is in a cookie makes no ticket.
    #[test]
    fn what_is_sealed_opens_for_its_purpose_and_its_context_only() {
        let ring = Ring::ephemeral();
        ring.begin(0, Duration::from_mins(1), &SystemRandom)
            .unwrap();
        let (key, context) = (ring.current(0).unwrap(), [&b"a"[..], b"b"]);
        let sealed = seal(&key, Purpose::Cookie, &context, b"text", &SystemRandom);
        let sealed = sealed.ok().unwrap();
        let opened = |purpose, context: &[&[u8]], sealed: &[u8]| {
            open(&ring, purpose, context, sealed).map(|text| text.to_vec())
        };
        let text = opened(Purpose::Cookie, &context, &sealed);
        assert_eq!(text.as_deref(), Some(&b"text"[..]));
        for other in [Purpose::Ticket, Purpose::Token] {
            assert_eq!(opened(other, &context, &sealed), None);
        }
        for other in [&[&b"a"[..]][..], &[b"b", b"a"], &[]] {
            assert_eq!(opened(Purpose::Cookie, other, &sealed), None);
        }
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(opened(Purpose::Cookie, &context, &changed), None, "{at}");
            assert_eq!(
                opened(Purpose::Cookie, &context, &sealed[..at]),
                None,
                "{at}"
            );
        }
    }
}
