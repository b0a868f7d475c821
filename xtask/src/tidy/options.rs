//! Options that nobody reads: a user who sets one has a right to see that something changes.

use crate::source::Source;
use larder_config::{OPTIONS, Support};

/// The file whose rows make the accessors: what stands there reads nothing.
const TABLE: &str = "crates/config/src/options.rs";

/// Live options that no product code reads yet, and why. One that is read must go from here.
const UNREAD: &[(&str, &str)] = &[];

/// Live options whose accessor is called nowhere but in tests.
pub fn check(sources: &[Source]) -> Vec<String> {
    let live = OPTIONS.iter().filter(|spec| spec.support == Support::Live).map(|spec| spec.name);
    problems(live, UNREAD, sources)
}

fn problems<'a>(
    live: impl Iterator<Item = &'a str>,
    unread: &[(&str, &str)],
    sources: &[Source],
) -> Vec<String> {
    live.filter_map(|name| {
        let is_excused = unread.iter().any(|(excused, _)| *excused == name);
        match (is_read(name, sources), is_excused) {
            (false, false) => Some(format!("{TABLE}: nothing reads '{name}'; give it an effect or fix it")),
            (true, true) => Some(format!("{TABLE}: '{name}' is read; take it from the list of unread ones")),
            _ => None,
        }
    })
    .collect()
}

fn is_read(name: &str, sources: &[Source]) -> bool {
    let accessor = name.replace('-', "_");
    let product = sources.iter().filter(|source| {
        !source.is_test && source.path != TABLE && matches!(source.crate_name(), Some("config" | "server"))
    });
    product.into_iter().any(|source| {
        let tests = source.test_ranges();
        source.find_word(&accessor).into_iter().any(|at| {
            let is_call =
                source.code[..at].ends_with('.') && source.code[at + accessor.len()..].starts_with("()");
            is_call && !tests.iter().any(|range| range.contains(&at))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_counts_as_read_when_product_code_calls_its_accessor() {
        let sources = [
            Source::new("crates/server/src/a.rs".into(), "fn a(s: &S) { s.one(); two(); }".into()),
            Source::new(
                "crates/server/src/b.rs".into(),
                "#[cfg(test)]\nmod tests {\n    fn b(s: &S) { s.two_three(); }\n}\n".into(),
            ),
            Source::new("crates/server/tests/c.rs".into(), "fn c(s: &S) { s.two_three(); }".into()),
        ];
        let found = |unread: &[(&str, &str)]| problems(["one", "two-three"].into_iter(), unread, &sources);
        assert_eq!(found(&[]).len(), 1);
        assert!(found(&[])[0].contains("'two-three'"));
        assert!(found(&[("two-three", "why")]).is_empty());
        assert_eq!(found(&[("two-three", "why"), ("one", "why")]).len(), 1);
    }
}
