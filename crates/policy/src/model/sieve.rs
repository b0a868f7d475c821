//! SIEVE (Zhang et al., NSDI 2024): one list in order of arrival, a bit for each key, and a hand that moves from the
//! oldest to the newest, clearing bits, and removes the first key without one.

use super::list::Lists;
use super::{Model, Room, Use};

/// A SIEVE cache.
#[derive(Debug)]
pub struct Sieve {
    capacity: u64,
    lists: Lists<2>,
    is_visited: Vec<bool>,
    hand: Option<u32>,
}

impl Sieve {
    /// An empty cache.
    #[must_use]
    pub fn new(room: Room) -> Self {
        Sieve {
            capacity: room.capacity,
            lists: Lists::new(room.keys),
            is_visited: vec![false; room.keys as usize],
            hand: None,
        }
    }

    fn evict(&mut self) {
        while let Some(at) = self.hand.or(self.lists.oldest(1)) {
            self.hand = self.lists.newer(at);
            if !std::mem::take(&mut self.is_visited[at as usize]) {
                self.lists.unlink(at);
                return;
            }
        }
    }
}

impl Model for Sieve {
    fn access(&mut self, request: Use) -> bool {
        if self.lists.list_of(request.key) != 0 {
            self.is_visited[request.key as usize] = true;
            return true;
        }
        if u64::from(request.size) > self.capacity {
            return false;
        }
        while self.lists.size(1) + u64::from(request.size) > self.capacity {
            self.evict();
        }
        self.is_visited[request.key as usize] = false;
        self.lists.push(1, request.key, request.size);
        false
    }

    fn remove(&mut self, key: u32) {
        if self.hand == Some(key) {
            self.hand = self.lists.newer(key);
        }
        self.lists.unlink(key);
    }

    fn size_of(&self, key: u32) -> Option<u32> {
        (self.lists.list_of(key) != 0).then(|| self.lists.size_of(key))
    }

    fn used(&self) -> u64 {
        self.lists.size(1)
    }
}
