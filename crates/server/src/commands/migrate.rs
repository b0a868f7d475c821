//! MIGRATE: moves keys to another server.
//!
//! The connection waits; the worker does not: another thread carries the values (`transfer.rs`) and
//! then asks the worker to remove what has arrived.

use crate::connection::Parked;
use crate::execute::{Core, Host};
use crate::registry::{HostCommand, HostRun};
use crate::server::{Answer, Message, Work};
use crate::transfer::{Cargo, Order, Parcel, Report};
use larder_commands::keys::write_payload_for_any;
use larder_commands::spec::{Acl, Arg, Begin, Find, Flags, Group, KeyFlags, KeySpec};
use larder_commands::{Args, Error, Spec};
use larder_store::{Db, DbIndex, Event, Item, Str};
use larder_values::number;
use std::time::Duration;

/// How long each step of a transfer may take where the command does not say, in milliseconds.
const TIMEOUT_MS: u64 = 1000;

/// What is done with the keys.
const MOVED: KeyFlags = KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::DELETE);

/// MIGRATE host port key|"" db timeout [COPY] [REPLACE] [AUTH password | AUTH2 user password] [KEYS key ...]
pub static MIGRATE: HostCommand = HostCommand {
    spec: Spec {
        name: "migrate",
        summary: "Moves keys to another server.",
        since: "2.6.0",
        group: Group::Generic,
        complexity: "O(N), N bytes of the values, for the caller; other clients wait for O(K), K keys.",
        arity: -6,
        flags: Flags::WRITE,
        acl: Acl::KEYSPACE.or(Acl::DANGEROUS),
        keys: &[
            KeySpec::at(3, MOVED),
            KeySpec {
                flags: MOVED.or(KeyFlags::INCOMPLETE),
                begin: Begin::Keyword { word: "KEYS", from: -2 },
                find: Find::Range { last: -1, step: 1, limit: 0 },
                notes: None,
            },
        ],
        args: &[
            Arg::string("host"),
            Arg::integer("port"),
            Arg::one_of("key-selector", &[Arg::key("key", 0), Arg::word("empty-string", "")]),
            Arg::integer("destination-db"),
            Arg::integer("timeout"),
            Arg::word("copy", "COPY").optional().since("3.0.0"),
            Arg::word("replace", "REPLACE").optional().since("3.0.0"),
            Arg::one_of(
                "authentication",
                &[
                    Arg::string("auth").token("AUTH").display("password").since("4.0.7"),
                    Arg::block("auth2", &[Arg::string("username"), Arg::string("password")])
                        .token("AUTH2")
                        .since("6.0.0"),
                ],
            )
            .optional(),
            Arg::key("keys", 1).token("KEYS").display("key").optional().multiple().since("3.0.6"),
        ],
        tips: &["nondeterministic_output"],
        history: &[
            ("3.0.0", "Takes `COPY` and `REPLACE`."),
            ("3.0.6", "Takes `KEYS`."),
            ("4.0.7", "Takes `AUTH`."),
            ("6.0.0", "Takes `AUTH2`."),
        ],
        ..Spec::EMPTY
    },
    run: HostRun::Host(migrate),
    subcommands: &[],
};

/// What stands behind the fixed words.
struct Options<'a> {
    copy: bool,
    replace: bool,
    credentials: Vec<Vec<u8>>,
    keys: Vec<&'a [u8]>,
}

