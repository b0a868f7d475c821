//! lfu: rings by number of uses, in which entries stand under the number they were filed with.
//!
//! A hit counts in the entry and nothing else. Who comes out of the lowest ring with more uses than it stands for is filed
//! again under what it has. Of those with the fewest uses the one used longest ago leaves: of the 32 that were filed first.
//! Up to 128 uses are counted one by one; above that a level is an eighth of an octave wide and reached by chance (Morris,
//! CACM 1978).
//!
//! Field, from the top: 8 bits level, 8 bits clock of the last use, 8 bits ring. Cost: 4.6 bytes an entry. As in
//! `calendar.rs`, a reference that comes out of another ring than the entry says is a leftover and dropped.
//! Invariant: no entry stands higher than its level.

use super::leftovers_max;
use crate::Hits;
use crate::interface::{Entries, Epoch, Policy, Ref, Scope, Seen, Step};
use crate::random::Random;
use crate::ring::Rings;

const RINGS: usize = 256;
const LEVEL_SHIFT: u32 = 16;
const EXACT: u32 = 128;
const LOOKS: usize = 16;
/// References of a level of which the one used longest ago is chosen.
const POOL: usize = 32;
/// Ticks of the clock in as many uses as there are entries.
const TICKS_A_ROUND: u64 = 16;

/// The field after a use.
#[inline]
pub(crate) fn touched(field: u32, clock: u32, random: &mut Random) -> u32 {
    let level = field >> LEVEL_SHIFT;
    let rises = match level.checked_sub(EXACT) {
        None => true,
        Some(above) => level < 255 && random.next() >> (60 - above / 8) == 0,
    };
    (level + u32::from(rises)) << LEVEL_SHIFT | (clock & 0xff) << 8 | field & 0xff
}

/// How often an entry was used, by its field: exactly up to 128 times, above that an eighth of an octave each.
#[must_use]
pub fn uses_of(field: u32) -> u8 {
    (field >> LEVEL_SHIFT) as u8
}

/// The field of an entry that was used so often, at least once. It stays filed where it is.
#[must_use]
pub fn with_uses(field: u32, uses: u8) -> u32 {
    field & ((1 << LEVEL_SHIFT) - 1) | u32::from(uses.max(1)) << LEVEL_SHIFT
}

/// The level, and how long ago the entry was used.
pub(super) fn kept(field: u32, epoch: Epoch) -> u32 {
    field & !0xffff | epoch.age(field >> 8, 8) << 8
}

/// The policy.
#[derive(Debug)]
pub struct Levels {
    scope: Scope,
    rings: Rings,
    newest: Option<Ref>,
    /// No ring below this one has references.
    lowest: usize,
    /// References taken out of the ring of `pool_level`, with their fields.
    pool: Vec<(Ref, u32)>,
    pool_level: usize,
    uses: u64,
    ticked_at: u64,
    clock: u32,
    entries: usize,
}

impl Levels {
    /// An empty one.
    #[must_use]
    pub fn new(scope: Scope) -> Self {
        Levels {
            scope,
            rings: Rings::new(),
            newest: None,
            lowest: 1,
            pool: Vec::with_capacity(POOL),
            pool_level: 0,
            uses: 0,
            ticked_at: 0,
            clock: 0,
            entries: 0,
        }
    }

    fn used(&mut self, uses: u64) {
        self.uses += uses;
        let tick = (self.entries as u64 / TICKS_A_ROUND).max(1);
        let ticks = (self.uses - self.ticked_at) / tick;
        self.ticked_at += ticks * tick;
        self.clock = self.clock.wrapping_add(ticks as u32);
    }

    fn file(&mut self, entries: &mut dyn Entries, at: Ref, field: u32) {
        let level = field >> LEVEL_SHIFT;
        entries.set_field(at, field & !0xff | level);
        self.rings.push(level as usize, at);
    }

    /// Looks at a reference that came out of a ring; answers the field when it belongs to an entry that stands there.
    fn filed(&mut self, entries: &mut dyn Entries, at: Ref, level: usize) -> Option<Seen> {
        let seen = entries.look(at)?;
        if !self.scope.has(&seen) || (seen.field & 0xff) as usize != level {
            return None;
        }
        if (seen.field >> LEVEL_SHIFT) as usize > level && !seen.is_over {
            self.file(entries, at, seen.field);
            return None;
        }
        Some(seen)
    }

    /// The pool goes back to where it came from.
    fn empty_pool(&mut self) {
        while let Some((at, _)) = self.pool.pop() {
            self.rings.push_oldest(self.pool_level, at);
        }
    }

    /// Takes one more reference of the level into the pool, or the oldest of it out.
    fn next_above(&mut self, entries: &mut dyn Entries, level: usize) -> Option<Ref> {
        if self.pool_level != level {
            self.empty_pool();
            self.pool_level = level;
        }
        if self.pool.len() < POOL
            && let Some(at) = self.rings.pop(level)
        {
            if let Some(seen) = self.filed(entries, at, level) {
                if seen.is_over {
                    return Some(at);
                }
                self.pool.push((at, seen.field));
            }
            return None;
        }
        let clock = self.clock;
        let age = |field: u32| clock.wrapping_sub(field >> 8) & 0xff;
        // Of several of one age the first, which was filed before the others.
        let ages = self.pool.iter().enumerate().rev();
        let (index, _) = ages.max_by_key(|(_, (_, field))| age(*field))?;
        let (at, _) = self.pool.remove(index);
        self.filed(entries, at, level).map(|_| at)
    }

