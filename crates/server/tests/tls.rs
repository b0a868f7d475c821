//! Encrypted connections: who may come, with which certificates, what is sent, and what garbage does.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod scenario;

use larder_testkit::server::{peers_dir, repository_root};
use larder_testkit::{Certificates, Client, Server};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};
use scenario::{figure, info, larder, ok, until};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A server with a plain and a TLS port, and its certificates.
struct Tls {
    certificates: Certificates,
    server: Server,
    port: u16,
}

/// Starts it; certificates are for `localhost`, that of the server is `server`, that of a client `client`.
fn tls(options: &[&str]) -> Option<Tls> {
    let certificates = Certificates::make()?;
    certificates.issue("server", "localhost", 2);
    certificates.issue("client", "somebody", 2);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let [cert, key, ca] = ["server.pem", "server.key", "ca.pem"].map(|name| certificates.path(name));
    let number = port.to_string();
    let files =
        ["--tls-port", &number, "--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-ca-cert-file", &ca];
    let server = larder(2, &[&files[..], &["--loglevel", "verbose"], options].concat());
    Some(Tls { certificates, server, port })
}

/// What a client is like.
#[derive(Clone, Copy)]
struct As<'a> {
    certificate: Option<&'a str>,
    version: &'static SupportedProtocolVersion,
}

const NOBODY: As<'_> = As { certificate: None, version: &TLS13 };
const SOMEBODY: As<'_> = As { certificate: Some("client"), version: &TLS13 };

impl Tls {
    fn config(&self, who: As<'_>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        let pem = |name: String| CertificateDer::from_pem_file(self.certificates.path(&name)).unwrap();
        roots.add(pem("ca.pem".to_owned())).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[who.version])
            .unwrap()
            .with_root_certificates(roots);
        Arc::new(match who.certificate {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let key =
                    PrivateKeyDer::from_pem_file(self.certificates.path(&format!("{name}.key"))).unwrap();
                builder.with_client_auth_cert(vec![pem(format!("{name}.pem"))], key).unwrap()
            }
        })
    }

    fn connect(&self, config: &Arc<ClientConfig>) -> Stream {
        let tcp = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        tcp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        StreamOwned::new(ClientConnection::new(Arc::clone(config), name).unwrap(), tcp)
    }

    /// Whether somebody is answered.
    fn ping(&self, who: As<'_>) -> io::Result<()> {
        ask(&mut self.connect(&self.config(who)), b"PING\r\n", b"+PONG\r\n")
    }

    fn set(&self, pairs: &str) {
        let words: Vec<&str> = pairs.split(' ').map(|word| word.trim_matches('"')).collect();
        let done = self.server.client().command(&[&["CONFIG", "SET"], &words[..]].concat()).unwrap();
        assert_eq!(done.text(), "OK", "{pairs}");
    }
}

/// Sends bytes, and reads what is expected.
fn ask(stream: &mut Stream, request: &[u8], expected: &[u8]) -> io::Result<()> {
    stream.write_all(request)?;
    let mut answer = vec![0; expected.len()];
    stream.read_exact(&mut answer)?;
    assert!(answer == expected, "{}", String::from_utf8_lossy(&answer[..answer.len().min(200)]));
    Ok(())
}

