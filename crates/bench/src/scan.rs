//! The least a server must do to a request: find its end and count its arguments. Nothing is copied or kept but a
//! header cut by the end of a read. Invariant: any split of the stream gives the same requests.
//! Read next: `null.rs`.

/// What was received is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// The place in the stream of one connection.
#[derive(Debug, Default)]
pub(crate) struct Scanner {
    arguments: u64,
    arguments_left: u64,
    payload_left: u64,
    partial_line: Vec<u8>,
}

const LINE_BYTES_MAX: usize = 64 * 1024;

impl Scanner {
    /// Calls `request` with the number of arguments of each request that `data` completes.
    #[inline]
    pub(crate) fn scan(&mut self, data: &[u8], mut request: impl FnMut(u64)) -> Result<(), Malformed> {
        let mut rest = data;
        if self.payload_left > 0 {
            rest = self.skip(rest, &mut request);
        }
        if !self.partial_line.is_empty() && !rest.is_empty() {
            rest = self.finish_line(rest, &mut request)?;
        }
        while !rest.is_empty() {
            let Some((line, after)) = split_line(rest) else {
                self.partial_line.extend_from_slice(rest);
                break;
            };
            self.line(line, &mut request)?;
            rest = after;
            if self.payload_left > 0 {
                rest = self.skip(rest, &mut request);
            }
        }
        Ok(())
    }

    #[cold]
    fn finish_line<'d>(
        &mut self,
        data: &'d [u8],
        request: &mut impl FnMut(u64),
    ) -> Result<&'d [u8], Malformed> {
        let Some((line, after)) = split_line(data) else {
            self.partial_line.extend_from_slice(data);
            return if self.partial_line.len() > LINE_BYTES_MAX { Err(Malformed) } else { Ok(&[]) };
        };
        let mut whole = std::mem::take(&mut self.partial_line);
        whole.extend_from_slice(line);
        self.line(&whole, request)?;
        Ok(self.skip(after, request))
    }

    #[inline]
    fn line(&mut self, line: &[u8], request: &mut impl FnMut(u64)) -> Result<(), Malformed> {
        if self.arguments_left > 0 {
            let length = length(line, b'$').ok_or(Malformed)?;
            self.payload_left = length + 2;
            return Ok(());
        }
        if line.first() == Some(&b'*') {
            self.arguments = length(line, b'*').ok_or(Malformed)?;
            self.arguments_left = self.arguments;
            return Ok(());
        }
        let words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).count();
        if words > 0 {
            request(words as u64);
        }
        Ok(())
    }

    #[inline]
    fn skip<'d>(&mut self, data: &'d [u8], request: &mut impl FnMut(u64)) -> &'d [u8] {
        let skipped = usize::try_from(self.payload_left).unwrap_or(usize::MAX).min(data.len());
        self.payload_left -= skipped as u64;
        if self.payload_left == 0 && skipped > 0 {
            self.arguments_left -= 1;
            if self.arguments_left == 0 {
                request(self.arguments);
            }
        }
        data.get(skipped..).unwrap_or_default()
    }
}

/// Splits after the first LF. Headers are a few bytes long: a plain loop beats a vectorised search.
#[inline]
fn split_line(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let newline = data.iter().position(|&byte| byte == b'\n')?;
    Some(data.split_at(newline + 1))
}

/// The number in a header line of the given kind.
#[inline]
fn length(line: &[u8], kind: u8) -> Option<u64> {
    let digits = line.strip_suffix(b"\r\n")?;
    let (&first, digits) = digits.split_first()?;
    if first != kind || digits.is_empty() || digits.len() > 10 {
        return None;
    }
    let mut value = 0u64;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value * 10 + u64::from(digit - b'0');
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] =
        b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\nPING\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$7\r\n*1\r\n$4\r\n\r\n\
        \r\n*1\r\n$4\r\nPING\r\n*2\r\n$1\r\na\r\n$0\r\n\r\n  get x \r\n";

    fn scanned(parts: &[&[u8]]) -> Vec<u64> {
        let mut scanner = Scanner::default();
        let mut found = Vec::new();
        for part in parts {
            scanner.scan(part, |arguments| found.push(arguments)).unwrap();
        }
        found
    }

    #[test]
    fn requests_are_the_same_under_every_split() {
        let expected = [2, 1, 3, 1, 2, 2];
        assert_eq!(scanned(&[STREAM]), expected);
        assert_eq!(scanned(&STREAM.chunks(1).collect::<Vec<_>>()), expected);
        for first in 0..STREAM.len() {
            for second in first..STREAM.len() {
                let parts = [&STREAM[..first], &STREAM[first..second], &STREAM[second..]];
                assert_eq!(scanned(&parts), expected, "cut at {first} and {second}");
            }
        }
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for stream in [&b"*x\r\n"[..], b"*1\r\n:4\r\n", b"*1\r\n$-1\r\n", b"*99999999999\r\n", b"*1\n"] {
            assert_eq!(Scanner::default().scan(stream, |_| ()), Err(Malformed), "{stream:?}");
        }
    }
}
