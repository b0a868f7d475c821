//! Storing what a source brought.

use larder_commands::Limits;
use larder_source::Shaped;
use larder_store::{Db, Expire, Hashed};
use larder_values::collection::Collection;
use larder_values::hash::{End as FieldEnd, Hash};
use larder_values::list::{End, List};
use larder_values::set::{self, Set};
use larder_values::zset::ZSet;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Stores a value under a key, whatever the key held, in the very forms that commands would have given it. O(its parts).
pub fn keep(db: &mut Db<'_>, key: &Hashed<'_>, value: &Shaped, expire: Expire, limits: &Limits) {
    match value {
        Shaped::String(bytes) => {
            db.put_string(key, bytes, expire);
        }
        Shaped::Hash(fields) => {
            let (now, packed) = (db.now().0, limits.hash_packed);
            let mut hash = Hash::default();
            let longest = fields.iter().map(|(field, value)| field.len().max(value.len())).max().unwrap_or(0);
            hash.prepare(fields.len(), longest, packed);
            for (field, value) in fields {
                hash.set(field, value, FieldEnd::Clear, now, packed);
            }
            db.put_collection(key, hash, expire);
        }
        Shaped::List(items) => {
            let mut list = List::default();
            for item in items {
                list.push(End::Tail, item);
            }
            list.settle(limits.list, false);
            db.put_collection(key, list, expire);
        }
        Shaped::Set(members) => {
            let limits = set::Limits { ints_max: limits.set_integers_max, packed: limits.set_packed };
            let mut set = Set::new(Vec::new());
            set.expect(members.first().map_or(&[][..], Vec::as_slice), members.len(), &limits);
            for member in members {
                set.add(member, &limits);
            }
            db.put_collection(key, set, expire);
        }
        Shaped::Zset(members) => {
            let pairs: Vec<(&[u8], f64)> = last_of_each(members);
            db.put_collection(key, ZSet::from_pairs(pairs, limits.zset_packed), expire);
        }
    }
}

/// Of members that come twice the last one counts, as in ZADD.
fn last_of_each(members: &[(f64, Vec<u8>)]) -> Vec<(&[u8], f64)> {
    let mut places: HashMap<&[u8], usize> = HashMap::with_capacity(members.len());
    let mut pairs: Vec<(&[u8], f64)> = Vec::with_capacity(members.len());
    for (score, member) in members {
        // Redis has one zero.
        let score = if *score == 0.0 { 0.0 } else { *score };
        match places.entry(member.as_slice()) {
            Entry::Occupied(place) => pairs[*place.get()].1 = score,
            Entry::Vacant(place) => {
                place.insert(pairs.len());
                pairs.push((member, score));
            }
        }
    }
    pairs
}
