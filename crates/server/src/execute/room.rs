//! Room for what commands store: memory in use is held against `maxmemory`, and keys are evicted.
//!
//! What a command must wait for is done in it, for a short time; the background evicts ahead of need, a little below the
//! limit, so that most commands find room.
//! Invariant: nothing is evicted while a shard is locked. Read next: `evict` in the store.

use super::Core;
use crate::{alloc, clock};
use larder_config::{MaxmemoryPolicy, MemoryOrPercent, Settings};
use larder_store::{Access, Cause, Choice, Evicted, Kind, Scope};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Writes between two looks at the memory in use.
const MEMORY_CHECK_EVERY: u32 = 16;
/// Bytes a worker may take before it looks at the memory in use, however few its writes were.
const MEMORY_UNCHECKED_BYTES_MAX: isize = 16 * 1024;
/// Keys evicted between two looks at the clock.
const EVICTIONS_BETWEEN_LOOKS: u32 = 8;
/// Looks in vain, one after the other, after which the background goes on: what may leave is locked by others.
const LOOKS_IN_VAIN_MAX: u32 = 4096;
/// The part of the limit that the background keeps free, as a divisor, and its bounds in bytes.
const HEADROOM_PART: usize = 512;
const HEADROOM: (usize, usize) = (16 * 1024, 4 * 1024 * 1024);
/// How long due keys may be removed before others are evicted.
const SWEEP_TIME: Duration = Duration::from_micros(50);
/// How long policies may put in order what deletions have left them, between two turns of the background.
const TIDY_TIME: Duration = Duration::from_micros(300);
/// Keys that tell how much memory a key takes, and what it is taken to be before.
const KEYS_TELLING: usize = 1000;
const BYTES_A_KEY: usize = 256;
/// Times that policies look around between two turns of the background while nothing has to leave.
const OBSERVATIONS: usize = 8;

impl Core {
    /// Whether a command that needs memory may run without a look at the memory in use, or at its arguments.
    #[inline]
    pub fn has_room_for_certain(&mut self) -> bool {
        if !self.is_limited {
            return self.limits.entry_bytes_max == usize::MAX;
        }
        let grown = alloc::own_bytes().wrapping_sub(self.own_bytes_checked);
        let is_certain =
            self.until_memory_check > 0 && grown < MEMORY_UNCHECKED_BYTES_MAX && !self.over_limit;
        let is_certain = is_certain && self.limits.entry_bytes_max == usize::MAX;
        self.until_memory_check -= u32::from(is_certain);
        is_certain
    }

    /// Makes sure that memory in use is below the limit, evicting where the policy allows it. False
    /// where nothing may leave; true also where the time of one command was not enough and the
    /// background goes on.
    pub(super) fn make_room(&mut self) -> bool {
        if self.has_room_for_certain() {
            return true;
        }
        self.until_memory_check = MEMORY_CHECK_EVERY;
        self.evictor.arriving();
        let limit = self.memory_limit();
        self.evictor.count_for(Cause::Command);
        let time_max = eviction_time(self.settings.maxmemory_eviction_tenacity());
        let has_room = self.evict(limit, time_max) || self.take_from_shares(limit, time_max);
        self.is_evicting |= self.evictor.has_policy() && self.bytes_over(headroom_below(limit)) > 0;
        self.is_evicting |= self.evictor.is_giving_back();
        if self.is_any_share_passed() {
            self.keep_shares(Cause::Command, time_max);
        }
        has_room
    }

    /// Whether what nobody has asked for should not come in any more.
    pub fn is_nearly_full(&self) -> bool {
        self.is_limited && self.server.used_memory() >= self.memory_limit() / 64 * 63
    }

    /// Has the background evict where memory has grown by something else than commands that store: by what clients send
    /// and are owed. Looked at now and then.
    pub fn notice_memory(&mut self) {
        let is_over = self.is_limited && self.bytes_over(self.memory_limit()) > 0;
        self.is_evicting |= is_over && self.evictor.may_evict(&self.server.keyspace);
    }