    /// The lowest level that has anything.
    fn level(&mut self) -> Option<usize> {
        while self.rings.has_none(self.lowest) && (self.pool.is_empty() || self.pool_level != self.lowest) {
            if self.lowest + 1 == RINGS {
                self.lowest = 1;
                return None;
            }
            self.lowest += 1;
        }
        Some(self.lowest)
    }
}

impl Policy for Levels {
    fn created(&mut self, at: Ref, _bytes: u32) -> u32 {
        self.used(1);
        self.newest = Some(at);
        self.rings.push(1, at);
        self.lowest = 1;
        1 << LEVEL_SHIFT | (self.clock & 0xff) << 8 | 1
    }

    fn adopt(&mut self, at: Ref, _seen: Seen, idle: f32) -> u32 {
        self.rings.push(1, at);
        self.lowest = 1;
        // The pool is of those used longest ago, so far as the clock tells.
        let ticks = (idle.clamp(0.0, 1.0) * TICKS_A_ROUND as f32) as u32;
        1 << LEVEL_SHIFT | (self.clock.wrapping_sub(ticks) & 0xff) << 8 | 1
    }

    fn recall(&mut self, at: Ref, _bytes: u32, kept: u32) -> u32 {
        let level = (kept >> LEVEL_SHIFT & 0xff).max(1);
        self.rings.push(level as usize, at);
        self.lowest = self.lowest.min(level as usize);
        level << LEVEL_SHIFT | (self.clock.wrapping_sub(kept >> 8) & 0xff) << 8 | level
    }

    fn epoch(&self) -> Epoch {
        Epoch { clock: self.clock }
    }

    fn refile(&mut self, at: Ref, seen: Seen) -> u32 {
        let level = (seen.field >> LEVEL_SHIFT).max(1);
        self.rings.push(level as usize, at);
        self.lowest = self.lowest.min(level as usize);
        level << LEVEL_SHIFT | seen.field & 0xff00 | level
    }

    fn is_cluttered(&self, entries: usize) -> bool {
        self.rings.total() > leftovers_max(entries)
    }

    fn arriving(&mut self) {
        self.newest = None;
    }

    fn removed(&mut self, _at: Ref, _seen: Seen) {}

    fn was_used(&self, seen: &Seen) -> bool {
        uses_of(seen.field) > 1
    }

    fn absorb(&mut self, hits: &mut Hits) {
        self.used(u64::from(std::mem::take(&mut hits.count)));
        hits.clock = self.clock;
    }

    fn step(&mut self, entries: &mut dyn Entries) -> Step {
        self.entries = entries.len();
        let mut spared = None;
        let mut step = Step::More;
        for _ in 0..2 * POOL {
            let Some(level) = self.level() else {
                step = Step::Nothing;
                break;
            };
            let found = if level == 1 {
                self.rings.pop(1).filter(|at| {
                    let stays = self.newest == Some(*at) && entries.len() > 1;
                    spared = spared.or(stays.then_some(*at));
                    !stays && self.filed(entries, *at, 1).is_some()
                })
            } else {
                self.next_above(entries, level)
            };
            if let Some(at) = found {
                step = Step::Evict(at);
                break;
            }
        }
        if let Some(at) = spared {
            self.rings.push(1, at);
            self.lowest = 1;
        }
        step
    }

    fn observe(&mut self, entries: &mut dyn Entries) {
        self.rings.shrink();
        // Leftovers of deletions stand anywhere: the longest ring gives up its oldest, and takes them back if they count.
        if self.rings.total() <= leftovers_max(entries.len()) {
            return;
        }
        let most = (0..RINGS).max_by_key(|ring| self.rings.count(*ring)).unwrap_or(0);
        for _ in 0..LOOKS {
            let Some(at) = self.rings.pop(most) else { break };
            if let Some(seen) = self.filed(entries, at, most) {
                self.file(entries, at, seen.field);
            }
        }
    }

    fn memory(&self) -> usize {
        self.rings.memory() + self.pool.capacity() * size_of::<(Ref, u32)>() + size_of::<Self>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_above_the_exact_ones_stand_for_eighths_of_octaves() {
        let mut random = Random::new(1);
        let (mut field, mut uses) = (1 << LEVEL_SHIFT, 1u32);
        for (target, low, high) in [(128u32, 128, 128), (136, 200, 330), (144, 400, 660), (160, 1_500, 3_000)]
        {
            while field >> LEVEL_SHIFT < target {
                field = touched(field, 7, &mut random);
                uses += 1;
            }
            assert!((low..=high).contains(&uses), "level {target} after {uses}");
        }
        let top = 255 << LEVEL_SHIFT;
        assert_eq!(touched(top, 0, &mut random) >> LEVEL_SHIFT, 255);
    }
}
