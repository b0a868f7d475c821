//! Clients that wait for something: the registry behind blocking commands, WAIT and CLIENT UNBLOCK.
//!
//! Invariant: a client is here from the moment it is parked until its answer is on its way or its
//! connection has ended; whoever takes it out answers it, so it is answered once. While another thread runs its
//! command again it is *being served*: nobody but that thread takes it out then, unless its connection ends.
//! Each worker answers those of its own clients whose time is over; their ends are kept in order, so that ten
//! thousand who wait cost nothing while nothing happens.
//! Read next: `execute/serve.rs`, which parks clients for keys and serves them; `commands/wait.rs`, for those that
//! wait for other servers; `background.rs`, which looks at the clock.

use crate::connection::Connection;
use crate::journal::Journal;
use crate::registry::Row;
use crate::server::Answer;
use crate::tracking::{Tracked, reader};
use larder_acl::User;
use larder_behind::Owner;
use larder_commands::wait::Wait;
use larder_commands::{Args, KeyAt, keys_of};
use larder_resp::{Protocol, Span};
use larder_store::{DbIndex, Followed, Type};
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

/// A client that waits.
#[derive(Debug, Clone)]
pub struct Waiter {
    /// The worker that owns its connection.
    pub worker: usize,
    /// What its connection is parked under; also its place among those who wait for a key.
    pub ticket: u64,
    /// When it has waited long enough; `None` for never.
    pub deadline: Option<Instant>,
    /// What it is answered then.
    pub on_timeout: OnTimeout,
    /// Its command, where it waits for keys.
    pub command: Option<Arc<Kept>>,
}

/// What a client is answered that has waited long enough.
#[derive(Debug, Clone)]
pub enum OnTimeout {
    /// This.
    Text(&'static [u8]),
    /// How many of its writes their stores do not have. It waits for them.
    Unsettled(Arc<Owner>),
    /// Whether its writes up to this number of the log are on disk, and that no replica has them. It waits for the first where
    /// nobody asked for replicas.
    Logged(u64, &'static Journal),
}

impl OnTimeout {
    /// The reply.
    pub fn reply(&self) -> Vec<u8> {
        match self {
            OnTimeout::Text(text) => text.to_vec(),
            OnTimeout::Unsettled(owner) => format!(":{}\r\n", owner.unsettled()).into_bytes(),
            OnTimeout::Logged(number, journal) => {
                format!("*2\r\n:{}\r\n:0\r\n", u8::from(journal.has_on_disk(*number))).into_bytes()
            }
        }
    }
}

/// A command that waits for keys and will be run again.
pub struct Kept {
    /// The command.
    pub row: &'static Row,
    /// Its words, one after the other, and where each lies.
    bytes: Vec<u8>,
    spans: Vec<Span>,
    /// The database it runs in.
    pub db: DbIndex,
    /// The protocol of its reply.
    pub protocol: Protocol,
    /// CLIENT NO-TOUCH.
    pub no_touch: bool,
    /// Whose it is: whether it may run is asked again when it does.
    pub user: Arc<User>,
    /// Which words are the keys it waits for.
    awaited: Range<usize>,
    /// The type a key must have to end the wait.
    pub kind: Type,
    /// Whether a key that is gone, or of another type, ends it as well.
    pub until_gone: bool,
    /// Who is to hear of changes of what it reads.
    pub reader: Option<Arc<Tracked>>,
}

impl Kept {
    /// Keeps a command that waits.
    pub fn new(row: &'static Row, args: &Args<'_>, wait: &Wait, conn: &Connection) -> Kept {
        let mut kept = Kept {
            row,
            bytes: Vec::new(),
            spans: Vec::with_capacity(args.len()),
            db: conn.db,
            protocol: conn.protocol,
            no_touch: conn.no_touch,
            user: Arc::clone(&conn.user),
            awaited: wait.keys.clone(),
            kind: wait.kind,
            until_gone: wait.until_gone,
            reader: reader(conn, row).cloned(),
        };
        for (index, word) in args.from(0).enumerate() {
            let rewritten = wait.rewritten.iter().find(|(at, _)| *at == index);
            let word = rewritten.map_or(word, |(_, text)| text.as_slice());
            let start = kept.bytes.len() as u32;
            kept.bytes.extend_from_slice(word);
            kept.spans.push(Span { start, len: word.len() as u32 });
        }
        kept
    }

    /// Its words.
    pub fn args(&self) -> Args<'_> {
        Args::new(&self.bytes, &self.spans)
    }

    /// The keys it waits for.
    pub fn awaited(&self) -> impl Iterator<Item = &[u8]> {
        let args = self.args();
        self.awaited.clone().map(move |index| args.get(index))
    }

    /// The keys it declares and does not wait for: it needs them all to run.
    pub fn needed(&self) -> impl Iterator<Item = &[u8]> {
        let args = self.args();
        let keys = keys_of(self.row.spec, &args).unwrap_or_default();
        let is_needed = |key: &KeyAt| !self.awaited.contains(&(key.index as usize));
        keys.into_iter().filter(is_needed).map(move |key| args.get(key.index as usize))
    }
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Kept").field("command", &self.row.name).finish_non_exhaustive()
    }
}

