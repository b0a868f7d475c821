//! Settings, as a worker has them: taken over at the beginning of a turn, and behind a command that may have changed them.

use super::{Core, room};
use crate::pubsub::Notifier;
use crate::server::Server;
use crate::slowlog::LargeSizes;
use larder_commands::Limits;
use larder_config::{MemoryOrPercent, Settings};
use larder_store::LazyFree;
use larder_values::collection::PackedLimits;
use larder_values::list::Limit;

impl Core {
    /// Looks at the settings anew if they have changed: at the start of a turn, and behind a command that may have changed them.
    #[inline]
    pub(super) fn take_settings_over(&mut self) {
        if self.local.effects.log.is_on() != self.server.journal.is_on() {
            self.follow_log();
        }
        if self.generation != self.server.generation() {
            self.refresh_settings();
        }
    }

    /// What clients have sent, as a log shows it, where `hide-user-data-from-log` lets it.
    pub(super) fn shown(&self, data: &[u8]) -> String {
        match self.settings.hide_user_data_from_log() {
            true => "*redacted*".to_owned(),
            false => data.escape_ascii().to_string(),
        }
    }

    pub(super) fn refresh_settings(&mut self) {
        self.generation = self.server.generation();
        self.settings = self.server.settings();
        self.limits = limits_of(self.server, &self.settings);
        self.local.lazy_free = LazyFree {
            deleted: self.settings.lazyfree_lazy_user_del(),
            replaced: self.settings.lazyfree_lazy_server_del(),
            expired: self.settings.lazyfree_lazy_expire(),
            evicted: self.settings.lazyfree_lazy_eviction(),
        };
        self.follow_policy();
        self.routes = self.server.through.routes();
        self.local.unfound.is_on = !self.routes.is_empty();
        self.local.unfound.firsts = self.routes.firsts();
        self.look_after_routes();
        self.local.insight.switch(self.settings.cache_insight());
        if self.id == 0 {
            let limit = if self.settings.cache_insight() { self.memory_limit() } else { 0 };
            self.server.keyspace.insight.fit(limit);
        }
        // Another limit may be below what is in use: the background looks, without waiting for a write.
        // A policy that ends has the background give fields back.
        self.is_evicting |= self.is_limited;
        let slower_than = self.settings.slowlog_log_slower_than();
        self.slow_nanos_min =
            u64::try_from(slower_than).map_or(u64::MAX, |micros| micros.saturating_mul(1000));
        self.large = LargeSizes::new(
            self.settings.commandlog_request_larger_than(),
            self.settings.commandlog_reply_larger_than(),
        );
        // Below this a constant-time command could be slow enough to be logged.
        self.time_all = self.slow_nanos_min < 1_000_000 || self.settings.latency_monitor_threshold() > 0;
        self.client_bytes_max = client_bytes_max(&self.settings);
        self.until_memory_check = 0;
        let events = self.settings.notify_keyspace_events();
        let loading = &self.server.loading;
        let is_silent = loading.is_on() && !loading.is_partly_served();
        let notifier = Notifier::new(self.server, self.id, events).filter(|_| !is_silent);
        self.local.effects.set_listener(events.bits(), notifier.map(|notifier| Box::new(notifier) as _));
    }
}

/// `maxmemory-clients` in bytes; 0 for no limit. Never less than what a few clients need to put another limit.
fn client_bytes_max(settings: &Settings) -> usize {
    /// As in Redis.
    const LEAST: usize = 128 * 1024;
    let bytes = match settings.maxmemory_clients() {
        MemoryOrPercent::Bytes(bytes) => usize::try_from(bytes).unwrap_or(usize::MAX),
        MemoryOrPercent::Percent(percent) => {
            let whole = usize::try_from(settings.maxmemory()).unwrap_or(usize::MAX);
            whole / 100 * usize::from(percent)
        }
    };
    if bytes == 0 { 0 } else { bytes.max(LEAST) }
}

pub(super) fn limits_of(server: &Server, settings: &Settings) -> Limits {
    let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let packed = |entries, bytes| PackedLimits { entries_max: size(entries), value_bytes_max: size(bytes) };
    Limits {
        string_bytes_max: size(settings.proto_max_bulk_len()),
        hll_sparse_bytes_max: size(settings.hll_sparse_max_bytes()),
        hash_packed: packed(settings.hash_max_listpack_entries(), settings.hash_max_listpack_value()),
        set_packed: packed(settings.set_max_listpack_entries(), settings.set_max_listpack_value()),
        set_integers_max: size(settings.set_max_intset_entries()),
        zset_packed: packed(settings.zset_max_listpack_entries(), settings.zset_max_listpack_value()),
        list: Limit::of(i64::from(settings.list_max_listpack_size()))
            .compressed_from(settings.list_compress_depth())
            .large_from(server.list_large_bytes_min()),
        stream_node_bytes_max: size(settings.stream_node_max_bytes()),
        stream_node_entries_max: size(settings.stream_node_max_entries()),
        counts_frequency: room::counts_frequency(settings),
        lfu_decay_minutes: settings.lfu_decay_time(),
        ttl_jitter_percent: settings.ttl_jitter_percent(),
        lease_ms: u64::from(settings.lease_time()) * 1000,
        entry_bytes_max: room::entry_bytes_max(settings),
        flush_is_lazy: settings.lazyfree_lazy_user_flush(),
        is_replay: false,
        maxmemory_is_set: settings.maxmemory() != 0,
    }
}
