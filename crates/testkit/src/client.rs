//! A blocking RESP2/RESP3 client that hides nothing: raw bytes in, every value out as it was sent.
//! Invariant: it reads exactly one value per `read`, so pushes and missing replies stay visible.
//! Read next: `value.rs`.

use crate::value::Value;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// How long a reply may take before the client gives up, unless told otherwise.
pub const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the server may take to close a connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// One connection to a server.
pub struct Client {
    reader: BufReader<TcpStream>,
    stream: TcpStream,
}

impl Client {
    /// Connects to `host:port`; the connection speaks RESP2 until `hello` says otherwise.
    pub fn connect(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
        stream.set_write_timeout(Some(REPLY_TIMEOUT))?;
        Ok(Self { reader: BufReader::with_capacity(64 * 1024, stream.try_clone()?), stream })
    }

    /// Connects and switches to a protocol version, 2 or 3. Version 2 sends nothing.
    pub fn connect_with(address: &str, protocol: u8) -> io::Result<Self> {
        let mut client = Self::connect(address)?;
        if protocol == 3 {
            let reply = client.command(&["HELLO", "3"])?;
            if reply.is_error() {
                return Err(io::Error::other(format!("HELLO 3: {}", reply.text())));
            }
        }
        Ok(client)
    }

    /// Changes how long `read` waits.
    pub fn set_reply_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(timeout))
    }

    /// Sends a command and reads one value.
    pub fn command<A: AsRef<[u8]>>(&mut self, args: &[A]) -> io::Result<Value> {
        self.send(args)?;
        self.read()
    }

    /// Sends a command written as words separated by spaces, and reads one value.
    pub fn run(&mut self, line: &str) -> io::Result<Value> {
        self.command(&line.split_ascii_whitespace().collect::<Vec<_>>())
    }

    /// Sends a command without reading anything.
    pub fn send<A: AsRef<[u8]>>(&mut self, args: &[A]) -> io::Result<()> {
        self.send_raw(&encode(args))
    }

    /// Sends bytes as they are.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends bytes and reads `replies` values at the same time, so that neither side's full buffer
    /// stops the other.
    pub fn pipeline_raw(&mut self, bytes: &[u8], replies: usize) -> io::Result<Vec<Value>> {
        let mut writer = self.stream.try_clone()?;
        std::thread::scope(|scope| {
            let sent = scope.spawn(move || writer.write_all(bytes));
            let values = (0..replies).map(|_| self.read()).collect();
            sent.join().expect("the writer does not panic")?;
            values
        })
    }

    /// Sends all commands at once and reads a value for each.
    pub fn pipeline<A: AsRef<[u8]>>(&mut self, commands: &[Vec<A>]) -> io::Result<Vec<Value>> {
        let bytes: Vec<u8> = commands.iter().flat_map(|args| encode(args)).collect();
        self.pipeline_raw(&bytes, commands.len())
    }

    /// Tells the server that no more requests come; replies can still be read.
    pub fn half_close(&self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    /// Whether the server has closed the connection, or does so soon.
    pub fn is_closed(&mut self) -> bool {
        self.set_reply_timeout(CLOSE_TIMEOUT).ok();
        let closed = match self.reader.fill_buf() {
            Ok(bytes) => bytes.is_empty(),
            Err(error) => is_disconnect(&error),
        };
        self.set_reply_timeout(REPLY_TIMEOUT).ok();
        closed
    }

    /// Reads one value if it begins to arrive within a time.
    pub fn read_within(&mut self, time: Duration) -> io::Result<Option<Value>> {
        if self.reader.buffer().is_empty() {
            self.set_reply_timeout(time)?;
            let arrived = self.reader.fill_buf().map(|_| ());
            self.set_reply_timeout(REPLY_TIMEOUT)?;
            match arrived {
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Ok(None);
                }
                arrived => arrived?,
            }
        }
        self.read().map(Some)
    }

    /// Reads one value of any type.
    pub fn read(&mut self) -> io::Result<Value> {
        let line = self.read_line()?;
        let (&sign, rest) = line.split_first().ok_or_else(|| invalid("an empty line"))?;
        match sign {
            b'+' => Ok(Value::Simple(rest.to_vec())),
            b'-' => Ok(Value::Error(rest.to_vec())),
            b':' => Ok(Value::Integer(number(rest)?)),
            b',' => Ok(Value::Double(rest.to_vec())),
            b'(' => Ok(Value::BigNumber(rest.to_vec())),
            b'#' => Ok(Value::Boolean(rest == b"t")),
            b'_' => Ok(Value::Null),
            b'$' if rest == b"-1" => Ok(Value::NilBulk),
            b'*' if rest == b"-1" => Ok(Value::NilArray),
            b'$' => Ok(Value::Bulk(self.read_bytes(rest)?)),
            b'!' => Ok(Value::BlobError(self.read_bytes(rest)?)),
            b'=' => Ok(Value::Verbatim(self.read_bytes(rest)?)),
            b'*' => Ok(Value::Array(self.read_items(rest)?)),
            b'~' => Ok(Value::Set(self.read_items(rest)?)),
            b'>' => Ok(Value::Push(self.read_items(rest)?)),
            b'%' => Ok(Value::Map(self.read_pairs(rest)?)),
            b'|' => Ok(Value::Attribute(self.read_pairs(rest)?, Box::new(self.read()?))),
            other => Err(invalid(&format!("type byte {other:#04x}"))),
        }
    }

    /// A line up to its CRLF: redis-server leaves single line feeds of arguments in some errors.
    fn read_line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        loop {
            if self.reader.read_until(b'\n', &mut line)? == 0 {
                return Err(if line.is_empty() {
                    ErrorKind::UnexpectedEof.into()
                } else {
                    invalid("a line without CRLF")
                });
            }
            if let Some(text) = line.strip_suffix(b"\r\n") {
                return Ok(text.to_vec());
            }
        }
    }

    fn read_bytes(&mut self, length: &[u8]) -> io::Result<Vec<u8>> {
        let length = usize::try_from(number(length)?).map_err(|_| invalid("a negative length"))?;
        let mut bytes = vec![0; length + 2];
        self.reader.read_exact(&mut bytes)?;
        if !bytes.ends_with(b"\r\n") {
            return Err(invalid("a bulk string without CRLF"));
        }
        bytes.truncate(length);
        Ok(bytes)
    }

    fn read_items(&mut self, count: &[u8]) -> io::Result<Vec<Value>> {
        (0..number(count)?).map(|_| self.read()).collect()
    }

    fn read_pairs(&mut self, count: &[u8]) -> io::Result<Vec<(Value, Value)>> {
        (0..number(count)?).map(|_| Ok((self.read()?, self.read()?))).collect()
    }
}

