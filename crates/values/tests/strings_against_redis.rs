//! Globs, bitmaps and HyperLogLogs compared with a real Redis.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod oracle;

use larder_values::bits::{self, Field, FieldKind, Operation, Overflow, Range, Unit};
use larder_values::{digest, glob, hll, lcs};
use oracle::{Oracle, Random, Reply};

#[test]
fn globs_match_the_keys_that_keys_lists() {
    let Some(mut oracle) = Oracle::start() else { return };
    let mut random = Random::new(0x5151_5151_0000_0001);
    for _ in 0..4000 {
        let text = random.text(b"abAB]^-\\\x00\x80\xff", 6);
        let pattern = random.text(b"aabbAB**??[[]]^--\\\\\x00\x80\xff", 9);
        if glob::is_match_all(&pattern) {
            continue;
        }
        let replies =
            oracle.pipeline(&[command!["FLUSHALL"], command!["SET", text, "1"], command!["KEYS", pattern]]);
        let expected = replies[2].clone().array().len() == 1;
        assert_eq!(
            glob::matches(&pattern, &text),
            expected,
            "{} {}",
            pattern.escape_ascii(),
            text.escape_ascii()
        );
    }
}

#[test]
fn globs_without_case_match_the_options_that_config_get_lists() {
    let Some(mut oracle) = Oracle::start() else { return };
    let mut random = Random::new(0x77);
    let all = oracle.call(&["CONFIG", "GET", "*"]).array();
    let names: Vec<Vec<u8>> = all.chunks(2).map(|pair| pair[0].clone().bytes()).collect();
    for _ in 0..1500 {
        let mut pattern = random.pick(&names.iter().map(Vec::as_slice).collect::<Vec<_>>()).to_vec();
        for _ in 0..=random.below(4) {
            let at = random.below(pattern.len());
            pattern[at] = random.pick(b"*?[]^-\\AZaz");
        }
        pattern.make_ascii_uppercase();
        if !pattern.iter().any(|byte| b"*?[".contains(byte)) {
            continue; // CONFIG GET looks such names up without matching.
        }
        let found = oracle.call(&[b"CONFIG".as_slice(), b"GET", &pattern]).array();
        let mut expected: Vec<Vec<u8>> = found.chunks(2).map(|pair| pair[0].clone().bytes()).collect();
        let mut ours: Vec<Vec<u8>> = names
            .iter()
            .filter(|name| glob::matches_with(&pattern, name, glob::Case::Ignored))
            .cloned()
            .collect();
        expected.sort();
        ours.sort();
        assert_eq!(ours, expected, "{}", pattern.escape_ascii());
    }
}

#[test]
fn bits_count_and_stand_where_redis_says() {
    let Some(mut oracle) = Oracle::start() else { return };
    let mut random = Random::new(0xb175);
    for _ in 0..4000 {
        let value = random.text(b"\x00\x00\xff\xff\x0f\x80\x01\x55", 6);
        let (start, end) = (random.below(80) as i64 - 40, random.below(80) as i64 - 40);
        let (unit, word) = random.pick(&[(Unit::Byte, "BYTE"), (Unit::Bit, "BIT")]);
        let bit = random.below(2) == 1;
        let (from, to, digit) = (start.to_string(), end.to_string(), u8::from(bit).to_string());
        let replies = oracle.pipeline(&[
            command!["SET", "k", value],
            command!["BITCOUNT", "k", from, to, word],
            command!["BITPOS", "k", digit, from, to, word],
            command!["BITPOS", "k", digit, from],
            command!["BITPOS", "k", digit],
        ]);
        let range = Range { start, end: Some(end), unit };
        let open = Range { start, end: None, unit: Unit::Byte };
        let position = |range| bits::position(&value, bit, range).map_or(-1, |at| at as i64);
        let ours =
            [bits::count_range(&value, range) as i64, position(range), position(open), position(Range::ALL)];
        let expected: Vec<i64> = replies[1..].iter().map(|reply| reply.clone().integer()).collect();
        assert_eq!(ours, expected[..], "{value:?} {bit} {range:?}");
    }
}

