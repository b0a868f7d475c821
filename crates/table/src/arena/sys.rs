//! Memory straight from the operating system: whole mappings, aligned chunks, and giving pages back.
//!
//! Invariant: what `map` returns is zeroed, private, and costs no resident page until it is touched.
//! This is the only file of the crate that speaks to the kernel; under Miri it uses the global allocator.

#[cfg(miri)]
pub(crate) use global::{discard, map, map_chunk, unmap};
#[cfg(not(miri))]
pub(crate) use kernel::{discard, map, map_chunk, unmap};

use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::NonNull;

/// Size and alignment of a chunk, bytes.
pub(crate) const CHUNK_BYTES: usize = 1 << 20;
/// Granularity of mappings, bytes: a multiple of every page size met in practice up to 16 KiB.
pub(crate) const PAGE_BYTES: usize = 4096;

#[cfg(not(miri))]
mod kernel {
    use super::{CHUNK_BYTES, PAGE_BYTES};
    use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
    use std::alloc::{Layout, handle_alloc_error};
    use std::ptr::{NonNull, null_mut};

    fn try_map(bytes: usize) -> Option<NonNull<u8>> {
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice aliases nothing.
        let mapped = unsafe {
            mmap_anonymous(
                null_mut(),
                bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        };
        mapped.ok().and_then(|address| NonNull::new(address.cast()))
    }

    fn out_of_memory(bytes: usize) -> ! {
        match Layout::from_size_align(bytes, PAGE_BYTES) {
            Ok(layout) => handle_alloc_error(layout),
            Err(_) => handle_alloc_error(Layout::new::<u8>()),
        }
    }

    /// Maps `bytes` of zeroed memory, page aligned. Ends the process when the kernel refuses, as any allocation does.
    pub(crate) fn map(bytes: usize) -> NonNull<u8> {
        try_map(bytes).unwrap_or_else(|| out_of_memory(bytes))
    }

    /// Unmaps what `map` or `map_chunk` returned.
    ///
    /// # Safety
    /// `address` and `bytes` are those of one live mapping, and nobody uses it any more.
    pub(crate) unsafe fn unmap(address: NonNull<u8>, bytes: usize) {
        // SAFETY: the caller owns the mapping. A refusal (too many mappings) leaks it, which is sound.
        let _ = unsafe { munmap(address.as_ptr().cast(), bytes) };
    }

    /// Maps one chunk of zeroed memory, aligned to its own size.
    pub(crate) fn map_chunk() -> NonNull<u8> {
        let first = map(CHUNK_BYTES);
        if first.addr().get().is_multiple_of(CHUNK_BYTES) {
            return first;
        }
        // SAFETY: mapped above, used by nobody.
        unsafe { unmap(first, CHUNK_BYTES) };
        let wide = map(2 * CHUNK_BYTES);
        let before = wide.addr().get().wrapping_neg() % CHUNK_BYTES;
        // SAFETY: `before` < CHUNK_BYTES, so the chunk and both trimmings lie inside the 2 * CHUNK_BYTES mapped above,
        // are multiples of the page size, and are used by nobody.
        unsafe {
            let chunk = wide.add(before);
            if before > 0 {
                unmap(wide, before);
            }
            unmap(chunk.add(CHUNK_BYTES), CHUNK_BYTES - before);
            chunk
        }
    }

    /// Gives the pages wholly inside the range back to the system; they read as zero when touched again.
    /// Returns the bytes given back.
    ///
    /// # Safety
    /// The range lies in a live mapping and holds nothing anybody needs.
    pub(crate) unsafe fn discard(address: NonNull<u8>, bytes: usize) -> usize {
        let skip = address.addr().get().wrapping_neg() % PAGE_BYTES;
        if bytes < skip + PAGE_BYTES {
            return 0;
        }
        let whole = (bytes - skip) / PAGE_BYTES * PAGE_BYTES;
        // SAFETY: `skip + whole <= bytes`, inside the caller's range, whose contents are not needed.
        let done = unsafe { madvise(address.add(skip).as_ptr().cast(), whole, Advice::LinuxDontNeed) };
        if done.is_ok() { whole } else { 0 }
    }
}

#[cfg(miri)]
mod global {
    use super::{CHUNK_BYTES, PAGE_BYTES};
    use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
    use std::ptr::NonNull;

