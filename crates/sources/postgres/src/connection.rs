//! One connection: how it begins, statements prepared once, and what they answer.
//!
//! Invariant: between two uses everything that was sent has been answered up to ReadyForQuery; what cannot be brought there is
//! cancelled on the server and closed.

use crate::cells;
use crate::login::{Scram, md5_answer};
use crate::message::{Body, ErrorFields, Outbox, put_text};
use larder_source::{Cell, Column, Failure, Parameter, Row};
use larder_source_net::{
    Address, Claim, Exclusive, Pooled, Runtime, Secret, Tls, TlsMode, Wire, garbled, refused, unreachable,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

/// Where the server is, and who asks.
pub struct Server {
    pub address: Address,
    pub host: String,
    pub tls: Tls,
    pub user: String,
    pub password: Option<Secret>,
    pub database: String,
    pub connect_timeout: Duration,
    pub application: String,
    pub runtime: Runtime,
}

/// What the server has prepared.
pub struct Prepared {
    name: String,
    pub parameters: Vec<u32>,
    pub columns: Arc<[Column]>,
    types: Vec<u32>,
}

/// A connection.
pub struct Connection {
    wire: Wire,
    server: Arc<Server>,
    key: (u32, u32),
    pub version: String,
    prepared: HashMap<String, Arc<Prepared>>,
    count: u64,
    /// The number under which it is the only one, or as good as.
    pub alone_as: Option<u64>,
    /// Bytes of the message that is being looked at.
    current: usize,
    /// It is of no use to cancel what runs.
    is_broken: bool,
}

/// How a statement failed: with the server's words, or without a connection.
pub enum Trouble {
    Answered(ErrorFields),
    Failed(Failure),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Trouble {
        Trouble::Failed(failure)
    }
}

impl Trouble {
    /// The failure, with no position.
    pub fn plain(self) -> Failure {
        match self {
            Trouble::Answered(fields) => Failure { position: None, ..fields.failure("", |at| at) },
            Trouble::Failed(failure) => failure,
        }
    }
}

/// Statements that a connection keeps prepared.
const PREPARED_MAX: usize = 256;
/// A message of the protocol itself: texts of errors, descriptions of rows.
const MESSAGE_MAX: usize = 1 << 20;

impl Connection {
    /// Connects and says who asks.
    pub async fn open(server: &Arc<Server>, is_replication: bool) -> Result<Connection, Failure> {
        let opened = timeout(server.connect_timeout, Connection::begin(server, is_replication)).await;
        opened.unwrap_or_else(|_| Err(unreachable("PostgreSQL did not greet in time")))
    }

    async fn begin(server: &Arc<Server>, is_replication: bool) -> Result<Connection, Failure> {
        let mut wire = connect(server).await?;
        let mut out = Outbox::default();
        out.bare(|body| {
            body.extend_from_slice(&196_608_u32.to_be_bytes());
            let mut pairs = vec![
                ("user", server.user.as_str()),
                ("database", server.database.as_str()),
                ("application_name", server.application.as_str()),
                ("client_encoding", "UTF8"),
                ("bytea_output", "hex"),
            ];
            pairs.extend(is_replication.then_some(("replication", "database")));
            for (name, value) in pairs {
                put_text(body, name);
                put_text(body, value);
            }
            body.push(0);
        });
        wire.set_most(MESSAGE_MAX);
        wire.send(out.bytes()).await?;
        let mut connection = Connection {
            wire,
            server: Arc::clone(server),
            key: (0, 0),
            version: String::new(),
            prepared: HashMap::new(),
            count: 0,
            alone_as: None,
            current: 0,
            is_broken: true,
        };
        connection.log_in().await?;
        connection.is_broken = false;
        Ok(connection)
    }

    async fn log_in(&mut self) -> Result<(), Failure> {
        let server = Arc::clone(&self.server);
        let password = || {
            let given = server.password.as_ref().map(Secret::reveal);
            given.ok_or_else(|| refused("PostgreSQL asks for a password, and the source has none"))
        };
        let mut scram: Option<Scram> = None;
        loop {
            let tag = self.next_of_any().await?;
            let mut body = Body(self.body());
            let mut answer = None;
            match tag {
                b'E' => return Err(Trouble::Answered(ErrorFields::read(body.0)).plain()),
                b'S' => {
                    let (name, value) = (body.text()?, body.text()?);
                    if name == "server_version" {
                        self.version = value.split(' ').next().unwrap_or_default().to_owned();
                    }
                }
                b'K' => self.key = (body.u32()?, body.u32()?),
                b'Z' => return Ok(()),
                b'R' => match body.u32()? {
                    0 => {}
                    3 if !self.wire.is_safe() => {
                        let what = "the store asks for the password as it is, over a connection that is not encrypted; \
                                    add sslmode=verify-full to the URL, or have the store use scram-sha-256";
                        return Err(refused(what));
                    }
                    3 => answer = Some(format!("{}\0", password()?)),
                    5 => answer = Some(format!("{}\0", md5_answer(&server.user, password()?, body.array()?))),
                    10 => {
                        let scram = scram.insert(Scram::new(password()?)?);
                        let first = scram.first();
                        let mut out = Outbox::default();
                        out.message(b'p', |body| {
                            put_text(body, "SCRAM-SHA-256");
                            body.extend_from_slice(&(first.len() as u32).to_be_bytes());
                            body.extend_from_slice(first.as_bytes());
                        });
                        self.wire.send(out.bytes()).await?;
                    }
                    step @ (11 | 12) => {
                        let text = std::str::from_utf8(body.0).map_err(|_| garbled("SCRAM without UTF-8"))?;
                        let scram = scram.as_mut().ok_or_else(|| garbled("SCRAM without a beginning"))?;
                        if step == 11 {
                            answer = Some(scram.last(text)?);
                        } else {
                            scram.verify(text)?;
                        }
                    }
                    other => {
                        return Err(refused(format!(
                            "PostgreSQL asks for a way to log in that is not known ({other})"
                        )));
                    }
                },
                _ => {}
            }
            if let Some(answer) = answer {
                let mut out = Outbox::default();
                out.message(b'p', |body| body.extend_from_slice(answer.as_bytes()));
                self.wire.send(out.bytes()).await?;
            }
        }
    }

    /// The next message's tag; its bytes are in `body` until the next call.
    async fn next_of_any(&mut self) -> Result<u8, Failure> {
        self.wire.take(std::mem::take(&mut self.current));
        let head: [u8; 5] = self.wire.need(5).await?[..5].try_into().expect("five bytes were needed");
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if length < 4 {
            return Err(garbled("PostgreSQL sent a message without a length"));
        }
        self.wire.need(1 + length).await?;
        self.current = 1 + length;
        Ok(head[0])
    }

    /// The same, without what may come at any time.
    pub async fn next(&mut self) -> Result<u8, Failure> {
        loop {
            let tag =
                self.next_of_any().await.inspect_err(|failure| self.is_broken = failure.is_passing())?;
            if !matches!(tag, b'N' | b'S' | b'A') {
                return Ok(tag);
            }
        }
    }

    /// What the message at hand holds.
    pub fn body(&self) -> &[u8] {
        self.wire.arrived().get(5..self.current).unwrap_or_default()
    }

    /// Whether more has arrived than the message at hand.
    pub fn has_more(&self) -> bool {
        self.wire.arrived().len() > self.current
    }

    pub async fn send(&mut self, out: &Outbox) -> Result<(), Failure> {
        self.wire.send(out.bytes()).await.inspect_err(|_| self.is_broken = true)
    }

    /// Allows answers of so many bytes, beside what the protocol needs.
    pub fn allow(&mut self, bytes: usize) {
        self.wire.set_most(bytes.saturating_add(MESSAGE_MAX));
    }

    /// Reads on until the server is ready; an error on the way is the result.
    pub async fn ready(&mut self, mut error: Option<ErrorFields>) -> Result<(), Trouble> {
        loop {
            match self.next().await? {
                b'Z' => return error.map_or(Ok(()), |error| Err(Trouble::Answered(error))),
                b'E' => error = Some(ErrorFields::read(self.body())),
                _ => {}
            }
        }
    }

    /// Asks for nothing, and waits for the answer.
    pub async fn ping(&mut self) -> Result<(), Failure> {
        let mut out = Outbox::default();
        out.sync();
        self.send(&out).await?;
        self.ready(None).await.map_err(Trouble::plain)
    }

    /// Has the server prepare a statement, or remembers that it has.
    pub async fn prepare(&mut self, sql: &str) -> Result<Arc<Prepared>, Trouble> {
        if let Some(prepared) = self.prepared.get(sql) {
            return Ok(Arc::clone(prepared));
        }
        if self.prepared.len() >= PREPARED_MAX {
            self.simple("DEALLOCATE ALL").await?;
            self.prepared.clear();
        }
        self.count += 1;
        let name = format!("larder_{}", self.count);
        let mut out = Outbox::default();
        out.message(b'P', |body| {
            put_text(body, &name);
            put_text(body, sql);
            body.extend_from_slice(&[0, 0]);
        });
        out.message(b'D', |body| {
            body.push(b'S');
            put_text(body, &name);
        });
        out.sync();
        self.send(&out).await?;
        let (mut parameters, mut columns, mut types) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            let tag = self.next().await?;
            let mut body = Body(self.body());
            match tag {
                b'E' => {
                    let error = ErrorFields::read(body.0);
                    self.ready(Some(error)).await?;
                }
                b't' => {
                    for _ in 0..body.i16()? {
                        parameters.push(body.u32()?);
                    }
                }
                b'T' => {
                    for _ in 0..body.i16()? {
                        let name = body.text()?;
                        body.bytes(6)?;
                        let oid = body.u32()?;
                        body.bytes(8)?;
                        columns.push(cells::column(name, oid));
                        types.push(oid);
                    }
                }
                b'Z' => break,
                _ => {}
            }
        }
        let prepared = Arc::new(Prepared { name, parameters, columns: columns.into(), types });
        self.prepared.insert(sql.to_owned(), Arc::clone(&prepared));
        Ok(prepared)
    }

    /// Forgets a statement that the server does not take any more, and has it removed there by the next message.
    pub async fn forget(&mut self, sql: &str) -> Result<(), Trouble> {
        if let Some(prepared) = self.prepared.remove(sql) {
            let mut out = Outbox::default();
            out.message(b'C', |body| {
                body.push(b'S');
                put_text(body, &prepared.name);
            });
            out.sync();
            self.send(&out).await?;
            self.ready(None).await?;
        }
        Ok(())
    }

    /// Asks something of our own; the first value of the last row, if there is one.
    pub async fn value(&mut self, sql: &str) -> Result<Option<String>, Trouble> {
        let mut out = Outbox::default();
        out.message(b'Q', |body| put_text(body, sql));
        self.send(&out).await?;
        let (mut value, mut error) = (None, None);
        loop {
            let tag = self.next().await?;
            let mut body = Body(self.body());
            match tag {
                b'D' if body.i16()? > 0 => {
                    let bytes =
                        usize::try_from(body.i32()?).ok().map(|length| body.bytes(length)).transpose()?;
                    value = bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
                }
                b'E' => error = Some(ErrorFields::read(body.0)),
                b'Z' => return error.map_or(Ok(value), |error| Err(Trouble::Answered(error))),
                _ => {}
            }
        }
    }

    /// Runs a statement of our own that answers nothing of interest.
    pub async fn simple(&mut self, sql: &str) -> Result<(), Trouble> {
        let mut out = Outbox::default();
        out.message(b'Q', |body| put_text(body, sql));
        self.send(&out).await?;
        self.ready(None).await
    }
}

