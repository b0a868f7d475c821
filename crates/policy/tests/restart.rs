//! A restart: every policy goes on with what was kept of its entries and of what it had learned, under other hashes.

#![forbid(unsafe_code)]

use larder_policy::policies::Kind;
use larder_policy::{Entries, Hits, KEPT_NOTHING, Passing, Policy, Ref, Scope, Seen, Shown, Step, mix};
use std::collections::BTreeMap;

/// Entries by their names, which follow from the keys and a number that is another after each restart.
struct Table {
    entries: BTreeMap<u32, (u64, Seen)>,
    seed: u64,
}

impl Table {
    fn name(&self, key: u64) -> Ref {
        Ref((mix(key ^ self.seed) >> 32) as u32)
    }
}

impl Entries for Table {
    fn look(&mut self, at: Ref) -> Option<Seen> {
        self.entries.get(&at.0).map(|(_, seen)| *seen)
    }

    fn set_field(&mut self, at: Ref, field: u32) {
        if let Some((_, seen)) = self.entries.get_mut(&at.0) {
            seen.field = field;
        }
    }

    fn walk(&mut self, from: u32, show: &mut dyn FnMut(&[Seen], &dyn Passing)) -> u32 {
        let found: Vec<(u32, Seen)> =
            self.entries.range(from..).take(9).map(|(at, (_, seen))| (*at, *seen)).collect();
        let mut shown: Shown = found.iter().take(8).map(|(at, seen)| (Ref(*at), *seen)).collect();
        shown.to(show).into_iter().for_each(|(at, field)| self.set_field(at, field));
        found.get(8).map_or(0, |(at, _)| *at)
    }

    fn len(&self) -> usize {
        self.entries.len()
    }
}

/// A cache under one policy.
struct Cache {
    kind: Kind,
    policy: Box<dyn Policy>,
    hits: Hits,
    table: Table,
    used: u64,
    capacity: u64,
    requests: u64,
}

impl Cache {
    fn new(kind: Kind, capacity: u64, seed: u64, requests: u64) -> Cache {
        let table = Table { entries: BTreeMap::new(), seed };
        let policy = kind.make(Scope::All, 1);
        Cache { kind, policy, hits: kind.hits(seed), table, used: 0, capacity, requests }
    }

    /// Whether the key was there.
    fn ask(&mut self, key: u64, bytes: u32) -> bool {
        self.requests += 1;
        if self.requests.is_multiple_of(32) {
            self.policy.absorb(&mut self.hits);
        }
        let at = self.table.name(key);
        if let Some((_, seen)) = self.table.entries.get_mut(&at.0) {
            seen.field = self.hits.read(at, seen.field);
            return true;
        }
        self.policy.arriving();
        while self.used + u64::from(bytes) > self.capacity {
            match self.policy.step(&mut self.table) {
                Step::Evict(at) => {
                    let gone = self.table.entries.remove(&at.0);
                    self.used -= gone.map_or(0, |(_, seen)| u64::from(seen.bytes));
                }
                Step::More => {}
                Step::Nothing => panic!("something may leave"),
            }
        }
        let field = self.policy.created(at, bytes);
        let seen = Seen { field, bytes, deadline: u64::MAX, is_over: false };
        self.table.entries.insert(at.0, (key, seen));
        self.used += u64::from(bytes);
        false
    }

    /// The same entries in another process: with what is kept of them, or as new ones.
    fn restarted(&mut self, keeps: bool) -> Cache {
        self.policy.absorb(&mut self.hits);
        let mut other = Cache::new(self.kind, self.capacity, mix(self.table.seed + 1), self.requests);
        // A server's clock has begun by then.
        other.policy.second_passed();
        other.policy.second_passed();
        if keeps {
            let mut learned = Vec::new();
            self.policy.learned(&mut learned);
            other.policy.learn_from(&learned);
        }
        other.policy.second_passed();
        let epoch = self.policy.epoch();
        for (key, seen) in self.table.entries.values() {
            let (at, kept) = (other.table.name(*key), self.kind.kept(seen.field, epoch));
            assert_ne!(kept, KEPT_NOTHING);
            let field = match keeps {
                true => other.policy.recall(at, seen.bytes, kept),
                false => other.policy.created(at, seen.bytes),
            };
            other.table.entries.insert(at.0, (*key, Seen { field, ..*seen }));
            other.used += u64::from(seen.bytes);
        }
        other
    }
}

/// The key of a request, and its size: popularity by Zipf's law, of which the favourites change slowly; one in five is asked for once.
fn request(number: u64) -> (u64, u32) {
    let random = mix(number);
    let key = if random.is_multiple_of(5) {
        1 << 40 | number
    } else {
        let share = (random >> 11) as f64 / (1u64 << 53) as f64;
        let rank = ((60_000f64.powf(0.1) - 1.0) * share + 1.0).powf(10.0) as u64;
        (rank << 12) | ((number + mix(rank) % 100_000) / 100_000)
    };
    (key, 100 + (mix(key ^ 5) % 1_500) as u32)
}

const BEFORE: u64 = 300_000;
const BEHIND: u64 = 15_000;

fn hit_ratio(cache: &mut Cache) -> f64 {
    let hits = (BEFORE..BEFORE + BEHIND).filter(|number| {
        let (key, bytes) = request(*number);
        cache.ask(key, bytes)
    });
    hits.count() as f64 / BEHIND as f64
}

#[test]
fn the_hit_ratio_goes_on_where_it_was() {
    for kind in Kind::ALL.iter().filter(|kind| kind.has_fields()) {
        let mut cache = Cache::new(*kind, 6_000_000, 7, 0);
        for number in 0..BEFORE {
            let (key, bytes) = request(number);
            cache.ask(key, bytes);
        }
        let (mut warm, mut cold) = (cache.restarted(true), cache.restarted(false));
        let [before, warm, cold] = [&mut cache, &mut warm, &mut cold].map(hit_ratio);
        println!("{}: without a restart {before:.4}, kept {warm:.4}, not kept {cold:.4}", kind.name());
        // What left is forgotten, which these two ask for.
        let less = if matches!(kind, Kind::S3Fifo | Kind::WTinyLfu) { 0.008 } else { 0.002 };
        assert!(warm > before - less, "{}: {warm} after {before}", kind.name());
    }
}
