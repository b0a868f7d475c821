//! Walks over a database: KEYS and SCAN.
//!
//! Both go bucket by bucket and hold one shard's lock for the length of one bucket. A cursor is a
//! position in hash space, so a walk survives growth and shrinkage of the table: what exists from
//! its beginning to its end is seen.

use crate::args::Args;
use crate::cx::KeyspaceCtx;
use crate::error::Error;
use crate::spec::{Acl, Arg, Command, Flags, Run, Spec};
use larder_resp::Reply;
use larder_store::Item;
use larder_values::{glob, number};

/// Keys that one SCAN looks at, at most.
// Differs from Redis: COUNT is a hint and others wait for a long step, so a step over more than
// this many keys ends with a cursor.
const KEYS_PER_STEP_MAX: usize = 10_000;

/// Keys that one SCAN looks at without COUNT.
const KEYS_PER_STEP: usize = 10;

/// Buckets that one SCAN looks at for each key it was asked for; a sparse table has many empty ones.
const BUCKETS_PER_KEY: usize = 10;

/// `KEYS pattern`
pub static KEYS: Command = Command {
    spec: Spec {
        name: "keys",
        summary: "Lists the keys whose names match a pattern.",
        complexity: "O(N), N keys in the database.",
        arity: 2,
        flags: Flags::READONLY,
        acl: Acl::KEYSPACE.or(Acl::DANGEROUS),
        args: &[Arg::pattern("pattern")],
        tips: &["request_policy:all_shards", "nondeterministic_output_order"],
        ..Spec::EMPTY
    },
    run: Run::Keyspace(keys),
    subcommands: &[],
};

/// `SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]`
pub static SCAN: Command = Command {
    spec: Spec {
        name: "scan",
        summary: "Walks over the keys of the database in small steps.",
        since: "2.8.0",
        complexity: "O(COUNT) for each step, O(N) for a walk over N keys.",
        arity: -2,
        flags: Flags::READONLY,
        acl: Acl::KEYSPACE,
        args: &[
            Arg::integer("cursor"),
            Arg::pattern("pattern").token("MATCH").optional(),
            Arg::integer("count").token("COUNT").optional(),
            Arg::string("type").token("TYPE").optional().since("6.0.0"),
        ],
        tips: &["nondeterministic_output", "request_policy:special", "response_policy:special"],
        history: &[("6.0.0", "Takes `TYPE`.")],
        ..Spec::EMPTY
    },
    run: Run::Keyspace(scan),
    subcommands: &[],
};

/// Which keys, or elements of a collection, are answered on a walk.
#[derive(Clone, Copy, Default)]
pub(crate) struct Filter<'a> {
    pattern: Option<&'a [u8]>,
    type_name: Option<&'a [u8]>,
}

impl<'a> Filter<'a> {
    fn matching(pattern: &'a [u8]) -> Self {
        let pattern = if glob::is_match_all(pattern) { None } else { Some(pattern) };
        Filter { pattern, type_name: None }
    }

    /// Whether an element of a collection is answered.
    pub(crate) fn admits_element(&self, element: &[u8]) -> bool {
        self.pattern.is_none_or(|pattern| glob::matches(pattern, element))
    }

    fn admits(&self, item: &Item<'_>) -> bool {
        self.type_name.is_none_or(|name| item.value_type().name().as_bytes().eq_ignore_ascii_case(name))
            && self.pattern.is_none_or(|pattern| glob::matches(pattern, item.key()))
    }
}

/// What a step of a walk found, already in the form of the reply.
#[derive(Default)]
pub(crate) struct Found {
    count: usize,
    encoded: Vec<u8>,
}

impl Found {
    /// Adds a bulk string.
    pub(crate) fn push(&mut self, key: &[u8]) {
        self.count += 1;
        self.encoded.push(b'$');
        number::write_u64(&mut self.encoded, key.len() as u64);
        self.encoded.extend_from_slice(b"\r\n");
        self.encoded.extend_from_slice(key);
        self.encoded.extend_from_slice(b"\r\n");
    }

    /// Answers the next cursor and what was found.
    pub(crate) fn answer(&self, reply: &mut Reply<'_>, cursor: u64) {
        let mut text = Vec::with_capacity(20);
        number::write_u64(&mut text, cursor);
        reply.array(2);
        reply.bulk(&text);
        reply.array(self.count);
        reply.raw(&self.encoded);
    }
}

