//! Sorted sets: members with scores, ordered by score and, where scores are equal, by the bytes of the
//! members.
//!
//! A small one is a packed buffer, a large one a tree and an index over the same records. Redis' rules
//! decide which: a small one becomes large when it outgrows its limits, and stays so.
//! Invariant: no score is NaN.
//! Read next: `view.rs` (reading), `edit.rs` (changing), then `small.rs`, `large.rs` and `tree/`.

mod bounds;
mod edit;
pub(crate) mod fuzz;
mod gathered;
mod large;
mod load;
mod small;
pub mod tree;
mod view;

#[cfg(test)]
mod tests;

use crate::collection::{Collection, PackedLimits};
use crate::mover::{Mover, Resume};
use crate::packed::{Element, Packed, PackedBuf};
pub use bounds::{BadBound, LexRange, ScoreRange};
pub use edit::{Add, Outcome, Rule};
pub use gathered::Gathered;
use large::Large;
pub use load::{Loaded, Loader};
use std::cmp::Ordering;
pub use view::{Members, View};

/// A sorted set.
#[derive(Debug)]
pub struct ZSet {
    form: Form,
}

#[derive(Debug)]
enum Form {
    Packed(PackedBuf),
    Large(Box<Large>),
}

/// The order of two scores.
#[inline]
fn compare_scores(one: f64, other: f64) -> Ordering {
    one.partial_cmp(&other).unwrap_or(Ordering::Equal)
}

/// Whether one score is below another.
#[inline]
fn precedes(one: f64, other: f64) -> bool {
    compare_scores(one, other) == Ordering::Less
}

/// The order of a member and a text.
#[inline]
fn compare_text(member: Element<'_>, text: &[u8]) -> Ordering {
    match member {
        Element::Bytes(bytes) => bytes.cmp(text),
        Element::Int(_) => member.to_vec().as_slice().cmp(text),
    }
}

/// Whether members with scores are in the order of sorted sets.
pub fn is_sorted<M: AsRef<[u8]>>(pairs: &[(M, f64)]) -> bool {
    pairs.is_sorted_by(|(one, one_score), (next, next_score)| {
        compare_scores(*one_score, *next_score).then_with(|| one.as_ref().cmp(next.as_ref())).is_le()
    })
}

/// Sorts members with scores into the order of sorted sets.
pub fn sort_pairs<M: AsRef<[u8]>>(pairs: &mut [(M, f64)]) {
    pairs.sort_unstable_by(|(one, one_score), (other, other_score)| {
        compare_scores(*one_score, *other_score).then_with(|| one.as_ref().cmp(other.as_ref()))
    });
}

impl ZSet {
    /// The packed pairs of member and score in order, as RESTORE reads them; large if there are more
    /// than the limits allow.
    pub fn from_packed(packed: PackedBuf, limits: PackedLimits) -> ZSet {
        let mut set = ZSet { form: Form::Packed(packed) };
        if set.view().len() > limits.entries_max {
            set.make_large();
        }
        set
    }

    /// Members without repetition, in any order. Small if the limits allow it.
    pub fn from_pairs<M: AsRef<[u8]>>(mut pairs: Vec<(M, f64)>, limits: PackedLimits) -> ZSet {
        sort_pairs(&mut pairs);
        let longest = pairs.iter().map(|(member, _)| member.as_ref().len()).max().unwrap_or(0);
        let bytes: usize = pairs.iter().map(|(member, _)| member.as_ref().len()).sum();
        let is_small = pairs.len() <= limits.entries_max && longest <= limits.value_bytes_max;
        if is_small && small::has_room(Packed::new(&[]), bytes) {
            let mut buf = PackedBuf::new();
            pairs.iter().for_each(|(member, score)| small::push(&mut buf, member.as_ref(), *score));
            return ZSet { form: Form::Packed(buf) };
        }
        ZSet { form: Form::Large(Box::new(Large::from_sorted(pairs.len(), pairs.into_iter()))) }
    }

    /// Has an empty set begin large if so many members, the first of `bytes` bytes, are too much for a small one.
    pub fn expect(&mut self, members: usize, bytes: usize, limits: PackedLimits) {
        if members > limits.entries_max || bytes > limits.value_bytes_max {
            self.make_large();
        }
    }

