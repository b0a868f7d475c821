//! What becomes of keys: for those that are followed, since when they are there, and whether they were ever read.
//!
//! A key that leaves is counted by the reason it left for: how old it was, and whether it left without a read since it was
//! first stored. Overwriting a key does not begin its life anew. Counts of long ago fade.

use super::prefix::LEVELS;
use larder_policy::sketch::HashesTo;
use std::collections::HashMap;

/// Prefixes whose keys' ends are counted, at most.
const PREFIXES_MAX: usize = 512;
/// Ages are counted in halves of octaves of milliseconds.
const AGES: usize = 96;
/// Keys after which the counts of a reason are halved.
const FADE_AFTER: u64 = 1 << 16;

/// Why a key left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Room was needed.
    Evicted,
    /// Its time had come.
    Expired,
    /// A client asked for it.
    Deleted,
}

/// The record of a key that is there.
#[derive(Debug, Clone, Copy)]
struct Life {
    /// When it was first stored, in milliseconds; 0 where that was before anybody looked.
    made_ms: u64,
    bytes: u32,
    prefixes: [u32; LEVELS],
    table: u32,
    is_read: bool,
}

/// Counts of keys that left for one reason.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Followed keys that left.
    pub keys: u64,
    /// Of them, those nobody had read since they were first stored.
    pub unread: u64,
    ages: [u64; AGES],
}

impl Default for Ended {
    fn default() -> Self {
        Ended { keys: 0, unread: 0, ages: [0; AGES] }
    }
}

impl Ended {
    fn count(&mut self, age_ms: Option<u64>, is_read: bool) {
        if self.keys >= FADE_AFTER {
            (self.keys, self.unread) = (self.keys / 2, self.unread / 2);
            self.ages.iter_mut().for_each(|count| *count /= 2);
        }
        self.keys += 1;
        self.unread += u64::from(!is_read);
        if let Some(bin) = age_ms.and_then(|age| self.ages.get_mut(bin_of(age))) {
            *bin += 1;
        }
    }

    /// Which share left without a read; 0 where none left.
    #[must_use]
    pub fn unread_share(&self) -> f64 {
        if self.keys == 0 { 0.0 } else { self.unread as f64 / self.keys as f64 }
    }

    /// Below which age so many percent of them were when they left, in seconds, to within a fifth.
    #[must_use]
    pub fn age_seconds(&self, percent: f64) -> f64 {
        let known: u64 = self.ages.iter().sum();
        let (mut left, mut age) = (known as f64 * percent / 100.0, 0.0);
        for (bin, count) in self.ages.iter().enumerate().filter(|(_, count)| **count > 0) {
            age = 2f64.powf(bin as f64 / 2.0 + 0.25) / 1000.0;
            left -= *count as f64;
            if left <= 0.0 {
                break;
            }
        }
        age
    }
}

/// The half octave of an age.
fn bin_of(age_ms: u64) -> usize {
    let age = age_ms.max(1);
    let octave = age.ilog2();
    let is_upper = u128::from(age) * u128::from(age) >= 1u128 << (2 * octave + 1);
    ((2 * octave + u32::from(is_upper)) as usize).min(AGES - 1)
}

/// What is known of a prefix's keys beside its traffic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kept {
    /// Followed keys that are there.
    pub keys: u64,
    /// Their bytes, keys included.
    pub bytes: u64,
    /// Followed keys that left because room was needed.
    pub evicted: u64,
    /// Those whose time had come.
    pub expired: u64,
    /// Those a client removed.
    pub deleted: u64,
    /// Of the evicted and expired, those that were never read.
    pub unread: u64,
}

/// Records and counts.
#[derive(Debug, Default)]
pub(super) struct Lives {
    lives: HashesTo<Life>,
    ended: [Ended; 3],
    by_prefix: HashMap<u32, Kept>,
}

impl Lives {
    pub fn len(&self) -> usize {
        self.lives.len()
    }

    pub fn has(&self, hash: u64) -> bool {
        self.lives.contains_key(&hash)
    }

    pub fn bytes(&self) -> u64 {
        self.lives.values().map(|life| u64::from(life.bytes)).sum()
    }

    pub fn ended(&self, end: End) -> Ended {
        self.ended.get(end as usize).cloned().unwrap_or_default()
    }

    /// A key was stored, or given another value.
    pub fn wrote(&mut self, hash: u64, bytes: u32, prefixes: [u32; LEVELS], table: u32, now_ms: u64) {
        let fresh = Life { made_ms: now_ms, bytes, prefixes, table, is_read: false };
        let life = self.lives.entry(hash).or_insert(fresh);
        (life.bytes, life.prefixes, life.table) = (bytes, prefixes, table);
    }

    /// A key was read.
    pub fn read(&mut self, hash: u64, bytes: u32, prefixes: [u32; LEVELS], table: u32) {
        let before = Life { made_ms: 0, bytes, prefixes, table, is_read: true };
        self.lives.entry(hash).or_insert(before).is_read = true;
    }

    /// A key is not there, and nobody said why.
    pub fn lost(&mut self, hash: u64) {
        self.lives.remove(&hash);
    }

