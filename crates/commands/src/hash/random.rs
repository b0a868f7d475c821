//! HRANDFIELD: fields chosen by chance.

use super::{ACCESS_ONE, bulk};
use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::spec::{Acl, Arg, Command, Flags, Group, Run, Spec};
use larder_resp::Reply;
use larder_store::{Event, Hashed};
use larder_values::hash::Hash;
use larder_values::number;
use larder_values::packed::Element;

/// Fields whose time has come that one command removes, at most.
const REMOVED_MAX: usize = 1000;

/// Bytes of reply that one command makes, at most: with repetition, a count can ask for any number.
// Differs from Redis: it goes on until its memory is over.
const REPLY_BYTES_MAX: usize = 1 << 30;

/// HRANDFIELD key [count [WITHVALUES]]
pub static HRANDFIELD: Command = Command {
    spec: Spec {
        name: "hrandfield",
        summary: "Answers fields chosen by chance.",
        since: "6.2.0",
        group: Group::Hash,
        complexity: "O(N), N fields answered.",
        arity: -2,
        flags: Flags::READONLY,
        acl: Acl::HASH,
        keys: ACCESS_ONE,
        args: &[
            Arg::key("key", 0),
            Arg::block("options", &[Arg::integer("count"), Arg::word("withvalues", "WITHVALUES").optional()])
                .optional(),
        ],
        tips: &["nondeterministic_output"],
        ..Spec::EMPTY
    },
    run: Run::Keys(hrandfield),
    subcommands: &[],
};

fn hrandfield(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let key = cx.key(args, 1);
    if args.len() == 2 {
        return one(cx, &key);
    }
    let (count, with_values) = parse(args)?;
    let size = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    read(cx, &key)?;
    let now = cx.db.now_of_fields();
    let mut state = cx.db.local.random();
    let mut random = || step(&mut state);
    let hash = cx.db.peek_as::<Hash>(&key)?;
    let live = hash.map_or(0, |hash| hash.live(now));
    let mut pairs = Pairs { reply: &mut cx.reply, with_values };
    let Some(hash) = hash.filter(|_| live > 0) else {
        pairs.reply.array(0);
        return Ok(());
    };
    if count >= 0 {
        pairs.begin(size.min(live));
        hash.sample(size, now, &mut random, &mut |field, value| pairs.push(field, value));
        return Ok(());
    }
    if size.saturating_mul(8) > REPLY_BYTES_MAX {
        return Err(Error::OutOfRange);
    }
    pairs.begin(size);
    for _ in 0..size {
        if let Some((field, value)) = hash.random(now, &mut random) {
            pairs.push(field, value);
        }
    }
    Ok(())
}

fn one(cx: &mut Ctx<'_>, key: &Hashed<'_>) -> Result<(), Error> {
    read(cx, key)?;
    let now = cx.db.now_of_fields();
    let mut state = cx.db.local.random();
    let hash = cx.db.peek_as::<Hash>(key)?;
    match hash.and_then(|hash| hash.random(now, &mut || step(&mut state))) {
        Some((field, _)) => bulk(&mut cx.reply, field),
        None => cx.reply.null(),
    }
    Ok(())
}

/// Count and WITHVALUES.
fn parse(args: &Args<'_>) -> Result<(i64, bool), Error> {
    let count = number::parse_i64(args.get(2)).ok_or(Error::NotAnInteger)?;
    if count == i64::MIN {
        return Err(Error::of(
            "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
        ));
    }
    let with_values = args.len() > 3;
    if args.len() > 4 || (with_values && !args.is(3, b"withvalues")) {
        return Err(Error::Syntax);
    }
    if with_values && !(i64::MIN / 2..=i64::MAX / 2).contains(&count) {
        return Err(Error::of("ERR value is out of range"));
    }
    Ok((count, with_values))
}

/// Reads a hash, and removes fields whose time has come, so that chance meets few of them. What is left of it is another
/// look, and a hit whatever that is.
fn read(cx: &mut Ctx<'_>, key: &Hashed<'_>) -> Result<(), Error> {
    let now = cx.db.now_of_fields();
    if cx.db.read_as::<Hash>(key)?.is_none_or(|hash| hash.next_due() > now) {
        return Ok(());
    }
    let mut gone: Vec<Box<[u8]>> = Vec::new();
    let edited = cx.db.edit::<Hash, _>(key, |hash| {
        hash.expire_due(now, REMOVED_MAX, &mut |field| gone.push(field.into()))
    })?;
    if let Some(edited) = edited {
        let gone: Vec<&[u8]> = gone.iter().map(AsRef::as_ref).collect();
        super::announce::expired(cx, key, &gone);
        if edited.emptied {
            cx.db.notify(key, Event::DEL);
        }
    }
    Ok(())
}

/// The next of a row of random numbers (SplitMix64).
fn step(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Fields, or fields with values: nested in RESP3, flat in RESP2.
struct Pairs<'r, 'o> {
    reply: &'r mut Reply<'o>,
    with_values: bool,
}

impl Pairs<'_, '_> {
    fn begin(&mut self, count: usize) {
        let flat = self.with_values && !self.reply.is_resp3();
        self.reply.array(if flat { count * 2 } else { count });
    }

    fn push(&mut self, field: Element<'_>, value: Element<'_>) {
        if self.with_values && self.reply.is_resp3() {
            self.reply.array(2);
        }
        bulk(self.reply, field);
        if self.with_values {
            bulk(self.reply, value);
        }
    }
}
