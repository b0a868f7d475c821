//! Memory straight from the operating system: whole mappings, aligned blocks, huge pages, and giving pages back.
//!
//! Invariant: what `map` returns is zeroed, private, and costs no resident page until it is touched.
//! This is the only file of the crate that speaks to the kernel; under Miri it uses the global allocator.

#[cfg(miri)]
pub(crate) use global::{discard, make_huge, map, map_region, unmap, unmap_region};
#[cfg(not(miri))]
pub(crate) use kernel::{discard, make_huge, map, map_region, unmap, unmap_region};

use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::NonNull;

/// Size and alignment of a block: a huge page on x86-64, and on AArch64 with pages of 4 KiB.
pub(crate) const BLOCK_BYTES: usize = 2 << 20;
/// Size of a region, bytes. A region is aligned to a block.
pub(crate) const REGION_BYTES: usize = if cfg!(miri) { 2 } else { 16 } * BLOCK_BYTES;
/// Granularity of mappings, bytes: a multiple of every page size met in practice up to 16 KiB.
pub(crate) const PAGE_BYTES: usize = 4096;

#[cfg(not(miri))]
mod kernel {
    use super::{BLOCK_BYTES, PAGE_BYTES, REGION_BYTES};
    use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
    use std::alloc::{Layout, handle_alloc_error};
    use std::ffi::{c_int, c_void};
    use std::ptr::{NonNull, null_mut};

    mod c {
        use super::{c_int, c_void};

        unsafe extern "C" {
            /// The C library's, which the standard library links. Rustix does not have it.
            pub(super) fn mincore(address: *mut c_void, bytes: usize, resident: *mut u8) -> c_int;
        }
    }

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

    /// Unmaps what `map` returned.
    ///
    /// # Safety
    /// `address` and `bytes` are those of one live mapping, and nobody uses it any more.
    pub(crate) unsafe fn unmap(address: NonNull<u8>, bytes: usize) {
        // SAFETY: the caller owns the mapping. A refusal (too many mappings) leaks it, which is sound.
        let _ = unsafe { munmap(address.as_ptr().cast(), bytes) };
    }

    /// Maps one region of zeroed memory, aligned to a block, that becomes huge pages only by `make_huge`: not when a worker
    /// touches it, nor behind everybody's back, for then workers would wait while pages are zeroed or copied.
    pub(crate) fn map_region() -> NonNull<u8> {
        let region = map_aligned();
        // SAFETY: the region was mapped just now. A kernel without huge pages refuses, which is as good.
        let _ = unsafe { madvise(region.as_ptr().cast(), REGION_BYTES, Advice::LinuxNoHugepage) };
        region
    }

    fn map_aligned() -> NonNull<u8> {
        // Kernels since 6.7 align large mappings to huge pages by themselves.
        let first = map(REGION_BYTES);
        if first.addr().get().is_multiple_of(BLOCK_BYTES) {
            return first;
        }
        // SAFETY: mapped above, used by nobody.
        unsafe { unmap(first, REGION_BYTES) };
        let wide = map(REGION_BYTES + BLOCK_BYTES);
        let before = wide.addr().get().wrapping_neg() % BLOCK_BYTES;
        // SAFETY: `before` < BLOCK_BYTES, so the region and both trimmings lie inside what is mapped above, are multiples
        // of the page size, and are used by nobody.
        unsafe {
            let region = wide.add(before);
            if before > 0 {
                unmap(wide, before);
            }
            unmap(region.add(REGION_BYTES), BLOCK_BYTES - before);
            region
        }
    }

    /// Unmaps a region.
    ///
    /// # Safety
    /// `map_region` returned it, and nobody uses it any more.
    pub(crate) unsafe fn unmap_region(region: NonNull<u8>) {
        // SAFETY: the caller's promise.
        unsafe { unmap(region, REGION_BYTES) }
    }