    /// A key left.
    pub fn left(&mut self, hash: u64, end: End, now_ms: u64) {
        let Some(life) = self.lives.remove(&hash) else { return };
        let age = (life.made_ms != 0).then(|| now_ms.saturating_sub(life.made_ms));
        if let Some(ended) = self.ended.get_mut(end as usize) {
            ended.count(age, life.is_read);
        }
        for prefix in life.prefixes.into_iter().filter(|prefix| *prefix != 0) {
            if self.by_prefix.len() >= PREFIXES_MAX && !self.by_prefix.contains_key(&prefix) {
                self.make_room();
            }
            let kept = self.by_prefix.entry(prefix).or_default();
            *match end {
                End::Evicted => &mut kept.evicted,
                End::Expired => &mut kept.expired,
                End::Deleted => &mut kept.deleted,
            } += 1;
            kept.unread += u64::from(end != End::Deleted && !life.is_read);
        }
    }

    /// Forgets the half of the prefixes of which fewer keys left.
    fn make_room(&mut self) {
        let weight = |kept: &Kept| kept.evicted + kept.expired + kept.deleted;
        let mut weights: Vec<u64> = self.by_prefix.values().map(weight).collect();
        weights.sort_unstable();
        let middle = weights.get(weights.len() / 2).copied().unwrap_or(0);
        self.by_prefix.retain(|_, kept| weight(kept) > middle);
    }

    /// What is known of the keys of a prefix, by the upper half of its hash.
    pub fn of_prefix(&self, prefix: u32) -> Kept {
        let mut kept = self.by_prefix.get(&prefix).copied().unwrap_or_default();
        for life in self.lives.values().filter(|life| life.prefixes.contains(&prefix)) {
            kept.keys += 1;
            kept.bytes += u64::from(life.bytes);
        }
        kept
    }

    /// Keeps records of keys that are still followed, and counts in their scale.
    pub fn retain(&mut self, follows: impl Fn(u64) -> bool, scale: f64) {
        self.lives.retain(|hash, _| follows(*hash));
        let scaled = |count: &mut u64| *count = (*count as f64 * scale) as u64;
        for kept in self.by_prefix.values_mut() {
            [&mut kept.evicted, &mut kept.expired, &mut kept.deleted, &mut kept.unread]
                .into_iter()
                .for_each(scaled);
        }
    }

    pub fn reset_counts(&mut self) {
        self.ended = Default::default();
        self.by_prefix.clear();
    }

    /// A database was emptied; answers the keys that had records.
    pub fn flushed(&mut self, table: u32) -> Vec<u64> {
        let gone: Vec<u64> =
            self.lives.iter().filter(|(_, life)| life.table == table).map(|(hash, _)| *hash).collect();
        for hash in &gone {
            self.lives.remove(hash);
        }
        gone
    }

    pub fn memory(&self) -> usize {
        self.lives.capacity() * (size_of::<(u64, Life)>() + 1) * 8 / 7
            + self.by_prefix.capacity() * (size_of::<(u32, Kept)>() + 1) * 8 / 7
            + size_of::<Self>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_leaves_is_counted_by_age_and_use() {
        let mut lives = Lives::default();
        for hash in 0..100 {
            lives.wrote(hash, 10, [7, 0], 0, 1000);
        }
        (0..25).for_each(|hash| lives.read(hash, 10, [7, 0], 0));
        // Written again, it is neither younger nor unread.
        lives.wrote(0, 20, [7, 0], 0, 5000);
        assert_eq!((lives.len(), lives.bytes()), (100, 1010));
        (0..50).for_each(|hash| lives.left(hash, End::Evicted, 11_000));
        (50..60).for_each(|hash| lives.left(hash, End::Expired, 2000));
        lives.left(60, End::Deleted, 2000);
        lives.left(60, End::Deleted, 2000);
        lives.lost(61);
        let evicted = lives.ended(End::Evicted);
        assert_eq!((evicted.keys, evicted.unread), (50, 25));
        assert!((8.0..12.0).contains(&evicted.age_seconds(50.0)), "{}", evicted.age_seconds(50.0));
        let expired = lives.ended(End::Expired);
        assert!((0.8..1.2).contains(&expired.age_seconds(90.0)), "{}", expired.age_seconds(90.0));
        assert_eq!((expired.unread_share(), lives.ended(End::Deleted).keys), (1.0, 1));
        let kept = lives.of_prefix(7);
        assert_eq!(kept, Kept { keys: 38, bytes: 380, evicted: 50, expired: 10, deleted: 1, unread: 35 });
        assert_eq!(lives.flushed(0).len(), 38);
    }

    #[test]
    fn ages_are_told_to_within_a_fifth() {
        for age in [1u64, 2, 3, 10, 77, 1000, 12_345, 86_400_000, 1 << 40] {
            let mut ended = Ended::default();
            ended.count(Some(age), true);
            let told = ended.age_seconds(50.0) * 1000.0 / age as f64;
            assert!((0.8..1.25).contains(&told), "{age}: {told}");
        }
        assert_eq!(Ended::default().age_seconds(50.0), 0.0);
    }

    #[test]
    fn prefixes_without_end_take_bounded_memory() {
        let mut lives = Lives::default();
        for hash in 0..10_000u64 {
            let prefix = if hash % 2 == 0 { 1 } else { hash as u32 };
            lives.wrote(hash, 1, [prefix, 0], 0, 1);
            lives.left(hash, End::Evicted, 2);
        }
        assert!(lives.by_prefix.len() <= PREFIXES_MAX);
        assert_eq!(lives.of_prefix(1).evicted, 5001);
    }
}
