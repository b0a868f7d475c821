//! When two replies to one request agree.
//! Invariant: replies must be equal to the byte but for what time, chance, file versions and the server itself
//! decide: times within a tolerance, what is drawn by chance by its shape, DUMP without its footer, orders that
//! mean nothing.

use super::Request;
use super::grammar::Grammar;
use crate::value::Value;
use std::mem::discriminant;

/// How far apart two times to live may be.
pub const TOLERANCE_MS: u64 = 3000;
/// Version and checksum at the end of a DUMP.
const DUMP_FOOTER_BYTES: usize = 10;
/// The type byte of a stream in DUMP's payload.
const DUMP_OF_STREAM: u8 = 21;
/// Type bytes of values that lie in a hash table's order: sets and hashes, with ends of fields and without.
const DUMPS_OF_TABLES: [u8; 3] = [2, 4, 24];
/// The type byte of a small hash with ends of fields.
const DUMP_OF_TIMED_FIELDS: u8 = 25;
/// What XINFO tells of times, in milliseconds: since an event or of an event.
const TIMES_IN_STREAMS: [&[u8]; 4] = [b"seen-time", b"active-time", b"idle", b"inactive"];
/// The earliest moment a server's clock can tell, in milliseconds. No number that is chosen here lies between it and
/// the numbers that stand for the far future.
const NOW_MS_MIN: i64 = 1_600_000_000_000;
const NOW_MS_MAX: i64 = 30_000_000_000_000;

/// What two replies to a request come to.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They agree.
    Agree,
    /// They agree as far as chance lets them, and the data of the key is not the same any more.
    Diverge,
    /// One of them is wrong.
    Differ,
}

/// Like [`agree`], for requests in their sequence: `kept` are the requests that wait for EXEC, and `next` is what
/// follows on this one.
pub fn verdict<'r>(
    grammar: &Grammar,
    request: &'r Request,
    next: Option<&Request>,
    [ours, theirs]: [&Value; 2],
    kept: &mut Vec<&'r Request>,
) -> Verdict {
    if theirs == &Value::Simple(b"QUEUED".to_vec()) {
        kept.push(request);
        return if ours == theirs { Verdict::Agree } else { Verdict::Differ };
    }
    if !matches!(full_name(request).as_str(), "exec" | "discard" | "reset") {
        return one_verdict(grammar, request, next, ours, theirs);
    }
    let kept = std::mem::take(kept);
    match (ours, theirs) {
        (Value::Array(ours), Value::Array(theirs)) if [ours.len(), theirs.len()] == [kept.len(); 2] => {
            let verdicts = kept.iter().enumerate().zip(ours.iter().zip(theirs)).map(
                |((at, request), (ours, theirs))| {
                    // Redis stores the very word that the queue holds, which therefore counts twice.
                    if full_name(request) == "object|refcount" && has_one_shape(ours, theirs) {
                        return Verdict::Agree;
                    }
                    one_verdict(grammar, request, kept.get(at + 1).copied(), ours, theirs)
                },
            );
            verdicts.fold(Verdict::Agree, |all, one| match (all, one) {
                (Verdict::Differ, _) | (_, Verdict::Differ) => Verdict::Differ,
                (Verdict::Diverge, _) | (_, Verdict::Diverge) => Verdict::Diverge,
                _ => Verdict::Agree,
            })
        }
        _ if ours == theirs => Verdict::Agree,
        _ => Verdict::Differ,
    }
}

fn one_verdict(
    grammar: &Grammar,
    request: &Request,
    next: Option<&Request>,
    ours: &Value,
    theirs: &Value,
) -> Verdict {
    if !agree(grammar, request, ours, theirs) {
        return Verdict::Differ;
    }
    let name = full_name(request);
    // What such a SORT stores comes from sets in the order of a table.
    let stores_ties =
        name == "sort" && [&b"by"[..], b"alpha", b"store"].iter().all(|word| has_word(request, word));
    if stores_ties && ours.integer().is_some_and(|count| count > 1) {
        return Verdict::Diverge;
    }
    let draws = matches!(name.as_str(), "spop" | "xadd");
    // The grammar lets the key's removal follow.
    let is_made_good =
        next.is_some_and(|next| next.len() == 2 && full_name(next) == "del" && next.get(1) == request.get(1));
    if draws && sorted(ours) != sorted(theirs) && !is_made_good { Verdict::Diverge } else { Verdict::Agree }
}

