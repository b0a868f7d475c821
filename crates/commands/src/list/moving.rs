//! From one list to another, or from one end of a list to the other: LMOVE, RPOPLPUSH.

use super::pop::TAKEN;
use super::{ReplyElement, announce_taken, end, end_arg, limit, pushed};
use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::spec::{Acl, Arg, Command, Flags, Group, KeyFlags, KeySpec, Run, Spec};
use larder_values::collection::Collection;
use larder_values::list::{End, List};
use larder_values::packed::Element;

pub(super) const SPEC: Spec = Spec {
    group: Group::List,
    complexity: "O(1)",
    flags: Flags::WRITE.or(Flags::DENY_OOM),
    acl: Acl::LIST,
    keys: &[KeySpec::at(1, TAKEN), KeySpec::at(2, KeyFlags::RW.or(KeyFlags::INSERT))],
    ..Spec::EMPTY
};

pub(super) const SOURCE: Arg = Arg::key("source", 0);
pub(super) const DESTINATION: Arg = Arg::key("destination", 1);
pub(super) const FROM: Arg = end_arg("wherefrom");
pub(super) const TO: Arg = end_arg("whereto");

/// `LMOVE source destination <LEFT | RIGHT> <LEFT | RIGHT>`
pub static LMOVE: Command = Command {
    spec: Spec {
        name: "lmove",
        summary: "Takes an element from an end of a list, puts it at an end of another and answers it.",
        since: "6.2.0",
        arity: 5,
        args: &[SOURCE, DESTINATION, FROM, TO],
        ..SPEC
    },
    run: Run::Keys(|cx, args| {
        let ends = (end(args, 3)?, end(args, 4)?);
        move_or_null(cx, args, ends)
    }),
    subcommands: &[],
};

/// `RPOPLPUSH source destination`
pub static RPOPLPUSH: Command = Command {
    spec: Spec {
        name: "rpoplpush",
        summary: "Takes the last element of a list, puts it in front of another and answers it.",
        since: "1.2.0",
        arity: 3,
        args: &[SOURCE, DESTINATION],
        deprecated: Some(("6.2.0", "`LMOVE` with the `RIGHT` and `LEFT` arguments")),
        ..SPEC
    },
    run: Run::Keys(|cx, args| move_or_null(cx, args, (End::Tail, End::Head))),
    subcommands: &[],
};

fn move_or_null(cx: &mut Ctx<'_>, args: &Args<'_>, ends: (End, End)) -> Result<(), Error> {
    if !move_one(cx, args, ends)? {
        cx.reply.null();
    }
    Ok(())
}

/// Moves one element between the lists at words 1 and 2 and answers it; false, with nothing answered, if
/// there is no source.
pub(super) fn move_one(cx: &mut Ctx<'_>, args: &Args<'_>, ends: (End, End)) -> Result<bool, Error> {
    let (source, destination) = (cx.key(args, 1), cx.key(args, 2));
    if cx.db.peek_as::<List>(&source)?.is_none() {
        return Ok(false);
    }
    let (limit, (from, to)) = (limit(cx.limits), ends);
    if source.bytes == destination.bytes {
        let reply = &mut cx.reply;
        cx.db.edit::<List, _>(&source, |list| {
            list.rotate(limit, from, to, |element| reply.element(element))
        })?;
        cx.db.notify(&destination, pushed(to));
        announce_taken(cx, &source, from, 1, false);
        return Ok(true);
    }
    cx.db.peek_as::<List>(&destination)?;
    let mut text = std::mem::take(&mut cx.db.local.scratch);
    let taken = cx.db.edit::<List, _>(&source, |list| {
        let (from_quick, mut integer) = (list.view().is_quick(), None);
        list.pop(limit, from, 1, |element| match element {
            Element::Int(value) => integer = Some(value),
            Element::Bytes(bytes) => text.extend_from_slice(bytes),
        });
        (from_quick, integer)
    })?;
    let Some(taken) = taken else { return Ok(false) };
    let (from_quick, integer) = taken.value;
    let element = integer.map_or(Element::Bytes(&text), Element::Int);
    cx.db.edit_or_create::<List, _>(&destination, |list| list.push_taken(limit, to, element, from_quick))?;
    // To take it and to put it are one change.
    cx.db.notify(&destination, pushed(to));
    announce_taken(cx, &source, from, 1, taken.emptied);
    cx.reply.element(element);
    text.clear();
    cx.db.local.scratch = text;
    Ok(true)
}
