//! Unions, intersections and differences, answered, counted or stored.
//!
//! Every command collects members and scores first and sorts the result once; one that counts collects nothing.

use super::reply::ReplyMember;
use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::spec::{Acl, Arg, Command, Flags, Group, KeyFlags, KeySpec, Run, Spec};
use larder_store::{Db, Event, Expire, Hashed, Item, Type, WrongType};
use larder_values::collection::Collection;
use larder_values::collection::PackedLimits;
use larder_values::number;
use larder_values::packed::Element;
use larder_values::set::{self, Set};
use larder_values::zset::{Gathered, View, ZSet, sort_pairs};
use std::collections::HashSet;
use std::ops::ControlFlow;

/// `ZUNION numkeys key [key ...] [WEIGHTS weight [WEIGHTS weight ...]] [AGGREGATE SUM | MIN | MAX] [WITHSCORES]`
pub static ZUNION: Command = Command {
    spec: Spec {
        name: "zunion",
        summary: "Answers the union of several sorted sets or sets.",
        since: "6.2.0",
        group: Group::SortedSet,
        complexity: "O(N + M log M), N members in all, M members answered",
        arity: -3,
        flags: Flags::READONLY,
        acl: Acl::SORTED_SET,
        keys: &[KeySpec::counted(1, KeyFlags::RO.or(KeyFlags::ACCESS))],
        args: &[
            Arg::integer("numkeys"),
            Arg::key("key", 0).multiple(),
            Arg::integer("weight").token("WEIGHTS").optional().multiple(),
            Arg::one_of(
                "aggregate",
                &[Arg::word("sum", "SUM"), Arg::word("min", "MIN"), Arg::word("max", "MAX")],
            )
            .token("AGGREGATE")
            .optional(),
            Arg::word("withscores", "WITHSCORES").optional(),
        ],
        ..Spec::EMPTY
    },
    run: Run::Keys(|cx, args| combine(cx, args, Operation::Union)),
    subcommands: &[],
};

/// `ZINTER numkeys key [key ...] [WEIGHTS weight [WEIGHTS weight ...]] [AGGREGATE SUM | MIN | MAX] [WITHSCORES]`
pub static ZINTER: Command = Command {
    spec: Spec {
        name: "zinter",
        summary: "Answers what several sorted sets or sets have in common.",
        since: "6.2.0",
        group: Group::SortedSet,
        complexity: "O(N K + M log M), N members in the smallest of K, M members answered",
        arity: -3,
        flags: Flags::READONLY,
        acl: Acl::SORTED_SET,
        keys: &[KeySpec::counted(1, KeyFlags::RO.or(KeyFlags::ACCESS))],
        args: &[
            Arg::integer("numkeys"),
            Arg::key("key", 0).multiple(),
            Arg::integer("weight").token("WEIGHTS").optional().multiple(),
            Arg::one_of(
                "aggregate",
                &[Arg::word("sum", "SUM"), Arg::word("min", "MIN"), Arg::word("max", "MAX")],
            )
            .token("AGGREGATE")
            .optional(),
            Arg::word("withscores", "WITHSCORES").optional(),
        ],
        ..Spec::EMPTY
    },
    run: Run::Keys(|cx, args| combine(cx, args, Operation::Intersection)),
    subcommands: &[],
};

/// `ZDIFF numkeys key [key ...] [WITHSCORES]`
pub static ZDIFF: Command = Command {
    spec: Spec {
        name: "zdiff",
        summary: "Answers what the first sorted set or set has and the others have not.",
        since: "6.2.0",
        group: Group::SortedSet,
        complexity: "O(N + M log M), N members in all, M members answered",
        arity: -3,
        flags: Flags::READONLY,
        acl: Acl::SORTED_SET,
        keys: &[KeySpec::counted(1, KeyFlags::RO.or(KeyFlags::ACCESS))],
        args: &[
            Arg::integer("numkeys"),
            Arg::key("key", 0).multiple(),
            Arg::word("withscores", "WITHSCORES").optional(),
        ],
        ..Spec::EMPTY
    },
    run: Run::Keys(|cx, args| combine(cx, args, Operation::Difference)),
    subcommands: &[],
};

