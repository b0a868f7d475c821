//! The body of a fuzz target, a plain function so that tests run it too. It takes any bytes and panics only if an invariant is broken.

use crate::record::{self, Record, scan};

/// Reads the bytes as a file, as they are and with the checksum of the first record put right; what is read comes back from its
/// own bytes.
pub fn fuzz_behind(bytes: &[u8]) {
    check(bytes);
    let mut framed = Vec::new();
    record::write_done([], &mut framed);
    framed.truncate(8);
    if let Some(rest) = bytes.get(1..) {
        let length = (rest.len() as u32).to_le_bytes();
        framed[4..8].copy_from_slice(&length);
        let checksum = record::crc32c(record::crc32c(0, &length), rest);
        framed.extend_from_slice(&checksum.to_le_bytes());
        framed.extend_from_slice(rest);
        check(&framed);
    }
}

fn check(bytes: &[u8]) {
    let scanned = scan(bytes, 0);
    assert!(scanned.good <= bytes.len());
    assert!(scanned.next.is_none_or(|next| next > scanned.good && next < bytes.len()));
    let mut again = Vec::new();
    for record in &scanned.records {
        match record {
            Record::Write(write) => record::write_write(write, &mut again),
            Record::Group(writes) => record::write_group(writes, &mut again),
            Record::Done(seqs) => record::write_done(seqs.iter().copied(), &mut again),
            Record::Letter(letter) => record::write_letter(letter, &mut again),
        }
    }
    assert_eq!(scan(&again, 0).records, scanned.records, "a record changed on its way");
}
