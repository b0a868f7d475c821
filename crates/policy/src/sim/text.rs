//! Traces as text: CSV, and the output of MONITOR.
//!
//! CSV has a header that names its columns, in any order: `key` (or `object`, `obj_id`, `id`), and if known `size` (or
//! `obj_size`; or `key_size` and `value_size`, which are added), `time` (or `timestamp`; seconds), `op` (or `operation`;
//! `get` unless told) and `ttl` (seconds). Without a header the columns are time, key, size, op, ttl.
//!
//! MONITOR's lines become gets, sets and deletions of the keys of common commands; others are passed over. What a get
//! asks for has the size of the last set of its key, or the mean of those known.
//! Invariant: keys are numbered in order of first appearance, whatever they look like.

use super::trace::{Operation, Request, Trace, TraceError};
use std::collections::HashMap;
use std::io::BufRead;

/// Numbers keys.
#[derive(Default)]
struct Numbers {
    by_key: HashMap<Vec<u8>, u32>,
    /// The last size told of each.
    sizes: Vec<u32>,
}

impl Numbers {
    fn of(&mut self, key: &[u8]) -> u32 {
        if let Some(number) = self.by_key.get(key) {
            return *number;
        }
        let number = self.by_key.len() as u32;
        self.by_key.insert(key.to_vec(), number);
        self.sizes.push(0);
        number
    }

    fn last_size(&mut self, key: u32) -> &mut u32 {
        &mut self.sizes[key as usize]
    }
}

/// Where the columns are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Columns {
    key: usize,
    sizes: [Option<usize>; 2],
    time: Option<usize>,
    operation: Option<usize>,
    ttl: Option<usize>,
}

impl Columns {
    /// The columns a header names; `None` when the line is no header.
    fn named(line: &str) -> Option<Columns> {
        let names: Vec<String> = line.split(',').map(|name| name.trim().to_ascii_lowercase()).collect();
        let find = |words: &[&str]| names.iter().position(|name| words.contains(&name.as_str()));
        let whole = find(&["size", "obj_size", "object_size", "bytes"]);
        Some(Columns {
            key: find(&["key", "object", "obj_id", "object_id", "id"])?,
            sizes: match whole {
                Some(_) => [whole, None],
                None => [find(&["key_size"]), find(&["value_size"])],
            },
            time: find(&["time", "timestamp", "clock_time", "second"]),
            operation: find(&["op", "operation"]),
            ttl: find(&["ttl"]),
        })
    }

    const PLAIN: Columns =
        Columns { key: 1, sizes: [Some(2), None], time: Some(0), operation: Some(3), ttl: Some(4) };
}

fn number(text: Option<&str>, at: u64) -> Result<u32, TraceError> {
    let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else { return Ok(0) };
    let whole = text.split_once('.').map_or(text, |(whole, _)| whole);
    whole
        .parse::<u64>()
        .map(|value| value.min(u64::from(u32::MAX)) as u32)
        .map_err(|_| TraceError::Malformed(at, "a column that is not a number"))
}

fn operation(text: Option<&str>, at: u64) -> Result<Operation, TraceError> {
    let word = text.map(str::trim).unwrap_or_default().to_ascii_lowercase();
    match word.as_str() {
        "" | "get" | "gets" | "read" | "0" => Ok(Operation::Get),
        "set" | "add" | "replace" | "cas" | "append" | "prepend" | "incr" | "decr" | "write" | "1" => {
            Ok(Operation::Set)
        }
        "del" | "delete" | "2" => Ok(Operation::Delete),
        _ => Err(TraceError::Malformed(at, "an operation that is none of get, set, delete")),
    }
}

impl Trace {
    /// Reads CSV.
    pub fn parse_csv(input: impl BufRead) -> Result<Trace, TraceError> {
        let (mut numbers, mut trace) = (Numbers::default(), Trace::default());
        let (mut columns, mut start) = (None, None);
        for line in input.lines() {
            let line = line?;
            let at = trace.requests.len() as u64;
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let Some(columns) = columns else {
                columns = Some(Columns::named(&line).unwrap_or(Columns::PLAIN));
                if Columns::named(&line).is_none() {
                    trace.requests.push(csv_request(&line, Columns::PLAIN, &mut numbers, &mut start, at)?);
                }
                continue;
            };
            trace.requests.push(csv_request(&line, columns, &mut numbers, &mut start, at)?);
        }
        trace.keys = numbers.by_key.len() as u32;
        Ok(trace)
    }

