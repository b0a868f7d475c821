//! Changes made by anybody, by triggers that write them into a table, `larder_changes`, which is looked at when
//! SQLite says that the file has changed.
//!
//! The triggers of a table `users` are named `larder_users_...`. A row of `larder_changes` has the columns' names, and the row before and
//! after, as SQL literals with a unit separator between them. Rows are kept for an hour, for a follower that comes back.
//! Invariant: a change and its row in `larder_changes` are one transaction, so rows come in the order of commits.

use crate::Sqlite;
use crate::cells::failure_of;
use crate::connections::FileId;
use larder_source::{Cell, Change, Failure, Feed, Named, Position, Row, Told, Work};
use larder_source_net::{refused, unreachable, unsupported};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

/// How long rows are kept.
const KEPT_SECONDS: i64 = 3600;
/// How often old rows are removed.
const PRUNE_SECONDS: u64 = 60;
/// Changes read at once.
const BATCH: i64 = 500;
/// Values of more bytes are not told: they are too long to be part of a key.
const VALUE_BYTES_MAX: usize = 4096;

const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS larder_changes (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at INTEGER NOT NULL DEFAULT (CAST(strftime('%s', 'now') AS INTEGER)),
        name TEXT NOT NULL, columns TEXT NOT NULL, before TEXT, after TEXT
    )";

impl Feed for Sqlite {
    fn follow<'a>(
        &'a self,
        tables: &'a [String],
        from: Option<Position>,
        tell: &'a mut (dyn FnMut(Told) + Send),
    ) -> Work<'a, Infallible> {
        Box::pin(async move {
            let (file, tables) = (Arc::clone(&self.file), tables.to_vec());
            let begun = self.runtime.spawn_blocking(move || {
                let (connection, id) = file.open_own()?;
                Follower::begin(connection, id, tables, from.as_ref())
            });
            let (mut follower, told) = begun.await.map_err(|error| unreachable(error.to_string()))??;
            told.into_iter().for_each(&mut *tell);
            let mut turn = tokio::time::interval(self.poll);
            turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                turn.tick().await;
                let file = Arc::clone(&self.file);
                let step = self.runtime.spawn_blocking(move || {
                    let is_replaced = file.file_id()? != follower.file;
                    let told = follower.look(is_replaced)?;
                    Ok::<_, Failure>((follower, told))
                });
                let (back, told) = step.await.map_err(|error| unreachable(error.to_string()))??;
                follower = back;
                told.into_iter().for_each(&mut *tell);
            }
        })
    }

    fn remove(&self) -> Work<'_, ()> {
        Box::pin(async move {
            let file = Arc::clone(&self.file);
            let removed = self.runtime.spawn_blocking(move || {
                let (mut connection, _) = file.open_own()?;
                remove(&mut connection).map_err(|error| failure_of(&error))
            });
            removed.await.map_err(|error| unreachable(error.to_string()))?
        })
    }
}

struct Follower {
    connection: Connection,
    file: FileId,
    tables: Vec<String>,
    /// The last row of `larder_changes` that was told.
    last: i64,
    data_version: Option<i64>,
    schema_version: i64,
    pruned: Instant,
}

impl Follower {
    fn begin(
        mut connection: Connection,
        file: FileId,
        tables: Vec<String>,
        from: Option<&Position>,
    ) -> Result<(Follower, Vec<Told>), Failure> {
        let installed = install(&mut connection, &tables)?;
        if let Some(missing) = installed.missing.first() {
            return Err(refused(format!("there is no table {missing}")));
        }
        let failed = |error: rusqlite::Error| failure_of(&error);
        let newest = newest(&connection).map_err(failed)?;
        let from = from.and_then(|position| position.0.parse::<i64>().ok());
        let kept = match from {
            Some(from) => !installed.is_new && reaches_back(&connection, from, newest).map_err(failed)?,
            None => false,
        };
        let last = from.filter(|_| kept).unwrap_or(newest);
        let schema_version = version(&connection, "schema_version").map_err(failed)?;
        let mut told = vec![Told::Following];
        if !kept {
            told.insert(0, Told::Gap);
        }
        if last == newest {
            told.push(Told::Reached(Position(last.to_string())));
        }
        let follower = Follower {
            connection,
            file,
            tables,
            last,
            data_version: None,
            schema_version,
            pruned: Instant::now(),
        };
        Ok((follower, told))
    }

