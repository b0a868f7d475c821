//! Which ranges of scores cover a shape on the globe.
//!
//! A shape is covered by a cell as large as it and its eight neighbours. The cells come in a fixed order, which is
//! that of the results where nothing sorts them.

use super::{Area, GLOBE_RADIUS, LATITUDE_MAX, Place, STEPS_MAX, degrees, gather, hash, interleave, radians};

/// Half the width of the square map of the globe, in metres.
const MAP_HALF: f64 = 20_037_726.37;

/// What is searched. Lengths are in `unit_metres`.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// A circle.
    Circle {
        /// From the middle to the edge.
        radius: f64,
    },
    /// A rectangle along the lines of longitude and latitude.
    Box {
        /// From west to east.
        width: f64,
        /// From south to north.
        height: f64,
    },
    /// What lies between corners, joined in their order on a map where degrees are as long as each other everywhere.
    Polygon {
        /// At least three.
        corners: Vec<Place>,
    },
}

impl Shape {
    /// The distance of a place from the middle in metres, if it is within the shape.
    pub fn distance_within(&self, middle: Place, place: Place, unit_metres: f64) -> Option<f64> {
        match self {
            Shape::Circle { radius } => {
                let distance = middle.distance(place);
                (distance <= radius * unit_metres).then_some(distance)
            }
            Shape::Box { width, height } => {
                if place.distance_along(middle) > height * unit_metres / 2.0 {
                    return None;
                }
                let beside = Place { longitude: middle.longitude, latitude: place.latitude };
                if place.distance(beside) > width * unit_metres / 2.0 {
                    return None;
                }
                Some(middle.distance(place))
            }
            Shape::Polygon { corners } => is_between(corners, place).then(|| middle.distance(place)),
        }
    }

    /// From the middle to the farthest point, in metres.
    fn reach(&self, middle: Place, unit_metres: f64) -> f64 {
        let reach = match self {
            Shape::Circle { radius } => *radius,
            Shape::Box { width, height } => {
                ((width / 2.0) * (width / 2.0) + (height / 2.0) * (height / 2.0)).sqrt()
            }
            Shape::Polygon { corners } => {
                // To the corners of the rectangle around it: that decides the size of the cells, and so the order of the results.
                let Area { longitude, latitude } = around(corners);
                let corner = |longitude, latitude| middle.distance(Place { longitude, latitude });
                return [longitude.0, longitude.1]
                    .into_iter()
                    .flat_map(|east| [corner(east, latitude.0), corner(east, latitude.1)])
                    .fold(0.0, f64::max);
            }
        };
        reach * unit_metres
    }

    /// The longitudes and latitudes between which the shape lies.
    fn bounds(&self, middle: Place, unit_metres: f64) -> Area {
        let (across, along) = match self {
            Shape::Circle { radius } => (*radius, *radius),
            Shape::Box { width, height } => (width / 2.0, height / 2.0),
            Shape::Polygon { corners } => return around(corners),
        };
        let (across, along) = (across * unit_metres, along * unit_metres);
        let latitude_half = degrees(along / GLOBE_RADIUS);
        // Degrees of longitude are shortest on the side of the pole.
        let far = if middle.latitude < 0.0 {
            middle.latitude - latitude_half
        } else {
            middle.latitude + latitude_half
        };
        let longitude_half = degrees(across / GLOBE_RADIUS / radians(far).cos());
        Area {
            longitude: (middle.longitude - longitude_half, middle.longitude + longitude_half),
            latitude: (middle.latitude - latitude_half, middle.latitude + latitude_half),
        }
    }
}

/// Whether a place lies between corners: an odd number of the edges is east of it.
fn is_between(corners: &[Place], place: Place) -> bool {
    let Some(mut before) = corners.last() else { return false };
    let mut is_between = false;
    for corner in corners {
        if (corner.latitude > place.latitude) != (before.latitude > place.latitude) {
            let share = (place.latitude - corner.latitude) / (before.latitude - corner.latitude);
            let edge = corner.longitude + (before.longitude - corner.longitude) * share;
            is_between ^= place.longitude < edge;
        }
        before = corner;
    }
    is_between
}

