//! Sends the same to both servers and says whether they agree.
//! Invariant: replies must be equal to the byte but for what time and file versions decide: times to
//! live within a tolerance, DUMP without its footer, and orders that mean nothing.

use super::Request;
use super::grammar::Grammar;
use crate::client::Client;
use crate::value::{Value, quote};
use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

/// How far apart two times to live may be.
const TOLERANCE_MS: u64 = 3000;
/// Version and checksum at the end of a DUMP.
const DUMP_FOOTER_BYTES: usize = 10;
/// Databases that are compared; the grammar selects no others.
const DATABASES: [&str; 3] = ["0", "1", "2"];
/// How often, and how far apart, the sizes of values are asked for until they agree.
const SIZES_ATTEMPTS: usize = 40;
const SIZES_PAUSE: Duration = Duration::from_millis(100);

/// Two servers.
pub struct Judge {
    left: Side,
    right: Side,
    protocol: u8,
}

struct Side {
    address: String,
    /// A connection for RESP2 and one for RESP3.
    clients: BTreeMap<u8, Client>,
}

/// Where two servers disagree.
pub struct Mismatch {
    /// How many requests it takes to see it.
    pub length: usize,
    /// What differs.
    pub description: String,
    /// The reference server's replies to those requests and to the probe.
    pub reference: Vec<Value>,
    /// Requests that show a difference of data after the sequence.
    pub probe: Vec<Request>,
}

impl Judge {
    /// Connects to both.
    pub fn connect(left: &str, right: &str) -> io::Result<Self> {
        let side = |address: &str| Side { address: address.to_owned(), clients: BTreeMap::new() };
        let mut judge = Self { left: side(left), right: side(right), protocol: 2 };
        judge.left.client(2)?;
        judge.right.client(2)?;
        Ok(judge)
    }

    /// The protocol version for what follows.
    pub fn use_protocol(&mut self, protocol: u8) {
        self.protocol = protocol;
    }

    /// Asks the server under test something, outside of a sequence.
    pub fn ask_left(&mut self, line: &str) -> io::Result<Value> {
        self.left.client(2)?.run(line)
    }

    /// Asks the reference server something, outside of a sequence.
    pub fn ask_right(&mut self, line: &str) -> io::Result<Value> {
        self.right.client(2)?.run(line)
    }

    /// Runs a sequence on both servers, emptied, and finds the first difference.
    pub fn differs(&mut self, grammar: &Grammar, sequence: &[Request]) -> io::Result<Option<Mismatch>> {
        let reference = self.right.play(self.protocol, sequence)?;
        let seen = match self.left.play(self.protocol, sequence) {
            Ok(seen) => seen,
            // The connection broke: some prefix is enough to break it, which shrinking finds.
            Err(error) => {
                self.left.clients.clear();
                let description = format!("the server under test fails: {error}");
                let (length, probe) = (sequence.len(), Vec::new());
                return Ok(Some(Mismatch { length, description, reference, probe }));
            }
        };
        let mut kept: Vec<&Request> = Vec::new();
        for (index, (request, (ours, theirs))) in sequence.iter().zip(seen.iter().zip(&reference)).enumerate()
        {
            if !agree_in_transaction(grammar, request, ours, theirs, &mut kept) {
                let length = index + 1;
                let description = format!(
                    "the reference answers\n{}\nthe server under test\n{}",
                    theirs.notation().join("\n"),
                    ours.notation().join("\n")
                );
                let reference = reference.iter().take(length).cloned().collect();
                return Ok(Some(Mismatch { length, description, reference, probe: Vec::new() }));
            }
        }
        if let Some(mismatch) = self.data_differs(sequence.len(), &reference)? {
            return Ok(Some(mismatch));
        }
        // Redis does not count what these make of an empty string.
        let uncounted = |request: &Request| {
            request.first().is_some_and(|name| {
                [&b"setbit"[..], b"bitfield"].iter().any(|word| name.eq_ignore_ascii_case(word))
            })
        };
        if sequence.iter().any(uncounted) { Ok(None) } else { self.sizes_differ(sequence.len(), reference) }
    }

