//! Users of the built server: what gets by their rules (nothing), files of users, and strangers.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use larder_testkit::client::encode;
use larder_testkit::{Client, Server, Value};
use rusqlite::Connection;
use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const BINARY: &str = env!("CARGO_BIN_EXE_larder");

fn larder(options: &[&str]) -> Server {
    Server::start(Path::new(BINARY), options).unwrap()
}

fn ok(client: &mut Client, line: &str) {
    assert_eq!(client.run(line).unwrap().text(), "OK", "{line}");
}

fn is_denied(client: &mut Client, line: &str) {
    let reply = client.run(line).unwrap();
    assert!(reply.is_error() && reply.text().starts_with("NOPERM"), "{line}: {reply:?}");
}

/// A client who speaks for a new user with these rules.
fn user(server: &Server, name: &str, rules: &str) -> Client {
    let mut client = server.client();
    ok(&mut client, &format!("ACL SETUSER {name} on nopass {rules}"));
    ok(&mut client, &format!("AUTH {name} x"));
    client
}

fn stat(client: &mut Client, name: &str) -> u64 {
    let text = client.run("INFO stats").unwrap().text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default();
    line.trim().parse().unwrap()
}

#[test]
fn no_way_of_writing_a_command_gets_by_its_rule() {
    let server = larder(&["--rename-command", "get", "fetch", "--rename-command", "debug", "hidden"]);
    let mut admin = server.client();
    ok(&mut admin, "SET k v");
    let mut client = user(&server, "u", "~* +@all -get -debug -config|get -object|freq");
    for line in [
        "fetch k",
        "FETCH k",
        "FeTcH k",
        "hidden sleep 0",
        "config get port",
        "CONFIG gEt port",
        "object FREQ k",
    ] {
        is_denied(&mut client, line);
    }
    // The rule is about the command, whatever it is called.
    assert_eq!(
        client.run("fetch k").unwrap().text(),
        "NOPERM User u has no permissions to run the 'get' command"
    );
    for inline in ["fetch k\r\n", "  \"fetch\"   'k'\r\n", "CONFIG\tGET port\r\n"] {
        client.send_raw(inline.as_bytes()).unwrap();
        let reply = client.read().unwrap();
        assert!(reply.is_error() && !reply.text().contains("unbalanced"), "{inline}: {reply:?}");
    }
    assert_eq!(client.run("STRLEN k").unwrap(), Value::Integer(1));
}

#[test]
fn a_pipeline_is_checked_line_by_line() {
    let server = larder(&["--threads", "2"]);
    let mut admin = server.client();
    ok(&mut admin, "SET mine 1");
    ok(&mut admin, "SET other 2");
    ok(&mut admin, "ACL SETUSER u on nopass ~mine +@all");
    let mut client = server.client();
    // The login stands in the same packet as what it takes away.
    let mut lines = vec![vec!["GET", "other"], vec!["AUTH", "u", "x"]];
    for _ in 0..200 {
        lines.extend([
            vec!["GET", "mine"],
            vec!["GET", "other"],
            vec!["SET", "other", "x"],
            vec!["INCR", "mine"],
        ]);
    }
    let replies = client.pipeline(&lines).unwrap();
    assert_eq!((replies[0].text(), replies[1].text()), ("2".into(), "OK".into()));
    for replies in replies[2..].chunks(4) {
        assert!(!replies[0].is_error() && !replies[3].is_error());
        assert!(replies[1].text().starts_with("NOPERM") && replies[2].text().starts_with("NOPERM"));
    }
    assert_eq!(admin.run("GET mine").unwrap().text(), "201");
    assert_eq!(admin.run("GET other").unwrap().text(), "2");
    assert_eq!(
        (stat(&mut admin, "acl_access_denied_key"), stat(&mut admin, "acl_access_denied_cmd")),
        (400, 0)
    );
}

#[test]
fn what_was_taken_away_is_gone_once_that_is_answered() {
    let server = larder(&["--threads", "2"]);
    let mut admin = server.client();
    // Connections are spread over both workers.
    let mut clients: Vec<Client> = (0..4).map(|_| user(&server, "u", "~* +@all")).collect();
    for round in 0..200 {
        ok(&mut admin, "ACL SETUSER u -set");
        clients.iter_mut().for_each(|client| is_denied(client, "SET k v"));
        ok(&mut admin, "ACL SETUSER u +set");
        clients.iter_mut().for_each(|client| ok(client, "SET k v"));
        if round % 50 == 0 {
            ok(&mut admin, "ACL SETUSER u resetkeys ~x");
            clients.iter_mut().for_each(|client| is_denied(client, "SET k v"));
            ok(&mut admin, "ACL SETUSER u ~*");
        }
    }
    // Nobody is served anything for a user that is gone.
    clients.iter_mut().for_each(|client| client.send(&["BLPOP", "list", "0"]).unwrap());
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(admin.run("ACL DELUSER u").unwrap(), Value::Integer(1));
    assert_eq!(admin.run("RPUSH list x").unwrap(), Value::Integer(1));
    for client in &mut clients {
        assert!(client.read().is_err(), "the connection has ended");
    }
    assert_eq!(admin.run("LRANGE list 0 -1").unwrap().items().unwrap().len(), 1);
}