/// A command as RESP bytes.
pub fn encode<A: AsRef<[u8]>>(args: &[A]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        let arg = arg.as_ref();
        bytes.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        bytes.extend_from_slice(arg);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// Whether an error means that the other side is gone, rather than slow or wrong.
pub fn is_disconnect(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

fn number(text: &[u8]) -> io::Result<i64> {
    let text = std::str::from_utf8(text).map_err(|_| invalid("a number that is not text"))?;
    text.parse().map_err(|_| invalid(&format!("the number {text:?}")))
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("the server sent {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn client_that_reads(bytes: &'static [u8]) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let client = Client::connect(&address).unwrap();
        listener.accept().unwrap().0.write_all(bytes).unwrap();
        client
    }

    #[test]
    fn every_resp3_type_is_read() {
        let mut client = client_that_reads(
            b"|1\r\n+a\r\n:1\r\n%1\r\n$1\r\nk\r\n~2\r\n#t\r\n_\r\n>1\r\n=5\r\ntxt:x\r\n\
              !3\r\nERR\r\n,1.50\r\n(123\r\n",
        );
        let map = Value::Map(vec![(
            Value::Bulk(b"k".to_vec()),
            Value::Set(vec![Value::Boolean(true), Value::Null]),
        )]);
        let attributes = vec![(Value::Simple(b"a".to_vec()), Value::Integer(1))];
        assert_eq!(client.read().unwrap(), Value::Attribute(attributes, Box::new(map)));
        assert_eq!(client.read().unwrap(), Value::Push(vec![Value::Verbatim(b"txt:x".to_vec())]));
        assert_eq!(client.read().unwrap(), Value::BlobError(b"ERR".to_vec()));
        assert_eq!(client.read().unwrap(), Value::Double(b"1.50".to_vec()));
        assert_eq!(client.read().unwrap(), Value::BigNumber(b"123".to_vec()));
        assert!(client.is_closed());
    }

    #[test]
    fn nonsense_is_an_error_and_not_a_value() {
        assert!(client_that_reads(b"?1\r\n").read().is_err());
        assert!(client_that_reads(b"$3\r\nabcd\r\n").read().is_err());
        assert!(client_that_reads(b":1x\r\n").read().is_err());
    }
}
