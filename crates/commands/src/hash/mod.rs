//! Hashes: fields with values under one key, each field with an end of its own if it was given one.
//!
//! Invariants: every command parses all of its words before it changes anything. A field whose time has
//! come is absent for every command; only HLEN counts it until it is removed. Who meets one on the way
//! removes and announces it, in `announce.rs`.
//! Read next: `get.rs` and `set.rs` (the hot path), `fields.rs` (the grammar of commands on fields with
//! ends), then any other.

mod announce;
mod counter;
mod delete;
mod expire;
mod fields;
mod get;
mod getex;
mod random;
mod scan;
mod set;
mod setex;
mod ttl;

use crate::spec::{Arg, Command, KeyFlags, KeySpec};
pub(crate) use announce::remove_due;
use larder_resp::Reply;
use larder_values::packed::Element;

/// The hash commands, by name.
pub static COMMANDS: &[&Command] = &[
    &delete::HDEL,
    &get::HEXISTS,
    &expire::HEXPIRE,
    &expire::HEXPIREAT,
    &ttl::HEXPIRETIME,
    &get::HGET,
    &get::HGETALL,
    &delete::HGETDEL,
    &getex::HGETEX,
    &counter::HINCRBY,
    &counter::HINCRBYFLOAT,
    &get::HKEYS,
    &get::HLEN,
    &get::HMGET,
    &set::HMSET,
    &expire::HPERSIST,
    &expire::HPEXPIRE,
    &expire::HPEXPIREAT,
    &ttl::HPEXPIRETIME,
    &ttl::HPTTL,
    &random::HRANDFIELD,
    &scan::HSCAN,
    &set::HSET,
    &setex::HSETEX,
    &set::HSETNX,
    &get::HSTRLEN,
    &ttl::HTTL,
    &get::HVALS,
];

/// One key whose value is answered from.
static ACCESS_ONE: &[KeySpec] = &[KeySpec::at(1, KeyFlags::RO.or(KeyFlags::ACCESS))];
/// One key of which something beside its values is told.
static LOOK_ONE: &[KeySpec] = &[KeySpec::at(1, KeyFlags::RO)];
/// One key whose fields are changed.
static UPDATE_ONE: &[KeySpec] = &[KeySpec::at(1, KeyFlags::RW.or(KeyFlags::UPDATE))];
/// One key of which a value is changed and answered.
static ACCESS_AND_UPDATE_ONE: &[KeySpec] =
    &[KeySpec::at(1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::UPDATE))];

/// The grammar of a command on a whole hash.
static KEY: &[Arg] = &[Arg::key("key", 0)];
/// The grammar of a command on one field.
static KEY_FIELD: &[Arg] = &[Arg::key("key", 0), Arg::string("field")];
/// The grammar of a command on any number of fields.
static KEY_FIELDS: &[Arg] = &[Arg::key("key", 0), Arg::string("field").multiple()];
/// A field with its value.
static PAIR: &[Arg] = &[Arg::string("field"), Arg::string("value")];

/// Answers an element as a bulk string.
#[inline]
fn bulk(reply: &mut Reply<'_>, element: Element<'_>) {
    match element {
        Element::Bytes(bytes) => reply.bulk(bytes),
        Element::Int(integer) => reply.bulk_integer(integer),
    }
}

/// Answers an element as a bulk string, or null where there is none.
#[inline]
fn bulk_or_null(reply: &mut Reply<'_>, element: Option<Element<'_>>) {
    match element {
        Some(element) => bulk(reply, element),
        None => reply.null(),
    }
}
