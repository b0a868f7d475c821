//! Adaptive W-TinyLFU (Einziger, Friedman, Manes, TOS 2017; Einziger et al., Middleware 2018): a window for what is
//! new, a segmented main region that admits by estimated frequency, and a hill climber that moves the border.

use super::list::Lists;
use super::{Model, Room, Use};
use crate::random::{Random, mix};

const WINDOW: u8 = 1;
const PROBATION: u8 = 2;
const PROTECTED: u8 = 3;

/// Counters of 4 bits in a count-min sketch with four rows, halved every ten times the entries.
#[derive(Debug)]
struct Sketch {
    rows: [Vec<u8>; 4],
    mask: u64,
    additions: usize,
    additions_max: usize,
}

impl Sketch {
    fn new(entries: usize) -> Self {
        let width = (entries.max(8) * 2).next_power_of_two();
        Sketch {
            rows: std::array::from_fn(|_| vec![0; width]),
            mask: width as u64 - 1,
            additions: 0,
            additions_max: entries.max(8) * 10,
        }
    }

    fn places(&self, key: u32) -> [usize; 4] {
        std::array::from_fn(|row| (mix(u64::from(key) | (row as u64 + 1) << 32) & self.mask) as usize)
    }

    fn estimate(&self, key: u32) -> u8 {
        let places = self.places(key);
        self.rows.iter().zip(places).map(|(row, at)| row[at]).min().unwrap_or(0)
    }

    fn add(&mut self, key: u32) {
        let places = self.places(key);
        let mut is_added = false;
        for (row, at) in self.rows.iter_mut().zip(places) {
            if row[at] < 15 {
                row[at] += 1;
                is_added = true;
            }
        }
        self.additions += usize::from(is_added);
        if self.additions >= self.additions_max {
            self.additions /= 2;
            self.rows.iter_mut().flatten().for_each(|counter| *counter /= 2);
        }
    }
}

/// The cache.
#[derive(Debug)]
pub struct WTinyLfu {
    capacity: u64,
    window_max: u64,
    protected_max: u64,
    lists: Lists<4>,
    sketch: Sketch,
    climber: Climber,
    random: Random,
}

/// Follows the hit ratio uphill.
#[derive(Debug)]
struct Climber {
    period: usize,
    requests: usize,
    hits: usize,
    ratio_before: f64,
    step: f64,
}

const STEP_FIRST: f64 = 0.0625;
const STEP_DECAY: f64 = 0.98;
const RESTART: f64 = 0.05;

impl WTinyLfu {
    /// An empty cache.
    #[must_use]
    pub fn new(room: Room) -> Self {
        let window_max = (room.capacity / 100).max(1);
        WTinyLfu {
            capacity: room.capacity,
            window_max,
            protected_max: (room.capacity - window_max) * 4 / 5,
            lists: Lists::new(room.keys),
            sketch: Sketch::new(room.entries),
            climber: Climber {
                period: 10 * room.entries.max(8),
                requests: 0,
                hits: 0,
                ratio_before: 0.0,
                step: STEP_FIRST * room.capacity as f64,
            },
            random: Random::new(11),
        }
    }

    fn climb(&mut self) {
        let climber = &mut self.climber;
        if climber.requests < climber.period {
            return;
        }
        let ratio = climber.hits as f64 / climber.requests as f64;
        let change = ratio - climber.ratio_before;
        let amount = if change >= 0.0 { climber.step } else { -climber.step };
        climber.step = if change.abs() >= RESTART {
            STEP_FIRST * self.capacity as f64 * amount.signum()
        } else {
            STEP_DECAY * amount
        };
        (climber.ratio_before, climber.requests, climber.hits) = (ratio, 0, 0);
        let most = self.capacity as f64 * 0.8;
        let window = (self.window_max as f64 + amount).clamp(1.0, most.max(1.0)) as u64;
        self.window_max = window;
        self.protected_max = (self.capacity - window) * 4 / 5;
        self.demote();
        self.drain_window();
    }

    fn demote(&mut self) {
        while self.lists.size(PROTECTED) > self.protected_max
            && let Some(key) = self.lists.oldest(PROTECTED)
        {
            self.lists.renew(PROBATION, key);
        }
    }

    /// Moves what the window has too much of to probation; answers the first that was moved.
    fn drain_window(&mut self) -> Option<u32> {
        let mut first = None;
        while self.lists.size(WINDOW) > self.window_max
            && let Some(key) = self.lists.oldest(WINDOW)
        {
            self.lists.renew(PROBATION, key);
            first = first.or(Some(key));
        }
        first
    }

    fn evict(&mut self, mut candidate: Option<u32>) {
        while self.used() > self.capacity {
            let victim = self.lists.oldest(PROBATION);
            let Some(victim) = victim.or(self.lists.oldest(PROTECTED)).or(self.lists.oldest(WINDOW)) else {
                return;
            };
            let Some(challenger) = candidate.filter(|key| *key != victim && self.lists.list_of(*key) != 0)
            else {
                if candidate == Some(victim) {
                    candidate = self.lists.newer(victim);
                }
                self.lists.unlink(victim);
                continue;
            };
            let next = self.lists.newer(challenger);
            candidate = next;
            let is_admitted = self.admits(challenger, victim);
            self.lists.unlink(if is_admitted { victim } else { challenger });
        }
    }

    fn admits(&mut self, candidate: u32, victim: u32) -> bool {
        let (candidate, victim) = (self.sketch.estimate(candidate), self.sketch.estimate(victim));
        candidate > victim || candidate > 5 && self.random.below(128) == 0
    }
}

impl Model for WTinyLfu {
    fn access(&mut self, request: Use) -> bool {
        let list = self.lists.list_of(request.key);
        self.sketch.add(request.key);
        self.climber.requests += 1;
        self.climber.hits += usize::from(list != 0);
        if list != 0 {
            self.lists.renew(if list == WINDOW { WINDOW } else { PROTECTED }, request.key);
            self.demote();
        } else if u64::from(request.size) <= self.capacity {
            self.lists.push(WINDOW, request.key, request.size);
            let candidate = self.drain_window();
            self.evict(candidate);
        }
        self.climb();
        list != 0
    }

    fn remove(&mut self, key: u32) {
        self.lists.unlink(key);
    }

    fn size_of(&self, key: u32) -> Option<u32> {
        (self.lists.list_of(key) != 0).then(|| self.lists.size_of(key))
    }

    fn used(&self) -> u64 {
        (1..=3).map(|list| self.lists.size(list)).sum()
    }
}
