//! Size classes: which object size a request is rounded to.
//!
//! Invariant: a class's size is at least the request, a multiple of 8, and for line classes a multiple of 64.
//! Three families: fine ones in steps of 8 up to 512 bytes; coarse ones that divide a span into 31, 30, .. 4 objects
//! without a remainder worth naming; line classes, 64-byte aligned, for segments, which are runs of units, so that what
//! one size leaves serves others. What is larger goes to the global allocator.

/// Bytes of a span: the unit that serves one class.
pub(crate) const SPAN_BYTES: usize = 16 << 10;
/// Largest object the arena serves, bytes.
pub(crate) const OBJECT_BYTES_MAX: usize = 4096;
/// Smallest object, bytes.
pub(crate) const OBJECT_BYTES_MIN: usize = 16;
/// Largest 64-byte aligned object the arena serves, bytes.
pub(crate) const LINES_BYTES_MAX: usize = 2048;

const FINE_BYTES_MAX: usize = 512;
const FINE: usize = (FINE_BYTES_MAX - OBJECT_BYTES_MIN) / 8 + 1;
const COARSE_OBJECTS_MAX: usize = 31;
const COARSE: usize = COARSE_OBJECTS_MAX - SPAN_BYTES / OBJECT_BYTES_MAX + 1;
/// What runs are counted in, bytes: the step of line classes.
pub(crate) const UNIT_BYTES: usize = 128;
/// Longest run, units.
pub(crate) const UNITS_MAX: usize = LINES_BYTES_MAX / UNIT_BYTES;
const LINES: usize = (LINES_BYTES_MAX - FINE_BYTES_MAX) / UNIT_BYTES;

/// Number of classes that slabs serve.
pub(crate) const SLABS: usize = FINE + COARSE;
const CLASSES: usize = SLABS + LINES;

const _: () = assert!(CLASSES < u8::MAX as usize);
const _: () = assert!(SPAN_BYTES / (COARSE_OBJECTS_MAX + 1) <= FINE_BYTES_MAX);

/// A size class, by number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Class(u8);

static SIZES: [u16; CLASSES] = sizes();

const fn sizes() -> [u16; CLASSES] {
    let mut sizes = [0u16; CLASSES];
    let mut class = 0;
    while class < CLASSES {
        let bytes = if class < FINE {
            OBJECT_BYTES_MIN + 8 * class
        } else if class < FINE + COARSE {
            SPAN_BYTES / (COARSE_OBJECTS_MAX - (class - FINE)) / 8 * 8
        } else {
            FINE_BYTES_MAX + UNIT_BYTES * (class - FINE - COARSE + 1)
        };
        sizes[class] = bytes as u16;
        class += 1;
    }
    sizes
}

impl Class {
    /// The class that serves `bytes`; `None` when the global allocator does.
    #[inline]
    pub(crate) const fn of(bytes: usize) -> Option<Self> {
        if bytes <= FINE_BYTES_MAX {
            let steps = bytes.div_ceil(8);
            let least = OBJECT_BYTES_MIN / 8;
            Some(Self(if steps < least { 0 } else { (steps - least) as u8 }))
        } else if bytes <= OBJECT_BYTES_MAX {
            let rounded = bytes.next_multiple_of(8);
            Some(Self((FINE + COARSE_OBJECTS_MAX - SPAN_BYTES / rounded) as u8))
        } else {
            None
        }
    }

    /// The class that serves `bytes` aligned to 64; `None` when the global allocator does.
    #[inline]
    pub(crate) const fn of_lines(bytes: usize) -> Option<Self> {
        if bytes <= FINE_BYTES_MAX {
            Self::of(bytes.next_multiple_of(64))
        } else if bytes <= LINES_BYTES_MAX {
            Some(Self((FINE + COARSE + (bytes - FINE_BYTES_MAX).div_ceil(UNIT_BYTES) - 1) as u8))
        } else {
            None
        }
    }

    /// Bytes of an object of this class.
    #[inline]
    pub(crate) fn bytes(self) -> usize {
        usize::from(SIZES[self.index()])
    }

    /// Units of a run, of a class that is served by runs.
    #[inline]
    pub(crate) fn units(self) -> Option<usize> {
        (self.index() >= SLABS).then(|| self.bytes() / UNIT_BYTES)
    }

    /// Position in tables by class.
    #[inline]
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }

    /// The class at a position.
    pub(crate) const fn at(index: u8) -> Self {
        Self(index)
    }
}

/// Bytes charged for an object of `bytes`: its class's size, or the request rounded to 8 beyond the classes.
#[inline]
pub(crate) fn charged(bytes: usize) -> usize {
    if bytes <= FINE_BYTES_MAX {
        return bytes.next_multiple_of(8).max(OBJECT_BYTES_MIN);
    }
    match Class::of(bytes) {
        Some(class) => class.bytes(),
        None => bytes.next_multiple_of(8),
    }
}

/// Bytes charged for a 64-byte aligned object.
#[inline]
pub(crate) fn charged_lines(bytes: usize) -> usize {
    match Class::of_lines(bytes) {
        Some(class) => class.bytes(),
        None => bytes.next_multiple_of(64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_gets_the_smallest_class_that_holds_it() {
        for bytes in 1..=OBJECT_BYTES_MAX {
            let class = Class::of(bytes).unwrap();
            assert!(class.bytes() >= bytes, "{bytes}");
            let below = class.index().checked_sub(1).map(|i| usize::from(SIZES[i]));
            assert!(below.is_none_or(|below| below < bytes), "{bytes} would fit {below:?}");
            assert!(class.index() < FINE + COARSE);
            assert_eq!(class.bytes() % 8, 0);
        }
        assert_eq!(Class::of(OBJECT_BYTES_MAX + 1), None);
        assert_eq!(charged(86), 88);
        assert_eq!(charged(5000), 5000);
        assert_eq!(charged(5001), 5008);
    }

    #[test]
    fn line_classes_are_multiples_of_a_line() {
        for lines in 1..=LINES_BYTES_MAX / 64 {
            let class = Class::of_lines(lines * 64).unwrap();
            assert!(class.bytes() >= lines * 64 && class.bytes() < lines * 64 + UNIT_BYTES);
            assert_eq!(class.bytes() % 64, 0);
        }
        assert_eq!(charged_lines(2048), 2048);
        assert_eq!(Class::of_lines(LINES_BYTES_MAX + 64), None);
        assert_eq!(charged_lines(2112), 2112);
    }
}
