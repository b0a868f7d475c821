//! What INFO says about the process: itself, its memory, its time, its place among others.

use super::Lines;
use crate::background::turns_a_second;
use crate::clock;
use crate::execute::Host;
use crate::memory_report::{MemoryReport, human, system_bytes};
use crate::{REDIS_VERSION, VERSION};
use larder_values::digest::digest_hex;
use larder_values::lru;

/// The sections' writers read figures of the machine as text from here.
const STAT: &str = "/proc/self/stat";

pub(super) fn server(host: &mut Host<'_>, lines: &mut Lines) {
    let server = host.server();
    let settings = server.settings();
    let uptime_secs = server.started.elapsed().as_secs();
    let system = rustix::system::uname();
    let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    let executable = std::env::current_exe().map(|path| path.display().to_string()).unwrap_or_default();
    let config_file = server.plan.lock().config_file.as_ref().map(|file| file.path().display().to_string());
    lines.heading("Server");
    lines.add("redis_version", REDIS_VERSION);
    lines.add("larder_version", VERSION);
    lines.add("redis_git_sha1", "00000000");
    lines.add("redis_git_dirty", 0);
    lines.add("redis_build_id", String::from_utf8_lossy(&digest_hex(VERSION.as_bytes())));
    lines.add("redis_mode", "standalone");
    lines.add(
        "os",
        format!("{} {} {}", text(system.sysname()), text(system.release()), text(system.machine())),
    );
    lines.add("arch_bits", usize::BITS);
    lines.add("monotonic_clock", "POSIX clock_gettime");
    lines.add("multiplexing_api", "epoll");
    // Rust's atomics are C11's, and no gcc compiled this: both in Redis' words.
    lines.add("atomicvar_api", "c11-builtin");
    lines.add("gcc_version", "0.0.0");
    if !settings.availability_zone().is_empty() {
        lines.add("availability_zone", String::from_utf8_lossy(settings.availability_zone()));
    }
    lines.add("process_id", std::process::id());
    lines.add("process_supervised", "no");
    lines.add("run_id", &server.run_id);
    lines.add("tcp_port", if settings.port() == 0 { settings.tls_port() } else { settings.port() });
    lines.add("server_time_usec", clock::unix_micros());
    lines.add("uptime_in_seconds", uptime_secs);
    lines.add("uptime_in_days", uptime_secs / 86_400);
    lines.add("hz", turns_a_second(&settings, server.clients.count()));
    lines.add("configured_hz", settings.hz());
    lines.add("lru_clock", lru::clock_at(host.core.local.now.0));
    lines.add("executable", executable);
    lines.add("config_file", config_file.unwrap_or_default());
    lines.add("io_threads_active", u8::from(server.mailboxes.len() > 1));
    let binds: String =
        settings.bind().iter().map(|address| format!("bind={},", String::from_utf8_lossy(address))).collect();
    let on = |name: &str, port: u16| (port != 0).then(|| format!("name={name},{binds}port={port}"));
    let path = String::from_utf8_lossy(settings.unixsocket());
    let unix = (!path.is_empty()).then(|| format!("name=unix,bind={path}"));
    let listeners = [
        on("tcp", settings.port()),
        unix,
        on("tls", settings.tls_port()),
        on("memcached", settings.memcached_port()),
    ];
    for (number, listener) in listeners.into_iter().flatten().enumerate() {
        lines.add(&format!("listener{number}"), listener);
    }
}

pub(super) fn memory(host: &mut Host<'_>, lines: &mut Lines) {
    let server = host.server();
    let report = MemoryReport::measure(server);
    let settings = server.settings();
    let both = |lines: &mut Lines, name: &str, bytes: u64| {
        lines.add(name, bytes);
        lines.add(&format!("{name}_human"), human(bytes));
    };
    lines.heading("Memory");
    both(lines, "used_memory", report.used as u64);
    both(lines, "used_memory_rss", report.rss as u64);
    both(lines, "used_memory_peak", report.peak as u64);
    lines.add("used_memory_peak_time", report.peak_ms / 1000);
    lines.add("used_memory_peak_perc", format!("{:.2}%", report.peak_percent()));
    lines.add("used_memory_overhead", report.overhead);
    lines.add("used_memory_startup", report.startup);
    lines.add("used_memory_dataset", report.dataset());
    lines.add("used_memory_dataset_perc", format!("{:.2}%", report.dataset_percent()));
    lines.add("allocator_allocated", report.used);
    lines.add("allocator_active", report.active);
    lines.add("allocator_resident", report.anonymous);
    lines.add("allocator_muzzy", 0);
    both(lines, "total_system_memory", system_bytes());
    scripts(host, lines);
    both(lines, "maxmemory", settings.maxmemory());
    lines.add("maxmemory_policy", settings.maxmemory_policy().name());
    for (name, bytes_name, ratio) in [
        ("allocator_frag_ratio", "allocator_frag_bytes", report.fragmentation_of_allocator()),
        ("allocator_rss_ratio", "allocator_rss_bytes", report.resident_of_allocator()),
        ("rss_overhead_ratio", "rss_overhead_bytes", report.resident_overhead()),
        ("mem_fragmentation_ratio", "mem_fragmentation_bytes", report.fragmentation()),
    ] {
        lines.add(name, format!("{:.2}", ratio.ratio));
        lines.add(bytes_name, ratio.bytes);
    }
    lines.add_all(
        &[
            "mem_not_counted_for_evict",
            "mem_replication_backlog",
            "mem_total_replication_buffers",
            "mem_replica_full_sync_buffer",
            "mem_clients_slaves",
        ],
        0,
    );
    lines.add("mem_clients_normal", report.clients);
    lines.add("mem_cluster_links", 0);
    lines.add("mem_aof_buffer", host.server().journal.backlog());
    lines.add("mem_allocator", "mimalloc");
    lines.add("mem_overhead_db_hashtable_rehashing", 0);
    lines.add("active_defrag_running", server.defrag.percent());
    lines.add("lazyfree_pending_objects", server.reaper.pending());
    let freed = server.sum(|stats| stats.store.lazy_freed.get());
    lines.add("lazyfreed_objects", freed.saturating_sub(server.reaper.pending() as u64));
}

