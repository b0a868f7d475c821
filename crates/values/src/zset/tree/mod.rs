//! Items ordered by score, and by what their references lead to where scores are equal: a B+-tree in
//! which every inner node knows how many items are below each child, so that ranks and items find
//! each other in O(log N).
//!
//! The tree knows references only. Callers say by a function what comes before what, which may look
//! at the records behind the references. Scores are never NaN.
//! Read next: `inner.rs` (splitting and joining), `leaf.rs`, `search.rs`.

mod inner;
mod leaf;
mod range;
mod search;
#[cfg(test)]
mod tests;

use inner::{Inner, Node, Step};
use leaf::Leaf;
pub use range::Range;
pub use search::{Among, Lead};
use search::{ByOrder, ByRank, Seek};
use std::cmp::Ordering;

/// A score and the reference of the record that has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Item {
    /// The score, never NaN.
    pub score: f64,
    /// The reference.
    pub record: u32,
}

/// How many nodes there are beside the root's own place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Nodes {
    leaves: u32,
    inners: u32,
}

impl Nodes {
    fn forget(&mut self, node: &Node) {
        match node {
            Node::Leaf(_) => self.leaves = self.leaves.saturating_sub(1),
            Node::Inner(_) => self.inners = self.inners.saturating_sub(1),
        }
    }
}

/// Items in order.
#[derive(Clone)]
pub struct Tree {
    root: Node,
    len: u32,
    nodes: Nodes,
}

impl std::fmt::Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.range(0, self.len, false)).finish()
    }
}

impl Default for Tree {
    fn default() -> Self {
        Tree::new()
    }
}

impl Tree {
    /// No item.
    pub fn new() -> Tree {
        let root = Node::Leaf(Leaf::of(&mut std::iter::empty()));
        Tree { root, len: 0, nodes: Nodes { leaves: 1, inners: 0 } }
    }

    /// Items that come in order. O(N).
    pub fn from_sorted(items: impl IntoIterator<Item = Item>) -> Tree {
        let mut items = items.into_iter().peekable();
        let (mut level, mut len, mut nodes) = (Vec::new(), 0, Nodes::default());
        while items.peek().is_some() {
            let leaf = Leaf::of(&mut items);
            len += leaf.len() as u32;
            nodes.leaves += 1;
            level.push(Node::Leaf(leaf));
        }
        while level.len() > 1 {
            let mut below = level.into_iter().peekable();
            level = Vec::new();
            while below.peek().is_some() {
                nodes.inners += 1;
                level.push(Node::Inner(Inner::of(&mut below)));
            }
        }
        match level.pop() {
            Some(root) => Tree { root, len, nodes },
            None => Tree::new(),
        }
    }

    /// How many items there are.
    #[inline]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Memory it holds beside itself, in bytes.
    pub fn heap_bytes(&self) -> usize {
        self.nodes.leaves as usize * size_of::<Leaf>() + self.nodes.inners as usize * size_of::<Inner>()
    }

    /// Puts an item where `lead`, which says of an item whether it comes before the new one, stops
    /// to hold. O(log N).
    pub fn insert(&mut self, item: Item, mut lead: impl Lead) {
        let is_full = match &self.root {
            Node::Leaf(leaf) => leaf.is_full(),
            Node::Inner(inner) => inner.is_full(),
        };
        if is_full {
            let top = Node::Leaf(Leaf::of(&mut std::iter::empty()));
            let root = std::mem::replace(&mut self.root, top);
            self.root = Node::Inner(Inner::above(root));
            self.nodes.inners += 1;
        }
        self.len += 1;
        let mut node = &mut self.root;
        loop {
            match node {
                Node::Leaf(leaf) => {
                    let index = leaf.leading(&mut lead);
                    return leaf.insert(index, item);
                }
                Node::Inner(inner) => {
                    let Step::Below(at) = inner.step_to_insert(item, &mut lead, &mut self.nodes) else {
                        return;
                    };
                    let Some(child) = inner.child_mut(at) else { return };
                    node = child;
                }
            }
        }
    }

    /// Takes the item of that score out that `order`, which compares any reference of this score with its own,
    /// finds equal. O(log N).
    pub fn remove(&mut self, score: f64, order: impl FnMut(u32) -> Ordering) -> Option<Item> {
        self.take(&mut ByOrder(score, order))
    }

    /// Takes out the item before which there are `rank`. O(log N).
    pub fn remove_rank(&mut self, rank: u32) -> Option<Item> {
        if rank >= self.len {
            return None;
        }
        self.take(&mut ByRank(rank))
    }

    fn take(&mut self, seek: &mut impl Seek) -> Option<Item> {
        let item = match &mut self.root {
            Node::Leaf(leaf) => {
                let index = seek.slot(leaf)?;
                leaf.remove(index)
            }
            Node::Inner(inner) => {
                let item = inner.take(seek, &mut self.nodes)?;
                if let Some(only) = inner.only_child() {
                    self.nodes.forget(&self.root);
                    self.root = only;
                }
                item
            }
        };
        self.len -= 1;
        Some(item)
    }

