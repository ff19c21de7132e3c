//! The `aes128gcm` content coding of RFC 8188 with a software key.

use bulla_protocol::error::{Code, Error};
use bulla_protocol::seal::{
    CEK_INFO, Header, Joiner, NONCE_INFO, Piece, Record, RecordNonce, TAG_LEN, pieces, sealed_len,
};
use zeroize::Zeroizing;

use crate::{Aes128Gcm, Prk};

/// The key of one message, and its base nonce.
pub struct MessageKey {
    cipher: Aes128Gcm,
    nonce: RecordNonce,
}

impl MessageKey {
    /// Derives both from the direction's key and the message's salt (RFC 8188 section 2.2 and 2.3).
    pub fn derive(ikm: &[u8; 32], salt: &[u8; 16]) -> Self {
        Self::expand(&Prk::extract(salt, ikm))
    }

    fn expand(prk: &Prk) -> Self {
        let (mut key, mut nonce) = (Zeroizing::new([0; 16]), [0; 12]);
        prk.expand(&[CEK_INFO], key.as_mut());
        prk.expand(&[NONCE_INFO], &mut nonce);
        Self {
            cipher: Aes128Gcm::new(&key),
            nonce: RecordNonce::new(nonce),
        }
    }

    /// Encrypts a record.
    ///
    /// # Errors
    ///
    /// [`Code::TooLarge`] if the record is too long for the cipher; none that a `Splitter` makes is.
    pub fn seal(&self, mut record: Record) -> Result<Vec<u8>, Error> {
        let nonce = self.nonce.at(record.number);
        self.cipher.seal_in_place(nonce, &[], &mut record.bytes)?;
        Ok(record.bytes)
    }

    /// Encrypts a record from where its data lie, behind what `sealed` holds.
    ///
    /// # Errors
    ///
    /// As [`Self::seal`]. What `sealed` held is as it was; what follows is worth nothing.
    pub fn seal_piece(&self, piece: Piece<'_>, sealed: &mut Vec<u8>) -> Result<(), Error> {
        let (at, nonce) = (sealed.len(), self.nonce.at(piece.number));
        sealed.resize(at + piece.data.len() + 1 + TAG_LEN, 0);
        let (data, end) = (piece.data, &[piece.delimiter]);
        self.cipher
            .seal_into(nonce, &[], data, end, &mut sealed[at..])?;
        Ok(())
    }

    /// Decrypts a record. What comes out still has its delimiter and padding.
    ///
    /// # Errors
    ///
    /// [`Code::SealBroken`] if the tag does not hold.
    pub fn open(&self, mut record: Record) -> Result<Vec<u8>, Error> {
        let nonce = self.nonce.at(record.number);
        let len = self
            .cipher
            .open_in_place(nonce, &[], &mut record.bytes)?
            .len();
        record.bytes.truncate(len);
        Ok(record.bytes)
    }
}

/// Opens the records of one message as they come.
pub struct Opener {
    key: MessageKey,
    joiner: Joiner,
}

impl Opener {
    /// For a message with this header.
    pub fn new(ikm: &[u8; 32], header: &Header) -> Self {
        Self {
            key: MessageKey::derive(ikm, &header.salt),
            joiner: Joiner::new(header.record_size),
        }
    }

    /// Adds cipher text and returns the plain text of the records that are complete.
    ///
    /// # Errors
    ///
    /// [`Code::SealBroken`] if a record does not open, stands at another place, or follows the final one.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<u8>, Error> {
        let records = self.joiner.push(bytes)?;
        self.open(records)
    }

    /// The cipher text is at its end: returns the last of the plain text.
    ///
    /// # Errors
    ///
    /// [`Code::SealBroken`] too if the final record is missing.
    pub fn finish(&mut self) -> Result<Vec<u8>, Error> {
        let last = self.joiner.finish()?;
        let plain = self.open(last)?;
        if !self.joiner.is_complete() {
            return Err(Code::SealBroken.because("the message ends before its final record"));
        }
        Ok(plain)
    }

    fn open(&mut self, records: impl IntoIterator<Item = Record>) -> Result<Vec<u8>, Error> {
        let mut plain = Vec::new();
        for record in records {
            let mut opened = self.key.open(record)?;
            self.joiner.opened(&mut opened)?;
            if plain.is_empty() {
                plain = opened;
            } else {
                plain.append(&mut opened);
            }
        }
        Ok(plain)
    }
}

