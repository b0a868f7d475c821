//! What the server tells of itself is true: hot and big keys, hits by prefix, the metrics; and the port that tells it
//! withstands whoever comes.
//! Invariant: every figure is compared with a count made by the test.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use larder_testkit::{Client, Larder, Server, Value};
use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn start() -> (Server, u16) {
    let port = free_port();
    (Larder::start(&["--threads", "2", "--admin-port", &port.to_string()]).unwrap(), port)
}

/// SplitMix64: every run asks for the same.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Numbers from 1 on under Zipf's law of exponent 1, about.
    fn skewed(&mut self, keys: f64) -> u64 {
        keys.powf((self.next() >> 11) as f64 / (1u64 << 53) as f64) as u64
    }
}

const KINDS: [&str; 3] = ["user", "item", "cart"];

fn name(number: u64) -> String {
    format!("{}:{number}", KINDS[(number % 3) as usize])
}

/// Bytes of a value: no two large ones are alike.
fn bytes(number: u64) -> usize {
    20 + (number.wrapping_mul(2_654_435_761) % 4000) as usize
}

/// What a load did.
#[derive(Default)]
struct Count {
    by_key: HashMap<String, u64>,
    /// Hits and misses by prefix.
    by_prefix: HashMap<&'static str, (u64, u64)>,
}

/// Cache-aside over one connection: a read, and a write of what was not there. The cart's odd keys are never stored, but for the hottest: of a hot key that
/// always misses and happens to be sampled, an estimate from samples would tell as of many.
fn load(client: &mut Client, seed: u64, rounds: usize, count: &mut Count) {
    let mut random = Random(seed);
    for _ in 0..rounds {
        let numbers: Vec<u64> = (0..50).map(|_| random.skewed(5000.0)).collect();
        let gets: Vec<Vec<String>> =
            numbers.iter().map(|number| vec!["GET".to_owned(), name(*number)]).collect();
        let replies = client.pipeline(&gets).unwrap();
        let mut sets = Vec::new();
        for (number, reply) in numbers.iter().zip(replies) {
            *count.by_key.entry(name(*number)).or_default() += 1;
            let of_prefix = count.by_prefix.entry(KINDS[(*number % 3) as usize]).or_default();
            if matches!(reply, Value::Bulk(_)) {
                of_prefix.0 += 1;
                continue;
            }
            of_prefix.1 += 1;
            if number % 3 != 2 || number % 2 == 0 || *number < 300 {
                *count.by_key.entry(name(*number)).or_default() += 1;
                sets.push(vec!["SET".to_owned(), name(*number), "v".repeat(bytes(*number))]);
            }
        }
        client.pipeline(&sets).unwrap();
    }
}

fn number(value: &Value, field: &str) -> f64 {
    match value.field(field) {
        Some(Value::Integer(number)) => number as f64,
        Some(Value::Double(text)) => String::from_utf8(text).unwrap().parse().unwrap(),
        other => panic!("{field} is {other:?}"),
    }
}

fn text(value: &Value, field: &str) -> String {
    value.field(field).unwrap().text()
}

#[test]
fn hot_keys_big_keys_and_prefixes_are_those_of_an_exact_count() {
    let (server, port) = start();
    let mut counts: Vec<Count> = Vec::new();
    scope(|scope| {
        let loads: Vec<_> = (0..4)
            .map(|seed| {
                let server = &server;
                scope.spawn(move || {
                    let mut count = Count::default();
                    load(&mut server.client(), seed, 1500, &mut count);
                    count
                })
            })
            .collect();
        counts.extend(loads.into_iter().map(|load| load.join().unwrap()));
    });
    let mut exact = Count::default();
    for count in counts {
        count.by_key.into_iter().for_each(|(key, times)| *exact.by_key.entry(key).or_default() += times);
        for (prefix, (hits, misses)) in count.by_prefix {
            let sum = exact.by_prefix.entry(prefix).or_default();
            *sum = (sum.0 + hits, sum.1 + misses);
        }
    }
    let mut client = Client::connect_with(&server.address(), 3).unwrap();
    hot_keys_are_exact(&mut client, &exact);
    big_keys_are_exact(&mut client);
    prefixes_are_exact(&mut client, &exact);
    client.run("EVAL 'return 1' 0").unwrap();
    client.run("ACL SETUSER limited on nopass -@all").unwrap();
    client.run("AUTH limited wrong").unwrap();
    client.run("AUTH nobody wrong").unwrap();
    client.run("SET denied 1").unwrap();
    client.run("AUTH default any").unwrap();
    metrics_are_those_of_info(&mut client, port, &exact);
}

