//! Traces: requests in order, and KVT1, the binary form of them.
//!
//! KVT1 is one zstd frame (window up to 2^27 bytes) of 24-byte little-endian records: u64 key id (dense from 0, in
//! order of first appearance), u32 object size in bytes (0 is unknown), u32 seconds from the start, u32 TTL in seconds
//! (0 is none), u8 operation (0 get, 1 set, 2 delete), three zero bytes.
//! Invariant: keys of a [`Trace`] are dense from 0 in order of first appearance. Read next: `read.rs`, `replay.rs`.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

/// The largest window that compressed traces may ask for.
pub(super) const WINDOW_LOG_MAX: u32 = 27;
/// The length of a KVT1 record in bytes.
pub const RECORD_BYTES: usize = 24;

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Look-aside: a miss is followed by a SET.
    Get,
    /// Stores the object.
    Set,
    /// Removes it.
    Delete,
    /// Stores the object, and leaves the end of one that is there as it is. Not in KVT1.
    Update,
    /// Sets when an object ends that is there. Not in KVT1.
    Expire,
}

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Dense from 0.
    pub key: u32,
    /// Key and value together; 0 is unknown.
    pub bytes: u32,
    /// Seconds from the start of the trace.
    pub second: u32,
    /// 0 is none.
    pub ttl_seconds: u32,
    /// What it does.
    pub operation: Operation,
}

impl Request {
    /// The second at which the object ends; `u32::MAX` when it does not.
    #[must_use]
    pub fn end(&self) -> u32 {
        if self.ttl_seconds == 0 { u32::MAX } else { self.second.saturating_add(self.ttl_seconds) }
    }
}

/// Why a trace cannot be read.
#[derive(Debug)]
pub enum TraceError {
    /// The file cannot be read.
    Io(io::Error),
    /// The contents are not what they should be: where, and what is wrong.
    Malformed(Place, String),
    /// There is no request in it.
    Empty,
}

/// Where in a trace, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a text.
    Line(u64),
    /// In KVT1.
    Record(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Line(at) => write!(f, "line {at}"),
            Place::Record(at) => write!(f, "record {at}"),
        }
    }
}

impl TraceError {
    pub(super) fn in_line(at: u64, what: impl Into<String>) -> Self {
        TraceError::Malformed(Place::Line(at), what.into())
    }

    /// In the record behind so many others.
    fn in_record(index: u64, what: &str) -> Self {
        TraceError::Malformed(Place::Record(index + 1), what.to_owned())
    }
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TraceError::Io(error) => write!(f, "cannot read the trace: {error}"),
            TraceError::Malformed(place, what) => write!(f, "{place}: {what}"),
            TraceError::Empty => f.write_str("there is no request in the trace"),
        }
    }
}

impl std::error::Error for TraceError {}

impl From<io::Error> for TraceError {
    fn from(error: io::Error) -> Self {
        TraceError::Io(error)
    }
}

/// A whole trace in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// In order.
    pub requests: Vec<Request>,
    /// One more than the largest key.
    pub keys: u32,
}

impl Trace {
    /// Reads a KVT1 file, at most `limit` requests of it.
    pub fn read_kvt1(path: &Path, limit: usize) -> Result<Trace, TraceError> {
        Trace::parse_kvt1(&mut open_kvt1(path)?, limit)
    }

    /// Reads KVT1 records that are decompressed already.
    pub(super) fn parse_kvt1(input: &mut impl Read, limit: usize) -> Result<Trace, TraceError> {
        let mut trace = Trace::default();
        while trace.requests.len() < limit
            && let Some(record) = next_record(input, trace.requests.len() as u64)?
        {
            let at = trace.requests.len() as u64;
            trace.push(parse_record(&record, at)?, at)?;
        }
        Ok(trace)
    }

    fn push(&mut self, request: Request, at: u64) -> Result<(), TraceError> {
        if request.key > self.keys {
            return Err(TraceError::in_record(at, "a key id that skips others"));
        }
        self.keys = self.keys.max(request.key + 1);
        self.requests.push(request);
        Ok(())
    }

    /// Whether any request tells a size.
    #[must_use]
    pub fn has_sizes(&self) -> bool {
        self.requests.iter().any(|request| request.bytes > 0)
    }

    /// The same requests with every object of size one, so that objects are counted.
    #[must_use]
    pub fn with_unit_sizes(&self) -> Trace {
        let one = |request: &Request| Request { bytes: 1, ..*request };
        Trace { requests: self.requests.iter().map(one).collect(), keys: self.keys }
    }

    /// The sum over keys of their last size; an unknown size counts one.
    #[must_use]
    pub fn footprint(&self) -> u64 {
        let mut sizes = vec![1u32; self.keys as usize];
        for request in &self.requests {
            if request.bytes > 0
                && let Some(size) = sizes.get_mut(request.key as usize)
            {
                *size = request.bytes;
            }
        }
        sizes.iter().map(|size| u64::from(*size)).sum()
    }

