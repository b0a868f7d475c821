//! Reading several streams from where a client left off, and waiting for more: XREAD, XREADGROUP.

use super::options::{integer, strict_id};
use super::{STREAM, group_changed, now_ms, reply, told};
use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::logged::Digits;
use crate::spec::{Arg, Begin, Command, Find, Flags, KeyFlags, KeySpec, Run, Spec};
use crate::wait::{Timeout, Wait, timeout_millis};
use larder_resp::Reply;
use larder_store::{Event, Hashed, Type};
use larder_values::stream::{ConsumerId, Delivery, Pending, Stream, StreamId};

const COUNT: Arg = Arg::integer("count").token("COUNT").optional();
const BLOCK: Arg = Arg::integer("milliseconds").token("BLOCK").optional();
const STREAMS: Arg =
    Arg::block("streams", &[Arg::key("key", 0).multiple(), Arg::string("id").multiple()]).token("STREAMS");

/// The first half of the words behind STREAMS.
const fn keys_behind_streams(from: i32) -> KeySpec {
    KeySpec {
        flags: KeyFlags::RO.or(KeyFlags::ACCESS),
        begin: Begin::Keyword { word: "STREAMS", from },
        find: Find::Range { last: -1, step: 1, limit: 2 },
        notes: None,
    }
}

/// XREAD [COUNT count] [BLOCK milliseconds] STREAMS key [key ...] id [id ...]
pub static XREAD: Command = Command {
    spec: Spec {
        name: "xread",
        summary: "Answers entries of several streams from given ids on, and waits for some where there are none.",
        complexity: "",
        arity: -4,
        flags: Flags::READONLY.or(Flags::BLOCKING),
        keys: &[keys_behind_streams(1)],
        args: &[COUNT, BLOCK, STREAMS],
        ..STREAM
    },
    run: Run::Keys(xread),
    subcommands: &[],
};

/// XREADGROUP GROUP group consumer [COUNT count] [BLOCK milliseconds] [NOACK]
/// STREAMS key [key ...] id [id ...]
pub static XREADGROUP: Command = Command {
    spec: Spec {
        name: "xreadgroup",
        summary: "Delivers entries of several streams to a consumer of a group, or answers what it has pending.",
        complexity: "O(N log M) for N entries answered, M pending ones.",
        arity: -7,
        flags: Flags::WRITE.or(Flags::BLOCKING),
        keys: &[keys_behind_streams(4)],
        args: &[
            Arg::block("group-block", &[Arg::string("group"), Arg::string("consumer")]).token("GROUP"),
            COUNT,
            BLOCK,
            Arg::word("noack", "NOACK").optional(),
            STREAMS,
        ],
        ..STREAM
    },
    run: Run::Keys(xreadgroup),
    subcommands: &[],
};

/// What was asked for.
struct Options<'a> {
    /// Group and consumer.
    group: Option<(&'a [u8], &'a [u8])>,
    count: u64,
    timeout: Option<Timeout>,
    no_ack: bool,
    /// Words of the first key and of the first id.
    keys_at: usize,
    ids_at: usize,
}

impl<'a> Options<'a> {
    fn parse(cx: &Ctx<'_>, args: &Args<'a>, for_group: bool) -> Result<Options<'a>, Error> {
        let mut options =
            Options { group: None, count: u64::MAX, timeout: None, no_ack: false, keys_at: 0, ids_at: 0 };
        let mut index = 1;
        while index < args.len() && options.keys_at == 0 {
            let more = args.len() - index - 1;
            if args.is(index, b"block") && more > 0 {
                options.timeout = Some(timeout_millis(cx, args.get(index + 1))?);
                index += 2;
            } else if args.is(index, b"count") && more > 0 {
                let count = integer(args.get(index + 1))?;
                options.count = u64::try_from(count).ok().filter(|count| *count > 0).unwrap_or(u64::MAX);
                index += 2;
            } else if args.is(index, b"streams") && more > 0 {
                if !more.is_multiple_of(2) {
                    return Err(unbalanced(for_group));
                }
                options.keys_at = index + 1;
                options.ids_at = index + 1 + more / 2;
            } else if args.is(index, b"group") && more > 1 {
                if !for_group {
                    return Err(only_in_groups("GROUP"));
                }
                options.group = Some((args.get(index + 1), args.get(index + 2)));
                index += 3;
            } else if args.is(index, b"noack") {
                if !for_group {
                    return Err(only_in_groups("NOACK"));
                }
                options.no_ack = true;
                index += 1;
            } else {
                return Err(Error::Syntax);
            }
        }
        if options.keys_at == 0 {
            return Err(Error::Syntax);
        }
        if for_group && options.group.is_none() {
            return Err(Error::of("ERR Missing GROUP option for XREADGROUP"));
        }
        Ok(options)
    }

    /// Words of keys and ids, in pairs.
    fn streams(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        (self.keys_at..self.ids_at).zip(self.ids_at..)
    }
}

