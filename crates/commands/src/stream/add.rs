//! What changes a stream as a whole: XADD, XTRIM, XSETID.

use super::options::{self, Add};
use super::{DELETES, REFERENCES, STREAM, UPDATES, WRITE_FAST, reply};
use crate::args::Args;
use crate::cx::{Ctx, Limits};
use crate::error::Error;
use crate::logged::Digits;
use crate::spec::{Arg, Command, Flags, KeyFlags, KeySpec, Run, Spec};
use larder_store::{Event, Hashed};
use larder_values::stream::{AddError, NODE_BYTES_MAX, NewId, Stream, StreamId};

const STRATEGY: Arg =
    Arg::one_of("strategy", &[Arg::word("maxlen", "MAXLEN"), Arg::word("minid", "MINID").since("6.2.0")]);
const OPERATOR: Arg =
    Arg::one_of("operator", &[Arg::word("equal", "="), Arg::word("approximately", "~")]).optional();
const THRESHOLD: Arg = Arg::string("threshold");
const LIMIT: Arg = Arg::integer("count").token("LIMIT").optional().since("6.2.0");

/// XADD key [NOMKSTREAM] [KEEPREF | DELREF | ACKED] [MAXLEN | MINID [= | ~] threshold [LIMIT count]]
/// <* | id> field value [field value ...]
pub static XADD: Command = Command {
    spec: Spec {
        name: "xadd",
        summary: "Appends an entry to a stream.",
        complexity: "O(1), and O(N) for N entries that are trimmed.",
        arity: -5,
        flags: Flags::WRITE.or(Flags::DENY_OOM).or(Flags::FAST),
        keys: &[KeySpec {
            notes: Some("UPDATE and not INSERT, since it may trim"),
            ..KeySpec::at(1, KeyFlags::RW.or(KeyFlags::UPDATE))
        }],
        args: &[
            Arg::key("key", 0),
            Arg::word("nomkstream", "NOMKSTREAM").optional().since("6.2.0"),
            REFERENCES,
            Arg::block("trim", &[STRATEGY, OPERATOR, THRESHOLD, LIMIT]).optional(),
            Arg::one_of("id-selector", &[Arg::word("auto-id", "*"), Arg::string("id")]),
            Arg::block("data", &[Arg::string("field"), Arg::string("value")]).multiple(),
        ],
        tips: &["nondeterministic_output"],
        history: &[
            ("6.2.0", "Options `NOMKSTREAM`, `MINID` and `LIMIT`."),
            ("7.0.0", "Ids of a given millisecond and any sequence."),
            ("8.2.0", "Options `KEEPREF`, `DELREF` and `ACKED`."),
        ],
        ..STREAM
    },
    run: Run::Keys(xadd),
    subcommands: &[],
};

fn xadd(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let add = Add::parse(args, cx.limits)?;
    let words = args.from(add.fields_at.min(args.len()));
    if words.len() < 2 || !words.len().is_multiple_of(2) {
        return Err(Error::arity("xadd"));
    }
    if add.id == Some(NewId::Exactly(StreamId::MIN)) {
        return Err(Error::of("ERR The ID specified in XADD must be greater than 0-0"));
    }
    let key = cx.key(args, 1);
    // An entry that is refused makes no key.
    let is_too_large = words.clone().map(<[u8]>::len).sum::<usize>() > NODE_BYTES_MAX;
    if (add.must_exist || is_too_large) && cx.db.peek_as::<Stream>(&key)?.is_none() {
        if add.must_exist {
            cx.reply.null();
            return Ok(());
        }
        return Err(TOO_LARGE);
    }
    let (limits, now_ms) = (cx.limits, cx.db.now().0);
    let added = cx.db.edit_or_create(&key, |stream: &mut Stream| {
        let id = append(stream, add.id.unwrap_or(NewId::At(now_ms)), words, limits)?;
        Ok::<_, Error>((id, add.trim.map_or(0, |trim| stream.trim(trim))))
    })?;
    let (id, trimmed) = added.value?;
    reply::id(&mut cx.reply, id);
    cx.db.changed(&key, Event::XADD);
    if cx.is_logged() {
        log_add(cx, &key, args, &add, id)?;
    }
    if trimmed > 0 {
        cx.db.notify(&key, Event::XTRIM);
    }
    Ok(())
}

/// Says what an XADD is logged as: with its id, and with what was left by trimming.
fn log_add(
    cx: &mut Ctx<'_>,
    key: &Hashed<'_>,
    args: &Args<'_>,
    add: &Add,
    id: StreamId,
) -> Result<(), Error> {
    let id = id.text();
    let mut others: Vec<(usize, &[u8])> = Vec::new();
    if !matches!(add.id, Some(NewId::Exactly(_))) {
        others.push((add.fields_at - 1, &id));
    }
    let left = match add.approximate_at {
        Some(at) => left(cx, key, args.is(at - 1, b"maxlen"))?,
        None => Vec::new(),
    };
    if let Some(at) = add.approximate_at {
        others.extend([(at, &b"="[..]), (at + 1, &left)]);
    }
    if !others.is_empty() {
        cx.log_with(args, &others);
    }
    Ok(())
}

/// What trimming left of a stream: how many entries, or the id of the first.
fn left(cx: &mut Ctx<'_>, key: &Hashed<'_>, by_length: bool) -> Result<Vec<u8>, Error> {
    let stream = cx.db.peek_as::<Stream>(key)?;
    Ok(match stream {
        Some(stream) if by_length => Digits::of(stream.len()).text().to_vec(),
        Some(stream) => stream.first_id().text().to_vec(),
        None => b"0".to_vec(),
    })
}

