//! Lists: elements in order, added, taken and moved at both ends.
//!
//! Invariant: an emptied list leaves no key; its command announces what it did, then `del`.
//! Read next: `push.rs` and `pop.rs` (the hot path), `moving.rs` (two keys), then any other.

mod blocking;
mod edit;
mod moving;
mod pop;
mod push;
mod read;

use crate::args::Args;
use crate::cx::{Ctx, Limits};
use crate::error::Error;
use crate::spec::{Arg, Command};
use larder_resp::Reply;
use larder_store::{Event, Hashed};
use larder_values::list::{End, Limit};
use larder_values::number;
use larder_values::packed::Element;

/// The list commands, by name.
pub static COMMANDS: &[&Command] = &[
    &blocking::BLMOVE,
    &blocking::BLMPOP,
    &blocking::BLPOP,
    &blocking::BRPOP,
    &blocking::BRPOPLPUSH,
    &read::LINDEX,
    &edit::LINSERT,
    &read::LLEN,
    &moving::LMOVE,
    &pop::LMPOP,
    &pop::LPOP,
    &read::LPOS,
    &push::LPUSH,
    &push::LPUSHX,
    &read::LRANGE,
    &edit::LREM,
    &edit::LSET,
    &edit::LTRIM,
    &pop::RPOP,
    &moving::RPOPLPUSH,
    &push::RPUSH,
    &push::RPUSHX,
];

/// How lists are cut into chunks.
#[inline]
pub(crate) fn limit(limits: &Limits) -> Limit {
    limits.list
}

const LEFT_OR_RIGHT: &[Arg] = &[Arg::word("left", "LEFT"), Arg::word("right", "RIGHT")];

/// LEFT or RIGHT.
const fn end_arg(name: &'static str) -> Arg {
    Arg::one_of(name, LEFT_OR_RIGHT)
}

/// Reads LEFT or RIGHT.
fn end(args: &Args<'_>, index: usize) -> Result<End, Error> {
    if args.is(index, b"left") {
        Ok(End::Head)
    } else if args.is(index, b"right") {
        Ok(End::Tail)
    } else {
        Err(Error::Syntax)
    }
}

/// Reads an integer.
fn integer(args: &Args<'_>, index: usize) -> Result<i64, Error> {
    number::parse_i64(args.get(index)).ok_or(Error::NotAnInteger)
}

/// The index that a number counted from either end stands for, where it is not before the head.
fn index_of(number: i64, len: usize) -> Option<usize> {
    match usize::try_from(number) {
        Ok(index) => Some(index),
        Err(_) => len.checked_sub(usize::try_from(number.unsigned_abs()).ok()?),
    }
}

/// The indexes that `start` and `stop`, both included, name in a list of `len` elements: the first, and
/// the one behind the last.
fn range_of(start: i64, stop: i64, len: usize) -> (usize, usize) {
    let first = index_of(start, len).unwrap_or(0);
    let end = index_of(stop, len).map_or(0, |last| last.saturating_add(1)).min(len);
    if first >= end { (0, 0) } else { (first, end) }
}

/// What a push at an end is announced as.
fn pushed(end: End) -> Event {
    match end {
        End::Head => Event::LPUSH,
        End::Tail => Event::RPUSH,
    }
}

/// Announces that `count` elements were taken from an end, and that the key is gone if none is left.
#[inline]
fn announce_taken(cx: &mut Ctx<'_>, key: &Hashed<'_>, end: End, count: usize, emptied: bool) {
    let event = match end {
        End::Head => Event::LPOP,
        End::Tail => Event::RPOP,
    };
    announce(cx, key, event, count, emptied);
}

/// Announces a change of `count` elements, and that the key is gone if none is left.
#[inline]
fn announce(cx: &mut Ctx<'_>, key: &Hashed<'_>, event: Event, count: usize, emptied: bool) {
    cx.db.changed(key, event);
    if count != 1 {
        // The event counts for one.
        cx.db.local.effects.changed_many(count.saturating_sub(1) as u64);
    }
    if emptied {
        cx.db.notify(key, Event::DEL);
    }
}

/// Elements as replies.
trait ReplyElement {
    /// An element, as a bulk string.
    fn element(&mut self, element: Element<'_>);
}

impl ReplyElement for Reply<'_> {
    #[inline]
    fn element(&mut self, element: Element<'_>) {
        match element {
            Element::Bytes(bytes) => self.bulk(bytes),
            Element::Int(value) => self.bulk_integer(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_count_from_both_ends() {
        for ((start, stop), range) in [
            ((0, -1), (0, 5)),
            ((0, 0), (0, 1)),
            ((-3, 100), (2, 5)),
            ((-100, -5), (0, 1)),
            ((-100, -6), (0, 0)),
            ((3, 2), (0, 0)),
            ((5, 9), (0, 0)),
            ((i64::MIN, i64::MAX), (0, 5)),
            ((i64::MAX, i64::MIN), (0, 0)),
        ] {
            assert_eq!(range_of(start, stop, 5), range, "{start} {stop}");
        }
        assert_eq!((index_of(-5, 5), index_of(-6, 5), index_of(7, 5)), (Some(0), None, Some(7)));
    }
}
