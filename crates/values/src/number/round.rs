//! Exact intermediate values of number parsing, and their one rounding to a binary format.
//!
//! Invariant: a value is rounded exactly once, to nearest with ties to even, as the C library does.

use num_bigint::BigUint;

/// `(mantissa + ε) × 2^exponent`, where 0 < ε < 1 if `sticky`, else ε = 0.
///
/// A sticky value has at least 67 significant bits, more than any format here keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exact {
    pub(super) mantissa: u128,
    pub(super) exponent: i64,
    pub(super) sticky: bool,
}

/// A binary floating point format.
#[derive(Clone, Copy)]
pub(super) struct Format {
    /// Significant bits of a normal number.
    pub(super) precision: i64,
    /// Exponent of the least subnormal number's only bit.
    pub(super) exponent_min: i64,
    /// The first power of two that is too large.
    pub(super) exponent_limit: i64,
}

/// A finite value that fits its format: `mantissa × 2^exponent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rounded {
    pub(super) mantissa: u64,
    pub(super) exponent: i64,
}

impl Exact {
    pub(super) const ZERO: Exact = Exact { mantissa: 0, exponent: 0, sticky: false };

    /// The nearest value of the format; `None` if that is infinity. May be zero.
    pub(super) fn round(self, format: Format) -> Option<Rounded> {
        let bits = i64::from(128 - self.mantissa.leading_zeros());
        let drop = (bits - format.precision).max(format.exponent_min - self.exponent).max(0);
        let kept = if drop > 128 { 0 } else { shift_right_to_even(self.mantissa, drop as u32, self.sticky) };
        let mut rounded = Rounded { mantissa: kept as u64, exponent: self.exponent + drop };
        if kept >> 64 != 0 {
            // A carry out of 64 kept bits leaves the power of two.
            rounded = Rounded { mantissa: 1 << 63, exponent: rounded.exponent + 1 };
        }
        let top = i64::from(64 - rounded.mantissa.leading_zeros()) + rounded.exponent;
        (rounded.mantissa == 0 || top <= format.exponent_limit).then_some(rounded)
    }
}

/// `(value + ε) / 2^drop` to the nearest integer, ties to even. `drop` is at most 128.
pub(super) fn shift_right_to_even(value: u128, drop: u32, sticky: bool) -> u128 {
    if drop == 0 {
        return value;
    }
    let kept = value.checked_shr(drop).unwrap_or(0);
    let half = 1_u128 << (drop - 1);
    let rest = value & (half | (half - 1));
    let up = rest > half || (rest == half && (sticky || kept & 1 == 1));
    kept + u128::from(up)
}

/// The parts of a decimal number's text, sign removed.
#[derive(Debug)]
pub(super) struct Decimal<'a> {
    whole: &'a [u8],
    fraction: &'a [u8],
    exponent: i64,
}

/// Exponents are clamped here: far outside every format, far inside `i64`.
const EXPONENT_CLAMP: i64 = 1 << 40;

