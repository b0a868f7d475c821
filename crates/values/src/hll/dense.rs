//! The dense encoding: 6-bit registers packed without gaps, lowest bits first, so that three
//! bytes, read as a little-endian number, hold four registers.

use super::REGISTERS;
use super::estimate::Histogram;

/// Bytes of all registers.
pub(super) const BYTES: usize = REGISTERS * 6 / 8;

/// Raises one register to at least `value`; true if it was lower.
pub(super) fn raise(packed: &mut [u8], register: usize, value: u8) -> bool {
    let Some(group) = packed.chunks_exact_mut(3).nth(register / 4) else { return false };
    let (bits, shift) = (read_group(group), 6 * (register % 4) as u32);
    if (bits >> shift) & 63 >= u32::from(value) {
        return false;
    }
    let raised = (bits & !(63 << shift)) | (u32::from(value) << shift);
    group.copy_from_slice(&raised.to_le_bytes()[..3]);
    true
}

fn read_group(group: &[u8]) -> u32 {
    u32::from(group[0]) | u32::from(group[1]) << 8 | u32::from(group[2]) << 16
}

/// 64 registers at a time.
const BLOCK: usize = 64;
const BLOCK_PACKED: usize = BLOCK * 6 / 8;

/// Raises each of `registers` to at least the packed one.
pub(super) fn merge_into(packed: &[u8], registers: &mut [u8; REGISTERS]) {
    let (blocks, _) = packed.as_chunks::<BLOCK_PACKED>();
    for (block, registers) in blocks.iter().zip(registers.as_chunks_mut::<BLOCK>().0) {
        for (register, value) in registers.iter_mut().zip(unpack_block(block)) {
            *register = (*register).max(value);
        }
    }
}

fn unpack_block(packed: &[u8; BLOCK_PACKED]) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let (eights, _) = block.as_chunks_mut::<8>();
    for (&[a, b, c, d, e, f], eight) in packed.as_chunks::<6>().0.iter().zip(eights) {
        *eight = spread(u64::from_le_bytes([a, b, c, d, e, f, 0, 0])).to_le_bytes();
    }
    block
}

/// Eight registers of 6 bits, side by side, to a byte each: halved three times.
fn spread(bits: u64) -> u64 {
    let bits = (bits & 0x00ff_ffff) | (bits & 0xffff_ff00_0000) << 8;
    let bits = (bits & 0x0000_0fff_0000_0fff) | (bits & 0x00ff_f000_00ff_f000) << 4;
    (bits & 0x003f_003f_003f_003f) | (bits & 0x0fc0_0fc0_0fc0_0fc0) << 2
}

/// Appends the registers packed.
pub(super) fn push_packed(out: &mut Vec<u8>, registers: &[u8; REGISTERS]) {
    out.reserve_exact(BYTES);
    for four in registers.chunks_exact(4) {
        let bits = four.iter().rev().fold(0_u32, |bits, &register| bits << 6 | u32::from(register));
        out.extend_from_slice(&bits.to_le_bytes()[..3]);
    }
}

/// Counts packed registers by value.
pub(super) fn histogram(packed: &[u8]) -> Histogram {
    let mut lanes = EMPTY_LANES;
    for &[a, b, c, d, e, f] in packed.as_chunks::<6>().0 {
        let bits = u64::from_le_bytes([a, b, c, d, e, f, 0, 0]);
        for (lane, table) in lanes.iter_mut().enumerate() {
            table[(bits >> (6 * lane) & 63) as usize] += 1;
            table[(bits >> (24 + 6 * lane) & 63) as usize] += 1;
        }
    }
    sum(&lanes)
}

/// Four tables, so that equal neighbours do not wait for each other's increment.
type HistogramLanes = [Histogram; 4];
const EMPTY_LANES: HistogramLanes = [[0; 64]; 4];

/// Counts registers by value.
pub(super) fn histogram_of(registers: &[u8; REGISTERS]) -> Histogram {
    let mut lanes = EMPTY_LANES;
    for four in registers.as_chunks::<4>().0 {
        for (table, register) in lanes.iter_mut().zip(four) {
            table[usize::from(register & 63)] += 1;
        }
    }
    sum(&lanes)
}

fn sum(lanes: &HistogramLanes) -> Histogram {
    std::array::from_fn(|value| lanes.iter().map(|lane| lane[value]).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_keeps_each_register() {
        let registers: [u8; REGISTERS] = std::array::from_fn(|at| (at * 7 % 64) as u8);
        let mut packed = Vec::new();
        push_packed(&mut packed, &registers);
        assert_eq!(packed.len(), BYTES);
        let mut back = [0; REGISTERS];
        merge_into(&packed, &mut back);
        assert_eq!(back, registers);
        assert_eq!(histogram(&packed), histogram_of(&registers));
        for at in [0, 1, 2, 3, 4, 8191, REGISTERS - 1] {
            let old = registers[at];
            assert!(!raise(&mut packed, at, old));
            assert_eq!(raise(&mut packed, at, 63), old != 63);
            back[at] = 63;
        }
        let mut again = [0; REGISTERS];
        merge_into(&packed, &mut again);
        assert_eq!(again, back);
    }
}