fn unbalanced(for_group: bool) -> Error {
    let (command, ids) = if for_group { ("xreadgroup", "ID or '>'") } else { ("xread", "ID, '+', or '$'") };
    Error::custom(format!(
        "ERR Unbalanced '{command}' list of streams: for each stream key an {ids} must be specified."
    ))
}

fn only_in_groups(option: &str) -> Error {
    Error::custom(format!(
        "ERR The {option} option is only supported by XREADGROUP. You called XREAD instead."
    ))
}

/// The header of an answer: a map from streams to entries, in RESP2 an array of pairs.
fn begin_streams(cx: &mut Ctx<'_>, count: usize) {
    if cx.reply.is_resp3() { cx.reply.map(count) } else { cx.reply.array(count) }
}

/// The header of one stream; its entries follow.
fn begin_stream(reply: &mut Reply<'_>, key: &[u8]) {
    if !reply.is_resp3() {
        reply.array(2);
    }
    reply.bulk(key);
}

fn xread(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let options = Options::parse(cx, args, false)?;
    // Every stream and id is looked at before the first is answered.
    let (mut asked, mut ready, mut rewrites) = (Vec::new(), 0, Vec::new());
    for (key_at, id_at) in options.streams() {
        let key = cx.key(args, key_at);
        if !cx.is_at_hand(&key) {
            continue;
        }
        let stream = cx.db.read_as::<Stream>(&key)?;
        let id = args.get(id_at);
        let after = after(stream, id)?;
        if matches!(id, b"$" | b"+") {
            rewrites.push((id_at, after));
        }
        let is_ready = stream.and_then(Stream::last_entry_id).is_some_and(|last| last > after);
        ready += usize::from(is_ready);
        asked.push((key_at, after, is_ready));
    }
    if ready > 0 {
        begin_streams(cx, ready);
    }
    for (key_at, after, is_ready) in asked {
        let key = cx.key(args, key_at);
        // As in Redis, a stream is looked up for its ids and once more for its entries.
        let stream = cx.db.read_as::<Stream>(&key)?;
        if let (Some(stream), Some(start), true) = (stream, after.next(), is_ready) {
            begin_stream(&mut cx.reply, key.bytes);
            let entries = stream.entries(start, StreamId::MAX);
            reply::entries(&mut cx.reply, entries.count_up_to(options.count), entries);
        }
    }
    if ready == 0 {
        let rewrites = rewrites.into_iter().map(|(word, id)| (word, id.text().to_vec()));
        wait_or_answer(cx, &options, |wait| rewrites.fold(wait, |wait, (word, id)| wait.rewrite(word, id)));
    }
    Ok(())
}

/// The id after which entries of a stream are asked for.
fn after(stream: Option<&Stream>, id: &[u8]) -> Result<StreamId, Error> {
    let last_id = stream.map_or(StreamId::MIN, Stream::last_id);
    match id {
        b"$" => Ok(last_id),
        // The last entry is asked for, or the next where there is none.
        b"+" => {
            let last = stream.and_then(Stream::last_entry_id);
            Ok(last.and_then(StreamId::previous).unwrap_or(last_id))
        }
        b">" => Err(Error::of(
            "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.",
        )),
        id => strict_id(id),
    }
}

/// There was nothing to answer: waits for it if that is asked for, and says what is special about the wait.
fn wait_or_answer(cx: &mut Ctx<'_>, options: &Options<'_>, special: impl FnOnce(Wait) -> Wait) {
    match options.timeout {
        Some(timeout) => {
            let keys = options.keys_at..options.ids_at;
            cx.wait(special(Wait::for_keys(keys, Type::Stream, timeout)));
        }
        None => cx.reply.null_array(),
    }
}

/// What a consumer asks of a stream.
#[derive(Clone, Copy)]
enum Asked {
    /// Entries that the group has not read.
    New,
    /// What it has pending from an id on.
    History(StreamId),
}

