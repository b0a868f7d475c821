//! Hashing of keys under a secret, so that clients who choose keys can't make them collide: rounds of AES where the
//! processor has them, else SipHash-1-3; or a faster function for closed networks.
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
    Sip {
        key: [u64; 2],
    },
    /// Made only where the processor has AES instructions.
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    Aes {
        keys: [u128; aes::KEYS],
        long: [u64; 2],
    },
    Fast {
        seed: u64,
        shared: Arc<SharedSeed>,
    },
    Custom(fn(&[u8]) -> u64),
}

impl Hasher {
    /// The default: clients who choose keys can't make them collide. Keys of up to 32 bytes go through
    /// rounds of AES in hardware, which takes a fifth of SipHash's instructions; longer keys, and all where the processor
    /// can't, through SipHash-1-3. `key` is the secret, 128 bits.
    #[must_use]
    pub fn keyed(key: [u64; 2]) -> Self {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        if std::arch::is_x86_feature_detected!("aes") {
            return Self(Function::Aes { keys: aes::expand(key), long: key });
        }
        Self::sip(key)
    }

    /// SipHash-1-3 under a 128-bit key, for keys of any length and on any processor.
    #[must_use]
    pub fn sip(key: [u64; 2]) -> Self {
        Self(Function::Sip { key })
    }

    /// 128 random bits to hash under.
    #[must_use]
    pub fn random_key() -> [u64; 2] {
        use std::hash::{BuildHasher, RandomState};
        let word = || RandomState::new().build_hasher().finish();
        [word(), word()]
    }

    /// [`Hasher::keyed`] under a fresh random key.
    #[must_use]
    pub fn random() -> Self {
        Self::keyed(Self::random_key())
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
    #[inline(always)]
    #[must_use]
    pub fn hash(&self, bytes: &[u8]) -> u64 {
        match &self.0 {
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Function::Aes { keys, long } => {
                if bytes.len() <= AES_BYTES_MAX {
                    // SAFETY: the variant is made only where the processor has AES.
                    unsafe { aes::hash(keys, bytes) }
                } else {
                    sip13(*long, bytes)
                }
            }
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
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Function::Aes { .. } => "Hasher::keyed",
            Function::Sip { .. } => "Hasher::sip",
            Function::Fast { .. } => "Hasher::fast",
            Function::Custom(_) => "Hasher::custom",
        })
    }
}

/// Longest key, in bytes, that [`Hasher::keyed`] hashes by AES: beyond, its chain of rounds is no faster than SipHash.
pub const AES_BYTES_MAX: usize = 32;

/// A message code from rounds of AES, after ALRED (Daemen and Rijmen, FSE 2005): four rounds between two blocks, which
/// no difference survives with a probability over 2^-113 (Keliher and Sui, 2007), and five behind the last, under keys
/// of their own. Only 64 of 128 bits leave, and those never to a client.
#[cfg(all(target_arch = "x86_64", not(miri)))]
mod aes {
    use super::{sip13, tail_word};
    use std::arch::x86_64::{
        __m128i, _mm_aesenc_si128, _mm_cvtsi128_si64, _mm_loadu_si128, _mm_set_epi64x, _mm_xor_si128,
    };

    /// Round keys: one before the first block, four behind it, five at the end.
    pub(super) const KEYS: usize = 10;

    /// The round keys that follow from a secret.
    pub(super) fn expand(key: [u64; 2]) -> [u128; KEYS] {
        let word = |at: usize| u128::from(sip13(key, &(at as u64).to_le_bytes()));
        std::array::from_fn(|at| word(2 * at) << 64 | word(2 * at + 1))
    }

    /// The hash of up to 32 bytes. Two lengths never share a block: the length goes into the first.
    #[inline]
    #[target_feature(enable = "aes")]
    pub(super) fn hash(keys: &[u128; KEYS], bytes: &[u8]) -> u64 {
        let length = _mm_set_epi64x(bytes.len() as i64, 0);
        let mut state = _mm_xor_si128(round_key(keys, 0), length);
        if let (Some(first), Some(last)) = (bytes.first_chunk::<16>(), bytes.last_chunk::<16>()) {
            state = _mm_xor_si128(state, block(first));
            if bytes.len() > 16 {
                for at in 1..5 {
                    state = _mm_aesenc_si128(state, round_key(keys, at));
                }
                // Overlaps the first block where there are fewer than 32 bytes: the length tells by how much.
                state = _mm_xor_si128(state, block(last));
            }
        } else {
            let (head, tail) = match (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
                (Some(head), Some(tail)) => (u64::from_le_bytes(*head), u64::from_le_bytes(*tail)),
                _ => (tail_word(bytes), 0),
            };
            state = _mm_xor_si128(state, _mm_set_epi64x(tail.cast_signed(), head.cast_signed()));
        }
        for at in 5..KEYS {
            state = _mm_aesenc_si128(state, round_key(keys, at));
        }
        _mm_cvtsi128_si64(state).cast_unsigned()
    }

    #[inline]
    #[target_feature(enable = "aes")]
    fn round_key(keys: &[u128; KEYS], at: usize) -> __m128i {
        // SAFETY: a u128 has the 16 bytes of a vector.
        unsafe { _mm_loadu_si128((&raw const keys[at]).cast()) }
    }

    #[inline]
    #[target_feature(enable = "aes")]
    fn block(bytes: &[u8; 16]) -> __m128i {
        // SAFETY: sixteen bytes are there.
        unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
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
            assert_eq!(Hasher::sip(key).hash(&bytes[..len]), oracle.finish(), "length {len}");
        }
    }

    #[test]
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    fn rounds_in_hardware_agree_with_rounds_in_software() {
        use ::aes::Block;
        use ::aes::hazmat::cipher_round;
        if !std::arch::is_x86_feature_detected!("aes") {
            return;
        }
        let key = [0x0123_4567_89ab_cdef, 0xfeed_face_cafe_beef];
        let keys = aes::expand(key).map(|key| Block::from(key.to_le_bytes()));
        let add = |state: &mut Block, block: &[u8]| state.iter_mut().zip(block).for_each(|(a, b)| *a ^= b);
        let bytes: Vec<u8> = (0..200u32).map(|i| (i * 37 % 251) as u8).collect();
        for len in 0..=AES_BYTES_MAX {
            let text = &bytes[len..2 * len];
            let mut state = keys[0];
            state[8] ^= len as u8;
            match len {
                // As they are, with the second half ending where the text ends.
                0..8 => add(&mut state, text),
                8..16 => add(&mut state, &[&text[..8], &text[len - 8..]].concat()),
                _ => add(&mut state, &text[..16]),
            }
            if len > 16 {
                keys[1..5].iter().for_each(|key| cipher_round(&mut state, key));
                add(&mut state, &text[len - 16..]);
            }
            keys[5..].iter().for_each(|key| cipher_round(&mut state, key));
            let expected = u64::from_le_bytes(*state.first_chunk().unwrap());
            assert_eq!(Hasher::keyed(key).hash(text), expected, "length {len}");
        }
        assert_eq!(Hasher::keyed(key).hash(&bytes[..33]), Hasher::sip(key).hash(&bytes[..33]));
    }

    #[test]
    fn the_top_bits_spread() {
        for hasher in [Hasher::random(), Hasher::sip([8, 9]), Hasher::fast(7)] {
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
