//! Taking elements from an end: LPOP, RPOP, and LMPOP from the first list of several that has some.

use super::{ReplyElement, announce_taken, end, end_arg, limit};
use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::spec::{Acl, Arg, Command, Flags, Group, KeyFlags, KeySpec, Run, Spec};
use larder_store::Hashed;
use larder_values::list::{End, List};
use larder_values::number;

const SPEC: Spec = Spec {
    group: Group::List,
    complexity: "O(N), N elements taken.",
    arity: -2,
    flags: Flags::WRITE.or(Flags::FAST),
    acl: Acl::LIST,
    keys: &[KeySpec::at(1, TAKEN)],
    args: &[Arg::key("key", 0), Arg::integer("count").optional().since("6.2.0")],
    history: &[("6.2.0", "Takes `count`.")],
    ..Spec::EMPTY
};

/// What a command does with a key from which it takes.
pub(super) const TAKEN: KeyFlags = KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::DELETE);

/// `LPOP key [count]`
pub static LPOP: Command = Command {
    spec: Spec { name: "lpop", summary: "Takes the first elements of a list.", since: "1.0.0", ..SPEC },
    run: Run::Keys(|cx, args| pop(cx, args, End::Head, "lpop")),
    subcommands: &[],
};

/// `RPOP key [count]`
pub static RPOP: Command = Command {
    spec: Spec { name: "rpop", summary: "Takes the last elements of a list.", since: "1.0.0", ..SPEC },
    run: Run::Keys(|cx, args| pop(cx, args, End::Tail, "rpop")),
    subcommands: &[],
};

fn pop(cx: &mut Ctx<'_>, args: &Args<'_>, end: End, name: &str) -> Result<(), Error> {
    let key = cx.key(args, 1);
    if args.len() == 2 {
        if !pop_one(cx, &key, end)? {
            cx.reply.null();
        }
        return Ok(());
    }
    if args.len() > 3 {
        return Err(Error::arity(name));
    }
    let count = number::parse_i64(args.get(2)).and_then(|count| usize::try_from(count).ok());
    let count = count.ok_or(Error::of("ERR value is out of range, must be positive"))?;
    if count == 0 {
        match cx.db.peek_as::<List>(&key)? {
            Some(_) => cx.reply.array(0),
            None => cx.reply.null_array(),
        }
        return Ok(());
    }
    if !pop_some(cx, &key, end, count)? {
        cx.reply.null_array();
    }
    Ok(())
}

/// Takes one element and answers it; false, with nothing answered, if there is no list.
#[inline]
pub(super) fn pop_one(cx: &mut Ctx<'_>, key: &Hashed<'_>, end: End) -> Result<bool, Error> {
    let (limit, reply) = (limit(cx.limits), &mut cx.reply);
    let edited = cx.db.edit::<List, _>(key, |list| {
        list.pop(limit, end, 1, |element| reply.element(element));
    })?;
    let Some(edited) = edited else { return Ok(false) };
    announce_taken(cx, key, end, 1, edited.emptied);
    Ok(true)
}

/// Takes up to `count` elements and answers an array of them; false, with nothing answered, if there is no list.
fn pop_some(cx: &mut Ctx<'_>, key: &Hashed<'_>, end: End, count: usize) -> Result<bool, Error> {
    let (limit, reply) = (limit(cx.limits), &mut cx.reply);
    let edited = cx.db.edit::<List, _>(key, |list| {
        reply.array(count.min(list.len()));
        list.pop(limit, end, count, |element| reply.element(element))
    })?;
    let Some(edited) = edited else { return Ok(false) };
    announce_taken(cx, key, end, edited.value, edited.emptied);
    Ok(true)
}

/// `LMPOP numkeys key [key ...] <LEFT | RIGHT> [COUNT count]`
pub static LMPOP: Command = Command {
    spec: Spec {
        name: "lmpop",
        summary: "Takes elements from the first of several lists that has some.",
        since: "7.0.0",
        group: Group::List,
        complexity: "O(N + M), N keys and M elements taken.",
        arity: -4,
        flags: Flags::WRITE,
        acl: Acl::LIST,
        keys: &[KeySpec::counted(1, TAKEN)],
        args: &[
            Arg::integer("numkeys"),
            Arg::key("key", 0).multiple(),
            end_arg("where"),
            Arg::integer("count").token("COUNT").optional(),
        ],
        ..Spec::EMPTY
    },
    run: Run::Keys(lmpop),
    subcommands: &[],
};

fn lmpop(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let plan = ManyKeys::parse(args, 1)?;
    if !plan.pop(cx, args, |_, _| true)? {
        cx.reply.null_array();
    }
    Ok(())
}

/// Where LMPOP and BLMPOP take elements from, and how many.
pub(super) struct ManyKeys {
    /// The words that are keys.
    pub(super) keys: std::ops::Range<usize>,
    end: End,
    count: usize,
}

impl ManyKeys {
    /// Reads the words from the number of keys on.
    pub(super) fn parse(args: &Args<'_>, number_at: usize) -> Result<ManyKeys, Error> {
        let keys =
            number_from_one(args.get(number_at)).ok_or(Error::of("ERR numkeys should be greater than 0"))?;
        let first = number_at + 1;
        let behind = first.checked_add(keys).filter(|&behind| behind < args.len()).ok_or(Error::Syntax)?;
        let end = end(args, behind)?;
        let count = match args.len() - behind - 1 {
            0 => 1,
            _ if !args.is(behind + 1, b"count") => return Err(Error::Syntax),
            1 => return Err(Error::Syntax),
            words => {
                let count = number_from_one(args.get(behind + 2))
                    .ok_or(Error::of("ERR count should be greater than 0"))?;
                if words > 2 {
                    return Err(Error::Syntax);
                }
                count
            }
        };
        Ok(ManyKeys { keys: first..behind, end, count })
    }

    /// Takes from the first list that `may` admits, and answers its key and the elements; false, with
    /// nothing answered, if there is none.
    pub(super) fn pop(
        &self,
        cx: &mut Ctx<'_>,
        args: &Args<'_>,
        may: impl Fn(&mut Ctx<'_>, &Hashed<'_>) -> bool,
    ) -> Result<bool, Error> {
        for index in self.keys.clone() {
            let key = cx.key(args, index);
            if !may(cx, &key) || cx.db.peek_as::<List>(&key)?.is_none() {
                continue;
            }
            let len = cx.db.peek_as::<List>(&key)?.map_or(0, |list| list.len());
            cx.reply.array(2);
            cx.reply.bulk(key.bytes);
            cx.log_pop(pop_name(self.end), key.bytes, Some(self.count.min(len)));
            return pop_some(cx, &key, self.end, self.count);
        }
        Ok(false)
    }
}

/// The command that takes from an end.
pub(super) fn pop_name(end: End) -> &'static [u8] {
    match end {
        End::Head => b"LPOP",
        End::Tail => b"RPOP",
    }
}

fn number_from_one(text: &[u8]) -> Option<usize> {
    number::parse_i64(text).and_then(|number| usize::try_from(number).ok()).filter(|&number| number > 0)
}
