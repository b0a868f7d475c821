//! The longest common subsequence of two strings, 64 cells of the table at a time.
//!
//! Bit vectors after Hyyrö ("Bit-parallel LCS-length computation revisited", 2004): in the row of
//! each byte of `a`, bit j is 0 where the length grows from column j to j + 1. That bit is all the
//! way back needs, so the table takes a bit per cell where Redis takes four bytes.
//! Invariant: among several longest subsequences the choice is Redis': at a difference, step back
//! in `b` unless that loses length.

/// A run of bytes common to both strings; positions are of first and last byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    /// First and last position in the first string.
    pub a: (usize, usize),
    /// First and last position in the second string.
    pub b: (usize, usize),
}

impl Match {
    /// How many bytes match; at least 1.
    #[allow(clippy::len_without_is_empty, reason = "a match is never empty")]
    pub fn len(&self) -> usize {
        self.a.1 - self.a.0 + 1
    }
}

/// The bytes Redis would allocate for the table: LCS is refused when they are more than
/// `proto-max-bulk-len`, or not a number (`None`).
pub fn table_bytes(a_len: usize, b_len: usize) -> Option<u64> {
    let (rows, columns) = (u64::try_from(a_len).ok()?, u64::try_from(b_len).ok()?);
    rows.checked_add(1)?.checked_mul(columns.checked_add(1)?)?.checked_mul(4)
}

/// Length of the longest common subsequence. Time a × b / 64, memory b / 8 for each byte value in `a`.
pub fn length(a: &[u8], b: &[u8]) -> usize {
    let columns = Columns::of(a, b);
    let mut row = columns.first_row();
    for &byte in a {
        columns.advance(&mut row, byte);
    }
    columns.growth(&row)
}

/// The longest common subsequence that Redis picks. Time and memory a × b / 64.
pub fn subsequence(a: &[u8], b: &[u8]) -> Vec<u8> {
    let mut reversed = Vec::new();
    walk_back(a, b, |step| {
        if let Step::Common { at_a, .. } = step {
            reversed.push(a[at_a]);
        }
    });
    reversed.reverse();
    reversed
}

/// The runs that make up the subsequence, last first, those of at least `len_min` bytes; and the
/// length of the whole. Time and memory a × b / 64.
pub fn matches(a: &[u8], b: &[u8], len_min: usize) -> (Vec<Match>, usize) {
    let (mut found, mut total) = (Vec::new(), 0);
    let mut open: Option<Match> = None;
    walk_back(a, b, |step| match step {
        Step::Common { at_a, at_b } => {
            total += 1;
            let run = open.get_or_insert(Match { a: (at_a, at_a), b: (at_b, at_b) });
            (run.a.0, run.b.0) = (at_a, at_b);
        }
        Step::Gap => found.extend(open.take()),
    });
    found.extend(open);
    found.retain(|run| run.len() >= len_min);
    (found, total)
}

enum Step {
    /// The two bytes at these positions are equal and used.
    Common { at_a: usize, at_b: usize },
    /// One byte of one string is left out.
    Gap,
}

/// Reports the way from the table's last cell to its edge.
fn walk_back(a: &[u8], b: &[u8], mut visit: impl FnMut(Step)) {
    let columns = Columns::of(a, b);
    let words = columns.words;
    let mut row = columns.first_row();
    let mut table = Vec::with_capacity(words * a.len());
    for &byte in a {
        columns.advance(&mut row, byte);
        table.extend_from_slice(&row);
    }
    let (mut i, mut j) = (a.len(), b.len());
    while i > 0 && j > 0 {
        if a[i - 1] == b[j - 1] {
            (i, j) = (i - 1, j - 1);
            visit(Step::Common { at_a: i, at_b: j });
            continue;
        }
        // The length grows into this column, so only the row above keeps it.
        let grows = table[(i - 1) * words + (j - 1) / 64] >> ((j - 1) % 64) & 1 == 0;
        if grows {
            i -= 1;
        } else {
            j -= 1;
        }
        visit(Step::Gap);
    }
}

/// For each byte value of `a`, the columns of `b` that hold it.
struct Columns {
    words: usize,
    len: usize,
    /// Which mask a byte value has.
    index: [u16; 256],
    masks: Vec<u64>,
}

