//! Reading entries between two ids, forwards and backwards.

use super::node::{Backwards, Entry, Node, Place};
use super::{Stream, StreamId};
use std::collections::btree_map::Range;

/// Live entries in ascending order.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    nodes: Range<'a, StreamId, Node>,
    current: Option<(StreamId, &'a Node, Place)>,
    end: StreamId,
}

/// A place in a stream, kept for whoever reads on from there. It is good while ids grow and its node is
/// there: entries join a node at its end, and leave it by a flag.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    first: StreamId,
    place: Place,
}

/// Live entries in descending order.
#[derive(Clone, Debug)]
pub struct EntriesBackwards<'a> {
    nodes: Range<'a, StreamId, Node>,
    current: Option<Backwards<'a>>,
    start: StreamId,
    end: StreamId,
}

impl Stream {
    /// The entries from `start` to `end`, both included. O(log nodes + entries of a node) to begin.
    pub fn entries(&self, start: StreamId, end: StreamId) -> Entries<'_> {
        let first = self.nodes.range(..=start).next_back().map_or(start, |(first, _)| *first);
        let nodes = if first <= end { self.nodes.range(first..=end) } else { self.nodes.range(first..first) };
        let mut entries = Entries { nodes, current: None, end };
        entries.skip_to(start);
        entries
    }

    /// The entries from `end` down to `start`, both included.
    pub fn entries_backwards(&self, start: StreamId, end: StreamId) -> EntriesBackwards<'_> {
        let first = self.nodes.range(..=start).next_back().map_or(start, |(first, _)| *first);
        let nodes = if first <= end { self.nodes.range(first..=end) } else { self.nodes.range(first..first) };
        EntriesBackwards { nodes, current: None, start, end }
    }

    /// The entry of an id.
    pub fn entry(&self, id: StreamId) -> Option<Entry<'_>> {
        self.entries(id, id).next()
    }

    /// Whether there is an entry of that id.
    pub fn contains(&self, id: StreamId) -> bool {
        self.entry(id).is_some()
    }

    /// Entries from a place on, if its node is there.
    pub(super) fn entries_at(&self, spot: Spot) -> Option<Entries<'_>> {
        let mut nodes = self.nodes.range(spot.first..);
        let (first, node) = nodes.next().filter(|(first, _)| **first == spot.first)?;
        Some(Entries { nodes, current: Some((*first, node, spot.place)), end: StreamId::MAX })
    }

    /// Id of the last entry. O(1), but where that was removed from behind others.
    pub fn last_entry_id(&self) -> Option<StreamId> {
        let at_end = self.nodes.last_key_value().and_then(|(_, node)| node.last_live());
        at_end.or_else(|| self.last_entry().map(|entry| entry.id))
    }

    /// The last entry.
    pub fn last_entry(&self) -> Option<Entry<'_>> {
        self.entries_backwards(StreamId::MIN, StreamId::MAX).next()
    }
}

impl Entries<'_> {
    /// Passes what is before `start`.
    fn skip_to(&mut self, start: StreamId) {
        loop {
            if self.current.is_none() {
                self.current = self.nodes.next().map(|(first, node)| (*first, node, node.start(*first)));
            }
            let Some((_, node, place)) = &mut self.current else { return };
            if node.last() < start {
                self.current = None;
                continue;
            }
            while let Some(found) = node.at(*place) {
                if !found.is_deleted && found.entry.id >= start {
                    return;
                }
                *place = found.after;
            }
            self.current = None;
        }
    }

    /// How many entries are ahead, `limit` at most. O(nodes + entries of the two at the ends).
    pub fn count_up_to(&self, limit: u64) -> u64 {
        let mut ahead = self.clone();
        let mut count = 0;
        // What is left of the node it stands in.
        while ahead.current.is_some() && count < limit {
            let Some(_) = ahead.next_in_node() else { break };
            count += 1;
        }
        ahead.current = None;
        while count < limit
            && let Some((first, node)) = ahead.nodes.next()
        {
            if node.last() <= self.end {
                count += node.live();
                continue;
            }
            ahead.current = Some((*first, node, node.start(*first)));
            while count < limit && ahead.next_in_node().is_some() {
                count += 1;
            }
            break;
        }
        count.min(limit)
    }
}

impl<'a> Entries<'a> {
    /// Where it stands.
    pub(super) fn spot(&self) -> Option<Spot> {
        self.current.map(|(first, _, place)| Spot { first, place })
    }

    /// The next live entry of the node it stands in.
    #[inline]
    fn next_in_node(&mut self) -> Option<Entry<'a>> {
        let (_, node, place) = self.current.as_mut()?;
        while let Some(found) = node.at(*place) {
            if found.is_deleted {
                *place = found.after;
                continue;
            }
            if found.entry.id > self.end {
                break;
            }
            *place = found.after;
            return Some(found.entry);
        }
        None
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    #[inline]
    fn next(&mut self) -> Option<Entry<'a>> {
        loop {
            if let Some(entry) = self.next_in_node() {
                return Some(entry);
            }
            let (first, node) = self.nodes.next()?;
            self.current = Some((*first, node, node.start(*first)));
        }
    }
}

impl EntriesBackwards<'_> {
    /// How many entries are ahead, `limit` at most.
    pub fn count_up_to(&self, stream: &Stream, limit: u64) -> u64 {
        stream.entries(self.start, self.end).count_up_to(limit)
    }
}

impl<'a> Iterator for EntriesBackwards<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        loop {
            if let Some(current) = &mut self.current {
                while let Some(found) = current.previous() {
                    if found.is_deleted || found.entry.id > self.end {
                        continue;
                    }
                    return Some(found.entry).filter(|entry| entry.id >= self.start);
                }
            }
            let (first, node) = self.nodes.next_back()?;
            self.current = Some(Backwards::new(node, *first));
        }
    }
}