const TOO_LARGE: Error = Error::of("ERR Elements are too large to be stored");

#[inline]
fn append<'w>(
    stream: &mut Stream,
    asked: NewId,
    words: impl ExactSizeIterator<Item = &'w [u8]> + Clone,
    limits: &Limits,
) -> Result<StreamId, Error> {
    if stream.last_id() == StreamId::MAX {
        return Err(Error::of("ERR The stream has exhausted the last possible ID, unable to add more items"));
    }
    let late = Error::of("ERR The ID specified in XADD is equal or smaller than the target stream top item");
    let Some(id) = stream.next_id(asked) else { return Err(late) };
    match stream.add(id, words, options::node_limits(limits)) {
        Ok(()) => Ok(id),
        Err(AddError::IdNotAfterLast) => Err(late),
        Err(AddError::TooLarge) => Err(TOO_LARGE),
    }
}

/// XTRIM key <MAXLEN | MINID> [= | ~] threshold [LIMIT count] [KEEPREF | DELREF | ACKED]
pub static XTRIM: Command = Command {
    spec: Spec {
        name: "xtrim",
        summary: "Removes entries from the front of a stream.",
        complexity: "O(N) for N entries removed; a node of entries goes at once.",
        arity: -4,
        flags: Flags::WRITE,
        keys: DELETES,
        args: &[Arg::key("key", 0), Arg::block("trim", &[STRATEGY, OPERATOR, THRESHOLD, LIMIT, REFERENCES])],
        tips: &["nondeterministic_output"],
        history: &[
            ("6.2.0", "Options `MINID` and `LIMIT`."),
            ("8.2.0", "Options `KEEPREF`, `DELREF` and `ACKED`."),
        ],
        ..STREAM
    },
    run: Run::Keys(xtrim),
    subcommands: &[],
};

fn xtrim(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let (trim, approximate_at) = options::trim(args, cx.limits)?;
    let key = cx.key(args, 1);
    let trimmed = cx.db.edit::<Stream, _>(&key, |stream| stream.trim(trim))?.map_or(0, |edited| edited.value);
    if trimmed > 0 {
        cx.db.changed_times(&key, Event::XTRIM, trimmed);
        if let Some(at) = approximate_at.filter(|_| cx.is_logged()) {
            let left = left(cx, &key, args.is(at - 1, b"maxlen"))?;
            cx.log_with(args, &[(at, b"="), (at + 1, &left)]);
        }
    }
    cx.reply.count(usize::try_from(trimmed).unwrap_or(usize::MAX));
    Ok(())
}

/// XSETID key last-id [ENTRIESADDED entries-added] [MAXDELETEDID max-deleted-id]
pub static XSETID: Command = Command {
    spec: Spec {
        name: "xsetid",
        summary: "Sets the largest id of a stream; meant for servers that copy streams.",
        arity: -3,
        flags: WRITE_FAST.or(Flags::DENY_OOM),
        keys: UPDATES,
        args: &[
            Arg::key("key", 0),
            Arg::string("last-id"),
            Arg::integer("entries-added").token("ENTRIESADDED").optional().since("7.0.0"),
            Arg::string("max-deleted-id").token("MAXDELETEDID").optional().since("7.0.0"),
        ],
        history: &[("7.0.0", "Options `ENTRIESADDED` and `MAXDELETEDID`.")],
        ..STREAM
    },
    run: Run::Keys(xsetid),
    subcommands: &[],
};

fn xsetid(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let id = options::strict_id(args.get(2))?;
    let (mut entries_added, mut max_deleted) = (None, None);
    let mut index = 3;
    while index < args.len() {
        let value = args.try_get(index + 1);
        match value {
            Some(value) if args.is(index, b"entriesadded") => {
                let added = options::integer(value)?;
                let added =
                    u64::try_from(added).map_err(|_| Error::of("ERR entries_added must be positive"))?;
                entries_added = Some(added);
            }
            Some(value) if args.is(index, b"maxdeletedid") => {
                let deleted = options::strict_id(value)?;
                if id < deleted {
                    return Err(Error::of(
                        "ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id",
                    ));
                }
                max_deleted = Some(deleted).filter(|deleted| *deleted != StreamId::MIN);
            }
            _ => return Err(Error::Syntax),
        }
        index += 2;
    }
    let key = cx.key(args, 1);
    let set = cx.db.edit::<Stream, _>(&key, |stream| set_id(stream, id, entries_added, max_deleted))?;
    set.ok_or(Error::NoSuchKey)?.value?;
    super::group_changed(cx, &key, 1, Some(Event::XSETID));
    cx.reply.ok();
    Ok(())
}

fn set_id(
    stream: &mut Stream,
    id: StreamId,
    entries_added: Option<u64>,
    max_deleted: Option<StreamId>,
) -> Result<(), Error> {
    if id < stream.numbers().max_deleted_id {
        return Err(Error::of("ERR The ID specified in XSETID is smaller than current max_deleted_entry_id"));
    }
    if let Some(last) = stream.last_entry_id() {
        if id < last {
            return Err(Error::of(
                "ERR The ID specified in XSETID is smaller than the target stream top item",
            ));
        }
        if entries_added.is_some_and(|added| added < stream.len()) {
            return Err(Error::of(
                "ERR The entries_added specified in XSETID is smaller than the target stream length",
            ));
        }
    }
    stream.set_last_id(id, entries_added, max_deleted);
    Ok(())
}
