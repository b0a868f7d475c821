//! Adding elements at an end: LPUSH, RPUSH, and LPUSHX, RPUSHX where there is a list already.

use super::{limit, pushed};
use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::spec::{Acl, Arg, Command, Flags, Group, KeyFlags, KeySpec, Run, Spec};
use larder_values::list::{End, Limit, List};

const SPEC: Spec = Spec {
    group: Group::List,
    complexity: "O(N), N elements added.",
    arity: -3,
    flags: Flags::WRITE.or(Flags::DENY_OOM).or(Flags::FAST),
    acl: Acl::LIST,
    keys: &[KeySpec::at(1, KeyFlags::RW.or(KeyFlags::INSERT))],
    args: &[Arg::key("key", 0), Arg::string("element").multiple()],
    ..Spec::EMPTY
};

/// `LPUSH key element [element ...]`
pub static LPUSH: Command = Command {
    spec: Spec {
        name: "lpush",
        summary: "Puts elements in front of a list, one after the other; makes the list if there is none.",
        since: "1.0.0",
        history: &[("2.4.0", "Takes several elements.")],
        ..SPEC
    },
    run: Run::Keys(|cx, args| push(cx, args, End::Head)),
    subcommands: &[],
};

/// `RPUSH key element [element ...]`
pub static RPUSH: Command = Command {
    spec: Spec {
        name: "rpush",
        summary: "Puts elements behind a list, one after the other; makes the list if there is none.",
        since: "1.0.0",
        history: &[("2.4.0", "Takes several elements.")],
        ..SPEC
    },
    run: Run::Keys(|cx, args| push(cx, args, End::Tail)),
    subcommands: &[],
};

/// `LPUSHX key element [element ...]`
pub static LPUSHX: Command = Command {
    spec: Spec {
        name: "lpushx",
        summary: "Puts elements in front of a list that exists.",
        since: "2.2.0",
        history: &[("4.0.0", "Takes several elements.")],
        ..SPEC
    },
    run: Run::Keys(|cx, args| push_to_present(cx, args, End::Head)),
    subcommands: &[],
};

/// `RPUSHX key element [element ...]`
pub static RPUSHX: Command = Command {
    spec: Spec {
        name: "rpushx",
        summary: "Puts elements behind a list that exists.",
        since: "2.2.0",
        history: &[("4.0.0", "Takes several elements.")],
        ..SPEC
    },
    run: Run::Keys(|cx, args| push_to_present(cx, args, End::Tail)),
    subcommands: &[],
};

fn push(cx: &mut Ctx<'_>, args: &Args<'_>, end: End) -> Result<(), Error> {
    let (key, limit) = (cx.key(args, 1), limit(cx.limits));
    let len = cx.db.edit_or_create::<List, _>(&key, |list| add(list, limit, end, args))?.value;
    finish(cx, args, end, len);
    Ok(())
}

fn push_to_present(cx: &mut Ctx<'_>, args: &Args<'_>, end: End) -> Result<(), Error> {
    let (key, limit) = (cx.key(args, 1), limit(cx.limits));
    match cx.db.edit::<List, _>(&key, |list| add(list, limit, end, args))? {
        Some(edited) => finish(cx, args, end, edited.value),
        None => cx.reply.integer(0),
    }
    Ok(())
}

/// Adds the words from the third on; how many elements there are then.
#[inline]
fn add(list: &mut List, limit: Limit, end: End, args: &Args<'_>) -> usize {
    let elements = args.from(2);
    list.make_room(limit, elements.clone().map(<[u8]>::len).sum(), elements.len());
    elements.for_each(|element| list.push(end, element));
    list.len()
}

fn finish(cx: &mut Ctx<'_>, args: &Args<'_>, end: End, len: usize) {
    let key = cx.key(args, 1);
    super::announce(cx, &key, pushed(end), args.len() - 2, false);
    cx.reply.count(len);
}