#[test]
fn strings_combine_as_bitop_combines() {
    let Some(mut oracle) = Oracle::start() else { return };
    let mut random = Random::new(0xb1709);
    let operations = [
        (Operation::And, "AND"),
        (Operation::Or, "OR"),
        (Operation::Xor, "XOR"),
        (Operation::Diff, "DIFF"),
        (Operation::Diff1, "DIFF1"),
        (Operation::AndOr, "ANDOR"),
        (Operation::One, "ONE"),
        (Operation::Not, "NOT"),
    ];
    for _ in 0..800 {
        let (operation, word) = random.pick(&operations);
        let count = if operation == Operation::Not { 1 } else { 2 + random.below(4) };
        let sources: Vec<Vec<u8>> = (0..count)
            .map(|_| {
                let source: Vec<u8> = (0..random.below(100)).map(|_| random.next() as u8).collect();
                source.repeat(1 + random.below(3))
            })
            .collect();
        let mut commands = vec![command!["FLUSHALL"]];
        let mut bitop = command!["BITOP", word, "out"];
        for (index, source) in sources.iter().enumerate() {
            commands.push(command!["SET", index.to_string(), source]);
            bitop.push(index.to_string().into_bytes());
        }
        commands.extend([bitop, command!["GET", "out"]]);
        let expected = match oracle.pipeline(&commands).pop() {
            Some(Reply::Bulk(bytes)) => bytes,
            _ => Vec::new(),
        };
        let slices: Vec<&[u8]> = sources.iter().map(Vec::as_slice).collect();
        assert_eq!(bits::combine(operation, &slices), expected, "{word} {sources:?}");
    }
}

#[test]
fn fields_change_as_bitfield_changes_them() {
    let Some(mut oracle) = Oracle::start() else { return };
    let mut random = Random::new(0xf1e1d);
    let mut ours = Vec::new();
    oracle.call(&["DEL", "k"]);
    for _ in 0..6000 {
        let kind = loop {
            let sign = random.pick(b"ui") as char;
            if let Some(kind) = FieldKind::parse(format!("{sign}{}", 1 + random.below(64)).as_bytes()) {
                break (kind, format!("{sign}{}", kind.bits()));
            }
        };
        let offset = random.below(200) as u64;
        let field = Field { kind: kind.0, offset };
        let value = random.next() as i64 >> random.below(64);
        let (overflow, word) =
            random.pick(&[(Overflow::Wrap, "WRAP"), (Overflow::Saturate, "SAT"), (Overflow::Fail, "FAIL")]);
        let (verb, result) = match random.below(3) {
            0 => ("SET", field.set(&mut ours, value, overflow)),
            1 => ("INCRBY", field.increment_by(&mut ours, value, overflow)),
            _ => ("GET", Some(field.get(&ours))),
        };
        let mut command = command!["BITFIELD", "k", "OVERFLOW", word, verb, kind.1, offset.to_string()];
        if verb != "GET" {
            command.push(value.to_string().into_bytes());
        }
        let replies = oracle.pipeline(&[command, command!["GET", "k"]]);
        let expected = match &replies[0].clone().array()[0] {
            Reply::Integer(value) => Some(*value),
            _ => None,
        };
        assert_eq!(result, expected, "{verb} {} {offset} {value} {word}", kind.1);
        let stored = if let Reply::Bulk(bytes) = &replies[1] { bytes.clone() } else { Vec::new() };
        assert_eq!(ours, stored, "{verb} {} {offset} {value} {word}", kind.1);
    }
}