    /// Compares how large the servers say that values are, with patience for what is about to end.
    fn sizes_differ(&mut self, length: usize, mut reference: Vec<Value>) -> io::Result<Option<Mismatch>> {
        let request: Vec<Vec<u8>> = vec![b"INFO".to_vec(), b"keysizes".to_vec()];
        for _ in 0..SIZES_ATTEMPTS {
            let ours = self.left.client(self.protocol)?.command(&request)?;
            let theirs = self.right.client(self.protocol)?.command(&request)?;
            if ours == theirs {
                return Ok(None);
            }
            std::thread::sleep(SIZES_PAUSE);
        }
        reference.push(self.right.client(self.protocol)?.command(&request)?);
        let description = "the sizes of values are counted otherwise".to_owned();
        Ok(Some(Mismatch { length, description, reference, probe: vec![request] }))
    }

    fn data_differs(&mut self, length: usize, reference: &[Value]) -> io::Result<Option<Mismatch>> {
        for database in DATABASES {
            let ours = self.left.data(self.protocol, database)?;
            let theirs = self.right.data(self.protocol, database)?;
            let different = |key: &&Vec<u8>| !agree_on_entry(ours.get(*key), theirs.get(*key));
            let Some(key) = ours.keys().chain(theirs.keys()).find(different) else { continue };
            let show =
                |entry: Option<&Entry>| entry.map_or("no such key".to_owned(), |entry| format!("{entry:?}"));
            let description = format!(
                "database {database}, key {}: the reference has {}, the server under test {}",
                quote(key),
                show(theirs.get(key)),
                show(ours.get(key))
            );
            let words = |words: &[&[u8]]| words.iter().map(|word| word.to_vec()).collect::<Request>();
            let probe = vec![
                words(&[b"SELECT", database.as_bytes()]),
                words(&[b"DUMP", key]),
                words(&[b"PEXPIRETIME", key]),
            ];
            let mut reference = reference.to_vec();
            for request in &probe {
                reference.push(self.right.client(self.protocol)?.command(request)?);
            }
            return Ok(Some(Mismatch { length, description, reference, probe }));
        }
        Ok(None)
    }
}

impl Side {
    fn client(&mut self, protocol: u8) -> io::Result<&mut Client> {
        if !self.clients.contains_key(&protocol) {
            self.clients.insert(protocol, Client::connect_with(&self.address, protocol)?);
        }
        Ok(self.clients.get_mut(&protocol).expect("it was just inserted"))
    }

    fn play(&mut self, protocol: u8, sequence: &[Request]) -> io::Result<Vec<Value>> {
        let client = self.client(protocol)?;
        client.run("SELECT 0")?;
        client.run("FLUSHALL")?;
        let replies = client.pipeline(sequence)?;
        // A transaction that is still open, and watches, end with the sequence.
        client.run("DISCARD")?;
        client.run("UNWATCH")?;
        Ok(replies)
    }

    /// Everything in a database, found by SCAN.
    fn data(&mut self, protocol: u8, database: &str) -> io::Result<BTreeMap<Vec<u8>, Entry>> {
        let client = self.client(protocol)?;
        client.command(&["SELECT", database])?;
        let mut data = BTreeMap::new();
        for key in scan(client)? {
            let kind = client.command(&[b"TYPE".as_slice(), &key])?.text();
            let value = match kind.as_str() {
                "string" => without_footer(client.command(&[b"DUMP".as_slice(), &key])?),
                _ => client.command(&[b"DEBUG".as_slice(), b"DIGEST-VALUE", &key])?,
            };
            let expiry = client.command(&[b"PEXPIRETIME".as_slice(), &key])?;
            data.insert(key, Entry { kind, value, expiry });
        }
        Ok(data)
    }
}

/// What a key holds.
#[derive(Debug)]
struct Entry {
    kind: String,
    value: Value,
    expiry: Value,
}

fn agree_on_entry(ours: Option<&Entry>, theirs: Option<&Entry>) -> bool {
    let (Some(ours), Some(theirs)) = (ours, theirs) else { return false };
    ours.kind == theirs.kind
        && ours.value == theirs.value
        && agree_on_time(&ours.expiry, &theirs.expiry, TOLERANCE_MS)
}

