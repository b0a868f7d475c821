//! Shortest digits of a double by the Grisu2 algorithm (Florian Loitsch, "Printing floating-point
//! numbers quickly and accurately with integers", PLDI 2010).
//!
//! Grisu2 misses the fewest digits about once in a thousand. Redis prints with it, so exact
//! equality needs this algorithm and not a better one.
//! Invariant: the digits, read back, give the double they came from.

/// Digits of a positive double: `0.d1d2… × 10^(len + power)`.
pub(super) struct Digits {
    digits: [u8; 18],
    len: usize,
    power: i32,
}

/// `fraction × 2^exponent`, not rounded to any format.
#[derive(Clone, Copy)]
struct Wide {
    fraction: u64,
    exponent: i32,
}

const HIDDEN_BIT: u64 = 1 << 52;

/// Scaled exponents stay in this window, so that the integral part fits 32 bits.
const SCALED_EXPONENT: std::ops::RangeInclusive<i32> = -60..=-32;

impl Wide {
    fn normalized(self) -> Wide {
        let shift = self.fraction.leading_zeros();
        Wide { fraction: self.fraction << shift, exponent: self.exponent - shift as i32 }
    }

    /// The product's upper 64 bits, rounded to nearest.
    fn times(self, other: Wide) -> Wide {
        let product = u128::from(self.fraction) * u128::from(other.fraction) + (1 << 63);
        Wide { fraction: (product >> 64) as u64, exponent: self.exponent + other.exponent + 64 }
    }
}

impl Digits {
    /// The digits of a positive finite double.
    pub(super) fn of(value: f64) -> Digits {
        let bits = value.to_bits();
        let biased = (bits >> 52) as i32;
        let fraction = bits & (HIDDEN_BIT - 1);
        let exact = match biased {
            0 => Wide { fraction, exponent: -1074 },
            _ => Wide { fraction: fraction | HIDDEN_BIT, exponent: biased - 1075 },
        };
        let upper = Wide { fraction: exact.fraction * 2 + 1, exponent: exact.exponent - 1 }.normalized();
        // The gap below a power of two is half the gap above it.
        let below = if exact.fraction == HIDDEN_BIT { 2 } else { 1 };
        let lower_exponent = exact.exponent - below;
        let lower = ((exact.fraction << below) - 1) << (lower_exponent - upper.exponent);

        let (ten, power) = scale_for(upper.exponent);
        let mid = exact.normalized().times(ten);
        let high = upper.times(ten);
        let low = Wide { fraction: lower, exponent: upper.exponent }.times(ten);
        // Each product is off by at most one unit: stay inside.
        let (high, low) = (Wide { fraction: high.fraction - 1, ..high }, low.fraction + 1);
        let mut digits = Digits { digits: [0; 18], len: 0, power: -power };
        digits.generate(high, high.fraction - low, high.fraction - mid.fraction);
        digits
    }

    fn push(&mut self, digit: u64) {
        if digit != 0 || self.len != 0 {
            self.digits[self.len] = b'0' + digit as u8;
            self.len += 1;
        }
    }

    /// Cuts digits off `high` until what is left is within `delta` of it.
    fn generate(&mut self, high: Wide, mut delta: u64, distance: u64) {
        let point = -high.exponent as u32;
        let one = 1_u64 << point;
        let (mut whole, mut part) = (high.fraction >> point, high.fraction & (one - 1));
        for kappa in (0..10_u32).rev() {
            let unit = 10_u64.pow(kappa);
            self.push(whole / unit);
            whole %= unit;
            let rest = (whole << point) + part;
            if rest <= delta {
                self.power += kappa as i32;
                return self.approach(delta, rest, unit << point, distance);
            }
        }
        let mut distance = distance;
        loop {
            part *= 10;
            delta *= 10;
            distance = distance.wrapping_mul(10);
            self.power -= 1;
            self.push(part >> point);
            part &= one - 1;
            if part < delta {
                return self.approach(delta, part, one, distance);
            }
        }
    }

