//! Tags of keys: names by which keys of one or several routes are invalidated together.
//!
//! `tags tenant:<id>` gives each key of the route the tag `tenant:` and what its name `id` stands for. A key's tags follow from the
//! key alone, so nothing is kept of them.

use crate::pattern::KeyName;

/// Tags that a route may give.
const TAGS_MAX: usize = 16;

/// A tag with names of a pattern in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TagTemplate {
    text: String,
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Piece {
    Literal(String),
    /// The place of a name in the pattern.
    Name(usize),
}

impl TagTemplate {
    /// Reads tags with spaces between them, in which these names may stand, and adds them to those there are.
    ///
    /// # Errors
    /// What is wrong.
    pub fn parse_all(text: &str, names: &[KeyName], tags: &mut Vec<TagTemplate>) -> Result<(), String> {
        if text.split_ascii_whitespace().next().is_none() {
            return Err("a tag must not be empty".to_owned());
        }
        for word in text.split_ascii_whitespace() {
            if tags.len() == TAGS_MAX {
                return Err(format!("a route gives {TAGS_MAX} tags at most"));
            }
            tags.push(TagTemplate::parse(word, names)?);
        }
        Ok(())
    }

    fn parse(text: &str, names: &[KeyName]) -> Result<TagTemplate, String> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('<') {
            literal.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(behind) = rest.strip_prefix('<') {
                literal.push('<');
                rest = behind;
                continue;
            }
            let (name, behind) =
                rest.split_once('>').ok_or_else(|| format!("'{text}': a name does not end: > is missing"))?;
            let place = names.iter().position(|own| own.name == name);
            let place = place.ok_or_else(|| format!("'{text}': <{name}> is no name of the pattern"))?;
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            }
            pieces.push(Piece::Name(place));
            rest = behind;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(TagTemplate { text: text.to_owned(), pieces })
    }

    /// The text as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The tag of a key, by what the names of its pattern stand for.
    pub fn of(&self, words: &[&[u8]]) -> Vec<u8> {
        let mut tag = Vec::new();
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => tag.extend_from_slice(text.as_bytes()),
                Piece::Name(place) => tag.extend_from_slice(words.get(*place).copied().unwrap_or_default()),
            }
        }
        tag
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pattern::Pattern;

    fn tags(pattern: &str, text: &str, key: &str) -> Result<Vec<String>, String> {
        let pattern = Pattern::parse(pattern).expect(pattern);
        let mut tags = Vec::new();
        TagTemplate::parse_all(text, pattern.names(), &mut tags)?;
        let words = pattern.capture(key.as_bytes()).expect(key);
        Ok(tags.iter().map(|tag| String::from_utf8(tag.of(&words)).expect("text")).collect())
    }

    #[test]
    fn names_stand_for_what_they_do_in_the_key() {
        let of = |text| tags("t:<tenant>:u:<id>", text, "t:acme:u:7").expect(text);
        assert_eq!(of("tenant:<tenant>"), ["tenant:acme"]);
        assert_eq!(of("<tenant>/<id> users  a<<b"), ["acme/7", "users", "a<b"]);
        assert_eq!(of("<id>-<id>"), ["7-7"]);
    }

    #[test]
    fn wrong_tags_are_told() {
        for text in ["", "  ", "tenant:<nobody>", "tenant:<tenant", "<>", "a b c d e f g h i j k l m n o p q"]
        {
            assert!(tags("t:<tenant>", text, "t:acme").is_err(), "{text}");
        }
    }
}
