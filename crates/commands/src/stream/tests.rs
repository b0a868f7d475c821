//! Stream commands beside a live redis-server: replies, events and counts of changes.

use crate::alike::Both;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Lines in order, on a keyspace that begins empty. Replies that tell times are left to transcripts.
const LINES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/stream/tests.txt");

#[test]
fn lines_are_answered_as_by_redis() {
    let lines = std::fs::read_to_string(LINES).unwrap();
    for resp3 in [false, true] {
        let Some(mut both) = Both::start() else { return };
        if resp3 {
            both.speak_resp3();
        }
        let mut failures = Vec::new();
        for line in lines.lines().filter(|line| !line.is_empty()) {
            let compared = catch_unwind(AssertUnwindSafe(|| both.same(line)));
            if let Err(failure) = compared {
                let text = failure.downcast_ref::<String>().cloned().unwrap_or_default();
                failures.push(format!("{line}\n    {text}"));
            }
        }
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    }
}
