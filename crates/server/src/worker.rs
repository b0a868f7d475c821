//! A worker: one thread, one event loop, its own connections.
//!
//! A turn: take what the poller reports; read every ready socket; parse all complete requests where
//! the bytes lie; then, in windows of a few dozen requests, hash their keys, prefetch what they will
//! touch, and carry them out; at the end send each connection its replies at once. What is left of
//! the time goes to background work in small slices.
//!
//! Read next: `worker/receive.rs`, `worker/carry_out.rs` and `worker/flush.rs` for the three parts of a
//! turn, `execute.rs` for one request, `connection.rs` for what a connection holds.

mod batch;
mod carry_out;
mod flush;
mod mail;
mod memcached;
mod receive;

use crate::background::Background;
use crate::connection::{Connection, Parked};
use crate::execute::{ATTENDS, Core, attend};
use crate::io::{Poller, Readiness, Session};
use crate::listen::LISTENER_TOKENS;
use crate::server::Server;
use crate::slots::Slots;
use batch::{Batch, Source};
use larder_resp::Output;
use larder_store::{Participant, Patience};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Bytes read from a socket at a time.
const READ_BYTES: usize = 16 * 1024;
/// Bytes read in a turn before what was read is carried out.
const TURN_BYTES: usize = 1024 * 1024;
/// Requests that a turn reads before it carries them out and reads on: few enough that their bytes, their records and
/// the entries they ask for stay in the nearest cache meanwhile.
const TURN_REQUESTS: usize = 64;
/// Connections that a turn serves before it sends their replies and goes on as the next one: what belongs to so many,
/// the kernel's part included, stays in the nearer caches from a read to the write. Fewer would be sent to one by one,
/// and each such send wakes a peer that was about to be woken by another.
const TURN_CONNECTIONS: usize = 64;
/// Turns without an event after which a worker gives its buffers back.
const QUIET_TURNS: u32 = 10;
/// Buffers for replies kept for reuse.
const SPARE_BUFFERS: usize = 256;
/// A buffer larger than this is not kept.
const SPARE_BUFFER_BYTES_MAX: usize = 128 * 1024;
/// Most bytes read at once into the buffer of a large request.
const LARGE_READ_BYTES: usize = 1024 * 1024;

/// One thread of the server.
pub struct Worker {
    core: Core,
    server: &'static Server,
    poller: Arc<Poller>,
    participant: Participant,
    connections: Slots,
    background: Background,
    batch: Batch,
    /// The output of the connection whose command runs with everything special about it.
    output_at_hand: Output,
    /// `proto-max-bulk-len`, as the parser wants it.
    bulk_bytes_max: i64,
    flush: Vec<u64>,
    /// Connections whose long wait is over: they get their replies before all others.
    flush_first: Vec<u64>,
    /// Connections whose replies wait for the log to be on disk.
    held: Vec<u64>,
    /// Connections whose buffered requests are to be looked at again.
    again: Vec<u64>,
    /// Connections parked because a key was locked or a pause is in force.
    parked: Vec<u64>,
    spare: Vec<Vec<u8>>,
    ready: Vec<Readiness>,
    /// Turns in a row in which nothing came.
    quiet_turns: u32,
    stopping: bool,
}

