//! Giving fields an end and taking it away: HEXPIRE and its family, HPERSIST.
//!
//! A time that is not in the future removes the fields at once: listeners hear `hdel`.

use super::UPDATE_ONE;
use super::announce::{changed, log_removed, removed_by_end};
use super::fields::{FIELDS, Fields, Unit};
use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::logged::Digits;
use crate::spec::{Acl, Arg, Command, Flags, Group, Run, Spec};
use larder_store::{Event, Hashed};
use larder_values::hash::{Found, Hash, NEVER_DUE};

const CONDITIONS: Arg = Arg::one_of(
    "condition",
    &[Arg::word("nx", "NX"), Arg::word("xx", "XX"), Arg::word("gt", "GT"), Arg::word("lt", "LT")],
)
.optional();

const SPEC: Spec = Spec {
    since: "7.4.0",
    group: Group::Hash,
    complexity: "O(N), N fields named.",
    arity: -6,
    flags: Flags::WRITE.or(Flags::FAST),
    acl: Acl::HASH,
    keys: UPDATE_ONE,
    ..Spec::EMPTY
};

/// HEXPIRE key seconds [NX | XX | GT | LT] FIELDS numfields field [field ...]
pub static HEXPIRE: Command = Command {
    spec: Spec {
        name: "hexpire",
        summary: "Lets fields end after a number of seconds.",
        args: &[Arg::key("key", 0), Arg::integer("seconds"), CONDITIONS, FIELDS],
        ..SPEC
    },
    run: Run::Keys(|cx, args| set_ends(cx, args, "hexpire", Unit::Seconds)),
    subcommands: &[],
};

/// HPEXPIRE key milliseconds [NX | XX | GT | LT] FIELDS numfields field [field ...]
pub static HPEXPIRE: Command = Command {
    spec: Spec {
        name: "hpexpire",
        summary: "Lets fields end after a number of milliseconds.",
        args: &[Arg::key("key", 0), Arg::integer("milliseconds"), CONDITIONS, FIELDS],
        ..SPEC
    },
    run: Run::Keys(|cx, args| set_ends(cx, args, "hpexpire", Unit::Millis)),
    subcommands: &[],
};

/// HEXPIREAT key unix-time-seconds [NX | XX | GT | LT] FIELDS numfields field [field ...]
pub static HEXPIREAT: Command = Command {
    spec: Spec {
        name: "hexpireat",
        summary: "Lets fields end at a Unix time in seconds.",
        args: &[Arg::key("key", 0), Arg::unix_time("unix-time-seconds"), CONDITIONS, FIELDS],
        ..SPEC
    },
    run: Run::Keys(|cx, args| set_ends(cx, args, "hexpireat", Unit::UnixSeconds)),
    subcommands: &[],
};

/// HPEXPIREAT key unix-time-milliseconds [NX | XX | GT | LT] FIELDS numfields field [field ...]
pub static HPEXPIREAT: Command = Command {
    spec: Spec {
        name: "hpexpireat",
        summary: "Lets fields end at a Unix time in milliseconds.",
        args: &[Arg::key("key", 0), Arg::unix_time("unix-time-milliseconds"), CONDITIONS, FIELDS],
        ..SPEC
    },
    run: Run::Keys(|cx, args| set_ends(cx, args, "hpexpireat", Unit::UnixMillis)),
    subcommands: &[],
};

/// HPERSIST key FIELDS numfields field [field ...]
pub static HPERSIST: Command = Command {
    spec: Spec {
        name: "hpersist",
        summary: "Takes the ends of fields away, so that they stay.",
        arity: -5,
        args: &[Arg::key("key", 0), FIELDS],
        ..SPEC
    },
    run: Run::Keys(hpersist),
    subcommands: &[],
};

/// Under which circumstances a field gets its new end. One without an end counts as ending never.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    Always,
    NoEndYet,
    HasEnd,
    Later,
    Earlier,
}

impl Condition {
    fn of(word: &[u8]) -> Option<Condition> {
        let conditions: [(&[u8], Condition); 4] = [
            (b"nx", Condition::NoEndYet),
            (b"xx", Condition::HasEnd),
            (b"gt", Condition::Later),
            (b"lt", Condition::Earlier),
        ];
        let found = conditions.into_iter().find(|(name, _)| word.eq_ignore_ascii_case(name));
        found.map(|(_, condition)| condition)
    }

    fn admits(self, present: Option<u64>, end: u64) -> bool {
        match self {
            Condition::Always => true,
            Condition::NoEndYet => present.is_none(),
            Condition::HasEnd => present.is_some(),
            Condition::Later => present.is_some_and(|present| end > present),
            Condition::Earlier => present.is_none_or(|present| end < present),
        }
    }
}

/// What became of one field, as it is answered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Absent = -2,
    Refused = 0,
    Set = 1,
    Removed = 2,
}

