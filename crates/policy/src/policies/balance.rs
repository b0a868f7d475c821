//! How many bytes two regions of a cache hold: counted as entries come and go, and held against what is there.
//!
//! Whoever holds the entries may forget to tell, as when all of them are removed at once; and what a reference that was
//! dropped stood for is not known. A hand walks the entries, and after each round what was counted on the average
//! is compared with what was seen. Invariant: what differs by more than a twentieth is put right within two rounds.

use crate::interface::{Entries, Seen};

/// What differs by less than this part of all is left as it is: entries come and go while the hand is under way.
const TOLERANCE: u64 = 20;

/// The bytes of two regions.
#[derive(Debug, Default)]
pub(super) struct Balance {
    counted: [u64; 2],
    hand: u32,
    /// What the hand has seen in this round, the sum of what was counted at its steps, and these.
    shown: [u64; 2],
    sums: [f64; 2],
    steps: u32,
}

impl Balance {
    pub(super) fn of(&self, region: usize) -> u64 {
        self.counted[region]
    }

    pub(super) fn add(&mut self, region: usize, bytes: u32) {
        self.counted[region] = self.counted[region].saturating_add(u64::from(bytes));
    }

    pub(super) fn take(&mut self, region: usize, bytes: u32) {
        self.counted[region] = self.counted[region].saturating_sub(u64::from(bytes));
    }

    /// Looks at a bucket. `region` tells where an entry belongs that counts.
    pub(super) fn look(&mut self, entries: &mut dyn Entries, region: &mut dyn FnMut(&Seen) -> Option<usize>) {
        let shown = &mut self.shown;
        self.hand = entries.walk(self.hand, &mut |seen, _| {
            for seen in seen {
                if let Some(region) = region(seen) {
                    shown[region] += u64::from(seen.bytes);
                }
            }
        });
        self.steps += 1;
        for (sum, counted) in self.sums.iter_mut().zip(self.counted) {
            *sum += counted as f64;
        }
        if self.hand == 0 {
            self.put_right();
        }
    }

    /// At the end of a round.
    fn put_right(&mut self) {
        let all = self.shown[0] + self.shown[1];
        for region in 0..2 {
            let counted = (self.sums[region] / f64::from(self.steps)) as u64;
            let shown = self.shown[region];
            if counted.abs_diff(shown) > all / TOLERANCE {
                // What came or went since is in both.
                self.counted[region] = (self.counted[region] + shown).saturating_sub(counted);
            }
        }
        (self.shown, self.sums, self.steps) = ([0; 2], [0.0; 2], 0);
    }
}
