//! The PostgreSQL driver against PostgreSQL.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../../follower.rs"]
mod follower;

use follower::{Following, cell, eventually, follow, list, load, load_within, run, sql, text};
use larder_source::{
    Cell, ColumnKind, Driver, FailureKind, Limits, Parameter, ParameterType, Purpose, Request, Told,
};
use larder_source_net::{Options, Secret};
use larder_testkit::stores::{PASSWORD, Store, postgres};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

fn options() -> Options {
    Options { password: Some(Secret::new(PASSWORD)), name: "larder_test".to_owned(), ..Options::default() }
}

fn open(store: &Store) -> Arc<dyn Driver> {
    larder_source_postgres::open(&store.url(), &options()).unwrap()
}

const USERS: &str = "CREATE TABLE users (id int PRIMARY KEY, name text, email varchar(100) UNIQUE);
    INSERT INTO users VALUES (1, 'Ann', 'ann@x'), (2, NULL, 'bob@x'), (3, 'Cid', 'cid@x');";

#[test]
fn every_type_comes_as_psql_shows_it() {
    let Some(store) = postgres() else { return };
    let driver = open(&store);
    assert!(run(driver.probe()).unwrap().starts_with("PostgreSQL 1"));
    for (expression, kind, expected) in [
        ("true", ColumnKind::Boolean, Cell::Boolean(true)),
        ("(-32768)::int2", ColumnKind::Integer, Cell::Integer(-32768)),
        ("2147483647", ColumnKind::Integer, Cell::Integer(2147483647)),
        ("9223372036854775807", ColumnKind::Integer, Cell::Integer(i64::MAX)),
        ("4294967295::oid", ColumnKind::Integer, Cell::Integer(4294967295)),
        ("0.1::float4", ColumnKind::Number, Cell::Real(0.1)),
        ("1e300::float8", ColumnKind::Number, Cell::Real(1e300)),
        ("'-Infinity'::float8", ColumnKind::Number, Cell::Real(f64::NEG_INFINITY)),
        ("12345678901234567890.1230", ColumnKind::Number, text("12345678901234567890.1230")),
        ("'\u{e9}\u{1f980}'::text", ColumnKind::Text, text("\u{e9}\u{1f980}")),
        ("'a'::char(3)", ColumnKind::Text, text("a  ")),
        ("'\\x00ff'::bytea", ColumnKind::Bytes, Cell::Bytes([0, 255].into())),
        ("'{\"a\": 1}'::json", ColumnKind::Json, Cell::Json(b"{\"a\": 1}".as_slice().into())),
        ("'{\"a\":1}'::jsonb", ColumnKind::Json, Cell::Json(b"{\"a\": 1}".as_slice().into())),
        ("NULL::int", ColumnKind::Integer, Cell::Null),
    ] {
        let rows = load(&driver, &sql(&format!("SELECT {expression} AS v")), &[]).unwrap();
        assert_eq!((&rows.columns[0].kind, &rows.rows[0][0]), (&kind, &expected), "{expression}");
    }
    store.sql("CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TYPE pair AS (a int, b text)");
    for expression in [
        "'2024-02-29'::date",
        "'12:34:56.789'::time",
        "'2024-02-29 12:00:00.5'::timestamp",
        "'2024-02-29 12:00:00+03'::timestamptz",
        "interval '1 year 2 months 3 days 04:05:06'",
        "'192.168.0.1/24'::inet",
        "'10.0.0.0/8'::cidr",
        "'08:00:2b:01:02:03'::macaddr",
        "'123E4567-e89b-12d3-a456-426614174000'::uuid",
        "'ok'::mood",
        "ROW(1, 'x')::pair",
        "ARRAY[1, NULL, 3]",
        "ARRAY['a b', 'c\"d']",
        "'[1,5)'::int4range",
        "'(1,2)'::point",
        "'$1.50'::money",
        "B'1010'",
        "'<a/>'::xml",
        "'a & b'::tsquery",
        "'1/2'::pg_lsn",
    ] {
        let statement = sql(&format!("SELECT {expression}"));
        let shown = store.sql(&format!("SELECT {expression}"));
        let rows = load(&driver, &statement, &[]).unwrap();
        assert_eq!(rows.rows[0][0], text(shown.trim_end_matches('\n')), "{expression}");
        assert_eq!(rows.columns[0].kind, ColumnKind::Text);
    }
    let void = run(driver.check(&sql("SELECT pg_sleep(0)"), Purpose::Load)).unwrap();
    assert_eq!(void.columns[0].kind, ColumnKind::Unsupported("void".to_owned()));
}

