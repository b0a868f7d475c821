//! A SQLite file as a source: `sqlite:shop.db`, `sqlite:///var/lib/shop.db?mode=ro`.
//!
//! SQLite works in the thread that calls it, so each statement runs on a thread for work that blocks, over one of a few
//! connections that only read, or the one that writes. What is given up on is interrupted.
//! Invariant: the file is never created, and only `write` and the feed change it.
//! Read next: `feed.rs`, how changes made by others are seen; `cells.rs`, values and errors.

#![forbid(unsafe_code)]

mod cells;
mod connections;
mod feed;
mod lane;

use cells::{column_of, failure_in, failure_of};
use connections::{Connections, Stopper};
use lane::Lane;
use larder_source::{
    Answer, Checked, Column, Driver, Failure, Feed, Limits, Parameter, Purpose, Request, Row, Rows, Template,
    Work,
};
use larder_source_net::sql::{Marked, marked, written_position};
use larder_source_net::{Options, Runtime, decode, refused, unfit, unreachable};
use rusqlite::{Connection, Statement, TransactionBehavior};
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio::time::Instant;

/// A SQLite file.
pub struct Sqlite {
    file: Arc<Connections>,
    readers: Arc<Semaphore>,
    /// For queries of many keys.
    lane: Lane,
    writer: Arc<Mutex<()>>,
    runtime: Runtime,
    poll: Duration,
    /// Whether what was last run at once took long.
    is_slow: AtomicBool,
}

/// Values that can be bound to one statement (SQLITE_MAX_VARIABLE_NUMBER).
const VALUES_MAX: usize = 32_766;
/// How long a query of many keys waits for those before it.
const BATCH_WAITS: Duration = Duration::from_millis(8);
/// A query that was answered within this did not wait for a disk.
const QUICK: Duration = Duration::from_micros(200);
/// Rows in a piece of a stream.
const PIECE: usize = 256;

/// Opens a source. The file is looked at when it is first asked.
///
/// # Errors
/// The URL is wrong.
pub fn open(url: &str, options: &Options) -> Result<Arc<dyn Driver>, Failure> {
    Ok(Arc::new(Sqlite::new(url, options)?))
}

impl Sqlite {
    fn new(url: &str, options: &Options) -> Result<Sqlite, Failure> {
        let (path, read_only) = parse(url)?;
        Ok(Sqlite {
            file: Arc::new(Connections::new(path, read_only)),
            readers: Arc::new(Semaphore::new(options.connections.max(1))),
            lane: Lane::new(processors().saturating_sub(1).max(1)),
            is_slow: AtomicBool::new(false),
            writer: Arc::default(),
            runtime: Runtime::get()?,
            poll: options.poll.max(Duration::from_millis(1)),
        })
    }

    /// Runs work here and now, over a connection that is there, if it is done after few steps and waits for nobody. That
    /// saves handing it to a thread and back, which takes longer than finding a row. Nothing where it is to be begun anew elsewhere.
    /// What else this thread has to do is given to another one only where the disk may be waited for: that takes longer too.
    fn at_once<T>(&self, work: impl FnOnce(&Connection) -> Result<T, Failure>) -> Option<Result<T, Failure>> {
        let _place = self.readers.try_acquire().ok()?;
        let mut reader = self.file.take_idle_reader()?;
        reader.hurry().ok()?;
        let since = Instant::now();
        let done = if self.is_slow.load(Relaxed) {
            tokio::task::block_in_place(|| work(&reader.connection))
        } else {
            work(&reader.connection)
        };
        self.is_slow.store(since.elapsed() > QUICK, Relaxed);
        let is_to_begin_anew = done.as_ref().is_err_and(Failure::is_passing);
        reader.give_back(done.is_ok() || is_to_begin_anew, &self.file);
        (!is_to_begin_anew).then_some(done)
    }

