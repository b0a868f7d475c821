//! Which key a request asks for: uniform, Zipf, in sequence, or always the same one.
//! Invariant: every index drawn is below the number of keys. Read next: `template.rs`.

use crate::random::Random;

/// A distribution over the key indices `0..keys`.
#[derive(Clone, Debug)]
pub(crate) enum Distribution {
    /// Every key equally likely.
    Uniform { keys: u64 },
    /// The key of rank r with probability proportional to r^-theta; ranks are scattered over the indices.
    Zipf(Zipf),
    /// 0, 1, 2, ... and from the start again.
    Sequential { keys: u64, next: u64 },
    /// Always index 0: a single hot key.
    Single,
}

impl Distribution {
    /// The next key index.
    #[inline]
    pub(crate) fn draw(&mut self, random: &mut Random) -> u64 {
        match self {
            Distribution::Uniform { keys } => random.below(*keys),
            Distribution::Zipf(zipf) => zipf.draw(random),
            Distribution::Sequential { keys, next } => {
                let index = *next;
                *next = if index + 1 >= *keys { 0 } else { index + 1 };
                index
            }
            Distribution::Single => 0,
        }
    }
}

/// Zipf's law over `keys` ranks, drawn by rejection-inversion (Hörmann and Derflinger, 1996): constant time, no
/// table, so that the generator's own cache misses do not slow it down.
#[derive(Clone, Debug)]
pub(crate) struct Zipf {
    keys: u64,
    theta: f64,
    integral_first: f64,
    integral_last: f64,
    accept_below: f64,
    scatter: u64,
}

impl Zipf {
    /// The law with exponent `theta` (0.99 is the usual benchmark) over `keys` ranks.
    pub(crate) fn new(keys: u64, theta: f64) -> Zipf {
        let keys = keys.max(1);
        let mut zipf = Zipf {
            keys,
            theta,
            integral_first: 0.0,
            integral_last: 0.0,
            accept_below: 0.0,
            scatter: scatter(keys),
        };
        zipf.integral_first = zipf.integral(1.5) - 1.0;
        zipf.integral_last = zipf.integral(keys as f64 + 0.5);
        zipf.accept_below = 2.0 - zipf.integral_inverse(zipf.integral(2.5) - zipf.density(2.0));
        zipf
    }

    /// The key index of a drawn rank: ranks are spread over the indices, so that hot keys are no neighbours.
    #[inline]
    pub(crate) fn draw(&self, random: &mut Random) -> u64 {
        let rank = u128::from(self.rank(random) - 1);
        u64::try_from(rank * u128::from(self.scatter) % u128::from(self.keys)).unwrap_or(0)
    }

    /// A rank from 1 to `keys`.
    #[inline]
    fn rank(&self, random: &mut Random) -> u64 {
        loop {
            let area = self.integral_last + random.unit() * (self.integral_first - self.integral_last);
            let position = self.integral_inverse(area);
            let rank = ((position + 0.5) as u64).clamp(1, self.keys);
            let near = rank as f64 - position <= self.accept_below;
            if near || area >= self.integral(rank as f64 + 0.5) - self.density(rank as f64) {
                return rank;
            }
        }
    }

    /// The density's antiderivative, in the form that stays exact when theta is near 1.
    fn integral(&self, position: f64) -> f64 {
        let log = position.ln();
        expm1_over(log * (1.0 - self.theta)) * log
    }

    fn density(&self, position: f64) -> f64 {
        (-self.theta * position.ln()).exp()
    }

    fn integral_inverse(&self, area: f64) -> f64 {
        let scaled = (area * (1.0 - self.theta)).max(-1.0);
        (log1p_over(scaled) * area).exp()
    }
}

/// (e^x - 1) / x, continued through 0.
fn expm1_over(x: f64) -> f64 {
    if x.abs() > 1e-8 { x.exp_m1() / x } else { 1.0 + x / 2.0 }
}

/// ln(1 + x) / x, continued through 0.
fn log1p_over(x: f64) -> f64 {
    if x.abs() > 1e-8 { x.ln_1p() / x } else { 1.0 - x / 2.0 }
}

/// A multiplier without a common factor with `keys`: multiplying by it permutes the indices.
fn scatter(keys: u64) -> u64 {
    let mut candidate = (keys as f64 * 0.618_033_988) as u64 | 1;
    while greatest_common_divisor(candidate, keys) != 1 {
        candidate += 2;
    }
    candidate
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frequencies(zipf: &Zipf, draws: u32) -> Vec<f64> {
        let mut random = Random::new(11);
        let mut counts = vec![0u32; usize::try_from(zipf.keys).unwrap() + 1];
        for _ in 0..draws {
            counts[usize::try_from(zipf.rank(&mut random)).unwrap()] += 1;
        }
        counts.into_iter().map(|count| f64::from(count) / f64::from(draws)).collect()
    }

    #[test]
    fn zipf_frequencies_follow_the_law_for_several_exponents() {
        for theta in [0.5, 0.99, 1.0, 1.3] {
            let keys = 1000u32;
            let zipf = Zipf::new(u64::from(keys), theta);
            let total: f64 = (1..=keys).map(|rank| f64::from(rank).powf(-theta)).sum();
            let seen = frequencies(&zipf, 400_000);
            for rank in [1u32, 2, 3, 10, 100] {
                let expected = f64::from(rank).powf(-theta) / total;
                let got = seen[rank as usize];
                let tolerance = 5.0 * (expected / 400_000.0).sqrt() + 1e-6;
                assert!(
                    (got - expected).abs() < tolerance,
                    "theta {theta} rank {rank}: {got} for {expected}"
                );
            }
            let tail: f64 = seen[501..].iter().sum();
            let tail_expected: f64 = (501..=keys).map(|rank| f64::from(rank).powf(-theta) / total).sum();
            assert!((tail - tail_expected).abs() < 0.01, "theta {theta}: tail {tail} for {tail_expected}");
        }
    }

    #[test]
    fn scattering_visits_every_index_once() {
        for keys in [1u64, 2, 3, 10, 97, 1000, 1024] {
            let factor = scatter(keys);
            let mut seen = vec![false; usize::try_from(keys).unwrap()];
            for rank in 0..keys {
                let index = usize::try_from(rank * factor % keys).unwrap();
                assert!(!std::mem::replace(&mut seen[index], true), "{keys} keys: index {index} twice");
            }
        }
    }

    #[test]
    fn sequence_covers_all_keys_and_wraps() {
        let mut random = Random::new(1);
        let mut sequence = Distribution::Sequential { keys: 3, next: 0 };
        let drawn: Vec<u64> = (0..7).map(|_| sequence.draw(&mut random)).collect();
        assert_eq!(drawn, [0, 1, 2, 0, 1, 2, 0]);
        assert_eq!(Distribution::Single.draw(&mut random), 0);
    }

    #[test]
    fn uniform_and_zipf_stay_in_range() {
        let mut random = Random::new(5);
        for keys in [1u64, 2, 10, 1_000_000_000] {
            let mut uniform = Distribution::Uniform { keys };
            let mut zipf = Distribution::Zipf(Zipf::new(keys, 0.99));
            for _ in 0..1000 {
                assert!(uniform.draw(&mut random) < keys);
                assert!(zipf.draw(&mut random) < keys);
            }
        }
    }
}
