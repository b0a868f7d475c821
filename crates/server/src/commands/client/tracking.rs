//! CLIENT TRACKING, CACHING, TRACKINGINFO and GETREDIR: copies that clients keep.

use super::SUB;
use crate::execute::Host;
use crate::registry::{HostCommand, HostRun};
use crate::tracking::{Mode, Tracked};
use larder_commands::spec::Arg;
use larder_commands::{Args, Error, Spec};
use larder_values::number;
use std::sync::Arc;

macro_rules! sub {
    ($name:ident, $run:expr, $spec:expr) => {
        pub(super) static $name: HostCommand =
            HostCommand { spec: $spec, run: HostRun::Host($run), subcommands: &[] };
    };
}

sub!(
    CACHING,
    caching,
    Spec {
        name: "caching",
        summary: "Says whether the keys of the next command are tracked.",
        since: "6.0.0",
        arity: 3,
        args: &[Arg::one_of("mode", &[Arg::word("yes", "YES"), Arg::word("no", "NO")])],
        ..SUB
    }
);

sub!(
    GETREDIR,
    |host, _| {
        let redirect = host.conn.tracked.as_ref().map_or(-1, |tracked| tracked.redirect().0 as i64);
        host.reply().integer(redirect);
        Ok(())
    },
    Spec {
        name: "getredir",
        summary: "Answers to which connection invalidations are redirected.",
        since: "6.0.0",
        arity: 2,
        ..SUB
    }
);

sub!(
    TRACKING,
    tracking,
    Spec {
        name: "tracking",
        summary: "Has the connection told of changes of what it keeps copies of.",
        since: "6.0.0",
        complexity: "O(1). Some options may introduce additional complexity.",
        arity: -3,
        args: &[
            Arg::one_of("status", &[Arg::word("on", "ON"), Arg::word("off", "OFF")]),
            Arg::integer("client-id").token("REDIRECT").optional(),
            Arg::string("prefix").token("PREFIX").optional().multiple_with_token(),
            Arg::word("bcast", "BCAST").optional(),
            Arg::word("optin", "OPTIN").optional(),
            Arg::word("optout", "OPTOUT").optional(),
            Arg::word("noloop", "NOLOOP").optional(),
        ],
        ..SUB
    }
);

sub!(
    TRACKINGINFO,
    |host, _| {
        info(host);
        Ok(())
    },
    Spec {
        name: "trackinginfo",
        summary: "Answers what is tracked for the connection.",
        since: "6.2.0",
        arity: 2,
        ..SUB
    }
);

fn caching(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    let Some(mode) = host.conn.tracked.as_ref().map(|tracked| tracked.mode()) else {
        // The mode's word is not looked at before.
        return Err(Error::of(
            "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled",
        ));
    };
    let (is_valid, word, wanted) = match (args.is(2, b"yes"), args.is(2, b"no")) {
        (true, _) => (mode.opt_in, "YES", "OPTIN"),
        (_, true) => (mode.opt_out, "NO", "OPTOUT"),
        _ => return Err(Error::Syntax),
    };
    if !is_valid {
        return Err(Error::custom(format!(
            "ERR CLIENT CACHING {word} is only valid when tracking is enabled in {wanted} mode."
        )));
    }
    host.conn.is_caching = true;
    host.reply().ok();
    Ok(())
}

/// What CLIENT TRACKING asks for.
#[derive(Default)]
struct Asked {
    mode: Mode,
    redirect: u64,
    prefixes: Vec<Box<[u8]>>,
}

fn read(host: &Host<'_>, args: &Args<'_>) -> Result<Asked, Error> {
    let mut asked = Asked::default();
    let mut at = 3;
    while at < args.len() {
        let has_more = at + 1 < args.len();
        if args.is(at, b"redirect") && has_more {
            at += 1;
            if asked.redirect != 0 {
                return Err(Error::of("ERR A client can only redirect to a single other client"));
            }
            let id = number::parse_i64(args.get(at)).ok_or(Error::NotAnInteger)?;
            let id = u64::try_from(id).ok().filter(|id| host.core.server.clients.get(*id).is_some());
            // It may go at any time; it is there now, as Redis wants it.
            asked.redirect = id.ok_or(Error::of("ERR The client ID you want redirect to does not exist"))?;
        } else if args.is(at, b"bcast") {
            asked.mode.broadcast = true;
        } else if args.is(at, b"optin") {
            asked.mode.opt_in = true;
        } else if args.is(at, b"optout") {
            asked.mode.opt_out = true;
        } else if args.is(at, b"noloop") {
            asked.mode.no_loop = true;
        } else if args.is(at, b"prefix") && has_more {
            at += 1;
            asked.prefixes.push(args.get(at).into());
        } else {
            return Err(Error::Syntax);
        }
        at += 1;
    }
    Ok(asked)
}

