//! When a policy's clock stood where, so that OBJECT IDLETIME can be told from an entry's access field.
//!
//! Invariant: marks ascend in time. Where there would be too many the one goes that leaves the smallest gap for its age: so
//! an answer is off by a small part of itself.

use crate::local::Millis;
use larder_policy::Recording;
use std::collections::VecDeque;

const MARKS_MAX: usize = 512;

/// Moments and where the clock stood at them.
#[derive(Debug)]
pub(super) struct Marks {
    /// Where the clock stands in the field, and how wide it is; `None` for fields that hold no clock.
    clock: Option<(u32, u32)>,
    marks: VecDeque<(u32, u64)>,
}

impl Marks {
    pub(super) fn new(recording: Recording) -> Self {
        Marks { clock: recording.clock_bits(), marks: VecDeque::new() }
    }

    /// Notes where the clock stands, at most once for each of its values.
    pub(super) fn note(&mut self, clock: u32, now: Millis) {
        let Some((_, width)) = self.clock else { return };
        let clock = clock & mask(width);
        if self.marks.back().is_none_or(|(last, _)| *last != clock) {
            self.marks.push_back((clock, now.0));
        }
        // What is further behind would look young once the clock has gone around.
        let is_near = |mark: &(u32, u64)| clock.wrapping_sub(mark.0) & mask(width) <= mask(width) / 4 * 3;
        while self.marks.front().is_some_and(|mark| !is_near(mark)) {
            self.marks.pop_front();
        }
        if self.marks.len() > MARKS_MAX {
            let gap = |at: &usize| {
                let (before, after) = (self.marks[at - 1].1, self.marks[at + 1].1);
                (after - before) as f64 / (now.0.saturating_sub(after) + 1) as f64
            };
            let least = (1..self.marks.len() - 1).min_by(|one, other| gap(one).total_cmp(&gap(other)));
            least.and_then(|at| self.marks.remove(at));
        }
    }

    /// How long ago an entry was used, ms, by its field. `None` where fields do not tell.
    pub(super) fn idle_ms(&self, field: u32, now: Millis) -> Option<u64> {
        let (shift, width) = self.clock?;
        let used = field >> shift & mask(width);
        let newest = self.marks.back()?.0;
        // The clock goes on between two marks.
        let ahead = used.wrapping_sub(newest) & mask(width);
        if ahead > 0 && ahead < mask(width) / 8 {
            return Some(0);
        }
        let behind = |clock: u32| newest.wrapping_sub(clock) & mask(width);
        let at = self.marks.partition_point(|(clock, _)| behind(*clock) > behind(used));
        // A use while the clock stood where this mark says was before the next mark; another was before this one.
        let is_there = self.marks.get(at).is_some_and(|(clock, _)| *clock == used);
        let until = self.marks.get(at + usize::from(is_there)).map_or(now.0, |(_, at)| *at);
        Some(now.0.saturating_sub(until))
    }

    /// The field of an entry that was used so long ago, as far as marks tell; other bits as they are.
    pub(super) fn used_before(&self, field: u32, idle_ms: u64, now: Millis) -> Option<u32> {
        let (shift, width) = self.clock?;
        let at = self.marks.partition_point(|(_, at)| *at <= now.0.saturating_sub(idle_ms));
        let (clock, _) = self.marks.get(at.saturating_sub(1))?;
        Some(field & !(mask(width) << shift) | clock << shift)
    }
}

fn mask(width: u32) -> u32 {
    (1 << width) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_second(seconds: u64) -> Marks {
        let mut marks = Marks::new(Recording::Clock);
        (0..seconds).for_each(|second| marks.note(second as u32, Millis(second * 1000)));
        marks
    }

    #[test]
    fn idle_times_are_told_to_the_second_while_they_are_short() {
        let (marks, now) = (every_second(10_000), Millis(9_999_000));
        let (shift, width) = Recording::Clock.clock_bits().unwrap_or_default();
        for idle in 0..100 {
            let field = ((9_999 - idle) & mask(width)) << shift;
            let told = marks.idle_ms(field, now).unwrap_or(u64::MAX) / 1000;
            assert!(told.abs_diff(u64::from(idle)) <= 1, "{told} for {idle}");
        }
        for idle in [300, 600, 1_000, 2_000, 3_000, 5_000, 9_000] {
            let told = marks.idle_ms(((9_999 - idle) & mask(width)) << shift, now).unwrap_or(u64::MAX) / 1000;
            assert!(told.abs_diff(u64::from(idle)) <= u64::from(idle) / 50, "{told} for {idle}");
        }
        assert!(marks.marks.len() <= MARKS_MAX);
    }

    #[test]
    fn a_use_since_the_last_mark_was_just_now() {
        let mut marks = Marks::new(Recording::Clock);
        marks.note(0, Millis(0));
        marks.note(5, Millis(1_000_000));
        let (shift, _) = Recording::Clock.clock_bits().unwrap_or_default();
        assert_eq!(marks.idle_ms(7 << shift, Millis(1_000_500)), Some(0));
        assert_eq!(marks.idle_ms(5 << shift, Millis(1_000_500)), Some(0));
        assert_eq!(marks.idle_ms(4 << shift, Millis(1_000_500)), Some(500));
    }

    #[test]
    fn what_is_set_back_is_told_so() {
        let (marks, now) = (every_second(200), Millis(199_000));
        let field = marks.used_before(0x3ff, 100_000, now).unwrap_or(0);
        assert_eq!(field & 0x3ff, 0x3ff, "other bits stay");
        assert!(marks.idle_ms(field, now).is_some_and(|idle| idle.abs_diff(100_000) <= 1000));
    }

    #[test]
    fn fields_without_a_clock_tell_nothing() {
        let mut marks = Marks::new(Recording::Mark);
        marks.note(1, Millis(1));
        assert_eq!(marks.idle_ms(7, Millis(5)), None);
    }
}
