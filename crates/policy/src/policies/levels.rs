//! lfu: rings by number of uses, in which entries stand under the number they were filed with.
//!
//! A hit counts in the entry and nothing else. Who comes out of the lowest ring with more uses than it stands for is filed
//! again under what it has. Up to 128 uses have rings of their own, above that rings are an eighth of an octave wide.
//!
//! Field, from the top: 16 bits uses, 8 bits ring. Cost: four bytes an entry. As in `calendar.rs`, a reference that comes
//! out of another ring than the entry says is a leftover and dropped.
//! Invariant: no entry stands higher than its uses tell.

use super::leftovers_max;
use crate::Hits;
use crate::interface::{Entries, Policy, Ref, Scope, Seen, Step};
use crate::ring::Rings;

const EXACT: u32 = 128;
const RINGS: usize = 256;
const LOOKS: usize = 16;

/// The ring for so many uses.
fn level(uses: u32) -> usize {
    if uses < EXACT {
        return uses as usize;
    }
    let octave = uses.ilog2();
    let eighth = uses >> (octave - 3) & 7;
    (EXACT + (octave - EXACT.ilog2()) * 8 + eighth).min(RINGS as u32 - 1) as usize
}

/// The policy.
#[derive(Debug)]
pub struct Levels {
    scope: Scope,
    rings: Rings,
    newest: Option<Ref>,
    lowest: usize,
}

impl Levels {
    /// An empty one.
    #[must_use]
    pub fn new(scope: Scope) -> Self {
        Levels { scope, rings: Rings::new(RINGS), newest: None, lowest: 0 }
    }

    fn file(&mut self, entries: &mut dyn Entries, at: Ref, level: usize, field: u32) {
        entries.set_field(at, field & !0xff | level as u32);
        self.rings.push(level, at);
    }

    /// Looks at the next reference of the lowest ring; an entry comes out with its field when it may leave.
    fn next(&mut self, entries: &mut dyn Entries) -> Option<Ref> {
        let from = self.lowest;
        let at = self.rings.pop(from)?;
        let seen = entries.look(at)?;
        if !self.scope.has(&seen) || (seen.field & 0xff) as usize != from {
            return None;
        }
        let level = level(seen.field >> 8);
        if seen.is_over {
            return Some(at);
        }
        if level > from || self.newest == Some(at) && entries.len() > 1 {
            self.file(entries, at, level, seen.field);
            return None;
        }
        Some(at)
    }
}

impl Policy for Levels {
    fn created(&mut self, at: Ref, _bytes: u32) -> u32 {
        self.newest = Some(at);
        self.rings.push(1, at);
        self.lowest = 1;
        1 << 8 | 1
    }

    fn removed(&mut self, _at: Ref, _seen: Seen) {}

    fn absorb(&mut self, hits: &mut Hits) {
        hits.count = 0;
    }

    fn step(&mut self, entries: &mut dyn Entries) -> Step {
        for _ in 0..LOOKS {
            while self.rings.has_none(self.lowest) {
                if self.lowest + 1 == RINGS {
                    self.lowest = 0;
                    return Step::Nothing;
                }
                self.lowest += 1;
            }
            // Where the newest stands alone in the lowest ring, others above it leave.
            if self.rings.count(self.lowest) == 1 && self.rings.total() > 1 {
                let before = self.rings.pop(self.lowest);
                if let Some(at) = before {
                    self.rings.push(self.lowest, at);
                    if self.newest == before && entries.len() > 1 {
                        if let Some(above) = (self.lowest + 1..RINGS).find(|level| !self.rings.has_none(*level)) {
                            let lowest = std::mem::replace(&mut self.lowest, above);
                            let found = self.next(entries);
                            self.lowest = lowest;
                            if let Some(at) = found {
                                return Step::Evict(at);
                            }
                            continue;
                        }
                    }
                }
            }
            if let Some(at) = self.next(entries) {
                return Step::Evict(at);
            }
        }
        Step::More
    }

    fn observe(&mut self, entries: &mut dyn Entries) {
        // Leftovers of deletions stand anywhere: each ring in turn gives up its oldest, and takes it back if it counts.
        if self.rings.total() <= leftovers_max(entries.len()) {
            return;
        }
        let most = (0..RINGS).max_by_key(|ring| self.rings.count(*ring)).unwrap_or(0);
        for _ in 0..LOOKS {
            let Some(at) = self.rings.pop(most) else { break };
            if let Some(seen) = entries.look(at)
                && self.scope.has(&seen)
                && (seen.field & 0xff) as usize == most
            {
                self.file(entries, at, level(seen.field >> 8), seen.field);
            }
        }
    }

    fn memory(&self) -> usize {
        self.rings.memory() + size_of::<Self>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_rise_with_uses() {
        let mut before = 0;
        for uses in 1..=u32::from(u16::MAX) {
            let ring = level(uses);
            assert!(ring >= before && ring - before <= 1 && ring < RINGS, "{uses}: {ring} after {before}");
            before = ring;
        }
        assert_eq!((level(127), level(128), level(143), level(144)), (127, 128, 128, 129));
    }
}
