//! The append-only log: what was acknowledged is there after the process was killed, and a log that is not whole is told of.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use larder_persist::aof::{Next, next};
use larder_testkit::{Client, Larder, Redis82, Server, available};
use std::fs::{self, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("larder-aof-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn start(&self, options: &[&str]) -> Server {
        self.try_start(options).unwrap()
    }

    fn try_start(&self, options: &[&str]) -> Result<Server, String> {
        let own = ["--dir", self.0.to_str().unwrap(), "--appendonly", "yes", "--threads", "2"];
        Larder::start(&[&own[..], options].concat())
    }

    fn log(&self, name: &str) -> PathBuf {
        self.0.join("appendonlydir").join(name)
    }

    fn incr(&self) -> PathBuf {
        self.log("appendonly.aof.1.incr.aof")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn kill(server: Server) {
    let pid = i32::try_from(server.pid()).unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    drop(server);
}

const WRITERS: usize = 6;

/// What one writer has been answered, and what it may have been.
#[derive(Default)]
struct Model {
    acknowledged: AtomicU64,
    sent: AtomicU64,
}

/// Writes until the server is gone: a transaction over two keys, and a push to a list that all share.
fn write(mut client: Client, writer: usize, model: &Model) {
    loop {
        let number = model.sent.load(SeqCst) + 1;
        model.sent.store(number, SeqCst);
        let lines = [
            vec!["MULTI".to_owned()],
            vec!["SET".into(), format!("a:{writer}"), number.to_string()],
            vec!["SET".into(), format!("b:{writer}"), number.to_string()],
            vec!["RPUSH".into(), "all".into(), format!("{writer}:{number}")],
            vec!["EXEC".into()],
        ];
        match client.pipeline(&lines) {
            Ok(replies) if replies.last().and_then(|reply| reply.items()).is_some() => {
                model.acknowledged.store(number, SeqCst);
            }
            _ => return,
        }
    }
}

/// Compares what there is with what was acknowledged.
fn compare(client: &mut Client, models: &[Model]) {
    let all = client.run("LRANGE all 0 -1").unwrap();
    let all: Vec<String> = all.items().unwrap().iter().map(|item| item.text()).collect();
    for (writer, model) in models.iter().enumerate() {
        let pair = client.run(&format!("MGET a:{writer} b:{writer}")).unwrap();
        let pair: Vec<String> = pair.items().unwrap().iter().map(|item| item.text()).collect();
        assert_eq!(pair.first(), pair.last(), "a transaction of writer {writer} is torn");
        let there = pair.first().unwrap().parse::<u64>().unwrap_or(0);
        let (acknowledged, sent) = (model.acknowledged.load(SeqCst), model.sent.load(SeqCst));
        assert!(there >= acknowledged, "writer {writer}: {acknowledged} was acknowledged, {there} is there");
        assert!(there <= sent, "writer {writer}: {there} is there, {sent} was sent last");
        let own = format!("{writer}:");
        let pushed: Vec<u64> = all.iter().filter_map(|item| item.strip_prefix(&own)?.parse().ok()).collect();
        assert!(pushed.is_sorted(), "pushes of writer {writer} are out of order");
        assert_eq!(pushed.last().copied().unwrap_or(0), there, "writer {writer}");
        // What was sent and not acknowledged may or may not be there: from now on it is as it is.
        model.sent.store(there, SeqCst);
        model.acknowledged.store(there, SeqCst);
    }
}

/// Kills a server so many times while it is written to, and rewrites its log.
fn kill_many_times(kills: usize) {
    let folder = Folder::new("kills");
    let models: Vec<Model> = (0..WRITERS).map(|_| Model::default()).collect();
    for round in 0..=kills {
        let server = folder.start(&["--appendfsync", "always"]);
        compare(&mut server.client(), &models);
        if round == kills {
            break;
        }
        std::thread::scope(|scope| {
            for (writer, model) in models.iter().enumerate() {
                let client = server.client();
                scope.spawn(move || write(client, writer, model));
            }
            std::thread::sleep(Duration::from_millis(20 + (round as u64 * 37) % 130));
            if round % 3 == 1 {
                server.client().run("BGREWRITEAOF").unwrap();
                std::thread::sleep(Duration::from_millis((round as u64 * 7) % 30));
            }
            kill(server);
        });
    }
    let acknowledged: u64 = models.iter().map(|model| model.acknowledged.load(SeqCst)).sum();
    assert!(acknowledged > kills as u64);
    eprintln!("{kills} kills, {acknowledged} transactions acknowledged, none lost");
}

#[test]
fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    let kills = std::env::var("LARDER_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(6);
    kill_many_times(kills);
}

/// What `larder check-aof` says of a log, and whether it is good.
fn checked(options: &[&str], path: &Path) -> (bool, String) {
    let output =
        Command::new(Larder::binary().unwrap()).arg("check-aof").args(options).arg(path).output().unwrap();
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn a_log_that_ends_in_the_middle_is_cut_off_or_refused() {
    let folder = Folder::new("torn");
    let server = folder.start(&[]);
    let mut client = server.client();
    client.run("SET a 1").unwrap();
    client.run("WAITAOF 1 0 5000").unwrap();
    drop(server);
    let whole = fs::read(folder.incr()).unwrap();
    let append = |bytes: &[u8]| {
        OpenOptions::new().append(true).open(folder.incr()).unwrap().write_all(bytes).unwrap();
    };
    for torn in [
        &b"*3\r\n$3\r\nSET\r\n$1\r\nb"[..],
        b"*1\r\n$5\r\nMULTI\r\n*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$1\r\n2\r\n",
    ] {
        append(torn);
        let error = folder.try_start(&["--aof-load-truncated", "no"]).err().unwrap();
        assert!(error.contains(&format!("behind byte {}", whole.len())), "{error}");
        let server = folder.start(&[]);
        assert!(server.log().contains("cut off"), "{}", server.log());
        let values = server.client().run("MGET a b").unwrap();
        assert_eq!(values.notation().len(), 3);
        assert_eq!(values.items().unwrap().iter().filter(|value| value.bytes().is_some()).count(), 1);
        drop(server);
        assert_eq!(fs::read(folder.incr()).unwrap(), whole);
    }
    append(b"SET b 2\r\n*1\r\n$4\r\nPING\r\n");
    let error = folder.try_start(&[]).err().unwrap();
    assert!(error.contains(&format!("damaged at byte {}", whole.len())), "{error}");
    let manifest = folder.log("appendonly.aof.manifest");
    let (is_good, text) = checked(&[], &manifest);
    assert!(!is_good && text.contains(&format!("damaged at byte {}", whole.len())), "{text}");
    let (is_good, text) = checked(&["--fix", "--yes"], &manifest);
    assert!(is_good, "{text}");
    assert_eq!(fs::read(folder.incr()).unwrap(), whole);
    assert!(checked(&[], &folder.incr()).0);
    folder.start(&[]);
}

#[test]
fn commands_behind_a_snapshot_in_the_same_file_are_looked_at() {
    let folder = Folder::new("preamble");
    let path = folder.0.join("appendonly.aof");
    let snapshot = b"REDIS0010\xfe\0\0\x01a\x011\xff\0\0\0\0\0\0\0\0";
    let whole = [&snapshot[..], b"*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$1\r\n2\r\n"].concat();
    fs::write(&path, &whole).unwrap();
    assert!(checked(&[], &path).0);
    fs::write(&path, [&whole[..], b"*1\r\n$4\r\nPI"].concat()).unwrap();
    let (is_good, text) = checked(&[], &path);
    assert!(!is_good && text.contains(&format!("{} of {} bytes", whole.len(), whole.len() + 10)), "{text}");
    assert!(checked(&["--fix", "--yes"], &path).0);
    assert_eq!(fs::read(&path).unwrap(), whole);
    let values = folder.start(&[]).client().run("MGET a b").unwrap();
    assert_eq!(values.items().unwrap().iter().map(|value| value.text()).collect::<Vec<_>>(), ["1", "2"]);
}

#[test]
fn a_log_that_valkey_began_is_read() {
    let folder = Folder::new("valkey");
    fs::create_dir_all(folder.0.join("appendonlydir")).unwrap();
    let manifest =
        "file appendonly.aof.1.base.rdb seq 1 type b\nfile appendonly.aof.1.incr.aof seq 1 type i\n";
    fs::write(folder.log("appendonly.aof.manifest"), manifest).unwrap();
    let snapshot = b"VALKEY080\xfe\0\0\x01a\x011\xff\0\0\0\0\0\0\0\0";
    fs::write(folder.log("appendonly.aof.1.base.rdb"), snapshot).unwrap();
    let commands = "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*2\r\n$4\r\nINCR\r\n$1\r\na\r\n";
    fs::write(folder.log("appendonly.aof.1.incr.aof"), commands).unwrap();
    assert!(checked(&[], &folder.log("appendonly.aof.manifest")).0);
    assert_eq!(folder.start(&[]).client().run("GET a").unwrap().text(), "2");
}

#[test]
fn a_log_is_cut_off_at_a_time() {
    let folder = Folder::new("time");
    let server = folder.start(&["--aof-timestamp-enabled", "yes"]);
    let mut client = server.client();
    client.run("SET a 1").unwrap();
    let time = client.run("TIME").unwrap();
    let secs: u64 = time.items().unwrap().first().unwrap().text().parse().unwrap();
    std::thread::sleep(Duration::from_millis(2100));
    client.run("SET a 2").unwrap();
    client.run("WAITAOF 1 0 5000").unwrap();
    drop(server);
    assert_eq!(fs::read(folder.incr()).unwrap().windows(4).filter(|window| window == b"#TS:").count(), 2);
    let output = Command::new(Larder::binary().unwrap())
        .args(["check-aof", "--yes", "--truncate-to-timestamp", &(secs + 1).to_string()])
        .arg(folder.log("appendonly.aof.manifest"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(folder.start(&[]).client().run("GET a").unwrap().text(), "1");
}

/// Ends a server the hard way, and answers what another finds of a key in its files.
fn found_after_kill(folder: &Folder, server: Server, key: &str) -> String {
    kill(server);
    let server = folder.start(&[]);
    server.client().run(&format!("GET {key}")).unwrap().text()
}

/// Whether what this client has written is on disk, waited for.
fn is_on_disk(client: &mut Client) -> bool {
    client.run("WAITAOF 1 0 20000").unwrap().notation() == ["*2", "  :1", "  :0"]
}

#[test]
fn who_waits_for_a_log_that_was_just_turned_on_waits_for_its_base() {
    let folder = Folder::new("toggle");
    let server = folder.start(&["--appendonly", "no"]);
    let mut client = server.client();
    for round in 0..10 {
        client.run("CONFIG SET appendonly yes").unwrap();
        client.run(&format!("SET round {round}")).unwrap();
        assert!(is_on_disk(&mut client), "round {round}");
        if round < 9 {
            client.run("CONFIG SET appendonly no").unwrap();
        }
    }
    drop(client);
    assert_eq!(found_after_kill(&folder, server, "round"), "9");
}

#[test]
fn a_log_that_is_turned_on_while_another_file_is_written_has_a_base_of_its_own() {
    let folder = Folder::new("under-way");
    let server = folder.start(&["--appendonly", "no", "--rdb-key-save-delay", "1000"]);
    let mut client = server.client();
    client.run("DEBUG POPULATE 1000").unwrap();
    client.run("BGREWRITEAOF").unwrap();
    assert!(client.run("INFO persistence").unwrap().text().contains("aof_rewrite_in_progress:1"));
    client.run("CONFIG SET appendonly yes").unwrap();
    client.run("CONFIG SET rdb-key-save-delay 0").unwrap();
    client.run("SET logged 1").unwrap();
    assert!(is_on_disk(&mut client));
    client.run("SET logged 2").unwrap();
    assert!(is_on_disk(&mut client));
    drop(client);
    assert_eq!(found_after_kill(&folder, server, "logged"), "2");
}

#[test]
fn logging_is_turned_on_and_off() {
    let folder = Folder::new("switch");
    let server = folder.start(&["--appendonly", "no"]);
    let mut client = server.client();
    client.run("SET before 1").unwrap();
    let refused = client.run("WAITAOF 1 0 0").unwrap();
    assert!(refused.is_error());
    client.run("CONFIG SET appendonly yes").unwrap();
    client.run("SET during 1").unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while !client.run("INFO persistence").unwrap().text().contains("aof_pending_rewrite:0") {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    }
    client.run("SET after 1").unwrap();
    client.run("CONFIG SET appendonly no").unwrap();
    client.run("SET off 1").unwrap();
    client.run("DEL before").unwrap();
    kill(server);
    let manifest = fs::read_to_string(folder.log("appendonly.aof.manifest")).unwrap();
    assert_eq!(
        manifest,
        "file appendonly.aof.1.base.rdb seq 1 type b\nfile appendonly.aof.1.incr.aof seq 1 type i\n"
    );
    let server = folder.start(&[]);
    let values = server.client().run("MGET before during after off").unwrap();
    let there: Vec<bool> = values.items().unwrap().iter().map(|value| value.bytes().is_some()).collect();
    assert_eq!(there, [true, true, true, false]);
}

/// What a server says, and has changed, where the log cannot be begun: a file has the folder's name, or a link to nowhere has, or
/// to a folder in which nobody may write, whoever it is.
fn said_where_no_log_can_begin(folder: &Folder, server: &Server) -> Vec<String> {
    let mut client = server.client();
    let place = folder.0.join("appendonlydir");
    let mut said = Vec::new();
    for is_there in [None, Some("nowhere"), Some("/proc/self")] {
        match is_there {
            None => fs::write(&place, "").unwrap(),
            Some(to) => std::os::unix::fs::symlink(to, &place).unwrap(),
        }
        let lines = [
            "CONFIG SET appendonly yes",
            "CONFIG SET maxmemory 100mb appendonly yes appendfsync always",
            "CONFIG GET appendonly",
            "CONFIG GET appendfsync",
            "CONFIG GET maxmemory",
            // Without a log it is a base alone, which is only moved to the folder.
            "BGREWRITEAOF",
        ];
        let count = if is_there == Some("/proc/self") { lines.len() - 1 } else { lines.len() };
        for line in &lines[..count] {
            said.push(format!("{is_there:?} {line}: {:?}", client.run(line).unwrap().notation()));
        }
        let info = client.run("INFO persistence").unwrap().text();
        let figures =
            ["aof_enabled", "aof_last_bgrewrite_status", "aof_rewrite_in_progress", "aof_rewrites:"];
        let is_told = |line: &&str| figures.iter().any(|figure| line.starts_with(figure));
        said.extend(info.lines().filter(is_told).map(|line| format!("{is_there:?} {line}")));
        fs::remove_file(&place).unwrap();
    }
    assert_eq!(client.run("CONFIG SET appendonly yes").unwrap().text(), "OK");
    wait_until(|| folder.log("appendonly.aof.manifest").exists());
    said
}

#[test]
fn a_log_that_cannot_be_begun_is_not_turned_on_and_the_answer_says_so() {
    let own = Folder::new("no-place");
    let server = own.start(&["--appendonly", "no"]);
    let said = said_where_no_log_can_begin(&own, &server);
    let text = "CONFIG SET appendonly yes: [\"-ERR CONFIG SET failed (possibly related to argument 'appendonly') - \
                Unable to turn on AOF. Check server logs.\"]";
    assert_eq!(said.iter().filter(|line| line.ends_with(text)).count(), 3, "{said:#?}");
    assert!(server.log().contains("the append-only log cannot be rewritten: "), "{}", server.log());
    let names: Vec<_> = fs::read_dir(own.0.join("appendonlydir")).unwrap().map(Result::unwrap).collect();
    assert!(names.iter().all(|found| !found.file_name().to_string_lossy().contains("trial")), "{names:?}");

    let theirs = Folder::new("no-place-redis");
    let reference = Redis82::start_with(&["--dir", theirs.0.to_str().unwrap()]);
    let Some(reference) = available(reference) else { return };
    assert_eq!(said, said_where_no_log_can_begin(&theirs, &reference));
}

#[test]
fn a_log_that_is_turned_on_behind_a_change_of_the_directory_is_whole_in_the_new_one() {
    let (old, new) = (Folder::new("dir-before"), Folder::new("dir-after"));
    let server = old.start(&["--appendonly", "no", "--enable-protected-configs", "yes"]);
    let mut client = server.client();
    client.run("SET before 1").unwrap();
    let both = format!("CONFIG SET appendonly yes dir {}", new.0.display());
    assert_eq!(client.run(&both).unwrap().text(), "OK");
    client.run("SET behind 2").unwrap();
    assert!(is_on_disk(&mut client));
    assert_eq!(fs::read_dir(&old.0).unwrap().count(), 0, "nothing is left where it was before");
    drop(client);
    assert_eq!(found_after_kill(&new, server, "behind"), "2");
}

#[test]
fn logging_can_be_turned_off_while_the_log_is_being_loaded() {
    let folder = Folder::new("off-meanwhile");
    let server = folder.start(&["--threads", "1"]);
    let mut client = server.client();
    client.run("DEBUG POPULATE 1000").unwrap();
    client.run("CONFIG SET appendonly no").unwrap();
    client.run("CONFIG SET appendonly yes").unwrap();
    client.run("SET logged 1").unwrap();
    assert!(is_on_disk(&mut client));
    kill(server);

    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let dir = folder.0.to_str().unwrap();
    let mut process = Command::new(Larder::binary().unwrap())
        .args(["--dir", dir, "--appendonly", "yes", "--threads", "1", "--save", "", "--port", &port])
        .args(["--key-load-delay", "1000000"])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let address = format!("127.0.0.1:{port}");
    wait_until(|| Client::connect(&address).is_ok());
    let mut client = Client::connect(&address).unwrap();
    assert!(client.run("PING").unwrap().text().starts_with("LOADING"));
    assert_eq!(client.run("CONFIG SET appendonly no").unwrap().text(), "OK");
    assert_eq!(client.run("CONFIG SET key-load-delay 0").unwrap().text(), "OK");
    wait_until(|| client.run("PING").unwrap().text() == "PONG");
    assert_eq!(client.run("GET logged").unwrap().text(), "1");
    let is_off = |client: &mut Client| client.run("WAITAOF 1 0 0").unwrap().is_error();
    wait_until(|| is_off(&mut client));
    client.run("SET logged 2").unwrap();
    assert_eq!(client.run("CONFIG SET appendonly yes").unwrap().text(), "OK");
    assert!(is_on_disk(&mut client));
    process.kill().unwrap();
    process.wait().unwrap();
    let server = folder.start(&[]);
    assert_eq!(server.client().run("GET logged").unwrap().text(), "2");
    assert_eq!(server.client().run("DBSIZE").unwrap().integer(), Some(1001));
}

#[test]
fn a_log_that_cannot_be_written_refuses_writes_until_it_can() {
    let folder = Folder::new("full");
    let server = folder.start(&["--appendfsync", "no"]);
    let mut client = server.client();
    client.run("SET a 1").unwrap();
    let incr = folder.incr();
    let pid = rustix::process::Pid::from_raw(i32::try_from(server.pid()).unwrap());
    let limit = |bytes: Option<u64>| {
        let limit = rustix::process::Rlimit { current: bytes, maximum: None };
        rustix::process::prlimit(pid, rustix::process::Resource::Fsize, limit).unwrap();
    };
    wait_until(|| fs::metadata(&incr).unwrap().len() > 0);
    limit(Some(fs::metadata(&incr).unwrap().len() + 100));
    let long = "x".repeat(1000);
    client.run(&format!("SET b {long}")).unwrap();
    wait_until(|| client.run("SET c 1").unwrap().is_error());
    let refused = client.run("SET c 1").unwrap().text();
    assert!(refused.starts_with("MISCONF Errors writing to the AOF file: File too large"), "{refused}");
    assert!(client.run("INFO persistence").unwrap().text().contains("aof_last_write_status:err"));
    assert_eq!(client.run("GET a").unwrap().text(), "1");
    limit(None);
    wait_until(|| !client.run("SET c 1").unwrap().is_error());
    client.run("CONFIG SET appendfsync always").unwrap();
    client.run("SET d 1").unwrap();
    kill(server);
    let server = folder.start(&[]);
    assert_eq!(server.client().run("EXISTS a b c d").unwrap().integer(), Some(4));
}

/// How many bytes of the log wait to be written.
fn waiting_bytes(client: &mut Client) -> u64 {
    let info = client.run("INFO persistence").unwrap().text();
    let found = info.lines().find_map(|line| line.strip_prefix("aof_buffer_length:"));
    found.unwrap().trim().parse().unwrap()
}

#[test]
fn writers_wait_where_the_disk_does_not_keep_up_and_readers_do_not() {
    const MIB: usize = 1 << 20;
    const SETS: usize = 300;
    const HELD_MIN: u64 = 240 << 20;
    let folder = Folder::new("slow");
    let server = folder.start(&["--appendfsync", "no", "--auto-aof-rewrite-percentage", "0"]);
    let mut client = server.client();
    // A pipe in place of the next file: what is written to it waits until somebody reads.
    let pipe = folder.log("appendonly.aof.2.incr.aof");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // Open in both directions, so that to open it waits for nobody.
    let mut reader = OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    client.run("BGREWRITEAOF").unwrap();
    wait_until(|| client.run("INFO persistence").unwrap().text().contains("aof_rewrite_in_progress:0"));
    let mut writer = server.client();
    let writing = std::thread::spawn(move || {
        let value = "x".repeat(MIB);
        (0..SETS).for_each(|_| writer.send(&["SET", "large", &value]).unwrap());
        (0..SETS).filter(|_| writer.read().unwrap().text() == "OK").count()
    });
    wait_until(|| waiting_bytes(&mut client) > 256 << 20);
    // Some of it gets through: more than is written at once. The rest waits as before, and so do the writers.
    let mut some = vec![0; 6 * MIB];
    reader.read_exact(&mut some).unwrap();
    for _ in 0..100 {
        let waiting = waiting_bytes(&mut client);
        assert!((HELD_MIN..300 << 20).contains(&waiting), "{waiting} bytes wait");
        assert_eq!(client.run("STRLEN large").unwrap().integer(), Some(MIB as i64));
    }
    std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
    assert_eq!(writing.join().unwrap(), SETS, "all are carried out in the end");
    wait_until(|| waiting_bytes(&mut client) == 0);
    kill(server);
}

/// The commands of a file, without the word that names the database.
fn commands_of(path: &Path) -> Vec<String> {
    let bytes = fs::read(path).unwrap();
    let (mut at, mut commands) = (0, Vec::new());
    while let Next::Command(len, words) = next(bytes.get(at..).unwrap()) {
        let text = |word: std::ops::Range<usize>| {
            String::from_utf8_lossy(bytes.get(at..).unwrap().get(word).unwrap()).into_owned()
        };
        commands.push(words.into_iter().map(text).collect::<Vec<_>>().join(" "));
        at += len;
    }
    assert_eq!(at, bytes.len());
    commands
}

#[test]
fn what_other_servers_do_not_know_is_logged_in_words_that_they_do() {
    let folder = Folder::new("words");
    let server = folder.start(&[]);
    let mut client = server.client();
    let lease = client.run("GETLEASE a").unwrap();
    let token = lease.items().unwrap().last().unwrap().text();
    client.run(&format!("SETLEASE a {token} v PXAT 4000000000000")).unwrap();
    for line in [
        "MSETEX 2 b 1 c 2 PXAT 4000000000000",
        "MSETEX 1 b 1 KEEPTTL",
        "MSETEX 1 b 3",
        "SET b 4 IFEQ 3",
        "SET b 5 IFEQ 4 KEEPTTL",
        "SET b 6 IFEQ 5 PXAT 4000000000000",
        "SET b 7 IFEQ 5",
        "DELEX b IFEQ 5",
        "DELEX b IFEQ 6",
        "SET b 7",
        "DELIFEQ b 7",
    ] {
        let reply = client.run(line).unwrap();
        assert!(!reply.is_error(), "{line}: {reply:?}");
    }
    client.run("WAITAOF 1 0 5000").unwrap();
    let expected = [
        "SELECT 0",
        "SET a v PXAT 4000000000000",
        "MULTI",
        "SET b 1 PXAT 4000000000000",
        "SET c 2 PXAT 4000000000000",
        "EXEC",
        "SET b 1 KEEPTTL",
        "SET b 3",
        "SET b 4",
        "SET b 5 KEEPTTL",
        "SET b 6 PXAT 4000000000000",
        "DEL b",
        "SET b 7",
        "DEL b",
    ];
    assert_eq!(commands_of(&folder.incr()), expected);
}

/// All keys, in order.
fn keys(client: &mut Client) -> Vec<String> {
    let mut keys: Vec<String> =
        client.run("KEYS *").unwrap().items().unwrap().iter().map(|key| key.text()).collect();
    keys.sort();
    keys
}

#[test]
fn what_was_evicted_or_has_ended_does_not_come_back_and_a_log_that_grows_is_rewritten() {
    let folder = Folder::new("evicted");
    let server = folder.start(&[
        "--maxmemory-policy",
        "allkeys-lru",
        "--auto-aof-rewrite-min-size",
        "100kb",
        "--auto-aof-rewrite-percentage",
        "100",
    ]);
    let mut client = server.client();
    let used = client.run("INFO memory").unwrap().text();
    let used = used
        .lines()
        .find_map(|line| line.strip_prefix("used_memory:"))
        .unwrap()
        .trim()
        .parse::<u64>()
        .unwrap();
    client.run(&format!("CONFIG SET maxmemory {}", used + 6_000_000)).unwrap();
    let value = "v".repeat(1500);
    for round in 0..20 {
        let lines: Vec<Vec<String>> =
            (0..500).map(|index| vec!["SET".into(), format!("key:{round}:{index}"), value.clone()]).collect();
        let replies = client.pipeline(&lines).unwrap();
        assert_eq!(replies.iter().find(|reply| reply.is_error()), None);
    }
    client.run("HSET fields a 1 b 2").unwrap();
    client.run("HPEXPIRE fields 20 FIELDS 1 a").unwrap();
    client.run("SET short v PX 20").unwrap();
    let stats = |client: &mut Client, field: &str| {
        let text = client.run("INFO stats").unwrap().text();
        text.lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':')?.parse::<u64>().ok())
            .unwrap()
    };
    wait_until(|| stats(&mut client, "expired_keys") == 1 && stats(&mut client, "expired_subkeys") == 1);
    client.run("CONFIG SET maxmemory 0").unwrap();
    assert!(stats(&mut client, "evicted_keys") > 1000);
    wait_until(|| {
        let info = client.run("INFO persistence").unwrap().text();
        !info.contains("aof_rewrites:0") && info.contains("aof_rewrite_in_progress:0")
    });
    let before = keys(&mut client);
    assert_eq!(client.run("WAITAOF 1 0 5000").unwrap().notation().len(), 3);
    client.run("CONFIG SET appendfsync always").unwrap();
    client.run("SET last 1").unwrap();
    kill(server);
    assert!(!folder.incr().exists(), "the first file is history");
    let server = folder.start(&[]);
    let mut client = server.client();
    assert_eq!(client.run("DEL last").unwrap().integer(), Some(1));
    assert_eq!(keys(&mut client), before);
    assert_eq!(client.run("HGETALL fields").unwrap().items().unwrap().len(), 2);
}

fn wait_until(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < deadline, "it does not come to be so");
        std::thread::sleep(Duration::from_millis(2));
    }
}