impl<'a> Options<'a> {
    fn parse(args: &Args<'a>) -> Result<Options<'a>, Error> {
        let mut options =
            Options { copy: false, replace: false, credentials: Vec::new(), keys: vec![args.get(3)] };
        let mut index = 6;
        while index < args.len() {
            let left = args.len() - index - 1;
            if args.is(index, b"copy") {
                options.copy = true;
            } else if args.is(index, b"replace") {
                options.replace = true;
            } else if args.is(index, b"auth") && left >= 1 {
                options.credentials = vec![args.get(index + 1).to_vec()];
                index += 1;
            } else if args.is(index, b"auth2") && left >= 2 {
                options.credentials = args.from(index + 1).take(2).map(<[u8]>::to_vec).collect();
                index += 2;
            } else if args.is(index, b"keys") {
                if !args.get(3).is_empty() {
                    return Err(Error::of(
                        "ERR When using MIGRATE KEYS option, the key argument must be set to the empty string",
                    ));
                }
                options.keys = args.from(index + 1).collect();
                break;
            } else {
                return Err(Error::Syntax);
            }
            index += 1;
        }
        Ok(options)
    }
}

fn migrate(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    let options = Options::parse(args)?;
    let timeout = number::parse_i64(args.get(5)).ok_or(Error::NotAnInteger)?;
    let target_db = number::parse_i64(args.get(4)).ok_or(Error::NotAnInteger)?;
    let timeout_ms = u64::try_from(timeout).ok().filter(|timeout| *timeout > 0).unwrap_or(TIMEOUT_MS);
    let Some(parcels) = pack(host, &options.keys) else {
        host.conn.parked = Some(Parked::Busy);
        return Ok(());
    };
    if parcels.is_empty() {
        host.reply().simple("NOKEY");
        return Ok(());
    }
    let order = Order {
        host: args.get(1).to_vec(),
        // What is no port is none that anybody listens on.
        port: number::parse_u64(args.get(2)).and_then(|port| u16::try_from(port).ok()).unwrap_or(0),
        db: target_db,
        timeout: Duration::from_millis(timeout_ms),
        replace: options.replace,
        credentials: options.credentials,
        parcels,
    };
    let (server, worker, db, copy) = (host.server(), host.core.id, host.conn.db, options.copy);
    let (id, ticket) = (host.conn.client.id, host.park());
    let then = Box::new(move |order: Order, report: Report| {
        let work = move |core: &mut Core| {
            let reply = finish(core, db, &order, &report, copy);
            server.mailboxes[worker].send(Message::Answer(Answer::new(id, ticket, reply)));
        };
        server.mailboxes[worker].send(Message::Work(Work(Box::new(work))));
    });
    if server.transfers.start(server, order, then) {
        return Ok(());
    }
    host.unpark();
    Err(Error::of("ERR no thread for the transfer could be started"))
}

/// Copies the keys that exist, all at one moment. `None` where one is locked elsewhere.
fn pack(host: &mut Host<'_>, keys: &[&[u8]]) -> Option<Vec<Parcel>> {
    let keyspace = &host.server().keyspace;
    let hashes: Vec<u64> = keys.iter().map(|key| keyspace.hash(key)).collect();
    let locked = keyspace.open(host.conn.db).try_lock_many(&hashes)?;
    let mut db = Db::new(keyspace, host.conn.db, locked, &mut host.core.local);
    let mut parcels = Vec::new();
    for key in keys {
        let hashed = db.key(key);
        db.settle(&hashed, false);
        let Some(item) = db.read(&hashed) else { continue };
        let cargo = match item.string() {
            Ok(Str::Blob(blob)) => Cargo::Shared(std::sync::Arc::clone(blob)),
            Ok(value) => Cargo::Own(value.to_vec()),
            Err(_) => Cargo::Payload(payload_of(&item)),
        };
        parcels.push(Parcel { key: key.to_vec(), cargo, deadline: item.deadline() });
    }
    Some(parcels)
}

/// Removes what has arrived, and says what the connection is answered.
fn finish(core: &mut Core, db: DbIndex, order: &Order, report: &Report, copy: bool) -> Vec<u8> {
    let mut changed = 0;
    if !copy {
        let taken = report.taken.iter().filter_map(|index| order.parcels.get(*index));
        changed = taken.filter(|parcel| !remove(core, db, parcel)).count();
        let changes = core.local.effects.take_changes();
        core.stats.store.changes.add(changes);
    }
    let error = match &report.error {
        Some(text) => text.clone(),
        None if changed > 0 => {
            format!("ERR {changed} of the keys changed on their way and were kept; repeat with REPLACE")
                .into_bytes()
        }
        None => return b"+OK\r\n".to_vec(),
    };
    core.stats.errors.add(1);
    core.stats.errors_by_code.add(&error);
    [b"-", error.as_slice(), b"\r\n"].concat()
}

/// Removes a key that has arrived elsewhere. Answers false where it holds something else by now.
// Differs from Redis: MIGRATE holds nobody up, so keys can be read and written while they are on
// their way. One that was written meanwhile is kept, and the command answers an error.
fn remove(core: &mut Core, db: DbIndex, parcel: &Parcel) -> bool {
    let keyspace = &core.server.keyspace;
    let locked = keyspace.lock_many(db, &[keyspace.hash(&parcel.key)]);
    let mut db = Db::new(keyspace, db, locked, &mut core.local);
    let key = db.key(&parcel.key);
    db.settle(&key, false);
    // A key that was removed or has ended meanwhile is as gone as it should be.
    let Some(item) = db.peek(&key) else { return true };
    let is_same = item.deadline() == parcel.deadline && is_still(&item, &parcel.cargo);
    // What has been promised to a client that waits has come meanwhile, too.
    let is_same = is_same && !db.is_owed(&key);
    if is_same {
        db.remove(&key);
        db.changed(&key, Event::DEL);
    }
    is_same
}

/// Whether a key holds what was sent.
fn is_still(item: &Item<'_>, cargo: &Cargo) -> bool {
    match (item.string(), cargo) {
        (Ok(Str::Blob(now)), Cargo::Shared(sent)) if std::sync::Arc::ptr_eq(now, sent) => true,
        (Ok(value), Cargo::Own(_) | Cargo::Shared(_)) => {
            value.len() == cargo.bytes().len() && value.bytes(&mut Vec::new()) == cargo.bytes()
        }
        (Err(_), Cargo::Payload(sent)) => payload_of(item) == *sent,
        _ => false,
    }
}

/// What RESTORE takes of a value, there or elsewhere.
fn payload_of(item: &Item<'_>) -> Vec<u8> {
    let mut payload = Vec::new();
    write_payload_for_any(item, &mut payload);
    payload
}
