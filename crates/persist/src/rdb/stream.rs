//! Streams as objects: nodes of entries as listpacks, the numbers beside them, groups with what they have
//! pending and with whom.
//!
//! Written is the newest form, type 21, as redis-server 8.2 writes it; read are the older ones too.

use super::string::StringError;
use super::{BadData, Reader, StringWriter, push_length};
use larder_values::stream::{Group, NodeReader, Pending, ReadNode, Stream, StreamId};
use std::collections::BTreeMap;

/// The forms, by their type bytes: with more numbers, and with when consumers were active.
pub(super) const TYPE_STREAM: u8 = 15;
pub(super) const TYPE_STREAM_2: u8 = 19;
pub(super) const TYPE_STREAM_3: u8 = 21;

// Differs from Redis: a stream with a pending entry that no consumer has, a length that is not that of its entries or
// ids that do not grow is refused whatever sanitize-dump-payload says.
/// How Redis writes that something is not known.
const UNKNOWN: i64 = -1;

/// Appends the object, without its type.
pub(super) fn push(strings: &mut StringWriter, stream: &Stream, out: &mut Vec<u8>) {
    let nodes = stream.listpacks();
    push_length(out, nodes.len() as u64);
    let mut listpack = Vec::new();
    for node in nodes {
        strings.push(out, &node.first_id().to_bytes());
        listpack.clear();
        node.write_to(&mut listpack);
        strings.push(out, &listpack);
    }
    let numbers = stream.numbers();
    push_length(out, numbers.length);
    for id in [numbers.last_id, numbers.first_id, numbers.max_deleted_id] {
        push_id(out, id);
    }
    push_length(out, numbers.entries_added);
    push_length(out, stream.groups().len() as u64);
    for (name, group) in stream.groups() {
        strings.push(out, name);
        push_group(strings, group, out);
    }
}

fn push_id(out: &mut Vec<u8>, id: StreamId) {
    push_length(out, id.ms);
    push_length(out, id.seq);
}

fn push_group(strings: &mut StringWriter, group: &Group, out: &mut Vec<u8>) {
    push_id(out, group.last_id());
    push_length(out, group.entries_read().unwrap_or(UNKNOWN as u64));
    push_length(out, group.pending_len() as u64);
    for (id, pending) in group.pending_in(StreamId::MIN, StreamId::MAX) {
        out.extend_from_slice(&id.to_bytes());
        out.extend_from_slice(&pending.delivered_ms.to_le_bytes());
        push_length(out, pending.deliveries);
    }
    push_length(out, group.consumers().len() as u64);
    for (id, consumer) in group.consumers() {
        strings.push(out, consumer.name());
        out.extend_from_slice(&consumer.seen_ms.to_le_bytes());
        out.extend_from_slice(&consumer.active_ms.unwrap_or(UNKNOWN).to_le_bytes());
        push_length(out, consumer.pending_len() as u64);
        for entry in group.pending_of(id, StreamId::MIN, StreamId::MAX) {
            out.extend_from_slice(&entry.to_bytes());
        }
    }
}

