//! A worker: one thread, one event loop, its own connections.
//!
//! A turn: take what the poller reports; read every ready socket; parse all complete requests where
//! the bytes lie; then, in windows of a few dozen requests, hash their keys, prefetch what they will
//! touch, and carry them out; at the end send each connection its replies at once. What is left of
//! the time goes to background work in small slices.
//!
//! Read next: `execute.rs` for one request, `connection.rs` for what a connection holds.

use crate::background::Background;
use crate::connection::{Closing, Connection, Parked};
use crate::execute::{Core, Outcome};
use crate::io::{Poller, Readiness, Received, Sent, Socket};
use crate::listen::Listeners;
use crate::registry::Row;
use crate::server::{Message, Server};
use larder_commands::Args;
use larder_config::ClientClass;
use larder_resp::{Output, Progress, Protocol, ProtocolError, Reply, RequestParser, Span, limits, split_words};
use larder_store::{DbIndex, Participant};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Bytes read from a socket at a time.
const READ_BYTES: usize = 16 * 1024;
/// Bytes read in a turn before what was read is carried out.
const TURN_BYTES: usize = 1024 * 1024;
/// Requests whose memory is prefetched together.
const WINDOW: usize = 48;
/// Buffers for replies kept for reuse.
const SPARE_BUFFERS: usize = 256;
/// A buffer larger than this is not kept.
const SPARE_BUFFER_BYTES_MAX: usize = 128 * 1024;
/// Most bytes read at once into the buffer of a large request.
const LARGE_READ_BYTES: usize = 1024 * 1024;
/// Tokens from here on are listeners.
pub const LISTENER_TOKENS: u64 = 1 << 62;

/// Where a connection's requests of this turn lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// In the turn's buffer.
    Turn,
    /// In the connection's own buffer.
    Own,
    /// In the turn's buffer of inline requests, as rewritten words.
    Inline,
}

/// What a parsed request asks.
#[derive(Clone, Copy)]
enum Asked {
    /// This command; `None` when there is none of that name.
    Command(Option<&'static Row>),
    /// Nothing sensible: the error to answer before the connection is closed.
    Violation(ProtocolError),
}

/// A request that has been read and waits for its turn.
#[derive(Clone, Copy)]
struct Request {
    asked: Asked,
    source: Source,
    /// Where the request starts in its source.
    base: usize,
    /// Where it starts in the connection's bytes; differs from `base` for inline requests.
    raw_base: usize,
    spans: (u32, u32),
    hash: u64,
}

/// The requests of one connection in this turn.
#[derive(Clone, Copy)]
struct Group {
    token: u64,
    requests: (u32, u32),
    /// Where the connection's bytes lie.
    source: Source,
    /// End of its complete requests, in its source.
    parsed_to: usize,
}

/// One thread of the server.
pub struct Worker {
    core: Core,
    server: &'static Server,
    poller: Poller,
    listeners: Listeners,
    participant: Participant,
    connections: HashMap<u64, Box<Connection>, TokenHash>,
    background: Background,
    turn_buffer: Vec<u8>,
    turn_used: usize,
    inline_buffer: Vec<u8>,
    requests: Vec<Request>,
    spans: Vec<Span>,
    groups: Vec<Group>,
    flush: Vec<u64>,
    /// Connections whose buffered requests are to be looked at again.
    again: Vec<u64>,
    /// Connections parked because a key was locked or a pause is in force.
    parked: Vec<u64>,
    spare: Vec<Vec<u8>>,
    ready: Vec<Readiness>,
    stopping: bool,
}

/// Tokens are connection numbers, never chosen by a client: a multiplication spreads them.
#[derive(Debug, Default, Clone, Copy)]
pub struct TokenHash;

impl std::hash::BuildHasher for TokenHash {
    type Hasher = TokenHasher;
    fn build_hasher(&self) -> TokenHasher {
        TokenHasher(0)
    }
}

/// The hasher of [`TokenHash`].
#[derive(Debug)]
pub struct TokenHasher(u64);

impl std::hash::Hasher for TokenHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }
    fn write_u64(&mut self, token: u64) {
        self.0 = token.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }
}

