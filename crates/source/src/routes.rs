//! All routes together: which one has a key.

use crate::route::Route;
use crate::source::SourceSpec;
use std::sync::Arc;

/// The routes in force, and the sources they name.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    routes: Vec<Arc<Route>>,
    sources: Vec<Arc<SourceSpec>>,
    /// By the first byte of their keys, the places of the routes; the last one holds those with any.
    by_first: Vec<Vec<u16>>,
}

/// Most routes there may be.
pub const ROUTES_MAX: usize = 10_000;

impl Routes {
    /// These routes, over these sources.
    ///
    /// # Errors
    /// Two of them overlap, or there are too many: which one, and why.
    pub fn new(routes: Vec<Arc<Route>>, sources: Vec<Arc<SourceSpec>>) -> Result<Routes, String> {
        if routes.len() > ROUTES_MAX {
            return Err(format!("there can be {ROUTES_MAX} routes at most"));
        }
        let mut by_first = vec![Vec::new(); 257];
        for (place, route) in routes.iter().enumerate() {
            let first = route.pattern.prefix().first().map_or(256, |byte| usize::from(*byte));
            by_first[first].push(place as u16);
        }
        for (place, route) in routes.iter().enumerate() {
            for other in &routes[..place] {
                if other.db == route.db && other.pattern.overlaps(&route.pattern) {
                    return Err(format!(
                        "the pattern {} overlaps {}: a key of both would have two sources",
                        route.pattern, other.pattern
                    ));
                }
            }
        }
        Ok(Routes { routes, sources, by_first })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// All routes.
    pub fn all(&self) -> &[Arc<Route>] {
        &self.routes
    }

    /// All sources.
    pub fn sources(&self) -> &[Arc<SourceSpec>] {
        &self.sources
    }

    /// A source by its name.
    pub fn source(&self, name: &str) -> Option<&Arc<SourceSpec>> {
        self.sources.iter().find(|source| source.name == name)
    }

    /// The route of a key. O(routes whose pattern begins with the key's first byte).
    pub fn find(&self, db: u32, key: &[u8]) -> Option<&Arc<Route>> {
        let first = usize::from(*key.first()?);
        let places = self.by_first.get(first)?.iter().chain(self.by_first.get(256)?);
        places
            .filter_map(|place| self.routes.get(usize::from(*place)))
            .find(|route| route.db == db && route.pattern.has(key))
    }

    /// How long before its end a copy needs a look when it is read, as loads go at present: it may be old, or to be
    /// fetched anew. In milliseconds; 0 if no route asks for that. O(routes).
    pub fn attention_ms(&self) -> u64 {
        let longest = self.routes.iter().map(|route| route.attention()).max();
        longest.map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    }

    /// The first bytes that keys of routes have, a bit for each.
    pub fn firsts(&self) -> [u64; 4] {
        let mut firsts = [0; 4];
        for route in &self.routes {
            match route.pattern.prefix().first() {
                Some(first) => firsts[usize::from(first >> 6)] |= 1 << (first & 63),
                None => firsts = [u64::MAX; 4],
            }
        }
        firsts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::Language;

    #[test]
    fn a_key_has_one_route() {
        let one = |pattern: &str| {
            let query = "SELECT 1";
            let line = [pattern, "shop", "as", "string", "query", query];
            let words: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
            Arc::new(Route::parse(&words, |_| Some(Language::Sql)).expect(pattern))
        };
        let routes =
            Routes::new(vec![one("user:<id:int>"), one("user:me"), one("<a>!")], Vec::new()).expect("apart");
        let found = |key: &[u8]| routes.find(0, key).map(|route| route.pattern.text().to_owned());
        assert_eq!(found(b"user:42").as_deref(), Some("user:<id:int>"));
        assert_eq!(found(b"user:me").as_deref(), Some("user:me"));
        assert_eq!(found(b"x!").as_deref(), Some("<a>!"));
        assert_eq!((found(b"other"), found(b"")), (None, None));
        assert!(routes.find(1, b"user:me").is_none());
        let error = Routes::new(vec![one("user:<id>"), one("user:me")], Vec::new()).expect_err("overlap");
        assert!(error.contains("user:me overlaps user:<id>"), "{error}");
    }
}
