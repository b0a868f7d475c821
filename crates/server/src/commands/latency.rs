//! LATENCY: spikes of events, and how long commands take.

use super::connection::shown_name;
use super::help::help as answer_help;
use crate::clock;
use crate::execute::Host;
use crate::histogram::Durations;
use crate::latency::Spikes;
use crate::registry::{HostCommand, HostRun, Row};
use crate::server::Server;
use larder_commands::spec::{Arg, Flags, Group};
use larder_commands::{Args, Error, Spec};
use std::cmp::Ordering;

/// Columns of LATENCY GRAPH.
const GRAPH_COLUMNS: usize = 80;
/// Lines of LATENCY GRAPH.
const GRAPH_ROWS: usize = 4;
/// What a line of the graph draws for a low, middle and high value.
const GRAPH_LEVELS: [char; 3] = ['_', 'o', '#'];
/// What it draws where the value is in a line above.
const GRAPH_BAR: char = '|';

/// `LATENCY subcommand`
pub static LATENCY: HostCommand = HostCommand {
    spec: Spec {
        name: "latency",
        summary: "Groups the commands about latency.",
        since: "2.8.13",
        group: Group::Server,
        complexity: "That of the subcommand.",
        arity: -2,
        ..Spec::EMPTY
    },
    run: HostRun::Container,
    subcommands: &[&DOCTOR, &GRAPH, &HELP, &HISTOGRAM, &HISTORY, &LATEST, &RESET],
};

/// `LATENCY DOCTOR`
static DOCTOR: HostCommand = HostCommand {
    spec: Spec {
        name: "doctor",
        summary: "Says in words what the spikes tell.",
        since: "2.8.13",
        group: Group::Server,
        arity: 2,
        flags: Flags::ADMIN.or(Flags::NO_SCRIPT).or(Flags::LOADING).or(Flags::STALE),
        tips: &["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"],
        ..Spec::EMPTY
    },
    run: HostRun::Host(doctor),
    subcommands: &[],
};

/// `LATENCY GRAPH event`
static GRAPH: HostCommand = HostCommand {
    spec: Spec {
        name: "graph",
        summary: "Draws the spikes of an event.",
        since: "2.8.13",
        group: Group::Server,
        arity: 3,
        flags: Flags::ADMIN.or(Flags::NO_SCRIPT).or(Flags::LOADING).or(Flags::STALE),
        args: &[Arg::string("event")],
        tips: &["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"],
        ..Spec::EMPTY
    },
    run: HostRun::Host(graph),
    subcommands: &[],
};

/// `LATENCY HELP`
static HELP: HostCommand = HostCommand {
    spec: Spec {
        name: "help",
        summary: "Lists the subcommands of LATENCY.",
        since: "2.8.13",
        group: Group::Server,
        arity: 2,
        flags: Flags::LOADING.or(Flags::STALE),
        ..Spec::EMPTY
    },
    run: HostRun::Host(help),
    subcommands: &[],
};

/// `LATENCY HISTOGRAM [command [command ...]]`
static HISTOGRAM: HostCommand = HostCommand {
    spec: Spec {
        name: "histogram",
        summary: "Answers how the durations of commands are distributed.",
        since: "7.0.0",
        group: Group::Server,
        complexity: "O(N) where N is the number of commands answered",
        arity: -2,
        flags: Flags::ADMIN.or(Flags::NO_SCRIPT).or(Flags::LOADING).or(Flags::STALE),
        args: &[Arg::string("command").optional().multiple()],
        tips: &["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"],
        ..Spec::EMPTY
    },
    run: HostRun::Host(histogram),
    subcommands: &[],
};

/// `LATENCY HISTORY event`
static HISTORY: HostCommand = HostCommand {
    spec: Spec {
        name: "history",
        summary: "Answers the spikes of an event.",
        since: "2.8.13",
        group: Group::Server,
        arity: 3,
        flags: Flags::ADMIN.or(Flags::NO_SCRIPT).or(Flags::LOADING).or(Flags::STALE),
        args: &[Arg::string("event")],
        tips: &["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"],
        ..Spec::EMPTY
    },
    run: HostRun::Host(history),
    subcommands: &[],
};

