//! What a write does to its key: sets it, deletes it, or changes some of the fields of a hash.
//!
//! Changes of fields add up: of two that wait for the store one is made, in which the later value of a field counts. So what waits
//! of a key is one change however often it was written. A change of all of a key takes the place of what was before.

use std::collections::BTreeMap;
use std::sync::Arc;

/// What becomes of a key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Change {
    /// It is set to this.
    Set(Arc<[u8]>),
    /// It is deleted.
    Delete,
    /// Some of its fields change.
    Fields(Arc<Fields>),
}

/// Fields that change.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Fields {
    is_new: bool,
    values: BTreeMap<Box<[u8]>, Option<Box<[u8]>>>,
    bytes: usize,
}

/// Bytes of a field beside its name and value, on disk.
const FIELD_BYTES: usize = 1 + 4 + 4;

impl Fields {
    /// Fields that change; `is_new` where what was there before is deleted first.
    pub fn new(is_new: bool) -> Fields {
        Fields { is_new, ..Fields::default() }
    }

    /// A field is to be this, or is removed where it is nothing.
    pub fn put(&mut self, field: &[u8], value: Option<&[u8]>) {
        let room = |value: Option<&[u8]>| FIELD_BYTES + field.len() + value.map_or(0, <[u8]>::len);
        self.bytes += room(value);
        if let Some(before) = self.values.insert(field.into(), value.map(Box::from)) {
            self.bytes -= room(before.as_deref());
        }
    }

    /// Whether what was there before is deleted first: then these are all the fields there are.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// The fields, and what each is to be: nothing where it is removed.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.values.iter().map(|(field, value)| (&**field, value.as_deref()))
    }

    /// What becomes of a hash with these fields.
    pub fn lay_over(&self, before: Vec<(Vec<u8>, Vec<u8>)>) -> Vec<(Vec<u8>, Vec<u8>)> {
        let stays = |(field, _): &(Vec<u8>, Vec<u8>)| !self.is_new && !self.values.contains_key(&**field);
        let mut after: Vec<(Vec<u8>, Vec<u8>)> = before.into_iter().filter(stays).collect();
        let set = self.iter().filter_map(|(field, value)| Some((field.to_vec(), value?.to_vec())));
        after.extend(set);
        after
    }
}

impl Change {
    /// Whether it says all of what its key is, whatever the store has.
    pub fn is_whole(&self) -> bool {
        !matches!(self, Change::Fields(fields) if !fields.is_new)
    }

    /// How many bytes it takes beside its key.
    pub fn bytes(&self) -> usize {
        match self {
            Change::Set(value) => value.len(),
            Change::Delete => 0,
            Change::Fields(fields) => fields.bytes,
        }
    }

    /// Whether both are the same one, not only equal: nothing was added to it.
    pub(crate) fn is_same(&self, other: &Change) -> bool {
        match (self, other) {
            (Change::Set(one), Change::Set(other)) => Arc::ptr_eq(one, other),
            (Change::Fields(one), Change::Fields(other)) => Arc::ptr_eq(one, other),
            (Change::Delete, Change::Delete) => true,
            _ => false,
        }
    }

    /// Makes one change of this and a later one. False where nothing is left of this.
    pub(crate) fn add(&mut self, later: Change) -> bool {
        let Change::Fields(fields) = &later else {
            *self = later;
            return false;
        };
        match self {
            _ if fields.is_new => {}
            Change::Fields(own) => {
                let own = Arc::make_mut(own);
                fields.iter().for_each(|(field, value)| own.put(field, value));
                return true;
            }
            Change::Delete => {
                let fields = Fields { is_new: true, ..Fields::clone(fields) };
                *self = Change::Fields(Arc::new(fields));
                return true;
            }
            // Its route has another shape by now: what it was set to is no hash.
            Change::Set(_) => {}
        }
        *self = later;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(is_new: bool, all: &[(&str, Option<&str>)]) -> Change {
        let mut fields = Fields::new(is_new);
        all.iter().for_each(|(field, value)| fields.put(field.as_bytes(), value.map(str::as_bytes)));
        Change::Fields(Arc::new(fields))
    }

    #[test]
    fn changes_add_up() {
        let set = || Change::Set(b"1".as_slice().into());
        let (first, second) =
            (fields(false, &[("a", Some("1")), ("b", Some("2"))]), fields(false, &[("b", None)]));
        for (before, later, both, is_kept) in [
            (set(), Change::Delete, Change::Delete, false),
            (first.clone(), second.clone(), fields(false, &[("a", Some("1")), ("b", None)]), true),
            (first.clone(), Change::Delete, Change::Delete, false),
            (Change::Delete, first.clone(), fields(true, &[("a", Some("1")), ("b", Some("2"))]), true),
            (fields(true, &[("b", Some("3"))]), second.clone(), fields(true, &[("b", None)]), true),
            (first, fields(true, &[("c", Some("4"))]), fields(true, &[("c", Some("4"))]), false),
            (set(), second.clone(), second, false),
        ] {
            let mut change = before.clone();
            assert_eq!(change.add(later.clone()), is_kept, "{before:?} and {later:?}");
            assert_eq!(change, both, "{before:?} and {later:?}");
        }
    }

    #[test]
    fn fields_are_laid_over_what_was_there() {
        let pair = |field: &str, value: &str| (field.as_bytes().to_vec(), value.as_bytes().to_vec());
        let before = || vec![pair("x", "0"), pair("a", "0"), pair("b", "0")];
        for (is_new, after) in [(false, vec![pair("x", "0"), pair("a", "1")]), (true, vec![pair("a", "1")])] {
            let Change::Fields(fields) = fields(is_new, &[("a", Some("1")), ("b", None)]) else { continue };
            assert_eq!(fields.lay_over(before()), after);
        }
    }
}
