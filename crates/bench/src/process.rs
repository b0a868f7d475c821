//! What the kernel knows of a process: CPU time, memory, cores. Read next: `peers.rs`.

use std::fs;

use anyhow::{Context, Result};
use rustix::process::{Pid, Resource, Rlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Nanoseconds of CPU that all threads of `pid` have used, kernel time included.
pub(crate) fn cpu_ns(pid: u32) -> Result<u64> {
    let mut total = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).context("the process is gone")? {
        let path = task?.path().join("schedstat");
        // A thread that ended since the listing has nothing left to read.
        let Ok(text) = fs::read_to_string(path) else { continue };
        total += text.split_whitespace().next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(total)
}

/// Resident memory of `pid` in bytes.
pub(crate) fn rss_bytes(pid: u32) -> Result<u64> {
    status_bytes(pid, "VmRSS:")
}

/// The most memory of `pid` that was ever resident, in bytes.
pub(crate) fn rss_peak_bytes(pid: u32) -> Result<u64> {
    status_bytes(pid, "VmHWM:")
}

fn status_bytes(pid: u32, name: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the process is gone")?;
    let figure =
        status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
    let kib = figure
        .split_whitespace()
        .next()
        .and_then(|kib| kib.parse::<u64>().ok())
        .with_context(|| format!("{name} is no number"))?;
    Ok(kib * 1024)
}

/// The cores a thread may run on.
#[derive(Clone, Debug)]
pub(crate) struct Cores(CpuSet);

impl Cores {
    /// Those of the calling thread.
    pub(crate) fn of_this_thread() -> Result<Cores> {
        Ok(Cores(sched_getaffinity(None).context("sched_getaffinity")?))
    }

    /// One core.
    pub(crate) fn single(core: usize) -> Cores {
        let mut set = CpuSet::new();
        set.set(core);
        Cores(set)
    }

    /// Binds the calling thread, and what it starts from then on.
    pub(crate) fn bind_this_thread(&self) -> Result<()> {
        sched_setaffinity(None, &self.0).context("sched_setaffinity: is there such a core?")
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u32 {
        self.0.count()
    }
}

/// The calling thread goes before all others of its core while this lives, where the system lets it: what is due at a time is not sent
/// late because a thread of the kernel, or of anybody else, is at it.
#[derive(Debug)]
pub(crate) struct First {
    /// What it had before.
    priority: Option<i32>,
}

/// The highest there is.
const PRIORITY: i32 = -20;

impl First {
    /// Threads that it starts meanwhile have the same priority: it should start none.
    pub(crate) fn begin() -> First {
        let before = rustix::process::getpriority_process(None).ok();
        let raised = rustix::process::setpriority_process(None, PRIORITY).is_ok();
        First { priority: before.filter(|_| raised) }
    }
}

impl Drop for First {
    fn drop(&mut self) {
        if let Some(before) = self.priority {
            let _ = rustix::process::setpriority_process(None, before);
        }
    }
}

/// Raises the number of files this process (and what it starts) may open to what the system allows.
pub(crate) fn raise_open_files() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // Not being allowed to is no error: the caller finds out when it opens too many.
    let _ = rustix::process::setrlimit(Resource::Nofile, raised);
}

/// Sends a signal to a process.
pub(crate) fn signal(pid: u32, signal: rustix::process::Signal) -> Result<()> {
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw).context("not a process id")?;
    rustix::process::kill_process(raw, signal).context("kill")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_first_for_as_long_as_it_says() {
        let priority = || rustix::process::getpriority_process(None).unwrap();
        let before = priority();
        let first = First::begin();
        // Who may not is as before.
        assert!(priority() == PRIORITY || priority() == before);
        drop(first);
        assert_eq!(priority(), before);
    }

    #[test]
    fn cpu_time_grows_with_work_and_memory_is_known() {
        let pid = std::process::id();
        let before = cpu_ns(pid).unwrap();
        let start = std::time::Instant::now();
        let mut spun = 0u64;
        while start.elapsed().as_millis() < 60 {
            spun = std::hint::black_box(spun.wrapping_add(1));
        }
        assert!(cpu_ns(pid).unwrap() - before > 5_000_000);
        let resident = rss_bytes(pid).unwrap();
        assert!(resident > 100_000 && rss_peak_bytes(pid).unwrap() >= resident / 2);
    }
}
