//! What COMMAND and its subcommands answer about one command, from its declaration.
//!
//! Pure functions of a [`Spec`]: the COMMAND command itself, which knows all commands, is the
//! server's. A full name is that of the command, or container and subcommand joined by `|`; the
//! words of a command line are counted from the container's name on.
//! Invariant: nothing here is said that the declaration does not say.

use crate::args::Args;
use crate::error::Error;
use crate::keys_of::{KeyAt, keys_of};
use crate::spec::{Acl, Arg, ArgKind, Begin, Find, Flags, KeyFlags, KeySpec, Spec};
use larder_resp::Reply;
use larder_values::glob::{self, Case};
use smallvec::SmallVec;

/// The refusal of COMMAND GETKEYS for a command that does not exist.
pub const UNKNOWN_COMMAND: Error = Error::of("ERR Invalid command specified");

/// Positions of a command's keys as clients before key specifications understand them: the first,
/// the last (from the end when negative) and the distance; all zero where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LegacyRange {
    /// Word of the first key.
    pub first: i64,
    /// Word of the last key; negative: counted from the end.
    pub last: i64,
    /// Distance from key to key.
    pub step: i64,
    /// The three do not tell all keys: clients must ask COMMAND GETKEYS.
    pub is_partial: bool,
}

impl LegacyRange {
    /// Derives the range from key specifications: one range as it is; several that follow each other
    /// without a gap as one; whatever does not fit makes it partial.
    pub fn of(specs: &[KeySpec]) -> LegacyRange {
        if let [only] = specs
            && let Some((first, last, step)) = plain_range(only)
        {
            return LegacyRange { first, last, step, is_partial: only.flags.has(KeyFlags::INCOMPLETE) };
        }
        let mut range = LegacyRange::default();
        for spec in specs {
            match plain_range(spec) {
                Some((first, last, 1))
                    if !spec.flags.has(KeyFlags::INCOMPLETE)
                        && (range.last == 0 || range.last == first - 1) =>
                {
                    range.first = if range.first == 0 { first } else { range.first.min(first) };
                    range.last = last;
                    range.step = 1;
                }
                _ => range.is_partial = true,
            }
        }
        range
    }
}

/// First, last and step of a specification that says them outright.
fn plain_range(spec: &KeySpec) -> Option<(i64, i64, i64)> {
    match (spec.begin, spec.find) {
        (Begin::Index(first), Find::Range { last, step, .. }) => {
            let (first, last) = (i64::from(first), i64::from(last));
            Some((first, if last >= 0 { first + last } else { last }, i64::from(step)))
        }
        _ => None,
    }
}

/// The flags of a command with those that follow from its key specifications.
pub fn flags(spec: &Spec) -> Flags {
    if LegacyRange::of(spec.keys).is_partial { spec.flags.or(Flags::MOVABLE_KEYS) } else { spec.flags }
}

/// The full name of a subcommand.
pub fn full_name(container: &str, subcommand: &Spec) -> String {
    format!("{container}|{}", subcommand.name)
}

/// Writes the entry of COMMAND and COMMAND INFO for one command.
pub fn write_info<'s>(
    reply: &mut Reply<'_>,
    full: &str,
    spec: &Spec,
    subcommands: impl ExactSizeIterator<Item = &'s Spec>,
) {
    let range = LegacyRange::of(spec.keys);
    reply.array(10);
    reply.bulk(full.as_bytes());
    reply.integer(i64::from(spec.arity));
    write_words(reply, flags(spec).words(), "");
    reply.integer(range.first);
    reply.integer(range.last);
    reply.integer(range.step);
    write_words(reply, spec.categories().words(), "@");
    reply.set(spec.tips.len());
    for tip in spec.tips {
        reply.bulk(tip.as_bytes());
    }
    reply.set(spec.keys.len());
    for key_spec in spec.keys {
        write_key_spec(reply, key_spec);
    }
    if subcommands.len() == 0 {
        reply.set(0);
        return;
    }
    reply.array(subcommands.len());
    for subcommand in subcommands {
        write_info(reply, &full_name(full, subcommand), subcommand, [].into_iter());
    }
}

/// Writes a set of simple strings.
fn write_words(reply: &mut Reply<'_>, words: impl Iterator<Item = &'static str>, prefix: &str) {
    let words: SmallVec<[&str; 16]> = words.collect();
    reply.set(words.len());
    for word in words {
        reply.simple(&format!("{prefix}{word}"));
    }
}

