//! Statements as SQL stores take them: marks in place of names, lists written out.

use crate::unfit;
use larder_source::{Failure, Limits, Parameter, Piece, Template};

/// A statement with marks, and what to bind to them.
#[derive(Debug)]
pub struct Marked<'a> {
    /// What to send.
    pub sql: String,
    /// The values in the order of their marks.
    pub values: Vec<&'a Parameter>,
}

/// Writes `?` for each name, and `(?, ?, ...)` for a name that stands for a list; with brackets of its own around it, they are used.
/// Lists have a power of two of marks, the last value being repeated, so that few different statements are made.
pub fn marked<'a>(template: &Template, parameters: &'a [Parameter]) -> Marked<'a> {
    let mut out = Marked { sql: String::with_capacity(template.text().len()), values: Vec::new() };
    let pieces = template.pieces();
    for (at, piece) in pieces.iter().enumerate() {
        let place = match piece {
            Piece::Text(text) => {
                out.sql.push_str(text);
                continue;
            }
            Piece::Name(place) => *place,
        };
        let Some(Parameter::List(values)) = parameters.get(place) else {
            out.sql.push('?');
            out.values.extend(parameters.get(place));
            continue;
        };
        let bare = !in_brackets(pieces, at);
        out.sql.push_str(if bare { "(" } else { "" });
        match values.last() {
            None => out.sql.push_str("NULL"),
            Some(last) => {
                let marks = values.len().next_power_of_two();
                out.sql.push('?');
                out.sql.extend(std::iter::repeat_n(", ?", marks - 1));
                out.values.extend(values);
                out.values.extend(std::iter::repeat_n(last, marks - values.len()));
            }
        }
        out.sql.push_str(if bare { ")" } else { "" });
    }
    out
}

/// Whether the name at this piece is all that stands between two brackets.
fn in_brackets(pieces: &[Piece], at: usize) -> bool {
    let before = at.checked_sub(1).and_then(|before| pieces.get(before));
    let opens = matches!(before, Some(Piece::Text(text)) if text.trim_end().ends_with('('));
    let closes = matches!(pieces.get(at + 1), Some(Piece::Text(text)) if text.trim_start().starts_with(')'));
    opens && closes
}

/// The position in the statement as it was written that belongs to a position of what `template.render(mark)` gave.
pub fn written_position(template: &Template, sent: usize, mark: impl Fn(usize) -> String) -> usize {
    let source = template.text();
    let (mut from, mut to) = (0, 0);
    for piece in template.pieces() {
        match piece {
            Piece::Name(place) => {
                let length = mark(*place).len();
                if sent < to + length {
                    return from;
                }
                to += length;
                from += 1 + template.names()[*place].len();
            }
            Piece::Text(text) => {
                for (at, ch) in text.char_indices() {
                    if sent < to + ch.len_utf8() {
                        return from;
                    }
                    to += ch.len_utf8();
                    // A dollar sign is written twice, but for those in quotes.
                    let twice =
                        ch == '$' && source[from..].starts_with("$$") && !text[at + 1..].starts_with('$');
                    from += ch.len_utf8() + usize::from(twice);
                }
            }
        }
    }
    source.len()
}

/// Whether so many rows and bytes may have been answered.
///
/// # Errors
/// Which of the limits they are over.
pub fn within(limits: Limits, (rows, bytes): (usize, usize)) -> Result<(), Failure> {
    if rows > limits.rows {
        return Err(unfit(format!("more than {} rows", limits.rows)));
    }
    if bytes > limits.bytes {
        return Err(unfit(format!("more than {} bytes", limits.bytes)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_source::Language;

    fn sql(text: &str) -> Template {
        Template::parse(text, Language::Sql).expect("a statement")
    }

    #[test]
    fn lists_are_written_out_to_a_power_of_two() {
        let list = Parameter::List(vec![Parameter::Integer(1), Parameter::Integer(2), Parameter::Integer(3)]);
        let parameters = [list, Parameter::Null];
        for text in ["a IN $id AND b = $b", "a IN ( $id ) AND b = $b"] {
            let template = sql(text);
            let marked = marked(&template, &parameters);
            let bare = marked.sql.replace(' ', "");
            assert_eq!(bare, "aIN(?,?,?,?)ANDb=?", "{text}");
            assert_eq!(marked.values.len(), 5);
            assert_eq!(marked.values[3], &Parameter::Integer(3));
        }
        let none = [Parameter::List(Vec::new())];
        assert_eq!(marked(&sql("a IN $id"), &none).sql, "a IN (NULL)");
    }

    #[test]
    fn positions_are_those_of_what_was_written() {
        let template = sql("SELECT '$x', a$$b FROM t WHERE $name = wrong");
        let mark = |_: usize| "?1".to_owned();
        let sent = template.render(mark);
        let at = |word: &str| written_position(&template, sent.find(word).expect("it is there"), mark);
        for word in ["SELECT", "FROM", "wrong"] {
            assert_eq!(Some(at(word)), template.text().find(word), "{word}");
        }
        assert_eq!(written_position(&template, sent.find("?1").expect("a mark"), mark), 31);
    }
}
