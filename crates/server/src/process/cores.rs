//! Which cores a thread runs on, as the options `server-cpulist` and its kin say it: `0,2,4-7` or, every second one, `0-8:2`.
//!
//! Invariant: a list that is wrong, or names no core that there is, changes nothing, as in Redis.

use rustix::thread::{CpuSet, sched_setaffinity};

/// Keeps the calling thread, and those that it starts from then on, on the cores of a list. An empty list says nothing.
pub fn pin(list: &[u8]) {
    if list.is_empty() {
        return;
    }
    let Some(set) = cores(list) else {
        tracing::warn!("'{}' is no list of cores, as 0,2,4-7 is one", String::from_utf8_lossy(list));
        return;
    };
    if let Err(error) = sched_setaffinity(None, &set) {
        tracing::warn!("cannot run on the cores {} only: {error}", String::from_utf8_lossy(list));
    }
}

fn cores(list: &[u8]) -> Option<CpuSet> {
    let mut set = CpuSet::new();
    for part in std::str::from_utf8(list).ok()?.split(',') {
        let (range, step) = part.split_once(':').unwrap_or((part, "1"));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let [first, last, step] = [first, last, step].map(|number| number.trim().parse::<usize>().ok());
        let (first, last, step) = (first?, last?, step.filter(|step| *step > 0)?);
        if last >= CpuSet::MAX_CPU || last < first {
            return None;
        }
        (first..=last).step_by(step).for_each(|core| set.set(core));
    }
    Some(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(list: &str) -> Option<Vec<usize>> {
        let set = cores(list.as_bytes())?;
        Some((0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect())
    }

    #[test]
    fn lists_have_cores_ranges_and_steps() {
        assert_eq!(numbers("0,2,4-6"), Some(vec![0, 2, 4, 5, 6]));
        assert_eq!(numbers("1-9:3, 20"), Some(vec![1, 4, 7, 20]));
        for wrong in ["", "x", "1-", "-1", "3-1", "1-5:0", "1,,2", "1024", "99999999999999999999"] {
            assert_eq!(numbers(wrong), None, "{wrong}");
        }
    }
}
