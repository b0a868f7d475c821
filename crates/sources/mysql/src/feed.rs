//! Changes made by anybody, by the binlog: we are sent what a replica is sent.
//!
//! Nothing of ours is left in the store. A position is good as long as the store keeps its file (`binlog_expire_logs_seconds`).
//! Read next: `binlog/reader.rs`, what events mean.

use crate::Mysql;
use crate::binlog::columns::{Described, ToldColumn};
use crate::binlog::reader::{Dependent, Place, Read, Reader, Start, Tell, Watched};
use crate::connection::{Connection, Trouble};
use crate::message::{ACCESS_DENIED, BINLOG_UNREADABLE};
use larder_source::{Failure, FailureKind, Feed, Position, Told, Work};
use larder_source_net::{refused, unreachable, unsupported};
use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;
use tokio::time::timeout;

/// How often the store says that there is nothing: how old "nothing further" may be.
const HEARTBEAT: Duration = Duration::from_millis(200);
/// A store that has said nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(15);
/// A change may be as large as a row can be.
const EVENT_MAX: usize = 1 << 30;
/// MariaDB's events as they are, with the beginnings of transactions.
const MARIADB_CAPABILITY: u8 = 4;

mod command {
    pub const BINLOG_DUMP: u8 = 18;
    pub const REGISTER_REPLICA: u8 = 21;
}

impl Feed for Mysql {
    fn follow<'a>(
        &'a self,
        tables: &'a [String],
        from: Option<Position>,
        tell: &'a mut (dyn FnMut(Told) + Send),
    ) -> Work<'a, Infallible> {
        Box::pin(async move {
            let mut from = from.and_then(|position| Place::parse(&position.0));
            loop {
                let from = from.take();
                let set_up = timeout(SILENCE, self.set_up(tables, from)).await;
                let (following, is_known) = set_up
                    .unwrap_or_else(|_| Err(unreachable("the store does not say in time what it has")))?;
                if !is_known {
                    tell(Told::Gap);
                }
                match following.run(tell).await {
                    // Begins again, from now on.
                    Ended::Gone(_) if is_known => {}
                    Ended::Gone(failure) | Ended::Failed(failure) => return Err(failure),
                }
            }
        })
    }

    /// The binlog is sent once it is written, and rows are there for others only after that: later still where it waits for replicas.
    fn tells_early(&self) -> bool {
        true
    }

    fn remove(&self) -> Work<'_, ()> {
        Box::pin(async { Ok(()) })
    }
}

/// Variables of the store, by their names.
struct Settings(HashMap<String, String>);

impl Settings {
    async fn ask(connection: &mut Connection) -> Result<Settings, Failure> {
        let query = "SHOW VARIABLES WHERE Variable_name IN ('log_bin', 'binlog_format', 'binlog_checksum', 'server_id', \
            'log_bin_compress', 'binlog_transaction_compression', 'lower_case_table_names', 'time_zone', 'system_time_zone')";
        let rows = connection.ask(query).await.map_err(Trouble::plain)?;
        let pair = |row: Vec<Option<String>>| {
            let mut row = row.into_iter();
            Some((row.next()??.to_ascii_lowercase(), row.next()??))
        };
        Ok(Settings(rows.into_iter().filter_map(pair).collect()))
    }

    fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    fn number(&self, name: &str) -> Option<u32> {
        self.text(name).parse().ok()
    }

    fn is_on(&self, name: &str) -> bool {
        matches!(self.text(name).to_ascii_uppercase().as_str(), "ON" | "1")
    }

    fn check(&self) -> Result<(), Failure> {
        if !self.is_on("log_bin") {
            return Err(unsupported(
                "the store writes no binlog, and tells of changes only by it: set log_bin and server_id in its configuration",
            ));
        }
        let format = self.text("binlog_format");
        if !format.eq_ignore_ascii_case("ROW") && !format.is_empty() {
            return Err(unsupported(format!(
                "the store's binlog has statements instead of rows (binlog_format = {format}): set binlog_format = ROW"
            )));
        }
        for name in ["log_bin_compress", "binlog_transaction_compression"] {
            if self.is_on(name) {
                return Err(unsupported(format!("the store compresses its binlog: set {name} = OFF")));
            }
        }
        Ok(())
    }

