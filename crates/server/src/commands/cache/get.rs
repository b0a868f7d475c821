//! CACHE GET: a string with what is known of its copy, and with a say in whether an old one is given and how long a load is waited
//! for. As GET does, it has what is missing fetched.

use super::{SINCE, count};
use crate::execute::{Host, Looked};
use crate::registry::{HostCommand, HostRun};
use crate::through::Brought;
use larder_commands::spec::{Acl, Arg, Flags, Group, KeyFlags, KeySpec};
use larder_commands::{Args, Error, Spec};
use larder_source::freshness::{self, Age};
use larder_source::{Route, Shaped, Validator};
use larder_store::{Db, DbIndex, Millis};
use larder_values::number;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Longest WAIT, in milliseconds.
const WAIT_MAX: i64 = 3_600_000;

/// `CACHE GET key [STALE | NOSTALE] [WAIT milliseconds] [META]`
pub(super) static GET: HostCommand = HostCommand {
    spec: Spec {
        name: "get",
        summary: "Answers the string a key holds and what is known of its copy; fetches it if it is missing.",
        since: SINCE,
        group: Group::String,
        complexity: "O(1)",
        arity: -3,
        flags: Flags::READONLY.or(Flags::FAST).or(Flags::NO_MULTI).or(Flags::NO_SCRIPT),
        acl: Acl::CACHE.or(Acl::READ).or(Acl::STRING),
        keys: &[KeySpec::at(2, KeyFlags::RO.or(KeyFlags::ACCESS))],
        args: &[
            Arg::key("key", 0),
            Arg::one_of("age", &[Arg::word("stale", "STALE"), Arg::word("nostale", "NOSTALE")]).optional(),
            Arg::integer("milliseconds").token("WAIT").optional(),
            Arg::word("meta", "META").optional(),
        ],
        ..Spec::EMPTY
    },
    run: HostRun::Host(get),
    subcommands: &[],
};

/// Which copies are given.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Wanted {
    /// As the route says.
    AsRouted,
    /// Any.
    Stale,
    /// Fresh ones.
    Fresh,
}

#[derive(Clone, Copy, Debug)]
struct Options {
    wanted: Wanted,
    wait: Option<Duration>,
    meta: bool,
}

fn options(args: &Args<'_>) -> Result<Options, Error> {
    let mut options = Options { wanted: Wanted::AsRouted, wait: None, meta: false };
    let mut at = 3;
    while at < args.len() {
        if args.is(at, b"stale") && options.wanted == Wanted::AsRouted {
            options.wanted = Wanted::Stale;
        } else if args.is(at, b"nostale") && options.wanted == Wanted::AsRouted {
            options.wanted = Wanted::Fresh;
        } else if args.is(at, b"meta") {
            options.meta = true;
        } else if args.is(at, b"wait") && at + 1 < args.len() {
            at += 1;
            let millis = number::parse_i64(args.get(at)).ok_or(Error::NotAnInteger)?;
            if !(0..=WAIT_MAX).contains(&millis) {
                return Err(Error::of("ERR WAIT takes from 0 to 3600000 milliseconds"));
            }
            options.wait = Some(Duration::from_millis(millis as u64));
        } else {
            return Err(Error::Syntax);
        }
        at += 1;
    }
    Ok(options)
}

/// What is answered.
struct Found {
    status: &'static str,
    value: Option<Vec<u8>>,
    end: Option<Millis>,
    route: Option<Arc<Route>>,
    version: Option<Validator>,
}

