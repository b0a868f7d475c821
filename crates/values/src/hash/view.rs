//! Reading a hash in any form, without a copy of anything.

use super::packed::{count_due, ends, find_pair, find_triple, next_due};
use super::table::{Record, Table};
use crate::packed::{Element, Packed};
use std::collections::HashSet;

/// Times a random field is drawn again when its time has come.
const DRAWS_MAX: usize = 100;

/// A hash to be read.
#[derive(Debug, Clone, Copy)]
pub enum HashView<'a> {
    /// Field and value in turn.
    Pairs(Packed<'a>),
    /// Field, value and end in turn.
    Triples(Packed<'a>),
    /// Large.
    Table(&'a Table),
}

/// What is known of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found<'a> {
    /// It is not there.
    Absent,
    /// Its time has come, but nobody has removed it.
    Due,
    /// Its value, and when it ends, if it does.
    Live(Element<'a>, Option<u64>),
}

impl<'a> Found<'a> {
    fn of(value: Element<'a>, end: Option<u64>, now: u64) -> Found<'a> {
        if end.is_some_and(|end| end <= now) { Found::Due } else { Found::Live(value, end) }
    }

    /// The value, if there is one.
    #[inline]
    pub fn value(self) -> Option<Element<'a>> {
        if let Found::Live(value, _) = self { Some(value) } else { None }
    }
}

impl<'a> HashView<'a> {
    /// Fields, those included whose time has come.
    #[inline]
    pub fn len(self) -> usize {
        match self {
            HashView::Pairs(pairs) => pairs.len() / 2,
            HashView::Triples(triples) => triples.len() / 3,
            HashView::Table(table) => table.len(),
        }
    }

    /// Whether there is no field.
    #[inline]
    pub fn is_empty(self) -> bool {
        match self {
            HashView::Pairs(packed) | HashView::Triples(packed) => packed.is_empty(),
            HashView::Table(table) => table.len() == 0,
        }
    }

    /// Looks a field up. O(1) in a table, else O(fields).
    #[inline]
    pub fn find(self, field: &[u8], now: u64) -> Found<'a> {
        match self {
            HashView::Pairs(pairs) => match find_pair(pairs, field) {
                Some(place) => Found::Live(place.value, None),
                None => Found::Absent,
            },
            HashView::Triples(triples) => match find_triple(triples, field) {
                Some(place) => Found::of(place.value, place.end, now),
                None => Found::Absent,
            },
            HashView::Table(table) => match table.get(field) {
                Some(record) => Found::of(Element::Bytes(record.value), record.end, now),
                None => Found::Absent,
            },
        }
    }

    /// The earliest end of a field; `u64::MAX` where none has one. O(1).
    #[inline]
    pub fn next_due(self) -> u64 {
        match self {
            HashView::Pairs(_) => u64::MAX,
            HashView::Triples(triples) => next_due(triples),
            HashView::Table(table) => table.next_due(),
        }
    }

    /// Fields that have an end. O(1) in a table, else O(fields).
    pub fn timed(self) -> usize {
        match self {
            HashView::Pairs(_) => 0,
            HashView::Triples(triples) => ends(triples).take_while(Option::is_some).count(),
            HashView::Table(table) => table.timed(),
        }
    }

    /// Fields whose time has not come. O(1) where no field's has, else O(those).
    #[inline]
    pub fn live(self, now: u64) -> usize {
        if self.next_due() > now {
            return self.len();
        }
        self.len() - self.due(now)
    }

    fn due(self, now: u64) -> usize {
        match self {
            HashView::Pairs(_) => 0,
            HashView::Triples(triples) => count_due(triples, now),
            HashView::Table(table) => table.count_due(now),
        }
    }

    /// Visits the fields whose time has not come, in the order of the form.
    #[inline]
    pub fn for_each(self, now: u64, mut visit: impl FnMut(Element<'a>, Element<'a>)) {
        if let HashView::Pairs(pairs) = self {
            let mut elements = pairs.iter();
            while let (Some(field), Some(value)) = (elements.next(), elements.next()) {
                visit(field, value);
            }
            return;
        }
        self.for_each_stored(|field, value, end| {
            if end.is_none_or(|end| end > now) {
                visit(field, value);
            }
        });
    }

    /// Visits all fields with values and ends, those included whose time has come.
    pub fn for_each_stored(self, mut visit: impl FnMut(Element<'a>, Element<'a>, Option<u64>)) {
        match self {
            HashView::Pairs(pairs) => {
                let mut elements = pairs.iter();
                while let (Some(field), Some(value)) = (elements.next(), elements.next()) {
                    visit(field, value, None);
                }
            }
            HashView::Triples(triples) => {
                let mut elements = triples.iter();
                while let (Some(field), Some(value), Some(end)) =
                    (elements.next(), elements.next(), elements.next())
                {
                    let end = end.to_i64().and_then(|end| u64::try_from(end).ok()).filter(|end| *end > 0);
                    visit(field, value, end);
                }
            }
            HashView::Table(table) => {
                for record in table.records() {
                    visit(Element::Bytes(record.field), Element::Bytes(record.value), record.end);
                }
            }
        }
    }

    /// Visits about `count` fields from a position on, and answers the next position, 0 at the end. A
    /// packed form is visited as a whole.
    pub fn scan(
        self,
        cursor: u64,
        count: usize,
        now: u64,
        mut visit: impl FnMut(Element<'a>, Element<'a>),
    ) -> u64 {
        let HashView::Table(table) = self else {
            self.for_each(now, visit);
            return 0;
        };
        table.scan(cursor, count, |record| {
            if !record.is_due(now) {
                visit(Element::Bytes(record.field), Element::Bytes(record.value));
            }
        })
    }

    /// A field chosen by random numbers, each with the same chance; `None` where all are over.
    pub fn random(self, now: u64, random: &mut dyn FnMut() -> u64) -> Option<(Element<'a>, Element<'a>)> {
        match self {
            HashView::Pairs(pairs) => pair_at(pairs, below(random(), self.len())?, 2),
            HashView::Triples(triples) => {
                let due = count_due(triples, now);
                pair_at(triples, due + below(random(), self.len() - due)?, 3)
            }
            HashView::Table(table) => draw(table, now, random).map(|(_, record)| parts(record)),
        }
    }

    /// Visits `count` different fields chosen by random numbers, or all if there are no more.
    pub fn sample(
        self,
        count: usize,
        now: u64,
        random: &mut dyn FnMut() -> u64,
        visit: &mut dyn FnMut(Element<'a>, Element<'a>),
    ) {
        let live = self.live(now);
        if let HashView::Table(table) = self
            && count < live / 3
        {
            let mut seen = HashSet::with_capacity(count);
            while seen.len() < count {
                let Some((reference, record)) = draw(table, now, random) else { return };
                if seen.insert(reference) {
                    let (field, value) = parts(record);
                    visit(field, value);
                }
            }
            return;
        }
        // Each field with the chance that as many are left to choose from as are to be chosen (Knuth, 3.4.2 S).
        let (mut left, mut wanted) = (live, count.min(live));
        self.for_each(now, |field, value| {
            if wanted > 0 && below(random(), left).is_some_and(|draw| draw < wanted) {
                wanted -= 1;
                visit(field, value);
            }
            left = left.saturating_sub(1);
        });
    }
}

fn parts(record: Record<'_>) -> (Element<'_>, Element<'_>) {
    (Element::Bytes(record.field), Element::Bytes(record.value))
}

fn pair_at(packed: Packed<'_>, index: usize, elements: usize) -> Option<(Element<'_>, Element<'_>)> {
    let (field, next) = packed.step(packed.seek(index * elements)?);
    Some((field, packed.get(next?)))
}

/// A record whose time has not come. Where nearly all are over, the first that is not.
fn draw<'a>(table: &'a Table, now: u64, random: &mut dyn FnMut() -> u64) -> Option<(u32, Record<'a>)> {
    for _ in 0..DRAWS_MAX {
        let (reference, record) = table.random(random())?;
        if !record.is_due(now) {
            return Some((reference, record));
        }
    }
    table.entries().find(|(_, record)| !record.is_due(now))
}

/// A number below `limit`, from 64 random bits.
fn below(random: u64, limit: usize) -> Option<usize> {
    (limit > 0).then(|| ((u128::from(random) * limit as u128) >> 64) as usize)
}
