//! DUMP and RESTORE: a value as bytes that another server reads, and back.

use super::{ONE_KEY, READ_ONE};
use crate::args::Args;
use crate::cx::{Ctx, Limits};
use crate::error::Error;
use crate::list;
use crate::set::limits;
use crate::spec::{Acl, Arg, Command, Flags, Group, KeyFlags, KeySpec, Run, Spec};
use larder_persist::rdb::{self, Dumped, DumpedZSet};
use larder_store::{Access, Event, Expire, Hashed, Item, Millis, Type};
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
    match item.value_type() {
        Type::String => {
            let mut scratch = Vec::new();
            if let Ok(text) = item.string() {
                rdb::dump_string(text.bytes(&mut scratch), out);
            }
        }
        Type::ZSet => {
            if let Ok(set) = item.view::<ZSet>() {
                rdb::Writer::new(true).dump_zset(set, out);
            }
        }
        Type::Stream => {
            if let Ok(stream) = item.view::<Stream>() {
                rdb::Writer::new(true).dump_stream(stream, out);
            }
        }
        Type::Hash => {
            if let Ok(hash) = item.view::<Hash>() {
                rdb::Writer::new(true).dump_hash(hash, out);
            }
        }
        Type::Set => {
            if let Ok(set) = item.view::<Set>() {
                rdb::Writer::new(true).dump_set(set, out);
            }
        }
        Type::List => {
            if let Ok(list) = item.view::<List>() {
                rdb::Writer::new(true).dump_list(list, out);
            }
        }
    }
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
            }
            cx.reply.ok();
            return Ok(());
        }
    };
    store(cx, &key, dumped, expire)?;
    set_access(cx, &key, &options);
    cx.db.changed(&key, Event::RESTORE);
    if replaced {
        cx.db.overwritten(&key);
    }
    cx.reply.ok();
    Ok(())
}

/// Stores what a payload held under a key that does not exist.
fn store(cx: &mut Ctx<'_>, key: &Hashed<'_>, dumped: Dumped, expire: Expire) -> Result<(), Error> {
    match dumped {
        Dumped::String(value) => {
            cx.db.put_string(key, &value, expire);
            cx.db.stored_with_end(key);
        }
        Dumped::ZSet(dumped) => {
            let limits = cx.limits.zset_packed;
            let set = match dumped {
                DumpedZSet::Packed(packed) => ZSet::from_packed(packed, limits),
                DumpedZSet::Pairs(pairs) => ZSet::from_pairs(pairs, limits),
            };
            cx.db.put_collection(key, set, expire);
        }
        Dumped::Stream(stream) => {
            cx.db.put_collection(key, *stream, expire);
        }
        Dumped::Hash(hash) => {
            cx.db.put_collection(key, hash.into_hash(cx.limits.hash_packed), expire);
        }
        Dumped::Set(dumped) => {
            cx.db.put_collection(key, dumped.into_set(&limits(cx.limits)), expire);
        }
        Dumped::List(dumped) => {
            let list = dumped.into_list(list::limit(cx.limits));
            cx.db.put_collection(key, list, expire);
        }
    }
    Ok(())
}

fn read_payload(payload: &[u8], limits: &Limits) -> Result<Dumped, Error> {
    rdb::restore(payload, limits.string_bytes_max).map_err(|error| Error::custom(error.to_string()))
}

/// Writes what IDLETIME or FREQ says, where the policy in force keeps it.
fn set_access(cx: &mut Ctx<'_>, key: &Hashed<'_>, options: &Options) {
    let now = cx.db.now().0;
    if cx.limits.counts_frequency {
        let Some(counter) = options.frequency else { return };
        match cx.db.local.access {
            Access::Policy => cx.db.set_uses(key, counter),
            _ => {
                let field = Lfu { decayed_at: lru::minute_at(now), counter };
                cx.db.set_access(key, field.to_bits());
            }
        }
    } else if let Some(idle_seconds) = options.idle_seconds {
        match cx.db.local.access {
            Access::Policy => cx.db.set_idle(key, idle_seconds.unsigned_abs().saturating_mul(1000)),
            _ => cx.db.set_access(key, used_before(lru::clock_at(now), idle_seconds)),
        }
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
