//! Hashes beside a map, in every form.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Debug, Clone)]
enum Step {
    Set(u8, Vec<u8>, End),
    SetEnd(u8, Option<u64>),
    Increment(u8, i64),
    Remove(u8),
    Wait(u64),
    Expire(usize),
    Table,
}

fn field(number: u8) -> Vec<u8> {
    match number {
        ..20 => number.to_string().into_bytes(),
        20..40 => vec![number],
        _ => vec![b'f'; usize::from(number)],
    }
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![Just(End::Clear), Just(End::Keep), (0_u64..200).prop_map(End::At)]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        any::<i64>().prop_map(|value| value.to_string().into_bytes()),
        (0_i64..50).prop_map(|value| value.to_string().into_bytes()),
        proptest::collection::vec(any::<u8>(), 0..20),
        Just(vec![b'v'; 500]),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let number = 0_u8..60;
    prop_oneof![
        10 => (number.clone(), value(), end()).prop_map(|(field, value, end)| Step::Set(field, value, end)),
        4 => (number.clone(), proptest::option::of(0_u64..200)).prop_map(|(field, end)| Step::SetEnd(field, end)),
        4 => (number.clone(), any::<i64>()).prop_map(|(field, by)| Step::Increment(field, by)),
        4 => number.prop_map(Step::Remove),
        2 => (0_u64..30).prop_map(Step::Wait),
        1 => (0_usize..5).prop_map(Step::Expire),
        1 => Just(Step::Table),
    ]
}

/// A hash and what it is to hold; ends are relative to the time at which they were given.
#[derive(Default)]
struct Pair {
    hash: Hash,
    model: BTreeMap<Vec<u8>, (Vec<u8>, Option<u64>)>,
    now: u64,
    limits: Option<PackedLimits>,
}

impl Pair {
    fn before(&self, field: &[u8]) -> Before {
        self.model.get(field).map_or(Before::Absent, |(_, end)| Before::of(*end, self.now))
    }

    fn set(&mut self, field: &[u8], value: &[u8], end: End, limits: PackedLimits) {
        let before = self.before(field);
        let end = if let End::At(delay) = end { End::At(self.now + 1 + delay) } else { end };
        let present = self.model.get(field).and_then(|(_, end)| *end).filter(|_| before == Before::Live);
        self.model.insert(field.to_vec(), (value.to_vec(), end.moment(present)));
        assert_eq!(self.hash.set(field, value, end, self.now, limits), before);
    }

    fn take(&mut self, step: Step) {
        let limits = self.limits.unwrap_or(PackedLimits { entries_max: 8, value_bytes_max: 64 });
        match step {
            Step::Set(number, value, end) => self.set(&field(number), &value, end, limits),
            Step::SetEnd(number, end) => {
                let (name, end) = (field(number), end.map(|delay| self.now + 1 + delay));
                let there = self.model.get_mut(&name).map(|(_, old)| *old = end).is_some();
                assert_eq!(self.hash.set_end(&name, end, &mut Vec::new()), there);
            }
            Step::Increment(number, by) => self.increment(&field(number), by, limits),
            Step::Remove(number) => {
                let before = self.before(&field(number));
                self.model.remove(&field(number));
                assert_eq!(self.hash.remove(&field(number), self.now), before);
            }
            Step::Wait(time) => self.now += time,
            Step::Expire(limit) => {
                let now = self.now;
                let mut due: Vec<_> =
                    self.model.iter().filter(|(_, (_, end))| end.is_some_and(|end| end <= now)).collect();
                due.sort_by_key(|(_, (_, end))| *end);
                let mut gone = Vec::new();
                let count = self.hash.expire_due(now, limit, &mut |field| gone.push(field.to_vec()));
                assert_eq!((count, gone.len()), (due.len().min(limit), count));
                assert!(gone.iter().all(|field| self.hash.look().find(field, now) == Found::Absent));
                let hash = &self.hash;
                self.model.retain(|field, (_, end)| {
                    end.is_none_or(|end| end > now) || hash.look().find(field, 0) != Found::Absent
                });
            }
            Step::Table => {
                if self.now.is_multiple_of(5) {
                    self.hash.make_table();
                }
            }
        }
    }

