//! BITOP: one string from several, bit by bit.

use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::spec::{Acl, Arg, Command, Flags, Group, KeyFlags, KeySpec, Run, Spec};
use larder_store::{Event, Expire, Str};
use larder_values::bits::{Operation, combine};
use std::sync::Arc;

const ONE_SOURCE: Error = Error::of("ERR BITOP NOT must be called with a single source key.");

/// BITOP AND | OR | XOR | NOT | DIFF | DIFF1 | ANDOR | ONE destkey key [key ...]
pub static BITOP: Command = Command {
    spec: Spec {
        name: "bitop",
        summary: "Combines several strings bit by bit and stores the result.",
        since: "2.6.0",
        group: Group::Bitmap,
        complexity: "O(N) where N is the length of all strings together.",
        arity: -4,
        flags: Flags::WRITE.or(Flags::DENY_OOM),
        acl: Acl::BITMAP,
        keys: &[
            KeySpec::at(2, KeyFlags::OW.or(KeyFlags::UPDATE)),
            KeySpec::range(3, -1, 1, KeyFlags::RO.or(KeyFlags::ACCESS)),
        ],
        args: &[
            Arg::one_of(
                "operation",
                &[
                    Arg::word("and", "AND"),
                    Arg::word("or", "OR"),
                    Arg::word("xor", "XOR"),
                    Arg::word("not", "NOT"),
                    Arg::word("diff", "DIFF"),
                    Arg::word("diff1", "DIFF1"),
                    Arg::word("andor", "ANDOR"),
                    Arg::word("one", "ONE"),
                ],
            ),
            Arg::key("destkey", 0),
            Arg::key("key", 1).multiple(),
        ],
        ..Spec::EMPTY
    },
    run: Run::Keys(bitop),
    subcommands: &[],
};

/// A source's bytes, apart from the keyspace, which the result is written to.
enum Source {
    Shared(Arc<Vec<u8>>),
    Copied(Vec<u8>),
}

impl Source {
    fn of(value: &Str<'_>) -> Source {
        match value {
            Str::Blob(blob) => Source::Shared(Arc::clone(blob)),
            _ => Source::Copied(value.to_vec()),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Source::Shared(blob) => blob,
            Source::Copied(bytes) => bytes,
        }
    }
}

fn bitop(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let operation = parse(args)?;
    let result = {
        let sources = sources(cx, args)?;
        let slices: Vec<&[u8]> = sources.iter().map(Source::bytes).collect();
        combine(operation, &slices)
    };
    let (destination, len) = (cx.key(args, 2), result.len());
    if result.is_empty() {
        if cx.db.remove_even_if_over(&destination) {
            cx.db.changed(&destination, Event::DEL);
        }
    } else {
        if cx.db.put_assembled(&destination, result, Expire::Clear) {
            cx.db.overwritten(&destination);
        }
        cx.db.changed(&destination, Event::SET);
    }
    cx.reply.count(len);
    Ok(())
}

fn parse(args: &Args<'_>) -> Result<Operation, Error> {
    let operations: [(&[u8], Operation); 8] = [
        (b"and", Operation::And),
        (b"or", Operation::Or),
        (b"xor", Operation::Xor),
        (b"not", Operation::Not),
        (b"diff", Operation::Diff),
        (b"diff1", Operation::Diff1),
        (b"andor", Operation::AndOr),
        (b"one", Operation::One),
    ];
    let (name, operation) = operations.into_iter().find(|(name, _)| args.is(1, name)).ok_or(Error::Syntax)?;
    let sources = args.len() - 3;
    match operation {
        Operation::Not if sources != 1 => Err(ONE_SOURCE),
        Operation::Diff | Operation::Diff1 | Operation::AndOr if sources < 2 => {
            let mut text = b"ERR BITOP ".to_vec();
            text.extend(name.to_ascii_uppercase());
            text.extend(b" must be called with at least two source keys.");
            Err(Error::custom(text))
        }
        _ => Ok(operation),
    }
}

/// The sources' bytes; no key is an empty string.
fn sources(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<Vec<Source>, Error> {
    let read = |index| {
        let key = cx.key(args, index);
        let value = cx.db.string(&key)?;
        Ok(value.map_or(Source::Copied(Vec::new()), |value| Source::of(&value)))
    };
    (3..args.len()).map(read).collect()
}
