//! Strings as arrays of bits.
//!
//! The work on bytes is `larder_values::bits`; here are the grammar, the limits and what is announced.
//! Read next: `bit.rs` (one bit), `search.rs` (counting and finding), `operation.rs` (BITOP),
//! `field.rs` (BITFIELD).

mod bit;
mod field;
mod operation;
mod search;

use crate::cx::Limits;
use crate::error::Error;
use crate::spec::Command;
use larder_values::number;

/// The bitmap commands, by name.
pub static COMMANDS: &[&Command] = &[
    &search::BITCOUNT,
    &field::BITFIELD,
    &field::BITFIELD_RO,
    &operation::BITOP,
    &search::BITPOS,
    &bit::GETBIT,
    &bit::SETBIT,
];

const INVALID_OFFSET: Error = Error::of("ERR bit offset is not an integer or out of range");

/// A bit's position, which no string that may exist can be too short for.
fn offset(text: &[u8], limits: &Limits) -> Result<u64, Error> {
    offset_in_units(text, 1, limits)
}

/// A position given in units of `bits` bits.
fn offset_in_units(text: &[u8], bits: u32, limits: &Limits) -> Result<u64, Error> {
    let units = number::parse_i64(text).ok_or(INVALID_OFFSET)?;
    let offset = u64::try_from(units).ok().and_then(|units| units.checked_mul(u64::from(bits)));
    offset.filter(|offset| offset / 8 < limits.string_bytes_max as u64).ok_or(INVALID_OFFSET)
}
