//! HSETEX: sets fields together with their ends, under conditions.

use super::announce::{log_removed, remove_due};
use super::fields::{EXPIRATIONS, Unit};
use super::set::{FLAGS, set_pairs};
use super::{PAIR, UPDATE_ONE};
use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::logged::Digits;
use crate::spec::{Acl, Arg, Command, Group, Run, Spec};
use larder_store::{Event, Hashed};
use larder_values::hash::{Before, End, Found, Hash, NEVER_DUE};
use larder_values::number;

/// HSETEX key [NX | XX] [FNX | FXX] [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds |
/// KEEPTTL] FIELDS numfields field value [field value ...]
pub static HSETEX: Command = Command {
    spec: Spec {
        name: "hsetex",
        summary: "Sets fields to values together with their ends.",
        since: "8.0.0",
        group: Group::Hash,
        complexity: "O(N), N fields to set.",
        arity: -6,
        flags: FLAGS,
        acl: Acl::HASH,
        keys: UPDATE_ONE,
        args: &[
            Arg::key("key", 0),
            Arg::one_of("key-condition", &[Arg::word("nx", "NX"), Arg::word("xx", "XX")]).optional(),
            Arg::one_of("condition", &[Arg::word("fnx", "FNX"), Arg::word("fxx", "FXX")]).optional(),
            Arg::one_of(
                "expiration",
                &[
                    EXPIRATIONS[0],
                    EXPIRATIONS[1],
                    EXPIRATIONS[2],
                    EXPIRATIONS[3],
                    Arg::word("keepttl", "KEEPTTL"),
                ],
            )
            .optional(),
            Arg::block("fields", &[Arg::integer("numfields"), Arg::block("data", PAIR).multiple()])
                .token("FIELDS"),
        ],
        ..Spec::EMPTY
    },
    run: Run::Keys(hsetex),
    subcommands: &[],
};

const TWO_CONDITIONS: Error = Error::of("ERR Only one of FXX or FNX arguments can be specified");
const TWO_TIMES: Error =
    Error::of("ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified");

/// Whether the fields must exist, or must not.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    AllAbsent,
    AllPresent,
}

#[derive(Default)]
struct Options {
    /// Whether the key must exist, or must not.
    key_exists: Option<bool>,
    condition: Option<Condition>,
    end: Option<End>,
    /// The word of the time, where there is one.
    end_at: usize,
    /// The word of the first field.
    first: usize,
}

impl Options {
    fn parse(cx: &Ctx<'_>, args: &Args<'_>) -> Result<Options, Error> {
        let (mut options, mut index) = (Options::default(), 2);
        while index < args.len() {
            let word = args.get(index);
            let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
            if is(b"fields") {
                options.first = pairs_after(args, index)?;
                return Ok(options);
            }
            index += 1;
            if is(b"fnx") || is(b"fxx") {
                let condition = if is(b"fnx") { Condition::AllAbsent } else { Condition::AllPresent };
                if options.condition.replace(condition).is_some() {
                    return Err(TWO_CONDITIONS);
                }
            } else if is(b"nx") || is(b"xx") {
                let key_exists = is(b"xx");
                if options.key_exists.is_some_and(|other| other != key_exists) {
                    return Err(Error::Syntax);
                }
                options.key_exists = Some(key_exists);
            } else if is(b"keepttl") {
                if options.end.replace(End::Keep).is_some() {
                    return Err(TWO_TIMES);
                }
            } else if let Some(unit) = Unit::of(word) {
                if options.end.is_some() {
                    return Err(TWO_TIMES);
                }
                let text = args.try_get(index).ok_or_else(|| Error::arity("hsetex"))?;
                options.end = Some(End::At(unit.moment(text, cx.db.now(), "hsetex")?));
                options.end_at = index;
                index += 1;
            } else {
                // Redis quotes the word up to a zero byte and drops line ends behind it.
                let word = word.split(|byte| *byte == 0).next().unwrap_or_default();
                let end = word.iter().rposition(|byte| !b"\r\n".contains(byte)).map_or(0, |last| last + 1);
                return Err(Error::custom([b"ERR unknown argument: ", &word[..end]].concat()));
            }
        }
        Err(Error::arity("hsetex"))
    }
}