fn write_key_spec(reply: &mut Reply<'_>, spec: &KeySpec) {
    reply.map(3 + usize::from(spec.notes.is_some()));
    if let Some(notes) = spec.notes {
        write_text(reply, "notes", notes);
    }
    reply.bulk(b"flags");
    write_words(reply, spec.flags.words(), "");
    reply.bulk(b"begin_search");
    reply.map(2);
    match spec.begin {
        Begin::Index(index) => {
            write_search(reply, "index", 1);
            write_number(reply, "index", i64::from(index));
        }
        Begin::Keyword { word, from } => {
            write_search(reply, "keyword", 2);
            write_text(reply, "keyword", word);
            write_number(reply, "startfrom", i64::from(from));
        }
        Begin::Unknown => write_search(reply, "unknown", 0),
    }
    reply.bulk(b"find_keys");
    reply.map(2);
    match spec.find {
        Find::Range { last, step, limit } => {
            write_search(reply, "range", 3);
            write_number(reply, "lastkey", i64::from(last));
            write_number(reply, "keystep", i64::from(step));
            write_number(reply, "limit", i64::from(limit));
        }
        Find::Counted { number_at, first, step } => {
            write_search(reply, "keynum", 3);
            write_number(reply, "keynumidx", i64::from(number_at));
            write_number(reply, "firstkey", i64::from(first));
            write_number(reply, "keystep", i64::from(step));
        }
        Find::Unknown => write_search(reply, "unknown", 0),
    }
}

/// The type of a search and the header of its `len` parameters.
fn write_search(reply: &mut Reply<'_>, kind: &str, len: usize) {
    write_text(reply, "type", kind);
    reply.bulk(b"spec");
    reply.map(len);
}

fn write_text(reply: &mut Reply<'_>, name: &str, text: &str) {
    reply.bulk(name.as_bytes());
    reply.bulk(text.as_bytes());
}

fn write_number(reply: &mut Reply<'_>, name: &str, number: i64) {
    reply.bulk(name.as_bytes());
    reply.integer(number);
}

