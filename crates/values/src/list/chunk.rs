//! Some elements of a large list behind each other, as they are or compressed.
//!
//! A compressed chunk keeps its number of elements and the length of what it was made of, so that rules of sizes need
//! not open it. An open one may have bytes in front that are free: what is put in front goes there, and what is taken from there
//! leaves them, so that neither moves what is behind. Invariants: a chunk holds an element; what is compressed takes less memory than it did.

use super::End;
use crate::lzf;
use crate::packed::{self, Element, HEADER_BYTES, LISTPACK_OVERHEAD_BYTES, Packed, PackedBuf};
use std::cell::RefCell;

/// A chunk of fewer bytes is never compressed.
const BYTES_MIN: usize = 48;
/// Compression must save this many bytes.
const SAVED_BYTES_MIN: usize = 8;
/// Before the compressed bytes stands the length of what they were.
const LENGTH_BYTES: usize = size_of::<u32>();
/// Elements are moved to make room at one end only where this part of them is free, as a divisor: a buffer of twice the size is had
/// otherwise, so that a byte is moved a few times at most on the way to a full chunk.
const FREE_PART: usize = 8;
/// The smallest buffer with room in front.
const ROOMY_BYTES_MIN: usize = 64;

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
#[derive(Debug)]
pub(super) struct Chunk {
    /// Free bytes, then the packed elements; where they are compressed not to be looked at but through [`Chunk::look`].
    bytes: Vec<u8>,
    /// How many there are, for walks that do not look at them.
    count: u32,
    /// How many bytes in front are free; none where the elements are compressed.
    free: u16,
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
        Chunk { bytes: packed.into_vec(), count, free: 0, form: Form::Open, plain: false }
    }

    /// A chunk of one element; `plain` if that is a large one.
    pub(super) fn single(text: &[u8], plain: bool) -> Chunk {
        let mut packed = PackedBuf::new();
        if plain {
            packed.reserve_exact(packed::encoded_bytes(text));
        }
        packed.push_back(text);
        Chunk { plain, ..Chunk::of(packed) }
    }

    /// Moves its memory if that lies badly.
    pub(super) fn move_blocks(&mut self, mover: &mut crate::mover::Mover<'_>) {
        mover.vec(&mut self.bytes);
    }

    /// How many elements it has.
    #[inline]
    pub(super) fn count(&self) -> usize {
        self.count as usize
    }

    /// Memory held.
    #[inline]
    pub(super) fn heap_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// The elements of a chunk that is not compressed, or what they are compressed to.
    #[inline]
    fn view(&self) -> Packed<'_> {
        Packed::new(&self.bytes[usize::from(self.free)..])
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
        if self.form == Form::Compressed { self.unpack(room) } else { self.view() }
    }

    #[cold]
    fn unpack<'a>(&self, room: &'a mut Vec<u8>) -> Packed<'a> {
        room.clear();
        let whole = decompress(&self.bytes, room);
        debug_assert!(whole, "what was compressed here does not come back");
        Packed::new(room)
    }

    /// Bytes of the listpack that Redis would have.
    #[inline]
    pub(super) fn listpack_bytes(&self) -> usize {
        if self.form == Form::Compressed {
            return packed::listpack_bytes_of(length_of(&self.bytes));
        }
        self.view().listpack_bytes()
    }

    /// The elements, taken out.
    pub(super) fn into_packed(mut self) -> PackedBuf {
        self.open();
        self.close_up();
        PackedBuf::from_vec(self.bytes)
    }

    /// The elements to be changed. What is changed is worth another try of compression.
    #[inline]
    pub(super) fn edit<R>(&mut self, edit: impl FnOnce(&mut PackedBuf) -> R) -> R {
        self.open();
        self.close_up();
        self.form = Form::Open;
        let mut packed = PackedBuf::from_vec(std::mem::take(&mut self.bytes));
        let answer = edit(&mut packed);
        self.count = packed.len() as u32;
        self.bytes = packed.into_vec();
        answer
    }

    /// Adds an element at an end. Amortised O(1).
    pub(super) fn push(&mut self, end: End, text: &[u8]) {
        self.open();
        self.form = Form::Open;
        let element = Element::of(text);
        let bytes = element.encoded_bytes();
        match end {
            End::Head => {
                if usize::from(self.free) < bytes {
                    self.make_room_in_front(bytes);
                }
                self.free -= bytes as u16;
                let first = usize::from(self.free) + HEADER_BYTES;
                element.encode_over(&mut self.bytes[first..first + bytes]);
            }
            End::Tail => {
                if self.free > 0 && self.bytes.capacity() - self.bytes.len() < bytes {
                    self.make_room_behind(bytes);
                }
                element.encode(&mut self.bytes);
            }
        }
        self.set_count(self.count + 1);
    }

    /// Takes `count` elements from an end, of which more are there. O(count).
    pub(super) fn pop(&mut self, end: End, count: usize) {
        debug_assert!(count < self.count());
        self.open();
        self.form = Form::Open;
        let left = self.count() - count;
        let cut = match end {
            End::Head => self.view().seek(count),
            End::Tail => self.view().seek(left),
        };
        let Some(cut) = cut.map(|cut| cut.offset()) else { return };
        match end {
            End::Tail => self.bytes.truncate(usize::from(self.free) + cut),
            End::Head => {
                // The count is written anew, before what is first then.
                let free = usize::from(self.free) + cut - HEADER_BYTES;
                match u16::try_from(free) {
                    Ok(free) => self.free = free,
                    Err(_) => {
                        self.bytes.drain(..free);
                        self.free = 0;
                    }
                }
            }
        }
        self.set_count(left as u32);
    }

    fn set_count(&mut self, count: u32) {
        self.count = count;
        packed::write_count(&mut self.bytes[usize::from(self.free)..], count as usize);
    }

    /// Moves the elements to where their buffer begins.
    fn close_up(&mut self) {
        if self.free > 0 {
            self.bytes.drain(..usize::from(self.free));
            self.free = 0;
        }
    }

    /// Bytes of the elements and their count.
    fn used(&self) -> usize {
        self.bytes.len() - usize::from(self.free)
    }

    /// Whether half of what is free holds so many bytes, and is worth to move the elements for.
    fn is_roomy(&self, bytes: usize) -> bool {
        let (used, free) = (self.used(), self.bytes.capacity() - self.used());
        free / 2 >= bytes && free >= used / FREE_PART && free / 2 <= usize::from(u16::MAX)
    }

    /// Makes half of the room that there is stand in front, or has a larger buffer with all of it there: who adds in front will mostly
    /// go on so.
    #[cold]
    fn make_room_in_front(&mut self, bytes: usize) {
        let used = self.used();
        if self.is_roomy(bytes) {
            return self.put_room_in_front((self.bytes.capacity() - used) / 2);
        }
        let size = (used + bytes).next_power_of_two().max(ROOMY_BYTES_MIN);
        let free = (size - used).min(usize::from(u16::MAX));
        let mut roomy = Vec::with_capacity(free + used);
        roomy.resize(free, 0);
        roomy.extend_from_slice(&self.bytes[usize::from(self.free)..]);
        (self.bytes, self.free) = (roomy, free as u16);
    }

    /// Makes half of the room that there is stand behind; else the buffer will grow there.
    #[cold]
    fn make_room_behind(&mut self, bytes: usize) {
        if self.is_roomy(bytes) {
            self.put_room_in_front((self.bytes.capacity() - self.used()) / 2);
        } else {
            self.close_up();
        }
    }

    /// Moves the elements so that `free` bytes are in front of them, which the buffer has.
    fn put_room_in_front(&mut self, free: usize) {
        let (old, used) = (usize::from(self.free), self.used());
        let len = self.bytes.len();
        self.bytes.resize(len.max(free + used), 0);
        self.bytes.copy_within(old..old + used, free);
        self.bytes.truncate(free + used);
        self.free = free as u16;
    }

    /// Unpacks a compressed chunk.
    #[inline]
    pub(super) fn open(&mut self) {
        if self.form == Form::Compressed {
            let mut room = Vec::new();
            self.unpack(&mut room);
            self.bytes = room;
            self.form = Form::Open;
        }
    }

    /// Compresses an open chunk if that saves something.
    pub(super) fn compress(&mut self) {
        if self.form != Form::Open {
            return;
        }
        self.form = Form::Incompressible;
        let bytes = self.view().bytes();
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
            (self.bytes, self.free) = (small, 0);
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
            assert_eq!(self.free, 0, "room in front of what is compressed");
            assert!(
                room.len() >= BYTES_MIN && self.heap_bytes() + SAVED_BYTES_MIN <= room.len(),
                "nothing saved"
            );
            assert_eq!(room.len() + LISTPACK_OVERHEAD_BYTES - HEADER_BYTES, self.listpack_bytes());
        }
    }
}

