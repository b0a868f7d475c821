//! Base64 for keys (RFC 4648, section 4): with padding, nothing between.

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Appends the bytes that `text` stands for. `None`, and nothing appended, where it stands for none.
pub fn decode(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let before = out.len();
    let decoded = decode_onto(text, out).filter(|()| out.len() > before);
    if decoded.is_none() {
        out.truncate(before);
    }
    decoded
}

fn decode_onto(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (groups, rest) = text.as_chunks::<4>();
    if !rest.is_empty() {
        return None;
    }
    let (last, whole) = groups.split_last()?;
    for group in whole {
        out.extend_from_slice(&triple(group)?);
    }
    match last {
        [one, two, b'=', b'='] => out.push(triple(&[*one, *two, b'A', b'A'])?[0]),
        [one, two, three, b'='] => out.extend_from_slice(&triple(&[*one, *two, *three, b'A'])?[..2]),
        whole => out.extend_from_slice(&triple(whole)?),
    }
    Some(())
}

fn triple(group: &[u8; 4]) -> Option<[u8; 3]> {
    let mut bits = 0u32;
    for digit in group {
        bits = bits << 6 | u32::from(value_of(*digit)?);
    }
    let [_, one, two, three] = bits.to_be_bytes();
    Some([one, two, three])
}

fn value_of(digit: u8) -> Option<u8> {
    match digit {
        b'A'..=b'Z' => Some(digit - b'A'),
        b'a'..=b'z' => Some(digit - b'a' + 26),
        b'0'..=b'9' => Some(digit - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

/// Appends the text that stands for `bytes`.
pub fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    for chunk in bytes.chunks(3) {
        let mut group = [0; 3];
        for (place, byte) in group.iter_mut().zip(chunk) {
            *place = *byte;
        }
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at)) as usize & 63];
            out.push(if at > chunk.len() { b'=' } else { digit });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(bytes in prop::collection::vec(any::<u8>(), 1..300)) {
            let (mut text, mut back) = (Vec::new(), b"before".to_vec());
            encode(&bytes, &mut text);
            prop_assert_eq!(text.len(), bytes.len().div_ceil(3) * 4);
            decode(&text, &mut back).unwrap();
            prop_assert_eq!(&back[6..], &bytes[..]);
        }

        #[test]
        fn what_is_no_base64_is_refused(text in "[A-Za-z0-9+/= ]{0,12}") {
            let mut out = b"before".to_vec();
            if decode(text.as_bytes(), &mut out).is_none() {
                prop_assert_eq!(out, b"before".to_vec());
            } else {
                prop_assert!(text.len() % 4 == 0 && !text.contains(' '));
            }
        }
    }
}
