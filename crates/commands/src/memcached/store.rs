//! Writing: set, add, replace, append, prepend, cas, touch, delete, flush_all.

use super::end::{End, remove};
use super::get::{fetched, stored, touch};
use super::{STORES, WRITES, is_quiet};
use crate::args::Args;
use crate::cx::{Ctx, KeyspaceCtx};
use crate::error::Error;
use crate::spec::{Acl, Command, Flags, KeyFlags, KeySpec, Run, Spec};
use larder_resp::memcached::parse_u64;
use larder_store::{Event, Expire, Hashed, Note, Removal};

macro_rules! store {
    ($($(#[$doc:meta])* $constant:ident $name:literal $summary:literal $arity:literal $run:expr;)*) => {
        $($(#[$doc])* pub(super) static $constant: Command = Command {
            spec: Spec { name: $name, summary: $summary, arity: $arity, ..STORES },
            run: Run::Keys($run),
            subcommands: &[],
        };)*
    };
}

store! {
    /// `set key value flags exptime [noreply]`
    SET "set" "Stores a value under a key, whatever the key held before." -5 |cx, args| {
        let key = cx.key(args, 1);
        store_value(cx, args, &key)
    };
    /// `add key value flags exptime [noreply]`
    ADD "add" "Stores a value under a key that does not exist." -5 |cx, args| {
        let key = cx.key(args, 1);
        if touch(cx, &key) { answer(cx, args, b"NOT_STORED\r\n") } else { store_value(cx, args, &key) }
    };
    /// `replace key value flags exptime [noreply]`
    REPLACE "replace" "Stores a value under a key that holds a string." -5 |cx, args| {
        let key = cx.key(args, 1);
        let is_there = cx.db.touch(&key).is_some_and(|item| item.string().is_ok());
        if is_there { store_value(cx, args, &key) } else { answer(cx, args, b"NOT_STORED\r\n") }
    };
    /// `append key value flags exptime [noreply]`
    APPEND "append" "Appends to the string that a key holds." -5 |cx, args| join(cx, args, Side::Behind);
    /// `prepend key value flags exptime [noreply]`
    PREPEND "prepend" "Puts bytes before the string that a key holds." -5 |cx, args| join(cx, args, Side::Before);
    /// `cas key value flags exptime unique [noreply]`
    CAS "cas" "Stores a value under a key that has not changed since its version was told." -6 |cx, args| {
        let key = cx.key(args, 1);
        let found = cx.db.touch(&key).map(|item| item.note().unwrap_or_default().unique);
        match found {
            None => answer(cx, args, b"NOT_FOUND\r\n"),
            Some(unique) if unique != 0 && parse_u64(args.get(5)) == Some(unique) => store_value(cx, args, &key),
            Some(_) => answer(cx, args, b"EXISTS\r\n"),
        }
    };
}

/// `set` of a value that is too long to be stored.
pub(super) static SET_TOO_LARGE: Command = Command {
    spec: Spec {
        name: "set-too-large",
        summary: "Removes a key that was to be set to a value that is too long.",
        arity: -2,
        keys: &[KeySpec::at(1, KeyFlags::RM.or(KeyFlags::DELETE))],
        ..WRITES
    },
    run: Run::Keys(|cx, args| {
        let key = cx.key(args, 1);
        remove(cx, &key, Removal::Deleted);
        // A further word stands there to have nothing answered.
        if args.len() == 2 {
            cx.reply.raw(b"SERVER_ERROR object too large for cache\r\n");
        }
        Ok(())
    }),
    subcommands: &[],
};

/// `touch key exptime [noreply]`
pub(super) static TOUCH: Command = Command {
    spec: Spec { name: "touch", summary: "Has a key end at another time.", arity: -3, ..WRITES },
    run: Run::Keys(|cx, args| {
        let key = cx.key(args, 1);
        if !touch(cx, &key) {
            return answer(cx, args, b"NOT_FOUND\r\n");
        }
        fetched(cx, &key);
        End::read(cx, args.get(2)).set(cx, &key);
        answer(cx, args, b"TOUCHED\r\n")
    }),
    subcommands: &[],
};

/// `delete key [noreply]`
pub(super) static DELETE: Command = Command {
    spec: Spec {
        name: "delete",
        summary: "Removes a key, whatever it holds.",
        arity: -2,
        keys: &[KeySpec::at(1, KeyFlags::RM.or(KeyFlags::DELETE))],
        ..WRITES
    },
    run: Run::Keys(|cx, args| {
        let key = cx.key(args, 1);
        if !cx.db.remove_for(&key, Removal::Deleted) {
            return answer(cx, args, b"NOT_FOUND\r\n");
        }
        cx.db.changed(&key, Event::DEL);
        cx.log_outcome(&key);
        answer(cx, args, b"DELETED\r\n")
    }),
    subcommands: &[],
};

/// `flush_all [noreply]`: at once; the server sees to a delay.
pub(super) static FLUSH_ALL: Command = Command {
    spec: Spec {
        name: "flush_all",
        summary: "Removes every key of the database.",
        complexity: "O(1) for the caller; the background frees N keys in O(N).",
        arity: -1,
        flags: Flags::WRITE,
        acl: Acl::KEYSPACE.or(Acl::DANGEROUS),
        keys: &[],
        ..WRITES
    },
    run: Run::Exclusive(|cx: &mut KeyspaceCtx<'_>, args| {
        cx.local.effects.log.instead_of([b"FLUSHDB"]);
        crate::keys::flush(cx, cx.db);
        if !is_quiet(b"flush_all", args) {
            cx.reply.raw(b"OK\r\n");
        }
        Ok(())
    }),
    subcommands: &[],
};

/// Answers a line, unless the client wants none.
#[inline]
#[expect(clippy::unnecessary_wraps, reason = "it ends commands")]
pub(super) fn answer(cx: &mut Ctx<'_>, args: &Args<'_>, line: &[u8]) -> Result<(), Error> {
    // The last word may be one more than the command has.
    if args.get(args.len() - 1) != b"noreply" || !is_quiet(args.get(0), args) {
        cx.reply.raw(line);
    }
    Ok(())
}

#[inline]
fn store_value(cx: &mut Ctx<'_>, args: &Args<'_>, key: &Hashed<'_>) -> Result<(), Error> {
    let flags = parse_u64(args.get(3)).unwrap_or(0) as u32;
    let end = End::read(cx, args.get(4));
    if end == End::Now {
        remove(cx, key, Removal::Expired);
    } else {
        let existed = cx.db.put_noted(key, args.get(2), Note { flags, ..Note::default() }, end.expire());
        stored(cx, key, existed, end);
    }
    answer(cx, args, b"STORED\r\n")
}

/// On which side of a string others are put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Before,
    Behind,
}

