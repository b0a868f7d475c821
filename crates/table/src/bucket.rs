//! A bucket: one cache line of eight slots, and the slot word.
//!
//! Invariant: used slots come first, so a bucket is full exactly when its last slot is used.
//! Slots are written only under the shard's lock; others may read them at any time, for prefetching.

use crate::arena::ADDRESS_BITS;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Slots in a bucket.
pub(crate) const SLOTS: usize = 8;
/// Hash bits kept in a slot: those right below the bits that chose the segment. The bucket follows from them too.
pub(crate) const TAG_BITS: u32 = 14;
const TAG_SHIFT: u32 = 50;
const DISPLACED: u64 = 1 << 49;
const TIMED: u64 = 1 << 48;
const ADDRESS: u64 = 0x0000_ffff_ffff_fff8;
/// Bits 0, 1 and 2: reserved for eviction and snapshots. They travel with the entry.
const RESERVED: u64 = 0b111;

const _: () = assert!(ADDRESS >> ADDRESS_BITS == 0 && ADDRESS >> 3 == (1 << (ADDRESS_BITS - 3)) - 1);
const _: () = assert!(TAG_SHIFT + TAG_BITS == u64::BITS);
const _: () = assert!((ADDRESS | RESERVED | TIMED | DISPLACED).count_ones() + TAG_BITS == u64::BITS);

/// A slot's word: tag (14 bits), displaced, timed, address of the entry (48 bits, the low three reserved for flags).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Slot(pub(crate) u64);

impl Slot {
    /// A slot without an entry.
    pub(crate) const EMPTY: Self = Self(0);

    /// The slot of an entry at home.
    #[inline]
    pub(crate) fn new(entry: NonNull<u8>, tag: u64, timed: bool) -> Self {
        let address = entry.as_ptr().expose_provenance() as u64;
        debug_assert!(address & !ADDRESS == 0, "an entry beyond 48 bits or misaligned");
        debug_assert!(tag < 1 << TAG_BITS);
        Self(tag << TAG_SHIFT | if timed { TIMED } else { 0 } | address)
    }

    /// Whether no entry is here.
    #[inline]
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The entry's address; dangling for an empty slot.
    #[inline]
    pub(crate) fn entry(self) -> NonNull<u8> {
        debug_assert!(!self.is_empty());
        let pointer = std::ptr::with_exposed_provenance_mut((self.0 & ADDRESS) as usize);
        // SAFETY: only empty slots have address zero, and callers ask used ones.
        unsafe { NonNull::new_unchecked(pointer) }
    }

    /// The hash bits kept.
    #[inline]
    pub(crate) fn tag(self) -> u64 {
        self.0 >> TAG_SHIFT
    }

    /// Whether the entry lives in the bucket after its home.
    #[inline]
    pub(crate) fn is_displaced(self) -> bool {
        self.0 & DISPLACED != 0
    }

    /// Whether the entry has a deadline.
    #[inline]
    pub(crate) fn is_timed(self) -> bool {
        self.0 & TIMED != 0
    }

    /// The same entry in the bucket after its home, or at home.
    #[inline]
    pub(crate) fn with_displaced(self, displaced: bool) -> Self {
        Self(self.0 & !DISPLACED | if displaced { DISPLACED } else { 0 })
    }

    /// The same slot with the deadline flag as given.
    #[inline]
    pub(crate) fn with_timed(self, timed: bool) -> Self {
        Self(self.0 & !TIMED | if timed { TIMED } else { 0 })
    }

    /// The same entry under another tag.
    #[inline]
    pub(crate) fn with_tag(self, tag: u64) -> Self {
        debug_assert!(tag < 1 << TAG_BITS);
        Self(self.0 << TAG_BITS >> TAG_BITS | tag << TAG_SHIFT)
    }

    /// The same slot for an entry that moved in memory.
    #[inline]
    pub(crate) fn with_entry(self, entry: NonNull<u8>) -> Self {
        let moved = Self::new(entry, self.tag(), self.is_timed());
        Self(moved.0 | self.0 & (DISPLACED | RESERVED))
    }
}

/// What a search compares: tag and displacement, as they stand in the upper half of a slot.
#[derive(Clone, Copy)]
pub(crate) struct Pattern(u32);

const PATTERN_MASK: u32 = !((TIMED >> 32) as u32 | (ADDRESS >> 32) as u32);

impl Pattern {
    /// Entries with this tag that live at home, or in the bucket after it.
    #[inline]
    pub(crate) fn new(tag: u64, displaced: bool) -> Self {
        Self(((tag << TAG_SHIFT | if displaced { DISPLACED } else { 0 }) >> 32) as u32)
    }
}

