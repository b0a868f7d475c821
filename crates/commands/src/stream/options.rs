//! The grammar that stream commands share: ids, ranges of ids, trimming, numbers of ids.

use crate::args::Args;
use crate::cx::Limits;
use crate::error::Error;
use larder_values::number;
use larder_values::stream::{NewId, NodeLimits, References, StreamId, Trim, TrimTo};

const INVALID_ID: Error = Error::of("ERR Invalid stream ID specified as stream command argument");

/// When an entry begins a new node.
#[inline]
pub(super) fn node_limits(limits: &Limits) -> NodeLimits {
    NodeLimits { entries_max: limits.stream_node_entries_max as u64, bytes_max: limits.stream_node_bytes_max }
}

/// An id of both numbers, or of a time with sequence 0.
pub(super) fn strict_id(text: &[u8]) -> Result<StreamId, Error> {
    StreamId::parse_strict(text, 0).ok_or(INVALID_ID)
}

/// An id, or `-` or `+` for the ends.
pub(super) fn any_id(text: &[u8], missing_seq: u64) -> Result<StreamId, Error> {
    let parsed = StreamId::parse(text, missing_seq).ok_or(INVALID_ID)?;
    if parsed.seq_is_open { Err(INVALID_ID) } else { Ok(parsed.id) }
}

/// Where a range starts: an id, or `(` and the one before it.
pub(super) fn range_start(text: &[u8]) -> Result<StreamId, Error> {
    match exclusive(text) {
        Some(text) => strict_id(text)?.next().ok_or(Error::of("ERR invalid start ID for the interval")),
        None => any_id(text, 0),
    }
}

/// Where a range ends: an id, or `(` and the one after it. A time alone means all of its entries.
pub(super) fn range_end(text: &[u8]) -> Result<StreamId, Error> {
    match exclusive(text) {
        Some(text) => {
            let id = StreamId::parse_strict(text, u64::MAX).ok_or(INVALID_ID)?;
            id.previous().ok_or(Error::of("ERR invalid end ID for the interval"))
        }
        None => any_id(text, u64::MAX),
    }
}

fn exclusive(text: &[u8]) -> Option<&[u8]> {
    text.strip_prefix(b"(").filter(|text| !text.is_empty())
}

/// An integer argument.
pub(super) fn integer(text: &[u8]) -> Result<i64, Error> {
    number::parse_i64(text).ok_or(Error::NotAnInteger)
}

/// A word that says what becomes of deliveries.
fn references(word: &[u8]) -> Option<References> {
    [
        (&b"keepref"[..], References::Keep),
        (b"delref", References::Delete),
        (b"acked", References::Acknowledged),
    ]
    .into_iter()
    .find(|(name, _)| word.eq_ignore_ascii_case(name))
    .map(|(_, references)| references)
}

/// The options of XADD and XTRIM.
#[derive(Default)]
struct Parsed {
    to: Option<TrimTo>,
    is_approximate: bool,
    limit: Option<u64>,
    references: Option<References>,
    must_exist: bool,
    /// The word of the operator, where trimming may stop anywhere.
    approximate_at: Option<usize>,
}

impl Parsed {
    /// Reads the option at `index`; answers how many words it has, 0 where there is none.
    fn option(&mut self, args: &Args<'_>, index: usize) -> Result<usize, Error> {
        let has_value = index + 1 < args.len();
        let by_length = args.is(index, b"maxlen");
        if has_value && (by_length || args.is(index, b"minid")) {
            return self.strategy(args, index, by_length);
        }
        if has_value && args.is(index, b"limit") {
            let limit = integer(args.get(index + 1))?;
            let limit =
                u64::try_from(limit).map_err(|_| Error::of("ERR The LIMIT argument must be >= 0."))?;
            self.limit = Some(limit);
            return Ok(2);
        }
        if self.references.is_none()
            && let Some(references) = references(args.get(index))
        {
            self.references = Some(references);
            return Ok(1);
        }
        Ok(0)
    }

    fn strategy(&mut self, args: &Args<'_>, index: usize, by_length: bool) -> Result<usize, Error> {
        if self.to.is_some() {
            return Err(Error::of(
                "ERR syntax error, MAXLEN and MINID options at the same time are not compatible",
            ));
        }
        let operator = if index + 2 < args.len() { args.get(index + 1) } else { b"" };
        self.is_approximate = operator == b"~";
        self.approximate_at = self.is_approximate.then_some(index + 1);
        let words = if matches!(operator, b"~" | b"=") { 3 } else { 2 };
        let threshold = args.get(index + words - 1);
        self.to = Some(if by_length {
            let length = integer(threshold)?;
            let negative = |_| Error::of("ERR The MAXLEN argument must be >= 0.");
            TrimTo::Length(u64::try_from(length).map_err(negative)?)
        } else {
            TrimTo::Id(strict_id(threshold)?)
        });
        Ok(words)
    }

