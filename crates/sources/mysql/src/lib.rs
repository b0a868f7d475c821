//! MySQL and MariaDB as sources: `mysql://user@host:3306/database?sslmode=verify-full` (or `mariadb://`), or a socket:
//! `mysql://user@%2Frun%2Fmysqld%2Fmysqld.sock/shop`.
//!
//! The protocol is spoken here, since values are wanted as the store's own text, and changes as its binlog.
//! Read next: `connection.rs`, one connection; `feed.rs`, changes made by others.

#![forbid(unsafe_code)]

mod binlog;
mod cells;
mod connection;
mod feed;
pub mod fuzz;
mod login;
mod message;
mod moment;

use connection::{Begun, Connection, Layout, Server, Trouble};
use larder_source::{
    Answer, Checked, Driver, Failure, Feed, Limits, Parameter, Purpose, Request, Row, Rows, Template, Work,
};
use larder_source_net::sql::{Marked, marked, within, written_position};
use larder_source_net::{Address, Alone, Lease, Options, Place, Pool, Runtime, Tls, TlsMode, refused, unfit};
use message::{NEEDS_PREPARING, UNKNOWN_STATEMENT};
use ring::rand::{SecureRandom, SystemRandom};
use std::path::PathBuf;
use std::sync::Arc;

/// A MySQL or MariaDB server.
pub struct Mysql {
    server: Arc<Server>,
    pool: Arc<Pool<Connection>>,
    /// The one connection that writes in order.
    writer: Arc<Pool<Connection>>,
    alone: Alone,
    /// The number under which we are a replica.
    replica: u32,
}

/// Rows in a piece of a stream.
const PIECE: usize = 256;
/// Values that the protocol binds to one statement.
const VALUES_MAX: usize = 65_535;

/// Opens a source. Nothing is connected to yet.
///
/// # Errors
/// The URL or a certificate is wrong.
pub fn open(url: &str, options: &Options) -> Result<Arc<dyn Driver>, Failure> {
    let place = Place::parse(url)?;
    place.allow(&["sslmode", "ssl-mode", "server-id"])?;
    let host = if place.host.is_empty() { "localhost".to_owned() } else { place.host.clone() };
    let address = if host.starts_with('/') {
        Address::Unix(PathBuf::from(&host))
    } else {
        Address::Tcp(host.clone(), place.port.unwrap_or(3306))
    };
    let user = place.user.clone().or_else(|| options.user.clone());
    let user = user.ok_or_else(|| refused("a source on MySQL needs a user: mysql://USER@HOST/DATABASE"))?;
    let database = larder_source_net::decode(place.path.trim_start_matches('/'));
    let database = database.ok_or_else(|| refused("the name of the database is not UTF-8"))?;
    if database.is_empty() {
        return Err(refused("a source on MySQL needs a database: mysql://USER@HOST/DATABASE"));
    }
    let mode = place.tls_mode(options, &["sslmode", "ssl-mode"], TlsMode::Prefer)?;
    let server = Server {
        address,
        host,
        tls: Tls::new(mode, options)?,
        database,
        user,
        password: options.password.clone(),
        connect_timeout: options.connect_timeout,
        application: options.name.clone(),
        runtime: Runtime::get()?,
    };
    let replica = replica_number(&place, options)?;
    let (pool, writer) = (Pool::new(options.connections), Pool::new(1));
    Ok(Arc::new(Mysql { server: Arc::new(server), pool, writer, alone: Alone::default(), replica }))
}

/// No two replicas of a store may have one number: the store ends the older one. Without a given one it is random, and high.
fn replica_number(place: &Place, options: &Options) -> Result<u32, Failure> {
    let given = place.option("server-id").map(|text| text.parse::<u32>().ok().filter(|number| *number > 0));
    match given {
        Some(number) => number.ok_or_else(|| refused("server-id is a number from 1 to 4294967295")),
        None => {
            let mut random = [0_u8; 4];
            SystemRandom::new()
                .fill(&mut random)
                .map_err(|_| refused("the system gives no random numbers"))?;
            Ok(options.replica_id.unwrap_or(u32::from_le_bytes(random) | 1 << 31))
        }
    }
}

impl Mysql {
    async fn take(&self) -> Result<Lease<Connection>, Failure> {
        self.pool.take(|| Connection::open(&self.server)).await
    }

