//! What INFO says about what the server has done: connections, commands, errors, keys.

use super::Lines;
use crate::commands::latency::durations_of;
use crate::error_counts::ErrorCounts;
use crate::execute::Host;
use crate::pubsub::Kind;
use crate::registry::Row;
use crate::server::Server;
use crate::snapshot;
use crate::stats::WorkerStats;
use larder_acl::Reason;
use larder_store::{SIZE_BINS, SIZED_TYPES, Type};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

pub(super) fn clients(host: &mut Host<'_>, lines: &mut Lines) {
    let server = host.server();
    let clients = server.clients.all();
    let input =
        clients.iter().map(|client| client.query_bytes.load(Relaxed) + client.query_free.load(Relaxed)).max();
    let output = clients.iter().map(|client| client.output_bytes.load(Relaxed)).max();
    lines.heading("Clients");
    lines.add("connected_clients", server.clients.count());
    lines.add("cluster_connections", 0);
    lines.add("maxclients", server.settings().maxclients());
    lines.add("client_recent_max_input_buffer", input.unwrap_or(0));
    lines.add("client_recent_max_output_buffer", output.unwrap_or(0));
    lines.add("blocked_clients", clients.iter().filter(|client| client.parked.load(Relaxed)).count());
    lines.add("tracking_clients", server.tracking.counts().clients);
    lines.add("pubsub_clients", clients.iter().filter(|client| client.is_subscriber()).count());
    lines.add("watching_clients", clients.iter().filter(|client| client.keys_watched() != 0).count());
    let (watched, waited) = server.keyspace.followed.keys();
    let (timed, waited_until_gone) = server.blocked.counts();
    lines.add("clients_in_timeout_table", timed);
    lines.add("total_watched_keys", watched);
    lines.add("total_blocking_keys", waited);
    lines.add("total_blocking_keys_on_nokey", waited_until_gone);
}

pub(super) fn persistence(host: &mut Host<'_>, lines: &mut Lines) {
    let server = host.server();
    lines.heading("Persistence");
    let loading = &server.loading;
    lines.add("loading", u8::from(loading.is_on()));
    lines.add("async_loading", 0);
    snapshots(server, lines);
    let (loaded, expired) = loading.keys();
    lines.add("rdb_last_load_keys_expired", expired);
    lines.add("rdb_last_load_keys_loaded", loaded);
    log(server, lines);
    lines.add_all(&["module_fork_in_progress", "module_fork_last_cow_size"], 0);
    if server.settings().appendonly() {
        let (journal, figures) = (&server.journal, &server.journal.figures);
        lines.add("aof_current_size", figures.current_bytes.load(Relaxed));
        lines.add("aof_base_size", figures.base_bytes.load(Relaxed));
        lines.add("aof_pending_rewrite", u8::from(figures.has_no_base.load(Relaxed)));
        lines.add("aof_buffer_length", journal.backlog());
        lines.add("aof_pending_bio_fsync", 0);
        lines.add("aof_delayed_fsync", 0);
    }
    if loading.is_on() {
        let (percent, seconds) = loading.progress();
        lines.add("loading_start_time", loading.start_secs.load(Relaxed));
        lines.add("loading_total_bytes", loading.total_bytes.load(Relaxed));
        lines.add("loading_rdb_used_mem", loading.memory_then.load(Relaxed));
        lines.add("loading_loaded_bytes", loading.loaded_bytes.load(Relaxed));
        lines.add("loading_loaded_perc", format_args!("{percent:.2}"));
        lines.add("loading_eta_seconds", seconds);
        lines.add("loading_hot_served", u8::from(loading.is_partly_served()));
    }
}

