//! The rules of invalidations: which prefixes and tags are concerned, from which number on, and what they say of a key.
//!
//! A prefix or a tag has one rule, however often it is invalidated: what removes is the last that does, and what makes old is kept
//! apart by its moments, some of them.
//! Read next: `generations.rs`, where rules are entered, carried out and forgotten.

use crate::leases::Mark;
use crate::local::Millis;
use smallvec::SmallVec;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Rules that a table may have in force.
const RULES_MAX: usize = 16_384;
/// Bytes of their prefixes and tags.
const RULE_BYTES_MAX: usize = 16 << 20;
/// Moments that a rule keeps apart at which it made values old.
const SOFTS_MAX: usize = 8;

/// What an invalidation concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concerns<'a> {
    /// The keys that begin so.
    Prefix(&'a [u8]),
    /// The keys that have this tag.
    Tag(&'a [u8]),
}

/// What becomes of the values that it concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// They are gone.
    Hard,
    /// They are old: given only as long as an old value may be.
    Soft,
}

/// What is known of a database's keys from outside: by routes.
pub trait Nature: std::fmt::Debug + Send + Sync {
    /// Shows the tags that a key has.
    fn tags(&self, key: &[u8], visit: &mut dyn FnMut(&[u8]));

    /// How long after its time a value may be given, in milliseconds.
    fn grace_ms(&self, key: &[u8]) -> u64;
}

#[derive(Debug, Default)]
pub(crate) struct Rules {
    prefixes: HashMap<Box<[u8]>, Rule>,
    /// How many prefixes have each length.
    lengths: BTreeMap<usize, usize>,
    /// Bytes of prefixes and tags.
    bytes: usize,
    /// Tags, by what was known of keys when they were invalidated: the last group is the present one.
    groups: Vec<Group>,
}

#[derive(Debug)]
struct Group {
    nature: Arc<dyn Nature>,
    tags: HashMap<Box<[u8]>, Rule>,
}

/// The invalidations of one prefix or tag.
#[derive(Debug, Default)]
struct Rule {
    /// The number of the last that removes; 0 for none.
    hard: u64,
    /// The numbers and times of those that make old, in order.
    softs: SmallVec<[(u64, Millis); 1]>,
}

/// What rules say of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Stays,
    /// Old since then.
    Old(Millis),
    Gone,
}

impl Verdict {
    fn add(&mut self, rule: &Rule, above: u64) {
        if rule.hard > above {
            *self = Verdict::Gone;
        } else if let Some((_, at)) = rule.softs.iter().find(|(number, _)| *number > above) {
            // What is old is so since the first of them.
            *self = match *self {
                Verdict::Gone => Verdict::Gone,
                Verdict::Old(before) => Verdict::Old(before.min(*at)),
                Verdict::Stays => Verdict::Old(*at),
            };
        }
    }
}

impl Rule {
    fn enter(&mut self, number: u64, force: Force, at: Millis) {
        match force {
            Force::Hard => self.hard = number,
            Force::Soft => {
                let is_full = self.softs.len() >= SOFTS_MAX;
                match self.softs.last_mut() {
                    // One more of the same moment, or one too many: as if the value had been old since the one before.
                    Some(last) if last.1 == at || is_full => last.0 = number,
                    _ => self.softs.push((number, at)),
                }
            }
        }
    }

    fn newest(&self) -> u64 {
        self.softs.last().map_or(self.hard, |(number, _)| self.hard.max(*number))
    }
}

impl Rules {
    pub(crate) fn len(&self) -> usize {
        self.prefixes.len() + self.groups.iter().map(|group| group.tags.len()).sum::<usize>()
    }

    /// Enters a rule, unless that would be one too many.
    pub(crate) fn enter(
        &mut self,
        concerns: Concerns<'_>,
        (number, force, at): (u64, Force, Millis),
        nature: &Arc<dyn Nature>,
    ) -> bool {
        let len = match concerns {
            Concerns::Prefix(name) | Concerns::Tag(name) => name.len(),
        };
        let is_full = self.len() >= RULES_MAX || self.bytes.saturating_add(len) > RULE_BYTES_MAX;
        if !self.groups.last().is_some_and(|group| Arc::ptr_eq(&group.nature, nature)) {
            self.groups.push(Group { nature: Arc::clone(nature), tags: HashMap::new() });
        }
        let tags = self.groups.last_mut().map(|group| &mut group.tags);
        let (Some(rules), name) = (match concerns {
            Concerns::Prefix(prefix) => (Some(&mut self.prefixes), prefix),
            Concerns::Tag(tag) => (tags, tag),
        }) else {
            return false;
        };
        if let Some(rule) = rules.get_mut(name) {
            rule.enter(number, force, at);
            return true;
        }
        if is_full {
            return false;
        }
        let mut rule = Rule::default();
        rule.enter(number, force, at);
        rules.insert(name.into(), rule);
        self.bytes += len;
        if let Concerns::Prefix(prefix) = concerns {
            *self.lengths.entry(prefix.len()).or_default() += 1;
        }
        true
    }

    /// What the rules above a number say of a key. O(lengths of prefixes, tags of the key).
    pub(crate) fn judge<'m>(
        &self,
        key: &[u8],
        above: u64,
        mark: impl FnOnce(&mut dyn FnMut(&Mark)) + 'm,
    ) -> Verdict {
        let mut verdict = Verdict::Stays;
        for len in self.lengths.range(..=key.len()).map(|(len, _)| *len) {
            if let Some(rule) = self.prefixes.get(&key[..len]) {
                verdict.add(rule, above);
            }
        }
        if verdict == Verdict::Gone || self.groups.iter().all(|group| group.tags.is_empty()) {
            return verdict;
        }
        for group in self.groups.iter().filter(|group| !group.tags.is_empty()) {
            group.nature.tags(key, &mut |tag| {
                if let Some(rule) = group.tags.get(tag) {
                    verdict.add(rule, above);
                }
            });
        }
        mark(&mut |mark| {
            for tag in mark.tags() {
                let rules = self.groups.iter().filter_map(|group| group.tags.get(tag));
                rules.for_each(|rule| verdict.add(rule, above));
            }
        });
        verdict
    }

    /// Forgets the rules up to a number.
    pub(crate) fn forget(&mut self, target: u64) {
        let (lengths, bytes) = (&mut self.lengths, &mut self.bytes);
        self.prefixes.retain(|prefix, rule| {
            rule.softs.retain(|(number, _)| *number > target);
            let stays = rule.newest() > target;
            if !stays && let Some(count) = lengths.get_mut(&prefix.len()) {
                *bytes -= prefix.len();
                *count -= 1;
                if *count == 0 {
                    lengths.remove(&prefix.len());
                }
            }
            stays
        });
        for group in &mut self.groups {
            group.tags.retain(|tag, rule| {
                rule.softs.retain(|(number, _)| *number > target);
                let stays = rule.newest() > target;
                *bytes -= if stays { 0 } else { tag.len() };
                stays
            });
        }
        let last = self.groups.len().saturating_sub(1);
        let mut at = 0;
        self.groups.retain(|group| {
            at += 1;
            at > last || !group.tags.is_empty()
        });
    }

    pub(crate) fn grace_ms(&self, key: &[u8]) -> u64 {
        self.groups.last().map_or(0, |group| group.nature.grace_ms(key))
    }
}