fn keys(cx: &mut KeyspaceCtx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let filter = Filter::matching(args.get(1));
    let mut found = Found::default();
    let mut cursor = 0;
    loop {
        cursor = cx.keyspace.scan(cx.db, cursor, cx.local.now, &mut |item| {
            if filter.admits(&item) {
                found.push(item.key());
            }
        });
        if cursor == 0 {
            break;
        }
    }
    cx.reply.array(found.count);
    cx.reply.raw(&found.encoded);
    Ok(())
}

fn scan(cx: &mut KeyspaceCtx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let mut cursor = parse_cursor(args.get(1)).ok_or(Error::InvalidCursor)?;
    let Options { filter, count, .. } = parse_options(args, 2, Scanned::Keys)?;
    let mut found = Found::default();
    let (mut seen, mut buckets_left) = (0, count * BUCKETS_PER_KEY);
    loop {
        cursor = cx.keyspace.scan_and_clear(cx.db, cursor, cx.local, &mut |item| {
            seen += 1;
            if filter.admits(&item) {
                found.push(item.key());
            }
        });
        buckets_left -= 1;
        if cursor == 0 || seen >= count || buckets_left == 0 {
            break;
        }
    }
    found.answer(&mut cx.reply, cursor);
    Ok(())
}

/// What a command that reads these options walks over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scanned {
    /// Keys, which have types.
    Keys,
    /// The members of a set.
    Set,
    /// The members of a sorted set, which have scores.
    SortedSet,
}

/// What a command line of a walk asks for.
pub(crate) struct Options<'a> {
    pub(crate) filter: Filter<'a>,
    /// Keys or elements to look at, 1 to `KEYS_PER_STEP_MAX`.
    pub(crate) count: usize,
    pub(crate) with_scores: bool,
}

/// The options from word `first` on.
pub(crate) fn parse_options<'a>(
    args: &Args<'a>,
    first: usize,
    scanned: Scanned,
) -> Result<Options<'a>, Error> {
    let mut options = Options { filter: Filter::default(), count: KEYS_PER_STEP, with_scores: true };
    let mut index = first;
    while index < args.len() {
        if args.is(index, b"novalues") {
            return Err(Error::of("ERR NOVALUES option can only be used in HSCAN"));
        }
        if scanned == Scanned::SortedSet && args.is(index, b"noscores") {
            options.with_scores = false;
            index += 1;
            continue;
        }
        let value = args.try_get(index + 1).ok_or(Error::Syntax)?;
        if args.is(index, b"count") {
            let number = number::parse_i64(value).ok_or(Error::NotAnInteger)?;
            if number < 1 {
                return Err(Error::Syntax);
            }
            let count = usize::try_from(number).unwrap_or(usize::MAX);
            options.count = count.min(KEYS_PER_STEP_MAX);
        } else if args.is(index, b"match") {
            options.filter.pattern = Filter::matching(value).pattern;
        } else if scanned == Scanned::Keys && args.is(index, b"type") {
            options.filter.type_name = Some(value);
        } else {
            return Err(Error::Syntax);
        }
        index += 2;
    }
    Ok(options)
}

/// A cursor as clients may spell it: what C's `strtoull` takes up to the first NUL, so blanks in
/// front, a sign (a negative number counts from the end) and zeros in front are fine.
pub(crate) fn parse_cursor(text: &[u8]) -> Option<u64> {
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    if number::parse_i64(text).is_some_and(|number| number < 0) {
        return None;
    }
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r');
    let start = text.iter().position(|byte| !is_blank(byte))?;
    let text = text.get(start..)?;
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return None;
    }
    let value = digits.iter().try_fold(0u64, |value, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })?;
    Some(if negative { value.wrapping_neg() } else { value })
}

#[cfg(test)]
mod tests {
    use super::parse_cursor;

    #[test]
    fn cursors_are_what_strtoull_takes() {
        for (text, value) in [
            (&b"0"[..], Some(0)),
            (b"18446744073709551615", Some(u64::MAX)),
            (b"18446744073709551616", None),
            (b" 7", Some(7)),
            (b"\t+7", Some(7)),
            (b"007", Some(7)),
            (b"-0", Some(0)),
            (b" -1", Some(u64::MAX)),
            (b"-1", None),
            (b"0\0abc", Some(0)),
            (b"", None),
            (b" ", None),
            (b"+", None),
            (b"7 ", None),
            (b"1.5", None),
        ] {
            assert_eq!(parse_cursor(text), value, "{}", text.escape_ascii());
        }
    }
}