#[test]
fn clients_show_certificates_as_the_server_wants() {
    let Some(tls) = tls(&[]) else { return };
    tls.certificates.issue("expired", "somebody", -1);
    let expired = As { certificate: Some("expired"), ..SOMEBODY };
    // Signed by nobody that is trusted: an authority's own certificate will do.
    let stranger = As { certificate: Some("other-ca"), ..SOMEBODY };
    for version in [&TLS12, &TLS13] {
        for (wanted, nobody, bad) in [("yes", false, false), ("optional", true, false), ("no", true, true)] {
            tls.set(&format!("tls-auth-clients {wanted}"));
            for (who, may) in [(SOMEBODY, true), (NOBODY, nobody), (expired, bad), (stranger, bad)] {
                let outcome = tls.ping(As { version, ..who });
                assert_eq!(outcome.is_ok(), may, "{wanted} {version:?} {:?}: {outcome:?}", who.certificate);
            }
        }
    }
    let log = tls.server.log();
    assert!(log.contains("peer sent no certificates") && log.contains("Expired"), "{log}");
    // By a folder, too, with other things in it.
    let folder = tls.certificates.folder();
    std::fs::create_dir(folder.join("trusted")).unwrap();
    std::fs::copy(folder.join("ca.pem"), folder.join("trusted/ca.crt")).unwrap();
    std::fs::write(folder.join("trusted/notes.pem"), "not one").unwrap();
    tls.set(&format!(
        "tls-auth-clients yes tls-ca-cert-file \"\" tls-ca-cert-dir {}",
        folder.join("trusted").display()
    ));
    tls.ping(SOMEBODY).unwrap();
    tls.ping(stranger).unwrap_err();
    // Versions and ciphers.
    tls.set("tls-protocols TLSv1.3 tls-ciphersuites TLS_CHACHA20_POLY1305_SHA256");
    tls.ping(As { version: &TLS12, ..SOMEBODY }).unwrap_err();
    let mut stream = tls.connect(&tls.config(SOMEBODY));
    ask(&mut stream, b"PING\r\n", b"+PONG\r\n").unwrap();
    let suite = stream.conn.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(format!("{suite:?}"), "TLS13_CHACHA20_POLY1305_SHA256");
}

#[test]
fn certificates_are_exchanged_while_it_runs() {
    let Some(tls) = tls(&["--tls-auth-clients", "no"]) else { return };
    let files = |name: &str| {
        let [cert, key] = ["pem", "key"].map(|end| tls.certificates.path(&format!("{name}.{end}")));
        format!("tls-cert-file {cert} tls-key-file {key}")
    };
    let shown = |stream: &mut Stream| {
        ask(stream, b"PING\r\n", b"+PONG\r\n").unwrap();
        stream.conn.peer_certificates().unwrap()[0].to_vec()
    };
    let config = tls.config(NOBODY);
    let mut old = tls.connect(&config);
    let first = shown(&mut old);
    tls.certificates.issue("second", "localhost", 2);
    tls.set(&files("second"));
    assert_ne!(shown(&mut tls.connect(&config)), first);
    // The same name, another file.
    let second = shown(&mut tls.connect(&config));
    tls.certificates.issue("second", "localhost", 2);
    assert_eq!(shown(&mut tls.connect(&config)), second, "nobody has asked for it");
    tls.set(&files("second"));
    let third = shown(&mut tls.connect(&config));
    assert_ne!(third, second);
    // What does not go together is refused, and nothing changes.
    let mut client = tls.server.client();
    std::fs::write(tls.certificates.folder().join("broken"), "-----BEGIN").unwrap();
    tls.certificates.openssl(&[
        "pkey",
        "-in",
        "second.key",
        "-aes256",
        "-passout",
        "pass:x",
        "-out",
        "locked",
    ]);
    for wrong in [
        format!("tls-key-file {}", tls.certificates.path("client.key")),
        format!("tls-key-file {}", tls.certificates.path("locked")),
        format!("tls-cert-file {}", tls.certificates.path("broken")),
        "tls-cert-file \"\"".to_owned(),
        "tls-auth-clients yes tls-ca-cert-file \"\"".to_owned(),
        format!("tls-auth-clients no tls-ca-cert-file {}", tls.certificates.path("broken")),
        "maxmemory 1gb tls-protocols TLSv1.1".to_owned(),
        format!("tls-port {}", tls.server.port()),
    ] {
        let words: Vec<&str> = wrong.split(' ').map(|word| word.trim_matches('"')).collect();
        let refused = client.command(&[&["CONFIG", "SET"], &words[..]].concat()).unwrap();
        let reason = ["Unable to update TLS configuration", "Unable to listen on this port"];
        assert!(reason.iter().any(|reason| refused.text().contains(reason)), "{wrong}: {refused:?}");
        assert_eq!(shown(&mut tls.connect(&config)), third, "{wrong}");
    }
    assert_eq!(client.run("CONFIG GET maxmemory").unwrap().pairs()[0].1.text(), "0");
    assert!(tls.server.log().contains("openssl pkey"), "what to do is told");
    // The connection of the beginning has not noticed anything.
    ask(&mut old, b"PING\r\n", b"+PONG\r\n").unwrap();
    // TLS alone, another port, and back.
    ask(&mut old, b"CONFIG SET port 0\r\n", b"+OK\r\n").unwrap();
    assert!(TcpStream::connect(("127.0.0.1", tls.server.port())).is_err());
    let plain = format!("CONFIG SET port {} tls-port 0\r\n", tls.server.port());
    ask(&mut tls.connect(&config), plain.as_bytes(), b"+OK\r\n").unwrap();
    assert!(TcpStream::connect(("127.0.0.1", tls.port)).is_err());
    assert_eq!(
        info(&mut tls.server.client(), "listener0"),
        format!("name=tcp,bind=127.0.0.1,port={}", tls.server.port())
    );
    ask(&mut old, b"PING\r\n", b"+PONG\r\n").unwrap();
}

