//! What a stream and its groups are like: XINFO.

use super::options::integer;
use super::{STREAM, bad_subcommand, now_ms, reply, told};
use crate::args::Args;
use crate::cx::{Ctx, KeyspaceCtx};
use crate::error::Error;
use crate::spec::{Arg, Command, Flags, KeyFlags, KeySpec, Run, Spec};
use larder_resp::Reply;
use larder_values::stream::{Consumer, ConsumerId, Entry, Group, Stream, StreamId};

/// XINFO subcommand
pub static XINFO: Command = Command {
    spec: Spec {
        name: "xinfo",
        summary: "Groups the commands that look into a stream.",
        complexity: "That of the subcommand.",
        arity: -2,
        acl: crate::spec::Acl::NONE,
        ..STREAM
    },
    run: Run::Container,
    subcommands: &[&CONSUMERS, &GROUPS, &HELP, &OF_STREAM],
};

const LOOK: Spec =
    Spec { flags: Flags::READONLY, keys: &[KeySpec::at(2, KeyFlags::RO.or(KeyFlags::ACCESS))], ..STREAM };

/// XINFO CONSUMERS key group
static CONSUMERS: Command = Command {
    spec: Spec {
        name: "consumers",
        summary: "Lists the consumers of a group.",
        complexity: "O(N) for N consumers.",
        arity: 4,
        args: &[Arg::key("key", 0), Arg::string("group")],
        tips: &["nondeterministic_output"],
        history: &[("7.2.0", "Tells `inactive`; `idle` has another meaning.")],
        ..LOOK
    },
    run: Run::Keys(consumers),
    subcommands: &[],
};

/// XINFO GROUPS key
static GROUPS: Command = Command {
    spec: Spec {
        name: "groups",
        summary: "Lists the groups of a stream.",
        complexity: "O(N) for N groups.",
        arity: 3,
        args: &[Arg::key("key", 0)],
        history: &[("7.0.0", "Tells `entries-read` and `lag`.")],
        ..LOOK
    },
    run: Run::Keys(groups),
    subcommands: &[],
};

/// XINFO HELP
static HELP: Command = Command {
    spec: Spec {
        name: "help",
        summary: "Lists the subcommands of XINFO.",
        arity: 2,
        flags: Flags::LOADING.or(Flags::STALE),
        ..STREAM
    },
    run: Run::Keyspace(help),
    subcommands: &[],
};

/// XINFO STREAM key [FULL [COUNT count]]
static OF_STREAM: Command = Command {
    spec: Spec {
        name: "stream",
        summary: "Tells about a stream, and on demand about all that is in it.",
        complexity: "O(N), N nodes of entries.",
        arity: -3,
        args: &[
            Arg::key("key", 0),
            Arg::block(
                "full-block",
                &[Arg::word("full", "FULL"), Arg::integer("count").token("COUNT").optional()],
            )
            .optional(),
        ],
        history: &[
            ("6.0.0", "Option `FULL`."),
            (
                "7.0.0",
                "Tells `max-deleted-entry-id`, `entries-added`, `recorded-first-entry-id`, `entries-read` and `lag`.",
            ),
            ("7.2.0", "Tells `active-time`; `seen-time` has another meaning."),
        ],
        ..LOOK
    },
    run: Run::Keys(of_stream),
    subcommands: &[],
};

static HELP_LINES: &[&str] = &[
    "XINFO <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "CONSUMERS <key> <group>",
    "    Lists the consumers of a group.",
    "GROUPS <key>",
    "    Lists the groups of a stream.",
    "STREAM <key> [FULL [COUNT <count>]]",
    "    Tells about a stream; with FULL about its entries, groups and consumers too.",
    "HELP",
    "    Prints this text.",
];

/// The group is not there, in a stream that is.
pub(super) fn no_such_group(key: &[u8], group: &[u8]) -> Error {
    let (key, group) = (told(key), told(group));
    Error::custom([b"NOGROUP No such consumer group '", group, b"' for key name '", key, b"'"].concat())
}

fn consumers(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let (key, now_ms) = (cx.key(args, 2), now_ms(cx));
    let stream = cx.db.read_as::<Stream>(&key)?.ok_or(Error::NoSuchKey)?;
    let group = stream.group(args.get(3)).ok_or_else(|| no_such_group(key.bytes, args.get(3)))?;
    let reply = &mut cx.reply;
    reply.array(group.consumers().len());
    for (_, consumer) in group.consumers() {
        let since = |at_ms: i64| now_ms.saturating_sub(at_ms).max(0);
        reply.map(4);
        reply.bulk(b"name");
        reply.bulk(consumer.name());
        reply.bulk(b"pending");
        reply.count(consumer.pending_len());
        reply.bulk(b"idle");
        reply.integer(since(consumer.seen_ms));
        reply.bulk(b"inactive");
        reply.integer(consumer.active_ms.map_or(-1, since));
    }
    Ok(())
}

fn groups(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let key = cx.key(args, 2);
    let stream = cx.db.read_as::<Stream>(&key)?.ok_or(Error::NoSuchKey)?;
    let reply = &mut cx.reply;
    reply.array(stream.groups().len());
    for (name, group) in stream.groups() {
        reply.map(6);
        reply.bulk(b"name");
        reply.bulk(name);
        reply.bulk(b"consumers");
        reply.count(group.consumers().len());
        reply.bulk(b"pending");
        reply.count(group.pending_len());
        answer_reading(reply, stream, group);
    }
    Ok(())
}