/// Like [`agree`], for a sequence with transactions: `kept` are the requests that wait for EXEC.
fn agree_in_transaction<'r>(
    grammar: &Grammar,
    request: &'r Request,
    ours: &Value,
    theirs: &Value,
    kept: &mut Vec<&'r Request>,
) -> bool {
    if theirs == &Value::Simple(b"QUEUED".to_vec()) {
        kept.push(request);
        return ours == theirs;
    }
    let name = request.first().map(|name| name.to_ascii_lowercase()).unwrap_or_default();
    if !matches!(name.as_slice(), b"exec" | b"discard") {
        return agree(grammar, request, ours, theirs);
    }
    let kept = std::mem::take(kept);
    match (ours, theirs) {
        (Value::Array(ours), Value::Array(theirs)) if [ours.len(), theirs.len()] == [kept.len(); 2] => kept
            .iter()
            .zip(ours.iter().zip(theirs))
            .all(|(request, (ours, theirs))| agree(grammar, request, ours, theirs)),
        _ => ours == theirs,
    }
}

fn agree(grammar: &Grammar, request: &Request, ours: &Value, theirs: &Value) -> bool {
    if ours == theirs {
        return true;
    }
    let name = request.first().map(|name| name.to_ascii_lowercase()).unwrap_or_default();
    match name.as_slice() {
        b"pttl" | b"pexpiretime" => agree_on_time(ours, theirs, TOLERANCE_MS),
        b"ttl" | b"expiretime" => agree_on_time(ours, theirs, TOLERANCE_MS / 1000),
        b"hpttl" | b"hpexpiretime" => agree_on_times(ours, theirs, TOLERANCE_MS),
        b"httl" | b"hexpiretime" => agree_on_times(ours, theirs, TOLERANCE_MS / 1000),
        // Streams tell when they were read, and what they hold is compared otherwise.
        b"dump" if is_dump_in_any_order(ours) => {
            let look = |value: &Value| value.bytes().map(|bytes| (bytes.first().copied(), bytes.len()));
            dump_type(ours) == Some(DUMP_OF_STREAM) && dump_type(theirs) == Some(DUMP_OF_STREAM)
                || look(ours) == look(theirs)
        }
        b"dump" => without_footer(ours.clone()) == without_footer(theirs.clone()),
        _ if grammar.is_unordered(request) => sorted(ours) == sorted(theirs),
        _ => false,
    }
}

/// The same for one time a field.
fn agree_on_times(ours: &Value, theirs: &Value, tolerance: u64) -> bool {
    match (ours.items(), theirs.items()) {
        (Some(ours), Some(theirs)) if ours.len() == theirs.len() => {
            ours.iter().zip(theirs).all(|(ours, theirs)| agree_on_time(ours, theirs, tolerance))
        }
        _ => ours == theirs,
    }
}

fn agree_on_time(ours: &Value, theirs: &Value, tolerance: u64) -> bool {
    match (ours.integer(), theirs.integer()) {
        // -1 and -2 say that there is no time or no key.
        (Some(ours), Some(theirs)) if ours >= 0 && theirs >= 0 => ours.abs_diff(theirs) <= tolerance,
        _ => ours == theirs,
    }
}

/// The type byte of a stream in DUMP's payload.
const DUMP_OF_STREAM: u8 = 21;

/// Type bytes of values that lie in a hash table's order: sets and hashes, with ends of fields and without.
const DUMPS_OF_TABLES: [u8; 3] = [2, 4, 24];

fn dump_type(value: &Value) -> Option<u8> {
    value.bytes().and_then(|bytes| bytes.first().copied())
}

fn is_dump_in_any_order(value: &Value) -> bool {
    dump_type(value).is_some_and(|kind| kind == DUMP_OF_STREAM || DUMPS_OF_TABLES.contains(&kind))
}

fn without_footer(dump: Value) -> Value {
    match dump {
        Value::Bulk(mut bytes) => {
            bytes.truncate(bytes.len().saturating_sub(DUMP_FOOTER_BYTES));
            Value::Bulk(bytes)
        }
        other => other,
    }
}

fn sorted(value: &Value) -> Value {
    let mut value = value.clone();
    value.sort();
    value
}

fn scan(client: &mut Client) -> io::Result<Vec<Vec<u8>>> {
    let mut keys = Vec::new();
    let mut cursor = b"0".to_vec();
    loop {
        let reply = client.command(&[b"SCAN".as_slice(), &cursor])?;
        let [Value::Bulk(next), Value::Array(found)] = reply.items().unwrap_or_default() else {
            return Err(io::Error::other(format!("SCAN: {:?}", reply.notation())));
        };
        keys.extend(found.iter().filter_map(|key| Some(key.bytes()?.to_vec())));
        if next == b"0" {
            return Ok(keys);
        }
        cursor = next.clone();
    }
}
