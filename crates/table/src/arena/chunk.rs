//! A chunk: 1 MiB of address space, cut into 64 spans of 16 KiB, with their records at its start.
//!
//! Invariant: a span is either free (its bit set in `free`) or serves one class, and then
//! `live` objects of it are out, the others are on its free list or beyond `bump`.
//! The first span is shorter by the records. An object's span is found by masking its address.
//! Two chunks make a block of the pool. Both are one arena's, and either may be closed.

use super::class::{Class, SPAN_BYTES};
use super::pool::POOL;
use super::sys::{self, BLOCK_BYTES, CHUNK_BYTES};
use std::ptr::{NonNull, null_mut};

/// Spans in a chunk.
pub(crate) const SPANS: usize = CHUNK_BYTES / SPAN_BYTES;
/// Bytes at the start of a chunk that hold its records.
pub(crate) const RECORDS_BYTES: usize = 2048;
const NO_OBJECT: u16 = u16::MAX;
/// How much further the spans of the next chunk begin: odd, so that 64 neighbours all differ.
const FIRST_SPAN_STEP: usize = 11;

const _: () = assert!(SPANS == 64 && size_of::<Chunk>() <= RECORDS_BYTES);

/// The records at the start of a chunk.
#[repr(C)]
pub(crate) struct Chunk {
    /// The arena's list of all its chunks.
    pub(crate) all: Links<Chunk>,
    /// The arena's list of chunks that have a free span.
    pub(crate) roomy: Links<Chunk>,
    /// The arena's list of chunks whose twin is closed or, of a block's lower chunk, that of blocks listed as dense.
    pub(crate) block: Links<Chunk>,
    /// Bit i is set while span i is free.
    free: u64,
    /// Bit i is set when span i served objects since its pages were last given back.
    touched: u64,
    /// Whether the other chunk of the block is open too.
    pub(crate) paired: bool,
    /// In the lower chunk of a pair only.
    pub(crate) huge: Huge,
    spans: [Span; SPANS],
}

/// How far a block has come to be a huge page.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Huge {
    /// It was never full, or gave memory back since it was tried.
    No = 0,
    /// It was full, and is listed to be tried.
    Listed,
    /// The kernel was asked, or will be at once. Whatever it said, it is not asked again.
    Tried,
}

/// The record of one span.
#[repr(C)]
pub(crate) struct Span {
    /// The arena's list of spans of this class that have room.
    pub(crate) links: Links<Span>,
    /// First object of the free list, in units of 8 bytes from the span's start. The list runs through the objects.
    free: u16,
    /// Where memory never handed out begins, in the same unit.
    bump: u16,
    live: u16,
    class: u8,
}

/// Links of an intrusive doubly linked list; null at both ends.
#[repr(C)]
pub(crate) struct Links<T> {
    pub(crate) next: *mut T,
    pub(crate) previous: *mut T,
}

/// Puts `node` at the head of a list whose links `links` finds.
///
/// # Safety
/// `node` is live and on no list through these links; every node on the list is live.
pub(crate) unsafe fn link<T>(head: &mut *mut T, node: *mut T, links: impl Fn(*mut T) -> *mut Links<T>) {
    // SAFETY: by the caller's promise all pointers here are live, and only the arena's lock holder touches them.
    unsafe {
        (*links(node)).next = *head;
        (*links(node)).previous = null_mut();
        if !head.is_null() {
            (*links(*head)).previous = node;
        }
    }
    *head = node;
}

/// Takes `node` off the list it is on.
///
/// # Safety
/// `node` is on the list of `head`; every node on the list is live.
pub(crate) unsafe fn unlink<T>(head: &mut *mut T, node: *mut T, links: impl Fn(*mut T) -> *mut Links<T>) {
    // SAFETY: by the caller's promise all pointers here are live.
    unsafe {
        let (next, previous) = ((*links(node)).next, (*links(node)).previous);
        if previous.is_null() {
            *head = next;
        } else {
            (*links(previous)).next = next;
        }
        if !next.is_null() {
            (*links(next)).previous = previous;
        }
    }
}

impl Chunk {
    /// Makes a chunk of memory, with all spans free.
    ///
    /// # Safety
    /// `memory` is half a block, and nobody else uses it.
    pub(crate) unsafe fn open(memory: NonNull<u8>) -> *mut Self {
        assert!(super::is_addressable(&memory), "the system maps memory beyond 48 bits");
        let _ = memory.as_ptr().expose_provenance();
        let chunk: *mut Self = memory.as_ptr().cast();
        // SAFETY: the records fit; all zero is valid for every field.
        unsafe {
            chunk.write_bytes(0, 1);
            (*chunk).free = u64::MAX;
        }
        chunk
    }

