//! The table, CONFIG GET and CONFIG SET against a real redis-server 8.2.3, named by the variable REDIS_SERVER.
//!
//! Invariant: every difference from that server is named in this file or in `DIFFERS`, with its reason.
#![expect(clippy::unwrap_used, reason = "a test ends when its reference server does something unexpected")]

use larder_config::{
    Action, DIFFERS, Flags, OPTIONS, OptionSpec, RETIRED, Settings, Support, from_args_and, from_text, lookup,
};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Options of our own; and one that Redis does not show unless it is asked for it by its name.
const OURS: &[&str] = &[
    "threads",
    "source",
    "memcached-port",
    "route",
    "hash-function",
    "log-format",
    "maxmemory-admission",
    "maxmemory-max-entry",
    "maxmemory-rss",
    "ttl-jitter-percent",
    "cache-insight",
    "lease-time",
    "admin-port",
    "admin-bind",
    "load-skip-modules",
    "load-serving",
    "warm-restart",
    "snapshot-cron",
    "commandlog-execution-slower-than",
    "commandlog-slow-execution-max-len",
    "commandlog-request-larger-than",
    "commandlog-large-request-max-len",
    "commandlog-reply-larger-than",
    "commandlog-large-reply-max-len",
    "availability-zone",
    "extended-redis-compatibility",
    "active-defrag-cycle-us",
    "dual-channel-replication-enabled",
    "primaryauth",
    "primaryuser",
    "repl-mptcp",
    "cluster-announce-client-ipv4",
    "cluster-announce-client-ipv6",
    "cluster-announce-client-port",
    "cluster-announce-client-tls-port",
    "cluster-blacklist-ttl",
    "cluster-config-save-behavior",
    "cluster-databases",
    "cluster-manual-failover-timeout",
    "cluster-slot-migration-log-max-len",
    "slot-migration-max-failover-repl-bytes",
];

/// Options whose accepted values, or whose refusal, depend on the machine or on what is implemented here.
const VALUES_DIFFER: &[(&str, &str)] = &[
    ("bind", "the server puts it into effect, which this crate does not"),
    ("port", "as above"),
    ("tls-port", "as above; and a redis-server that was built without TLS crashes"),
    ("repl-backlog-size", "Redis raises less than 16 KiB to it, once it is set"),
    ("watchdog-period", "Redis raises less than 200 ms to it, once it is set"),
    ("tls-replication", "a redis-server that was built without TLS crashes"),
    ("maxclients", "Redis also asks the limit of open files, which is the server's part here"),
    ("maxmemory-policy", "there are more policies here"),
    ("dir", "the test's directory is changed by it"),
    ("locale-collate", "which locales there are is the system's to say"),
];

/// Single values that Redis misreads as numbers and we refuse.
const NO_NUMBERS: &[(&str, &str)] = &[
    ("latency-tracking-info-percentiles", "0x10"),
    ("oom-score-adj-values", "50  60"),
    ("oom-score-adj-values", "  "),
    ("save", "7 "),
    ("maxmemory-clients", "18446744073709551615"),
    ("maxmemory-clients", "99999999999999999999"),
];

