//! The best candidates seen so far: a small list in ascending order of rank.
//!
//! Keeping the best of earlier samples makes a few samples an eviction come close to the exact
//! order (the idea is Redis'). Keys in the pool may be gone by the time they are chosen; the evictor
//! then takes the next.

use crate::keyspace::DbIndex;

/// Candidates kept from one eviction to the next.
const POOL_SIZE: usize = 16;

/// A key that may leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    /// How much it deserves to leave.
    pub rank: u64,
    /// Its database.
    pub db: DbIndex,
    /// The key.
    pub key: Vec<u8>,
}

/// Candidates in ascending order of rank.
#[derive(Debug, Default)]
pub(super) struct Pool {
    candidates: Vec<Candidate>,
}

impl Pool {
    /// Offers a key; it enters when there is room or when it outranks the least.
    pub fn offer(&mut self, db: DbIndex, key: &[u8], rank: u64) {
        if self.candidates.len() == POOL_SIZE
            && self.candidates.first().is_some_and(|least| least.rank >= rank)
        {
            return;
        }
        if self.candidates.iter().any(|candidate| candidate.db == db && candidate.key == key) {
            return;
        }
        if self.candidates.len() == POOL_SIZE {
            self.candidates.remove(0);
        }
        let at = self.candidates.partition_point(|candidate| candidate.rank <= rank);
        self.candidates.insert(at, Candidate { rank, db, key: key.to_vec() });
    }

    /// Takes the candidate of the highest rank.
    pub fn pop(&mut self) -> Option<Candidate> {
        self.candidates.pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_ranks_of_all_offers_come_out_first() {
        let mut pool = Pool::default();
        for rank in [5u64, 90, 17, 3, 44, 61, 8, 29, 72, 99, 14, 50, 33, 21, 86, 11, 67, 95, 2, 38] {
            pool.offer(DbIndex(0), &rank.to_be_bytes(), rank);
        }
        let ranks: Vec<u64> = std::iter::from_fn(|| pool.pop()).map(|candidate| candidate.rank).collect();
        assert_eq!(ranks[..6], [99, 95, 90, 86, 72, 67]);
        assert_eq!(ranks.len(), POOL_SIZE);
    }
}
