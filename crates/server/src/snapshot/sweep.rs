//! A worker's part in a snapshot: it saves what nobody came by, in slices between turns.
//!
//! A worker that has requests gives a snapshot a share of its time, in slices no longer than a small turn, so that none of them waits for
//! long; one that has none gives it all its time.
//! Read next: the store's `snapshot.rs`.

use crate::clock;
use crate::execute::Core;
use larder_store::Saved;
use std::time::{Duration, Instant};

/// Longest slice of a worker that has requests: what one of them waits longer for at the most, but for a key that takes longer.
const SLICE_BUSY: Duration = Duration::from_micros(5);
/// Longest slice of one that has none: the first one that comes waits for the end of it.
const SLICE_IDLE: Duration = Duration::from_micros(100);
/// How long no request has come to one that has none. Between two slices there is none by chance now and then.
const CALM: Duration = Duration::from_millis(2);
/// How long a worker with requests rests after a slice, in slices: it gives a fifth of its time.
const REST: u32 = 4;
/// How long one waits that can do nothing before others have got on.
const WAIT: Duration = Duration::from_millis(1);

/// One worker's part.
#[derive(Debug, Default)]
pub struct Sweep {
    /// Before this it does nothing.
    next: Option<Instant>,
    /// Commands that had run at the last slice.
    commands: u64,
    /// The last slice before which some had run.
    busy: Option<Instant>,
    /// Nothing is left for this worker to do.
    is_through: bool,
}

impl Sweep {
    /// How long the worker may sleep; `None` where there is nothing to do.
    pub fn time_to_next(&self, core: &Core) -> Option<Duration> {
        let is_on = core.local.is_saving() && !self.is_through;
        // The poller counts whole milliseconds.
        is_on.then(|| match self.next {
            Some(next) => next.saturating_duration_since(clock::now()).max(WAIT),
            None => Duration::ZERO,
        })
    }

    /// Works for a slice, if it is time to. True where it is to go on without waiting for anything.
    #[cold]
    pub fn run(&mut self, core: &mut Core) -> bool {
        let start = clock::now();
        if self.next.is_some_and(|next| start < next) {
            return false;
        }
        let commands = core.stats.commands.get();
        if std::mem::replace(&mut self.commands, commands) != commands {
            self.busy = Some(start);
        }
        let is_busy = self.busy.is_some_and(|busy| start.saturating_duration_since(busy) < CALM);
        let slice = if is_busy { SLICE_BUSY } else { SLICE_IDLE };
        if !core.open_turn() {
            return true;
        }
        let keyspace = &core.server.keyspace;
        let saved = keyspace.sweep_snapshot(&mut core.local, &mut || start.elapsed() < slice);
        core.close_turn();
        self.is_through = saved == Saved::All;
        let rest = match saved {
            Saved::All => None,
            Saved::Waiting => Some(WAIT),
            Saved::Some if is_busy => Some(start.elapsed() * REST),
            Saved::Some => None,
        };
        self.next = rest.map(|rest| clock::now() + rest);
        saved == Saved::Some && self.next.is_none()
    }

    /// Whether there is something to do.
    #[inline]
    pub fn is_wanted(&self, core: &Core) -> bool {
        core.local.is_saving()
    }
}
