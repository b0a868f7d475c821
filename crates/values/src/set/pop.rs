//! Taking members out by chance.

use super::view::Choice;
use super::{Form, Limits, Set};
use crate::index::Draws;
use crate::packed::{Element, PackedBuf};

/// The members that stay become a new set when this many times as many as they are go.
const STAY_SHARE: usize = 5;

impl Set {
    /// Takes out a member by chance, which `take` sees.
    pub fn pop<R>(&mut self, random: u64, take: impl FnOnce(Element<'_>) -> R) -> Option<R> {
        let at = Draws::new(random).below(self.len());
        match &mut self.form {
            Form::Table(table) => table.pop(random, |member| take(Element::Bytes(member))),
            Form::Ints(ints) => ints.remove_at(at).map(|value| take(Element::Int(value))),
            Form::Packed(packed) => {
                let cursor = packed.view().seek(at)?;
                let taken = take(packed.view().get(cursor));
                packed.remove(cursor, 1);
                Some(taken)
            }
        }
    }

    /// Takes out `count` members by chance, less than there are, and visits them.
    ///
    /// What stays after most have gone is a new set, of the form that few members have.
    pub fn pop_many(
        &mut self,
        count: usize,
        draws: &mut Draws,
        limits: &Limits,
        mut visit: impl FnMut(Element<'_>),
    ) {
        let stay = self.len().saturating_sub(count);
        if let Form::Packed(packed) = &mut self.form {
            let mut choice = Choice::new(count, packed.len());
            let mut rest = PackedBuf::new();
            for member in packed.view() {
                if choice.takes(draws) {
                    visit(member);
                } else {
                    rest.push_back_element(member);
                }
            }
            *packed = rest;
            return;
        }
        if stay.saturating_mul(STAY_SHARE) > count {
            for _ in 0..count {
                self.pop(draws.draw(), &mut visit);
            }
            return;
        }
        let mut rest = if matches!(self.form, Form::Ints(_)) { Set::empty() } else { Set::empty_packed() };
        for _ in 0..stay {
            self.pop(draws.draw(), |member| rest.add_element(member, limits));
        }
        self.view().for_each(visit);
        *self = rest;
    }
}
