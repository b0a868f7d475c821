//! What a stream of events means: changes of rows, and positions from which to go on.
//!
//! Invariant: where it cannot be told which rows changed, more is told instead: that all rows of the table are gone, or that changes may
//! have been missed. A position is told only between transactions.

use super::columns::Described;
use super::event::{
    Event, RowsEvent, Stored, TableMap, code, has_checksums, read_prepared, read_query, read_rotation,
    table_of,
};
use super::value::{self, Zone};
use crate::message::Body;
use larder_source::{Cell, Change, Failure, Named, Position, Told};
use larder_source_net::garbled;
use std::collections::HashMap;
use std::sync::Arc;

/// A table whose events are of interest.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Watched {
    pub schema: String,
    pub table: String,
    /// Under which names its changes are told; none where only others depend on it.
    pub told: Vec<String>,
    /// Tables whose rows the store changes together with its own, without a word in the binlog.
    pub dependents: Vec<Dependent>,
}

/// A table with a foreign key that cascades.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dependent {
    /// Its place among those that are watched.
    pub table: usize,
    /// Its rows change when a row is deleted.
    pub at_delete: bool,
    /// Its rows change when one of these columns does.
    pub at_update: Vec<String>,
}

/// What is known before the first event.
#[derive(Debug, Default)]
pub struct Start {
    pub watched: Vec<Watched>,
    /// Names of tables are the same in capitals.
    pub ignores_case: bool,
    pub zone: Zone,
    pub has_checksums: bool,
    pub place: Place,
}

/// A position in the binlog of a server.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Place {
    pub server: u32,
    pub file: String,
    pub position: u64,
    /// When the file was begun: another file may have the same name later.
    pub stamp: Option<u32>,
}

impl Place {
    /// `1/binlog.000003:1234@1700000000`
    pub fn parse(text: &str) -> Option<Place> {
        let (server, rest) = text.split_once('/')?;
        let (rest, stamp) = rest.rsplit_once('@')?;
        let (file, position) = rest.rsplit_once(':')?;
        let place = Place {
            server: server.parse().ok()?,
            file: file.to_owned(),
            position: position.parse().ok()?,
            stamp: Some(stamp.parse().ok()?),
        };
        (!file.is_empty()).then_some(place)
    }

    /// Nothing as long as it is not known which file it is.
    fn told(&self) -> Option<Position> {
        let stamp = self.stamp?;
        Some(Position(format!("{}/{}:{}@{stamp}", self.server, self.file, self.position)))
    }
}

/// What is wanted to go on.
#[derive(Debug, Eq, PartialEq)]
pub enum Read {
    /// Nothing.
    Done,
    /// The columns of a table that is watched, under the number that it has in this binlog.
    Describe { id: u64, table: usize },
    /// The file is another one of the same name.
    Gone,
    /// Which tables depend on which has changed.
    Stale,
}

/// Reads events, one after the other.
pub struct Reader {
    start: Start,
    place: Place,
    /// It is later in its file than positions can say.
    is_beyond: bool,
    told: Option<Position>,
    in_transaction: bool,
    tables: HashMap<u64, Table>,
    /// Of the watched tables, what happened to them in this transaction.
    emptied: Vec<bool>,
    touched: Vec<bool>,
    /// Transactions that are prepared, with the tables that they change.
    prepared: HashMap<String, Vec<bool>>,
    /// Something that stands in a file has been read.
    has_begun: bool,
    is_stale: bool,
    /// The store has said that there is nothing more.
    is_idle: bool,
    /// When what was told last was done.
    at_ms: u64,
}

struct Table {
    watched: usize,
    stored: Vec<Stored>,
    names_told: Option<Vec<String>>,
    /// None until they are known, or if they are not those of these rows.
    described: Option<Vec<Described>>,
    names: Arc<[String]>,
}

/// Numbers of tables that are remembered; each change of a table has a new one.
const TABLES_MAX: usize = 1024;
/// Transactions that may be prepared at once.
const PREPARED_MAX: usize = 10_000;

/// Where what is told goes.
pub type Tell<'a> = &'a mut (dyn FnMut(Told) + Send);

