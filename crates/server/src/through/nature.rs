//! What routes say of keys, for invalidations: their tags, and how long they may be given old.
//!
//! An invalidation holds on to the routes that were in force when it was entered: a key that loses its tag since was concerned.

use larder_source::Routes;
use larder_store::Nature;
use parking_lot::Mutex;
use std::sync::Arc;

/// The routes of one database.
#[derive(Debug)]
pub struct ByRoutes {
    db: u32,
    routes: Arc<Routes>,
}

/// The natures of databases by the routes in force, each made once, so that invalidations share them.
#[derive(Debug, Default)]
pub struct Natures(Mutex<Vec<Arc<ByRoutes>>>);

impl Natures {
    /// That of a database.
    pub fn of(&self, db: u32, routes: &Arc<Routes>) -> Arc<ByRoutes> {
        let mut known = self.0.lock();
        known.retain(|nature| Arc::ptr_eq(&nature.routes, routes));
        if let Some(nature) = known.iter().find(|nature| nature.db == db) {
            return Arc::clone(nature);
        }
        let nature = Arc::new(ByRoutes { db, routes: Arc::clone(routes) });
        known.push(Arc::clone(&nature));
        nature
    }
}

impl Nature for ByRoutes {
    fn tags(&self, key: &[u8], visit: &mut dyn FnMut(&[u8])) {
        if let Some(route) = self.routes.find(self.db, key) {
            route.tags_of(key, visit);
        }
    }

    fn grace_ms(&self, key: &[u8]) -> u64 {
        let grace = self.routes.find(self.db, key).map(|route| route.grace().as_millis());
        grace.map_or(0, |grace| u64::try_from(grace).unwrap_or(u64::MAX))
    }
}
