//! One connection: greeting, commands, replies.
//!
//! Invariant: what a reply announces is not room that is made; depth, elements and bytes are limited.

use crate::reply::Reply;
use larder_source::{Failure, Limits};
use larder_source_net::{Address, Pooled, Secret, Tls, TlsMode, Wire, garbled, unfit, unreachable};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

/// Where the server is, and who asks.
pub struct Server {
    pub address: Address,
    pub host: String,
    pub tls: Tls,
    pub user: Option<String>,
    pub password: Option<Secret>,
    pub database: u32,
    pub name: String,
    pub connect_timeout: Duration,
}

/// A connection.
pub struct Connection {
    wire: Wire,
    left: Limits,
    limits: Limits,
    /// Server and version.
    pub who: String,
    pub is_resp3: bool,
}

/// Arrays in arrays.
const DEPTH: usize = 8;
/// A line: a length, a number, an error.
const LINE_MAX: usize = 64 << 10;

impl Connection {
    pub async fn open(server: &Arc<Server>) -> Result<Connection, Failure> {
        let opened = timeout(server.connect_timeout, Connection::begin(server)).await;
        opened.unwrap_or_else(|_| {
            let is_encrypted = server.tls.mode() != TlsMode::Off;
            // A server that speaks plainly waits for the end of the line that a handshake seems to begin.
            let hint = if is_encrypted { "; does it speak TLS at this port?" } else { "" };
            Err(unreachable(format!("the server did not greet in time{hint}")))
        })
    }

    async fn begin(server: &Server) -> Result<Connection, Failure> {
        let mut wire = Wire::connect(&server.address).await?;
        wire.encrypt(&server.tls, &server.host).await?;
        let limits = Limits { rows: 10_000, bytes: 1 << 20 };
        let mut connection = Connection { wire, left: limits, limits, who: String::new(), is_resp3: false };
        connection.greet(server).await?;
        if server.database != 0 {
            connection.own(&["SELECT", &server.database.to_string()]).await?.or_error()?;
        }
        Ok(connection)
    }

    /// RESP3, or RESP2 with a server that has nothing else.
    async fn greet(&mut self, server: &Server) -> Result<(), Failure> {
        let user = server.user.as_deref().unwrap_or("default");
        let mut hello = vec!["HELLO", "3"];
        if let Some(password) = &server.password {
            hello.extend(["AUTH", user, password.reveal()]);
        }
        hello.extend(["SETNAME", &server.name]);
        let reply = self.own(&hello).await?;
        if let Reply::Map(flat) = &reply {
            self.is_resp3 = true;
            let field =
                |name: &str| flat.chunks(2).find(|pair| pair[0].text().as_deref() == Some(name))?[1].text();
            self.who =
                [field("server"), field("version")].into_iter().flatten().collect::<Vec<_>>().join(" ");
            return Ok(());
        }
        if let Reply::Error(text) = &reply
            && !text.starts_with("NOPROTO")
            && !text.starts_with("ERR unknown command")
        {
            reply.or_error()?;
        }
        if let Some(password) = &server.password {
            let with_user = [Some("AUTH"), server.user.as_deref(), Some(password.reveal())];
            let words: Vec<&str> = with_user.into_iter().flatten().collect();
            self.own(&words).await?.or_error()?;
        }
        self.who = "Redis with RESP2".to_owned();
        Ok(())
    }

    /// A command of our own, and its reply.
    pub async fn own(&mut self, words: &[&str]) -> Result<Reply, Failure> {
        self.send(&[words.iter().map(|word| word.as_bytes().to_vec()).collect()]).await?;
        self.reply().await
    }

    pub async fn send(&mut self, commands: &[Vec<Vec<u8>>]) -> Result<(), Failure> {
        let mut out = Vec::new();
        for words in commands {
            out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
            for word in words {
                out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
                out.extend_from_slice(word);
                out.extend_from_slice(b"\r\n");
            }
        }
        self.wire.send(&out).await
    }

    /// How much all replies until the next call may have.
    pub fn allow(&mut self, limits: Limits) {
        // A row has several elements, and is found to be too many only when it is made.
        self.limits = limits;
        self.left =
            Limits { rows: limits.rows.saturating_mul(64).saturating_add(1 << 16), bytes: limits.bytes };
    }

    /// The next reply that is no push.
    pub async fn reply(&mut self) -> Result<Reply, Failure> {
        loop {
            match self.any().await? {
                Reply::Push(_) => {}
                reply => return Ok(reply),
            }
        }
    }

    /// The next reply or push.
    pub async fn any(&mut self) -> Result<Reply, Failure> {
        self.read(0).await
    }

