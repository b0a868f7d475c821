//! INFO, CONFIG, SLOWLOG, LATENCY, MEMORY and DEBUG of the built server.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use larder_testkit::value::Value;
use larder_testkit::{Client, Server};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

fn larder(options: &[&str]) -> Server {
    Server::start(Path::new(env!("CARGO_BIN_EXE_larder")), options).unwrap()
}

/// The figures of INFO as clients read them.
fn info(client: &mut Client, section: &str) -> BTreeMap<String, String> {
    let text = client.command(&["INFO", section]).unwrap().text();
    let lines = text.split("\r\n").filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("{line}"));
            (name.to_owned(), value.to_owned())
        })
        .collect()
}

fn number(figures: &BTreeMap<String, String>, name: &str) -> u64 {
    figures.get(name).unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
}

fn texts(value: &Value) -> Vec<String> {
    value.items().unwrap().iter().map(Value::text).collect()
}

#[test]
fn info_tells_what_happened() {
    let server = larder(&["--threads", "2"]);
    let mut client = server.client();
    client.run("SET a 1").unwrap();
    client.run("SET b 2 PX 100000").unwrap();
    client.run("GET a").unwrap();
    client.run("GET nosuch").unwrap();
    client.run("ECHO x").unwrap();
    assert!(client.run("GET").unwrap().is_error());
    assert!(client.run("INCR a x").unwrap().is_error());
    let all = info(&mut client, "everything");
    assert_eq!(all["redis_version"], "8.2.3");
    assert_eq!(all["redis_mode"], "standalone");
    assert_eq!(all["role"], "master");
    assert_eq!(all["run_id"].len(), 40);
    assert_ne!(all["run_id"], all["master_replid"]);
    assert_eq!(number(&all, "tcp_port"), u64::from(server.port()));
    assert_eq!(number(&all, "process_id"), u64::from(server.pid()));
    assert_eq!(number(&all, "connected_clients"), 1);
    assert_eq!(number(&all, "keyspace_hits"), 1);
    assert_eq!(number(&all, "keyspace_misses"), 1);
    assert_eq!(number(&all, "total_error_replies"), 2);
    assert_eq!(all["errorstat_ERR"], "count=2");
    assert!(all["cmdstat_get"].starts_with("calls=2,"), "{}", all["cmdstat_get"]);
    assert!(all["cmdstat_get"].ends_with("rejected_calls=1,failed_calls=0"), "{}", all["cmdstat_get"]);
    assert!(all["latency_percentiles_usec_echo"].starts_with("p50="));
    assert!(all["latency_percentiles_usec_set"].starts_with("p50="));
    let db = &all["db0"];
    assert!(db.starts_with("keys=2,expires=1,avg_ttl=") && db.ends_with(",subexpiry=0"), "{db}");
    assert!(number(&all, "used_memory") >= number(&all, "used_memory_startup"));
    assert!(number(&all, "used_memory_rss") > 1 << 20);
    assert!(all.contains_key("io_thread_1"));
    let default = info(&mut client, "default");
    assert!(
        !default.keys().any(|name| name.starts_with("cmdstat_") || name.starts_with("latency_percentiles"))
    );
    assert!(info(&mut client, "nosuch").is_empty());
}

