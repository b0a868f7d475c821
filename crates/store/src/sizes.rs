//! How large the values of a table are: for each type and power of two, how many values have a size from it on.
//!
//! A size is the bytes of a string and the elements of a collection. Each worker has counts of its own, so that none
//! writes a line that another writes; a single one may be negative, since who removes a value need not be who stored
//! it, and only their sums mean something. A change within a power of two writes nothing.
//! Invariant: the sums are what a walk over all values would count, of every type but streams, which have none.

use crate::discard::Removal;
use crate::field_ends::DbTable;
use crate::local::Local;
use crate::object::{Object, Type, has_ends, size_of_value};
use crate::string::{decode_int, kind, text_len};
use larder_table::{Entry, Occupied, Payload, PayloadRef, Pinned, Removed};
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

/// Sizes of no element, and from each power of two on.
pub const SIZE_BINS: usize = 65;

/// The types whose sizes are counted, in the order in which INFO names them.
pub const SIZED_TYPES: [Type; 5] = [Type::String, Type::List, Type::Set, Type::ZSet, Type::Hash];

/// Where a type stands in [`SIZED_TYPES`].
#[inline]
fn row_of(value_type: Type) -> Option<usize> {
    match value_type {
        Type::String => Some(0),
        Type::List => Some(1),
        Type::Set => Some(2),
        Type::ZSet => Some(3),
        Type::Hash => Some(4),
        Type::Stream => None,
    }
}

/// The bin of a size: 0 for 0, else one more than the power of two.
#[inline]
fn bin_of(size: usize) -> usize {
    (usize::BITS - size.leading_zeros()) as usize
}

/// One worker's counts. On lines of their own.
#[repr(align(64))]
struct Counts([[AtomicI64; SIZE_BINS]; SIZED_TYPES.len()]);

impl Counts {
    fn new() -> Counts {
        Counts(std::array::from_fn(|_| std::array::from_fn(|_| AtomicI64::new(0))))
    }

    /// Only the worker whose counts they are may call this, or who has everything to itself.
    #[inline]
    fn add(&self, value_type: Type, size: usize, change: i64) {
        let bin = row_of(value_type).and_then(|row| self.0.get(row)?.get(bin_of(size)));
        if let Some(bin) = bin {
            bin.store(bin.load(Relaxed).wrapping_add(change), Relaxed);
        }
    }
}

/// The sizes of the values of a table.
// Differs from Redis: an empty string that SETBIT or BITFIELD lengthens is counted under the length it has then;
// Redis leaves it under 0, and takes it away where it never counted it.
pub(crate) struct Sizes(Box<[Counts]>);

impl Sizes {
    pub(crate) fn new(workers: usize) -> Sizes {
        Sizes((0..workers.max(1)).map(|_| Counts::new()).collect())
    }

    #[inline]
    fn of(&self, local: &Local) -> Option<&Counts> {
        let counts = self.0.get(local.worker);
        debug_assert!(counts.is_some(), "worker {} has no counts", local.worker);
        counts
    }

    /// Counts a value that was stored.
    #[inline]
    pub(crate) fn came(&self, local: &Local, value_type: Type, size: usize) {
        self.of(local).into_iter().for_each(|counts| counts.add(value_type, size, 1));
    }

    /// Counts a value that was removed.
    #[inline]
    pub(crate) fn went(&self, local: &Local, value_type: Type, size: usize) {
        self.of(local).into_iter().for_each(|counts| counts.add(value_type, size, -1));
    }

    /// Counts a value that was edited.
    #[inline]
    pub(crate) fn changed(&self, local: &Local, value_type: Type, before: usize, after: usize) {
        if bin_of(before) != bin_of(after) {
            self.went(local, value_type, before);
            self.came(local, value_type, after);
        }
    }

    /// How many values of a type have sizes of each bin: the first of size 0, the others from 1, 2, 4 ... on.
    pub(crate) fn sum(&self, value_type: Type) -> [u64; SIZE_BINS] {
        let Some(row) = row_of(value_type) else { return [0; SIZE_BINS] };
        std::array::from_fn(|bin| {
            let of_all = self.0.iter().filter_map(|counts| Some(counts.0.get(row)?.get(bin)?.load(Relaxed)));
            // While others store and remove, a sum may be seen between the two.
            of_all.fold(0, i64::wrapping_add).max(0) as u64
        })
    }

    /// Forgets everything: the table is flushed, and nobody else is at it.
    pub(crate) fn clear(&self) {
        self.0.iter().flat_map(|counts| counts.0.iter().flatten()).for_each(|bin| bin.store(0, Relaxed));
    }
}

/// The type and the size of a value.
type Sized = (Type, usize);

/// The sizes of a value that is about to be replaced and of the one that takes its place.
pub(crate) struct Replacing {
    before: Sized,
    after: Sized,
}

