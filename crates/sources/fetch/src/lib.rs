//! Asking a store with care: so many at once, for so long, again after a failure in passing, and not at all for a while where
//! it fails again and again.
//!
//! A [`Source`] is a driver with these manners. It is asked on a runtime that is not the workers'; a call that is dropped gives its place
//! back.

#![forbid(unsafe_code)]

use larder_source::{
    Answer, Asking, Breaker, Checked, Driver, Failure, FailureKind, Parameter, Purpose, Request, Rows,
    SourceSpec, Template,
};
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep, timeout};

/// The pause before the first retry; it doubles with each.
const BACK_OFF_FIRST: Duration = Duration::from_millis(25);

/// A store that is asked with care.
pub struct Source {
    /// What its line says.
    pub spec: Arc<SourceSpec>,
    driver: Arc<dyn Driver>,
    places: Semaphore,
    waiting: AtomicUsize,
    breaker: Mutex<Breaker>,
    is_paused: AtomicBool,
    since: Instant,
    /// What is counted of it.
    pub counts: Counts,
}

/// Counters of a source.
#[derive(Debug, Default)]
pub struct Counts {
    /// Questions asked of the store, those asked again included.
    pub asked: AtomicU64,
    /// Of them, those that failed in passing.
    pub failed: AtomicU64,
    /// Of them, those asked again.
    pub retried: AtomicU64,
    /// Questions whose time was over.
    pub timed_out: AtomicU64,
    /// Questions that were not asked: too many wait, the store fails, or it is paused.
    pub refused: AtomicU64,
}

/// Why a store gave no answer, as clients are told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FetchError {
    /// It cannot be reached, is left alone, or is asked too much.
    Down(String),
    /// Its time was over.
    TimedOut(String),
    /// It refused, or what it answered cannot be held.
    Failed(String),
}

impl FetchError {
    /// The error reply, from its code on.
    pub fn reply(&self) -> String {
        match self {
            FetchError::Down(text) => format!("SOURCEDOWN {text}"),
            FetchError::TimedOut(text) => format!("LOADTIMEOUT {text}"),
            FetchError::Failed(text) => format!("LOADFAIL {text}"),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Source").field("name", &self.spec.name).finish_non_exhaustive()
    }
}

impl Source {
    /// A source of this line, reached by this driver.
    pub fn new(spec: Arc<SourceSpec>, driver: Arc<dyn Driver>) -> Source {
        Source {
            places: Semaphore::new(spec.connections),
            breaker: Mutex::new(Breaker::new(spec.breaker)),
            waiting: AtomicUsize::new(0),
            is_paused: AtomicBool::new(false),
            since: Instant::now(),
            counts: Counts::default(),
            driver,
            spec,
        }
    }

    /// The driver, for what needs no manners.
    pub fn driver(&self) -> &Arc<dyn Driver> {
        &self.driver
    }

    /// Asks nothing of the store until [`Source::resume`].
    pub fn pause(&self) {
        self.is_paused.store(true, Relaxed);
    }

    /// Asks again, as if nothing had failed before.
    pub fn resume(&self) {
        self.is_paused.store(false, Relaxed);
        self.breaker().succeeded();
    }

    /// A word for its state: paused, or the breaker's.
    pub fn state(&self) -> &'static str {
        if self.is_paused.load(Relaxed) { "paused" } else { self.breaker().name() }
    }

    /// Questions under way, and those that wait for a place.
    pub fn load(&self) -> (usize, usize) {
        (self.spec.connections - self.places.available_permits(), self.waiting.load(Relaxed))
    }

    /// Connects and asks who the store is.
    ///
    /// # Errors
    /// As [`Source::fetch`].
    pub async fn probe(&self) -> Result<String, FetchError> {
        self.within(self.spec.timeout, || self.driver.probe()).await
    }

    /// Has the store check a statement. Tells apart where it was not asked: then what is wrong is not known.
    ///
    /// # Errors
    /// As [`Source::fetch`].
    pub async fn check(&self, statement: &Template, purpose: Purpose) -> Result<Checked, FetchError> {
        self.within(self.spec.timeout, || self.driver.check(statement, purpose)).await
    }

