//! The beginning of a turn: bytes from sockets become requests, parsed where they lie.

use super::batch::{Asked, Batch, Group, Queue, Request, Source};
use super::{LARGE_READ_BYTES, READ_BYTES, TURN_BYTES, Worker};
use crate::connection::{Closing, Connection, Parked};
use crate::execute::Core;
use crate::io::Received;
use crate::server::Server;
use larder_resp::{Progress, Protocol, ProtocolError, RequestParser, Span, limits, parse_whole, split_words};
use larder_store::Database;
use std::sync::atomic::Ordering::Relaxed;

/// Most bytes read at once into the turn's buffer: a request with a value of 16 KiB comes whole, so that
/// neither is it moved to the connection's own buffer nor does it wait for another turn. Much more
/// makes streams of such requests dearer: their bytes leave the nearest caches before they are used.
const TURN_READ_BYTES: usize = 20 * 1024;
const _: () = assert!(TURN_READ_BYTES <= TURN_BYTES / 8);

/// Bytes of a connection's own buffer while requests of some KiB come faster than they are read:
/// several are read by one call then. A larger buffer is shrunk when little is left in it.
const STREAM_BYTES: usize = 4 * READ_BYTES;

impl Worker {
    /// Reads what a socket has and parses it.
    pub(super) fn receive(&mut self, token: u64) {
        if self.batch.used + TURN_READ_BYTES > TURN_BYTES {
            self.carry_out();
        }
        let Some(conn) = self.connections.get_mut(token) else { return };
        if conn.is_queued {
            // What it asked is carried out first; the poller reports the rest again.
            return;
        }
        if conn.parked.is_some() || conn.closing != Closing::No {
            // Its bytes stay with the kernel until it may go on. What is reported once it is not
            // watched for reading is that the peer is gone.
            if !conn.interest.0 {
                self.close(token);
            } else if self.server.blocked.has(conn.client.id) {
                // Nobody waits for a client that has gone; what it sent before it went is dropped.
                conn.interest.0 = false;
                let _ = self.poller.watch_for_end(&conn.socket, token);
            } else if conn.parked != Some(Parked::Busy) {
                Self::stop_reading(&self.poller, conn);
            }
            return;
        }
        self.core.stats.reads.add(1);
        let is_plain = conn.socket.tls().is_none();
        let (received, source, range) = if conn.input.is_empty() && is_plain {
            let start = self.batch.used;
            let received = conn.socket.read(&mut self.batch.bytes[start..start + TURN_READ_BYTES]);
            let end = if let Received::Bytes(count) = received { start + count } else { start };
            self.batch.used = end.next_multiple_of(64);
            (received, Source::Turn, (start, end))
        } else {
            if is_plain || !conn.input.is_empty() {
                make_room(&mut conn.input, conn.wanted);
            }
            (conn.socket.read_onto(&mut conn.input), Source::Own, (0, 0))
        };
        match received {
            Received::Bytes(count) => {
                self.core.stats.bytes_in.add(count as u64);
                conn.client.bytes_in.add(count as u64);
                if source == Source::Own && self.has_too_much(token) {
                    return;
                }
                self.read_requests(token, source, range);
            }
            Received::Nothing => {}
            Received::End => {
                self.close(token);
                return;
            }
        }
        if !is_plain {
            self.see_to_tls(token);
        }
    }

    /// Whether a connection is let go since it has sent more than it may, or since all clients together take too much
    /// memory: before anything of that is carried out.
    fn has_too_much(&mut self, token: u64) -> bool {
        let Some(conn) = self.connections.get_mut(token) else { return true };
        if conn.input.len() > query_bytes_max(&self.core) {
            self.check_query_limit(token);
            return true;
        }
        if self.core.client_bytes_max() != 0 {
            self.server.clients.weigh(&conn.client, conn.memory());
            self.look_at_clients();
        }
        self.connections.get(token).is_none()
    }

    /// Has what TLS itself wants to send, and what could not be sent before hands were shaken, sent with this turn's replies.
    #[cold]
    fn see_to_tls(&mut self, token: u64) {
        let Some(conn) = self.connections.get_mut(token) else { return };
        let Some(tls) = conn.socket.tls() else { return };
        let waits = tls.wants_to_send() || !tls.is_shaking_hands() && !conn.output.is_empty();
        if waits && !conn.in_flush_list {
            conn.in_flush_list = true;
            self.flush.push(token);
        }
    }

