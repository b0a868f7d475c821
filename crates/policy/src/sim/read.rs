//! Reads a trace of whatever form it has: KVT1, CSV or the output of MONITOR, compressed with zstd or not.
//! The form is told from the contents. Read next: `trace.rs`, `csv.rs`, `monitor.rs`.

use super::csv::Columns;
use super::monitor::is_monitor;
use super::trace::{RECORD_BYTES, Trace, TraceError, WINDOW_LOG_MAX};
use std::fmt;
use std::io::{self, BufReader, Cursor, Read as _};

/// How a trace is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Binary records.
    Kvt1,
    /// Comma-separated values.
    Csv,
    /// Commands as a server shows them.
    Monitor,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Kvt1 => "KVT1",
            Format::Csv => "CSV",
            Format::Monitor => "output of MONITOR",
        })
    }
}

/// A trace, and what there is to say of how it was written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// The requests.
    pub trace: Trace,
    /// What it was.
    pub format: Format,
    /// Commands that touch no value.
    pub passed_over: u64,
}

const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const GZIP: &[u8] = &[0x1f, 0x8b];
/// What is looked at to tell forms apart: some lines.
const LOOK: usize = 4096;
const BUFFER: usize = 1 << 20;

impl Trace {
    /// Reads a trace. With `columns` it is CSV without a header.
    pub fn read(mut input: impl io::Read, columns: Option<Columns>) -> Result<Read, TraceError> {
        let start = beginning(&mut input, ZSTD.len())?;
        if start.starts_with(GZIP) {
            let what = "compressed with gzip, which is not read here; try: zcat FILE | larder sim -";
            return Err(TraceError::Io(io::Error::new(io::ErrorKind::InvalidData, what)));
        }
        let is_compressed = start == ZSTD;
        let input = BufReader::with_capacity(BUFFER, Cursor::new(start).chain(input));
        if !is_compressed {
            return read_plain(input, columns);
        }
        let mut decoder = zstd::Decoder::with_buffer(input)?;
        decoder.window_log_max(WINDOW_LOG_MAX)?;
        read_plain(BufReader::with_capacity(BUFFER, decoder), columns)
    }
}

/// The first bytes, so many if there are.
fn beginning(input: &mut impl io::Read, bytes: usize) -> io::Result<Vec<u8>> {
    let mut start = Vec::with_capacity(bytes);
    input.by_ref().take(bytes as u64).read_to_end(&mut start)?;
    Ok(start)
}

/// Reads what is not compressed.
fn read_plain(mut input: impl io::Read, columns: Option<Columns>) -> Result<Read, TraceError> {
    let start = beginning(&mut input, LOOK)?;
    let format = format_of(&start, columns.is_some());
    let mut input = BufReader::new(Cursor::new(start).chain(input));
    let (trace, passed_over) = match format {
        Format::Kvt1 => (Trace::parse_kvt1(&mut input, usize::MAX)?, 0),
        Format::Csv => (Trace::parse_csv(input, columns)?, 0),
        Format::Monitor => Trace::parse_monitor(input)?,
    };
    if trace.requests.is_empty() {
        return Err(TraceError::Empty);
    }
    Ok(Read { trace, format, passed_over })
}

/// The first record of KVT1 is of key 0, whose number is eight zero bytes; texts have none.
fn format_of(start: &[u8], has_columns: bool) -> Format {
    let record = start.get(..RECORD_BYTES.min(start.len())).unwrap_or_default();
    match () {
        () if has_columns => Format::Csv,
        () if record.contains(&0) => Format::Kvt1,
        () if is_monitor(start) => Format::Monitor,
        () => Format::Csv,
    }
}

