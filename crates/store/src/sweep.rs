//! Active expiry: finds the keys whose time has come by their deadlines, not by sampling.
//!
//! Each shard knows the earliest deadline it may hold, so a sweep of nothing costs one load a
//! shard. Work is done in small bites under one shard's lock at a time, and the caller asks between
//! bites whether there is time left.

use crate::db::expired;
use crate::keyspace::{DbIndex, Keyspace};
use crate::local::Local;

/// Keys removed under one hold of a shard's lock; a hold stays far below 100 microseconds.
const BITE: usize = 64;

impl Keyspace {
    /// Removes keys whose time has come from the shards that belong to `worker` of `workers`.
    ///
    /// `more_time` is asked after every bite; answers whether everything due has been removed.
    pub fn sweep_expired(
        &self,
        (worker, workers): (usize, usize),
        local: &mut Local,
        more_time: &mut dyn FnMut() -> bool,
    ) -> bool {
        let now = local.now.0;
        for index in self.indexes() {
            let Some(table) = self.table_if_used(index) else { continue };
            if table.len_with_deadline() == 0 {
                continue;
            }
            for shard in (worker..table.shards()).step_by(workers.max(1)) {
                while table.next_due(shard) <= now {
                    self.expire_bite(index, shard, now, local);
                    if !more_time() {
                        return false;
                    }
                }
            }
        }
        true
    }

    fn expire_bite(&self, index: DbIndex, shard: usize, now: u64, local: &mut Local) {
        let mut guard = self.table(index).lock(shard);
        guard.expire_due(now, BITE, &mut |key, removed| {
            expired(local, index, key);
            drop(removed);
        });
    }
}
