//! Records on their way to WebCrypto and back.

use bulla_protocol::seal::{Record, RecordNonce};

use crate::boundary::array;
use crate::error::{Failure, wrong};

/// What tells the records of a message apart: they cross as bytes, one after the other, and each one's nonce after it.
#[derive(Default)]
pub(crate) struct Handed {
    /// The number of the last one, until its nonce is asked for: no other record can be given that one.
    number: Option<u64>,
}

impl Handed {
    /// Takes note of a record, and gives its bytes.
    pub(crate) fn bytes(&mut self, record: Record) -> Vec<u8> {
        self.number = Some(record.number);
        record.bytes
    }

    /// The nonce of the last one, from the 12 bytes that were derived for the message; once.
    pub(crate) fn nonce(&mut self, base: &[u8]) -> Result<Vec<u8>, Failure> {
        let number = self.number.take();
        let number = number.ok_or_else(|| wrong("the record has its nonce already"))?;
        Ok(RecordNonce::new(array(base)?).at(number).to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_record_has_its_nonce_once() {
        let mut handed = Handed::default();
        assert!(handed.nonce(&[9; 12]).is_err());
        for number in [0, 1, 258] {
            let bytes = vec![7; 5];
            assert_eq!(handed.bytes(Record { number, bytes }), [7; 5]);
            let wanted = RecordNonce::new([9; 12]).at(number);
            assert_eq!(handed.nonce(&[9; 12]).unwrap(), wanted);
            assert!(handed.nonce(&[9; 12]).is_err());
        }
        let bytes = vec![7; 5];
        handed.bytes(Record { number: 1, bytes });
        assert!(handed.nonce(&[9; 11]).is_err());
    }
}
