//! The policies a server runs. Each decides by 24 bits of every entry and a little memory of its own.
//!
//! Read next: `sampler.rs` and `calendar.rs`, the two ways to find a victim, and `adaptive.rs`, the default of a cache.

pub mod adaptive;
mod balance;
mod calendar;
mod ghosts;
pub mod levels;
mod probation;
mod queues;
mod sampler;
mod simple;
mod wtinylfu;

use crate::hits::{Hits, Recording};
use crate::interface::{Epoch, FIELD_MAX, Policy, Scope};
pub use adaptive::Adaptive;
pub use calendar::{Calendar, Order};
pub use levels::Levels;
pub use probation::Probation;
pub use queues::{S3Fifo, Sieve};
pub use simple::{Chance, EndsFirst, Gdsf};
pub use wtinylfu::WTinyLfu;

/// Reads numbers as [`Policy::learned`] wrote them: four bytes each.
struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    fn next(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*number))
    }

    /// A number that can be reckoned with, not below 0.
    fn next_f32(&mut self) -> Option<f32> {
        self.next().map(f32::from_bits).filter(|number| number.is_finite() && *number >= 0.0)
    }
}

fn push_f32(number: f32, out: &mut Vec<u8>) {
    out.extend_from_slice(&number.to_le_bytes());
}

/// References kept of so many entries before leftovers are dropped.
fn leftovers_max(entries: usize) -> usize {
    entries + entries / 64 + 1024
}
macro_rules! kinds {
    ($($(#[doc = $doc:literal])* $name:ident = $word:literal, $recording:expr;)*) => {
        /// The policies by name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Kind {
            $($(#[doc = $doc])* $name,)*
        }

        impl Kind {
            /// All of them.
            pub const ALL: &[Kind] = &[$(Kind::$name,)*];

            /// The word for it in `maxmemory-policy`, behind the scope.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Kind::$name => $word,)*
                }
            }

            /// The word for it in `maxmemory-policy`, where only keys that end may leave.
            #[must_use]
            pub fn volatile_name(self) -> &'static str {
                match self {
                    $(Kind::$name => concat!("volatile-", $word),)*
                }
            }

            /// What threads do on a hit.
            #[must_use]
            pub fn recording(self) -> Recording {
                match self {
                    $(Kind::$name => $recording,)*
                }
            }
        }
    };
}

kinds! {
    /// The one used longest ago leaves.
    Lru = "lru", Recording::Clock;
    /// The one written longest ago leaves (Redis 8.6).
    Lrm = "lrm", Recording::ClockOfWrites;
    /// The one used last leaves.
    Mru = "mru", Recording::ClockAndLog;
    /// The one made longest ago leaves.
    Fifo = "fifo", Recording::None;
    /// The one used least often leaves.
    Lfu = "lfu", Recording::Count;
    /// Any may leave.
    Random = "random", Recording::None;
    /// The one that ends first leaves.
    Ttl = "ttl", Recording::None;
    /// One queue and a hand that clears marks.
    Sieve = "sieve", Recording::Mark;
    /// A small queue for what is new, and a main region.
    S3Fifo = "s3fifo", Recording::Mark;
    /// A window, and admission by frequency.
    WTinyLfu = "wtinylfu", Recording::CountAndClock;
    /// Greedy Dual Size Frequency: many hits of objects.
    Gdsf = "gdsf", Recording::CountMoreAndClock;
    /// Learns what comes back.
    Adaptive = "adaptive", Recording::Learn;
}

/// The power of the size that divides an entry's rank in [`Kind::Adaptive`]: between counting hits of objects (1) and of bytes (0).
pub const SIZE_POWER: f32 = 0.3;

impl Kind {
    /// The kind by its name.
    #[must_use]
    pub fn by_name(name: &[u8]) -> Option<Kind> {
        Kind::ALL.iter().copied().find(|kind| kind.name().as_bytes() == name)
    }

