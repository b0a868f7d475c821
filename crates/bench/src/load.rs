//! The load generator: one thread, one epoll, many connections.
//! Closed loop: a connection sends a batch of `pipeline` requests and the next one when all are answered.
//! Open loop: requests are due at fixed times; a request that must wait for a free connection has its wait counted.
//! Invariant: each reply belongs to the oldest request of its connection, and every request sent is answered,
//! or counted as unanswered. Read next: `schedule.rs`, `reply.rs`.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;

use crate::endpoint::Endpoint;
use crate::outcome::{Latencies, Outcome, SLICE, Slice};
use crate::process;
use crate::reply::{ReplyCounter, Tally};
use crate::schedule::{Arrivals, Schedule};
use crate::template::Protocol;
use crate::workload::Workload;

/// When a run ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stop {
    /// After this many requests.
    Requests(u64),
    /// After this time, which starts when the warm-up is over.
    After(Duration),
}

/// A command sent once, at its time, on a connection of its own.
#[derive(Clone, Debug)]
pub(crate) struct Aside {
    /// Counted from the start of the measured window.
    pub(crate) at: Duration,
    /// The request as it goes over the wire.
    pub(crate) request: Vec<u8>,
}

/// How a load is put on a server; what it asks is the [`Workload`].
#[derive(Clone, Debug)]
pub(crate) struct LoadSpec {
    pub(crate) endpoint: Endpoint,
    pub(crate) protocol: Protocol,
    pub(crate) connections: usize,
    /// Closed loop: the batch. Open loop: the most requests in flight on one connection.
    pub(crate) pipeline: usize,
    pub(crate) stop: Stop,
    pub(crate) warmup: Duration,
    /// `None` is a closed loop.
    pub(crate) arrivals: Option<Arrivals>,
    pub(crate) asides: Vec<Aside>,
    /// Ends the measured window as soon as it is set, whatever `stop` says.
    pub(crate) ended_by: Option<Arc<AtomicBool>>,
}

/// The edges of the measured window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    Begin,
    End,
}

/// Runs the load; `on_mark` is called at both edges of the measured window.
pub(crate) fn run(spec: &LoadSpec, workload: Workload, on_mark: &mut dyn FnMut(Mark)) -> Result<Outcome> {
    let mut load = Load::connect(spec, workload)?;
    // What is due at a time counts from then, also where the load itself was held up.
    let _first = spec.arrivals.is_some().then(process::First::begin);
    load.drive(on_mark)?;
    Ok(load.into_outcome())
}

/// How long unanswered requests are waited for after the window.
const DRAIN: Duration = Duration::from_secs(120);
const READ_BYTES: usize = 256 * 1024;
const EVENTS_MAX: usize = 1024;
/// The aside connection reads no more than this at a time, so that its answer does not delay the measured load.
const ASIDE_READ_BYTES: usize = 64 * 1024;

/// One connection and what is under way on it.
struct Connection {
    socket: OwnedFd,
    replies: ReplyCounter,
    in_flight: usize,
    /// Closed loop: when the batch was sent.
    sent_ns: u64,
    /// Open loop: when the requests in flight were due, oldest first.
    due: VecDeque<(u64, usize)>,
    unsent: Vec<u8>,
    unsent_from: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Warming,
    Measuring,
    Draining,
}

struct Load<'s> {
    spec: &'s LoadSpec,
    workload: Workload,
    epoll: OwnedFd,
    connections: Vec<Connection>,
    aside: Option<Connection>,
    asides_sent: usize,
    asides_answered: u64,
    schedule: Option<Schedule>,
    turn: usize,
    origin: Instant,
    phase: Phase,
    begin_ns: u64,
    end_ns: u64,
    out: Vec<u8>,
    buffer: Vec<u8>,
    tally: Tally,
    tally_before: Tally,
    tally_window: Tally,
    sent_total: u64,
    in_flight_total: u64,
    latencies: Latencies,
    timeline: Vec<Slice>,
    unanswered: u64,
}

