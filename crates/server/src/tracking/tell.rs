//! Telling clients what has changed.

use super::{Mode, Tracked};
use crate::connection::Connection;
use crate::execute::{Core, is_script};
use crate::registry::Row;
use crate::server::{Message, Server};
use larder_commands::spec::Flags;
use larder_commands::{Args, keys_of};
use larder_resp::{Output, Protocol, Reply};
use larder_store::Changed;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// The channel by which connections that speak RESP2 are told of the changes that others hear of.
const CHANNEL: &[u8] = b"__redis__:invalidate";

/// What a connection is told.
#[derive(Debug, Clone)]
pub struct Invalidation {
    /// The number of the connection's client.
    pub client: u64,
    /// It tracks for another.
    is_redirected: bool,
    news: News,
}

#[derive(Debug, Clone)]
enum News {
    /// These keys have changed.
    Keys(Arc<[Box<[u8]>]>),
    /// All have; the protocol is that of the client that tracks, as in Redis.
    All(Protocol),
    /// Who the messages went to is gone.
    Broken(u64),
}

impl Invalidation {
    /// Appends it to the output of its connection.
    pub fn write(&self, out: &mut Output, protocol: Protocol, is_subscriber: bool) {
        let mut reply = Reply::new(out, protocol);
        if let News::Broken(client) = self.news {
            if reply.is_resp3() {
                reply.push(2);
                reply.bulk(b"tracking-redir-broken");
                reply.integer(i64::try_from(client).unwrap_or(i64::MAX));
            }
            return;
        }
        if reply.is_resp3() {
            reply.push(2);
            reply.bulk(b"invalidate");
        } else if self.is_redirected && is_subscriber {
            reply.array(3);
            reply.bulk(b"message");
            reply.bulk(CHANNEL);
        } else {
            // RESP2 has no way to tell it.
            return;
        }
        match &self.news {
            News::Keys(keys) => {
                reply.array(keys.len());
                keys.iter().for_each(|key| reply.bulk(key));
            }
            News::All(Protocol::Resp3) => reply.raw(b"_\r\n"),
            News::All(Protocol::Resp2 | Protocol::Memcached) => reply.raw(b"$-1\r\n"),
            News::Broken(_) => {}
        }
    }
}

impl Server {
    /// Notes that a client has read all keys of a command.
    fn enter_all(&self, tracked: &Arc<Tracked>, row: &Row, args: &Args<'_>) {
        for key in keys_of(row.spec, args).unwrap_or_default() {
            self.tracking.table.enter(args.get(key.index as usize), tracked, &self.keyspace.followed);
        }
    }

    /// Sends news to the worker of whoever is to be told, or gives them to `own`, if that is it.
    fn tell(&self, tracked: &Tracked, news: News, own: &mut dyn FnMut(&Invalidation) -> bool) {
        let (redirect, _) = tracked.redirect();
        let (client, worker, news) = match redirect {
            0 => (tracked.client, tracked.worker, news),
            id => match self.clients.get(id) {
                Some(client) => (id, client.worker, news),
                None => {
                    tracked.is_broken.store(true, Relaxed);
                    (tracked.client, tracked.worker, News::Broken(id))
                }
            },
        };
        let is_redirected = redirect != 0 && client == redirect;
        let invalidation = Invalidation { client, is_redirected, news };
        if !own(&invalidation) {
            self.mailboxes[worker].send(Message::Invalidate(invalidation));
        }
    }

    /// Tells all who track that everything has changed.
    fn tell_flushed(&self, own: &mut dyn FnMut(&Invalidation) -> bool) {
        self.tracking.table.clear(&self.keyspace.followed);
        for client in self.clients.all() {
            if let Some(tracked) = client.tracked()
                && tracked.is_on()
            {
                let is_resp3 = client.protocol.load(Relaxed) == 3;
                let protocol = if is_resp3 { Protocol::Resp3 } else { Protocol::Resp2 };
                self.tell(&tracked, News::All(protocol), own);
            }
        }
    }

    /// Tells those who have read a key that it has changed.
    fn tell_changed(&self, changed: &Changed, own: &mut dyn FnMut(&Invalidation) -> bool) {
        for tracked in self.tracking.table.take(&changed.key, changed.at, &self.keyspace.followed) {
            let Mode { broadcast, no_loop, .. } = tracked.mode();
            if tracked.is_on() && !broadcast && !(no_loop && tracked.client == changed.by) {
                self.tell(&tracked, News::Keys(Arc::new([changed.key.clone()])), own);
            }
        }
    }

    /// Tells those who hear of all keys with some beginning which have changed, and who has changed them last.
    fn tell_broadcast(&self, changed: &BTreeMap<Box<[u8]>, u64>) {
        let prefixes = self.tracking.prefixes.lock();
        for (prefix, clients) in prefixes.iter() {
            let keys = || changed.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(prefix));
            if keys().next().is_none() {
                continue;
            }
            let all: Arc<[Box<[u8]>]> = keys().map(|(key, _)| key.clone()).collect();
            for tracked in clients {
                let keys: Arc<[Box<[u8]>]> = if tracked.mode().no_loop {
                    keys().filter(|(_, by)| **by != tracked.client).map(|(key, _)| key.clone()).collect()
                } else {
                    Arc::clone(&all)
                };
                if !keys.is_empty() {
                    self.tell(tracked, News::Keys(keys), &mut |_| false);
                }
            }
        }
    }
}

