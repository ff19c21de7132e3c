//! Sealing: the `aes128gcm` content coding of RFC 8188, with the cipher left to the caller.
//!
//! The caller derives a content-encryption key and a base nonce from its HKDF key with
//! [`Header::salt`], [`CEK_INFO`] and [`NONCE_INFO`]; everything about records is decided here.

use crate::error::{Code, Error};
use crate::limits::{MAX_RECORD_SIZE, MAX_TICKET_LEN};

/// HKDF `info` of the 16-byte content-encryption key (RFC 8188 section 2.2).
pub const CEK_INFO: &[u8] = b"Content-Encoding: aes128gcm\0";
/// HKDF `info` of the 12-byte base nonce (RFC 8188 section 2.3).
pub const NONCE_INFO: &[u8] = b"Content-Encoding: nonce\0";

/// Length of an AES-GCM tag, in bytes.
pub const TAG_LEN: usize = 16;
/// Length of a nonce, in bytes.
const NONCE_LEN: usize = 12;

const FIXED_HEADER_LEN: usize = 16 + 4 + 1;
const MORE: u8 = 1;
const LAST: u8 = 2;
const BROKEN: Error = Code::SealBroken.because("the records do not hold together");

/// The header of a sealed body (RFC 8188 section 2.1).
#[derive(Clone, PartialEq, Eq)]
pub struct Header {
    /// Fresh for every message.
    pub salt: [u8; 16],
    /// Length of every record but the last, tag included, in bytes: 18 to 65536.
    pub record_size: u32,
    /// The ticket in a request, empty in a reply.
    pub keyid: Vec<u8>,
}

impl Header {
    /// The header's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FIXED_HEADER_LEN + self.keyid.len());
        bytes.extend_from_slice(&self.salt);
        bytes.extend_from_slice(&self.record_size.to_be_bytes());
        bytes.push(u8::try_from(self.keyid.len().min(MAX_TICKET_LEN)).unwrap_or(u8::MAX));
        bytes.extend_from_slice(&self.keyid[..self.keyid.len().min(MAX_TICKET_LEN)]);
        bytes
    }

    /// Reads a header off the front and returns it with what follows. `None` if more bytes are
    /// needed.
    ///
    /// # Errors
    ///
    /// [`Code::SealBroken`] if the record size is not 18 to 65536.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, &[u8])>, Error> {
        let Some((fixed, rest)) = bytes.split_at_checked(FIXED_HEADER_LEN) else {
            return Ok(None);
        };
        let record_size = u32::from_be_bytes([fixed[16], fixed[17], fixed[18], fixed[19]]);
        if !(18..=MAX_RECORD_SIZE).contains(&record_size) {
            return Err(Code::SealBroken.because("the record size is out of range"));
        }
        let Some((keyid, rest)) = rest.split_at_checked(usize::from(fixed[20])) else {
            return Ok(None);
        };
        let mut salt = [0; 16];
        salt.copy_from_slice(&fixed[..16]);
        Ok(Some((
            Self {
                salt,
                record_size,
                keyid: keyid.to_vec(),
            },
            rest,
        )))
    }
}

/// The nonce of each record: the base nonce combined with the record's number (RFC 8188 section 2.3).
#[derive(Clone, Copy)]
pub struct RecordNonce([u8; NONCE_LEN]);

impl RecordNonce {
    /// Takes the derived base nonce.
    pub const fn new(base: [u8; NONCE_LEN]) -> Self {
        Self(base)
    }

    /// The nonce of the record with this number. The numbers of RFC 8188 have 96 bits; a message with
    /// more than 2^64 records will not be seen.
    pub fn at(&self, number: u64) -> [u8; NONCE_LEN] {
        let mut nonce = self.0;
        for (byte, number) in nonce[4..].iter_mut().zip(number.to_be_bytes()) {
            *byte ^= number;
        }
        nonce
    }
}

/// The plain text of one record, delimiter and padding included, and its number.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// Counts from 0.
    pub number: u64,
    /// Plain text to be encrypted, or cipher text to be decrypted.
    pub bytes: Vec<u8>,
}

/// The data of one record where they lie in the plain text, and the delimiter that is sealed behind them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Counts from 0.
    pub number: u64,
    /// Data, no padding.
    pub data: &'a [u8],
    /// Tells the final record from the others.
    pub delimiter: u8,
}

