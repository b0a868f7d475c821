//! DUMP and RESTORE: a value as bytes that another server reads, and back.

use super::{ONE_KEY, READ_ONE};
use crate::args::Args;
use crate::cx::{Ctx, Limits};
use crate::error::Error;
use crate::list;
use crate::logged::Digits;
use crate::set::limits as set_limits;
use crate::spec::{Acl, Arg, Command, Flags, Group, KeyFlags, KeySpec, Run, Spec};
use larder_persist::rdb::file::{Head, Value};
use larder_persist::rdb::{self, Dumped};
use larder_store::{Access, Db, Event, Expire, Hashed, Item, Millis, Note, Str, Type};
use larder_values::hash::Hash;
use larder_values::list::List;
use larder_values::lru::{self, Lfu};
use larder_values::number;
use larder_values::set::Set;
use larder_values::stream::Stream;
use larder_values::zset::ZSet;

/// `DUMP key`
pub static DUMP: Command = Command {
    spec: Spec {
        name: "dump",
        summary: "Answers a key's value as bytes that RESTORE takes.",
        since: "2.6.0",
        complexity: "O(N), N bytes of the value.",
        arity: 2,
        flags: Flags::READONLY,
        acl: Acl::KEYSPACE,
        keys: READ_ONE,
        args: ONE_KEY,
        tips: &["nondeterministic_output"],
        ..Spec::EMPTY
    },
    run: Run::Keys(dump),
    subcommands: &[],
};

const RESTORE_SPEC: Spec = Spec {
    summary: "Makes a key from bytes that DUMP answered.",
    since: "2.6.0",
    complexity: "O(N), N bytes of the value; O(N log N) for a sorted set of N elements.",
    arity: -4,
    flags: Flags::WRITE.or(Flags::DENY_OOM),
    acl: Acl::KEYSPACE.or(Acl::DANGEROUS),
    keys: &[KeySpec::at(1, KeyFlags::OW.or(KeyFlags::UPDATE))],
    args: &[
        Arg::key("key", 0),
        Arg::integer("ttl"),
        Arg::string("serialized-value"),
        Arg::word("replace", "REPLACE").optional().since("3.0.0"),
        Arg::word("absttl", "ABSTTL").optional().since("5.0.0"),
        Arg::integer("seconds").token("IDLETIME").optional().since("5.0.0"),
        Arg::integer("frequency").token("FREQ").optional().since("5.0.0"),
    ],
    history: &[
        ("3.0.0", "Takes `REPLACE`."),
        ("5.0.0", "Takes `ABSTTL`."),
        ("5.0.0", "Takes `IDLETIME` and `FREQ`."),
    ],
    ..Spec::EMPTY
};

/// `RESTORE key ttl serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]`
pub static RESTORE: Command =
    Command { spec: Spec { name: "restore", ..RESTORE_SPEC }, run: Run::Keys(restore), subcommands: &[] };

/// `RESTORE-ASKING`: RESTORE from a node that hands its slots over.
pub static RESTORE_ASKING: Command = Command {
    spec: Spec {
        name: "restore-asking",
        summary: "Makes a key that another node of the cluster hands over.",
        since: "3.0.0",
        group: Group::Server,
        flags: Flags::WRITE.or(Flags::DENY_OOM).or(Flags::ASKING),
        system: true,
        ..RESTORE_SPEC
    },
    run: Run::Keys(restore),
    subcommands: &[],
};

fn dump(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let key = cx.key(args, 1);
    let Some(item) = cx.db.read(&key) else {
        cx.reply.null();
        return Ok(());
    };
    let mut payload = Vec::new();
    write_payload(&item, &mut payload);
    cx.reply.bulk(&payload);
    Ok(())
}

/// Appends what DUMP answers for a value. O(its size).
pub fn write_payload(item: &Item<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    write_object(&mut rdb::Writer::new(true), None, item, out);
    rdb::push_footer(out, start);
}

/// The same for a server of which nothing is known: where the value allows it, of a version that others than Redis' latest read.
pub fn write_payload_for_any(item: &Item<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    write_object(&mut rdb::Writer::new(true), None, item, out);
    rdb::push_footer_for_any(out, start);
}

/// Appends a key and its value as a file has them: what is known of it, type, key, object. O(its size).
pub fn write_key(writer: &mut rdb::Writer, item: &Item<'_>, access: rdb::file::Access, out: &mut Vec<u8>) {
    let end_ms = item.deadline().map(|end| end.0);
    rdb::file::push_head(Head { end_ms, access }, out);
    write_object(writer, Some(item.key()), item, out);
}