/// What is used once the threads have started: until then they hold what they build their parts from.
fn settled_memory(client: &mut Client) -> u64 {
    let mut seen = Vec::new();
    loop {
        seen.push(number(&info(client, "memory"), "used_memory"));
        if let [.., one, two, three, four] = seen[..]
            && [one, two, three] == [four; 3]
        {
            return four;
        }
        assert!(seen.len() < 200, "memory is never at rest: {seen:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn memory_follows_the_data_and_resetstat_resets_what_redis_resets() {
    let server = larder(&[]);
    let mut client = server.client();
    let before = settled_memory(&mut client);
    client.run("DEBUG POPULATE 1000 key 20000").unwrap();
    let during = info(&mut client, "memory");
    assert!(number(&during, "used_memory") >= before + 20_000_000, "{during:?}");
    // What was held while the server started may be counted as not of the data.
    assert!(number(&during, "used_memory_dataset") >= 15_000_000, "{during:?}");
    assert!(client.run("MEMORY USAGE key:7").unwrap().integer().unwrap() >= 20_000);
    assert_eq!(client.run("MEMORY USAGE nosuch").unwrap(), Value::NilBulk);
    client.run("FLUSHALL SYNC").unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    while number(&info(&mut client, "memory"), "used_memory") > before + 3_000_000 {
        assert!(Instant::now() < deadline, "{:?}", info(&mut client, "memory"));
        std::thread::sleep(Duration::from_millis(20));
    }
    client.run("MEMORY PURGE").unwrap();
    client.run("CONFIG RESETSTAT").unwrap();
    let after = info(&mut client, "everything");
    assert!(number(&after, "used_memory_peak") >= before + 20_000_000, "the peak stays");
    assert_eq!(number(&after, "total_commands_processed"), 1);
    assert!(!after.contains_key("cmdstat_flushall"));
    assert_eq!(client.run("MEMORY STATS").unwrap().field("keys.count").unwrap(), Value::Integer(0));
}

#[test]
fn rates_are_measured() {
    let server = larder(&[]);
    let mut client = server.client();
    let end = Instant::now() + Duration::from_millis(600);
    while Instant::now() < end {
        client.run("PING").unwrap();
    }
    let stats = info(&mut client, "stats");
    assert!(number(&stats, "instantaneous_ops_per_sec") > 100, "{stats:?}");
}

#[test]
fn settings_change_together_or_not_at_all_and_survive_a_rewrite() {
    let file = std::env::temp_dir().join(format!("larder-administration-{}.conf", std::process::id()));
    std::fs::write(&file, "# a remark\nmaxmemory 100mb\n").unwrap();
    let server = larder(&[file.to_str().unwrap()]);
    let mut client = server.client();
    assert_eq!(texts(&client.run("CONFIG GET maxmemory").unwrap()), ["maxmemory", "104857600"]);
    assert!(client.run("CONFIG SET timeout 7 maxmemory x").unwrap().is_error());
    assert_eq!(texts(&client.run("CONFIG GET timeout").unwrap()), ["timeout", "0"]);
    assert_eq!(client.run("CONFIG SET timeout 7 maxmemory 200mb loglevel warning").unwrap().text(), "OK");
    assert_eq!(texts(&client.run("CONFIG GET timeout").unwrap()), ["timeout", "7"]);
    assert_eq!(client.run("CONFIG REWRITE").unwrap().text(), "OK");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("# a remark\nmaxmemory 200mb\n"), "{text}");
    assert!(text.contains("\ntimeout 7\n"), "{text}");
    std::fs::remove_file(&file).unwrap();
    client.run("CONFIG SET requirepass secret").unwrap();
    let mut other = Client::connect(&server.address()).unwrap();
    assert!(other.run("GET a").unwrap().text().starts_with("NOAUTH"));
    let mut third = Client::connect(&server.address()).unwrap();
    assert!(third.run("GET a").unwrap().text().starts_with("NOAUTH"));
    assert_eq!(other.run("AUTH secret").unwrap().text(), "OK");
    other.command(&["CONFIG", "SET", "requirepass", ""]).unwrap();
    assert_eq!(third.run("GET a").unwrap(), Value::NilBulk, "nothing is asked any more");
}

#[test]
fn slow_commands_and_spikes_are_kept() {
    let server = larder(&[]);
    let mut client = server.client();
    client.run("CONFIG SET slowlog-log-slower-than 20000 latency-monitor-threshold 20").unwrap();
    client.run("PING").unwrap();
    client.run("DEBUG SLEEP 0.05").unwrap();
    let log = client.run("SLOWLOG GET").unwrap();
    let [entry] = log.items().unwrap() else { panic!("{log:?}") };
    let entry = entry.items().unwrap();
    assert!(entry[2].integer().unwrap() >= 50_000, "{entry:?}");
    assert_eq!(texts(&entry[3]), ["DEBUG", "SLEEP", "0.05"]);
    let latest = client.run("LATENCY LATEST").unwrap();
    let event = latest.items().unwrap()[0].items().unwrap().to_vec();
    assert_eq!(event[0].text(), "command");
    assert!(event[2].integer().unwrap() >= 50);
    assert!(client.run("LATENCY GRAPH command").unwrap().text().starts_with("command - high "));
    let histogram = client.run("LATENCY HISTOGRAM debug").unwrap().field("debug").unwrap();
    assert_eq!(histogram.field("calls").unwrap(), Value::Integer(1));
    assert_eq!(histogram.field("histogram_usec").unwrap().items().unwrap().len(), 2);
    assert_eq!(client.run("LATENCY RESET").unwrap(), Value::Integer(1));
    client.run("SLOWLOG RESET").unwrap();
    assert_eq!(client.run("SLOWLOG LEN").unwrap(), Value::Integer(0));
}

#[test]
fn debug_is_for_those_it_is_allowed_to() {
    let server = larder(&["--enable-debug-command", "no"]);
    let refusal = server.client().run("DEBUG SLEEP 0").unwrap().text();
    assert!(refusal.starts_with("ERR DEBUG command not allowed."), "{refusal}");
    let server = larder(&["--enable-debug-command", "local"]);
    assert_eq!(server.client().run("DEBUG SLEEP 0").unwrap().text(), "OK");
}

#[test]
fn a_panic_ends_its_connection_and_nothing_else() {
    let server = larder(&[]);
    let (mut bystander, mut victim) = (server.client(), server.client());
    bystander.run("SET a 1").unwrap();
    assert!(victim.run("DEBUG PANIC").unwrap().text().starts_with("ERR internal error in 'debug'"));
    assert!(victim.is_closed());
    assert_eq!(bystander.run("GET a").unwrap().text(), "1");
    assert_eq!(bystander.run("FLUSHALL").unwrap().text(), "OK");
    assert!(server.log().contains("a command panicked"), "{}", server.log());
}

#[test]
fn shutdown_ends_the_process_cleanly() {
    let mut server = larder(&[]);
    let mut client = server.client();
    assert!(client.run("SHUTDOWN ABORT").unwrap().text().contains("No shutdown in progress"));
    client.send(&["SHUTDOWN", "NOSAVE"]).unwrap();
    assert_eq!(server.wait_for_end(Duration::from_secs(10)), Some(true), "{}", server.log());
}

/// A port that nobody listens on.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn answers(address: &str) -> bool {
    Client::connect(address)
        .is_ok_and(|mut client| client.run("PING").is_ok_and(|pong| pong.text() == "PONG"))
}

