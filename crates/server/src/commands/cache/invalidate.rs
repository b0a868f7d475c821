//! CACHE INVALIDATE and CACHE TAGS: dropping copies by key, by prefix and by tag, at once or once they can be fetched anew.
//!
//! Keys are dropped on the spot, as by DEL. A prefix or a tag is entered as a rule (`larder_store`'s `generations.rs`), in the same
//! time however many keys it concerns. Either way what is being fetched is answered and not kept, and leases end.

use super::SINCE;
use crate::connection::Parked;
use crate::execute::{Core, Host};
use crate::registry::{HostCommand, HostRun};
use larder_commands::spec::{Acl, Arg, Begin, Find, Flags, Group, KeyFlags, KeySpec};
use larder_commands::{Args, Error, Spec};
use larder_source::FlightKey;
use larder_store::{Concerns, Db, DbIndex, Entered, Force, Hashed, Nature};
use larder_values::number;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Bytes of a prefix or a tag.
const NAME_BYTES_MAX: usize = 65_536;

/// `CACHE INVALIDATE KEYS numkeys key [key ...] [SOFT]`, `CACHE INVALIDATE PREFIX prefix [SOFT]`, `CACHE INVALIDATE TAG tag [SOFT]`
pub(super) static INVALIDATE: HostCommand = HostCommand {
    spec: Spec {
        name: "invalidate",
        summary: "Drops copies, or makes them old: those of keys, or of all keys with a prefix or a tag.",
        since: SINCE,
        group: Group::Server,
        complexity: "O(N) where N is the number of keys that are named; O(1) for a prefix or a tag",
        arity: -4,
        flags: Flags::WRITE,
        acl: Acl::CACHE,
        keys: &[KeySpec {
            flags: KeyFlags::RM.or(KeyFlags::DELETE),
            begin: Begin::Keyword { word: "KEYS", from: 2 },
            find: Find::Counted { number_at: 0, first: 1, step: 1 },
            notes: None,
        }],
        args: &[
            Arg::one_of(
                "concerned",
                &[
                    Arg::block("keys", &[Arg::integer("numkeys"), Arg::key("key", 0).multiple()])
                        .token("KEYS"),
                    Arg::string("prefix").token("PREFIX"),
                    Arg::string("tag").token("TAG"),
                ],
            ),
            Arg::word("soft", "SOFT").optional(),
        ],
        ..Spec::EMPTY
    },
    run: HostRun::Host(invalidate),
    subcommands: &[],
};

/// `CACHE TAGS key`
pub(super) static TAGS: HostCommand = HostCommand {
    spec: Spec {
        name: "tags",
        summary: "Answers the tags of a key: those that its route gives, and those that it was set with.",
        since: SINCE,
        group: Group::Server,
        complexity: "O(N) where N is the number of tags",
        arity: 3,
        flags: Flags::READONLY,
        acl: Acl::CACHE,
        keys: &[KeySpec::at(2, KeyFlags::RO)],
        args: &[Arg::key("key", 0)],
        ..Spec::EMPTY
    },
    run: HostRun::Host(tags),
    subcommands: &[],
};

fn invalidate(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    if args.is(2, b"keys") {
        let count = number::parse_i64(args.get(3)).ok_or(Error::NotAnInteger)?;
        let count = usize::try_from(count).ok().filter(|count| *count > 0);
        let count = count.ok_or(Error::of("ERR numkeys should be greater than 0"))?;
        let end = count.checked_add(4).filter(|end| *end <= args.len());
        let end = end.ok_or(Error::of("ERR Number of keys can't be greater than number of args"))?;
        let force = force(args, end)?;
        let keys: Vec<&[u8]> = args.from(4).take(count).collect();
        return invalidate_keys(host, &keys, force);
    }
    let force = force(args, 4)?;
    match args.get(2) {
        kind if kind.eq_ignore_ascii_case(b"prefix") => {
            invalidate_many(host, Concerns::Prefix(args.get(3)), force)
        }
        kind if kind.eq_ignore_ascii_case(b"tag") => invalidate_many(host, Concerns::Tag(args.get(3)), force),
        _ => Err(Error::Syntax),
    }
}