impl<'s> Load<'s> {
    fn connect(spec: &'s LoadSpec, workload: Workload) -> Result<Load<'s>> {
        ensure!(
            spec.connections > 0 && spec.pipeline > 0,
            "a load needs a connection and a pipeline of at least 1"
        );
        if let Some(arrivals) = spec.arrivals {
            ensure!(
                arrivals.rate > 0.0 && arrivals.burst > 0,
                "an open loop needs a rate and a burst above 0"
            );
        }
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("epoll_create1")?;
        let mut connections = Vec::with_capacity(spec.connections);
        for index in 0..spec.connections {
            let connection = Connection::open(spec)?;
            epoll::add(&epoll, &connection.socket, EventData::new_u64(index as u64), EventFlags::IN)?;
            connections.push(connection);
        }
        let aside = if spec.asides.is_empty() { None } else { Some(Connection::open(spec)?) };
        if let Some(aside) = &aside {
            epoll::add(&epoll, &aside.socket, EventData::new_u64(spec.connections as u64), EventFlags::IN)?;
        }
        Ok(Load {
            spec,
            workload,
            epoll,
            connections,
            aside,
            asides_sent: 0,
            asides_answered: 0,
            schedule: spec.arrivals.map(Schedule::new),
            turn: 0,
            origin: Instant::now(),
            phase: Phase::Warming,
            begin_ns: 0,
            end_ns: 0,
            out: Vec::with_capacity(64 * 1024),
            buffer: vec![0; READ_BYTES],
            tally: Tally::default(),
            tally_before: Tally::default(),
            tally_window: Tally::default(),
            sent_total: 0,
            in_flight_total: 0,
            latencies: Latencies::new(),
            timeline: Vec::new(),
            unanswered: 0,
        })
    }

    #[inline]
    fn now_ns(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn drive(&mut self, on_mark: &mut dyn FnMut(Mark)) -> Result<()> {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        self.origin = Instant::now();
        self.advance_phase(0, on_mark);
        if self.schedule.is_none() {
            for index in 0..self.connections.len() {
                self.send_batch(index)?;
            }
        }
        while !self.finished() {
            self.wait(&mut events)?;
            for event in &events {
                self.serve(event)?;
            }
            let now = self.now_ns();
            self.advance_phase(now, on_mark);
            self.send_due(now)?;
            self.send_asides(now)?;
        }
        self.give_up_unanswered();
        Ok(())
    }

    fn wait(&self, events: &mut Vec<epoll::Event>) -> Result<()> {
        events.clear();
        // An open loop spins: the wake-up of a sleeping thread would be measured as the server's latency.
        let nanoseconds = if self.schedule.is_some() { 0 } else { 20_000_000 };
        let timeout = rustix::time::Timespec { tv_sec: 0, tv_nsec: nanoseconds };
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(events), Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error).context("epoll_wait"),
        }
    }

