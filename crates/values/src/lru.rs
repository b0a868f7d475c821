//! The 24 bits in which Redis keeps how recently or how often a key was used.
//!
//! As LRU, seconds of a clock that wraps after 194 days. As LFU, 16 bits of minutes of the last
//! decay and 8 bits of a logarithmic counter. Pure functions: the caller brings clock and chance.
//! Invariant: a result fits 24 bits.

/// Bits of the field.
pub const BITS: u32 = 24;

/// The clock's highest value; also a mask.
pub const CLOCK_MAX: u32 = (1 << BITS) - 1;

/// Milliseconds of one step of the LRU clock.
pub const CLOCK_RESOLUTION_MS: u64 = 1000;

/// The counter of a new key, so that it is not the first to go.
pub const LFU_INIT: u8 = 5;

/// The LRU clock at a time in milliseconds.
#[inline]
pub fn clock_at(now_ms: u64) -> u32 {
    (now_ms / CLOCK_RESOLUTION_MS) as u32 & CLOCK_MAX
}

/// Milliseconds since `used` by the clock now. Wraps at most once: longer times look shorter.
#[inline]
pub fn idle_ms(clock: u32, used: u32) -> u64 {
    let (clock, used) = (clock & CLOCK_MAX, used & CLOCK_MAX);
    let steps = if clock >= used { clock - used } else { clock + (CLOCK_MAX - used) };
    u64::from(steps) * CLOCK_RESOLUTION_MS
}

/// The field of a key idle for some seconds, as RESTORE IDLETIME asks.
#[inline]
pub fn used_before(clock: u32, idle_seconds: u64) -> u32 {
    let steps = idle_seconds.min(u64::from(CLOCK_MAX)) as u32;
    let clock = clock & CLOCK_MAX;
    if clock >= steps { clock - steps } else { clock + (CLOCK_MAX - steps) }
}

/// The LFU field: minutes of the last decay above, counter below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lfu {
    /// Minutes, wrapping at 65,536.
    pub decayed_at: u16,
    /// Logarithm of the use, 0 to 255.
    pub counter: u8,
}

/// The minute of LFU at a time in milliseconds.
#[inline]
pub fn minute_at(now_ms: u64) -> u16 {
    (now_ms / 60_000) as u16
}

impl Lfu {
    /// The field of a key made at `minute`.
    #[inline]
    pub fn new(minute: u16) -> Lfu {
        Lfu { decayed_at: minute, counter: LFU_INIT }
    }

    /// Reads the field from its 24 bits.
    #[inline]
    pub fn from_bits(bits: u32) -> Lfu {
        Lfu { decayed_at: (bits >> 8) as u16, counter: bits as u8 }
    }

    /// The field as 24 bits.
    #[inline]
    pub fn to_bits(self) -> u32 {
        u32::from(self.decayed_at) << 8 | u32::from(self.counter)
    }

    /// Minutes since the last decay; wraps at most once.
    #[inline]
    pub fn minutes_idle(self, minute: u16) -> u16 {
        if minute >= self.decayed_at { minute - self.decayed_at } else { u16::MAX - self.decayed_at + minute }
    }

    /// The counter less one for each `decay_minutes` gone by; 0 minutes is no decay. What
    /// OBJECT FREQ answers. The field itself is not changed by time alone.
    #[inline]
    pub fn decayed_counter(self, minute: u16, decay_minutes: u32) -> u8 {
        let periods = u32::from(self.minutes_idle(minute)).checked_div(decay_minutes).unwrap_or(0);
        self.counter.saturating_sub(periods.min(255) as u8)
    }

    /// The field after one use: decayed, then raised by one with a chance that falls with the
    /// counter, 1 in (counter - 5) × `log_factor` + 1. `random` is uniform over all of `u64`.
    #[inline]
    #[must_use]
    pub fn touched(self, minute: u16, decay_minutes: u32, log_factor: u32, random: u64) -> Lfu {
        let counter = self.decayed_counter(minute, decay_minutes);
        Lfu { decayed_at: minute, counter: raised(counter, log_factor, random) }
    }
}

fn raised(counter: u8, log_factor: u32, random: u64) -> u8 {
    let odds = u64::from(counter.saturating_sub(LFU_INIT)) * u64::from(log_factor) + 1;
    let lucky = u128::from(random) * u128::from(odds) <= u128::from(u64::MAX);
    counter.saturating_add(u8::from(lucky))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_wraps() {
        assert_eq!(clock_at(1_000 * (1 << 24) + 5_999), 5);
        assert_eq!(idle_ms(100, 40), 60_000);
        assert_eq!(idle_ms(3, CLOCK_MAX - 1), 4_000);
        assert_eq!(idle_ms(100, used_before(100, 60)), 60_000);
        assert_eq!(idle_ms(10, used_before(10, 60)), 60_000);
    }

    #[test]
    fn counters_decay_by_the_minute() {
        let field = Lfu { decayed_at: 100, counter: 50 };
        assert_eq!(Lfu::from_bits(field.to_bits()), field);
        assert_eq!(field.decayed_counter(110, 1), 40);
        assert_eq!(field.decayed_counter(110, 3), 47);
        assert_eq!(field.decayed_counter(110, 0), 50);
        assert_eq!(field.decayed_counter(99, 1), 0);
        assert_eq!(field.touched(110, 1, 10, u64::MAX), Lfu { decayed_at: 110, counter: 40 });
        assert_eq!(Lfu::new(7).touched(7, 1, 10, u64::MAX).counter, 6);
    }

    #[test]
    fn counters_grow_ever_more_slowly() {
        // The table of Redis' configuration file: a factor of 10 gives about 10 after 100 uses and
        // 18 after 1,000.
        let (mut state, mut sums) = (1_u64, [0_u64; 2]);
        for _ in 0..50 {
            let mut field = Lfu::new(0);
            for use_number in 1..=1000 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                field = field.touched(0, 1, 10, state);
                match use_number {
                    100 => sums[0] += u64::from(field.counter),
                    1000 => sums[1] += u64::from(field.counter),
                    _ => {}
                }
            }
        }
        let [after_100, after_1000] = sums.map(|sum| sum / 50);
        assert!((9..=12).contains(&after_100) && (17..=20).contains(&after_1000), "{after_100} {after_1000}");
        assert_eq!(raised(255, 10, 0), 255);
    }
}