    fn increment(&mut self, field: &[u8], by: i64, limits: PackedLimits) {
        let before = self.before(field);
        let value = self.model.get(field).filter(|_| before == Before::Live);
        let present = value.map_or(Some(0), |(value, _)| crate::number::parse_i64(value));
        let expected = match present.map(|present| present.checked_add(by)) {
            None => Err(IncrementError::NotAnInteger),
            Some(None) => Err(IncrementError::Overflow),
            Some(Some(sum)) => Ok((sum, before)),
        };
        if let Ok((sum, _)) = expected {
            let end = value.and_then(|(_, end)| *end);
            self.model.insert(field.to_vec(), (sum.to_string().into_bytes(), end));
        }
        assert_eq!(self.hash.increment(field, by, self.now, limits), expected);
    }

    fn check(&self) {
        self.hash.check();
        let (view, now) = (self.hash.look(), self.now);
        assert_eq!(view.len(), self.model.len());
        assert_eq!(view.is_empty(), self.model.is_empty());
        let live = || self.model.iter().filter(|(_, (_, end))| end.is_none_or(|end| end > now));
        assert_eq!(view.live(now), live().count());
        let ends = self.model.values().filter_map(|(_, end)| *end);
        assert_eq!(view.next_due(), ends.clone().min().unwrap_or(u64::MAX));
        assert_eq!(view.timed(), ends.count());
        let mut seen = BTreeMap::new();
        view.for_each_stored(|field, value, end| {
            seen.insert(field.to_vec(), (value.to_vec(), end));
        });
        assert_eq!(seen, self.model);
        for (field, (value, end)) in &self.model {
            let found = view.find(field, now);
            match found {
                Found::Absent => panic!("a field is lost"),
                Found::Due => assert!(end.is_some_and(|end| end <= now)),
                Found::Live(seen, seen_end) => assert!(seen.is(value) && seen_end == *end, "{found:?}"),
            }
        }
        let names: BTreeMap<Vec<u8>, Vec<u8>> =
            live().map(|(field, (value, _))| (field.clone(), value.clone())).collect();
        let mut scanned = BTreeMap::new();
        let mut cursor = 0;
        loop {
            cursor = view.scan(cursor, 3, now, |field, value| {
                scanned.insert(field.to_vec(), value.to_vec());
            });
            if cursor == 0 {
                break;
            }
        }
        assert_eq!(scanned, names);
        let mut state = 7;
        let mut random = || {
            crate::index::hash_of(
                &{
                    state += 1;
                    state as u64
                }
                .to_le_bytes(),
            )
        };
        for count in [0, 1, 2, names.len(), names.len() + 5] {
            let mut sample = BTreeMap::new();
            view.sample(count, now, &mut random, &mut |field, value| {
                assert!(sample.insert(field.to_vec(), value.to_vec()).is_none());
            });
            assert_eq!(sample.len(), count.min(names.len()));
            assert!(sample.iter().all(|(field, value)| names.get(field) == Some(value)));
        }
        let drawn = view.random(now, &mut random);
        assert_eq!(drawn.is_none(), names.is_empty());
        assert!(
            drawn.is_none_or(|(field, value)| names.get(&field.to_vec()).is_some_and(|own| value.is(own)))
        );
    }
}

