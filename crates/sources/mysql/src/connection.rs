//! One connection: how it begins, statements prepared once, and what they answer.
//!
//! Invariant: between two uses everything that was sent has been answered; what cannot be brought there is ended on the server and
//! closed.

use crate::cells::{self, Type};
use crate::login::{Asked, CACHING, CLEAR, Greeting, Login, NATIVE, can, proof, put_head};
use crate::message::{Body, NO_SUCH_THREAD, PACKET_MAX, ServerError, frame};
use larder_source::{Column, Failure, Parameter};
use larder_source_net::{
    Address, Claim, Exclusive, Pooled, Runtime, Secret, Tls, TlsMode, Wire, garbled, refused, unfit,
    unreachable,
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

/// The columns of an answer.
#[derive(Debug, Default)]
pub struct Layout {
    pub columns: Arc<[Column]>,
    pub types: Vec<Type>,
    /// As the server told it, to see whether it is the same again.
    told: Vec<u8>,
}

/// What the server has prepared.
pub struct Prepared {
    id: u32,
    /// How many values it takes.
    pub marks: usize,
    pub layout: Arc<Layout>,
}

/// What running a statement began with.
pub enum Begun {
    /// Rows follow.
    Rows(Arc<Layout>),
    /// It is done, and changed so many rows.
    Done(u64),
}

/// A connection.
pub struct Connection {
    wire: Wire,
    server: Arc<Server>,
    pub greeting: Greeting,
    is_extended: bool,
    prepared: HashMap<String, Arc<Prepared>>,
    /// The number under which it is the only one, or as good as.
    pub alone_as: Option<u64>,
    /// The number that the next packet has.
    number: u8,
    /// Bytes in the wire of the packet that is being looked at.
    current: usize,
    /// What came in several packets.
    joined: Vec<u8>,
    is_joining: bool,
    is_joined: bool,
    /// How long a payload may be.
    most: usize,
    /// Of the last answer.
    status: u16,
    /// It is of no use to end what runs.
    is_broken: bool,
}

/// How a statement failed: with the server's words, or without a connection.
#[derive(Debug)]
pub enum Trouble {
    Answered(ServerError),
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
            Trouble::Answered(error) => error.failure(),
            Trouble::Failed(failure) => failure,
        }
    }
}

/// Statements that a connection keeps prepared.
const PREPARED_MAX: usize = 256;
/// A packet of the protocol itself: texts of errors, descriptions of columns.
const MESSAGE_MAX: usize = 1 << 20;
/// Descriptions of all columns of an answer.
const LAYOUT_MAX: usize = 8 << 20;
/// Rows and bytes that a question of our own may be answered with.
const ASKED_ROWS_MAX: usize = 100_000;
const ASKED_BYTES_MAX: usize = 64 << 20;
/// More follows than one answer.
const MORE_RESULTS: u16 = 8;

mod command {
    pub const QUERY: u8 = 3;
    pub const PING: u8 = 14;
    pub const PREPARE: u8 = 22;
    pub const EXECUTE: u8 = 23;
    pub const CLOSE: u8 = 25;
}

impl Connection {
    /// Connects and says who asks.
    pub async fn open(server: &Arc<Server>) -> Result<Connection, Failure> {
        let opened = timeout(server.connect_timeout, Connection::begin(server)).await;
        opened.unwrap_or_else(|_| Err(unreachable("the store did not greet in time")))
    }

    async fn begin(server: &Arc<Server>) -> Result<Connection, Failure> {
        let wire = Wire::connect(&server.address).await?;
        let mut connection = Connection {
            wire,
            server: Arc::clone(server),
            greeting: Greeting::default(),
            is_extended: false,
            prepared: HashMap::new(),
            alone_as: None,
            number: 0,
            current: 0,
            joined: Vec::new(),
            is_joining: false,
            is_joined: false,
            most: MESSAGE_MAX,
            status: 0,
            is_broken: true,
        };
        connection.log_in().await.map_err(Trouble::plain)?;
        connection.is_broken = false;
        // Whatever the server's configuration says of connections: texts are UTF-8, and what is written stays.
        let agreed = connection.ask("SET NAMES utf8mb4, autocommit = 1").await;
        agreed.map_err(Trouble::plain)?;
        Ok(connection)
    }

