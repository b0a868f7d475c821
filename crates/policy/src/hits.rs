//! What a thread does on a hit: new bits for the entry's field, and notes of its own, taken in by the policy later.
//!
//! Invariant: nothing here is shared between threads. A hit reads the entry's field, writes it back if it changed, and
//! touches counters of the thread. Read next: the policy whose [`Recording`] it is.

use crate::interface::Ref;
use crate::policies::{adaptive, levels};
use crate::random::Random;

/// How a policy's fields change on a hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recording {
    /// Not at all: fifo, random, ttl.
    None,
    /// The clock goes into the upper 14 bits: lru.
    Clock,
    /// The same, and only for writes: lrm.
    ClockOfWrites,
    /// The same, and the thread lists what it touched: mru.
    ClockAndLog,
    /// Eight bits count, by chance where the number is large, and the clock goes into eight more: lfu.
    Count,
    /// Two bits count: sieve and s3fifo.
    Mark,
    /// Four bits count, and the clock goes into the upper 16: wtinylfu.
    CountAndClock,
    /// Eight bits count, and the clock goes into the upper 16: gdsf.
    CountMoreAndClock,
    /// See [`adaptive`].
    Learn,
}

impl Recording {
    /// Where in a field the clock of the last use stands, and how many bits it has. `None` where fields hold none.
    #[must_use]
    pub fn clock_bits(self) -> Option<(u32, u32)> {
        match self {
            Recording::Clock | Recording::ClockOfWrites | Recording::ClockAndLog => {
                Some((CLOCK_SHIFT, CLOCK_BITS))
            }
            Recording::CountAndClock | Recording::CountMoreAndClock | Recording::Learn => Some((8, 16)),
            Recording::None | Recording::Count | Recording::Mark => None,
        }
    }
}

/// Where the clock stands in the fields of lru, lrm and mru.
pub(crate) const CLOCK_SHIFT: u32 = 10;
/// The bits of that clock.
pub(crate) const CLOCK_BITS: u32 = 14;
pub(crate) const CLOCK_MASK: u32 = (1 << CLOCK_BITS) - 1;

/// What was touched last is remembered as far as this.
const LOG_LEN: usize = 256;

/// A thread's notes of hits for one policy. Kept by each thread for each policy it meets.
#[derive(Debug)]
pub struct Hits {
    recording: Recording,
    /// The policy's clock when it last took the notes in.
    pub(crate) clock: u32,
    /// Hits since then.
    pub(crate) count: u32,
    /// The policy's round when it last took the histogram in.
    pub(crate) round: u32,
    pub(crate) histogram: Box<[u32]>,
    pub(crate) log: Vec<Ref>,
    random: Random,
}

impl Hits {
    /// Empty notes.
    #[must_use]
    pub fn new(recording: Recording, seed: u64) -> Self {
        let cells = if recording == Recording::Learn { adaptive::CELLS } else { 0 };
        Hits {
            recording,
            clock: 0,
            count: 0,
            round: 0,
            histogram: vec![0; cells].into(),
            log: Vec::new(),
            random: Random::new(seed),
        }
    }

    /// Hits since the policy took the notes in.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// An entry was read; answers its new field.
    #[inline]
    pub fn read(&mut self, at: Ref, field: u32) -> u32 {
        self.count += 1;
        match self.recording {
            Recording::None | Recording::ClockOfWrites => field,
            Recording::Clock => self.clocked(field),
            Recording::ClockAndLog => {
                self.log(at);
                self.clocked(field)
            }
            Recording::Count => levels::touched(field, self.clock, &mut self.random),
            Recording::Mark => {
                if field & 3 < 3 {
                    field + 1
                } else {
                    field
                }
            }
            Recording::CountAndClock => {
                let count = if field & 15 < 15 { field + 1 } else { field };
                self.stamped(count)
            }
            Recording::CountMoreAndClock => {
                let count = if field & 0xff < 0xff { field + 1 } else { field };
                self.stamped(count)
            }
            Recording::Learn => {
                let (cell, touched) = adaptive::touched(field, self.clock, &mut self.random);
                if let Some(cell) = self.histogram.get_mut(cell) {
                    *cell += 1;
                }
                touched
            }
        }
    }

    /// An entry was written; answers its new field.
    #[inline]
    pub fn wrote(&mut self, at: Ref, field: u32) -> u32 {
        if self.recording == Recording::ClockOfWrites {
            self.count += 1;
            return self.clocked(field);
        }
        self.read(at, field)
    }

    #[inline]
    fn clocked(&self, field: u32) -> u32 {
        field & ((1 << CLOCK_SHIFT) - 1) | self.clock << CLOCK_SHIFT
    }

    #[inline]
    fn stamped(&self, field: u32) -> u32 {
        field & 0xff | self.clock << 8
    }

    fn log(&mut self, at: Ref) {
        if self.log.len() == LOG_LEN {
            // The older half is forgotten, so that this is one move in many hits.
            self.log.drain(..LOG_LEN / 2);
        }
        self.log.push(at);
    }
}
