//! LCS: what two strings have in common.

use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::spec::{Acl, Arg, Command, Flags, Group, KeyFlags, KeySpec, Run, Spec};
use larder_resp::Reply;
use larder_store::Hashed;
use larder_values::{lcs, number};

const NOT_STRINGS: Error = Error::of("ERR The specified keys must contain string values");
const BOTH_ASKED: Error = Error::of("ERR If you want both the length and indexes, please just use IDX.");
const TABLE_TOO_LARGE: Error =
    Error::of("ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len");

/// LCS key1 key2 [LEN] [IDX] [MINMATCHLEN min-match-len] [WITHMATCHLEN]
pub static LCS: Command = Command {
    spec: Spec {
        name: "lcs",
        summary: "Answers the longest common subsequence of two strings, its length, or where it lies.",
        since: "7.0.0",
        group: Group::String,
        complexity: "O(N*M) where N and M are the lengths of the strings.",
        arity: -3,
        flags: Flags::READONLY,
        acl: Acl::STRING,
        keys: &[KeySpec::range(1, 1, 1, KeyFlags::RO.or(KeyFlags::ACCESS))],
        args: &[
            Arg::key("key1", 0),
            Arg::key("key2", 0),
            Arg::word("len", "LEN").optional(),
            Arg::word("idx", "IDX").optional(),
            Arg::integer("min-match-len").token("MINMATCHLEN").optional(),
            Arg::word("withmatchlen", "WITHMATCHLEN").optional(),
        ],
        ..Spec::EMPTY
    },
    run: Run::Keys(lcs),
    subcommands: &[],
};

fn lcs(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    // The types are judged before the options, as in Redis.
    let (first, second) = (cx.key(args, 1), cx.key(args, 2));
    let (a, b) = (read(cx, &first), read(cx, &second));
    let (a, b) = (a?, b?);
    let options = Options::parse(args)?;
    let table = lcs::table_bytes(a.len(), b.len());
    if table.is_none_or(|bytes| bytes > cx.limits.string_bytes_max as u64) {
        return Err(TABLE_TOO_LARGE);
    }
    if options.indexes {
        let (matches, len) = lcs::matches(&a, &b, options.match_len_min);
        write_matches(&mut cx.reply, &matches, len, options.with_match_len);
    } else if options.len {
        cx.reply.count(lcs::length(&a, &b));
    } else {
        cx.reply.bulk(&lcs::subsequence(&a, &b));
    }
    Ok(())
}

/// The bytes of a key; no key is an empty string.
fn read(cx: &mut Ctx<'_>, key: &Hashed<'_>) -> Result<Vec<u8>, Error> {
    let value = cx.db.string(key).map_err(|_| NOT_STRINGS)?;
    Ok(value.map(|value| value.to_vec()).unwrap_or_default())
}

struct Options {
    len: bool,
    indexes: bool,
    with_match_len: bool,
    match_len_min: usize,
}

impl Options {
    fn parse(args: &Args<'_>) -> Result<Self, Error> {
        let mut options = Options { len: false, indexes: false, with_match_len: false, match_len_min: 0 };
        let mut index = 3;
        while index < args.len() {
            if args.is(index, b"idx") {
                options.indexes = true;
            } else if args.is(index, b"len") {
                options.len = true;
            } else if args.is(index, b"withmatchlen") {
                options.with_match_len = true;
            } else if args.is(index, b"minmatchlen") && index + 1 < args.len() {
                index += 1;
                let len = number::parse_i64(args.get(index)).ok_or(Error::NotAnInteger)?;
                // Less than nothing is no bound.
                options.match_len_min = usize::try_from(len).unwrap_or(0);
            } else {
                return Err(Error::Syntax);
            }
            index += 1;
        }
        if options.len && options.indexes { Err(BOTH_ASKED) } else { Ok(options) }
    }
}

fn write_matches(reply: &mut Reply<'_>, matches: &[lcs::Match], len: usize, with_match_len: bool) {
    reply.map(2);
    reply.bulk(b"matches");
    reply.array(matches.len());
    for found in matches {
        reply.array(if with_match_len { 3 } else { 2 });
        for (start, end) in [found.a, found.b] {
            reply.array(2);
            reply.count(start);
            reply.count(end);
        }
        if with_match_len {
            reply.count(found.len());
        }
    }
    reply.bulk(b"len");
    reply.count(len);
}
