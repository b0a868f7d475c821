//! What is told of accesses, on its way over a restart: hot keys, traffic by prefix, and the counts behind the miss ratio curve.
//!
//! Hashes are others after a restart, so names are kept. Large values are not: loading comes by each of them. In which order keys were
//! used, which the curve goes on from, is learned anew.
//! Invariant: what is read is hostile; what does not fit is left alone.

use super::panel::Panel;
use crate::keyspace::{Keyspace, TableNumber};
use larder_policy::sketch::CurveCounts;

/// The form of what is kept.
const FORM: u8 = 1;
/// Names kept, of keys and of prefixes each.
const NAMES_MAX: usize = 512;

/// What is known of accesses, with names.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Remembered {
    /// All accesses that were counted.
    pub(super) whole: u64,
    /// Keys: the database, the name, accesses, and how many of them may be another's. The heaviest first.
    pub(super) keys: Vec<(u32, Vec<u8>, [u64; 2])>,
    /// Prefixes: the name, accesses, how many of them may be another's, hits, misses, writes.
    pub(super) prefixes: Vec<(Vec<u8>, [u64; 5])>,
    pub(super) curve: CurveCounts,
}

impl Remembered {
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![FORM];
        let name = |out: &mut Vec<u8>, name: &[u8]| {
            out.extend_from_slice(&u32::try_from(name.len()).unwrap_or(0).to_le_bytes());
            out.extend_from_slice(name);
        };
        let numbers = |out: &mut Vec<u8>, numbers: &[u64]| {
            numbers.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
        };
        numbers(&mut out, &[self.whole, self.keys.len() as u64, self.prefixes.len() as u64]);
        for (db, key, counts) in &self.keys {
            out.extend_from_slice(&db.to_le_bytes());
            name(&mut out, key);
            numbers(&mut out, counts);
        }
        for (prefix, counts) in &self.prefixes {
            name(&mut out, prefix);
            numbers(&mut out, counts);
        }
        let CurveCounts { threshold, seen, reads, steps } = &self.curve;
        numbers(&mut out, &[*threshold, seen.to_bits(), *reads]);
        for (step, count) in steps {
            out.extend_from_slice(&step.to_le_bytes());
            out.extend_from_slice(&count.to_le_bytes());
        }
        out
    }

    fn of_bytes(bytes: &[u8]) -> Option<Remembered> {
        let mut rest = bytes.strip_prefix(&[FORM])?;
        let [whole, keys, prefixes] = numbers(&mut rest)?;
        let mut found = Remembered { whole, ..Remembered::default() };
        for _ in 0..keys {
            let db = short(&mut rest)?;
            found.keys.push((db, name(&mut rest)?, numbers(&mut rest)?));
        }
        for _ in 0..prefixes {
            found.prefixes.push((name(&mut rest)?, numbers(&mut rest)?));
        }
        let [threshold, seen, reads] = numbers(&mut rest)?;
        let (steps, []) = rest.as_chunks::<8>() else { return None };
        let step = |step: &[u8; 8]| {
            let mut both = &step[..];
            Some((short(&mut both)?, f32::from_bits(short(&mut both)?)))
        };
        let steps = steps.iter().map(step).collect::<Option<_>>()?;
        found.curve = CurveCounts { threshold, seen: f64::from_bits(seen), reads, steps };
        Some(found)
    }
}

fn short(rest: &mut &[u8]) -> Option<u32> {
    let (number, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(u32::from_le_bytes(*number))
}

fn numbers<const COUNT: usize>(rest: &mut &[u8]) -> Option<[u64; COUNT]> {
    let mut found = [0; COUNT];
    for number in &mut found {
        let (bytes, behind) = rest.split_first_chunk()?;
        (*number, *rest) = (u64::from_le_bytes(*bytes), behind);
    }
    Some(found)
}

fn name(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let len = short(rest)?;
    let (name, behind) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    *rest = behind;
    Some(name.to_vec())
}

impl Keyspace {
    /// What is told of accesses, for [`Keyspace::recall_insight`] after a restart.
    pub fn insight_kept(&self) -> Vec<u8> {
        let (keys, whole) = self.insight.hot_keys(NAMES_MAX);
        let (prefixes, _) = self.insight.prefixes(NAMES_MAX);
        let remembered = Remembered {
            whole,
            keys: keys
                .into_iter()
                .map(|hot| (self.database_of_table(hot.table).0, hot.key, [hot.accesses, hot.over]))
                .collect(),
            prefixes: prefixes
                .into_iter()
                .map(|of| {
                    let traffic = of.traffic;
                    (of.prefix, [of.accesses, of.over, traffic.hits, traffic.misses, traffic.writes])
                })
                .collect(),
            curve: self.insight.curve_counts(),
        };
        remembered.to_bytes()
    }

    /// Goes on from what was told of accesses before a restart, in place of what loading has counted. False where it is something else.
    pub fn recall_insight(&self, kept: &[u8]) -> bool {
        let Some(mut remembered) = Remembered::of_bytes(kept) else { return false };
        let databases = self.indexes().count() as u32;
        remembered.keys.retain(|(db, ..)| *db < databases);
        let place = |(db, key, counts): (u32, Vec<u8>, [u64; 2])| {
            let table = TableNumber(self.table(crate::keyspace::DbIndex(db)).number);
            (self.hash(&key), table, key, counts)
        };
        let keys = std::mem::take(&mut remembered.keys).into_iter().map(place).collect();
        let panel: &Panel = &self.insight;
        panel.recall(keys, &remembered);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_back_and_what_is_cut_off_is_not() {
        let remembered = Remembered {
            whole: 100,
            keys: vec![(0, b"hot".to_vec(), [50, 2]), (3, Vec::new(), [1, 0])],
            prefixes: vec![(b"user:".to_vec(), [60, 1, 30, 20, 10])],
            curve: CurveCounts {
                threshold: 1 << 31,
                seen: 12.5,
                reads: 99,
                steps: vec![(7, 1.5), (300, 2.0)],
            },
        };
        let bytes = remembered.to_bytes();
        assert_eq!(Remembered::of_bytes(&bytes), Some(remembered));
        for len in 0..bytes.len() {
            // A curve may have fewer steps.
            let found = Remembered::of_bytes(&bytes[..len]);
            assert!(found.is_none() || bytes.len() - len == 8 || bytes.len() - len == 16, "{len}");
        }
        assert_eq!(Remembered::of_bytes(&[&[FORM][..], &[0xff; 40]].concat()), None);
    }
}
