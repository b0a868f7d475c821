//! Listening sockets: TCP, plain and for TLS, on several addresses, IPv4 and IPv6, and a Unix socket with permissions.
//!
//! The first worker accepts and hands each connection to the worker that has the fewest, so that
//! work is balanced whatever addresses clients come from.
//! Invariant: every socket has a token of its own, which is never given again, so that what the poller
//! still reports of one that was closed means nothing.

use crate::clients::{Client, MEMCACHED};
use crate::clock;
use crate::io::{Poller, Session, Socket as ClientSocket};
use crate::server::{Message, Server};
use larder_config::Settings;
use rustix::fd::OwnedFd;
use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

/// Tokens from here on are listeners.
pub const LISTENER_TOKENS: u64 = 1 << 62;

/// The listening sockets.
#[derive(Debug, Default)]
pub struct Listeners {
    sockets: Vec<Listener>,
    /// How many sockets there have ever been.
    opened: u64,
    unix_path: Option<String>,
}

/// How it is spoken on a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// As Redis does.
    Plain,
    /// The same, encrypted.
    Tls,
    /// As memcached does.
    Memcached,
}

/// One listening socket.
#[derive(Debug)]
struct Listener {
    socket: Socket,
    token: u64,
    /// Where it listens; none for the Unix socket.
    address: Option<SocketAddr>,
    /// How it is spoken there.
    kind: Kind,
    /// Whether the first worker's poller has it.
    is_watched: bool,
}

impl Listeners {
    /// Opens every socket that `settings` ask for.
    ///
    /// # Errors
    /// The first address that cannot be listened on, said in words.
    pub fn open(settings: &Settings) -> Result<Listeners, String> {
        let mut listeners = Listeners::default();
        listeners.open_tcp(settings)?;
        let path = settings.unixsocket();
        if !path.is_empty() {
            let path = String::from_utf8_lossy(path).into_owned();
            listeners
                .open_unix(&path, settings.unixsocketperm(), backlog(settings))
                .map_err(|error| format!("cannot listen on the Unix socket {path}: {error}"))?;
        }
        if listeners.sockets.is_empty() {
            return Err(
                "nothing to listen on: set 'port', 'tls-port', 'memcached-port' or 'unixsocket'".into()
            );
        }
        Ok(listeners)
    }

    /// Listens nowhere any more.
    pub fn close(&mut self) {
        self.sockets.clear();
    }

    /// Listens where `settings` say, and no longer elsewhere. What was open and stays wanted is left
    /// alone, as are connections.
    ///
    /// # Errors
    /// The first address that cannot be listened on, said in words; then it listens where it did before.
    pub fn rebind(&mut self, settings: &Settings) -> Result<(), String> {
        let wanted = addresses(settings)?;
        let first_new = LISTENER_TOKENS + self.opened;
        let is_new = |listener: &Listener| listener.token >= first_new;
        let is_left = |listener: &Listener| {
            !is_new(listener)
                && listener.address.is_some()
                && !wanted.iter().any(|place| place.is_of(listener))
        };
        let Err(problem) = self.open_tcp(settings) else {
            self.sockets.retain(|listener| !is_left(listener));
            return Ok(());
        };
        // What is to be left can stand in the way of what is to come, as `*` does of every other address.
        let left: Vec<(SocketAddr, Kind)> = self
            .sockets
            .iter()
            .filter(|listener| is_left(listener))
            .filter_map(|listener| listener.address.map(|address| (address, listener.kind)))
            .collect();
        let ports = [settings.port(), settings.tls_port(), settings.memcached_port()];
        if !left.iter().any(|(address, _)| ports.contains(&address.port())) {
            self.sockets.retain(|listener| !is_new(listener));
            return Err(problem);
        }
        self.sockets.retain(|listener| !is_left(listener));
        let Err(problem) = self.open_tcp(settings) else { return Ok(()) };
        self.sockets.retain(|listener| !is_new(listener));
        for (address, kind) in left {
            if let Err(error) = self.open_address(address, kind, settings) {
                tracing::error!(%error, "cannot listen on {address} again");
            }
        }
        Err(problem)
    }

