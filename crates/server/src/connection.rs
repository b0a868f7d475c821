//! One client's connection: its socket, what it has sent and not been answered, what it is owed.
//!
//! Invariant: `input` starts at the first byte of a request, and `parser` and `spans` say how far
//! that request has been read. An idle connection holds no buffer.

use crate::clients::{Client, MEMCACHED};
use crate::io::Socket;
use crate::pubsub::{Kind, Subscriptions};
use crate::registry::Row;
use crate::through::Loading;
use crate::tracking::Tracked;
use crate::transaction::{Transaction, Watching};
use larder_acl::{Rules, User};
use larder_behind::Owner;
use larder_config::ClientClass;
use larder_resp::{Output, Protocol, RequestParser, Span, memcached};
use larder_store::DbIndex;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// How a connection's replies are treated (CLIENT REPLY).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReplyMode {
    /// Sent.
    #[default]
    On,
    /// Not sent until it is turned on again.
    Off,
    /// The next command's is not sent.
    SkipNext,
    /// That command is being carried out; CLIENT REPLY ON is answered all the same.
    SkipThis,
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Closing {
    /// Not at all.
    #[default]
    No,
    /// Once everything it is owed is sent.
    AfterReplies,
    /// Now.
    Now,
}

/// Why a connection's requests are not carried out for the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parked {
    /// CLIENT PAUSE is in force; its next request is kept.
    Paused,
    /// A key of its next request was locked by another thread for longer than we spin.
    Busy,
    /// It waits for something another thread does; a message with this ticket wakes it.
    Ticket(u64),
    /// Its next request is kept until what it misses has been fetched; messages with this ticket bring it.
    Load(u64),
}

/// A command whose answer is not there yet: it is counted when it ends.
pub struct Unfinished {
    /// The command.
    pub row: &'static Row,
    /// How long it has run, in nanoseconds; the wait is not among it.
    pub nanos: u64,
    /// Its words, as the slow log keeps them; none where there is no such log.
    pub words: Vec<Vec<u8>>,
}

impl Unfinished {
    fn memory(&self) -> usize {
        self.words.iter().map(|word| size_of::<Vec<u8>>() + word.capacity()).sum()
    }
}

impl std::fmt::Debug for Unfinished {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Unfinished").field("command", &self.row.name).finish_non_exhaustive()
    }
}

/// A client's connection.
#[derive(Debug)]
pub struct Connection {
    /// What other threads know of it.
    pub client: Arc<Client>,
    /// Its place among its worker's connections.
    pub token: u64,
    /// The socket.
    pub socket: Socket,
    /// Bytes of requests not carried out yet, from the start of a request on.
    pub input: Vec<u8>,
    /// How far the first incomplete request has been read.
    pub parser: RequestParser,
    /// The same where memcached's protocol is spoken.
    pub door: memcached::Parser,
    /// Arguments found of that request.
    pub spans: Vec<Span>,
    /// A lower bound of its length, in bytes.
    pub wanted: usize,
    /// Replies not sent yet.
    pub output: Output,
    /// The protocol it speaks.
    pub protocol: Protocol,
    /// Its database.
    pub db: DbIndex,
    /// Whether it has logged in, or needed not to.
    pub authenticated: bool,
    /// Whether it was ever logged in: its peer is somebody we know.
    pub was_authenticated: bool,
    /// Whom it speaks for.
    pub user: Arc<User>,
    /// CLIENT REPLY.
    pub reply_mode: ReplyMode,
    /// Whether the answer it is parked for is not sent (CLIENT REPLY).
    pub answer_is_hidden: bool,
    /// CLIENT LOAD: whether its reads fetch what is missing.
    pub loads: bool,
    /// CLIENT NO-TOUCH.
    pub no_touch: bool,
    /// MONITOR.
    pub monitor: bool,
    /// The commands since MULTI.
    pub transaction: Option<Box<Transaction>>,
    /// The keys it watches.
    pub watching: Watching,
    /// EXEC is running: nothing may wait.
    pub is_in_exec: bool,
    /// What it is subscribed to, if anything.
    pub subscriptions: Option<Box<Subscriptions>>,
    /// How it tracks what it reads, if it does.
    pub tracked: Option<Arc<Tracked>>,
    /// CLIENT CACHING was given for the next command.
    pub is_caching: bool,
    /// Whether and how it ends.
    pub closing: Closing,
    /// Whether its requests wait.
    pub parked: Option<Parked>,
    /// What it waits for from sources.
    pub loading: Option<Box<Loading>>,
    /// Who its writes are counted for that stores do not have yet; nobody before the first.
    pub owner: Option<Arc<Owner>>,
    /// The command it is parked by.
    pub unfinished: Option<Unfinished>,
    /// What the poller watches: reading, writing.
    pub interest: (bool, bool),
    /// Since when its output is above the soft limit, in milliseconds of Unix time; 0 for not.
    pub over_soft_limit_ms: u64,
    /// Whether requests of it wait to be carried out this turn.
    pub is_queued: bool,
    /// Whether replies wait to be flushed this turn.
    pub in_flush_list: bool,
    /// The number in the log of the last that was changed for it.
    pub logged: u64,
    /// Its replies wait for that to be on disk.
    pub is_held: bool,
}

