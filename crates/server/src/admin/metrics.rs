//! The figures for Prometheus, in its text format: what INFO and CACHE tell, under names with units.
//!
//! Invariant: everything is read from counters and from what lies behind locks of administrators; no shard is locked and no
//! worker is asked. A name ends with its unit, and with `_total` where it only grows; what has no bound, such as keys,
//! is no label.

use crate::cache_report::{MissRatioReport, Reads, Removals, ratio};
use crate::commands::cache::{PERCENTS, PREFIXES, one_hit_wonders};
use crate::commands::{cpu_seconds, errors_by_code};
use crate::memory_report::MemoryReport;
use crate::pubsub::Kind;
use crate::server::Server;
use crate::slowlog::LogKind;
use crate::stats::{CommandStats, WorkerStats};
use crate::{REDIS_VERSION, VERSION, clock};
use larder_acl::Reason;
use larder_store::Ended;
use std::fmt::{Display, Write};
use std::sync::atomic::Ordering::Relaxed;

/// The text of an answer.
#[derive(Debug, Default)]
pub(super) struct Text {
    text: String,
    /// The family that is written.
    name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Counter,
    Gauge,
}

impl Text {
    /// Begins a family: all samples of one name.
    pub(super) fn family(&mut self, form: Form, name: &str, help: &str) {
        let form = if form == Form::Counter { "counter" } else { "gauge" };
        self.name = name.to_owned();
        // Writing to a String cannot fail.
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {form}\n");
    }

    /// A sample of the family at hand.
    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(&self.name);
        for (at, (label, of)) in labels.iter().enumerate() {
            let _ = write!(self.text, "{}{label}=\"", if at == 0 { '{' } else { ',' });
            escape(of, &mut self.text);
            self.text.push('"');
        }
        let _ = writeln!(self.text, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(Form::Gauge, name, help);
        self.sample(&[], value);
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(Form::Counter, name, help);
        self.sample(&[], value);
    }
}

