//! Errors in memcached's words.

const TOO_LARGE: &[u8] = b"SERVER_ERROR object too large for cache";

/// Appends the answer that stands for an error of ours, code included, such as `ERR syntax error`. One in memcached's words
/// is left as it is.
pub fn write_error(out: &mut Vec<u8>, text: &[u8]) {
    let starts = |start: &[u8]| text.starts_with(start);
    match text {
        _ if starts(b"OOM ") => out.extend_from_slice(b"SERVER_ERROR out of memory storing object"),
        _ if starts(b"NOAUTH ") => out.extend_from_slice(b"CLIENT_ERROR unauthenticated"),
        _ if starts(b"ERR the value would be larger") || starts(b"ERR string exceeds") => {
            out.extend_from_slice(TOO_LARGE);
        }
        _ if starts(b"CLIENT_ERROR ") || starts(b"SERVER_ERROR ") || starts(b"ERROR") => push_line(out, text),
        _ => {
            out.extend_from_slice(b"SERVER_ERROR ");
            push_line(out, text.strip_prefix(b"ERR ").unwrap_or(text));
        }
    }
    out.extend_from_slice(b"\r\n");
}

fn push_line(out: &mut Vec<u8>, text: &[u8]) {
    out.extend(text.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_words_that_memcached_clients_know() {
        for (text, answer) in [
            (
                "OOM command not allowed when used memory > 'maxmemory'.",
                "SERVER_ERROR out of memory storing object\r\n",
            ),
            ("NOAUTH Authentication required.", "CLIENT_ERROR unauthenticated\r\n"),
            ("ERR a\r\nb", "SERVER_ERROR a  b\r\n"),
            ("NOPERM no", "SERVER_ERROR NOPERM no\r\n"),
            ("CLIENT_ERROR bad data chunk", "CLIENT_ERROR bad data chunk\r\n"),
        ] {
            let mut out = Vec::new();
            write_error(&mut out, text.as_bytes());
            assert_eq!(String::from_utf8(out).unwrap(), answer);
        }
    }
}
