//! An entry: header, key and payload in one allocation.
//!
//! ```text
//! word u32 | key length | payload length (inline only) | deadline 0, 6 or 8 bytes | key | payload
//!                                                                                     | pad to 8, boxed payload
//! word: kind 5 bits, boxed 1, deadline form 2, access 24
//! length: 1 byte up to 253; 254 and u16; 255 and u32
//! ```
//! Invariant: the header tells the whole layout, so that whoever has the address can find, size and free everything.
//! Entries are written under their shard's lock; the word is atomic since a hit records its access through `&Entry`.

use crate::arena::charged;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Kinds an entry can have, numbered from 0.
pub const KINDS: u8 = 32;
/// Largest value of the access field: 24 bits.
pub const ACCESS_MAX: u32 = (1 << 24) - 1;

const KIND_MASK: u32 = 0x1f;
const BOXED: u32 = 1 << 5;
const FORM_SHIFT: u32 = 6;
const FORM_MASK: u32 = 3;
const ACCESS_SHIFT: u32 = 8;
const SHORT_MAX: usize = 253;
const MEDIUM: u8 = 254;
const LONG: u8 = 255;
const WORD_BYTES: usize = 4;
/// Bytes of the deadline by form: none, 48 bits, 64 bits.
const FORM_BYTES: [usize; 4] = [0, 6, 8, 0];
/// Bytes charged for the slot that points to an entry.
pub(crate) const SLOT_BYTES: usize = 8;

/// Bytes a length takes.
#[inline]
fn width(len: usize) -> usize {
    if len <= SHORT_MAX {
        1
    } else if len <= usize::from(u16::MAX) {
        3
    } else {
        5
    }
}

/// The form a deadline is stored in.
#[inline]
fn form(deadline: Option<u64>) -> usize {
    match deadline {
        None => 0,
        Some(at) if at >> 48 == 0 => 1,
        Some(_) => 2,
    }
}

/// What decides an entry's layout.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Shape {
    key_len: usize,
    /// `None` when the payload is boxed.
    inline_len: Option<usize>,
    form: usize,
}

impl Shape {
    /// The layout for a key, a payload (its length when inline) and a deadline.
    ///
    /// # Panics
    /// When key or payload reach 4 GiB; the layers above cap both far below.
    #[inline]
    pub(crate) fn new(key_len: usize, inline_len: Option<usize>, deadline: Option<u64>) -> Self {
        let max = u32::MAX as usize;
        assert!(key_len <= max && inline_len.is_none_or(|len| len <= max), "a key or payload of 4 GiB");
        Self { key_len, inline_len, form: form(deadline) }
    }

    #[inline]
    fn deadline_at(&self) -> usize {
        WORD_BYTES + width(self.key_len) + self.inline_len.map_or(0, width)
    }

    #[inline]
    fn key_at(&self) -> usize {
        self.deadline_at() + FORM_BYTES[self.form & 3]
    }

    #[inline]
    fn payload_at(&self) -> usize {
        let end = self.key_at() + self.key_len;
        if self.inline_len.is_some() { end } else { end.next_multiple_of(8) }
    }

    /// Bytes of the payload, if that is inline.
    #[inline]
    pub(crate) fn inline_len(&self) -> Option<usize> {
        self.inline_len
    }

    /// Bytes of the key.
    #[inline]
    pub(crate) fn key_len(&self) -> usize {
        self.key_len
    }

    /// Whether the key has the same place in both layouts.
    #[inline]
    pub(crate) fn same_places(&self, other: &Self) -> bool {
        self.key_at() == other.key_at()
    }

    /// Bytes of the entry before rounding; `boxed_bytes` is the size of a boxed payload.
    #[inline]
    pub(crate) fn bytes(&self, boxed_bytes: usize) -> usize {
        self.payload_at() + self.inline_len.unwrap_or(boxed_bytes)
    }
}

/// What an entry is made of or rewritten with.
#[derive(Clone, Copy)]
pub(crate) struct Content {
    pub(crate) kind: u8,
    pub(crate) access: u32,
    pub(crate) deadline: Option<u64>,
    pub(crate) shape: Shape,
}

