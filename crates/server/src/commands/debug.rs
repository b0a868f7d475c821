//! DEBUG: for tests. Everything else of the server stands still while it runs.

use super::help::{help as answer_help, misused};
use super::save::asker;
use crate::clock;
use crate::execute::Host;
use crate::load::LOADING_TEXT;
use crate::registry::{HostCommand, HostRun};
use crate::server::Server;
use crate::snapshot::{self, Job, Reload, ask_for};
use larder_commands::keys::write_payload;
use larder_commands::spec::{Flags, Group};
use larder_commands::{Args, Error, Spec};
use larder_config::memory as memory_bytes;
use larder_resp::Reply;
use larder_store::{Db, Expire, Item, Millis, Str, Type};
use larder_values::digest::DatasetDigest;
use larder_values::glob::{self, Case};
use larder_values::hash::{Hash, HashView};
use larder_values::list::{List, ListView, Quick};
use larder_values::packed::{Packed, PackedBuf};
use larder_values::set::{self, Set};
use larder_values::stream::Stream;
use larder_values::zset::{self, ZSet};
use larder_values::{lru, number};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Bytes of a DUMP payload that are not the value: its type, the version, the checksum.
const DUMP_FRAME_BYTES: usize = 1 + 2 + 8;

/// The largest length that DEBUG QUICKLIST-PACKED-THRESHOLD takes.
const LARGE_BYTES_MIN_MAX: u64 = (1 << 32) - (1 << 20);

/// `DEBUG`
pub static DEBUG: HostCommand = HostCommand {
    spec: Spec {
        name: "debug",
        summary: "Groups the commands for tests and debugging.",
        group: Group::Server,
        complexity: "That of the subcommand.",
        arity: -2,
        flags: Flags::ADMIN.or(Flags::NO_SCRIPT).or(Flags::LOADING).or(Flags::STALE),
        system: true,
        ..Spec::EMPTY
    },
    run: HostRun::HostExclusive(debug),
    subcommands: &[],
};

static HELP_LINES: &[&str] = &[
    "AOF-FLUSH-SLEEP <microseconds>",
    "    Has the thread that writes the append-only log wait so long before it writes; 0 for not at all.",
    "DIGEST",
    "    Answers a digest of all data: equal data, equal digest.",
    "DIGEST-VALUE <key> [<key> ...]",
    "    Answers a digest of the value of each <key>.",
    "ERROR <string>",
    "    Answers an error with this text.",
    "LOADAOF",
    "    Writes out the append-only log, removes everything, and loads it again.",
    "LISTPACK <key>",
    "    Writes to the log what the packed value of <key> holds.",
    "LOG <message>",
    "    Writes <message> to the log.",
    "OBJECT <key>",
    "    Tells how the value of <key> is kept.",
    "PANIC",
    "    Panics inside the command: the connection ends, the server goes on.",
    "PAUSE-CRON <0|1>",
    "    Has periodic work rest, or go on: expiry, sampling, the look after connections.",
    "POPULATE <count> [<prefix>] [<size>]",
    "    Makes <count> string keys named <prefix>:<number>, 'key' unless told.",
    "PROTOCOL <type>",
    "    Answers an example of <type>: string, integer, double, bignum, null, array, set, map,",
    "    attrib, push, verbatim, true, false.",
    "QUICKLIST <key> [<0|1>]",
    "    Writes to the log how the chunks of the list <key> are, and with 1 what they hold.",
    "QUICKLIST-PACKED-THRESHOLD <size>",
    "    From which length on an element of a list has a chunk of its own; 0: from that of a chunk on.",
    "RELOAD [MERGE] [NOFLUSH] [NOSAVE]",
    "    Writes a snapshot, removes everything, and loads it again. NOSAVE: loads the one there is.",
    "    NOFLUSH: removes nothing, and a key that is in the file and there already is an error,",
    "    with MERGE it is replaced.",
    "SET-ACTIVE-EXPIRE <0|1>",
    "    Stops or starts the removal of expired keys in the background.",
    "SET-DISABLE-DENY-SCRIPTS <0|1>",
    "    Lets scripts call the commands that scripts must not call.",
    "SLEEP <seconds>",
    "    Holds the whole server up. Decimals are allowed.",
    "STRINGMATCH-LEN <length> <pattern>",
    "    Whether <pattern> matches a text of <length> letters 'a': 1 or 0.",
];

