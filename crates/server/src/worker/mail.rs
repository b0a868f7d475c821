//! What other threads left for a worker: connections to take over, answers, messages to deliver.
//!
//! The mailbox is opened when a turn begins, and again before it ends: what is published in a turn
//! goes out in the same turn.

use super::Worker;
use crate::connection::{Closing, Connection, Parked};
use crate::execute::{Settled, Tidings, adopt};
use crate::pubsub::Delivery;
use crate::server::{Answer, Message};
use crate::through::Loading;
use crate::tracking::Invalidation;
use larder_acl::User;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// No connection has this token: its place would be out of all bounds.
const NOBODY: u64 = u64::MAX;

impl Worker {
    /// Does what others ask.
    pub(super) fn open_mailbox(&mut self) {
        let server = self.server;
        let mailbox = &server.mailboxes[self.core.id];
        mailbox.open();
        // What is sent meanwhile, by work that goes on in pieces for one, waits for the next look.
        for _ in 0..mailbox.len() {
            let Some(message) = mailbox.take() else { break };
            self.obey(message);
        }
    }

    /// Delivers what was published in this turn.
    #[inline]
    pub(super) fn open_mailbox_again(&mut self) {
        if !self.core.set_aside.is_empty() {
            for message in std::mem::take(&mut self.core.set_aside) {
                self.obey(message);
            }
        }
        if !self.server.mailboxes[self.core.id].is_empty() {
            self.open_mailbox();
        }
    }

    fn obey(&mut self, message: Message) {
        match message {
            Message::Accept(socket, client) => {
                adopt(&self.core, &mut self.connections, &self.poller, socket, client);
            }
            Message::Kill(id) => {
                if let Some(token) = self.connections.token_of(id) {
                    self.close(token);
                }
            }
            Message::CheckSubscribers(user, check) => {
                self.check_subscribers(&user);
                if let Some(check) = check {
                    check.one_has_looked(self.server);
                }
            }
            Message::Answer(answer) => self.answer_parked(&answer),
            Message::Work(work) => (work.0)(&mut self.core),
            Message::Publish(delivery) => self.deliver(&delivery, NOBODY),
            Message::Invalidate(told) => self.invalidate(&told),
            Message::Monitor(line) => self.feed_monitors(&line),
            Message::Settled(settled) => self.settle(settled),
            Message::Tidings(tidings) => self.hear(tidings),
            Message::Resume => {}
            Message::Listen => {
                if let Err(error) = self.server.listeners.lock().watch(&self.poller) {
                    tracing::error!(%error, "a new listening socket cannot be watched");
                }
            }
            Message::Shutdown => self.stopping = true,
        }
    }

    /// Closes subscribers to what a user may not hear any more. Who took the right from itself is on its way out, and is
    /// still told so.
    fn check_subscribers(&mut self, user: &Arc<User>) {
        let rules = user.rules();
        let is_forbidden = |conn: &Connection| {
            conn.closing == Closing::No && Arc::ptr_eq(&conn.user, user) && conn.hears_forbidden(&rules)
        };
        let tokens = self.connections.iter_mut().filter(|conn| is_forbidden(conn)).map(|conn| conn.token);
        for token in tokens.collect::<Vec<_>>() {
            self.close(token);
        }
    }

    /// Delivers the messages that the connection just served has to everybody else.
    #[cold]
    pub(super) fn deliver_the_rest(&mut self) {
        for (delivery, has_it) in std::mem::take(&mut self.core.undelivered) {
            self.deliver(&delivery, has_it);
        }
    }

    /// Appends a message to the outputs of all its connections but one.
    fn deliver(&mut self, delivery: &Delivery, has_it: u64) {
        let hard_bytes = self.core.backlog_bytes_max();
        for (token, pattern) in self.core.subscribers.of(delivery) {
            if token == has_it {
                continue;
            }
            let Some(conn) = self.connections.get_mut(token) else { continue };
            if conn.closing != Closing::No {
                continue;
            }
            if !conn.output.has_buffer() {
                conn.output.set_buffer(self.spare.pop().unwrap_or_default());
            }
            delivery.write(&mut conn.output, conn.protocol, pattern);
            let bytes = conn.output.len();
            if bytes as u64 >= hard_bytes {
                self.core.close_deaf(conn, bytes);
            }
            if !conn.in_flush_list {
                conn.in_flush_list = true;
                self.flush.push(token);
            }
        }
    }

