//! The figures of sources and routes for Prometheus. Their names and patterns are an administrator's, so they are labels.

use super::metrics::{Form, Text};
use crate::clock;
use crate::execute::share_of;
use crate::server::Server;
use larder_behind::Figures;
use larder_source_fetch::Source;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Writes the families of sources and routes; none where there are none.
pub(super) fn write(server: &Server, text: &mut Text) {
    let sources = server.through.sources();
    if sources.is_empty() {
        return;
    }
    text.family(
        Form::Gauge,
        "larder_source_up",
        "Whether the source is asked: 0 where it is paused or left alone.",
    );
    for source in &sources {
        text.sample(&[("source", &source.spec.name)], u8::from(source.state() == "closed"));
    }
    text.family(Form::Gauge, "larder_source_under_way", "Loads and writes that the source is working on.");
    for source in &sources {
        text.sample(&[("source", &source.spec.name)], source.load().0);
    }
    text.family(Form::Gauge, "larder_source_waiting", "Loads that wait for a connection of the source.");
    for source in &sources {
        text.sample(&[("source", &source.spec.name)], source.load().1);
    }
    text.family(Form::Counter, "larder_source_asked_total", "What the source was asked, by how it ended.");
    for source in &sources {
        let counts = &source.counts;
        for (kind, counter) in [
            ("asked", &counts.asked),
            ("failed", &counts.failed),
            ("retried", &counts.retried),
            ("timed_out", &counts.timed_out),
            ("refused", &counts.refused),
        ] {
            text.sample(&[("source", &source.spec.name), ("kind", kind)], counter.load(Relaxed));
        }
    }
    write_feeds(server, &sources, text);
    write_behind(server, text);
    write_routes(server, text);
}

fn write_feeds(server: &Server, sources: &[Arc<Source>], text: &mut Text) {
    text.family(
        Form::Gauge,
        "larder_source_feed_up",
        "Whether the source's changes are followed, where a route asks for it.",
    );
    for source in sources {
        if let Some(follower) = server.through.follower(&source.spec.name) {
            text.sample(&[("source", &source.spec.name)], u8::from(follower.is_following()));
        }
    }
    text.family(
        Form::Gauge,
        "larder_source_feed_lag_seconds",
        "How long after it was done the last change was told, where the source says when that was.",
    );
    for source in sources {
        if let Some(follower) = server.through.follower(&source.spec.name) {
            text.sample(&[("source", &source.spec.name)], follower.lag_ms.load(Relaxed) as f64 / 1000.0);
        }
    }
}

fn write_routes(server: &Server, text: &mut Text) {
    let routes = server.through.routes();
    text.family(
        Form::Gauge,
        "larder_route_hits_estimate",
        "Reads that found a copy, estimated from samples of keys with the beginning of the route's.",
    );
    for route in routes.all() {
        let known = server.keyspace.insight.prefix(route.pattern.prefix());
        let hits = known.map_or(0, |known| known.traffic.hits);
        text.sample(&[("route", route.pattern.text())], hits);
    }
    text.family(Form::Counter, "larder_route_events_total", "What happened to keys of the route.");
    for route in routes.all() {
        for (kind, count) in route.stats.counts() {
            text.sample(&[("route", route.pattern.text()), ("kind", kind)], count);
        }
    }
    let names = [
        "larder_route_keys",
        "larder_route_bytes",
        "larder_route_maxmemory_bytes",
        "larder_route_evicted_keys",
    ];
    let told = [
        "Keys of a route with room of its own.",
        "What they take of it, in bytes.",
        "What they may take, in bytes.",
        "Keys of it that were evicted.",
    ];
    for (place, (name, told)) in names.into_iter().zip(told).enumerate() {
        text.family(Form::Gauge, name, told);
        for route in routes.all() {
            if let Some((_, value)) = share_of(server, route).get(place) {
                text.sample(&[("route", route.pattern.text())], *value);
            }
        }
    }
    text.family(
        Form::Gauge,
        "larder_route_load_seconds",
        "How long loads of the route took, since the start.",
    );
    for route in routes.all() {
        for (quantile, share) in [("0.5", 0.5), ("0.99", 0.99)] {
            let seconds = route.stats.micros_at(share) as f64 / 1e6;
            text.sample(&[("route", route.pattern.text()), ("quantile", quantile)], seconds);
        }
    }
}

/// The families of the queues of write-behind; none where there are none.
fn write_behind(server: &Server, text: &mut Text) {
    let queues: Vec<_> =
        server.through.queues().into_iter().map(|queue| (queue.name().to_owned(), queue.figures())).collect();
    if queues.is_empty() {
        return;
    }
    let now_ms = clock::unix_millis().0;
    let age = |figures: &Figures| {
        figures.oldest_ms.map_or(0.0, |since| now_ms.saturating_sub(since) as f64 / 1000.0)
    };
    text.family(
        Form::Gauge,
        "larder_behind_pending",
        "Keys with queued writes that the source does not have.",
    );
    queues.iter().for_each(|(name, figures)| text.sample(&[("source", name)], figures.pending));
    text.family(Form::Gauge, "larder_behind_bytes", "Bytes of those writes.");
    queues.iter().for_each(|(name, figures)| text.sample(&[("source", name)], figures.bytes));
    text.family(Form::Gauge, "larder_behind_oldest_seconds", "How long the oldest of them has waited.");
    queues.iter().for_each(|(name, figures)| text.sample(&[("source", name)], age(figures)));
    text.family(Form::Gauge, "larder_behind_dead_letters", "Writes that the source has refused for good.");
    queues.iter().for_each(|(name, figures)| text.sample(&[("source", name)], figures.letters.0));
    text.family(Form::Counter, "larder_behind_writes_total", "What became of writes for the source.");
    for (name, figures) in &queues {
        for (kind, count) in [
            ("accepted", figures.accepted),
            ("superseded", figures.superseded),
            ("sent", figures.sent),
            ("retried", figures.retried),
            ("refused", figures.refused),
            ("buried", figures.buried),
        ] {
            text.sample(&[("source", name), ("kind", kind)], count);
        }
    }
}