    /// What has changed since the last look.
    fn look(&mut self, is_replaced: bool) -> Result<Vec<Told>, Failure> {
        if is_replaced {
            return Err(unreachable("the file was replaced by another"));
        }
        let failed = |error: rusqlite::Error| failure_of(&error);
        let data_version = version(&self.connection, "data_version").map_err(failed)?;
        let mut told = Vec::new();
        if self.data_version != Some(data_version) {
            let schema_version = version(&self.connection, "schema_version").map_err(failed)?;
            if schema_version != self.schema_version {
                told.extend(self.reinstall()?);
            }
            let is_all = self.read(&mut told).map_err(failed)?;
            // With more to read the next look goes on.
            self.data_version = is_all.then_some(data_version);
        }
        if self.data_version.is_some() {
            told.push(Told::Idle);
        }
        if self.pruned.elapsed().as_secs() >= PRUNE_SECONDS {
            self.pruned = Instant::now();
            let old = "DELETE FROM larder_changes WHERE at < CAST(strftime('%s', 'now') AS INTEGER) - ?";
            self.connection.execute(old, params![KEPT_SECONDS]).map_err(failed)?;
        }
        Ok(told)
    }

    fn reinstall(&mut self) -> Result<Vec<Told>, Failure> {
        let installed = install(&mut self.connection, &self.tables)?;
        self.schema_version =
            version(&self.connection, "schema_version").map_err(|error| failure_of(&error))?;
        let mut told: Vec<Told> = installed.missing.into_iter().map(Told::Emptied).collect();
        if installed.is_new {
            told.push(Told::Gap);
        }
        Ok(told)
    }

    /// Reads further changes; whether these were all.
    fn read(&mut self, told: &mut Vec<Told>) -> rusqlite::Result<bool> {
        let query =
            "SELECT id, name, columns, before, after FROM larder_changes WHERE id > ? ORDER BY id LIMIT ?";
        let mut statement = self.connection.prepare_cached(query)?;
        let mut rows = statement.query(params![self.last, BATCH])?;
        let mut count = 0;
        while let Some(row) = rows.next()? {
            count += 1;
            self.last = row.get(0)?;
            let table: String = row.get(1)?;
            if !self.tables.contains(&table) {
                continue;
            }
            let columns: String = row.get(2)?;
            let names: Vec<String> = columns.split(SEPARATOR).map(str::to_owned).collect();
            let (before, after): (Option<String>, Option<String>) = (row.get(3)?, row.get(4)?);
            let named = |text: Option<String>| text.map(|text| named(&names, &text));
            told.push(Told::Changed(Change { table, before: named(before), after: named(after) }));
        }
        if count > 0 {
            told.push(Told::Reached(Position(self.last.to_string())));
        }
        Ok(count < BATCH)
    }
}

/// Stands between literals: quotes cannot hide it, since a text with it is written in hexadecimal.
const SEPARATOR: char = '\u{1f}';

/// A row of literals. What was left out has no name.
fn named(names: &[String], text: &str) -> Named {
    let cells = text.split(SEPARATOR).map(literal);
    let (names, row): (Vec<String>, Vec<Cell>) =
        names.iter().zip(cells).filter_map(|(name, cell)| Some((name.clone(), cell?))).unzip();
    Named { names: names.into(), row: Row::from(row) }
}

/// A value from what the triggers write.
fn literal(text: &str) -> Option<Cell> {
    Some(match text.as_bytes() {
        [b'-'] => return None,
        b"NULL" => Cell::Null,
        [b'T', rest @ ..] => Cell::Text(unhex(rest).into()),
        [b'X', b'\'', rest @ .., b'\''] => Cell::Bytes(unhex(rest).into()),
        [b'\'', .., b'\''] => Cell::Text(text[1..text.len() - 1].replace("''", "'").into_bytes().into()),
        _ => match text.parse() {
            Ok(number) => Cell::Integer(number),
            Err(_) => Cell::Real(text.parse().ok()?),
        },
    })
}

fn unhex(digits: &[u8]) -> Vec<u8> {
    let value = |digit: u8| (digit as char).to_digit(16).unwrap_or(0) as u8;
    digits.chunks_exact(2).map(|pair| value(pair[0]) << 4 | value(pair[1])).collect()
}

