//! Records of bytes, each with a reference of 32 bits.
//!
//! A page holds records of all sizes behind each other, in units of four bytes; a record begins with
//! its length in one byte (three when long). What is freed goes to the page's free list of its size,
//! and a page whose last record goes is given back whole. Records too long for pages have an
//! allocation of their own.
//!
//! A reference is a page and a unit in it, or the highest bit and the number of a long record.
//! Invariants: the blocks of a page lie end to end up to its length; `live` counts those in use; a
//! size with free blocks in a page has that page in its queue. `check` walks over all.

use super::chunks::Chunks;
use crate::mover::Mover;

/// Bytes of a unit.
const UNIT: usize = 4;

/// Bytes of a full page.
const PAGE_BYTES: usize = 64 * 1024;

/// Bits of a reference that say where in a page.
const UNIT_BITS: u32 = (PAGE_BYTES / UNIT).ilog2();

/// The bit of a reference that says that the record lies apart.
const APART: u32 = 1 << 31;

/// Pages that references can tell apart: eight gibibytes.
const PAGES_MAX: usize = 1 << (31 - UNIT_BITS);

/// Bytes of the largest block in a page.
const BLOCK_MAX: usize = 512;

/// Sizes of blocks, in units.
const CLASSES: usize = BLOCK_MAX / UNIT;

/// First bytes of a block that are no length.
const LONG: u8 = 0xfe;
const FREE: u8 = 0xff;

/// Bytes of the length of a long record in a page.
const LONG_HEADER: usize = 3;

/// What most records are not longer than, in bytes.
const SHORT_RECORD_BYTES: usize = 32;

/// The end of a free list; no block begins there, as each has at least a unit.
const NIL: u16 = u16::MAX;

/// Bytes of the first page when it is made; it grows with what is put into it.
const FIRST_ROOM: usize = 256;

#[derive(Debug, Clone, Default)]
struct Page {
    bytes: Vec<u8>,
    /// Heads of the lists of free blocks by class; made when the first is freed.
    free: Option<Box<[u16; CLASSES]>>,
    live: u16,
}

/// A store of records.
#[derive(Debug, Default)]
pub struct Slab {
    pages: Vec<Page>,
    /// The page that new records are put behind.
    current: u32,
    /// Pages without memory, to be used again.
    vacant: Vec<u32>,
    /// By class: pages that have a free block of it, perhaps.
    queues: Vec<Vec<u32>>,
    /// Pages that the queues have room for.
    queue_room: u32,
    apart: Chunks<Box<[u8]>>,
    apart_vacant: Vec<u32>,
    page_bytes: usize,
    apart_bytes: usize,
    len: usize,
}

/// What is read at the beginning of a block.
struct Header {
    /// Bytes before the record's own.
    bytes: usize,
    /// Bytes of the record.
    len: usize,
}

impl Header {
    #[inline]
    fn read(block: &[u8]) -> Header {
        match block[0] {
            LONG => Header { bytes: LONG_HEADER, len: usize::from(u16::from_le_bytes([block[1], block[2]])) },
            short => Header { bytes: 1, len: usize::from(short) },
        }
    }

    #[inline]
    fn of(len: usize) -> Header {
        Header { bytes: if len < usize::from(LONG) { 1 } else { LONG_HEADER }, len }
    }

    /// Units of the whole block.
    #[inline]
    fn units(&self) -> usize {
        (self.bytes + self.len).div_ceil(UNIT)
    }
}

impl Slab {
    /// An empty one, which holds no memory.
    #[must_use]
    pub fn new() -> Slab {
        Slab::default()
    }