#[test]
fn keys_that_commands_find_by_themselves_are_asked_for() {
    let server = larder(&[]);
    let mut admin = server.client();
    admin.run("GEOADD mine 1 1 m").unwrap();
    ok(&mut admin, "SET secret s");
    admin.run("RPUSH mylist 1").unwrap();
    let mut client = user(&server, "u", "~m* +@all");
    is_denied(&mut client, "GEORADIUS mine 1 1 10 km STORE m2 STORE secret");
    is_denied(&mut client, "GEORADIUS mine 1 1 10 km STORE secret STORE m2");
    is_denied(&mut client, "GEORADIUSBYMEMBER mine m 10 km STOREDIST secret");
    is_denied(&mut client, "SORT mylist STORE m2 STORE secret");
    is_denied(&mut client, "COPY mylist secret");
    for line in [
        "SORT mylist BY secret*",
        "SORT mylist GET secret*",
        "SORT mylist BY m* GET #",
        "SORT_RO mylist GET s*",
    ] {
        let reply = client.run(line).unwrap().text();
        assert!(reply.contains("denied due to insufficient ACL permissions"), "{line}: {reply}");
    }
    assert_eq!(admin.run("GET secret").unwrap().text(), "s");
    // The keys of MIGRATE's own form are among those that are asked for.
    let line = ["MIGRATE", "127.0.0.1", "1", "", "0", "10", "KEYS", "mylist", "secret"];
    assert!(client.command(&line).unwrap().text().starts_with("NOPERM"));
}

#[test]
fn reading_through_a_route_needs_a_right_to_the_key_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.db");
    let store = Connection::open(&path).unwrap();
    store
        .execute_batch("CREATE TABLE users (id INTEGER, name TEXT); INSERT INTO users VALUES (1, 'Ada');")
        .unwrap();
    let url = format!("sqlite:{}", path.display());
    let query = "SELECT name FROM users WHERE id = $id";
    let server = larder(&[
        "--source",
        "shop",
        &url,
        "--route",
        "user:<id:int>",
        "shop",
        "as",
        "string",
        "query",
        query,
    ]);
    let mut client = user(&server, "u", "%R~user:* +get");
    assert_eq!(client.run("GET user:1").unwrap().text(), "Ada");
    is_denied(&mut client, "GET other:1");
    is_denied(&mut client, "CACHE ROUTE LIST");
    is_denied(&mut client, "CACHE GET user:1");
    let mut reader = user(&server, "r", "~user:* +@cache -@dangerous");
    assert!(!reader.run("CACHE GET user:1").unwrap().is_error());
    is_denied(&mut reader, "CACHE GET other:1");
    is_denied(&mut reader, "CACHE GET other:1 META");
    // What is dropped by prefix or tag is what may be written, all of it.
    let mut dropper = user(&server, "d", "~user:* ~a?* %R~z* ~x\\* +cache|invalidate");
    for line in ["PREFIX user:", "PREFIX user:1", "PREFIX ab", "KEYS 1 user:1", "KEYS 2 user:1 user:2 SOFT"] {
        assert!(!dropper.run(&format!("CACHE INVALIDATE {line}")).unwrap().is_error(), "{line}");
    }
    for line in [
        "PREFIX use",
        "PREFIX a",
        "PREFIX z",
        "PREFIX x",
        "PREFIX x*",
        "TAG t",
        "KEYS 1 other",
        "KEYS 2 user:1 z",
    ] {
        is_denied(&mut dropper, &format!("CACHE INVALIDATE {line}"));
    }
    let mut all = user(&server, "w", "%W~* +cache|invalidate");
    assert!(!all.run("CACHE INVALIDATE TAG t").unwrap().is_error());
}

