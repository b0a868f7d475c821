//! How many nodes a compressed radix tree has over keys of 16 bytes: what XINFO STREAM answers of Redis'
//! tree, told from the keys alone.
//!
//! Such a tree has a leaf a key, a branch wherever keys part, and one node for each run of bytes that
//! do not part; an empty one is its root.

use super::id::StreamId;

/// Bytes of a key.
const KEY_BYTES: u32 = 16;

/// Number of nodes over keys in ascending order.
pub(super) fn nodes(mut keys: impl Iterator<Item = StreamId>) -> u64 {
    let Some(mut previous) = keys.next() else { return 1 };
    let mut tree = Spine { nodes: 1, branches: Vec::new() };
    for key in keys {
        tree.part(common_bytes(previous, key));
        previous = key;
    }
    tree.finish()
}

fn common_bytes(one: StreamId, other: StreamId) -> u32 {
    if one.ms == other.ms {
        8 + (one.seq ^ other.seq).leading_zeros() / 8
    } else {
        (one.ms ^ other.ms).leading_zeros() / 8
    }
}

/// The branches on the way to the last key, by the number of bytes before them, and the nodes that
/// are settled. What hangs below a branch is settled when the next key parts above it.
struct Spine {
    nodes: u64,
    branches: Vec<u32>,
}

impl Spine {
    /// The next key has `depth` bytes in common with the last.
    fn part(&mut self, depth: u32) {
        // The way down to the last key's leaf ends at `below`: its leaf, or a branch that closes.
        let mut below = KEY_BYTES;
        while let Some(&branch) = self.branches.last()
            && branch > depth
        {
            self.nodes += run(branch, below) + 1;
            below = branch;
            self.branches.pop();
        }
        if self.branches.last() == Some(&depth) {
            self.nodes += run(depth, below);
        } else {
            self.nodes += run(depth, below);
            self.branches.push(depth);
        }
        self.nodes += 1;
    }

    fn finish(mut self) -> u64 {
        let mut below = KEY_BYTES;
        while let Some(branch) = self.branches.pop() {
            self.nodes += run(branch, below) + 1;
            below = branch;
        }
        self.nodes + u64::from(below > 0)
    }
}

/// A node for the bytes between a branch, whose own byte leads down, and what is below.
fn run(branch: u32, below: u32) -> u64 {
    u64::from(below > branch + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// Nodes over keys that agree in their first `depth` bytes, counted by taking them apart.
    fn counted(keys: &[[u8; 16]], depth: usize) -> u64 {
        let [first, .., last] = keys else { return u64::from(depth < 16) + u64::from(!keys.is_empty()) };
        let parts = (depth..16).find(|at| first[*at] != last[*at]).unwrap();
        let branches = keys.chunk_by(|one, other| one[parts] == other[parts]);
        u64::from(parts > depth) + 1 + branches.map(|keys| counted(keys, parts + 1)).sum::<u64>()
    }

    proptest! {
        #[test]
        fn as_by_taking_the_keys_apart(
            keys in proptest::collection::btree_set(
                (prop_oneof![0_u64..4, 0_u64..70_000, any::<u64>()], prop_oneof![Just(0_u64), 0_u64..1000, any::<u64>()]),
                1..60,
            ),
        ) {
            let ids: BTreeSet<StreamId> = keys.iter().map(|(ms, seq)| StreamId::new(*ms, *seq)).collect();
            let bytes: Vec<[u8; 16]> = ids.iter().map(|id| id.to_bytes()).collect();
            prop_assert_eq!(nodes(ids.iter().copied()), counted(&bytes, 0));
        }
    }

    #[test]
    fn trees_as_redis_counts_them() {
        let count = |keys: &[(u64, u64)]| nodes(keys.iter().map(|(ms, seq)| StreamId::new(*ms, *seq)));
        assert_eq!(count(&[]), 1);
        assert_eq!(count(&[(1, 1)]), 2);
        assert_eq!(count(&[(1, 1), (1, 2)]), 4);
        assert_eq!(count(&[(1, 1), (2, 1)]), 6);
    }
}
