//! Values for arguments: few keys, so that commands meet, and the edges of every kind of number.
//! Invariant: no time to live ends while the test runs, and no offset makes a value of many
//! megabytes, so nothing depends on how fast a server is.

use super::random::Random;

const KEYS: [&[u8]; 10] = [
    b"a",
    b"b",
    b"c",
    b"d",
    b"e",
    b"f",
    b"",
    b"\x00k\xff",
    b"long key with spaces",
    b"a key with a longer header: 36 bytes",
];

/// Some are as long as Redis embeds beside a key of one byte or of 36, with an end and without.
const STRINGS: [&[u8]; 26] = [
    b"",
    b"a",
    b"b",
    b"hello",
    b"0",
    b"1",
    b"-1",
    b"10",
    b"007",
    b"-0",
    b"+1",
    b" 1",
    b"1 ",
    b"1.5",
    b"3.0e3",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"9223372036854775808",
    b"inf",
    b"nan",
    b"\x00",
    b"\xff\x00\x80",
    b"ohmytext",
    b"thirty-two bytes beside its key.",
    b"forty bytes beside its key, but no end..",
    b"forty-one bytes beside its key, with none.",
];

const INTEGERS: [&[u8]; 21] = [
    b"0",
    b"1",
    b"2",
    b"3",
    b"-1",
    b"-2",
    b"5",
    b"8",
    b"100",
    b"-100",
    b"2147483647",
    b"2147483648",
    b"-2147483649",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"9223372036854775808",
    b"abc",
    b"",
    b"1.5",
    b"+1",
    b"01",
];

const DOUBLES: [&[u8]; 14] = [
    b"0",
    b"1",
    b"-1",
    b"1.5",
    b"-0.1",
    b"1e10",
    b"1e-5",
    b"3.0e3",
    b"inf",
    b"-inf",
    b"nan",
    b"abc",
    b"",
    b"9223372036854775807",
];

const OFFSETS: [&[u8]; 18] = [
    b"0",
    b"1",
    b"2",
    b"7",
    b"8",
    b"9",
    b"15",
    b"63",
    b"64",
    b"100",
    b"1000",
    b"-1",
    b"#1",
    b"#2",
    b"4294967296",
    b"9223372036854775807",
    b"abc",
    b"",
];

/// Few fields, so that commands meet; two of them spell one number, and one is too long for a small hash.
const FIELDS: [&[u8]; 8] = [b"a", b"b", b"c", b"1", b"01", b"", b"\x00\xff", &[b'f'; 70]];

/// The shortest duration that lasts, in seconds or milliseconds: the latter are more than two hours.
const DURATION_MIN: usize = 10_000_000;
/// By how much durations differ: more than the clocks of two servers, in milliseconds too.
const DURATION_STEP: usize = 10_000;
/// How many durations there are. Two of one length must be rare: which of two ends is the later one (GT,
/// LT) would be a matter of whether the clock ticked between the commands, on each server for itself.
const DURATIONS: usize = 100_000;

/// Durations in seconds or milliseconds that are over, or impossible.
const NO_DURATIONS: [&[u8]; 6] =
    [b"0", b"-1", b"9223372036854775807", b"9223372036854775", b"-9223372036854775808", b"abc"];

/// Unix times in seconds or milliseconds, likewise.
const TIMES: [&[u8]; 9] = [
    b"33177117420000",
    b"33177117421000",
    b"33177117430000",
    b"1",
    b"0",
    b"-1",
    b"9223372036854775807",
    b"9223372036854775",
    b"abc",
];

/// Seconds that are short, or none.
const TIMEOUTS: [&[u8]; 9] = [b"0.001", b"0.001", b"0.002", b"0.01", b"1e-3", b"-1", b"abc", b"", b"1e300"];
/// The same in milliseconds, and whole.
const TIMEOUTS_MS: [&[u8]; 8] = [b"1", b"1", b"2", b"5", b"-1", b"abc", b"", b"0.001"];

/// Few members and elements, so that commands meet.
const MEMBERS: [&[u8]; 10] =
    [b"a", b"b", b"c", b"d", b"1", b"2", b"3", b"", b"m", b"a member of some thirty bytes..."];
const CHANNELS: [&[u8]; 4] = [b"a", b"b", b"news", b""];