impl Reader {
    pub fn new(start: Start) -> Reader {
        let count = start.watched.len();
        Reader {
            place: start.place.clone(),
            is_beyond: false,
            told: None,
            in_transaction: false,
            tables: HashMap::new(),
            emptied: vec![false; count],
            touched: vec![false; count],
            prepared: HashMap::new(),
            has_begun: false,
            is_stale: false,
            is_idle: false,
            at_ms: 0,
            start,
        }
    }

    /// Whether anything has come that stands in a file.
    pub fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Whether all has been read that was there when the binlog ended at this place.
    pub fn has_reached(&self, end: &Place) -> bool {
        let number = |file: &str| file.rsplit('.').next().and_then(|digits| digits.parse::<u64>().ok());
        let is_later = self.place.file != end.file && number(&self.place.file) > number(&end.file);
        self.is_idle || is_later || (self.place.file == end.file && self.place.position >= end.position)
    }

    /// A watched table: its schema and name.
    pub fn watched(&self, table: usize) -> Option<(&str, &str)> {
        self.start.watched.get(table).map(|watched| (watched.schema.as_str(), watched.table.as_str()))
    }

    /// How the columns of a table stand in rows.
    pub fn stored(&self, id: u64) -> &[Stored] {
        self.tables.get(&id).map_or(&[], |table| &table.stored)
    }

    /// Reads one event.
    pub fn read(&mut self, bytes: &[u8], tell: Tell<'_>) -> Result<Read, Failure> {
        let event = Event::read(bytes, self.start.has_checksums)?;
        self.has_begun |= !event.is_artificial && event.end != 0 && event.kind != code::FORMAT_DESCRIPTION;
        let mut outcome = Read::Done;
        match event.kind {
            code::FORMAT_DESCRIPTION => {
                self.start.has_checksums = has_checksums(event.body)?;
                if self.place.stamp.is_some_and(|stamp| stamp != event.stamp) {
                    return Ok(Read::Gone);
                }
                self.place.stamp = Some(event.stamp);
                self.tables.clear();
            }
            code::ROTATE => {
                let (file, position) = read_rotation(event.body)?;
                if file != self.place.file {
                    self.place = Place { file, position, stamp: None, ..self.place.clone() };
                    self.is_beyond = false;
                }
                return Ok(Read::Done);
            }
            code::HEARTBEAT | code::HEARTBEAT_2 if !self.in_transaction => {
                self.is_idle = true;
                tell(Told::Idle);
            }
            code::TABLE_MAP => {
                // Rows follow, which nobody could read who began between here and there.
                self.in_transaction = true;
                outcome = self.map(TableMap::read(event.body)?);
            }
            code::WRITE_ROWS_1..=code::DELETE_ROWS_1 | code::WRITE_ROWS_2..=code::DELETE_ROWS_2 => {
                self.rows(&event, tell)?;
            }
            code::PARTIAL_UPDATE_ROWS
            | code::MARIADB_ROWS_COMPRESSED_FIRST..=code::MARIADB_ROWS_COMPRESSED_LAST => {
                if let Some(table) = self.tables.get(&table_of(event.body)?) {
                    self.changed_somehow(table.watched, tell);
                }
            }
            code::QUERY => self.query(event.body, false, tell)?,
            code::EXECUTE_LOAD_QUERY => self.query(event.body, true, tell)?,
            code::MARIADB_GTID => {
                let mut body = event.body;
                body.bytes(12)?;
                // Alone, what follows is no transaction, and nothing ends it.
                self.in_transaction = body.u8()? & 1 == 0;
            }
            code::XID => {
                self.at(&event, tell);
                self.end();
            }
            code::XA_PREPARE => {
                if let Some(name) = read_prepared(event.body)? {
                    if self.prepared.len() >= PREPARED_MAX {
                        self.prepared.clear();
                    }
                    self.prepared.insert(name, self.touched.clone());
                }
                self.end();
            }
            code::INCIDENT | code::TRANSACTION_PAYLOAD | code::MARIADB_QUERY_COMPRESSED => tell(Told::Gap),
            _ => {}
        }
        self.advance(event.end);
        self.reached(tell);
        if self.is_stale && !self.in_transaction {
            return Ok(Read::Stale);
        }
        Ok(outcome)
    }

