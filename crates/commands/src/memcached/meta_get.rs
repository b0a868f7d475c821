//! mg, and me, which shows an item from outside.
//!
//! Who finds a stale value, or one that is about to end, or nothing, is told whether the new one is his to make (`W`), or
//! somebody's who was told before (`Z`). A value is stale (`X`) by `md` with `I`, or by an invalidation that leaves old values
//! (`CACHE INVALIDATE ... SOFT`): the promise is a lease then, which clients of GETLEASE see too.

use super::end::{End, remove, seconds_left};
use super::get::stored;
use super::reply::{self, echo, plain_line};
use super::{READS, STORES, WRITES};
use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::spec::{Command, KeyFlags, KeySpec, Run, Spec};
use larder_resp::memcached::{self, Meta};
use larder_store::{Access, Hashed, Item, Leased, Millis, Note, Removal, Type};
use larder_values::lru;

/// `mg key flag...`
pub(super) static MG: Command = Command {
    spec: Spec { name: "mg", summary: "Answers a value and what is known of it.", arity: -2, ..READS },
    run: Run::Keys(mg),
    subcommands: &[],
};

/// `mg` with `T`
pub(super) static MG_TOUCH: Command = Command {
    spec: Spec {
        name: "mg-touch",
        summary: "Answers a value and has its key end at another time.",
        arity: -2,
        keys: &[KeySpec::at(1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::UPDATE))],
        ..WRITES
    },
    run: Run::Keys(mg),
    subcommands: &[],
};

/// `mg` with `N`
pub(super) static MG_VIVIFY: Command = Command {
    spec: Spec {
        name: "mg-vivify",
        summary: "Answers a value; of all who find none, one is told to make it.",
        arity: -2,
        keys: &[KeySpec::at(1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::UPDATE))],
        ..STORES
    },
    run: Run::Keys(mg),
    subcommands: &[],
};

/// `me key [b]`
pub(super) static ME: Command = Command {
    spec: Spec {
        name: "me",
        summary: "Shows what is known of an item.",
        arity: -2,
        keys: &[KeySpec::at(1, KeyFlags::RO)],
        ..READS
    },
    run: Run::Keys(me),
    subcommands: &[],
};

/// An item as it was found.
struct Seen {
    note: Option<Note>,
    len: usize,
    end: Option<Millis>,
}

impl Seen {
    fn of(item: &Item<'_>) -> Option<Seen> {
        let len = item.string().ok()?.len();
        Some(Seen { note: item.note(), len, end: item.deadline() })
    }
}

/// How a key came to be looked at.
#[derive(Debug, Clone, Copy)]
struct Asked {
    /// For how many seconds nobody had.
    idle: u64,
    /// It was missing.
    is_new: bool,
}

/// What a client is told of a value that is to be made anew.
#[derive(Debug, Clone, Copy, Default)]
struct Recache {
    is_stale: bool,
    is_won: bool,
    is_promised: bool,
}

fn mg(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let meta = Meta::read(2, args.from(2)).unwrap_or_default();
    let key = cx.key(args, 1);
    // Before the access is recorded.
    let idle = if args.from(2).any(|flag| flag == b"l") { idle_seconds(cx, &key) } else { 0 };
    let found = if meta.no_touch { cx.db.look(&key) } else { cx.db.read(&key) };
    let is_there = found.is_some();
    match found.as_ref().and_then(Seen::of) {
        Some(seen) => hit(cx, args, &key, &meta, &seen, idle),
        None => miss(cx, args, &key, &meta, is_there),
    }
    Ok(())
}

