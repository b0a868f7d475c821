//! The grammar of the commands that search: what they have in common, and what each takes.

use super::{parse_place, parse_unit};
use crate::args::Args;
use crate::error::Error;
use larder_values::geo::{Place, Shape};
use larder_values::number;
use larder_values::zset::View;

/// What the command's name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// GEORADIUS and GEORADIUS_RO: a point, then the radius.
    AroundPoint,
    /// GEORADIUSBYMEMBER and GEORADIUSBYMEMBER_RO: a member, then the radius.
    AroundMember,
    /// GEOSEARCH: everything by options.
    Search,
    /// GEOSEARCHSTORE: the destination, the source, then options.
    SearchStore,
}

/// The order of the results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sorting {
    Ascending,
    Descending,
}

/// Where a result is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target {
    /// Which word is the key.
    pub(super) word: usize,
    /// Distances are stored as scores, and not geohashes.
    pub(super) distances: bool,
}

/// What a command line asks for.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) middle: Option<Place>,
    pub(super) shape: Option<Shape>,
    /// The length of the unit in metres.
    pub(super) unit: f64,
    pub(super) with_distance: bool,
    pub(super) with_hash: bool,
    pub(super) with_place: bool,
    pub(super) any: bool,
    /// Most results; 0 for all.
    pub(super) count: usize,
    pub(super) sorting: Option<Sorting>,
    pub(super) target: Option<Target>,
}

const NOT_DECODED: Error = Error::of("ERR could not decode requested zset member");

/// The place of a member. Where there is no set at all the search goes on, to find other faults.
fn place_of(set: Option<View<'_>>, member: &[u8]) -> Result<Option<Place>, Error> {
    match set {
        None => Ok(None),
        Some(set) => Ok(Some(Place::of_score(set.score(member).ok_or(NOT_DECODED)?))),
    }
}

/// A radius and its unit.
fn circle(radius: &[u8], unit: &[u8]) -> Result<(Shape, f64), Error> {
    let radius = number::parse_f64(radius).ok_or(Error::of("ERR need numeric radius"))?;
    if radius < 0.0 {
        return Err(Error::of("ERR radius cannot be negative"));
    }
    Ok((Shape::Circle { radius }, parse_unit(unit)?.metres()))
}

/// A width, a height and their unit.
fn rectangle(width: &[u8], height: &[u8], unit: &[u8]) -> Result<(Shape, f64), Error> {
    let width = number::parse_f64(width).ok_or(Error::of("ERR need numeric width"))?;
    let height = number::parse_f64(height).ok_or(Error::of("ERR need numeric height"))?;
    if width < 0.0 || height < 0.0 {
        return Err(Error::of("ERR height or width cannot be negative"));
    }
    Ok((Shape::Box { width, height }, parse_unit(unit)?.metres()))
}

/// The corners of a polygon: their number at word `first`, and behind it each one's longitude and latitude.
fn corners(args: &Args<'_>, first: usize) -> Result<Vec<Place>, Error> {
    const TOO_FEW: Error = Error::of("ERR GEOSEARCH BYPOLYGON must have at least 3 vertices");
    let count = number::parse_i64(args.get(first)).and_then(|count| i32::try_from(count).ok());
    let count = count.ok_or(Error::of("ERR invalid number of vertices"))?;
    let given = (args.len() - first - 1) / 2;
    let count = usize::try_from(count).ok().filter(|count| *count >= 3 && *count <= given);
    let count = count.ok_or(TOO_FEW)?;
    let corner =
        |corner: usize| parse_place(args.get(first + 1 + 2 * corner), args.get(first + 2 + 2 * corner));
    (0..count).map(corner).collect()
}

impl Plan {
    /// Reads a command line; `set` is what the source key holds. `may_store` says that STORE and
    /// STOREDIST are options of a command that is no GEOSEARCH.
    pub(super) fn parse(
        args: &Args<'_>,
        form: Form,
        may_store: bool,
        set: Option<View<'_>>,
    ) -> Result<Plan, Error> {
        let mut plan = Plan {
            middle: None,
            shape: None,
            unit: 1.0,
            with_distance: false,
            with_hash: false,
            with_place: false,
            any: false,
            count: 0,
            sorting: None,
            target: None,
        };
        let options = match form {
            Form::AroundPoint => {
                plan.middle = Some(parse_place(args.get(2), args.get(3))?);
                plan.set_shape(circle(args.get(4), args.get(5))?);
                6
            }
            Form::AroundMember => {
                // Without a set Redis looks at neither member nor radius.
                plan.middle = place_of(set, args.get(2))?;
                if set.is_some() {
                    plan.set_shape(circle(args.get(3), args.get(4))?);
                }
                5
            }
            Form::Search => 2,
            Form::SearchStore => {
                plan.target = Some(Target { word: 1, distances: false });
                3
            }
        };
        plan.parse_options(args, options, form, may_store, set)?;
        Ok(plan)
    }

    fn set_shape(&mut self, (shape, unit): (Shape, f64)) {
        (self.shape, self.unit) = (Some(shape), unit);
    }

