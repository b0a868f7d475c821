//! The sparse encoding: runs of equal registers in opcodes of one or two bytes.
//!
//! `00xxxxxx` is 1 to 64 zeros, `01xxxxxx yyyyyyyy` 1 to 16,384 zeros, `1vvvvvxx` 1 to 4 registers
//! of value 1 to 32. A run may be split further than need be: how is part of the format here,
//! since equal operations must give equal bytes.

use super::estimate::Histogram;
use super::{Error, HEADER_BYTES, REGISTERS};

const VALUE_MAX: u8 = 32;
const VALUE_RUN_MAX: usize = 4;
const SHORT_ZEROS_MAX: usize = 64;

/// How many opcodes, from the one before a change, are looked at for neighbours to join.
const JOIN_WINDOW: usize = 5;

/// A run of equal registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opcode {
    Zeros { run: usize, long: bool },
    Value { value: u8, run: usize },
}

impl Opcode {
    /// Reads the opcode at the start of `bytes`, which is not empty. A two-byte opcode cut off
    /// reads as if a zero byte followed.
    fn read(bytes: &[u8]) -> Opcode {
        let first = bytes[0];
        if first & 0x80 != 0 {
            return Opcode::Value { value: (first >> 2 & 31) + 1, run: usize::from(first & 3) + 1 };
        }
        if first & 0x40 == 0 {
            return Opcode::Zeros { run: usize::from(first & 63) + 1, long: false };
        }
        let low = bytes.get(1).copied().unwrap_or(0);
        Opcode::Zeros { run: (usize::from(first & 63) << 8 | usize::from(low)) + 1, long: true }
    }

    fn bytes(self) -> usize {
        if matches!(self, Opcode::Zeros { long: true, .. }) { 2 } else { 1 }
    }

    fn run(self) -> usize {
        match self {
            Opcode::Zeros { run, .. } | Opcode::Value { run, .. } => run,
        }
    }

    fn value(self) -> u8 {
        match self {
            Opcode::Zeros { .. } => 0,
            Opcode::Value { value, .. } => value,
        }
    }

    fn of_value(value: u8, run: usize) -> u8 {
        0x80 | (value - 1) << 2 | (run - 1) as u8
    }
}

/// Appends a run of 1 to 16,384 zeros.
pub(super) fn push_zeros(out: &mut Vec<u8>, run: usize) {
    let stored = run - 1;
    if run > SHORT_ZEROS_MAX {
        out.extend_from_slice(&[0x40 | (stored >> 8) as u8, stored as u8]);
    } else {
        out.push(stored as u8);
    }
}

/// The opcodes of a body, in order.
fn opcodes(mut body: &[u8]) -> impl Iterator<Item = Opcode> + '_ {
    std::iter::from_fn(move || {
        if body.is_empty() {
            return None;
        }
        let opcode = Opcode::read(body);
        body = body.get(opcode.bytes()..).unwrap_or(&[]);
        Some(opcode)
    })
}

/// Calls `visit` for each run with its first register; the runs must cover all registers exactly.
fn for_each_run(body: &[u8], mut visit: impl FnMut(usize, Opcode)) -> Result<(), Error> {
    let mut next = 0;
    for opcode in opcodes(body) {
        if next + opcode.run() > REGISTERS {
            return Err(Error::Corrupted);
        }
        visit(next, opcode);
        next += opcode.run();
    }
    if next == REGISTERS { Ok(()) } else { Err(Error::Corrupted) }
}

/// Counts registers by value.
pub(super) fn histogram(body: &[u8]) -> Result<Histogram, Error> {
    let mut histogram = [0; 64];
    for_each_run(body, |_, opcode| histogram[usize::from(opcode.value())] += opcode.run() as u32)?;
    Ok(histogram)
}

/// Raises each of `registers` to at least the one described.
pub(super) fn merge_into(body: &[u8], registers: &mut [u8; REGISTERS]) -> Result<(), Error> {
    for_each_run(body, |first, opcode| {
        if opcode.value() != 0 {
            for register in &mut registers[first..first + opcode.run()] {
                *register = (*register).max(opcode.value());
            }
        }
    })
}