#[test]
fn values_are_bound_and_batches_are_arrays() {
    let Some(store) = postgres() else { return };
    store.sql(USERS);
    let driver = open(&store);
    let checked = run(driver
        .check(&sql("SELECT name, id FROM users WHERE id = ANY($id) AND email <> $mail"), Purpose::Batch));
    let checked = checked.unwrap();
    assert_eq!(checked.parameters, [Some(ParameterType::Integer), Some(ParameterType::Text)]);
    assert_eq!((checked.columns[0].name.as_str(), &checked.columns[1].kind), ("name", &ColumnKind::Integer));
    let rows =
        load(&driver, &sql("SELECT name FROM users WHERE id = $id"), &[Parameter::Integer(1)]).unwrap();
    assert_eq!(&*rows.rows[0], &[text("Ann")]);
    let batch = sql("SELECT id FROM users WHERE id = ANY($id) ORDER BY id");
    assert_eq!(load(&driver, &batch, &[list([3, 2, 9])]).unwrap().rows.len(), 2);
    assert_eq!(load(&driver, &batch, &[list(0..100_000)]).unwrap().rows.len(), 3);
    assert_eq!(load(&driver, &batch, &[list([])]).unwrap().rows.len(), 0);
    let echo = sql("SELECT $a::text, $b::bytea, $c::float8, $d::uuid, $e::text[]");
    let odd = "a'b\"c\\d{},\u{1f980}\n";
    let uuid = "123e4567-e89b-12d3-a456-426614174000";
    let values = [
        Parameter::Text(odd.into()),
        Parameter::Bytes([0, 39, 92].into()),
        Parameter::Number(0.1),
        Parameter::Uuid(uuid.into()),
        Parameter::Null,
    ];
    let rows = load(&driver, &echo, &values).unwrap();
    assert_eq!(
        &*rows.rows[0],
        &[text(odd), Cell::Bytes([0, 39, 92].into()), Cell::Real(0.1), text(uuid), Cell::Null]
    );
    let names =
        Parameter::List(vec![Parameter::Text(odd.into()), Parameter::Null, Parameter::Text("NULL".into())]);
    let rows =
        load(&driver, &sql("SELECT ($n::text[])[1], ($n::text[])[2] IS NULL, ($n::text[])[3]"), &[names])
            .unwrap();
    assert_eq!(&*rows.rows[0], &[text(odd), Cell::Boolean(true), text("NULL")]);
    for (value, kind) in
        [(Parameter::Text("x".into()), FailureKind::Unfit), (Parameter::Integer(1 << 40), FailureKind::Unfit)]
    {
        let failure = load(&driver, &sql("SELECT name FROM users WHERE id = $id"), &[value]).unwrap_err();
        assert_eq!(failure.kind, kind, "{failure}");
    }
}

#[test]
fn wrong_statements_are_refused_with_their_place() {
    let Some(store) = postgres() else { return };
    store.sql(USERS);
    let driver = open(&store);
    for (statement, word) in [
        ("SELECT nam FROM users WHERE id = $id", "nam"),
        ("SELECT '\u{e9}', name FROM users WHERE $identifier = idd", "idd"),
        ("SELECT name FROM nowhere", "nowhere"),
        ("SELECT name FRM users", "users"),
    ] {
        let failure = run(driver.check(&sql(statement), Purpose::Load)).unwrap_err();
        assert_eq!(
            (failure.kind, failure.position),
            (FailureKind::Refused, statement.find(word)),
            "{statement}: {failure}"
        );
        let failure = load(&driver, &sql(statement), &[Parameter::Integer(1)]).unwrap_err();
        assert_eq!(failure.position, statement.find(word));
    }
    assert!(run(driver.check(&sql("DELETE FROM users"), Purpose::Load)).is_err());
    assert!(run(driver.check(&sql("DELETE FROM users"), Purpose::Write)).is_ok());
    let failure = load(&driver, &sql("SELECT 1 / $n::int"), &[Parameter::Integer(0)]).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unfit);
    let wrong = Options { password: Some(Secret::new("geheim")), ..options() };
    for options in [wrong, Options { password: None, ..options() }] {
        let failure = run(larder_source_postgres::open(&store.url(), &options).unwrap().probe()).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Refused, "{failure}");
        assert!(!failure.text.contains("geheim"));
    }
    let off = format!("{}?sslmode=require", store.url());
    let failure = run(larder_source_postgres::open(&off, &options()).unwrap().probe()).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Refused, "{failure}");
}

