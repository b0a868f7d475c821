//! Giving a queue's writes to its store: in batches, the bad ones found by halving, again and again while the store is not there.

use crate::letters::Letter;
use crate::queue::Queue;
use crate::record::Write;
use std::sync::Arc;
use std::time::Duration;

/// The pause after an attempt that failed in passing; it doubles up to the other.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// What a store did with a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has all of it.
    Done,
    /// It refuses, and would again; it has nothing of it.
    Refused(String),
    /// The same may work later. Whether it has it is not known.
    Later(String),
}

/// A store that a queue is sent to.
pub trait Store {
    /// What it is told to do for a write.
    type Statement: Clone;

    /// How many writes it takes at once, at most.
    fn batch_max(&self) -> usize;

    /// What to tell it for a write; nothing where nobody knows, and then the write is held back.
    fn prepare(&self, write: &Write) -> Option<Self::Statement>;

    /// The statement, for people.
    fn text(&self, statement: &Self::Statement) -> String;

    /// Has it change, all or nothing.
    fn write(&self, statements: &[Self::Statement]) -> Outcome;

    /// Is told before these writes leave the queue: the store has them, or will never.
    fn leaves(&self, writes: &[Write]);

    /// Is told of a dead letter, once it is on disk and has left the queue.
    fn buried(&self, letter: Letter);

    /// The time, in milliseconds of Unix time.
    fn now_ms(&self) -> u64;
}

/// A write, and what the store is told for it.
type Item<S> = (Write, S);

/// Sends what is in the queue until it is over.
pub fn send_all<S: Store>(queue: &Arc<Queue>, store: &S) {
    let mut pause = PAUSE_FIRST;
    while let Some(writes) = queue.take(store.batch_max().max(1)) {
        let mut items = Vec::with_capacity(writes.len());
        for write in writes {
            match store.prepare(&write) {
                Some(statement) => items.push((write, statement)),
                None => queue.back(&[write], true),
            }
        }
        match send(queue, store, items) {
            Ok(()) => pause = PAUSE_FIRST,
            Err(text) => {
                tracing::debug!("write-behind: source {} is written to again: {text}", queue.name());
                queue.rest(pause);
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }
}

/// Sends some; what was not is back in the queue then.
fn send<S: Store>(queue: &Queue, store: &S, items: Vec<Item<S::Statement>>) -> Result<(), String> {
    let is_alone = items.len() == 1;
    let mut refused: Vec<(Item<S::Statement>, String)> = Vec::new();
    // Later parts lie deeper.
    let mut parts = vec![items];
    while let Some(mut part) = parts.pop() {
        if part.is_empty() {
            continue;
        }
        let statements: Vec<S::Statement> = part.iter().map(|(_, statement)| statement.clone()).collect();
        match store.write(&statements) {
            Outcome::Done => leave(queue, store, part.into_iter().map(|(write, _)| write).collect()),
            Outcome::Refused(text) if part.len() == 1 => refused.extend(part.pop().map(|item| (item, text))),
            Outcome::Refused(_) => {
                let later = part.split_off(part.len() / 2);
                parts.extend([later, part]);
            }
            Outcome::Later(text) => {
                parts.push(part);
                let left = parts.into_iter().flatten().chain(refused.into_iter().map(|(item, _)| item));
                give_back(queue, left);
                return Err(text);
            }
        }
    }
    let mut refused = refused.into_iter();
    while let Some((item, text)) = refused.next() {
        if let Err(why) = bury(queue, store, &item, text, is_alone) {
            give_back(queue, [item].into_iter().chain(refused.map(|(item, _)| item)));
            return Err(why);
        }
    }
    Ok(())
}

/// Puts a write that was refused among the dead letters, unless it is taken now that those beside it have been.
fn bury<S: Store>(
    queue: &Queue,
    store: &S,
    (write, statement): &Item<S::Statement>,
    text: String,
    is_alone: bool,
) -> Result<(), String> {
    let outcome =
        if is_alone { Outcome::Refused(text) } else { store.write(std::slice::from_ref(statement)) };
    match outcome {
        Outcome::Done => leave(queue, store, vec![write.clone()]),
        Outcome::Later(why) => return Err(why),
        Outcome::Refused(text) => {
            let letter = queue
                .bury(write, &store.text(statement), &text, store.now_ms())
                .map_err(|error| format!("a dead letter cannot be written: {error}"))?;
            store.leaves(std::slice::from_ref(write));
            queue.done(std::slice::from_ref(write));
            store.buried(letter);
        }
    }
    Ok(())
}

fn leave<S: Store>(queue: &Queue, store: &S, writes: Vec<Write>) {
    store.leaves(&writes);
    queue.sent(&writes);
}

fn give_back<S>(queue: &Queue, items: impl Iterator<Item = Item<S>>) {
    let writes: Vec<Write> = items.map(|(write, _)| write).collect();
    queue.back(&writes, false);
}
