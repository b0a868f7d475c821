//! Sets from outside: payloads of RESTORE and files.
//!
//! Their form follows from the limits in force here, by the rules of Redis' loading, which are not
//! quite those of adding.

use super::{Form, Ints, IntsBuf, Limits, Set, Table};
use crate::index::hash_of;
use crate::number;
use crate::packed::{Element, PackedBuf};

/// A payload names a member twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Duplicate;

/// A set that is loaded member by member.
#[derive(Debug)]
pub struct Loader<'a> {
    set: Set,
    limits: &'a Limits,
    longest: usize,
    bytes: usize,
}

impl<'a> Loader<'a> {
    /// Begins a set that is said to have `announced` members. No room is made for them.
    #[must_use]
    pub fn new(announced: u64, limits: &'a Limits) -> Loader<'a> {
        let few = usize::try_from(announced).is_ok_and(|announced| announced <= limits.ints_max());
        let form = if few { Form::Ints(IntsBuf::default()) } else { Form::Table(Table::default()) };
        Loader { set: Set { form }, limits, longest: 0, bytes: 0 }
    }

    /// Adds a member.
    ///
    /// # Errors
    /// If it was there.
    pub fn add(&mut self, member: &[u8]) -> Result<(), Duplicate> {
        self.longest = self.longest.max(member.len());
        self.bytes = self.bytes.saturating_add(member.len());
        if let Form::Ints(ints) = &mut self.set.form {
            if let Some(value) = number::parse_i64(member) {
                return if ints.insert(value) { Ok(()) } else { Err(Duplicate) };
            }
            if self.limits.takes(ints.view().len(), self.bytes, self.longest) {
                self.set.become_packed();
            } else {
                self.set.become_table();
            }
        }
        if self.set.add(member, self.limits) { Ok(()) } else { Err(Duplicate) }
    }

    /// The set.
    #[must_use]
    pub fn finish(self) -> Set {
        self.set
    }
}

impl Set {
    /// The set of sorted integers.
    #[must_use]
    pub fn of_ints(ints: Ints<'_>, limits: &Limits) -> Set {
        let mut set = Set { form: Form::Ints(IntsBuf::copy_of(ints)) };
        if ints.len() > limits.ints_max() {
            set.become_table();
        }
        set
    }

    /// The set of packed members.
    ///
    /// # Errors
    /// If one is there twice.
    pub fn of_packed(packed: PackedBuf, limits: &Limits) -> Result<Set, Duplicate> {
        let mut hashes: Vec<(u64, Element<'_>)> = Vec::with_capacity(packed.len());
        for member in packed.view() {
            hashes.push((super::view::with_text(member, hash_of), member));
        }
        hashes.sort_unstable_by_key(|(hash, _)| *hash);
        // Different members have equal hashes once in an age: such a payload is refused, too.
        if hashes.windows(2).any(|pair| matches!(pair, [(one, _), (next, _)] if one == next)) {
            return Err(Duplicate);
        }
        drop(hashes);
        let many = packed.len() > limits.packed.entries_max;
        let mut set = Set { form: Form::Packed(packed) };
        if many {
            set.become_table();
        }
        Ok(set)
    }
}
