//! The driver of MySQL and MariaDB against MariaDB.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../../follower.rs"]
mod follower;

use follower::{Following, cell, eventually, follow, list, load, load_within, run, sql, text};
use larder_source::{Cell, ColumnKind, Driver, FailureKind, Limits, Parameter, Purpose, Request, Told};
use larder_source_net::{Options, Secret};
use larder_testkit::stores::{PASSWORD, Store, mariadb};
use std::sync::Arc;
use std::time::Duration;

fn options() -> Options {
    Options { password: Some(Secret::new(PASSWORD)), name: "larder_test".to_owned(), ..Options::default() }
}

fn open(store: &Store) -> Arc<dyn Driver> {
    larder_source_mysql::open(&store.url(), &options()).unwrap()
}

const USERS: &str = "CREATE TABLE users (id int PRIMARY KEY, name text, email varchar(100) UNIQUE);
    INSERT INTO users VALUES (1, 'Ann', 'ann@x'), (2, NULL, 'bob@x'), (3, 'Cid', 'cid@x');";

/// A column's type, a value in SQL, and what is to be found.
fn columns() -> Vec<(&'static str, &'static str, ColumnKind, Option<Cell>)> {
    use ColumnKind::{Bytes, Integer, Json, Number, Text};
    let bytes = |bytes: &[u8]| Some(Cell::Bytes(bytes.into()));
    let json = |text: &str| Some(Cell::Json(text.as_bytes().into()));
    vec![
        ("tinyint", "-128", Integer, Some(Cell::Integer(-128))),
        ("tinyint unsigned", "255", Integer, Some(Cell::Integer(255))),
        ("boolean", "true", Integer, Some(Cell::Integer(1))),
        ("smallint", "-32768", Integer, Some(Cell::Integer(-32768))),
        ("smallint unsigned", "65535", Integer, Some(Cell::Integer(65535))),
        ("mediumint", "-8388608", Integer, Some(Cell::Integer(-8_388_608))),
        ("mediumint unsigned", "16777215", Integer, Some(Cell::Integer(16_777_215))),
        ("int", "-2147483648", Integer, Some(Cell::Integer(i64::from(i32::MIN)))),
        ("int unsigned", "4294967295", Integer, Some(Cell::Integer(4_294_967_295))),
        ("bigint", "-9223372036854775808", Integer, Some(Cell::Integer(i64::MIN))),
        ("bigint unsigned", "9223372036854775807", Integer, Some(Cell::Integer(i64::MAX))),
        ("bigint unsigned", "18446744073709551615", Integer, None),
        ("year", "2024", Integer, Some(Cell::Integer(2024))),
        ("year", "0", Integer, None),
        ("float", "0.1", Number, Some(Cell::Real(0.1))),
        ("float", "16777217", Number, Some(Cell::Real(16_777_200.0))),
        ("float", "-1.5e-20", Number, Some(Cell::Real(-1.5e-20))),
        ("double", "0.1", Number, Some(Cell::Real(0.1))),
        ("double", "1e300", Number, Some(Cell::Real(1e300))),
        ("double(10,3)", "1.5", Number, None),
        ("float(7,2)", "-12.345", Number, None),
        ("decimal(10,2)", "-1234567.8", Number, None),
        (
            "decimal(65,30)",
            "12345678901234567890123456789012345.000000000000000000000000000001",
            Number,
            None,
        ),
        ("decimal(9,0)", "7", Number, None),
        ("char(5)", "'a'", Text, Some(text("a"))),
        ("varchar(50)", "'\u{e9}\u{1f980}'", Text, Some(text("\u{e9}\u{1f980}"))),
        ("varchar(300)", "repeat('\u{e9}', 200)", Text, None),
        ("varchar(50) character set latin1", "'\u{e9}\u{20ac}'", Text, None),
        ("varchar(50) character set utf16", "'\u{e9}\u{1f980}'", Text, None),
        ("varchar(50) character set ascii", "'plain'", Text, None),
        ("text", "repeat('x', 60000)", Text, None),
        ("mediumtext", "'m'", Text, None),
        ("longtext", "repeat('y', 100000)", Text, None),
        ("binary(4)", "'a'", Bytes, bytes(b"a\0\0\0")),
        ("varbinary(10)", "x'00ff'", Bytes, bytes(&[0, 255])),
        ("blob", "x'00010203'", Bytes, bytes(&[0, 1, 2, 3])),
        ("bit(1)", "b'1'", Bytes, bytes(&[1])),
        ("bit(12)", "b'101010101010'", Bytes, bytes(&[0x0a, 0xaa])),
        ("enum('sad','it''s ok')", "'it''s ok'", Text, None),
        ("set('a','b','c')", "'a,c'", Text, None),
        ("date", "'2024-02-29'", Text, None),
        ("datetime", "'2024-02-29 12:34:56'", Text, None),
        ("datetime(3)", "'2024-02-29 12:34:56.789'", Text, None),
        ("datetime(6)", "'2024-02-29 00:00:00'", Text, None),
        ("timestamp", "'2024-02-29 12:34:56'", Text, None),
        ("timestamp(2)", "'2024-02-29 12:34:56.78'", Text, None),
        ("time", "'-838:59:59'", Text, None),
        ("time", "'00:00:00'", Text, None),
        ("time(6)", "'-00:00:01.000001'", Text, None),
        ("time(1)", "'101:02:03.4'", Text, None),
        ("json", "'{\"a\": [1, \"\u{e9}\"]}'", Json, json("{\"a\": [1, \"\u{e9}\"]}")),
        ("uuid", "'123E4567-e89b-12d3-a456-426614174000'", Text, None),
        ("uuid", "'01890a5d-ac96-774b-bcce-b302099a8057'", Text, None),
        ("inet6", "'2001:db8::ff00:42:8329'", Text, None),
        ("int", "NULL", Integer, Some(Cell::Null)),
        ("text", "NULL", Text, Some(Cell::Null)),
    ]
}