#[test]
fn a_key_behind_a_password_is_opened_by_it() {
    let Some(tls) = tls(&["--tls-auth-clients", "no"]) else { return };
    let lock = |from: &str, to: &str| {
        tls.certificates.openssl(&["pkey", "-in", from, "-aes256", "-passout", "pass:secret", "-out", to]);
    };
    lock("server.key", "locked.key");
    let key = tls.certificates.path("locked.key");
    let mut client = tls.server.client();
    for password in ["", "wrong"] {
        let pairs = ["CONFIG", "SET", "tls-key-file", &key, "tls-key-file-pass", password];
        let refused = client.command(&pairs).unwrap().text();
        assert!(refused.contains("Unable to update TLS configuration"), "{password}: {refused}");
        tls.ping(NOBODY).unwrap();
    }
    let log = tls.server.log();
    assert!(log.contains("set tls-key-file-pass") && log.contains("does not open it"), "{log}");
    tls.set(&format!("tls-key-file {key} tls-key-file-pass secret"));
    tls.ping(NOBODY).unwrap();
    // A key that is not encrypted needs no password, and does not mind one.
    tls.set(&format!("tls-key-file {}", tls.certificates.path("server.key")));
    tls.ping(NOBODY).unwrap();
    assert!(!tls.server.log().contains("secret"));
    // A start reads the same.
    let cert = tls.certificates.path("server.pem");
    let options =
        ["--tls-port", "1", "--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-auth-clients", "no"];
    let binary = std::env::var_os("LARDER_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_larder").into());
    for (password, is_good) in [("secret", true), ("wrong", false)] {
        let check = [&["--check-config", "--port", "0"], &options[..], &["--tls-key-file-pass", password]];
        let ended = Command::new(&binary).args(check.concat()).output().unwrap();
        assert_eq!(ended.status.success(), is_good, "{}", String::from_utf8_lossy(&ended.stderr));
    }
}

#[test]
fn a_start_without_what_it_needs_is_refused_in_words() {
    let Some(certificates) = Certificates::make() else { return };
    certificates.issue("server", "localhost", 2);
    let [cert, key] = ["server.pem", "server.key"].map(|name| certificates.path(name));
    let all = ["--port", "0", "--tls-port", "1", "--tls-cert-file", &cert, "--tls-key-file", &key];
    let binary = std::env::var_os("LARDER_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_larder").into());
    for (options, words) in [
        (&all[..4], "tls-port is set, and tls-cert-file is not"),
        (&all[..6], "tls-port is set, and tls-key-file is not"),
        (&all[..], "tls-auth-clients to no"),
        (&[&all[..], &["--tls-key-file", "/nowhere"]].concat(), "tls-key-file /nowhere"),
        (&[&all[..], &["--tls-auth-clients", "no", "--tls-ciphers", "x"]].concat(), "there are ECDHE"),
    ] {
        for check in [&["--check-config"][..], &[]] {
            let ended = Command::new(&binary).args(check).args(options).output().unwrap();
            let told = String::from_utf8_lossy(&ended.stderr);
            assert!(!ended.status.success() && told.contains(words), "{options:?} {check:?}: {told}");
        }
    }
    let good = [&["--check-config"], &all[..], &["--tls-auth-clients", "no"]].concat();
    assert!(Command::new(&binary).args(good).stdout(Stdio::null()).status().unwrap().success());
}

