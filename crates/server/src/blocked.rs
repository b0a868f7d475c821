//! Clients that wait for something with a time limit: the registry behind WAIT and CLIENT UNBLOCK.
//!
//! Invariant: a client is here from the moment it is parked until its answer is on its way or its
//! connection has ended; whoever takes it out answers it, so it is answered once. Each worker answers
//! those of its own clients whose time is over.
//! Read next: `commands/wait.rs`, which parks; `background.rs`, which looks at the clock.

use crate::server::Message;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

/// A client that waits.
#[derive(Debug)]
pub struct Waiter {
    /// The worker that owns its connection.
    pub worker: usize,
    /// What its connection is parked under.
    pub ticket: u64,
    /// When it has waited long enough; `None` for never.
    pub deadline: Option<Instant>,
    /// What it is answered then.
    pub on_timeout: Vec<u8>,
}

/// All clients that wait, by their numbers.
#[derive(Debug, Default)]
pub struct Blocked {
    waiting: Mutex<BTreeMap<u64, Waiter>>,
    count: AtomicUsize,
}

impl Blocked {
    /// Adds a client.
    pub fn add(&self, client: u64, waiter: Waiter) {
        let mut waiting = self.waiting.lock();
        waiting.insert(client, waiter);
        self.count.store(waiting.len(), Relaxed);
    }

    /// Takes a client out, if it waits.
    pub fn take(&self, client: u64) -> Option<Waiter> {
        let mut waiting = self.waiting.lock();
        let waiter = waiting.remove(&client);
        self.count.store(waiting.len(), Relaxed);
        waiter
    }

    /// Whether this client waits.
    pub fn has(&self, client: u64) -> bool {
        !self.is_empty() && self.waiting.lock().contains_key(&client)
    }

    /// Whether anybody waits. One load where nobody does.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count.load(Relaxed) == 0
    }

    /// When the first wait of a worker's clients is over, if one ever is.
    pub fn next_deadline(&self, worker: usize) -> Option<Instant> {
        let waiting = self.waiting.lock();
        waiting.values().filter(|waiter| waiter.worker == worker).filter_map(|waiter| waiter.deadline).min()
    }

    /// Takes out a worker's clients whose time is over: their answers.
    pub fn take_due(&self, worker: usize, now: Instant) -> Vec<Message> {
        let mut waiting = self.waiting.lock();
        let is_due = |waiter: &Waiter| {
            waiter.worker == worker && waiter.deadline.is_some_and(|deadline| deadline <= now)
        };
        let due: Vec<(u64, Waiter)> = waiting.extract_if(.., |_, waiter| is_due(waiter)).collect();
        self.count.store(waiting.len(), Relaxed);
        let answer =
            |(client, waiter): (u64, Waiter)| Message::Answer(client, waiter.ticket, waiter.on_timeout);
        due.into_iter().map(answer).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn waiter(worker: usize, ticket: u64, deadline: Option<Instant>) -> Waiter {
        Waiter { worker, ticket, deadline, on_timeout: b":0\r\n".to_vec() }
    }

    #[test]
    fn a_wait_ends_once_at_its_time_or_by_another() {
        let (blocked, start) = (Blocked::default(), crate::clock::now());
        let later = start + Duration::from_millis(5);
        blocked.add(1, waiter(0, 10, Some(later)));
        blocked.add(2, waiter(0, 20, None));
        blocked.add(3, waiter(1, 30, Some(start)));
        assert_eq!(blocked.next_deadline(0), Some(later));
        assert!(blocked.take_due(0, start).is_empty());
        let due = blocked.take_due(0, later);
        assert!(matches!(&due[..], [Message::Answer(1, 10, reply)] if reply == b":0\r\n"), "{due:?}");
        assert!(blocked.take_due(0, later).is_empty() && blocked.take(1).is_none());
        assert_eq!(blocked.next_deadline(0), None);
        assert_eq!(blocked.take(2).map(|waiter| waiter.ticket), Some(20));
        assert!(!blocked.is_empty());
        assert_eq!(blocked.take_due(1, later).len(), 1);
        assert!(blocked.is_empty());
    }
}
