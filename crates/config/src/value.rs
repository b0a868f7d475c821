//! The types that options have: how each is parsed, shown by CONFIG GET, and written to a file.
//!
//! Invariant: what [`Setting::lines`] writes parses back to an equal value; `rewrite.rs` depends on it.
//! Read next: `value/special.rs` for the options with a grammar of their own, `options.rs` for the table.

use crate::kind::{self, Kind, Reason};
use crate::line;

mod cron;
mod lines;
mod special;

pub use cron::{Schedule, Schedules};
pub use lines::Lines;
pub use special::{
    Addresses, ClientClass, Directory, EndBySignal, KeyspaceEvents, OomScoreAdj, OomScores, OutputLimit,
    OutputLimits, Percentiles, SaveRule, SaveRules,
};

/// Where a value comes from, for the few options to which it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    /// The option's first line in the files and the command line read.
    First,
    /// A later line of the same option.
    Again,
    /// CONFIG SET, or the server itself.
    Set,
}

/// A type that an option's value has. Implemented here only.
pub trait Setting: Clone + PartialEq + Default {
    /// What the accessor of `Settings` returns.
    type View<'a>
    where
        Self: 'a;

    /// Takes over what the words say, or says why it can't. On an error the value is unchanged.
    ///
    /// # Errors
    /// The reason, in Redis' words.
    fn assign(&mut self, kind: &Kind, words: &[&[u8]], context: Context) -> Result<(), Reason>;

    /// Appends the value as CONFIG GET answers it.
    fn show(&self, kind: &Kind, out: &mut Vec<u8>);

    /// The value as lines of a file, without the option's name.
    fn lines(&self, kind: &Kind) -> Vec<Vec<u8>> {
        let mut shown = Vec::new();
        self.show(kind, &mut shown);
        vec![as_word(&shown)]
    }

    /// Cheap access.
    fn view(&self) -> Self::View<'_>;
}

/// The word as a file holds it: quoted when it has to be.
pub(crate) fn as_word(word: &[u8]) -> Vec<u8> {
    if !line::needs_quotes(word) {
        return word.to_vec();
    }
    let mut quoted = Vec::new();
    line::quote(word, &mut quoted);
    quoted
}

/// The only word there is.
fn single<'a>(words: &[&'a [u8]]) -> Result<&'a [u8], Reason> {
    match words {
        [word] => Ok(word),
        _ => Err(Reason::new("wrong number of arguments")),
    }
}

impl Setting for bool {
    type View<'a> = bool;

    fn assign(&mut self, _: &Kind, words: &[&[u8]], _: Context) -> Result<(), Reason> {
        let word = single(words)?;
        *self = if word.eq_ignore_ascii_case(b"yes") {
            true
        } else if word.eq_ignore_ascii_case(b"no") {
            false
        } else {
            return Err(Reason::new("argument must be 'yes' or 'no'"));
        };
        Ok(())
    }

    fn show(&self, _: &Kind, out: &mut Vec<u8>) {
        out.extend_from_slice(if *self { b"yes" } else { b"no" });
    }

    fn view(&self) -> bool {
        *self
    }
}

/// Whole numbers. The bounds of the kind stand in the table and fit the type, which a test checks.
macro_rules! whole_number {
    ($($type:ty),*) => {$(
        impl Setting for $type {
            type View<'a> = $type;

            fn assign(&mut self, kind: &Kind, words: &[&[u8]], _: Context) -> Result<(), Reason> {
                let word = single(words)?;
                let number = match kind {
                    Kind::Memory { .. } => kind::bytes(kind, word)?,
                    Kind::Octal { max } => i64::from(kind::octal(word, *max)?),
                    _ => kind::int(kind, word)?,
                };
                *self = <$type>::try_from(number).map_err(|_| Reason::new("argument is out of range"))?;
                Ok(())
            }

            fn show(&self, kind: &Kind, out: &mut Vec<u8>) {
                let text = if matches!(kind, Kind::Octal { .. }) { format!("{self:o}") } else { self.to_string() };
                out.extend_from_slice(text.as_bytes());
            }

            fn lines(&self, kind: &Kind) -> Vec<Vec<u8>> {
                if matches!(kind, Kind::Memory { .. }) {
                    let bytes = u64::try_from(*self).unwrap_or_default();
                    return vec![kind::memory_in_units(bytes).into_bytes()];
                }
                let mut shown = Vec::new();
                self.show(kind, &mut shown);
                vec![shown]
            }

            fn view(&self) -> $type {
                *self
            }
        }
    )*};
}

whole_number!(u16, u32, i32, u64, i64);

/// Any bytes, empty when not given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Text(Box<[u8]>);

impl Setting for Text {
    type View<'a> = &'a [u8];

    fn assign(&mut self, kind: &Kind, words: &[&[u8]], _: Context) -> Result<(), Reason> {
        let word = single(words)?;
        kind::text(kind, word)?;
        self.0 = word.into();
        Ok(())
    }

    fn show(&self, _: &Kind, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }

    fn view(&self) -> &[u8] {
        &self.0
    }
}

