//! What files have beside keys that no key of an RDB file has a place for: in aux fields, which other servers pass over.
//!
//! `larder-policy` stands in the head: which eviction policy there was, and what it had learned; and `larder-insight`, what CACHE HOTKEYS, STATS
//! and MRC tell. In front of the keys of each chunk stand
//! `larder-uses`, what the policy knew of each of them, and `larder-notes`, the flags and versions of memcached's clients. Where hot keys stand
//! in front, `larder-cold` is behind them, and behind that `larder-hot-sum`, the checksum of what stands before itself.
//! Invariant: none of it is needed to read the keys, and what does not fit them is left alone.

use larder_store::{KEPT_BYTES, KEPT_NOTHING, Kind, Learned, NOTE_BYTES, Note};
use std::collections::VecDeque;

/// The aux field of what a policy has learned.
pub const POLICY: &str = "larder-policy";
/// The aux field of what is told of accesses.
pub const INSIGHT: &str = "larder-insight";
/// The aux field of what a policy knows of the keys behind it.
pub const USES: &str = "larder-uses";
/// The aux field behind the hot keys of a file; its value says nothing.
pub const COLD: &str = "larder-cold";
/// The aux field behind that: the checksum of the file up to here, eight bytes, the lowest first; 0 where there is none.
pub const HOT_SUM: &str = "larder-hot-sum";
/// The aux field of what is noted of values behind it.
pub const NOTES: &str = "larder-notes";

/// Bytes of a note with the place of its key.
const NOTED_BYTES: usize = 4 + NOTE_BYTES;
/// Parts of a policy that are read.
const PARTS_MAX: usize = 4096;
/// Bytes that are held until their keys come; what a file has beyond that is left alone.
const HELD_BYTES_MAX: usize = 64 << 20;

/// The value of the field of what a policy has learned: its name, a zero, and each part behind its length, four bytes.
#[must_use]
pub fn policy(learned: &Learned) -> Vec<u8> {
    let mut value = learned.kind.name().as_bytes().to_vec();
    value.push(0);
    for part in &learned.parts {
        value.extend_from_slice(&u32::try_from(part.len()).unwrap_or(0).to_le_bytes());
        value.extend_from_slice(part);
    }
    value
}

/// Reads what [`policy`] wrote. `None` where it is something else.
#[must_use]
pub fn read_policy(value: &[u8]) -> Option<Learned> {
    let end = value.iter().position(|byte| *byte == 0)?;
    let (kind, mut rest) = (Kind::by_name(value.get(..end)?)?, value.get(end + 1..)?);
    let mut parts = Vec::new();
    while let Some((len, behind)) = rest.split_first_chunk() {
        let (part, behind) = behind.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        parts.push(part.to_vec());
        rest = behind;
        if parts.len() > PARTS_MAX {
            return None;
        }
    }
    Some(Learned { kind, parts })
}

/// What is known of the keys of a piece.
#[derive(Debug, Default)]
pub struct OfPiece {
    /// What a policy knew of each, [`KEPT_BYTES`] a key; empty where nothing is known of any.
    kept: Vec<u8>,
    /// What is noted of some, by their places, ascending.
    notes: Vec<(u64, Note)>,
}

impl OfPiece {
    /// What a policy knew of a key, by its place in the piece.
    #[must_use]
    pub fn kept(&self, place: usize) -> Option<u32> {
        let &[low, middle, high] = self.kept.get(place * KEPT_BYTES..)?.first_chunk()?;
        let kept = u32::from_le_bytes([low, middle, high, 0]);
        (kept != KEPT_NOTHING).then_some(kept)
    }

    /// What is noted of its value.
    #[must_use]
    pub fn note(&self, place: usize) -> Option<Note> {
        let at = self.notes.binary_search_by_key(&(place as u64), |(place, _)| *place).ok()?;
        self.notes.get(at).map(|(_, note)| *note)
    }
}

/// What was told of keys that have not come yet.
#[derive(Debug, Default)]
pub struct Beside {
    /// What a policy knew of keys from one on, by their numbers in the file.
    kept: VecDeque<(u64, Vec<u8>)>,
    notes: VecDeque<(u64, Note)>,
    /// Keys that have come.
    keys: u64,
}

impl Beside {
    /// An aux field was told, behind so many keys.
    pub fn tell(&mut self, name: &[u8], value: Vec<u8>, keys_before: u64) {
        let held: usize = self.kept.iter().map(|(_, kept)| kept.len()).sum();
        if held + self.notes.len() * NOTED_BYTES + value.len() > HELD_BYTES_MAX {
            return;
        }
        if name == USES.as_bytes() {
            self.kept.push_back((keys_before, value));
        } else if name == NOTES.as_bytes() {
            let (notes, _) = value.as_chunks::<NOTED_BYTES>();
            let mut last = self.notes.back().map(|(key, _)| *key);
            for noted in notes {
                let Some((place, note)) = noted.split_first_chunk::<4>() else { return };
                let (place, Ok(note)) = (u32::from_le_bytes(*place), note.try_into()) else { return };
                let key = keys_before.saturating_add(u64::from(place));
                if last.is_none_or(|last| last < key) {
                    self.notes.push_back((key, Note::of_bytes(note)));
                    last = Some(key);
                }
            }
        }
    }

