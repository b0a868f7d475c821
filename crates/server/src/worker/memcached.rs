//! The beginning of a turn for connections that speak memcached's protocol: their bytes become the same requests as others'.
//! Read next: `crate::door`.

use super::batch::{Asked, Queue, Request, Source};
use super::receive::Parser;
use crate::connection::Connection;
use crate::door::{self, Next};
use crate::registry::Row;
use larder_resp::Limits;

impl Parser {
    /// Queues the commands from `at` on and answers where the first incomplete one starts.
    pub(super) fn parse_memcached(
        &self,
        queue: &mut Queue,
        conn: &mut Connection,
        bytes: &[u8],
        mut at: usize,
        limits: &Limits,
    ) -> usize {
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let (first, base) = (queue.spans.len(), queue.inline.len());
            let Queue { spans, inline, .. } = queue;
            match door::next(&self.server.registry, &mut conn.door, rest, (spans, inline), limits) {
                Next::Request { row, consumed, is_rewritten } => {
                    self.queue_memcached(queue, rest, at, (first, base), (row, is_rewritten));
                    at += consumed;
                }
                Next::Nothing(consumed) => at += consumed,
                Next::Incomplete { wanted } => {
                    conn.wanted = wanted;
                    return at;
                }
            }
        }
        at
    }

    #[inline]
    fn queue_memcached(
        &self,
        queue: &mut Queue,
        rest: &[u8],
        at: usize,
        (first, base): (usize, usize),
        (row, is_rewritten): (&'static Row, bool),
    ) {
        let words = queue.spans.get(first..).unwrap_or_default();
        let text = if is_rewritten { queue.inline.get(base..).unwrap_or_default() } else { rest };
        let hash = match words.get(row.first_key).filter(|_| row.first_key != 0) {
            Some(key) => {
                let hash = self.server.keyspace.hash(key.of(text));
                self.database.prefetch_shard(hash);
                hash
            }
            None => 0,
        };
        let spans = (first as u32, words.len() as u32);
        let (source, base) = if is_rewritten { (Source::Inline, base) } else { (self.source, at) };
        let (asked, base, raw_base) = (Asked::Command(Some(row)), base as u32, at as u32);
        queue.requests.push(Request { asked, source, base, raw_base, spans, hash });
    }
}
