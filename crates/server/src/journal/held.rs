//! Replies that wait for the log, between the workers that hold them and the thread that writes.
//!
//! Invariant: a worker that was told to hold a reply is told when the number is reached. It says that it waits before it looks
//! again, and the writer moves the number before it looks whether anybody does. Checked by a loom model.

#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering::Acquire, Ordering::SeqCst};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Acquire, Ordering::SeqCst};

/// Up to which number replies may go out, and whether anybody waits for more.
#[derive(Debug, Default)]
pub struct Held {
    released: AtomicU64,
    is_awaited: AtomicBool,
}

impl Held {
    /// Whether a reply behind this number is not to go out yet, as far as can be seen without saying anything.
    #[inline]
    pub fn holds(&self, number: u64) -> bool {
        number > self.released.load(Acquire)
    }

    /// The same, for a worker that waits for the writer's word then.
    pub fn holds_and_waits(&self, number: u64) -> bool {
        // A swap as the writer's: whichever of the two comes later sees what the other's thread did before.
        self.is_awaited.swap(true, SeqCst);
        number > self.released.load(SeqCst)
    }

    /// Lets replies go up to this number. [`Held::must_tell`] is to be asked behind it.
    pub fn release(&self, number: u64) {
        self.released.store(number, SeqCst);
    }

    /// Whether workers are to be woken: one has waited since this was asked last.
    pub fn must_tell(&self) -> bool {
        self.is_awaited.swap(false, SeqCst)
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::Held;
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicU64, Ordering::SeqCst};
    use loom::thread;

    #[test]
    fn no_reply_is_held_without_a_word_when_it_may_go() {
        loom::model(|| {
            let held = Arc::new(Held::default());
            let told = Arc::new(AtomicU64::new(0));
            let workers: Vec<_> = [1, 2]
                .map(|number| {
                    let (held, told) = (Arc::clone(&held), Arc::clone(&told));
                    thread::spawn(move || {
                        // How often everybody had been woken before it looked.
                        let before = told.load(SeqCst);
                        held.holds_and_waits(number).then_some((number, before))
                    })
                })
                .into_iter()
                .collect();
            for number in [1, 2] {
                held.release(number);
                if held.must_tell() {
                    told.fetch_add(1, SeqCst);
                }
            }
            for worker in workers {
                if let Some((number, before)) = worker.join().unwrap() {
                    assert!(told.load(SeqCst) > before, "the reply behind {number} waits for ever");
                }
            }
        });
    }
}
