//! CACHE WARM: a route brought in whole before anybody asks.

use super::sources::{answer_later, find_source};
use super::{CATEGORIES, FLAGS, SINCE, count};
use crate::execute::Host;
use crate::registry::{HostCommand, HostRun};
use crate::{clock, through};
use larder_commands::spec::{Arg, Flags, Group};
use larder_commands::{Args, Error, Spec};
use larder_resp::Reply;
use larder_values::number;

/// `CACHE WARM pattern [LIMIT count]`
pub(super) static WARM: HostCommand = HostCommand {
    spec: Spec {
        name: "warm",
        summary: "Has all keys of a route fetched that are not there, by the route's statement for it.",
        since: SINCE,
        group: Group::Server,
        complexity: "O(N) where N is the number of rows, in the background",
        arity: -3,
        flags: FLAGS.or(Flags::ADMIN).or(Flags::NO_MULTI).or(Flags::NO_SCRIPT),
        acl: CATEGORIES,
        args: &[Arg::string("pattern"), Arg::integer("count").token("LIMIT").optional()],
        tips: &["nondeterministic_output"],
        ..Spec::EMPTY
    },
    run: HostRun::Host(warm),
    subcommands: &[],
};

fn warm(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    let limit = match args.len() {
        3 => None,
        5 if args.is(3, b"limit") => {
            let limit = number::parse_i64(args.get(4)).ok_or(Error::NotAnInteger)?;
            let positive = u64::try_from(limit).ok().filter(|limit| *limit > 0);
            Some(positive.ok_or_else(|| Error::of("ERR LIMIT must be positive"))?)
        }
        _ => return Err(Error::Syntax),
    };
    let routes = host.server().through.routes();
    let route = routes.all().iter().find(|route| route.pattern.text().as_bytes() == args.get(2)).cloned();
    let Some(route) = route else {
        return Err(Error::of(
            "ERR there is no route with this pattern; CACHE ROUTE LIST shows those there are",
        ));
    };
    let source = find_source(host, &route.source)?;
    answer_later(host, move |server| async move {
        let start = clock::now();
        let warmed = through::warm(server, route, &source, limit).await?;
        let millis = start.elapsed().as_millis() as u64;
        Ok(Box::new(move |reply: &mut Reply<'_>| {
            reply.map(4);
            count(reply, "rows", warmed.rows);
            count(reply, "kept", warmed.kept);
            count(reply, "milliseconds", millis);
            reply.bulk(b"ended");
            reply.bulk(if warmed.is_full { b"memory is full" } else { b"all is done" });
        }) as _)
    })
}