fn hot_keys_are_exact(client: &mut Client, exact: &Count) {
    let told = client.run("CACHE HOTKEYS COUNT 30").unwrap();
    let told: HashMap<String, f64> =
        told.items().unwrap().iter().map(|hot| (text(hot, "key"), number(hot, "accesses"))).collect();
    let mut ranked: Vec<(u64, &String)> = exact.by_key.iter().map(|(key, count)| (*count, key)).collect();
    ranked.sort_unstable_by(|a, b| b.cmp(a));
    let whole: u64 = exact.by_key.values().sum();
    for (count, key) in ranked.iter().take(10) {
        let estimate = told.get(*key).unwrap_or_else(|| panic!("{key} is missing: {told:?}"));
        // Of one sample in 256 accesses: four standard deviations.
        let tolerance = 4.0 * (*count as f64 * 256.0).sqrt();
        assert!((estimate - *count as f64).abs() < tolerance, "{key}: {estimate} for {count} of {whole}");
    }
}

fn big_keys_are_exact(client: &mut Client) {
    let mut there = Vec::new();
    for number in 1..5000 {
        if let Value::Integer(bytes) = client.command(&["MEMORY", "USAGE", &name(number)]).unwrap() {
            there.push((bytes, name(number)));
        }
    }
    there.sort_unstable_by(|a, b| (b.0, &a.1).cmp(&(a.0, &b.1)));
    let told = client.run("CACHE BIGKEYS COUNT 25").unwrap();
    let told: Vec<(i64, String)> =
        told.items().unwrap().iter().map(|big| (number(big, "bytes") as i64, text(big, "key"))).collect();
    assert_eq!(told[..], there[..25]);
    // What shrinks or goes is not told of any more, and what grows is.
    client.command(&["DEL", &there[0].1]).unwrap();
    client.command(&["SET", &there[1].1, "small"]).unwrap();
    let fields: Vec<String> = (0..4000).flat_map(|field| [field.to_string(), "value".to_owned()]).collect();
    let mut hset = vec!["HSET".to_owned(), "grown".to_owned()];
    hset.extend(fields);
    client.command(&hset).unwrap();
    let told = client.run("CACHE BIGKEYS COUNT 3").unwrap();
    let told = told.items().unwrap();
    assert_eq!((text(&told[0], "key"), text(&told[0], "type")), ("grown".to_owned(), "hash".to_owned()));
    assert_eq!(number(&told[0], "elements"), 4000.0);
    assert_eq!([text(&told[1], "key"), text(&told[2], "key")], [there[2].1.clone(), there[3].1.clone()]);
}

fn prefixes_are_exact(client: &mut Client, exact: &Count) {
    let stats = client.run("CACHE STATS").unwrap();
    let (mut hits, mut misses) = (0, 0);
    for (kind, (of_hits, of_misses)) in &exact.by_prefix {
        (hits, misses) = (hits + of_hits, misses + of_misses);
        let told = client.command(&["CACHE", "STATS", "PREFIX", &format!("{kind}:")]).unwrap();
        let ratio = *of_hits as f64 / (of_hits + of_misses) as f64;
        assert!((number(&told, "hit_ratio") - ratio).abs() < 0.05, "{kind}: {told:?} for {ratio}");
        let listed = stats.field("prefixes").unwrap();
        assert!(listed.items().unwrap().iter().any(|one| text(one, "prefix") == format!("{kind}:")));
        let held = (1..5000).filter(|number| KINDS[(number % 3) as usize] == *kind).filter(|number| {
            matches!(client.command(&["EXISTS", &name(*number)]).unwrap(), Value::Integer(1))
        });
        let held = held.count() as f64;
        // Five standard deviations of what so small a share of the keys tells.
        let tolerance = 5.0 * (held / number(&stats, "sampling_rate")).sqrt();
        assert!((number(&told, "keys") - held).abs() < tolerance, "{kind}: {told:?} for {held} keys");
    }
    assert_eq!((number(&stats, "hits"), number(&stats, "misses")), (hits as f64, misses as f64));
    let curve = client.run("CACHE MRC").unwrap();
    let (estimated, measured) = (number(&curve, "hit_ratio_estimated"), number(&curve, "hit_ratio_measured"));
    // Nothing was evicted, so that the cache as it is holds all there was; what was never stored is no hit at any size.
    assert!((estimated - measured).abs() < 0.06, "{curve:?}");
}

