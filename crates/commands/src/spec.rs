//! What a declaration says about a command, and the words it is said in.
//!
//! All of it is plain `static` data. `well_formed` checks a family's table; a test calls it for all.

use crate::args::Args;
use crate::cx::{Ctx, KeyspaceCtx};
use crate::error::Error;
use std::ops::RangeInclusive;

/// A command: what it is and what it does.
pub struct Command {
    /// The declaration.
    pub spec: Spec,
    /// The implementation.
    pub run: Run,
    /// Subcommands of a container such as OBJECT; their `spec.name` is the subcommand's own word.
    pub subcommands: &'static [&'static Command],
}

/// How a command is carried out.
#[derive(Clone, Copy)]
pub enum Run {
    /// On its declared keys, whose shards are locked before it runs.
    Keys(fn(&mut Ctx<'_>, &Args<'_>) -> Result<(), Error>),
    /// On whole databases; locks what it needs itself, in bounded steps.
    Keyspace(fn(&mut KeyspaceCtx<'_>, &Args<'_>) -> Result<(), Error>),
    /// On whole databases, while no other thread touches any key.
    Exclusive(fn(&mut KeyspaceCtx<'_>, &Args<'_>) -> Result<(), Error>),
    /// Only through its subcommands.
    Container,
}

/// The declaration of a command.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// Name in lower case; of a subcommand only its own word.
    pub name: &'static str,
    /// What it does, in one sentence of our own.
    pub summary: &'static str,
    /// The version of Redis (or Valkey) that had it first.
    pub since: &'static str,
    /// The family.
    pub group: Group,
    /// Its cost, in terms of its arguments; empty where Redis says none.
    pub complexity: &'static str,
    /// Words it takes, name included; negative: at least so many.
    pub arity: i32,
    /// What kind of command it is.
    pub flags: Flags,
    /// Access categories beside those that follow from the flags.
    pub acl: Acl,
    /// Where its keys are.
    pub keys: &'static [KeySpec],
    /// The word that names an element of its only key's collection, where it looks one up; 0 for none. A guess, to be
    /// prefetched: options may stand there.
    pub element: u8,
    /// Its grammar.
    pub args: &'static [Arg],
    /// Hints for clients and proxies, in Redis' words.
    pub tips: &'static [&'static str],
    /// Changes over Redis' versions: (version, what changed).
    pub history: &'static [(&'static str, &'static str)],
    /// Since when and for what it is deprecated: (version, replacement).
    pub deprecated: Option<(&'static str, &'static str)>,
    /// Whether only servers send it to each other (`syscmd` in COMMAND DOCS).
    pub system: bool,
}

impl Spec {
    /// A declaration with nothing said, to be completed by `..Spec::EMPTY`.
    pub const EMPTY: Spec = Spec {
        name: "",
        summary: "",
        since: "1.0.0",
        group: Group::Generic,
        complexity: "O(1)",
        arity: 0,
        flags: Flags::NONE,
        acl: Acl::NONE,
        keys: &[],
        element: 0,
        args: &[],
        tips: &[],
        history: &[],
        deprecated: None,
        system: false,
    };

    /// How many words the command takes, its name included.
    pub fn words(&self) -> RangeInclusive<usize> {
        let least = self.arity.unsigned_abs() as usize;
        least..=if self.arity < 0 { usize::MAX } else { least }
    }

    /// Whether `words` words, the name included, are a count the command takes.
    #[inline]
    pub fn takes(&self, words: usize) -> bool {
        self.words().contains(&words)
    }

    /// The access categories, those that follow from the flags included.
    pub fn categories(&self) -> Acl {
        let mut acl = self.acl;
        let mut follow = |flag: Flags, category: Acl| {
            if self.flags.has(flag) {
                acl = acl.or(category);
            }
        };
        follow(Flags::WRITE, Acl::WRITE);
        follow(Flags::ADMIN, Acl::ADMIN.or(Acl::DANGEROUS));
        follow(Flags::PUBSUB, Acl::PUBSUB);
        follow(Flags::BLOCKING, Acl::BLOCKING);
        follow(Flags::FAST, Acl::FAST);
        if self.flags.has(Flags::READONLY) && !acl.has(Acl::SCRIPTING) {
            acl = acl.or(Acl::READ);
        }
        if !acl.has(Acl::FAST) {
            acl = acl.or(Acl::SLOW);
        }
        acl
    }
}

