//! Changes made by anybody, by logical replication: a publication of the tables and a slot, both named after the source.
//!
//! The slot keeps the server's log from the last confirmed position on. A position is confirmed only some seconds after it was told, so
//! that a follower that is killed before it has noted the position can still go on from the one it noted before.
//! A change is told at once, and that everybody sees it when that is so (`sight.rs`): what was loaded in between is old.
//! Invariants: the slot is never older than the publication, since the server could not decode what lies between. No position is
//! told, nor confirmed, before all that was told up to it is seen.

use crate::Postgres;
use crate::connection::{Connection, Trouble};
use crate::message::{Body, Outbox, put_text};
use crate::pgoutput::{Read, Reader};
use crate::sight::{self, Snapshot};
use larder_source::{Answer, Driver};
use larder_source::{
    Cell, Failure, FailureKind, Feed, Language, Limits, Position, Request, Rows, Template, Told, Work,
};
use larder_source_net::{refused, unreachable, unsupported};
use std::convert::Infallible;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// How often the server is asked whether there is more: how old "nothing further" may be.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// How long after it was told a position is confirmed, and how often the publication is looked at.
const CONFIRM_EVERY: Duration = Duration::from_secs(5);
/// A server that has said nothing for so long, though it was asked, is gone.
const SILENCE: Duration = Duration::from_secs(15);
/// The pause before it is asked again what is seen; it doubles up to the other while nothing is.
const LOOK_FIRST: Duration = Duration::from_millis(2);
const LOOK_MAX: Duration = Duration::from_millis(50);
/// How long following is put off for transactions that were under way when it began. They are committed most often within a moment;
/// for one that takes longer everything is dropped once more when it is over.
const OLDER_WAIT: Duration = Duration::from_millis(100);
/// Stands for all of those; numbers of transactions in the stream are shorter.
const OLDER: u64 = 1 << 32;
/// How often, and how soon again, a slot that is still in use is tried to be removed.
const REMOVALS: usize = 20;
const REMOVE_AGAIN: Duration = Duration::from_millis(100);
/// A change may be as large as a row can be.
const MESSAGE_MAX: usize = 1 << 30;

impl Feed for Postgres {
    fn follow<'a>(
        &'a self,
        tables: &'a [String],
        from: Option<Position>,
        tell: &'a mut (dyn FnMut(Told) + Send),
    ) -> Work<'a, Infallible> {
        Box::pin(async move {
            let from = from.and_then(|position| lsn(&position.0));
            let publication = self.publish(tables).await?;
            let mut connection = Connection::open(&self.server, true).await?;
            let slot = self.slot(&mut connection, publication == Publication::New).await?;
            let kept = from.filter(|&from| {
                publication == Publication::Same && slot.confirmed.is_some_and(|confirmed| confirmed <= from)
            });
            if kept.is_none() {
                tell(Told::Gap);
            }
            // A commit before the slot is not told, and may not be seen yet: of those whose numbers are less than this.
            let older = if kept.is_none() { self.look(sight::NEXT).await?.parse().unwrap_or(0) } else { 0 };
            let start = kept.unwrap_or(0);
            let command = format!(
                "START_REPLICATION SLOT {} LOGICAL {} (proto_version '1', publication_names {})",
                identifier(&self.name),
                lsn_text(start),
                literal(&identifier(&self.name))
            );
            // What was committed until now is still to be told, where the feed goes on from before.
            let past = "SELECT (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() \
                ELSE pg_current_wal_flush_lsn() END)::text WHERE $name <> ''";
            let past = first_text(&self.ask(past, &self.name).await?).and_then(|text| lsn(&text));
            begin_copy(&mut connection, &command).await?;
            let reached = start.max(slot.confirmed.unwrap_or(0));
            Following {
                driver: self,
                connection,
                tables,
                reader: Reader::default(),
                past: Some(past.unwrap_or(0)),
                read: reached,
                reached,
                confirmed: reached,
                unseen: Vec::new(),
                older: (older > 0).then_some(older),
                older_until: Some(Instant::now() + OLDER_WAIT),
                look_at: Instant::now(),
                pause: LOOK_FIRST,
            }
            .run(tell)
            .await
        })
    }

    fn remove(&self) -> Work<'_, ()> {
        Box::pin(async move {
            let slot = "SELECT pg_drop_replication_slot(slot_name)::text FROM pg_replication_slots \
                WHERE slot_name = $name AND database = current_database()";
            // The server may still be about to notice that nobody reads the slot any more.
            for left in (0..REMOVALS).rev() {
                match self.ask(slot, &self.name).await {
                    Ok(_) => break,
                    Err(failure) if left == 0 || failure.kind == FailureKind::Unreachable => {
                        return Err(failure);
                    }
                    Err(_) => sleep(REMOVE_AGAIN).await,
                }
            }
            let mut lease = self.take().await?;
            let drop = format!("DROP PUBLICATION IF EXISTS {}", identifier(&self.name));
            lease.simple(&drop).await.map_err(Trouble::plain)?;
            lease.rest();
            Ok(())
        })
    }
}

