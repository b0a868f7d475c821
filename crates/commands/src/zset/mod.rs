//! Commands on sorted sets: members with scores, in the order of the scores.
//!
//! A range of members, whatever names it, is found as a range of ranks; all else follows from that.
//! Read next: `add.rs`, then `range.rs` (every form of ZRANGE), `combine.rs` (unions and the like).

mod add;
mod block;
mod combine;
mod lookup;
mod pop;
mod random;
mod range;
mod range_specs;
mod remove;
mod reply;
mod scan;

#[cfg(test)]
mod tests;

use crate::spec::Command;
pub(crate) use add::{Options, Pair, add_pairs};
pub(crate) use combine::store;
use larder_store::{Db, Event, Hashed};
pub(crate) use reply::ReplyMember;

/// Announces that `count` members changed; nothing where there is none. Redis counts each of them.
pub(crate) fn changed(db: &mut Db<'_>, key: &Hashed<'_>, event: Event, count: usize) {
    if count > 0 {
        db.changed(key, event);
        db.local.effects.changed_many(count as u64 - 1);
    }
}

/// The family.
pub static COMMANDS: &[&Command] = &[
    &block::BZMPOP,
    &block::BZPOPMAX,
    &block::BZPOPMIN,
    &add::ZADD,
    &lookup::ZCARD,
    &lookup::ZCOUNT,
    &combine::ZDIFF,
    &combine::ZDIFFSTORE,
    &add::ZINCRBY,
    &combine::ZINTER,
    &combine::ZINTERCARD,
    &combine::ZINTERSTORE,
    &lookup::ZLEXCOUNT,
    &pop::ZMPOP,
    &lookup::ZMSCORE,
    &pop::ZPOPMAX,
    &pop::ZPOPMIN,
    &random::ZRANDMEMBER,
    &range_specs::ZRANGE,
    &range_specs::ZRANGEBYLEX,
    &range_specs::ZRANGEBYSCORE,
    &range_specs::ZRANGESTORE,
    &lookup::ZRANK,
    &remove::ZREM,
    &remove::ZREMRANGEBYLEX,
    &remove::ZREMRANGEBYRANK,
    &remove::ZREMRANGEBYSCORE,
    &range_specs::ZREVRANGE,
    &range_specs::ZREVRANGEBYLEX,
    &range_specs::ZREVRANGEBYSCORE,
    &lookup::ZREVRANK,
    &scan::ZSCAN,
    &lookup::ZSCORE,
    &combine::ZUNION,
    &combine::ZUNIONSTORE,
];
