//! Requests that must not be sent: they wait for long, answer without end or not at all, or end other connections
//! of the test.
//! Invariant: what is made and what shrinking leaves of it is looked at here before it is sent.

use super::Request;

/// The longest wait, in milliseconds.
const WAIT_MS_MAX: f64 = 20.0;
/// The most elements that are drawn by chance.
const DRAWN_MAX: i64 = 1000;

/// Whether a request may not be sent.
pub fn is_harmful(request: &Request) -> bool {
    let word = |at: usize| request.get(at).map_or(&b""[..], Vec::as_slice);
    let last = word(request.len().saturating_sub(1));
    match word(0).to_ascii_lowercase().as_slice() {
        b"blpop" | b"brpop" | b"brpoplpush" | b"blmove" | b"bzpopmin" | b"bzpopmax" => is_long(last, 1000.0),
        b"blmpop" | b"bzmpop" => is_long(word(1), 1000.0),
        b"wait" => word(1) != b"0" && is_long(word(2), 1.0),
        b"waitaof" => is_long(word(3), 1.0),
        b"xread" | b"xreadgroup" => {
            let mut pairs = request.windows(2);
            pairs.any(|pair| pair[0].eq_ignore_ascii_case(b"block") && is_long(&pair[1], 1.0))
        }
        // Redis leaves out the reply to a wrong password behind replies that are still to be sent.
        b"auth" => request.len() == 3 && word(1) != b"default",
        b"hello" => {
            let mut pairs = request.windows(2);
            pairs.any(|pair| pair[0].eq_ignore_ascii_case(b"auth") && pair[1] != b"default")
        }
        b"client" if word(1).eq_ignore_ascii_case(b"pause") => is_long(word(2), 1.0),
        b"client" if word(1).eq_ignore_ascii_case(b"kill") => {
            let has = |wanted: &[u8]| request.iter().any(|word| word.eq_ignore_ascii_case(wanted));
            let mut pairs = request.windows(2);
            let has_age =
                pairs.any(|pair| pair[0].eq_ignore_ascii_case(b"maxage") && number(&pair[1]).is_some());
            let meets_the_test = has(b"normal") || has(b"pubsub") || has(b"default") || has_age;
            meets_the_test && !has(b"99999999")
        }
        b"client" => word(1).eq_ignore_ascii_case(b"reply"),
        b"pfdebug" => word(1).eq_ignore_ascii_case(b"simd"),
        b"srandmember" | b"hrandfield" | b"zrandmember" => {
            number(word(2)).is_some_and(|count| count < -DRAWN_MAX && count != i64::MIN)
        }
        _ => false,
    }
}

/// Whether a wait, in units of some milliseconds, may take longer than the test has time for. 0 is for ever; numbers
/// below are refused, as are those that no clock holds.
fn is_long(word: &[u8], unit_ms: f64) -> bool {
    let wait = str::from_utf8(word).ok().and_then(|text| text.trim().parse::<f64>().ok());
    wait.is_some_and(|wait| wait == 0.0 || wait * unit_ms > WAIT_MS_MAX && wait < 1e300)
}

fn number(word: &[u8]) -> Option<i64> {
    str::from_utf8(word).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::is_harmful;
    use crate::difftest::lines::{self, LINES};

    #[test]
    fn long_waits_and_endless_answers_are_known() {
        for line in [
            "BLPOP a 0",
            "blpop a 1",
            "BLMPOP 0 1 a LEFT",
            "XREAD BLOCK 0 STREAMS a $",
            "WAIT 1 0",
            "CLIENT PAUSE 1000",
            "AUTH nobody x",
            "HELLO 3 AUTH nobody x",
            "CLIENT KILL TYPE normal",
            "CLIENT KILL MAXAGE 0",
            "SRANDMEMBER a -2147483649",
            "SRANDMEMBER a -9223372036854775807",
        ] {
            assert!(is_harmful(&lines::split(line)), "{line}");
        }
        for line in
            ["BLPOP a 0.01", "BLPOP a -1", "BLPOP a x", "XREAD BLOCK 5 STREAMS a $", "SRANDMEMBER a -100"]
        {
            assert!(!is_harmful(&lines::split(line)), "{line}");
        }
    }

    #[test]
    fn no_line_does_harm() {
        for line in LINES.iter().flat_map(|lines| lines.lines) {
            assert!(!is_harmful(&lines::split(line)), "{line}");
        }
    }
}