    /// Parses the complete requests of a connection and queues them.
    pub(super) fn read_requests(&mut self, token: u64, source: Source, (start, end): (usize, usize)) {
        let Some(conn) = self.connections.get_mut(token) else { return };
        let Batch { bytes, queue, .. } = &mut self.batch;
        let first = queue.requests.len();
        let database = self.server.keyspace.open(conn.db);
        let parser = Parser { server: self.server, database, source, bulk_bytes_max: self.bulk_bytes_max };
        let (parsed_to, left) = match source {
            Source::Own => {
                let own = std::mem::take(&mut conn.input);
                let parsed_to = parser.parse(queue, conn, &own, 0);
                conn.input = own;
                (parsed_to, conn.input.len() - parsed_to)
            }
            Source::Turn | Source::Inline => {
                let bytes = &bytes[..end];
                let parsed_to = parser.parse(queue, conn, bytes, start);
                if parsed_to < end {
                    keep_for_later(conn, &bytes[parsed_to..]);
                }
                (parsed_to, end - parsed_to)
            }
        };
        let requests = (first as u32, queue.requests.len() as u32);
        if requests.0 < requests.1 || source == Source::Own {
            conn.is_queued = true;
            queue.groups.push(Group { token, database, requests, source, parsed_to });
        }
        if left > 0 {
            // What follows a login may be allowed more.
            if !conn.authenticated && !conn.parser.in_request() && requests.0 < requests.1 {
                self.again.push(token);
            }
            self.check_query_limit(token);
        }
    }

    /// Notes what is kept of a request that is not whole, and closes its connection where that is too much.
    #[cold]
    fn check_query_limit(&mut self, token: u64) {
        let limit = query_bytes_max(&self.core);
        let Some(conn) = self.connections.get_mut(token) else { return };
        conn.client.query_bytes.store(conn.input.len(), Relaxed);
        conn.client.query_free.store(conn.input.capacity() - conn.input.len(), Relaxed);
        self.server.clients.weigh(&conn.client, conn.memory());
        if conn.input.len() <= limit {
            return;
        }
        let client = conn.client.id;
        tracing::warn!(client, "closing a client whose query buffer passed client-query-buffer-limit");
        self.core.stats.query_limit_closes.add(1);
        conn.closing = Closing::Now;
        if !conn.in_flush_list {
            conn.in_flush_list = true;
            self.flush.push(token);
        }
    }
}

/// How many bytes of requests a connection may have sent that are not carried out.
fn query_bytes_max(core: &Core) -> usize {
    usize::try_from(core.settings.client_query_buffer_limit()).unwrap_or(usize::MAX)
}

/// Keeps the beginning of a request whose rest has not come, with room for the rest where it is long.
fn keep_for_later(conn: &mut Connection, bytes: &[u8]) {
    if conn.input.is_empty() && conn.wanted > STREAM_BYTES {
        conn.input.reserve_exact(conn.wanted.min(bytes.len() + LARGE_READ_BYTES));
    }
    conn.input.extend_from_slice(bytes);
}

/// Makes room behind the bytes of a request of which `wanted` bytes are announced.
///
/// At most [`LARGE_READ_BYTES`] more than what has arrived. The rest of a large request is read alone,
/// into a buffer that ends where the request does, so that it is not moved for its last bytes; behind
/// the rest of a small one there is room for what was sent after it.
fn make_room(input: &mut Vec<u8>, wanted: usize) {
    let (len, spare) = (input.len(), input.capacity() - input.len());
    let missing = wanted.saturating_sub(len);
    if wanted > STREAM_BYTES && missing > 0 {
        if spare < missing.min(READ_BYTES) {
            input.reserve(missing.min(LARGE_READ_BYTES));
        }
    } else if wanted.max(len) < READ_BYTES {
        input.reserve(READ_BYTES);
    } else if spare < READ_BYTES {
        input.reserve_exact(STREAM_BYTES.saturating_sub(len).max(READ_BYTES));
    }
}

/// Parses one connection's bytes.
pub(super) struct Parser {
    pub(super) server: &'static Server,
    /// The connection's database.
    pub(super) database: Database<'static>,
    pub(super) source: Source,
    /// `proto-max-bulk-len`.
    bulk_bytes_max: i64,
}

impl Parser {
    /// Queues the requests from `at` on and answers where the first incomplete one starts.
    fn parse(&self, queue: &mut Queue, conn: &mut Connection, bytes: &[u8], mut at: usize) -> usize {
        let limits = limits::Limits {
            bulk_bytes_max: self.bulk_bytes_max,
            authenticated: conn.authenticated || self.server.access.users.is_open(),
        };
        if conn.protocol == Protocol::Memcached {
            return self.parse_memcached(queue, conn, bytes, at, &limits);
        }
        loop {
            if conn.authenticated && !conn.parser.in_request() {
                at = self.parse_short(queue, bytes, at);
            }
            if at >= bytes.len() {
                return at;
            }
            let spans_from = queue.spans.len();
            let rest = &bytes[at..];
            if !conn.spans.is_empty() {
                queue.spans.append(&mut conn.spans);
            }
            match conn.parser.parse(rest, &mut queue.spans, &limits) {
                Ok(Progress::Complete(consumed)) => {
                    if queue.spans.len() > spans_from {
                        self.queue_request(queue, rest, at, spans_from);
                    }
                    at += consumed;
                }
                Ok(Progress::Inline { line, consumed }) => {
                    if let Err(violation) = self.queue_inline(queue, &rest[..line], at) {
                        self.queue_violation(queue, violation, at);
                        return bytes.len();
                    }
                    at += consumed;
                }
                Ok(Progress::Incomplete { wanted }) => {
                    conn.spans.extend(queue.spans.drain(spans_from..));
                    conn.wanted = wanted;
                    return at;
                }
                Err(violation) => {
                    queue.spans.truncate(spans_from);
                    conn.parser = RequestParser::default();
                    self.queue_violation(queue, violation, at);
                    return bytes.len();
                }
            }
            if !conn.authenticated && queue.spans.len() > spans_from {
                return at;
            }
        }
    }