fn agree(grammar: &Grammar, request: &Request, ours: &Value, theirs: &Value) -> bool {
    if ours == theirs || is_error_in_one_line(ours, theirs) {
        return true;
    }
    if theirs.is_error() && is_of_valkey_alone(request) {
        return ours.is_error() || ours.integer().is_some();
    }
    match full_name(request).as_str() {
        "pttl" | "pexpiretime" => agree_on_time(ours, theirs, TOLERANCE_MS),
        "ttl" | "expiretime" | "object|idletime" => agree_on_time(ours, theirs, TOLERANCE_MS / 1000),
        "hpttl" | "hpexpiretime" => agree_on_times(ours, theirs, TOLERANCE_MS),
        "httl" | "hexpiretime" => agree_on_times(ours, theirs, TOLERANCE_MS / 1000),
        "dump" => agree_on_dump(ours, theirs),
        "xinfo|stream" | "xinfo|consumers" => agree_on_stream(ours, theirs),
        "xpending" => agree_on_pending(ours, theirs),
        "scan" | "sscan" | "hscan" | "zscan" => agree_on_scan(request, ours, theirs),
        "xadd" => is_drawn_id(ours) && is_drawn_id(theirs),
        // What is drawn by chance, or measured.
        "spop" | "srandmember" | "hrandfield" | "zrandmember" | "randomkey" | "acl|genpass" | "time"
        | "lastsave" | "client|id" | "slowlog|len" | "role" => has_one_shape(ours, theirs),
        // Each server tells of itself; errors are the same.
        "memory|usage" | "client|list" | "client|info" | "slowlog|get" | "acl|cat" => {
            !theirs.is_error() && discriminant(ours) == discriminant(theirs)
        }
        "hello" => {
            let proto = |reply: &Value| reply.field("proto").and_then(|proto| proto.integer());
            proto(theirs).is_some() && proto(ours) == proto(theirs)
        }
        // What a server pushes for several channels or patterns comes in the order of its tables.
        "publish" | "spublish" => matches!(theirs, Value::Push(_)) && sorted(ours) == sorted(theirs),
        "pubsub|channels" | "pubsub|shardchannels" => sorted(ours) == sorted(theirs),
        "unsubscribe" | "punsubscribe" | "sunsubscribe" if request.len() == 1 => {
            agree_on_farewells(ours, theirs)
        }
        "config|get" => same_pairs(ours, theirs),
        // By texts of other keys those that have the same, or none, stay as they came: from sets in the order of a table.
        "sort" | "sort_ro" if has_word(request, b"by") && has_word(request, b"alpha") => {
            let cut = has_word(request, b"limit");
            let counts = [ours, theirs].map(|reply| reply.items().map(<[Value]>::len));
            if cut { counts[0].is_some() && counts[0] == counts[1] } else { sorted(ours) == sorted(theirs) }
        }
        _ => grammar.is_unordered(request) && sorted(ours) == sorted(theirs),
    }
}

/// Whether Valkey takes the request, and so does Larder, where Redis has no such form: BITCOUNT with a start and no end (also
/// called by a script), CLIENT KILL by several numbers.
fn is_of_valkey_alone(request: &Request) -> bool {
    let is = |at: usize, name: &[u8]| request.get(at).is_some_and(|word| word.eq_ignore_ascii_case(name));
    let counts = request.len().checked_sub(3).is_some_and(|at| is(at, b"bitcount"));
    counts || is(0, b"client") && is(1, b"kill") && is(2, b"id") && request.len() > 4
}

/// Whether both are one error but for line breaks, which Redis lets through in a few and which end a line of the protocol.
fn is_error_in_one_line(ours: &Value, theirs: &Value) -> bool {
    let (Value::Error(ours), Value::Error(theirs)) = (ours, theirs) else { return false };
    let blank = |byte: &u8| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte };
    theirs.iter().map(blank).eq(ours.iter().copied())
}

