//! Pieces of memcached's replies.

use crate::args::Args;
use larder_resp::{Reply, memcached};
use larder_store::Str;
use std::sync::Arc;

/// A value at least this long is sent from where it lies.
const SHARED_BYTES_MIN: usize = 16 * 1024;

/// A value and the end of its line.
#[inline]
pub(super) fn value(reply: &mut Reply<'_>, value: &Str<'_>) {
    match value {
        Str::Blob(blob) if blob.len() >= SHARED_BYTES_MIN => reply.output().push_blob(Arc::clone(blob)),
        value => value.write_to(reply.output().bytes_mut()),
    }
    reply.raw(b"\r\n");
}

/// A number.
#[inline]
pub(super) fn number(reply: &mut Reply<'_>, number: u64) {
    larder_values::number::write_u64(reply.output().bytes_mut(), number);
}

/// A letter and a number, with a blank before them.
pub(super) fn flag(reply: &mut Reply<'_>, letter: u8, value: i64) {
    reply.raw(&[b' ', letter]);
    larder_values::number::write_i64(reply.output().bytes_mut(), value);
}

/// The same of a number without a sign.
pub(super) fn flag_unsigned(reply: &mut Reply<'_>, letter: u8, value: u64) {
    reply.raw(&[b' ', letter]);
    number(reply, value);
}

/// What is answered of flags that say nothing of the value: the key, and what the client calls its request. False for any
/// other.
pub(super) fn echo(reply: &mut Reply<'_>, args: &Args<'_>, flag: &[u8], is_encoded: bool) -> bool {
    match flag.first() {
        Some(b'k') => {
            reply.raw(b" k");
            if is_encoded {
                memcached::encode(args.get(1), reply.output().bytes_mut());
                reply.raw(b" b");
            } else {
                reply.raw(args.get(1));
            }
        }
        Some(b'O') => {
            reply.raw(b" ");
            reply.raw(flag);
        }
        _ => return false,
    }
    true
}

/// A line of a code and of what is echoed.
pub(super) fn plain_line(
    reply: &mut Reply<'_>,
    args: &Args<'_>,
    flags_from: usize,
    code: &[u8],
    is_encoded: bool,
) {
    reply.raw(code);
    for flag in args.from(flags_from) {
        echo(reply, args, flag, is_encoded);
    }
    reply.raw(b"\r\n");
}
