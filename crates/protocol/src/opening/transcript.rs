//! What both sides have agreed on, in one hash.

use sha2::{Digest, Sha256};

use super::{Agreements, SessionId};
use crate::jwk::Thumbprint;

const TRANSCRIPT_LABEL: &[u8] = b"bulla session v1\0";

/// The hash of everything that an opening agreed on. Both sides compute it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transcript(pub [u8; 32]);

impl Transcript {
    /// SHA-256 over a label, the length and text of the opening's signature base, the server's
    /// agreement keys (uncompressed), the identity thumbprint and the server's random value.
    pub fn new(
        open_base: &str,
        agreement: &Agreements,
        identity: &Thumbprint,
        random: &[u8; 32],
    ) -> Self {
        let mut hash = Sha256::new();
        hash.update(TRANSCRIPT_LABEL);
        hash.update((open_base.len() as u64).to_be_bytes());
        hash.update(open_base);
        for key in [&agreement.request, &agreement.response, &agreement.mac] {
            hash.update(key.as_uncompressed());
        }
        hash.update(identity.0);
        hash.update(random);
        Self(hash.finalize().into())
    }

    /// The session's name.
    pub fn session_id(&self) -> SessionId {
        let mut id = [0; 16];
        id.copy_from_slice(&self.0[..16]);
        SessionId(id)
    }
}