    /// How to trim, if at all; `must` is the refusal where that has to be said.
    fn trim(&self, limits: &Limits, must: Option<Error>) -> Result<Option<Trim>, Error> {
        if self.to.is_none() && self.limit.is_some_and(|limit| limit > 0) {
            return Err(Error::of(
                "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy",
            ));
        }
        if let (None, Some(refusal)) = (self.to, must) {
            return Err(refusal);
        }
        // A log may say how many entries were meant to be looked at; it says how many are left, too.
        if self.limit.is_some() && !self.is_approximate && !limits.is_replay {
            return Err(Error::of("ERR syntax error, LIMIT cannot be used without the special ~ option"));
        }
        let Some(to) = self.to else { return Ok(None) };
        // As in Redis, trimming that may stop anywhere stops after a hundred nodes.
        let limit = match (self.limit, self.is_approximate) {
            (Some(limit), true) => limit,
            (Some(_), false) => 0,
            (None, false) => 0,
            (None, true) => match (limits.stream_node_entries_max as u64).saturating_mul(100) {
                0 => 10_000,
                limit => limit.min(1_000_000),
            },
        };
        let references = self.references.unwrap_or(References::Keep);
        Ok(Some(Trim { to, is_approximate: self.is_approximate, limit, references }))
    }
}

/// What XADD was asked for beside the fields.
pub(super) struct Add {
    /// No key is made.
    pub(super) must_exist: bool,
    /// How to trim afterwards.
    pub(super) trim: Option<Trim>,
    /// The id; none for `*`.
    pub(super) id: Option<NewId>,
    /// Word of the first field.
    pub(super) fields_at: usize,
    /// The word of the operator, where trimming may stop anywhere.
    pub(super) approximate_at: Option<usize>,
}

impl Add {
    pub(super) fn parse(args: &Args<'_>, limits: &Limits) -> Result<Add, Error> {
        if args.get(2) == b"*" {
            return Ok(Add { must_exist: false, trim: None, id: None, fields_at: 3, approximate_at: None });
        }
        let (mut parsed, mut index, mut id) = (Parsed::default(), 2, None);
        while index < args.len() && args.get(index) != b"*" {
            let words = parsed.option(args, index)?;
            if words > 0 {
                index += words;
            } else if args.is(index, b"nomkstream") {
                parsed.must_exist = true;
                index += 1;
            } else {
                id = Some(new_id(args.get(index))?);
                break;
            }
        }
        let trim = parsed.trim(limits, None)?;
        let (must_exist, approximate_at) = (parsed.must_exist, parsed.approximate_at);
        Ok(Add { must_exist, trim, id, fields_at: index + 1, approximate_at })
    }
}

fn new_id(text: &[u8]) -> Result<NewId, Error> {
    match StreamId::parse(text, 0) {
        Some(parsed) if parsed.seq_is_open => Ok(NewId::OpenSeq(parsed.id.ms)),
        _ => strict_id(text).map(NewId::Exactly),
    }
}

/// What XTRIM was asked for, and the word of the operator where it may stop anywhere.
pub(super) fn trim(args: &Args<'_>, limits: &Limits) -> Result<(Trim, Option<usize>), Error> {
    let (mut parsed, mut index) = (Parsed::default(), 2);
    while index < args.len() {
        match parsed.option(args, index)? {
            0 => return Err(Error::Syntax),
            words => index += words,
        }
    }
    let none = Error::of("ERR syntax error, XTRIM must be called with a trimming strategy");
    let trim = parsed.trim(limits, Some(none.clone()))?.ok_or(none)?;
    Ok((trim, parsed.approximate_at))
}

/// What XDELEX and XACKDEL were asked for: `[KEEPREF | DELREF | ACKED] IDS numids id [id ...]`.
pub(super) struct Ids {
    pub(super) references: References,
    /// Word of the first id.
    first: usize,
    count: usize,
}

impl Ids {
    pub(super) fn parse(args: &Args<'_>, from: usize) -> Result<Ids, Error> {
        let (mut chosen, mut ids, mut index) = (None, None, from);
        while index < args.len() {
            if let Some(references) = references(args.get(index))
                && chosen.is_none()
            {
                chosen = Some(references);
                index += 1;
            } else if args.is(index, b"ids") && index + 1 < args.len() && ids.is_none() {
                let count = number::parse_i64(args.get(index + 1)).filter(|count| *count > 0);
                let count = count.and_then(|count| usize::try_from(count).ok());
                let count = count.ok_or(Error::of("ERR Number of IDs must be a positive integer"))?;
                if count > args.len() - (index + 2) {
                    return Err(Error::of("ERR The `numids` parameter must match the number of arguments"));
                }
                ids = Some((index + 2, count));
                index += 2 + count;
            } else {
                return Err(Error::Syntax);
            }
        }
        let (first, count) = ids.ok_or(Error::Syntax)?;
        Ok(Ids { references: chosen.unwrap_or(References::Keep), first, count })
    }

    /// How many ids there are.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// The ids.
    pub(super) fn read(&self, args: &Args<'_>) -> Result<Vec<StreamId>, Error> {
        args.from(self.first).take(self.count).map(strict_id).collect()
    }
}
