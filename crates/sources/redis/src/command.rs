//! Commands: words with names in them, split and quoted as redis-cli does.

use crate::no_value;
use larder_source::{Cell, Failure, Parameter, Piece, Template};
use larder_source_net::refused;

/// A command.
#[derive(Debug, PartialEq)]
pub struct Command(Vec<Vec<Part>>);

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(Vec<u8>),
    Name(usize),
}

/// Where in a word the reader is.
#[derive(Clone, Copy, PartialEq)]
enum State {
    Between,
    Bare,
    Quoted(u8),
    /// Behind a closing quote, where a word must end.
    Closed,
}

struct Splitter {
    words: Vec<Vec<Part>>,
    state: State,
}

impl Command {
    /// Splits a statement.
    ///
    /// # Errors
    /// A quote does not end, or something follows it directly; no word at all.
    pub fn parse(template: &Template) -> Result<Command, Failure> {
        let mut splitter = Splitter { words: Vec::new(), state: State::Between };
        for piece in template.pieces() {
            match piece {
                Piece::Name(place) => splitter.push(Part::Name(*place))?,
                Piece::Text(text) => splitter.text(text.as_bytes())?,
            }
        }
        if matches!(splitter.state, State::Quoted(_)) {
            return Err(refused("a quote does not end").at(template.text().len()));
        }
        if splitter.words.is_empty() {
            return Err(refused("there is no command").at(0));
        }
        Ok(Command(splitter.words))
    }

    /// Its first word, which must be text.
    pub fn name(&self) -> Result<Vec<u8>, Failure> {
        match self.0[0].as_slice() {
            [Part::Text(name)] => Ok(name.clone()),
            _ => Err(refused("the name of a command must not have names in it").at(0)),
        }
    }

    /// How many words.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The words for these values.
    pub fn words(&self, values: &[Parameter]) -> Result<Vec<Vec<u8>>, Failure> {
        self.name()?;
        let word = |parts: &Vec<Part>| {
            let mut out = Vec::new();
            for part in parts {
                match part {
                    Part::Text(text) => out.extend_from_slice(text),
                    Part::Name(place) => out.extend_from_slice(&bytes_of(values.get(*place))?),
                }
            }
            Ok(out)
        };
        self.0.iter().map(word).collect()
    }

    /// Whether an array in reply is pairs, as it is with RESP2.
    pub fn is_pairs(&self, words: &[Vec<u8>]) -> Pairs {
        let is = |word: &[u8], name: &str| word.eq_ignore_ascii_case(name.as_bytes());
        if is(&words[0], "HGETALL") {
            Pairs::Fields
        } else if words.iter().skip(1).any(|word| is(word, "WITHSCORES")) {
            Pairs::Scores
        } else {
            Pairs::No
        }
    }
}

/// What a flat array means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pairs {
    No,
    /// Fields and their values.
    Fields,
    /// Members and their scores.
    Scores,
}

impl Splitter {
    fn push(&mut self, part: Part) -> Result<(), Failure> {
        match self.state {
            State::Closed => return Err(refused("a blank must follow a closing quote")),
            State::Between => {
                self.words.push(Vec::new());
                self.state = State::Bare;
            }
            _ => {}
        }
        let Some(word) = self.words.last_mut() else { return Ok(()) };
        match (word.last_mut(), part) {
            (Some(Part::Text(text)), Part::Text(more)) => text.extend_from_slice(&more),
            (_, part) => word.push(part),
        }
        Ok(())
    }

    fn text(&mut self, text: &[u8]) -> Result<(), Failure> {
        let mut at = 0;
        while at < text.len() {
            let byte = text[at];
            at += 1;
            match self.state {
                State::Between | State::Closed | State::Bare if byte.is_ascii_whitespace() => {
                    self.state = State::Between
                }
                State::Between if byte == b'"' || byte == b'\'' => {
                    // A word even if nothing stands between the quotes.
                    self.words.push(vec![Part::Text(Vec::new())]);
                    self.state = State::Quoted(byte);
                }
                State::Quoted(quote) if byte == quote => self.state = State::Closed,
                State::Quoted(b'"') if byte == b'\\' && at < text.len() => {
                    let (value, length) = escaped(&text[at..]);
                    at += length;
                    self.push(Part::Text(vec![value]))?;
                }
                State::Quoted(b'\'') if byte == b'\\' && text.get(at) == Some(&b'\'') => {
                    at += 1;
                    self.push(Part::Text(vec![b'\'']))?;
                }
                _ => self.push(Part::Text(vec![byte]))?,
            }
        }
        Ok(())
    }
}

/// What a backslash in double quotes means.
fn escaped(rest: &[u8]) -> (u8, usize) {
    let hex = |at: usize| rest.get(at).and_then(|&digit| char::from(digit).to_digit(16));
    match rest[0] {
        b'x' => match (hex(1), hex(2)) {
            (Some(high), Some(low)) => ((high * 16 + low) as u8, 3),
            _ => (b'x', 1),
        },
        b'n' => (b'\n', 1),
        b'r' => (b'\r', 1),
        b't' => (b'\t', 1),
        b'b' => (8, 1),
        b'a' => (7, 1),
        other => (other, 1),
    }
}

fn bytes_of(value: Option<&Parameter>) -> Result<Vec<u8>, Failure> {
    Ok(match value {
        Some(Parameter::Text(text) | Parameter::Uuid(text)) => text.as_bytes().to_vec(),
        Some(Parameter::Bytes(bytes)) => bytes.to_vec(),
        Some(Parameter::Integer(number)) => number.to_string().into_bytes(),
        Some(Parameter::Number(number)) => number.to_string().into_bytes(),
        _ => return Err(no_value()),
    })
}

/// A value as it stands in front of the rows of a batch.
pub fn cell_of(value: &Parameter) -> Result<Cell, Failure> {
    Ok(match value {
        Parameter::Text(text) | Parameter::Uuid(text) => Cell::Text(text.as_bytes().into()),
        Parameter::Bytes(bytes) => Cell::Bytes(bytes.clone()),
        Parameter::Integer(number) => Cell::Integer(*number),
        Parameter::Number(number) => Cell::Real(*number),
        _ => return Err(no_value()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_source::Language;

    fn words(text: &str, values: &[Parameter]) -> Result<Vec<String>, Failure> {
        let words = Command::parse(&Template::parse(text, Language::Plain).unwrap())?.words(values)?;
        Ok(words.into_iter().map(|word| String::from_utf8(word).unwrap()).collect())
    }

    #[test]
    fn values_stay_in_their_word() {
        let values = [Parameter::Text("a b\" ' \r\n".into()), Parameter::Integer(-7)];
        let found = words("HGET user:$id:$n  \"x $id\" 'it\\'s' \"\\x41\\n\" ''", &values).unwrap();
        assert_eq!(found, ["HGET", "user:a b\" ' \r\n:-7", "x a b\" ' \r\n", "it's", "A\n", ""]);
    }

    #[test]
    fn wrong_quotes_are_refused() {
        for text in ["GET \"a", "GET 'a'b", "GET 'a'$b", "", "  ", "$a b"] {
            assert!(words(text, &[Parameter::Integer(1)]).is_err(), "{text}");
        }
        assert!(words("GET $a", &[Parameter::Null]).is_err());
    }
}
