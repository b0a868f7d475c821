//! A connection's socket, TCP or Unix, non-blocking; encrypted or not.

use super::tls::Session;
use larder_resp::Output;
use rustix::buffer::spare_capacity;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::io::IoSlice;

/// Pieces handed to the kernel in one call.
pub(super) const SLICES: usize = 64;

/// What a read brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// So many bytes.
    Bytes(usize),
    /// Nothing now.
    Nothing,
    /// The peer is gone.
    End,
}

/// What a write achieved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// Everything is with the kernel.
    All,
    /// The socket takes no more now.
    Some,
    /// The peer is gone.
    Gone,
}

/// A connected socket.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    /// What encrypts it, if anything does.
    tls: Option<Box<Session>>,
}

impl Socket {
    /// Takes a connected, non-blocking socket.
    pub fn new(fd: OwnedFd) -> Socket {
        Socket { fd, tls: None }
    }

    /// Takes one over which TLS is to be spoken.
    pub fn encrypted(fd: OwnedFd, session: Session) -> Socket {
        Socket { fd, tls: Some(Box::new(session)) }
    }

    /// What encrypts it, if anything does.
    #[inline]
    pub fn tls(&self) -> Option<&Session> {
        self.tls.as_deref()
    }

    /// Tells the peer of an encrypted connection that it ends.
    pub fn say_goodbye(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.say_goodbye(&self.fd);
        }
    }

    /// Memory it holds of ours.
    pub fn memory(&self) -> usize {
        self.tls.as_ref().map_or(0, |_| size_of::<Session>())
    }

    /// Reads into `buffer`. Not for an encrypted one, whose bytes may say more than fits: see [`Socket::read_onto`].
    #[inline]
    pub fn read(&self, buffer: &mut [u8]) -> Received {
        debug_assert!(self.tls.is_none(), "read as it is");
        received(rustix::io::read(&self.fd, buffer))
    }

    /// Reads into the unused capacity of `buffer`; what was encrypted may make it larger.
    pub fn read_onto(&mut self, buffer: &mut Vec<u8>) -> Received {
        if let Some(tls) = &mut self.tls {
            return tls.read_onto(&self.fd, buffer);
        }
        received(rustix::io::read(&self.fd, spare_capacity(buffer)))
    }

    /// Sends as much of `output` as the socket takes.
    #[inline]
    pub fn flush(&mut self, output: &mut Output) -> Sent {
        if let Some(tls) = &mut self.tls {
            return tls.flush(&self.fd, output);
        }
        while !output.is_empty() {
            let result = match output.as_single_slice() {
                Some(bytes) => rustix::io::write(&self.fd, bytes),
                None => {
                    let mut slices = [IoSlice::new(&[]); SLICES];
                    let filled = output.fill_slices(&mut slices);
                    rustix::io::writev(&self.fd, slices.get(..filled).unwrap_or_default())
                }
            };
            match result {
                Ok(count) => output.advance(count),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Sent::Some,
                Err(_) => return Sent::Gone,
            }
        }
        Sent::All
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[inline]
fn received(result: Result<usize, Errno>) -> Received {
    match result {
        Ok(0) => Received::End,
        Ok(count) => Received::Bytes(count),
        Err(Errno::AGAIN | Errno::INTR) => Received::Nothing,
        Err(_) => Received::End,
    }
}