/// The samples of a scrape, by name with labels; and the families that have HELP and TYPE.
fn parse(metrics: &str) -> HashMap<String, f64> {
    let (mut samples, mut typed) = (HashMap::new(), HashMap::new());
    for line in metrics.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, form) = rest.split_once(' ').unwrap();
            assert!(matches!(form, "counter" | "gauge"), "{line}");
            assert_eq!(form == "counter", name.ends_with("_total"), "{line}");
            assert!(typed.insert(name.to_owned(), form.to_owned()).is_none(), "twice: {line}");
        } else if let Some(rest) = line.strip_prefix("# HELP ") {
            assert!(rest.ends_with('.'), "{line}");
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let family = name.split('{').next().unwrap();
            assert!(typed.contains_key(family), "no type: {line}");
            let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
            assert!(family.chars().all(plain), "{line}");
            assert!(
                samples.insert(name.to_owned(), value.parse::<f64>().unwrap()).is_none(),
                "twice: {line}"
            );
        }
    }
    samples
}

fn metrics_are_those_of_info(client: &mut Client, port: u16, exact: &Count) {
    let (head, body) = get(port, "/metrics");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("version=0.0.4"), "{head}");
    let samples = parse(&body);
    let count = "larder_client_closes_total{limit=\"clients_memory\"}";
    assert_eq!((samples[count], samples["larder_scripts_busy"]), (0.0, 0.0));
    let info = client.run("INFO everything").unwrap().text();
    let info = |name: &str| -> f64 {
        let line = info.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
        line.unwrap_or_else(|| panic!("INFO has no {name}")).parse().unwrap()
    };
    for (sample, figure) in [
        ("larder_keyspace_hits_total", "keyspace_hits"),
        ("larder_keyspace_misses_total", "keyspace_misses"),
        ("larder_connections_received_total", "total_connections_received"),
        ("larder_connected_clients", "connected_clients"),
        ("larder_memory_max_bytes", "maxmemory"),
        ("larder_memory_startup_bytes", "used_memory_startup"),
        ("larder_keys_removed_total{reason=\"evicted_for_command\"}", "cache_removed_evicted_for_command"),
        ("larder_keys_removed_total{reason=\"evicted_over_limit\"}", "cache_removed_evicted_over_limit"),
        ("larder_keys_removed_total{reason=\"evicted_ahead\"}", "cache_removed_evicted_ahead"),
        ("larder_keys_removed_total{reason=\"deleted\"}", "cache_removed_deleted"),
        ("larder_cache_followed_keys", "cache_keys_followed"),
        ("larder_access_denied_total{kind=\"auth\"}", "acl_access_denied_auth"),
        ("larder_access_denied_total{kind=\"command\"}", "acl_access_denied_cmd"),
        ("larder_scripts_cached", "number_of_cached_scripts"),
        ("larder_scripts_memory_bytes{kind=\"texts\"}", "used_memory_scripts"),
        ("larder_scripts_memory_bytes{kind=\"states\"}", "used_memory_vm_total"),
    ] {
        assert_eq!(samples[sample], info(figure), "{sample}");
    }
    let used = info("used_memory");
    assert!((samples["larder_memory_used_bytes"] / used - 1.0).abs() < 0.1, "{used}");
    let calls = samples["larder_command_calls_total{command=\"get\"}"];
    let reads: u64 = exact.by_prefix.values().map(|(hits, misses)| hits + misses).sum();
    assert_eq!(calls, reads as f64);
    assert!(samples["larder_db_keys{db=\"0\"}"] > 1000.0);
    assert!(samples["larder_cache_prefix_hit_ratio{prefix=\"user:\"}"] > 0.1);
    let points = samples.keys().filter(|name| name.starts_with("larder_cache_estimated_hit_ratio{")).count();
    assert_eq!(points, 17);
}

/// The head and the body of what a path answers.
fn get(port: u16, path: &str) -> (String, String) {
    ask(port, format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())
}