/// The name as in COMMAND LIST, in lower case: `object|encoding`.
pub fn full_name(request: &Request) -> String {
    let word = |at: usize| {
        request.get(at).map(|word| String::from_utf8_lossy(word).to_lowercase()).unwrap_or_default()
    };
    match word(0).as_str() {
        container @ ("object" | "xinfo" | "acl" | "client" | "slowlog" | "memory" | "config" | "pubsub") => {
            format!("{container}|{}", word(1))
        }
        name => name.to_owned(),
    }
}

/// The same for one time a field.
fn agree_on_times(ours: &Value, theirs: &Value, tolerance: u64) -> bool {
    match (ours.items(), theirs.items()) {
        (Some(ours), Some(theirs)) if ours.len() == theirs.len() => {
            ours.iter().zip(theirs).all(|(ours, theirs)| agree_on_time(ours, theirs, tolerance))
        }
        _ => ours == theirs,
    }
}

/// Whether two times are the same but for how long the servers took.
pub fn agree_on_time(ours: &Value, theirs: &Value, tolerance: u64) -> bool {
    match (ours.integer(), theirs.integer()) {
        // -1 and -2 say that there is no time or no key.
        (Some(ours), Some(theirs)) if ours >= 0 && theirs >= 0 => ours.abs_diff(theirs) <= tolerance,
        _ => ours == theirs,
    }
}

fn agree_on_dump(ours: &Value, theirs: &Value) -> bool {
    // Streams tell when they were read, and what they hold is compared otherwise.
    if is_dump_in_any_order(ours) {
        let look = |value: &Value| value.bytes().map(|bytes| (bytes.first().copied(), bytes.len()));
        return dump_type(ours) == Some(DUMP_OF_STREAM) && dump_type(theirs) == Some(DUMP_OF_STREAM)
            || look(ours) == look(theirs);
    }
    if dump_type(ours) == Some(DUMP_OF_TIMED_FIELDS) && dump_type(theirs) == Some(DUMP_OF_TIMED_FIELDS) {
        return first_ends_agree(ours, theirs);
    }
    without_footer(ours.clone()) == without_footer(theirs.clone())
}

/// Hashes whose fields end at moments that each server reckons from its own clock: the first of them stands behind the
/// type. The rest, which may be compressed, is compared by the other commands.
fn first_ends_agree(ours: &Value, theirs: &Value) -> bool {
    let end = |dump: &Value| Some(u64::from_le_bytes(*dump.bytes()?.get(1..)?.first_chunk()?));
    end(ours).zip(end(theirs)).is_some_and(|(ours, theirs)| ours.abs_diff(theirs) <= TOLERANCE_MS)
}

fn dump_type(value: &Value) -> Option<u8> {
    value.bytes().and_then(|bytes| bytes.first().copied())
}

fn is_dump_in_any_order(value: &Value) -> bool {
    dump_type(value).is_some_and(|kind| kind == DUMP_OF_STREAM || DUMPS_OF_TABLES.contains(&kind))
}

/// A payload of DUMP without what tells the file version.
pub fn without_footer(dump: Value) -> Value {
    match dump {
        Value::Bulk(mut bytes) => {
            bytes.truncate(bytes.len().saturating_sub(DUMP_FOOTER_BYTES));
            Value::Bulk(bytes)
        }
        other => other,
    }
}

/// XINFO: moments and durations may differ, by their names or, in lists of entries, by their size.
pub fn agree_on_stream(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Map(_), Value::Map(_)) => {
            let (ours, theirs) = (ours.pairs(), theirs.pairs());
            let same = |(ours, theirs): (&(Value, Value), &(Value, Value))| {
                ours.0 == theirs.0 && agree_on_field(&ours.0, &ours.1, &theirs.1)
            };
            ours.len() == theirs.len() && ours.iter().zip(&theirs).all(same)
        }
        (Value::Array(ours), Value::Array(theirs)) => {
            let name = |at: usize| at.checked_sub(1).and_then(|at| theirs.get(at)).unwrap_or(&Value::Null);
            ours.len() == theirs.len()
                && ours
                    .iter()
                    .zip(theirs)
                    .enumerate()
                    .all(|(at, (ours, theirs))| agree_on_field(name(at), ours, theirs))
        }
        (Value::Integer(one), Value::Integer(other)) => {
            let is_now = |time: &i64| (NOW_MS_MIN..NOW_MS_MAX).contains(time);
            one == other || is_now(one) && is_now(other) && one.abs_diff(*other) <= TOLERANCE_MS
        }
        _ => ours == theirs,
    }
}