/// Seals a whole plain text: header and records.
///
/// # Errors
///
/// As [`MessageKey::seal`].
pub fn seal_whole(ikm: &[u8; 32], header: &Header, plain: &[u8]) -> Result<Vec<u8>, Error> {
    let key = MessageKey::derive(ikm, &header.salt);
    let mut sealed = header.encode();
    sealed.reserve_exact(sealed_len(plain.len(), header.record_size));
    for piece in pieces(plain, header.record_size) {
        key.seal_piece(piece, &mut sealed)?;
    }
    Ok(sealed)
}

/// Opens a whole body; `records` is what follows its header.
///
/// # Errors
///
/// As [`Opener::push`] and [`Opener::finish`].
pub fn open_whole(ikm: &[u8; 32], header: &Header, records: &[u8]) -> Result<Vec<u8>, Error> {
    let mut opener = Opener::new(ikm, header);
    let mut plain = opener.push(records)?;
    plain.append(&mut opener.finish()?);
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use bulla_protocol::base64;

    use super::*;

    #[test]
    fn opens_the_examples_of_rfc_8188() {
        for (ikm, body) in [
            // Section 3.1
            (
                "yqdlZ-tYemfogSmv7Ws5PQ",
                "I1BsxtFttlv3u_Oo94xnmwAAEAAA-NAVub2qFgBEuQKRapoZu-IxkIva3MEB1PD-ly8Thjg",
            ),
            // Section 3.2
            (
                "BO3ZVPxUlnLORbVGMpbT1Q",
                "uNCkWiNYzKTnBN9ji3-qWAAAABkCYTHOG8chz_gnvgOqdGYovxyjuqRyJFjEDyoF1Fvkj6hQPdPHI51OEUKEpgz3SsLWIqS_uA",
            ),
        ] {
            let body = base64::decode(body).unwrap();
            let (header, records) = Header::parse(&body).unwrap().unwrap();
            let prk = Prk::extract(&header.salt, &base64::decode(ikm).unwrap());
            // The examples' keys are shorter than Bulla's.
            let key = MessageKey::expand(&prk);
            let mut joiner = Joiner::new(header.record_size);
            let mut found = joiner.push(records).unwrap();
            found.extend(joiner.finish().unwrap());
            let mut plain = Vec::new();
            for record in found {
                let mut opened = key.open(record).unwrap();
                joiner.opened(&mut opened).unwrap();
                plain.extend(opened);
            }
            assert!(joiner.is_complete());
            assert_eq!(plain, b"I am the walrus");
        }
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let header = Header {
            salt: [1; 16],
            record_size: 40,
            keyid: b"ticket".to_vec(),
        };
        let sealed = seal_whole(&[2; 32], &header, &[3; 100]).unwrap();
        let (_, records) = Header::parse(&sealed).unwrap().unwrap();
        assert_eq!(open_whole(&[2; 32], &header, records).unwrap(), [3; 100]);
        for at in 0..records.len() {
            let mut changed = records.to_vec();
            changed[at] ^= 1;
            let error = open_whole(&[2; 32], &header, &changed).unwrap_err();
            assert_eq!(error.code, Code::SealBroken, "{at}");
            assert!(open_whole(&[2; 32], &header, &records[..at]).is_err());
        }
        // Two records swapped.
        let mut swapped = records.to_vec();
        swapped[..80].rotate_left(40);
        assert!(open_whole(&[2; 32], &header, &swapped).is_err());
        let other = Header {
            salt: [9; 16],
            ..header
        };
        assert!(open_whole(&[2; 32], &other, records).is_err());
    }
}
