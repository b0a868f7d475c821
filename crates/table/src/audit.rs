//! The whole-table check: every shard's invariants, and that the accounting equals what is there.

use crate::arena::{Arena, Use};
use crate::directory::{Root, directory_bytes};
use crate::entry::SLOT_BYTES;
use crate::segment::Segment;
use crate::shard::Shard;
use crate::table::Table;
use std::sync::atomic::Ordering::Relaxed;

/// See [`Table::check`].
pub(crate) fn check<B: Send + Sync + 'static>(table: &Table<B>) {
    let inner = &table.inner;
    let per_arena = 1usize << inner.arena_shift;
    let (mut len, mut timed) = (0, 0);
    for (index, arena) in inner.arenas.iter().enumerate() {
        let (mut entries, mut structure) = (0, 0);
        for shard in index * per_arena..(index + 1) * per_arena {
            let shard = table.lock(shard);
            shard.check();
            len += shard.len();
            timed += shard.len_with_deadline();
            shard.for_each(&mut |entry| entries += entry.size() - SLOT_BYTES);
            structure += index_bytes(&shard);
        }
        structure +=
            inner.retired[index].lock().iter().map(|block| Use::Lines.charged(block.bytes)).sum::<usize>();
        check_arena(arena, entries, structure);
    }
    assert_eq!((len, timed), (table.len(), table.len_with_deadline()));
}

fn index_bytes<B: Send + Sync + 'static>(shard: &Shard<'_, B>) -> usize {
    let mut bytes = 0;
    shard.core.for_each_segment(|_, word| {
        if !word.is_vacant() {
            // SAFETY: words in the directory name live segments; the lock is held.
            bytes += unsafe { Segment::held(word) }.check();
        }
        true
    });
    match Root::read(shard.core.header.root.load(Relaxed)) {
        Root::Segment(_) => bytes,
        Root::Directory { depth, .. } => bytes + Use::Lines.charged(directory_bytes(depth)),
    }
}

fn check_arena(arena: &Arena, entries: usize, index: usize) {
    arena.check();
    assert_eq!(arena.stats().entries.load(Relaxed), entries, "entries are miscounted");
    assert_eq!(arena.stats().index.load(Relaxed), index, "the index is miscounted");
}