#[test]
fn every_type_comes_as_the_stores_client_shows_it() {
    let Some(store) = mariadb() else { return };
    let driver = open(&store);
    assert!(run(driver.probe()).unwrap().starts_with("MariaDB 1"));
    for (at, (declared, value, kind, expected)) in columns().into_iter().enumerate() {
        store.sql(&format!("CREATE TABLE t{at} (v {declared}); INSERT INTO t{at} VALUES ({value})"));
        let rows = load(&driver, &sql(&format!("SELECT v FROM t{at}")), &[]).unwrap();
        let shown = store.sql(&format!("SELECT v FROM t{at}"));
        let expected = expected.unwrap_or_else(|| text(shown.trim_end_matches('\n')));
        assert_eq!((&rows.columns[0].kind, &rows.rows[0][0]), (&kind, &expected), "{declared} {value}");
    }
    for expression in [
        "1/3",
        "sum(1.5)",
        "concat('a', 1)",
        "cast('2024-01-01 10:00:00.5' AS datetime(1))",
        "timediff('10:00', '11:00:00.25')",
        "'0000-00-00'",
        "date('2024-05-06')",
        "makedate(2024, 60)",
        "sec_to_time(5)",
        "maketime(1, 2, 3.5)",
    ] {
        let rows = load(&driver, &sql(&format!("SELECT {expression}")), &[]).unwrap();
        let shown = store.sql(&format!("SELECT {expression}"));
        assert_eq!(rows.rows[0][0], text(shown.trim_end_matches('\n')), "{expression}");
    }
}

#[test]
fn values_are_bound_and_batches_are_lists() {
    let Some(store) = mariadb() else { return };
    store.sql(USERS);
    let driver = open(&store);
    let checked =
        run(driver
            .check(&sql("SELECT name, id FROM users WHERE id IN ($id) AND email <> $mail"), Purpose::Batch));
    let checked = checked.unwrap();
    assert_eq!(checked.parameters, [None, None]);
    assert_eq!((checked.columns[0].name.as_str(), &checked.columns[1].kind), ("name", &ColumnKind::Integer));
    let rows =
        load(&driver, &sql("SELECT name FROM users WHERE id = $id"), &[Parameter::Integer(1)]).unwrap();
    assert_eq!(&*rows.rows[0], &[text("Ann")]);
    for batch in ["SELECT id FROM users WHERE id IN ($id)", "SELECT id FROM users WHERE id IN $id"] {
        let batch = sql(batch);
        assert_eq!(load(&driver, &batch, &[list([3, 2, 9])]).unwrap().rows.len(), 2);
        assert_eq!(load(&driver, &batch, &[list(0..10_000)]).unwrap().rows.len(), 3);
        assert_eq!(load(&driver, &batch, &[list([])]).unwrap().rows.len(), 0);
        assert_eq!(load(&driver, &batch, &[list(0..100_000)]).unwrap_err().kind, FailureKind::Unfit);
    }
    let echo = sql("SELECT concat($a), $b, $c, concat($d), $e, $f");
    let odd = "a'b\"c\\d{},\u{1f980}\n";
    let uuid = "123e4567-e89b-12d3-a456-426614174000";
    let values = [
        Parameter::Text(odd.into()),
        Parameter::Bytes([0, 39, 92].into()),
        Parameter::Number(0.1),
        Parameter::Uuid(uuid.into()),
        Parameter::Null,
        Parameter::Integer(i64::MIN),
    ];
    let rows = load(&driver, &echo, &values).unwrap();
    let expected = [
        text(odd),
        Cell::Bytes([0, 39, 92].into()),
        Cell::Real(0.1),
        text(uuid),
        Cell::Null,
        Cell::Integer(i64::MIN),
    ];
    assert_eq!(&*rows.rows[0], &expected);
    let large = Parameter::Text("x".repeat(10_000_000).into());
    let limits = Limits { rows: 1, bytes: 40 << 20 };
    let rows = load_within(&driver, &sql("SELECT concat($a, $a)"), &[large], limits);
    let failure = rows.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unreachable, "larger than the server takes: {failure}");
    store.sql("SET GLOBAL max_allowed_packet = 67108864");
    let driver = open(&store);
    let large = Parameter::Text("x".repeat(10_000_000).into());
    let rows = load_within(&driver, &sql("SELECT concat($a, $a, $a)"), &[large], limits).unwrap();
    assert_eq!(rows.rows[0][0].size(), 30_000_000);
    let failure = load(&driver, &sql("SELECT $n + 1"), &[Parameter::Number(f64::NAN)]).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unfit);
    assert!(run(driver.probe()).is_ok());
}

