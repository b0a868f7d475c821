//! Loops compiled twice: for every processor, and for one with 256-bit vectors and a bit count.
//!
//! A plain loop over slices becomes vector code by itself; which instructions the compiler may use is
//! decided when a function is compiled, so the choice is made here, once for each call.

/// Runs `work` with the widest instructions this processor has.
///
/// What `work` calls is compiled for them only where it is inlined into it: mark it `#[inline(always)]`.
/// The choice takes about a nanosecond.
#[inline]
pub(crate) fn widest<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}
