//! The 80-bit extended double of x87, in which Redis adds INCRBYFLOAT and HINCRBYFLOAT.
//!
//! Invariant: parsing, adding and printing round exactly where the C library and the processor
//! do: once each, to nearest, ties to even.

use num_bigint::BigUint;
use std::cmp::Ordering;

use super::round::{
    Decimal, Exact, Format, hex_body, is_infinity, scan_hex, shift_right_to_even, split_sign,
};

const X87: Format = Format { precision: 64, exponent_min: -16445, exponent_limit: 16384 };

/// Texts this long or longer are not a number to Redis, which copies them to a fixed buffer.
const TEXT_LIMIT: usize = 5 * 1024;

/// Decimal magnitudes beyond this are infinite or zero in the format.
const POWER_LIMIT: i64 = 4970;

/// Digits printed after the point, before trailing zeros are cut.
const FRACTION_DIGITS: u32 = 17;
const FRACTION_UNIT: u128 = 10_u128.pow(FRACTION_DIGITS);

/// A number of x87 extended precision: 64 significant bits, 15 bits of exponent. Never NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongDouble {
    negative: bool,
    magnitude: Magnitude,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Magnitude {
    /// `mantissa × 2^exponent`; zero has mantissa 0.
    Finite {
        mantissa: u64,
        exponent: i64,
    },
    Infinite,
}

impl LongDouble {
    /// The greatest finite number.
    pub const MAX: LongDouble = LongDouble {
        negative: false,
        magnitude: Magnitude::Finite { mantissa: u64::MAX, exponent: X87.exponent_limit - X87.precision },
    };

    /// The lowest finite number.
    pub const MIN: LongDouble = LongDouble { negative: true, ..LongDouble::MAX };

    /// One.
    pub const ONE: LongDouble =
        LongDouble { negative: false, magnitude: Magnitude::Finite { mantissa: 1, exponent: 0 } };

    /// Parses text as Redis does for INCRBYFLOAT: decimal or hexadecimal, `inf`, `infinity`.
    ///
    /// Refuses NaN, spaces, rests, overflow, and non-zero text that rounds to zero. Infinity
    /// parses, and is refused by `checked_add`.
    pub fn parse(text: &[u8]) -> Option<LongDouble> {
        if text.len() >= TEXT_LIMIT {
            return None;
        }
        let (negative, body) = split_sign(text);
        if is_infinity(body) {
            return Some(LongDouble { negative, magnitude: Magnitude::Infinite });
        }
        let (exact, is_zero) = match hex_body(body) {
            Some(hex) => {
                let exact = scan_hex(hex)?;
                (exact, exact.mantissa == 0)
            }
            None => {
                let decimal = Decimal::scan(body)?;
                (decimal.to_exact(POWER_LIMIT)?, decimal.is_zero())
            }
        };
        let value = LongDouble::from_exact(negative, exact)?;
        (is_zero || !value.is_zero()).then_some(value)
    }

    fn from_exact(negative: bool, exact: Exact) -> Option<LongDouble> {
        let rounded = exact.round(X87)?;
        let magnitude = Magnitude::Finite { mantissa: rounded.mantissa, exponent: rounded.exponent };
        Some(LongDouble { negative, magnitude })
    }

    /// The number that an integer is, exactly.
    pub fn from_i64(value: i64) -> LongDouble {
        let magnitude = Magnitude::Finite { mantissa: value.unsigned_abs(), exponent: 0 };
        LongDouble { negative: value < 0, magnitude }
    }

    /// The number that a double is, exactly; `None` for NaN.
    pub fn from_f64(value: f64) -> Option<LongDouble> {
        if value.is_nan() {
            return None;
        }
        let negative = value.is_sign_negative();
        if value.is_infinite() {
            return Some(LongDouble { negative, magnitude: Magnitude::Infinite });
        }
        let bits = value.to_bits();
        let (biased, fraction) = (((bits >> 52) & 0x7ff) as i64, bits & ((1 << 52) - 1));
        let magnitude = match biased {
            0 => Magnitude::Finite { mantissa: fraction, exponent: -1074 },
            _ => Magnitude::Finite { mantissa: fraction | 1 << 52, exponent: biased - 1075 },
        };
        Some(LongDouble { negative, magnitude })
    }

    /// Whether this is plus or minus infinity.
    pub fn is_infinite(self) -> bool {
        self.magnitude == Magnitude::Infinite
    }

    /// The number with the other sign.
    #[must_use]
    pub fn negated(self) -> LongDouble {
        LongDouble { negative: !self.negative, ..self }
    }

    fn is_zero(self) -> bool {
        matches!(self.magnitude, Magnitude::Finite { mantissa: 0, .. })
    }