/// Appends a value's type, the key where there is one, and the object.
fn write_object(writer: &mut rdb::Writer, key: Option<&[u8]>, item: &Item<'_>, out: &mut Vec<u8>) {
    let written = match item.value_type() {
        Type::String => item.string().map(|text| match text {
            Str::Int(value) => writer.push_integer(key, value, out),
            Str::Bytes(text) => writer.push_string(key, text, out),
            Str::Blob(text) => writer.push_string(key, text, out),
            Str::Ascii7(..) => writer.push_string(key, text.bytes(&mut Vec::new()), out),
        }),
        Type::ZSet => item.view::<ZSet>().map(|set| writer.push_zset(key, set, out)),
        Type::Stream => item.view::<Stream>().map(|stream| writer.push_stream(key, stream, out)),
        Type::Hash => item.view::<Hash>().map(|hash| writer.push_hash(key, hash, out)),
        Type::Set => item.view::<Set>().map(|set| writer.push_set(key, set, out)),
        Type::List => item.view::<List>().map(|list| writer.push_list(key, list, out)),
    };
    debug_assert!(written.is_ok(), "a value is of its type");
}

/// What a RESTORE was asked for beside key, time and payload.
#[derive(Default)]
struct Options {
    replace: bool,
    ttl_is_absolute: bool,
    idle_seconds: Option<i64>,
    frequency: Option<u8>,
}

impl Options {
    fn parse(args: &Args<'_>) -> Result<Options, Error> {
        let mut options = Options::default();
        let mut index = 4;
        while index < args.len() {
            let has_value = index + 1 < args.len();
            if args.is(index, b"replace") {
                options.replace = true;
            } else if args.is(index, b"absttl") {
                options.ttl_is_absolute = true;
            } else if args.is(index, b"idletime") && has_value && options.frequency.is_none() {
                index += 1;
                let seconds = number::parse_i64(args.get(index)).ok_or(Error::NotAnInteger)?;
                if seconds < 0 {
                    return Err(Error::of("ERR Invalid IDLETIME value, must be >= 0"));
                }
                options.idle_seconds = Some(seconds);
            } else if args.is(index, b"freq") && has_value && options.idle_seconds.is_none() {
                index += 1;
                let frequency = number::parse_i64(args.get(index)).ok_or(Error::NotAnInteger)?;
                let frequency = u8::try_from(frequency)
                    .map_err(|_| Error::of("ERR Invalid FREQ value, must be >= 0 and <= 255"))?;
                options.frequency = Some(frequency);
            } else {
                return Err(Error::Syntax);
            }
            index += 1;
        }
        Ok(options)
    }
}

/// When a restored key ends.
enum End {
    Never,
    At(Millis),
    /// The time is over already: there will be no key.
    Past,
}

impl End {
    /// A time too far away for 63 bits counts as past, as in Redis.
    fn parse(text: &[u8], is_absolute: bool, now: Millis) -> Result<End, Error> {
        let ttl = number::parse_i64(text).ok_or(Error::NotAnInteger)?;
        let ttl = u64::try_from(ttl).map_err(|_| Error::of("ERR Invalid TTL value, must be >= 0"))?;
        if ttl == 0 {
            return Ok(End::Never);
        }
        let at = if is_absolute { ttl } else { ttl.saturating_add(now.0) };
        Ok(if at <= now.0 || at > i64::MAX as u64 { End::Past } else { End::At(Millis(at)) })
    }
}

fn restore(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let options = Options::parse(args)?;
    let key = cx.key(args, 1);
    if !options.replace && cx.db.touch(&key).is_some() {
        return Err(Error::of("BUSYKEY Target key name already exists."));
    }
    let end = End::parse(args.get(2), options.ttl_is_absolute, cx.db.now())?;
    let dumped = read_payload(args.get(3), cx.limits)?;
    let replaced = options.replace && cx.db.remove(&key);
    let expire = match end {
        End::Never => Expire::Clear,
        End::At(at) => Expire::At(at),
        End::Past => {
            if replaced {
                cx.db.changed(&key, Event::DEL);
                cx.log_removal(key.bytes, cx.db.local.lazy_free.replaced);
            }
            cx.reply.ok();
            return Ok(());
        }
    };
    store(&mut cx.db, cx.limits, &key, dumped, expire);
    if cx.limits.counts_frequency {
        options.frequency.into_iter().for_each(|counter| set_uses(&mut cx.db, &key, counter));
    } else {
        options.idle_seconds.into_iter().for_each(|seconds| set_idle(&mut cx.db, &key, seconds));
    }
    cx.db.changed(&key, Event::RESTORE);
    if let (Expire::At(at), false) = (expire, options.ttl_is_absolute) {
        log_with_end(cx, args, at);
    }
    if replaced {
        cx.db.overwritten(&key);
    }
    cx.reply.ok();
    Ok(())
}

/// Says that a RESTORE is logged with the moment of its key's end.
fn log_with_end(cx: &mut Ctx<'_>, args: &Args<'_>, at: Millis) {
    if cx.is_logged() {
        let at = Digits::of(at.0);
        let words = args.from(0).take(2).chain([at.text()]).chain(args.from(3)).chain([&b"ABSTTL"[..]]);
        let words: Vec<&[u8]> = words.collect();
        cx.log().instead(words.into_iter());
    }
}

