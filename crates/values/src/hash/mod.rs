//! Hashes: fields with values, each with an end of its own if it was given one.
//!
//! Small ones are one packed buffer, of pairs or, once a field was given an end, of triples; large ones
//! a table. Redis' limits say which, and a hash never goes back to a smaller form.
//! A field whose time has come is still there, but only for `len` and the moment it is removed at: reads
//! do not see it and writes count it as absent.
//! Read next: `view.rs` for reading, `packed.rs` and `table.rs` for the forms.

mod deadlines;
mod packed;
mod table;
#[cfg(test)]
mod tests;
mod view;

use crate::collection::Collection;
pub use crate::collection::PackedLimits;
use crate::mover::{Mover, Resume};
use crate::packed::{Element, Packed, PackedBuf};
pub use table::{Loader, Table};
pub use view::{Found, HashView};

/// Elements that a packed form can count.
const PACKED_ENTRIES_MAX: usize = 65_535 / 3;

/// The latest end that Redis gives a field, Unix ms.
pub const END_MAX: u64 = (1 << 46) - 1;

/// The form of packed pairs, as `Collection::inline` numbers it.
pub const FORM_PAIRS: u8 = 0;
/// The form of packed triples.
pub const FORM_TRIPLES: u8 = 1;

/// A hash.
#[derive(Debug)]
pub struct Hash {
    form: Form,
}

#[derive(Debug)]
enum Form {
    Pairs(PackedBuf),
    Triples(PackedBuf),
    Table(Box<Table>),
}

/// What a write does to the end of the field it writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Takes it away.
    Clear,
    /// Leaves it as it is.
    Keep,
    /// Sets it, Unix ms.
    At(u64),
}

impl End {
    /// The new end of a field that has `present`.
    fn moment(self, present: Option<u64>) -> Option<u64> {
        match self {
            End::Clear => None,
            End::Keep => present,
            End::At(moment) => Some(moment),
        }
    }
}

/// As the time by which fields are judged: no field's has come. So judge those that overwrite a field or remove it, for
/// whom it is there until somebody has removed it.
pub const NEVER_DUE: u64 = 0;

/// What a write found in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// Nothing.
    Absent,
    /// A field whose time had come: it counts as absent, and as expired by the write.
    Due,
    /// A field.
    Live,
}

impl Before {
    fn of(end: Option<u64>, now: u64) -> Before {
        if end.is_some_and(|end| end <= now) { Before::Due } else { Before::Live }
    }
}

/// Why a field could not be increased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IncrementError {
    /// Its value spells no integer.
    NotAnInteger,
    /// The sum does not fit 64 bits.
    Overflow,
}

impl Default for Hash {
    fn default() -> Hash {
        Hash { form: Form::Pairs(PackedBuf::new()) }
    }
}

impl Hash {
    /// A hash of packed pairs; fields must differ.
    pub fn of_pairs(pairs: PackedBuf) -> Hash {
        Hash { form: Form::Pairs(pairs) }
    }

    /// A hash of packed triples in the order that `check` demands.
    pub fn of_triples(triples: PackedBuf) -> Hash {
        Hash { form: Form::Triples(triples) }
    }