fn version(connection: &Connection, which: &str) -> rusqlite::Result<i64> {
    connection.prepare_cached(&format!("PRAGMA {which}"))?.query_row([], |row| row.get(0))
}

/// The highest number ever given to a change.
fn newest(connection: &Connection) -> rusqlite::Result<i64> {
    let query = "SELECT seq FROM sqlite_sequence WHERE name = 'larder_changes'";
    Ok(connection.query_row(query, [], |row| row.get(0)).optional()?.unwrap_or(0))
}

/// Whether all changes behind `from` are still there.
fn reaches_back(connection: &Connection, from: i64, newest: i64) -> rusqlite::Result<bool> {
    let oldest: Option<i64> =
        connection.query_row("SELECT min(id) FROM larder_changes", [], |row| row.get(0))?;
    Ok(from == newest || (from < newest && oldest.is_some_and(|oldest| oldest <= from + 1)))
}

/// What installing found.
#[derive(Default)]
struct Installed {
    /// Triggers were missing, so changes may have been missed.
    is_new: bool,
    /// Tables that are not there.
    missing: Vec<String>,
}

/// Creates the table of changes and the triggers that are missing or are not what they should be.
fn install(connection: &mut Connection, tables: &[String]) -> Result<Installed, Failure> {
    let failed = |error: rusqlite::Error| failure_of(&error);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    transaction.execute(TABLE, []).map_err(failed)?;
    let mut installed = Installed::default();
    for table in tables {
        let Some(layout) = Layout::read(&transaction, table).map_err(failed)? else {
            installed.missing.push(table.clone());
            continue;
        };
        if !layout.is_table {
            return Err(unsupported(format!(
                "{table} is no table of its own: SQLite tells no changes of it"
            )));
        }
        for (name, wanted) in layout.triggers(table) {
            let query = "SELECT sql FROM sqlite_schema WHERE type = 'trigger' AND name = ?";
            let found: Option<String> =
                transaction.query_row(query, params![name], |row| row.get(0)).optional().map_err(failed)?;
            if found.as_deref() == Some(wanted.as_str()) {
                continue;
            }
            installed.is_new |= found.is_none();
            transaction
                .execute(&format!("DROP TRIGGER IF EXISTS {}", identifier(&name)), [])
                .map_err(failed)?;
            transaction.execute(&wanted, []).map_err(failed)?;
        }
    }
    transaction.commit().map_err(failed)?;
    Ok(installed)
}

/// Columns of a table, and which of them are unique together.
struct Layout {
    is_table: bool,
    columns: Vec<String>,
    unique: Vec<Vec<String>>,
}

impl Layout {
    fn read(connection: &Connection, table: &str) -> rusqlite::Result<Option<Layout>> {
        let kind = "SELECT type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%' FROM sqlite_schema
            WHERE type IN ('table', 'view') AND name = ? COLLATE NOCASE";
        let kind: Option<bool> = connection.query_row(kind, params![table], |row| row.get(0)).optional()?;
        let Some(is_table) = kind else { return Ok(None) };
        let mut columns = Vec::new();
        let mut key: Vec<(i64, String)> = Vec::new();
        let mut statement = connection.prepare("SELECT name, pk FROM pragma_table_xinfo(?)")?;
        let mut rows = statement.query(params![table])?;
        while let Some(row) = rows.next()? {
            let (name, place): (String, i64) = (row.get(0)?, row.get(1)?);
            if place > 0 {
                key.push((place, name.clone()));
            }
            columns.push(name);
        }
        key.sort_unstable();
        let mut unique: Vec<Vec<String>> = vec![key.into_iter().map(|(_, name)| name).collect()];
        let names = "SELECT name FROM pragma_index_list(?) WHERE \"unique\"";
        let mut statement = connection.prepare(names)?;
        let names: Vec<String> =
            statement.query_map(params![table], |row| row.get(0))?.collect::<Result<_, _>>()?;
        for name in names {
            let mut statement = connection.prepare("SELECT name FROM pragma_index_info(?)")?;
            let columns: Vec<Option<String>> =
                statement.query_map(params![name], |row| row.get(0))?.collect::<Result<_, _>>()?;
            // One on an expression has columns without a name.
            unique.extend(columns.into_iter().collect::<Option<Vec<String>>>());
        }
        unique.retain(|columns| !columns.is_empty());
        unique.sort();
        unique.dedup();
        Ok(Some(Layout { is_table, columns, unique }))
    }

