//! Streams against a model, and against sizes of nodes that redis-server showed.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap as Map, BTreeSet as Set};

const LIMITS: NodeLimits = NodeLimits { entries_max: 4, bytes_max: 200 };

type Words = Vec<Vec<u8>>;

/// One thing done to a stream.
#[derive(Clone, Debug)]
enum Step {
    Add(u64, u64, Words),
    Delete(u64, References),
    Trim(Trim),
    Deliver(u8, u64, bool),
    Acknowledge(u64),
    Claim(u64, u8),
    RemoveConsumer(u8),
    SetId(u64),
    ThroughListpacks,
}

/// Entries, and by group what is pending with whom.
#[derive(Default)]
struct Model {
    entries: Map<StreamId, Words>,
    pending: Map<StreamId, Vec<u8>>,
    read_to: StreamId,
    last: StreamId,
}

fn words() -> impl Strategy<Value = Words> {
    let word = prop_oneof![
        Just(b"f".to_vec()),
        Just(b"g".to_vec()),
        any::<i64>().prop_map(|value| value.to_string().into_bytes()),
        proptest::collection::vec(any::<u8>(), 0..80),
    ];
    let same = word.clone().prop_map(|value| vec![b"f".to_vec(), value]);
    let any = proptest::collection::vec((word.clone(), word), 1..4)
        .prop_map(|pairs| pairs.into_iter().flat_map(|(field, value)| [field, value]).collect());
    prop_oneof![3 => same, 1 => any]
}

fn references() -> impl Strategy<Value = References> {
    proptest::sample::select(vec![References::Keep, References::Delete, References::Acknowledged])
}

fn trim() -> impl Strategy<Value = Trim> {
    let to = prop_oneof![
        (0_u64..20).prop_map(TrimTo::Length),
        (0_u64..300).prop_map(|ms| TrimTo::Id(StreamId::new(ms, 0))),
    ];
    (to, any::<bool>(), 0_u64..12, references()).prop_map(|(to, is_approximate, limit, references)| Trim {
        to,
        is_approximate,
        limit: if is_approximate { limit } else { 0 },
        references,
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0_u64..3, prop_oneof![0_u64..3, any::<u64>()], words())
            .prop_map(|(ms, seq, words)| Step::Add(ms, seq, words)),
        1 => (0_u64..600, any::<u64>(), words()).prop_map(|(ms, seq, words)| Step::Add(ms, seq, words)),
        2 => (0_u64..60, references()).prop_map(|(nth, references)| Step::Delete(nth, references)),
        1 => trim().prop_map(Step::Trim),
        2 => (0_u8..3, 1_u64..6, any::<bool>()).prop_map(|(c, count, ack)| Step::Deliver(c, count, ack)),
        2 => (0_u64..30).prop_map(Step::Acknowledge),
        1 => (0_u64..30, 0_u8..3).prop_map(|(nth, consumer)| Step::Claim(nth, consumer)),
        1 => (0_u8..3).prop_map(Step::RemoveConsumer),
        1 => (0_u64..30).prop_map(Step::SetId),
        1 => Just(Step::ThroughListpacks),
    ]
}

fn listed(entries: impl Iterator<Item = Entry<'static>>) -> Vec<StreamId> {
    entries.map(|entry| entry.id).collect()
}

fn words_of(entry: &Entry<'_>) -> Words {
    entry.words().map(Element::to_vec).collect()
}

/// The stream, written as listpacks and read again.
fn through_listpacks(stream: &Stream) -> Stream {
    let mut nodes = NodeReader::default();
    let again = stream.listpacks().map(|node| {
        let mut bytes = Vec::new();
        node.write_to(&mut bytes);
        nodes.read(node.first_id(), &bytes).unwrap()
    });
    let mut copy = Stream::of_nodes(again.collect()).unwrap();
    let numbers = stream.numbers();
    copy.set_last_id(numbers.last_id, Some(numbers.entries_added), Some(numbers.max_deleted_id));
    copy.groups = stream.groups.clone();
    copy
}

impl Model {
    fn nth(&self, nth: u64) -> StreamId {
        self.entries
            .keys()
            .nth(nth as usize % self.entries.len().max(1))
            .copied()
            .unwrap_or(StreamId::new(7, 7))
    }

    fn needs(&self, id: StreamId) -> bool {
        id > self.read_to || self.pending.contains_key(&id)
    }

