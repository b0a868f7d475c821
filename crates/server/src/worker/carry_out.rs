//! The middle of a turn: requests are carried out, in windows whose memory is prefetched.
//!
//! A window's lines are asked for close behind one another: a processor does not go on behind a prefetch before it has
//! translated its address, so that prefetches with much between them wait one by one.
//!
//! Nearly every request is a command on one key, from a connection that is in no special state,
//! while nobody monitors, pauses or runs out of memory: those take the short way, `run_on_key`.
//! Everything else goes through `Core::execute`.

use super::batch::{Asked, Batch, Group, Queue, Request, Source};
use super::flush::output_bytes_max;
use super::{READ_BYTES, Worker};
use crate::connection::{Closing, Connection, Parked};
use crate::execute::Outcome;
use crate::registry::{InMulti, Row};
use larder_acl::Rules;
use larder_commands::Args;
use larder_commands::spec::Flags;
use larder_resp::{Output, Protocol, ProtocolError, Reply, RequestParser, memcached};
use larder_store::{Database, DbIndex, Hashed, WINDOW_MAX};
use smallvec::SmallVec;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::{Relaxed, Release};

/// How far the requests of one connection have been carried out.
struct Progress {
    /// The request at hand.
    at: usize,
    /// Where the bytes start that wait, if any do.
    left_from: Option<usize>,
}

/// The way of a connection's requests on one key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// They are carried out, and nothing else.
    Short,
    /// They are kept for EXEC, and nothing else.
    Kept,
    /// With all that may be special about them.
    Long,
}

/// Has a connection ask again what needs a key that is locked elsewhere.
#[cold]
fn park(conn: &mut Connection, request: &Request, progress: &mut Progress) {
    conn.parked = Some(Parked::Busy);
    progress.left_from = Some(request.raw_base as usize);
}

/// The way of a connection's requests, where nothing asks for attention or something does.
fn way_of(conn: &Connection, is_attentive: bool) -> Way {
    if is_attentive || !conn.is_plain() {
        Way::Long
    } else if conn.transaction.is_some() {
        Way::Kept
    } else {
        Way::Short
    }
}

impl Worker {
    /// Carries out everything queued.
    pub(super) fn carry_out(&mut self) {
        if self.batch.queue.groups.is_empty() {
            self.batch.clear();
            return;
        }
        self.core.look_up_invalidations();
        let mut batch = std::mem::take(&mut self.batch);
        let mut prefetched = 0;
        for (index, group) in batch.queue.groups.iter().enumerate() {
            let Some(mut conn) = self.connections.take(group.token) else { continue };
            self.carry_out_group(&mut conn, index, &batch, &mut prefetched);
            self.connections.put(conn);
            if !self.core.undelivered.is_empty() {
                self.deliver_the_rest();
            }
        }
        batch.clear();
        self.batch = batch;
    }

    fn carry_out_group(
        &mut self,
        conn: &mut Connection,
        index: usize,
        batch: &Batch,
        prefetched: &mut usize,
    ) {
        let group = &batch.queue.groups[index];
        conn.is_queued = false;
        let own = if group.source == Source::Own { std::mem::take(&mut conn.input) } else { Vec::new() };
        if !conn.output.has_buffer() {
            conn.output.set_buffer(self.spare.pop().unwrap_or_default());
        }
        conn.output.set_bytes_max(output_bytes_max(conn, self.core.settings.client_output_buffer_limit()));
        let mut progress = Progress { at: group.requests.0 as usize, left_from: None };
        self.core.local.no_touch = conn.no_touch;
        self.core.begin_client();
        self.core.logged_before = self.core.local.effects.log.last();
        // One boundary for the panics of all its commands: entering one costs nothing then.
        let result = catch_unwind(AssertUnwindSafe(|| {
            self.run_requests(conn, &own, index, batch, prefetched, &mut progress);
        }));
        self.take_desk_back();
        if result.is_err() {
            self.after_panic(conn, batch, progress.at);
        }
        // It holds for the replies of this turn: what the connection may be owed depends on what it has become by then.
        if !conn.output.is_over() {
            conn.output.set_bytes_max(usize::MAX);
        }
        self.core.count_changes();
        self.core.note_logged(conn);
        if group.source == Source::Own || progress.left_from.is_some() {
            self.keep_the_rest(conn, group, batch, own, progress.left_from);
        }
        self.core.count_commands_of(&conn.client);
        self.note_activity(conn, group, batch);
        if !conn.in_flush_list {
            conn.in_flush_list = true;
            self.flush.push(group.token);
        }
    }

