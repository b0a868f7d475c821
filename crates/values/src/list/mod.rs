//! Lists: elements in an order of their own, added and taken at both ends.
//!
//! A small list is one packed buffer (`listpack` to OBJECT ENCODING), one of a few short elements without the lengths behind
//! them; a large one is chunks of packed elements (`quicklist`). It becomes large before an addition that might exceed the limit of one
//! buffer, and small again when a removal leaves one chunk of at most half of the limit.
//! Invariant: a list of the large form is not empty, except inside of an operation that removed all.
//! Read next: `view.rs` for reading, `bare.rs` for the smallest form, `quick.rs` for the large form, `chunk.rs` for compression, `limit.rs` for the limits.

mod bare;
mod chunk;
mod chunks;
pub(crate) mod fuzz;
mod limit;
mod quick;
#[cfg(test)]
mod tests;
mod view;

use crate::collection::Collection;
use crate::mover::{Mover, Resume};
use crate::packed::{Element, Packed, PackedBuf};
pub use bare::Bare;
use bare::{BareBuf, COUNT_BACK};
pub use limit::Limit;
pub use quick::Quick;
pub use view::ListView;

/// The forms that lie inside an entry.
const FORM_PACKED: u8 = 0;
const FORM_BARE: u8 = 1;

/// An end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Left: index 0.
    Head,
    /// Right.
    Tail,
}

/// A side of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Towards the head.
    Before,
    /// Towards the tail.
    After,
}

/// A list.
#[derive(Clone, Debug)]
pub struct List(Form);

#[derive(Clone, Debug)]
enum Form {
    Bare(BareBuf),
    Packed(PackedBuf),
    Quick(Box<Quick>),
}

impl Default for List {
    fn default() -> List {
        List::empty()
    }
}

impl List {
    /// An empty list. It holds no memory.
    pub fn empty() -> List {
        List(Form::Bare(BareBuf::default()))
    }

    /// An empty list in the large form, to be filled chunk by chunk and then settled.
    pub fn of_chunks(limit: Limit) -> List {
        List(Form::Quick(Box::new(Quick::new(limit))))
    }

    /// Appends elements as a chunk that may have any size; an empty one is left out. Only for a list of chunks.
    pub fn append_chunk(&mut self, packed: PackedBuf) {
        if let Form::Quick(quick) = &mut self.0 {
            quick.append_chunk(packed);
        }
    }

    /// Appends elements one by one, filling chunks. Only for a list of chunks.
    pub fn append_each(&mut self, elements: Packed<'_>) {
        let mut text = Vec::new();
        for element in elements {
            text.clear();
            element.write_to(&mut text);
            self.push(End::Tail, &text);
        }
    }

    /// Appends an element as a chunk that takes no others. Only for a list of chunks.
    pub fn append_plain(&mut self, text: &[u8]) {
        if let Form::Quick(quick) = &mut self.0 {
            quick.append_plain(text);
        }
    }

