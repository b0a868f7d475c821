//! How readily the kernel ends the server when memory runs out: `oom-score-adj` and `oom-score-adj-values`.
//!
//! Invariant: what the process had before the server touched it is put back when that is turned off.

use larder_config::{OomScoreAdj, Settings};
use parking_lot::Mutex;
use std::io;

/// Where the kernel keeps the score of a process.
const PATH: &str = "/proc/self/oom_score_adj";
/// What the kernel takes, on either side of zero.
const MAX: i32 = 1000;

/// The score of this process.
#[derive(Debug, Default)]
pub struct OomScore {
    /// What it was before the server set it; none as long as it has not.
    before: Mutex<Option<i32>>,
}

impl OomScore {
    /// Sets the score as the settings say. There is no replica and no process of its own for a snapshot, so of the values
    /// the first one holds.
    ///
    /// # Errors
    /// The kernel refuses; the log says why.
    pub fn follow(&self, settings: &Settings) -> Result<(), ()> {
        let mut before = self.before.lock();
        let [main, _, _] = settings.oom_score_adj_values();
        let score = match (settings.oom_score_adj(), *before) {
            (OomScoreAdj::No, None) => return Ok(()),
            (OomScoreAdj::No, Some(found)) => {
                *before = None;
                found
            }
            (how, found) => {
                let found = match found {
                    Some(found) => found,
                    None => {
                        read().map_err(|error| tracing::warn!("Unable to read oom_score_adj: {error}"))?
                    }
                };
                *before = Some(found);
                let base = if how == OomScoreAdj::Absolute { 0 } else { found };
                (base + i32::from(main)).clamp(-MAX, MAX)
            }
        };
        std::fs::write(PATH, format!("{score}\n"))
            .map_err(|error| tracing::warn!("Unable to write oom_score_adj: {error}"))
    }
}

fn read() -> io::Result<i32> {
    let text = std::fs::read_to_string(PATH)?;
    text.trim().parse().map_err(|_| io::ErrorKind::InvalidData.into())
}