impl<'a> Decimal<'a> {
    /// Reads `digits [. digits] [e [sign] digits]` with at least one digit before the exponent.
    pub(super) fn scan(text: &'a [u8]) -> Option<Decimal<'a>> {
        let (whole, rest) = take_digits(text, u8::is_ascii_digit);
        let (fraction, rest) = match rest.split_first() {
            Some((b'.', after)) => take_digits(after, u8::is_ascii_digit),
            _ => (&rest[..0], rest),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let exponent = match rest.split_first() {
            None => 0,
            Some((b'e' | b'E', after)) => scan_exponent(after)?,
            Some(_) => return None,
        };
        Some(Decimal { whole, fraction, exponent })
    }

    pub(super) fn is_zero(&self) -> bool {
        self.whole.iter().chain(self.fraction).all(|&digit| digit == b'0')
    }

    /// The value to more bits than any format keeps. `None` if it is 10^`limit` or more.
    /// A value below 10^-`limit` becomes zero. Time grows with the square of the text's length.
    pub(super) fn to_exact(&self, limit: i64) -> Option<Exact> {
        let mut digits: Vec<u8> = self.whole.iter().chain(self.fraction).map(|digit| digit - b'0').collect();
        let mut power = self.exponent - self.fraction.len() as i64;
        while digits.last() == Some(&0) {
            digits.pop();
            power += 1;
        }
        let leading = digits.iter().take_while(|&&digit| digit == 0).count();
        digits.drain(..leading);
        let magnitude = power + digits.len() as i64;
        if digits.is_empty() || magnitude < -limit {
            return Some(Exact::ZERO);
        }
        if magnitude > limit {
            return None;
        }
        if digits.len() <= 19 && power.abs() <= 18 {
            let value = digits.iter().fold(0_u128, |value, &digit| value * 10 + u128::from(digit));
            return Some(scale_small(value, power));
        }
        Some(scale_big(&digits, power))
    }
}

/// `value × 10^power` for a value of at most 19 digits and a power within ±18.
fn scale_small(value: u128, power: i64) -> Exact {
    let ten = 10_u128.pow(power.unsigned_abs() as u32);
    if power >= 0 {
        return Exact { mantissa: value * ten, exponent: 0, sticky: false };
    }
    // 128 bits over less than 60 leave at least 68.
    let shift = value.leading_zeros();
    let wide = value << shift;
    Exact { mantissa: wide / ten, exponent: -i64::from(shift), sticky: !wide.is_multiple_of(ten) }
}

/// The same for any digits (values 0 to 9, the first not zero) and any power.
pub(super) fn scale_big(digits: &[u8], power: i64) -> Exact {
    let value = BigUint::from_radix_be(digits, 10).unwrap_or_default();
    let ten = BigUint::from(10_u8).pow(power.unsigned_abs() as u32);
    if power >= 0 {
        return top_bits(&(value * ten), 0, false);
    }
    let shift = (68 + ten.bits()).saturating_sub(value.bits());
    let wide = value << shift;
    let quotient = &wide / &ten;
    let exact = &quotient * &ten == wide;
    top_bits(&quotient, -(shift as i64), !exact)
}

/// Keeps the 128 highest bits of `value × 2^exponent`.
fn top_bits(value: &BigUint, exponent: i64, sticky: bool) -> Exact {
    let drop = value.bits().saturating_sub(128);
    let lost = drop > 0 && value.trailing_zeros().is_some_and(|zeros| zeros < drop);
    let mantissa = u128::try_from(value >> drop).unwrap_or(u128::MAX);
    Exact { mantissa, exponent: exponent + drop as i64, sticky: sticky || lost }
}

/// Reads a hexadecimal number's text after its `0x`: `digits [. digits] [p [sign] digits]`.
pub(super) fn scan_hex(text: &[u8]) -> Option<Exact> {
    let (whole, rest) = take_digits(text, u8::is_ascii_hexdigit);
    let (fraction, rest) = match rest.split_first() {
        Some((b'.', after)) => take_digits(after, u8::is_ascii_hexdigit),
        _ => (&rest[..0], rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut exponent = match rest.split_first() {
        None => 0,
        Some((b'p' | b'P', after)) => scan_exponent(after)?,
        Some(_) => return None,
    } - 4 * fraction.len() as i64;
    let (mut mantissa, mut sticky) = (0_u128, false);
    for &byte in whole.iter().chain(fraction) {
        let digit = u128::from((byte as char).to_digit(16)?);
        if mantissa >> 124 == 0 {
            mantissa = (mantissa << 4) | digit;
        } else {
            sticky |= digit != 0;
            exponent += 4;
        }
    }
    Some(Exact { mantissa, exponent, sticky })
}

fn take_digits(text: &[u8], is_digit: fn(&u8) -> bool) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !is_digit(byte)).unwrap_or(text.len());
    text.split_at(end)
}

fn scan_exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = split_sign(text);
    if digits.is_empty() {
        return None;
    }
    let mut value = 0_i64;
    for &byte in digits {
        if !byte.is_ascii_digit() {
            return None;
        }
        value = (value * 10 + i64::from(byte - b'0')).min(EXPONENT_CLAMP);
    }
    Some(if negative { -value } else { value })
}

/// Splits one leading sign off; true is minus.
pub(super) fn split_sign(text: &[u8]) -> (bool, &[u8]) {
    match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, text),
    }
}

/// Whether unsigned text is `inf` or `infinity` in any case.
pub(super) fn is_infinity(text: &[u8]) -> bool {
    text.eq_ignore_ascii_case(b"inf") || text.eq_ignore_ascii_case(b"infinity")
}

/// The text after `0x` or `0X`, if it starts so.
pub(super) fn hex_body(text: &[u8]) -> Option<&[u8]> {
    text.strip_prefix(b"0x").or_else(|| text.strip_prefix(b"0X"))
}
