//! Writing fields: HSET, HMSET, HSETNX.

use super::announce::{changed, expired, remove_due};
use super::{PAIR, UPDATE_ONE};
use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::spec::{Acl, Arg, Command, Flags, Group, KeyFlags, KeySpec, Run, Spec};
use larder_store::{Event, Hashed};
use larder_values::hash::{Before, End, Found, Hash, NEVER_DUE};

pub(super) const FLAGS: Flags = Flags::WRITE.or(Flags::DENY_OOM).or(Flags::FAST);

const SPEC: Spec = Spec {
    since: "2.0.0",
    group: Group::Hash,
    complexity: "O(N), N fields to set.",
    arity: -4,
    flags: FLAGS,
    acl: Acl::HASH,
    keys: UPDATE_ONE,
    args: &[Arg::key("key", 0), Arg::block("data", PAIR).multiple()],
    ..Spec::EMPTY
};

/// HSET key field value [field value ...]
pub static HSET: Command = Command {
    spec: Spec {
        name: "hset",
        element: 2,
        summary: "Sets fields to values, and tells how many are new.",
        history: &[("4.0.0", "Takes several pairs.")],
        ..SPEC
    },
    run: Run::Keys(|cx, args| {
        let new = set_all(cx, args, "hset")?;
        cx.reply.count(new);
        Ok(())
    }),
    subcommands: &[],
};

/// HMSET key field value [field value ...]
pub static HMSET: Command = Command {
    spec: Spec {
        name: "hmset",
        summary: "Sets fields to values.",
        deprecated: Some(("4.0.0", "`HSET` with several pairs")),
        ..SPEC
    },
    run: Run::Keys(|cx, args| {
        set_all(cx, args, "hmset")?;
        cx.reply.ok();
        Ok(())
    }),
    subcommands: &[],
};

fn set_all(cx: &mut Ctx<'_>, args: &Args<'_>, name: &str) -> Result<usize, Error> {
    if !args.len().is_multiple_of(2) {
        return Err(Error::arity(name));
    }
    let key = cx.key(args, 1);
    set_pairs(cx, &key, args, (2, NEVER_DUE), End::Clear)
}

/// Sets the pairs that begin at word `from`, which go to the end, and announces it. Answers how many fields are new.
/// Those whose time has come by `now` are not: they count as ended, and as absent for what is to be kept of them.
#[inline]
pub(super) fn set_pairs(
    cx: &mut Ctx<'_>,
    key: &Hashed<'_>,
    args: &Args<'_>,
    (from, now): (usize, u64),
    end: End,
) -> Result<usize, Error> {
    let limits = cx.limits.hash_packed;
    let count = (args.len() - from) / 2;
    let longest = args.from(from).map(<[u8]>::len).max().unwrap_or(0);
    let edited = cx.db.edit_or_create::<Hash, _>(key, |hash| {
        hash.prepare(count, longest, limits);
        let (mut new, mut due, mut words) = (0, Vec::new(), args.from(from));
        while let (Some(field), Some(value)) = (words.next(), words.next()) {
            match hash.set(field, value, end, now, limits) {
                Before::Live => {}
                Before::Absent => new += 1,
                Before::Due => due.push(field),
            }
        }
        (new, due)
    })?;
    let (new, due) = edited.value;
    expired(cx, key, &due);
    changed(cx, key, Event::HSET, count as u64);
    Ok(new)
}

/// HSETNX key field value
pub static HSETNX: Command = Command {
    spec: Spec {
        name: "hsetnx",
        element: 2,
        summary: "Sets a field that does not exist to a value.",
        complexity: "O(1)",
        arity: 4,
        keys: &[KeySpec::at(1, KeyFlags::RW.or(KeyFlags::INSERT))],
        args: &[Arg::key("key", 0), Arg::string("field"), Arg::string("value")],
        ..SPEC
    },
    run: Run::Keys(hsetnx),
    subcommands: &[],
};

fn hsetnx(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let key = cx.key(args, 1);
    let now = cx.db.now_of_fields();
    match cx.db.peek_as::<Hash>(&key)?.map(|hash| hash.find(args.get(2), now)) {
        Some(Found::Live(..)) => {
            cx.db.touch(&key);
            cx.reply.integer(0);
            return Ok(());
        }
        Some(Found::Due) => remove_due(&mut cx.db, &key, args.from(2).take(1)),
        Some(Found::Absent) | None => {}
    }
    set_pairs(cx, &key, args, (2, NEVER_DUE), End::Clear)?;
    cx.reply.integer(1);
    Ok(())
}
