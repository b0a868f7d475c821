//! String objects: raw, as a small integer, or compressed.

use super::dump::BUFFER_KEPT_MAX;
use super::luck::Luck;
use super::{BadData, Length, Reader, push_length};
use larder_values::lzf;
use larder_values::packed::{
    Element, PackedBuf, from_listpack, from_listpack_shown, from_listpack_vec, from_listpack_vec_shown,
};
use std::borrow::Cow;

const ENCODED: u8 = 3 << 6;
const INT8: u8 = 0;
const INT16: u8 = 1;
const INT32: u8 = 2;
const LZF: u8 = 3;

/// Texts longer than this are not tried as integers: the longest 32-bit one has 11 bytes.
const INTEGER_TEXT_MAX: usize = 11;

/// Texts up to this length are not tried to be compressed.
const COMPRESS_ABOVE: usize = 20;

/// Compressed data must be at least this many bytes shorter than the text.
const COMPRESS_GAIN_MIN: usize = 4;

/// Writes string objects; kept for its compressor's table.
pub struct StringWriter {
    compressor: lzf::Compressor,
    compressed: Vec<u8>,
    compress: bool,
    /// How texts fared, where not all of them are tried.
    luck: Option<Luck>,
    /// Texts are left as they are for whoever calls [`StringWriter::push_compressing`].
    leaves: bool,
    /// Where those begin that were left.
    left: Vec<u32>,
}

impl StringWriter {
    /// A writer that compresses, or does not, as `rdbcompression` says.
    pub fn new(compress: bool) -> StringWriter {
        let (compressed, left) = (Vec::new(), Vec::new());
        StringWriter {
            compressor: lzf::Compressor::new(),
            compressed,
            compress,
            luck: None,
            leaves: false,
            left,
        }
    }

    /// From now on not every text is tried where many like it were tried in vain. A payload for others is to be as Redis would make it;
    /// a file of many is to be written soon.
    pub fn spare_effort(&mut self) {
        self.luck = Some(Luck::default());
    }

    /// Whether texts that might be compressed are left as they are, from now on, for whoever calls [`StringWriter::push_compressing`]
    /// elsewhere.
    pub fn leave(&mut self, leaves: bool) {
        self.leaves = leaves;
    }

    /// Where the texts begin that were left since this was asked last, counted from the beginning of what they were appended to.
    pub fn take_left(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.left)
    }

    /// Appends what another writer wrote, with the texts compressed that it left at `left`. Behind each of them `between` is called with
    /// how many bytes it had.
    pub fn push_compressing(
        &mut self,
        bytes: &[u8],
        left: &[u32],
        out: &mut Vec<u8>,
        between: &mut dyn FnMut(usize),
    ) {
        let mut done = 0;
        for at in left {
            let rest = bytes.get(*at as usize..).unwrap_or_default();
            let mut reader = Reader::new(rest);
            let Ok(text) = reader.plain_length().and_then(|len| reader.take(len)) else { continue };
            out.extend_from_slice(&bytes[done..*at as usize]);
            done = bytes.len() - reader.rest().len();
            if !self.push_compressed(out, text) {
                out.extend_from_slice(&bytes[*at as usize..done]);
            }
            between(text.len());
        }
        out.extend_from_slice(&bytes[done..]);
    }

    /// Appends a string in the form that Redis gives it.
    pub fn push(&mut self, out: &mut Vec<u8>, text: &[u8]) {
        if text.len() <= INTEGER_TEXT_MAX
            && let Some(value) = larder_values::number::parse_i64(text)
            && push_small_integer(out, value)
        {
            return;
        }
        if self.compress && text.len() > COMPRESS_ABOVE {
            if self.leaves {
                // One that begins behind 4 GiB stays as it is.
                self.left.extend(u32::try_from(out.len()));
            } else if self.push_compressed(out, text) {
                return;
            }
        }
        push_raw(out, text);
    }

    /// Appends the decimal text of an integer in the form that Redis gives it.
    pub fn push_integer(&mut self, out: &mut Vec<u8>, value: i64) {
        if !push_small_integer(out, value) {
            let mut text = Vec::with_capacity(20);
            larder_values::number::write_i64(&mut text, value);
            push_raw(out, &text);
        }
    }

    fn push_compressed(&mut self, out: &mut Vec<u8>, text: &[u8]) -> bool {
        if self.luck.as_mut().is_some_and(|luck| !luck.is_worth_it(text.len())) {
            return false;
        }
        self.compressed.clear();
        let pays = self.compressor.compress(text, text.len() - COMPRESS_GAIN_MIN, &mut self.compressed);
        if let Some(luck) = &mut self.luck {
            luck.tell(text.len(), pays);
        }
        if pays {
            out.push(ENCODED | LZF);
            push_length(out, self.compressed.len() as u64);
            push_length(out, text.len() as u64);
            out.extend_from_slice(&self.compressed);
        }
        self.compressed.shrink_to(BUFFER_KEPT_MAX);
        pays
    }
}