    /// For each request, the index of the next one for the same key; `u32::MAX` when there is none.
    #[must_use]
    pub fn next_uses(&self) -> Vec<u32> {
        let mut last = vec![u32::MAX; self.keys as usize];
        let mut next = vec![u32::MAX; self.requests.len()];
        for (index, request) in self.requests.iter().enumerate().rev() {
            if let (Some(next), Some(last)) = (next.get_mut(index), last.get_mut(request.key as usize)) {
                *next = *last;
                *last = index as u32;
            }
        }
        next
    }
}

fn parse_record(bytes: &[u8; RECORD_BYTES], at: u64) -> Result<Request, TraceError> {
    let [k0, k1, k2, k3, k4, k5, k6, k7, s0, s1, s2, s3, t0, t1, t2, t3, l0, l1, l2, l3, op, z0, z1, z2] =
        *bytes;
    let operation = match op {
        0 => Operation::Get,
        1 => Operation::Set,
        2 => Operation::Delete,
        _ => {
            return Err(TraceError::in_record(
                at,
                "an operation that is none of get (0), set (1), delete (2); the file is no KVT1",
            ));
        }
    };
    if [z0, z1, z2] != [0; 3] {
        return Err(TraceError::in_record(at, "its last three bytes are not zero; the file is no KVT1"));
    }
    let Ok(key) = u32::try_from(u64::from_le_bytes([k0, k1, k2, k3, k4, k5, k6, k7])) else {
        return Err(TraceError::in_record(at, "a key id beyond 32 bits"));
    };
    Ok(Request {
        key,
        bytes: u32::from_le_bytes([s0, s1, s2, s3]),
        second: u32::from_le_bytes([t0, t1, t2, t3]),
        ttl_seconds: u32::from_le_bytes([l0, l1, l2, l3]),
        operation,
    })
}

/// The decompressed records of a KVT1 file.
pub fn open_kvt1(path: &Path) -> Result<impl Read, TraceError> {
    let mut decoder = zstd::Decoder::new(File::open(path)?)?;
    decoder.window_log_max(WINDOW_LOG_MAX)?;
    Ok(BufReader::with_capacity(1 << 20, decoder))
}

/// The bytes of the record number `at`; `None` at a clean end.
pub fn next_record(input: &mut impl Read, at: u64) -> Result<Option<[u8; RECORD_BYTES]>, TraceError> {
    let mut bytes = [0; RECORD_BYTES];
    let mut filled = 0;
    while filled < RECORD_BYTES {
        match input.read(bytes.get_mut(filled..).unwrap_or_default())? {
            0 if filled == 0 => return Ok(None),
            0 => {
                return Err(TraceError::in_record(
                    at,
                    "the trace ends within the record; the file is cut off, or no KVT1",
                ));
            }
            read => filled += read,
        }
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(key: u64, size: u32, ttl: u32, operation: u8) -> Vec<u8> {
        let mut bytes = key.to_le_bytes().to_vec();
        bytes.extend(size.to_le_bytes());
        bytes.extend(77u32.to_le_bytes());
        bytes.extend(ttl.to_le_bytes());
        bytes.extend([operation, 0, 0, 0]);
        bytes
    }

    #[test]
    fn a_compressed_trace_is_read_back() {
        let plain = [encoded(0, 500, 30, 0), encoded(1, 0, 0, 1), encoded(0, 300, 0, 2)].concat();
        let path = std::env::temp_dir().join(format!("larder-policy-trace-{}", std::process::id()));
        std::fs::write(&path, zstd::encode_all(&plain[..], 3).unwrap()).unwrap();
        let trace = Trace::read_kvt1(&path, usize::MAX).unwrap();
        let two = Trace::read_kvt1(&path, 2).unwrap();
        std::fs::remove_file(path).unwrap();
        let request =
            |key, bytes, ttl_seconds, operation| Request { key, bytes, second: 77, ttl_seconds, operation };
        let expected = [
            request(0, 500, 30, Operation::Get),
            request(1, 0, 0, Operation::Set),
            request(0, 300, 0, Operation::Delete),
        ];
        assert_eq!(trace.requests, expected);
        assert_eq!((trace.keys, two.requests.len()), (2, 2));
    }

    #[test]
    fn what_is_no_trace_is_refused() {
        let mut cut = encoded(0, 1, 1, 0);
        cut.push(1);
        let after = [encoded(0, 1, 1, 0), vec![9; 24]].concat();
        for bytes in [cut, encoded(0, 1, 1, 3), encoded(5, 1, 1, 0), encoded(1 << 40, 1, 1, 0), after] {
            assert!(Trace::parse_kvt1(&mut &bytes[..], usize::MAX).is_err());
        }
        assert!(Trace::read_kvt1(Path::new("/nonexistent"), 1).is_err());
    }
}
