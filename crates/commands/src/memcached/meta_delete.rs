//! md: removes a key, or with `I` keeps its value as a stale one.

use super::WRITES;
use super::end::End;
use super::reply::plain_line;
use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::spec::{Command, KeyFlags, KeySpec, Run, Spec};
use larder_resp::memcached::Meta;
use larder_store::{Event, Note, Removal};

/// `md key flag...`
pub(super) static MD: Command = Command {
    spec: Spec {
        name: "md",
        summary: "Removes a key, whatever it holds.",
        arity: -2,
        keys: &[KeySpec::at(1, KeyFlags::RM.or(KeyFlags::DELETE))],
        ..WRITES
    },
    run: Run::Keys(md),
    subcommands: &[],
};

/// `md` with `I`
pub(super) static MD_STALE: Command = Command {
    spec: Spec {
        name: "md-stale",
        summary: "Says that a value is stale; of those who read it one is told to make it anew.",
        arity: -2,
        ..WRITES
    },
    run: Run::Keys(md),
    subcommands: &[],
};

fn md(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let meta = Meta::read(2, args.from(2)).unwrap_or_default();
    let key = cx.key(args, 1);
    let found = cx.db.peek(&key).map(|item| (item.note().unwrap_or_default(), item.string().is_ok()));
    let code: &[u8] = match found {
        None => b"NF",
        // There is nothing to mark.
        Some((_, false)) if meta.invalidates => b"NF",
        Some((note, _)) if meta.compare.is_some_and(|compare| compare == 0 || compare != note.unique) => {
            b"EX"
        }
        Some((note, _)) if meta.invalidates => {
            // Another version: what is set by somebody who read the one before is set as a stale one.
            let unique = meta.unique.unwrap_or_else(|| cx.db.next_unique());
            cx.db.set_note(&key, Note { is_stale: true, is_promised: false, unique, ..note });
            cx.db.changed(&key, Event::TOUCHED);
            cx.log_outcome(&key);
            if let Some(ttl) = meta.ttl {
                End::of(cx, ttl).set(cx, &key);
            }
            b"HD"
        }
        Some(_) => {
            cx.db.remove_for(&key, Removal::Deleted);
            cx.db.changed(&key, Event::DEL);
            cx.log_outcome(&key);
            b"HD"
        }
    };
    if !(meta.is_quiet && code == b"HD") {
        plain_line(&mut cx.reply, args, 2, code, meta.is_encoded);
    }
    Ok(())
}
