//! The threads that drivers run on. They are started by the first source, so that a server without one has none.

use crate::unreachable;
use larder_source::Failure;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::task::JoinHandle;

/// The runtime of all sources.
#[derive(Clone, Copy, Debug)]
pub struct Runtime(&'static tokio::runtime::Runtime);

static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();

/// Waiting for stores needs few threads; TLS and decoding need some.
const THREADS: usize = 2;

impl Runtime {
    /// The runtime; started by the first call.
    ///
    /// # Errors
    /// The system gives no threads.
    pub fn get() -> Result<Runtime, Failure> {
        if let Some(runtime) = RUNTIME.get() {
            return Ok(Runtime(runtime));
        }
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = || format!("larder-source-{}", NUMBER.fetch_add(1, Ordering::Relaxed) + 1);
        let built = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name_fn(name)
            .enable_all()
            .build()
            .map_err(|error| unreachable(format!("no threads for sources: {error}")))?;
        // Two first calls at once build two; the later one's is let go without waiting for its threads.
        if let Err(spare) = RUNTIME.set(built) {
            spare.shutdown_background();
        }
        Runtime::get()
    }

    /// Runs a future to its end, whatever becomes of the handle.
    pub fn spawn<F>(self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.0.spawn(future)
    }

    /// Runs what blocks on a thread where it may.
    pub fn spawn_blocking<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        self.0.spawn_blocking(work)
    }

    /// Runs a future on this thread and waits for it. For tests and tools; never for a worker.
    pub fn block_on<F: Future>(self, future: F) -> F::Output {
        self.0.block_on(future)
    }
}