    /// The sum, or `None` where Redis answers "increment would produce NaN or Infinity".
    pub fn checked_add(self, other: LongDouble) -> Option<LongDouble> {
        let (mut high, mut low) = (self.normalized()?, other.normalized()?);
        if high.mantissa == 0 || low.mantissa == 0 {
            let both_negative = self.negative && other.negative;
            return match (high.mantissa, low.mantissa) {
                (0, 0) => Some(LongDouble { negative: both_negative, ..self }),
                (0, _) => Some(other),
                _ => Some(self),
            };
        }
        if (high.exponent, high.mantissa) < (low.exponent, low.mantissa) {
            std::mem::swap(&mut high, &mut low);
        }
        // 62 guard bits under the higher number; what falls below them is only "more than nothing".
        let distance = high.exponent - low.exponent;
        let high_bits = u128::from(high.mantissa) << 62;
        let low_wide = u128::from(low.mantissa) << 62;
        let low_bits = if distance > 127 { 0 } else { low_wide >> distance };
        let sticky = distance > 127 || low_bits << distance != low_wide;
        let mantissa = if high.negative == low.negative {
            high_bits + low_bits
        } else {
            high_bits - low_bits - u128::from(sticky)
        };
        let negative = high.negative && mantissa != 0;
        LongDouble::from_exact(negative, Exact { mantissa, exponent: high.exponent - 62, sticky })
    }

    /// Which of two is greater; zeros are equal whatever their sign.
    pub fn compare(self, other: LongDouble) -> Ordering {
        let sign = |number: LongDouble| match number.is_zero() {
            true => 0,
            false if number.negative => -1,
            false => 1,
        };
        let size = |number: LongDouble| match number.normalized() {
            Some(normal) => (normal.exponent, normal.mantissa),
            None => (i64::MAX, u64::MAX),
        };
        let by_sign = sign(self).cmp(&sign(other));
        by_sign.then_with(|| match sign(self) {
            0 => Ordering::Equal,
            -1 => size(other).cmp(&size(self)),
            _ => size(self).cmp(&size(other)),
        })
    }

    /// Sign and magnitude with the mantissa's top bit set (or zero); `None` if infinite.
    fn normalized(self) -> Option<Normal> {
        let Magnitude::Finite { mantissa, exponent } = self.magnitude else { return None };
        let shift = mantissa.leading_zeros() % 64;
        Some(Normal {
            negative: self.negative,
            mantissa: mantissa << shift,
            exponent: exponent - i64::from(shift),
        })
    }

    /// Appends the number as Redis prints it for people: up to 17 digits after the point, rounded,
    /// without trailing zeros, never an exponent, never `-0`. At most 4,952 bytes.
    pub fn write(self, out: &mut Vec<u8>) {
        let start = out.len();
        if self.negative {
            out.push(b'-');
        }
        match self.magnitude {
            Magnitude::Infinite => out.extend_from_slice(b"inf"),
            Magnitude::Finite { mantissa, exponent } if exponent >= 0 => {
                write_shifted(out, mantissa, exponent)
            }
            Magnitude::Finite { mantissa, exponent } => write_fraction(out, mantissa, -exponent),
        }
        if &out[start..] == b"-0" {
            out.remove(start);
        }
    }
}

struct Normal {
    negative: bool,
    mantissa: u64,
    exponent: i64,
}

/// Appends `mantissa × 2^exponent` for an exponent of 0 or more.
fn write_shifted(out: &mut Vec<u8>, mantissa: u64, exponent: i64) {
    if exponent <= 64 {
        let value = u128::from(mantissa) << exponent;
        return out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }
    let digits = (BigUint::from(mantissa) << exponent as u32).to_radix_be(10);
    out.extend(digits.into_iter().map(|digit| b'0' + digit));
}