impl Replacing {
    /// Looks at both. `None` for two texts of one form, of which the lengths of their payloads tell enough: they are
    /// at hand when one has taken the place of the other.
    #[inline]
    pub(crate) fn of(
        entry: &Entry<'_, Object>,
        kind: u8,
        payload: &Payload<'_, Object>,
    ) -> Option<Replacing> {
        if entry.kind() == kind && kind::is_text(kind) {
            return None;
        }
        Some(Replacing::otherwise(entry, kind, payload))
    }

    #[inline(never)]
    fn otherwise(entry: &Entry<'_, Object>, kind: u8, payload: &Payload<'_, Object>) -> Replacing {
        let (old_kind, old) = (entry.kind(), entry.payload());
        if kind == kind::INT
            && old_kind == kind::INT
            && let (PayloadRef::Inline(before), Payload::Inline(after)) = (&old, payload)
            && alike(decode_int(before), decode_int(after))
        {
            return Replacing { before: (Type::String, 0), after: (Type::String, 0) };
        }
        let before = (Type::of_kind(old_kind), size_of_value(old_kind, old));
        Replacing { before, after: sized(kind, payload) }
    }
}

/// The type and the size of a value that is about to be stored.
fn sized(kind: u8, payload: &Payload<'_, Object>) -> Sized {
    let payload = match payload {
        Payload::Inline(bytes) => PayloadRef::Inline(bytes),
        Payload::Boxed(object) => PayloadRef::Boxed(object),
    };
    (Type::of_kind(kind), size_of_value(kind, payload))
}

/// Whether two integers have lengths of one bin for certain: most pairs that do are told by a few instructions.
#[inline]
fn alike(one: i64, other: i64) -> bool {
    /// By leading zeros: numbers of so many bits need not have lengths of one bin. Those of 4, 10, 24 and 50 bits
    /// have a power of ten among them at which a bin ends; negative ones have any length, and zero stands for them.
    const MIXED: u64 = 1 << 60 | 1 << 54 | 1 << 40 | 1 << 14 | 1;
    let bits = one.leading_zeros();
    bits == other.leading_zeros() && MIXED >> (bits & 63) & 1 == 0
}

impl DbTable {
    /// Counts a value that is about to be stored under a new key.
    pub(crate) fn storing(&self, local: &Local, kind: u8, payload: &Payload<'_, Object>) {
        let (value_type, size) = sized(kind, payload);
        self.sizes.came(local, value_type, size);
    }

    /// Counts a value that took the place of another, which is `removed`; `inline_len` is that of its payload.
    #[inline]
    pub(crate) fn replaced(
        &self,
        local: &Local,
        replacing: Option<Replacing>,
        removed: &Removed<Object>,
        inline_len: Option<usize>,
    ) {
        match replacing {
            None if removed.inline_len == inline_len => {}
            None => self.text_replaced(local, removed, inline_len),
            Some(replacing) => self.replaced_otherwise(local, &replacing),
        }
    }

    #[inline(never)]
    fn text_replaced(&self, local: &Local, removed: &Removed<Object>, inline_len: Option<usize>) {
        let [before, after] =
            [removed.inline_len, inline_len].map(|len| text_len(removed.kind, len.unwrap_or(0)));
        self.sizes.changed(local, Type::String, before, after);
    }

    /// Counts an integer that took the place of another.
    #[inline]
    pub(crate) fn counted(&self, local: &Local, before: i64, after: i64) {
        if !alike(before, after) {
            let [before, after] = [before, after].map(larder_values::number::i64_len);
            self.sizes.changed(local, Type::String, before, after);
        }
    }

    #[inline(never)]
    fn replaced_otherwise(&self, local: &Local, replacing: &Replacing) {
        let ((type_before, size_before), (type_after, size_after)) = (replacing.before, replacing.after);
        if type_before == type_after {
            self.sizes.changed(local, type_after, size_before, size_after);
        } else {
            self.sizes.went(local, type_before, size_before);
            self.sizes.came(local, type_after, size_after);
        }
    }

    /// Removes a key, and with it what the table knows of its value beside the entry.
    pub(crate) fn remove(
        &self,
        local: &mut Local,
        hash: u64,
        key: &[u8],
        occupied: Occupied<'_, '_, Object>,
        removal: Removal,
    ) -> Removed<Object> {
        let entry = occupied.view();
        let size = size_of_value(entry.kind(), entry.payload());
        let removed = occupied.remove();
        self.sizes.went(local, Type::of_kind(removed.kind), size);
        self.forget(hash, key, &removed);
        self.rest.note(self.number, hash, key);
        local.insight.removed(hash, removal, local.now);
        if matches!(removal, Removal::Deleted | Removal::Unlinked) {
            local.stats.deleted.add(1);
        }
        local.uses.removed(self.number, hash, key, &removed);
        removed
    }