#[test]
fn a_stranger_who_does_not_read_is_closed() {
    let server = larder(&[]);
    ok(&mut server.client(), "CONFIG SET requirepass secret");
    let mut stranger = TcpStream::connect(server.address()).unwrap();
    stranger.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    // Two bytes are answered by sixty: what the kernel holds for a peer that does not read is soon full.
    let mut sent = 0;
    let lines = b"x\n".repeat(32 * 1024);
    while stranger.write_all(&lines).is_ok() {
        sent += lines.len();
        assert!(sent < 64 << 20, "the connection is never closed");
    }
    let mut admin = server.client();
    ok(&mut admin, "AUTH secret");
    assert!(stat(&mut admin, "client_output_buffer_limit_disconnections") > 0);
}

#[test]
fn the_default_user_and_its_password_are_one() {
    let server = larder(&[]);
    let mut admin = server.client();
    let shown = |admin: &mut Client| admin.run("ACL GETUSER default").unwrap();
    let config = |admin: &mut Client| admin.run("CONFIG GET requirepass").unwrap().items().unwrap()[1].text();
    ok(&mut admin, "CONFIG SET requirepass one");
    assert_eq!(shown(&mut admin).field("passwords").unwrap().items().unwrap().len(), 1);
    assert!(server.client().run("GET k").unwrap().text().starts_with("NOAUTH"));
    // What ACL SETUSER says is not told to CONFIG, as in Redis.
    ok(&mut admin, "ACL SETUSER default >two");
    assert_eq!(config(&mut admin), "one");
    for password in ["one", "two"] {
        ok(&mut server.client(), &format!("AUTH {password}"));
        ok(&mut server.client(), &format!("AUTH default {password}"));
    }
    ok(&mut admin, "CONFIG SET requirepass three");
    assert!(server.client().run("AUTH two").unwrap().text().starts_with("WRONGPASS"));
    assert_eq!(admin.command(&["CONFIG", "SET", "requirepass", ""]).unwrap().text(), "OK");
    assert_eq!(server.client().run("GET k").unwrap(), Value::NilBulk);
    // Nobody may connect any more who does not log in as somebody else.
    ok(&mut admin, "ACL SETUSER ann on >pw ~* +@all");
    ok(&mut admin, "ACL SETUSER default off");
    let mut client = server.client();
    assert!(client.run("GET k").unwrap().text().starts_with("NOAUTH"));
    assert!(client.run("AUTH default x").unwrap().text().starts_with("WRONGPASS"));
    ok(&mut client, "AUTH ann pw");
    assert_eq!(client.run("GET k").unwrap(), Value::NilBulk);
}

#[test]
fn passwords_are_kept_and_shown_as_hashes_only() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("larder.conf");
    fs::write(&file, "timeout 0\nuser bob on >hunter22 ~b* +get\n").unwrap();
    let server = larder(&[file.to_str().unwrap(), "--slowlog-log-slower-than", "0"]);
    let mut admin = server.client();
    ok(&mut admin, "ACL SETUSER ann on >hunter23 ~a* +get");
    assert!(admin.run("AUTH ann hunter24").unwrap().is_error());
    ok(&mut admin, "CONFIG REWRITE");
    let text = fs::read_to_string(&file).unwrap();
    let seen = [
        text.clone(),
        format!("{:?}", admin.run("ACL LIST").unwrap()),
        format!("{:?}", admin.run("ACL GETUSER ann").unwrap()),
        format!("{:?}", admin.run("SLOWLOG GET -1").unwrap()),
        format!("{:?}", admin.run("ACL LOG").unwrap()),
        server.log(),
    ];
    assert!(seen.iter().all(|text| !text.contains("hunter2")), "{seen:?}");
    // A server that starts with the file has the same users.
    let again = larder(&[file.to_str().unwrap()]);
    assert_eq!(again.client().run("ACL LIST").unwrap(), admin.run("ACL LIST").unwrap());
    ok(&mut again.client(), "AUTH bob hunter22");
    ok(&mut again.client(), "AUTH ann hunter23");
    // A second rewrite leaves them as they are.
    ok(&mut again.client(), "CONFIG REWRITE");
    let users = |text: &str| {
        text.lines().filter(|line| line.starts_with("user ")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(users(&fs::read_to_string(&file).unwrap()), users(&text));
    assert_eq!(users(&text).len(), 3);
}

#[test]
fn users_come_from_a_file_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users.acl");
    fs::write(&file, "user ann on >pw ~a* &c +@all (+get ~x)\nuser default on nopass ~* &* +@all\n").unwrap();
    let path = file.to_str().unwrap();
    let server = larder(&["--aclfile", path]);
    let mut admin = server.client();
    let mut ann = server.client();
    ok(&mut ann, "AUTH ann pw");
    is_denied(&mut ann, "GET b");
    ok(&mut admin, "ACL SETUSER bob on >pw +get");
    let mut bob = server.client();
    ok(&mut bob, "AUTH bob pw");
    let mut listener = server.client();
    ok(&mut listener, "AUTH ann pw");
    listener.run("SUBSCRIBE c").unwrap();
    ok(&mut admin, "ACL SAVE");
    let saved = fs::read_to_string(&file).unwrap();
    assert!(saved.contains("user bob on") && !saved.contains(">pw"), "{saved}");
    // A file that is wrong changes nothing.
    fs::write(&file, "user ann on +nope\n").unwrap();
    let refused = admin.run("ACL LOAD").unwrap().text();
    assert!(
        refused.contains(":1: Error in applying operation '+nope'") && refused.contains("no change"),
        "{refused}"
    );
    is_denied(&mut ann, "GET b");
    // Bob is gone, Ann may read and not hear.
    fs::write(&file, "user ann on >pw ~* +@all\n").unwrap();
    ok(&mut admin, "ACL LOAD");
    assert_eq!(ann.run("GET b").unwrap(), Value::NilBulk);
    assert!(bob.run("GET x").is_err() && listener.read().is_err());
    assert_eq!(admin.run("ACL USERS").unwrap().items().unwrap().len(), 2);
    fs::remove_file(&file).unwrap();
    let missing = admin.run("ACL LOAD").unwrap().text();
    assert_eq!(missing, format!("ERR Error loading ACLs, opening file '{path}': No such file or directory"));
}

