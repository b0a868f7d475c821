//! One command of the log: an array of bulk strings, as a client would send it.

/// Commands of more words than this are not believed.
pub(super) const WORDS_MAX: usize = 1024 * 1024;
/// Words longer than this are not believed.
pub(super) const WORD_BYTES_MAX: usize = 512 * 1024 * 1024 * 4;

/// The words of a command.
pub trait Words<'w>: ExactSizeIterator<Item = &'w [u8]> {}

impl<'w, I: ExactSizeIterator<Item = &'w [u8]>> Words<'w> for I {}

/// Appends a command.
#[inline]
pub fn append<'w>(out: &mut Vec<u8>, words: impl Words<'w>) {
    header(out, b'*', words.len());
    for word in words {
        append_word(out, word);
    }
}

/// Begins a command of so many words, each of which [`append_word`] appends.
pub fn begin(out: &mut Vec<u8>, words: usize) {
    header(out, b'*', words);
}

/// Appends one word of a command.
pub fn append_word(out: &mut Vec<u8>, word: &[u8]) {
    header(out, b'$', word.len());
    out.extend_from_slice(word);
    out.extend_from_slice(b"\r\n");
}

/// Appends the time of what follows, in seconds of Unix time.
pub fn append_timestamp(out: &mut Vec<u8>, secs: u64) {
    out.extend_from_slice(b"#TS:");
    out.extend_from_slice(secs.to_string().as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// What an annotation begins with that tells what is noted of the value that the next command stores.
const NOTE: &[u8] = b"#NOTE:";

/// Appends what is noted of the value that the next command stores, as hexadecimal digits. Who does not know it passes over it.
pub fn append_note(out: &mut Vec<u8>, note: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(NOTE);
    for byte in note {
        out.extend([byte >> 4, byte & 15].map(|digit| DIGITS[usize::from(digit)]));
    }
    out.extend_from_slice(b"\r\n");
}

/// What [`append_note`] wrote, of so many bytes. `None` where a line is something else.
#[must_use]
pub fn note<const BYTES: usize>(line: &[u8]) -> Option<[u8; BYTES]> {
    let (pairs, []) = line.strip_prefix(NOTE)?.trim_ascii_end().as_chunks::<2>() else { return None };
    let mut note = [0; BYTES];
    if pairs.len() != BYTES {
        return None;
    }
    for (byte, pair) in note.iter_mut().zip(pairs) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok()?;
    }
    Some(note)
}

/// Appends a length behind its sign.
#[inline]
fn header(out: &mut Vec<u8>, sign: u8, len: usize) {
    if len < 10 {
        out.extend_from_slice(&[sign, b'0' + len as u8, b'\r', b'\n']);
        return;
    }
    if len < 100 {
        out.extend_from_slice(&[sign, b'0' + (len / 10) as u8, b'0' + (len % 10) as u8, b'\r', b'\n']);
        return;
    }
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut left = len;
    while left != 0 {
        at -= 1;
        if let Some(digit) = digits.get_mut(at) {
            *digit = b'0' + (left % 10) as u8;
        }
        left /= 10;
    }
    out.push(sign);
    out.extend_from_slice(digits.get(at..).unwrap_or_default());
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_written_as_a_client_would_send_it() {
        let mut out = Vec::new();
        let long = [b'x'; 1234];
        append(&mut out, [&b"SET"[..], b"a\r\n", b"", &long].into_iter());
        let expected =
            [&b"*4\r\n$3\r\nSET\r\n$3\r\na\r\n\r\n$0\r\n\r\n$1234\r\n"[..], &long, b"\r\n"].concat();
        assert_eq!(out, expected);
        append_timestamp(&mut out, 1_700_000_000);
        assert!(out.ends_with(b"\r\n#TS:1700000000\r\n"));
    }

    #[test]
    fn a_note_is_read_as_it_was_written() {
        let mut out = Vec::new();
        append_note(&mut out, &[0, 0x7f, 0xff]);
        assert_eq!(out, b"#NOTE:007fff\r\n");
        assert_eq!(note(&out), Some([0, 0x7f, 0xff]));
        assert_eq!(note::<2>(&out), None);
        for wrong in [&b"#TS:12\r\n"[..], b"#NOTE:\r\n", b"#NOTE:00zz11\r\n", b"#NOTE:00111\r\n"] {
            assert_eq!(note::<3>(wrong), None);
        }
    }
}
