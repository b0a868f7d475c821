//! Values with a grammar of their own: save rules, output limits, addresses, event classes, percentiles.
//!
//! Invariant: as in `value.rs`, what `lines` writes parses back to an equal value.
//! Read next: `../options.rs`.

use super::{Context, Setting, as_word, single};
use crate::kind::{self, BIND_ADDRESSES_MAX, Kind, Reason};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Whether the words of a list are none: none at all, or an empty one.
fn is_nothing(words: &[&[u8]]) -> bool {
    matches!(words, [] | [[]])
}

/// Snapshot when so many changes were made in so many seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SaveRule {
    /// Seconds since the last snapshot, at least 1.
    pub seconds: u64,
    /// Changes since the last snapshot.
    pub changes: u32,
}

/// The `save` option: any number of rules, none for no snapshots.
///
// Differs from Redis: an empty word is no number, where Redis takes it for zero changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SaveRules(Vec<SaveRule>);

impl SaveRules {
    fn parse(words: &[&[u8]]) -> Option<Vec<SaveRule>> {
        let (pairs, odd) = words.as_chunks::<2>();
        if !odd.is_empty() || pairs.is_empty() {
            return None;
        }
        let rule = |[seconds, changes]: &[&[u8]; 2]| {
            let seconds = u64::try_from(kind::strict_int(seconds)?).ok().filter(|&seconds| seconds > 0)?;
            let changes = u32::try_from(kind::strict_int(changes)?).ok()?;
            Some(SaveRule { seconds, changes })
        };
        pairs.iter().map(rule).collect()
    }
}

impl Setting for SaveRules {
    type View<'a> = &'a [SaveRule];

    fn assign(&mut self, _: &Kind, words: &[&[u8]], context: Context) -> Result<(), Reason> {
        // A line without words adds no rule; one with an empty word takes away those before it.
        let adds = context == Context::Again;
        if is_nothing(words) {
            if !(adds && words.is_empty()) {
                self.0.clear();
            }
            return Ok(());
        }
        let mut rules = SaveRules::parse(words).ok_or_else(|| Reason::new("Invalid save parameters"))?;
        if adds {
            self.0.append(&mut rules);
        } else {
            self.0 = rules;
        }
        Ok(())
    }

    fn show(&self, _: &Kind, out: &mut Vec<u8>) {
        let rules: Vec<_> = self.0.iter().map(|rule| format!("{} {}", rule.seconds, rule.changes)).collect();
        out.extend_from_slice(rules.join(" ").as_bytes());
    }

    fn lines(&self, _: &Kind) -> Vec<Vec<u8>> {
        if self.0.is_empty() {
            return vec![b"\"\"".to_vec()];
        }
        self.0.iter().map(|rule| format!("{} {}", rule.seconds, rule.changes).into_bytes()).collect()
    }

    fn view(&self) -> &[SaveRule] {
        &self.0
    }
}

/// How a signal ends the server (`shutdown-on-sigint`, `shutdown-on-sigterm`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EndBySignal(u8);

impl EndBySignal {
    const SAVE: u8 = 1;
    const NOSAVE: u8 = 1 << 1;
    const FORCE: u8 = 1 << 3;
    /// The words, in the order of their bits; `default` has none. `now` is for replicas, which nobody waits for.
    const WORDS: [(&str, u8); 5] = [
        ("default", 0),
        ("save", EndBySignal::SAVE),
        ("nosave", EndBySignal::NOSAVE),
        ("now", 1 << 2),
        ("force", EndBySignal::FORCE),
    ];

    /// Whether the data is saved before; `None`: as `save` says.
    #[must_use]
    pub fn saves(self) -> Option<bool> {
        (self.0 & (EndBySignal::SAVE | EndBySignal::NOSAVE) != 0).then_some(self.0 & EndBySignal::SAVE != 0)
    }

    /// Whether it ends also where that fails.
    #[must_use]
    pub fn is_forced(self) -> bool {
        self.0 & EndBySignal::FORCE != 0
    }
}

impl Setting for EndBySignal {
    type View<'a> = EndBySignal;

