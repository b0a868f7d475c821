//! Who there is.
//!
//! Invariant: a user keeps its identity while its rules change, so that connections hold on to it and hear of every
//! change at their next command; one that is removed says so to those who still hold it. There is always a default user.

use crate::catalog::Catalog;
use crate::check::Denied;
use crate::rules::{RuleError, Rules};
use arc_swap::ArcSwap;
use larder_commands::Args;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// The name of the user that connections speak for until they log in.
pub const DEFAULT: &[u8] = b"default";

/// All that is asked for commands on keys is allowed.
const FREE_ON_KEYS: u8 = 1;
/// Everything is allowed.
const FREE: u8 = 2;
/// It has been removed.
const GONE: u8 = 4;

/// A user.
#[derive(Debug)]
pub struct User {
    name: Box<[u8]>,
    rules: ArcSwap<Rules>,
    /// What the rules come to, so that whoever may do all needs no look at them.
    state: AtomicU8,
}

impl User {
    fn new(name: &[u8], rules: Rules) -> User {
        let state = AtomicU8::new(state_of(&rules));
        User { name: name.into(), rules: ArcSwap::from_pointee(rules), state }
    }

    /// Its name.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Its rules at the moment.
    pub fn rules(&self) -> Arc<Rules> {
        self.rules.load_full()
    }

    /// Whether commands on keys need no check. One load.
    #[inline]
    pub fn is_free_on_keys(&self) -> bool {
        self.state.load(Ordering::Relaxed) & (FREE_ON_KEYS | GONE) == FREE_ON_KEYS
    }

    /// The rules that commands on keys are to be held against; none where everything is allowed.
    #[inline]
    pub fn rules_on_keys(&self) -> Option<Arc<Rules>> {
        if self.is_free_on_keys() { None } else { Some(self.rules()) }
    }

    /// Whether nothing needs a check.
    #[inline]
    pub fn is_free(&self) -> bool {
        self.state.load(Ordering::Relaxed) & (FREE | GONE) == FREE
    }

    /// Whether it has been removed: its connections are to end.
    pub fn is_gone(&self) -> bool {
        self.state.load(Ordering::Relaxed) & GONE != 0
    }

    /// Whether it may run a command line in a database; see [`Rules::check`]. A user that was removed may run nothing.
    ///
    /// # Errors
    /// What of it is denied.
    pub fn check(&self, catalog: &Catalog, id: usize, args: &Args<'_>, db: u32) -> Result<(), Denied> {
        if self.is_free() {
            return Ok(());
        }
        if self.is_gone() {
            return Err(Denied::Command);
        }
        self.rules.load().check(catalog, id, args, db)
    }

    /// Whether it may run a command line that reads keys known only while it runs; see [`Rules::check_reading_all`].
    pub fn reads_all_keys(&self, catalog: &Catalog, id: usize, args: &Args<'_>, db: u32) -> bool {
        self.is_free() || (!self.is_gone() && self.rules.load().check_reading_all(catalog, id, args, db))
    }

    /// Who holds the register's lock changes rules.
    fn set(&self, rules: Arc<Rules>) {
        let state = state_of(&rules);
        self.rules.store(rules);
        // The flags say no more than that a look at the rules is not needed. A reader that still sees the flags of before
        // runs a command as if it had come before the change; what is sent after the change was answered comes after it.
        self.state.store(state, Ordering::Relaxed);
    }

    fn remove(&self) {
        self.state.store(GONE, Ordering::Relaxed);
    }
}

fn state_of(rules: &Rules) -> u8 {
    u8::from(rules.is_free_on_keys()) * FREE_ON_KEYS + u8::from(rules.is_free()) * FREE
}

/// A user whose rules were changed, and what they were.
#[derive(Debug)]
pub struct Changed {
    /// The user.
    pub user: Arc<User>,
    /// Its rules before.
    pub before: Arc<Rules>,
    /// Its rules now.
    pub after: Arc<Rules>,
}

impl Changed {
    /// Whether subscriptions may be forbidden that were allowed.
    pub fn takes_channels(&self) -> bool {
        self.after.takes_channels_from(&self.before)
    }
}