impl Content {
    /// Puts the parts together.
    ///
    /// # Panics
    /// When kind or access are out of range, or key or payload reach 4 GiB.
    #[inline]
    pub(crate) fn new(
        kind: u8,
        access: u32,
        deadline: Option<u64>,
        key_len: usize,
        inline_len: Option<usize>,
    ) -> Self {
        assert!(kind < KINDS && access <= ACCESS_MAX, "a kind or access beyond its bits");
        Self { kind, access, deadline, shape: Shape::new(key_len, inline_len, deadline) }
    }
}

/// The address of an entry. All methods need it to point to a live entry, and writing ones need the shard's lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Raw(pub(crate) NonNull<u8>);

impl Raw {
    /// # Safety
    /// The entry is live.
    #[inline]
    unsafe fn word<'a>(self) -> &'a AtomicU32 {
        // SAFETY: an entry begins with its word, is 8-byte aligned, and the word is accessed as an atomic only.
        unsafe { self.0.cast::<AtomicU32>().as_ref() }
    }

    /// # Safety
    /// The entry is live and `at` lies within it.
    #[inline]
    unsafe fn byte(self, at: usize) -> u8 {
        // SAFETY: the caller's promise.
        unsafe { self.0.add(at).read() }
    }

    /// The length stored at `at`, and the bytes it takes.
    ///
    /// # Safety
    /// The entry is live and a length is stored at `at`.
    #[inline]
    unsafe fn length(self, at: usize) -> (usize, usize) {
        // SAFETY: the caller's promise; the escapes are followed by their number.
        unsafe {
            match self.byte(at) {
                MEDIUM => (usize::from(self.0.add(at + 1).cast::<u16>().read_unaligned()), 3),
                LONG => (self.0.add(at + 1).cast::<u32>().read_unaligned() as usize, 5),
                short => (usize::from(short), 1),
            }
        }
    }

