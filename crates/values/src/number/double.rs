//! Doubles as text: scores, coordinates, RESP3 doubles.
//!
//! Invariant: text that parses is never NaN, and never silently rounded to infinity or to zero.

use super::round::{Decimal, Exact, Format, hex_body, is_infinity, scan_hex, split_sign};
use super::{shortest, write_i64};

const F64: Format = Format { precision: 53, exponent_min: -1074, exponent_limit: 1024 };

/// Doubles of at most this magnitude (2^62) that are whole are printed as integers.
const WHOLE_MAX: f64 = 4_611_686_018_427_387_904.0;
/// Digits of whole numbers that are exact as doubles, whatever the digits are.
const WHOLE_DIGITS_MAX: usize = 15;

/// Parses a double as Redis parses a score: decimal or hexadecimal, `inf`, `infinity`, one sign.
///
/// Refuses NaN, spaces, rests, and finite text whose nearest double is infinite or zero without
/// being zero. Linear in the text's length.
pub fn parse_f64(text: &[u8]) -> Option<f64> {
    let (negative, body) = split_sign(text);
    let magnitude = if let Some(whole) = short_whole(body) {
        whole
    } else if is_infinity(body) {
        f64::INFINITY
    } else if let Some(hex) = hex_body(body) {
        from_exact(scan_hex(hex)?)?
    } else {
        from_decimal(body)?
    };
    Some(if negative { -magnitude } else { magnitude })
}

/// A whole number of few digits, as most scores are: exact as a double.
#[inline]
fn short_whole(body: &[u8]) -> Option<f64> {
    if body.is_empty() || body.len() > WHOLE_DIGITS_MAX {
        return None;
    }
    let mut whole = 0u64;
    for &byte in body {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        whole = whole * 10 + u64::from(digit);
    }
    Some(whole as f64)
}

fn from_decimal(body: &[u8]) -> Option<f64> {
    let decimal = Decimal::scan(body)?;
    let value: f64 = fast_float2::parse(body).ok()?;
    (value.is_finite() && (value != 0.0 || decimal.is_zero())).then_some(value)
}

/// Parses a weight as SORT does, which is not as scores are parsed: text after a zero byte is
/// ignored, empty text is 0, too large is infinite, too small is 0, hexadecimal is refused.
pub fn parse_weight(text: &[u8]) -> Option<f64> {
    let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
    let (negative, body) = split_sign(&text[..end]);
    let magnitude = if end == 0 {
        0.0
    } else if is_infinity(body) {
        f64::INFINITY
    } else {
        Decimal::scan(body)?;
        fast_float2::parse(body).ok()?
    };
    Some(if negative { -magnitude } else { magnitude })
}

fn from_exact(exact: Exact) -> Option<f64> {
    let rounded = exact.round(F64)?;
    if rounded.mantissa == 0 {
        return (exact.mantissa == 0).then_some(0.0);
    }
    // Scaling to 53 bits or to the least exponent is exact; so is the assembly of the bits.
    let up = i64::from(rounded.mantissa.leading_zeros()) - 11;
    let up = up.min(rounded.exponent - F64.exponent_min).max(0);
    let (mut mantissa, mut exponent) = (rounded.mantissa << up, rounded.exponent - up);
    if mantissa == 1 << 53 {
        (mantissa, exponent) = (mantissa >> 1, exponent + 1);
    }
    let hidden = 1_u64 << 52;
    let biased = if mantissa < hidden { 0 } else { (exponent + 1075) as u64 };
    Some(f64::from_bits((biased << 52) | (mantissa & (hidden - 1))))
}

/// Appends a double as Redis prints it in RESP2 and RESP3 replies: whole numbers up to 2^62 as
/// integers, others as `write_f64_shortest`.
#[inline]
pub fn write_f64(out: &mut Vec<u8>, value: f64) {
    if value.abs() <= WHOLE_MAX {
        let whole = value as i64;
        if whole as f64 == value && (whole != 0 || value.is_sign_positive()) {
            return write_i64(out, whole);
        }
    }
    write_f64_shortest(out, value);
}

/// Appends the digits that Redis' printer gives: enough to parse back to the same double, nearly
/// always the fewest; `inf`, `-inf`, `nan`, `0`, `-0`.
pub fn write_f64_shortest(out: &mut Vec<u8>, value: f64) {
    if value.is_nan() {
        return out.extend_from_slice(b"nan");
    }
    if value.is_sign_negative() {
        out.push(b'-');
    }
    if value.is_infinite() {
        out.extend_from_slice(b"inf");
    } else if value == 0.0 {
        out.push(b'0');
    } else {
        shortest::Digits::of(value.abs()).write(out);
    }
}

