//! BITOP: one string from several, bit by bit.

use crate::vector::widest;

/// What BITOP does with its sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// 1 where all are 1.
    And,
    /// 1 where any is 1.
    Or,
    /// 1 where an odd number are 1.
    Xor,
    /// 1 where the only source is 0.
    Not,
    /// 1 where the first is 1 and no other is.
    Diff,
    /// 1 where the first is 0 and any other is 1.
    Diff1,
    /// 1 where the first is 1 and any other is too.
    AndOr,
    /// 1 where exactly one is 1.
    One,
}

/// Results are made in pieces of this size, so that the intermediate stays in the nearest cache.
const CHUNK_BYTES: usize = 4096;

/// Combines the sources; shorter ones are followed by zeros. The result is as long as the
/// longest. `Not` reads the first source only; no sources give an empty result. Linear.
pub fn combine(operation: Operation, sources: &[&[u8]]) -> Vec<u8> {
    let sources = if operation == Operation::Not { sources.get(..1).unwrap_or(&[]) } else { sources };
    let len = sources.iter().map(|source| source.len()).max().unwrap_or(0);
    let mut result = Vec::with_capacity(len);
    let Some((first, others)) = sources.split_first() else { return result };
    widest(
        #[inline(always)]
        || {
            for start in (0..len).step_by(CHUNK_BYTES) {
                // Zeroed piece by piece: each is in the nearest cache when it is written again.
                result.resize(len.min(start + CHUNK_BYTES), 0);
                combine_chunk(operation, &mut result[start..], start, first, others);
            }
        },
    );
    result
}

#[inline(always)]
fn combine_chunk(operation: Operation, out: &mut [u8], start: usize, first: &[u8], others: &[&[u8]]) {
    let first = part(first, start, out.len());
    match operation {
        Operation::And => {
            let others = Others { sources: others, start };
            let shortest = others.parts(out.len()).map(<[u8]>::len).min().unwrap_or(out.len());
            out[..first.len()].copy_from_slice(first);
            others.join_into(out, |a, b| a & b);
            out[shortest..].fill(0);
        }
        Operation::Or => {
            out[..first.len()].copy_from_slice(first);
            Others { sources: others, start }.join_into(out, |a, b| a | b);
        }
        Operation::Xor => {
            out[..first.len()].copy_from_slice(first);
            Others { sources: others, start }.join_into(out, |a, b| a ^ b);
        }
        Operation::Not => {
            for (byte, source) in out.iter_mut().zip(first) {
                *byte = !source;
            }
        }
        Operation::Diff | Operation::Diff1 | Operation::AndOr => {
            Others { sources: others, start }.join_into(out, |a, b| a | b);
            match operation {
                Operation::Diff1 => apply(out, first, |any, x| any & !x),
                Operation::Diff => {
                    apply(out, first, |any, x| x & !any);
                    out[first.len()..].fill(0);
                }
                _ => {
                    apply(out, first, |any, x| x & any);
                    out[first.len()..].fill(0);
                }
            }
        }
        Operation::One => exactly_one(out, start, first, others),
    }
}

/// The sources behind the first, as a chunk of the result sees them.
struct Others<'a> {
    sources: &'a [&'a [u8]],
    /// Where the chunk starts.
    start: usize,
}

impl Others<'_> {
    #[inline(always)]
    fn parts(&self, len: usize) -> impl Iterator<Item = &[u8]> {
        self.sources.iter().map(move |source| part(source, self.start, len))
    }

    /// Joins each into `out`, two at a time where both reach its end: memory then answers for two
    /// streams at once.
    #[inline(always)]
    fn join_into(&self, out: &mut [u8], join: impl Fn(u8, u8) -> u8 + Copy) {
        let len = out.len();
        for pair in self.sources.chunks(2) {
            match *pair {
                [one, two] => {
                    let (one, two) = (part(one, self.start, len), part(two, self.start, len));
                    if one.len() == len && two.len() == len {
                        for ((a, &b), &c) in out.iter_mut().zip(one).zip(two) {
                            *a = join(join(*a, b), c);
                        }
                    } else {
                        apply(out, one, join);
                        apply(out, two, join);
                    }
                }
                _ => pair.iter().for_each(|one| apply(out, part(one, self.start, len), join)),
            }
        }
    }
}

#[inline(always)]
fn exactly_one(out: &mut [u8], start: usize, first: &[u8], others: &[&[u8]]) {
    out[..first.len()].copy_from_slice(first);
    let mut twice = [0_u8; CHUNK_BYTES];
    for other in others {
        let other = part(other, start, out.len());
        for ((seen, twice), byte) in out.iter_mut().zip(&mut twice).zip(other) {
            *twice |= *seen & byte;
            *seen |= byte;
        }
    }
    apply(out, &twice, |seen, twice| seen & !twice);
}

/// The source's bytes that fall on a chunk of `len` bytes from `start`.
#[inline(always)]
fn part(source: &[u8], start: usize, len: usize) -> &[u8] {
    let from = source.get(start..).unwrap_or(&[]);
    &from[..from.len().min(len)]
}

/// A plain loop over two slices, which the compiler turns into vector code.
#[inline(always)]
fn apply(out: &mut [u8], other: &[u8], join: impl Fn(u8, u8) -> u8) {
    for (a, &b) in out.iter_mut().zip(other) {
        *a = join(*a, b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn by_definition(operation: Operation, bytes: &[u8]) -> u8 {
        (0..8).fold(0, |result, bit| {
            let set: Vec<bool> = bytes.iter().map(|byte| byte >> bit & 1 == 1).collect();
            let others = set[1..].iter().any(|&b| b);
            let value = match operation {
                Operation::And => set.iter().all(|&b| b),
                Operation::Or => set[0] || others,
                Operation::Xor => set.iter().filter(|&&b| b).count() % 2 == 1,
                Operation::Not => !set[0],
                Operation::Diff => set[0] && !others,
                Operation::Diff1 => !set[0] && others,
                Operation::AndOr => set[0] && others,
                Operation::One => set.iter().filter(|&&b| b).count() == 1,
            };
            result | u8::from(value) << bit
        })
    }

    proptest! {
        #[test]
        fn combines_like_the_definition(
            sources in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..6),
            stretch in prop_oneof![Just(1_usize), Just(300)],
        ) {
            let sources: Vec<Vec<u8>> = sources.iter().map(|source| source.repeat(stretch)).collect();
            let slices: Vec<&[u8]> = sources.iter().map(Vec::as_slice).collect();
            use Operation::*;
            for operation in [And, Or, Xor, Not, Diff, Diff1, AndOr, One] {
                let used = if operation == Not { &slices[..1] } else { &slices[..] };
                let len = used.iter().map(|source| source.len()).max().unwrap();
                let expected: Vec<u8> = (0..len)
                    .map(|at| {
                        let column: Vec<u8> = used.iter().map(|s| s.get(at).copied().unwrap_or(0)).collect();
                        by_definition(operation, &column)
                    })
                    .collect();
                prop_assert_eq!(combine(operation, &slices), expected, "{:?}", operation);
            }
        }
    }
}
