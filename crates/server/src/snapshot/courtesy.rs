//! How the thread that writes a snapshot lets workers on its core go first, and is not starved by that.
//!
//! Who wakes up on a core where another thread runs waits for the end of that one's slice, which is over a millisecond, however nice the
//! other one is. So this one offers the core after every few microseconds of work. It forfeits the rest of a slice each time; where a
//! worker never sleeps that would leave it nothing, and it stops until it has had its share.
//! Read next: `writer.rs`.

use crate::clock;
use crate::process::GivingWay;
use std::time::{Duration, Instant};

/// How far the thread gives way, in steps of its nice value; and where it could not come back from there.
const WAY: (i32, i32) = (19, 5);
/// Bytes of work after which the core is offered: some ten microseconds.
const OFFER_BYTES: usize = 4 << 10;
/// How much longer than it works it waits for offered cores at the most; and where much waits to be written.
const WAITS: (u32, u32) = (4, 1);
/// How much work and waiting the account goes back.
const REMEMBERED: Duration = Duration::from_millis(200);

/// See there. It belongs to the thread that made it.
#[derive(Debug)]
pub struct Courtesy {
    /// None where the thread gives way to nobody.
    priority: Option<GivingWay>,
    account: Account,
    is_urgent: bool,
    /// Bytes of work since the core was offered.
    bytes: usize,
    /// Since when the thread works.
    since: Instant,
}

impl Courtesy {
    /// The calling thread's, which gives way to others or to nobody.
    pub fn new(gives_way: bool) -> Courtesy {
        let priority = gives_way.then(|| GivingWay::new(WAY.0, WAY.1));
        Courtesy { priority, account: Account::default(), is_urgent: false, bytes: 0, since: clock::now() }
    }

    /// Work begins, after a time in which there was none. In an urgent case the thread is to have a larger share.
    pub fn begin(&mut self, is_urgent: bool) {
        self.is_urgent = is_urgent;
        self.since = clock::now();
        self.choose();
    }

    /// So many bytes were worked on.
    pub fn after(&mut self, bytes: usize) {
        self.bytes += bytes;
        if self.bytes < OFFER_BYTES || self.priority.is_none() {
            return;
        }
        self.bytes = 0;
        let start = clock::now();
        self.account.worked += start - self.since;
        self.since = start;
        if !self.is_starved() {
            std::thread::yield_now();
            self.since = clock::now();
            self.account.waited += self.since - start;
        }
        self.account.forget();
        self.choose();
    }

    fn choose(&mut self) {
        let gives_way = !self.is_urgent && !self.is_starved();
        if let Some(priority) = &mut self.priority {
            priority.give_way(gives_way);
        }
    }

    fn is_starved(&self) -> bool {
        self.account.is_starved(if self.is_urgent { WAITS.1 } else { WAITS.0 })
    }
}

/// What it has got out of being courteous lately.
#[derive(Debug, Default)]
struct Account {
    worked: Duration,
    /// For cores that were offered.
    waited: Duration,
}

impl Account {
    fn is_starved(&self, waits: u32) -> bool {
        self.waited > self.worked * waits
    }

    /// What is long ago counts less.
    fn forget(&mut self) {
        if self.worked + self.waited > REMEMBERED {
            self.worked /= 2;
            self.waited /= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_waits_for_more_than_it_works_is_starved_until_it_has_caught_up() {
        let ms = Duration::from_millis;
        let mut account = Account { worked: ms(2), waited: ms(8) };
        assert!(!account.is_starved(4) && account.is_starved(1));
        account.waited += ms(1);
        assert!(account.is_starved(4));
        account.worked += ms(1);
        assert!(!account.is_starved(4));
        account.waited += REMEMBERED;
        account.forget();
        assert!(account.is_starved(4) && account.waited == (ms(9) + REMEMBERED) / 2);
    }

    #[test]
    fn the_core_is_offered_by_bytes_unless_the_thread_gives_way_to_nobody() {
        std::thread::spawn(|| {
            let offered = |courtesy: &mut Courtesy, bytes: usize| {
                courtesy.bytes = 0;
                courtesy.after(bytes);
                courtesy.bytes == 0
            };
            let mut courtesy = Courtesy::new(true);
            assert!(!offered(&mut courtesy, OFFER_BYTES - 1) && offered(&mut courtesy, OFFER_BYTES));
            assert!(!offered(&mut Courtesy::new(false), OFFER_BYTES));
        })
        .join()
        .unwrap();
    }
}
