//! Sets of integers in one buffer: sorted, all of one width.
//!
//! The first byte is the width, 2, 4 or 8; then come the integers, little-endian, ascending. The width
//! is that of the widest integer that was ever in the set, as in Redis, whose payloads show it. An
//! empty buffer is an empty set of the least width.
//! Invariant: ascending without repetition, and the bytes are a multiple of the width.

/// Widths of integers in bytes.
const WIDTHS: [usize; 3] = [2, 4, 8];

/// Bytes in front of the integers.
const HEADER_BYTES: usize = 1;

/// A view of sorted integers.
#[derive(Debug, Clone, Copy)]
pub struct Ints<'a> {
    width: usize,
    bytes: &'a [u8],
}

/// Sorted integers that are owned and changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IntsBuf(Vec<u8>);

impl IntsBuf {
    /// Moves its memory if that lies badly.
    pub(super) fn move_blocks(&mut self, mover: &mut crate::mover::Mover<'_>) {
        mover.vec(&mut self.0);
    }
}

/// The least width that holds an integer.
fn width_of(value: i64) -> usize {
    if i16::try_from(value).is_ok() {
        2
    } else if i32::try_from(value).is_ok() {
        4
    } else {
        8
    }
}

impl<'a> Ints<'a> {
    /// A view of bytes that [`IntsBuf`] wrote.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Ints<'a> {
        match bytes.split_first() {
            Some((&width, bytes)) => Ints { width: usize::from(width), bytes },
            None => Ints { width: 2, bytes: &[] },
        }
    }

    /// Integers of a foreign payload: `None` unless they are ascending and of a width there is.
    pub fn checked(width: usize, bytes: &'a [u8]) -> Option<Ints<'a>> {
        if !WIDTHS.contains(&width) || !bytes.len().is_multiple_of(width) {
            return None;
        }
        let ints = Ints { width, bytes };
        ints.iter().is_sorted_by(|one, next| one < next).then_some(ints)
    }

    /// How many there are.
    #[inline]
    pub fn len(self) -> usize {
        self.bytes.len() / self.width
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes of each integer.
    pub fn width(self) -> usize {
        self.width
    }

    /// The integers' bytes.
    pub fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// The integer at a position.
    #[inline]
    pub fn get(self, at: usize) -> Option<i64> {
        let from = at.checked_mul(self.width)?;
        let bytes = self.bytes.get(from..from.checked_add(self.width)?)?;
        Some(read(bytes))
    }

    /// All integers, ascending.
    pub fn iter(self) -> impl ExactSizeIterator<Item = i64> + Clone + 'a {
        self.bytes.chunks_exact(self.width).map(read)
    }

    /// Where an integer is, or where it would be.
    #[inline]
    pub fn search(self, value: i64) -> Result<usize, usize> {
        match self.width {
            2 => search(self.bytes.as_chunks().0, |bytes| i64::from(i16::from_le_bytes(bytes)), value),
            4 => search(self.bytes.as_chunks().0, |bytes| i64::from(i32::from_le_bytes(bytes)), value),
            _ => search(self.bytes.as_chunks().0, i64::from_le_bytes, value),
        }
    }

    /// Whether an integer is there.
    #[inline]
    pub fn contains(self, value: i64) -> bool {
        width_of(value) <= self.width && self.search(value).is_ok()
    }
}

#[inline]
fn search<const N: usize>(
    chunks: &[[u8; N]],
    read: impl Fn([u8; N]) -> i64,
    value: i64,
) -> Result<usize, usize> {
    chunks.binary_search_by(|&bytes| read(bytes).cmp(&value))
}

#[inline]
fn read(bytes: &[u8]) -> i64 {
    match *bytes {
        [a, b] => i16::from_le_bytes([a, b]).into(),
        [a, b, c, d] => i32::from_le_bytes([a, b, c, d]).into(),
        [a, b, c, d, e, f, g, h] => i64::from_le_bytes([a, b, c, d, e, f, g, h]),
        _ => 0,
    }
}

impl IntsBuf {
    /// The integers in bytes that [`IntsBuf::into_vec`] gave.
    #[inline]
    pub fn from_vec(bytes: Vec<u8>) -> IntsBuf {
        IntsBuf(bytes)
    }

    /// A copy of integers.
    pub fn copy_of(ints: Ints<'_>) -> IntsBuf {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + ints.bytes.len());
        bytes.push(ints.width as u8);
        bytes.extend_from_slice(ints.bytes);
        IntsBuf(bytes)
    }