#[test]
fn limits_hold_and_what_is_given_up_ends_on_the_server() {
    let Some(store) = postgres() else { return };
    let driver =
        larder_source_postgres::open(&store.url(), &Options { connections: 1, ..options() }).unwrap();
    let many = sql("SELECT generate_series(1, 1000000)");
    let failure = load_within(&driver, &many, &[], Limits { rows: 10, bytes: 1 << 20 }).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unfit);
    let large = sql("SELECT repeat('x', 100000000)");
    let failure = load_within(&driver, &large, &[], Limits { rows: 10, bytes: 1 << 20 }).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unfit);
    let failure = load_within(&driver, &many, &[], Limits { rows: 2_000_000, bytes: 1000 }).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unfit);
    let slow = sql("SELECT pg_sleep(600)::text");
    let request = Request { statement: &slow, parameters: &[], validator: None, limits: follower::LIMITS };
    run(async {
        assert!(tokio::time::timeout(Duration::from_millis(300), driver.load(request)).await.is_err());
        // The only place is free again, and the server works no more.
        assert!(tokio::time::timeout(Duration::from_secs(10), driver.probe()).await.unwrap().is_ok());
    });
    eventually("the statement ends", || {
        store.sql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%sleep(600)%' AND pid <> pg_backend_pid()").trim() == "0"
    });
}

#[test]
fn writes_happen_together_or_not_at_all() {
    let Some(store) = postgres() else { return };
    store.sql(USERS);
    let driver = open(&store);
    let rename = sql("UPDATE users SET name = $name WHERE id = $id");
    let insert = sql("INSERT INTO users (id, email) VALUES ($id, $email) RETURNING id");
    let values = |id| vec![Parameter::Text("New".into()), Parameter::Integer(id)];
    assert_eq!(run(driver.write(&[(&rename, values(1)), (&rename, values(99))])).unwrap(), [1, 0]);
    let taken = vec![Parameter::Integer(5), Parameter::Text("ann@x".into())];
    let failure = run(driver.write(&[(&rename, values(2)), (&insert, taken)])).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Refused);
    assert_eq!(store.sql("SELECT count(*) FROM users WHERE name = 'New'").trim(), "1");
    let free = vec![Parameter::Integer(5), Parameter::Text("eve@x".into())];
    assert_eq!(run(driver.write(&[(&insert, free)])).unwrap(), [1]);
}

#[test]
fn writes_in_order_come_behind_all_that_was_sent_before() {
    let Some(store) = postgres() else { return };
    store.sql("CREATE TABLE t (n serial, v text); CREATE ROLE plain LOGIN PASSWORD 'x'");
    store.sql("GRANT ALL ON ALL TABLES IN SCHEMA public TO plain; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO plain");
    let add = sql("INSERT INTO t (v) VALUES ($v)");
    let value = |text: &str| vec![Parameter::Text(text.into())];
    let all = || store.sql("SELECT string_agg(v, ' ' ORDER BY n) FROM t").trim().to_owned();
    let driver = open(&store);
    // What was given up on is not done behind what follows.
    let slow = sql("INSERT INTO t (v) SELECT $v FROM pg_sleep(600)");
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
    let number = i64::MIN.cast_unsigned() + 5;
    let mut earlier = store.session();
    assert!(earlier.run(&format!("SELECT pg_advisory_lock('{}'::bigint)", i64::MIN + 5)).is_some());
    let url = store.url().replace("larder@", "plain@");
    let options = Options { password: Some(Secret::new("x")), ..options() };
    let plain = larder_source_postgres::open(&url, &options).unwrap();
    let failure = run(plain.write_in_order(number, &[(&add, value("f"))])).unwrap_err();
    assert!(failure.kind == FailureKind::Busy && failure.text.contains("cannot be ended"), "{failure}");
    assert_eq!(all(), "a b c d e");
    assert!(earlier.run(&format!("SELECT pg_advisory_unlock('{}'::bigint)", i64::MIN + 5)).is_some());
    assert_eq!(run(plain.write_in_order(number, &[(&add, value("g"))])).unwrap(), [1]);
    // Where nobody may have such locks, writes go on without.
    store.sql("REVOKE EXECUTE ON FUNCTION pg_try_advisory_lock(bigint) FROM PUBLIC");
    let plain = larder_source_postgres::open(&url, &options).unwrap();
    assert_eq!(run(plain.write_in_order(number, &[(&add, value("h"))])).unwrap(), [1]);
    assert_eq!(all(), "a b c d e g h");
}

