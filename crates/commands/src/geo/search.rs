//! What is within a shape, answered or stored. The declarations are in `search_specs.rs`.

use super::plan::{Form, Plan, Sorting, Target};
use super::write_distance;
use crate::args::Args;
use crate::cx::{Ctx, KeyspaceCtx};
use crate::error::Error;
use crate::zset::{ReplyMember, store};
use larder_resp::Reply;
use larder_store::{Db, Event};
use larder_values::collection::PackedLimits;
use larder_values::geo::{Place, cells};
use larder_values::zset::{ScoreRange, View, ZSet};
use smallvec::SmallVec;

/// A place that was found.
struct Found {
    member: Vec<u8>,
    score: f64,
    /// From the middle, in the unit asked for.
    distance: f64,
    place: Place,
}

/// A command whose keys are known from its declaration.
pub(super) fn search(cx: &mut Ctx<'_>, args: &Args<'_>, form: Form) -> Result<(), Error> {
    let source = if form == Form::SearchStore { 2 } else { 1 };
    let limits = cx.limits.zset_packed;
    run(&mut cx.db, &mut cx.reply, args, source, limits, |set| Plan::parse(args, form, false, set))
}

/// GEORADIUS and GEORADIUSBYMEMBER: where they store is found by reading the options, of which the last
/// counts, so the keys are locked here.
pub(super) fn search_or_store(cx: &mut KeyspaceCtx<'_>, args: &Args<'_>, form: Form) -> Result<(), Error> {
    let mut keys: SmallVec<[&[u8]; 4]> = SmallVec::new();
    keys.push(args.get(1));
    for index in 5..args.len() {
        if args.is(index - 1, b"store") || args.is(index - 1, b"storedist") {
            keys.push(args.get(index));
        }
    }
    let limits = cx.limits.zset_packed;
    let parse = |set: Option<View<'_>>| Plan::parse(args, form, true, set);
    cx.with_keys(cx.db, &keys, |db, reply| run(db, reply, args, 1, limits, parse)).unwrap_or(Ok(()))
}

fn run(
    db: &mut Db<'_>,
    reply: &mut Reply<'_>,
    args: &Args<'_>,
    source: usize,
    limits: PackedLimits,
    parse: impl FnOnce(Option<View<'_>>) -> Result<Plan, Error>,
) -> Result<(), Error> {
    let key = db.key(args.get(source));
    let set = db.read_as::<ZSet>(&key)?;
    let plan = parse(set)?;
    let found = set.map(|set| find(&plan, set)).unwrap_or_default();
    match plan.target {
        None => answer(reply, &plan, &found),
        Some(target) => answer_stored(db, reply, args, target, found, limits),
    }
    Ok(())
}

/// The places within the shape: in order and no more than asked for.
fn find(plan: &Plan, set: View<'_>) -> Vec<Found> {
    let (Some(middle), Some(shape)) = (plan.middle, &plan.shape) else { return Vec::new() };
    let enough = if plan.any { plan.count } else { usize::MAX };
    let mut found = Vec::new();
    for cell in cells(shape, middle, plan.unit) {
        let (first, end) = cell.scores();
        let span = set.span_of_scores(&ScoreRange::below(first, end));
        for (member, score) in set.range(span.start, span.len(), false) {
            if found.len() >= enough {
                break;
            }
            let place = Place::of_score(score);
            if let Some(distance) = shape.distance_within(middle, place, plan.unit) {
                let distance = distance / plan.unit;
                found.push(Found { member: member.to_vec(), score, distance, place });
            }
        }
    }
    // The nearest are meant where a count is given, unless any will do.
    let nearest = (plan.count > 0 && !plan.any).then_some(Sorting::Ascending);
    match plan.sorting.or(nearest) {
        Some(Sorting::Ascending) => found.sort_by(|one, other| one.distance.total_cmp(&other.distance)),
        Some(Sorting::Descending) => found.sort_by(|one, other| other.distance.total_cmp(&one.distance)),
        None => {}
    }
    if plan.count > 0 {
        found.truncate(plan.count);
    }
    found
}

fn answer(reply: &mut Reply<'_>, plan: &Plan, found: &[Found]) {
    let extras = usize::from(plan.with_distance) + usize::from(plan.with_hash) + usize::from(plan.with_place);
    let mut text = Vec::new();
    reply.array(found.len());
    for each in found {
        if extras > 0 {
            reply.array(extras + 1);
        }
        reply.bulk(&each.member);
        if plan.with_distance {
            text.clear();
            write_distance(&mut text, each.distance);
            reply.bulk(&text);
        }
        if plan.with_hash {
            reply.integer(each.score as i64);
        }
        if plan.with_place {
            reply.array(2);
            reply.score(each.place.longitude, &mut text);
            reply.score(each.place.latitude, &mut text);
        }
    }
}

fn answer_stored(
    db: &mut Db<'_>,
    reply: &mut Reply<'_>,
    args: &Args<'_>,
    target: Target,
    found: Vec<Found>,
    limits: PackedLimits,
) {
    let is_search = args.get(0).eq_ignore_ascii_case(b"geosearchstore");
    let event = if is_search { Event::GEOSEARCHSTORE } else { Event::GEORADIUSSTORE };
    let score = |each: &Found| if target.distances { each.distance } else { each.score };
    let pairs: Vec<(Vec<u8>, f64)> = found
        .into_iter()
        .map(|each| {
            let score = score(&each);
            (each.member, score)
        })
        .collect();
    let result = ZSet::from_pairs(pairs, limits);
    let destination = db.key(args.get(target.word));
    let len = store(db, &destination, result, event);
    db.local.effects.changed_many((len as u64).saturating_sub(1));
    reply.count(len);
}
