//! Comparing and hashing bytes as few as names and values have, and going through the bits that tell of each field.

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

/// Hash for small direct-mapped caches: fast, and collisions only evict. Its lowest bits depend on every bit of `bytes`: those
/// of a bare product would not on a word's last bytes, in which numbered targets and values differ.
#[inline]
pub fn hash(bytes: &[u8]) -> usize {
    const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |state: u64, word: u64| {
        let product = u128::from(state.rotate_left(5) ^ word) * u128::from(SEED);
        product as u64 ^ (product >> 64) as u64
    };
    let mut state = bytes.len() as u64;
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        state = mix(state, u64::from_le_bytes(*word));
    }
    state = match (rest, bytes.last_chunk::<8>()) {
        ([], _) => state,
        // The last eight bytes, some of them for the second time.
        (_, Some(tail)) => mix(state, u64::from_le_bytes(*tail)),
        (rest, None) => rest
            .iter()
            .fold(state, |state, &byte| mix(state, u64::from(byte))),
    };
    state as usize
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

    #[test]
    fn numbered_texts_have_places_of_their_own() {
        for begin in ["/item/", "/catalogue/of/items/by-number/", "x="] {
            let place = |number| hash(alloc::format!("{begin}{number}").as_bytes()) % 1024;
            let places: alloc::collections::BTreeSet<_> = (100..164).map(place).collect();
            assert!(places.len() > 55, "{begin}: {}", places.len());
        }
    }
}
