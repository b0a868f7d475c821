//! Requests are rendered once and patched: per request there is one copy of the template, and the digits of the
//! key are written over it. Invariant: a patched request has the template's length, so every length prefix stays
//! true. Read next: `workload.rs`.

use anyhow::{Context, Result, bail, ensure};

/// The wire protocol a server is spoken to in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Protocol {
    /// Redis' protocol, version 2 requests.
    Resp,
    /// memcached's text protocol.
    Memcached,
}

/// The fixed-width names of the keys `0..keys`: a prefix, zeros, digits, `bytes` bytes in all.
#[derive(Clone, Debug)]
pub(crate) struct KeyShape {
    name_of_zero: Vec<u8>,
    digits: usize,
}

impl KeyShape {
    /// Names of exactly `bytes` bytes for `keys` keys; `prefix` is cut when there is no room for it.
    pub(crate) fn new(prefix: &str, keys: u64, bytes: usize) -> Result<KeyShape> {
        let digits = keys.saturating_sub(1).max(1).ilog10() as usize + 1;
        ensure!(digits <= bytes, "{keys} keys need {digits} digits, but a key has {bytes} bytes");
        let kept = prefix.len().min(bytes - digits);
        let mut name_of_zero = prefix.as_bytes().get(..kept).unwrap_or_default().to_vec();
        name_of_zero.resize(bytes, b'0');
        Ok(KeyShape { name_of_zero, digits })
    }

    /// Writes the digits of `index` over the end of `name`, which starts as the name of key 0.
    #[inline]
    fn patch(&self, name: &mut [u8], index: u64) {
        write_digits(name, self.digits, index);
    }

    /// The whole name of key `index`.
    pub(crate) fn name(&self, index: u64) -> Vec<u8> {
        let mut name = self.name_of_zero.clone();
        self.patch(&mut name, index);
        name
    }
}

/// Writes `digits` decimal digits of `number` to the end of `text`.
#[inline]
fn write_digits(text: &mut [u8], digits: usize, mut number: u64) {
    for place in text.iter_mut().rev().take(digits) {
        *place = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// What stands at a patched place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patch {
    Key,
    Value,
    Integer,
}

/// One request with holes.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    bytes: Vec<u8>,
    patches: Vec<(usize, Patch)>,
    value_bytes: usize,
    keys: KeyShape,
}

/// `__int__` is a number of this many digits, its first never 0.
const INTEGER_DIGITS: usize = 9;

impl Template {
    /// A RESP command from its words; `__key__`, `__value__` and `__int__` in a word are patched on each request.
    pub(crate) fn command(words: &[Vec<u8>], keys: &KeyShape, value_bytes: usize) -> Result<Template> {
        ensure!(!words.is_empty(), "a command needs at least one word");
        let mut template = Template::empty(keys, value_bytes);
        template.bytes.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
        for word in words {
            let mut argument = Template::empty(keys, value_bytes);
            argument.append_word(word);
            template.bytes.extend_from_slice(format!("${}\r\n", argument.bytes.len()).as_bytes());
            let start = template.bytes.len();
            template.bytes.extend_from_slice(&argument.bytes);
            template.bytes.extend_from_slice(b"\r\n");
            template.patches.extend(argument.patches.iter().map(|&(at, patch)| (start + at, patch)));
        }
        Ok(template)
    }

    /// Any bytes, sent as they are but for the patches: inline commands, memcached's text.
    pub(crate) fn raw(text: &[u8], keys: &KeyShape, value_bytes: usize) -> Template {
        let mut template = Template::empty(keys, value_bytes);
        template.append_word(text);
        template
    }

    /// Reads one key.
    pub(crate) fn get(protocol: Protocol, keys: &KeyShape) -> Result<Template> {
        match protocol {
            Protocol::Resp => Template::command(&[b"GET".to_vec(), b"__key__".to_vec()], keys, 0),
            Protocol::Memcached => Ok(Template::raw(b"get __key__\r\n", keys, 0)),
        }
    }