/// Adds, counts and merges on both sides, comparing all bytes after each step.
#[test]
fn hyperloglogs_have_the_same_bytes() {
    let Some(mut oracle) = Oracle::start() else { return };
    let mut random = Random::new(0x4117);
    for (sparse_max, rounds, range) in
        [(3000, 300, 4000), (100, 60, 500), (0, 20, 100), (15_000, 400, 60_000)]
    {
        oracle.call(&["CONFIG", "SET", "hll-sparse-max-bytes", &sparse_max.to_string()]);
        oracle.call(&["FLUSHALL"]);
        let mut keys: Vec<Option<Vec<u8>>> = vec![None; 3];
        for _ in 0..rounds {
            let at = random.below(3);
            let mut command = command!["PFADD", at.to_string()];
            let created = keys[at].is_none();
            let hll = keys[at].get_or_insert_with(hll::create);
            let mut changed = created;
            for _ in 0..random.below(20) {
                let element = random.below(range).to_string().into_bytes();
                changed |= hll::add(hll, &element, sparse_max).unwrap();
                command.push(element);
            }
            let replies = oracle.pipeline(&[command, command!["GET", at.to_string()]]);
            assert_eq!(replies[0], Reply::Integer(i64::from(changed)));
            assert_eq!(replies[1], Reply::Bulk(hll.clone()), "PFADD at {sparse_max}");
            match random.below(12) {
                0 | 1 => {
                    let replies = oracle
                        .pipeline(&[command!["PFCOUNT", at.to_string()], command!["GET", at.to_string()]]);
                    assert_eq!(replies[0], Reply::Integer(hll::count(hll).unwrap().0 as i64));
                    assert_eq!(replies[1], Reply::Bulk(hll.clone()));
                }
                2 => {
                    let decoded = oracle.call(&["PFDEBUG", "DECODE", &at.to_string()]);
                    match hll::decode(hll).unwrap() {
                        Some(text) => assert_eq!(decoded, Reply::Bulk(text)),
                        None => assert!(decoded.is_error()),
                    }
                }
                3 => merge(&mut oracle, &mut random, &mut keys, sparse_max),
                4 if random.below(20) == 0 => {
                    oracle.call(&["PFDEBUG", "TODENSE", &at.to_string()]);
                    hll::to_dense(hll).unwrap();
                }
                _ => {}
            }
        }
        for (at, hll) in keys.iter().enumerate().filter_map(|(at, hll)| Some((at, hll.as_ref()?))) {
            let registers = oracle.call(&["PFDEBUG", "GETREG", &at.to_string()]).array();
            let ours = hll::registers(hll).unwrap();
            assert!(registers.into_iter().map(Reply::integer).eq(ours.iter().map(|&value| i64::from(value))));
        }
    }
}

fn merge(oracle: &mut Oracle, random: &mut Random, keys: &mut [Option<Vec<u8>>], sparse_max: usize) {
    let (to, from) = (random.below(3), random.below(3));
    let mut union = hll::Union::new();
    for hll in [&keys[to], &keys[from]].into_iter().flatten() {
        union.merge(hll).unwrap();
    }
    let destination = keys[to].get_or_insert_with(hll::create);
    union.store(destination, sparse_max).unwrap();
    let (to, from) = (to.to_string(), from.to_string());
    let replies =
        oracle.pipeline(&[command!["PFCOUNT", to, from], command!["PFMERGE", to, from], command!["GET", to]]);
    assert_eq!(replies[0], Reply::Integer(union.count() as i64));
    assert_eq!(replies[2], Reply::Bulk(destination.clone()), "PFMERGE at {sparse_max}");
}

