//! Leases, for applications that load what they miss by themselves: GETLEASE and SETLEASE.
//!
//! Of all who miss a key one gets a token and loads; the others are given the old value where there is one, or told to wait. What was
//! loaded is stored only while its token stands: a write, a removal or an invalidation meanwhile ends it, so that no value is kept
//! that was read before a change and stored after it (Nishtala et al., *Scaling Memcache at Facebook*, NSDI 2013).
//! Read next: `larder_store`'s `leases.rs`.

use super::options::{EXPIRATIONS, Expiry, Unit};
use super::set::{log_with_end, store};
use crate::args::Args;
use crate::cx::{Ctx, ReplyStr};
use crate::error::Error;
use crate::spec::{Acl, Arg, Command, Flags, Group, KeyFlags, KeySpec, Run, Spec};
use crate::wait::{Timeout, Wait, timeout_millis};
use larder_store::{Expire, Leased, Mark, Millis, TAG_BYTES_MAX, TAGS_MAX, Type};
use larder_values::number;
use std::sync::atomic::Ordering::Relaxed;

/// The version of Larder that had them first.
const SINCE: &str = "0.1.0";
/// Longest time for which an old value may be kept.
const STALE_MS_MAX: i64 = 366 * 24 * 3600 * 1000;

const LOST: Error =
    Error::of("LEASELOST the key was changed or invalidated since, or the time of the lease is over");
const FULL: Error = Error::of("ERR too many leases are out");
const WRONG_STALE: Error = Error::of("ERR STALE takes milliseconds, from 0 to those of a year");
const WRONG_TAGS: Error =
    Error::of("ERR TAGS takes a number from 1 to 16 and as many tags of 1 to 255 bytes");

/// GETLEASE key [WAIT milliseconds]
pub static GETLEASE: Command = Command {
    spec: Spec {
        name: "getlease",
        summary: "Answers a string; of all who find none, or an old one, one is given a lease to set it.",
        since: SINCE,
        group: Group::String,
        arity: -2,
        flags: Flags::WRITE.or(Flags::BLOCKING).or(Flags::NO_SCRIPT),
        acl: Acl::STRING.or(Acl::CACHE),
        keys: &[KeySpec::at(1, KeyFlags::RW.or(KeyFlags::ACCESS))],
        args: &[Arg::key("key", 0), Arg::integer("milliseconds").token("WAIT").optional()],
        ..Spec::EMPTY
    },
    run: Run::Keys(getlease),
    subcommands: &[],
};

/// SETLEASE key token value [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds]
/// [STALE milliseconds] [TAGS count tag [tag ...]]
pub static SETLEASE: Command = Command {
    spec: Spec {
        name: "setlease",
        summary: "Stores a string under a lease, unless the key was changed or invalidated since.",
        since: SINCE,
        group: Group::String,
        complexity: "O(N) where N is the number of tags",
        arity: -4,
        flags: Flags::WRITE.or(Flags::DENY_OOM),
        acl: Acl::STRING.or(Acl::CACHE),
        keys: &[KeySpec::at(1, KeyFlags::OW.or(KeyFlags::UPDATE))],
        args: &[
            Arg::key("key", 0),
            Arg::string("token"),
            Arg::string("value"),
            Arg::one_of("expiration", &EXPIRATIONS).optional(),
            Arg::integer("stale-milliseconds").token("STALE").optional(),
            Arg::block("tags", &[Arg::integer("count"), Arg::string("tag").multiple()])
                .token("TAGS")
                .optional(),
        ],
        ..Spec::EMPTY
    },
    run: Run::Keys(setlease),
    subcommands: &[],
};

