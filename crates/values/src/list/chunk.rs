//! Some elements of a large list behind each other, as they are or compressed.
//!
//! A compressed chunk keeps its number of elements and the length of what it was made of, so that rules of sizes need
//! not open it. Invariants: a chunk holds an element; what is compressed takes less memory than it did.

use crate::lzf;
use crate::packed::{self, LISTPACK_OVERHEAD_BYTES, Packed, PackedBuf};
use std::cell::RefCell;

/// A chunk of fewer bytes is never compressed.
const BYTES_MIN: usize = 48;
/// Compression must save this many bytes.
const SAVED_BYTES_MIN: usize = 8;
/// Before the compressed bytes stands the length of what they were.
const LENGTH_BYTES: usize = size_of::<u32>();

/// How the elements are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// As they are.
    Open,
    /// As they are, since compression saves nothing.
    Incompressible,
    /// Their length, and the elements compressed.
    Compressed,
}

/// A chunk.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    /// The elements; where they are compressed not to be looked at but through [`Chunk::look`].
    bytes: PackedBuf,
    /// How many there are, for walks that do not look at them.
    count: u32,
    form: Form,
    /// It holds one large element and takes no others: a plain node of Redis.
    pub(super) plain: bool,
}

thread_local! {
    /// Kept for its table of 256 KiB, which is made when a thread first compresses.
    static COMPRESSOR: RefCell<lzf::Compressor> = RefCell::new(lzf::Compressor::new());
}

impl Chunk {
    /// A chunk of these elements.
    pub(super) fn of(packed: PackedBuf) -> Chunk {
        let count = packed.len() as u32;
        Chunk { bytes: packed, count, form: Form::Open, plain: false }
    }

    /// A chunk of one element; `plain` if that is a large one.
    pub(super) fn single(text: &[u8], plain: bool) -> Chunk {
        let mut packed = PackedBuf::new();
        if plain {
            packed.reserve_exact(packed::encoded_bytes(text));
        }
        packed.push_back(text);
        Chunk { bytes: packed, count: 1, form: Form::Open, plain }
    }

    /// Moves its memory if that lies badly.
    pub(super) fn move_blocks(&mut self, mover: &mut crate::mover::Mover<'_>) {
        self.bytes.move_blocks(mover);
    }

    /// How many elements it has.
    #[inline]
    pub(super) fn count(&self) -> usize {
        self.count as usize
    }

    /// Memory held.
    #[inline]
    pub(super) fn heap_bytes(&self) -> usize {
        self.bytes.heap_bytes()
    }