    /// Makes a block that nobody uses and nobody touched one huge page, zeroed; whether the kernel did, else it is as
    /// before. May take milliseconds. Others wait only if they map memory just when the advice is given.
    ///
    /// # Safety
    /// The block lies in a region, holds nothing, and is the caller's alone.
    pub(crate) unsafe fn make_huge(block: NonNull<u8>) -> bool {
        let address: *mut c_void = block.as_ptr().cast();
        let mut resident = 0;
        // SAFETY: the caller's promise: the block is mapped, and what is in it is not needed. `mincore` writes one byte, for
        // the one page that it is asked about.
        unsafe {
            if madvise(address, BLOCK_BYTES, Advice::LinuxHugepage).is_err() {
                return false;
            }
            block.write_volatile(0);
            // What was advised for the block alone is taken back, so that the region is one mapping again.
            let _ = madvise(address, BLOCK_BYTES, Advice::LinuxNoHugepage);
            // Whether one touch made all of it resident.
            let last = address.byte_add(BLOCK_BYTES - PAGE_BYTES);
            let huge = c::mincore(last, 1, &raw mut resident) == 0 && resident & 1 == 1;
            if !huge {
                discard(block, BLOCK_BYTES);
            }
            huge
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
    use super::{BLOCK_BYTES, PAGE_BYTES, REGION_BYTES};
    use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
    use std::ptr::NonNull;

    fn layout(bytes: usize, align: usize) -> Layout {
        Layout::from_size_align(bytes, align).expect("mappings are far below isize::MAX")
    }

    fn map_aligned(bytes: usize, align: usize) -> NonNull<u8> {
        // SAFETY: `bytes` is never zero.
        NonNull::new(unsafe { alloc_zeroed(layout(bytes, align)) })
            .unwrap_or_else(|| handle_alloc_error(layout(bytes, align)))
    }

    pub(crate) fn map(bytes: usize) -> NonNull<u8> {
        map_aligned(bytes, PAGE_BYTES)
    }

    pub(crate) unsafe fn unmap(address: NonNull<u8>, bytes: usize) {
        // SAFETY: `map` allocated it with the same layout.
        unsafe { dealloc(address.as_ptr(), layout(bytes, PAGE_BYTES)) }
    }

    pub(crate) fn map_region() -> NonNull<u8> {
        map_aligned(REGION_BYTES, BLOCK_BYTES)
    }

    pub(crate) unsafe fn unmap_region(region: NonNull<u8>) {
        // SAFETY: `map_region` allocated it with the same layout.
        unsafe { dealloc(region.as_ptr(), layout(REGION_BYTES, BLOCK_BYTES)) }
    }

    pub(crate) unsafe fn discard(_address: NonNull<u8>, _bytes: usize) -> usize {
        0
    }

    pub(crate) unsafe fn make_huge(_block: NonNull<u8>) -> bool {
        false
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
    fn regions_are_aligned_zeroed_and_discardable() {
        let regions: Vec<_> = (0..3).map(|_| map_region()).collect();
        for region in &regions {
            assert_eq!(region.addr().get() % BLOCK_BYTES, 0);
            // SAFETY: the region is ours and mapped.
            unsafe {
                assert_eq!(region.add(REGION_BYTES - 1).read(), 0);
                region.add(5 * PAGE_BYTES).write(7);
                let gone = discard(region.add(1), 7 * PAGE_BYTES);
                if cfg!(not(miri)) {
                    assert_eq!(gone, 6 * PAGE_BYTES);
                    assert_eq!(region.add(5 * PAGE_BYTES).read(), 0);
                }
            }
        }
        for region in regions {
            // SAFETY: mapped above and not used any more.
            unsafe { unmap_region(region) };
        }
    }

    #[test]
    fn a_huge_block_is_zeroed_and_can_be_given_back_in_parts() {
        let region = map_region();
        // SAFETY: the region is ours and mapped.
        unsafe {
            let block = region.add(BLOCK_BYTES);
            if !make_huge(block) {
                eprintln!("the kernel makes no huge pages; only refusing is tested");
            }
            let words = || (0..BLOCK_BYTES).step_by(8);
            assert!(words().all(|at| block.add(at).cast::<usize>().read() == 0));
            words().for_each(|at| block.add(at).cast::<usize>().write(at));
            if cfg!(not(miri)) {
                assert_eq!(discard(block, BLOCK_BYTES / 2), BLOCK_BYTES / 2);
                assert_eq!(block.add(8).cast::<usize>().read(), 0);
            }
            let rest = || words().skip(BLOCK_BYTES / 16);
            assert!(rest().all(|at| block.add(at).cast::<usize>().read() == at));
            unmap_region(region);
        }
    }
}