    /// Runs work over a connection that reads, on a thread where it may block.
    async fn reading<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let (work, stopper) = self.over_reader(work).await?;
        let done = self.runtime.spawn_blocking(work).await;
        stopper.finished();
        done.map_err(|error| unreachable(format!("SQLite: {error}")))?
    }

    /// The same for queries of many keys.
    async fn reading_many<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let (work, stopper) = self.over_reader(work).await?;
        let done = self.lane.run(self.runtime, BATCH_WAITS, work).await;
        stopper.finished();
        done?
    }

    /// Work with the connection that it takes when it begins, and what stops it.
    async fn over_reader<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<(impl FnOnce() -> Result<T, Failure> + Send + 'static, Stopper), Failure> {
        let place = Arc::clone(&self.readers).acquire_owned().await;
        let place = place.map_err(|_| unreachable("the source is closed"))?;
        let (file, stopper) = (Arc::clone(&self.file), Stopper::new());
        let stop = stopper.flag();
        let work = move || {
            // Held until the connection is back, also when nobody waits any more.
            let _place = place;
            let mut reader = file.take_reader()?;
            reader.stop_when(stop)?;
            let done = work(&reader.connection);
            reader.give_back(done.is_ok(), &file);
            done
        };
        Ok((work, stopper))
    }
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

fn parse(url: &str) -> Result<(PathBuf, bool), Failure> {
    let wrong = |what: &str| refused(format!("the URL of a source: {what}"));
    let rest = url.split_once(':').map(|(_, rest)| rest).ok_or_else(|| wrong("sqlite:FILE"))?;
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let path = match path.strip_prefix("//") {
        None => path,
        Some(path) if path.starts_with('/') => path,
        Some(_) => return Err(wrong("sqlite:FILE, or sqlite:///FILE from the root")),
    };
    let path = decode(path).ok_or_else(|| wrong("the path is not UTF-8"))?;
    if path.is_empty() || path == ":memory:" {
        return Err(wrong("sqlite: must be followed by the path of a file"));
    }
    match query {
        "" | "mode=rw" => Ok((PathBuf::from(path), false)),
        "mode=ro" => Ok((PathBuf::from(path), true)),
        _ => Err(wrong("behind '?' there can be mode=ro or mode=rw")),
    }
}

impl Driver for Sqlite {
    fn probe(&self) -> Work<'_, String> {
        Box::pin(self.reading(|connection| {
            // Reads the file: until then SQLite takes anything for a database.
            let counted =
                connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0));
            counted.map_err(|error| failure_of(&error))?;
            Ok(format!("SQLite {}", rusqlite::version()))
        }))
    }

    fn check<'a>(&'a self, statement: &'a Template, purpose: Purpose) -> Work<'a, Checked> {
        let template = statement.clone();
        Box::pin(self.reading(move |connection| check(connection, &template, purpose)))
    }

    fn load<'a>(&'a self, request: Request<'a>) -> Work<'a, Answer> {
        Box::pin(async move {
            let answer = |rows: Rows| Answer::Rows { rows, fresh_ms: None, validator: None };
            let is_batch = request.parameters.iter().any(|value| matches!(value, Parameter::List(_)));
            let (statement, limits) = (request.statement, request.limits);
            if !is_batch
                && let Some(done) = self.at_once(|reader| all(reader, statement, request.parameters, limits))
            {
                return done.map(answer);
            }
            let (statement, parameters) = (statement.clone(), request.parameters.to_vec());
            let work = move |reader: &Connection| all(reader, &statement, &parameters, limits);
            let rows = if is_batch { self.reading_many(work).await } else { self.reading(work).await };
            rows.map(answer)
        })
    }

    fn write<'a>(&'a self, statements: &'a [(&'a Template, Vec<Parameter>)]) -> Work<'a, Vec<u64>> {
        Box::pin(async move {
            if self.file.read_only() {
                return Err(refused("the source is opened with mode=ro"));
            }
            let statements: Vec<_> =
                statements.iter().map(|(template, values)| ((*template).clone(), values.clone())).collect();
            let turn = Arc::clone(&self.writer).lock_owned().await;
            let (file, stopper) = (Arc::clone(&self.file), Stopper::new());
            let stop = stopper.flag();
            let task = self.runtime.spawn_blocking(move || {
                let _turn = turn;
                let mut writer = file.take_writer()?;
                writer.stop_when(stop)?;
                let done = write(&mut writer.connection, &statements);
                writer.give_back_writer(&file);
                done
            });
            let done = task.await;
            stopper.finished();
            done.map_err(|error| unreachable(format!("SQLite: {error}")))?
        })
    }

    fn stream<'a>(
        &'a self,
        request: Request<'a>,
        more: &'a mut (dyn FnMut(Rows) -> bool + Send),
    ) -> Work<'a, ()> {
        let (template, parameters, limits) =
            (request.statement.clone(), request.parameters.to_vec(), request.limits);
        Box::pin(async move {
            let (pieces, mut incoming) = mpsc::channel::<Rows>(2);
            let reading = self.reading(move |connection| {
                let mut held = Vec::new();
                let send = |columns: &Arc<[Column]>, rows: Vec<Row>| {
                    pieces.blocking_send(Rows { columns: Arc::clone(columns), rows }).is_ok()
                };
                let columns = query(connection, &template, &parameters, limits, &mut |columns, row| {
                    held.push(row);
                    held.len() < PIECE || send(columns, std::mem::take(&mut held))
                })?;
                if !held.is_empty() {
                    send(&columns, held);
                }
                Ok(())
            });
            let giving = async {
                while let Some(piece) = incoming.recv().await {
                    if !more(piece) {
                        // The sender sees that nobody listens, and stops.
                        incoming.close();
                        while incoming.recv().await.is_some() {}
                    }
                }
            };
            let (done, ()) = join(reading, giving).await;
            done
        })
    }

    fn feed(&self) -> Option<&dyn Feed> {
        (!self.file.read_only()).then_some(self as &dyn Feed)
    }
}