    /// Whether the background is to go on evicting.
    #[inline]
    pub fn is_evicting(&self) -> bool {
        self.is_evicting
    }

    /// Evicts ahead of need, and files keys that were there before their policy was. Inside a turn, holding no lock.
    pub fn evict_ahead(&mut self, time_max: Duration) {
        let limit = self.memory_limit();
        let target = if self.evictor.has_policy() { headroom_below(limit) } else { limit };
        let (start, mut is_filed) = (clock::now(), false);
        while !is_filed && start.elapsed() < time_max {
            is_filed = self.evictor.adopt(&self.server.keyspace, &mut self.local);
            is_filed &= self.adopt_into_shares();
        }
        // What is over the limit goes first, and is counted apart from what leaves ahead of need.
        self.evictor.count_for(Cause::OverLimit);
        self.evict(limit, time_max.saturating_sub(start.elapsed()));
        if self.evictor.has_policy() && !self.is_evicting {
            self.evictor.count_for(Cause::Ahead);
            self.evict(target, time_max.saturating_sub(start.elapsed()));
        }
        if self.is_any_share_passed() {
            self.keep_shares(Cause::OverLimit, time_max.saturating_sub(start.elapsed()));
        }
        self.is_evicting |= !is_filed;
    }

    /// Lets policies learn while nothing has to leave, in a turn of its own.
    pub fn observe_uses(&mut self) {
        let commands = self.stats.commands.get();
        let has_policy = self.evictor.has_policy() || !self.share_evictors.is_empty();
        if has_policy && commands != self.commands_observed && self.open_turn() {
            self.commands_observed = commands;
            let (start, mut looks, mut is_cluttered) = (clock::now(), 0, false);
            while looks < OBSERVATIONS || is_cluttered && start.elapsed() < TIDY_TIME {
                is_cluttered = self.evictor.observe(&self.server.keyspace, &mut self.local);
                looks += 1;
            }
            self.observe_shares();
            self.close_turn();
        }
    }

    /// Follows the policy that the settings name, which needs a limit: without one nothing is recorded but the time of
    /// the last use, or with an LFU policy how often, as in Redis.
    pub(super) fn follow_policy(&mut self) {
        let settings = &self.settings;
        let (is_limited, choice) = (settings.maxmemory() != 0, choice_of(settings));
        let candidates = 4 + 4 * settings.maxmemory_samples() as usize;
        let chosen = self.server.keyspace.choose_policy(choice.filter(|_| is_limited), candidates);
        let access_counted =
            Access::Lfu { log_factor: settings.lfu_log_factor(), decay_minutes: settings.lfu_decay_time() };
        let has_shares = self.follow_shares();
        self.is_limited = is_limited || has_shares;
        let classes = self.server.keyspace.policies_of_classes();
        let seed = self.local.random();
        self.local.uses.follow(chosen.clone(), &classes, seed);
        self.evictor.follow(chosen);
        let leaving = self.server.keyspace.policy_leaving();
        self.is_evicting |= leaving.is_some();
        self.evictor.give_back(leaving);
        self.look_after_policy(false);
        self.local.unclassed = match choice {
            _ if self.local.uses.has_fields() => Access::Policy,
            Some(Choice { kind: Kind::Lfu, .. }) => access_counted,
            _ => Access::Lru,
        };
        self.local.access = if has_shares { Access::ByClass } else { self.local.unclassed };
    }

    /// What policies are to know of time and memory, now and then.
    pub fn look_after_policy(&self, second_passed: bool) {
        self.limit_shares();
        if self.is_limited {
            let (limit, used, keys) =
                (self.memory_limit(), self.server.used_memory(), self.server.keyspace.keys());
            // What few keys tell of their size says little.
            let bytes_a_key = if keys < KEYS_TELLING { BYTES_A_KEY } else { used / keys };
            self.server.keyspace.look_after_policy(self.local.now, second_passed, limit / bytes_a_key.max(1));
        }
    }

