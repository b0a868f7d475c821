//! Sets: distinct members, which are bytes.
//!
//! A set of integers is sorted in one buffer; a small set of anything is packed in one, in order of
//! insertion; a large one is a table. Which one it is follows Redis' rules, since OBJECT ENCODING shows it
//! and the order of members too. It never goes back by itself, except where Redis makes a new set.
//! Invariant: an integer's text is its canonical decimal form, in every form of the set.
//! Read next: `operations.rs` for unions and the like, `load.rs` for sets from outside.

pub(crate) mod fuzz;
mod ints;
pub use ints::{Ints, IntsBuf};

mod table;
pub use table::Table;

mod view;
pub use view::View;

pub mod operations;

mod pop;

mod load;
pub use load::{Large, LargeLoader, Loader};

#[cfg(test)]
mod tests;

use crate::collection::{Collection, PackedLimits};
use crate::mover::{Mover, Resume};
use crate::number;
use crate::packed::{Element, LISTPACK_OVERHEAD_BYTES, PackedBuf};

/// Bytes above which a listpack of Redis does not grow.
const PACKED_BYTES_MAX: usize = 1 << 30;

/// Up to which size a set keeps which form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most members of a sorted buffer of integers.
    pub ints_max: usize,
    /// Limits of the packed form.
    pub packed: PackedLimits,
}

impl Limits {
    fn ints_max(&self) -> usize {
        self.ints_max.min(1 << 30)
    }

    /// Whether a packed set of `len` members and `bytes` bytes, as Redis counts them, takes one more.
    fn takes(&self, len: usize, bytes: usize, member: usize) -> bool {
        len < self.packed.entries_max
            && member <= self.packed.value_bytes_max
            && bytes.saturating_add(member) <= PACKED_BYTES_MAX
    }
}

/// A set.
#[derive(Debug, Clone)]
pub struct Set {
    form: Form,
}

#[derive(Debug, Clone)]
enum Form {
    Ints(IntsBuf),
    Packed(PackedBuf),
    Table(Table),
}

/// The packed forms, as they are numbered in entries.
const FORM_INTS: u8 = 0;
const FORM_PACKED: u8 = 1;

impl Set {
    /// An empty set that becomes a sorted buffer of integers if all members are some.
    #[must_use]
    pub fn empty() -> Set {
        Set { form: Form::Ints(IntsBuf::default()) }
    }

    /// An empty set that is packed from its first member on.
    #[must_use]
    pub fn empty_packed() -> Set {
        Set { form: Form::Packed(PackedBuf::new()) }
    }

    /// Prepares for `count` members, of which `first` is the first: Redis chooses the form of a new set
    /// by these, and gives up a small form if they alone would be too many for it.
    pub fn expect(&mut self, first: &[u8], count: usize, limits: &Limits) {
        let new = self.is_empty();
        match &mut self.form {
            Form::Ints(ints) if new && (count > limits.ints_max() || number::parse_i64(first).is_none()) => {
                self.form = if count <= limits.packed.entries_max {
                    Form::Packed(PackedBuf::reusing(std::mem::take(ints).into_vec()))
                } else {
                    Form::Table(Table::default())
                };
            }
            Form::Ints(_) if count > limits.ints_max() => {
                self.become_table();
            }
            Form::Packed(_) if count > limits.packed.entries_max => {
                self.become_table();
            }
            _ => {}
        }
    }

    /// Adds a member; false if it was there.
    #[inline]
    pub fn add(&mut self, member: &[u8], limits: &Limits) -> bool {
        match &mut self.form {
            Form::Table(table) => table.insert(member),
            Form::Packed(packed) => {
                let view = packed.view();
                if view.first().is_some_and(|first| view.find(first, member, 0).is_some()) {
                    return false;
                }
                if limits.takes(view.len(), view.listpack_bytes(), member.len()) {
                    packed.push_back(member);
                } else {
                    self.become_table().insert(member);
                }
                true
            }
            Form::Ints(_) => match number::parse_i64(member) {
                Some(value) => self.add_int(value, limits),
                None => self.add_to_ints(member, limits),
            },
        }
    }

