//! BITFIELD: integers of any width at any bit offset, highest bit first.

/// Sign and width of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldKind {
    signed: bool,
    bits: u32,
}

impl FieldKind {
    /// An unsigned field of 1 to 63 bits.
    pub fn unsigned(bits: u32) -> Option<FieldKind> {
        (1..=63).contains(&bits).then_some(FieldKind { signed: false, bits })
    }

    /// A signed field of 1 to 64 bits.
    pub fn signed(bits: u32) -> Option<FieldKind> {
        (1..=64).contains(&bits).then_some(FieldKind { signed: true, bits })
    }

    /// Parses `u1` to `u63` and `i1` to `i64`.
    pub fn parse(text: &[u8]) -> Option<FieldKind> {
        let (&sign, digits) = text.split_first()?;
        let bits = u32::try_from(crate::number::parse_i64(digits)?).ok()?;
        match sign {
            b'u' => FieldKind::unsigned(bits),
            b'i' => FieldKind::signed(bits),
            _ => None,
        }
    }

    /// Width in bits.
    pub fn bits(self) -> u32 {
        self.bits
    }

    fn min(self) -> i128 {
        if self.signed { -(1 << (self.bits - 1)) } else { 0 }
    }

    fn max(self) -> i128 {
        if self.signed { (1 << (self.bits - 1)) - 1 } else { (1 << self.bits) - 1 }
    }

    /// The low bits of `raw` as a value of this kind.
    fn interpret(self, raw: u64) -> i64 {
        let unused = 64 - self.bits;
        if self.signed { (raw << unused) as i64 >> unused } else { (raw << unused >> unused) as i64 }
    }

    /// `value` brought into range as `overflow` says; `None` if it says to fail.
    fn fit(self, value: i128, overflow: Overflow) -> Option<i64> {
        if (self.min()..=self.max()).contains(&value) {
            return Some(value as i64);
        }
        match overflow {
            Overflow::Wrap => Some(self.interpret(value as u64)),
            Overflow::Saturate => Some(value.clamp(self.min(), self.max()) as i64),
            Overflow::Fail => None,
        }
    }
}

/// What becomes of a value that does not fit its field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// Keep the low bits.
    #[default]
    Wrap,
    /// Take the nearest value that fits.
    Saturate,
    /// Write nothing, answer nothing.
    Fail,
}

/// A field of a string: its kind and the bit it starts at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Sign and width.
    pub kind: FieldKind,
    /// First bit, below 2^60.
    pub offset: u64,
}

impl Field {
    /// How long a string must be, in bytes, for this field to be written.
    pub fn bytes_needed(self) -> usize {
        ((self.offset + u64::from(self.kind.bits)).div_ceil(8)) as usize
    }

    /// The field's value; bits past the string's end are 0.
    pub fn get(self, bytes: &[u8]) -> i64 {
        let (at, skip) = ((self.offset / 8) as usize, (self.offset % 8) as u32);
        let mut window = [0_u8; 16];
        let from = bytes.get(at..).unwrap_or(&[]);
        let take = from.len().min(9);
        window[..take].copy_from_slice(&from[..take]);
        let raw = u128::from_be_bytes(window) << skip >> (128 - self.kind.bits);
        self.kind.interpret(raw as u64)
    }

    /// Writes `value`, growing the string to `bytes_needed` even when the write then fails;
    /// the old value, or `None` where `overflow` fails.
    ///
    /// An unsigned field takes a negative value as a large positive one, as Redis does.
    pub fn set(self, bytes: &mut Vec<u8>, value: i64, overflow: Overflow) -> Option<i64> {
        self.grow(bytes);
        let wide = if self.kind.signed { i128::from(value) } else { i128::from(value as u64) };
        let fitted = self.kind.fit(wide, overflow)?;
        let old = self.get(bytes);
        self.store(bytes, fitted);
        Some(old)
    }

