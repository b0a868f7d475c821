//! PostgreSQL as a source: `postgres://user@host:port/database?sslmode=verify-full`, or a socket: `postgres://%2Frun%2Fpostgresql/shop`.
//!
//! The protocol is spoken here, since values are wanted as PostgreSQL's own text, and changes as logical replication.
//! Read next: `connection.rs`, one connection; `feed.rs`, changes made by others.

#![forbid(unsafe_code)]

mod cells;
mod connection;
mod feed;
mod login;
mod message;
mod pgoutput;
mod sight;

use connection::{Connection, Prepared, Server, Trouble, changed, execute};
use larder_source::{
    Answer, Checked, Driver, Failure, Feed, Parameter, Purpose, Request, Row, Rows, Template, Work,
};
use larder_source_net::sql::{within, written_position};
use larder_source_net::{
    Address, Alone, Lease, Options, Place, Pool, Runtime, Tls, TlsMode, garbled, refused, unfit,
};
use message::{ErrorFields, Outbox};
use std::path::PathBuf;
use std::sync::Arc;

/// A PostgreSQL server.
pub struct Postgres {
    server: Arc<Server>,
    pool: Arc<Pool<Connection>>,
    /// The one connection that writes in order.
    writer: Arc<Pool<Connection>>,
    /// The one over which it is asked what others see.
    watcher: Arc<Pool<Connection>>,
    alone: Alone,
    /// Names the slot and the publication.
    name: String,
}

/// Rows in a piece of a stream.
const PIECE: usize = 256;

/// Opens a source. Nothing is connected to yet.
///
/// # Errors
/// The URL or a certificate is wrong.
pub fn open(url: &str, options: &Options) -> Result<Arc<dyn Driver>, Failure> {
    let place = Place::parse(url)?;
    place.allow(&["sslmode"])?;
    let host = if place.host.is_empty() { "localhost".to_owned() } else { place.host.clone() };
    let port = place.port.unwrap_or(5432);
    let address = if host.starts_with('/') {
        Address::Unix(PathBuf::from(format!("{host}/.s.PGSQL.{port}")))
    } else {
        Address::Tcp(host.clone(), port)
    };
    let user = place.user.clone().or_else(|| options.user.clone());
    let user =
        user.ok_or_else(|| refused("a source on PostgreSQL needs a user: postgres://USER@HOST/DATABASE"))?;
    let database = larder_source_net::decode(place.path.trim_start_matches('/'));
    let database = database.ok_or_else(|| refused("the name of the database is not UTF-8"))?;
    let mode = place.tls_mode(options, &["sslmode"], TlsMode::Prefer)?;
    let server = Server {
        address,
        host,
        tls: Tls::new(mode, options)?,
        database: if database.is_empty() { user.clone() } else { database },
        user,
        password: options.password.clone(),
        connect_timeout: options.connect_timeout,
        application: options.name.clone(),
        runtime: Runtime::get()?,
    };
    Ok(Arc::new(Postgres {
        server: Arc::new(server),
        pool: Pool::new(options.connections),
        writer: Pool::new(1),
        watcher: Pool::new(1),
        alone: Alone::default(),
        name: options.name.clone(),
    }))
}

fn mark(place: usize) -> String {
    format!("${}", place + 1)
}

impl Postgres {
    async fn take(&self) -> Result<Lease<Connection>, Failure> {
        self.pool.take(|| Connection::open(&self.server, false)).await
    }

    /// Runs a query, for at most so many rows at a time (0: all at once).
    async fn query(
        &self,
        request: &Request<'_>,
        piece: usize,
        give: &mut (dyn FnMut(&Prepared, Vec<Row>) -> bool + Send),
    ) -> Result<Arc<Prepared>, Failure> {
        let sql = request.statement.render(mark);
        let mut lease = self.take().await?;
        let mut is_second = false;
        loop {
            match query(&mut lease, &sql, request, piece, give).await {
                Ok(prepared) => {
                    lease.rest();
                    return Ok(prepared);
                }
                // The table has changed since, or somebody removed what was prepared.
                Err(Trouble::Answered(error))
                    if !is_second && matches!(error.code.as_str(), "0A000" | "26000") =>
                {
                    is_second = true;
                    if let Err(trouble) = lease.forget(&sql).await {
                        return Err(trouble.plain());
                    }
                }
                Err(trouble) => {
                    let is_answered = matches!(trouble, Trouble::Answered(_));
                    let failure = placed(trouble, &sql, request.statement);
                    if is_answered {
                        lease.rest();
                    }
                    return Err(failure);
                }
            }
        }
    }
}

/// The failure with its position in the statement as it was written.
fn placed(trouble: Trouble, sql: &str, statement: &Template) -> Failure {
    match trouble {
        Trouble::Answered(error) => error.failure(sql, |at| written_position(statement, at, mark)),
        Trouble::Failed(failure) => failure,
    }
}

