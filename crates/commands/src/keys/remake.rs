//! A key as the commands that make it: what a log has that begins without a snapshot (`aof-use-rdb-preamble no`).
//!
//! Invariant: on no key, these commands make one with the same value and end, here and in redis-server; when consumers were
//! seen is not among them, as in Redis. Read next: `dump.rs` for a key as a snapshot has it.

use crate::logged::Digits;
use larder_persist::aof::{append, append_note, append_word, begin};
use larder_store::{Item, Note, Str, Type};
use larder_values::hash::{Hash, HashView};
use larder_values::list::{List, ListView};
use larder_values::number;
use larder_values::packed::Element;
use larder_values::set::{Set, View as SetView};
use larder_values::stream::{Group, Stream, StreamId};
use larder_values::zset::{View as ZSetView, ZSet};

/// Elements that one command adds, as in Redis: no command is so long that it holds others up.
const ELEMENTS_MAX: usize = 64;

/// Appends the commands that make a key. O(the size of its value).
pub fn write_commands(item: &Item<'_>, out: &mut Vec<u8>) {
    let key = item.key();
    if let Some(note) = item.note().filter(Note::is_lasting) {
        append_note(out, &note.bytes());
    }
    let written = match item.value_type() {
        Type::String => item.string().map(|text| write_string(key, text, out)),
        Type::ZSet => item.view::<ZSet>().map(|set| write_zset(key, set, out)),
        Type::Stream => item.view::<Stream>().map(|stream| write_stream(key, stream, out)),
        Type::Hash => item.view::<Hash>().map(|hash| write_hash(key, hash, out)),
        Type::Set => item.view::<Set>().map(|set| write_set(key, set, out)),
        Type::List => item.view::<List>().map(|list| write_list(key, list, out)),
    };
    debug_assert!(written.is_ok(), "a value is of its type");
    if let Some(end) = item.deadline() {
        append(out, [&b"PEXPIREAT"[..], key, Digits::of(end.0).text()].into_iter());
    }
}

fn write_string(key: &[u8], text: Str<'_>, out: &mut Vec<u8>) {
    begin(out, 3);
    append_word(out, b"SET");
    append_word(out, key);
    match text {
        Str::Int(value) => append_element(out, Element::Int(value)),
        Str::Bytes(text) => append_word(out, text),
        Str::Blob(text) => append_word(out, text),
        Str::Ascii7(..) => append_word(out, text.bytes(&mut Vec::new())),
    }
}

/// Commands that add elements, so many words each, to the value of a key.
struct Adding<'a> {
    command: &'a [u8],
    key: &'a [u8],
    words_each: usize,
    /// Elements that are still to come.
    left: usize,
    /// How many of them the command at hand has room for.
    room: usize,
}

impl<'a> Adding<'a> {
    fn new(command: &'a [u8], key: &'a [u8], words_each: usize, elements: usize) -> Adding<'a> {
        Adding { command, key, words_each, left: elements, room: 0 }
    }

    /// Begins the next element, and a command where the last one is full. Its words must follow.
    fn next(&mut self, out: &mut Vec<u8>) {
        if self.room == 0 {
            self.room = self.left.min(ELEMENTS_MAX);
            begin(out, 2 + self.room * self.words_each);
            append_word(out, self.command);
            append_word(out, self.key);
        }
        self.room = self.room.saturating_sub(1);
        self.left = self.left.saturating_sub(1);
    }
}

fn append_element(out: &mut Vec<u8>, element: Element<'_>) {
    match element {
        Element::Bytes(text) => append_word(out, text),
        Element::Int(_) => append_word(out, &element.to_vec()),
    }
}

fn write_list(key: &[u8], list: ListView<'_>, out: &mut Vec<u8>) {
    let mut adding = Adding::new(b"RPUSH", key, 1, list.len());
    list.for_each(0, list.len(), |element| {
        adding.next(out);
        append_element(out, element);
    });
}

fn write_set(key: &[u8], set: SetView<'_>, out: &mut Vec<u8>) {
    let mut adding = Adding::new(b"SADD", key, 1, set.len());
    set.for_each(|member| {
        adding.next(out);
        append_element(out, member);
    });
}

fn write_zset(key: &[u8], set: ZSetView<'_>, out: &mut Vec<u8>) {
    let (mut adding, mut text) = (Adding::new(b"ZADD", key, 2, set.len()), Vec::new());
    for (member, score) in set.range(0, usize::MAX, false) {
        adding.next(out);
        text.clear();
        number::write_f64(&mut text, score);
        append_word(out, &text);
        append_element(out, member);
    }
}

fn write_hash(key: &[u8], hash: HashView<'_>, out: &mut Vec<u8>) {
    let mut adding = Adding::new(b"HMSET", key, 2, hash.len());
    hash.for_each_stored(|field, value, _| {
        adding.next(out);
        append_element(out, field);
        append_element(out, value);
    });
    hash.for_each_stored(|field, _, end| {
        if let Some(end) = end {
            begin(out, 6);
            for word in [&b"HPEXPIREAT"[..], key, Digits::of(end).text(), b"FIELDS", b"1"] {
                append_word(out, word);
            }
            append_element(out, field);
        }
    });
}

fn write_stream(key: &[u8], stream: &Stream, out: &mut Vec<u8>) {
    for entry in stream.entries(StreamId::MIN, StreamId::MAX) {
        begin(out, 3 + entry.len * 2);
        append_word(out, b"XADD");
        append_word(out, key);
        append_word(out, &entry.id.text());
        entry.words().for_each(|word| append_word(out, &word.to_vec()));
    }
    let numbers = stream.numbers();
    if stream.len() == 0 {
        // One that is gone again leaves an empty stream; no entry has the smallest id.
        let id = numbers.last_id.max(StreamId { ms: 0, seq: 1 });
        append(out, [&b"XADD"[..], key, b"MAXLEN", b"0", &*id.text(), b"x", b"y"].into_iter());
    }
    let (last, deleted) = (numbers.last_id.text(), numbers.max_deleted_id.text());
    let added = Digits::of(numbers.entries_added);
    let words = [b"XSETID", key, &*last, b"ENTRIESADDED", added.text(), b"MAXDELETEDID", &*deleted];
    append(out, words.into_iter());
    for (name, group) in stream.groups() {
        write_group(key, name, group, out);
    }
}

fn write_group(key: &[u8], name: &[u8], group: &Group, out: &mut Vec<u8>) {
    let (last, read) = (group.last_id().text(), group.entries_read().map(Digits::of));
    // What is not known has this number.
    let read = read.as_ref().map_or(&b"-1"[..], Digits::text);
    append(out, [&b"XGROUP"[..], b"CREATE", key, name, &*last, b"ENTRIESREAD", read].into_iter());
    let mut delivered = Vec::new();
    for (place, consumer) in group.consumers() {
        append(out, [&b"XGROUP"[..], b"CREATECONSUMER", key, name, consumer.name()].into_iter());
        for id in group.pending_of(place, StreamId::MIN, StreamId::MAX) {
            let Some(pending) = group.pending(id) else { continue };
            delivered.clear();
            number::write_i64(&mut delivered, pending.delivered_ms);
            let deliveries = Digits::of(pending.deliveries);
            let id = id.text();
            let claim = [&b"XCLAIM"[..], key, name, consumer.name(), b"0", &*id];
            let how = [&b"TIME"[..], &delivered, b"RETRYCOUNT", deliveries.text(), b"JUSTID", b"FORCE"];
            begin(out, claim.len() + how.len());
            claim.into_iter().chain(how).for_each(|word| append_word(out, word));
        }
    }
}
