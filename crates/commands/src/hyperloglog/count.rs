//! PFADD, PFCOUNT, PFMERGE.

use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::spec::{Acl, Arg, Command, Flags, Group, KeyFlags, KeySpec, Run, Spec};
use larder_store::{Event, Expire};
use larder_values::hll;

/// PFADD key [element [element ...]]
pub static PFADD: Command = Command {
    spec: Spec {
        name: "pfadd",
        summary: "Adds elements to a HyperLogLog, which is made if there is no such key.",
        since: "2.8.9",
        group: Group::HyperLogLog,
        complexity: "O(1) for each element.",
        arity: -2,
        flags: Flags::WRITE.or(Flags::DENY_OOM).or(Flags::FAST),
        acl: Acl::HYPERLOGLOG,
        keys: &[KeySpec::at(1, KeyFlags::RW.or(KeyFlags::INSERT))],
        args: &[Arg::key("key", 0), Arg::string("element").optional().multiple()],
        ..Spec::EMPTY
    },
    run: Run::Keys(pfadd),
    subcommands: &[],
};

fn pfadd(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let (key, bytes_max) = (cx.key(args, 1), cx.limits.hll_sparse_bytes_max);
    let changes = if cx.db.string_for_edit(&key)?.is_some() {
        cx.db.edit_string(&key, |value| {
            let changes = hll::encoding(value).and_then(|_| add_all(value, args, bytes_max));
            let changed = matches!(changes, Ok(1..));
            (changes, changed)
        })??
    } else {
        let mut value = hll::create();
        let changes = add_all(&mut value, args, bytes_max)?;
        cx.db.put_assembled(&key, value, Expire::Clear);
        changes + 1
    };
    if changes > 0 {
        cx.db.changed(&key, Event::PFADD);
        // Redis counts every element that told something new as a change of its own.
        cx.db.local.effects.changed_many(changes - 1);
    }
    cx.reply.integer((changes > 0).into());
    Ok(())
}

/// How many of the elements raised a register.
fn add_all(value: &mut Vec<u8>, args: &Args<'_>, bytes_max: usize) -> Result<u64, hll::Error> {
    args.from(2).try_fold(0, |changes, element| Ok(changes + u64::from(hll::add(value, element, bytes_max)?)))
}

/// PFCOUNT key [key ...]
pub static PFCOUNT: Command = Command {
    spec: Spec {
        name: "pfcount",
        summary: "Estimates how many distinct elements were added to a HyperLogLog, or to several together.",
        since: "2.8.9",
        group: Group::HyperLogLog,
        complexity: "O(1) for one key whose estimate is kept; O(N) for N keys, with a large constant.",
        arity: -2,
        flags: Flags::READONLY,
        acl: Acl::HYPERLOGLOG,
        keys: &[KeySpec {
            notes: Some(
                "RW because it may change the internal representation of the key, and propagate to replicas",
            ),
            ..KeySpec::range(1, -1, 1, KeyFlags::RW.or(KeyFlags::ACCESS))
        }],
        args: &[Arg::key("key", 0).multiple()],
        ..Spec::EMPTY
    },
    run: Run::Keys(pfcount),
    subcommands: &[],
};

fn pfcount(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let count = if args.len() == 2 { count_one(cx, args)? } else { union(cx, args)?.count() };
    cx.reply.integer(i64::try_from(count).unwrap_or(i64::MAX));
    Ok(())
}

/// The estimate kept in the value, which is made and stored where it is out of date.
fn count_one(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<u64, Error> {
    let key = cx.key(args, 1);
    let kept = cx.read_bytes(&key, |value| value.map(hll::cached_count))?;
    match kept.transpose()? {
        None => return Ok(0),
        Some(Some(count)) => return Ok(count),
        Some(None) => {}
    }
    let (count, changed) = cx.db.edit_string(&key, |value| {
        let count = hll::count(value);
        let changed = matches!(count, Ok((_, true)));
        (count, changed)
    })??;
    if changed {
        cx.db.changed(&key, Event::TOUCHED);
    }
    Ok(count)
}

/// The registers of all keys from the first on, merged.
fn union(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<hll::Union, Error> {
    let mut union = hll::Union::new();
    for index in 1..args.len() {
        let key = cx.key(args, index);
        cx.read_bytes(&key, |value| value.map_or(Ok(()), |value| union.merge(value)))??;
    }
    Ok(union)
}

/// PFMERGE destkey [sourcekey [sourcekey ...]]
pub static PFMERGE: Command = Command {
    spec: Spec {
        name: "pfmerge",
        summary: "Merges HyperLogLogs into one, which then counts the elements of all.",
        since: "2.8.9",
        group: Group::HyperLogLog,
        complexity: "O(N) for N keys, with a large constant.",
        arity: -2,
        flags: Flags::WRITE.or(Flags::DENY_OOM),
        acl: Acl::HYPERLOGLOG,
        keys: &[
            KeySpec::at(1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::INSERT)),
            KeySpec::range(2, -1, 1, KeyFlags::RO.or(KeyFlags::ACCESS)),
        ],
        args: &[Arg::key("destkey", 0), Arg::key("sourcekey", 1).optional().multiple()],
        ..Spec::EMPTY
    },
    run: Run::Keys(pfmerge),
    subcommands: &[],
};

fn pfmerge(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let union = union(cx, args)?;
    let (key, bytes_max) = (cx.key(args, 1), cx.limits.hll_sparse_bytes_max);
    if cx.db.exists(&key) {
        cx.db.edit_string(&key, |value| (union.store(value, bytes_max), true))??;
    } else {
        let mut value = hll::create();
        union.store(&mut value, bytes_max)?;
        cx.db.put_assembled(&key, value, Expire::Clear);
    }
    cx.db.changed(&key, Event::PFADD);
    cx.reply.ok();
    Ok(())
}