/// What became of the publication.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Publication {
    Same,
    /// It has other tables than before, so their changes may have been missed.
    Altered,
    New,
}

/// A slot: where it is, if it was there before.
struct Slot {
    confirmed: Option<u64>,
}

impl Postgres {
    /// Asks over a connection that no load keeps busy.
    async fn look(&self, sql: &str) -> Result<String, Failure> {
        let asked = async {
            let mut lease = self.watcher.take(|| Connection::open(&self.server, false)).await?;
            let value = lease.value(sql).await;
            if !matches!(value, Err(Trouble::Failed(_))) {
                lease.rest();
            }
            Ok(value.map_err(Trouble::plain)?.unwrap_or_default())
        };
        let asked = timeout(SILENCE, asked).await;
        asked.unwrap_or_else(|_| Err(unreachable("PostgreSQL does not tell what is seen")))
    }

    /// Asks the server something about ourselves: rows of texts.
    async fn ask(&self, sql: &str, name: &str) -> Result<Rows, Failure> {
        let statement = Template::parse(sql, Language::Sql).map_err(|misfit| refused(misfit.to_string()))?;
        let parameters = [larder_source::Parameter::Text(name.into())];
        let limits = Limits { rows: 100_000, bytes: 64 << 20 };
        let request = Request { statement: &statement, parameters: &parameters, validator: None, limits };
        match self.load(request).await? {
            Answer::Rows { rows, .. } => Ok(rows),
            Answer::Unchanged { .. } => Ok(Rows::default()),
        }
    }

    /// Sees to it that the tables are published.
    async fn publish(&self, tables: &[String]) -> Result<Publication, Failure> {
        let level =
            self.ask("SELECT setting FROM pg_settings WHERE name = 'wal_level' AND $name <> ''", &self.name);
        if first_text(&level.await?).as_deref() != Some("logical") {
            return Err(unsupported(
                "PostgreSQL tells of changes only with wal_level = logical in its configuration",
            ));
        }
        let wanted = wanted(tables);
        let there =
            self.ask("SELECT pubname::text FROM pg_publication WHERE pubname = $name", &self.name).await?;
        let list =
            wanted.iter().map(|(schema, table)| format!("{}.{}", identifier(schema), identifier(table)));
        let list = list.collect::<Vec<_>>().join(", ");
        let name = identifier(&self.name);
        let (command, outcome) = if there.rows.is_empty() {
            let command = format!(
                "CREATE PUBLICATION {name} FOR TABLE {list} WITH (publish_via_partition_root = true)"
            );
            (command, Publication::New)
        } else if self.published().await? == wanted {
            return Ok(Publication::Same);
        } else {
            (format!("ALTER PUBLICATION {name} SET TABLE {list}"), Publication::Altered)
        };
        let mut lease = self.take().await?;
        match lease.simple(&command).await {
            Ok(()) => {
                lease.rest();
                Ok(outcome)
            }
            Err(trouble) => {
                if matches!(trouble, Trouble::Answered(_)) {
                    lease.rest();
                }
                Err(trouble.plain())
            }
        }
    }

    /// Which tables are published, in order.
    async fn published(&self) -> Result<Vec<(String, String)>, Failure> {
        let query =
            "SELECT schemaname::text, tablename::text FROM pg_publication_tables WHERE pubname = $name";
        let rows = self.ask(query, &self.name).await?;
        let mut tables: Vec<_> =
            rows.rows.iter().filter_map(|row| Some((cell_text(&row[0])?, cell_text(&row[1])?))).collect();
        tables.sort_unstable();
        Ok(tables)
    }