/// One cache line of slots.
#[repr(C, align(64))]
pub(crate) struct Bucket {
    slots: [AtomicU64; SLOTS],
}

const _: () = assert!(size_of::<Bucket>() == 64);

impl Bucket {
    /// The slot at `index` < 8.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> Slot {
        Slot(self.slots[index & (SLOTS - 1)].load(Relaxed))
    }

    /// Writes the slot at `index` < 8.
    #[inline]
    pub(crate) fn set(&self, index: usize, slot: Slot) {
        self.slots[index & (SLOTS - 1)].store(slot.0, Relaxed);
    }

    /// Whether no slot is empty.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        !self.get(SLOTS - 1).is_empty()
    }

    /// Used slots.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        (0..SLOTS).map(|index| usize::from(!self.get(index).is_empty())).sum()
    }

    /// A bit for each slot whose entry lives here because its home, the bucket before, was full.
    #[cfg(any(test, miri, not(target_arch = "x86_64")))]
    #[inline]
    pub(crate) fn displaced_portable(&self) -> u32 {
        (0..SLOTS).map(|index| u32::from(self.get(index).is_displaced()) << index).sum()
    }

    /// As `displaced_portable`.
    ///
    /// # Safety
    /// As `matches`.
    #[inline]
    pub(crate) unsafe fn displaced(&self) -> u32 {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        // SAFETY: SSE2 is part of x86_64; the four loads are the 64 aligned bytes of self, which nobody writes.
        unsafe {
            use std::arch::x86_64::*;
            const SIGN: i32 = (DISPLACED >> 32).leading_zeros() as i32 - 32;
            let line = self.slots.as_ptr().cast::<f32>();
            let [a, b] = [_mm_load_ps(line), _mm_load_ps(line.add(4))];
            let [c, d] = [_mm_load_ps(line.add(8)), _mm_load_ps(line.add(12))];
            let [low, high] = upper_halves([a, b, c, d]);
            // The flag becomes the sign, which packing keeps.
            let words = _mm_packs_epi32(_mm_slli_epi32::<SIGN>(low), _mm_slli_epi32::<SIGN>(high));
            let bytes = _mm_packs_epi16(words, _mm_setzero_si128());
            _mm_movemask_epi8(bytes).cast_unsigned()
        }
        #[cfg(not(all(target_arch = "x86_64", not(miri))))]
        self.displaced_portable()
    }

    /// A bit for each slot that matches. Empty slots match tag 0 at home: callers skip them.
    /// May race with a writer: the result is then a hint.
    #[cfg(any(test, miri, not(target_arch = "x86_64")))]
    #[inline]
    pub(crate) fn matches_portable(&self, pattern: Pattern) -> u32 {
        let mut mask = 0;
        for index in 0..SLOTS {
            let upper = (self.get(index).0 >> 32) as u32;
            mask |= u32::from(upper & PATTERN_MASK == pattern.0) << index;
        }
        mask
    }

    /// As `matches_portable`, for readers without the lock.
    #[inline]
    pub(crate) fn glimpse(&self, pattern: Pattern) -> u32 {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        {
            use std::arch::x86_64::__m128;
            let line = self.slots.as_ptr();
            let (a, b, c, d): (__m128, __m128, __m128, __m128);
            // SAFETY: the 64 aligned bytes of self are read. Others may write slots meanwhile: written in assembly, the
            // loads are to the compiler what they are to the processor, eight relaxed atomic loads.
            unsafe {
                std::arch::asm!(
                    "movaps {a}, xmmword ptr [{line}]",
                    "movaps {b}, xmmword ptr [{line} + 16]",
                    "movaps {c}, xmmword ptr [{line} + 32]",
                    "movaps {d}, xmmword ptr [{line} + 48]",
                    line = in(reg) line,
                    a = out(xmm_reg) a, b = out(xmm_reg) b, c = out(xmm_reg) c, d = out(xmm_reg) d,
                    options(readonly, nostack, preserves_flags),
                );
            }
            compare([a, b, c, d], pattern)
        }
        #[cfg(not(all(target_arch = "x86_64", not(miri))))]
        self.matches_portable(pattern)
    }

    /// As `matches_portable`.
    ///
    /// # Safety
    /// The caller holds the shard's lock: the slots are read without atomics, and nobody writes them meanwhile.
    #[inline]
    pub(crate) unsafe fn matches(&self, pattern: Pattern) -> u32 {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        // SAFETY: SSE2 is part of x86_64; the four loads are the 64 aligned bytes of self, which nobody writes.
        unsafe {
            use std::arch::x86_64::*;
            let line = self.slots.as_ptr().cast::<f32>();
            let [a, b] = [_mm_load_ps(line), _mm_load_ps(line.add(4))];
            let [c, d] = [_mm_load_ps(line.add(8)), _mm_load_ps(line.add(12))];
            compare([a, b, c, d], pattern)
        }
        #[cfg(not(all(target_arch = "x86_64", not(miri))))]
        self.matches_portable(pattern)
    }
}