    /// Waits until something arrives, or the time comes.
    pub async fn wait_until(&mut self, until: tokio::time::Instant) -> Result<(), Failure> {
        if !self.wire.arrived().is_empty() {
            return Ok(());
        }
        // Nothing is lost when the time comes first: what was read is in the inbox.
        tokio::time::timeout_at(until, self.wire.fill()).await.unwrap_or(Ok(()))
    }

    fn read(&mut self, depth: usize) -> Pin<Box<dyn Future<Output = Result<Reply, Failure>> + Send + '_>> {
        Box::pin(async move {
            if depth > DEPTH {
                return Err(unfit("a reply with arrays in too many arrays"));
            }
            let line = self.line().await?;
            let (&kind, rest) =
                line.split_first().ok_or_else(|| garbled("an empty line in place of a reply"))?;
            let number = || -> Result<i64, Failure> {
                let text = std::str::from_utf8(rest).ok().and_then(|text| text.parse().ok());
                text.ok_or_else(|| garbled("a length that is no number"))
            };
            Ok(match kind {
                b'+' => Reply::Simple(rest.to_vec()),
                b'(' => Reply::Bulk(rest.to_vec()),
                b'-' => Reply::Error(String::from_utf8_lossy(rest).into_owned()),
                b':' => Reply::Integer(number()?),
                b'_' => Reply::Null,
                b'#' => Reply::Boolean(rest == b"t"),
                b',' => Reply::Double(double(rest)?),
                b'$' | b'=' | b'!' => match usize::try_from(number()?) {
                    Err(_) => Reply::Null,
                    Ok(length) => {
                        let bytes = self.bulk(length).await?;
                        match kind {
                            b'!' => Reply::Error(String::from_utf8_lossy(&bytes).into_owned()),
                            b'=' => Reply::Bulk(bytes.get(4..).unwrap_or_default().to_vec()),
                            _ => Reply::Bulk(bytes),
                        }
                    }
                },
                b'*' | b'~' | b'%' | b'>' | b'|' => match usize::try_from(number()?) {
                    Err(_) => Reply::Null,
                    Ok(count) => {
                        let count = if matches!(kind, b'%' | b'|') { count.saturating_mul(2) } else { count };
                        let items = self.items(count, depth).await?;
                        match kind {
                            b'%' => Reply::Map(items),
                            b'>' => Reply::Push(items),
                            // Attributes stand before the reply that they belong to.
                            b'|' => return self.read(depth).await,
                            _ => Reply::Array(items),
                        }
                    }
                },
                other => {
                    return Err(garbled(format!("a reply of the unknown kind {}", other.escape_ascii())));
                }
            })
        })
    }

    async fn items(&mut self, count: usize, depth: usize) -> Result<Vec<Reply>, Failure> {
        let limit = self.limits.rows;
        self.left.rows =
            self.left.rows.checked_sub(count).ok_or_else(|| unfit(format!("more than {limit} rows")))?;
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(self.read(depth + 1).await?);
        }
        Ok(items)
    }

    async fn bulk(&mut self, length: usize) -> Result<Vec<u8>, Failure> {
        let limit = self.limits.bytes;
        self.left.bytes =
            self.left.bytes.checked_sub(length).ok_or_else(|| unfit(format!("more than {limit} bytes")))?;
        let bytes = self.wire.need(length + 2).await?[..length].to_vec();
        self.wire.take(length + 2);
        Ok(bytes)
    }

    async fn line(&mut self) -> Result<Vec<u8>, Failure> {
        let mut from = 0;
        loop {
            let arrived = self.wire.arrived();
            if let Some(at) = arrived[from..].iter().position(|&byte| byte == b'\n') {
                let end = from + at;
                let line = arrived[..end].strip_suffix(b"\r").unwrap_or(&arrived[..end]).to_vec();
                self.wire.take(end + 1);
                return Ok(line);
            }
            from = arrived.len();
            if from > LINE_MAX {
                return Err(garbled("a line without an end"));
            }
            self.wire.fill().await?;
        }
    }
}

fn double(text: &[u8]) -> Result<f64, Failure> {
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    number.ok_or_else(|| garbled("a number that is none"))
}

impl Pooled for Connection {
    fn is_quiet(&mut self) -> bool {
        let limits = Limits { rows: 10_000, bytes: 1 << 20 };
        (self.left, self.limits) = (limits, limits);
        self.wire.is_quiet()
    }

    fn abandon(self, _: OwnedSemaphorePermit) {
        // Closing is all that ends a command; none of those that read takes long.
    }
}
