//! Users: made, changed, shown, removed, and asked what they may.

use super::super::connection::shown_name;
use super::super::save::asker;
use crate::access::opens_channels;
use crate::connection::Closing;
use crate::execute::Host;
use larder_acl::{Changed, DEFAULT, RuleError, Selector, error_text, has_spaces, merge_selectors};
use larder_commands::{Args, Error};
use std::sync::Arc;

/// ACL SETUSER username [rule ...]
pub(super) fn setuser(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    let name = args.get(2);
    if has_spaces(name) {
        return Err(Error::of("ERR Usernames can't contain spaces or null characters"));
    }
    let words: Vec<&[u8]> = args.from(3).collect();
    let rules = merge_selectors(&words).map_err(|at| {
        let word = shown_name(words.get(at).copied().unwrap_or_default());
        Error::custom([b"ERR Unmatched parenthesis in acl selector starting at '", word, b"'."].concat())
    })?;
    let server = host.server();
    let outcome = server.access.users.set(name, &rules, opens_channels(&server.settings()));
    match outcome {
        Ok(changed) => {
            end_subscribers(host, changed.as_slice());
            Ok(())
        }
        Err((at, error)) => Err(wrong_rule(rules.get(at).map_or(&[][..], Vec::as_slice), error)),
    }
}

/// Ends subscribers to what they may not hear any more, and answers OK: once they are gone, where the client can wait for
/// that. One that is among them is still answered.
pub(super) fn end_subscribers(host: &mut Host<'_>, changed: &[Changed]) {
    let is_own = |changed: &&Changed| Arc::ptr_eq(&changed.user, &host.conn.user);
    if changed.iter().find(is_own).is_some_and(|own| host.conn.hears_forbidden(&own.after)) {
        host.conn.closing = Closing::AfterReplies;
    }
    let has_to_wait = changed.iter().any(Changed::takes_channels);
    if has_to_wait && host.conn.closing == Closing::No && !host.conn.is_in_exec {
        let asker = asker(host);
        host.server().end_subscribers(changed, Some(asker));
    } else {
        host.server().end_subscribers(changed, None);
        host.reply().ok();
    }
}

fn wrong_rule(rule: &[u8], error: RuleError) -> Error {
    let text = [b"ERR Error in ACL SETUSER modifier '", shown_name(rule), b"': ", error.text().as_bytes()];
    Error::custom(text.concat())
}

/// ACL GETUSER username
pub(super) fn getuser(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    let user = host.server().access.users.get(args.get(2));
    let mut reply = host.reply();
    let Some(user) = user else {
        reply.null();
        return Ok(());
    };
    let rules = user.rules();
    // As Redis shows it where no database is out of bounds.
    let with_databases = rules.limits_databases();
    reply.map(6 + usize::from(with_databases));
    reply.bulk(b"flags");
    reply.set(rules.flags().count());
    rules.flags().for_each(|flag| reply.bulk(flag.as_bytes()));
    reply.bulk(b"passwords");
    reply.array(rules.passwords().len());
    rules.passwords().iter().for_each(|password| reply.bulk(password.hash()));
    let mut selectors = rules.selectors();
    let mut write = |selector: &Selector, more: &[&Selector], is_first: bool| {
        if !is_first {
            reply.map(3 + usize::from(with_databases));
        }
        reply.bulk(b"commands");
        reply.bulk(&selector.commands_text());
        reply.bulk(b"keys");
        reply.bulk(&selector.keys_text());
        reply.bulk(b"channels");
        reply.bulk(&selector.channels_text());
        if with_databases {
            reply.bulk(b"databases");
            reply.bulk(&selector.databases_text());
        }
        if is_first {
            reply.bulk(b"selectors");
            reply.array(more.len());
        }
    };
    let Some(first) = selectors.next() else { return Ok(()) };
    let more: Vec<&Selector> = selectors.collect();
    write(first, &more, true);
    more.iter().for_each(|selector| write(selector, &[], false));
    Ok(())
}

/// ACL LIST
pub(super) fn list(host: &mut Host<'_>, _: &Args<'_>) -> Result<(), Error> {
    let users = host.server().access.users.all();
    let mut reply = host.reply();
    reply.array(users.len());
    for user in users {
        reply.bulk(&[b"user ", user.name(), b" ", &user.rules().describe()].concat());
    }
    Ok(())
}

/// ACL USERS
pub(super) fn users(host: &mut Host<'_>, _: &Args<'_>) -> Result<(), Error> {
    let users = host.server().access.users.all();
    let mut reply = host.reply();
    reply.array(users.len());
    users.iter().for_each(|user| reply.bulk(user.name()));
    Ok(())
}

/// ACL DELUSER username [username ...]
pub(super) fn deluser(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    if args.from(2).any(|name| name == DEFAULT) {
        return Err(Error::of("ERR The 'default' user cannot be removed"));
    }
    let server = host.server();
    let gone: Vec<_> = args.from(2).filter_map(|name| server.access.users.remove(name)).collect();
    if server.end_connections(&gone, host.conn.client.id) {
        host.conn.closing = Closing::AfterReplies;
    }
    host.reply().count(gone.len());
    Ok(())
}

/// ACL DRYRUN username command [arg ...]
pub(super) fn dryrun(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    let server = host.server();
    let named = |before: &str, word: &[u8], after: &str| {
        Error::custom([before.as_bytes(), shown_name(word), after.as_bytes()].concat())
    };
    let user = server.access.users.get(args.get(2));
    let user = user.ok_or_else(|| named("ERR User '", args.get(2), "' not found"))?;
    let catalog = server.registry.catalog();
    let id = catalog.find_line(args.from(3));
    let id = id.ok_or_else(|| named("ERR Command '", args.get(3), "' not found"))?;
    let line = args.tail(3);
    if !catalog.spec(id).is_some_and(|spec| spec.takes(line.len())) {
        return Err(Error::arity(catalog.name(id)));
    }
    match user.check(catalog, id, &line, host.conn.db.0) {
        Ok(()) => host.reply().ok(),
        Err(denied) => {
            let text = error_text(catalog, user.name(), id, denied, Some(line.get(denied.word())));
            host.reply().bulk(&text);
        }
    }
    Ok(())
}