/// A proxy that tells another number of the session's process than the server does, as poolers do; its port.
fn pooler(store: &Store) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, to) = (listener.local_addr().unwrap().port(), store.port());
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let Ok(mut server) = TcpStream::connect(("127.0.0.1", to)) else { return };
            let (mut asking, mut asked) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut asking, &mut asked));
            std::thread::spawn(move || {
                let mut bytes = vec![0; 1 << 16];
                while let Ok(count @ 1..) = server.read(&mut bytes) {
                    let key = bytes[..count].windows(5).position(|some| some == b"K\0\0\0\x0c");
                    key.into_iter().for_each(|at| bytes[at + 5] ^= 1);
                    if client.write_all(&bytes[..count]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

#[test]
fn behind_a_pooler_no_lock_is_taken_that_others_would_get() {
    let Some(store) = postgres() else { return };
    store.sql("CREATE TABLE t (v text)");
    let url = store.url().replace(&format!(":{}/", store.port()), &format!(":{}/", pooler(&store)));
    let driver = larder_source_postgres::open(&url, &options()).unwrap();
    let add = sql("INSERT INTO t (v) VALUES ($v)");
    let locks = || store.sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").trim().to_owned();
    let value = || vec![Parameter::Text("a".into())];
    assert_eq!(run(driver.write_in_order(7, &[(&add, value())])).unwrap(), [1]);
    assert_eq!(locks(), "0");
    // And without one it is.
    let direct = open(&store);
    assert_eq!(run(direct.write_in_order(7, &[(&add, value())])).unwrap(), [1]);
    assert_eq!(locks(), "1");
}

#[test]
fn a_stream_gives_everything_in_pieces_and_can_be_stopped() {
    let Some(store) = postgres() else { return };
    let driver = open(&store);
    let limits = Limits { rows: usize::MAX, bytes: usize::MAX };
    let statement = sql("SELECT generate_series(1, 1000)");
    let request = Request { statement: &statement, parameters: &[], validator: None, limits };
    let mut sizes = Vec::new();
    let mut count = |rows: larder_source::Rows| {
        sizes.push(rows.rows.len());
        true
    };
    run(driver.stream(request, &mut count)).unwrap();
    assert_eq!(sizes, [256, 256, 256, 232]);
    let endless = sql("SELECT generate_series(1, 1000000000)");
    let request = Request { statement: &endless, parameters: &[], validator: None, limits };
    let mut pieces = 0;
    let mut stop = |_| {
        pieces += 1;
        pieces < 3
    };
    run(driver.stream(request, &mut stop)).unwrap();
    assert_eq!(pieces, 3);
    let wrong = sql("SELECT 1 / (500 - generate_series(1, 1000))");
    let request = Request { statement: &wrong, parameters: &[], validator: None, limits };
    assert_eq!(run(driver.stream(request, &mut |_| true)).unwrap_err().kind, FailureKind::Unfit);
    assert!(run(driver.probe()).is_ok());
}

#[test]
fn a_store_that_ends_and_comes_back_is_found_again_and_changed_tables_are_noticed() {
    let Some(mut store) = postgres() else { return };
    store.sql(USERS);
    let driver = open(&store);
    let query = sql("SELECT * FROM users WHERE id = $id");
    assert_eq!(load(&driver, &query, &[Parameter::Integer(1)]).unwrap().columns.len(), 3);
    store.sql("ALTER TABLE users ADD COLUMN town text");
    assert_eq!(load(&driver, &query, &[Parameter::Integer(1)]).unwrap().columns.len(), 4);
    store.kill();
    let failure = load(&driver, &query, &[Parameter::Integer(1)]).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unreachable, "{failure}");
    store.run().unwrap();
    assert_eq!(load(&driver, &query, &[Parameter::Integer(1)]).unwrap().rows.len(), 1);
    // A connection that the server ended while it was idle is not used.
    store
        .sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'larder_test'");
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(load(&driver, &query, &[Parameter::Integer(1)]).unwrap().rows.len(), 1);
}

#[test]
fn changes_by_others_are_told_and_a_follower_can_come_back() {
    let Some(mut store) = postgres() else { return };
    store.sql(USERS);
    store.sql("CREATE SCHEMA app; CREATE TABLE app.items (id int PRIMARY KEY, n int); ALTER TABLE app.items REPLICA IDENTITY FULL");
    let driver = open(&store);
    let tables = ["users", "app.items"];
    let feed: Following = follow(&driver, &tables, None);
    assert_eq!(feed.told()[0], Told::Gap);
    store.sql(
        "BEGIN; UPDATE users SET name = 'Anna' WHERE id = 1; UPDATE users SET id = 20 WHERE id = 2;
        INSERT INTO app.items VALUES (7, 1); UPDATE app.items SET n = 2; DELETE FROM users WHERE id = 3; COMMIT; TRUNCATE users",
    );
    let changes = feed.changes(5);
    assert_eq!(cell(changes[0].before.as_ref(), "id"), Some(Cell::Integer(1)));
    assert_eq!(cell(changes[0].before.as_ref(), "name"), None, "not told by the default identity");
    assert_eq!(cell(changes[0].after.as_ref(), "name"), Some(text("Anna")));
    assert_eq!(cell(changes[1].before.as_ref(), "id"), Some(Cell::Integer(2)));
    assert_eq!(cell(changes[1].after.as_ref(), "id"), Some(Cell::Integer(20)));
    assert_eq!((changes[2].table.as_str(), &changes[2].before), ("app.items", &None));
    assert_eq!(cell(changes[3].before.as_ref(), "n"), Some(Cell::Integer(1)));
    assert_eq!(cell(changes[4].before.as_ref(), "id"), Some(Cell::Integer(3)));
    assert_eq!(cell(changes[4].before.as_ref(), "email"), None);
    assert_eq!(changes[4].after, None);
    let is_change = |told: &Told| matches!(told, Told::Changed(_));
    let is_emptied = |told: &Told| *told == Told::Emptied("users".to_owned());
    feed.wait_for(|told| told.iter().rposition(is_emptied) > told.iter().rposition(is_change));
    let position = feed.all_reached();
    drop(feed);

    // What happens while nobody follows, and the server crashes besides, is told by and by.
    store.sql("INSERT INTO users VALUES (30, 'Eve', 'eve@x')");
    store.kill();
    store.run().unwrap();
    let feed = follow(&driver, &tables, Some(position));
    let changes = feed.changes(1);
    assert!(!feed.told().contains(&Told::Gap));
    assert_eq!(cell(changes[0].after.as_ref(), "id"), Some(Cell::Integer(30)));
    let position = feed.all_reached();
    drop(feed);

    // Another table was not published before: its changes may have been missed.
    store.sql("CREATE TABLE more (id int PRIMARY KEY)");
    let feed = follow(&driver, &["users", "app.items", "more"], Some(position.clone()));
    assert_eq!(feed.told()[0], Told::Gap);
    store.sql("DROP TABLE more");
    assert!(feed.wait_for_end().is_passing());
    drop(feed);
    let follow_missing =
        |tables: &[String]| run(driver.feed().unwrap().follow(tables, None, &mut |_| {})).unwrap_err();
    assert_eq!(follow_missing(&["nowhere".to_owned()]).kind, FailureKind::Refused);

    eventually("the slot is free", || run(driver.feed().unwrap().remove()).is_ok());
    assert_eq!(store.sql("SELECT count(*) FROM pg_replication_slots").trim(), "0");
    assert_eq!(store.sql("SELECT count(*) FROM pg_publication").trim(), "0");
    let feed = follow(&driver, &tables, Some(position));
    assert_eq!(feed.told()[0], Told::Gap, "the slot was gone");
    store.kill();
    assert!(feed.wait_for_end().is_passing());
}

/// While it lives commits wait for a standby that there is not.
struct Awaited<'s>(&'s Store);

impl Awaited<'_> {
    fn by(store: &Store) -> Awaited<'_> {
        store.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
        store.sql("SELECT pg_reload_conf()");
        eventually("it is so", || store.sql("SHOW synchronous_standby_names").trim() == "nobody");
        Awaited(store)
    }
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        self.0.sql("ALTER SYSTEM SET synchronous_standby_names = ''");
        self.0.sql("SELECT pg_reload_conf()");
    }
}

