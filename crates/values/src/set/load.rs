//! Sets from outside: payloads of RESTORE and files.
//!
//! Their form follows from the limits in force here, by the rules of Redis' loading, which are not
//! quite those of adding.

use super::{Form, Ints, IntsBuf, Limits, Set, Table, view};
use crate::index::hash_of;
use crate::number;
use crate::packed::{Element, Packed, PackedBuf};

/// Whether no member is there twice.
#[must_use]
pub fn are_distinct(members: Packed<'_>) -> bool {
    let mut hashed: Vec<(u64, Element<'_>)> =
        members.iter().map(|member| (view::with_text(member, hash_of), member)).collect();
    // Texts are compared where hashes are equal: almost never, but for a member that is there twice.
    hashed.sort_unstable_by(|(hash, member), (other_hash, other)| {
        hash.cmp(other_hash).then_with(|| member.to_vec().cmp(&other.to_vec()))
    });
    hashed.is_sorted_by(|(hash, member), (next_hash, next)| hash != next_hash || !member.is(&next.to_vec()))
}

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
    pub fn new(announced: usize, limits: &'a Limits) -> Loader<'a> {
        let few = announced <= limits.ints_max();
        let form = if few { Form::Ints(IntsBuf::default()) } else { Form::Table(Table::default()) };
        Loader { set: Set { form }, limits, longest: 0, bytes: 0 }
    }

    /// Adds a member; false if it was there.
    pub fn add(&mut self, member: &[u8]) -> bool {
        self.longest = self.longest.max(member.len());
        self.bytes = self.bytes.saturating_add(member.len());
        if let Form::Ints(ints) = &mut self.set.form {
            if let Some(value) = number::parse_i64(member) {
                return ints.insert(value);
            }
            if self.limits.takes(ints.view().len(), self.bytes, self.longest) {
                self.set.become_packed();
            } else {
                self.set.become_table();
            }
        }
        self.set.add(member, self.limits)
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

    /// The set of packed members, which are distinct.
    #[must_use]
    pub fn of_packed(packed: PackedBuf, limits: &Limits) -> Set {
        let many = packed.len() > limits.packed.entries_max;
        let mut set = Set { form: Form::Packed(packed) };
        if many {
            set.become_table();
        }
        set
    }
}