/// The family of a command, as COMMAND DOCS names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Group {
    Generic,
    String,
    List,
    Set,
    SortedSet,
    Hash,
    PubSub,
    Transactions,
    Connection,
    Server,
    Scripting,
    HyperLogLog,
    Cluster,
    Sentinel,
    Geo,
    Stream,
    Bitmap,
}

impl Group {
    /// The word COMMAND DOCS answers.
    pub fn name(self) -> &'static str {
        match self {
            Group::Generic => "generic",
            Group::String => "string",
            Group::List => "list",
            Group::Set => "set",
            Group::SortedSet => "sorted-set",
            Group::Hash => "hash",
            Group::PubSub => "pubsub",
            Group::Transactions => "transactions",
            Group::Connection => "connection",
            Group::Server => "server",
            Group::Scripting => "scripting",
            Group::HyperLogLog => "hyperloglog",
            Group::Cluster => "cluster",
            Group::Sentinel => "sentinel",
            Group::Geo => "geo",
            Group::Stream => "stream",
            Group::Bitmap => "bitmap",
        }
    }
}

macro_rules! bits {
    ($(#[$type_doc:meta])* $type:ident { $($(#[$doc:meta])* $name:ident = $bit:literal $word:literal;)* }) => {
        $(#[$type_doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $type(u32);

        impl $type {
            /// None.
            pub const NONE: $type = $type(0);
            $($(#[$doc])* pub const $name: $type = $type(1 << $bit);)*

            /// The words of all bits, in the order of the bits.
            pub const WORDS: &'static [($type, &'static str)] = &[$(($type::$name, $word),)*];

            /// Both.
            pub const fn or(self, other: $type) -> $type {
                $type(self.0 | other.0)
            }

            /// Whether every bit of `other` is set.
            #[inline]
            pub const fn has(self, other: $type) -> bool {
                self.0 & other.0 == other.0
            }

            /// The words of the bits that are set.
            pub fn words(self) -> impl Iterator<Item = &'static str> {
                Self::WORDS.iter().filter(move |(bit, _)| self.has(*bit)).map(|(_, word)| *word)
            }
        }
    };
}

bits! {
    /// What kind of command it is; the words are those of COMMAND INFO.
    Flags {
        /// May change data.
        WRITE = 0 "write";
        /// Reads data and changes none.
        READONLY = 1 "readonly";
        /// Refused when memory is over its limit and nothing can leave.
        DENY_OOM = 2 "denyoom";
        /// For administrators.
        ADMIN = 3 "admin";
        /// Publish and subscribe.
        PUBSUB = 4 "pubsub";
        /// Not from scripts.
        NO_SCRIPT = 5 "noscript";
        /// May wait.
        BLOCKING = 6 "blocking";
        /// Answered while data is loaded.
        LOADING = 7 "loading";
        /// Answered by a replica that lost its master.
        STALE = 8 "stale";
        /// Not shown by MONITOR.
        SKIP_MONITOR = 9 "skip_monitor";
        /// Not in the slow log.
        SKIP_SLOWLOG = 10 "skip_slowlog";
        /// Follows a cluster redirection by itself.
        ASKING = 11 "asking";
        /// Constant or logarithmic time.
        FAST = 12 "fast";
        /// Answered before AUTH.
        NO_AUTH = 13 "no_auth";
        /// Keys cannot be told from first, last and step; set by the registry, not by declarations.
        MOVABLE_KEYS = 14 "movablekeys";
        /// Answered while a script runs too long.
        ALLOW_BUSY = 15 "allow_busy";
        /// Not inside MULTI.
        NO_MULTI = 16 "no_multi";
        /// May run without the keys its grammar has.
        NO_MANDATORY_KEYS = 17 "no_mandatory_keys";
        /// Not while data is loaded asynchronously.
        NO_ASYNC_LOADING = 18 "no_async_loading";
    }
}

bits! {
    /// Access categories; the words are those of ACL CAT.
    Acl {
        /// `@keyspace`
        KEYSPACE = 0 "keyspace";
        /// `@read`
        READ = 1 "read";
        /// `@write`
        WRITE = 2 "write";
        /// `@set`
        SET = 3 "set";
        /// `@sortedset`
        SORTED_SET = 4 "sortedset";
        /// `@list`
        LIST = 5 "list";
        /// `@hash`
        HASH = 6 "hash";
        /// `@string`
        STRING = 7 "string";
        /// `@bitmap`
        BITMAP = 8 "bitmap";
        /// `@hyperloglog`
        HYPERLOGLOG = 9 "hyperloglog";
        /// `@geo`
        GEO = 10 "geo";
        /// `@stream`
        STREAM = 11 "stream";
        /// `@pubsub`
        PUBSUB = 12 "pubsub";
        /// `@admin`
        ADMIN = 13 "admin";
        /// `@fast`
        FAST = 14 "fast";
        /// `@slow`
        SLOW = 15 "slow";
        /// `@blocking`
        BLOCKING = 16 "blocking";
        /// `@dangerous`
        DANGEROUS = 17 "dangerous";
        /// `@connection`
        CONNECTION = 18 "connection";
        /// `@transaction`
        TRANSACTION = 19 "transaction";
        /// `@scripting`
        SCRIPTING = 20 "scripting";
        /// `@cache`: what the cache is doing. Redis has none of it.
        CACHE = 21 "cache";
    }
}

bits! {
    /// What a command does with the keys of one key specification, in Redis' words.
    KeyFlags {
        /// Reads the value.
        RO = 0 "RO";
        /// Reads and changes the value.
        RW = 1 "RW";
        /// Overwrites the value whatever it was.
        OW = 2 "OW";
        /// Removes the key.
        RM = 3 "RM";
        /// Answers from the value.
        ACCESS = 4 "access";
        /// Changes the value.
        UPDATE = 5 "update";
        /// Adds to the value.
        INSERT = 6 "insert";
        /// Takes from the value.
        DELETE = 7 "delete";
        /// Not a key, but routed like one.
        NOT_KEY = 8 "not_key";
        /// Not all keys are found by this specification.
        INCOMPLETE = 9 "incomplete";
        /// What is done depends on the arguments.
        VARIABLE_FLAGS = 10 "variable_flags";
    }
}

/// Where a group of keys is and what is done with them.
#[derive(Debug, Clone, Copy)]
pub struct KeySpec {
    /// What is done with them.
    pub flags: KeyFlags,
    /// Where the search begins.
    pub begin: Begin,
    /// How keys are found from there.
    pub find: Find,
    /// A remark for readers of COMMAND INFO.
    pub notes: Option<&'static str>,
}

impl KeySpec {
    /// The one key at word `index`.
    pub const fn at(index: u32, flags: KeyFlags) -> KeySpec {
        KeySpec::range(index, 0, 1, flags)
    }

    /// Keys from word `index` on: `last` counts from the first key, or from the end when negative;
    /// every `step`th word is a key.
    pub const fn range(index: u32, last: i32, step: u32, flags: KeyFlags) -> KeySpec {
        KeySpec { flags, begin: Begin::Index(index), find: Find::Range { last, step, limit: 0 }, notes: None }
    }

    /// Keys counted by a number at word `index`.
    pub const fn counted(index: u32, flags: KeyFlags) -> KeySpec {
        KeySpec {
            flags,
            begin: Begin::Index(index),
            find: Find::Counted { number_at: 0, first: 1, step: 1 },
            notes: None,
        }
    }
}

/// Where the search for keys begins.
#[derive(Debug, Clone, Copy)]
pub enum Begin {
    /// At this word.
    Index(u32),
    /// Behind this word (in upper case), searched from word `from` on; from the end when negative.
    Keyword {
        /// The word.
        word: &'static str,
        /// Where the search for it starts.
        from: i32,
    },
    /// Not told.
    Unknown,
}

/// How keys are found from where the search begins.
#[derive(Debug, Clone, Copy)]
pub enum Find {
    /// By first, last and step.
    Range {
        /// Last key, relative to the first; from the end when negative.
        last: i32,
        /// Distance from key to key.
        step: u32,
        /// With `last` -1: the keys are the first 1/limit of the words; 0 and 1: all.
        limit: u32,
    },
    /// By a number of keys among the words.
    Counted {
        /// Where the number is, relative to the beginning.
        number_at: u32,
        /// Where the first key is, relative to the beginning.
        first: u32,
        /// Distance from key to key.
        step: u32,
    },
    /// Not told.
    Unknown,
}

/// One element of a command's grammar.
#[derive(Debug, Clone, Copy)]
pub struct Arg {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub kind: ArgKind,
    /// The word that introduces it.
    pub token: Option<&'static str>,
    /// Which key specification finds it.
    pub key_spec: Option<u8>,
    /// May be left out.
    pub optional: bool,
    /// May be repeated.
    pub multiple: bool,
    /// Its token is repeated with it.
    pub multiple_token: bool,
    /// The version that had it first, when later than the command.
    pub since: Option<&'static str>,
    /// The version that deprecated it.
    pub deprecated_since: Option<&'static str>,
    /// How it is shown, when not by its name.
    pub display: Option<&'static str>,
    /// What it is made of.
    pub args: &'static [Arg],
}

/// What an element of a grammar is, in Redis' words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum ArgKind {
    String,
    Integer,
    Double,
    Key,
    Pattern,
    UnixTime,
    PureToken,
    OneOf,
    Block,
}