/// A commit that waits for a standby is in the log and told, and nobody sees it.
#[test]
fn it_is_told_when_a_change_is_seen() {
    let Some(store) = postgres() else { return };
    store.sql(USERS);
    let driver = open(&store);
    let feed = follow(&driver, &["users"], None);
    let name_of = |id| {
        let rows = load(&driver, &sql("SELECT name FROM users WHERE id = $id"), &[Parameter::Integer(id)]);
        rows.unwrap().rows[0][0].clone()
    };
    let position = |told: &[Told], wanted: &Told| told.iter().position(|one| one == wanted);
    std::thread::scope(|scope| {
        let awaited = Awaited::by(&store);
        scope.spawn(|| store.sql("UPDATE users SET name = 'New' WHERE id = 1"));
        feed.changes(1);
        let before = feed.reached();
        // What does not wait is seen, and told to be.
        store.sql("SET synchronous_commit = local; UPDATE users SET name = 'Also' WHERE id = 3");
        feed.changes(2);
        feed.wait_for(|told| told.iter().any(|one| matches!(one, Told::Shown(_))));
        assert_eq!((name_of(1), name_of(3)), (text("Ann"), text("Also")));
        let told = feed.told();
        let transactions = told.iter().filter_map(|one| match one {
            Told::Transaction(number) => Some(*number),
            _ => None,
        });
        let [.., waits, other] = transactions.collect::<Vec<_>>()[..] else { panic!("{told:?}") };
        assert!(told.contains(&Told::Shown(other)) && !told.contains(&Told::Shown(waits)), "{told:?}");
        // Whoever goes on from what was reached is told again.
        assert_eq!(feed.reached(), before);
        drop(awaited);
        feed.wait_for(|told| told.contains(&Told::Shown(waits)));
        assert_eq!(name_of(1), text("New"));
        feed.wait_for(|told| {
            let is_past = |one: &Told| matches!(one, Told::Reached(to) if *to != before);
            told.iter().rposition(is_past) > position(told, &Told::Shown(waits))
        });
    });
}