#[test]
fn port_and_bind_change_while_the_server_runs() {
    for threads in ["1", "3"] {
        let server = larder(&["--threads", threads]);
        let mut client = server.client();
        let old = server.address();
        let port = free_port();
        let new = format!("127.0.0.1:{port}");
        assert_eq!(client.run(&format!("CONFIG SET port {port}")).unwrap().text(), "OK");
        assert!(answers(&new) && !answers(&old));
        assert_eq!(client.run("PING").unwrap().text(), "PONG", "connections stay");
        // One that is taken: nothing changes.
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let other = taken.local_addr().unwrap().port();
        let refused =
            client.run(&format!("CONFIG SET timeout 9 port {other} loglevel debug")).unwrap().text();
        assert_eq!(
            refused,
            "ERR CONFIG SET failed (possibly related to argument 'port') - Unable to listen on this port. Check server logs."
        );
        assert_eq!(texts(&client.run("CONFIG GET port").unwrap()), ["port".to_owned(), port.to_string()]);
        assert_eq!(texts(&client.run("CONFIG GET timeout").unwrap()), ["timeout", "0"]);
        assert!(answers(&new));
        // From one address to all of them and back: the old sockets stand in the way of the new ones.
        assert_eq!(client.command(&["CONFIG", "SET", "bind", "0.0.0.0"]).unwrap().text(), "OK");
        assert!(answers(&new) && answers(&format!("127.0.0.2:{port}")));
        let refused = client.command(&["CONFIG", "SET", "bind", "127.0.0.1 203.0.113.7"]).unwrap().text();
        assert_eq!(
            refused,
            "ERR CONFIG SET failed (possibly related to argument 'bind') - Failed to bind to specified addresses."
        );
        assert!(answers(&new) && answers(&format!("127.0.0.2:{port}")));
        assert_eq!(
            client.command(&["CONFIG", "SET", "bind", "127.0.0.1 -203.0.113.7"]).unwrap().text(),
            "OK"
        );
        assert!(answers(&new) && !answers(&format!("127.0.0.2:{port}")));
        assert_eq!(client.run("CONFIG SET port 0").unwrap().text(), "OK");
        assert!(!answers(&new));
        assert_eq!(client.run(&format!("CONFIG SET port {port}")).unwrap().text(), "OK");
        assert!(answers(&new));
        assert_eq!(number(&info(&mut client, "server"), "tcp_port"), u64::from(port));
    }
}
