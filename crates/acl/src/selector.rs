//! One list of rules of a user: which commands, which keys, which channels, which databases.
//!
//! Invariant: `allowed` is what `rules` say, worked out when they were given; a command is checked by one bit. `rules` are
//! kept in the order in which they were given, without those that later ones undo, to be shown again.

use crate::catalog::{Catalog, Channels, Databases, Entry, Keys, category};
use crate::check::Denied;
use crate::rules::RuleError;
use crate::words::{has_spaces, up_to_zero};
use larder_commands::command_info::keys_named;
use larder_commands::spec::KeyFlags;
use larder_commands::{Args, KeyAt};
use larder_values::{glob, number};
use smallvec::SmallVec;

/// A list of rules.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector {
    /// `+@all`, and no command taken away since.
    all_commands: bool,
    /// What commands are that have no number: the last of `+@all` and `-@all`.
    others: bool,
    all_keys: bool,
    all_channels: bool,
    /// A bit for each command.
    allowed: Vec<u64>,
    /// Commands that are allowed with one of these words behind their name.
    first_words: Vec<(usize, Vec<u8>)>,
    patterns: Vec<KeyPattern>,
    channels: Vec<Vec<u8>>,
    /// In ascending order; all where there is none.
    databases: Option<Vec<u32>>,
    /// Whether they allow, and the command or category.
    rules: Vec<(bool, Vec<u8>)>,
}

/// Keys that may be touched.
#[derive(Debug, Clone, PartialEq, Eq)]
struct KeyPattern {
    pattern: Vec<u8>,
    access: Access,
}

/// What may be done, or is done, with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Access {
    reads: bool,
    writes: bool,
}

impl Access {
    /// What is done with the keys of a specification.
    pub(crate) fn of(flags: KeyFlags) -> Access {
        let writes = [KeyFlags::INSERT, KeyFlags::DELETE, KeyFlags::UPDATE];
        Access { reads: flags.has(KeyFlags::ACCESS), writes: writes.into_iter().any(|flag| flags.has(flag)) }
    }

    fn covers(self, needed: Access) -> bool {
        (self.reads || !needed.reads) && (self.writes || !needed.writes)
    }
}

/// The keys of a command line that are not one at a fixed place, found once for all lists of a user.
#[derive(Default)]
pub(crate) struct FoundKeys(Option<SmallVec<[KeyAt; 4]>>);

impl FoundKeys {
    fn of(&mut self, entry: &Entry, args: &Args<'_>) -> &[KeyAt] {
        self.0.get_or_insert_with(|| match entry.keys {
            Keys::None | Keys::One(..) => SmallVec::new(),
            // Differs from Redis: PFMERGE with nothing to merge needs a permission for its key; Redis asks for none.
            Keys::Named | Keys::Invalidated => {
                let mut keys = keys_named(&entry.name, entry.spec, args).unwrap_or_default();
                keys.retain(|key| !key.flags.has(KeyFlags::NOT_KEY));
                keys
            }
            Keys::Stores => {
                let mut keys = keys_named(&entry.name, entry.spec, args).unwrap_or_default();
                keys.extend(stores(args));
                keys
            }
        })
    }
}

/// Where GEORADIUS may store.
// Differs from Redis: of several STOREs the last is obeyed, and Redis asks for a permission for the first alone.
fn stores(args: &Args<'_>) -> impl Iterator<Item = KeyAt> {
    let is_named = |index: &usize| args.is(index - 1, b"store") || args.is(index - 1, b"storedist");
    let flags = KeyFlags::OW.or(KeyFlags::UPDATE);
    (5..args.len()).filter(is_named).map(move |index| KeyAt { index: index as u32, flags })
}

