//! Texts made from the table: `larder --help` and the example `larder.conf`.
//!
//! Invariant: the example, as it is and with every option uncommented, is accepted and equals the defaults.
//! Read next: `options.rs`, from which every word about an option comes.

use crate::kind::{Kind, memory_in_units};
use crate::options::{Flags, Group, OPTIONS, OptionSpec, Settings, Support};
use crate::value::as_word;
use std::fmt::Write as _;

/// Columns of the help text.
const WIDTH: usize = 100;

const USAGE: &str = "\
Usage: larder [/path/to/larder.conf] [--option value ...] [-]
       larder -                       read the configuration from standard input
       larder --cache [...]           be a cache: take three quarters of the memory there is for
                                      maxmemory, allkeys-adaptive for maxmemory-policy, and write
                                      no snapshots
       larder --check-config [...]    say whether the configuration is right, and end
       larder sim TRACE [...]         what eviction policies would have hit; see larder sim --help
       larder check-rdb FILE          say whether a snapshot is right, what is in it, and what is
                                      wrong where
       larder -v | --version
       larder -h | --help

Examples:
       larder                         listen on port 6379 with the defaults below
       larder /etc/larder.conf --port 7777
       larder --maxmemory 1gb --maxmemory-policy allkeys-lru
       larder --cache                 the same in one word, for this machine or container
       echo 'maxmemory 128mb' | larder -

A configuration file has the syntax of redis.conf. What is given later wins: the file, standard
input, then options. CONFIG SET changes options at run time, except those marked (at start).
";

/// What `larder --help` prints.
#[must_use]
pub fn help_text() -> String {
    let mut text = USAGE.to_owned();
    for group in Group::ALL {
        let mut options = of_group(group, Support::Live).peekable();
        if options.peek().is_some() {
            let _ = writeln!(text, "\n{}:", group.title());
            options.for_each(|spec| describe(spec, &mut text));
        }
    }
    text.push_str("\nTaken and kept as by Redis, without an effect in this version:\n");
    for spec in OPTIONS {
        if let Some(why) = spec.idle_because() {
            let _ = writeln!(text, "  --{}  {}  ({why})", spec.name, shown_default(spec));
        }
    }
    text.push_str("\nReadable, with one possible value in this version:\n");
    for spec in OPTIONS.iter().filter(|spec| spec.support == Support::Fixed) {
        let _ = writeln!(text, "  --{}  {}", spec.name, shown_default(spec));
    }
    text
}

/// An example configuration: every option with what it does and its default, commented out.
#[must_use]
pub fn default_conf() -> String {
    let mut text = String::from(
        "# Configuration of Larder. Every option stands here with its default, commented out.\n\
         # Sizes may have a unit: 1k is 1000 bytes, 1kb 1024; likewise m, mb, g, gb.\n\
         # `include /path/to/file` reads another file in this place; patterns with * are possible.\n",
    );
    for group in Group::ALL {
        let _ = write!(text, "\n## {} ##\n", group.title());
        for spec in of_group(group, Support::Live) {
            example(spec, &mut text);
        }
        let mut last = None;
        for spec in of_group(group, Support::Kept) {
            let why = spec.idle_because();
            if why != last {
                text.push_str("\n# Taken and kept as by Redis, without an effect in this version: ");
                let _ = writeln!(text, "{}.", why.unwrap_or_default());
                last = why;
            }
            example_lines(spec, &mut text);
        }
        let fixed: Vec<_> = of_group(group, Support::Fixed).collect();
        if !fixed.is_empty() {
            text.push_str("\n# Readable by clients, with one possible value in this version:\n");
            fixed.into_iter().for_each(|spec| example_lines(spec, &mut text));
        }
    }
    text
}

fn of_group(group: Group, support: Support) -> impl Iterator<Item = &'static OptionSpec> {
    OPTIONS.iter().filter(move |spec| spec.group == group && spec.support == support)
}

