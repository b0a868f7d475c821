//! Numbers compared with a real Redis: INCRBY, ZADD and ZSCORE, INCRBYFLOAT.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod oracle;

use larder_values::number::{LongDouble, parse_f64, parse_i64, parse_weight, write_f64};
use oracle::{Oracle, Random, Reply};

/// Random text that is often a number, of any size and spelling.
fn number_text(random: &mut Random) -> Vec<u8> {
    let text = match random.below(10) {
        0 => return random.text(b"0123456789+-.eExXpPinfatyNI \t_", 8),
        1 => format!("{}", random.next() as i64 >> random.below(64)),
        2 => format!("{:.*}", random.below(20), (random.next() as i64 >> random.below(60)) as f64 / 1e6),
        3 => format!("{}e{}", random.next() as i64 >> random.below(64), random.below(50) as i64 - 25),
        4 => format!("0.{}", random.next()),
        5 => format!("{}.{}e-{}", random.below(100), random.next(), random.below(330)),
        6 => format!("{:e}", f64::from_bits(random.next())),
        7 => format!("{}{}.{}{}", random.next(), random.next(), random.next(), random.next()),
        8 => format!("0x{:x}.{:x}p{}", random.below(100_000), random.next(), random.below(100) as i64 - 50),
        _ => format!("{}", (random.next() % 100_000) as f64 / 100.0),
    };
    text.into_bytes()
}

#[test]
fn integers_are_those_of_incrby() {
    let Some(mut oracle) = Oracle::start() else { return };
    let mut random = Random::new(0x1234_5678_9abc_def1);
    let mut texts: Vec<Vec<u8>> = (0..3000).map(|_| random.text(b"0123456789-+ ", 20)).collect();
    texts.extend((0..3000).map(|_| number_text(&mut random)));
    let mut commands = Vec::new();
    for text in &texts {
        commands.push(command!["SET", "k", "0"]);
        commands.push(command!["INCRBY", "k", text]);
    }
    for (text, replies) in texts.iter().zip(oracle.pipeline(&commands).chunks(2)) {
        let expected = if let Reply::Integer(value) = replies[1] { Some(value) } else { None };
        assert_eq!(parse_i64(text), expected, "{}", text.escape_ascii());
    }
}

#[test]
fn doubles_are_those_of_zadd_and_print_as_zscore() {
    let Some(mut oracle) = Oracle::start() else { return };
    let mut random = Random::new(0x9876_5432_1abc_def3);
    let mut texts: Vec<Vec<u8>> = (0..20_000).map(|_| number_text(&mut random)).collect();
    texts.extend((0..60_000).map(|_| format!("{:e}", f64::from_bits(random.next())).into_bytes()));
    texts.extend((0..20_000).map(|_| format!("{:e}", random.next() as f64 / 1e12).into_bytes()));
    texts.extend((-1074..1024).map(|power| format!("0x1p{power}").into_bytes()));
    texts.extend((-330..310).map(|power| format!("1e{power}").into_bytes()));
    let mut commands = Vec::new();
    for text in &texts {
        commands.push(command!["DEL", "z"]);
        commands.push(command!["ZADD", "z", text, "m"]);
        commands.push(command!["ZSCORE", "z", "m"]);
    }
    for (text, replies) in texts.iter().zip(oracle.pipeline(&commands).chunks(3)) {
        let printed = parse_f64(text).map(|value| {
            let mut out = Vec::new();
            // A small sorted set, as this one, keeps a whole score as an integer, which has no sign when it is zero.
            write_f64(&mut out, if value == 0.0 { 0.0 } else { value });
            out
        });
        let expected = if let Reply::Bulk(score) = &replies[2] { Some(score) } else { None };
        assert_eq!(printed.as_ref(), expected, "{}", text.escape_ascii());
    }
}

#[test]
fn weights_are_those_of_sort() {
    let Some(mut oracle) = Oracle::start() else { return };
    let mut random = Random::new(0x5047);
    for _ in 0..3000 {
        let one = if random.below(4) == 0 {
            random.text(b"12.e-+ \x000xinf\t", 5)
        } else {
            number_text(&mut random)
        };
        let other = number_text(&mut random);
        let replies = oracle.pipeline(&[
            command!["DEL", "l"],
            command!["RPUSH", "l", one, other],
            command!["SORT", "l"],
        ]);
        let mut weighed = Vec::new();
        for text in [&one, &other] {
            weighed.extend(parse_weight(text).map(|weight| (weight, text)));
        }
        if weighed.len() < 2 {
            assert!(replies[2].is_error(), "{} {}", one.escape_ascii(), other.escape_ascii());
            continue;
        }
        weighed.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(b.1)));
        if weighed[0].0 != weighed[1].0 {
            let sorted = weighed.into_iter().map(|(_, text)| Reply::Bulk(text.clone())).collect();
            assert_eq!(replies[2], Reply::Array(sorted), "{} {}", one.escape_ascii(), other.escape_ascii());
        }
    }
}

#[test]
fn sums_are_those_of_incrbyfloat() {
    let Some(mut oracle) = Oracle::start() else { return };
    let mut random = Random::new(0x0f1e_2d3c_4b5a_6978);
    let mut pairs: Vec<(Vec<u8>, Vec<u8>)> =
        (0..30_000).map(|_| (number_text(&mut random), number_text(&mut random))).collect();
    pairs.extend((0..300).map(|_| {
        let power = random.below(10_000) as i64 - 5000;
        let text = format!("{}e{power}", random.next());
        (text.into_bytes(), format!("-{}e{}", random.next(), power + random.below(3) as i64).into_bytes())
    }));
    let mut commands = Vec::new();
    for (left, right) in &pairs {
        commands.push(command!["SET", "k", left]);
        commands.push(command!["INCRBYFLOAT", "k", right]);
    }
    let mut sums = 0;
    for ((left, right), replies) in pairs.iter().zip(oracle.pipeline(&commands).chunks(2)) {
        let ours = match (LongDouble::parse(left), LongDouble::parse(right)) {
            (Some(left), Some(right)) => left.checked_add(right).map_or(
                Reply::Error(b"ERR increment would produce NaN or Infinity".to_vec()),
                |sum| {
                    let mut out = Vec::new();
                    sum.write(&mut out);
                    sums += 1;
                    Reply::Bulk(out)
                },
            ),
            _ => Reply::Error(b"ERR value is not a valid float".to_vec()),
        };
        assert_eq!(ours, replies[1], "{} + {}", left.escape_ascii(), right.escape_ascii());
    }
    assert!(sums > 10_000, "too few of the pairs were numbers: {sums}");
}