fn miss(cx: &mut Ctx<'_>, args: &Args<'_>, key: &Hashed<'_>, meta: &Meta, is_there: bool) {
    // What holds no string is left alone.
    let Some(ttl) = meta.vivify.filter(|_| !is_there) else {
        if !meta.is_quiet {
            plain_line(&mut cx.reply, args, 2, b"EN", meta.is_encoded);
        }
        return;
    };
    let (_, last) = walk(cx, args, meta, None, Some(ttl));
    let (unique, is_fetched) = (meta.unique.unwrap_or(0), !meta.no_touch);
    let note = Note { unique, is_fetched, is_promised: true, ..Note::default() };
    let existed = cx.db.put_noted(key, b"", note, last.expire());
    stored(cx, key, existed, last);
    let won = Recache { is_won: true, ..Recache::default() };
    let seen = Seen { note: Some(Note { is_fetched: false, ..note }), len: 0, end: None };
    answer(cx, args, key, (meta, &seen, won), Asked { idle: 0, is_new: true });
    if last == End::Now {
        remove(cx, key, Removal::Expired);
    }
}

/// Goes through what flags say of a key's end, in their order: whether it is close where that is asked, and what comes of all.
/// A key that was missing is given its first end where that stands.
fn walk(
    cx: &mut Ctx<'_>,
    args: &Args<'_>,
    meta: &Meta,
    end: Option<Millis>,
    first: Option<i64>,
) -> (bool, End) {
    let (mut is_late, mut last) = (false, end.map_or(End::Never, End::At));
    for flag in args.from(2) {
        match (flag.first(), first) {
            (Some(b'T'), _) => last = End::of(cx, meta.ttl.unwrap_or(0)),
            (Some(b'N'), Some(ttl)) => last = End::of(cx, ttl),
            (Some(b'R'), _) => {
                let seconds = meta.recache.unwrap_or(0);
                is_late = match last {
                    End::Never => false,
                    End::At(at) => seconds_left(cx.db.now(), Some(at)) < seconds,
                    End::Now => seconds > 0,
                };
            }
            _ => {}
        }
    }
    (is_late, last)
}

fn hit(cx: &mut Ctx<'_>, args: &Args<'_>, key: &Hashed<'_>, meta: &Meta, seen: &Seen, idle: u64) {
    let note = seen.note.unwrap_or_default();
    let (is_late, last) = walk(cx, args, meta, seen.end, None);
    let recache = recache_of(cx, key, note, is_late);
    let asks = args.from(2).any(|flag| matches!(flag.first(), Some(b'h')));
    let next = Note {
        is_fetched: note.is_fetched || !meta.no_touch && (seen.note.is_some() || asks),
        is_promised: note.is_promised || recache.is_won && !is_leased(cx, key, note),
        ..note
    };
    if next != note {
        cx.db.set_note(key, next);
    }
    answer(cx, args, key, (meta, seen, recache), Asked { idle, is_new: false });
    if meta.ttl.is_some() && last == End::Now {
        remove(cx, key, Removal::Expired);
    }
}

/// Whether who makes a value anew is told by a lease.
fn is_leased(cx: &Ctx<'_>, key: &Hashed<'_>, note: Note) -> bool {
    !note.is_stale && cx.db.is_old(key)
}

fn recache_of(cx: &mut Ctx<'_>, key: &Hashed<'_>, note: Note, is_late: bool) -> Recache {
    let mut recache = Recache { is_stale: note.is_stale, is_promised: note.is_promised, is_won: false };
    if is_leased(cx, key, note) && !note.is_promised {
        recache.is_stale = true;
        // Whatever the worker knows of invalidations: a promise must not be older than what it is for.
        let token = cx.db.local.token();
        let until = Millis(cx.db.now().0.saturating_add(cx.limits.lease_ms));
        match cx.db.lease(key, token, until) {
            Leased::Given => recache.is_won = true,
            Leased::Taken | Leased::Full => recache.is_promised = true,
        }
        return recache;
    }
    recache.is_won = !note.is_promised && (note.is_stale || is_late);
    recache
}