/// What is under way when following begins may be committed in the log already, before what is told.
#[test]
fn what_was_under_way_before_is_followed_by_a_second_drop() {
    let Some(store) = postgres() else { return };
    store.sql(USERS);
    let driver = open(&store);
    drop(follow(&driver, &["users"], None));
    let mut session = store.session();
    session.run("BEGIN; UPDATE users SET name = 'New' WHERE id = 1").unwrap();
    eventually("the slot is free", || {
        store.sql("SELECT count(*) FROM pg_replication_slots WHERE active").trim() == "0"
    });
    let feed = follow(&driver, &["users"], None);
    let older = Told::Shown(1 << 32);
    assert!(feed.told().contains(&Told::Emptied("users".to_owned())) && !feed.told().contains(&older));
    session.run("COMMIT").unwrap();
    feed.wait_for(|told| told.contains(&older));
    assert_eq!(feed.changes(1).len(), 1);
}

#[test]
fn a_socket_in_the_file_system_is_a_place_too() {
    let Some(store) = postgres() else { return };
    let folder = store.folder().display().to_string().replace('/', "%2F");
    let url = format!("postgres://larder@{folder}:{}/shop", store.port());
    let driver = larder_source_postgres::open(&url, &Options::default()).unwrap();
    assert!(run(driver.probe()).is_ok());
}

/// PostgreSQL prepares passwords before it hashes them, where they can be prepared; whoever logs in must do the same.
#[test]
fn passwords_are_not_only_ascii() {
    let Some(store) = postgres() else { return };
    for (number, password) in [
        "p\u{e4}ssw\u{f6}rd",
        "\u{fb01}sh \u{2168}",
        "a\u{a0}b\u{ad}",
        "\u{1f980}\u{2168}",
        "\u{627}1",
        "\u{7}\u{aa}",
    ]
    .into_iter()
    .enumerate()
    {
        store.sql(&format!("CREATE ROLE r{number} LOGIN PASSWORD '{password}'"));
        let url = store.url().replace("larder@", &format!("r{number}@"));
        let right = Options { password: Some(Secret::new(password)), ..options() };
        run(larder_source_postgres::open(&url, &right).unwrap().probe())
            .unwrap_or_else(|failure| panic!("{password:?}: {failure}"));
        let wrong = Options { password: Some(Secret::new(format!("{password}x"))), ..options() };
        assert!(run(larder_source_postgres::open(&url, &wrong).unwrap().probe()).is_err(), "{password:?}");
    }
}
