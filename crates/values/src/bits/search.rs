//! Counting bits and finding the first 0 or 1: BITCOUNT and BITPOS.

use crate::vector::counting;

/// What the ends of a range count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Whole bytes.
    Byte,
    /// Single bits.
    Bit,
}

/// A range of a string, both ends included; negative ends count from the string's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First byte or bit.
    pub start: i64,
    /// Last byte or bit; `None` is the string's end, and differs from -1 for `position`.
    pub end: Option<i64>,
    /// What `start` and `end` count.
    pub unit: Unit,
}

impl Range {
    /// The whole string, its end not given.
    pub const ALL: Range = Range { start: 0, end: None, unit: Unit::Byte };

    /// First and one-past-last bit, or `None` if the range is empty.
    fn resolve(self, len: usize) -> Option<(u64, u64)> {
        let (total, scale) = match self.unit {
            Unit::Byte => (len as i64, 8),
            Unit::Bit => (len as i64 * 8, 1),
        };
        let absolute = |index: i64| if index < 0 { index.saturating_add(total).max(0) } else { index };
        let start = absolute(self.start);
        let end = absolute(self.end.unwrap_or(-1)).min(total - 1);
        (start <= end).then(|| (start as u64 * scale, (end as u64 + 1) * scale))
    }
}

/// How many bits of the string are 1. Linear, about 100 bytes a nanosecond where the processor counts by vectors.
pub fn count(bytes: &[u8]) -> u64 {
    counting(
        #[inline(always)]
        || count_words(bytes),
    )
}

#[inline(always)]
fn count_words(bytes: &[u8]) -> u64 {
    let (words, tail) = bytes.as_chunks::<8>();
    let in_words: u64 = words.iter().map(|word| u64::from(u64::from_ne_bytes(*word).count_ones())).sum();
    let in_tail: u32 = tail.iter().map(|byte| byte.count_ones()).sum();
    in_words + u64::from(in_tail)
}

/// How many bits in the range are 1.
pub fn count_range(bytes: &[u8], range: Range) -> u64 {
    if range.start < 0 && range.end.is_some_and(|end| end < range.start) {
        return 0;
    }
    let Some((start, end)) = range.resolve(bytes.len()) else { return 0 };
    count_bits(bytes, start, end)
}

/// Ones in bits `start..end`, which lie within the string and are not empty.
fn count_bits(bytes: &[u8], start: u64, end: u64) -> u64 {
    let (first, last) = ((start / 8) as usize, ((end - 1) / 8) as usize);
    let head = 0xff_u8 >> (start % 8);
    let tail = 0xff_u8 << (7 - (end - 1) % 8);
    if first == last {
        return u64::from((bytes[first] & head & tail).count_ones());
    }
    let edges = (bytes[first] & head).count_ones() + (bytes[last] & tail).count_ones();
    u64::from(edges) + count(&bytes[first + 1..last])
}

/// Where the first bit equal to `bit` in the range stands, from the string's start; `None` if
/// there is none.
///
/// A string is followed by zeros without end: looking for 0 with no end given, it is found right
/// after the string at the latest. An absent key is not an empty string: BITPOS answers 0 there
/// for a 0 bit, which is for the caller to say.
pub fn position(bytes: &[u8], bit: bool, range: Range) -> Option<u64> {
    let (start, end) = range.resolve(bytes.len())?;
    match first_equal(bytes, bit, start, end) {
        None if !bit && range.end.is_none() => Some(bytes.len() as u64 * 8),
        found => found,
    }
}

fn first_equal(bytes: &[u8], bit: bool, start: u64, end: u64) -> Option<u64> {
    let flip = if bit { 0 } else { 0xff };
    let last = ((end - 1) / 8) as usize;
    let first = (start / 8) as usize;
    let head = (bytes[first] ^ flip) & (0xff >> (start % 8));
    if head != 0 {
        return Some(first as u64 * 8 + u64::from(head.leading_zeros())).filter(|&at| at < end);
    }
    let middle = bytes.get(first + 1..=last)?;
    let at = first_other(middle, flip)?;
    let found = (first + 1 + at) as u64 * 8 + u64::from((middle[at] ^ flip).leading_zeros());
    (found < end).then_some(found)
}