    /// So many keys come: what is known of them.
    pub fn take(&mut self, keys: u64) -> OfPiece {
        let (first, end) = (self.keys, self.keys + keys);
        self.keys = end;
        let mut of_piece = OfPiece::default();
        while let Some((key, note)) = self.notes.pop_front_if(|(key, _)| *key < end) {
            of_piece.notes.extend(key.checked_sub(first).map(|place| (place, note)));
        }
        while let Some((from, kept)) = self.kept.front().filter(|(from, _)| *from < end) {
            let until = from.saturating_add((kept.len() / KEPT_BYTES) as u64);
            if of_piece.kept.is_empty() {
                of_piece.kept = vec![0xff; keys as usize * KEPT_BYTES];
            }
            let (begin, stop) = ((*from).max(first), until.min(end));
            let there = kept.get(bytes_of(begin - from)..bytes_of(stop.saturating_sub(*from)));
            let here = of_piece.kept.get_mut(bytes_of(begin - first)..bytes_of(stop.saturating_sub(first)));
            if let (Some(there), Some(here)) = (there, here) {
                here.copy_from_slice(there);
            }
            if until > end {
                break;
            }
            self.kept.pop_front();
        }
        of_piece
    }
}

fn bytes_of(keys: u64) -> usize {
    usize::try_from(keys).unwrap_or(usize::MAX).saturating_mul(KEPT_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_policy_has_learned_is_read_back() {
        for parts in [vec![], vec![vec![]], vec![vec![1, 2, 3], vec![], vec![4]]] {
            let learned = Learned { kind: Kind::Adaptive, parts };
            assert_eq!(read_policy(&policy(&learned)), Some(learned));
        }
        for wrong in [&b""[..], b"lru", b"nothing\0", b"lru\0\x05\0\0\0ab"] {
            assert_eq!(read_policy(wrong), None, "{}", wrong.escape_ascii());
        }
    }

    #[test]
    fn what_is_known_of_keys_comes_with_them_however_they_are_cut() {
        let kept = |keys: std::ops::Range<u32>| -> Vec<u8> {
            keys.flat_map(|key| key.to_le_bytes().into_iter().take(KEPT_BYTES)).collect()
        };
        let note = |flags| Note { flags, ..Note::default() };
        let noted = |place: u32, flags| [&place.to_le_bytes()[..], &note(flags).bytes()].concat();
        for each in 1..12 {
            let mut beside = Beside::default();
            // Keys 0 to 9 have what is known of them, 10 to 12 not, 13 to 19 again.
            beside.tell(USES.as_bytes(), kept(0..10), 0);
            beside.tell(NOTES.as_bytes(), [noted(2, 7), noted(9, 8)].concat(), 0);
            beside.tell(USES.as_bytes(), kept(13..20), 13);
            beside.tell(NOTES.as_bytes(), noted(6, 9), 13);
            let (mut found, mut notes) = (Vec::new(), Vec::new());
            for first in (0..20).step_by(each) {
                let keys = each.min(20 - first);
                let of_piece = beside.take(keys as u64);
                found.extend((0..keys).map(|place| of_piece.kept(place)));
                notes.extend((0..keys).map(|place| of_piece.note(place).map(|note| note.flags)));
            }
            let expected: Vec<_> = (0..20).map(|key| (!(10..13).contains(&key)).then_some(key)).collect();
            assert_eq!(found, expected, "in pieces of {each}");
            let expected: Vec<_> = (0..20)
                .map(|key| {
                    [(2, 7), (9, 8), (19, 9)].iter().find(|(at, _)| *at == key).map(|(_, flags)| *flags)
                })
                .collect();
            assert_eq!(notes, expected, "in pieces of {each}");
        }
    }

    #[test]
    fn what_does_not_fit_is_left_alone() {
        let mut beside = Beside::default();
        beside.tell(USES.as_bytes(), vec![1; 7], 5);
        beside.tell(USES.as_bytes(), vec![2; 300], u64::MAX - 1);
        beside.tell(NOTES.as_bytes(), vec![0xff; 50], u64::MAX - 1);
        beside.tell(b"other", vec![2; 300], 0);
        let of_piece = beside.take(10);
        let known: Vec<usize> = (0..12).filter(|place| of_piece.kept(*place).is_some()).collect();
        assert_eq!(known, [5, 6]);
        assert!((0..12).all(|place| of_piece.note(place).is_none()));
    }
}
