//! The table of options: everything that is known about each stands in one row, and nowhere else.
//!
//! Invariant: every option of redis-server 8.2.3 has a row in one of three parts. `live`: the server acts on it, and
//! it has a field in [`Settings`]. `kept`: it has a field too, and every value that Redis takes, but tunes what is not
//! here, so that it changes nothing, as in a Redis that does not use it. `fixed`: readable, since clients read it, but
//! it has one possible value, which tells how the server behaves. To implement an option, move its row up.
//! Read next: `options/row.rs` for what a row says, `value.rs` for the types, `access.rs` for CONFIG GET and SET.

use crate::kind::{Kind, Reason};
use crate::value::{
    Addresses, Choice, Context, Directory, EndBySignal, Guard, HashFunction, KeyspaceEvents, Lines,
    LogFormat, LogLevel, MaxmemoryPolicy, MemoryOrPercent, OomScoreAdj, OomScores, OutputLimits, Percentiles,
    SanitizePayload, SaveRules, Schedules, Setting, Supervision, Text, TlsAuthClients, Words,
};

pub use row::{Difference, Flags, Group, OptionSpec, Support};
pub(crate) use row::{Ops, words_of};

mod row;

/// Every option whose default is not that of redis-server 8.2.3.
pub static DIFFERS: &[Difference] = &[
    Difference { name: "set-proc-title", redis: "yes", reason: "Larder leaves its process title alone" },
    Difference {
        name: "threads",
        redis: "1",
        reason: "0 is one worker for each core, and every worker runs commands",
    },
];

/// Names that Redis still reads in a file but no longer acts on: ignored with a warning, whatever their value.
pub static RETIRED: &[&str] =
    &["io-threads-do-reads", "list-max-ziplist-entries", "list-max-ziplist-value", "lua-replicate-commands"];

/// The option of this name or alias, in any case. O(options).
#[must_use]
pub fn lookup(name: &[u8]) -> Option<&'static OptionSpec> {
    OPTIONS.iter().find(|spec| spec.is_named(name))
}

const I32_MAX: i64 = i32::MAX as i64;
const U32_MAX: i64 = u32::MAX as i64;
const MIB: i64 = 1 << 20;

const fn int(min: i64, max: i64) -> Kind {
    Kind::Int { min, max, unsigned: false }
}

const fn unsigned(min: i64, max: i64) -> Kind {
    Kind::Int { min, max, unsigned: true }
}

const fn memory(min: i64) -> Kind {
    Kind::Memory { min, max: i64::MAX, unsigned: true }
}

const fn signed_memory(min: i64) -> Kind {
    Kind::Memory { min, max: i64::MAX, unsigned: false }
}

const fn choice(names: &'static [&'static str]) -> Kind {
    Kind::Choice { names }
}

const PORT: Kind = int(0, 65_535);
const SECONDS: Kind = int(0, I32_MAX);
const ENTRIES: Kind = unsigned(0, i64::MAX);

/// Builds [`Settings`] with an accessor for each live option, and the table of all options.
macro_rules! options {
    (
        live { $($lgroup:ident $lname:literal $(/ $lalias:literal)? $field:ident: $ltype:ty, $lkind:expr,
            $ldefault:literal $($lunit:literal)?, [$($lflag:ident)?] $ldoc:literal;)* }
        kept { $($kgroup:ident $kname:literal $(/ $kalias:literal)? $kfield:ident: $ktype:ty, $kkind:expr,
            $kdefault:literal $($kunit:literal)?, [$($kflag:ident)?] $kdoc:literal $(because $kwhy:literal)?;)* }
        fixed { $($fgroup:ident $fname:literal $(/ $falias:literal)?: $ftype:ty, $fkind:expr,
            $fdefault:literal $($funit:literal)?, [$($fflag:ident)?] $fdoc:literal $(because $fwhy:literal)?;)* }
    ) => {
        /// The values of all options that can have several. Plain data: cheap to read, cloned to change.
        #[derive(Debug, Clone, PartialEq)]
        pub struct Settings {
            $($field: $ltype,)*
            $($kfield: $ktype,)*
        }

        impl Settings {
            $(
                #[doc = $ldoc]
                #[must_use]
                pub fn $field(&self) -> <$ltype as Setting>::View<'_> {
                    self.$field.view()
                }
            )*
        }

        impl Default for Settings {
            /// Every option at its default; `dir` is the directory the process runs in.
            fn default() -> Settings {
                Settings {
                    $($field: initial::<$ltype>(&$lkind, $ldefault),)*
                    $($kfield: initial::<$ktype>(&$kkind, $kdefault),)*
                }
            }
        }

        /// The name and the accessor of each live option.
        #[cfg(test)]
        const ACCESSORS: &[(&str, &str)] = &[$(($lname, stringify!($field))),*];

        /// Every option, live ones first.
        pub static OPTIONS: &[OptionSpec] = &[
            $(OptionSpec {
                name: $lname, alias: optional!($($lalias)?), kind: $lkind, default: $ldefault, flags: flags!($($lflag)?),
                support: Support::Live, group: Group::$lgroup, unit: concat!($($lunit)?), doc: $ldoc, because: None,
                ops: ops_of!($field),
            },)*
            $(OptionSpec {
                name: $kname, alias: optional!($($kalias)?), kind: $kkind, default: $kdefault, flags: flags!($($kflag)?),
                support: Support::Kept, group: Group::$kgroup, unit: concat!($($kunit)?), doc: $kdoc,
                because: optional!($($kwhy)?), ops: ops_of!($kfield),
            },)*
            $(OptionSpec {
                name: $fname, alias: optional!($($falias)?), kind: $fkind, default: $fdefault, flags: flags!($($fflag)?),
                support: Support::Fixed, group: Group::$fgroup, unit: concat!($($funit)?), doc: $fdoc,
                because: optional!($($fwhy)?),
                ops: only_default::<$ftype>(),
            },)*
        ];
    };
}

/// How to reach the option's field.
macro_rules! ops_of {
    ($field:ident) => {
        Ops {
            assign: |settings, spec, words, context| settings.$field.assign(&spec.kind, words, context),
            show: |settings, spec, out| settings.$field.show(&spec.kind, out),
            lines: |settings, spec| settings.$field.lines(&spec.kind),
            same: |one, other| one.$field == other.$field,
        }
    };
}

