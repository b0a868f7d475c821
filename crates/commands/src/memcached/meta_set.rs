//! ms: all ways to store, by flags.

use super::STORES;
use super::end::{End, remove};
use super::get::{stored, unique_of};
use super::reply::{self, echo};
use super::store::{Side, join_string};
use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::spec::{Command, Run, Spec};
use larder_resp::memcached::Meta;
use larder_store::{Expire, Hashed, Note, Removal};

/// `ms key value flag...`
pub(super) static MS: Command = Command {
    spec: Spec {
        name: "ms",
        summary: "Stores a value, or a part of one, where conditions hold.",
        arity: -3,
        ..STORES
    },
    run: Run::Keys(ms),
    subcommands: &[],
};

/// What a client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Code {
    Stored,
    NotStored,
    Exists,
    NotFound,
}

fn ms(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let meta = Meta::read(3, args.from(3)).unwrap_or_default();
    let key = cx.key(args, 1);
    let code = store(cx, args, &key, &meta)?;
    if meta.is_quiet && code == Code::Stored {
        return Ok(());
    }
    cx.reply.raw(match code {
        Code::Stored => b"HD",
        Code::NotStored => b"NS",
        Code::Exists => b"EX",
        Code::NotFound => b"NF",
    });
    for flag in args.from(3) {
        if flag.first() == Some(&b'c') {
            let unique = if code == Code::Stored { unique_of(cx, &key) } else { 0 };
            reply::flag_unsigned(&mut cx.reply, b'c', unique);
        } else {
            echo(&mut cx.reply, args, flag, meta.is_encoded);
        }
    }
    cx.reply.raw(b"\r\n");
    Ok(())
}

/// A value under a number is set or replaced if it is still the version of that number; added or lengthened as without one, if
/// it is not another.
fn store(cx: &mut Ctx<'_>, args: &Args<'_>, key: &Hashed<'_>, meta: &Meta) -> Result<Code, Error> {
    let found = cx.db.touch(key).map(|item| (item.note().unwrap_or_default(), item.string().is_ok()));
    let compares = meta.compare.is_some() && matches!(meta.mode.0, 0 | b'S' | b'R');
    let Some((old, is_string)) = found else {
        return match meta.mode.0 {
            _ if compares => Ok(Code::NotFound),
            b'A' | b'P' => join(cx, args, key, meta, false),
            b'R' => Ok(Code::NotStored),
            _ => Ok(put_new(cx, args, key, meta)),
        };
    };
    let compare = meta.compare.filter(|compare| *compare != 0);
    if meta.mode.0 == b'E' {
        return Ok(Code::NotStored);
    }
    match compare {
        None if compares => return Ok(Code::Exists),
        Some(compare) if is_string && compare == old.unique => {}
        Some(compare) if is_string && compares && meta.invalidates && cx.db.is_before(compare, &old) => {
            put_stale(cx, args, key, meta, &old);
            return Ok(Code::Stored);
        }
        Some(_) => return Ok(Code::Exists),
        None => {}
    }
    match meta.mode.0 {
        b'A' | b'P' => join(cx, args, key, meta, true),
        b'R' if !is_string => Ok(Code::NotStored),
        _ => Ok(put_new(cx, args, key, meta)),
    }
}

fn put_new(cx: &mut Ctx<'_>, args: &Args<'_>, key: &Hashed<'_>, meta: &Meta) -> Code {
    let note = Note { flags: meta.client_flags, unique: meta.unique.unwrap_or(0), ..Note::default() };
    put(cx, key, args.get(2), note, meta.ttl.unwrap_or(0));
    Code::Stored
}

/// Stores what its client made of an older version: stale as what it takes the place of, whose end it keeps. So is a promise.
fn put_stale(cx: &mut Ctx<'_>, args: &Args<'_>, key: &Hashed<'_>, meta: &Meta, old: &Note) {
    let note = Note {
        flags: meta.client_flags,
        unique: meta.unique.unwrap_or(0),
        is_stale: true,
        is_promised: old.is_promised,
        is_fetched: false,
    };
    let existed = cx.db.put_noted(key, args.get(2), note, Expire::Keep);
    stored(cx, key, existed, End::Never);
}

fn put(cx: &mut Ctx<'_>, key: &Hashed<'_>, value: &[u8], note: Note, ttl: i64) {
    let end = End::of(cx, ttl);
    if end == End::Now {
        remove(cx, key, Removal::Expired);
    } else {
        let existed = cx.db.put_noted(key, value, note, end.expire());
        stored(cx, key, existed, end);
    }
}

fn join(
    cx: &mut Ctx<'_>,
    args: &Args<'_>,
    key: &Hashed<'_>,
    meta: &Meta,
    is_there: bool,
) -> Result<Code, Error> {
    let side = if meta.mode.0 == b'A' { Side::Behind } else { Side::Before };
    let unique = meta.unique.unwrap_or(0);
    if join_string(cx, key, args.get(2), side, unique)? {
        return Ok(Code::Stored);
    }
    match meta.vivify.filter(|_| !is_there) {
        Some(ttl) => {
            let note = Note { flags: meta.client_flags, unique, ..Note::default() };
            put(cx, key, args.get(2), note, ttl);
            Ok(Code::Stored)
        }
        None => Ok(Code::NotStored),
    }
}
