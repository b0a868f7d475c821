//! Inner nodes: for each child its first item and how many items are below it.
//!
//! Invariant: all children are as deep as each other; `firsts` and `counts` say what the children
//! hold. Full nodes are split on the way down, thin ones joined on the way up.

use super::leaf::{self, Leaf};
use super::search::{Among, Lead, Seek, leading};
use super::{Item, Nodes};

/// Children of an inner node. With its length a node stays within a size class (768 bytes).
const CHILDREN_MAX: usize = 23;

/// Below this many children an inner node looks for a neighbour to join.
const CHILDREN_LOW: usize = CHILDREN_MAX / 3;

/// A neighbour with at least this much room takes items from a full leaf, which is then not split.
const ROOM_MIN: usize = 8;

/// A part of the tree.
#[derive(Clone)]
pub(super) enum Node {
    Leaf(Box<Leaf>),
    Inner(Box<Inner>),
}

impl Node {
    /// How many items there are.
    pub(super) fn count(&self) -> u32 {
        match self {
            Node::Leaf(leaf) => leaf.len() as u32,
            Node::Inner(inner) => inner.counts[..inner.len()].iter().sum(),
        }
    }

    /// The first item; meaningless where there is none.
    pub(super) fn first(&self) -> Item {
        match self {
            Node::Leaf(leaf) => leaf.item(0),
            Node::Inner(inner) => inner.first(0),
        }
    }

    fn is_full(&self) -> bool {
        match self {
            Node::Leaf(leaf) => leaf.is_full(),
            Node::Inner(inner) => inner.is_full(),
        }
    }

    fn is_low(&self) -> bool {
        match self {
            Node::Leaf(leaf) => leaf.len() < leaf::ITEMS_LOW,
            Node::Inner(inner) => inner.len() < CHILDREN_LOW,
        }
    }
}

/// What became of an insertion on its way down.
pub(super) enum Step {
    /// It goes on below this child.
    Below(usize),
    /// The item is in a leaf of its own.
    Done,
}

/// Some nodes and what they hold.
#[derive(Clone)]
pub(super) struct Inner {
    scores: [f64; CHILDREN_MAX],
    records: [u32; CHILDREN_MAX],
    counts: [u32; CHILDREN_MAX],
    len: u32,
    children: [Option<Node>; CHILDREN_MAX],
}

impl Inner {
    /// A node above nothing.
    fn empty() -> Box<Inner> {
        Box::new(Inner {
            scores: [0.0; CHILDREN_MAX],
            records: [0; CHILDREN_MAX],
            counts: [0; CHILDREN_MAX],
            len: 0,
            children: [const { None }; CHILDREN_MAX],
        })
    }

    /// A node above one other.
    pub(super) fn above(node: Node) -> Box<Inner> {
        let mut inner = Inner::empty();
        inner.insert(0, node);
        inner
    }

    /// A node above the first nodes that `nodes` gives, as many as fit.
    pub(super) fn of(nodes: &mut impl Iterator<Item = Node>) -> Box<Inner> {
        let mut inner = Inner::empty();
        while !inner.is_full()
            && let Some(node) = nodes.next()
        {
            inner.insert(inner.len(), node);
        }
        inner
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.len() == CHILDREN_MAX
    }

    #[inline]
    fn first(&self, at: usize) -> Item {
        Item { score: self.scores[at], record: self.records[at] }
    }

    #[inline]
    pub(super) fn child(&self, at: usize) -> Option<&Node> {
        self.children[..self.len()].get(at)?.as_ref()
    }

    #[inline]
    pub(super) fn child_mut(&mut self, at: usize) -> Option<&mut Node> {
        self.children.get_mut(at)?.as_mut()
    }

    /// Children, with their first items and counts.
    pub(super) fn children(&self) -> impl Iterator<Item = (Item, u32, &Node)> {
        let nodes = self.children[..self.len()].iter().flatten();
        nodes.enumerate().map(|(at, node)| (self.first(at), self.counts[at], node))
    }

    /// How many children begin with an item that leads, of those before the first that does not.
    #[inline]
    fn leading(&self, lead: &mut impl Lead) -> usize {
        leading(&self.scores[..self.len()], &self.records, lead)
    }