impl Worker {
    /// Worker `id`, which waits in `poller` and accepts on `listeners`.
    pub fn new(id: usize, server: &'static Server, poller: Poller, listeners: Listeners, seed: u64) -> std::io::Result<Worker> {
        for (index, listener) in listeners.iter().enumerate() {
            poller.add(listener, LISTENER_TOKENS + index as u64)?;
        }
        Ok(Worker {
            core: Core::new(id, server, seed),
            server,
            poller,
            listeners,
            participant: server.epochs.register(),
            connections: HashMap::with_hasher(TokenHash),
            background: Background::new(id, server.mailboxes.len()),
            turn_buffer: vec![0; TURN_BYTES],
            turn_used: 0,
            inline_buffer: Vec::new(),
            requests: Vec::new(),
            spans: Vec::new(),
            groups: Vec::new(),
            flush: Vec::new(),
            again: Vec::new(),
            parked: Vec::new(),
            spare: Vec::new(),
            ready: Vec::new(),
            stopping: false,
        })
    }

    /// Runs until asked to stop.
    pub fn run(&mut self) {
        while !self.stopping {
            let wait = self.time_to_wait();
            match self.poller.wait(&mut self.ready, wait) {
                Ok(_) => {}
                Err(error) => {
                    tracing::error!(%error, "the event loop cannot wait for sockets; the server stops");
                    self.server.ask_to_stop();
                    return;
                }
            }
            self.turn();
        }
        self.flush_all();
    }

    /// How long the poller may wait: not at all while something is to be done.
    fn time_to_wait(&self) -> Option<Duration> {
        let busy = !self.again.is_empty()
            || self.background.has_backlog()
            || self.connections_are_busy()
            || !self.server.mailboxes[self.core.id].is_empty();
        Some(if busy { Duration::ZERO } else { self.background.time_to_next(&self.core) })
    }

    fn connections_are_busy(&self) -> bool {
        self.parked.iter().any(|token| {
            self.connections.get(token).is_some_and(|conn| conn.parked == Some(Parked::Busy))
        })
    }

    fn turn(&mut self) {
        self.participant.enter();
        self.core.open_turn();
        self.core.stats.turns.add(1);
        self.open_mailbox();
        let ready = std::mem::take(&mut self.ready);
        for readiness in &ready {
            self.on_ready(*readiness);
        }
        self.ready = ready;
        self.look_again();
        self.carry_out();
        self.core.close_turn();
        self.flush_all();
        self.background.run(&mut self.core, &mut self.connections);
        for token in self.background.take_expired_connections() {
            self.close(token);
        }
        self.participant.leave();
    }

    fn on_ready(&mut self, ready: Readiness) {
        if ready.token >= LISTENER_TOKENS {
            self.listeners.accept(ready.token - LISTENER_TOKENS, self.server);
            return;
        }
        if ready.writable
            && let Some(conn) = self.connections.get_mut(&ready.token)
            && !conn.in_flush_list
        {
            conn.in_flush_list = true;
            self.flush.push(ready.token);
        }
        if ready.readable {
            self.receive(ready.token);
        }
    }

    fn open_mailbox(&mut self) {
        let server = self.server;
        let mailbox = &server.mailboxes[self.core.id];
        mailbox.open();
        while let Some(message) = mailbox.take() {
            match message {
                Message::Accept(fd, client) => self.adopt(Socket::new(fd), client),
                Message::Kill(id) => self.close(id),
                Message::Answer(id, ticket, reply) => self.answer(id, ticket, &reply),
                Message::Work(work) => (work.0)(&mut self.core),
                Message::Monitor(line) => self.feed_monitors(&line),
                Message::Resume => {}
                Message::Shutdown => self.stopping = true,
            }
        }
    }

