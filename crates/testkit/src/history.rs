//! An exact check of concurrent histories: is there an order of the operations, each at one moment between
//! its call and its return, in which every reply is what a single server would have answered?
//!
//! The search is that of Wing and Gong ("Testing and Verifying Concurrent Objects", 1993) with the states already
//! visited remembered (Lowe, 2017). An operation is a list of steps that happen as one: a single command, or a
//! whole transaction. Invariant: the answer is exact; only the time it takes depends on the history.

use std::collections::HashSet;
use std::time::Instant;

/// One command on one of a few integers, which are absent at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// GET
    Get(usize),
    /// INCR
    Increase(usize),
    /// GETSET
    Exchange(usize, i64),
    /// GETDEL
    Take(usize),
}

impl Step {
    /// The reply it gets, and what it makes of the registers.
    fn apply(self, registers: &mut [Option<i64>]) -> Option<i64> {
        match self {
            Step::Get(at) => registers[at],
            Step::Increase(at) => {
                registers[at] = Some(registers[at].unwrap_or(0) + 1);
                registers[at]
            }
            Step::Exchange(at, value) => registers[at].replace(value),
            Step::Take(at) => registers[at].take(),
        }
    }
}

/// Something that was asked and answered.
#[derive(Debug, Clone)]
pub struct Operation {
    /// When it was asked.
    pub called: Instant,
    /// When the answer was there.
    pub returned: Instant,
    /// What registers must hold for it to happen, where it is a transaction with watched keys.
    pub condition: Vec<(usize, Option<i64>)>,
    /// What happens as one, and what each step was answered.
    pub steps: Vec<(Step, Option<i64>)>,
}

/// Whether a history of at most 64 operations on `registers` registers can have happened one after the other.
#[must_use]
pub fn is_linearizable(registers: usize, history: &[Operation]) -> bool {
    assert!(history.len() <= 64, "a set of operations is a word of 64 bits");
    let mut visited = HashSet::new();
    search(history, 0, vec![None; registers], &mut visited)
}

/// Whether the operations not in `done` can follow from this state.
fn search(
    history: &[Operation],
    done: u64,
    state: Vec<Option<i64>>,
    visited: &mut HashSet<(u64, Vec<Option<i64>>)>,
) -> bool {
    let left = || history.iter().enumerate().filter(|(index, _)| done & (1 << index) == 0);
    // What was called after another had returned cannot come before it.
    let Some(first_return) = left().map(|(_, operation)| operation.returned).min() else { return true };
    if !visited.insert((done, state.clone())) {
        return false;
    }
    left().filter(|(_, operation)| operation.called <= first_return).any(|(index, operation)| {
        let holds = |(register, value): &(usize, Option<i64>)| state[*register] == *value;
        let mut after = state.clone();
        operation.condition.iter().all(holds)
            && operation.steps.iter().all(|(step, reply)| step.apply(&mut after) == *reply)
            && search(history, done | 1 << index, after, visited)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(start: Instant, (called, returned): (u64, u64), steps: &[(Step, Option<i64>)]) -> Operation {
        Operation {
            called: start + Duration::from_millis(called),
            returned: start + Duration::from_millis(returned),
            condition: Vec::new(),
            steps: steps.to_vec(),
        }
    }

    #[test]
    fn a_stale_read_is_found() {
        let start = Instant::now();
        let write = at(start, (0, 1), &[(Step::Increase(0), Some(1))]);
        let overlapping = at(start, (0, 3), &[(Step::Get(0), None)]);
        let stale = at(start, (2, 3), &[(Step::Get(0), None)]);
        assert!(is_linearizable(1, &[write.clone(), overlapping]));
        assert!(!is_linearizable(1, &[write, stale]));
    }

    #[test]
    fn a_torn_transaction_is_found() {
        let start = Instant::now();
        let both = at(start, (0, 9), &[(Step::Increase(0), Some(1)), (Step::Increase(1), Some(1))]);
        let read = |first, second| at(start, (0, 9), &[(Step::Get(0), first), (Step::Get(1), second)]);
        assert!(is_linearizable(2, &[both.clone(), read(None, None), read(Some(1), Some(1))]));
        assert!(!is_linearizable(2, &[both.clone(), read(Some(1), None)]));
        assert!(!is_linearizable(2, &[both, read(None, Some(1))]));
    }

    #[test]
    fn a_transaction_that_ignored_a_change_is_found() {
        let start = Instant::now();
        let other = at(start, (1, 2), &[(Step::Exchange(0, 7), None)]);
        let mut checked = at(start, (3, 4), &[(Step::Exchange(0, 1), None)]);
        checked.condition = vec![(0, None)];
        assert!(is_linearizable(1, &[checked.clone()]));
        assert!(!is_linearizable(1, &[other, checked]));
    }
}
