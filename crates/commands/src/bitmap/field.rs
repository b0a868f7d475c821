//! BITFIELD and BITFIELD_RO: integers of any width at any place of a string.
//!
//! All steps are read first; then they run in order on the string, each seeing what those before it
//! wrote.

use super::{INVALID_OFFSET, offset, offset_in_units};
use crate::args::Args;
use crate::cx::{Ctx, Limits};
use crate::error::Error;
use crate::spec::{Acl, Arg, Command, Flags, Group, KeyFlags, KeySpec, Run, Spec};
use larder_store::Event;
use larder_values::bits::{Field, FieldKind, Overflow};
use larder_values::number;
use smallvec::SmallVec;

const INVALID_KIND: Error = Error::of(
    "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.",
);
const INVALID_OVERFLOW: Error = Error::of("ERR Invalid OVERFLOW type specified");
const ONLY_GET: Error = Error::of("ERR BITFIELD_RO only supports the GET subcommand");
const COMPLEXITY: &str = "O(1) for each step.";
const GET_BLOCK: Arg =
    Arg::block("get-block", &[Arg::string("encoding"), Arg::integer("offset")]).token("GET");

/// BITFIELD key [GET encoding offset | [OVERFLOW WRAP | SAT | FAIL]
/// SET encoding offset value | INCRBY encoding offset increment ...]
pub static BITFIELD: Command = Command {
    spec: Spec {
        name: "bitfield",
        summary: "Reads, sets and adds to integers of any width at any bit of a string.",
        since: "3.2.0",
        group: Group::Bitmap,
        complexity: COMPLEXITY,
        arity: -2,
        flags: Flags::WRITE.or(Flags::DENY_OOM),
        acl: Acl::BITMAP,
        keys: &[KeySpec {
            notes: Some("This command allows both access and modification of the key"),
            ..KeySpec::at(
                1,
                KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::UPDATE).or(KeyFlags::VARIABLE_FLAGS),
            )
        }],
        args: &[
            Arg::key("key", 0),
            Arg::one_of("operation", &[GET_BLOCK, Arg::block("write", &[OVERFLOW_BLOCK, WRITE_OPERATION])])
                .optional()
                .multiple(),
        ],
        ..Spec::EMPTY
    },
    run: Run::Keys(bitfield),
    subcommands: &[],
};

const OVERFLOW_BLOCK: Arg = Arg::one_of(
    "overflow-block",
    &[Arg::word("wrap", "WRAP"), Arg::word("sat", "SAT"), Arg::word("fail", "FAIL")],
)
.token("OVERFLOW")
.optional();

const WRITE_OPERATION: Arg = Arg::one_of(
    "write-operation",
    &[
        Arg::block("set-block", &[Arg::string("encoding"), Arg::integer("offset"), Arg::integer("value")])
            .token("SET"),
        Arg::block(
            "incrby-block",
            &[Arg::string("encoding"), Arg::integer("offset"), Arg::integer("increment")],
        )
        .token("INCRBY"),
    ],
);

/// BITFIELD_RO key [GET encoding offset [GET encoding offset ...]]
pub static BITFIELD_RO: Command = Command {
    spec: Spec {
        name: "bitfield_ro",
        summary: "Reads integers of any width at any bit of a string.",
        since: "6.0.0",
        group: Group::Bitmap,
        complexity: COMPLEXITY,
        arity: -2,
        flags: Flags::READONLY.or(Flags::FAST),
        acl: Acl::BITMAP,
        keys: &[KeySpec::at(1, KeyFlags::RO.or(KeyFlags::ACCESS))],
        args: &[Arg::key("key", 0), GET_BLOCK.optional().multiple_with_token()],
        ..Spec::EMPTY
    },
    run: Run::Keys(bitfield_ro),
    subcommands: &[],
};

#[derive(Debug, Clone, Copy)]
enum Action {
    Get,
    Set(i64),
    IncrementBy(i64),
}

#[derive(Debug, Clone, Copy)]
struct Step {
    field: Field,
    action: Action,
    overflow: Overflow,
}

type Steps = SmallVec<[Step; 8]>;
type Answers = SmallVec<[Option<i64>; 8]>;

fn bitfield(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let steps = parse(args, cx.limits)?;
    if steps.iter().all(|step| matches!(step.action, Action::Get)) {
        return read(cx, args, &steps);
    }
    write(cx, args, &steps)
}

fn bitfield_ro(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let steps = parse(args, cx.limits)?;
    if steps.iter().any(|step| !matches!(step.action, Action::Get)) {
        return Err(ONLY_GET);
    }
    read(cx, args, &steps)
}