/// Values for every option, good and bad ones.
const VALUES: &[&str] = &[
    "",
    "0",
    "1",
    "-1",
    "-2",
    "-5",
    "2",
    "10",
    "64",
    "65",
    "100",
    "101",
    "501",
    "65535",
    "65536",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "-2147483648",
    "-2147483649",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "18446744073709551615",
    "99999999999999999999",
    "007",
    "+7",
    " 7",
    "7 ",
    "0x10",
    "1e3",
    "-0",
    "1kb",
    "1k",
    "1KB",
    "2m",
    "2MB",
    "1g",
    "1gb",
    "1b",
    "10000000000gb",
    "1.5gb",
    "5%",
    "1kbx",
    "1 kb",
    "yes",
    "NO",
    "Yes",
    "true",
    "local",
    "clients",
    "AKE",
    "KEA",
    "Kg$lshzxetdmnoc",
    "ocE",
    "Kmdx",
    "xt",
    "zxd",
    "en",
    "KEg$lshzxetd",
    "KEg$lshzxedtm",
    "AKEn",
    "q",
    "K E",
    "50 99 99.9",
    "50  60",
    "100.1",
    "50.0 99.90",
    "33.333333333333",
    "nan",
    "inf",
    ".5",
    "99 50",
    "x",
    "zz zz",
    "a/b",
    "normal 0 0 5",
    "replica 1mb 2mb 3",
    "slave 1 2 3 pubsub 1k 2k 3",
    "Pubsub 5 5 5",
    "master 1 1 1",
    "normal -1 0 0",
    "normal 1x 0 0",
    "normal 0 0 -1",
    "normal 0 0",
    "normal  0 0 0",
    "pubsub 1 1 1 pubsub 2 2 2",
    "debug",
    "Notice",
    "silent",
    "{title}",
    "{title} {port}",
    "{unixsocket}{tls-port}",
    "{server-mode} {config-file}",
    "a{{b}",
    "{{",
    "{x}",
    "{x",
    "{}",
    "  ",
    "host.example-1",
    "host_1",
    "node 1",
    "node{1}",
    "swapdb",
    "hostname",
    "panic",
];

