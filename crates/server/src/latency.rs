//! LATENCY: spikes of named events, and a histogram of every command's duration.
//!
//! Spikes are kept per event as Redis keeps them: at most one a second (the worst), the last 160.

use parking_lot::Mutex;
use std::collections::BTreeMap;

/// Spikes kept of one event.
const SPIKES_MAX: usize = 160;

/// The spikes of one event.
#[derive(Debug, Clone, Default)]
pub struct Spikes {
    /// (second of Unix time, milliseconds), oldest first.
    pub samples: Vec<(u64, u64)>,
    /// The worst ever, in milliseconds.
    pub worst_ms: u64,
    /// All of them summed up, in milliseconds.
    pub sum_ms: u64,
    /// How many there were.
    pub count: u64,
}

/// The spikes of all events.
#[derive(Debug, Default)]
pub struct LatencyMonitor {
    events: Mutex<BTreeMap<&'static str, Spikes>>,
}

impl LatencyMonitor {
    /// Adds a spike.
    pub fn add(&self, event: &'static str, unix_secs: u64, millis: u64) {
        let mut events = self.events.lock();
        let spikes = events.entry(event).or_default();
        spikes.worst_ms = spikes.worst_ms.max(millis);
        spikes.sum_ms += millis;
        spikes.count += 1;
        match spikes.samples.last_mut() {
            Some((second, worst)) if *second == unix_secs => *worst = (*worst).max(millis),
            _ => {
                if spikes.samples.len() == SPIKES_MAX {
                    spikes.samples.remove(0);
                }
                spikes.samples.push((unix_secs, millis));
            }
        }
    }

    /// The spikes of an event.
    pub fn of(&self, event: &[u8]) -> Option<Spikes> {
        self.events.lock().iter().find(|(name, _)| name.as_bytes() == event).map(|(_, spikes)| spikes.clone())
    }

    /// All events with their spikes, by name.
    pub fn all(&self) -> Vec<(&'static str, Spikes)> {
        self.events.lock().iter().map(|(name, spikes)| (*name, spikes.clone())).collect()
    }

    /// Forgets the named events, or all when none is named; answers how many there were.
    pub fn reset(&self, names: &[&[u8]]) -> usize {
        let mut events = self.events.lock();
        let before = events.len();
        events.retain(|name, _| !names.is_empty() && !names.contains(&name.as_bytes()));
        before - events.len()
    }
}
