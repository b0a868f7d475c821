//! Traces as comma-separated values.
//!
//! A header names the columns, in any order: `key` (or `object`, `obj_id`, `id`), and if known `size` (or `obj_size`; or
//! `key_size` and `value_size`, which are added), `time` (or `timestamp`), `op` (or `operation`; `get` unless told) and
//! `ttl` (seconds). Without a header the columns are time, key, size, op, ttl, unless the caller names others.
//! Cells may stand in quotes. Times are seconds; those too large for that are milli-, micro- or nanoseconds.
//! Invariant: keys are numbered in order of first appearance, whatever they look like.

use super::keys::Keys;
use super::trace::{Operation, Request, Trace, TraceError};
use std::borrow::Cow;
use std::io::BufRead;

/// Where the columns are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Columns {
    key: usize,
    sizes: [Option<usize>; 2],
    time: Option<usize>,
    operation: Option<usize>,
    ttl: Option<usize>,
}

impl Columns {
    /// Those of a trace that names none.
    const PLAIN: Columns =
        Columns { key: 1, sizes: [Some(2), None], time: Some(0), operation: Some(3), ttl: Some(4) };

    /// The columns a header names; `None` when none of them is the key.
    #[must_use]
    pub fn named(line: &str) -> Option<Columns> {
        let names: Vec<String> = line.split(',').map(|name| unquoted(name).to_ascii_lowercase()).collect();
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
}

fn unquoted(cell: &str) -> &str {
    cell.trim().trim_matches('"').trim()
}

/// The cells of a line.
fn cells(line: &str) -> Result<Vec<Cow<'_, str>>, &'static str> {
    let mut cells = Vec::new();
    let mut rest = line;
    loop {
        let Some(quoted) = rest.trim_start().strip_prefix('"') else {
            match rest.split_once(',') {
                Some((cell, after)) => {
                    cells.push(Cow::Borrowed(cell.trim()));
                    rest = after;
                    continue;
                }
                None => {
                    cells.push(Cow::Borrowed(rest.trim()));
                    return Ok(cells);
                }
            }
        };
        let (cell, after) = quoted_cell(quoted)?;
        cells.push(Cow::Owned(cell));
        match after.trim_start().strip_prefix(',') {
            Some(after) => rest = after,
            None if after.trim().is_empty() => return Ok(cells),
            None => return Err("something follows a closing quote; double the quotes inside a cell"),
        }
    }
}

/// A cell from behind its first quote, and what follows it.
fn quoted_cell(mut rest: &str) -> Result<(String, &str), &'static str> {
    let mut cell = String::new();
    loop {
        let Some((part, after)) = rest.split_once('"') else {
            return Err("a quote that is not closed in its line");
        };
        cell.push_str(part);
        match after.strip_prefix('"') {
            Some(after) => {
                cell.push('"');
                rest = after;
            }
            None => return Ok((cell, after)),
        }
    }
}

/// A number without sign; digits behind a point are dropped. Nothing is 0.
fn number(text: &str, column: &str) -> Result<u64, String> {
    let whole = text.split_once('.').map_or(text, |(whole, _)| whole);
    if text.is_empty() {
        return Ok(0);
    }
    whole.parse().map_err(|_| {
        format!("the {column} is '{text}', which is no number; name the columns with a header or --columns")
    })
}

fn operation(word: &str) -> Result<Operation, String> {
    match word.to_ascii_lowercase().as_str() {
        "" | "get" | "gets" | "read" | "0" => Ok(Operation::Get),
        "set" | "add" | "replace" | "cas" | "write" | "1" => Ok(Operation::Set),
        "append" | "prepend" | "incr" | "decr" | "update" => Ok(Operation::Update),
        "expire" | "touch" => Ok(Operation::Expire),
        "del" | "delete" | "2" => Ok(Operation::Delete),
        _ => Err(format!("the operation is '{word}'; there are get, set, update, expire and delete")),
    }
}

/// In how many parts of a second a time is told that cannot be seconds since 1970.
fn parts_of_second(time: u64) -> u64 {
    match time {
        0..100_000_000_000 => 1,
        100_000_000_000..100_000_000_000_000 => 1_000,
        100_000_000_000_000..100_000_000_000_000_000 => 1_000_000,
        _ => 1_000_000_000,
    }
}

/// What is known while lines are read.
struct Reader {
    columns: Columns,
    keys: Keys,
    start: Option<u64>,
    requests: Vec<Request>,
}

impl Reader {
    fn read(&mut self, line: &str) -> Result<(), String> {
        let cells = cells(line)?;
        let cell = |column: Option<usize>| {
            column.and_then(|column| cells.get(column)).map_or("", |cell| cell.as_ref())
        };
        let Some(key) = cells.get(self.columns.key) else {
            return Err(format!(
                "{} column{}, and the key stands in the {}th; name the columns with a header or --columns",
                cells.len(),
                if cells.len() == 1 { "" } else { "s" },
                self.columns.key + 1
            ));
        };
        let time = number(cell(self.columns.time), "time")?;
        let [first, second] = self.columns.sizes.map(|column| number(cell(column), "size"));
        let bytes = u32::try_from(first?.saturating_add(second?)).unwrap_or(u32::MAX);
        let ttl = number(cell(self.columns.ttl), "ttl")?;
        let operation = operation(cell(self.columns.operation))?;
        let start = *self.start.get_or_insert(time);
        let seconds = time.saturating_sub(start) / parts_of_second(start);
        let key = self.keys.number(key.as_bytes());
        self.requests.push(Request {
            key,
            bytes,
            second: u32::try_from(seconds).unwrap_or(u32::MAX),
            ttl_seconds: u32::try_from(ttl).unwrap_or(u32::MAX),
            operation,
        });
        Ok(())
    }
}

