//! What was delivered and is not acknowledged: XPENDING.

use super::options::{integer, range_end, range_start};
use super::{READS, STREAM, no_group, now_ms, reply};
use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::spec::{Arg, Command, Flags, Run, Spec};
use larder_resp::Reply;
use larder_values::stream::{Group, Pending, Stream, StreamId};

/// XPENDING key group [[IDLE min-idle-time] start end count [consumer]]
pub static XPENDING: Command = Command {
    spec: Spec {
        name: "xpending",
        summary: "Tells what was delivered to a group and is not acknowledged.",
        complexity: "O(N) for N entries looked at; O(N) for N consumers where no range is given.",
        arity: -3,
        flags: Flags::READONLY,
        keys: READS,
        args: &[
            Arg::key("key", 0),
            Arg::string("group"),
            Arg::block(
                "filters",
                &[
                    Arg::integer("min-idle-time").token("IDLE").optional().since("6.2.0"),
                    Arg::string("start"),
                    Arg::string("end"),
                    Arg::integer("count"),
                    Arg::string("consumer").optional(),
                ],
            )
            .optional(),
        ],
        tips: &["nondeterministic_output"],
        history: &[("6.2.0", "Option `IDLE`, and ranges without their ends.")],
        ..STREAM
    },
    run: Run::Keys(xpending),
    subcommands: &[],
};

/// Which pending entries are asked for.
struct Filter<'a> {
    idle_ms_min: i64,
    start: StreamId,
    end: StreamId,
    count: usize,
    consumer: Option<&'a [u8]>,
}

impl<'a> Filter<'a> {
    /// Nothing where only the summary is asked for.
    fn parse(args: &Args<'a>) -> Result<Option<Filter<'a>>, Error> {
        if args.len() == 3 {
            return Ok(None);
        }
        if !(6..=9).contains(&args.len()) {
            return Err(Error::Syntax);
        }
        let (mut idle_ms_min, mut at) = (0, 3);
        if args.is(3, b"idle") {
            idle_ms_min = integer(args.get(4))?;
            if args.len() < 8 {
                return Err(Error::Syntax);
            }
            at = 5;
        }
        let count = usize::try_from(integer(args.get(at + 2))?).unwrap_or(0);
        let (start, end) = (range_start(args.get(at))?, range_end(args.get(at + 1))?);
        Ok(Some(Filter { idle_ms_min, start, end, count, consumer: args.try_get(at + 3) }))
    }
}

fn xpending(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let filter = Filter::parse(args)?;
    let (key, now_ms) = (cx.key(args, 1), now_ms(cx));
    let stream = cx.db.read_as::<Stream>(&key)?;
    let group = stream.and_then(|stream| stream.group(args.get(2)));
    let group = group.ok_or_else(|| no_group(key.bytes, args.get(2)))?;
    match filter {
        None => answer_summary(&mut cx.reply, group),
        Some(filter) => answer_range(&mut cx.reply, group, &filter, now_ms),
    }
    Ok(())
}

fn answer_summary(reply: &mut Reply<'_>, group: &Group) {
    reply.array(4);
    reply.count(group.pending_len());
    let mut all = group.pending_in(StreamId::MIN, StreamId::MAX);
    let Some((first, _)) = all.next() else {
        reply.null();
        reply.null();
        reply.null_array();
        return;
    };
    reply::id(reply, first);
    reply::id(reply, all.next_back().map_or(first, |(last, _)| last));
    let with_pending = || group.consumers().filter(|(_, consumer)| consumer.pending_len() > 0);
    reply.array(with_pending().count());
    for (_, consumer) in with_pending() {
        reply.array(2);
        reply.bulk(consumer.name());
        reply.bulk_integer(i64::try_from(consumer.pending_len()).unwrap_or(i64::MAX));
    }
}

fn answer_range(reply: &mut Reply<'_>, group: &Group, filter: &Filter<'_>, now_ms: i64) {
    let is_idle = |pending: &Pending| {
        filter.idle_ms_min == 0 || now_ms.saturating_sub(pending.delivered_ms) >= filter.idle_ms_min
    };
    let found: Vec<(StreamId, Pending)> = if filter.start > filter.end {
        Vec::new()
    } else if let Some(name) = filter.consumer {
        let ids = group.consumer(name).into_iter();
        let ids = ids.flat_map(|consumer| group.pending_of(consumer, filter.start, filter.end));
        let pending = ids.filter_map(|id| group.pending(id).map(|pending| (id, pending)));
        pending.filter(|(_, pending)| is_idle(pending)).take(filter.count).collect()
    } else {
        let pending = group.pending_in(filter.start, filter.end);
        pending.filter(|(_, pending)| is_idle(pending)).take(filter.count).collect()
    };
    reply.array(found.len());
    for (id, pending) in found {
        reply.array(4);
        reply::id(reply, id);
        reply.bulk(group.get(pending.consumer).name());
        reply.integer(now_ms.saturating_sub(pending.delivered_ms).max(0));
        reply.integer(pending.deliveries as i64);
    }
}