#[test]
fn wrong_statements_are_refused_with_what_the_store_says() {
    let Some(store) = mariadb() else { return };
    store.sql(USERS);
    let driver = open(&store);
    for (statement, purpose, position) in [
        ("SELECT '\u{e9}', name FRM users WHERE id = $id", Purpose::Load, Some("users")),
        ("SELECT name FROM users WHERE id IN ($id) ORDR BY 1", Purpose::Batch, Some("ORDR")),
        ("SELECT name FROM users WHERE id IN $id ORDR BY 1", Purpose::Batch, Some("ORDR")),
        ("SELECT nam FROM users WHERE id = $id", Purpose::Load, None),
        ("SELECT name FROM nowhere", Purpose::Load, None),
        ("DELETE FROM users", Purpose::Load, Some("DELETE")),
        ("SELECT name FROM users WHERE id = ? OR id = $id", Purpose::Load, None),
    ] {
        let failure = run(driver.check(&sql(statement), purpose)).unwrap_err();
        let expected = position.and_then(|word| statement.find(word));
        assert_eq!(
            (failure.kind, failure.position),
            (FailureKind::Refused, expected),
            "{statement}: {failure}"
        );
    }
    let failure = run(driver.check(&sql("SELECT name FROM nowhere"), Purpose::Load)).unwrap_err();
    assert_eq!(failure.text, "Table 'shop.nowhere' doesn't exist (1146, 42S02)");
    assert!(run(driver.check(&sql("DELETE FROM users"), Purpose::Write)).is_ok());
    assert_eq!(load(&driver, &sql("DELETE FROM users"), &[]).unwrap_err().kind, FailureKind::Refused);
    let wrong = Options { password: Some(Secret::new("geheim")), ..options() };
    for options in [wrong, Options { password: None, ..options() }] {
        let failure = run(larder_source_mysql::open(&store.url(), &options).unwrap().probe()).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Refused, "{failure}");
        assert!(failure.text.contains("1045") && !failure.text.contains("geheim"), "{failure}");
    }
    for (url, word) in [
        (format!("{}?sslmode=require", store.url()), "encrypt"),
        (format!("mysql://larder@127.0.0.1:{}/nowhere", store.port()), "Unknown database 'nowhere'"),
    ] {
        let failure = run(larder_source_mysql::open(&url, &options()).unwrap().probe()).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Refused, "{failure}");
        assert!(failure.text.contains(word), "{failure}");
    }
    for url in
        ["mysql://h/d", "mysql://u@h", "mysql://u@h/d?x=1", "mysql://u:p@h/d", "mysql://u@h/d?sslmode=x"]
    {
        assert!(larder_source_mysql::open(url, &Options::default()).is_err(), "{url}");
    }
}

#[test]
fn limits_hold_and_what_is_given_up_ends_on_the_server() {
    let Some(store) = mariadb() else { return };
    let driver = larder_source_mysql::open(&store.url(), &Options { connections: 1, ..options() }).unwrap();
    let many = sql("SELECT seq FROM seq_1_to_1000000");
    let failure = load_within(&driver, &many, &[], Limits { rows: 10, bytes: 1 << 20 }).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unfit);
    let large = sql("SELECT repeat('x', 10000000)");
    let failure = load_within(&driver, &large, &[], Limits { rows: 10, bytes: 1 << 20 }).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unfit);
    let failure = load_within(&driver, &many, &[], Limits { rows: 2_000_000, bytes: 1000 }).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unfit);
    let slow = sql("SELECT sleep(600)");
    let request = Request { statement: &slow, parameters: &[], validator: None, limits: follower::LIMITS };
    run(async {
        assert!(tokio::time::timeout(Duration::from_millis(300), driver.load(request)).await.is_err());
        // The only place is free again, and the server works no more.
        assert!(tokio::time::timeout(Duration::from_secs(10), driver.probe()).await.unwrap().is_ok());
    });
    eventually("the statement ends", || {
        store.sql("SELECT count(*) FROM information_schema.processlist WHERE info LIKE '%sleep(600)%' AND id <> connection_id()").trim() == "0"
    });
}

