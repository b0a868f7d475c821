//! The declarations of the commands on ranges; what they do is in `range.rs`.

use super::range::{By, Form, answer, answer_stored};
use crate::spec::{Acl, Arg, Command, Flags, Group, KeyFlags, KeySpec, Run, Spec};

/// What a command's name says of its range.
const fn form(by: Option<By>, backwards: Option<bool>) -> Form {
    Form { by, backwards, stores: false }
}

/// `ZRANGE key start stop [BYSCORE | BYLEX] [REV] [LIMIT offset count] [WITHSCORES]`
pub static ZRANGE: Command = Command {
    spec: Spec {
        name: "zrange",
        summary: "Answers members by rank, by score or by their bytes, in either direction.",
        since: "1.2.0",
        group: Group::SortedSet,
        complexity: "O(log N + M), M members answered",
        arity: -4,
        flags: Flags::READONLY,
        acl: Acl::SORTED_SET,
        keys: &[KeySpec::at(1, KeyFlags::RO.or(KeyFlags::ACCESS))],
        args: &[
            Arg::key("key", 0),
            Arg::string("start"),
            Arg::string("stop"),
            Arg::one_of("sortby", &[Arg::word("byscore", "BYSCORE"), Arg::word("bylex", "BYLEX")])
                .since("6.2.0")
                .optional(),
            Arg::word("rev", "REV").since("6.2.0").optional(),
            Arg::block("limit", &[Arg::integer("offset"), Arg::integer("count")])
                .token("LIMIT")
                .since("6.2.0")
                .optional(),
            Arg::word("withscores", "WITHSCORES").optional(),
        ],
        history: &[("6.2.0", "Has `REV`, `BYSCORE`, `BYLEX` and `LIMIT`.")],
        ..Spec::EMPTY
    },
    run: Run::Keys(|cx, args| answer(cx, args, form(None, None))),
    subcommands: &[],
};

/// `ZRANGEBYLEX key min max [LIMIT offset count]`
pub static ZRANGEBYLEX: Command = Command {
    spec: Spec {
        name: "zrangebylex",
        summary: "Answers members within bounds of bytes, where all scores are equal.",
        since: "2.8.9",
        group: Group::SortedSet,
        complexity: "O(log N + M), M members answered",
        arity: -4,
        flags: Flags::READONLY,
        acl: Acl::SORTED_SET,
        keys: &[KeySpec::at(1, KeyFlags::RO.or(KeyFlags::ACCESS))],
        args: &[
            Arg::key("key", 0),
            Arg::string("min"),
            Arg::string("max"),
            Arg::block("limit", &[Arg::integer("offset"), Arg::integer("count")]).token("LIMIT").optional(),
        ],
        deprecated: Some(("6.2.0", "`ZRANGE` with `BYLEX`")),
        ..Spec::EMPTY
    },
    run: Run::Keys(|cx, args| answer(cx, args, form(Some(By::Lex), Some(false)))),
    subcommands: &[],
};

/// `ZRANGEBYSCORE key min max [WITHSCORES] [LIMIT offset count]`
pub static ZRANGEBYSCORE: Command = Command {
    spec: Spec {
        name: "zrangebyscore",
        summary: "Answers members whose scores are within bounds.",
        since: "1.0.5",
        group: Group::SortedSet,
        complexity: "O(log N + M), M members answered",
        arity: -4,
        flags: Flags::READONLY,
        acl: Acl::SORTED_SET,
        keys: &[KeySpec::at(1, KeyFlags::RO.or(KeyFlags::ACCESS))],
        args: &[
            Arg::key("key", 0),
            Arg::double("min"),
            Arg::double("max"),
            Arg::word("withscores", "WITHSCORES").since("2.0.0").optional(),
            Arg::block("limit", &[Arg::integer("offset"), Arg::integer("count")]).token("LIMIT").optional(),
        ],
        history: &[("2.0.0", "Has `WITHSCORES`.")],
        deprecated: Some(("6.2.0", "`ZRANGE` with `BYSCORE`")),
        ..Spec::EMPTY
    },
    run: Run::Keys(|cx, args| answer(cx, args, form(Some(By::Score), Some(false)))),
    subcommands: &[],
};