    /// Ends a connection whose command panicked; what it is owed for the commands before goes out.
    #[cold]
    fn after_panic(&mut self, conn: &mut Connection, batch: &Batch, at: usize) {
        let row = batch.queue.requests.get(at).and_then(|request| match request.asked {
            Asked::Command(row) => row,
            Asked::Violation(_) => None,
        });
        if self.output_at_hand.has_buffer() {
            std::mem::swap(&mut conn.output, &mut self.output_at_hand);
            self.output_at_hand = Output::default();
        }
        let mut output = std::mem::take(&mut conn.output);
        self.core.after_panic(conn, &mut output, row);
        conn.output = output;
    }

    /// Carries out the requests of one connection until one has to wait or the connection ends.
    fn run_requests(
        &mut self,
        conn: &mut Connection,
        own: &[u8],
        group_index: usize,
        batch: &Batch,
        prefetched: &mut usize,
        progress: &mut Progress,
    ) {
        let group = &batch.queue.groups[group_index];
        let mut database = self.server.keyspace.open(conn.db);
        let mut way = way_of(conn, self.core.is_attentive());
        let mut rules = conn.user.rules_on_keys();
        for index in group.requests.0 as usize..group.requests.1 as usize {
            progress.at = index;
            if index >= *prefetched {
                *prefetched = self.prefetch(index, group_index, batch);
            }
            let request = &batch.queue.requests[index];
            let args = batch.args(request, own);
            if way != Way::Long
                && let Asked::Command(Some(row)) = request.asked
                && let Some(run) = row.run_on_key
                && (way == Way::Short || row.in_multi == InMulti::Kept)
                && self.needs_nothing_else(row, &args, rules.as_deref().map(|rules| (rules, conn.db)))
            {
                if way == Way::Kept {
                    self.core.keep_for_exec(conn, row, &args, request.hash);
                    Reply::new(&mut conn.output, conn.protocol).simple("QUEUED");
                    if conn.closing != Closing::No {
                        return;
                    }
                    continue;
                }
                match self.core.run_on_key(
                    database,
                    (&conn.client, conn.protocol),
                    &mut conn.output,
                    row,
                    run,
                    &args,
                    request.hash,
                ) {
                    Outcome::Done if !conn.output.is_over() => continue,
                    Outcome::Done => return,
                    Outcome::Unfound => {}
                    // Whoever waits for a busy script is told so.
                    Outcome::Later if self.server.busy.load(Relaxed) != 0 => {}
                    Outcome::Later => return park(conn, request, progress),
                }
            }
            if conn.closing != Closing::No {
                return;
            }
            if self.run_attentively(conn, request, &args) == Outcome::Later {
                progress.left_from = Some(request.raw_base as usize);
                return;
            }
            if conn.output.is_over() {
                return;
            }
            if conn.parked.is_some() {
                progress.left_from = Some(batch.begin_behind(group, index));
                return;
            }
            database = self.server.keyspace.open(conn.db);
            way = way_of(conn, self.core.look_up_attention() || conn.closing != Closing::No);
            rules = conn.user.rules_on_keys();
        }
    }

