//! HSCAN: a walk over the fields of a hash in small steps.

use super::ACCESS_ONE;
use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::keys::parse_cursor;
use crate::spec::{Acl, Arg, Command, Flags, Group, Run, Spec};
use larder_values::hash::Hash;
use larder_values::packed::Element;
use larder_values::{glob, number};

/// Fields that one step looks at, at most.
// Differs from Redis: COUNT is a hint, and others wait for a long step.
const FIELDS_PER_STEP_MAX: usize = 10_000;

/// Fields that one step looks at without COUNT.
const FIELDS_PER_STEP: usize = 10;

/// HSCAN key cursor [MATCH pattern] [COUNT count] [NOVALUES]
pub static HSCAN: Command = Command {
    spec: Spec {
        name: "hscan",
        summary: "Walks over the fields of a hash in small steps.",
        since: "2.8.0",
        group: Group::Hash,
        complexity: "O(COUNT) for each step, O(N) for a walk over N fields.",
        arity: -3,
        flags: Flags::READONLY,
        acl: Acl::HASH,
        keys: ACCESS_ONE,
        args: &[
            Arg::key("key", 0),
            Arg::integer("cursor"),
            Arg::pattern("pattern").token("MATCH").optional(),
            Arg::integer("count").token("COUNT").optional(),
            Arg::word("novalues", "NOVALUES").optional(),
        ],
        tips: &["nondeterministic_output"],
        ..Spec::EMPTY
    },
    run: Run::Keys(hscan),
    subcommands: &[],
};

struct Options<'a> {
    pattern: Option<&'a [u8]>,
    count: usize,
    with_values: bool,
}

impl<'a> Options<'a> {
    fn parse(args: &Args<'a>) -> Result<Options<'a>, Error> {
        let mut options = Options { pattern: None, count: FIELDS_PER_STEP, with_values: true };
        let mut index = 3;
        while index < args.len() {
            if args.is(index, b"novalues") {
                options.with_values = false;
                index += 1;
                continue;
            }
            let value = args.try_get(index + 1).ok_or(Error::Syntax)?;
            if args.is(index, b"count") {
                let number = number::parse_i64(value).ok_or(Error::NotAnInteger)?;
                if number < 1 {
                    return Err(Error::Syntax);
                }
                options.count = usize::try_from(number).unwrap_or(usize::MAX).min(FIELDS_PER_STEP_MAX);
            } else if args.is(index, b"match") {
                options.pattern = Some(value).filter(|pattern| !glob::is_match_all(pattern));
            } else {
                return Err(Error::Syntax);
            }
            index += 2;
        }
        Ok(options)
    }

    fn admits(&self, field: Element<'_>) -> bool {
        match (self.pattern, field) {
            (None, _) => true,
            (Some(pattern), Element::Bytes(field)) => glob::matches(pattern, field),
            (Some(pattern), Element::Int(_)) => glob::matches(pattern, &field.to_vec()),
        }
    }
}

fn hscan(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let cursor = parse_cursor(args.get(2)).ok_or(Error::InvalidCursor)?;
    let key = cx.key(args, 1);
    let now = cx.db.now_of_fields();
    let Some(hash) = cx.db.read_as::<Hash>(&key)? else {
        // As in Redis, options are only read when there is something to walk over.
        answer(cx, 0, &[], 0);
        return Ok(());
    };
    let options = Options::parse(args)?;
    let mut count = 0;
    let mut found = Vec::new();
    let next = hash.scan(cursor, options.count, now, |field, value| {
        if options.admits(field) {
            push(&mut found, field);
            count += 1;
            if options.with_values {
                push(&mut found, value);
                count += 1;
            }
        }
    });
    answer(cx, next, &found, count);
    Ok(())
}

/// Appends an element in the form of the reply.
fn push(found: &mut Vec<u8>, element: Element<'_>) {
    found.push(b'$');
    number::write_u64(found, element.len() as u64);
    found.extend_from_slice(b"\r\n");
    element.write_to(found);
    found.extend_from_slice(b"\r\n");
}

fn answer(cx: &mut Ctx<'_>, cursor: u64, encoded: &[u8], count: usize) {
    cx.reply.array(2);
    let mut text = Vec::with_capacity(20);
    number::write_u64(&mut text, cursor);
    cx.reply.bulk(&text);
    cx.reply.array(count);
    cx.reply.raw(encoded);
}
