//! Invalidation of all keys with a prefix or a tag, in the same time however many keys there are.
//!
//! An invalidation is entered as a *rule* under the next number. Nothing is looked for then: the table is cut into *cells*, ranges of
//! hashes of some keys each, and every cell knows the last number that was carried out in it. Whoever is about to look at a key
//! *settles* it first ([`Db::settle`]): where the key's cell lags behind, a reader judges the key's own entry, and a writer has
//! the whole cell judged before it writes, so that what is written after an invalidation is told apart from what was there before by
//! nothing but the cell's number. A sweep in slices between turns settles the cells that nobody came to; once it has been round, the
//! rules up to the number it began at are forgotten, and with the last rule the cells.
//!
//! A position in the order of hashes is one that growth and shrinkage do not change, and a cell lies within one shard, whose lock
//! guards its number. While no rule is in force nothing of this is asked: a worker looks once for the requests that it has received
//! whether one is ([`Local::settles`]), and sends them the long way then. A request that was received before was sent before the
//! invalidation was answered, so it may be carried out as before it.
//!
//! Invariants: a cell's number never goes back; an entry that a rule with a higher number than its cell's concerns was written before
//! that rule was entered, or by a request that was received before. Read next: `rules.rs`, for what is in force;
//! `leases.rs`, for leases and tags.

use crate::db::Db;
use crate::discard::Removal;
use crate::effects::Event;
use crate::field_ends::DbTable;
use crate::followed::Followed;
use crate::keyspace::{Database, DbIndex, Hashed, Keyspace, Locked};
use crate::leases::{LeasePart, Leased, Mark, PARTS};
use crate::local::{Local, Millis};
use crate::rules::{Concerns, Force, Nature, Rules, Verdict};
use crate::snapshot::save_range;
use parking_lot::{Mutex, RwLock};
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

/// Keys that a cell has on average.
const CELL_KEYS: usize = 16;
/// Cells of a table, as powers of two.
const CELL_BITS: std::ops::RangeInclusive<u32> = 10..=20;

/// What came of an invalidation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entered {
    /// It is in force.
    Yes,
    /// There was nothing that it could concern.
    Needless,
    /// Too many are under way: to be asked again.
    Full,
}

/// The invalidations of one table.
#[derive(Debug)]
pub(crate) struct Generations {
    /// The last one there was. Never goes back.
    number: AtomicU64,
    is_live: AtomicBool,
    live: RwLock<Option<Box<Live>>>,
    round: Mutex<Round>,
    /// No other thread enters rules between two looks of one.
    is_of_one_thread: bool,
}

/// A round of the sweep.
#[derive(Debug, Default)]
struct Round {
    /// What it is to carry out everywhere; 0 where none is under way.
    target: u64,
    /// The next cell, and the next part of the leases.
    cell: usize,
    part: usize,
}

/// What is in force.
#[derive(Debug)]
pub(crate) struct Live {
    /// The number before the first rule.
    base: u64,
    /// The last number.
    newest: u64,
    cell_bits: u32,
    /// What was carried out in each cell, as a distance from `base`.
    cells: Box<[AtomicU32]>,
    rules: Rules,
}

impl Live {
    fn new(base: u64, keys: usize) -> Self {
        let bits = (keys / CELL_KEYS).max(1).ilog2() + 1;
        let cell_bits = bits.clamp(*CELL_BITS.start(), *CELL_BITS.end());
        let mut cells = Vec::new();
        cells.resize_with(1 << cell_bits, || AtomicU32::new(0));
        Live { base, newest: base, cell_bits, cells: cells.into(), rules: Rules::default() }
    }

    fn cell_of(&self, hash: u64) -> usize {
        (hash >> (u64::BITS - self.cell_bits)) as usize
    }

    fn carried_out(&self, cell: usize) -> u64 {
        self.cells.get(cell).map_or(self.newest, |cell| self.base + u64::from(cell.load(Relaxed)))
    }

