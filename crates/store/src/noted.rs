//! Notes: what memcached's protocol knows of a value beside its bytes.
//!
//! A note stands in front of a short value, inside its entry, as long as what it says needs; a long value lies in an object with
//! its note. So a key that the door never wrote pays nothing. Every way in which other commands change a value writes it
//! anew, without a note: its version is another one then, and its flags are 0. A note comes along with RENAME, COPY and MOVE; DUMP
//! does not have it.
//!
//! A version has a number only once somebody has asked for it. Numbers grow from write to write of all keys.

use crate::db::{Db, Expire, edited};
use crate::evict::bytes_of;
use crate::item::Item;
use crate::keyspace::Hashed;
use crate::object::Object;
use crate::sizes::Replacing;
use crate::string::{INLINE_BYTES_MAX, Str, kind};
use larder_table::{DeadlineChange, Payload, PayloadRef};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Bits of a note's first byte.
const FETCHED: u8 = 1;
const STALE: u8 = 2;
const PROMISED: u8 = 4;

/// Numbers of versions start at the time in milliseconds and so many bits, so that none is given a second time after a restart.
const NUMBERS_A_MS: u32 = 20;

/// Bytes of a whole note.
pub const NOTE_BYTES: usize = 13;

/// What is noted of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Note {
    /// What its client gave it.
    pub flags: u32,
    /// The number of this version; 0 where none was given out.
    pub unique: u64,
    /// It was read since it was written.
    pub is_fetched: bool,
    /// It is old, and may be given until there is a new one.
    pub is_stale: bool,
    /// Somebody was told to write it anew.
    pub is_promised: bool,
}

/// A long string with its note.
pub struct Noted {
    pub(crate) note: Note,
    pub(crate) blob: Arc<Vec<u8>>,
}

impl Note {
    /// The kind of an entry that it stands in.
    fn kind(&self) -> u8 {
        match (self.unique, self.flags) {
            (0, 0) => kind::NOTED_STATE,
            (0, _) => kind::NOTED_FLAGS,
            _ => kind::NOTED,
        }
    }

    /// Its bytes, and how many of them are needed.
    fn to_bytes(self) -> ([u8; NOTE_BYTES], usize) {
        let mut bytes = [0; NOTE_BYTES];
        bytes[0] = if self.is_fetched { FETCHED } else { 0 }
            | if self.is_stale { STALE } else { 0 }
            | if self.is_promised { PROMISED } else { 0 };
        bytes[1..5].copy_from_slice(&self.flags.to_le_bytes());
        bytes[5..].copy_from_slice(&self.unique.to_le_bytes());
        (bytes, kind::note_bytes(self.kind()))
    }

    /// All of it, in [`NOTE_BYTES`]: flags of state, the client's flags, the number.
    #[must_use]
    pub fn bytes(&self) -> [u8; NOTE_BYTES] {
        self.to_bytes().0
    }

    /// What [`Note::bytes`] made.
    #[must_use]
    pub fn of_bytes(bytes: &[u8; NOTE_BYTES]) -> Note {
        Note::read(bytes)
    }

    /// Whether it is to be kept over a restart: somebody may ask for the flags, or come with the number.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        self.flags != 0 || self.unique != 0
    }

    fn read(bytes: &[u8]) -> Note {
        let state = bytes.first().copied().unwrap_or(0);
        let flags = bytes.get(1..5).and_then(|flags| flags.try_into().ok());
        let unique = bytes.get(5..13).and_then(|unique| unique.try_into().ok());
        Note {
            flags: flags.map_or(0, u32::from_le_bytes),
            unique: unique.map_or(0, u64::from_le_bytes),
            is_fetched: state & FETCHED != 0,
            is_stale: state & STALE != 0,
            is_promised: state & PROMISED != 0,
        }
    }
}

impl Item<'_> {
    /// What is noted of the value, if anything is.
    #[inline]
    pub fn note(&self) -> Option<Note> {
        match self.entry.payload() {
            PayloadRef::Inline(bytes) => match kind::note_bytes(self.entry.kind()) {
                0 => None,
                len => bytes.get(..len).map(Note::read),
            },
            PayloadRef::Boxed(Object::Noted(noted)) => Some(noted.note),
            PayloadRef::Boxed(_) => None,
        }
    }

    /// Whether the value may be given to whoever asks: not a stale one, not a promise of one. What is not whole is not kept across a
    /// restart, since other servers that read the files would give it.
    pub fn is_whole(&self) -> bool {
        self.note().is_none_or(|note| !note.is_stale && !note.is_promised)
    }
}

