//! INCREX: a counter within bounds, and its time to live, in one command.
//!
//! Invariant: an addition whose result is out of bounds changes nothing at all, or is cut to the bound where SATURATE says so; it is
//! never refused by an error. As redis-server 8.8 has it.
//! Read next: `counter.rs`, for numbers without bounds.

use super::options::{EXPIRATIONS, Expiry, PERSIST, Unit};
use crate::args::Args;
use crate::cx::{Ctx, Ends};
use crate::error::Error;
use crate::logged::Digits;
use crate::spec::{Acl, Arg, Command, Flags, Group, KeyFlags, KeySpec, Run, Spec};
use larder_store::{Event, Expire, Hashed, Millis, Removal, Str};
use larder_values::number::{self, LongDouble};
use std::cmp::Ordering;

const OVERFLOW: Error = Error::of("ERR applied increment would overflow");
const INFINITE: Error = Error::of("ERR applied increment would produce NaN or Infinity");
const INFINITE_BY: Error = Error::of("ERR BYFLOAT increment cannot be Infinity");
const INFINITE_VALUE: Error = Error::of("ERR value cannot be Infinity");
const NO_EXPIRATION: Error = Error::of("ERR ENX flag requires an expiration");
const CROSSED: Error = Error::of("ERR LBOUND can't be greater than UBOUND");

/// INCREX key [BYFLOAT increment | BYINT increment] [SATURATE] [LBOUND lowerbound] [UBOUND upperbound]
/// [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | PERSIST] [ENX]
pub static INCREX: Command = Command {
    spec: Spec {
        name: "increx",
        summary: "Adds to the number a key holds, within bounds, and sets its time to live; no key counts as 0.",
        since: "8.8.0",
        group: Group::String,
        complexity: "O(1)",
        arity: -2,
        flags: Flags::WRITE.or(Flags::DENY_OOM).or(Flags::FAST),
        acl: Acl::STRING,
        keys: &[KeySpec::at(1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::UPDATE))],
        args: &[
            Arg::key("key", 0),
            Arg::one_of(
                "increment",
                &[Arg::double("float").token("BYFLOAT"), Arg::integer("integer").token("BYINT")],
            )
            .optional(),
            Arg::word("saturate", "SATURATE").optional(),
            Arg::string("lowerbound").token("LBOUND").optional(),
            Arg::string("upperbound").token("UBOUND").optional(),
            Arg::one_of(
                "expiration",
                &[EXPIRATIONS[0], EXPIRATIONS[1], EXPIRATIONS[2], EXPIRATIONS[3], PERSIST],
            )
            .optional(),
            Arg::word("enx", "ENX").optional(),
        ],
        ..Spec::EMPTY
    },
    run: Run::Keys(increx),
    subcommands: &[],
};

/// What is asked for; numbers are words not read yet.
struct Options<'a> {
    /// BYINT or BYFLOAT, without it one is added; and whether it is BYFLOAT.
    by: Option<&'a [u8]>,
    is_float: bool,
    lower: Option<&'a [u8]>,
    upper: Option<&'a [u8]>,
    saturates: bool,
    expiry: Expiry<'a>,
    /// ENX: an end that is there stays.
    keeps_end: bool,
}

impl<'a> Options<'a> {
    fn parse(args: &Args<'a>) -> Result<Self, Error> {
        let mut options = Options {
            by: None,
            is_float: false,
            lower: None,
            upper: None,
            saturates: false,
            expiry: Expiry::Unsaid,
            keeps_end: false,
        };
        let mut at = 2;
        while let Some(word) = args.try_get(at) {
            at += options.take(word, args.try_get(at + 1)).ok_or(Error::Syntax)?;
        }
        if options.keeps_end && options.expiry == Expiry::Persist {
            return Err(Error::Syntax);
        }
        if options.keeps_end && options.expiry == Expiry::Unsaid {
            return Err(NO_EXPIRATION);
        }
        Ok(options)
    }

    /// Takes one option, which may come once; answers how many words it was made of.
    fn take(&mut self, word: &'a [u8], next: Option<&'a [u8]>) -> Option<usize> {
        let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
        let number = |slot: &mut Option<&'a [u8]>| slot.replace(next?).is_none().then_some(2);
        if let Some(unit) = Unit::of(word) {
            let before = std::mem::replace(&mut self.expiry, Expiry::At(unit, next?));
            return (before == Expiry::Unsaid).then_some(2);
        }
        if is(b"byint") || is(b"byfloat") {
            self.is_float = is(b"byfloat");
            number(&mut self.by)
        } else if is(b"lbound") {
            number(&mut self.lower)
        } else if is(b"ubound") {
            number(&mut self.upper)
        } else if is(b"saturate") {
            (!std::mem::replace(&mut self.saturates, true)).then_some(1)
        } else if is(b"persist") {
            (std::mem::replace(&mut self.expiry, Expiry::Persist) == Expiry::Unsaid).then_some(1)
        } else if is(b"enx") {
            (!std::mem::replace(&mut self.keeps_end, true)).then_some(1)
        } else {
            None
        }
    }
}

