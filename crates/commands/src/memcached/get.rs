//! Reading: get, gets, gat, gats. What holds no string is a miss.
//!
//! That a value was read is noted where a note is there to be changed, once; a number is given to a version where `gets` asks
//! for one.

use super::end::End;
use super::{READS, WRITES, reply};
use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::spec::{Command, Flags, KeyFlags, KeySpec, Run, Spec};
use larder_store::{Event, Hashed, Note};

/// `get key`, `gets key`
pub(super) static GET: Command = Command {
    spec: Spec { name: "get", summary: "Answers one value, and with `gets` its version.", arity: 2, ..READS },
    run: Run::Keys(get),
    subcommands: &[],
};

/// `get key key [key ...]`, `gets`
pub(super) static GET_MANY: Command = Command {
    spec: Spec {
        name: "get-many",
        summary: "Answers the values of several keys, and with `gets` their versions.",
        complexity: "O(N) where N is the number of keys.",
        arity: -3,
        keys: &[KeySpec::range(1, -1, 1, KeyFlags::RO.or(KeyFlags::ACCESS))],
        ..READS
    },
    run: Run::Keys(get),
    subcommands: &[],
};

/// `gat exptime key`, `gats`
pub(super) static GAT: Command = Command {
    spec: Spec {
        name: "gat",
        summary: "Answers one value and has its key end at another time.",
        arity: 3,
        keys: &[KeySpec::at(2, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::UPDATE))],
        ..WRITES
    },
    run: Run::Keys(gat),
    subcommands: &[],
};

/// `gat exptime key key [key ...]`, `gats`
pub(super) static GAT_MANY: Command = Command {
    spec: Spec {
        name: "gat-many",
        summary: "Answers the values of several keys and has the keys end at another time.",
        complexity: "O(N) where N is the number of keys.",
        arity: -4,
        flags: Flags::WRITE.or(Flags::FAST),
        keys: &[KeySpec::range(2, -1, 1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::UPDATE))],
        ..WRITES
    },
    run: Run::Keys(gat),
    subcommands: &[],
};

fn get(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let with_unique = args.get(0).len() > 3;
    for index in 1..args.len() {
        let key = cx.key(args, index);
        answer(cx, &key, with_unique);
    }
    cx.reply.raw(b"END\r\n");
    Ok(())
}

fn gat(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let with_unique = args.get(0).len() > 3;
    for index in 2..args.len() {
        let key = cx.key(args, index);
        if answer(cx, &key, with_unique) {
            End::read(cx, args.get(1)).set(cx, &key);
        }
    }
    cx.reply.raw(b"END\r\n");
    Ok(())
}

/// Answers a key's value, if it has one.
#[inline]
fn answer(cx: &mut Ctx<'_>, key: &Hashed<'_>, with_unique: bool) -> bool {
    if with_unique {
        unique_of(cx, key);
    }
    let Some(item) = cx.db.read(key) else { return false };
    let Ok(value) = item.string() else { return false };
    let note = item.note();
    let said = note.unwrap_or_default();
    cx.reply.raw(b"VALUE ");
    cx.reply.raw(key.bytes);
    cx.reply.raw(b" ");
    reply::number(&mut cx.reply, u64::from(said.flags));
    cx.reply.raw(b" ");
    reply::number(&mut cx.reply, value.len() as u64);
    if with_unique {
        cx.reply.raw(b" ");
        reply::number(&mut cx.reply, said.unique);
    }
    cx.reply.raw(b"\r\n");
    reply::value(&mut cx.reply, &value);
    if let Some(note) = note.filter(|note| !note.is_fetched) {
        cx.db.set_note(key, Note { is_fetched: true, ..note });
    }
    true
}

/// Notes that a value was asked for, where a note is there to be changed.
pub(super) fn fetched(cx: &mut Ctx<'_>, key: &Hashed<'_>) {
    let note = cx.db.peek(key).and_then(|item| item.note());
    if let Some(note) = note.filter(|note| !note.is_fetched) {
        cx.db.set_note(key, Note { is_fetched: true, ..note });
    }
}

/// The number of the version of a string that is there, which is given one where it has none; 0 where there is no string.
pub(super) fn unique_of(cx: &mut Ctx<'_>, key: &Hashed<'_>) -> u64 {
    let found = cx.db.peek(key).filter(|item| item.string().is_ok()).map(|item| item.note());
    let Some(note) = found.map(Option::unwrap_or_default) else { return 0 };
    if note.unique != 0 {
        return note.unique;
    }
    let unique = cx.db.next_unique();
    cx.db.set_note(key, Note { unique, ..note });
    unique
}

/// Counts an access to a key that is about to be written over or looked at by name, and says whether it is there.
pub(super) fn touch(cx: &mut Ctx<'_>, key: &Hashed<'_>) -> bool {
    cx.db.touch(key).is_some()
}

/// Says that a value was stored, as SET does.
pub(super) fn stored(cx: &mut Ctx<'_>, key: &Hashed<'_>, existed: bool, end: End) {
    if existed {
        cx.db.overwritten(key);
    }
    cx.db.changed(key, Event::SET);
    if let End::At(_) = end {
        cx.db.notify(key, Event::EXPIRE);
    }
    cx.log_outcome(key);
}
