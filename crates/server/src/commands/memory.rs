//! MEMORY: what keys take, where the rest goes, and giving back what is not needed.

use super::help::help as answer_help;
use crate::alloc;
use crate::execute::Host;
use crate::memory_report::{MemoryReport, human};
use crate::registry::{HostCommand, HostRun};
use larder_commands::spec::{Arg, Flags, Group, KeyFlags, KeySpec};
use larder_commands::{Args, Ctx, Error, Spec};
use larder_resp::Reply;
use larder_values::number;

/// Below this there is nothing for MEMORY DOCTOR to judge, in bytes.
const JUDGED_BYTES_MIN: usize = 5 << 20;
/// A peak or a fragmentation this many times above what is in use is worth a word.
const RATIO_WORTH_A_WORD: f64 = 1.5;
/// Connections that hold more than this share of all memory are worth a word.
const CLIENTS_SHARE: usize = 4;

/// `MEMORY subcommand`
pub static MEMORY: HostCommand = HostCommand {
    spec: Spec {
        name: "memory",
        summary: "Groups the commands that look into the use of memory.",
        since: "4.0.0",
        group: Group::Server,
        complexity: "That of the subcommand.",
        arity: -2,
        ..Spec::EMPTY
    },
    run: HostRun::Container,
    subcommands: &[&DOCTOR, &HELP, &MALLOC_STATS, &PURGE, &STATS, &USAGE],
};

/// `MEMORY DOCTOR`
static DOCTOR: HostCommand = HostCommand {
    spec: Spec {
        name: "doctor",
        summary: "Looks for problems with memory and says what it finds.",
        since: "4.0.0",
        group: Group::Server,
        arity: 2,
        tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
        ..Spec::EMPTY
    },
    run: HostRun::Host(doctor),
    subcommands: &[],
};

/// `MEMORY HELP`
static HELP: HostCommand = HostCommand {
    spec: Spec {
        name: "help",
        summary: "Lists the subcommands of MEMORY.",
        since: "4.0.0",
        group: Group::Server,
        arity: 2,
        flags: Flags::LOADING.or(Flags::STALE),
        ..Spec::EMPTY
    },
    run: HostRun::Host(help),
    subcommands: &[],
};

/// `MEMORY MALLOC-STATS`
static MALLOC_STATS: HostCommand = HostCommand {
    spec: Spec {
        name: "malloc-stats",
        summary: "Answers the allocator's own statistics.",
        since: "4.0.0",
        group: Group::Server,
        complexity: "That of a walk over the allocator's pages.",
        arity: 2,
        tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
        ..Spec::EMPTY
    },
    run: HostRun::Host(malloc_stats),
    subcommands: &[],
};

/// `MEMORY PURGE`
static PURGE: HostCommand = HostCommand {
    spec: Spec {
        name: "purge",
        summary: "Gives memory that holds nothing back to the system.",
        since: "4.0.0",
        group: Group::Server,
        complexity: "That of a walk over the allocator's pages.",
        arity: 2,
        tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
        ..Spec::EMPTY
    },
    run: HostRun::Host(purge),
    subcommands: &[],
};

/// `MEMORY STATS`
static STATS: HostCommand = HostCommand {
    spec: Spec {
        name: "stats",
        summary: "Answers where the memory goes.",
        since: "4.0.0",
        group: Group::Server,
        arity: 2,
        tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
        ..Spec::EMPTY
    },
    run: HostRun::Host(stats),
    subcommands: &[],
};

/// `MEMORY USAGE key [SAMPLES count]`
static USAGE: HostCommand = HostCommand {
    spec: Spec {
        name: "usage",
        summary: "Answers the bytes that a key and its value take.",
        since: "4.0.0",
        group: Group::Server,
        arity: -3,
        flags: Flags::READONLY,
        keys: &[KeySpec::at(2, KeyFlags::RO)],
        args: &[Arg::key("key", 0), Arg::integer("count").token("SAMPLES").optional()],
        ..Spec::EMPTY
    },
    run: HostRun::Keys(usage),
    subcommands: &[],
};

static HELP_LINES: &[&str] = &[
    "DOCTOR",
    "    Looks for problems with memory and says what it finds.",
    "MALLOC-STATS",
    "    Answers the allocator's own statistics.",
    "PURGE",
    "    Gives memory that holds nothing back to the system.",
    "STATS",
    "    Answers where the memory goes.",
    "USAGE <key> [SAMPLES <count>]",
    "    Answers the bytes that <key> and its value take.",
];