    /// Gives the memory of a chunk back. It stays zero pages of the block as long as the twin is open.
    ///
    /// # Safety
    /// `chunk` is live, and nobody uses what it holds or will use the chunk.
    pub(crate) unsafe fn close(chunk: *mut Self) {
        // SAFETY: the caller's promise; the twin is live when paired, and without one the block is the caller's.
        unsafe {
            if (*chunk).paired {
                (*Self::twin(chunk)).paired = false;
                sys::discard(NonNull::new_unchecked(chunk).cast(), CHUNK_BYTES);
            } else {
                POOL.put(Self::block_of(chunk));
            }
        }
    }

    /// The other half of the block, open or not.
    pub(crate) fn twin(chunk: *mut Self) -> *mut Self {
        chunk.map_addr(|address| address ^ CHUNK_BYTES)
    }

    /// The lower chunk of the block.
    pub(crate) fn lower(chunk: *mut Self) -> *mut Self {
        chunk.map_addr(|address| address & !(BLOCK_BYTES - 1))
    }

    /// The block a chunk is half of.
    ///
    /// # Safety
    /// `chunk` is live.
    pub(crate) unsafe fn block_of(chunk: *mut Self) -> NonNull<u8> {
        // SAFETY: blocks are mapped, and so not at zero.
        unsafe { NonNull::new_unchecked(Self::lower(chunk)).cast() }
    }

    /// # Safety
    /// `object` was handed out by a span of a chunk that is still mapped.
    #[inline]
    pub(crate) unsafe fn of(object: NonNull<u8>) -> *mut Self {
        object.as_ptr().map_addr(|address| address & !(CHUNK_BYTES - 1)).cast()
    }

    /// Whether no span serves anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.free == u64::MAX
    }

    /// Whether no span is free.
    pub(crate) fn is_full(&self) -> bool {
        self.free == 0
    }

    /// Gives a free span to a class. The chunk is not full.
    ///
    /// # Safety
    /// `chunk` is live and held under its arena's lock.
    pub(crate) unsafe fn take_span(chunk: *mut Self, class: Class) -> *mut Span {
        // SAFETY: the caller's promise; `index` < 64 because a bit is set.
        unsafe {
            debug_assert!(!(*chunk).is_full());
            // Spans whose pages are resident first: what was never touched stays untouched.
            let resident = (*chunk).free & (*chunk).touched;
            let choice = if resident != 0 { resident } else { (*chunk).free };
            // Chunks begin at different spans, lest the busy spans and records of all arenas share their cache sets.
            let first = (chunk.addr() / CHUNK_BYTES * FIRST_SPAN_STEP % SPANS) as u32;
            let index = (choice.rotate_right(first).trailing_zeros() + first) as usize % SPANS;
            (*chunk).free &= !(1 << index);
            (*chunk).touched |= 1 << index;
            let span = &raw mut (*chunk).spans[index];
            (*span).free = NO_OBJECT;
            (*span).bump = 0;
            (*span).live = 0;
            (*span).class = class.index() as u8;
            span
        }
    }

    /// Takes back a span without live objects.
    ///
    /// # Safety
    /// As `take_span`; `span` is one of this chunk's and on no list.
    pub(crate) unsafe fn return_span(chunk: *mut Self, span: *mut Span) {
        // SAFETY: the caller's promise.
        unsafe {
            debug_assert_eq!((*span).live, 0);
            (*chunk).free |= 1 << Span::index(span);
        }
    }

    /// The record of the span that holds `object`.
    ///
    /// # Safety
    /// As `of`.
    #[inline]
    pub(crate) unsafe fn span_of(object: NonNull<u8>) -> *mut Span {
        let index = object.addr().get() / SPAN_BYTES % SPANS;
        // SAFETY: the chunk is live and `index` is in bounds.
        unsafe { &raw mut (*Self::of(object)).spans[index] }
    }

    /// Where the record of an object's span is, if the object lies in a chunk. Not dereferenced here, so any will do.
    #[inline]
    pub(crate) fn record_place(object: NonNull<u8>) -> *const Span {
        let index = object.addr().get() / SPAN_BYTES % SPANS;
        let place = std::mem::offset_of!(Chunk, spans) + index * size_of::<Span>();
        object.as_ptr().map_addr(|address| (address & !(CHUNK_BYTES - 1)) + place).cast_const().cast()
    }

    /// Gives the pages of free spans back to the system; returns how many bytes.
    ///
    /// # Safety
    /// As `take_span`.
    pub(crate) unsafe fn discard_free(chunk: *mut Self) -> usize {
        let mut bytes = 0;
        // SAFETY: free spans hold nothing; the addresses lie inside the chunk.
        unsafe {
            let mut stale = (*chunk).free & (*chunk).touched;
            (*chunk).touched &= !stale;
            while stale != 0 {
                let index = stale.trailing_zeros() as usize;
                stale &= stale - 1;
                let start = NonNull::new_unchecked(chunk.cast::<u8>().add(start_of(index)));
                bytes += sys::discard(start, bytes_of(index));
            }
        }
        bytes
    }

    /// Bytes in spans that serve a class.
    pub(crate) fn bytes_serving(&self) -> usize {
        (0..SPANS).filter(|index| self.free & (1 << index) == 0).map(bytes_of).sum()
    }

    /// Bytes of serving spans that were ever handed out: those are resident.
    pub(crate) fn bytes_used(&self) -> usize {
        let serving = (0..SPANS).filter(|index| self.free & (1 << index) == 0);
        serving.map(|index| usize::from(self.spans[index].bump) * 8).sum()
    }

    /// Checks every serving span's records; returns the bytes in live objects.
    pub(crate) fn check(&self) -> usize {
        let mut bytes = 0;
        for index in (0..SPANS).filter(|index| self.free & (1 << index) == 0) {
            let span = &self.spans[index];
            let base = (&raw const *self).cast::<u8>();
            let mut listed = 0;
            let mut at = span.free;
            while at != NO_OBJECT {
                assert!(at < span.bump && usize::from(at) * 8 % span.class().bytes() == 0);
                listed += 1;
                assert!(listed <= span.bump, "the free list is a cycle");
                // SAFETY: `at` is an object of this span by the assertion above.
                at = unsafe { base.add(start_of(index) + usize::from(at) * 8).cast::<u16>().read() };
            }
            let out = usize::from(span.bump) * 8 / span.class().bytes();
            assert_eq!(out, usize::from(span.live) + usize::from(listed));
            assert!(span.live > 0, "an empty span was kept");
            bytes += usize::from(span.live) * span.class().bytes();
        }
        bytes
    }
}

