//! memcached's `flush_all` with a delay: the first database is emptied once its moment has come. A later `flush_all` takes an
//! earlier one's place.

use super::Core;
use larder_store::DbIndex;
use std::sync::atomic::Ordering::Relaxed;

impl Core {
    /// Empties the first database if that is due; one worker looks. Outside of a turn.
    pub fn flush_if_due(&mut self) {
        let due = &self.server.flush_at_ms;
        let at = due.load(Relaxed);
        if at == 0 || self.local.now.0 < at || !self.open_turn() {
            return;
        }
        let flushed = self.alone(|core| {
            let db = DbIndex(0);
            core.server.through.flights.overtake_all(|_, _| true);
            core.local.effects.log.also(db, [b"FLUSHDB"]);
            let keys = core.server.keyspace.len(db) as u64;
            if let Some(garbage) = core.server.keyspace.flush(db, &mut core.local.effects) {
                core.local.garbage.push(garbage);
                core.local.effects.changed_many(keys);
            }
        });
        if flushed.is_some() {
            // Unless another moment was set meanwhile.
            let _ = self.server.flush_at_ms.compare_exchange(at, 0, Relaxed, Relaxed);
        }
        self.count_changes();
        self.close_turn();
    }
}