fn usage(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let mut index = 3;
    while index < args.len() {
        if !args.is(index, b"samples") || index + 1 >= args.len() {
            return Err(Error::Syntax);
        }
        // Strings are measured whole: there is nothing to sample.
        if number::parse_i64(args.get(index + 1)).ok_or(Error::NotAnInteger)? < 0 {
            return Err(Error::Syntax);
        }
        index += 2;
    }
    let key = cx.key(args, 2);
    match cx.db.peek_raw(&key).map(|item| item.memory()) {
        Some(bytes) => cx.reply.count(bytes),
        None => cx.reply.null(),
    }
    Ok(())
}

fn purge(host: &mut Host<'_>, _: &Args<'_>) -> Result<(), Error> {
    host.server().keyspace.release_unused();
    alloc::purge();
    host.reply().ok();
    Ok(())
}

fn malloc_stats(host: &mut Host<'_>, _: &Args<'_>) -> Result<(), Error> {
    host.reply().verbatim(b"txt", &alloc::statistics());
    Ok(())
}

/// A figure of MEMORY STATS.
enum Figure {
    Bytes(usize),
    Difference(i64),
    Ratio(f64),
    /// Of one database: its table, and the part of it that serves deadlines.
    Database(usize),
}

fn stats(host: &mut Host<'_>, _: &Args<'_>) -> Result<(), Error> {
    use Figure::{Bytes, Database, Difference, Ratio};
    let server = host.server();
    let report = MemoryReport::measure(server);
    let mut figures: Vec<(String, Figure)> = Vec::new();
    let mut add = |name: &str, figure| figures.push((name.to_owned(), figure));
    add("peak.allocated", Bytes(report.peak));
    add("total.allocated", Bytes(report.used));
    add("startup.allocated", Bytes(report.startup));
    for absent in ["replication.backlog", "replica.fullsync.buffer", "clients.slaves"] {
        add(absent, Bytes(0));
    }
    add("clients.normal", Bytes(report.clients));
    for absent in ["cluster.links", "aof.buffer"] {
        add(absent, Bytes(0));
    }
    add("lua.caches", Bytes(report.scripts));
    add("functions.caches", Bytes(report.functions));
    add("script.VMs", Bytes(report.script_states));
    for db in server.keyspace.indexes().filter(|db| server.keyspace.len(*db) > 0) {
        add(&format!("db.{}", db.0), Database(server.keyspace.len(db)));
    }
    add("overhead.db.hashtable.lut", Bytes(report.keyspace.index));
    add("overhead.db.hashtable.rehashing", Bytes(0));
    add("overhead.total", Bytes(report.overhead));
    add("db.dict.rehashing.count", Bytes(0));
    add("keys.count", Bytes(report.keys));
    add("keys.bytes-per-key", Bytes(report.bytes_per_key()));
    add("dataset.bytes", Bytes(report.dataset()));
    add("dataset.percentage", Ratio(report.dataset_percent()));
    add("peak.percentage", Ratio(report.peak_percent()));
    add("allocator.allocated", Bytes(report.used));
    add("allocator.active", Bytes(report.active));
    add("allocator.resident", Bytes(report.anonymous));
    add("allocator.muzzy", Bytes(0));
    for (name, bytes_name, ratio) in [
        (
            "allocator-fragmentation.ratio",
            "allocator-fragmentation.bytes",
            report.fragmentation_of_allocator(),
        ),
        ("allocator-rss.ratio", "allocator-rss.bytes", report.resident_of_allocator()),
        ("rss-overhead.ratio", "rss-overhead.bytes", report.resident_overhead()),
        ("fragmentation", "fragmentation.bytes", report.fragmentation()),
    ] {
        add(name, Ratio(ratio.ratio));
        add(bytes_name, Difference(ratio.bytes));
    }
    let per_key = report.keyspace.index.checked_div(report.keys).unwrap_or(0);
    let mut reply = host.reply();
    reply.map(figures.len());
    for (name, figure) in figures {
        reply.bulk(name.as_bytes());
        write_figure(&mut reply, &figure, per_key);
    }
    Ok(())
}

