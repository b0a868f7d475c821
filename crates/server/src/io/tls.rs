//! TLS between a socket and its connection, by rustls, which does no I/O of its own.
//!
//! Invariant: whatever was read from the kernel is decrypted and handed on at once, so that nothing waits here that the poller
//! does not know of; and no more than [`WAITING_BYTES_MAX`] are encrypted before the kernel takes them.

use super::socket::{Received, SLICES, Sent};
use larder_resp::Output;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustls::{ServerConfig, ServerConnection};
use std::io::{self, BufRead, IoSlice, Write};
use std::mem::MaybeUninit;
use std::sync::Arc;

/// Read from the kernel at once: a record of the greatest length, with its head.
const READ_BYTES: usize = (16 << 10) + 512;
/// Decrypted before others have their turn.
const TURN_BYTES: usize = 128 << 10;
/// Encrypted ahead of the kernel.
const WAITING_BYTES_MAX: usize = 64 << 10;

/// What encrypts one connection.
#[derive(Debug)]
pub struct Session {
    tls: ServerConnection,
    /// Why it broke.
    failure: Option<String>,
    /// The peer has said that it sends nothing more.
    has_ended: bool,
}

impl Session {
    /// The server's side of a connection that is about to begin.
    pub fn new(config: Arc<ServerConfig>) -> Result<Session, rustls::Error> {
        let mut tls = ServerConnection::new(config)?;
        tls.set_buffer_limit(Some(WAITING_BYTES_MAX));
        Ok(Session { tls, failure: None, has_ended: false })
    }

    /// Whether hands are still being shaken.
    pub fn is_shaking_hands(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// Whether it has something to send, whether or not there are replies.
    pub fn wants_to_send(&self) -> bool {
        self.tls.wants_write()
    }

    /// Why it broke, if it did.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Reads what the kernel has, and appends what that says.
    pub fn read_onto(&mut self, fd: &OwnedFd, plain: &mut Vec<u8>) -> Received {
        let before = plain.len();
        loop {
            let mut room = [MaybeUninit::<u8>::uninit(); READ_BYTES];
            let bytes = match rustix::io::read(fd, &mut room) {
                Ok((bytes, _)) => &*bytes,
                Err(Errno::AGAIN | Errno::INTR) => break,
                Err(_) => return Received::End,
            };
            self.has_ended |= bytes.is_empty();
            let is_all = bytes.len() < READ_BYTES;
            if let Err(error) = self.decrypt(bytes, plain) {
                self.failure = Some(error.to_string());
                // The peer is told what it did, if it still listens.
                let _ = self.send(fd);
                return Received::End;
            }
            if is_all || plain.len() - before >= TURN_BYTES {
                break;
            }
        }
        if self.send(fd) == Sent::Gone {
            return Received::End;
        }
        match plain.len() - before {
            0 if self.has_ended => Received::End,
            0 => Received::Nothing,
            count => Received::Bytes(count),
        }
    }

    fn decrypt(&mut self, mut bytes: &[u8], plain: &mut Vec<u8>) -> Result<(), rustls::Error> {
        while !bytes.is_empty() {
            let too_long = |_| rustls::Error::General("a message of the handshake is too long".into());
            // What follows the peer's goodbye means nothing.
            if self.tls.read_tls(&mut bytes).map_err(too_long)? == 0 {
                break;
            }
            self.has_ended |= self.tls.process_new_packets()?.peer_has_closed();
            let mut reader = self.tls.reader();
            // An error says that there is nothing now.
            while let Ok(chunk @ [_, ..]) = reader.fill_buf() {
                plain.extend_from_slice(chunk);
                let count = chunk.len();
                reader.consume(count);
            }
        }
        Ok(())
    }

    /// Encrypts and sends as much of `output` as the socket takes.
    pub fn flush(&mut self, fd: &OwnedFd, output: &mut Output) -> Sent {
        loop {
            let sent = self.send(fd);
            if sent != Sent::All {
                return sent;
            }
            // Before hands are shaken nothing can be said; the end of that has it sent.
            if output.is_empty() || self.tls.is_handshaking() {
                return Sent::All;
            }
            let taken = match output.as_single_slice() {
                Some(bytes) => self.tls.writer().write(bytes),
                None => {
                    let mut slices = [IoSlice::new(&[]); SLICES];
                    let filled = output.fill_slices(&mut slices);
                    self.tls.writer().write_vectored(slices.get(..filled).unwrap_or_default())
                }
            };
            match taken {
                Ok(0) | Err(_) => return Sent::Gone,
                Ok(count) => output.advance(count),
            }
        }
    }

    /// Sends what is encrypted.
    fn send(&mut self, fd: &OwnedFd) -> Sent {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut Pipe(fd)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Sent::Some,
                Err(_) => return Sent::Gone,
            }
        }
        Sent::All
    }

    /// Says that nothing more will come, so that the peer knows that nothing was cut off.
    pub fn say_goodbye(&mut self, fd: &OwnedFd) {
        if self.failure.is_none() && !self.tls.is_handshaking() {
            self.tls.send_close_notify();
            // A courtesy: the peer may be gone.
            let _ = self.send(fd);
        }
    }
}

/// The socket as rustls wants it.
struct Pipe<'a>(&'a OwnedFd);

impl Write for Pipe<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(self.0, bytes)?)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(rustix::io::writev(self.0, slices)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
