//! Before a command looks at its keys while invalidations of prefixes or tags are in force: they are carried out for those keys.
//!
//! Invariant: whoever makes a `Db` of keys, while `Local::settles`, settles them before the first look; where there is one
//! thread a debug build checks it. Read next: `larder_store`'s `generations.rs`.

use super::Core;
use super::exec::lend;
use crate::registry::{Row, RowRun};
use crate::transaction::Transaction;
use larder_commands::{Args, database_number, keys_of};
use larder_store::{Db, DbIndex, Hashed, Held};

/// Settles the keys of a command, as far as they are at hand. `hash` is that of its only key, where it has one.
#[cold]
pub(super) fn settle(db: &mut Db<'_>, row: &Row, args: &Args<'_>, hash: u64) {
    let writes = row.may_write();
    if row.single_key && hash != 0 {
        return db.settle(&Hashed { bytes: args.get(row.first_key), hash }, writes);
    }
    for key in keys_of(row.spec, args).unwrap_or_default() {
        let key = db.key(args.get(key.index as usize));
        if db.holds(&key) {
            db.settle(&key, writes);
        }
    }
}

impl Core {
    /// Settles all keys of a transaction that keeps to its keys, before its first command: an invalidation that comes in between two of
    /// its commands is one that comes after it, so that they see the same.
    #[cold]
    pub(super) fn settle_transaction(
        &mut self,
        db: DbIndex,
        transaction: &Transaction,
        held: &mut Held<'static>,
    ) {
        let (keyspace, mut db) = (&self.server.keyspace, db);
        for (row, args, hash) in transaction.commands() {
            if let RowRun::Keys(_) = row.run {
                let locked = lend(held, keyspace, db, row, &args, hash);
                settle(&mut Db::new(keyspace, db, locked, &mut self.local), row, &args, hash);
            } else if row.spec.name == "select" {
                db = database_number(keyspace, args.get(1)).unwrap_or(db);
            }
        }
        (self.is_settled, self.local.settles) = (true, false);
    }
}
