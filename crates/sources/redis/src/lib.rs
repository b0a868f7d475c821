//! A Redis-compatible server as a source: `redis://user@host:port/0`, `rediss://` with TLS, with commands such as `HGETALL user:$id`.
//!
//! A command is split into words once, quoted as in redis-cli, so that a value is always a part of one word.
//! Read next: `reply.rs`, replies and what rows they make; `feed.rs`, changes by client tracking in broadcast mode.

#![forbid(unsafe_code)]

mod command;
mod connection;
mod feed;
mod reply;

use command::Command;
use connection::{Connection, Server};
use larder_source::{
    Answer, Checked, Driver, Failure, Feed, Parameter, Purpose, Request, Rows, Template, Work,
};
use larder_source_net::{
    Address, Lease, Options, Place, Pool, Runtime, Tls, TlsMode, refused, unfit, unsupported,
};
use reply::{Reply, Table};
use std::path::PathBuf;
use std::sync::Arc;

/// A Redis-compatible server.
pub struct Redis {
    server: Arc<Server>,
    pool: Arc<Pool<Connection>>,
}

/// Opens a source. Nothing is connected to yet.
///
/// # Errors
/// The URL or a certificate is wrong.
pub fn open(url: &str, options: &Options) -> Result<Arc<dyn Driver>, Failure> {
    let place = Place::parse(url)?;
    let is_encrypted = place.scheme == "rediss";
    place.allow(if is_encrypted { &["sslmode"] } else { &[] })?;
    let port = place.port.unwrap_or(6379);
    let host = if place.host.is_empty() { "localhost".to_owned() } else { place.host.clone() };
    let address = if host.starts_with('/') {
        Address::Unix(PathBuf::from(&host))
    } else {
        Address::Tcp(host.clone(), port)
    };
    let database = place.path.trim_start_matches('/');
    let database = if database.is_empty() { Some(0) } else { database.parse::<u32>().ok() };
    let mode = match is_encrypted {
        true => place.tls_mode(options, &["sslmode"], TlsMode::VerifyFull)?,
        false => TlsMode::Off,
    };
    if is_encrypted && matches!(mode, TlsMode::Off | TlsMode::Prefer) {
        return Err(refused(
            "the URL of a source: rediss is always encrypted; for a connection that is not, write redis",
        ));
    }
    let server = Server {
        address,
        host,
        tls: Tls::new(mode, options)?,
        user: place.user.clone().or_else(|| options.user.clone()),
        password: options.password.clone(),
        database: database.ok_or_else(|| refused("the URL of a source: a database of Redis is a number"))?,
        name: options.name.clone(),
        connect_timeout: options.connect_timeout,
    };
    Runtime::get()?;
    Ok(Arc::new(Redis { server: Arc::new(server), pool: Pool::new(options.connections) }))
}

impl Redis {
    async fn take(&self) -> Result<Lease<Connection>, Failure> {
        self.pool.take(|| Connection::open(&self.server)).await
    }

    /// Sends commands in one go, and reads as many replies.
    async fn ask(
        &self,
        commands: &[Vec<Vec<u8>>],
        limits: larder_source::Limits,
    ) -> Result<Vec<Reply>, Failure> {
        let mut lease = self.take().await?;
        lease.send(commands).await?;
        lease.allow(limits);
        let mut replies = Vec::with_capacity(commands.len());
        for _ in commands {
            replies.push(lease.reply().await?);
        }
        lease.rest();
        Ok(replies)
    }
}

/// What our own questions may answer.
const OWN: larder_source::Limits = larder_source::Limits { rows: 100_000, bytes: 16 << 20 };