/// Figures of snapshots. What Redis tells of copies on write is here what was saved and is not yet written.
fn snapshots(server: &Server, lines: &mut Lines) {
    let (progress, figures) = (server.snapshots.progress(), *server.snapshots.figures.lock());
    let (bytes, peak) = progress.map_or((0, 0), |progress| progress.bytes);
    lines.add("current_cow_peak", peak);
    lines.add("current_cow_size", bytes);
    lines.add("current_cow_size_age", 0);
    let (total, done) = progress.map_or((0, 0), |progress| progress.keys);
    lines.add("current_fork_perc", format_args!("{:.2}", done as f64 * 100.0 / total.max(1) as f64));
    lines.add("current_save_keys_processed", done);
    lines.add("current_save_keys_total", total);
    lines.add("rdb_changes_since_last_save", snapshot::changes_since(server));
    let background = progress.filter(|progress| progress.kind == snapshot::Kind::Background);
    lines.add("rdb_bgsave_in_progress", u8::from(background.is_some()));
    lines.add("rdb_last_save_time", server.last_save_secs.load(Relaxed));
    lines.add("rdb_last_bgsave_status", if server.snapshots.has_failed() { "err" } else { "ok" });
    let secs = |secs: Option<u64>| secs.map_or(-1, |secs| i64::try_from(secs).unwrap_or(i64::MAX));
    lines.add("rdb_last_bgsave_time_sec", secs(figures.last_secs));
    lines.add("rdb_current_bgsave_time_sec", secs(background.map(|background| background.secs)));
    lines.add("rdb_saves", figures.begun);
    lines.add("rdb_last_cow_size", figures.last_bytes);
    if !server.settings().snapshot_cron().is_empty() {
        let next = snapshot::next_by_calendar(server, crate::clock::unix_millis().0 / 1000);
        lines.add("rdb_next_scheduled_time", next.unwrap_or(0));
    }
}

/// Figures of the append-only log.
fn log(server: &Server, lines: &mut Lines) {
    let (journal, figures) = (&server.journal, &server.journal.figures);
    let is_rewriting = figures.is_rewriting.load(Relaxed);
    let now_ms = crate::clock::unix_millis().0;
    let current = now_ms.saturating_sub(figures.began_ms.load(Relaxed)) / 1000;
    let status = |has_failed: bool| if has_failed { "err" } else { "ok" };
    lines.add("aof_enabled", u8::from(server.settings().appendonly()));
    lines.add("aof_rewrite_in_progress", u8::from(is_rewriting));
    lines.add("aof_rewrite_scheduled", u8::from(figures.is_scheduled.load(Relaxed)));
    lines.add("aof_last_rewrite_time_sec", figures.last_secs_and_one.load(Relaxed) - 1);
    lines.add(
        "aof_current_rewrite_time_sec",
        if is_rewriting { i64::try_from(current).unwrap_or(0) } else { -1 },
    );
    lines.add("aof_last_bgrewrite_status", status(figures.has_rewrite_failed.load(Relaxed)));
    lines.add("aof_rewrites", figures.rewrites.load(Relaxed));
    lines.add("aof_rewrites_consecutive_failures", figures.failures_in_a_row.load(Relaxed));
    lines.add("aof_last_write_status", status(journal.is_in_trouble()));
    lines.add("aof_last_cow_size", 0);
}

pub(super) fn threads(host: &mut Host<'_>, lines: &mut Lines) {
    let server = host.server();
    let mut connections = vec![0usize; server.stats.len()];
    for client in server.clients.all() {
        if let Some(count) = connections.get_mut(client.worker) {
            *count += 1;
        }
    }
    lines.heading("Threads");
    for (worker, (stats, connections)) in server.stats.iter().zip(connections).enumerate() {
        let (reads, writes) = (stats.reads.get(), stats.writes.get());
        lines.add(
            &format!("io_thread_{worker}"),
            format!("clients={connections},reads={reads},writes={writes}"),
        );
    }
}

fn defragmentation(host: &mut Host<'_>, lines: &mut Lines) {
    let server = host.server();
    let (current_ms, total_ms) = server.defrag_times.times(host.core.local.now.0);
    lines.add("active_defrag_hits", server.sum(|stats| stats.defrag_hits.get()));
    lines.add("active_defrag_misses", server.sum(|stats| stats.defrag_misses.get()));
    lines.add("active_defrag_key_hits", server.sum(|stats| stats.defrag_key_hits.get()));
    lines.add("active_defrag_key_misses", server.sum(|stats| stats.defrag_key_misses.get()));
    lines.add("total_active_defrag_time", total_ms);
    lines.add("current_active_defrag_time", current_ms);
}

