//! The beginning and the end of a turn, and what a worker hands over at its end: what is to be logged, what is to be freed.
//!
//! Invariant: between the two no other thread has everything; what was changed while somebody had is seen before any key is touched.
//! Read next: `settings.rs`, for what is looked at anew when settings have changed.

use super::{Core, TIMED_ONE_IN};
use crate::clock;
use crate::connection::Connection;

impl Core {
    /// Opens a turn: takes the time and looks whether settings have changed. False where somebody has everything, and then
    /// no turn is open.
    #[inline]
    pub fn open_turn(&mut self) -> bool {
        self.take_time();
        self.turn = self.server.keyspace.world.try_enter(self.id);
        if self.turn.is_none() {
            return false;
        }
        // Inside: what was changed while everything was held is seen before any key is touched.
        self.local.look_for_snapshot(&self.server.keyspace);
        self.take_settings_over();
        if self.server.debts.any() {
            self.pay_debts();
        }
        self.turns = self.turns.wrapping_add(1);
        self.local.insight.turn();
        self.timing_turn = self.turns.is_multiple_of(TIMED_ONE_IN);
        self.look_up_attention();
        true
    }

    /// Takes the time anew: behind what may have taken long, so that who comes next is not told that what is over is not.
    #[inline]
    pub fn take_time(&mut self) {
        self.local.now = clock::unix_millis();
    }

    /// Closes the turn, frees large values that were removed, and hands others to the background.
    #[inline]
    pub fn close_turn(&mut self) {
        if self.local.effects.has_ready() {
            self.serve_ready();
        }
        self.tell_copiers();
        self.local.uses.tell(&self.server.keyspace, self.local.now);
        self.turn = None;
        if self.local.effects.log.has_units() {
            self.hand_log_over();
        }
        self.local.free_spent();
        self.hand_garbage_over();
    }

    /// Begins or ends collecting what is logged, as the journal says: at the end of what turned it on or off.
    pub(crate) fn follow_log(&mut self) {
        self.local.effects.log.switch(self.server.journal.is_on());
    }

    /// Notes that a connection is to wait for what was changed for it so far.
    #[inline]
    pub fn note_logged(&self, conn: &mut Connection) {
        let last = self.local.effects.log.last();
        if last != self.logged_before {
            conn.logged = last;
        }
    }

    /// Hands what is to be logged over to the writer.
    pub(crate) fn hand_log_over(&mut self) {
        if !self.local.effects.log.has_units() {
            return;
        }
        let start = self.stopwatch.ticks();
        let (journal, log) = (&self.server.journal, &mut self.local.effects.log);
        let units = log.take(Vec::new());
        let spare = journal.hand_over(self.id, units);
        log.lend(spare);
        self.stats.log_nanos.add(self.stopwatch.nanos(start, self.stopwatch.ticks()));
    }

    #[inline]
    pub(super) fn hand_garbage_over(&mut self) {
        if !self.local.garbage.is_empty() {
            let garbage = std::mem::take(&mut self.local.garbage);
            let objects = self.server.reaper.free(garbage);
            self.stats.store.lazy_freed.add(objects as u64);
        }
    }
}