/// Ends of ranges by score, by member and by rank.
const BOUNDS: [&[u8]; 20] = [
    b"-inf", b"+inf", b"inf", b"0", b"1", b"2", b"(1", b"(0", b"1.5", b"-1", b"3", b"-", b"+", b"[a", b"(a",
    b"[c", b"(", b"[", b"", b"x",
];
const DISTANCES: [&[u8]; 8] = [b"1", b"100", b"1000", b"20000", b"0", b"-1", b"abc", b"1e10"];
const TYPES: [&[u8]; 8] = [b"string", b"list", b"SET", b"zset", b"hash", b"stream", b"x", b""];
/// How many elements are drawn, or looked at.
const COUNTS: [&[u8]; 12] =
    [b"1", b"2", b"3", b"10", b"100", b"10000", b"0", b"-1", b"-2", b"-5", b"abc", b"9223372036854775808"];

const DATABASES: [&[u8]; 10] =
    [b"0", b"0", b"1", b"2", b"1", b"2", b"16", b"-1", b"abc", b"9223372036854775808"];
const PATTERNS: [&[u8]; 9] = [b"*", b"a*", b"?", b"[a-c]", b"[^a]", b"\\a", b"", b"w*", b"#"];
const FIELD_TYPES: [&[u8]; 12] =
    [b"u1", b"u8", b"i8", b"i5", b"u13", b"i16", b"u63", b"i64", b"u64", b"i65", b"u0", b"x8"];

/// A body, version 9 and checksum, as DUMP makes them; the last one is broken.
const PAYLOADS: [&[u8]; 3] = [
    b"\x00\x05hello\x09\x00\xb3\x80\x8e\xba\x31\xb2\x43\xbb",
    b"\x00\xc0\x0a\x09\x00\xbe\x6d\x06\x89\x5a\x28\x00\x0a",
    b"\x00\x05hello\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01",
];

/// A key from the small set.
pub fn key(random: &mut Random) -> Vec<u8> {
    // The first four come up most often.
    let keys = if random.one_in(4) { &KEYS[..] } else { &KEYS[..4] };
    random.pick(keys).to_vec()
}

/// Any bytes: edges, encodings' limits, or noise.
pub fn string(random: &mut Random) -> Vec<u8> {
    match random.below(10) {
        0 => vec![b'x'; *random.pick(&[20, 21, 44, 45, 100, 300])],
        1 => (0..random.below(40)).map(|_| b"abcde "[random.below(6)]).collect(),
        2 => (0..random.below(80)).map(|_| random.next().to_le_bytes()[0]).collect(),
        3 => random.below(100_000).to_string().into_bytes(),
        _ => random.pick(&STRINGS).to_vec(),
    }
}

/// A pattern of signs that mean something and letters that keys have.
fn pattern(random: &mut Random) -> Vec<u8> {
    (0..random.below(8)).map(|_| *random.pick(b"ab*?[]^-\\k")).collect()
}

/// A value for an argument by its type and name in COMMAND DOCS.
pub fn value(kind: &str, name: &str, random: &mut Random) -> Vec<u8> {
    let fitting: &[&[u8]] = match (kind, name) {
        ("key", _) => return key(random),
        ("unix-time", _) => &TIMES,
        ("string", "field") if !random.one_in(8) => &FIELDS,
        ("double", "timeout") => &TIMEOUTS,
        ("integer", "timeout") => &TIMEOUTS_MS,
        ("string", "member" | "element" | "pivot" | "member1" | "member2") if !random.one_in(4) => &MEMBERS,
        ("string", "channel" | "shardchannel") => &CHANNELS,
        ("string", "min" | "max" | "start" | "stop") => &BOUNDS,
        ("double", "radius" | "width" | "height") => &DISTANCES,
        ("string", "type") => &TYPES,
        ("integer", "count") if random.one_in(2) => &COUNTS,
        ("integer", "cursor") if !random.one_in(8) => &[b"0"],
        (_, "seconds" | "milliseconds" | "ttl") if random.one_in(2) => {
            let duration = DURATION_MIN + random.below(DURATIONS) * DURATION_STEP;
            return duration.to_string().into_bytes();
        }
        (_, "seconds" | "milliseconds" | "ttl") => &NO_DURATIONS,
        (_, "offset") => &OFFSETS,
        (_, "encoding") => &FIELD_TYPES,
        (_, "serialized-value") => &PAYLOADS,
        (_, "numkeys") => &[b"1", b"1", b"2", b"2", b"3", b"0", b"-1", b"abc"],
        (_, "destination-db" | "db" | "index" | "index1" | "index2") => &DATABASES,
        ("integer", "bit" | "value") => &[b"0", b"1", b"0", b"1", b"2", b"-1", b"abc"],
        ("integer", _) => &INTEGERS,
        ("double", _) => &DOUBLES,
        ("pattern", _) if random.one_in(2) => return pattern(random),
        ("pattern", _) => &PATTERNS,
        _ => return string(random),
    };
    random.pick(fitting).to_vec()
}
