//! Changes made by anybody, by client tracking in broadcast mode: the server pushes the names of keys.
//!
//! There is no history: whoever begins to follow has missed what was before. What happened to a key is not told, so that a change
//! has the key before and after.

use crate::Redis;
use crate::connection::Connection;
use crate::reply::Reply;
use larder_source::{Cell, Change, Failure, Feed, Limits, Named, Position, Told, Work};
use larder_source_net::{garbled, unreachable, unsupported};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// How often the server is asked for a sign of life, behind which all changes before it have been told.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// A server that has said nothing for so long, though it was asked, is gone.
const SILENCE: Duration = Duration::from_secs(10);
/// Keys in one push.
const LIMITS: Limits = Limits { rows: usize::MAX, bytes: usize::MAX };

impl Feed for Redis {
    fn follow<'a>(
        &'a self,
        tables: &'a [String],
        _: Option<Position>,
        tell: &'a mut (dyn FnMut(Told) + Send),
    ) -> Work<'a, Infallible> {
        Box::pin(async move {
            let mut connection = Connection::open(&self.server).await?;
            if !connection.is_resp3 {
                return Err(unsupported("the server has no RESP3, and so cannot push changes"));
            }
            let mut words = vec!["CLIENT", "TRACKING", "ON", "BCAST"];
            for prefix in outermost(tables) {
                words.extend(["PREFIX", prefix]);
            }
            connection.own(&words).await?.or_error()?;
            tell(Told::Gap);
            tell(Told::Following);
            let names: Arc<[String]> = ["key".to_owned()].into();
            loop {
                connection.send(&[vec![b"PING".to_vec()]]).await?;
                let until = Instant::now() + ASK_EVERY;
                loop {
                    connection.allow(LIMITS);
                    // A reply that has begun to arrive is not given up: the rest of it would make no sense.
                    let reply = match timeout(SILENCE, connection.any()).await {
                        Ok(reply) => reply?,
                        Err(_) => return Err(unreachable("the server has gone silent")),
                    };
                    match reply {
                        Reply::Push(push) => told(push, tables, &names, tell)?,
                        Reply::Error(text) => return Err(unreachable(text)),
                        _ => break,
                    }
                }
                tell(Told::Idle);
                connection.wait_until(until).await?;
            }
        })
    }

    fn remove(&self) -> Work<'_, ()> {
        Box::pin(async { Ok(()) })
    }
}

fn told(
    push: Vec<Reply>,
    tables: &[String],
    names: &Arc<[String]>,
    tell: &mut (dyn FnMut(Told) + Send),
) -> Result<(), Failure> {
    let mut push = push.into_iter();
    if push.next().and_then(|kind| kind.text()).as_deref() != Some("invalidate") {
        return Ok(());
    }
    match push.next() {
        // The whole database was emptied.
        Some(Reply::Null) => tables.iter().for_each(|table| tell(Told::Emptied(table.clone()))),
        Some(Reply::Array(keys)) => {
            for key in keys {
                let Reply::Bulk(key) = key else { return Err(garbled("a push with a key that is none")) };
                for table in tables.iter().filter(|table| key.starts_with(table.as_bytes())) {
                    let cell = match std::str::from_utf8(&key) {
                        Ok(_) => Cell::Text(key.as_slice().into()),
                        Err(_) => Cell::Bytes(key.as_slice().into()),
                    };
                    let named = Named { names: Arc::clone(names), row: [cell].into() };
                    let (before, after) = (Some(named.clone()), Some(named));
                    tell(Told::Changed(Change { table: table.clone(), before, after }));
                }
            }
        }
        _ => return Err(garbled("a push of an unknown form")),
    }
    Ok(())
}

/// Words of which none begins with another: the server takes no others.
fn outermost(words: &[String]) -> Vec<&str> {
    let mut outer: Vec<&str> = words.iter().map(String::as_str).collect();
    outer.sort_unstable();
    outer.dedup();
    let all = outer.clone();
    outer.retain(|word| !all.iter().any(|other| other != word && word.starts_with(other)));
    outer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_do_not_overlap() {
        let words = ["user:a", "user:", "item", "user:"].map(str::to_owned);
        assert_eq!(outermost(&words), ["item", "user:"]);
        assert_eq!(outermost(&["".to_owned(), "a".to_owned()]), [""]);
    }
}
