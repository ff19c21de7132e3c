//! Padmé: hide a length in its leading bits (Nikitin et al., "Reducing Metadata Leakage from
//! Encrypted Files and Communication with PURBs", PETS 2019, section 4).

/// The length to which `len` bytes are padded: at most 12 % more, and O(log log n) bits of
/// information are left.
///
/// ```
/// assert_eq!(bulla_protocol::padding::padme(1000), 1024);
/// ```
pub const fn padme(len: usize) -> usize {
    if len < 2 {
        return len;
    }
    let exponent = len.ilog2();
    let kept = exponent.ilog2() + 1;
    let mask = (1_usize << exponent.saturating_sub(kept)) - 1;
    match len.checked_add(mask) {
        Some(sum) => sum & !mask,
        None => len,
    }
}

#[cfg(test)]
mod tests {
    use super::padme;

    #[test]
    fn grows_by_little_and_is_idempotent() {
        for len in (0..100_000).chain([usize::MAX - 5, usize::MAX]) {
            let padded = padme(len);
            assert!(padded >= len);
            assert!(padded - len <= len / 8, "{len} -> {padded}");
            assert_eq!(padme(padded), padded);
        }
        assert_eq!([padme(9), padme(129), padme(1025)], [10, 144, 1088]);
    }
}
