//! The commands of memcached's protocol, on the same strings as those of the string family.
//!
//! They are the subcommands of a container that no client of Redis' protocol can name: users' rules and statistics can. Words come
//! as `larder_resp::memcached` orders them; replies are memcached's, and so are errors, whoever makes them.
//!
//! What a key holds that is no string is not shown and not overwritten by what would keep it (`add`, `append`, `incr`); `set`
//! replaces it, as SET does. Read next: `get.rs`, `store.rs`, then the meta commands.

mod arithmetic;
mod end;
mod get;
mod keys;
mod meta_delete;
mod meta_get;
mod meta_set;
mod reply;
mod store;

use crate::args::Args;
use crate::spec::{Acl, Command, Flags, Group, KeyFlags, KeySpec, Run, Spec};
pub use keys::CLASS;

/// All of them.
pub static MEMCACHED: Command = Command {
    spec: Spec {
        name: "memcached",
        summary: "Groups the commands of memcached's protocol, which only its port takes.",
        since: SINCE,
        group: Group::String,
        arity: -2,
        ..Spec::EMPTY
    },
    run: Run::Container,
    subcommands: &[
        &store::ADD,
        &store::APPEND,
        &store::CAS,
        &arithmetic::DECR,
        &store::DELETE,
        &store::FLUSH_ALL,
        &get::GAT,
        &get::GAT_MANY,
        &get::GET,
        &get::GET_MANY,
        &arithmetic::INCR,
        &arithmetic::MA,
        &meta_delete::MD,
        &meta_delete::MD_STALE,
        &meta_get::ME,
        &meta_get::MG,
        &meta_get::MG_TOUCH,
        &meta_get::MG_VIVIFY,
        &meta_set::MS,
        &store::PREPEND,
        &store::REPLACE,
        &store::SET,
        &store::SET_TOO_LARGE,
        &keys::STATS_KEYS,
        &store::TOUCH,
    ],
};

/// The version of Larder that had them first.
const SINCE: &str = "0.1.0";

const WRITES: Spec = Spec {
    since: SINCE,
    group: Group::String,
    flags: Flags::WRITE.or(Flags::FAST),
    acl: Acl::STRING,
    keys: &[KeySpec::at(1, KeyFlags::RW.or(KeyFlags::UPDATE))],
    ..Spec::EMPTY
};

const STORES: Spec = Spec { flags: WRITES.flags.or(Flags::DENY_OOM), ..WRITES };

const READS: Spec = Spec {
    flags: Flags::READONLY.or(Flags::FAST),
    keys: &[KeySpec::at(1, KeyFlags::RO.or(KeyFlags::ACCESS))],
    ..WRITES
};

/// Whether a command asks that nothing be answered, errors of any kind included. `name` is the command's own word.
pub fn is_quiet(name: &[u8], args: &Args<'_>) -> bool {
    let words = match name {
        b"set" | b"add" | b"replace" | b"append" | b"prepend" => 5,
        b"cas" => 6,
        b"incr" | b"decr" | b"touch" => 3,
        b"delete" | b"set-too-large" => 2,
        b"flush_all" => return args.len() > 1 && args.get(args.len() - 1) == b"noreply",
        b"verbosity" => 1,
        _ => return false,
    };
    args.len() > words
}
