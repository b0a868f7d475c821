//! HyperLogLog in the bytes that Redis stores: GET, DUMP and a replica see the same string.
//!
//! 16,384 registers of 6 bits. A header of 16 bytes (`HYLL`, encoding, three zeros, the last
//! estimate in 8 bytes little-endian whose highest bit says it is out of date), then either
//! the registers packed (dense) or run-length opcodes (sparse).
//! Invariant: a function that fails has changed nothing; no input, however broken, panics.
//! Read next: `sparse` for the opcodes, `estimate` for the count.

mod dense;
mod estimate;
mod hash;
mod self_test;
mod sparse;

pub use self_test::self_test;

/// Registers of one HyperLogLog.
pub const REGISTERS: usize = 1 << REGISTER_BITS;

const REGISTER_BITS: u32 = 14;

/// Bits of a hash that are left to count zeros in.
const VALUE_BITS: u32 = 64 - REGISTER_BITS;

const HEADER_BYTES: usize = 16;
const MAGIC: &[u8] = b"HYLL";
const ENCODING_AT: usize = 4;
const COUNT_AT: std::ops::Range<usize> = 8..16;

/// Set in the header's last byte while the cached estimate is out of date.
const STALE: u8 = 0x80;

/// Length of every dense HyperLogLog.
pub const DENSE_BYTES: usize = HEADER_BYTES + dense::BYTES;

/// How the registers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// 6 bits each.
    Dense,
    /// Runs of equal registers.
    Sparse,
}

impl Encoding {
    /// The word PFDEBUG ENCODING answers.
    pub fn name(self) -> &'static str {
        match self {
            Encoding::Dense => "dense",
            Encoding::Sparse => "sparse",
        }
    }
}

/// Why a string cannot serve as a HyperLogLog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// It does not start as one, or its length is wrong.
    NotHyperLogLog,
    /// Its opcodes do not describe the registers.
    Corrupted,
}

