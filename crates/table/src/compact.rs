//! Compaction: moves entries out of sparsely used spans, so that these get empty and can be given back.
//!
//! Invariant: an entry has one slot that points to it, and entries are read under their shard's lock only, so an entry
//! moves by a copy and a store to its slot. Prefetchers may still ask for the line where it was, and never read it.
//! Work is done in steps, and between two of them the shard may change: an entry that changes its place meanwhile may be
//! passed over or met twice, which does no harm.

use crate::arena::Use;
use crate::bucket::Slot;
use crate::entry::Raw;
use crate::segment::Segment;
use crate::shard::{Core, Shard};

/// Where a walk over the entries of a shard goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The lowest hash of the segment.
    hash: u64,
    /// The slot in it.
    slot: usize,
}

/// What a step of compaction does after a boxed payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It goes on.
    On,
    /// It ends, and the next one goes on behind this entry.
    Pause,
    /// It ends, and the next one begins with this entry again.
    Again,
}

/// What a step of compaction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Entries that were moved, and those that lay well.
    pub moved: usize,
    /// See above.
    pub stayed: usize,
    /// Bytes of the entries that were moved.
    pub bytes: usize,
}

impl<B: Send + Sync + 'static> Shard<'_, B> {
    /// One step of moving the shard's entries together: looks at the next `slots` slots from `position` on, the shard's
    /// first where that is `None`, and answers where to go on, `None` at the end. `visit` is shown each boxed payload and
    /// says what is next.
    pub fn compact(
        &mut self,
        position: Option<Position>,
        slots: usize,
        done: &mut Compacted,
        visit: &mut dyn FnMut(&mut B) -> Next,
    ) -> Option<Position> {
        let mut at = position.unwrap_or(Position { hash: self.core.start(), slot: 0 });
        let mut left = slots.max(1);
        while left > 0 {
            let Some(segment) = self.core.segment(at.hash) else {
                at = Position { hash: self.core.following(at.hash)?, slot: 0 };
                left -= 1;
                continue;
            };
            let end = segment.slots() + segment.overflow_len();
            let mut next = Next::On;
            while at.slot < end && left > 0 && next == Next::On {
                let slot = segment.get(at.slot);
                if !slot.is_empty() {
                    next = self.settle_entry(segment, at.slot, slot, done, visit);
                }
                at.slot += usize::from(next != Next::Again);
                left -= 1;
            }
            if at.slot >= end {
                at = Position { hash: self.core.following(at.hash)?, slot: 0 };
            }
            if next != Next::On {
                break;
            }
        }
        Some(at)
    }

    /// Moves an entry if it lies badly, and shows its boxed payload.
    fn settle_entry(
        &self,
        segment: Segment<'_>,
        index: usize,
        slot: Slot,
        done: &mut Compacted,
        visit: &mut dyn FnMut(&mut B) -> Next,
    ) -> Next {
        let core = &self.core;
        let raw = move_entry(core, segment, index, slot, done);
        // SAFETY: used slots point to live entries, and the shard is borrowed exclusively by the caller; a boxed payload is of
        // type B.
        unsafe {
            let (place, inline_len) = raw.payload();
            if inline_len.is_some() { Next::On } else { visit(place.cast::<B>().as_mut()) }
        }
    }
}

/// Moves the entry of a slot to a better place, if there is one; answers where it is then.
fn move_entry(core: &Core<'_>, segment: Segment<'_>, index: usize, slot: Slot, done: &mut Compacted) -> Raw {
    let raw = Raw(slot.entry());
    let bytes = core.entry_bytes(raw);
    // SAFETY: used slots point to live entries of the shard's arena, allocated with the size that their headers tell.
    let Some(place) = (unsafe { core.arena().better_place(raw.0, bytes, Use::Entry) }) else {
        done.stayed += 1;
        return raw;
    };
    // SAFETY: the place is as large as the entry and nobody else's. The shard's lock is held, so nobody reads or writes the
    // entry meanwhile; its payload, a boxed one too, is moved and not dropped. From the store on nothing points to where it
    // was, and memory of entries can be freed at once, since who reads without the lock only prefetches it.
    unsafe {
        place.copy_from_nonoverlapping(raw.0, bytes);
        segment.set(index, slot.with_entry(place));
        core.arena().free(raw.0, bytes, Use::Entry);
    }
    done.moved += 1;
    done.bytes += bytes;
    Raw(place)
}
