//! The process' allocator: mimalloc, with every byte counted, and blocks of middling size from the table's crate,
//! which knows how to keep them together and how to give back the pages between them.
//!
//! INFO's `used_memory` and `maxmemory` need a figure that is true at any moment and cheap to ask
//! for. Each thread counts in one of a few padded slots; the sum over the slots is what the
//! allocator holds for us, in usable bytes. Entries of the keyspace come from the tables' own arenas,
//! which map memory themselves and count themselves.
#![expect(unsafe_code, reason = "an allocator is unsafe by its nature")]

use crossbeam_utils::CachePadded;
use larder_store::blocks;
use mimalloc::MiMalloc;
use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicUsize, Ordering::Relaxed};

/// mimalloc with counted bytes.
pub struct Counted;

/// Slots threads count in. More threads than slots share; sharing is correct, only slower.
const SLOTS: usize = 32;

static COUNTS: [CachePadded<AtomicIsize>; SLOTS] = [const { CachePadded::new(AtomicIsize::new(0)) }; SLOTS];
static NEXT_SLOT: AtomicUsize = AtomicUsize::new(0);

/// mimalloc's option `allow_thp`, which its bindings do not name.
const OPTION_ALLOW_THP: libmimalloc_sys::mi_option_t = 43;

/// Whether mimalloc has been told what it must know before it maps anything.
static PREPARED: AtomicBool = AtomicBool::new(false);

/// Keeps mimalloc from asking for huge pages: an idle server would pay ten megabytes for them. The
/// tables ask for their own, where they are full.
#[cold]
fn prepare() {
    // SAFETY: options are plain numbers, set here before the first block is asked for; a second
    // thread that comes at the same time sets the same value.
    unsafe { libmimalloc_sys::mi_option_set(OPTION_ALLOW_THP, 0) }
    PREPARED.store(true, Relaxed);
}

thread_local! {
    // Const-initialised and without a destructor: usable from inside the allocator at any time.
    static SLOT: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// The calling thread's slot.
#[inline]
fn slot() -> usize {
    SLOT.with(|slot| {
        if slot.get() == usize::MAX {
            slot.set(NEXT_SLOT.fetch_add(1, Relaxed) % SLOTS);
        }
        slot.get()
    })
}

#[inline]
fn count(bytes: isize) {
    COUNTS[slot()].fetch_add(bytes, Relaxed);
}

/// What mimalloc aligns every block to that is as long.
const NATURAL_ALIGN: usize = 16;

/// Whether a block of `bytes` is aligned as it should be without being asked for it: to ask takes mimalloc a longer way, and for
/// odd sizes a larger block.
#[inline]
fn is_natural(bytes: usize, align: usize) -> bool {
    align <= NATURAL_ALIGN && bytes >= align
}

/// # Safety
/// As `GlobalAlloc::alloc`.
#[inline]
unsafe fn allocate(layout: Layout) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe {
        if is_natural(layout.size(), layout.align()) {
            let block = libmimalloc_sys::mi_malloc(layout.size()).cast::<u8>();
            debug_assert_eq!(block.align_offset(layout.align()), 0);
            return block;
        }
        MiMalloc.alloc(layout)
    }
}

/// # Safety
/// As `GlobalAlloc::realloc`.
#[inline]
unsafe fn reallocate(block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe {
        if is_natural(new_size, layout.align()) {
            let moved = libmimalloc_sys::mi_realloc(block.cast(), new_size).cast::<u8>();
            debug_assert_eq!(moved.align_offset(layout.align()), 0);
            return moved;
        }
        MiMalloc.realloc(block, layout, new_size)
    }
}

/// Whether a block of `bytes` should move, for it lies where little else does; see [`blocks::is_sparse`]. The block
/// that the calling thread allocates next for as many bytes lies better.
pub fn is_sparse(block: *const u8, bytes: usize) -> bool {
    blocks::is_sparse(slot(), block, bytes)
}

/// Whether blocks of this layout are served by us.
#[inline]
fn is_block(layout: &Layout) -> bool {
    blocks::serves(layout.size(), layout.align())
}

/// Bytes the allocator holds for us now.
pub fn allocated_bytes() -> usize {
    let slots = NEXT_SLOT.load(Relaxed).min(SLOTS);
    let sum: isize = COUNTS.iter().take(slots).map(|count| count.load(Relaxed)).sum();
    // A free may be counted before its allocation by a concurrent sum.
    usize::try_from(sum).unwrap_or(0)
}

/// Bytes the calling thread has allocated and not freed, blocks of others that it freed subtracted:
/// meaningful only as a difference between two moments.
#[inline]
pub fn own_bytes() -> isize {
    COUNTS.get(SLOT.with(Cell::get)).map_or(0, |count| count.load(Relaxed))
}