    fn adopt(&mut self, socket: Socket, client: Arc<crate::clients::Client>) {
        let token = client.id;
        if let Err(error) = self.poller.add(&socket, token) {
            tracing::warn!(%error, "a new connection cannot be watched; it is closed");
            self.server.clients.remove(token);
            self.server.clients.give_place();
            return;
        }
        self.core.stats.connections.add(1);
        let authenticated = self.core.settings.requirepass().is_empty();
        self.connections.insert(token, Box::new(Connection::new(client, socket, authenticated)));
    }

    /// What a parked connection waited for is there.
    fn answer(&mut self, id: u64, ticket: u64, reply: &[u8]) {
        let Some(conn) = self.connections.get_mut(&id) else { return };
        if conn.parked != Some(Parked::Ticket(ticket)) {
            return;
        }
        conn.parked = None;
        conn.client.parked.store(false, Relaxed);
        if !std::mem::take(&mut conn.answer_is_hidden) {
            conn.output.bytes_mut().extend_from_slice(reply);
        }
        if !conn.in_flush_list {
            conn.in_flush_list = true;
            self.flush.push(id);
        }
        self.again.push(id);
    }

    fn feed_monitors(&mut self, line: &[u8]) {
        for (token, conn) in &mut self.connections {
            if conn.monitor {
                conn.output.bytes_mut().extend_from_slice(line);
                if !conn.in_flush_list {
                    conn.in_flush_list = true;
                    self.flush.push(*token);
                }
            }
        }
    }

    /// Looks at the buffered requests of connections that were parked or may not have been read out.
    fn look_again(&mut self) {
        let mut tokens = std::mem::take(&mut self.again);
        for token in std::mem::take(&mut self.parked) {
            match self.connections.get_mut(&token).map(|conn| &mut conn.parked) {
                Some(parked @ Some(Parked::Busy)) => {
                    *parked = None;
                    tokens.push(token);
                }
                Some(parked @ Some(Parked::Paused)) => {
                    if self.server.is_paused(self.core.local.now, true) {
                        // The command itself decides again whether it may run.
                        if self.server.is_paused(self.core.local.now, false) {
                            self.parked.push(token);
                            continue;
                        }
                    }
                    *parked = None;
                    tokens.push(token);
                }
                _ => {}
            }
        }
        for token in tokens {
            if self.connections.get(&token).is_some_and(|conn| !conn.input.is_empty()) {
                self.read_requests(token, Source::Own, (0, 0));
            }
        }
    }

    /// Reads what a socket has and parses it.
    fn receive(&mut self, token: u64) {
        if self.turn_used + READ_BYTES > TURN_BYTES {
            self.carry_out();
        }
        let Some(conn) = self.connections.get_mut(&token) else { return };
        if conn.parked.is_some() || conn.closing != Closing::No {
            // Its bytes stay with the kernel until it may go on; its end is still noticed.
            if matches!(conn.parked, Some(Parked::Ticket(_))) || conn.closing != Closing::No {
                Self::stop_reading(&self.poller, conn);
            }
            return;
        }
        self.core.stats.reads.add(1);
        let (received, source, range) = if conn.input.is_empty() {
            let start = self.turn_used;
            let received = conn.socket.read(&mut self.turn_buffer[start..start + READ_BYTES]);
            let end = if let Received::Bytes(count) = received { start + count } else { start };
            // Requests start on a cache line of their own.
            self.turn_used = end.next_multiple_of(64);
            (received, Source::Turn, (start, end))
        } else {
            let missing = conn.wanted.saturating_sub(conn.input.len());
            conn.input.reserve(missing.clamp(READ_BYTES, LARGE_READ_BYTES));
            (conn.socket.read_onto(&mut conn.input), Source::Own, (0, 0))
        };
        match received {
            Received::Bytes(count) => {
                self.core.stats.bytes_in.add(count as u64);
                conn.client.bytes_in.add(count as u64);
                self.read_requests(token, source, range);
            }
            Received::Nothing => {}
            Received::End => self.end_of_stream(token),
        }
    }

