//! Replays a trace look-aside: GET; on a miss, SET the object with its size. Several connections, one request in
//! flight on each; requests start in the order of the trace, and one whose key is still in flight waits, so that the
//! requests of a key keep their order exactly and all others drift by no more than the number of connections.
//! Read next: `trace.rs`, `compare/trace_suite.rs`.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;

use crate::endpoint::Endpoint;
use crate::outcome::Latencies;
use crate::random::Random;
use crate::reply::{ReplyCounter, Tally};
use crate::template::{KeyShape, Protocol};
use crate::trace::value_bytes;
use larder_policy::sim::{Operation, Request};

/// The length of every key in a replay.
pub(crate) const KEY_BYTES: usize = 16;

/// What a replay found so far.
#[derive(Clone, Debug)]
pub(crate) struct Replayed {
    /// Requests of the trace, without the SETs after misses.
    pub(crate) requests: u64,
    pub(crate) gets: u64,
    pub(crate) misses: u64,
    pub(crate) errors: u64,
    pub(crate) error_first: Option<String>,
    /// The time spent replaying.
    pub(crate) elapsed: Duration,
    /// Every command, the SETs after misses too.
    pub(crate) latencies: Latencies,
}

/// A replay in progress; it goes on where it stopped.
pub(crate) struct Replay {
    epoll: OwnedFd,
    connections: Vec<Connection>,
    idle: Vec<usize>,
    shape: KeyShape,
    pool: Vec<u8>,
    random: Random,
    with_ttl: bool,
    protocol: Protocol,
    buffer: Vec<u8>,
    found: Replayed,
}

struct Connection {
    socket: OwnedFd,
    replies: ReplyCounter,
    current: Option<Current>,
    sent: Instant,
    unsent: Vec<u8>,
}

/// The request a connection is busy with.
#[derive(Clone, Copy)]
struct Current {
    record: Request,
    filling: bool,
}

const POOL_SPREAD_BYTES: usize = 64 * 1024;