    /// Adds a member as another set has it; false if it was there.
    pub fn add_element(&mut self, member: Element<'_>, limits: &Limits) -> bool {
        match member {
            Element::Bytes(bytes) => self.add(bytes, limits),
            Element::Int(value) => self.add_int(value, limits),
        }
    }

    /// Adds an integer; false if it was there.
    pub fn add_int(&mut self, value: i64, limits: &Limits) -> bool {
        let Form::Ints(ints) = &mut self.form else {
            return self.add(itoa::Buffer::new().format(value).as_bytes(), limits);
        };
        let added = ints.insert(value);
        if added && ints.view().len() > limits.ints_max() {
            self.become_table();
        }
        added
    }

    /// Adds a first member that is no integer.
    fn add_to_ints(&mut self, member: &[u8], limits: &Limits) -> bool {
        let Form::Ints(ints) = &self.form else { return false };
        let view = ints.view();
        let ends = [view.get(0), view.len().checked_sub(1).and_then(|last| view.get(last))];
        let longest = ends.into_iter().flatten().map(|value| Element::Int(value).len()).max().unwrap_or(0);
        let widest = ends.into_iter().flatten().map(|value| Element::Int(value).encoded_bytes()).max();
        let bytes = LISTPACK_OVERHEAD_BYTES + widest.unwrap_or(0).saturating_mul(view.len());
        if limits.takes(view.len(), bytes, member.len()) && longest <= limits.packed.value_bytes_max {
            self.become_packed().push_back(member);
        } else {
            self.become_table().insert(member);
        }
        true
    }

    /// Takes out a member; false if it was not there.
    #[inline]
    pub fn remove(&mut self, member: &[u8]) -> bool {
        match &mut self.form {
            Form::Table(table) => table.remove(member),
            Form::Ints(ints) => number::parse_i64(member).is_some_and(|value| ints.remove(value)),
            Form::Packed(packed) => {
                let view = packed.view();
                let found = view.first().and_then(|first| view.find(first, member, 0));
                if let Some(cursor) = found {
                    packed.remove(cursor, 1);
                }
                found.is_some()
            }
        }
    }

    /// Takes out a member as another set has it; false if it was not there.
    pub fn remove_element(&mut self, member: Element<'_>) -> bool {
        match (member, &mut self.form) {
            (Element::Bytes(bytes), _) => self.remove(bytes),
            (Element::Int(value), Form::Ints(ints)) => ints.remove(value),
            (Element::Int(value), _) => self.remove(itoa::Buffer::new().format(value).as_bytes()),
        }
    }

    /// How many members there are.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.view().len()
    }

    /// Whether there is none.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.view().is_empty()
    }

    /// A look at it.
    #[inline]
    #[must_use]
    pub fn view(&self) -> View<'_> {
        match &self.form {
            Form::Ints(ints) => View::Ints(ints.view()),
            Form::Packed(packed) => View::Packed(packed.view()),
            Form::Table(table) => View::Table(table),
        }
    }

    /// Makes it a sorted buffer of integers, whose members all are integers, unless they are too many.
    fn become_ints_if_few(&mut self, limits: &Limits) {
        if matches!(self.form, Form::Ints(_)) || self.len() > limits.ints_max() {
            return;
        }
        let mut values = Vec::with_capacity(self.len());
        self.view().for_each(|member| values.extend(member.to_i64()));
        values.sort_unstable();
        let mut ints = IntsBuf::default();
        for value in values {
            ints.insert(value);
        }
        self.form = Form::Ints(ints);
    }

    fn become_packed(&mut self) -> &mut PackedBuf {
        if !matches!(self.form, Form::Packed(_)) {
            let mut packed = PackedBuf::new();
            self.view().for_each(|member| packed.push_back_element(member));
            self.form = Form::Packed(packed);
        }
        match &mut self.form {
            Form::Packed(packed) => packed,
            _ => unreachable!("it was made packed"),
        }
    }

    fn become_table(&mut self) -> &mut Table {
        if !matches!(self.form, Form::Table(_)) {
            let mut table = Table::default();
            self.view().for_each(|member| {
                view::with_text(member, |text| table.insert(text));
            });
            self.form = Form::Table(table);
        }
        match &mut self.form {
            Form::Table(table) => table,
            _ => unreachable!("it was made a table"),
        }
    }

    /// Panics if an invariant does not hold.
    pub fn check(&self) {
        match &self.form {
            Form::Ints(ints) => ints.check(),
            Form::Packed(packed) => {
                assert_eq!(packed.view().iter().count(), packed.len(), "the count is wrong");
                let mut members: Vec<Vec<u8>> = packed.view().iter().map(Element::to_vec).collect();
                members.sort_unstable();
                assert!(members.is_sorted_by(|one, next| one < next), "a member is there twice");
            }
            Form::Table(table) => table.check(),
        }
    }
}

