//! ARC (Megiddo and Modha, FAST 2003): recency and frequency lists of adapting size, and the names of what left each.

use super::list::Lists;
use super::{Model, Room, Use};

const RECENT: u8 = 1;
const FREQUENT: u8 = 2;
const LEFT_RECENT: u8 = 3;
const LEFT_FREQUENT: u8 = 4;

/// An ARC cache; sizes count where the paper counts pages.
#[derive(Debug)]
pub struct Arc {
    capacity: u64,
    /// The share of the recency list, in units of size.
    target: f64,
    lists: Lists<5>,
}

impl Arc {
    /// An empty cache.
    #[must_use]
    pub fn new(room: Room) -> Self {
        Arc { capacity: room.capacity, target: 0.0, lists: Lists::new(room.keys) }
    }

    fn replace(&mut self, from_frequent_ghosts: bool) {
        let recent = self.lists.size(RECENT) as f64;
        let is_recent = self.lists.len(RECENT) > 0
            && (recent > self.target
                || from_frequent_ghosts && recent >= self.target
                || self.lists.len(FREQUENT) == 0);
        let (from, to) = if is_recent { (RECENT, LEFT_RECENT) } else { (FREQUENT, LEFT_FREQUENT) };
        if let Some(key) = self.lists.oldest(from) {
            self.lists.renew(to, key);
        }
    }

    fn make_room(&mut self, size: u64, from_frequent_ghosts: bool) {
        while self.used() + size > self.capacity {
            self.replace(from_frequent_ghosts);
        }
        while self.lists.size(RECENT) + self.lists.size(LEFT_RECENT) + size > self.capacity
            && let Some(key) = self.lists.oldest(LEFT_RECENT)
        {
            self.lists.unlink(key);
        }
        let all = |lists: &Lists<5>| (1..=4).map(|list| lists.size(list)).sum::<u64>();
        while all(&self.lists) + size > 2 * self.capacity
            && let Some(key) = self.lists.oldest(LEFT_FREQUENT)
        {
            self.lists.unlink(key);
        }
    }
}

impl Model for Arc {
    fn access(&mut self, request: Use) -> bool {
        let list = self.lists.list_of(request.key);
        if list == RECENT || list == FREQUENT {
            self.lists.renew(FREQUENT, request.key);
            return true;
        }
        let size = u64::from(request.size);
        if size > self.capacity {
            return false;
        }
        let ghosts = [self.lists.size(LEFT_RECENT) as f64, self.lists.size(LEFT_FREQUENT) as f64];
        let [recent, frequent] = ghosts;
        let step = size as f64;
        if list == LEFT_RECENT {
            self.target = (self.target + step * (frequent / recent).max(1.0)).min(self.capacity as f64);
        } else if list == LEFT_FREQUENT {
            self.target = (self.target - step * (recent / frequent).max(1.0)).max(0.0);
        }
        self.lists.unlink(request.key);
        self.make_room(size, list == LEFT_FREQUENT);
        self.lists.push(if list == 0 { RECENT } else { FREQUENT }, request.key, request.size);
        false
    }

    fn remove(&mut self, key: u32) {
        self.lists.unlink(key);
    }

    fn size_of(&self, key: u32) -> Option<u32> {
        [RECENT, FREQUENT].contains(&self.lists.list_of(key)).then(|| self.lists.size_of(key))
    }

    fn used(&self) -> u64 {
        self.lists.size(RECENT) + self.lists.size(FREQUENT)
    }
}
