//! Packed elements that came from elsewhere, and their wrapping as a listpack of Redis: total bytes
//! (32 bits), count (16 bits), the elements, a byte of ones.
//!
//! Invariant: what is accepted can be read from both ends, and has the count it announces.

use super::element::{Element, checked, checked_end};
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
    copied(count_in_listpack(listpack, count_checked)?)
}

/// The same; `visit` is shown each element with its index while it is looked at.
#[inline]
pub fn from_listpack_shown(
    listpack: &[u8],
    mut visit: impl FnMut(usize, Element<'_>),
) -> Result<PackedBuf, Bad> {
    copied(count_in_listpack(listpack, |elements| show_checked(elements, &mut visit))?)
}

/// A count and elements, as packed elements have them.
fn copied((count, elements): ([u8; HEADER_BYTES], &[u8])) -> Result<PackedBuf, Bad> {
    let mut packed = Vec::with_capacity(HEADER_BYTES + elements.len());
    packed.extend_from_slice(&count);
    packed.extend_from_slice(elements);
    Ok(PackedBuf::from_vec(packed))
}

/// The same of a listpack that nobody else needs: its memory becomes that of the elements.
pub fn from_listpack_vec(listpack: Vec<u8>) -> Result<PackedBuf, Bad> {
    let (count, elements) = count_in_listpack(&listpack, count_checked)?;
    let bytes = elements.len();
    Ok(taken_over(listpack, count, bytes))
}

/// The same, shown as in [`from_listpack_shown`].
#[inline]
pub fn from_listpack_vec_shown(
    listpack: Vec<u8>,
    mut visit: impl FnMut(usize, Element<'_>),
) -> Result<PackedBuf, Bad> {
    let (count, elements) = count_in_listpack(&listpack, |elements| show_checked(elements, &mut visit))?;
    let bytes = elements.len();
    Ok(taken_over(listpack, count, bytes))
}

/// The elements of a listpack, so many bytes of it, with their count in front.
fn taken_over(mut listpack: Vec<u8>, count: [u8; HEADER_BYTES], bytes: usize) -> PackedBuf {
    let len = HEADER_BYTES + bytes;
    // The count is moved with the elements that follow it, and is the true one then.
    listpack.drain(..LISTPACK_HEADER_BYTES - HEADER_BYTES);
    listpack.truncate(len);
    listpack.iter_mut().zip(count).for_each(|(byte, count)| *byte = count);
    PackedBuf::from_vec(listpack)
}

/// How many elements there are, as packed elements begin, and the elements.
#[inline]
fn count_in_listpack(
    listpack: &[u8],
    counted: impl FnOnce(&[u8]) -> Result<usize, Bad>,
) -> Result<([u8; HEADER_BYTES], &[u8]), Bad> {
    let (total, rest) = listpack.split_first_chunk::<4>().ok_or(Bad)?;
    let (announced, rest) = rest.split_first_chunk::<HEADER_BYTES>().ok_or(Bad)?;
    let (&last, elements) = rest.split_last().ok_or(Bad)?;
    if u32::from_le_bytes(*total) as usize != listpack.len() || last != TERMINATOR {
        return Err(Bad);
    }
    let count = counted(elements)?;
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

/// As [`count_checked`]; `visit` is shown what is there, also where what follows is not right.
#[inline]
fn show_checked(elements: &[u8], visit: &mut impl FnMut(usize, Element<'_>)) -> Result<usize, Bad> {
    let (mut at, mut count) = (0, 0);
    while at < elements.len() {
        let (element, end) = checked(elements, at).ok_or(Bad)?;
        visit(count, element);
        at = end;
        count += 1;
    }
    Ok(count)
}

const _: () = assert!(LISTPACK_HEADER_BYTES + 1 == LISTPACK_OVERHEAD_BYTES);
