//! The end of a turn: every connection gets its replies by one call to the kernel.

use super::{SPARE_BUFFER_BYTES_MAX, SPARE_BUFFERS, Worker};
use crate::commands::client_line;
use crate::connection::{Closing, Connection, Parked};
use crate::execute::Core;
use crate::io::Sent;
use crate::server::Message;
use larder_config::OutputLimits;
use std::sync::atomic::Ordering::Relaxed;

/// Bytes of unread replies that somebody may be owed who has never logged in: what Redis' first buffer holds, and a KiB.
const STRANGER_BYTES_MAX: usize = 17 * 1024;
/// Bytes of replies that no limit counts: a short answer reaches its client however small the limit is. Redis counts none of a
/// connection's first buffer, which has a KiB when it is little used.
const FREE_BYTES: usize = 1024;

impl Worker {
    /// Looks again at connections whose replies waited for the log to be on disk.
    pub(super) fn look_at_held(&mut self) {
        for token in std::mem::take(&mut self.held) {
            let Some(conn) = self.connections.get_mut(token) else { continue };
            conn.is_held = false;
            if !conn.in_flush_list {
                conn.in_flush_list = true;
                self.flush.push(token);
            }
        }
    }

    /// Sends every connection its replies.
    pub(super) fn flush_all(&mut self) {
        let (mut first, mut tokens) =
            (std::mem::take(&mut self.flush_first), std::mem::take(&mut self.flush));
        for token in first.drain(..).chain(tokens.drain(..)) {
            let Some(conn) = self.connections.get_mut(token) else { continue };
            conn.in_flush_list = false;
            // What was written for it is to be on disk first.
            if self.server.journal.holds(conn.logged) && self.server.journal.holds_and_tells(conn.logged) {
                if !std::mem::replace(&mut conn.is_held, true) {
                    self.held.push(token);
                }
                continue;
            }
            let before = conn.output.len();
            close_if_over(&self.core, conn);
            let sent =
                if conn.closing == Closing::Now { Sent::Gone } else { conn.socket.flush(&mut conn.output) };
            let bytes = before - conn.output.len();
            self.core.stats.writes.add(1);
            self.core.stats.bytes_out.add(bytes as u64);
            note_sent(conn, bytes);
            self.server.clients.weigh(&conn.client, conn.memory());
            match sent {
                Sent::All => {
                    if let Some(buffer) = conn.output.take_buffer()
                        && buffer.capacity() <= SPARE_BUFFER_BYTES_MAX
                        && self.spare.len() < SPARE_BUFFERS
                    {
                        self.spare.push(buffer);
                    }
                    conn.over_soft_limit_ms = 0;
                    if conn.closing != Closing::No {
                        self.close(token);
                        continue;
                    }
                    if conn.interest != (true, false) && matches!(conn.parked, None | Some(Parked::Busy)) {
                        conn.interest = (true, false);
                        let _ = self.poller.set_interest(&conn.socket, token, true, false);
                    }
                }
                Sent::Some => {
                    if owes_too_much(&self.core, conn) {
                        self.close(token);
                        continue;
                    }
                    let interest = (conn.interest.0, true);
                    if conn.interest != interest {
                        conn.interest = interest;
                        let _ = self.poller.set_interest(&conn.socket, token, interest.0, true);
                    }
                }
                Sent::Gone => self.close(token),
            }
        }
        (self.flush_first, self.flush) = (first, tokens);
    }

    /// Closes clients where all together take more memory than they may.
    #[inline]
    pub(super) fn look_at_clients(&mut self) {
        let max = self.core.client_bytes_max();
        if max != 0 && self.server.clients.bytes() >= max {
            self.evict_clients(max);
        }
    }

    /// Closes the largest clients, those of other workers by their workers.
    #[cold]
    fn evict_clients(&mut self, max: usize) {
        for client in self.server.clients.evict(max) {
            let line = client_line(self.server, self.core.local.now.0, &client);
            tracing::info!("evicting a client: {}", String::from_utf8_lossy(&line).trim_end());
            self.core.stats.clients_evicted.add(1);
            if client.worker == self.core.id {
                if let Some(token) = self.connections.token_of(client.id) {
                    self.close(token);
                }
            } else {
                self.server.mailboxes[client.worker].send(Message::Kill(client.id));
            }
        }
    }
}

/// From how many bytes on a client gets nothing at all, since it is to be owed no more than the hard limit of its class; none
/// where there is no limit.
#[inline]
pub(super) fn output_bytes_max(conn: &Connection, limits: &OutputLimits) -> usize {
    match limits.of(conn.class()).hard_bytes {
        0 => usize::MAX,
        bytes => usize::try_from(bytes).unwrap_or(usize::MAX).saturating_add(FREE_BYTES),
    }
}

/// Lets a client go that is owed more than it may be, before anything of that is sent.
#[inline]
fn close_if_over(core: &Core, conn: &mut Connection) {
    let (client, bytes) = (conn.client.id, conn.output.len());
    let limits = core.settings.client_output_buffer_limit();
    let is_over = conn.output.is_over() || bytes >= output_bytes_max(conn, limits);
    if is_over && conn.closing != Closing::Now {
        tracing::warn!(client, bytes, "closing a client that asks for more than it may be owed");
        core.stats.output_limit_closes.add(1);
        conn.closing = Closing::Now;
    }
}

/// Whether a client that has not taken all of its replies is let go.
fn owes_too_much(core: &Core, conn: &mut Connection) -> bool {
    let is_stranger = !conn.was_authenticated
        && conn.output.len() > STRANGER_BYTES_MAX
        && !core.server.access.users.is_open();
    let limits = core.settings.client_output_buffer_limit();
    let is_over = is_stranger || over_output_limit(conn, limits, core.local.now.0);
    if is_over {
        let (client, bytes) = (conn.client.id, conn.output.len());
        tracing::warn!(client, bytes, "closing a client that does not read its replies");
        core.stats.output_limit_closes.add(1);
    }
    is_over
}

/// Writes what other threads may want to know of what was sent.
#[inline]
fn note_sent(conn: &Connection, bytes: usize) {
    conn.client.bytes_out.add(bytes as u64);
    conn.client.output_bytes.store(conn.output.len(), Relaxed);
}

/// Whether a client's unread replies pass a limit.
fn over_output_limit(conn: &mut Connection, limits: &OutputLimits, now_ms: u64) -> bool {
    let limit = limits.of(conn.class());
    let bytes = conn.output.len() as u64;
    if limit.hard_bytes != 0 && bytes >= limit.hard_bytes {
        return true;
    }
    if limit.soft_bytes == 0 || bytes < limit.soft_bytes {
        conn.over_soft_limit_ms = 0;
        return false;
    }
    if conn.over_soft_limit_ms == 0 {
        conn.over_soft_limit_ms = now_ms;
    }
    now_ms.saturating_sub(conn.over_soft_limit_ms) > limit.soft_seconds.saturating_mul(1000)
}
