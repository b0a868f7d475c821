//! Routes whose keys have room of their own: what they may take, and what leaves when it is more.
//!
//! Such keys leave by their route's policy, and only for each other; for others where nothing else may leave, since what
//! a route brought can be fetched again. Read next: `evict/classes.rs` in the store.

use super::Core;
use super::room::kind_of_name;
use crate::clock;
use crate::server::Server;
use larder_source::{DEFAULT_POLICY, Route, Routes};
use larder_store::{Cause, ClassSpec, ClassUse, DbIndex, Evicted, Evictor};
use std::sync::Arc;
use std::time::Duration;

/// Keys evicted between two looks at the clock.
const EVICTIONS_BETWEEN_LOOKS: u32 = 8;
/// Looks in vain after which the background goes on.
const LOOKS_IN_VAIN_MAX: u32 = 512;

/// Classes of keys for the routes that have room of their own.
///
/// # Errors
/// There is no policy of this name.
pub fn classes_of(routes: &Routes) -> Result<Vec<ClassSpec>, String> {
    with_shares(routes).map(class_of).collect()
}

/// The name of a route's class.
fn class_name(route: &Route) -> String {
    format!("{}:{}", route.db, route.pattern)
}

/// What the keys of a route take of their room, by name; nothing for a route without.
pub fn share_of(server: &Server, route: &Route) -> Vec<(&'static str, u64)> {
    if route.share.is_none() {
        return Vec::new();
    }
    let (name, all) = (class_name(route), server.keyspace.use_of_classes());
    let one = all.iter().find(|class| *class.name == *name);
    one.map_or_else(Vec::new, |class| {
        vec![
            ("memory_keys", class.keys as u64),
            ("memory_bytes", class.bytes as u64),
            ("memory_limit", if class.limit == usize::MAX { 0 } else { class.limit as u64 }),
            ("memory_evicted", class.evicted as u64),
        ]
    })
}

fn with_shares(routes: &Routes) -> impl Iterator<Item = &Arc<Route>> {
    routes.all().iter().filter(|route| route.share.is_some())
}

fn class_of(route: &Arc<Route>) -> Result<ClassSpec, String> {
    let name = route.policy.as_deref().unwrap_or(DEFAULT_POLICY);
    let unknown = || {
        format!(
            "route {}: there is no policy '{name}'; the words of maxmemory-policy are known, with allkeys- or without",
            route.pattern
        )
    };
    let (kind, scope) = kind_of_name(name).ok_or_else(unknown)?;
    let pattern = route.pattern.clone();
    Ok(ClassSpec {
        name: class_name(route).into(),
        db: DbIndex(route.db),
        prefix: route.pattern.prefix().into(),
        matches: Arc::new(move |key| pattern.has(key)),
        kind,
        scope,
    })
}

/// Puts what routes say of room into force. Whoever touches keys afterwards sees that settings have changed first.
pub fn put_classes(server: &Server, classes: Vec<ClassSpec>) {
    let exclusive = server.keyspace.world.exclusive();
    if server.keyspace.choose_classes(classes) {
        server.touch_settings();
    }
    drop(exclusive);
}

impl Core {
    /// Follows the policies of classes. Answers whether there are any.
    pub(super) fn follow_shares(&mut self) -> bool {
        let policies = self.server.keyspace.policies_of_classes();
        let evictor = |chosen| {
            let mut evictor = Evictor::default();
            evictor.follow(Some(chosen));
            evictor
        };
        self.share_evictors = policies.into_iter().map(evictor).collect();
        self.limit_shares();
        !self.share_evictors.is_empty()
    }

    /// Tells the classes what they may take, which may depend on `maxmemory`.
    pub(super) fn limit_shares(&self) {
        if self.share_evictors.is_empty() {
            return;
        }
        let limit = Some(self.memory_limit()).filter(|limit| *limit != usize::MAX);
        let routes = self.server.through.routes();
        let bytes =
            |route: &Arc<Route>| route.share.and_then(|share| share.bytes(limit)).unwrap_or(usize::MAX);
        self.server.keyspace.limit_classes(with_shares(&routes).map(bytes));
    }

    /// Whether what nobody has asked for should not come into the room of a route any more.
    pub(super) fn is_share_nearly_full(&self, route: &Route) -> bool {
        let name = class_name(route);
        let is_full = |class: &ClassUse| *class.name == *name && class.bytes >= class.limit / 64 * 63;
        route.share.is_some() && self.server.keyspace.use_of_classes().iter().any(is_full)
    }

    /// Whether a class takes more than it may.
    pub(super) fn is_any_share_passed(&self) -> bool {
        self.share_evictors.iter().any(|evictor| evictor.bytes_over_share() > 0)
    }

    /// Has the background evict where a class takes more than it may and nobody writes any more, and count what is not
    /// counted yet.
    pub fn notice_shares(&mut self) {
        let is_uncounted = self.share_evictors.iter().any(Evictor::has_to_count);
        self.is_evicting |= is_uncounted || self.is_any_share_passed();
    }

    /// Evicts of each class what it takes more than it may, for so long; the background does what is left then. The caller holds no shard.
    pub(super) fn keep_shares(&mut self, cause: Cause, time_max: Duration) {
        let (start, mut in_vain) = (clock::now(), 0);
        for evictor in &mut self.share_evictors {
            evictor.count_for(cause);
            while evictor.bytes_over_share() > 0 {
                let over = evictor.bytes_over_share();
                match evictor.evict(&self.server.keyspace, &mut self.local, over, EVICTIONS_BETWEEN_LOOKS) {
                    Evicted::Bytes(_) => in_vain = 0,
                    Evicted::NotYet => in_vain += EVICTIONS_BETWEEN_LOOKS,
                    Evicted::Nothing => break,
                }
                if start.elapsed() >= time_max || in_vain > LOOKS_IN_VAIN_MAX {
                    self.is_evicting = true;
                    return;
                }
            }
        }
    }

    /// Evicts keys of classes until memory in use is below a limit, where nothing else may leave. False where that is not
    /// enough.
    pub(super) fn take_from_shares(&mut self, limit: usize, time_max: Duration) -> bool {
        for at in 0..self.share_evictors.len() {
            std::mem::swap(&mut self.evictor, &mut self.share_evictors[at]);
            self.evictor.count_for(Cause::Command);
            let has_room = self.evict(limit, time_max);
            std::mem::swap(&mut self.evictor, &mut self.share_evictors[at]);
            if has_room {
                return true;
            }
        }
        false
    }

    /// Files keys of classes that were there before. True when all are.
    pub(super) fn adopt_into_shares(&mut self) -> bool {
        let (keyspace, local) = (&self.server.keyspace, &mut self.local);
        let mut is_done = true;
        for evictor in &mut self.share_evictors {
            is_done &= evictor.adopt(keyspace, local);
        }
        is_done
    }

    /// Has the policies of classes look around.
    pub(super) fn observe_shares(&mut self) {
        let (keyspace, local) = (&self.server.keyspace, &mut self.local);
        for evictor in &mut self.share_evictors {
            evictor.observe(keyspace, local);
        }
    }
}