/// `LATENCY LATEST`
static LATEST: HostCommand = HostCommand {
    spec: Spec {
        name: "latest",
        summary: "Answers the last spike of every event.",
        since: "2.8.13",
        group: Group::Server,
        arity: 2,
        flags: Flags::ADMIN.or(Flags::NO_SCRIPT).or(Flags::LOADING).or(Flags::STALE),
        tips: &["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"],
        ..Spec::EMPTY
    },
    run: HostRun::Host(latest),
    subcommands: &[],
};

/// `LATENCY RESET [event [event ...]]`
static RESET: HostCommand = HostCommand {
    spec: Spec {
        name: "reset",
        summary: "Forgets the spikes of the named events, or all.",
        since: "2.8.13",
        group: Group::Server,
        arity: -2,
        flags: Flags::ADMIN.or(Flags::NO_SCRIPT).or(Flags::LOADING).or(Flags::STALE),
        args: &[Arg::string("event").optional().multiple()],
        tips: &["request_policy:all_nodes", "response_policy:agg_sum"],
        ..Spec::EMPTY
    },
    run: HostRun::Host(reset),
    subcommands: &[],
};

static HELP_LINES: &[&str] = &[
    "DOCTOR",
    "    Says in words what the spikes tell.",
    "GRAPH <event>",
    "    Draws the spikes of <event>.",
    "HISTOGRAM [<command> ...]",
    "    Answers how the durations of the named commands, or of all, are distributed.",
    "HISTORY <event>",
    "    Answers the spikes of <event>.",
    "LATEST",
    "    Answers the last spike of every event.",
    "RESET [<event> ...]",
    "    Forgets the spikes of the named events, or all.",
];

fn history(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    let samples = host.server().latency.of(args.get(2)).unwrap_or_default().samples;
    let mut reply = host.reply();
    reply.array(samples.len());
    for (second, millis) in samples {
        reply.array(2);
        reply.integer(second as i64);
        reply.integer(millis as i64);
    }
    Ok(())
}

fn latest(host: &mut Host<'_>, _: &Args<'_>) -> Result<(), Error> {
    let events = host.server().latency.all();
    let mut reply = host.reply();
    reply.array(events.len());
    for (name, spikes) in events {
        let (second, millis) = spikes.samples.last().copied().unwrap_or_default();
        reply.array(4);
        reply.bulk(name.as_bytes());
        reply.integer(second as i64);
        reply.integer(millis as i64);
        reply.integer(spikes.worst_ms as i64);
    }
    Ok(())
}

fn reset(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    let names: Vec<&[u8]> = args.from(2).collect();
    let forgotten = host.server().latency.reset(&names);
    host.reply().count(forgotten);
    Ok(())
}

fn histogram(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    let server = host.server();
    let rows: Vec<&Row> = match args.len() {
        2 => server.registry.all().collect(),
        _ => args
            .from(2)
            .filter_map(|name| server.registry.find_full(name))
            .flat_map(with_subcommands)
            .collect(),
    };
    let measured: Vec<(&Row, Durations)> = rows
        .into_iter()
        .map(|row| (row, durations_of(server, row)))
        .filter(|(_, durations)| durations.total > 0)
        .collect();
    let mut reply = host.reply();
    reply.map(measured.len());
    for (row, durations) in measured {
        let points = durations.cumulative();
        reply.bulk(row.name.as_bytes());
        reply.map(2);
        reply.bulk(b"calls");
        reply.integer(durations.total as i64);
        reply.bulk(b"histogram_usec");
        reply.map(points.len());
        for (micros, runs) in points {
            reply.integer(micros as i64);
            reply.integer(runs as i64);
        }
    }
    Ok(())
}

fn with_subcommands(row: &Row) -> impl Iterator<Item = &Row> {
    std::iter::once(row).chain(&row.subcommands)
}

/// How long a command took on all workers.
pub(super) fn durations_of(server: &Server, row: &Row) -> Durations {
    Durations::sum(server.stats.iter().filter_map(|stats| Some(&stats.by_command.get(row.id)?.durations)))
}