    /// For reading.
    #[inline]
    pub fn look(&self) -> HashView<'_> {
        match &self.form {
            Form::Pairs(pairs) => HashView::Pairs(pairs.view()),
            Form::Triples(triples) => HashView::Triples(triples.view()),
            Form::Table(table) => HashView::Table(table),
        }
    }

    /// Fields, those included whose time has come.
    #[inline]
    pub fn len(&self) -> usize {
        self.look().len()
    }

    /// Whether there is no field.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.look().is_empty()
    }

    /// Makes it a table if `count` pairs that are about to be set, the longest field or value of
    /// `bytes_max`, are too much for a packed form by themselves.
    #[inline]
    pub fn prepare(&mut self, count: usize, bytes_max: usize, limits: PackedLimits) {
        if count > limits.entries_max || bytes_max > limits.value_bytes_max {
            self.make_table();
        }
    }

    /// The large hash of all fields that were loaded; `None` if one was added twice.
    #[must_use]
    pub fn of_loaded(loader: Loader) -> Option<Hash> {
        loader.finish().map(|table| Hash { form: Form::Table(Box::new(table)) })
    }

    /// Sets a field.
    #[inline]
    pub fn set(&mut self, field: &[u8], value: &[u8], end: End, now: u64, limits: PackedLimits) -> Before {
        if field.len() > limits.value_bytes_max || value.len() > limits.value_bytes_max {
            self.make_table();
        } else if let End::At(_) = end {
            self.make_timed();
        }
        let before = match &mut self.form {
            Form::Pairs(pairs) => packed::set_pair(pairs, field, Element::of(value)),
            Form::Triples(triples) => packed::set_triple(triples, field, Element::of(value), end, now),
            Form::Table(table) => return table.set(field, value, end, now),
        };
        self.hold_to(limits);
        before
    }

    /// Adds to the integer that a field's value spells; a field that is absent counts as 0. The end of
    /// the field stays.
    pub fn increment(
        &mut self,
        field: &[u8],
        by: i64,
        now: u64,
        limits: PackedLimits,
    ) -> Result<(i64, Before), IncrementError> {
        if let Form::Pairs(pairs) = &mut self.form
            && let Some(place) = packed::find_pair(pairs.view(), field)
        {
            let present = place.value.to_i64().ok_or(IncrementError::NotAnInteger)?;
            let sum = present.checked_add(by).ok_or(IncrementError::Overflow)?;
            let (at, longest) = (place.value_at, crate::number::i64_len(sum).max(field.len()));
            if longest <= limits.value_bytes_max {
                pairs.replace_int(at, sum);
                self.hold_to(limits);
                return Ok((sum, Before::Live));
            }
        }
        let present = match self.look().find(field, now) {
            Found::Live(value, _) => value.to_i64().ok_or(IncrementError::NotAnInteger)?,
            Found::Absent | Found::Due => 0,
        };
        let sum = present.checked_add(by).ok_or(IncrementError::Overflow)?;
        let mut text = itoa::Buffer::new();
        let before = self.set(field, text.format(sum).as_bytes(), End::Keep, now, limits);
        Ok((sum, before))
    }

    /// Sets or takes away the end of a field. Answers whether the field is there.
    pub fn set_end(&mut self, field: &[u8], end: Option<u64>, scratch: &mut Vec<u8>) -> bool {
        if end.is_some() {
            self.make_timed();
        }
        match &mut self.form {
            Form::Pairs(pairs) => packed::find_pair(pairs.view(), field).is_some(),
            Form::Triples(triples) => packed::set_end(triples, field, end, scratch),
            Form::Table(table) => table.set_end(field, end, scratch),
        }
    }

    /// Removes a field.
    #[inline]
    pub fn remove(&mut self, field: &[u8], now: u64) -> Before {
        let (buffer, place, elements) = match &mut self.form {
            Form::Pairs(pairs) => {
                let place = packed::find_pair(pairs.view(), field).map(|place| (place.field, None));
                (pairs, place, 2)
            }
            Form::Triples(triples) => {
                let place = packed::find_triple(triples.view(), field).map(|place| (place.field, place.end));
                (triples, place, 3)
            }
            Form::Table(table) => return table.remove(field, now),
        };
        let Some((at, end)) = place else { return Before::Absent };
        buffer.remove(at, elements);
        Before::of(end, now)
    }

    /// Removes fields whose time has come, at most `limit`, and names them to `gone`. Answers how many.
    pub fn expire_due(&mut self, now: u64, limit: usize, gone: &mut dyn FnMut(&[u8])) -> usize {
        match &mut self.form {
            Form::Pairs(_) => 0,
            Form::Triples(triples) => packed::expire_due(triples, now, limit, gone),
            Form::Table(table) => table.expire_due(now, limit, gone),
        }
    }

    /// Panics if an invariant does not hold.
    pub fn check(&self) {
        if let Form::Table(table) = &self.form {
            return table.check();
        }
        let view = self.look();
        let (mut fields, mut ends) = (std::collections::BTreeSet::new(), Vec::new());
        view.for_each_stored(|field, _, end| {
            assert!(fields.insert(field.to_vec()), "a field twice");
            ends.push(end.unwrap_or(u64::MAX));
        });
        assert_eq!(fields.len(), view.len());
        assert!(ends.is_sorted(), "ends out of order");
    }

    #[inline]
    fn hold_to(&mut self, limits: PackedLimits) {
        if self.len() > limits.entries_max.min(PACKED_ENTRIES_MAX) {
            self.make_table();
        }
    }

    /// Gives a packed form room for ends, as Redis does before it looks at the fields that are to get one.
    #[inline]
    pub fn make_timed(&mut self) {
        if let Form::Pairs(pairs) = &self.form {
            self.form = Form::Triples(packed::to_triples(pairs.view()));
        }
    }

    #[cold]
    fn grow_to_table(&mut self) {
        let mut table = Box::<Table>::default();
        let (mut field_text, mut value_text) = (Vec::new(), Vec::new());
        self.look().for_each_stored(|field, value, end| {
            field_text.clear();
            value_text.clear();
            field.write_to(&mut field_text);
            value.write_to(&mut value_text);
            table.set(&field_text, &value_text, end.map_or(End::Clear, End::At), 0);
        });
        self.form = Form::Table(table);
    }

    /// Gives up the packed form.
    #[inline]
    pub fn make_table(&mut self) {
        if !matches!(self.form, Form::Table(_)) {
            self.grow_to_table();
        }
    }
}