pub(super) fn stats(host: &mut Host<'_>, lines: &mut Lines) {
    let server = host.server();
    let rates = server.sampler.rates();
    let kilobytes = |bytes: f64| format!("{:.2}", bytes / 1024.0);
    let by_others = |counter: fn(&WorkerStats) -> u64| -> u64 {
        server.stats.iter().skip(1).map(|stats| counter(stats)).sum()
    };
    lines.heading("Stats");
    lines.add(
        "total_connections_received",
        server.sum(|stats| stats.connections.get()) + server.refused.load(Relaxed),
    );
    lines.add("total_commands_processed", server.sum(|stats| stats.commands.get()));
    lines.add("instantaneous_ops_per_sec", rates.commands.round());
    lines.add("total_net_input_bytes", server.sum(|stats| stats.bytes_in.get()));
    lines.add("total_net_output_bytes", server.sum(|stats| stats.bytes_out.get()));
    lines.add_all(&["total_net_repl_input_bytes", "total_net_repl_output_bytes"], 0);
    lines.add("instantaneous_input_kbps", kilobytes(rates.bytes_in));
    lines.add("instantaneous_output_kbps", kilobytes(rates.bytes_out));
    lines.add_all(&["instantaneous_input_repl_kbps", "instantaneous_output_repl_kbps"], "0.00");
    lines.add("rejected_connections", server.refused.load(Relaxed));
    lines.add_all(&["sync_full", "sync_partial_ok", "sync_partial_err"], 0);
    lines.add("expired_subkeys", server.sum(|stats| stats.store.expired_fields.get()));
    removals(host, lines);
    lines.add("keyspace_hits", server.sum(|stats| stats.store.hits.get()));
    lines.add("keyspace_misses", server.sum(|stats| stats.store.misses.get()));
    lines.add("pubsub_channels", server.pubsub.count(Kind::Channel));
    lines.add("pubsub_patterns", server.pubsub.count(Kind::Pattern));
    lines.add("pubsubshard_channels", server.pubsub.count(Kind::Shard));
    lines.add_all(
        &["latest_fork_usec", "total_forks", "migrate_cached_sockets", "slave_expires_tracked_keys"],
        0,
    );
    defragmentation(host, lines);
    let tracked = server.tracking.counts();
    lines.add("tracking_total_keys", tracked.keys);
    lines.add("tracking_total_items", tracked.items);
    lines.add("tracking_total_prefixes", tracked.prefixes);
    lines.add("unexpected_error_replies", 0);
    lines.add("total_error_replies", server.sum(|stats| stats.errors.get()));
    // Strings need no second look, which is all that is counted.
    lines.add("dump_payload_sanitizations", 0);
    lines.add("total_reads_processed", server.sum(|stats| stats.reads.get()));
    lines.add("total_writes_processed", server.sum(|stats| stats.writes.get()));
    lines.add("io_threaded_reads_processed", by_others(|stats| stats.reads.get()));
    lines.add("io_threaded_writes_processed", by_others(|stats| stats.writes.get()));
    lines.add("io_threaded_total_prefetch_batches", server.sum(|stats| stats.prefetch_batches.get()));
    lines.add("io_threaded_total_prefetch_entries", server.sum(|stats| stats.prefetched.get()));
    lines.add("client_query_buffer_limit_disconnections", server.sum(|stats| stats.query_limit_closes.get()));
    lines.add(
        "client_output_buffer_limit_disconnections",
        server.sum(|stats| stats.output_limit_closes.get()),
    );
    // No connection has a buffer of its own while it is owed nothing.
    lines.add_all(&["reply_buffer_shrinks", "reply_buffer_expands"], 0);
    event_loop(host, lines);
    lines.add("acl_access_denied_auth", server.access.denied(Reason::Auth));
    lines.add("acl_access_denied_cmd", server.access.denied(Reason::Command));
    lines.add("acl_access_denied_key", server.access.denied(Reason::Key));
    lines.add("acl_access_denied_channel", server.access.denied(Reason::Channel));
    lines.add("acl_access_denied_db", server.access.denied(Reason::Database));
}