    /// The child in which `lead` stops to hold, and how many items are before that child.
    #[inline]
    pub(super) fn child_where(&self, lead: &mut impl Lead) -> (usize, u32) {
        let at = self.leading(lead).saturating_sub(1);
        (at, self.counts[..at].iter().sum())
    }

    /// The child in which a score begins to be, by scores alone.
    #[inline]
    pub(super) fn child_of_score(&self, score: f64) -> usize {
        self.leading(&mut Among(score, |_| true)).saturating_sub(1)
    }

    /// The child that holds the item of a rank, and the item's rank in it.
    #[inline]
    pub(super) fn child_of_rank(&self, mut rank: u32) -> (usize, u32) {
        for (at, &count) in self.counts[..self.len()].iter().enumerate() {
            if rank < count {
                return (at, rank);
            }
            rank -= count;
        }
        (self.len(), rank)
    }

    fn insert(&mut self, at: usize, node: Node) {
        let len = self.len();
        self.scores.copy_within(at..len, at + 1);
        self.records.copy_within(at..len, at + 1);
        self.counts.copy_within(at..len, at + 1);
        self.children[at..=len].rotate_right(1);
        self.children[at] = Some(node);
        self.len += 1;
        self.refresh(at);
    }

    fn remove(&mut self, at: usize) -> Option<Node> {
        let len = self.len();
        let node = self.children[at].take();
        self.scores.copy_within(at + 1..len, at);
        self.records.copy_within(at + 1..len, at);
        self.counts.copy_within(at + 1..len, at);
        self.children[at..len].rotate_left(1);
        self.len -= 1;
        node
    }

    /// Takes the last child out.
    pub(super) fn pop(&mut self) -> Option<Node> {
        self.len().checked_sub(1).and_then(|last| self.remove(last))
    }

    /// Has the figures of a child say what it holds.
    fn refresh(&mut self, at: usize) {
        if let Some(node) = &self.children[at] {
            let first = node.first();
            (self.scores[at], self.records[at], self.counts[at]) = (first.score, first.record, node.count());
        }
    }

    /// Chooses the child for an item that comes where `lead` stops to hold, makes room there, and
    /// counts it. This node is not full.
    pub(super) fn step_to_insert(&mut self, item: Item, lead: &mut impl Lead, nodes: &mut Nodes) -> Step {
        let mut leading = self.leading(lead);
        if self.children[leading.saturating_sub(1)].as_ref().is_some_and(Node::is_full) {
            if self.make_room(leading.saturating_sub(1), item, lead, nodes) {
                return Step::Done;
            }
            leading = self.leading(lead);
        }
        let at = leading.saturating_sub(1);
        if leading == 0 {
            (self.scores[0], self.records[0]) = (item.score, item.record);
        }
        self.counts[at] += 1;
        Step::Below(at)
    }

    /// Makes room in a full child: by its neighbours if they are leaves with room, by splitting it
    /// otherwise. True when the item went to a leaf of its own.
    fn make_room(&mut self, at: usize, item: Item, lead: &mut impl Lead, nodes: &mut Nodes) -> bool {
        if (at > 0 && self.shift(at - 1)) || self.shift(at) {
            return false;
        }
        let is_last = at + 1 == self.len();
        let (split, done) = match self.child_mut(at) {
            Some(Node::Leaf(leaf)) => {
                nodes.leaves += 1;
                if leaf.leading(lead) == leaf.len() {
                    // Items that come in order leave full leaves behind.
                    (Node::Leaf(Leaf::of(&mut std::iter::once(item))), true)
                } else {
                    let mut next = Leaf::of(&mut std::iter::empty());
                    leaf.give_last(&mut next, leaf::ITEMS_MAX / 2);
                    (Node::Leaf(next), false)
                }
            }
            Some(Node::Inner(inner)) => {
                nodes.inners += 1;
                let kept = if is_last { CHILDREN_MAX - 1 } else { CHILDREN_MAX / 2 };
                (Node::Inner(inner.split_off(kept)), false)
            }
            None => return false,
        };
        self.refresh(at);
        self.insert(at + 1, split);
        done
    }