fn join(cx: &mut Ctx<'_>, args: &Args<'_>, side: Side) -> Result<(), Error> {
    let key = cx.key(args, 1);
    if join_string(cx, &key, args.get(2), side, 0)? {
        answer(cx, args, b"STORED\r\n")
    } else {
        answer(cx, args, b"NOT_STORED\r\n")
    }
}

/// Puts bytes on one side of the string that a key holds; its flags and its end stay. False where it holds none.
pub(super) fn join_string(
    cx: &mut Ctx<'_>,
    key: &Hashed<'_>,
    bytes: &[u8],
    side: Side,
    unique: u64,
) -> Result<bool, Error> {
    let Some(item) = cx.db.touch(key) else { return Ok(false) };
    let Ok(value) = item.string() else { return Ok(false) };
    let len = cx.limits.string_len(value.len().checked_add(bytes.len()))?;
    let flags = item.note().unwrap_or_default().flags;
    let mut joined = Vec::with_capacity(len);
    if side == Side::Before {
        joined.extend_from_slice(bytes);
    }
    value.write_to(&mut joined);
    if side == Side::Behind {
        joined.extend_from_slice(bytes);
    }
    let note = Note { flags, unique, ..Note::default() };
    cx.db.put_noted_assembled(key, joined, note, Expire::Keep);
    cx.db.changed(key, Event::APPEND);
    cx.log_outcome(key);
    Ok(true)
}
