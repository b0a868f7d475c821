//! Patterns of keys: `user:<id:int>`, `page/<slug>`, `file:<path:rest>`.
//!
//! A name in angle brackets stands for one or more bytes that are no colon, up to what follows it in the pattern; after a
//! colon stands its type. `rest` stands for everything to the end, colons too. `<<` is an angle bracket. What a name stands for must be of
//! its type, or the key is none of this pattern's.

use crate::template::{Misfit, Parameter, ParameterType, name_length};
use std::fmt;

/// A key longer than this belongs to no route.
pub const KEY_BYTES_MAX: usize = 4096;
/// Names in one pattern, at most.
const NAMES_MAX: usize = 16;

/// A pattern of keys.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pattern {
    text: String,
    pieces: Vec<KeyPiece>,
    names: Vec<KeyName>,
}

/// A name of a pattern.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyName {
    /// The name.
    pub name: String,
    /// The type that was declared, if one was.
    pub declared: Option<ParameterType>,
    /// Whether it takes everything to the end of the key.
    pub takes_rest: bool,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum KeyPiece {
    Literal(Vec<u8>),
    Name(usize),
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn parse(text: &str) -> Result<Pattern, Misfit> {
        let mut pattern = Pattern { text: text.to_owned(), pieces: Vec::new(), names: Vec::new() };
        let mut literal = Vec::new();
        let mut at = 0;
        while at < text.len() {
            let rest = &text[at..];
            let misfit = |what| Misfit { what, position: at };
            if rest.starts_with("<<") {
                literal.push(b'<');
                at += 2;
            } else if rest.starts_with('<') {
                if literal.is_empty() && !pattern.pieces.is_empty() {
                    return Err(misfit("two names must have something between them"));
                }
                if !literal.is_empty() {
                    pattern.pieces.push(KeyPiece::Literal(std::mem::take(&mut literal)));
                }
                let end = rest.find('>').ok_or(misfit("this name does not end: > is missing"))?;
                let name = KeyName::parse(&rest[1..end]).map_err(misfit)?;
                if pattern.names.iter().any(|known| known.name == name.name) {
                    return Err(misfit("this name stands here twice"));
                }
                if name.takes_rest && at + end + 1 != text.len() {
                    return Err(misfit("a name of type rest must stand at the end"));
                }
                if pattern.names.len() == NAMES_MAX {
                    return Err(misfit("a pattern has 16 names at most"));
                }
                pattern.pieces.push(KeyPiece::Name(pattern.names.len()));
                pattern.names.push(name);
                at += end + 1;
            } else {
                let length = rest.chars().next().map_or(1, char::len_utf8);
                literal.extend_from_slice(&rest.as_bytes()[..length]);
                at += length;
            }
        }
        if !literal.is_empty() {
            pattern.pieces.push(KeyPiece::Literal(literal));
        }
        if pattern.pieces.is_empty() {
            return Err(Misfit { what: "a pattern must not be empty", position: 0 });
        }
        Ok(pattern)
    }

    /// The text as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its names, in order.
    pub fn names(&self) -> &[KeyName] {
        &self.names
    }

    /// What every key of the pattern begins with.
    pub fn prefix(&self) -> &[u8] {
        match self.pieces.first() {
            Some(KeyPiece::Literal(bytes)) => bytes,
            _ => &[],
        }
    }

    /// What each name stands for in a key, or nothing if the key is none of the pattern's. O(length of the key).
    pub fn capture<'k>(&self, key: &'k [u8]) -> Option<Vec<&'k [u8]>> {
        let mut captured = Vec::with_capacity(self.names.len());
        self.each(key, &mut |word| captured.push(word)).then_some(captured)
    }

    /// Appends what the names stand for in a key, joined as one. False if the key is none of the pattern's.
    pub fn push_joined(&self, key: &[u8], out: &mut Vec<u8>) -> bool {
        if self.names.len() == 1 {
            return self.each(key, &mut |word| out.extend_from_slice(word));
        }
        self.each(key, &mut |word| {
            out.extend_from_slice(&(word.len() as u64).to_le_bytes());
            out.extend_from_slice(word);
        })
    }

    /// Whether a key is one of the pattern's. O(length of the key); allocates nothing.
    pub fn has(&self, key: &[u8]) -> bool {
        self.each(key, &mut |_| ())
    }

    /// Shows what each name stands for in a key. False if the key is none of the pattern's.
    pub(crate) fn each<'k>(&self, key: &'k [u8], show: &mut dyn FnMut(&'k [u8])) -> bool {
        self.try_each(key, show).is_some_and(<[u8]>::is_empty)
    }

    /// As [`Pattern::each`], and answers what is left of the key behind the pattern.
    fn try_each<'k>(&self, key: &'k [u8], show: &mut dyn FnMut(&'k [u8])) -> Option<&'k [u8]> {
        if key.len() > KEY_BYTES_MAX {
            return None;
        }
        let mut rest = key;
        for (at, piece) in self.pieces.iter().enumerate() {
            match piece {
                KeyPiece::Literal(bytes) => rest = rest.strip_prefix(bytes.as_slice())?,
                KeyPiece::Name(name) => {
                    let length = self.length_of(*name, self.pieces.get(at + 1), rest)?;
                    if self.names[*name].declared.is_some_and(|kind| !is_of(&rest[..length], kind)) {
                        return None;
                    }
                    show(&rest[..length]);
                    rest = &rest[length..];
                }
            }
        }
        Some(rest)
    }

    /// How many bytes a name takes at the start of `rest`, given what follows it.
    fn length_of(&self, name: usize, next: Option<&KeyPiece>, rest: &[u8]) -> Option<usize> {
        let length = match next {
            Some(KeyPiece::Literal(bytes)) => {
                // At least one byte is the name's own.
                1 + rest.get(1..)?.windows(bytes.len()).position(|window| window == bytes.as_slice())?
            }
            _ => rest.len(),
        };
        let is_whole = self.names[name].takes_rest || !rest.get(..length)?.contains(&b':');
        (length > 0 && is_whole).then_some(length)
    }

    /// The key in which the names stand for these values, in the order of [`Pattern::names`].
    pub fn key_of(&self, values: &[Vec<u8>]) -> Vec<u8> {
        let mut key = Vec::new();
        for piece in &self.pieces {
            match piece {
                KeyPiece::Literal(bytes) => key.extend_from_slice(bytes),
                KeyPiece::Name(name) => key.extend(values.get(*name).into_iter().flatten()),
            }
        }
        key
    }

    /// Whether some key may be of both patterns. May say yes where no key is, when two follow each other closely.
    pub fn overlaps(&self, other: &Pattern) -> bool {
        let (ours, theirs) = (self.tokens(), other.tokens());
        let mut seen = vec![false; (ours.len() + 1) * 2 * (theirs.len() + 1) * 2];
        let place = |state: (usize, bool, usize, bool)| {
            ((state.0 * 2 + usize::from(state.1)) * (theirs.len() + 1) + state.2) * 2 + usize::from(state.3)
        };
        let mut queue = vec![(0, false, 0, false)];
        while let Some(state) = queue.pop() {
            if std::mem::replace(&mut seen[place(state)], true) {
                continue;
            }
            let (at, inside, their_at, their_inside) = state;
            if ended(&ours, at, inside) && ended(&theirs, their_at, their_inside) {
                return true;
            }
            for (class, next, next_inside) in steps(&ours, at, inside) {
                for (their_class, their_next, their_next_inside) in steps(&theirs, their_at, their_inside) {
                    if class.meets(their_class) {
                        queue.push((next, next_inside, their_next, their_next_inside));
                    }
                }
            }
        }
        false
    }

    fn tokens(&self) -> Vec<Token> {
        let token = |piece: &KeyPiece| match piece {
            KeyPiece::Literal(bytes) => bytes.iter().map(|byte| Token::One(Class::Byte(*byte))).collect(),
            KeyPiece::Name(name) => vec![Token::Many(self.names[*name].class())],
        };
        self.pieces.iter().flat_map(token).collect()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&self.text)
    }
}