    async fn log_in(&mut self) -> Result<(), Trouble> {
        self.next().await?;
        self.greeting = Greeting::read(self.body())?;
        let server = Arc::clone(&self.server);
        let encrypts = self.greeting.can & can::SSL != 0 && !matches!(server.address, Address::Unix(_));
        let wants = match server.tls.mode() {
            TlsMode::Off => false,
            TlsMode::Prefer => encrypts,
            _ if matches!(server.address, Address::Unix(_)) => false,
            _ if !encrypts => {
                return Err(refused("the store does not encrypt, and the source wants it").into());
            }
            _ => true,
        };
        let agreed = self.greeting.agreed(wants, !server.database.is_empty());
        self.is_extended = agreed.1 & can::EXTENDED_METADATA != 0;
        let mut head = Vec::new();
        put_head(&mut head, agreed, MESSAGE_MAX.max(PACKET_MAX));
        if wants {
            self.send(&head).await?;
            self.wire.take(std::mem::take(&mut self.current));
            self.wire.encrypt(&server.tls, &server.host).await?;
        }
        let password = server.password.as_ref().map_or("", Secret::reveal);
        let mut plugin = match self.greeting.plugin.as_str() {
            CACHING => CACHING.to_owned(),
            _ => NATIVE.to_owned(),
        };
        let mut scramble = std::mem::take(&mut self.greeting.scramble);
        let first = proof(&plugin, password, &scramble).unwrap_or_default();
        let login = Login {
            user: &server.user,
            proof: &first,
            database: &server.database,
            plugin: &plugin,
            program: &server.application,
        };
        login.put(&mut head, agreed.0);
        self.send(&head).await?;
        // Each step is asked at most once by an honest server.
        for _ in 0..8 {
            if self.next().await? == 0 {
                self.done()?;
                return Ok(());
            }
            match Asked::read(self.body())? {
                Asked::Known => {}
                Asked::Other { plugin: other, scramble: new } => {
                    (plugin, scramble) = (other, new);
                    match proof(&plugin, password, &scramble) {
                        Some(proof) => self.send(&proof).await?,
                        None if plugin == CLEAR => self.send_password(password).await?,
                        None => {
                            return Err(refused(format!(
                                "the store asks for a way to log in that is not known ('{plugin}'); \
                                 mysql_native_password and caching_sha2_password are"
                            ))
                            .into());
                        }
                    }
                }
                Asked::Password => self.send_password(password).await?,
            }
        }
        Err(garbled("logging in does not end").into())
    }

    /// The password as it is, over what nobody else reads.
    async fn send_password(&mut self, password: &str) -> Result<(), Failure> {
        if !self.wire.is_safe() {
            return Err(refused(
                "the store asks for the password as it is, over a connection that is not encrypted; \
                 add sslmode=verify-full to the URL, and have the store offer TLS",
            ));
        }
        let mut out = password.as_bytes().to_vec();
        out.push(0);
        self.send(&out).await
    }

    /// Sends a payload that answers what came last.
    async fn send(&mut self, payload: &[u8]) -> Result<(), Failure> {
        let mut out = Vec::with_capacity(payload.len() + 4);
        self.number = frame(payload, self.number, &mut out);
        self.wire.send(&out).await.inspect_err(|_| self.is_broken = true)
    }

    /// Sends a command.
    pub async fn command(&mut self, payload: &[u8]) -> Result<(), Failure> {
        self.number = 0;
        self.send(payload).await
    }

    /// Allows payloads of so many bytes, beside what the protocol needs.
    pub fn allow(&mut self, bytes: usize) {
        self.most = bytes.saturating_add(MESSAGE_MAX);
    }

    /// The next payload's first byte; all of it is in `body` until the next call. An error that the server tells is one here.
    /// What has been read stays when this is given up and called again.
    pub async fn next(&mut self) -> Result<u8, Trouble> {
        let read = self.read().await;
        read.inspect_err(|failure| self.is_broken = failure.is_passing())?;
        match self.body() {
            [] => Err(garbled("the store sent an empty packet").into()),
            [0xff, rest @ ..] => Err(Trouble::Answered(ServerError::read(rest))),
            [first, ..] => Ok(*first),
        }
    }

    async fn read(&mut self) -> Result<(), Failure> {
        self.wire.take(std::mem::take(&mut self.current));
        if !self.is_joining {
            self.joined = Vec::new();
            self.is_joined = false;
        }
        loop {
            let head: [u8; 4] = self.wire.need(4).await?[..4].try_into().expect("four bytes were needed");
            let length = u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize;
            if head[3] != self.number {
                return Err(garbled("a packet of the store is missing, or came twice"));
            }
            if self.joined.len().saturating_add(length) > self.most {
                return Err(unfit("the answer is larger than the limit"));
            }
            let is_last = length < PACKET_MAX;
            let arrived = self.wire.need(4 + length).await?;
            if is_last && !self.is_joining {
                self.current = 4 + length;
            } else {
                self.joined.extend_from_slice(&arrived[4..4 + length]);
                self.wire.take(4 + length);
                self.is_joining = !is_last;
                self.is_joined = true;
            }
            self.number = self.number.wrapping_add(1);
            if is_last {
                return Ok(());
            }
        }
    }