/// Where the pairs behind the word FIELDS at `index` begin; they must be as many as the number says.
fn pairs_after(args: &Args<'_>, index: usize) -> Result<usize, Error> {
    let first = index + 2;
    if first + 1 >= args.len() {
        return Err(Error::arity("hsetex"));
    }
    let number = number::parse_i64(args.get(index + 1)).filter(|number| *number > 0);
    let number = number.and_then(|number| i32::try_from(number).ok());
    let number = number.ok_or(Error::of("ERR invalid number of fields"))?;
    if (args.len() - first) as u64 != u64::from(number.unsigned_abs()) * 2 {
        return Err(Error::arity("hsetex"));
    }
    Ok(first)
}

fn hsetex(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let options = Options::parse(cx, args)?;
    let key = cx.key(args, 1);
    let now = cx.db.now_of_fields();
    if !is_met(cx, &key, args, &options)? {
        cx.reply.integer(0);
        return Ok(());
    }
    let end = options.end.unwrap_or(End::Clear);
    let is_over = matches!(end, End::At(end) if end <= now);
    // Who looks at fields first finds those that are over, and who does not writes over them.
    let judged_by = if options.condition.is_some() { now } else { NEVER_DUE };
    set_pairs(cx, &key, args, (options.first, judged_by), if is_over { End::Clear } else { end })?;
    if is_over {
        remove_again(cx, &key, args, options.first)?;
    } else if let End::At(end) = end {
        cx.db.notify(&key, Event::HEXPIRE);
        if cx.is_logged() && !args.is(options.end_at - 1, b"pxat") {
            let end = Digits::of(end);
            cx.log_with(args, &[(options.end_at - 1, b"PXAT"), (options.end_at, end.text())]);
        }
    }
    cx.reply.integer(1);
    Ok(())
}

/// Whether the condition on the key holds, and that on fields for every one of them.
fn is_met(cx: &mut Ctx<'_>, key: &Hashed<'_>, args: &Args<'_>, options: &Options) -> Result<bool, Error> {
    let now = cx.db.now_of_fields();
    let hash = cx.db.peek_as::<Hash>(key)?;
    if options.key_exists.is_some_and(|exists| exists != hash.is_some()) {
        return Ok(false);
    }
    let Some(condition) = options.condition else { return Ok(true) };
    let (mut met_due, mut met, mut looked_at) = (false, true, 0);
    for field in args.from(options.first).step_by(2) {
        looked_at += 1;
        let found = hash.map_or(Found::Absent, |hash| hash.find(field, now));
        met_due |= found == Found::Due;
        met = matches!(found, Found::Live(..)) == (condition == Condition::AllPresent);
        if !met {
            break;
        }
    }
    // With the condition met, writing them removes what is over.
    if met_due && !met {
        remove_due(&mut cx.db, key, args.from(options.first).step_by(2).take(looked_at));
    }
    Ok(met)
}

/// A time that is not in the future: the fields are set and go at once.
fn remove_again(cx: &mut Ctx<'_>, key: &Hashed<'_>, args: &Args<'_>, first: usize) -> Result<(), Error> {
    let now = cx.db.now_of_fields();
    let edited = cx.db.edit::<Hash, _>(key, |hash| {
        hash.make_timed();
        let fields = args.from(first).step_by(2);
        fields.filter(|field| hash.remove(field, now) != Before::Absent).count() as u64
    })?;
    let Some(edited) = edited else { return Ok(()) };
    cx.db.local.stats.expired_fields.add(edited.value);
    if cx.is_logged() {
        let fields: Vec<&[u8]> = args.from(first).step_by(2).collect();
        log_removed(cx, key, &fields);
    }
    cx.db.notify(key, Event::HDEL);
    if edited.emptied {
        cx.db.notify(key, Event::DEL);
    }
    Ok(())
}