    /// Runs a query, and gives its rows so many at a time (0: all at once).
    async fn query(
        &self,
        request: &Request<'_>,
        piece: usize,
        give: &mut (dyn FnMut(&Layout, Vec<Row>) -> bool + Send),
    ) -> Result<(), Failure> {
        let marked = marked_to_bind(request.statement, request.parameters)?;
        let mut lease = self.take().await?;
        let mut is_second = false;
        loop {
            match query(&mut lease, &marked, request.limits, piece, give).await {
                Ok(is_whole) => {
                    if is_whole {
                        lease.rest();
                    }
                    return Ok(());
                }
                // Somebody between us and the server has another connection to it, or the table has changed too often.
                Err(Trouble::Answered(error))
                    if !is_second && matches!(error.code, UNKNOWN_STATEMENT | NEEDS_PREPARING) =>
                {
                    is_second = true;
                    lease.forget(&marked.sql).await?;
                }
                Err(trouble) => return Err(given_back(lease, trouble)),
            }
        }
    }
}

/// A connection whose answer was an error is as good as before.
fn given_back(lease: Lease<Connection>, trouble: Trouble) -> Failure {
    if matches!(trouble, Trouble::Answered(_)) {
        lease.rest();
    }
    trouble.plain()
}

/// The statement with marks, unless it has more than can be bound.
fn marked_to_bind<'a>(template: &Template, parameters: &'a [Parameter]) -> Result<Marked<'a>, Failure> {
    let marked = marked(template, parameters);
    if marked.values.len() > VALUES_MAX {
        return Err(unfit(format!("MySQL binds at most {VALUES_MAX} values to a statement")));
    }
    Ok(marked)
}

/// Every mark is one of ours.
fn matching(marks: usize, values: usize) -> Result<(), Failure> {
    if marks == values {
        return Ok(());
    }
    Err(refused("a '?' in the statement is a value to MySQL, and here values have names: $name"))
}

/// Whether all rows were read.
async fn query(
    connection: &mut Connection,
    marked: &Marked<'_>,
    limits: Limits,
    piece: usize,
    give: &mut (dyn FnMut(&Layout, Vec<Row>) -> bool + Send),
) -> Result<bool, Trouble> {
    let prepared = connection.prepare(&marked.sql).await?;
    matching(prepared.marks, marked.values.len())?;
    connection.allow(limits.bytes);
    let layout = match connection.execute(&prepared, &marked.values).await? {
        Begun::Rows(layout) => layout,
        Begun::Done(_) => {
            connection.pass_over().await?;
            return Err(refused("this statement answers no rows").into());
        }
    };
    let mut rows = Vec::new();
    let mut read = (0_usize, 0_usize);
    while connection.row().await? {
        let (row, bytes) = cells::read_row(connection.body(), &layout.types)?;
        read = (read.0 + 1, read.1.saturating_add(bytes));
        within(limits, read)?;
        rows.push(row);
        if rows.len() == piece && !give(&layout, std::mem::take(&mut rows)) {
            return Ok(false);
        }
    }
    connection.pass_over().await?;
    if !rows.is_empty() || piece == 0 {
        give(&layout, rows);
    }
    Ok(true)
}

