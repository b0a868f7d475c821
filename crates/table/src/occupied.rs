//! An entry found or just inserted, to be changed in place: the search is not repeated.
//!
//! Invariant: the position stays valid because the shard is borrowed exclusively as long as the value lives.

use crate::arena::Use;
use crate::entry::{Content, Entry, Payload, Raw, Removed, Shape};
use crate::segment::{Segment, SegmentRef};
use crate::shard::{Shard, write_payload};

/// What to do with the deadline when an entry's value is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadlineChange {
    /// Leave it as it is.
    Keep,
    /// Set or remove it; Unix ms.
    Set(Option<u64>),
}

/// An entry of a locked shard, with the right to change it.
pub struct Occupied<'s, 't, B> {
    shard: &'s mut Shard<'t, B>,
    hash: u64,
    word: SegmentRef,
    index: usize,
    raw: Raw,
}

impl<'s, 't, B: Send + Sync + 'static> Occupied<'s, 't, B> {
    #[inline]
    pub(crate) fn new(
        shard: &'s mut Shard<'t, B>,
        hash: u64,
        word: SegmentRef,
        index: usize,
        raw: Raw,
    ) -> Self {
        // SAFETY: callers pass the word and an index of a segment they just found in this shard.
        debug_assert_eq!(unsafe { Segment::held(word) }.get(index).entry(), raw.0);
        Self { shard, hash, word, index, raw }
    }

    #[inline]
    fn segment(&self) -> Segment<'_> {
        // SAFETY: the segment was live when found, and the shard is borrowed exclusively since.
        unsafe { Segment::held(self.word) }
    }

    /// A view of the entry.
    #[inline]
    #[must_use]
    pub fn view(&self) -> Entry<'_, B> {
        // SAFETY: the entry is live, of payload type B, and changed only through `&mut self`.
        unsafe { Entry::new(self.raw) }
    }

    /// The view, for as long as the shard was borrowed.
    #[inline]
    #[must_use]
    pub fn into_view(self) -> Entry<'s, B> {
        // SAFETY: the shard stays exclusively borrowed for `'s`, and this value is gone.
        unsafe { Entry::new(self.raw) }
    }

    /// The inline payload, to change its bytes but not their number.
    #[inline]
    #[must_use]
    pub fn inline_mut(&mut self) -> Option<&mut [u8]> {
        // SAFETY: the payload's bytes belong to the entry, which is borrowed exclusively through the shard.
        unsafe {
            let (place, len) = self.raw.payload();
            len.map(|len| std::slice::from_raw_parts_mut(place.as_ptr(), len))
        }
    }

    /// The boxed payload.
    #[inline]
    #[must_use]
    pub fn boxed_mut(&mut self) -> Option<&mut B> {
        // SAFETY: as `inline_mut`; a boxed payload is of type B.
        unsafe {
            let (place, len) = self.raw.payload();
            if len.is_none() { Some(place.cast::<B>().as_mut()) } else { None }
        }
    }

    /// The boxed payload, for as long as the shard was borrowed.
    #[inline]
    #[must_use]
    pub fn into_boxed_mut(self) -> Option<&'s mut B> {
        // SAFETY: as `boxed_mut`; the shard stays exclusively borrowed for `'s`, and this value is gone.
        unsafe {
            let (place, len) = self.raw.payload();
            if len.is_none() { Some(place.cast::<B>().as_mut()) } else { None }
        }
    }

    /// Changes the kind, below [`crate::KINDS`].
    #[inline]
    pub fn set_kind(&mut self, kind: u8) {
        // SAFETY: the entry is live and the lock held.
        unsafe { self.raw.set_kind(kind) }
    }

    /// Sets or removes the deadline, Unix ms. Moves the entry only when its size class changes.
    pub fn set_deadline(&mut self, deadline: Option<u64>) {
        // SAFETY: the entry is live and the lock held; key and payload keep their lengths.
        unsafe {
            let (old, before) = (self.raw.shape(), self.raw.deadline());
            if before == deadline {
                return;
            }
            let (_, inline_len) = self.raw.payload();
            let (kind, access) = (self.raw.kind(), self.raw.access());
            let content = Content::new(kind, access, deadline, old.key_len(), inline_len);
            let new = content.shape;
            let from = self.raw;
            let to = self.room_for(&old, &new);
            from.relocate(&old, to, &new, Some(inline_len.unwrap_or(size_of::<B>())));
            to.write_header(&content);
            self.adopt(to, from, &old);
            self.note_deadline(before, deadline);
        }
    }

    /// Replaces the value: kind, payload and, if told, the deadline. The access field stays.
    /// Within the same size class this is a rewrite in place. Returns what was there.
    #[inline]
    pub fn replace(&mut self, kind: u8, payload: Payload<'_, B>, change: DeadlineChange) -> Removed<B> {
        // SAFETY: the entry is live and the lock held; `unpack` moves the old payload out before it is overwritten.
        unsafe {
            let old = self.raw.shape();
            let deadline = match change {
                DeadlineChange::Keep => self.raw.deadline(),
                DeadlineChange::Set(deadline) => deadline,
            };
            let inline_len = payload.inline_len();
            // Whatever can panic comes before the old payload is moved out.
            let content = Content::new(kind, self.raw.access(), deadline, old.key_len(), inline_len);
            let new = content.shape;
            let removed = self.shard.unpack(self.raw, &old);
            let from = self.raw;
            let to = self.room_for(&old, &new);
            if to != from || !old.same_places(&new) {
                from.relocate(&old, to, &new, None);
            }
            to.write_header(&content);
            write_payload(to.payload_place(&new), payload);
            self.shard.core.count_outside(inline_len.is_none(), false);
            self.adopt(to, from, &old);
            if removed.deadline != deadline {
                self.note_deadline(removed.deadline, deadline);
            }
            removed
        }
    }

    /// Memory for the new layout: the entry's own when the class is the same.
    #[inline]
    fn room_for(&self, old: &Shape, new: &Shape) -> Raw {
        let (old, new) = (old.bytes(size_of::<B>()), new.bytes(size_of::<B>()));
        if Use::Entry.charged(old) == Use::Entry.charged(new) {
            self.raw
        } else {
            self.shard.core.alloc_entry(new)
        }
    }

    /// Points the slot to where the entry is now, and frees where it was.
    ///
    /// # Safety
    /// `from` was this entry's memory in the layout `old`, and nothing in it is needed any more.
    #[inline]
    unsafe fn adopt(&mut self, to: Raw, from: Raw, old: &Shape) {
        if to == from {
            return;
        }
        let segment = self.segment();
        segment.set(self.index, segment.get(self.index).with_entry(to.0));
        self.raw = to;
        let core = &self.shard.core;
        let bytes = old.bytes(size_of::<B>());
        core.count_outside(false, Use::Entry.is_outside(bytes));
        // SAFETY: allocated with the size of its old layout; the caller's promise.
        unsafe { core.arena().free(from.0, bytes, Use::Entry) };
    }

    fn note_deadline(&self, before: Option<u64>, after: Option<u64>) {
        let core = &self.shard.core;
        self.segment().set_deadline(core.index_arena(), self.index, after);
        core.count_timed(before.is_some(), after);
    }

    /// Removes the entry.
    #[inline]
    pub fn remove(self) -> Removed<B> {
        let (core, segment) = (&self.shard.core, self.segment());
        // SAFETY: the entry is live.
        let shape = unsafe { self.raw.shape() };
        let raw = core.displace(segment, self.index, true);
        // SAFETY: the entry is out of the table; its payload is moved out, then its memory freed.
        let removed = unsafe { self.shard.unpack(raw, &shape) };
        core.free_entry(raw, shape.bytes(size_of::<B>()));
        core.settle_segment(segment, self.hash);
        removed
    }
}
