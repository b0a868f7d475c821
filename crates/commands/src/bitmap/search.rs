//! Counting bits and finding the first: BITCOUNT and BITPOS.

use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::spec::{Acl, Arg, Command, Flags, Group, KeyFlags, KeySpec, Run, Spec};
use larder_values::bits::{self, Range, Unit};
use larder_values::number;

const NOT_A_BIT: Error = Error::of("ERR The bit argument must be 1 or 0.");
const KEYS: &[KeySpec] = &[KeySpec::at(1, KeyFlags::RO.or(KeyFlags::ACCESS))];
const UNIT: Arg =
    Arg::one_of("unit", &[Arg::word("byte", "BYTE"), Arg::word("bit", "BIT")]).optional().since("7.0.0");
const UNIT_HISTORY: &[(&str, &str)] = &[("7.0.0", "Options `BYTE` and `BIT`.")];

/// BITCOUNT key [start [end [BYTE | BIT]]]
pub static BITCOUNT: Command = Command {
    spec: Spec {
        name: "bitcount",
        summary: "Counts the bits of a string, or of a part of it, that are 1.",
        since: "2.6.0",
        group: Group::Bitmap,
        complexity: "O(N) where N is the length of the part.",
        arity: -2,
        flags: Flags::READONLY,
        acl: Acl::BITMAP,
        keys: KEYS,
        args: &[
            Arg::key("key", 0),
            Arg::block(
                "range",
                &[
                    Arg::integer("start"),
                    Arg::block("end-unit-block", &[Arg::integer("end"), UNIT]).optional(),
                ],
            )
            .optional(),
        ],
        history: UNIT_HISTORY,
        ..Spec::EMPTY
    },
    run: Run::Keys(bitcount),
    subcommands: &[],
};

fn bitcount(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let range = match args.len() {
        2 => Range::ALL,
        // As in Valkey; Redis wants an end.
        3 => Range { start: number(args.get(2))?, ..Range::ALL },
        4 | 5 => {
            let (start, end) = (number(args.get(2))?, number(args.get(3))?);
            Range { start, end: Some(end), unit: unit(args.try_get(4))? }
        }
        _ => return Err(Error::Syntax),
    };
    let key = cx.key(args, 1);
    let count = cx.read_bytes(&key, |bytes| bytes.map_or(0, |bytes| bits::count_range(bytes, range)))?;
    cx.reply.integer(count as i64);
    Ok(())
}

fn number(text: &[u8]) -> Result<i64, Error> {
    number::parse_i64(text).ok_or(Error::NotAnInteger)
}

/// What start and end count; bytes where nothing is said.
fn unit(word: Option<&[u8]>) -> Result<Unit, Error> {
    match word {
        None => Ok(Unit::Byte),
        Some(word) if word.eq_ignore_ascii_case(b"byte") => Ok(Unit::Byte),
        Some(word) if word.eq_ignore_ascii_case(b"bit") => Ok(Unit::Bit),
        Some(_) => Err(Error::Syntax),
    }
}

/// BITPOS key bit [start [end [BYTE | BIT]]]
pub static BITPOS: Command = Command {
    spec: Spec {
        name: "bitpos",
        summary: "Finds the first bit of a string, or of a part of it, that is 1 or 0.",
        since: "2.8.7",
        group: Group::Bitmap,
        complexity: "O(N) where N is the length of the part.",
        arity: -3,
        flags: Flags::READONLY,
        acl: Acl::BITMAP,
        keys: KEYS,
        args: &[
            Arg::key("key", 0),
            Arg::integer("bit"),
            Arg::block(
                "range",
                &[
                    Arg::integer("start"),
                    Arg::block("end-unit-block", &[Arg::integer("end"), UNIT]).optional(),
                ],
            )
            .optional(),
        ],
        history: UNIT_HISTORY,
        ..Spec::EMPTY
    },
    run: Run::Keys(bitpos),
    subcommands: &[],
};

fn bitpos(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let bit = match number::parse_i64(args.get(2)).ok_or(Error::NotAnInteger)? {
        0 => false,
        1 => true,
        _ => return Err(NOT_A_BIT),
    };
    let range = match args.len() {
        3 => Range::ALL,
        4..=6 => {
            // As in Redis, whose BITCOUNT reads the end before the unit, and BITPOS the other way round.
            let (start, unit) = (number(args.get(3))?, unit(args.try_get(5))?);
            Range { start, end: args.try_get(4).map(number).transpose()?, unit }
        }
        _ => return Err(Error::Syntax),
    };
    let key = cx.key(args, 1);
    let position = cx.read_bytes(&key, |bytes| match bytes {
        Some(bytes) => bits::position(bytes, bit, range),
        // No key is a string of zeros without end.
        None => (!bit).then_some(0),
    })?;
    cx.reply.integer(position.map_or(-1, |position| position as i64));
    Ok(())
}
