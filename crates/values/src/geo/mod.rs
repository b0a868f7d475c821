//! Places on the globe as numbers: geohashes of 52 bits that a sorted set keeps as scores, distances,
//! and which ranges of scores cover a shape.
//!
//! A geohash halves the ranges of longitude and latitude in turn; the bits say in which half a place
//! is, so that places near each other mostly have numbers near each other. Distances are along a great
//! circle of a globe of Redis' radius.
//! Invariant: what is answered is, to the last bit, what Redis answers: the order of floating-point
//! operations is part of the result.
//! Read next: `search.rs`.

mod search;

pub use search::{Cell, Shape, cells};

/// Largest and least longitude, in degrees.
pub const LONGITUDE_MAX: f64 = 180.0;

/// Largest and least latitude, in degrees: where the square map of the globe ends.
pub const LATITUDE_MAX: f64 = 85.051_128_78;

/// Radius of the globe, in metres.
const GLOBE_RADIUS: f64 = 6_372_797.560_856;

const RADIANS_PER_DEGREE: f64 = 0.017_453_292_519_943_295;

/// Bits of a full geohash for longitude, and for latitude.
const STEPS_MAX: u32 = 26;

/// Characters of a geohash as text, in the order of their values.
const ALPHABET: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";

/// A place, in degrees.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    /// East of Greenwich.
    pub longitude: f64,
    /// North of the equator.
    pub latitude: f64,
}

/// A unit of length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Metres.
    Metre,
    /// Kilometres.
    Kilometre,
    /// Feet.
    Foot,
    /// Miles.
    Mile,
}

impl Unit {
    /// The unit of a name, in any case.
    pub fn of(name: &[u8]) -> Option<Unit> {
        let units =
            [(&b"m"[..], Unit::Metre), (b"km", Unit::Kilometre), (b"ft", Unit::Foot), (b"mi", Unit::Mile)];
        units.iter().find(|(word, _)| name.eq_ignore_ascii_case(word)).map(|(_, unit)| *unit)
    }

    /// Its length in metres, as Redis has it.
    pub fn metres(self) -> f64 {
        match self {
            Unit::Metre => 1.0,
            Unit::Kilometre => 1000.0,
            Unit::Foot => 0.3048,
            Unit::Mile => 1609.34,
        }
    }
}

fn radians(degrees: f64) -> f64 {
    degrees * RADIANS_PER_DEGREE
}

fn degrees(radians: f64) -> f64 {
    radians / RADIANS_PER_DEGREE
}

impl Place {
    /// The place in the midst of others: below the mean of their points in space.
    pub fn mean_of(places: &[Place]) -> Place {
        let (mut x, mut y, mut z) = (0.0, 0.0, 0.0);
        for place in places {
            let (longitude, latitude) = (radians(place.longitude), radians(place.latitude));
            x += latitude.cos() * longitude.cos();
            y += latitude.cos() * longitude.sin();
            z += latitude.sin();
        }
        let count = places.len() as f64;
        let (x, y, z) = (x / count, y / count, z / count);
        Place { longitude: degrees(y.atan2(x)), latitude: degrees(z.atan2((x * x + y * y).sqrt())) }
    }

    /// Whether a geohash can stand for it.
    pub fn is_valid(self) -> bool {
        self.longitude.abs() <= LONGITUDE_MAX && self.latitude.abs() <= LATITUDE_MAX
    }

    /// The score that stands for it. The place is valid.
    pub fn to_score(self) -> f64 {
        hash(self, LATITUDE_MAX, STEPS_MAX) as f64
    }

    /// The middle of the cell that a score stands for; any score stands for one.
    pub fn of_score(score: f64) -> Place {
        let area = Area::of(integer_of(score), STEPS_MAX);
        let middle = |(low, high): (f64, f64), max: f64| ((low + high) / 2.0).clamp(-max, max);
        Place {
            longitude: middle(area.longitude, LONGITUDE_MAX),
            latitude: middle(area.latitude, LATITUDE_MAX),
        }
    }

    /// The geohash as text in the common form, which halves latitude from pole to pole.
    pub fn to_text(self) -> [u8; 11] {
        let bits = hash(self, 90.0, STEPS_MAX);
        // The last character would have three bits only, so it says nothing.
        std::array::from_fn(|at| match 47_u32.checked_sub(at as u32 * 5) {
            Some(shift) => ALPHABET[(bits >> shift & 31) as usize],
            None => ALPHABET[0],
        })
    }

    /// The distance to another place, in metres.
    pub fn distance(self, other: Place) -> f64 {
        let half_across = ((radians(other.longitude) - radians(self.longitude)) / 2.0).sin();
        if half_across == 0.0 {
            return self.distance_along(other);
        }
        let (here, there) = (radians(self.latitude), radians(other.latitude));
        let half_along = ((there - here) / 2.0).sin();
        let square = half_along * half_along + here.cos() * there.cos() * half_across * half_across;
        2.0 * GLOBE_RADIUS * square.sqrt().asin()
    }

    /// The distance between the latitudes of two places, in metres.
    fn distance_along(self, other: Place) -> f64 {
        GLOBE_RADIUS * (radians(other.latitude) - radians(self.latitude)).abs()
    }
}

/// A score as an integer of 64 bits as x86-64 converts it, numbers outside included: any member of a
/// sorted set can be asked for its place.
fn integer_of(score: f64) -> u64 {
    const HALF: f64 = 9_223_372_036_854_775_808.0;
    let signed = |value: f64| if (-HALF..HALF).contains(&value) { value as i64 } else { i64::MIN };
    if score < HALF { signed(score) as u64 } else { signed(score - HALF) as u64 ^ (1 << 63) }
}

