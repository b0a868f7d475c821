//! Replies, written and read as plainly as it goes.

use larder_values::number;

/// A reply.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    Integer(i64),
    Bulk(Vec<u8>),
    Status(Vec<u8>),
    Error(Vec<u8>),
    /// No string of RESP2.
    NoBulk,
    /// No array of RESP2.
    NoArray,
    Null,
    Bool(bool),
    Double(f64),
    Big(Vec<u8>),
    Verbatim([u8; 3], Vec<u8>),
    Array(Vec<Reply>),
    Map(Vec<(Reply, Reply)>),
    Set(Vec<Reply>),
}

/// Replies are the same that are written the same.
impl PartialEq for Reply {
    fn eq(&self, other: &Reply) -> bool {
        self.written() == other.written()
    }
}

impl Reply {
    /// Its bytes, in RESP3 and with the nulls of RESP2.
    pub(super) fn written(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut line = |kind: u8, text: &[u8]| {
            out.push(kind);
            out.extend_from_slice(text);
            out.extend_from_slice(b"\r\n");
        };
        let mut length = |kind: u8, len: usize| line(kind, len.to_string().as_bytes());
        match self {
            Reply::Integer(number) => line(b':', number.to_string().as_bytes()),
            Reply::Status(text) => line(b'+', text),
            Reply::Error(text) => line(b'-', text),
            Reply::NoBulk => line(b'$', b"-1"),
            Reply::NoArray => line(b'*', b"-1"),
            Reply::Null => line(b'_', b""),
            Reply::Bool(truth) => line(b'#', if *truth { b"t" } else { b"f" }),
            Reply::Big(text) => line(b'(', text),
            Reply::Double(number) => {
                let mut text = Vec::new();
                number::write_f64(&mut text, *number);
                line(b',', &text);
            }
            Reply::Bulk(text) => {
                length(b'$', text.len());
                out.extend([&text[..], b"\r\n"].concat());
            }
            Reply::Verbatim(format, text) => {
                length(b'=', text.len() + 4);
                out.extend([&format[..], b":", text, b"\r\n"].concat());
            }
            Reply::Array(replies) => {
                length(b'*', replies.len());
                replies.iter().for_each(|reply| reply.write(out));
            }
            Reply::Set(replies) => {
                length(b'~', replies.len());
                replies.iter().for_each(|reply| reply.write(out));
            }
            Reply::Map(pairs) => {
                length(b'%', pairs.len());
                for (key, value) in pairs {
                    key.write(out);
                    value.write(out);
                }
            }
        }
    }

    /// With maps and sets in an order that depends on nothing but what they hold.
    pub(super) fn sorted(self) -> Reply {
        match self {
            Reply::Array(replies) => Reply::Array(replies.into_iter().map(Reply::sorted).collect()),
            Reply::Set(replies) => {
                let mut replies: Vec<_> = replies.into_iter().map(Reply::sorted).collect();
                replies.sort_by_key(Reply::written);
                Reply::Set(replies)
            }
            Reply::Map(pairs) => {
                let sorted = pairs.into_iter().map(|(key, value)| (key.sorted(), value.sorted()));
                let mut pairs: Vec<_> = sorted.collect();
                pairs.sort_by_key(|(key, value)| (key.written(), value.written()));
                Reply::Map(pairs)
            }
            other => other,
        }
    }

    /// Reads bytes that are one reply and nothing else, and sorts it.
    pub(super) fn read_all(bytes: &[u8]) -> Option<Reply> {
        let mut rest = bytes;
        let reply = Reply::read(&mut rest)?;
        rest.is_empty().then(|| reply.sorted())
    }

    fn read(rest: &mut &[u8]) -> Option<Reply> {
        let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
        let (line, after) = (rest.get(..end)?, rest.get(end + 2..)?);
        let (&kind, head) = line.split_first()?;
        *rest = after;
        let text = || std::str::from_utf8(head).ok();
        let length = || text()?.parse::<usize>().ok();
        let mut take = |len: usize| {
            let bytes = rest.get(..len)?.to_vec();
            *rest = rest.get(len..)?.strip_prefix(b"\r\n")?;
            Some(bytes)
        };
        Some(match kind {
            b':' => Reply::Integer(text()?.parse().ok()?),
            b'+' => Reply::Status(head.to_vec()),
            b'-' => Reply::Error(head.to_vec()),
            b'_' => Reply::Null,
            b'#' => Reply::Bool(head == b"t"),
            b'(' => Reply::Big(head.to_vec()),
            b',' => Reply::Double(text()?.parse().ok()?),
            b'$' if head == b"-1" => Reply::NoBulk,
            b'*' if head == b"-1" => Reply::NoArray,
            b'$' => Reply::Bulk(take(length()?)?),
            b'=' => {
                let bytes = take(length()?)?;
                Reply::Verbatim(bytes.get(..3)?.try_into().ok()?, bytes.get(4..)?.to_vec())
            }
            b'*' => Reply::Array(Reply::read_many(rest, length()?)?),
            b'~' => Reply::Set(Reply::read_many(rest, length()?)?),
            b'%' => {
                let mut both = || Some((Reply::read(rest)?, Reply::read(rest)?));
                Reply::Map((0..length()?).map(|_| both()).collect::<Option<_>>()?)
            }
            _ => return None,
        })
    }

    fn read_many(rest: &mut &[u8], count: usize) -> Option<Vec<Reply>> {
        (0..count).map(|_| Reply::read(rest)).collect()
    }
}