/// Words that are only compared, for options that have one possible value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Words(Vec<Box<[u8]>>);

impl Setting for Words {
    type View<'a> = &'a [Box<[u8]>];

    fn assign(&mut self, _: &Kind, words: &[&[u8]], _: Context) -> Result<(), Reason> {
        if words.is_empty() {
            return Err(Reason::new("wrong number of arguments"));
        }
        let nothing = matches!(words, [[]]) || matches!(words, [no, one] if is_no_one(no, one));
        self.0 = if nothing { Vec::new() } else { words.iter().map(|&word| word.into()).collect() };
        Ok(())
    }

    fn show(&self, _: &Kind, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.join(&b' '));
    }

    fn view(&self) -> &[Box<[u8]>] {
        &self.0
    }
}

/// "no one" as the host and port of a primary.
fn is_no_one(host: &[u8], port: &[u8]) -> bool {
    host.eq_ignore_ascii_case(b"no") && port.eq_ignore_ascii_case(b"one")
}

/// A number of bytes or a share of `maxmemory`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryOrPercent {
    /// So many bytes; 0 means no limit.
    Bytes(u64),
    /// So many hundredths of `maxmemory`, 1 to 100.
    Percent(u8),
}

impl Default for MemoryOrPercent {
    fn default() -> Self {
        MemoryOrPercent::Bytes(0)
    }
}

impl Setting for MemoryOrPercent {
    type View<'a> = MemoryOrPercent;

    fn assign(&mut self, _: &Kind, words: &[&[u8]], _: Context) -> Result<(), Reason> {
        const MALFORMED: &str = "argument must be a memory or percent value";
        const TOO_MUCH: &str = "percentage argument must be less or equal to 100";
        let word = single(words)?;
        let Some(digits) = word.strip_suffix(b"%") else {
            let bytes = kind::memory(word).ok_or_else(|| Reason::new(MALFORMED))?;
            if i64::try_from(bytes).is_err() {
                // Redis keeps percentages as negative numbers, and so takes this for one.
                return Err(Reason::new(TOO_MUCH));
            }
            *self = MemoryOrPercent::Bytes(bytes);
            return Ok(());
        };
        let percent =
            kind::strict_int(digits).filter(|&number| number >= 0).ok_or_else(|| Reason::new(MALFORMED))?;
        *self = match u8::try_from(percent) {
            Ok(0) => MemoryOrPercent::Bytes(0),
            Ok(percent @ 1..=100) => MemoryOrPercent::Percent(percent),
            _ => return Err(Reason::new(TOO_MUCH)),
        };
        Ok(())
    }

    fn show(&self, _: &Kind, out: &mut Vec<u8>) {
        let text = match self {
            MemoryOrPercent::Bytes(bytes) => bytes.to_string(),
            MemoryOrPercent::Percent(percent) => format!("{percent}%"),
        };
        out.extend_from_slice(text.as_bytes());
    }

    fn view(&self) -> MemoryOrPercent {
        *self
    }
}

/// One word of a list: its place in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Choice(usize);

impl Setting for Choice {
    type View<'a> = usize;

    fn assign(&mut self, kind: &Kind, words: &[&[u8]], _: Context) -> Result<(), Reason> {
        self.0 = chosen(kind, words)?;
        Ok(())
    }

    fn show(&self, kind: &Kind, out: &mut Vec<u8>) {
        if let Kind::Choice { names } = kind {
            out.extend_from_slice(names.get(self.0).copied().unwrap_or_default().as_bytes());
        }
    }

    fn view(&self) -> usize {
        self.0
    }
}

/// The place of the given word in the kind's list.
fn chosen(kind: &Kind, words: &[&[u8]]) -> Result<usize, Reason> {
    let word = single(words)?;
    let Kind::Choice { names } = kind else { return Err(Reason::new("argument is not a choice")) };
    let is_word = |name: &&str| name.as_bytes().eq_ignore_ascii_case(word);
    if let Some(index) = names.iter().position(is_word) {
        return Ok(index);
    }
    let choices = names.join(", ");
    Err(Reason::new(format!("argument(s) must be one of the following: {choices}")))
}

/// Declares an enum that is an option's value, with the word of each variant.
macro_rules! choices {
    ($($(#[$doc:meta])* $type:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub enum $type {
            $($(#[$variant_doc])* $variant),*
        }

        impl $type {
            /// Every variant, in the order in which errors list them.
            pub const ALL: &[$type] = &[$($type::$variant),*];

            /// The form of this option in the table.
            pub(crate) const KIND: Kind = Kind::Choice { names: &[$($word),*] };

            /// The word of this variant.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $($type::$variant => $word),*
                }
            }
        }

        impl Setting for $type {
            type View<'a> = $type;

            fn assign(&mut self, kind: &Kind, words: &[&[u8]], _: Context) -> Result<(), Reason> {
                *self = $type::ALL.get(chosen(kind, words)?).copied().unwrap_or_default();
                Ok(())
            }

            fn show(&self, _: &Kind, out: &mut Vec<u8>) {
                out.extend_from_slice(self.name().as_bytes());
            }

            fn view(&self) -> $type {
                *self
            }
        }
    )*};
}

