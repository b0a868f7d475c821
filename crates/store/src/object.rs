//! Values that lie apart from their entry, and which types of values there are.
//!
//! A type is one row of the table at the end: its variant, structure, name, and the kinds that entries of it have. A
//! collection lies inside its entry while it is packed and small (a kind for each packed form), else apart.
//! Read next: `collection.rs` for what commands do with collections.

use crate::db::WrongType;
use crate::noted::{Note, Noted};
use crate::string::{Str, kind};
use larder_table::PayloadRef;
use larder_values::collection::Collection;
use larder_values::hash::{FORM_TRIPLES, Hash};
use larder_values::list::List;
use larder_values::mover::{Mover, Resume};
use larder_values::stream::Stream;
use larder_values::zset::ZSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// What a shared string has beside its bytes: the counts and the vector.
const BLOB_HEADER_BYTES: usize = size_of::<Vec<u8>>() + 2 * size_of::<usize>();

/// A collection that a key can hold.
pub trait Stored: Collection {
    /// Its type.
    const TYPE: Type;
    /// Kinds of the entries it lies in, by its packed forms.
    const KINDS: RangeInclusive<u8>;
    /// Kind of an entry beside which it lies.
    const KIND_APART: u8;

    /// The collection as an object.
    fn into_object(self) -> Object;
    /// The collection in an object, if it is one of these.
    fn of(object: &Object) -> Option<&Self>;
    /// The collection in an object, to change it.
    fn of_mut(object: &mut Object) -> Option<&mut Self>;
    /// The collection taken out of an object.
    fn out_of(object: Object) -> Option<Self>;

