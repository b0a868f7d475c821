//! How lists are cut into chunks: `list-max-listpack-size` and `list-compress-depth` in Redis' words and arithmetic.

/// What one element is expected to add to a chunk beside its text.
const ELEMENT_OVERHEAD_BYTES: usize = 8;

/// A chunk limited by a number of elements stays below this size nevertheless.
const COUNTED_BYTES_MAX: usize = 8192;

/// The sizes that -1 to -5 stand for.
const SIZES: [usize; 5] = [4096, 8192, 16_384, 32_768, 65_536];

/// The largest number of elements that can be asked for.
const COUNT_MAX: i64 = 32_767;

/// A limit on chunks, and which of them are kept compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    size: Size,
    /// As it was asked for: -1 to -5 for a size, else a number of elements.
    option: i16,
    /// Chunks at either end that are not compressed; 0: none is.
    depth: u16,
    /// From this length on an element has a chunk of its own; 0: from the size of a chunk on.
    large_bytes_min: u32,
}

/// By size or by number of elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
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
        let size = match usize::try_from(option) {
            Ok(_) => Size::Count(option.clamp(1, COUNT_MAX) as u32),
            Err(_) => Size::Bytes(SIZES[((-1 - option) as usize).min(SIZES.len() - 1)] as u32),
        };
        let option = option.clamp(-(SIZES.len() as i64), COUNT_MAX) as i16;
        Limit { size, option, depth: 0, large_bytes_min: 0 }
    }

    /// The same with a `list-compress-depth`.
    #[must_use]
    pub fn compressed_from(self, depth: u32) -> Limit {
        Limit { depth: depth.min(u32::from(u16::MAX)) as u16, ..self }
    }

    /// The same, but elements of so many bytes have chunks of their own; 0: of those that are larger than a chunk.
    #[must_use]
    pub fn large_from(self, bytes_min: u32) -> Limit {
        Limit { large_bytes_min: bytes_min, ..self }
    }

    /// The value of `list-max-listpack-size` that it is.
    pub fn option(self) -> i16 {
        self.option
    }

    /// How many chunks at either end are not compressed; 0: none is.
    #[inline]
    pub fn depth(self) -> usize {
        usize::from(self.depth)
    }

    /// Takes over what counts for all lists at once, whenever they became large.
    #[inline]
    pub(super) fn follow(&mut self, in_force: Limit) {
        self.large_bytes_min = in_force.large_bytes_min;
    }

    /// Whether a listpack of so many bytes and elements is too large.
    #[inline]
    pub(super) fn is_exceeded(self, bytes: usize, count: usize) -> bool {
        match self.size {
            Size::Bytes(bytes_max) => bytes > bytes_max as usize,
            Size::Count(count_max) => bytes > COUNTED_BYTES_MAX || count > count_max as usize,
        }
    }

    /// Whether an element of so many bytes gets a chunk for itself.
    #[inline]
    pub(super) fn is_large(self, element_bytes: usize) -> bool {
        match self.size {
            _ if self.large_bytes_min > 0 => element_bytes >= self.large_bytes_min as usize,
            Size::Bytes(bytes_max) => element_bytes > bytes_max as usize,
            Size::Count(_) => element_bytes > COUNTED_BYTES_MAX,
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
        match self.size {
            Size::Bytes(bytes_max) => bytes <= bytes_max as usize / share,
            Size::Count(count_max) => count <= count_max as usize / share,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_the_option() {
        for (option, size, told) in [
            (-1, Size::Bytes(4096), -1),
            (-2, Size::Bytes(8192), -2),
            (-5, Size::Bytes(65_536), -5),
            (-6, Size::Bytes(65_536), -5),
            (i64::MIN, Size::Bytes(65_536), -5),
            (0, Size::Count(1), 0),
            (1, Size::Count(1), 1),
            (128, Size::Count(128), 128),
            (i64::MAX, Size::Count(32_767), 32_767),
        ] {
            assert_eq!((Limit::of(option).size, Limit::of(option).option()), (size, told), "{option}");
        }
        assert!(Limit::of(-2).has_room(8092, 1, 92) && !Limit::of(-2).has_room(8093, 1, 92));
        assert!(Limit::of(2).has_room(7, 1, 92) && !Limit::of(2).has_room(7, 2, 92));
        assert!(!Limit::of(100).has_room(8093, 2, 92));
        assert!(Limit::of(-2).is_large(8193) && !Limit::of(5).is_large(8192));
        assert!(Limit::of(-2).is_small(4096, 1, true) && !Limit::of(-2).is_small(4097, 1, true));
        assert!(Limit::of(5).is_small(9999, 2, true) && !Limit::of(5).is_small(9, 3, true));
        let low = Limit::of(-2).large_from(10);
        assert!(low.is_large(10) && !low.is_large(9) && low.has_room(8000, 1, 92));
        assert!(!Limit::of(-2).large_from(100_000).is_large(9000));
        assert_eq!(Limit::of(-2).compressed_from(1 << 20).depth(), 65_535);
    }
}