fn removals(host: &mut Host<'_>, lines: &mut Lines) {
    let server = host.server();
    let (over_limit, over_limit_total) = server.over_limit.times(host.core.local.now.0);
    let stale = server.keyspace.stale_share(&mut host.core.local);
    lines.add("expired_keys", server.sum(|stats| stats.store.expired.get()));
    lines.add("expired_stale_perc", format!("{:.2}", stale * 100.0));
    lines.add("expired_time_cap_reached_count", server.sum(|stats| stats.expire_cuts.get()));
    lines.add("expire_cycle_cpu_milliseconds", server.sum(|stats| stats.expire_nanos.get()) / 1_000_000);
    lines.add("evicted_keys", server.sum(|stats| stats.store.evicted.get()));
    lines.add("evicted_clients", server.sum(|stats| stats.clients_evicted.get()));
    lines.add("evicted_scripts", server.scripts.evicted.load(Relaxed));
    lines.add("total_eviction_exceeded_time", over_limit_total);
    lines.add("current_eviction_exceeded_time", over_limit);
}

fn event_loop(host: &Host<'_>, lines: &mut Lines) {
    let server = host.server();
    let rates = server.sampler.rates();
    let command_nanos = server.sum(|stats| stats.by_command.iter().map(|command| command.nanos.get()).sum());
    lines.add("eventloop_cycles", server.sum(|stats| stats.turns.get()));
    lines.add("eventloop_duration_sum", server.sum(|stats| stats.busy_nanos.get()) / 1000);
    lines.add("eventloop_duration_cmd_sum", command_nanos / 1000);
    lines.add("instantaneous_eventloop_cycles_per_sec", rates.turns.round());
    lines.add("instantaneous_eventloop_duration_usec", rates.turn_micros().round());
}

/// What only who looks into the event loop asks for.
pub(super) fn debug(host: &mut Host<'_>, lines: &mut Lines) {
    let server = host.server();
    let max = |of: fn(&WorkerStats) -> u64| server.stats.iter().map(|stats| of(stats)).max().unwrap_or(0);
    lines.heading("Debug");
    lines.add("eventloop_duration_aof_sum", server.sum(|stats| stats.log_nanos.get()) / 1000);
    lines.add("eventloop_duration_cron_sum", server.sum(|stats| stats.background_nanos.get()) / 1000);
    lines.add("eventloop_duration_max", max(|stats| stats.turn_nanos_max.get()) / 1000);
    lines.add("eventloop_cmd_per_cycle_max", max(|stats| stats.turn_commands_max.get()));
}

/// What all workers counted for one command.
#[derive(Debug, Default)]
struct Totals {
    calls: u64,
    nanos: u64,
    rejected: u64,
    failed: u64,
}

fn totals_of(host: &Host<'_>, row: &Row) -> Totals {
    host.server().stats.iter().filter_map(|stats| stats.by_command.get(row.id)).fold(
        Totals::default(),
        |sum, one| Totals {
            calls: sum.calls + one.calls.get(),
            nanos: sum.nanos + one.nanos.get(),
            rejected: sum.rejected + one.rejected.get(),
            failed: sum.failed + one.failed.get(),
        },
    )
}

pub(super) fn command_stats(host: &mut Host<'_>, lines: &mut Lines) {
    lines.heading("Commandstats");
    for row in host.server().registry.all() {
        let totals = totals_of(host, row);
        if totals.calls == 0 && totals.rejected == 0 && totals.failed == 0 {
            continue;
        }
        let micros = totals.nanos / 1000;
        let per_call = if totals.calls == 0 { 0.0 } else { micros as f64 / totals.calls as f64 };
        let text = format!(
            "calls={},usec={micros},usec_per_call={per_call:.2},rejected_calls={},failed_calls={}",
            totals.calls, totals.rejected, totals.failed
        );
        lines.add(&format!("cmdstat_{}", row.name), text);
    }
}