    /// Whether nobody has tried to compress it as it is now.
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.form == Form::Open
    }

    /// Whether it is kept compressed.
    #[inline]
    pub(super) fn is_compressed(&self) -> bool {
        self.form == Form::Compressed
    }

    /// The elements for reading; a compressed chunk's are unpacked into `room` for it.
    #[inline]
    pub(super) fn look<'a>(&'a self, room: &'a mut Vec<u8>) -> Packed<'a> {
        if self.form == Form::Compressed { self.unpack(room) } else { self.bytes.view() }
    }

    #[cold]
    fn unpack<'a>(&self, room: &'a mut Vec<u8>) -> Packed<'a> {
        room.clear();
        let bytes = self.bytes.view().bytes();
        let whole = decompress(bytes, room);
        debug_assert!(whole, "what was compressed here does not come back");
        Packed::new(room)
    }

    /// Bytes of the listpack that Redis would have.
    #[inline]
    pub(super) fn listpack_bytes(&self) -> usize {
        if self.form == Form::Compressed {
            return packed::listpack_bytes_of(length_of(self.bytes.view().bytes()));
        }
        self.bytes.view().listpack_bytes()
    }

    /// The elements, taken out.
    pub(super) fn into_packed(mut self) -> PackedBuf {
        self.open();
        self.bytes
    }

    /// The elements to be changed. What is changed is worth another try of compression.
    #[inline]
    pub(super) fn edit<R>(&mut self, edit: impl FnOnce(&mut PackedBuf) -> R) -> R {
        self.open();
        self.form = Form::Open;
        let answer = edit(&mut self.bytes);
        self.count = self.bytes.len() as u32;
        answer
    }

    /// Unpacks a compressed chunk.
    #[inline]
    pub(super) fn open(&mut self) {
        if self.form == Form::Compressed {
            let mut room = Vec::new();
            self.unpack(&mut room);
            self.bytes = PackedBuf::from_vec(room);
            self.form = Form::Open;
        }
    }

    /// Compresses an open chunk if that saves something.
    pub(super) fn compress(&mut self) {
        if self.form != Form::Open {
            return;
        }
        self.form = Form::Incompressible;
        let bytes = self.bytes.view().bytes();
        let (Ok(len), Some(limit)) = (u32::try_from(bytes.len()), bytes.len().checked_sub(SAVED_BYTES_MIN))
        else {
            return;
        };
        if bytes.len() < BYTES_MIN {
            return;
        }
        let mut small = Vec::with_capacity(bytes.len());
        small.extend_from_slice(&len.to_le_bytes());
        let limit = limit - LENGTH_BYTES;
        let done = COMPRESSOR.with_borrow_mut(|compressor| compressor.compress(bytes, limit, &mut small));
        if done {
            small.shrink_to_fit();
            self.bytes = PackedBuf::from_vec(small);
            self.form = Form::Compressed;
        }
    }

    /// Panics where an invariant is broken.
    pub(super) fn check(&self) {
        let mut room = Vec::new();
        assert_eq!(packed::check(self.look(&mut room).bytes()), Ok(self.count()));
        assert!(self.count() > 0, "an empty chunk");
        assert!(!self.plain || self.count() == 1, "a plain chunk of several elements");
        if self.form == Form::Compressed {
            assert!(
                room.len() >= BYTES_MIN && self.heap_bytes() + SAVED_BYTES_MIN <= room.len(),
                "nothing saved"
            );
            assert_eq!(room.len() + LISTPACK_OVERHEAD_BYTES - packed::HEADER_BYTES, self.listpack_bytes());
        }
    }
}

/// How long the elements of a compressed chunk are.
fn length_of(bytes: &[u8]) -> usize {
    bytes.first_chunk().map_or(0, |length| u32::from_le_bytes(*length) as usize)
}

/// Appends the elements of a compressed chunk; false if they are none.
fn decompress(bytes: &[u8], out: &mut Vec<u8>) -> bool {
    let small = bytes.get(LENGTH_BYTES..).unwrap_or_default();
    out.reserve_exact(length_of(bytes));
    lzf::decompress(small, length_of(bytes), out).is_ok()
}

const _: () = assert!(size_of::<Chunk>() == 32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_repeats_is_compressed_and_comes_back() {
        let elements = |count: usize| (0..count).map(|number| format!("element number {number}")).collect();
        let mut chunk = Chunk::of(elements(100));
        let (open, listpack_bytes) = (chunk.heap_bytes(), chunk.listpack_bytes());
        chunk.compress();
        chunk.check();
        assert!(chunk.is_compressed() && chunk.heap_bytes() < open / 2);
        assert_eq!((chunk.count(), chunk.listpack_bytes()), (100, listpack_bytes));
        chunk.edit(|packed| packed.push_back(b"one more"));
        assert!(chunk.is_open());
        assert_eq!(chunk.into_packed().len(), 101);
    }

    #[test]
    fn what_is_short_or_random_stays_as_it_is() {
        let mut state = 1_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_le_bytes()[3]
        };
        let noise: Vec<u8> = (0..500).map(|_| random()).collect();
        for text in [&b"x".repeat(30), &noise] {
            let mut chunk = Chunk::single(text, false);
            chunk.compress();
            chunk.check();
            assert!(!chunk.is_compressed() && !chunk.is_open(), "{} bytes", text.len());
            chunk.open();
            assert!(!chunk.is_open(), "nothing has changed since it was tried");
        }
    }
}
