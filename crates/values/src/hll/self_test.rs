//! PFSELFTEST: does this build count as it should on this machine?

use super::{REGISTERS, add, create, dense, estimate, to_dense};

/// Elements added to measure the error at each power of ten.
const ELEMENTS: u64 = 100_000;

/// Checks the packing of registers, the agreement of both encodings, and the error of the
/// estimate. Takes some tens of milliseconds.
pub fn self_test() -> Result<(), String> {
    check_packing()?;
    check_estimates(0x5eed_0001)
}

fn check_packing() -> Result<(), String> {
    let mut random = 1;
    let mut packed = Vec::new();
    let values: [u8; REGISTERS] = std::array::from_fn(|_| (next(&mut random) >> 58) as u8);
    dense::push_packed(&mut packed, &[0; REGISTERS]);
    for (register, &value) in values.iter().enumerate() {
        dense::raise(&mut packed, register, value);
    }
    let mut back = [0; REGISTERS];
    dense::merge_into(&packed, &mut back);
    match back.iter().zip(&values).position(|(got, want)| got != want) {
        None => Ok(()),
        Some(at) => Err(format!("TESTFAILED Register {at} should be {} but is {}", values[at], back[at])),
    }
}

fn check_estimates(seed: u64) -> Result<(), String> {
    let (mut sparse, mut dense) = (create(), create());
    let failed = |error: super::Error| format!("TESTFAILED {error}");
    to_dense(&mut dense).map_err(failed)?;
    let (mut random, mut checkpoint) = (seed, 1);
    for added in 1..=ELEMENTS {
        let element = next(&mut random).to_le_bytes();
        add(&mut dense, &element, 0).map_err(failed)?;
        add(&mut sparse, &element, 3000).map_err(failed)?;
        if added != checkpoint {
            continue;
        }
        let count = estimate(&dense).map_err(failed)?;
        if estimate(&sparse).map_err(failed)? != count {
            return Err("TESTFAILED dense/sparse disagree".into());
        }
        // Six standard errors; at ten one collision is likely enough to be let pass.
        let error = 1.04 / (REGISTERS as f64).sqrt();
        let error_max = if checkpoint == 10 { 1 } else { (error * 6.0 * checkpoint as f64).ceil() as u64 };
        if count.abs_diff(checkpoint) > error_max {
            return Err(format!(
                "TESTFAILED Too big error. card:{checkpoint} abserr:{}",
                count.abs_diff(checkpoint)
            ));
        }
        checkpoint *= 10;
    }
    Ok(())
}

/// SplitMix64 (Steele, Lea, Flood 2014).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_build_counts_well() {
        assert_eq!(super::self_test(), Ok(()));
    }
}
