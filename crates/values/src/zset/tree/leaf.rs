//! Leaves: runs of items side by side, scores apart from references so that a search reads few lines.

use super::Item;
use super::search::{Lead, leading};

/// Items of a leaf. With its length a leaf fills a size class of the allocator (768 bytes) but for 8.
pub(super) const ITEMS_MAX: usize = 63;

/// Below this many items a leaf looks for a neighbour to join.
pub(super) const ITEMS_LOW: usize = ITEMS_MAX / 3;

/// A run of items in order.
#[derive(Clone)]
pub(super) struct Leaf {
    scores: [f64; ITEMS_MAX],
    records: [u32; ITEMS_MAX],
    len: u32,
}

impl Leaf {
    /// A leaf of the first items that `items` gives, as many as fit.
    pub(super) fn of(items: &mut impl Iterator<Item = Item>) -> Box<Leaf> {
        let mut leaf = Box::new(Leaf { scores: [0.0; ITEMS_MAX], records: [0; ITEMS_MAX], len: 0 });
        while leaf.len() < ITEMS_MAX
            && let Some(item) = items.next()
        {
            leaf.insert(leaf.len(), item);
        }
        leaf
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.len() == ITEMS_MAX
    }

    /// The item at `index`; the last one of the leaf beyond the end.
    #[inline]
    pub(super) fn item(&self, index: usize) -> Item {
        let index = index.min(self.len().saturating_sub(1));
        Item { score: self.scores[index], record: self.records[index] }
    }

    /// Has `ask` told its lines.
    pub(super) fn look_ahead(&self, ask: &impl Fn(*const u8)) {
        let leaf = std::ptr::from_ref(self).cast::<u8>();
        (0..size_of::<Leaf>()).step_by(64).for_each(|line| ask(leaf.wrapping_add(line)));
    }

    /// How many items lead, of those for which `lead` holds before it no longer does.
    #[inline]
    pub(super) fn leading(&self, lead: &mut impl Lead) -> usize {
        leading(&self.scores[..self.len()], &self.records, lead)
    }

    /// Puts an item at `index`. The leaf is not full.
    pub(super) fn insert(&mut self, index: usize, item: Item) {
        let len = self.len();
        self.scores.copy_within(index..len, index + 1);
        self.records.copy_within(index..len, index + 1);
        self.scores[index] = item.score;
        self.records[index] = item.record;
        self.len += 1;
    }

    /// Takes the item at `index` out.
    pub(super) fn remove(&mut self, index: usize) -> Item {
        let (item, len) = (self.item(index), self.len());
        self.scores.copy_within(index + 1..len, index);
        self.records.copy_within(index + 1..len, index);
        self.len -= 1;
        item
    }

    /// Gives another item the place at `index`.
    pub(super) fn replace(&mut self, index: usize, item: Item) {
        self.scores[index] = item.score;
        self.records[index] = item.record;
    }

    /// Moves the first `count` items of `next` behind those of this leaf.
    pub(super) fn take_first(&mut self, next: &mut Leaf, count: usize) {
        let (len, rest) = (self.len(), next.len() - count);
        self.scores[len..len + count].copy_from_slice(&next.scores[..count]);
        self.records[len..len + count].copy_from_slice(&next.records[..count]);
        next.scores.copy_within(count..count + rest, 0);
        next.records.copy_within(count..count + rest, 0);
        self.len += count as u32;
        next.len = rest as u32;
    }

    /// Moves the last `count` items before those of `next`.
    pub(super) fn give_last(&mut self, next: &mut Leaf, count: usize) {
        let (rest, len) = (self.len() - count, next.len());
        next.scores.copy_within(..len, count);
        next.records.copy_within(..len, count);
        next.scores[..count].copy_from_slice(&self.scores[rest..rest + count]);
        next.records[..count].copy_from_slice(&self.records[rest..rest + count]);
        next.len += count as u32;
        self.len = rest as u32;
    }
}
