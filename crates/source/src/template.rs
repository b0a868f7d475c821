//! Statements with names in them: `SELECT name FROM users WHERE id = $id`.
//!
//! A name is `$` and letters, digits and underscores, beginning with a letter or an underscore; `$$` is a dollar sign. Values are
//! never put into the text: a driver replaces each name by its own mark for a bound parameter. SQL's quotes and comments are
//! passed over, so a `$` inside them is no name.

use std::fmt;

/// A statement cut at its names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Template {
    text: String,
    pieces: Vec<Piece>,
    names: Vec<String>,
}

/// A piece of a statement.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Piece {
    /// Text to take as it is.
    Text(String),
    /// The place of a value: the position of its name in [`Template::names`].
    Name(usize),
}

/// How `$` is to be understood.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Language {
    /// Quotes and comments of SQL are passed over, PostgreSQL's `$tag$` among them.
    Sql,
    /// Every `$` counts.
    Plain,
}

/// A type that a value of a key is declared to have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ParameterType {
    /// Any text that is UTF-8.
    Text,
    /// Any bytes.
    Bytes,
    /// A whole number of 64 bits, in decimal with no sign but a minus, and no zeros in front.
    Integer,
    /// A number.
    Number,
    /// A UUID, in groups of 8-4-4-4-12 hexadecimal digits.
    Uuid,
}

/// A value to bind.
#[derive(Clone, Debug, PartialEq)]
pub enum Parameter {
    /// SQL's NULL.
    Null,
    /// UTF-8.
    Text(Box<str>),
    /// Bytes.
    Bytes(Box<[u8]>),
    /// A whole number.
    Integer(i64),
    /// A number.
    Number(f64),
    /// A UUID, as its text in lower case.
    Uuid(Box<str>),
    /// Several values of one type, none of them a list: what a name stands for in a batch.
    List(Vec<Parameter>),
}

impl Template {
    /// Cuts a statement at its names.
    ///
    /// # Errors
    /// A `$` that begins no name, a quote or comment that does not end: what is wrong, and the position in bytes.
    pub fn parse(text: &str, language: Language) -> Result<Template, Misfit> {
        let mut template = Template { text: text.to_owned(), pieces: Vec::new(), names: Vec::new() };
        let mut plain = String::new();
        let mut at = 0;
        while at < text.len() {
            let rest = &text[at..];
            if language == Language::Sql
                && let Some(length) = passed_over(rest).map_err(|what| Misfit { what, position: at })?
            {
                plain.push_str(&rest[..length]);
                at += length;
            } else if rest.starts_with("$$") {
                plain.push('$');
                at += 2;
            } else if let Some(after) = rest.strip_prefix('$') {
                let length = name_length(after);
                if length == 0 {
                    let what =
                        "a name must follow $ (letters, digits, underscores; a dollar sign itself is $$)";
                    return Err(Misfit { what, position: at });
                }
                if !plain.is_empty() {
                    template.pieces.push(Piece::Text(std::mem::take(&mut plain)));
                }
                let place = template.place_of(&after[..length]);
                template.pieces.push(Piece::Name(place));
                at += 1 + length;
            } else {
                let length = rest.chars().next().map_or(1, char::len_utf8);
                plain.push_str(&rest[..length]);
                at += length;
            }
        }
        if !plain.is_empty() {
            template.pieces.push(Piece::Text(plain));
        }
        Ok(template)
    }

    /// No statement at all.
    pub(crate) fn empty() -> Template {
        Template { text: String::new(), pieces: Vec::new(), names: Vec::new() }
    }

    fn place_of(&mut self, name: &str) -> usize {
        self.names.iter().position(|known| known == name).unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.names.len() - 1
        })
    }

    /// The text as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its pieces, in order.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The names in it, each once, in the order of their first appearance. Parameters come in this order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The text with a mark for each name: what a driver sends. The mark is given the position of its name.
    pub fn render(&self, mut mark: impl FnMut(usize) -> String) -> String {
        let mut out = String::with_capacity(self.text.len());
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Name(place) => out.push_str(&mark(*place)),
            }
        }
        out
    }
}

/// What is wrong with a statement or a pattern, and where.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Misfit {
    /// What is wrong.
    pub what: &'static str,
    /// Where, in bytes from the start.
    pub position: usize,
}

impl fmt::Display for Misfit {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{} (at byte {})", self.what, self.position)
    }
}

/// How long the name at the start of `text` is.
pub(crate) fn name_length(text: &str) -> usize {
    if text.starts_with(|first: char| first.is_ascii_digit()) {
        return 0;
    }
    text.find(|ch: char| !ch.is_ascii_alphanumeric() && ch != '_').unwrap_or(text.len())
}

/// How long the quoted text or comment at the start of `rest` is, if there is one.
fn passed_over(rest: &str) -> Result<Option<usize>, &'static str> {
    let bytes = rest.as_bytes();
    match bytes[0] {
        quote @ (b'\'' | b'"' | b'`') => quoted_length(bytes, quote).map(Some),
        b'-' if rest.starts_with("--") => Ok(Some(rest.find('\n').map_or(rest.len(), |end| end + 1))),
        b'/' if rest.starts_with("/*") => match rest[2..].find("*/") {
            Some(end) => Ok(Some(end + 4)),
            None => Err("this comment does not end"),
        },
        b'$' => {
            // PostgreSQL's dollar quotes: $tag$ ... $tag$. `$$` alone is our own way to write a dollar sign.
            let length = name_length(&rest[1..]);
            if length == 0 || bytes.get(1 + length) != Some(&b'$') {
                return Ok(None);
            }
            let tag = &rest[..length + 2];
            Ok(rest[tag.len()..].find(tag).map(|end| end + 2 * tag.len()))
        }
        _ => Ok(None),
    }
}

/// The length of a quoted text; a doubled quote stands for one.
fn quoted_length(bytes: &[u8], quote: u8) -> Result<usize, &'static str> {
    let mut at = 1;
    while at < bytes.len() {
        if bytes[at] == quote {
            if bytes.get(at + 1) != Some(&quote) {
                return Ok(at + 1);
            }
            at += 1;
        }
        at += 1;
    }
    Err("this quote does not end")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sql(text: &str) -> Template {
        Template::parse(text, Language::Sql).expect("a statement")
    }

    #[test]
    fn names_are_found_once_each_in_order() {
        let template = sql("SELECT a FROM t WHERE id = $id AND tenant=$tenant OR parent = $id");
        assert_eq!(template.names(), ["id", "tenant"]);
        let sent = template.render(|place| format!("?{}", place + 1));
        assert_eq!(sent, "SELECT a FROM t WHERE id = ?1 AND tenant=?2 OR parent = ?1");
    }

    #[test]
    fn quotes_and_comments_are_passed_over() {
        let text = "SELECT '$a''$b', \"$c\", `$d` -- $e\n /* $f */ , $q$ $g $q$, $id";
        assert_eq!(sql(text).names(), ["id"]);
        assert_eq!(sql(text).render(|_| "$1".to_owned()), text.replace("$id", "$1"));
    }

    #[test]
    fn a_dollar_sign_is_written_twice() {
        assert_eq!(sql("SELECT a $$ $b").render(|_| "?".to_owned()), "SELECT a $ ?");
        let url = Template::parse("/it's/$id", Language::Plain).expect("a path");
        assert_eq!(url.names(), ["id"]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (text, position) in [("SELECT $ 1", 7), ("SELECT 'abc", 7), ("a /* b", 2), ("é $1", 3)] {
            assert_eq!(Template::parse(text, Language::Sql).expect_err(text).position, position, "{text}");
        }
    }
}
