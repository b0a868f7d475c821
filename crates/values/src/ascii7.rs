//! ASCII text in seven bits a character: eight bytes in seven.
//!
//! Three layouts follow each other: blocks of 64 characters in 56 bytes, groups of 8 in 7, and a
//! rest of up to 7 bytes as it is. In a block, the last eight characters lend their bits to the
//! free high bits of the other 56: word by word, with no shift across bytes, so that the compiler
//! can use vector registers. A group does the same with its last character.
//! Invariant: `n` characters take `packed_len(n)` bytes, and equal texts have equal bytes.

const BLOCK: usize = 64;
const BLOCK_PACKED: usize = 56;
const GROUP: usize = 8;
const GROUP_PACKED: usize = 7;

/// The high bit of each byte.
const HIGH: u64 = 0x8080_8080_8080_8080;
/// The low bit of each byte.
const LOW: u64 = 0x0101_0101_0101_0101;

/// Moves bit i of a number below 128 to bit 8i + 7, for i from 0 to 6: by this product and `HIGH`.
const SPREAD: u64 = {
    let (mut factor, mut i) = (0_u64, 0);
    while i < 7 {
        factor |= 1 << (7 * i + 7);
        i += 1;
    }
    factor
};

/// Bytes that `len` characters take: len - len / 8.
#[inline]
pub const fn packed_len(len: usize) -> usize {
    len - len / 8
}

/// Whether the text can be packed: all bytes are below 128. Some tenths of a nanosecond for 8 bytes.
#[inline]
pub fn is_packable(text: &[u8]) -> bool {
    let (words, rest) = text.as_chunks::<8>();
    let seen = words.iter().fold(0, |seen, word| seen | u64::from_le_bytes(*word));
    let seen_rest = match text.last_chunk::<8>() {
        // The last word overlaps the one before: cheaper than byte by byte.
        Some(last) => u64::from_le_bytes(*last),
        None => rest.iter().fold(0, |seen, &byte| seen | u64::from(byte)),
    };
    (seen | seen_rest) & HIGH == 0
}

/// Packs ASCII text into the start of `out`; how many bytes were written.
///
/// `None` if the text is not ASCII or `out` is shorter than `packed_len`: then `out` holds nothing
/// of use. About a nanosecond for 8 characters.
#[inline]
pub fn pack(text: &[u8], out: &mut [u8]) -> Option<usize> {
    let out = out.get_mut(..packed_len(text.len()))?;
    let (blocks, rest) = text.as_chunks::<BLOCK>();
    let (packed_blocks, packed_rest) = out.split_at_mut(blocks.len() * BLOCK_PACKED);
    let mut seen = 0;
    for (block, packed) in blocks.iter().zip(packed_blocks.as_chunks_mut::<BLOCK_PACKED>().0) {
        seen |= pack_block(block, packed);
    }
    let (groups, rest) = rest.as_chunks::<GROUP>();
    let (packed_groups, packed_rest) = packed_rest.split_at_mut(groups.len() * GROUP_PACKED);
    for (group, packed) in groups.iter().zip(packed_groups.as_chunks_mut::<GROUP_PACKED>().0) {
        seen |= pack_group(*group, packed);
    }
    packed_rest.copy_from_slice(rest);
    seen |= rest.iter().fold(0, |seen, &byte| seen | u64::from(byte));
    (seen & HIGH == 0).then_some(out.len())
}

/// Appends the `len` characters that `packed` holds; false, with nothing appended, if it is
/// shorter than `packed_len(len)`. Some two nanoseconds for 64 characters.
#[inline(always)]
#[must_use]
pub fn unpack_into(packed: &[u8], len: usize, out: &mut Vec<u8>) -> bool {
    if packed.len() < packed_len(len) {
        return false;
    }
    let (mut packed, mut left) = (packed, len);
    while left >= BLOCK
        && let Some((block, rest)) = packed.split_first_chunk()
    {
        out.extend_from_slice(&unpack_block(block));
        (packed, left) = (rest, left - BLOCK);
    }
    if left > 0 {
        unpack_rest(packed, left, out);
    }
    true
}

/// Appends the last characters, fewer than a block.
fn unpack_rest(packed: &[u8], len: usize, out: &mut Vec<u8>) {
    let (groups, rest) = packed.split_at(len / GROUP * GROUP_PACKED);
    for group in groups.as_chunks::<GROUP_PACKED>().0 {
        out.extend_from_slice(&unpack_group(*group));
    }
    out.extend_from_slice(&rest[..len % GROUP]);
}

