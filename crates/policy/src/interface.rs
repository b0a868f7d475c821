//! What policies and the holder of entries are to each other: see the crate's documentation for the reasons.

use std::cell::RefCell;
use std::fmt;

/// Names an entry: 32 bits of its key's hash, those below the bits that chose the policy's part of the keyspace.
///
/// Two keys may share one; then either is meant. What a policy does by a wrong one of them costs a little of the hit
/// ratio, and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ref(pub u32);

/// Bits of an entry that belong to the policy.
pub const FIELD_BITS: u32 = 24;
/// The largest value of the field.
pub const FIELD_MAX: u32 = (1 << FIELD_BITS) - 1;
/// What is kept of an entry of which nothing is known; see [`Policy::recall`].
pub const KEPT_NOTHING: u32 = FIELD_MAX;

/// Where a policy's clocks stand: what fields say is relative to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Epoch {
    /// The clock that hits write into fields.
    pub clock: u32,
}

impl Epoch {
    /// How long before this a clock of so many bits was written, in its ticks. One that is ahead was written just now.
    #[must_use]
    pub(crate) fn age(self, written: u32, bits: u32) -> u32 {
        let mask = (1 << bits) - 1;
        let age = self.clock.wrapping_sub(written) & mask;
        if age > mask - mask / 16 { 0 } else { age }
    }
}

/// What a policy sees of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The policy's own 24 bits.
    pub field: u32,
    /// What the entry takes of the limit.
    pub bytes: u32,
    /// When it ends; `u64::MAX` when it does not.
    pub deadline: u64,
    /// Whether its time has come already.
    pub is_over: bool,
}

impl Seen {
    /// Whether the entry has a time to live.
    #[must_use]
    pub fn is_timed(&self) -> bool {
        self.deadline != u64::MAX
    }
}

/// What a holder of entries tells of those that a walk comes past, by their places among them, where it is asked: each answer
/// costs some.
pub trait Passing {
    /// The name of one.
    fn at(&self, index: usize) -> Ref;

    /// Writes the policy's bits of one.
    fn set_field(&self, index: usize, field: u32);
}

/// Entries of which all is at hand, for holders that write fields after the walk.
#[derive(Debug, Default)]
pub struct Shown {
    names: Vec<Ref>,
    seen: Vec<Seen>,
    written: RefCell<Vec<(Ref, u32)>>,
}

impl Shown {
    /// Adds the entry of this name that looks so.
    pub fn add(&mut self, at: Ref, seen: Seen) {
        self.names.push(at);
        self.seen.push(seen);
    }

    /// Shows them. Answers the fields that were written, which none of them has any more.
    pub fn to(&mut self, show: &mut dyn FnMut(&[Seen], &dyn Passing)) -> Vec<(Ref, u32)> {
        if !self.names.is_empty() {
            show(&self.seen, self);
        }
        self.names.clear();
        self.seen.clear();
        self.written.take()
    }
}

impl FromIterator<(Ref, Seen)> for Shown {
    fn from_iter<I: IntoIterator<Item = (Ref, Seen)>>(entries: I) -> Self {
        let mut shown = Shown::default();
        entries.into_iter().for_each(|(at, seen)| shown.add(at, seen));
        shown
    }
}

impl Passing for Shown {
    fn at(&self, index: usize) -> Ref {
        self.names[index]
    }

    fn set_field(&self, index: usize, field: u32) {
        self.written.borrow_mut().push((self.names[index], field));
    }
}

/// The holder of entries, as far as a policy needs it.
pub trait Entries {
    /// Looks an entry up. `None` when it is gone, or cannot be had at the moment.
    fn look(&mut self, at: Ref) -> Option<Seen>;

    /// Writes the policy's bits of an entry. Nothing happens when it is gone.
    fn set_field(&mut self, at: Ref, field: u32);

    /// Shows about eight entries, a bucket, from a position in the order of references on, some or all at once; answers the
    /// position after them, 0 when the end was reached. Nothing is shown of what cannot be had at the moment.
    fn walk(&mut self, from: u32, show: &mut dyn FnMut(&[Seen], &dyn Passing)) -> u32;

    /// Entries held.
    fn len(&self) -> usize;

    /// Whether nothing is held.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Which entries may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Scope {
    /// Any.
    #[default]
    All,
    /// Those with a time to live.
    Timed,
}