    /// # Safety
    /// The entry's memory is there and `at` and the bytes after it lie before the key.
    #[inline]
    unsafe fn set_length(self, at: usize, len: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let place = self.0.add(at);
            match width(len) {
                1 => place.write(len as u8),
                3 => {
                    place.write(MEDIUM);
                    place.add(1).cast::<u16>().write_unaligned(len as u16);
                }
                _ => {
                    place.write(LONG);
                    place.add(1).cast::<u32>().write_unaligned(len as u32);
                }
            }
        }
    }

    /// # Safety
    /// The entry is live.
    #[inline]
    pub(crate) unsafe fn shape(self) -> Shape {
        // SAFETY: the caller's promise; a payload that is not boxed has a length of at least a byte, and what is boxed more.
        unsafe {
            let word = self.word().load(Relaxed);
            let (key_len, len) = (usize::from(self.byte(WORD_BYTES)), usize::from(self.byte(WORD_BYTES + 1)));
            if word & BOXED == 0 && key_len <= SHORT_MAX && len <= SHORT_MAX {
                return Shape {
                    key_len,
                    inline_len: Some(len),
                    form: (word >> FORM_SHIFT & FORM_MASK) as usize,
                };
            }
            let (key_len, key_width) = self.length(WORD_BYTES);
            let inline_len =
                if word & BOXED == 0 { Some(self.length(WORD_BYTES + key_width).0) } else { None };
            Shape { key_len, inline_len, form: (word >> FORM_SHIFT & FORM_MASK) as usize }
        }
    }

    /// Whether the entry's key is `key`.
    ///
    /// # Safety
    /// The entry is live.
    #[inline]
    pub(crate) unsafe fn key_is(self, key: &[u8]) -> bool {
        // SAFETY: the caller's promise; the lengths say how far the key reaches.
        unsafe {
            let (len, key_width) = self.length(WORD_BYTES);
            if len != key.len() {
                return false;
            }
            let word = self.word().load(Relaxed);
            let mut at = WORD_BYTES + key_width + FORM_BYTES[(word >> FORM_SHIFT & FORM_MASK) as usize];
            if word & BOXED == 0 {
                at += match self.byte(WORD_BYTES + key_width) {
                    MEDIUM => 3,
                    LONG => 5,
                    _ => 1,
                };
            }
            equal(self.0.add(at).as_ptr(), key)
        }
    }

    /// # Safety
    /// The entry is live, and stays so and unchanged for `'a`.
    #[inline]
    pub(crate) unsafe fn key<'a>(self) -> &'a [u8] {
        // SAFETY: the caller's promise.
        unsafe {
            let shape = self.shape();
            std::slice::from_raw_parts(self.0.add(shape.key_at()).as_ptr(), shape.key_len)
        }
    }

    /// The payload's place, and its length when it is inline.
    ///
    /// # Safety
    /// The entry is live.
    #[inline]
    pub(crate) unsafe fn payload(self) -> (NonNull<u8>, Option<usize>) {
        // SAFETY: the caller's promise; what precedes key and payload of a short inline entry is told here.
        unsafe {
            let word = self.word().load(Relaxed);
            let (key_len, len) = (usize::from(self.byte(WORD_BYTES)), usize::from(self.byte(WORD_BYTES + 1)));
            if word & BOXED == 0 && key_len <= SHORT_MAX && len <= SHORT_MAX {
                let head = WORD_BYTES + 2 + FORM_BYTES[(word >> FORM_SHIFT & FORM_MASK) as usize];
                return (self.0.add(head + key_len), Some(len));
            }
            let shape = self.shape();
            (self.0.add(shape.payload_at()), shape.inline_len)
        }
    }

    /// # Safety
    /// The entry is live.
    #[inline]
    pub(crate) unsafe fn is_boxed(self) -> bool {
        // SAFETY: the caller's promise.
        unsafe { self.word().load(Relaxed) & BOXED != 0 }
    }

    /// # Safety
    /// The entry is live.
    #[inline]
    pub(crate) unsafe fn kind(self) -> u8 {
        // SAFETY: the caller's promise.
        unsafe { (self.word().load(Relaxed) & KIND_MASK) as u8 }
    }

    /// # Safety
    /// The entry is live.
    #[inline]
    pub(crate) unsafe fn access(self) -> u32 {
        // SAFETY: the caller's promise.
        unsafe { self.word().load(Relaxed) >> ACCESS_SHIFT }
    }

    /// # Safety
    /// The entry is live, and the shard's lock is held.
    #[inline]
    pub(crate) unsafe fn set_access(self, access: u32) {
        debug_assert!(access <= ACCESS_MAX);
        // SAFETY: the caller's promise.
        unsafe {
            let old = self.word().load(Relaxed);
            let new = old & ((1 << ACCESS_SHIFT) - 1) | access << ACCESS_SHIFT;
            if new != old {
                self.word().store(new, Relaxed);
            }
        }
    }

    /// # Safety
    /// The entry is live, and the shard's lock is held.
    #[inline]
    pub(crate) unsafe fn set_kind(self, kind: u8) {
        assert!(kind < KINDS);
        // SAFETY: the caller's promise.
        unsafe {
            let old = self.word().load(Relaxed);
            self.word().store(old & !KIND_MASK | u32::from(kind), Relaxed);
        }
    }

    /// # Safety
    /// The entry is live.
    #[inline]
    pub(crate) unsafe fn deadline(self) -> Option<u64> {
        // SAFETY: the caller's promise; the form says how many bytes are there.
        unsafe {
            if self.word().load(Relaxed) >> FORM_SHIFT & FORM_MASK == 0 {
                return None;
            }
            let shape = self.shape();
            let place = self.0.add(shape.deadline_at());
            // In two reads of fixed size: a copy of so many bytes would be a call.
            let low = u64::from(u32::from_le(place.cast::<u32>().read_unaligned()));
            let high = place.add(4);
            Some(
                low | match shape.form {
                    1 => u64::from(u16::from_le(high.cast::<u16>().read_unaligned())) << 32,
                    _ => u64::from(u32::from_le(high.cast::<u32>().read_unaligned())) << 32,
                },
            )
        }
    }

    /// Writes the parts before the key.
    ///
    /// # Safety
    /// The memory holds at least `content.shape`'s bytes and is the caller's to write; the key is not yet read.
    #[inline]
    pub(crate) unsafe fn write_header(self, content: &Content) {
        let Content { kind, access, deadline, shape } = *content;
        debug_assert!(kind < KINDS && access <= ACCESS_MAX);
        let boxed = if shape.inline_len.is_none() { BOXED } else { 0 };
        let word = u32::from(kind) | boxed | (shape.form as u32) << FORM_SHIFT | access << ACCESS_SHIFT;
        // SAFETY: the caller's promise; all places lie before `key_at`.
        unsafe {
            self.0.cast::<AtomicU32>().write(AtomicU32::new(word));
            self.set_length(WORD_BYTES, shape.key_len);
            if let Some(len) = shape.inline_len {
                self.set_length(WORD_BYTES + width(shape.key_len), len);
            }
            if let Some(at) = deadline {
                let place = self.0.add(shape.deadline_at());
                let bytes = at.to_le_bytes();
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), place.as_ptr(), FORM_BYTES[shape.form & 3]);
            }
        }
    }

    /// Writes the key.
    ///
    /// # Safety
    /// As `write_header`; `key` has the shape's length and lies elsewhere.
    #[inline]
    pub(crate) unsafe fn write_key(self, shape: &Shape, key: &[u8]) {
        debug_assert_eq!(key.len(), shape.key_len);
        // SAFETY: the caller's promise.
        unsafe { std::ptr::copy_nonoverlapping(key.as_ptr(), self.0.add(shape.key_at()).as_ptr(), key.len()) }
    }

    /// The place of the payload in a layout.
    ///
    /// # Safety
    /// The memory holds at least the shape's bytes.
    #[inline]
    pub(crate) unsafe fn payload_place(self, shape: &Shape) -> NonNull<u8> {
        // SAFETY: the caller's promise.
        unsafe { self.0.add(shape.payload_at()) }
    }

    /// Moves key and, if asked, payload from their places in one layout to those in another, within or between entries.
    ///
    /// # Safety
    /// `self` has the layout `old`; `to` has memory for the layout `new`; keys are equally long, and so are payloads if
    /// they move. When `to` is `self`, the header is rewritten afterwards, not before.
    pub(crate) unsafe fn relocate(self, old: &Shape, to: Self, new: &Shape, payload_bytes: Option<usize>) {
        debug_assert_eq!(old.key_len, new.key_len);
        let key = || {
            // SAFETY: both places lie in memory of the layouts' sizes; `copy` tolerates overlap.
            unsafe {
                let (from, to) = (self.0.add(old.key_at()), to.0.add(new.key_at()));
                std::ptr::copy(from.as_ptr(), to.as_ptr(), old.key_len);
            }
        };
        let payload = || {
            if let Some(bytes) = payload_bytes {
                // SAFETY: as above.
                unsafe {
                    let (from, to) = (self.payload_place(old), to.payload_place(new));
                    std::ptr::copy(from.as_ptr(), to.as_ptr(), bytes);
                }
            }
        };
        // Moving upwards within one entry, the payload must leave before the key arrives; downwards the key goes first.
        if new.key_at() > old.key_at() {
            payload();
            key();
        } else {
            key();
            payload();
        }
    }
}

