//! Packed elements that came from elsewhere, and their wrapping as a listpack of Redis: total bytes
//! (32 bits), count (16 bits), the elements, a byte of ones.
//!
//! Invariant: what is accepted can be read from both ends, and has the count it announces.

use super::element::checked_end;
use super::{COUNT_UNKNOWN, HEADER_BYTES, LISTPACK_OVERHEAD_BYTES, Packed, PackedBuf};

const LISTPACK_HEADER_BYTES: usize = 6;
const TERMINATOR: u8 = 0xff;

/// The bytes are no packed elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bad;

/// Looks at every byte of packed elements; how many there are.
pub fn check(packed: &[u8]) -> Result<usize, Bad> {
    if packed.is_empty() {
        return Ok(0);
    }
    let (announced, elements) = packed.split_first_chunk::<HEADER_BYTES>().ok_or(Bad)?;
    let count = count_checked(elements)?;
    match usize::from(u16::from_le_bytes(*announced)) {
        announced if announced == count.min(COUNT_UNKNOWN) => Ok(count),
        _ => Err(Bad),
    }
}

/// The elements of a listpack, every byte of which is looked at.
pub fn from_listpack(listpack: &[u8]) -> Result<PackedBuf, Bad> {
    let (count, elements) = count_in_listpack(listpack)?;
    let mut packed = Vec::with_capacity(HEADER_BYTES + elements.len());
    packed.extend_from_slice(&count);
    packed.extend_from_slice(elements);
    Ok(PackedBuf::from_vec(packed))
}

/// The same of a listpack that nobody else needs: its memory becomes that of the elements.
pub fn from_listpack_vec(mut listpack: Vec<u8>) -> Result<PackedBuf, Bad> {
    let (count, elements) = count_in_listpack(&listpack)?;
    let len = HEADER_BYTES + elements.len();
    // The count is moved with the elements that follow it, and is the true one then.
    listpack.drain(..LISTPACK_HEADER_BYTES - HEADER_BYTES);
    listpack.truncate(len);
    listpack.iter_mut().zip(count).for_each(|(byte, count)| *byte = count);
    Ok(PackedBuf::from_vec(listpack))
}

/// How many elements there are, as packed elements begin, and the elements.
fn count_in_listpack(listpack: &[u8]) -> Result<([u8; HEADER_BYTES], &[u8]), Bad> {
    let (total, rest) = listpack.split_first_chunk::<4>().ok_or(Bad)?;
    let (announced, rest) = rest.split_first_chunk::<HEADER_BYTES>().ok_or(Bad)?;
    let (&last, elements) = rest.split_last().ok_or(Bad)?;
    if u32::from_le_bytes(*total) as usize != listpack.len() || last != TERMINATOR {
        return Err(Bad);
    }
    let count = count_checked(elements)?;
    // A listpack that once held more may say that it does not know.
    let announced = usize::from(u16::from_le_bytes(*announced));
    if announced != COUNT_UNKNOWN && announced != count {
        return Err(Bad);
    }
    Ok(((count.min(COUNT_UNKNOWN) as u16).to_le_bytes(), elements))
}

/// Appends the elements as a listpack.
pub fn to_listpack(packed: Packed<'_>, out: &mut Vec<u8>) {
    let elements = packed.element_bytes();
    out.reserve(elements.len() + LISTPACK_OVERHEAD_BYTES);
    out.extend_from_slice(&((elements.len() + LISTPACK_OVERHEAD_BYTES) as u32).to_le_bytes());
    let count = packed.bytes().first_chunk::<HEADER_BYTES>().copied().unwrap_or_default();
    out.extend_from_slice(&count);
    out.extend_from_slice(elements);
    out.push(TERMINATOR);
}

fn count_checked(elements: &[u8]) -> Result<usize, Bad> {
    let (mut at, mut count) = (0, 0);
    while at < elements.len() {
        at = checked_end(elements, at).ok_or(Bad)?;
        count += 1;
    }
    Ok(count)
}

const _: () = assert!(LISTPACK_HEADER_BYTES + 1 == LISTPACK_OVERHEAD_BYTES);
