//! Victims by rank without a list: a hand that walks the entries bucket by bucket, and the best candidates it has seen.
//!
//! Redis keeps the best of earlier samples as well; here a candidate's rank follows from its field alone, is taken anew when
//! the scale changes, and the candidate is looked at again before it leaves. The order of hashes is random, so each bucket is
//! a fair sample, and since the hand walks, none is passed over.
//! Invariant: the candidates are those of the lowest ranks seen, as many as are kept, and no two name the same entry.

use crate::interface::{Entries, Ref, Scope, Seen, Step};

/// Candidates kept from one choice to the next, unless [`Sampler::keep`] says otherwise.
const KEPT: usize = 24;
/// Entries a bucket may show.
const SHOWN_MAX: usize = 16;
/// Buckets walked in one step in search of candidates.
const BUCKETS_MAX: usize = 8;

/// A candidate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) at: Ref,
    pub(super) seen: Seen,
}

/// The scale of ranks: how an entry is ranked at the moment, and a number that changes whenever that of an entry that is as
/// it was may.
pub(super) struct Scale<'a> {
    pub(super) rank: &'a dyn Fn(&Seen) -> f32,
    pub(super) epoch: u64,
}

impl Scale<'_> {
    /// What is over goes first.
    fn of(&self, seen: &Seen) -> f32 {
        if seen.is_over { f32::NEG_INFINITY } else { (self.rank)(seen) }
    }
}

/// The hand and the candidates.
#[derive(Debug)]
pub(super) struct Sampler {
    scope: Scope,
    hand: u32,
    /// The candidates: references, ranks and what was seen, each in a row of its own to be compared quickly.
    refs: Vec<Ref>,
    ranks: Vec<f32>,
    seen: Vec<Seen>,
    /// The highest of the ranks; beyond all while there is room.
    highest: f32,
    /// How many are kept.
    kept: usize,
    /// The epoch of the ranks.
    epoch: u64,
    /// Entries shown since the last time one was in scope.
    barren: usize,
    /// The entry that was made last: a SET that was acknowledged is readable right after.
    newest: Option<Ref>,
}

impl Sampler {
    pub(super) fn new(scope: Scope, start: u32) -> Self {
        let mut sampler = Sampler {
            scope,
            hand: start,
            refs: Vec::new(),
            ranks: Vec::new(),
            seen: Vec::new(),
            highest: f32::INFINITY,
            kept: 0,
            epoch: 0,
            barren: 0,
            newest: None,
        };
        sampler.keep(KEPT);
        sampler
    }

    /// Has so many candidates kept from now on.
    pub(super) fn keep(&mut self, candidates: usize) {
        self.kept = candidates.max(1);
        (self.refs, self.ranks) = (Vec::with_capacity(self.kept), Vec::with_capacity(self.kept));
        self.seen = Vec::with_capacity(self.kept);
        self.highest = f32::INFINITY;
    }

    pub(super) fn memory(&self) -> usize {
        self.refs.capacity() * (size_of::<Ref>() + size_of::<f32>() + size_of::<Seen>())
    }

    pub(super) fn created(&mut self, at: Ref) {
        self.newest = Some(at);
        self.barren = 0;
    }

    /// There is one in scope that was not known to be.
    pub(super) fn has_more(&mut self) {
        self.barren = 0;
    }

    /// Something is about to be made: what was made before may leave for it.
    pub(super) fn arriving(&mut self) {
        self.newest = None;
    }

    /// Walks a bucket, showing it to `visit` too, which may change the fields. Answers how many entries in scope it showed
    /// that may leave.
    pub(super) fn walk(
        &mut self,
        entries: &mut dyn Entries,
        visit: &mut dyn FnMut(&mut Seen),
        scale: &Scale<'_>,
    ) -> usize {
        self.rank_anew(scale);
        let (mut shown, mut found, mut others) = (0, 0, 0);
        let mut bucket = [None; SHOWN_MAX];
        let (scope, newest) = (self.scope, self.newest);
        self.hand = entries.walk(self.hand, &mut |at, mut seen| {
            shown += 1;
            if !scope.has(&seen) {
                return;
            }
            let field = seen.field;
            visit(&mut seen);
            if let Some(place) = bucket.get_mut(found) {
                *place = Some((at, seen, field != seen.field));
            }
            found += 1;
            // The entry made last, alone in scope, is as if there were none.
            others += usize::from(newest != Some(at));
        });
        for (at, seen, is_changed) in bucket.into_iter().take(found).flatten() {
            if is_changed {
                entries.set_field(at, seen.field);
            }
            self.offer(at, seen, scale.of(&seen));
        }
        self.barren = if others > 0 { 0 } else { self.barren + shown.max(1) };
        others
    }