    fn ignores_case(&self) -> bool {
        self.number("lower_case_table_names").unwrap_or(0) != 0
    }

    fn has_checksums(&self) -> bool {
        self.text("binlog_checksum").eq_ignore_ascii_case("CRC32")
    }

    /// The zone of connections, if its clock is never changed.
    fn zone(&self) -> Option<i64> {
        let zone = match self.text("time_zone") {
            "SYSTEM" => self.text("system_time_zone"),
            zone => zone,
        };
        if matches!(zone, "UTC" | "GMT" | "Etc/UTC") {
            return Some(0);
        }
        let (hours, minutes) = zone.strip_prefix(['+', '-'])?.split_once(':')?;
        let seconds = hours.parse::<i64>().ok()? * 3600 + minutes.parse::<i64>().ok()? * 60;
        Some(if zone.starts_with('-') { -seconds } else { seconds })
    }
}

/// Where the binlog ends.
async fn current(connection: &mut Connection, server: u32, watched: &[Watched]) -> Result<Place, Failure> {
    let version = connection.greeting.version.clone();
    let number = version.rsplit(' ').next().unwrap_or_default();
    let mut parts = number.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let is_new = !connection.greeting.is_mariadb && (parts.next(), parts.next()) >= (Some(8), Some(2));
    let command = if is_new { "SHOW BINARY LOG STATUS" } else { "SHOW MASTER STATUS" };
    let rows = connection.ask(command).await.map_err(Trouble::plain)?;
    let row = rows
        .first()
        .ok_or_else(|| unsupported("the store writes no binlog: set log_bin in its configuration"))?;
    let text = |at: usize| row.get(at).and_then(Option::as_deref).unwrap_or_default();
    let has = |list: &str, name: &str| list.split(',').any(|known| known == name);
    for watched in watched {
        if has(text(3), &watched.schema) || (!text(2).is_empty() && !has(text(2), &watched.schema)) {
            return Err(unsupported(format!(
                "the store leaves the database {} out of its binlog",
                watched.schema
            )));
        }
    }
    let position = text(1).parse().map_err(|_| unreachable("the store does not tell where its binlog is"))?;
    Ok(Place { server, file: text(0).to_owned(), position, stamp: None })
}

fn literal(text: &str) -> String {
    // Whatever the mode, nothing in here ends it.
    let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("CONVERT(x'{hex}' USING utf8mb4)")
}

impl Mysql {
    /// Asks to be sent the binlog from a position, or from now on; whether the position is one that the store may still have.
    async fn set_up(&self, tables: &[String], from: Option<Place>) -> Result<(Following<'_>, bool), Failure> {
        let mut connection = Connection::open(&self.server).await?;
        let settings = Settings::ask(&mut connection).await?;
        settings.check()?;
        let watched = self.watched(&mut connection, tables, settings.ignores_case()).await?;
        let server = settings.number("server_id").unwrap_or(0);
        let known = from.filter(|from| from.server == server && u32::try_from(from.position).is_ok());
        let is_known = known.is_some();
        let end = current(&mut connection, server, &watched).await?;
        let place = known.unwrap_or_else(|| end.clone());
        self.begin(&mut connection, &place, &settings).await?;
        let start = Start {
            watched,
            ignores_case: settings.ignores_case(),
            zone: settings.zone(),
            has_checksums: settings.has_checksums(),
            place,
        };
        Ok((Following { driver: self, connection, reader: Reader::new(start), end, asking: None }, is_known))
    }