fn describe(spec: &OptionSpec, text: &mut String) {
    let shape = spec.kind.shape();
    if shape.len() <= WIDTH {
        let _ = write!(text, "  --{} {shape}", spec.name);
    } else {
        let _ = write!(text, "  --{} word", spec.name);
    }
    if let Some(alias) = spec.alias {
        let _ = write!(text, "  (or --{alias})");
    }
    if spec.flags.has(Flags::IMMUTABLE) {
        text.push_str("  (at start)");
    }
    text.push('\n');
    wrap("        ", spec.doc, text);
    if shape.len() > WIDTH {
        wrap("        ", &format!("One of: {}.", shape.replace('|', ", ")), text);
    }
    let unit = if spec.unit.is_empty() { String::new() } else { format!(" (in {})", spec.unit) };
    let _ = writeln!(text, "        Default: {}{unit}", shown_default(spec));
}

fn example(spec: &OptionSpec, text: &mut String) {
    text.push('\n');
    wrap("# ", spec.doc, text);
    let shape = spec.kind.shape();
    if shape.len() <= WIDTH {
        let _ = write!(text, "# {shape}");
    } else {
        wrap("# ", &format!("One of: {}.", shape.replace('|', ", ")), text);
        text.push_str("# word");
    }
    if !spec.unit.is_empty() {
        let _ = write!(text, ", in {}", spec.unit);
    }
    if spec.flags.has(Flags::IMMUTABLE) {
        text.push_str(", only at start");
    }
    text.push('\n');
    example_lines(spec, text);
}

fn example_lines(spec: &OptionSpec, text: &mut String) {
    if spec.name == "dir" {
        // The default is where the server was started, which is not known here.
        text.push_str("# dir .\n");
        return;
    }
    for value in (spec.ops.lines)(&Settings::default(), spec) {
        let _ = writeln!(text, "# {} {}", spec.name, String::from_utf8_lossy(&value));
    }
}

/// The default as a person would write it.
fn shown_default(spec: &OptionSpec) -> String {
    if let (Kind::Memory { .. }, Ok(bytes)) = (spec.kind, spec.default.parse()) {
        return memory_in_units(bytes);
    }
    if spec.kind.takes_words() && !spec.default.is_empty() {
        return spec.default.to_owned();
    }
    String::from_utf8_lossy(&as_word(spec.default.as_bytes())).into_owned()
}

/// Appends the words in lines of at most [`WIDTH`] columns, each with the margin before it.
fn wrap(margin: &str, words: &str, text: &mut String) {
    let mut column = 0_usize;
    for word in words.split(' ') {
        let is_full = column.saturating_add(word.len()) >= WIDTH;
        if column == 0 || is_full {
            text.push_str(if column == 0 { "" } else { "\n" });
            text.push_str(margin);
            column = margin.len();
        } else {
            text.push(' ');
            column = column.saturating_add(1);
        }
        text.push_str(word);
        column = column.saturating_add(word.len());
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::from_text;

    #[test]
    fn the_example_equals_the_defaults_as_it_is_and_uncommented() {
        let text = default_conf();
        assert_eq!(from_text(text.as_bytes()).unwrap().settings, Settings::default());
        let is_option = |line: &&str| {
            let name = line.strip_prefix("# ").and_then(|line| line.split(' ').next()).unwrap_or_default();
            OPTIONS.iter().any(|spec| spec.name == name)
        };
        let options: Vec<_> = text.lines().filter(is_option).collect();
        let names = OPTIONS.len();
        assert!(options.len() >= names, "{} of {names}", options.len());
        let uncommented = options.join("\n").replace("# ", "");
        let plan = from_text(uncommented.as_bytes()).unwrap();
        assert_eq!(plan.settings, Settings::default());
        assert_eq!(plan.warnings, []);
    }

    #[test]
    fn the_help_names_every_option_that_can_be_set_and_is_not_too_wide() {
        let text = help_text();
        for spec in OPTIONS {
            assert!(text.contains(&format!("--{} ", spec.name)), "{}", spec.name);
        }
        assert!(text.lines().all(|line| line.len() <= 140));
    }
}