fn agree_on_field(name: &Value, ours: &Value, theirs: &Value) -> bool {
    if name.bytes().is_some_and(|name| TIMES_IN_STREAMS.contains(&name)) {
        return agree_on_time(ours, theirs, TOLERANCE_MS);
    }
    agree_on_stream(ours, theirs)
}

/// XPENDING's rows: id, consumer, for how long, how often.
fn agree_on_pending(ours: &Value, theirs: &Value) -> bool {
    let (Some(ours), Some(theirs)) = (ours.items(), theirs.items()) else { return false };
    ours.len() == theirs.len()
        && ours.iter().zip(theirs).all(|(ours, theirs)| match (ours.items(), theirs.items()) {
            (
                Some([id, consumer, idle, times]),
                Some([their_id, their_consumer, their_idle, their_times]),
            ) => {
                [id, consumer, times] == [their_id, their_consumer, their_times]
                    && agree_on_time(idle, their_idle, TOLERANCE_MS)
            }
            _ => ours == theirs,
        })
}

/// A scan that both went through from one end to the other found the same; of any other, positions are each
/// server's own, and so is what lies between them.
fn agree_on_scan(request: &Request, ours: &Value, theirs: &Value) -> bool {
    let (Some([our_next, our_items]), Some([their_next, their_items])) = (ours.items(), theirs.items())
    else {
        return false;
    };
    let zero = Value::Bulk(b"0".to_vec());
    let begins = request.iter().skip(1).take(2).any(|word| word.as_slice() == b"0");
    if begins && *our_next == zero && *their_next == zero {
        return sorted(our_items) == sorted(their_items);
    }
    has_one_shape(our_next, their_next) && discriminant(our_items) == discriminant(their_items)
}

/// The end of all subscriptions: which one goes first is a matter of tables, how many are left is not.
fn agree_on_farewells(ours: &Value, theirs: &Value) -> bool {
    let columns = |replies: &Value| {
        let rows: Vec<&[Value]> =
            replies.items().unwrap_or_default().iter().filter_map(Value::items).collect();
        let mut names: Vec<&[Value]> = rows.iter().map(|row| &row[..row.len().min(2)]).collect();
        names.sort();
        let left: Vec<Option<&Value>> = rows.iter().map(|row| row.get(2)).collect();
        format!("{names:?} {left:?}")
    };
    matches!(theirs, Value::Push(_)) && columns(ours) == columns(theirs)
}

/// An id that a server's clock decided.
fn is_drawn_id(reply: &Value) -> bool {
    let Value::Bulk(id) = reply else { return false };
    let ms = id.split(|byte| *byte == b'-').next().unwrap_or_default();
    let ms = str::from_utf8(ms).ok().and_then(|ms| ms.parse::<i64>().ok());
    ms.is_some_and(|ms| (NOW_MS_MIN..NOW_MS_MAX).contains(&ms))
}

/// Whether two values have as many parts of the same kinds.
fn has_one_shape(ours: &Value, theirs: &Value) -> bool {
    if theirs.is_error() || discriminant(ours) != discriminant(theirs) {
        return false;
    }
    match (ours.items(), theirs.items()) {
        (Some(ours), Some(theirs)) => {
            ours.len() == theirs.len()
                && ours.iter().zip(theirs).all(|(ours, theirs)| has_one_shape(ours, theirs))
        }
        _ => true,
    }
}

fn same_pairs(ours: &Value, theirs: &Value) -> bool {
    let (mut ours, mut theirs) = (ours.pairs(), theirs.pairs());
    ours.sort();
    theirs.sort();
    !theirs.is_empty() && ours == theirs
}

fn has_word(request: &Request, word: &[u8]) -> bool {
    request.iter().skip(2).any(|own| own.eq_ignore_ascii_case(word))
}

fn sorted(value: &Value) -> Value {
    let mut value = value.clone();
    value.sort();
    value
}
