//! Requests and their answers, over connections that are used one request at a time.

use crate::statement::Statement;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::rt::ReadBufCursor;
use larder_source::{Failure, Limits, Parameter, Validator};
use larder_source_net::{Address, Lease, Pool, Pooled, Runtime, Tls, Wire, refused, unfit, unreachable};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

/// Where requests go.
pub struct Origin {
    pub address: Address,
    pub tls: Tls,
    pub scheme: String,
    /// The host, and the port where the URL has one.
    pub authority: String,
    pub host: String,
    /// What stands before each path.
    pub base: String,
    pub headers: HeaderMap,
    pub connect_timeout: Duration,
    pub runtime: Runtime,
}

/// An answer.
#[derive(Debug)]
pub struct Got {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Got {
    /// The first header of a name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The words between commas in all headers of a name.
    pub fn list(&self, name: &str) -> Vec<&str> {
        let values = self.headers.iter().filter(|(known, _)| known == name);
        values
            .flat_map(|(_, value)| value.split(','))
            .map(str::trim)
            .filter(|word| !word.is_empty())
            .collect()
    }
}

/// Redirections followed.
const REDIRECTS: usize = 5;

/// The headers that each request has.
pub fn headers(given: &[(String, String)]) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    headers.insert("user-agent", HeaderValue::from_static("larder"));
    headers.insert("accept", HeaderValue::from_static("*/*"));
    for (name, value) in given {
        let wrong = || refused(format!("the header {name} has a character that headers must not have"));
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
        if matches!(
            header.as_str(),
            "host" | "content-length" | "transfer-encoding" | "connection" | "accept-encoding"
        ) {
            return Err(refused(format!("the header {name} is set by Larder itself")));
        }
        let mut value = HeaderValue::from_str(value).map_err(|_| wrong())?;
        value.set_sensitive(true);
        headers.insert(header, value);
    }
    Ok(headers)
}

/// Sends a request, follows redirections within the origin, and reads the answer.
pub async fn ask(
    origin: &Arc<Origin>,
    pool: &Arc<Pool<Connection>>,
    statement: &Statement,
    parameters: &[Parameter],
    validator: Option<&Validator>,
    limits: Limits,
) -> Result<Got, Failure> {
    let mut path = format!("{}{}", origin.base, statement.path(parameters)?);
    let body = statement.body(parameters)?;
    for _ in 0..=REDIRECTS {
        let got = once(origin, pool, statement, &path, body.clone(), validator, limits).await?;
        let is_moved = matches!(got.status, 301 | 302 | 303 | 307 | 308) && !statement.changes();
        match got.header("location").filter(|_| is_moved) {
            None => return Ok(got),
            Some(location) => path = origin.redirected(location, &path)?,
        }
    }
    Err(refused(format!("the origin redirects more than {REDIRECTS} times")))
}

impl Origin {
    /// The path that a redirection leads to.
    fn redirected(&self, location: &str, from: &str) -> Result<String, Failure> {
        let location = location.split('#').next().unwrap_or_default();
        let own = format!("{}://{}", self.scheme, self.authority);
        if let Some(path) = location.strip_prefix(&own)
            && (path.is_empty() || path.starts_with(['/', '?']))
        {
            return Ok(if path.starts_with('/') { path.to_owned() } else { format!("/{path}") });
        }
        let is_elsewhere = location.contains("://") || location.starts_with("//");
        if is_elsewhere {
            return Err(refused("the origin redirects to another origin"));
        }
        if location.starts_with('/') {
            return Ok(location.to_owned());
        }
        let folder =
            from.split('?').next().unwrap_or_default().rsplit_once('/').map_or("", |(folder, _)| folder);
        Ok(format!("{folder}/{location}"))
    }
}

/// One request, and once more if the connection it went over had been ended by the origin meanwhile.
async fn once(
    origin: &Arc<Origin>,
    pool: &Arc<Pool<Connection>>,
    statement: &Statement,
    path: &str,
    body: Option<Vec<u8>>,
    validator: Option<&Validator>,
    limits: Limits,
) -> Result<Got, Failure> {
    let mut is_second = false;
    loop {
        let mut lease = pool.take(|| Connection::open(origin)).await?;
        let was_used = lease.was_used;
        lease.was_used = true;
        let request = origin.request(statement, path, body.clone(), validator)?;
        match exchange(&mut lease, request, limits).await {
            Ok(got) => {
                lease.rest_if_open();
                return Ok(got);
            }
            Err(Broken::Before(_)) if was_used && !is_second && !statement.changes() => is_second = true,
            Err(Broken::Before(error)) => return Err(unreachable(format!("{}: {error}", origin.authority))),
            Err(Broken::Failed(failure)) => return Err(failure),
        }
    }
}