    /// Sees to it that the slot is there.
    async fn slot(&self, connection: &mut Connection, is_to_be_new: bool) -> Result<Slot, Failure> {
        let query = "SELECT coalesce(confirmed_flush_lsn::text, ''), coalesce(wal_status, ''), active::text, plugin::text, \
            (database = current_database())::text FROM pg_replication_slots WHERE slot_name = $name";
        let found = self.ask(query, &self.name).await?;
        if let Some(row) = found.rows.first() {
            let text = |at: usize| cell_text(&row[at]).unwrap_or_default();
            if text(3) != "pgoutput" || text(4) != "true" {
                return Err(refused(format!("the replication slot {} belongs to something else", self.name)));
            }
            if text(1) != "lost" && !is_to_be_new {
                return Ok(Slot { confirmed: lsn(&text(0)) });
            }
            let drop = format!("DROP_REPLICATION_SLOT {} WAIT", identifier(&self.name));
            if text(2) == "true" {
                return Err(Failure::new(FailureKind::Busy, format!("the slot {} is in use", self.name)));
            }
            connection.simple(&drop).await.map_err(Trouble::plain)?;
        }
        let create =
            format!("CREATE_REPLICATION_SLOT {} LOGICAL pgoutput NOEXPORT_SNAPSHOT", identifier(&self.name));
        connection.simple(&create).await.map_err(Trouble::plain)?;
        Ok(Slot { confirmed: None })
    }
}

/// Schemas and names of tables, in order, each once.
fn wanted(tables: &[String]) -> Vec<(String, String)> {
    let one = |table: &String| match table.split_once('.') {
        Some((schema, table)) => (schema.to_owned(), table.to_owned()),
        None => ("public".to_owned(), table.clone()),
    };
    let mut wanted: Vec<_> = tables.iter().map(one).collect();
    wanted.sort_unstable();
    wanted.dedup();
    wanted
}

/// Sends a command after which both sides copy.
async fn begin_copy(connection: &mut Connection, command: &str) -> Result<(), Failure> {
    let mut out = Outbox::default();
    out.message(b'Q', |body| put_text(body, command));
    connection.send(&out).await?;
    loop {
        match connection.next().await? {
            b'W' => {
                connection.allow(MESSAGE_MAX);
                return Ok(());
            }
            b'E' => {
                let error = crate::message::ErrorFields::read(connection.body());
                return Err(Trouble::Answered(error).plain());
            }
            _ => {}
        }
    }
}

struct Following<'a> {
    driver: &'a Postgres,
    connection: Connection,
    tables: &'a [String],
    reader: Reader,
    /// Where the log ended when following began, until that has been told.
    past: Option<u64>,
    /// Everything before has been told.
    read: u64,
    /// And is seen.
    reached: u64,
    confirmed: u64,
    /// Transactions that have been told and may not be seen yet.
    unseen: Vec<u32>,
    /// Those with a lesser number may have been committed before the slot, and not be seen yet.
    older: Option<u64>,
    /// Until when they are waited for; `None` once it was told that they are not.
    older_until: Option<Instant>,
    look_at: Instant,
    pause: Duration,
}

