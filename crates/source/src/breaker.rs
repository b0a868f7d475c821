//! When to leave a store alone: after failures in a row none is asked for a while, then one tries (Nygard, *Release It!*, 2007).

use std::time::Duration;

/// How long a store is left alone at first.
const PAUSE_MS_FIRST: u64 = 1_000;
/// And at most, after doubling with each try that failed.
const PAUSE_MS_MAX: u64 = 30_000;

/// What is known of a store's health. Times are milliseconds of any clock that goes on.
#[derive(Clone, Debug)]
pub struct Breaker {
    failures_max: u32,
    failures: u32,
    pause_ms: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Closed,
    /// Nobody asks until then.
    Open {
        until_ms: u64,
    },
    /// One asks, to see; it began then.
    Trying {
        since_ms: u64,
    },
}

/// Whether to ask.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Asking {
    /// Yes.
    Yes,
    /// Yes, and by this the store is judged.
    Try,
    /// No, for so long at least.
    No(Duration),
}

impl Breaker {
    /// A breaker that opens after `failures_max` failures in a row.
    pub fn new(failures_max: u32) -> Breaker {
        Breaker {
            failures_max: failures_max.max(1),
            failures: 0,
            pause_ms: PAUSE_MS_FIRST,
            state: State::Closed,
        }
    }

    /// Whether to ask the store now.
    pub fn ask(&mut self, now_ms: u64) -> Asking {
        match self.state {
            State::Closed => Asking::Yes,
            State::Open { until_ms } if now_ms < until_ms => {
                Asking::No(Duration::from_millis(until_ms - now_ms))
            }
            // Who tried may have been given up: then another does.
            State::Trying { since_ms } if now_ms < since_ms.saturating_add(PAUSE_MS_MAX) => {
                Asking::No(Duration::from_millis(self.pause_ms))
            }
            State::Open { .. } | State::Trying { .. } => {
                self.state = State::Trying { since_ms: now_ms };
                Asking::Try
            }
        }
    }

    /// The store answered, be it with an error of its own.
    pub fn succeeded(&mut self) {
        *self = Breaker::new(self.failures_max);
    }

    /// The store could not be reached, or did not answer in time.
    pub fn failed(&mut self, now_ms: u64) {
        self.failures = self.failures.saturating_add(1);
        match self.state {
            State::Trying { .. } => {
                self.pause_ms = (self.pause_ms * 2).min(PAUSE_MS_MAX);
                self.state = State::Open { until_ms: now_ms.saturating_add(self.pause_ms) };
            }
            State::Closed if self.failures >= self.failures_max => {
                self.state = State::Open { until_ms: now_ms.saturating_add(self.pause_ms) };
            }
            State::Closed | State::Open { .. } => {}
        }
    }

    /// A word for the state: closed, open, half-open.
    pub fn name(&self) -> &'static str {
        match self.state {
            State::Closed => "closed",
            State::Open { .. } => "open",
            State::Trying { .. } => "half-open",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_tries_and_closes() {
        let mut breaker = Breaker::new(2);
        breaker.failed(0);
        breaker.succeeded();
        breaker.failed(10);
        assert_eq!(breaker.ask(10), Asking::Yes);
        breaker.failed(20);
        assert_eq!((breaker.ask(20), breaker.name()), (Asking::No(Duration::from_millis(1000)), "open"));
        assert_eq!(breaker.ask(1020), Asking::Try);
        assert!(matches!(breaker.ask(1021), Asking::No(_)), "one tries at a time");
        breaker.failed(1030);
        assert_eq!(breaker.ask(1030), Asking::No(Duration::from_millis(2000)));
        assert_eq!(breaker.ask(3030), Asking::Try);
        breaker.succeeded();
        assert_eq!((breaker.ask(3031), breaker.name()), (Asking::Yes, "closed"));
    }

    #[test]
    fn a_try_that_is_given_up_does_not_block_for_ever() {
        let mut breaker = Breaker::new(1);
        breaker.failed(0);
        assert_eq!(breaker.ask(1000), Asking::Try);
        assert_eq!(breaker.ask(1000 + PAUSE_MS_MAX), Asking::Try);
    }
}
