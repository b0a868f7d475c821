//! Victims by rank without a list: a hand that walks the entries bucket by bucket, and the best candidates it has seen.
//!
//! Redis keeps the best of earlier samples as well; here a candidate's rank follows from its field alone, is taken anew when
//! the scale changes, and the candidate is looked at again before it leaves. The order of hashes is random, so each bucket is
//! a fair sample, and since the hand walks, none is passed over. An entry that is no candidate is not asked for its name.
//! Invariant: the candidates are those of the lowest ranks seen, as many as are kept, and no two name the same entry.

use crate::interface::{Entries, Ref, Scope, Seen, Step};

/// Candidates kept from one choice to the next, unless [`Sampler::keep`] says otherwise.
pub(super) const KEPT: usize = 24;
/// Buckets walked in one step in search of candidates.
const BUCKETS_MAX: usize = 8;
/// Entries judged before the first is offered.
const BATCH: usize = 16;
/// Ranks compared at once.
const LANES: usize = 8;

/// A candidate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) at: Ref,
    pub(super) seen: Seen,
}

/// The scale of ranks: how an entry is ranked at the moment.
pub(super) trait Scale {
    /// The rank of an entry that is not over. Its size is asked for where it counts.
    fn rank(&self, field: u32, deadline: u64, bytes: impl FnOnce() -> u32) -> f32;

    /// A number that changes whenever the rank of an entry that is as it was may.
    fn epoch(&self) -> u64;
}

/// What is over goes first.
#[inline]
fn rank_of(scale: &impl Scale, seen: &Seen) -> f32 {
    if seen.is_over { f32::NEG_INFINITY } else { scale.rank(seen.field, seen.deadline, || seen.bytes) }
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

    /// Walks a bucket, having each entry in scope judged: its field as it is to be, and its rank on the scale. Answers whether
    /// there was one that may leave. `BEST_FIRST`: the one of the lowest rank becomes a candidate before the others, so that fewer
    /// of these do for a moment; where many are of one rank it matters which of them came first.
    #[inline]
    pub(super) fn walk<const BEST_FIRST: bool>(
        &mut self,
        entries: &mut dyn Entries,
        scale: &impl Scale,
        mut judge: impl FnMut(&Seen) -> (u32, f32),
    ) -> bool {
        self.rank_anew(scale);
        let (mut shown, mut found, mut is_newest) = (0, 0, false);
        self.hand = entries.walk(self.hand, &mut |seen, passing| {
            shown += seen.len();
            for (batch, seen) in seen.chunks(BATCH).enumerate() {
                let first = batch * BATCH;
                let mut judged = [(0, f32::INFINITY); BATCH];
                let (mut last, mut least, mut least_rank) = (None, 0, f32::INFINITY);
                for (index, (seen, judged)) in seen.iter().zip(&mut judged).enumerate() {
                    if !self.scope.has(seen) {
                        continue;
                    }
                    let (field, rank) = judge(seen);
                    if field != seen.field {
                        passing.set_field(first + index, field);
                    }
                    let rank = if seen.is_over { f32::NEG_INFINITY } else { rank };
                    *judged = (field, rank);
                    (found, last) = (found + 1, Some(index));
                    (least, least_rank) = if rank < least_rank { (index, rank) } else { (least, least_rank) };
                }
                // The entry made last, alone in scope, is as if there were none.
                is_newest = match (last, self.newest) {
                    (Some(last), Some(newest)) => found == 1 && newest == passing.at(first + last),
                    _ => is_newest && found == 1,
                };
                let best = BEST_FIRST.then_some(least);
                let others = (0..seen.len()).filter(|index| Some(*index) != best);
                for index in best.into_iter().chain(others) {
                    let (field, rank) = judged[index];
                    if rank < self.highest {
                        self.offer(passing.at(first + index), Seen { field, ..seen[index] }, rank);
                    }
                }
            }
        });
        let may_leave = found > usize::from(is_newest);
        self.barren = if may_leave { 0 } else { self.barren + shown.max(1) };
        may_leave
    }

    fn rank_anew(&mut self, scale: &impl Scale) {
        if self.epoch != scale.epoch() {
            self.epoch = scale.epoch();
            for (rank, seen) in self.ranks.iter_mut().zip(&self.seen) {
                *rank = rank_of(scale, seen);
            }
            self.find_highest();
        }
    }

    fn find_highest(&mut self) {
        let is_full = self.ranks.len() >= self.kept;
        self.highest = if is_full { -lowest(&self.ranks, |rank| -rank) } else { f32::INFINITY };
    }

    /// Makes an entry of a rank below the highest a candidate, in the place of that if there is no room.
    #[inline(never)]
    fn offer(&mut self, at: Ref, seen: Seen, rank: f32) {
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
    pub(super) fn observe(&mut self, entries: &mut dyn Entries, visit: &mut dyn FnMut(u32)) {
        let scope = self.scope;
        self.hand = entries.walk(self.hand, &mut |seen, _| {
            seen.iter().filter(|seen| scope.has(seen)).for_each(|seen| visit(seen.field));
        });
    }

    /// The candidate of the lowest rank that is still as it was seen. What is over goes first.
    pub(super) fn choose(&mut self, entries: &mut dyn Entries, scale: &impl Scale) -> Choice {
        self.rank_anew(scale);
        for _ in 0..self.kept {
            let lowest = lowest(&self.ranks, |rank| rank);
            let Some(index) = self.ranks.iter().position(|rank| *rank <= lowest) else { break };
            let at = self.refs[index];
            match entries.look(at) {
                Some(seen) if self.scope.has(&seen) && self.newest != Some(at) => {
                    let known = self.seen[index];
                    if seen == known {
                        self.drop_candidate(index);
                        return Choice::Found(Candidate { at, seen }, rank_of(scale, &seen));
                    }
                    (self.seen[index], self.ranks[index]) = (seen, rank_of(scale, &seen));
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

    /// A whole step by rank alone. `renew` answers what an entry's field is to be.
    pub(super) fn step<const BEST_FIRST: bool>(
        &mut self,
        entries: &mut dyn Entries,
        renew: impl Fn(u32) -> u32,
        scale: &impl Scale,
    ) -> Choice {
        for _ in 0..BUCKETS_MAX {
            let judge = |seen: &Seen| {
                let field = renew(seen.field);
                (field, scale.rank(field, seen.deadline, || seen.bytes))
            };
            if self.walk::<BEST_FIRST>(entries, scale, judge) {
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

/// The least of some ranks by a measure; several are compared at once. Infinite for none.
#[inline]
fn lowest(ranks: &[f32], measure: impl Fn(f32) -> f32) -> f32 {
    let less = |one: f32, other: f32| if one < other { one } else { other };
    let mut least = [f32::INFINITY; LANES];
    let (chunks, rest) = ranks.as_chunks::<LANES>();
    for chunk in chunks {
        for (least, rank) in least.iter_mut().zip(chunk) {
            *least = less(measure(*rank), *least);
        }
    }
    for (least, rank) in least.iter_mut().zip(rest) {
        *least = less(measure(*rank), *least);
    }
    let [a, b, c, d, e, f, g, h] = least;
    let [a, b, c, d] = [less(a, e), less(b, f), less(c, g), less(d, h)];
    less(less(a, c), less(b, d))
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
