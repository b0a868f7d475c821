//! CACHE HOTKEYS and CACHE BIGKEYS: from sketches, without a scan.

use super::{CATEGORIES, FLAGS, SINCE, count, count_asked, double};
use crate::cache_report::ratio;
use crate::execute::{Core, Host};
use crate::registry::{HostCommand, HostRun};
use larder_commands::spec::{Arg, Group};
use larder_commands::{Args, Error, Spec};
use larder_store::{Db, DbIndex};

/// Keys answered unless told.
const COUNT_DEFAULT: usize = 10;
/// Keys answered at most: what the sketches know of one thread.
const COUNT_MAX: usize = 128;

/// `CACHE HOTKEYS [COUNT count]`
pub(super) static HOTKEYS: HostCommand = HostCommand {
    spec: Spec {
        name: "hotkeys",
        summary: "Answers the keys that are read and written most.",
        since: SINCE,
        group: Group::Server,
        complexity: "O(N log N) where N is the number of keys that the sketches hold, some hundreds a thread",
        arity: -2,
        flags: FLAGS,
        acl: CATEGORIES,
        args: &[Arg::integer("count").token("COUNT").optional()],
        tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
        ..Spec::EMPTY
    },
    run: HostRun::Host(hotkeys),
    subcommands: &[],
};

/// `CACHE BIGKEYS [COUNT count]`
pub(super) static BIGKEYS: HostCommand = HostCommand {
    spec: Spec {
        name: "bigkeys",
        summary: "Answers the keys that take most memory.",
        since: SINCE,
        group: Group::Server,
        complexity: "O(N log N) where N is the number of keys that the sketches hold, 128 a thread",
        arity: -2,
        flags: FLAGS,
        acl: CATEGORIES,
        args: &[Arg::integer("count").token("COUNT").optional()],
        tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
        ..Spec::EMPTY
    },
    run: HostRun::Host(bigkeys),
    subcommands: &[],
};

fn hotkeys(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    let wanted = count_asked(args, COUNT_DEFAULT, COUNT_MAX)?;
    let keyspace = &host.server().keyspace;
    let (found, whole) = keyspace.insight.hot_keys(wanted);
    let databases: Vec<DbIndex> = found.iter().map(|hot| keyspace.database_of_table(hot.table)).collect();
    let mut reply = host.reply();
    reply.array(found.len());
    for (hot, db) in found.into_iter().zip(databases) {
        reply.map(5);
        reply.bulk(b"key");
        reply.bulk(&hot.key);
        count(&mut reply, "db", db.0.into());
        count(&mut reply, "accesses", hot.accesses);
        count(&mut reply, "error_max", hot.over);
        double(&mut reply, "share", ratio(hot.accesses, whole));
    }
    Ok(())
}

/// A large value as it is now.
pub(crate) struct BigKey {
    pub db: DbIndex,
    pub key: Vec<u8>,
    pub type_name: &'static str,
    /// Memory of key and value.
    pub bytes: usize,
    /// Bytes of a string, elements of a collection.
    pub size: usize,
}

/// The largest values of those that are known to be large, the largest first. Each is looked up: one that is gone is
/// forgotten. Inside a turn, holding no lock.
pub(crate) fn big_keys(core: &mut Core, wanted: usize) -> Vec<BigKey> {
    let keyspace = &core.server.keyspace;
    let mut found = Vec::new();
    for (table, key, _) in keyspace.insight.large_keys() {
        let db = keyspace.database_of_table(table);
        if db.0 >= keyspace.databases() {
            continue;
        }
        let locked = keyspace.lock_many(db, &[keyspace.hash(&key)]);
        let mut at = Db::new(keyspace, db, locked, &mut core.local);
        let hashed = at.key(&key);
        at.settle(&hashed, false);
        let now = at.glance(&hashed).map(|item| {
            let (type_name, bytes, size) = (item.value_type().name(), item.memory(), item.size());
            (type_name, bytes, size, item.value_bytes())
        });
        drop(at);
        keyspace.insight.correct_large(table, &key, now.map(|(.., value)| value as u64));
        if let Some((type_name, bytes, size, _)) = now {
            found.push(BigKey { db, key, type_name, bytes, size });
        }
    }
    found.sort_by(|a, b| (b.bytes, &a.key).cmp(&(a.bytes, &b.key)));
    found.truncate(wanted);
    found
}

fn bigkeys(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    let wanted = count_asked(args, COUNT_DEFAULT, COUNT_MAX)?;
    let found = big_keys(host.core, wanted);
    let mut reply = host.reply();
    reply.array(found.len());
    for big in found {
        reply.map(5);
        reply.bulk(b"key");
        reply.bulk(&big.key);
        count(&mut reply, "db", big.db.0.into());
        reply.bulk(b"type");
        reply.bulk(big.type_name.as_bytes());
        count(&mut reply, "bytes", big.bytes as u64);
        count(
            &mut reply,
            if big.type_name == "string" { "length_bytes" } else { "elements" },
            big.size as u64,
        );
    }
    Ok(())
}
