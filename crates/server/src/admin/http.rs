//! One connection to the admin page: one request, one answer, the end.
//!
//! Invariant: a peer holds a thread for at most [`PATIENCE`] to send its request and as long to take the answer, and makes
//! the server keep at most [`HEAD_BYTES_MAX`] of it, however it drips or floods.

use super::metrics;
use crate::clock;
use crate::server::Server;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// How long a peer may take for its request, and again for the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 8 * 1024;
/// Headers of a request, at most.
const HEADERS_MAX: usize = 64;
/// What a peer still sends once it was answered is read for so long, that it gets to see the answer.
const LINGER: Duration = Duration::from_millis(200);

/// What a peer is told while there are too many.
pub(super) const BUSY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 1\r\nConnection: close\r\n\r\n";

/// An answer.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: &'static str,
    content_type: &'static str,
    body: String,
    /// Only the head is wanted.
    is_head: bool,
}

impl Answer {
    fn text(status: &'static str, body: &str) -> Answer {
        Answer {
            status,
            content_type: "text/plain; charset=utf-8",
            body: format!("{body}\n"),
            is_head: false,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!(
            "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n",
            self.status,
            self.content_type,
            self.body.len()
        )
        .into_bytes();
        if !self.is_head {
            bytes.extend_from_slice(self.body.as_bytes());
        }
        bytes
    }
}

/// Serves a connection.
pub(super) fn serve(server: &'static Server, stream: &TcpStream) {
    let outcome = read_head(stream).and_then(|head| {
        let Some(head) = head else { return Ok(()) };
        let answer = answer(&head, || metrics::text(server));
        write_all(stream, &answer.bytes())
    });
    match outcome {
        Ok(()) => linger(stream),
        Err(error) => tracing::debug!(%error, "a connection to the admin page was broken off"),
    }
}

/// The head of a request with what came along; what is too long is cut. Nothing where the peer ends without a word.
fn read_head(mut stream: &TcpStream) -> io::Result<Option<Vec<u8>>> {
    stream.set_nonblocking(false)?;
    let end = clock::now() + PATIENCE;
    let (mut head, mut chunk) = (Vec::new(), [0; 1024]);
    while !is_whole(&head) && head.len() < HEAD_BYTES_MAX {
        stream.set_read_timeout(Some(left(end)?))?;
        match stream.read(&mut chunk) {
            Ok(0) if head.is_empty() => return Ok(None),
            Ok(0) => break,
            Ok(count) => head.extend_from_slice(chunk.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Some(head))
}

fn is_whole(head: &[u8]) -> bool {
    head.windows(4).any(|end| end == b"\r\n\r\n") || head.windows(2).any(|end| end == b"\n\n")
}

/// The time that is left, or that there is none.
fn left(end: Instant) -> io::Result<Duration> {
    match end.saturating_duration_since(clock::now()) {
        Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
        left => Ok(left),
    }
}

/// What to answer to a request.
fn answer(head: &[u8], metrics: impl FnOnce() -> String) -> Answer {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) if head.len() >= HEAD_BYTES_MAX => {
            return Answer::text("431 Request Header Fields Too Large", "the request is too long");
        }
        Err(httparse::Error::TooManyHeaders) => {
            return Answer::text("431 Request Header Fields Too Large", "the request has too many headers");
        }
        Ok(httparse::Status::Partial) | Err(_) => {
            return Answer::text("400 Bad Request", "this is no HTTP request");
        }
    }
    let is_head = match request.method {
        Some("GET") => false,
        Some("HEAD") => true,
        _ => return Answer::text("405 Method Not Allowed", "GET and HEAD are all there is"),
    };
    let path = request.path.unwrap_or_default();
    let answer = match path.split('?').next().unwrap_or_default() {
        "/metrics" => Answer {
            status: "200 OK",
            content_type: "text/plain; version=0.0.4; charset=utf-8",
            body: metrics(),
            is_head,
        },
        "/health" => Answer::text("200 OK", "ok"),
        "/" => Answer::text(
            "200 OK",
            "Larder: /metrics for Prometheus, /health for whoever asks whether it is alive",
        ),
        _ => Answer::text("404 Not Found", "there are /metrics and /health"),
    };
    Answer { is_head, ..answer }
}

fn write_all(mut stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    let end = clock::now() + PATIENCE;
    while !bytes.is_empty() {
        stream.set_write_timeout(Some(left(end)?))?;
        match stream.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    stream.shutdown(Shutdown::Write)
}

/// Reads what a peer still sends, for a moment: closing before it has been read would take the answer from it.
fn linger(mut stream: &TcpStream) {
    let (end, mut chunk) = (clock::now() + LINGER, [0; 1024]);
    while let Ok(left) = left(end) {
        let _ = stream.set_read_timeout(Some(left));
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(head: &[u8]) -> String {
        answer(head, || "figures\n".to_owned()).status.to_owned()
    }

    #[test]
    fn requests_are_answered_by_method_and_path() {
        for (head, expected) in [
            (&b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"[..], "200 OK"),
            (b"GET /metrics?x=1 HTTP/1.0\r\n\r\n", "200 OK"),
            (b"HEAD /health HTTP/1.1\r\n\r\n", "200 OK"),
            (b"GET / HTTP/1.1\r\n\r\n", "200 OK"),
            (b"GET /other HTTP/1.1\r\n\r\n", "404 Not Found"),
            (b"GET /../health HTTP/1.1\r\n\r\n", "404 Not Found"),
            (b"POST /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
            (b"*1\r\n$4\r\nPING\r\n\r\n", "400 Bad Request"),
            (b"GET /health", "400 Bad Request"),
            (b"\xff\xfe\r\n\r\n", "400 Bad Request"),
            (b"", "400 Bad Request"),
        ] {
            assert_eq!(status(head), expected, "{}", String::from_utf8_lossy(head));
        }
    }

    #[test]
    fn what_is_too_long_is_refused() {
        let long = [&b"GET /health HTTP/1.1\r\nA: "[..], &vec![b'a'; HEAD_BYTES_MAX]].concat();
        assert_eq!(status(&long), "431 Request Header Fields Too Large");
        let many = format!("GET /health HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(HEADERS_MAX + 1));
        assert_eq!(status(many.as_bytes()), "431 Request Header Fields Too Large");
    }

    #[test]
    fn an_answer_says_how_long_it_is() {
        let get = answer(b"GET /metrics HTTP/1.1\r\n\r\n", || "figures\n".to_owned());
        let text = String::from_utf8(get.bytes()).unwrap();
        assert!(text.contains("\r\nContent-Length: 8\r\n") && text.ends_with("\r\n\r\nfigures\n"), "{text}");
        let head = answer(b"HEAD /metrics HTTP/1.1\r\n\r\n", || "figures\n".to_owned());
        let text = String::from_utf8(head.bytes()).unwrap();
        assert!(text.contains("\r\nContent-Length: 8\r\n") && text.ends_with("\r\n\r\n"), "{text}");
    }
}
