//! FUNCTION and FCALL: libraries of functions.
//!
//! Read next: `scripts.rs` of this crate for where libraries are kept, `larder_script`'s `library.rs` for what they are.

use super::super::help::{help as answer_help, misused};
use super::eval::{ANY, KEYS_AND_ARGS, READ, WORST, WORST_READ, WRITTEN, keys_of_number};
use super::scripts::{FLUSH_TYPE, answer_kill};
use crate::commands::shown_name;
use crate::execute::{Call, Host};
use crate::registry::{HostCommand, HostRun};
use crate::scripts::{Running, busy_text};
use crossbeam_utils::CachePadded;
use larder_commands::spec::{Acl, Arg, Flags, Group, KeySpec};
use larder_commands::{Args, Error, Spec};
use larder_persist::rdb::{dump_functions, restore_functions};
use larder_script::library::{self, Libraries, Library, Listing, Policy};
use larder_values::{glob, number};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// `FCALL function numkeys [key ...] [arg ...]`
pub(in super::super) static FCALL: HostCommand = HostCommand {
    spec: Spec {
        name: "fcall",
        summary: "Calls a function of a library.",
        since: "7.0.0",
        complexity: "Depends on the function that is executed.",
        args: &[Arg::string("function"), KEYS_AND_ARGS[0], KEYS_AND_ARGS[1], KEYS_AND_ARGS[2]],
        keys: &[KeySpec { notes: Some(WORST), ..WRITTEN }],
        ..ANY
    },
    run: HostRun::Host(|host, args| call(host, args, false)),
    subcommands: &[],
};

/// `FCALL_RO function numkeys [key ...] [arg ...]`
pub(in super::super) static FCALL_RO: HostCommand = HostCommand {
    spec: Spec {
        name: "fcall_ro",
        summary: "Calls a function of a library that writes nothing.",
        since: "7.0.0",
        complexity: "Depends on the function that is executed.",
        flags: ANY.flags.or(Flags::READONLY),
        args: &[Arg::string("function"), KEYS_AND_ARGS[0], KEYS_AND_ARGS[1], KEYS_AND_ARGS[2]],
        keys: &[KeySpec { notes: Some(WORST_READ), ..READ }],
        ..ANY
    },
    run: HostRun::Host(|host, args| call(host, args, true)),
    subcommands: &[],
};

/// What the subcommands share.
const SUB: Spec = Spec {
    since: "7.0.0",
    group: Group::Scripting,
    flags: Flags::NO_SCRIPT,
    acl: Acl::SCRIPTING,
    ..Spec::EMPTY
};
/// What those share that change the libraries.
const CHANGE: Spec = Spec {
    flags: Flags::NO_SCRIPT.or(Flags::WRITE),
    tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
    ..SUB
};

/// `FUNCTION subcommand`
pub(in super::super) static FUNCTION: HostCommand = HostCommand {
    spec: Spec {
        name: "function",
        summary: "Groups the commands about libraries of functions.",
        since: "7.0.0",
        group: Group::Scripting,
        complexity: "Depends on subcommand.",
        arity: -2,
        ..Spec::EMPTY
    },
    run: HostRun::Container,
    subcommands: &[&DELETE, &DUMP, &FLUSH, &HELP, &KILL, &LIST, &LOAD, &RESTORE, &STATS],
};

/// `FUNCTION DELETE library-name`
static DELETE: HostCommand = HostCommand {
    spec: Spec {
        name: "delete",
        summary: "Removes a library.",
        arity: 3,
        args: &[Arg::string("library-name")],
        ..CHANGE
    },
    run: HostRun::Host(delete),
    subcommands: &[],
};

/// `FUNCTION DUMP`
static DUMP: HostCommand = HostCommand {
    spec: Spec {
        name: "dump",
        summary: "Answers all libraries as one value that FUNCTION RESTORE takes.",
        complexity: "O(N) where N is the number of functions",
        arity: 2,
        ..SUB
    },
    run: HostRun::Host(dump),
    subcommands: &[],
};