/// Any bytes are a trace or an error. Keys of a trace are dense and in order of appearance; as CSV and as KVT1 it is
/// read back as it was.
pub fn fuzz_trace(data: &[u8]) {
    use super::trace::Operation;
    use std::fmt::Write as _;

    if data.starts_with(ZSTD) {
        // What a few bytes decompress to may be very much; that is zstd's.
        return;
    }
    let Ok(Read { trace, .. }) = Trace::read(data, None) else { return };
    let (mut keys, mut csv, mut binary) = (0, String::from("key,size,time,ttl,op\n"), Vec::new());
    for request in &trace.requests {
        assert!(request.key <= keys, "keys appear in order");
        keys = keys.max(request.key + 1);
        let (word, code) = match request.operation {
            Operation::Get => ("get", 0),
            Operation::Set => ("set", 1),
            Operation::Delete => ("del", 2),
            Operation::Update => ("update", 3),
            Operation::Expire => ("expire", 3),
        };
        let (bytes, second, ttl) = (request.bytes, request.second, request.ttl_seconds);
        let _ = writeln!(csv, "\"k,{}\",{bytes},{second},{ttl},{word}", request.key);
        binary.extend_from_slice(&u64::from(request.key).to_le_bytes());
        for number in [bytes, second, ttl, code] {
            binary.extend_from_slice(&number.to_le_bytes());
        }
    }
    assert_eq!(keys, trace.keys, "all keys appear");
    let first = trace.requests.first().map_or(0, |request| request.second);
    let is_whole = trace.requests.iter().all(|request| request.bytes > 0 && request.second >= first);
    let again = Trace::read(csv.as_bytes(), None).map(|read| read.trace);
    assert!(again.is_ok(), "{again:?}");
    // Unknown sizes are filled in, and times begin at 0.
    if is_whole && first == 0 {
        assert_eq!(again.ok().as_ref(), Some(&trace));
    }
    let is_plain =
        |request: &super::trace::Request| !matches!(request.operation, Operation::Update | Operation::Expire);
    if trace.requests.iter().all(is_plain) {
        let again = Trace::read(&binary[..], None).map(|read| (read.trace, read.format));
        assert_eq!(again.ok(), Some((trace, Format::Kvt1)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn format(data: &[u8]) -> Format {
        Trace::read(data, None).unwrap().format
    }

    #[test]
    fn forms_are_told_from_the_contents_compressed_or_not() {
        let csv = b"time,key,size\n1,a,10\n".to_vec();
        let monitor = b"OK\n1.0 [0 127.0.0.1:1] \"get\" \"a\"\n".to_vec();
        let mut kvt1 = vec![0; RECORD_BYTES];
        kvt1[8] = 10;
        for (plain, expected) in [(csv, Format::Csv), (monitor, Format::Monitor), (kvt1, Format::Kvt1)] {
            assert_eq!(format(&plain), expected);
            assert_eq!(format(&zstd::encode_all(&plain[..], 3).unwrap()), expected);
        }
    }

    #[test]
    fn columns_that_are_named_are_believed() {
        let columns = Columns::named("op,key,size");
        let read = Trace::read(&b"set,1.0 [0 a:1] \"x,4\n"[..], columns).unwrap();
        assert_eq!((read.format, read.trace.requests[0].bytes), (Format::Csv, 4));
    }

    #[test]
    fn what_is_no_trace_says_so() {
        let empty = Trace::read(&b""[..], None).unwrap_err().to_string();
        assert_eq!(empty, "there is no request in the trace");
        assert!(matches!(Trace::read(&b"OK\n"[..], None), Err(TraceError::Empty)));
        let gzip = Trace::read(&b"\x1f\x8b\x08\x00"[..], None).unwrap_err().to_string();
        assert!(gzip.contains("zcat FILE | larder sim -"), "{gzip}");
        let cut = Trace::read(&[0; 30][..], None).unwrap_err().to_string();
        assert!(cut.starts_with("record 2: ") && cut.contains("cut off"), "{cut}");
        let mut broken = zstd::encode_all(&[0; 4800][..], 3).unwrap();
        broken.truncate(12);
        assert!(Trace::read(&broken[..], None).is_err());
    }

    #[test]
    fn a_pipe_that_gives_a_byte_at_a_time_is_read_too() {
        struct Slow<'a>(&'a [u8]);
        impl io::Read for Slow<'_> {
            fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
                let end = out.len().min(1);
                self.0.read(out.get_mut(..end).unwrap_or_default())
            }
        }
        let mut text = Vec::new();
        for at in 0..2000 {
            writeln!(text, "{at}.5 [0 127.0.0.1:1] \"get\" \"key {}\"", at % 7).unwrap();
        }
        let packed = zstd::encode_all(&text[..], 3).unwrap();
        let read = Trace::read(Slow(&packed), None).unwrap();
        assert_eq!((read.trace.requests.len(), read.trace.keys), (2000, 7));
    }
}
