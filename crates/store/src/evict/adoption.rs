//! Files what was there before a policy was: one walk over a part of the keyspace, in bounded steps.
//!
//! Who was used how long ago is told by what the fields held before: Redis' clock, or the clock of the policy that was in
//! force. An entry that is filed twice does no harm: the older reference is a leftover and dropped.

use super::view::View;
use super::{Chosen, State};
use crate::local::{Access, Local, Millis};
use larder_policy::{Entries, Ref, Seen};
use larder_values::lru;
use smallvec::SmallVec;
use std::sync::Arc;

/// Entries looked at to learn how long is long.
const SAMPLES: usize = 256;
/// Places where samples are taken.
const SAMPLE_PLACES: u32 = 64;

/// What the fields held before.
#[derive(Debug, Clone)]
pub(super) enum Before {
    /// The clock of Redis' LRU.
    Clock,
    /// The fields of another policy.
    Policy(Arc<Chosen>),
}

/// How far the walk is.
#[derive(Debug)]
pub(super) struct Adoption {
    before: Before,
    next: u32,
    /// Idle times of some entries, ascending, ms.
    samples: Option<Vec<u64>>,
    /// When it began, Unix ms.
    began_ms: u64,
}

/// Where fields go back to Redis' clock, one that says so of a use since shortly before that began is believed: the key
/// was used meanwhile.
const CLOCK_SLACK_MS: u64 = 2000;

impl Adoption {
    pub(super) fn new(before: Before) -> Self {
        Adoption { before, next: 0, samples: None, began_ms: u64::MAX }
    }

    fn idle_ms(&self, part: usize, field: u32, now: Millis) -> u64 {
        match &self.before {
            Before::Clock => lru::idle_ms(lru::clock_at(now.0), field),
            Before::Policy(chosen) => {
                // Both have as many parts: that follows from the workers.
                let state = chosen.parts.get(part).map(|part| part.state.lock());
                state.and_then(|state| state.marks.idle_ms(field, now)).unwrap_or(0)
            }
        }
    }

    fn sample(&self, view: &mut View<'_, '_>) -> Vec<u64> {
        let mut fields = Vec::new();
        for place in 0..SAMPLE_PLACES {
            view.walk(place << 26, &mut |seen, _| fields.extend(seen.iter().map(|seen| seen.field)));
        }
        fields.truncate(SAMPLES);
        let (part, now) = (view.part, Millis(view.now));
        let mut samples: Vec<u64> = fields.iter().map(|field| self.idle_ms(part, *field, now)).collect();
        samples.sort_unstable();
        samples
    }
}

/// Files the entries of some buckets, as far as shards can be had. True when all are.
pub(super) fn adopt_some(state: &mut State, view: &mut View<'_, '_>, buckets: usize, local: &Local) -> bool {
    let Some(mut adoption) = state.adoption.take() else { return true };
    let samples = adoption.samples.take().unwrap_or_else(|| adoption.sample(view));
    let (part, now, scope) = (view.part, Millis(view.now), view.chosen.choice.scope);
    adoption.began_ms = adoption.began_ms.min(now.0);
    let clock_ms_max = now.0 - adoption.began_ms + CLOCK_SLACK_MS;
    let has_fields = view.chosen.choice.kind.has_fields();
    let mut found: SmallVec<[(Ref, Seen); 32]> = SmallVec::new();
    for _ in 0..buckets {
        found.clear();
        view.stays = true;
        adoption.next = view.walk(adoption.next, &mut |seen, passing| {
            for (index, seen) in seen.iter().enumerate().filter(|(_, seen)| scope.has(seen)) {
                found.push((passing.at(index), *seen));
            }
        });
        for (at, seen) in &found {
            let idle = adoption.idle_ms(part, seen.field, now);
            let later = samples.partition_point(|sample| *sample < idle);
            let field = state.policy.adopt(*at, *seen, later as f32 / samples.len().max(1) as f32);
            match adoption.before {
                _ if has_fields => view.set_field(*at, field),
                // From a policy that had the fields to one that leaves them to Redis' clock, or to its counters.
                Before::Policy(_) if !matches!(local.access_of_rest(), Access::Lru) => {
                    view.set_field(*at, local.access_of_new());
                }
                Before::Policy(_) if lru::idle_ms(lru::clock_at(now.0), seen.field) <= clock_ms_max => {}
                Before::Policy(_) => view.set_field(*at, lru::clock_at(now.0.saturating_sub(idle))),
                Before::Clock => {}
            }
        }
        view.stays = false;
        if std::mem::take(&mut view.is_stuck) {
            break;
        }
        if adoption.next == 0 {
            return true;
        }
    }
    adoption.samples = Some(samples);
    state.adoption = Some(adoption);
    false
}
