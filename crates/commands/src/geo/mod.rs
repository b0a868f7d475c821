//! Commands on places: sorted sets whose scores are geohashes.
//!
//! Read next: `place.rs` (single places), `search.rs` (what is within a shape), `plan.rs` (its grammar).

mod place;
mod plan;
mod search;
mod search_specs;

#[cfg(test)]
mod tests;

use crate::error::Error;
use crate::spec::Command;
use larder_values::geo::{Place, Unit};
use larder_values::number;

/// The family.
pub static COMMANDS: &[&Command] = &[
    &place::GEOADD,
    &place::GEODIST,
    &place::GEOHASH,
    &place::GEOPOS,
    &search_specs::GEORADIUS,
    &search_specs::GEORADIUS_RO,
    &search_specs::GEORADIUSBYMEMBER,
    &search_specs::GEORADIUSBYMEMBER_RO,
    &search_specs::GEOSEARCH,
    &search_specs::GEOSEARCHSTORE,
];

/// A place as two words name it.
fn parse_place(longitude: &[u8], latitude: &[u8]) -> Result<Place, Error> {
    let degrees = |text| number::parse_f64(text).ok_or(Error::NotAFloat);
    let place = Place { longitude: degrees(longitude)?, latitude: degrees(latitude)? };
    if place.is_valid() {
        return Ok(place);
    }
    let Place { longitude, latitude } = place;
    Err(Error::custom(format!("ERR invalid longitude,latitude pair {longitude:.6},{latitude:.6}")))
}

/// A unit as a word names it.
fn parse_unit(text: &[u8]) -> Result<Unit, Error> {
    Unit::of(text).ok_or(Error::of("ERR unsupported unit provided. please use M, KM, FT, MI"))
}

/// Appends a distance with four digits behind the point, as Redis rounds it.
fn write_distance(out: &mut Vec<u8>, distance: f64) {
    let scaled = (distance * 10_000.0).round_ties_even();
    let scaled = scaled as i64;
    if scaled < 0 {
        out.push(b'-');
    }
    let scaled = scaled.unsigned_abs();
    number::write_u64(out, scaled / 10_000);
    out.extend_from_slice(format!(".{:04}", scaled % 10_000).as_bytes());
}