/// The numbers of databases behind `db=`, in ascending order.
fn parse_databases(numbers: &[u8]) -> Result<Vec<u32>, RuleError> {
    let parse = |digits: &[u8]| {
        let (is_negative, digits) = match digits {
            [b'-', digits @ ..] => (true, digits),
            [b'+', digits @ ..] => (false, digits),
            digits => (false, digits),
        };
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Err(RuleError::Syntax);
        }
        let significant = digits.iter().position(|digit| *digit != b'0').unwrap_or(digits.len() - 1);
        let number = number::parse_i64(&digits[significant..]).and_then(|number| i32::try_from(number).ok());
        let number = number.filter(|number| !is_negative || *number == 0).ok_or(RuleError::BadDatabase)?;
        Ok(number.unsigned_abs())
    };
    let mut numbers: Vec<u32> = numbers.split(|byte| *byte == b',').map(parse).collect::<Result<_, _>>()?;
    numbers.sort_unstable();
    numbers.dedup();
    Ok(numbers)
}

/// Which word names a database that a command line needs and that is not among those allowed; 0 for the one in use. What is no
/// number the command itself refuses.
fn denied_database(allowed: &[u32], needed: Databases, args: &Args<'_>, db: u32) -> Option<usize> {
    let is_denied = |db: u32| allowed.binary_search(&db).is_err();
    let names_denied = |index: &usize| {
        let db = args.try_get(*index).and_then(number::parse_i64);
        db.and_then(|db| u32::try_from(db).ok()).is_some_and(is_denied)
    };
    let in_use = is_denied(db).then_some(0);
    match needed {
        Databases::None => None,
        Databases::Current => in_use,
        // There is no end of databases.
        Databases::All => Some(0),
        Databases::Selected => Some(1).filter(names_denied),
        Databases::Swapped => Some(1).filter(names_denied).or(Some(2).filter(names_denied)),
        Databases::Moved => in_use.or(Some(2).filter(names_denied)),
        Databases::Copied => in_use.or_else(|| {
            (3..args.len()).filter(|index| args.is(*index, b"db")).map(|index| index + 1).find(names_denied)
        }),
    }
}

impl Selector {
    /// One that allows nothing, but all channels where `acl-pubsub-default` says so.
    pub(crate) fn new(all_channels: bool) -> Selector {
        Selector { all_channels, ..Selector::default() }
    }

    /// Whether it allows everything on keys: all commands, all keys, in all databases.
    pub(crate) fn is_free_on_keys(&self) -> bool {
        self.all_commands && self.all_keys && self.has_all_databases()
    }

    /// Whether no database is out of bounds.
    pub fn has_all_databases(&self) -> bool {
        self.databases.is_none()
    }

    /// Whether it allows everything.
    pub(crate) fn is_free(&self) -> bool {
        self.is_free_on_keys() && self.all_channels
    }

    /// Obeys one rule.
    pub(crate) fn apply(&mut self, catalog: &Catalog, rule: &[u8]) -> Result<(), RuleError> {
        let word = up_to_zero(rule);
        match word.to_ascii_lowercase().as_slice() {
            b"allkeys" | b"~*" => (self.all_keys, self.patterns) = (true, Vec::new()),
            b"resetkeys" => (self.all_keys, self.patterns) = (false, Vec::new()),
            b"allchannels" | b"&*" => (self.all_channels, self.channels) = (true, Vec::new()),
            b"resetchannels" => (self.all_channels, self.channels) = (false, Vec::new()),
            b"alldbs" => self.databases = None,
            b"resetdbs" => self.databases = Some(Vec::new()),
            b"allcommands" | b"+@all" => self.set_all(catalog, true),
            b"nocommands" | b"-@all" => self.set_all(catalog, false),
            _ => match (rule.first(), word.get(1..).unwrap_or_default()) {
                (Some(b'~' | b'%'), _) => self.add_pattern(rule)?,
                (Some(b'&'), _) => self.add_channel(rule.get(1..).unwrap_or_default())?,
                (Some(sign @ (b'+' | b'-')), [b'@', name @ ..]) => {
                    self.set_category(catalog, name, *sign == b'+')?;
                }
                (Some(b'+'), name) => self.allow(catalog, name)?,
                (Some(b'-'), name) => self.forbid(catalog, name)?,
                _ => match word.split_at_checked(3) {
                    Some((name, numbers)) if name.eq_ignore_ascii_case(b"db=") => {
                        self.databases = Some(parse_databases(numbers)?);
                    }
                    _ => return Err(RuleError::Syntax),
                },
            },
        }
        Ok(())
    }