    fn assign(&mut self, _: &Kind, words: &[&[u8]], _: Context) -> Result<(), Reason> {
        let names = || EndBySignal::WORDS.map(|(name, _)| name).join(", ");
        let unknown = || Reason::new(format!("argument(s) must be one of the following: {}", names()));
        if words.is_empty() {
            return Err(unknown());
        }
        let mut bits = 0;
        for word in words {
            let named = |(name, _): &&(&str, u8)| name.as_bytes().eq_ignore_ascii_case(word);
            bits |= EndBySignal::WORDS.iter().find(named).ok_or_else(unknown)?.1;
        }
        if bits & EndBySignal::SAVE != 0 && bits & EndBySignal::NOSAVE != 0 {
            return Err(Reason::new("shutdown options SAVE and NOSAVE can't be used simultaneously"));
        }
        self.0 = bits;
        Ok(())
    }

    fn show(&self, _: &Kind, out: &mut Vec<u8>) {
        let is_shown = |(_, bit): &&(&str, u8)| if self.0 == 0 { *bit == 0 } else { self.0 & bit != 0 };
        let words: Vec<_> = EndBySignal::WORDS.iter().filter(is_shown).map(|(name, _)| *name).collect();
        out.extend_from_slice(words.join(" ").as_bytes());
    }

    fn view(&self) -> EndBySignal {
        *self
    }
}

/// The kinds of connection that have output limits of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientClass {
    /// Any connection that is none of the others.
    Normal = 0,
    /// A replica.
    Replica = 1,
    /// A connection with subscriptions.
    PubSub = 2,
}

impl ClientClass {
    const NAMES: [&str; 3] = ["normal", "slave", "pubsub"];

    fn from_word(word: &[u8]) -> Option<usize> {
        let names: [&[u8]; 4] = [b"normal", b"slave", b"pubsub", b"replica"];
        let index = names.iter().position(|name| name.eq_ignore_ascii_case(word))?;
        Some(if index == 3 { 1 } else { index })
    }
}

/// When a connection that does not read its replies is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OutputLimit {
    /// At once above so many bytes; 0 for never.
    pub hard_bytes: u64,
    /// After `soft_seconds` above so many bytes; 0 for never.
    pub soft_bytes: u64,
    /// How long `soft_bytes` may be passed.
    pub soft_seconds: u64,
}

/// The `client-output-buffer-limit` option: a limit for each class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OutputLimits([OutputLimit; 3]);

impl OutputLimits {
    /// The limit of a class.
    #[must_use]
    pub fn of(&self, class: ClientClass) -> OutputLimit {
        let [normal, replica, pubsub] = self.0;
        match class {
            ClientClass::Normal => normal,
            ClientClass::Replica => replica,
            ClientClass::PubSub => pubsub,
        }
    }

    fn limit([hard, soft, seconds]: [&[u8]; 3]) -> Option<OutputLimit> {
        let bytes = |word: &[u8]| kind::memory(word).filter(|_| !word.is_empty());
        let soft_seconds = u64::try_from(kind::strict_int(seconds)?).ok()?;
        Some(OutputLimit { hard_bytes: bytes(hard)?, soft_bytes: bytes(soft)?, soft_seconds })
    }

    fn each(&self) -> impl Iterator<Item = String> {
        ClientClass::NAMES.iter().zip(self.0).map(|(name, limit)| {
            format!("{name} {} {} {}", limit.hard_bytes, limit.soft_bytes, limit.soft_seconds)
        })
    }
}

impl Setting for OutputLimits {
    type View<'a> = &'a OutputLimits;

    fn assign(&mut self, _: &Kind, words: &[&[u8]], _: Context) -> Result<(), Reason> {
        if is_nothing(words) {
            return Ok(());
        }
        let (groups, odd) = words.as_chunks::<4>();
        if !odd.is_empty() {
            return Err(Reason::new("Wrong number of arguments in buffer limit configuration."));
        }
        let mut limits = *self;
        for &[class, hard, soft, seconds] in groups {
            let place =
                ClientClass::from_word(class).and_then(|index| limits.0.get_mut(index)).ok_or_else(|| {
                    Reason::new("Invalid client class specified in buffer limit configuration.")
                })?;
            *place = OutputLimits::limit([hard, soft, seconds]).ok_or_else(|| {
                Reason::new("Error in hard, soft or soft_seconds setting in buffer limit configuration.")
            })?;
        }
        *self = limits;
        Ok(())
    }

    fn show(&self, _: &Kind, out: &mut Vec<u8>) {
        out.extend_from_slice(self.each().collect::<Vec<_>>().join(" ").as_bytes());
    }