/// By an advisory lock, which a session holds until it is over. It is over once it has done all that it was sent.
impl Exclusive for Connection {
    async fn claim(&mut self, number: u64) -> Result<Claim, Failure> {
        // Who stands between may give each transaction another session, and keep that with its lock for others.
        let process = self.key.0.to_string();
        let is_direct = self.value("SELECT pg_backend_pid()").await.map_err(Trouble::plain)?;
        if is_direct.as_deref() != Some(process.as_str()) {
            return Ok(Claim::Impossible(
                "it is reached by a pooler, and a lock would not be ours alone".to_owned(),
            ));
        }
        match self.value(&format!("SELECT pg_try_advisory_lock({})", lock_of(number))).await {
            Ok(Some(got)) if got == "t" => Ok(Claim::Ours),
            Ok(_) => Ok(Claim::Others),
            Err(trouble @ Trouble::Answered(_)) => {
                let failure = trouble.plain();
                if failure.is_passing() { Err(failure) } else { Ok(Claim::Impossible(failure.text)) }
            }
            Err(trouble) => Err(trouble.plain()),
        }
    }

    async fn end_other(&mut self, number: u64) -> Result<(), Failure> {
        let lock = lock_of(number);
        let end = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1 \
             AND (classid::bigint << 32 | objid::bigint) = {lock} AND pid <> pg_backend_pid() \
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        );
        self.value(&end).await.map(drop).map_err(Trouble::plain)
    }
}

