//! How a thread tells a worker something: a lock-free queue and one wake-up per batch.
//!
//! Invariant: a message pushed before the worker went to sleep, or while it sleeps, wakes it. The
//! sender raises `awake_asked` after its push and wakes only when it was down; the worker lowers it
//! before it empties the queue. Checked by a loom model.

#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, Ordering::SeqCst};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// Whether a wake-up is under way. Apart from the queue, so that the protocol can be modelled.
#[derive(Debug)]
pub struct WakeFlag {
    asked: AtomicBool,
}

impl WakeFlag {
    /// No wake-up is under way.
    pub fn new() -> Self {
        WakeFlag { asked: AtomicBool::new(false) }
    }

    /// After a push: whether this sender must wake the receiver.
    pub fn must_wake(&self) -> bool {
        !self.asked.swap(true, SeqCst)
    }

    /// Before the receiver empties the queue: later senders wake again.
    pub fn lower(&self) {
        self.asked.store(false, SeqCst);
    }
}

#[cfg(not(loom))]
pub use queue::Mailbox;

#[cfg(not(loom))]
mod queue {
    use super::WakeFlag;
    use crate::io::Waker;
    use crossbeam_queue::SegQueue;

    /// Messages for one worker.
    #[derive(Debug)]
    pub struct Mailbox<M> {
        queue: SegQueue<M>,
        flag: WakeFlag,
        waker: Waker,
    }

    impl<M> Mailbox<M> {
        /// An empty mailbox whose worker sleeps in the poller of `waker`.
        pub fn new(waker: Waker) -> Self {
            Mailbox { queue: SegQueue::new(), flag: WakeFlag::new(), waker }
        }

        /// Leaves a message. Never blocks.
        pub fn send(&self, message: M) {
            self.leave(message);
            self.wake();
        }

        /// Leaves a message for a worker that looks into its mailbox by itself before it sleeps, or that
        /// is woken right after this.
        pub fn leave(&self, message: M) {
            self.queue.push(message);
        }

        /// Wakes the worker, unless somebody does.
        pub fn wake(&self) {
            if self.flag.must_wake() {
                self.waker.wake();
            }
        }

        /// Leaves a message; a receiver that sends to itself looks before it sleeps and needs no waking.
        pub fn send_from(&self, message: M, is_own: bool) {
            if is_own {
                self.queue.push(message);
            } else {
                self.send(message);
            }
        }

        /// Tells that the receiver is about to empty the mailbox.
        pub fn open(&self) {
            self.flag.lower();
        }

        /// The next message.
        pub fn take(&self) -> Option<M> {
            self.queue.pop()
        }

        /// How many messages wait.
        pub fn len(&self) -> usize {
            self.queue.len()
        }

        /// Whether no message waits.
        pub fn is_empty(&self) -> bool {
            self.queue.is_empty()
        }
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::WakeFlag;
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use loom::thread;

    #[test]
    fn no_message_is_left_without_a_wake_up() {
        loom::model(|| {
            let flag = Arc::new(WakeFlag::new());
            let (queued, woken) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let senders: Vec<_> = (0..2)
                .map(|_| {
                    let (flag, queued, woken) = (Arc::clone(&flag), Arc::clone(&queued), Arc::clone(&woken));
                    thread::spawn(move || {
                        queued.fetch_add(1, SeqCst);
                        if flag.must_wake() {
                            woken.fetch_add(1, SeqCst);
                        }
                    })
                })
                .collect();
            // The receiver empties the queue once while the senders run.
            let wakes_before = woken.load(SeqCst);
            flag.lower();
            let taken = queued.swap(0, SeqCst);
            for sender in senders {
                sender.join().unwrap();
            }
            // What it did not take has raised a wake-up that it has not yet answered.
            if queued.load(SeqCst) > 0 {
                assert!(woken.load(SeqCst) > wakes_before, "taken {taken}");
            }
        });
    }
}
