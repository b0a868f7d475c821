//! Counting: incr, decr and the meta command ma. Numbers have 64 bits and no sign: they wrap around above and stop at 0 below.
//!
//! A number that takes no more room than what was there is written in its place, blanks behind it, and the item is
//! still the one it was; a longer one makes a new item. Strings of Redis' commands, which would take the blanks for text, get none.

use super::end::{End, remove};
use super::get::unique_of;
use super::reply::{self, echo, plain_line};
use super::store::answer;
use super::{STORES, get};
use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::spec::{Command, Run, Spec};
use larder_resp::memcached::{Meta, parse_u64};
use larder_store::{Event, Expire, Hashed, Note, Removal};

const NOT_NUMERIC: Error = Error::of("CLIENT_ERROR cannot increment or decrement non-numeric value");
const INVALID_MODE: Error = Error::of("CLIENT_ERROR invalid mode for ma M token");

/// Longest value that is taken for a number with something behind it: memcached keeps longer ones in pieces.
const VALUE_BYTES_MAX: usize = 512 * 1024;

/// `incr key delta [noreply]`
pub(super) static INCR: Command = Command {
    spec: Spec { name: "incr", summary: "Adds to the number that a string spells.", arity: -3, ..STORES },
    run: Run::Keys(|cx, args| count(cx, args, true)),
    subcommands: &[],
};

/// `decr key delta [noreply]`
pub(super) static DECR: Command = Command {
    spec: Spec { name: "decr", summary: "Takes from the number that a string spells.", arity: -3, ..STORES },
    run: Run::Keys(|cx, args| count(cx, args, false)),
    subcommands: &[],
};

/// `ma key flag...`
pub(super) static MA: Command = Command {
    spec: Spec {
        name: "ma",
        summary: "Counts up or down the number that a string spells.",
        arity: -2,
        ..STORES
    },
    run: Run::Keys(ma),
    subcommands: &[],
};

fn count(cx: &mut Ctx<'_>, args: &Args<'_>, up: bool) -> Result<(), Error> {
    let key = cx.key(args, 1);
    let delta = parse_u64(args.get(2)).unwrap_or(0);
    match change(cx, &key, delta, up, 0)? {
        None => answer(cx, args, b"NOT_FOUND\r\n"),
        Some(value) => {
            let mut line = Vec::with_capacity(22);
            larder_values::number::write_u64(&mut line, value);
            line.extend_from_slice(b"\r\n");
            answer(cx, args, &line)
        }
    }
}

/// Counts, and answers the new number; `None` where there is no key.
fn change(
    cx: &mut Ctx<'_>,
    key: &Hashed<'_>,
    delta: u64,
    up: bool,
    unique: u64,
) -> Result<Option<u64>, Error> {
    let Some(item) = cx.db.touch(key) else { return Ok(None) };
    let value = item.string().map_err(|_| NOT_NUMERIC)?;
    let (note, len) = (item.note(), value.len());
    let present = if len > VALUE_BYTES_MAX { None } else { leading_number(value.bytes(&mut Vec::new())) };
    let present = present.ok_or(NOT_NUMERIC)?;
    let next = if up { present.wrapping_add(delta) } else { present.saturating_sub(delta) };
    let mut text = Vec::with_capacity(len.max(20));
    larder_values::number::write_u64(&mut text, next);
    match note {
        None if unique == 0 => {
            cx.db.put_string(key, &text, Expire::Keep);
        }
        note => {
            let note = note.unwrap_or_default();
            let is_in_place = text.len() <= len;
            text.resize(text.len().max(len), b' ');
            let note = if is_in_place {
                Note { unique, ..note }
            } else {
                Note { flags: note.flags, unique, ..Note::default() }
            };
            cx.db.put_noted(key, &text, note, Expire::Keep);
        }
    }
    cx.db.changed(key, Event::INCRBY);
    cx.log_outcome(key);
    Ok(Some(next))
}

