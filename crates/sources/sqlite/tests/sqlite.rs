//! The SQLite driver against SQLite files.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use larder_source::{
    Answer, Cell, Change, ColumnKind, Driver, FailureKind, Language, Limits, Parameter, Position, Purpose,
    Request, Rows, Template, Told,
};
use larder_source_net::{Options, Runtime};
use rusqlite::Connection;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const LIMITS: Limits = Limits { rows: 1000, bytes: 1 << 20 };

struct Shop {
    folder: TempDir,
    driver: Arc<dyn Driver>,
}

fn shop() -> Shop {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.db");
    let script = "
        PRAGMA journal_mode = wal;
        CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, email TEXT UNIQUE, score REAL, photo BLOB, extra JSON);
        INSERT INTO users VALUES (1, 'Ann', 'ann@x', 1.5, x'00ff', '{\"a\":1}'), (2, NULL, 'bob@x', NULL, NULL, NULL),
            (3, 'Cid''s', 'cid@x', -0.25, x'', '[]');";
    Connection::open(&path).unwrap().execute_batch(script).unwrap();
    let driver =
        larder_source_sqlite::open(&format!("sqlite:{}", path.display()), &Options::default()).unwrap();
    Shop { folder, driver }
}

impl Shop {
    fn other(&self) -> Connection {
        let connection = Connection::open(self.folder.path().join("shop.db")).unwrap();
        connection.busy_timeout(Duration::from_secs(5)).unwrap();
        connection
    }

    fn load(
        &self,
        text: &str,
        parameters: &[Parameter],
        limits: Limits,
    ) -> Result<Rows, larder_source::Failure> {
        let statement = sql(text);
        let request = Request { statement: &statement, parameters, validator: None, limits };
        match run(self.driver.load(request))? {
            Answer::Rows { rows, .. } => Ok(rows),
            Answer::Unchanged { .. } => panic!("nothing was to compare with"),
        }
    }
}

fn sql(text: &str) -> Template {
    Template::parse(text, Language::Sql).unwrap()
}

fn run<T>(future: impl Future<Output = T>) -> T {
    Runtime::get().unwrap().block_on(future)
}

fn text(text: &str) -> Cell {
    Cell::Text(text.as_bytes().into())
}

#[test]
fn rows_come_with_their_types() {
    let shop = shop();
    let rows = shop.load("SELECT * FROM users WHERE id = $id", &[Parameter::Integer(1)], LIMITS).unwrap();
    let names: Vec<&str> = rows.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["id", "name", "email", "score", "photo", "extra"]);
    let json = Cell::Json(b"{\"a\":1}".as_slice().into());
    let row =
        [Cell::Integer(1), text("Ann"), text("ann@x"), Cell::Real(1.5), Cell::Bytes([0, 255].into()), json];
    assert_eq!(&*rows.rows[0], &row);
    let rows =
        shop.load("SELECT name, score FROM users WHERE id = $id", &[Parameter::Text("2".into())], LIMITS);
    assert_eq!(&*rows.unwrap().rows[0], &[Cell::Null, Cell::Null]);
    let rows = shop.load("SELECT name FROM users WHERE id = $id", &[Parameter::Integer(9)], LIMITS).unwrap();
    assert!(rows.rows.is_empty());
    assert_eq!(run(shop.driver.probe()).unwrap(), format!("SQLite {}", rusqlite::version()));
}

#[test]
fn a_batch_takes_lists() {
    let shop = shop();
    for statement in [
        "SELECT id FROM users WHERE id IN $id ORDER BY 1",
        "SELECT id FROM users WHERE id IN ($id) ORDER BY 1",
    ] {
        for count in [1, 3, 5, 1000] {
            let list = Parameter::List((0..count).map(|at| Parameter::Integer(at + 2)).collect());
            let rows = shop.load(statement, &[list], LIMITS).unwrap();
            let expected: Vec<i64> = (2..=3).take(count as usize).collect();
            let found: Vec<i64> =
                rows.rows.iter().map(|row| if let Cell::Integer(id) = row[0] { id } else { 0 }).collect();
            assert_eq!(found, expected, "{statement}, {count}");
        }
        let checked = run(shop.driver.check(&sql(statement), Purpose::Batch)).unwrap();
        assert_eq!(checked.columns[0].kind, ColumnKind::Integer);
        assert_eq!(shop.load(statement, &[Parameter::List(Vec::new())], LIMITS).unwrap().rows.len(), 0);
    }
    let list = Parameter::List(vec![Parameter::Null; 40_000]);
    let failure = shop.load("SELECT id FROM users WHERE id IN $id", &[list], LIMITS).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unfit);
}

