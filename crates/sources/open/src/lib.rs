//! The stores that Larder can fetch from, by the scheme of their URLs, and the runtime on which they are asked.

#![forbid(unsafe_code)]

use larder_source::{Driver, Failure, FailureKind, SourceSpec};
use std::sync::Arc;

/// Threads that wait for stores; drivers that block have threads of their own.
const THREADS: usize = 2;

/// The runtime on which stores are asked, apart from the workers.
#[derive(Debug)]
pub struct Runtime(tokio::runtime::Runtime);

impl Runtime {
    /// Starts its threads.
    ///
    /// # Errors
    /// The system gives none.
    pub fn start() -> std::io::Result<Runtime> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(THREADS).thread_name("larder-source").enable_all();
        Ok(Runtime(builder.build()?))
    }

    /// Has work done.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        drop(self.0.spawn(work));
    }

    /// Waits for work. Not on a worker, nor on the runtime itself.
    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.0.block_on(work)
    }
}

/// A driver for a source.
///
/// # Errors
/// There is no driver for the URL's scheme, or the URL is wrong.
pub fn open(spec: &SourceSpec) -> Result<Arc<dyn Driver>, Failure> {
    let text = format!("there is no kind of store '{}'", spec.scheme());
    Err(Failure::new(FailureKind::Unsupported, text))
}