/// `FUNCTION FLUSH [ASYNC|SYNC]`
static FLUSH: HostCommand = HostCommand {
    spec: Spec {
        name: "flush",
        summary: "Removes all libraries.",
        complexity: "O(N) where N is the number of functions deleted",
        arity: -2,
        args: &[FLUSH_TYPE],
        ..CHANGE
    },
    run: HostRun::Host(flush),
    subcommands: &[],
};

/// `FUNCTION HELP`
static HELP: HostCommand = HostCommand {
    spec: Spec {
        name: "help",
        summary: "Lists the subcommands of FUNCTION.",
        arity: 2,
        flags: Flags::LOADING.or(Flags::STALE),
        ..SUB
    },
    run: HostRun::Host(help),
    subcommands: &[],
};

/// `FUNCTION KILL`
static KILL: HostCommand = HostCommand {
    spec: Spec {
        name: "kill",
        summary: "Ends a function that runs too long, unless it has written.",
        arity: 2,
        flags: Flags::NO_SCRIPT.or(Flags::ALLOW_BUSY),
        tips: &["request_policy:all_shards", "response_policy:one_succeeded"],
        ..SUB
    },
    run: HostRun::Host(|host, _| {
        answer_kill(host, true)?;
        host.reply().ok();
        Ok(())
    }),
    subcommands: &[],
};

/// `FUNCTION LIST [LIBRARYNAME pattern] [WITHCODE]`
static LIST: HostCommand = HostCommand {
    spec: Spec {
        name: "list",
        summary: "Answers what libraries there are.",
        complexity: "O(N) where N is the number of functions",
        arity: -2,
        args: &[
            Arg::string("library-name-pattern").token("LIBRARYNAME").optional(),
            Arg::word("withcode", "WITHCODE").optional(),
        ],
        tips: &["nondeterministic_output_order"],
        ..SUB
    },
    run: HostRun::Host(list),
    subcommands: &[],
};

/// `FUNCTION LOAD [REPLACE] function-code`
static LOAD: HostCommand = HostCommand {
    spec: Spec {
        name: "load",
        summary: "Adds a library.",
        complexity: "O(1) (considering compilation time is redundant)",
        arity: -3,
        flags: CHANGE.flags.or(Flags::DENY_OOM),
        args: &[Arg::word("replace", "REPLACE").optional(), Arg::string("function-code")],
        ..CHANGE
    },
    run: HostRun::Host(load),
    subcommands: &[],
};

/// `FUNCTION RESTORE serialized-value [FLUSH|APPEND|REPLACE]`
static RESTORE: HostCommand = HostCommand {
    spec: Spec {
        name: "restore",
        summary: "Adds the libraries that FUNCTION DUMP answered.",
        complexity: "O(N) where N is the number of functions on the payload",
        arity: -3,
        flags: CHANGE.flags.or(Flags::DENY_OOM),
        args: &[
            Arg::string("serialized-value"),
            Arg::one_of(
                "policy",
                &[
                    Arg::word("flush", "FLUSH"),
                    Arg::word("append", "APPEND"),
                    Arg::word("replace", "REPLACE"),
                ],
            )
            .optional(),
        ],
        ..CHANGE
    },
    run: HostRun::Host(restore),
    subcommands: &[],
};

/// `FUNCTION STATS`
static STATS: HostCommand = HostCommand {
    spec: Spec {
        name: "stats",
        summary: "Answers what function runs too long, and how many there are.",
        arity: 2,
        flags: Flags::NO_SCRIPT.or(Flags::ALLOW_BUSY),
        tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
        ..SUB
    },
    run: HostRun::Host(stats),
    subcommands: &[],
};