    fn serve(&mut self, event: &epoll::Event) -> Result<()> {
        let index = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
        let flags = event.flags;
        if flags.contains(EventFlags::OUT) {
            self.flush(index)?;
        }
        if !flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            return Ok(());
        }
        if index >= self.connections.len() { self.read_aside() } else { self.read(index) }
    }

    fn read(&mut self, index: usize) -> Result<()> {
        let Some(connection) = self.connections.get_mut(index) else { return Ok(()) };
        let Some(bytes) = receive(&connection.socket, &mut self.buffer)? else { return Ok(()) };
        let before = self.tally.replies;
        let arrived = self.buffer.get(..bytes).unwrap_or_default();
        connection.replies.feed(arrived, &mut self.tally)?;
        let answered = self.tally.replies - before;
        if answered == 0 {
            return Ok(());
        }
        let count = usize::try_from(answered).unwrap_or(usize::MAX);
        ensure!(count <= connection.in_flight, "more replies than requests");
        connection.in_flight -= count;
        self.in_flight_total -= answered;
        let now = u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        if self.schedule.is_some() {
            self.record_open(index, count, now);
            return Ok(());
        }
        let (sent_ns, batch_done) = (connection.sent_ns, connection.in_flight == 0);
        if self.phase == Phase::Measuring {
            self.latencies.record(now - sent_ns, answered);
            self.record_slice(now, now - sent_ns, answered);
        }
        if batch_done { self.send_batch(index) } else { Ok(()) }
    }

    /// Matches replies with the times their requests were due.
    fn record_open(&mut self, index: usize, mut count: usize, now: u64) {
        while count > 0 {
            let Some(connection) = self.connections.get_mut(index) else { return };
            let Some(front) = connection.due.front_mut() else { return };
            let due = front.0;
            let part = front.1.min(count);
            front.1 -= part;
            count -= part;
            if front.1 == 0 {
                connection.due.pop_front();
            }
            if self.counts_if_due(due) {
                let latency = now.saturating_sub(due);
                self.latencies.record(latency, part as u64);
                self.record_slice(now, latency, part as u64);
            }
        }
    }

    /// Whether an open-loop request due at `due` belongs to the window.
    fn counts_if_due(&self, due: u64) -> bool {
        self.phase != Phase::Warming && due >= self.begin_ns && (self.end_ns == 0 || due < self.end_ns)
    }

    #[inline]
    fn record_slice(&mut self, now: u64, latency: u64, count: u64) {
        let index = (now.saturating_sub(self.begin_ns) / SLICE.as_nanos() as u64) as usize;
        if index >= self.timeline.len() {
            self.timeline.resize(index + 1, Slice::default());
        }
        if let Some(slice) = self.timeline.get_mut(index) {
            slice.requests += count;
            slice.latency_ns_max = slice.latency_ns_max.max(latency);
        }
    }

    /// How many of `wanted` requests may still be sent.
    fn allowed(&self, wanted: usize) -> usize {
        match self.spec.stop {
            Stop::Requests(total) => {
                let left = total.saturating_sub(self.sent_total);
                wanted.min(usize::try_from(left).unwrap_or(usize::MAX))
            }
            Stop::After(_) if self.phase == Phase::Draining => 0,
            Stop::After(_) => wanted,
        }
    }

    fn send_batch(&mut self, index: usize) -> Result<()> {
        let count = self.allowed(self.spec.pipeline);
        if count == 0 {
            return Ok(());
        }
        self.render(count);
        let now = self.now_ns();
        if let Some(connection) = self.connections.get_mut(index) {
            connection.sent_ns = now;
        }
        self.send_rendered(index, count)
    }

    fn render(&mut self, count: usize) {
        self.out.clear();
        for _ in 0..count {
            self.workload.append(&mut self.out);
        }
    }

    fn send_rendered(&mut self, index: usize, count: usize) -> Result<()> {
        self.sent_total += count as u64;
        self.in_flight_total += count as u64;
        let Some(connection) = self.connections.get_mut(index) else { return Ok(()) };
        connection.in_flight += count;
        connection.send(&self.out, &self.epoll, index)
    }

    fn flush(&mut self, index: usize) -> Result<()> {
        let connection = if index >= self.connections.len() {
            self.aside.as_mut()
        } else {
            self.connections.get_mut(index)
        };
        match connection {
            Some(connection) => connection.flush(&self.epoll, index),
            None => Ok(()),
        }
    }

    /// Sends the open loop's requests that are due, each burst on the next connection with room.
    fn send_due(&mut self, now: u64) -> Result<()> {
        loop {
            let Some(schedule) = &self.schedule else { return Ok(()) };
            let due = schedule.next_ns();
            // A burst due before the window closed is sent even after it: its wait must be counted.
            let last =
                if self.phase == Phase::Draining { now.min(self.end_ns.saturating_sub(1)) } else { now };
            if due > last || self.open_requests_left() == 0 {
                return Ok(());
            }
            let Some(index) = self.connection_with_room() else { return Ok(()) };
            let burst = self.spec.arrivals.map_or(1, |arrivals| arrivals.burst);
            let count = burst.min(usize::try_from(self.open_requests_left()).unwrap_or(usize::MAX));
            self.render(count);
            if let Some(connection) = self.connections.get_mut(index) {
                connection.due.push_back((due, count));
            }
            self.send_rendered(index, count)?;
            if let Some(schedule) = &mut self.schedule {
                schedule.advance();
            }
        }
    }

    fn open_requests_left(&self) -> u64 {
        match self.spec.stop {
            Stop::Requests(total) => total.saturating_sub(self.sent_total),
            Stop::After(_) => u64::MAX,
        }
    }

    fn connection_with_room(&mut self) -> Option<usize> {
        let burst = self.spec.arrivals.map_or(1, |arrivals| arrivals.burst);
        let room = self.spec.pipeline.max(burst) - burst;
        for _ in 0..self.connections.len() {
            self.turn = if self.turn + 1 >= self.connections.len() { 0 } else { self.turn + 1 };
            if self.connections.get(self.turn).is_some_and(|connection| connection.in_flight <= room) {
                return Some(self.turn);
            }
        }
        None
    }

    fn advance_phase(&mut self, now: u64, on_mark: &mut dyn FnMut(Mark)) {
        if self.phase == Phase::Warming && now >= self.spec.warmup.as_nanos() as u64 {
            self.phase = Phase::Measuring;
            self.latencies.clear();
            self.timeline.clear();
            self.tally_before = self.tally;
            on_mark(Mark::Begin);
            // Without a warm-up the first requests, due at 0, belong to the window.
            self.begin_ns = if self.spec.warmup.is_zero() { 0 } else { self.now_ns() };
        }
        let is_ended = self.spec.ended_by.as_ref().is_some_and(|ended| ended.load(Relaxed));
        let over = is_ended
            || match self.spec.stop {
                Stop::Requests(total) => self.sent_total >= total && self.in_flight_total == 0,
                Stop::After(window) => now >= self.begin_ns + window.as_nanos() as u64,
            };
        if self.phase == Phase::Measuring && over {
            self.phase = Phase::Draining;
            self.end_ns = self.now_ns();
            self.tally_window = self.tally;
            on_mark(Mark::End);
        }
    }

    fn finished(&self) -> bool {
        if self.phase != Phase::Draining {
            return false;
        }
        let waiting = self.schedule.as_ref().is_some_and(|schedule| schedule.next_ns() < self.end_ns)
            && self.open_requests_left() > 0;
        let asides_open = (self.asides_answered as usize) < self.asides_sent;
        let quiet = self.in_flight_total == 0 && !waiting && !asides_open;
        quiet || self.now_ns() > self.end_ns + DRAIN.as_nanos() as u64
    }

    fn give_up_unanswered(&mut self) {
        self.unanswered = self.in_flight_total;
        let now = self.now_ns();
        for index in 0..self.connections.len() {
            let count = self.connections.get(index).map_or(0, |connection| connection.in_flight);
            self.record_open(index, count, now);
        }
    }

    fn send_asides(&mut self, now: u64) -> Result<()> {
        if self.phase != Phase::Measuring {
            return Ok(());
        }
        let spec = self.spec;
        let (Some(next), Some(aside)) = (spec.asides.get(self.asides_sent), self.aside.as_mut()) else {
            return Ok(());
        };
        if now >= self.begin_ns + next.at.as_nanos() as u64 {
            self.asides_sent += 1;
            aside.send(&next.request, &self.epoll, self.connections.len())?;
        }
        Ok(())
    }

    fn read_aside(&mut self) -> Result<()> {
        let Some(aside) = &mut self.aside else { return Ok(()) };
        let window = self.buffer.get_mut(..ASIDE_READ_BYTES).unwrap_or_default();
        let Some(bytes) = receive(&aside.socket, window)? else { return Ok(()) };
        let mut tally = Tally::default();
        aside.replies.feed(self.buffer.get(..bytes).unwrap_or_default(), &mut tally)?;
        self.asides_answered += tally.replies;
        Ok(())
    }

    fn into_outcome(self) -> Outcome {
        let (before, window) = (self.tally_before, self.tally_window);
        let error_first = self.connections.iter().chain(&self.aside).find_map(|c| c.replies.error_first());
        Outcome {
            requests: window.replies - before.replies,
            errors: window.errors - before.errors,
            absent: window.absent - before.absent,
            payload_bytes: window.payload_bytes - before.payload_bytes,
            error_first: error_first.map(str::to_owned),
            seconds: (self.end_ns.saturating_sub(self.begin_ns)) as f64 / 1e9,
            latencies: self.latencies,
            timeline: self.timeline,
            sent_total: self.sent_total,
            replies_total: self.tally.replies,
            unanswered: self.unanswered,
            aside_replies: self.asides_answered,
        }
    }
}

