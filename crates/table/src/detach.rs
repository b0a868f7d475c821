//! Contents taken out of a table, to be freed later and in slices.
//!
//! Invariant: nothing here is reachable from a table any more, but prefetchers that entered before may still read
//! directories and segments; so entries can be dropped at once, and chunks and index blocks only behind the horizon.

use crate::arena::{Arena, Chunks, Use};
use crate::bucket::SLOTS;
use crate::directory::{Root, directory_bytes};
use crate::entry::{Entry, Raw};
use crate::epoch::Epochs;
use crate::segment::{Segment, SegmentRef};
use crate::table::{Inner, Retired};
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Least budget of a slice: below it no bucket could be freed.
const BUDGET_MIN: usize = 64;
/// What unmapping a chunk costs, in entries dropped.
const CHUNK_COST: usize = 128;

/// The former contents of a table. Dropping it frees them: it walks the entries only where there are boxed payloads or
/// large entries, else it unmaps. [`Detached::free_some`] does so in slices.
pub struct Detached<B: Send + Sync + 'static> {
    groups: Vec<Group>,
    epochs: Arc<Epochs>,
    /// Chunks and blocks that prefetchers may be reading until everybody has passed the stamp.
    unlinked: Unlinked,
    stamp: u64,
    len: usize,
    payloads: PhantomData<B>,
}

/// Who is shown entries before they are freed.
type Show<'s, 'f, B> = Option<&'s mut (dyn FnMut(&Entry<'_, B>) + 'f)>;

/// What a group of shards held.
struct Group {
    shards: Vec<Taken>,
    chunks: Vec<Chunks>,
}

/// What a shard held.
struct Taken {
    root: u64,
    /// Something here is not freed by unmapping the chunks.
    walk: bool,
    /// Where the walk goes on.
    word: usize,
    slot: usize,
}

/// Memory to free behind the horizon.
#[derive(Default)]
struct Unlinked {
    chunks: Vec<Chunks>,
    blocks: Vec<Retired>,
}

impl Unlinked {
    /// Frees up to `budget` worth; what is left of the budget.
    ///
    /// # Safety
    /// The horizon has passed.
    unsafe fn free(&mut self, mut budget: usize) -> usize {
        while budget > 0
            && let Some(block) = self.blocks.pop()
        {
            // Inside the chunks it goes with them.
            if Use::Lines.is_outside(block.bytes) {
                // SAFETY: allocated with this size, by an arena that no longer counts it; the caller's promise.
                unsafe { Arena::free_uncounted(block.block, block.bytes, Use::Lines) };
            }
            budget -= 1;
        }
        while budget > 0
            && let Some(chunks) = self.chunks.last_mut()
        {
            if !chunks.free_one() {
                self.chunks.pop();
            }
            budget = budget.saturating_sub(CHUNK_COST);
        }
        budget
    }

    fn is_empty(&self) -> bool {
        self.blocks.is_empty() && self.chunks.is_empty()
    }
}

impl<B: Send + Sync + 'static> Detached<B> {
    pub(crate) fn take(inner: &Inner) -> Self {
        let mut groups = Vec::with_capacity(inner.retired.len());
        let mut unlinked = Unlinked::default();
        let mut len = 0;
        for (group, retired) in inner.retired.iter().enumerate() {
            let headers = &inner.shards[inner.shards_of(group)];
            // All of a group's shards at once, in ascending order: nobody allocates from its arenas meanwhile. What one
            // of them owes has no object any more.
            for header in headers {
                header.lock(&inner.owner);
            }
            let mut shards = Vec::with_capacity(headers.len());
            for header in headers {
                // Release: as every store to the root.
                let root = header.root.swap(0, Ordering::AcqRel);
                len += header.len.swap(0, Ordering::Relaxed) as usize;
                header.timed.store(0, Ordering::Relaxed);
                header.set_due(u64::MAX);
                let walk = header.outside.swap(0, Ordering::Relaxed) > 0;
                if root != 0 {
                    shards.push(Taken { root, walk, word: 0, slot: 0 });
                }
            }
            let mut retired = retired.lock();
            unlinked.blocks.append(&mut retired);
            groups.push(Group { shards, chunks: inner.arenas_of(group).iter().map(Arena::detach).collect() });
            drop(retired);
            for header in headers {
                // SAFETY: locked above, by this thread.
                unsafe { header.unlock() };
            }
        }
        let epochs = Arc::clone(&inner.epochs);
        let stamp = epochs.stamp();
        Self { groups, epochs, unlinked, stamp, len, payloads: PhantomData }
    }

    /// Entries that were taken.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Frees a slice: about `budget` entries, or a chunk for each 128. Returns true when everything is freed; false also
    /// when a participant that is still in an old turn holds the rest up.
    pub fn free_some(&mut self, budget: usize) -> bool {
        self.free_slice(budget, None)
    }

    /// As [`Detached::free_some`], showing every entry before it is freed. To be called from the beginning on, until
    /// [`Detached::is_walked`].
    pub fn free_some_shown(&mut self, budget: usize, show: &mut dyn FnMut(&Entry<'_, B>)) -> bool {
        self.free_slice(budget, Some(show))
    }

    /// Whether all entries are freed, though not all the memory that they lay in.
    #[must_use]
    pub fn is_walked(&self) -> bool {
        self.groups.is_empty()
    }

    fn free_slice(&mut self, budget: usize, show: Show<'_, '_, B>) -> bool {
        let left = self.free_entries(budget.max(BUDGET_MIN), show);
        if left == 0 || self.stamp >= self.epochs.horizon() {
            return self.groups.is_empty() && self.unlinked.is_empty();
        }
        // SAFETY: everything was unlinked before the stamp was taken, and the horizon is above it.
        unsafe { self.unlinked.free(left) };
        self.unlinked.is_empty()
    }

    /// Drops entries; what is left of the budget, 0 unless all are dropped.
    fn free_entries(&mut self, mut budget: usize, mut show: Show<'_, '_, B>) -> usize {
        while let Some(group) = self.groups.last_mut() {
            while let Some(shard) = group.shards.last_mut() {
                budget = shard.free::<B>(&mut self.unlinked.blocks, budget, &mut show);
                if budget == 0 {
                    return 0;
                }
                group.shards.pop();
            }
            if let Some(group) = self.groups.pop() {
                self.unlinked.chunks.extend(group.chunks);
            }
        }
        budget
    }
}