/// Stores what a payload held, whatever the key held. Answers whether it existed.
fn store(db: &mut Db<'_>, limits: &Limits, key: &Hashed<'_>, dumped: Dumped, expire: Expire) -> bool {
    match dumped {
        Dumped::String(value) => store_text(db, key, &value, expire),
        Dumped::ZSet(dumped) => db.put_collection(key, dumped.into_zset(limits.zset_packed), expire),
        Dumped::Stream(stream) => db.put_collection(key, *stream, expire),
        Dumped::Hash(hash) => db.put_collection(key, hash.into_hash(limits.hash_packed), expire),
        Dumped::Set(dumped) => db.put_collection(key, dumped.into_set(&set_limits(limits)), expire),
        Dumped::List(dumped) => db.put_collection(key, dumped.into_list(list::limit(limits)), expire),
    }
}

fn store_text(db: &mut Db<'_>, key: &Hashed<'_>, text: &[u8], expire: Expire) -> bool {
    let existed = db.put_string(key, text, expire);
    if expire != Expire::Clear {
        db.stored_with_end(key);
    }
    existed
}

/// What is known of a key that stands beside it in a file.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beside {
    /// What the eviction policy that is in force knew of it, for `Uses::recall_next`.
    pub kept: Option<u32>,
    /// What memcached's protocol knows of its value.
    pub note: Option<Note>,
}

/// Stores what a file held under a key, with its end and what is known of its uses. Answers whether the key existed;
/// it is overwritten then. Tells nobody.
pub fn load_key(
    db: &mut Db<'_>,
    limits: &Limits,
    key: &Hashed<'_>,
    (head, beside): (Head, Beside),
    value: Value<'_>,
) -> bool {
    let expire = head.end_ms.map_or(Expire::Clear, |end| Expire::At(Millis(end)));
    db.local.uses.recall_next(beside.kept);
    let existed = match (value, beside.note) {
        (Value::Text(text), Some(note)) => db.put_noted(key, &text, note, expire),
        (Value::Integer(value), Some(note)) => {
            let mut text = Vec::with_capacity(20);
            number::write_i64(&mut text, value);
            db.put_noted(key, &text, note, expire)
        }
        (Value::Text(text), None) => store_text(db, key, &text, expire),
        (Value::Integer(value), None) => db.put_integer(key, value, expire),
        (Value::Collection(dumped), _) => store(db, limits, key, dumped, expire),
        (Value::Empty | Value::Skipped, _) => false,
    };
    if db.local.uses.has_recalled() && beside.kept.is_some() {
        return existed;
    }
    match head.access {
        rdb::file::Access::Idle(seconds) if !limits.counts_frequency => {
            set_idle(db, key, i64::try_from(seconds).unwrap_or(i64::MAX));
        }
        rdb::file::Access::Frequency(counter) if limits.counts_frequency => set_uses(db, key, counter),
        _ => {}
    }
    existed
}

fn read_payload(payload: &[u8], limits: &Limits) -> Result<Dumped, Error> {
    rdb::restore(payload, limits.string_bytes_max).map_err(|error| Error::custom(error.to_string()))
}

/// Writes how often a key was used, as the policy in force keeps it.
fn set_uses(db: &mut Db<'_>, key: &Hashed<'_>, counter: u8) {
    match db.access_to(key) {
        Access::Policy => db.set_uses(key, counter),
        _ => {
            let field = Lfu { decayed_at: lru::minute_at(db.now().0), counter };
            db.set_access(key, field.to_bits());
        }
    }
}

/// Writes how long a key has not been used, as the policy in force keeps it.
fn set_idle(db: &mut Db<'_>, key: &Hashed<'_>, idle_seconds: i64) {
    match db.access_to(key) {
        Access::Policy => db.set_idle(key, idle_seconds.unsigned_abs().saturating_mul(1000)),
        _ => db.set_access(key, used_before(lru::clock_at(db.now().0), idle_seconds)),
    }
}

/// The access field of a key that was used `idle_seconds` before `clock`. The clock wraps, so idle
/// times of over 194 days come out shorter: as in Redis, bit for bit.
fn used_before(clock: u32, idle_seconds: i64) -> u32 {
    let idle = idle_seconds.wrapping_mul(1000) / 1000;
    let used = i64::from(clock).wrapping_sub(idle);
    let used = if used < 0 { used + i64::from(lru::CLOCK_MAX) } else { used };
    (used & i64::from(lru::CLOCK_MAX)) as u32
}

#[cfg(test)]
mod tests {
    use super::used_before;
    use larder_values::lru;

    #[test]
    fn idle_times_are_those_redis_answers() {
        let clock = 253_837;
        for (asked, answered) in [
            (0, 0),
            (1000, 1000),
            (300_000, 300_000),
            (16_777_214, 16_777_214),
            (16_777_215, 0),
            (16_777_216, 1),
            (100_000_000, 16_113_920),
            (1 << 40, 1),
            (i64::MAX, 16_777_214),
            (9_223_372_036_854_775, 14_898_167),
            (9_223_372_036_854_776, 1_879_048),
        ] {
            assert_eq!(lru::idle_ms(clock, used_before(clock, asked)) / 1000, answered, "{asked}");
        }
    }
}