impl Collection for Hash {
    type View<'a> = HashView<'a>;

    #[inline]
    fn new(spare: Vec<u8>) -> Hash {
        Hash { form: Form::Pairs(PackedBuf::reusing(spare)) }
    }

    #[inline]
    fn view(&self) -> HashView<'_> {
        self.look()
    }

    #[inline]
    fn view_inline(form: u8, bytes: &[u8]) -> HashView<'_> {
        if form == FORM_PAIRS {
            HashView::Pairs(Packed::new(bytes))
        } else {
            HashView::Triples(Packed::new(bytes))
        }
    }

    #[inline]
    fn from_inline(form: u8, bytes: Vec<u8>) -> Hash {
        let buffer = PackedBuf::from_vec(bytes);
        Hash { form: if form == FORM_PAIRS { Form::Pairs(buffer) } else { Form::Triples(buffer) } }
    }

    #[inline]
    fn inline(&self) -> Option<(u8, &[u8])> {
        match &self.form {
            Form::Pairs(pairs) => Some((FORM_PAIRS, pairs.view().bytes())),
            Form::Triples(triples) => Some((FORM_TRIPLES, triples.view().bytes())),
            Form::Table(_) => None,
        }
    }

    #[inline]
    fn into_spare(self) -> Vec<u8> {
        match self.form {
            Form::Pairs(buffer) | Form::Triples(buffer) => buffer.into_vec(),
            Form::Table(_) => Vec::new(),
        }
    }

    #[inline]
    fn is_empty(&self) -> bool {
        self.look().is_empty()
    }

    #[inline]
    fn next_due(view: HashView<'_>) -> u64 {
        view.next_due()
    }

    #[inline]
    fn items(view: HashView<'_>) -> usize {
        view.len()
    }

    #[inline]
    fn look_ahead(&self, fields: &[&[u8]], ask: &impl Fn(*const u8)) {
        if let Form::Table(table) = &self.form {
            table.look_ahead(fields, ask);
        }
    }

    fn encoding(view: HashView<'_>) -> &'static str {
        match view {
            HashView::Pairs(_) => "listpack",
            HashView::Triples(_) => "listpackex",
            HashView::Table(_) => "hashtable",
        }
    }

    fn heap_bytes(&self) -> usize {
        match &self.form {
            Form::Pairs(buffer) | Form::Triples(buffer) => buffer.heap_bytes(),
            Form::Table(table) => size_of::<Table>() + table.heap_bytes(),
        }
    }

    fn free_effort(&self) -> usize {
        match &self.form {
            Form::Pairs(_) | Form::Triples(_) => 1,
            Form::Table(table) => table.len(),
        }
    }

    fn free_step(&mut self, budget: usize) -> bool {
        match &mut self.form {
            Form::Pairs(_) | Form::Triples(_) => true,
            Form::Table(table) => table.free_step(budget),
        }
    }

    fn move_blocks(&mut self, mover: &mut Mover<'_>, from: Resume) -> Resume {
        match &mut self.form {
            Form::Pairs(buffer) | Form::Triples(buffer) => {
                buffer.move_blocks(mover);
                Resume::START
            }
            Form::Table(table) => table.move_blocks(mover, from),
        }
    }

    fn duplicate(&self) -> Hash {
        let form = match &self.form {
            Form::Pairs(pairs) => Form::Pairs(pairs.clone()),
            Form::Triples(triples) => Form::Triples(triples.clone()),
            Form::Table(table) => Form::Table(Box::new(table.duplicate())),
        };
        Hash { form }
    }
}