/// Both to their ends, side by side.
async fn join<A, B>(first: impl Future<Output = A>, second: impl Future<Output = B>) -> (A, B) {
    let (mut first, mut second) = (std::pin::pin!(first), std::pin::pin!(second));
    let (mut one, mut other) = (None, None);
    std::future::poll_fn(move |context| {
        use std::task::Poll;
        if one.is_none()
            && let Poll::Ready(value) = first.as_mut().poll(context)
        {
            one = Some(value);
        }
        if other.is_none()
            && let Poll::Ready(value) = second.as_mut().poll(context)
        {
            other = Some(value);
        }
        match (one.take(), other.take()) {
            (Some(one), Some(other)) => Poll::Ready((one, other)),
            (left, right) => {
                (one, other) = (left, right);
                Poll::Pending
            }
        }
    })
    .await
}

fn check(connection: &Connection, template: &Template, purpose: Purpose) -> Result<Checked, Failure> {
    let mark = |_: usize| if purpose == Purpose::Batch { "(?)".to_owned() } else { "?".to_owned() };
    let lists: Vec<Parameter> = match purpose {
        Purpose::Batch => template.names().iter().map(|_| Parameter::List(vec![Parameter::Null])).collect(),
        _ => template.names().iter().map(|_| Parameter::Null).collect(),
    };
    let sent = marked(template, &lists).sql;
    let at = |offset: usize| {
        // With brackets of the statement's own, marks have none.
        let bare = sent.len() == template.render(|_| "?".to_owned()).len();
        if bare {
            written_position(template, offset, |_| "?".to_owned())
        } else {
            written_position(template, offset, mark)
        }
    };
    let statement = connection.prepare(&sent).map_err(|error| failure_in(&error, &at))?;
    if purpose != Purpose::Write {
        if !statement.readonly() {
            return Err(refused("this statement changes the database, and is to read from it").at(0));
        }
        if statement.column_count() == 0 {
            return Err(refused("this statement answers no rows").at(0));
        }
    }
    Ok(Checked {
        columns: statement.columns().map(|column| column_of(&column)).collect(),
        parameters: vec![None; template.names().len()],
    })
}