    /// Asks the store. `limit`: how long it may take at most, where that is not the source's time-out.
    ///
    /// # Errors
    /// The store was not asked, gave no answer in time, or refused.
    pub async fn fetch(&self, request: Request<'_>, limit: Option<Duration>) -> Result<Answer, FetchError> {
        self.within(limit.unwrap_or(self.spec.timeout), || self.driver.load(request.clone())).await
    }

    /// Asks the store for more than can be held; `more` is given it in pieces, and answers false to end it. It takes as long as it takes.
    ///
    /// # Errors
    /// As [`Source::fetch`]; pieces may have been given before.
    pub async fn stream(
        &self,
        request: Request<'_>,
        more: &mut (dyn FnMut(Rows) -> bool + Send),
    ) -> Result<(), FetchError> {
        let _place = self.place().await?;
        self.ask_breaker()?;
        self.counts.asked.fetch_add(1, Relaxed);
        self.judge(self.driver.stream(request, more).await)
    }

    /// Has the store change, all or nothing. Is not tried again: it may have been done.
    ///
    /// # Errors
    /// As [`Source::fetch`]; after a time-out it is not known whether the store has it.
    pub async fn write(&self, statements: &[(&Template, Vec<Parameter>)]) -> Result<Vec<u64>, FetchError> {
        self.once(|| self.driver.write(statements)).await
    }

    /// The same for writes that are to be done in order: see [`Driver::write_in_order`].
    ///
    /// # Errors
    /// As [`Source::write`].
    pub async fn write_in_order(
        &self,
        number: u64,
        statements: &[(&Template, Vec<Parameter>)],
    ) -> Result<Vec<u64>, FetchError> {
        self.once(|| self.driver.write_in_order(number, statements)).await
    }

    async fn once<'a, T>(
        &'a self,
        ask: impl FnOnce() -> larder_source::Work<'a, T>,
    ) -> Result<T, FetchError> {
        let work = async {
            let _place = self.place().await?;
            self.ask_breaker()?;
            self.counts.asked.fetch_add(1, Relaxed);
            self.judge(ask().await)
        };
        self.in_time(self.spec.timeout, work).await
    }

    async fn within<'a, T>(
        &'a self,
        limit: Duration,
        ask: impl Fn() -> larder_source::Work<'a, T>,
    ) -> Result<T, FetchError> {
        self.in_time(limit, async {
            let _place = self.place().await?;
            let mut pause = BACK_OFF_FIRST;
            for attempt in 0.. {
                self.ask_breaker()?;
                self.counts.asked.fetch_add(1, Relaxed);
                let answer = ask().await;
                let is_passing = answer.as_ref().is_err_and(Failure::is_passing);
                let answer = self.judge(answer);
                if !is_passing || attempt >= self.spec.retries {
                    return answer;
                }
                self.counts.retried.fetch_add(1, Relaxed);
                sleep(pause).await;
                pause *= 2;
            }
            Err(FetchError::Down(self.say("it was asked too often")))
        })
        .await
    }

    async fn in_time<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, FetchError>>,
    ) -> Result<T, FetchError> {
        match timeout(limit, work).await {
            Ok(answer) => answer,
            Err(_) => {
                self.counts.timed_out.fetch_add(1, Relaxed);
                self.breaker().failed(self.millis());
                Err(FetchError::TimedOut(
                    self.say(&format!("it did not answer within {} ms", limit.as_millis())),
                ))
            }
        }
    }

    /// Waits for a place among those who ask, unless too many wait.
    async fn place(&self) -> Result<SemaphorePermit<'_>, FetchError> {
        if let Ok(place) = self.places.try_acquire() {
            return Ok(place);
        }
        let waiting = Waiting(&self.waiting);
        if self.waiting.fetch_add(1, Relaxed) >= self.spec.queue {
            return Err(self.refuse(&format!("{} loads wait for it already", self.spec.queue)));
        }
        let place = self.places.acquire().await;
        drop(waiting);
        place.map_err(|_| self.refuse("it is closed"))
    }

    fn ask_breaker(&self) -> Result<(), FetchError> {
        if self.is_paused.load(Relaxed) {
            return Err(self.refuse("it is paused; CACHE SOURCE RESUME ends that"));
        }
        match self.breaker().ask(self.millis()) {
            Asking::Yes | Asking::Try => Ok(()),
            Asking::No(pause) => {
                let text = format!(
                    "it failed {} times or more in a row, and is asked again in {} ms",
                    self.spec.breaker,
                    pause.as_millis()
                );
                Err(self.refuse(&text))
            }
        }
    }

    /// Notes what an answer says of the store's health, and puts a failure in words for clients.
    fn judge<T>(&self, answer: Result<T, Failure>) -> Result<T, FetchError> {
        let failure = match answer {
            Ok(answer) => {
                self.breaker().succeeded();
                return Ok(answer);
            }
            Err(failure) => failure,
        };
        let place = failure.position.map_or_else(String::new, |position| format!(" (at byte {position})"));
        let text = self.say(&format!("{}{place}", failure.text));
        if failure.kind == FailureKind::Unreachable {
            self.counts.failed.fetch_add(1, Relaxed);
            self.breaker().failed(self.millis());
            return Err(FetchError::Down(text));
        }
        // It is there, whatever it says.
        self.breaker().succeeded();
        if failure.kind == FailureKind::Busy {
            self.counts.failed.fetch_add(1, Relaxed);
            return Err(FetchError::Down(text));
        }
        Err(FetchError::Failed(text))
    }

    fn refuse(&self, text: &str) -> FetchError {
        self.counts.refused.fetch_add(1, Relaxed);
        FetchError::Down(self.say(text))
    }

    fn say(&self, text: &str) -> String {
        format!("source '{}': {text}", self.spec.name)
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn breaker(&self) -> std::sync::MutexGuard<'_, Breaker> {
        // It is whole between any two of its methods.
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What `work` comes to, unless it takes longer than `limit`. Work that is borrowed goes on when it is asked again.
pub async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    timeout(limit, work).await.ok()
}

