//! How long a copy is fresh, when it is old, and when it is fetched anew ahead of its end.
//!
//! A copy's only mark is the end of its entry, which every read looks at anyway. It is the end of its freshness plus the
//! route's grace, the time for which an old copy may still be given; so what is known of it follows from the end alone:
//!
//! ```text
//! loaded ------------------ fresh until ---------- end
//!         ttl less jitter                 grace
//! ```

use crate::route::Route;
use std::time::Duration;

/// What to do with a copy that is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Age {
    /// Give it.
    Fresh,
    /// Give it, and fetch it anew behind: it is about to end, or old and may be given meanwhile.
    Renew,
    /// Fetch it first; give it only where that fails.
    Old,
}

/// How long a copy is kept from now on, in milliseconds: what is fresh, and how much of it is grace. `random` spreads ends; `fresh_ms` is
/// what the store itself said.
pub fn lifetime_ms(route: &Route, fresh_ms: Option<u64>, random: u64) -> (u64, u64) {
    let ttl = millis(route.ttl);
    let ttl = fresh_ms.map_or(ttl, |told| told.min(ttl));
    // Between 0 and the whole jitter, in 1/1024ths.
    let jitter = u128::from(ttl) * u128::from(route.jitter_percent) / 100 * u128::from(random % 1025) / 1024;
    let fresh = ttl - u64::try_from(jitter).unwrap_or(0);
    let grace = if fresh == 0 { 0 } else { millis(route.grace()) };
    (fresh, grace)
}

/// How old a copy is that ends at `end_ms`. `load_ms`: how long a load of this route takes of late. `random` decides whether
/// a copy that is about to end is fetched anew by this read: with the density of XFetch (Vattani, Chierichetti, Lowenstein,
/// *Optimal Probabilistic Cache Stampede Prevention*, VLDB 2015), so that of many readers about one does.
pub fn age(route: &Route, now_ms: u64, end_ms: u64, load_ms: f64, random: u64) -> Age {
    let fresh_until = fresh_until_ms(route, end_ms);
    if now_ms >= fresh_until {
        let old = now_ms - fresh_until;
        return if old < millis(route.stale_while_revalidate) { Age::Renew } else { Age::Old };
    }
    // In (0, 1].
    let uniform = ((random >> 11) as f64 + 1.0) / (1u64 << 53) as f64;
    let ahead = load_ms * route.refresh_ahead * -uniform.ln();
    if route.refresh_ahead > 0.0 && ahead >= (fresh_until - now_ms) as f64 { Age::Renew } else { Age::Fresh }
}

/// Until when a copy is fresh that ends at `end_ms`.
pub fn fresh_until_ms(route: &Route, end_ms: u64) -> u64 {
    end_ms.saturating_sub(millis(route.grace()))
}

/// When a copy was loaded that ends at `end_ms`, to within the jitter.
pub fn loaded_ms(route: &Route, end_ms: u64) -> u64 {
    fresh_until_ms(route, end_ms).saturating_sub(millis(route.ttl))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::Language;

    fn route(options: &[&str]) -> Route {
        let line = ["k:<id>", "s", "as", "string", "query", "SELECT 1", "ttl", "100s", "jitter", "10"];
        let words: Vec<String> = line.iter().chain(options).map(|word| (*word).to_owned()).collect();
        Route::parse(&words, |_| Some(Language::Sql)).expect("a route")
    }

    #[test]
    fn ends_are_spread_within_the_jitter() {
        let route = route(&["stale-if-error", "1h"]);
        assert_eq!(lifetime_ms(&route, None, 0), (100_000, 3_600_000));
        assert_eq!(lifetime_ms(&route, None, 1024), (90_000, 3_600_000));
        assert_eq!(lifetime_ms(&route, Some(5_000), 0), (5_000, 3_600_000));
        assert_eq!(lifetime_ms(&route, Some(0), 7), (0, 0));
        let mean = (0..2050).map(|random| lifetime_ms(&route, None, random).0).sum::<u64>() / 2050;
        assert!((94_900..95_100).contains(&mean), "{mean}");
    }

    #[test]
    fn an_old_copy_is_given_as_the_route_says() {
        let route = route(&["stale-while-revalidate", "10s", "stale-if-error", "60s", "refresh-ahead", "no"]);
        let end = 1_000_000;
        let fresh_until = end - 60_000;
        let at = |now| age(&route, now, end, 50.0, 1);
        assert_eq!(at(fresh_until - 1), Age::Fresh);
        assert_eq!(at(fresh_until), Age::Renew);
        assert_eq!(at(fresh_until + 10_000), Age::Old);
        assert_eq!(at(end - 1), Age::Old);
    }

    #[test]
    fn about_one_reader_in_a_load_renews_ahead() {
        let route = route(&[]);
        let renewing = |left_ms: u64| {
            let mut random = 1u64;
            let mut count = 0;
            for _ in 0..10_000 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                count += usize::from(age(&route, 0, left_ms, 100.0, random) == Age::Renew);
            }
            count
        };
        // The chance is exp(-left / load).
        assert!((3_400..3_900).contains(&renewing(100)), "{}", renewing(100));
        assert!((40..110).contains(&renewing(500)), "{}", renewing(500));
        assert_eq!(renewing(5_000), 0);
    }
}
