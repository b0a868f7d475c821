//! What becomes of the memory of values that were removed.
//!
//! Values up to some MiB are freed on the spot, in a microsecond: the allocator keeps such a block for the
//! next value, which then finds it in the cache. A larger one is never freed while a shard is locked: it
//! waits until the thread that removed it holds no lock. Where the option for this kind of removal says
//! so, every long value goes to the background instead. Invariant: [`Local::spent`] and [`Local::garbage`] are
//! emptied by their thread at the end of every turn.

use crate::keyspace::Garbage;
use crate::local::Local;
use crate::object::Object;

/// Values at least this long are freed away from any lock, since the system may take their memory back.
const SPENT_BYTES_MIN: usize = 4 * 1024 * 1024 + 1;

/// Values at least this long are work for the background.
// Differs from Redis: a string of 64 KiB or more counts as work for the background (UNLINK, the
// lazyfree options, INFO's lazyfreed_objects); Redis frees a string of any length on the spot.
const LARGE_BYTES_MIN: usize = 64 * 1024;

/// Collections of more blocks than this are work for the background, as in Redis.
const EFFORT_MIN: usize = 64;

/// Collections of more blocks than this are freed by the background whatever the options say: no thread
/// stalls for the size of what it removes.
const EFFORT_MAX: usize = 1024;

/// Why a value is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// A client asked for it by DEL.
    Deleted,
    /// A client asked for it by UNLINK.
    Unlinked,
    /// A command does it on its way: another value or another key takes its place.
    Replaced,
    /// Its time had come.
    Expired,
    /// Room was needed.
    Evicted,
}

/// Which removed values the background frees, beside those of UNLINK.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LazyFree {
    /// `lazyfree-lazy-user-del`.
    pub deleted: bool,
    /// `lazyfree-lazy-server-del`.
    pub replaced: bool,
    /// `lazyfree-lazy-expire`.
    pub expired: bool,
    /// `lazyfree-lazy-eviction`.
    pub evicted: bool,
}

impl LazyFree {
    /// Whether the background frees what is removed for this reason.
    #[must_use]
    pub fn covers(self, removal: Removal) -> bool {
        match removal {
            Removal::Unlinked => true,
            Removal::Deleted => self.deleted,
            Removal::Replaced => self.replaced,
            Removal::Expired => self.expired,
            Removal::Evicted => self.evicted,
        }
    }
}

impl Local {
    /// Frees the large values that are this thread's to free. Called while it holds no lock; O(values),
    /// and for each the time in which the system takes its memory back.
    #[inline]
    pub fn free_spent(&mut self) {
        if !self.spent.is_empty() {
            self.spent = Vec::new();
        }
    }
}

/// Takes over what a removed entry owned beside itself.
#[inline]
pub(crate) fn discard(local: &mut Local, object: Option<Object>, removal: Removal) {
    if let Some(object) = object {
        discard_object(local, object, removal);
    }
}

fn discard_object(local: &mut Local, object: Object, removal: Removal) {
    let (bytes_freed, effort) = (object.bytes(), object.free_effort());
    let is_large = bytes_freed >= LARGE_BYTES_MIN || effort > EFFORT_MIN;
    if is_large && local.lazy_free.covers(removal) {
        local.garbage.push(Garbage::Object(object));
    } else if effort > EFFORT_MAX {
        local.garbage.push(Garbage::Unasked(object));
    } else if bytes_freed >= SPENT_BYTES_MIN {
        local.spent.push(object);
    } else {
        drop(object);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::StoreStats;
    use std::sync::Arc;

    fn object(bytes: usize) -> Option<Object> {
        Some(Object::Blob(Arc::new(vec![0; bytes])))
    }

    #[test]
    fn each_option_sends_its_own_removals_to_the_background() {
        let options = [
            (Removal::Deleted, LazyFree { deleted: true, ..LazyFree::default() }),
            (Removal::Replaced, LazyFree { replaced: true, ..LazyFree::default() }),
            (Removal::Expired, LazyFree { expired: true, ..LazyFree::default() }),
            (Removal::Evicted, LazyFree { evicted: true, ..LazyFree::default() }),
            (Removal::Unlinked, LazyFree::default()),
        ];
        for (wanted, lazy_free) in options {
            for (removal, _) in options {
                let mut local = Local::new(1, Arc::new(StoreStats::default()));
                local.lazy_free = lazy_free;
                discard(&mut local, object(LARGE_BYTES_MIN), removal);
                let is_lazy = removal == wanted || removal == Removal::Unlinked;
                assert_eq!(local.garbage.len(), usize::from(is_lazy), "{removal:?}");
                assert!(local.spent.is_empty(), "{removal:?}");
                discard(&mut local, object(SPENT_BYTES_MIN), removal);
                assert_eq!(local.garbage.len(), 2 * usize::from(is_lazy), "{removal:?}");
                assert_eq!(local.spent.len(), usize::from(!is_lazy), "{removal:?}");
                local.free_spent();
                assert!(local.spent.is_empty());
            }
        }
    }

    #[test]
    fn what_costs_nothing_to_free_is_freed_on_the_spot() {
        let mut local = Local::new(1, Arc::new(StoreStats::default()));
        let shared = Arc::new(vec![0; LARGE_BYTES_MIN]);
        discard(&mut local, Some(Object::Blob(Arc::clone(&shared))), Removal::Unlinked);
        discard(&mut local, object(LARGE_BYTES_MIN - 1), Removal::Unlinked);
        discard(&mut local, None, Removal::Unlinked);
        assert!(local.garbage.is_empty() && local.spent.is_empty());
        assert_eq!(Arc::strong_count(&shared), 1);
    }
}
