//! The pool: blocks of 2 MiB, the size of a huge page, of which the arenas of all tables take spans.
//!
//! Arenas share blocks and fill them in order, so that all memory but the last block's is full. While a keeper serves the
//! pool (`keep`), it has blocks ready that are huge pages already, zeroed by it: workers neither zero nor wait for pages,
//! and where none is ready they take small pages at once. The keeper also gives back what is idle.
//!
//! Invariant: a span is in use by an arena, or held by who makes its block huge or gives its pages back, or free; only a
//! free one is handed out. What is free is idle when its pages are resident, and idle spans go first, lowest address first.
//! Only a region that is all free is unmapped. The lock is taken after an arena's, and no system call but mapping a region
//! is made under it.
//! Read next: `sys.rs`.

use super::class::SPAN_BYTES;
use super::span::{RECORDS_BYTES, SPANS, Span, bytes_of, start_of};
use super::sys::{self, BLOCK_BYTES, REGION_BYTES};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::ptr::NonNull;
use std::time::Duration;

/// Blocks in a region.
const BLOCKS: usize = REGION_BYTES / BLOCK_BYTES;
const ALL: u128 = u128::MAX;
/// Free regions kept mapped.
const SPARE_REGIONS: usize = 1;
/// Spans in use from which on there are huge pages: a small server must not hold a block in reserve.
const HUGE_FROM: usize = (4 << 20) / SPAN_BYTES;
/// Idle spans below which the next block is made ready: what a worker fills in five milliseconds at full speed.
const READY_MIN: usize = SPANS / 4;
/// Most of them, when growth was faster than that: a share of those in use, and an absolute number.
const READY_SHARE: usize = 32;
const READY_MAX: usize = 8 * SPANS;
/// Idle spans beyond those to be ready that are not worth giving back: a block, and a share of those in use.
const IDLE_SHARE: usize = 256;
/// The part of a huge page that must be free for it to be split when memory is asked for.
const PART_WORTHWHILE: usize = 16;
/// Rounds without work after which a kernel that had no huge page is asked again.
const REFUSED_ROUNDS: u32 = 20;

/// The pool all arenas share.
pub(crate) static POOL: Pool = Pool::new();

/// A pool of blocks.
pub(crate) struct Pool {
    state: Mutex<State>,
    /// Tells the keeper that there is something to do.
    work: Condvar,
}

struct State {
    /// By address.
    regions: Vec<Region>,
    /// No region before these has an idle span, or a free one.
    first_idle: usize,
    first_free: usize,
    /// Spans in use.
    used: usize,
    /// Free spans whose pages are resident.
    idle: usize,
    keeper: Keeper,
}

/// What the keeper goes by.
struct Keeper {
    /// Somebody serves the pool.
    serves: bool,
    /// It was told, and has not looked yet.
    told: bool,
    /// Idle spans to have ready.
    ready: usize,
    /// Spans handed out since it looked that were not resident though they should have been.
    missed: usize,
    /// Idle spans that the last round could not give back.
    stuck: usize,
    /// Rounds to go until the kernel is asked for huge pages again.
    refused: u32,
    /// Nothing was handed out for a whole round: there is no growth to be ready for.
    rests: bool,
}

/// A mapping of `REGION_BYTES`.
struct Region {
    start: NonNull<u8>,
    idle: usize,
    free: usize,
    blocks: [Block; BLOCKS],
}

/// Bit i of each set stands for span i.
#[derive(Clone, Copy)]
struct Block {
    /// In use or held.
    taken: u128,
    /// Pages may be resident.
    resident: u128,
    /// So may those of the records.
    records: bool,
    huge: bool,
}

/// Where a block is: its region and its place there. Valid until the lock is released.
type Place = (usize, usize);

// SAFETY: a region is memory of the pool's own; who may touch a span is the callers' agreement.
unsafe impl Send for Region {}

impl Block {
    const UNTOUCHED: Self = Self { taken: 0, resident: 0, records: false, huge: false };

    fn idle(&self) -> u128 {
        self.resident & !self.taken
    }

    fn is_free(&self) -> bool {
        self.taken == 0
    }

    fn is_untouched(&self) -> bool {
        self.taken == 0 && self.resident == 0 && !self.records
    }
}

