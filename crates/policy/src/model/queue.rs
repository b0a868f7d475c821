//! Exact LRU, MRU, FIFO and random: one list, and who leaves from which end.

use super::list::Lists;
use super::{Model, Room, Use};

/// Who leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The one used longest ago (Mattson et al. 1970).
    Lru,
    /// The one used last.
    Mru,
    /// The one stored longest ago.
    Fifo,
}

/// A cache that is one list.
#[derive(Debug)]
pub struct Queue {
    order: Order,
    capacity: u64,
    lists: Lists<2>,
}

impl Queue {
    /// An empty cache.
    #[must_use]
    pub fn new(room: Room, order: Order) -> Self {
        Queue { order, capacity: room.capacity, lists: Lists::new(room.keys) }
    }

    fn victim(&self) -> Option<u32> {
        match self.order {
            Order::Lru | Order::Fifo => self.lists.oldest(1),
            Order::Mru => self.lists.newest(1),
        }
    }
}

impl Model for Queue {
    fn access(&mut self, request: Use) -> bool {
        if self.lists.list_of(request.key) != 0 {
            if self.order != Order::Fifo {
                self.lists.renew(1, request.key);
            }
            return true;
        }
        if u64::from(request.size) > self.capacity {
            return false;
        }
        while self.lists.size(1) + u64::from(request.size) > self.capacity
            && let Some(victim) = self.victim()
        {
            self.lists.unlink(victim);
        }
        self.lists.push(1, request.key, request.size);
        false
    }

    fn remove(&mut self, key: u32) {
        self.lists.unlink(key);
    }

    fn size_of(&self, key: u32) -> Option<u32> {
        (self.lists.list_of(key) != 0).then(|| self.lists.size_of(key))
    }

    fn used(&self) -> u64 {
        self.lists.size(1)
    }
}
