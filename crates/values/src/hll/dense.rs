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

fn unpack_group(group: &[u8]) -> [u8; 4] {
    let bits = read_group(group);
    [bits & 63, bits >> 6 & 63, bits >> 12 & 63, bits >> 18].map(|register| register as u8)
}

/// Raises each of `registers` to at least the packed one.
pub(super) fn merge_into(packed: &[u8], registers: &mut [u8; REGISTERS]) {
    for (group, four) in packed.chunks_exact(3).zip(registers.chunks_exact_mut(4)) {
        for (register, value) in four.iter_mut().zip(unpack_group(group)) {
            *register = (*register).max(value);
        }
    }
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
    // Four tables, so that equal neighbours do not wait for each other's increment.
    let mut lanes = [[0_u32; 64]; 4];
    for group in packed.chunks_exact(3) {
        for (lane, register) in lanes.iter_mut().zip(unpack_group(group)) {
            lane[usize::from(register)] += 1;
        }
    }
    sum(&lanes)
}

/// Counts registers by value.
pub(super) fn histogram_of(registers: &[u8; REGISTERS]) -> Histogram {
    let mut lanes = [[0_u32; 64]; 4];
    for four in registers.chunks_exact(4) {
        for (lane, &register) in lanes.iter_mut().zip(four) {
            lane[usize::from(register & 63)] += 1;
        }
    }
    sum(&lanes)
}

fn sum(lanes: &[Histogram; 4]) -> Histogram {
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