    /// The tables that are followed, and those on which they depend.
    async fn watched(
        &self,
        connection: &mut Connection,
        tables: &[String],
        ignores_case: bool,
    ) -> Result<Vec<Watched>, Failure> {
        let mut watched: Vec<Watched> = Vec::new();
        for told in tables {
            let (schema, table) = told.split_once('.').unwrap_or((&self.server.database, told));
            let query = format!(
                "SELECT TABLE_TYPE, TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {}",
                literal(schema),
                literal(table)
            );
            let rows = connection.ask(&query).await.map_err(Trouble::plain)?;
            let is_it = |row: &&Vec<Option<String>>| {
                let name = row.get(2).and_then(Option::as_deref).unwrap_or_default();
                if ignores_case { name.eq_ignore_ascii_case(table) } else { name == table }
            };
            let kind = rows.iter().find(is_it).and_then(|row| row.first()?.clone());
            match kind.as_deref() {
                None => {
                    return Err(refused(format!(
                        "there is no table {schema}.{table}, or the user may not see it"
                    )));
                }
                Some(kind) if kind.contains("VIEW") => {
                    return Err(refused(format!(
                        "{schema}.{table} is a view, of which the binlog tells nothing: name the tables that it reads"
                    )));
                }
                Some(_) => {}
            }
            let is_known = |known: &&mut Watched| known.schema == schema && known.table == table;
            match watched.iter_mut().find(is_known) {
                // Under its name alone, and with its schema.
                Some(known) => known.told.push(told.clone()),
                None => watched.push(Watched {
                    schema: schema.to_owned(),
                    table: table.to_owned(),
                    told: vec![told.clone()],
                    dependents: Vec::new(),
                }),
            }
        }
        let keys = foreign_keys(connection, &watched).await?;
        depend(&mut watched, &keys);
        Ok(watched)
    }

    /// Asks to be sent the binlog.
    async fn begin(
        &self,
        connection: &mut Connection,
        place: &Place,
        settings: &Settings,
    ) -> Result<(), Failure> {
        let beat = HEARTBEAT.as_nanos();
        let mut set = format!("SET @master_heartbeat_period = {beat}, @source_heartbeat_period = {beat}");
        if settings.0.contains_key("binlog_checksum") {
            let sums = "@@global.binlog_checksum";
            set.push_str(&format!(", @master_binlog_checksum = {sums}, @source_binlog_checksum = {sums}"));
        }
        if connection.greeting.is_mariadb {
            set.push_str(&format!(", @mariadb_slave_capability = {MARIADB_CAPABILITY}"));
        }
        connection.ask(&set).await.map_err(Trouble::plain)?;
        let mut out = vec![command::REGISTER_REPLICA];
        out.extend_from_slice(&self.replica.to_le_bytes());
        // No host, user, password, port, rank, and source to tell of.
        out.extend_from_slice(&[0; 3 + 2 + 4 + 4]);
        connection.command(&out).await?;
        connection.next().await.map_err(|trouble| match trouble {
            Trouble::Answered(error) if error.code == ACCESS_DENIED => {
                let failure = error.failure();
                let text =
                    format!("{}: to be told of changes the user needs REPLICATION SLAVE", failure.text);
                Failure { text, ..failure }
            }
            trouble => trouble.plain(),
        })?;
        let position = u32::try_from(place.position).map_err(|_| unreachable("a position beyond 4 GiB"))?;
        let mut out = vec![command::BINLOG_DUMP];
        out.extend_from_slice(&position.to_le_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&self.replica.to_le_bytes());
        out.extend_from_slice(place.file.as_bytes());
        connection.allow(EVENT_MAX);
        connection.command(&out).await
    }

    /// What the columns of a table are now.
    async fn describe(
        &self,
        asking: &mut Option<Connection>,
        schema: &str,
        table: &str,
    ) -> Result<Vec<Described>, Failure> {
        let mut connection = match asking.take() {
            Some(connection) => connection,
            None => Connection::open(&self.server).await?,
        };
        let query = format!(
            "SELECT COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, CHARACTER_SET_NAME, NUMERIC_SCALE, CHARACTER_MAXIMUM_LENGTH \
             FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {} ORDER BY ORDINAL_POSITION",
            literal(schema),
            literal(table)
        );
        let rows = connection.ask(&query).await.map_err(Trouble::plain)?;
        *asking = Some(connection);
        let described = rows.iter().map(|row| {
            let text = |at: usize| row.get(at).and_then(Option::as_deref);
            let number = |at: usize| text(at).and_then(|text| text.parse().ok());
            Described::of(&ToldColumn {
                name: text(0).unwrap_or_default(),
                data_type: text(1).unwrap_or_default(),
                column_type: text(2).unwrap_or_default(),
                charset: text(3),
                scale: number(4),
                length: number(5),
            })
        });
        Ok(described.collect())
    }
}

/// A foreign key whose rows the store changes by itself.
#[derive(Debug, Default)]
struct ForeignKey {
    child: (String, String),
    parent: (String, String),
    columns: Vec<String>,
    at_update: bool,
    at_delete: bool,
}