    /// Whether an entry is one that is no longer there.
    pub(crate) fn is_gone(&self, followed: &Followed, db: DbIndex, key: &Hashed<'_>) -> bool {
        let above = self.carried_out(self.cell_of(key.hash));
        above < self.newest
            && self.rules.judge(key.bytes, above, |ask| ask_mark(followed, db, key, ask)) == Verdict::Gone
    }

    /// As [`Live::is_gone`], of an entry of a table that was flushed: what was known of single keys is gone with it.
    pub(crate) fn was_gone(&self, key: &Hashed<'_>) -> bool {
        let above = self.carried_out(self.cell_of(key.hash));
        above < self.newest && self.rules.judge(key.bytes, above, |_| ()) == Verdict::Gone
    }

    /// Says that all there is has been carried out in a cell. Its shard is locked.
    fn set_carried_out(&self, cell: usize) {
        if let Some(cell) = self.cells.get(cell) {
            cell.store((self.newest - self.base) as u32, Relaxed);
        }
    }

    /// The first and the last hash of a cell.
    fn range(&self, cell: usize) -> (u64, u64) {
        let shift = u64::BITS - self.cell_bits;
        let first = (cell as u64) << shift;
        (first, first | ((1 << shift) - 1))
    }
}

/// For assertions: that whoever is to settle keys does. Where there are several threads, one may enter a rule at any moment.
impl DbTable {
    pub(crate) fn is_settled(&self, local: &Local, db: DbIndex, key: &Hashed<'_>) -> bool {
        let of_one = self.generations.is_of_one_thread;
        !(local.settles && of_one && self.generations.is_gone(&self.followed, db, key))
    }

    pub(crate) fn is_settled_for_writing(&self, local: &Local, key: &Hashed<'_>) -> bool {
        !(local.settles && self.generations.is_of_one_thread && self.generations.lags(key.hash))
    }
}

impl Generations {
    pub(crate) fn new(workers: usize) -> Self {
        Generations {
            number: AtomicU64::new(0),
            is_live: AtomicBool::new(false),
            live: RwLock::new(None),
            round: Mutex::default(),
            is_of_one_thread: workers == 1,
        }
    }

    /// The last invalidation there was.
    fn number(&self) -> u64 {
        self.number.load(Acquire)
    }

    /// Whether an entry is one that is no longer there.
    pub(crate) fn is_gone(&self, followed: &Followed, db: DbIndex, key: &Hashed<'_>) -> bool {
        if !self.is_live.load(Relaxed) {
            return false;
        }
        self.live.read().as_deref().is_some_and(|live| live.is_gone(followed, db, key))
    }

    /// Takes what is in force out: the table is flushed, and everything is held. The leases of its database went with it.
    fn take(&self) -> Option<Box<Live>> {
        let live = self.live.write().take()?;
        self.is_live.store(false, Relaxed);
        *self.round.lock() = Round::default();
        Some(live)
    }

    fn lags(&self, hash: u64) -> bool {
        let live = self.live.read();
        live.as_deref().is_some_and(|live| live.carried_out(live.cell_of(hash)) < live.newest)
    }
}

fn ask_mark(followed: &Followed, db: DbIndex, key: &Hashed<'_>, ask: &mut dyn FnMut(&Mark)) {
    if followed.leases.has_marks() {
        followed.leases.with_mark(db, (key.bytes, key.hash), |mark| ask(mark));
    }
}

/// How many invalidations there were.
#[derive(Debug, Default)]
pub struct Invalidated {
    /// Invalidations of prefixes.
    pub prefixes: AtomicU64,
    /// Invalidations of tags.
    pub tags: AtomicU64,
    /// Invalidations of keys.
    pub keys: AtomicU64,
    /// Tables that have rules in force.
    lagging: AtomicUsize,
}

impl Invalidated {
    /// Counts from zero again.
    pub fn reset(&self) {
        [&self.prefixes, &self.tags, &self.keys].iter().for_each(|count| count.store(0, Relaxed));
    }
}

impl Keyspace {
    /// Whether an invalidation of a prefix or a tag is still to be carried out anywhere. One load.
    #[inline]
    pub fn is_lagging(&self) -> bool {
        // Acquire: pairs with the Release in `invalidate`: who sees it sees the rules.
        self.invalidated.lagging.load(Acquire) != 0
    }