    /// Queues short requests that are there whole, as nearly all are, and answers where the first other one starts.
    #[inline]
    fn parse_short(&self, queue: &mut Queue, bytes: &[u8], mut at: usize) -> usize {
        while let Some(rest) = bytes.get(at..) {
            let spans_from = queue.spans.len();
            let Some(consumed) = parse_whole(rest, &mut queue.spans) else { break };
            self.queue_request(queue, rest, at, spans_from);
            at += consumed;
        }
        at
    }

    /// Queues a request that starts at `at` and whose words have been pushed.
    #[inline(always)]
    fn queue_request(&self, queue: &mut Queue, request: &[u8], at: usize, spans_from: usize) {
        let words = &queue.spans[spans_from..];
        let (asked, hash) = self.look_up(words, request);
        let spans = (spans_from as u32, words.len() as u32);
        let (source, base) = (self.source, at as u32);
        queue.requests.push(Request { asked, source, base, raw_base: base, spans, hash });
    }

    /// The command of a parsed request and the hash of its first key, whose shard is prefetched.
    #[inline(always)]
    fn look_up(&self, words: &[Span], request: &[u8]) -> (Asked, u64) {
        let name = words[0];
        let row = self.server.registry.find_at(&request[name.start as usize..], name.len as usize);
        let key = row.filter(|row| row.first_key != 0).and_then(|row| words.get(row.first_key));
        let Some(key) = key else { return (Asked::Command(row), 0) };
        let hash = self.server.keyspace.hash(key.of(request));
        self.database.prefetch_shard(hash);
        (Asked::Command(row), hash)
    }

    #[cold]
    fn queue_violation(&self, queue: &mut Queue, violation: ProtocolError, at: usize) {
        let (asked, source, base) = (Asked::Violation(violation), self.source, at as u32);
        queue.requests.push(Request { asked, source, base, raw_base: base, spans: (0, 0), hash: 0 });
    }

    /// Queues an inline request: its words are rewritten one after the other.
    fn queue_inline(&self, queue: &mut Queue, text: &[u8], at: usize) -> Result<(), ProtocolError> {
        let words = split_words(text).ok_or(ProtocolError::UnbalancedQuotes)?;
        if words.is_empty() {
            return Ok(());
        }
        let base = queue.inline.len();
        let first = queue.spans.len();
        for word in &words {
            let start = (queue.inline.len() - base) as u32;
            queue.inline.extend_from_slice(word);
            queue.spans.push(Span { start, len: word.len() as u32 });
        }
        let (asked, hash) = self.look_up(&queue.spans[first..], &queue.inline[base..]);
        let spans = (first as u32, words.len() as u32);
        let (base, raw_base, source) = (base as u32, at as u32, Source::Inline);
        queue.requests.push(Request { asked, source, base, raw_base, spans, hash });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(len: usize, capacity: usize) -> Vec<u8> {
        let mut input = Vec::with_capacity(capacity);
        input.resize(len, 0);
        input
    }

    #[test]
    fn a_large_request_is_read_into_a_buffer_of_its_size() {
        let wanted = 200 * 1024;
        let mut input = with(20 * 1024, 0);
        make_room(&mut input, wanted);
        assert_eq!(input.capacity(), wanted);
        // Its last bytes come alone: nothing is moved for them.
        input.resize(wanted - 10, 0);
        make_room(&mut input, wanted);
        assert_eq!(input.capacity(), wanted);
    }

    #[test]
    fn room_is_bounded_by_what_has_arrived() {
        for (len, wanted) in [(50, usize::MAX), (50, 500 << 20), (100 * 1024, 500 << 20)] {
            let mut input = with(len, len);
            make_room(&mut input, wanted);
            assert!(input.capacity() > len, "{len} {wanted}");
            assert!(input.capacity() <= len + LARGE_READ_BYTES, "{len} {wanted}");
        }
    }

    #[test]
    fn there_is_always_room_and_more_for_streams() {
        for (len, capacity, wanted) in [(0, 0, 0), (10, 10, 0), (10, 10, 5), (30_000, 30_000, 31_000)] {
            let mut input = with(len, capacity);
            make_room(&mut input, wanted);
            assert!(input.capacity() - len >= READ_BYTES, "{len} {capacity} {wanted}");
        }
        let mut input = with(4000, 4000);
        make_room(&mut input, 16_500);
        assert_eq!(input.capacity(), STREAM_BYTES);
        let mut input = with(4000, 4000);
        make_room(&mut input, 4100);
        assert!(input.capacity() < STREAM_BYTES);
    }
}
