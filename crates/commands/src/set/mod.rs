//! Sets: distinct members under a key, and what several sets have in common.
//!
//! Invariant: an emptied set leaves no key, which the store sees to; the command announces it.
//! Read next: `members.rs`, then `combine.rs` (several sets at once).

mod combine;
mod members;
mod random;
mod scan;

use crate::cx::Limits;
use crate::spec::Command;
use larder_resp::Reply;
use larder_values::packed::Element;
use larder_values::{number, set};

/// The limits of the forms of sets.
pub(crate) fn limits(limits: &Limits) -> set::Limits {
    set::Limits { ints_max: limits.set_integers_max, packed: limits.set_packed }
}

/// Answers a member.
#[inline]
fn answer_member(reply: &mut Reply<'_>, member: Element<'_>) {
    match member {
        Element::Bytes(bytes) => reply.bulk(bytes),
        Element::Int(value) => reply.bulk_integer(value),
    }
}

/// Scratch memory that a thread keeps.
const SCRATCH_BYTES_MAX: usize = 1 << 20;

/// Members that are counted before they are answered, already in the form of the reply.
struct Collected {
    count: usize,
    encoded: Vec<u8>,
}

impl Collected {
    /// None yet. `scratch` is empty.
    fn new(scratch: Vec<u8>) -> Collected {
        Collected { count: 0, encoded: scratch }
    }

    #[inline]
    fn push(&mut self, member: Element<'_>) {
        self.count += 1;
        self.encoded.push(b'$');
        number::write_u64(&mut self.encoded, member.len() as u64);
        self.encoded.extend_from_slice(b"\r\n");
        member.write_to(&mut self.encoded);
        self.encoded.extend_from_slice(b"\r\n");
    }

    /// Answers them as a set.
    fn answer(&self, reply: &mut Reply<'_>) {
        reply.set(self.count);
        reply.raw(&self.encoded);
    }

    /// The scratch memory, unless it has become large.
    fn into_scratch(mut self) -> Vec<u8> {
        self.encoded.clear();
        self.encoded.shrink_to(SCRATCH_BYTES_MAX);
        self.encoded
    }
}

/// The set commands, by name.
pub static COMMANDS: &[&Command] = &[
    &members::SADD,
    &members::SCARD,
    &combine::SDIFF,
    &combine::SDIFFSTORE,
    &combine::SINTER,
    &combine::SINTERCARD,
    &combine::SINTERSTORE,
    &members::SISMEMBER,
    &members::SMEMBERS,
    &members::SMISMEMBER,
    &members::SMOVE,
    &random::SPOP,
    &random::SRANDMEMBER,
    &members::SREM,
    &scan::SSCAN,
    &combine::SUNION,
    &combine::SUNIONSTORE,
];