#[test]
fn wrong_statements_are_refused_with_their_place() {
    let shop = shop();
    for (text, purpose, word) in [
        ("SELECT nam FROM users WHERE id = $id", Purpose::Load, "nam"),
        ("SELECT name FROM users WHERE $id = idd", Purpose::Load, "idd"),
        ("SELECT name FROM users WHERE id IN $id AND nix = 1", Purpose::Batch, "nix"),
        ("SELECT name FRM users", Purpose::Load, "users"),
    ] {
        let failure = run(shop.driver.check(&sql(text), purpose)).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Refused, "{text}: {failure}");
        assert_eq!(failure.position, text.find(word), "{text}: {failure}");
    }
    for text in ["DELETE FROM users", "SELECT 1; SELECT 2", "SELECT * FROM nowhere"] {
        let failure = run(shop.driver.check(&sql(text), Purpose::Load)).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Refused, "{text}: {failure}");
        assert!(shop.load(text, &[], LIMITS).is_err(), "{text}");
    }
    assert!(run(shop.driver.check(&sql("DELETE FROM users WHERE id = $id"), Purpose::Write)).is_ok());
    assert_eq!(shop.load("SELECT id FROM users", &[], LIMITS).unwrap().rows.len(), 3);
}

#[test]
fn limits_hold_before_rows_are_held() {
    let shop = shop();
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n";
    let failure = shop.load(endless, &[], Limits { rows: 10, bytes: 1 << 20 }).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unfit);
    let failure = shop.load("SELECT zeroblob(100000)", &[], Limits { rows: 10, bytes: 1000 }).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unfit);
    assert_eq!(
        shop.load("SELECT zeroblob(1000)", &[], Limits { rows: 1, bytes: 1000 }).unwrap().rows.len(),
        1
    );
}

#[test]
fn what_is_given_up_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
    // With one connection a second statement runs only once the first has ended.
    let options = Options { connections: 1, ..Options::default() };
    let driver = larder_source_sqlite::open(&format!("sqlite:{}", path.display()), &options).unwrap();
    let endless =
        sql("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n");
    let request = Request { statement: &endless, parameters: &[], validator: None, limits: LIMITS };
    run(async {
        assert!(tokio::time::timeout(Duration::from_millis(50), driver.load(request)).await.is_err());
        assert!(tokio::time::timeout(Duration::from_secs(5), driver.probe()).await.unwrap().is_ok());
    });
}

#[test]
fn what_cannot_be_done_at_once_is_done_all_the_same() {
    let shop = shop();
    let count = |most: u32| {
        let sum = format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {most}) SELECT max(i) FROM n"
        );
        shop.load(&sum, &[], LIMITS).unwrap().rows[0][0].clone()
    };
    // The first opens a connection; then one that takes few steps, one that takes many, and few again.
    for most in [3, 5, 300_000, 7] {
        assert_eq!(count(most), Cell::Integer(most.into()));
    }
}

#[test]
fn a_lock_of_another_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let other = Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE t (a); INSERT INTO t VALUES ('x')").unwrap();
    let driver =
        larder_source_sqlite::open(&format!("sqlite:{}", path.display()), &Options::default()).unwrap();
    let shop = Shop { folder, driver };
    let read = || shop.load("SELECT a FROM t", &[], LIMITS).unwrap().rows[0][0].clone();
    assert_eq!(read(), text("x"));
    other.execute_batch("BEGIN EXCLUSIVE; UPDATE t SET a = 'y'").unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(read);
        std::thread::sleep(Duration::from_millis(200));
        other.execute_batch("COMMIT").unwrap();
        assert_eq!(waiting.join().unwrap(), text("y"));
    });
}

#[test]
fn a_file_that_is_missing_is_not_created_and_one_put_there_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let driver =
        larder_source_sqlite::open(&format!("sqlite:{}", path.display()), &Options::default()).unwrap();
    assert_eq!(run(driver.probe()).unwrap_err().kind, FailureKind::Unreachable);
    assert!(!path.exists());
    let statement = sql("SELECT a FROM t");
    let request = Request { statement: &statement, parameters: &[], validator: None, limits: LIMITS };
    for value in [1, 2] {
        let new = folder.path().join("new.db");
        Connection::open(&new)
            .unwrap()
            .execute_batch(&format!("CREATE TABLE t (a); INSERT INTO t VALUES ({value})"))
            .unwrap();
        std::fs::rename(new, &path).unwrap();
        let Answer::Rows { rows, .. } = run(driver.load(request.clone())).unwrap() else { panic!() };
        assert_eq!(rows.rows[0][0], Cell::Integer(value));
    }
    std::fs::write(&path, "no database").unwrap();
    assert_eq!(run(driver.probe()).unwrap_err().kind, FailureKind::Refused);
    for url in ["sqlite:", "sqlite::memory:", "sqlite://a/b.db", "sqlite:a?mode=x"] {
        assert!(larder_source_sqlite::open(url, &Options::default()).is_err(), "{url}");
    }
}

