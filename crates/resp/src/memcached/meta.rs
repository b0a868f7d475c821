//! Flags of meta commands: one letter each, some with a token behind it.
//!
//! One grammar for all of them, as in memcached: a flag that means nothing to a command is taken and ignored. Flags that are
//! answered are answered in the order in which they were given, so that a command goes through the words again.

use super::number::{parse_i64, parse_u64};

/// Most words of a meta command, its name included, and one more.
const WORDS_END: usize = 20;
/// Longest opaque token, its letter included.
const OPAQUE_BYTES_MAX: usize = 32;

const TOO_MANY: &str = "CLIENT_ERROR options flags are too long";
const DUPLICATE: &str = "CLIENT_ERROR duplicate flag";
const INVALID: &str = "CLIENT_ERROR invalid flag";
const BAD_TOKEN: &str = "CLIENT_ERROR bad token in command line format";
const BAD_LINE: &str = "CLIENT_ERROR bad command line format";
const BAD_DELTA: &str = "CLIENT_ERROR invalid numeric delta value";
const BAD_INITIAL: &str = "CLIENT_ERROR invalid numeric initial value";
const BAD_MODE: &str = "CLIENT_ERROR incorrect length for M token";
/// What is answered for an opaque token that is too long.
pub const OPAQUE_TOO_LONG: &str = "CLIENT_ERROR opaque token too long";

/// What `M` says, where it is none of a command's modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mode(pub u8);

/// What the flags of a meta command say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// `v`: the value is answered.
    pub value: bool,
    /// `b`: the key is in base64.
    pub is_encoded: bool,
    /// `q`: what is as expected is not answered.
    pub is_quiet: bool,
    /// `u`: it is no access.
    pub no_touch: bool,
    /// `I`
    pub invalidates: bool,
    /// `T`: a time to live.
    pub ttl: Option<i64>,
    /// `N`: the time to live of what is made of a miss.
    pub vivify: Option<i64>,
    /// `R`: below so many seconds left somebody is to set the key anew.
    pub recache: Option<i64>,
    /// `F`
    pub client_flags: u32,
    /// `C`
    pub compare: Option<u64>,
    /// `E`
    pub unique: Option<u64>,
    /// `M`; zero where it was not given.
    pub mode: Mode,
    /// `D`
    pub delta: u64,
    /// `J`
    pub initial: u64,
}

impl Default for Meta {
    fn default() -> Self {
        Meta {
            value: false,
            is_encoded: false,
            is_quiet: false,
            no_touch: false,
            invalidates: false,
            ttl: None,
            vivify: None,
            recache: None,
            client_flags: 0,
            compare: None,
            unique: None,
            mode: Mode(0),
            delta: 1,
            initial: 0,
        }
    }
}

impl Meta {
    /// Reads the flags of a command that has `before` words before them.
    ///
    /// # Errors
    /// The answer to flags that cannot be followed.
    pub fn read<'w>(
        before: usize,
        flags: impl ExactSizeIterator<Item = &'w [u8]>,
    ) -> Result<Meta, &'static str> {
        if before + flags.len() >= WORDS_END {
            return Err(TOO_MANY);
        }
        let (mut meta, mut seen, mut opaque_bytes) = (Meta::default(), 0u128, 0);
        // As in memcached the rest is looked at all the same: it may be what is told.
        let mut flaw = None;
        for flag in flags {
            let Some((letter, token)) = flag.split_first() else { continue };
            if *letter >= 127 || seen >> letter & 1 != 0 {
                return Err(DUPLICATE);
            }
            seen |= 1 << letter;
            match meta.take(*letter, token) {
                Ok(()) => {}
                Err(INVALID) => return Err(INVALID),
                Err(text) => flaw = Some(text),
            }
            if *letter == b'O' {
                opaque_bytes = flag.len();
            }
        }
        match flaw {
            Some(text) => Err(text),
            None if opaque_bytes > OPAQUE_BYTES_MAX => Err(OPAQUE_TOO_LONG),
            None => Ok(meta),
        }
    }

    fn take(&mut self, letter: u8, token: &[u8]) -> Result<(), &'static str> {
        let seconds = || parse_i64(token).ok_or(BAD_TOKEN);
        let number = || parse_u64(token).ok_or(BAD_TOKEN);
        match letter {
            b'v' => self.value = true,
            b'b' => self.is_encoded = true,
            b'q' => self.is_quiet = true,
            b'u' => self.no_touch = true,
            b'I' => self.invalidates = true,
            b'T' => self.ttl = Some(seconds()?),
            b'N' => self.vivify = Some(seconds()?),
            b'R' => self.recache = Some(seconds()?),
            b'F' => self.client_flags = client_flags(token).ok_or(BAD_LINE)?,
            b'C' => self.compare = Some(number()?),
            b'E' => self.unique = Some(number()?),
            b'D' => self.delta = parse_u64(token).ok_or(BAD_DELTA)?,
            b'J' => self.initial = parse_u64(token).ok_or(BAD_INITIAL)?,
            b'M' => match token {
                [mode] => self.mode = Mode(*mode),
                _ => return Err(BAD_MODE),
            },
            b'O' | b'k' | b's' | b't' | b'c' | b'f' | b'h' | b'l' => {}
            _ => return Err(INVALID),
        }
        Ok(())
    }
}

/// Flags that a client gives an item: the low 32 bits of a number.
pub(super) fn client_flags(text: &[u8]) -> Option<u32> {
    parse_u64(text).map(|flags| flags as u32)
}