/// `index_per_key` is what the index takes for a key, in bytes, over all databases.
fn write_figure(reply: &mut Reply<'_>, figure: &Figure, index_per_key: usize) {
    match figure {
        Figure::Bytes(bytes) => reply.count(*bytes),
        Figure::Difference(bytes) => reply.integer(*bytes),
        Figure::Ratio(ratio) => {
            let mut text = Vec::new();
            number::write_f64(&mut text, *ratio);
            reply.double_text(&text);
        }
        Figure::Database(keys) => {
            reply.map(2);
            reply.bulk(b"overhead.hashtable.main");
            reply.count(keys.saturating_mul(index_per_key));
            // Deadlines stand in the entries themselves.
            reply.bulk(b"overhead.hashtable.expires");
            reply.count(0);
        }
    }
}

fn doctor(host: &mut Host<'_>, _: &Args<'_>) -> Result<(), Error> {
    let report = MemoryReport::measure(host.server());
    let connections = host.server().clients.count();
    host.reply().verbatim(b"txt", diagnosis(&report, connections).as_bytes());
    Ok(())
}

/// What MEMORY DOCTOR says.
fn diagnosis(report: &MemoryReport, connections: usize) -> String {
    if report.used < JUDGED_BYTES_MIN {
        return format!(
            "The server holds {} only, which is too little to judge how memory is used. Ask again once it holds data.\n",
            human(report.used as u64)
        );
    }
    let mut findings = String::new();
    let mut find = |text: String| findings.push_str(&format!(" * {text}\n\n"));
    if report.peak as f64 > report.used as f64 * RATIO_WORTH_A_WORD {
        find(format!(
            "Peak: {} were in use at the peak, {} are now. Memory that was freed since may still be resident; \
             it is used again before more is taken from the system. MEMORY PURGE gives it back.",
            human(report.peak as u64),
            human(report.used as u64)
        ));
    }
    let fragmentation = report.fragmentation();
    if fragmentation.ratio > RATIO_WORTH_A_WORD {
        find(format!(
            "Fragmentation: {} are resident for {} in use, {:.2} times as much. MEMORY PURGE may give some of it back; \
             MEMORY STATS tells where it is.",
            human(report.rss as u64),
            human(report.used as u64),
            fragmentation.ratio
        ));
    }
    if report.clients > report.used / CLIENTS_SHARE {
        find(format!(
            "Connections: {connections} hold {} in their buffers. CLIENT LIST tells which; a client that does not \
             read its replies is limited by client-output-buffer-limit.",
            human(report.clients as u64)
        ));
    }
    if report.rss != 0 && report.used > report.rss + report.rss / 2 {
        find(format!(
            "Swap: {} are in use and only {} resident. Either memory was taken and not touched yet, or the system \
             swaps, which ruins latency.",
            human(report.used as u64),
            human(report.rss as u64)
        ));
    }
    if findings.is_empty() {
        return "No problem was found with the use of memory.\n".to_owned();
    }
    format!("These findings are worth a look:\n\n{findings}")
}

fn help(host: &mut Host<'_>, _: &Args<'_>) -> Result<(), Error> {
    answer_help(host, "MEMORY", HELP_LINES);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_store::KeyspaceMemory;

    fn report() -> MemoryReport {
        MemoryReport {
            used: 100 << 20,
            peak: 100 << 20,
            peak_ms: 0,
            startup: 1 << 20,
            overhead: 10 << 20,
            clients: 1 << 20,
            scripts: 0,
            functions: 0,
            script_states: 0,
            keyspace: KeyspaceMemory::default(),
            rss: 105 << 20,
            anonymous: 100 << 20,
            active: 102 << 20,
            keys: 1000,
        }
    }

    #[test]
    fn the_doctor_names_what_stands_out_and_nothing_else() {
        assert_eq!(diagnosis(&report(), 1), "No problem was found with the use of memory.\n");
        for (changed, word) in [
            (MemoryReport { used: 1 << 20, ..report() }, "too little"),
            (MemoryReport { peak: 300 << 20, ..report() }, "Peak"),
            (MemoryReport { rss: 300 << 20, ..report() }, "Fragmentation"),
            (MemoryReport { clients: 60 << 20, ..report() }, "Connections"),
            (MemoryReport { rss: 20 << 20, ..report() }, "Swap"),
        ] {
            let text = diagnosis(&changed, 1);
            assert!(text.contains(word), "{word}: {text}");
            assert!(text.matches(" * ").count() <= 1, "{text}");
        }
    }
}
