//! Sends the same to both servers and says whether they agree.
//! Invariant: after a sequence the data is compared too, and a sequence leaves nothing behind for the next.
//! Read next: `agree.rs` says which replies agree.

use super::Request;
use super::agree::{self, Verdict};
use super::grammar::{Grammar, is_subscription};
use super::lines;
use crate::client::Client;
use crate::value::{Value, quote};
use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

/// What is sent between the requests of a sequence that subscribes, and not by the sequence itself.
const MARKER: &[u8] = b"marker of the test";
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
        // It looks for waits that are over as often as this; ten times a second would take most of the time.
        judge.right.client(2)?.run("CONFIG SET hz 500")?;
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
            match agree::verdict(grammar, request, sequence.get(index + 1), [ours, theirs], &mut kept) {
                Verdict::Agree => continue,
                Verdict::Diverge => return Ok(None),
                Verdict::Differ => {}
            }
            let length = index + 1;
            let description = format!(
                "the reference answers\n{}\nthe server under test\n{}",
                theirs.notation().join("\n"),
                ours.notation().join("\n")
            );
            let reference = reference.iter().take(length).cloned().collect();
            return Ok(Some(Mismatch { length, description, reference, probe: Vec::new() }));
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

    /// Runs a sequence on the emptied server; the answer is one reply a request.
    fn play(&mut self, protocol: u8, sequence: &[Request]) -> io::Result<Vec<Value>> {
        let client = self.client(protocol)?;
        client.run("FLUSHALL")?;
        let replies = if sequence.iter().any(is_subscription) {
            play_with_markers(client, sequence)?
        } else {
            client.pipeline(sequence)?
        };
        // A transaction that is still open, watches and subscriptions end with the sequence.
        client.run("RESET")?;
        client.run(&format!("HELLO {protocol}"))?;
        if sequence.iter().any(|request| agree::full_name(request) == "config|set") {
            client.run(lines::DEFAULTS)?;
        }
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
                "string" => agree::without_footer(client.command(&[b"DUMP".as_slice(), &key])?),
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
        && agree::agree_on_time(&ours.expiry, &theirs.expiry, agree::TOLERANCE_MS)
}

/// Sends requests of which some have no reply, or several: what comes before the marker's reply belongs together.
fn play_with_markers(client: &mut Client, sequence: &[Request]) -> io::Result<Vec<Value>> {
    let marker = Value::Bulk(MARKER.to_vec());
    let mut all = Vec::new();
    for request in sequence {
        client.send(request)?;
        client.send(&[b"PING", MARKER])?;
        let mut replies = Vec::new();
        loop {
            let reply = client.read()?;
            // PING answers by two words where the connection has subscriptions and speaks RESP2.
            if reply == marker || reply.items().is_some_and(|items| items.len() == 2 && items[1] == marker) {
                break;
            }
            replies.push(reply);
        }
        let only = if replies.len() == 1 { replies.pop() } else { None };
        all.push(only.unwrap_or(Value::Push(replies)));
    }
    Ok(all)
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
