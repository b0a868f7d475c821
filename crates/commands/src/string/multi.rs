//! Several strings at once: MGET, MSET, MSETNX, MSETEX.
//!
//! All keys of a command are locked before it runs, so each of these is atomic as it stands.

use super::conditional::Condition;
use super::options::{EXPIRATIONS, Grammar, KEEPTTL, Options};
use super::set::store;
use crate::args::Args;
use crate::cx::{Ctx, ReplyStr};
use crate::error::Error;
use crate::logged::Digits;
use crate::spec::{Acl, Arg, Begin, Command, Find, Flags, Group, KeyFlags, KeySpec, Run, Spec};
use larder_store::{Expire, Hashed};
use larder_values::number;

const PER_KEY: &str = "O(N) where N is the number of keys.";
const INVALID_NUMKEYS: Error = Error::of("ERR invalid numkeys value or out of range");
/// Keys whose memory is prefetched at a time.
const WINDOW: usize = 32;
/// Up to so many words nothing is prefetched: a core has few look-ups under way at once by itself.
const FEW_WORDS: usize = 5;
const PAIRS: Arg = Arg::block("data", &[Arg::key("key", 0), Arg::string("value")]).multiple();

/// MGET key [key ...]
pub static MGET: Command = Command {
    spec: Spec {
        name: "mget",
        summary: "Answers the strings that several keys hold, at one moment.",
        since: "1.0.0",
        group: Group::String,
        complexity: PER_KEY,
        arity: -2,
        flags: Flags::READONLY.or(Flags::FAST),
        acl: Acl::STRING,
        keys: &[KeySpec::range(1, -1, 1, KeyFlags::RO.or(KeyFlags::ACCESS))],
        args: &[Arg::key("key", 0).multiple()],
        tips: &["request_policy:multi_shard"],
        ..Spec::EMPTY
    },
    run: Run::Keys(mget),
    subcommands: &[],
};

fn mget(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    cx.reply.array(args.len() - 1);
    let mut window = [Hashed { bytes: &[], hash: 0 }; WINDOW];
    for start in (1..args.len()).step_by(WINDOW) {
        let keys = &mut window[..WINDOW.min(args.len() - start)];
        for (key, index) in keys.iter_mut().zip(start..) {
            *key = cx.key(args, index);
        }
        if args.len() > FEW_WORDS {
            cx.db.prefetch(keys);
        }
        for key in keys {
            // A key of another type counts as none.
            let value = cx.db.string(key).unwrap_or(None);
            cx.reply.string_or_null(value);
        }
    }
    Ok(())
}

/// MSET key value [key value ...]
pub static MSET: Command = Command {
    spec: Spec {
        name: "mset",
        summary: "Stores strings under several keys, at one moment.",
        since: "1.0.1",
        group: Group::String,
        complexity: PER_KEY,
        arity: -3,
        flags: Flags::WRITE.or(Flags::DENY_OOM),
        acl: Acl::STRING,
        keys: &[KeySpec::range(1, -1, 2, KeyFlags::OW.or(KeyFlags::UPDATE))],
        args: &[PAIRS],
        tips: &["request_policy:multi_shard", "response_policy:all_succeeded"],
        ..Spec::EMPTY
    },
    run: Run::Keys(mset),
    subcommands: &[],
};

fn mset(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    if args.len().is_multiple_of(2) {
        return Err(Error::arity("mset"));
    }
    store_pairs(cx, args);
    cx.reply.ok();
    Ok(())
}

fn store_pairs(cx: &mut Ctx<'_>, args: &Args<'_>) {
    for index in (1..args.len()).step_by(2) {
        let key = cx.key(args, index);
        store(cx, &key, args.get(index + 1), Expire::Clear);
    }
}

/// Whether every key does, or does not, exist; asking counts as an access.
fn all_are(cx: &mut Ctx<'_>, args: &Args<'_>, words: std::ops::Range<usize>, present: bool) -> bool {
    words.step_by(2).all(|index| {
        let key = cx.key(args, index);
        cx.db.touch(&key).is_some() == present
    })
}

