//! What can be changed of a sorted set, whatever its form.

use super::{Form, ZSet, small};
use crate::collection::{Collection, PackedLimits};

/// Which members [`ZSet::add`] looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rule {
    /// All.
    #[default]
    Any,
    /// Those that are not there.
    Absent,
    /// Those that are there.
    Present,
}

/// How [`ZSet::add`] treats a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Add {
    /// Which members it is for.
    pub rule: Rule,
    /// Of present members, only those whose score becomes greater.
    pub only_greater: bool,
    /// Of present members, only those whose score becomes less.
    pub only_less: bool,
    /// The number is added to the present score.
    pub increment: bool,
}

/// What became of a member.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Outcome {
    /// Nothing: the rules excluded it.
    Excluded,
    /// It is new, with this score.
    Added(f64),
    /// It has this other score.
    Changed(f64),
    /// It has the score already.
    Same(f64),
    /// The sum would be no number; nothing has changed.
    NotANumber,
}

impl Add {
    /// What becomes of a member with the present score, `None` for a new one. `number` is not NaN.
    pub(super) fn outcome(self, present: Option<f64>, number: f64) -> Outcome {
        let Some(present) = present else {
            return if self.rule == Rule::Present { Outcome::Excluded } else { Outcome::Added(number) };
        };
        if self.rule == Rule::Absent {
            return Outcome::Excluded;
        }
        let score = if self.increment { present + number } else { number };
        if score.is_nan() {
            Outcome::NotANumber
        } else if (self.only_less && score >= present) || (self.only_greater && score <= present) {
            Outcome::Excluded
        } else if score == present {
            Outcome::Same(score)
        } else {
            Outcome::Changed(score)
        }
    }
}

impl ZSet {
    /// Adds a member or changes its score. `number` is not NaN. O(log N).
    pub fn add(&mut self, member: &[u8], number: f64, how: Add, limits: PackedLimits) -> Outcome {
        if let Form::Packed(_) = &self.form {
            let outcome = self.add_small(member, number, how, limits);
            if let Some(outcome) = outcome {
                return outcome;
            }
            self.make_large();
        }
        let mut outcome = Outcome::Excluded;
        if let Form::Large(large) = &mut self.form {
            large.change(member, |present| {
                outcome = how.outcome(present, number);
                match outcome {
                    Outcome::Added(score) | Outcome::Changed(score) => Some(score),
                    Outcome::Excluded | Outcome::Same(_) | Outcome::NotANumber => None,
                }
            });
        }
        outcome
    }

    /// Like `add`, for a small set; `None`, with nothing changed, where it must become large.
    fn add_small(&mut self, member: &[u8], number: f64, how: Add, limits: PackedLimits) -> Option<Outcome> {
        let Form::Packed(buf) = &mut self.form else { return None };
        let packed = buf.view();
        let found = small::find(packed, member);
        let present = found.map(|(_, score)| small::score_of(packed.get(score)));
        let outcome = how.outcome(present, number);
        match outcome {
            Outcome::Added(score) => {
                let fits = packed.len() / 2 < limits.entries_max
                    && member.len() <= limits.value_bytes_max
                    && small::has_room(packed, member.len());
                if !fits {
                    return None;
                }
                small::insert(buf, member, score);
            }
            Outcome::Changed(score) => {
                if let Some((at, _)) = found {
                    buf.remove(at, 2);
                }
                small::insert(buf, member, score);
            }
            Outcome::Excluded | Outcome::Same(_) | Outcome::NotANumber => {}
        }
        Some(outcome)
    }

    /// Takes a member out; whether it was there. O(log N).
    pub fn remove(&mut self, member: &[u8]) -> bool {
        match &mut self.form {
            Form::Packed(buf) => match small::find(buf.view(), member) {
                Some((at, _)) => {
                    buf.remove(at, 2);
                    true
                }
                None => false,
            },
            Form::Large(large) => large.remove(member),
        }
    }

    /// Takes `count` members out from rank `first` on, or as many as there are; how many. O(count log N).
    pub fn remove_span(&mut self, first: usize, count: usize) -> usize {
        match &mut self.form {
            Form::Packed(buf) => {
                let count = count.min((buf.len() / 2).saturating_sub(first));
                buf.remove_range(first * 2, count * 2) / 2
            }
            Form::Large(large) => large.remove_span(first, count),
        }
    }

    /// Whether it has its large form.
    pub fn is_large(&self) -> bool {
        self.inline().is_none()
    }
}