fn get(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    let options = options(args)?;
    let (db, key) = (host.conn.db, args.get(2));
    let Some((value, end)) = look(host, db, key)? else {
        host.conn.parked = Some(crate::connection::Parked::Busy);
        return Ok(());
    };
    let route = host.core.route_of(db, key);
    let place = (db, Box::<[u8]>::from(key));
    let settled = host.conn.loading.as_deref().filter(|loading| loading.settles(&place, value.is_some()));
    let brought = settled.and_then(|loading| loading.brought(&place));
    let mut found = Found { status: "MISS", value, end, route, version: None };
    let Some(route) = found.route.clone() else {
        found.status = if found.value.is_some() { "HIT" } else { "MISS" };
        answer(host, found, options);
        return Ok(());
    };
    let age = end.map(|end| host.core.age_of_copy(&route, end));
    let was_loaded = matches!(brought.as_deref(), Some(Brought::Value(_) | Brought::Unchanged));
    if found.value.is_some() {
        found.status = status_of(host, &route, end, was_loaded);
        found.version = host.core.version_of(db, key);
    }
    let is_given = match (age, options.wanted) {
        // Without an end it is the clients' own.
        (None, _) => found.value.is_some(),
        (Some(_), Wanted::Stale) => true,
        (Some(age), Wanted::AsRouted) => age != Age::Old,
        (Some(_), Wanted::Fresh) => found.status != "STALE",
    };
    let Some(brought) = brought else {
        if is_given {
            if age.is_some_and(|age| age != Age::Fresh) {
                // It is given, and fetched anew behind.
                host.core.load_for(host.conn, &place, (&route, true), Some(Duration::ZERO));
            }
        } else {
            match host.core.load_for(host.conn, &place, (&route, found.value.is_some()), options.wait) {
                Looked::Parked => return Ok(()),
                Looked::Absent => found.status = "NEGATIVE",
                Looked::Under | Looked::NoKey => {}
            }
            found.value = found.value.filter(|_| options.wanted != Wanted::Fresh);
        }
        answer(host, found, options);
        return Ok(());
    };
    // What is old is given in need, unless it is not wanted, or nobody knows how old it is.
    let may_be_old = options.wanted == Wanted::Stale
        || options.wanted == Wanted::AsRouted && !host.core.is_refused(&route);
    match &*brought {
        Brought::Value(Shaped::String(bytes)) if found.value.is_none() => {
            (found.value, found.status) = (Some(bytes.clone()), "LOADED");
        }
        Brought::Value(_) if found.value.is_none() => return Err(Error::WrongType),
        Brought::Nothing => (found.value, found.status) = (None, "NEGATIVE"),
        Brought::Failure(Some(text)) if found.value.is_none() || !may_be_old => {
            return Err(Error::custom(text.clone()));
        }
        Brought::Failure(_) | Brought::Late(_) if !may_be_old => {
            (found.value, found.status) = (None, "MISS");
        }
        _ => {}
    }
    answer(host, found, options);
    Ok(())
}

/// A string, if there is one, and its end, if it has one.
type Seen = (Option<Vec<u8>>, Option<Millis>);

/// Reads the key as GET does. Nothing if its shard is locked.
fn look(host: &mut Host<'_>, db: DbIndex, key: &[u8]) -> Result<Option<Seen>, Error> {
    let keyspace = &host.core.server.keyspace;
    let hash = keyspace.hash(key);
    let Some(locked) = crate::execute::lock_one(keyspace.open(db), hash) else { return Ok(None) };
    let was_on = std::mem::take(&mut host.core.local.unfound.is_on);
    let ahead = std::mem::take(&mut host.core.local.unfound.ahead_ms);
    let mut keys = Db::new(keyspace, db, locked, &mut host.core.local);
    let hashed = keys.key(key);
    keys.settle(&hashed, false);
    let read = match keys.read(&hashed) {
        None => Ok((None, None)),
        Some(item) => item.string().map(|value| (Some(value.to_vec()), item.deadline())),
    };
    drop(keys);
    host.core.local.unfound.is_on = was_on;
    host.core.local.unfound.ahead_ms = ahead;
    Ok(Some(read?))
}

fn status_of(host: &Host<'_>, route: &Route, end: Option<Millis>, was_loaded: bool) -> &'static str {
    let now = host.core.local.now.0;
    match end {
        Some(end) if now >= freshness::fresh_until_ms(route, end.0) => "STALE",
        _ if was_loaded => "LOADED",
        _ => "HIT",
    }
}

fn answer(host: &mut Host<'_>, found: Found, options: Options) {
    let now = host.core.local.now.0;
    if found.status == "STALE" && found.value.is_some() {
        let route = found.route.iter();
        route.for_each(|route| _ = route.stats.stale.fetch_add(1, Relaxed));
    }
    let mut reply = host.reply();
    if !options.meta {
        match found.value {
            Some(value) => reply.bulk(&value),
            None => reply.null(),
        }
        return;
    }
    reply.map(5);
    reply.bulk(b"status");
    reply.bulk(found.status.as_bytes());
    reply.bulk(b"value");
    match &found.value {
        Some(value) => reply.bulk(value),
        None => reply.null(),
    }
    let copy = found.route.as_ref().zip(found.end).filter(|_| found.value.is_some());
    match &copy {
        Some((route, end)) => {
            count(&mut reply, "age_ms", now.saturating_sub(freshness::loaded_ms(route, end.0)));
            let fresh_until = freshness::fresh_until_ms(route, end.0);
            count(&mut reply, "fresh_ms", fresh_until.saturating_sub(now));
        }
        None => {
            for name in [&b"age_ms"[..], b"fresh_ms"] {
                reply.bulk(name);
                reply.null();
            }
        }
    }
    reply.bulk(b"version");
    match &found.version {
        Some(Validator::Tag(text) | Validator::Modified(text)) => reply.bulk(text.as_bytes()),
        None => reply.null(),
    }
}