    /// Writes one key, with a time to live in milliseconds when given (memcached rounds it up to seconds).
    pub(crate) fn set(
        protocol: Protocol,
        keys: &KeyShape,
        value_bytes: usize,
        ttl: Expiry,
    ) -> Result<Template> {
        match protocol {
            Protocol::Resp => {
                let mut words = vec![b"SET".to_vec(), b"__key__".to_vec(), b"__value__".to_vec()];
                match ttl {
                    Expiry::Never => {}
                    Expiry::After { ms } => words.extend([b"PX".to_vec(), ms.to_string().into_bytes()]),
                    Expiry::At { unix_ms } => {
                        words.extend([b"PXAT".to_vec(), unix_ms.to_string().into_bytes()])
                    }
                }
                Template::command(&words, keys, value_bytes)
            }
            Protocol::Memcached => {
                let seconds = match ttl {
                    Expiry::Never => 0,
                    Expiry::After { ms } => ms.div_ceil(1000),
                    Expiry::At { unix_ms } => unix_ms.div_ceil(1000),
                };
                let text = format!("set __key__ 0 {seconds} {value_bytes}\r\n__value__\r\n");
                Ok(Template::raw(text.as_bytes(), keys, value_bytes))
            }
        }
    }

    fn empty(keys: &KeyShape, value_bytes: usize) -> Template {
        Template { bytes: Vec::new(), patches: Vec::new(), value_bytes, keys: keys.clone() }
    }

    fn append_word(&mut self, word: &[u8]) {
        let mut rest = word;
        while let Some((hole, patch, before)) = first_hole(rest) {
            self.bytes.extend_from_slice(rest.get(..before).unwrap_or_default());
            self.patches.push((self.bytes.len(), patch));
            match patch {
                Patch::Key => self.bytes.extend_from_slice(&self.keys.name_of_zero),
                Patch::Value => self.bytes.resize(self.bytes.len() + self.value_bytes, b'v'),
                Patch::Integer => self.bytes.resize(self.bytes.len() + INTEGER_DIGITS, b'1'),
            }
            rest = rest.get(before + hole..).unwrap_or_default();
        }
        self.bytes.extend_from_slice(rest);
    }

    /// Appends one request to `out`; `fill` supplies key indices and values.
    #[inline]
    pub(crate) fn append(&self, out: &mut Vec<u8>, fill: &mut impl Filling) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        for &(at, patch) in &self.patches {
            let Some(hole) = out.get_mut(start + at..) else { continue };
            match patch {
                Patch::Key => {
                    let index = fill.key_index();
                    let name = hole.get_mut(..self.keys.name_of_zero.len()).unwrap_or_default();
                    self.keys.patch(name, index);
                }
                Patch::Value => {
                    if let Some(value) = hole.get_mut(..self.value_bytes) {
                        fill.value(value);
                    }
                }
                Patch::Integer => {
                    let number = fill.integer();
                    let digits = hole.get_mut(1..INTEGER_DIGITS).unwrap_or_default();
                    write_digits(digits, INTEGER_DIGITS - 1, number);
                }
            }
        }
    }
}

/// When a written key expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expiry {
    Never,
    After { ms: u64 },
    At { unix_ms: u64 },
}

/// Where the patched bytes come from.
pub(crate) trait Filling {
    /// The index of the next key.
    fn key_index(&mut self) -> u64;
    /// A number for `__int__`.
    fn integer(&mut self) -> u64;
    /// Fills `value` with the bytes of a value.
    fn value(&mut self, value: &mut [u8]);
}

fn first_hole(text: &[u8]) -> Option<(usize, Patch, usize)> {
    let holes: [(&[u8], Patch); 3] =
        [(b"__key__", Patch::Key), (b"__value__", Patch::Value), (b"__int__", Patch::Integer)];
    holes
        .into_iter()
        .filter_map(|(name, patch)| Some((name.len(), patch, memchr::memmem::find(text, name)?)))
        .min_by_key(|&(_, _, before)| before)
}

