//! Listing keys, for memcached's tools: memcdump and whatever shows what is in a cache.

use super::SINCE;
use super::reply;
use crate::args::Args;
use crate::cx::KeyspaceCtx;
use crate::error::Error;
use crate::spec::{Acl, Command, Flags, Group, Run, Spec};
use larder_resp::memcached::{KEY_BYTES_MAX, parse_u64};
use larder_store::{Item, Type};

/// The class of sizes that all items are told to be of: there are none.
pub const CLASS: u64 = 1;
/// Longest answer, in bytes, as in memcached: who needs all keys of a large cache asks SCAN.
const ANSWER_BYTES_MAX: usize = 2 * 1024 * 1024;
/// About what a line takes beside its key.
const LINE_BYTES: usize = 32;

/// `stats cachedump class limit`
pub(super) static STATS_KEYS: Command = Command {
    spec: Spec {
        name: "stats-keys",
        summary: "Lists keys, with the lengths of their values and when they end.",
        since: SINCE,
        group: Group::Server,
        complexity: "O(N) where N is the number of keys, until two megabytes are answered.",
        arity: -4,
        flags: Flags::READONLY,
        acl: Acl::KEYSPACE.or(Acl::DANGEROUS),
        ..Spec::EMPTY
    },
    run: Run::Keyspace(list),
    subcommands: &[],
};

fn list(cx: &mut KeyspaceCtx<'_>, args: &Args<'_>) -> Result<(), Error> {
    if parse_u64(args.get(2)) == Some(CLASS) {
        list_all(cx, parse_u64(args.get(3)).filter(|limit| *limit > 0).unwrap_or(u64::MAX));
    }
    cx.reply.raw(b"END\r\n");
    Ok(())
}

/// Lists so many keys at most.
fn list_all(cx: &mut KeyspaceCtx<'_>, mut left: u64) {
    let (mut bytes_left, mut cursor) = (ANSWER_BYTES_MAX, 0);
    loop {
        let reply = &mut cx.reply;
        cursor = cx.keyspace.scan(cx.db, cursor, cx.local.now, &mut |item| {
            let Some(len) = shown_len(&item).filter(|_| left > 0 && bytes_left > 0) else { return };
            reply.raw(b"ITEM ");
            reply.raw(item.key());
            reply.raw(b" [");
            reply::number(reply, len as u64);
            reply.raw(b" b; ");
            reply::number(reply, item.deadline().map_or(0, |end| end.0.div_ceil(1000)));
            reply.raw(b" s]\r\n");
            left -= 1;
            bytes_left = bytes_left.saturating_sub(item.key().len() + LINE_BYTES);
        });
        if cursor == 0 || left == 0 || bytes_left == 0 {
            return;
        }
    }
}

/// How long the value of an item is that a client of memcached can ask for: a string, by a name that a line can hold.
fn shown_len(item: &Item<'_>) -> Option<usize> {
    let key = item.key();
    let ends_a_word = |byte: &u8| matches!(byte, b' ' | b'\r' | b'\n');
    let can_be_named = (1..=KEY_BYTES_MAX).contains(&key.len()) && !key.iter().any(ends_a_word);
    (can_be_named && item.value_type() == Type::String).then(|| item.string().map_or(0, |value| value.len()))
}