fn graph(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    let name = args.get(2);
    let Some(spikes) = host.server().latency.of(name) else {
        let mut text = b"ERR No samples available for event '".to_vec();
        text.extend_from_slice(shown_name(name));
        text.push(b'\'');
        return Err(Error::custom(text));
    };
    let now_secs = clock::unix_millis().0 / 1000;
    let drawn = draw(&String::from_utf8_lossy(name), &spikes, now_secs);
    host.reply().verbatim(b"txt", drawn.as_bytes());
    Ok(())
}

/// The spikes of an event as bars of text, their age written downwards below.
fn draw(name: &str, spikes: &Spikes, now_secs: u64) -> String {
    let values = || spikes.samples.iter().map(|(_, millis)| *millis);
    let (low, high) = (values().min().unwrap_or(0), values().max().unwrap_or(0));
    let mut text = format!("{name} - high {high} ms, low {low} ms (all time high {} ms)\n", spikes.worst_ms);
    text.push_str(&"-".repeat(GRAPH_COLUMNS));
    text.push('\n');
    for (index, chunk) in spikes.samples.chunks(GRAPH_COLUMNS).enumerate() {
        if index > 0 {
            text.push('\n');
        }
        draw_chunk(chunk, low, high, now_secs, &mut text);
    }
    text
}

fn draw_chunk(chunk: &[(u64, u64)], low: u64, high: u64, now_secs: u64, text: &mut String) {
    let levels = GRAPH_LEVELS.len();
    let steps = levels * GRAPH_ROWS;
    let step_of = |millis: u64| {
        let scaled = u128::from(millis - low) * steps as u128 / u128::from((high - low).max(1));
        usize::try_from(scaled).unwrap_or(steps).min(steps - 1)
    };
    for row in (0..GRAPH_ROWS).rev() {
        let drawn = chunk.iter().map(|(_, millis)| {
            let step = step_of(*millis);
            match (step / levels).cmp(&row) {
                Ordering::Less => ' ',
                Ordering::Equal => GRAPH_LEVELS[step % levels],
                Ordering::Greater => GRAPH_BAR,
            }
        });
        text.extend(drawn);
        text.push('\n');
    }
    text.push_str(&" ".repeat(chunk.len()));
    text.push('\n');
    let ages: Vec<String> = chunk.iter().map(|(second, _)| age(now_secs.saturating_sub(*second))).collect();
    for line in 0..ages.iter().map(String::len).max().unwrap_or(0) {
        text.extend(ages.iter().map(|age| age.as_bytes().get(line).map_or(' ', |byte| char::from(*byte))));
        text.push('\n');
    }
}

/// How long ago, in the largest whole unit.
fn age(secs: u64) -> String {
    match secs {
        0..60 => format!("{secs}s"),
        60..3_600 => format!("{}m", secs / 60),
        3_600..86_400 => format!("{}h", secs / 3_600),
        _ => format!("{}d", secs / 86_400),
    }
}

fn doctor(host: &mut Host<'_>, _: &Args<'_>) -> Result<(), Error> {
    let settings = host.server().settings();
    let events = host.server().latency.all();
    let text = diagnosis(&events, settings.latency_monitor_threshold(), settings.slowlog_log_slower_than());
    host.reply().verbatim(b"txt", text.as_bytes());
    Ok(())
}

