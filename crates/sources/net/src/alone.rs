//! Being the only session of a store that writes under a number.
//!
//! A store goes on with what it was sent after its client was killed, gave up, or lost its connection. Whoever sends the same or
//! newer writes then over another session could be overtaken by the older ones. So a session that writes in order holds a lock of
//! the store's that lasts as long as the session: once the next one has it, the earlier session is over, and all that was sent
//! over it is done or never will be.
//!
//! Invariant: no two who are alive write under one number, so ending the session that has it harms nobody: what it was sent and
//! did not do is sent again.

use crate::{Failure, FailureKind};
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long an earlier session may take to end by itself. It does once it has done what it was sent; not if it
/// waits for more over a connection that is gone, which it may take hours to notice.
const GRACE: Duration = Duration::from_secs(1);
/// How long it may take to end when it was told to, before somebody else is given the time.
const ENDING: Duration = Duration::from_secs(1);
/// How soon it is looked again whether it has ended; the pause doubles up to the other.
const PAUSE_FIRST: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// A session that can be the only one.
pub trait Exclusive: Send {
    /// Becomes the one under this number, unless another is. Waits for nobody.
    fn claim(&mut self, number: u64) -> impl Future<Output = Result<Claim, Failure>> + Send;

    /// Has the store end the one that is, and undo what it has not done.
    fn end_other(&mut self, number: u64) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// What came of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Claim {
    /// This session is the one.
    Ours,
    /// Another is.
    Others,
    /// Nobody can be here: why.
    Impossible(String),
}

/// One who writes under a number, over one session after the other.
#[derive(Debug, Default)]
pub struct Alone {
    /// Since when an earlier session is waited for.
    since: Mutex<Option<Instant>>,
    /// It was told that this cannot be had here; that the earlier session is ended.
    is_warned: AtomicBool,
    is_ending_told: AtomicBool,
}

impl Alone {
    /// Waits until a session is the only one under the number. `who` is told in the log.
    ///
    /// # Errors
    /// An earlier session does not end, or what the store says.
    pub async fn become_only<S: Exclusive>(
        &self,
        session: &mut S,
        number: u64,
        who: &str,
    ) -> Result<(), Failure> {
        let mut pause = PAUSE_FIRST;
        let mut told_to_end: Option<Instant> = None;
        loop {
            match session.claim(number).await? {
                Claim::Ours => {
                    *self.since.lock().unwrap_or_else(PoisonError::into_inner) = None;
                    self.is_ending_told.store(false, Relaxed);
                    return Ok(());
                }
                Claim::Others => {}
                Claim::Impossible(why) => {
                    if !self.is_warned.swap(true, Relaxed) {
                        tracing::warn!(
                            "{who}: after a kill or a lost connection a queued write may reach the store behind a newer one: {why}"
                        );
                    }
                    return Ok(());
                }
            }
            let waited = self.since(who).elapsed();
            match told_to_end {
                None if waited >= GRACE => {
                    let done = session.end_other(number).await;
                    if !self.is_ending_told.swap(true, Relaxed) {
                        let how = done
                            .as_ref()
                            .map_or_else(|failure| format!("cannot be: {failure}"), |()| "was".to_owned());
                        tracing::warn!(
                            "{who}: the earlier session that wrote behind does not end; it is to be ended, and {how}"
                        );
                    }
                    done.map_err(not_yet)?;
                    told_to_end = Some(Instant::now());
                    pause = PAUSE_FIRST;
                }
                Some(at) if at.elapsed() >= ENDING => {
                    let what = "the session that wrote behind before has not ended, and may still change what it was sent";
                    return Err(Failure::new(FailureKind::Busy, what));
                }
                _ => {}
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Since when somebody is waited for: also by those who waited before and gave up.
    fn since(&self, who: &str) -> Instant {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        *since.get_or_insert_with(|| {
            tracing::info!("{who}: waits until the earlier session that wrote behind is over");
            Instant::now()
        })
    }
}

/// The writes themselves are not refused.
fn not_yet(failure: Failure) -> Failure {
    let text = format!("the session that wrote behind before cannot be ended: {failure}");
    if failure.is_passing() { failure } else { Failure::new(FailureKind::Busy, text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store where another session is the one, for so many claims after it was told to end.
    struct Fake {
        left: u32,
        is_ending: bool,
        told_to_end: u32,
        may_end: bool,
    }

    impl Exclusive for Fake {
        async fn claim(&mut self, _: u64) -> Result<Claim, Failure> {
            if self.is_ending {
                self.left = self.left.saturating_sub(1);
            }
            Ok(if self.left == 0 { Claim::Ours } else { Claim::Others })
        }

        async fn end_other(&mut self, _: u64) -> Result<(), Failure> {
            self.told_to_end += 1;
            if !self.may_end {
                return Err(Failure::new(FailureKind::Refused, "no"));
            }
            self.is_ending = true;
            Ok(())
        }
    }

    async fn outcome(alone: &Alone, fake: &mut Fake) -> (Result<(), FailureKind>, Duration) {
        let begun = Instant::now();
        let done = alone.become_only(fake, 1, "it").await;
        (done.map_err(|failure| failure.kind), begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn another_session_is_waited_for_and_ended_after_its_time() {
        let alone = Alone::default();
        let mut fake = Fake { left: 0, is_ending: false, told_to_end: 0, may_end: true };
        assert_eq!(outcome(&alone, &mut fake).await, (Ok(()), Duration::ZERO));
        fake.left = 3;
        let (done, waited) = outcome(&alone, &mut fake).await;
        assert!(done.is_ok() && fake.told_to_end == 1 && waited >= GRACE && waited < GRACE + ENDING);
        // One that ends too late: the next attempt need not wait again.
        fake = Fake { left: u32::MAX, is_ending: false, told_to_end: 0, may_end: true };
        assert_eq!(outcome(&alone, &mut fake).await.0, Err(FailureKind::Busy));
        let (done, waited) = outcome(&alone, &mut fake).await;
        assert!(done.is_err() && fake.told_to_end == 2 && waited < ENDING + PAUSE_MAX);
        // One that may not be ended is waited for; no write is refused for it.
        fake.may_end = false;
        assert_eq!(outcome(&alone, &mut fake).await.0, Err(FailureKind::Busy));
    }
}