impl Scope {
    /// Whether an entry may leave.
    #[inline]
    #[must_use]
    pub fn has(self, seen: &Seen) -> bool {
        self.has_one_until(seen.deadline)
    }

    /// Whether an entry that ends then may leave; `u64::MAX` for one that does not end.
    #[inline]
    #[must_use]
    pub fn has_one_until(self, deadline: u64) -> bool {
        self == Scope::All || deadline != u64::MAX
    }
}

/// What came of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// This entry leaves: the caller removes it. To the policy it is gone.
    Evict(Ref),
    /// Nothing found yet; ask again.
    More,
    /// Nothing may leave.
    Nothing,
}

/// A policy: decides which entry leaves.
///
/// Calls come from one thread at a time, and none of them on a hit: see [`crate::Hits`]. Each call does a bounded amount of work,
/// a few microseconds; no call allocates more than a page of a ring or a table of names.
pub trait Policy: fmt::Debug + Send {
    /// An entry was made, or got a time to live where only such entries count. Answers its field.
    fn created(&mut self, at: Ref, bytes: u32) -> u32;

    /// An entry that was there before the policy was, or that may be filed already. `idle` is how long it has not been
    /// used, as the part of all entries that were used later, 0 to 1. Answers its field.
    fn adopt(&mut self, at: Ref, seen: Seen, idle: f32) -> u32 {
        let _ = idle;
        let field = self.created(at, seen.bytes);
        // It is not the one that was made last.
        self.arriving();
        field
    }

    /// An entry that was there before a restart, of so many bytes: `kept` is what [`crate::policies::Kind::kept`] made of its
    /// field then, for a policy of the same kind. Answers its field.
    fn recall(&mut self, at: Ref, bytes: u32, kept: u32) -> u32 {
        let _ = kept;
        let field = self.created(at, bytes);
        self.arriving();
        field
    }

    /// Where its clocks stand.
    fn epoch(&self) -> Epoch {
        Epoch { clock: self.clock() }
    }

    /// Appends what it has learned beyond single entries, for [`Policy::learn_from`] of one of the same kind after a restart.
    fn learned(&self, _out: &mut Vec<u8>) {}

    /// Takes up what another has learned, before it is told of any entry. What it cannot have written is left alone.
    fn learn_from(&mut self, _learned: &[u8]) {}

    /// An entry could not be looked at when its turn came, as [`Entries::look`] answered `None` though it is there, and its
    /// reference was dropped: it is filed again, and what its field tells of its uses stays. Answers its field.
    fn refile(&mut self, at: Ref, seen: Seen) -> u32;

    /// Whether many references are leftovers of entries that are gone, where there are so many entries: worth calls
    /// of [`Policy::observe`] until it is not.
    fn is_cluttered(&self, _entries: usize) -> bool {
        false
    }

    /// An entry is about to be made and room is needed for it: what was made before has been there for whoever made it.
    /// Until then the entry made last does not leave.
    fn arriving(&mut self) {}

    /// An entry left by other ways than [`Policy::step`], or lost its time to live where only such entries count.
    fn removed(&mut self, at: Ref, seen: Seen);

    /// An entry's size changed.
    fn resized(&mut self, _field: u32, _before: u32, _after: u32) {}

    /// Takes in what a thread recorded of its hits, and tells it the clock.
    fn absorb(&mut self, hits: &mut crate::Hits);

    /// One bounded step towards the next victim.
    fn step(&mut self, entries: &mut dyn Entries) -> Step;

    /// Whether an entry's field tells that it was used since it was made. False where fields do not tell.
    fn was_used(&self, _seen: &Seen) -> bool {
        false
    }

    /// About a second has passed, in which perhaps nothing else has happened.
    fn second_passed(&mut self) {}

    /// Where the clock stands that hits write into fields; see [`crate::Recording::clock_bits`].
    fn clock(&self) -> u32 {
        0
    }

    /// About so many entries there will be when the cache is full.
    fn expect(&mut self, _entries: usize) {}

    /// So many candidates are to be kept from one step to the next, by policies that do so.
    fn keep(&mut self, _candidates: usize) {}

    /// A look around while nothing has to leave. Policies that learn do so sooner for it.
    fn observe(&mut self, _entries: &mut dyn Entries) {}

    /// The memory the policy holds, in bytes.
    fn memory(&self) -> usize;
}
