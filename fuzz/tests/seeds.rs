//! The fuzz targets on a stable compiler: every seed, and mutations of the seeds by a generator
//! whose own seed is fixed, so that a failure comes back.

use larder_fuzz::TARGETS;
use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

/// Mutations of each seed.
const MUTATIONS: usize = 4000;

#[test]
fn no_target_fails_on_its_seeds_or_near_them() {
    for &(name, target) in TARGETS {
        let seeds = seeds(name);
        assert!(!seeds.is_empty(), "seeds/{name} is empty");
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        for (file, seed) in &seeds {
            let mut data = seed.clone();
            for round in 0..=MUTATIONS {
                let failed = catch_unwind(|| target(&data)).is_err();
                assert!(!failed, "{name} fails on {file}, mutation {round}: {}", data.escape_ascii());
                // Every other mutation stays close to the seed; those between wander off.
                if round % 2 == 0 {
                    data.clone_from(seed);
                }
                mutate(&mut data, &seeds, &mut random);
            }
        }
    }
}

fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut seeds: Vec<_> = entries
        .map(|entry| {
            let path = entry.expect("the folder can be read").path();
            let data = fs::read(&path).expect("a seed can be read");
            (path.file_name().expect("it is a file").to_string_lossy().into_owned(), data)
        })
        .collect();
    seeds.sort();
    seeds
}

/// Changes, inserts, removes or doubles something, or goes on with a piece of another seed.
fn mutate(data: &mut Vec<u8>, seeds: &[(String, Vec<u8>)], random: &mut Random) {
    let at = random.below(data.len() + 1);
    let end = (at + random.below(16)).min(data.len());
    match random.below(6) {
        0 if at < data.len() => data[at] ^= 1 << random.below(8),
        1 => data.insert(at, random.interesting_byte()),
        2 => drop(data.drain(at..end)),
        3 => data.extend_from_within(at..end),
        4 if at < data.len() => data[at] = random.interesting_byte(),
        _ => {
            let other = &seeds[random.below(seeds.len())].1;
            let from = random.below(other.len() + 1);
            data.truncate(at);
            data.extend_from_slice(&other[from..]);
        }
    }
}

/// xorshift64*
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn interesting_byte(&mut self) -> u8 {
        let bytes = b"\0\x01\x7f\x80\xff\r\n\t \"'\\*$-0129[]^?:+_#";
        if self.below(3) == 0 { self.next() as u8 } else { bytes[self.below(bytes.len())] }
    }
}
