//! Integers as text, in the one spelling that Redis calls an integer.
//!
//! Invariant: `parse_i64(text)` is `Some(n)` exactly when `write_i64(n)` gives `text` back,
//! so a string can be stored as its number and lose nothing.

/// Longest text of an `i64`: a sign and 19 digits.
const I64_TEXT_MAX: usize = 20;

/// Parses the canonical decimal form of a signed 64-bit integer.
///
/// Refuses what has a second spelling: leading zeros, `+`, `-0`, spaces, an empty string.
#[inline]
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    let first = *text.first()?;
    if text.len() > I64_TEXT_MAX {
        return None;
    }
    if first == b'-' {
        let magnitude = canonical_digits(text.get(1..)?)?;
        if magnitude == 0 {
            return None;
        }
        return 0_i64.checked_sub_unsigned(magnitude);
    }
    i64::try_from(canonical_digits(text)?).ok()
}

/// Parses the canonical decimal form of an unsigned 64-bit integer: no sign, no leading zeros.
#[inline]
pub fn parse_u64(text: &[u8]) -> Option<u64> {
    canonical_digits(text)
}

#[inline]
fn canonical_digits(digits: &[u8]) -> Option<u64> {
    let (&first, rest) = digits.split_first()?;
    let lead = first.wrapping_sub(b'0');
    if lead > 9 || (lead == 0 && !rest.is_empty()) || rest.len() > 19 {
        return None;
    }
    let mut value = u64::from(lead);
    // 19 digits cannot overflow; only a twentieth has to be checked.
    let (safe, last) = rest.split_at(rest.len().min(18));
    for &byte in safe {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + u64::from(digit);
    }
    if let Some(&byte) = last.first() {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    Some(value)
}

/// Appends the decimal form of `value`.
#[inline]
pub fn write_i64(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends the decimal form of `value`.
#[inline]
pub fn write_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// How many bytes `write_i64` appends for `value`.
#[inline]
pub fn i64_len(value: i64) -> usize {
    let digits = value.unsigned_abs().checked_ilog10().unwrap_or(0) as usize + 1;
    digits + usize::from(value < 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_canonical_spelling_is_an_integer() {
        for text in [
            "",
            "-",
            "+",
            "+1",
            "01",
            "-0",
            "-01",
            "00",
            " 1",
            "1 ",
            "1.0",
            "--1",
            "0x1",
            "1a",
            "a",
            "9223372036854775808",
            "-9223372036854775809",
            "18446744073709551616",
            "99999999999999999999",
            "100000000000000000000",
        ] {
            assert_eq!(parse_i64(text.as_bytes()), None, "{text:?}");
        }
        for value in [0, 1, -1, 9, 10, -10, 99, 100, i64::MAX, i64::MIN, i64::MAX - 1, i64::MIN + 1] {
            assert_eq!(parse_i64(value.to_string().as_bytes()), Some(value));
            assert_eq!(i64_len(value), value.to_string().len());
        }
        assert_eq!(parse_u64(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(parse_u64(b"18446744073709551616"), None);
        assert_eq!(parse_u64(b"-1"), None);
    }

    proptest! {
        #[test]
        fn written_then_parsed_is_the_same(value: i64) {
            let mut text = Vec::new();
            write_i64(&mut text, value);
            prop_assert_eq!(parse_i64(&text), Some(value));
            prop_assert_eq!(i64_len(value), text.len());
        }

        #[test]
        fn what_parses_is_canonical(text in "[-+0-9 ]{0,22}") {
            if let Some(value) = parse_i64(text.as_bytes()) {
                prop_assert_eq!(value.to_string(), text);
            } else {
                // Nothing canonical was refused.
                prop_assert!(text.parse::<i64>().map_or(true, |v| v.to_string() != text));
            }
        }
    }
}