/// What stands at the end of the command.
fn force(args: &Args<'_>, at: usize) -> Result<Force, Error> {
    match args.len() - at {
        0 => Ok(Force::Hard),
        1 if args.is(at, b"soft") => Ok(Force::Soft),
        _ => Err(Error::Syntax),
    }
}

fn invalidate_keys(host: &mut Host<'_>, keys: &[&[u8]], force: Force) -> Result<(), Error> {
    match host.core.invalidate_keys(host.conn.db, keys, force) {
        Some(count) => host.reply().count(count),
        None => host.conn.parked = Some(Parked::Busy),
    }
    Ok(())
}

fn invalidate_many(host: &mut Host<'_>, concerns: Concerns<'_>, force: Force) -> Result<(), Error> {
    let (Concerns::Prefix(name) | Concerns::Tag(name)) = concerns;
    if name.len() > NAME_BYTES_MAX {
        return Err(Error::of("ERR a prefix or a tag has 65536 bytes at most"));
    }
    let server = host.server();
    let (db, now) = (host.conn.db, host.core.local.now);
    let nature: Arc<dyn Nature> = server.through.nature(db.0);
    match server.keyspace.invalidate(db, concerns, (force, now), &nature) {
        Entered::Yes | Entered::Needless => {}
        Entered::Full if host.conn.is_in_exec => {
            return Err(Error::of("BUSY too many invalidations are under way, try again"));
        }
        Entered::Full => {
            host.conn.parked = Some(Parked::Busy);
            return Ok(());
        }
    }
    // Once the rule is in force: a flight that begins from now on brings what is newer.
    server.through.flights.invalidate(|of_db, key| {
        of_db == db.0
            && match concerns {
                Concerns::Prefix(prefix) => key.starts_with(prefix),
                Concerns::Tag(tag) => {
                    let mut has = false;
                    nature.tags(key, &mut |own| has |= own == tag);
                    has
                }
            }
    });
    host.reply().ok();
    Ok(())
}

impl Core {
    /// Drops the copies of keys, or makes them old; answers how many there were. `None` where one is locked elsewhere, and then
    /// nothing was done. Inside a turn.
    fn invalidate_keys(&mut self, db: DbIndex, keys: &[&[u8]], force: Force) -> Option<usize> {
        let server = self.server;
        let keyspace = &server.keyspace;
        let mut held = self.hold_keys(db, keys)?;
        let nature = server.through.nature(db.0);
        let routes = server.through.routes();
        let mut count = 0;
        for key in keys {
            let key = Hashed { bytes: key, hash: keyspace.hash(key) };
            server.through.flights.overtake(&FlightKey { db: db.0, key: key.bytes.into() }, key.hash);
            let mut at = Db::new(keyspace, db, held.lend_one(keyspace.place(db, key.hash)), &mut self.local);
            at.settle(&key, false);
            at.end_lease(&key);
            let now = at.now();
            let was_there = match force {
                Force::Hard => at.drop_copy(&key),
                Force::Soft => at.make_old(&key, now, nature.grace_ms(key.bytes)),
            };
            count += usize::from(was_there);
            if was_there && let Some(route) = routes.find(db.0, key.bytes) {
                route.stats.invalidated.fetch_add(1, Relaxed);
            }
        }
        keyspace.invalidated.keys.fetch_add(1, Relaxed);
        Some(count)
    }
}

fn tags(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    let (key, db, server) = (args.get(2), host.conn.db, host.server());
    let Some(mut held) = host.core.hold_keys(db, &[key]) else {
        host.conn.parked = Some(Parked::Busy);
        return Ok(());
    };
    let keyspace = &server.keyspace;
    let hashed = Hashed { bytes: key, hash: keyspace.hash(key) };
    let locked = held.lend_one(keyspace.place(db, hashed.hash));
    let mut at = Db::new(keyspace, db, locked, &mut host.core.local);
    at.settle(&hashed, false);
    let mut found = if at.exists(&hashed) { at.tags(&hashed) } else { Vec::new() };
    drop(at);
    drop(held);
    server.through.nature(db.0).tags(key, &mut |tag| found.push(tag.to_vec()));
    found.sort();
    found.dedup();
    let mut reply = host.reply();
    reply.array(found.len());
    found.iter().for_each(|tag| reply.bulk(tag));
    Ok(())
}