    /// The peer has closed its side: what it asked before is still answered.
    fn end_of_stream(&mut self, token: u64) {
        if self.groups.iter().any(|group| group.token == token) {
            self.carry_out();
            self.flush_all();
        }
        self.close(token);
    }

    /// Parses the complete requests of a connection and queues them.
    fn read_requests(&mut self, token: u64, source: Source, (start, end): (usize, usize)) {
        let Some(mut conn) = self.connections.remove(&token) else { return };
        let own = std::mem::take(&mut conn.input);
        let turn_buffer = std::mem::take(&mut self.turn_buffer);
        let (bytes, start): (&[u8], usize) = match source {
            Source::Own => (&own, 0),
            _ => (&turn_buffer[..end], start),
        };
        let first = self.requests.len();
        let mut at = start;
        let parse_limits = limits::Limits {
            bulk_bytes_max: i64::try_from(self.core.settings.proto_max_bulk_len()).unwrap_or(i64::MAX),
            authenticated: conn.authenticated,
        };
        while at < bytes.len() {
            let spans_from = self.spans.len();
            self.spans.append(&mut conn.spans);
            let rest = &bytes[at..];
            let progress = conn.parser.parse(rest, &mut self.spans, &parse_limits);
            let consumed = match progress {
                Ok(Progress::Complete(consumed)) => {
                    let spans = (spans_from as u32, (self.spans.len() - spans_from) as u32);
                    if spans.1 > 0 {
                        let asked = self.lookup(rest, spans);
                        self.requests.push(Request { asked, source, base: at, raw_base: at, spans, hash: 0 });
                    }
                    consumed
                }
                Ok(Progress::Inline { line, consumed }) => {
                    if let Err(violation) = self.queue_inline(&rest[..line], at) {
                        self.requests.push(Request {
                            asked: Asked::Violation(violation),
                            source,
                            base: at,
                            raw_base: at,
                            spans: (0, 0),
                            hash: 0,
                        });
                    }
                    consumed
                }
                Ok(Progress::Incomplete { wanted }) => {
                    conn.spans.extend(self.spans.drain(spans_from..));
                    conn.wanted = wanted;
                    break;
                }
                Err(violation) => {
                    self.spans.truncate(spans_from);
                    conn.parser = RequestParser::default();
                    let asked = Asked::Violation(violation);
                    self.requests.push(Request { asked, source, base: at, raw_base: at, spans: (0, 0), hash: 0 });
                    at = bytes.len();
                    break;
                }
            };
            at += consumed;
            if !conn.authenticated && self.requests.len() > first {
                // What follows may be allowed more once this request has been carried out.
                self.again.push(token);
                break;
            }
        }
        let parsed_to = at;
        match source {
            Source::Own => conn.input = own,
            _ => conn.input.extend_from_slice(&bytes[at.min(bytes.len())..]),
        }
        self.turn_buffer = turn_buffer;
        let limit = usize::try_from(self.core.settings.client_query_buffer_limit()).unwrap_or(usize::MAX);
        if conn.input.len() > limit {
            tracing::warn!(client = conn.client.id, "closing a client whose query buffer passed client-query-buffer-limit");
            self.core.stats.query_limit_closes.add(1);
            conn.closing = Closing::Now;
        }
        let requests = (first as u32, self.requests.len() as u32);
        if requests.0 < requests.1 || source == Source::Own {
            self.groups.push(Group { token, requests, source, parsed_to });
        }
        if conn.closing == Closing::Now {
            self.again.push(token);
        }
        self.connections.insert(token, conn);
    }

    /// The command of a parsed request.
    #[inline]
    fn lookup(&self, request: &[u8], spans: (u32, u32)) -> Asked {
        let name = self.spans[spans.0 as usize].of(request);
        Asked::Command(self.server.registry.find(name))
    }