/// Writes the answer to a hit: flags in the order in which they were asked for. A time to live is set where its flag stands.
fn answer(
    cx: &mut Ctx<'_>,
    args: &Args<'_>,
    key: &Hashed<'_>,
    (meta, seen, recache): (&Meta, &Seen, Recache),
    asked: Asked,
) {
    let note = seen.note.unwrap_or_default();
    if meta.value {
        cx.reply.raw(b"VA ");
        reply::number(&mut cx.reply, seen.len as u64);
    } else {
        cx.reply.raw(b"HD");
    }
    let mut end = seen.end;
    for flag in args.from(2) {
        match flag.first() {
            Some(b'T') => {
                let wanted = End::of(cx, meta.ttl.unwrap_or(0));
                if !asked.is_new && wanted != End::Now {
                    wanted.set(cx, key);
                }
                end = wanted.moment(cx.db.now());
            }
            Some(b'N') if asked.is_new => end = End::of(cx, meta.vivify.unwrap_or(0)).moment(cx.db.now()),
            Some(b't') => {
                let left = seconds_left(cx.db.now(), end);
                reply::flag(&mut cx.reply, b't', left);
            }
            Some(b's') => reply::flag_unsigned(&mut cx.reply, b's', seen.len as u64),
            Some(b'f') => reply::flag_unsigned(&mut cx.reply, b'f', u64::from(note.flags)),
            Some(b'h') => reply::flag(&mut cx.reply, b'h', i64::from(note.is_fetched)),
            Some(b'l') => reply::flag_unsigned(&mut cx.reply, b'l', asked.idle),
            Some(b'c') => {
                let unique = super::get::unique_of(cx, key);
                reply::flag_unsigned(&mut cx.reply, b'c', unique);
            }
            _ => drop(echo(&mut cx.reply, args, flag, meta.is_encoded)),
        }
    }
    let marks = match recache {
        Recache { is_promised: true, is_stale: true, .. } => &b" Z X"[..],
        Recache { is_promised: true, .. } => b" Z",
        Recache { is_stale: true, is_won: true, .. } => b" X W",
        Recache { is_stale: true, .. } => b" X",
        Recache { is_won: true, .. } => b" W",
        Recache { .. } => b"",
    };
    cx.reply.raw(marks);
    cx.reply.raw(b"\r\n");
    if meta.value
        && let Some(item) = cx.db.peek(key)
        && let Ok(value) = item.string()
    {
        reply::value(&mut cx.reply, &value);
    }
}

/// How many seconds ago a key was used, as far as the policy in force tells.
fn idle_seconds(cx: &mut Ctx<'_>, key: &Hashed<'_>) -> u64 {
    let Some(access) = cx.db.peek(key).map(|item| item.access()) else { return 0 };
    if cx.limits.counts_frequency {
        return 0;
    }
    let idle = match cx.db.access_to(key) {
        Access::Policy => cx.db.idle_ms(key, access).unwrap_or(0),
        _ => lru::idle_ms(lru::clock_at(cx.db.now().0), access),
    };
    idle / 1000
}

fn me(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let key = cx.key(args, 1);
    let idle = idle_seconds(cx, &key);
    let found = cx.db.peek(&key).filter(|item| item.value_type() == Type::String);
    let Some((end, note, size)) = found.map(|item| (item.deadline(), item.note(), item.memory())) else {
        cx.reply.raw(b"EN\r\n");
        return Ok(());
    };
    let unique = super::get::unique_of(cx, &key);
    let is_fetched = note.unwrap_or_default().is_fetched;
    cx.reply.raw(b"ME ");
    if args.get(2) == b"b" {
        memcached::encode(key.bytes, cx.reply.output().bytes_mut());
    } else {
        cx.reply.raw(key.bytes);
    }
    // memcached counts the other way: what is left is negative.
    let left = end.map_or(-1, |end| -seconds_left(cx.db.now(), Some(end)));
    cx.reply.raw(b" exp=");
    larder_values::number::write_i64(cx.reply.output().bytes_mut(), left);
    cx.reply.raw(b" la=");
    reply::number(&mut cx.reply, idle);
    cx.reply.raw(b" cas=");
    reply::number(&mut cx.reply, unique);
    cx.reply.raw(if is_fetched { &b" fetch=yes cls=0 size="[..] } else { b" fetch=no cls=0 size=" });
    reply::number(&mut cx.reply, size as u64);
    cx.reply.raw(b"\r\n");
    Ok(())
}