#[test]
fn writes_happen_together_or_not_at_all() {
    let Some(store) = mariadb() else { return };
    store.sql(USERS);
    let driver = open(&store);
    let rename = sql("UPDATE users SET name = $name WHERE id = $id");
    let insert = sql("INSERT INTO users (id, email) VALUES ($id, $email) RETURNING id");
    let values = |id| vec![Parameter::Text("New".into()), Parameter::Integer(id)];
    assert_eq!(run(driver.write(&[(&rename, values(1)), (&rename, values(99))])).unwrap(), [1, 0]);
    assert_eq!(run(driver.write(&[(&rename, values(1))])).unwrap(), [1], "found, though it is so already");
    let taken = vec![Parameter::Integer(5), Parameter::Text("ann@x".into())];
    let failure = run(driver.write(&[(&rename, values(2)), (&insert, taken)])).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Refused);
    assert!(failure.text.contains("Duplicate entry 'ann@x'"), "{failure}");
    assert_eq!(store.sql("SELECT count(*) FROM users WHERE name = 'New'").trim(), "1");
    let free = vec![Parameter::Integer(5), Parameter::Text("eve@x".into())];
    assert_eq!(run(driver.write(&[(&insert, free)])).unwrap(), [1]);
    let long = vec![Parameter::Integer(6), Parameter::Text("x".repeat(200).into())];
    assert_eq!(run(driver.write(&[(&insert, long)])).unwrap_err().kind, FailureKind::Unfit);
    assert_eq!(run(driver.write(&[])).unwrap(), [0_u64; 0]);
    // A server whose connections do not commit by themselves.
    store.sql("SET GLOBAL autocommit = 0");
    let driver = open(&store);
    assert_eq!(run(driver.write(&[(&rename, values(3))])).unwrap(), [1]);
    assert_eq!(store.sql("SELECT name FROM users WHERE id = 3").trim(), "New");
}

#[test]
fn writes_in_order_come_behind_all_that_was_sent_before() {
    let Some(store) = mariadb() else { return };
    store.sql("CREATE TABLE t (n int AUTO_INCREMENT PRIMARY KEY, v text)");
    store.sql("CREATE USER plain@'%' IDENTIFIED BY 'x'; GRANT ALL ON shop.* TO plain@'%'");
    let add = sql("INSERT INTO t (v) VALUES ($v)");
    let value = |text: &str| vec![Parameter::Text(text.into())];
    let all = || store.sql("SELECT group_concat(v ORDER BY n SEPARATOR ' ') FROM t").trim().to_owned();
    let driver = open(&store);
    // What was given up on is not done behind what follows.
    let slow = sql("INSERT INTO t (v) SELECT $v FROM (SELECT sleep(600)) AS s");
    run(async {
        let slowly = [(&slow, value("slow"))];
        let given_up = driver.write_in_order(7, &slowly);
        assert!(tokio::time::timeout(Duration::from_millis(300), given_up).await.is_err());
        let both = [(&add, value("a")), (&add, value("b"))];
        let next = driver.write_in_order(7, &both);
        assert_eq!(tokio::time::timeout(Duration::from_secs(20), next).await.unwrap().unwrap(), [1, 1]);
    });
    // Another number is another's.
    let other = open(&store);
    assert_eq!(run(other.write_in_order(8, &[(&add, value("c"))])).unwrap(), [1]);
    // A session that nobody uses any more, as after a network was cut, is ended.
    assert_eq!(run(other.write_in_order(7, &[(&add, value("d"))])).unwrap(), [1]);
    assert_eq!(run(driver.write_in_order(7, &[(&add, value("e"))])).unwrap(), [1], "it connects again");
    drop((driver, other));
    // One that may not be ended is waited for.
    let mut earlier = store.session();
    assert!(earlier.run("SELECT get_lock('larder-8000000000000005', 0)").is_some());
    let url = store.url().replace("larder@", "plain@");
    let options = Options { password: Some(Secret::new("x")), ..options() };
    let plain = larder_source_mysql::open(&url, &options).unwrap();
    let number = 0x8000_0000_0000_0005;
    let failure = run(plain.write_in_order(number, &[(&add, value("f"))])).unwrap_err();
    assert!(failure.kind == FailureKind::Busy && failure.text.contains("cannot be ended"), "{failure}");
    assert_eq!(all(), "a b c d e");
    assert!(earlier.run("SELECT release_lock('larder-8000000000000005')").is_some());
    assert_eq!(run(plain.write_in_order(number, &[(&add, value("g"))])).unwrap(), [1]);
    assert_eq!(all(), "a b c d e g");
}