    /// Queues an inline request: its words are rewritten one after the other.
    fn queue_inline(&mut self, text: &[u8], at: usize) -> Result<(), ProtocolError> {
        let words = split_words(text).ok_or(ProtocolError::UnbalancedQuotes)?;
        if words.is_empty() {
            return Ok(());
        }
        let base = self.inline_buffer.len();
        let first = self.spans.len();
        for word in &words {
            let start = (self.inline_buffer.len() - base) as u32;
            self.inline_buffer.extend_from_slice(word);
            self.spans.push(Span { start, len: word.len() as u32 });
        }
        let spans = (first as u32, words.len() as u32);
        let asked = self.lookup(&self.inline_buffer[base..], spans);
        self.requests.push(Request { asked, source: Source::Inline, base, raw_base: at, spans, hash: 0 });
        Ok(())
    }

    /// Carries out everything queued, in windows whose memory is prefetched.
    fn carry_out(&mut self) {
        let groups = std::mem::take(&mut self.groups);
        let mut prefetched = 0;
        for group in &groups {
            let Some(mut conn) = self.connections.remove(&group.token) else { continue };
            self.carry_out_group(&mut conn, group, &groups, &mut prefetched);
            self.connections.insert(group.token, conn);
        }
        self.groups = groups;
        self.groups.clear();
        self.requests.clear();
        self.spans.clear();
        self.inline_buffer.clear();
        self.turn_used = 0;
    }

    fn carry_out_group(&mut self, conn: &mut Connection, group: &Group, groups: &[Group], prefetched: &mut usize) {
        let own = if group.source == Source::Own { std::mem::take(&mut conn.input) } else { Vec::new() };
        let mut output = std::mem::take(&mut conn.output);
        if output.memory() == 0 {
            output = Output::with_buffer(self.spare.pop().unwrap_or_default());
        }
        let mut left_from = None;
        for index in group.requests.0 as usize..group.requests.1 as usize {
            if index >= *prefetched {
                *prefetched = self.prefetch(index, conn, &own, groups);
            }
            let request = self.requests[index];
            if conn.closing != Closing::No {
                break;
            }
            let outcome = match request.asked {
                Asked::Violation(violation) => self.violate(conn, &mut output, violation),
                Asked::Command(row) => {
                    let bytes: &[u8] = match request.source {
                        Source::Turn => &self.turn_buffer[request.base..],
                        Source::Own => &own[request.base..],
                        Source::Inline => &self.inline_buffer[request.base..],
                    };
                    let (first, count) = (request.spans.0 as usize, request.spans.1 as usize);
                    let args = Args::new(bytes, &self.spans[first..first + count]);
                    if row.is_none() && is_http(&args) {
                        tracing::warn!(client = conn.client.id, "closing a client that speaks HTTP: a cross-protocol attack?");
                        conn.closing = Closing::Now;
                        break;
                    }
                    self.core.execute(conn, &mut output, row, &args, request.hash)
                }
            };
            if outcome == Outcome::Later {
                left_from = Some(request.raw_base);
                break;
            }
            if conn.parked.is_some() {
                left_from = self.requests.get(index + 1).filter(|_| index + 1 < group.requests.1 as usize).map(|next| next.raw_base);
                if left_from.is_none() {
                    left_from = Some(group.parsed_to);
                }
                break;
            }
        }
        conn.output = output;
        self.keep_the_rest(conn, group, own, left_from);
        self.note_activity(conn, group);
        if !conn.in_flush_list && (!conn.output.is_empty() || conn.output.memory() > 0 || conn.closing != Closing::No) {
            conn.in_flush_list = true;
            self.flush.push(group.token);
        }
    }