impl Connection {
    fn open(spec: &LoadSpec) -> Result<Connection> {
        Ok(Connection {
            socket: spec.endpoint.connect_nonblocking()?,
            replies: ReplyCounter::new(spec.protocol),
            in_flight: 0,
            sent_ns: 0,
            due: VecDeque::new(),
            unsent: Vec::new(),
            unsent_from: 0,
        })
    }

    /// Sends `bytes`, or keeps what the socket does not take until epoll says it can.
    fn send(&mut self, bytes: &[u8], epoll: &OwnedFd, index: usize) -> Result<()> {
        if !self.unsent.is_empty() {
            self.unsent.extend_from_slice(bytes);
            return Ok(());
        }
        let written = transmit(&self.socket, bytes)?;
        if written < bytes.len() {
            self.unsent.extend_from_slice(bytes.get(written..).unwrap_or_default());
            self.unsent_from = 0;
            let flags = EventFlags::IN | EventFlags::OUT;
            epoll::modify(epoll, &self.socket, EventData::new_u64(index as u64), flags)?;
        }
        Ok(())
    }

    fn flush(&mut self, epoll: &OwnedFd, index: usize) -> Result<()> {
        let rest = self.unsent.get(self.unsent_from..).unwrap_or_default();
        self.unsent_from += transmit(&self.socket, rest)?;
        if self.unsent_from >= self.unsent.len() {
            self.unsent.clear();
            self.unsent_from = 0;
            epoll::modify(epoll, &self.socket, EventData::new_u64(index as u64), EventFlags::IN)?;
        }
        Ok(())
    }
}

/// Reads once; `None` when nothing is there.
#[inline]
fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> Result<Option<usize>> {
    match rustix::io::read(socket, buffer) {
        Ok(0) => bail!("the server closed a connection"),
        Ok(bytes) => Ok(Some(bytes)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(error) => Err(error).context("reading from the server"),
    }
}

/// Writes once and returns how much was taken.
#[inline]
fn transmit(socket: &OwnedFd, bytes: &[u8]) -> Result<usize> {
    match rustix::io::write(socket, bytes) {
        Ok(written) => Ok(written),
        Err(Errno::AGAIN | Errno::INTR) => Ok(0),
        Err(error) => Err(error).context("writing to the server"),
    }
}
