//! The null server: it finds the end of each request, answers with a fixed reply and stores nothing. What it needs
//! is what this kernel and a plain epoll loop need: the yardstick for every server's CPU per operation.
//! One turn reads every ready socket, then writes once to each connection. Read next: `scan.rs`.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use crate::scan::Scanner;

/// What the null server is to be.
#[derive(Clone, Debug)]
pub(crate) struct NullSpec {
    /// The port on the loopback.
    pub(crate) port: u16,
    /// Event loops, each with its share of the connections.
    pub(crate) threads: usize,
    /// The length of the value in the reply to a request of two arguments.
    pub(crate) value_bytes: usize,
}

/// Serves until the process ends.
pub(crate) fn serve(spec: &NullSpec) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", spec.port)).context("cannot listen")?;
    listener.set_nonblocking(true)?;
    let doors = (0..spec.threads.max(1)).map(|_| Door::new()).collect::<Result<Vec<_>>>()?;
    let doors = Arc::new(doors);
    let mut threads = Vec::new();
    for index in 1..doors.len() {
        let (doors, value_bytes) = (Arc::clone(&doors), spec.value_bytes);
        threads.push(std::thread::spawn(move || Worker::new(index, &doors, None, value_bytes)?.run()));
    }
    Worker::new(0, &doors, Some(listener), spec.value_bytes)?.run()?;
    for thread in threads {
        thread.join().map_err(|_| anyhow::anyhow!("a thread of the null server panicked"))??;
    }
    Ok(())
}

/// Where a worker gets new connections: a list and the means to wake it.
struct Door {
    waiting: Mutex<Vec<OwnedFd>>,
    wake: OwnedFd,
}

impl Door {
    fn new() -> Result<Door> {
        Ok(Door { waiting: Mutex::new(Vec::new()), wake: eventfd(0, EventfdFlags::NONBLOCK)? })
    }
}

struct Connection {
    socket: OwnedFd,
    scanner: Scanner,
    unsent: Vec<u8>,
}

/// Replies of this turn for one connection: a range of the shared buffer.
struct Written {
    connection: usize,
    start: usize,
    end: usize,
}

struct Worker<'d> {
    index: usize,
    doors: &'d [Door],
    listener: Option<TcpListener>,
    next_door: usize,
    epoll: OwnedFd,
    connections: Vec<Option<Connection>>,
    vacant: Vec<usize>,
    input: Vec<u8>,
    output: Vec<u8>,
    written: Vec<Written>,
    value_reply: Vec<u8>,
}

const LISTENER: u64 = u64::MAX;
const WAKE: u64 = u64::MAX - 1;
const READ_BYTES: usize = 64 * 1024;
/// Replies beyond this are sent before the turn ends.
const OUTPUT_BYTES_SOFT: usize = 1024 * 1024;