    /// Records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes it holds.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.page_bytes
            + self.apart_bytes
            + self.pages.capacity() * size_of::<Page>()
            + (self.vacant.capacity() + self.queue_room as usize + self.apart_vacant.capacity())
                * size_of::<u32>()
            + self.queues.capacity() * size_of::<Vec<u32>>()
            + self.apart.heap_bytes()
    }

    /// The record of a reference.
    #[inline]
    #[must_use]
    pub fn get(&self, reference: u32) -> &[u8] {
        if reference & APART != 0 {
            return self.apart.get((reference & !APART) as usize);
        }
        let (page, at) = split(reference);
        let block = &self.pages[page].bytes[at..];
        let header = Header::read(block);
        &block[header.bytes..header.bytes + header.len]
    }

    /// Has `ask` told where a record lies: its first line, and the one behind where a short record may reach into it.
    #[inline]
    pub fn look_ahead(&self, reference: u32, ask: &impl Fn(*const u8)) {
        let block = if reference & APART != 0 {
            self.apart.get((reference & !APART) as usize).as_ptr()
        } else {
            let (page, at) = split(reference);
            self.pages[page].bytes[at..].as_ptr()
        };
        ask(block);
        ask(block.wrapping_add(SHORT_RECORD_BYTES));
    }

    /// The record of a reference, to be changed in place.
    #[inline]
    pub fn get_mut(&mut self, reference: u32) -> &mut [u8] {
        if reference & APART != 0 {
            return self.apart.get_mut((reference & !APART) as usize);
        }
        let (page, at) = split(reference);
        let block = &mut self.pages[page].bytes[at..];
        let header = Header::read(block);
        &mut block[header.bytes..header.bytes + header.len]
    }

    /// Stores a record made of parts.
    #[inline]
    pub fn alloc(&mut self, parts: &[&[u8]]) -> u32 {
        self.len += 1;
        let header = Header::of(parts.iter().map(|part| part.len()).sum());
        if header.len > BLOCK_MAX - LONG_HEADER {
            return self.alloc_apart(parts);
        }
        if let Some(reference) = self.take_free(header.units()) {
            self.write(reference, &header, parts);
            return reference;
        }
        let bytes = header.units() * UNIT;
        if self
            .pages
            .get(self.current as usize)
            .is_none_or(|page| page.bytes.len() + bytes > page.bytes.capacity())
            && !self.make_room(bytes)
        {
            return self.alloc_apart(parts);
        }
        self.append(&header, parts)
    }

    /// Frees a record.
    pub fn free(&mut self, reference: u32) {
        self.len -= 1;
        if reference & APART != 0 {
            let record = std::mem::take(self.apart.get_mut((reference & !APART) as usize));
            self.apart_bytes -= record.len();
            self.apart_vacant.push(reference);
            return;
        }
        let (number, at) = split(reference);
        let page = &mut self.pages[number];
        page.live -= 1;
        if page.live == 0 {
            self.empty_page(number);
            return;
        }
        let units = Header::read(&page.bytes[at..]).units();
        let class = units - 1;
        if page.free.is_none() {
            page.free = Some(Box::new([NIL; CLASSES]));
            self.page_bytes += size_of::<[u16; CLASSES]>();
        }
        let Some(heads) = page.free.as_mut() else { return };
        let next = std::mem::replace(&mut heads[class], (at / UNIT) as u16);
        let [low, high] = next.to_le_bytes();
        page.bytes[at..at + UNIT].copy_from_slice(&[FREE, class as u8, low, high]);
        if next == NIL {
            if self.queues.is_empty() {
                self.queues = vec![Vec::new(); CLASSES];
            }
            let queue = &mut self.queues[class];
            self.queue_room -= queue.capacity() as u32;
            queue.push(number as u32);
            self.queue_room += queue.capacity() as u32;
        }
    }

    /// Stores a record in place of another; the reference changes when the size of its block does.
    pub fn replace(&mut self, reference: u32, parts: &[&[u8]]) -> u32 {
        let header = Header::of(parts.iter().map(|part| part.len()).sum());
        if reference & APART == 0 && header.units() <= CLASSES {
            let (page, at) = split(reference);
            if Header::read(&self.pages[page].bytes[at..]).units() == header.units() {
                self.write(reference, &header, parts);
                return reference;
            }
        }
        self.free(reference);
        self.alloc(parts)
    }

    /// All records, in the order in which they lie in memory.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> + Clone {
        // A long record is not empty: what is there, is a number not in use.
        let apart = self.apart.iter().filter(|record| !record.is_empty());
        self.pages.iter().flat_map(Page::records).chain(apart.map(|record| &**record))
    }

    /// Frees about `budget` records; true when nothing is left. References mean nothing any more.
    pub fn free_step(&mut self, budget: usize) -> bool {
        let mut freed = 0;
        while freed < budget {
            if let Some(record) = self.apart.pop() {
                self.apart_bytes -= record.len();
                // A long record costs its allocator about as much as a page does.
                freed += 8 + record.len() / PAGE_BYTES;
            } else if let Some(page) = self.pages.pop() {
                self.page_bytes -= page.held();
                freed += usize::from(page.live).min(64) + 1;
            } else {
                *self = Slab::new();
                return true;
            }
        }
        false
    }

    /// Moves the memory of pages and long records from number `from` on until the mover is spent; the number to go on with, which is
    /// `blocks_end` or more at the end.
    pub fn move_blocks(&mut self, mover: &mut Mover<'_>, from: usize) -> usize {
        let (mut at, end) = (from, self.blocks_end());
        while at < end && !mover.is_spent() {
            if let Some(page) = self.pages.get_mut(at) {
                mover.vec(&mut page.bytes);
                mover.pass(usize::from(page.live));
            } else {
                mover.slice(self.apart.get_mut(at - self.pages.len()));
                mover.pass(1);
            }
            at += 1;
        }
        at
    }

    /// How many blocks `move_blocks` counts.
    pub fn blocks_end(&self) -> usize {
        self.pages.len() + self.apart.len()
    }

    /// Panics if an invariant does not hold.
    pub fn check(&self) {
        let mut live = self.apart.len() - self.apart_vacant.len();
        for (number, page) in self.pages.iter().enumerate() {
            let (mut at, mut used, mut free) = (0, 0, [0; CLASSES]);
            while at < page.bytes.len() {
                let block = &page.bytes[at..];
                if block[0] == FREE {
                    free[usize::from(block[1])] += 1;
                    at += (usize::from(block[1]) + 1) * UNIT;
                } else {
                    used += 1;
                    at += Header::read(block).units() * UNIT;
                }
            }
            assert_eq!((at, used), (page.bytes.len(), page.live), "the blocks of a page do not fill it");
            for (class, counted) in free.into_iter().enumerate() {
                assert_eq!(page.free_blocks(class), counted, "a free list misses a block");
                let queued = self.queues.get(class).is_some_and(|queue| queue.contains(&(number as u32)));
                assert!(counted == 0 || queued, "a page with free blocks is not found");
            }
            live += usize::from(used);
        }
        assert_eq!(live, self.len, "the count of records is wrong");
        assert_eq!(self.pages.iter().map(Page::held).sum::<usize>(), self.page_bytes);
        assert_eq!(self.apart.iter().map(|record| record.len()).sum::<usize>(), self.apart_bytes);
        assert_eq!(room_of(&self.queues), self.queue_room, "what the queues hold is counted wrong");
    }

    fn alloc_apart(&mut self, parts: &[&[u8]]) -> u32 {
        let record = parts.concat().into_boxed_slice();
        self.apart_bytes += record.len();
        if let Some(reference) = self.apart_vacant.pop() {
            *self.apart.get_mut((reference & !APART) as usize) = record;
            return reference;
        }
        let number = u32::try_from(self.apart.len()).ok().filter(|number| number & APART == 0);
        let number = number.expect("fewer than two thousand million long records in one value");
        self.apart.push(record);
        number | APART
    }

    /// Takes a free block of so many units from the page that its queue names last.
    #[inline]
    fn take_free(&mut self, units: usize) -> Option<u32> {
        let class = units - 1;
        let queue = self.queues.get_mut(class)?;
        while let Some(&number) = queue.last() {
            let page = &mut self.pages[number as usize];
            let head = page.free.as_ref().map_or(NIL, |heads| heads[class]);
            let Some(heads) = page.free.as_mut().filter(|_| head != NIL) else {
                queue.pop();
                continue;
            };
            let at = usize::from(head) * UNIT;
            let next = u16::from_le_bytes([page.bytes[at + 2], page.bytes[at + 3]]);
            heads[class] = next;
            page.live += 1;
            if next == NIL {
                queue.pop();
            }
            return Some(join(number as usize, at));
        }
        None
    }

    #[inline]
    fn write(&mut self, reference: u32, header: &Header, parts: &[&[u8]]) {
        let (page, at) = split(reference);
        let block = &mut self.pages[page].bytes[at..];
        if header.bytes == 1 {
            block[0] = header.len as u8;
        } else {
            block[0] = LONG;
            block[1..3].copy_from_slice(&(header.len as u16).to_le_bytes());
        }
        let mut from = header.bytes;
        for part in parts {
            block[from..from + part.len()].copy_from_slice(part);
            from += part.len();
        }
    }

    /// Puts a record behind the others of the current page, where there is room.
    #[inline]
    fn append(&mut self, header: &Header, parts: &[&[u8]]) -> u32 {
        let page = &mut self.pages[self.current as usize];
        let at = page.bytes.len();
        if header.bytes == 1 {
            page.bytes.push(header.len as u8);
        } else {
            let [low, high] = (header.len as u16).to_le_bytes();
            page.bytes.extend_from_slice(&[LONG, low, high]);
        }
        for part in parts {
            page.bytes.extend_from_slice(part);
        }
        page.bytes.resize(at + header.units() * UNIT, 0);
        page.live += 1;
        join(self.current as usize, at)
    }

    /// Makes the current page one that has room for `bytes` more; false if references can't tell more.
    #[cold]
    fn make_room(&mut self, bytes: usize) -> bool {
        let whole = self.page_bytes;
        if let Some(page) = self.pages.get_mut(self.current as usize)
            && page.bytes.len() + bytes <= PAGE_BYTES
        {
            let before = page.bytes.capacity();
            // A small collection grows by a quarter, so that little of its memory is room for more.
            let room = (before + (before / 4).max(FIRST_ROOM)).clamp(page.bytes.len() + bytes, PAGE_BYTES);
            page.bytes.reserve_exact(room - page.bytes.len());
            self.page_bytes += page.bytes.capacity() - before;
            return true;
        }
        let number = match self.vacant.pop() {
            Some(number) => number as usize,
            None if self.pages.len() < PAGES_MAX => {
                self.pages.push(Page::default());
                self.pages.len() - 1
            }
            None => return false,
        };
        let room = (whole / 4).clamp(bytes.max(FIRST_ROOM), PAGE_BYTES);
        let page = &mut self.pages[number];
        page.bytes.reserve_exact(room);
        self.page_bytes += page.bytes.capacity();
        self.current = number as u32;
        true
    }

    /// Gives back the memory of a page that has no record left; the current one is begun anew.
    #[cold]
    fn empty_page(&mut self, number: usize) {
        let page = &mut self.pages[number];
        let before = page.held();
        page.free = None;
        page.bytes.clear();
        if number != self.current as usize {
            page.bytes = Vec::new();
            self.vacant.push(number as u32);
        }
        self.page_bytes = self.page_bytes + page.held() - before;
    }
}