    /// Has it take its large form.
    pub fn make_large(&mut self) {
        if let Form::Packed(buf) = &self.form {
            let count = self.view().len();
            let mut text = Vec::new();
            let pairs = small::Pairs::all(buf.view()).map(|(member, score)| {
                text.clear();
                member.write_to(&mut text);
                (text.clone(), score)
            });
            self.form = Form::Large(Box::new(Large::from_sorted(count, pairs)));
        }
    }

    /// Panics unless the invariants hold. O(N), for tests.
    pub fn check(&self) {
        if let Form::Large(large) = &self.form {
            large.check();
        }
        let pairs: Vec<(Vec<u8>, f64)> =
            self.view().range(0, usize::MAX, false).map(|(member, score)| (member.to_vec(), score)).collect();
        assert_eq!(pairs.len(), self.view().len(), "the set has as many members as it says");
        assert!(pairs.iter().all(|(_, score)| !score.is_nan()), "no score is NaN");
        let in_order = pairs.is_sorted_by(|(one, one_score), (next, next_score)| {
            compare_scores(*one_score, *next_score).then_with(|| one.cmp(next)).is_lt()
        });
        assert!(in_order, "members are in order and not repeated");
    }
}

impl Collection for ZSet {
    type View<'a> = View<'a>;

    fn new(spare: Vec<u8>) -> Self {
        ZSet { form: Form::Packed(PackedBuf::reusing(spare)) }
    }

    #[inline]
    fn view(&self) -> View<'_> {
        match &self.form {
            Form::Packed(buf) => View::Packed(buf.view()),
            Form::Large(large) => View::Large(large),
        }
    }

    #[inline]
    fn view_inline(_: u8, bytes: &[u8]) -> View<'_> {
        View::Packed(Packed::new(bytes))
    }

    #[inline]
    fn from_inline(_: u8, bytes: Vec<u8>) -> Self {
        ZSet { form: Form::Packed(PackedBuf::from_vec(bytes)) }
    }

    #[inline]
    fn inline(&self) -> Option<(u8, &[u8])> {
        match &self.form {
            Form::Packed(buf) => Some((0, buf.view().bytes())),
            Form::Large(_) => None,
        }
    }

    fn into_spare(self) -> Vec<u8> {
        match self.form {
            Form::Packed(buf) => buf.into_vec(),
            Form::Large(_) => Vec::new(),
        }
    }

    #[inline]
    fn is_empty(&self) -> bool {
        self.view().is_empty()
    }

    #[inline]
    fn items(view: View<'_>) -> usize {
        view.len()
    }

    #[inline]
    fn look_ahead(&self, members: &[&[u8]], ask: &impl Fn(*const u8)) {
        if let Form::Large(large) = &self.form {
            large.look_ahead(members, ask);
        }
    }

    fn encoding(view: View<'_>) -> &'static str {
        match view {
            View::Packed(_) => "listpack",
            View::Large(_) => "skiplist",
        }
    }

    fn heap_bytes(&self) -> usize {
        match &self.form {
            Form::Packed(buf) => buf.heap_bytes(),
            Form::Large(large) => large.heap_bytes(),
        }
    }

    fn free_effort(&self) -> usize {
        match &self.form {
            Form::Packed(_) => 1,
            Form::Large(large) => large.len(),
        }
    }

    fn free_step(&mut self, budget: usize) -> bool {
        match &mut self.form {
            Form::Packed(_) => true,
            Form::Large(large) => large.free_step(budget),
        }
    }

    fn move_blocks(&mut self, mover: &mut Mover<'_>, from: Resume) -> Resume {
        match &mut self.form {
            Form::Packed(buf) => {
                buf.move_blocks(mover);
                Resume::START
            }
            Form::Large(large) => large.move_blocks(mover, from),
        }
    }

    fn duplicate(&self) -> Self {
        let form = match &self.form {
            Form::Packed(buf) => Form::Packed(buf.clone()),
            Form::Large(large) => {
                let pairs = large.tree().range(0, u32::MAX, false);
                let pairs = pairs.map(|item| (large.member(item.record), item.score));
                Form::Large(Box::new(Large::from_sorted(large.len(), pairs)))
            }
        };
        ZSet { form }
    }
}
