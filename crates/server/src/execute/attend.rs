//! Clients are attended to while a script is busy: nearly everything is answered that it is, and the few commands that may
//! end it, or that need nothing, are carried out.
//!
//! A worker does so in place of a turn while somebody else has everything, and from within its own script: that one runs on
//! the worker's thread, and asks for it between two instructions. What cannot be answered stays with its connection until later.
//!
//! Invariant: no key is touched here but by WATCH, on the worker of the script.
//! Read next: `script.rs`, `larder_script`'s `engine.rs`.

use super::{Core, Outcome};
use crate::connection::{Closing, Connection, Parked};
use crate::door::{self, Next};
use crate::io::{Poller, Readiness, Received, Socket};
use crate::listen::LISTENER_TOKENS;
use crate::registry::Row;
use crate::server::Message;
use crate::slots::Slots;
use larder_commands::Args;
use larder_resp::{Output, Progress, Protocol, Reply, RequestParser, Span, limits, memcached, split_words};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Most bytes read from a socket at a time.
const READ_BYTES: usize = 16 * 1024;

/// What a worker has of clients: lent to its core while a command runs that may take long.
#[derive(Debug, Default)]
pub struct Desk {
    /// The connections.
    pub connections: Slots,
    /// They are here.
    pub is_lent: bool,
    /// What tells which of them are ready.
    pub poller: Option<Arc<Poller>>,
    /// Connections that were attended to, and are to be looked at again once all is as usual.
    pub attended: Vec<u64>,
}

impl Core {
    /// Attends to the clients of this worker while a command of one of them goes on.
    #[cold]
    pub(super) fn attend_meanwhile(&mut self, wait: Duration) {
        let mut desk = std::mem::take(&mut self.desk);
        let Some(poller) = desk.poller.clone().filter(|_| desk.is_lent) else {
            self.desk = desk;
            std::thread::sleep(wait);
            return;
        };
        let (mark, no_touch) = (self.mark, self.local.no_touch);
        let Desk { connections, attended, .. } = &mut desk;
        let result = catch_unwind(AssertUnwindSafe(|| attend(self, connections, &poller, attended, wait)));
        (self.mark, self.local.no_touch) = (mark, no_touch);
        self.desk = desk;
        self.answers_busy = false;
        if let Err(panic) = result {
            resume_unwind(panic);
        }
    }
}

/// Answers what clients ask while a script is busy, waiting for them for so long at most.
#[cold]
pub fn attend(
    core: &mut Core,
    connections: &mut Slots,
    poller: &Poller,
    attended: &mut Vec<u64>,
    wait: Duration,
) {
    core.answers_busy = true;
    take_mail(core, connections, poller);
    let mut ready: Vec<Readiness> = Vec::new();
    if let Err(error) = poller.wait(&mut ready, Some(wait)) {
        tracing::error!(%error, "the event loop cannot wait for sockets");
    }
    let held = connections.iter_mut().filter(|conn| conn.parked == Some(Parked::Busy));
    let mut tokens: Vec<(u64, bool)> = held.map(|conn| (conn.token, false)).collect();
    tokens.extend(ready.iter().map(|ready| (ready.token, ready.readable)));
    let mut is_idle = true;
    for (token, is_readable) in tokens {
        if token >= LISTENER_TOKENS {
            core.server.listeners.lock().accept(token, core.server);
            continue;
        }
        let Some(mut conn) = connections.take(token) else { continue };
        if attend_to(core, &mut conn, is_readable) {
            is_idle = false;
            attended.push(token);
        }
        connections.put(conn);
    }
    if is_idle && !ready.is_empty() && !wait.is_zero() {
        // Those who are ready have to wait all the same.
        std::thread::sleep(Duration::from_millis(1));
    }
    core.answers_busy = false;
}

/// Takes new connections over; everything else in the mailbox has to wait.
fn take_mail(core: &mut Core, connections: &mut Slots, poller: &Poller) {
    let mailbox = &core.server.mailboxes[core.id];
    mailbox.open();
    for _ in 0..mailbox.len() {
        match mailbox.take() {
            Some(Message::Accept(socket, client)) => adopt(core, connections, poller, socket, client),
            Some(message) => core.set_aside.push(message),
            None => return,
        }
    }
}

/// Takes a connection over that has been accepted.
pub fn adopt(
    core: &Core,
    connections: &mut Slots,
    poller: &Poller,
    socket: Socket,
    client: Arc<crate::clients::Client>,
) {
    let token = connections.next_token();
    if let Err(error) = poller.add(&socket, token) {
        tracing::warn!(%error, "a new connection cannot be watched; it is closed");
        core.server.clients.give_place();
        core.server.clients.remove(client.id);
        return;
    }
    core.stats.connections.add(1);
    let authenticated = core.server.access.users.is_open();
    let conn = Box::new(Connection::new(client, socket, authenticated));
    core.server.clients.weigh(&conn.client, conn.memory());
    connections.insert(conn);
}

