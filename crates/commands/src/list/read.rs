//! Looking at a list: LLEN, LINDEX, LRANGE, LPOS.

use super::{ReplyElement, index_of, integer, range_of};
use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::spec::{Acl, Arg, Command, Flags, Group, KeyFlags, KeySpec, Run, Spec};
use larder_resp::Reply;
use larder_values::list::{End, List, ListView};
use larder_values::number;

const SPEC: Spec = Spec {
    since: "1.0.0",
    group: Group::List,
    flags: Flags::READONLY,
    acl: Acl::LIST,
    keys: &[KeySpec::at(1, KeyFlags::RO.or(KeyFlags::ACCESS))],
    ..Spec::EMPTY
};

/// `LLEN key`
pub static LLEN: Command = Command {
    spec: Spec {
        name: "llen",
        summary: "Answers how many elements a list has.",
        complexity: "O(1)",
        arity: 2,
        flags: Flags::READONLY.or(Flags::FAST),
        keys: &[KeySpec::at(1, KeyFlags::RO)],
        args: &[Arg::key("key", 0)],
        ..SPEC
    },
    run: Run::Keys(llen),
    subcommands: &[],
};

fn llen(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let key = cx.key(args, 1);
    let len = cx.db.read_as::<List>(&key)?.map_or(0, ListView::len);
    cx.reply.count(len);
    Ok(())
}

/// `LINDEX key index`
pub static LINDEX: Command = Command {
    spec: Spec {
        name: "lindex",
        summary: "Answers the element of a list at an index.",
        complexity: "O(N), N chunks between the index and the nearer end.",
        arity: 3,
        args: &[Arg::key("key", 0), Arg::integer("index")],
        ..SPEC
    },
    run: Run::Keys(lindex),
    subcommands: &[],
};

fn lindex(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let key = cx.key(args, 1);
    let Some(list) = cx.db.read_as::<List>(&key)? else {
        // As in Redis, the index is only judged when there is a list.
        cx.reply.null();
        return Ok(());
    };
    let index = index_of(integer(args, 2)?, list.len());
    let answered = index.and_then(|index| list.look_at(index, |element| cx.reply.element(element)));
    if answered.is_none() {
        cx.reply.null();
    }
    Ok(())
}

/// `LRANGE key start stop`
pub static LRANGE: Command = Command {
    spec: Spec {
        name: "lrange",
        summary: "Answers the elements of a list between two indexes, both included.",
        complexity: "O(C + N), C chunks between the first index and the nearer end, N elements answered.",
        arity: 4,
        args: &[Arg::key("key", 0), Arg::integer("start"), Arg::integer("stop")],
        ..SPEC
    },
    run: Run::Keys(lrange),
    subcommands: &[],
};

fn lrange(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let (start, stop) = (integer(args, 2)?, integer(args, 3)?);
    let key = cx.key(args, 1);
    let Some(list) = cx.db.read_as::<List>(&key)? else {
        cx.reply.array(0);
        return Ok(());
    };
    let (first, end) = range_of(start, stop, list.len());
    cx.reply.array(end - first);
    list.for_each(first, end - first, |element| cx.reply.element(element));
    Ok(())
}

/// `LPOS key element [RANK rank] [COUNT num-matches] [MAXLEN len]`
pub static LPOS: Command = Command {
    spec: Spec {
        name: "lpos",
        summary: "Answers at which indexes of a list an element stands.",
        since: "6.0.6",
        complexity: "O(N), N elements looked at.",
        arity: -3,
        args: &[
            Arg::key("key", 0),
            Arg::string("element"),
            Arg::integer("rank").token("RANK").optional(),
            Arg::integer("num-matches").token("COUNT").optional(),
            Arg::integer("len").token("MAXLEN").optional(),
        ],
        ..SPEC
    },
    run: Run::Keys(lpos),
    subcommands: &[],
};

/// What LPOS was asked for.
struct Search<'a> {
    element: &'a [u8],
    /// Where it begins.
    from: End,
    /// Matches passed over.
    skip: usize,
    /// Most matches answered, where an array of them is wanted.
    count: Option<usize>,
    /// Most elements looked at.
    looked_at_max: usize,
}

impl<'a> Search<'a> {
    fn parse(args: &Args<'a>) -> Result<Search<'a>, Error> {
        let mut search =
            Search { element: args.get(2), from: End::Head, skip: 0, count: None, looked_at_max: usize::MAX };
        let mut index = 3;
        while index < args.len() {
            let Some(value) = args.try_get(index + 1) else { return Err(Error::Syntax) };
            if args.is(index, b"rank") {
                search.set_rank(value)?;
            } else if args.is(index, b"count") {
                search.count = Some(unlimited_if_zero(value, "ERR COUNT can't be negative")?);
            } else if args.is(index, b"maxlen") {
                search.looked_at_max = unlimited_if_zero(value, "ERR MAXLEN can't be negative")?;
            } else {
                return Err(Error::Syntax);
            }
            index += 2;
        }
        Ok(search)
    }

    fn set_rank(&mut self, text: &[u8]) -> Result<(), Error> {
        let rank = number::parse_i64(text).ok_or(Error::NotAnInteger)?;
        if rank == i64::MIN {
            return Err(OUT_OF_RANGE);
        }
        if rank == 0 {
            return Err(Error::of(
                "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... \
                 or use negative to start from the end of the list",
            ));
        }
        self.from = if rank < 0 { End::Tail } else { End::Head };
        self.skip = usize::try_from(rank.unsigned_abs() - 1).unwrap_or(usize::MAX);
        Ok(())
    }

    /// The indexes that match, at most `count` of them, in the order in which they are met.
    fn run(&self, list: ListView<'_>, count: usize) -> Vec<usize> {
        let (len, mut skip, mut seen, mut found) = (list.len(), self.skip, 0, Vec::new());
        list.walk(self.from, |element| {
            if element.is(self.element) {
                match skip.checked_sub(1) {
                    Some(less) => skip = less,
                    None => found.push(if self.from == End::Head { seen } else { len - 1 - seen }),
                }
            }
            seen += 1;
            found.len() < count && seen < self.looked_at_max
        });
        found
    }
}

/// An integer that Redis refuses because its negative is none.
pub(super) const OUT_OF_RANGE: Error =
    Error::of("ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807");

fn unlimited_if_zero(text: &[u8], message: &'static str) -> Result<usize, Error> {
    let number = number::parse_i64(text).and_then(|number| usize::try_from(number).ok());
    match number.ok_or(Error::of(message))? {
        0 => Ok(usize::MAX),
        number => Ok(number),
    }
}

fn lpos(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let search = Search::parse(args)?;
    let key = cx.key(args, 1);
    let list = cx.db.read_as::<List>(&key)?;
    match search.count {
        None => match list.and_then(|list| search.run(list, 1).first().copied()) {
            Some(index) => cx.reply.count(index),
            None => cx.reply.null(),
        },
        Some(count) => {
            let found = list.map(|list| search.run(list, count)).unwrap_or_default();
            write_indexes(&mut cx.reply, &found);
        }
    }
    Ok(())
}

fn write_indexes(reply: &mut Reply<'_>, indexes: &[usize]) {
    reply.array(indexes.len());
    indexes.iter().for_each(|&index| reply.count(index));
}