/// The number at the start of a text, as `strtoull` finds it: blanks before it, and a blank or nothing behind it.
fn leading_number(text: &[u8]) -> Option<u64> {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
    let start = text.iter().position(|byte| !is_blank(byte))?;
    let text = text.get(start..)?;
    let end = text.iter().position(is_blank).unwrap_or(text.len());
    parse_u64(text.get(..end)?)
}

fn ma(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let meta = Meta::read(2, args.from(2)).unwrap_or_default();
    let up = match meta.mode.0 {
        0 | b'I' | b'+' => true,
        b'D' | b'-' => false,
        _ => return Err(INVALID_MODE),
    };
    let key = cx.key(args, 1);
    let unique = meta.unique.unwrap_or(0);
    if let Some(compare) = meta.compare.filter(|compare| *compare != 0)
        && let Some(item) = cx.db.peek(&key)
        && item.size() != 0
        && item.note().unwrap_or_default().unique != compare
    {
        plain_line(&mut cx.reply, args, 2, b"EX", meta.is_encoded);
        return Ok(());
    }
    let counted = change(cx, &key, meta.delta, up, unique)?;
    let (value, is_new) = match (counted, meta.vivify) {
        (Some(value), _) => (value, false),
        (None, Some(ttl)) => {
            // The last of what gives it an end does.
            let ends =
                args.from(2).filter_map(|flag| flag.first()).filter(|flag| matches!(flag, b'N' | b'T'));
            let is_first = ends.last() == Some(&b'N');
            let end = End::of(cx, if is_first { ttl } else { meta.ttl.unwrap_or(ttl) });
            make(cx, &key, end, meta.initial, unique);
            (meta.initial, true)
        }
        (None, None) => {
            plain_line(&mut cx.reply, args, 2, b"NF", meta.is_encoded);
            return Ok(());
        }
    };
    let end = meta.ttl.filter(|_| !is_new).map(|ttl| End::of(cx, ttl));
    if is_new || !meta.is_quiet {
        answer_number(cx, args, &key, &meta, (value, is_new));
    } else if let Some(end) = end {
        end.set(cx, &key);
    }
    if end == Some(End::Now) {
        remove(cx, &key, Removal::Expired);
    }
    Ok(())
}

/// Makes a number that was missing.
fn make(cx: &mut Ctx<'_>, key: &Hashed<'_>, end: End, initial: u64, unique: u64) {
    if end == End::Now {
        return;
    }
    let mut text = Vec::with_capacity(20);
    larder_values::number::write_u64(&mut text, initial);
    let existed = cx.db.put_noted(key, &text, Note { unique, ..Note::default() }, end.expire());
    get::stored(cx, key, existed, end);
}

fn answer_number(
    cx: &mut Ctx<'_>,
    args: &Args<'_>,
    key: &Hashed<'_>,
    meta: &Meta,
    (value, is_new): (u64, bool),
) {
    let mut text = Vec::with_capacity(22);
    larder_values::number::write_u64(&mut text, value);
    if meta.value {
        cx.reply.raw(b"VA ");
        reply::number(&mut cx.reply, text.len() as u64);
    } else {
        cx.reply.raw(b"HD");
    }
    let mut end = if is_new { None } else { cx.db.deadline(key).flatten() };
    for flag in args.from(2) {
        match flag.first() {
            Some(b'T') => {
                let wanted = End::of(cx, meta.ttl.unwrap_or(0));
                if !is_new && wanted != End::Now {
                    wanted.set(cx, key);
                }
                end = wanted.moment(cx.db.now());
            }
            // As in memcached the end of a new number is told from where it is given.
            Some(b'N') if is_new => end = End::of(cx, meta.vivify.unwrap_or(0)).moment(cx.db.now()),
            Some(b't') => {
                let left = super::end::seconds_left(cx.db.now(), end);
                reply::flag(&mut cx.reply, b't', left);
            }
            Some(b'c') => {
                let unique = unique_of(cx, key);
                reply::flag_unsigned(&mut cx.reply, b'c', unique);
            }
            _ => drop(echo(&mut cx.reply, args, flag, meta.is_encoded)),
        }
    }
    cx.reply.raw(b"\r\n");
    if meta.value {
        text.extend_from_slice(b"\r\n");
        cx.reply.raw(&text);
    }
}
