//! How much of a core a thread gets beside others that want it: its nice value.
//!
//! Invariant: a thread is never left with more priority than the process was started with.

use rustix::process::{getpriority_process, setpriority_process};

/// The highest nice value there is.
const NICE_MAX: i32 = 19;

/// The priority of the calling thread, which gives way to others while there is little to do, and not any more once this is dropped.
///
/// Going back up takes a privilege that a process in a container often has not. It is tried out by one step, and where that fails the
/// thread keeps a value in the middle for good.
#[derive(Debug)]
pub struct GivingWay {
    /// The nice value that the process has.
    usual: i32,
    /// The one of a thread that gives way.
    low: i32,
    may_rise: bool,
    is_low: bool,
}

impl GivingWay {
    /// The calling thread gives way from now on: by `steps`, or by `for_good` where it could not come back.
    #[must_use]
    pub fn new(steps: i32, for_good: i32) -> GivingWay {
        let usual = getpriority_process(None).unwrap_or(0);
        let may_rise = set(usual + 1) && set(usual);
        let low = usual + if may_rise { steps } else { for_good };
        GivingWay { usual, low, may_rise, is_low: set(low) }
    }

    /// Whether the thread gives way, or has its full share again.
    pub fn give_way(&mut self, gives: bool) {
        if gives != self.is_low && self.may_rise && set(if gives { self.low } else { self.usual }) {
            self.is_low = gives;
        }
    }
}

impl Drop for GivingWay {
    fn drop(&mut self) {
        self.give_way(false);
    }
}

fn set(nice: i32) -> bool {
    // For Linux the calling thread is meant, not its process.
    setpriority_process(None, nice.min(NICE_MAX)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_gives_way_alone_and_comes_back_where_it_may() {
        let usual = getpriority_process(None).unwrap();
        let thread = std::thread::spawn(move || {
            let mut priority = GivingWay::new(10, 5);
            let low = getpriority_process(None).unwrap();
            priority.give_way(true);
            assert_eq!(getpriority_process(None).unwrap(), low);
            priority.give_way(false);
            let raised = getpriority_process(None).unwrap();
            priority.give_way(true);
            let may_rise = priority.may_rise;
            drop(priority);
            assert_eq!(getpriority_process(None).unwrap(), raised);
            (may_rise, low, raised)
        });
        let (may_rise, low, after) = thread.join().unwrap();
        let expected = if may_rise { (usual + 10, usual) } else { (usual + 5, usual + 5) };
        assert_eq!((low, after), (expected.0.min(NICE_MAX), expected.1.min(NICE_MAX)));
        assert_eq!(getpriority_process(None).unwrap(), usual);
    }
}
