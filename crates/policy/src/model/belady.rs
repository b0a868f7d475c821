//! Belady's optimum (IBM Systems Journal 1966): the one whose next use is farthest away leaves. Needs the future; with
//! sizes it is no bound any more, but a mark.

use super::{Model, Room, Use};
use std::collections::BinaryHeap;

/// A cache that knows what comes.
#[derive(Debug)]
pub struct Belady {
    capacity: u64,
    used: u64,
    /// Next use and size of each key; size 0 is absent.
    held: Vec<(u32, u32)>,
    /// May hold what is no longer true; checked against `held`.
    farthest: BinaryHeap<(u32, u32)>,
}

impl Belady {
    /// An empty cache.
    #[must_use]
    pub fn new(room: Room) -> Self {
        let held = vec![(0, 0); room.keys as usize];
        Belady { capacity: room.capacity, used: 0, held, farthest: BinaryHeap::new() }
    }

    fn evict(&mut self) {
        while let Some((next, key)) = self.farthest.pop() {
            let (held_next, size) = self.held[key as usize];
            if size > 0 && held_next == next {
                self.remove(key);
                return;
            }
        }
    }
}

impl Model for Belady {
    fn access(&mut self, request: Use) -> bool {
        let (_, size) = self.held[request.key as usize];
        if size > 0 {
            self.held[request.key as usize].0 = request.next;
            self.farthest.push((request.next, request.key));
            return true;
        }
        // What never comes again need not be stored.
        if u64::from(request.size) > self.capacity || request.next == u32::MAX {
            return false;
        }
        self.held[request.key as usize] = (request.next, request.size);
        self.used += u64::from(request.size);
        self.farthest.push((request.next, request.key));
        while self.used > self.capacity {
            self.evict();
        }
        false
    }

    fn remove(&mut self, key: u32) {
        self.used -= u64::from(std::mem::take(&mut self.held[key as usize].1));
    }

    fn size_of(&self, key: u32) -> Option<u32> {
        let (_, size) = self.held[key as usize];
        (size > 0).then_some(size)
    }

    fn used(&self) -> u64 {
        self.used
    }
}