/// Whether the bytes at `at` are `key`.
///
/// # Safety
/// As many bytes as `key` has can be read at `at`.
#[inline]
unsafe fn equal(at: *const u8, key: &[u8]) -> bool {
    // SAFETY: the caller's promise; the words of the middle cases overlap but stay within the length.
    unsafe {
        let len = key.len();
        let own = key.as_ptr();
        let word = |from: *const u8, offset: usize| from.add(offset).cast::<u64>().read_unaligned();
        let differ = |offset: usize| word(at, offset) ^ word(own, offset);
        match len {
            8..=16 => differ(0) | differ(len - 8) == 0,
            17..=32 => differ(0) | differ(8) | differ(len - 16) | differ(len - 8) == 0,
            _ => std::slice::from_raw_parts(at, len) == key,
        }
    }
}

/// A view of an entry, valid while its shard is locked and not changed.
pub struct Entry<'a, B> {
    raw: Raw,
    view: PhantomData<&'a B>,
}

impl<B> Clone for Entry<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B> Copy for Entry<'_, B> {}

/// A payload as a view shows it.
#[derive(Debug, PartialEq, Eq)]
pub enum PayloadRef<'a, B> {
    /// Bytes within the entry.
    Inline(&'a [u8]),
    /// A value of the layer above.
    Boxed(&'a B),
}

/// A payload to store.
#[derive(Debug)]
pub enum Payload<'a, B> {
    /// Bytes to copy into the entry; below 4 GiB.
    Inline(&'a [u8]),
    /// A value of the layer above, moved into the entry.
    Boxed(B),
}

impl<B> Payload<'_, B> {
    /// The length of inline bytes; `None` for a boxed value.
    #[inline]
    pub(crate) fn inline_len(&self) -> Option<usize> {
        match self {
            Payload::Inline(bytes) => Some(bytes.len()),
            Payload::Boxed(_) => None,
        }
    }
}

