//! One live key as it is looked at, and its value on the way to another key.

use crate::db::WrongType;
use crate::insight::bytes_of as bytes_apart;
use crate::local::Millis;
use crate::object::{Object, Type, encoding_of, size_of_value};
use crate::string::{self, Encoding, Str, kind};
use larder_table::{Entry, PayloadRef};

/// A look at one live key.
#[derive(Clone, Copy)]
pub struct Item<'a> {
    pub(crate) entry: Entry<'a, Object>,
}

impl<'a> Item<'a> {
    #[inline]
    pub(crate) fn new(entry: Entry<'a, Object>) -> Self {
        Item { entry }
    }

    /// The key.
    pub fn key(&self) -> &'a [u8] {
        self.entry.key()
    }

    /// The type of the value.
    #[inline]
    pub fn value_type(&self) -> Type {
        Type::of_kind(self.entry.kind())
    }

    /// The value as a string.
    #[inline(always)]
    pub fn string(&self) -> Result<Str<'a>, WrongType> {
        let kind = self.entry.kind();
        if kind < kind::STRINGS_END { Ok(Str::decode(kind, self.entry.payload())) } else { Err(WrongType) }
    }

    /// What OBJECT ENCODING answers.
    pub fn encoding(&self) -> &'static str {
        encoding_of(self.entry.kind(), self.entry.payload()).unwrap_or_else(|| self.text_encoding().name())
    }

    /// Redis' word for the form of a string.
    fn text_encoding(&self) -> Encoding {
        let kind = self.entry.kind();
        let value = Str::decode(kind, self.entry.payload());
        string::encoding(kind, &value, self.entry.key().len(), self.entry.deadline().is_some())
    }

    /// When the key ends, if it does.
    #[inline]
    pub fn deadline(&self) -> Option<Millis> {
        self.entry.deadline().map(Millis)
    }

    /// The 24-bit access field.
    pub fn access(&self) -> u32 {
        self.entry.access()
    }

    /// The size of the value: bytes of a string, elements of a collection.
    pub fn size(&self) -> usize {
        size_of_value(self.entry.kind(), self.entry.payload())
    }

    /// Bytes of the value, without key and header.
    pub fn value_bytes(&self) -> usize {
        match self.entry.payload() {
            PayloadRef::Inline(bytes) => bytes.len(),
            PayloadRef::Boxed(object) => bytes_apart(object),
        }
    }

    /// Memory the key and its value take, in bytes, from the system's point of view.
    pub fn memory(&self) -> usize {
        let apart = match self.entry.payload() {
            PayloadRef::Boxed(object) => object.memory(),
            PayloadRef::Inline(_) => 0,
        };
        self.entry.size() + apart
    }

    /// The kind under another key: what is raw stays raw.
    pub(crate) fn lasting_kind(&self) -> u8 {
        let kind = self.entry.kind();
        let is_raw = kind < kind::STRINGS_END && self.text_encoding() == Encoding::Raw;
        if is_raw { string::raw_kind(kind) } else { kind }
    }

    /// A copy of the value that stands on its own.
    pub fn to_value(&self) -> Value {
        Value {
            kind: self.lasting_kind(),
            deadline: self.deadline(),
            payload: match self.entry.payload() {
                PayloadRef::Inline(bytes) => Owned::Inline(bytes.into()),
                PayloadRef::Boxed(object) => Owned::Boxed(object.duplicate()),
            },
        }
    }
}

/// A value outside of the keyspace, with all that belongs to it, on its way to another key.
#[derive(Debug)]
pub struct Value {
    pub(crate) kind: u8,
    /// When it ends, if it does.
    pub deadline: Option<Millis>,
    pub(crate) payload: Owned,
}

/// What such a value holds.
#[derive(Debug)]
pub(crate) enum Owned {
    Inline(Box<[u8]>),
    Boxed(Object),
}