    fn may_remove(&mut self, id: StreamId, references: References) -> bool {
        if references == References::Delete {
            self.pending.remove(&id);
        }
        references != References::Acknowledged || !self.needs(id)
    }

    /// What exact trimming leaves; approximate trimming is held against this.
    fn step(&mut self, stream: &mut Stream, step: Step) {
        match step {
            Step::Add(ms, seq, words) => {
                let mut id = StreamId { ms: self.last.ms.saturating_add(ms), seq };
                if ms == 0 {
                    id.seq = self.last.seq.saturating_add(seq.max(1));
                }
                let added = stream.add(id, words.iter().map(Vec::as_slice), LIMITS);
                assert_eq!(added.is_ok(), id > self.last);
                if added.is_ok() {
                    self.last = id;
                    self.entries.insert(id, words);
                }
            }
            Step::Delete(nth, references) => {
                let id = self.nth(nth);
                let deleted = stream.delete(id, references);
                let expected = match (self.may_remove(id, references), self.entries.contains_key(&id)) {
                    (false, _) => Deleted::Referenced,
                    (true, false) => Deleted::Absent,
                    (true, true) => Deleted::Removed,
                };
                assert_eq!(deleted, expected);
                if deleted == Deleted::Removed {
                    self.entries.remove(&id);
                }
            }
            Step::Trim(trim) => self.trim(stream, trim),
            Step::Deliver(consumer, count, no_ack) => self.deliver(stream, &[consumer], count, no_ack),
            Step::Acknowledge(nth) => {
                let id = self.pending.keys().nth(nth as usize).copied().unwrap_or_default();
                let group = stream.group_mut(b"g").unwrap();
                assert_eq!(group.acknowledge(id), self.pending.remove(&id).is_some());
            }
            Step::Claim(nth, consumer) => {
                let Some(id) = self.pending.keys().nth(nth as usize).copied() else { return };
                let group = stream.group_mut(b"g").unwrap();
                let name = [consumer];
                let consumer = group.consumer(&name).or_else(|| group.create_consumer(&name, 0)).unwrap();
                group.put_pending(id, Pending { delivered_ms: 1, deliveries: 2, consumer });
                self.pending.insert(id, name.to_vec());
            }
            Step::RemoveConsumer(consumer) => {
                let had = self.pending.extract_if(.., |_, with| with == &[consumer]).count();
                let group = stream.group_mut(b"g").unwrap();
                assert_eq!(group.remove_consumer(&[consumer]).unwrap_or(0), had);
            }
            Step::SetId(nth) => {
                self.read_to = self.nth(nth);
                stream.group_mut(b"g").unwrap().set_last_id(self.read_to, None);
            }
            Step::ThroughListpacks => *stream = through_listpacks(stream),
        }
    }

    fn trim(&mut self, stream: &mut Stream, trim: Trim) {
        let before = stream.len();
        let deleted = stream.trim(trim);
        assert_eq!(before - stream.len(), deleted);
        let left: Set<StreamId> =
            stream.entries(StreamId::MIN, StreamId::MAX).map(|entry| entry.id).collect();
        let gone: Vec<StreamId> = self.entries.keys().filter(|id| !left.contains(id)).copied().collect();
        for id in gone {
            assert!(self.may_remove(id, trim.references), "{id} was needed");
            assert!(!matches!(trim.to, TrimTo::Id(least) if id >= least));
            self.entries.remove(&id);
        }
        if let TrimTo::Length(length) = trim.to {
            assert!(stream.len() >= length.min(before));
        }
        if !trim.is_approximate && trim.references != References::Acknowledged {
            match trim.to {
                TrimTo::Length(length) => assert_eq!(stream.len(), before.min(length)),
                TrimTo::Id(least) => assert!(stream.first_id() >= least || stream.is_empty()),
            }
        }
    }

    fn deliver(&mut self, stream: &mut Stream, name: &[u8], count: u64, no_ack: bool) {
        let group = stream.group_mut(b"g").unwrap();
        let consumer = group.consumer(name).or_else(|| group.create_consumer(name, 0)).unwrap();
        let mut seen = Vec::new();
        stream.deliver(b"g", Delivery { consumer, now_ms: 5, count, no_ack }, |entry| seen.push(entry.id));
        let after = self.read_to.next().unwrap_or(StreamId::MAX);
        let expected: Vec<StreamId> =
            self.entries.range(after..).map(|(id, _)| *id).take(count as usize).collect();
        assert_eq!(seen, expected);
        for id in seen {
            self.read_to = id;
            if !no_ack {
                self.pending.insert(id, name.to_vec());
            }
        }
    }

