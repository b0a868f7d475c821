//! Carries keys to other servers for MIGRATE, on threads of its own: no worker waits for a network.
//!
//! A few threads are started as transfers ask for them and end after a while without work. A
//! connection to a target is kept for as long, since keys are mostly moved in many small steps.
//!
//! Read next: `commands/migrate.rs`, which says what is carried and removes what has arrived.

use crate::clock;
use crate::server::Server;
use larder_persist::rdb;
use larder_store::Millis;
use parking_lot::{Condvar, Mutex};
use std::collections::{HashMap, VecDeque};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Transfers at a time; others wait their turn.
const THREADS_MAX: usize = 4;
/// How long an unused thread or connection is kept.
const KEPT: Duration = Duration::from_secs(10);
/// Connections kept, at most.
const LINKS_MAX: usize = 64;
/// Bytes put together before they are sent.
const CHUNK_BYTES: usize = 64 * 1024;
/// Longest line a target may answer, in bytes.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// A value on its way.
#[derive(Debug)]
pub enum Cargo {
    /// A copy.
    Own(Vec<u8>),
    /// A large string, shared with its key.
    Shared(Arc<Vec<u8>>),
    /// A collection, as DUMP answers it.
    Payload(Vec<u8>),
}

impl Cargo {
    /// The bytes of a string, or the payload of a collection.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Cargo::Own(bytes) | Cargo::Payload(bytes) => bytes,
            Cargo::Shared(bytes) => bytes,
        }
    }

    /// Appends what RESTORE takes.
    fn write_payload(&self, out: &mut Vec<u8>) {
        match self {
            Cargo::Own(bytes) => rdb::dump_string_for_any(bytes, out),
            Cargo::Shared(bytes) => rdb::dump_string_for_any(bytes, out),
            Cargo::Payload(bytes) => out.extend_from_slice(bytes),
        }
    }
}

/// A key on its way.
#[derive(Debug)]
pub struct Parcel {
    /// The key.
    pub key: Vec<u8>,
    /// Its value.
    pub cargo: Cargo,
    /// When it ends, if it does.
    pub deadline: Option<Millis>,
}

/// What is to be carried where.
#[derive(Debug)]
pub struct Order {
    /// Name or address of the target.
    pub host: Vec<u8>,
    /// Its port.
    pub port: u16,
    /// The target's database.
    pub db: i64,
    /// How long each step may take.
    pub timeout: Duration,
    /// Whether keys of the target are overwritten.
    pub replace: bool,
    /// The words behind AUTH that open the target.
    pub credentials: Vec<Vec<u8>>,
    /// The keys.
    pub parcels: Vec<Parcel>,
}

/// What became of an order.
#[derive(Debug, Default)]
pub struct Report {
    /// Which parcels the target has taken, by position.
    pub taken: Vec<usize>,
    /// The error to answer, its code first.
    pub error: Option<Vec<u8>>,
}

/// What is done once an order has been carried out.
pub type Then = Box<dyn FnOnce(Order, Report) + Send>;

/// The threads and connections that carry.
#[derive(Default)]
pub struct Transfers {
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(Order, Then)>,
    threads: usize,
    idle: usize,
    links: HashMap<(Vec<u8>, u16), Link>,
}

/// Why a transfer got stuck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Connecting,
    Writing { timed_out: bool },
    Reading { timed_out: bool },
}

impl Trouble {
    fn text(self) -> &'static [u8] {
        match self {
            Trouble::Connecting => b"IOERR error or timeout connecting to the client",
            Trouble::Writing { .. } => b"IOERR error or timeout writing to target instance",
            Trouble::Reading { .. } => b"IOERR error or timeout reading from target instance",
        }
    }

    /// Whether a new connection may do better, as when the target closed one that was kept.
    fn is_worth_another_try(self) -> bool {
        matches!(self, Trouble::Writing { timed_out: false } | Trouble::Reading { timed_out: false })
    }
}

