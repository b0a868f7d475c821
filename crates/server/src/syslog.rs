//! The system's log, beside the server's own (`syslog-enabled`): one datagram for each message, as syslog(3) sends it.
//!
//! Invariant: where nobody listens, messages are lost and nobody waits.

use std::io;
use std::os::unix::net::UnixDatagram;
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// Where the system listens.
const SOCKET: &str = "/dev/log";

/// Sends what is logged to the system.
#[derive(Debug)]
pub struct Syslog {
    socket: UnixDatagram,
    /// Stands before each message: the name and number of the process.
    tag: String,
    facility: u8,
}

impl Syslog {
    /// Messages of this name. `facility` is the place of the word in the option: user, then local0 to local7.
    ///
    /// # Errors
    /// The process has no socket to spare.
    pub fn new(ident: &[u8], facility: usize) -> io::Result<Syslog> {
        const USER: u8 = 1;
        const LOCAL0: u8 = 16;
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        let local = facility.checked_sub(1).and_then(|local| u8::try_from(local).ok());
        Ok(Syslog {
            socket,
            tag: String::from_utf8_lossy(ident).into_owned(),
            facility: local.map_or(USER, |local| LOCAL0 + local),
        })
    }

    fn message(&self, level: Level, text: &[u8]) -> Vec<u8> {
        // debug, verbose, notice and warning, as Redis gives them to the system; errors are warnings there.
        let severity = match level {
            Level::TRACE => 7,
            Level::DEBUG => 6,
            Level::INFO => 5,
            Level::WARN | Level::ERROR => 4,
        };
        let priority = self.facility << 3 | severity;
        // The number of the process is asked for each time: there was another one before it became a daemon.
        let mut message = format!("<{priority}>{}[{}]: ", self.tag, std::process::id()).into_bytes();
        message.extend_from_slice(text.trim_ascii());
        message
    }
}

/// One message on its way.
#[derive(Debug)]
pub struct Line<'a> {
    syslog: &'a Syslog,
    level: Level,
}

impl<'a> MakeWriter<'a> for Syslog {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { syslog: self, level: Level::INFO }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Line<'a> {
        Line { syslog: self, level: *meta.level() }
    }
}

impl io::Write for Line<'_> {
    /// A whole message, as the layer that formats it gives it.
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        // The log that is asked first is the server's own: this one may lose what it can't take.
        let _ = self.syslog.socket.send_to(&self.syslog.message(self.level, text), SOCKET);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_its_priority_and_who_sends_it() {
        let text = |facility, level| {
            let syslog = Syslog::new(b"cache", facility).expect("a socket");
            String::from_utf8(syslog.message(level, b" hello\n")).expect("text")
        };
        let own = std::process::id();
        assert_eq!(text(0, Level::INFO), format!("<13>cache[{own}]: hello"));
        assert_eq!(text(1, Level::WARN), format!("<132>cache[{own}]: hello"));
        assert_eq!(text(8, Level::TRACE), format!("<191>cache[{own}]: hello"));
    }
}
