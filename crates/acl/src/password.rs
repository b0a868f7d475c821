//! Passwords: kept as SHA-256 only, as Redis keeps them and writes them into its files.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Letters of a hash.
const HASH_LEN: usize = 64;

/// A password as it is kept: its SHA-256 in hexadecimal.
#[derive(Clone, PartialEq, Eq)]
pub struct Password([u8; HASH_LEN]);

impl Password {
    /// Reads a hash: 64 hexadecimal digits in lower case.
    pub(crate) fn from_hash(text: &[u8]) -> Option<Password> {
        let hash: [u8; HASH_LEN] = text.try_into().ok()?;
        hash.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')).then_some(Password(hash))
    }

    /// The hash.
    pub fn hash(&self) -> &[u8] {
        &self.0
    }

    /// Whether both are the same, in a time that tells nothing of where they differ.
    pub(crate) fn is(&self, other: &Password) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Password")
    }
}

/// Hashes a password.
pub fn hash_password(password: &[u8]) -> Password {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut hash = [0; HASH_LEN];
    for (pair, byte) in hash.chunks_exact_mut(2).zip(Sha256::digest(password)) {
        pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    Password(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_its_sha_256() {
        let hash = hash_password(b"abc");
        assert_eq!(hash.hash(), b"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert!(hash.is(&Password::from_hash(hash.hash()).unwrap()) && !hash.is(&hash_password(b"abd")));
    }

    #[test]
    fn only_sixty_four_digits_in_lower_case_are_a_hash() {
        for text in [&b""[..], &[b'a'; 63], &[b'a'; 65], &[b'A'; 64], &[b'g'; 64]] {
            assert!(Password::from_hash(text).is_none());
        }
    }
}
