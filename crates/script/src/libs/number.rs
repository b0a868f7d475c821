//! Numbers as text, the way C's library writes and reads them: `%.14g` and `strtod`.

use mlua::Value;

/// The digits of a number as text, where nothing else is asked for.
const LUA_DIGITS: usize = 14;

/// A number as `tostring` has it.
pub(crate) fn lua_text(value: f64) -> String {
    let mut out = Vec::new();
    push_g(&mut out, value, LUA_DIGITS);
    String::from_utf8(out).unwrap_or_default()
}

/// Appends a number as `%.{digits}g` has it.
pub(crate) fn push_g(out: &mut Vec<u8>, value: f64, digits: usize) {
    if value.is_nan() {
        out.extend_from_slice(if value.is_sign_negative() { b"-nan" } else { b"nan" });
        return;
    }
    if value.is_infinite() {
        out.extend_from_slice(if value < 0.0 { b"-inf" } else { b"inf" });
        return;
    }
    // Small integers are the usual case, and their digits are the same in either notation.
    if digits == LUA_DIGITS
        && value.abs() < 1e14
        && value == value.trunc()
        && (value != 0.0 || value.is_sign_positive())
    {
        out.extend_from_slice((value as i64).to_string().as_bytes());
        return;
    }
    let text = format!("{:.*e}", digits - 1, value);
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if exponent < -4 || exponent >= digits as i32 {
        out.extend_from_slice(without_zeros(mantissa).as_bytes());
        let sign = if exponent < 0 { '-' } else { '+' };
        out.extend_from_slice(format!("e{sign}{:02}", exponent.unsigned_abs()).as_bytes());
    } else {
        let decimals = (digits as i32 - 1 - exponent).max(0) as usize;
        out.extend_from_slice(without_zeros(&format!("{value:.decimals$}")).as_bytes());
    }
}

