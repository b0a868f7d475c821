//! How much memory a server takes while something goes on, the processes that it forks included.
//! Invariant: a page that two of them share is counted once. Read next: `compare/persistence/snapshot.rs`.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process::rss_bytes;

/// How often memory is looked at while there is one process.
const LOOK: Duration = Duration::from_millis(20);
/// The same while there are several: the kernel walks all their pages for it.
const LOOK_AT_SEVERAL: Duration = Duration::from_millis(200);

/// Looks at a server's memory again and again, on a thread of its own.
pub(crate) struct Gauge {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Gauge {
    /// Begins to look at the server whose process is `pid`.
    pub(crate) fn start(pid: u32) -> Gauge {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut peak = 0;
            while !stopped.load(Relaxed) {
                // A child may end while it is looked at.
                let (bytes, several) = footprint_bytes(pid).unwrap_or_default();
                peak = peak.max(bytes);
                std::thread::sleep(if several { LOOK_AT_SEVERAL } else { LOOK });
            }
            peak
        });
        Gauge { stop, thread }
    }

    /// The most it was, in bytes.
    pub(crate) fn peak_bytes(self) -> Result<u64> {
        self.stop.store(true, Relaxed);
        self.thread.join().ok().context("looking at memory failed")
    }
}

/// Memory of a process and its children in bytes, and whether it has any: without children what is resident, with them the sum
/// of what the kernel calls each one's proportional share.
fn footprint_bytes(pid: u32) -> Result<(u64, bool)> {
    let children = children_of(pid)?;
    if children.is_empty() {
        return Ok((rss_bytes(pid)?, false));
    }
    let mut bytes = share_bytes(pid)?;
    for child in children {
        bytes += share_bytes(child)?;
    }
    Ok((bytes, true))
}

/// The processes that `pid` started and that live.
fn children_of(pid: u32) -> Result<Vec<u32>> {
    let mut children = Vec::new();
    for entry in fs::read_dir("/proc").context("/proc")? {
        let Some(process) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process may be gone since the listing.
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        if parent_in(&stat) == Some(pid) {
            children.push(process);
        }
    }
    Ok(children)
}

/// The parent that a process's `stat` names: the second word behind the name in parentheses, unless the process is dead.
fn parent_in(stat: &str) -> Option<u32> {
    let (_, behind) = stat.rsplit_once(')')?;
    let mut words = behind.split_whitespace();
    let state = words.next()?;
    let parent = words.next()?.parse().ok()?;
    (state != "Z").then_some(parent)
}

/// The proportional share of a process in bytes.
fn share_bytes(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).context("the process is gone")?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).context("no Pss")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().context("Pss is no number")?;
    Ok(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_are_read_behind_whatever_a_process_is_called() {
        assert_eq!(parent_in("12 (a) b) S 7 12 12 0"), Some(7));
        assert_eq!(parent_in("12 (gone) Z 7 12 12 0"), None);
        assert_eq!(parent_in(""), None);
    }

    #[test]
    fn a_child_is_found_and_counted_with_its_parent() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let own = std::process::id();
        let found = children_of(own).unwrap();
        assert!(found.contains(&child.id()), "{found:?}");
        let (both, several) = footprint_bytes(own).unwrap();
        assert!(several && both > share_bytes(own).unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
