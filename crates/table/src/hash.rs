//! Hashing of keys: keyed SipHash-1-3, safe against chosen keys, or a faster one for closed networks.
//!
//! Invariant: equal keys give equal hashes for the life of a table, and all 64 bits are mixed: the table uses the top.

use foldhash::SharedSeed;
use foldhash::quality::FoldHasher;
use std::hash::Hasher as _;
use std::sync::Arc;

/// A keyed hash function over byte strings.
#[derive(Clone)]
pub struct Hasher(Function);

#[derive(Clone)]
enum Function {
    Sip { key: [u64; 2] },
    Fast { seed: u64, shared: Arc<SharedSeed> },
    Custom(fn(&[u8]) -> u64),
}

impl Hasher {
    /// SipHash-1-3 under a 128-bit key. The default: clients who choose keys can't make them collide.
    #[must_use]
    pub fn keyed(key: [u64; 2]) -> Self {
        Self(Function::Sip { key })
    }

    /// SipHash-1-3 under a fresh random key.
    #[must_use]
    pub fn random() -> Self {
        use std::hash::{BuildHasher, RandomState};
        let word = || RandomState::new().build_hasher().finish();
        Self::keyed([word(), word()])
    }

    /// A faster seeded function without a security argument: for keys no adversary chooses.
    #[must_use]
    pub fn fast(seed: u64) -> Self {
        Self(Function::Fast { seed, shared: Arc::new(SharedSeed::from_u64(seed)) })
    }

    /// A function of the caller's, for tests of bad luck: the table stays correct whatever it returns.
    #[must_use]
    pub fn custom(function: fn(&[u8]) -> u64) -> Self {
        Self(Function::Custom(function))
    }

    /// The hash of `bytes`.
    #[inline]
    #[must_use]
    pub fn hash(&self, bytes: &[u8]) -> u64 {
        match &self.0 {
            Function::Sip { key } => sip13(*key, bytes),
            Function::Fast { seed, shared } => {
                let mut hasher = FoldHasher::with_seed(*seed, shared);
                hasher.write(bytes);
                hasher.finish()
            }
            Function::Custom(function) => function(bytes),
        }
    }
}

impl std::fmt::Debug for Hasher {
    /// Names the function and keeps its key secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Function::Sip { .. } => "Hasher::keyed",
            Function::Fast { .. } => "Hasher::fast",
            Function::Custom(_) => "Hasher::custom",
        })
    }
}

/// The four words of SipHash.
struct Sip([u64; 4]);

impl Sip {
    #[inline(always)]
    fn round(&mut self) {
        let [v0, v1, v2, v3] = &mut self.0;
        *v0 = v0.wrapping_add(*v1);
        *v2 = v2.wrapping_add(*v3);
        *v1 = v1.rotate_left(13) ^ *v0;
        *v3 = v3.rotate_left(16) ^ *v2;
        *v0 = v0.rotate_left(32);
        *v2 = v2.wrapping_add(*v1);
        *v0 = v0.wrapping_add(*v3);
        *v1 = v1.rotate_left(17) ^ *v2;
        *v3 = v3.rotate_left(21) ^ *v0;
        *v2 = v2.rotate_left(32);
    }

    #[inline(always)]
    fn absorb(&mut self, word: u64) {
        self.0[3] ^= word;
        self.round();
        self.0[0] ^= word;
    }
}

/// SipHash with one round a word and three at the end (Aumasson and Bernstein, 2012).
fn sip13(key: [u64; 2], bytes: &[u8]) -> u64 {
    let [k0, k1] = key;
    let mut sip = Sip([
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ]);
    let (words, tail) = bytes.as_chunks::<8>();
    for word in words {
        sip.absorb(u64::from_le_bytes(*word));
    }
    sip.absorb(tail_word(tail) | (bytes.len() as u64) << 56);
    sip.0[2] ^= 0xff;
    sip.round();
    sip.round();
    sip.round();
    sip.0[0] ^ sip.0[1] ^ sip.0[2] ^ sip.0[3]
}

/// The last, incomplete word (fewer than 8 bytes), little endian.
#[inline(always)]
fn tail_word(tail: &[u8]) -> u64 {
    let four =
        |at: usize| tail[at..].first_chunk::<4>().map_or(0, |chunk| u64::from(u32::from_le_bytes(*chunk)));
    match tail.len() {
        0 => 0,
        // Two overlapping halves; the bytes both hold are equal, so joining them by `or` is exact.
        len @ 4.. => four(0) | four(len - 4) << (8 * (len - 4)),
        // Likewise with single bytes: first, middle and last cover 1 to 3 bytes.
        len => {
            let byte = |at: usize| u64::from(tail[at]) << (8 * at);
            byte(0) | byte(len / 2) | byte(len - 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sip13_agrees_with_another_implementation_at_every_length() {
        let bytes: Vec<u8> = (0..200u32).map(|i| (i * 37 % 251) as u8).collect();
        for len in 0..bytes.len() {
            let key = [0x0123_4567_89ab_cdef ^ len as u64, 0xfeed_face_cafe_beef];
            let mut oracle = siphasher::sip::SipHasher13::new_with_keys(key[0], key[1]);
            oracle.write(&bytes[..len]);
            assert_eq!(Hasher::keyed(key).hash(&bytes[..len]), oracle.finish(), "length {len}");
        }
    }

    #[test]
    fn the_top_bits_spread() {
        for hasher in [Hasher::random(), Hasher::fast(7)] {
            let mut counts = [0u32; 64];
            for i in 0..64_000u32 {
                counts[(hasher.hash(format!("key:{i}").as_bytes()) >> 58) as usize] += 1;
            }
            assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
            assert_eq!(hasher.hash(b"same"), hasher.clone().hash(b"same"));
        }
        assert_ne!(Hasher::random().hash(b"x"), Hasher::random().hash(b"x"));
        assert_ne!(Hasher::fast(1).hash(b"x"), Hasher::fast(2).hash(b"x"));
    }
}