impl Clone for Slab {
    fn clone(&self) -> Slab {
        let pages = self.pages.clone();
        // The copies of vectors have no room for more.
        let page_bytes = pages.iter().map(Page::held).sum();
        let queues = self.queues.clone();
        Slab {
            pages,
            current: self.current,
            vacant: self.vacant.clone(),
            queue_room: room_of(&queues),
            queues,
            apart: self.apart.clone(),
            apart_vacant: self.apart_vacant.clone(),
            page_bytes,
            apart_bytes: self.apart_bytes,
            len: self.len,
        }
    }
}

impl Page {
    fn held(&self) -> usize {
        self.bytes.capacity() + self.free.as_ref().map_or(0, |heads| size_of_val(&**heads))
    }

    fn records(&self) -> impl Iterator<Item = &[u8]> + Clone {
        let mut rest = &*self.bytes;
        std::iter::from_fn(move || {
            while let Some((&first, _)) = rest.split_first() {
                if first == FREE {
                    let class = rest.get(1).copied().unwrap_or(0);
                    rest = rest.get((usize::from(class) + 1) * UNIT..)?;
                    continue;
                }
                let header = Header::read(rest);
                let record = &rest[header.bytes..header.bytes + header.len];
                rest = rest.get(header.units() * UNIT..).unwrap_or(&[]);
                return Some(record);
            }
            None
        })
    }

