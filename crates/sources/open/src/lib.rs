//! The stores that Larder can fetch from, by the scheme of their URLs, and the runtime on which they are asked. Each driver is a
//! feature of this crate.

#![forbid(unsafe_code)]

use larder_source::{Driver, Failure, FailureKind, SourceSpec};
pub use larder_source_net::Runtime;
use larder_source_net::{Options, Secret};
use std::sync::Arc;

/// Opens a store by its URL; the store itself is not asked yet.
type Open = fn(&str, &Options) -> Result<Arc<dyn Driver>, Failure>;

/// A kind of store: the scheme, the feature of its driver, and the driver if it is built in.
type Kind = (&'static str, &'static str, Option<Open>);

/// Every kind of store there is a driver for.
const KINDS: &[Kind] = &[
    ("sqlite", "sqlite", SQLITE),
    ("postgres", "postgres", POSTGRES),
    ("postgresql", "postgres", POSTGRES),
    ("mysql", "mysql", MYSQL),
    ("mariadb", "mysql", MYSQL),
    ("http", "http", HTTP),
    ("https", "http", HTTP),
    ("redis", "redis", REDIS),
    ("rediss", "redis", REDIS),
];

/// The driver of a feature, if it is built in.
macro_rules! driver {
    ($name:ident, $feature:literal, $open:path) => {
        #[cfg(feature = $feature)]
        const $name: Option<Open> = Some($open);
        #[cfg(not(feature = $feature))]
        const $name: Option<Open> = None;
    };
}

driver!(SQLITE, "sqlite", larder_source_sqlite::open);
driver!(POSTGRES, "postgres", larder_source_postgres::open);
driver!(MYSQL, "mysql", larder_source_mysql::open);
driver!(HTTP, "http", larder_source_http::open);
driver!(REDIS, "redis", larder_source_redis::open);

/// A driver for a source.
///
/// # Errors
/// There is no driver for the URL's scheme, the URL is wrong, or the password cannot be read.
pub fn open(spec: &SourceSpec) -> Result<Arc<dyn Driver>, Failure> {
    let open = opener(spec.scheme())?;
    let password = spec.read_password().map_err(|text| Failure::new(FailureKind::Refused, text))?;
    let options = Options {
        connections: spec.connections,
        connect_timeout: spec.connect_timeout,
        user: spec.user.clone(),
        password: password.map(Secret::new),
        ca_file: spec.ca_file.clone(),
        headers: spec.headers.clone(),
        poll: spec.poll,
        name: format!("larder_{}", spec.name.replace(|ch: char| !ch.is_ascii_alphanumeric(), "_")),
        ..Options::default()
    };
    open(&spec.url, &options)
}

/// The driver for a scheme.
fn opener(scheme: &str) -> Result<Open, Failure> {
    let built: Vec<&str> =
        KINDS.iter().filter(|(.., open)| open.is_some()).map(|(known, ..)| *known).collect();
    let unsupported = |text: String| Failure::new(FailureKind::Unsupported, text);
    match KINDS.iter().find(|(known, ..)| *known == scheme) {
        Some((_, _, Some(open))) => Ok(*open),
        Some((_, feature, None)) => Err(unsupported(format!(
            "this build has no driver for '{scheme}' (it was built without the feature '{feature}'); it has {}",
            built.join(", ")
        ))),
        None => {
            Err(unsupported(format!("there is no kind of store '{scheme}'; there are {}", built.join(", "))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_told_with_what_is() {
        let failure = opener("gopher").expect_err("there is none");
        assert_eq!(failure.kind, FailureKind::Unsupported);
        for (scheme, ..) in KINDS.iter().filter(|(.., open)| open.is_some()) {
            assert!(failure.text.contains(scheme), "{failure}");
        }
    }
}
