//! What INFO says about what the server has done: connections, commands, errors, keys.

use super::Lines;
use crate::commands::latency::durations_of;
use crate::execute::Host;
use crate::pubsub::Kind;
use crate::registry::Row;
use crate::server::Server;
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
    lines.add("tracking_clients", 0);
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
    lines.add_all(
        &["loading", "async_loading", "current_cow_peak", "current_cow_size", "current_cow_size_age"],
        0,
    );
    lines.add("current_fork_perc", "0.00");
    lines.add_all(&["current_save_keys_processed", "current_save_keys_total"], 0);
    lines.add("rdb_changes_since_last_save", server.sum(|stats| stats.store.changes.get()));
    lines.add("rdb_bgsave_in_progress", 0);
    lines.add("rdb_last_save_time", server.last_save_secs.load(Relaxed));
    lines.add("rdb_last_bgsave_status", "ok");
    lines.add_all(&["rdb_last_bgsave_time_sec", "rdb_current_bgsave_time_sec"], -1);
    lines.add_all(
        &[
            "rdb_saves",
            "rdb_last_cow_size",
            "rdb_last_load_keys_expired",
            "rdb_last_load_keys_loaded",
            "aof_enabled",
            "aof_rewrite_in_progress",
            "aof_rewrite_scheduled",
        ],
        0,
    );
    lines.add_all(&["aof_last_rewrite_time_sec", "aof_current_rewrite_time_sec"], -1);
    lines.add("aof_last_bgrewrite_status", "ok");
    lines.add_all(&["aof_rewrites", "aof_rewrites_consecutive_failures"], 0);
    lines.add("aof_last_write_status", "ok");
    lines.add_all(&["aof_last_cow_size", "module_fork_in_progress", "module_fork_last_cow_size"], 0);
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
    let by_others = |counter: fn(&crate::stats::WorkerStats) -> u64| -> u64 {
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
    lines.add_all(
        &[
            "tracking_total_keys",
            "tracking_total_items",
            "tracking_total_prefixes",
            "unexpected_error_replies",
        ],
        0,
    );
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
    // One user, who may do everything: nothing else is ever denied.
    let wrong_passwords = errors_by_code(server).get(&b"WRONGPASS"[..]).copied().unwrap_or(0);
    lines.add("acl_access_denied_auth", wrong_passwords);
    lines.add_all(&["acl_access_denied_cmd", "acl_access_denied_key", "acl_access_denied_channel"], 0);
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
    lines.add_all(&["evicted_clients", "evicted_scripts"], 0);
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
    let mut errors = BTreeMap::new();
    server.stats.iter().for_each(|stats| stats.errors_by_code.add_to(&mut errors));
    errors
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