impl Replay {
    /// Connects; `object_bytes_max` is the largest object of the trace.
    pub(crate) fn connect(
        endpoint: &Endpoint,
        connections: usize,
        keys: u32,
        object_bytes_max: u32,
        with_ttl: bool,
        protocol: Protocol,
    ) -> Result<Replay> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut opened = Vec::new();
        for index in 0..connections.max(1) {
            let socket = endpoint.connect_nonblocking()?;
            epoll::add(&epoll, &socket, EventData::new_u64(index as u64), EventFlags::IN)?;
            let replies = ReplyCounter::new(protocol);
            opened.push(Connection {
                socket,
                replies,
                current: None,
                sent: Instant::now(),
                unsent: Vec::new(),
            });
        }
        let mut random = Random::new(23);
        let pool_bytes = POOL_SPREAD_BYTES + (object_bytes_max as usize).max(256);
        Ok(Replay {
            epoll,
            idle: (0..opened.len()).collect(),
            connections: opened,
            shape: KeyShape::new("key:", u64::from(keys.max(1)), KEY_BYTES)?,
            pool: (0..pool_bytes).map(|_| b'a' + random.below(26) as u8).collect(),
            random,
            with_ttl,
            protocol,
            buffer: vec![0; 256 * 1024],
            found: Replayed {
                requests: 0,
                gets: 0,
                misses: 0,
                errors: 0,
                error_first: None,
                elapsed: Duration::ZERO,
                latencies: Latencies::new(),
            },
        })
    }

    /// Replays `records` and waits for the last answer.
    pub(crate) fn run(&mut self, records: &[Request]) -> Result<()> {
        let start = Instant::now();
        let mut left = records.iter();
        let mut next = left.next();
        while next.is_some() || self.idle.len() < self.connections.len() {
            while let Some(record) = next
                && !self.in_flight(record.key)
                && let Some(index) = self.idle.pop()
            {
                self.begin(index, Current { record: *record, filling: false })?;
                next = left.next();
            }
            self.turn()?;
        }
        self.found.elapsed += start.elapsed();
        Ok(())
    }

    /// What was found since the start.
    pub(crate) fn found(&self) -> &Replayed {
        &self.found
    }

    fn in_flight(&self, key: u32) -> bool {
        self.connections
            .iter()
            .any(|connection| connection.current.is_some_and(|busy| busy.record.key == key))
    }

    fn begin(&mut self, index: usize, current: Current) -> Result<()> {
        let request = self.request(&current);
        let Some(connection) = self.connections.get_mut(index) else { return Ok(()) };
        connection.current = Some(current);
        connection.sent = Instant::now();
        connection.unsent = request;
        self.flush(index)
    }

    fn request(&mut self, current: &Current) -> Vec<u8> {
        let record = &current.record;
        let name = self.shape.name(u64::from(record.key));
        let ttl = record.ttl_seconds.to_string();
        let stores = match record.operation {
            Operation::Get => current.filling,
            Operation::Set | Operation::Update => true,
            Operation::Delete | Operation::Expire => false,
        };
        let start = if stores {
            usize::try_from(self.random.below(POOL_SPREAD_BYTES as u64)).unwrap_or(0)
        } else {
            0
        };
        let value = self.pool.get(start..start + value_bytes(record, KEY_BYTES)).unwrap_or_default();
        let ends = self.with_ttl && record.ttl_seconds > 0;
        match (self.protocol, record.operation) {
            (Protocol::Memcached, Operation::Delete) => line(&[b"delete", &name]),
            (Protocol::Memcached, Operation::Expire) => line(&[b"touch", &name, ttl.as_bytes()]),
            (Protocol::Memcached, _) if stores => {
                let (seconds, len) = (if ends { &ttl[..] } else { "0" }, value.len().to_string());
                let head = line(&[b"set", &name, b"0", seconds.as_bytes(), len.as_bytes()]);
                [&head, value, b"\r\n"].concat()
            }
            (Protocol::Memcached, _) => line(&[b"get", &name]),
            (Protocol::Resp, Operation::Delete) => command(&[b"DEL", &name]),
            (Protocol::Resp, Operation::Expire) => command(&[b"EXPIRE", &name, ttl.as_bytes()]),
            (Protocol::Resp, Operation::Update) => command(&[b"SET", &name, value, b"KEEPTTL"]),
            (Protocol::Resp, _) if stores && ends => command(&[b"SET", &name, value, b"EX", ttl.as_bytes()]),
            (Protocol::Resp, _) if stores => command(&[b"SET", &name, value]),
            (Protocol::Resp, _) => command(&[b"GET", &name]),
        }
    }

    fn flush(&mut self, index: usize) -> Result<()> {
        let Some(connection) = self.connections.get_mut(index) else { return Ok(()) };
        match rustix::io::write(&connection.socket, &connection.unsent) {
            Ok(written) => drop(connection.unsent.drain(..written)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(error).context("writing to the server"),
        }
        let flags =
            if connection.unsent.is_empty() { EventFlags::IN } else { EventFlags::IN | EventFlags::OUT };
        if flags.contains(EventFlags::OUT) {
            epoll::modify(&self.epoll, &connection.socket, EventData::new_u64(index as u64), flags)?;
        }
        Ok(())
    }

    fn turn(&mut self) -> Result<()> {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(256);
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("epoll_wait"),
        }
        for event in &events {
            let index = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
            let flags = event.flags;
            if flags.contains(EventFlags::OUT) {
                self.flush_rest(index)?;
            }
            if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
                self.read(index)?;
            }
        }
        Ok(())
    }

    fn flush_rest(&mut self, index: usize) -> Result<()> {
        self.flush(index)?;
        let Some(connection) = self.connections.get_mut(index) else { return Ok(()) };
        if connection.unsent.is_empty() {
            epoll::modify(&self.epoll, &connection.socket, EventData::new_u64(index as u64), EventFlags::IN)?;
        }
        Ok(())
    }

    fn read(&mut self, index: usize) -> Result<()> {
        let Some(connection) = self.connections.get_mut(index) else { return Ok(()) };
        let bytes = match rustix::io::read(&connection.socket, &mut self.buffer[..]) {
            Ok(0) => bail!("the server closed a connection"),
            Ok(bytes) => bytes,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(error) => return Err(error).context("reading from the server"),
        };
        let mut tally = Tally::default();
        connection.replies.feed(self.buffer.get(..bytes).unwrap_or_default(), &mut tally)?;
        // A large value arrives in several reads; the part that says "absent" arrives with the reply's end.
        if tally.replies == 0 {
            return Ok(());
        }
        let elapsed = connection.sent.elapsed();
        let Some(current) = connection.current.take() else { bail!("a reply nobody asked for") };
        if self.found.error_first.is_none() {
            self.found.error_first = connection.replies.error_first().map(str::to_owned);
        }
        self.found.latencies.record(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX), 1);
        self.answered(index, current, &tally)
    }

    fn answered(&mut self, index: usize, current: Current, tally: &Tally) -> Result<()> {
        self.found.errors += tally.errors;
        if current.filling {
            self.idle.push(index);
            return Ok(());
        }
        self.found.requests += 1;
        if current.record.operation == Operation::Get {
            self.found.gets += 1;
            if tally.absent > 0 {
                self.found.misses += 1;
                return self.begin(index, Current { filling: true, ..current });
            }
        }
        self.idle.push(index);
        Ok(())
    }
}

/// A line of memcached's text protocol.
fn line(words: &[&[u8]]) -> Vec<u8> {
    [&words.join(&b' '), &b"\r\n"[..]].concat()
}

/// A command of Redis' protocol.
fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut request = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        request.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        request.extend_from_slice(word);
        request.extend_from_slice(b"\r\n");
    }
    request
}

impl Replayed {
    /// Misses divided by gets, the cold start included.
    pub(crate) fn miss_ratio(&self) -> f64 {
        self.misses as f64 / self.gets.max(1) as f64
    }