    fn advance(&mut self, end: u32) {
        if end == 0 || self.is_beyond {
            return;
        }
        // Positions of a file larger than 4 GiB begin at zero again.
        self.is_beyond = u64::from(end) < self.place.position;
        self.place.position = self.place.position.max(u64::from(end));
    }

    fn reached(&mut self, tell: Tell<'_>) {
        if self.in_transaction || self.is_beyond {
            return;
        }
        let position = self.place.told();
        if position != self.told {
            position.clone().into_iter().for_each(|position| tell(Told::Reached(position)));
            self.told = position;
        }
    }

    /// The end of a transaction.
    fn end(&mut self) {
        self.in_transaction = false;
        self.emptied.fill(false);
        self.touched.fill(false);
    }

    fn is_same(&self, name: &str, other: &str) -> bool {
        if self.start.ignores_case { name.to_lowercase() == other.to_lowercase() } else { name == other }
    }

    fn map(&mut self, map: TableMap) -> Read {
        let watched = self.start.watched.iter().position(|watched| {
            self.is_same(&watched.schema, &map.schema) && self.is_same(&watched.table, &map.table)
        });
        let Some(watched) = watched else {
            self.tables.remove(&map.id);
            return Read::Done;
        };
        let stored = map.columns.unwrap_or_default();
        if let Some(known) = self.tables.get(&map.id)
            && (known.watched, &known.stored, &known.names_told) == (watched, &stored, &map.names)
        {
            return Read::Done;
        }
        if self.tables.len() >= TABLES_MAX {
            self.tables.clear();
        }
        let table = Table { watched, stored, names_told: map.names, described: None, names: Arc::new([]) };
        self.tables.insert(map.id, table);
        Read::Describe { id: map.id, table: watched }
    }

    /// Says what the columns of a table are. If they cannot be those of the rows, its rows are not told.
    pub fn describe(&mut self, id: u64, columns: Vec<Described>) {
        let Some(table) = self.tables.get_mut(&id) else { return };
        let names: Arc<[String]> = columns.iter().map(|column| column.name.clone()).collect();
        let fit = columns.len() == table.stored.len()
            && columns.iter().zip(&table.stored).all(|(column, stored)| column.fits(*stored))
            && table.names_told.as_ref().is_none_or(|told| told[..] == names[..]);
        table.described = fit.then_some(columns);
        table.names = names;
    }

    /// Says when what follows was done. That is known to the second: its end, so that nothing looks late that is not.
    fn at(&mut self, event: &Event<'_>, tell: Tell<'_>) {
        let at_ms = u64::from(event.stamp) * 1000 + 999;
        if std::mem::replace(&mut self.at_ms, at_ms) != at_ms {
            tell(Told::At(at_ms));
        }
    }

    fn rows(&mut self, event: &Event<'_>, tell: Tell<'_>) -> Result<(), Failure> {
        let (kind, body) = (event.kind, event.body);
        let id = table_of(body)?;
        if self.tables.contains_key(&id) {
            self.at(event, tell);
        }
        let Some(table) = self.tables.get(&id) else { return Ok(()) };
        let Some(described) = &table.described else {
            self.changed_somehow(table.watched, tell);
            return Ok(());
        };
        let mut event = RowsEvent::read(kind, body)?;
        if event.columns != described.len() {
            return Err(garbled("rows of the binlog with other columns than their table has"));
        }
        let watched = &self.start.watched[table.watched];
        self.touched[table.watched] |= !watched.told.is_empty();
        while !event.rows.is_empty() {
            let left = event.rows.0.len();
            let before = table.image(event.before, &mut event.rows, self.start.zone)?;
            let mut after = table.image(event.after, &mut event.rows, self.start.zone)?;
            if event.rows.0.len() == left {
                return Err(garbled("rows of the binlog that hold nothing"));
            }
            if let (Some(before), Some(after)) = (&before, &mut after) {
                // What a column was is not told: then it is of no use to know what it is.
                after
                    .iter_mut()
                    .zip(before)
                    .filter(|(_, before)| before.is_none())
                    .for_each(|(after, _)| *after = None);
            }
            for dependent in &watched.dependents {
                let is_changed = match (&before, &after) {
                    (Some(before), Some(after)) => dependent.at_update.iter().any(|name| {
                        let at = table.names.iter().position(|known| known.eq_ignore_ascii_case(name));
                        at.is_none_or(|at| {
                            before[at].is_none()
                                || after[at].as_ref().is_some_and(|after| Some(after) != before[at].as_ref())
                        })
                    }),
                    (Some(_), None) => dependent.at_delete,
                    _ => false,
                };
                if is_changed {
                    empty(&self.start.watched, &mut self.emptied, &mut self.touched, dependent.table, tell);
                }
            }
            let [before, after] =
                [before, after].map(|cells| cells.map(|cells| Named::told(&table.names, cells)));
            for name in &watched.told {
                tell(Told::Changed(Change {
                    table: name.clone(),
                    before: before.clone(),
                    after: after.clone(),
                }));
            }
        }
        Ok(())
    }