    pub(super) fn memory_limit(&self) -> usize {
        match self.settings.maxmemory() {
            0 => usize::MAX,
            bytes => usize::try_from(bytes).unwrap_or(usize::MAX),
        }
    }

    /// Evicts until memory in use is below `limit`, nothing more may leave, or the time is over. False only where nothing
    /// may leave.
    pub(super) fn evict(&mut self, limit: usize, time_max: Duration) -> bool {
        let start = clock::now();
        let (mut is_late, mut in_vain) = (false, 0u32);
        self.is_evicting = false;
        loop {
            let over = self.bytes_over(limit);
            if over == 0 {
                break;
            }
            self.sweep_first();
            if !self.evictor.may_evict(&self.server.keyspace) {
                self.over_limit = self.bytes_over(self.memory_limit()) > 0;
                return !self.over_limit;
            }
            let mut freed = 0;
            while freed < over {
                if is_late && start.elapsed() >= time_max || in_vain > LOOKS_IN_VAIN_MAX {
                    (self.is_evicting, self.over_limit) = (true, self.bytes_over(self.memory_limit()) > 0);
                    return true;
                }
                is_late = true;
                let (keyspace, local) = (&self.server.keyspace, &mut self.local);
                match self.evictor.evict(keyspace, local, over - freed, EVICTIONS_BETWEEN_LOOKS) {
                    Evicted::Bytes(bytes) => (freed, in_vain) = (freed + bytes, 0),
                    Evicted::NotYet => in_vain += EVICTIONS_BETWEEN_LOOKS,
                    Evicted::Nothing => {
                        self.over_limit = self.bytes_over(self.memory_limit()) > 0;
                        return !self.over_limit;
                    }
                }
            }
        }
        self.own_bytes_checked = alloc::own_bytes();
        self.over_limit = false;
        true
    }

    /// What has ended leaves before anything else does. Once a turn.
    fn sweep_first(&mut self) {
        if self.turn_swept == self.turns || !self.server.active_expire.load(Relaxed) {
            return;
        }
        self.turn_swept = self.turns;
        if self.server.keyspace.next_due() <= self.local.now.0 {
            let start = clock::now();
            self.server.keyspace.sweep_expired((0, 1), &mut self.local, &mut || start.elapsed() < SWEEP_TIME);
        }
    }

    /// How much more memory than `limit` is in use, beside what the background is about to free. Values
    /// that are this thread's to free are freed first: the limit is about them.
    fn bytes_over(&mut self, limit: usize) -> usize {
        self.local.free_spent();
        self.hand_garbage_over();
        // What a snapshot and the log have still to write is no data, and goes by itself.
        let unwritten = self.server.snapshots.pending_bytes() + self.server.journal.backlog() as usize;
        let used = self.server.used_memory().saturating_sub(unwritten);
        let limit = if self.settings.maxmemory_rss() && limit != usize::MAX {
            self.server.resident.limit(limit, used, self.local.now.0)
        } else {
            limit
        };
        let over = used.saturating_sub(limit);
        if over == 0 { 0 } else { over.saturating_sub(self.server.reaper.pending_value_bytes()) }
    }
}

/// What the background evicts down to.
fn headroom_below(limit: usize) -> usize {
    limit.saturating_sub((limit / HEADROOM_PART).clamp(HEADROOM.0, HEADROOM.1))
}

/// The policy that the options name.
fn choice_of(settings: &Settings) -> Option<Choice> {
    let admission = settings.maxmemory_admission();
    let (kind, scope) = kind_of(settings.maxmemory_policy())?;
    Some(Choice { kind, scope, admission })
}

fn kind_of(policy: MaxmemoryPolicy) -> Option<(Kind, Scope)> {
    kind_of_name(policy.name())
}