impl Transfers {
    /// Carries `order` out on another thread, then calls `then` there. Answers false where the
    /// system gives no thread for it.
    pub fn start(&'static self, server: &'static Server, order: Order, then: Then) -> bool {
        let mut state = self.state.lock();
        if state.idle <= state.waiting.len() && state.threads < THREADS_MAX {
            let thread = std::thread::Builder::new().name("larder-migrate".into());
            if thread.spawn(move || self.work(server)).is_ok() {
                state.threads += 1;
            } else if state.threads == 0 {
                return false;
            }
        }
        state.waiting.push_back((order, then));
        drop(state);
        self.arrived.notify_one();
        true
    }

    fn work(&self, server: &'static Server) {
        while let Some((order, then)) = self.next() {
            let report = self.carry(server, &order);
            then(order, report);
        }
    }

    /// The next order; `None` after a while without one.
    fn next(&self) -> Option<(Order, Then)> {
        let mut state = self.state.lock();
        loop {
            if let Some(next) = state.waiting.pop_front() {
                return Some(next);
            }
            state.idle += 1;
            let waited = self.arrived.wait_for(&mut state, KEPT);
            state.idle -= 1;
            let now = clock::now();
            state.links.retain(|_, link| link.is_fresh(now));
            if waited.timed_out() && state.waiting.is_empty() {
                state.threads -= 1;
                return None;
            }
        }
    }

    fn carry(&self, server: &Server, order: &Order) -> Report {
        let mut report = Report::default();
        for is_last in [false, true] {
            let trouble = match self.link(order) {
                Ok(mut link) => match link.carry(order, &mut report) {
                    Ok(()) if link.leads_to(server) => {
                        // Redis, which waits for itself then, gets no answer in time.
                        report.taken.clear();
                        Trouble::Reading { timed_out: true }
                    }
                    Ok(()) => {
                        self.keep(order, link);
                        return report;
                    }
                    Err(trouble) => trouble,
                },
                Err(trouble) => trouble,
            };
            if report.error.is_some()
                || (is_last || !report.taken.is_empty() || !trouble.is_worth_another_try())
            {
                report.error.get_or_insert_with(|| trouble.text().to_vec());
                return report;
            }
        }
        report
    }

    /// A connection to the order's target: one that was kept, or a new one.
    fn link(&self, order: &Order) -> Result<Link, Trouble> {
        let kept = self.state.lock().links.remove(&(order.host.clone(), order.port));
        let link = match kept {
            Some(link) if link.is_fresh(clock::now()) => link,
            _ => Link { stream: BufReader::new(connect(order)?), db: None, used: clock::now() },
        };
        let stream = link.stream.get_ref();
        let timeout = Some(order.timeout);
        match stream.set_read_timeout(timeout).and_then(|()| stream.set_write_timeout(timeout)) {
            Ok(()) => Ok(link),
            Err(_) => Err(Trouble::Connecting),
        }
    }

    fn keep(&self, order: &Order, mut link: Link) {
        link.used = clock::now();
        let mut state = self.state.lock();
        if state.links.len() < LINKS_MAX {
            state.links.insert((order.host.clone(), order.port), link);
        }
    }
}

fn connect(order: &Order) -> Result<TcpStream, Trouble> {
    let host = std::str::from_utf8(&order.host).map_err(|_| Trouble::Connecting)?;
    let addresses = (host, order.port).to_socket_addrs().map_err(|_| Trouble::Connecting)?;
    let mut trouble = Trouble::Connecting;
    for address in addresses {
        match TcpStream::connect_timeout(&address, order.timeout) {
            Ok(stream) => {
                // Small replies are waited for; without it they would be slower, not wrong.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) if is_timeout(&error) => {}
            // Redis notices a refusal when it writes.
            Err(_) => trouble = Trouble::Writing { timed_out: false },
        }
    }
    Err(trouble)
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock)
}

/// A connection to a target.
struct Link {
    stream: BufReader<TcpStream>,
    /// The target's database that is selected, where that is known.
    db: Option<i64>,
    used: Instant,
}