/// What became of users in whose place others were put.
#[derive(Debug, Default)]
pub struct Replaced {
    /// Those who stay, with other rules.
    pub changed: Vec<Changed>,
    /// Those who do not.
    pub gone: Vec<Arc<User>>,
}

/// All users.
#[derive(Debug)]
pub struct Users {
    catalog: &'static Catalog,
    default: Arc<User>,
    by_name: Mutex<BTreeMap<Box<[u8]>, Arc<User>>>,
}

impl Users {
    /// The default user alone, who may do everything.
    pub fn new(catalog: &'static Catalog) -> Users {
        let default = Arc::new(User::new(DEFAULT, Rules::unlimited(catalog)));
        let by_name = BTreeMap::from([(DEFAULT.into(), Arc::clone(&default))]);
        Users { catalog, default, by_name: Mutex::new(by_name) }
    }

    /// The commands that rules speak of.
    pub fn catalog(&self) -> &'static Catalog {
        self.catalog
    }

    /// The default user.
    pub fn default_user(&self) -> &Arc<User> {
        &self.default
    }

    /// Whether who connects needs no login: the default user is on and has no password.
    pub fn is_open(&self) -> bool {
        let rules = self.default.rules.load();
        rules.is_on() && rules.needs_no_password()
    }

    /// The user of this name.
    pub fn get(&self, name: &[u8]) -> Option<Arc<User>> {
        self.by_name.lock().get(name).cloned()
    }

    /// All users in the order of their names.
    pub fn all(&self) -> Vec<Arc<User>> {
        self.by_name.lock().values().cloned().collect()
    }

    /// The user whose name and password these are, if it may log in.
    pub fn log_in(&self, name: &[u8], password: &[u8]) -> Option<Arc<User>> {
        let user = self.get(name)?;
        let is_admitted = user.rules.load().admits(password);
        // Removed since it was found: not there.
        (is_admitted && !user.is_gone()).then_some(user)
    }

    /// Has a user obey rules, all of them or none; one that is not there is made.
    ///
    /// # Errors
    /// The place of the first rule that is none, and why.
    pub fn set(
        &self,
        name: &[u8],
        rules: &[Vec<u8>],
        all_channels: bool,
    ) -> Result<Option<Changed>, (usize, RuleError)> {
        let mut by_name = self.by_name.lock();
        let known = by_name.get(name);
        let mut after = known.map_or_else(|| Rules::new(all_channels), |user| Rules::clone(&user.rules()));
        for (at, rule) in rules.iter().enumerate() {
            after.apply(self.catalog, rule, all_channels).map_err(|error| (at, error))?;
        }
        match known {
            Some(user) => Ok(Some(change(user, after))),
            None => {
                by_name.insert(name.into(), Arc::new(User::new(name, after)));
                Ok(None)
            }
        }
    }

    /// Removes a user. Its connections are to be ended.
    pub fn remove(&self, name: &[u8]) -> Option<Arc<User>> {
        let user = self.by_name.lock().remove(name)?;
        user.remove();
        Some(user)
    }

    /// Puts others in the place of all users. Who is among both stays, with other rules; a default user that is not among the
    /// new ones may do everything.
    pub fn replace(&self, mut new: BTreeMap<Vec<u8>, Rules>) -> Replaced {
        new.entry(DEFAULT.to_vec()).or_insert_with(|| Rules::unlimited(self.catalog));
        let mut replaced = Replaced::default();
        let mut by_name = self.by_name.lock();
        by_name.retain(|name, user| {
            let stays = new.contains_key(&**name);
            if !stays {
                user.remove();
                replaced.gone.push(Arc::clone(user));
            }
            stays
        });
        for (name, rules) in new {
            match by_name.get(name.as_slice()) {
                Some(user) => replaced.changed.push(change(user, rules)),
                None => {
                    let user = Arc::new(User::new(&name, rules));
                    by_name.insert(name.into(), user);
                }
            }
        }
        replaced
    }
}

fn change(user: &Arc<User>, after: Rules) -> Changed {
    let (before, after) = (user.rules(), Arc::new(after));
    user.set(Arc::clone(&after));
    Changed { user: Arc::clone(user), before, after }
}