impl Db<'_> {
    /// Stores a string with a note, whatever the key held. Answers whether it existed. As [`Db::put_string`] otherwise.
    pub fn put_noted(&mut self, key: &Hashed<'_>, value: &[u8], note: Note, expire: Expire) -> bool {
        if value.len() > INLINE_BYTES_MAX {
            return self.put_noted_long(key, value.to_vec(), note, expire);
        }
        let mut buffer = std::mem::take(&mut self.local.scratch);
        buffer.clear();
        write_inline(&mut buffer, &note, &Str::Bytes(value));
        let existed = self.put_payload(key, note.kind(), Payload::Inline(&buffer), expire);
        buffer.clear();
        self.local.scratch = buffer;
        existed
    }

    /// The same of a string in a buffer, which becomes the value where it is long.
    pub fn put_noted_assembled(
        &mut self,
        key: &Hashed<'_>,
        value: Vec<u8>,
        note: Note,
        expire: Expire,
    ) -> bool {
        if value.len() > INLINE_BYTES_MAX {
            self.put_noted_long(key, value, note, expire)
        } else {
            self.put_noted(key, &value, note, expire)
        }
    }

    fn put_noted_long(&mut self, key: &Hashed<'_>, value: Vec<u8>, note: Note, expire: Expire) -> bool {
        let noted = Object::Noted(Box::new(Noted { note, blob: Arc::new(value) }));
        self.put_payload(key, kind::BLOB, Payload::Boxed(noted), expire)
    }

    /// Notes something else of the string that a key holds. Its value, its end and its last access stay as they are, nobody is told,
    /// and of a cell that waits for an invalidation nothing more is carried out than for a read.
    pub fn set_note(&mut self, key: &Hashed<'_>, note: Note) {
        let found = Self::find_in(self.table, &mut self.locked, self.local, self.index, key);
        let Some(mut occupied) = found.filter(|occupied| Item::new(occupied.view()).string().is_ok()) else {
            return;
        };
        if let Some(object) = occupied.boxed_mut() {
            object.set_note(note);
            return;
        }
        let old_kind = occupied.view().kind();
        let (bytes, len) = note.to_bytes();
        if kind::note_bytes(old_kind) == len {
            if let Some(place) = occupied.inline_mut().and_then(|payload| payload.get_mut(..len)) {
                place.copy_from_slice(&bytes[..len]);
            }
            return;
        }
        let mut buffer = std::mem::take(&mut self.local.scratch);
        buffer.clear();
        let view = occupied.view();
        if let Ok(value) = Item::new(view).string() {
            write_inline(&mut buffer, &note, &value);
        }
        let (had_end, bytes_before) = (view.deadline().is_some(), bytes_of(&view));
        let payload = Payload::Inline(&buffer);
        let replacing = Replacing::of(&view, note.kind(), &payload);
        let removed = occupied.replace(note.kind(), payload, DeadlineChange::Keep);
        debug_assert!(removed.boxed.is_none());
        self.table.replaced(self.local, replacing, &removed, Some(buffer.len()));
        edited(self.table, self.local, key.hash, &occupied.view(), had_end, bytes_before);
        buffer.clear();
        self.local.scratch = buffer;
    }

    /// Whether a number was given to a version before one of which this is noted. One that has no number yet is newer than all
    /// that have.
    pub fn is_before(&self, unique: u64, note: &Note) -> bool {
        let newest =
            if note.unique == 0 { self.table.followed.uniques.load(Relaxed) + 1 } else { note.unique };
        unique < newest
    }

    /// The number of a new version of a value: greater than all before.
    pub fn next_unique(&self) -> u64 {
        let last = &self.table.followed.uniques;
        if last.load(Relaxed) == 0 {
            let start = self.now().0 << NUMBERS_A_MS;
            // Somebody else may have begun meanwhile, as well.
            let _ = last.compare_exchange(0, start, Relaxed, Relaxed);
        }
        last.fetch_add(1, Relaxed) + 1
    }
}