#[test]
fn broken_hyperloglogs_fail_alike() {
    let Some(mut oracle) = Oracle::start() else { return };
    let mut random = Random::new(0xbad);
    for round in 0..3000 {
        let mut value = hll::create();
        for _ in 0..random.below(6) {
            hll::add(&mut value, &random.next().to_le_bytes(), 3000).unwrap();
        }
        for _ in 0..random.below(3) {
            let at =
                if round % 5 == 0 { random.below(value.len()) } else { 16 + random.below(value.len() - 16) };
            value[at] = random.next() as u8;
        }
        // Only whole headers and bodies: how far Redis reads past a cut one is not defined.
        let replies = oracle.pipeline(&[
            command!["SET", "k", value],
            command!["DEL", "m"],
            command!["PFMERGE", "m", "k"],
            command!["PFCOUNT", "k"],
        ]);
        let text = |error: hll::Error| Reply::Error(error.message().as_bytes().to_vec());
        let mut union = hll::Union::new();
        let merged = union.merge(&value).map_or_else(text, |()| Reply::Status(b"OK".to_vec()));
        assert_eq!(merged, replies[2], "{}", value.escape_ascii());
        let counted =
            hll::count(&mut value.clone()).map_or_else(text, |(count, _)| Reply::Integer(count as i64));
        assert_eq!(counted, replies[3], "{}", value.escape_ascii());
    }
}

#[test]
fn common_subsequences_are_those_of_lcs() {
    let Some(mut oracle) = Oracle::start() else { return };
    let mut random = Random::new(0x1c5);
    for _ in 0..1500 {
        let alphabet = random.pick(&[b"ab".as_slice(), b"abcdefgh", b"abcdefghijklmnopqrstuvwxyz0123"]);
        let (a, b) = (random.text(alphabet, 140), random.text(alphabet, 140));
        let len_min = random.below(4);
        let mut replies = oracle.pipeline(&[
            command!["SET", "a", a],
            command!["SET", "b", b],
            command!["LCS", "a", "b"],
            command!["LCS", "a", "b", "LEN"],
            command!["LCS", "a", "b", "IDX", "MINMATCHLEN", len_min.to_string()],
        ]);
        let found = replies.pop().unwrap().array();
        let (runs, total) = lcs::matches(&a, &b, len_min);
        let pair = |(from, to): (usize, usize)| {
            Reply::Array(vec![Reply::Integer(from as i64), Reply::Integer(to as i64)])
        };
        let runs = runs.into_iter().map(|run| Reply::Array(vec![pair(run.a), pair(run.b)])).collect();
        assert_eq!(found[1], Reply::Array(runs), "{} {}", a.escape_ascii(), b.escape_ascii());
        assert_eq!(found[3], Reply::Integer(total as i64));
        assert_eq!(replies.pop().unwrap(), Reply::Integer(lcs::length(&a, &b) as i64));
        assert_eq!(replies.pop().unwrap(), Reply::Bulk(lcs::subsequence(&a, &b)));
    }
}

#[test]
fn datasets_digest_as_debug_digest_says() {
    let Some(mut oracle) = Oracle::start() else { return };
    let mut random = Random::new(0xd16e57);
    for _ in 0..50 {
        oracle.call(&["FLUSHALL"]);
        let mut expected = digest::DatasetDigest::new();
        for database in [0_u32, 5, 15] {
            oracle.call(&["SELECT", &database.to_string()]);
            for number in 0..random.below(20) {
                if number == 0 {
                    expected.start_database(database);
                }
                let key = format!("{number}-{}", random.next() >> random.below(64)).into_bytes();
                let value = random.text(b"0123456789 ab", 4);
                let has_deadline = random.below(3) == 0;
                let mut command = command!["SET", key, value];
                if has_deadline {
                    command.extend(command!["EX", "1000"]);
                }
                let replies = oracle.pipeline(&[command, command!["DEBUG", "DIGEST-VALUE", key]]);
                let join = |digest: &mut digest::DatasetDigest| {
                    digest.join_string(&value);
                    if has_deadline {
                        digest.join_deadline();
                    }
                };
                let mut alone = digest::DatasetDigest::new();
                join(&mut alone);
                assert_eq!(replies[1], Reply::Array(vec![Reply::Status(alone.hex().to_vec())]));
                expected.join_key(&key, join);
            }
        }
        assert_eq!(oracle.call(&["DEBUG", "DIGEST"]), Reply::Status(expected.hex().to_vec()));
    }
}
