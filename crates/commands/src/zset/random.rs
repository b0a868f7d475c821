//! ZRANDMEMBER.

use super::reply::ReplyMember;
use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::spec::{Acl, Arg, Command, Flags, Group, KeyFlags, KeySpec, Run, Spec};
use larder_values::number;
use larder_values::zset::{View, ZSet};
use std::collections::HashSet;

/// `ZRANDMEMBER key [count [WITHSCORES]]`
pub static ZRANDMEMBER: Command = Command {
    spec: Spec {
        name: "zrandmember",
        summary: "Answers members chosen at random.",
        since: "6.2.0",
        group: Group::SortedSet,
        complexity: "O(M log N), M members answered",
        arity: -2,
        flags: Flags::READONLY,
        acl: Acl::SORTED_SET,
        keys: &[KeySpec::at(1, KeyFlags::RO.or(KeyFlags::ACCESS))],
        args: &[
            Arg::key("key", 0),
            Arg::block("options", &[Arg::integer("count"), Arg::word("withscores", "WITHSCORES").optional()])
                .optional(),
        ],
        tips: &["nondeterministic_output"],
        ..Spec::EMPTY
    },
    run: Run::Keys(zrandmember),
    subcommands: &[],
};

fn zrandmember(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let key = cx.key(args, 1);
    if args.len() == 2 {
        let random = cx.db.local.random();
        let set = cx.db.read_as::<ZSet>(&key)?;
        match set.and_then(|set| set.get(below(random, set.len()))) {
            Some((member, _)) => cx.reply.member(member),
            None => cx.reply.null(),
        }
        return Ok(());
    }
    let (count, with_scores) = parse(args)?;
    let (seed, bytes_max) = (cx.db.local.random(), cx.limits.string_bytes_max);
    let set = match cx.db.read_as::<ZSet>(&key)? {
        Some(set) if count != 0 => set,
        _ => {
            cx.reply.array(0);
            return Ok(());
        }
    };
    if count < 0 && !fits(set, count.unsigned_abs(), bytes_max) {
        return Err(Error::of("ERR value is out of range"));
    }
    let ranks = ranks(set, count, seed);
    cx.reply.members_header(ranks.len(), with_scores);
    let mut text = Vec::new();
    for rank in ranks {
        if let Some((member, score)) = set.get(rank) {
            cx.reply.listed_member(member, score, with_scores, &mut text);
        }
    }
    Ok(())
}

/// Whether so many members, however often each may come, are an answer of bearable length. Members are
/// looked at only where it might be long.
// Differs from Redis: a count whose answer would be longer than proto-max-bulk-len is refused; Redis
// answers until memory is at its end.
fn fits(set: View<'_>, count: u64, bytes_max: usize) -> bool {
    const SCORE_BYTES: u64 = 40;
    if count <= 1000 {
        return true;
    }
    let longest = set.iter().map(|(member, _)| member.len()).max().unwrap_or(0);
    count.saturating_mul(longest as u64 + SCORE_BYTES) <= bytes_max as u64
}

/// The count, and whether scores are asked for.
fn parse(args: &Args<'_>) -> Result<(i64, bool), Error> {
    let count = number::parse_i64(args.get(2)).ok_or(Error::NotAnInteger)?;
    if count == i64::MIN {
        return Err(Error::of(
            "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
        ));
    }
    if args.len() == 3 {
        return Ok((count, false));
    }
    if args.len() > 4 || !args.is(3, b"withscores") {
        return Err(Error::Syntax);
    }
    if count.unsigned_abs() > i64::MAX as u64 / 2 {
        return Err(Error::of("ERR value is out of range"));
    }
    Ok((count, true))
}

/// Ranks chosen by chance: `count` different ones, as many as there are; or, where it is negative, so
/// many of which each may come several times.
fn ranks(set: View<'_>, count: i64, seed: u64) -> Ranks {
    let len = set.len();
    let wanted = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    if count < 0 {
        return Ranks::Any { seed, left: wanted, len };
    }
    if wanted >= len {
        return Ranks::All(0..len);
    }
    let mut random = seed;
    let mut draw = |bound: usize| {
        random = next(random);
        below(random, bound)
    };
    // Robert Floyd's choice of a sample without repetition: one draw for each member.
    let mut chosen = HashSet::with_capacity(wanted);
    let mut order = Vec::with_capacity(wanted);
    for last in len - wanted..len {
        let rank = draw(last + 1);
        let rank = if chosen.insert(rank) { rank } else { last };
        chosen.insert(rank);
        order.push(rank);
    }
    for at in (1..order.len()).rev() {
        order.swap(at, draw(at + 1));
    }
    Ranks::Some(order.into_iter())
}

/// Ranks, one after the other.
enum Ranks {
    All(std::ops::Range<usize>),
    Some(std::vec::IntoIter<usize>),
    /// Drawn as they are asked for: their number may be as large as a client likes.
    Any {
        seed: u64,
        left: usize,
        len: usize,
    },
}

impl Iterator for Ranks {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        match self {
            Ranks::All(range) => range.next(),
            Ranks::Some(ranks) => ranks.next(),
            Ranks::Any { seed, left, len } => {
                *left = left.checked_sub(1)?;
                *seed = next(*seed);
                Some(below(*seed, *len))
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let len = match self {
            Ranks::All(range) => range.len(),
            Ranks::Some(ranks) => ranks.len(),
            Ranks::Any { left, .. } => *left,
        };
        (len, Some(len))
    }
}

impl ExactSizeIterator for Ranks {}

/// The next of a row of random numbers (SplitMix64).
fn next(random: u64) -> u64 {
    let random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (random ^ (random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A number below `bound` from a random one.
fn below(random: u64, bound: usize) -> usize {
    ((u128::from(random) * bound as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_values::collection::{Collection, PackedLimits};

    #[test]
    fn each_member_comes_about_as_often() {
        let limits = PackedLimits { entries_max: 128, value_bytes_max: 64 };
        let pairs: Vec<(String, f64)> = (0..10).map(|n| (n.to_string(), f64::from(n))).collect();
        let set = ZSet::from_pairs(pairs, limits);
        for count in [-3, 3, 7] {
            let mut seen = [0; 10];
            for seed in 0..10_000 {
                let ranks: Vec<usize> = ranks(set.view(), count, seed * 7919).collect();
                assert_eq!(ranks.len() as i64, count.abs());
                if count > 0 {
                    assert_eq!(ranks.iter().collect::<HashSet<_>>().len(), ranks.len());
                }
                ranks.iter().for_each(|rank| seen[*rank] += 1);
            }
            let expected = count.unsigned_abs() as i32 * 1000;
            assert!(seen.iter().all(|times: &i32| (times - expected).abs() < expected / 8), "{seen:?}");
        }
        assert_eq!(ranks(set.view(), 100, 1).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
    }
}