impl Collection for Set {
    type View<'a> = View<'a>;

    fn new(mut spare: Vec<u8>) -> Set {
        spare.clear();
        Set { form: Form::Ints(IntsBuf::from_vec(spare)) }
    }

    fn view(&self) -> View<'_> {
        Set::view(self)
    }

    #[inline]
    fn view_inline(form: u8, bytes: &[u8]) -> View<'_> {
        if form == FORM_INTS {
            View::Ints(Ints::new(bytes))
        } else {
            View::Packed(crate::packed::Packed::new(bytes))
        }
    }

    #[inline]
    fn from_inline(form: u8, bytes: Vec<u8>) -> Set {
        let form = if form == FORM_INTS {
            Form::Ints(IntsBuf::from_vec(bytes))
        } else {
            Form::Packed(PackedBuf::from_vec(bytes))
        };
        Set { form }
    }

    #[inline]
    fn inline(&self) -> Option<(u8, &[u8])> {
        match &self.form {
            Form::Ints(ints) => Some((FORM_INTS, ints.bytes())),
            Form::Packed(packed) => Some((FORM_PACKED, packed.view().bytes())),
            Form::Table(_) => None,
        }
    }

    fn into_spare(self) -> Vec<u8> {
        match self.form {
            Form::Ints(ints) => ints.into_vec(),
            Form::Packed(packed) => packed.into_vec(),
            Form::Table(_) => Vec::new(),
        }
    }

    fn is_empty(&self) -> bool {
        Set::is_empty(self)
    }

    #[inline]
    fn items(view: View<'_>) -> usize {
        view.len()
    }

    #[inline]
    fn look_ahead(&self, members: &[&[u8]], ask: &impl Fn(*const u8)) {
        if let Form::Table(table) = &self.form {
            table.look_ahead(members, ask);
        }
    }

    fn encoding(view: View<'_>) -> &'static str {
        match view {
            View::Ints(_) => "intset",
            View::Packed(_) => "listpack",
            View::Table(_) => "hashtable",
        }
    }

    fn heap_bytes(&self) -> usize {
        match &self.form {
            Form::Ints(ints) => ints.heap_bytes(),
            Form::Packed(packed) => packed.heap_bytes(),
            Form::Table(table) => table.heap_bytes(),
        }
    }

    fn free_effort(&self) -> usize {
        match &self.form {
            Form::Table(table) => table.len(),
            _ => 1,
        }
    }

    fn free_step(&mut self, budget: usize) -> bool {
        match &mut self.form {
            Form::Table(table) => table.free_step(budget),
            _ => true,
        }
    }

    fn move_blocks(&mut self, mover: &mut Mover<'_>, from: Resume) -> Resume {
        match &mut self.form {
            Form::Ints(ints) => {
                ints.move_blocks(mover);
                Resume::START
            }
            Form::Packed(packed) => {
                packed.move_blocks(mover);
                Resume::START
            }
            Form::Table(table) => table.move_blocks(mover, from),
        }
    }

    fn duplicate(&self) -> Set {
        self.clone()
    }
}
