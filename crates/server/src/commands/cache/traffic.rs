//! CACHE STATS: hits and misses, how keys end, and which prefixes the traffic goes to.

use super::{CATEGORIES, FLAGS, SINCE, count, double, double_exact};
use crate::cache_report::{Invalidations, Reads, Removals, ratio};
use crate::execute::Host;
use crate::registry::{HostCommand, HostRun};
use larder_commands::spec::{Arg, Group};
use larder_commands::{Args, Error, Spec};
use larder_resp::Reply;
use larder_store::{Ended, Lifetimes, PrefixFigures};

/// Prefixes answered.
pub(crate) const PREFIXES: usize = 20;

/// `CACHE STATS [PREFIX prefix]`
pub(super) static STATS: HostCommand = HostCommand {
    spec: Spec {
        name: "stats",
        summary: "Answers hits and misses, how keys end, and the traffic by prefix.",
        since: SINCE,
        group: Group::Server,
        complexity: "O(N log N) where N is the number of prefixes and keys that are followed, some thousands",
        arity: -2,
        flags: FLAGS,
        acl: CATEGORIES,
        args: &[Arg::string("prefix").token("PREFIX").optional()],
        tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
        ..Spec::EMPTY
    },
    run: HostRun::Host(stats),
    subcommands: &[],
};

fn stats(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    let server = host.server();
    let insight = &server.keyspace.insight;
    match args.len() {
        2 => {}
        4 if args.is(2, b"prefix") => {
            let figures = insight.prefix(args.get(3));
            let (_, whole) = insight.hot_keys(0);
            match figures {
                Some(figures) => of_prefix(&mut host.reply(), &figures, whole),
                None => host.reply().null(),
            }
            return Ok(());
        }
        _ => return Err(Error::Syntax),
    }
    let (reads, removals, lives) = (Reads::count(server), Removals::count(server), insight.lifetimes());
    let (keys, used) = (server.keyspace.keys() as u64, server.used_memory() as u64);
    let (prefixes, whole) = insight.prefixes(PREFIXES);
    let is_on = server.settings().cache_insight();
    let mut reply = host.reply();
    reply.map(16);
    count(&mut reply, "insight", u64::from(is_on));
    count(&mut reply, "hits", reads.hits);
    count(&mut reply, "misses", reads.misses);
    double(&mut reply, "hit_ratio", reads.hit_ratio());
    count(&mut reply, "keys", keys);
    count(&mut reply, "used_bytes", used);
    reply.bulk(b"removed");
    reply.map(removals.named().len());
    removals.named().into_iter().for_each(|(name, keys)| count(&mut reply, name, keys));
    let invalidations = Invalidations::count(server);
    reply.bulk(b"invalidation");
    reply.map(invalidations.all().count());
    invalidations.all().for_each(|(name, times)| count(&mut reply, name, times));
    count(&mut reply, "keys_followed", lives.keys as u64);
    double_exact(&mut reply, "sampling_rate", lives.rate);
    ages(&mut reply, "age_at_eviction_seconds", &lives.evicted);
    ages(&mut reply, "age_at_expiry_seconds", &lives.expired);
    double(&mut reply, "one_hit_wonder_share", one_hit_wonders(&lives));
    double(&mut reply, "evicted_unread_share", lives.evicted.unread_share());
    double(&mut reply, "expired_unread_share", lives.expired.unread_share());
    reply.bulk(b"prefixes");
    reply.array(prefixes.len());
    prefixes.iter().for_each(|figures| of_prefix(&mut reply, figures, whole));
    Ok(())
}

/// Which share of the keys that left, for want of room or since their time had come, were never read after they were stored.
pub(crate) fn one_hit_wonders(lives: &Lifetimes) -> f64 {
    ratio(lives.evicted.unread + lives.expired.unread, lives.evicted.keys + lives.expired.keys)
}

/// The ages at which it tells how old keys were when they left.
pub(crate) const PERCENTS: [(&str, f64); 4] = [("p10", 10.0), ("p50", 50.0), ("p90", 90.0), ("p99", 99.0)];

fn ages(reply: &mut Reply<'_>, name: &str, ended: &Ended) {
    reply.bulk(name.as_bytes());
    reply.map(PERCENTS.len() + 1);
    count(reply, "samples", ended.keys);
    PERCENTS.into_iter().for_each(|(name, percent)| double(reply, name, ended.age_seconds(percent)));
}

fn of_prefix(reply: &mut Reply<'_>, figures: &PrefixFigures, whole: u64) {
    let (traffic, kept) = (figures.traffic, figures.kept);
    reply.map(13);
    reply.bulk(b"prefix");
    reply.bulk(&figures.prefix);
    count(reply, "accesses", figures.accesses);
    count(reply, "error_max", figures.over);
    double(reply, "share", ratio(figures.accesses, whole));
    count(reply, "hits", traffic.hits);
    count(reply, "misses", traffic.misses);
    count(reply, "writes", traffic.writes);
    double(reply, "hit_ratio", traffic.hit_ratio());
    count(reply, "keys", kept.keys);
    count(reply, "bytes", kept.bytes);
    count(reply, "evicted", kept.evicted);
    count(reply, "expired", kept.expired);
    double(reply, "one_hit_wonder_share", ratio(kept.unread, kept.evicted + kept.expired));
}