#[test]
fn users_that_are_wrong_stop_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let refusal = |args: &[&str]| {
        let output = Command::new(BINARY)
            .current_dir(folder.path())
            .args(args)
            .args(["--port", "0", "--unixsocket", "s"])
            .output()
            .unwrap();
        assert!(!output.status.success(), "{args:?}");
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let users = write("users.acl", "user ann on +nope\n");
    let config = write("a.conf", "timeout 0\nuser ann on +get +nope >secret\n");
    let text = refusal(&[&config]);
    assert!(
        text.contains("at line 2") && text.contains("Error in user declaration '+nope': Unknown command"),
        "{text}"
    );
    assert!(!text.contains("secret"), "{text}");
    for (rules, expected) in [
        ("ann on ~a\nuser ann on", "at line 2"),
        ("ann on ~a\nuser ann on", "Duplicate user found"),
        ("ann (+get", "Unmatched parenthesis"),
        ("ann #abc", "64 characters"),
        ("\"a b\" on", "Spaces not allowed"),
    ] {
        let config = write("b.conf", &format!("user {rules}\n"));
        let text = refusal(&[&config]);
        assert!(text.contains(expected), "{rules}: {text}");
        assert!(refusal(&["--check-config", &config]).contains(expected), "{rules}");
    }
    assert!(refusal(&["--aclfile", &users]).contains("users.acl:1: Error in applying operation '+nope'"));
    assert!(
        refusal(&["--check-config", "--aclfile", &users])
            .contains("users.acl:1: Error in applying operation '+nope'")
    );
    assert!(refusal(&["--aclfile", "nowhere.acl"]).contains("No such file"));
    assert!(
        refusal(&["--aclfile", &users, "--user", "ann", "on"])
            .contains("'aclfile' names a file of users too")
    );
}

#[test]
fn words_of_a_login_are_not_kept_longer_than_it_takes() {
    let server = larder(&[]);
    let mut admin = server.client();
    ok(&mut admin, "ACL SETUSER ann on >pw ~* +@all");
    // A login in the middle of a transaction, and one that fails: who asks is who it was.
    let bytes: Vec<u8> = [
        encode(&["MULTI"]),
        encode(&["AUTH", "ann", "no"]),
        encode(&["ACL", "WHOAMI"]),
        encode(&["AUTH", "ann", "pw"]),
        encode(&["ACL", "WHOAMI"]),
        encode(&["EXEC"]),
    ]
    .concat();
    let mut client = server.client();
    let replies = client.pipeline_raw(&bytes, 6).unwrap();
    let seen: Vec<String> = replies[5].items().unwrap().iter().map(Value::text).collect();
    assert_eq!(seen[1..], ["default", "OK", "ann"]);
    assert!(seen[0].starts_with("WRONGPASS"));
    assert_eq!(stat(&mut admin, "acl_access_denied_auth"), 1);
    let line = client.run("CLIENT INFO").unwrap().text();
    assert!(line.contains(" user=ann "), "{line}");
}
