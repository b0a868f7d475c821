//! DUMP and RESTORE compared with a real Redis, byte for byte.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../../values/tests/oracle/mod.rs"]
mod oracle;

use larder_persist::crc64;
use larder_persist::rdb::{Dumped, Length, Reader, RestoreError, Writer, restore};
use oracle::{Oracle, Random, Reply};

/// Values of every form: integers, short and long texts, repetitive and random ones.
fn value(random: &mut Random) -> Vec<u8> {
    match random.below(8) {
        0 => (random.next() as i64 >> random.below(64)).to_string().into_bytes(),
        1 => random.text(b"0123456789-", 12),
        2 => (0..random.below(100)).map(|_| random.next() as u8).collect(),
        3 => random.text(b"ab", 300),
        4 => {
            let piece = random.text(b"abcdefghijklmnopqrstuvwxyz", 40);
            piece.repeat(random.below(60))
        }
        5 => {
            let words: Vec<Vec<u8>> = (0..20).map(|_| random.text(b"etaoinshrdlu ", 9)).collect();
            (0..random.below(3000)).flat_map(|_| words[random.below(20)].clone()).collect()
        }
        6 => format!("{{\"id\":{},\"name\":\"user{}\",\"on\":true}}", random.next(), random.below(1000))
            .repeat(1 + random.below(4))
            .into_bytes(),
        _ => random.text(b"abcdefgh", 60),
    }
}

#[test]
fn dump_writes_the_same_bytes() {
    let Some(mut oracle) = Oracle::start() else { return };
    let mut random = Random::new(0xd009);
    let mut writer = Writer::new(true);
    for round in 0..6000 {
        let value = value(&mut random);
        let replies = oracle.pipeline(&[command!["SET", "k", value], command!["DUMP", "k"]]);
        let mut ours = Vec::new();
        writer.dump_string(&value, &mut ours);
        assert!(
            Reply::Bulk(ours.clone()) == replies[1],
            "round {round}, {} bytes: {}\nours:   {}\ntheirs: {}",
            value.len(),
            value[..value.len().min(400)].escape_ascii(),
            ours[..ours.len().min(400)].escape_ascii(),
            replies[1].clone().bytes()[..100.min(ours.len())].escape_ascii(),
        );
    }
}

/// Long values reach every offset and length of the compression, and its table's reuse.
#[test]
fn dump_writes_the_same_bytes_for_long_values() {
    let Some(mut oracle) = Oracle::start() else { return };
    let mut random = Random::new(0x1094);
    let mut writer = Writer::new(true);
    for _ in 0..150 {
        let alphabet = random.pick(&[b"ab".as_slice(), b"abcdefgh", b"0123456789abcdefghijklmnopqrstuvwxyz"]);
        let words: Vec<Vec<u8>> = (0..1 + random.below(300)).map(|_| random.text(alphabet, 300)).collect();
        let value: Vec<u8> =
            (0..random.below(3000)).flat_map(|_| words[random.below(words.len())].clone()).collect();
        let replies = oracle.pipeline(&[command!["SET", "k", value], command!["DUMP", "k"]]);
        let mut ours = Vec::new();
        writer.dump_string(&value, &mut ours);
        assert!(Reply::Bulk(ours) == replies[1], "{} bytes, seed as set", value.len());
    }
}

#[test]
fn each_restores_what_the_other_dumped() {
    let Some(mut oracle) = Oracle::start() else { return };
    let mut random = Random::new(0x4e5704e);
    let mut writer = Writer::new(true);
    for _ in 0..2000 {
        let value = value(&mut random);
        let mut ours = Vec::new();
        writer.dump_string(&value, &mut ours);
        let replies = oracle.pipeline(&[
            command!["RESTORE", "k", "0", ours, "REPLACE"],
            command!["GET", "k"],
            command!["DUMP", "k"],
        ]);
        assert_eq!(replies[0], Reply::Status(b"OK".to_vec()));
        assert_eq!(replies[1], Reply::Bulk(value.clone()));
        assert_eq!(restore(&replies[2].clone().bytes(), 1 << 20), Ok(Dumped::String(value)));
    }
}

/// Whether a string's length ends within the ten bytes of footer, which Redis reads as text.
fn runs_into_footer(object: &[u8]) -> bool {
    let mut reader = Reader::new(&object[1..]);
    let len = match reader.length() {
        Ok(Length::Plain(len)) => len,
        Ok(Length::Encoded(3)) => match (reader.plain_length(), reader.plain_length()) {
            (Ok(packed), Ok(_)) => packed,
            _ => return true,
        },
        Ok(Length::Encoded(_)) => 4,
        Err(_) => return true,
    };
    let there = reader.rest().len() as u64;
    (there + 1..=there + 10).contains(&len)
}

/// Objects changed at random under a right footer get the same verdict and the same value.
#[test]
fn broken_payloads_are_refused_alike() {
    let Some(mut oracle) = Oracle::start() else { return };
    let mut random = Random::new(0xb40c);
    let mut accepted = 0;
    for _ in 0..6000 {
        let mut payload = Vec::new();
        Writer::new(true).dump_string(&value(&mut random), &mut payload);
        payload.truncate(payload.len() - 10);
        for _ in 0..1 + random.below(3) {
            let at = random.below(payload.len().min(12));
            payload[at] =
                if random.below(3) == 0 { random.next() as u8 } else { payload[at] ^ 1 << random.below(8) };
        }
        payload[0] = if random.below(20) == 0 { 8 + 18 * (random.next() % 2) as u8 } else { 0 };
        if runs_into_footer(&payload) {
            continue;
        }
        payload.extend_from_slice(&(random.below(14) as u16).to_le_bytes());
        let checksum = crc64::checksum(&payload) ^ u64::from(random.below(30) == 0);
        payload.extend_from_slice(&checksum.to_le_bytes());
        let replies = oracle.pipeline(&[
            command!["DEL", "k"],
            command!["RESTORE", "k", "0", payload],
            command!["GET", "k"],
        ]);
        match restore(&payload, 512 << 20) {
            Ok(Dumped::String(text)) => {
                accepted += 1;
                assert_eq!(replies[2], Reply::Bulk(text), "{}", payload.escape_ascii());
            }
            Ok(other) => panic!("a string came back as {other:?}"),
            Err(error) => {
                let expected = Reply::Error(error.to_string().into_bytes());
                assert_eq!(replies[1], expected, "{}", payload.escape_ascii());
                assert_ne!(error, RestoreError::TooLong);
            }
        }
    }
    assert!(accepted > 500, "too few payloads were good: {accepted}");
}