impl Region {
    fn map() -> Self {
        let start = sys::map_region();
        assert!(super::is_addressable(&start), "the system maps memory beyond 48 bits");
        let _ = start.as_ptr().expose_provenance();
        Self { start, idle: 0, free: BLOCKS * SPANS, blocks: [Block::UNTOUCHED; BLOCKS] }
    }

    fn is_free(&self) -> bool {
        self.free == BLOCKS * SPANS
    }

    fn block(&self, at: usize) -> NonNull<u8> {
        debug_assert!(at < BLOCKS);
        // SAFETY: block `at` lies in the region.
        unsafe { self.start.add(at * BLOCK_BYTES) }
    }

    /// The lowest block that passes.
    fn find(&self, pass: impl Fn(&Block) -> bool) -> Option<usize> {
        self.blocks.iter().position(pass)
    }
}

fn unmap(region: Region) {
    // SAFETY: mapped by `Region::map`; all its spans are free, and the region is no longer listed.
    unsafe { sys::unmap_region(region.start) };
}

impl Keeper {
    const NONE: Self =
        Self { serves: false, told: false, ready: READY_MIN, missed: 0, stuck: 0, refused: 0, rests: true };
}

impl Keeper {
    /// Learns from what happened since the last round.
    fn adapt(&mut self, used: usize) {
        let was_told = std::mem::take(&mut self.told);
        let most = READY_MAX.min(2 * READY_MIN + used / READY_SHARE);
        self.ready = match std::mem::take(&mut self.missed) {
            0 if was_told => self.ready,
            0 => (self.ready / 2).max(READY_MIN),
            _ => (self.ready * 2).min(most),
        };
        self.refused = self.refused.saturating_sub(u32::from(!was_told));
    }
}

impl State {
    /// The region an address lies in.
    fn place_of(&self, address: usize) -> Place {
        let region = self.regions.partition_point(|region| region.start.addr().get() <= address) - 1;
        (region, (address - self.regions[region].start.addr().get()) / BLOCK_BYTES)
    }

    fn insert(&mut self, region: Region) -> usize {
        let at = self.regions.partition_point(|other| other.start < region.start);
        self.regions.insert(at, region);
        self.first_free = self.first_free.min(at);
        at
    }

    fn remove(&mut self, at: usize) -> Region {
        let region = self.regions.remove(at);
        self.idle -= region.idle;
        self.first_idle -= usize::from(self.first_idle > at);
        self.first_free -= usize::from(self.first_free > at);
        region
    }

    /// Changes a block, and the sums with it.
    fn change(&mut self, (region, block): Place, change: impl FnOnce(&mut Block)) {
        let of = &mut self.regions[region];
        let it = &mut of.blocks[block];
        let (idle, free) = (it.idle().count_ones() as usize, it.taken.count_zeros() as usize);
        change(it);
        let (new_idle, new_free) = (it.idle().count_ones() as usize, it.taken.count_zeros() as usize);
        of.idle = of.idle + new_idle - idle;
        of.free = of.free + new_free - free;
        self.idle = self.idle + new_idle - idle;
        if new_idle > idle {
            self.first_idle = self.first_idle.min(region);
        }
        if new_free > free {
            self.first_free = self.first_free.min(region);
        }
    }

    /// Where to take a span, and whether its pages are resident.
    fn choose(&mut self) -> (Place, usize) {
        let after = |from: usize, has: fn(&Region) -> bool, regions: &[Region]| {
            regions.iter().skip(from).position(has).map_or(regions.len(), |at| from + at)
        };
        self.first_idle = after(self.first_idle, |region| region.idle > 0, &self.regions);
        if let Some(region) = self.regions.get(self.first_idle)
            && let Some(block) = region.find(|block| block.idle() != 0)
        {
            return ((self.first_idle, block), region.blocks[block].idle().trailing_zeros() as usize);
        }
        self.first_free = after(self.first_free, |region| region.free > 0, &self.regions);
        let region =
            if self.first_free < self.regions.len() { self.first_free } else { self.insert(Region::map()) };
        // A block that was begun before one that could still be a huge page.
        let of = &self.regions[region];
        let begun = of.find(|block| block.taken != ALL && !block.is_untouched());
        let block = begun.or_else(|| of.find(|block| block.taken != ALL)).unwrap_or(0);
        ((region, block), of.blocks[block].taken.trailing_ones() as usize)
    }