impl Reader<'_> {
    /// A stream of the form that `kind` names; `string_max` bounds each string.
    pub(super) fn stream(&mut self, kind: u8, string_max: usize) -> Result<Stream, StringError> {
        let (mut nodes, mut reader) = (Vec::new(), NodeReader::default());
        for _ in 0..self.plain_length()? {
            nodes.push(self.stream_node(&mut reader, string_max)?);
        }
        let mut stream = Stream::of_nodes(nodes).map_err(|_| BadData)?;
        self.behind_stream_nodes(&mut stream, kind, string_max)?;
        Ok(stream)
    }

    /// A node of a stream.
    pub(super) fn stream_node(
        &mut self,
        nodes: &mut NodeReader,
        string_max: usize,
    ) -> Result<ReadNode, StringError> {
        let first = self.string(string_max)?;
        let first = StreamId::from_bytes(first.try_into().map_err(|_| BadData)?);
        let listpack = self.text(usize::MAX)?;
        Ok(nodes.read(first, &listpack).map_err(|_| BadData)?)
    }

    /// What stands behind the nodes of a stream.
    pub(super) fn behind_stream_nodes(
        &mut self,
        stream: &mut Stream,
        kind: u8,
        string_max: usize,
    ) -> Result<(), StringError> {
        let length = self.plain_length()?;
        let last_id = self.stream_id()?;
        let (mut max_deleted, mut added) = (StreamId::MIN, length);
        if kind >= TYPE_STREAM_2 {
            // The first id is what the entries say.
            self.stream_id()?;
            max_deleted = self.stream_id()?;
            added = self.plain_length()?;
        }
        let last_entry = stream.last_entry().map(|entry| entry.id);
        if length != stream.len() || last_entry > Some(last_id) {
            return Err(StringError::Bad);
        }
        stream.set_last_id(last_id, Some(added), Some(max_deleted));
        for _ in 0..self.plain_length()? {
            self.group(stream, kind, string_max)?;
        }
        Ok(())
    }

    fn stream_id(&mut self) -> Result<StreamId, BadData> {
        Ok(StreamId { ms: self.plain_length()?, seq: self.plain_length()? })
    }

    fn raw_stream_id(&mut self) -> Result<StreamId, BadData> {
        Ok(StreamId::from_bytes(self.array()?))
    }

    fn milliseconds(&mut self) -> Result<i64, BadData> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    fn group(&mut self, stream: &mut Stream, kind: u8, string_max: usize) -> Result<(), StringError> {
        let name = self.string(string_max)?;
        let last_id = self.stream_id()?;
        let entries_read = if kind >= TYPE_STREAM_2 {
            Some(self.plain_length()?).filter(|read| *read != UNKNOWN as u64)
        } else {
            stream.numbers().entries_up_to(last_id)
        };
        let mut pending = BTreeMap::new();
        for _ in 0..self.plain_length()? {
            let id = self.raw_stream_id()?;
            let delivery = (self.milliseconds()?, self.plain_length()?);
            if pending.insert(id, delivery).is_some() {
                return Err(StringError::Bad);
            }
        }
        if !stream.create_group(&name, last_id, entries_read) {
            return Err(StringError::Bad);
        }
        let group = stream.group_mut(&name).ok_or(BadData)?;
        for _ in 0..self.plain_length()? {
            self.consumer(group, &mut pending, kind, string_max)?;
        }
        if pending.is_empty() { Ok(()) } else { Err(StringError::Bad) }
    }

    /// A consumer, who takes what it has out of `pending`.
    fn consumer(
        &mut self,
        group: &mut Group,
        pending: &mut BTreeMap<StreamId, (i64, u64)>,
        kind: u8,
        string_max: usize,
    ) -> Result<(), StringError> {
        let name = self.string(string_max)?;
        let seen_ms = self.milliseconds()?;
        let active_ms = if kind >= TYPE_STREAM_3 { self.milliseconds()? } else { seen_ms };
        let consumer = group.create_consumer(&name, seen_ms).ok_or(BadData)?;
        group.get_mut(consumer).active_ms = Some(active_ms).filter(|at_ms| *at_ms != UNKNOWN);
        for _ in 0..self.plain_length()? {
            let id = self.raw_stream_id()?;
            let (delivered_ms, deliveries) = pending.remove(&id).ok_or(BadData)?;
            group.put_pending(id, Pending { delivered_ms, deliveries, consumer });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Dumped, RestoreError, Writer, restore};
    use super::*;
    use larder_values::stream::NodeLimits;

    fn stream() -> Stream {
        let mut stream = Stream::new();
        let limits = NodeLimits { entries_max: 3, bytes_max: 4096 };
        for ms in 1..8 {
            stream.add(StreamId::new(ms, ms % 2), [&b"field"[..], b"7"].into_iter(), limits).unwrap();
        }
        stream.delete(StreamId::new(4, 0), larder_values::stream::References::Keep);
        stream.create_group(b"one", StreamId::new(5, 1), None);
        stream.create_group(b"two", StreamId::MIN, Some(3));
        let group = stream.group_mut(b"one").unwrap();
        let consumer = group.create_consumer(b"alice", 1000).unwrap();
        group.create_consumer(b"bob", 2000).unwrap();
        group.get_mut(consumer).active_ms = Some(1500);
        group.put_pending(StreamId::new(2, 0), Pending { delivered_ms: 1400, deliveries: 2, consumer });
        stream
    }

    #[test]
    fn dumped_then_restored() {
        let (stream, mut out) = (stream(), Vec::new());
        Writer::new(true).dump_stream(&stream, &mut out);
        assert_eq!(out[0], TYPE_STREAM_3);
        let Ok(Dumped::Stream(restored)) = restore(&out, 100) else { panic!("not restored") };
        restored.check();
        assert_eq!(*restored, stream);
    }

    #[test]
    fn a_stream_cut_short_is_refused() {
        let mut out = Vec::new();
        Writer::new(true).dump_stream(&stream(), &mut out);
        let body = &out[1..out.len() - 10];
        for len in 0..body.len() {
            assert!(Reader::new(&body[..len]).stream(TYPE_STREAM_3, 100).is_err(), "{len}");
        }
    }

    #[test]
    fn a_pending_entry_needs_a_consumer() {
        let mut body = Vec::new();
        let strings = &mut StringWriter::new(false);
        let mut lonely = Stream::new();
        lonely.create_group(b"g", StreamId::new(1, 1), None);
        push(strings, &lonely, &mut body);
        assert!(Reader::new(&body).stream(TYPE_STREAM_3, 100).is_ok());
        // No consumers, but one entry pending with nobody.
        let end = body.len() - 2;
        assert_eq!(&body[end..], b"\0\0");
        body.truncate(end);
        body.push(1);
        body.extend_from_slice(&[0; 24]);
        body.extend_from_slice(b"\x01\0");
        assert_eq!(Reader::new(&body).stream(TYPE_STREAM_3, 100), Err(StringError::Bad));
        assert_eq!(restore(&body, 100).unwrap_err(), RestoreError::VersionOrChecksum);
    }
}
