//! What crosses between the scripts and the rules in another shape than either has it: fields as one flat
//! list, times as floats, kinds as booleans.

use core::time::Duration;

use bulla_protocol::proof::ProofKind;

use crate::error::{Failure, wrong};

/// Names and values in turn, as fields.
pub(crate) fn pairs(flat: Vec<String>) -> Vec<(String, String)> {
    let mut flat = flat.into_iter();
    core::iter::from_fn(|| Some((flat.next()?, flat.next()?))).collect()
}

/// Fields, as names and values in turn.
pub(crate) fn flat(fields: Vec<(String, String)>) -> Vec<String> {
    fields.into_iter().flat_map(<[_; 2]>::from).collect()
}

pub(crate) fn proof_kind(session_proof: bool) -> ProofKind {
    if session_proof {
        ProofKind::Session
    } else {
        ProofKind::Device
    }
}

/// Seconds since 1970.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float to integer cast saturates"
)]
pub(crate) fn seconds(created: f64) -> u64 {
    created as u64
}

/// A span of time that the scripts tell in seconds: whole ones, which is all that the rules count in.
pub(crate) fn duration(span: f64) -> Duration {
    Duration::from_secs(seconds(span))
}

/// Bytes that are so many by what they are.
pub(crate) fn array<const LEN: usize>(bytes: &[u8]) -> Result<[u8; LEN], Failure> {
    bytes
        .try_into()
        .map_err(|_| wrong("bytes of another length were expected"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_cross_flat() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let fields = vec![pair("a", "1"), pair("b", "2")];
        assert_eq!(flat(fields.clone()), ["a", "1", "b", "2"]);
        assert_eq!(pairs(flat(fields.clone())), fields);
    }

    #[test]
    fn times_that_are_none_are_zero() {
        for seconds in [f64::NAN, -1.0] {
            assert_eq!(duration(seconds), Duration::ZERO);
        }
        assert_eq!(duration(1.5), Duration::from_secs(1));
    }
}