/// Gives pages that hold nothing back to the system.
pub fn purge() {
    blocks::release(true);
    // SAFETY: mi_collect may be called at any time from any thread.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

/// The allocator's own statistics, as text for people.
pub fn statistics() -> Vec<u8> {
    extern "C" fn append(text: *const std::ffi::c_char, out: *mut c_void) {
        // SAFETY: mimalloc hands us a NUL-terminated text and the pointer we gave it below, which is
        // to a live Vec that nothing else uses during the call.
        unsafe {
            let out = &mut *out.cast::<Vec<u8>>();
            out.extend_from_slice(std::ffi::CStr::from_ptr(text).to_bytes());
        }
    }
    let mut out = Vec::new();
    // SAFETY: `append` matches the callback's signature and `out` outlives the call.
    unsafe { libmimalloc_sys::mi_stats_print_out(Some(append), std::ptr::from_mut(&mut out).cast()) }
    out
}

/// Usable bytes of a block that mimalloc gave out.
///
/// # Safety
/// `block` is null or a live block of mimalloc.
#[inline]
unsafe fn usable(block: *mut u8) -> isize {
    // SAFETY: the caller's promise; null answers zero.
    unsafe { libmimalloc_sys::mi_usable_size(block.cast::<c_void>()) as isize }
}

/// A block of our own.
#[inline]
fn take_block(bytes: usize) -> *mut u8 {
    count(blocks::usable(bytes) as isize);
    blocks::alloc(slot(), bytes).as_ptr()
}

// SAFETY: every call is handed on to mimalloc unchanged, or to our blocks if its layout is theirs: who frees names the
// layout with which a block was allocated. Counting touches no block.
unsafe impl GlobalAlloc for Counted {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_block(&layout) {
            return take_block(layout.size());
        }
        if !PREPARED.load(Relaxed) {
            prepare();
        }
        // SAFETY: the caller keeps GlobalAlloc's contract, and so do we; `block` is null or live.
        unsafe {
            let block = allocate(layout);
            count(usable(block));
            block
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_block(&layout) {
            count(blocks::usable(layout.size()) as isize);
            return blocks::alloc_zeroed(slot(), layout.size()).as_ptr();
        }
        if !PREPARED.load(Relaxed) {
            prepare();
        }
        // SAFETY: as for `alloc`.
        unsafe {
            let block = MiMalloc.alloc_zeroed(layout);
            count(usable(block));
            block
        }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if is_block(&layout) {
            count(-(blocks::usable(layout.size()) as isize));
            // SAFETY: allocated above with this layout; the caller is done with it.
            unsafe { blocks::free(NonNull::new_unchecked(block), layout.size()) };
            return;
        }
        // SAFETY: `block` is live until mimalloc gets it.
        unsafe {
            count(-usable(block));
            MiMalloc.dealloc(block, layout);
        }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let will_be_block = blocks::serves(new_size, layout.align());
        if is_block(&layout) || will_be_block {
            // SAFETY: the caller's promise.
            return unsafe { self.realloc_block(block, layout, new_size, will_be_block) };
        }
        // SAFETY: `block` is live before the call; after it, either `moved` is live or, when it is
        // null, `block` still is and its count stays.
        unsafe {
            let before = usable(block);
            let moved = reallocate(block, layout, new_size);
            if !moved.is_null() {
                count(usable(moved) - before);
            }
            moved
        }
    }
}

impl Counted {
    /// Changes the size of a block that is one of ours or becomes one.
    ///
    /// # Safety
    /// As `GlobalAlloc::realloc`.
    unsafe fn realloc_block(
        &self,
        block: *mut u8,
        layout: Layout,
        new_size: usize,
        will_be: bool,
    ) -> *mut u8 {
        if will_be && is_block(&layout) {
            // SAFETY: the block is a live one of ours, of the size that its layout says; so is the other by `will_be`.
            if unsafe { blocks::resize(NonNull::new_unchecked(block), layout.size(), new_size) } {
                count(blocks::usable(new_size) as isize - blocks::usable(layout.size()) as isize);
                return block;
            }
        }
        // SAFETY: the caller promises that the new size makes a layout; the old block is live and not the new one, and each is at
        // least as large as the smaller of the sizes.
        unsafe {
            let moved = self.alloc(Layout::from_size_align_unchecked(new_size, layout.align()));
            if !moved.is_null() {
                moved.copy_from_nonoverlapping(block, layout.size().min(new_size));
                self.dealloc(block, layout);
            }
            moved
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[global_allocator]
    static ALLOCATOR: Counted = Counted;

    #[test]
    fn allocations_are_counted_and_uncounted() {
        let before = allocated_bytes();
        let block = vec![1u8; 10_000_000];
        let during = allocated_bytes();
        drop(block);
        let after = allocated_bytes();
        // Other tests allocate meanwhile, far less than this.
        assert!(during >= before + 9_000_000, "{before} {during}");
        assert!(after + 9_000_000 <= during, "{during} {after}");
    }

    #[test]
    fn what_grows_and_shrinks_through_all_sizes_keeps_its_contents_and_is_uncounted() {
        let mut bytes: Vec<u8> = Vec::new();
        for round in 0..200_000u32 {
            bytes.push(round as u8);
        }
        while bytes.len() > 100 {
            bytes.truncate(bytes.len() * 9 / 10);
            bytes.shrink_to_fit();
            assert!(bytes.iter().enumerate().all(|(at, byte)| *byte == at as u8));
        }
        assert!(vec![0u8; 5000].iter().all(|byte| *byte == 0));
        let before = own_bytes();
        drop((vec![1u8; 1500], vec![1u64; 4000], bytes));
        // Two blocks of ours were counted in and out again; what else was freed is the vector.
        assert!((0..200).contains(&(before - own_bytes())), "{before} {}", own_bytes());
    }
}
