//! CLIENT KILL: closes connections chosen by address or by filters.

use super::super::connection::shown_name;
use super::list::{Kind, kind_of};
use crate::clients::Client;
use crate::connection::Closing;
use crate::execute::Host;
use larder_commands::{Args, Error};
use larder_values::number;

/// Which connections are closed; an absent filter lets all pass.
#[derive(Debug, Default)]
struct Filter<'a> {
    id: Option<u64>,
    kind: Option<Kind>,
    user: Option<&'a [u8]>,
    address: Option<&'a [u8]>,
    local_address: Option<&'a [u8]>,
    age_secs_min: Option<u64>,
}

impl Filter<'_> {
    fn has(&self, client: &Client, now_ms: u64) -> bool {
        let age_secs = now_ms.saturating_sub(client.created_ms) / 1000;
        self.id.is_none_or(|id| id == client.id)
            && self.kind.is_none_or(|kind| kind.has(client))
            && self.user.is_none_or(|user| client.names.lock().user.name() == user)
            && self.address.is_none_or(|address| client.address.as_bytes() == address)
            && self.local_address.is_none_or(|address| client.local_address.as_bytes() == address)
            && self.age_secs_min.is_none_or(|age| age_secs >= age)
    }
}

/// CLIENT KILL ip:port | filter value [filter value ...]
pub(super) fn kill(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    if args.len() == 3 {
        let filter = Filter { address: Some(args.get(2)), ..Filter::default() };
        if close(host, &filter, false) == 0 {
            return Err(Error::of("ERR No such client"));
        }
        host.reply().ok();
        return Ok(());
    }
    let (filter, skip_me) = parse(host, args)?;
    let closed = close(host, &filter, skip_me);
    host.reply().count(closed);
    Ok(())
}

fn parse<'a>(host: &Host<'_>, args: &Args<'a>) -> Result<(Filter<'a>, bool), Error> {
    let (mut filter, mut skip_me) = (Filter::default(), true);
    let mut at = 2;
    while at < args.len() {
        let Some(value) = args.try_get(at + 1) else { return Err(Error::Syntax) };
        if args.is(at, b"id") {
            let id = number::parse_i64(value).and_then(|id| u64::try_from(id).ok()).filter(|id| *id > 0);
            filter.id = Some(id.ok_or(Error::of("ERR client-id should be greater than 0"))?);
        } else if args.is(at, b"maxage") {
            let age =
                number::parse_i64(value).ok_or(Error::of("ERR maxage is not an integer or out of range"))?;
            let age = u64::try_from(age).ok().filter(|age| *age > 0);
            filter.age_secs_min = Some(age.ok_or(Error::of("ERR maxage should be greater than 0"))?);
        } else if args.is(at, b"type") {
            filter.kind = Some(kind_of(value)?);
        } else if args.is(at, b"addr") {
            filter.address = Some(value);
        } else if args.is(at, b"laddr") {
            filter.local_address = Some(value);
        } else if args.is(at, b"user") {
            if host.server().access.users.get(value).is_none() {
                let mut text = b"ERR No such user '".to_vec();
                text.extend_from_slice(shown_name(value));
                text.push(b'\'');
                return Err(Error::custom(text));
            }
            filter.user = Some(value);
        } else if args.is(at, b"skipme") {
            skip_me = match value {
                yes if yes.eq_ignore_ascii_case(b"yes") => true,
                no if no.eq_ignore_ascii_case(b"no") => false,
                _ => return Err(Error::Syntax),
            };
        } else {
            return Err(Error::Syntax);
        }
        at += 2;
    }
    Ok((filter, skip_me))
}

/// Closes the connections that pass; our own only once its reply is out. Answers how many.
fn close(host: &mut Host<'_>, filter: &Filter<'_>, skip_me: bool) -> usize {
    let (now, me) = (host.core.local.now.0, host.conn.client.id);
    let mut closed = 0;
    for client in host.server().clients.all() {
        if !filter.has(&client, now) || (skip_me && client.id == me) {
            continue;
        }
        closed += 1;
        if client.id == me {
            host.conn.closing = Closing::AfterReplies;
        } else {
            // Gone for everybody from here on, though its worker closes it a little later.
            host.server().clients.remove(client.id);
            host.server().blocked.take(client.id);
            host.server().ask_to_close(&client);
        }
    }
    closed
}
