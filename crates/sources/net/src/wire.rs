//! Bytes from and to a store.
//!
//! Invariant: no more is held of what arrives than `most` bytes beyond what was asked for, whatever a header announces.

use crate::tls::why;
use crate::{Tls, unfit, unreachable};
use larder_source::Failure;
use rustls::pki_types::ServerName;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

/// Where to connect to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Address {
    /// A host by name or address, and a port.
    Tcp(String, u16),
    /// A socket in the file system.
    Unix(PathBuf),
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// While one kind is made of another.
    Gone,
}

/// A connection with what has arrived over it.
pub struct Wire {
    stream: Stream,
    inbox: Vec<u8>,
    /// Where in the inbox what has not been taken begins.
    start: usize,
    /// How many bytes may be asked for at once.
    most: usize,
}

/// Read at once, at least.
const READ: usize = 16 << 10;

impl Wire {
    /// Connects, without TLS yet.
    ///
    /// # Errors
    /// `Unreachable`, with the address.
    pub async fn connect(address: &Address) -> Result<Wire, Failure> {
        let stream = match address {
            Address::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await;
                let stream = stream.map_err(|error| unreachable(format!("{host}:{port}: {error}")))?;
                // Waiting to fill packets would cost a round trip; not to is no matter of correctness.
                let _ = stream.set_nodelay(true);
                Stream::Tcp(stream)
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(path).await;
                Stream::Unix(stream.map_err(|error| unreachable(format!("{}: {error}", path.display())))?)
            }
        };
        Ok(Wire { stream, inbox: Vec::new(), start: 0, most: usize::MAX })
    }

    /// Encrypts everything from here on.
    ///
    /// # Errors
    /// `Unreachable`, with why hands could not be shaken. What has arrived before is an error too: it would be taken for safe.
    pub async fn encrypt(&mut self, tls: &Tls, host: &str) -> Result<(), Failure> {
        let Some(connector) = tls.connector() else { return Ok(()) };
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|_| unreachable(format!("'{host}' is no name of a host to check by TLS")))?;
        if self.start < self.inbox.len() {
            return Err(unreachable("bytes came before encryption began"));
        }
        match std::mem::replace(&mut self.stream, Stream::Gone) {
            Stream::Tcp(stream) => {
                let stream = connector.connect(name, stream).await;
                let stream =
                    stream.map_err(|error| unreachable(format!("TLS with {host}: {}", why(&error))))?;
                self.stream = Stream::Tls(Box::new(stream));
                Ok(())
            }
            other => {
                self.stream = other;
                Err(unreachable("only TCP can be encrypted"))
            }
        }
    }

    /// Whether it is encrypted, or does not leave this machine.
    pub fn is_safe(&self) -> bool {
        matches!(self.stream, Stream::Tls(_) | Stream::Unix(_))
    }

    /// Whether it is encrypted.
    pub fn is_encrypted(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }

    /// The end of the TLS channel's certificate, and more of the kind, is asked of whoever holds the connection.
    pub fn set_most(&mut self, most: usize) {
        self.most = most;
    }

    /// Sends all of it.
    ///
    /// # Errors
    /// `Unreachable`.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let sent = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        sent.await.map_err(|error| unreachable(format!("the connection broke: {error}")))
    }

    /// Waits until so many bytes are there, and shows what is there: as many, or more.
    ///
    /// # Errors
    /// `Unreachable` when the connection ends before; `Unfit` when it is more than was allowed.
    pub async fn need(&mut self, bytes: usize) -> Result<&[u8], Failure> {
        if bytes > self.most {
            return Err(unfit("the answer is larger than the limit"));
        }
        while self.inbox.len() - self.start < bytes {
            self.fill().await?;
        }
        Ok(&self.inbox[self.start..])
    }

    /// Waits for something to arrive.
    ///
    /// # Errors
    /// `Unreachable` when the connection ends instead.
    pub async fn fill(&mut self) -> Result<(), Failure> {
        if self.start > 0 {
            self.inbox.drain(..self.start);
            self.start = 0;
        }
        self.inbox.reserve(READ);
        match self.stream.read_buf(&mut self.inbox).await {
            Ok(0) => Err(unreachable("the store closed the connection")),
            Ok(_) => Ok(()),
            Err(error) => Err(unreachable(format!("the connection broke: {error}"))),
        }
    }

    /// What has arrived and was not taken.
    pub fn arrived(&self) -> &[u8] {
        &self.inbox[self.start..]
    }

    /// Takes so many bytes away, which must be there.
    pub fn take(&mut self, bytes: usize) {
        self.start += bytes;
        debug_assert!(self.start <= self.inbox.len(), "took what is not there");
        if self.start >= self.inbox.len() {
            self.inbox.clear();
            self.start = 0;
            // One large answer must not be paid for ever after.
            self.inbox.shrink_to(4 * READ);
        }
    }

    /// Whether nothing has arrived, nor the end.
    pub fn is_quiet(&mut self) -> bool {
        if self.start < self.inbox.len() {
            return false;
        }
        let mut byte = [0_u8; 1];
        let mut buffer = ReadBuf::new(&mut byte);
        let mut context = Context::from_waker(Waker::noop());
        Pin::new(&mut self.stream).poll_read(&mut context, &mut buffer).is_pending()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Gone => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Stream::Unix(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
            Stream::Gone => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Gone => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        let length = buffer.remaining().min(wire.inbox.len() - wire.start);
        if length > 0 {
            buffer.put_slice(&wire.inbox[wire.start..wire.start + length]);
            wire.take(length);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut wire.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