    /// Puts the bytes that were not carried out back into the connection's buffer.
    fn keep_the_rest(&mut self, conn: &mut Connection, group: &Group, mut own: Vec<u8>, left_from: Option<usize>) {
        match (group.source, left_from) {
            (Source::Own, None) => {
                own.drain(..group.parsed_to.min(own.len()));
                conn.input = own;
            }
            (Source::Own, Some(from)) => {
                own.drain(..from.min(own.len()));
                conn.input = own;
                (conn.parser, conn.wanted) = (RequestParser::default(), 0);
                conn.spans.clear();
            }
            (_, None) => {}
            (_, Some(from)) => {
                // The tail that was incomplete is in `input` already; it follows what was left.
                let mut input = self.turn_buffer[from..group.parsed_to].to_vec();
                input.append(&mut conn.input);
                conn.input = input;
                (conn.parser, conn.wanted) = (RequestParser::default(), 0);
                conn.spans.clear();
            }
        }
        if conn.input.is_empty() {
            conn.input = Vec::new();
        } else if conn.input.capacity() > 4 * READ_BYTES && conn.input.capacity() / 4 > conn.input.len() {
            conn.input.shrink_to(READ_BYTES);
        }
        if conn.spans.is_empty() {
            conn.spans = Vec::new();
        }
        if matches!(conn.parked, Some(Parked::Busy | Parked::Paused)) {
            self.parked.push(group.token);
        }
    }

    /// Writes what other threads may want to know of the connection.
    fn note_activity(&self, conn: &Connection, group: &Group) {
        let client = &conn.client;
        client.active_ms.store(self.core.local.now.0, Relaxed);
        client.commands.add(u64::from(group.requests.1 - group.requests.0));
        if let Some(Request { asked: Asked::Command(Some(row)), .. }) =
            (group.requests.1 as usize).checked_sub(1).and_then(|last| self.requests.get(last))
        {
            client.last_command.store(row.id + 1, Relaxed);
        }
        client.db.store(conn.db.0, Relaxed);
        client.query_bytes.store(conn.input.len(), Relaxed);
        client.query_free.store(conn.input.capacity() - conn.input.len(), Relaxed);
    }

    /// Hashes the keys of the next window of requests and prefetches what they will touch.
    ///
    /// The databases of other connections are guessed from the first connection of the window: a
    /// wrong guess costs a useless prefetch, never a wrong answer.
    fn prefetch(&mut self, from: usize, conn: &Connection, own: &[u8], groups: &[Group]) -> usize {
        let to = (from + WINDOW).min(self.requests.len());
        let keyspace = &self.server.keyspace;
        let mut group_at = groups.partition_point(|group| group.requests.1 as usize <= from);
        let mut targets = [(DbIndex(0), 0u64); WINDOW];
        let mut count = 0;
        for index in from..to {
            while groups.get(group_at).is_some_and(|group| index >= group.requests.1 as usize) {
                group_at += 1;
            }
            let request = &mut self.requests[index];
            let Asked::Command(Some(row)) = request.asked else { continue };
            if row.first_key == 0 || request.spans.1 as usize <= row.first_key {
                continue;
            }
            let Some(group) = groups.get(group_at) else { break };
            let mine = group.token == conn.client.id;
            let other = if mine { None } else { self.connections.get(&group.token) };
            let bytes: &[u8] = match (request.source, other) {
                (Source::Turn, _) => &self.turn_buffer[request.base..],
                (Source::Inline, _) => &self.inline_buffer[request.base..],
                (Source::Own, _) if mine => &own[request.base..],
                (Source::Own, Some(other)) => &other.input[request.base..],
                (Source::Own, None) => continue,
            };
            let key = self.spans[request.spans.0 as usize + row.first_key].of(bytes);
            request.hash = keyspace.hash(key);
            let db = if mine { conn.db } else { other.map_or(conn.db, |other| other.db) };
            keyspace.prefetch_shard(db, request.hash);
            targets[count] = (db, request.hash);
            count += 1;
        }
        let targets = &targets[..count];
        for (db, hash) in targets {
            keyspace.prefetch_bucket(&self.participant, *db, *hash);
        }
        for (db, hash) in targets {
            keyspace.prefetch_entry(&self.participant, *db, *hash);
        }
        to
    }

