//! CACHE: what the cache is doing, and what it would do with another size.
//!
//! Everything is answered from counters and sketches, without a walk over keys. Redis has none of it, so that the answers'
//! shapes are our own: maps whose fields have units in their names.
//! Read next: `keys.rs`, `traffic.rs`, `invalidate.rs`; the figures are made in `larder_store`'s `insight` and in `cache_report.rs`.

mod get;
mod invalidate;
mod keys;
mod sources;
mod traffic;
mod warm;

pub(crate) use keys::big_keys;
pub(crate) use sources::figures_of;
pub(crate) use traffic::{PERCENTS, PREFIXES, one_hit_wonders};

use super::help::help as answer_help;
use crate::cache_report::{MissRatioReport, shown};
use crate::execute::Host;
use crate::registry::{HostCommand, HostRun};
use larder_commands::spec::{Acl, Arg, Flags, Group};
use larder_commands::{Args, Error, Spec};
use larder_resp::Reply;
use larder_values::number;
use std::fmt::Write;

/// What all subcommands have in common.
const FLAGS: Flags = Flags::LOADING.or(Flags::STALE);
/// They tell of all keys, whoever may read them.
const CATEGORIES: Acl = Acl::CACHE.or(Acl::DANGEROUS);
/// The version of Larder that had them first.
const SINCE: &str = "0.1.0";

/// `CACHE subcommand`
pub static CACHE: HostCommand = HostCommand {
    spec: Spec {
        name: "cache",
        summary: "Groups the commands that tell what the cache is doing and where it fetches from.",
        since: SINCE,
        group: Group::Server,
        complexity: "That of the subcommand.",
        arity: -2,
        acl: Acl::CACHE,
        ..Spec::EMPTY
    },
    run: HostRun::Container,
    subcommands: &[
        &keys::BIGKEYS,
        &get::GET,
        &HELP,
        &keys::HOTKEYS,
        &invalidate::INVALIDATE,
        &MRC,
        &sources::REFRESH,
        &sources::ROUTE,
        &sources::SOURCE,
        &traffic::STATS,
        &invalidate::TAGS,
        &warm::WARM,
    ],
};

/// `CACHE HELP`
static HELP: HostCommand = HostCommand {
    spec: Spec {
        name: "help",
        summary: "Lists the subcommands of CACHE.",
        since: SINCE,
        group: Group::Server,
        arity: 2,
        flags: FLAGS,
        acl: Acl::CACHE,
        ..Spec::EMPTY
    },
    run: HostRun::Host(help),
    subcommands: &[],
};

/// `CACHE MRC [JSON]`
static MRC: HostCommand = HostCommand {
    spec: Spec {
        name: "mrc",
        summary: "Answers which hit ratio the cache would have with half to eight times its memory.",
        since: SINCE,
        group: Group::Server,
        arity: -2,
        flags: FLAGS,
        acl: CATEGORIES,
        args: &[Arg::word("json", "JSON").optional()],
        tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
        ..Spec::EMPTY
    },
    run: HostRun::Host(mrc),
    subcommands: &[],
};

static HELP_LINES: &[&str] = &[
    "BIGKEYS [COUNT <count>]",
    "    Answers the keys that take most memory, 10 unless told, with their types and sizes.",
    "GET <key> [STALE | NOSTALE] [WAIT <milliseconds>] [META]",
    "    Answers a string, fetched if it is missing. STALE takes any copy there is, NOSTALE only a fresh one; WAIT ends the",
    "    wait for a load, which goes on; META tells of the copy: HIT, MISS, STALE, NEGATIVE or LOADED, age and version.",
    "HOTKEYS [COUNT <count>]",
    "    Answers the keys that are read and written most, 10 unless told, and their share of all accesses.",
    "INVALIDATE KEYS <numkeys> <key> [<key> ...] [SOFT]",
    "    Drops copies, and answers how many there were. SOFT makes them old: they are given only as old ones may be.",
    "INVALIDATE PREFIX <prefix> [SOFT], INVALIDATE TAG <tag> [SOFT]",
    "    The same for all keys with a prefix or a tag, in the same time however many there are.",
    "MRC [JSON]",
    "    Answers which hit ratio the cache would have with half to eight times its memory.",
    "REFRESH <key> [<key> ...]",
    "    Has keys fetched anew from their sources, and answers how many have one.",
    "ROUTE SET <pattern> <source> AS <shape> QUERY <statement> [<option> <value> ...]",
    "    Has keys of a pattern fetched from a source when they are missing. DEL <pattern> ends it, LIST shows all,",
    "    EXPLAIN <key> shows what a key stands for, TEST <key> loads it without keeping it.",
    "SOURCE ADD <name> <url> [<option> <value> ...]",
    "    Adds a store to fetch from. DEL <name>, TEST <name>, PAUSE <name>, RESUME <name>, INFO <name>, LIST.",
    "    DEADLETTERS <name> [CLEAR] counts or drops the writes that the store has refused for good.",
    "STATS [PREFIX <prefix>]",
    "    Answers hits and misses, how keys end, and the traffic by prefix; or what is known of one prefix.",
    "TAGS <key>",
    "    Answers the tags of a key: those that its route gives, and those that it was set with.",
    "WARM <pattern> [LIMIT <count>]",
    "    Has all keys of a route fetched that are not there, or so many; ends where memory is full.",
];

