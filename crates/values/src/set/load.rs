//! Sets from outside: payloads of RESTORE and files.
//!
//! Their form follows from the limits in force here, by the rules of Redis' loading, which are not
//! quite those of adding.

use super::{Form, IntsBuf, Limits, Set, Table};
use crate::index::{Slab, hash_of};
use crate::number;
use crate::packed::PackedBuf;

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

/// So many members that they become a table, one behind the other, before what finds them is built.
#[derive(Debug, Default)]
pub struct LargeLoader {
    slab: Slab,
    /// The hash of each member, and its record.
    hashes: Vec<(u64, u32)>,
}

impl LargeLoader {
    /// One with room for so many members, though not for their texts.
    #[must_use]
    pub fn with_room(members: usize) -> LargeLoader {
        LargeLoader { hashes: Vec::with_capacity(members), ..LargeLoader::default() }
    }

    /// Adds a member, of which it is not known whether it is there.
    #[inline]
    pub fn add(&mut self, member: &[u8]) {
        self.hashes.push((hash_of(member), self.slab.alloc(&[member])));
    }

    /// The set of all; `None` if a member was added twice.
    #[must_use]
    pub fn finish(self) -> Option<Large> {
        Table::of_all(self.slab, self.hashes).map(Large)
    }
}

/// A set that is a table, before the limits are known.
#[derive(Debug)]
pub struct Large(Table);

impl Large {
    /// The set, in the form that Redis gives it under these limits.
    #[must_use]
    pub fn into_set(self, limits: &Limits) -> Set {
        if self.0.len() > limits.ints_max() {
            return Set { form: Form::Table(self.0) };
        }
        let mut loader = Loader::new(self.0.len(), limits);
        self.0.iter().for_each(|member| {
            loader.add(member);
        });
        loader.finish()
    }
}

impl PartialEq for Large {
    fn eq(&self, other: &Large) -> bool {
        self.0.len() == other.0.len() && self.0.iter().all(|member| other.0.contains(member))
    }
}

impl Set {
    /// The set of sorted integers.
    #[must_use]
    pub fn of_ints(ints: IntsBuf, limits: &Limits) -> Set {
        let many = ints.view().len() > limits.ints_max();
        let mut set = Set { form: Form::Ints(ints) };
        if many {
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