    fn free_blocks(&self, class: usize) -> usize {
        let mut head = self.free.as_ref().map_or(NIL, |heads| heads[class]);
        let mut blocks = 0;
        while head != NIL {
            let at = usize::from(head) * UNIT;
            assert_eq!(self.bytes[at..at + 2], [FREE, class as u8], "a free list leads astray");
            head = u16::from_le_bytes([self.bytes[at + 2], self.bytes[at + 3]]);
            blocks += 1;
        }
        blocks
    }
}

/// Elements that some vectors have room for.
fn room_of(vectors: &[Vec<u32>]) -> u32 {
    vectors.iter().map(|vector| vector.capacity() as u32).sum()
}

#[inline]
fn split(reference: u32) -> (usize, usize) {
    ((reference >> UNIT_BITS) as usize, (reference & ((1 << UNIT_BITS) - 1)) as usize * UNIT)
}

#[inline]
fn join(page: usize, at: usize) -> u32 {
    (page as u32) << UNIT_BITS | (at / UNIT) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[derive(Debug, Clone)]
    enum Step {
        Alloc(usize),
        Free(usize),
        Replace(usize, usize),
        Write(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        let size = prop_oneof![6 => 0_usize..40, 2 => 200_usize..300, 1 => 480_usize..700];
        prop_oneof![
            5 => size.clone().prop_map(Step::Alloc),
            3 => any::<usize>().prop_map(Step::Free),
            2 => (any::<usize>(), size).prop_map(|(at, size)| Step::Replace(at, size)),
            1 => any::<usize>().prop_map(Step::Write),
        ]
    }

    fn record(size: usize, number: usize) -> Vec<u8> {
        (0..size).map(|at| (at * 7 + number) as u8).collect()
    }

    fn compare(slab: &Slab, model: &[(u32, Vec<u8>)]) {
        slab.check();
        assert_eq!(slab.len(), model.len());
        for (reference, record) in model {
            assert_eq!(slab.get(*reference), record);
        }
        let mut found: Vec<&[u8]> = slab.iter().collect();
        let mut expected: Vec<&[u8]> = model.iter().map(|(_, record)| &**record).collect();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn records_stay_what_they_are(steps in proptest::collection::vec(step(), 0..400)) {
            let mut slab = Slab::new();
            let mut model: Vec<(u32, Vec<u8>)> = Vec::new();
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Alloc(size) => {
                        let bytes = record(size, number);
                        let (left, right) = bytes.split_at(size / 3);
                        model.push((slab.alloc(&[left, right]), bytes));
                    }
                    Step::Free(at) if !model.is_empty() => {
                        slab.free(model.swap_remove(at % model.len()).0);
                    }
                    Step::Replace(at, size) if !model.is_empty() => {
                        let at = at % model.len();
                        let bytes = record(size, number);
                        model[at] = (slab.replace(model[at].0, &[&bytes]), bytes);
                    }
                    Step::Write(at) if !model.is_empty() => {
                        let at = at % model.len();
                        slab.get_mut(model[at].0).reverse();
                        model[at].1.reverse();
                    }
                    _ => {}
                }
            }
            compare(&slab, &model);
            compare(&slab.clone(), &model);
            for (reference, _) in model.drain(..) {
                slab.free(reference);
            }
            compare(&slab, &model);
        }
    }

    #[test]
    fn pages_are_given_back_and_blocks_used_again() {
        let mut slab = Slab::new();
        let mut records: HashMap<u32, Vec<u8>> = HashMap::new();
        for number in 0..20_000 {
            let bytes = record(number % 60, number);
            records.insert(slab.alloc(&[&bytes]), bytes);
        }
        let full = slab.heap_bytes();
        let sum: usize = records.values().map(|bytes| (bytes.len() + 1).next_multiple_of(4)).sum();
        assert!(full < sum + sum / 50 + PAGE_BYTES, "{full} bytes for {sum}");
        // Every second one goes and comes back in another order: nothing is added.
        let freed: Vec<u32> = records.keys().copied().filter(|reference| reference % 2 == 0).collect();
        let mut again: Vec<Vec<u8>> = Vec::new();
        for reference in freed {
            slab.free(reference);
            again.extend(records.remove(&reference));
        }
        slab.check();
        for bytes in again {
            records.insert(slab.alloc(&[&bytes]), bytes);
        }
        slab.check();
        assert!(slab.heap_bytes() < full + full / 20);
        assert!(records.iter().all(|(&reference, bytes)| slab.get(reference) == bytes));
        for &reference in records.keys() {
            slab.free(reference);
        }
        assert!(slab.heap_bytes() < PAGE_BYTES * 2, "{}", slab.heap_bytes());
    }

    #[test]
    fn freeing_goes_in_steps() {
        let mut slab = Slab::new();
        for number in 0..50_000 {
            slab.alloc(&[&record(number % 30, number)]);
        }
        slab.alloc(&[&record(5000, 1)]);
        let mut steps = 0;
        while !slab.free_step(100) {
            steps += 1;
        }
        assert!(steps > 3);
        assert_eq!((slab.len(), slab.heap_bytes()), (0, 0));
    }
}
