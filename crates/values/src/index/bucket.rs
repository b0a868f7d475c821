//! A cache line of the index: twelve references and a byte of each one's hash.
//!
//! Invariant: the references lie in the first `len` places, and `passed` counts the elements whose
//! home is this bucket or one before it and that found room only behind it. A search ends at a
//! bucket that nothing passed.

/// References in a bucket.
pub(super) const SLOTS: usize = 12;

const ONES: u64 = 0x0101_0101_0101_0101;
const LOW_SEVEN: u64 = 0x7f7f_7f7f_7f7f_7f7f;

/// Twelve references.
#[repr(C, align(64))]
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    references: [u32; SLOTS],
    tags: [u8; SLOTS],
    passed: u16,
    len: u8,
}

const _: () = assert!(size_of::<Bucket>() == 64);

impl Bucket {
    pub(super) const EMPTY: Bucket = Bucket { references: [0; SLOTS], tags: [0; SLOTS], passed: 0, len: 0 };

    #[inline]
    pub(super) fn references(&self) -> &[u32] {
        &self.references[..usize::from(self.len).min(SLOTS)]
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        usize::from(self.len)
    }

    #[inline]
    pub(super) fn is_full(&self) -> bool {
        usize::from(self.len) >= SLOTS
    }

    #[inline]
    pub(super) fn passed(&self) -> u16 {
        self.passed
    }

    /// The place of the reference whose tag is `tag` and that `eq` accepts.
    #[inline]
    pub(super) fn find(&self, tag: u8, mut eq: impl FnMut(u32) -> bool) -> Option<usize> {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = self.tags;
        let low = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        let high = u64::from(u32::from_le_bytes([i, j, k, l]));
        let same = ONES * u64::from(tag);
        for (first, mut found) in [(0, zero_bytes(low ^ same)), (8, zero_bytes(high ^ same))] {
            while found != 0 {
                let slot = first + (found.trailing_zeros() / 8) as usize;
                found &= found - 1;
                if slot < self.len() && eq(self.references[slot]) {
                    return Some(slot);
                }
            }
        }
        None
    }

    #[inline]
    pub(super) fn get(&self, slot: usize) -> u32 {
        self.references[slot]
    }

    #[inline]
    pub(super) fn set(&mut self, slot: usize, reference: u32) {
        self.references[slot] = reference;
    }

    /// Adds a reference; the bucket is not full.
    #[inline]
    pub(super) fn push(&mut self, tag: u8, reference: u32) {
        let slot = usize::from(self.len);
        self.references[slot] = reference;
        self.tags[slot] = tag;
        self.len += 1;
    }

    /// Takes out the reference at `slot`; the last one takes its place.
    #[inline]
    pub(super) fn swap_remove(&mut self, slot: usize) -> u32 {
        let removed = self.references[slot];
        self.len -= 1;
        let last = usize::from(self.len);
        self.references[slot] = self.references[last];
        self.tags[slot] = self.tags[last];
        removed
    }

    /// One more element found no room here. A counter at its end stays there: searches become longer,
    /// not wrong.
    #[inline]
    pub(super) fn pass(&mut self) {
        self.passed = self.passed.saturating_add(1);
    }

    /// One of the elements that found no room here is gone.
    #[inline]
    pub(super) fn unpass(&mut self) {
        if self.passed != u16::MAX {
            self.passed -= 1;
        }
    }
}

/// The highest bit of each byte that is zero.
#[inline]
fn zero_bytes(word: u64) -> u64 {
    !(((word & LOW_SEVEN) + LOW_SEVEN) | word | LOW_SEVEN)
}
