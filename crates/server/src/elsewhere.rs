//! Requests whose content does not come with them: a proxy asks whether they may pass, and has the content itself.

use bulla_protocol::digest::ContentDigest;
use bulla_protocol::error::{Code, Error};

/// Stands in the extensions of a request whose content is with whoever asks about it. All is verified as ever, that the proof
/// covers `content-digest` included; but there is nothing to compare with the digest, so nothing is read, and the inner service
/// gets no content. Sealed requests are their content: they are read, whatever stands here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elsewhere {
    /// There must be none: a request that was signed with any is refused as [`Code::TooLarge`]. Whoever asks must also pass on
    /// none, since somebody on the way may have added some.
    MustBeEmpty,
    /// There may be any, and it may be another than the one that was signed. Whoever has it must compare it with the
    /// `content-digest` of the request before he acts by it.
    DangerouslyUnchecked,
}

impl Elsewhere {
    pub(crate) fn check(self, digest: ContentDigest) -> Result<(), Error> {
        const NONE_TAKEN: Error =
            Code::TooLarge.because("no content is taken here, since it could not be compared");
        match self {
            Self::MustBeEmpty => digest.verify(b"").map_err(|_| NONE_TAKEN),
            Self::DangerouslyUnchecked => Ok(()),
        }
    }
}