/// The keys of tables in the databases of those that are followed, and of those that these refer to.
async fn foreign_keys(connection: &mut Connection, watched: &[Watched]) -> Result<Vec<ForeignKey>, Failure> {
    let mut schemas: Vec<String> = Vec::new();
    let add = |schema: &str, schemas: &mut Vec<String>| {
        if !schemas.iter().any(|known| known == schema) {
            schemas.push(schema.to_owned());
        }
    };
    watched.iter().for_each(|watched| add(&watched.schema, &mut schemas));
    let mut keys: Vec<(String, ForeignKey)> = Vec::new();
    let mut next = 0;
    while let Some(schema) = schemas.get(next).cloned() {
        next += 1;
        let query = format!(
            "SELECT k.CONSTRAINT_NAME, k.TABLE_SCHEMA, k.TABLE_NAME, k.REFERENCED_TABLE_SCHEMA, k.REFERENCED_TABLE_NAME, \
             k.REFERENCED_COLUMN_NAME, r.UPDATE_RULE, r.DELETE_RULE FROM information_schema.REFERENTIAL_CONSTRAINTS r \
             JOIN information_schema.KEY_COLUMN_USAGE k ON k.CONSTRAINT_SCHEMA = r.CONSTRAINT_SCHEMA \
             AND k.CONSTRAINT_NAME = r.CONSTRAINT_NAME AND k.TABLE_NAME = r.TABLE_NAME \
             WHERE r.CONSTRAINT_SCHEMA = {0} AND k.CONSTRAINT_SCHEMA = {0} AND k.REFERENCED_TABLE_NAME IS NOT NULL \
             ORDER BY k.TABLE_NAME, k.CONSTRAINT_NAME",
            literal(&schema)
        );
        for row in connection.ask(&query).await.map_err(Trouble::plain)? {
            let text = |at: usize| row.get(at).cloned().flatten().unwrap_or_default();
            let cascades = |rule: String| rule.starts_with("CASCADE") || rule.starts_with("SET");
            let child = (text(1), text(2));
            let (at_update, at_delete) = (cascades(text(6)), cascades(text(7)));
            add(&text(3), &mut schemas);
            match keys.last_mut() {
                Some((name, key)) if *name == text(0) && key.child == child => key.columns.push(text(5)),
                _ => {
                    let parent = (text(3), text(4));
                    let key = ForeignKey { child, parent, columns: vec![text(5)], at_update, at_delete };
                    keys.push((text(0), key));
                }
            }
        }
    }
    Ok(keys.into_iter().map(|(_, key)| key).filter(|key| key.at_update || key.at_delete).collect())
}

/// Notes for each table which of those that are followed change with it, over however many keys.
fn depend(watched: &mut Vec<Watched>, keys: &[ForeignKey]) {
    let is_same = |watched: &Watched, (schema, table): &(String, String)| {
        watched.schema.eq_ignore_ascii_case(schema) && watched.table.eq_ignore_ascii_case(table)
    };
    let is_pair = |one: &(String, String), other: &(String, String)| {
        one.0.eq_ignore_ascii_case(&other.0) && one.1.eq_ignore_ascii_case(&other.1)
    };
    for followed in 0..watched.len() {
        let mut reached = vec![(watched[followed].schema.clone(), watched[followed].table.clone())];
        let mut next = 0;
        while let Some(child) = reached.get(next).cloned() {
            next += 1;
            for key in keys.iter().filter(|key| is_pair(&key.child, &child)) {
                let at =
                    watched.iter().position(|watched| is_same(watched, &key.parent)).unwrap_or_else(|| {
                        let (schema, table) = key.parent.clone();
                        watched.push(Watched { schema, table, ..Watched::default() });
                        watched.len() - 1
                    });
                let at_update = if key.at_update { key.columns.clone() } else { Vec::new() };
                let dependent = Dependent { table: followed, at_delete: key.at_delete, at_update };
                if !watched[at].dependents.contains(&dependent) {
                    watched[at].dependents.push(dependent);
                }
                if !reached.contains(&key.parent) {
                    reached.push(key.parent.clone());
                }
            }
        }
    }
}

/// How following ended.
enum Ended {
    Failed(Failure),
    /// The store does not have the position any more.
    Gone(Failure),
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Ended {
        Ended::Failed(failure)
    }
}