    /// An empty policy for one part of the keyspace.
    #[must_use]
    pub fn make(self, scope: Scope, part: u32) -> Box<dyn Policy> {
        let seed = adaptive::seed_of(part);
        match self {
            Kind::Lru => Box::new(Calendar::new(Order::Lru, scope)),
            Kind::Lrm => Box::new(Calendar::new(Order::Lrm, scope)),
            Kind::Mru => Box::new(Calendar::new(Order::Mru, scope)),
            Kind::Fifo => Box::new(Calendar::new(Order::Fifo, scope)),
            Kind::Lfu => Box::new(Levels::new(scope)),
            Kind::Random => Box::new(Chance::new(scope, seed)),
            Kind::Ttl => Box::new(EndsFirst::new(seed)),
            Kind::Sieve => Box::new(Sieve::new(scope)),
            Kind::S3Fifo => Box::new(S3Fifo::new(scope, seed)),
            Kind::WTinyLfu => Box::new(WTinyLfu::new(scope, seed)),
            Kind::Gdsf => Box::new(Gdsf::new(scope, seed)),
            Kind::Adaptive => Box::new(Adaptive::new(scope, SIZE_POWER, seed)),
        }
    }

    /// Whether entries' fields are the policy's; else they are never read, and free for other use.
    #[must_use]
    pub fn has_fields(self) -> bool {
        !matches!(self, Kind::Random | Kind::Ttl)
    }

    /// Whether it is to hear of entries' sizes and of those that are removed ([`Policy::resized`], [`Policy::removed`]); others
    /// do without.
    #[must_use]
    pub fn is_told(self) -> bool {
        matches!(self, Kind::S3Fifo | Kind::WTinyLfu)
    }

    /// Whether it judges by itself what is new before that may push out what is used.
    #[must_use]
    pub fn has_admission(self) -> bool {
        matches!(self, Kind::S3Fifo | Kind::WTinyLfu | Kind::Adaptive)
    }

    /// As [`Kind::make`], with [`Probation`] in front of a policy that does not judge what is new by itself.
    #[must_use]
    pub fn make_admitting(self, scope: Scope, part: u32) -> Box<dyn Policy> {
        let policy = self.make(scope, part);
        if self.has_admission() { policy } else { Box::new(Probation::before(policy, scope)) }
    }

    /// What a field says of its entry, in 24 bits that outlive the policy: what stands in it of clocks is the age at an epoch.
    /// Never [`crate::KEPT_NOTHING`].
    #[must_use]
    pub fn kept(self, field: u32, epoch: Epoch) -> u32 {
        match self {
            Kind::Lru | Kind::Lrm | Kind::Mru | Kind::Fifo => calendar::kept(field, epoch),
            Kind::Lfu => levels::kept(field, epoch),
            Kind::Sieve | Kind::S3Fifo => queues::kept(field),
            Kind::WTinyLfu => wtinylfu::kept(field, epoch),
            Kind::Gdsf | Kind::Adaptive => epoch.age(field >> 8, 16) << 8 | field & 0xff,
            Kind::Random | Kind::Ttl => 0,
        }
    }

    /// How likely an entry is to be asked for soon, beside others, by what [`Kind::kept`] made of its field: more where it is likelier.
    /// In 24 bits.
    #[must_use]
    pub fn warmth(self, kept: u32) -> u32 {
        match self {
            Kind::Lru | Kind::Lrm | Kind::Mru | Kind::Fifo => FIELD_MAX.saturating_sub(kept),
            // The level, and how lately.
            Kind::Lfu => kept ^ 0x00_ff00,
            Kind::Sieve | Kind::S3Fifo => kept,
            Kind::WTinyLfu => wtinylfu::warmth(kept),
            // How lately, and how often.
            Kind::Gdsf | Kind::Adaptive => kept ^ 0xff_ff00,
            Kind::Random | Kind::Ttl => 0,
        }
    }

    /// A thread's notes for a policy of this kind.
    #[must_use]
    pub fn hits(self, seed: u64) -> Hits {
        Hits::new(self.recording(), seed)
    }
}