choices! {
    /// What gives way when `maxmemory` is reached.
    MaxmemoryPolicy {
        /// The one used longest ago, of the keys with a time to live.
        VolatileLru = "volatile-lru",
        /// The one used least often, of the keys with a time to live.
        VolatileLfu = "volatile-lfu",
        /// Any key with a time to live.
        VolatileRandom = "volatile-random",
        /// The one that ends first.
        VolatileTtl = "volatile-ttl",
        /// The one used longest ago.
        AllKeysLru = "allkeys-lru",
        /// The one used least often.
        AllKeysLfu = "allkeys-lfu",
        /// Any key.
        AllKeysRandom = "allkeys-random",
        /// Nothing: commands that need memory are refused.
        #[default]
        NoEviction = "noeviction",
        /// The one least worth its room, by what has been learnt of all keys.
        AllKeysAdaptive = "allkeys-adaptive",
        /// The same, of the keys with a time to live.
        VolatileAdaptive = "volatile-adaptive",
        /// The one written longest ago.
        AllKeysLrm = "allkeys-lrm",
        /// The same, of the keys with a time to live.
        VolatileLrm = "volatile-lrm",
        /// The one used last.
        AllKeysMru = "allkeys-mru",
        /// The same, of the keys with a time to live.
        VolatileMru = "volatile-mru",
        /// The one made longest ago.
        AllKeysFifo = "allkeys-fifo",
        /// The same, of the keys with a time to live.
        VolatileFifo = "volatile-fifo",
        /// SIEVE: one queue, and a hand that spares what was used.
        AllKeysSieve = "allkeys-sieve",
        /// The same, of the keys with a time to live.
        VolatileSieve = "volatile-sieve",
        /// S3-FIFO: a small queue for what is new, before the main one.
        AllKeysS3Fifo = "allkeys-s3fifo",
        /// The same, of the keys with a time to live.
        VolatileS3Fifo = "volatile-s3fifo",
        /// W-TinyLFU: a window for what is new, and admission by frequency.
        AllKeysWTinyLfu = "allkeys-wtinylfu",
        /// The same, of the keys with a time to live.
        VolatileWTinyLfu = "volatile-wtinylfu",
        /// Greedy Dual Size Frequency: small and often used keys stay.
        AllKeysGdsf = "allkeys-gdsf",
        /// The same, of the keys with a time to live.
        VolatileGdsf = "volatile-gdsf",
        /// Short for allkeys-adaptive.
        Adaptive = "adaptive",
        /// Short for allkeys-s3fifo.
        S3Fifo = "s3fifo",
        /// Short for allkeys-sieve.
        Sieve = "sieve",
        /// Short for allkeys-wtinylfu.
        WTinyLfu = "wtinylfu",
        /// Short for allkeys-gdsf.
        Gdsf = "gdsf",
    }

    /// The least important message that is logged.
    LogLevel {
        /// Everything.
        Debug = "debug",
        /// What is rarely useful.
        Verbose = "verbose",
        /// What matters in production.
        #[default]
        Notice = "notice",
        /// Only what is critical.
        Warning = "warning",
        /// Nothing at all.
        Nothing = "nothing",
    }

    /// The form of log lines.
    LogFormat {
        /// For people.
        #[default]
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }

    /// The keyed hash function of the keyspace.
    HashFunction {
        /// Safe against clients that craft colliding keys; by AES where the processor has it.
        #[default]
        Keyed = "keyed",
        /// As safe, without the processor's help.
        SipHash = "siphash",
        /// Fewer cycles a key, for clients that are trusted.
        Fast = "fast",
    }

    /// Whether clients show certificates.
    TlsAuthClients {
        /// They are not asked.
        No = "no",
        /// They must.
        #[default]
        Yes = "yes",
        /// They may.
        Optional = "optional",
    }

    /// Which service manager is told of the state of the server.
    Supervision {
        /// Upstart, which waits for the process to stop itself.
        Upstart = "upstart",
        /// systemd, which listens on a socket.
        Systemd = "systemd",
        /// Whichever the environment shows.
        Auto = "auto",
        /// None.
        #[default]
        No = "no",
    }

    /// Who may use a guarded feature.
    Guard {
        /// Nobody.
        #[default]
        No = "no",
        /// Everybody.
        Yes = "yes",
        /// Connections from this machine.
        Local = "local",
    }

    /// Whether payloads of RESTORE are checked to the last byte.
    SanitizePayload {
        /// Leave it to the server.
        #[default]
        No = "no",
        /// Always.
        Yes = "yes",
        /// For clients, not for files and replication.
        Clients = "clients",
    }
}

impl Guard {
    /// Whether a connection may; `is_local` says that it comes from this machine.
    #[must_use]
    pub const fn allows(self, is_local: bool) -> bool {
        match self {
            Guard::No => false,
            Guard::Yes => true,
            Guard::Local => is_local,
        }
    }
}
