//! Ids and entries as replies.

use larder_resp::Reply;
use larder_values::stream::{Element, Entry, StreamId};

/// An id as a bulk string.
#[inline]
pub(super) fn id(reply: &mut Reply<'_>, id: StreamId) {
    reply.bulk(&id.text());
}

/// An entry: its id, and its fields and values in one array.
#[inline]
pub(super) fn entry(reply: &mut Reply<'_>, entry: &Entry<'_>) {
    reply.array(2);
    id(reply, entry.id);
    reply.array(entry.len * 2);
    for word in entry.words() {
        match word {
            Element::Bytes(bytes) => reply.bulk(bytes),
            Element::Int(value) => reply.bulk_integer(value),
        }
    }
}

/// Entries, `count` of them.
pub(super) fn entries<'a>(reply: &mut Reply<'_>, count: u64, entries: impl Iterator<Item = Entry<'a>>) {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    reply.array(count);
    for found in entries.take(count) {
        entry(reply, &found);
    }
}

/// A count, or null where it is not known.
pub(super) fn count_or_null(reply: &mut Reply<'_>, count: Option<i64>) {
    match count {
        Some(count) => reply.integer(count),
        None => reply.null(),
    }
}
