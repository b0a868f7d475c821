//! CLIENT KILL: closes connections chosen by address or by filters.

use super::filter::{Asking, Filter};
use crate::connection::Closing;
use crate::execute::Host;
use larder_commands::{Args, Error};

/// CLIENT KILL ip:port | filter value [filter value ...]
pub(super) fn kill(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    if args.len() == 3 {
        if close(host, &Filter::of_address(args.get(2))) == 0 {
            return Err(Error::of("ERR No such client"));
        }
        host.reply().ok();
        return Ok(());
    }
    let filter = Filter::parse(host, args, Asking::Kill)?;
    let closed = close(host, &filter);
    host.reply().count(closed);
    Ok(())
}

/// Closes the connections that pass; our own only once its reply is out. Answers how many.
fn close(host: &mut Host<'_>, filter: &Filter<'_>) -> usize {
    let (now, me) = (host.core.local.now.0, host.conn.client.id);
    let mut closed = 0;
    for client in host.server().clients.all() {
        if !filter.has(&client, now, me) {
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