    /// Lowers the last digit while that brings the digits nearer to the value itself.
    fn approach(&mut self, delta: u64, mut rest: u64, unit: u64, distance: u64) {
        while rest < distance
            && delta - rest >= unit
            && (rest + unit < distance || distance - rest > rest + unit - distance)
        {
            self.digits[self.len - 1] -= 1;
            rest += unit;
        }
    }

    /// Appends plain notation for near exponents, scientific for far ones.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let digits = &self.digits[..self.len];
        let len = self.len as i32;
        let exponent = self.power + len - 1;
        if self.power >= 0 && exponent < len + 7 {
            out.extend_from_slice(digits);
            out.resize(out.len() + self.power as usize, b'0');
        } else if self.power < 0 && (self.power > -7 || exponent.abs() < 4) {
            let whole = len + self.power;
            if whole <= 0 {
                out.extend_from_slice(b"0.");
                out.resize(out.len() + whole.unsigned_abs() as usize, b'0');
                out.extend_from_slice(digits);
            } else {
                let (whole, fraction) = digits.split_at(whole as usize);
                out.extend_from_slice(whole);
                out.push(b'.');
                out.extend_from_slice(fraction);
            }
        } else {
            out.push(digits[0]);
            if self.len > 1 {
                out.push(b'.');
                out.extend_from_slice(&digits[1..]);
            }
            out.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
            out.extend_from_slice(itoa::Buffer::new().format(exponent.unsigned_abs()).as_bytes());
        }
    }
}

/// A cached power of ten that brings `exponent` into the window, and which power that is.
fn scale_for(exponent: i32) -> (Wide, i32) {
    // Where two powers fit, the search's start decides, and with it the digits.
    let estimate = -f64::from(exponent + POWERS.len() as i32) * std::f64::consts::LOG10_2;
    let mut index = (estimate as i32 - POWER_FIRST) / POWER_STEP;
    loop {
        let (fraction, power_exponent) = POWERS[index as usize];
        let scaled = exponent + power_exponent + 64;
        if scaled < *SCALED_EXPONENT.start() {
            index += 1;
        } else if scaled > *SCALED_EXPONENT.end() {
            index -= 1;
        } else {
            return (Wide { fraction, exponent: power_exponent }, POWER_FIRST + index * POWER_STEP);
        }
    }
}

const POWER_FIRST: i32 = -348;
const POWER_STEP: i32 = 8;

