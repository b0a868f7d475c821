//! Numbers for keys, in order of first appearance, and what is known of each: its size and its time to live.
//! Invariant: numbers are dense from 0. Read next: `csv.rs`, `monitor.rs`.

use super::trace::{Operation, Request, Trace};
use std::collections::HashMap;

/// What is known of a key.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known {
    /// The size it had first and last; 0 is unknown.
    pub(super) bytes_first: u32,
    pub(super) bytes: u32,
    pub(super) ttl_seconds: u32,
    /// Whether it was named since it was removed last.
    pub(super) is_named: bool,
}

/// Numbers keys.
#[derive(Debug, Default)]
pub(super) struct Keys {
    by_name: HashMap<Vec<u8>, u32>,
    known: Vec<Known>,
}

impl Keys {
    /// The number of a key, a new one for one that was never seen.
    pub(super) fn number(&mut self, name: &[u8]) -> u32 {
        if let Some(number) = self.by_name.get(name) {
            return *number;
        }
        let number = self.known.len() as u32;
        self.by_name.insert(name.to_vec(), number);
        self.known.push(Known::default());
        number
    }

    /// What is known of a key that has a number.
    pub(super) fn known(&self, number: u32) -> Known {
        self.known.get(number as usize).copied().unwrap_or_default()
    }

    /// A key is named, and has such a size now unless that is unknown.
    pub(super) fn note(&mut self, number: u32, bytes: u32) {
        if let Some(known) = self.known.get_mut(number as usize) {
            known.is_named = true;
            if bytes > 0 {
                known.bytes = bytes;
                known.bytes_first = if known.bytes_first == 0 { bytes } else { known.bytes_first };
            }
        }
    }

    pub(super) fn set_ttl(&mut self, number: u32, seconds: u32) {
        if let Some(known) = self.known.get_mut(number as usize) {
            known.ttl_seconds = seconds;
        }
    }

    /// A key was removed.
    pub(super) fn forget(&mut self, number: u32) {
        if let Some(known) = self.known.get_mut(number as usize) {
            known.is_named = false;
            known.ttl_seconds = 0;
        }
    }

    /// The trace of some requests. Those of unknown size get the first known size of their key, or else the mean of
    /// the sizes that are known.
    pub(super) fn into_trace(self, mut requests: Vec<Request>) -> Trace {
        let sizes = || requests.iter().map(|request| u64::from(request.bytes)).filter(|bytes| *bytes > 0);
        let count = sizes().count() as u64;
        if let Some(mean) = sizes().sum::<u64>().checked_div(count) {
            let mean = mean.clamp(1, u64::from(u32::MAX)) as u32;
            for request in &mut requests {
                if request.bytes == 0 && request.operation != Operation::Delete {
                    let first = self.known(request.key).bytes_first;
                    request.bytes = if first > 0 { first } else { mean };
                }
            }
        }
        Trace { requests, keys: self.known.len() as u32 }
    }
}
