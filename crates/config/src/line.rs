//! One line of configuration: cutting it into words and writing a word so that it reads back the same.
//!
//! Invariant: `split(quote(word))` is exactly `[word]`, for every byte string.
//! Read next: `load.rs`, which feeds lines to this file.

/// What keeps a line from being cut into words: a quote that does not close, or text stuck to a closing quote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unbalanced;

/// Cuts a line into words at blanks. `"..."` understands `\n \r \t \b \a \xhh`, `'...'` understands `\'`.
///
/// # Errors
/// [`Unbalanced`] when a quote does not close or is followed by anything but a blank.
pub fn split(line: &[u8]) -> Result<Vec<Vec<u8>>, Unbalanced> {
    let mut words = Vec::new();
    let mut rest = skip_blanks(line);
    while !rest.is_empty() {
        let (word, after) = word(rest)?;
        words.push(word);
        rest = skip_blanks(after);
    }
    Ok(words)
}

/// Whether a word has to be quoted to survive [`split`].
#[must_use]
pub fn needs_quotes(word: &[u8]) -> bool {
    word.is_empty()
        || word.starts_with(b"#")
        || word.iter().any(|&byte| !byte.is_ascii_graphic() || matches!(byte, b'"' | b'\'' | b'\\'))
}

/// Appends the word in double quotes, every unprintable byte escaped.
pub fn quote(word: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in word {
        match byte {
            b'\\' | b'"' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x07 => out.extend_from_slice(b"\\a"),
            0x08 => out.extend_from_slice(b"\\b"),
            b' ' | 0x21..=0x7e => out.push(byte),
            _ => {
                out.extend_from_slice(b"\\x");
                out.push(hex_digit(byte >> 4));
                out.push(hex_digit(byte & 0x0f));
            }
        }
    }
    out.push(b'"');
}

/// Removes blanks and line ends on both sides.
#[must_use]
pub fn trim(line: &[u8]) -> &[u8] {
    let is_edge = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let Some(start) = line.iter().position(|byte| !is_edge(byte)) else { return &[] };
    let end = line.iter().rposition(|byte| !is_edge(byte)).map_or(start, |last| last.saturating_add(1));
    line.get(start..end).unwrap_or_default()
}

/// A word and what follows it. `rest` starts with a byte that is not a blank.
fn word(mut rest: &[u8]) -> Result<(Vec<u8>, &[u8]), Unbalanced> {
    let mut word = Vec::new();
    while let Some((&byte, after)) = rest.split_first() {
        match byte {
            b'"' => return closed(double_quoted(after, &mut word)?, word),
            b'\'' => return closed(single_quoted(after, &mut word)?, word),
            _ if is_blank(byte) => break,
            _ => word.push(byte),
        }
        rest = after;
    }
    Ok((word, rest))
}

/// A closing quote ends the word, so a blank or the end of the line must follow.
fn closed(rest: &[u8], word: Vec<u8>) -> Result<(Vec<u8>, &[u8]), Unbalanced> {
    match rest.first() {
        Some(&byte) if !is_blank(byte) => Err(Unbalanced),
        _ => Ok((word, rest)),
    }
}

fn double_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Result<&'a [u8], Unbalanced> {
    loop {
        rest = match rest {
            [b'"', after @ ..] => return Ok(after),
            [b'\\', b'x', high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                word.push(hex_value(*high) << 4 | hex_value(*low));
                after
            }
            [b'\\', escaped, after @ ..] => {
                word.push(unescaped(*escaped));
                after
            }
            [byte, after @ ..] => {
                word.push(*byte);
                after
            }
            [] => return Err(Unbalanced),
        };
    }
}

fn single_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Result<&'a [u8], Unbalanced> {
    loop {
        rest = match rest {
            [b'\'', after @ ..] => return Ok(after),
            [b'\\', b'\'', after @ ..] => {
                word.push(b'\'');
                after
            }
            [byte, after @ ..] => {
                word.push(*byte);
                after
            }
            [] => return Err(Unbalanced),
        };
    }
}

fn unescaped(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        b'A'..=b'F' => digit - b'A' + 10,
        _ => 0,
    }
}

fn hex_digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'a' + (nibble - 10) }
}

/// The blanks of C's `isspace`, and NUL, which ends a line for Redis.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c | 0)
}

fn skip_blanks(line: &[u8]) -> &[u8] {
    let start = line.iter().position(|&byte| !is_blank(byte)).unwrap_or(line.len());
    line.get(start..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(line: &str) -> Option<Vec<String>> {
        let words = split(line.as_bytes()).ok()?;
        Some(words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect())
    }

    #[test]
    fn words_are_cut_at_blanks_and_quotes_keep_them_together() {
        assert_eq!(words("  port \t 6379 "), Some(vec!["port".into(), "6379".into()]));
        assert_eq!(
            words(r#"a "b c" 'd e' "" ''"#),
            Some(vec!["a".into(), "b c".into(), "d e".into(), "".into(), "".into()])
        );
        assert_eq!(words(r#""\n\r\t\b\a\x41\"\\\q""#), Some(vec!["\n\r\t\u{8}\u{7}A\"\\q".into()]));
        assert_eq!(words(r"'it\'s \n'"), Some(vec!["it's \\n".into()]));
        assert_eq!(words(r#""\xZZ""#), Some(vec!["xZZ".into()]));
        assert_eq!(words(""), Some(vec![]));
    }

    #[test]
    fn an_open_quote_or_text_after_a_closing_one_is_refused() {
        for line in [r#""abc"#, r#""abc"d"#, "'abc", "''x", r#""abc\"#, r#"x"y"z"#] {
            assert_eq!(split(line.as_bytes()), Err(Unbalanced), "{line}");
        }
        assert_eq!(words(r#"x"y""#), Some(vec!["xy".into()]));
    }

    proptest! {
        #[test]
        fn a_quoted_word_reads_back_as_itself(word in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut line = Vec::new();
            quote(&word, &mut line);
            prop_assert_eq!(split(&line), Ok(vec![word.clone()]));
            if !needs_quotes(&word) {
                prop_assert_eq!(split(&word), Ok(vec![word]));
            }
        }

        #[test]
        fn any_line_is_answered(line in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = split(&line);
        }
    }
}