fn push_raw(out: &mut Vec<u8>, text: &[u8]) {
    push_length(out, text.len() as u64);
    out.extend_from_slice(text);
}

/// Appends an integer of at most 32 bits; false, with nothing appended, if it is wider.
fn push_small_integer(out: &mut Vec<u8>, value: i64) -> bool {
    if let Ok(value) = i8::try_from(value) {
        out.push(ENCODED | INT8);
        out.extend_from_slice(&value.to_le_bytes());
    } else if let Ok(value) = i16::try_from(value) {
        out.push(ENCODED | INT16);
        out.extend_from_slice(&value.to_le_bytes());
    } else if let Ok(value) = i32::try_from(value) {
        out.push(ENCODED | INT32);
        out.extend_from_slice(&value.to_le_bytes());
    } else {
        return false;
    }
    true
}

/// Why a string object was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StringError {
    Bad,
    TooLong,
}

impl From<BadData> for StringError {
    fn from(BadData: BadData) -> StringError {
        StringError::Bad
    }
}

impl From<lzf::Broken> for StringError {
    fn from(lzf::Broken: lzf::Broken) -> StringError {
        StringError::Bad
    }
}

impl<'a> Reader<'a> {
    /// A string object of at most `max` bytes.
    pub(super) fn string(&mut self, max: usize) -> Result<Vec<u8>, StringError> {
        self.text(max).map(Cow::into_owned)
    }

