//! COPY and MOVE: the commands that reach into another database.
//!
//! Both keys are locked together, in the order of the tables, so nobody sees one half done.

use crate::args::Args;
use crate::cx::KeyspaceCtx;
use crate::error::Error;
use crate::spec::{Acl, Arg, Command, Flags, KeyFlags, KeySpec, Run, Spec};
use larder_store::{Db, Elsewhere, Event, Hashed};

/// `COPY source destination [DB destination-db] [REPLACE]`
pub static COPY: Command = Command {
    spec: Spec {
        name: "copy",
        summary: "Copies a key's value and end to another key, in this database or another.",
        since: "6.2.0",
        complexity: "O(N) for a collection of N elements, O(1) for a string.",
        arity: -3,
        flags: Flags::WRITE.or(Flags::DENY_OOM),
        acl: Acl::KEYSPACE,
        keys: &[
            KeySpec::at(1, KeyFlags::RO.or(KeyFlags::ACCESS)),
            KeySpec::at(2, KeyFlags::OW.or(KeyFlags::UPDATE)),
        ],
        args: &[
            Arg::key("source", 0),
            Arg::key("destination", 1),
            Arg::integer("destination-db").token("DB").optional(),
            Arg::word("replace", "REPLACE").optional(),
        ],
        ..Spec::EMPTY
    },
    run: Run::Keyspace(copy),
    subcommands: &[],
};

/// `MOVE key db`
pub static MOVE: Command = Command {
    spec: Spec {
        name: "move",
        summary: "Moves a key to another database unless it is taken there.",
        arity: 3,
        flags: Flags::WRITE.or(Flags::FAST),
        acl: Acl::KEYSPACE,
        keys: &[KeySpec::at(1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::UPDATE))],
        args: &[Arg::key("key", 0), Arg::integer("db")],
        ..Spec::EMPTY
    },
    run: Run::Keyspace(move_key),
    subcommands: &[],
};

fn copy(cx: &mut KeyspaceCtx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let (mut database, mut replace) = (cx.db, false);
    let mut index = 3;
    while index < args.len() {
        if args.is(index, b"replace") {
            replace = true;
        } else if args.is(index, b"db") && index + 1 < args.len() {
            index += 1;
            database = cx.database(args.get(index))?;
        } else {
            return Err(Error::Syntax);
        }
        index += 1;
    }
    let (source, destination) = (args.get(1), args.get(2));
    let copied = if database == cx.db {
        if source == destination {
            return Err(Error::SameObject);
        }
        cx.with_keys(cx.db, &[source, destination], |db, _| {
            let (source, destination) = (db.key(source), db.key(destination));
            copy_value(db, None, &source, &destination, replace)
        })
    } else {
        let (source, destination) = (hashed(cx, source), hashed(cx, destination));
        cx.across(&source, (database, &destination), |db, there| {
            copy_value(db, Some(there), &source, &destination, replace)
        })
    };
    if let Some(copied) = copied {
        cx.reply.integer(i64::from(copied));
    }
    Ok(())
}

fn copy_value<'t>(
    db: &mut Db<'t>,
    there: Option<&mut Elsewhere<'t>>,
    source: &Hashed<'_>,
    destination: &Hashed<'_>,
    replace: bool,
) -> bool {
    let Some(value) = db.read(source).map(|item| item.to_value()) else { return false };
    if let Some(there) = there {
        db.switch(there);
    }
    let overwritten = db.touch(destination).is_some();
    if overwritten {
        if !replace {
            return false;
        }
        db.remove(destination);
    }
    db.put_value(destination, value);
    db.changed(destination, Event::COPY_TO);
    if overwritten {
        db.overwritten(destination);
    }
    true
}

fn move_key(cx: &mut KeyspaceCtx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let database = cx.database(args.get(2))?;
    if database == cx.db {
        return Err(Error::SameObject);
    }
    let key = hashed(cx, args.get(1));
    if let Some(moved) = cx.across(&key, (database, &key), |db, there| move_value(db, there, &key)) {
        cx.reply.integer(i64::from(moved));
    }
    Ok(())
}

fn move_value<'t>(db: &mut Db<'t>, there: &mut Elsewhere<'t>, key: &Hashed<'_>) -> bool {
    if db.touch(key).is_none() {
        return false;
    }
    db.switch(there);
    let taken = db.touch(key).is_some();
    db.switch(there);
    if taken {
        return false;
    }
    let Some(value) = db.take(key) else { return false };
    db.switch(there);
    db.put_moved(key, value);
    db.switch(there);
    db.changed(key, Event::MOVE_FROM);
    db.switch(there);
    db.notify(key, Event::MOVE_TO);
    true
}

fn hashed<'k>(cx: &KeyspaceCtx<'_>, key: &'k [u8]) -> Hashed<'k> {
    Hashed { bytes: key, hash: cx.keyspace.hash(key) }
}