/// Offset of a span in its chunk, bytes.
const fn start_of(index: usize) -> usize {
    if index == 0 { RECORDS_BYTES } else { index * SPAN_BYTES }
}

/// Bytes of a span.
const fn bytes_of(index: usize) -> usize {
    if index == 0 { SPAN_BYTES - RECORDS_BYTES } else { SPAN_BYTES }
}

impl Span {
    fn index(span: *mut Self) -> usize {
        (span.addr() % CHUNK_BYTES - std::mem::offset_of!(Chunk, spans)) / size_of::<Self>()
    }

    /// The class the span serves.
    #[inline]
    pub(crate) fn class(&self) -> Class {
        Class::at(self.class)
    }

    /// Bytes of the span that are there to serve objects.
    pub(crate) fn bytes(span: *mut Self) -> usize {
        bytes_of(Self::index(span))
    }

    /// Whether no object is out.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Whether every object is out.
    ///
    /// # Safety
    /// `span` is live and serves a class, under its arena's lock.
    #[inline]
    pub(crate) unsafe fn is_full(span: *mut Self) -> bool {
        // SAFETY: the caller's promise.
        unsafe {
            let end = usize::from((*span).bump) * 8 + (*span).class().bytes();
            (*span).free == NO_OBJECT && end > Self::bytes(span)
        }
    }

    /// Hands out an object.
    ///
    /// # Safety
    /// As `is_full`, and the span is not full.
    #[inline]
    pub(crate) unsafe fn take(span: *mut Self) -> NonNull<u8> {
        // SAFETY: the span is not full: either the free list has an object, or one fits between `bump` and the end.
        // Offsets stay within the chunk the record lies in.
        unsafe {
            let chunk: *mut u8 = span.map_addr(|address| address & !(CHUNK_BYTES - 1)).cast();
            let start = chunk.add(start_of(Self::index(span)));
            (*span).live += 1;
            let at = (*span).free;
            let object = if at != NO_OBJECT {
                let object = start.add(usize::from(at) * 8);
                (*span).free = object.cast::<u16>().read();
                object
            } else {
                let object = start.add(usize::from((*span).bump) * 8);
                (*span).bump += ((*span).class().bytes() / 8) as u16;
                object
            };
            NonNull::new_unchecked(object)
        }
    }

    /// Takes an object back.
    ///
    /// # Safety
    /// As `is_full`; `object` is a live object of this span, used by nobody any more.
    #[inline]
    pub(crate) unsafe fn put(span: *mut Self, object: NonNull<u8>) {
        // SAFETY: the object is at least 16 bytes, ours again, and lies in the span whose start is computed here.
        unsafe {
            debug_assert!((*span).live > 0);
            let start = start_of(Self::index(span));
            let at = (object.addr().get() % CHUNK_BYTES - start) / 8;
            object.cast::<u16>().write((*span).free);
            (*span).free = at as u16;
            (*span).live -= 1;
        }
    }
}