    /// Reads the output of MONITOR.
    pub fn parse_monitor(input: impl BufRead) -> Result<Trace, TraceError> {
        let (mut numbers, mut trace, mut start) = (Numbers::default(), Trace::default(), None);
        for line in input.split(b'\n') {
            let line = line?;
            let Some((time, words)) = monitor_words(&line) else { continue };
            let second = (time - *start.get_or_insert(time)).min(u64::from(u32::MAX)) as u32;
            monitor_requests(&words, second, &mut numbers, &mut trace.requests);
        }
        trace.keys = numbers.by_key.len() as u32;
        fill_sizes(&mut trace);
        Ok(trace)
    }
}

fn csv_request(
    line: &str,
    columns: Columns,
    numbers: &mut Numbers,
    start: &mut Option<u32>,
    at: u64,
) -> Result<Request, TraceError> {
    let cells: Vec<&str> = line.split(',').collect();
    let cell = |column: Option<usize>| column.and_then(|column| cells.get(column)).copied();
    let Some(key) = cell(Some(columns.key)) else {
        return Err(TraceError::Malformed(at, "a line without a key"));
    };
    let [first, second] = columns.sizes.map(|column| number(cell(column), at));
    let time = number(cell(columns.time), at)?;
    Ok(Request {
        key: numbers.of(key.trim().as_bytes()),
        bytes: first?.saturating_add(second?),
        second: time.saturating_sub(*start.get_or_insert(time)),
        ttl_seconds: number(cell(columns.ttl), at)?,
        operation: operation(cell(columns.operation), at)?,
    })
}

/// The second and the words of a line; `None` for lines that are no command.
fn monitor_words(line: &[u8]) -> Option<(u64, Vec<Vec<u8>>)> {
    let line = line.strip_prefix(b"+").unwrap_or(line);
    let point = line.iter().position(|byte| *byte == b'.')?;
    let time = std::str::from_utf8(line.get(..point)?).ok()?.parse().ok()?;
    let from = line.iter().position(|byte| *byte == b'"')?;
    let (mut words, mut rest) = (Vec::new(), line.get(from..)?);
    while let Some(after) = rest.strip_prefix(b"\"") {
        let (word, left) = quoted(after)?;
        words.push(word);
        rest = left.strip_prefix(b" ").unwrap_or(left);
    }
    Some((time, words))
}

/// A quoted word from behind its first quote, and what follows it.
fn quoted(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut word = Vec::new();
    loop {
        let (first, after) = rest.split_first()?;
        rest = after;
        match first {
            b'"' => return Some((word, rest)),
            b'\\' => {
                let (kind, after) = rest.split_first()?;
                rest = after;
                match kind {
                    b'n' => word.push(b'\n'),
                    b'r' => word.push(b'\r'),
                    b't' => word.push(b'\t'),
                    b'a' => word.push(7),
                    b'b' => word.push(8),
                    b'x' => {
                        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
                        word.push(u8::from_str_radix(digits, 16).ok()?);
                        rest = rest.get(2..)?;
                    }
                    other => word.push(*other),
                }
            }
            other => word.push(*other),
        }
    }
}

/// Commands that read the value at their first key.
const READS: &[&str] = &[
    "get",
    "getex",
    "getrange",
    "strlen",
    "exists",
    "hget",
    "hgetall",
    "hmget",
    "hlen",
    "hexists",
    "lrange",
    "llen",
    "lindex",
    "smembers",
    "sismember",
    "scard",
    "zrange",
    "zscore",
    "zcard",
    "zrank",
    "xrange",
    "bitcount",
    "getbit",
];
/// Commands that store at their first key what their arguments hold.
const WRITES: &[&str] = &[
    "set", "setnx", "setex", "psetex", "getset", "append", "incr", "decr", "incrby", "hset", "hmset",
    "lpush", "rpush", "sadd", "zadd", "xadd", "setbit", "setrange",
];