    /// A table is flushed, and everything is held: what invalidations say of what was in it, for who is still to save that.
    pub(crate) fn take_invalidations(&self, table: &DbTable) -> Option<Box<Live>> {
        let live = table.generations.take()?;
        self.invalidated.lagging.fetch_sub(1, Relaxed);
        Some(live)
    }

    /// Rules in force. O(tables).
    pub fn rules(&self) -> usize {
        let rules =
            |table: &DbTable| table.generations.live.read().as_deref().map_or(0, |live| live.rules.len());
        if self.is_lagging() { self.tables_in_use().map(rules).sum() } else { 0 }
    }

    /// Invalidates what there is of a prefix or a tag at this moment. The time it takes does not depend on how many keys there are.
    pub fn invalidate(
        &self,
        db: DbIndex,
        concerns: Concerns<'_>,
        (force, at): (Force, Millis),
        nature: &Arc<dyn Nature>,
    ) -> Entered {
        let Some(table) = self.table_if_used(db) else { return Entered::Needless };
        let generations = &table.generations;
        let mut live = generations.live.write();
        if live.is_none() && table.is_empty() && self.followed.leases.is_empty(db) {
            return Entered::Needless;
        }
        let number = generations.number();
        let is_new = live.is_none();
        let state = live.get_or_insert_with(|| Box::new(Live::new(number, table.len())));
        if number - state.base >= u64::from(u32::MAX)
            || !state.rules.enter(concerns, (number + 1, force, at), nature)
        {
            return Entered::Full;
        }
        state.newest = number + 1;
        generations.number.store(number + 1, Release);
        if is_new {
            generations.is_live.store(true, Relaxed);
            self.invalidated.lagging.fetch_add(1, Release);
        }
        match concerns {
            Concerns::Prefix(_) => &self.invalidated.prefixes,
            Concerns::Tag(_) => &self.invalidated.tags,
        }
        .fetch_add(1, Relaxed);
        Entered::Yes
    }

    /// Carries out what is in force where nobody came by, cell after cell, while there is time. True when nothing is left to
    /// do, false when there is or when somebody else has a shard that is wanted.
    pub fn sweep_invalidated(&self, local: &mut Local, more_time: &mut dyn FnMut() -> bool) -> bool {
        let mut is_done = true;
        for (number, table) in self.numbered_tables() {
            if table.generations.is_live.load(Relaxed) {
                is_done &= self.sweep_table(self.database_of(number), table, local, more_time);
            }
        }
        is_done
    }

    fn sweep_table(
        &self,
        index: DbIndex,
        table: &DbTable,
        local: &mut Local,
        more_time: &mut dyn FnMut() -> bool,
    ) -> bool {
        let generations = &table.generations;
        // Another worker is at it.
        let Some(mut round) = generations.round.try_lock() else { return true };
        loop {
            let (cells, newest) = match generations.live.read().as_deref() {
                Some(live) => (live.cells.len(), live.newest),
                None => return true,
            };
            if round.target == 0 {
                *round = Round { target: newest, cell: 0, part: 0 };
            }
            while round.cell < cells {
                if !sweep_cell(table, index, round.cell, local) {
                    return false;
                }
                round.cell += 1;
                if !more_time() {
                    return false;
                }
            }
            while round.part < PARTS {
                self.settle_leases(table, index, round.part);
                round.part += 1;
                if !more_time() {
                    return false;
                }
            }
            let target = std::mem::take(&mut round.target);
            let mut live = generations.live.write();
            let Some(state) = live.as_deref_mut() else { return true };
            state.rules.forget(target);
            if state.newest == target {
                *live = None;
                generations.is_live.store(false, Relaxed);
                self.invalidated.lagging.fetch_sub(1, Relaxed);
                return true;
            }
        }
    }

