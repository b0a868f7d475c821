//! Where a server listens, and a small blocking client for the questions asked outside the measured load.
//! Read next: `load.rs`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// An address to connect to.
#[derive(Clone, Debug)]
pub(crate) enum Endpoint {
    /// TCP, with Nagle's delay off.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

impl Endpoint {
    /// Port `port` of this machine's loopback.
    pub(crate) fn loopback(port: u16) -> Endpoint {
        Endpoint::Tcp(SocketAddr::from(([127, 0, 0, 1], port)))
    }

    /// Connects, and makes the socket non-blocking.
    pub(crate) fn connect_nonblocking(&self) -> Result<OwnedFd> {
        let described = || format!("cannot connect to {self}");
        match self {
            Endpoint::Tcp(address) => {
                let stream = TcpStream::connect(address).with_context(described)?;
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                Ok(OwnedFd::from(stream))
            }
            Endpoint::Unix(path) => {
                let stream = UnixStream::connect(path).with_context(described)?;
                stream.set_nonblocking(true)?;
                Ok(OwnedFd::from(stream))
            }
        }
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Endpoint::Tcp(address) => write!(f, "{address}"),
            Endpoint::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// One blocking RESP connection: a question, an answer. Nested answers are flattened into lines of text.
pub(crate) struct Asker {
    stream: BufReader<TcpStream>,
}

impl Asker {
    /// Connects to `port` on the loopback.
    pub(crate) fn connect(port: u16) -> Result<Asker> {
        let stream = TcpStream::connect(("127.0.0.1", port)).context("cannot connect")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(600)))?;
        Ok(Asker { stream: BufReader::new(stream) })
    }

    /// The reply to one command; an error reply is an `Err`.
    pub(crate) fn ask(&mut self, words: &[&str]) -> Result<String> {
        self.send(words)?;
        self.answer().with_context(|| format!("the answer to {}", words.join(" ")))
    }

    /// Sends a command and waits for nothing.
    pub(crate) fn send(&mut self, words: &[&str]) -> Result<()> {
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        Ok(self.stream.get_mut().write_all(request.as_bytes())?)
    }

    /// The reply to one memcached line, up to `END` or a single line.
    pub(crate) fn ask_memcached(&mut self, line: &str) -> Result<String> {
        self.stream.get_mut().write_all(format!("{line}\r\n").as_bytes())?;
        let mut answer = String::new();
        loop {
            let text = self.text_line()?;
            let more = text.starts_with("STAT ");
            if text != "END" {
                answer.push_str(&text);
                answer.push('\n');
            }
            if !more {
                return Ok(answer);
            }
        }
    }

    fn text_line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        if self.stream.read_until(b'\n', &mut line)? == 0 {
            bail!("the server closed the connection");
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    /// The next reply; an error reply is an `Err`.
    pub(crate) fn answer(&mut self) -> Result<String> {
        let line = self.text_line()?;
        let rest = line.get(1..).unwrap_or_default();
        match line.as_bytes().first() {
            Some(b'+' | b':') => Ok(rest.to_owned()),
            Some(b'-') => bail!("{rest}"),
            Some(b'$') => {
                let Ok(bytes) = rest.parse::<usize>() else { return Ok(String::new()) };
                let mut payload = vec![0; bytes + 2];
                self.stream.read_exact(&mut payload)?;
                payload.truncate(bytes);
                Ok(String::from_utf8_lossy(&payload).into_owned())
            }
            Some(b'*') => {
                let count = rest.parse::<usize>().unwrap_or(0);
                let parts = (0..count).map(|_| self.answer()).collect::<Result<Vec<_>>>()?;
                Ok(parts.join("\n"))
            }
            _ => bail!("not a reply: {line}"),
        }
    }
}

/// The value of `name:` in INFO's or `STAT name ` in memcached's text.
pub(crate) fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines().find_map(|line| {
        let line = line.strip_prefix("STAT ").unwrap_or(line).trim_end();
        line.strip_prefix(name)?.strip_prefix([':', ' '])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let info = "# Memory\r\nused_memory_rss:7\r\nused_memory:123\r\n";
        assert_eq!(field(info, "used_memory"), Some("123"));
        assert_eq!(field("STAT bytes 99\n", "bytes"), Some("99"));
        assert_eq!(field(info, "used"), None);
    }
}