/// The geohash of so many steps of a place, with latitudes up to `latitude_max`.
fn hash(place: Place, latitude_max: f64, steps: u32) -> u64 {
    let cells = f64::from(1_u32 << steps);
    let along = (place.latitude + latitude_max) / (latitude_max + latitude_max) * cells;
    let across = (place.longitude + LONGITUDE_MAX) / (LONGITUDE_MAX + LONGITUDE_MAX) * cells;
    interleave(along as u32, across as u32)
}

/// Bits of two numbers in turn; the first one's are the even ones.
fn interleave(even: u32, odd: u32) -> u64 {
    spread(even) | spread(odd) << 1
}

/// A number's bits with a zero between any two.
fn spread(number: u32) -> u64 {
    let shifts = [
        (16, 0x0000_ffff_0000_ffff),
        (8, 0x00ff_00ff_00ff_00ff),
        (4, 0x0f0f_0f0f_0f0f_0f0f),
        (2, 0x3333_3333_3333_3333),
        (1, 0x5555_5555_5555_5555_u64),
    ];
    shifts.iter().fold(u64::from(number), |bits, (shift, mask)| (bits | bits << shift) & mask)
}

/// The even bits of a number side by side.
fn gather(bits: u64) -> u32 {
    let shifts = [
        (1, 0x3333_3333_3333_3333),
        (2, 0x0f0f_0f0f_0f0f_0f0f),
        (4, 0x00ff_00ff_00ff_00ff),
        (8, 0x0000_ffff_0000_ffff),
        (16, 0x0000_0000_ffff_ffff_u64),
    ];
    let even = bits & 0x5555_5555_5555_5555;
    shifts.iter().fold(even, |bits, (shift, mask)| (bits | bits >> shift) & mask) as u32
}

/// What a geohash stands for: from the least to the largest longitude and latitude.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Area {
    longitude: (f64, f64),
    latitude: (f64, f64),
}

impl Area {
    fn of(bits: u64, steps: u32) -> Area {
        let cells = (1_u64 << steps) as f64;
        let range = |at: u32, max: f64| {
            let edge = |at: f64| -max + (at / cells) * (max + max);
            (edge(f64::from(at)), edge(f64::from(at) + 1.0))
        };
        Area {
            longitude: range(gather(bits >> 1), LONGITUDE_MAX),
            latitude: range(gather(bits), LATITUDE_MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PALERMO: Place = Place { longitude: 13.361389, latitude: 38.115556 };
    const CATANIA: Place = Place { longitude: 15.087269, latitude: 37.502669 };

    #[test]
    fn scores_and_texts_are_those_of_redis() {
        assert_eq!(PALERMO.to_score(), 3479099956230698.0);
        let stored = Place::of_score(PALERMO.to_score());
        assert_eq!((stored.longitude, stored.latitude), (13.361389338970184, 38.1155563954963));
        assert_eq!(&stored.to_text(), b"sqc8b49rny0");
        let other = Place::of_score(CATANIA.to_score());
        assert_eq!(format!("{:.4}", stored.distance(other)), "166274.1516");
        assert_eq!(stored.distance(stored), 0.0);
    }

    #[test]
    fn any_score_is_a_place() {
        for score in [-1.0, f64::INFINITY, f64::NEG_INFINITY, 1e300, -1e300, 1.5, 9.3e18, -0.0] {
            assert!(Place::of_score(score).is_valid(), "{score}");
        }
        assert_eq!(integer_of(-1.0), u64::MAX);
        assert_eq!(integer_of(f64::INFINITY), 0);
        assert_eq!(integer_of(1e19), 10_000_000_000_000_000_000);
    }

    #[test]
    fn units_have_their_names_in_any_case() {
        assert_eq!(Unit::of(b"Km"), Some(Unit::Kilometre));
        assert_eq!(Unit::of(b"MI").map(Unit::metres), Some(1609.34));
        assert_eq!(Unit::of(b"miles"), None);
        assert!(!Place { longitude: f64::NAN, latitude: 0.0 }.is_valid());
    }

    #[test]
    fn the_mean_of_places_is_below_that_of_their_points_in_space() {
        let at = |longitude, latitude| Place { longitude, latitude };
        let is_near = |one: Place, other: Place| one.distance(other) < 1e-3;
        assert!(is_near(Place::mean_of(&[PALERMO]), PALERMO));
        assert!(is_near(Place::mean_of(&[at(0.0, 10.0), at(0.0, 30.0)]), at(0.0, 20.0)));
        // Across the line where days begin.
        let across = Place::mean_of(&[at(179.0, 0.0), at(-179.0, 0.0)]);
        assert!(is_near(across, at(180.0, 0.0)));
        // Nearer to the pole than the mean of the latitudes.
        assert!(Place::mean_of(&[at(0.0, 60.0), at(90.0, 60.0)]).latitude > 60.0);
    }

    proptest! {
        #[test]
        fn a_place_is_in_its_cell(longitude in -180.0..180.0, latitude in -85.05..85.05) {
            let place = Place { longitude, latitude };
            let stored = Place::of_score(place.to_score());
            prop_assert!(place.distance(stored) < 1.0);
            prop_assert_eq!(stored.to_score(), place.to_score());
        }

        #[test]
        fn spread_bits_are_gathered(even: u32, odd: u32) {
            let bits = interleave(even, odd);
            prop_assert_eq!((gather(bits), gather(bits >> 1)), (even, odd));
        }
    }
}
