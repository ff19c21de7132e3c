//! What can be done to bytes on their way.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// A change to bytes, wherever they are.
#[derive(Clone, Debug)]
pub(crate) enum Mutation {
    FlipBit(Index, u8),
    Cut(Index),
    Insert(Index, Vec<u8>),
    Overwrite(Index, Vec<u8>),
    Remove(Index, Index),
    /// A part stands twice, one after the other.
    Repeat(Index, Index),
    /// What was before and what was after change places.
    Rotate(Index),
    /// All of it, several times.
    Multiply(u8),
}

impl Mutation {
    pub(crate) fn apply(&self, bytes: &[u8]) -> Vec<u8> {
        let mut changed = bytes.to_vec();
        let len = bytes.len();
        match self {
            Self::FlipBit(at, bit) if len > 0 => changed[at.index(len)] ^= 1 << bit,
            Self::Cut(at) => changed.truncate(at.index(len + 1)),
            Self::Insert(at, more) => {
                let at = at.index(len + 1);
                changed.splice(at..at, more.iter().copied());
            }
            Self::Overwrite(at, with) => {
                let at = at.index(len + 1);
                let end = (at + with.len()).min(len);
                changed.splice(at..end, with.iter().copied());
            }
            Self::Remove(from, to) => {
                changed.drain(part(*from, *to, len));
            }
            Self::Repeat(from, to) => {
                let part = part(*from, *to, len);
                let end = part.end;
                changed.splice(end..end, bytes[part].iter().copied());
            }
            Self::Rotate(at) if len > 0 => changed.rotate_left(at.index(len)),
            Self::FlipBit(..) | Self::Rotate(_) => {}
            Self::Multiply(times) => changed = bytes.repeat(usize::from(*times)),
        }
        changed
    }
}

fn part(from: Index, to: Index, len: usize) -> std::ops::Range<usize> {
    let (from, to) = (from.index(len + 1), to.index(len + 1));
    from.min(to)..from.max(to)
}

/// One to three changes, one after the other.
pub(crate) fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    vec(mutation(), 1..4)
}

pub(crate) fn apply(mutations: &[Mutation], bytes: &[u8]) -> Vec<u8> {
    mutations
        .iter()
        .fold(bytes.to_vec(), |bytes, mutation| mutation.apply(&bytes))
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = any::<Index>;
    prop_oneof![
        (at(), 0_u8..8).prop_map(|(at, bit)| Mutation::FlipBit(at, bit)),
        at().prop_map(Mutation::Cut),
        (at(), piece()).prop_map(|(at, piece)| Mutation::Insert(at, piece)),
        (at(), piece()).prop_map(|(at, piece)| Mutation::Overwrite(at, piece)),
        (at(), at()).prop_map(|(from, to)| Mutation::Remove(from, to)),
        (at(), at()).prop_map(|(from, to)| Mutation::Repeat(from, to)),
        at().prop_map(Mutation::Rotate),
        (0_u8..5).prop_map(Mutation::Multiply),
    ]
}

/// Arbitrary bytes, and those that parsers trip over: lengths at their limits and beyond, deep nesting,
/// what ends a line or a string.
pub(crate) fn piece() -> impl Strategy<Value = Vec<u8>> {
    let absurd: &[&[u8]] = &[
        b"",
        b"\0",
        b"\xff",
        b"\0\0\0\0",
        b"\xff\xff\xff\xff",
        b"\0\0\0\x11",
        b"\0\0\0\x12",
        b"\0\x01\0\0",
        b"\0\x01\0\x01",
        b"\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\xc0\0\0\0\0\0\0\x01",
        b"\xbf\xff\xff\xff",
        b"\x7f\xff",
        b"99999999999999999999",
        b"-1",
        b"1e999",
        b"\"",
        b"\\",
        b"\\u0000",
        b":",
        b"=",
        b"==:",
        b";",
        b",",
        b" ",
        b"(",
        b")",
        b"?1",
        b"\t",
        b"\xc3\x28",
        b"/../",
        b"%2f",
        b"%",
        b"#",
        b"?",
        b";bulla=1",
        b"sig=();tag=\"bulla\"",
    ];
    let nested = |(open, times): (&str, usize)| open.repeat(times).into_bytes();
    prop_oneof![
        4 => select(absurd).prop_map(<[u8]>::to_vec),
        4 => vec(any::<u8>(), 0..40),
        1 => (any::<u8>(), 0_usize..5000).prop_map(|(byte, len)| vec![byte; len]),
        1 => (select(&["[", "{\"a\":", "(", "%25"][..]), 0_usize..1000).prop_map(nested),
    ]
}
