//! LIRS (Jiang and Zhang, SIGMETRICS 2002): keys of low inter-reference recency hold nearly all of the cache; the rest
//! pass through a small queue, and are promoted when they come back while the recency stack still knows them.

use super::list::Lists;
use super::{Model, Room, Use};

const STACK: u8 = 1;
const QUEUE: u8 = 1;

/// A LIRS cache: 1% for resident keys of high recency, and the names of as many absent keys as twice the capacity.
#[derive(Debug)]
pub struct Lirs {
    capacity: u64,
    low_max: u64,
    low_size: u64,
    resident_size: u64,
    absent_size: u64,
    /// The recency stack.
    stack: Lists<2>,
    /// Resident keys of high recency, in order of arrival.
    queue: Lists<2>,
    /// Absent keys that the stack knows, oldest first.
    absent: Lists<2>,
    is_low: Vec<bool>,
}

impl Lirs {
    /// An empty cache.
    #[must_use]
    pub fn new(room: Room) -> Self {
        Lirs {
            capacity: room.capacity,
            low_max: room.capacity - (room.capacity / 100).max(1),
            low_size: 0,
            resident_size: 0,
            absent_size: 0,
            stack: Lists::new(room.keys),
            queue: Lists::new(room.keys),
            absent: Lists::new(room.keys),
            is_low: vec![false; room.keys as usize],
        }
    }

    fn is_resident(&self, key: u32) -> bool {
        self.is_low[key as usize] || self.queue.list_of(key) == QUEUE
    }

    /// Removes keys of high recency from the bottom of the stack.
    fn prune(&mut self) {
        while let Some(key) = self.stack.oldest(STACK) {
            if self.is_low[key as usize] {
                break;
            }
            self.stack.unlink(key);
            self.forget(key);
        }
    }

    fn forget(&mut self, key: u32) {
        if self.absent.list_of(key) != 0 {
            self.absent_size -= u64::from(self.absent.size_of(key));
            self.absent.unlink(key);
        }
    }

    fn promote(&mut self, key: u32, size: u32) {
        self.queue.unlink(key);
        self.is_low[key as usize] = true;
        self.low_size += u64::from(size);
        while self.low_size > self.low_max
            && let Some(bottom) = self.stack.oldest(STACK)
        {
            if bottom == key && self.stack.len(STACK) == 1 {
                break;
            }
            if self.is_low[bottom as usize] {
                self.demote(bottom);
            }
            self.prune();
        }
    }

    /// From the bottom of the stack to the end of the queue: no longer of low recency.
    fn demote(&mut self, bottom: u32) {
        let size = self.stack.size_of(bottom);
        self.is_low[bottom as usize] = false;
        self.low_size -= u64::from(size);
        self.stack.unlink(bottom);
        self.queue.push(QUEUE, bottom, size);
    }

    fn evict(&mut self) {
        let Some(key) = self.queue.oldest(QUEUE) else {
            // Everything is of low recency: the bottom of the stack becomes the queue.
            self.prune();
            if let Some(bottom) = self.stack.oldest(STACK) {
                self.demote(bottom);
                self.prune();
            }
            return;
        };
        let size = self.queue.size_of(key);
        self.queue.unlink(key);
        self.resident_size -= u64::from(size);
        if self.stack.list_of(key) == STACK {
            self.absent.push(1, key, size);
            self.absent_size += u64::from(size);
            while self.absent_size > 2 * self.capacity
                && let Some(oldest) = self.absent.oldest(1)
            {
                self.forget(oldest);
                self.stack.unlink(oldest);
            }
        }
    }

    fn hit(&mut self, key: u32) {
        let is_known = self.stack.list_of(key) == STACK;
        if self.is_low[key as usize] {
            self.stack.renew(STACK, key);
            self.prune();
            return;
        }
        let size = self.queue.size_of(key);
        self.stack.push(STACK, key, size);
        if is_known {
            self.promote(key, size);
        } else {
            self.queue.renew(QUEUE, key);
        }
    }
}

impl Model for Lirs {
    fn access(&mut self, request: Use) -> bool {
        let (key, size) = (request.key, request.size);
        if self.is_resident(key) {
            self.hit(key);
            return true;
        }
        if u64::from(size) > self.capacity {
            return false;
        }
        while self.resident_size + u64::from(size) > self.capacity {
            self.evict();
        }
        let is_known = self.stack.list_of(key) == STACK;
        self.forget(key);
        self.resident_size += u64::from(size);
        self.stack.push(STACK, key, size);
        if is_known || self.low_size + u64::from(size) <= self.low_max {
            self.promote(key, size);
        } else {
            self.queue.push(QUEUE, key, size);
        }
        false
    }

    fn remove(&mut self, key: u32) {
        if self.is_resident(key) {
            let size =
                if self.is_low[key as usize] { self.stack.size_of(key) } else { self.queue.size_of(key) };
            self.resident_size -= u64::from(size);
            if std::mem::take(&mut self.is_low[key as usize]) {
                self.low_size -= u64::from(size);
            }
        }
        self.queue.unlink(key);
        self.forget(key);
        self.stack.unlink(key);
        self.prune();
    }

    fn size_of(&self, key: u32) -> Option<u32> {
        if self.is_low[key as usize] {
            return Some(self.stack.size_of(key));
        }
        (self.queue.list_of(key) == QUEUE).then(|| self.queue.size_of(key))
    }

    fn used(&self) -> u64 {
        self.resident_size
    }
}
