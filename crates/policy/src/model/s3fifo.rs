//! S3-FIFO (Yang et al., SOSP 2023): a small queue for what is new, a main queue for what came back, and the names of
//! what left the small one.

use super::list::Lists;
use super::{Model, Room, Use};

const SMALL: u8 = 1;
const MAIN: u8 = 2;
const GHOST: u8 = 3;
/// Uses after which a key leaves the small queue for the main one.
const USES_TO_STAY: u8 = 2;
const USES_MAX: u8 = 3;

/// An S3-FIFO cache with the paper's parameters: a tenth for the small queue, as many names as the main queue has room for.
#[derive(Debug)]
pub struct S3Fifo {
    capacity: u64,
    small_max: u64,
    lists: Lists<4>,
    uses: Vec<u8>,
}

impl S3Fifo {
    /// An empty cache.
    #[must_use]
    pub fn new(room: Room) -> Self {
        S3Fifo {
            capacity: room.capacity,
            small_max: (room.capacity / 10).max(1),
            lists: Lists::new(room.keys),
            uses: vec![0; room.keys as usize],
        }
    }

    fn evict(&mut self) {
        if self.lists.size(SMALL) >= self.small_max || self.lists.len(MAIN) == 0 {
            self.evict_small();
        } else {
            self.evict_main();
        }
    }

    fn evict_small(&mut self) {
        let Some(key) = self.lists.oldest(SMALL) else { return };
        if self.uses[key as usize] >= USES_TO_STAY {
            self.uses[key as usize] = 0;
            self.lists.renew(MAIN, key);
            return;
        }
        self.lists.renew(GHOST, key);
        while self.lists.size(GHOST) > self.capacity - self.small_max
            && let Some(oldest) = self.lists.oldest(GHOST)
        {
            self.lists.unlink(oldest);
        }
    }

    fn evict_main(&mut self) {
        while let Some(key) = self.lists.oldest(MAIN) {
            if self.uses[key as usize] == 0 {
                self.lists.unlink(key);
                return;
            }
            self.uses[key as usize] -= 1;
            self.lists.renew(MAIN, key);
        }
    }
}

impl Model for S3Fifo {
    fn access(&mut self, request: Use) -> bool {
        let list = self.lists.list_of(request.key);
        if list == SMALL || list == MAIN {
            let uses = &mut self.uses[request.key as usize];
            *uses = (*uses + 1).min(USES_MAX);
            return true;
        }
        if u64::from(request.size) > self.capacity {
            return false;
        }
        self.lists.unlink(request.key);
        while self.used() + u64::from(request.size) > self.capacity {
            self.evict();
        }
        self.uses[request.key as usize] = 0;
        self.lists.push(if list == GHOST { MAIN } else { SMALL }, request.key, request.size);
        false
    }

    fn remove(&mut self, key: u32) {
        self.lists.unlink(key);
    }

    fn size_of(&self, key: u32) -> Option<u32> {
        [SMALL, MAIN].contains(&self.lists.list_of(key)).then(|| self.lists.size_of(key))
    }

    fn used(&self) -> u64 {
        self.lists.size(SMALL) + self.lists.size(MAIN)
    }
}