impl<'d> Worker<'d> {
    fn new(
        index: usize,
        doors: &'d [Door],
        listener: Option<TcpListener>,
        value_bytes: usize,
    ) -> Result<Worker<'d>> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        if let Some(listener) = &listener {
            epoll::add(&epoll, listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        }
        if let Some(door) = doors.get(index) {
            epoll::add(&epoll, &door.wake, EventData::new_u64(WAKE), EventFlags::IN)?;
        }
        let mut value_reply = format!("${value_bytes}\r\n").into_bytes();
        value_reply.resize(value_reply.len() + value_bytes, b'x');
        value_reply.extend_from_slice(b"\r\n");
        Ok(Worker {
            index,
            doors,
            listener,
            next_door: 0,
            epoll,
            connections: Vec::new(),
            vacant: Vec::new(),
            input: vec![0; READ_BYTES],
            output: Vec::with_capacity(OUTPUT_BYTES_SOFT),
            written: Vec::new(),
            value_reply,
        })
    }

    fn run(&mut self) -> Result<()> {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(1024);
        loop {
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error).context("epoll_wait"),
            }
            for event in &events {
                match event.data.u64() {
                    LISTENER => self.accept()?,
                    WAKE => self.admit_waiting()?,
                    token => self.ready(usize::try_from(token).unwrap_or(usize::MAX), event.flags),
                }
                if self.output.len() > OUTPUT_BYTES_SOFT {
                    self.send_all();
                }
            }
            self.send_all();
        }
    }

    fn accept(&mut self) -> Result<()> {
        let Some(listener) = &self.listener else { return Ok(()) };
        let (stream, _) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error).context("accept"),
        };
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let target = self.next_door;
        self.next_door = (target + 1) % self.doors.len();
        if target == self.index {
            return self.admit(OwnedFd::from(stream));
        }
        if let Some(door) = self.doors.get(target) {
            door.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(OwnedFd::from(stream));
            rustix::io::write(&door.wake, &1u64.to_ne_bytes())?;
        }
        Ok(())
    }

    fn admit_waiting(&mut self) -> Result<()> {
        let Some(door) = self.doors.get(self.index) else { return Ok(()) };
        let mut count = [0; 8];
        let _ = rustix::io::read(&door.wake, &mut count);
        let sockets = std::mem::take(&mut *door.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        sockets.into_iter().try_for_each(|socket| self.admit(socket))
    }

    fn admit(&mut self, socket: OwnedFd) -> Result<()> {
        let index = self.vacant.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        epoll::add(&self.epoll, &socket, EventData::new_u64(index as u64), EventFlags::IN)?;
        if let Some(place) = self.connections.get_mut(index) {
            *place = Some(Connection { socket, scanner: Scanner::default(), unsent: Vec::new() });
        }
        Ok(())
    }

    fn ready(&mut self, index: usize, flags: EventFlags) {
        if flags.contains(EventFlags::OUT) {
            self.send_rest(index);
        } else {
            self.read(index);
        }
    }

    #[inline]
    fn read(&mut self, index: usize) {
        let Some(Some(connection)) = self.connections.get_mut(index) else { return };
        let bytes = match rustix::io::read(&connection.socket, &mut self.input[..]) {
            Ok(bytes) if bytes > 0 => bytes,
            Err(Errno::AGAIN | Errno::INTR) => return,
            Ok(_) | Err(_) => return self.close(index),
        };
        let data = self.input.get(..bytes).unwrap_or_default();
        let start = self.output.len();
        let (output, value_reply) = (&mut self.output, &self.value_reply);
        let scanned = connection.scanner.scan(data, |arguments| {
            output.extend_from_slice(if arguments == 2 { value_reply } else { b"+OK\r\n" });
        });
        if scanned.is_err() {
            self.output.truncate(start);
            return self.close(index);
        }
        let end = self.output.len();
        if end > start {
            self.written.push(Written { connection: index, start, end });
        }
    }

    fn send_all(&mut self) {
        for place in std::mem::take(&mut self.written) {
            let Some(Some(connection)) = self.connections.get_mut(place.connection) else { continue };
            let replies = self.output.get(place.start..place.end).unwrap_or_default();
            match rustix::io::write(&connection.socket, replies) {
                Ok(written) if written == replies.len() => {}
                Ok(written) => self.keep(&place, written),
                Err(Errno::AGAIN | Errno::INTR) => self.keep(&place, 0),
                Err(_) => self.close(place.connection),
            }
        }
        self.output.clear();
    }

    /// Keeps replies the socket did not take; the connection is not read until they are gone.
    #[cold]
    fn keep(&mut self, place: &Written, written: usize) {
        let Some(Some(connection)) = self.connections.get_mut(place.connection) else { return };
        let rest = self.output.get(place.start + written..place.end).unwrap_or_default();
        connection.unsent.extend_from_slice(rest);
        let data = EventData::new_u64(place.connection as u64);
        if epoll::modify(&self.epoll, &connection.socket, data, EventFlags::OUT).is_err() {
            self.close(place.connection);
        }
    }

    #[cold]
    fn send_rest(&mut self, index: usize) {
        let Some(Some(connection)) = self.connections.get_mut(index) else { return };
        match rustix::io::write(&connection.socket, &connection.unsent) {
            Ok(written) => drop(connection.unsent.drain(..written)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => return self.close(index),
        }
        if connection.unsent.is_empty() {
            let data = EventData::new_u64(index as u64);
            if epoll::modify(&self.epoll, &connection.socket, data, EventFlags::IN).is_err() {
                self.close(index);
            }
        }
    }

    #[cold]
    fn close(&mut self, index: usize) {
        if let Some(place) = self.connections.get_mut(index)
            && place.take().is_some()
        {
            self.vacant.push(index);
        }
    }
}
