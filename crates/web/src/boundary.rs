//! What crosses between the scripts and the rules in another shape than either has it: fields as one text, since each
//! text costs a call, times as floats, kinds as booleans.

use core::time::Duration;

use bulla_protocol::proof::ProofKind;

use crate::error::{Failure, wrong};

/// Stands between names and values, in none of which it can be (RFC 9110 section 5.5).
const BETWEEN: char = '\n';

/// Lines, which are names and values in turn, as fields.
pub(crate) fn pairs(lines: &str) -> Vec<(String, String)> {
    let mut lines = lines.split(BETWEEN).map(str::to_owned);
    core::iter::from_fn(|| Some((lines.next()?, lines.next()?))).collect()
}

/// Fields, as lines: names and values in turn.
pub(crate) fn lines<'a>(fields: impl Iterator<Item = &'a (String, String)>) -> String {
    let mut lines = String::new();
    for text in fields.flat_map(|(name, value)| [name, value]) {
        if !lines.is_empty() {
            lines.push(BETWEEN);
        }
        lines.push_str(text);
    }
    lines
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
    fn fields_cross_as_lines() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let fields = [pair("a", "1"), pair("b", "2"), pair("c", "")];
        assert_eq!(lines(fields.iter()), "a\n1\nb\n2\nc\n");
        for some in [&fields[..], &fields[..1], &fields[2..], &[]] {
            assert_eq!(pairs(&lines(some.iter())), some);
        }
    }

    #[test]
    fn times_that_are_none_are_zero() {
        for seconds in [f64::NAN, -1.0] {
            assert_eq!(duration(seconds), Duration::ZERO);
        }
        assert_eq!(duration(1.5), Duration::from_secs(1));
    }
}
