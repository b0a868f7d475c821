//! Reading a set, whatever its form and wherever it lies.

use super::{Ints, Table};
use crate::index::{Draws, hash_of};
use crate::number;
use crate::packed::{Element, Packed};
use std::collections::HashSet;
use std::ops::ControlFlow;

/// A look at a set.
#[derive(Debug, Clone, Copy)]
pub enum View<'a> {
    /// Sorted integers.
    Ints(Ints<'a>),
    /// Packed members, in order of insertion.
    Packed(Packed<'a>),
    /// A table.
    Table(&'a Table),
}

/// A sample of at least one in so many members is taken by one walk over all of them.
const WALK_SHARE: usize = 3;

impl<'a> View<'a> {
    /// How many members there are.
    #[inline]
    pub fn len(self) -> usize {
        match self {
            View::Ints(ints) => ints.len(),
            View::Packed(packed) => packed.len(),
            View::Table(table) => table.len(),
        }
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(self) -> bool {
        match self {
            View::Ints(ints) => ints.is_empty(),
            View::Packed(packed) => packed.is_empty(),
            View::Table(table) => table.is_empty(),
        }
    }

    /// Whether a member is there.
    #[inline]
    pub fn contains(self, member: &[u8]) -> bool {
        match self {
            View::Ints(ints) => number::parse_i64(member).is_some_and(|value| ints.contains(value)),
            View::Packed(packed) => {
                packed.first().is_some_and(|first| packed.find(first, member, 0).is_some())
            }
            View::Table(table) => table.contains(member),
        }
    }

    /// Visits all members: sorted, in order of insertion, or in none, as the form is.
    pub fn for_each(self, mut visit: impl FnMut(Element<'a>)) {
        let _ = self.try_for_each(|member| {
            visit(member);
            ControlFlow::Continue(())
        });
    }

    /// Visits members until told to stop.
    pub fn try_for_each(self, mut visit: impl FnMut(Element<'a>) -> ControlFlow<()>) -> ControlFlow<()> {
        match self {
            View::Ints(ints) => ints.iter().map(Element::Int).try_for_each(&mut visit),
            View::Packed(packed) => packed.iter().try_for_each(&mut visit),
            View::Table(table) => table.iter().map(Element::Bytes).try_for_each(&mut visit),
        }
    }

    /// Visits about `count` members from a position on and answers the next position; 0 begins and
    /// ends. A small form is visited as a whole, as in Redis.
    pub fn scan(self, cursor: u64, count: usize, mut visit: impl FnMut(Element<'a>)) -> u64 {
        match self {
            View::Table(table) => table.scan(cursor, count, |member| visit(Element::Bytes(member))),
            small => {
                small.for_each(visit);
                0
            }
        }
    }

    /// A member by chance.
    pub fn random(self, random: u64) -> Option<Element<'a>> {
        let at = Draws::new(random).below(self.len());
        match self {
            View::Ints(ints) => ints.get(at).map(Element::Int),
            View::Packed(packed) => packed.seek(at).map(|cursor| packed.get(cursor)),
            View::Table(table) => table.random(random).map(|(_, member)| Element::Bytes(member)),
        }
    }

    /// Visits `count` members by chance, of which some may come several times.
    pub fn draw(self, count: usize, draws: &mut Draws, mut visit: impl FnMut(Element<'a>)) {
        if let View::Packed(packed) = self {
            // Each draw in a walk of its own is what a small buffer costs once, and it is walked often.
            let members: Vec<Element<'a>> = packed.iter().collect();
            for _ in 0..count {
                if let Some(&member) = members.get(draws.below(members.len())) {
                    visit(member);
                }
            }
            return;
        }
        for _ in 0..count {
            if let Some(member) = self.random(draws.draw()) {
                visit(member);
            }
        }
    }

    /// Visits `count` different members by chance, or all if there are no more.
    pub fn sample(self, count: usize, draws: &mut Draws, mut visit: impl FnMut(Element<'a>)) {
        let len = self.len();
        match self {
            View::Table(table) if count.saturating_mul(WALK_SHARE) < len => {
                let mut seen = HashSet::with_capacity(count);
                while seen.len() < count {
                    let Some((reference, member)) = table.random(draws.draw()) else { return };
                    if seen.insert(reference) {
                        visit(Element::Bytes(member));
                    }
                }
            }
            _ => {
                let mut choice = Choice::new(count, len);
                self.for_each(|member| {
                    if choice.takes(draws) {
                        visit(member);
                    }
                });
            }
        }
    }
}

/// Chooses some of a number of things in one walk: each choice of so many has the same chance.
pub(super) struct Choice {
    wanted: usize,
    left: usize,
}

impl Choice {
    pub(super) fn new(wanted: usize, of: usize) -> Choice {
        Choice { wanted: wanted.min(of), left: of }
    }

    /// Whether the next one is among the chosen.
    pub(super) fn takes(&mut self, draws: &mut Draws) -> bool {
        let takes = self.wanted > 0 && draws.below(self.left) < self.wanted;
        self.left = self.left.saturating_sub(1);
        self.wanted -= usize::from(takes);
        takes
    }
}

/// Gives a member's bytes to `work`.
#[inline]
pub(super) fn with_text<R>(member: Element<'_>, work: impl FnOnce(&[u8]) -> R) -> R {
    match member {
        Element::Bytes(bytes) => work(bytes),
        Element::Int(value) => work(itoa::Buffer::new().format(value).as_bytes()),
    }
}

/// A member that is looked for in several sets: its text, hash and number are found once, when needed.
pub(super) struct Probe<'a> {
    member: Element<'a>,
    text: itoa::Buffer,
    hash: Option<u64>,
    number: Option<Option<i64>>,
}

impl<'a> Probe<'a> {
    #[inline]
    pub(super) fn new(member: Element<'a>) -> Probe<'a> {
        Probe { member, text: itoa::Buffer::new(), hash: None, number: None }
    }

    #[inline]
    pub(super) fn is_in(&mut self, set: View<'_>) -> bool {
        if let View::Ints(ints) = set {
            let member = self.member;
            return self
                .number
                .get_or_insert_with(|| member.to_i64())
                .is_some_and(|value| ints.contains(value));
        }
        let text = match self.member {
            Element::Bytes(bytes) => bytes,
            Element::Int(value) => self.text.format(value).as_bytes(),
        };
        match set {
            View::Table(table) => {
                table.contains_hashed(*self.hash.get_or_insert_with(|| hash_of(text)), text)
            }
            other => other.contains(text),
        }
    }
}