    /// Rows of a table changed, and it cannot be told which.
    fn changed_somehow(&mut self, table: usize, tell: Tell<'_>) {
        let Reader { start, emptied, touched, .. } = self;
        empty(&start.watched, emptied, touched, table, tell);
        for dependent in &start.watched[table].dependents {
            empty(&start.watched, emptied, touched, dependent.table, tell);
        }
    }

    fn query(&mut self, body: Body<'_>, is_load: bool, tell: Tell<'_>) -> Result<(), Failure> {
        let (_, query) = read_query(body, is_load)?;
        let start: String = query.trim_start().chars().take(16).collect::<String>().to_ascii_uppercase();
        let begins = |word: &str| {
            start.strip_prefix(word).is_some_and(|rest| !rest.starts_with(|ch: char| ch.is_alphanumeric()))
        };
        if begins("BEGIN") || begins("START") || begins("XA START") || begins("XA BEGIN") {
            self.in_transaction = true;
        } else if begins("COMMIT") || (begins("ROLLBACK") && !query.to_ascii_uppercase().contains(" TO")) {
            self.end();
        } else if begins("XA COMMIT") || begins("XA ROLLBACK") {
            let query = query.to_ascii_lowercase();
            let name = query.find("x'").map_or("", |at| &query[at..]);
            let changed = self.prepared.remove(name.trim());
            self.end();
            if begins("XA COMMIT") {
                match changed {
                    None => tell(Told::Gap),
                    Some(changed) => (0..changed.len()).filter(|at| changed[*at]).for_each(|at| {
                        empty(&self.start.watched, &mut self.emptied, &mut self.touched, at, tell);
                    }),
                }
                self.end();
            }
        } else if !(begins("SAVEPOINT") || begins("ROLLBACK") || begins("RELEASE") || begins("XA")) {
            self.statement(&query, tell);
            if !self.in_transaction {
                self.end();
            }
        }
        Ok(())
    }

    /// A statement that changes a table or the rows in it: it is enough that its name is in it.
    fn statement(&mut self, query: &str, tell: Tell<'_>) {
        let is_drop = query.trim_start().get(..4).is_some_and(|word| word.eq_ignore_ascii_case("DROP"));
        for at in 0..self.start.watched.len() {
            let watched = &self.start.watched[at];
            if mentions(query, &watched.table) || (is_drop && mentions(query, &watched.schema)) {
                self.changed_somehow(at, tell);
                self.tables.retain(|_, table| table.watched != at);
                self.is_stale |= mentions(query, "foreign") || mentions(query, "references");
            }
        }
    }
}

/// Tells that a table is to be looked at anew, once in a transaction.
fn empty(watched: &[Watched], emptied: &mut [bool], touched: &mut [bool], table: usize, tell: Tell<'_>) {
    let names = watched.get(table).map_or(&[][..], |watched| &watched.told);
    touched[table] |= !names.is_empty();
    if !std::mem::replace(&mut emptied[table], true) {
        names.iter().for_each(|name| tell(Told::Emptied(name.clone())));
    }
}