    /// Opens what `settings` ask for and is not open.
    fn open_tcp(&mut self, settings: &Settings) -> Result<(), String> {
        for place in addresses(settings)? {
            let Place { address, optional, kind } = place;
            if self.sockets.iter().any(|listener| place.is_of(listener)) {
                continue;
            }
            match self.open_address(address, kind, settings) {
                Ok(()) => {}
                Err(error) if is_absent(&error, optional) => {
                    tracing::debug!(%error, "cannot listen on {address}, and need not");
                }
                Err(error) => {
                    return Err(format!(
                        "cannot listen on {address}: {error}; is another server running there? see 'port', 'tls-port', 'memcached-port' and 'bind'"
                    ));
                }
            }
        }
        Ok(())
    }

    fn open_address(&mut self, address: SocketAddr, kind: Kind, settings: &Settings) -> io::Result<()> {
        let socket = tcp(address, backlog(settings))?;
        let mark = settings.socket_mark_id();
        if mark != 0
            && let Err(error) = socket.set_mark(mark)
        {
            tracing::warn!("cannot mark a socket with {mark}: {error}");
        }
        self.add(socket, Some(address), kind);
        Ok(())
    }

    fn add(&mut self, socket: Socket, address: Option<SocketAddr>, kind: Kind) {
        let token = LISTENER_TOKENS + self.opened;
        self.opened += 1;
        self.sockets.push(Listener { socket, token, address, kind, is_watched: false });
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
        self.add(socket, None, Kind::Plain);
        self.unix_path = Some(path.to_owned());
        Ok(())
    }

    /// Has `poller` watch the sockets that it does not watch yet; it forgets closed ones by itself.
    ///
    /// # Errors
    /// When the kernel has no memory for it.
    pub fn watch(&mut self, poller: &Poller) -> io::Result<()> {
        for listener in self.sockets.iter_mut().filter(|listener| !listener.is_watched) {
            poller.add(&listener.socket, listener.token)?;
            listener.is_watched = true;
        }
        Ok(())
    }