/// The longitudes and latitudes between which places lie.
fn around(places: &[Place]) -> Area {
    let none = (f64::INFINITY, f64::NEG_INFINITY);
    let span = |(least, most): (f64, f64), at: f64| (least.min(at), most.max(at));
    places.iter().fold(Area { longitude: none, latitude: none }, |area, place| Area {
        longitude: span(area.longitude, place.longitude),
        latitude: span(area.latitude, place.latitude),
    })
}

/// A cell of the globe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    bits: u64,
    steps: u32,
}

impl Cell {
    fn of(place: Place, steps: u32) -> Cell {
        Cell { bits: hash(place, LATITUDE_MAX, steps), steps }
    }

    /// The neighbour so many cells east and north. The globe has no edge: beyond it the other side begins.
    ///
    /// A place at the very edge is in a cell behind the last, as in Redis; moving along the edge stays there.
    fn neighbour(self, east: i32, north: i32) -> Cell {
        let mask = (1_u32 << self.steps) - 1;
        let moved = |at: u32, by: i32| if by == 0 { at } else { at.wrapping_add_signed(by) & mask };
        let (longitude, latitude) = (moved(gather(self.bits >> 1), east), moved(gather(self.bits), north));
        Cell { bits: interleave(latitude, longitude), steps: self.steps }
    }

    fn area(self) -> Area {
        Area::of(self.bits, self.steps)
    }

    /// The scores of the places in it: from the first to before the second.
    pub fn scores(self) -> (f64, f64) {
        let shift = 2 * (STEPS_MAX - self.steps);
        ((self.bits << shift) as f64, ((self.bits + 1) << shift) as f64)
    }
}

/// East and north of the cells around one, itself first, in the order in which Redis searches them.
const AROUND: [(i32, i32); 9] =
    [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)];

/// The cells that cover a shape, in the order in which they are searched.
pub fn cells(shape: &Shape, middle: Place, unit_metres: f64) -> Vec<Cell> {
    let bounds = shape.bounds(middle, unit_metres);
    let mut steps = steps_for(shape.reach(middle, unit_metres), middle.latitude);
    let mut home = Cell::of(middle, steps);
    if steps > 1 && falls_short(home, &bounds) {
        steps -= 1;
        home = Cell::of(middle, steps);
    }
    let mut found: Vec<Cell> = Vec::with_capacity(AROUND.len());
    for (east, north) in AROUND {
        let cell = home.neighbour(east, north);
        // On a globe of few cells neighbours on both sides are one. The first cell differs from its neighbours.
        let is_same = found.len() > 1 && found.last() == Some(&cell);
        if !is_same && (steps < 2 || is_needed(home.area(), &bounds, east, north)) {
            found.push(cell);
        }
    }
    found
}

/// Whether the neighbours of a cell end before the bounds. Bounds that are no number are reached.
fn falls_short(home: Cell, bounds: &Area) -> bool {
    home.neighbour(0, 1).area().latitude.1 < bounds.latitude.1
        || home.neighbour(0, -1).area().latitude.0 > bounds.latitude.0
        || home.neighbour(1, 0).area().longitude.1 < bounds.longitude.1
        || home.neighbour(-1, 0).area().longitude.0 > bounds.longitude.0
}

/// Whether anything within the bounds can be in a neighbour: the cell itself does not end before them.
fn is_needed(home: Area, bounds: &Area, east: i32, north: i32) -> bool {
    let beyond = |side: i32, cell: (f64, f64), bounds: (f64, f64)| {
        (side < 0 && cell.0 < bounds.0) || (side > 0 && cell.1 > bounds.1)
    };
    !beyond(east, home.longitude, bounds.longitude) && !beyond(north, home.latitude, bounds.latitude)
}