    /// Gives the item of score `old` that `order` finds equal another score where that leaves it in its place
    /// among its neighbours in the leaf. False, with nothing changed, where it must move or may have to.
    pub fn rescore(&mut self, old: f64, score: f64, order: impl FnMut(u32) -> Ordering) -> bool {
        let mut seek = ByOrder(old, order);
        let mut node = &mut self.root;
        loop {
            match node {
                Node::Leaf(leaf) => {
                    let Some(index) = seek.slot(leaf) else { return false };
                    if index == 0 || index + 1 == leaf.len() {
                        return false;
                    }
                    let item = Item { score, record: leaf.item(index).record };
                    let stays = leaf.item(index - 1).score < score && score < leaf.item(index + 1).score;
                    if stays {
                        leaf.replace(index, item);
                    }
                    return stays;
                }
                Node::Inner(inner) => {
                    let at = seek.child(inner);
                    let Some(child) = inner.child_mut(at) else { return false };
                    node = child;
                }
            }
        }
    }

    /// Has `ask` told which lines of the leaf that has a score are read when the score is looked for.
    pub fn look_ahead(&self, score: f64, ask: &impl Fn(*const u8)) {
        let mut node = &self.root;
        loop {
            match node {
                Node::Leaf(leaf) => return leaf.look_ahead(ask),
                Node::Inner(inner) => {
                    let Some(child) = inner.child(inner.child_of_score(score)) else { return };
                    node = child;
                }
            }
        }
    }

    /// How many items lead: those before the first for which `lead` does not hold. O(log N).
    pub fn rank(&self, mut lead: impl Lead) -> u32 {
        let (mut node, mut rank) = (&self.root, 0);
        loop {
            match node {
                Node::Leaf(leaf) => return rank + leaf.leading(&mut lead) as u32,
                Node::Inner(inner) => {
                    let (at, before) = inner.child_where(&mut lead);
                    let Some(child) = inner.child(at) else { return rank };
                    rank += before;
                    node = child;
                }
            }
        }
    }

    /// The item before which there are `rank`. O(log N).
    pub fn get(&self, rank: u32) -> Option<Item> {
        let (leaf, index) = self.leaf_of(rank)?;
        Some(leaf.item(index))
    }

    /// `count` items from rank `first` on, or from there backwards; as many as there are.
    pub fn range(&self, first: u32, count: u32, backwards: bool) -> Range<'_> {
        Range::new(self, first, count, backwards)
    }

    fn leaf_of(&self, rank: u32) -> Option<(&Leaf, usize)> {
        if rank >= self.len {
            return None;
        }
        let (mut node, mut rank) = (&self.root, rank);
        loop {
            match node {
                Node::Leaf(leaf) => return Some((leaf, rank as usize)),
                Node::Inner(inner) => {
                    let (at, below) = inner.child_of_rank(rank);
                    node = inner.child(at)?;
                    rank = below;
                }
            }
        }
    }

    /// Frees about `budget` items, from the end; true when none is left. Between the first step and
    /// the last the tree is good for nothing else.
    pub fn free_step(&mut self, budget: usize) -> bool {
        let mut freed = 0;
        while freed < budget {
            let Node::Inner(inner) = &mut self.root else { break };
            match inner.pop_leaf() {
                Some(leaf) => freed += leaf.len().max(1),
                None => break,
            }
        }
        if freed < budget {
            *self = Tree::new();
        }
        self.is_empty()
    }

    /// Panics unless everything the nodes say is true; `before` says whether one item comes before
    /// another. O(N), for tests.
    pub fn check(&self, mut before: impl FnMut(Item, Item) -> bool) {
        let mut nodes = Nodes::default();
        let (count, _) = check_node(&self.root, true, &mut nodes);
        assert_eq!(count, self.len, "the tree holds what it says");
        assert_eq!(nodes, self.nodes, "nodes are counted");
        let items: Vec<Item> = self.range(0, self.len, false).collect();
        assert_eq!(items.len(), self.len as usize);
        assert!(items.is_sorted_by(|one, next| before(*one, *next)), "items are in order");
    }
}

/// Checks a node and answers its count and its depth.
fn check_node(node: &Node, is_root: bool, nodes: &mut Nodes) -> (u32, usize) {
    match node {
        Node::Leaf(leaf) => {
            nodes.leaves += 1;
            assert!(is_root || leaf.len() > 0, "no leaf is empty");
            (leaf.len() as u32, 0)
        }
        Node::Inner(inner) => {
            nodes.inners += 1;
            assert!(inner.len() > usize::from(is_root), "no inner node is idle");
            let (mut total, mut depth) = (0, None);
            for (first, count, child) in inner.children() {
                let (below, child_depth) = check_node(child, false, nodes);
                assert_eq!(count, below, "a child holds what is said of it");
                assert_eq!(first, child.first(), "a child begins as is said of it");
                assert_eq!(*depth.get_or_insert(child_depth), child_depth, "children are equally deep");
                total += below;
            }
            (total, depth.unwrap_or(0) + 1)
        }
    }
}
