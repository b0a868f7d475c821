//! What every value that is more than a string has in common: how the keyspace keeps, frees and copies it
//! without knowing what it is.
//!
//! A small collection is a packed run of bytes and lies inside the entry of its key; the keyspace copies those bytes
//! into a spare buffer for an edit and writes them back. A large one is a structure of its own.
//! Invariant: whatever a form shows by OBJECT ENCODING is decided here by Redis' rules, not by where the bytes lie.

use crate::mover::{Mover, Resume};

/// Up to which size a collection keeps its small form, as Redis' options say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackedLimits {
    /// Most elements (fields, members).
    pub entries_max: usize,
    /// Longest element, in bytes.
    pub value_bytes_max: usize,
}

/// Elements that are looked ahead for at a time.
pub const AHEAD_MAX: usize = 16;

/// A value that is more than a string.
pub trait Collection: Sized + Send + Sync + 'static {
    /// What reading operations need: packed bytes, or the structure.
    type View<'a>: Copy;

    /// An empty one in its smallest form; it may use the empty buffer.
    fn new(spare: Vec<u8>) -> Self;

    /// A look at the whole.
    fn view(&self) -> Self::View<'_>;

    /// A look at a packed form as it lies in an entry. `form` and `bytes` are what [`Collection::inline`] answered.
    fn view_inline(form: u8, bytes: &[u8]) -> Self::View<'_>;

    /// A packed form to be edited. O(1): it takes the buffer over.
    fn from_inline(form: u8, bytes: Vec<u8>) -> Self;

    /// The packed form, if that is how it is kept: which of the type's packed forms, from 0 on, and its bytes.
    fn inline(&self) -> Option<(u8, &[u8])>;

    /// Its buffer, for reuse; empty where there is none.
    fn into_spare(self) -> Vec<u8>;

    /// Whether it has no element. Keys do not hold such collections, but for streams.
    fn is_empty(&self) -> bool;

    /// Whether a key may not hold it: for all but streams, whether it is empty.
    fn is_gone(&self) -> bool {
        self.is_empty()
    }

    /// The earliest moment, Unix ms, at which a part of it ends by itself; `u64::MAX` where none does. O(1).
    #[inline]
    fn next_due(view: Self::View<'_>) -> u64 {
        let _ = view;
        u64::MAX
    }

    /// How many elements it has: INFO tells of collections by it. O(1).
    fn items(view: Self::View<'_>) -> usize;

    /// Has `ask` told which lines looking up some elements will read, at most [`AHEAD_MAX`] of them, so that their misses
    /// overlap. It may look at what it was told, and is told of nothing where a look-up reads little.
    #[inline]
    fn look_ahead(&self, elements: &[&[u8]], ask: &impl Fn(*const u8)) {
        let _ = (elements, ask);
    }

    /// What OBJECT ENCODING answers.
    fn encoding(view: Self::View<'_>) -> &'static str;

    /// Memory it holds beside itself, in bytes. O(1).
    fn heap_bytes(&self) -> usize;

    /// About how many blocks of memory freeing it gives back, as Redis estimates it. O(1).
    fn free_effort(&self) -> usize;

    /// Frees about `budget` elements; true when nothing is left but itself.
    fn free_step(&mut self, budget: usize) -> bool;

    /// Moves memory that lies where little else does, from a place on until the mover is spent. Answers where to go on, the start
    /// when it came to the end. A place that is not there any more is the end.
    fn move_blocks(&mut self, mover: &mut Mover<'_>, from: Resume) -> Resume;

    /// A copy that shares nothing with it. O(elements).
    fn duplicate(&self) -> Self;
}