impl Worker {
    /// Worker `id`, which waits in `poller`. The first one accepts for all.
    pub fn new(id: usize, server: &'static Server, poller: Poller, seed: u64) -> std::io::Result<Worker> {
        if id == 0 {
            server.listeners.lock().watch(&poller)?;
        }
        let poller = Arc::new(poller);
        let mut core = Core::new(id, server, seed);
        core.desk.poller = Some(Arc::clone(&poller));
        Ok(Worker {
            core,
            server,
            poller,
            participant: server.epochs.register(),
            connections: Slots::default(),
            background: Background::new(id, server.mailboxes.len()),
            batch: Batch::with_room_for(TURN_BYTES),
            output_at_hand: Output::default(),
            bulk_bytes_max: 0,
            flush: Vec::new(),
            flush_first: Vec::new(),
            held: Vec::new(),
            again: Vec::new(),
            parked: Vec::new(),
            spare: Vec::new(),
            ready: Vec::new(),
            quiet_turns: 0,
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
            || self.server.loading.pieces.any()
            || self.connections_are_busy()
            || self.server.debts.any()
            || !self.server.mailboxes[self.core.id].is_empty();
        Some(if busy {
            Duration::ZERO
        } else {
            self.background.time_to_next(&self.core, self.ready.is_empty())
        })
    }

    fn connections_are_busy(&self) -> bool {
        self.parked
            .iter()
            .any(|token| self.connections.get(*token).is_some_and(|conn| conn.parked == Some(Parked::Busy)))
    }

    /// Gives memory of busy times back once nothing has come for a while.
    #[inline]
    fn rest(&mut self) {
        if !self.ready.is_empty() {
            self.quiet_turns = 0;
            return;
        }
        self.quiet_turns = self.quiet_turns.saturating_add(1);
        if self.quiet_turns == QUIET_TURNS {
            self.batch = Batch::with_room_for(TURN_BYTES);
            self.spare = Vec::new();
            self.core.local.scratch = Vec::new();
        }
    }

    fn turn(&mut self) {
        let (start, commands) = (self.core.ticks(), self.core.stats.commands.get());
        self.participant.enter();
        self.open_turn();
        if self.stopping {
            return;
        }
        self.core.stats.turns.add(1);
        self.bulk_bytes_max = i64::try_from(self.core.settings.proto_max_bulk_len()).unwrap_or(i64::MAX);
        self.open_mailbox();
        if !self.held.is_empty() {
            self.look_at_held();
        }
        self.look_again();
        let ready = std::mem::take(&mut self.ready);
        for readiness in &ready {
            self.on_ready(*readiness);
            if self.batch.queue.requests.len() >= TURN_REQUESTS {
                self.carry_out();
                if self.flush.len() >= TURN_CONNECTIONS {
                    self.answer();
                    self.participant.enter();
                    self.open_turn();
                    if self.stopping {
                        return;
                    }
                }
            }
        }
        self.ready = ready;
        self.answer();
        if self.server.loading.pieces.any() {
            self.core.load_some(&self.participant);
        }
        let start_of_background = self.core.ticks();
        self.background.run(&mut self.core, &self.connections);
        self.core.count_background(start_of_background);
        for token in self.background.take_expired_connections() {
            self.close(token);
        }
        self.participant.leave();
        self.rest();
        self.core.count_busy(start, commands);
    }

    /// Opens a turn. While a script that has everything is busy, clients are answered so.
    #[inline]
    fn open_turn(&mut self) {
        if !self.core.open_turn() {
            self.stand_by();
        }
    }

    /// Waits for somebody who has everything, and opens a turn then.
    #[cold]
    fn stand_by(&mut self) {
        let mut patience = Patience::default();
        while !self.stopping && !self.core.open_turn() {
            if self.server.busy.load(Relaxed) == 0 {
                patience.wait();
            } else {
                self.attend();
            }
        }
    }

    /// Answers clients that a script is busy, for a moment.
    fn attend(&mut self) {
        let mut attended = std::mem::take(&mut self.core.desk.attended);
        attend(&mut self.core, &mut self.connections, &self.poller, &mut attended, ATTENDS);
        self.look_after(attended);
        self.stopping |= self.server.stop.load(Relaxed) != 0;
    }

    /// Sees to connections that were attended to while a script was busy.
    fn look_after(&mut self, attended: Vec<u64>) {
        for token in attended {
            let Some(conn) = self.connections.get_mut(token) else { continue };
            if !conn.in_flush_list {
                conn.in_flush_list = true;
                self.flush.push(token);
            }
            self.again.push(token);
        }
    }

    /// Carries out what was read, ends the turn towards other workers, and sends the replies.
    fn answer(&mut self) {
        self.carry_out();
        self.core.tell_copiers();
        // Clients of this worker that were served in this turn are answered in it.
        self.open_mailbox_again();
        self.core.close_turn();
        self.flush_all();
        self.look_at_clients();
    }

    fn on_ready(&mut self, ready: Readiness) {
        if ready.token >= LISTENER_TOKENS {
            self.server.listeners.lock().accept(ready.token, self.server);
            return;
        }
        if ready.writable
            && let Some(conn) = self.connections.get_mut(ready.token)
            && !conn.in_flush_list
        {
            conn.in_flush_list = true;
            self.flush.push(ready.token);
        }
        if ready.readable {
            self.receive(ready.token);
        }
    }

    /// Looks at the buffered requests of connections that were parked or may not have been read out.
    fn look_again(&mut self) {
        let mut tokens = std::mem::take(&mut self.again);
        for token in std::mem::take(&mut self.parked) {
            let Some(conn) = self.connections.get_mut(token) else { continue };
            match conn.parked {
                Some(Parked::Busy) => {
                    conn.parked = None;
                    tokens.push(token);
                }
                Some(Parked::Paused)
                    if self.server.is_paused(self.core.local.now, true)
                        || self.server.snapshots.holds_writes() =>
                {
                    self.parked.push(token);
                }
                Some(Parked::Paused) => {
                    // The command itself decides again whether it may run. The end of the turn has
                    // the socket watched for reading again.
                    conn.parked = None;
                    conn.client.parked.store(false, Relaxed);
                    tokens.push(token);
                    if !conn.in_flush_list {
                        conn.in_flush_list = true;
                        self.flush.push(token);
                    }
                }
                _ => {}
            }
        }
        for token in tokens {
            if self
                .connections
                .get(token)
                .is_some_and(|conn| !conn.input.is_empty() && conn.parked.is_none() && !conn.is_queued)
            {
                self.read_requests(token, Source::Own, (0, 0));
            }
        }
    }

    fn stop_reading(poller: &Poller, conn: &mut Connection) {
        if conn.interest.0 {
            conn.interest.0 = false;
            let _ = poller.set_interest(&conn.socket, conn.token, false, conn.interest.1);
        }
    }

    /// Ends a connection and forgets it.
    fn close(&mut self, token: u64) {
        let Some(mut conn) = self.connections.remove(token) else { return };
        self.core.unwatch(&mut conn);
        self.core.end_tracking(&mut conn);
        self.core.end_loading(&mut conn);
        self.core.forget_subscriptions(&mut conn);
        let _ = self.poller.remove(&conn.socket);
        if conn.socket.tls().is_some() {
            end_tls(&mut conn);
        }
        if conn.monitor {
            self.server.monitors.fetch_sub(1, Relaxed);
        }
        if !self.server.blocked.is_empty() {
            self.server.blocked.forget(conn.client.id);
        }
        self.server.clients.give_place();
        self.server.clients.remove(conn.client.id);
    }
}

/// Says goodbye to the peer of an encrypted connection, or why it is no such peer.
#[cold]
fn end_tls(conn: &mut Connection) {
    match conn.socket.tls().and_then(Session::failure) {
        None => conn.socket.say_goodbye(),
        Some(why) => {
            tracing::debug!(
                client = conn.client.id,
                "a connection from {} ends: TLS: {why}",
                conn.client.address
            );
        }
    }
}