    fn set_all(&mut self, catalog: &Catalog, allow: bool) {
        let word = if allow { u64::MAX } else { 0 };
        self.allowed = vec![word; catalog.len().div_ceil(64)];
        (self.all_commands, self.others) = (allow, allow);
        (self.rules, self.first_words) = (Vec::new(), Vec::new());
    }

    fn add_pattern(&mut self, rule: &[u8]) -> Result<(), RuleError> {
        if self.all_keys {
            return Err(RuleError::AfterAllKeys);
        }
        let (access, pattern) = match rule {
            [b'%', rest @ ..] => {
                let end = rest.iter().position(|byte| *byte == b'~');
                let (letters, pattern) = match end {
                    Some(end) => (&rest[..end], &rest[end + 1..]),
                    None => (rest, &rest[rest.len()..]),
                };
                let access = match letters.to_ascii_uppercase().as_slice() {
                    b"R" => Access { reads: true, writes: false },
                    b"W" => Access { reads: false, writes: true },
                    b"RW" | b"WR" => Access { reads: true, writes: true },
                    _ => return Err(RuleError::Syntax),
                };
                (access, pattern)
            }
            _ => (Access { reads: true, writes: true }, rule.get(1..).unwrap_or_default()),
        };
        if has_spaces(pattern) {
            return Err(RuleError::Syntax);
        }
        match self.patterns.iter_mut().find(|known| known.pattern == pattern) {
            Some(known) => {
                known.access.reads |= access.reads;
                known.access.writes |= access.writes;
            }
            None => self.patterns.push(KeyPattern { pattern: pattern.to_vec(), access }),
        }
        Ok(())
    }

    fn add_channel(&mut self, pattern: &[u8]) -> Result<(), RuleError> {
        if self.all_channels {
            return Err(RuleError::AfterAllChannels);
        }
        if has_spaces(pattern) {
            return Err(RuleError::Syntax);
        }
        if !self.channels.iter().any(|known| known == pattern) {
            self.channels.push(pattern.to_vec());
        }
        Ok(())
    }

    fn set_category(&mut self, catalog: &Catalog, name: &[u8], allow: bool) -> Result<(), RuleError> {
        let wanted = category(name).ok_or(RuleError::Unknown)?;
        self.note_rule(&[b"@", name].concat(), allow);
        for (id, entry) in catalog.entries().filter(|(_, entry)| entry.categories.has(wanted)) {
            self.set_command(catalog, id, entry, allow);
        }
        Ok(())
    }

    fn allow(&mut self, catalog: &Catalog, name: &[u8]) -> Result<(), RuleError> {
        let find = |name: &[u8]| catalog.find(name).and_then(|id| Some((id, catalog.entry(id)?)));
        let Some(bar) = name.iter().rposition(|byte| *byte == b'|') else {
            let (id, entry) = find(name).ok_or(RuleError::Unknown)?;
            self.set_command(catalog, id, entry, true);
            self.note_rule(entry.name.as_bytes(), true);
            return Ok(());
        };
        let (command, word) = (&name[..bar], &name[bar + 1..]);
        let (id, entry) = find(command).ok_or(RuleError::Unknown)?;
        if entry.is_subcommand {
            return Err(RuleError::FirstWordOfSubcommand);
        }
        if word.is_empty() {
            return Err(RuleError::Syntax);
        }
        if entry.subcommands.is_empty() {
            let is_same =
                |(known, other): &(usize, Vec<u8>)| *known == id && other.eq_ignore_ascii_case(word);
            if !self.first_words.iter().any(is_same) {
                self.first_words.push((id, word.to_vec()));
            }
        } else {
            let (id, entry) = find(name).ok_or(RuleError::Unknown)?;
            self.set_command(catalog, id, entry, true);
        }
        self.note_rule(name, true);
        Ok(())
    }