/// Splits a command line into words: blanks separate, single or double quotes keep them together.
pub(crate) fn words(line: &str) -> Result<Vec<Vec<u8>>> {
    let mut found: Vec<Vec<u8>> = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut quote: Option<u8> = None;
    for byte in line.bytes() {
        match (quote, byte) {
            (Some(open), _) if byte == open => quote = None,
            (None, b'"' | b'\'') => {
                quote = Some(byte);
                word.get_or_insert_default();
            }
            (None, b' ' | b'\t') => found.extend(word.take()),
            _ => word.get_or_insert_default().push(byte),
        }
    }
    if quote.is_some() {
        bail!("the command has an open quote: {line}");
    }
    found.extend(word);
    found.first().map(|_| ()).context("the command is empty")?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counted(u64);

    impl Filling for Counted {
        fn key_index(&mut self) -> u64 {
            self.0 += 1;
            self.0
        }
        fn integer(&mut self) -> u64 {
            42
        }
        fn value(&mut self, value: &mut [u8]) {
            value.fill(b'z');
        }
    }

    fn rendered(template: &Template) -> String {
        let mut out = Vec::new();
        template.append(&mut out, &mut Counted(11));
        assert_eq!(out.len(), template.bytes.len());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn keys_have_exactly_the_width_asked_for() {
        for (bytes, name) in [(16, "key:000000000123"), (7, "key:123"), (5, "ke123"), (3, "123")] {
            assert_eq!(KeyShape::new("key:", 1000, bytes).unwrap().name(123), name.as_bytes());
        }
        assert_eq!(KeyShape::new("key:", 1_000_000, 30).unwrap().name(999_999).len(), 30);
        assert!(KeyShape::new("key:", 1_000_000, 5).is_err());
        assert_eq!(KeyShape::new("", 1, 1).unwrap().name(0), b"0");
    }

    #[test]
    fn get_and_set_render_in_both_protocols() {
        let keys = KeyShape::new("key:", 100, 8).unwrap();
        let get = Template::get(Protocol::Resp, &keys).unwrap();
        assert_eq!(rendered(&get), "*2\r\n$3\r\nGET\r\n$8\r\nkey:0012\r\n");
        let set = Template::set(Protocol::Resp, &keys, 3, Expiry::After { ms: 1500 }).unwrap();
        assert_eq!(
            rendered(&set),
            "*5\r\n$3\r\nSET\r\n$8\r\nkey:0012\r\n$3\r\nzzz\r\n$2\r\nPX\r\n$4\r\n1500\r\n"
        );
        let set = Template::set(Protocol::Memcached, &keys, 3, Expiry::After { ms: 1500 }).unwrap();
        assert_eq!(rendered(&set), "set key:0012 0 2 3\r\nzzz\r\n");
        let get = Template::get(Protocol::Memcached, &keys).unwrap();
        assert_eq!(rendered(&get), "get key:0012\r\n");
    }

    #[test]
    fn holes_inside_words_and_several_keys_are_patched_each() {
        let keys = KeyShape::new("k", 10, 2).unwrap();
        let line = words("MSET a:__key__:b __value__ __key__ '__int__ x'").unwrap();
        let template = Template::command(&line, &keys, 1).unwrap();
        assert_eq!(
            rendered(&template),
            "*5\r\n$4\r\nMSET\r\n$6\r\na:k2:b\r\n$1\r\nz\r\n$2\r\nk3\r\n$11\r\n100000042 x\r\n"
        );
    }

    #[test]
    fn words_honour_quotes_and_refuse_an_open_one() {
        assert_eq!(words("a  'b c' \"\" d").unwrap(), [&b"a"[..], b"b c", b"", b"d"]);
        assert!(words("a 'b").is_err());
        assert!(words("  ").is_err());
    }
}
