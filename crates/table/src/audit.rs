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
    let (mut len, mut timed) = (0, 0);
    for (group, retired) in inner.retired.iter().enumerate() {
        let arenas = inner.arenas_of(group);
        let mut entries = vec![0; arenas.len()];
        let mut structure = 0;
        for index in inner.shards_of(group) {
            let shard = table.lock(index);
            shard.check();
            len += shard.len();
            timed += shard.len_with_deadline();
            let own = (index >> inner.arena_shift) % arenas.len();
            shard.for_each(&mut |entry| entries[own] += entry.size() - SLOT_BYTES);
            structure += index_bytes(&shard);
        }
        structure += retired.lock().iter().map(|block| Use::Lines.charged(block.bytes)).sum::<usize>();
        for (arena, (own, entries)) in arenas.iter().zip(entries.into_iter().enumerate()) {
            check_arena(arena, entries, if own == 0 { structure } else { 0 });
        }
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