/// Cuts a plain text that is there as a whole. The final record is not padded.
pub fn pieces(plain: &[u8], record_size: u32) -> impl Iterator<Item = Piece<'_>> + Clone {
    let capacity = capacity(record_size);
    let last = plain.len().saturating_sub(1) / capacity;
    (0..=last).map(move |number| {
        let rest = &plain[number * capacity..];
        let (data, delimiter) = match rest.split_at_checked(capacity) {
            Some((data, [_, ..])) => (data, MORE),
            _ => (rest, LAST),
        };
        Piece {
            number: number as u64,
            data,
            delimiter,
        }
    })
}

/// How long the records of a plain text of this length are, sealed.
pub fn sealed_len(len: usize, record_size: u32) -> usize {
    let records = len.saturating_sub(1) / capacity(record_size) + 1;
    len + records * (1 + TAG_LEN)
}

/// How many bytes of data a record of this size holds.
fn capacity(record_size: u32) -> usize {
    record_size.clamp(18, MAX_RECORD_SIZE) as usize - TAG_LEN - 1
}

/// Cuts a plain text into records.
pub struct Splitter {
    capacity: usize,
    number: u64,
    pending: Vec<u8>,
}

impl Splitter {
    /// For records of this size, tag included.
    pub fn new(record_size: u32) -> Self {
        Self {
            capacity: capacity(record_size),
            number: 0,
            pending: Vec::new(),
        }
    }

    /// Adds plain text and returns the records that are full. One byte is kept back, so that there is
    /// always something to put into the final record.
    pub fn push(&mut self, mut bytes: &[u8]) -> Vec<Record> {
        let mut records = Vec::new();
        while bytes.len() > self.capacity - self.pending.len() {
            let (now, rest) = bytes.split_at(self.capacity - self.pending.len());
            self.reserve(now.len());
            let mut full = core::mem::take(&mut self.pending);
            full.extend_from_slice(now);
            records.push(self.record(full, MORE));
            bytes = rest;
        }
        self.reserve(bytes.len());
        self.pending.extend_from_slice(bytes);
        records
    }

    /// How many more bytes fill the record that is pending.
    pub fn room(&self) -> usize {
        self.capacity - self.pending.len()
    }

    /// The full record that these bytes begin with, if nothing is pending before it and something comes
    /// after it.
    pub fn cut<'a>(&mut self, bytes: &'a [u8]) -> Option<Piece<'a>> {
        if !self.pending.is_empty() || bytes.len() <= self.capacity {
            return None;
        }
        Some(Piece {
            number: self.count(),
            data: &bytes[..self.capacity],
            delimiter: MORE,
        })
    }

    /// Makes room for data, and for what comes behind it once the record is sealed.
    fn reserve(&mut self, len: usize) {
        self.pending.reserve_exact(len + 1 + TAG_LEN);
    }

    /// Pads what is pending out to a full record, so that it can be sent now. `None` if nothing is.
    pub fn flush(&mut self) -> Option<Record> {
        if self.pending.is_empty() {
            return None;
        }
        let pending = core::mem::take(&mut self.pending);
        Some(self.padded(pending, MORE))
    }

    /// The final record, not padded.
    pub fn finish(mut self) -> Record {
        let pending = core::mem::take(&mut self.pending);
        self.record(pending, LAST)
    }

    /// The final record, padded out to a full one.
    pub fn finish_padded(mut self) -> Record {
        let pending = core::mem::take(&mut self.pending);
        self.padded(pending, LAST)
    }

    fn record(&mut self, mut bytes: Vec<u8>, delimiter: u8) -> Record {
        bytes.reserve_exact(1 + TAG_LEN);
        bytes.push(delimiter);
        Record {
            number: self.count(),
            bytes,
        }
    }

    fn count(&mut self) -> u64 {
        let number = self.number;
        self.number += 1;
        number
    }

    fn padded(&mut self, bytes: Vec<u8>, delimiter: u8) -> Record {
        let len = self.capacity + 1;
        let mut record = self.record(bytes, delimiter);
        record.bytes.resize(len, 0);
        record
    }
}