impl KeyName {
    fn parse(text: &str) -> Result<KeyName, &'static str> {
        let (name, word) = text.split_once(':').map_or((text, None), |(name, word)| (name, Some(word)));
        if name.is_empty() || name_length(name) != name.len() {
            return Err("a name has letters, digits and underscores, and begins with no digit");
        }
        let declared = match word {
            None | Some("rest") => None,
            Some("text") => Some(ParameterType::Text),
            Some("bytes") => Some(ParameterType::Bytes),
            Some("int") => Some(ParameterType::Integer),
            Some("number") => Some(ParameterType::Number),
            Some("uuid") => Some(ParameterType::Uuid),
            Some(_) => return Err("no such type: there are text, int, number, uuid, bytes, rest"),
        };
        Ok(KeyName { name: name.to_owned(), declared, takes_rest: word == Some("rest") })
    }

    fn class(&self) -> Class {
        match self.declared {
            _ if self.takes_rest => Class::Any,
            Some(ParameterType::Integer) => Class::Integer,
            Some(ParameterType::Number) => Class::Number,
            Some(ParameterType::Uuid) => Class::Uuid,
            _ => Class::NoColon,
        }
    }
}

/// A step of a pattern, for [`Pattern::overlaps`].
#[derive(Clone, Copy)]
enum Token {
    One(Class),
    /// Once or more often.
    Many(Class),
}