impl Connection {
    /// A connection that has just been accepted.
    pub fn new(client: Arc<Client>, socket: Socket, authenticated: bool) -> Connection {
        let user = Arc::clone(&client.names.lock().user);
        let is_memcached = client.protocol.load(Relaxed) == MEMCACHED;
        let protocol = if is_memcached { Protocol::Memcached } else { Protocol::Resp2 };
        Connection {
            client,
            token: 0,
            socket,
            input: Vec::new(),
            parser: RequestParser::default(),
            spans: Vec::new(),
            wanted: 0,
            output: Output::default(),
            protocol,
            door: memcached::Parser::default(),
            db: DbIndex(0),
            authenticated,
            was_authenticated: authenticated,
            user,
            reply_mode: ReplyMode::On,
            answer_is_hidden: false,
            loads: true,
            no_touch: false,
            monitor: false,
            transaction: None,
            watching: Watching::default(),
            is_in_exec: false,
            subscriptions: None,
            tracked: None,
            is_caching: false,
            closing: Closing::No,
            parked: None,
            loading: None,
            owner: None,
            unfinished: None,
            interest: (true, false),
            over_soft_limit_ms: 0,
            is_queued: false,
            in_flush_list: false,
            logged: 0,
            is_held: false,
        }
    }

    /// Whether its requests need nothing but to be carried out, or kept for EXEC, where its user may ask them: no login, no
    /// hidden replies, no messages between replies.
    #[inline]
    pub fn is_plain(&self) -> bool {
        self.authenticated
            && !self.user.is_gone()
            && self.reply_mode == ReplyMode::On
            && self.subscriptions.is_none()
            && self.loading.is_none()
            && self.tracked.is_none()
    }

    /// Whether only the few commands of a subscriber are allowed: RESP2 has no other way to tell replies
    /// from messages.
    pub fn is_listening_only(&self) -> bool {
        self.subscriptions.is_some() && self.protocol == Protocol::Resp2
    }

    /// Whose limits of unread output hold for it.
    pub fn class(&self) -> ClientClass {
        if self.subscriptions.is_some() { ClientClass::PubSub } else { ClientClass::Normal }
    }

    /// Memory held for the connection, shared values of its replies not counted, in bytes.
    pub fn memory(&self) -> usize {
        size_of::<Connection>()
            + size_of::<Client>()
            + self.socket.memory()
            + self.input.capacity()
            + self.spans.capacity() * size_of::<Span>()
            + self.output.memory()
            + self.transaction.as_ref().map_or(0, |transaction| transaction.memory())
            + self.watching.memory()
            + self.subscriptions.as_ref().map_or(0, |own| own.memory())
            + self.unfinished.as_ref().map_or(0, Unfinished::memory)
    }

    /// Whether it is subscribed to what rules forbid.
    pub fn hears_forbidden(&self, rules: &Rules) -> bool {
        let Some(own) = &self.subscriptions else { return false };
        let is_forbidden =
            |kind| own.names(kind).any(|name| !rules.allows_channel(name, kind == Kind::Pattern));
        Kind::ALL.into_iter().any(is_forbidden)
    }

    /// Has the connection speak for a user.
    pub fn speak_for(&mut self, user: &Arc<User>, authenticated: bool) {
        self.user = Arc::clone(user);
        self.client.names.lock().user = Arc::clone(user);
        self.authenticated = authenticated;
        self.was_authenticated |= authenticated;
    }

    /// Has the connection work in a database.
    pub fn select(&mut self, db: DbIndex) {
        self.db = db;
        self.client.db.store(db.0, Relaxed);
    }

    /// Puts the connection back into the state it had when it was accepted (RESET), but for its user.
    pub fn reset(&mut self) {
        self.protocol = Protocol::Resp2;
        self.select(DbIndex(0));
        self.reply_mode = ReplyMode::On;
        self.loads = true;
        self.no_touch = false;
        self.monitor = false;
    }
}