/// Appends characters `start..end` of the `len` that `packed` holds, unpacking only the blocks
/// they touch; false, with nothing appended, if the range or `packed` is too short for it.
#[must_use]
pub fn unpack_range(packed: &[u8], len: usize, start: usize, end: usize, out: &mut Vec<u8>) -> bool {
    if start > end || end > len || packed.len() < packed_len(len) {
        return false;
    }
    let mut block = Vec::with_capacity(BLOCK);
    let mut at = start;
    while at < end {
        let first = at / BLOCK * BLOCK;
        let block_len = (len - first).min(BLOCK);
        block.clear();
        let from = first / BLOCK * BLOCK_PACKED;
        let unpacked = unpack_into(&packed[from..], block_len, &mut block);
        debug_assert!(unpacked, "the length was checked above");
        let stop = (end - first).min(block_len);
        out.extend_from_slice(&block[at - first..stop]);
        at = first + stop;
    }
    true
}

/// Returns the union of all bytes, for the caller to see a high bit in.
#[inline]
fn pack_block(block: &[u8; BLOCK], packed: &mut [u8; BLOCK_PACKED]) -> u64 {
    let (words, _) = block.as_chunks::<8>();
    let lent = u64::from_le_bytes(words[7]);
    let mut seen = lent;
    for (at, (word, out)) in words.iter().zip(packed.as_chunks_mut::<8>().0).enumerate() {
        let word = u64::from_le_bytes(*word);
        seen |= word;
        // Bit `at` of each lent byte becomes the high bit of a byte here.
        *out = (word | ((lent << (7 - at)) & HIGH)).to_le_bytes();
    }
    seen
}

/// The characters of a block, with vectors of four words where the processor has them.
#[inline(always)]
fn unpack_block(packed: &[u8; BLOCK_PACKED]) -> [u8; BLOCK] {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V3::try_new() {
        return simd.vectorize(wide::Unpack { simd, packed });
    }
    unpack_words(packed)
}

/// `unpack_words` with vectors of four words.
#[cfg(target_arch = "x86_64")]
mod wide {
    use super::{BLOCK, BLOCK_PACKED, HIGH, LOW};
    use pulp::cast;
    use pulp::x86::V3;
    use std::arch::x86_64::__m256i;

    /// A block to be unpacked.
    pub(super) struct Unpack<'a> {
        pub(super) simd: V3,
        pub(super) packed: &'a [u8; BLOCK_PACKED],
    }

    impl pulp::NullaryFnOnce for Unpack<'_> {
        type Output = [u8; BLOCK];

        #[inline(always)]
        fn call(self) -> [u8; BLOCK] {
            cast(unpack_block(self.simd, self.packed))
        }
    }

    /// The seven words are read as two vectors that share the fourth.
    #[inline(always)]
    fn unpack_block(simd: V3, packed: &[u8; BLOCK_PACKED]) -> [[u8; BLOCK / 2]; 2] {
        let (avx, wide) = (simd.avx, simd.avx2);
        let (Some(first), Some(last)) = (packed.first_chunk::<32>(), packed.last_chunk::<32>()) else {
            unreachable!("a packed block has more than 32 bytes");
        };
        let (first, last): (__m256i, __m256i) = (cast(*first), cast(*last));
        let low = avx._mm256_set1_epi64x(LOW.cast_signed());
        let high = avx._mm256_set1_epi64x(HIGH.cast_signed());
        let lent_by = |words, shifts| {
            wide._mm256_sllv_epi64(wide._mm256_and_si256(wide._mm256_srli_epi64::<7>(words), low), shifts)
        };
        // The last word is what the high bits of the others spell: bit i of its bytes is the high bits of word i.
        let lent = wide._mm256_or_si256(
            lent_by(first, avx._mm256_set_epi64x(3, 2, 1, 0)),
            lent_by(last, avx._mm256_set_epi64x(6, 5, 4, 3)),
        );
        let lent = wide._mm256_or_si256(lent, wide._mm256_permute4x64_epi64::<0b01_00_11_10>(lent));
        let lent = wide._mm256_or_si256(lent, wide._mm256_permute4x64_epi64::<0b10_11_00_01>(lent));
        let last = wide._mm256_permute4x64_epi64::<0b00_11_10_01>(wide._mm256_andnot_si256(high, last));
        let second = wide._mm256_blend_epi32::<0b1100_0000>(last, lent);
        [cast(wide._mm256_andnot_si256(high, first)), cast(second)]
    }
}