fn debug(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    if !host.core.settings.enable_debug_command().allows(host.conn.client.is_local()) {
        return Err(Error::of(
            "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run it from a local connection, otherwise you need to set this option in the configuration file, and then restart the server.",
        ));
    }
    let word = args.get(1).to_ascii_lowercase();
    // What touches data waits until all of it is there.
    let is_of_data = matches!(
        word.as_slice(),
        b"digest"
            | b"digest-value"
            | b"listpack"
            | b"object"
            | b"populate"
            | b"loadaof"
            | b"quicklist"
            | b"reload"
    );
    if is_of_data && host.server().loading.is_on() {
        return Err(Error::of(LOADING_TEXT));
    }
    match (word.as_slice(), args.len()) {
        (b"help", 2) => answer_help(host, "DEBUG", HELP_LINES),
        (b"digest", 2) => digest(host),
        (b"digest-value", _) => digest_values(host, args),
        // Made up by the client: not one of the errors that statistics count.
        (b"error", 3) => host.reply().error(args.get(2)),
        (b"listpack", 3) => listpack(host, args)?,
        (b"loadaof", 2) => load_log(host)?,
        (b"log", 3) => {
            tracing::warn!("DEBUG LOG: {}", String::from_utf8_lossy(args.get(2)));
            host.reply().ok();
        }
        (b"object", 3 | 4) => object(host, args)?,
        (b"panic", 2) => panic!("DEBUG PANIC"),
        (b"populate", 3..=5) => populate(host, args)?,
        (b"protocol", 3) => protocol(&mut host.reply(), args.get(2))?,
        (b"quicklist", 3 | 4) => quicklist(host, args)?,
        (b"quicklist-packed-threshold", 3) => {
            let bytes = memory_bytes(args.get(2)).filter(|bytes| *bytes <= LARGE_BYTES_MIN_MAX);
            let bytes = bytes.and_then(|bytes| u32::try_from(bytes).ok());
            let bytes = bytes
                .ok_or(Error::of("ERR argument must be a memory value bigger than 1 and smaller than 4gb"))?;
            host.server().set_list_large_bytes_min(bytes);
            host.reply().ok();
        }
        (b"reload", _) => reload(host, args)?,
        (b"sleep", 3) => {
            clock::sleep(seconds(args.get(2)));
            // Within a transaction it is one moment for all its commands.
            if !host.conn.is_in_exec {
                host.core.take_time();
            }
            host.reply().ok();
        }
        (b"stringmatch-len", 4) => match_long(host, args)?,
        (word, 3..) if let Some(error) = has_nothing(word) => return Err(error),
        (word, 3) if switch(host.server(), word, leading_integer(args.get(2))) => host.reply().ok(),
        _ => return Err(misused("DEBUG", args.get(1))),
    }
    Ok(())
}

/// The refusal of what looks into a structure that Redis has and Larder has not.
// Differs from Redis: DEBUG HTSTATS, HTSTATS-KEY, DICT-RESIZING and REPLYBUFFER are refused, since tables have neither chains nor
// moments in which they grow as a whole, and connections no buffers of their own for replies.
fn has_nothing(word: &[u8]) -> Option<Error> {
    match word {
        b"htstats" | b"htstats-key" => Some(Error::of(
            "ERR DEBUG HTSTATS tells of chains, which Larder's tables have not got. MEMORY STATS, MEMORY USAGE and INFO keyspace tell their sizes",
        )),
        b"dict-resizing" => Some(Error::of(
            "ERR DEBUG DICT-RESIZING has nothing to stop: Larder's tables grow and shrink a segment at a time. Leave the call out",
        )),
        b"replybuffer" => Some(Error::of(
            "ERR DEBUG REPLYBUFFER has nothing to resize: Larder's connections share their buffers for replies. Leave the call out",
        )),
        _ => None,
    }
}

/// Sets what goes by a number. False where nothing has this name.
fn switch(server: &Server, word: &[u8], number: i64) -> bool {
    match word {
        b"aof-flush-sleep" => {
            server.journal.sleep_micros.store(u64::try_from(number).unwrap_or(0), Relaxed);
        }
        b"pause-cron" => server.is_cron_paused.store(number != 0, Relaxed),
        b"set-active-expire" => server.active_expire.store(number != 0, Relaxed),
        b"set-disable-deny-scripts" => server.scripts_may_all.store(number != 0, Relaxed),
        _ => return false,
    }
    true
}

