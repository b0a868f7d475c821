//! What is known of one user: whether it may log in, by which passwords, and its lists of rules.
//!
//! Invariant: there is always a first list; a command line that one list allows is allowed.

use crate::catalog::Catalog;
use crate::check::Denied;
use crate::password::{Password, hash_password};
use crate::selector::{Access, FoundKeys, Selector};
use crate::words::up_to_zero;
use larder_commands::Args;
use larder_resp::split_words;

/// Why a rule is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleError {
    /// It is no rule.
    Syntax,
    /// There is no such command or category.
    Unknown,
    /// The password that is to go is not there.
    NoSuchPassword,
    /// It is no SHA-256 in hexadecimal.
    BadHash,
    /// A word behind a subcommand cannot be allowed.
    FirstWordOfSubcommand,
    /// All keys are allowed already.
    AfterAllKeys,
    /// All channels are allowed already.
    AfterAllChannels,
    /// No database has this number.
    BadDatabase,
}

impl RuleError {
    /// Redis' words for it.
    pub fn text(self) -> &'static str {
        match self {
            RuleError::Syntax => "Syntax error",
            RuleError::Unknown => "Unknown command or category name in ACL",
            RuleError::NoSuchPassword => "The password you are trying to remove from the user does not exist",
            RuleError::BadDatabase => "The provided database ID is out of range",
            RuleError::BadHash => {
                "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters"
            }
            RuleError::FirstWordOfSubcommand => "Allowing first-arg of a subcommand is not supported",
            RuleError::AfterAllKeys => {
                "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any effect. Try 'resetkeys' to start with an empty list of patterns"
            }
            RuleError::AfterAllChannels => {
                "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have any effect. Try 'resetchannels' to start with an empty list of channels"
            }
        }
    }
}

/// What is known of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    is_on: bool,
    /// Any password is right.
    no_password: bool,
    /// RESTORE's payloads are looked at. Shown only: here they always are.
    sanitizes: bool,
    passwords: Vec<Password>,
    first: Selector,
    more: Vec<Selector>,
}

impl Rules {
    /// Those of a new user, who may do nothing; all channels where `acl-pubsub-default` says so.
    pub fn new(all_channels: bool) -> Rules {
        Rules {
            is_on: false,
            no_password: false,
            sanitizes: true,
            passwords: Vec::new(),
            first: Selector::new(all_channels),
            more: Vec::new(),
        }
    }

    /// Those of the default user of a server that nobody has configured: everything, without a password.
    pub fn unlimited(catalog: &Catalog) -> Rules {
        let mut rules = Rules::new(true);
        (rules.is_on, rules.no_password) = (true, true);
        for rule in [&b"~*"[..], b"+@all"] {
            // These are rules.
            let _ = rules.first.apply(catalog, rule);
        }
        rules
    }

    /// Obeys one rule. `all_channels`: what `acl-pubsub-default` says.
    ///
    /// # Errors
    /// It is no rule; the lists may have changed in part only by a rule that is `reset`, which is none of these.
    pub fn apply(&mut self, catalog: &Catalog, rule: &[u8], all_channels: bool) -> Result<(), RuleError> {
        match up_to_zero(rule).to_ascii_lowercase().as_slice() {
            b"" if rule.is_empty() => {}
            b"on" => self.is_on = true,
            b"off" => self.is_on = false,
            b"nopass" => (self.no_password, self.passwords) = (true, Vec::new()),
            b"resetpass" => (self.no_password, self.passwords) = (false, Vec::new()),
            b"skip-sanitize-payload" => self.sanitizes = false,
            b"sanitize-payload" => self.sanitizes = true,
            b"clearselectors" => self.more = Vec::new(),
            b"reset" => {
                let mut first = Selector::new(all_channels);
                first.apply(catalog, b"-@all")?;
                *self = Rules { first, ..Rules::new(all_channels) };
            }
            _ => match rule {
                [b'>', password @ ..] => self.add_password(hash_password(password)),
                [b'#', hash @ ..] => {
                    self.add_password(Password::from_hash(hash).ok_or(RuleError::BadHash)?);
                }
                [b'<', password @ ..] => self.remove_password(&hash_password(password))?,
                [b'!', hash @ ..] => {
                    self.remove_password(&Password::from_hash(hash).ok_or(RuleError::BadHash)?)?;
                }
                [b'(', inner @ .., b')'] => {
                    let mut selector = Selector::new(all_channels);
                    for rule in split_words(up_to_zero(inner)).unwrap_or_default() {
                        selector.apply(catalog, &rule)?;
                    }
                    self.more.push(selector);
                }
                rule => self.first.apply(catalog, rule)?,
            },
        }
        Ok(())
    }

    fn add_password(&mut self, password: Password) {
        if !self.passwords.contains(&password) {
            self.passwords.push(password);
        }
        self.no_password = false;
    }