    /// Tells a connection what has changed of what it has copies of.
    fn invalidate(&mut self, told: &Invalidation) {
        let Some(token) = self.connections.token_of(told.client) else { return };
        let hard_bytes = self.core.backlog_bytes_max();
        let Some(conn) = self.connections.get_mut(token) else { return };
        if conn.closing != Closing::No {
            return;
        }
        if !conn.output.has_buffer() {
            conn.output.set_buffer(self.spare.pop().unwrap_or_default());
        }
        told.write(&mut conn.output, conn.protocol, conn.subscriptions.is_some());
        let bytes = conn.output.len();
        if conn.subscriptions.is_some() && bytes as u64 >= hard_bytes {
            self.core.close_deaf(conn, bytes);
        }
        if !conn.in_flush_list {
            conn.in_flush_list = true;
            self.flush.push(token);
        }
    }

    /// What a parked connection waited for is there.
    fn answer_parked(&mut self, answer: &Answer) {
        let Some(token) = self.connections.token_of(answer.client) else { return };
        let Some(conn) = self.connections.get_mut(token) else { return };
        if conn.parked != Some(Parked::Ticket(answer.ticket)) {
            return;
        }
        conn.parked = None;
        conn.client.parked.store(false, Relaxed);
        if self.server.journal.is_on() {
            // Whoever served it changed something for it.
            conn.logged = self.server.journal.last();
        }
        if let Some(mut unfinished) = conn.unfinished.take() {
            unfinished.nanos += answer.nanos;
            self.core.count_end(&conn.client, unfinished, &answer.reply);
        }
        if !std::mem::take(&mut conn.answer_is_hidden) {
            conn.output.bytes_mut().extend_from_slice(&answer.reply);
        }
        if !conn.in_flush_list {
            conn.in_flush_list = true;
            self.flush_first.push(token);
        }
        self.again.push(token);
    }

    /// What a connection waited for from a source is there.
    fn settle(&mut self, settled: Settled) {
        let Settled { waiting, db, key, brought } = settled;
        let given = Arc::clone(&brought);
        if !self.give(waiting, 1, |loading| loading.add(db, key, given)) {
            self.core.forget_written(db, &brought);
        }
    }

    /// The same for what flights brought.
    fn hear(&mut self, tidings: Tidings) {
        let Tidings { arrived, whole, parts } = tidings;
        for (waiting, at) in parts {
            self.give(waiting, 1, |loading| loading.add_among(&arrived, at));
        }
        if let Some(waiting) = whole {
            self.give(waiting, arrived.brought.len(), |loading| loading.add_all(arrived));
        }
    }

    /// Gives a connection what it waited for, by so many flights; if it waits for nothing more it is asked again. False where it is not
    /// there any more, or does not wait.
    fn give(&mut self, (client, ticket): (u64, u64), count: usize, add: impl FnOnce(&mut Loading)) -> bool {
        let token = self.connections.token_of(client);
        let waits = |conn: &&mut Connection| conn.parked == Some(Parked::Load(ticket));
        let conn = token.and_then(|token| self.connections.get_mut(token)).filter(waits);
        let Some(conn) = conn else { return false };
        let token = conn.token;
        let Some(loading) = &mut conn.loading else { return true };
        add(loading);
        loading.left = loading.left.saturating_sub(count);
        if loading.left > 0 {
            return true;
        }
        conn.parked = None;
        conn.client.parked.store(false, Relaxed);
        self.again.push(token);
        // The end of the turn has the socket watched for reading again.
        if !conn.in_flush_list {
            conn.in_flush_list = true;
            self.flush.push(token);
        }
        true
    }

    fn feed_monitors(&mut self, line: &[u8]) {
        for conn in self.connections.iter_mut() {
            if conn.monitor {
                conn.output.bytes_mut().extend_from_slice(line);
                if !conn.in_flush_list {
                    conn.in_flush_list = true;
                    self.flush.push(conn.token);
                }
            }
        }
    }
}