impl ArgKind {
    /// The word COMMAND DOCS answers.
    pub fn name(self) -> &'static str {
        match self {
            ArgKind::String => "string",
            ArgKind::Integer => "integer",
            ArgKind::Double => "double",
            ArgKind::Key => "key",
            ArgKind::Pattern => "pattern",
            ArgKind::UnixTime => "unix-time",
            ArgKind::PureToken => "pure-token",
            ArgKind::OneOf => "oneof",
            ArgKind::Block => "block",
        }
    }
}

impl Arg {
    /// An element of the given kind.
    pub const fn new(name: &'static str, kind: ArgKind) -> Arg {
        Arg {
            name,
            kind,
            token: None,
            key_spec: None,
            optional: false,
            multiple: false,
            multiple_token: false,
            since: None,
            deprecated_since: None,
            display: None,
            args: &[],
        }
    }

    /// A key found by key specification `spec`.
    pub const fn key(name: &'static str, spec: u8) -> Arg {
        let mut arg = Arg::new(name, ArgKind::Key);
        arg.key_spec = Some(spec);
        arg
    }

    /// A string.
    pub const fn string(name: &'static str) -> Arg {
        Arg::new(name, ArgKind::String)
    }

    /// An integer.
    pub const fn integer(name: &'static str) -> Arg {
        Arg::new(name, ArgKind::Integer)
    }