    /// Answers a violation of the protocol; the connection ends.
    fn violate(&mut self, conn: &mut Connection, output: &mut Output, violation: ProtocolError) -> Outcome {
        let mut text = b"ERR ".to_vec();
        violation.write_text(&mut text);
        Reply::new(output, Protocol::Resp2).error(&text);
        self.core.stats.protocol_errors.add(1);
        self.core.stats.errors.add(1);
        conn.closing = Closing::AfterReplies;
        Outcome::Done
    }

    /// Sends every connection its replies.
    fn flush_all(&mut self) {
        let mut tokens = std::mem::take(&mut self.flush);
        for token in tokens.drain(..) {
            let Some(conn) = self.connections.get_mut(&token) else { continue };
            conn.in_flush_list = false;
            let before = conn.output.len();
            let sent = if conn.closing == Closing::Now { Sent::Gone } else { conn.socket.flush(&mut conn.output) };
            let bytes = before - conn.output.len();
            self.core.stats.writes.add(1);
            self.core.stats.bytes_out.add(bytes as u64);
            conn.client.bytes_out.add(bytes as u64);
            conn.client.output_bytes.store(conn.output.len(), Relaxed);
            conn.client.memory.store(conn.memory(), Relaxed);
            match sent {
                Sent::All => {
                    let buffer = std::mem::take(&mut conn.output).into_buffer();
                    if buffer.capacity() > 0 && buffer.capacity() <= SPARE_BUFFER_BYTES_MAX && self.spare.len() < SPARE_BUFFERS {
                        self.spare.push(buffer);
                    }
                    conn.over_soft_limit_ms = 0;
                    if conn.closing != Closing::No {
                        self.close(token);
                        continue;
                    }
                    if conn.interest != (true, false) && !matches!(conn.parked, Some(Parked::Ticket(_))) {
                        conn.interest = (true, false);
                        let _ = self.poller.set_interest(&conn.socket, token, true, false);
                    }
                }
                Sent::Some => {
                    if over_output_limit(conn, self.core.settings.client_output_buffer_limit(), self.core.local.now.0) {
                        tracing::warn!(client = conn.client.id, bytes = conn.output.len(), "closing a client that does not read its replies");
                        self.core.stats.output_limit_closes.add(1);
                        self.close(token);
                        continue;
                    }
                    let interest = (conn.interest.0, true);
                    if conn.interest != interest {
                        conn.interest = interest;
                        let _ = self.poller.set_interest(&conn.socket, token, interest.0, true);
                    }
                }
                Sent::Gone => self.close(token),
            }
        }
        self.flush = tokens;
    }

    fn stop_reading(poller: &Poller, conn: &mut Connection) {
        if conn.interest.0 {
            conn.interest.0 = false;
            let _ = poller.set_interest(&conn.socket, conn.client.id, false, conn.interest.1);
        }
    }

    /// Ends a connection and forgets it.
    fn close(&mut self, token: u64) {
        let Some(conn) = self.connections.remove(&token) else { return };
        let _ = self.poller.remove(&conn.socket);
        if conn.monitor {
            self.server.monitors.fetch_sub(1, Relaxed);
        }
        self.server.clients.remove(token);
        self.server.clients.give_place();
    }
}

/// Whether a request is the first line or a header of an HTTP request.
fn is_http(args: &Args<'_>) -> bool {
    args.is(0, b"post") || args.is(0, b"host:")
}

/// Whether a client's unread replies pass a limit.
fn over_output_limit(conn: &mut Connection, limits: &larder_config::OutputLimits, now_ms: u64) -> bool {
    let limit = limits.of(ClientClass::Normal);
    let bytes = conn.output.len() as u64;
    if limit.hard_bytes != 0 && bytes >= limit.hard_bytes {
        return true;
    }
    if limit.soft_bytes == 0 || bytes < limit.soft_bytes {
        conn.over_soft_limit_ms = 0;
        return false;
    }
    if conn.over_soft_limit_ms == 0 {
        conn.over_soft_limit_ms = now_ms;
    }
    now_ms - conn.over_soft_limit_ms > limit.soft_seconds.saturating_mul(1000)
}