fn set_ends(cx: &mut Ctx<'_>, args: &Args<'_>, name: &str, unit: Unit) -> Result<(), Error> {
    let key = cx.key(args, 1);
    cx.db.peek_as::<Hash>(&key)?;
    let end = unit.moment(args.get(2), cx.db.now(), name)?;
    let now = cx.db.now_of_fields();
    let condition = Condition::of(args.get(3));
    let fields = Fields::parse_of_expire(args, if condition.is_some() { 4 } else { 3 })?;
    let condition = condition.unwrap_or(Condition::Always);
    cx.reply.array(fields.count);
    let is_over = end <= now;
    let mut sums = Sums::default();
    let (reply, mut scratch) = (&mut cx.reply, std::mem::take(&mut cx.db.local.scratch));
    let edited = cx.db.edit::<Hash, _>(&key, |hash| {
        hash.make_timed();
        for field in args.from(fields.first) {
            // One whose time has come, but that is still there, may be given another.
            let outcome = match hash.look().find(field, NEVER_DUE) {
                Found::Absent | Found::Due => Outcome::Absent,
                Found::Live(_, present) if !condition.admits(present, end) => Outcome::Refused,
                Found::Live(..) if is_over => {
                    hash.remove(field, NEVER_DUE);
                    Outcome::Removed
                }
                Found::Live(..) => {
                    hash.set_end(field, Some(end), &mut scratch);
                    Outcome::Set
                }
            };
            sums.note(outcome, field);
            reply.integer(outcome as i64);
        }
    })?;
    scratch.clear();
    cx.db.local.scratch = scratch;
    if cx.is_logged() {
        sums.log(cx, &key, args, end, fields.first);
    }
    match edited {
        None => args.from(fields.first).for_each(|_| cx.reply.integer(Outcome::Absent as i64)),
        Some(edited) => sums.announce(cx, &key, edited.emptied),
    }
    Ok(())
}

/// How often each came out.
#[derive(Default)]
struct Sums<'f> {
    set: Vec<&'f [u8]>,
    removed: Vec<&'f [u8]>,
}

impl<'f> Sums<'f> {
    fn note(&mut self, outcome: Outcome, field: &'f [u8]) {
        match outcome {
            Outcome::Set => self.set.push(field),
            Outcome::Removed => self.removed.push(field),
            Outcome::Absent | Outcome::Refused => {}
        }
    }

    /// Says what the command is logged as: with the moment of the end, for the fields that got it.
    #[cold]
    fn log(&self, cx: &mut Ctx<'_>, key: &Hashed<'_>, args: &Args<'_>, end: u64, first: usize) {
        if self.set.is_empty() {
            log_removed(cx, key, &self.removed);
            return;
        }
        let (end, count) = (Digits::of(end), Digits::of(self.set.len() as u64));
        let name = if args.is(0, b"hpexpireat") { args.get(0) } else { b"HPEXPIREAT" };
        let mut words: Vec<&[u8]> = vec![name, key.bytes, end.text()];
        words.extend(args.from(3).take(first - 4));
        words.push(count.text());
        words.extend(&self.set);
        cx.log().instead(words.into_iter());
    }

    fn announce(&self, cx: &mut Ctx<'_>, key: &Hashed<'_>, emptied: bool) {
        if !self.removed.is_empty() {
            removed_by_end(cx, key, self.removed.len() as u64);
        }
        if !self.set.is_empty() {
            changed(cx, key, Event::HEXPIRE, self.set.len() as u64);
        }
        if emptied {
            cx.db.notify(key, Event::DEL);
        }
    }
}

fn hpersist(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let key = cx.key(args, 1);
    cx.db.peek_as::<Hash>(&key)?;
    let fields = Fields::parse(args, 2)?;
    let now = cx.db.now_of_fields();
    cx.reply.array(fields.count);
    let mut persisted = false;
    let (reply, mut scratch) = (&mut cx.reply, std::mem::take(&mut cx.db.local.scratch));
    let edited = cx.db.edit::<Hash, _>(&key, |hash| {
        for field in args.from(fields.first) {
            reply.integer(match hash.look().find(field, now) {
                Found::Absent | Found::Due => -2,
                Found::Live(_, None) => -1,
                Found::Live(_, Some(_)) => {
                    persisted |= hash.set_end(field, None, &mut scratch);
                    1
                }
            });
        }
    })?;
    scratch.clear();
    cx.db.local.scratch = scratch;
    let Some(edited) = edited else {
        args.from(fields.first).for_each(|_| cx.reply.integer(-2));
        return Ok(());
    };
    if persisted {
        cx.db.changed(&key, Event::HPERSIST);
    }
    if edited.emptied {
        cx.db.notify(&key, Event::DEL);
    }
    Ok(())
}
