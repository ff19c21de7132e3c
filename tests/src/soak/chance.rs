//! Chance that a seed decides, and contents that both sides of a request can work out.

/// Numbers that look random and are the same for the same seed (splitmix64).
pub(super) struct Chance(u64);

impl Chance {
    /// Those of one of many, all of one seed.
    pub(super) fn new(seed: u64, of: u64) -> Self {
        Self(mixed(seed ^ mixed(of)))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.0)
    }

    /// Less than `end`, which is not 0.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(super) fn index(&mut self, end: usize) -> usize {
        usize::try_from(self.below(end.max(1) as u64)).unwrap_or_default()
    }

    pub(super) fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }

    pub(super) fn shuffle<T>(&mut self, all: &mut [T]) {
        for end in (1..all.len()).rev() {
            all.swap(end, self.index(end + 1));
        }
    }
}

/// What a request with this number carries, or is answered with: no two numbers have the same, and no two stretches of
/// one are alike.
pub(super) fn content(of: u64, len: usize) -> Vec<u8> {
    let mut chance = Chance::new(0, of);
    let mut content = Vec::with_capacity(len + 8);
    while content.len() < len {
        content.extend_from_slice(&chance.next().to_le_bytes());
    }
    content.truncate(len);
    content
}

fn mixed(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_decides_the_same() {
        let of = |seed| {
            let mut all: Vec<u64> = (0..20).collect();
            Chance::new(seed, 1).shuffle(&mut all);
            all
        };
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8));
    }

    #[test]
    fn contents_differ_by_their_number() {
        assert_eq!(content(1, 20), content(1, 40)[..20]);
        assert_ne!(content(1, 20), content(2, 20));
        assert_ne!(content(1, 40)[..20], content(1, 40)[20..]);
    }
}
