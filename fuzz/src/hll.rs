//! HyperLogLogs in Redis' bytes: any bytes are refused or read, and the sparse and the dense form
//! of one set of registers agree.

use larder_values::hll;

/// `hll-sparse-max-bytes` as Redis has it.
const SPARSE_BYTES_MAX: usize = 3000;

/// The first byte says what the rest is: a value as a client could set it, opcodes behind a valid
/// header, or elements to add.
pub fn hll(data: &[u8]) {
    let [choice, data @ ..] = data else { return };
    match choice % 3 {
        0 => foreign(data),
        1 => {
            let mut value = hll::create();
            value.truncate(16);
            value.extend_from_slice(data);
            foreign(&value);
        }
        _ => elements(data),
    }
}

fn foreign(value: &[u8]) {
    let mut counted = value.to_vec();
    hll::count(&mut counted).ok();
    hll::decode(value).ok();
    let Ok(registers) = hll::registers(value) else { return };
    let mut dense = value.to_vec();
    hll::to_dense(&mut dense).expect("what can be read can be made dense");
    assert_eq!(hll::registers(&dense).as_ref(), Ok(&registers), "both forms hold the same");
    if let Ok(estimate) = hll::estimate(value) {
        assert_eq!(hll::estimate(&dense), Ok(estimate));
    }
    let mut more = value.to_vec();
    let changed = hll::add(&mut more, b"element", SPARSE_BYTES_MAX).expect("what can be read can grow");
    let after = hll::registers(&more).expect("what was added to can be read");
    let grown = registers.iter().zip(after.iter()).filter(|(before, after)| before != after);
    assert_eq!(grown.clone().count(), usize::from(changed));
    assert!(grown.into_iter().all(|(before, after)| before < after), "registers never shrink");
    union_of(value, &more);
}

/// A union with something that contains it is that something.
fn union_of(value: &[u8], more: &[u8]) {
    let mut union = hll::Union::new();
    union.merge(value).expect("it has been read before");
    union.merge(more).expect("it has been read before");
    let mut stored = hll::create();
    union.store(&mut stored, SPARSE_BYTES_MAX).expect("an own value takes everything");
    assert_eq!(hll::registers(&stored), hll::registers(more));
    assert_eq!(hll::estimate(&stored).ok(), Some(union.count()));
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