/// The value of a label, as the format has it.
fn escape(value: &str, text: &mut String) {
    for letter in value.chars() {
        match letter {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            letter => text.push(letter),
        }
    }
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

/// All figures.
pub(super) fn text(server: &'static Server) -> String {
    let mut text = Text::default();
    process(server, &mut text);
    memory(server, &mut text);
    clients(server, &mut text);
    denials(server, &mut text);
    scripts(server, &mut text);
    traffic(server, &mut text);
    commands(server, &mut text);
    keyspace(server, &mut text);
    cache(server, &mut text);
    prefixes(server, &mut text);
    curve(server, &mut text);
    super::invalidations::write(server, &mut text);
    super::sources::write(server, &mut text);
    text.text
}

fn process(server: &Server, text: &mut Text) {
    text.family(Form::Gauge, "larder_info", "The server that runs: always 1.");
    text.sample(&[("version", VERSION), ("redis_version", REDIS_VERSION), ("run_id", &server.run_id)], 1);
    let uptime = server.started.elapsed().as_secs_f64();
    text.gauge("larder_uptime_seconds", "Time since the server started.", uptime);
    let now = clock::unix_millis().0 as f64 / 1000.0;
    text.gauge("process_start_time_seconds", "When the process started, in Unix time.", now - uptime);
    let (user, system) = cpu_seconds();
    text.counter("process_cpu_seconds_total", "CPU time of the process.", user + system);
    text.family(Form::Counter, "larder_cpu_seconds_total", "CPU time of the process by its kind.");
    text.sample(&[("mode", "user")], user);
    text.sample(&[("mode", "system")], system);
    text.gauge("larder_threads", "Worker threads.", server.stats.len());
}

fn memory(server: &Server, text: &mut Text) {
    let report = MemoryReport::measure(server);
    text.gauge("process_resident_memory_bytes", "Resident memory of the process.", report.rss);
    text.gauge("larder_memory_used_bytes", "Memory in use, which maxmemory is held against.", report.used);
    text.gauge("larder_memory_peak_bytes", "The most memory that ever was in use.", report.peak);
    let limit = server.settings().maxmemory();
    text.gauge("larder_memory_max_bytes", "The limit of memory in use; 0 for none.", limit);
    text.gauge(
        "larder_memory_startup_bytes",
        "Memory in use after the start, before any data.",
        report.startup,
    );
    text.gauge("larder_memory_dataset_bytes", "Memory of keys and values.", report.dataset());
    text.gauge("larder_memory_overhead_bytes", "Memory that holds neither keys nor values.", report.overhead);
    text.gauge("larder_memory_clients_bytes", "Memory of connections and their buffers.", report.clients);
    let policy = server.keyspace.policy_bytes();
    text.gauge(
        "larder_memory_policy_bytes",
        "Memory that the eviction policy holds beside the entries.",
        policy,
    );
    let ratio = report.fragmentation().ratio;
    text.gauge("larder_memory_fragmentation_ratio", "Resident memory by memory in use.", ratio);
    text.gauge(
        "larder_lazyfree_pending_objects",
        "Removed values that the background has still to free.",
        server.reaper.pending(),
    );
}

fn clients(server: &Server, text: &mut Text) {
    let clients = server.clients.all();
    let count = |is: fn(&crate::clients::Client) -> bool| clients.iter().filter(|client| is(client)).count();
    text.gauge("larder_connected_clients", "Connections.", server.clients.count());
    let most = server.settings().maxclients();
    text.gauge("larder_clients_max", "Connections that there may be.", most);
    let blocked = count(|client| client.parked.load(Relaxed));
    text.gauge("larder_blocked_clients", "Clients that wait for a blocking command.", blocked);
    text.gauge(
        "larder_pubsub_clients",
        "Clients that are subscribed.",
        count(|client| client.is_subscriber()),
    );
    let refused = server.refused.load(Relaxed);
    let accepted = server.sum(|stats| stats.connections.get());
    text.counter("larder_connections_received_total", "Connections that came.", accepted + refused);
    text.counter("larder_connections_rejected_total", "Connections that were refused.", refused);
    text.family(Form::Counter, "larder_client_closes_total", "Connections closed for passing a limit.");
    text.sample(&[("limit", "output_buffer")], server.sum(|stats| stats.output_limit_closes.get()));
    text.sample(&[("limit", "query_buffer")], server.sum(|stats| stats.query_limit_closes.get()));
    text.sample(&[("limit", "clients_memory")], server.sum(|stats| stats.clients_evicted.get()));
    text.family(Form::Gauge, "larder_pubsub_channels", "What clients are subscribed to.");
    for (kind, name) in [(Kind::Channel, "channel"), (Kind::Pattern, "pattern"), (Kind::Shard, "shard")] {
        text.sample(&[("kind", name)], server.pubsub.count(kind));
    }
}

/// What the rules of users refused.
fn denials(server: &Server, text: &mut Text) {
    text.family(
        Form::Counter,
        "larder_access_denied_total",
        "What the rules of users refused, by the kind of rule.",
    );
    for (kind, reason) in [
        ("auth", Reason::Auth),
        ("command", Reason::Command),
        ("key", Reason::Key),
        ("channel", Reason::Channel),
        ("database", Reason::Database),
    ] {
        text.sample(&[("kind", kind)], server.access.denied(reason));
    }
}

fn scripts(server: &Server, text: &mut Text) {
    text.gauge("larder_scripts_cached", "Scripts that can be run by their digests.", server.scripts.len());
    let evicted = server.scripts.evicted.load(Relaxed);
    text.counter("larder_scripts_evicted_total", "Scripts forgotten in favour of others.", evicted);
    text.gauge(
        "larder_scripts_busy",
        "Scripts that run for longer than they should.",
        server.busy.load(Relaxed),
    );
    text.family(Form::Gauge, "larder_scripts_memory_bytes", "Memory of scripts and functions, by its kind.");
    text.sample(&[("kind", "texts")], server.scripts.memory() + server.functions.memory());
    text.sample(&[("kind", "states")], server.sum(|stats| stats.script_bytes.get()));
}

fn traffic(server: &Server, text: &mut Text) {
    let sum = |counter: fn(&WorkerStats) -> u64| server.sum(counter);
    let processed = sum(|stats| stats.commands.get());
    text.counter("larder_commands_processed_total", "Commands carried out.", processed);
    let bytes_in = sum(|stats| stats.bytes_in.get());
    text.counter("larder_net_input_bytes_total", "Bytes read from clients.", bytes_in);
    let bytes_out = sum(|stats| stats.bytes_out.get());
    text.counter("larder_net_output_bytes_total", "Bytes sent to clients.", bytes_out);
    text.family(Form::Counter, "larder_error_replies_total", "Error replies by their codes.");
    for (code, count) in errors_by_code(server) {
        text.sample(&[("code", &String::from_utf8_lossy(&code))], count);
    }
    let violations = sum(|stats| stats.protocol_errors.get());
    text.counter("larder_protocol_errors_total", "Requests that violated the protocol.", violations);
    for (name, help, of) in [
        (
            "larder_eventloop_turns_total",
            "Turns of an event loop.",
            (|stats| stats.turns.get()) as fn(&WorkerStats) -> u64,
        ),
        ("larder_socket_reads_total", "Reads from sockets.", |stats| stats.reads.get()),
        ("larder_socket_writes_total", "Writes to sockets.", |stats| stats.writes.get()),
    ] {
        text.family(Form::Counter, name, help);
        for (thread, stats) in server.stats.iter().enumerate() {
            text.sample(&[("thread", &thread.to_string())], of(stats));
        }
    }
    text.family(
        Form::Counter,
        "larder_eventloop_busy_seconds_total",
        "Time that an event loop worked, waiting left out.",
    );
    for (thread, stats) in server.stats.iter().enumerate() {
        text.sample(&[("thread", &thread.to_string())], seconds(stats.busy_nanos.get()));
    }
    text.gauge(
        "larder_slowlog_entries",
        "Entries of the slow log.",
        server.command_logs.of(LogKind::Slow).lock().len(),
    );
}

/// The figures of one command, summed over the workers.
type OfCommand = fn(&CommandStats) -> u64;

fn commands(server: &Server, text: &mut Text) {
    let families: [(&str, &str, OfCommand, bool); 4] = [
        ("larder_command_calls_total", "Times a command ran.", |one| one.calls.get(), false),
        ("larder_command_duration_seconds_total", "Time a command ran.", |one| one.nanos.get(), true),
        (
            "larder_command_rejected_total",
            "Times a command was refused before it ran.",
            |one| one.rejected.get(),
            false,
        ),
        ("larder_command_failed_total", "Times a command answered an error.", |one| one.failed.get(), false),
    ];
    let sum = |id: usize, of: OfCommand| -> u64 {
        server.stats.iter().filter_map(|stats| stats.by_command.get(id)).map(of).sum()
    };
    let seen = |id: usize| sum(id, |one| one.calls.get() + one.rejected.get() + one.failed.get()) > 0;
    for (name, help, of, is_time) in families {
        text.family(Form::Counter, name, help);
        for row in server.registry.all().filter(|row| seen(row.id)) {
            let labels = [("command", row.name.as_str())];
            match sum(row.id, of) {
                nanos if is_time => text.sample(&labels, seconds(nanos)),
                count => text.sample(&labels, count),
            }
        }
    }
}

fn keyspace(server: &Server, text: &mut Text) {
    let keyspace = &server.keyspace;
    let used = || keyspace.indexes().filter(|db| keyspace.len(*db) > 0);
    text.family(Form::Gauge, "larder_db_keys", "Keys of a database.");
    used().for_each(|db| text.sample(&[("db", &db.0.to_string())], keyspace.len(db)));
    text.family(Form::Gauge, "larder_db_keys_with_expiry", "Keys of a database that have a time to live.");
    used().for_each(|db| text.sample(&[("db", &db.0.to_string())], keyspace.len_with_deadline(db)));
    let reads = Reads::count(server);
    text.counter("larder_keyspace_hits_total", "Reads that found their key.", reads.hits);
    text.counter("larder_keyspace_misses_total", "Reads that did not find their key.", reads.misses);
    text.family(Form::Counter, "larder_keys_removed_total", "Keys that left, by the reason.");
    for (reason, keys) in Removals::count(server).named() {
        text.sample(&[("reason", reason)], keys);
    }
    let fields = server.sum(|stats| stats.store.expired_fields.get());
    text.counter("larder_hash_fields_expired_total", "Fields of hashes whose time had come.", fields);
    let changes = server.sum(|stats| stats.store.changes.get());
    text.counter("larder_changes_total", "Changes of the data.", changes);
    let expiring = server.sum(|stats| stats.expire_nanos.get());
    text.counter(
        "larder_expire_seconds_total",
        "Time spent on removing keys that had ended.",
        seconds(expiring),
    );
    let (_, over_ms) = server.over_limit.times(clock::unix_millis().0);
    let over = over_ms as f64 / 1000.0;
    text.counter(
        "larder_memory_over_limit_seconds_total",
        "Time that memory in use was above its limit.",
        over,
    );
}

fn cache(server: &Server, text: &mut Text) {
    let insight = &server.keyspace.insight;
    let lives = insight.lifetimes();
    text.gauge("larder_cache_sampling_ratio", "Share of all keys that is followed.", lives.rate);
    text.gauge("larder_cache_followed_keys", "Keys that are followed.", lives.keys);
    text.gauge("larder_cache_insight_bytes", "Memory of what is known about the cache.", insight.memory());
    let share = one_hit_wonders(&lives);
    text.gauge(
        "larder_cache_one_hit_wonder_ratio",
        "Share of the keys evicted or expired that were never read after they were stored.",
        share,
    );
    text.family(
        Form::Gauge,
        "larder_cache_unread_ratio",
        "Share of the keys that left for a reason that were never read after they were stored.",
    );
    let ends: [(&str, &Ended); 2] = [("evicted", &lives.evicted), ("expired", &lives.expired)];
    ends.iter().for_each(|(reason, ended)| text.sample(&[("reason", reason)], ended.unread_share()));
    text.family(Form::Gauge, "larder_cache_age_seconds", "How old keys were when they left, by percentile.");
    for (reason, ended) in ends {
        for (name, percent) in PERCENTS {
            text.sample(&[("reason", reason), ("percentile", name)], ended.age_seconds(percent));
        }
    }
    let (hot, whole) = insight.hot_keys(10);
    text.family(
        Form::Gauge,
        "larder_cache_hot_key_access_ratio",
        "Share of all accesses of the hottest keys.",
    );
    for (rank, hot) in hot.iter().enumerate() {
        text.sample(&[("rank", &(rank + 1).to_string())], ratio(hot.accesses, whole));
    }
    text.family(
        Form::Gauge,
        "larder_cache_big_value_bytes",
        "Bytes of the largest values, as they were last seen.",
    );
    for (rank, (.., bytes)) in insight.large_keys().iter().take(10).enumerate() {
        text.sample(&[("rank", &(rank + 1).to_string())], bytes);
    }
}

fn prefixes(server: &Server, text: &mut Text) {
    let (prefixes, whole) = server.keyspace.insight.prefixes(PREFIXES);
    type OfPrefix = fn(&larder_store::PrefixFigures, u64) -> f64;
    let families: [(&str, &str, OfPrefix); 6] = [
        ("larder_cache_prefix_access_ratio", "Share of all accesses that go to a prefix.", |one, whole| {
            ratio(one.accesses, whole)
        }),
        ("larder_cache_prefix_hit_ratio", "Hits by reads of a prefix.", |one, _| one.traffic.hit_ratio()),
        ("larder_cache_prefix_keys", "Keys of a prefix, estimated.", |one, _| one.kept.keys as f64),
        ("larder_cache_prefix_bytes", "Memory of the keys and values of a prefix, estimated.", |one, _| {
            one.kept.bytes as f64
        }),
        ("larder_cache_prefix_evicted_keys", "Keys of a prefix that were evicted, estimated.", |one, _| {
            one.kept.evicted as f64
        }),
        ("larder_cache_prefix_expired_keys", "Keys of a prefix that expired, estimated.", |one, _| {
            one.kept.expired as f64
        }),
    ];
    for (name, help, of) in families {
        text.family(Form::Gauge, name, help);
        let mut told = Vec::new();
        for figures in &prefixes {
            let prefix = String::from_utf8_lossy(&figures.prefix).into_owned();
            // Two that are no text could look alike, and a sample must be there once.
            if !told.contains(&prefix) {
                text.sample(&[("prefix", &prefix)], of(figures, whole));
                told.push(prefix);
            }
        }
    }
}

fn curve(server: &Server, text: &mut Text) {
    let report = MissRatioReport::measure(server);
    text.gauge("larder_cache_size_bytes", "What the estimated hit ratios are multiples of.", report.bytes);
    text.family(
        Form::Gauge,
        "larder_cache_estimated_hit_ratio",
        "The hit ratio the cache would have with so many times its memory.",
    );
    for point in &report.points {
        text.sample(&[("memory_times", &point.times.to_string())], point.hit_ratio);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_and_samples_are_written_as_the_format_has_them() {
        let mut text = Text::default();
        text.gauge("a_bytes", "What it is.", 5);
        text.family(Form::Counter, "b_total", "More.");
        text.sample(&[("one", "x\"y\\z\nw"), ("two", "")], 0.5);
        assert_eq!(
            text.text,
            "# HELP a_bytes What it is.\n# TYPE a_bytes gauge\na_bytes 5\n\
             # HELP b_total More.\n# TYPE b_total counter\nb_total{one=\"x\\\"y\\\\z\\nw\",two=\"\"} 0.5\n"
        );
    }
}
