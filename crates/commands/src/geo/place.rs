//! Single places: GEOADD, GEODIST, GEOHASH and GEOPOS.

use super::{parse_place, parse_unit, write_distance};
use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::logged::Digits;
use crate::spec::{Acl, Arg, Command, Flags, Group, KeyFlags, KeySpec, Run, Spec};
use crate::zset::{Options, Pair, ReplyMember, add_pairs};
use larder_values::geo::{Place, Unit};
use larder_values::zset::{Add, Rule, ZSet};
use smallvec::SmallVec;

/// `GEOADD key [NX | XX] [CH] longitude latitude member [longitude latitude member ...]`
pub static GEOADD: Command = Command {
    spec: Spec {
        name: "geoadd",
        summary: "Adds places, each a member with longitude and latitude, to a sorted set.",
        since: "3.2.0",
        group: Group::Geo,
        complexity: "O(log N) for each place",
        arity: -5,
        flags: Flags::WRITE.or(Flags::DENY_OOM),
        acl: Acl::GEO,
        keys: &[KeySpec::at(1, KeyFlags::RW.or(KeyFlags::UPDATE))],
        args: &[
            Arg::key("key", 0),
            Arg::one_of("condition", &[Arg::word("nx", "NX"), Arg::word("xx", "XX")])
                .since("6.2.0")
                .optional(),
            Arg::word("change", "CH").since("6.2.0").optional(),
            Arg::block("data", &[Arg::double("longitude"), Arg::double("latitude"), Arg::string("member")])
                .multiple(),
        ],
        history: &[("6.2.0", "Has `CH`, `NX` and `XX`.")],
        ..Spec::EMPTY
    },
    run: Run::Keys(geoadd),
    subcommands: &[],
};

/// `GEODIST key member1 member2 [M | KM | FT | MI]`
pub static GEODIST: Command = Command {
    spec: Spec {
        name: "geodist",
        summary: "Answers how far two places are from each other.",
        since: "3.2.0",
        group: Group::Geo,
        complexity: "O(1)",
        arity: -4,
        flags: Flags::READONLY,
        acl: Acl::GEO,
        keys: &[KeySpec::at(1, KeyFlags::RO.or(KeyFlags::ACCESS))],
        args: &[
            Arg::key("key", 0),
            Arg::string("member1"),
            Arg::string("member2"),
            Arg::one_of(
                "unit",
                &[Arg::word("m", "M"), Arg::word("km", "KM"), Arg::word("ft", "FT"), Arg::word("mi", "MI")],
            )
            .optional(),
        ],
        ..Spec::EMPTY
    },
    run: Run::Keys(geodist),
    subcommands: &[],
};

/// `GEOHASH key [member [member ...]]`
pub static GEOHASH: Command = Command {
    spec: Spec {
        name: "geohash",
        summary: "Answers the geohash texts of places.",
        since: "3.2.0",
        group: Group::Geo,
        complexity: "O(M), M places asked for",
        arity: -2,
        flags: Flags::READONLY,
        acl: Acl::GEO,
        keys: &[KeySpec::at(1, KeyFlags::RO.or(KeyFlags::ACCESS))],
        args: &[Arg::key("key", 0), Arg::string("member").optional().multiple()],
        ..Spec::EMPTY
    },
    run: Run::Keys(geohash),
    subcommands: &[],
};

/// `GEOPOS key [member [member ...]]`
pub static GEOPOS: Command = Command {
    spec: Spec {
        name: "geopos",
        summary: "Answers longitude and latitude of places.",
        since: "3.2.0",
        group: Group::Geo,
        complexity: "O(M), M places asked for",
        arity: -2,
        flags: Flags::READONLY,
        acl: Acl::GEO,
        keys: &[KeySpec::at(1, KeyFlags::RO.or(KeyFlags::ACCESS))],
        args: &[Arg::key("key", 0), Arg::string("member").optional().multiple()],
        ..Spec::EMPTY
    },
    run: Run::Keys(geopos),
    subcommands: &[],
};

fn geoadd(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let (mut present, mut absent, mut count_changes) = (false, false, false);
    let mut index = 2;
    while index < args.len() {
        if args.is(index, b"nx") {
            absent = true;
        } else if args.is(index, b"xx") {
            present = true;
        } else if args.is(index, b"ch") {
            count_changes = true;
        } else {
            break;
        }
        index += 1;
    }
    if !(args.len() - index).is_multiple_of(3) || (present && absent) || index == args.len() {
        return Err(Error::Syntax);
    }
    let rule = match (present, absent) {
        (true, _) => Rule::Present,
        (_, true) => Rule::Absent,
        _ => Rule::Any,
    };
    let mut pairs: SmallVec<[Pair<'_>; 4]> = SmallVec::new();
    for at in (index..args.len()).step_by(3) {
        let place = parse_place(args.get(at), args.get(at + 1))?;
        pairs.push((place.to_score(), args.get(at + 2)));
    }
    add_pairs(cx, args, Options { add: Add { rule, ..Add::default() }, count_changes }, &pairs)?;
    if cx.is_logged() {
        log_scores(cx, args, index, &pairs);
    }
    Ok(())
}

/// Says that a GEOADD is logged as the ZADD that it is.
#[cold]
fn log_scores(cx: &mut Ctx<'_>, args: &Args<'_>, options_end: usize, pairs: &[Pair<'_>]) {
    let scores: Vec<Digits> = pairs.iter().map(|(score, _)| Digits::of(*score as u64)).collect();
    let mut words: Vec<&[u8]> = vec![b"zadd"];
    words.extend(args.from(1).take(options_end - 1));
    for (score, (_, member)) in scores.iter().zip(pairs) {
        words.extend([score.text(), member]);
    }
    cx.log().instead(words.into_iter());
}

fn geodist(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let unit = match args.len() {
        4 => Unit::Metre,
        5 => parse_unit(args.get(4))?,
        _ => return Err(Error::Syntax),
    };
    let key = cx.key(args, 1);
    let set = cx.db.read_as::<ZSet>(&key)?;
    let scores = set.and_then(|set| set.score(args.get(2)).zip(set.score(args.get(3))));
    let Some((one, other)) = scores else {
        cx.reply.null();
        return Ok(());
    };
    let mut text = Vec::new();
    write_distance(&mut text, Place::of_score(one).distance(Place::of_score(other)) / unit.metres());
    cx.reply.bulk(&text);
    Ok(())
}

fn geohash(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let key = cx.key(args, 1);
    let set = cx.db.read_as::<ZSet>(&key)?;
    cx.reply.array(args.len() - 2);
    for member in args.from(2) {
        match set.and_then(|set| set.score(member)) {
            Some(score) => cx.reply.bulk(&Place::of_score(score).to_text()),
            None => cx.reply.null(),
        }
    }
    Ok(())
}

fn geopos(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let key = cx.key(args, 1);
    let set = cx.db.read_as::<ZSet>(&key)?;
    cx.reply.array(args.len() - 2);
    let mut text = Vec::new();
    for member in args.from(2) {
        match set.and_then(|set| set.score(member)) {
            Some(score) => {
                let place = Place::of_score(score);
                cx.reply.array(2);
                cx.reply.score(place.longitude, &mut text);
                cx.reply.score(place.latitude, &mut text);
            }
            None => cx.reply.null_array(),
        }
    }
    Ok(())
}
