//! ZSCAN.

use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::keys::scan::{Found, Options, Scanned, parse_cursor, parse_options};
use crate::spec::{Acl, Arg, Command, Flags, Group, KeyFlags, KeySpec, Run, Spec};
use larder_values::number;
use larder_values::zset::{View, ZSet};

/// `ZSCAN key cursor [MATCH pattern] [COUNT count] [NOSCORES]`
pub static ZSCAN: Command = Command {
    spec: Spec {
        name: "zscan",
        summary: "Goes through the members and scores of a sorted set in steps.",
        since: "2.8.0",
        group: Group::SortedSet,
        complexity: "O(1) for a step, O(N) for all",
        arity: -3,
        flags: Flags::READONLY,
        acl: Acl::SORTED_SET,
        keys: &[KeySpec::at(1, KeyFlags::RO.or(KeyFlags::ACCESS))],
        args: &[
            Arg::key("key", 0),
            Arg::integer("cursor"),
            Arg::pattern("pattern").token("MATCH").optional(),
            Arg::integer("count").token("COUNT").optional(),
            Arg::word("noscores", "NOSCORES").optional(),
        ],
        tips: &["nondeterministic_output"],
        ..Spec::EMPTY
    },
    run: Run::Keys(zscan),
    subcommands: &[],
};

fn zscan(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let cursor = parse_cursor(args.get(2)).ok_or(Error::InvalidCursor)?;
    let key = cx.key(args, 1);
    let set = cx.db.read_as::<ZSet>(&key)?;
    let mut found = Found::default();
    let Some(set) = set else {
        found.answer(&mut cx.reply, 0);
        return Ok(());
    };
    let Options { filter, count, with_scores } = parse_options(args, 3, Scanned::SortedSet)?;
    // Scores are printed as Redis prints them here, which depends on the form.
    let write_score = if matches!(set, View::Large(_)) { number::write_f64_17 } else { number::write_f64 };
    let (mut text, mut score_text) = (Vec::new(), Vec::new());
    let cursor = set.scan(cursor, count, |member, score| {
        text.clear();
        member.write_to(&mut text);
        if filter.admits_element(&text) {
            found.push(&text);
            if with_scores {
                score_text.clear();
                write_score(&mut score_text, score);
                found.push(&score_text);
            }
        }
    });
    found.answer(&mut cx.reply, cursor);
    Ok(())
}
