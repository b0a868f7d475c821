//! The dense encoding: 6-bit registers packed without gaps, lowest bits first, so that three
//! bytes, read as a little-endian number, hold four registers.

use super::REGISTERS;
use super::estimate::Histogram;
use crate::vector::widest;

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
    widest(
        #[inline(always)]
        || {
            let (blocks, _) = packed.as_chunks::<BLOCK_PACKED>();
            for (block, registers) in blocks.iter().zip(registers.as_chunks_mut::<BLOCK>().0) {
                for (register, value) in registers.iter_mut().zip(unpack_block(block)) {
                    *register = (*register).max(value);
                }
            }
        },
    );
}

#[inline(always)]
fn unpack_block(packed: &[u8; BLOCK_PACKED]) -> [u8; BLOCK] {
    let mut words: [u64; BLOCK / 8] = std::array::from_fn(|eight| {
        // Eight bytes for six; the last six have no others behind them.
        let at = (6 * eight).min(BLOCK_PACKED - 8);
        let word = packed[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
        word >> (8 * (6 * eight - at))
    });
    for word in &mut words {
        *word = spread(*word);
    }
    let mut block = [0; BLOCK];
    for (eight, word) in block.as_chunks_mut::<8>().0.iter_mut().zip(words) {
        *eight = word.to_le_bytes();
    }
    block
}

/// Eight registers of 6 bits, side by side, to a byte each: halved three times.
#[inline(always)]
fn spread(bits: u64) -> u64 {
    let bits = (bits & 0x00ff_ffff) | (bits & 0xffff_ff00_0000) << 8;
    let bits = (bits & 0x0000_0fff_0000_0fff) | (bits & 0x00ff_f000_00ff_f000) << 4;
    (bits & 0x003f_003f_003f_003f) | (bits & 0x0fc0_0fc0_0fc0_0fc0) << 2
}

/// The way back from `spread`.
#[inline(always)]
fn gather(bytes: u64) -> u64 {
    let bits = (bytes & 0x003f_003f_003f_003f) | (bytes & 0x3f00_3f00_3f00_3f00) >> 2;
    let bits = (bits & 0x0000_0fff_0000_0fff) | (bits & 0x0fff_0000_0fff_0000) >> 4;
    (bits & 0x00ff_ffff) | (bits & 0x00ff_ffff_0000_0000) >> 8
}

/// Appends the registers packed.
pub(super) fn push_packed(out: &mut Vec<u8>, registers: &[u8; REGISTERS]) {
    out.reserve_exact(BYTES);
    widest(
        #[inline(always)]
        || {
            for block in registers.as_chunks::<BLOCK>().0 {
                out.extend_from_slice(&pack_block(block));
            }
        },
    );
}

#[inline(always)]
fn pack_block(registers: &[u8; BLOCK]) -> [u8; BLOCK_PACKED] {
    let eights = registers.as_chunks::<8>().0;
    let words: [u64; BLOCK / 8] = std::array::from_fn(|eight| gather(u64::from_le_bytes(eights[eight])));
    let mut packed = [0; BLOCK_PACKED];
    for (six, word) in packed.as_chunks_mut::<6>().0.iter_mut().zip(words) {
        six.copy_from_slice(&word.to_le_bytes()[..6]);
    }
    packed
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

/// Registers looked at together by `histogram_of`.
const ZEROS_AT_ONCE: usize = 16;

/// Counts registers by value.
pub(super) fn histogram_of(registers: &[u8; REGISTERS]) -> Histogram {
    let mut lanes = EMPTY_LANES;
    let mut zeros = 0;
    for some in registers.as_chunks::<ZEROS_AT_ONCE>().0 {
        // Registers of a few elements are nearly all zero.
        if *some == [0; ZEROS_AT_ONCE] {
            zeros += ZEROS_AT_ONCE as u32;
            continue;
        }
        for four in some.as_chunks::<4>().0 {
            for (table, register) in lanes.iter_mut().zip(four) {
                table[usize::from(register & 63)] += 1;
            }
        }
    }
    lanes[0][0] += zeros;
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
