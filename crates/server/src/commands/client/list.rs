//! CLIENT LIST and CLIENT INFO: connections as lines of `field=value`.

use super::super::connection::shown_name;
use super::filter::{Asking, Filter};
use crate::clients::Client;
use crate::execute::Host;
use crate::pubsub::Kind as Subscription;
use crate::server::Server;
use crate::tracking::Tracked;
use larder_commands::{Args, Error};
use std::sync::atomic::Ordering::Relaxed;

/// CLIENT INFO
pub(super) fn info(host: &mut Host<'_>, _: &Args<'_>) -> Result<(), Error> {
    host.core.count_commands_of(&host.conn.client);
    let mut text = Vec::new();
    write_line(host.server(), host.core.local.now.0, &host.conn.client, &mut text);
    host.reply().verbatim(b"txt", &text);
    Ok(())
}

/// CLIENT LIST [filter value [filter value ...]]
pub(super) fn list(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    let filter = Filter::parse(host, args, Asking::List)?;
    host.core.count_commands_of(&host.conn.client);
    let (now, me) = (host.core.local.now.0, host.conn.client.id);
    let mut text = Vec::new();
    for client in host.server().clients.all() {
        if filter.has(&client, now, me) {
            write_line(host.server(), now, &client, &mut text);
        }
    }
    host.reply().verbatim(b"txt", &text);
    Ok(())
}

/// The kinds of connection that Redis tells apart. None of this version's is to another server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Normal,
    Subscriber,
    Other,
}

impl Kind {
    /// Whether a connection is of the kind.
    pub(super) fn has(self, client: &Client) -> bool {
        match self {
            Kind::Normal => !client.is_subscriber(),
            Kind::Subscriber => client.is_subscriber(),
            Kind::Other => false,
        }
    }
}

/// The kind a word means.
pub(super) fn kind_of(word: &[u8]) -> Result<Kind, Error> {
    let others: [&[u8]; 4] = [b"master", b"primary", b"slave", b"replica"];
    if word.eq_ignore_ascii_case(b"normal") {
        Ok(Kind::Normal)
    } else if word.eq_ignore_ascii_case(b"pubsub") {
        Ok(Kind::Subscriber)
    } else if others.iter().any(|other| word.eq_ignore_ascii_case(other)) {
        Ok(Kind::Other)
    } else {
        let mut text = b"ERR Unknown client type '".to_vec();
        text.extend_from_slice(shown_name(word));
        text.push(b'\'');
        Err(Error::custom(text))
    }
}

/// Appends one connection's line.
pub(crate) fn write_line(server: &Server, now: u64, client: &Client, out: &mut Vec<u8>) {
    let names = client.names.lock().clone();
    let command = client.last_command.load(Relaxed).checked_sub(1);
    let command = command.and_then(|id| server.registry.all().find(|row| row.id == id));
    let command = command.map_or("NULL", |row| row.name.as_str());
    let seconds = |since: u64| now.saturating_sub(since) / 1000;
    out.extend_from_slice(
        format!(
            "id={} addr={} laddr={} fd={} name=",
            client.id, client.address, client.local_address, client.socket
        )
        .as_bytes(),
    );
    out.extend_from_slice(shown_name(&names.name));
    let output = client.output_bytes.load(Relaxed);
    out.extend_from_slice(
        format!(
            " age={} idle={} flags={} db={} sub={} psub={} ssub={} multi={} watch={} qbuf={} qbuf-free={} argv-mem={} multi-mem={} rbs=0 rbp=0 obl={output} oll=0 omem={output} tot-mem={} events={} cmd={command} user=",
            seconds(client.created_ms),
            seconds(client.active_ms.load(Relaxed)),
            flags(client),
            client.db.load(Relaxed),
            client.subscribed(Subscription::Channel),
            client.subscribed(Subscription::Pattern),
            client.subscribed(Subscription::Shard),
            client.multi.load(Relaxed),
            client.keys_watched(),
            client.query_bytes.load(Relaxed),
            client.query_free.load(Relaxed),
            client.argv_bytes.load(Relaxed),
            client.multi_bytes.load(Relaxed),
            client.memory.load(Relaxed),
            if output > 0 { "rw" } else { "r" },
        )
        .as_bytes(),
    );
    out.extend_from_slice(names.user.name());
    let redirect = client.tracked().map_or(-1, |tracked| tracked.redirect().0 as i64);
    let protocol = client.protocol.load(Relaxed);
    out.extend_from_slice(format!(" redir={redirect} resp={protocol} lib-name=").as_bytes());
    out.extend_from_slice(shown_name(&names.library));
    out.extend_from_slice(b" lib-ver=");
    out.extend_from_slice(shown_name(&names.library_version));
    out.extend_from_slice(
        format!(
            " io-thread={} tot-net-in={} tot-net-out={} tot-cmds={}\n",
            client.worker,
            client.bytes_in.get(),
            client.bytes_out.get(),
            client.commands.get()
        )
        .as_bytes(),
    );
}

/// The letters of a connection's state, in Redis' order.
pub(super) fn flags(client: &Client) -> String {
    let tracked = client.tracked();
    let tracks = |is_so: fn(&Tracked) -> bool| tracked.as_ref().is_some_and(|tracked| is_so(tracked));
    let letters = [
        (client.monitor.load(Relaxed), 'O'),
        (client.is_subscriber(), 'P'),
        (client.multi.load(Relaxed) >= 0, 'x'),
        (client.parked.load(Relaxed), 'b'),
        (tracks(|_| true), 't'),
        (tracks(|tracked| tracked.redirect().1), 'R'),
        (tracks(|tracked| tracked.mode().broadcast), 'B'),
        (client.watch.has_changed(), 'd'),
        (client.closing.load(Relaxed), 'c'),
        (client.is_unix, 'U'),
        (client.no_evict.load(Relaxed), 'e'),
        (client.no_touch.load(Relaxed), 'T'),
    ];
    let set: String = letters.iter().filter(|(on, _)| *on).map(|(_, letter)| *letter).collect();
    if set.is_empty() { "N".into() } else { set }
}