    /// What came last.
    pub fn body(&self) -> &[u8] {
        if self.is_joined {
            return &self.joined;
        }
        self.wire.arrived().get(4..self.current).unwrap_or_default()
    }

    /// The end of rows or of descriptions.
    fn is_end(&self) -> bool {
        matches!(self.body(), [0xfe, ..] if self.body().len() < 9)
    }

    /// Reads that a statement is done: how many rows it changed.
    fn done(&mut self) -> Result<u64, Failure> {
        let mut body = Body(self.body());
        body.u8()?;
        let changed = body.counter()?;
        body.counter()?;
        self.status = body.u16()?;
        Ok(changed)
    }

    /// Reads the end of rows.
    fn ended(&mut self) -> Result<(), Failure> {
        let mut body = Body(self.body());
        body.bytes(3)?;
        self.status = body.u16()?;
        Ok(())
    }

    /// Asks for nothing, and waits for the answer.
    pub async fn ping(&mut self) -> Result<(), Trouble> {
        self.command(&[command::PING]).await?;
        if self.next().await? != 0 {
            return Err(garbled("the store does not answer to what it was asked").into());
        }
        self.done()?;
        Ok(())
    }

    /// Has the server prepare a statement, or remembers that it has.
    pub async fn prepare(&mut self, sql: &str) -> Result<Arc<Prepared>, Trouble> {
        if let Some(prepared) = self.prepared.get(sql) {
            return Ok(Arc::clone(prepared));
        }
        if self.prepared.len() >= PREPARED_MAX {
            let all: Vec<String> = self.prepared.keys().cloned().collect();
            for sql in all {
                self.forget(&sql).await?;
            }
        }
        self.most = MESSAGE_MAX;
        self.command(&[&[command::PREPARE], sql.as_bytes()].concat()).await?;
        if self.next().await? != 0 {
            return Err(
                garbled("the store says neither that a statement is prepared nor that it is not").into()
            );
        }
        let mut body = Body(self.body());
        body.u8()?;
        let id = body.u32()?;
        let (columns, marks) = (usize::from(body.u16()?), usize::from(body.u16()?));
        // What marks are is not told truly.
        for _ in 0..if marks > 0 { marks + 1 } else { 0 } {
            self.next().await?;
        }
        let layout = if columns > 0 { self.layout(columns, None).await? } else { Arc::default() };
        let prepared = Arc::new(Prepared { id, marks, layout });
        self.prepared.insert(sql.to_owned(), Arc::clone(&prepared));
        Ok(prepared)
    }

    /// Reads descriptions of columns. They are most often what they were.
    async fn layout(&mut self, columns: usize, known: Option<&Arc<Layout>>) -> Result<Arc<Layout>, Trouble> {
        let (mut told, mut ends) = (Vec::new(), Vec::new());
        for _ in 0..columns {
            self.next().await?;
            told.extend_from_slice(self.body());
            ends.push(told.len());
            if told.len() > LAYOUT_MAX {
                return Err(unfit("the descriptions of the columns are too long").into());
            }
        }
        self.next().await?;
        if !self.is_end() {
            return Err(garbled("descriptions of columns do not end").into());
        }
        self.ended()?;
        if let Some(known) = known.filter(|known| known.told == told) {
            return Ok(Arc::clone(known));
        }
        let (mut names, mut types, mut start) = (Vec::new(), Vec::new(), 0);
        for end in ends {
            let (column, told) = cells::read_column(&told[start..end], self.is_extended)?;
            names.push(column);
            types.push(told);
            start = end;
        }
        Ok(Arc::new(Layout { columns: names.into(), types, told }))
    }

    /// Forgets a statement, here and on the server.
    pub async fn forget(&mut self, sql: &str) -> Result<(), Failure> {
        if let Some(prepared) = self.prepared.remove(sql) {
            // It is not answered.
            let mut out = vec![command::CLOSE];
            out.extend_from_slice(&prepared.id.to_le_bytes());
            self.command(&out).await?;
        }
        Ok(())
    }