fn help(host: &mut Host<'_>, _: &Args<'_>) -> Result<(), Error> {
    answer_help(host, "CACHE", HELP_LINES);
    Ok(())
}

fn mrc(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    let is_json = match args.len() {
        2 => false,
        3 if args.is(2, b"json") => true,
        _ => return Err(Error::Syntax),
    };
    let report = MissRatioReport::measure(host.server());
    let mut reply = host.reply();
    if is_json {
        reply.bulk(json(&report).as_bytes());
        return Ok(());
    }
    reply.map(8);
    count(&mut reply, "size_bytes", report.bytes);
    reply.bulk(b"size_is");
    reply.bulk(size_is(&report).as_bytes());
    double(&mut reply, "hit_ratio_measured", report.measured);
    double(&mut reply, "hit_ratio_estimated", report.at(1.0).unwrap_or(0.0));
    count(&mut reply, "reads", report.source.reads);
    count(&mut reply, "keys_followed", report.source.keys as u64);
    double_exact(&mut reply, "sampling_rate", report.source.rate);
    reply.bulk(b"curve");
    reply.array(report.points.len());
    for point in &report.points {
        reply.map(3);
        double(&mut reply, "times", point.times);
        count(&mut reply, "bytes", point.bytes);
        double(&mut reply, "hit_ratio", point.hit_ratio);
    }
    Ok(())
}

/// What today's size is.
fn size_is(report: &MissRatioReport) -> &'static str {
    if report.is_limit { "maxmemory" } else { "used_memory" }
}

fn json(report: &MissRatioReport) -> String {
    let points = report.points.iter().map(|point| {
        let ratio = shown(point.hit_ratio);
        format!("{{\"times\":{},\"bytes\":{},\"hit_ratio\":{ratio}}}", point.times, point.bytes)
    });
    let points: Vec<String> = points.collect();
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "{{\"size_bytes\":{},\"size_is\":\"{}\",\"hit_ratio_measured\":{},\"hit_ratio_estimated\":{},\"reads\":{},\
         \"keys_followed\":{},\"sampling_rate\":{},\"curve\":[{}]}}",
        report.bytes,
        size_is(report),
        shown(report.measured),
        shown(report.at(1.0).unwrap_or(0.0)),
        report.source.reads,
        report.source.keys,
        report.source.rate,
        points.join(",")
    );
    text
}

/// A field of a map that counts.
fn count(reply: &mut Reply<'_>, name: &str, value: u64) {
    reply.bulk(name.as_bytes());
    reply.integer(i64::try_from(value).unwrap_or(i64::MAX));
}

/// A field of a map that is no whole number, to four places.
fn double(reply: &mut Reply<'_>, name: &str, value: f64) {
    double_exact(reply, name, shown(value));
}

fn double_exact(reply: &mut Reply<'_>, name: &str, value: f64) {
    reply.bulk(name.as_bytes());
    let mut text = Vec::new();
    number::write_f64(&mut text, value);
    reply.double_text(&text);
}

/// The number behind COUNT, or what is answered unless told.
fn count_asked(args: &Args<'_>, otherwise: usize, most: usize) -> Result<usize, Error> {
    match args.len() {
        2 => Ok(otherwise),
        4 if args.is(2, b"count") => match number::parse_i64(args.get(3)) {
            Some(wanted @ 1..) => Ok(usize::try_from(wanted).unwrap_or(usize::MAX).min(most)),
            Some(_) => Err(Error::of("ERR COUNT must be positive")),
            None => Err(Error::NotAnInteger),
        },
        _ => Err(Error::Syntax),
    }
}