/// The text without zeros at the end of its decimals.
fn without_zeros(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

/// The number that a value is, or that its text reads as.
pub(crate) fn to_number(value: &Value) -> Option<f64> {
    match value {
        Value::Integer(value) => Some(*value as f64),
        Value::Number(value) => Some(*value),
        Value::String(text) => whole_text(&text.as_bytes()),
        _ => None,
    }
}

/// A number's integer, as a processor converts it: what does not fit becomes the least integer.
pub(crate) fn to_integer(value: f64) -> i64 {
    let fits = value >= i64::MIN as f64 && value < i64::MAX as f64;
    if fits { value as i64 } else { i64::MIN }
}

/// A text that is a number from end to end, with spaces around it.
fn whole_text(text: &[u8]) -> Option<f64> {
    let start = text.iter().position(|byte| !is_space(*byte))?;
    let text = &text[start..];
    let (value, used) = strtod(text)?;
    text[used..].iter().all(|byte| is_space(*byte)).then_some(value)
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// The number at the start of a text and how many bytes it takes; nothing if there is none.
/// Hexadecimal numbers, infinities and NaNs are numbers; spaces in front are not skipped.
pub(crate) fn strtod(text: &[u8]) -> Option<(f64, usize)> {
    let (negative, signed) = match text.first()? {
        b'-' => (true, 1),
        b'+' => (false, 1),
        _ => (false, 0),
    };
    let rest = &text[signed..];
    let (value, used) = match rest {
        [b'0', b'x' | b'X', hex @ ..] => match hexadecimal(hex) {
            Some((value, used)) => (value, used + 2),
            None => (0.0, 1),
        },
        [b'0'..=b'9' | b'.', ..] => decimal(rest)?,
        _ => named(rest)?,
    };
    Some((if negative { -value } else { value }, signed + used))
}

/// Digits, a point among them, and an exponent.
fn decimal(text: &[u8]) -> Option<(f64, usize)> {
    let digits = |from: usize| text[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let whole = digits(0);
    let mut used = whole;
    if text.get(used) == Some(&b'.') {
        let decimals = digits(used + 1);
        if whole + decimals == 0 {
            return None;
        }
        used += 1 + decimals;
    }
    if let Some(b'e' | b'E') = text.get(used) {
        let sign = usize::from(matches!(text.get(used + 1), Some(b'+' | b'-')));
        let exponent = digits((used + 1 + sign).min(text.len()));
        if exponent > 0 {
            used += 1 + sign + exponent;
        }
    }
    let value = std::str::from_utf8(&text[..used]).ok()?.parse().ok()?;
    Some((value, used))
}

/// What follows `0x`: digits, a point among them, and an exponent of two.
fn hexadecimal(text: &[u8]) -> Option<(f64, usize)> {
    let (mut mantissa, mut scale, mut sticky) = (0_u64, 0_i64, false);
    let (mut used, mut digits, mut behind_point) = (0, 0, false);
    while let Some(&byte) = text.get(used) {
        if byte == b'.' && !behind_point {
            behind_point = true;
        } else if let Some(digit) = (byte as char).to_digit(16) {
            digits += 1;
            if mantissa >> 60 == 0 {
                mantissa = mantissa << 4 | u64::from(digit);
                scale -= 4 * i64::from(behind_point);
            } else {
                sticky |= digit != 0;
                scale += 4 * i64::from(!behind_point);
            }
        } else {
            break;
        }
        used += 1;
    }
    if digits == 0 {
        return None;
    }
    if let Some(b'p' | b'P') = text.get(used) {
        let sign = usize::from(matches!(text.get(used + 1), Some(b'+' | b'-')));
        let exponent = text.iter().skip(used + 1 + sign).take_while(|byte| byte.is_ascii_digit());
        let (mut value, mut length) = (0_i64, 0);
        for digit in exponent {
            value = (value * 10 + i64::from(digit - b'0')).min(1 << 40);
            length += 1;
        }
        if length > 0 {
            scale += if text[used + 1..].starts_with(b"-") { -value } else { value };
            used += 1 + sign + length;
        }
    }
    Some((scaled(mantissa | u64::from(sticky), scale), used))
}

/// `mantissa * 2^scale`, rounded once.
fn scaled(mantissa: u64, scale: i64) -> f64 {
    if mantissa == 0 {
        return 0.0;
    }
    // Halves of a number below the normal ones would round twice: such bits are gathered first.
    let top = 63 - i64::from(mantissa.leading_zeros()) + scale;
    let kept = (top + 1075).clamp(0, 53);
    let (mut mantissa, mut scale) = (mantissa, scale);
    let surplus = 64 - i64::from(mantissa.leading_zeros()) - kept;
    if top < -1022 && surplus > 0 {
        if surplus > 64 {
            return 0.0;
        }
        let (whole, cut) =
            if surplus == 64 { (0, mantissa) } else { (mantissa >> surplus, mantissa << (64 - surplus)) };
        let half = 1_u64 << 63;
        let up = cut > half || (cut == half && whole & 1 == 1);
        (mantissa, scale) = (whole + u64::from(up), scale + surplus);
    }
    let mut value = mantissa as f64;
    while scale > 0 && value.is_finite() {
        let step = scale.min(1000);
        value *= 2_f64.powi(step as i32);
        scale -= step;
    }
    while scale < 0 && value != 0.0 {
        let step = (-scale).min(1000);
        value *= 2_f64.powi(-(step as i32));
        scale += step;
    }
    value
}

/// `inf`, `infinity` and `nan`, with what may stand in brackets behind it.
fn named(text: &[u8]) -> Option<(f64, usize)> {
    let is = |name: &[u8]| text.len() >= name.len() && text[..name.len()].eq_ignore_ascii_case(name);
    if is(b"infinity") {
        return Some((f64::INFINITY, 8));
    }
    if is(b"inf") {
        return Some((f64::INFINITY, 3));
    }
    if !is(b"nan") {
        return None;
    }
    let inside = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    if text.get(3) == Some(&b'(') {
        let length = text[4..].iter().take_while(|byte| inside(byte)).count();
        if text.get(4 + length) == Some(&b')') {
            return Some((f64::NAN, 5 + length));
        }
    }
    Some((f64::NAN, 3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_c_writes_them() {
        for (value, digits, text) in [
            (0.1 + 0.2, 14, "0.3"),
            (1e14, 14, "1e+14"),
            (123456789012345.0, 14, "1.2345678901234e+14"),
            (99999999999999.5, 14, "1e+14"),
            (-0.0, 14, "-0"),
            (0.0001, 14, "0.0001"),
            (0.00001, 14, "1e-05"),
            (1e100, 14, "1e+100"),
            (2.5, 1, "2"),
            (12.0, 1, "1e+01"),
            (0.3, 17, "0.29999999999999999"),
            (f64::INFINITY, 14, "inf"),
        ] {
            let mut out = Vec::new();
            push_g(&mut out, value, digits);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }

    #[test]
    fn numbers_as_c_reads_them() {
        for (text, value, used) in [
            ("1.5e3x", 1500.0, 5),
            ("1e", 1.0, 1),
            ("1e+", 1.0, 1),
            (".5", 0.5, 2),
            ("5.", 5.0, 2),
            ("0x", 0.0, 1),
            ("0x.p1", 0.0, 1),
            ("0x1.8p3", 12.0, 7),
            ("0x1p-1074", 5e-324, 9),
            ("0x1p-1075", 0.0, 9),
            ("0x1.8p-1075", 5e-324, 11),
            ("0xfffffffffffffbff", 18446744073709549568.0, 18),
            ("0x1p99999", f64::INFINITY, 9),
            ("-inFinit", f64::NEG_INFINITY, 4),
            ("+12", 12.0, 3),
        ] {
            assert_eq!(strtod(text.as_bytes()), Some((value, used)), "{text}");
        }
        for text in ["", "-", ".", "e5", "in", "x"] {
            assert_eq!(strtod(text.as_bytes()), None, "{text}");
        }
        assert_eq!(strtod(b"nan(a_1)x").map(|(_, used)| used), Some(8));
    }
}