impl Following<'_> {
    async fn run(mut self, tell: &mut (dyn FnMut(Told) + Send)) -> Result<Infallible, Failure> {
        let mut ask_at = Instant::now();
        let mut confirm_at = Instant::now() + CONFIRM_EVERY;
        let mut to_confirm = self.confirmed;
        let mut heard = Instant::now();
        loop {
            self.begin(tell);
            let now = Instant::now();
            if now >= confirm_at {
                confirm_at = now + CONFIRM_EVERY;
                self.confirmed = to_confirm;
                to_confirm = self.reached;
                if self.driver.published().await? != wanted(self.tables) {
                    return Err(unreachable("a table was dropped, or left the publication"));
                }
            }
            if now >= ask_at {
                ask_at = now + ASK_EVERY;
                self.report().await?;
            }
            if now.duration_since(heard) > SILENCE {
                return Err(unreachable("PostgreSQL has gone silent"));
            }
            if self.is_to_look() && now >= self.look_at {
                self.look(tell).await?;
                continue;
            }
            let until = if self.is_to_look() { self.look_at.min(ask_at) } else { ask_at };
            // What has been read of a message so far stays when the time is over.
            let Ok(tag) = timeout_at(until, self.connection.next()).await else { continue };
            heard = Instant::now();
            match tag? {
                b'd' => self.copied(tell)?,
                b'E' => {
                    let error = crate::message::ErrorFields::read(self.connection.body());
                    return Err(Trouble::Answered(error).plain());
                }
                b'c' => return Err(unreachable("PostgreSQL ended the replication")),
                _ => {}
            }
        }
    }

    /// Tells that changes are told from here on, once that is so.
    fn begin(&mut self, tell: &mut (dyn FnMut(Told) + Send)) {
        if self.past.is_none_or(|past| past > self.read) {
            return;
        }
        if self.older.is_some() {
            if self.older_until.is_some_and(|until| Instant::now() < until) {
                return;
            }
            self.older_until = None;
            tell(Told::Transaction(OLDER));
            self.tables.iter().for_each(|table| tell(Told::Emptied(table.clone())));
        }
        self.past = None;
        tell(Told::Following);
    }

    fn is_to_look(&self) -> bool {
        !self.unseen.is_empty() || self.older.is_some()
    }

    /// Asks what is seen by now, and tells it.
    async fn look(&mut self, tell: &mut (dyn FnMut(Told) + Send)) -> Result<(), Failure> {
        let snapshot = Snapshot::read(&self.driver.look(sight::SNAPSHOT).await?)?;
        let before = self.unseen.len();
        self.unseen.retain(|&transaction| {
            let is_seen = snapshot.sees(transaction);
            if is_seen {
                tell(Told::Shown(u64::from(transaction)));
            }
            !is_seen
        });
        if self.older.is_some_and(|older| snapshot.first_open >= older) {
            self.older = None;
            if self.older_until.is_none() {
                tell(Told::Shown(OLDER));
            }
        }
        self.reach(self.read, tell);
        let most = if self.unseen.is_empty() { ASK_EVERY } else { LOOK_MAX };
        self.pause = if self.unseen.len() < before { LOOK_FIRST } else { (self.pause * 2).min(most) };
        self.look_at = Instant::now() + self.pause;
        Ok(())
    }

    /// All up to here has been told.
    fn reach(&mut self, read: u64, tell: &mut (dyn FnMut(Told) + Send)) {
        self.read = self.read.max(read);
        if !self.is_to_look() && self.read > self.reached {
            self.reached = self.read;
            tell(Told::Reached(Position(lsn_text(self.reached))));
        }
    }

    /// Confirms a position, and asks for an answer.
    async fn report(&mut self) -> Result<(), Failure> {
        let mut out = Outbox::default();
        let (written, confirmed) = (self.reached, self.confirmed);
        out.message(b'd', |body| {
            body.push(b'r');
            for position in [written, confirmed, confirmed] {
                body.extend_from_slice(&position.to_be_bytes());
            }
            // The time is for its statistics only.
            body.extend_from_slice(&[0; 8]);
            body.push(1);
        });
        self.connection.send(&out).await
    }

    fn copied(&mut self, tell: &mut (dyn FnMut(Told) + Send)) -> Result<(), Failure> {
        let mut body = Body(self.connection.body());
        match body.u8()? {
            b'w' => {
                body.bytes(24)?;
                match self.reader.read(body.0)? {
                    Read::Told(told) => told.into_iter().for_each(&mut *tell),
                    Read::Committed(end, transaction) => {
                        if self.unseen.is_empty() {
                            self.pause = LOOK_FIRST;
                            self.look_at = self.look_at.min(Instant::now() + LOOK_FIRST);
                        }
                        self.unseen.extend(transaction);
                        self.reach(end, tell);
                    }
                }
            }
            b'k' => {
                let end = body.u64()?;
                if !self.reader.in_transaction {
                    self.reach(end, tell);
                    if !self.connection.has_more() {
                        tell(Told::Idle);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// `16/B374D848`
fn lsn(text: &str) -> Option<u64> {
    let (high, low) = text.split_once('/')?;
    Some(u64::from(u32::from_str_radix(high, 16).ok()?) << 32 | u64::from(u32::from_str_radix(low, 16).ok()?))
}

fn lsn_text(lsn: u64) -> String {
    format!("{:X}/{:X}", lsn >> 32, lsn & 0xffff_ffff)
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn cell_text(cell: &Cell) -> Option<String> {
    match cell {
        Cell::Text(text) => String::from_utf8(text.to_vec()).ok(),
        _ => None,
    }
}

fn first_text(rows: &Rows) -> Option<String> {
    cell_text(rows.rows.first()?.first()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_postgres_own() {
        assert_eq!(lsn("16/B374D848"), Some(0x16_B374_D848));
        assert_eq!(lsn_text(0x16_B374_D848), "16/B374D848");
        assert_eq!((lsn("x"), lsn("1/2/3"), lsn("123456789/0")), (None, None, None));
    }

    #[test]
    fn tables_have_schemas() {
        let tables = ["users".to_owned(), "app.orders".to_owned(), "users".to_owned()];
        let pair = |schema: &str, table: &str| (schema.to_owned(), table.to_owned());
        assert_eq!(wanted(&tables), [pair("app", "orders"), pair("public", "users")]);
    }
}