    fn layout(bytes: usize) -> Layout {
        let align = if bytes == CHUNK_BYTES { CHUNK_BYTES } else { PAGE_BYTES };
        Layout::from_size_align(bytes, align).expect("mappings are far below isize::MAX")
    }

    pub(crate) fn map(bytes: usize) -> NonNull<u8> {
        // SAFETY: `bytes` is never zero.
        NonNull::new(unsafe { alloc_zeroed(layout(bytes)) })
            .unwrap_or_else(|| handle_alloc_error(layout(bytes)))
    }

    pub(crate) unsafe fn unmap(address: NonNull<u8>, bytes: usize) {
        // SAFETY: `map` allocated it with the same layout.
        unsafe { dealloc(address.as_ptr(), layout(bytes)) }
    }

    pub(crate) fn map_chunk() -> NonNull<u8> {
        map(CHUNK_BYTES)
    }

    pub(crate) unsafe fn discard(_address: NonNull<u8>, _bytes: usize) -> usize {
        0
    }
}

/// Types for which all bytes zero is a valid value that needs no drop.
///
/// # Safety
/// The implementor promises just that.
pub(crate) unsafe trait Zeroed {}

/// A slice in a mapping of its own: zeroed, shared by reference, unmapped on drop. Untouched pages cost nothing.
pub(crate) struct Mapped<T: Zeroed> {
    start: NonNull<T>,
    len: usize,
    owns: PhantomData<T>,
}

// SAFETY: `Mapped` owns its elements and hands out shared references only, like a boxed slice.
unsafe impl<T: Zeroed + Send> Send for Mapped<T> {}
// SAFETY: as above.
unsafe impl<T: Zeroed + Sync> Sync for Mapped<T> {}

impl<T: Zeroed> Mapped<T> {
    /// Maps `len` zeroed elements.
    pub(crate) fn new(len: usize) -> Self {
        const { assert!(align_of::<T>() <= PAGE_BYTES) };
        Self { start: map(Self::bytes_for(len)).cast(), len, owns: PhantomData }
    }

    fn bytes_for(len: usize) -> usize {
        (len * size_of::<T>()).next_multiple_of(PAGE_BYTES).max(PAGE_BYTES)
    }

    /// Bytes of address space the slice takes.
    pub(crate) fn bytes(&self) -> usize {
        Self::bytes_for(self.len)
    }
}

impl<T: Zeroed> Deref for Mapped<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: `start` heads `len` elements that are valid as mapped (`Zeroed`) and live as long as self.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T: Zeroed> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this size; `&mut self` proves that no reference is left.
        unsafe { unmap(self.start.cast(), Self::bytes_for(self.len)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_aligned_zeroed_and_discardable() {
        let chunks: Vec<_> = (0..5).map(|_| map_chunk()).collect();
        for chunk in &chunks {
            assert_eq!(chunk.addr().get() % CHUNK_BYTES, 0);
            // SAFETY: the chunk is ours and mapped.
            unsafe {
                assert_eq!(chunk.add(CHUNK_BYTES - 1).read(), 0);
                chunk.add(5 * PAGE_BYTES).write(7);
                let gone = discard(chunk.add(1), 7 * PAGE_BYTES);
                if cfg!(not(miri)) {
                    assert_eq!(gone, 6 * PAGE_BYTES);
                    assert_eq!(chunk.add(5 * PAGE_BYTES).read(), 0);
                }
            }
        }
        for chunk in chunks {
            // SAFETY: mapped above and not used any more.
            unsafe { unmap(chunk, CHUNK_BYTES) };
        }
    }
}