    /// A look at an entry's payload.
    #[inline]
    fn decode(kind: u8, payload: PayloadRef<'_, Object>) -> Result<Self::View<'_>, WrongType> {
        match payload {
            PayloadRef::Inline(bytes) if Self::KINDS.contains(&kind) => {
                Ok(Self::view_inline(kind - Self::KINDS.start(), bytes))
            }
            PayloadRef::Boxed(object) => Self::of(object).map(Self::view).ok_or(WrongType),
            PayloadRef::Inline(_) => Err(WrongType),
        }
    }
}

/// Makes the types from the rows of the table.
macro_rules! types {
    ($($(#[$doc:meta])* $variant:ident: $structure:ty = $name:literal,
        inside $first:literal ..= $last:literal, apart $apart:literal;)*) => {
        /// A value that lies apart from its entry.
        pub enum Object {
            /// A long string, shared with replies that are being sent.
            Blob(Arc<Vec<u8>>),
            /// One with a note.
            Noted(Box<Noted>),
            $($(#[$doc])* $variant(Box<$structure>),)*
        }

        /// The type of a value, as TYPE names it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Type {
            /// Strings, bitmaps and HyperLogLogs.
            String,
            $($(#[$doc])* $variant,)*
        }

        impl Type {
            /// The name TYPE answers.
            pub fn name(self) -> &'static str {
                match self {
                    Type::String => "string",
                    $(Type::$variant => $name,)*
                }
            }

            /// The type of an entry of this kind.
            #[inline]
            pub(crate) fn of_kind(entry_kind: u8) -> Type {
                match entry_kind {
                    ..kind::STRINGS_END => Type::String,
                    $($first..=$last => Type::$variant,
                    $apart => Type::$variant,)*
                    other => unreachable!("no value has kind {other}"),
                }
            }
        }

        impl Object {
            /// The type of the value.
            pub fn value_type(&self) -> Type {
                match self {
                    Object::Blob(_) | Object::Noted(_) => Type::String,
                    $(Object::$variant(_) => Type::$variant,)*
                }
            }

            /// The long string, if it is one.
            #[inline]
            pub(crate) fn blob(&self) -> Option<&Arc<Vec<u8>>> {
                match self {
                    Object::Blob(blob) => Some(blob),
                    Object::Noted(noted) => Some(&noted.blob),
                    $(Object::$variant(_) => None,)*
                }
            }

            /// The long string, to be changed: what was noted of it is forgotten.
            #[inline]
            pub(crate) fn blob_mut(&mut self) -> Option<&mut Arc<Vec<u8>>> {
                if let Object::Noted(noted) = self {
                    *self = Object::Blob(std::mem::take(&mut noted.blob));
                }
                match self {
                    Object::Blob(blob) => Some(blob),
                    Object::Noted(_) => None,
                    $(Object::$variant(_) => None,)*
                }
            }

            /// Has something noted of a long string.
            pub(crate) fn set_note(&mut self, note: Note) {
                match self {
                    Object::Noted(noted) => noted.note = note,
                    Object::Blob(blob) => {
                        let blob = std::mem::take(blob);
                        *self = Object::Noted(Box::new(Noted { note, blob }));
                    }
                    $(Object::$variant(_) => {})*
                }
            }

            /// Memory that freeing it gives back, in bytes: none while a reply holds a string.
            pub fn bytes(&self) -> usize {
                match self {
                    Object::Blob(blob) if Arc::strong_count(blob) > 1 => 0,
                    Object::Noted(noted) if Arc::strong_count(&noted.blob) > 1 => 0,
                    Object::Blob(blob) => blob.capacity(),
                    Object::Noted(noted) => noted.blob.capacity(),
                    $(Object::$variant(value) => size_of::<$structure>() + value.heap_bytes(),)*
                }
            }

            /// Memory it takes beside its entry, in bytes, whoever else holds it.
            pub fn memory(&self) -> usize {
                let noted = if let Object::Noted(_) = self { size_of::<Noted>() } else { 0 };
                self.blob().map_or_else(|| self.bytes(), |blob| blob.capacity() + BLOB_HEADER_BYTES + noted)
            }

            /// About how many blocks of memory it is, as Redis estimates it.
            pub fn free_effort(&self) -> usize {
                match self {
                    Object::Blob(_) | Object::Noted(_) => 1,
                    $(Object::$variant(value) => value.free_effort(),)*
                }
            }

            /// Frees about `budget` elements; true when nothing is left but the object itself.
            pub fn free_step(&mut self, budget: usize) -> bool {
                let _ = budget;
                match self {
                    Object::Blob(_) | Object::Noted(_) => true,
                    $(Object::$variant(value) => value.free_step(budget),)*
                }
            }

            /// Moves memory that lies badly, from a place on until the mover is spent; where to go on, the start at the end.
            /// A string that a reply holds stays.
            pub(crate) fn move_blocks(&mut self, mover: &mut Mover<'_>, from: Resume) -> Resume {
                match self {
                    Object::Blob(blob) => {
                        if let Some(bytes) = Arc::get_mut(blob) {
                            mover.vec(bytes);
                        }
                        Resume::START
                    }
                    Object::Noted(noted) => {
                        if let Some(bytes) = Arc::get_mut(&mut noted.blob) {
                            mover.vec(bytes);
                        }
                        Resume::START
                    }
                    $(Object::$variant(value) => value.move_blocks(mover, from),)*
                }
            }

            /// Prefetches what looking up some of its elements will read, at most [`larder_values::collection::AHEAD_MAX`] of them.
            pub(crate) fn look_ahead(&self, elements: &[&[u8]]) {
                let ask = larder_table::prefetch::<u8>;
                match self {
                    Object::Blob(_) | Object::Noted(_) => {}
                    $(Object::$variant(value) => value.look_ahead(elements, &ask),)*
                }
            }

            /// The earliest moment, Unix ms, at which a part of it ends by itself; `u64::MAX` where none does.
            #[inline]
            pub(crate) fn next_due(&self) -> u64 {
                match self {
                    Object::Blob(_) | Object::Noted(_) => u64::MAX,
                    $(Object::$variant(value) => <$structure as Collection>::next_due(value.view()),)*
                }
            }

            /// A copy: long strings are shared, collections copied. O(elements).
            pub(crate) fn duplicate(&self) -> Object {
                match self {
                    Object::Blob(blob) => Object::Blob(Arc::clone(blob)),
                    Object::Noted(noted) => {
                        Object::Noted(Box::new(Noted { note: noted.note, blob: Arc::clone(&noted.blob) }))
                    }
                    $(Object::$variant(value) => Object::$variant(Box::new(value.duplicate())),)*
                }
            }
        }

        /// What OBJECT ENCODING answers for a collection; `None` for a string.
        pub(crate) fn encoding_of(entry_kind: u8, payload: PayloadRef<'_, Object>) -> Option<&'static str> {
            let _ = payload;
            match Type::of_kind(entry_kind) {
                Type::String => None,
                $(Type::$variant => {
                    let view = <$structure as Stored>::decode(entry_kind, payload).ok()?;
                    Some(<$structure as Collection>::encoding(view))
                })*
            }
        }

        /// The earliest moment, Unix ms, at which a part of a value ends by itself; `u64::MAX` where none does.
        #[inline]
        pub(crate) fn next_due_of(entry_kind: u8, payload: PayloadRef<'_, Object>) -> u64 {
            match Type::of_kind(entry_kind) {
                Type::String => u64::MAX,
                $(Type::$variant => <$structure as Stored>::decode(entry_kind, payload)
                    .map_or(u64::MAX, <$structure as Collection>::next_due),)*
            }
        }

        /// The size of a value: bytes of a string, elements of a collection.
        #[inline]
        pub(crate) fn size_of_value(entry_kind: u8, payload: PayloadRef<'_, Object>) -> usize {
            match Type::of_kind(entry_kind) {
                Type::String => Str::decode(entry_kind, payload).len(),
                $(Type::$variant => <$structure as Stored>::decode(entry_kind, payload)
                    .map_or(0, <$structure as Collection>::items),)*
            }
        }

        $(impl Stored for $structure {
            const TYPE: Type = Type::$variant;
            const KINDS: RangeInclusive<u8> = $first..=$last;
            const KIND_APART: u8 = $apart;

            fn into_object(self) -> Object {
                Object::$variant(Box::new(self))
            }

            fn of(object: &Object) -> Option<&Self> {
                if let Object::$variant(value) = object { Some(value) } else { None }
            }

            fn of_mut(object: &mut Object) -> Option<&mut Self> {
                if let Object::$variant(value) = object { Some(value) } else { None }
            }

            fn out_of(object: Object) -> Option<Self> {
                if let Object::$variant(value) = object { Some(*value) } else { None }
            }
        })*
    };
}

impl std::fmt::Debug for Object {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Object({}, {} bytes)", self.value_type().name(), self.bytes())
    }
}

types! {
    /// A list.
    List: List = "list", inside 16..=17, apart 18;
    /// Distinct members without an order of their own.
    Set: larder_values::set::Set = "set", inside 19..=20, apart 21;
    /// A hash.
    Hash: Hash = "hash", inside 22..=23, apart 24;
    /// Members with scores, in the order of the scores.
    ZSet: ZSet = "zset", inside 26..=26, apart 27;
    /// A stream.
    Stream: Stream = "stream", inside 29..=29, apart 31;
}

/// Whether a value of this kind, or the object beside it, had parts that end by themselves: fields of a hash.
#[inline]
pub(crate) fn has_ends(entry_kind: u8, boxed: Option<&Object>) -> bool {
    entry_kind >= kind::STRINGS_END
        && match boxed {
            Some(object) => object.next_due() != u64::MAX,
            None => entry_kind == Hash::KINDS.start() + FORM_TRIPLES,
        }
}

const _: () = assert!(size_of::<Object>() <= 16, "an entry has room for a pointer and its tag");
