//! CL.THROTTLE: how often something may be done, by the generic cell rate algorithm.
//!
//! GCRA (ITU-T I.371, section on traffic control): of each key one number is kept, the *theoretical arrival time* at which the
//! bucket would be empty again. An action puts it off by its share of the period; one that would put it further than the burst
//! allows is refused and changes nothing. The answers, their rounding and the number that is kept, nanoseconds as text, are those
//! of redis-cell, whose clients need no other code here.
//! Invariant: what is computed fits; numbers that would not are refused before anything is looked up.

use crate::args::Args;
use crate::cx::Ctx;
use crate::error::Error;
use crate::logged::Digits;
use crate::spec::{Acl, Arg, Command, Flags, Group, KeyFlags, KeySpec, Run, Spec};
use larder_store::{Event, Expire, Millis};
use larder_values::number;

const NANOS_A_MILLI: i128 = 1_000_000;
const NANOS_A_SECOND: i128 = 1_000_000_000;

const ZERO_RATE: Error = Error::of("ERR Zero rates are not supported");
const NEGATIVE: Error = Error::of(
    "ERR CL.THROTTLE takes a max_burst and a quantity of 0 or more, a count and a period of 1 or more",
);
const TOO_LARGE: Error = Error::of("ERR the rate, burst and quantity of CL.THROTTLE are too large together");
const NOT_ITS_OWN: Error = Error::of("ERR the key holds a string that CL.THROTTLE has not written");

/// CL.THROTTLE key max_burst count period [quantity]
pub static CL_THROTTLE: Command = Command {
    spec: Spec {
        name: "cl.throttle",
        summary: "Says whether something may be done now, at a rate with bursts, and counts it.",
        since: "0.1.0",
        group: Group::String,
        complexity: "O(1)",
        arity: -5,
        flags: Flags::WRITE.or(Flags::DENY_OOM).or(Flags::FAST),
        acl: Acl::STRING,
        keys: &[KeySpec::at(1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::UPDATE))],
        args: &[
            Arg::key("key", 0),
            Arg::integer("max_burst"),
            Arg::integer("count"),
            Arg::integer("period"),
            Arg::integer("quantity").optional(),
        ],
        ..Spec::EMPTY
    },
    run: Run::Keys(throttle),
    subcommands: &[],
};

/// A rate with bursts, in nanoseconds.
#[derive(Debug, Clone, Copy)]
struct Rate {
    /// From one action to the next.
    interval: i128,
    /// How far ahead of the time the theoretical arrival may be.
    tolerance: i128,
    /// What the actions at hand put it off by.
    increment: i128,
    /// Actions at once.
    limit: i64,
}

impl Rate {
    /// Reads the words behind the key.
    fn parse(args: &Args<'_>) -> Result<Rate, Error> {
        let read = |at: usize| match args.try_get(at) {
            None => Ok(1),
            Some(word) => number::parse_i64(word).ok_or(Error::NotAnInteger),
        };
        let (max_burst, count, period, quantity) = (read(2)?, read(3)?, read(4)?, read(5)?);
        if args.len() > 6 {
            return Err(Error::arity("cl.throttle"));
        }
        if count == 0 || period == 0 {
            return Err(ZERO_RATE);
        }
        if max_burst < 0 || count < 0 || period < 0 || quantity < 0 {
            return Err(NEGATIVE);
        }
        let interval = i128::from(period) * NANOS_A_SECOND / i128::from(count);
        if interval == 0 {
            return Err(ZERO_RATE);
        }
        let limit = max_burst.checked_add(1).ok_or(TOO_LARGE)?;
        let fits = |nanos: i128| if nanos <= i128::from(i64::MAX) / 4 { Ok(nanos) } else { Err(TOO_LARGE) };
        Ok(Rate {
            interval: fits(interval)?,
            tolerance: fits(interval * i128::from(limit))?,
            increment: fits(interval * i128::from(quantity))?,
            limit,
        })
    }
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
struct Decision {
    /// The new theoretical arrival time, where the actions are allowed.
    arrival: Option<i128>,
    /// How many further actions are allowed now.
    remaining: i64,
    /// When to ask again, in nanoseconds; `None` where it is allowed, or never will be.
    retry_after: Option<i128>,
    /// When the bucket is empty, in nanoseconds.
    reset_after: i128,
}

/// Decides on actions at a time, by the theoretical arrival time that is kept.
fn decide(rate: Rate, now: i128, arrival: Option<i128>) -> Decision {
    let arrival = arrival.unwrap_or(now);
    let next = arrival.max(now) + rate.increment;
    let early = next - rate.tolerance - now;
    let is_allowed = early <= 0;
    let reset_after = if is_allowed { next - now } else { arrival - now };
    let left = rate.tolerance - reset_after;
    Decision {
        arrival: is_allowed.then_some(next),
        // Counted in microseconds, as by redis-cell; an interval below one counts as one.
        remaining: if left > -rate.interval {
            (left / 1000 / (rate.interval / 1000).max(1)) as i64
        } else {
            0
        },
        retry_after: (!is_allowed && rate.increment <= rate.tolerance).then_some(early),
        reset_after,
    }
}

/// Seconds, the last one begun counts.
fn seconds(nanos: i128) -> i64 {
    (nanos / NANOS_A_SECOND) as i64 + i64::from(nanos % NANOS_A_SECOND >= NANOS_A_MILLI)
}

fn throttle(cx: &mut Ctx<'_>, args: &Args<'_>) -> Result<(), Error> {
    let rate = Rate::parse(args)?;
    let key = cx.key(args, 1);
    let now = i128::from(cx.db.now().0) * NANOS_A_MILLI;
    let arrival = match cx.db.string_for_edit(&key)? {
        None => None,
        Some(value) => Some(i128::from(value.to_i64().ok_or(NOT_ITS_OWN)?)),
    };
    let decision = decide(rate, now, arrival);
    match decision.arrival {
        // Nothing was asked for and nothing is there: only a look.
        Some(_) if rate.increment == 0 && arrival.is_none() => {}
        Some(arrival) => {
            let end = Millis(u64::try_from(arrival.div_euclid(NANOS_A_MILLI) + 1).map_err(|_| TOO_LARGE)?);
            let kept = i64::try_from(arrival).map_err(|_| TOO_LARGE)?;
            cx.db.put_integer(&key, kept, Expire::At(end));
            cx.db.changed(&key, Event::SET);
            cx.db.notify(&key, Event::EXPIRE);
            if cx.is_logged() {
                let mut text = Vec::with_capacity(20);
                number::write_i64(&mut text, kept);
                cx.log_instead([b"SET", key.bytes, &text, b"PXAT", Digits::of(end.0).text()]);
            }
        }
        None => {
            cx.db.touch(&key);
        }
    }
    cx.reply.array(5);
    cx.reply.integer(i64::from(decision.arrival.is_none()));
    cx.reply.integer(rate.limit);
    cx.reply.integer(decision.remaining);
    cx.reply.integer(decision.retry_after.map_or(-1, seconds));
    cx.reply.integer(seconds(decision.reset_after));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, run};
    use proptest::prelude::*;

