//! Victims by rank without a list: a hand that walks the entries bucket by bucket, and the best candidates it has seen.
//!
//! Redis keeps the best of earlier samples as well; here candidates are ranked anew at each choice, by their fields
//! alone, and looked at again before one leaves. The order of hashes is random, so each bucket is a fair sample, and
//! since the hand walks, none is passed over.
//! Invariant: the candidates are at most twice as many as are kept, and no two name the same entry.

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

/// The hand and the candidates.
#[derive(Debug)]
pub(super) struct Sampler {
    scope: Scope,
    hand: u32,
    candidates: Vec<Candidate>,
    /// How many of them are kept.
    kept: usize,
    /// Entries shown since the last time one was in scope.
    barren: usize,
    /// The entry that was made last: a SET that was acknowledged is readable right after.
    newest: Option<Ref>,
}

impl Sampler {
    pub(super) fn new(scope: Scope, start: u32) -> Self {
        let candidates = Vec::with_capacity(KEPT + SHOWN_MAX * BUCKETS_MAX);
        Sampler { scope, hand: start, candidates, kept: KEPT, barren: 0, newest: None }
    }

    /// Has so many candidates kept from now on.
    pub(super) fn keep(&mut self, candidates: usize) {
        self.kept = candidates.max(1);
        self.candidates = Vec::with_capacity(self.kept + SHOWN_MAX * BUCKETS_MAX);
    }

    pub(super) fn memory(&self) -> usize {
        self.candidates.capacity() * size_of::<Candidate>()
    }

    pub(super) fn created(&mut self, at: Ref) {
        self.newest = Some(at);
    }

    /// Something is about to be made: what was made before may leave for it.
    pub(super) fn arriving(&mut self) {
        self.newest = None;
    }

    /// Walks a bucket, showing it to `visit` too, which may change the fields. Answers how many entries in scope it showed.
    pub(super) fn walk(&mut self, entries: &mut dyn Entries, visit: &mut dyn FnMut(&mut Seen)) -> usize {
        let mut shown = 0;
        let mut changed = [None; SHOWN_MAX];
        let (scope, candidates, newest) = (self.scope, &mut self.candidates, self.newest);
        let mut found = 0;
        self.hand = entries.walk(self.hand, &mut |at, mut seen| {
            shown += 1;
            if scope.has(&seen) {
                let field = seen.field;
                visit(&mut seen);
                if field != seen.field
                    && let Some(place) = changed.get_mut(shown - 1)
                {
                    *place = Some((at, seen.field));
                }
                found += 1;
                let room = candidates.capacity() - candidates.len();
                let is_known = candidates.iter_mut().find(|known| known.at == at);
                match is_known {
                    Some(known) => known.seen = seen,
                    None if newest != Some(at) && room > 0 => {
                        candidates.push(Candidate { at, seen });
                    }
                    None => {}
                }
            }
        });
        for (at, field) in changed.into_iter().flatten() {
            entries.set_field(at, field);
        }
        self.barren = if found > 0 { 0 } else { self.barren + shown.max(1) };
        found
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
    pub(super) fn choose(&mut self, entries: &mut dyn Entries, rank: &dyn Fn(&Seen) -> f32) -> Choice {
        for _ in 0..self.kept {
            let ranked = self.candidates.iter().enumerate();
            let ranked = ranked.map(|(index, known)| {
                (if known.seen.is_over { f32::NEG_INFINITY } else { rank(&known.seen) }, index)
            });
            let Some((lowest, index)) = ranked.min_by(|a, b| a.0.total_cmp(&b.0)) else { break };
            let known = self.candidates.swap_remove(index);
            match entries.look(known.at) {
                Some(seen) if self.scope.has(&seen) && self.newest != Some(known.at) => {
                    if seen.field == known.seen.field && seen.bytes == known.seen.bytes {
                        self.shrink(rank);
                        return Choice::Found(known, lowest);
                    }
                    self.candidates.push(Candidate { at: known.at, seen });
                }
                _ => {}
            }
        }
        self.shrink(rank);
        if self.barren > 2 * entries.len() + 64 { Choice::Nothing } else { Choice::More }
    }

    /// Keeps only the best.
    fn shrink(&mut self, rank: &dyn Fn(&Seen) -> f32) {
        if self.candidates.len() > 2 * self.kept {
            self.candidates.select_nth_unstable_by(self.kept, |a, b| rank(&a.seen).total_cmp(&rank(&b.seen)));
            self.candidates.truncate(self.kept);
        }
    }

    /// A whole step by rank alone.
    pub(super) fn step(
        &mut self,
        entries: &mut dyn Entries,
        visit: &mut dyn FnMut(&mut Seen),
        rank: &dyn Fn(&Seen) -> f32,
    ) -> Choice {
        for _ in 0..BUCKETS_MAX {
            if self.walk(entries, visit) > 0 {
                break;
            }
        }
        self.lonely(entries);
        self.choose(entries, rank)
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
