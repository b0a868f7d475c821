//! Items one after the other, in either direction.

use super::leaf::Leaf;
use super::{Item, Tree};

/// Items by rank. Each next leaf is found from the root, so that nothing but the rank is kept.
#[derive(Clone)]
pub struct Range<'a> {
    tree: &'a Tree,
    leaf: Option<&'a Leaf>,
    /// Where the next item is in the leaf.
    index: usize,
    /// The next item's rank.
    rank: u32,
    left: u32,
    backwards: bool,
}

impl<'a> Range<'a> {
    pub(super) fn new(tree: &'a Tree, first: u32, count: u32, backwards: bool) -> Range<'a> {
        let there = match tree.len().checked_sub(first) {
            None | Some(0) => 0,
            Some(_) if backwards => first + 1,
            Some(rest) => rest,
        };
        Range { tree, leaf: None, index: 0, rank: first, left: count.min(there), backwards }
    }
}

impl Iterator for Range<'_> {
    type Item = Item;

    #[inline]
    fn next(&mut self) -> Option<Item> {
        if self.left == 0 {
            return None;
        }
        let leaf = match self.leaf {
            Some(leaf) if self.index < leaf.len() => leaf,
            _ => {
                let (leaf, index) = self.tree.leaf_of(self.rank)?;
                (self.leaf, self.index) = (Some(leaf), index);
                leaf
            }
        };
        let item = leaf.item(self.index);
        self.left -= 1;
        // Backwards from 0 the index is beyond every leaf, and the rank is not used again.
        (self.index, self.rank) = if self.backwards {
            (self.index.wrapping_sub(1), self.rank.wrapping_sub(1))
        } else {
            (self.index + 1, self.rank + 1)
        };
        Some(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for Range<'_> {}