/// All rows.
fn all(
    connection: &Connection,
    template: &Template,
    parameters: &[Parameter],
    limits: Limits,
) -> Result<Rows, Failure> {
    let mut rows = Vec::new();
    let columns = query(connection, template, parameters, limits, &mut |_, row| {
        rows.push(row);
        true
    })?;
    Ok(Rows { columns, rows })
}

/// Gives each row to `take`, until it answers false; the columns.
fn query(
    connection: &Connection,
    template: &Template,
    parameters: &[Parameter],
    limits: Limits,
    take: &mut dyn FnMut(&Arc<[Column]>, Row) -> bool,
) -> Result<Arc<[Column]>, Failure> {
    let failed = |error: rusqlite::Error| failure_of(&error);
    let marked = marked_to_bind(template, parameters)?;
    let mut statement = connection.prepare_cached(&marked.sql).map_err(failed)?;
    if !statement.readonly() {
        return Err(refused("this statement changes the database, and is to read from it"));
    }
    bind(&mut statement, &marked.values)?;
    let columns: Arc<[Column]> = statement.columns().map(|column| column_of(&column)).collect();
    let (mut count, mut bytes) = (0_usize, 0_usize);
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next().map_err(failed)? {
        count += 1;
        if count > limits.rows {
            return Err(unfit(format!("more than {} rows", limits.rows)));
        }
        let mut cells = Vec::with_capacity(columns.len());
        for (at, column) in columns.iter().enumerate() {
            let value = row.get_ref(at).map_err(failed)?;
            // Before it is copied.
            bytes = bytes.saturating_add(cells::size_of(value));
            if bytes > limits.bytes {
                return Err(unfit(format!("more than {} bytes", limits.bytes)));
            }
            cells.push(cells::cell_of(value, column));
        }
        if !take(&columns, cells.into()) {
            break;
        }
    }
    Ok(columns)
}

fn write(
    connection: &mut Connection,
    statements: &[(Template, Vec<Parameter>)],
) -> Result<Vec<u64>, Failure> {
    let failed = |error: rusqlite::Error| failure_of(&error);
    // Rolled back when it is dropped without a commit.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    let mut changed = Vec::with_capacity(statements.len());
    for (template, parameters) in statements {
        let marked = marked_to_bind(template, parameters)?;
        let mut statement = transaction.prepare_cached(&marked.sql).map_err(failed)?;
        bind(&mut statement, &marked.values)?;
        let before = transaction.total_changes();
        if statement.column_count() == 0 {
            changed.push(statement.raw_execute().map_err(failed)? as u64);
        } else {
            let mut rows = statement.raw_query();
            while rows.next().map_err(failed)?.is_some() {}
            drop(rows);
            // Changes by triggers are among them; only RETURNING leads here.
            changed.push(transaction.total_changes() - before);
        }
    }
    transaction.commit().map_err(failed)?;
    Ok(changed)
}

/// The statement with marks, unless it has more than can be bound.
fn marked_to_bind<'a>(template: &Template, parameters: &'a [Parameter]) -> Result<Marked<'a>, Failure> {
    let marked = marked(template, parameters);
    if marked.values.len() > VALUES_MAX {
        return Err(unfit(format!("SQLite binds at most {VALUES_MAX} values to a statement")));
    }
    Ok(marked)
}

fn bind(statement: &mut Statement<'_>, values: &[&Parameter]) -> Result<(), Failure> {
    let failed = |error: rusqlite::Error| failure_of(&error);
    for (at, value) in values.iter().enumerate() {
        let at = at + 1;
        let bound = match value {
            Parameter::Null => statement.raw_bind_parameter(at, rusqlite::types::Null),
            Parameter::Text(text) | Parameter::Uuid(text) => statement.raw_bind_parameter(at, &**text),
            Parameter::Bytes(bytes) => statement.raw_bind_parameter(at, &**bytes),
            Parameter::Integer(number) => statement.raw_bind_parameter(at, number),
            Parameter::Number(number) => statement.raw_bind_parameter(at, number),
            Parameter::List(_) => return Err(unfit("a list in a list")),
        };
        bound.map_err(failed)?;
    }
    Ok(())
}