/// What a number of one of the two kinds can do.
trait Number: Copy {
    /// What is added where nothing is said.
    const ONE: Self;
    const LOWEST: Self;
    const HIGHEST: Self;
    /// What `text` of an option is no number of, behind the option's name.
    const IS_NOT: &'static str;
    /// What is announced.
    const EVENT: Event;
    /// Where what was added cannot be told.
    const UNTOLD: Error;

    fn parse(text: &[u8]) -> Option<Self>;
    /// The number that a string is.
    fn of(value: &Str<'_>) -> Result<Self, Error>;
    fn zero() -> Self;
    fn plus(self, other: Self) -> Option<Self>;
    fn minus(self, other: Self) -> Option<Self>;
    fn against(self, other: Self) -> Ordering;
    fn store(self, cx: &mut Ctx<'_>, key: &Hashed<'_>, expire: Expire);
    /// The number as text, as it is kept.
    fn write(self, out: &mut Vec<u8>);
    fn reply(self, cx: &mut Ctx<'_>);
}

impl Number for i64 {
    const ONE: i64 = 1;
    const LOWEST: i64 = i64::MIN;
    const HIGHEST: i64 = i64::MAX;
    const IS_NOT: &'static str = "is not an integer or out of range";
    const EVENT: Event = Event::INCRBY;
    const UNTOLD: Error = OVERFLOW;

    fn parse(text: &[u8]) -> Option<i64> {
        number::parse_i64(text)
    }

    fn of(value: &Str<'_>) -> Result<i64, Error> {
        value.to_i64().ok_or(Error::NotAnInteger)
    }

    fn zero() -> i64 {
        0
    }

    fn plus(self, other: i64) -> Option<i64> {
        self.checked_add(other)
    }

    fn minus(self, other: i64) -> Option<i64> {
        self.checked_sub(other)
    }

    fn against(self, other: i64) -> Ordering {
        self.cmp(&other)
    }

    fn store(self, cx: &mut Ctx<'_>, key: &Hashed<'_>, expire: Expire) {
        cx.db.put_integer(key, self, expire);
    }

    fn write(self, out: &mut Vec<u8>) {
        number::write_i64(out, self);
    }

    fn reply(self, cx: &mut Ctx<'_>) {
        cx.reply.integer(self);
    }
}

impl Number for LongDouble {
    const ONE: LongDouble = LongDouble::ONE;
    const LOWEST: LongDouble = LongDouble::MIN;
    const HIGHEST: LongDouble = LongDouble::MAX;
    const IS_NOT: &'static str = "is not a valid float";
    const EVENT: Event = Event::INCRBYFLOAT;
    const UNTOLD: Error = INFINITE;

    fn parse(text: &[u8]) -> Option<LongDouble> {
        LongDouble::parse(text)
    }

    fn of(value: &Str<'_>) -> Result<LongDouble, Error> {
        let number = match value {
            Str::Int(integer) => LongDouble::from_i64(*integer),
            value => LongDouble::parse(value.bytes(&mut Vec::new())).ok_or(Error::NotAFloat)?,
        };
        if number.is_infinite() { Err(INFINITE_VALUE) } else { Ok(number) }
    }

    fn zero() -> LongDouble {
        LongDouble::from_i64(0)
    }

    fn plus(self, other: LongDouble) -> Option<LongDouble> {
        self.checked_add(other)
    }

    fn minus(self, other: LongDouble) -> Option<LongDouble> {
        self.checked_add(other.negated())
    }

    fn against(self, other: LongDouble) -> Ordering {
        self.compare(other)
    }

    fn store(self, cx: &mut Ctx<'_>, key: &Hashed<'_>, expire: Expire) {
        let mut text = Vec::with_capacity(32);
        self.write(&mut text);
        cx.db.put_text(key, &text, expire);
    }

    fn write(self, out: &mut Vec<u8>) {
        self.write(out);
    }

    fn reply(self, cx: &mut Ctx<'_>) {
        let mut text = Vec::with_capacity(32);
        self.write(&mut text);
        cx.reply.double_text(&text);
    }
}

fn increx(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let options = Options::parse(args)?;
    if options.is_float { add::<LongDouble>(cx, args, &options) } else { add::<i64>(cx, args, &options) }
}

/// Reads an option's number.
fn read<N: Number>(name: &str, text: Option<&[u8]>, unsaid: N) -> Result<N, Error> {
    let Some(text) = text else { return Ok(unsaid) };
    N::parse(text).ok_or_else(|| Error::custom(format!("ERR {name} {}", N::IS_NOT)))
}

fn add<N: Number>(cx: &mut Ctx<'_>, args: &Args<'_>, options: &Options<'_>) -> Result<(), Error> {
    let by = read("Increment", options.by, N::ONE)?;
    if options.is_float && (by.against(N::LOWEST).is_lt() || by.against(N::HIGHEST).is_gt()) {
        return Err(INFINITE_BY);
    }
    let lower = read("LBOUND", options.lower, N::LOWEST)?;
    let upper = read("UBOUND", options.upper, N::HIGHEST)?;
    if lower.against(upper).is_gt() {
        return Err(CROSSED);
    }
    let ends = cx.ends();
    let end = options.expiry.deadline(ends, "increx")?;
    let key = cx.key(args, 1);
    let present = match cx.db.string_for_edit(&key)? {
        None => N::zero(),
        Some(value) => N::of(&value)?,
    };
    let sum = present.plus(by);
    let is_above = match sum {
        Some(sum) if sum.against(lower).is_lt() => Some(false),
        Some(sum) if sum.against(upper).is_gt() => Some(true),
        Some(_) => None,
        // It is beyond what there is in the direction of what was added.
        None => Some(by.against(N::zero()).is_gt()),
    };
    let result = match (sum, is_above) {
        (Some(sum), None) => sum,
        (_, Some(is_above)) if options.saturates => {
            if is_above {
                upper
            } else {
                lower
            }
        }
        _ => {
            // As a command that found everything as it wants it.
            cx.db.touch(&key);
            cx.reply.array(2);
            present.reply(cx);
            N::zero().reply(cx);
            return Ok(());
        }
    };
    let added = if is_above.is_some() { result.minus(present).ok_or(N::UNTOLD)? } else { by };
    cx.reply.array(2);
    result.reply(cx);
    added.reply(cx);
    store(cx, &key, result, end, options, ends);
    Ok(())
}

/// Keeps the sum, with its end.
fn store<N: Number>(
    cx: &mut Ctx<'_>,
    key: &Hashed<'_>,
    sum: N,
    end: Option<Millis>,
    options: &Options<'_>,
    ends: Ends,
) {
    let had_end = cx.db.deadline(key).flatten().is_some();
    let end = end.filter(|_| !(options.keeps_end && had_end));
    match end {
        Some(at) if at <= ends.now => {
            if cx.db.remove_for(key, Removal::Expired) {
                cx.db.changed(key, Event::DEL);
                cx.log_removal(key.bytes, cx.db.local.lazy_free.expired);
            }
        }
        Some(at) => {
            sum.store(cx, key, Expire::At(at));
            cx.db.changed(key, N::EVENT);
            cx.db.notify(key, Event::EXPIRE);
            let at = Digits::of(at.0);
            log(cx, key, sum, &[b"PXAT", at.text()]);
        }
        None if options.expiry == Expiry::Persist => {
            sum.store(cx, key, Expire::Clear);
            cx.db.changed(key, N::EVENT);
            if had_end {
                cx.db.notify(key, Event::PERSIST);
            }
            log(cx, key, sum, &[]);
        }
        None => {
            sum.store(cx, key, Expire::Keep);
            cx.db.changed(key, N::EVENT);
            log(cx, key, sum, &[b"KEEPTTL"]);
        }
    }
}

/// Logs the command as the SET that it came to.
fn log<N: Number>(cx: &mut Ctx<'_>, key: &Hashed<'_>, sum: N, options: &[&[u8]]) {
    if !cx.is_logged() {
        return;
    }
    let mut text = Vec::with_capacity(32);
    sum.write(&mut text);
    let words = [&[&b"SET"[..], key.bytes, &text], options].concat();
    cx.log().instead(words.into_iter());
}

#[cfg(test)]
mod tests {
    use crate::testing::{World, run};

    #[test]
    fn what_is_announced() {
        let mut world = World::new();
        for (line, told) in [
            ("INCREX k BYINT 5", &["incrby", "new"][..]),
            ("INCREX k BYFLOAT 0.5", &["incrbyfloat"]),
            ("INCREX k BYFLOAT 0.5 EX 100", &["expire", "incrbyfloat"]),
            ("INCREX k PERSIST", &["incrby", "persist"]),
            ("INCREX k PERSIST", &["incrby"]),
            ("INCREX k EX 100 ENX", &["expire", "incrby"]),
            ("INCREX k EX 200 ENX", &["incrby"]),
            ("INCREX k UBOUND 5", &[]),
            ("INCREX k UBOUND 5 SATURATE", &["incrby"]),
            ("INCREX k EXAT 1", &["del"]),
            ("INCREX k EXAT 1", &[]),
        ] {
            run(&mut world, line);
            let mut names: Vec<String> =
                world.effects().iter().map(|told| told.split(' ').nth(1).unwrap().to_owned()).collect();
            names.sort_unstable();
            assert_eq!(names, told, "{line}");
        }
    }
}
