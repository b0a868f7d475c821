//! How large a chunk may become: `list-max-listpack-size` in Redis' words and arithmetic.

/// What one element is expected to add to a chunk beside its text.
const ELEMENT_OVERHEAD_BYTES: usize = 8;

/// A chunk limited by a number of elements stays below this size nevertheless.
const COUNTED_BYTES_MAX: usize = 8192;

/// The sizes that -1 to -5 stand for.
const SIZES: [usize; 5] = [4096, 8192, 16_384, 32_768, 65_536];

/// The largest number of elements that can be asked for.
const COUNT_MAX: i64 = 32_767;

/// A limit on chunks, by size or by number of elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Bytes of a listpack.
    Bytes(u32),
    /// Elements.
    Count(u32),
}

impl Default for Limit {
    fn default() -> Limit {
        Limit::of(-2)
    }
}

impl Limit {
    /// The limit that a value of `list-max-listpack-size` stands for: -1 to -5 are 4 to 64 KiB, from 1
    /// on it is a number of elements, 0 is one element.
    pub fn of(option: i64) -> Limit {
        match usize::try_from(option) {
            Ok(_) => Limit::Count(option.clamp(1, COUNT_MAX) as u32),
            Err(_) => Limit::Bytes(SIZES[((-1 - option) as usize).min(SIZES.len() - 1)] as u32),
        }
    }

    /// Whether a listpack of so many bytes and elements is too large.
    #[inline]
    pub(super) fn is_exceeded(self, bytes: usize, count: usize) -> bool {
        match self {
            Limit::Bytes(bytes_max) => bytes > bytes_max as usize,
            Limit::Count(count_max) => bytes > COUNTED_BYTES_MAX || count > count_max as usize,
        }
    }

    /// Whether an element of so many bytes gets a chunk for itself.
    #[inline]
    pub(super) fn is_large(self, element_bytes: usize) -> bool {
        match self {
            Limit::Bytes(bytes_max) => element_bytes > bytes_max as usize,
            Limit::Count(_) => element_bytes > COUNTED_BYTES_MAX,
        }
    }

    /// Whether one more element of `element_bytes` goes into a listpack of so many bytes and elements.
    #[inline]
    pub(super) fn has_room(self, bytes: usize, count: usize, element_bytes: usize) -> bool {
        !self.is_exceeded(bytes + element_bytes + ELEMENT_OVERHEAD_BYTES, count + 1)
    }

    /// Whether a list of one chunk of so many bytes and elements goes back to the packed form; after
    /// a removal it must have at most half of the limit.
    pub(super) fn is_small(self, bytes: usize, count: usize, after_removal: bool) -> bool {
        let share = if after_removal { 2 } else { 1 };
        match self {
            Limit::Bytes(bytes_max) => bytes <= bytes_max as usize / share,
            Limit::Count(count_max) => count <= count_max as usize / share,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_the_option() {
        for (option, limit) in [
            (-1, Limit::Bytes(4096)),
            (-2, Limit::Bytes(8192)),
            (-5, Limit::Bytes(65_536)),
            (-6, Limit::Bytes(65_536)),
            (i64::MIN, Limit::Bytes(65_536)),
            (0, Limit::Count(1)),
            (1, Limit::Count(1)),
            (128, Limit::Count(128)),
            (i64::MAX, Limit::Count(32_767)),
        ] {
            assert_eq!(Limit::of(option), limit, "{option}");
        }
        assert!(Limit::of(-2).has_room(8092, 1, 92) && !Limit::of(-2).has_room(8093, 1, 92));
        assert!(Limit::of(2).has_room(7, 1, 92) && !Limit::of(2).has_room(7, 2, 92));
        assert!(!Limit::of(100).has_room(8093, 2, 92));
        assert!(Limit::of(-2).is_large(8193) && !Limit::of(5).is_large(8192));
        assert!(Limit::of(-2).is_small(4096, 1, true) && !Limit::of(-2).is_small(4097, 1, true));
        assert!(Limit::of(5).is_small(9999, 2, true) && !Limit::of(5).is_small(9, 3, true));
    }
}
