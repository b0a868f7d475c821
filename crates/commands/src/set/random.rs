//! Members by chance: SPOP takes them out, SRANDMEMBER looks at them.

use super::{answer_member, limits};
use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::spec::{Acl, Arg, Command, Flags, Group, KeyFlags, KeySpec, Run, Spec};
use larder_store::{Event, Hashed};
use larder_values::index::Draws;
use larder_values::number;
use larder_values::set::{Set, View};

/// SPOP key [count]
pub static SPOP: Command = Command {
    spec: Spec {
        name: "spop",
        summary: "Takes members out of a set by chance; an emptied set is removed.",
        since: "1.0.0",
        group: Group::Set,
        complexity: "O(1) without a count, else O(N) where N is the count.",
        arity: -2,
        flags: Flags::WRITE.or(Flags::FAST),
        acl: Acl::SET,
        keys: &[KeySpec::at(1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::DELETE))],
        args: &[Arg::key("key", 0), Arg::integer("count").optional().since("3.2.0")],
        tips: &["nondeterministic_output"],
        history: &[("3.2.0", "Takes a count.")],
        ..Spec::EMPTY
    },
    run: Run::Keys(spop),
    subcommands: &[],
};

fn spop(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let key = cx.key(args, 1);
    match args.len() {
        2 => pop_one(cx, &key),
        3 => {
            let count = number::parse_i64(args.get(2)).and_then(|count| usize::try_from(count).ok());
            let count = count.ok_or(Error::of("ERR value is out of range, must be positive"))?;
            pop_many(cx, &key, count)
        }
        _ => Err(Error::Syntax),
    }
}

/// Members that were taken out are logged by commands of so many at most.
const MEMBERS_LOGGED_MAX: usize = 1024;

fn pop_one(cx: &mut Ctx<'_>, key: &Hashed<'_>) -> Result<(), Error> {
    let random = cx.db.local.random();
    let mut gone = Vec::new();
    let edited = cx.db.edit::<Set, _>(key, |set| {
        set.pop(random, |member| {
            answer_member(&mut cx.reply, member);
            member.write_to(&mut gone);
        });
    })?;
    match edited {
        None => cx.reply.null(),
        Some(edited) => {
            cx.db.changed(key, Event::SPOP);
            cx.log_instead([b"SREM", key.bytes, &gone]);
            if edited.emptied {
                cx.db.notify(key, Event::DEL);
            }
        }
    }
    Ok(())
}

fn pop_many(cx: &mut Ctx<'_>, key: &Hashed<'_>, count: usize) -> Result<(), Error> {
    let Some(set) = cx.db.peek_as::<Set>(key)? else {
        cx.reply.set(0);
        return Ok(());
    };
    if count >= set.len() {
        let len = set.len();
        cx.reply.set(len);
        set.for_each(|member| answer_member(&mut cx.reply, member));
        cx.db.remove(key);
        cx.db.changed_times(key, Event::SPOP, len as u64);
        cx.db.notify(key, Event::DEL);
        cx.log_removal(key.bytes, cx.db.local.lazy_free.replaced);
        return Ok(());
    }
    cx.reply.set(count);
    if count == 0 {
        cx.db.touch(key);
        return Ok(());
    }
    let limits = limits(cx.limits);
    let mut draws = Draws::new(cx.db.local.random());
    let is_logged = cx.is_logged();
    let mut gone: Vec<Vec<u8>> = Vec::new();
    cx.db.edit::<Set, _>(key, |set| {
        set.pop_many(count, &mut draws, &limits, |member| {
            answer_member(&mut cx.reply, member);
            if is_logged {
                gone.push(member.to_vec());
            }
        });
    })?;
    if is_logged {
        let db = cx.db.index();
        for batch in gone.chunks(MEMBERS_LOGGED_MAX) {
            let words: Vec<&[u8]> =
                [&b"SREM"[..], key.bytes].into_iter().chain(batch.iter().map(Vec::as_slice)).collect();
            cx.log().also_all(db, words.into_iter());
        }
        cx.log().nothing();
    }
    cx.db.changed_times(key, Event::SPOP, count as u64);
    Ok(())
}

/// SRANDMEMBER key [count]
pub static SRANDMEMBER: Command = Command {
    spec: Spec {
        name: "srandmember",
        summary: "Answers members of a set by chance.",
        since: "1.0.0",
        group: Group::Set,
        complexity: "O(1) without a count, else O(N) where N is the count without its sign.",
        arity: -2,
        flags: Flags::READONLY,
        acl: Acl::SET,
        keys: &[KeySpec::at(1, KeyFlags::RO.or(KeyFlags::ACCESS))],
        args: &[Arg::key("key", 0), Arg::integer("count").optional().since("2.6.0")],
        tips: &["nondeterministic_output"],
        history: &[("2.6.0", "Takes a count.")],
        ..Spec::EMPTY
    },
    run: Run::Keys(srandmember),
    subcommands: &[],
};

fn srandmember(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let key = cx.key(args, 1);
    let random = cx.db.local.random();
    let count = match args.len() {
        2 => None,
        3 => Some(parse_count(args.get(2))?),
        _ => return Err(Error::Syntax),
    };
    let set = cx.db.read_as::<Set>(&key)?;
    let Some(count) = count else {
        match set.and_then(|set| set.random(random)) {
            Some(member) => answer_member(&mut cx.reply, member),
            None => cx.reply.null(),
        }
        return Ok(());
    };
    let (Some(set), false) = (set, count == 0) else {
        cx.reply.array(0);
        return Ok(());
    };
    let mut draws = Draws::new(random);
    if count < 0 {
        return draw(cx.limits.string_bytes_max, &mut cx.reply, set, count, &mut draws);
    }
    let count = usize::try_from(count).unwrap_or(usize::MAX).min(set.len());
    cx.reply.array(count);
    set.sample(count, &mut draws, |member| answer_member(&mut cx.reply, member));
    Ok(())
}

fn parse_count(text: &[u8]) -> Result<i64, Error> {
    match number::parse_i64(text).ok_or(Error::NotAnInteger)? {
        i64::MIN => Err(Error::of(
            "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
        )),
        count => Ok(count),
    }
}

/// Members that may come several times.
// Differs from Redis: a count whose answer would be longer than proto-max-bulk-len is refused; Redis
// answers until memory is at its end.
fn draw(
    bytes_max: usize,
    reply: &mut larder_resp::Reply<'_>,
    set: View<'_>,
    count: i64,
    draws: &mut Draws,
) -> Result<(), Error> {
    const BYTES_MIN: usize = 6;
    let count = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    let shortest = count.checked_mul(BYTES_MIN).is_some_and(|bytes| bytes <= bytes_max);
    let longest = || {
        let mut longest = 0;
        set.for_each(|member| longest = member.len().max(longest));
        longest
    };
    // Members are looked at only where the answer might be long.
    let fits = shortest && (count <= 1_000 || count.saturating_mul(longest()) <= bytes_max);
    if !fits {
        return Err(Error::of("ERR value is out of range"));
    }
    reply.array(count);
    set.draw(count, draws, |member| answer_member(reply, member));
    Ok(())
}
