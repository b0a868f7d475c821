//! The HTTP driver against a small origin.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../../follower.rs"]
mod follower;

use follower::{LIMITS, load, load_within, plain, run, text};
use larder_source::{Answer, Cell, Driver, FailureKind, Limits, Parameter, Purpose, Request, Validator};
use larder_source_net::{Options, Secret};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// An origin that answers each request by a function, over connections that stay open.
struct Origin {
    port: u16,
    seen: Arc<Mutex<Vec<String>>>,
}

type Respond = fn(&str, &str) -> String;

fn origin(respond: Respond) -> Origin {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&seen);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let seen = Arc::clone(&into);
            std::thread::spawn(move || serve(stream, respond, &seen));
        }
    });
    Origin { port, seen }
}

fn serve(stream: TcpStream, respond: Respond, seen: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        let length =
            head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body).unwrap();
        let body = String::from_utf8(body).unwrap();
        seen.lock().unwrap().push(format!("{head}{body}"));
        let answer = respond(&head, &body);
        if stream.write_all(answer.as_bytes()).is_err() || answer.contains("Connection: close") {
            return;
        }
    }
}

impl Origin {
    fn driver(&self) -> Arc<dyn Driver> {
        let url = format!("http://127.0.0.1:{}/v1/", self.port);
        larder_source_http::open(&url, &Options { connections: 2, ..Options::default() }).unwrap()
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

fn answer(head: &str, body: &str) -> String {
    format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn shop(head: &str, body: &str) -> String {
    let request = head.lines().next().unwrap();
    let mut words = request.split(' ');
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let asked = |header: &str| head.to_lowercase().contains(header);
    match (method, path) {
        ("GET", "/v1/users/1") if asked("if-none-match: \"v1\"") => {
            answer("304 Not Modified\r\nCache-Control: max-age=9", "")
        }
        ("GET", "/v1/users/1") => answer(
            "200 OK\r\nContent-Type: application/json\r\nETag: \"v1\"\r\nCache-Control: max-age=60\r\nAge: 10",
            "{\"name\":\"Ann\"}",
        ),
        ("GET", "/v1/a%2Fb%20c") => {
            answer("200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nVary: Accept-Encoding", "ok")
        }
        ("GET", "/v1/chunks") => {
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"
                .to_owned()
        }
        ("GET", "/v1/endless") => format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n186a0\r\n{}\r\n",
            "x".repeat(100_000)
        ),
        ("GET", "/v1/large") => "HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n".to_owned(),
        ("GET", "/v1/closing") => answer("200 OK\r\nConnection: close", "bye"),
        ("GET", "/v1/dated") => {
            answer("200 OK\r\nLast-Modified: Sat, 01 Jan 2022 00:00:00 GMT\r\nCache-Control: no-store", "x")
        }
        ("GET", "/v1/moved") => answer("302 Found\r\nLocation: users/1", ""),
        ("GET", "/v1/away") => answer("302 Found\r\nLocation: http://elsewhere.example/", ""),
        ("GET", "/v1/loop") => answer("302 Found\r\nLocation: /v1/loop", ""),
        ("GET", "/v1/varies") => answer("200 OK\r\nVary: Cookie", "x"),
        ("GET", "/v1/busy") => answer("503 Service Unavailable\r\nRetry-After: 3", ""),
        ("GET", "/v1/many") => answer("429 Too Many Requests", ""),
        ("GET", "/v1/forbidden") => answer("403 Forbidden", ""),
        ("GET", "/v1/gone") => answer("410 Gone\r\nCache-Control: max-age=5", ""),
        ("PUT", "/v1/users/1") if body == "{\"name\":\"B\u{e9}\"}" => {
            answer("204 No Content", "").replace("Content-Length: 0\r\n", "")
        }
        ("DELETE", "/v1/users/1") => answer("200 OK", ""),
        ("HEAD", _) => "HTTP/1.1 404 Not Found\r\nServer: tiny/1\r\nContent-Length: 5\r\n\r\n".to_owned(),
        ("PUT", _) => answer("409 Conflict", ""),
        _ => answer("404 Not Found", "no"),
    }
}

fn get(
    driver: &Arc<dyn Driver>,
    statement: &str,
    validator: Option<&Validator>,
) -> Result<Answer, larder_source::Failure> {
    let statement = plain(statement);
    run(driver.load(Request { statement: &statement, parameters: &[], validator, limits: LIMITS }))
}

#[test]
fn answers_are_rows_that_are_fresh_for_as_long_as_the_origin_says() {
    let origin = origin(shop);
    let driver = origin.driver();
    let Answer::Rows { rows, fresh_ms, validator } = get(&driver, "GET /users/1", None).unwrap() else {
        panic!()
    };
    assert_eq!(rows.rows[0][0], Cell::Json(b"{\"name\":\"Ann\"}".as_slice().into()));
    assert_eq!((rows.columns[0].name.as_str(), fresh_ms), ("body", Some(50_000)));
    assert_eq!(validator, Some(Validator::Tag("\"v1\"".to_owned())));
    let unchanged = get(&driver, "GET /users/1", validator.as_ref()).unwrap();
    assert_eq!(unchanged, Answer::Unchanged { fresh_ms: Some(9000) });
    let Answer::Rows { validator, fresh_ms, .. } = get(&driver, "/dated", None).unwrap() else { panic!() };
    assert_eq!(
        (validator, fresh_ms),
        (Some(Validator::Modified("Sat, 01 Jan 2022 00:00:00 GMT".to_owned())), Some(0))
    );
    let rows = load(&driver, &plain("/$path"), &[Parameter::Text("a/b c".into())]).unwrap();
    assert_eq!(rows.rows[0][0], text("ok"));
    assert_eq!(
        load(&driver, &plain("/chunks"), &[]).unwrap().rows[0][0],
        Cell::Bytes(b"abcdefg".as_slice().into())
    );
    for path in ["/nowhere", "/gone"] {
        assert!(load(&driver, &plain(path), &[]).unwrap().rows.is_empty());
    }
    assert_eq!(load(&driver, &plain("/moved"), &[]).unwrap().rows.len(), 1);
    for _ in 0..3 {
        assert_eq!(
            load(&driver, &plain("/closing"), &[]).unwrap().rows[0][0],
            Cell::Bytes(b"bye".as_slice().into())
        );
    }
    assert!(run(driver.probe()).unwrap().starts_with("tiny/1"));
}

#[test]
fn what_cannot_be_kept_is_a_failure_of_its_kind() {
    let origin = origin(shop);
    let driver = origin.driver();
    for (path, kind) in [
        ("/busy", FailureKind::Busy),
        ("/many", FailureKind::Busy),
        ("/forbidden", FailureKind::Refused),
        ("/varies", FailureKind::Refused),
        ("/away", FailureKind::Refused),
        ("/loop", FailureKind::Refused),
    ] {
        let failure = load(&driver, &plain(path), &[]).unwrap_err();
        assert_eq!(failure.kind, kind, "{path}: {failure}");
    }
    for path in ["/endless", "/large"] {
        let failure = load_within(&driver, &plain(path), &[], Limits { rows: 1, bytes: 1000 }).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Unfit, "{path}: {failure}");
    }
    assert_eq!(
        run(driver.check(&plain("GET /a"), Purpose::Batch)).unwrap_err().kind,
        FailureKind::Unsupported
    );
    assert!(run(driver.check(&plain("PUT /a $b"), Purpose::Load)).is_err());
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let nobody = larder_source_http::open(&format!("http://127.0.0.1:{port}"), &Options::default()).unwrap();
    assert_eq!(load(&nobody, &plain("/a"), &[]).unwrap_err().kind, FailureKind::Unreachable);
}

#[test]
fn writes_send_what_they_are_given() {
    let origin = origin(shop);
    let driver = origin.driver();
    let put = plain("PUT /users/$id {\"name\":\"$name\"}");
    let values = |name: &str| vec![Parameter::Integer(1), Parameter::Text(name.into())];
    assert_eq!(run(driver.write(&[(&put, values("B\u{e9}"))])).unwrap(), [1]);
    assert_eq!(run(driver.write(&[(&put, values("x"))])).unwrap_err().kind, FailureKind::Refused);
    let delete = plain("DELETE /users/$id");
    assert_eq!(run(driver.write(&[(&delete, vec![Parameter::Integer(1)])])).unwrap(), [1]);
    assert_eq!(run(driver.write(&[(&delete, vec![Parameter::Integer(2)])])).unwrap(), [0]);
    let two = [(&delete, vec![Parameter::Integer(1)]), (&delete, vec![Parameter::Integer(2)])];
    assert_eq!(run(driver.write(&two)).unwrap_err().kind, FailureKind::Unsupported);
}

#[test]
fn headers_are_sent_and_passwords_not_shown() {
    let origin = origin(shop);
    let options = Options {
        headers: vec![("X-Tenant".to_owned(), "a b".to_owned())],
        user: Some("ann".to_owned()),
        password: Some(Secret::new("geheim")),
        ..Options::default()
    };
    let url = format!("http://127.0.0.1:{}/v1", origin.port);
    let driver = larder_source_http::open(&url, &options).unwrap();
    load(&driver, &plain("/users/1"), &[]).unwrap();
    let seen = origin.seen()[0].to_lowercase();
    assert!(
        seen.contains("x-tenant: a b\r\n") && seen.contains("authorization: basic yw5uomdlagvpbq==\r\n"),
        "{seen}"
    );
    let wrong = Options { headers: vec![("Host".to_owned(), "x".to_owned())], ..Options::default() };
    assert!(larder_source_http::open(&url, &wrong).is_err());
}

#[test]
fn an_answer_that_is_given_up_leaves_its_place() {
    fn silent(_: &str, _: &str) -> String {
        std::thread::sleep(Duration::from_secs(5));
        answer("200 OK", "late")
    }
    let origin = origin(silent);
    let url = format!("http://127.0.0.1:{}", origin.port);
    let driver = larder_source_http::open(&url, &Options { connections: 1, ..Options::default() }).unwrap();
    let statement = plain("/a");
    let request = Request { statement: &statement, parameters: &[], validator: None, limits: LIMITS };
    run(async {
        for _ in 0..3 {
            let load = driver.load(request.clone());
            assert!(tokio::time::timeout(Duration::from_millis(100), load).await.is_err());
        }
    });
    follower::eventually("each was sent over a connection of its own", || origin.seen().len() == 3);
}
