//! A RESP value as it came over the wire, and its readable notation.
//! Invariant: two values have the same notation exactly when their bytes on the wire are the same
//! (doubles and big numbers keep their text), so transcripts compare notation line by line.
//! Read next: `client.rs` reads values, `transcript.rs` keeps their notation.

use std::fmt::{self, Write};

/// Any RESP2 or RESP3 value.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// `+text`
    Simple(Vec<u8>),
    /// `-text`
    Error(Vec<u8>),
    /// `:number`
    Integer(i64),
    /// `$length`, then the bytes
    Bulk(Vec<u8>),
    /// `$-1`, RESP2's nil
    NilBulk,
    /// `*-1`, RESP2's nil array
    NilArray,
    /// `_`, RESP3's null
    Null,
    /// `#t` or `#f`
    Boolean(bool),
    /// `,number`, with the text as it was sent
    Double(Vec<u8>),
    /// `(number`, with the text as it was sent
    BigNumber(Vec<u8>),
    /// `!length`, then the bytes
    BlobError(Vec<u8>),
    /// `=length`, then three bytes of format, a colon and the text, kept together
    Verbatim(Vec<u8>),
    /// `*count`
    Array(Vec<Value>),
    /// `~count`
    Set(Vec<Value>),
    /// `>count`
    Push(Vec<Value>),
    /// `%count`: keys and values in the order they came
    Map(Vec<(Value, Value)>),
    /// `|count`: attributes, and the value they belong to
    Attribute(Vec<(Value, Value)>, Box<Value>),
}

impl Value {
    /// The bytes of a string of any kind, nothing for other values.
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Simple(b) | Self::Bulk(b) | Self::Error(b) | Self::BlobError(b) => Some(b),
            Self::Verbatim(b) => b.get(4..),
            _ => None,
        }
    }

    /// The bytes as text for messages, lossily; empty for other values.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.bytes().unwrap_or_default()).into_owned()
    }

    /// The elements of an array, set or push, nothing for other values.
    pub fn items(&self) -> Option<&[Value]> {
        match self {
            Self::Array(items) | Self::Set(items) | Self::Push(items) => Some(items),
            _ => None,
        }
    }

    /// Keys and values of a map, or of RESP2's flat list of them.
    pub fn pairs(&self) -> Vec<(Value, Value)> {
        match self {
            Self::Map(pairs) => pairs.clone(),
            other => flat_pairs(other.items().unwrap_or_default()),
        }
    }

    /// The value stored under a name in a map or in RESP2's flat list.
    pub fn field(&self, name: &str) -> Option<Value> {
        let wanted = name.as_bytes();
        let mut pairs = self.pairs().into_iter();
        pairs.find(|(key, _)| key.bytes() == Some(wanted)).map(|(_, value)| value)
    }

    /// The number of an integer reply.
    pub fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            _ => None,
        }
    }

    /// Whether this is an error of either kind.
    pub fn is_error(&self) -> bool {
        matches!(self, Self::Error(_) | Self::BlobError(_))
    }

    /// Sorts every array, set and map inside, for replies without a promised order.
    pub fn sort(&mut self) {
        match self {
            Self::Array(items) | Self::Set(items) | Self::Push(items) => {
                items.iter_mut().for_each(Self::sort);
                items.sort();
            }
            Self::Map(pairs) => {
                pairs.iter_mut().for_each(|(_, value)| value.sort());
                pairs.sort();
            }
            Self::Attribute(_, inner) => inner.sort(),
            _ => {}
        }
    }

    /// The readable notation: one line a value, elements indented under their header.
    pub fn notation(&self) -> Vec<String> {
        let mut lines = Vec::new();
        self.write_notation(0, &mut lines);
        lines
    }

    fn write_notation(&self, depth: usize, lines: &mut Vec<String>) {
        let mut put = |text: String| lines.push(format!("{:indent$}{text}", "", indent = depth * 2));
        match self {
            Self::Simple(text) => put(format!("+{}", escape(text))),
            Self::Error(text) => put(format!("-{}", escape(text))),
            Self::Integer(number) => put(format!(":{number}")),
            Self::Bulk(bytes) => put(quote(bytes)),
            Self::NilBulk => put("$-1".into()),
            Self::NilArray => put("*-1".into()),
            Self::Null => put("_".into()),
            Self::Boolean(truth) => put(if *truth { "#t" } else { "#f" }.into()),
            Self::Double(text) => put(format!(",{}", escape(text))),
            Self::BigNumber(text) => put(format!("({}", escape(text))),
            Self::BlobError(bytes) => put(format!("!{}", quote(bytes))),
            Self::Verbatim(bytes) => put(format!("={}", quote(bytes))),
            Self::Array(items) => write_items('*', items, depth, lines),
            Self::Set(items) => write_items('~', items, depth, lines),
            Self::Push(items) => write_items('>', items, depth, lines),
            Self::Map(pairs) => write_pairs('%', pairs, depth, lines),
            Self::Attribute(pairs, inner) => {
                write_pairs('|', pairs, depth, lines);
                inner.write_notation(depth, lines);
            }
        }
    }
}

