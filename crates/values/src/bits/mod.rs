//! Strings as arrays of bits: bit 0 is the highest bit of the first byte.
//!
//! Invariant: bits past a string's end read as 0, and only writers grow a string.
//! Read next: `search` for counting and finding, `operation` for BITOP, `field` for BITFIELD.

mod field;
mod operation;
mod search;

pub use field::{Field, FieldKind, Overflow};
pub use operation::{Operation, combine};
pub use search::{Range, Unit, count, count_range, position};

/// The bit at `offset`; 0 past the end.
pub fn get(bytes: &[u8], offset: u64) -> bool {
    let byte = usize::try_from(offset / 8).ok().and_then(|at| bytes.get(at)).copied().unwrap_or(0);
    byte & mask(offset) != 0
}

/// Sets the bit at `offset`, growing the string with zeros to hold it; the bit's old value.
/// The caller bounds `offset` by the longest string allowed.
pub fn set(bytes: &mut Vec<u8>, offset: u64, bit: bool) -> bool {
    let at = (offset / 8) as usize;
    if at >= bytes.len() {
        bytes.resize(at + 1, 0);
    }
    let old = bytes[at] & mask(offset) != 0;
    if bit {
        bytes[at] |= mask(offset);
    } else {
        bytes[at] &= !mask(offset);
    }
    old
}

fn mask(offset: u64) -> u8 {
    0x80 >> (offset % 8)
}