/// MSETNX key value [key value ...]
pub static MSETNX: Command = Command {
    spec: Spec {
        name: "msetnx",
        summary: "Stores strings under several keys if none of them exists.",
        since: "1.0.1",
        group: Group::String,
        complexity: PER_KEY,
        arity: -3,
        flags: Flags::WRITE.or(Flags::DENY_OOM),
        acl: Acl::STRING,
        keys: &[KeySpec::range(1, -1, 2, KeyFlags::OW.or(KeyFlags::INSERT))],
        args: &[PAIRS],
        ..Spec::EMPTY
    },
    run: Run::Keys(msetnx),
    subcommands: &[],
};

fn msetnx(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    if args.len().is_multiple_of(2) {
        return Err(Error::arity("msetnx"));
    }
    let free = all_are(cx, args, 1..args.len(), false);
    if free {
        store_pairs(cx, args);
    }
    cx.reply.integer(free.into());
    Ok(())
}

/// MSETEX numkeys key value [key value ...] [NX | XX]
/// [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL]
pub static MSETEX: Command = Command {
    spec: Spec {
        name: "msetex",
        summary: "Stores strings under several keys, on a condition and for a time if wished.",
        since: "8.4.0",
        group: Group::String,
        complexity: PER_KEY,
        arity: -4,
        flags: Flags::WRITE.or(Flags::DENY_OOM),
        acl: Acl::STRING,
        keys: &[KeySpec {
            flags: KeyFlags::OW.or(KeyFlags::UPDATE),
            begin: Begin::Index(1),
            find: Find::Counted { number_at: 0, first: 1, step: 2 },
            notes: None,
        }],
        args: &[
            Arg::integer("numkeys"),
            PAIRS,
            Arg::one_of("condition", &[Arg::word("nx", "NX"), Arg::word("xx", "XX")]).optional(),
            Arg::one_of(
                "expiration",
                &[EXPIRATIONS[0], EXPIRATIONS[1], EXPIRATIONS[2], EXPIRATIONS[3], KEEPTTL],
            )
            .optional(),
        ],
        tips: &["request_policy:multi_shard", "response_policy:all_succeeded"],
        ..Spec::EMPTY
    },
    run: Run::Keys(msetex),
    subcommands: &[],
};

/// Logs what became of one key as a SET: its end may be its own, and older servers know no MSETEX.
fn log_one(cx: &mut Ctx<'_>, key: &Hashed<'_>, value: &[u8], expire: Expire) {
    if !cx.is_logged() {
        return;
    }
    match expire {
        Expire::At(at) => cx.log_also([b"SET", key.bytes, value, b"PXAT", Digits::of(at.0).text()]),
        Expire::Keep => cx.log_also([b"SET", key.bytes, value, b"KEEPTTL"]),
        Expire::Clear => cx.log_also([b"SET", key.bytes, value]),
    }
    cx.log().nothing();
}

fn msetex(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let count = number::parse_i64(args.get(1)).and_then(|count| i32::try_from(count).ok());
    let count = count.filter(|&count| count > 0).ok_or(INVALID_NUMKEYS)?;
    let end = usize::try_from(count).ok().and_then(|count| count.checked_mul(2)?.checked_add(2));
    let end = end.filter(|&end| end <= args.len()).ok_or(Error::Syntax)?;
    let options = Options::parse(args, end, Grammar::MsetEx)?;
    options.expiry.expire(cx.ends(), "msetex")?;
    let met = match options.condition {
        Condition::Absent => all_are(cx, args, 2..end, false),
        Condition::Present => all_are(cx, args, 2..end, true),
        _ => true,
    };
    if met {
        for index in (2..end).step_by(2) {
            // Anew for each, so that they need not end together.
            let expire = options.expiry.expire(cx.ends(), "msetex")?;
            let key = cx.key(args, index);
            store(cx, &key, args.get(index + 1), expire);
            log_one(cx, &key, args.get(index + 1), expire);
        }
    }
    cx.reply.integer(met.into());
    Ok(())
}
