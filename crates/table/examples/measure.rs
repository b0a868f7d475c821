//! Prints what a table of 16-byte keys and 64-byte values takes, and what its calls cost.
//! `cargo run --release --example measure -- [keys in thousands ..] [--no-time]`

#![allow(clippy::print_stdout, reason = "printing is its purpose")]

use larder_table::{
    DeadlineChange, Epochs, Hasher, NewEntry, Participant, Payload, PayloadRef, Table, TableConfig,
};
use std::hint::black_box;

type Store = Table<Box<u8>>;

const BATCH: usize = 16;
const KEY_BYTES: usize = 16;
const VALUE: [u8; 64] = [b'v'; 64];

fn key(i: u64) -> [u8; KEY_BYTES] {
    let mut key = *b"key:000000000000";
    let mut rest = i;
    for digit in key[4..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}

/// A permutation of 0..keys, cheap enough not to be measured: multiples of a prime modulo `keys`.
fn shuffled(keys: u64) -> impl Iterator<Item = u64> {
    (0..keys).map(move |i| i.wrapping_mul(2_654_435_761) % keys)
}

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    status.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}

/// Runs `act` on every key, in batches that are prefetched first.
fn batches(table: &Store, participant: &Participant, keys: u64, mut act: impl FnMut(u64, &[u8; KEY_BYTES])) {
    let mut all = shuffled(keys);
    let mut batch = [([0; KEY_BYTES], 0u64); BATCH];
    loop {
        let mut len = 0;
        participant.enter();
        for (place, i) in batch.iter_mut().zip(all.by_ref()) {
            let key = key(i);
            *place = (key, table.hash(&key));
            table.prefetch_shard(place.1);
            len += 1;
        }
        Table::prefetch_all(participant, batch[..len].iter().map(|(_, hash)| (table, *hash)));
        batch[..len].iter().for_each(|(key, hash)| act(*hash, key));
        participant.leave();
        if len < BATCH {
            return;
        }
    }
}

struct Stopwatch {
    on: bool,
    keys: u64,
}

impl Stopwatch {
    fn run(&self, what: &str, act: impl FnOnce()) {
        let start = cpu_nanos();
        act();
        if self.on {
            println!("  {what:<34} {:7.1} ns of CPU", (cpu_nanos() - start) as f64 / self.keys as f64);
        }
    }
}

/// The time this thread has run: neighbours on the machine disturb it less than they do the clock.
fn cpu_nanos() -> u64 {
    let times = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    times.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0)
}

fn read(table: &Store, hash: u64, key: &[u8; KEY_BYTES]) {
    let shard = table.lock(table.shard_of(hash));
    let Some(entry) = shard.find(hash, key) else { panic!("a key is missing") };
    entry.set_access(1);
    if let PayloadRef::Inline(bytes) = entry.payload() {
        black_box(bytes[63]);
    }
}

fn replace(table: &Store, hash: u64, key: &[u8; KEY_BYTES]) {
    let mut shard = table.lock(table.shard_of(hash));
    let Some(mut entry) = shard.find_mut(hash, key) else { panic!("a key is missing") };
    black_box(entry.replace(0, Payload::Inline(&VALUE), DeadlineChange::Set(None)));
}

fn insert(table: &Store, hash: u64, key: &[u8; KEY_BYTES], deadline: Option<u64>) {
    let mut shard = table.lock(table.shard_of(hash));
    // As SET does: look, then insert.
    if shard.find_mut(hash, key).is_none() {
        shard.insert(hash, key, NewEntry { kind: 0, access: 0, deadline, payload: Payload::Inline(&VALUE) });
    }
}

fn print_memory(table: &Store, what: &str, base: usize) {
    let memory = table.memory();
    let per_key = |bytes: usize| bytes as f64 / table.len() as f64;
    println!(
        "  {what}: {:.2} B/key allocated ({:.2} entries, {:.2} index, {:.2} fixed), {:.2} in spans, {:.2} resident",
        per_key(memory.all),
        per_key(memory.entries),
        per_key(memory.index),
        per_key(memory.fixed),
        per_key(memory.spans),
        per_key(resident_bytes().saturating_sub(base)),
    );
}

fn measure(keys: u64, timed: bool) {
    let epochs = Epochs::new(2);
    let participant = epochs.register();
    for (name, hasher) in [("SipHash-1-3", Hasher::keyed([3, 5])), ("fast hash", Hasher::fast(5))] {
        let base = resident_bytes();
        let table = Store::new(TableConfig { shard_bits: 10, hasher, one_thread: false }, epochs.clone());
        println!("{keys} keys, {name}; an empty table is {} KiB resident", (resident_bytes() - base) / 1024);
        let watch = Stopwatch { on: timed, keys };
        watch.run("insert, 16 prefetched", || {
            batches(&table, &participant, keys, |hash, key| insert(&table, hash, key, None));
        });
        print_memory(&table, "without deadlines", base);
        watch.run("find, one at a time", || {
            for i in shuffled(keys) {
                read(&table, table.hash(&key(i)), &key(i));
            }
        });
        watch.run("find, 16 prefetched", || {
            batches(&table, &participant, keys, |hash, key| read(&table, hash, key))
        });
        watch.run("making huge pages", || {
            println!("  {} huge pages", larder_table::keep_pages(usize::MAX));
        });
        print_memory(&table, "in huge pages", base);
        watch.run("find, one at a time", || {
            for i in shuffled(keys) {
                read(&table, table.hash(&key(i)), &key(i));
            }
        });
        watch.run("find, 16 prefetched", || {
            batches(&table, &participant, keys, |hash, key| read(&table, hash, key))
        });
        watch.run("replace, 16 prefetched", || {
            batches(&table, &participant, keys, |hash, key| replace(&table, hash, key));
        });
        watch.run("miss, 16 prefetched", || {
            batches(&table, &participant, keys, |hash, key| {
                let mut other = *key;
                other[0] = b'K';
                let shard = table.lock(table.shard_of(hash));
                black_box(shard.find(hash, &other).is_none());
            });
        });
        watch.run("scan", || {
            let mut cursor = table.scan(0, &mut |_| {});
            while cursor != 0 {
                cursor = table.scan(cursor, &mut |entry| _ = black_box(entry.kind()));
            }
        });
        let detached = table.detach_all();
        watch.run("drop all", || drop(detached));
        watch.run("insert with a deadline", || {
            batches(&table, &participant, keys, |hash, key| {
                insert(&table, hash, key, Some(1_800_000_000_000))
            });
        });
        print_memory(&table, "with deadlines", base);
        watch.run("sweep of nothing due", || {
            for shard in 0..table.shards() {
                black_box(table.lock(shard).expire_due(1_700_000_000_000, 1000, &mut |_, _, _| {}));
            }
        });
        watch.run("remove", || {
            batches(&table, &participant, keys, |hash, key| {
                table.lock(table.shard_of(hash)).find_mut(hash, key).map(|entry| entry.remove());
            });
        });
    }
}

fn main() {
    let mut timed = true;
    let mut counts = Vec::new();
    for argument in std::env::args().skip(1) {
        match argument.parse::<u64>() {
            Ok(thousands) => counts.push(thousands * 1000),
            Err(_) => timed = false,
        }
    }
    if counts.is_empty() {
        counts = vec![1_000_000, 4_000_000];
    }
    counts.into_iter().for_each(|keys| measure(keys, timed));
}