/// Writes the pair of COMMAND DOCS for one command: its full name and the map that describes it.
pub fn write_docs<'s>(
    reply: &mut Reply<'_>,
    full: &str,
    spec: &Spec,
    subcommands: impl ExactSizeIterator<Item = &'s Spec>,
) {
    let mut doc_flags: SmallVec<[&'static str; 2]> = SmallVec::new();
    doc_flags.extend(spec.deprecated.map(|_| "deprecated"));
    doc_flags.extend(spec.system.then_some("syscmd"));
    let fields = 3
        + usize::from(!spec.complexity.is_empty())
        + usize::from(!doc_flags.is_empty())
        + 2 * usize::from(spec.deprecated.is_some())
        + usize::from(!spec.history.is_empty())
        + usize::from(!spec.args.is_empty())
        + usize::from(subcommands.len() > 0);
    reply.bulk(full.as_bytes());
    reply.map(fields);
    write_text(reply, "summary", spec.summary);
    write_text(reply, "since", spec.since);
    write_text(reply, "group", spec.group.name());
    if !spec.complexity.is_empty() {
        write_text(reply, "complexity", spec.complexity);
    }
    if !doc_flags.is_empty() {
        reply.bulk(b"doc_flags");
        write_words(reply, doc_flags.into_iter(), "");
    }
    if let Some((since, replacement)) = spec.deprecated {
        write_text(reply, "deprecated_since", since);
        write_text(reply, "replaced_by", replacement);
    }
    if !spec.history.is_empty() {
        reply.bulk(b"history");
        reply.set(spec.history.len());
        for (version, change) in spec.history {
            reply.array(2);
            reply.bulk(version.as_bytes());
            reply.bulk(change.as_bytes());
        }
    }
    if !spec.args.is_empty() {
        write_args(reply, spec.args);
    }
    if subcommands.len() > 0 {
        reply.bulk(b"subcommands");
        reply.map(subcommands.len());
        for subcommand in subcommands {
            write_docs(reply, &full_name(full, subcommand), subcommand, [].into_iter());
        }
    }
}

fn write_args(reply: &mut Reply<'_>, args: &[Arg]) {
    reply.bulk(b"arguments");
    reply.array(args.len());
    for arg in args {
        write_arg(reply, arg);
    }
}

fn write_arg(reply: &mut Reply<'_>, arg: &Arg) {
    let display = match arg.kind {
        ArgKind::OneOf | ArgKind::Block => arg.display,
        _ => Some(arg.display.unwrap_or(arg.name)),
    };
    let flags =
        [(arg.optional, "optional"), (arg.multiple, "multiple"), (arg.multiple_token, "multiple_token")];
    let has_flags = flags.iter().any(|(set, _)| *set);
    let optional_fields = [
        display.is_some(),
        arg.key_spec.is_some(),
        arg.token.is_some(),
        arg.since.is_some(),
        arg.deprecated_since.is_some(),
        has_flags,
        !arg.args.is_empty(),
    ];
    reply.map(2 + optional_fields.iter().filter(|present| **present).count());
    write_text(reply, "name", arg.name);
    write_text(reply, "type", arg.kind.name());
    if let Some(display) = display {
        write_text(reply, "display_text", display);
    }
    if let Some(index) = arg.key_spec {
        write_number(reply, "key_spec_index", i64::from(index));
    }
    if let Some(token) = arg.token {
        write_text(reply, "token", token);
    }
    if let Some(since) = arg.since {
        write_text(reply, "since", since);
    }
    if let Some(since) = arg.deprecated_since {
        write_text(reply, "deprecated_since", since);
    }
    if has_flags {
        reply.bulk(b"flags");
        write_words(reply, flags.iter().filter(|(set, _)| *set).map(|(_, word)| *word), "");
    }
    if !arg.args.is_empty() {
        write_args(reply, arg.args);
    }
}

/// Writes the answer of COMMAND GETKEYS, or of GETKEYSANDFLAGS, for the command line `args`.
///
/// # Errors
/// The refusals of COMMAND GETKEYS: no keys in the grammar, a wrong number of words, words that do
/// not tell the keys.
pub fn write_keys(
    reply: &mut Reply<'_>,
    full: &str,
    spec: &Spec,
    args: &Args<'_>,
    with_flags: bool,
) -> Result<(), Error> {
    if !spec.keys.iter().any(|key_spec| !key_spec.flags.has(KeyFlags::NOT_KEY)) {
        return Err(Error::of("ERR The command has no key arguments"));
    }
    if !spec.takes(args.len()) {
        return Err(Error::of("ERR Invalid number of arguments specified for command"));
    }
    // Keys that may be left out make the line invalid when they are, as Redis has it.
    let begins =
        |key_spec: &KeySpec| !matches!(key_spec.begin, Begin::Index(index) if index as usize >= args.len());
    let keys = if spec.keys.iter().all(begins) { keys_named(full, spec, args) } else { None };
    let keys = keys.unwrap_or_default();
    if keys.is_empty() && !spec.flags.has(Flags::NO_MANDATORY_KEYS) {
        return Err(Error::of("ERR Invalid arguments specified for command"));
    }
    reply.array(keys.len());
    for key in keys {
        if with_flags {
            reply.array(2);
        }
        reply.bulk(args.get(key.index as usize));
        if with_flags {
            write_words(reply, key.flags.words(), "");
        }
    }
    Ok(())
}

/// The keys of a command line; for the few commands whose specifications do not tell all of them or
/// what is done with them, by a reading of their options. `None`: the words do not tell them.
pub fn keys_named(full: &str, spec: &Spec, args: &Args<'_>) -> Option<SmallVec<[KeyAt; 4]>> {
    let first = |flags| KeyAt { index: 1, flags };
    let update = |overwritten| if overwritten { KeyFlags::OW } else { KeyFlags::RW.or(KeyFlags::ACCESS) };
    Some(match full {
        "sort" => sort_keys(args),
        "set" => {
            let answers = (3..args.len()).any(|index| args.is(index, b"get"));
            smallvec::smallvec![first(update(!answers).or(KeyFlags::UPDATE))]
        }
        "bitfield" => {
            let flags = if bitfield_reads_only(args) {
                KeyFlags::RO.or(KeyFlags::ACCESS)
            } else {
                update(false).or(KeyFlags::UPDATE)
            };
            smallvec::smallvec![first(flags)]
        }
        "migrate" => migrate_keys(spec, args)?,
        _ => keys_of(spec, args).ok().or_else(|| keys_counted_loosely(spec, args))?,
    })
}

/// What Redis falls back to where a number of keys is none: it takes the digits that the word begins with, tells
/// nothing of what is done with the keys, and names a destination last.
fn keys_counted_loosely(spec: &Spec, args: &Args<'_>) -> Option<SmallVec<[KeyAt; 4]>> {
    let counted = spec.keys.iter().find_map(|key_spec| match (key_spec.begin, key_spec.find) {
        (Begin::Index(begin), Find::Counted { number_at, first, step }) => {
            Some(((begin + number_at) as usize, (begin + first) as usize, step.max(1) as usize))
        }
        _ => None,
    });
    let (number_at, first, step) = counted?;
    let number = usize::try_from(leading_number(args.try_get(number_at)?)).ok()?;
    if number == 0 || number > args.len().saturating_sub(first) / step {
        return None;
    }
    let at = |index: usize| KeyAt { index: index as u32, flags: KeyFlags::NONE };
    let mut keys: SmallVec<[KeyAt; 4]> = (0..number).map(|key| at(first + key * step)).collect();
    let destinations = spec.keys.iter().filter_map(|key_spec| match (key_spec.begin, key_spec.find) {
        (Begin::Index(index), Find::Range { .. }) => Some(at(index as usize)),
        _ => None,
    });
    keys.extend(destinations);
    Some(keys)
}

/// The number that a word begins with, as C's `atoi` reads it where an `int` has 32 bits and a `long` 64.
fn leading_number(word: &[u8]) -> i32 {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
    let word = &word[word.iter().take_while(|byte| is_blank(byte)).count()..];
    let (is_negative, digits) = match word {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let number = digits.iter().take_while(|byte| byte.is_ascii_digit()).fold(0i64, |number, digit| {
        let digit = i64::from(digit - b'0');
        let tenfold = number.saturating_mul(10);
        if is_negative { tenfold.saturating_sub(digit) } else { tenfold.saturating_add(digit) }
    });
    number as i32
}

/// The sorted key, and the destination that the last STORE names.
fn sort_keys(args: &Args<'_>) -> SmallVec<[KeyAt; 4]> {
    let mut store = None;
    let mut index = 2;
    while index < args.len() {
        // The values of these options may themselves read like STORE.
        let values = [(&b"limit"[..], 2), (b"get", 1), (b"by", 1)];
        if let Some((_, count)) = values.iter().find(|(word, _)| args.is(index, word)) {
            index += count;
        } else if args.is(index, b"store") && index + 1 < args.len() {
            store = Some(index + 1);
            index += 1;
        }
        index += 1;
    }
    let mut keys = smallvec::smallvec![KeyAt { index: 1, flags: KeyFlags::RO.or(KeyFlags::ACCESS) }];
    keys.extend(store.map(|index| KeyAt { index: index as u32, flags: KeyFlags::OW.or(KeyFlags::UPDATE) }));
    keys
}

fn bitfield_reads_only(args: &Args<'_>) -> bool {
    let mut index = 2;
    while index < args.len() {
        let left = args.len() - index - 1;
        index += if args.is(index, b"get") && left >= 2 {
            3
        } else if args.is(index, b"overflow") && left >= 1 {
            2
        } else {
            return false;
        };
    }
    true
}

/// One key at word 3, or, where that is empty, all words behind KEYS.
fn migrate_keys(spec: &Spec, args: &Args<'_>) -> Option<SmallVec<[KeyAt; 4]>> {
    let flags = spec.keys.first().map_or(KeyFlags::NONE, |key_spec| key_spec.flags);
    // Incompleteness is a property of the specification, not of a key that was found.
    let flags = KeyFlags::WORDS
        .iter()
        .filter(|(bit, _)| *bit != KeyFlags::INCOMPLETE && flags.has(*bit))
        .fold(KeyFlags::NONE, |all, (bit, _)| all.or(*bit));
    let keyword = (6..args.len()).find(|index| {
        let is_value =
            args.is(index - 1, b"auth") || args.is(index - 1, b"auth2") || args.is(index - 2, b"auth2");
        !is_value && args.is(*index, b"keys")
    });
    match keyword {
        None => Some(smallvec::smallvec![KeyAt { index: 3, flags }]),
        Some(keyword) if args.get(3).is_empty() => {
            Some((keyword + 1..args.len()).map(|index| KeyAt { index: index as u32, flags }).collect())
        }
        Some(_) => None,
    }
}

/// Which commands COMMAND LIST FILTERBY lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter<'a> {
    /// Those of an access category; `None` for a category that does not exist, which has no command.
    Category(Option<Acl>),
    /// Those whose full name matches a glob, in any case.
    Pattern(&'a [u8]),
    /// Those of a module: none here.
    Module,
}

impl<'a> Filter<'a> {
    /// Reads the two words behind FILTERBY; `None` where the first is no kind of filter.
    pub fn parse(kind: &[u8], value: &'a [u8]) -> Option<Filter<'a>> {
        if kind.eq_ignore_ascii_case(b"module") {
            Some(Filter::Module)
        } else if kind.eq_ignore_ascii_case(b"aclcat") {
            let named = Acl::WORDS.iter().find(|(_, word)| word.as_bytes().eq_ignore_ascii_case(value));
            Some(Filter::Category(named.map(|(category, _)| *category)))
        } else if kind.eq_ignore_ascii_case(b"pattern") {
            Some(Filter::Pattern(value))
        } else {
            None
        }
    }

    /// Whether a command is listed.
    pub fn admits(&self, full: &str, spec: &Spec) -> bool {
        match self {
            Filter::Category(category) => category.is_some_and(|category| spec.categories().has(category)),
            Filter::Pattern(pattern) => glob::matches_with(pattern, full.as_bytes(), Case::Ignored),
            Filter::Module => false,
        }
    }
}