/// `ZINTERCARD numkeys key [key ...] [LIMIT limit]`
pub static ZINTERCARD: Command = Command {
    spec: Spec {
        name: "zintercard",
        summary: "Counts what several sorted sets or sets have in common.",
        since: "7.0.0",
        group: Group::SortedSet,
        complexity: "O(N K), N members in the smallest of K",
        arity: -3,
        flags: Flags::READONLY,
        acl: Acl::SORTED_SET,
        keys: &[KeySpec::counted(1, KeyFlags::RO.or(KeyFlags::ACCESS))],
        args: &[
            Arg::integer("numkeys"),
            Arg::key("key", 0).multiple(),
            Arg::integer("limit").token("LIMIT").optional(),
        ],
        ..Spec::EMPTY
    },
    run: Run::Keys(zintercard),
    subcommands: &[],
};

/// `ZUNIONSTORE destination numkeys key [key ...] [WEIGHTS weight [WEIGHTS weight ...]] [AGGREGATE SUM | MIN | MAX]`
pub static ZUNIONSTORE: Command = Command {
    spec: Spec {
        name: "zunionstore",
        summary: "Stores the union of several sorted sets or sets.",
        since: "2.0.0",
        group: Group::SortedSet,
        complexity: "O(N + M log M), N members in all, M members stored",
        arity: -4,
        flags: Flags::WRITE.or(Flags::DENY_OOM),
        acl: Acl::SORTED_SET,
        keys: &[
            KeySpec::at(1, KeyFlags::OW.or(KeyFlags::UPDATE)),
            KeySpec::counted(2, KeyFlags::RO.or(KeyFlags::ACCESS)),
        ],
        args: &[
            Arg::key("destination", 0),
            Arg::integer("numkeys"),
            Arg::key("key", 1).multiple(),
            Arg::integer("weight").token("WEIGHTS").optional().multiple(),
            Arg::one_of(
                "aggregate",
                &[Arg::word("sum", "SUM"), Arg::word("min", "MIN"), Arg::word("max", "MAX")],
            )
            .token("AGGREGATE")
            .optional(),
        ],
        ..Spec::EMPTY
    },
    run: Run::Keys(|cx, args| combine_stored(cx, args, Operation::Union)),
    subcommands: &[],
};

/// `ZINTERSTORE destination numkeys key [key ...] [WEIGHTS weight [WEIGHTS weight ...]] [AGGREGATE SUM | MIN | MAX]`
pub static ZINTERSTORE: Command = Command {
    spec: Spec {
        name: "zinterstore",
        summary: "Stores what several sorted sets or sets have in common.",
        since: "2.0.0",
        group: Group::SortedSet,
        complexity: "O(N K + M log M), N members in the smallest of K, M members stored",
        arity: -4,
        flags: Flags::WRITE.or(Flags::DENY_OOM),
        acl: Acl::SORTED_SET,
        keys: &[
            KeySpec::at(1, KeyFlags::OW.or(KeyFlags::UPDATE)),
            KeySpec::counted(2, KeyFlags::RO.or(KeyFlags::ACCESS)),
        ],
        args: &[
            Arg::key("destination", 0),
            Arg::integer("numkeys"),
            Arg::key("key", 1).multiple(),
            Arg::integer("weight").token("WEIGHTS").optional().multiple(),
            Arg::one_of(
                "aggregate",
                &[Arg::word("sum", "SUM"), Arg::word("min", "MIN"), Arg::word("max", "MAX")],
            )
            .token("AGGREGATE")
            .optional(),
        ],
        ..Spec::EMPTY
    },
    run: Run::Keys(|cx, args| combine_stored(cx, args, Operation::Intersection)),
    subcommands: &[],
};

/// `ZDIFFSTORE destination numkeys key [key ...]`
pub static ZDIFFSTORE: Command = Command {
    spec: Spec {
        name: "zdiffstore",
        summary: "Stores what the first sorted set or set has and the others have not.",
        since: "6.2.0",
        group: Group::SortedSet,
        complexity: "O(N + M log M), N members in all, M members stored",
        arity: -4,
        flags: Flags::WRITE.or(Flags::DENY_OOM),
        acl: Acl::SORTED_SET,
        keys: &[
            KeySpec::at(1, KeyFlags::OW.or(KeyFlags::UPDATE)),
            KeySpec::counted(2, KeyFlags::RO.or(KeyFlags::ACCESS)),
        ],
        args: &[Arg::key("destination", 0), Arg::integer("numkeys"), Arg::key("key", 1).multiple()],
        ..Spec::EMPTY
    },
    run: Run::Keys(|cx, args| combine_stored(cx, args, Operation::Difference)),
    subcommands: &[],
};

/// How sets are combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Union,
    Intersection,
    Difference,
}

