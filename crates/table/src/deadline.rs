//! Coarse deadlines: the two-byte codes by which a sweep finds the entries that may be due without reading them.
//!
//! Invariant: a code never says later than its entry's deadline, except `LATER`, which says "not before the last tick",
//! and `NONE`. Codes count ticks from their segment's base; the exact deadline is in the entry.

use std::cell::Cell;

/// Milliseconds of a tick.
pub(crate) const TICK_MS: u64 = 32;
/// No entry, or one without a deadline.
pub(crate) const NONE: u16 = u16::MAX;
/// Beyond the range of codes.
pub(crate) const LATER: u16 = NONE - 1;
/// How far below the first deadline a segment's base is put, ms: a third of the range.
const LEAD_MS: u64 = TICK_MS * (LATER as u64 / 3);
/// Age at which a base is worn, ms: far enough beyond the first deadline that what expires together does so under one
/// base, and far enough below the range's end that most codes still differ.
const WORN_MS: u64 = 2 * LEAD_MS;

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
    now < base || now - base >= WORN_MS
}

/// A bit for each code that is at most `limit`.
#[inline]
pub(crate) fn up_to(codes: &[Cell<u16>; 8], limit: u16) -> u32 {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: SSE2 is part of x86_64; the load is of the 16 bytes of `codes`, which only this thread can reach.
    unsafe {
        use std::arch::x86_64::*;
        let codes = _mm_loadu_si128(codes.as_ptr().cast());
        // Saturating: nothing is left of what is not above the limit.
        let above = _mm_subs_epu16(codes, _mm_set1_epi16(limit.cast_signed()));
        let words = _mm_cmpeq_epi16(above, _mm_setzero_si128());
        _mm_movemask_epi8(_mm_packs_epi16(words, _mm_setzero_si128())).cast_unsigned()
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    up_to_portable(codes, limit)
}

/// As `up_to`.
#[cfg(any(test, not(all(target_arch = "x86_64", not(miri)))))]
fn up_to_portable(codes: &[Cell<u16>; 8], limit: u16) -> u32 {
    codes.iter().enumerate().map(|(at, code)| u32::from(code.get() <= limit) << at).sum()
}

/// The lowest code above `limit`; `NONE` when there is none.
pub(crate) fn lowest_above(codes: &[Cell<u16>], limit: u16) -> u16 {
    // Without branches, so that it becomes vector code.
    codes.iter().map(Cell::get).fold(NONE, |lowest, code| lowest.min(if code > limit { code } else { NONE }))
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
            // What is due together with the first, or soon after, does not make the base move.
            prop_assert!(!is_worn(base_for(deadline), deadline + wait % LEAD_MS));
        }

        #[test]
        fn the_vector_search_agrees_with_the_portable_one(
            codes in prop::array::uniform8(prop_oneof![Just(0u16), Just(NONE), Just(LATER), 0u16..9, any::<u16>()]),
            limit in prop_oneof![0u16..9, any::<u16>(), Just(LATER), Just(NONE)],
        ) {
            let cells = codes.map(Cell::new);
            prop_assert_eq!(up_to(&cells, limit), up_to_portable(&cells, limit));
            let above = codes.into_iter().filter(|code| *code > limit).min();
            prop_assert_eq!(lowest_above(&cells, limit), above.unwrap_or(NONE));
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