    /// Names and texts of the triggers.
    fn triggers(&self, table: &str) -> Vec<(String, String)> {
        let (old, new) = (self.literals("OLD"), self.literals("NEW"));
        let mut triggers: Vec<(String, String)> = Vec::new();
        let mut add = |name: &str, when: &str, body: String| {
            let name = format!("larder_{table}_{name}");
            let text = format!(
                "CREATE TRIGGER {} {when} ON {} BEGIN INSERT INTO larder_changes (name, columns, before, after) {body}; END",
                identifier(&name),
                identifier(table)
            );
            triggers.push((name, text));
        };
        let head = format!("{}, {}", text(table), text(&self.columns.join("\u{1f}")));
        add("insert", "AFTER INSERT", format!("VALUES ({head}, NULL, {new})"));
        add("update", "AFTER UPDATE", format!("VALUES ({head}, {old}, {new})"));
        add("delete", "AFTER DELETE", format!("VALUES ({head}, {old}, NULL)"));
        // Rows that a REPLACE takes away fire no trigger by themselves: they are told of before it is known that they go.
        if let Some(conflict) = self.conflict() {
            let there = self.literals("t");
            let rows =
                format!("SELECT {head}, {there}, NULL FROM {} AS t WHERE {conflict}", identifier(table));
            add("replace", "BEFORE INSERT", rows.clone());
            let unchanged: Vec<String> =
                self.unique[0].iter().map(|name| format!("t.{0} IS OLD.{0}", identifier(name))).collect();
            add("update_replace", "BEFORE UPDATE", format!("{rows} AND NOT ({})", unchanged.join(" AND ")));
        }
        triggers
    }

    /// Whether a row `t` has what must be unique in common with NEW.
    fn conflict(&self) -> Option<String> {
        let same = |columns: &Vec<String>| {
            let same: Vec<String> =
                columns.iter().map(|name| format!("t.{0} = NEW.{0}", identifier(name))).collect();
            format!("({})", same.join(" AND "))
        };
        let any: Vec<String> = self.unique.iter().map(same).collect();
        (!any.is_empty()).then(|| format!("({})", any.join(" OR ")))
    }

    /// An expression that makes the text of a row.
    fn literals(&self, row: &str) -> String {
        let one = |name: &String| {
            let value = format!("{row}.{}", identifier(name));
            // A text with a zero byte would end there, and one with the separator would look like two.
            format!(
                "CASE WHEN typeof({value}) IN ('text', 'blob') AND length(CAST({value} AS BLOB)) > {VALUE_BYTES_MAX} THEN '-' \
                 WHEN typeof({value}) = 'text' AND (instr({value}, char(0)) OR instr({value}, char(31))) THEN 'T' || hex({value}) \
                 ELSE quote({value}) END"
            )
        };
        self.columns.iter().map(one).collect::<Vec<_>>().join(" || char(31) || ")
    }
}

fn remove(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let ours = "SELECT name FROM sqlite_schema WHERE type = 'trigger' AND name LIKE 'larder\\_%' ESCAPE '\\'
        AND sql LIKE '%INSERT INTO larder_changes %'";
    let names: Vec<String> = {
        let mut statement = transaction.prepare(ours)?;
        statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?
    };
    for name in names {
        transaction.execute(&format!("DROP TRIGGER {}", identifier(&name)), [])?;
    }
    transaction.execute("DROP TABLE IF EXISTS larder_changes", [])?;
    transaction.commit()
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn text(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_read_back() {
        assert_eq!(literal("'it''s'"), Some(Cell::Text(b"it's".as_slice().into())));
        assert_eq!(literal("X'00ff'"), Some(Cell::Bytes([0, 255].into())));
        assert_eq!(literal("T6100"), Some(Cell::Text([97, 0].into())));
        assert_eq!(literal("-9223372036854775808"), Some(Cell::Integer(i64::MIN)));
        assert_eq!(literal("1.5e+300"), Some(Cell::Real(1.5e300)));
        assert_eq!(literal("-"), None);
    }
}
