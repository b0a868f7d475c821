//! CRC-64 with the Jones polynomial, as at the end of DUMP payloads and RDB files.

use crc_fast::CrcAlgorithm::Crc64Redis;

/// The checksum of one piece.
#[inline]
pub fn checksum(bytes: &[u8]) -> u64 {
    crc_fast::checksum(Crc64Redis, bytes)
}

/// A checksum over pieces that arrive one after the other.
pub struct Running(crc_fast::Digest);

impl Default for Running {
    fn default() -> Self {
        Running::new()
    }
}

impl Running {
    /// The checksum of nothing yet.
    pub fn new() -> Running {
        Running(crc_fast::Digest::new(Crc64Redis))
    }

    /// Takes in the next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of all pieces so far.
    pub fn value(&self) -> u64 {
        self.0.finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bit by bit, from the definition.
    fn slow(bytes: &[u8]) -> u64 {
        const REVERSED_POLYNOMIAL: u64 = 0xad93_d235_94c9_35a9_u64.reverse_bits();
        bytes.iter().fold(0, |crc, &byte| {
            (0..8).fold(crc ^ u64::from(byte), |crc, _| (crc >> 1) ^ (REVERSED_POLYNOMIAL * (crc & 1)))
        })
    }

    #[test]
    fn the_check_value() {
        assert_eq!(checksum(b"123456789"), 0xe9c6_d914_c4b8_d9ca);
        assert_eq!(checksum(b""), 0);
    }

    proptest! {
        #[test]
        fn as_the_definition(bytes in proptest::collection::vec(any::<u8>(), 0..700), cut: usize) {
            prop_assert_eq!(checksum(&bytes), slow(&bytes));
            let cut = cut % (bytes.len() + 1);
            let mut running = Running::new();
            running.update(&bytes[..cut]);
            running.update(&bytes[cut..]);
            prop_assert_eq!(running.value(), slow(&bytes));
        }
    }
}