/// `DEBUG RELOAD [MERGE] [NOFLUSH] [NOSAVE]`
// Differs from Redis: a key that DEBUG RELOAD NOFLUSH finds twice is answered by an error, and does not end the server.
fn reload(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    let (mut saves, mut how) = (true, Reload { flushes: true, merges: false });
    for index in 2..args.len() {
        match () {
            () if args.is(index, b"nosave") => saves = false,
            () if args.is(index, b"noflush") => how.flushes = false,
            () if args.is(index, b"merge") => how.merges = true,
            () => {
                return Err(Error::of(
                    "ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.",
                ));
            }
        }
    }
    let (server, asker) = (host.server(), asker(host));
    if saves {
        ask_for(host.core, Job::Reload { asker, how });
        return Ok(());
    }
    let thread = std::thread::Builder::new().name("larder-reload".into());
    let begun = thread.spawn(move || snapshot::reload(server, asker, how));
    if begun.is_err() {
        host.unpark();
        return Err(Error::of("ERR the system gives no thread"));
    }
    Ok(())
}

/// `DEBUG LOADAOF`
fn load_log(host: &mut Host<'_>) -> Result<(), Error> {
    let (server, asker) = (host.server(), asker(host));
    let thread = std::thread::Builder::new().name("larder-reload".into());
    if thread.spawn(move || snapshot::reload_log(server, asker)).is_err() {
        host.unpark();
        return Err(Error::of("ERR the system gives no thread"));
    }
    Ok(())
}

/// The integer at the beginning of a text, zero when there is none.
fn leading_integer(text: &[u8]) -> i64 {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'-').count();
    text.get(..digits).and_then(number::parse_i64).unwrap_or(0)
}

/// A duration in seconds; none when the text is no number or negative.
fn seconds(text: &[u8]) -> Duration {
    let seconds = number::parse_f64(text).unwrap_or(0.0);
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

/// Runs `work` on one key of the connection's database.
fn with_key<R>(host: &mut Host<'_>, key: &[u8], work: impl FnOnce(Option<Item<'_>>) -> R) -> R {
    let (keyspace, db) = (&host.server().keyspace, host.conn.db);
    let locked = keyspace.lock_many(db, &[keyspace.hash(key)]);
    let mut db = Db::new(keyspace, db, locked, &mut host.core.local);
    let key = db.key(key);
    db.settle(&key, false);
    work(db.peek_raw(&key))
}

/// The bytes of a string value.
fn bytes_of(text: &Str<'_>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    text.write_to(&mut bytes);
    bytes
}

/// Joins what a key holds, and whether it ends.
fn join_value(digest: &mut DatasetDigest, item: &Item<'_>) {
    match item.value_type() {
        Type::String => item.string().map(|text| digest.join_string(&bytes_of(&text))),
        Type::List => item.view::<List>().map(|list| digest.join_list(list)),
        Type::Set => item.view::<Set>().map(|set| digest.join_set(set)),
        Type::Hash => item.view::<Hash>().map(|hash| digest.join_hash(hash)),
        Type::ZSet => item.view::<ZSet>().map(|set| digest.join_zset(set)),
        Type::Stream => item.view::<Stream>().map(|stream| digest.join_stream(stream)),
    }
    .unwrap_or_default();
    if item.deadline().is_some() {
        digest.join_deadline();
    }
}

fn digest(host: &mut Host<'_>) {
    // With keys whose time has come: they are data until somebody removes them.
    let (keyspace, now) = (&host.server().keyspace, Millis(0));
    let mut digest = DatasetDigest::new();
    for db in keyspace.indexes().filter(|db| keyspace.len(*db) > 0) {
        let mut is_started = false;
        let mut cursor = 0;
        loop {
            cursor = keyspace.scan(db, cursor, now, &mut |item| {
                if !is_started {
                    is_started = true;
                    digest.start_database(db.0);
                }
                digest.join_key(item.key(), |digest| join_value(digest, &item));
            });
            if cursor == 0 {
                break;
            }
        }
    }
    host.reply().simple(&String::from_utf8_lossy(&digest.hex()));
}