#[test]
fn a_hundred_clients_send_pipelines() {
    let Some(tls) = tls(&["--tls-auth-clients", "no"]) else { return };
    let configs = [&TLS12, &TLS13].map(|version| tls.config(As { version, ..NOBODY }));
    let clients = std::thread::scope(|scope| {
        let work: Vec<_> = (0..100)
            .map(|number| {
                let (tls, config) = (&tls, &configs[number % 2]);
                scope.spawn(move || {
                    let mut stream = tls.connect(config);
                    let (mut request, mut expected) = (Vec::new(), Vec::new());
                    for round in 0..200 {
                        let value = format!("{number}-{round}").repeat(1 + round % 40);
                        let set = format!("SET k{number} {value}\r\nGET k{number}\r\nINCR n\r\n");
                        request.extend_from_slice(set.as_bytes());
                        let answers = format!("+OK\r\n${}\r\n{value}\r\n", value.len());
                        expected.push(answers);
                    }
                    stream.write_all(&request).unwrap();
                    for answers in expected {
                        let mut got = vec![0; answers.len()];
                        stream.read_exact(&mut got).unwrap();
                        assert_eq!(String::from_utf8_lossy(&got), answers);
                        let mut byte = [b':'];
                        while byte != *b"\n" {
                            stream.read_exact(&mut byte).unwrap();
                        }
                    }
                    stream
                })
            })
            .collect();
        work.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<Stream>>()
    });
    let mut client = tls.server.client();
    assert_eq!(client.run("GET n").unwrap().text(), "20000");
    assert_eq!(figure(&mut client, "connected_clients"), 101);
    drop(clients);
    until("they have gone", || figure(&mut client, "connected_clients") == 1);
}