    /// Ends the leases of one part that rules in force concern.
    fn settle_leases(&self, table: &DbTable, index: DbIndex, part: usize) {
        let live = table.generations.live.read();
        let Some(live) = live.as_deref() else { return };
        let ends = |key: &[u8], above: u64, part: &LeasePart| {
            let mark = |ask: &mut dyn FnMut(&Mark)| part.mark(key).into_iter().for_each(ask);
            live.rules.judge(key, above, mark) != Verdict::Stays
        };
        let hash = |key: &[u8]| table.hash(key);
        self.followed.fewer(self.followed.leases.settle_part(index, part, live.newest, hash, ends));
    }
}

/// Settles a cell. False when somebody else has its shard.
fn sweep_cell(table: &DbTable, index: DbIndex, cell: usize, local: &mut Local) -> bool {
    let live = table.generations.live.read();
    let Some(live) = live.as_deref() else { return true };
    if live.carried_out(cell) < live.newest {
        let Some(guard) = table.try_lock(table.shard_of(live.range(cell).0)) else { return false };
        let mut db = Db::on(Database { table, index }, Locked::one(guard), local);
        db.settle_cell(live, cell);
    }
    local.free_spent();
    true
}

impl Db<'_> {
    /// Has what invalidations say of a key carried out, before it is looked at (`writes`: or written). Where none is in
    /// force it costs a load.
    pub fn settle(&mut self, key: &Hashed<'_>, writes: bool) {
        let table = self.table;
        if !table.generations.is_live.load(Relaxed) {
            return;
        }
        let live = table.generations.live.read();
        let Some(live) = live.as_deref() else { return };
        let cell = live.cell_of(key.hash);
        let above = live.carried_out(cell);
        if above >= live.newest {
            return;
        }
        if writes {
            return self.settle_cell(live, cell);
        }
        let (index, followed) = (self.index, &table.followed);
        let shard = self.locked.shard(table.shard_of(key.hash));
        if shard.find(key.hash, key.bytes).is_some() {
            let verdict = live.rules.judge(key.bytes, above, |ask| ask_mark(followed, index, key, ask));
            self.save_before((key.hash, key.hash), live);
            self.carry_out(key, verdict, live);
        }
    }

    /// Carries out all there is in a cell.
    fn settle_cell(&mut self, live: &Live, cell: usize) {
        let (first, last) = live.range(cell);
        self.save_before((first, last), live);
        let above = live.carried_out(cell);
        let (table, index) = (self.table, self.index);
        let followed = &table.followed;
        let mut judged: Vec<(Box<[u8]>, u64, Verdict)> = Vec::new();
        let shard = self.locked.shard(table.shard_of(first));
        let (mut at, mut seen) = (first, 0);
        loop {
            let next = shard.scan_home(at, &mut |entry| {
                let key = Hashed { bytes: entry.key(), hash: table.hash(entry.key()) };
                if !(first..=last).contains(&key.hash) {
                    return;
                }
                seen += 1;
                let verdict = live.rules.judge(key.bytes, above, |ask| ask_mark(followed, index, &key, ask));
                if verdict != Verdict::Stays {
                    judged.push((key.bytes.into(), key.hash, verdict));
                }
            });
            match next.filter(|next| *next <= last) {
                Some(next) => at = next,
                None => break,
            }
        }
        self.local.stats.settled.add(seen);
        live.set_carried_out(cell);
        for (key, hash, verdict) in judged {
            self.carry_out(&Hashed { bytes: &key, hash }, verdict, live);
        }
    }

    /// Has a snapshot in force save what lies between two hashes of one shard, as invalidations have left it so far.
    fn save_before(&mut self, range: (u64, u64), live: &Live) {
        if self.local.is_saving() {
            let shard = self.locked.shard(self.table.shard_of(range.0));
            save_range((self.table, self.index), shard, self.local, range, live);
        }
    }

    fn carry_out(&mut self, key: &Hashed<'_>, verdict: Verdict, live: &Live) {
        let settles = std::mem::replace(&mut self.local.settles, false);
        match verdict {
            Verdict::Stays => {}
            Verdict::Gone => drop(self.drop_copy(key)),
            Verdict::Old(at) => drop(self.make_old(key, at, live.rules.grace_ms(key.bytes))),
        }
        // Outside of a transaction it has told that already.
        let log = &self.local.effects.log;
        if verdict != Verdict::Stays && log.is_on() && !log.is_outside() {
            self.log_state(key);
        }
        self.local.settles = settles;
    }

    /// Removes a key as an invalidation does: it is announced as by DEL. Answers whether it was there.
    pub fn drop_copy(&mut self, key: &Hashed<'_>) -> bool {
        let existed = self.remove_for(key, Removal::Deleted);
        if existed {
            self.local.stats.invalidated.add(1);
            self.changed(key, Event::DEL);
        }
        existed
    }

    /// Has a value be old since `at`: it stays for as long as an old value may be given, `grace_ms` unless it has a mark
    /// that says how long. Answers whether there was one.
    pub fn make_old(&mut self, key: &Hashed<'_>, at: Millis, grace_ms: u64) -> bool {
        let Some(end) = self.deadline(key) else { return false };
        let marked = self.table.followed.leases.with_mark(self.index, (key.bytes, key.hash), |mark| {
            if mark.stale_ms != 0 {
                mark.fresh_until = Some(mark.fresh_until.map_or(at, |until| until.min(at)));
            }
            mark.stale_ms
        });
        let grace_ms = marked.filter(|grace| *grace != 0).unwrap_or(grace_ms);
        let until = Millis(at.0.saturating_add(grace_ms));
        if until <= self.now() {
            return self.drop_copy(key);
        }
        if end.is_none_or(|end| end > until) {
            self.set_deadline(key, Some(until));
            self.local.stats.softened.add(1);
            self.changed(key, Event::EXPIRE);
        }
        true
    }

    /// Whether the value of a key is old and only to be given to those who know.
    pub fn is_old(&self, key: &Hashed<'_>) -> bool {
        let now = self.now();
        let is_over = |mark: &mut Mark| mark.fresh_until.is_some_and(|until| until <= now);
        self.table.followed.leases.with_mark(self.index, (key.bytes, key.hash), is_over).unwrap_or(false)
    }

    /// Gives a key's lease out under a token, until `until`, unless somebody has it.
    pub fn lease(&mut self, key: &Hashed<'_>, token: u64, until: Millis) -> Leased {
        // One that an invalidation ended is nobody's.
        self.lease_stands(key);
        let (stands_at, now) = (self.table.generations.number(), self.now());
        self.table.followed.lease(self.index, (key.bytes, key.hash), (token, stands_at), (now, until))
    }

    /// The token of the lease of a key, if one is out and nothing has ended it.
    pub fn lease_stands(&mut self, key: &Hashed<'_>) -> Option<u64> {
        let (index, followed) = (self.index, &self.table.followed);
        let standing = followed.leases.standing(index, key.bytes, key.hash, self.now())?;
        let live = self.table.generations.live.read();
        if let Some(live) = live.as_deref()
            && standing.stands_at < live.newest
        {
            let ask = |ask: &mut dyn FnMut(&Mark)| ask_mark(followed, index, key, ask);
            if live.rules.judge(key.bytes, standing.stands_at, ask) != Verdict::Stays {
                followed.end_lease(index, key.bytes, key.hash);
                return None;
            }
        }
        Some(standing.token)
    }

    /// Ends the lease of a key, if one is out.
    pub fn end_lease(&mut self, key: &Hashed<'_>) {
        self.table.followed.end_lease(self.index, key.bytes, key.hash);
    }

    /// Says what is known of the value of a key.
    pub fn mark(&mut self, key: &Hashed<'_>, mark: Mark) {
        self.table.followed.mark(self.index, key.bytes, key.hash, mark);
    }

    /// The tags that a key was given with its value.
    pub fn tags(&self, key: &Hashed<'_>) -> Vec<Vec<u8>> {
        let tags = |mark: &mut Mark| mark.tags().map(<[u8]>::to_vec).collect();
        self.table.followed.leases.with_mark(self.index, (key.bytes, key.hash), tags).unwrap_or_default()
    }

    /// What was counted of leases.
    pub fn lease_counts(&self) -> &crate::leases::LeaseCounts {
        &self.table.followed.leases.counts
    }
}