/// Appends a double with 17 digits as C's `%.17g` has it, which is how Redis prints the scores of
/// large sorted sets in ZSCAN: neither the shortest nor always the nicest.
pub fn write_f64_17(out: &mut Vec<u8>, value: f64) {
    if !value.is_finite() || value == 0.0 {
        return write_f64_shortest(out, value);
    }
    let text = format!("{value:.16e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..17).contains(&exponent) {
        let decimals = usize::try_from(16 - exponent).unwrap_or(0);
        let fixed = format!("{value:.decimals$}");
        let trimmed =
            if fixed.contains('.') { fixed.trim_end_matches('0').trim_end_matches('.') } else { &fixed };
        return out.extend_from_slice(trimmed.as_bytes());
    }
    out.extend_from_slice(mantissa.trim_end_matches('0').trim_end_matches('.').as_bytes());
    let sign = if exponent < 0 { '-' } else { '+' };
    out.extend_from_slice(format!("e{sign}{:02}", exponent.unsigned_abs()).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(value: f64) -> String {
        let mut out = Vec::new();
        write_f64(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn texts_that_are_doubles() {
        for (input, value) in [
            ("1", 1.0),
            ("+1", 1.0),
            ("-1.5", -1.5),
            (".5", 0.5),
            ("5.", 5.0),
            ("1e5", 1e5),
            ("1E+5", 1e5),
            ("0x10", 16.0),
            ("0X1.8p1", 3.0),
            ("-0x.8p-1", -0.25),
            ("4.9e-324", 5e-324),
            ("0x1p-1074", 5e-324),
            ("0x1.fffffffffffffp1023", f64::MAX),
            ("0x1.fffffffffffff7p1023", f64::MAX),
            ("0x0.0000000000001p-1022", 5e-324),
            ("0x20000000000001", 9007199254740992.0),
            ("0x20000000000003", 9007199254740996.0),
            ("0e999999999999", 0.0),
            ("0x0p99999999999", 0.0),
            ("inf", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
            ("+INF", f64::INFINITY),
        ] {
            assert_eq!(parse_f64(input.as_bytes()), Some(value), "{input}");
        }
    }

    #[test]
    fn texts_that_are_not_doubles() {
        for input in [
            "",
            "+",
            "-",
            ".",
            "e5",
            "1e",
            "1e+",
            "0x",
            "0x.",
            "0x1p",
            "0xg",
            " 1",
            "1 ",
            "1_0",
            "nan",
            "-nan",
            "nan(1)",
            "infin",
            "1e400",
            "-1e400",
            "1e-400",
            "2e-324",
            "1.7976931348623159e308",
            "0x1p1024",
            "0x1.fffffffffffff8p1023",
            "0x1p-1075",
            "1\0",
            "--1",
            "+-1",
            "1e99999999999999999999",
            "1e-99999999999999999999",
        ] {
            assert_eq!(parse_f64(input.as_bytes()), None, "{input:?}");
        }
        let long = [b"1.".as_slice(), &[b'0'; 70_000], b"1"].concat();
        assert_eq!(parse_f64(&long), Some(1.0));
    }

    #[test]
    fn texts_that_are_weights() {
        for (input, value) in [
            ("", 0.0),
            ("\0", 0.0),
            ("1\0abc", 1.0),
            ("1e400", f64::INFINITY),
            ("-1e400", f64::NEG_INFINITY),
            ("1e-400", 0.0),
            ("-Inf", f64::NEG_INFINITY),
            ("+1.5e1", 15.0),
        ] {
            assert_eq!(parse_weight(input.as_bytes()), Some(value), "{input:?}");
        }
        for input in [" 1", "1 ", "abc", "0x10", "nan", "1e", "+", "-", "."] {
            assert_eq!(parse_weight(input.as_bytes()), None, "{input:?}");
        }
    }

    #[test]
    fn printed_as_redis_prints() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1e18, "1000000000000000000"),
            (9.2e18, "9.2e+18"),
            (1e19, "1e+19"),
            (4611686018427387904.0, "4611686018427387904"),
            (9223372036854774784.0, "9223372036854775000"),
            (1e23, "99999999999999990000000"),
            (12345678901234567890123.0, "12345678901234568000000"),
            (1e-5, "0.00001"),
            (1e-6, "0.000001"),
            (1e-7, "1e-7"),
            (1.5e-5, "0.000015"),
            (1.5e-6, "1.5e-6"),
            (0.30000000000000004, "0.30000000000000004"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (-1.25, "-1.25"),
        ] {
            assert_eq!(text(value), expected);
        }
    }

    #[test]
    fn printed_with_17_digits() {
        for (value, expected) in [
            (0.1, "0.10000000000000001"),
            (3.0, "3"),
            (-0.0, "-0"),
            (1e16, "10000000000000000"),
            (1e17, "1e+17"),
            (1e-4, "0.0001"),
            (1e-7, "9.9999999999999995e-08"),
            (1e300, "1.0000000000000001e+300"),
            (123456789012345680000.0, "1.2345678901234568e+20"),
            (-1.5, "-1.5"),
            (5e-324, "4.9406564584124654e-324"),
            (f64::NEG_INFINITY, "-inf"),
            (99999999999999999.0, "1e+17"),
        ] {
            let mut out = Vec::new();
            write_f64_17(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn printed_doubles_parse_back(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assume!(!value.is_nan());
            prop_assert_eq!(parse_f64(text(value).as_bytes()), Some(value));
        }

        #[test]
        fn hexadecimal_is_exact(mantissa in 0_u64..1 << 53, power in -1100_i32..960) {
            let input = format!("0x{mantissa:x}p{power}");
            // Two exact powers, so that only the last product rounds.
            let expected = mantissa as f64 * 2_f64.powi(power / 2) * 2_f64.powi(power - power / 2);
            let got = parse_f64(input.as_bytes());
            if power >= -1022 && expected.is_finite() {
                prop_assert_eq!(got, Some(expected));
            } else if let Some(value) = got {
                prop_assert!(value == expected || expected.abs() < f64::MIN_POSITIVE);
            }
        }
    }
}