impl Trace {
    /// Reads CSV; with `columns`, without a header.
    pub fn parse_csv(input: impl BufRead, columns: Option<Columns>) -> Result<Trace, TraceError> {
        let mut reader = Reader {
            columns: columns.unwrap_or(Columns::PLAIN),
            keys: Keys::default(),
            start: None,
            requests: Vec::new(),
        };
        let mut is_first = columns.is_none();
        for (at, line) in (1..).zip(input.split(b'\n')) {
            let line = line?;
            // What is no UTF-8 still names keys apart as far as it can be read.
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches('\r').trim_start_matches('\u{feff}');
            if line.trim().is_empty() || line.starts_with("# ") {
                continue;
            }
            if std::mem::take(&mut is_first) {
                if let Some(columns) = Columns::named(line) {
                    reader.columns = columns;
                    continue;
                }
                is_plain(line).map_err(|what| TraceError::in_line(at, what))?;
            }
            reader.read(line).map_err(|what| TraceError::in_line(at, what))?;
        }
        Ok(reader.keys.into_trace(reader.requests))
    }
}

/// Whether a first line without names has the columns that are supposed then.
fn is_plain(line: &str) -> Result<(), String> {
    let cells = cells(line)?;
    let is_timed = cells.first().is_some_and(|cell| number(cell, "time").is_ok());
    if cells.len() > 1 && is_timed {
        return Ok(());
    }
    Err("neither a line of MONITOR, nor a header that names a column 'key', nor 'time,key,size,op,ttl'; \
         name the columns with a header or --columns"
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn csv(text: &str) -> Result<Trace, TraceError> {
        Trace::parse_csv(text.as_bytes(), None)
    }

    fn request(key: u32, bytes: u32, second: u32, ttl_seconds: u32, operation: Operation) -> Request {
        Request { key, bytes, second, ttl_seconds, operation }
    }

    #[test]
    fn columns_are_found_by_their_names() {
        let text = "clock_time, object, value_size, key_size, op, ttl\r\n100,x,30,1,get,0\r\n\n# note\n105,y,50,2,SET,60\n105.9,x,,,delete,\n";
        let trace = csv(text).unwrap();
        let expected = [
            request(0, 31, 0, 0, Operation::Get),
            request(1, 52, 5, 60, Operation::Set),
            request(0, 0, 5, 0, Operation::Delete),
        ];
        assert_eq!((trace.keys, trace.requests), (2, expected.to_vec()));
    }

    #[test]
    fn without_a_header_columns_have_their_usual_places_or_those_that_are_named() {
        let trace = csv("7,k,10\n9,k,10,get,5\n").unwrap();
        let expected = [request(0, 10, 0, 0, Operation::Get), request(0, 10, 2, 5, Operation::Get)];
        assert_eq!(trace.requests, expected);
        // The columns of Twitter's published traces.
        let columns = Columns::named("time,key,key_size,value_size,client,op,ttl").unwrap();
        let text = "3,nz:u,5,200,17,add,60\n4,nz:u,5,200,17,get,0\n";
        let trace = Trace::parse_csv(text.as_bytes(), Some(columns)).unwrap();
        let expected = [request(0, 205, 0, 60, Operation::Set), request(0, 205, 1, 0, Operation::Get)];
        assert_eq!(trace.requests, expected);
        assert_eq!(Columns::named("time,name,size"), None);
    }

    #[test]
    fn cells_may_be_quoted() {
        let trace = csv("key,size\n\"a,b\",1\na,2\n \"a,b\" ,3\n\"say \"\"a\"\"\",4\n").unwrap();
        let keys: Vec<_> = trace.requests.iter().map(|request| (request.key, request.bytes)).collect();
        assert_eq!(keys, [(0, 1), (1, 2), (0, 3), (2, 4)]);
    }

    #[test]
    fn times_may_be_finer_than_seconds() {
        for (first, second) in [
            ("1700000000", "1700000007"),
            ("1700000000123", "1700000007200"),
            ("1700000000123456", "1700000007123457"),
            ("1700000000123456789", "1700000007123456789"),
        ] {
            let trace = csv(&format!("time,key\n{first},a\n{second},a\n")).unwrap();
            assert_eq!(trace.requests[1].second, 7, "{second}");
        }
    }

    #[test]
    fn errors_name_the_line_and_the_way_out() {
        for (text, line, words) in [
            ("time,key,size\n1,k,ten\n", 2, "'ten'"),
            ("1,k,10\n\n1,k,10,fly\n", 3, "'fly'; there are get"),
            ("key,size\n\"k,1\n", 2, "quote"),
            ("size,key\n4\n", 2, "1 column, and the key stands in the 2th"),
            ("hello\n", 1, "--columns"),
            ("user,item\n", 1, "--columns"),
            ("1,k,-5\n", 1, "'-5'"),
            ("1,k,5\n1,\"k\"x,5\n", 2, "closing quote"),
        ] {
            let error = csv(text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("line {line}: ")) && error.contains(words), "{error}");
        }
    }
}
