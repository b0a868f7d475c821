//! Coarse deadlines: the two-byte codes by which a sweep finds the entries that may be due without reading them.
//!
//! Invariant: a code never says later than its entry's deadline, except `LATER`, which says "not before the last tick",
//! and `NONE`. Codes count ticks from their segment's base; the exact deadline is in the entry.

/// Milliseconds of a tick.
pub(crate) const TICK_MS: u64 = 32;
/// No entry, or one without a deadline.
pub(crate) const NONE: u16 = u16::MAX;
/// Beyond the range of codes.
pub(crate) const LATER: u16 = NONE - 1;
/// How far below the first deadline a segment's base is put, ms: half of the range.
const LEAD_MS: u64 = TICK_MS * (LATER as u64 / 2);

/// The code of a deadline.
#[inline]
pub(crate) fn code(base: u64, deadline: Option<u64>) -> u16 {
    match deadline {
        None => NONE,
        Some(at) => u16::try_from(at.saturating_sub(base) / TICK_MS).map_or(LATER, |code| code.min(LATER)),
    }
}

/// A time not above any deadline of this code, except those before the base, all of which have code 0.
#[inline]
pub(crate) fn earliest(base: u64, code: u16) -> u64 {
    if code == NONE { u64::MAX } else { base.saturating_add(u64::from(code) * TICK_MS) }
}

/// Where to put the base of a segment that receives its first deadline.
pub(crate) fn base_for(first: u64) -> u64 {
    first.saturating_sub(LEAD_MS)
}

/// Whether a sweep at `now` should move the base: codes would soon be, or are, all alike.
pub(crate) fn is_worn(base: u64, now: u64) -> bool {
    now < base || now - base >= LEAD_MS
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_due_deadline_never_hides_behind_its_code(
            base in 0u64..1 << 50,
            shift in prop_oneof![-100_000i64..100_000, -10_000_000i64..10_000_000],
            wait in 0u64..10_000_000,
        ) {
            let deadline = base.saturating_add_signed(shift);
            let code_at = code(base, Some(deadline));
            prop_assert!(code_at <= LATER);
            prop_assert!(code_at == 0 || earliest(base, code_at) <= deadline);
            // Whenever it is due, its code is not above that of the time.
            let now = deadline.saturating_add(wait);
            prop_assert!(code_at <= code(base, Some(now)));
            prop_assert!(!is_worn(base_for(deadline), deadline) || deadline >= LEAD_MS);
        }
    }

    #[test]
    fn the_ends_of_time_are_no_exception() {
        assert_eq!(code(5, None), NONE);
        assert_eq!(code(0, Some(u64::MAX)), LATER);
        assert_eq!(code(u64::MAX, Some(0)), 0);
        assert_eq!(earliest(u64::MAX, LATER), u64::MAX);
        assert_eq!(base_for(10), 0);
    }
}