    /// Removes a key that its policy has chosen.
    pub(crate) fn evict(&self, local: &Local, pinned: Pinned<'_, Object>) -> Removed<Object> {
        let entry = pinned.entry();
        let (kind, payload) = (entry.kind(), entry.payload());
        self.sizes.went(local, Type::of_kind(kind), size_of_value(kind, entry.payload()));
        let boxed = if let PayloadRef::Boxed(object) = payload { Some(object) } else { None };
        if has_ends(kind, boxed) {
            self.field_ends.note(pinned.shard().index(), entry.key(), u64::MAX);
        }
        self.rest.note(self.number, pinned.hash(), entry.key());
        pinned.remove()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::{Db, Expire};
    use crate::keyspace::{DbIndex, Keyspace};
    use crate::local::Millis;
    use crate::stats::StoreStats;
    use larder_table::{Epochs, Hasher};
    use larder_values::hash::{End, Hash, PackedLimits};
    use larder_values::list::{self, Limit, List};
    use proptest::prelude::*;
    use std::sync::Arc;

    #[derive(Debug, Clone)]
    enum Step {
        Put(Vec<u8>, Option<u64>),
        Integer(i64),
        Append(usize),
        Push(usize),
        Pop(usize),
        Fields(u8, Option<u64>),
        Remove,
        Rename(u8),
        Copy(u8),
        Move,
        Wait(u64),
        Swap,
        Flush,
        Evict,
    }

    fn step() -> impl Strategy<Value = Step> {
        let text = prop_oneof![
            "[a-z]{0,40}".prop_map(String::into_bytes),
            any::<i64>().prop_map(|value| (value >> (value & 63)).to_string().into_bytes()),
            (0_usize..3000).prop_map(|len| vec![200; len]),
        ];
        prop_oneof![
            6 => (text, proptest::option::of(1_u64..50)).prop_map(|(text, end)| Step::Put(text, end)),
            3 => any::<i64>().prop_map(|value| Step::Integer(value >> (value & 63).max(1))),
            3 => (0_usize..900).prop_map(Step::Append),
            3 => (0_usize..30).prop_map(Step::Push),
            3 => (1_usize..40).prop_map(Step::Pop),
            3 => (0_u8..9, proptest::option::of(1_u64..50)).prop_map(|(field, end)| Step::Fields(field, end)),
            1 => Just(Step::Remove),
            1 => (0_u8..6).prop_map(Step::Rename),
            1 => (0_u8..6).prop_map(Step::Copy),
            1 => Just(Step::Move),
            1 => (0_u64..30).prop_map(Step::Wait),
            1 => Just(Step::Swap),
            1 => Just(Step::Flush),
            1 => Just(Step::Evict),
        ]
    }

    const ONE: DbIndex = DbIndex(0);
    const OTHER: DbIndex = DbIndex(1);

    /// What a walk over all values counts.
    fn counted(keyspace: &Keyspace, db: DbIndex, value_type: Type) -> [u64; SIZE_BINS] {
        let (table, mut bins) = (keyspace.table(db), [0; SIZE_BINS]);
        let mut cursor = 0;
        loop {
            cursor = table.scan(cursor, &mut |entry| {
                if Type::of_kind(entry.kind()) == value_type {
                    bins[bin_of(size_of_value(entry.kind(), entry.payload()))] += 1;
                }
            });
            if cursor == 0 {
                return bins;
            }
        }
    }

    fn with_key(
        keyspace: &Keyspace,
        db: DbIndex,
        local: &mut Local,
        key: u8,
        act: impl FnOnce(&mut Db<'_>, &crate::keyspace::Hashed<'_>),
    ) {
        let key = [key];
        let locked = keyspace.lock_many(db, &[keyspace.hash(&key)]);
        let mut db = Db::new(keyspace, db, locked, local);
        let key = db.key(&key);
        act(&mut db, &key);
    }

    fn edit(db: &mut Db<'_>, key: &crate::keyspace::Hashed<'_>, step: &Step) {
        let (limit, limits) = (Limit::of(8), PackedLimits { entries_max: 4, value_bytes_max: 64 });
        let now = db.now().0;
        let end = |after: &Option<u64>| after.map(|after| Millis(now + after));
        match step {
            Step::Put(text, after) => {
                db.put_string(key, text, end(after).map_or(Expire::Keep, Expire::At));
            }
            Step::Integer(value) => drop(db.edit_integer(key, |before| match before.checked_add(*value) {
                Some(sum) => Ok(sum),
                None => Err(()),
            })),
            Step::Append(count) => {
                let _ = db.edit_string(key, |text| (text.resize(text.len() + count, 1), true));
            }
            Step::Push(count) => drop(db.edit_or_create::<List, _>(key, |list| {
                for _ in 0..*count {
                    list.make_room(limit, 1, 1);
                    list.push(list::End::Tail, b"x");
                }
            })),
            Step::Pop(count) => {
                let _ = db.edit::<List, _>(key, |list| list.pop(limit, list::End::Head, *count, |_| ()));
            }
            Step::Fields(field, after) => drop(db.edit_or_create::<Hash, _>(key, |hash| {
                let end = end(after).map_or(End::Keep, |end| End::At(end.0));
                hash.set(&[*field], b"v", end, now, limits);
                hash.set(b"other", b"v", end, now, limits);
            })),
            Step::Remove => drop(db.remove(key)),
            _ => {}
        }
    }

    fn apply(keyspace: &Keyspace, locals: &mut [Local; 2], key: u8, step: &Step) {
        let local = &mut locals[usize::from(key) % 2];
        let take = |local: &mut Local, copy: bool| {
            let mut value = None;
            with_key(keyspace, ONE, local, key, |db, key| {
                value = if copy { db.peek(key).map(|item| item.to_value()) } else { db.take(key) };
            });
            value
        };
        let put = |local: &mut Local, db: DbIndex, to: u8, value| {
            with_key(keyspace, db, local, to, |db, key| {
                db.remove(key);
                db.put_value(key, value);
            });
        };
        match step {
            Step::Rename(to) | Step::Copy(to) => {
                if let Some(value) = take(local, matches!(step, Step::Copy(_))) {
                    put(local, ONE, *to, value);
                }
            }
            Step::Move => {
                if let Some(value) = take(local, false) {
                    put(local, OTHER, key, value);
                }
            }
            Step::Wait(ms) => {
                locals.iter_mut().for_each(|local| local.now.0 += ms);
                if ms % 2 == 0 {
                    keyspace.sweep_expired((0, 1), &mut locals[0], &mut || true);
                }
            }
            Step::Swap => keyspace.swap(ONE, OTHER, local),
            Step::Flush => drop(keyspace.flush(ONE, &mut local.effects)),
            Step::Evict => {
                let (kind, scope) = (crate::Kind::Random, crate::Scope::All);
                let mut evictor = crate::Evictor::default();
                evictor
                    .follow(keyspace.choose_policy(Some(crate::Choice { kind, scope, admission: false }), 8));
                evictor.evict(keyspace, local, 1, 1);
            }
            step => with_key(keyspace, ONE, local, key, |db, key| edit(db, key, step)),
        }
    }

    #[test]
    fn bins_are_powers_of_two() {
        let bins: Vec<usize> =
            [0, 1, 2, 3, 4, 7, 8, 1023, 1024, usize::MAX].into_iter().map(bin_of).collect();
        assert_eq!(bins, [0, 1, 2, 2, 3, 3, 4, 10, 11, 64]);
    }

    #[test]
    fn integers_around_powers_of_ten_are_never_taken_for_alike() {
        let bin = |value: i64| bin_of(larder_values::number::i64_len(value));
        let mut edges: Vec<i64> = (0..63).flat_map(|power| [1 << power, (1_i64 << power) - 1]).collect();
        edges.extend((0..19).flat_map(|power| [10_i64.pow(power), 10_i64.pow(power) - 1]));
        edges.extend(edges.clone().into_iter().map(|edge| -edge));
        edges.extend([i64::MIN, i64::MAX]);
        for one in &edges {
            for other in &edges {
                assert!(!alike(*one, *other) || bin(*one) == bin(*other), "{one} {other}");
            }
        }
        assert!(alike(100_000, 120_000) && alike(5, 6) && !alike(9, 10));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn what_is_counted_is_what_there_is(steps in proptest::collection::vec((0_u8..6, step()), 1..120)) {
            let keyspace = Keyspace::new(2, 2, Hasher::keyed([1, 2]), Epochs::new(2));
            let mut locals = [0, 1].map(|worker| {
                let mut local = Local::of_worker(worker, 7, Arc::new(StoreStats::default()));
                local.now = Millis(1_700_000_000_000);
                local
            });
            for (key, step) in steps {
                apply(&keyspace, &mut locals, key, &step);
                for db in [ONE, OTHER] {
                    for value_type in SIZED_TYPES {
                        let told = keyspace.sizes(db, value_type).unwrap_or([0; SIZE_BINS]);
                        let there = counted(&keyspace, db, value_type);
                        prop_assert!(told == there, "{value_type:?} after {step:?}: {told:?} for {there:?}");
                    }
                }
            }
        }

        #[test]
        fn what_is_alike_has_one_bin(one in any::<i64>(), other in any::<i64>(), shift in 0_u32..63) {
            let (one, other) = (one >> shift, other >> shift);
            let bin = |value: i64| bin_of(larder_values::number::i64_len(value));
            prop_assert!(!alike(one, other) || bin(one) == bin(other));
        }
    }
}