    /// Idle spans below which a block is made ready.
    fn idle_min(&self) -> usize {
        if self.used < HUGE_FROM || self.keeper.rests { 0 } else { self.keeper.ready }
    }

    /// Idle spans above which some are given back.
    fn idle_max(&self) -> usize {
        self.idle_min() + SPANS + self.used / IDLE_SHARE
    }

    /// Whether it is time to make a block ready.
    fn is_short(&self) -> bool {
        self.idle < self.idle_min() && self.keeper.refused == 0
    }

    /// Whether there is more idle than is kept, and it can be given back.
    fn is_idle(&self) -> bool {
        self.idle > self.idle_max().max(self.keeper.stuck + READY_MIN)
    }

    /// Takes a free region out, if there are more of them than are kept.
    fn take_surplus(&mut self) -> Option<Region> {
        let mut free = (0..self.regions.len()).rev().filter(|at| self.regions[*at].is_free());
        let last = free.next()?;
        (free.count() >= SPARE_REGIONS).then(|| self.remove(last))
    }
}

/// Spans taken from the arenas' reach for a moment, while the system is called without the lock.
struct Hold {
    block: NonNull<u8>,
    spans: u128,
}

impl Pool {
    pub(crate) const fn new() -> Self {
        let state = State {
            regions: Vec::new(),
            first_idle: 0,
            first_free: 0,
            used: 0,
            idle: 0,
            keeper: Keeper::NONE,
        };
        Self { state: Mutex::new(state), work: Condvar::new() }
    }

    /// Hands out a span, whose contents are not defined. Ends the process when memory is exhausted, as any allocation does.
    pub(crate) fn take(&self) -> *mut Span {
        let mut state = self.state.lock();
        let (place, index) = state.choose();
        let bit = 1 << index;
        let was_idle = state.regions[place.0].blocks[place.1].idle() & bit != 0;
        state.change(place, |block| {
            block.taken |= bit;
            block.resident |= bit;
            block.records = true;
        });
        state.used += 1;
        state.keeper.missed += usize::from(!was_idle && state.used > HUGE_FROM);
        state.keeper.rests = false;
        let block = state.regions[place.0].block(place.1);
        let short = state.is_short();
        self.tell(state, short);
        // SAFETY: the block is mapped, and `index` < `SPANS`.
        unsafe { Span::at(block, index) }
    }

    /// Takes a span back.
    ///
    /// # Safety
    /// `take` of this pool returned it, and nobody uses it or what it holds any more.
    pub(crate) unsafe fn put(&self, span: *mut Span) {
        let mut state = self.state.lock();
        let place = state.place_of(span.addr());
        let bit = 1 << Span::index(span);
        debug_assert_ne!(state.regions[place.0].blocks[place.1].taken & bit, 0, "a span is returned twice");
        state.change(place, |block| block.taken &= !bit);
        state.used -= 1;
        if state.keeper.serves {
            let idle = state.is_idle();
            self.tell(state, idle);
        } else if state.regions[place.0].blocks[place.1].is_free() {
            drop(self.give_back(state, &Block::is_free, 0));
        }
    }

    fn tell(&self, mut state: MutexGuard<'_, State>, work: bool) {
        if work && state.keeper.serves && !state.keeper.told {
            state.keeper.told = true;
            drop(state);
            self.work.notify_one();
        }
    }

    /// One round of keeping: waits until there is something to do, at most as long as `patience`, and does it.
    /// The first call makes the caller the keeper: workers rely on its coming back soon. Returns how many blocks it made
    /// ready, at most `budget`.
    pub(crate) fn keep(&self, patience: Duration, budget: usize) -> usize {
        let mut state = self.state.lock();
        state.keeper.serves = true;
        if !state.is_short() && !state.is_idle() {
            // Whatever was told before is seen to: who tells from here on wakes this.
            state.keeper.told = false;
            state.keeper.rests = true;
            self.work.wait_for(&mut state, patience);
        }
        let used = state.used;
        state.keeper.adapt(used);
        let mut made = 0;
        while made < budget && state.is_short() {
            state = self.make_ready(state);
            made += usize::from(state.keeper.refused == 0);
        }
        if state.keeper.rests {
            state = self.give_back(state, &Block::is_free, 0);
        }
        if state.is_idle() {
            let enough = state.idle_min() + SPANS;
            drop(self.give_back_idle(state, enough));
        }
        made
    }

