//! What a command answers when it refuses: exact texts, each written once.

use larder_store::WrongType;
use std::borrow::Cow;

macro_rules! errors {
    ($($(#[$doc:meta])* $variant:ident = $text:literal;)*) => {
        /// An error reply.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Error {
            $($(#[$doc])* $variant,)*
            /// A text with parts known at run time; starts with its code.
            Custom(Cow<'static, [u8]>),
        }

        impl Error {
            /// The text of the reply, code first.
            pub fn text(&self) -> &[u8] {
                match self {
                    $(Error::$variant => $text.as_bytes(),)*
                    Error::Custom(text) => text,
                }
            }
        }
    };
}

errors! {
    /// The key holds another type.
    WrongType = "WRONGTYPE Operation against a key holding the wrong kind of value";
    /// The arguments do not follow the command's grammar.
    Syntax = "ERR syntax error";
    /// An argument or value is no integer, or does not fit 64 bits.
    NotAnInteger = "ERR value is not an integer or out of range";
    /// An argument or value is no float.
    NotAFloat = "ERR value is not a valid float";
    /// The key must exist.
    NoSuchKey = "ERR no such key";
    /// An argument is outside what it may be.
    OutOfRange = "ERR index out of range";
    /// A result would not fit 64 bits.
    Overflow = "ERR increment or decrement would overflow";
    /// A float result would be no number.
    NanOrInfinity = "ERR increment would produce NaN or Infinity";
    /// A string would grow over `proto-max-bulk-len`.
    StringTooLong = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";
    /// A value would be larger than an entry may be.
    EntryTooLarge = "ERR the value would be larger than 'maxmemory-max-entry' allows";
    /// A database number is outside `databases`.
    DbOutOfRange = "ERR DB index is out of range";
    /// Source and destination are one.
    SameObject = "ERR source and destination objects are the same";
    /// A cursor is no number.
    InvalidCursor = "ERR invalid cursor";
    /// A write would need more than `maxmemory`.
    OutOfMemory = "OOM command not allowed when used memory > 'maxmemory'.";
}

impl Error {
    /// An error whose text is put together at run time; `text` starts with its code.
    pub fn custom(text: impl Into<Vec<u8>>) -> Self {
        Error::Custom(Cow::Owned(text.into()))
    }

    /// An error with a fixed text of one command; `text` starts with its code.
    pub const fn of(text: &'static str) -> Self {
        Error::Custom(Cow::Borrowed(text.as_bytes()))
    }

    /// A count of arguments that the command does not take. `name` is the full name, subcommand
    /// included after `|`.
    pub fn arity(name: &str) -> Self {
        Error::custom(format!("ERR wrong number of arguments for '{name}' command"))
    }

    /// A time to live that the command does not take. `name` is the command's name in lower case.
    pub fn invalid_expire(name: &str) -> Self {
        Error::custom(format!("ERR invalid expire time in '{name}' command"))
    }
}

impl From<larder_values::hll::Error> for Error {
    fn from(error: larder_values::hll::Error) -> Self {
        Error::of(error.message())
    }
}

impl From<WrongType> for Error {
    fn from(_: WrongType) -> Self {
        Error::WrongType
    }
}