struct Following<'a> {
    driver: &'a Mysql,
    connection: Connection,
    reader: Reader,
    /// Where the binlog ended when it was asked for: before that it is the past that is told.
    end: Place,
    /// For questions about tables.
    asking: Option<Connection>,
}

impl Following<'_> {
    async fn run(mut self, tell: Tell<'_>) -> Ended {
        match self.go_on(tell).await {
            Ok(never) => match never {},
            Err(ended) => ended,
        }
    }

    async fn go_on(&mut self, tell: Tell<'_>) -> Result<Infallible, Ended> {
        let mut is_told = false;
        loop {
            let next = timeout(SILENCE, self.connection.next()).await;
            match next.map_err(|_| unreachable("the store has gone silent"))? {
                Ok(0) => {}
                Ok(_) => return Err(unreachable("the store ended the replication").into()),
                Err(Trouble::Answered(error))
                    if error.code == BINLOG_UNREADABLE && !self.reader.has_begun() =>
                {
                    return Err(Ended::Gone(Failure { kind: FailureKind::Refused, ..error.failure() }));
                }
                Err(trouble) => return Err(trouble.plain().into()),
            }
            match self.reader.read(&self.connection.body()[1..], tell)? {
                Read::Done => {}
                Read::Stale => return Err(unreachable("foreign keys have changed").into()),
                Read::Gone => return Err(Ended::Gone(unreachable("the binlog was begun anew"))),
                Read::Describe { id, table } => self.describe(id, table).await?,
            }
            if !is_told && self.reader.has_reached(&self.end) {
                is_told = true;
                tell(Told::Following);
            }
        }
    }

    async fn describe(&mut self, id: u64, table: usize) -> Result<(), Failure> {
        let Some((schema, table)) = self.reader.watched(table) else { return Ok(()) };
        let described = timeout(SILENCE, self.driver.describe(&mut self.asking, schema, table)).await;
        let columns = described.unwrap_or_else(|_| {
            Err(unreachable("the store does not say in time what columns a table has"))
        })?;
        self.reader.describe(id, columns);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        Settings(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn what_is_missing_is_told() {
        let good = [("log_bin", "ON"), ("binlog_format", "ROW"), ("log_bin_compress", "OFF")];
        assert!(settings(&good).check().is_ok());
        for (wrong, word) in [
            (("log_bin", "OFF"), "log_bin"),
            (("binlog_format", "MIXED"), "ROW"),
            (("log_bin_compress", "ON"), "OFF"),
        ] {
            let mut all = settings(&good);
            all.0.insert(wrong.0.to_owned(), wrong.1.to_owned());
            let failure = all.check().unwrap_err();
            assert!(failure.kind == FailureKind::Unsupported && failure.text.contains(word), "{failure}");
        }
    }

    #[test]
    fn zones_without_summer_are_known() {
        let zone = |zone, system| settings(&[("time_zone", zone), ("system_time_zone", system)]).zone();
        assert_eq!(
            (zone("SYSTEM", "UTC"), zone("+00:00", "CET"), zone("-03:30", "")),
            (Some(0), Some(0), Some(-12_600))
        );
        assert_eq!((zone("SYSTEM", "CET"), zone("Europe/Berlin", "UTC")), (None, None));
    }

    #[test]
    fn keys_are_followed_over_several_tables() {
        let pair = |table: &str| ("shop".to_owned(), table.to_owned());
        let key = |child: &str, parent: &str, at_update| ForeignKey {
            child: pair(child),
            parent: pair(parent),
            columns: vec!["id".to_owned()],
            at_update,
            at_delete: true,
        };
        let keys =
            [key("lines", "orders", false), key("orders", "users", true), key("users", "users", false)];
        let of = |table: &str| Watched {
            schema: "shop".to_owned(),
            table: table.to_owned(),
            told: vec![table.to_owned()],
            dependents: Vec::new(),
        };
        let mut watched = vec![of("lines"), of("other")];
        depend(&mut watched, &keys);
        let names: Vec<_> =
            watched.iter().map(|watched| (watched.table.as_str(), watched.dependents.len())).collect();
        assert_eq!(names, [("lines", 0), ("other", 0), ("orders", 1), ("users", 2)]);
        assert!(watched[3].dependents.iter().all(|dependent| dependent.table == 0));
    }
}
