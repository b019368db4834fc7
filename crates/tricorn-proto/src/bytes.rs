//! Comparing bytes as few as names and values have, and going through the bits that tell of each field.

/// Are they equal? Without a call as long as they are short, for that would cost more than it takes to compare them.
#[inline(always)]
pub fn same(one: &[u8], other: &[u8]) -> bool {
    // Both ends, which may overlap.
    fn ends<const N: usize>(one: &[u8], other: &[u8]) -> bool {
        one.first_chunk::<N>() == other.first_chunk() && one.last_chunk::<N>() == other.last_chunk()
    }
    one.len() == other.len()
        && match one.len() {
            0..4 => one.iter().zip(other).all(|(a, b)| a == b),
            4..8 => ends::<4>(one, other),
            8..16 => ends::<8>(one, other),
            16..=32 => ends::<16>(one, other),
            _ => one == other,
        }
}

/// The places of the bits that are set, the lowest first.
#[inline(always)]
pub fn places(mut bits: u64) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let place = (bits != 0).then(|| bits.trailing_zeros() as usize);
        bits &= bits.wrapping_sub(1);
        place
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_counts() {
        for length in 0..80 {
            let one = alloc::vec![b'a'; length];
            assert!(same(&one, &one.clone()));
            assert!(!same(&one, &[one.as_slice(), b"a"].concat()));
            for place in 0..length {
                let mut other = one.clone();
                other[place] = b'b';
                assert!(!same(&one, &other), "{place} of {length}");
            }
        }
    }
}