/// How often the globe is halved to come to cells of about this size.
fn steps_for(reach: f64, latitude: f64) -> u32 {
    if reach == 0.0 {
        return STEPS_MAX;
    }
    let (mut size, mut steps) = (reach, 1_i32);
    while size < MAP_HALF {
        size *= 2.0;
        steps += 1;
    }
    // The middle may be near an edge of its cell; and cells are narrow near the poles.
    steps -= 2;
    if latitude.abs() > 66.0 {
        steps -= 1;
    }
    if latitude.abs() > 80.0 {
        steps -= 1;
    }
    steps.clamp(1, STEPS_MAX as i32).unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn neighbours_go_around_the_globe() {
        let home = Cell::of(Place { longitude: 179.9, latitude: 10.0 }, 10);
        let east = home.neighbour(1, 0);
        assert_eq!(east.area().longitude.0, -180.0);
        assert_eq!(east.neighbour(-1, 0), home);
        assert_eq!(home.neighbour(0, 1).neighbour(0, -1), home);
    }

    #[test]
    fn the_edge_has_a_cell_of_its_own() {
        let home = Cell::of(Place { longitude: 180.0, latitude: 10.0 }, 1);
        assert_eq!(home.area().longitude.0, 180.0);
        assert_eq!(home.neighbour(0, 1).area().longitude.0, 180.0);
        assert_eq!(home.neighbour(-1, 0).area().longitude, (0.0, 180.0));
        assert_eq!(home.neighbour(1, 0).area().longitude, (0.0, 180.0));
    }

    #[test]
    fn tiny_and_huge_shapes_have_cells() {
        let middle = Place { longitude: 15.0, latitude: 37.0 };
        for radius in [0.0, 1e-300, 1.0, 1e5, 1e7, 1e300, f64::INFINITY] {
            let found = cells(&Shape::Circle { radius }, middle, 1.0);
            assert!((1..=9).contains(&found.len()), "{radius}: {}", found.len());
        }
    }

    #[test]
    fn a_polygon_holds_what_its_edges_go_round() {
        let place = |(longitude, latitude): (f64, f64)| Place { longitude, latitude };
        // The letter U.
        let corners =
            [(0.0, 0.0), (0.0, 5.0), (2.0, 5.0), (2.0, 2.0), (4.0, 2.0), (4.0, 5.0), (6.0, 5.0), (6.0, 0.0)];
        let shape = Shape::Polygon { corners: corners.map(place).to_vec() };
        let middle = place((3.0, 3.0));
        for (at, is_within) in [
            ((1.0, 4.0), true),
            ((3.0, 1.0), true),
            ((5.0, 4.0), true),
            ((3.0, 4.0), false),
            ((7.0, 1.0), false),
            ((3.0, -1.0), false),
        ] {
            let distance = shape.distance_within(middle, place(at), 1.0);
            assert_eq!(distance, is_within.then(|| middle.distance(place(at))), "{at:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_within_a_polygon_is_in_its_cells(
            longitude in -170.0..170.0,
            latitude in -60.0..60.0,
            around in prop::collection::vec((-1.0..1.0, -1.0..1.0), 3..8),
            (east, north) in (-1.0..1.0, -1.0..1.0),
            reach in 0.0001..9.0,
        ) {
            let at = |(east, north): (f64, f64)| Place {
                longitude: longitude + east * reach,
                latitude: latitude + north * reach,
            };
            let corners: Vec<Place> = around.into_iter().map(at).collect();
            let middle = Place { longitude, latitude };
            let shape = Shape::Polygon { corners };
            let place = Place::of_score(at((east, north)).to_score());
            if shape.distance_within(middle, place, 1.0).is_some() {
                let found = cells(&shape, middle, 1.0);
                let is_in = |cell: &Cell| (cell.scores().0..cell.scores().1).contains(&place.to_score());
                prop_assert!(found.iter().any(is_in));
            }
        }

        #[test]
        fn what_is_within_a_shape_a_shape_is_in_its_cells(
            longitude in -179.0..179.0,
            latitude in -60.0..60.0,
            east in -1.0..1.0,
            north in -1.0..1.0,
            size in 0.001..1000.0,
            is_box: bool,
        ) {
            let middle = Place { longitude, latitude };
            let reach = size / 111.0;
            let place =
                Place { longitude: longitude + east * reach, latitude: latitude + north * reach };
            let shape = if is_box {
                Shape::Box { width: size, height: size / 2.0 }
            } else {
                Shape::Circle { radius: size }
            };
            prop_assume!(place.is_valid());
            if shape.distance_within(middle, place, 1000.0).is_some() {
                let score = place.to_score();
                let found = cells(&shape, middle, 1000.0);
                let is_in = |cell: &Cell| (cell.scores().0..cell.scores().1).contains(&score);
                prop_assert!(found.iter().any(is_in));
            }
        }
    }
}