/// Error replies by their codes.
pub(crate) fn errors_by_code(server: &Server) -> BTreeMap<Box<[u8]>, u64> {
    ErrorCounts::sum(server.stats.iter().map(|stats| &stats.errors_by_code))
}

pub(super) fn error_stats(host: &mut Host<'_>, lines: &mut Lines) {
    lines.heading("Errorstats");
    for (code, count) in errors_by_code(host.server()) {
        lines.add(&format!("errorstat_{}", safe(&code)), format!("count={count}"));
    }
}

/// A code without what would end a name or a line of INFO.
fn safe(code: &[u8]) -> String {
    let plain = |byte: &u8| if matches!(byte, b'#' | b':' | b'\n' | b'\r') { b'_' } else { *byte };
    String::from_utf8_lossy(&code.iter().map(plain).collect::<Vec<u8>>()).into_owned()
}

pub(super) fn latency_stats(host: &mut Host<'_>, lines: &mut Lines) {
    lines.heading("Latencystats");
    let server = host.server();
    let settings = server.settings();
    if !settings.latency_tracking() {
        return;
    }
    for row in server.registry.all() {
        let durations = durations_of(server, row);
        if durations.total == 0 {
            continue;
        }
        let points: Vec<String> = settings
            .latency_tracking_info_percentiles()
            .iter()
            .map(|percent| format!("p{percent}={:.3}", durations.percentile(*percent) as f64 / 1000.0))
            .collect();
        lines.add(&format!("latency_percentiles_usec_{}", row.name), points.join(","));
    }
}

pub(super) fn keyspace(host: &mut Host<'_>, lines: &mut Lines) {
    lines.heading("Keyspace");
    let keyspace = &host.server().keyspace;
    for db in keyspace.indexes() {
        let (keys, expires) = (keyspace.len(db), keyspace.len_with_deadline(db));
        if keys == 0 && expires == 0 {
            continue;
        }
        let ttl = keyspace.mean_ttl(db, &mut host.core.local);
        let fields = keyspace.len_with_field_ends(db);
        let line = format!("keys={keys},expires={expires},avg_ttl={ttl},subexpiry={fields}");
        lines.add(&format!("db{}", db.0), line);
    }
}

pub(super) fn keysizes(host: &mut Host<'_>, lines: &mut Lines) {
    lines.heading("Keysizes");
    let keyspace = &host.server().keyspace;
    for db in keyspace.indexes() {
        for value_type in SIZED_TYPES {
            let bins = keyspace.sizes(db, value_type).map(|bins| size_bins(&bins)).unwrap_or_default();
            if !bins.is_empty() {
                lines.add(&format!("db{}_distrib_{}", db.0, distribution_name(value_type)), bins);
            }
        }
    }
}

/// What is told of the sizes of a type's values.
fn distribution_name(value_type: Type) -> &'static str {
    match value_type {
        Type::String => "strings_sizes",
        Type::List => "lists_items",
        Type::Set => "sets_items",
        Type::ZSet => "zsets_items",
        Type::Hash => "hashes_items",
        Type::Stream => "streams_items",
    }
}

/// The bins that hold something, each by the size it begins at.
fn size_bins(bins: &[u64; SIZE_BINS]) -> String {
    let held = bins.iter().enumerate().filter(|(_, count)| **count > 0);
    let named = held.map(|(bin, count)| match bin.checked_sub(1) {
        None => format!("0={count}"),
        Some(power) => {
            let unit = ["", "K", "M", "G", "T", "P", "E"].get(power / 10).copied().unwrap_or_default();
            format!("{}{unit}={count}", 1_u32 << (power % 10))
        }
    });
    named.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_told_in_binary_units() {
        let mut bins = [0; SIZE_BINS];
        assert_eq!(size_bins(&bins), "");
        for (bin, count) in [(0, 1), (1, 2), (10, 3), (11, 4), (32, 5), (64, 6)] {
            bins[bin] = count;
        }
        assert_eq!(size_bins(&bins), "0=1,1=2,512=3,1K=4,2G=5,8E=6");
    }

    #[test]
    fn a_code_can_not_break_a_line() {
        assert_eq!(safe(b"A:B#C"), "A_B_C");
    }
}