#[test]
fn who_meets_another_is_told_to_try_again() {
    let Some(store) = mariadb() else { return };
    store.sql(USERS);
    store.sql("SET GLOBAL innodb_lock_wait_timeout = 1");
    let driver = open(&store);
    let rename = sql("UPDATE users SET name = 'x' WHERE id = 1");
    let failure = std::thread::scope(|scope| {
        scope.spawn(|| {
            store.sql("START TRANSACTION; UPDATE users SET name = 'y' WHERE id = 1; DO sleep(4); COMMIT")
        });
        eventually("the other has begun", || {
            store
                .sql("SELECT count(*) FROM information_schema.processlist WHERE info LIKE 'DO sleep(4)%'")
                .trim()
                == "1"
        });
        run(driver.write(&[(&rename, Vec::new())])).unwrap_err()
    });
    assert_eq!(failure.kind, FailureKind::Busy, "{failure}");
    assert!(failure.text.contains("1205"), "{failure}");
    store.sql("SET GLOBAL max_connections = 10");
    let drivers: Vec<_> = (0..14).map(|_| open(&store)).collect();
    let kinds: Vec<_> =
        drivers.iter().filter_map(|driver| run(driver.probe()).err()).map(|failure| failure.kind).collect();
    assert!(!kinds.is_empty() && kinds.iter().all(|kind| *kind == FailureKind::Busy), "{kinds:?}");
}

#[test]
fn a_stream_gives_everything_in_pieces_and_can_be_stopped() {
    let Some(store) = mariadb() else { return };
    let driver = larder_source_mysql::open(&store.url(), &Options { connections: 1, ..options() }).unwrap();
    let limits = Limits { rows: usize::MAX, bytes: usize::MAX };
    let statement = sql("SELECT seq FROM seq_1_to_1000");
    let request = Request { statement: &statement, parameters: &[], validator: None, limits };
    let mut sizes = Vec::new();
    let mut count = |rows: larder_source::Rows| {
        sizes.push(rows.rows.len());
        true
    };
    run(driver.stream(request, &mut count)).unwrap();
    assert_eq!(sizes, [256, 256, 256, 232]);
    let endless = sql("SELECT seq FROM seq_1_to_1000000000");
    let request = Request { statement: &endless, parameters: &[], validator: None, limits };
    let mut pieces = 0;
    let mut stop = |_| {
        pieces += 1;
        pieces < 3
    };
    run(driver.stream(request, &mut stop)).unwrap();
    assert_eq!(pieces, 3);
    assert!(run(driver.probe()).is_ok());
}

#[test]
fn a_store_that_ends_and_comes_back_is_found_again_and_changed_tables_are_noticed() {
    let Some(mut store) = mariadb() else { return };
    store.sql(USERS);
    let driver = open(&store);
    let query = sql("SELECT * FROM users WHERE id = $id");
    assert_eq!(load(&driver, &query, &[Parameter::Integer(1)]).unwrap().columns.len(), 3);
    store.sql("ALTER TABLE users ADD COLUMN town text");
    assert_eq!(load(&driver, &query, &[Parameter::Integer(1)]).unwrap().columns.len(), 4);
    // More statements than a connection keeps.
    for number in 0..600 {
        assert_eq!(load(&driver, &sql(&format!("SELECT {number}")), &[]).unwrap().rows.len(), 1);
    }
    let kept = store.sql("SHOW GLOBAL STATUS LIKE 'Prepared_stmt_count'");
    assert!(kept.split_whitespace().last().unwrap().parse::<u32>().unwrap() <= 256, "{kept}");
    store.kill();
    let failure = load(&driver, &query, &[Parameter::Integer(1)]).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unreachable, "{failure}");
    store.run().unwrap();
    assert_eq!(load(&driver, &query, &[Parameter::Integer(1)]).unwrap().rows.len(), 1);
    // A connection that the server ended while it was idle is not used.
    store.sql("KILL USER larder");
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(load(&driver, &query, &[Parameter::Integer(1)]).unwrap().rows.len(), 1);
    // A procedure answers several times; the first answer with columns counts.
    store.sql("DELIMITER //\nCREATE PROCEDURE two() BEGIN SELECT 1 AS a; SELECT 2 AS b, 3; END//");
    for _ in 0..2 {
        assert_eq!(&*load(&driver, &sql("CALL two()"), &[]).unwrap().rows[0], &[Cell::Integer(1)]);
    }
}

#[test]
fn a_socket_in_the_file_system_is_a_place_too() {
    let Some(store) = mariadb() else { return };
    let folder = store.folder().display().to_string().replace('/', "%2F");
    let url = format!("mariadb://larder@{folder}%2Fmysql.sock/shop");
    let driver = larder_source_mysql::open(&url, &options()).unwrap();
    assert!(run(driver.probe()).is_ok());
}

/// How the text of a cell would be written by the store's client; what is not told is none.
fn told(change: &larder_source::Change, name: &str) -> Option<Cell> {
    cell(change.after.as_ref(), name)
}