    fn rank_anew(&mut self, scale: &Scale<'_>) {
        if self.epoch != scale.epoch {
            self.epoch = scale.epoch;
            for (rank, seen) in self.ranks.iter_mut().zip(&self.seen) {
                *rank = scale.of(seen);
            }
            self.find_highest();
        }
    }

    fn find_highest(&mut self) {
        let highest =
            |ranks: &[f32]| ranks.iter().fold(f32::NEG_INFINITY, |highest, rank| highest.max(*rank));
        self.highest = if self.ranks.len() < self.kept { f32::INFINITY } else { highest(&self.ranks) };
    }

    /// Makes an entry a candidate if there is room or one of a higher rank, which makes room.
    fn offer(&mut self, at: Ref, seen: Seen, rank: f32) {
        if rank >= self.highest {
            return;
        }
        // Without a way out on the way, so that many are compared at once.
        if self.refs.iter().fold(false, |any, known| any | (*known == at)) {
            if let Some(index) = self.refs.iter().position(|known| *known == at) {
                (self.seen[index], self.ranks[index]) = (seen, rank);
                self.find_highest();
            }
            return;
        }
        if self.newest == Some(at) {
            return;
        }
        if self.refs.len() < self.kept {
            self.refs.push(at);
            self.ranks.push(rank);
            self.seen.push(seen);
        } else if let Some(index) = self.ranks.iter().position(|known| *known == self.highest) {
            (self.refs[index], self.ranks[index], self.seen[index]) = (at, rank, seen);
        }
        self.find_highest();
    }

    /// Looks at a bucket without choosing.
    pub(super) fn observe(&mut self, entries: &mut dyn Entries, visit: &mut dyn FnMut(&Seen)) -> usize {
        let mut found = 0;
        let scope = self.scope;
        self.hand = entries.walk(self.hand, &mut |_, seen| {
            if scope.has(&seen) {
                visit(&seen);
                found += 1;
            }
        });
        found
    }

    /// The candidate of the lowest rank that is still as it was seen. What is over goes first.
    pub(super) fn choose(&mut self, entries: &mut dyn Entries, scale: &Scale<'_>) -> Choice {
        self.rank_anew(scale);
        for _ in 0..self.kept {
            let lowest = self.ranks.iter().fold(f32::INFINITY, |lowest, rank| lowest.min(*rank));
            let Some(index) = self.ranks.iter().position(|rank| *rank <= lowest) else { break };
            let at = self.refs[index];
            match entries.look(at) {
                Some(seen) if self.scope.has(&seen) && self.newest != Some(at) => {
                    let known = self.seen[index];
                    if seen.field == known.field && seen.bytes == known.bytes {
                        self.drop_candidate(index);
                        return Choice::Found(Candidate { at, seen }, scale.of(&seen));
                    }
                    (self.seen[index], self.ranks[index]) = (seen, scale.of(&seen));
                    self.find_highest();
                }
                _ => self.drop_candidate(index),
            }
        }
        if self.barren > 2 * entries.len() + 64 { Choice::Nothing } else { Choice::More }
    }

    fn drop_candidate(&mut self, index: usize) {
        self.refs.swap_remove(index);
        self.ranks.swap_remove(index);
        self.seen.swap_remove(index);
        self.highest = f32::INFINITY;
    }

    /// A whole step by rank alone.
    pub(super) fn step(
        &mut self,
        entries: &mut dyn Entries,
        visit: &mut dyn FnMut(&mut Seen),
        scale: &Scale<'_>,
    ) -> Choice {
        for _ in 0..BUCKETS_MAX {
            if self.walk(entries, visit, scale) > 0 {
                break;
            }
        }
        self.lonely(entries);
        self.choose(entries, scale)
    }

    /// Where the newest is the only one left it may go after all.
    pub(super) fn lonely(&mut self, entries: &mut dyn Entries) {
        if entries.len() <= 1 {
            self.newest = None;
        }
    }
}

/// What a choice came to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Choice {
    /// This one, and its rank.
    Found(Candidate, f32),
    /// None of the candidates was as it had been seen.
    More,
    /// Nothing is in scope.
    Nothing,
}

impl Choice {
    pub(super) fn step(self) -> Step {
        match self {
            Choice::Found(candidate, _) => Step::Evict(candidate.at),
            Choice::More => Step::More,
            Choice::Nothing => Step::Nothing,
        }
    }
}
