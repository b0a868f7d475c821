//! Where the process' memory goes: the figures behind INFO memory, MEMORY STATS and MEMORY DOCTOR.
//!
//! All of it is measured when asked for: our own counters for what we hold, the kernel's for what
//! is resident.

use crate::server::Server;
use larder_store::KeyspaceMemory;
use std::sync::atomic::Ordering::Relaxed;

/// Figures of one moment, in bytes where nothing else is said.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MemoryReport {
    /// What we hold: allocator and tables.
    pub used: usize,
    /// The most it ever was.
    pub peak: usize,
    /// When that was, in milliseconds of Unix time.
    pub peak_ms: u64,
    /// What was in use once started.
    pub startup: usize,
    /// What is not data: what the start took, indexes, connections.
    pub overhead: usize,
    /// Connections with their buffers.
    pub clients: usize,
    /// Texts of scripts.
    pub scripts: usize,
    /// Texts of functions.
    pub functions: usize,
    /// The states in which both run.
    pub script_states: usize,
    /// The tables.
    pub keyspace: KeyspaceMemory,
    /// Resident, all of it.
    pub rss: usize,
    /// Resident and not of a file: heap, tables, stacks.
    pub anonymous: usize,
    /// `used` with the free places in the pages of tables and in slabs of blocks: what defragmentation could set free.
    pub active: usize,
    /// Keys in all databases.
    pub keys: usize,
}

impl MemoryReport {
    /// Measures. O(connections + databases x shards).
    pub fn measure(server: &Server) -> MemoryReport {
        let (peak, peak_ms) = server.peak_memory();
        let used = server.used_memory();
        let keyspace = server.keyspace.memory();
        let startup = server.startup_bytes.load(Relaxed);
        let clients = server.clients.all().iter().map(|client| client.memory.load(Relaxed)).sum();
        let (scripts, functions) = (server.scripts.memory(), server.functions.memory());
        let script_states = server.sum(|stats| stats.script_bytes.get()) as usize;
        let in_spans = (keyspace.entries + keyspace.index).saturating_sub(keyspace.outside);
        let (rss, anonymous) = resident();
        let blocks = larder_store::blocks::memory();
        MemoryReport {
            used,
            peak,
            peak_ms,
            startup,
            overhead: startup
                + clients
                + keyspace.index
                + keyspace.fixed
                + scripts
                + functions
                + script_states,
            clients,
            scripts,
            functions,
            script_states,
            keyspace,
            rss,
            anonymous,
            active: used + keyspace.spans.saturating_sub(in_spans) + blocks.slabs.saturating_sub(blocks.live),
            keys: server.keyspace.indexes().map(|db| server.keyspace.len(db)).sum(),
        }
    }

    /// What is data.
    pub fn dataset(&self) -> usize {
        self.used.saturating_sub(self.overhead)
    }

    /// How much of what was added since the start is data, in percent.
    pub fn dataset_percent(&self) -> f64 {
        percent(self.dataset(), self.used.saturating_sub(self.startup))
    }

    /// What is in use, in percent of the peak.
    pub fn peak_percent(&self) -> f64 {
        percent(self.used, self.peak)
    }

    /// Bytes of the data for each key; zero without keys.
    pub fn bytes_per_key(&self) -> usize {
        self.used.saturating_sub(self.startup).checked_div(self.keys).unwrap_or(0)
    }

    /// Pages that hold something, for each byte held.
    pub fn fragmentation_of_allocator(&self) -> Ratio {
        Ratio::of(self.active, self.used)
    }

    /// Resident heap for each byte of those.
    pub fn resident_of_allocator(&self) -> Ratio {
        Ratio::of(self.anonymous, self.active)
    }

    /// Resident bytes of all kinds for each byte of resident heap.
    pub fn resident_overhead(&self) -> Ratio {
        Ratio::of(self.rss, self.anonymous)
    }

    /// Resident bytes of all kinds for each byte in use.
    pub fn fragmentation(&self) -> Ratio {
        Ratio::of(self.rss, self.used)
    }
}

/// One figure compared with another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio {
    /// The quotient; zero when there is nothing to divide by.
    pub ratio: f64,
    /// The difference, in bytes; may be negative.
    pub bytes: i64,
}

impl Ratio {
    fn of(whole: usize, part: usize) -> Ratio {
        let ratio = if part == 0 { 0.0 } else { whole as f64 / part as f64 };
        Ratio { ratio, bytes: whole as i64 - part as i64 }
    }
}

fn percent(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

/// Resident memory and what of it belongs to no file, as the kernel tells; zero where it doesn't.
pub(crate) fn resident() -> (usize, usize) {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let mut pages = text.split_ascii_whitespace().skip(1).map(|word| word.parse::<usize>().unwrap_or(0));
    let (all, of_files) = (pages.next().unwrap_or(0), pages.next().unwrap_or(0));
    let page = rustix::param::page_size();
    (all * page, all.saturating_sub(of_files) * page)
}

/// All memory of the machine, in bytes; zero where the kernel doesn't tell.
pub fn system_bytes() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram.saturating_mul(u64::from(info.mem_unit.max(1)))
}

/// A number of bytes for people, as INFO writes it: two decimals and a unit.
pub fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["K", "M", "G", "T", "P"];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let power = (bytes.ilog2() / 10).min(5);
    format!("{:.2}{}", bytes as f64 / (1u64 << (10 * power)) as f64, UNITS[power as usize - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_as_redis_writes_them() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1.00K"),
            (70_255 * 1024 / 100, "702.55K"),
            (25_276_502_016, "23.54G"),
            (u64::MAX, "16384.00P"),
        ] {
            assert_eq!(human(bytes), text);
        }
    }

    #[test]
    fn nothing_divided_by_nothing_is_nothing() {
        assert_eq!(Ratio::of(5, 0), Ratio { ratio: 0.0, bytes: 5 });
        assert_eq!(Ratio::of(1, 4), Ratio { ratio: 0.25, bytes: -3 });
        assert_eq!(percent(1, 0), 0.0);
    }
}