    fn lines(&self, _: &Kind) -> Vec<Vec<u8>> {
        ClientClass::NAMES
            .iter()
            .zip(self.0)
            .map(|(name, limit)| {
                let (hard, soft) =
                    (kind::memory_in_units(limit.hard_bytes), kind::memory_in_units(limit.soft_bytes));
                let name = if *name == "slave" { "replica" } else { name };
                format!("{name} {hard} {soft} {}", limit.soft_seconds).into_bytes()
            })
            .collect()
    }

    fn view(&self) -> &OutputLimits {
        self
    }
}

/// The `bind` option: addresses or host names; a leading `-` allows one to be missing, `*` is any.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Addresses(Vec<Box<[u8]>>);

impl Setting for Addresses {
    type View<'a> = &'a [Box<[u8]>];

    fn assign(&mut self, _: &Kind, words: &[&[u8]], _: Context) -> Result<(), Reason> {
        if words.len() > BIND_ADDRESSES_MAX {
            return Err(Reason::new("Too many bind addresses specified."));
        }
        let nothing = is_nothing(words);
        self.0 = if nothing { Vec::new() } else { words.iter().map(|&word| word.into()).collect() };
        Ok(())
    }

    fn show(&self, _: &Kind, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.join(&b' '));
    }

    fn lines(&self, _: &Kind) -> Vec<Vec<u8>> {
        if self.0.is_empty() {
            return vec![b"\"\"".to_vec()];
        }
        let words: Vec<_> = self.0.iter().map(|word| as_word(word)).collect();
        vec![words.join(&b' ')]
    }

    fn view(&self) -> &[Box<[u8]>] {
        &self.0
    }
}

/// The `notify-keyspace-events` option: which events are published, and on which channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeyspaceEvents(u32);

impl KeyspaceEvents {
    /// `K`: publish on `__keyspace@<db>__:<key>`.
    pub const KEYSPACE: KeyspaceEvents = KeyspaceEvents(1);
    /// `E`: publish on `__keyevent@<db>__:<event>`.
    pub const KEYEVENT: KeyspaceEvents = KeyspaceEvents(1 << 1);
    /// `g`: commands of no type, such as DEL.
    pub const GENERIC: KeyspaceEvents = KeyspaceEvents(1 << 2);
    /// `$`: strings.
    pub const STRING: KeyspaceEvents = KeyspaceEvents(1 << 3);
    /// `l`: lists.
    pub const LIST: KeyspaceEvents = KeyspaceEvents(1 << 4);
    /// `s`: sets.
    pub const SET: KeyspaceEvents = KeyspaceEvents(1 << 5);
    /// `h`: hashes.
    pub const HASH: KeyspaceEvents = KeyspaceEvents(1 << 6);
    /// `z`: sorted sets.
    pub const ZSET: KeyspaceEvents = KeyspaceEvents(1 << 7);
    /// `x`: keys that expired.
    pub const EXPIRED: KeyspaceEvents = KeyspaceEvents(1 << 8);
    /// `e`: keys that were evicted.
    pub const EVICTED: KeyspaceEvents = KeyspaceEvents(1 << 9);
    /// `t`: streams.
    pub const STREAM: KeyspaceEvents = KeyspaceEvents(1 << 10);
    /// `m`: reads of keys that do not exist; not part of `A`.
    pub const KEY_MISS: KeyspaceEvents = KeyspaceEvents(1 << 11);
    /// `d`: types of modules.
    pub const MODULE: KeyspaceEvents = KeyspaceEvents(1 << 13);
    /// `n`: new keys; not part of `A`.
    pub const NEW: KeyspaceEvents = KeyspaceEvents(1 << 14);
    /// `o`: keys that were given a whole new value; not part of `A`.
    pub const OVERWRITTEN: KeyspaceEvents = KeyspaceEvents(1 << 15);
    /// `c`: keys whose new value is of another type; not part of `A`.
    pub const TYPE_CHANGED: KeyspaceEvents = KeyspaceEvents(1 << 16);
    /// `A`: every class but `m`, `n`, `o` and `c`.
    pub const ALL: KeyspaceEvents = KeyspaceEvents(0b10_0111_1111_1100);