fn xreadgroup(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let options = Options::parse(cx, args, true)?;
    let (group, consumer) = options.group.unwrap_or_default();
    let mut asked = Vec::new();
    let mut answered = 0;
    for (key_at, id_at) in options.streams() {
        let key = cx.key(args, key_at);
        if !cx.is_at_hand(&key) {
            continue;
        }
        let stream = cx.db.read_as::<Stream>(&key)?;
        let found = stream.and_then(|stream| stream.group(group).map(|group| (stream, group)));
        let (stream, group) = found.ok_or_else(|| no_group_to_read(key.bytes, group))?;
        let ask = ask(args.get(id_at))?;
        let last = || stream.last_entry_id().is_some_and(|last| last > group.last_id());
        let is_served = matches!(ask, Asked::History(_)) || last();
        answered += usize::from(is_served);
        asked.push((key_at, ask, is_served));
    }
    if answered > 0 {
        begin_streams(cx, answered);
    }
    cx.log().nothing();
    // Redis looks them up once more.
    cx.db.local.stats.hits.add(asked.len() as u64);
    for (key_at, ask, is_served) in asked {
        let key = cx.key(args, key_at);
        let (name, before) = (consumer, cx.db.local.effects.changes());
        let consumer = meet(cx, &key, group, consumer)?;
        // Where deliveries are noted, they tell of the consumer.
        if options.no_ack && cx.db.local.effects.changes() != before {
            cx.log_also([b"XGROUP", b"CREATECONSUMER", key.bytes, group, name]);
        }
        let Some(consumer) = consumer.filter(|_| is_served) else { continue };
        begin_stream(&mut cx.reply, key.bytes);
        match ask {
            Asked::New => deliver(cx, &key, group, (consumer, name), &options)?,
            Asked::History(start) => answer_history(cx, &key, group, consumer, start, options.count)?,
        }
    }
    if answered == 0 {
        wait_or_answer(cx, &options, Wait::when_gone);
    }
    Ok(())
}

fn no_group_to_read(key: &[u8], group: &[u8]) -> Error {
    let (key, group) = (told(key), told(group));
    let (no_key, or_group) = (&b"NOGROUP No such key '"[..], &b"' or consumer group '"[..]);
    Error::custom([no_key, key, or_group, group, b"' in XREADGROUP with GROUP option"].concat())
}

fn ask(id: &[u8]) -> Result<Asked, Error> {
    match id {
        b">" => Ok(Asked::New),
        b"$" | b"+" => Err(Error::custom(format!(
            "ERR The {0} ID is meaningless in the context of XREADGROUP: you want to read the history of this \
             consumer by specifying a proper ID, or use the > ID to get new messages. The {0} ID would just \
             return an empty result set.",
            char::from(id[0]),
        ))),
        id => match strict_id(id)? {
            // The largest id is how Redis notes `>`.
            StreamId::MAX => Ok(Asked::New),
            id => Ok(Asked::History(id.next().unwrap_or(StreamId::MAX))),
        },
    }
}

/// The consumer of that name, made where there is none, and seen now.
pub(super) fn meet(
    cx: &mut Ctx<'_>,
    key: &Hashed<'_>,
    group: &[u8],
    name: &[u8],
) -> Result<Option<ConsumerId>, Error> {
    let now_ms = now_ms(cx);
    let met = cx.db.edit::<Stream, _>(key, |stream| {
        let group = stream.group_mut(group)?;
        let (id, is_new) = match group.consumer(name) {
            Some(id) => (id, false),
            None => (group.create_consumer(name, now_ms)?, true),
        };
        group.get_mut(id).seen_ms = now_ms;
        Some((id, is_new))
    })?;
    let met = met.and_then(|edited| edited.value);
    if matches!(met, Some((_, true))) {
        group_changed(cx, key, 1, Some(Event::XGROUP_CREATECONSUMER));
    }
    Ok(met.map(|(id, _)| id))
}

