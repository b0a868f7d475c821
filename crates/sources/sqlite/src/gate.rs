//! How many queries of many keys run at once.
//!
//! SQLite works on the processors that keep what it answers. Of several queries each would have a share of them, and all would end
//! together at the end; one after the other, what the first brought is kept while the next one runs.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// So many at once; who waits too long goes in all the same.
pub struct Gate {
    free: Mutex<usize>,
    freed: Condvar,
}

/// A place that is given back when this is dropped.
pub struct Pass<'g>(&'g Gate);

impl Gate {
    pub fn new(places: usize) -> Gate {
        Gate { free: Mutex::new(places), freed: Condvar::new() }
    }

    /// Waits for a place, for so long at most, on a thread that may block: a query that takes long holds nobody up.
    pub fn enter(&self, patience: Duration) -> Option<Pass<'_>> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.freed.wait_timeout_while(free, patience, |free| *free == 0);
        let (mut free, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *free = free.checked_sub(1)?;
        Some(Pass(self))
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_waited_for_and_given_back() {
        let gate = Gate::new(1);
        let pass = gate.enter(Duration::ZERO).expect("a place");
        assert!(gate.enter(Duration::from_millis(1)).is_none());
        std::thread::scope(|scope| {
            let other = scope.spawn(|| gate.enter(Duration::from_secs(600)).is_some());
            drop(pass);
            assert!(other.join().expect("it ends"));
        });
        assert!(gate.enter(Duration::ZERO).is_some());
    }
}