/// What the scores of one member become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    fn of(self, one: f64, other: f64) -> f64 {
        match self {
            // Infinities of both signs come to nothing.
            Aggregate::Sum => number_or_zero(one + other),
            Aggregate::Min => {
                if other < one {
                    other
                } else {
                    one
                }
            }
            Aggregate::Max => {
                if other > one {
                    other
                } else {
                    one
                }
            }
        }
    }
}

fn number_or_zero(score: f64) -> f64 {
    if score.is_nan() { 0.0 } else { score }
}

/// One of the keys that are combined.
#[derive(Debug, Clone, Copy)]
struct Input {
    /// Which word names it.
    word: usize,
    len: usize,
    weight: f64,
}

impl Input {
    fn weighted(&self, score: f64) -> f64 {
        number_or_zero(self.weight * score)
    }
}

/// What a command line says beside the operation.
struct Plan {
    inputs: Vec<Input>,
    aggregate: Aggregate,
    with_scores: bool,
    /// Most members that are counted; 0 for all.
    limit: usize,
}

/// Which options a command has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Answered,
    Stored,
    Counted,
}

/// The name of the command.
fn name_of(operation: Operation, purpose: Use) -> &'static str {
    match (operation, purpose) {
        (Operation::Union, Use::Stored) => "zunionstore",
        (Operation::Union, _) => "zunion",
        (Operation::Intersection, Use::Stored) => "zinterstore",
        (Operation::Intersection, Use::Counted) => "zintercard",
        (Operation::Intersection, Use::Answered) => "zinter",
        (Operation::Difference, Use::Stored) => "zdiffstore",
        (Operation::Difference, _) => "zdiff",
    }
}

impl Plan {
    /// Reads a command line whose number of keys is word `first`. The keys are looked at, so that a key
    /// of another type is told before a wrong option.
    fn parse(
        cx: &mut Ctx<'_>,
        args: &Args<'_>,
        first: usize,
        operation: Operation,
        purpose: Use,
    ) -> Result<Plan, Error> {
        let count = number::parse_i64(args.get(first)).ok_or(Error::NotAnInteger)?;
        if count < 1 {
            let name = name_of(operation, purpose);
            return Err(Error::custom(format!("ERR at least 1 input key is needed for '{name}' command")));
        }
        let end = usize::try_from(count).ok().and_then(|count| count.checked_add(first + 1));
        let end = end.filter(|end| *end <= args.len()).ok_or(Error::Syntax)?;
        let mut inputs = Vec::with_capacity(end - first - 1);
        for word in first + 1..end {
            let key = cx.key(args, word);
            let len = source(cx.db.read(&key))?.map_or(0, |source| source.len());
            inputs.push(Input { word, len, weight: 1.0 });
        }
        let mut plan = Plan { inputs, aggregate: Aggregate::Sum, with_scores: false, limit: 0 };
        plan.parse_options(args, end, operation, purpose)?;
        if operation != Operation::Difference {
            plan.inputs.sort_by_key(|input| input.len);
        }
        Ok(plan)
    }

    fn parse_options(
        &mut self,
        args: &Args<'_>,
        mut index: usize,
        operation: Operation,
        purpose: Use,
    ) -> Result<(), Error> {
        let weighs = operation != Operation::Difference && purpose != Use::Counted;
        while index < args.len() {
            let left = args.len() - index;
            if weighs && left > self.inputs.len() && args.is(index, b"weights") {
                for input in &mut self.inputs {
                    index += 1;
                    let weight = number::parse_f64(args.get(index));
                    input.weight = weight.ok_or(Error::of("ERR weight value is not a float"))?;
                }
            } else if weighs && left >= 2 && args.is(index, b"aggregate") {
                index += 1;
                self.aggregate = match args.get(index).to_ascii_lowercase().as_slice() {
                    b"sum" => Aggregate::Sum,
                    b"min" => Aggregate::Min,
                    b"max" => Aggregate::Max,
                    _ => return Err(Error::Syntax),
                };
            } else if purpose == Use::Answered && args.is(index, b"withscores") {
                self.with_scores = true;
            } else if purpose == Use::Counted && left >= 2 && args.is(index, b"limit") {
                index += 1;
                let limit = number::parse_i64(args.get(index)).and_then(|limit| usize::try_from(limit).ok());
                self.limit = limit.ok_or(Error::of("ERR LIMIT can't be negative"))?;
            } else {
                return Err(Error::Syntax);
            }
            index += 1;
        }
        Ok(())
    }
}

type Pairs = Vec<(Vec<u8>, f64)>;

