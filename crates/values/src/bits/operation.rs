//! BITOP: one string from several, bit by bit.

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
    let mut result = vec![0; len];
    let Some((first, others)) = sources.split_first() else { return result };
    for (index, chunk) in result.chunks_mut(CHUNK_BYTES).enumerate() {
        combine_chunk(operation, chunk, index * CHUNK_BYTES, first, others);
    }
    result
}

fn combine_chunk(operation: Operation, out: &mut [u8], start: usize, first: &[u8], others: &[&[u8]]) {
    let first = part(first, start, out.len());
    match operation {
        Operation::And => {
            out[..first.len()].copy_from_slice(first);
            for other in others {
                let other = part(other, start, out.len());
                apply(out, other, |a, b| a & b);
                out[other.len()..].fill(0);
            }
        }
        Operation::Or => {
            out[..first.len()].copy_from_slice(first);
            others.iter().for_each(|other| apply(out, part(other, start, out.len()), |a, b| a | b));
        }
        Operation::Xor => {
            out[..first.len()].copy_from_slice(first);
            others.iter().for_each(|other| apply(out, part(other, start, out.len()), |a, b| a ^ b));
        }
        Operation::Not => {
            out[..first.len()].copy_from_slice(first);
            out.iter_mut().for_each(|byte| *byte = !*byte);
        }
        Operation::Diff | Operation::Diff1 | Operation::AndOr => {
            others.iter().for_each(|other| apply(out, part(other, start, out.len()), |a, b| a | b));
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
fn part(source: &[u8], start: usize, len: usize) -> &[u8] {
    let from = source.get(start..).unwrap_or(&[]);
    &from[..from.len().min(len)]
}

/// A plain loop over two slices, which the compiler turns into vector code.
#[inline]
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