#[test]
fn writes_happen_together_or_not_at_all() {
    let shop = shop();
    let rename = sql("UPDATE users SET name = $name WHERE id = $id");
    let values = |id| vec![Parameter::Text("New".into()), Parameter::Integer(id)];
    let changed = run(shop.driver.write(&[(&rename, values(1)), (&rename, values(99))])).unwrap();
    assert_eq!(changed, [1, 0]);
    let upsert = sql("INSERT INTO users (id, email) VALUES ($id, $email) RETURNING id");
    let taken = vec![Parameter::Integer(5), Parameter::Text("ann@x".into())];
    let failure = run(shop.driver.write(&[(&rename, values(2)), (&upsert, taken)])).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Refused);
    let rows = shop.load("SELECT name FROM users WHERE id = 2", &[], LIMITS).unwrap();
    assert_eq!(rows.rows[0][0], Cell::Null);
    let free = vec![Parameter::Integer(5), Parameter::Text("eve@x".into())];
    assert_eq!(run(shop.driver.write(&[(&upsert, free)])).unwrap(), [1]);

    let other = shop.other();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let begun = Instant::now();
    assert_eq!(run(shop.driver.write(&[(&rename, values(1))])).unwrap_err().kind, FailureKind::Busy);
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_read_only_source_refuses_writes() {
    let shop = shop();
    let url = format!("sqlite://{}?mode=ro", shop.folder.path().join("shop.db").display());
    let driver = larder_source_sqlite::open(&url, &Options::default()).unwrap();
    assert_eq!(
        run(driver.write(&[(&sql("DELETE FROM users"), vec![])])).unwrap_err().kind,
        FailureKind::Refused
    );
    assert!(driver.feed().is_none());
    assert!(run(driver.probe()).is_ok());
}

#[test]
fn a_stream_gives_everything_in_pieces_and_can_be_stopped() {
    let shop = shop();
    let count =
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) SELECT i FROM n";
    let statement = sql(count);
    let limits = Limits { rows: usize::MAX, bytes: usize::MAX };
    let request = Request { statement: &statement, parameters: &[], validator: None, limits };
    let mut sizes = Vec::new();
    run(shop.driver.stream(request.clone(), &mut |rows| {
        sizes.push(rows.rows.len());
        true
    }))
    .unwrap();
    assert_eq!(sizes, [256, 256, 256, 232]);
    let mut pieces = 0;
    run(shop.driver.stream(request, &mut |_| {
        pieces += 1;
        false
    }))
    .unwrap();
    assert_eq!(pieces, 1);
}

/// A feed that runs until it is dropped, with what it has told.
struct Following {
    told: Arc<Mutex<Vec<Told>>>,
    task: tokio::task::JoinHandle<()>,
}

fn follow(driver: &Arc<dyn Driver>, from: Option<Position>) -> Following {
    let told = Arc::new(Mutex::new(Vec::new()));
    let (driver, into) = (Arc::clone(driver), Arc::clone(&told));
    let task = Runtime::get().unwrap().spawn(async move {
        let tables = ["users".to_owned()];
        let mut tell = |told| into.lock().unwrap().push(told);
        let failure = driver.feed().unwrap().follow(&tables, from, &mut tell).await.unwrap_err();
        panic!("the feed ended: {failure}");
    });
    let following = Following { told, task };
    following.wait_for(|told| told.contains(&Told::Following));
    following
}

