//! Parts of a string: APPEND, GETRANGE and its old name SUBSTR, SETRANGE, STRLEN.

use crate::args::Args;
use crate::cx::{Ctx, ReplyStr};
use crate::error::Error;
use crate::spec::{Acl, Arg, Command, Flags, Group, KeyFlags, KeySpec, Run, Spec};
use larder_store::{Event, Expire, Str};
use larder_values::{ascii7, number};
use std::ops::Range;

const NEGATIVE_OFFSET: Error = Error::of("ERR offset is out of range");

/// APPEND key value
pub static APPEND: Command = Command {
    spec: Spec {
        name: "append",
        summary: "Puts bytes at the end of the string a key holds; no key counts as an empty string.",
        since: "2.0.0",
        group: Group::String,
        complexity: "O(1), amortised, for a small value: the string's buffer grows by doubling.",
        arity: 3,
        flags: Flags::WRITE.or(Flags::DENY_OOM).or(Flags::FAST),
        acl: Acl::STRING,
        keys: &[KeySpec::at(1, KeyFlags::RW.or(KeyFlags::INSERT))],
        args: &[Arg::key("key", 0), Arg::string("value")],
        ..Spec::EMPTY
    },
    run: Run::Keys(append),
    subcommands: &[],
};

fn append(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let (key, suffix, limits) = (cx.key(args, 1), args.get(2), cx.limits);
    let len = if cx.db.string_for_edit(&key)?.is_none() {
        cx.db.put_string(&key, suffix, Expire::Clear);
        suffix.len()
    } else {
        cx.db.edit_string(&key, |bytes| {
            match limits.string_len(bytes.len().checked_add(suffix.len())) {
                Ok(len) => {
                    bytes.extend_from_slice(suffix);
                    (Ok(len), true)
                }
                Err(error) => (Err(error), false),
            }
        })??
    };
    cx.db.changed(&key, Event::APPEND);
    cx.reply.count(len);
    Ok(())
}

/// SETRANGE key offset value
pub static SETRANGE: Command = Command {
    spec: Spec {
        name: "setrange",
        summary: "Overwrites a part of the string a key holds, which grows with zeros to reach it.",
        since: "2.2.0",
        group: Group::String,
        complexity: "O(M) where M is the length of the value, beside the growth of the string.",
        arity: 4,
        flags: Flags::WRITE.or(Flags::DENY_OOM),
        acl: Acl::STRING,
        keys: &[KeySpec::at(1, KeyFlags::RW.or(KeyFlags::UPDATE))],
        args: &[Arg::key("key", 0), Arg::integer("offset"), Arg::string("value")],
        ..Spec::EMPTY
    },
    run: Run::Keys(setrange),
    subcommands: &[],
};

fn setrange(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let (key, value) = (cx.key(args, 1), args.get(3));
    let offset = number::parse_i64(args.get(2)).ok_or(Error::NotAnInteger)?;
    let offset = usize::try_from(offset).map_err(|_| NEGATIVE_OFFSET)?;
    let len = cx.db.string_for_edit(&key)?.map_or(0, |present| present.len());
    if value.is_empty() {
        cx.reply.count(len);
        return Ok(());
    }
    let end = cx.limits.string_len(offset.checked_add(value.len()))?;
    let len = cx.db.edit_string(&key, |bytes| {
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[offset..end].copy_from_slice(value);
        (bytes.len(), true)
    })?;
    cx.db.changed(&key, Event::SETRANGE);
    cx.reply.count(len);
    Ok(())
}

/// STRLEN key
pub static STRLEN: Command = Command {
    spec: Spec {
        name: "strlen",
        summary: "Answers the length of the string a key holds, in bytes.",
        since: "2.2.0",
        group: Group::String,
        complexity: "O(1)",
        arity: 2,
        flags: Flags::READONLY.or(Flags::FAST),
        acl: Acl::STRING,
        keys: &[KeySpec::at(1, KeyFlags::RO)],
        args: &[Arg::key("key", 0)],
        ..Spec::EMPTY
    },
    run: Run::Keys(strlen),
    subcommands: &[],
};

fn strlen(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let key = cx.key(args, 1);
    let len = cx.db.string(&key)?.map_or(0, |value| value.len());
    cx.reply.count(len);
    Ok(())
}

const RANGE_COMPLEXITY: &str = "O(N) where N is the length of the answer.";
const RANGE_KEYS: &[KeySpec] = &[KeySpec::at(1, KeyFlags::RO.or(KeyFlags::ACCESS))];
const RANGE_ARGS: &[Arg] = &[Arg::key("key", 0), Arg::integer("start"), Arg::integer("end")];

/// GETRANGE key start end
pub static GETRANGE: Command = Command {
    spec: Spec {
        name: "getrange",
        summary: "Answers a part of the string a key holds.",
        since: "2.4.0",
        group: Group::String,
        complexity: RANGE_COMPLEXITY,
        arity: 4,
        flags: Flags::READONLY,
        acl: Acl::STRING,
        keys: RANGE_KEYS,
        args: RANGE_ARGS,
        ..Spec::EMPTY
    },
    run: Run::Keys(getrange),
    subcommands: &[],
};

/// SUBSTR key start end
pub static SUBSTR: Command = Command {
    spec: Spec {
        name: "substr",
        summary: "Answers a part of the string a key holds: GETRANGE by its first name.",
        since: "1.0.0",
        group: Group::String,
        complexity: RANGE_COMPLEXITY,
        arity: 4,
        flags: Flags::READONLY,
        acl: Acl::STRING,
        keys: RANGE_KEYS,
        args: RANGE_ARGS,
        deprecated: Some(("2.0.0", "`GETRANGE`")),
        ..Spec::EMPTY
    },
    run: Run::Keys(getrange),
    subcommands: &[],
};

fn getrange(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let key = cx.key(args, 1);
    let start = number::parse_i64(args.get(2)).ok_or(Error::NotAnInteger)?;
    let end = number::parse_i64(args.get(3)).ok_or(Error::NotAnInteger)?;
    let Some(value) = cx.db.string(&key)? else {
        cx.reply.bulk(b"");
        return Ok(());
    };
    let part = part_of(value.len(), start, end);
    match &value {
        _ if part.is_empty() => cx.reply.bulk(b""),
        _ if part.len() == value.len() => cx.reply.string(&value),
        Str::Bytes(bytes) => cx.reply.bulk(&bytes[part]),
        Str::Blob(blob) => cx.reply.bulk(&blob[part]),
        Str::Ascii7(packed, len) => cx.reply.bulk_with(part.len(), |out| {
            let whole = ascii7::unpack_range(packed, *len, part.start, part.end, out);
            debug_assert!(whole);
        }),
        Str::Int(_) => cx.reply.bulk(&value.to_vec()[part]),
    }
    Ok(())
}

/// The bytes that two ends name, both included, negative ones counted from the string's end.
fn part_of(len: usize, start: i64, end: i64) -> Range<usize> {
    if start < 0 && end < 0 && start > end {
        return 0..0;
    }
    let total = len as i64;
    let absolute = |index: i64| if index < 0 { index.saturating_add(total).max(0) } else { index };
    let (start, end) = (absolute(start), absolute(end).min(total - 1));
    if start > end { 0..0 } else { start as usize..end as usize + 1 }
}