    fn forbid(&mut self, catalog: &Catalog, name: &[u8]) -> Result<(), RuleError> {
        let id = catalog.find(name).ok_or(RuleError::Unknown)?;
        let entry = catalog.entry(id).ok_or(RuleError::Unknown)?;
        self.set_command(catalog, id, entry, false);
        self.note_rule(entry.name.as_bytes(), false);
        Ok(())
    }

    /// Sets the bit of a command and of its subcommands.
    fn set_command(&mut self, catalog: &Catalog, id: usize, entry: &Entry, allow: bool) {
        self.allowed.resize(catalog.len().div_ceil(64), 0);
        for id in std::iter::once(id).chain(entry.subcommands.iter().copied()) {
            let Some(word) = self.allowed.get_mut(id / 64) else { continue };
            if allow {
                *word |= 1 << (id % 64);
            } else {
                *word &= !(1 << (id % 64));
                self.all_commands = false;
            }
        }
        self.first_words.retain(|(known, _)| *known != id && !entry.subcommands.contains(known));
    }

    /// Keeps a rule to be shown, in place of those that it undoes: of the same command, and of its subcommands.
    fn note_rule(&mut self, name: &[u8], allow: bool) {
        let name = name.to_ascii_lowercase();
        self.rules.retain(|(_, known)| match known.strip_prefix(name.as_slice()) {
            Some(rest) => !(rest.is_empty() || rest.starts_with(b"|")),
            None => true,
        });
        self.rules.push((allow, name));
    }

    /// Whether a command line is allowed in a database.
    pub(crate) fn check(
        &self,
        (id, entry): (usize, &Entry),
        args: &Args<'_>,
        db: u32,
        keys: &mut FoundKeys,
    ) -> Result<(), Denied> {
        if let Some(allowed) = &self.databases
            && let Some(index) = denied_database(allowed, entry.databases, args, db)
        {
            return Err(Denied::Database(index));
        }
        if !self.all_commands && !entry.is_for_all && !self.allows_command(id, entry, args) {
            return Err(Denied::Command);
        }
        if !self.all_keys && entry.keys == Keys::Invalidated && !self.allows_many(args) {
            return Err(Denied::Key(3));
        }
        if let Keys::One(index, access) = entry.keys {
            return match args.try_get(index) {
                Some(key) if !self.all_keys && !self.allows_key(key, access) => Err(Denied::Key(index)),
                _ => Ok(()),
            };
        }
        if !self.all_keys && entry.keys != Keys::None {
            for key in keys.of(entry, args) {
                if !self.allows_key(args.get(key.index as usize), Access::of(key.flags)) {
                    return Err(Denied::Key(key.index as usize));
                }
            }
        }
        if self.all_channels || entry.channels == Channels::None {
            return Ok(());
        }
        let last = if entry.channels == Channels::First { 2.min(args.len()) } else { args.len() };
        let is_pattern = entry.channels == Channels::Patterns;
        match (1..last).find(|index| !self.allows_channel(args.get(*index), is_pattern)) {
            Some(index) => Err(Denied::Channel(index)),
            None => Ok(()),
        }
    }

    /// Whether CACHE INVALIDATE may have all the keys that it does not name: every one with a prefix, where a pattern is open
    /// at its end and fits the prefix; those with a tag, whatever they are called, where any key may be written.
    fn allows_many(&self, args: &Args<'_>) -> bool {
        let (is_prefix, is_tag) = (args.is(2, b"prefix"), args.is(2, b"tag"));
        let prefix = args.get(3);
        (!is_prefix && !is_tag)
            || self.patterns.iter().filter(|known| known.access.writes).any(|known| {
                let is_all = known.pattern == b"*";
                let is_open = matches!(known.pattern[..], [.., before, b'*'] if before != b'\\');
                is_all || (is_prefix && is_open && glob::matches(&known.pattern, prefix))
            })
    }

