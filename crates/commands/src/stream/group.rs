//! Groups of consumers, made and removed: XGROUP.

use super::options::{any_id, integer, strict_id};
use super::{STREAM, bad_subcommand, group_changed, now_ms};
use crate::args::Args;
use crate::cx::{Ctx, KeyspaceCtx};
use crate::error::Error;
use crate::spec::{Arg, Command, Flags, KeyFlags, KeySpec, Run, Spec};
use larder_store::{Event, Hashed};
use larder_values::stream::{Stream, StreamId};

/// XGROUP subcommand
pub static XGROUP: Command = Command {
    spec: Spec {
        name: "xgroup",
        summary: "Groups the commands that make and remove groups of consumers.",
        complexity: "That of the subcommand.",
        arity: -2,
        acl: crate::spec::Acl::NONE,
        ..STREAM
    },
    run: Run::Container,
    subcommands: &[&CREATE, &CREATECONSUMER, &DELCONSUMER, &DESTROY, &HELP, &SETID],
};

const INSERTS: &[KeySpec] = &[KeySpec::at(2, KeyFlags::RW.or(KeyFlags::INSERT))];
const DELETES: &[KeySpec] = &[KeySpec::at(2, KeyFlags::RW.or(KeyFlags::DELETE))];

const KEY: Arg = Arg::key("key", 0);
const GROUP: Arg = Arg::string("group");
const CONSUMER: Arg = Arg::string("consumer");
const ID: Arg = Arg::one_of("id-selector", &[Arg::string("id"), Arg::word("new-id", "$")]);
const ENTRIES_READ: Arg = Arg::integer("entriesread").token("ENTRIESREAD").optional().display("entries-read");

/// XGROUP CREATE key group <id | $> [MKSTREAM] [ENTRIESREAD entries-read]
static CREATE: Command = Command {
    spec: Spec {
        name: "create",
        summary: "Makes a group of consumers.",
        arity: -5,
        flags: Flags::WRITE.or(Flags::DENY_OOM),
        keys: INSERTS,
        args: &[KEY, GROUP, ID, Arg::word("mkstream", "MKSTREAM").optional(), ENTRIES_READ],
        history: &[("7.0.0", "Option `ENTRIESREAD`.")],
        ..STREAM
    },
    run: Run::Keys(create),
    subcommands: &[],
};

/// XGROUP CREATECONSUMER key group consumer
static CREATECONSUMER: Command = Command {
    spec: Spec {
        name: "createconsumer",
        summary: "Makes a consumer in a group.",
        since: "6.2.0",
        arity: 5,
        flags: Flags::WRITE.or(Flags::DENY_OOM),
        keys: INSERTS,
        args: &[KEY, GROUP, CONSUMER],
        ..STREAM
    },
    run: Run::Keys(create_consumer),
    subcommands: &[],
};

/// XGROUP DELCONSUMER key group consumer
static DELCONSUMER: Command = Command {
    spec: Spec {
        name: "delconsumer",
        summary: "Removes a consumer from its group, with what it has pending.",
        complexity: "O(N log M) for N entries it has pending, M the group has.",
        arity: 5,
        flags: Flags::WRITE,
        keys: DELETES,
        args: &[KEY, GROUP, CONSUMER],
        ..STREAM
    },
    run: Run::Keys(delete_consumer),
    subcommands: &[],
};

/// XGROUP DESTROY key group
static DESTROY: Command = Command {
    spec: Spec {
        name: "destroy",
        summary: "Removes a group of consumers.",
        complexity: "O(N) for N pending entries.",
        arity: 4,
        flags: Flags::WRITE,
        keys: DELETES,
        args: &[KEY, GROUP],
        ..STREAM
    },
    run: Run::Keys(destroy),
    subcommands: &[],
};

/// XGROUP HELP
static HELP: Command = Command {
    spec: Spec {
        name: "help",
        summary: "Lists the subcommands of XGROUP.",
        arity: 2,
        flags: Flags::LOADING.or(Flags::STALE),
        ..STREAM
    },
    run: Run::Keyspace(help),
    subcommands: &[],
};

/// XGROUP SETID key group <id | $> [ENTRIESREAD entries-read]
static SETID: Command = Command {
    spec: Spec {
        name: "setid",
        summary: "Sets up to where a group has read.",
        arity: -5,
        flags: Flags::WRITE,
        keys: &[KeySpec::at(2, KeyFlags::RW.or(KeyFlags::UPDATE))],
        args: &[KEY, GROUP, ID, ENTRIES_READ],
        history: &[("7.0.0", "Option `ENTRIESREAD`.")],
        ..STREAM
    },
    run: Run::Keys(set_id),
    subcommands: &[],
};

static HELP_LINES: &[&str] = &[
    "XGROUP <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "CREATE <key> <group> <id | $> [<option>]",
    "    Makes a group that has read up to an id, or to the end. Options:",
    "    * MKSTREAM",
    "      Makes an empty stream where there is none.",
    "    * ENTRIESREAD <count>",
    "      Says how many entries that were, for the lag that XINFO tells.",
    "CREATECONSUMER <key> <group> <consumer>",
    "    Makes a consumer in a group.",
    "DELCONSUMER <key> <group> <consumer>",
    "    Removes a consumer with what it has pending.",
    "DESTROY <key> <group>",
    "    Removes a group.",
    "SETID <key> <group> <id | $> [ENTRIESREAD <count>]",
    "    Sets up to where a group has read.",
    "HELP",
    "    Prints this text.",
];

