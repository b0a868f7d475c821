//! Loops compiled more than once: for every processor, for one with 256-bit vectors, and for one that counts the
//! bits of a 512-bit vector.
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

/// Runs `work` with instructions that count the ones of eight words at a time, where this processor has them;
/// else as [`widest`] does.
#[inline]
pub(crate) fn counting<R>(work: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    if let Some(processor) = VectorCount::try_new() {
        return processor.vectorize(work);
    }
    widest(work)
}

#[cfg(target_arch = "x86_64")]
pulp::simd_type! {
    struct VectorCount {
        popcnt: "popcnt",
        avx512f: "avx512f",
        avx512bw: "avx512bw",
        avx512vl: "avx512vl",
        avx512vpopcntdq: "avx512vpopcntdq",
    }
}
