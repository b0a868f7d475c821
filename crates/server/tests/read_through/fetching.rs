//! A miss is fetched once, kept, and given again, by whatever command it is read.

use crate::scenario::{figure, ok};
use crate::shop::{NAME, Shop, counted, figure_of, get, name_with, nil, serve, texts};
use larder_testkit::Client;
use std::path::PathBuf;

#[test]
fn every_shape_is_fetched_and_answers_its_commands() {
    let shop = Shop::new();
    let server = serve(
        2,
        &shop,
        &[
            NAME,
            &[
                "user:<id:int>:card",
                "as",
                "hash",
                "query",
                "SELECT name, email, age FROM users WHERE id = $id",
            ],
            &[
                "user:<id:int>:doc",
                "as",
                "json",
                "query",
                "SELECT name, email, age FROM users WHERE id = $id",
            ],
            &[
                "users:<age:int>",
                "as",
                "json-rows",
                "query",
                "SELECT id, name FROM users WHERE age > $age ORDER BY id",
            ],
            &["tags:<id:int>", "as", "set", "query", "SELECT tag FROM tags WHERE user = $id"],
            &["log:<id:int>", "as", "list", "query", "SELECT tag FROM tags WHERE user = $id ORDER BY tag"],
            &["top:<game>", "as", "zset", "query", "SELECT player, points FROM scores WHERE game = $game"],
        ],
    );
    let mut client = server.client();
    let mut run = |line: &str| client.run(line).unwrap();
    assert_eq!(run("GET user:1").text(), "Ada");
    assert_eq!(run("STRLEN user:2").integer(), Some(5));
    assert_eq!(run("GETRANGE user:3 0 1").text(), "An");
    assert_eq!(texts(&run("MGET user:1 user:9 user:3")), ["Ada", nil().as_str(), "Ann"]);
    assert_eq!(run("HGET user:1:card email").text(), "ada@example.org");
    assert_eq!(texts(&run("HGETALL user:2:card")), ["name", "Grace", "age", "85"]);
    assert_eq!(run("GET user:2:doc").text(), r#"{"name":"Grace","email":null,"age":85}"#);
    assert_eq!(run("GET users:30").text(), r#"[{"id":1,"name":"Ada"},{"id":2,"name":"Grace"}]"#);
    assert_eq!(run("SISMEMBER tags:1 math").integer(), Some(1));
    assert_eq!(run("SCARD tags:2").integer(), Some(1));
    assert_eq!(texts(&run("LRANGE log:1 0 -1")), ["admin", "math"]);
    assert_eq!(texts(&run("ZRANGE top:go 0 -1 WITHSCORES")), ["ann", "3.5", "ada", "10"]);
    assert_eq!(run("ZSCORE top:chess ada").text(), "1");
    // What is kept has the forms that commands would have given it.
    assert_eq!(run("OBJECT ENCODING top:go").text(), "listpack");
    assert_eq!(run("OBJECT ENCODING user:1").text(), "embstr");
    // Other commands than those of the shape say so, and those that look from outside do not fetch.
    assert!(run("LLEN user:1:card").text().starts_with("WRONGTYPE"));
    assert_eq!(run("EXISTS tags:3 log:2").integer(), Some(0));
    assert_eq!(run("TTL user:77").integer(), Some(-2));
    // What is no number is no key of the route.
    assert!(run("GET user:me").bytes().is_none());
    assert_eq!(run("DBSIZE").integer(), Some(12));
}

#[test]
fn many_who_miss_ask_once() {
    let shop = Shop::new();
    // A query that takes some time.
    let slow = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000000) \
                SELECT name FROM users WHERE id = $id AND (SELECT max(i) FROM n) > 0";
    let server = serve(2, &shop, &[&["user:<id:int>", "as", "string", "query", slow]]);
    let mut clients: Vec<Client> = (0..200).map(|_| server.client()).collect();
    for client in &mut clients {
        client.send(&["GET", "user:1"]).unwrap();
    }
    // Others are served meanwhile.
    let mut other = server.client();
    ok(&mut other, "SET elsewhere 1");
    for client in &mut clients {
        assert_eq!(client.read().unwrap().text(), "Ada");
    }
    assert_eq!(counted(&mut other, "loads"), 1);
    assert_eq!(counted(&mut other, "misses"), 200);
    assert_eq!(counted(&mut other, "coalesced"), 199);
}

#[test]
fn requests_behind_one_that_waits_are_answered_in_order() {
    let shop = Shop::new();
    let server = serve(1, &shop, &[NAME]);
    let mut client = server.client();
    let commands: Vec<Vec<String>> = (0..300)
        .map(|n| match n % 3 {
            0 => vec!["GET".to_owned(), format!("user:{}", n % 4)],
            1 => vec!["SET".to_owned(), format!("k:{n}"), n.to_string()],
            _ => vec!["GET".to_owned(), format!("k:{}", n - 1)],
        })
        .collect();
    let replies = client.pipeline(&commands).unwrap();
    for (n, reply) in replies.iter().enumerate() {
        match (n % 3, n % 4) {
            (0, 0) => assert!(reply.bytes().is_none(), "{reply:?}"),
            (0, id) => assert_eq!(reply.text(), ["", "Ada", "Grace", "Ann"][id]),
            (1, _) => assert_eq!(reply.text(), "OK"),
            _ => assert_eq!(reply.text(), (n - 1).to_string()),
        }
    }
    assert_eq!(counted(&mut client, "loads"), 4);
}

#[test]
fn a_batch_fetches_what_mget_misses_with_one_question() {
    let shop = Shop::new();
    let batch = name_with(&["batch", "SELECT id, name FROM users WHERE id IN ($id)"]);
    let server = serve(1, &shop, &[&batch]);
    let mut client = server.client();
    let names = client.run("MGET user:1 user:2 user:8 user:3").unwrap();
    assert_eq!(texts(&names), ["Ada", "Grace", nil().as_str(), "Ann"]);
    assert_eq!(counted(&mut client, "loads"), 4);
    assert_eq!(figure_of(&mut client, "asked"), 1 + 2, "one question, and two when the route was checked");
}

#[test]
fn more_keys_than_one_question_takes_are_answered_in_their_order() {
    let shop = Shop::new();
    shop.run(
        "WITH RECURSIVE n(i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n WHERE i < 3009)
         INSERT INTO users SELECT i, 'name-' || i, NULL, 1 FROM n",
    );
    let batch = name_with(&["batch", "SELECT id, name FROM users WHERE id IN ($id)"]);
    for threads in [1, 2] {
        let server = serve(threads, &shop, &[&batch]);
        let mut client = server.client();
        client.run("SET own here").unwrap();
        // Forwards and backwards, with keys twice and thrice, such as the store has not, and such as are nobody's.
        let ids: Vec<i64> = (1..=3009).chain((10..200).rev()).chain([5000, 10, 5000]).collect();
        let mut keys: Vec<String> = ids.iter().map(|id| format!("user:{id}")).collect();
        keys.extend(["own".to_owned(), "other".to_owned()]);
        let mut command = vec!["MGET"];
        command.extend(keys.iter().map(String::as_str));
        let name_of = |id: &i64| match id {
            1 => "Ada".to_owned(),
            2 => "Grace".to_owned(),
            3 => "Ann".to_owned(),
            10..3010 => format!("name-{id}"),
            _ => nil(),
        };
        let wanted: Vec<String> = ids.iter().map(name_of).chain(["here".to_owned(), nil()]).collect();
        assert_eq!(texts(&client.command(&command).unwrap()), wanted);
        assert_eq!(
            figure_of(&mut client, "asked"),
            4 + 2,
            "four questions, and two when the route was checked"
        );
        assert_eq!(texts(&client.command(&command).unwrap()), wanted);
        assert_eq!(figure_of(&mut client, "asked"), 4 + 2);
    }
}

#[test]
fn what_cannot_be_kept_is_given_all_the_same() {
    let shop = Shop::new();
    let route = name_with(&["ttl", "0"]);
    let server = serve(2, &shop, &[&route]);
    let mut client = server.client();
    assert_eq!(get(&mut client, "user:1").as_deref(), Some("Ada"));
    shop.run("UPDATE users SET name = 'Augusta' WHERE id = 1");
    assert_eq!(get(&mut client, "user:1").as_deref(), Some("Augusta"));
    assert_eq!(texts(&client.run("MGET user:1 user:2").unwrap()), ["Augusta", "Grace"]);
    assert_eq!(figure(&mut client, "used_memory") > 0, client.run("DBSIZE").unwrap().integer() == Some(0));
}

#[test]
fn transactions_have_what_they_read_fetched_first() {
    let shop = Shop::new();
    let server = serve(2, &shop, &[NAME]);
    let mut client = server.client();
    ok(&mut client, "MULTI");
    for line in ["GET user:1", "SET other 1", "MGET user:2 user:3 user:9", "GET user:1"] {
        assert_eq!(client.run(line).unwrap().text(), "QUEUED");
    }
    let replies = client.run("EXEC").unwrap();
    let replies = replies.items().unwrap();
    assert_eq!((replies[0].text(), replies[3].text()), ("Ada".into(), "Ada".into()));
    assert_eq!(texts(&replies[2])[..2], ["Grace", "Ann"]);
    // A write that the route refuses is refused when it is queued.
    ok(&mut client, "MULTI");
    assert!(client.run("SET user:1 x").unwrap().text().contains("refused by its route user:<id:int>"));
    assert!(client.run("EXEC").unwrap().text().starts_with("EXECABORT"));
}

#[test]
fn what_a_script_declares_is_fetched_before_it_runs() {
    let shop = Shop::new();
    for threads in [1, 2] {
        let server = serve(threads, &shop, &[NAME]);
        let mut client = server.client();
        let get = "return redis.call('get', KEYS[1])";
        assert_eq!(client.command(&["EVAL", get, "1", "user:1"]).unwrap().text(), "Ada");
        assert_eq!(client.command(&["EVAL_RO", get, "1", "user:9"]).unwrap().text(), nil());
        assert_eq!(
            client.command(&["EVAL", "return redis.call('get', 'user:2')", "0"]).unwrap().text(),
            nil()
        );
        let both = "return redis.call('mget', KEYS[1], KEYS[2])";
        assert_eq!(
            texts(&client.command(&["EVAL", both, "2", "user:2", "user:3"]).unwrap()),
            ["Grace", "Ann"]
        );
        client.run("DEL user:2").unwrap();
        ok(&mut client, "MULTI");
        client.command(&["EVAL", get, "1", "user:2"]).unwrap();
        assert_eq!(texts(&client.run("EXEC").unwrap()), ["Grace"]);
        let write =
            client.command(&["EVAL", "return redis.call('set', KEYS[1], 'x')", "1", "user:2"]).unwrap();
        assert!(write.text().contains("is refused by its route user:<id:int>"), "{}", write.text());
        ok(&mut client, "CLIENT LOAD OFF");
        client.run("DEL user:2").unwrap();
        assert_eq!(client.command(&["EVAL", get, "1", "user:2"]).unwrap().text(), nil());
    }
}

#[test]
fn the_first_example_of_the_documentation_runs() {
    let text =
        std::fs::read_to_string(larder_testkit::server::repository_root().join("docs/READ-THROUGH.md"))
            .unwrap();
    let block = text.split("```sh demo\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let binary = std::env::var_os("LARDER_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_larder").into());
    let binary = PathBuf::from(binary).canonicalize().unwrap();
    let has = |tool: &str| std::process::Command::new(tool).arg("--version").output().is_ok();
    if !(has("sqlite3") && has("redis-cli")) {
        assert!(std::env::var_os("CI").is_none(), "sqlite3 and redis-cli are not installed");
        return;
    }
    let path = format!("{}:{}", binary.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let shown = std::process::Command::new("bash").args(["-c", block]).env("PATH", path).output().unwrap();
    assert!(shown.status.success(), "{shown:?}");
}
