//! Removing fields: HDEL, HGETDEL.

use super::announce::{Tally, changed, expired};
use super::fields::{FIELDS, Fields};
use super::{KEY_FIELDS, bulk_or_null};
use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::spec::{Acl, Arg, Command, Flags, Group, KeyFlags, KeySpec, Run, Spec};
use larder_resp::Reply;
use larder_store::{Event, Hashed};
use larder_values::hash::{Hash, NEVER_DUE};

/// HDEL key field [field ...]
pub static HDEL: Command = Command {
    spec: Spec {
        name: "hdel",
        element: 2,
        summary: "Removes fields, and the key with the last of them.",
        since: "2.0.0",
        group: Group::Hash,
        complexity: "O(N), N fields to remove.",
        arity: -3,
        flags: Flags::WRITE.or(Flags::FAST),
        acl: Acl::HASH,
        keys: &[KeySpec::at(1, KeyFlags::RW.or(KeyFlags::DELETE))],
        args: KEY_FIELDS,
        history: &[("2.4.0", "Takes several fields.")],
        ..Spec::EMPTY
    },
    run: Run::Keys(hdel),
    subcommands: &[],
};

fn hdel(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let key = cx.key(args, 1);
    let removed = remove(cx, &key, args, (2, NEVER_DUE), |_, _, _| {})?;
    cx.reply.integer(i64::try_from(removed).unwrap_or(i64::MAX));
    Ok(())
}

/// Removes the fields named from word `from` on and announces it; `tell` hears of each before it goes.
/// Answers how many there were, those apart whose time had come by `now`.
fn remove(
    cx: &mut Ctx<'_>,
    key: &Hashed<'_>,
    args: &Args<'_>,
    (from, now): (usize, u64),
    tell: impl Fn(&mut Reply<'_>, &Hash, &[u8]),
) -> Result<u64, Error> {
    let reply = &mut cx.reply;
    let edited = cx.db.edit::<Hash, _>(key, |hash| {
        let mut tally = Tally::default();
        for field in args.from(from) {
            tell(reply, hash, field);
            tally.note(field, hash.remove(field, now));
        }
        tally
    })?;
    let Some(edited) = edited else { return Ok(0) };
    let tally = edited.value;
    expired(cx, key, &tally.due);
    if tally.live > 0 {
        changed(cx, key, Event::HDEL, tally.live);
    }
    if edited.emptied {
        cx.db.notify(key, Event::DEL);
    }
    Ok(tally.live)
}

/// HGETDEL key FIELDS numfields field [field ...]
pub static HGETDEL: Command = Command {
    spec: Spec {
        name: "hgetdel",
        summary: "Answers the values of fields and removes them.",
        since: "8.0.0",
        group: Group::Hash,
        complexity: "O(N), N fields named.",
        arity: -5,
        flags: Flags::WRITE.or(Flags::FAST),
        acl: Acl::HASH,
        keys: &[KeySpec::at(1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::DELETE))],
        args: &[Arg::key("key", 0), FIELDS],
        ..Spec::EMPTY
    },
    run: Run::Keys(hgetdel),
    subcommands: &[],
};

fn hgetdel(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let key = cx.key(args, 1);
    cx.db.peek_as::<Hash>(&key)?;
    let fields = Fields::parse(args, 2)?;
    let now = cx.db.now_of_fields();
    cx.reply.array(fields.count);
    if cx.db.touch(&key).is_none() {
        args.from(fields.first).for_each(|_| cx.reply.null());
        return Ok(());
    }
    remove(cx, &key, args, (fields.first, now), |reply, hash, field| {
        bulk_or_null(reply, hash.look().find(field, now).value());
    })?;
    if cx.is_logged() {
        let words: Vec<&[u8]> =
            [&b"HDEL"[..], key.bytes].into_iter().chain(args.from(fields.first)).collect();
        cx.log().instead(words.into_iter());
    }
    Ok(())
}