/// The opcodes as text.
pub(super) fn decode(body: &[u8]) -> Vec<u8> {
    let words: Vec<String> = opcodes(body)
        .map(|opcode| match opcode {
            Opcode::Zeros { run, long } => format!("{}:{run}", if long { 'Z' } else { 'z' }),
            Opcode::Value { value, run } => format!("v:{value},{run}"),
        })
        .collect();
    words.join(" ").into_bytes()
}

/// What `raise` did.
pub(super) enum Raised {
    /// Whether the register was lower.
    Done(bool),
    /// Nothing yet: the result does not fit this encoding.
    NeedsDense,
}

/// Raises one register of a sparse string to at least `value`.
pub(super) fn raise(
    hll: &mut Vec<u8>,
    register: usize,
    value: u8,
    bytes_max: usize,
) -> Result<Raised, Error> {
    if value > VALUE_MAX {
        return Ok(Raised::NeedsDense);
    }
    let place = Place::find(hll, register).ok_or(Error::Corrupted)?;
    match place.opcode {
        Opcode::Value { value: old, .. } if old >= value => return Ok(Raised::Done(false)),
        Opcode::Value { run: 1, .. } | Opcode::Zeros { run: 1, long: false } => {
            hll[place.at] = Opcode::of_value(value, 1);
        }
        opcode => {
            let mut split = Vec::with_capacity(5);
            let (before, after) = (register - place.first, place.first + opcode.run() - 1 - register);
            push_run(&mut split, opcode.value(), before);
            split.push(Opcode::of_value(value, 1));
            push_run(&mut split, opcode.value(), after);
            let replaced = place.at..(place.at + opcode.bytes()).min(hll.len());
            let grown = split.len().saturating_sub(opcode.bytes());
            if grown > 0 && hll.len() + grown > bytes_max {
                return Ok(Raised::NeedsDense);
            }
            // As in Redis, an opcode that the string's end cut off counts with both its bytes: what takes its
            // place loses its last.
            let len = hll.len() + split.len() - opcode.bytes();
            hll.splice(replaced, split);
            hll.truncate(len);
        }
    }
    join_neighbours(hll, place.previous);
    Ok(Raised::Done(true))
}

fn push_run(out: &mut Vec<u8>, value: u8, run: usize) {
    match (value, run) {
        (_, 0) => {}
        (0, _) => push_zeros(out, run),
        _ => out.push(Opcode::of_value(value, run)),
    }
}

/// The opcode that holds a register.
struct Place {
    at: usize,
    /// Where the opcode before it is; its own place if there is none.
    previous: usize,
    opcode: Opcode,
    /// The first register of its run.
    first: usize,
}

impl Place {
    fn find(hll: &[u8], register: usize) -> Option<Place> {
        let (mut at, mut previous, mut first) = (HEADER_BYTES, HEADER_BYTES, 0);
        while at < hll.len() {
            let opcode = Opcode::read(&hll[at..]);
            if register < first + opcode.run() {
                return Some(Place { at, previous, opcode, first });
            }
            first += opcode.run();
            previous = at;
            at += opcode.bytes();
        }
        None
    }
}

/// Joins equal values that now stand side by side, near `from`.
fn join_neighbours(hll: &mut Vec<u8>, from: usize) {
    let mut at = from;
    for _ in 0..JOIN_WINDOW {
        let Some(rest) = hll.get(at..).filter(|rest| !rest.is_empty()) else { return };
        let opcode = Opcode::read(rest);
        if let Opcode::Value { value, run } = opcode
            && let Some(&next) = rest.get(1)
            && let Opcode::Value { value: other, run: other_run } = Opcode::read(&[next])
            && value == other
            && run + other_run <= VALUE_RUN_MAX
        {
            hll[at + 1] = Opcode::of_value(value, run + other_run);
            hll.remove(at);
            continue;
        }
        at += opcode.bytes();
    }
}