/// Whether a name stands in a text, in whatever quotes, and not as a part of another.
fn mentions(query: &str, name: &str) -> bool {
    if name.contains('`') {
        return true;
    }
    let (query, name) = (query.to_lowercase(), name.to_lowercase());
    let is_word = |ch: Option<char>| ch.is_some_and(|ch| ch.is_alphanumeric() || matches!(ch, '_' | '$'));
    query.match_indices(&name).any(|(at, _)| {
        !is_word(query[..at].chars().next_back()) && !is_word(query[at + name.len()..].chars().next())
    })
}

impl Table {
    /// One image of a row: a cell for each column that is told.
    fn image(
        &self,
        told: Option<&[u8]>,
        rows: &mut Body<'_>,
        zone: Zone,
    ) -> Result<Option<Vec<Option<Cell>>>, Failure> {
        let Some(told) = told else { return Ok(None) };
        let is_told = |at: usize| told.get(at / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 1);
        let count = (0..self.stored.len()).filter(|&at| is_told(at)).count();
        let nulls = rows.bytes(count.div_ceil(8))?;
        let mut place = 0;
        let mut cells = Vec::with_capacity(self.stored.len());
        for (at, (stored, described)) in self.stored.iter().zip(self.described.iter().flatten()).enumerate() {
            if !is_told(at) {
                cells.push(None);
                continue;
            }
            let is_null = nulls[place / 8] >> (place % 8) & 1 == 1;
            place += 1;
            cells.push(if is_null { Some(Cell::Null) } else { value::read(rows, *stored, described, zone)? });
        }
        Ok(Some(cells))
    }
}

#[cfg(test)]
mod tests {
    use super::super::columns::{Charset, Meaning};
    use super::super::event::tests::made;
    use super::*;
    use crate::cells::kind;

    fn described() -> Vec<Described> {
        vec![
            Described { name: "id".to_owned(), meaning: Meaning::Integer { is_unsigned: false } },
            Described { name: "name".to_owned(), meaning: Meaning::Text(Charset::Utf8) },
        ]
    }

    fn watched(table: &str, told: bool) -> Watched {
        Watched {
            schema: "shop".to_owned(),
            table: table.to_owned(),
            told: if told { vec![table.to_owned()] } else { Vec::new() },
            dependents: Vec::new(),
        }
    }

    struct Stream {
        reader: Reader,
        end: u32,
    }

    impl Stream {
        fn new(watched: Vec<Watched>) -> Stream {
            let place = Place { server: 1, file: "binlog.000001".to_owned(), position: 4, stamp: None };
            let start = Start { watched, has_checksums: true, zone: Some(0), place, ..Start::default() };
            let mut stream = Stream { reader: Reader::new(start), end: 4 };
            let mut format = vec![4, 0];
            format.extend_from_slice(&[0; 60]);
            format.push(1);
            assert_eq!(stream.event(code::FORMAT_DESCRIPTION, &format).len(), 1);
            stream
        }

        fn event(&mut self, kind: u8, body: &[u8]) -> Vec<Told> {
            self.end += 23 + body.len() as u32;
            let mut told = Vec::new();
            let bytes = made(kind, self.end, 0, body);
            // All of it happens in one second.
            let read = self.reader.read(&bytes, &mut |one| match one {
                Told::At(at_ms) => assert_eq!(at_ms, 1_700_000_000_999),
                one => told.push(one),
            });
            let read = read.unwrap();
            if let Read::Describe { id, .. } = read {
                self.reader.describe(id, described());
            }
            told
        }

        fn query(&mut self, query: &str) -> Vec<Told> {
            let mut body = vec![0; 8];
            body.extend_from_slice(&[4, 0, 0, 0, 0]);
            body.extend_from_slice(b"shop\0");
            body.extend_from_slice(query.as_bytes());
            self.event(code::QUERY, &body)
        }

        fn map(&mut self, id: u8, table: &str) {
            let mut body = vec![id, 0, 0, 0, 0, 0, 0, 0, 4];
            body.extend_from_slice(b"shop\0");
            body.push(table.len() as u8);
            body.extend_from_slice(table.as_bytes());
            body.extend_from_slice(&[0, 2, kind::LONG, kind::VARCHAR, 2, 10, 0, 3]);
            assert_eq!(self.event(code::TABLE_MAP, &body), []);
        }

