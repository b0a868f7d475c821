//! Where things end in a file, found by lengths alone: nothing is decoded, nothing is copied.
//!
//! Invariant: no length is believed before its bytes are there. What is not there yet says how much is wanted.

use super::super::{BadData, Length, Reader};
use super::super::{hash, list, set, stream, zset};
use super::kind;

/// Why a scan stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Halt {
    /// At least so many bytes are wanted, counted from the scan's start.
    Short(u64),
    /// What is there cannot be.
    Bad(&'static str),
    /// A value of a type that is not known.
    Type(u8),
}

type Step = Result<(), Halt>;

/// Looks forward over bytes of which more may come.
pub(super) struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    likely: u64,
}

impl<'a> Scan<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Scan<'a> {
        Scan { bytes, at: 0, likely: 0 }
    }

    /// How many bytes were passed.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// How many bytes may be wanted where it stopped short, counted from its start, if what is missing is like what is there.
    pub(super) fn likely(&self) -> u64 {
        self.likely
    }

    pub(super) fn take(&mut self, len: u64) -> Result<&'a [u8], Halt> {
        let end = (self.at as u64).checked_add(len).ok_or(Halt::Bad("a length that no file has"))?;
        if end > self.bytes.len() as u64 {
            return Err(Halt::Short(end));
        }
        let taken = self.bytes.get(self.at..end as usize).unwrap_or_default();
        self.at = end as usize;
        Ok(taken)
    }

    pub(super) fn pass(&mut self, len: u64) -> Step {
        self.take(len).map(drop)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Halt> {
        let byte = *self.bytes.get(self.at).ok_or(Halt::Short(self.at as u64 + 1))?;
        self.at += 1;
        Ok(byte)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Halt> {
        self.take(N as u64)?.try_into().map_err(|_| Halt::Bad("a number"))
    }

    fn any_length(&mut self) -> Result<Length, Halt> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let mut reader = Reader::new(rest);
        match reader.length() {
            Ok(length) => {
                self.at += rest.len() - reader.rest().len();
                Ok(length)
            }
            Err(BadData) => {
                let whole = match rest.first() {
                    None => 1,
                    Some(0x40..=0x7f) => 2,
                    Some(0x80) => 5,
                    Some(0x81) => 9,
                    Some(_) => return Err(Halt::Bad("a length")),
                };
                Err(Halt::Short(self.at as u64 + whole))
            }
        }
    }

    pub(super) fn length(&mut self) -> Result<u64, Halt> {
        match self.any_length()? {
            Length::Plain(length) => Ok(length),
            Length::Encoded(_) => Err(Halt::Bad("a length")),
        }
    }

    pub(super) fn lengths(&mut self, count: usize) -> Step {
        (0..count).try_for_each(|_| self.length().map(drop))
    }

    /// Passes a string object.
    pub(super) fn string(&mut self) -> Step {
        match self.any_length()? {
            Length::Plain(len) => self.pass(len),
            Length::Encoded(0) => self.pass(1),
            Length::Encoded(1) => self.pass(2),
            Length::Encoded(2) => self.pass(4),
            Length::Encoded(3) => {
                let packed = self.length()?;
                self.length()?;
                self.pass(packed)
            }
            Length::Encoded(_) => Err(Halt::Bad("a string of unknown encoding")),
        }
    }

    pub(super) fn strings(&mut self, count: usize) -> Step {
        (0..count).try_for_each(|_| self.string())
    }

    /// As many as a length says of what `each` passes, which must be some bytes.
    fn many(&mut self, mut each: impl FnMut(&mut Scan<'a>) -> Step) -> Step {
        let count = self.length()?;
        let start = self.at;
        for done in 0..count {
            if let Err(halt) = each(self) {
                let passed = (self.at - start) as u64;
                self.likely = (passed / done.max(1)).saturating_mul(count).saturating_add(self.at as u64);
                return Err(halt);
            }
        }
        Ok(())
    }

    /// Passes the object of a type.
    pub(super) fn object(&mut self, of: u8) -> Step {
        match of {
            kind::STRING
            | kind::JSON
            | hash::TYPE_HASH_ZIPMAP
            | list::TYPE_LIST_ZIPLIST
            | set::TYPE_SET_INTSET
            | zset::TYPE_ZSET_ZIPLIST
            | hash::TYPE_HASH_ZIPLIST
            | hash::TYPE_HASH_LISTPACK
            | zset::TYPE_ZSET_LISTPACK
            | set::TYPE_SET_LISTPACK
            | hash::TYPE_HASH_LISTPACK_EX_OLD => self.string(),
            list::TYPE_LIST | set::TYPE_SET | list::TYPE_LIST_QUICKLIST => self.many(Scan::string),
            hash::TYPE_HASH | kind::SET_WITH_ENDS => self.many(|scan| scan.strings(2)),
            kind::HASH_WITH_ENDS => self.many(|scan| scan.strings(3)),
            zset::TYPE_ZSET => self.many(|scan| {
                scan.string()?;
                let len = scan.byte()?;
                scan.pass(if len >= zset::TEXT_NAN { 0 } else { u64::from(len) })
            }),
            zset::TYPE_ZSET_2 => self.many(|scan| scan.string().and_then(|()| scan.pass(8))),
            kind::HASH_VALKEY => self.many(|scan| scan.strings(2).and_then(|()| scan.pass(8))),
            of if has_nodes(of) => {
                self.many(|scan| scan.node(of))?;
                self.behind_nodes(of)
            }
            hash::TYPE_HASH_METADATA_OLD => self.many(Scan::field_with_end),
            hash::TYPE_HASH_METADATA => {
                self.pass(8)?;
                self.many(Scan::field_with_end)
            }
            hash::TYPE_HASH_LISTPACK_EX => self.pass(8).and_then(|()| self.string()),
            kind::MODULE => self.length().and_then(|_| self.module()),
            _ => Err(Halt::Type(of)),
        }
    }

    fn field_with_end(&mut self) -> Step {
        self.lengths(1)?;
        self.strings(2)
    }

    /// Passes a node of a value that has nodes: a listpack of elements or of entries, with what stands in front of it.
    pub(super) fn node(&mut self, of: u8) -> Step {
        match of {
            list::TYPE_LIST_QUICKLIST_2 => self.lengths(1).and_then(|()| self.string()),
            _ => self.strings(2),
        }
    }

    /// Passes what stands behind the nodes of such a value.
    pub(super) fn behind_nodes(&mut self, of: u8) -> Step {
        if of == list::TYPE_LIST_QUICKLIST_2 {
            return Ok(());
        }
        let has_more = of >= stream::TYPE_STREAM_2;
        self.lengths(if has_more { 8 } else { 3 })?;
        self.many(|scan| {
            scan.string()?;
            scan.lengths(if has_more { 3 } else { 2 })?;
            scan.many(|scan| scan.pass(24).and_then(|()| scan.lengths(1)))?;
            scan.many(|scan| {
                scan.string()?;
                scan.pass(if of >= stream::TYPE_STREAM_3 { 16 } else { 8 })?;
                scan.many(|scan| scan.pass(16))
            })
        })
    }

    /// Passes what a module wrote, up to the mark behind it.
    pub(super) fn module(&mut self) -> Step {
        loop {
            match self.length()? {
                0 => return Ok(()),
                1 | 2 => self.lengths(1)?,
                3 => self.pass(4)?,
                4 => self.pass(8)?,
                5 => self.string()?,
                _ => return Err(Halt::Bad("a module's value")),
            }
        }
    }
}

/// Whether values of a type are a number of nodes, each of which can be read alone, and what stands behind them.
pub(super) fn has_nodes(of: u8) -> bool {
    matches!(
        of,
        list::TYPE_LIST_QUICKLIST_2 | stream::TYPE_STREAM | stream::TYPE_STREAM_2 | stream::TYPE_STREAM_3
    )
}

/// The name of a module's type, out of its number: nine letters of six bits each.
pub(super) fn module_name(id: u64) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let letter = |index: u32| char::from(LETTERS[(id >> (10 + 6 * index)) as usize & 63]);
    (0..9).rev().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_modules_name_is_in_its_number() {
        // As RedisBloom's filters are numbered, version 4.
        let letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let id = "MBbloom--".chars().fold(0_u64, |id, c| id << 6 | letters.find(c).unwrap() as u64) << 10 | 4;
        assert_eq!(module_name(id), "MBbloom--");
    }

    #[test]
    fn what_is_missing_is_told() {
        for (bytes, of, wanted) in [
            (&b""[..], 0, 1),
            (b"\x05ab", 0, 6),
            (b"\x40", 0, 2),
            (b"\x80\0", 0, 5),
            (b"\xc3\x05", 0, 3),
            (b"\x02\x01a", 1, 4),
            (b"\x01\x01a\x03", 3, 7),
            (b"\x01\x01a", 5, 11),
        ] {
            assert_eq!(Scan::new(bytes).object(of), Err(Halt::Short(wanted)), "{}", bytes.escape_ascii());
        }
        assert_eq!(Scan::new(b"\x82").object(0), Err(Halt::Bad("a length")));
        assert_eq!(
            Scan::new(b"\x81\xff\xff\xff\xff\xff\xff\xff\xff").object(0).unwrap_err(),
            Halt::Bad("a length that no file has")
        );
        assert_eq!(Scan::new(b"").object(8), Err(Halt::Type(8)));
    }
}
