//! Listening sockets: TCP on several addresses, IPv4 and IPv6, and a Unix socket with permissions.
//!
//! The first worker accepts and hands each connection to the worker that has the fewest, so that
//! work is balanced whatever addresses clients come from.

use crate::clients::Client;
use crate::clock;
use crate::server::{Message, Server};
use larder_config::Settings;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

/// Connections accepted in one go.
const ACCEPTS_MAX: usize = 1000;

/// The listening sockets of a worker.
#[derive(Debug, Default)]
pub struct Listeners {
    sockets: Vec<Socket>,
    unix_path: Option<String>,
}

impl Listeners {
    /// Opens every socket that `settings` ask for.
    ///
    /// # Errors
    /// The first address that cannot be listened on, said in words.
    pub fn open(settings: &Settings) -> Result<Listeners, String> {
        let mut listeners = Listeners::default();
        let backlog = i32::try_from(settings.tcp_backlog()).unwrap_or(i32::MAX);
        let port = settings.port();
        if port != 0 {
            listeners.open_tcp(settings, port, backlog)?;
        }
        let path = settings.unixsocket();
        if !path.is_empty() {
            let path = String::from_utf8_lossy(path).into_owned();
            listeners
                .open_unix(&path, settings.unixsocketperm(), backlog)
                .map_err(|error| format!("cannot listen on the Unix socket {path}: {error}"))?;
        }
        if listeners.sockets.is_empty() {
            return Err("nothing to listen on: set 'port' or 'unixsocket'".into());
        }
        Ok(listeners)
    }

    fn open_tcp(&mut self, settings: &Settings, port: u16, backlog: i32) -> Result<(), String> {
        for word in settings.bind() {
            let (word, optional) = match word.strip_prefix(b"-") {
                Some(rest) => (rest, true),
                None => (&word[..], false),
            };
            let name = String::from_utf8_lossy(word).into_owned();
            let addresses = resolve(&name, port)
                .map_err(|error| format!("cannot find the address '{name}' of 'bind': {error}"));
            let opened = addresses.and_then(|addresses| {
                addresses.into_iter().try_for_each(|address| {
                    let socket = tcp(address, backlog).map_err(|error| {
                        format!("cannot listen on {address}: {error}; is another server running there? see 'port' and 'bind'")
                    })?;
                    self.sockets.push(socket);
                    Ok(())
                })
            });
            match opened {
                Ok(()) => {}
                Err(text) if optional => tracing::debug!("{text} (optional)"),
                Err(text) => return Err(text),
            }
        }
        Ok(())
    }

    fn open_unix(&mut self, path: &str, permissions: u16, backlog: i32) -> io::Result<()> {
        // A socket file left by a server that was killed stands in the way of its successor.
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
        socket.bind(&SockAddr::unix(path)?)?;
        if permissions != 0 {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(u32::from(permissions)))?;
        }
        socket.listen(backlog)?;
        self.sockets.push(socket);
        self.unix_path = Some(path.to_owned());
        Ok(())
    }

    /// The sockets, to be watched.
    pub fn iter(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.sockets.iter().map(AsFd::as_fd)
    }

    /// Accepts what waits on one socket and hands it to workers.
    pub fn accept(&self, index: u64, server: &'static Server) {
        let Some(listener) = usize::try_from(index).ok().and_then(|index| self.sockets.get(index)) else {
            return;
        };
        for _ in 0..ACCEPTS_MAX {
            match listener.accept_raw() {
                Ok((socket, peer)) => admit(server, socket, &peer, self.unix_path.as_deref()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted
                    ) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection; is the limit of open files reached?");
                    return;
                }
            }
        }
    }

    /// Removes the Unix socket's file.
    pub fn remove_files(&self) {
        if let Some(path) = &self.unix_path {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        self.remove_files();
    }
}

/// The addresses that a word of `bind` means.
fn resolve(name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    match name {
        "*" => Ok(vec![SocketAddr::from(([0, 0, 0, 0], port))]),
        "::*" => Ok(vec![SocketAddr::from(([0u16; 8], port))]),
        name => match name.parse::<IpAddr>() {
            Ok(ip) => Ok(vec![SocketAddr::new(ip, port)]),
            Err(_) => (name, port).to_socket_addrs().map(Iterator::collect),
        },
    }
}

fn tcp(address: SocketAddr, backlog: i32) -> io::Result<Socket> {
    let socket =
        Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(socket)
}

/// Decides about a new connection and hands it over.
fn admit(server: &'static Server, socket: Socket, peer: &SockAddr, unix_path: Option<&str>) {
    let settings = server.settings();
    let is_unix = peer.is_unix();
    let refuse = |text: &[u8]| {
        // A courtesy: the peer may not read it.
        let _ = rustix::io::write(&socket, text);
    };
    if !server.clients.take_place(settings.maxclients() as usize) {
        server.refused.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        refuse(b"-ERR max number of clients reached\r\n");
        return;
    }
    let peer_ip = peer.as_socket().map(|address| address.ip().to_canonical());
    let is_local = is_unix || peer_ip.is_some_and(|ip| ip.is_loopback());
    if settings.protected_mode() && settings.requirepass().is_empty() && !is_local {
        refuse(PROTECTED);
        server.clients.give_place();
        server.refused.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        return;
    }
    if let Err(error) = prepare(&socket, is_unix, settings.tcp_keepalive()) {
        tracing::debug!(%error, "a connection ended before it began");
        server.clients.give_place();
        return;
    }
    let unix_name = || format!("{}:0", unix_path.unwrap_or_default());
    let name = |address: Option<SocketAddr>| address.map_or_else(unix_name, |address| address.to_string());
    let worker = server.clients.least_busy_worker();
    let fd = OwnedFd::from(socket);
    let local = rustix::net::getsockname(&fd).ok().and_then(|address| SocketAddr::try_from(address).ok());
    let number = std::os::fd::AsRawFd::as_raw_fd(&fd);
    let client = Arc::new(Client::new(
        server.clients.next_id(),
        worker,
        name(peer.as_socket()),
        name(local),
        number,
        is_unix,
        clock::unix_millis().0,
    ));
    server.clients.add(Arc::clone(&client));
    server.mailboxes[worker].send(Message::Accept(fd, client));
}

fn prepare(socket: &Socket, is_unix: bool, keepalive_secs: u32) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    socket.set_cloexec(true)?;
    if is_unix {
        return Ok(());
    }
    socket.set_tcp_nodelay(true)?;
    if keepalive_secs > 0 {
        let secs = u64::from(keepalive_secs);
        let probe = TcpKeepalive::new()
            .with_time(Duration::from_secs(secs))
            .with_interval(Duration::from_secs((secs / 3).max(1)))
            .with_retries(3);
        socket.set_tcp_keepalive(&probe)?;
    }
    Ok(())
}

/// What a peer from another machine is told while nothing guards the server.
const PROTECTED: &[u8] = b"-DENIED Larder is in protected mode: no password is set and you come from another machine. \
Either connect from the machine itself, or set a password ('requirepass' in the configuration or by CONFIG SET from the \
machine itself), or turn 'protected-mode' off if the network is trusted.\r\n";
