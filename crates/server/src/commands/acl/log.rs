//! ACL LOG: what was denied lately.

use super::super::help::misused;
use crate::execute::Host;
use larder_commands::{Args, Error};
use larder_values::number;

/// Entries shown when it is not told how many.
const SHOWN: usize = 10;

/// ACL LOG [count | RESET]
pub(super) fn log(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    let shown = match args.len() {
        2 => SHOWN,
        3 if args.is(2, b"reset") => {
            host.server().access.log.lock().reset();
            host.reply().ok();
            return Ok(());
        }
        3 => usize::try_from(number::parse_i64(args.get(2)).ok_or(Error::NotAnInteger)?.max(0))
            .unwrap_or(usize::MAX),
        _ => return Err(misused("ACL", args.get(1))),
    };
    let now_ms = host.core.local.now.0;
    let entries: Vec<_> = host.server().access.log.lock().entries().take(shown).cloned().collect();
    let mut reply = host.reply();
    reply.array(entries.len());
    for entry in entries {
        reply.map(10);
        reply.bulk(b"count");
        reply.integer(entry.count as i64);
        for (name, text) in [
            (&b"reason"[..], entry.reason.name().as_bytes()),
            (b"context", entry.context.name().as_bytes()),
            (b"object", &entry.object),
            (b"username", &entry.user),
        ] {
            reply.bulk(name);
            reply.bulk(text);
        }
        reply.bulk(b"age-seconds");
        let mut age = Vec::new();
        number::write_f64(&mut age, now_ms.saturating_sub(entry.updated_ms) as f64 / 1000.0);
        reply.double_text(&age);
        reply.bulk(b"client-info");
        reply.bulk(&entry.client);
        for (name, number) in [
            (&b"entry-id"[..], entry.id),
            (b"timestamp-created", entry.created_ms),
            (b"timestamp-last-updated", entry.updated_ms),
        ] {
            reply.bulk(name);
            reply.integer(number as i64);
        }
    }
    Ok(())
}
