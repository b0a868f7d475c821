//! Taking over what another consumer did not acknowledge: XCLAIM, XAUTOCLAIM.

use super::options::{range_start, strict_id};
use super::read::{Claimed, meet};
use super::{DELETES, STREAM, UPDATES, WRITE_FAST, group_changed, no_group, now_ms, reply, told};
use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::logged::Digits;
use crate::spec::{Arg, Command, Run, Spec};
use larder_resp::Reply;
use larder_store::Hashed;
use larder_values::number;
use larder_values::stream::{ConsumerId, Pending, Stream, StreamId};

/// XCLAIM key group consumer min-idle-time id [id ...] [IDLE ms] [TIME unix-time-milliseconds]
/// [RETRYCOUNT count] [FORCE] [JUSTID] [LASTID lastid]
pub static XCLAIM: Command = Command {
    spec: Spec {
        name: "xclaim",
        summary: "Makes a consumer the owner of pending entries, as if they were delivered to it.",
        complexity: "O(log N) for each entry, N pending ones.",
        arity: -6,
        flags: WRITE_FAST,
        keys: UPDATES,
        args: &[
            Arg::key("key", 0),
            Arg::string("group"),
            Arg::string("consumer"),
            Arg::string("min-idle-time"),
            Arg::string("id").multiple(),
            Arg::integer("ms").token("IDLE").optional(),
            Arg::unix_time("unix-time-milliseconds").token("TIME").optional(),
            Arg::integer("count").token("RETRYCOUNT").optional(),
            Arg::word("force", "FORCE").optional(),
            Arg::word("justid", "JUSTID").optional(),
            Arg::string("lastid").token("LASTID").optional(),
        ],
        tips: &["nondeterministic_output"],
        ..STREAM
    },
    run: Run::Keys(xclaim),
    subcommands: &[],
};

/// XAUTOCLAIM key group consumer min-idle-time start [COUNT count] [JUSTID]
pub static XAUTOCLAIM: Command = Command {
    spec: Spec {
        name: "xautoclaim",
        summary: "Makes a consumer the owner of entries that have been pending for long.",
        since: "6.2.0",
        complexity: "O(N log M) for N pending entries looked at, ten times the count at most; M pending ones.",
        arity: -6,
        flags: WRITE_FAST,
        keys: DELETES,
        args: &[
            Arg::key("key", 0),
            Arg::string("group"),
            Arg::string("consumer"),
            Arg::string("min-idle-time"),
            Arg::string("start"),
            Arg::integer("count").token("COUNT").optional(),
            Arg::word("justid", "JUSTID").optional(),
        ],
        tips: &["nondeterministic_output"],
        history: &[("7.0.0", "Answers also which pending entries were gone from the stream.")],
        ..STREAM
    },
    run: Run::Keys(xautoclaim),
    subcommands: &[],
};

/// How entries are claimed.
struct Claim {
    idle_ms_min: i64,
    delivered_ms: i64,
    deliveries: Option<u64>,
    force: bool,
    only_ids: bool,
    last_id: StreamId,
}

impl Claim {
    /// Reads ids from word 5 on, up to the first word that is none, and the options behind them.
    fn parse(args: &Args<'_>, idle_ms_min: i64, now_ms: i64) -> Result<(Claim, Vec<StreamId>), Error> {
        let ids: Vec<StreamId> = args.from(5).map_while(|text| StreamId::parse_strict(text, 0)).collect();
        let mut claim = Claim {
            idle_ms_min,
            delivered_ms: -1,
            deliveries: None,
            force: false,
            only_ids: false,
            last_id: StreamId::MIN,
        };
        let mut index = 5 + ids.len();
        while index < args.len() {
            index += claim.option(args, index, now_ms)?;
        }
        // A time that makes no sense is taken for now, as Redis does.
        if !(0..=now_ms).contains(&claim.delivered_ms) {
            claim.delivered_ms = now_ms;
        }
        Ok((claim, ids))
    }

    /// Reads the option at `index`; answers how many words it has.
    fn option(&mut self, args: &Args<'_>, index: usize, now_ms: i64) -> Result<usize, Error> {
        if args.is(index, b"force") {
            self.force = true;
            return Ok(1);
        }
        if args.is(index, b"justid") {
            self.only_ids = true;
            return Ok(1);
        }
        let value = args.try_get(index + 1);
        match value {
            Some(value) if args.is(index, b"idle") => {
                let idle_ms = number::parse_i64(value);
                let invalid = Error::of("ERR Invalid IDLE option argument for XCLAIM");
                self.delivered_ms = now_ms.saturating_sub(idle_ms.ok_or(invalid)?);
            }
            Some(value) if args.is(index, b"time") => {
                let at_ms = number::parse_i64(value);
                self.delivered_ms = at_ms.ok_or(Error::of("ERR Invalid TIME option argument for XCLAIM"))?;
            }
            Some(value) if args.is(index, b"retrycount") => {
                let count = number::parse_i64(value);
                let count = count.ok_or(Error::of("ERR Invalid RETRYCOUNT option argument for XCLAIM"))?;
                self.deliveries = u64::try_from(count).ok();
            }
            Some(value) if args.is(index, b"lastid") => self.last_id = strict_id(value)?,
            _ => {
                let text = [b"ERR Unrecognized XCLAIM option '", told(args.get(index)), b"'"].concat();
                return Err(Error::custom(text));
            }
        }
        Ok(2)
    }
}

