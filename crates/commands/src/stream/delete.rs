//! Removing entries and acknowledging deliveries: XDEL, XDELEX, XACK, XACKDEL.

use super::options::{self, Ids};
use super::{DELETES, REFERENCES, STREAM, UPDATES, WRITE_FAST, group_changed};
use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::spec::{Arg, Command, KeyFlags, KeySpec, Run, Spec};
use larder_store::Event;
use larder_values::stream::{Deleted, References, Stream, StreamId};

const IDS: Arg = Arg::block("ids", &[Arg::integer("numids"), Arg::string("id").multiple()]).token("IDS");

/// What an id is answered with by XDELEX and XACKDEL.
const DONE: i64 = 1;
const NOT_FOUND: i64 = -1;
const STILL_NEEDED: i64 = 2;

/// XDEL key id [id ...]
pub static XDEL: Command = Command {
    spec: Spec {
        name: "xdel",
        summary: "Removes entries from a stream.",
        complexity: "O(log N) for each entry, N nodes of the stream.",
        arity: -3,
        flags: WRITE_FAST,
        keys: DELETES,
        args: &[Arg::key("key", 0), Arg::string("id").multiple()],
        ..STREAM
    },
    run: Run::Keys(xdel),
    subcommands: &[],
};

fn xdel(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let key = cx.key(args, 1);
    if cx.db.peek_as::<Stream>(&key)?.is_none() {
        cx.reply.integer(0);
        return Ok(());
    }
    let ids: Vec<StreamId> = args.from(2).map(options::strict_id).collect::<Result<_, _>>()?;
    let deleted = cx.db.edit::<Stream, _>(&key, |stream| {
        ids.iter().filter(|id| stream.delete(**id, References::Keep) == Deleted::Removed).count()
    })?;
    let deleted = deleted.map_or(0, |edited| edited.value);
    if deleted > 0 {
        cx.db.changed_times(&key, Event::XDEL, deleted as u64);
    }
    cx.reply.count(deleted);
    Ok(())
}

/// XDELEX key [KEEPREF | DELREF | ACKED] IDS numids id [id ...]
pub static XDELEX: Command = Command {
    spec: Spec {
        name: "xdelex",
        summary: "Removes entries from a stream, with a choice of what becomes of their deliveries.",
        since: "8.2.0",
        complexity: "O(log N) for each entry, N nodes of the stream.",
        arity: -5,
        flags: WRITE_FAST,
        keys: DELETES,
        args: &[Arg::key("key", 0), REFERENCES, IDS],
        ..STREAM
    },
    run: Run::Keys(xdelex),
    subcommands: &[],
};

fn xdelex(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let key = cx.key(args, 1);
    let exists = cx.db.peek_as::<Stream>(&key)?.is_some();
    let ids = Ids::parse(args, 2)?;
    if !exists {
        answer_all(cx, ids.len(), NOT_FOUND);
        return Ok(());
    }
    let list = ids.read(args)?;
    cx.reply.array(list.len());
    let reply = &mut cx.reply;
    let deleted = cx.db.edit::<Stream, _>(&key, |stream| {
        let mut deleted = 0;
        for id in list {
            reply.integer(match stream.delete(id, ids.references) {
                Deleted::Removed => {
                    deleted += 1;
                    DONE
                }
                Deleted::Absent => NOT_FOUND,
                Deleted::Referenced => STILL_NEEDED,
            });
        }
        deleted
    })?;
    let deleted = deleted.map_or(0, |edited| edited.value);
    if deleted > 0 {
        cx.db.changed_times(&key, Event::XDEL, deleted);
    }
    Ok(())
}

/// XACK key group id [id ...]
pub static XACK: Command = Command {
    spec: Spec {
        name: "xack",
        summary: "Acknowledges entries that were delivered to a group.",
        complexity: "O(log N) for each entry, N pending ones.",
        arity: -4,
        flags: WRITE_FAST,
        keys: UPDATES,
        args: &[Arg::key("key", 0), Arg::string("group"), Arg::string("id").multiple()],
        ..STREAM
    },
    run: Run::Keys(xack),
    subcommands: &[],
};

fn xack(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let (key, group) = (cx.key(args, 1), args.get(2));
    if cx.db.read_as::<Stream>(&key)?.and_then(|stream| stream.group(group)).is_none() {
        cx.reply.integer(0);
        return Ok(());
    }
    // Every id is read before the first is acknowledged.
    for text in args.from(3) {
        options::strict_id(text)?;
    }
    let acknowledged = cx.db.edit::<Stream, _>(&key, |stream| {
        let Some(group) = stream.group_mut(group) else { return 0 };
        let ids = args.from(3).filter_map(|text| options::strict_id(text).ok());
        ids.filter(|id| group.acknowledge(*id)).count()
    })?;
    let acknowledged = acknowledged.map_or(0, |edited| edited.value);
    if acknowledged > 0 {
        group_changed(cx, &key, acknowledged as u64, None);
    }
    cx.reply.count(acknowledged);
    Ok(())
}

/// XACKDEL key group [KEEPREF | DELREF | ACKED] IDS numids id [id ...]
pub static XACKDEL: Command = Command {
    spec: Spec {
        name: "xackdel",
        summary: "Acknowledges entries that were delivered to a group, and removes them.",
        since: "8.2.0",
        complexity: "O(log N) for each entry, N pending ones.",
        arity: -6,
        flags: WRITE_FAST,
        keys: &[KeySpec::at(1, KeyFlags::RW.or(KeyFlags::UPDATE).or(KeyFlags::DELETE))],
        args: &[Arg::key("key", 0), Arg::string("group"), REFERENCES, IDS],
        ..STREAM
    },
    run: Run::Keys(xackdel),
    subcommands: &[],
};

fn xackdel(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let (key, group) = (cx.key(args, 1), args.get(2));
    let exists = cx.db.read_as::<Stream>(&key)?.and_then(|stream| stream.group(group)).is_some();
    let ids = Ids::parse(args, 3)?;
    if !exists {
        answer_all(cx, ids.len(), NOT_FOUND);
        return Ok(());
    }
    let list = ids.read(args)?;
    cx.reply.array(list.len());
    let reply = &mut cx.reply;
    let done = cx.db.edit::<Stream, _>(&key, |stream| {
        let (mut acknowledged, mut deleted) = (0, 0);
        for id in list {
            if !stream.group_mut(group).is_some_and(|group| group.acknowledge(id)) {
                reply.integer(NOT_FOUND);
                continue;
            }
            acknowledged += 1;
            match stream.delete(id, ids.references) {
                Deleted::Referenced => reply.integer(STILL_NEEDED),
                Deleted::Absent => reply.integer(DONE),
                Deleted::Removed => {
                    deleted += 1;
                    reply.integer(DONE);
                }
            }
        }
        (acknowledged, deleted)
    })?;
    let (acknowledged, deleted) = done.map_or((0, 0), |edited| edited.value);
    if deleted > 0 {
        cx.db.changed_times(&key, Event::XDEL, acknowledged);
    } else if acknowledged > 0 {
        group_changed(cx, &key, acknowledged, None);
    }
    Ok(())
}

fn answer_all(cx: &mut Ctx<'_>, count: usize, answer: i64) {
    cx.reply.array(count);
    for _ in 0..count {
        cx.reply.integer(answer);
    }
}
