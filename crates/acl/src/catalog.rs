//! The commands that rules speak of, by number and by name.
//!
//! Names are Redis' own, whatever `rename-command` made of them: a rule is about what a command does.

use crate::selector::Access;
use larder_commands::Spec;
use larder_commands::spec::{Acl, Begin, Find, Flags, Group, KeyFlags};
use std::collections::HashMap;

/// All commands and subcommands.
#[derive(Debug, Default)]
pub struct Catalog {
    entries: Vec<Entry>,
    /// By full name in lower case.
    by_name: HashMap<Box<[u8]>, usize>,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Full name, `container|word` for subcommands.
    pub name: String,
    pub spec: &'static Spec,
    pub categories: Acl,
    /// Numbers of its subcommands.
    pub subcommands: Vec<usize>,
    pub is_subcommand: bool,
    /// It runs for whoever is connected.
    pub is_for_all: bool,
    pub keys: Keys,
    pub channels: Channels,
    pub databases: Databases,
}

/// How the keys of a command are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keys {
    /// It has none.
    None,
    /// This word, and what is done with it.
    One(usize, Access),
    /// By its specifications and options.
    Named,
    /// By its specifications, and behind every STORE and STOREDIST.
    Stores,
    /// By its specification, or all with a prefix or a tag.
    Invalidated,
}

/// The channels among the words of a command that it needs a permission for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channels {
    None,
    /// The first word.
    First,
    /// All words.
    All,
    /// All words, and they are patterns.
    Patterns,
}

/// The databases that a command needs a permission for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Databases {
    /// None.
    None,
    /// The one in use.
    Current,
    /// Every one.
    All,
    /// That of the first word.
    Selected,
    /// Those of the first two words.
    Swapped,
    /// The one in use, and that of the second word.
    Moved,
    /// The one in use, and one behind the word DB.
    Copied,
}

impl Catalog {
    /// Adds the next command: its number is how many there were. A subcommand comes behind its container and bears the
    /// container's number.
    pub fn add(&mut self, spec: &'static Spec, container: Option<usize>) -> usize {
        let id = self.entries.len();
        let parent = container.and_then(|id| self.entries.get_mut(id));
        let is_subcommand = parent.is_some();
        let name = match parent {
            Some(parent) => {
                parent.subcommands.push(id);
                format!("{}|{}", parent.name, spec.name)
            }
            None => spec.name.to_owned(),
        };
        self.by_name.insert(name.as_bytes().into(), id);
        self.entries.push(Entry {
            keys: keys_of(&name, spec),
            channels: channels_of(&name, spec),
            databases: databases_of(&name, spec),
            name,
            spec,
            categories: spec.categories(),
            subcommands: Vec::new(),
            is_subcommand,
            is_for_all: spec.flags.has(Flags::NO_AUTH),
        });
        id
    }

    /// How many there are, subcommands included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The full name of a command.
    pub fn name(&self, id: usize) -> &str {
        self.entry(id).map_or("", |entry| entry.name.as_str())
    }

    /// The declaration of a command.
    pub fn spec(&self, id: usize) -> Option<&'static Spec> {
        self.entry(id).map(|entry| entry.spec)
    }

    /// The command that a command line begins with: container and subcommand, where it has such.
    pub fn find_line<'w>(&self, mut words: impl Iterator<Item = &'w [u8]>) -> Option<usize> {
        let id = self.find(words.next()?)?;
        let entry = self.entry(id)?;
        match words.next() {
            Some(word) if !entry.subcommands.is_empty() => entry.subcommands.iter().copied().find(|id| {
                self.entry(*id).is_some_and(|sub| sub.spec.name.as_bytes().eq_ignore_ascii_case(word))
            }),
            _ => Some(id),
        }
    }

    /// The commands of a category, in the order of their numbers.
    pub fn of_category(&self, category: Acl) -> impl Iterator<Item = &str> {
        self.entries
            .iter()
            .filter(move |entry| entry.categories.has(category))
            .map(|entry| entry.name.as_str())
    }

    pub(crate) fn entry(&self, id: usize) -> Option<&Entry> {
        self.entries.get(id)
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (usize, &Entry)> {
        self.entries.iter().enumerate()
    }

    /// The command of this full name, in any case.
    pub(crate) fn find(&self, name: &[u8]) -> Option<usize> {
        self.by_name.get(name.to_ascii_lowercase().as_slice()).copied()
    }
}

/// The category of this name, in any case.
pub(crate) fn category(name: &[u8]) -> Option<Acl> {
    let named = Acl::WORDS.iter().find(|(_, word)| word.as_bytes().eq_ignore_ascii_case(name));
    named.map(|(category, _)| *category)
}

fn keys_of(name: &str, spec: &Spec) -> Keys {
    match spec.keys {
        specs if specs.iter().all(|keys| keys.flags.has(KeyFlags::NOT_KEY)) => Keys::None,
        _ if matches!(name, "georadius" | "georadiusbymember") => Keys::Stores,
        _ if name == "cache|invalidate" => Keys::Invalidated,
        [only] => match (only.begin, only.find) {
            (Begin::Index(index), Find::Range { last: 0, .. })
                if !only.flags.has(KeyFlags::VARIABLE_FLAGS)
                    && !only.flags.has(KeyFlags::INCOMPLETE)
                    && !matches!(name, "set" | "bitfield" | "sort" | "migrate") =>
            {
                Keys::One(index as usize, Access::of(only.flags))
            }
            _ => Keys::Named,
        },
        _ => Keys::Named,
    }
}

fn databases_of(name: &str, spec: &Spec) -> Databases {
    let has_keys = !spec.keys.iter().all(|keys| keys.flags.has(KeyFlags::NOT_KEY));
    let is_on_data = spec.flags.has(Flags::WRITE) || spec.flags.has(Flags::READONLY);
    match name {
        "flushall" => Databases::All,
        "select" => Databases::Selected,
        "swapdb" => Databases::Swapped,
        "move" => Databases::Moved,
        "copy" => Databases::Copied,
        _ if has_keys || is_on_data || spec.acl.has(Acl::KEYSPACE) => Databases::Current,
        _ => Databases::None,
    }
}

fn channels_of(name: &str, spec: &Spec) -> Channels {
    match name {
        _ if spec.group != Group::PubSub => Channels::None,
        "publish" | "spublish" => Channels::First,
        "subscribe" | "ssubscribe" => Channels::All,
        "psubscribe" => Channels::Patterns,
        _ => Channels::None,
    }
}