#[test]
fn changes_tell_every_type_as_a_query_would() {
    let Some(store) = mariadb() else { return };
    let driver = open(&store);
    let columns = columns();
    let names: Vec<String> = (0..columns.len()).map(|at| format!("t{at}")).collect();
    for (name, (declared, ..)) in names.iter().zip(&columns) {
        store.sql(&format!("CREATE TABLE {name} (v {declared})"));
    }
    let tables: Vec<&str> = names.iter().map(String::as_str).collect();
    let feed = follow(&driver, &tables, None);
    for (name, (_, value, ..)) in names.iter().zip(&columns) {
        store.sql(&format!("INSERT INTO {name} VALUES ({value})"));
    }
    let changes = feed.changes(columns.len());
    for (change, (declared, value, ..)) in changes.iter().zip(&columns) {
        let rows = load(&driver, &sql(&format!("SELECT v FROM {}", change.table)), &[]).unwrap();
        let expected = match &rows.rows[0][0] {
            // Told as text: MariaDB's JSON is text with a condition.
            Cell::Json(bytes) => Some(Cell::Text(bytes.clone())),
            _ if *declared == "inet6" => None,
            other => Some(other.clone()),
        };
        assert_eq!(told(change, "v"), expected, "{declared} {value}");
    }
}

#[test]
fn changes_by_others_are_told_and_a_follower_can_come_back() {
    let Some(mut store) = mariadb() else { return };
    store.sql(USERS);
    store.sql("CREATE DATABASE app; CREATE TABLE app.items (id int PRIMARY KEY, n int); CREATE TABLE elsewhere (id int)");
    let driver = open(&store);
    let tables = ["users", "app.items"];
    let feed: Following = follow(&driver, &tables, None);
    assert_eq!(feed.told()[0], Told::Gap);
    store.sql(
        "BEGIN; UPDATE users SET name = 'Anna' WHERE id = 1; UPDATE users SET id = 20 WHERE id = 2; INSERT INTO elsewhere VALUES (1);
        INSERT INTO app.items VALUES (7, 1); UPDATE app.items SET n = 2; DELETE FROM users WHERE id = 3; COMMIT; TRUNCATE users",
    );
    let changes = feed.changes(5);
    assert_eq!(cell(changes[0].before.as_ref(), "name"), Some(text("Ann")));
    assert_eq!(cell(changes[0].after.as_ref(), "name"), Some(text("Anna")));
    assert_eq!(cell(changes[1].before.as_ref(), "id"), Some(Cell::Integer(2)));
    assert_eq!(cell(changes[1].after.as_ref(), "id"), Some(Cell::Integer(20)));
    assert_eq!((changes[2].table.as_str(), &changes[2].before), ("app.items", &None));
    assert_eq!(cell(changes[3].before.as_ref(), "n"), Some(Cell::Integer(1)));
    assert_eq!(cell(changes[4].before.as_ref(), "email"), Some(text("cid@x")));
    assert_eq!(changes[4].after, None);
    feed.wait_for(|told| told.contains(&Told::Emptied("users".to_owned())));
    feed.wait_for(|told| told.last() == Some(&Told::Idle));
    let position = feed.reached();
    drop(feed);

    // What happens while nobody follows, and the server crashes besides, is told by and by.
    store.sql("INSERT INTO users VALUES (30, 'Eve', 'eve@x')");
    store.kill();
    store.run().unwrap();
    let feed = follow(&driver, &tables, Some(position.clone()));
    let changes = feed.changes(1);
    let told = feed.told();
    assert!(!told.contains(&Told::Gap));
    let place = |is_it: fn(&Told) -> bool| told.iter().position(is_it).unwrap();
    assert!(
        place(|one| matches!(one, Told::Changed(_))) < place(|one| *one == Told::Following),
        "the past comes first"
    );
    assert!(
        matches!(told.iter().find(|one| matches!(one, Told::At(_))), Some(Told::At(at)) if *at > 1_700_000_000_000)
    );
    assert_eq!(cell(changes[0].after.as_ref(), "id"), Some(Cell::Integer(30)));
    let position = feed.reached();
    store.kill();
    assert!(feed.wait_for_end().is_passing());
    store.run().unwrap();
    drop(feed);

    // The file is purged, then all of them are begun anew.
    store.sql("INSERT INTO users VALUES (31, 'Fay', 'fay@x'); FLUSH BINARY LOGS");
    let last = store.sql("SHOW MASTER STATUS");
    store.sql(&format!("PURGE BINARY LOGS TO '{}'", last.split_whitespace().next().unwrap()));
    let feed = follow(&driver, &tables, Some(position));
    feed.wait_for(|told| told.contains(&Told::Gap));
    store.sql("INSERT INTO users VALUES (32, 'Gil', 'gil@x')");
    assert_eq!(cell(feed.changes(1)[0].after.as_ref(), "id"), Some(Cell::Integer(32)));
    let first = feed.reached();
    drop(feed);
    std::thread::sleep(Duration::from_millis(1100));
    store.sql("RESET MASTER");
    for _ in 0..10 {
        store.sql(
            "FLUSH BINARY LOGS; DELETE FROM users; INSERT INTO users VALUES (33, 'Hal', repeat('h', 90))",
        );
    }
    let feed = follow(&driver, &tables, Some(first));
    feed.wait_for(|told| told.contains(&Told::Gap));
    store.sql("INSERT INTO users VALUES (34, 'Ida', 'ida@x')");
    assert_eq!(cell(feed.changes(1)[0].after.as_ref(), "id"), Some(Cell::Integer(34)));
    run(driver.feed().unwrap().remove()).unwrap();
}

