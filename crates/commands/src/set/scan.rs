//! SSCAN: a walk over a set in small steps.
//!
//! A cursor is a position in the space of hashes, so what stays in the set from the first step to the
//! last is seen, however the set grows or shrinks meanwhile.

use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::keys::scan::{Found, Options, Scanned, parse_cursor, parse_options};
use crate::spec::{Acl, Arg, Command, Flags, Group, KeyFlags, KeySpec, Run, Spec};
use larder_values::packed::Element;
use larder_values::set::Set;

/// SSCAN key cursor [MATCH pattern] [COUNT count]
pub static SSCAN: Command = Command {
    spec: Spec {
        name: "sscan",
        summary: "Walks over the members of a set in small steps.",
        since: "2.8.0",
        group: Group::Set,
        complexity: "O(COUNT) for each step, O(N) for a walk over N members.",
        arity: -3,
        flags: Flags::READONLY,
        acl: Acl::SET,
        keys: &[KeySpec::at(1, KeyFlags::RO.or(KeyFlags::ACCESS))],
        args: &[
            Arg::key("key", 0),
            Arg::integer("cursor"),
            Arg::pattern("pattern").token("MATCH").optional(),
            Arg::integer("count").token("COUNT").optional(),
        ],
        tips: &["nondeterministic_output"],
        ..Spec::EMPTY
    },
    run: Run::Keys(sscan),
    subcommands: &[],
};

fn sscan(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let cursor = parse_cursor(args.get(2)).ok_or(Error::InvalidCursor)?;
    let key = cx.key(args, 1);
    let mut found = Found::default();
    // The options of a walk over nothing are not looked at.
    let Some(set) = cx.db.read_as::<Set>(&key)? else {
        found.answer(&mut cx.reply, 0);
        return Ok(());
    };
    let Options { filter, count, .. } = parse_options(args, 3, Scanned::Set)?;
    let mut text = Vec::new();
    let cursor = set.scan(cursor, count, |member| {
        let member = match member {
            Element::Bytes(bytes) => bytes,
            Element::Int(_) => {
                text.clear();
                member.write_to(&mut text);
                &text
            }
        };
        if filter.admits_element(member) {
            found.push(member);
        }
    });
    found.answer(&mut cx.reply, cursor);
    Ok(())
}