impl Driver for Redis {
    fn probe(&self) -> Work<'_, String> {
        Box::pin(async move {
            let mut lease = self.take().await?;
            lease.send(&[vec![b"PING".to_vec()]]).await?;
            lease.reply().await?.or_error()?;
            let who = lease.who.clone();
            lease.rest();
            Ok(who)
        })
    }

    fn check<'a>(&'a self, statement: &'a Template, purpose: Purpose) -> Work<'a, Checked> {
        Box::pin(async move {
            let command = Command::parse(statement)?;
            let name = command.name()?;
            let question = vec![b"COMMAND".to_vec(), b"INFO".to_vec(), name.clone()];
            let replies = self.ask(&[question], OWN).await?;
            let shown = String::from_utf8_lossy(&name).into_owned();
            let known = replies.into_iter().next().and_then(Reply::into_first_of_array);
            match known {
                // A server that does not tell, or does not let us ask.
                None => {}
                Some(Reply::Null) => return Err(refused(format!("the server has no command {shown}")).at(0)),
                Some(info) => {
                    let is_read = info.flags().iter().any(|flag| flag == "readonly");
                    if purpose != Purpose::Write && !is_read {
                        return Err(refused(format!("{shown} does not only read")).at(0));
                    }
                    if info.flags().iter().any(|flag| flag == "blocking" || flag == "pubsub") {
                        return Err(refused(format!("{shown} waits for others")).at(0));
                    }
                    let arity = info.arity();
                    let words = command.len() as i64;
                    if arity > 0 && words != arity || arity < 0 && words < -arity {
                        return Err(refused(format!("{shown} has a wrong number of arguments")).at(0));
                    }
                }
            }
            Ok(Checked { columns: Vec::new(), parameters: vec![None; statement.names().len()] })
        })
    }

    fn load<'a>(&'a self, request: Request<'a>) -> Work<'a, Answer> {
        Box::pin(async move {
            let command = Command::parse(request.statement)?;
            let count = request.parameters.iter().filter_map(|value| match value {
                Parameter::List(values) => Some(values.len()),
                _ => None,
            });
            let rows = match count.min() {
                None => {
                    let words = command.words(request.parameters)?;
                    let pairs = command.is_pairs(&words);
                    let reply = self.ask(&[words], request.limits).await?.into_iter().next();
                    let mut table = Table::new(&[]);
                    table.add(&[], reply.unwrap_or(Reply::Null), pairs)?;
                    table.finish(request.limits)?
                }
                Some(count) => self.batch(&command, &request, count).await?,
            };
            Ok(Answer::Rows { rows, fresh_ms: None, validator: None })
        })
    }

    fn write<'a>(&'a self, statements: &'a [(&'a Template, Vec<Parameter>)]) -> Work<'a, Vec<u64>> {
        Box::pin(async move {
            let mut commands = Vec::new();
            for (template, parameters) in statements {
                commands.push(Command::parse(template)?.words(parameters)?);
            }
            if commands.len() < 2 {
                let replies = self.ask(&commands, OWN).await?;
                return replies
                    .into_iter()
                    .map(|reply| reply.or_error().map(|reply| reply.count()))
                    .collect();
            }
            commands.insert(0, vec![b"MULTI".to_vec()]);
            commands.push(vec![b"EXEC".to_vec()]);
            let mut replies = self.ask(&commands, OWN).await?;
            let done = replies.pop().unwrap_or(Reply::Null);
            // What is refused while it is queued has EXEC do nothing.
            for reply in replies {
                reply.or_error()?;
            }
            match done.or_error()? {
                Reply::Array(replies) => {
                    replies.into_iter().map(|reply| reply.or_error().map(|reply| reply.count())).collect()
                }
                _ => Err(unsupported("the server did not run the commands together")),
            }
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
        Some(self)
    }
}

impl Redis {
    /// One command for each value, sent together. The values stand in front of each row, under the names that they have.
    async fn batch(&self, command: &Command, request: &Request<'_>, count: usize) -> Result<Rows, Failure> {
        let mut commands = Vec::with_capacity(count);
        let mut values = Vec::with_capacity(count);
        for at in 0..count {
            let one: Vec<Parameter> = request
                .parameters
                .iter()
                .map(|value| match value {
                    Parameter::List(values) => values.get(at).cloned().unwrap_or(Parameter::Null),
                    single => single.clone(),
                })
                .collect();
            commands.push(command.words(&one)?);
            values.push(one);
        }
        let pairs = commands.first().map_or(command::Pairs::No, |words| command.is_pairs(words));
        let replies = self.ask(&commands, request.limits).await?;
        let mut table = Table::new(request.statement.names());
        for (values, reply) in values.iter().zip(replies) {
            let cells = values.iter().map(command::cell_of).collect::<Result<Vec<_>, _>>()?;
            table.add(&cells, reply, pairs)?;
        }
        table.finish(request.limits)
    }
}

/// A value that no command can have.
fn no_value() -> Failure {
    unfit("nothing (NULL) and lists have no form in a command")
}
