//! What a policy knows, on its way over a restart: of each key in 24 bits, and what it has learned of all.
//!
//! Clocks of policies mean nothing to another process, and hashes are others there; so fields are kept as ages
//! ([`Kind::kept`]), beside the keys they are of. Keys of classes have policies of their own, of which nothing is kept.
//! Read next: `snapshot.rs`, which asks for each key it saves.

use super::{Chosen, Uses};
use crate::keyspace::Keyspace;
use larder_policy::policies::Kind;
use larder_policy::{Epoch, KEPT_NOTHING};
use std::sync::Arc;

/// The policy in force at a moment, and where the clocks of its parts stood.
pub(crate) struct Remembering {
    chosen: Arc<Chosen>,
    epochs: Box<[Epoch]>,
}

impl Remembering {
    /// What is known of a key by its field, for [`Uses::recall_next`].
    pub(crate) fn of_key(&self, uses: &Uses, table: u32, (hash, key): (u64, &[u8]), field: u32) -> u32 {
        // Another policy may have been chosen since.
        if !uses.follows(&self.chosen) || !self.chosen.has(table, key) {
            return KEPT_NOTHING;
        }
        let epoch = self.epochs.get(self.chosen.place(table, hash).0);
        epoch.map_or(KEPT_NOTHING, |epoch| self.chosen.choice.kind.kept(field, *epoch))
    }

    /// How likely a key is to be asked for soon, beside others, by what is known of it.
    pub(crate) fn warmth(&self, kept: u32) -> u32 {
        if kept == KEPT_NOTHING { 0 } else { self.chosen.choice.kind.warmth(kept) }
    }
}

/// What the policy in force has learned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Learned {
    /// Which policy it is.
    pub kind: Kind,
    /// What each of its parts has learned.
    pub parts: Vec<Vec<u8>>,
}

impl Keyspace {
    /// What is needed to tell what is known of keys from now on. `None` where no policy has anything of them. What it tells is of one
    /// moment where the caller is exclusive.
    pub(crate) fn remember(&self) -> Option<Remembering> {
        let chosen = self.eviction.chosen.lock().clone()?;
        if !chosen.choice.kind.has_fields() {
            return None;
        }
        let epochs = chosen.parts.iter().map(|part| part.state.lock().policy.epoch()).collect();
        Some(Remembering { chosen, epochs })
    }

    /// What the policy in force has learned beyond single keys, for [`Keyspace::take_up`] after a restart.
    pub fn learned(&self) -> Option<Learned> {
        let chosen = self.eviction.chosen.lock().clone()?;
        let part = |part: &super::Part| {
            let mut learned = Vec::new();
            part.state.lock().policy.learned(&mut learned);
            learned
        };
        chosen
            .choice
            .kind
            .has_fields()
            .then(|| Learned { kind: chosen.choice.kind, parts: chosen.parts.iter().map(part).collect() })
    }

    /// Has the policy in force take up what one before a restart had learned. False where it is of another kind: then what is known of keys
    /// means nothing to it either. There are no keys yet.
    pub fn take_up(&self, learned: &Learned) -> bool {
        let chosen = self.eviction.chosen.lock().clone();
        let Some(chosen) = chosen.filter(|chosen| chosen.choice.kind == learned.kind) else { return false };
        // Each part knows much the same, whichever keys it has.
        for (part, learned) in chosen.parts.iter().zip(learned.parts.iter().cycle()) {
            part.state.lock().policy.learn_from(learned);
        }
        true
    }
}