    /// The bytes.
    #[inline]
    pub fn into_vec(self) -> Vec<u8> {
        self.0
    }

    /// The bytes.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// For reading.
    #[inline]
    pub fn view(&self) -> Ints<'_> {
        Ints::new(&self.0)
    }

    /// Bytes of memory that the buffer holds.
    pub fn heap_bytes(&self) -> usize {
        self.0.capacity()
    }

    /// Adds an integer; false if it was there.
    pub fn insert(&mut self, value: i64) -> bool {
        if self.0.is_empty() {
            self.0.push(2);
        }
        let width = width_of(value);
        if width > self.view().width {
            // What fits no place of the old width is less or greater than all.
            let at = if value < 0 { 0 } else { self.view().len() };
            self.widen(width);
            self.insert_at(at, value);
            return true;
        }
        match self.view().search(value) {
            Ok(_) => false,
            Err(at) => {
                self.insert_at(at, value);
                true
            }
        }
    }

    /// Takes out an integer; false if it was not there.
    pub fn remove(&mut self, value: i64) -> bool {
        let Ok(at) = self.view().search(value) else { return false };
        self.remove_at(at);
        true
    }

    /// Takes out the integer at a position.
    pub fn remove_at(&mut self, at: usize) -> Option<i64> {
        let value = self.view().get(at)?;
        let width = self.view().width;
        let from = HEADER_BYTES + at * width;
        self.0.drain(from..from + width);
        Some(value)
    }

    fn insert_at(&mut self, at: usize, value: i64) {
        let width = self.view().width;
        let from = HEADER_BYTES + at * width;
        let end = self.0.len();
        self.0.resize(end + width, 0);
        self.0.copy_within(from..end, from + width);
        self.0[from..from + width].copy_from_slice(&value.to_le_bytes()[..width]);
    }

    fn widen(&mut self, width: usize) {
        let view = self.view();
        let mut wide = Vec::with_capacity(HEADER_BYTES + (view.len() + 1) * width);
        wide.push(width as u8);
        for value in view.iter() {
            wide.extend_from_slice(&value.to_le_bytes()[..width]);
        }
        // The old buffer stays, as it may be a spare one with room.
        self.0.clear();
        self.0.extend_from_slice(&wide);
    }

    /// Panics if an invariant does not hold.
    pub fn check(&self) {
        let view = self.view();
        assert!(Ints::checked(view.width, view.bytes).is_some(), "integers are not as they must be");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn value() -> impl Strategy<Value = i64> {
        prop_oneof![
            6 => -50_i64..50,
            2 => any::<i16>().prop_map(i64::from),
            1 => any::<i32>().prop_map(i64::from),
            1 => any::<i64>(),
        ]
    }

    proptest! {
        #[test]
        fn it_is_a_sorted_set(steps in proptest::collection::vec((0..4_u8, value()), 0..120)) {
            let (mut ints, mut model, mut widest) = (IntsBuf::default(), BTreeSet::new(), 2);
            for (step, value) in steps {
                if step == 0 {
                    prop_assert_eq!(ints.remove(value), model.remove(&value));
                } else {
                    widest = widest.max(width_of(value));
                    prop_assert_eq!(ints.insert(value), model.insert(value));
                }
                ints.check();
            }
            prop_assert!(ints.view().iter().eq(model.iter().copied()));
            prop_assert_eq!(ints.view().len(), model.len());
            prop_assert_eq!(ints.view().width(), widest);
            for value in [i64::MIN, -40_000, -1, 0, 7, 40_000, i64::MAX] {
                prop_assert_eq!(ints.view().contains(value), model.contains(&value));
            }
            for (at, &value) in model.iter().enumerate() {
                prop_assert_eq!(ints.view().get(at), Some(value));
            }
        }
    }

    #[test]
    fn foreign_integers_must_ascend() {
        assert!(Ints::checked(2, &[1, 0, 2, 0]).is_some());
        assert!(Ints::checked(2, &[2, 0, 1, 0]).is_none());
        assert!(Ints::checked(2, &[1, 0, 1, 0]).is_none());
        assert!(Ints::checked(2, &[1, 0, 1]).is_none());
        assert!(Ints::checked(3, &[1, 0, 1]).is_none());
        assert!(Ints::checked(0, &[]).is_none());
    }
}