fn digest_values(host: &mut Host<'_>, args: &Args<'_>) {
    host.reply().array(args.len() - 2);
    for key in args.from(2) {
        let digest = with_key(host, key, |item| {
            let mut digest = DatasetDigest::new();
            if let Some(item) = item {
                join_value(&mut digest, &item);
            }
            digest
        });
        host.reply().simple(&String::from_utf8_lossy(&digest.hex()));
    }
}

fn object(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    let clock = lru::clock_at(host.core.local.now.0);
    let text = with_key(host, args.get(2), |item| {
        let item = item?;
        let mut dump = Vec::new();
        write_payload(&item, &mut dump);
        Some(format!(
            "Value at:{:p} refcount:1 encoding:{} serializedlength:{} lru:{} lru_seconds_idle:{}{}",
            item.key().as_ptr(),
            item.encoding(),
            dump.len().saturating_sub(DUMP_FRAME_BYTES + uncounted_bytes(&item)),
            item.access(),
            lru::idle_ms(clock, item.access()) / 1000,
            chunks_told(&item)
        ))
    });
    host.reply().simple(&text.ok_or(Error::NoSuchKey)?);
    Ok(())
}

/// Bytes of a value that Redis leaves out when it counts them: the earliest end of the fields of a hash.
fn uncounted_bytes(item: &Item<'_>) -> usize {
    match item.view::<Hash>() {
        Ok(hash) if matches!(hash, HashView::Triples(_)) || hash.next_due() != u64::MAX => size_of::<u64>(),
        _ => 0,
    }
}

/// The large list that a key holds, if it does.
fn quick_of<'a>(item: &Item<'a>) -> Option<&'a Quick> {
    match item.view::<List>() {
        Ok(ListView::Quick(quick)) => Some(quick),
        _ => None,
    }
}

/// The length of a chunk as Redis counts it: a large element's own, else that of the listpack.
fn chunk_bytes(is_large: bool, packed: Packed<'_>) -> usize {
    match packed.iter().next().filter(|_| is_large) {
        Some(element) => element.len(),
        None => packed.listpack_bytes(),
    }
}

/// What DEBUG OBJECT tells of the chunks of a large list; nothing of another value.
fn chunks_told(item: &Item<'_>) -> String {
    let Some(quick) = quick_of(item) else { return String::new() };
    let mut bytes = 0;
    quick.for_each_chunk(|is_large, packed| bytes += chunk_bytes(is_large, packed));
    format!(
        " ql_nodes:{} ql_avg_node:{:.2} ql_listpack_max:{} ql_compressed:{} ql_uncompressed_size:{bytes}",
        quick.chunks(),
        quick.len() as f64 / quick.chunks().max(1) as f64,
        quick.limit().option(),
        u8::from(quick.limit().depth() > 0)
    )
}

fn quicklist(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    let in_full = args.try_get(3).is_some_and(|word| leading_integer(word) != 0);
    let told = with_key(host, args.get(2), |item| {
        let item = item.ok_or(Error::NoSuchKey)?;
        let quick = quick_of(&item).ok_or(Error::of("ERR Not a quicklist encoded object."))?;
        let mut lines = vec![format!("{} elements in {} chunks", quick.len(), quick.chunks())];
        quick.for_each_chunk(|is_large, packed| {
            lines.push(format!("{} elements, {} bytes", packed.len(), chunk_bytes(is_large, packed)));
            if in_full {
                lines.extend(packed.iter().map(|element| element.to_vec().escape_ascii().to_string()));
            }
        });
        Ok::<_, Error>(lines)
    })?;
    told.iter().for_each(|line| tracing::info!("DEBUG QUICKLIST: {line}"));
    host.reply().simple("Quicklist structure printed on stdout");
    Ok(())
}

fn listpack(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    let told = with_key(host, args.get(2), |item| {
        let item = item.ok_or(Error::NoSuchKey)?;
        let lines = packed_of(&item).map(|packed| {
            let packed = packed.view();
            let head = format!("{} elements, {} bytes", packed.len(), packed.listpack_bytes());
            let elements = packed.iter().map(|element| element.to_vec().escape_ascii().to_string());
            std::iter::once(head).chain(elements).collect::<Vec<_>>()
        });
        lines.ok_or(Error::of("ERR Not a listpack encoded object."))
    })?;
    told.iter().for_each(|line| tracing::info!("DEBUG LISTPACK: {line}"));
    host.reply().simple("Listpack structure printed on stdout");
    Ok(())
}

