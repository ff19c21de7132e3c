//! Records on their way to WebCrypto and back.

use bulla_protocol::seal::{Record, RecordNonce};

use crate::boundary::array;
use crate::error::Failure;

/// A record as it crosses: its bytes, and behind them its nonce, so that no other record can be given that one. `base` are
/// the 12 bytes that were derived for the message.
pub(crate) fn handed(record: Option<Record>, base: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
    let Some(Record { number, mut bytes }) = record else {
        return Ok(None);
    };
    bytes.extend_from_slice(&RecordNonce::new(array(base)?).at(number));
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_record_comes_with_its_nonce() {
        let record = |number| {
            let bytes = vec![7; 5];
            Some(Record { number, bytes })
        };
        for number in [0, 1, 258] {
            let wanted = RecordNonce::new([9; 12]).at(number);
            let wanted = [&[7; 5][..], &wanted].concat();
            assert_eq!(handed(record(number), &[9; 12]).unwrap(), Some(wanted));
        }
        assert_eq!(handed(None, &[9; 12]).unwrap(), None);
        assert!(handed(record(1), &[9; 11]).is_err());
    }
}