/// Bytes that may stand somewhere.
#[derive(Clone, Copy)]
enum Class {
    Byte(u8),
    Any,
    NoColon,
    Integer,
    Number,
    Uuid,
}

impl Class {
    fn has(self, byte: u8) -> bool {
        match self {
            Class::Byte(own) => own == byte,
            Class::Any => true,
            Class::NoColon => byte != b':',
            Class::Integer => byte == b'-' || byte.is_ascii_digit(),
            Class::Number => byte.is_ascii_digit() || b"+-.eE".contains(&byte),
            Class::Uuid => byte == b'-' || byte.is_ascii_hexdigit(),
        }
    }

    fn meets(self, other: Class) -> bool {
        (0..=u8::MAX).any(|byte| self.has(byte) && other.has(byte))
    }
}

/// Whether nothing more is needed at a place; `inside`: the token there has had its first byte.
fn ended(tokens: &[Token], at: usize, inside: bool) -> bool {
    at == tokens.len() || (inside && at + 1 == tokens.len())
}

/// What may come next at a place, and the place after it.
fn steps(tokens: &[Token], at: usize, inside: bool) -> Vec<(Class, usize, bool)> {
    let mut steps = Vec::new();
    match tokens.get(at) {
        Some(Token::One(class)) => steps.push((*class, at + 1, false)),
        Some(Token::Many(class)) => {
            steps.push((*class, at, true));
            if inside {
                steps.extend(self::steps(tokens, at + 1, false));
            }
        }
        None => {}
    }
    steps
}

/// Whether a word of a key is of a type. Allocates nothing.
pub(crate) fn is_of(word: &[u8], kind: ParameterType) -> bool {
    let text = || std::str::from_utf8(word).ok();
    match kind {
        ParameterType::Bytes => true,
        ParameterType::Integer => integer_of(word).is_some(),
        // No store keeps a NUL in text.
        ParameterType::Text => text().is_some_and(|text| !text.contains('\0')),
        ParameterType::Number => {
            let is_plain = word.iter().all(|byte| Class::Number.has(*byte));
            is_plain && text().is_some_and(|text| text.parse::<f64>().is_ok_and(f64::is_finite))
        }
        ParameterType::Uuid => {
            word.len() == 36
                && word.iter().enumerate().all(|(at, byte)| match at {
                    8 | 13 | 18 | 23 => *byte == b'-',
                    _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(byte),
                })
        }
    }
}

/// The integer that a word is. One number has one key: no zeros in front, no plus.
fn integer_of(word: &[u8]) -> Option<i64> {
    let (is_negative, digits) = match word {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] if !is_negative => return Some(0),
        [b'1'..=b'9', ..] => {}
        _ => return None,
    }
    // Counted down, since there is one more below zero than above.
    let mut number = 0_i64;
    for digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number.checked_mul(10)?.checked_sub(i64::from(digit))?;
    }
    if is_negative { Some(number) } else { number.checked_neg() }
}

