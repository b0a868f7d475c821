//! Readiness by epoll, level-triggered: what was not read this turn is reported again next turn.

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use std::io;
use std::mem::MaybeUninit;
use std::time::Duration;

/// Events taken from the kernel at a time.
const EVENTS: usize = 512;
/// The token of the poller's own wake-up.
const WAKE: u64 = u64::MAX;

/// A socket that has something to tell.
#[derive(Debug, Clone, Copy)]
pub struct Readiness {
    /// The token the socket was added with.
    pub token: u64,
    /// Reading makes progress, be it by finding the end or an error.
    pub readable: bool,
    /// Writing makes progress.
    pub writable: bool,
}

/// Waits for sockets.
#[derive(Debug)]
pub struct Poller {
    epoll: OwnedFd,
    wake: std::sync::Arc<OwnedFd>,
}

impl Poller {
    /// A poller that watches nothing but its own wake-up.
    pub fn new() -> io::Result<Poller> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &wake, EventData::new_u64(WAKE), EventFlags::IN)?;
        Ok(Poller { epoll, wake: std::sync::Arc::new(wake) })
    }

    /// The handle by which another thread ends this poller's wait.
    pub fn waker(&self) -> Waker {
        Waker { wake: std::sync::Arc::clone(&self.wake) }
    }

    /// Watches a socket for bytes to read.
    pub fn add(&self, socket: impl AsFd, token: u64) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, socket, EventData::new_u64(token), EventFlags::IN)?)
    }

    /// Changes what a socket is watched for.
    pub fn set_interest(&self, socket: impl AsFd, token: u64, read: bool, write: bool) -> io::Result<()> {
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, read);
        flags.set(EventFlags::OUT, write);
        Ok(epoll::modify(&self.epoll, socket, EventData::new_u64(token), flags)?)
    }

    /// Watches a socket for nothing but the end of what its peer sends, reported as readable.
    pub fn watch_for_end(&self, socket: impl AsFd, token: u64) -> io::Result<()> {
        Ok(epoll::modify(&self.epoll, socket, EventData::new_u64(token), EventFlags::RDHUP)?)
    }

    /// Stops watching a socket.
    pub fn remove(&self, socket: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, socket)?)
    }

    /// Waits until a socket is ready, somebody wakes us, or the time is over; `None` waits for ever.
    ///
    /// Answers whether we were woken. `ready` is filled with the sockets that are ready.
    pub fn wait(&self, ready: &mut Vec<Readiness>, time: Option<Duration>) -> io::Result<bool> {
        ready.clear();
        let mut events = [MaybeUninit::<Event>::uninit(); EVENTS];
        let time = time.map(|time| Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(time.subsec_nanos()),
        });
        let events = match epoll::wait(&self.epoll, &mut events, time.as_ref()) {
            Ok((events, _)) => events,
            Err(Errno::INTR) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let mut woken = false;
        for event in events {
            let (data, flags) = (event.data, event.flags);
            if data.u64() == WAKE {
                let mut count = [0; 8];
                // A failed read means another wake-up took the count; the wake-up stands.
                let _ = rustix::io::read(&*self.wake, &mut count);
                woken = true;
                continue;
            }
            let ended = flags.intersects(EventFlags::ERR | EventFlags::HUP | EventFlags::RDHUP);
            ready.push(Readiness {
                token: data.u64(),
                readable: ended || flags.contains(EventFlags::IN),
                writable: ended || flags.contains(EventFlags::OUT),
            });
        }
        Ok(woken)
    }
}

/// Ends a poller's wait from another thread.
#[derive(Debug, Clone)]
pub struct Waker {
    wake: std::sync::Arc<OwnedFd>,
}

impl Waker {
    /// Ends the wait under way, or the next one.
    pub fn wake(&self) {
        // Fails only when the count is at its maximum, and then the poller is awake already.
        let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
    }
}