/// `ZRANGESTORE dst src min max [BYSCORE | BYLEX] [REV] [LIMIT offset count]`
pub static ZRANGESTORE: Command = Command {
    spec: Spec {
        name: "zrangestore",
        summary: "Stores members chosen by rank, by score or by their bytes as another sorted set.",
        since: "6.2.0",
        group: Group::SortedSet,
        complexity: "O(log N + M log M), M members stored",
        arity: -5,
        flags: Flags::WRITE.or(Flags::DENY_OOM),
        acl: Acl::SORTED_SET,
        keys: &[
            KeySpec::at(1, KeyFlags::OW.or(KeyFlags::UPDATE)),
            KeySpec::at(2, KeyFlags::RO.or(KeyFlags::ACCESS)),
        ],
        args: &[
            Arg::key("dst", 0),
            Arg::key("src", 1),
            Arg::string("min"),
            Arg::string("max"),
            Arg::one_of("sortby", &[Arg::word("byscore", "BYSCORE"), Arg::word("bylex", "BYLEX")]).optional(),
            Arg::word("rev", "REV").optional(),
            Arg::block("limit", &[Arg::integer("offset"), Arg::integer("count")]).token("LIMIT").optional(),
        ],
        ..Spec::EMPTY
    },
    run: Run::Keys(|cx, args| answer_stored(cx, args, Form { by: None, backwards: None, stores: true })),
    subcommands: &[],
};

/// `ZREVRANGE key start stop [WITHSCORES]`
pub static ZREVRANGE: Command = Command {
    spec: Spec {
        name: "zrevrange",
        summary: "Answers members by rank, highest score first.",
        since: "1.2.0",
        group: Group::SortedSet,
        complexity: "O(log N + M), M members answered",
        arity: -4,
        flags: Flags::READONLY,
        acl: Acl::SORTED_SET,
        keys: &[KeySpec::at(1, KeyFlags::RO.or(KeyFlags::ACCESS))],
        args: &[
            Arg::key("key", 0),
            Arg::integer("start"),
            Arg::integer("stop"),
            Arg::word("withscores", "WITHSCORES").optional(),
        ],
        deprecated: Some(("6.2.0", "`ZRANGE` with `REV`")),
        ..Spec::EMPTY
    },
    run: Run::Keys(|cx, args| answer(cx, args, form(Some(By::Rank), Some(true)))),
    subcommands: &[],
};

/// `ZREVRANGEBYLEX key max min [LIMIT offset count]`
pub static ZREVRANGEBYLEX: Command = Command {
    spec: Spec {
        name: "zrevrangebylex",
        summary: "Answers members within bounds of bytes, last first, where all scores are equal.",
        since: "2.8.9",
        group: Group::SortedSet,
        complexity: "O(log N + M), M members answered",
        arity: -4,
        flags: Flags::READONLY,
        acl: Acl::SORTED_SET,
        keys: &[KeySpec::at(1, KeyFlags::RO.or(KeyFlags::ACCESS))],
        args: &[
            Arg::key("key", 0),
            Arg::string("max"),
            Arg::string("min"),
            Arg::block("limit", &[Arg::integer("offset"), Arg::integer("count")]).token("LIMIT").optional(),
        ],
        deprecated: Some(("6.2.0", "`ZRANGE` with `BYLEX` and `REV`")),
        ..Spec::EMPTY
    },
    run: Run::Keys(|cx, args| answer(cx, args, form(Some(By::Lex), Some(true)))),
    subcommands: &[],
};

/// `ZREVRANGEBYSCORE key max min [WITHSCORES] [LIMIT offset count]`
pub static ZREVRANGEBYSCORE: Command = Command {
    spec: Spec {
        name: "zrevrangebyscore",
        summary: "Answers members whose scores are within bounds, highest first.",
        since: "2.2.0",
        group: Group::SortedSet,
        complexity: "O(log N + M), M members answered",
        arity: -4,
        flags: Flags::READONLY,
        acl: Acl::SORTED_SET,
        keys: &[KeySpec::at(1, KeyFlags::RO.or(KeyFlags::ACCESS))],
        args: &[
            Arg::key("key", 0),
            Arg::double("max"),
            Arg::double("min"),
            Arg::word("withscores", "WITHSCORES").optional(),
            Arg::block("limit", &[Arg::integer("offset"), Arg::integer("count")]).token("LIMIT").optional(),
        ],
        history: &[("2.1.6", "Bounds may be exclusive.")],
        deprecated: Some(("6.2.0", "`ZRANGE` with `BYSCORE` and `REV`")),
        ..Spec::EMPTY
    },
    run: Run::Keys(|cx, args| answer(cx, args, form(Some(By::Score), Some(true)))),
    subcommands: &[],
};