/// An entry to insert.
#[derive(Debug)]
pub struct NewEntry<'a, B> {
    /// The layer above's type number, below [`KINDS`].
    pub kind: u8,
    /// The layer above's access field, at most [`ACCESS_MAX`].
    pub access: u32,
    /// When the entry is due, Unix time in milliseconds.
    pub deadline: Option<u64>,
    /// What is stored under the key.
    pub payload: Payload<'a, B>,
}

/// What was taken out.
#[derive(Debug)]
pub struct Removed<B> {
    /// The kind it had.
    pub kind: u8,
    /// The deadline it had, Unix milliseconds.
    pub deadline: Option<u64>,
    /// The access field it had.
    pub access: u32,
    /// The bytes it took, as [`Entry::size`] counts.
    pub size: usize,
    /// How long its payload was, if that was inline.
    pub inline_len: Option<usize>,
    /// Its payload, if that was boxed.
    pub boxed: Option<B>,
}

impl<'a, B> Entry<'a, B> {
    /// # Safety
    /// The entry is live with payloads of type `B`, and stays so and unchanged for `'a`, but for its access field.
    #[inline]
    pub(crate) unsafe fn new(raw: Raw) -> Self {
        Self { raw, view: PhantomData }
    }

    /// The key.
    #[inline]
    #[must_use]
    pub fn key(&self) -> &'a [u8] {
        // SAFETY: `new`'s promise.
        unsafe { self.raw.key() }
    }

    /// The type number the layer above gave.
    #[inline]
    #[must_use]
    pub fn kind(&self) -> u8 {
        // SAFETY: `new`'s promise.
        unsafe { self.raw.kind() }
    }

    /// The access field.
    #[inline]
    #[must_use]
    pub fn access(&self) -> u32 {
        // SAFETY: `new`'s promise.
        unsafe { self.raw.access() }
    }

    /// Records an access, at most [`ACCESS_MAX`]. Writes only when the value changes, so hits on hot entries stay reads.
    #[inline]
    pub fn set_access(&self, access: u32) {
        // SAFETY: `new`'s promise; the shard's lock is held, since its guard is borrowed for `'a`.
        unsafe { self.raw.set_access(access & ACCESS_MAX) }
    }

    /// When the entry is due, Unix milliseconds.
    #[inline]
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        // SAFETY: `new`'s promise.
        unsafe { self.raw.deadline() }
    }

    /// The payload.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> PayloadRef<'a, B> {
        // SAFETY: `new`'s promise: the bytes, or the boxed value of type B, are there for `'a`.
        unsafe {
            match self.raw.payload() {
                (place, Some(len)) => PayloadRef::Inline(std::slice::from_raw_parts(place.as_ptr(), len)),
                (place, None) => PayloadRef::Boxed(place.cast::<B>().as_ref()),
            }
        }
    }

    /// Whether the payload is boxed.
    #[inline]
    #[must_use]
    pub fn is_boxed(&self) -> bool {
        // SAFETY: `new`'s promise.
        unsafe { self.raw.is_boxed() }
    }

    /// Bytes the entry takes in the table, rounding and slot included; what a boxed payload points to is not.
    #[inline]
    #[must_use]
    pub fn size(&self) -> usize {
        // SAFETY: `new`'s promise.
        unsafe { size(self.raw, size_of::<B>()) }
    }
}