fn getlease(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let timeout = match args.len() {
        2 => None,
        4 if args.is(2, b"wait") => Some(timeout_millis(cx, args.get(3))?),
        _ => return Err(Error::Syntax),
    };
    let key = cx.key(args, 1);
    // Whatever the worker knows of invalidations: a token must not be older than what it is for.
    cx.db.settle(&key, true);
    let is_old = cx.db.is_old(&key);
    if !is_old && let Some(value) = cx.db.string(&key)? {
        cx.reply.array(2);
        cx.reply.bulk(b"HIT");
        cx.reply.string(&value);
        return Ok(());
    }
    // One that is no string is told so before anybody gets a lease.
    let is_there = is_old && cx.db.string_for_edit(&key)?.is_some();
    let token = cx.db.local.token();
    let until = Millis(cx.db.now().0.saturating_add(cx.limits.lease_ms));
    match cx.db.lease(&key, token, until) {
        Leased::Full => return Err(FULL),
        Leased::Given => {
            cx.reply.array(if is_there { 3 } else { 2 });
            cx.reply.bulk(b"LEASE");
            cx.reply.bulk_integer(token.cast_signed());
        }
        Leased::Taken if is_there => {
            cx.reply.array(2);
            cx.reply.bulk(b"STALE");
            cx.db.lease_counts().stale.fetch_add(1, Relaxed);
        }
        Leased::Taken => {
            cx.db.lease_counts().waited.fetch_add(1, Relaxed);
            match timeout {
                Some(timeout) if timeout != Timeout(0) => {
                    cx.wait(Wait::for_keys(1..2, Type::String, timeout).when_gone());
                }
                _ => {
                    cx.reply.array(1);
                    cx.reply.bulk(b"WAIT");
                }
            }
        }
    }
    if is_there && let Some(value) = cx.db.string(&key)? {
        cx.reply.string(&value);
    }
    Ok(())
}

/// What SETLEASE says beside the value.
struct Options<'a> {
    expiry: Expiry<'a>,
    stale_ms: u64,
    tags: Vec<&'a [u8]>,
}

impl<'a> Options<'a> {
    fn parse(args: &Args<'a>, mut at: usize) -> Result<Self, Error> {
        let mut options = Options { expiry: Expiry::Unsaid, stale_ms: 0, tags: Vec::new() };
        let (mut has_stale, mut has_tags) = (false, false);
        while let Some(word) = args.try_get(at) {
            let next = args.try_get(at + 1).ok_or(Error::Syntax)?;
            at += 2;
            if let Some(unit) = Unit::of(word).filter(|_| options.expiry == Expiry::Unsaid) {
                options.expiry = Expiry::At(unit, next);
            } else if word.eq_ignore_ascii_case(b"stale") && !std::mem::replace(&mut has_stale, true) {
                let millis = number::parse_i64(next).filter(|millis| (0..=STALE_MS_MAX).contains(millis));
                options.stale_ms = millis.ok_or(WRONG_STALE)?.unsigned_abs();
            } else if word.eq_ignore_ascii_case(b"tags") && !std::mem::replace(&mut has_tags, true) {
                let count = number::parse_i64(next).and_then(|count| usize::try_from(count).ok());
                let count = count.filter(|count| (1..=TAGS_MAX).contains(count)).ok_or(WRONG_TAGS)?;
                for index in at..at + count {
                    let tag = args.try_get(index).ok_or(WRONG_TAGS)?;
                    if tag.is_empty() || tag.len() > TAG_BYTES_MAX {
                        return Err(WRONG_TAGS);
                    }
                    options.tags.push(tag);
                }
                at += count;
            } else {
                return Err(Error::Syntax);
            }
        }
        Ok(options)
    }
}

fn setlease(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let options = Options::parse(args, 4)?;
    let fresh_until = options.expiry.deadline(cx.ends(), "setlease")?;
    let key = cx.key(args, 1);
    cx.db.settle(&key, true);
    let token = number::parse_i64(args.get(2)).map(i64::cast_unsigned);
    if token.is_none() || cx.db.lease_stands(&key) != token {
        cx.db.lease_counts().lost.fetch_add(1, Relaxed);
        return Err(LOST);
    }
    let end = fresh_until.map(|until| Millis(until.0.saturating_add(options.stale_ms)));
    store(cx, &key, args.get(3), end.map_or(Expire::Clear, Expire::At));
    // The lease ends by the change where changes are told, and in any case here.
    cx.db.end_lease(&key);
    let mark = Mark::new(fresh_until, options.stale_ms, options.tags);
    if !mark.is_empty() {
        cx.db.mark(&key, mark);
    }
    // Leases, tags and old values are not kept over a restart.
    match end {
        Some(end) => log_with_end(cx, &key, args.get(3), end),
        None => cx.log_instead([b"SET", key.bytes, args.get(3)]),
    }
    cx.db.lease_counts().won.fetch_add(1, Relaxed);
    cx.reply.ok();
    Ok(())
}