/// A value that is larger than every buffer goes through whole, byte by byte too; and whoever does not read is held to its limit.
#[test]
fn large_values_go_through_bounded_buffers() {
    let Some(tls) = tls(&["--tls-auth-clients", "no"]) else { return };
    let config = tls.config(NOBODY);
    let mut stream = tls.connect(&config);
    let value: Vec<u8> =
        (0..5_000_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let head = format!("*3\r\n$3\r\nSET\r\n$1\r\nv\r\n${}\r\n", value.len());
    ask(&mut stream, &[head.as_bytes(), &value, b"\r\n"].concat(), b"+OK\r\n").unwrap();
    let answer = [format!("${}\r\n", value.len()).as_bytes(), &value, b"\r\n"].concat();
    ask(&mut stream, b"GET v\r\n", &answer).unwrap();
    ask(&mut stream, b"GET v\r\nGET v\r\nPING\r\n", &[&answer[..], &answer, b"+PONG\r\n"].concat()).unwrap();
    for byte in b"*2\r\n$4\r\nECHO\r\n$3\r\nabc\r\n" {
        stream.write_all(&[*byte]).unwrap();
    }
    ask(&mut stream, b"", b"$3\r\nabc\r\n").unwrap();
    // Nobody reads these: the kernel is full, and 64 KiB are encrypted and no more; the rest is the value itself.
    let mut client = tls.server.client();
    let before = figure(&mut client, "used_memory");
    let mut deaf = tls.connect(&config);
    deaf.write_all(&b"GET v\r\n".repeat(100)).unwrap();
    until("replies wait", || {
        client.run("CLIENT LIST").unwrap().text().lines().any(|line| !line.contains("omem=0"))
    });
    assert!(figure(&mut client, "used_memory") < before + 2_000_000, "no copy is made");
    let limit = ["CONFIG", "SET", "client-output-buffer-limit", "normal 10mb 0 0"];
    assert_eq!(client.command(&limit).unwrap().text(), "OK");
    let mut glutton = tls.connect(&config);
    glutton.write_all(&b"GET v\r\n".repeat(100)).unwrap();
    until("it is closed", || figure(&mut client, "client_output_buffer_limit_disconnections") > 0);
    ask(&mut stream, b"PING\r\n", b"+PONG\r\n").unwrap();
}

/// Sends bytes to the TLS port, and waits until the server has closed the connection.
fn throw(port: u16, bytes: &[u8]) {
    let mut tcp = TcpStream::connect(("127.0.0.1", port)).unwrap();
    tcp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // The server may have closed before all was sent.
    let _ = tcp.write_all(bytes);
    let _ = tcp.shutdown(Shutdown::Write);
    let _ = tcp.read_to_end(&mut Vec::new());
}

#[test]
fn garbage_in_place_of_a_handshake_ends_its_connection_and_nothing_else() {
    let Some(tls) = tls(&["--tls-auth-clients", "no", "--maxclients", "50"]) else { return };
    let config = tls.config(NOBODY);
    let mut neighbour = tls.connect(&config);
    ask(&mut neighbour, b"PING\r\n", b"+PONG\r\n").unwrap();
    let mut client = tls.server.client();
    let mut hello = Vec::new();
    let name = ServerName::try_from("localhost").unwrap();
    ClientConnection::new(Arc::clone(&config), name).unwrap().write_tls(&mut hello).unwrap();
    // Records and messages that are announced longer than anybody needs.
    let long = [
        &b"\x16\x03\x01\x40\x00\x01\xff\xff\xff"[..],
        &[0; 16_380],
        &[b"\x16\x03\x01\x40\x00", &[0; 16_384][..]].concat().repeat(8),
    ]
    .concat();
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"*1\r\n$4\r\nPING\r\n",
        b"\x16",
        b"\x16\x03\x01\xff\xff",
        b"\x15\x03\x01\x00\x02\x02\x28",
        &[0xff; 40_000],
        &long,
        b"",
    ] {
        throw(tls.port, garbage);
    }
    // Hellos that were cut off, or in which something was changed; what the numbers are is the same each time.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for round in 0..600 {
        let mut bytes = hello.clone();
        match round % 3 {
            0 => bytes.truncate(random(hello.len())),
            1 => (0..1 + random(8)).for_each(|_| bytes[random(hello.len())] ^= 1 << random(8)),
            _ => bytes.splice(random(40)..40 + random(100), (0..random(60)).map(|_| 0xaa)).for_each(drop),
        }
        throw(tls.port, &bytes);
    }
    ask(&mut neighbour, b"PING\r\n", b"+PONG\r\n").unwrap();
    until("all have gone", || figure(&mut client, "connected_clients") == 2);
    assert!(tls.server.log().contains("ends: TLS: received corrupt message of type InvalidContentType"));
    // Garbage after the handshake.
    let mut spoilt = tls.connect(&config);
    ask(&mut spoilt, b"PING\r\n", b"+PONG\r\n").unwrap();
    spoilt.sock.write_all(b"\x17\x03\x03\x00\x20").unwrap();
    spoilt.sock.write_all(&[7; 32]).unwrap();
    assert!(ask(&mut spoilt, b"", b"x").is_err());
    // Whoever says nothing has a place of maxclients, and holds little memory.
    let before = figure(&mut client, "used_memory");
    let silent: Vec<TcpStream> =
        (0..48).map(|_| TcpStream::connect(("127.0.0.1", tls.port)).unwrap()).collect();
    until("they are there", || figure(&mut client, "connected_clients") == 50);
    throw(tls.port, &hello);
    assert!(figure(&mut client, "rejected_connections") > 0);
    assert!(figure(&mut client, "used_memory") < before + 48 * 32_000);
    ok(&mut client, "CONFIG SET timeout 1");
    until("the silent ones are closed", || figure(&mut client, "connected_clients") <= 2);
    drop(silent);
}