    /// A double.
    pub const fn double(name: &'static str) -> Arg {
        Arg::new(name, ArgKind::Double)
    }

    /// A pattern.
    pub const fn pattern(name: &'static str) -> Arg {
        Arg::new(name, ArgKind::Pattern)
    }

    /// A moment in Unix time.
    pub const fn unix_time(name: &'static str) -> Arg {
        Arg::new(name, ArgKind::UnixTime)
    }

    /// A word that stands for itself.
    pub const fn word(name: &'static str, token: &'static str) -> Arg {
        let mut arg = Arg::new(name, ArgKind::PureToken);
        arg.token = Some(token);
        arg
    }

    /// One of several.
    pub const fn one_of(name: &'static str, args: &'static [Arg]) -> Arg {
        let mut arg = Arg::new(name, ArgKind::OneOf);
        arg.args = args;
        arg
    }

    /// Several in sequence.
    pub const fn block(name: &'static str, args: &'static [Arg]) -> Arg {
        let mut arg = Arg::new(name, ArgKind::Block);
        arg.args = args;
        arg
    }

    /// May be left out.
    pub const fn optional(mut self) -> Arg {
        self.optional = true;
        self
    }

    /// May be repeated.
    pub const fn multiple(mut self) -> Arg {
        self.multiple = true;
        self
    }