    /// Adds `increment`, growing the string as `set` does; the new value, or `None` where
    /// `overflow` fails.
    pub fn increment_by(self, bytes: &mut Vec<u8>, increment: i64, overflow: Overflow) -> Option<i64> {
        self.grow(bytes);
        let sum = i128::from(self.get(bytes)) + i128::from(increment);
        let fitted = self.kind.fit(sum, overflow)?;
        self.store(bytes, fitted);
        Some(fitted)
    }

    fn grow(self, bytes: &mut Vec<u8>) {
        if bytes.len() < self.bytes_needed() {
            bytes.resize(self.bytes_needed(), 0);
        }
    }

    /// Writes the low bits of `value` into a string that holds the field.
    fn store(self, bytes: &mut [u8], value: i64) {
        let (at, skip) = ((self.offset / 8) as usize, (self.offset % 8) as u32);
        let target = &mut bytes[at..self.bytes_needed()];
        let mut window = [0_u8; 16];
        window[..target.len()].copy_from_slice(target);
        let shift = 128 - self.kind.bits - skip;
        let mask = (u128::MAX >> (128 - self.kind.bits)) << shift;
        let placed = (u128::from(value as u64) << shift) & mask;
        let merged = (u128::from_be_bytes(window) & !mask) | placed;
        target.copy_from_slice(&merged.to_be_bytes()[..target.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{get, set};
    use super::*;
    use proptest::prelude::*;

    fn any_field() -> impl Strategy<Value = Field> {
        let kind = prop_oneof![
            (1_u32..=63).prop_map(|bits| FieldKind::unsigned(bits).unwrap()),
            (1_u32..=64).prop_map(|bits| FieldKind::signed(bits).unwrap()),
        ];
        (kind, 0_u64..200).prop_map(|(kind, offset)| Field { kind, offset })
    }

    #[test]
    fn names_of_kinds() {
        assert_eq!(FieldKind::parse(b"u63"), FieldKind::unsigned(63));
        assert_eq!(FieldKind::parse(b"i64"), FieldKind::signed(64));
        for bad in ["u64", "i65", "u0", "i0", "u", "x8", "", "u-1", "u08", "U8"] {
            assert_eq!(FieldKind::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn overflow_of_each_sort() {
        let field = |text: &[u8]| Field { kind: FieldKind::parse(text).unwrap(), offset: 0 };
        let mut bytes = Vec::new();
        assert_eq!(field(b"u8").set(&mut bytes, -1, Overflow::Saturate), Some(0));
        assert_eq!(bytes, [255]);
        assert_eq!(field(b"u8").increment_by(&mut bytes, 2, Overflow::Wrap), Some(1));
        assert_eq!(field(b"i8").increment_by(&mut bytes, 1000, Overflow::Saturate), Some(127));
        assert_eq!(field(b"i8").increment_by(&mut bytes, 1, Overflow::Fail), None);
        assert_eq!(field(b"i8").increment_by(&mut bytes, 1, Overflow::Wrap), Some(-128));
        assert_eq!(field(b"i64").set(&mut bytes, i64::MAX, Overflow::Fail), Some(i64::MIN));
        assert_eq!(field(b"i64").increment_by(&mut bytes, 1, Overflow::Wrap), Some(i64::MIN));
    }

    proptest! {
        #[test]
        fn fields_are_bits(field in any_field(), bytes in proptest::collection::vec(any::<u8>(), 0..40), value: i64) {
            let by_bits = |bytes: &[u8]| {
                let raw = (0..u64::from(field.kind.bits)).fold(0_u64, |raw, bit| raw << 1 | u64::from(get(bytes, field.offset + bit)));
                field.kind.interpret(raw)
            };
            prop_assert_eq!(field.get(&bytes), by_bits(&bytes));

            let (mut fast, mut slow) = (bytes.clone(), bytes.clone());
            prop_assert_eq!(field.set(&mut fast, value, Overflow::Wrap), Some(by_bits(&bytes)));
            for bit in 0..u64::from(field.kind.bits) {
                set(&mut slow, field.offset + bit, value >> (u64::from(field.kind.bits) - 1 - bit) & 1 == 1);
            }
            prop_assert_eq!(fast, slow);
        }
    }
}
