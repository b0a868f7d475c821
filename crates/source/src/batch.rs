//! Keys of one route that are missed together: one buffer for all, one who waits for them.

use crate::route::Route;
use std::sync::Arc;

/// Keys, one behind the other in one buffer, each with its hash.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    bytes: Vec<u8>,
    /// Where each ends, and its hash.
    ends: Vec<(usize, u64)>,
}

/// Keys of one route that are to be fetched, and who waits for them. Each has a flight of its own, or joins one.
#[derive(Debug)]
pub struct Batch<W> {
    route: Arc<Route>,
    keys: Keys,
    waiter: Option<W>,
}

impl Keys {
    /// One key.
    pub fn one(key: &[u8], hash: u64) -> Keys {
        Keys { bytes: key.to_vec(), ends: vec![(key.len(), hash)] }
    }

    /// Puts a key behind the others.
    pub fn push(&mut self, key: &[u8], hash: u64) {
        self.bytes.extend_from_slice(key);
        self.ends.push((self.bytes.len(), hash));
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// A key by its place; empty behind the last.
    pub fn key(&self, at: usize) -> &[u8] {
        let start = at.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |(end, _)| *end);
        let end = self.ends.get(at).map_or(start, |(end, _)| *end);
        &self.bytes[start..end]
    }

    /// A key's hash.
    pub fn hash(&self, at: usize) -> u64 {
        self.ends.get(at).map_or(0, |(_, hash)| *hash)
    }
}

impl<W> Batch<W> {
    /// Keys of this route, for `waiter` if somebody waits.
    pub fn new(route: Arc<Route>, keys: Keys, waiter: Option<W>) -> Batch<W> {
        Batch { route, keys, waiter }
    }

    /// The route of all of them.
    pub fn route(&self) -> &Arc<Route> {
        &self.route
    }

    /// The database of all of them.
    pub fn db(&self) -> u32 {
        self.route.db
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// A key by its place.
    pub fn key(&self, at: usize) -> &[u8] {
        self.keys.key(at)
    }

    /// A key's hash.
    pub fn hash(&self, at: usize) -> u64 {
        self.keys.hash(at)
    }

    /// Who waits for them.
    pub fn waiter(&self) -> Option<&W> {
        self.waiter.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_apart() {
        let mut keys = Keys::one(b"a", 1);
        keys.push(b"", 2);
        keys.push(b"bcd", 3);
        assert_eq!(
            (keys.key(0), keys.key(1), keys.key(2), keys.key(3)),
            (&b"a"[..], &b""[..], &b"bcd"[..], &b""[..])
        );
        assert_eq!((keys.len(), keys.hash(2), keys.is_empty()), (3, 3, false));
    }
}