/// Does what blocks this thread, on a runtime of several, whose other work goes on elsewhere meanwhile.
pub fn blocking<T>(work: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(work)
}

/// Waits.
pub async fn pause(time: Duration) {
    sleep(time).await;
}

/// What is waited for once: it opens, and stays open.
#[derive(Debug)]
pub struct Latch(Semaphore);

impl Default for Latch {
    fn default() -> Latch {
        Latch(Semaphore::new(0))
    }
}

impl Latch {
    /// Lets everybody through, from now on.
    pub fn open(&self) {
        self.0.close();
    }

    /// Whether it is open.
    pub fn is_open(&self) -> bool {
        self.0.is_closed()
    }

    /// Waits until it is open.
    pub async fn opened(&self) {
        // Nobody gives permits: this ends when it is closed, which is how it opens.
        drop(self.0.acquire().await);
    }

    /// What `work` comes to, unless this opens first.
    pub async fn unless<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.opened() => None,
            done = work => Some(done),
        }
    }
}

/// One who waits for a place; gone, it does not.
struct Waiting<'s>(&'s AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_source::{Feed, Language, Limits, Work};

    /// A store that fails as often as it is told, and takes its time.
    struct Fake {
        failures: Mutex<Vec<FailureKind>>,
        takes: Duration,
        asked: AtomicU64,
    }

    impl Driver for Fake {
        fn probe(&self) -> Work<'_, String> {
            Box::pin(async { Ok("Fake 1".to_owned()) })
        }
        fn check<'a>(&'a self, _: &'a Template, _: Purpose) -> Work<'a, Checked> {
            Box::pin(async { Ok(Checked::default()) })
        }
        fn load<'a>(&'a self, _: Request<'a>) -> Work<'a, Answer> {
            Box::pin(async {
                self.asked.fetch_add(1, Relaxed);
                sleep(self.takes).await;
                match self.failures.lock().unwrap().pop() {
                    Some(kind) => Err(Failure::new(kind, "no")),
                    None => Ok(Answer::Rows { rows: Rows::default(), fresh_ms: None, validator: None }),
                }
            })
        }
        fn write<'a>(&'a self, _: &'a [(&'a Template, Vec<Parameter>)]) -> Work<'a, Vec<u64>> {
            Box::pin(async { Err(Failure::new(FailureKind::Unreachable, "gone")) })
        }
        fn stream<'a>(&'a self, _: Request<'a>, _: &'a mut (dyn FnMut(Rows) -> bool + Send)) -> Work<'a, ()> {
            Box::pin(async { Ok(()) })
        }
        fn feed(&self) -> Option<&dyn Feed> {
            None
        }
    }

    fn source(options: &[&str], failures: &[FailureKind], takes: u64) -> (Source, Arc<Fake>) {
        let words: Vec<String> =
            ["s", "fake:x"].iter().chain(options).map(|word| (*word).to_owned()).collect();
        let fake = Arc::new(Fake {
            failures: Mutex::new(failures.to_vec()),
            takes: Duration::from_millis(takes),
            asked: AtomicU64::new(0),
        });
        let spec = SourceSpec::parse(&words).expect("a source");
        (Source::new(Arc::new(spec), Arc::clone(&fake) as _), fake)
    }

    async fn ask(source: &Source) -> Result<Answer, FetchError> {
        let statement = Template::parse("q", Language::Plain).expect("a statement");
        let limits = Limits { rows: 1, bytes: 1 };
        source.fetch(Request { statement: &statement, parameters: &[], validator: None, limits }, None).await
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_in_passing_is_asked_again() {
        let (source, fake) = source(&["retries", "2"], &[FailureKind::Unreachable, FailureKind::Busy], 1);
        assert!(ask(&source).await.is_ok());
        assert_eq!(fake.asked.load(Relaxed), 3);
        let (source, fake) = self::source(&["retries", "2"], &[FailureKind::Refused], 1);
        assert!(matches!(ask(&source).await, Err(FetchError::Failed(text)) if text == "source 's': no"));
        assert_eq!(fake.asked.load(Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_down_is_left_alone() {
        let down = [FailureKind::Unreachable; 3];
        let (source, fake) = source(&["retries", "0", "breaker", "2"], &down, 1);
        assert!(ask(&source).await.is_err() && ask(&source).await.is_err());
        assert_eq!((source.state(), fake.asked.load(Relaxed)), ("open", 2));
        assert!(ask(&source).await.unwrap_err().reply().starts_with("SOURCEDOWN source 's': it failed 2"));
        assert_eq!(fake.asked.load(Relaxed), 2);
        sleep(Duration::from_secs(1)).await;
        assert!(ask(&source).await.is_err());
        sleep(Duration::from_secs(2)).await;
        assert!(ask(&source).await.is_ok());
        assert_eq!(source.state(), "closed");
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_ask_and_so_many_wait() {
        let (source, fake) = source(&["connections", "2", "queue", "1"], &[], 100);
        let source = Arc::new(source);
        let asks: Vec<_> = (0..4)
            .map(|_| {
                let source = Arc::clone(&source);
                tokio::spawn(async move { ask(&source).await })
            })
            .collect();
        sleep(Duration::from_millis(50)).await;
        assert_eq!((source.load(), fake.asked.load(Relaxed)), ((2, 1), 2));
        let mut answered = 0;
        for asked in asks {
            answered += usize::from(asked.await.expect("no panic").is_ok());
        }
        assert_eq!((answered, source.counts.refused.load(Relaxed), source.load()), (3, 1, (0, 0)));
    }

    #[tokio::test(start_paused = true)]
    async fn time_is_limited_waiting_included() {
        let (source, _) = source(&["timeout", "150ms", "connections", "1"], &[], 100);
        let source = Arc::new(source);
        let first = Arc::clone(&source);
        let first = tokio::spawn(async move { ask(&first).await });
        tokio::task::yield_now().await;
        let second = ask(&source).await.unwrap_err();
        assert_eq!(second.reply(), "LOADTIMEOUT source 's': it did not answer within 150 ms");
        assert!(first.await.expect("no panic").is_ok());
        assert_eq!(source.load(), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_is_not_tried_again() {
        let (source, _) = source(&["retries", "5"], &[], 1);
        let error = source.write(&[]).await.unwrap_err();
        assert_eq!(
            (error.reply(), source.counts.asked.load(Relaxed)),
            ("SOURCEDOWN source 's': gone".into(), 1)
        );
        source.pause();
        assert!(source.write(&[]).await.unwrap_err().reply().contains("paused"));
        source.resume();
        assert_eq!(source.state(), "closed");
    }
}