impl Driver for Mysql {
    fn probe(&self) -> Work<'_, String> {
        Box::pin(async move {
            let mut lease = self.take().await?;
            if let Err(trouble) = lease.ping().await {
                return Err(given_back(lease, trouble));
            }
            let version = lease.greeting.version.clone();
            lease.rest();
            Ok(version)
        })
    }

    fn check<'a>(&'a self, statement: &'a Template, purpose: Purpose) -> Work<'a, Checked> {
        Box::pin(async move {
            let one = match purpose {
                Purpose::Batch => Parameter::List(vec![Parameter::Null]),
                Purpose::Load | Purpose::Write => Parameter::Null,
            };
            let values = vec![one; statement.names().len()];
            let marked = marked_to_bind(statement, &values)?;
            let mut lease = self.take().await?;
            // What was prepared before a table changed would still look right.
            lease.forget(&marked.sql).await?;
            let prepared = match lease.prepare(&marked.sql).await {
                Ok(prepared) => prepared,
                Err(Trouble::Answered(error)) => {
                    lease.rest();
                    let position = error.position(&marked.sql);
                    let position = position.map(|at| written(statement, &marked.sql, at));
                    return Err(Failure { position, ..error.failure() });
                }
                Err(trouble) => return Err(trouble.plain()),
            };
            lease.rest();
            matching(prepared.marks, marked.values.len())?;
            if purpose != Purpose::Write && prepared.layout.types.is_empty() {
                return Err(refused("this statement answers no rows").at(0));
            }
            let columns = prepared.layout.columns.to_vec();
            // Servers do not tell what they take.
            Ok(Checked { columns, parameters: vec![None; statement.names().len()] })
        })
    }

    fn load<'a>(&'a self, request: Request<'a>) -> Work<'a, Answer> {
        Box::pin(async move {
            let mut found = Rows::default();
            let mut give = |layout: &Layout, rows: Vec<Row>| {
                found = Rows { columns: Arc::clone(&layout.columns), rows };
                true
            };
            self.query(&request, 0, &mut give).await?;
            Ok(Answer::Rows { rows: found, fresh_ms: None, validator: None })
        })
    }

    fn write<'a>(&'a self, statements: &'a [(&'a Template, Vec<Parameter>)]) -> Work<'a, Vec<u64>> {
        Box::pin(async move { write(self.take().await?, statements).await })
    }

    fn write_in_order<'a>(
        &'a self,
        number: u64,
        statements: &'a [(&'a Template, Vec<Parameter>)],
    ) -> Work<'a, Vec<u64>> {
        Box::pin(async move {
            let mut lease = self.writer.take(|| Connection::open(&self.server)).await?;
            if lease.alone_as != Some(number) {
                self.alone.become_only(&mut *lease, number, &self.server.application).await?;
                // Also where nobody can be: it is not to be asked again over this connection.
                lease.alone_as = Some(number);
            }
            write(lease, statements).await
        })
    }

    fn stream<'a>(
        &'a self,
        request: Request<'a>,
        more: &'a mut (dyn FnMut(Rows) -> bool + Send),
    ) -> Work<'a, ()> {
        Box::pin(async move {
            let mut give =
                |layout: &Layout, rows: Vec<Row>| more(Rows { columns: Arc::clone(&layout.columns), rows });
            self.query(&request, PIECE, &mut give).await
        })
    }

    fn feed(&self) -> Option<&dyn Feed> {
        Some(self)
    }
}

/// The position in the statement as it was written that belongs to one of what was sent to be checked.
fn written(statement: &Template, sent: &str, at: usize) -> usize {
    // With brackets of the statement's own, marks have none.
    let is_bare = sent.len() == statement.render(|_| "?".to_owned()).len();
    written_position(statement, at, |_| if is_bare { "?".to_owned() } else { "(?)".to_owned() })
}

/// Writes, and gives the connection back.
async fn write(
    mut lease: Lease<Connection>,
    statements: &[(&Template, Vec<Parameter>)],
) -> Result<Vec<u64>, Failure> {
    let marked = statements.iter().map(|(template, values)| marked_to_bind(template, values));
    let marked = match marked.collect::<Result<Vec<_>, _>>() {
        Ok(marked) => marked,
        Err(failure) => {
            lease.rest();
            return Err(failure);
        }
    };
    match change_all(&mut lease, &marked).await {
        Ok(changed) => {
            lease.rest();
            Ok(changed)
        }
        Err(trouble) => Err(given_back(lease, trouble)),
    }
}

/// All statements in one transaction, which an error undoes.
async fn change_all(connection: &mut Connection, statements: &[Marked<'_>]) -> Result<Vec<u64>, Trouble> {
    for marked in statements {
        let prepared = connection.prepare(&marked.sql).await?;
        matching(prepared.marks, marked.values.len())?;
    }
    let is_one = statements.len() == 1;
    if !is_one {
        connection.ask("START TRANSACTION").await?;
    }
    let mut counts = Vec::with_capacity(statements.len());
    for marked in statements {
        match change(connection, marked).await {
            Ok(count) => counts.push(count),
            Err(Trouble::Answered(error)) => {
                if !is_one {
                    connection.ask("ROLLBACK").await?;
                }
                return Err(Trouble::Answered(error));
            }
            Err(trouble) => return Err(trouble),
        }
    }
    if !is_one {
        connection.ask("COMMIT").await?;
    }
    Ok(counts)
}

/// Runs one statement that changes the store; how many rows it changed.
async fn change(connection: &mut Connection, marked: &Marked<'_>) -> Result<u64, Trouble> {
    // Remembered, unless there are more than a connection keeps.
    let prepared = connection.prepare(&marked.sql).await?;
    connection.allow(0);
    let mut count = 0;
    match connection.execute(&prepared, &marked.values).await? {
        Begun::Done(changed) => count = changed,
        // With RETURNING each row that changed is answered.
        Begun::Rows(_) => {
            while connection.row().await? {
                count += 1;
            }
        }
    }
    connection.pass_over().await?;
    Ok(count)
}