/// What came of beginning to serve a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// It is being served, by the caller.
    Here,
    /// Another thread is about to serve it, or to find out that it cannot.
    Elsewhere,
    /// It waits no more.
    Answered,
}

/// All clients that wait.
#[derive(Debug)]
pub struct Blocked {
    state: Mutex<State>,
    count: AtomicUsize,
    /// Those among them whose wait ends also when a key is gone.
    until_gone: AtomicUsize,
    followed: Arc<Followed>,
}

#[derive(Debug, Default)]
struct State {
    /// By their numbers, and whether they are being served.
    waiting: HashMap<u64, (Waiter, bool)>,
    /// Their ends in order, by worker.
    ends: Vec<BTreeSet<(Instant, u64)>>,
}

impl Blocked {
    /// Nobody waits, of `workers` workers' clients. `followed` knows who waits for which key.
    pub fn new(workers: usize, followed: Arc<Followed>) -> Blocked {
        let state = State { waiting: HashMap::new(), ends: vec![BTreeSet::new(); workers] };
        Blocked {
            state: Mutex::new(state),
            count: AtomicUsize::new(0),
            until_gone: AtomicUsize::new(0),
            followed,
        }
    }

    /// Adds a client.
    pub fn add(&self, client: u64, waiter: Waiter) {
        let mut state = self.state.lock();
        if let Some(deadline) = waiter.deadline
            && let Some(ends) = state.ends.get_mut(waiter.worker)
        {
            ends.insert((deadline, client));
        }
        if waiter.command.as_ref().is_some_and(|command| command.until_gone) {
            self.until_gone.fetch_add(1, Relaxed);
        }
        state.waiting.insert(client, (waiter, false));
        self.count.store(state.waiting.len(), Relaxed);
    }

    /// Takes a client out, if it waits and is not being served.
    pub fn take(&self, client: u64) -> Option<Waiter> {
        self.take_if(client, |_, is_served| !is_served)
    }

    /// Takes a client out that waits for stores to have its writes.
    pub fn take_settled(&self, client: u64) -> Option<Waiter> {
        self.take_if(client, |waiter, _| matches!(waiter.on_timeout, OnTimeout::Unsettled(_)))
    }

    /// Takes a client out that waits for its writes to be on disk.
    pub fn take_logged(&self, client: u64) -> Option<Waiter> {
        self.take_if(client, |waiter, _| matches!(waiter.on_timeout, OnTimeout::Logged(..)))
    }

    /// Takes a client out whose connection has ended.
    pub fn forget(&self, client: u64) {
        self.take_if(client, |_, _| true);
    }

    /// The command of a client that waits for keys, if it has not been answered.
    pub fn command(&self, client: u64) -> Option<Arc<Kept>> {
        self.state.lock().waiting.get(&client)?.0.command.clone()
    }

    /// Begins to serve a client.
    pub fn begin(&self, client: u64) -> Begun {
        match self.state.lock().waiting.get_mut(&client) {
            None => Begun::Answered,
            Some((_, true)) => Begun::Elsewhere,
            Some((_, is_served)) => {
                *is_served = true;
                Begun::Here
            }
        }
    }

    /// Whether another thread runs a client's command at the moment: whether the client waits is not decided.
    pub fn is_being_served(&self, client: u64) -> bool {
        self.state.lock().waiting.get(&client).is_some_and(|(_, is_served)| *is_served)
    }

    /// Has a client go on waiting that could not be served.
    pub fn put_back(&self, client: u64) {
        if let Some((_, is_served)) = self.state.lock().waiting.get_mut(&client) {
            *is_served = false;
        }
    }

    /// Takes a client out that has been served. `None` where its connection has ended meanwhile.
    pub fn finish(&self, client: u64) -> Option<Waiter> {
        self.take_if(client, |_, _| true)
    }

    fn take_if(&self, client: u64, condition: impl FnOnce(&Waiter, bool) -> bool) -> Option<Waiter> {
        let mut state = self.state.lock();
        let (waiter, is_served) = state.waiting.get(&client)?;
        if !condition(waiter, *is_served) {
            return None;
        }
        let (waiter, _) = state.waiting.remove(&client)?;
        if let Some(deadline) = waiter.deadline
            && let Some(ends) = state.ends.get_mut(waiter.worker)
        {
            ends.remove(&(deadline, client));
        }
        if waiter.command.as_ref().is_some_and(|command| command.until_gone) {
            self.until_gone.fetch_sub(1, Relaxed);
        }
        self.count.store(state.waiting.len(), Relaxed);
        drop(state);
        if let Some(command) = &waiter.command {
            command.awaited().for_each(|key| self.followed.stop_waiting(command.db, key, waiter.ticket));
        }
        Some(waiter)
    }