/// The upper halves of eight slots in four registers.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline(always)]
fn upper_halves([a, b, c, d]: [std::arch::x86_64::__m128; 4]) -> [std::arch::x86_64::__m128i; 2] {
    use std::arch::x86_64::*;
    // SAFETY: SSE2 is part of x86_64.
    unsafe {
        // Of two slots each from two registers: elements 1 and 3.
        let low = _mm_castps_si128(_mm_shuffle_ps::<0b11_01_11_01>(a, b));
        [low, _mm_castps_si128(_mm_shuffle_ps::<0b11_01_11_01>(c, d))]
    }
}

/// A bit for each of eight slots, in four registers, whose upper half is the pattern.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline(always)]
fn compare(slots: [std::arch::x86_64::__m128; 4], pattern: Pattern) -> u32 {
    use std::arch::x86_64::*;
    let [low, high] = upper_halves(slots);
    // SAFETY: SSE2 is part of x86_64.
    unsafe {
        let mask = _mm_set1_epi32(PATTERN_MASK.cast_signed());
        let wanted = _mm_set1_epi32(pattern.0.cast_signed());
        let low = _mm_cmpeq_epi32(_mm_and_si128(low, mask), wanted);
        let high = _mm_cmpeq_epi32(_mm_and_si128(high, mask), wanted);
        let words = _mm_packs_epi32(low, high);
        let bytes = _mm_packs_epi16(words, _mm_setzero_si128());
        _mm_movemask_epi8(bytes).cast_unsigned()
    }
}

/// The positions of the bits of a mask, lowest first.
#[inline]
pub(crate) fn bits(mut mask: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let at = mask.trailing_zeros() as usize;
        (mask != 0).then(|| {
            mask &= mask - 1;
            at
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_vector_search_agrees_with_the_portable_one(
            words in prop::array::uniform8(prop_oneof![Just(0u64), any::<u64>(), (0u64..4).prop_map(|tag| tag << 49 | 8)]),
            tag in prop_oneof![Just(0u64), 0u64..4, 0u64..1 << TAG_BITS],
            displaced: bool,
        ) {
            let bucket = Bucket { slots: words.map(AtomicU64::new) };
            let mut patterns = vec![Pattern::new(tag, displaced)];
            patterns.extend(words.map(|word| Pattern::new(Slot(word).tag(), Slot(word).is_displaced())));
            for pattern in patterns {
                // SAFETY: the bucket is this test's own.
                let found = unsafe { bucket.matches(pattern) };
                prop_assert_eq!(found, bucket.matches_portable(pattern));
                prop_assert_eq!(found, bucket.glimpse(pattern));
                // SAFETY: as above.
                prop_assert_eq!(unsafe { bucket.displaced() }, bucket.displaced_portable());
                for index in 0..SLOTS {
                    let slot = bucket.get(index);
                    let expected = Pattern::new(slot.tag(), slot.is_displaced()).0 == pattern.0;
                    prop_assert_eq!(found >> index & 1 == 1, expected);
                }
            }
            prop_assert_eq!(bits(0b1010_0001).collect::<Vec<_>>(), vec![0, 5, 7]);
        }

        #[test]
        fn a_slot_keeps_its_parts_apart(address in 1u64..1 << 45, tag in 0u64..1 << TAG_BITS, other in 0u64..1 << TAG_BITS, timed: bool) {
            let entry = NonNull::new(std::ptr::without_provenance_mut::<u8>((address << 3) as usize)).unwrap();
            let slot = Slot(Slot::new(entry, tag, timed).0 | 0b101);
            for displaced in [true, false] {
                let moved = slot.with_displaced(displaced).with_tag(other).with_timed(!timed);
                prop_assert_eq!((moved.tag(), moved.is_displaced(), moved.is_timed()), (other, displaced, !timed));
                prop_assert_eq!(moved.entry().addr(), entry.addr());
                let away = moved.with_entry(NonNull::<u64>::dangling().cast());
                prop_assert_eq!(away.0 & RESERVED, 0b101);
                prop_assert_eq!((away.tag(), away.is_displaced(), away.is_timed()), (other, displaced, !timed));
            }
        }
    }
}