    fn rate(interval: i128, limit: i64, quantity: i128) -> Rate {
        Rate { interval, tolerance: interval * i128::from(limit), increment: interval * quantity, limit }
    }

    /// What the algorithm's authors say of five a second, four of them at once at most beside the first.
    #[test]
    fn a_bucket_fills_and_empties() {
        let mut arrival = None;
        for (millis, quantity, is_limited, remaining, reset, retry) in [
            (0, 6, true, 5, 0, None),
            (0, 1, false, 4, 1000, None),
            (0, 1, false, 3, 2000, None),
            (0, 1, false, 2, 3000, None),
            (0, 1, false, 1, 4000, None),
            (0, 1, false, 0, 5000, None),
            (0, 1, true, 0, 5000, Some(1000)),
            (3000, 1, false, 2, 3000, None),
            (3100, 1, false, 1, 3900, None),
            (4000, 1, false, 1, 4000, None),
            (8000, 1, false, 4, 1000, None),
            (9500, 1, false, 4, 1000, None),
            (9500, 0, false, 4, 1000, None),
            (9500, 2, false, 2, 3000, None),
            (9500, 5, true, 2, 3000, Some(3000)),
        ] {
            let decision = decide(rate(NANOS_A_SECOND, 5, quantity), millis * NANOS_A_MILLI, arrival);
            let told = (decision.arrival.is_none(), decision.remaining, decision.reset_after / NANOS_A_MILLI);
            assert_eq!(told, (is_limited, remaining, reset), "at {millis} ms");
            assert_eq!(decision.retry_after.map(|nanos| nanos / NANOS_A_MILLI), retry, "at {millis} ms");
            arrival = decision.arrival.or(arrival);
        }
    }

    #[test]
    fn a_key_ends_when_its_bucket_is_empty() {
        let mut world = World::new();
        assert_eq!(run(&mut world, "CL.THROTTLE k 1 1 10"), "*5\r\n:0\r\n:2\r\n:1\r\n:-1\r\n:10\r\n");
        assert_eq!(world.effects(), ["0 new k", "0 set k", "0 expire k"]);
        world.pass(10_002);
        assert_eq!(run(&mut world, "EXISTS k"), ":0\r\n");
    }

    proptest! {
        /// However actions come: in no stretch of time are more allowed than the burst and the rate give.
        #[test]
        fn no_more_than_the_rate_is_allowed(
            limit in 1_i64..8,
            interval_ms in 1_i128..2_000,
            steps in prop::collection::vec((0_i128..1_500, 0_i128..4), 1..80),
        ) {
            let (mut now, mut arrival, mut allowed) = (0, None, Vec::new());
            for (wait, quantity) in steps {
                now += wait * NANOS_A_MILLI;
                let decision = decide(rate(interval_ms * NANOS_A_MILLI, limit, quantity), now, arrival);
                if decision.arrival.is_some() {
                    allowed.push((now, quantity));
                    arrival = decision.arrival;
                } else if let Some(retry) = decision.retry_after {
                    let again = decide(rate(interval_ms * NANOS_A_MILLI, limit, quantity), now + retry, arrival);
                    prop_assert!(again.arrival.is_some(), "it was told to come back then");
                }
            }
            for from in 0..allowed.len() {
                let mut sum = 0;
                for &(at, quantity) in &allowed[from..] {
                    sum += quantity;
                    let most = i128::from(limit) * interval_ms * NANOS_A_MILLI + (at - allowed[from].0);
                    prop_assert!(sum * interval_ms * NANOS_A_MILLI <= most);
                }
            }
        }
    }
}
