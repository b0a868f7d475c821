//! What others see: a transaction is in the log, and told, before queries see what it did. By how much is not bounded: it may wait
//! for a standby, or its process for a processor.
//!
//! A snapshot tells. Once a transaction is not under way in one snapshot, every snapshot that is taken later sees it, over any connection.

use larder_source::Failure;
use larder_source_net::garbled;

/// Asks for a snapshot. A standby tells of what it has replayed, which everybody there sees.
pub const SNAPSHOT: &str = "SELECT txid_current_snapshot()";
/// Asks for a number that every transaction has passed that has one by now; 0 on a standby.
pub const NEXT: &str = "SELECT CASE WHEN pg_is_in_recovery() THEN 0 ELSE txid_current() END";

/// Which transactions are over.
#[derive(Debug, PartialEq)]
pub struct Snapshot {
    /// All before are.
    pub first_open: u64,
    /// None from here on is.
    end: u64,
    /// Which in between are not.
    open: Vec<u64>,
}

impl Snapshot {
    /// Reads PostgreSQL's text: `10:20:10,14,15`.
    pub fn read(text: &str) -> Result<Snapshot, Failure> {
        let mut parts = text.splitn(3, ':');
        let mut number = || parts.next()?.parse().ok();
        let ends = number().zip(number());
        let open = parts.next().unwrap_or_default();
        let open = open.split(',').filter(|text| !text.is_empty()).map(|text| text.parse().ok());
        let open: Option<Vec<u64>> = open.collect();
        match (ends, open) {
            (Some((first_open, end)), Some(open)) => Ok(Snapshot { first_open, end, open }),
            _ => Err(garbled("PostgreSQL told no snapshot")),
        }
    }

    /// Whether everybody sees a transaction from here on. The stream tells the lower half of its number.
    pub fn sees(&self, transaction: u32) -> bool {
        let ahead = transaction.wrapping_sub(self.end as u32).cast_signed();
        let whole = self.end.wrapping_add_signed(i64::from(ahead));
        whole < self.end && !self.open.contains(&whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_tells_what_is_seen() {
        let snapshot = Snapshot::read("10:20:10,14,15").expect("a snapshot");
        let seen: Vec<u32> = (0..30).filter(|&transaction| snapshot.sees(transaction)).collect();
        assert_eq!(seen, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 16, 17, 18, 19]);
        assert_eq!(Snapshot::read("7:7:"), Ok(Snapshot { first_open: 7, end: 7, open: vec![] }));
        for wrong in ["", "1", "1:x:", "1:2:3,x"] {
            assert!(Snapshot::read(wrong).is_err(), "{wrong}");
        }
        // The numbers have gone round.
        let end = (3 << 32) + 5;
        let snapshot = Snapshot { first_open: end - 10, end, open: vec![end - 10, end - 2] };
        for (behind, seen) in [(10, false), (9, true), (2, false), (1, true), (0, false)] {
            assert_eq!(snapshot.sees((end - behind) as u32), seen, "{behind}");
        }
        assert!(!snapshot.sees(9) && snapshot.sees(u32::MAX - 20));
    }
}