    fn parse_options(
        &mut self,
        args: &Args<'_>,
        first: usize,
        form: Form,
        may_store: bool,
        set: Option<View<'_>>,
    ) -> Result<(), Error> {
        let is_search = matches!(form, Form::Search | Form::SearchStore);
        let mut seen = Seen::default();
        let mut index = first;
        while index < args.len() {
            let taken = if self.parse_flag(args, index, form) {
                1
            } else if args.is(index, b"count") && index + 1 < args.len() {
                self.count = count(args.get(index + 1))?;
                2
            } else if may_store && !is_search {
                self.parse_target(args, index).ok_or(Error::Syntax)?
            } else if is_search {
                self.parse_search(args, index, set, &mut seen)?
            } else {
                return Err(Error::Syntax);
            };
            index += taken;
        }
        self.check(args, form, is_search.then_some(seen))
    }

    /// An option that is one word.
    fn parse_flag(&mut self, args: &Args<'_>, index: usize, form: Form) -> bool {
        if args.is(index, b"withdist") {
            self.with_distance = true;
        } else if args.is(index, b"withhash") {
            self.with_hash = true;
        } else if args.is(index, b"withcoord") {
            self.with_place = true;
        } else if args.is(index, b"any") {
            self.any = true;
        } else if args.is(index, b"asc") {
            self.sorting = Some(Sorting::Ascending);
        } else if args.is(index, b"desc") {
            self.sorting = Some(Sorting::Descending);
        } else if form == Form::SearchStore && args.is(index, b"storedist") {
            self.target = Some(Target { word: 1, distances: true });
        } else {
            return false;
        }
        true
    }

    /// STORE or STOREDIST with its key: how many words they are.
    fn parse_target(&mut self, args: &Args<'_>, index: usize) -> Option<usize> {
        let distances = args.is(index, b"storedist");
        if index + 1 >= args.len() || !(distances || args.is(index, b"store")) {
            return None;
        }
        self.target = Some(Target { word: index + 1, distances });
        Some(2)
    }

    /// An option that says where or how far GEOSEARCH looks: how many words it is.
    fn parse_search(
        &mut self,
        args: &Args<'_>,
        index: usize,
        set: Option<View<'_>>,
        seen: &mut Seen,
    ) -> Result<usize, Error> {
        let left = args.len() - index - 1;
        let word = |offset: usize| args.get(index + offset);
        if args.is(index, b"frommember") && left > 0 && !seen.point && !seen.polygon {
            self.middle = place_of(set, word(1))?;
            seen.member = true;
            Ok(2)
        } else if args.is(index, b"fromlonlat") && left > 1 && !seen.member && !seen.polygon {
            self.middle = Some(parse_place(word(1), word(2))?);
            seen.point = true;
            Ok(3)
        } else if args.is(index, b"byradius") && left > 1 && !seen.rectangle && !seen.polygon {
            self.set_shape(circle(word(1), word(2))?);
            seen.circle = true;
            Ok(3)
        } else if args.is(index, b"bybox") && left > 2 && !seen.circle && !seen.polygon {
            self.set_shape(rectangle(word(1), word(2), word(3))?);
            seen.rectangle = true;
            Ok(4)
        } else if args.is(index, b"bypolygon") && left > 1 && seen.may_be_polygon() {
            let corners = corners(args, index + 1)?;
            let words = 2 + 2 * corners.len();
            // Distances are told from the mean of the corners.
            self.middle = Some(Place::mean_of(&corners));
            self.set_shape((Shape::Polygon { corners }, 1.0));
            seen.polygon = true;
            Ok(words)
        } else {
            Err(Error::Syntax)
        }
    }

    /// What only all options together show to be wrong.
    fn check(&self, args: &Args<'_>, form: Form, seen: Option<Seen>) -> Result<(), Error> {
        let name = if form == Form::SearchStore { "GEOSEARCHSTORE" } else { "STORE option in GEORADIUS" };
        if self.target.is_some() && (self.with_distance || self.with_hash || self.with_place) {
            let text = format!("ERR {name} is not compatible with WITHDIST, WITHHASH and WITHCOORD options");
            return Err(Error::custom(text));
        }
        if let Some(seen) = seen.filter(|seen| !seen.polygon) {
            // The command's name as the client spelt it, as in Redis.
            let needs = |what: &[u8]| {
                Error::custom(
                    [&b"ERR exactly one of "[..], what, b" can be specified for ", args.get(0)].concat(),
                )
            };
            if !seen.member && !seen.point {
                return Err(needs(b"FROMMEMBER or FROMLONLAT"));
            }
            if !seen.circle && !seen.rectangle {
                return Err(needs(b"BYRADIUS and BYBOX"));
            }
        }
        if self.any && self.count == 0 {
            return Err(Error::of("ERR the ANY argument requires COUNT argument"));
        }
        Ok(())
    }
}

/// Which options of GEOSEARCH were there.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    member: bool,
    point: bool,
    circle: bool,
    rectangle: bool,
    polygon: bool,
}

impl Seen {
    /// Whether nothing said where or how far but a polygon.
    fn may_be_polygon(self) -> bool {
        !(self.member || self.point || self.circle || self.rectangle)
    }
}

fn count(text: &[u8]) -> Result<usize, Error> {
    let count = number::parse_i64(text).ok_or(Error::NotAnInteger)?;
    if count <= 0 {
        return Err(Error::of("ERR COUNT must be > 0"));
    }
    Ok(usize::try_from(count).unwrap_or(usize::MAX))
}