/// Answers what the group has not read, as delivered to the consumer.
fn deliver(
    cx: &mut Ctx<'_>,
    key: &Hashed<'_>,
    group: &[u8],
    (consumer, name): (ConsumerId, &[u8]),
    options: &Options<'_>,
) -> Result<(), Error> {
    let (now_ms, no_ack) = (now_ms(cx), options.no_ack);
    let (is_logged, mut delivered) = (cx.is_logged(), Vec::new());
    let reply = &mut cx.reply;
    cx.db.edit::<Stream, _>(key, |stream| {
        let unread = stream.group(group).and_then(|group| stream.unread(group));
        let count = unread.map_or(0, |unread| unread.count_up_to(options.count));
        reply.array(usize::try_from(count).unwrap_or(usize::MAX));
        stream.deliver(group, Delivery { consumer, now_ms, count, no_ack }, |entry| {
            reply::entry(reply, &entry);
            if is_logged {
                delivered.push(entry.id);
            }
        });
    })?;
    group_changed(cx, key, 1, None);
    if is_logged {
        log_deliveries(cx, key, group, (name, no_ack), &delivered)?;
    }
    Ok(())
}

/// Logs what a delivery did: to each entry, and to the group.
#[cold]
fn log_deliveries(
    cx: &mut Ctx<'_>,
    key: &Hashed<'_>,
    group: &[u8],
    (name, no_ack): (&[u8], bool),
    delivered: &[StreamId],
) -> Result<(), Error> {
    let Some(stream) = cx.db.peek_as::<Stream>(key)? else { return Ok(()) };
    let Some(found) = stream.group(group) else { return Ok(()) };
    let (last_id, read) = (found.last_id(), found.entries_read());
    let claims: Vec<Claimed> = match no_ack {
        true => Vec::new(),
        // Each tells the last id as it was then.
        false => delivered.iter().filter_map(|id| Claimed::of(stream, group, *id, *id)).collect(),
    };
    for claim in claims {
        claim.log(cx, key, group, name);
    }
    let read = read.map_or_else(|| b"-1".to_vec(), |read| Digits::of(read).text().to_vec());
    cx.log_also([b"XGROUP", b"SETID", key.bytes, group, &last_id.text(), b"ENTRIESREAD", &read]);
    Ok(())
}

/// A pending entry, as the log tells it.
pub(super) struct Claimed {
    id: StreamId,
    delivered_ms: i64,
    deliveries: u64,
    last_id: StreamId,
}

impl Claimed {
    /// A pending entry of a group whose last id is to be told as `last_id`.
    pub(super) fn of(stream: &Stream, group: &[u8], id: StreamId, last_id: StreamId) -> Option<Claimed> {
        let Pending { delivered_ms, deliveries, .. } = stream.group(group)?.pending(id)?;
        Some(Claimed { id, delivered_ms, deliveries, last_id })
    }

    /// Logs that it is pending for a consumer.
    pub(super) fn log(&self, cx: &mut Ctx<'_>, key: &Hashed<'_>, group: &[u8], consumer: &[u8]) {
        let time = Digits::of(self.delivered_ms.unsigned_abs());
        let (count, last_id) = (Digits::of(self.deliveries), self.last_id.text());
        let (id, force) = (self.id.text(), b"FORCE");
        let words = [&b"XCLAIM"[..], key.bytes, group, consumer, b"0", &id, b"TIME", time.text()];
        let db = cx.db.index();
        let rest = [&b"RETRYCOUNT"[..], count.text(), force, b"JUSTID", b"LASTID", &last_id];
        let words: Vec<&[u8]> = words.into_iter().chain(rest).collect();
        cx.log().also_all(db, words.into_iter());
    }
}

/// Answers what the consumer has pending from `start` on, and counts one more delivery of each. Of an
/// entry that is gone only the id is left.
fn answer_history(
    cx: &mut Ctx<'_>,
    key: &Hashed<'_>,
    group: &[u8],
    consumer: ConsumerId,
    start: StreamId,
    count: u64,
) -> Result<(), Error> {
    let delivered_ms = now_ms(cx);
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let reply = &mut cx.reply;
    cx.db.edit::<Stream, _>(key, |stream| {
        let Some(history) = stream.group(group) else { return };
        let ids: Vec<StreamId> = history.pending_of(consumer, start, StreamId::MAX).take(count).collect();
        reply.array(ids.len());
        for id in ids {
            let Some(entry) = stream.entry(id) else {
                reply.array(2);
                reply::id(reply, id);
                reply.null_array();
                continue;
            };
            reply::entry(reply, &entry);
            if let Some(group) = stream.group_mut(group)
                && let Some(pending) = group.pending(id)
            {
                let deliveries = pending.deliveries.wrapping_add(1);
                group.put_pending(id, Pending { delivered_ms, deliveries, consumer });
            }
        }
    })?;
    Ok(())
}