    /// Accepts what waits on one socket and hands it to workers.
    pub fn accept(&self, token: u64, server: &'static Server) {
        let Some(listener) = self.sockets.iter().find(|listener| listener.token == token) else { return };
        let settings = server.settings();
        // What is left is reported again in the next turn.
        let accepts_max = match listener.kind {
            Kind::Tls => settings.max_new_tls_connections_per_cycle(),
            Kind::Plain | Kind::Memcached => settings.max_new_connections_per_cycle(),
        };
        for _ in 0..accepts_max {
            match listener.socket.accept_raw() {
                Ok((socket, peer)) => {
                    admit(server, socket, &peer, self.unix_path.as_deref(), listener.kind);
                }
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

fn backlog(settings: &Settings) -> i32 {
    i32::try_from(settings.tcp_backlog()).unwrap_or(i32::MAX)
}

/// Whether an address is left out because the machine has not got it: none of its kind, or this one,
/// where the configuration says that it may be missing.
fn is_absent(error: &io::Error, optional: bool) -> bool {
    use rustix::io::Errno;
    match Errno::from_io_error(error) {
        Some(Errno::AFNOSUPPORT | Errno::PFNOSUPPORT | Errno::PROTONOSUPPORT | Errno::SOCKTNOSUPPORT) => true,
        Some(Errno::ADDRNOTAVAIL) => optional,
        _ => false,
    }
}

/// Where to listen.
#[derive(Clone, Copy)]
struct Place {
    address: SocketAddr,
    /// It is no error when that cannot be.
    optional: bool,
    kind: Kind,
}

impl Place {
    fn is_of(self, listener: &Listener) -> bool {
        listener.address == Some(self.address) && listener.kind == self.kind
    }
}

/// Where to listen, for whom.
fn addresses(settings: &Settings) -> Result<Vec<Place>, String> {
    let mut found = Vec::new();
    let ports = [
        (settings.port(), Kind::Plain),
        (settings.tls_port(), Kind::Tls),
        (settings.memcached_port(), Kind::Memcached),
    ];
    for (port, kind) in ports {
        if port != 0 {
            find_addresses(settings, port, kind, &mut found)?;
        }
    }
    Ok(found)
}

fn find_addresses(settings: &Settings, port: u16, kind: Kind, found: &mut Vec<Place>) -> Result<(), String> {
    for word in settings.bind() {
        let (word, optional) = match word.strip_prefix(b"-") {
            Some(rest) => (rest, true),
            None => (&word[..], false),
        };
        let name = String::from_utf8_lossy(word).into_owned();
        match resolve(&name, port) {
            Ok(addresses) => {
                found.extend(addresses.into_iter().map(|address| Place { address, optional, kind }));
            }
            Err(error) if optional => tracing::debug!(%error, "cannot find the address '{name}' (optional)"),
            Err(error) => return Err(format!("cannot find the address '{name}' of 'bind': {error}")),
        }
    }
    Ok(())
}

/// The addresses that a word of `bind` means.
pub(crate) fn resolve(name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    match name {
        "*" => Ok(vec![SocketAddr::from(([0, 0, 0, 0], port))]),
        "::*" => Ok(vec![SocketAddr::from(([0u16; 8], port))]),
        name => match name.parse::<IpAddr>() {
            Ok(ip) => Ok(vec![SocketAddr::new(ip, port)]),
            Err(_) => (name, port).to_socket_addrs().map(Iterator::collect),
        },
    }
}

pub(crate) fn tcp(address: SocketAddr, backlog: i32) -> io::Result<Socket> {
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
fn admit(server: &'static Server, socket: Socket, peer: &SockAddr, unix_path: Option<&str>, kind: Kind) {
    let settings = server.settings();
    let is_unix = peer.is_unix();
    let refuse = |text: &[u8], for_memcached: &[u8]| {
        // A courtesy: the peer may not read it. In the middle of a handshake it could not.
        let _ = match kind {
            Kind::Plain => rustix::io::write(&socket, text),
            Kind::Memcached => rustix::io::write(&socket, for_memcached),
            Kind::Tls => Ok(0),
        };
    };
    if !server.clients.take_place(settings.maxclients() as usize) {
        server.refused.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        refuse(b"-ERR max number of clients reached\r\n", b"ERROR Too many open connections\r\n");
        return;
    }
    let peer_ip = peer.as_socket().map(|address| address.ip().to_canonical());
    let is_local = is_unix || peer_ip.is_some_and(|ip| ip.is_loopback());
    if settings.protected_mode()
        && server.access.users.default_user().rules().needs_no_password()
        && !is_local
    {
        refuse(PROTECTED, &[b"SERVER_ERROR ", PROTECTED.get(1..).unwrap_or_default()].concat());
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
        (server.clients.next_id(), Arc::clone(server.access.users.default_user())),
        worker,
        name(peer.as_socket()),
        name(local),
        number,
        is_unix,
        clock::unix_millis().0,
    ));
    if kind == Kind::Memcached {
        client.protocol.store(MEMCACHED, std::sync::atomic::Ordering::Relaxed);
    }
    let Some(socket) = equip(server, fd, kind == Kind::Tls) else {
        server.clients.give_place();
        return;
    };
    server.clients.add(Arc::clone(&client));
    server.mailboxes[worker].send(Message::Accept(socket, client));
}

/// A socket with what encrypts it; none when it should be encrypted and cannot be.
fn equip(server: &Server, fd: OwnedFd, is_tls: bool) -> Option<ClientSocket> {
    if !is_tls {
        return Some(ClientSocket::new(fd));
    }
    // None: TLS was switched off while the connection waited to be accepted.
    let config = server.tls.load_full()?;
    match Session::new(config) {
        Ok(session) => Some(ClientSocket::encrypted(fd, session)),
        Err(error) => {
            tracing::warn!(%error, "TLS cannot begin");
            None
        }
    }
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