/// The members of a result with their scores, in no order.
enum Collected {
    /// Each is known to be met once.
    Pairs(Pairs),
    /// From sources that may have members in common.
    Gathered(Box<Gathered>),
}

impl Collected {
    fn len(&self) -> usize {
        match self {
            Collected::Pairs(pairs) => pairs.len(),
            Collected::Gathered(gathered) => gathered.len(),
        }
    }

    fn for_each_sorted(self, mut visit: impl FnMut(&[u8], f64)) {
        match self {
            Collected::Pairs(mut pairs) => {
                sort_pairs(&mut pairs);
                pairs.iter().for_each(|(member, score)| visit(member, *score));
            }
            Collected::Gathered(gathered) => gathered.for_each_sorted(visit),
        }
    }

    fn into_set(self, limits: PackedLimits) -> ZSet {
        match self {
            Collected::Pairs(pairs) => ZSet::from_pairs(pairs, limits),
            Collected::Gathered(gathered) => gathered.into_set(limits),
        }
    }
}

fn combine(cx: &mut Ctx<'_>, args: &Args<'_>, operation: Operation) -> Result<(), Error> {
    let plan = Plan::parse(cx, args, 1, operation, Use::Answered)?;
    let collected = collect(cx, args, &plan, operation)?;
    cx.reply.members_header(collected.len(), plan.with_scores);
    let mut text = Vec::new();
    collected.for_each_sorted(|member, score| {
        cx.reply.listed_member(Element::Bytes(member), score, plan.with_scores, &mut text);
    });
    Ok(())
}

fn combine_stored(cx: &mut Ctx<'_>, args: &Args<'_>, operation: Operation) -> Result<(), Error> {
    let plan = Plan::parse(cx, args, 2, operation, Use::Stored)?;
    let result = collect(cx, args, &plan, operation)?.into_set(cx.limits.zset_packed);
    let event = match operation {
        Operation::Union => Event::ZUNIONSTORE,
        Operation::Intersection => Event::ZINTERSTORE,
        Operation::Difference => Event::ZDIFFSTORE,
    };
    let destination = cx.key(args, 1);
    let len = store(&mut cx.db, &destination, result, event);
    cx.reply.count(len);
    Ok(())
}

fn zintercard(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let plan = Plan::parse(cx, args, 1, Operation::Intersection, Use::Counted)?;
    let count = count_common(cx, args, &plan);
    cx.reply.count(count);
    Ok(())
}