/// What stands behind the id.
#[derive(Default)]
struct Options {
    makes_stream: bool,
    entries_read: Option<u64>,
}

impl Options {
    fn parse(args: &Args<'_>, may_make: bool) -> Result<Options, Error> {
        let (mut options, mut index) = (Options::default(), 5);
        while index < args.len() {
            if may_make && args.is(index, b"mkstream") {
                options.makes_stream = true;
                index += 1;
            } else if args.is(index, b"entriesread") && index + 1 < args.len() {
                let read = integer(args.get(index + 1))?;
                if read < -1 {
                    return Err(Error::of("ERR value for ENTRIESREAD must be positive or -1"));
                }
                options.entries_read = u64::try_from(read).ok();
                index += 2;
            } else {
                return Err(bad_subcommand(args, "XGROUP"));
            }
        }
        Ok(options)
    }
}

const NO_KEY: Error = Error::of(
    "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM \
     option to create an empty stream automatically.",
);

/// The longest CREATE that Redis takes, in words.
const CREATE_WORDS_MAX: usize = 8;

fn create(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let options = Options::parse(args, true)?;
    let (key, group) = (cx.key(args, 2), args.get(3));
    let last_id = cx.db.peek_as::<Stream>(&key)?.map(Stream::last_id);
    if last_id.is_none() && !options.makes_stream {
        return Err(NO_KEY);
    }
    if args.len() > CREATE_WORDS_MAX {
        return Err(bad_subcommand(args, "XGROUP"));
    }
    let id = match args.get(4) {
        b"$" => last_id.unwrap_or_default(),
        id => strict_id(id)?,
    };
    let made = cx.db.edit_or_create(&key, |stream: &mut Stream| {
        let read = options.entries_read.map(|read| read.min(stream.numbers().entries_added));
        stream.create_group(group, id, read)
    })?;
    if !made.value {
        return Err(Error::of("BUSYGROUP Consumer Group name already exists"));
    }
    if made.created {
        cx.db.changed(&key, Event::XGROUP_CREATE);
    } else {
        group_changed(cx, &key, 1, Some(Event::XGROUP_CREATE));
    }
    cx.reply.ok();
    Ok(())
}

/// The key at word 2, which must hold a stream, and in it the group at word 3.
fn key_with_group<'k>(cx: &mut Ctx<'_>, args: &Args<'k>) -> Result<Hashed<'k>, Error> {
    let key = cx.key(args, 2);
    let stream = cx.db.peek_as::<Stream>(&key)?.ok_or(NO_KEY)?;
    match stream.group(args.get(3)) {
        Some(_) => Ok(key),
        None => Err(super::info::no_such_group(key.bytes, args.get(3))),
    }
}

fn create_consumer(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let key = key_with_group(cx, args)?;
    let now_ms = now_ms(cx);
    let made = cx.db.edit::<Stream, _>(&key, |stream| {
        stream.group_mut(args.get(3))?.create_consumer(args.get(4), now_ms)
    })?;
    let is_new = made.is_some_and(|edited| edited.value.is_some());
    if is_new {
        group_changed(cx, &key, 1, Some(Event::XGROUP_CREATECONSUMER));
    }
    cx.reply.integer(is_new.into());
    Ok(())
}

fn delete_consumer(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let key = key_with_group(cx, args)?;
    let gone = cx
        .db
        .edit::<Stream, _>(&key, |stream| stream.group_mut(args.get(3))?.remove_consumer(args.get(4)))?;
    let pending = gone.and_then(|edited| edited.value);
    if pending.is_some() {
        group_changed(cx, &key, 1, Some(Event::XGROUP_DELCONSUMER));
    }
    cx.reply.count(pending.unwrap_or(0));
    Ok(())
}

fn destroy(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let key = cx.key(args, 2);
    let gone = cx.db.edit::<Stream, _>(&key, |stream| stream.remove_group(args.get(3)))?.ok_or(NO_KEY)?;
    let existed = gone.value.is_some();
    if existed {
        group_changed(cx, &key, 1, Some(Event::XGROUP_DESTROY));
        // Who waits for the group is told that it is gone; to those who watch the key it is as it was.
        cx.db.wake(&key);
    }
    cx.reply.integer(existed.into());
    Ok(())
}

fn set_id(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let options = Options::parse(args, false)?;
    let key = key_with_group(cx, args)?;
    if args.len() != 5 && args.len() != 7 {
        return Err(bad_subcommand(args, "XGROUP"));
    }
    let id = match args.get(4) {
        b"$" => None,
        id => Some(any_id(id, 0)?),
    };
    cx.db.edit::<Stream, _>(&key, |stream| {
        let id: StreamId = id.unwrap_or(stream.last_id());
        let read = options.entries_read.map(|read| read.min(stream.numbers().entries_added));
        if let Some(group) = stream.group_mut(args.get(3)) {
            group.set_last_id(id, read);
        }
    })?;
    group_changed(cx, &key, 1, Some(Event::XGROUP_SETID));
    cx.reply.ok();
    Ok(())
}

fn help(cx: &mut KeyspaceCtx<'_>, _: &Args<'_>) -> Result<(), Error> {
    cx.reply.array(HELP_LINES.len());
    for line in HELP_LINES {
        cx.reply.simple(line);
    }
    Ok(())
}
