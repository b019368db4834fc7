//! Takes the mask off a payload, or puts it on: the same operation.
//!
//! Invariant: a payload that arrives in pieces comes out as it would in one, given each piece's offset.
//! Source: RFC 6455, 5.3.

/// Applies `mask` to `bytes`, which begin `offset` bytes into their frame's payload.
#[inline]
pub(super) fn unmask(bytes: &mut [u8], mask: [u8; 4], offset: u64) {
    // Turning the key instead of stepping to the next multiple of four keeps one loop over whole words, which LLVM
    // makes vectors of.
    let [a, b, c, d] = core::array::from_fn(|index| mask[(offset as usize + index) % 4]);
    let key = [a, b, c, d, a, b, c, d];
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ u64::from_ne_bytes(key)).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn pieces_of_any_length_come_out_as_the_whole() {
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        let masked: Vec<u8> = (0..67).collect();
        let plain: Vec<u8> = (0..67).map(|at| at as u8 ^ mask[at % 4]).collect();
        for cut in 0..=67 {
            let mut got = masked.clone();
            let (head, tail) = got.split_at_mut(cut);
            unmask(head, mask, 0);
            unmask(tail, mask, cut as u64);
            assert_eq!(got, plain, "cut at {cut}");
        }
    }
}