impl Following {
    fn wait_for(&self, is_there: impl Fn(&[Told]) -> bool) {
        let begun = Instant::now();
        while !is_there(&self.told.lock().unwrap()) {
            assert!(begun.elapsed() < Duration::from_secs(10), "told only {:?}", self.told.lock().unwrap());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The changes told so far, once there are as many.
    fn changes(&self, count: usize) -> Vec<Change> {
        let changes = |told: &[Told]| -> Vec<Change> {
            told.iter()
                .filter_map(|told| if let Told::Changed(change) = told { Some(change.clone()) } else { None })
                .collect()
        };
        self.wait_for(|told| changes(told).len() >= count);
        changes(&self.told.lock().unwrap())
    }

    fn reached(&self) -> Position {
        let told = self.told.lock().unwrap();
        told.iter()
            .rev()
            .find_map(|told| if let Told::Reached(to) = told { Some(to.clone()) } else { None })
            .unwrap()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn cell(named: Option<&larder_source::Named>, name: &str) -> Option<Cell> {
    let named = named?;
    let at = named.names.iter().position(|known| known == name)?;
    Some(named.row[at].clone())
}

#[test]
fn changes_by_others_are_told_and_a_follower_can_come_back() {
    let shop = shop();
    let other = shop.other();
    let feed = follow(&shop.driver, None);
    assert_eq!(feed.told.lock().unwrap()[0], Told::Gap);
    other
        .execute_batch(
            "UPDATE users SET name = 'A''n' || char(31) || 'n', score = 1e300, photo = x'01' WHERE id = 1;
            INSERT INTO users (id, email, extra) VALUES (4, 'dan@x', printf('%.5000c', 'x'));
            DELETE FROM users WHERE id = 3;",
        )
        .unwrap();
    // A change that is told twice does no harm: the insertion's conflicts are looked for and there are none.
    let changes = feed.changes(3);
    assert_eq!(changes.len(), 3);
    assert_eq!(cell(changes[0].before.as_ref(), "name"), Some(text("Ann")));
    assert_eq!(cell(changes[0].after.as_ref(), "name"), Some(text("A'n\u{1f}n")));
    assert_eq!(cell(changes[0].after.as_ref(), "score"), Some(Cell::Real(1e300)));
    assert_eq!(cell(changes[0].after.as_ref(), "photo"), Some(Cell::Bytes([1].into())));
    assert_eq!(changes[1].before, None);
    assert_eq!(cell(changes[1].after.as_ref(), "id"), Some(Cell::Integer(4)));
    assert_eq!(cell(changes[1].after.as_ref(), "extra"), None, "too long to be told");
    assert_eq!(cell(changes[2].before.as_ref(), "email"), Some(text("cid@x")));
    assert_eq!(changes[2].after, None);
    feed.wait_for(|told| told.last() == Some(&Told::Idle));
    let position = feed.reached();
    drop(feed);

    other.execute_batch("REPLACE INTO users (id, email) VALUES (7, 'bob@x')").unwrap();
    let feed = follow(&shop.driver, Some(position.clone()));
    let changes = feed.changes(2);
    assert!(!feed.told.lock().unwrap().contains(&Told::Gap));
    // The row with id 2 is gone, since its address was taken: SQLite itself fires no trigger for that.
    assert_eq!(cell(changes[0].before.as_ref(), "id"), Some(Cell::Integer(2)));
    assert_eq!(cell(changes[1].after.as_ref(), "id"), Some(Cell::Integer(7)));
    drop(feed);

    other.execute_batch("DELETE FROM users; DELETE FROM larder_changes").unwrap();
    let feed = follow(&shop.driver, Some(position));
    assert_eq!(feed.told.lock().unwrap()[0], Told::Gap);
    drop(feed);
    run(shop.driver.feed().unwrap().remove()).unwrap();
    let left: i64 = other
        .query_row("SELECT count(*) FROM sqlite_schema WHERE name LIKE 'larder%'", [], |row| row.get(0))
        .unwrap();
    assert_eq!(left, 0);
}

#[test]
fn a_changed_schema_is_followed() {
    let shop = shop();
    let other = shop.other();
    let feed = follow(&shop.driver, None);
    other.execute_batch("ALTER TABLE users ADD COLUMN town TEXT").unwrap();
    let with_town =
        "SELECT count(*) FROM sqlite_schema WHERE name = 'larder_users_insert' AND sql LIKE '%town%'";
    let begun = Instant::now();
    while other.query_row(with_town, [], |row| row.get::<_, i64>(0)).unwrap() == 0 {
        assert!(begun.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(5));
    }
    other.execute_batch("INSERT INTO users (id, town) VALUES (8, 'Ulm')").unwrap();
    assert_eq!(cell(feed.changes(1)[0].after.as_ref(), "town"), Some(text("Ulm")));
    other.execute_batch("DROP TABLE users").unwrap();
    feed.wait_for(|told| told.contains(&Told::Emptied("users".to_owned())));
    other.execute_batch("CREATE TABLE users (id INTEGER PRIMARY KEY)").unwrap();
    feed.wait_for(|told| told.iter().filter(|told| **told == Told::Gap).count() == 2);
    other.execute_batch("INSERT INTO users VALUES (9)").unwrap();
    feed.changes(2);
}

#[test]
fn tables_that_cannot_be_followed_are_refused() {
    let shop = shop();
    shop.other().execute_batch("CREATE VIEW names AS SELECT name FROM users").unwrap();
    for (table, kind) in [("names", FailureKind::Unsupported), ("nowhere", FailureKind::Refused)] {
        let tables = [table.to_owned()];
        let failure = run(shop.driver.feed().unwrap().follow(&tables, None, &mut |_| {})).unwrap_err();
        assert_eq!(failure.kind, kind, "{failure}");
    }
}