fn monitor_requests(words: &[Vec<u8>], second: u32, numbers: &mut Numbers, requests: &mut Vec<Request>) {
    let Some((name, arguments)) = words.split_first() else { return };
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    let mut push = |key: &[u8], bytes: Option<usize>, ttl_seconds: u32, operation: Operation| {
        let key = numbers.of(key);
        let bytes = match bytes {
            Some(bytes) => {
                let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
                *numbers.last_size(key) = bytes;
                bytes
            }
            None => *numbers.last_size(key),
        };
        requests.push(Request { key, bytes, second, ttl_seconds, operation });
    };
    match name.as_str() {
        "mget" => arguments.iter().for_each(|key| push(key, None, 0, Operation::Get)),
        "del" | "unlink" => arguments.iter().for_each(|key| push(key, None, 0, Operation::Delete)),
        "mset" => {
            for pair in arguments.chunks(2) {
                if let [key, value] = pair {
                    push(key, Some(key.len() + value.len()), 0, Operation::Set);
                }
            }
        }
        name => {
            let Some(key) = arguments.first() else { return };
            if READS.contains(&name) {
                push(key, None, 0, Operation::Get);
            } else if WRITES.contains(&name) {
                let bytes = arguments.iter().map(Vec::len).sum();
                push(key, Some(bytes), ttl_of(name, arguments), Operation::Set);
            }
        }
    }
}

/// The time to live that a command on strings sets, in seconds.
fn ttl_of(name: &str, arguments: &[Vec<u8>]) -> u32 {
    let number = |text: Option<&Vec<u8>>| {
        text.and_then(|text| std::str::from_utf8(text).ok())
            .and_then(|text| text.parse::<u32>().ok())
            .unwrap_or(0)
    };
    match name {
        "setex" => number(arguments.get(1)),
        "psetex" => number(arguments.get(1)).div_ceil(1000),
        "set" => {
            let options = arguments.get(2..).unwrap_or_default();
            let at = |word: &[u8]| options.iter().position(|option| option.eq_ignore_ascii_case(word));
            match (at(b"EX"), at(b"PX")) {
                (Some(at), _) => number(options.get(at + 1)),
                (None, Some(at)) => number(options.get(at + 1)).div_ceil(1000),
                (None, None) => 0,
            }
        }
        _ => 0,
    }
}

/// Gives requests of unknown size the mean of those known.
fn fill_sizes(trace: &mut Trace) {
    let known = || trace.requests.iter().map(|request| u64::from(request.bytes)).filter(|bytes| *bytes > 0);
    let count = known().count() as u64;
    if count == 0 {
        return;
    }
    let mean = (known().sum::<u64>() / count).clamp(1, u64::from(u32::MAX)) as u32;
    for request in &mut trace.requests {
        if request.bytes == 0 {
            request.bytes = mean;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found_by_their_names() {
        let text = "clock_time, object, value_size, key_size, op, ttl\n100,x,30,1,get,0\n\n# note\n105,y,50,2,SET,60\n105.9,x,,,delete,\n";
        let trace = Trace::parse_csv(text.as_bytes()).unwrap();
        assert_eq!(trace.keys, 2);
        let request = |key, bytes, second, ttl_seconds, operation| Request {
            key,
            bytes,
            second,
            ttl_seconds,
            operation,
        };
        assert_eq!(
            trace.requests,
            [
                request(0, 31, 0, 0, Operation::Get),
                request(1, 52, 5, 60, Operation::Set),
                request(0, 0, 5, 0, Operation::Delete)
            ]
        );
    }

    #[test]
    fn without_a_header_columns_have_their_usual_places() {
        let trace = Trace::parse_csv("7,k,10\n9,k,10,get,5\n".as_bytes()).unwrap();
        assert_eq!((trace.requests.len(), trace.keys), (2, 1));
        assert_eq!((trace.requests[1].second, trace.requests[1].ttl_seconds), (2, 5));
        for bad in ["1,k,ten", "1,k,10,fly", "1"] {
            assert!(Trace::parse_csv(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn monitor_lines_become_requests() {
        let text = b"+OK\n1339518083.107412 [0 127.0.0.1:60866] \"set\" \"a\\x00\\\"b\" \"12345\" \"ex\" \"9\"\n\
            1339518084.9 [0 lua] \"GET\" \"a\\x00\\\"b\"\n1339518085.0 [0 127.0.0.1:1] \"mget\" \"c\" \"d\"\n\
            1339518086.0 [0 127.0.0.1:1] \"ping\"\n1339518087.0 [0 127.0.0.1:1] \"del\" \"c\"\n1339518087.0 [0 x] \"cut";
        let trace = Trace::parse_monitor(&text[..]).unwrap();
        let seen: Vec<_> =
            trace.requests.iter().map(|r| (r.key, r.second, r.bytes, r.ttl_seconds, r.operation)).collect();
        assert_eq!(
            seen,
            [
                (0, 0, 12, 9, Operation::Set),
                (0, 1, 12, 0, Operation::Get),
                (1, 2, 12, 0, Operation::Get),
                (2, 2, 12, 0, Operation::Get),
                (1, 4, 12, 0, Operation::Delete)
            ]
        );
    }
}