    /// Runs a statement that was prepared.
    pub async fn execute(&mut self, prepared: &Prepared, values: &[&Parameter]) -> Result<Begun, Trouble> {
        let mut out = vec![command::EXECUTE];
        out.extend_from_slice(&prepared.id.to_le_bytes());
        // No cursor; once.
        out.extend_from_slice(&[0, 1, 0, 0, 0]);
        cells::put_values(values, &mut out)?;
        self.command(&out).await?;
        self.begun(Some(&prepared.layout)).await
    }

    async fn begun(&mut self, known: Option<&Arc<Layout>>) -> Result<Begun, Trouble> {
        match self.next().await? {
            0 => Ok(Begun::Done(self.done()?)),
            0xfb => Err(garbled("the store asks for a file, which nobody offered").into()),
            _ => {
                let columns = Body(self.body()).length()?;
                // Tables have 4,096 columns at most.
                if columns > usize::from(u16::MAX) {
                    return Err(garbled("an answer with too many columns").into());
                }
                Ok(Begun::Rows(self.layout(columns, known).await?))
            }
        }
    }

    /// Whether there is another row, which is in `body` then.
    pub async fn row(&mut self) -> Result<bool, Trouble> {
        self.next().await?;
        if self.is_end() {
            self.ended()?;
            return Ok(false);
        }
        Ok(true)
    }

    /// Reads what a procedure answers besides.
    pub async fn pass_over(&mut self) -> Result<(), Trouble> {
        while self.status & MORE_RESULTS != 0 {
            if let Begun::Rows(_) = self.begun(None).await? {
                while self.row().await? {}
            }
        }
        Ok(())
    }

    /// Asks something of our own: rows of texts.
    pub async fn ask(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>, Trouble> {
        self.most = ASKED_BYTES_MAX;
        self.command(&[&[command::QUERY], sql.as_bytes()].concat()).await?;
        let mut rows = Vec::new();
        let mut size = 0;
        if let Begun::Rows(layout) = self.begun(None).await? {
            while self.row().await? {
                let mut body = Body(self.body());
                let mut row = Vec::with_capacity(layout.types.len());
                for _ in &layout.types {
                    if body.0.first() == Some(&0xfb) {
                        body.u8()?;
                        row.push(None);
                        continue;
                    }
                    row.push(Some(String::from_utf8_lossy(body.counted()?).into_owned()));
                }
                size += self.body().len();
                rows.push(row);
                if rows.len() > ASKED_ROWS_MAX || size > ASKED_BYTES_MAX {
                    return Err(unfit("the store answers too much").into());
                }
            }
        }
        self.pass_over().await?;
        Ok(rows)
    }
}

/// By a lock with a name, which a session holds until it is over. It is over once what it was sent is done or undone.
impl Exclusive for Connection {
    async fn claim(&mut self, number: u64) -> Result<Claim, Failure> {
        match self.ask(&format!("SELECT GET_LOCK('{}', 0)", lock_of(number))).await {
            Ok(rows) => Ok(if first(rows).as_deref() == Some("1") { Claim::Ours } else { Claim::Others }),
            Err(trouble @ Trouble::Answered(_)) => {
                let failure = trouble.plain();
                if failure.is_passing() { Err(failure) } else { Ok(Claim::Impossible(failure.text)) }
            }
            Err(trouble) => Err(trouble.plain()),
        }
    }

    async fn end_other(&mut self, number: u64) -> Result<(), Failure> {
        let rows = self.ask(&format!("SELECT IS_USED_LOCK('{}')", lock_of(number))).await;
        let Some(thread) = first(rows.map_err(Trouble::plain)?) else { return Ok(()) };
        match self.ask(&format!("KILL {thread}")).await {
            // It has ended by itself.
            Err(Trouble::Answered(error)) if error.code == NO_SUCH_THREAD => Ok(()),
            done => done.map(drop).map_err(Trouble::plain),
        }
    }
}

fn first(rows: Vec<Vec<Option<String>>>) -> Option<String> {
    rows.into_iter().next()?.into_iter().next()?
}

fn lock_of(number: u64) -> String {
    format!("larder-{number:016x}")
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
        let (server, thread) = (Arc::clone(&self.server), self.greeting.thread);
        self.server.runtime.spawn(async move {
            let cancel = async {
                let mut other = Connection::begin(&server).await?;
                // That it has ended by itself is no failure.
                other.ask(&format!("KILL {thread}")).await.map_err(Trouble::plain)
            };
            // A server that cannot be reached now has noticed, or will, that the connection is gone.
            let _ = timeout(server.connect_timeout, cancel).await;
            drop((self, place));
        });
    }
}