async fn query(
    connection: &mut Connection,
    sql: &str,
    request: &Request<'_>,
    piece: usize,
    give: &mut (dyn FnMut(&Prepared, Vec<Row>) -> bool + Send),
) -> Result<Arc<Prepared>, Trouble> {
    let limits = request.limits;
    let prepared = connection.prepare(sql).await?;
    connection.allow(limits.bytes);
    let most = if piece == 0 { limits.rows.saturating_add(1) } else { piece };
    let most = u32::try_from(most).unwrap_or(0).min(i32::MAX as u32);
    let mut out = Outbox::default();
    prepared.bind(request.parameters, &mut out)?;
    execute(most, &mut out);
    // With a sync the portal would end before the next piece.
    if piece == 0 {
        out.sync()
    } else {
        out.message(b'H', |_| {})
    }
    connection.send(&out).await?;
    let mut rows = Vec::new();
    let mut read = (0_usize, 0_usize);
    loop {
        match connection.next().await? {
            b'D' => {
                let (row, bytes) = prepared.row(connection.body())?;
                read = (read.0 + 1, read.1.saturating_add(bytes));
                within(limits, read)?;
                rows.push(row);
            }
            b's' if piece == 0 => return Err(unfit(format!("more than {} rows", limits.rows)).into()),
            b's' => {
                let is_more = give(&prepared, std::mem::take(&mut rows));
                let mut out = Outbox::default();
                if is_more {
                    execute(most, &mut out);
                    out.message(b'H', |_| {});
                } else {
                    out.sync();
                }
                connection.send(&out).await?;
            }
            b'E' => {
                let error = ErrorFields::read(connection.body());
                if piece != 0 {
                    let mut out = Outbox::default();
                    out.sync();
                    connection.send(&out).await?;
                }
                connection.ready(Some(error)).await?;
                return Err(garbled("PostgreSQL forgot its error").into());
            }
            b'C' | b'I' if piece != 0 => {
                let mut out = Outbox::default();
                out.sync();
                connection.send(&out).await?;
            }
            b'Z' => {
                if !rows.is_empty() || piece == 0 {
                    give(&prepared, rows);
                }
                return Ok(prepared);
            }
            _ => {}
        }
    }
}

impl Driver for Postgres {
    fn probe(&self) -> Work<'_, String> {
        Box::pin(async move {
            let mut lease = self.take().await?;
            lease.ping().await?;
            let version = format!("PostgreSQL {}", lease.version);
            lease.rest();
            Ok(version)
        })
    }

    fn check<'a>(&'a self, statement: &'a Template, purpose: Purpose) -> Work<'a, Checked> {
        Box::pin(async move {
            let sql = statement.render(mark);
            let mut lease = self.take().await?;
            // What was prepared before a table changed would still look right.
            lease.forget(&sql).await.map_err(Trouble::plain)?;
            let prepared = match lease.prepare(&sql).await {
                Ok(prepared) => prepared,
                Err(trouble) => {
                    if matches!(trouble, Trouble::Answered(_)) {
                        lease.rest();
                    }
                    return Err(placed(trouble, &sql, statement));
                }
            };
            lease.rest();
            if purpose != Purpose::Write && prepared.columns.is_empty() {
                return Err(refused("this statement answers no rows").at(0));
            }
            let parameters = prepared.parameters.iter().map(|&oid| cells::parameter_type_of(oid));
            Ok(Checked { columns: prepared.columns.to_vec(), parameters: parameters.collect() })
        })
    }

    fn load<'a>(&'a self, request: Request<'a>) -> Work<'a, Answer> {
        Box::pin(async move {
            let mut rows = Vec::new();
            let mut give = |_: &Prepared, all: Vec<Row>| {
                rows = all;
                true
            };
            let prepared = self.query(&request, 0, &mut give).await?;
            let rows = Rows { columns: Arc::clone(&prepared.columns), rows };
            Ok(Answer::Rows { rows, fresh_ms: None, validator: None })
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
            let mut lease = self.writer.take(|| Connection::open(&self.server, false)).await?;
            if lease.alone_as != Some(number) {
                self.alone.become_only(&mut *lease, number, &self.name).await?;
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
            let mut give = |prepared: &Prepared, rows: Vec<Row>| {
                more(Rows { columns: Arc::clone(&prepared.columns), rows })
            };
            self.query(&request, PIECE, &mut give).await.map(|_| ())
        })
    }

    fn feed(&self) -> Option<&dyn Feed> {
        Some(self)
    }
}

/// Writes, and gives the connection back.
async fn write(
    mut lease: Lease<Connection>,
    statements: &[(&Template, Vec<Parameter>)],
) -> Result<Vec<u64>, Failure> {
    match change(&mut lease, statements).await {
        Ok(changed) => {
            lease.rest();
            Ok(changed)
        }
        Err(trouble) => {
            if matches!(trouble, Trouble::Answered(_)) {
                lease.rest();
            }
            Err(trouble.plain())
        }
    }
}

/// All statements between two syncs: one transaction, which an error undoes, in one round trip once they are prepared.
async fn change(
    connection: &mut Connection,
    statements: &[(&Template, Vec<Parameter>)],
) -> Result<Vec<u64>, Trouble> {
    let mut out = Outbox::default();
    for (template, _) in statements {
        let sql = template.render(mark);
        connection.prepare(&sql).await?;
    }
    for (template, parameters) in statements {
        // Remembered, unless there are more than a connection keeps.
        let prepared = connection.prepare(&template.render(mark)).await?;
        prepared.bind(parameters, &mut out)?;
        execute(0, &mut out);
    }
    out.sync();
    connection.send(&out).await?;
    let mut counts = Vec::with_capacity(statements.len());
    let mut error = None;
    loop {
        match connection.next().await? {
            b'C' => counts.push(changed(connection.body())),
            b'I' => counts.push(0),
            b'E' => error = Some(ErrorFields::read(connection.body())),
            b'Z' => break,
            _ => {}
        }
    }
    match error {
        Some(error) => Err(Trouble::Answered(error)),
        None => Ok(counts),
    }
}