/// Index of the first byte that is not `skip`.
fn first_other(bytes: &[u8], skip: u8) -> Option<usize> {
    let same = [skip; 32];
    let skipped = bytes.chunks_exact(32).take_while(|chunk| **chunk == same).count() * 32;
    bytes[skipped..].iter().position(|&byte| byte != skip).map(|at| skipped + at)
}

#[cfg(test)]
mod tests {
    use super::super::get;
    use super::*;
    use proptest::prelude::*;

    fn bits(bytes: &[u8]) -> Vec<bool> {
        (0..bytes.len() as u64 * 8).map(|at| get(bytes, at)).collect()
    }

    fn any_range() -> impl Strategy<Value = Range> {
        let unit = prop_oneof![Just(Unit::Byte), Just(Unit::Bit)];
        (-40_i64..40, proptest::option::of(-40_i64..40), unit).prop_map(|(start, end, unit)| Range {
            start,
            end,
            unit,
        })
    }

    #[test]
    fn positions_as_redis_answers() {
        let range = |start, end, unit| Range { start, end, unit };
        use Unit::{Bit, Byte};
        assert_eq!(position(b"", false, Range::ALL), None);
        assert_eq!(position(b"\xff", false, Range::ALL), Some(8));
        assert_eq!(position(b"\xff", false, range(0, Some(-1), Byte)), None);
        assert_eq!(position(b"\xff", false, range(1, None, Byte)), None);
        assert_eq!(position(b"\0\xff\xf0", true, range(1, Some(1), Byte)), Some(8));
        assert_eq!(position(b"\0\xff\xf0", false, range(1, None, Byte)), Some(20));
        assert_eq!(position(b"\xff", true, range(3, Some(-3), Bit)), Some(3));
        assert_eq!(position(b"\xff", true, range(-100, Some(-50), Byte)), Some(0));
        assert_eq!(count_range(b"\xff\xff", range(-100, Some(-50), Byte)), 8);
        assert_eq!(count_range(b"\xff\xff", range(-1, Some(-2), Byte)), 0);
        assert_eq!(count_range(b"\0\xff\xf0", range(5, Some(30), Bit)), 12);
    }

    proptest! {
        #[test]
        fn counts_like_a_loop(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
            prop_assert_eq!(count(&bytes), bits(&bytes).iter().filter(|&&bit| bit).count() as u64);
        }

        #[test]
        fn ranges_like_a_loop(bytes in proptest::collection::vec(any::<u8>(), 0..12), range in any_range()) {
            let all = bits(&bytes);
            let inside = range.resolve(bytes.len()).map_or(0..0, |(start, end)| start as usize..end as usize);
            if !(range.start < 0 && range.end.is_some_and(|end| end < range.start)) {
                prop_assert_eq!(count_range(&bytes, range), all[inside.clone()].iter().filter(|&&b| b).count() as u64);
            }
            let found = inside.clone().find(|&at| all[at]).map(|at| at as u64);
            prop_assert_eq!(position(&bytes, true, range), found);
            let zero = inside.clone().find(|&at| !all[at]).map(|at| at as u64);
            let after = (!inside.is_empty() && range.end.is_none()).then_some(all.len() as u64);
            prop_assert_eq!(position(&bytes, false, range), zero.or(after));
        }

        #[test]
        fn a_lone_bit_is_found(len in 1_usize..300, at in 0_usize..2400, bit: bool) {
            let at = at % (len * 8);
            let mut bytes = vec![if bit { 0 } else { 0xff }; len];
            bytes[at / 8] ^= 0x80 >> (at % 8);
            prop_assert_eq!(position(&bytes, bit, Range::ALL), Some(at as u64));
        }
    }
}
