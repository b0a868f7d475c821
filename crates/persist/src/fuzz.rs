//! Bodies of fuzz targets, plain functions so that a test on stable Rust runs them too.
//!
//! Each takes any bytes and panics only if an invariant is broken.

use crate::rdb::{
    Dumped, DumpedHash, DumpedList, DumpedSet, DumpedZSet, RestoreError, VERSION, Writer, dump_string,
    restore,
};
use larder_values::collection::{Collection, PackedLimits};
pub use larder_values::fuzz::{fuzz_glob, fuzz_hll};
use larder_values::list::Limit;
use larder_values::set;
use larder_values::zset::ZSet;

const STRING_MAX: usize = 1 << 20;

/// Restores the bytes as a payload, and as the object of a payload whose footer is right.
pub fn fuzz_restore(bytes: &[u8]) {
    let _ = restore(bytes, STRING_MAX);
    let mut payload = bytes.to_vec();
    payload.extend_from_slice(&VERSION.to_le_bytes());
    let checksum = crate::crc64::checksum(&payload);
    payload.extend_from_slice(&checksum.to_le_bytes());
    match restore(&payload, STRING_MAX) {
        Ok(Dumped::Set(set)) => restored_set(set),
        Ok(Dumped::String(text)) => {
            assert!(text.len() <= STRING_MAX, "a string passed its bound");
            let mut again = Vec::new();
            dump_string(&text, &mut again);
            assert_eq!(restore(&again, STRING_MAX), Ok(Dumped::String(text)), "a string changed on its way");
        }
        Ok(Dumped::ZSet(dumped)) => exercise_zset(dumped),
        Ok(Dumped::Stream(stream)) => {
            stream.check();
            let mut again = Vec::new();
            Writer::new(true).dump_stream(&stream, &mut again);
            let restored = restore(&again, STRING_MAX);
            assert_eq!(restored, Ok(Dumped::Stream(stream)), "a stream changed on its way");
        }
        Ok(Dumped::Hash(dumped)) => {
            let hash = dumped.into_hash(PackedLimits { entries_max: 4, value_bytes_max: 8 });
            hash.check();
            let mut again = Vec::new();
            Writer::new(true).dump_hash(hash.look(), &mut again);
            assert_eq!(
                restore(&again, STRING_MAX),
                Ok(Dumped::Hash(DumpedHash::Small(hash))),
                "a hash changed on its way"
            );
        }
        Ok(Dumped::List(dumped)) => exercise_list(dumped),
        Err(error) => assert_ne!(error, RestoreError::VersionOrChecksum, "a right footer was refused"),
    }
}

/// A sorted set that was accepted holds its invariants, and comes back from its own payload.
fn exercise_zset(dumped: DumpedZSet) {
    let limits = PackedLimits { entries_max: 8, value_bytes_max: 64 };
    let build = |dumped| match dumped {
        DumpedZSet::Packed(packed) => ZSet::from_packed(packed, limits),
        DumpedZSet::Pairs(pairs) => ZSet::from_pairs(pairs, limits),
    };
    let all = |set: &ZSet| -> Vec<_> { set.view().iter().map(|(m, score)| (m.to_vec(), score)).collect() };
    let set = build(dumped);
    set.check();
    let mut payload = Vec::new();
    Writer::new(true).dump_zset(set.view(), &mut payload);
    let Ok(Dumped::ZSet(again)) = restore(&payload, usize::MAX) else { panic!("own payload was refused") };
    let again = build(again);
    again.check();
    assert_eq!(all(&again), all(&set), "a sorted set changed on its way");
}

/// A list that was accepted holds its invariants, and comes back from its own payload.
fn exercise_list(dumped: DumpedList) {
    let limit = Limit::of(3);
    let list = dumped.into_list(limit);
    list.check();
    let mut payload = Vec::new();
    Writer::new(true).dump_list(list.view(), &mut payload);
    let Ok(Dumped::List(again)) = restore(&payload, usize::MAX) else { panic!("own payload was refused") };
    let again = again.into_list(limit);
    again.check();
    assert_eq!(list.view().to_vecs(), again.view().to_vecs(), "a list changed");
}

/// A set comes back as the same members.
fn restored_set(dumped: DumpedSet) {
    let packed = PackedLimits { entries_max: 16, value_bytes_max: 32 };
    let limits = set::Limits { ints_max: 16, packed };
    let set = dumped.into_set(&limits);
    set.check();
    let mut again = Vec::new();
    Writer::new(true).dump_set(set.view(), &mut again);
    let Ok(Dumped::Set(restored)) = restore(&again, STRING_MAX) else {
        panic!("its own payload was refused")
    };
    let restored = restored.into_set(&limits);
    assert_eq!(restored.len(), set.len(), "a set changed on its way");
    restored.view().for_each(|member| assert!(set.view().contains(&member.to_vec()), "a member changed"));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]
        #[test]
        fn no_bytes_break_restore(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            super::fuzz_restore(&bytes);
            super::fuzz_restore(&[b"\0\xc3", bytes.as_slice()].concat());
            for kind in [4, 9, 13, 16, 22, 23, 24, 25] {
                super::fuzz_restore(&[&[kind], bytes.as_slice()].concat());
            }
        }
    }
}