impl<B: Send + Sync + 'static> Drop for Detached<B> {
    fn drop(&mut self) {
        self.free_entries(usize::MAX, None);
        let mut unlinked = std::mem::take(&mut self.unlinked);
        // SAFETY: the epochs run this behind the horizon.
        let free = move || unsafe {
            unlinked.free(usize::MAX);
        };
        self.epochs.defer(Box::new(free));
    }
}

impl Taken {
    /// Frees what unmapping would not; what is left of the budget, 0 unless the shard is done.
    fn free<B: Send + Sync + 'static>(
        &mut self,
        blocks: &mut Vec<Retired>,
        mut budget: usize,
        show: &mut Show<'_, '_, B>,
    ) -> usize {
        if !self.walk && show.is_none() {
            return budget - 1;
        }
        let root = Root::read(self.root);
        let words = match root {
            Root::Segment(_) => 1,
            Root::Directory { depth, .. } => 1 << depth,
        };
        while self.word < words {
            let word = match root {
                Root::Segment(word) => word,
                Root::Directory { words, .. } => {
                    // SAFETY: below the directory's length; it is freed only after this walk.
                    let word = unsafe { &*words.add(self.word) };
                    SegmentRef(word.load(Ordering::Relaxed))
                }
            };
            if !word.is_vacant() {
                // SAFETY: the segment is this value's alone, but for prefetchers: as good as locked.
                let segment = unsafe { Segment::held(word) };
                budget = self.free_segment::<B>(segment, budget, show);
                if budget == 0 {
                    return 0;
                }
                let (block, bytes) = segment.strip_uncounted();
                blocks.push(Retired { block, bytes, stamp: 0 });
            }
            self.slot = 0;
            self.word += match root {
                Root::Segment(_) => 1,
                Root::Directory { depth, .. } => 1 << (depth - word.depth()),
            };
            budget = budget.saturating_sub(1).max(1);
        }
        if let Root::Directory { words, depth } = root
            && let Some(block) = NonNull::new(words.cast_mut().cast::<u8>())
        {
            blocks.push(Retired { block, bytes: directory_bytes(depth), stamp: 0 });
        }
        budget
    }

    /// Drops the entries of a segment; what is left of the budget, 0 unless all are dropped.
    fn free_segment<B: Send + Sync + 'static>(
        &mut self,
        segment: Segment<'_>,
        mut budget: usize,
        show: &mut Show<'_, '_, B>,
    ) -> usize {
        let slots = segment.slots() + segment.overflow_len();
        while self.slot < slots {
            if self.slot.is_multiple_of(SLOTS) {
                if budget <= SLOTS {
                    return 0;
                }
                budget -= SLOTS;
            }
            let slot = segment.get(self.slot);
            self.slot += 1;
            if slot.is_empty() {
                continue;
            }
            let raw = Raw(slot.entry());
            if let Some(show) = show {
                // SAFETY: the entry is live, of payload type B, and this value's alone; nobody changes it meanwhile.
                show(&unsafe { Entry::new(raw) });
            }
            // SAFETY: the entry is live and this value's alone; each is visited once.
            unsafe {
                let bytes = raw.shape().bytes(size_of::<B>());
                let boxed = raw.is_boxed().then(|| raw.payload().0.cast::<B>().read());
                if Use::Entry.is_outside(bytes) {
                    Arena::free_uncounted(raw.0, bytes, Use::Entry);
                }
                drop(boxed);
            }
        }
        budget
    }
}

#[cfg(test)]
const _: fn() = || {
    fn is_send<T: Send>() {}
    is_send::<Detached<Box<u8>>>();
};