impl Columns {
    fn of(a: &[u8], b: &[u8]) -> Columns {
        const NONE: u16 = u16::MAX;
        let words = b.len().div_ceil(64);
        let mut index = [NONE; 256];
        let mut distinct = 0;
        for &byte in a {
            if index[usize::from(byte)] == NONE {
                index[usize::from(byte)] = distinct;
                distinct += 1;
            }
        }
        let mut masks = vec![0; words * usize::from(distinct)];
        for (at, &byte) in b.iter().enumerate() {
            let mask = index[usize::from(byte)];
            if mask != NONE {
                masks[usize::from(mask) * words + at / 64] |= 1 << (at % 64);
            }
        }
        Columns { words, len: b.len(), index, masks }
    }

    /// The row above the first: the length grows nowhere.
    fn first_row(&self) -> Vec<u64> {
        vec![u64::MAX; self.words]
    }

    /// Turns the row above into the row of `byte`, which is one of `a`'s.
    fn advance(&self, row: &mut [u64], byte: u8) {
        let start = usize::from(self.index[usize::from(byte)]) * self.words;
        let mut carry = false;
        for (word, mask) in row.iter_mut().zip(&self.masks[start..start + self.words]) {
            let equal = *word & mask;
            let (sum, over) = word.overflowing_add(equal);
            let (sum, over_again) = sum.overflowing_add(u64::from(carry));
            carry = over || over_again;
            *word = sum | (*word & !mask);
        }
    }

    fn growth(&self, row: &[u64]) -> usize {
        let zeros: u32 = row.iter().map(|word| word.count_zeros()).sum();
        // Bits past the last column never turn 0: no mask has them, and a carry only passes ones.
        debug_assert!(zeros as usize <= self.len);
        zeros as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_example_of_the_documentation() {
        let (a, b) = (b"ohmytext", b"mynewtext");
        assert_eq!((length(a, b), subsequence(a, b)), (6, b"mytext".to_vec()));
        let runs = vec![Match { a: (4, 7), b: (5, 8) }, Match { a: (2, 3), b: (0, 1) }];
        assert_eq!(matches(a, b, 0), (runs.clone(), 6));
        assert_eq!(matches(a, b, 4), (runs[..1].to_vec(), 6));
        assert_eq!(matches(b"", b"x", 0), (Vec::new(), 0));
        assert_eq!(table_bytes(20_000, 20_000), Some(20_001 * 20_001 * 4));
        assert_eq!(table_bytes(usize::MAX, 1), None);
    }

    /// The table as the textbook fills it.
    fn table(a: &[u8], b: &[u8]) -> Vec<Vec<usize>> {
        let mut table = vec![vec![0; b.len() + 1]; a.len() + 1];
        for i in 1..=a.len() {
            for j in 1..=b.len() {
                table[i][j] = match a[i - 1] == b[j - 1] {
                    true => table[i - 1][j - 1] + 1,
                    false => table[i - 1][j].max(table[i][j - 1]),
                };
            }
        }
        table
    }

    fn textbook_subsequence(a: &[u8], b: &[u8]) -> Vec<u8> {
        let (table, mut found) = (table(a, b), Vec::new());
        let (mut i, mut j) = (a.len(), b.len());
        while i > 0 && j > 0 {
            if a[i - 1] == b[j - 1] {
                found.insert(0, a[i - 1]);
                (i, j) = (i - 1, j - 1);
            } else if table[i - 1][j] > table[i][j - 1] {
                i -= 1;
            } else {
                j -= 1;
            }
        }
        found
    }

    proptest! {
        #[test]
        fn as_the_textbook(a in "[abcd]{0,150}", b in "[abcde]{0,150}") {
            let (a, b) = (a.as_bytes(), b.as_bytes());
            let expected = textbook_subsequence(a, b);
            prop_assert_eq!(length(a, b), expected.len());
            let (runs, total) = matches(a, b, 0);
            prop_assert_eq!(total, expected.len());
            prop_assert_eq!(runs.iter().map(Match::len).sum::<usize>(), total);
            prop_assert!(runs.iter().all(|run| a[run.a.0..=run.a.1] == b[run.b.0..=run.b.1]));
            prop_assert_eq!(subsequence(a, b), expected);
        }
    }
}