static HELP_LINES: &[&str] = &[
    "LOAD [REPLACE] <FUNCTION CODE>",
    "    Adds a library and answers its name.",
    "DELETE <LIBRARY NAME>",
    "    Removes a library.",
    "LIST [LIBRARYNAME PATTERN] [WITHCODE]",
    "    Answers the libraries with their functions, and with their texts if asked to.",
    "STATS",
    "    Answers what runs too long, and how many libraries and functions there are.",
    "KILL",
    "    Ends the function that runs too long, unless it has written.",
    "FLUSH [ASYNC|SYNC]",
    "    Removes all libraries. Both ways take the same time.",
    "DUMP",
    "    Answers all libraries as one value.",
    "RESTORE <PAYLOAD> [FLUSH|APPEND|REPLACE]",
    "    Adds the libraries of such a value. What is there goes (FLUSH), must not come again",
    "    (APPEND, which is the default), or is replaced where it does (REPLACE).",
];

fn call(host: &mut Host<'_>, args: &Args<'_>, is_read_only: bool) -> Result<(), Error> {
    let found = host.server().functions.find(args.get(1)).ok_or(Error::of("ERR Function not found"));
    let found = found.and_then(|found| {
        let keys = number::parse_i64(args.get(2)).ok_or(Error::of("ERR Bad number of keys provided"))?;
        Ok((found, keys_of_number(keys, args)?))
    });
    match found {
        Ok(((found, reach), keys)) => {
            let call = Call { is_read_only, keys };
            host.core.call_function(host.conn, host.out, (&found, &reach), args, call)
        }
        Err(error) => {
            host.core.show_script(host.conn, args);
            Err(error)
        }
    }
}

/// Changes the libraries, and logs that.
fn change(
    host: &mut Host<'_>,
    args: &Args<'_>,
    work: impl FnOnce(&mut Libraries) -> Result<(), Error>,
) -> Result<(), Error> {
    let (server, db, effects) = (host.core.server, host.conn.db, &mut host.core.local.effects);
    server.functions.change(|libraries| {
        work(libraries)?;
        // Numbered while nobody else changes them.
        effects.log.also_all(db, args.from(0));
        effects.changed_many(1);
        Ok(())
    })
}

fn delete(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    change(host, args, |libraries| match libraries.delete(args.get(2)) {
        true => Ok(()),
        false => Err(Error::of("ERR Library not found")),
    })?;
    host.core.forget_libraries();
    host.reply().ok();
    Ok(())
}

fn dump(host: &mut Host<'_>, _: &Args<'_>) -> Result<(), Error> {
    let libraries = host.server().functions.all();
    let payload = dump_functions(libraries.iter().map(|library| &library.text[..]));
    host.reply().bulk(&payload);
    Ok(())
}

fn flush(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    if args.len() > 3 {
        return Err(misused("FUNCTION", args.get(1)));
    }
    if args.len() == 3 && !args.is(2, b"sync") && !args.is(2, b"async") {
        return Err(Error::of("ERR FUNCTION FLUSH only supports SYNC|ASYNC option"));
    }
    change(host, args, |libraries| {
        *libraries = Libraries::default();
        Ok(())
    })?;
    host.core.forget_libraries();
    host.reply().ok();
    Ok(())
}

fn help(host: &mut Host<'_>, _: &Args<'_>) -> Result<(), Error> {
    answer_help(host, "FUNCTION", HELP_LINES);
    Ok(())
}

