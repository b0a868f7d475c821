//! Inline requests: a line of words, quoted as on redis-cli's prompt.
//!
//! `"..."` understands `\n \r \t \b \a \xHH` and `\` before any other byte; `'...'` understands
//! only `\'`. A closing quote must be followed by a blank or the end of the line.

/// Splits a line into words, or answers `None` when quotes do not balance.
///
/// O(line). Words are copies, since escapes change their bytes.
pub fn split_words(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_ascii_start();
        // A NUL ends the line, as it does for every C reader of this format.
        match rest.first() {
            None | Some(0) => return Some(words),
            Some(_) => {}
        }
        let mut word = Vec::new();
        rest = take_word(rest, &mut word)?;
        words.push(word);
    }
}

/// Reads one word from the start of `line` into `word` and answers what follows it.
fn take_word<'a>(mut line: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match line {
            [] | [0, ..] => return Some(line),
            [b' ' | b'\n' | b'\r' | b'\t', ..] => return Some(line),
            [b'"', rest @ ..] => return closed(take_double_quoted(rest, word)?),
            [b'\'', rest @ ..] => return closed(take_single_quoted(rest, word)?),
            [byte, rest @ ..] => {
                word.push(*byte);
                line = rest;
            }
        }
    }
}

/// A closing quote ends its word: anything but a blank behind it is an error.
fn closed(rest: &[u8]) -> Option<&[u8]> {
    match rest.first() {
        None | Some(0) => Some(rest),
        Some(byte) if byte.is_ascii_whitespace() || *byte == 0x0b => Some(rest),
        Some(_) => None,
    }
}

fn take_double_quoted<'a>(mut line: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match line {
            [] => return None,
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', b'x', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                word.push(hex(*high) << 4 | hex(*low));
                line = rest;
            }
            [b'\\', escaped, rest @ ..] => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => *other,
                });
                line = rest;
            }
            [byte, rest @ ..] => {
                word.push(*byte);
                line = rest;
            }
        }
    }
}

fn take_single_quoted<'a>(mut line: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match line {
            [] => return None,
            [b'\'', rest @ ..] => return Some(rest),
            [b'\\', b'\'', rest @ ..] => {
                word.push(b'\'');
                line = rest;
            }
            [byte, rest @ ..] => {
                word.push(*byte);
                line = rest;
            }
        }
    }
}

/// The value of a hexadecimal digit already known to be one.
fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit.wrapping_sub(b'A').wrapping_add(10),
    }
}

#[cfg(test)]
mod tests {
    use super::split_words;

    fn words(line: &str) -> Option<Vec<String>> {
        Some(
            split_words(line.as_bytes())?
                .into_iter()
                .map(|w| String::from_utf8_lossy(&w).into_owned())
                .collect(),
        )
    }

    #[test]
    fn words_are_split_at_blanks_and_quotes_are_honoured() {
        assert_eq!(words("  set  a\tb "), Some(vec!["set".into(), "a".into(), "b".into()]));
        assert_eq!(words(r#"set "a b" 'c\'d'"#), Some(vec!["set".into(), "a b".into(), "c'd".into()]));
        assert_eq!(words(r#""\x41\n\q""#), Some(vec!["A\nq".into()]));
        assert_eq!(words(r#"a"b c"d"#), None);
        assert_eq!(words(r#""open"#), None);
        assert_eq!(words("'open"), None);
        assert_eq!(words(""), Some(vec![]));
    }
}