    /// Whether some wait ends when a key is gone. Of those who wait for a key that the caller has locked none is
    /// overlooked: they were counted under its lock.
    pub fn any_until_gone(&self) -> bool {
        self.until_gone.load(Relaxed) != 0
    }

    /// Whether this client waits.
    pub fn has(&self, client: u64) -> bool {
        !self.is_empty() && self.state.lock().waiting.contains_key(&client)
    }

    /// Whether anybody waits. One load where nobody does.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count.load(Relaxed) == 0
    }

    /// How many clients wait for a limited time, and how many keys are waited for until they are gone.
    pub fn counts(&self) -> (usize, usize) {
        let state = self.state.lock();
        let commands = state.waiting.values().filter_map(|(waiter, _)| waiter.command.as_ref());
        let until_gone: BTreeSet<(DbIndex, &[u8])> = commands
            .filter(|command| command.until_gone)
            .flat_map(|command| command.awaited().map(|key| (command.db, key)))
            .collect();
        (state.ends.iter().map(BTreeSet::len).sum(), until_gone.len())
    }

    /// When the first wait of a worker's clients is over, if one ever is.
    pub fn next_deadline(&self, worker: usize) -> Option<Instant> {
        self.state.lock().ends.get(worker)?.first().map(|(deadline, _)| *deadline)
    }

    /// Takes out a worker's clients whose time is over: their answers.
    pub fn take_due(&self, worker: usize, now: Instant) -> Vec<Answer> {
        let state = self.state.lock();
        let Some(ends) = state.ends.get(worker) else { return Vec::new() };
        let due = ends.iter().take_while(|(deadline, _)| *deadline <= now).map(|(_, client)| *client);
        let due: Vec<u64> = due.collect();
        drop(state);
        let answer = |client| {
            let waiter = self.take(client)?;
            Some(Answer::new(client, waiter.ticket, waiter.on_timeout.reply()))
        };
        due.into_iter().filter_map(answer).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_store::{Epochs, Hasher, Keyspace};
    use std::time::Duration;

    fn nobody() -> Blocked {
        let keyspace = Keyspace::new(1, 2, Hasher::keyed([1, 2]), Epochs::new(2));
        Blocked::new(2, Arc::clone(&keyspace.followed))
    }

    fn waiter(worker: usize, ticket: u64, deadline: Option<Instant>) -> Waiter {
        let on_timeout = OnTimeout::Text(b":0\r\n");
        Waiter { worker, ticket, deadline, on_timeout, command: None }
    }

    #[test]
    fn a_wait_ends_once_at_its_time_or_by_another() {
        let (blocked, start) = (nobody(), crate::clock::now());
        let later = start + Duration::from_millis(5);
        blocked.add(1, waiter(0, 10, Some(later)));
        blocked.add(2, waiter(0, 20, None));
        blocked.add(3, waiter(1, 30, Some(start)));
        assert_eq!((blocked.next_deadline(0), blocked.counts()), (Some(later), (2, 0)));
        assert!(blocked.take_due(0, start).is_empty());
        let due = blocked.take_due(0, later);
        assert_eq!(due, [Answer::new(1, 10, b":0\r\n")]);
        assert!(blocked.take_due(0, later).is_empty() && blocked.take(1).is_none());
        assert_eq!(blocked.next_deadline(0), None);
        assert_eq!(blocked.take(2).map(|waiter| waiter.ticket), Some(20));
        assert!(!blocked.is_empty());
        assert_eq!(blocked.take_due(1, later).len(), 1);
        assert!(blocked.is_empty());
    }

    #[test]
    fn who_is_being_served_is_left_alone_unless_it_goes_away() {
        let (blocked, start) = (nobody(), crate::clock::now());
        blocked.add(1, waiter(0, 10, Some(start)));
        blocked.state.lock().waiting.get_mut(&1).unwrap().1 = true;
        assert!(blocked.take(1).is_none() && blocked.take_due(0, start).is_empty());
        blocked.put_back(1);
        assert_eq!(blocked.take_due(0, start).len(), 1);
        blocked.add(2, waiter(0, 20, Some(start)));
        blocked.state.lock().waiting.get_mut(&2).unwrap().1 = true;
        blocked.forget(2);
        assert!(blocked.finish(2).is_none() && blocked.is_empty());
        assert_eq!(blocked.next_deadline(0), None);
    }
}
