//! Queries of many keys, one after the other.
//!
//! SQLite works on the processors that keep what it answers. Of several queries each would have a share of them, and all would end
//! together at the end; one after the other, what the first brought is kept while the next one runs. A thread that is done with one
//! goes on with the next, over the connection that has the file's pages at hand, and nobody is woken in between.
//! Invariant: work in the queue is taken by a thread that is under way, or by one that its sender starts when it has waited too long.

use larder_source::Failure;
use larder_source_net::{Runtime, unreachable};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

type Job = Box<dyn FnOnce() + Send>;

/// A queue of work, and so many threads at once that do it.
pub struct Lane(Arc<Mutex<Queue>>);

struct Queue {
    jobs: VecDeque<Job>,
    /// Threads that may yet be started.
    free: usize,
}

/// A thread that does what is in the queue. Its place is free again once it has found nothing there, or work panicked.
struct Mover {
    queue: Arc<Mutex<Queue>>,
    has_place: bool,
}

impl Lane {
    /// Such a queue, with so many threads.
    pub fn new(threads: usize) -> Lane {
        Lane(Arc::new(Mutex::new(Queue { jobs: VecDeque::new(), free: threads })))
    }

    /// Does work behind what came before, or beside it where that takes longer than `patience`: a query that takes long holds
    /// nobody up. What nobody waits for any more is not begun.
    pub async fn run<T: Send + 'static>(
        &self,
        runtime: Runtime,
        patience: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let (done, mut answer) = oneshot::channel();
        let job = move || {
            if !done.is_closed() {
                // It may have been given up on meanwhile.
                _ = done.send(work());
            }
        };
        let mover = {
            let mut queue = lock(&self.0);
            queue.jobs.push_back(Box::new(job));
            queue.free.checked_sub(1).map(|free| {
                queue.free = free;
                Mover { queue: Arc::clone(&self.0), has_place: true }
            })
        };
        if let Some(mover) = mover {
            runtime.spawn_blocking(|| mover.work());
        }
        let answer = match timeout(patience, &mut answer).await {
            Ok(answer) => answer,
            Err(_) => {
                self.go_beside(runtime);
                answer.await
            }
        };
        answer.map_err(|_| unreachable("SQLite: a query ended before its time"))
    }

    /// Starts another thread for the first in the queue, if there is any.
    fn go_beside(&self, runtime: Runtime) {
        if let Some(job) = lock(&self.0).jobs.pop_front() {
            runtime.spawn_blocking(job);
        }
    }
}

impl Mover {
    fn work(mut self) {
        while let Some(job) = self.next() {
            job();
        }
    }

    /// The next in the queue. Where there is none the place is given back under the same lock, so that who comes sees it free.
    fn next(&mut self) -> Option<Job> {
        let queue = &mut *lock(&self.queue);
        let job = queue.jobs.pop_front();
        if job.is_none() {
            self.has_place = false;
            queue.free += 1;
        }
        job
    }
}

impl Drop for Mover {
    fn drop(&mut self) {
        if self.has_place {
            lock(&self.queue).free += 1;
        }
    }
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    // It is whole between any two of its statements.
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const LONG: Duration = Duration::from_secs(600);

    /// Runs a piece of work in the lane; what it came to arrives here.
    fn start<T: Send + 'static>(
        lane: &Arc<Lane>,
        patience: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> mpsc::Receiver<Result<T, Failure>> {
        let runtime = Runtime::get().expect("threads");
        let (to, arrived) = mpsc::channel();
        let lane = Arc::clone(lane);
        runtime.spawn(async move { to.send(lane.run(runtime, patience, work).await) });
        arrived
    }

    #[test]
    fn work_is_done_in_order_by_one_thread() {
        let lane = Arc::new(Lane::new(1));
        let (go, gate) = mpsc::channel::<()>();
        let (begin, begun) = mpsc::channel();
        let first = start(&lane, LONG, move || {
            begin.send(()).expect("somebody listens");
            gate.recv().expect("somebody sends");
            std::thread::current().id()
        });
        begun.recv().expect("it begins");
        let second = start(&lane, LONG, || std::thread::current().id());
        while lock(&lane.0).jobs.is_empty() {
            std::thread::yield_now();
        }
        go.send(()).expect("it waits for this");
        let first = first.recv().expect("an end").expect("an answer");
        assert_eq!(second.recv().expect("an end").expect("an answer"), first);
    }

    #[test]
    fn work_goes_beside_what_takes_long_and_after_what_panicked() {
        let lane = Arc::new(Lane::new(1));
        let (go, gate) = mpsc::channel::<()>();
        let long = start(&lane, LONG, move || gate.recv().is_ok());
        let second = start(&lane, Duration::from_millis(1), || 2);
        assert_eq!(second.recv_timeout(LONG).expect("an end"), Ok(2));
        go.send(()).expect("it waits for this");
        assert_eq!(long.recv().expect("an end"), Ok(true));
        let broken = start(&lane, LONG, || panic!("as a test wants it"));
        assert!(broken.recv().expect("an end").is_err());
        // Also where the thread that panicked has its place still.
        let after = start(&lane, Duration::from_millis(1), || 3);
        assert_eq!(after.recv().expect("an end"), Ok(3));
    }
}