/// Up to where a group has read, in three pairs.
fn answer_reading(reply: &mut Reply<'_>, stream: &Stream, group: &Group) {
    reply.bulk(b"last-delivered-id");
    reply::id(reply, group.last_id());
    reply.bulk(b"entries-read");
    reply::count_or_null(reply, group.entries_read().map(|read| read as i64));
    reply.bulk(b"lag");
    reply::count_or_null(reply, stream.numbers().lag(group));
}

fn of_stream(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let key = cx.key(args, 2);
    let stream = cx.db.read_as::<Stream>(&key)?.ok_or(Error::NoSuchKey)?;
    let reply = &mut cx.reply;
    let Some(count) = full_count(args)? else {
        reply.map(10);
        answer_numbers(reply, stream);
        reply.bulk(b"groups");
        reply.count(stream.groups().len());
        reply.bulk(b"first-entry");
        answer_entry(reply, stream.entries(StreamId::MIN, StreamId::MAX).next());
        reply.bulk(b"last-entry");
        answer_entry(reply, stream.last_entry());
        return Ok(());
    };
    reply.map(9);
    answer_numbers(reply, stream);
    reply.bulk(b"entries");
    let entries = stream.entries(StreamId::MIN, StreamId::MAX);
    reply::entries(reply, entries.count_up_to(count as u64), entries);
    reply.bulk(b"groups");
    reply.array(stream.groups().len());
    for (name, group) in stream.groups() {
        answer_group(reply, stream, name, group, count);
    }
    Ok(())
}

/// How many of each FULL lists: ten where nothing is said, all for 0.
const FULL_COUNT: usize = 10;

/// Nothing where FULL is not asked for.
fn full_count(args: &Args<'_>) -> Result<Option<usize>, Error> {
    match args.len() {
        3 => return Ok(None),
        4 | 6 if args.is(3, b"full") && (args.len() == 4 || args.is(4, b"count")) => {}
        _ => return Err(bad_subcommand(args, "XINFO")),
    }
    let Some(count) = args.try_get(5) else { return Ok(Some(FULL_COUNT)) };
    Ok(Some(match integer(count)? {
        ..0 => FULL_COUNT,
        0 => usize::MAX,
        count => usize::try_from(count).unwrap_or(usize::MAX),
    }))
}

/// What both forms begin with, in seven pairs.
fn answer_numbers(reply: &mut Reply<'_>, stream: &Stream) {
    let (keys, nodes) = stream.radix_size();
    let numbers = stream.numbers();
    for (name, number) in
        [(&b"length"[..], numbers.length), (b"radix-tree-keys", keys), (b"radix-tree-nodes", nodes)]
    {
        reply.bulk(name);
        reply.integer(number as i64);
    }
    reply.bulk(b"last-generated-id");
    reply::id(reply, numbers.last_id);
    reply.bulk(b"max-deleted-entry-id");
    reply::id(reply, numbers.max_deleted_id);
    reply.bulk(b"entries-added");
    reply.integer(numbers.entries_added as i64);
    reply.bulk(b"recorded-first-entry-id");
    reply::id(reply, numbers.first_id);
}

fn answer_entry(reply: &mut Reply<'_>, entry: Option<Entry<'_>>) {
    match entry {
        Some(entry) => reply::entry(reply, &entry),
        None => reply.null(),
    }
}

fn answer_group(reply: &mut Reply<'_>, stream: &Stream, name: &[u8], group: &Group, count: usize) {
    reply.map(7);
    reply.bulk(b"name");
    reply.bulk(name);
    answer_reading(reply, stream, group);
    reply.bulk(b"pel-count");
    reply.count(group.pending_len());
    reply.bulk(b"pending");
    reply.array(group.pending_len().min(count));
    for (id, pending) in group.pending_in(StreamId::MIN, StreamId::MAX).take(count) {
        reply.array(4);
        reply::id(reply, id);
        reply.bulk(group.get(pending.consumer).name());
        reply.integer(pending.delivered_ms);
        reply.integer(pending.deliveries as i64);
    }
    reply.bulk(b"consumers");
    reply.array(group.consumers().len());
    for (id, consumer) in group.consumers() {
        answer_consumer(reply, group, id, consumer, count);
    }
}

fn answer_consumer(reply: &mut Reply<'_>, group: &Group, id: ConsumerId, consumer: &Consumer, count: usize) {
    reply.map(5);
    reply.bulk(b"name");
    reply.bulk(consumer.name());
    reply.bulk(b"seen-time");
    reply.integer(consumer.seen_ms);
    reply.bulk(b"active-time");
    reply.integer(consumer.active_ms.unwrap_or(-1));
    reply.bulk(b"pel-count");
    reply.count(consumer.pending_len());
    reply.bulk(b"pending");
    reply.array(consumer.pending_len().min(count));
    for entry in group.pending_of(id, StreamId::MIN, StreamId::MAX).take(count) {
        let pending = group.pending(entry);
        reply.array(3);
        reply::id(reply, entry);
        reply.integer(pending.map_or(0, |pending| pending.delivered_ms));
        reply.integer(pending.map_or(0, |pending| pending.deliveries as i64));
    }
}

fn help(cx: &mut KeyspaceCtx<'_>, _: &Args<'_>) -> Result<(), Error> {
    cx.reply.array(HELP_LINES.len());
    for line in HELP_LINES {
        cx.reply.simple(line);
    }
    Ok(())
}
