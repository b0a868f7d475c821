//! KVT1 traces: one zstd frame (window up to 2^27 bytes) of 24-byte little-endian records in request order.
//! A record: u64 key id (dense from 0, in order of first appearance), u32 object size in bytes (key and value; 0 is
//! unknown), u32 seconds from the start, u32 TTL in seconds (0 is none), u8 operation (0 get, 1 set, 2 delete), three
//! zero bytes. Invariant: a file that is cut or has another operation is refused. Read next: `replay.rs`.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

/// The length of a record in bytes.
pub(crate) const RECORD_BYTES: usize = 24;

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Look-aside: a miss is followed by a SET.
    Get,
    Set,
    Delete,
}

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) key: u64,
    /// Key and value together; 0 is unknown.
    pub(crate) object_bytes: u32,
    pub(crate) ttl_seconds: u32,
    pub(crate) operation: Operation,
}

impl Record {
    fn parse(bytes: &[u8; RECORD_BYTES]) -> Result<Record> {
        let word = |at: usize| {
            let mut word = [0; 4];
            word.copy_from_slice(bytes.get(at..at + 4).unwrap_or(&[0; 4]));
            u32::from_le_bytes(word)
        };
        let operation = match bytes.get(20) {
            Some(0) => Operation::Get,
            Some(1) => Operation::Set,
            Some(2) => Operation::Delete,
            other => bail!("operation {other:?} is none of get, set, delete: is this a KVT1 trace?"),
        };
        ensure!(
            bytes.ends_with(&[0, 0, 0]),
            "the last three bytes of a record are zero: is this a KVT1 trace?"
        );
        Ok(Record {
            key: u64::from(word(0)) | u64::from(word(4)) << 32,
            object_bytes: word(8),
            ttl_seconds: word(16),
            operation,
        })
    }
}

/// A whole trace in memory.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    pub(crate) records: Vec<Record>,
    /// One more than the largest key id.
    pub(crate) keys: u64,
}

/// The value's size where the trace does not know it.
pub(crate) const VALUE_BYTES_UNKNOWN: u32 = 100;

impl Trace {
    /// Reads the trace at `path`, at most `limit` records of it.
    pub(crate) fn read(path: &Path, limit: Option<usize>) -> Result<Trace> {
        let mut input = open(path)?;
        Trace::parse(&mut input, limit.unwrap_or(usize::MAX)).with_context(|| path.display().to_string())
    }

    fn parse(input: &mut impl Read, limit: usize) -> Result<Trace> {
        let mut trace = Trace { records: Vec::new(), keys: 0 };
        while trace.records.len() < limit
            && let Some(bytes) = next_record(input)?
        {
            let record = Record::parse(&bytes)?;
            ensure!(record.key <= trace.keys, "key {} appears before key {}", record.key, trace.keys);
            trace.keys = trace.keys.max(record.key + 1);
            trace.records.push(record);
        }
        Ok(trace)
    }

    /// The bytes of all keys and values, each key with its last size.
    pub(crate) fn footprint_bytes(&self, key_bytes: usize) -> u64 {
        let mut sizes = vec![0u64; usize::try_from(self.keys).unwrap_or(0)];
        for record in &self.records {
            let size = key_bytes as u64 + value_bytes(record, key_bytes) as u64;
            if let Some(place) = usize::try_from(record.key).ok().and_then(|key| sizes.get_mut(key)) {
                *place = size;
            }
        }
        sizes.iter().sum()
    }
}

/// The length of the value that stands for a record's object.
pub(crate) fn value_bytes(record: &Record, key_bytes: usize) -> usize {
    match record.object_bytes {
        0 => VALUE_BYTES_UNKNOWN as usize,
        bytes => (bytes as usize).saturating_sub(key_bytes).max(1),
    }
}

/// The decompressed records of the trace at `path`.
pub(crate) fn open(path: &Path) -> Result<impl Read> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut decoder = zstd::Decoder::new(file).context("not a zstd frame")?;
    decoder.window_log_max(27).context("zstd refuses the window")?;
    Ok(BufReader::with_capacity(1 << 20, decoder))
}

/// The next record's bytes; `None` at a clean end.
pub(crate) fn next_record(input: &mut impl Read) -> Result<Option<[u8; RECORD_BYTES]>> {
    let mut bytes = [0; RECORD_BYTES];
    let mut filled = 0;
    while filled < RECORD_BYTES {
        let room = bytes.get_mut(filled..).unwrap_or_default();
        match input.read(room).context("the trace is damaged")? {
            0 if filled == 0 => return Ok(None),
            0 => bail!("the trace ends within a record"),
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
        let mut plain = encoded(0, 500, 30, 0);
        plain.extend(encoded(1, 0, 0, 1));
        plain.extend(encoded(0, 300, 0, 2));
        let path = std::env::temp_dir().join(format!("larder-bench-trace-{}", std::process::id()));
        std::fs::write(&path, zstd::encode_all(&plain[..], 3).unwrap()).unwrap();
        let trace = Trace::read(&path, None).unwrap();
        let two = Trace::read(&path, Some(2)).unwrap();
        std::fs::remove_file(path).unwrap();
        let record =
            |key, object_bytes, ttl_seconds, operation| Record { key, object_bytes, ttl_seconds, operation };
        assert_eq!(
            trace.records,
            [
                record(0, 500, 30, Operation::Get),
                record(1, 0, 0, Operation::Set),
                record(0, 300, 0, Operation::Delete)
            ]
        );
        assert_eq!((trace.keys, two.records.len()), (2, 2));
        assert_eq!(trace.footprint_bytes(16), 300 + 116);
        assert_eq!(value_bytes(&trace.records[0], 16), 484);
        assert_eq!(value_bytes(&record(0, 5, 0, Operation::Get), 16), 1);
    }

    #[test]
    fn what_is_no_trace_is_refused() {
        let mut cut = encoded(0, 1, 1, 0);
        cut.push(1);
        for bytes in
            [cut, encoded(0, 1, 1, 3), encoded(5, 1, 1, 0), [encoded(0, 1, 1, 0), vec![9; 24]].concat()]
        {
            assert!(Trace::parse(&mut &bytes[..], usize::MAX).is_err());
        }
        assert!(Trace::read(Path::new("/nonexistent"), None).is_err());
    }
}