impl Origin {
    fn request(
        &self,
        statement: &Statement,
        path: &str,
        body: Option<Vec<u8>>,
        validator: Option<&Validator>,
    ) -> Result<hyper::Request<Full<Bytes>>, Failure> {
        let mut request = hyper::Request::builder().method(statement.method).uri(path);
        if let Some(headers) = request.headers_mut() {
            headers.clone_from(&self.headers);
        }
        request = request.header("host", &self.authority);
        request = match validator {
            Some(Validator::Tag(tag)) => request.header("if-none-match", tag),
            Some(Validator::Modified(date)) => request.header("if-modified-since", date),
            None => request,
        };
        let body = Full::new(Bytes::from(body.unwrap_or_default()));
        request.body(body).map_err(|error| unfit(format!("no request can be made of this: {error}")))
    }
}

/// Where an exchange broke.
enum Broken {
    /// Before any of the answer.
    Before(hyper::Error),
    Failed(Failure),
}

async fn exchange(
    connection: &mut Connection,
    request: hyper::Request<Full<Bytes>>,
    limits: Limits,
) -> Result<Got, Broken> {
    connection.sender.ready().await.map_err(Broken::Before)?;
    let response = connection.sender.send_request(request).await.map_err(Broken::Before)?;
    let (head, mut body) = response.into_parts();
    let too_large = || Broken::Failed(unfit(format!("more than {} bytes", limits.bytes)));
    if body.size_hint().lower() > limits.bytes as u64 {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| Broken::Failed(unreachable(format!("the answer broke off: {error}"))))?;
        if let Some(data) = frame.data_ref() {
            if bytes.len() + data.len() > limits.bytes {
                return Err(too_large());
            }
            bytes.extend_from_slice(data);
        }
    }
    let headers = head
        .headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())));
    Ok(Got { status: head.status.as_u16(), headers: headers.collect(), body: bytes })
}

/// A connection.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    was_used: bool,
}

impl Connection {
    async fn open(origin: &Arc<Origin>) -> Result<Connection, Failure> {
        let open = async {
            let mut wire = Wire::connect(&origin.address).await?;
            wire.encrypt(&origin.tls, &origin.host).await?;
            let shaken = http1::handshake(Adapter(wire)).await;
            let (sender, driver) =
                shaken.map_err(|error| unreachable(format!("{}: {error}", origin.authority)))?;
            // Ends with the connection, or when nobody can send any more.
            origin.runtime.spawn(async move {
                let _ = driver.await;
            });
            Ok(Connection { sender, was_used: false })
        };
        let opened = timeout(origin.connect_timeout, open).await;
        opened.unwrap_or_else(|_| {
            Err(unreachable(format!("{} cannot be connected to in time", origin.authority)))
        })
    }
}

trait RestIfOpen {
    fn rest_if_open(self);
}

impl RestIfOpen for Lease<Connection> {
    fn rest_if_open(self) {
        if !self.sender.is_closed() {
            self.rest();
        }
    }
}

impl Pooled for Connection {
    fn is_quiet(&mut self) -> bool {
        !self.sender.is_closed()
    }

    fn abandon(self, _: OwnedSemaphorePermit) {
        // Without a sender, and with an answer that nobody reads, hyper closes the connection.
    }
}

/// hyper's traits on tokio's.
struct Adapter(Wire);

/// Read at once.
const CHUNK: usize = 16 << 10;

impl hyper::rt::Read for Adapter {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut chunk = [0; CHUNK];
        let room = into.remaining().min(CHUNK);
        let mut buffer = ReadBuf::new(&mut chunk[..room]);
        let read = Pin::new(&mut self.0).poll_read(context, &mut buffer);
        into.put_slice(buffer.filled());
        read
    }
}

impl hyper::rt::Write for Adapter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
