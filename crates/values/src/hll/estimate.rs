//! The cardinality estimate of Otmar Ertl, "New cardinality estimation algorithms for HyperLogLog
//! sketches", 2017 (arXiv 1702.01284), algorithm 6: the improved raw estimator.
//!
//! Invariant: the order of floating point operations is fixed; replicas compare the result.

use super::{REGISTERS, VALUE_BITS};

/// How many registers have each value. 6 bits hold 0 to 63; a true HyperLogLog uses 0 to 51.
pub(super) type Histogram = [u32; 64];

/// 1 / (2 ln 2), the bias correction for infinitely many registers.
const ALPHA: f64 = 0.721_347_520_444_481_7;

pub(super) fn cardinality(histogram: &Histogram) -> u64 {
    let m = REGISTERS as f64;
    let full = f64::from(histogram[VALUE_BITS as usize + 1]);
    let mut z = m * tau((m - full) / m);
    for &registers in histogram[1..=VALUE_BITS as usize].iter().rev() {
        z += f64::from(registers);
        z *= 0.5;
    }
    z += m * sigma(f64::from(histogram[0]) / m);
    (ALPHA * m * m / z).round() as u64
}

/// x + Σ x^(2^k) 2^(k-1), the correction for registers still zero.
fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

/// (1 - x - Σ (1 - x^(2^-k))² 2^-k) / 3, the correction for registers at their highest.
fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_are_finite() {
        let mut histogram: Histogram = [0; 64];
        histogram[0] = REGISTERS as u32;
        assert_eq!(cardinality(&histogram), 0);
        histogram = [0; 64];
        histogram[VALUE_BITS as usize + 1] = REGISTERS as u32;
        // All at the highest: no bound but the type's.
        assert_eq!(cardinality(&histogram), u64::MAX);
        histogram = [0; 64];
        (histogram[0], histogram[1]) = (REGISTERS as u32 - 1, 1);
        assert_eq!(cardinality(&histogram), 1);
    }
}