/// Longest part of a line in a failed assertion.
const DEBUG_CHARACTERS: usize = 200;

/// The notation in one line, without the middle of what is long, for failed assertions.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, line) in self.notation().iter().enumerate() {
            let separator = if index == 0 { "" } else { " " };
            let start: String = line.trim().chars().take(DEBUG_CHARACTERS).collect();
            let rest = if start.len() < line.trim().len() { "..." } else { "" };
            write!(f, "{separator}{start}{rest}")?;
        }
        Ok(())
    }
}

fn flat_pairs(items: &[Value]) -> Vec<(Value, Value)> {
    let pairs = items.chunks_exact(2);
    pairs.filter_map(|pair| Some((pair.first()?.clone(), pair.last()?.clone()))).collect()
}

fn write_items(sign: char, items: &[Value], depth: usize, lines: &mut Vec<String>) {
    lines.push(format!("{:indent$}{sign}{}", "", items.len(), indent = depth * 2));
    for item in items {
        item.write_notation(depth + 1, lines);
    }
}

fn write_pairs(sign: char, pairs: &[(Value, Value)], depth: usize, lines: &mut Vec<String>) {
    lines.push(format!("{:indent$}{sign}{}", "", pairs.len(), indent = depth * 2));
    for (key, value) in pairs {
        key.write_notation(depth + 1, lines);
        value.write_notation(depth + 1, lines);
    }
}

/// Bytes in double quotes; long runs of one byte are written as `"x"*1000`.
pub fn quote(bytes: &[u8]) -> String {
    if let Some(first) = bytes.first()
        && bytes.len() >= 100
        && bytes.iter().all(|byte| byte == first)
    {
        return format!("\"{}\"*{}", escape_quoted(&[*first]), bytes.len());
    }
    format!("\"{}\"", escape_quoted(bytes))
}

fn escape_quoted(bytes: &[u8]) -> String {
    escape(bytes).replace('"', "\\\"")
}

/// Bytes as printable ASCII, with redis-cli's escapes for the rest.
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'\\' => text.push_str("\\\\"),
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\t' => text.push_str("\\t"),
            b' '..=b'~' => text.push(char::from(byte)),
            other => write!(text, "\\x{other:02x}").expect("a String takes everything"),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notation_shows_nesting_and_escapes() {
        let value = Value::Array(vec![
            Value::Bulk(b"a\"\x00\n".to_vec()),
            Value::Map(vec![(Value::Simple(b"k".to_vec()), Value::NilBulk)]),
        ]);
        assert_eq!(value.notation(), ["*2", "  \"a\\\"\\x00\\n\"", "  %1", "    +k", "    $-1"]);
    }

    #[test]
    fn long_runs_are_short() {
        assert_eq!(quote(&[b'x'; 300]), "\"x\"*300");
    }
}