/// The number of a lock, in SQL.
fn lock_of(number: u64) -> String {
    format!("'{}'::bigint", number.cast_signed())
}

impl Prepared {
    /// Writes the messages that bind values to the unnamed portal.
    pub fn bind(&self, values: &[Parameter], out: &mut Outbox) -> Result<(), Failure> {
        let texts = values.iter().map(cells::text_of).collect::<Result<Vec<_>, _>>()?;
        out.message(b'B', |body| {
            put_text(body, "");
            put_text(body, &self.name);
            // All values and all columns as text.
            body.extend_from_slice(&[0, 0]);
            body.extend_from_slice(&(texts.len() as u16).to_be_bytes());
            for text in texts {
                match text {
                    None => body.extend_from_slice(&(-1_i32).to_be_bytes()),
                    Some(text) => {
                        body.extend_from_slice(&(text.len() as u32).to_be_bytes());
                        body.extend_from_slice(text.as_bytes());
                    }
                }
            }
            body.extend_from_slice(&[0, 0]);
        });
        Ok(())
    }

    /// A row, and how many bytes its values have.
    pub fn row(&self, body: &[u8]) -> Result<(Row, usize), Failure> {
        let mut body = Body(body);
        let count = usize::from(body.i16()? as u16);
        let mut row: Vec<Cell> = Vec::with_capacity(count.min(self.types.len()));
        let mut bytes = 0;
        for at in 0..count {
            let oid = self
                .types
                .get(at)
                .copied()
                .ok_or_else(|| garbled("a row with more columns than were told"))?;
            match usize::try_from(body.i32()?) {
                Err(_) => row.push(Cell::Null),
                Ok(length) => {
                    let cell = cells::cell_of(body.bytes(length)?, oid)?;
                    bytes += cell.size();
                    row.push(cell);
                }
            }
        }
        Ok((row.into(), bytes))
    }
}