/// How many members all inputs have in common, counted up to the limit. The smallest is first.
fn count_common(cx: &mut Ctx<'_>, args: &Args<'_>, plan: &Plan) -> usize {
    let sources: Option<Vec<Source<'_>>> =
        plan.inputs.iter().map(|input| source_seen(&cx.db, &cx.key(args, input.word))).collect();
    let Some((first, others)) = sources.as_deref().and_then(<[Source<'_>]>::split_first) else { return 0 };
    let mut count = 0;
    let _ = first.try_visit(|member, _| {
        count += usize::from(others.iter().all(|other| other.score(member).is_some()));
        if count == plan.limit && plan.limit > 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    count
}

/// Stores a result under a key, whatever that held; an empty one leaves no key. Answers its size.
pub(crate) fn store(db: &mut Db<'_>, destination: &Hashed<'_>, result: ZSet, event: Event) -> usize {
    let len = result.view().len();
    let existed = db.put_collection(destination, result, Expire::Clear);
    if len > 0 {
        if existed {
            db.overwritten(destination);
        }
        db.changed(destination, event);
    } else if existed {
        db.changed(destination, Event::DEL);
    }
    len
}

/// The result, to be sorted.
fn collect(cx: &mut Ctx<'_>, args: &Args<'_>, plan: &Plan, operation: Operation) -> Result<Collected, Error> {
    match operation {
        Operation::Union => union(cx, args, plan),
        Operation::Intersection => intersection(cx, args, plan).map(Collected::Pairs),
        Operation::Difference => difference(cx, args, plan).map(Collected::Pairs),
    }
}

/// Has `work` see what is at a key, if there is something.
fn with_source<R>(
    cx: &mut Ctx<'_>,
    args: &Args<'_>,
    input: &Input,
    work: impl FnOnce(Source<'_>) -> R,
) -> Result<Option<R>, Error> {
    let key = cx.key(args, input.word);
    Ok(source(cx.db.peek(&key))?.map(work))
}

/// All members of one input.
fn members(cx: &mut Ctx<'_>, args: &Args<'_>, input: &Input) -> Result<Pairs, Error> {
    let mut pairs = Pairs::with_capacity(input.len);
    with_source(cx, args, input, |source| {
        source.visit(|member, score| pairs.push((member.to_vec(), input.weighted(score))));
    })?;
    Ok(pairs)
}

fn union(cx: &mut Ctx<'_>, args: &Args<'_>, plan: &Plan) -> Result<Collected, Error> {
    if let [input] = plan.inputs.as_slice() {
        return members(cx, args, input).map(Collected::Pairs);
    }
    let mut gathered = Gathered::new();
    for input in &plan.inputs {
        with_source(cx, args, input, |source| {
            source.visit(|member, score| {
                gathered
                    .add(member, input.weighted(score), |present, score| plan.aggregate.of(present, score));
            });
        })?;
    }
    Ok(Collected::Gathered(Box::new(gathered)))
}

fn intersection(cx: &mut Ctx<'_>, args: &Args<'_>, plan: &Plan) -> Result<Pairs, Error> {
    let Some((first, others)) = plan.inputs.split_first() else { return Ok(Pairs::new()) };
    let mut pairs = members(cx, args, first)?;
    for input in others {
        if pairs.is_empty() {
            break;
        }
        let seen = with_source(cx, args, input, |source| {
            pairs.retain_mut(|(member, present)| match source.score(member) {
                Some(score) => {
                    *present = plan.aggregate.of(*present, input.weighted(score));
                    true
                }
                None => false,
            });
        })?;
        if seen.is_none() {
            pairs.clear();
        }
    }
    Ok(pairs)
}

fn difference(cx: &mut Ctx<'_>, args: &Args<'_>, plan: &Plan) -> Result<Pairs, Error> {
    let Some((first, others)) = plan.inputs.split_first() else { return Ok(Pairs::new()) };
    let mut pairs = members(cx, args, first)?;
    for input in others {
        if pairs.is_empty() {
            break;
        }
        with_source(cx, args, input, |source| {
            if source.len() >= pairs.len() {
                pairs.retain(|(member, _)| source.score(member).is_none());
            } else {
                let mut there = HashSet::with_capacity(source.len());
                source.visit(|member, _| {
                    there.insert(member.to_vec());
                });
                pairs.retain(|(member, _)| !there.contains(member));
            }
        })?;
    }
    Ok(pairs)
}

/// A key's value as members with scores.
#[derive(Clone, Copy)]
enum Source<'a> {
    Sorted(View<'a>),
    /// Each member of a set has a score of one.
    Set(set::View<'a>),
}

/// What a key holds, if it can be combined.
fn source(item: Option<Item<'_>>) -> Result<Option<Source<'_>>, WrongType> {
    let Some(item) = item else { return Ok(None) };
    match item.value_type() {
        Type::ZSet => Ok(Some(Source::Sorted(item.view::<ZSet>()?))),
        Type::Set => Ok(Some(Source::Set(item.view::<Set>()?))),
        _ => Err(WrongType),
    }
}

/// A second look at what [`Plan::parse`] has read.
fn source_seen<'d>(db: &'d Db<'_>, key: &Hashed<'_>) -> Option<Source<'d>> {
    let sorted = db.seen_as::<ZSet>(key).map(Source::Sorted);
    sorted.or_else(|| db.seen_as::<Set>(key).map(Source::Set))
}

impl Source<'_> {
    fn len(self) -> usize {
        match self {
            Source::Sorted(set) => set.len(),
            Source::Set(set) => set.len(),
        }
    }

    /// A member's score.
    fn score(self, member: &[u8]) -> Option<f64> {
        match self {
            Source::Sorted(set) => set.score(member),
            Source::Set(set) => set.contains(member).then_some(1.0),
        }
    }

    /// Visits all members.
    fn visit(self, mut visit: impl FnMut(&[u8], f64)) {
        let _ = self.try_visit(|member, score| {
            visit(member, score);
            ControlFlow::Continue(())
        });
    }

    /// Visits members until told to stop.
    fn try_visit(self, mut visit: impl FnMut(&[u8], f64) -> ControlFlow<()>) -> ControlFlow<()> {
        let mut text = Vec::new();
        let mut visit_element = |member: Element<'_>, score| match member {
            Element::Bytes(member) => visit(member, score),
            Element::Int(_) => {
                text.clear();
                member.write_to(&mut text);
                visit(&text, score)
            }
        };
        match self {
            Source::Sorted(set) => set.iter().try_for_each(|(member, score)| visit_element(member, score)),
            Source::Set(set) => set.try_for_each(|member| visit_element(member, 1.0)),
        }
    }
}
