//! CACHE SOURCE and CACHE ROUTE: the stores that the cache fetches from, and which keys come from them.
//!
//! What asks a store is answered once the store has: the connection is parked meanwhile, and no worker waits.

use super::{CATEGORIES, FLAGS, SINCE, count, double};
use crate::clock;
use crate::execute::{Core, Host, share_of};
use crate::registry::{HostCommand, HostRun};
use crate::server::{Answer, Message, Server, Work};
use crate::through::{self, CheckError};
use larder_behind::Figures;
use larder_commands::spec::{Arg, Flags, Group, KeyFlags, KeySpec};
use larder_commands::{Args, Error, Spec};
use larder_resp::{Output, Protocol, Reply};
use larder_source::{Answer as Found, Request, Route, Shaped, SourceSpec};
use larder_source_fetch::Source;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// `CACHE SOURCE ADD|DEADLETTERS|DEL|INFO|LIST|PAUSE|RESUME|TEST ...`
pub(super) static SOURCE: HostCommand = HostCommand {
    spec: Spec {
        name: "source",
        summary: "Adds, removes, tests, pauses and lists the stores that the cache fetches from.",
        since: SINCE,
        group: Group::Server,
        complexity: "O(N) where N is the number of sources and routes",
        arity: -3,
        flags: FLAGS.or(Flags::ADMIN).or(Flags::NO_MULTI).or(Flags::NO_SCRIPT),
        acl: CATEGORIES,
        args: &[Arg::string("action"), Arg::string("word").optional().multiple()],
        ..Spec::EMPTY
    },
    run: HostRun::Host(source),
    subcommands: &[],
};

/// `CACHE ROUTE DEL|EXPLAIN|LIST|SET|TEST ...`
pub(super) static ROUTE: HostCommand = HostCommand {
    spec: Spec {
        name: "route",
        summary: "Sets, removes, explains, tests and lists the routes from keys to stores.",
        since: SINCE,
        group: Group::Server,
        complexity: "O(N) where N is the number of routes",
        arity: -3,
        flags: FLAGS.or(Flags::ADMIN).or(Flags::NO_MULTI).or(Flags::NO_SCRIPT),
        acl: CATEGORIES,
        args: &[Arg::string("action"), Arg::string("word").optional().multiple()],
        ..Spec::EMPTY
    },
    run: HostRun::Host(route),
    subcommands: &[],
};

/// `CACHE REFRESH key [key ...]`
pub(super) static REFRESH: HostCommand = HostCommand {
    spec: Spec {
        name: "refresh",
        summary: "Has keys fetched anew from their sources, in the background.",
        since: SINCE,
        group: Group::Server,
        complexity: "O(N) where N is the number of keys",
        arity: -3,
        flags: FLAGS,
        acl: CATEGORIES,
        keys: &[KeySpec::range(2, -1, 1, KeyFlags::RO.or(KeyFlags::ACCESS))],
        args: &[Arg::key("key", 0).multiple()],
        ..Spec::EMPTY
    },
    run: HostRun::Host(refresh),
    subcommands: &[],
};

/// Copies stay until the new ones are there.
fn refresh(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    let db = host.conn.db;
    let found = args.from(2).filter(|key| host.core.refresh(db, key)).count();
    host.reply().count(found);
    Ok(())
}