/// 10^(-348 + 8i) as (fraction, exponent), the fraction rounded to 64 bits.
#[rustfmt::skip]
const POWERS: [(u64, i32); 87] = [
    (0xfa8fd5a0081c0288, -1220), (0xbaaee17fa23ebf76, -1193), (0x8b16fb203055ac76, -1166),
    (0xcf42894a5dce35ea, -1140), (0x9a6bb0aa55653b2d, -1113), (0xe61acf033d1a45df, -1087),
    (0xab70fe17c79ac6ca, -1060), (0xff77b1fcbebcdc4f, -1034), (0xbe5691ef416bd60c, -1007),
    (0x8dd01fad907ffc3c, -980), (0xd3515c2831559a83, -954), (0x9d71ac8fada6c9b5, -927),
    (0xea9c227723ee8bcb, -901), (0xaecc49914078536d, -874), (0x823c12795db6ce57, -847),
    (0xc21094364dfb5637, -821), (0x9096ea6f3848984f, -794), (0xd77485cb25823ac7, -768),
    (0xa086cfcd97bf97f4, -741), (0xef340a98172aace5, -715), (0xb23867fb2a35b28e, -688),
    (0x84c8d4dfd2c63f3b, -661), (0xc5dd44271ad3cdba, -635), (0x936b9fcebb25c996, -608),
    (0xdbac6c247d62a584, -582), (0xa3ab66580d5fdaf6, -555), (0xf3e2f893dec3f126, -529),
    (0xb5b5ada8aaff80b8, -502), (0x87625f056c7c4a8b, -475), (0xc9bcff6034c13053, -449),
    (0x964e858c91ba2655, -422), (0xdff9772470297ebd, -396), (0xa6dfbd9fb8e5b88f, -369),
    (0xf8a95fcf88747d94, -343), (0xb94470938fa89bcf, -316), (0x8a08f0f8bf0f156b, -289),
    (0xcdb02555653131b6, -263), (0x993fe2c6d07b7fac, -236), (0xe45c10c42a2b3b06, -210),
    (0xaa242499697392d3, -183), (0xfd87b5f28300ca0e, -157), (0xbce5086492111aeb, -130),
    (0x8cbccc096f5088cc, -103), (0xd1b71758e219652c, -77), (0x9c40000000000000, -50),
    (0xe8d4a51000000000, -24), (0xad78ebc5ac620000, 3), (0x813f3978f8940984, 30),
    (0xc097ce7bc90715b3, 56), (0x8f7e32ce7bea5c70, 83), (0xd5d238a4abe98068, 109),
    (0x9f4f2726179a2245, 136), (0xed63a231d4c4fb27, 162), (0xb0de65388cc8ada8, 189),
    (0x83c7088e1aab65db, 216), (0xc45d1df942711d9a, 242), (0x924d692ca61be758, 269),
    (0xda01ee641a708dea, 295), (0xa26da3999aef774a, 322), (0xf209787bb47d6b85, 348),
    (0xb454e4a179dd1877, 375), (0x865b86925b9bc5c2, 402), (0xc83553c5c8965d3d, 428),
    (0x952ab45cfa97a0b3, 455), (0xde469fbd99a05fe3, 481), (0xa59bc234db398c25, 508),
    (0xf6c69a72a3989f5c, 534), (0xb7dcbf5354e9bece, 561), (0x88fcf317f22241e2, 588),
    (0xcc20ce9bd35c78a5, 614), (0x98165af37b2153df, 641), (0xe2a0b5dc971f303a, 667),
    (0xa8d9d1535ce3b396, 694), (0xfb9b7cd9a4a7443c, 720), (0xbb764c4ca7a44410, 747),
    (0x8bab8eefb6409c1a, 774), (0xd01fef10a657842c, 800), (0x9b10a4e5e9913129, 827),
    (0xe7109bfba19c0c9d, 853), (0xac2820d9623bf429, 880), (0x80444b5e7aa7cf85, 907),
    (0xbf21e44003acdd2d, 933), (0x8e679c2f5e44ff8f, 960), (0xd433179d9c8cb841, 986),
    (0x9e19db92b4e31ba9, 1013), (0xeb96bf6ebadf77d9, 1039), (0xaf87023b9bf0ee6b, 1066),
];

#[cfg(test)]
mod tests {
    use super::*;
    use num_bigint::BigUint;

    #[test]
    fn the_powers_are_the_nearest_ones() {
        for (index, &(fraction, exponent)) in POWERS.iter().enumerate() {
            let power = POWER_FIRST + POWER_STEP * index as i32;
            let ten = BigUint::from(10_u8).pow(power.unsigned_abs());
            // 2 × |fraction × 2^exponent - 10^power| <= 2^exponent, in integers.
            let scale = BigUint::from(1_u8) << 1400_u32;
            let (value, unit) = match power {
                0.. => (ten * &scale, BigUint::from(1_u8) << (exponent + 1400) as u32),
                _ => (&scale / ten, BigUint::from(1_u8) << (exponent + 1400) as u32),
            };
            let approx = &unit * fraction;
            let error = if approx > value { approx - value } else { value - approx };
            assert!(error * 2_u8 <= unit + 1_u8, "10^{power}");
            assert!(fraction >> 63 == 1);
        }
    }
}