fn tracking(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    let asked = read(host, args)?;
    if args.is(2, b"off") {
        host.core.end_tracking(host.conn);
        host.reply().ok();
        return Ok(());
    }
    if !args.is(2, b"on") {
        return Err(Error::Syntax);
    }
    let before = host.conn.tracked.clone();
    check(&asked, before.as_deref())?;
    let tracked = before.clone().unwrap_or_else(|| {
        let client = &host.conn.client;
        Arc::new(Tracked::new(client.id, client.worker))
    });
    // What others have changed earlier in this turn is told to those who tracked already, and is no news to this one.
    host.core.tell_copiers();
    let server = host.server();
    let Asked { mode, redirect, prefixes } = asked;
    server.tracking.begin(&tracked, mode, redirect, prefixes, &server.keyspace.followed, before.is_none());
    host.conn.client.set_tracked(Some(Arc::clone(&tracked)));
    host.conn.tracked = Some(tracked);
    host.conn.is_caching = false;
    host.reply().ok();
    Ok(())
}

/// Whether what is asked for goes together, and with what there was before.
fn check(asked: &Asked, before: Option<&Tracked>) -> Result<(), Error> {
    let mode = asked.mode;
    if !mode.broadcast && !asked.prefixes.is_empty() {
        return Err(Error::of("ERR PREFIX option requires BCAST mode to be enabled"));
    }
    let old = before.map(Tracked::mode);
    if old.is_some_and(|old| old.broadcast != mode.broadcast) {
        return Err(Error::of(
            "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it \
             with a different mode.",
        ));
    }
    if mode.broadcast && (mode.opt_in || mode.opt_out) {
        return Err(Error::of("ERR OPTIN and OPTOUT are not compatible with BCAST"));
    }
    if mode.opt_in && mode.opt_out {
        return Err(Error::of("ERR You can't specify both OPTIN mode and OPTOUT mode"));
    }
    if old.is_some_and(|old| mode.opt_in && old.opt_out || mode.opt_out && old.opt_in) {
        return Err(Error::of(
            "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it \
             with a different mode.",
        ));
    }
    let existing = before.map(Tracked::prefixes).unwrap_or_default();
    let overlap = |kind: &str, one: &[u8], other: &[u8]| {
        let mut text = b"ERR Prefix '".to_vec();
        text.extend_from_slice(one);
        text.extend_from_slice(format!("' overlaps with {kind} prefix '").as_bytes());
        text.extend_from_slice(other);
        text.extend_from_slice(b"'. Prefixes for a single client must not overlap.");
        Err(Error::custom(text))
    };
    let overlaps = |one: &[u8], other: &[u8]| one.starts_with(other) || other.starts_with(one);
    for (at, prefix) in asked.prefixes.iter().enumerate() {
        if let Some(other) = existing.iter().find(|other| overlaps(prefix, other)) {
            return overlap("an existing", prefix, other);
        }
        if let Some(other) = asked.prefixes[at + 1..].iter().find(|other| overlaps(prefix, other)) {
            return overlap("another provided", prefix, other);
        }
    }
    Ok(())
}

fn info(host: &mut Host<'_>) {
    let (tracked, is_caching) = (host.conn.tracked.clone(), host.conn.is_caching);
    let mode = tracked.as_ref().map(|tracked| tracked.mode()).unwrap_or_default();
    let (redirect, is_broken) = tracked.as_ref().map_or((0, false), |tracked| tracked.redirect());
    let is_on = tracked.is_some();
    let flags = [
        (if is_on { "on" } else { "off" }, true),
        ("bcast", mode.broadcast),
        ("optin", mode.opt_in),
        ("caching-yes", mode.opt_in && is_caching),
        ("optout", mode.opt_out),
        ("caching-no", mode.opt_out && is_caching),
        ("noloop", mode.no_loop),
        ("broken_redirect", is_broken),
    ];
    let set: Vec<&str> = flags.iter().filter(|(_, is_set)| *is_set).map(|(flag, _)| *flag).collect();
    let prefixes = tracked.as_ref().map(|tracked| tracked.prefixes()).unwrap_or_default();
    let mut reply = host.reply();
    reply.map(3);
    reply.bulk(b"flags");
    reply.set(set.len());
    set.iter().for_each(|flag| reply.bulk(flag.as_bytes()));
    reply.bulk(b"redirect");
    reply.integer(if is_on { redirect as i64 } else { -1 });
    reply.bulk(b"prefixes");
    reply.array(prefixes.len());
    prefixes.iter().for_each(|prefix| reply.bulk(prefix));
}