    fn remove_password(&mut self, password: &Password) -> Result<(), RuleError> {
        let at = self.passwords.iter().position(|known| known == password);
        self.passwords.remove(at.ok_or(RuleError::NoSuchPassword)?);
        Ok(())
    }

    /// Whether somebody with this password may log in. All passwords are compared, each in constant time.
    pub fn admits(&self, password: &[u8]) -> bool {
        let given = hash_password(password);
        let is_right = self.passwords.iter().fold(false, |right, known| right | known.is(&given));
        self.is_on && (self.no_password || is_right)
    }

    /// Whether one may log in.
    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// Whether any password is right.
    pub fn needs_no_password(&self) -> bool {
        self.no_password
    }

    /// Whether everything on keys is allowed.
    pub fn is_free_on_keys(&self) -> bool {
        self.selectors().any(Selector::is_free_on_keys)
    }

    /// Whether everything is allowed.
    pub fn is_free(&self) -> bool {
        self.selectors().any(Selector::is_free)
    }

    /// Whether a command line is allowed in a database. `id` is the command's number, of the subcommand where there is one.
    ///
    /// # Errors
    /// What of it is not; of several lists that which came nearest to allowing it has the word.
    pub fn check(&self, catalog: &Catalog, id: usize, args: &Args<'_>, db: u32) -> Result<(), Denied> {
        let Some(entry) = catalog.entry(id) else { return Err(Denied::Command) };
        let mut keys = FoundKeys::default();
        let mut worst = Denied::Database(0);
        for selector in self.selectors() {
            match selector.check((id, entry), args, db, &mut keys) {
                Ok(()) => return Ok(()),
                Err(denied) => worst = worst.max(denied),
            }
        }
        Err(worst)
    }

    /// Whether a command line is allowed by a list that lets any key be read: for keys that are known only while it runs.
    pub fn check_reading_all(&self, catalog: &Catalog, id: usize, args: &Args<'_>, db: u32) -> bool {
        let Some(entry) = catalog.entry(id) else { return false };
        let mut keys = FoundKeys::default();
        let mut selectors = self.selectors().filter(|selector| selector.reads_all_keys());
        selectors.any(|selector| selector.check((id, entry), args, db, &mut keys).is_ok())
    }

    /// Whether a key may be used as `flags` of a key specification say.
    pub fn allows_key(&self, key: &[u8], flags: larder_commands::spec::KeyFlags) -> bool {
        self.selectors().any(|selector| selector.allows_key(key, Access::of(flags)))
    }

    /// Whether one may be subscribed to a channel, or to a pattern.
    pub fn allows_channel(&self, channel: &[u8], is_pattern: bool) -> bool {
        self.selectors().any(|selector| selector.allows_channel(channel, is_pattern))
    }

    /// Whether a subscription that `before` allowed may be forbidden here.
    pub fn takes_channels_from(&self, before: &Rules) -> bool {
        let mut now: Vec<&Vec<u8>> = Vec::new();
        for selector in self.selectors() {
            match selector.channels() {
                None => return false,
                Some(channels) => now.extend(channels),
            }
        }
        before.selectors().any(|selector| {
            selector.channels().is_none_or(|had| had.iter().any(|channel| !now.contains(&channel)))
        })
    }

    /// Whether some databases are out of bounds for a list.
    pub fn limits_databases(&self) -> bool {
        self.selectors().any(|selector| !selector.has_all_databases())
    }

    /// The lists, the first first.
    pub fn selectors(&self) -> impl Iterator<Item = &Selector> {
        std::iter::once(&self.first).chain(&self.more)
    }

    /// The passwords' hashes.
    pub fn passwords(&self) -> &[Password] {
        &self.passwords
    }

    /// What is neither password nor list, as ACL GETUSER shows it.
    pub fn flags(&self) -> impl Iterator<Item = &'static str> {
        let on = if self.is_on { "on" } else { "off" };
        let sanitizes = if self.sanitizes { "sanitize-payload" } else { "skip-sanitize-payload" };
        std::iter::once(on).chain(self.no_password.then_some("nopass")).chain([sanitizes])
    }

    /// Everything, as ACL LIST shows it behind the name: the same rules again make the same user.
    pub fn describe(&self) -> Vec<u8> {
        let mut text = Vec::new();
        for flag in self.flags() {
            text.extend_from_slice(flag.as_bytes());
            text.push(b' ');
        }
        for password in &self.passwords {
            text.push(b'#');
            text.extend_from_slice(password.hash());
            text.push(b' ');
        }
        self.first.describe(&mut text);
        for selector in &self.more {
            text.extend_from_slice(b" (");
            selector.describe(&mut text);
            text.push(b')');
        }
        text
    }
}