impl Error {
    /// Redis' words, error code first.
    pub fn message(self) -> &'static str {
        match self {
            Error::NotHyperLogLog => "WRONGTYPE Key is not a valid HyperLogLog string value.",
            Error::Corrupted => "INVALIDOBJ Corrupted HLL object detected",
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for Error {}

/// An empty HyperLogLog: sparse, its estimate marked out of date, as commands that create leave it.
pub fn create() -> Vec<u8> {
    let mut hll = vec![0; HEADER_BYTES];
    hll[..MAGIC.len()].copy_from_slice(MAGIC);
    hll[ENCODING_AT] = 1;
    hll[COUNT_AT.end - 1] = STALE;
    sparse::push_zeros(&mut hll, REGISTERS);
    hll
}

/// Checks the header and, for dense ones, the length. Says nothing of sparse opcodes.
pub fn encoding(hll: &[u8]) -> Result<Encoding, Error> {
    if hll.len() < HEADER_BYTES || !hll.starts_with(MAGIC) {
        return Err(Error::NotHyperLogLog);
    }
    match hll[ENCODING_AT] {
        0 if hll.len() == DENSE_BYTES => Ok(Encoding::Dense),
        1 => Ok(Encoding::Sparse),
        _ => Err(Error::NotHyperLogLog),
    }
}

/// Adds an element; true if a register grew, which also marks the estimate out of date.
///
/// A sparse string becomes dense when it would grow past `sparse_bytes_max` bytes, or when a
/// register passes 32.
pub fn add(hll: &mut Vec<u8>, element: &[u8], sparse_bytes_max: usize) -> Result<bool, Error> {
    let (register, value) = hash::place(element);
    let changed = raise(hll, register, value, sparse_bytes_max)?;
    if changed {
        mark_stale(hll);
    }
    Ok(changed)
}

/// Raises one register to at least `value`; true if it was lower.
fn raise(hll: &mut Vec<u8>, register: usize, value: u8, sparse_bytes_max: usize) -> Result<bool, Error> {
    match encoding(hll)? {
        Encoding::Dense => Ok(dense::raise(&mut hll[HEADER_BYTES..], register, value)),
        Encoding::Sparse => match sparse::raise(hll, register, value, sparse_bytes_max)? {
            sparse::Raised::Done(changed) => Ok(changed),
            sparse::Raised::NeedsDense => {
                to_dense(hll)?;
                Ok(dense::raise(&mut hll[HEADER_BYTES..], register, value))
            }
        },
    }
}

fn mark_stale(hll: &mut [u8]) {
    hll[COUNT_AT.end - 1] |= STALE;
}

/// The estimate kept in the header, if it is up to date.
pub fn cached_count(hll: &[u8]) -> Result<Option<u64>, Error> {
    encoding(hll)?;
    let stored = u64::from_le_bytes(hll[COUNT_AT].try_into().unwrap_or_default());
    Ok((hll[COUNT_AT.end - 1] & STALE == 0).then_some(stored))
}

/// The estimated number of distinct elements, and whether it had to be computed and was stored
/// in the header, which is a change of the value.
pub fn count(hll: &mut [u8]) -> Result<(u64, bool), Error> {
    if let Some(count) = cached_count(hll)? {
        return Ok((count, false));
    }
    let count = estimate(hll)?;
    hll[COUNT_AT].copy_from_slice(&count.to_le_bytes());
    Ok((count, true))
}

/// The estimated number of distinct elements from the registers, whatever the header says.
pub fn estimate(hll: &[u8]) -> Result<u64, Error> {
    let histogram = match encoding(hll)? {
        Encoding::Dense => dense::histogram(&hll[HEADER_BYTES..]),
        Encoding::Sparse => sparse::histogram(&hll[HEADER_BYTES..])?,
    };
    Ok(estimate::cardinality(&histogram))
}

/// Makes the string dense; true if it was sparse. The cached estimate stays as it is.
pub fn to_dense(hll: &mut Vec<u8>) -> Result<bool, Error> {
    if encoding(hll)? == Encoding::Dense {
        return Ok(false);
    }
    let mut union = Union::new();
    sparse::merge_into(&hll[HEADER_BYTES..], &mut union.registers)?;
    hll.truncate(HEADER_BYTES);
    hll[ENCODING_AT] = 0;
    dense::push_packed(hll, &union.registers);
    Ok(true)
}

/// The register values in order, for PFDEBUG GETREG.
pub fn registers(hll: &[u8]) -> Result<Box<[u8; REGISTERS]>, Error> {
    let mut union = Union::new();
    union.merge(hll)?;
    Ok(union.registers)
}

/// The opcodes of a sparse string as PFDEBUG DECODE shows them: `Z:100 v:3,1 z:2`. `None` if it
/// is dense. Broken opcodes are shown as they are.
pub fn decode(hll: &[u8]) -> Result<Option<Vec<u8>>, Error> {
    Ok(match encoding(hll)? {
        Encoding::Dense => None,
        Encoding::Sparse => Some(sparse::decode(&hll[HEADER_BYTES..])),
    })
}

/// Registers of several HyperLogLogs merged: each register is the highest of all.
pub struct Union {
    registers: Box<[u8; REGISTERS]>,
    any_dense: bool,
}

impl Default for Union {
    fn default() -> Self {
        Union::new()
    }
}

impl Union {
    /// The union of nothing. 16 KiB on the heap.
    pub fn new() -> Union {
        Union { registers: Box::new([0; REGISTERS]), any_dense: false }
    }

    /// Merges one more. After an error the union is of no further use.
    pub fn merge(&mut self, hll: &[u8]) -> Result<(), Error> {
        match encoding(hll)? {
            Encoding::Dense => {
                self.any_dense = true;
                dense::merge_into(&hll[HEADER_BYTES..], &mut self.registers);
                Ok(())
            }
            Encoding::Sparse => sparse::merge_into(&hll[HEADER_BYTES..], &mut self.registers),
        }
    }

    /// The estimated number of distinct elements of all.
    pub fn count(&self) -> u64 {
        estimate::cardinality(&dense::histogram_of(&self.registers))
    }

    /// Writes the union to PFMERGE's destination, itself merged before, and marks its estimate
    /// out of date. It becomes dense if any merged one is, or by `sparse_bytes_max` as in `add`.
    pub fn store(&self, destination: &mut Vec<u8>, sparse_bytes_max: usize) -> Result<(), Error> {
        if self.any_dense {
            to_dense(destination)?;
        }
        if encoding(destination)? == Encoding::Dense {
            self.store_dense(destination);
            return Ok(());
        }
        let set = self.registers.iter().enumerate().filter(|&(_, &value)| value != 0);
        for (register, &value) in set {
            raise(destination, register, value, sparse_bytes_max)?;
            if encoding(destination)? == Encoding::Dense {
                self.store_dense(destination);
                return Ok(());
            }
        }
        mark_stale(destination);
        Ok(())
    }

    fn store_dense(&self, destination: &mut Vec<u8>) {
        destination.truncate(HEADER_BYTES);
        dense::push_packed(destination, &self.registers);
        mark_stale(destination);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bytes_of_small_ones() {
        let mut hll = create();
        assert_eq!(hll, b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\x80\x7f\xff");
        assert_eq!(count(&mut hll), Ok((0, true)));
        assert_eq!(hll, b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\0\x7f\xff");
        for element in [b"a", b"b", b"c", b"a"] {
            add(&mut hll, element, 3000).unwrap();
        }
        assert_eq!(&hll[15..], b"\x80\x60\xf3\x80\x50\xb1\x84\x4b\xfb\x80\x42\x5a");
        assert_eq!(decode(&hll).unwrap().unwrap(), b"Z:8436 v:1,1 Z:4274 v:2,1 Z:3068 v:1,1 Z:603");
        assert_eq!(count(&mut hll), Ok((3, true)));
        assert_eq!(count(&mut hll), Ok((3, false)));
        assert_eq!(to_dense(&mut hll), Ok(true));
        assert_eq!((hll.len(), hll[4], cached_count(&hll)), (DENSE_BYTES, 0, Ok(Some(3))));
        assert_eq!(estimate(&hll), Ok(3));
    }

    #[test]
    fn what_replaces_an_opcode_cut_off_by_the_end_is_cut_off_too() {
        // The last opcode, of one register, lacks its second byte: as redis-server 8.2.3 has it, raising that
        // register ("x8784" falls on it) shortens the string.
        let mut hll = b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\x80\x7f\xfe\x40".to_vec();
        assert_eq!(add(&mut hll, b"x8784", 3000), Ok(true));
        assert_eq!(hll, b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\x80\x7f\xfe");
    }

    #[test]
    fn broken_ones_are_refused() {
        for bad in
            [&b""[..], b"HYLL", b"foo", b"HYLL\x02\0\0\0\0\0\0\0\0\0\0\0", b"HYLL\0\0\0\0\0\0\0\0\0\0\0\0"]
        {
            assert_eq!(encoding(bad), Err(Error::NotHyperLogLog));
        }
        for body in [
            &b""[..],
            b"\0",
            b"\x40",
            b"\x7f\xff\x7f\xff",
            b"\x7f\xff\0",
            b"\x7f\xfe\x80\x80",
            b"\x7f\xff\x80",
        ] {
            let mut hll = [b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\x80", body].concat();
            assert_eq!(estimate(&hll), Err(Error::Corrupted), "{body:?}");
            assert_eq!(to_dense(&mut hll), Err(Error::Corrupted));
            assert_eq!(&hll[16..], body);
        }
    }

    fn built(elements: &[u32], sparse_bytes_max: usize) -> Vec<u8> {
        let mut hll = create();
        for element in elements {
            add(&mut hll, &element.to_le_bytes(), sparse_bytes_max).unwrap();
        }
        hll
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn both_encodings_hold_the_same(elements in proptest::collection::vec(any::<u32>(), 0..1500)) {
            let sparse = built(&elements, 100_000);
            let dense = built(&elements, 0);
            prop_assert_eq!(registers(&sparse).unwrap(), registers(&dense).unwrap());
            prop_assert_eq!(estimate(&sparse), estimate(&dense));
            let mut promoted = sparse.clone();
            to_dense(&mut promoted).unwrap();
            if dense.len() == DENSE_BYTES {
                prop_assert_eq!(&promoted[HEADER_BYTES..], &dense[HEADER_BYTES..]);
            }
        }

        #[test]
        fn a_union_is_as_if_all_were_added_to_one(
            left in proptest::collection::vec(0_u32..3000, 0..800),
            right in proptest::collection::vec(0_u32..3000, 0..800),
            limit in prop_oneof![Just(0_usize), Just(300), Just(3000)],
        ) {
            let (one, two) = (built(&left, limit), built(&right, limit));
            let mut union = Union::new();
            union.merge(&one).unwrap();
            union.merge(&two).unwrap();
            let all = built(&[left, right].concat(), limit);
            prop_assert_eq!(Ok(union.count()), estimate(&all));
            let mut stored = one;
            union.store(&mut stored, limit).unwrap();
            prop_assert_eq!(registers(&stored).unwrap(), registers(&all).unwrap());
        }

        #[test]
        fn no_bytes_panic(dense: bool, body in proptest::collection::vec(any::<u8>(), 0..60), element: u32) {
            let mut hll = create();
            hll.truncate(HEADER_BYTES);
            hll[ENCODING_AT] = u8::from(!dense);
            hll.extend(body);
            let _ = add(&mut hll.clone(), &element.to_le_bytes(), 3000);
            let _ = (estimate(&hll), decode(&hll), registers(&hll), to_dense(&mut hll));
        }
    }
}