/// Reads what a connection has and answers it. False where nothing came of it.
fn attend_to(core: &mut Core, conn: &mut Connection, is_readable: bool) -> bool {
    let is_free = matches!(conn.parked, None | Some(Parked::Busy));
    if conn.is_queued || !is_free || conn.closing != Closing::No {
        return false;
    }
    let mut is_new = conn.parked.take().is_some();
    if is_readable {
        conn.input.reserve(READ_BYTES);
        match conn.socket.read_onto(&mut conn.input) {
            Received::Bytes(count) => {
                core.stats.reads.add(1);
                core.stats.bytes_in.add(count as u64);
                conn.client.bytes_in.add(count as u64);
                is_new = true;
            }
            Received::Nothing => {}
            Received::End => {
                conn.closing = Closing::Now;
                return true;
            }
        }
    }
    if !is_new {
        return false;
    }
    let limit = usize::try_from(core.settings.client_query_buffer_limit()).unwrap_or(usize::MAX);
    let mut out = std::mem::take(&mut conn.output);
    while conn.closing == Closing::No && conn.parked.is_none() && answer_next(core, conn, &mut out) {}
    conn.output = out;
    if conn.input.len() > limit {
        conn.closing = Closing::Now;
    }
    // What the socket does not take goes out later.
    let _ = conn.socket.flush(&mut conn.output);
    true
}

/// Answers the next request of a connection. False where there is none, or it has to wait.
fn answer_next(core: &mut Core, conn: &mut Connection, out: &mut Output) -> bool {
    if conn.protocol == Protocol::Memcached {
        return answer_next_of_memcached(core, conn, out);
    }
    let bulk_bytes_max = i64::try_from(core.settings.proto_max_bulk_len()).unwrap_or(i64::MAX);
    let limits = limits::Limits { bulk_bytes_max, authenticated: conn.authenticated };
    let input = std::mem::take(&mut conn.input);
    let mut spans = std::mem::take(&mut conn.spans);
    let progress = conn.parser.parse(&input, &mut spans, &limits);
    let (outcome, consumed) = match progress {
        Ok(Progress::Complete(consumed)) => {
            (execute(core, conn, out, &Args::new(&input, &spans), spans.is_empty()), consumed)
        }
        Ok(Progress::Inline { line, consumed }) => {
            let words = split_words(input.get(..line).unwrap_or_default()).unwrap_or_default();
            let mut at = 0;
            let spans: Vec<Span> = words
                .iter()
                .map(|word| {
                    let span = Span { start: at, len: word.len() as u32 };
                    at += word.len() as u32;
                    span
                })
                .collect();
            (execute(core, conn, out, &Args::new(&words.concat(), &spans), spans.is_empty()), consumed)
        }
        Ok(Progress::Incomplete { wanted }) => {
            (conn.input, conn.spans, conn.wanted) = (input, spans, wanted);
            return false;
        }
        Err(violation) => {
            let mut text = b"ERR ".to_vec();
            violation.write_text(&mut text);
            Reply::new(out, Protocol::Resp2).error(&text);
            core.count_error(&text);
            conn.closing = Closing::AfterReplies;
            return false;
        }
    };
    conn.input = input;
    (conn.parser, conn.wanted) = (RequestParser::default(), 0);
    if outcome == Outcome::Later {
        return false;
    }
    conn.input.drain(..consumed);
    true
}

/// The same of a connection that speaks memcached's protocol.
fn answer_next_of_memcached(core: &mut Core, conn: &mut Connection, out: &mut Output) -> bool {
    let bulk_bytes_max = i64::try_from(core.settings.proto_max_bulk_len()).unwrap_or(i64::MAX);
    let limits = limits::Limits { bulk_bytes_max, authenticated: conn.authenticated };
    let input = std::mem::take(&mut conn.input);
    let (mut spans, mut inline, mut parser) = (Vec::new(), Vec::new(), conn.door);
    let next = if input.is_empty() {
        Next::Incomplete { wanted: 0 }
    } else {
        door::next(&core.server.registry, &mut parser, &input, (&mut spans, &mut inline), &limits)
    };
    let (outcome, consumed) = match next {
        Next::Request { row, consumed, is_rewritten } => {
            let text = if is_rewritten { &inline } else { &input };
            (run(core, conn, out, Some(row), &Args::new(text, &spans)), consumed)
        }
        Next::Nothing(consumed) => (Outcome::Done, consumed),
        Next::Incomplete { wanted } => {
            (conn.input, conn.door, conn.wanted) = (input, parser, wanted);
            return false;
        }
    };
    conn.input = input;
    if outcome == Outcome::Later {
        // It is read again from its beginning.
        conn.door = memcached::Parser::default();
        return false;
    }
    (conn.door, conn.wanted) = (parser, 0);
    conn.input.drain(..consumed);
    true
}

fn execute(
    core: &mut Core,
    conn: &mut Connection,
    out: &mut Output,
    args: &Args<'_>,
    is_nothing: bool,
) -> Outcome {
    if is_nothing {
        return Outcome::Done;
    }
    run(core, conn, out, core.server.registry.find(args.get(0)), args)
}

fn run(
    core: &mut Core,
    conn: &mut Connection,
    out: &mut Output,
    row: Option<&'static Row>,
    args: &Args<'_>,
) -> Outcome {
    if row.is_some_and(|row| row.spec.name == "watch") && core.turn.is_none() && !core.is_alone {
        // It looks at keys, which are another's at present.
        return Outcome::Later;
    }
    let key = row.filter(|row| row.first_key != 0).and_then(|row| args.try_get(row.first_key));
    let hash = key.map_or(0, |key| core.server.keyspace.hash(key));
    let between = core.begin_client();
    let outcome = core.execute(conn, out, row, args, hash);
    core.count_commands_of(&conn.client);
    core.go_on_with_client(between);
    conn.client.active_ms.store(core.local.now.0, Relaxed);
    outcome
}
