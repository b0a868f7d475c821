//! Reading entries between two ids, forwards and backwards.

use super::node::{Backwards, Entry, Node, Place};
use super::{Stream, StreamId};
use std::collections::btree_map::Range;

/// Live entries in ascending order.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    nodes: Range<'a, StreamId, Node>,
    current: Option<(&'a Node, Place)>,
    end: StreamId,
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
                self.current = self.nodes.next().map(|(first, node)| (node, node.start(*first)));
            }
            let Some((node, place)) = &mut self.current else { return };
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
            ahead.current = Some((node, node.start(*first)));
            while count < limit && ahead.next_in_node().is_some() {
                count += 1;
            }
            break;
        }
        count.min(limit)
    }
}

impl<'a> Entries<'a> {
    /// The next live entry of the node it stands in.
    #[inline]
    fn next_in_node(&mut self) -> Option<Entry<'a>> {
        let (node, place) = self.current.as_mut()?;
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
            self.current = Some((node, node.start(*first)));
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
