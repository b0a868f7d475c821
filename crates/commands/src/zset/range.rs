//! Ranges of members: one implementation for every command of the family, ZRANGESTORE included.
//!
//! The commands' declarations are in `range_specs.rs`.

use super::combine::store;
use super::lookup::{lex_range, score_range};
use super::reply::ReplyMember;
use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use larder_store::Event;
use larder_values::collection::{Collection, PackedLimits};
use larder_values::number;
use larder_values::zset::{Add, LexRange, Members, ScoreRange, View, ZSet};
use std::ops::Range;

/// What a range is given by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    Rank,
    Score,
    Lex,
}

/// What the command's name says; what it leaves open is said by options.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    pub(super) by: Option<By>,
    pub(super) backwards: Option<bool>,
    pub(super) stores: bool,
}

/// The bounds of a range.
enum Bounds<'a> {
    Ranks(i64, i64),
    Scores(ScoreRange),
    Members(LexRange<'a>),
}

/// What a command line asks for.
struct Query<'a> {
    bounds: Bounds<'a>,
    backwards: bool,
    offset: i64,
    /// Most members; negative for all.
    limit: i64,
    with_scores: bool,
}

/// The ranks from `start` to `stop`, which count from the end where they are negative.
pub(super) fn span_of_ranks(start: i64, stop: i64, len: usize) -> Range<usize> {
    let len = i64::try_from(len).unwrap_or(i64::MAX);
    let absolute = |rank: i64| if rank < 0 { rank.saturating_add(len) } else { rank };
    let (start, stop) = (absolute(start).max(0), absolute(stop).min(len - 1));
    if start > stop { 0..0 } else { start as usize..stop as usize + 1 }
}

impl<'a> Query<'a> {
    /// Reads a command line whose source key is at word `source`.
    fn parse(args: &Args<'a>, source: usize, form: Form) -> Result<Query<'a>, Error> {
        let (mut by, mut backwards) = (form.by, form.backwards);
        let (mut offset, mut limit, mut with_scores) = (0, -1, false);
        let integer = |index| number::parse_i64(args.get(index)).ok_or(Error::NotAnInteger);
        let mut index = source + 3;
        while index < args.len() {
            if !form.stores && args.is(index, b"withscores") {
                with_scores = true;
            } else if args.is(index, b"limit") && args.len() - index > 2 {
                (offset, limit) = (integer(index + 1)?, integer(index + 2)?);
                index += 2;
            } else if backwards.is_none() && args.is(index, b"rev") {
                backwards = Some(true);
            } else if by.is_none() && args.is(index, b"bylex") {
                by = Some(By::Lex);
            } else if by.is_none() && args.is(index, b"byscore") {
                by = Some(By::Score);
            } else {
                return Err(Error::Syntax);
            }
            index += 1;
        }
        let (by, backwards) = (by.unwrap_or(By::Rank), backwards.unwrap_or(false));
        if limit != -1 && by == By::Rank {
            return Err(Error::of(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
            ));
        }
        if with_scores && by == By::Lex {
            return Err(Error::of("ERR syntax error, WITHSCORES not supported in combination with BYLEX"));
        }
        let (first, second) = (args.get(source + 1), args.get(source + 2));
        // Backwards the larger bound comes first.
        let (min, max) = if backwards { (second, first) } else { (first, second) };
        let bounds = match by {
            By::Rank => Bounds::Ranks(integer(source + 1)?, integer(source + 2)?),
            By::Score => Bounds::Scores(score_range(min, max)?),
            By::Lex => Bounds::Members(lex_range(min, max)?),
        };
        Ok(Query { bounds, backwards, offset, limit, with_scores })
    }

    /// The members asked for.
    fn members<'v>(&self, set: View<'v>) -> Members<'v> {
        let len = set.len();
        let span = match &self.bounds {
            Bounds::Ranks(start, stop) => {
                let span = span_of_ranks(*start, *stop, len);
                let from = if self.backwards { len.saturating_sub(1 + span.start) } else { span.start };
                return set.range(from, span.len(), self.backwards);
            }
            Bounds::Scores(range) => set.span_of_scores(range),
            Bounds::Members(range) => set.span_of_members(range, self.backwards),
        };
        let skipped = usize::try_from(self.offset).unwrap_or(usize::MAX).min(span.len());
        let left = span.len() - skipped;
        let count = usize::try_from(self.limit).map_or(left, |limit| limit.min(left));
        if self.backwards {
            set.range((span.end - skipped).saturating_sub(1), count, true)
        } else {
            set.range(span.start + skipped, count, false)
        }
    }
}

/// A command that answers members of the key at word 1.
pub(super) fn answer(cx: &mut Ctx<'_>, args: &Args<'_>, form: Form) -> Result<(), Error> {
    let query = Query::parse(args, 1, form)?;
    let key = cx.key(args, 1);
    let Some(set) = cx.db.read_as::<ZSet>(&key)? else {
        cx.reply.array(0);
        return Ok(());
    };
    let members = query.members(set);
    cx.reply.members_header(members.len(), query.with_scores);
    let mut text = Vec::new();
    for (member, score) in members {
        cx.reply.listed_member(member, score, query.with_scores, &mut text);
    }
    Ok(())
}

/// A command that stores members of the key at word 2 under the key at word 1.
pub(super) fn answer_stored(cx: &mut Ctx<'_>, args: &Args<'_>, form: Form) -> Result<(), Error> {
    let query = Query::parse(args, 2, form)?;
    let source = cx.key(args, 2);
    let limits = cx.limits.zset_packed;
    let found = cx.db.read_as::<ZSet>(&source)?;
    let result = found.map(|set| copy(&query, set, limits)).unwrap_or_else(|| ZSet::new(Vec::new()));
    let destination = cx.key(args, 1);
    let len = store(&mut cx.db, &destination, result, Event::ZRANGESTORE);
    cx.reply.count(len);
    Ok(())
}

/// The members asked for as a set of their own, in the form that adding them one by one gives.
fn copy(query: &Query<'_>, set: View<'_>, limits: PackedLimits) -> ZSet {
    let members = query.members(set);
    let mut result = ZSet::new(Vec::new());
    if matches!(query.bounds, Bounds::Ranks(..)) {
        result.expect(members.len(), 0, limits);
    }
    let mut text = Vec::new();
    for (member, score) in members {
        text.clear();
        member.write_to(&mut text);
        result.add(&text, score, Add::default(), limits);
    }
    result
}