/// What a word of a key is as a value of a type, or nothing if it is none.
pub fn parameter_of(word: &[u8], kind: ParameterType) -> Option<Parameter> {
    let text = || std::str::from_utf8(word).ok();
    match kind {
        ParameterType::Integer => integer_of(word).map(Parameter::Integer),
        _ if !is_of(word, kind) => None,
        ParameterType::Bytes => Some(Parameter::Bytes(word.into())),
        ParameterType::Text => Some(Parameter::Text(text()?.into())),
        ParameterType::Number => text()?.parse().ok().map(Parameter::Number),
        ParameterType::Uuid => Some(Parameter::Uuid(text()?.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn captured(pattern: &str, key: &str) -> Option<Vec<String>> {
        let pattern = Pattern::parse(pattern).expect(pattern);
        let words = pattern.capture(key.as_bytes())?;
        Some(words.into_iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect())
    }

    #[test]
    fn names_take_what_stands_between() {
        let some = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(captured("user:<id>", "user:42"), some(&["42"]));
        assert_eq!(captured("user:<id>", "user:"), None);
        assert_eq!(captured("user:<id>", "user:42:name"), None);
        assert_eq!(captured("user:<id>", "users:42"), None);
        assert_eq!(captured("t:<tenant>:u:<id>", "t:acme:u:7"), some(&["acme", "7"]));
        assert_eq!(captured("t:<tenant>:u:<id>", "t::u:7"), None);
        assert_eq!(captured("file:<path:rest>", "file:a:b/c"), some(&["a:b/c"]));
        assert_eq!(captured("<a>.<b>", "x.y.z"), some(&["x", "y.z"]));
        assert_eq!(captured("a<<b:<id>", "a<b:1"), some(&["1"]));
        assert_eq!(captured("all", "all"), some(&[]));
    }

    #[test]
    fn wrong_patterns_say_where() {
        let wrong = [
            ("", 0),
            ("a<b", 1),
            ("<a><b>", 3),
            ("x:<a>:<a>", 6),
            ("<a:rest>:b", 0),
            ("<1a>", 0),
            ("k:<a:float>", 2),
        ];
        for (text, position) in wrong {
            assert_eq!(Pattern::parse(text).expect_err(text).position, position, "{text}");
        }
    }

    #[test]
    fn a_number_has_one_key() {
        let int = |word: &str| parameter_of(word.as_bytes(), ParameterType::Integer);
        assert_eq!(int("42"), Some(Parameter::Integer(42)));
        assert_eq!(int("-7"), Some(Parameter::Integer(-7)));
        for number in [0, i64::MAX, i64::MIN] {
            assert_eq!(int(&number.to_string()), Some(Parameter::Integer(number)));
        }
        for word in ["042", "+1", "", "1 ", "1;DROP", "9223372036854775808", "-0"] {
            assert_eq!(int(word), None, "{word}");
        }
        let uuid = "6f1d5b0e-3c1a-4b58-9d0e-1a2b3c4d5e6f";
        assert!(parameter_of(uuid.as_bytes(), ParameterType::Uuid).is_some());
        assert!(parameter_of(uuid.to_uppercase().as_bytes(), ParameterType::Uuid).is_none());
        assert!(parameter_of(b"a\0b", ParameterType::Text).is_none());
        assert!(parameter_of(b"\xff", ParameterType::Text).is_none());
        assert!(parameter_of(b"\xff", ParameterType::Bytes).is_some());
    }

    #[test]
    fn overlap_is_seen() {
        let overlaps = |a: &str, b: &str| {
            let (a, b) = (Pattern::parse(a).expect(a), Pattern::parse(b).expect(b));
            assert_eq!(a.overlaps(&b), b.overlaps(&a));
            a.overlaps(&b)
        };
        assert!(overlaps("user:<id>", "user:<name>"));
        assert!(overlaps("user:<id:int>", "user:42"));
        assert!(overlaps("<a>:<b>", "user:<id>"));
        assert!(overlaps("user:<all:rest>", "user:<id>:name"));
        assert!(!overlaps("user:<id:int>", "user:me"));
        assert!(!overlaps("user:<id>", "user:<id>:name"));
        assert!(!overlaps("user:<id>", "item:<id>"));
    }

    proptest! {
        #[test]
        fn a_key_that_is_made_is_captured(words in proptest::collection::vec("[a-z0-9]{1,6}", 2)) {
            let pattern = Pattern::parse("t:<a>:x-<b>").expect("a pattern");
            let values: Vec<Vec<u8>> = words.iter().map(|word| word.clone().into_bytes()).collect();
            let key = pattern.key_of(&values);
            let captured: Vec<Vec<u8>> =
                pattern.capture(&key).expect("its own key").into_iter().map(<[u8]>::to_vec).collect();
            prop_assert_eq!(captured, values);
        }

        #[test]
        fn integers_are_those_that_are_written_in_one_way(word in "-?[0-9+]{0,20}") {
            let plain = word.parse::<i64>().ok().filter(|number| number.to_string() == word);
            prop_assert_eq!(integer_of(word.as_bytes()), plain);
        }

        #[test]
        fn a_key_of_both_means_overlap(key in "[ab:]{1,8}") {
            let texts = ["a<x>", "<x>b", "a:<x>", "<x>:<y>", "a<x:rest>", "<x>", "ab<x>:b"];
            let patterns: Vec<Pattern> = texts.iter().map(|text| Pattern::parse(text).expect(text)).collect();
            for one in &patterns {
                for other in &patterns {
                    if one.capture(key.as_bytes()).is_some() && other.capture(key.as_bytes()).is_some() {
                        prop_assert!(one.overlaps(other), "{} {} {}", one, other, key);
                    }
                }
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,24}", key in proptest::collection::vec(any::<u8>(), 0..24)) {
            if let Ok(pattern) = Pattern::parse(&text) {
                let _ = pattern.capture(&key);
            }
        }
    }
}
