//! One set: members join, leave, are asked for: SADD, SREM, SMOVE, SCARD, SISMEMBER, SMISMEMBER, SMEMBERS.

use super::{answer_member, limits};
use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::spec::{Acl, Arg, Command, Flags, Group, KeyFlags, KeySpec, Run, Spec};
use larder_store::Event;
use larder_values::set::Set;

/// SADD key member [member ...]
pub static SADD: Command = Command {
    spec: Spec {
        name: "sadd",
        element: 2,
        summary: "Adds members to a set, which is made if there is none.",
        since: "1.0.0",
        group: Group::Set,
        complexity: "O(N) where N is the number of members given.",
        arity: -3,
        flags: Flags::WRITE.or(Flags::DENY_OOM).or(Flags::FAST),
        acl: Acl::SET,
        keys: &[KeySpec::at(1, KeyFlags::RW.or(KeyFlags::INSERT))],
        args: &[Arg::key("key", 0), Arg::string("member").multiple()],
        history: &[("2.4.0", "Takes several members.")],
        ..Spec::EMPTY
    },
    run: Run::Keys(sadd),
    subcommands: &[],
};

fn sadd(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let key = cx.key(args, 1);
    let limits = limits(cx.limits);
    let edited = cx.db.edit_or_create::<Set, _>(&key, |set| {
        set.expect(args.get(2), args.len() - 2, &limits);
        args.from(2).filter(|member| set.add(member, &limits)).count()
    })?;
    if edited.value > 0 {
        cx.db.changed_times(&key, Event::SADD, edited.value as u64);
    }
    cx.reply.count(edited.value);
    Ok(())
}

/// SREM key member [member ...]
pub static SREM: Command = Command {
    spec: Spec {
        name: "srem",
        element: 2,
        summary: "Removes members from a set; an emptied set is removed.",
        since: "1.0.0",
        group: Group::Set,
        complexity: "O(N) where N is the number of members given.",
        arity: -3,
        flags: Flags::WRITE.or(Flags::FAST),
        acl: Acl::SET,
        keys: &[KeySpec::at(1, KeyFlags::RW.or(KeyFlags::DELETE))],
        args: &[Arg::key("key", 0), Arg::string("member").multiple()],
        history: &[("2.4.0", "Takes several members.")],
        ..Spec::EMPTY
    },
    run: Run::Keys(srem),
    subcommands: &[],
};

fn srem(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let key = cx.key(args, 1);
    let edited =
        cx.db.edit::<Set, _>(&key, |set| args.from(2).filter(|member| set.remove(member)).count())?;
    let Some(edited) = edited else {
        cx.reply.count(0);
        return Ok(());
    };
    if edited.value > 0 {
        cx.db.changed_times(&key, Event::SREM, edited.value as u64);
    }
    if edited.emptied {
        cx.db.notify(&key, Event::DEL);
    }
    cx.reply.count(edited.value);
    Ok(())
}

/// SMOVE source destination member
pub static SMOVE: Command = Command {
    spec: Spec {
        name: "smove",
        summary: "Moves a member from one set to another, at one moment.",
        since: "1.0.0",
        group: Group::Set,
        complexity: "O(1)",
        arity: 4,
        flags: Flags::WRITE.or(Flags::FAST),
        acl: Acl::SET,
        keys: &[
            KeySpec::at(1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::DELETE)),
            KeySpec::at(2, KeyFlags::RW.or(KeyFlags::INSERT)),
        ],
        args: &[Arg::key("source", 0), Arg::key("destination", 1), Arg::string("member")],
        ..Spec::EMPTY
    },
    run: Run::Keys(smove),
    subcommands: &[],
};