/// The policy of a name like `allkeys-lru`, or `lru` alone.
pub(super) fn kind_of_name(name: &str) -> Option<(Kind, Scope)> {
    let (scope, kind) = name.split_once('-').unwrap_or(("allkeys", name));
    let scope = match scope {
        "allkeys" => Scope::All,
        "volatile" => Scope::Timed,
        _ => return None,
    };
    Some((Kind::by_name(kind.as_bytes())?, scope))
}

/// Most bytes of one value; `usize::MAX` for no limit.
pub(super) fn entry_bytes_max(settings: &Settings) -> usize {
    let bytes = match settings.maxmemory_max_entry() {
        MemoryOrPercent::Bytes(bytes) => bytes,
        MemoryOrPercent::Percent(percent) => settings.maxmemory() / 100 * u64::from(percent),
    };
    if bytes == 0 { usize::MAX } else { usize::try_from(bytes).unwrap_or(usize::MAX) }
}

/// Whether keys have counts of uses instead of the time of the last.
pub(super) fn counts_frequency(settings: &Settings) -> bool {
    kind_of(settings.maxmemory_policy()).is_some_and(|(kind, _)| kind == Kind::Lfu)
}

/// How long one command may evict under a `maxmemory-eviction-tenacity`: 10 microseconds a step up to
/// ten, then 15 percent more with each, and as long as it takes at a hundred.
// Differs from Redis: a step of maxmemory-eviction-tenacity is 10 microseconds, not 50. By default a command evicts for 100
// at most; the background goes on, and keeps a little below the limit so that few commands have to.
fn eviction_time(tenacity: u32) -> Duration {
    const STEP_MICROS: u32 = 10;
    const LINEAR_STEPS: u32 = 10;
    match tenacity {
        0..=LINEAR_STEPS => Duration::from_micros(u64::from(tenacity * STEP_MICROS)),
        11..=99 => {
            let growth = 1.15f64.powi((tenacity - LINEAR_STEPS) as i32);
            Duration::from_micros((f64::from(STEP_MICROS * LINEAR_STEPS) * growth) as u64)
        }
        _ => Duration::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenacity_is_time() {
        assert_eq!(eviction_time(0), Duration::ZERO);
        assert_eq!(eviction_time(1), Duration::from_micros(10));
        assert_eq!(eviction_time(10), Duration::from_micros(100));
        assert_eq!(eviction_time(11), Duration::from_micros(114));
        assert_eq!(eviction_time(12), Duration::from_micros(132));
        assert!((24..27).contains(&eviction_time(99).as_secs()), "{:?}", eviction_time(99));
        assert_eq!(eviction_time(100), Duration::MAX);
    }

    #[test]
    fn every_word_of_the_option_but_one_names_a_policy() {
        for policy in MaxmemoryPolicy::ALL {
            let choice = kind_of(*policy);
            assert_eq!(choice.is_none(), *policy == MaxmemoryPolicy::NoEviction, "{}", policy.name());
            if let Some((kind, scope)) = choice {
                let is_timed = policy.name().starts_with("volatile");
                assert_eq!(scope == Scope::Timed, is_timed);
                assert!(policy.name().ends_with(kind.name()));
            }
        }
        for kind in Kind::ALL {
            let is_named =
                |policy: &&MaxmemoryPolicy| kind_of(**policy).is_some_and(|(named, _)| named == *kind);
            assert!(MaxmemoryPolicy::ALL.iter().any(|policy| is_named(&policy)), "{}", kind.name());
        }
    }

    #[test]
    fn headroom_is_a_small_part_of_the_limit() {
        assert_eq!(headroom_below(64 << 20), (64 << 20) - (128 << 10));
        assert_eq!(headroom_below(1 << 40), (1 << 40) - (4 << 20));
        assert_eq!(headroom_below(1000), 0);
    }
}