    /// May be repeated together with its token.
    pub const fn multiple_with_token(mut self) -> Arg {
        self.multiple = true;
        self.multiple_token = true;
        self
    }

    /// Introduced by a word.
    pub const fn token(mut self, token: &'static str) -> Arg {
        self.token = Some(token);
        self
    }

    /// First in this version.
    pub const fn since(mut self, version: &'static str) -> Arg {
        self.since = Some(version);
        self
    }

    /// Deprecated in this version.
    pub const fn deprecated_since(mut self, version: &'static str) -> Arg {
        self.deprecated_since = Some(version);
        self
    }

    /// Shown by this name.
    pub const fn display(mut self, text: &'static str) -> Arg {
        self.display = Some(text);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// What is wrong with a family's table, one line for each fault.
    fn faults(family: &[&'static Command]) -> Vec<String> {
        let mut found = Vec::new();
        let names: Vec<&str> = family.iter().map(|command| command.spec.name).collect();
        if !names.is_sorted_by(|one, next| one < next) {
            found.push(format!("not in order, or twice: {names:?}"));
        }
        for command in family.iter().flat_map(|command| [command].into_iter().chain(command.subcommands)) {
            found.extend(faults_of(command).iter().map(|fault| format!("{}: {fault}", command.spec.name)));
        }
        found
    }

    fn faults_of(command: &Command) -> Vec<&'static str> {
        let spec = &command.spec;
        let (write, read) = (spec.flags.has(Flags::WRITE), spec.flags.has(Flags::READONLY));
        let mut found = Vec::new();
        let mut must = |holds: bool, fault| {
            if !holds {
                found.push(fault);
            }
        };
        must(!spec.name.is_empty() && spec.name == spec.name.to_ascii_lowercase(), "a name in lower case");
        must(spec.summary.ends_with('.') && !spec.since.is_empty(), "a summary and a version");
        must(spec.arity != 0, "a number of words");
        must(!(write && read), "writes or reads, not both");
        must(spec.keys.is_empty() || write || read, "keys are written or read");
        must(write || !spec.flags.has(Flags::DENY_OOM), "only a write needs memory");
        must(
            matches!(command.run, Run::Container) == !command.subcommands.is_empty(),
            "a container has parts",
        );
        let keys: Vec<u8> = key_args(spec.args);
        for (index, key) in spec.keys.iter().enumerate() {
            let uses = [KeyFlags::RO, KeyFlags::RW, KeyFlags::OW, KeyFlags::RM];
            must(uses.iter().filter(|flag| key.flags.has(**flag)).count() == 1, "one use of each key");
            must(
                write || !(key.flags.has(KeyFlags::OW) || key.flags.has(KeyFlags::RM)),
                "a read removes nothing",
            );
            must(keys.contains(&(index as u8)), "an argument for every key specification");
            if let Begin::Index(begin) = key.begin {
                // A key that may be left out begins right behind the words that must be there.
                must(begin > 0 && begin <= spec.arity.unsigned_abs(), "keys among the words");
            }
        }
        must(keys.iter().all(|key| usize::from(*key) < spec.keys.len()), "a specification for every key");
        found
    }

    fn key_args(args: &[Arg]) -> Vec<u8> {
        args.iter().flat_map(|arg| arg.key_spec.into_iter().chain(key_args(arg.args))).collect()
    }

    #[test]
    fn declarations_are_well_formed() {
        let mut names = HashSet::new();
        for family in crate::FAMILIES {
            let found = faults(family);
            assert!(found.is_empty(), "{}", found.join("\n"));
            for command in *family {
                assert!(names.insert(command.spec.name), "{} is declared twice", command.spec.name);
            }
        }
    }

    #[test]
    fn a_bad_declaration_is_noticed() {
        static BAD: Command = Command {
            spec: Spec {
                name: "Bad",
                arity: 2,
                flags: Flags::READONLY.or(Flags::DENY_OOM),
                keys: &[KeySpec::at(3, KeyFlags::OW)],
                ..Spec::EMPTY
            },
            run: Run::Container,
            subcommands: &[],
        };
        assert_eq!(faults_of(&BAD).len(), 7);
        assert!(faults(&[&BAD, &BAD])[0].starts_with("not in order"));
    }
}