    /// Makes the lowest untouched block a huge page.
    fn make_ready<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let untouched = |region: &Region| region.find(Block::is_untouched);
        let found = state.regions.iter().position(|region| untouched(region).is_some());
        let region = match found {
            Some(region) => region,
            None => {
                drop(state);
                let region = Region::map();
                state = self.state.lock();
                state.insert(region)
            }
        };
        let place = (region, untouched(&state.regions[region]).unwrap_or(0));
        let hold = Self::hold(&mut state, place, ALL);
        drop(state);
        // SAFETY: the block is mapped and held, and nobody touched it.
        let huge = unsafe { sys::make_huge(hold.block) };
        state = self.state.lock();
        if !huge {
            state.keeper.refused = REFUSED_ROUNDS;
        }
        Self::release(&mut state, &hold, |block| {
            block.huge = huge;
            block.records = huge;
            block.resident = if huge { ALL } else { 0 };
        });
        state
    }

    /// Keeps spans of a block from being handed out. They are free.
    fn hold(state: &mut State, place: Place, spans: u128) -> Hold {
        debug_assert_eq!(state.regions[place.0].blocks[place.1].taken & spans, 0);
        state.change(place, |block| block.taken |= spans);
        Hold { block: state.regions[place.0].block(place.1), spans }
    }

    fn release(state: &mut State, hold: &Hold, change: impl FnOnce(&mut Block)) {
        let place = state.place_of(hold.block.addr().get());
        state.change(place, |block| {
            block.taken &= !hold.spans;
            change(block);
        });
    }

    /// Gives idle memory back until no more than `enough` spans are idle: free blocks first, then free spans of others, but
    /// of huge pages only where most of one is free, for the rest of it becomes small pages.
    fn give_back_idle<'a>(&'a self, state: MutexGuard<'a, State>, enough: usize) -> MutexGuard<'a, State> {
        let state = self.give_back(state, &Block::is_free, enough);
        self.give_back_parts(state, enough, SPANS / 2)
    }

    /// As `give_back_idle`, of huge pages where at least `parts` spans of one are free.
    fn give_back_parts<'a>(
        &'a self,
        state: MutexGuard<'a, State>,
        enough: usize,
        parts: usize,
    ) -> MutexGuard<'a, State> {
        let worthwhile = |block: &Block| !block.huge || block.idle().count_ones() as usize >= parts;
        let mut state = self.give_back(state, &worthwhile, enough);
        state.keeper.stuck = state.idle;
        state
    }

    /// Gives back what is idle in blocks that pass, the last first, until no more than `enough` spans are idle. Each block
    /// is tried once.
    fn give_back<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        pass: &dyn Fn(&Block) -> bool,
        enough: usize,
    ) -> MutexGuard<'a, State> {
        let mut below = usize::MAX;
        while state.idle > enough
            && let Some(place) = last_before(&state.regions, below, pass)
        {
            let it = state.regions[place.0].blocks[place.1];
            let whole = it.is_free();
            let hold = Self::hold(&mut state, place, if whole { ALL } else { it.idle() });
            below = hold.block.addr().get();
            drop(state);
            discard(&hold);
            state = self.state.lock();
            Self::release(&mut state, &hold, |block| {
                block.resident &= !hold.spans;
                block.records &= !whole;
                block.huge = false;
            });
        }
        while let Some(region) = state.take_surplus() {
            MutexGuard::unlocked(&mut state, || unmap(region));
        }
        state
    }

    /// Gives everything back that is idle and can be; returns how many bytes. Huge pages of which but little is free stay whole.
    pub(crate) fn release_unused(&self) -> usize {
        let state = self.state.lock();
        let before = state.idle;
        let state = self.give_back(state, &Block::is_free, 0);
        let state = self.give_back_parts(state, 0, SPANS / PART_WORTHWHILE);
        before.saturating_sub(state.idle) * SPAN_BYTES
    }
}

/// The last block below an address that has idle memory and passes.
fn last_before(regions: &[Region], below: usize, pass: &dyn Fn(&Block) -> bool) -> Option<Place> {
    let regions = regions.iter().enumerate().rev();
    for (at, region) in regions.filter(|(_, region)| region.idle > 0 && region.start.addr().get() < below) {
        for (index, block) in region.blocks.iter().enumerate().rev() {
            let address = region.start.addr().get() + index * BLOCK_BYTES;
            if address < below && block.idle() != 0 && pass(block) {
                return Some((at, index));
            }
        }
    }
    None
}

