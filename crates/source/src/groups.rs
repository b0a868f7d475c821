//! The rows of a batch, told apart by what their first columns hold: which are which key's.

use crate::shape::push_text;
use crate::value::Row;
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use std::hash::BuildHasher as _;
use std::ops::Range;

/// Rows by the keys that they are of.
#[derive(Debug)]
pub struct Groups {
    /// Those of one key stand behind one another.
    rows: Vec<Row>,
    /// What the groups are found by, one behind the other.
    words: Vec<u8>,
    groups: Vec<Group>,
    places: HashTable<u32>,
    hasher: RandomState,
}

#[derive(Debug)]
struct Group {
    words: Range<usize>,
    rows: Range<usize>,
    is_taken: bool,
}

impl Groups {
    /// Tells rows apart by their first `names` columns. The rows of a key keep their order.
    pub fn new(mut rows: Vec<Row>, names: usize) -> Groups {
        let hasher = RandomState::default();
        let (mut words, mut groups) = (Vec::new(), Vec::<Group>::with_capacity(rows.len()));
        let mut places: HashTable<u32> = HashTable::with_capacity(rows.len());
        let mut of_rows: Vec<u32> = Vec::with_capacity(rows.len());
        for row in &rows {
            let start = words.len();
            push_joined(&mut words, row.get(..names).unwrap_or(row), push_text);
            let own = start..words.len();
            let hash = hasher.hash_one(&words[own.clone()]);
            let is_same = |place: &u32| words[groups[*place as usize].words.clone()] == words[own.clone()];
            let place = match places.find(hash, is_same) {
                Some(place) => *place,
                None => groups.len() as u32,
            };
            if let Some(group) = groups.get_mut(place as usize) {
                group.rows.end += 1;
                words.truncate(start);
            } else {
                groups.push(Group { words: own, rows: 0..1, is_taken: false });
                let hash_of = |place: &u32| hasher.hash_one(&words[groups[*place as usize].words.clone()]);
                places.insert_unique(hash, place, hash_of);
            }
            of_rows.push(place);
        }
        let mut at = 0;
        for group in &mut groups {
            group.rows = at..at + group.rows.len();
            at = group.rows.end;
        }
        if groups.len() < rows.len() {
            let mut placed: Vec<(u32, Row)> = of_rows.into_iter().zip(rows).collect();
            placed.sort_by_key(|(place, _)| *place);
            rows = placed.into_iter().map(|(_, row)| row).collect();
        }
        Groups { rows, words, groups, places, hasher }
    }

    /// The rows of a key by its words, joined as the rows were, to be taken apart; `None` if they were given before.
    pub fn take(&mut self, words: &[u8]) -> Option<&mut [Row]> {
        let is_of = |place: &u32| self.words[self.groups[*place as usize].words.clone()] == *words;
        let Some(place) = self.places.find(self.hasher.hash_one(words), is_of) else {
            return Some(&mut []);
        };
        let group = &mut self.groups[*place as usize];
        let was_taken = std::mem::replace(&mut group.is_taken, true);
        if was_taken { None } else { Some(&mut self.rows[group.rows.clone()]) }
    }
}

/// Appends words as one, which no other words give, each written by `push`.
pub(crate) fn push_joined<W>(out: &mut Vec<u8>, words: &[W], push: impl Fn(&mut Vec<u8>, &W)) {
    if let [only] = words {
        return push(out, only);
    }
    for word in words {
        let start = out.len();
        out.extend_from_slice(&[0; 8]);
        push(out, word);
        let length = (out.len() - start - 8) as u64;
        out[start..start + 8].copy_from_slice(&length.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::joined;
    use crate::value::Cell;

    fn row(cells: &[Cell]) -> Row {
        cells.into()
    }

    fn text(text: &str) -> Cell {
        Cell::Text(text.as_bytes().into())
    }

    #[test]
    fn a_batch_is_told_apart() {
        let rows = vec![
            row(&[Cell::Integer(1), text("a")]),
            row(&[Cell::Integer(2), text("b")]),
            row(&[Cell::Integer(1), text("c")]),
        ];
        let mut groups = Groups::new(rows, 1);
        let of_one = [row(&[Cell::Integer(1), text("a")]), row(&[Cell::Integer(1), text("c")])];
        assert_eq!(groups.take(b"1"), Some(&mut of_one.clone()[..]));
        assert_eq!(groups.take(b"1"), None);
        assert_eq!(groups.take(b"2").map(|rows| rows.len()), Some(1));
        assert_eq!(groups.take(b"3"), Some(&mut [][..]));
        assert_eq!(groups.take(b"3"), Some(&mut [][..]));
    }

    #[test]
    fn several_words_are_one_key() {
        let rows = vec![row(&[text("a"), text("bc"), Cell::Null]), row(&[text("ab"), text("c"), text("x")])];
        let mut groups = Groups::new(rows, 2);
        let words = |words: [&str; 2]| joined(words.map(|word| word.as_bytes()).to_vec());
        assert_eq!(groups.take(&words(["ab", "c"])).map(|rows| rows[0][2].clone()), Some(text("x")));
        assert_eq!(groups.take(&words(["a", "bc"])).map(|rows| rows[0][2].clone()), Some(Cell::Null));
        assert_eq!(groups.take(&words(["abc", ""])).map(|rows| rows.len()), Some(0));
    }
}