        fn rows(&mut self, kind: u8, id: u8, columns: &[u8], rows: &[u8]) -> Vec<Told> {
            let mut body = vec![id, 0, 0, 0, 0, 0, 0, 0];
            if kind >= code::WRITE_ROWS_2 {
                body.extend_from_slice(&[2, 0]);
            }
            body.push(2);
            body.extend_from_slice(columns);
            body.extend_from_slice(rows);
            self.event(kind, &body)
        }

        fn position(&self) -> Told {
            Told::Reached(Position(format!("1/binlog.000001:{}@1700000000", self.end)))
        }
    }

    fn change(before: Option<&[(&str, Cell)]>, after: Option<&[(&str, Cell)]>) -> Told {
        let named = |pairs: &[(&str, Cell)]| Named {
            names: pairs.iter().map(|(name, _)| (*name).to_owned()).collect(),
            row: pairs.iter().map(|(_, cell)| cell.clone()).collect(),
        };
        Told::Changed(Change {
            table: "users".to_owned(),
            before: before.map(named),
            after: after.map(named),
        })
    }

    fn text(text: &str) -> Cell {
        Cell::Text(text.as_bytes().into())
    }

    #[test]
    fn rows_are_told_and_positions_only_between_transactions() {
        let mut stream = Stream::new(vec![watched("users", true)]);
        assert_eq!(stream.query("BEGIN"), []);
        stream.map(7, "users");
        let told = stream.rows(code::WRITE_ROWS_1, 7, &[3], b"\0\x01\0\0\0\x01a\x02\x02\0\0\0");
        let (one, two) = (Cell::Integer(1), Cell::Integer(2));
        assert_eq!(
            told,
            [
                change(None, Some(&[("id", one.clone()), ("name", text("a"))])),
                change(None, Some(&[("id", two.clone()), ("name", Cell::Null)]))
            ]
        );
        let told = stream.rows(code::UPDATE_ROWS_2, 7, &[3, 3], b"\0\x01\0\0\0\x01a\0\x02\0\0\0\x01b");
        let (before, after) =
            ([("id", one.clone()), ("name", text("a"))], [("id", two.clone()), ("name", text("b"))]);
        assert_eq!(told, [change(Some(&before), Some(&after))]);
        let told = stream.rows(code::DELETE_ROWS_1, 7, &[1], b"\0\x02\0\0\0");
        assert_eq!(told, [change(Some(&[("id", two)]), None)]);
        assert_eq!(stream.event(code::HEARTBEAT, b"binlog.000001"), []);
        assert_eq!(stream.event(code::XID, &[0; 8]), [stream.position()]);
        assert_eq!(stream.event(code::HEARTBEAT, b"binlog.000001"), [Told::Idle, stream.position()]);
        // With the smallest images only the key is sure.
        stream.query("BEGIN");
        stream.map(7, "users");
        let told = stream.rows(code::UPDATE_ROWS_1, 7, &[1, 2], b"\0\x01\0\0\0\0\x01b");
        assert_eq!(told, [change(Some(&[("id", one)]), Some(&[]))]);
    }

    #[test]
    fn statements_that_name_a_table_empty_it() {
        let mut stream = Stream::new(vec![watched("users", true), watched("orders", true)]);
        let emptied = |table: &str| Told::Emptied(table.to_owned());
        assert_eq!(stream.query("TRUNCATE `users`"), [emptied("users"), stream.position()]);
        assert_eq!(stream.query("alter table shop.ORDERS add x int"), [emptied("orders"), stream.position()]);
        assert_eq!(stream.query("ALTER TABLE users_old ADD x int"), [stream.position()]);
        assert_eq!(
            stream.query("DROP DATABASE shop"),
            [emptied("users"), emptied("orders"), stream.position()]
        );
        assert_eq!(stream.query("BEGIN"), []);
        assert_eq!(stream.query("/* by hand */ UPDATE users SET x = 1"), [emptied("users")]);
        assert_eq!(stream.query("DELETE FROM users"), [], "once is enough");
        assert_eq!(stream.query("SAVEPOINT users"), []);
        assert_eq!(stream.query("ROLLBACK TO users"), []);
        assert_eq!(stream.query("COMMIT"), [stream.position()]);
        assert_eq!(stream.event(code::INCIDENT, &[1, 0, 0]), [Told::Gap, stream.position()]);
    }

