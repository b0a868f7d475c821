//! What Redis does: a few random keys, the best of which are kept in a pool of 16 from one eviction to the next.
//! The behaviour is modelled after its documentation and outside, with a clock of requests, finer than Redis' seconds.

use super::{Model, Room, Use};
use crate::random::Random;

const SAMPLES: usize = 5;
const POOL: usize = 16;

/// Resident keys, one of which can be had at random.
#[derive(Debug)]
struct Bag {
    keys: Vec<u32>,
    /// Place in `keys` plus one, and size.
    held: Vec<(u32, u32)>,
    used: u64,
}

impl Bag {
    fn new(keys: u32) -> Self {
        Bag { keys: Vec::new(), held: vec![(0, 0); keys as usize], used: 0 }
    }

    fn has(&self, key: u32) -> bool {
        self.held[key as usize].0 > 0
    }

    fn size_of(&self, key: u32) -> Option<u32> {
        let (place, size) = self.held[key as usize];
        (place > 0).then_some(size)
    }

    fn insert(&mut self, key: u32, size: u32) {
        self.keys.push(key);
        self.held[key as usize] = (self.keys.len() as u32, size);
        self.used += u64::from(size);
    }

    fn remove(&mut self, key: u32) {
        let (place, size) = std::mem::take(&mut self.held[key as usize]);
        if place == 0 {
            return;
        }
        self.used -= u64::from(size);
        self.keys.swap_remove(place as usize - 1);
        if let Some(moved) = self.keys.get(place as usize - 1) {
            self.held[*moved as usize].0 = place;
        }
    }

    fn any(&self, random: &mut Random) -> Option<u32> {
        self.keys.get(random.below(self.keys.len())).copied()
    }
}

/// The pool, in ascending order of rank.
#[derive(Debug, Default)]
struct Pool(Vec<(u64, u32)>);

impl Pool {
    fn offer(&mut self, rank: u64, key: u32) {
        let is_full = self.0.len() == POOL;
        if is_full && self.0.first().is_some_and(|least| least.0 >= rank) {
            return;
        }
        if is_full {
            self.0.remove(0);
        }
        let at = self.0.partition_point(|held| held.0 < rank);
        self.0.insert(at, (rank, key));
    }
}

/// `allkeys-lru`.
#[derive(Debug)]
pub struct RedisLru {
    capacity: u64,
    bag: Bag,
    pool: Pool,
    random: Random,
    now: u64,
    used_at: Vec<u64>,
}

impl RedisLru {
    /// An empty cache.
    #[must_use]
    pub fn new(room: Room) -> Self {
        RedisLru {
            capacity: room.capacity,
            bag: Bag::new(room.keys),
            pool: Pool::default(),
            random: Random::new(5),
            now: 0,
            used_at: vec![0; room.keys as usize],
        }
    }
}

impl Model for RedisLru {
    fn access(&mut self, request: Use) -> bool {
        self.now += 1;
        let is_hit = self.bag.has(request.key);
        if !is_hit && u64::from(request.size) <= self.capacity {
            while self.bag.used + u64::from(request.size) > self.capacity {
                let (now, used_at) = (self.now, &self.used_at);
                let idle = |key: u32| now - used_at[key as usize];
                evict(&mut self.bag, &mut self.pool, &mut self.random, &idle);
            }
            self.bag.insert(request.key, request.size);
        }
        self.used_at[request.key as usize] = self.now;
        is_hit
    }

    fn remove(&mut self, key: u32) {
        self.bag.remove(key);
    }

    fn size_of(&self, key: u32) -> Option<u32> {
        self.bag.size_of(key)
    }

    fn used(&self) -> u64 {
        self.bag.used
    }
}

/// Removes one key: five more candidates into the pool, and out with the best that is still there.
fn evict(bag: &mut Bag, pool: &mut Pool, random: &mut Random, rank: &dyn Fn(u32) -> u64) {
    loop {
        for _ in 0..SAMPLES {
            if let Some(key) = bag.any(random) {
                pool.offer(rank(key), key);
            }
        }
        while let Some((_, key)) = pool.0.pop() {
            if bag.has(key) {
                bag.remove(key);
                return;
            }
        }
    }
}

/// `allkeys-lfu` with `lfu-log-factor` 10 and `lfu-decay-time` 1.
#[derive(Debug)]
pub struct RedisLfu {
    capacity: u64,
    bag: Bag,
    pool: Pool,
    random: Random,
    /// Counter and minute of its last decay.
    counters: Vec<(u8, u32)>,
}

const COUNTER_NEW: u8 = 5;
const LOG_FACTOR: f64 = 10.0;

impl RedisLfu {
    /// An empty cache.
    #[must_use]
    pub fn new(room: Room) -> Self {
        RedisLfu {
            capacity: room.capacity,
            bag: Bag::new(room.keys),
            pool: Pool::default(),
            random: Random::new(7),
            counters: vec![(COUNTER_NEW, 0); room.keys as usize],
        }
    }
}

fn decayed((counter, minute): (u8, u32), now: u32) -> u8 {
    counter.saturating_sub(now.saturating_sub(minute).min(255) as u8)
}

impl Model for RedisLfu {
    fn access(&mut self, request: Use) -> bool {
        let minute = request.second / 60;
        if self.bag.has(request.key) {
            let counter = decayed(self.counters[request.key as usize], minute);
            let chance = 1.0 / (f64::from(counter.saturating_sub(COUNTER_NEW)) * LOG_FACTOR + 1.0);
            let raised = counter.saturating_add(u8::from(self.random.share() < chance));
            self.counters[request.key as usize] = (raised, minute);
            return true;
        }
        if u64::from(request.size) > self.capacity {
            return false;
        }
        while self.bag.used + u64::from(request.size) > self.capacity {
            let counters = &self.counters;
            let rank = |key: u32| u64::from(255 - decayed(counters[key as usize], minute));
            evict(&mut self.bag, &mut self.pool, &mut self.random, &rank);
        }
        self.bag.insert(request.key, request.size);
        self.counters[request.key as usize] = (COUNTER_NEW, minute);
        false
    }

    fn remove(&mut self, key: u32) {
        self.bag.remove(key);
    }

    fn size_of(&self, key: u32) -> Option<u32> {
        self.bag.size_of(key)
    }

    fn used(&self) -> u64 {
        self.bag.used
    }
}