/// Whoever is to hear of changes of what a command reads.
pub fn reader<'c>(conn: &'c Connection, row: &Row) -> Option<&'c Arc<Tracked>> {
    let tracked = conn.tracked.as_ref()?;
    let Mode { broadcast, opt_in, opt_out, .. } = tracked.mode();
    let is_left_out = opt_in && !conn.is_caching || opt_out && conn.is_caching;
    // What a script reads is entered command by command, and not what it declares.
    let reads = row.has(Flags::READONLY) && !is_script(row);
    (!broadcast && !is_left_out && reads).then_some(tracked)
}

/// Notes what a command has read for a client that tracks. The shards of its keys are locked.
pub fn enter_reads(server: &Server, conn: &Connection, row: &Row, args: &Args<'_>) {
    if let Some(tracked) = reader(conn, row) {
        server.enter_all(tracked, row, args);
    }
}

/// The same for a command that waited, and was served because `changed` has changed: the client is told of that before what the
/// command answers, and not behind it, so that it may keep what it is given.
pub fn enter_served(server: &Server, tracked: &Arc<Tracked>, row: &Row, args: &Args<'_>, changed: &[u8]) {
    if !tracked.is_on() {
        return;
    }
    if server.tracking.table.leave(changed, tracked, &server.keyspace.followed) {
        server.tell(tracked, News::Keys(Arc::new([changed.into()])), &mut |_| false);
    }
    server.enter_all(tracked, row, args);
}

impl Core {
    /// Forgets some key where more are tracked than may be; what the connection at hand is told of it comes into `own`.
    fn keep_table_small(&mut self, client: u64, own: &mut Vec<Invalidation>) {
        let (server, followed) = (self.server, &self.server.keyspace.followed);
        let max = usize::try_from(self.settings.tracking_table_max_keys()).unwrap_or(usize::MAX);
        if max == 0 {
            return;
        }
        while let Some((key, told)) =
            server.tracking.table.take_any(max, self.local.random() as usize, followed)
        {
            for tracked in told.iter().filter(|tracked| tracked.is_on()) {
                let news = News::Keys(Arc::new([key.clone()]));
                server.tell(tracked, news, &mut |told| keep_own(told, client, own));
            }
        }
    }

    /// Before a command of a client that tracks: what others have changed in this turn is told first, so that nothing of it
    /// concerns what the command reads.
    pub fn tell_before(&mut self, conn: &Connection, out: &mut Output) {
        if self.local.effects.has_copied() {
            let mut own = Vec::new();
            self.tell_noted(&mut |told, _| keep_own(told, conn.client.id, &mut own));
            own.iter().for_each(|told| told.write(out, conn.protocol, conn.subscriptions.is_some()));
        }
    }

    /// After a command of a client that tracks: it is told what it has changed, behind the reply that begins at `mark`; and before it which keys
    /// made room for the command, and that everything is gone, unless a transaction or a script removed that (`is_whole`).
    pub fn tell_after(&mut self, conn: &Connection, out: &mut Output, mark: (usize, usize), is_whole: bool) {
        let (mut before, mut behind) = (Vec::new(), Vec::new());
        self.keep_table_small(conn.client.id, &mut behind);
        if self.local.effects.has_copied() {
            self.tell_noted(&mut |told, is_before| {
                let is_before = is_before && !(is_whole && matches!(told.news, News::All(_)));
                keep_own(told, conn.client.id, if is_before { &mut before } else { &mut behind })
            });
        }
        let is_subscriber = conn.subscriptions.is_some();
        let (reply_end, blobs) = out.mark();
        before.iter().for_each(|told: &Invalidation| told.write(out, conn.protocol, is_subscriber));
        if blobs == mark.1 {
            let told = out.mark().0 - reply_end;
            out.bytes_mut()[mark.0..].rotate_right(told);
        }
        behind.iter().for_each(|told| told.write(out, conn.protocol, is_subscriber));
    }

    /// Tells what other clients' commands have changed in this turn. Inside it.
    #[inline]
    pub fn tell_copiers(&mut self) {
        if self.local.effects.has_copied() {
            self.tell_noted(&mut |_, _| false);
        }
        if !self.broadcast.is_empty() {
            self.server.tell_broadcast(&std::mem::take(&mut self.broadcast));
        }
    }

    /// Tells of what was noted. `own` is shown each message, and whether Redis sends it before the reply of the command that
    /// found it out; what it keeps it writes by itself.
    #[inline(never)]
    fn tell_noted(&mut self, own: &mut dyn FnMut(&Invalidation, bool) -> bool) {
        let (changed, is_flushed) = self.local.effects.take_copied();
        if is_flushed {
            self.server.tell_flushed(&mut |told| own(told, true));
        }
        for changed in &changed {
            self.server.tell_changed(changed, &mut |told| own(told, changed.was_evicted));
        }
        if self.server.tracking.prefix_count.load(Relaxed) != 0 {
            self.broadcast.extend(changed.into_iter().map(|changed| (changed.key, changed.by)));
        }
    }

    /// Has a connection track no more.
    pub fn end_tracking(&self, conn: &mut Connection) {
        if let Some(tracked) = conn.tracked.take() {
            self.server.tracking.end(&tracked, &self.server.keyspace.followed);
            conn.client.set_tracked(None);
        }
        conn.is_caching = false;
    }
}

/// Keeps what is for one client; the rest is others' to be sent.
fn keep_own(told: &Invalidation, client: u64, own: &mut Vec<Invalidation>) -> bool {
    let is_own = told.client == client;
    if is_own {
        own.push(told.clone());
    }
    is_own
}