proptest! {
    #[test]
    fn a_hash_is_a_map_with_ends(
        steps in proptest::collection::vec(step(), 0..120),
        entries_max in prop_oneof![Just(0_usize), Just(8), Just(100)],
        value_bytes_max in prop_oneof![Just(0_usize), Just(30), Just(1000)],
    ) {
        let limits = Some(PackedLimits { entries_max, value_bytes_max });
        let mut pair = Pair { now: 1000, limits, ..Pair::default() };
        for step in steps {
            pair.take(step);
            crate::mover::shake(&mut pair.hash, 2);
            pair.check();
        }
        let copy = pair.hash.duplicate();
        copy.check();
        let copied = Pair { hash: copy, model: std::mem::take(&mut pair.model), now: pair.now, limits: None };
        copied.check();
        if let Some((form, bytes)) = copied.hash.inline() {
            prop_assert_eq!(Hash::view_inline(form, bytes).len(), copied.model.len());
            Hash::from_inline(form, bytes.to_vec()).check();
        }
        let mut rest = copied.hash;
        while !rest.free_step(3) {}
    }
}

fn names(hash: &Hash) -> String {
    let mut names = Vec::new();
    hash.look().for_each(0, |field, _| names.push(String::from_utf8_lossy(&field.to_vec()).into_owned()));
    names.join(" ")
}

#[test]
fn packed_fields_stand_in_the_order_redis_gives_them() {
    let limits = PackedLimits { entries_max: 512, value_bytes_max: 64 };
    let (mut hash, mut scratch) = (Hash::default(), Vec::new());
    for field in [&b"a"[..], b"b", b"c"] {
        hash.set(field, b"1", End::Clear, 0, limits);
    }
    assert_eq!((names(&hash).as_str(), Hash::encoding(hash.look())), ("a b c", "listpack"));
    for field in [&b"a"[..], b"b", b"c"] {
        hash.set_end(field, Some(2000), &mut scratch);
    }
    assert_eq!((names(&hash).as_str(), Hash::encoding(hash.look())), ("c b a", "listpackex"));
    hash.set(b"d", b"4", End::At(2000), 0, limits);
    hash.set(b"a", b"5", End::Keep, 0, limits);
    hash.set(b"e", b"5", End::Keep, 0, limits);
    assert_eq!(names(&hash), "d c b a e");
    hash.set(b"f", b"6", End::Clear, 0, limits);
    hash.set(b"b", b"6", End::Clear, 0, limits);
    assert_eq!(names(&hash), "d c a e f b");
    hash.set(b"a", b"6", End::At(1000), 0, limits);
    hash.set(b"f", b"6", End::At(1000), 0, limits);
    assert_eq!(names(&hash), "f a d c e b");
    hash.set_end(b"a", None, &mut scratch);
    assert_eq!(names(&hash), "f d c e b a");
}

#[test]
fn what_is_over_is_absent_for_writes_and_there_until_it_is_removed() {
    let limits = PackedLimits { entries_max: 512, value_bytes_max: 64 };
    let mut hash = Hash::default();
    hash.set(b"a", b"1", End::At(10), 0, limits);
    hash.set(b"b", b"1", End::At(10), 0, limits);
    assert_eq!((hash.len(), hash.look().live(10), hash.look().find(b"a", 10)), (2, 0, Found::Due));
    assert_eq!(hash.increment(b"a", 5, 10, limits), Ok((5, Before::Due)));
    assert_eq!(hash.look().find(b"a", 10), Found::Live(Element::Int(5), None));
    assert_eq!(hash.remove(b"b", 10), Before::Due);
    assert_eq!(hash.len(), 1);
}

#[test]
fn random_fields_come_up_alike() {
    let limits = PackedLimits { entries_max: 4, value_bytes_max: 64 };
    for count in [4_u64, 40] {
        let mut hash = Hash::default();
        for n in 0..count {
            hash.set(n.to_string().as_bytes(), b"v", End::Clear, 0, limits);
        }
        let mut times = BTreeMap::new();
        let mut state = 1_u64;
        let mut random = || {
            state += 1;
            crate::index::hash_of(&state.to_le_bytes())
        };
        for _ in 0..count * 1000 {
            let (field, _) = hash.look().random(0, &mut random).expect("it has fields");
            *times.entry(field.to_vec()).or_insert(0) += 1;
        }
        assert!(times.len() as u64 == count && times.values().all(|n| (800..1200).contains(n)), "{times:?}");
    }
}