#[test]
fn tables_that_change_their_columns_are_followed_on() {
    let Some(store) = mariadb() else { return };
    store.sql(USERS);
    let driver = open(&store);
    let feed = follow(&driver, &["users"], None);
    store.sql("INSERT INTO users VALUES (4, 'Dan', 'dan@x')");
    feed.changes(1);
    let emptied = |count| {
        feed.wait_for(|told| {
            told.iter().filter(|one| **one == Told::Emptied("users".to_owned())).count() >= count
        });
    };
    store.sql(
        "ALTER TABLE users ADD COLUMN town varchar(20) AFTER id; UPDATE users SET town = 'Ulm' WHERE id = 1",
    );
    emptied(1);
    let changes = feed.changes(2);
    assert_eq!(cell(changes[1].after.as_ref(), "town"), Some(text("Ulm")));
    assert_eq!(cell(changes[1].after.as_ref(), "name"), Some(text("Ann")));
    // Rows of before that are read after: their columns are others than the table's are now.
    let position = feed.reached();
    store.sql("INSERT INTO users VALUES (5, 'Bonn', 'Eve', 'eve@x'); ALTER TABLE users DROP COLUMN town");
    emptied(2);
    let late = follow(&open(&store), &["users"], Some(position));
    late.wait_for(|told| told.contains(&Told::Emptied("users".to_owned())));
    store.sql("UPDATE users SET name = 'Eva' WHERE id = 5");
    assert_eq!(cell(late.changes(1).last().unwrap().after.as_ref(), "name"), Some(text("Eva")));
    drop(late);
    // Generated columns, one that is kept and one that is not; and the smallest images.
    store.sql("ALTER TABLE users ADD COLUMN low varchar(20) AS (lower(name)) STORED, ADD COLUMN up varchar(20) AS (upper(name)) VIRTUAL");
    emptied(3);
    store.sql("SET binlog_row_image = MINIMAL; UPDATE users SET name = 'Edda' WHERE id = 5; UPDATE users SET id = 6 WHERE id = 5");
    store.sql("SET binlog_format = STATEMENT; UPDATE users SET name = 'x' WHERE id = 6");
    emptied(4);
    let changes = feed.changes(6);
    let row = |change: &larder_source::Change, name| {
        [cell(change.before.as_ref(), name), cell(change.after.as_ref(), name)]
    };
    // Of what was not in the image before it is not told what it has become.
    assert_eq!(
        (row(&changes[4], "id"), row(&changes[4], "name")),
        ([Some(Cell::Integer(5)), None], [None, None])
    );
    assert_eq!(row(&changes[5], "id"), [Some(Cell::Integer(5)), Some(Cell::Integer(6))]);
    assert_eq!(feed.told().iter().filter(|told| matches!(told, Told::Emptied(_))).count(), 4);
}