/// The key at word 1, with the group at word 2 in it.
fn find_group<'k>(cx: &mut Ctx<'_>, args: &Args<'k>) -> Result<Hashed<'k>, Error> {
    let key = cx.key(args, 1);
    let stream = cx.db.read_as::<Stream>(&key)?;
    match stream.and_then(|stream| stream.group(args.get(2))) {
        Some(_) => Ok(key),
        None => Err(no_group(key.bytes, args.get(2))),
    }
}

fn xclaim(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let (key, now_ms) = (find_group(cx, args)?, now_ms(cx));
    let idle_ms_min = number::parse_i64(args.get(4));
    let idle_ms_min = idle_ms_min.ok_or(Error::of("ERR Invalid min-idle-time argument for XCLAIM"))?;
    let (claim, ids) = Claim::parse(args, idle_ms_min, now_ms)?;
    let group = args.get(2);
    let Some(consumer) = meet(cx, &key, group, args.get(3))? else { return Ok(()) };
    let (is_logged, mut told) = (cx.is_logged(), Vec::new());
    let changes = cx.db.edit::<Stream, _>(&key, |stream| {
        let mut told_last_id = true;
        if let Some(group) = stream.group_mut(group)
            && claim.last_id > group.last_id()
        {
            group.advance_last_id(claim.last_id);
            told_last_id = false;
        }
        let (mut claimed, mut changes) = (Vec::new(), 0);
        for id in ids {
            let before = is_logged.then(|| Told::of(stream, group, id)).flatten();
            let outcome = claim_one(stream, group, consumer, id, &claim, now_ms);
            match outcome {
                Outcome::Claimed => claimed.push(id),
                Outcome::Gone => {}
                Outcome::Left => continue,
            }
            if is_logged {
                told.extend(Told::after(stream, group, id, before, args.get(3)));
            }
            changes += 1;
            told_last_id = true;
        }
        answer_claimed(&mut cx.reply, stream, &claimed, claim.only_ids);
        changes + u64::from(!told_last_id)
    })?;
    let changes = changes.map_or(0, |edited| edited.value);
    if changes > 0 {
        group_changed(cx, &key, changes, None);
    }
    if is_logged {
        let is_last_id_told = !told.is_empty() || changes == 0;
        log(cx, &key, group, told, is_last_id_told)?;
    }
    Ok(())
}

/// What is logged of an entry that was claimed, or found to be gone: whose it is, and what is known of it.
struct Told {
    consumer: Vec<u8>,
    claimed: Claimed,
}

impl Told {
    /// What a pending entry is now.
    fn of(stream: &Stream, group: &[u8], id: StreamId) -> Option<Told> {
        let found = stream.group(group)?;
        let consumer = found.get(found.pending(id)?.consumer).name().to_vec();
        Some(Told { consumer, claimed: Claimed::of(stream, group, id, found.last_id())? })
    }

    /// What it is now, or was before if it is no longer pending.
    fn after(stream: &Stream, group: &[u8], id: StreamId, before: Option<Told>, name: &[u8]) -> Option<Told> {
        let last_id = stream.group(group)?.last_id();
        match Claimed::of(stream, group, id, last_id) {
            Some(claimed) => Some(Told { consumer: name.to_vec(), claimed }),
            None => before,
        }
    }
}

/// Logs claims, one by one.
#[cold]
fn log(
    cx: &mut Ctx<'_>,
    key: &Hashed<'_>,
    group: &[u8],
    told: Vec<Told>,
    is_last_id_told: bool,
) -> Result<(), Error> {
    cx.log().nothing();
    for told in told {
        told.claimed.log(cx, key, group, &told.consumer);
    }
    if !is_last_id_told
        && let Some(stream) = cx.db.peek_as::<Stream>(key)?
        && let Some(found) = stream.group(group)
    {
        let (last_id, read) = (found.last_id(), found.entries_read());
        let read = read.map_or_else(|| b"-1".to_vec(), |read| Digits::of(read).text().to_vec());
        cx.log_also([b"XGROUP", b"SETID", key.bytes, group, &last_id.text(), b"ENTRIESREAD", &read]);
    }
    Ok(())
}

/// What became of a pending entry.
enum Outcome {
    Claimed,
    /// It was pending and is not in the stream: it is pending no longer.
    Gone,
    Left,
}