    /// How many elements there are.
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "`Collection` has it")]
    pub fn len(&self) -> usize {
        self.view().len()
    }

    /// Becomes large if `count` elements more, of `bytes` in all, might not fit the limit of one buffer.
    /// To be called before elements are added; what is added to a small list stays in it.
    #[inline]
    pub fn make_room(&mut self, limit: Limit, bytes: usize, count: usize) {
        let (present_bytes, present) = match &mut self.0 {
            Form::Bare(bare) => (bare.view().listpack_bytes(), bare.view().len()),
            Form::Packed(packed) => (packed.view().listpack_bytes(), packed.len()),
            Form::Quick(quick) => return quick.follow(limit),
        };
        if limit.is_exceeded(present_bytes + bytes, present + count) {
            self.enlarge(limit);
        }
    }

    /// A small list becomes large.
    fn enlarge(&mut self, limit: Limit) {
        let mut packed = std::mem::take(self.packed());
        let mut quick = Quick::new(limit);
        packed.shrink_to_fit();
        quick.append_chunk(packed);
        self.0 = Form::Quick(Box::new(quick));
    }

    /// The packed elements of a small list, which get lengths if they have none.
    fn packed(&mut self) -> &mut PackedBuf {
        if let Form::Bare(bare) = &self.0 {
            self.0 = Form::Packed(bare.view().to_packed());
        }
        match &mut self.0 {
            Form::Packed(packed) => packed,
            _ => unreachable!("the caller has asked whether the list is small"),
        }
    }

    /// Elements that have become so few, or short, give the lengths up.
    #[inline]
    fn bare_if_few(&mut self) {
        if let Form::Packed(packed) = &self.0
            && packed.len() <= COUNT_BACK
        {
            self.bare();
        }
    }

    /// Packed elements that are few and short give the lengths up.
    fn bare(&mut self) {
        if let Form::Packed(packed) = &self.0
            && let Some(bare) = BareBuf::of_packed(packed.view())
        {
            self.0 = Form::Bare(bare);
        }
    }

    /// Becomes small if there is one chunk that fits the limit, or half of it after a removal.
    #[inline]
    pub fn settle(&mut self, limit: Limit, after_removal: bool) {
        if let Form::Quick(quick) = &mut self.0
            && let Some(packed) = quick.small_chunk(limit, after_removal)
        {
            self.0 = Form::Packed(packed);
            self.bare();
        }
    }

    /// Adds an element at an end, after [`List::make_room`]. Amortised O(1), but O(n) at the head of a small list.
    #[inline]
    pub fn push(&mut self, end: End, text: &[u8]) {
        match (&mut self.0, end) {
            (Form::Bare(bare), end) => {
                if !bare.push(end, text) {
                    self.packed();
                    self.push(end, text);
                }
            }
            (Form::Packed(packed), End::Tail) => packed.push_back(text),
            (Form::Packed(packed), End::Head) => packed.push_front(text),
            (Form::Quick(quick), end) => quick.push(end, text),
        }
    }

    /// Adds an element that was taken from a list, `from_quick` from a large one, with [`List::make_room`] for it.
    pub fn push_taken(&mut self, limit: Limit, end: End, element: Element<'_>, from_quick: bool) {
        let mut digits = itoa::Buffer::new();
        // In Redis an integer from a large list is no text on its way, and counts as one of no length.
        let (text, counted_bytes) = match element {
            Element::Bytes(bytes) => (bytes, bytes.len()),
            Element::Int(value) => {
                let text = digits.format(value).as_bytes();
                (text, if from_quick { 0 } else { text.len() })
            }
        };
        self.make_room(limit, counted_bytes, 1);
        self.push(end, text);
    }

    /// Takes up to `count` elements from an end, in the order in which they stand from there; `visit`
    /// gets each. How many there were.
    pub fn pop(&mut self, limit: Limit, end: End, count: usize, mut visit: impl FnMut(Element<'_>)) -> usize {
        let popped = self.take(end, count, &mut visit);
        self.settle(limit, true);
        popped
    }

    /// Takes an element from an end, gives it to `visit` and adds it at another end.
    pub fn rotate(&mut self, limit: Limit, from: End, to: End, mut visit: impl FnMut(Element<'_>)) {
        let (mut text, mut integer) = (Vec::new(), None);
        let taken = self.take(from, 1, &mut |element| {
            visit(element);
            match element {
                Element::Int(value) => integer = Some(value),
                Element::Bytes(bytes) => text.extend_from_slice(bytes),
            }
        });
        if taken == 1 {
            self.push_taken(limit, to, integer.map_or(Element::Bytes(&text), Element::Int), false);
        }
        self.settle(limit, true);
    }

    /// Keeps the elements from index `first` to before `end`. O(chunks removed).
    pub fn trim(&mut self, limit: Limit, first: usize, end: usize) {
        let len = self.len();
        self.remove_range(end, len.saturating_sub(end));
        self.remove_range(0, first);
        self.settle(limit, true);
    }

    /// Replaces the element with this index; false if there is none.
    pub fn set(&mut self, limit: Limit, index: usize, text: &[u8]) -> bool {
        self.make_room(limit, text.len(), 1);
        if let Form::Bare(bare) = &mut self.0 {
            if index >= bare.view().len() || bare.set(index, text) {
                return index < self.len();
            }
            self.packed();
        }
        let replaced = match &mut self.0 {
            Form::Bare(_) => false,
            Form::Packed(packed) => match packed.view().seek(index) {
                Some(cursor) => {
                    packed.replace(cursor, text);
                    true
                }
                None => false,
            },
            Form::Quick(quick) => match quick.open(index) {
                Some(place) => {
                    quick.replace(place, text);
                    true
                }
                None => false,
            },
        };
        if replaced {
            self.bare_if_few();
            self.settle(limit, true);
        }
        replaced
    }

    /// Puts an element beside the first one that is `pivot`; false if there is none. As in Redis, room is
    /// made before the pivot is looked for. O(n).
    pub fn insert(&mut self, limit: Limit, side: Side, pivot: &[u8], text: &[u8]) -> bool {
        self.make_room(limit, text.len(), 1);
        if let Form::Bare(bare) = &mut self.0 {
            let Some(index) = bare.find(pivot) else { return false };
            if bare.insert(index, side, text) {
                return true;
            }
            self.packed();
        }
        match &mut self.0 {
            Form::Bare(_) => return false,
            Form::Packed(packed) => {
                let view = packed.view();
                let Some(cursor) = view.first().and_then(|first| view.find(first, pivot, 0)) else {
                    return false;
                };
                match side {
                    Side::Before => packed.insert_before(cursor, text),
                    Side::After => packed.insert_after(cursor, text),
                }
            }
            Form::Quick(quick) => {
                let Some(place) = quick.open_found(pivot) else { return false };
                quick.insert(place, side, text);
            }
        }
        true
    }

    /// Removes elements that are `what`, at most `count` of them, searched from an end; how many. O(n).
    pub fn remove(&mut self, limit: Limit, from: End, count: usize, what: &[u8]) -> usize {
        let removed = match (&mut self.0, from) {
            (Form::Bare(bare), from) => bare.remove(from, count, what),
            (Form::Packed(packed), End::Head) => remove_first(packed, count, what),
            (Form::Packed(packed), End::Tail) => remove_last(packed, count, what),
            (Form::Quick(quick), from) => quick.remove_matching(from, count, what),
        };
        if removed > 0 {
            self.bare_if_few();
            self.settle(limit, true);
        }
        removed
    }

    /// Panics where an invariant is broken.
    pub fn check(&self) {
        match &self.0 {
            Form::Bare(bare) => bare.check(),
            Form::Packed(packed) => assert!(crate::packed::check(packed.view().bytes()).is_ok()),
            Form::Quick(quick) => quick.check(),
        }
    }

    fn take(&mut self, end: End, count: usize, visit: &mut impl FnMut(Element<'_>)) -> usize {
        match &mut self.0 {
            Form::Bare(bare) => bare.pop(end, count, visit),
            Form::Packed(packed) => {
                let popped = pop_packed(packed, end, count, visit);
                self.bare_if_few();
                popped
            }
            Form::Quick(quick) => quick.pop(end, count, visit),
        }
    }

    fn remove_range(&mut self, first: usize, count: usize) {
        match &mut self.0 {
            Form::Bare(bare) => bare.remove_range(first, count),
            Form::Packed(packed) => {
                packed.remove_range(first, count);
                self.bare_if_few();
            }
            Form::Quick(quick) => {
                quick.remove_range(first, count);
            }
        }
    }
}

impl Collection for List {
    type View<'a> = ListView<'a>;

    fn new(spare: Vec<u8>) -> List {
        List(Form::Bare(BareBuf::reusing(spare)))
    }

    #[inline]
    fn view(&self) -> ListView<'_> {
        match &self.0 {
            Form::Bare(bare) => ListView::Bare(bare.view()),
            Form::Packed(packed) => ListView::Packed(packed.view()),
            Form::Quick(quick) => ListView::Quick(quick),
        }
    }

    #[inline]
    fn view_inline(form: u8, bytes: &[u8]) -> ListView<'_> {
        if form == FORM_BARE {
            ListView::Bare(Bare::new(bytes))
        } else {
            ListView::Packed(Packed::new(bytes))
        }
    }

    #[inline]
    fn from_inline(form: u8, bytes: Vec<u8>) -> List {
        List(if form == FORM_BARE {
            Form::Bare(BareBuf::from_vec(bytes))
        } else {
            Form::Packed(PackedBuf::from_vec(bytes))
        })
    }

    #[inline]
    fn inline(&self) -> Option<(u8, &[u8])> {
        match &self.0 {
            Form::Bare(bare) => Some((FORM_BARE, bare.bytes())),
            Form::Packed(packed) => Some((FORM_PACKED, packed.view().bytes())),
            Form::Quick(_) => None,
        }
    }

    fn into_spare(self) -> Vec<u8> {
        match self.0 {
            Form::Bare(bare) => bare.into_vec(),
            Form::Packed(packed) => packed.into_vec(),
            Form::Quick(_) => Vec::new(),
        }
    }

    #[inline]
    fn is_empty(&self) -> bool {
        match &self.0 {
            Form::Bare(bare) => bare.view().is_empty(),
            Form::Packed(packed) => packed.is_empty(),
            Form::Quick(quick) => quick.is_empty(),
        }
    }

    #[inline]
    fn items(view: ListView<'_>) -> usize {
        view.len()
    }

    fn encoding(view: ListView<'_>) -> &'static str {
        if view.is_quick() { "quicklist" } else { "listpack" }
    }

    fn heap_bytes(&self) -> usize {
        match &self.0 {
            Form::Bare(bare) => bare.heap_bytes(),
            Form::Packed(packed) => packed.heap_bytes(),
            Form::Quick(quick) => size_of::<Quick>() + quick.heap_bytes(),
        }
    }

    fn free_effort(&self) -> usize {
        match &self.0 {
            Form::Bare(_) | Form::Packed(_) => 1,
            Form::Quick(quick) => quick.chunks(),
        }
    }

    fn free_step(&mut self, budget: usize) -> bool {
        match &mut self.0 {
            Form::Bare(_) | Form::Packed(_) => {
                *self = List::empty();
                true
            }
            Form::Quick(quick) => quick.free_step(budget),
        }
    }

    fn move_blocks(&mut self, mover: &mut Mover<'_>, from: Resume) -> Resume {
        match &mut self.0 {
            Form::Bare(bare) => {
                bare.move_blocks(mover);
                Resume::START
            }
            Form::Packed(packed) => {
                packed.move_blocks(mover);
                Resume::START
            }
            Form::Quick(quick) => quick.move_blocks(mover, from),
        }
    }

    fn duplicate(&self) -> List {
        self.clone()
    }
}

/// Takes elements from an end, one behind the other.
fn pop_packed(packed: &mut PackedBuf, end: End, count: usize, visit: &mut impl FnMut(Element<'_>)) -> usize {
    let view = packed.view();
    let len = view.len();
    let count = count.min(len);
    match (end, view.last()) {
        (End::Tail, Some(last)) if count == 1 => {
            visit(view.get(last));
            packed.remove(last, 1);
        }
        (End::Tail, _) => {
            view.iter().rev().take(count).for_each(visit);
            packed.remove_range(len - count, count);
        }
        (End::Head, _) => {
            view.iter().take(count).for_each(visit);
            packed.remove_range(0, count);
        }
    }
    count
}

/// Removes the first `count` elements that are `what`.
fn remove_first(packed: &mut PackedBuf, count: usize, what: &[u8]) -> usize {
    let (mut at, mut removed) = (packed.view().first(), 0);
    while removed < count
        && let Some(found) = at.and_then(|from| packed.view().find(from, what, 0))
    {
        at = packed.remove(found, 1);
        removed += 1;
    }
    removed
}

/// Removes the last `count` elements that are `what`.
fn remove_last(packed: &mut PackedBuf, count: usize, what: &[u8]) -> usize {
    let (mut at, mut removed) = (packed.view().last(), 0);
    while removed < count
        && let Some(cursor) = at
    {
        let view = packed.view();
        at = view.prev(cursor);
        if view.get(cursor).is(what) {
            packed.remove(cursor, 1);
            removed += 1;
        }
    }
    removed
}