impl Link {
    fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.used) < KEPT
    }

    /// Whether the other end is a client of our own.
    fn leads_to(&self, server: &Server) -> bool {
        let stream = self.stream.get_ref();
        let (Ok(ours), Ok(theirs)) = (stream.local_addr(), stream.peer_addr()) else { return false };
        let (ours, theirs) = (ours.to_string(), theirs.to_string());
        server.clients.all().iter().any(|client| client.address == ours && client.local_address == theirs)
    }

    /// Sends everything, then reads all answers.
    fn carry(&mut self, order: &Order, report: &mut Report) -> Result<(), Trouble> {
        let selects = self.db != Some(order.db);
        let sent =
            self.send(order, selects).map_err(|error| Trouble::Writing { timed_out: is_timeout(&error) })?;
        self.receive(order, selects, &sent, report)
            .map_err(|error| Trouble::Reading { timed_out: is_timeout(&error) })?;
        self.db = report.error.is_none().then_some(order.db);
        Ok(())
    }

    /// Answers which parcels were sent: the others have ended meanwhile.
    fn send(&mut self, order: &Order, selects: bool) -> io::Result<Vec<usize>> {
        let (mut out, mut sent) = (Vec::new(), Vec::new());
        if !order.credentials.is_empty() {
            let words: Vec<&[u8]> = order.credentials.iter().map(Vec::as_slice).collect();
            request(&mut out, b"AUTH", &words);
        }
        if selects {
            request(&mut out, b"SELECT", &[order.db.to_string().as_bytes()]);
        }
        let now = clock::unix_millis();
        let mut payload = Vec::new();
        for (index, parcel) in order.parcels.iter().enumerate() {
            let ttl = match parcel.deadline {
                None => 0,
                Some(deadline) if deadline < now => continue,
                Some(deadline) => (deadline.0 - now.0).max(1),
            };
            sent.push(index);
            payload.clear();
            parcel.cargo.write_payload(&mut payload);
            let ttl = ttl.to_string();
            let words: [&[u8]; 4] = [&parcel.key, ttl.as_bytes(), &payload, b"REPLACE"];
            let count = if order.replace { 4 } else { 3 };
            request(&mut out, b"RESTORE", words.get(..count).unwrap_or_default());
            if out.len() >= CHUNK_BYTES {
                self.stream.get_mut().write_all(&out)?;
                out.clear();
            }
        }
        self.stream.get_mut().write_all(&out)?;
        Ok(sent)
    }

    fn receive(
        &mut self,
        order: &Order,
        selects: bool,
        sent: &[usize],
        report: &mut Report,
    ) -> io::Result<()> {
        let mut refusal = None;
        for _ in 0..usize::from(!order.credentials.is_empty()) + usize::from(selects) {
            let line = self.line()?;
            if line.first() == Some(&b'-') {
                refusal.get_or_insert(line);
            }
        }
        for index in sent {
            let line = self.line()?;
            let is_refused = line.first() == Some(&b'-');
            if let Some(line) = refusal.as_ref().or(is_refused.then_some(&line)) {
                let mut text = b"ERR Target instance replied with error: ".to_vec();
                text.extend_from_slice(line.get(1..).unwrap_or_default());
                report.error.get_or_insert(text);
            } else {
                report.taken.push(*index);
            }
        }
        Ok(())
    }

    /// A status or an error, without the end of its line. Anything else comes from no server of the
    /// kind, and must not pass for success: the key would be removed here.
    fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        self.stream.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        match line.first() {
            Some(b'+' | b'-') => Ok(line),
            _ => Err(ErrorKind::InvalidData.into()),
        }
    }
}

/// Appends a request.
fn request(out: &mut Vec<u8>, name: &[u8], words: &[&[u8]]) {
    out.extend_from_slice(format!("*{}\r\n", words.len() + 1).as_bytes());
    for word in std::iter::once(&name).chain(words) {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}
