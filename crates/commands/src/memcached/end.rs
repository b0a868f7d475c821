//! memcached's times to live: seconds from now on, or a moment if there are more than thirty days of them.

use crate::cx::Ctx;
use larder_resp::memcached::parse_i64;
use larder_store::{Event, Expire, Hashed, Millis, Removal};

/// From how many seconds on a time to live is a moment in Unix time.
const RELATIVE_SECONDS_MAX: u64 = 30 * 24 * 3600;

/// When a key ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Not by itself.
    Never,
    At(Millis),
    /// Before it can be read.
    Now,
}

impl End {
    /// The end that a number of seconds names.
    pub(super) fn of(cx: &mut Ctx<'_>, seconds: i64) -> End {
        let Ok(seconds) = u64::try_from(seconds) else { return End::Now };
        let now = cx.db.now();
        let millis = Millis(seconds.saturating_mul(1000));
        match seconds {
            0 => End::Never,
            1..=RELATIVE_SECONDS_MAX => End::At(cx.ends().spread(Millis(now.0.saturating_add(millis.0)))),
            _ if millis <= now => End::Now,
            _ => End::At(millis),
        }
    }

    /// The end that a word names; the parser has seen that it is a number.
    pub(super) fn read(cx: &mut Ctx<'_>, word: &[u8]) -> End {
        End::of(cx, parse_i64(word).unwrap_or(0))
    }

    /// The moment, if there is one.
    pub(super) fn moment(self, now: Millis) -> Option<Millis> {
        match self {
            End::Never => None,
            End::At(at) => Some(at),
            End::Now => Some(now),
        }
    }

    pub(super) fn expire(self) -> Expire {
        match self {
            End::At(at) => Expire::At(at),
            End::Never | End::Now => Expire::Clear,
        }
    }

    /// Has a key that exists end then, and says so.
    pub(super) fn set(self, cx: &mut Ctx<'_>, key: &Hashed<'_>) {
        match self {
            End::Now => remove(cx, key, Removal::Expired),
            End::At(at) => {
                cx.db.set_deadline(key, Some(at));
                cx.db.changed(key, Event::EXPIRE);
                cx.log_outcome(key);
            }
            End::Never => {
                if cx.db.deadline(key).flatten().is_some() {
                    cx.db.set_deadline(key, None);
                    cx.db.changed(key, Event::PERSIST);
                    cx.log_outcome(key);
                }
            }
        }
    }
}

/// Removes a key, and says so if it was there.
pub(super) fn remove(cx: &mut Ctx<'_>, key: &Hashed<'_>, removal: Removal) {
    if cx.db.remove_for(key, removal) {
        cx.db.changed(key, Event::DEL);
        cx.log_outcome(key);
    }
}

/// How many seconds are left; -1 for no end.
pub(super) fn seconds_left(now: Millis, end: Option<Millis>) -> i64 {
    end.map_or(-1, |end| end.0.saturating_sub(now.0).div_ceil(1000).cast_signed())
}
