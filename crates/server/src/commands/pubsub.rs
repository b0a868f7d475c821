//! Publish and subscribe. Read next: `pubsub.rs` of this crate, where subscriptions are kept.

use super::help;
use crate::execute::Host;
use crate::pubsub::{Kind, Name};
use crate::registry::{HostCommand, HostRun};
use larder_commands::spec::{Arg, ArgKind, Flags, Group, KeyFlags, KeySpec};
use larder_commands::{Args, Error, Spec};
use larder_values::glob;

/// What all of them share.
const ANY: Spec = Spec {
    group: Group::PubSub,
    since: "2.0.0",
    flags: Flags::PUBSUB.or(Flags::LOADING).or(Flags::STALE),
    ..Spec::EMPTY
};

/// What the commands that begin or end subscriptions share.
const SUBSCRIPTION: Spec = Spec { flags: ANY.flags.or(Flags::NO_SCRIPT), ..ANY };

/// A cluster keeps a shard channel where it would keep a key of the name.
const SHARD_KEYS: &[KeySpec] = &[KeySpec::range(1, -1, 1, KeyFlags::NOT_KEY)];

macro_rules! command {
    ($(#[$doc:meta])* $name:ident, $run:expr, $spec:expr) => {
        $(#[$doc])*
        pub static $name: HostCommand =
            HostCommand { spec: $spec, run: HostRun::Host($run), subcommands: &[] };
    };
}

command!(
    /// `SUBSCRIBE channel [channel ...]`
    SUBSCRIBE,
    |host, args| subscribe(host, args, Kind::Channel),
    Spec {
        name: "subscribe",
        summary: "Has the connection get what is published on channels.",
        complexity: "O(N) where N is the number of channels.",
        arity: -2,
        args: &[Arg::string("channel").multiple()],
        ..SUBSCRIPTION
    }
);

command!(
    /// `UNSUBSCRIBE [channel [channel ...]]`
    UNSUBSCRIBE,
    |host, args| unsubscribe(host, args, Kind::Channel),
    Spec {
        name: "unsubscribe",
        summary: "Ends subscriptions to channels, all of them unless some are named.",
        complexity: "O(N) where N is the number of channels.",
        arity: -1,
        args: &[Arg::string("channel").optional().multiple()],
        ..SUBSCRIPTION
    }
);

command!(
    /// `PSUBSCRIBE pattern [pattern ...]`
    PSUBSCRIBE,
    |host, args| subscribe(host, args, Kind::Pattern),
    Spec {
        name: "psubscribe",
        summary: "Has the connection get what is published on channels that match patterns.",
        complexity: "O(N) where N is the number of patterns.",
        arity: -2,
        args: &[Arg::new("pattern", ArgKind::Pattern).multiple()],
        ..SUBSCRIPTION
    }
);

command!(
    /// `PUNSUBSCRIBE [pattern [pattern ...]]`
    PUNSUBSCRIBE,
    |host, args| unsubscribe(host, args, Kind::Pattern),
    Spec {
        name: "punsubscribe",
        summary: "Ends subscriptions to patterns, all of them unless some are named.",
        complexity: "O(N) where N is the number of patterns.",
        arity: -1,
        args: &[Arg::new("pattern", ArgKind::Pattern).optional().multiple()],
        ..SUBSCRIPTION
    }
);

command!(
    /// `SSUBSCRIBE shardchannel [shardchannel ...]`
    SSUBSCRIBE,
    |host, args| subscribe(host, args, Kind::Shard),
    Spec {
        name: "ssubscribe",
        summary: "Has the connection get what is published on shard channels.",
        since: "7.0.0",
        complexity: "O(N) where N is the number of shard channels.",
        arity: -2,
        keys: SHARD_KEYS,
        args: &[Arg::string("shardchannel").multiple()],
        ..SUBSCRIPTION
    }
);

command!(
    /// `SUNSUBSCRIBE [shardchannel [shardchannel ...]]`
    SUNSUBSCRIBE,
    |host, args| unsubscribe(host, args, Kind::Shard),
    Spec {
        name: "sunsubscribe",
        summary: "Ends subscriptions to shard channels, all of them unless some are named.",
        since: "7.0.0",
        complexity: "O(N) where N is the number of shard channels.",
        arity: -1,
        keys: SHARD_KEYS,
        args: &[Arg::string("shardchannel").optional().multiple()],
        ..SUBSCRIPTION
    }
);

command!(
    /// `PUBLISH channel message`
    PUBLISH,
    |host, args| publish(host, args, false),
    Spec {
        name: "publish",
        summary: "Sends a message to everybody who is subscribed to a channel, and answers how many that are.",
        complexity: "O(N+M) where N is the number of subscribers and M that of all patterns subscribed to.",
        arity: 3,
        flags: ANY.flags.or(Flags::FAST),
        args: &[Arg::string("channel"), Arg::string("message")],
        ..ANY
    }
);

command!(
    /// `SPUBLISH shardchannel message`
    SPUBLISH,
    |host, args| publish(host, args, true),
    Spec {
        name: "spublish",
        summary: "Sends a message to everybody who is subscribed to a shard channel, and answers how many that are.",
        since: "7.0.0",
        complexity: "O(N) where N is the number of subscribers.",
        arity: 3,
        flags: ANY.flags.or(Flags::FAST),
        keys: &[KeySpec::at(1, KeyFlags::NOT_KEY)],
        args: &[Arg::string("shardchannel"), Arg::string("message")],
        ..ANY
    }
);

fn subscribe(host: &mut Host<'_>, args: &Args<'_>, kind: Kind) -> Result<(), Error> {
    if kind == Kind::Shard && host.conn.is_in_exec {
        return Err(Error::of("ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client"));
    }
    host.core.reply_is_push = true;
    for name in args.from(1) {
        host.core.subscribe(host.conn, kind, name);
        confirm(host, verb(kind, true), Some(name), kind);
    }
    Ok(())
}

fn unsubscribe(host: &mut Host<'_>, args: &Args<'_>, kind: Kind) -> Result<(), Error> {
    host.core.reply_is_push = true;
    if args.len() > 1 {
        for name in args.from(1) {
            end_one(host, name, kind);
        }
        return Ok(());
    }
    let all: Vec<Name> =
        host.conn.subscriptions.iter().flat_map(|own| own.names(kind)).map(Name::clone).collect();
    for name in &all {
        end_one(host, name, kind);
    }
    if all.is_empty() {
        confirm(host, verb(kind, false), None, kind);
    }
    Ok(())
}

fn end_one(host: &mut Host<'_>, name: &[u8], kind: Kind) {
    host.core.unsubscribe(host.conn, host.out, kind, name);
    confirm(host, verb(kind, false), Some(name), kind);
}

/// The word that says what became of a subscription.
fn verb(kind: Kind, begins: bool) -> &'static [u8] {
    match (kind, begins) {
        (Kind::Channel, true) => b"subscribe",
        (Kind::Channel, false) => b"unsubscribe",
        (Kind::Pattern, true) => b"psubscribe",
        (Kind::Pattern, false) => b"punsubscribe",
        (Kind::Shard, true) => b"ssubscribe",
        (Kind::Shard, false) => b"sunsubscribe",
    }
}

/// Tells of one subscription, and how many there are now: shard channels are counted apart.
fn confirm(host: &mut Host<'_>, verb: &[u8], name: Option<&[u8]>, kind: Kind) {
    let count = host.conn.subscriptions.as_ref().map_or(0, |own| match kind {
        Kind::Shard => own.count(Kind::Shard),
        Kind::Channel | Kind::Pattern => own.count(Kind::Channel) + own.count(Kind::Pattern),
    });
    let mut reply = host.reply();
    reply.push(3);
    reply.bulk(verb);
    match name {
        Some(name) => reply.bulk(name),
        None => reply.null(),
    }
    reply.count(count);
}

fn publish(host: &mut Host<'_>, args: &Args<'_>, is_sharded: bool) -> Result<(), Error> {
    let (server, own) = (host.server(), host.core.id);
    let count = server.pubsub.publish(&server.mailboxes, own, is_sharded, args.get(1), args.get(2));
    host.reply().count(count);
    Ok(())
}

/// What the subcommands of PUBSUB share.
const SUB: Spec = Spec { since: "2.8.0", arity: -2, ..ANY };

/// `PUBSUB subcommand ...`
pub static PUBSUB: HostCommand = HostCommand {
    spec: Spec {
        name: "pubsub",
        summary: "Holds the commands that look at subscriptions.",
        since: "2.8.0",
        group: Group::PubSub,
        complexity: "Depends on the subcommand.",
        arity: -2,
        ..Spec::EMPTY
    },
    run: HostRun::Container,
    subcommands: &[&CHANNELS, &HELP, &NUMPAT, &NUMSUB, &SHARDCHANNELS, &SHARDNUMSUB],
};

const PATTERN: &[Arg] = &[Arg::new("pattern", ArgKind::Pattern).optional()];

command!(
    /// `PUBSUB CHANNELS [pattern]`
    CHANNELS,
    |host, args| channels(host, args, Kind::Channel),
    Spec {
        name: "channels",
        summary: "Lists the channels that have subscribers.",
        complexity: "O(N) where N is the number of channels.",
        args: PATTERN,
        ..SUB
    }
);

command!(
    /// `PUBSUB SHARDCHANNELS [pattern]`
    SHARDCHANNELS,
    |host, args| channels(host, args, Kind::Shard),
    Spec {
        name: "shardchannels",
        summary: "Lists the shard channels that have subscribers.",
        since: "7.0.0",
        complexity: "O(N) where N is the number of shard channels.",
        args: PATTERN,
        ..SUB
    }
);

command!(
    /// `PUBSUB NUMSUB [channel [channel ...]]`
    NUMSUB,
    |host, args| subscribers(host, args, false),
    Spec {
        name: "numsub",
        summary: "Counts the subscribers of channels, those by patterns left out.",
        complexity: "O(N) where N is the number of channels asked for.",
        args: &[Arg::string("channel").optional().multiple()],
        ..SUB
    }
);

command!(
    /// `PUBSUB SHARDNUMSUB [shardchannel [shardchannel ...]]`
    SHARDNUMSUB,
    |host, args| subscribers(host, args, true),
    Spec {
        name: "shardnumsub",
        summary: "Counts the subscribers of shard channels.",
        since: "7.0.0",
        complexity: "O(N) where N is the number of shard channels asked for.",
        args: &[Arg::string("shardchannel").optional().multiple()],
        ..SUB
    }
);

command!(
    /// `PUBSUB NUMPAT`
    NUMPAT,
    |host, _| {
        let count = host.server().pubsub.count(Kind::Pattern);
        host.reply().count(count);
        Ok(())
    },
    Spec { name: "numpat", summary: "Counts the patterns that have subscribers.", arity: 2, ..SUB }
);

command!(
    /// `PUBSUB HELP`
    HELP,
    |host, _| {
        let lines = [
            "CHANNELS [<pattern>]",
            "    Channels that have subscribers, all or those that match.",
            "NUMPAT",
            "    How many different patterns have subscribers.",
            "NUMSUB [<channel> ...]",
            "    How many subscribers each of the channels has by its name.",
            "SHARDCHANNELS [<pattern>]",
            "    Shard channels that have subscribers, all or those that match.",
            "SHARDNUMSUB [<shardchannel> ...]",
            "    How many subscribers each of the shard channels has.",
        ];
        help::help(host, "PUBSUB", &lines);
        Ok(())
    },
    Spec {
        name: "help",
        summary: "Answers a text about the subcommands.",
        since: "6.2.0",
        arity: 2,
        flags: Flags::LOADING.or(Flags::STALE),
        ..SUB
    }
);

fn channels(host: &mut Host<'_>, args: &Args<'_>, kind: Kind) -> Result<(), Error> {
    if args.len() > 3 {
        return Err(help::misused("PUBSUB", args.get(1)));
    }
    let mut names = host.server().pubsub.names(kind);
    if let Some(pattern) = args.try_get(2) {
        names.retain(|name| glob::matches(pattern, name));
    }
    let mut reply = host.reply();
    reply.array(names.len());
    names.iter().for_each(|name| reply.bulk(name));
    Ok(())
}

fn subscribers(host: &mut Host<'_>, args: &Args<'_>, is_sharded: bool) -> Result<(), Error> {
    let pubsub = &host.server().pubsub;
    let mut reply = host.reply();
    reply.array(2 * (args.len() - 2));
    for channel in args.from(2) {
        reply.bulk(channel);
        reply.count(pubsub.subscribers(is_sharded, channel));
    }
    Ok(())
}