    /// Requests of the trace a second.
    pub(crate) fn per_second(&self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::{Arc, Mutex};

    type Stored = Arc<Mutex<HashMap<String, usize>>>;

    /// A server of a few lines: GET, SET, DEL on a shared map of value lengths.
    fn serve(stream: TcpStream, stored: &Stored) -> Option<()> {
        let mut input = BufReader::new(stream);
        let line = |input: &mut BufReader<TcpStream>| {
            let mut line = String::new();
            (input.read_line(&mut line).ok()? > 0).then(|| line.trim_end()[1..].parse::<usize>().ok())?
        };
        loop {
            let count = line(&mut input)?;
            let mut words = Vec::new();
            for _ in 0..count {
                let mut word = vec![0; line(&mut input)? + 2];
                input.read_exact(&mut word).ok()?;
                word.truncate(word.len() - 2);
                words.push(String::from_utf8(word).ok()?);
            }
            let mut stored = stored.lock().ok()?;
            let reply = match words[0].as_str() {
                "GET" => stored
                    .get(&words[1])
                    .map_or("$-1\r\n".to_owned(), |&n| format!("${n}\r\n{}\r\n", "x".repeat(n))),
                "SET" => {
                    stored.insert(words[1].clone(), words[2].len());
                    "+OK\r\n".to_owned()
                }
                _ => format!(":{}\r\n", u8::from(stored.remove(&words[1]).is_some())),
            };
            drop(stored);
            input.get_mut().write_all(reply.as_bytes()).ok()?;
        }
    }

    #[test]
    fn misses_are_filled_and_counted_and_values_have_their_size() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = Endpoint::loopback(listener.local_addr().unwrap().port());
        let stored = Stored::default();
        let shared = Arc::clone(&stored);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let stored = Arc::clone(&shared);
                std::thread::spawn(move || serve(stream, &stored));
            }
        });
        let record = |key, operation| Request { key, bytes: 200_016, second: 0, ttl_seconds: 9, operation };
        let mut records: Vec<Request> = (0..300).map(|i| record(i % 100, Operation::Get)).collect();
        records.push(record(7, Operation::Delete));
        records.push(record(7, Operation::Get));
        records.push(record(8, Operation::Set));
        let mut replay = Replay::connect(&endpoint, 8, 100, 200_016, false, Protocol::Resp).unwrap();
        let (first, rest) = records.split_at(150);
        replay.run(first).unwrap();
        replay.run(rest).unwrap();
        let found = replay.found();
        assert_eq!((found.requests, found.gets, found.misses, found.errors), (303, 301, 101, 0));
        assert_eq!(found.latencies.count(), 303 + 101);
        let stored = stored.lock().unwrap();
        assert_eq!((stored.len(), stored["key:000000000007"]), (100, 200_000));
    }

    /// As [`serve`], in memcached's text protocol.
    fn serve_memcached(stream: TcpStream, stored: &Stored) -> Option<()> {
        let mut input = BufReader::new(stream);
        loop {
            let mut line = String::new();
            (input.read_line(&mut line).ok()? > 0).then_some(())?;
            let words: Vec<&str> = line.trim_end().split(' ').collect();
            let reply = match words[..] {
                ["get", key] => match stored.lock().ok()?.get(key) {
                    Some(&n) => format!("VALUE {key} 0 {n}\r\n{}\r\nEND\r\n", "x".repeat(n)),
                    None => "END\r\n".to_owned(),
                },
                ["set", key, "0", "0", len] => {
                    let len = len.parse::<usize>().ok()?;
                    let mut value = vec![0; len + 2];
                    input.read_exact(&mut value).ok()?;
                    stored.lock().ok()?.insert(key.to_owned(), len);
                    "STORED\r\n".to_owned()
                }
                ["delete", key] => match stored.lock().ok()?.remove(key) {
                    Some(_) => "DELETED\r\n".to_owned(),
                    None => "NOT_FOUND\r\n".to_owned(),
                },
                _ => "ERROR\r\n".to_owned(),
            };
            input.get_mut().write_all(reply.as_bytes()).ok()?;
        }
    }

    #[test]
    fn memcached_is_asked_in_its_own_words() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = Endpoint::loopback(listener.local_addr().unwrap().port());
        let stored = Stored::default();
        let shared = Arc::clone(&stored);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let stored = Arc::clone(&shared);
                std::thread::spawn(move || serve_memcached(stream, &stored));
            }
        });
        let record = |key, operation| Request { key, bytes: 5_016, second: 0, ttl_seconds: 9, operation };
        let mut records: Vec<Request> = (0..300).map(|i| record(i % 100, Operation::Get)).collect();
        records.push(record(7, Operation::Delete));
        records.push(record(7, Operation::Get));
        records.push(record(8, Operation::Set));
        records.push(record(9, Operation::Delete));
        let mut replay = Replay::connect(&endpoint, 8, 100, 5_016, false, Protocol::Memcached).unwrap();
        replay.run(&records).unwrap();
        let found = replay.found();
        assert_eq!((found.requests, found.gets, found.misses, found.errors), (304, 301, 101, 0));
        let stored = stored.lock().unwrap();
        assert_eq!((stored.len(), stored["key:000000000007"]), (99, 5_000));
    }
}