fn smove(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let (source, destination, member) = (cx.key(args, 1), cx.key(args, 2), args.get(3));
    let limits = limits(cx.limits);
    // A missing source is the answer before the destination's type is looked at. Both keys count as used, whatever
    // they hold.
    let is_member = match cx.db.peek_as::<Set>(&source) {
        Ok(Some(set)) => set.contains(member),
        Ok(None) => {
            cx.db.touch(&destination);
            cx.reply.integer(0);
            return Ok(());
        }
        Err(error) => {
            cx.db.touch(&destination);
            return Err(error.into());
        }
    };
    if let Err(error) = cx.db.peek_as::<Set>(&destination) {
        cx.db.touch(&source);
        return Err(error.into());
    }
    if source.bytes == destination.bytes || !is_member {
        cx.db.touch(&source);
        cx.db.touch(&destination);
        cx.reply.integer(i64::from(is_member));
        return Ok(());
    }
    let removed = cx.db.edit::<Set, _>(&source, |set| set.remove(member))?;
    cx.db.changed(&source, Event::SREM);
    if removed.is_some_and(|edited| edited.emptied) {
        cx.db.notify(&source, Event::DEL);
    }
    let added = cx.db.edit_or_create::<Set, _>(&destination, |set| {
        set.expect(member, 1, &limits);
        set.add(member, &limits)
    })?;
    if added.value {
        cx.db.changed(&destination, Event::SADD);
    }
    cx.reply.integer(1);
    Ok(())
}

/// SCARD key
pub static SCARD: Command = Command {
    spec: Spec {
        name: "scard",
        summary: "Answers how many members a set has.",
        since: "1.0.0",
        group: Group::Set,
        complexity: "O(1)",
        arity: 2,
        flags: Flags::READONLY.or(Flags::FAST),
        acl: Acl::SET,
        keys: &[KeySpec::at(1, KeyFlags::RO)],
        args: &[Arg::key("key", 0)],
        ..Spec::EMPTY
    },
    run: Run::Keys(|cx, args| {
        let key = cx.key(args, 1);
        let count = cx.db.read_as::<Set>(&key)?.map_or(0, |set| set.len());
        cx.reply.count(count);
        Ok(())
    }),
    subcommands: &[],
};

/// SISMEMBER key member
pub static SISMEMBER: Command = Command {
    spec: Spec {
        name: "sismember",
        element: 2,
        summary: "Answers whether a set has a member.",
        since: "1.0.0",
        group: Group::Set,
        complexity: "O(1)",
        arity: 3,
        flags: Flags::READONLY.or(Flags::FAST),
        acl: Acl::SET,
        keys: &[KeySpec::at(1, KeyFlags::RO)],
        args: &[Arg::key("key", 0), Arg::string("member")],
        ..Spec::EMPTY
    },
    run: Run::Keys(|cx, args| {
        let key = cx.key(args, 1);
        let found = cx.db.read_as::<Set>(&key)?.is_some_and(|set| set.contains(args.get(2)));
        cx.reply.integer(i64::from(found));
        Ok(())
    }),
    subcommands: &[],
};

/// SMISMEMBER key member [member ...]
pub static SMISMEMBER: Command = Command {
    spec: Spec {
        name: "smismember",
        element: 2,
        summary: "Answers for each of several members whether a set has it.",
        since: "6.2.0",
        group: Group::Set,
        complexity: "O(N) where N is the number of members asked for.",
        arity: -3,
        flags: Flags::READONLY.or(Flags::FAST),
        acl: Acl::SET,
        keys: &[KeySpec::at(1, KeyFlags::RO.or(KeyFlags::ACCESS))],
        args: &[Arg::key("key", 0), Arg::string("member").multiple()],
        ..Spec::EMPTY
    },
    run: Run::Keys(|cx, args| {
        let key = cx.key(args, 1);
        let set = cx.db.read_as::<Set>(&key)?;
        cx.reply.array(args.len() - 2);
        for member in args.from(2) {
            cx.reply.integer(set.is_some_and(|set| set.contains(member)).into());
        }
        Ok(())
    }),
    subcommands: &[],
};

/// SMEMBERS key
pub static SMEMBERS: Command = Command {
    spec: Spec {
        name: "smembers",
        summary: "Answers all members of a set.",
        since: "1.0.0",
        group: Group::Set,
        complexity: "O(N) where N is the number of members.",
        arity: 2,
        flags: Flags::READONLY,
        acl: Acl::SET,
        keys: &[KeySpec::at(1, KeyFlags::RO.or(KeyFlags::ACCESS))],
        args: &[Arg::key("key", 0)],
        tips: &["nondeterministic_output_order"],
        ..Spec::EMPTY
    },
    run: Run::Keys(|cx, args| {
        let key = cx.key(args, 1);
        let Some(set) = cx.db.read_as::<Set>(&key)? else {
            cx.reply.set(0);
            return Ok(());
        };
        cx.reply.set(set.len());
        set.for_each(|member| answer_member(&mut cx.reply, member));
        Ok(())
    }),
    subcommands: &[],
};