    /// The letters, in the order in which CONFIG GET gives them.
    const LETTERS: [(u8, KeyspaceEvents); 16] = [
        (b'g', KeyspaceEvents::GENERIC),
        (b'$', KeyspaceEvents::STRING),
        (b'l', KeyspaceEvents::LIST),
        (b's', KeyspaceEvents::SET),
        (b'h', KeyspaceEvents::HASH),
        (b'z', KeyspaceEvents::ZSET),
        (b'x', KeyspaceEvents::EXPIRED),
        (b'e', KeyspaceEvents::EVICTED),
        (b't', KeyspaceEvents::STREAM),
        (b'd', KeyspaceEvents::MODULE),
        (b'n', KeyspaceEvents::NEW),
        (b'o', KeyspaceEvents::OVERWRITTEN),
        (b'c', KeyspaceEvents::TYPE_CHANGED),
        (b'K', KeyspaceEvents::KEYSPACE),
        (b'E', KeyspaceEvents::KEYEVENT),
        (b'm', KeyspaceEvents::KEY_MISS),
    ];

    /// Whether every class of `events` is on.
    #[must_use]
    pub const fn contains(self, events: KeyspaceEvents) -> bool {
        self.0 & events.0 == events.0
    }

    /// Whether an event of any of these classes is published anywhere.
    #[must_use]
    pub const fn publishes(self, events: KeyspaceEvents) -> bool {
        self.0 & events.0 != 0 && self.0 & (KeyspaceEvents::KEYSPACE.0 | KeyspaceEvents::KEYEVENT.0) != 0
    }

    /// The classes as bits, those of Redis' module API.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Classes that CONFIG GET leaves out beside `A`, though `A` does not mean them.
    const HIDDEN: KeyspaceEvents = KeyspaceEvents(
        KeyspaceEvents::NEW.0 | KeyspaceEvents::OVERWRITTEN.0 | KeyspaceEvents::TYPE_CHANGED.0,
    );

    fn letters(self, with_hidden: bool) -> Vec<u8> {
        let all = self.contains(KeyspaceEvents::ALL);
        let mut letters = if all { vec![b'A'] } else { Vec::new() };
        letters.extend(KeyspaceEvents::LETTERS.iter().filter_map(|&(letter, class)| {
            let is_hidden = KeyspaceEvents::HIDDEN.contains(class) && !with_hidden;
            let covered = all && (KeyspaceEvents::ALL.contains(class) || is_hidden);
            (self.contains(class) && !covered).then_some(letter)
        }));
        letters
    }
}

impl Setting for KeyspaceEvents {
    type View<'a> = KeyspaceEvents;

    fn assign(&mut self, _: &Kind, words: &[&[u8]], _: Context) -> Result<(), Reason> {
        let mut events = 0;
        for letter in single(words)? {
            events |= match KeyspaceEvents::LETTERS.iter().find(|(known, _)| known == letter) {
                Some((_, class)) => class.0,
                None if *letter == b'A' => KeyspaceEvents::ALL.0,
                None => return Err(Reason::new("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.")),
            };
        }
        self.0 = events;
        Ok(())
    }

    /// As Redis, this leaves `n`, `o` and `c` out beside `A`.
    fn show(&self, _: &Kind, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.letters(false));
    }

    // Differs from Redis: a rewritten file keeps `n`, `o` and `c` beside `A`, so that a restart does not lose it.
    fn lines(&self, _: &Kind) -> Vec<Vec<u8>> {
        vec![as_word(&self.letters(true))]
    }

    fn view(&self) -> KeyspaceEvents {
        *self
    }
}

/// The `latency-tracking-info-percentiles` option.
///
// Differs from Redis: a percentile is a decimal number; hexadecimal ones are refused.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Percentiles(Vec<f64>);

impl Setting for Percentiles {
    type View<'a> = &'a [f64];

    fn assign(&mut self, _: &Kind, words: &[&[u8]], _: Context) -> Result<(), Reason> {
        if is_nothing(words) {
            self.0.clear();
            return Ok(());
        }
        let percentile = |word: &&[u8]| {
            let number = std::str::from_utf8(word).ok().and_then(|text| text.parse::<f64>().ok());
            let number = number.filter(|number| !number.is_nan());
            let number =
                number.ok_or_else(|| Reason::new("Invalid latency-tracking-info-percentiles parameters"))?;
            if (0.0..=100.0).contains(&number) {
                return Ok(number);
            }
            Err(Reason::new("latency-tracking-info-percentiles parameters should sit between [0.0,100.0]"))
        };
        self.0 = words.iter().map(percentile).collect::<Result<_, _>>()?;
        Ok(())
    }