/// Runs what is bound, for so many rows at most (0: all).
pub fn execute(rows: u32, out: &mut Outbox) {
    out.message(b'E', |body| {
        put_text(body, "");
        body.extend_from_slice(&rows.to_be_bytes());
    });
}

/// How many rows a command changed: the last word of its tag.
pub fn changed(tag: &[u8]) -> u64 {
    let text = tag.split(|&byte| byte == 0).next().unwrap_or_default();
    let word = text.rsplit(|&byte| byte == b' ').next().unwrap_or_default();
    std::str::from_utf8(word).ok().and_then(|word| word.parse().ok()).unwrap_or(0)
}

async fn connect(server: &Server) -> Result<Wire, Failure> {
    let mut wire = Wire::connect(&server.address).await?;
    if server.tls.mode() == TlsMode::Off || matches!(server.address, Address::Unix(_)) {
        return Ok(wire);
    }
    let mut out = Outbox::default();
    out.bare(|body| body.extend_from_slice(&80_877_103_u32.to_be_bytes()));
    wire.send(out.bytes()).await?;
    let answer = wire.need(1).await?[0];
    wire.take(1);
    match answer {
        b'S' => wire.encrypt(&server.tls, &server.host).await?,
        _ if server.tls.mode() == TlsMode::Prefer => {}
        _ => return Err(refused("PostgreSQL does not encrypt, and the source wants it")),
    }
    Ok(wire)
}

impl Pooled for Connection {
    fn is_quiet(&mut self) -> bool {
        self.wire.take(std::mem::take(&mut self.current));
        self.wire.is_quiet()
    }

    fn abandon(self, place: OwnedSemaphorePermit) {
        if self.is_broken {
            return;
        }
        let runtime = self.server.runtime;
        runtime.spawn(async move {
            let cancel = async {
                let mut wire = connect(&self.server).await?;
                let mut out = Outbox::default();
                out.bare(|body| {
                    body.extend_from_slice(&80_877_102_u32.to_be_bytes());
                    body.extend_from_slice(&self.key.0.to_be_bytes());
                    body.extend_from_slice(&self.key.1.to_be_bytes());
                });
                wire.send(out.bytes()).await?;
                // It closes when it has passed the request on.
                wire.need(1).await.map(|_| ())
            };
            // A server that cannot be reached now has noticed, or will, that the connection is gone.
            let _ = timeout(self.server.connect_timeout, cancel).await;
            drop(place);
        });
    }
}