    fn compare(&self, stream: &Stream) {
        stream.check();
        let all = || stream.entries(StreamId::MIN, StreamId::MAX);
        assert_eq!(stream.len(), self.entries.len() as u64);
        assert!(all().map(|entry| (entry.id, words_of(&entry))).eq(self.entries.clone()));
        let mut ids: Vec<StreamId> = self.entries.keys().copied().collect();
        assert_eq!(all().count_up_to(u64::MAX), ids.len() as u64);
        for cut in [ids.len() / 3, ids.len() / 2] {
            let (start, end) = (self.nth(cut as u64 / 2), self.nth(cut as u64));
            let between = self.entries.range(start..=end.max(start)).map(|(id, _)| *id);
            assert!(stream.entries(start, end.max(start)).map(|entry| entry.id).eq(between.clone()));
            let backwards = stream.entries_backwards(start, end.max(start));
            assert!(backwards.map(|entry| entry.id).eq(between.clone().rev()));
            assert_eq!(stream.entries(start, end.max(start)).count_up_to(3), between.count().min(3) as u64);
        }
        ids.reverse();
        assert!(stream.entries_backwards(StreamId::MIN, StreamId::MAX).map(|entry| entry.id).eq(ids));
        let group = stream.group(b"g").unwrap();
        assert_eq!(group.last_id(), self.read_to);
        let pending = group.pending_in(StreamId::MIN, StreamId::MAX);
        let with = |pending: Pending| group.get(pending.consumer).name().to_vec();
        assert!(pending.map(|(id, pending)| (id, with(pending))).eq(self.pending.clone()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn steps_do_what_they_do_to_a_model(steps in proptest::collection::vec(step(), 1..60)) {
        let (mut stream, mut model) = (Stream::new(), Model::default());
        stream.create_group(b"g", StreamId::MIN, Some(0));
        for step in steps {
            model.step(&mut stream, step);
            crate::mover::shake(&mut stream, 2);
            model.compare(&stream);
        }
        let mut steps = 0;
        while !stream.free_step(3) {
            steps += 1;
            prop_assert!(steps < 1000);
        }
        prop_assert_eq!(stream.heap_bytes(), stream.groups.len());
    }

    #[test]
    fn no_bytes_break_a_listpack(
        ms in 0_u64..3,
        words in proptest::collection::vec(words(), 1..6),
        changes in proptest::collection::vec((any::<u16>(), any::<u8>()), 0..4),
    ) {
        let mut stream = Stream::new();
        for (seq, words) in words.iter().enumerate() {
            let id = StreamId::new(ms + 5, seq as u64);
            stream.add(id, words.iter().map(Vec::as_slice), NodeLimits { entries_max: 0, bytes_max: 0 }).unwrap();
        }
        let (node, mut bytes) = (stream.listpacks().next().unwrap(), Vec::new());
        node.write_to(&mut bytes);
        for (at, byte) in changes {
            let at = usize::from(at) % bytes.len();
            bytes[at] = byte;
        }
        if let Ok(read) = NodeReader::default().read(node.first_id(), &bytes) {
            let mut copy = Stream::of_nodes(vec![read]).unwrap();
            copy.set_last_id(StreamId::MAX, None, None);
            copy.check();
        }
    }
}

#[test]
fn an_entry_refers_to_nothing_outside_its_stream() {
    let mut stream = Stream::new();
    stream.add(StreamId::new(1, 1), [&b"f"[..], b"v"].into_iter(), LIMITS).unwrap();
    let stream: &'static Stream = Box::leak(Box::new(stream));
    assert_eq!(listed(stream.entries(StreamId::MIN, StreamId::MAX)), [StreamId::new(1, 1)]);
}

#[test]
fn elements_in_a_longer_form_than_need_be_are_kept_in_the_shortest() {
    let element = |code: &[u8]| [code, &[code.len() as u8]].concat();
    let long_text = [&[0xe0, 1, b'x'][..], &[0x81, b'7'], &[0xf1, 5, 0], &[0xf4, 9, 0, 0, 0, 0, 0, 0, 0]];
    let names = [0xe0, 1, b'f'];
    let mut elements: Vec<&[u8]> = vec![&[0xc0, 4], &[0], &[1], &names, &[0]];
    // The head of an entry in one byte each, in two where one would do, in a wide form, and as text.
    let heads: [[&[u8]; 3]; 4] = [
        [&[2], &[0], &[0]],
        [&[2], &[0], &[0xc0, 1]],
        [&[0xf1, 2, 0], &[0xc0, 3], &[0xf2, 0, 0, 0]],
        [&[0x81, b'2'], &[0x81, b'4'], &[0]],
    ];
    for (head, value) in heads.iter().zip(&long_text) {
        elements.extend_from_slice(head);
        elements.extend_from_slice(&[value, &[4]]);
    }
    let body: Vec<u8> = elements.iter().flat_map(|code| element(code)).collect();
    let mut listpack = (body.len() as u32 + 7).to_le_bytes().to_vec();
    listpack.extend_from_slice(&(elements.len() as u16).to_le_bytes());
    listpack.extend_from_slice(&body);
    listpack.push(0xff);
    let read = NodeReader::default().read(StreamId::new(1, 1), &listpack).unwrap();
    let mut stream = Stream::of_nodes(vec![read]).unwrap();
    stream.set_last_id(StreamId::MAX, None, None);
    // Compares, among others, the size in Redis' form with that of the elements.
    stream.check();
    let ids: Vec<_> = stream.entries(StreamId::MIN, StreamId::MAX).map(|entry| entry.id).collect();
    assert_eq!(ids, [(1, 1), (1, 2), (4, 1), (5, 1)].map(|(ms, seq)| StreamId::new(ms, seq)));
    let words = |entry: Entry<'_>| words_of(&entry).concat();
    let words: Vec<_> = stream.entries(StreamId::MIN, StreamId::MAX).map(words).collect();
    assert_eq!(words, [b"fx", b"f7", b"f5", b"f9"]);
    let (node, mut written) = (stream.listpacks().next().unwrap(), Vec::new());
    node.write_to(&mut written);
    assert!(written.len() < listpack.len());
    let again = NodeReader::default().read(node.first_id(), &written).unwrap();
    assert_eq!(Stream::of_nodes(vec![again]).unwrap().nodes, stream.nodes);
}

#[test]
fn nodes_whose_ids_do_not_follow_are_no_stream() {
    let node = |first: u64| {
        let mut stream = Stream::new();
        for ms in [first, first + 1] {
            stream.add(StreamId::new(ms, 0), [&b"f"[..], b"v"].into_iter(), LIMITS).unwrap();
        }
        let (node, mut bytes) = (stream.listpacks().next().unwrap(), Vec::new());
        node.write_to(&mut bytes);
        NodeReader::default().read(node.first_id(), &bytes).unwrap()
    };
    assert!(Stream::of_nodes(vec![node(1), node(3)]).is_ok());
    assert!(Stream::of_nodes(vec![node(1), node(2)]).is_err());
    assert!(Stream::of_nodes(vec![node(3), node(1)]).is_err());
}

#[test]
fn a_node_is_written_as_redis_writes_it() {
    let mut stream = Stream::new();
    let limits = NodeLimits { entries_max: 100, bytes_max: 4096 };
    stream.add(StreamId::new(1, 1), [&b"f"[..], b"v"].into_iter(), limits).unwrap();
    let mut bytes = Vec::new();
    stream.listpacks().next().unwrap().write_to(&mut bytes);
    assert_eq!(
        bytes,
        b"\x1d\0\0\0\x0a\0\x01\x01\0\x01\x01\x01\x81f\x02\0\x01\x02\x01\0\x01\0\x01\x81v\x02\x04\x01\xff"
    );
}

#[test]
fn a_full_stream_has_no_next_id() {
    let mut stream = Stream::new();
    stream.add(StreamId::MAX, [&b"f"[..], b"v"].into_iter(), LIMITS).unwrap();
    assert_eq!(stream.next_id(NewId::At(5)), None);
    assert_eq!(stream.next_id(NewId::OpenSeq(u64::MAX)), None);
    assert_eq!(stream.next_id(NewId::Exactly(StreamId::MAX)), None);
}
