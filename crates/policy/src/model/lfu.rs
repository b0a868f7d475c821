//! Exact LFU: the one used least often since it was stored leaves; of several, the one used longest ago.

use super::{Model, Room, Use};
use std::collections::BTreeSet;

/// Counts uses of what is held; what left is forgotten.
#[derive(Debug)]
pub struct Lfu {
    capacity: u64,
    used: u64,
    now: u64,
    /// Uses, last use and size of each key; no uses is absent.
    held: Vec<(u32, u64, u32)>,
    order: BTreeSet<(u32, u64, u32)>,
}

impl Lfu {
    /// An empty cache.
    #[must_use]
    pub fn new(room: Room) -> Self {
        Lfu {
            capacity: room.capacity,
            used: 0,
            now: 0,
            held: vec![(0, 0, 0); room.keys as usize],
            order: BTreeSet::new(),
        }
    }
}

impl Model for Lfu {
    fn access(&mut self, request: Use) -> bool {
        self.now += 1;
        let (uses, last, size) = self.held[request.key as usize];
        if uses > 0 {
            self.order.remove(&(uses, last, request.key));
            self.order.insert((uses + 1, self.now, request.key));
            self.held[request.key as usize] = (uses + 1, self.now, size);
            return true;
        }
        if u64::from(request.size) > self.capacity {
            return false;
        }
        while self.used + u64::from(request.size) > self.capacity
            && let Some((_, _, victim)) = self.order.first().copied()
        {
            self.remove(victim);
        }
        self.order.insert((1, self.now, request.key));
        self.held[request.key as usize] = (1, self.now, request.size);
        self.used += u64::from(request.size);
        false
    }

    fn remove(&mut self, key: u32) {
        let (uses, last, size) = self.held[key as usize];
        if uses > 0 {
            self.order.remove(&(uses, last, key));
            self.used -= u64::from(size);
            self.held[key as usize].0 = 0;
        }
    }

    fn size_of(&self, key: u32) -> Option<u32> {
        let (uses, _, size) = self.held[key as usize];
        (uses > 0).then_some(size)
    }

    fn used(&self) -> u64 {
        self.used
    }
}
