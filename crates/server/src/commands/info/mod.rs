//! INFO: figures about the server, in sections, one `name:value` a line.
//!
//! Invariant: a figure is measured or counted. What describes a part that this version does not
//! have says what Redis says where that part is off; what nobody measures is left out.
//! Read next: `activity.rs` for counters, `place.rs` for the process and its memory.

mod activity;
mod cache;
mod place;

pub(crate) use activity::errors_by_code;
pub(crate) use place::cpu_seconds;

use crate::execute::Host;
use crate::registry::{HostCommand, HostRun};
use larder_commands::spec::{Acl, Arg, Flags, Group};
use larder_commands::{Args, Error, Spec};
use std::fmt::{Display, Write};

/// `INFO [section [section ...]]`
pub static INFO: HostCommand = HostCommand {
    spec: Spec {
        name: "info",
        summary: "Answers figures about the server, section by section.",
        group: Group::Server,
        arity: -1,
        flags: Flags::LOADING.or(Flags::STALE),
        acl: Acl::DANGEROUS,
        args: &[Arg::string("section").optional().multiple()],
        tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
        history: &[("7.0.0", "Takes several sections.")],
        ..Spec::EMPTY
    },
    run: HostRun::Host(info),
    subcommands: &[],
};

/// One section of INFO.
struct Section {
    /// The word that asks for it.
    name: &'static str,
    /// Whether it is answered when no section is named.
    is_default: bool,
    write: fn(&mut Host<'_>, &mut Lines),
}

const fn section(name: &'static str, is_default: bool, write: fn(&mut Host<'_>, &mut Lines)) -> Section {
    Section { name, is_default, write }
}

/// The section that is answered only where it is asked for by its name.
static DEBUG: Section = section("debug", false, activity::debug);

/// All other sections in the order in which they are answered.
static SECTIONS: &[Section] = &[
    section("server", true, place::server),
    section("clients", true, activity::clients),
    section("memory", true, place::memory),
    section("persistence", true, activity::persistence),
    section("threads", true, activity::threads),
    section("stats", true, activity::stats),
    section("replication", true, place::replication),
    section("cpu", true, place::cpu),
    section("modules", true, |_, lines| lines.heading("Modules")),
    section("commandstats", false, activity::command_stats),
    section("errorstats", true, activity::error_stats),
    section("latencystats", false, activity::latency_stats),
    section("cluster", true, |_, lines| {
        lines.heading("Cluster");
        lines.add("cluster_enabled", 0);
    }),
    section("keyspace", true, activity::keyspace),
    section("keysizes", true, activity::keysizes),
    section("cache", true, cache::cache),
];

/// The text of an answer.
#[derive(Debug, Default)]
struct Lines(String);

impl Lines {
    /// Starts a section.
    fn heading(&mut self, title: &str) {
        if !self.0.is_empty() {
            self.0.push_str("\r\n");
        }
        self.add_parts(format_args!("# {title}"));
    }

    /// Adds a figure.
    fn add(&mut self, name: &str, value: impl Display) {
        self.add_parts(format_args!("{name}:{value}"));
    }

    /// Adds figures that have the same value.
    fn add_all(&mut self, names: &[&str], value: impl Display) {
        names.iter().for_each(|name| self.add(name, &value));
    }

    fn add_parts(&mut self, parts: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = write!(self.0, "{parts}\r\n");
    }
}

fn info(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    let wants = |word: &str| args.from(1).any(|arg| arg.eq_ignore_ascii_case(word.as_bytes()));
    let everything = wants("all") || wants("everything");
    let defaults = args.len() == 1 || wants("default");
    let mut lines = Lines::default();
    for section in SECTIONS {
        if everything || (defaults && section.is_default) || wants(section.name) {
            (section.write)(host, &mut lines);
        }
    }
    if wants(DEBUG.name) {
        (DEBUG.write)(host, &mut lines);
    }
    host.reply().verbatim(b"txt", lines.0.as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_apart_by_an_empty_line() {
        let mut lines = Lines::default();
        lines.heading("One");
        lines.add("a", 1);
        lines.heading("Two");
        lines.add_all(&["b", "c"], "x");
        assert_eq!(lines.0, "# One\r\na:1\r\n\r\n# Two\r\nb:x\r\nc:x\r\n");
    }
}