    /// A string object of at most `max` bytes, where it stands if it stands there as it is.
    pub(super) fn text(&mut self, max: usize) -> Result<Cow<'a, [u8]>, StringError> {
        if let Some(integer) = self.small_integer()? {
            let mut text = Vec::new();
            larder_values::number::write_i64(&mut text, integer);
            return Ok(Cow::Owned(text));
        }
        match self.length()? {
            Length::Plain(len) => {
                let text = self.take(len)?;
                if text.len() > max { Err(StringError::TooLong) } else { Ok(Cow::Borrowed(text)) }
            }
            Length::Encoded(LZF) => self.compressed(max).map(Cow::Owned),
            Length::Encoded(_) => Err(StringError::Bad),
        }
    }

    /// The elements of a listpack that is a string object of at most `max` bytes.
    pub(super) fn listpack(&mut self, max: usize) -> Result<PackedBuf, StringError> {
        let packed = match self.text(max)? {
            Cow::Borrowed(listpack) => from_listpack(listpack),
            Cow::Owned(listpack) => from_listpack_vec(listpack),
        };
        packed.map_err(|_| StringError::Bad)
    }

    /// The same; `visit` is shown each element with its index while it is looked at.
    #[inline]
    pub(super) fn listpack_shown(
        &mut self,
        max: usize,
        visit: impl FnMut(usize, Element<'_>),
    ) -> Result<PackedBuf, StringError> {
        let packed = match self.text(max)? {
            Cow::Borrowed(listpack) => from_listpack_shown(listpack, visit),
            Cow::Owned(listpack) => from_listpack_vec_shown(listpack, visit),
        };
        packed.map_err(|_| StringError::Bad)
    }

    /// The integer, where a string object is one; else nothing was read.
    pub(super) fn small_integer(&mut self) -> Result<Option<i64>, BadData> {
        let integer = match self.rest().first() {
            Some(&mark) if mark >= ENCODED => mark & !ENCODED,
            _ => return Ok(None),
        };
        let mut ahead = self.clone();
        ahead.byte()?;
        let integer = match integer {
            INT8 => i64::from(i8::from_le_bytes(ahead.array()?)),
            INT16 => i64::from(i16::from_le_bytes(ahead.array()?)),
            INT32 => i64::from(i32::from_le_bytes(ahead.array()?)),
            _ => return Ok(None),
        };
        *self = ahead;
        Ok(Some(integer))
    }

    fn compressed(&mut self, max: usize) -> Result<Vec<u8>, StringError> {
        let packed_len = self.plain_length()?;
        let len = self.plain_length()?;
        let packed = self.take(packed_len)?;
        let mut text = Vec::new();
        // Redis reads any data of length 0 as the empty string.
        if len == 0 {
            return Ok(text);
        }
        let len = usize::try_from(len).map_err(|_| StringError::Bad)?;
        if len > lzf::len_max(packed.len()) {
            return Err(StringError::Bad);
        }
        if len > max {
            return Err(StringError::TooLong);
        }
        lzf::decompress(packed, len, &mut text)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(text: &[u8], compress: bool) -> Vec<u8> {
        let mut out = Vec::new();
        StringWriter::new(compress).push(&mut out, text);
        out
    }

    #[test]
    fn each_form() {
        for (text, bytes) in [
            (&b""[..], &b"\0"[..]),
            (b"0", b"\xc0\0"),
            (b"-128", b"\xc0\x80"),
            (b"128", b"\xc1\x80\0"),
            (b"32768", b"\xc2\0\x80\0\0"),
            (b"-2147483648", b"\xc2\0\0\0\x80"),
            (b"2147483648", b"\x0a2147483648"),
            (b"01", b"\x0201"),
            (b"aaaaaaaaaaaaaaaaaaaa", b"\x14aaaaaaaaaaaaaaaaaaaa"),
            (b"aaaaaaaaaaaaaaaaaaaaa", b"\xc3\x06\x15\x01aa\xe0\x0a\0"),
        ] {
            assert_eq!(written(text, true), bytes, "{}", text.escape_ascii());
            assert_eq!(Reader::new(bytes).string(100), Ok(text.to_vec()));
        }
        assert_eq!(written(&[b'a'; 21], false), b"\x15aaaaaaaaaaaaaaaaaaaaa");
    }

    #[test]
    fn broken_and_long_ones() {
        for bytes in [
            &b""[..],
            b"\x05a",
            b"\xc4a",
            b"\xc2\xff\xff",
            b"\xc3\x06\x16\x01aa\xe0\n\0",
            b"\xc3\xc0\x06\x15",
        ] {
            assert_eq!(Reader::new(bytes).string(100), Err(StringError::Bad), "{bytes:?}");
        }
        assert_eq!(Reader::new(b"\x02aa").string(1), Err(StringError::TooLong));
        assert_eq!(Reader::new(b"\xc3\x06\x15\x01aa\xe0\n\0").string(20), Err(StringError::TooLong));
        assert_eq!(Reader::new(b"\xc3\x02\0\0a").string(20), Ok(Vec::new()));
    }

    #[test]
    fn what_is_left_is_compressed_later() {
        let texts = [
            &b"short"[..],
            &[b'a'; 30],
            b"-128",
            &[b'b'; 20_000],
            b"",
            b"no two of these letters: fghijklmpqv",
        ];
        let (mut at_once, mut raw, mut later) = (Vec::new(), b"before".to_vec(), Vec::new());
        let mut writer = StringWriter::new(true);
        texts.iter().for_each(|text| writer.push(&mut at_once, text));
        writer.leave(true);
        texts.iter().for_each(|text| writer.push(&mut raw, text));
        raw.extend_from_slice(b"behind");
        let left = writer.take_left();
        assert!(left.len() == 3 && raw.len() > 20_000 && writer.take_left().is_empty());
        let mut texts_compressed = 0;
        writer.push_compressing(&raw, &left, &mut later, &mut |_| texts_compressed += 1);
        assert_eq!(texts_compressed, left.len());
        assert_eq!(later, [&b"before"[..], &at_once, b"behind"].concat());
        writer.leave(false);
        let mut again = Vec::new();
        texts.iter().for_each(|text| writer.push(&mut again, text));
        assert_eq!(again, at_once);
    }

    proptest! {
        #[test]
        fn integers_are_as_their_text(value: i64, shift in 0_u32..64) {
            let (value, mut out) = (value >> shift, Vec::new());
            StringWriter::new(true).push_integer(&mut out, value);
            prop_assert_eq!(written(value.to_string().as_bytes(), true), out);
        }

        #[test]
        fn written_then_read(
            text in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..100),
                (proptest::collection::vec(any::<u8>(), 0..20), 0_usize..2000).prop_map(|(part, n)| part.repeat(n)),
            ],
            compress: bool,
        ) {
            let out = written(&text, compress);
            prop_assert!(out.len() <= text.len() + 5);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.string(text.len()), Ok(text));
            prop_assert!(reader.rest().is_empty());
        }
    }
}