/// Bytes an entry takes, rounding and slot included.
///
/// # Safety
/// The entry is live.
#[inline]
pub(crate) unsafe fn size(raw: Raw, boxed_bytes: usize) -> usize {
    // SAFETY: the caller's promise; as in `shape`.
    unsafe {
        let word = raw.word().load(Relaxed);
        let (key_len, len) = (usize::from(raw.byte(WORD_BYTES)), usize::from(raw.byte(WORD_BYTES + 1)));
        if word & BOXED == 0 && key_len <= SHORT_MAX && len <= SHORT_MAX {
            let form = (word >> FORM_SHIFT & FORM_MASK) as usize;
            return charged(WORD_BYTES + 2 + FORM_BYTES[form] + key_len + len) + SLOT_BYTES;
        }
        charged(raw.shape().bytes(boxed_bytes)) + SLOT_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lengths() -> impl Strategy<Value = usize> {
        prop_oneof![0usize..40, 250usize..260, 65_530usize..65_540]
    }

    fn deadlines() -> impl Strategy<Value = Option<u64>> {
        prop_oneof![Just(None), (0..1u64 << 48).prop_map(Some), (1u64 << 48..).prop_map(Some)]
    }

    fn bytes(len: usize, seed: u8) -> Vec<u8> {
        (0..len).map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed)).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 128 }))]
        #[test]
        fn an_entry_says_what_was_written(key in lengths(), payload in prop::option::of(lengths()), at in deadlines(), later in deadlines(), kind in 0..KINDS, access in 0..=ACCESS_MAX) {
            let (key, value) = (bytes(key, 3), bytes(payload.unwrap_or(16), 9));
            let shape = Shape::new(key.len(), payload, at);
            let moved = Shape::new(key.len(), payload, later);
            let room = shape.bytes(16).max(moved.bytes(16));
            let mut memory = vec![0xaau64; room.div_ceil(8)];
            let raw = Raw(NonNull::new(memory.as_mut_ptr().cast()).unwrap());
            // SAFETY: the memory is large enough for both layouts and 8-byte aligned.
            unsafe {
                raw.write_header(&Content { kind, access, deadline: at, shape });
                raw.write_key(&shape, &key);
                raw.payload_place(&shape).copy_from_nonoverlapping(NonNull::from(&value[..]).cast(), value.len());
                for (shape, at) in [(shape, at), (moved, later)] {
                    if at == later {
                        let old = raw.shape();
                        raw.relocate(&old, raw, &shape, Some(value.len()));
                        raw.write_header(&Content { kind, access, deadline: later, shape });
                    }
                    prop_assert_eq!(raw.shape(), shape);
                    prop_assert!(raw.key_is(&key));
                    prop_assert!(!raw.key_is(b"other"));
                    prop_assert_eq!(raw.key(), &key[..]);
                    prop_assert_eq!((raw.kind(), raw.access(), raw.deadline()), (kind, access, at));
                    prop_assert_eq!(raw.is_boxed(), payload.is_none());
                    let (place, len) = raw.payload();
                    prop_assert_eq!(len, payload);
                    prop_assert_eq!(std::slice::from_raw_parts(place.as_ptr(), value.len()), &value[..]);
                    raw.set_access(access ^ 1);
                    prop_assert_eq!((raw.access(), raw.kind()), (access ^ 1, kind));
                    raw.set_access(access);
                }
            }
        }

        #[test]
        fn comparing_agrees_with_slices(a in prop::collection::vec(0u8..2, 0..40), flip in any::<prop::sample::Index>()) {
            let mut b = a.clone();
            // SAFETY: both are as long as `a`.
            let same = unsafe { equal(b.as_ptr(), &a) };
            prop_assert!(same);
            if !b.is_empty() {
                let at = flip.index(b.len());
                b[at] ^= 1;
                // SAFETY: as above.
                let same = unsafe { equal(b.as_ptr(), &a) };
                prop_assert!(!same);
            }
        }
    }

    #[test]
    fn a_short_key_and_value_cost_six_bytes() {
        assert_eq!(Shape::new(16, Some(64), None).bytes(16), 16 + 64 + 6);
        assert_eq!(Shape::new(16, Some(64), Some(1_700_000_000_000)).bytes(16), 16 + 64 + 12);
        assert_eq!(Shape::new(16, None, None).bytes(16), 24 + 16);
    }
}
