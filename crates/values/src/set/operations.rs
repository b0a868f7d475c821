//! Intersections, unions and differences of sets: visited member by member, or made into a new set whose
//! form is the one that Redis' way of making it ends with.

use super::view::Probe;
use super::{Limits, Set, Table, View, view};
use crate::packed::Element;
use std::cmp::Reverse;
use std::ops::ControlFlow;

/// A union of more sets than this finds what it has seen in a table, instead of in every set before.
const UNION_PROBES_MAX: usize = 6;

/// Puts the smallest set first: the order in which an intersection wants them.
pub fn sort_by_size(sets: &mut [View<'_>]) {
    sets.sort_by_key(|set| set.len());
}

/// Visits what is in all sets, in the order of the first.
pub fn intersection<'a>(sets: &[View<'a>], mut visit: impl FnMut(Element<'a>) -> ControlFlow<()>) {
    let Some((first, others)) = sets.split_first() else { return };
    let _ = first.try_for_each(|member| {
        let mut probe = Probe::new(member);
        if others.iter().all(|&set| probe.is_in(set)) { visit(member) } else { ControlFlow::Continue(()) }
    });
}

/// Visits what is in the first set and in none of the others, in the order of the first.
pub fn difference<'a>(first: View<'a>, others: &[View<'_>], mut visit: impl FnMut(Element<'a>)) {
    first.for_each(|member| {
        let mut probe = Probe::new(member);
        if !others.iter().any(|&set| probe.is_in(set)) {
            visit(member);
        }
    });
}

/// Visits what is in any set, once; sorted if all are integers.
pub fn union<'a>(sets: &[View<'a>], mut visit: impl FnMut(Element<'a>)) {
    if sets.iter().all(|set| matches!(set, View::Ints(_))) {
        let mut values = Vec::new();
        sets.iter().for_each(|set| set.for_each(|member| values.extend(member.to_i64())));
        values.sort_unstable();
        values.dedup();
        values.into_iter().for_each(|value| visit(Element::Int(value)));
    } else if sets.len() > UNION_PROBES_MAX {
        let mut seen = Table::default();
        for set in sets {
            set.for_each(|member| {
                if view::with_text(member, |text| seen.insert(text)) {
                    visit(member);
                }
            });
        }
    } else {
        for (number, &set) in sets.iter().enumerate() {
            difference(set, &sets[..number], &mut visit);
        }
    }
}

/// The intersection as a new set. `sets` are sorted by size.
#[must_use]
pub fn make_intersection(sets: &[View<'_>], limits: &Limits) -> Set {
    let mut made = match sets.first() {
        Some(View::Ints(_)) => Set::empty(),
        _ => Set::empty_packed(),
    };
    let mut only_integers = true;
    intersection(sets, |member| {
        only_integers = only_integers && member.to_i64().is_some();
        made.add_element(member, limits);
        ControlFlow::Continue(())
    });
    if only_integers {
        made.become_ints_if_few(limits);
    }
    made
}

/// The union as a new set.
#[must_use]
pub fn make_union(sets: &[View<'_>], limits: &Limits) -> Set {
    let mut made = Set::empty();
    for set in sets {
        set.for_each(|member| {
            made.add_element(member, limits);
        });
    }
    made
}

/// The difference as a new set.
#[must_use]
pub fn make_difference(first: View<'_>, others: &[View<'_>], limits: &Limits) -> Set {
    let mut made = Set::empty();
    if looking_up_is_cheaper(first, others) {
        let mut others = others.to_vec();
        others.sort_by_key(|set| Reverse(set.len()));
        difference(first, &others, |member| {
            made.add_element(member, limits);
        });
        return made;
    }
    first.for_each(|member| {
        made.add_element(member, limits);
    });
    for set in others {
        let stop = set.try_for_each(|member| {
            made.remove_element(member);
            if made.is_empty() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if stop.is_break() {
            break;
        }
    }
    made
}

/// Redis' choice: look up each member of the first set in the others, or take the others' members out of a
/// copy of the first. The form of the result depends on it.
fn looking_up_is_cheaper(first: View<'_>, others: &[View<'_>]) -> bool {
    let lookups = first.len().saturating_mul(others.len() + 1);
    let removals = others.iter().fold(first.len(), |sum, set| sum.saturating_add(set.len()));
    lookups / 2 <= removals
}