/// A running reference server and a connection to it.
struct Oracle {
    child: Child,
    directory: tempfile::TempDir,
    stream: BufReader<TcpStream>,
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn binary() -> Option<OsString> {
    let binary = std::env::var_os("REDIS_SERVER");
    if binary.is_none() {
        eprintln!("skipped: REDIS_SERVER names no redis-server 8.2.3");
    }
    binary
}

impl Oracle {
    fn start(options: &[&str]) -> Option<Oracle> {
        let binary = binary()?;
        let directory = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(binary)
            .args(options)
            .args(["--port", &port.to_string()])
            .current_dir(directory.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let stream = (0..200).find_map(|_| {
            std::thread::sleep(Duration::from_millis(50));
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        let stream = stream.expect("the reference server answers");
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut oracle = Oracle { child, directory, stream: BufReader::new(stream) };
        // Of use to the one test that sets it; the others are told that there is no password.
        oracle.call(&["AUTH", "--hz"]);
        let version = oracle.call(&["INFO", "server"]).concat();
        assert!(version.contains("redis_version:8.2.3"), "REDIS_SERVER is another version: {version}");
        Some(oracle)
    }

    /// A reply as strings: one for a simple one, several for an array.
    fn call(&mut self, args: &[&str]) -> Vec<String> {
        let mut request = format!("*{}\r\n", args.len());
        for arg in args {
            request.push_str(&format!("${}\r\n{arg}\r\n", arg.len()));
        }
        self.stream.get_mut().write_all(request.as_bytes()).unwrap();
        self.reply()
    }

    fn reply(&mut self) -> Vec<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        let line = line.trim_end();
        assert!(!line.is_empty(), "the reference server has ended");
        let (kind, rest) = line.split_at(1);
        match kind {
            "*" => (0..rest.parse::<usize>().unwrap()).flat_map(|_| self.reply()).collect(),
            "$" => {
                let mut bytes = vec![0; rest.parse::<usize>().unwrap() + 2];
                self.stream.read_exact(&mut bytes).unwrap();
                bytes.truncate(bytes.len() - 2);
                vec![String::from_utf8(bytes).unwrap()]
            }
            _ => vec![rest.to_owned()],
        }
    }

    fn get(&mut self, patterns: &[&str]) -> BTreeMap<String, String> {
        let reply = self.call(&[&["CONFIG", "GET"], patterns].concat());
        reply.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
    }

    fn set(&mut self, args: &[&str]) -> String {
        self.call(&[&["CONFIG", "SET"], args].concat()).concat()
    }
}

fn set(settings: &Settings, args: &[&str]) -> (Settings, String) {
    let args: Vec<_> = args.iter().map(|arg| arg.as_bytes()).collect();
    match settings.plan_set_args(&args, true) {
        Ok(change) => (change.settings, "OK".into()),
        Err(error) => (settings.clone(), String::from_utf8(error.text()).unwrap()),
    }
}

fn shown(settings: &Settings, spec: &OptionSpec) -> String {
    String::from_utf8(settings.show(spec)).unwrap()
}

/// A matcher that knows the star only.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some((b'*', rest)) => (0..=name.len()).any(|start| fits(rest, &name[start..])),
        Some((byte, rest)) => name
            .split_first()
            .is_some_and(|(first, name)| first.eq_ignore_ascii_case(byte) && fits(rest, name)),
    }
}

#[test]
fn names_and_defaults_are_those_of_redis() {
    let Some(mut oracle) = Oracle::start(&[]) else { return };
    let mut theirs = oracle.get(&["*"]);
    for name in theirs.keys() {
        assert!(lookup(name.as_bytes()).is_some(), "{name} has no row");
    }
    for spec in OPTIONS {
        let is_hidden = spec.flags.has(Flags::HIDDEN);
        assert!(!is_hidden || !theirs.contains_key(spec.name), "{} is hidden here alone", spec.name);
    }
    // What no pattern finds is asked for by its name.
    for spec in OPTIONS.iter().filter(|spec| spec.flags.has(Flags::HIDDEN)) {
        theirs.extend(oracle.get(&[spec.name]));
    }
    let settings = Settings::default();
    for spec in OPTIONS.iter().filter(|spec| !OURS.contains(&spec.name)) {
        for name in spec.names().filter(|name| !OURS.contains(name)) {
            let is_built_in = !name.starts_with("tls-") || theirs.contains_key("tls-cert-file");
            let Some(redis) = theirs.get(name) else {
                assert!(!is_built_in, "{name} is no option of Redis");
                continue;
            };
            let ours = shown(&settings, spec);
            match DIFFERS.iter().find(|difference| difference.name == spec.name) {
                Some(difference) => assert_eq!(difference.redis, redis, "{name}"),
                None if matches!(spec.name, "dir" | "port") => {}
                None => assert_eq!(&ours, redis, "{name}"),
            }
        }
    }
    let io_threads = lookup(b"io-threads").and_then(OptionSpec::difference).unwrap();
    assert_eq!(theirs["io-threads"], io_threads.redis);
    for name in RETIRED.iter().chain(OURS) {
        assert!(!theirs.contains_key(*name), "{name} is an option of Redis");
    }
}

#[test]
fn what_may_be_changed_at_run_time_is_as_in_redis() {
    let Some(mut oracle) = Oracle::start(&["--save", ""]) else { return };
    let settings = Settings::default();
    for spec in OPTIONS.iter().filter(|spec| !matches!(spec.name, "port" | "tls-port" | "dir")) {
        for name in spec.names().filter(|name| !OURS.contains(name)) {
            let value = shown(&settings, spec);
            assert_eq!(set(&settings, &[name, &value]).1, oracle.set(&[name, &value]), "{name} '{value}'");
        }
    }
    assert_eq!(set(&settings, &["dir", "/"]).1, oracle.set(&["dir", "/"]));
}

#[test]
fn every_value_is_taken_or_refused_as_by_redis_and_reads_back_the_same() {
    let Some(mut oracle) = Oracle::start(&["--save", "", "--enable-protected-configs", "yes"]) else {
        return;
    };
    let mut base = Settings::default();
    base.assign(lookup(b"enable-protected-configs").unwrap(), &[b"yes"]).unwrap();
    let exempt: BTreeSet<_> =
        VALUES_DIFFER.iter().map(|(name, _)| *name).chain(OURS.iter().copied()).collect();
    let mut wrong = Vec::new();
    for spec in OPTIONS.iter().filter(|spec| spec.has_field() && !exempt.contains(spec.name)) {
        let original = shown(&base, spec);
        for value in VALUES.iter().filter(|value| !NO_NUMBERS.contains(&(spec.name, value))) {
            let (settings, ours) = set(&base, &[spec.name, value]);
            let theirs = oracle.set(&[spec.name, value]);
            let value_read = (shown(&settings, spec), oracle.get(&[spec.name]).remove(spec.name).unwrap());
            if ours != theirs || value_read.0 != value_read.1 {
                wrong.push(format!("{} '{value}': {ours} / {theirs}; {value_read:?}", spec.name));
            }
            oracle.set(&[spec.name, &original]);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn faulty_values_of_fixed_options_are_refused_in_the_words_of_redis() {
    let Some(mut oracle) = Oracle::start(&["--save", ""]) else { return };
    let settings = Settings::default();
    let mut wrong = Vec::new();
    for spec in OPTIONS.iter().filter(|spec| spec.support == Support::Fixed && !spec.name.starts_with("tls-"))
    {
        for value in VALUES.iter().filter(|value| !NO_NUMBERS.contains(&(spec.name, value))) {
            let theirs = oracle.set(&[spec.name, value]);
            let ours = set(&settings, &[spec.name, value]).1;
            oracle.set(&[spec.name, spec.default]);
            // What Redis takes, we take or refuse in our own words.
            let is_ours = ours == "OK" || ours.contains("this version of Larder supports only");
            if ours != theirs && !(theirs == "OK" && is_ours) {
                wrong.push(format!("{} '{value}': {ours} / {theirs}", spec.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn sets_of_several_options_fail_in_the_same_order_and_words() {
    let Some(mut oracle) = Oracle::start(&["--save", ""]) else { return };
    let settings = Settings::default();
    let too_many = vec!["127.0.0.1"; 17].join(" ");
    for args in [
        &["nope", "1"][..],
        &["maxmemory", "1", "nope", "2"],
        &["maxmemory", "0", "maxmemory", "0"],
        &["maxmemory", "0", "MAXMEMORY", "0"],
        &["daemonize", "no", "nope", "1"],
        &["nope", "1", "daemonize", "no"],
        &["hz", "x", "daemonize", "yes"],
        &["hz", "x", "timeout", "y"],
        &["TimeOut", "y", "hz", "x"],
        &["Slave-Priority", "x"],
        &["maxmemory", "1", "timeout"],
        &["dbfilename", "x", "hz", "x"],
        &["replica-priority", "100", "slave-priority", "100"],
        &["hz", "10", "hz", "10", "daemonize", "no"],
        &["daemonize", "no", "daemonize", "no"],
        &["a\r\nb", "1"],
        &["include", "x"],
        &["rename-command", "a b"],
        &["", ""],
        &["bind", &too_many],
        &["unixsocket", "x"],
        &["enable-protected-configs", "yes"],
    ] {
        assert_eq!(set(&settings, args).1, oracle.set(args), "{args:?}");
    }
    assert_eq!(
        oracle.call(&["CONFIG", "REWRITE"]).concat().as_bytes(),
        larder_config::RewriteError::NoFile.text()
    );
}

#[test]
fn names_are_found_and_answered_as_by_redis() {
    let Some(mut oracle) = Oracle::start(&["--save", ""]) else { return };
    let settings = Settings::default();
    for patterns in [
        &["HZ"][..],
        &["hz", "HZ", "h*z"],
        &["maxmemory", "maxm*"],
        &["REPLICA-priority", "slave-priority", "slave-p*", "replica-priority"],
        &["*-priority"],
        &["nope", "", "maxmemory "],
        &["*listpack*", "*ziplist*"],
        &["*OUTPUT*"],
        &["lua-time-limit"],
    ] {
        let as_bytes: Vec<_> = patterns.iter().map(|pattern| pattern.as_bytes()).collect();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let ours: Vec<_> =
            settings.get(&as_bytes, fits).iter().map(|(name, value)| (text(name), text(value))).collect();
        let theirs: Vec<_> = oracle.get(patterns).into_iter().collect();
        let ours: Vec<_> = ours.into_iter().filter(|(name, _)| !OURS.contains(&name.as_str())).collect();
        let sorted: BTreeMap<_, _> = ours.iter().cloned().collect();
        assert_eq!(sorted.len(), ours.len(), "{patterns:?}");
        assert_eq!(sorted.into_iter().collect::<Vec<_>>(), theirs, "{patterns:?}");
    }
}

#[test]
fn faulty_files_are_refused_at_the_same_line_for_the_same_reason() {
    let Some(binary) = binary() else { return };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.conf");
    for text in [
        "port 1 2\n",
        "timeout 5\n\n# c\nmaxmemory-samples 0\n",
        "requirepass \"abc\n",
        "requirepass \"abc\"d\n",
        "requirepass ''x\n",
        "save 1\n",
        "save \"\" 1\n",
        "client-output-buffer-limit normal 1\n",
        "client-output-buffer-limit nobody 1 1 1\n",
        "port 5 # c\n",
        "TIMEOUT -1\r\n",
        "dir\n",
        "dir /no/such/directory\n",
        "dir /etc/passwd\n",
        "timeout 0\nport 77777\n",
        "unixsocketperm 888\n",
        "unixsocketperm 1000\n",
        "tcp-backlog -1\n",
        "databases 0\n",
        "hz yes\n",
        "oom-score-adj-values 1 2\n",
        "latency-tracking-info-percentiles 101\n",
        "rdbchecksum x\n",
        "notify-keyspace-events Q\n",
        "oom-score-adj-values\n",
        "shutdown-on-sigint\n",
        "replicaof\n",
        "proc-title-template {x}\n",
        "user\n",
        "include\n",
        "rename-command\n",
    ] {
        std::fs::write(&path, text).unwrap();
        let output = Command::new(&binary).arg(&path).current_dir(directory.path()).output().unwrap();
        let theirs = String::from_utf8_lossy(&output.stderr).into_owned();
        let problem = from_text(text.as_bytes()).expect_err(text).problems.remove(0);
        assert!(theirs.contains(&format!("at line {}\n", problem.line)), "{text}: {theirs}");
        assert_eq!(Some(problem.reason.text()), theirs.lines().last(), "{text}");
    }
}

#[test]
fn an_option_that_takes_any_number_of_words_takes_none() {
    let Some(binary) = binary() else { return };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.conf");
    for (text, names) in [
        ("save\n", &["save"][..]),
        ("save 60 1\nsave\nsave 70 2\n", &["save"]),
        ("save 60 1\nsave \"\"\nsave 70 2\n", &["save"]),
        ("client-output-buffer-limit\n", &["client-output-buffer-limit"]),
        ("latency-tracking-info-percentiles\n", &["latency-tracking-info-percentiles"]),
        (
            "client-output-buffer-limit normal 1 2 3\nclient-output-buffer-limit\n",
            &["client-output-buffer-limit"],
        ),
    ] {
        std::fs::write(&path, text).unwrap();
        let Some(mut oracle) = Oracle::start(&[path.to_str().unwrap()]) else { return };
        let settings = from_text(text.as_bytes()).unwrap().settings;
        for name in names {
            assert_eq!(
                shown(&settings, lookup(name.as_bytes()).unwrap()),
                oracle.get(&[name])[*name],
                "{text}"
            );
        }
        let file = larder_config::rewritten(text.as_bytes(), &settings).unwrap();
        assert_eq!(from_text(&file).unwrap().settings, settings, "{text}");
    }
    // To listen nowhere is refused by the server, not by who reads the file.
    std::fs::write(&path, "bind\n").unwrap();
    assert_eq!(from_text(b"bind\n").unwrap().settings.bind().len(), 0);
    let output = Command::new(&binary).arg(&path).current_dir(directory.path()).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("not listen anywhere"));
}

#[test]
fn command_lines_mean_what_they_mean_to_redis() {
    for (args, names) in [
        (&["--hz", "20", "--timeout", "5", "--save"][..], &["hz", "timeout", "save"][..]),
        (&["--save", "--hz", "30"], &["hz", "save"]),
        (&["--requirepass", "--hz", "--hz 40"], &["requirepass", "hz"]),
        (&["--bind", "127.0.0.1", "-::1", "--save", "", "--hz", "5", "--HZ", "6"], &["bind", "hz"]),
        (
            &["--client-output-buffer-limit", "pubsub", "1kb", "2k", "3", "--dir", "/tmp"],
            &["client-output-buffer-limit", "dir"],
        ),
        (
            &["--maxmemory 1gb", "--logfile", "", "--notify-keyspace-events", "KEA"],
            &["maxmemory", "logfile", "notify-keyspace-events"],
        ),
    ] {
        let Some(mut oracle) = Oracle::start(args) else { return };
        let plan = from_args_and(args.iter().map(OsString::from), &mut std::io::empty()).unwrap();
        assert_eq!(plan.action, Action::Start);
        for name in names {
            let ours = shown(&plan.settings, lookup(name.as_bytes()).unwrap());
            assert_eq!(ours, oracle.get(&[name])[*name], "{args:?} {name}");
        }
        assert!(oracle.directory.path().exists());
    }
}

#[test]
fn a_file_that_larder_rewrote_means_the_same_to_redis() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.conf");
    std::fs::write(&path, "# kept\nbind 127.0.0.1\nhz 20\nslave-priority 100\n").unwrap();
    let plan = from_args_and([OsString::from(&path)], &mut std::io::empty()).unwrap();
    let changes = [
        ("maxmemory", "3gb"),
        ("timeout", "7"),
        ("notify-keyspace-events", "KEA"),
        ("client-output-buffer-limit", "pubsub 1mb 2k 3 normal 0 0 9"),
        ("latency-tracking-info-percentiles", "50 99.5"),
        ("maxmemory-policy", "allkeys-lru"),
        ("requirepass", "--hz"),
        ("slowlog-log-slower-than", "-1"),
        ("lazyfree-lazy-expire", "yes"),
        ("hz", "30"),
        ("bind", "127.0.0.1 -::1"),
    ];
    let args: Vec<_> = changes.iter().flat_map(|(name, value)| [*name, *value]).collect();
    let (settings, outcome) = set(&plan.settings, &args);
    assert_eq!(outcome, "OK");
    plan.config_file.unwrap().rewrite(&settings, &[]).unwrap();
    let Some(mut oracle) = Oracle::start(&[path.to_str().unwrap()]) else { return };
    for (name, _) in changes {
        assert_eq!(shown(&settings, lookup(name.as_bytes()).unwrap()), oracle.get(&[name])[name], "{name}");
    }
}

#[test]
fn a_file_that_redis_rewrote_means_the_same_to_larder() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.conf");
    std::fs::write(&path, "# kept\nbind 127.0.0.1\nhz 20\nsave \"\"\n").unwrap();
    let Some(mut oracle) = Oracle::start(&[path.to_str().unwrap()]) else { return };
    let changes = [
        ("maxmemory", "3gb"),
        ("notify-keyspace-events", "KEx"),
        ("client-output-buffer-limit", "pubsub 1mb 2k 3 normal 0 0 9"),
        ("latency-tracking-info-percentiles", "50 99.5"),
        ("maxmemory-samples", "7"),
        ("hz", "30"),
    ];
    for (name, value) in changes {
        assert_eq!(oracle.set(&[name, value]), "OK");
    }
    assert_eq!(oracle.call(&["CONFIG", "REWRITE"]), ["OK"]);
    let plan = from_args_and([OsString::from(&path)], &mut std::io::empty()).unwrap();
    for (name, _) in changes {
        assert_eq!(
            shown(&plan.settings, lookup(name.as_bytes()).unwrap()),
            oracle.get(&[name])[name],
            "{name}"
        );
    }
}