fn claim_one(
    stream: &mut Stream,
    group: &[u8],
    consumer: ConsumerId,
    id: StreamId,
    claim: &Claim,
    now_ms: i64,
) -> Outcome {
    let exists = stream.contains(id);
    let Some(group) = stream.group_mut(group) else { return Outcome::Left };
    if !exists {
        return if group.acknowledge(id) { Outcome::Gone } else { Outcome::Left };
    }
    let deliveries = match group.pending(id) {
        Some(pending) => {
            if claim.idle_ms_min > 0 && now_ms.saturating_sub(pending.delivered_ms) < claim.idle_ms_min {
                return Outcome::Left;
            }
            pending.deliveries
        }
        None if claim.force => 1,
        None => return Outcome::Left,
    };
    let counted = if claim.only_ids { deliveries } else { deliveries.wrapping_add(1) };
    let deliveries = claim.deliveries.unwrap_or(counted);
    group.put_pending(id, Pending { delivered_ms: claim.delivered_ms, deliveries, consumer });
    group.get_mut(consumer).active_ms = Some(now_ms);
    Outcome::Claimed
}

fn answer_claimed(reply: &mut Reply<'_>, stream: &Stream, claimed: &[StreamId], only_ids: bool) {
    reply.array(claimed.len());
    for id in claimed {
        match stream.entry(*id).filter(|_| !only_ids) {
            Some(entry) => reply::entry(reply, &entry),
            None => reply::id(reply, *id),
        }
    }
}

/// Pending entries that are looked at for each that is asked for.
const LOOKED_AT_FACTOR: usize = 10;
/// Where Redis refuses a count at once, and where it finds no memory for so many ids: what 47 bits
/// address.
const COUNT_MAX: i64 = i64::MAX / 16;
const IDS_MAX: usize = 1 << 43;

/// What XAUTOCLAIM was asked for beside key, group and consumer.
struct Sweep {
    start: StreamId,
    count: usize,
    claim: Claim,
}

impl Sweep {
    fn parse(args: &Args<'_>, now_ms: i64) -> Result<Sweep, Error> {
        let idle_ms_min = number::parse_i64(args.get(4));
        let idle_ms_min =
            idle_ms_min.ok_or(Error::of("ERR Invalid min-idle-time argument for XAUTOCLAIM"))?;
        let start = range_start(args.get(5))?;
        let (mut count, mut only_ids, mut index) = (100, false, 6);
        while index < args.len() {
            if args.is(index, b"justid") {
                only_ids = true;
                index += 1;
            } else if args.is(index, b"count") && index + 1 < args.len() {
                let asked = number::parse_i64(args.get(index + 1));
                let asked = asked.filter(|count| (1..=COUNT_MAX).contains(count));
                let asked = asked.and_then(|count| usize::try_from(count).ok());
                count = asked.ok_or(Error::of("ERR COUNT must be > 0"))?;
                index += 2;
            } else {
                return Err(Error::Syntax);
            }
        }
        let claim = Claim {
            idle_ms_min,
            delivered_ms: now_ms,
            deliveries: None,
            force: false,
            only_ids,
            last_id: StreamId::MIN,
        };
        Ok(Sweep { start, count, claim })
    }
}

fn xautoclaim(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let now_ms = now_ms(cx);
    let sweep = Sweep::parse(args, now_ms)?;
    let (key, group) = (find_group(cx, args)?, args.get(2));
    if sweep.count >= IDS_MAX {
        return Err(Error::of(
            "ERR Insufficient memory, failed allocating transient memory, COUNT too high.",
        ));
    }
    let Some(consumer) = meet(cx, &key, group, args.get(3))? else { return Ok(()) };
    let (is_logged, mut told) = (cx.is_logged(), Vec::new());
    let changes = cx.db.edit::<Stream, _>(&key, |stream| {
        let (mut claimed, mut gone) = (Vec::new(), Vec::new());
        let (mut next, mut looked_at) = (Some(sweep.start), 0);
        let mut rest = None;
        while let Some(from) = next {
            let pending = stream.group(group).and_then(|group| group.pending_in(from, StreamId::MAX).next());
            let Some((id, _)) = pending else { break };
            let is_enough = looked_at == sweep.count.saturating_mul(LOOKED_AT_FACTOR);
            if is_enough || claimed.len() + gone.len() == sweep.count {
                rest = Some(id);
                break;
            }
            looked_at += 1;
            let before = is_logged.then(|| Told::of(stream, group, id)).flatten();
            let outcome = claim_one(stream, group, consumer, id, &sweep.claim, now_ms);
            match outcome {
                Outcome::Claimed => claimed.push(id),
                Outcome::Gone => gone.push(id),
                Outcome::Left => {}
            }
            if is_logged && !matches!(outcome, Outcome::Left) {
                told.extend(Told::after(stream, group, id, before, args.get(3)));
            }
            next = id.next();
        }
        let reply = &mut cx.reply;
        reply.array(3);
        reply::id(reply, rest.unwrap_or_default());
        answer_claimed(reply, stream, &claimed, sweep.claim.only_ids);
        reply.array(gone.len());
        gone.iter().for_each(|id| reply::id(reply, *id));
        claimed.len() + gone.len()
    })?;
    let changes = changes.map_or(0, |edited| edited.value);
    if changes > 0 {
        group_changed(cx, &key, changes as u64, None);
    }
    if is_logged {
        log(cx, &key, group, told, true)?;
    }
    Ok(())
}