/// What LATENCY DOCTOR says of these events under these settings.
fn diagnosis(events: &[(&'static str, Spikes)], threshold_ms: u64, slower_than_micros: i64) -> String {
    if events.iter().all(|(_, spikes)| spikes.samples.is_empty()) {
        return if threshold_ms == 0 {
            "Nothing was watched: latency monitoring is off. CONFIG SET latency-monitor-threshold <milliseconds> turns \
             it on.\n"
                .to_owned()
        } else {
            format!("No latency spike of {threshold_ms} ms or more was observed.\n")
        };
    }
    let mut text = "Latency spikes were observed:\n\n".to_owned();
    for (number, (name, spikes)) in events.iter().enumerate() {
        text.push_str(&format!("{}. {name}: {}\n", number + 1, summary(spikes)));
    }
    text.push_str("\nWhat may help:\n\n");
    let threshold_micros = i64::try_from(threshold_ms.saturating_mul(1000)).unwrap_or(i64::MAX);
    if slower_than_micros < 0 || (threshold_ms > 0 && slower_than_micros > threshold_micros) {
        text.push_str(
            "- The slow log misses commands that are slow enough to be counted here. CONFIG SET \
             slowlog-log-slower-than to a lower value, in microseconds, shows which they are.\n",
        );
    } else {
        text.push_str("- SLOWLOG GET tells which commands were slow.\n");
    }
    text.push_str(
        "- Commands that go through many elements hold up others on the same thread. Ask for less at a time: SCAN in \
         place of KEYS, shorter ranges.\n",
    );
    text.push_str("- UNLINK and the lazyfree settings free large values in the background.\n");
    text
}

/// The figures of one event in words.
fn summary(spikes: &Spikes) -> String {
    let count = spikes.samples.len().max(1) as u64;
    let mean = spikes.samples.iter().map(|(_, millis)| millis).sum::<u64>() / count;
    let deviation = spikes.samples.iter().map(|(_, millis)| millis.abs_diff(mean)).sum::<u64>() / count;
    let (first, last) = match (spikes.samples.first(), spikes.samples.last()) {
        (Some(first), Some(last)) => (first.0, last.0),
        _ => (0, 0),
    };
    let period = last.saturating_sub(first) as f64 / count.saturating_sub(1).max(1) as f64;
    let every = if count > 1 { format!(", one every {period:.2} seconds") } else { String::new() };
    format!(
        "{} spikes (mean of those kept {mean} ms, mean deviation {deviation} ms{every}). Worst ever {} ms.",
        spikes.count, spikes.worst_ms
    )
}

fn help(host: &mut Host<'_>, _: &Args<'_>) -> Result<(), Error> {
    answer_help(host, "LATENCY", HELP_LINES);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spikes(samples: &[(u64, u64)]) -> Spikes {
        Spikes {
            samples: samples.to_vec(),
            worst_ms: samples.iter().map(|(_, millis)| *millis).max().unwrap_or(0),
            sum_ms: samples.iter().map(|(_, millis)| *millis).sum(),
            count: samples.len() as u64,
        }
    }

    #[test]
    fn the_graph_is_drawn_as_redis_draws_it() {
        let line = "-".repeat(80);
        assert_eq!(
            draw("command", &spikes(&[(100, 50)]), 100),
            format!("command - high 50 ms, low 50 ms (all time high 50 ms)\n{line}\n \n \n \n_\n \n0\ns\n")
        );
        assert_eq!(
            draw("command", &spikes(&[(65, 10), (98, 60), (100, 110)]), 100),
            format!(
                "command - high 110 ms, low 10 ms (all time high 110 ms)\n{line}\n  #\n _|\n ||\n_||\n   \n320\n5ss\ns  \n"
            )
        );
        let values = [2, 20, 35, 5, 60, 80, 12, 100, 44, 3];
        let samples: Vec<(u64, u64)> = values.into_iter().map(|millis| (100, millis)).collect();
        let drawn = draw("command", &spikes(&samples), 100);
        let bars: Vec<&str> = drawn.lines().skip(2).take(4).collect();
        assert_eq!(bars, ["     _ #  ", "    o| |  ", "  o || |# ", "_#|_||o||_"]);
    }

    #[test]
    fn ages_are_told_in_the_largest_unit() {
        assert_eq!(
            [0, 59, 60, 3_599, 3_600, 86_399, 86_400].map(age),
            ["0s", "59s", "1m", "59m", "1h", "23h", "1d"]
        );
    }

    #[test]
    fn the_doctor_tells_what_was_seen_and_what_the_settings_hide() {
        assert!(diagnosis(&[], 0, 10_000).contains("is off"));
        assert!(diagnosis(&[], 10, 10_000).contains("10 ms or more"));
        let events = [("command", spikes(&[(100, 20), (110, 40)]))];
        let text = diagnosis(&events, 10, 10_000);
        assert!(
            text.contains(
                "1. command: 2 spikes (mean of those kept 30 ms, mean deviation 10 ms, one every 10.00"
            ),
            "{text}"
        );
        assert!(text.contains("SLOWLOG GET") && !text.contains("misses"), "{text}");
        assert!(diagnosis(&events, 10, -1).contains("misses"));
        assert!(diagnosis(&events, 10, 20_000).contains("misses"));
    }
}