/// Appends `mantissa / 2^shift` to 17 decimals.
fn write_fraction(out: &mut Vec<u8>, mantissa: u64, shift: i64) {
    // The product has at most 121 bits, so any longer shift rounds to zero.
    let scaled = shift_right_to_even(u128::from(mantissa) * FRACTION_UNIT, shift.min(128) as u32, false);
    let (whole, fraction) = (scaled / FRACTION_UNIT, (scaled % FRACTION_UNIT) as u64);
    out.extend_from_slice(itoa::Buffer::new().format(whole).as_bytes());
    if fraction == 0 {
        return;
    }
    out.push(b'.');
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(fraction).as_bytes();
    out.resize(out.len() + FRACTION_DIGITS as usize - digits.len(), b'0');
    let kept = digits.iter().rposition(|&digit| digit != b'0').map_or(0, |last| last + 1);
    out.extend_from_slice(&digits[..kept]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn add(left: &str, right: &str) -> Option<String> {
        let sum = LongDouble::parse(left.as_bytes())?.checked_add(LongDouble::parse(right.as_bytes())?)?;
        let mut out = Vec::new();
        sum.write(&mut out);
        Some(String::from_utf8(out).unwrap())
    }

    #[test]
    fn sums_as_redis_prints_them() {
        for (left, right, sum) in [
            ("3.0", "1.1", "4.1"),
            ("10.50", "0.1", "10.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("0.1", "0.2", "0.3"),
            ("-0", "0", "0"),
            ("-0", "-0", "0"),
            ("1e-400", "0", "0"),
            ("1", "-1", "0"),
            ("0x10", "0x1p3", "24"),
            ("9223372036854775807", "1", "9223372036854775808"),
            ("18446744073709551615", "1", "18446744073709551616"),
            ("1e20", "1", "100000000000000000000"),
            ("3.0e-18", "3e-18", "0.00000000000000001"),
            ("-3.0e-18", "0", "0"),
            ("1.5", "1e-30", "1.5"),
        ] {
            assert_eq!(add(left, right).as_deref(), Some(sum), "{left} + {right}");
        }
    }

    #[test]
    fn numbers_are_compared() {
        let rising = [
            "-inf", "-1e4000", "-2", "-1.5", "-1e-30", "0", "1e-4000", "0.1", "1", "0x1p62", "1e4900", "inf",
        ];
        for (left_at, left) in rising.iter().enumerate() {
            for (right_at, right) in rising.iter().enumerate() {
                let [left, right] = [left, right].map(|text| LongDouble::parse(text.as_bytes()).unwrap());
                assert_eq!(left.compare(right), left_at.cmp(&right_at), "{left:?} {right:?}");
            }
        }
        let [zero, minus_zero] = ["0", "-0"].map(|text| LongDouble::parse(text.as_bytes()).unwrap());
        assert_eq!(zero.compare(minus_zero), Ordering::Equal);
        assert_eq!(LongDouble::MAX.checked_add(LongDouble::MAX), None);
        assert_eq!(LongDouble::MAX.checked_add(LongDouble::from_i64(1)), Some(LongDouble::MAX));
        assert_eq!(LongDouble::MAX.compare(LongDouble::MAX.negated()), Ordering::Greater);
    }

    #[test]
    fn no_sum_is_infinite_or_nan() {
        for (left, right) in [("inf", "1"), ("1", "-inf"), ("inf", "-inf"), ("1e4932", "1e4932")] {
            let (left, right) = (LongDouble::parse(left.as_bytes()), LongDouble::parse(right.as_bytes()));
            if let (Some(left), Some(right)) = (left, right) {
                assert!(left.checked_add(right).is_none() || !left.is_infinite());
            }
        }
        let max = LongDouble::parse(b"0x1.fffffffffffffffep16383").unwrap();
        assert_eq!(max.checked_add(max), None);
        assert_eq!(LongDouble::parse(b"0x1.ffffffffffffffffp16383"), None);
    }

    #[test]
    fn texts_that_are_not_numbers() {
        for text in ["", "nan", " 1", "1 ", "1e5000", "1e-5000", "1e-4951", "1e4933", "0x", "1e", ".", "infi"]
        {
            assert_eq!(LongDouble::parse(text.as_bytes()), None, "{text:?}");
        }
        assert!(LongDouble::parse(&[b'0'; TEXT_LIMIT - 1]).is_some());
        assert!(LongDouble::parse(&[b'0'; TEXT_LIMIT]).is_none());
    }

    proptest! {
        #[test]
        fn integers_add_exactly(left: i64, right: i64) {
            let sum = LongDouble::from_i64(left).checked_add(LongDouble::from_i64(right)).unwrap();
            let mut out = Vec::new();
            sum.write(&mut out);
            prop_assert_eq!(String::from_utf8(out).unwrap(), (i128::from(left) + i128::from(right)).to_string());
        }

        #[test]
        fn both_roads_from_decimal_text_agree(digits in 1_u64.., power in -18_i64..19) {
            let text = format!("{digits}e{power}");
            let fast = Decimal::scan(text.as_bytes()).unwrap().to_exact(POWER_LIMIT).unwrap();
            let values: Vec<u8> = digits.to_string().bytes().map(|b| b - b'0').collect();
            let slow = scale_big(&values, power);
            prop_assert_eq!(fast.round(X87).map(value_of), slow.round(X87).map(value_of));
        }
    }

    use super::super::round::{Rounded, scale_big};

    /// Mantissa without trailing zero bits, so that equal values are equal pairs.
    fn value_of(rounded: Rounded) -> (u64, i64) {
        let zeros = rounded.mantissa.trailing_zeros() % 64;
        (rounded.mantissa >> zeros, rounded.exponent + i64::from(zeros))
    }
}