    #[test]
    fn what_cannot_be_read_empties_its_table() {
        let mut stream = Stream::new(vec![watched("users", true)]);
        stream.map(7, "elsewhere");
        assert_eq!(stream.rows(code::WRITE_ROWS_1, 7, &[3], b"nonsense"), []);
        stream.query("BEGIN");
        stream.map(8, "users");
        assert_eq!(
            stream.rows(code::PARTIAL_UPDATE_ROWS, 8, &[3], b"?"),
            [Told::Emptied("users".to_owned())]
        );
        assert_eq!(stream.rows(code::MARIADB_ROWS_COMPRESSED_FIRST, 8, &[3], b"?"), []);
        stream.event(code::XID, &[0; 8]);
        stream.query("BEGIN");
        // Its columns have become others since.
        let mut body = b"\x09\0\0\0\0\0\0\0\x04shop\0\x05users\0\x01".to_vec();
        body.extend_from_slice(&[kind::LONG, 0, 1]);
        stream.event(code::TABLE_MAP, &body);
        assert_eq!(stream.rows(code::WRITE_ROWS_1, 9, &[1], b"?"), [Told::Emptied("users".to_owned())]);
    }

    #[test]
    fn foreign_keys_that_cascade_are_followed() {
        let mut parent = watched("users", false);
        parent.dependents = vec![Dependent { table: 1, at_delete: true, at_update: vec!["id".to_owned()] }];
        let mut stream = Stream::new(vec![parent, watched("orders", true)]);
        stream.query("BEGIN");
        stream.map(7, "users");
        assert_eq!(stream.rows(code::UPDATE_ROWS_1, 7, &[3, 3], b"\0\x01\0\0\0\x01a\0\x01\0\0\0\x01b"), []);
        let orders = [Told::Emptied("orders".to_owned())];
        assert_eq!(
            stream.rows(code::UPDATE_ROWS_1, 7, &[3, 3], b"\0\x01\0\0\0\x01a\0\x02\0\0\0\x01a"),
            orders
        );
        stream.event(code::XID, &[0; 8]);
        stream.query("BEGIN");
        stream.map(7, "users");
        assert_eq!(stream.rows(code::DELETE_ROWS_1, 7, &[3], b"\0\x01\0\0\0\x01a"), orders);
    }

    #[test]
    fn what_is_prepared_counts_once_it_is_committed() {
        let mut stream = Stream::new(vec![watched("users", true)]);
        stream.query("XA START X'6162',X'',1");
        stream.map(7, "users");
        stream.rows(code::DELETE_ROWS_1, 7, &[1], b"\0\x02\0\0\0");
        stream.query("XA END X'6162',X'',1");
        assert_eq!(stream.event(code::XA_PREPARE, b"\0\x01\0\0\0\x02\0\0\0\0\0\0\0ab"), [stream.position()]);
        let emptied = Told::Emptied("users".to_owned());
        assert_eq!(stream.query("XA COMMIT X'6162',X'',1"), [emptied, stream.position()]);
        assert_eq!(stream.query("XA COMMIT X'6162',X'',1"), [Told::Gap, stream.position()]);
    }

    #[test]
    fn positions_go_both_ways() {
        let place = Place { server: 1, file: "a:b@c.000001".to_owned(), position: 77, stamp: Some(5) };
        assert_eq!(Place::parse(&place.told().unwrap().0), Some(place));
        for wrong in ["", "1/a:2", "x/a:2@3", "1/:2@3", "1/a:-2@3"] {
            assert_eq!(Place::parse(wrong), None);
        }
    }

    #[test]
    fn names_are_found_as_words() {
        for query in ["drop table users", "a `users`", "shop.users(", "USERS"] {
            assert!(mentions(query, "users"), "{query}");
        }
        for query in ["users2", "my_users", "\u{e9}users", "us ers"] {
            assert!(!mentions(query, "users"), "{query}");
        }
    }
}
