//! Doubly linked lists of dense keys, any number of lists over one set of nodes.
//! Invariant: a key is on at most one list, and a list's size is the sum of its keys' sizes.

/// No key.
pub(super) const NONE: u32 = u32::MAX;

/// The lists. List 0 is "on none".
#[derive(Debug)]
pub(super) struct Lists<const N: usize> {
    nodes: Vec<Node>,
    heads: [Head; N],
}

#[derive(Clone, Copy, Debug)]
struct Node {
    newer: u32,
    older: u32,
    size: u32,
    list: u8,
}

#[derive(Clone, Copy, Debug)]
struct Head {
    newest: u32,
    oldest: u32,
    size: u64,
    len: usize,
}

impl<const N: usize> Lists<N> {
    pub(super) fn new(keys: u32) -> Self {
        let node = Node { newer: NONE, older: NONE, size: 0, list: 0 };
        let head = Head { newest: NONE, oldest: NONE, size: 0, len: 0 };
        Lists { nodes: vec![node; keys as usize], heads: [head; N] }
    }

    /// The list the key is on.
    pub(super) fn list_of(&self, key: u32) -> u8 {
        self.nodes[key as usize].list
    }

    /// The size the key was listed with last.
    pub(super) fn size_of(&self, key: u32) -> u32 {
        self.nodes[key as usize].size
    }

    pub(super) fn size(&self, list: u8) -> u64 {
        self.heads[list as usize].size
    }

    pub(super) fn len(&self, list: u8) -> usize {
        self.heads[list as usize].len
    }

    pub(super) fn oldest(&self, list: u8) -> Option<u32> {
        Some(self.heads[list as usize].oldest).filter(|key| *key != NONE)
    }

    pub(super) fn newest(&self, list: u8) -> Option<u32> {
        Some(self.heads[list as usize].newest).filter(|key| *key != NONE)
    }

    /// The neighbour towards the newest end.
    pub(super) fn newer(&self, key: u32) -> Option<u32> {
        Some(self.nodes[key as usize].newer).filter(|key| *key != NONE)
    }

    /// Puts a key at the newest end of a list, taking it off the one it is on.
    pub(super) fn push(&mut self, list: u8, key: u32, size: u32) {
        self.unlink(key);
        let head = &mut self.heads[list as usize];
        let newest = head.newest;
        head.newest = key;
        head.size += u64::from(size);
        head.len += 1;
        if newest == NONE {
            head.oldest = key;
        } else {
            self.nodes[newest as usize].newer = key;
        }
        self.nodes[key as usize] = Node { newer: NONE, older: newest, size, list };
    }

    /// Takes a key off its list.
    pub(super) fn unlink(&mut self, key: u32) {
        let Node { newer, older, size, list } = self.nodes[key as usize];
        if list == 0 {
            return;
        }
        let head = &mut self.heads[list as usize];
        head.size -= u64::from(size);
        head.len -= 1;
        if newer == NONE {
            head.newest = older;
        } else {
            self.nodes[newer as usize].older = older;
        }
        let head = &mut self.heads[list as usize];
        if older == NONE {
            head.oldest = newer;
        } else {
            self.nodes[older as usize].newer = newer;
        }
        self.nodes[key as usize].list = 0;
    }

    /// Moves a key to the newest end of the list it is on, or of another.
    pub(super) fn renew(&mut self, list: u8, key: u32) {
        let size = self.size_of(key);
        self.push(list, key, size);
    }
}