#[test]
fn what_the_store_changes_by_itself_is_seen() {
    let Some(store) = mariadb() else { return };
    store.sql(USERS);
    store.sql(
        "CREATE TABLE orders (id int PRIMARY KEY, user_id int, FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE);
        CREATE TABLE `lines` (id int PRIMARY KEY, order_id int, FOREIGN KEY (order_id) REFERENCES orders (id) ON DELETE CASCADE);
        INSERT INTO orders VALUES (10, 1), (11, 3); INSERT INTO `lines` VALUES (100, 10), (101, 11)",
    );
    let driver = open(&store);
    let feed = follow(&driver, &["lines"], None);
    store.sql("UPDATE users SET name = 'x'; DELETE FROM users WHERE id = 1");
    feed.wait_for(|told| told.contains(&Told::Emptied("lines".to_owned())));
    assert_eq!(store.sql("SELECT id FROM `lines`").trim(), "101");
    let emptied = feed.told().iter().filter(|told| matches!(told, Told::Emptied(_))).count();
    assert_eq!(emptied, 1, "names of users are none of its");
    // A key that is added later: who follows is to look again.
    store.sql("CREATE TABLE notes (id int PRIMARY KEY, line_id int); INSERT INTO notes VALUES (1, 101)");
    let notes = follow(&open(&store), &["notes", "shop.notes"], None);
    store.sql("ALTER TABLE notes ADD FOREIGN KEY (line_id) REFERENCES `lines` (id) ON UPDATE CASCADE");
    assert!(notes.wait_for_end().is_passing());
    let position = notes.reached();
    drop(notes);
    let notes = follow(&open(&store), &["notes", "shop.notes"], Some(position));
    store.sql("UPDATE `lines` SET id = 102 WHERE id = 101; UPDATE notes SET id = 2");
    let both = notes.changes(2);
    assert_eq!((both[0].table.as_str(), both[1].table.as_str()), ("notes", "shop.notes"));
    assert_eq!(cell(both[0].before.as_ref(), "line_id"), Some(Cell::Integer(102)));
    assert!(
        ["notes", "shop.notes"].iter().all(|name| notes.told().contains(&Told::Emptied((*name).to_owned())))
    );
    assert!(!notes.told().contains(&Told::Gap));
    drop((feed, notes));
    // A transaction in two phases counts once it is committed.
    let feed = follow(&driver, &["users"], None);
    store.sql("XA START 'ab'; UPDATE users SET name = 'prepared' WHERE id = 3; XA END 'ab'; XA PREPARE 'ab'");
    feed.changes(1);
    assert!(!feed.told().contains(&Told::Emptied("users".to_owned())));
    store.sql("XA COMMIT 'ab'");
    feed.wait_for(|told| told.contains(&Told::Emptied("users".to_owned())));
    assert_eq!(feed.told().iter().filter(|told| **told == Told::Gap).count(), 1, "the first");
}

#[test]
fn a_feed_is_refused_with_what_is_missing() {
    let Some(store) = mariadb() else { return };
    store.sql(USERS);
    store.sql("CREATE VIEW names AS SELECT name FROM users");
    let refusal = |driver: &Arc<dyn Driver>, table: &str| {
        run(driver.feed().unwrap().follow(&[table.to_owned()], None, &mut |_| {})).unwrap_err()
    };
    let driver = open(&store);
    for (table, word) in
        [("nowhere", "no table shop.nowhere"), ("names", "view"), ("other.users", "other.users")]
    {
        let failure = refusal(&driver, table);
        assert!(failure.kind == FailureKind::Refused && failure.text.contains(word), "{failure}");
    }
    // Only what is needed.
    store.sql("CREATE USER reader@'%' IDENTIFIED BY 'sesame & more'; GRANT SELECT ON shop.* TO reader@'%'");
    let url = format!("mysql://reader@127.0.0.1:{}/shop?server-id=77", store.port());
    let reader = larder_source_mysql::open(&url, &options()).unwrap();
    let failure = refusal(&reader, "users");
    assert!(failure.kind == FailureKind::Refused && failure.text.contains("BINLOG MONITOR"), "{failure}");
    store.sql("GRANT BINLOG MONITOR ON *.* TO reader@'%'");
    let failure = refusal(&reader, "users");
    assert!(failure.kind == FailureKind::Refused && failure.text.contains("REPLICATION SLAVE"), "{failure}");
    store.sql("GRANT REPLICATION SLAVE ON *.* TO reader@'%'");
    let feed = follow(&reader, &["users"], None);
    store.sql("UPDATE users SET name = 'x' WHERE id = 1");
    feed.changes(1);
    // The number is that of the URL, and another with it ends this one.
    assert!(store.sql("SHOW SLAVE HOSTS").starts_with("77"));
    let second = follow(&larder_source_mysql::open(&url, &options()).unwrap(), &["users"], None);
    assert!(feed.wait_for_end().is_passing());
    drop(second);
    store.sql("SET GLOBAL binlog_format = MIXED");
    let failure = refusal(&driver, "users");
    assert!(
        failure.kind == FailureKind::Unsupported && failure.text.contains("binlog_format = ROW"),
        "{failure}"
    );
    store.sql("SET GLOBAL binlog_format = ROW; SET GLOBAL log_bin_compress = ON");
    assert!(refusal(&driver, "users").text.contains("log_bin_compress = OFF"));
    // Without checksums it goes on as well, also when they are turned on or off meanwhile.
    store.sql("SET GLOBAL log_bin_compress = OFF; SET GLOBAL binlog_checksum = NONE");
    let feed = follow(&driver, &["users"], None);
    store.sql("UPDATE users SET name = 'y' WHERE id = 1; SET GLOBAL binlog_checksum = CRC32; UPDATE users SET name = 'z' WHERE id = 1");
    assert_eq!(told(&feed.changes(2)[1], "name"), Some(text("z")));
    store.sql("SET GLOBAL binlog_checksum = NONE; UPDATE users SET name = 'a' WHERE id = 1; SET GLOBAL log_bin_compress = ON, log_bin_compress_min_len = 10; \
        UPDATE users SET name = 'compressed' WHERE id = 1");
    feed.wait_for(|told| told.contains(&Told::Emptied("users".to_owned())));
    assert_eq!(feed.changes(3).len(), 3);
}
