//! A connection's socket, TCP or Unix, non-blocking.

use larder_resp::Output;
use rustix::buffer::spare_capacity;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::io::IoSlice;

/// Pieces handed to the kernel in one call.
const SLICES: usize = 64;

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
}

impl Socket {
    /// Takes a connected, non-blocking socket.
    pub fn new(fd: OwnedFd) -> Socket {
        Socket { fd }
    }

    /// Reads into `buffer`.
    #[inline]
    pub fn read(&self, buffer: &mut [u8]) -> Received {
        received(rustix::io::read(&self.fd, buffer))
    }

    /// Reads into the unused capacity of `buffer`.
    pub fn read_onto(&self, buffer: &mut Vec<u8>) -> Received {
        received(rustix::io::read(&self.fd, spare_capacity(buffer)))
    }

    /// Sends as much of `output` as the socket takes.
    #[inline]
    pub fn flush(&self, output: &mut Output) -> Sent {
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