    fn show(&self, _: &Kind, out: &mut Vec<u8>) {
        let texts: Vec<_> = self
            .0
            .iter()
            .map(|number| {
                let text = format!("{number:.6}");
                text.trim_end_matches('0').trim_end_matches('.').to_owned()
            })
            .collect();
        out.extend_from_slice(texts.join(" ").as_bytes());
    }

    /// All digits, so that nothing is rounded away by a restart.
    fn lines(&self, _: &Kind) -> Vec<Vec<u8>> {
        if self.0.is_empty() {
            return vec![b"\"\"".to_vec()];
        }
        let texts: Vec<_> = self.0.iter().map(f64::to_string).collect();
        vec![texts.join(" ").into_bytes()]
    }

    fn view(&self) -> &[f64] {
        &self.0
    }
}

/// The `oom-score-adj` option: whether the score by which the kernel chooses whom to end is changed, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OomScoreAdj {
    /// Not at all.
    #[default]
    No,
    /// By so much beside what it was.
    Relative,
    /// To so much.
    Absolute,
}

impl OomScoreAdj {
    pub(crate) const KIND: Kind = Kind::Choice { names: &["no", "yes", "relative", "absolute"] };
}

impl Setting for OomScoreAdj {
    type View<'a> = OomScoreAdj;

    fn assign(&mut self, kind: &Kind, words: &[&[u8]], _: Context) -> Result<(), Reason> {
        *self = match super::chosen(kind, words)? {
            0 => OomScoreAdj::No,
            1 | 2 => OomScoreAdj::Relative,
            _ => OomScoreAdj::Absolute,
        };
        Ok(())
    }

    fn show(&self, _: &Kind, out: &mut Vec<u8>) {
        out.extend_from_slice(match self {
            OomScoreAdj::No => b"no",
            OomScoreAdj::Relative => b"yes",
            OomScoreAdj::Absolute => b"absolute",
        });
    }

    fn view(&self) -> OomScoreAdj {
        *self
    }
}

/// The `oom-score-adj-values` option: for the server, a replica, and a background process.
///
// Differs from Redis: an empty word is no number, where Redis takes it for zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OomScores([i16; 3]);

impl Setting for OomScores {
    type View<'a> = [i16; 3];

    fn assign(&mut self, _: &Kind, words: &[&[u8]], _: Context) -> Result<(), Reason> {
        let words: &[&[u8]; 3] = words.try_into().map_err(|_| Reason::new("wrong number of arguments"))?;
        let score = |word: &[u8]| {
            let number = i16::try_from(kind::strict_int(word)?).ok()?;
            (-2000..=2000).contains(&number).then_some(number)
        };
        let [Some(main), Some(replica), Some(child)] = words.map(score) else {
            return Err(Reason::new(
                "Invalid oom-score-adj-values, elements must be between -2000 and 2000.",
            ));
        };
        self.0 = [main, replica, child];
        Ok(())
    }

    fn show(&self, _: &Kind, out: &mut Vec<u8>) {
        let [main, replica, child] = self.0;
        out.extend_from_slice(format!("{main} {replica} {child}").as_bytes());
    }

    fn lines(&self, kind: &Kind) -> Vec<Vec<u8>> {
        let mut shown = Vec::new();
        self.show(kind, &mut shown);
        vec![shown]
    }

    fn view(&self) -> [i16; 3] {
        self.0
    }
}

/// The `dir` option: a directory that exists. A relative one counts from the directory before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory(PathBuf);

impl Default for Directory {
    fn default() -> Self {
        Directory(PathBuf::from("."))
    }
}

impl Setting for Directory {
    type View<'a> = &'a Path;

    fn assign(&mut self, _: &Kind, words: &[&[u8]], _: Context) -> Result<(), Reason> {
        let word = single(words)?;
        if word.is_empty() {
            return Err(Reason::new("No such file or directory"));
        }
        let path = self.0.join(std::ffi::OsStr::from_bytes(word));
        let path = path.canonicalize().map_err(|error| Reason::from_io(&error))?;
        if !path.is_dir() {
            return Err(Reason::new("Not a directory"));
        }
        self.0 = path;
        Ok(())
    }

    fn show(&self, _: &Kind, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0.as_os_str().as_bytes());
    }

    fn view(&self) -> &Path {
        &self.0
    }
}
