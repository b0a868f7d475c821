//! Digests that clients see: DIGEST's hash of a value, and DEBUG DIGEST's hash of a dataset.
//!
//! Invariant: `DatasetDigest` does not depend on the order in which keys are visited.

use crate::hash::HashView;
use crate::list::ListView;
use crate::stream::{Stream, StreamId};
use crate::{number, set, zset};
use sha1::{Digest as _, Sha1};

/// The value's XXH3-64 as the 16 hexadecimal digits that DIGEST answers and IFDEQ takes.
pub fn digest_hex(value: &[u8]) -> [u8; 16] {
    let hash = xxhash_rust::xxh3::xxh3_64(value);
    std::array::from_fn(|at| hex_digit((hash >> (60 - 4 * at)) as u8 & 15))
}

fn hex_digit(digit: u8) -> u8 {
    if digit < 10 { b'0' + digit } else { b'a' + digit - 10 }
}

/// What joins a key's digest if the key has a deadline, which itself is left out: it differs
/// between a server and its copy.
const HAS_DEADLINE: &[u8] = b"!!expire!!";

/// The same for a field of a hash.
const FIELD_HAS_DEADLINE: &[u8] = b"!!hexpire!!";

/// Redis' number for values of type string.
const TYPE_STRING: u32 = 0;
/// The same for lists.
const TYPE_LIST: u32 = 1;
/// The same for sets.
const TYPE_SET: u32 = 2;
/// The same for sorted sets.
const TYPE_ZSET: u32 = 3;
/// The same for hashes.
const TYPE_HASH: u32 = 4;
/// The same for streams.
const TYPE_STREAM: u32 = 6;

/// A running SHA-1 digest as DEBUG DIGEST and DEBUG DIGEST-VALUE build it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DatasetDigest([u8; 20]);

impl DatasetDigest {
    /// The digest of nothing: zeros.
    pub fn new() -> DatasetDigest {
        DatasetDigest::default()
    }

    /// Joins bytes whose order among others does not matter: members of a set, keys of a database.
    pub fn join_unordered(&mut self, bytes: &[u8]) {
        let hash = Sha1::digest(bytes);
        self.0.iter_mut().zip(hash).for_each(|(digest, hash)| *digest ^= hash);
    }

    /// Joins bytes that come after what was joined before.
    pub fn join_ordered(&mut self, bytes: &[u8]) {
        self.join_unordered(bytes);
        self.0 = Sha1::digest(self.0).into();
    }

    /// Starts a database that has keys; databases are visited in ascending order.
    pub fn start_database(&mut self, number: u32) {
        self.join_ordered(&number.to_be_bytes());
    }

    /// Joins one key of the database started last; `join_value` joins what it holds.
    pub fn join_key(&mut self, key: &[u8], join_value: impl FnOnce(&mut DatasetDigest)) {
        let mut digest = DatasetDigest::new();
        digest.join_ordered(key);
        join_value(&mut digest);
        self.join_unordered(&digest.0);
    }

    /// Joins a string.
    pub fn join_string(&mut self, value: &[u8]) {
        self.join_ordered(&TYPE_STRING.to_be_bytes());
        self.join_ordered(value);
    }

    /// Joins a hash. O(fields).
    pub fn join_hash(&mut self, hash: HashView<'_>) {
        self.join_ordered(&TYPE_HASH.to_be_bytes());
        hash.for_each_stored(|field, value, end| {
            let mut digest = DatasetDigest::new();
            digest.join_ordered(&field.to_vec());
            digest.join_ordered(&value.to_vec());
            if end.is_some() {
                digest.join_unordered(FIELD_HAS_DEADLINE);
            }
            self.join_unordered(&digest.0);
        });
    }

    /// Joins a list. O(elements).
    pub fn join_list(&mut self, list: ListView<'_>) {
        self.join_ordered(&TYPE_LIST.to_be_bytes());
        list.for_each(0, list.len(), |element| self.join_ordered(&element.to_vec()));
    }

    /// Joins a set. O(members).
    pub fn join_set(&mut self, set: set::View<'_>) {
        self.join_ordered(&TYPE_SET.to_be_bytes());
        set.for_each(|member| self.join_unordered(&member.to_vec()));
    }

    /// Joins a sorted set. O(members).
    pub fn join_zset(&mut self, set: zset::View<'_>) {
        self.join_ordered(&TYPE_ZSET.to_be_bytes());
        let mut text = Vec::new();
        for (member, score) in set.iter() {
            text.clear();
            number::write_f64_shortest(&mut text, score);
            let mut digest = DatasetDigest::new();
            digest.join_ordered(&member.to_vec());
            digest.join_ordered(&text);
            self.join_unordered(&digest.0);
        }
    }

    /// Joins the entries of a stream. O(entries).
    pub fn join_stream(&mut self, stream: &Stream) {
        self.join_ordered(&TYPE_STREAM.to_be_bytes());
        for entry in stream.entries(StreamId::MIN, StreamId::MAX) {
            self.join_ordered(format!("{}.{}", entry.id.ms, entry.id.seq).as_bytes());
            entry.words().for_each(|word| self.join_ordered(&word.to_vec()));
        }
    }

    /// Joins that the key ends, after its value.
    pub fn join_deadline(&mut self) {
        self.join_unordered(HAS_DEADLINE);
    }

    /// The 40 hexadecimal digits that clients see.
    pub fn hex(&self) -> [u8; 40] {
        std::array::from_fn(|at| hex_digit(self.0[at / 2] >> (4 * (1 - at % 2)) & 15))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collection::{Collection, PackedLimits};

    #[test]
    fn values_hash_as_the_documentation_shows() {
        assert_eq!(&digest_hex(b"Hello world"), b"b6acb9d84a38ff74");
        assert_eq!(&digest_hex(b"hello"), b"9555e8555c62dcfd");
    }

    #[test]
    fn datasets_hash_as_redis_hashes_them() {
        let string = |value: &'static [u8], has_deadline: bool| {
            move |digest: &mut DatasetDigest| {
                digest.join_string(value);
                if has_deadline {
                    digest.join_deadline();
                }
            }
        };
        let of = |join: &dyn Fn(&mut DatasetDigest)| {
            let mut digest = DatasetDigest::new();
            join(&mut digest);
            digest.hex()
        };
        assert_eq!(&of(&string(b"1", false)), b"b4fc66738120fba0b5aa500ab5c2bf89cea1c5da");
        assert_eq!(&of(&string(b"hello", true)), b"d037c4eb8a8b36b602fbced4000daeab0714c1e3");
        let limits = PackedLimits { entries_max: 128, value_bytes_max: 64 };
        let set = zset::ZSet::from_pairs(vec![(b"a", 0.1)], limits);
        let mut digest = DatasetDigest::new();
        digest.join_zset(set.view());
        assert_eq!(&digest.hex(), b"6605f56364a85f2c14bc54c5b4318ac4616eb60a");
        let mut all = DatasetDigest::new();
        assert_eq!(&all.hex(), &[b'0'; 40]);
        all.start_database(0);
        all.join_key(b"b", string(b"hello", true));
        all.join_key(b"a", string(b"1", false));
        assert_eq!(&all.hex(), b"669dc7955c0119edb82e7cfeb40ea4a28f89f902");
        all.start_database(3);
        all.join_key(b"c", string(b"x", false));
        assert_eq!(&all.hex(), b"a7f05cbca741230dd3f265769629c113ddbc05b6");
    }
}
