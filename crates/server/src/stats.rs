//! Counters of the server: one set per worker, summed when somebody asks.

use crate::error_counts::ErrorCounts;
use crate::histogram::Histogram;
use larder_store::{Counter, StoreStats};
use std::sync::Arc;

/// What one worker counts.
#[derive(Debug)]
pub struct WorkerStats {
    /// About the keyspace.
    pub store: Arc<StoreStats>,
    /// Commands carried out.
    pub commands: Counter,
    /// Connections accepted.
    pub connections: Counter,
    /// Bytes read from clients.
    pub bytes_in: Counter,
    /// Bytes sent to clients.
    pub bytes_out: Counter,
    /// Error replies.
    pub errors: Counter,
    /// Requests that violated the protocol.
    pub protocol_errors: Counter,
    /// Turns of the event loop.
    pub turns: Counter,
    /// Nanoseconds spent in turns, waiting excluded.
    pub busy_nanos: Counter,
    /// Nanoseconds of them spent on the work between turns.
    pub background_nanos: Counter,
    /// Nanoseconds of them spent on handing what was changed to the log.
    pub log_nanos: Counter,
    /// The longest turn, in nanoseconds.
    pub turn_nanos_max: Counter,
    /// The most commands that one turn carried out.
    pub turn_commands_max: Counter,
    /// Reads from sockets.
    pub reads: Counter,
    /// Writes to sockets.
    pub writes: Counter,
    /// Connections closed because their output passed its limit.
    pub output_limit_closes: Counter,
    /// Connections closed because their query buffer passed its limit.
    pub query_limit_closes: Counter,
    /// Clients closed because all together took too much memory.
    pub clients_evicted: Counter,
    /// Nanoseconds spent on active expiry.
    pub expire_nanos: Counter,
    /// Slices of active expiry that ended before all due keys were gone.
    pub expire_cuts: Counter,
    /// Blocks that defragmentation moved, and those that lay well; keys of which something moved, and the others.
    pub defrag_hits: Counter,
    /// See above.
    pub defrag_misses: Counter,
    /// See above.
    pub defrag_key_hits: Counter,
    /// See above.
    pub defrag_key_misses: Counter,
    /// Windows of requests whose memory was prefetched.
    pub prefetch_batches: Counter,
    /// Requests in them that have a key.
    pub prefetched: Counter,
    /// Bytes that the worker's Lua state holds.
    pub script_bytes: Counter,
    /// Error replies by their codes.
    pub errors_by_code: ErrorCounts,
    /// Per command and subcommand, by `Row::id`.
    pub by_command: Box<[CommandStats]>,
}

/// What is counted for one command.
#[derive(Debug, Default)]
pub struct CommandStats {
    /// Times it ran.
    pub calls: Counter,
    /// Nanoseconds it ran. Commands in constant time are timed now and then and their time scaled.
    pub nanos: Counter,
    /// Times it was refused before it ran.
    pub rejected: Counter,
    /// Times it answered an error.
    pub failed: Counter,
    /// How long its runs took; as `nanos`, a run that was timed stands for those that were not.
    pub durations: Histogram,
}

impl WorkerStats {
    /// All zero, for `ids` commands.
    pub fn new(ids: usize) -> Self {
        WorkerStats {
            store: Arc::new(StoreStats::default()),
            commands: Counter::default(),
            connections: Counter::default(),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            errors: Counter::default(),
            protocol_errors: Counter::default(),
            turns: Counter::default(),
            busy_nanos: Counter::default(),
            background_nanos: Counter::default(),
            log_nanos: Counter::default(),
            turn_nanos_max: Counter::default(),
            turn_commands_max: Counter::default(),
            reads: Counter::default(),
            writes: Counter::default(),
            output_limit_closes: Counter::default(),
            query_limit_closes: Counter::default(),
            clients_evicted: Counter::default(),
            expire_nanos: Counter::default(),
            expire_cuts: Counter::default(),
            defrag_hits: Counter::default(),
            defrag_misses: Counter::default(),
            defrag_key_hits: Counter::default(),
            defrag_key_misses: Counter::default(),
            prefetch_batches: Counter::default(),
            prefetched: Counter::default(),
            script_bytes: Counter::default(),
            errors_by_code: ErrorCounts::default(),
            by_command: (0..ids).map(|_| CommandStats::default()).collect(),
        }
    }

    /// Starts again from zero (CONFIG RESETSTAT).
    pub fn reset(&self) {
        let store = &self.store;
        let counters = [
            &store.hits,
            &store.misses,
            &store.expired,
            &store.expired_on_access,
            &store.deleted,
            &store.expired_fields,
            &store.evicted,
            &store.invalidated,
            &store.softened,
            &store.settled,
            &self.commands,
            &self.connections,
            &self.bytes_in,
            &self.bytes_out,
            &self.errors,
            &self.protocol_errors,
            &self.turns,
            &self.busy_nanos,
            &self.background_nanos,
            &self.log_nanos,
            &self.turn_nanos_max,
            &self.turn_commands_max,
            &self.reads,
            &self.writes,
            &self.output_limit_closes,
            &self.query_limit_closes,
            &self.clients_evicted,
            &self.expire_nanos,
            &self.expire_cuts,
            &self.defrag_hits,
            &self.defrag_misses,
            &self.defrag_key_hits,
            &self.defrag_key_misses,
            &self.prefetch_batches,
            &self.prefetched,
        ];
        counters.into_iter().chain(&store.evicted_for).for_each(Counter::reset);
        self.errors_by_code.reset();
        for command in &self.by_command {
            command.durations.reset();
            [&command.calls, &command.nanos, &command.rejected, &command.failed]
                .into_iter()
                .for_each(Counter::reset);
        }
    }
}