/// Makes a reply on the runtime of the sources, and has the connection answered with it.
pub(super) fn answer_later<F>(
    host: &mut Host<'_>,
    work: impl FnOnce(&'static Server) -> F,
) -> Result<(), Error>
where
    F: Future<Output = Result<Written, String>> + Send + 'static,
{
    let server = host.server();
    let runtime = server.through.runtime().map_err(|text| Error::custom(format!("ERR {text}")))?;
    let (worker, client, protocol) = (host.core.id, host.conn.client.id, host.conn.protocol);
    let ticket = host.park();
    let work = work(server);
    runtime.spawn(async move {
        let mut out = Output::default();
        match work.await {
            Ok(write) => write(&mut Reply::new(&mut out, protocol)),
            Err(text) => Reply::new(&mut out, Protocol::Resp2).error(text.as_bytes()),
        }
        server.mailboxes[worker].send(Message::Answer(Answer::new(client, ticket, out.to_vec())));
    });
    Ok(())
}

/// What writes a reply once it is known.
pub(super) type Written = Box<dyn FnOnce(&mut Reply<'_>) + Send>;

fn ok() -> Written {
    Box::new(|reply| reply.ok())
}

/// Changes sources or routes apart from the worker: what is queued on disk is looked at.
fn change_later(
    host: &mut Host<'_>,
    work: impl FnOnce(&mut Vec<Arc<Route>>, &mut BTreeMap<String, Arc<Source>>) -> Result<(), String>
    + Send
    + 'static,
) -> Result<(), Error> {
    answer_later(host, |server| async move {
        through::change(server, work).map_err(|text| format!("ERR {text}"))?;
        Ok(ok())
    })
}

fn source(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    let words: Vec<String> = args.from(3).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    let action = args.get(2).to_ascii_lowercase();
    match (action.as_slice(), words.as_slice()) {
        (b"add", [_, _, ..]) => add_source(host, &words),
        (b"del", [name]) => del_source(host, name),
        (b"test", [name]) => test_source(host, name),
        (b"pause", [name]) => {
            find_source(host, name)?.pause();
            host.reply().ok();
            Ok(())
        }
        (b"resume", [name]) => {
            find_source(host, name)?.resume();
            host.reply().ok();
            Ok(())
        }
        (b"info", [name]) => {
            let source = find_source(host, name)?;
            let server = host.server();
            write_source(&mut host.reply(), server, &source);
            Ok(())
        }
        (b"list", []) => {
            let server = host.server();
            let sources = server.through.sources();
            let mut reply = host.reply();
            reply.array(sources.len());
            sources.iter().for_each(|source| write_source(&mut reply, server, source));
            Ok(())
        }
        (b"deadletters", [name]) => {
            find_source(host, name)?;
            let queue = host.server().through.queue(name);
            let kept = queue.map_or(0, |queue| queue.figures().letters.0);
            host.reply().integer(i64::try_from(kept).unwrap_or(i64::MAX));
            Ok(())
        }
        (b"deadletters", [name, word]) if word.eq_ignore_ascii_case("clear") => clear_letters(host, name),
        _ => Err(Error::of(
            "ERR CACHE SOURCE takes ADD name url [option value ...], DEL name, TEST name, PAUSE name, RESUME name, \
             INFO name, DEADLETTERS name [CLEAR] or LIST",
        )),
    }
}

pub(super) fn find_source(host: &Host<'_>, name: &str) -> Result<Arc<Source>, Error> {
    host.server().through.source(name).ok_or_else(|| no_source(host.server(), name))
}

fn no_source(server: &Server, name: &str) -> Error {
    let names: Vec<String> = server.through.sources().iter().map(|source| source.spec.name.clone()).collect();
    let known = if names.is_empty() {
        "there is none yet".to_owned()
    } else {
        format!("there are {}", names.join(", "))
    };
    Error::custom(format!("ERR there is no source '{name}'; {known}"))
}

fn add_source(host: &mut Host<'_>, words: &[String]) -> Result<(), Error> {
    let spec = SourceSpec::parse(words).map_err(|error| Error::custom(format!("ERR source: {error}")))?;
    let spec = Arc::new(spec);
    let driver = through::open(&spec).map_err(|failure| Error::custom(format!("ERR source: {failure}")))?;
    let source = Arc::new(Source::new(Arc::clone(&spec), driver));
    answer_later(host, |server| async move {
        source.probe().await.map_err(|error| error.reply())?;
        through::change(server, |routes, sources| {
            let is_used = routes.iter().any(|route| route.source == spec.name);
            let before = sources.get(&spec.name);
            // What routes were read by may not change under them.
            if is_used && before.is_some_and(|before| before.spec.language() != spec.language()) {
                return Err(format!(
                    "routes use source '{}', whose statements are of another kind",
                    spec.name
                ));
            }
            sources.insert(spec.name.clone(), source);
            Ok(())
        })
        .map_err(|text| format!("ERR {text}"))?;
        Ok(ok())
    })
}

fn del_source(host: &mut Host<'_>, name: &str) -> Result<(), Error> {
    find_source(host, name)?;
    let name = name.to_owned();
    change_later(host, move |routes, sources| {
        if let Some(route) = routes.iter().find(|route| route.source == name) {
            return Err(format!("route {} uses source '{name}': CACHE ROUTE DEL it first", route.pattern));
        }
        sources.remove(&name);
        Ok(())
    })
}

fn test_source(host: &mut Host<'_>, name: &str) -> Result<(), Error> {
    let source = find_source(host, name)?;
    answer_later(host, |_| async move {
        let start = clock::now();
        let version = source.probe().await.map_err(|error| error.reply())?;
        let millis = start.elapsed().as_secs_f64() * 1000.0;
        Ok(Box::new(move |reply: &mut Reply<'_>| {
            reply.map(2);
            text(reply, "version", &version);
            double(reply, "milliseconds", millis);
        }) as Written)
    })
}

/// Drops the dead letters of a source, and their stream.
fn clear_letters(host: &mut Host<'_>, name: &str) -> Result<(), Error> {
    find_source(host, name)?;
    let Some(queue) = host.server().through.queue(name) else {
        host.reply().integer(0);
        return Ok(());
    };
    answer_later(host, |server| async move {
        let cleared =
            queue.clear_letters().map_err(|error| format!("ERR cannot drop dead letters: {error}"))?;
        let work = move |core: &mut Core| core.hide_letters(queue.name());
        // Where letters are shown, too: in the same order.
        if let Some(mailbox) = server.mailboxes.first() {
            mailbox.send(Message::Work(Work(Box::new(work))));
        }
        Ok(Box::new(move |reply: &mut Reply<'_>| reply.integer(i64::try_from(cleared).unwrap_or(i64::MAX)))
            as Written)
    })
}

fn write_source(reply: &mut Reply<'_>, server: &Server, source: &Source) {
    let lines = source.spec.describe();
    let (under_way, waiting) = source.load();
    let follower = server.through.follower(&source.spec.name);
    let queue = server.through.queue(&source.spec.name).map(|queue| queue.figures());
    let behind = queue.as_ref().map(|figures| (figures_of(figures), figures.failure.clone()));
    reply.map(lines.len() + 13 + behind.as_ref().map_or(0, |(figures, _)| figures.len() + 1));
    text(reply, "name", &source.spec.name);
    for (name, value) in lines {
        text(reply, name, &value);
    }
    text(reply, "state", source.state());
    count(reply, "under_way", under_way as u64);
    count(reply, "waiting", waiting as u64);
    let counts = &source.counts;
    for (name, counter) in [
        ("asked", &counts.asked),
        ("failed", &counts.failed),
        ("retried", &counts.retried),
        ("timed_out", &counts.timed_out),
        ("refused", &counts.refused),
    ] {
        count(reply, name, counter.load(Relaxed));
    }
    let feed = match &follower {
        None => "off",
        Some(follower) if follower.is_following() => "following",
        Some(_) => "interrupted",
    };
    text(reply, "feed", feed);
    count(reply, "feed_changes", follower.as_ref().map_or(0, |follower| follower.changes.load(Relaxed)));
    count(reply, "feed_lag_ms", follower.as_ref().map_or(0, |follower| follower.lag_ms.load(Relaxed)));
    count(reply, "feed_gaps", follower.as_ref().map_or(0, |follower| follower.gaps.load(Relaxed)));
    if let Some((figures, failure)) = behind {
        for (name, value) in figures {
            count(reply, &format!("behind_{name}"), value);
        }
        text(reply, "behind_failure", failure.as_deref().unwrap_or("none"));
    }
}

/// The figures of a queue by name, but for why it fails.
pub(crate) fn figures_of(figures: &Figures) -> [(&'static str, u64); 12] {
    let now_ms = clock::unix_millis().0;
    [
        ("pending", figures.pending),
        ("bytes", figures.bytes),
        ("log_bytes", figures.log_bytes),
        ("held", figures.held),
        ("oldest_ms", figures.oldest_ms.map_or(0, |since| now_ms.saturating_sub(since))),
        ("accepted", figures.accepted),
        ("superseded", figures.superseded),
        ("sent", figures.sent),
        ("retried", figures.retried),
        ("refused", figures.refused),
        ("buried", figures.buried),
        ("dead_letters", figures.letters.0),
    ]
}

fn route(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    let words: Vec<String> = args.from(3).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    let action = args.get(2).to_ascii_lowercase();
    match (action.as_slice(), words.as_slice()) {
        (b"set", [_, _, ..]) => set_route(host, &words),
        (b"del", [pattern]) => del_route(host, pattern),
        (b"list", []) => {
            let server = host.server();
            let routes = server.through.routes();
            let mut reply = host.reply();
            reply.array(routes.all().len());
            routes.all().iter().for_each(|route| write_route(&mut reply, server, route));
            Ok(())
        }
        (b"explain", [_]) => {
            explain(host, args.get(3));
            Ok(())
        }
        (b"test", [_]) => test_route(host, args.get(3)),
        _ => Err(Error::of(
            "ERR CACHE ROUTE takes SET pattern source AS shape QUERY statement [option value ...], DEL pattern, \
             EXPLAIN key, TEST key or LIST",
        )),
    }
}

fn set_route(host: &mut Host<'_>, words: &[String]) -> Result<(), Error> {
    let through = &host.server().through;
    let find = |name: &str| through.source(name).map(|source| source.spec.language());
    let mut route =
        Route::parse(words, find).map_err(|error| Error::custom(format!("ERR route: {error}")))?;
    if route.db as usize >= host.server().settings().databases() as usize {
        return Err(Error::custom(format!("ERR route: there is no database {}", route.db)));
    }
    let source = find_source(host, &route.source)?;
    answer_later(host, |server| async move {
        match through::check(&source, &mut route).await {
            Ok(()) => {}
            Err(CheckError::Wrong(text)) => return Err(format!("ERR route: {text}")),
            Err(CheckError::Unknown(text)) => {
                return Err(format!("SOURCEDOWN route: not checked, so not set: {text}"));
            }
        }
        through::change(server, |routes, _| {
            routes.retain(|other| other.pattern != route.pattern || other.db != route.db);
            routes.push(Arc::new(route));
            Ok(())
        })
        .map_err(|text| format!("ERR {text}"))?;
        Ok(ok())
    })
}

fn del_route(host: &mut Host<'_>, pattern: &str) -> Result<(), Error> {
    let pattern = pattern.to_owned();
    change_later(host, move |routes, _| {
        let before = routes.len();
        routes.retain(|route| route.pattern.text() != pattern);
        if routes.len() == before {
            Err(format!("there is no route with the pattern {pattern}"))
        } else {
            Ok(())
        }
    })
}

fn write_route(reply: &mut Reply<'_>, server: &Server, route: &Route) {
    let lines = route.describe();
    let counts = route.stats.counts();
    let share = share_of(server, route);
    reply.map(1 + lines.len() + counts.len() + share.len() + 3);
    text(reply, "pattern", route.pattern.text());
    for (name, value) in lines {
        text(reply, name, &value);
    }
    for (name, value) in counts.into_iter().chain(share) {
        count(reply, name, value);
    }
    // A hit looks at no route: hits are known from samples, by the beginning of keys.
    let hits = server.keyspace.insight.prefix(route.pattern.prefix()).map_or(0, |known| known.traffic.hits);
    count(reply, "hits_estimate", hits);
    double(reply, "load_ms_p50", route.stats.micros_at(0.5) as f64 / 1000.0);
    double(reply, "load_ms_p99", route.stats.micros_at(0.99) as f64 / 1000.0);
}

/// What a key stands for: its route, the statement, and what is bound.
fn explain(host: &mut Host<'_>, key: &[u8]) {
    let routes = host.server().through.routes();
    let db = host.conn.db.0;
    let mut reply = host.reply();
    let Some(route) = routes.find(db, key) else {
        reply.null();
        return;
    };
    reply.map(5);
    text(&mut reply, "pattern", route.pattern.text());
    text(&mut reply, "source", &route.source);
    text(&mut reply, "shape", route.shape.name());
    text(&mut reply, "query", route.query.text());
    reply.bulk(b"parameters");
    match route.parameters(&route.query, key) {
        None => reply.null(),
        Some(parameters) => {
            reply.map(parameters.len());
            for (name, value) in route.query.names().iter().zip(parameters) {
                text(&mut reply, name, &format!("{value:?}"));
            }
        }
    }
}

/// Loads a key without keeping it, and shows how that went.
fn test_route(host: &mut Host<'_>, key: &[u8]) -> Result<(), Error> {
    let routes = host.server().through.routes();
    let Some(route) = routes.find(host.conn.db.0, key).cloned() else {
        return Err(Error::of("ERR no route has this key; CACHE ROUTE LIST shows those there are"));
    };
    let Some(parameters) = route.parameters(&route.query, key) else {
        return Err(Error::of(
            "ERR the key is not of the types that the route's names have: it is a miss, and nothing is asked",
        ));
    };
    let source = find_source(host, &route.source)?;
    answer_later(host, |_| async move {
        let start = clock::now();
        let request = Request {
            statement: &route.query,
            parameters: &parameters,
            validator: None,
            limits: route.limits,
        };
        let found = source.fetch(request, route.timeout).await.map_err(|error| error.reply())?;
        let millis = start.elapsed().as_secs_f64() * 1000.0;
        let Found::Rows { mut rows, .. } = found else {
            return Err("ERR the store answered nothing".to_owned());
        };
        let shaped = route
            .shape
            .shape(&rows.columns, &mut rows.rows, 0)
            .map_err(|text| format!("LOADFAIL source '{}': {text}", source.spec.name))?;
        Ok(Box::new(move |reply: &mut Reply<'_>| {
            reply.map(5);
            text(reply, "query", route.query.text());
            double(reply, "milliseconds", millis);
            count(reply, "rows", rows.rows.len() as u64);
            text(reply, "shape", route.shape.name());
            reply.bulk(b"value");
            write_value(reply, shaped.as_ref());
        }) as Written)
    })
}

fn write_value(reply: &mut Reply<'_>, value: Option<&Shaped>) {
    match value {
        None => reply.null(),
        Some(Shaped::String(bytes)) => reply.bulk(bytes),
        Some(Shaped::Hash(fields)) => {
            reply.map(fields.len());
            for (field, value) in fields {
                reply.bulk(field);
                reply.bulk(value);
            }
        }
        Some(Shaped::List(items) | Shaped::Set(items)) => {
            reply.array(items.len());
            items.iter().for_each(|item| reply.bulk(item));
        }
        Some(Shaped::Zset(members)) => {
            reply.array(members.len());
            for (score, member) in members {
                reply.array(2);
                reply.bulk(member);
                let mut text = Vec::new();
                larder_values::number::write_f64(&mut text, *score);
                reply.double_text(&text);
            }
        }
    }
}

fn text(reply: &mut Reply<'_>, name: &str, value: &str) {
    reply.bulk(name.as_bytes());
    reply.bulk(value.as_bytes());
}