/// Gives the pages of held spans back to the system.
fn discard(hold: &Hold) {
    if hold.spans == ALL {
        // SAFETY: the block is mapped and held as a whole: what is in it, records and all, is not needed.
        unsafe { sys::discard(hold.block, BLOCK_BYTES) };
        return;
    }
    let mut left = hold.spans;
    while left != 0 {
        let first = left.trailing_zeros() as usize;
        let count = (left >> first).trailing_ones() as usize;
        left &= ALL.checked_shl((first + count) as u32).unwrap_or(0);
        let bytes = (first..first + count).map(bytes_of).sum();
        // SAFETY: neighbouring spans of the block, all held: they hold nothing. Records are not among them.
        unsafe { sys::discard(hold.block.add(start_of(first)), bytes) };
    }
}

const _: () = assert!(RECORDS_BYTES.is_multiple_of(sys::PAGE_BYTES));

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    impl Pool {
        fn idle_bytes(&self) -> usize {
            self.state.lock().idle * SPAN_BYTES
        }
    }

    impl Drop for Pool {
        fn drop(&mut self) {
            self.state.get_mut().regions.drain(..).for_each(unmap);
        }
    }

    #[derive(Clone, Debug)]
    enum Op {
        Take(usize),
        Put(prop::sample::Index, usize),
        PutAll,
        Keep,
        Release,
    }

    fn op() -> impl Strategy<Value = Op> {
        let most: usize = if cfg!(miri) { 40 } else { 1500 };
        prop_oneof![
            4 => (1..most).prop_map(Op::Take),
            3 => (any::<prop::sample::Index>(), 1..most).prop_map(|(nth, count)| Op::Put(nth, count)),
            1 => Just(Op::PutAll),
            5 => Just(Op::Keep),
            1 => Just(Op::Release),
        ]
    }

    /// What the pool handed out, and what was written there.
    struct Model {
        pool: Pool,
        used: BTreeMap<usize, *mut Span>,
    }

    /// The first and the last word of a span.
    unsafe fn ends(span: *mut Span) -> [*mut usize; 2] {
        let start = Span::block(span).wrapping_add(start_of(Span::index(span)));
        [start.cast(), start.wrapping_add(Span::bytes(span) - 8).cast()]
    }

    impl Model {
        fn take(&mut self) {
            let state = self.pool.state.lock();
            let idle: Vec<usize> = idle_addresses(&state);
            drop(state);
            let span = self.pool.take();
            let address = span.addr();
            if let Some(lowest) = idle.first() {
                assert_eq!(address, *lowest, "not the lowest idle span");
            }
            assert!(self.used.insert(address, span).is_none(), "handed out twice");
            // SAFETY: the span is ours.
            unsafe { ends(span).into_iter().for_each(|end| end.write(address)) };
        }

        fn put(&mut self, nth: usize) {
            let Some((address, span)) = self.used.iter().nth(nth).map(|(at, span)| (*at, *span)) else {
                return;
            };
            self.used.remove(&address);
            // SAFETY: taken above, and forgotten.
            unsafe {
                assert_eq!(ends(span).map(|end| end.read()), [address; 2], "a span in use lost its contents");
                self.pool.put(span);
            }
        }

        fn check(&self) {
            let state = self.pool.state.lock();
            let addresses = state.regions.windows(2);
            assert!(
                addresses
                    .into_iter()
                    .all(|two| two[0].start.addr().get() + REGION_BYTES <= two[1].start.addr().get())
            );
            let blocks = || state.regions.iter().flat_map(|region| &region.blocks);
            assert_eq!(state.used, self.used.len());
            assert_eq!(blocks().map(|block| block.taken.count_ones() as usize).sum::<usize>(), state.used);
            assert_eq!(blocks().map(|block| block.idle().count_ones() as usize).sum::<usize>(), state.idle);
            assert!(
                blocks().all(|block| block.taken & !block.resident == 0),
                "a span in use counts as not resident"
            );
            assert!(blocks().all(|block| !block.huge || block.resident == ALL));
            for (at, region) in state.regions.iter().enumerate() {
                let sum = |bits: fn(&Block) -> u32| {
                    region.blocks.iter().map(|block| bits(block) as usize).sum::<usize>()
                };
                assert_eq!(region.idle, sum(|block| block.idle().count_ones()));
                assert_eq!(region.free, sum(|block| block.taken.count_zeros()));
                assert!(region.idle == 0 || at >= state.first_idle, "an idle span is out of sight");
                assert!(region.free == 0 || at >= state.first_free, "a free span is out of sight");
            }
            for address in self.used.keys() {
                let (region, block) = state.place_of(*address);
                let index = address % BLOCK_BYTES / size_of::<Span>();
                assert_eq!(state.regions[region].blocks[block].taken >> index & 1, 1);
            }
        }
    }

    fn free_regions(state: &State) -> usize {
        state.regions.iter().filter(|region| region.is_free()).count()
    }

    fn idle_addresses(state: &State) -> Vec<usize> {
        let mut all = Vec::new();
        for region in &state.regions {
            for (at, block) in region.blocks.iter().enumerate() {
                let first = region.block(at).addr().get();
                let idle = (0..SPANS).filter(|index| block.idle() >> index & 1 == 1);
                all.extend(idle.map(|index| first + index * size_of::<Span>()));
            }
        }
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 60 }))]

        #[test]
        fn spans_are_nobody_elses_and_keep_their_contents(kept in any::<bool>(), ops in prop::collection::vec(op(), 1..40)) {
            let mut model = Model { pool: Pool::new(), used: BTreeMap::new() };
            for op in ops {
                match op {
                    Op::Take(count) => (0..count).for_each(|_| model.take()),
                    Op::Put(nth, count) => for _ in 0..count.min(model.used.len()) {
                        model.put(nth.index(model.used.len()));
                    },
                    Op::PutAll => while !model.used.is_empty() {
                        model.put(0);
                    },
                    Op::Keep => if kept {
                        model.pool.keep(Duration::from_micros(1), usize::MAX);
                        let state = model.pool.state.lock();
                        prop_assert!(state.keeper.refused > 0 || state.idle >= state.idle_min());
                        prop_assert!(state.idle <= state.idle_max().max(state.keeper.stuck + READY_MIN));
                    },
                    Op::Release => {
                        model.pool.release_unused();
                        let state = model.pool.state.lock();
                        prop_assert!(state.regions.iter().all(|region| region.blocks.iter().all(|block| {
                            block.is_untouched() || block.idle() == 0 || block.huge
                        })), "idle memory was kept");
                    }
                }
                model.check();
                prop_assert!(kept || free_regions(&model.pool.state.lock()) <= SPARE_REGIONS);
            }
            while !model.used.is_empty() {
                model.put(0);
            }
            model.pool.release_unused();
            model.check();
            prop_assert_eq!(model.pool.idle_bytes(), 0);
            prop_assert!(free_regions(&model.pool.state.lock()) <= SPARE_REGIONS);
        }
    }

    #[test]
    #[cfg(not(miri))]
    fn growth_is_met_with_huge_pages_and_little_in_reserve() {
        let pool = Pool::new();
        let mut spans: Vec<*mut Span> = (0..HUGE_FROM - 1).map(|_| pool.take()).collect();
        pool.keep(Duration::ZERO, usize::MAX);
        assert_eq!(pool.idle_bytes(), 0, "a small pool holds pages in reserve");
        let mut reserve_max = 0;
        for _ in 0..20 * SPANS {
            spans.push(pool.take());
            pool.keep(Duration::ZERO, usize::MAX);
            reserve_max = reserve_max.max(pool.idle_bytes());
        }
        let state = pool.state.lock();
        if state.keeper.refused > 0 {
            eprintln!("skipped: the kernel makes no huge pages here");
        } else {
            assert!(
                state.regions.iter().flat_map(|region| &region.blocks).filter(|block| block.huge).count()
                    >= 19
            );
            assert!(reserve_max <= (READY_MIN + SPANS) * SPAN_BYTES, "{reserve_max} bytes in reserve");
        }
        drop(state);
        for span in spans {
            // SAFETY: taken above, and forgotten.
            unsafe { pool.put(span) };
        }
        pool.keep(Duration::ZERO, usize::MAX);
        assert!(pool.idle_bytes() <= (READY_MIN + SPANS) * SPAN_BYTES, "what is free was not given back");
    }
}
