//! Random inputs for the libraries: the same answers here and there. `TEST_SEED` tries others.

use crate::harness::{Case, compare};
use crate::oracle::Random;

/// Bytes as a literal of Lua.
fn literal(bytes: &[u8]) -> String {
    let inside: String = bytes
        .iter()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b' ' => (*byte as char).to_string(),
            other => format!("\\{other:03}"),
        })
        .collect();
    format!("'{inside}'")
}

fn cases(count: usize, mut case: impl FnMut() -> String) -> Vec<Case> {
    (0..count).map(|_| (case(), None)).collect()
}

/// JSON that is mostly right.
fn json(random: &mut Random, depth: usize, out: &mut Vec<u8>) {
    let pieces: &[&[u8]] = &[
        b"null",
        b"true",
        b"false",
        b"0",
        b"-1",
        b"1.5e3",
        b"12345678901234567890",
        b"0x1F",
        b"nan",
        b"-inf",
        b"\"\"",
        b"\"a\\u00e9\\n\"",
        b"\"\\ud83d\\ude00\"",
        b"\"\\ud800\"",
        b"1e999",
        b"0.1",
        b"01",
        b"-",
        b"tru",
        b"\"\x7f/\"",
    ];
    if random.below(40) == 0 {
        out.extend(random.text(b"[]{},:\"\\u0 tfn1.-+eE\0", 3));
    }
    match if depth == 0 { 0 } else { random.below(4) } {
        0 | 1 => out.extend_from_slice(random.pick(pieces)),
        2 => {
            out.push(b'[');
            for index in 0..random.below(4) {
                if index > 0 {
                    out.extend_from_slice(random.pick(&[&b","[..], b" , ", b",\n"]));
                }
                json(random, depth - 1, out);
            }
            out.push(b']');
        }
        _ => {
            out.push(b'{');
            for index in 0..random.below(4) {
                if index > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(format!("\"k{index}\":").as_bytes());
                json(random, depth - 1, out);
            }
            out.push(b'}');
        }
    }
}

/// A value of Lua, as an expression.
fn value(random: &mut Random, depth: usize) -> String {
    const PLAIN: &[&str] = &[
        "nil",
        "true",
        "false",
        "0",
        "-1",
        "1.5",
        "2^31",
        "2^53",
        "-2^63",
        "1e15",
        "123456.789",
        "0.1",
        "1e-7",
        "1/3",
        "''",
        "'a'",
        "'\\0\\200/\"'",
        "cjson.null",
        "127",
        "128",
        "-32",
        "-33",
        "65536",
        "2^32",
        "1e300",
        "3.5e38",
    ];
    if depth == 0 || random.below(3) > 0 {
        return random.pick(PLAIN).to_owned();
    }
    let count = random.below(5);
    // A constructor with a nil in it has another length than in Redis, and one that sets a key twice
    // keeps another value.
    let items: Vec<String> = if random.below(2) == 0 {
        (0..count).map(|_| value(random, depth - 1)).filter(|item| item != "nil").collect()
    } else {
        const KEYS: &[&str] = &["a", "b", "[1]", "[2]", "[3]", "[0.5]", "[-1]", "['x']", "[4]"];
        let start = random.below(KEYS.len());
        let key = |index: usize| KEYS[(start + index * 2) % KEYS.len()];
        (0..count).map(|index| format!("{} = {}", key(index), value(random, depth - 1))).collect()
    };
    format!("{{{}}}", items.join(", "))
}

#[test]
fn random_json_is_decoded() {
    let mut random = Random::new(1);
    compare(&cases(1500, || {
        let mut text = Vec::new();
        json(&mut random, 4, &mut text);
        format!("return cjson.decode({})", literal(&text))
    }));
}

#[test]
fn random_values_are_encoded() {
    let mut random = Random::new(2);
    compare(&cases(1500, || {
        let (value, digits) = (value(&mut random, 4), 1 + random.below(14));
        format!(
            "cjson.encode_number_precision({digits}) local t = {value} \
             local text = cjson.encode(t) return cjson.decode(text), type(t) ~= 'table' and text, #text"
        )
    }));
}

#[test]
fn random_values_are_packed() {
    let mut random = Random::new(3);
    compare(&cases(1500, || {
        let value = value(&mut random, 4);
        format!(
            "local t = {value} local text = cmsgpack.pack(t) \
             return cmsgpack.unpack(text), type(t) ~= 'table' and text, #text"
        )
    }));
}

#[test]
fn random_bytes_are_unpacked() {
    let mut random = Random::new(4);
    let alphabet: Vec<u8> = (0x80..0xa4).chain(0xc0..=0xe2).chain([0, 1, 2, 3, 0x7f]).collect();
    compare(&cases(1500, || {
        let bytes = random.text(&alphabet, 24);
        let call = match random.below(3) {
            0 => format!("unpack({})", literal(&bytes)),
            1 => format!("unpack_one({}, {})", literal(&bytes), random.below(8)),
            _ => format!("unpack_limit({}, {}, {})", literal(&bytes), random.below(4), random.below(8)),
        };
        format!("return cmsgpack.{call}")
    }));
}

#[test]
fn random_layouts_are_followed() {
    let mut random = Random::new(5);
    compare(&cases(2000, || {
        let format = random.text(b"bBhHlLTiIfdsxcc012345678!<> ", 10);
        let data = random.text(b"\0\0\x01\x02\x03\x7f\x80\xffabc", 40);
        let format = literal(&format);
        match random.below(4) {
            0 => format!("return struct.size({format})"),
            1 => {
                let values: Vec<_> =
                    (0..8).map(|_| random.pick(&["1", "-1", "'abcdefgh'", "2.5", "1e10", "'7'"])).collect();
                format!("return struct.pack({format}, {})", values.join(", "))
            }
            _ => format!("return struct.unpack({format}, {}, {})", literal(&data), 1 + random.below(4)),
        }
    }));
}

#[test]
fn random_numbers_are_read_and_written() {
    let mut random = Random::new(6);
    compare(&cases(1500, || {
        // Exponents of many digits, and the last digit of numbers of another size, are LuaJIT's.
        let text = random.text(b"0123456789012345678901234567890.eE+-xXpPabcdfinty ", 6);
        let exponent = random.below(60) as i32 - 30;
        let number =
            format!("{:e}", (random.next() as i64 >> random.below(60)) as f64 * 10_f64.powi(exponent));
        format!(
            "local n = {number} return tonumber({text}), cjson.encode(n), tostring(n), cjson.decode({text})",
            text = literal(&text)
        )
    }));
}
