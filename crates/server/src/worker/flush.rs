//! The end of a turn: every connection gets its replies by one call to the kernel.

use super::{SPARE_BUFFER_BYTES_MAX, SPARE_BUFFERS, Worker};
use crate::connection::{Closing, Connection, Parked};
use crate::io::Sent;
use std::sync::atomic::Ordering::Relaxed;

impl Worker {
    /// Sends every connection its replies.
    pub(super) fn flush_all(&mut self) {
        let mut tokens = std::mem::take(&mut self.flush);
        for token in tokens.drain(..) {
            let Some(conn) = self.connections.get_mut(token) else { continue };
            conn.in_flush_list = false;
            let before = conn.output.len();
            let sent =
                if conn.closing == Closing::Now { Sent::Gone } else { conn.socket.flush(&mut conn.output) };
            let bytes = before - conn.output.len();
            self.core.stats.writes.add(1);
            self.core.stats.bytes_out.add(bytes as u64);
            conn.client.bytes_out.add(bytes as u64);
            conn.client.output_bytes.store(conn.output.len(), Relaxed);
            conn.client.memory.store(conn.memory(), Relaxed);
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
                    if over_output_limit(
                        conn,
                        self.core.settings.client_output_buffer_limit(),
                        self.core.local.now.0,
                    ) {
                        tracing::warn!(
                            client = conn.client.id,
                            bytes = conn.output.len(),
                            "closing a client that does not read its replies"
                        );
                        self.core.stats.output_limit_closes.add(1);
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
        self.flush = tokens;
    }
}

/// Whether a client's unread replies pass a limit.
fn over_output_limit(conn: &mut Connection, limits: &larder_config::OutputLimits, now_ms: u64) -> bool {
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
