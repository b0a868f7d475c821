//! The requests of one turn, parsed and waiting: where their bytes are and what they ask.

use crate::registry::Row;
use larder_commands::Args;
use larder_resp::{ProtocolError, Span};
use larder_store::Database;

/// Where a connection's requests of this turn lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// In the turn's buffer.
    Turn,
    /// In the connection's own buffer.
    Own,
    /// In the turn's buffer of inline requests, as rewritten words.
    Inline,
}

/// What a parsed request asks.
#[derive(Clone, Copy)]
pub(super) enum Asked {
    /// This command; `None` when there is none of that name.
    Command(Option<&'static Row>),
    /// Nothing sensible: the error to answer before the connection is closed.
    Violation(ProtocolError),
}

/// A request that has been read and waits for its turn.
#[derive(Clone, Copy)]
pub(super) struct Request {
    pub asked: Asked,
    pub source: Source,
    /// Where the request starts in its source.
    pub base: u32,
    /// Where it starts in the connection's bytes; differs from `base` for inline requests.
    pub raw_base: u32,
    /// First argument and number of arguments.
    pub spans: (u32, u32),
    /// Hash of the first key; 0 where the command has none.
    pub hash: u64,
}

/// The requests of one connection in this turn.
#[derive(Clone, Copy)]
pub(super) struct Group {
    pub token: u64,
    /// Database of the connection when the requests were read: a guess, for prefetching only.
    pub database: Database<'static>,
    /// First request and the one behind the last.
    pub requests: (u32, u32),
    /// Where the connection's bytes lie.
    pub source: Source,
    /// End of its complete requests, in its source.
    pub parsed_to: usize,
}

/// Everything read in a turn and not carried out yet.
#[derive(Default)]
pub(super) struct Batch {
    /// What sockets brought; requests start on cache lines of their own.
    pub bytes: Vec<u8>,
    /// How much of `bytes` is in use.
    pub used: usize,
    /// The requests.
    pub queue: Queue,
}

/// The requests of a turn: parsed, in order.
#[derive(Default)]
pub(super) struct Queue {
    /// Words of inline requests, rewritten one after the other.
    pub inline: Vec<u8>,
    pub requests: Vec<Request>,
    pub spans: Vec<Span>,
    pub groups: Vec<Group>,
}

impl Batch {
    /// An empty batch that can hold `bytes` bytes from sockets.
    pub fn with_room_for(bytes: usize) -> Batch {
        Batch { bytes: vec![0; bytes], ..Batch::default() }
    }

    /// The words of a request whose connection's own bytes are `own`.
    #[inline]
    pub fn args<'a>(&'a self, request: &Request, own: &'a [u8]) -> Args<'a> {
        let source = match request.source {
            Source::Turn => &self.bytes[..],
            Source::Own => own,
            Source::Inline => &self.queue.inline[..],
        };
        let (first, count) = (request.spans.0 as usize, request.spans.1 as usize);
        Args::new(&source[request.base as usize..], &self.queue.spans[first..first + count])
    }

    /// Where what comes behind a request of a group begins in the group's bytes.
    pub fn begin_behind(&self, group: &Group, index: usize) -> usize {
        let next = self.queue.requests[index + 1..group.requests.1 as usize].first();
        next.map_or(group.parsed_to, |next| next.raw_base as usize)
    }

    /// Forgets everything carried out; keeps the memory.
    pub fn clear(&mut self) {
        self.queue.requests.clear();
        self.queue.spans.clear();
        self.queue.groups.clear();
        self.queue.inline.clear();
        self.used = 0;
    }
}
