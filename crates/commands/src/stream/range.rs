//! Reading a stream by ids: XRANGE, XREVRANGE; and XLEN.

use super::options::{self, range_end, range_start};
use super::{READS, STREAM, reply};
use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::spec::{Arg, Command, Flags, KeyFlags, KeySpec, Run, Spec};
use larder_values::stream::Stream;

/// XLEN key
pub static XLEN: Command = Command {
    spec: Spec {
        name: "xlen",
        summary: "Counts the entries of a stream.",
        arity: 2,
        flags: Flags::READONLY.or(Flags::FAST),
        keys: &[KeySpec::at(1, KeyFlags::RO)],
        args: &[Arg::key("key", 0)],
        ..STREAM
    },
    run: Run::Keys(xlen),
    subcommands: &[],
};

fn xlen(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let key = cx.key(args, 1);
    let len = cx.db.read_as::<Stream>(&key)?.map_or(0, Stream::len);
    cx.reply.count(usize::try_from(len).unwrap_or(usize::MAX));
    Ok(())
}

const RANGE: Spec = Spec {
    complexity: "O(N) for N entries answered.",
    arity: -4,
    flags: Flags::READONLY,
    keys: READS,
    history: &[("6.2.0", "Ranges without their ends.")],
    ..STREAM
};

const COUNT: Arg = Arg::integer("count").token("COUNT").optional();

/// XRANGE key start end [COUNT count]
pub static XRANGE: Command = Command {
    spec: Spec {
        name: "xrange",
        summary: "Answers the entries between two ids.",
        args: &[Arg::key("key", 0), Arg::string("start"), Arg::string("end"), COUNT],
        ..RANGE
    },
    run: Run::Keys(|cx, args| range(cx, args, false)),
    subcommands: &[],
};

/// XREVRANGE key end start [COUNT count]
pub static XREVRANGE: Command = Command {
    spec: Spec {
        name: "xrevrange",
        summary: "Answers the entries between two ids, the last one first.",
        args: &[Arg::key("key", 0), Arg::string("end"), Arg::string("start"), COUNT],
        ..RANGE
    },
    run: Run::Keys(|cx, args| range(cx, args, true)),
    subcommands: &[],
};

fn range(cx: &mut Ctx<'_>, args: &Args<'_>, backwards: bool) -> Result<(), Error> {
    let (start, end) = if backwards { (3, 2) } else { (2, 3) };
    let (start, end) = (range_start(args.get(start))?, range_end(args.get(end))?);
    let mut count = u64::MAX;
    let mut index = 4;
    while index < args.len() {
        let value = args.try_get(index + 1).filter(|_| args.is(index, b"count")).ok_or(Error::Syntax)?;
        count = u64::try_from(options::integer(value)?).unwrap_or(0);
        index += 2;
    }
    let key = cx.key(args, 1);
    let Some(stream) = cx.db.read_as::<Stream>(&key)? else {
        cx.reply.array(0);
        return Ok(());
    };
    if count == 0 {
        cx.reply.null_array();
        return Ok(());
    }
    let forwards = stream.entries(start, end);
    let count = forwards.count_up_to(count);
    if backwards {
        reply::entries(&mut cx.reply, count, stream.entries_backwards(start, end));
    } else {
        reply::entries(&mut cx.reply, count, forwards);
    }
    Ok(())
}