    /// Whether a command on one key needs nothing but its key, on a connection that is in no special state.
    #[inline(always)]
    fn needs_nothing_else(&mut self, row: &Row, args: &Args<'_>, rules: Option<(&Rules, DbIndex)>) -> bool {
        row.takes(args.len())
            && (rules.is_none() || self.may_run(rules, row, args))
            && !self.core.asks_before(row)
            && (!row.has(Flags::DENY_OOM) || self.core.has_room_for_certain())
    }

    /// Whether rules allow a command on keys. What they do not allow goes the long way, and is refused there.
    #[inline(never)]
    fn may_run(&self, rules: Option<(&Rules, DbIndex)>, row: &Row, args: &Args<'_>) -> bool {
        let catalog = self.server.registry.catalog();
        rules.is_none_or(|(rules, db)| rules.check(catalog, row.id, args, db.0).is_ok())
    }

    /// Carries out a request with all that may be special about it.
    fn run_attentively(&mut self, conn: &mut Connection, request: &Request, args: &Args<'_>) -> Outcome {
        self.core.count_short_runs();
        // The output stands apart from its connection meanwhile; `after_panic` finds it there.
        std::mem::swap(&mut conn.output, &mut self.output_at_hand);
        let outcome = match request.asked {
            Asked::Violation(violation) => self.violate(conn, violation),
            Asked::Command(None) if is_http(args) => {
                let client = conn.client.id;
                tracing::warn!(client, "closing a client that speaks HTTP: a cross-protocol attack?");
                conn.closing = Closing::Now;
                Outcome::Done
            }
            Asked::Command(row) => {
                self.lend_desk();
                let outcome = self.core.execute(conn, &mut self.output_at_hand, row, args, request.hash);
                self.take_desk_back();
                outcome
            }
        };
        std::mem::swap(&mut conn.output, &mut self.output_at_hand);
        outcome
    }

    /// Lends the connections to the core, for a command that may take long.
    #[inline]
    fn lend_desk(&mut self) {
        self.core.desk.connections = std::mem::take(&mut self.connections);
        self.core.desk.is_lent = true;
    }

    /// Takes the connections back.
    #[inline]
    fn take_desk_back(&mut self) {
        if !std::mem::take(&mut self.core.desk.is_lent) {
            return;
        }
        self.connections = std::mem::take(&mut self.core.desk.connections);
        if !self.core.desk.attended.is_empty() {
            let attended = std::mem::take(&mut self.core.desk.attended);
            self.look_after(attended);
        }
    }

    /// Answers a violation of the protocol; the connection ends.
    fn violate(&mut self, conn: &mut Connection, violation: ProtocolError) -> Outcome {
        let mut text = b"ERR ".to_vec();
        violation.write_text(&mut text);
        Reply::new(&mut self.output_at_hand, Protocol::Resp2).error(&text);
        self.core.stats.protocol_errors.add(1);
        self.core.count_error(&text);
        conn.closing = Closing::AfterReplies;
        Outcome::Done
    }

    /// Prefetches what the next window of requests will touch and answers where it ends. The first of them is of group
    /// `group`.
    #[inline]
    fn prefetch(&self, from: usize, group: usize, batch: &Batch) -> usize {
        let Queue { requests, groups, .. } = &batch.queue;
        let to = (from + WINDOW_MAX).min(requests.len());
        let window = &requests[from..to];
        if let [_] = window {
            // Alone it would wait for its own prefetch.
            return to;
        }
        let (mut keyed, mut repeated, mut last) = (0, 0, 0);
        let mut groups = groups[group..].iter();
        let (mut database, mut group_end) = (None, from);
        let keys = window.iter().enumerate().filter_map(|(at, request)| {
            while from + at >= group_end
                && let Some(group) = groups.next()
            {
                (database, group_end) = (Some(group.database), group.requests.1 as usize);
            }
            keyed += u64::from(request.hash != 0);
            repeated += u64::from(request.hash == last && request.hash != 0);
            last = request.hash;
            if request.hash == 0 { None } else { Some((database?, request.hash)) }
        });
        Database::prefetch_all(&self.participant, keys);
        if repeated != 0 {
            prefetch_elements(from, to, &batch.queue.groups[group..], batch);
        }
        self.core.stats.prefetch_batches.add(1);
        self.core.stats.prefetched.add(keyed);
        to
    }

