//! HyperLogLogs in Redis' bytes: foreign ones are refused or work, and the sparse and the dense form
//! of the same elements agree.

use larder_values::hll;

/// `hll-sparse-max-bytes` as Redis has it.
const SPARSE_BYTES_MAX: usize = 3000;

/// The bytes as a foreign value, then as elements.
pub fn hll(data: &[u8]) {
    larder_values::fuzz::fuzz_hll(data);
    elements(data);
}

/// Elements of one to eight bytes, added to a value that may stay sparse and to one that may not.
fn elements(data: &[u8]) {
    let (mut sparse, mut dense) = (hll::create(), hll::create());
    hll::to_dense(&mut dense).expect("a new value is valid");
    let mut rest = data;
    while let [length, tail @ ..] = rest {
        let (element, tail) = tail.split_at(tail.len().min(1 + usize::from(length % 8)));
        rest = tail;
        let grown = hll::add(&mut sparse, element, SPARSE_BYTES_MAX);
        assert_eq!(grown, hll::add(&mut dense, element, SPARSE_BYTES_MAX));
        assert_eq!(hll::add(&mut sparse, element, SPARSE_BYTES_MAX), Ok(false), "twice is once");
    }
    assert_eq!(hll::registers(&sparse), hll::registers(&dense));
    assert_eq!(hll::estimate(&sparse), hll::estimate(&dense));
}