macro_rules! optional {
    () => {
        None
    };
    ($value:literal) => {
        Some($value)
    };
}

macro_rules! flags {
    () => {
        Flags::NONE
    };
    (MULTI_AT_START) => {
        Flags(Flags::MULTI.0 | Flags::IMMUTABLE.0)
    };
    (SECRET_AT_START) => {
        Flags(Flags::SENSITIVE.0 | Flags::IMMUTABLE.0)
    };
    ($flag:ident) => {
        Flags::$flag
    };
}

options! {
    live {
        Network "bind" bind: Addresses, Kind::Bind, "* -::*", []
            "Addresses to listen on. '*' is every IPv4, '::*' every IPv6 address; with a '-' before it, one that is missing is no error.";
        Network "port" port: u16, PORT, "6379", []
            "TCP port to listen on; 0 for none.";
        Network "protected-mode" protected_mode: bool, Kind::Bool, "yes", []
            "Refuse other machines as long as no password is set.";
        Network "tcp-backlog" tcp_backlog: u32, int(0, I32_MAX), "511" "connections", [IMMUTABLE]
            "How many connections may wait to be accepted; the kernel's somaxconn caps it.";
        Network "tcp-keepalive" tcp_keepalive: u32, SECONDS, "300" "seconds", []
            "Ask a silent peer for a sign of life this often; 0 for never.";
        Network "timeout" timeout: u32, SECONDS, "0" "seconds", []
            "Close a connection that is idle for so long; 0 for never.";
        Network "maxclients" maxclients: u32, unsigned(1, U32_MAX), "10000" "connections", []
            "Most connections at a time.";
        Network "unixsocket" unixsocket: Text, Kind::Text, "", [IMMUTABLE]
            "Path of a unix socket to listen on as well.";
        Network "unixsocketperm" unixsocketperm: u16, Kind::Octal { max: 0o777 }, "0", [IMMUTABLE]
            "File mode of the unix socket, octal; 0 leaves it to the umask.";

        General "threads" / "io-threads" threads: u32, int(0, 128), "0", [IMMUTABLE]
            "Worker threads, each with its own connections, all of them running commands; 0 is one for each core the cgroup grants. io-threads is another name for it.";
        General "availability-zone" availability_zone: Text, Kind::Text, "", []
            "Where this server stands, for clients that prefer a near one: HELLO and INFO tell it.";
        General "databases" databases: u32, int(1, I32_MAX), "16", [IMMUTABLE]
            "How many databases SELECT can choose from.";
        General "hash-function" hash_function: HashFunction, HashFunction::KIND, "keyed", [IMMUTABLE]
            "Hash of keys: keyed (AES in hardware, else as siphash) and siphash withstand crafted keys, fast trusts clients.";
        General "dir" dir: Directory, Kind::Directory, ".", [PROTECTED]
            "Working directory: relative file names count from here.";
        General "pidfile" pidfile: Text, Kind::Text, "", [IMMUTABLE]
            "File that holds the process id while the server runs.";
        General "loglevel" loglevel: LogLevel, LogLevel::KIND, "notice", []
            "The least important messages to log.";
        General "logfile" logfile: Text, Kind::Text, "", [IMMUTABLE]
            "File to log to; empty for the standard error stream.";
        General "log-format" log_format: LogFormat, LogFormat::KIND, "text", [IMMUTABLE]
            "Form of log lines: text for people, json for programs.";
        General "always-show-logo" always_show_logo: bool, Kind::Bool, "no", [IMMUTABLE]
            "Begin the log with the logo even when it goes to a file or a pipe and not to a terminal.";
        General "hz" hz: u32, Kind::Clamped { low: 1, high: 500 }, "10" "turns a second", []
            "How often periodic background work runs; expired keys are looked for ten times as often.";
        General "dynamic-hz" dynamic_hz: bool, Kind::Bool, "yes", []
            "Run periodic work more often when there are many clients: twice as often from 200 a turn on, and so on.";

        Security "requirepass" requirepass: Text, Kind::Text, "", [SENSITIVE]
            "Password that AUTH asks of the default user; empty for none.";
        Security "aclfile" aclfile: Text, Kind::Text, "", [IMMUTABLE]
            "File with users and their rights, read at start and by ACL LOAD; then no 'user' line may stand here.";
        Security "acl-pubsub-default" acl_pubsub_default: Choice, choice(&["allchannels", "resetchannels"]), "resetchannels", []
            "Channels that a new user may use.";
        Security "acllog-max-len" acllog_max_len: u64, ENTRIES_SIGNED, "128" "entries", []
            "Most entries of ACL LOG.";
        Security "enable-protected-configs" enable_protected_configs: Guard, Guard::KIND, "no", [IMMUTABLE]
            "Who may change protected options (dir, dbfilename) by CONFIG SET.";
        Security "enable-debug-command" enable_debug_command: Guard, Guard::KIND, "no", [IMMUTABLE]
            "Who may use DEBUG.";

        Memory "maxmemory" maxmemory: u64, memory(0), "0" "bytes", []
            "Most memory for data and clients; 0 for no limit.";
        Memory "maxmemory-clients" maxmemory_clients: MemoryOrPercent, Kind::MemoryOrPercent, "0" "bytes", []
            "Most memory of all clients together, in bytes or percent of maxmemory; the largest are closed. 0 for no limit.";
        Memory "maxmemory-policy" maxmemory_policy: MaxmemoryPolicy, MaxmemoryPolicy::KIND, "noeviction", []
            "What gives way when maxmemory is reached.";
        Memory "maxmemory-admission" maxmemory_admission: bool, Kind::Bool, "no", []
            "Put new keys on probation, so that what is asked for once does not push out what is used. The policies adaptive, s3fifo and wtinylfu do so by themselves.";
        Memory "maxmemory-max-entry" maxmemory_max_entry: MemoryOrPercent, Kind::MemoryOrPercent, "0" "bytes", []
            "Refuse values larger than this, or than this part of maxmemory, so that one cannot push many out; 0 for no limit.";
        Memory "ttl-jitter-percent" ttl_jitter_percent: u32, int(0, 50), "0" "percent", []
            "Let keys that are to live for some time end earlier, by a random part of it up to this, so that keys set together do not end together.";
        Memory "maxmemory-samples" maxmemory_samples: u32, int(1, 64), "5" "keys", []
            "How many candidates the policies keep that choose from some: four for each, and four more.";
        Memory "maxmemory-eviction-tenacity" maxmemory_eviction_tenacity: u32, int(0, 100), "10", []
            "How much time a command may spend on eviction before the background goes on: 10 microseconds a step up to 10, then 15 percent more each, 100 all it takes.";
        Memory "lfu-log-factor" lfu_log_factor: u32, int(0, I32_MAX), "10", []
            "How slowly the counter of a key's uses grows, under an LFU policy without a limit; with one the policy counts exactly.";
        Features "busy-reply-threshold" / "lua-time-limit" busy_reply_threshold: u64, ENTRIES_SIGNED, "5000" "milliseconds", []
            "After so long a script is reported as BUSY and may be killed; 0 for never.";
        Memory "lfu-decay-time" lfu_decay_time: u32, int(0, I32_MAX), "1" "minutes", []
            "How long until the counter of a key's uses goes down by one, under an LFU policy without a limit.";
        Memory "maxmemory-rss" maxmemory_rss: bool, Kind::Bool, "no", []
            "Hold maxmemory against resident memory, too: memory is given back first, then keys are evicted.";
        Memory "activedefrag" activedefrag: bool, Kind::Bool, "no", []
            "Move entries and values together in the background, to give memory back of which little is used.";
        Memory "active-defrag-cycle-min" active_defrag_cycle_min: u32, int(1, 99), "1" "percent", []
            "Least time for moving values together.";
        Memory "active-defrag-cycle-max" active_defrag_cycle_max: u32, int(1, 99), "25" "percent", []
            "Most time for moving values together.";
        Memory "active-defrag-ignore-bytes" active_defrag_ignore_bytes: u64, memory(1), "104857600" "bytes", []
            "Waste that is not worth the work.";
        Memory "active-defrag-threshold-lower" active_defrag_threshold_lower: u32, int(0, 1000), "10" "percent", []
            "Waste at which the work begins.";
        Memory "active-defrag-threshold-upper" active_defrag_threshold_upper: u32, int(0, 1000), "100" "percent", []
            "Waste at which it is done with most effort.";
        Memory "active-defrag-max-scan-fields" active_defrag_max_scan_fields: u64, int(1, i64::MAX), "1000", []
            "Elements of one value moved in a step.";
        Memory "active-expire-effort" active_expire_effort: u32, int(1, 10), "1", []
            "How long a worker removes expired keys before it serves its clients again: 0.3 milliseconds at 1, 1 at 10.";
        Memory "lazyfree-lazy-eviction" lazyfree_lazy_eviction: bool, Kind::Bool, "no", []
            "Free large evicted values in the background.";
        Memory "lazyfree-lazy-expire" lazyfree_lazy_expire: bool, Kind::Bool, "no", []
            "Free large expired values in the background.";
        Memory "lazyfree-lazy-server-del" lazyfree_lazy_server_del: bool, Kind::Bool, "no", []
            "Free large values that a command replaces in the background.";
        Memory "lazyfree-lazy-user-del" lazyfree_lazy_user_del: bool, Kind::Bool, "no", []
            "Let DEL free in the background, as UNLINK does.";
        Memory "lazyfree-lazy-user-flush" lazyfree_lazy_user_flush: bool, Kind::Bool, "no", []
            "Let FLUSHDB and FLUSHALL free in the background unless they say SYNC.";

        Clients "tracking-table-max-keys" tracking_table_max_keys: u64, ENTRIES, "1000000" "keys", []
            "Most keys remembered for client-side caching; 0 for no limit.";
        Clients "client-output-buffer-limit" client_output_buffer_limit: OutputLimits, Kind::OutputLimits,
            "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60", [MULTI]
            "Close a client of this class (normal, replica, pubsub) whose unread replies pass a hard limit, or a soft limit for so many seconds.";
        Clients "client-query-buffer-limit" client_query_buffer_limit: u64, memory(MIB), "1073741824" "bytes", []
            "Most bytes of requests a client may have waiting.";
        Clients "proto-max-bulk-len" proto_max_bulk_len: u64, signed_memory(MIB), "536870912" "bytes", []
            "Longest single argument of a request.";

        Observation "slowlog-log-slower-than" / "commandlog-execution-slower-than" slowlog_log_slower_than: i64,
            int(-1, i64::MAX), "10000" "microseconds", []
            "Commands at least this slow go to the slow log; 0 for all, -1 for none.";
        Observation "slowlog-max-len" / "commandlog-slow-execution-max-len" slowlog_max_len: u64, ENTRIES_SIGNED, "128"
            "entries", []
            "Most entries of the slow log.";
        Observation "commandlog-request-larger-than" commandlog_request_larger_than: i64, int(-1, i64::MAX), "1048576" "bytes", []
            "Commands whose request is at least so large go to COMMANDLOG's log of large requests; 0 for all, -1 for none.";
        Observation "commandlog-large-request-max-len" commandlog_large_request_max_len: u64, ENTRIES_SIGNED, "128" "entries", []
            "Most entries of the log of large requests.";
        Observation "commandlog-reply-larger-than" commandlog_reply_larger_than: i64, int(-1, i64::MAX), "1048576" "bytes", []
            "Commands whose reply is at least so large go to COMMANDLOG's log of large replies; 0 for all, -1 for none.";
        Observation "commandlog-large-reply-max-len" commandlog_large_reply_max_len: u64, ENTRIES_SIGNED, "128" "entries", []
            "Most entries of the log of large replies.";
        Observation "latency-monitor-threshold" latency_monitor_threshold: u64, ENTRIES_SIGNED, "0" "milliseconds", []
            "Events at least this slow go to LATENCY HISTORY; 0 for none.";
        Observation "cache-insight" cache_insight: bool, Kind::Bool, "yes", []
            "Keep what CACHE answers: the hit ratio at other sizes, hot keys, large values, traffic by prefix. Costs some sixty instructions a command and about a MiB.";
        Observation "admin-port" admin_port: u16, PORT, "0", []
            "TCP port of the admin page, HTTP: /metrics for Prometheus, /health; 0 for none. No password guards it.";
        Observation "admin-bind" admin_bind: Addresses, Kind::Bind, "127.0.0.1", []
            "Addresses on which admin-port listens.";
        Observation "latency-tracking" latency_tracking: bool, Kind::Bool, "yes", []
            "Keep a histogram of each command's duration.";
        Observation "latency-tracking-info-percentiles" latency_tracking_info_percentiles: Percentiles, Kind::Percentiles,
            "50 99 99.9", [] "Percentiles that INFO latencystats shows.";

        Encodings "hll-sparse-max-bytes" hll_sparse_max_bytes: u64, memory(0), "3000" "bytes", []
            "Largest HyperLogLog in sparse form.";
        Encodings "hash-max-listpack-entries" / "hash-max-ziplist-entries" hash_max_listpack_entries: u64, ENTRIES, "512" "fields", []
            "Largest hash in compact form.";
        Encodings "hash-max-listpack-value" / "hash-max-ziplist-value" hash_max_listpack_value: u64, memory(0), "64" "bytes", []
            "Longest field or value in a compact hash.";
        Encodings "list-max-listpack-size" / "list-max-ziplist-size" list_max_listpack_size: i32, int(i32::MIN as i64, I32_MAX), "-2", []
            "Size of one chunk of a list: elements if positive, -1 to -5 for 4 to 64 KiB.";
        Encodings "list-compress-depth" list_compress_depth: u32, int(0, I32_MAX), "0" "chunks", []
            "Chunks at both ends of a list that are never compressed; 0 compresses none.";
        Encodings "set-max-intset-entries" set_max_intset_entries: u64, ENTRIES, "512" "members", []
            "Largest set of integers in compact form.";
        Encodings "set-max-listpack-entries" set_max_listpack_entries: u64, ENTRIES, "128" "members", []
            "Largest set in compact form.";
        Encodings "set-max-listpack-value" set_max_listpack_value: u64, ENTRIES, "64" "bytes", []
            "Longest member in a compact set.";
        Encodings "zset-max-listpack-entries" / "zset-max-ziplist-entries" zset_max_listpack_entries: u64, ENTRIES, "128" "members", []
            "Largest sorted set in compact form.";
        Encodings "zset-max-listpack-value" / "zset-max-ziplist-value" zset_max_listpack_value: u64, memory(0), "64" "bytes", []
            "Longest member in a compact sorted set.";
        Encodings "stream-node-max-bytes" stream_node_max_bytes: u64, memory(0), "4096" "bytes", []
            "Largest node of a stream; 0 for no limit.";
        Encodings "stream-node-max-entries" stream_node_max_entries: u64, ENTRIES_SIGNED, "100" "entries", []
            "Most entries in a node of a stream; 0 for no limit.";

        Sources "source" source: Lines, Kind::Lines, "", [MULTI_AT_START]
            "A store to fetch from: a name, a URL, options (docs/READ-THROUGH.md). CACHE SOURCE changes it at run time.";
        Sources "route" route: Lines, Kind::Lines, "", [MULTI_AT_START]
            "Which keys come from a source: a pattern, the source, a shape, a query, options (docs/READ-THROUGH.md). CACHE ROUTE changes it at run time.";
        Sources "lease-time" lease_time: u32, int(1, 86_400), "10" "seconds", []
            "How long a lease given by GETLEASE lasts: so long nobody else is given one for the key.";
        Replication "min-replicas-to-write" / "min-slaves-to-write" min_replicas_to_write: u32, int(0, I32_MAX), "0", []
            "Replicas that must be there to accept writes.";
        Replication "min-replicas-max-lag" / "min-slaves-max-lag" min_replicas_max_lag: u32, SECONDS, "10" "seconds", []
            "How far behind such a replica may be.";
        Network "socket-mark-id" socket_mark_id: u32, unsigned(0, U32_MAX), "0", [IMMUTABLE]
            "Mark of the listening sockets for the kernel's packet filter; 0 for none.";
        Network "max-new-connections-per-cycle" max_new_connections_per_cycle: u32, unsigned(1, 1000), "10", []
            "Most connections accepted in one turn of the event loop.";
        Network "max-new-tls-connections-per-cycle" max_new_tls_connections_per_cycle: u32, unsigned(1, 1000), "1", []
            "Most encrypted connections accepted in one turn.";
        General "daemonize" daemonize: bool, Kind::Bool, "no", [IMMUTABLE]
            "Run in the background, where no service manager runs the server.";
        General "supervised" supervised: Supervision, Supervision::KIND, "no", [IMMUTABLE]
            "Tell a service manager when the server is ready and when it stops: systemd by its socket, upstart by a stop signal; auto finds out which.";
        General "syslog-enabled" syslog_enabled: bool, Kind::Bool, "no", [IMMUTABLE]
            "Log to the system's log, too.";
        General "syslog-ident" syslog_ident: Text, Kind::Text, "redis", [IMMUTABLE]
            "Name of the server in the system's log.";
        General "syslog-facility" syslog_facility: Choice, choice(&["user", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"]), "local0", [IMMUTABLE]
            "Facility of the server in the system's log.";
        General "crash-log-enabled" crash_log_enabled: bool, Kind::Bool, "yes", []
            "Log where a thread of the server failed.";
        General "oom-score-adj" oom_score_adj: OomScoreAdj, OomScoreAdj::KIND, "no", []
            "Change how readily the kernel ends the server when memory runs out: by what oom-score-adj-values says beside what it was (yes, relative) or alone (absolute).";
        General "oom-score-adj-values" oom_score_adj_values: OomScores, Kind::OomScores, "0 200 800", []
            "The scores for that: of the server, of a replica, and of a process for a snapshot; there is none of these two.";
        General "server-cpulist" / "server_cpulist" server_cpulist: Text, Kind::Text, "", [IMMUTABLE]
            "Cores that the server runs on, as 0,2,4-7 or 0-8:2; all if empty.";
        General "bio-cpulist" / "bio_cpulist" bio_cpulist: Text, Kind::Text, "", [IMMUTABLE]
            "Cores of the threads that free memory.";
        General "aof-rewrite-cpulist" / "aof_rewrite_cpulist" aof_rewrite_cpulist: Text, Kind::Text, "", [IMMUTABLE]
            "Cores of the thread that writes a new base of the append-only log.";
        General "bgsave-cpulist" / "bgsave_cpulist" bgsave_cpulist: Text, Kind::Text, "", [IMMUTABLE]
            "Cores of the thread that writes a snapshot.";
        Persistence "aof-rewrite-incremental-fsync" aof_rewrite_incremental_fsync: bool, Kind::Bool, "yes", []
            "Force a new base of the append-only log to disk bit by bit, not all of it at the end.";
        Persistence "aof-use-rdb-preamble" aof_use_rdb_preamble: bool, Kind::Bool, "yes", []
            "Begin a rewritten append-only log with a snapshot; with the commands that make the data if not.";
        General "hide-user-data-from-log" hide_user_data_from_log: bool, Kind::Bool, "no", []
            "Leave keys, and what clients have sent, out of the log.";
        Persistence "rdb-key-save-delay" rdb_key_save_delay: i32, int(i32::MIN as i64, I32_MAX), "0" "microseconds", [HIDDEN]
            "Wait so long for each key of a snapshot that is written, for tests; where negative, a microsecond for so many keys.";
        Features "notify-keyspace-events" notify_keyspace_events: KeyspaceEvents, Kind::KeyspaceEvents, "", []
            "Classes of events to publish: K and E choose the channels, g$lshzxetdmnoc the classes, A all but m, n, o and c.";
        Network "memcached-port" memcached_port: u16, PORT, "0", []
            "Port to listen on for memcached's protocol, on the addresses of 'bind'; 0 for none (docs/MEMCACHED.md).";
        Tls "tls-port" tls_port: u16, PORT, "0", []
            "Port to listen on for encrypted connections, beside 'port' or instead of it; 0 for none.";
        Tls "tls-cert-file" tls_cert_file: Text, Kind::Text, "", []
            "The server's certificate and those between it and its authority, in PEM. Read again whenever it is set.";
        Tls "tls-key-file" tls_key_file: Text, Kind::Text, "", []
            "The certificate's key, in PEM.";
        Tls "tls-key-file-pass" tls_key_file_pass: Text, Kind::Text, "", [SENSITIVE]
            "Password of the key, where its file is encrypted.";
        Tls "tls-ca-cert-file" tls_ca_cert_file: Text, Kind::Text, "", []
            "Certificates of the authorities that sign those of clients.";
        Tls "tls-ca-cert-dir" tls_ca_cert_dir: Text, Kind::Text, "", []
            "A folder of such certificates, all of its files that end in .pem, .crt, .cer or, as c_rehash names them, .0.";
        Tls "tls-auth-clients" tls_auth_clients: TlsAuthClients, TlsAuthClients::KIND, "yes", []
            "Whether a client must show a certificate, need not, or may.";
        Tls "tls-protocols" tls_protocols: Text, Kind::Text, "", []
            "Versions of TLS: TLSv1.2, TLSv1.3, or both with a blank between them; all of them if empty.";
        Tls "tls-ciphers" tls_ciphers: Text, Kind::Text, "", []
            "Ciphers of TLS 1.2 by OpenSSL's names, with colons between them; all that are safe if empty.";
        Tls "tls-ciphersuites" tls_ciphersuites: Text, Kind::Text, "", []
            "Ciphers of TLS 1.3, with colons between them; all if empty.";
        Tls "tls-prefer-server-ciphers" tls_prefer_server_ciphers: bool, Kind::Bool, "no", []
            "Choose the first cipher of ours that the client knows, and not the first of its own.";
        Tls "tls-session-caching" tls_session_caching: bool, Kind::Bool, "yes", []
            "Let clients that come again go on with the keys of before: no signature is made then.";
        Tls "tls-session-cache-size" tls_session_cache_size: u32, int(0, I32_MAX), "20480" "sessions", []
            "Sessions kept for that; 0 for no limit.";
        Tls "tls-session-cache-timeout" tls_session_cache_timeout: u32, SECONDS, "300" "seconds", []
            "How long they are kept.";

        Persistence "save" save: SaveRules, Kind::SaveRules, "3600 1 300 100 60 10000", [MULTI]
            "Write a snapshot after so many seconds if there were so many changes, for each pair; '' for never.";
        Persistence "dbfilename" dbfilename: Text, Kind::FileName, "dump.rdb", [PROTECTED]
            "Name of the snapshot file within dir, which is loaded at start.";
        Persistence "rdbcompression" rdbcompression: bool, Kind::Bool, "yes", []
            "Compress strings in snapshots.";
        Persistence "rdbchecksum" rdbchecksum: bool, Kind::Bool, "yes", [IMMUTABLE]
            "End a snapshot with a checksum, and look at that of one that is loaded.";
        Persistence "rdb-save-incremental-fsync" rdb_save_incremental_fsync: bool, Kind::Bool, "yes", []
            "Force a snapshot to disk bit by bit, not all of it at the end.";
        Persistence "stop-writes-on-bgsave-error" stop_writes_on_bgsave_error: bool, Kind::Bool, "yes", []
            "Refuse writes after a snapshot in the background failed, as long as 'save' asks for snapshots.";
        Persistence "snapshot-cron" snapshot_cron: Schedules, Kind::Schedules, "", [MULTI]
            "Write a snapshot at these times of UTC, as cron's fields say; '' for never (docs/PERSISTENCE.md).";
        General "shutdown-on-sigint" shutdown_on_sigint: EndBySignal, Kind::EndBySignal, "default", []
            "How SIGINT ends the server: default (a snapshot where 'save' asks for any), or save, nosave, force (also where it cannot be saved) and now.";
        General "shutdown-on-sigterm" shutdown_on_sigterm: EndBySignal, Kind::EndBySignal, "default", []
            "How SIGTERM does.";
        Persistence "warm-restart" warm_restart: bool, Kind::Bool, "yes", []
            "Keep what the eviction policy knows of keys in snapshots, and take it up again when one is loaded (docs/PERSISTENCE.md).";
        Persistence "load-serving" load_serving: Choice, choice(&["no", "hot-first"]), "no", []
            "With hot-first: write the hot keys of a snapshot first, and serve them at a start while the rest is loaded; not with an append-only log or routes (docs/PERSISTENCE.md).";
        Persistence "key-load-delay" key_load_delay: i32, int(i32::MIN as i64, I32_MAX), "0" "microseconds", [HIDDEN]
            "Wait so long for each key of a snapshot that is loaded, for tests; where negative, a microsecond for so many keys.";
        Persistence "load-skip-modules" load_skip_modules: bool, Kind::Bool, "no", []
            "Leave data of modules out of what is loaded, rather than refuse the file.";
        Persistence "appendonly" appendonly: bool, Kind::Bool, "no", []
            "Log every change to a file.";
        Persistence "appendfilename" appendfilename: Text, Kind::Text, "appendonly.aof", [IMMUTABLE]
            "Base name of the append-only files.";
        Persistence "appenddirname" appenddirname: Text, Kind::Text, "appendonlydir", [IMMUTABLE]
            "Directory of the append-only files.";
        Persistence "appendfsync" appendfsync: Choice, choice(&["everysec", "always", "no"]), "everysec", []
            "When the append-only file is forced to disk.";
        Persistence "no-appendfsync-on-rewrite" no_appendfsync_on_rewrite: bool, Kind::Bool, "no", []
            "Do not force to disk while a rewrite runs.";
        Persistence "auto-aof-rewrite-percentage" auto_aof_rewrite_percentage: u32, int(0, I32_MAX), "100" "percent", []
            "Growth of the append-only file that starts a rewrite.";
        Persistence "auto-aof-rewrite-min-size" auto_aof_rewrite_min_size: u64, signed_memory(0), "67108864" "bytes", []
            "Smallest append-only file that is rewritten by itself.";
        Persistence "aof-load-truncated" aof_load_truncated: bool, Kind::Bool, "yes", []
            "Start although the end of the append-only file is cut off.";
        Persistence "aof-timestamp-enabled" aof_timestamp_enabled: bool, Kind::Bool, "no", []
            "Write times into the append-only file.";
    }
    kept {
        General "disable-thp" disable_thp: bool, Kind::Bool, "yes", [IMMUTABLE]
            "Keep transparent huge pages off for this process."
            because "Larder asks the kernel for huge pages where they help, and only there";
        General "shutdown-timeout" shutdown_timeout: u32, SECONDS, "10" "seconds", []
            "How long a shutdown waits for replicas."
            because "there are no replicas yet";
        General "locale-collate" locale_collate: Text, Kind::Locale, "", []
            "Locale by which strings are compared."
            because "strings are compared by their bytes, as in the locale C";
        General "extended-redis-compatibility" extended_redis_compatibility: bool, Kind::Bool, "no", []
            "Have a Valkey call itself Redis."
            because "clients are told that this is Redis in any case";
        General "prefetch-batch-max-size" prefetch_batch_max_size: u32, int(0, 128), "16" "commands", [HIDDEN]
            "Commands whose keys are fetched from memory together."
            because "how many they are follows from the processor's caches";
        General "use-exit-on-panic" use_exit_on_panic: bool, Kind::Bool, "no", [HIDDEN]
            "End by exit and not by abort where something is wrong, for tests."
            because "a command that fails ends its own connection only";
        General "watchdog-period" watchdog_period: u32, int(0, I32_MAX), "0" "milliseconds", [HIDDEN]
            "Log where the server is when a turn takes so long, for tests."
            because "long turns are told by LATENCY and the admin page";
        Memory "lazyexpire-nested-arbitrary-keys" lazyexpire_nested_arbitrary_keys: bool, Kind::Bool, "yes", [HIDDEN]
            "Remove a key that is over also where a transaction or script comes upon it without having named it."
            because "what is over is removed wherever it is met";
        Memory "active-defrag-cycle-us" active_defrag_cycle_us: u32, int(0, 100_000), "500" "microseconds", []
            "How long one step of defragmentation takes."
            because "the steps of each worker are timed by active-defrag-cycle-min and -max alone";
        Persistence "aof-disable-auto-gc" aof_disable_auto_gc: bool, Kind::Bool, "no", [HIDDEN]
            "Leave parts of the log that are not needed any more, for tests."
            because "they are removed in any case";
        Persistence "loading-process-events-interval-bytes" loading_process_events_interval_bytes: u32, int(1024, I32_MAX), "524288" "bytes", [HIDDEN]
            "How much is loaded between two looks at connections."
            because "workers look at connections all the time while others load";
        Security "enable-module-command" enable_module_command: Choice, choice(&["no", "yes", "local"]), "no", [IMMUTABLE]
            "Who may use MODULE."
            because "modules are not loaded, whoever asks";
        Memory "activerehashing" activerehashing: bool, Kind::Bool, "yes", []
            "Tables grow in small steps at all times."
            because "tables grow in small steps at all times";
        Memory "jemalloc-bg-thread" jemalloc_bg_thread: bool, Kind::Bool, "yes", []
            "Background thread of the jemalloc allocator."
            because "Larder does not use jemalloc";
        Features "sanitize-dump-payload" sanitize_dump_payload: SanitizePayload, SanitizePayload::KIND, "no", []
            "Whether RESTORE checks its payload to the last byte."
            because "every payload is checked to the last byte";
        Persistence "rdb-del-sync-files" rdb_del_sync_files: bool, Kind::Bool, "no", []
            "Remove snapshots that only served replication."
            because "there are no replicas yet";
        Replication "masterauth" / "primaryauth" masterauth: Text, Kind::Text, "", [SENSITIVE]
            "Password for the primary.";
        Replication "masteruser" / "primaryuser" masteruser: Text, Kind::Text, "", [SENSITIVE]
            "User for the primary.";
        Replication "replica-read-only" / "slave-read-only" replica_read_only: bool, Kind::Bool, "yes", []
            "Refuse writes by clients on a replica.";
        Replication "replica-serve-stale-data" / "slave-serve-stale-data" replica_serve_stale_data: bool, Kind::Bool, "yes", []
            "Answer on a replica that has lost its primary.";
        Replication "replica-priority" / "slave-priority" replica_priority: u32, int(0, I32_MAX), "100", []
            "Rank of this replica at a fail-over.";
        Replication "replica-announced" replica_announced: bool, Kind::Bool, "yes", []
            "Let Sentinel report this replica.";
        Replication "replica-announce-ip" / "slave-announce-ip" replica_announce_ip: Text, Kind::Text, "", []
            "Address that a replica reports.";
        Replication "replica-announce-port" / "slave-announce-port" replica_announce_port: u16, PORT, "0", []
            "Port that a replica reports.";
        Replication "replica-ignore-maxmemory" / "slave-ignore-maxmemory" replica_ignore_maxmemory: bool, Kind::Bool, "yes", []
            "A replica leaves eviction to its primary.";
        Replication "replica-lazy-flush" / "slave-lazy-flush" replica_lazy_flush: bool, Kind::Bool, "no", []
            "A replica empties itself in the background.";
        Replication "replica-ignore-disk-write-errors" replica_ignore_disk_write_errors: bool, Kind::Bool, "no", []
            "A replica goes on when it can't write to disk.";
        Replication "replica-full-sync-buffer-limit" replica_full_sync_buffer_limit: u64, signed_memory(0), "0" "bytes", []
            "Most changes a replica holds during a full copy.";
        Replication "repl-backlog-size" repl_backlog_size: u64, signed_memory(1), "1048576" "bytes", []
            "Changes kept for replicas that come back.";
        Replication "repl-backlog-ttl" repl_backlog_ttl: u64, ENTRIES_SIGNED, "3600" "seconds", []
            "How long they are kept without replicas.";
        Replication "repl-timeout" repl_timeout: u32, int(1, I32_MAX), "60" "seconds", []
            "Silence after which a replication link is given up.";
        Replication "repl-ping-replica-period" / "repl-ping-slave-period" repl_ping_replica_period: u32, int(1, I32_MAX), "10" "seconds", []
            "How often a primary pings its replicas.";
        Replication "repl-disable-tcp-nodelay" repl_disable_tcp_nodelay: bool, Kind::Bool, "no", []
            "Send to replicas in fewer, larger packets.";
        Replication "repl-diskless-sync" repl_diskless_sync: bool, Kind::Bool, "yes", []
            "Send a full copy without a file in between.";
        Replication "repl-diskless-sync-delay" repl_diskless_sync_delay: u32, SECONDS, "5" "seconds", []
            "Wait so long for more replicas before a full copy.";
        Replication "repl-diskless-sync-max-replicas" repl_diskless_sync_max_replicas: u32, int(0, I32_MAX), "0", []
            "Do not wait longer when so many are there.";
        Replication "repl-diskless-load" repl_diskless_load: Choice, choice(&["disabled", "on-empty-db", "swapdb"]), "disabled", []
            "How a replica takes in a full copy.";
        Replication "repl-rdb-channel" repl_rdb_channel: bool, Kind::Bool, "yes", [HIDDEN]
            "Send a full copy on a connection of its own.";
        Replication "dual-channel-replication-enabled" dual_channel_replication_enabled: bool, Kind::Bool, "no", []
            "The same, as Valkey calls it.";
        Replication "repl-mptcp" repl_mptcp: bool, Kind::Bool, "no", [IMMUTABLE]
            "Reach the primary over several paths.";
        Tls "tls-client-cert-file" tls_client_cert_file: Text, Kind::Text, "", []
            "Certificate for outgoing connections."
            because "there are no replicas yet";
        Tls "tls-client-key-file" tls_client_key_file: Text, Kind::Text, "", []
            "Key for outgoing connections."
            because "there are no replicas yet";
        Tls "tls-client-key-file-pass" tls_client_key_file_pass: Text, Kind::Text, "", [SENSITIVE]
            "Password of that key."
            because "there are no replicas yet";
        Tls "tls-dh-params-file" tls_dh_params_file: Text, Kind::Text, "", []
            "Parameters of the key exchange over prime fields."
            because "keys are exchanged over elliptic curves only";
        Tls "tls-replication" tls_replication: bool, Kind::Bool, "no", []
            "Encrypt replication links."
            because "there are no replicas yet";
        Network "bind-source-addr" bind_source_addr: Text, Kind::Text, "", []
            "Address that outgoing connections come from."
            because "there are no replicas yet";
        General "proc-title-template" proc_title_template: Text, Kind::TitleTemplate, "{title} {listen-addr} {server-mode}", []
            "Form of the process title."
            because "Larder leaves its process title alone";
        General "crash-memcheck-enabled" crash_memcheck_enabled: bool, Kind::Bool, "yes", []
            "Test the memory after a crash."
            because "memory is not tested after a crash";
        General "ignore-warnings" ignore_warnings: Text, Kind::Text, "", []
            "Start-up warnings to leave out."
            because "the warning that it can leave out is not given";
        General "propagation-error-behavior" propagation_error_behavior: Choice, choice(&["ignore", "panic", "panic-on-replicas"]), "ignore", []
            "What an error on a replicated command does."
            because "there are no replicas yet";
        Features "vset-force-single-threaded-execution" vset_force_single_threaded_execution: bool, Kind::Bool, "no", []
            "Run vector set commands on one thread."
            because "there are no vector sets yet";
        Cluster "cluster-config-file" cluster_config_file: Text, Kind::Text, "nodes.conf", [IMMUTABLE]
            "File with the state of the cluster.";
        Cluster "cluster-node-timeout" cluster_node_timeout: u64, ENTRIES_SIGNED, "15000" "milliseconds", []
            "Silence after which a node is down.";
        Cluster "cluster-port" cluster_port: u16, PORT, "0", [IMMUTABLE]
            "Port of the cluster bus.";
        Cluster "cluster-announce-ip" cluster_announce_ip: Text, Kind::Text, "", []
            "Address that a node reports.";
        Cluster "cluster-announce-port" cluster_announce_port: u16, PORT, "0", []
            "Port that a node reports.";
        Cluster "cluster-announce-tls-port" cluster_announce_tls_port: u16, PORT, "0", []
            "Encrypted port that a node reports.";
        Cluster "cluster-announce-bus-port" cluster_announce_bus_port: u16, PORT, "0", []
            "Bus port that a node reports.";
        Cluster "cluster-announce-hostname" cluster_announce_hostname: Text, Kind::HostName, "", []
            "Host name that a node reports.";
        Cluster "cluster-announce-human-nodename" cluster_announce_human_nodename: Text, Kind::NodeName, "", []
            "Name of a node for people.";
        Cluster "cluster-preferred-endpoint-type" cluster_preferred_endpoint_type: Choice, choice(&["ip", "hostname", "unknown-endpoint"]), "ip", []
            "What redirections name.";
        Cluster "cluster-migration-barrier" cluster_migration_barrier: u32, int(0, I32_MAX), "1", []
            "Replicas a primary keeps when others need one.";
        Cluster "cluster-allow-replica-migration" cluster_allow_replica_migration: bool, Kind::Bool, "yes", []
            "Let replicas move to another primary.";
        Cluster "cluster-replica-validity-factor" / "cluster-slave-validity-factor" cluster_replica_validity_factor: u32, int(0, I32_MAX), "10", []
            "How old a replica's data may be at a fail-over.";
        Cluster "cluster-replica-no-failover" / "cluster-slave-no-failover" cluster_replica_no_failover: bool, Kind::Bool, "no", []
            "Never promote this replica by itself.";
        Cluster "cluster-require-full-coverage" cluster_require_full_coverage: bool, Kind::Bool, "yes", []
            "Answer only when all slots are served.";
        Cluster "cluster-allow-reads-when-down" cluster_allow_reads_when_down: bool, Kind::Bool, "no", []
            "Answer reads while the cluster is down.";
        Cluster "cluster-allow-pubsubshard-when-down" cluster_allow_pubsubshard_when_down: bool, Kind::Bool, "yes", []
            "Serve sharded channels while the cluster is down.";
        Cluster "cluster-link-sendbuf-limit" cluster_link_sendbuf_limit: u64, memory(0), "0" "bytes", []
            "Most bytes waiting on a link of the bus.";
        Cluster "cluster-compatibility-sample-ratio" cluster_compatibility_sample_ratio: u32, int(0, 100), "0" "percent", []
            "Commands checked for use in a cluster.";
        Cluster "cluster-slot-stats-enabled" cluster_slot_stats_enabled: bool, Kind::Bool, "no", []
            "Count the use of each slot.";
        Cluster "cluster-ping-interval" cluster_ping_interval: u64, ENTRIES_SIGNED, "0" "milliseconds", [HIDDEN]
            "How often a node pings another.";
        Cluster "cluster-announce-client-ipv4" cluster_announce_client_ipv4: Text, Kind::Text, "", []
            "IPv4 address that a node tells clients.";
        Cluster "cluster-announce-client-ipv6" cluster_announce_client_ipv6: Text, Kind::Text, "", []
            "IPv6 address that a node tells clients.";
        Cluster "cluster-announce-client-port" cluster_announce_client_port: u16, PORT, "0", []
            "Port that a node tells clients.";
        Cluster "cluster-announce-client-tls-port" cluster_announce_client_tls_port: u16, PORT, "0", []
            "Encrypted port that a node tells clients.";
        Cluster "cluster-config-save-behavior" cluster_config_save_behavior: Choice, choice(&["sync", "best-effort"]), "sync", []
            "What becomes of a node that can't write the state of the cluster.";
        Cluster "cluster-databases" cluster_databases: u32, int(1, I32_MAX), "1", [IMMUTABLE]
            "How many databases a cluster has.";
        Cluster "cluster-blacklist-ttl" cluster_blacklist_ttl: u32, SECONDS, "60" "seconds", []
            "How long a node that was forgotten is not met again.";
        Cluster "cluster-manual-failover-timeout" cluster_manual_failover_timeout: u32, int(1, I32_MAX), "5000" "milliseconds", []
            "How long a fail-over that was asked for may take.";
        Cluster "cluster-slot-migration-log-max-len" cluster_slot_migration_log_max_len: u64, ENTRIES_SIGNED, "1000", []
            "Moves of slots that are remembered.";
        Cluster "slot-migration-max-failover-repl-bytes" slot_migration_max_failover_repl_bytes: i64, int(-1, i64::MAX), "0" "bytes", []
            "Most that may be left to send when slots change hands.";
    }
    fixed {
        General "set-proc-title": bool, Kind::Bool, "no", [IMMUTABLE]
            "Let the server name its process after what it does.";
        Replication "replicaof" / "slaveof": Words, Kind::Words, "", [IMMUTABLE]
            "Host and port of the primary to copy."
            because "replication is not there yet";
        Cluster "cluster-enabled": bool, Kind::Bool, "no", [IMMUTABLE]
            "Be a node of a cluster."
            because "cluster mode is not there yet";
        Tls "tls-cluster": bool, Kind::Bool, "no", []
            "Encrypt links between nodes of a cluster."
            because "MIGRATE goes unencrypted, and cluster mode is not there yet";
    }
}

const ENTRIES_SIGNED: Kind = int(0, i64::MAX);

/// The value of a live option before anything was set.
fn initial<T: Setting>(kind: &Kind, default: &str) -> T {
    let mut value = T::default();
    // A default of the table that its own kind refuses is caught by a test; here it leaves the type's default.
    let _refused = value.assign(kind, &words_of(kind, default.as_bytes()), Context::First);
    value
}

/// The operations of an option that has no field, since it can only have its default.
const fn only_default<T: Setting>() -> Ops {
    Ops {
        assign: |_, spec, words, _| {
            let mut wanted = T::default();
            wanted.assign(&spec.kind, words, Context::First)?;
            if wanted == initial::<T>(&spec.kind, spec.default) {
                return Ok(());
            }
            let why = spec.difference().map(|difference| difference.reason).or(spec.because);
            let why = why.map_or_else(String::new, |why| format!(": {why}"));
            Err(Reason::new(format!(
                "this version of Larder supports only {} '{}'{why}",
                spec.name, spec.default
            )))
        },
        show: |_, spec, out| out.extend_from_slice(spec.default.as_bytes()),
        lines: |_, spec| initial::<T>(&spec.kind, spec.default).lines(&spec.kind),
        same: |_, _| true,
    }
}

#[cfg(test)]
mod tests;