/// A copy of the elements of a value that Redis would keep as a listpack.
fn packed_of(item: &Item<'_>) -> Option<PackedBuf> {
    let packed = match item.value_type() {
        Type::List => match item.view::<List>().ok()? {
            ListView::Bare(bare) => return Some(bare.to_packed()),
            ListView::Packed(packed) => packed,
            ListView::Quick(_) => return None,
        },
        Type::Set => match item.view::<Set>() {
            Ok(set::View::Packed(packed)) => packed,
            _ => return None,
        },
        Type::Hash => match item.view::<Hash>() {
            Ok(HashView::Pairs(packed) | HashView::Triples(packed)) => packed,
            _ => return None,
        },
        Type::ZSet => match item.view::<ZSet>() {
            Ok(zset::View::Packed(packed)) => packed,
            _ => return None,
        },
        Type::String | Type::Stream => return None,
    };
    Some(PackedBuf::from_vec(packed.bytes().to_vec()))
}

/// A number that must not be negative.
fn positive(text: &[u8]) -> Result<usize, Error> {
    let number = number::parse_i64(text).and_then(|number| usize::try_from(number).ok());
    number.ok_or(Error::of("ERR value is out of range, must be positive"))
}

fn populate(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    let count = positive(args.get(2))?;
    let prefix = args.try_get(3).unwrap_or(b"key");
    let size = args.try_get(4).map(positive).transpose()?.unwrap_or(0);
    if size > host.core.limits.string_bytes_max {
        return Err(Error::StringTooLong);
    }
    let (keyspace, index) = (&host.server().keyspace, host.conn.db);
    let (mut name, mut value) = (Vec::new(), Vec::new());
    for number in 0..count {
        name.clear();
        name.extend_from_slice(prefix);
        name.extend_from_slice(format!(":{number}").as_bytes());
        value.clear();
        value.extend_from_slice(format!("value:{number}").as_bytes());
        if size > 0 {
            value.resize(size, 0);
        }
        let locked = keyspace.lock_many(index, &[keyspace.hash(&name)]);
        let mut db = Db::new(keyspace, index, locked, &mut host.core.local);
        let key = db.key(&name);
        db.settle(&key, true);
        if !db.exists(&key) {
            db.put_string(&key, &value, Expire::Clear);
        }
    }
    host.reply().ok();
    Ok(())
}

fn match_long(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    let length = positive(args.get(2))?;
    if length > host.core.limits.string_bytes_max {
        return Err(Error::StringTooLong);
    }
    let text = vec![b'a'; length];
    let matches = glob::matches_with(args.get(3), &text, Case::Sensitive);
    host.reply().integer(i64::from(matches));
    Ok(())
}

/// An example of each type of reply.
fn protocol(reply: &mut Reply<'_>, kind: &[u8]) -> Result<(), Error> {
    match kind.to_ascii_lowercase().as_slice() {
        b"string" => reply.bulk(b"Hello World"),
        b"integer" => reply.integer(12345),
        b"double" => reply.double_text(b"3.141"),
        b"bignum" => reply.big_number(b"1234567999999999999999999999999999999"),
        b"null" => reply.null(),
        b"array" => {
            reply.array(3);
            (0..3).for_each(|number| reply.integer(number));
        }
        b"set" => {
            reply.set(3);
            (0..3).for_each(|number| reply.integer(number));
        }
        b"map" => {
            reply.map(3);
            for number in 0..3 {
                reply.integer(number);
                reply.boolean(number == 1);
            }
        }
        b"attrib" => {
            if reply.is_resp3() {
                reply.attribute(1);
                reply.bulk(b"key-popularity");
                reply.array(2);
                reply.bulk(b"key:123");
                reply.integer(90);
            }
            // The attribute belongs to the reply that follows it.
            reply.bulk(b"Some real reply following the attribute");
        }
        b"push" => {
            if !reply.is_resp3() {
                return Err(Error::of("ERR RESP2 is not supported by this command"));
            }
            reply.bulk(b"Some real reply following the push reply");
            reply.push(2);
            reply.bulk(b"server-cpu-usage");
            reply.integer(42);
        }
        b"verbatim" => reply.verbatim(b"txt", b"This is a verbatim\nstring"),
        b"true" => reply.boolean(true),
        b"false" => reply.boolean(false),
        _ => {
            return Err(Error::of(
                "ERR Wrong protocol type name. Please use one of the following: string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false",
            ));
        }
    }
    Ok(())
}