fn write_inline(buffer: &mut Vec<u8>, note: &Note, value: &Str<'_>) {
    let (bytes, len) = note.to_bytes();
    buffer.extend_from_slice(bytes.get(..len).unwrap_or_default());
    value.write_to(buffer);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::{DbIndex, Keyspace};
    use crate::local::{Local, Millis};
    use crate::stats::StoreStats;
    use larder_table::{Epochs, Hasher};
    use proptest::prelude::*;

    fn with<R>(work: impl FnOnce(&mut Db<'_>, &Hashed<'_>) -> R) -> R {
        let keyspace = Keyspace::new(1, 1, Hasher::keyed([1, 2]), Epochs::new(4));
        let mut local = Local::new(1, Arc::new(StoreStats::default()));
        local.now = Millis(1_800_000_000_000);
        let hash = keyspace.hash(b"key");
        let locked = keyspace.lock_many(DbIndex(0), &[hash]);
        work(&mut Db::new(&keyspace, DbIndex(0), locked, &mut local), &Hashed { bytes: b"key", hash })
    }

    fn held(db: &mut Db<'_>, key: &Hashed<'_>) -> (Vec<u8>, Option<Note>, usize) {
        let item = db.peek(key).unwrap();
        (item.string().unwrap().to_vec(), item.note(), item.size())
    }

    fn note() -> impl Strategy<Value = Note> {
        let unique = prop_oneof![Just(0), any::<u64>()];
        (prop_oneof![Just(0), any::<u32>()], unique, any::<[bool; 3]>()).prop_map(|(flags, unique, bits)| {
            Note { flags, unique, is_fetched: bits[0], is_stale: bits[1], is_promised: bits[2] }
        })
    }

    fn value() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..40),
            (0_usize..2100).prop_map(|len| vec![b'x'; len]),
            any::<i64>().prop_map(|number| number.to_string().into_bytes()),
        ]
    }

    proptest! {
        #[test]
        fn a_note_is_kept_beside_any_value(bytes in value(), notes in prop::collection::vec(note(), 1..5), end in any::<bool>()) {
            with(|db, key| {
                let at = Millis(1_900_000_000_000);
                db.put_noted(key, &bytes, notes[0], if end { Expire::At(at) } else { Expire::Clear });
                for note in notes {
                    db.set_note(key, note);
                    prop_assert_eq!(held(db, key), (bytes.clone(), Some(note), bytes.len()));
                    prop_assert_eq!(db.deadline(key), Some(end.then_some(at)));
                }
                Ok(())
            })?;
        }

        #[test]
        fn a_value_without_a_note_can_be_given_one(bytes in value(), note in note()) {
            with(|db, key| {
                db.put_string(key, &bytes, Expire::Clear);
                prop_assert_eq!(held(db, key).1, None);
                db.set_note(key, note);
                prop_assert_eq!(held(db, key), (bytes.clone(), Some(note), bytes.len()));
                Ok(())
            })?;
        }

        #[test]
        fn what_others_write_has_none(bytes in value(), note in note(), way in 0..4) {
            with(|db, key| {
                db.put_noted(key, &bytes, note, Expire::Clear);
                let after = match way {
                    0 => { db.put_string(key, &bytes, Expire::Keep); bytes.clone() }
                    1 => { db.edit_string(key, |all| (all.push(b'z'), true)).unwrap(); [&bytes[..], b"z"].concat() }
                    2 => { db.put_edited(key, &bytes, Expire::Keep); bytes.clone() }
                    _ => match db.edit_integer(key, |value| value.checked_add(1).ok_or(())) {
                        Ok(value) => value.to_string().into_bytes(),
                        Err(_) => return Ok(()),
                    },
                };
                prop_assert_eq!(held(db, key), (after.clone(), None, after.len()));
                Ok(())
            })?;
        }
    }

    #[test]
    fn a_note_takes_what_it_says() {
        with(|db, key| {
            let mut size = |note: Note| {
                db.put_noted(key, b"12345678", note, Expire::Clear);
                db.peek(key).unwrap().value_bytes()
            };
            assert_eq!(size(Note::default()), 9);
            assert_eq!(size(Note { flags: 1, ..Note::default() }), 13);
            assert_eq!(size(Note { unique: 1, ..Note::default() }), 21);
        });
    }

    #[test]
    fn numbers_of_versions_grow() {
        with(|db, _| {
            let first = db.next_unique();
            assert!(first > 1_800_000_000_000 << NUMBERS_A_MS);
            assert_eq!(db.next_unique(), first + 1);
        });
    }
}
