//! An HTTP origin as a source: `https://api.example/v1`, with statements such as `GET /users/$id` and `PUT /users/$id $body`.
//!
//! Values are percent-encoded as components of the path or the query; behind the path, in what is sent, they stand as they are.
//! How long an answer is fresh follows RFC 9111 as a shared cache reads it: Cache-Control and Age. An answer that varies by
//! headers is refused, since a key stands for one answer.
//! Read next: `statement.rs`, what is asked; `answer.rs`, what headers mean; `exchange.rs`, one request and its answer.

#![forbid(unsafe_code)]

mod answer;
mod exchange;
mod statement;

use exchange::{Connection, Origin};
use larder_source::{
    Answer, Cell, Checked, Column, ColumnKind, Driver, Failure, Feed, Limits, Parameter, Purpose, Request,
    Rows, Template, Work,
};
use larder_source_net::{Address, Options, Place, Pool, Runtime, Tls, TlsMode, base64, refused, unsupported};
use statement::Statement;
use std::sync::Arc;

/// An origin.
pub struct Http {
    origin: Arc<Origin>,
    pool: Arc<Pool<Connection>>,
}

/// Opens a source. Nothing is connected to yet.
///
/// # Errors
/// The URL, a header or a certificate is wrong.
pub fn open(url: &str, options: &Options) -> Result<Arc<dyn Driver>, Failure> {
    let place = Place::parse(url)?;
    place.allow(&[])?;
    if place.host.is_empty() {
        return Err(refused("the URL of a source: a host must follow"));
    }
    let is_https = place.scheme == "https";
    let port = place.port.unwrap_or(if is_https { 443 } else { 80 });
    let mode = if is_https { options.tls.unwrap_or(TlsMode::VerifyFull) } else { TlsMode::Off };
    let name = if place.host.contains(':') { format!("[{}]", place.host) } else { place.host.clone() };
    let mut headers = options.headers.clone();
    let user = place.user.clone().or_else(|| options.user.clone());
    match (user, &options.password) {
        (Some(user), Some(password)) => {
            let pair = base64(format!("{user}:{}", password.reveal()).as_bytes());
            headers.push(("Authorization".to_owned(), format!("Basic {pair}")));
        }
        (None, Some(password)) => {
            headers.push(("Authorization".to_owned(), format!("Bearer {}", password.reveal())));
        }
        _ => {}
    }
    let origin = Origin {
        address: Address::Tcp(place.host.clone(), port),
        tls: Tls::new(mode, options)?,
        scheme: place.scheme.clone(),
        authority: place.port.map_or(name.clone(), |port| format!("{name}:{port}")),
        host: place.host.clone(),
        base: place.path.trim_end_matches('/').to_owned(),
        headers: exchange::headers(&headers)?,
        connect_timeout: options.connect_timeout,
        runtime: Runtime::get()?,
    };
    Ok(Arc::new(Http { origin: Arc::new(origin), pool: Pool::new(options.connections) }))
}

impl Driver for Http {
    fn probe(&self) -> Work<'_, String> {
        Box::pin(async move {
            let statement = Statement::head();
            let limits = Limits { rows: 1, bytes: 1 << 20 };
            let got = exchange::ask(&self.origin, &self.pool, &statement, &[], None, limits).await?;
            let server = got.header("server").unwrap_or("HTTP").to_owned();
            Ok(format!("{server} ({})", self.origin.authority))
        })
    }

    fn check<'a>(&'a self, statement: &'a Template, purpose: Purpose) -> Work<'a, Checked> {
        Box::pin(async move {
            let parsed = Statement::parse(statement)?;
            match purpose {
                Purpose::Batch => return Err(unsupported("an HTTP origin is asked for one key at a time")),
                Purpose::Load if parsed.changes() => {
                    return Err(refused("this statement changes the origin, and is to read from it").at(0));
                }
                Purpose::Write if !parsed.changes() => {
                    return Err(refused("a write is PUT, POST, PATCH or DELETE").at(0));
                }
                _ => {}
            }
            let columns =
                if purpose == Purpose::Write { Vec::new() } else { vec![body(ColumnKind::Unknown)] };
            Ok(Checked { columns, parameters: vec![None; statement.names().len()] })
        })
    }

    fn load<'a>(&'a self, request: Request<'a>) -> Work<'a, Answer> {
        Box::pin(async move {
            let statement = Statement::parse(request.statement)?;
            if statement.changes() {
                return Err(refused("this statement changes the origin, and is to read from it"));
            }
            let ask = exchange::ask(
                &self.origin,
                &self.pool,
                &statement,
                request.parameters,
                request.validator,
                request.limits,
            );
            let got = ask.await?;
            answer::read(&got, request.validator.is_some())
        })
    }

    fn write<'a>(&'a self, statements: &'a [(&'a Template, Vec<Parameter>)]) -> Work<'a, Vec<u64>> {
        Box::pin(async move {
            let [(template, parameters)] = statements else {
                return Err(unsupported("an HTTP origin cannot take several changes together"));
            };
            let statement = Statement::parse(template)?;
            if !statement.changes() {
                return Err(refused("a write is PUT, POST, PATCH or DELETE"));
            }
            let limits = Limits { rows: 1, bytes: 1 << 20 };
            let got = exchange::ask(&self.origin, &self.pool, &statement, parameters, None, limits).await?;
            // What is to be deleted and is not there: the origin is as it was to be.
            let is_gone = matches!(got.status, 404 | 410) && statement.deletes();
            if is_gone {
                return Ok(vec![0]);
            }
            answer::check_status(got.status, &got)?;
            Ok(vec![1])
        })
    }

    fn stream<'a>(
        &'a self,
        request: Request<'a>,
        more: &'a mut (dyn FnMut(Rows) -> bool + Send),
    ) -> Work<'a, ()> {
        Box::pin(async move {
            if let Answer::Rows { rows, .. } = self.load(request).await? {
                more(rows);
            }
            Ok(())
        })
    }

    fn feed(&self) -> Option<&dyn Feed> {
        None
    }
}

fn body(kind: ColumnKind) -> Column {
    Column { name: "body".to_owned(), kind }
}

/// One row with what came, or none.
fn rows(cell: Option<Cell>) -> Rows {
    let kind = match &cell {
        Some(Cell::Json(_)) => ColumnKind::Json,
        Some(Cell::Text(_)) => ColumnKind::Text,
        Some(Cell::Bytes(_)) => ColumnKind::Bytes,
        _ => ColumnKind::Unknown,
    };
    Rows { columns: [body(kind)].into(), rows: cell.into_iter().map(|cell| [cell].into()).collect() }
}
