//! Frees large values (after UNLINK and where the lazyfree options say so) and whole databases on a
//! thread of its own, so that no worker stalls for the size of what it removed.

use crate::process;
use larder_store::Garbage;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Sender, channel};

/// Entries freed between two looks at the clock of others: a slice of a database.
const SLICE: usize = 4096;

enum Work {
    Free(Vec<Garbage>),
    /// Everything sent before has been freed: tell.
    Then(Box<dyn FnOnce() + Send>),
}

/// The background thread that frees.
pub struct Reaper {
    work: parking_lot::Mutex<Sender<Work>>,
    pending: Arc<Pending>,
}

/// What was handed over and is not freed yet.
#[derive(Debug, Default)]
struct Pending {
    objects: AtomicUsize,
    /// Bytes of single values.
    value_bytes: AtomicUsize,
}

impl Reaper {
    /// Starts the thread, on these cores (`process::pin`).
    ///
    /// # Panics
    /// When the system gives no thread: the server cannot run then.
    pub fn start(cores: &[u8]) -> Reaper {
        let cores = cores.to_vec();
        let (work, queue) = channel::<Work>();
        let pending = Arc::new(Pending::default());
        let left = Arc::clone(&pending);
        std::thread::Builder::new()
            .name("larder-lazyfree".into())
            .spawn(move || {
                process::pin(&cores);
                for item in queue {
                    match item {
                        Work::Free(garbage) => {
                            for piece in garbage {
                                let (objects, bytes) = (piece.objects(), piece.value_bytes());
                                free(piece);
                                left.objects.fetch_sub(objects, Relaxed);
                                left.value_bytes.fetch_sub(bytes, Relaxed);
                            }
                        }
                        Work::Then(tell) => tell(),
                    }
                }
            })
            .expect("the system gives the server its background thread");
        Reaper { work: parking_lot::Mutex::new(work), pending }
    }

    /// Hands garbage over and answers how many objects it is.
    pub fn free(&self, garbage: Vec<Garbage>) -> usize {
        let objects = garbage.iter().map(Garbage::objects).sum();
        let bytes = garbage.iter().map(Garbage::value_bytes).sum();
        self.pending.objects.fetch_add(objects, Relaxed);
        self.pending.value_bytes.fetch_add(bytes, Relaxed);
        // The thread ends with the process only.
        let _ = self.work.lock().send(Work::Free(garbage));
        objects
    }

    /// Calls `tell` once everything handed over before has been freed.
    pub fn after(&self, tell: impl FnOnce() + Send + 'static) {
        let _ = self.work.lock().send(Work::Then(Box::new(tell)));
    }

    /// Objects handed over and not freed yet.
    pub fn pending(&self) -> usize {
        self.pending.objects.load(Relaxed)
    }

    /// Bytes of single values handed over and not freed yet: memory in use that will not be for long.
    pub fn pending_value_bytes(&self) -> usize {
        self.pending.value_bytes.load(Relaxed)
    }
}

fn free(garbage: Garbage) {
    match garbage {
        Garbage::Object(mut object) | Garbage::Unasked(mut object) => {
            while !object.free_step(SLICE) {
                std::thread::yield_now();
            }
        }
        Garbage::Database(mut contents) => {
            while !contents.free_some(SLICE) {
                std::thread::yield_now();
            }
        }
    }
}
