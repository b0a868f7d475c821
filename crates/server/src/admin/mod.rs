//! The admin page: HTTP on a port of its own, for Prometheus and for whoever asks whether the server is alive.
//!
//! One thread accepts; each connection is served by a thread of its own, a bounded number at a time, each for a bounded
//! time and with a bounded request. No worker takes part: figures are read from counters and from what the store's
//! panel keeps behind locks. Read next: `http.rs` for a connection, `metrics.rs` for what is told.

mod http;
mod invalidations;
mod metrics;
mod sources;

use crate::listen::{resolve, tcp};
use crate::server::Server;
use larder_config::Settings;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::Socket;
use std::io::{self, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;

/// Connections at a time; others are told to come again.
const CONNECTIONS_MAX: usize = 16;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 64;
/// How long the thread rests where the system has no file for a connection, in milliseconds.
const REST_MS: i64 = 100;

/// A running admin page; it ends when this is dropped.
pub struct Admin {
    /// Closed to end it.
    waker: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Admin {
    /// Listens where the settings say and starts the thread; nothing where they name no port.
    ///
    /// # Errors
    /// In words for the log: an address cannot be had.
    pub fn start(server: &'static Server, settings: &Settings) -> Result<Option<Admin>, String> {
        let port = settings.admin_port();
        if port == 0 {
            return Ok(None);
        }
        let sockets = listen(settings)?;
        let failed = |error: io::Error| format!("cannot start the thread of the admin port: {error}");
        let (waker, woken) = UnixStream::pair().map_err(failed)?;
        let thread = std::thread::Builder::new()
            .name("larder-admin".into())
            .spawn(move || serve(server, &sockets, &woken))
            .map_err(failed)?;
        tracing::info!("the admin page is on port {port}: /metrics and /health");
        Ok(Some(Admin { waker: Some(waker), thread: Some(thread) }))
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.waker = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the admin port ended by a panic");
        }
    }
}

fn listen(settings: &Settings) -> Result<Vec<Socket>, String> {
    let port = settings.admin_port();
    let mut sockets = Vec::new();
    for word in settings.admin_bind() {
        let (word, is_optional) = match word.strip_prefix(b"-") {
            Some(rest) => (rest, true),
            None => (&word[..], false),
        };
        let name = String::from_utf8_lossy(word).into_owned();
        let addresses = match resolve(&name, port) {
            Ok(addresses) => addresses,
            Err(_) if is_optional => continue,
            Err(error) => return Err(format!("cannot find the address '{name}' of 'admin-bind': {error}")),
        };
        for address in addresses {
            match tcp(address, BACKLOG) {
                Ok(socket) => sockets.push(socket),
                Err(error) if is_optional && error.kind() == io::ErrorKind::AddrNotAvailable => {}
                Err(error) => {
                    return Err(format!(
                        "cannot listen on {address} for the admin page: {error}; is another program there? see 'admin-port' and 'admin-bind'"
                    ));
                }
            }
        }
    }
    if sockets.is_empty() {
        return Err("no address of 'admin-bind' can be listened on".to_owned());
    }
    Ok(sockets)
}

/// Accepts until the other side of `woken` is closed.
fn serve(server: &'static Server, sockets: &[Socket], woken: &UnixStream) {
    let served = Arc::new(AtomicUsize::new(0));
    loop {
        let mut fds: Vec<PollFd<'_>> = vec![PollFd::new(woken, PollFlags::IN)];
        fds.extend(sockets.iter().map(|socket| PollFd::new(socket, PollFlags::IN)));
        if poll(&mut fds, None).is_err() {
            continue;
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        if ready.first() == Some(&true) {
            return;
        }
        for (socket, is_ready) in sockets.iter().zip(ready.iter().skip(1)) {
            if *is_ready && !accept(server, socket, &served) {
                // Ask again a little later; whoever ends the page is heard meanwhile.
                let rest = Timespec { tv_sec: 0, tv_nsec: REST_MS * 1_000_000 };
                let _ = poll(&mut [PollFd::new(woken, PollFlags::IN)], Some(&rest));
            }
        }
    }
}

/// Accepts one connection and has it served. False where the system has nothing to serve it with.
fn accept(server: &'static Server, socket: &Socket, served: &Arc<AtomicUsize>) -> bool {
    let stream: TcpStream = match socket.accept() {
        Ok((stream, _)) => stream.into(),
        Err(error) => {
            return matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted
            );
        }
    };
    let place = Place::take(served);
    let Some(place) = place else {
        // A courtesy: the peer may not read it, and nobody waits for that.
        let _ = stream.set_nonblocking(true);
        let _ = (&stream).write_all(http::BUSY);
        return true;
    };
    let thread = std::thread::Builder::new().name("larder-admin-peer".into());
    let spawned = thread.spawn(move || {
        http::serve(server, &stream);
        drop(place);
    });
    spawned.is_ok()
}

/// One of the connections at a time.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(served: &Arc<AtomicUsize>) -> Option<Place> {
        let place = Place(Arc::clone(served));
        if served.fetch_add(1, Relaxed) < CONNECTIONS_MAX { Some(place) } else { None }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