/// Whoever begins a handshake whose messages are announced long holds what has come of it, and no more than a message may have.
#[test]
fn handshakes_that_never_end_hold_little() {
    let Some(tls) = tls(&["--tls-auth-clients", "no"]) else { return };
    let mut client = tls.server.client();
    let before = figure(&mut client, "used_memory");
    // A ClientHello of 65,535 bytes, of which 48 KiB come, in records of 16 KiB.
    let message = [&b"\x01\x00\xff\xff"[..], &[0; (48 << 10) - 4]].concat();
    let mut records = Vec::new();
    for part in message.chunks(16 << 10) {
        records.extend([&b"\x16\x03\x01"[..], &(part.len() as u16).to_be_bytes(), part].concat());
    }
    let streams: Vec<TcpStream> = (0..100)
        .map(|_| {
            let mut stream = TcpStream::connect(("127.0.0.1", tls.port)).unwrap();
            stream.write_all(&records).unwrap();
            stream
        })
        .collect();
    until("they are there", || figure(&mut client, "connected_clients") == 101);
    std::thread::sleep(Duration::from_millis(200));
    let held = figure(&mut client, "used_memory").saturating_sub(before) / 100;
    assert!(held < 200_000, "{held} bytes are held for each");
    // What comes beyond the greatest message ends it.
    let longer = [&b"\x16\x03\x01\x40\x00\x01\x01\x00\x00"[..], &[0; 16_380]].concat();
    throw(tls.port, &longer);
    until("it has gone", || figure(&mut client, "connected_clients") == 101);
    drop(streams);
    until("all have gone", || figure(&mut client, "connected_clients") == 1);
}

fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).status().is_ok();
    assert!(found || std::env::var_os("CI").is_none(), "{program} is missing: run ./scripts/fetch-peers");
    found
}