    /// Evens out two neighbouring leaves of which one is full. False when there are none, or the
    /// other is nearly full too.
    fn shift(&mut self, at: usize) -> bool {
        let Some((Node::Leaf(left), Node::Leaf(right))) = self.pair_mut(at) else { return false };
        let (room_left, room_right) = (leaf::ITEMS_MAX - left.len(), leaf::ITEMS_MAX - right.len());
        if room_left.max(room_right) < ROOM_MIN {
            return false;
        }
        if room_left > room_right {
            left.take_first(right, room_left / 2);
        } else {
            left.give_last(right, room_right / 2);
        }
        self.refresh(at);
        self.refresh(at + 1);
        true
    }

    /// The child at `at` and the one behind it.
    fn pair_mut(&mut self, at: usize) -> Option<(&mut Node, &mut Node)> {
        let [left, right] = self.children.get_mut(at..at + 2)? else { return None };
        Some((left.as_mut()?, right.as_mut()?))
    }

    fn split_off(&mut self, kept: usize) -> Box<Inner> {
        let moved = self.len() - kept;
        let mut next = Inner::empty();
        next.scores[..moved].copy_from_slice(&self.scores[kept..kept + moved]);
        next.records[..moved].copy_from_slice(&self.records[kept..kept + moved]);
        next.counts[..moved].copy_from_slice(&self.counts[kept..kept + moved]);
        for (to, from) in next.children.iter_mut().zip(&mut self.children[kept..]) {
            *to = from.take();
        }
        (self.len, next.len) = (kept as u32, moved as u32);
        next
    }

    /// Takes the item that `seek` finds out of what is below.
    pub(super) fn take(&mut self, seek: &mut impl Seek, nodes: &mut Nodes) -> Option<Item> {
        let at = seek.child(self);
        let child = self.child_mut(at)?;
        let item = match child {
            Node::Leaf(leaf) => {
                let index = seek.slot(leaf)?;
                leaf.remove(index)
            }
            Node::Inner(inner) => inner.take(seek, nodes)?,
        };
        let is_low = child.is_low();
        self.refresh_after_take(at);
        if is_low {
            self.join(at, nodes);
        }
        Some(item)
    }

    /// Counts one item less below a child, whose first may have changed.
    fn refresh_after_take(&mut self, at: usize) {
        self.counts[at] -= 1;
        if let Some(first) = self.children[at].as_ref().map(Node::first) {
            (self.scores[at], self.records[at]) = (first.score, first.record);
        }
    }

    /// Joins a thin child with a neighbour where both fit into one; one without items is dropped.
    fn join(&mut self, at: usize, nodes: &mut Nodes) {
        if self.counts[at] == 0 {
            if let Some(node) = self.remove(at) {
                nodes.forget(&node);
            }
        } else if at == 0 || !self.join_pair(at - 1, nodes) {
            self.join_pair(at, nodes);
        }
    }

    fn join_pair(&mut self, at: usize, nodes: &mut Nodes) -> bool {
        match self.pair_mut(at) {
            Some((Node::Leaf(left), Node::Leaf(right))) if left.len() + right.len() <= leaf::ITEMS_MAX => {
                let count = right.len();
                left.take_first(right, count);
            }
            Some((Node::Inner(left), Node::Inner(right))) if left.len() + right.len() <= CHILDREN_MAX => {
                for node in right.children.iter_mut().filter_map(Option::take) {
                    left.insert(left.len(), node);
                }
                right.len = 0;
            }
            _ => return false,
        }
        if let Some(node) = self.remove(at + 1) {
            nodes.forget(&node);
        }
        self.refresh(at);
        true
    }

    /// Takes the only child out, if there is one child alone.
    pub(super) fn only_child(&mut self) -> Option<Node> {
        if self.len() == 1 { self.pop() } else { None }
    }

    /// Takes the last leaf below this node out. The figures of the nodes above it are no longer true:
    /// this is for freeing.
    pub(super) fn pop_leaf(&mut self) -> Option<Box<Leaf>> {
        loop {
            match self.children[self.len().checked_sub(1)?].as_mut() {
                Some(Node::Inner(inner)) => {
                    if let Some(leaf) = inner.pop_leaf() {
                        return Some(leaf);
                    }
                    self.pop();
                }
                Some(Node::Leaf(_)) | None => {
                    return match self.pop()? {
                        Node::Leaf(leaf) => Some(leaf),
                        Node::Inner(_) => None,
                    };
                }
            }
        }
    }
}
