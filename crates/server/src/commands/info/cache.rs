//! What INFO says of the cache: the figures of CACHE in lines.

use super::Lines;
use crate::cache_report::{Invalidations, MissRatioReport, Reads, Removals, ratio, shown};
use crate::commands::cache::{PERCENTS, big_keys, figures_of, one_hit_wonders};
use crate::execute::{Host, share_of};
use crate::server::Server;

/// Prefixes and keys told of.
const NAMES: usize = 5;
/// Sizes for which the hit ratio is told, and what they are called.
const SIZES: [(f64, &str); 5] =
    [(0.5, "half"), (1.0, "today"), (2.0, "twice"), (4.0, "4_times"), (8.0, "8_times")];

pub(super) fn cache(host: &mut Host<'_>, lines: &mut Lines) {
    let server = host.server();
    let insight = &server.keyspace.insight;
    lines.heading("Cache");
    lines.add("cache_insight", u8::from(server.settings().cache_insight()));
    lines.add("cache_hit_ratio", shown(Reads::count(server).hit_ratio()));
    for (name, keys) in Removals::count(server).named() {
        lines.add(&format!("cache_removed_{name}"), keys);
    }
    for (name, count) in Invalidations::count(server).all() {
        lines.add(&format!("cache_{name}"), count);
    }
    let report = MissRatioReport::measure(server);
    lines.add("cache_size_bytes", report.bytes);
    for (times, name) in SIZES {
        lines.add(&format!("cache_hit_ratio_at_{name}"), shown(report.at(times).unwrap_or(0.0)));
    }
    let lives = insight.lifetimes();
    lines.add("cache_keys_followed", lives.keys);
    lines.add("cache_sampling_rate", lives.rate);
    for (name, percent) in PERCENTS {
        lines
            .add(&format!("cache_age_at_eviction_seconds_{name}"), shown(lives.evicted.age_seconds(percent)));
    }
    lines.add("cache_one_hit_wonder_share", shown(one_hit_wonders(&lives)));
    lines.add("cache_expired_unread_share", shown(lives.expired.unread_share()));
    lines.add("cache_insight_bytes", insight.memory());
    let (prefixes, whole) = insight.prefixes(NAMES);
    for (rank, figures) in prefixes.iter().enumerate() {
        let text = format!(
            "name={},share={},hit_ratio={},keys={},bytes={}",
            plain(&figures.prefix),
            shown(ratio(figures.accesses, whole)),
            shown(figures.traffic.hit_ratio()),
            figures.kept.keys,
            figures.kept.bytes
        );
        lines.add(&format!("cache_prefix_{rank}"), text);
    }
    let (hot, whole) = insight.hot_keys(NAMES);
    for (rank, hot) in hot.iter().enumerate() {
        let share = shown(ratio(hot.accesses, whole));
        let db = server.keyspace.database_of_table(hot.table).0;
        lines.add(&format!("cache_hotkey_{rank}"), format!("name={},db={db},share={share}", plain(&hot.key)));
    }
    for (rank, big) in big_keys(host.core, NAMES).iter().enumerate() {
        let text =
            format!("name={},db={},type={},bytes={}", plain(&big.key), big.db.0, big.type_name, big.bytes);
        lines.add(&format!("cache_bigkey_{rank}"), text);
    }
    through(host.server(), lines);
}

/// Sources and routes, where there are any.
fn through(server: &Server, lines: &mut Lines) {
    for (rank, source) in server.through.sources().iter().enumerate() {
        let (under_way, waiting) = source.load();
        let text = format!(
            "name={},state={},under_way={under_way},waiting={waiting}",
            plain(source.spec.name.as_bytes()),
            source.state()
        );
        lines.add(&format!("cache_source_{rank}"), text);
        if let Some(queue) = server.through.queue(&source.spec.name) {
            let mut text = format!("name={}", plain(source.spec.name.as_bytes()));
            for (name, count) in figures_of(&queue.figures()) {
                text.push_str(&format!(",{name}={count}"));
            }
            lines.add(&format!("cache_behind_{rank}"), text);
        }
    }
    for (rank, route) in server.through.routes().all().iter().enumerate() {
        let mut text = format!("pattern={}", plain(route.pattern.text().as_bytes()));
        for (name, count) in route.stats.counts().into_iter().chain(share_of(server, route)) {
            text.push_str(&format!(",{name}={count}"));
        }
        for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
            text.push_str(&format!(",load_usec_{name}={}", route.stats.micros_at(share)));
        }
        lines.add(&format!("cache_route_{rank}"), text);
    }
}

/// A name without what would end it, or a line.
fn plain(name: &[u8]) -> String {
    let mut text = String::new();
    for byte in name.iter().take(128) {
        match byte {
            b',' | b'=' | b'\\' | b'"' | 0..=b' ' | 127.. => text.push_str(&format!("\\x{byte:02x}")),
            byte => text.push(char::from(*byte)),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_not_break_a_line_or_a_field() {
        assert_eq!(plain(b"user:1"), "user:1");
        assert_eq!(plain(b"a,b=c\r\n\xff"), "a\\x2cb\\x3dc\\x0d\\x0a\\xff");
        assert_eq!(plain(&[b'k'; 500]).len(), 128);
    }
}