fn list(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    let listing = Listing::parse(args.from(2)).map_err(|text| Error::custom(shown_name(&text)))?;
    let libraries = host.server().functions.all();
    let is_listed = |library: &&Arc<Library>| match &listing.pattern {
        Some(pattern) => glob::matches_with(pattern, &library.name, glob::Case::Ignored),
        None => true,
    };
    let listed: Vec<&Arc<Library>> = libraries.iter().filter(is_listed).collect();
    let mut reply = host.reply();
    reply.array(listed.len());
    for library in listed {
        reply.map(if listing.with_code { 4 } else { 3 });
        reply.bulk(b"library_name");
        reply.bulk(&library.name);
        reply.bulk(b"engine");
        reply.bulk(b"LUA");
        reply.bulk(b"functions");
        reply.array(library.functions.len());
        for function in &library.functions {
            reply.map(3);
            reply.bulk(b"name");
            reply.bulk(&function.name);
            reply.bulk(b"description");
            match &function.description {
                Some(text) => reply.bulk(text),
                None => reply.null(),
            }
            reply.bulk(b"flags");
            reply.set(function.flags.words().count());
            function.flags.words().for_each(|word| reply.simple(word));
        }
        if listing.with_code {
            reply.bulk(b"library_code");
            reply.bulk(&library.text);
        }
    }
    Ok(())
}

fn load(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    let replace = args.is(2, b"replace") && args.len() >= 4;
    let at = if replace { 3 } else { 2 };
    if args.len() > at + 1 {
        return Err(Error::custom([b"ERR Unknown option given: ", shown_name(args.get(at))].concat()));
    }
    let text = args.get(at);
    let name = library::parse(text).map_err(Error::custom)?.name;
    host.server().functions.all().may_load(&name, replace).map_err(Error::custom)?;
    let library = Arc::new(host.core.read_library(text)?);
    change(host, args, |libraries| {
        libraries.may_load(&name, replace).and_then(|()| libraries.add(library)).map_err(Error::custom)
    })?;
    host.core.forget_libraries();
    host.reply().bulk(&name);
    Ok(())
}

fn restore(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    if args.len() > 4 {
        return Err(misused("FUNCTION", args.get(1)));
    }
    let policy = match args.try_get(3) {
        Some(word) => Policy::parse(word).map_err(Error::of)?,
        None => Policy::Append,
    };
    let text_max = host.core.limits.string_bytes_max;
    let texts = restore_functions(args.get(2), text_max).map_err(|error| Error::custom(error.to_string()))?;
    let mut restored = Libraries::default();
    for text in texts {
        let name = library::parse(&text).map_err(Error::custom)?.name;
        restored.may_load(&name, false).map_err(Error::custom)?;
        let library = Arc::new(host.core.read_library(&text)?);
        restored.add(library).map_err(Error::custom)?;
    }
    change(host, args, |libraries| libraries.restore(restored, policy).map_err(Error::custom))?;
    host.core.forget_libraries();
    host.reply().ok();
    Ok(())
}

fn stats(host: &mut Host<'_>, _: &Args<'_>) -> Result<(), Error> {
    let server = host.server();
    let libraries = server.functions.all();
    let is_busy = |running: &&CachePadded<Running>| running.is_busy.load(Relaxed);
    let running = server.running.iter().filter(is_busy).find(|running| running.is_function.load(Relaxed));
    if running.is_none() && server.running.iter().any(|running| is_busy(&running)) {
        // A script of EVAL has nothing to show here.
        return Err(Error::custom(busy_text(false)));
    }
    let mut reply = host.reply();
    reply.map(2);
    reply.bulk(b"running_script");
    match running {
        None => reply.null(),
        Some(running) => {
            let (name, words) = running.named.lock().clone();
            reply.map(3);
            reply.bulk(b"name");
            reply.bulk(&name);
            reply.bulk(b"command");
            reply.array(words.len());
            words.iter().for_each(|word| reply.bulk(word));
            reply.bulk(b"duration_ms");
            reply.integer(i64::try_from(running.millis()).unwrap_or(i64::MAX));
        }
    }
    reply.bulk(b"engines");
    reply.map(1);
    reply.bulk(b"LUA");
    reply.map(2);
    reply.bulk(b"libraries_count");
    reply.count(libraries.len());
    reply.bulk(b"functions_count");
    reply.count(libraries.function_count());
    Ok(())
}