    /// Puts the bytes that were not carried out back into the connection's buffer.
    fn keep_the_rest(
        &mut self,
        conn: &mut Connection,
        group: &Group,
        batch: &Batch,
        mut own: Vec<u8>,
        left_from: Option<usize>,
    ) {
        if group.source == Source::Own {
            let from = left_from.unwrap_or(group.parsed_to).min(own.len());
            own.drain(..from);
            conn.input = own;
        } else if let Some(from) = left_from {
            // The tail that was incomplete is in `input` already; it follows what was left.
            let mut input = batch.bytes[from..group.parsed_to].to_vec();
            input.append(&mut conn.input);
            conn.input = input;
        }
        if left_from.is_some() {
            (conn.parser, conn.wanted) = (RequestParser::default(), 0);
            conn.door = memcached::Parser::default();
            conn.spans.clear();
        }
        if conn.input.is_empty() {
            conn.input = Vec::new();
            conn.spans = Vec::new();
        } else if conn.input.capacity() > 4 * READ_BYTES && conn.input.capacity() / 4 > conn.input.len() {
            conn.input.shrink_to(READ_BYTES);
        }
        if matches!(conn.parked, Some(Parked::Busy | Parked::Paused)) {
            self.parked.push(group.token);
        }
    }

    /// Writes what other threads may want to know of the connection.
    fn note_activity(&self, conn: &Connection, group: &Group, batch: &Batch) {
        let client = &conn.client;
        client.active_ms.store(self.core.local.now.0, Relaxed);
        let last = batch.queue.requests[group.requests.0 as usize..group.requests.1 as usize].last();
        // What is no command or has subcommands is noted where that is found out.
        if let Some(Request { asked: Asked::Command(Some(row)), .. }) = last
            && row.subcommands.is_empty()
        {
            client.last_command.store(row.id + 1, Relaxed);
        }
        if client.held.load(Relaxed) && conn.parked != Some(Parked::Paused) {
            // Release: pairs with the Acquire of CLIENT UNBLOCK, which looks next among those who wait for a key.
            client.held.store(false, Release);
        }
        client.query_bytes.store(conn.input.len(), Relaxed);
        client.query_free.store(conn.input.capacity() - conn.input.len(), Relaxed);
    }
}

/// Prefetches what requests of a window look up in the large collection of one key, where several in a row ask for the
/// same. `groups` begins with that of the first.
#[inline(never)]
fn prefetch_elements(from: usize, to: usize, groups: &[Group], batch: &Batch) {
    let mut at = from;
    for run in batch.queue.requests[from..to].chunk_by(|one, next| one.hash == next.hash) {
        let first = at;
        at += run.len();
        let Asked::Command(Some(row)) = run[0].asked else { continue };
        if run.len() == 1 || row.element == 0 || run[0].source == Source::Own {
            continue;
        }
        let Some(group) = groups.iter().find(|group| first < group.requests.1 as usize) else { return };
        let Some(bytes) = batch.args(&run[0], &[]).try_get(row.first_key) else { continue };
        let elements: SmallVec<[&[u8]; WINDOW_MAX]> = run
            .iter()
            .filter(|request| request.source != Source::Own)
            .filter_map(|request| match request.asked {
                Asked::Command(Some(row)) if row.element != 0 => {
                    batch.args(request, &[]).try_get(row.element)
                }
                _ => None,
            })
            .collect();
        group.database.prefetch_elements(&Hashed { bytes, hash: run[0].hash }, &elements);
    }
}

/// Whether a request is the first line or a header of an HTTP request.
fn is_http(args: &Args<'_>) -> bool {
    args.is(0, b"post") || args.is(0, b"host:")
}