#[test]
fn redis_cli_comes_over_tls() {
    let Some(tls) = tls(&[]) else { return };
    if !has("redis-cli") {
        return;
    }
    let cli = |words: &[&str]| {
        let [ca, cert, key] = ["ca.pem", "client.pem", "client.key"].map(|name| tls.certificates.path(name));
        let mut command = Command::new("redis-cli");
        command.args(["--tls", "-h", "localhost", "-p", &tls.port.to_string(), "--cacert", &ca]);
        command.args(["--cert", &cert, "--key", &key]).args(words).stdin(Stdio::null());
        command
    };
    let told =
        |words: &[&str]| String::from_utf8_lossy(&cli(words).output().unwrap().stdout).trim().to_owned();
    assert_eq!(told(&["PING"]), "PONG");
    assert!(told(&["-3", "HELLO"]).starts_with("server"));
    assert!(told(&["CLIENT", "INFO"]).contains(&format!("laddr=127.0.0.1:{}", tls.port)));
    // Those that are killed in the middle of what they do.
    let mut client = tls.server.client();
    for words in [&["BLPOP", "list", "0"][..], &["SUBSCRIBE", "news"], &["MONITOR"]] {
        let mut child = cli(words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let name = format!("cmd={}", words[0].to_ascii_lowercase());
        until("it has asked", || client.run("CLIENT LIST").unwrap().text().contains(&name));
        child.kill().unwrap();
        child.wait().unwrap();
        until("it is forgotten", || figure(&mut client, "connected_clients") == 1);
    }
    ok(&mut client, "SET still here");
}

#[test]
fn the_example_of_the_documentation_runs() {
    let text = std::fs::read_to_string(repository_root().join("docs/TLS.md")).unwrap();
    let block = text.split("```sh demo\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let binary = std::env::var_os("LARDER_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_larder").into());
    let binary = std::path::PathBuf::from(binary).canonicalize().unwrap();
    if !(has("redis-cli") && Certificates::make().is_some()) {
        return;
    }
    let path = format!("{}:{}", binary.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let shown = Command::new("bash").args(["-c", block]).env("PATH", path).output().unwrap();
    assert!(shown.status.success(), "{shown:?}");
}

/// redis-py with certificates: commands, a pipeline, messages that nobody asked for, a transaction, and a wait.
const PYTHON: &str = r#"
import redis, redis.backoff, redis.retry, sys, threading
port, folder = int(sys.argv[1]), sys.argv[2]
def connect(**more):
    return redis.Redis(host="localhost", port=port, ssl=True, ssl_ca_certs=folder + "/ca.pem",
                       ssl_certfile=folder + "/client.pem", ssl_keyfile=folder + "/client.key", **more)
for protocol in (2, 3):
    r = connect(protocol=protocol)
    assert r.ping()
    with r.pipeline(transaction=False) as p:
        for i in range(5000):
            p.set(f"k{i}", "x" * (i % 500))
            p.strlen(f"k{i}")
        assert p.execute()[1::2] == [i % 500 for i in range(5000)]
    with r.pipeline() as p:
        assert p.incr("n").incr("n").execute()[1] == 2 * (protocol - 1)
    s = r.pubsub()
    s.subscribe("news")
    assert s.get_message(timeout=5)["type"] == "subscribe"
    for i in range(100):
        r.publish("news", "m" * 1000)
    for i in range(100):
        assert s.get_message(timeout=5)["data"] == b"m" * 1000
    threading.Timer(0.1, lambda: connect().rpush("list", "late")).start()
    assert r.blpop("list", timeout=5)[1] == b"late"
    s.close()
try:
    once = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
    redis.Redis(host="localhost", port=port, ssl=True, ssl_ca_certs=folder + "/other-ca.pem", retry=once).ping()
    sys.exit("another authority was trusted")
except redis.ConnectionError as error:
    assert "CERTIFICATE_VERIFY_FAILED" in str(error), error
"#;

#[test]
fn redis_py_comes_over_tls() {
    let Some(tls) = tls(&[]) else { return };
    let python = peers_dir().join("venv/bin/python");
    if !python.is_file() {
        assert!(std::env::var_os("CI").is_none(), "redis-py is missing: run ./scripts/fetch-peers");
        return;
    }
    let folder = tls.certificates.folder().display().to_string();
    let ended = Command::new(python).args(["-c", PYTHON, &tls.port.to_string(), &folder]).output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let mut client: Client = tls.server.client();
    until("it has gone", || figure(&mut client, "connected_clients") == 1);
}

/// While a script is busy, hands are shaken all the same, and it can be ended over TLS.
#[test]
fn a_busy_script_is_ended_over_tls() {
    let Some(tls) = tls(&["--tls-auth-clients", "no", "--busy-reply-threshold", "50"]) else { return };
    let config = tls.config(NOBODY);
    let mut old = tls.connect(&config);
    ask(&mut old, b"PING\r\n", b"+PONG\r\n").unwrap();
    let mut busy = tls.connect(&config);
    busy.write_all(b"EVAL \"while true do end\" 0\r\n").unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let words = b"-BUSY Redis is busy running a script.";
    for stream in [&mut old, &mut tls.connect(&config)] {
        stream.write_all(b"GET key\r\n").unwrap();
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            line.extend_from_slice(&byte);
        }
        assert!(line.starts_with(words), "{}", String::from_utf8_lossy(&line));
    }
    ask(&mut old, b"SCRIPT KILL\r\n", b"+OK\r\n").unwrap();
    // It ends at its next instruction but some, on another thread.
    ask(&mut busy, b"", b"-ERR ").unwrap();
    ask(&mut old, b"PING\r\n", b"+PONG\r\n").unwrap();
}

/// Whoever comes again goes on with the keys of before, unless that is switched off; another configuration knows none of them.
#[test]
fn sessions_are_resumed() {
    let Some(tls) = tls(&[]) else { return };
    for (setting, is_resumed) in [("yes", true), ("no", false)] {
        tls.set(&format!("tls-session-caching {setting}"));
        for version in [&TLS12, &TLS13] {
            let config = tls.config(As { version, ..SOMEBODY });
            let kind = || {
                let mut stream = tls.connect(&config);
                ask(&mut stream, b"PING\r\n", b"+PONG\r\n").unwrap();
                format!("{:?}", stream.conn.handshake_kind().unwrap())
            };
            assert_eq!(kind(), "Full");
            assert_eq!(kind() == "Resumed", is_resumed, "{setting} {version:?}");
            tls.set("tls-session-cache-size 100");
            assert_ne!(kind(), "Resumed", "the sessions of another configuration");
        }
    }
}