    fn allows_command(&self, id: usize, entry: &Entry, args: &Args<'_>) -> bool {
        if self.allowed.get(id / 64).is_some_and(|word| word >> (id % 64) & 1 == 1) {
            return true;
        }
        let Some(word) = args.try_get(if entry.is_subcommand { 2 } else { 1 }) else { return false };
        self.first_words.iter().any(|(known, allowed)| {
            *known == id && up_to_zero(word).eq_ignore_ascii_case(up_to_zero(allowed))
        })
    }

    /// Whether a key may be used in a way.
    pub(crate) fn allows_key(&self, key: &[u8], needed: Access) -> bool {
        self.all_keys
            || self
                .patterns
                .iter()
                .any(|known| known.access.covers(needed) && glob::matches(&known.pattern, key))
    }

    /// Whether a channel may be used. A pattern is one of those that are allowed, to the letter.
    pub(crate) fn allows_channel(&self, channel: &[u8], is_pattern: bool) -> bool {
        self.all_channels
            || self.channels.iter().any(|known| match is_pattern {
                true => known == channel,
                false => glob::matches(known, channel),
            })
    }

    /// Whether any key may be read, whatever its name.
    pub(crate) fn reads_all_keys(&self) -> bool {
        self.all_keys || self.patterns.iter().any(|known| known.access.reads && known.pattern == b"*")
    }

    /// Whether every channel and pattern of `other` is here as well.
    pub(crate) fn channels(&self) -> Option<&[Vec<u8>]> {
        (!self.all_channels).then_some(&self.channels)
    }

    /// The rules about commands, as ACL GETUSER shows them.
    pub fn commands_text(&self) -> Vec<u8> {
        let mut text = if self.others { b"+@all".to_vec() } else { b"-@all".to_vec() };
        for (allow, name) in &self.rules {
            text.extend_from_slice(if *allow { b" +" } else { b" -" });
            text.extend_from_slice(name);
        }
        text
    }

    /// The rules about keys, as ACL GETUSER shows them.
    pub fn keys_text(&self) -> Vec<u8> {
        if self.all_keys {
            return b"~*".to_vec();
        }
        let one = |known: &KeyPattern| {
            let sign: &[u8] = match (known.access.reads, known.access.writes) {
                (true, false) => b"%R~",
                (false, true) => b"%W~",
                _ => b"~",
            };
            [sign, &known.pattern].concat()
        };
        self.patterns.iter().map(one).collect::<Vec<_>>().join(&b' ')
    }

    /// The rules about channels, as ACL GETUSER shows them.
    pub fn channels_text(&self) -> Vec<u8> {
        if self.all_channels {
            return b"&*".to_vec();
        }
        self.channels.iter().map(|known| [b"&", known.as_slice()].concat()).collect::<Vec<_>>().join(&b' ')
    }

    /// The rules about databases, as ACL GETUSER shows them.
    pub fn databases_text(&self) -> Vec<u8> {
        match self.databases.as_deref() {
            None => b"alldbs".to_vec(),
            Some([]) => b"resetdbs".to_vec(),
            Some(numbers) => {
                let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
                format!("db={}", numbers.join(",")).into_bytes()
            }
        }
    }

    /// All rules, as ACL LIST shows them.
    pub(crate) fn describe(&self, out: &mut Vec<u8>) {
        if self.all_keys || !self.patterns.is_empty() {
            out.extend_from_slice(&self.keys_text());
            out.push(b' ');
        }
        if !self.all_channels {
            out.extend_from_slice(b"resetchannels ");
        }
        if self.all_channels || !self.channels.is_empty() {
            out.extend_from_slice(&self.channels_text());
            out.push(b' ');
        }
        if !self.has_all_databases() {
            out.extend_from_slice(&self.databases_text());
            out.push(b' ');
        }
        out.extend_from_slice(&self.commands_text());
    }
}