impl Clone for Chunk {
    /// Without the room that is free.
    fn clone(&self) -> Chunk {
        let Chunk { count, form, plain, .. } = *self;
        Chunk { bytes: self.view().bytes().to_vec(), count, free: 0, form, plain }
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

    /// Bytes that lie elsewhere in a chunk's buffer than before a change.
    fn moved(chunk: &Chunk, before: (usize, usize)) -> usize {
        let last = chunk.bytes.as_ptr() as usize + chunk.bytes.len();
        if last == before.0 { 0 } else { before.1 }
    }

    #[test]
    fn what_is_put_in_front_hardly_moves_what_is_there() {
        let mut chunk = Chunk::single(b"first", false);
        let mut bytes_moved = 0;
        for number in 0..600_u32 {
            let before = (chunk.bytes.as_ptr() as usize + chunk.bytes.len(), chunk.used());
            chunk.push(End::Head, format!("element {number}").as_bytes());
            bytes_moved += moved(&chunk, before);
            chunk.check();
        }
        assert!(chunk.used() > 7500 && bytes_moved < 2 * chunk.used(), "{bytes_moved} of {}", chunk.used());
        assert!(chunk.heap_bytes() < 2 * chunk.used(), "{} for {}", chunk.heap_bytes(), chunk.used());
    }

    #[test]
    fn a_queue_in_one_chunk_keeps_its_size_and_hardly_moves() {
        for (enter, leave) in [(End::Head, End::Tail), (End::Tail, End::Head), (End::Head, End::Head)] {
            let mut chunk = Chunk::of((0..100).map(|number| format!("element {number}")).collect());
            let mut model: std::collections::VecDeque<_> =
                (0..100).map(|number| format!("element {number}")).collect();
            let mut bytes_moved = 0;
            for number in 1000..5000 {
                let text = format!("element {number}");
                let at = chunk.bytes.as_ptr() as usize + usize::from(chunk.free);
                chunk.push(enter, text.as_bytes());
                let is_there = chunk.bytes.as_ptr() as usize + usize::from(chunk.free)
                    == if enter == End::Head {
                        at - Element::of(text.as_bytes()).encoded_bytes()
                    } else {
                        at
                    };
                bytes_moved += if is_there { 0 } else { chunk.used() };
                chunk.pop(leave, 1);
                match enter {
                    End::Head => model.push_front(text),
                    End::Tail => model.push_back(text),
                }
                match leave {
                    End::Head => model.pop_front(),
                    End::Tail => model.pop_back(),
                };
            }
            chunk.check();
            let elements: Vec<String> =
                chunk.view().iter().map(|element| String::from_utf8(element.to_vec()).unwrap()).collect();
            assert_eq!(elements, Vec::from(model));
            assert!(bytes_moved < 4000 * 14 * 16, "{bytes_moved} bytes moved");
            assert!(chunk.heap_bytes() <= 4 * chunk.used(), "{} for {}", chunk.heap_bytes(), chunk.used());
        }
    }

    #[test]
    fn both_ends_of_a_chunk_share_its_room() {
        let mut chunk = Chunk::single(b"0", false);
        let mut model = std::collections::VecDeque::from([b"0".to_vec()]);
        for number in 1..3000_i64 {
            let text = (number * 1_000_003).to_string().into_bytes();
            if number % 3 == 0 {
                chunk.push(End::Tail, &text);
                model.push_back(text);
            } else {
                chunk.push(End::Head, &text);
                model.push_front(text);
            }
            if number % 7 == 0 {
                chunk.pop(End::Head, 2);
                model.drain(..2);
            }
        }
        chunk.check();
        let copy = chunk.clone();
        assert!(copy.free == 0 && copy.heap_bytes() <= chunk.heap_bytes());
        assert!(copy.view().iter().map(|element| element.to_vec()).eq(model.iter().cloned()));
        assert!(chunk.into_packed().view().iter().map(|element| element.to_vec()).eq(model));
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