#[inline]
fn unpack_words(packed: &[u8; BLOCK_PACKED]) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let (words, _) = packed.as_chunks::<8>();
    let (out, _) = block.as_chunks_mut::<8>();
    let mut lent = 0;
    for (at, (word, out)) in words.iter().zip(out.iter_mut()).enumerate() {
        let word = u64::from_le_bytes(*word);
        *out = (word & !HIGH).to_le_bytes();
        lent |= ((word >> 7) & LOW) << at;
    }
    out[7] = lent.to_le_bytes();
    block
}

#[inline]
fn pack_group(group: [u8; GROUP], packed: &mut [u8; GROUP_PACKED]) -> u64 {
    let word = u64::from_le_bytes(group);
    let lent = (word >> 56).wrapping_mul(SPREAD) & (HIGH >> 8);
    let joined = (word | lent).to_le_bytes();
    packed.copy_from_slice(&joined[..GROUP_PACKED]);
    word
}

#[inline]
fn unpack_group(packed: [u8; GROUP_PACKED]) -> [u8; GROUP] {
    let [a, b, c, d, e, f, g] = packed;
    let word = u64::from_le_bytes([a, b, c, d, e, f, g, 0]);
    // The high bits, gathered into the lowest byte of the product's highest one.
    let lent = ((word & HIGH) >> 7).wrapping_mul(GATHER) & 0x7f00_0000_0000_0000;
    ((word & !HIGH) | lent).to_le_bytes()
}

/// Moves bit 8i to bit 56 + i, for i from 0 to 6.
const GATHER: u64 = {
    let (mut factor, mut i) = (0_u64, 0);
    while i < 7 {
        factor |= 1 << (56 - 7 * i);
        i += 1;
    }
    factor
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The layout, one character at a time.
    fn slow_pack(text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for block in text.chunks(BLOCK) {
            if block.len() == BLOCK {
                let bits = |at: usize| block[56 + at % 8] >> (at / 8) & 1;
                out.extend((0..56).map(|at| block[at] | bits(at) << 7));
                continue;
            }
            for group in block.chunks(GROUP) {
                let kept = group.len().min(7);
                let last = group.get(7).copied().unwrap_or(0);
                out.extend((0..kept).map(|at| group[at] | (last >> at & 1) << 7));
            }
        }
        out
    }

    fn packed(text: &[u8]) -> Vec<u8> {
        let mut out = vec![0xee; packed_len(text.len()) + 3];
        assert_eq!(pack(text, &mut out), Some(packed_len(text.len())));
        assert_eq!(out.split_off(packed_len(text.len())), [0xee; 3]);
        out
    }

    fn ascii(len: usize) -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(0_u8..128, 0..len)
    }

    #[test]
    fn lengths_and_refusals() {
        assert_eq!([0, 1, 7, 8, 9, 15, 16, 64, 65].map(packed_len), [0, 1, 7, 7, 8, 14, 14, 56, 57]);
        for at in 0..200 {
            let mut text = vec![b'x'; 200];
            text[at] = 0x80;
            assert_eq!(pack(&text, &mut [0; 200]), None, "{at}");
            assert!(!is_packable(&text) && is_packable(&text[..at]) && is_packable(&text[at + 1..]));
        }
        assert_eq!(pack(b"12345678", &mut [0; 6]), None);
        assert!(!unpack_into(&[0; 6], 8, &mut Vec::new()));
        assert!(!unpack_range(&[0; 7], 8, 3, 9, &mut Vec::new()));
        assert!(!unpack_range(&[0; 7], 8, 3, 2, &mut Vec::new()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]
        #[test]
        fn packs_as_the_slow_twin(text in ascii(300)) {
            prop_assert_eq!(packed(&text), slow_pack(&text));
        }

        #[test]
        fn unpacks_what_was_packed(text in ascii(300), before in ascii(5)) {
            let mut out = before.clone();
            prop_assert!(unpack_into(&packed(&text), text.len(), &mut out));
            prop_assert_eq!(out, [before, text].concat());
        }

        #[test]
        fn a_block_is_unpacked_alike_by_any_processor(text in proptest::collection::vec(0_u8..128, BLOCK)) {
            let block = packed(&text);
            prop_assert_eq!(unpack_words(block.first_chunk().unwrap()).to_vec(), text);
        }

        #[test]
        fn any_range_is_a_part_of_the_text(text in ascii(300), cut in (0_usize..301, 0_usize..301)) {
            let (start, end) = (cut.0.min(cut.1).min(text.len()), cut.0.max(cut.1).min(text.len()));
            let mut out = Vec::new();
            prop_assert!(unpack_range(&packed(&text), text.len(), start, end, &mut out));
            prop_assert_eq!(out, &text[start..end]);
        }
    }
}