/// Cuts a cipher text into records, and puts the opened ones together.
///
/// Records come out of [`push`](Self::push) and [`finish`](Self::finish) in order. Their plain texts
/// go back in through [`opened`](Self::opened) in the same order; up to
/// [`MAX_RECORDS_IN_FLIGHT`](crate::limits::MAX_RECORDS_IN_FLIGHT) may be on their way in between.
pub struct Joiner {
    record_size: usize,
    next: u64,
    pending: Vec<u8>,
    ended: bool,
}

impl Joiner {
    /// For records of this size, tag included.
    pub fn new(record_size: u32) -> Self {
        Self {
            record_size: record_size.clamp(18, MAX_RECORD_SIZE) as usize,
            next: 0,
            pending: Vec::new(),
            ended: false,
        }
    }

    /// Adds cipher text and returns the records that are complete.
    ///
    /// # Errors
    ///
    /// [`Code::SealBroken`] if something follows the final record.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<Vec<Record>, Error> {
        if self.ended && !bytes.is_empty() {
            return Err(Code::SealBroken.because("something follows the final record"));
        }
        let mut records = Vec::new();
        while let Some((now, rest)) = bytes.split_at_checked(self.record_size - self.pending.len())
        {
            let mut full = core::mem::take(&mut self.pending);
            // And room for its nonce behind it, for who hands it on so.
            full.reserve_exact(now.len() + NONCE_LEN);
            full.extend_from_slice(now);
            records.push(self.record(full));
            bytes = rest;
        }
        self.pending.extend_from_slice(bytes);
        Ok(records)
    }

    /// The cipher text is at its end: returns the last record if it is a short one.
    ///
    /// # Errors
    ///
    /// [`Code::SealBroken`] if what is left is no longer than a tag.
    pub fn finish(&mut self) -> Result<Option<Record>, Error> {
        if self.pending.is_empty() {
            return Ok(None);
        }
        if self.pending.len() <= TAG_LEN {
            return Err(BROKEN);
        }
        let last = core::mem::take(&mut self.pending);
        Ok(Some(self.record(last)))
    }

    /// Takes the plain text of the next record, in order, and strips it to its data.
    ///
    /// # Errors
    ///
    /// [`Code::SealBroken`] if it has no delimiter, is too short and not the final one, or follows the final one.
    pub fn opened(&mut self, plain: &mut Vec<u8>) -> Result<(), Error> {
        if self.ended {
            return Err(Code::SealBroken.because("something follows the final record"));
        }
        let end = plain.iter().rposition(|byte| *byte != 0).ok_or(BROKEN)?;
        match plain[end] {
            MORE => {}
            LAST => self.ended = true,
            _ => return Err(BROKEN),
        }
        if !self.ended && plain.len() + TAG_LEN != self.record_size {
            return Err(Code::SealBroken.because("the message ends before its final record"));
        }
        plain.truncate(end);
        Ok(())
    }

    /// Whether the final record has been opened.
    pub fn is_complete(&self) -> bool {
        self.ended && self.pending.is_empty()
    }

    fn record(&mut self, bytes: Vec<u8>) -> Record {
        let number = self.next;
        self.next += 1;
        Record { number, bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stands for the cipher: appends a tag that the way back removes.
    fn seal(record: Record) -> Vec<u8> {
        [record.bytes, vec![0xee; TAG_LEN]].concat()
    }

    fn open(bytes: &[u8], chunk: usize, record_size: u32) -> Result<Vec<u8>, Error> {
        let mut joiner = Joiner::new(record_size);
        let mut plain = Vec::new();
        let mut take = |joiner: &mut Joiner, record: Record| {
            let mut bytes = record.bytes;
            bytes.truncate(bytes.len() - TAG_LEN);
            joiner.opened(&mut bytes)?;
            plain.extend(bytes);
            Ok::<_, Error>(())
        };
        for chunk in bytes.chunks(chunk) {
            for record in joiner.push(chunk)? {
                take(&mut joiner, record)?;
            }
        }
        if let Some(record) = joiner.finish()? {
            take(&mut joiner, record)?;
        }
        if !joiner.is_complete() {
            return Err(BROKEN);
        }
        Ok(plain)
    }

    fn sealed(plain: &[u8], chunk: usize, flush: bool, record_size: u32) -> Vec<u8> {
        let mut splitter = Splitter::new(record_size);
        let mut out = Vec::new();
        for chunk in plain.chunks(chunk) {
            out.extend(splitter.push(chunk).into_iter().flat_map(seal));
            if flush {
                out.extend(splitter.flush().into_iter().flat_map(seal));
            }
        }
        out.extend(seal(splitter.finish()));
        out
    }

    #[test]
    fn round_trips_in_any_cut() {
        for len in [0_u8, 1, 7, 8, 9, 15, 16, 17, 100] {
            let plain: Vec<u8> = (0..len).collect();
            for chunk in 1..20 {
                for flush in [false, true] {
                    let bytes = sealed(&plain, chunk, flush, 25);
                    assert_eq!(
                        open(&bytes, chunk, 25).as_ref(),
                        Ok(&plain),
                        "{len} {chunk} {flush}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_not_copied_is_cut_in_the_same_places() {
        let seal_piece = |piece: Piece<'_>| {
            let bytes = [piece.data, &[piece.delimiter]].concat();
            let number = piece.number;
            seal(Record { number, bytes })
        };
        for len in [0_u8, 1, 7, 8, 9, 15, 16, 17, 100] {
            let plain: Vec<u8> = (0..len).collect();
            let wanted = sealed(&plain, 100, false, 25);
            assert_eq!(sealed_len(plain.len(), 25), wanted.len(), "{len}");
            let whole: Vec<_> = pieces(&plain, 25).flat_map(seal_piece).collect();
            assert_eq!(whole, wanted, "{len}");

            let mut splitter = Splitter::new(25);
            let (mut rest, mut cut) = (&plain[..], Vec::new());
            while let Some(piece) = splitter.cut(rest) {
                rest = &rest[piece.data.len()..];
                cut.extend(seal_piece(piece));
            }
            assert!(splitter.push(rest).is_empty());
            assert!(rest.is_empty() || splitter.cut(&plain).is_none());
            cut.extend(seal(splitter.finish()));
            assert_eq!(cut, wanted, "{len}");
        }
    }

    #[test]
    fn every_cut_repetition_and_addition_is_noticed() {
        let bytes = sealed(&[9; 40], 40, false, 25);
        for cut in 0..bytes.len() {
            assert!(open(&bytes[..cut], 10, 25).is_err(), "{cut}");
        }
        assert!(open(&[&bytes[..], &[0]].concat(), 10, 25).is_err());
        assert!(open(&[&bytes[..], &bytes[..]].concat(), 10, 25).is_err());
    }

    /// Whoever has the key can write any record.
    #[test]
    fn a_record_ends_in_its_delimiter() {
        let opened = |plain: &[u8]| {
            let mut plain = plain.to_vec();
            Joiner::new(25).opened(&mut plain).map(|()| plain)
        };
        assert_eq!(opened(b"data\x02").unwrap(), b"data");
        assert_eq!(opened(b"data\x02\0\0").unwrap(), b"data");
        assert_eq!(opened(b"12345678\x01").unwrap(), b"12345678");
        for bad in [&b"data\x03"[..], b"12345678\x03", b"data\x01", b"\0\0", b""] {
            assert_eq!(opened(bad).unwrap_err().code, Code::SealBroken, "{bad:?}");
        }
    }

    #[test]
    fn headers_round_trip_and_are_bounded() {
        let header = Header {
            salt: [3; 16],
            record_size: 4096,
            keyid: vec![5; 255],
        };
        let bytes = header.encode();
        for cut in 0..bytes.len() {
            assert_eq!(Header::parse(&bytes[..cut]), Ok(None));
        }
        assert_eq!(Header::parse(&bytes), Ok(Some((header, &[][..]))));
        for size in [0_u32, 17, MAX_RECORD_SIZE + 1, u32::MAX] {
            let mut bytes = bytes.clone();
            bytes[16..20].copy_from_slice(&size.to_be_bytes());
            assert_eq!(Header::parse(&bytes).unwrap_err().code, Code::SealBroken);
        }
    }

    #[test]
    fn every_record_has_its_own_nonce() {
        let nonce = RecordNonce::new([0xff; 12]);
        assert_eq!(nonce.at(0), [0xff; 12]);
        assert_eq!(nonce.at(0x0102)[10..], [0xfe, 0xfd]);
    }
}