/// Memory of scripts and functions. Both run in one Lua state a worker, which is counted as that of scripts.
fn scripts(host: &Host<'_>, lines: &mut Lines) {
    let server = host.server();
    let states = server.sum(|stats| stats.script_bytes.get());
    let texts = server.scripts.memory() as u64;
    lines.add_all(&["used_memory_lua", "used_memory_vm_eval"], states);
    lines.add("used_memory_lua_human", human(states));
    lines.add("used_memory_scripts_eval", texts);
    lines.add("number_of_cached_scripts", server.scripts.len());
    let libraries = server.functions.all();
    lines.add("number_of_functions", libraries.function_count());
    lines.add("number_of_libraries", libraries.len());
    lines.add("used_memory_vm_functions", 0);
    lines.add("used_memory_vm_total", states);
    lines.add("used_memory_vm_total_human", human(states));
    let functions = server.functions.memory() as u64;
    lines.add("used_memory_functions", functions);
    lines.add("used_memory_scripts", texts + functions);
    lines.add("used_memory_scripts_human", human(texts + functions));
}

pub(super) fn replication(host: &mut Host<'_>, lines: &mut Lines) {
    lines.heading("Replication");
    lines.add("role", "master");
    lines.add("connected_slaves", 0);
    let settings = host.server().settings();
    if settings.min_replicas_to_write() > 0 && settings.min_replicas_max_lag() > 0 {
        lines.add("min_slaves_good_slaves", 0);
    }
    lines.add("master_failover_state", "no-failover");
    lines.add("master_replid", &host.server().replication_id);
    lines.add("master_replid2", "0".repeat(40));
    lines.add("master_repl_offset", 0);
    lines.add("second_repl_offset", -1);
    lines.add("repl_backlog_active", 0);
    let backlog = larder_config::lookup(b"repl-backlog-size").map(|spec| settings.show(spec));
    lines.add("repl_backlog_size", String::from_utf8_lossy(&backlog.unwrap_or_default()));
    lines.add_all(&["repl_backlog_first_byte_offset", "repl_backlog_histlen"], 0);
}

pub(super) fn cpu(_: &mut Host<'_>, lines: &mut Lines) {
    let process = cpu_times(STAT);
    let main = cpu_times(&format!("/proc/self/task/{}/stat", std::process::id()));
    lines.heading("CPU");
    for (name, secs) in [
        ("used_cpu_sys", process.system),
        ("used_cpu_user", process.user),
        ("used_cpu_sys_children", process.children_system),
        ("used_cpu_user_children", process.children_user),
        ("used_cpu_sys_main_thread", main.system),
        ("used_cpu_user_main_thread", main.user),
    ] {
        lines.add(name, format!("{secs:.6}"));
    }
}

/// Seconds of the processor.
#[derive(Debug, Default, PartialEq)]
struct CpuTimes {
    user: f64,
    system: f64,
    children_user: f64,
    children_system: f64,
}

/// CPU time of the process, the user's and the system's, in seconds.
pub(crate) fn cpu_seconds() -> (f64, f64) {
    let times = cpu_times(STAT);
    (times.user, times.system)
}

fn cpu_times(path: &str) -> CpuTimes {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    parse_cpu_times(&text, rustix::param::clock_ticks_per_second())
}

/// Reads the times out of a `stat` file of the kernel; they are counted in ticks.
fn parse_cpu_times(text: &str, ticks_a_second: u64) -> CpuTimes {
    // The second field is a name in brackets that may hold anything.
    let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: Vec<f64> = fields.split_ascii_whitespace().map(|word| word.parse().unwrap_or(0.0)).collect();
    let secs = |field: usize| ticks.get(field).copied().unwrap_or(0.0) / ticks_a_second.max(1) as f64;
    CpuTimes { user: secs(11), system: secs(12), children_user: secs(13), children_system: secs(14) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_times_are_found_behind_any_name() {
        let text = "12 (a ) b) S 1 12 12 0 -1 4194560 1 2 3 4 150 25 300 50 20 0 4 0 99";
        let expected = CpuTimes { user: 1.5, system: 0.25, children_user: 3.0, children_system: 0.5 };
        assert_eq!(parse_cpu_times(text, 100), expected);
        assert_eq!(parse_cpu_times("", 100), CpuTimes::default());
    }
}