fn parse(args: &Args<'_>, limits: &Limits) -> Result<Steps, Error> {
    let (mut steps, mut overflow, mut index) = (Steps::new(), Overflow::Wrap, 2);
    while index < args.len() {
        let more = args.len() - index - 1;
        if args.is(index, b"overflow") && more >= 1 {
            overflow = parse_overflow(args.get(index + 1))?;
            index += 2;
            continue;
        }
        let get = args.is(index, b"get") && more >= 2;
        let set = args.is(index, b"set") && more >= 3;
        let increment = args.is(index, b"incrby") && more >= 3;
        if !(get || set || increment) {
            return Err(Error::Syntax);
        }
        let field = parse_field(args.get(index + 1), args.get(index + 2), limits)?;
        let action = if get {
            Action::Get
        } else {
            let value = number::parse_i64(args.get(index + 3)).ok_or(Error::NotAnInteger)?;
            let signed = args.get(index + 1).starts_with(b"i");
            if !set {
                Action::IncrementBy(value)
            } else if signed && overflow == Overflow::Saturate && wraps_round(value, field.kind.bits()) {
                Action::Set(i64::MAX)
            } else {
                Action::Set(value)
            }
        };
        steps.push(Step { field, action, overflow });
        index += if get { 3 } else { 4 };
    }
    Ok(steps)
}

/// Whether Redis takes a value far below a signed field for one above it: it asks how far the value
/// is from the field's highest, and that distance leaves 64 bits.
fn wraps_round(value: i64, bits: u32) -> bool {
    bits < 64 && ((1_i64 << (bits - 1)) - 1).checked_sub(value).is_none()
}

fn parse_overflow(word: &[u8]) -> Result<Overflow, Error> {
    let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
    if is(b"wrap") {
        Ok(Overflow::Wrap)
    } else if is(b"sat") {
        Ok(Overflow::Saturate)
    } else if is(b"fail") {
        Ok(Overflow::Fail)
    } else {
        Err(INVALID_OVERFLOW)
    }
}

fn parse_field(kind: &[u8], place: &[u8], limits: &Limits) -> Result<Field, Error> {
    let kind = FieldKind::parse(kind).ok_or(INVALID_KIND)?;
    let offset = match place.split_first() {
        Some((b'#', units)) => offset_in_units(units, kind.bits(), limits)?,
        Some(_) => offset(place, limits)?,
        None => return Err(INVALID_OFFSET),
    };
    Ok(Field { kind, offset })
}

fn read(cx: &mut Ctx<'_>, args: &Args<'_>, steps: &Steps) -> Result<(), Error> {
    let key = cx.key(args, 1);
    let answers: Answers = cx.read_bytes(&key, |bytes| {
        let bytes = bytes.unwrap_or_default();
        steps.iter().map(|step| Some(step.field.get(bytes))).collect()
    })?;
    answer(cx, &answers);
    Ok(())
}

fn write(cx: &mut Ctx<'_>, args: &Args<'_>, steps: &Steps) -> Result<(), Error> {
    let key = cx.key(args, 1);
    let written = steps.iter().filter(|step| !matches!(step.action, Action::Get));
    let needed = written.map(|step| step.field.bytes_needed()).max().unwrap_or(0);
    let (answers, changes) = cx.db.edit_string(&key, |bytes| {
        // The string grows for all steps before the first runs, even if none then fits its field.
        let grown = bytes.len() < needed;
        if grown {
            bytes.resize(needed, 0);
        }
        let (mut answers, mut changes) = (Answers::new(), 0);
        for step in steps {
            let (answer, changed) = carry_out(step, bytes);
            changes +=
                u64::from(answer.is_some() && (changed || grown && !matches!(step.action, Action::Get)));
            answers.push(answer);
        }
        // Stored even when the same: as in Redis, the value is raw from then on.
        ((answers, changes), true)
    })?;
    if changes > 0 {
        cx.db.changed(&key, Event::SETBIT);
        // Redis counts every field written as a change of its own.
        cx.db.local.effects.changed_many(changes - 1);
    }
    // A string that grew and took no value is no change to who watches it, as in Redis.
    answer(cx, &answers);
    Ok(())
}

/// The step's answer, and whether the field has another value than before.
fn carry_out(step: &Step, bytes: &mut Vec<u8>) -> (Option<i64>, bool) {
    let before = step.field.get(bytes);
    let answer = match step.action {
        Action::Get => Some(before),
        Action::Set(value) => step.field.set(bytes, value, step.overflow),
        Action::IncrementBy(increment) => step.field.increment_by(bytes, increment, step.overflow),
    };
    (answer, step.field.get(bytes) != before)
}

fn answer(cx: &mut Ctx<'_>, answers: &Answers) {
    cx.reply.array(answers.len());
    for answer in answers {
        match answer {
            Some(value) => cx.reply.integer(*value),
            None => cx.reply.null(),
        }
    }
}
