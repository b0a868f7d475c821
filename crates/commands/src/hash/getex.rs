//! HGETEX: answers the values of fields, and sets or takes away their ends.

use super::announce::{changed, expired, log_removed, remove_due, removed_by_end};
use super::bulk_or_null;
use super::fields::{EXPIRATIONS, FIELDS, Fields, Unit};
use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::logged::Digits;
use crate::spec::{Acl, Arg, Command, Flags, Group, KeySpec, Run, Spec};
use larder_store::{Event, Hashed};
use larder_values::hash::{Found, Hash};

/// HGETEX key [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | PERSIST]
/// FIELDS numfields field [field ...]
pub static HGETEX: Command = Command {
    spec: Spec {
        name: "hgetex",
        summary: "Answers the values of fields, and sets or takes away their ends.",
        since: "8.0.0",
        group: Group::Hash,
        complexity: "O(N), N fields named.",
        arity: -5,
        flags: Flags::WRITE.or(Flags::FAST),
        acl: Acl::HASH,
        keys: &[KeySpec {
            notes: Some("RW and UPDATE because it changes the TTL"),
            ..super::ACCESS_AND_UPDATE_ONE[0]
        }],
        args: &[
            Arg::key("key", 0),
            Arg::one_of(
                "expiration",
                &[
                    EXPIRATIONS[0],
                    EXPIRATIONS[1],
                    EXPIRATIONS[2],
                    EXPIRATIONS[3],
                    Arg::word("persist", "PERSIST"),
                ],
            )
            .optional(),
            FIELDS,
        ],
        ..Spec::EMPTY
    },
    run: Run::Keys(hgetex),
    subcommands: &[],
};

/// What becomes of the ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Nothing,
    Persist,
    At(u64),
    /// The time is over: the fields go.
    Remove,
}

fn hgetex(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let key = cx.key(args, 1);
    cx.db.peek_as::<Hash>(&key)?;
    let (change, fields) = parse(cx, args)?;
    let now = cx.db.now_of_fields();
    cx.reply.array(fields.count);
    // As in Redis it counts as a write: neither a hit nor a miss.
    cx.db.touch(&key);
    let Some(hash) = cx.db.peek_as::<Hash>(&key)? else {
        args.from(fields.first).for_each(|_| cx.reply.null());
        return Ok(());
    };
    if change == Change::Nothing {
        let mut met_due = false;
        for field in args.from(fields.first) {
            let found = hash.find(field, now);
            met_due |= found == Found::Due;
            bulk_or_null(&mut cx.reply, found.value());
        }
        if met_due {
            remove_due(&mut cx.db, &key, args.from(fields.first));
        }
        return Ok(());
    }
    let (mut changed_fields, mut due) = (Vec::new(), Vec::new());
    let (reply, mut scratch) = (&mut cx.reply, std::mem::take(&mut cx.db.local.scratch));
    let edited = cx.db.edit::<Hash, _>(&key, |hash| {
        hash.make_timed();
        for field in args.from(fields.first) {
            let found = hash.look().find(field, now);
            bulk_or_null(reply, found.value());
            match (found, change) {
                (Found::Due, _) => {
                    hash.remove(field, now);
                    due.push(field);
                }
                (Found::Live(..), Change::Remove) => {
                    hash.remove(field, now);
                    changed_fields.push(field);
                }
                (Found::Live(_, Some(_)), Change::Persist) => {
                    changed_fields.extend(hash.set_end(field, None, &mut scratch).then_some(field));
                }
                (Found::Live(..), Change::At(end)) => {
                    changed_fields.extend(hash.set_end(field, Some(end), &mut scratch).then_some(field));
                }
                (Found::Absent, _) | (Found::Live(..), _) => {}
            }
        }
    })?;
    scratch.clear();
    cx.db.local.scratch = scratch;
    expired(cx, &key, &due);
    let count = changed_fields.len() as u64;
    if count > 0 {
        match change {
            Change::Remove => removed_by_end(cx, &key, count),
            Change::Persist => changed(cx, &key, Event::HPERSIST, count),
            Change::At(_) | Change::Nothing => changed(cx, &key, Event::HEXPIRE, count),
        }
        if cx.is_logged() {
            log(cx, &key, args, change, &fields, &changed_fields);
        }
    }
    if edited.is_some_and(|edited| edited.emptied) {
        cx.db.notify(&key, Event::DEL);
    }
    Ok(())
}

/// What is to become of the ends, and where the fields are.
fn parse(cx: &Ctx<'_>, args: &Args<'_>) -> Result<(Change, Fields), Error> {
    let now = cx.db.now();
    let word = args.get(2);
    let (change, next) = match Unit::of(word) {
        Some(unit) => {
            let end = unit.moment(args.get(3), now, "hgetex")?;
            if args.len() < 6 {
                return Err(Error::arity("hgetex"));
            }
            (if end <= cx.db.now_of_fields() { Change::Remove } else { Change::At(end) }, 4)
        }
        None if word.eq_ignore_ascii_case(b"persist") => (Change::Persist, 3),
        None => (Change::Nothing, 2),
    };
    Ok((change, Fields::parse(args, next)?))
}

/// Says what the command is logged as: what it does to the ends.
#[cold]
fn log(
    cx: &mut Ctx<'_>,
    key: &Hashed<'_>,
    args: &Args<'_>,
    change: Change,
    fields: &Fields,
    changed: &[&[u8]],
) {
    let end = match change {
        Change::At(end) => Digits::of(end),
        Change::Remove | Change::Nothing => return log_removed(cx, key, changed),
        Change::Persist => Digits::of(0),
    };
    let mut words: Vec<&[u8]> = match change {
        Change::At(_) => vec![b"HPEXPIREAT", key.bytes, end.text()],
        _ => vec![b"HPERSIST", key.bytes],
    };
    words.extend(args.from(fields.first - 2));
    cx.log().instead(words.into_iter());
}