fn ask(port: u16, request: &[u8]) -> (String, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // A server that has heard enough may close before all of it was sent.
    let _ = stream.write_all(request);
    let mut text = Vec::new();
    match stream.read_to_end(&mut text) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    let text = String::from_utf8(text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    (head.to_owned(), body.to_owned())
}

#[test]
fn the_admin_port_withstands_whoever_comes() {
    let (server, port) = start();
    assert_eq!(get(port, "/health").1, "ok\n");
    assert!(get(port, "/nothing").0.starts_with("HTTP/1.1 404 "));
    for garbage in
        [&b"\x00\xff\x00\xff\r\n\r\n"[..], b"PING\r\n\r\n", b"GET\r\n\r\n", b"GET /health SMTP/1\r\n\r\n"]
    {
        assert!(ask(port, garbage).0.starts_with("HTTP/1.1 400 "), "{garbage:?}");
    }
    let huge = [b"GET /health HTTP/1.1\r\nA: ", &vec![b'a'; 4 << 20][..], b"\r\n\r\n"].concat();
    let (head, _) = ask(port, &huge);
    assert!(head.is_empty() || head.starts_with("HTTP/1.1 431 "), "{head}");
    assert!(ask(port, b"DELETE /metrics HTTP/1.1\r\n\r\n").0.starts_with("HTTP/1.1 405 "));
    assert!(ask(port, b"HEAD /metrics HTTP/1.1\r\n\r\n").1.is_empty());
    // One that goes without a word, and one that sends half a request and goes.
    drop(TcpStream::connect(("127.0.0.1", port)).unwrap());
    TcpStream::connect(("127.0.0.1", port)).unwrap().write_all(b"GET /hea").unwrap();
    // Some that drip hold places and no more than that: others are served beside them, and they are shown out.
    let start = Instant::now();
    let mut slow: Vec<TcpStream> =
        (0..10).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    for stream in &mut slow {
        stream.write_all(b"GET /health HTTP/1.1\r\n").unwrap();
    }
    assert_eq!(get(port, "/health").1, "ok\n");
    assert!(start.elapsed() < Duration::from_secs(3));
    while start.elapsed() < Duration::from_secs(15) && !slow.is_empty() {
        sleep(Duration::from_millis(300));
        slow.retain_mut(|stream| stream.write_all(b"A: b\r\n").is_ok());
    }
    assert!(slow.is_empty(), "{} still drip", slow.len());
    // More than there are places: some are told to come again, and later all is well.
    let crowd: Vec<TcpStream> = (0..60).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    sleep(Duration::from_millis(300));
    let mut refused = 0;
    for mut stream in crowd {
        stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let mut answer = [0; 12];
        if stream.read_exact(&mut answer).is_ok() {
            assert_eq!(&answer, b"HTTP/1.1 503");
            refused += 1;
        }
    }
    assert!((30..=50).contains(&refused), "{refused} of 60 were refused");
    let end = Instant::now() + Duration::from_secs(10);
    while Instant::now() < end && get(port, "/health").1 != "ok\n" {
        sleep(Duration::from_millis(50));
    }
    assert_eq!(get(port, "/health").1, "ok\n");
    assert_eq!(server.client().run("PING").unwrap().text(), "PONG");
}

#[test]
fn the_admin_port_moves_and_a_taken_one_is_refused() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_port = taken.local_addr().unwrap().port();
    let refused = Larder::start(&["--admin-port", &taken_port.to_string()]).err().unwrap();
    assert!(refused.contains("admin-port") && refused.contains("Address already in use"), "{refused}");
    let (server, port) = start();
    let mut client = server.client();
    let text = client.run(&format!("CONFIG SET admin-port {taken_port}")).unwrap().text();
    assert!(text.contains("admin-port"), "{text}");
    // It stays where it was, and its name too.
    assert_eq!(get(port, "/health").1, "ok\n");
    let told = client.run("CONFIG GET admin-port").unwrap();
    assert_eq!(told.field("admin-port").unwrap().text(), port.to_string());
    let other = free_port();
    assert_eq!(client.run(&format!("CONFIG SET admin-port {other}")).unwrap().text(), "OK");
    assert_eq!(get(other, "/health").1, "ok\n");
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    assert_eq!(client.run("CONFIG SET admin-port 0").unwrap().text(), "OK");
    assert!(TcpStream::connect(("127.0.0.1", other)).is_err());
}

#[test]
fn switched_off_nothing_is_known_and_on_again_it_is() {
    let (server, _) = start();
    let mut client = server.client();
    client.run("CONFIG SET cache-insight no").unwrap();
    for _ in 0..300 {
        client.run("SET user:1 value").unwrap();
        client.run("GET user:1").unwrap();
    }
    assert_eq!(client.run("CACHE HOTKEYS").unwrap().items().unwrap().len(), 0);
    assert!(matches!(client.run("CACHE STATS PREFIX user:").unwrap(), Value::NilBulk));
    client.run("CONFIG SET cache-insight yes").unwrap();
    for _ in 0..300 {
        client.run("SET user:1 value").unwrap();
        client.run("GET user:1").unwrap();
    }
    let hot = client.run("CACHE HOTKEYS").unwrap();
    assert_eq!(text(&hot.items().unwrap()[0], "key"), "user:1");
    assert!(!matches!(client.run("CACHE STATS PREFIX user:").unwrap(), Value::NilBulk));
}
