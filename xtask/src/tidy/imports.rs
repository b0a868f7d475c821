//! Which crate of the workspace may use which, and what must not be linked into the data path.

use crate::metadata::Metadata;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Each member with the members it may use. An arrow that is not here does not exist:
/// `table <- store <- commands <- server`, the protocol and the formats beside them.
const MAY_USE: &[(&str, &[&str])] = &[
    ("larder-table", &[]),
    ("larder-values", &[]),
    ("larder-resp", &[]),
    ("larder-config", &[]),
    ("larder-policy", &[]),
    ("larder-source", &[]),
    ("larder-behind", &[]),
    ("larder-script", &["larder-resp", "larder-values"]),
    ("larder-source-fetch", &["larder-source"]),
    ("larder-source-net", &["larder-source"]),
    ("larder-source-http", DRIVERS_MAY_USE),
    ("larder-source-mysql", DRIVERS_MAY_USE),
    ("larder-source-postgres", DRIVERS_MAY_USE),
    ("larder-source-redis", DRIVERS_MAY_USE),
    ("larder-source-sqlite", DRIVERS_MAY_USE),
    (
        "larder-sources",
        &[
            "larder-source",
            "larder-source-http",
            "larder-source-mysql",
            "larder-source-net",
            "larder-source-postgres",
            "larder-source-redis",
            "larder-source-sqlite",
        ],
    ),
    ("larder-persist", &["larder-values"]),
    ("larder-store", &["larder-persist", "larder-policy", "larder-table", "larder-values"]),
    ("larder-commands", &["larder-store", "larder-values", "larder-persist", "larder-resp"]),
    ("larder-acl", &["larder-commands", "larder-resp", "larder-values"]),
    (
        "larder-server",
        &[
            "larder-acl",
            "larder-behind",
            "larder-commands",
            "larder-config",
            "larder-persist",
            "larder-policy",
            "larder-resp",
            "larder-script",
            "larder-source",
            "larder-source-fetch",
            "larder-sources",
            "larder-store",
            "larder-table",
            "larder-values",
        ],
    ),
    ("larder-bench", &["larder-policy", "larder-resp", "larder-values"]),
    ("larder-testkit", &["larder-resp", "larder-server"]),
    (
        "larder-fuzz",
        &[
            "larder-acl",
            "larder-behind",
            "larder-commands",
            "larder-config",
            "larder-persist",
            "larder-policy",
            "larder-resp",
            "larder-script",
            "larder-server",
            "larder-source",
            "larder-source-mysql",
            "larder-store",
            "larder-values",
        ],
    ),
    ("xtask", &["larder-commands", "larder-config", "larder-testkit"]),
];

/// What each driver of a store may use.
const DRIVERS_MAY_USE: &[&str] = &["larder-source", "larder-source-net"];

/// What tests of any member may use besides.
const TESTS_MAY_USE: &str = "larder-testkit";

/// Crates that must not be linked into these members: they bring a runtime of their own.
const NOT_LINKED: &[&str] = &["async-std", "axum", "hyper", "mio", "reqwest", "smol", "tokio"];

/// Where each dependency has its reason.
const REASONS: &str = "docs/dependencies.md";

/// All members that are the server or below it.
const DATA_PATH: &[&str] = &[
    "larder-table",
    "larder-values",
    "larder-resp",
    "larder-config",
    "larder-persist",
    "larder-policy",
    "larder-source",
    "larder-behind",
    "larder-script",
    "larder-store",
    "larder-commands",
    "larder-acl",
    "larder-server",
];

/// Problems with what members use.
pub fn check(metadata: &Metadata) -> Vec<String> {
    let mut problems = Vec::new();
    for (member, used) in &metadata.member_imports {
        let Some(allowed) = may_use(member) else {
            problems.push(format!("{member}: add it to MAY_USE in xtask/src/tidy/imports.rs"));
            continue;
        };
        let wrong = used.iter().filter(|name| !allowed.contains(&name.as_str()));
        problems.extend(wrong.map(|name| format!("{member} must not use {name}: imports run one way")));
        let in_tests = metadata.member_dev_imports.get(member).into_iter().flatten();
        let wrong =
            in_tests.filter(|name| !allowed.contains(&name.as_str()) && name.as_str() != TESTS_MAY_USE);
        problems
            .extend(wrong.map(|name| format!("tests of {member} must not use {name}: imports run one way")));
    }
    for member in DATA_PATH {
        let linked = metadata.linked.get(*member).into_iter().flatten();
        let wrong = linked.filter(|name| NOT_LINKED.contains(&name.as_str()));
        problems
            .extend(wrong.map(|name| format!("{member} must not link {name}: the data path is synchronous")));
    }
    problems
}

/// Problems with the reasons given for dependencies: each has one, and each reason a dependency.
pub fn check_reasons(metadata: &Metadata, root: &Path) -> Result<Vec<String>, String> {
    let text = fs::read_to_string(root.join(REASONS)).map_err(|error| format!("{REASONS}: {error}"))?;
    let given = reasons(&text);
    let mut problems = Vec::new();
    for name in metadata.foreign.difference(&given) {
        problems.push(format!("{REASONS}: has no sentence on {name}"));
    }
    for name in given.difference(&metadata.foreign) {
        problems.push(format!("{REASONS}: no member uses {name}"));
    }
    Ok(problems)
}

/// Lines of the form "- `name`: reason."
fn reasons(text: &str) -> BTreeSet<String> {
    let items = text.lines().filter_map(|line| line.strip_prefix("- `")?.split_once("`: "));
    items.filter(|(_, reason)| !reason.is_empty()).map(|(name, _)| name.to_owned()).collect()
}

fn may_use(member: &str) -> Option<&'static [&'static str]> {
    MAY_USE.iter().find(|(name, _)| *name == member).map(|(_, allowed)| *allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn metadata(member: &str, used: &str, linked: &str) -> Metadata {
        let one = |name: &str| BTreeMap::from([(member.to_owned(), BTreeSet::from([name.to_owned()]))]);
        Metadata { member_imports: one(used), linked: one(linked), ..Metadata::default() }
    }

    #[test]
    fn an_upward_import_is_a_problem() {
        assert!(check(&metadata("larder-store", "larder-table", "memchr")).is_empty());
        assert_eq!(check(&metadata("larder-store", "larder-commands", "memchr")).len(), 1);
        assert_eq!(check(&metadata("larder-store", "larder-table", "tokio")).len(), 1);
        assert_eq!(check(&metadata("larder-new", "larder-table", "memchr")).len(), 1);
    }

    #[test]
    fn a_reason_is_a_list_item_with_a_sentence() {
        let given = reasons("# Title\n- `memchr`: finds bytes.\n- `itoa`\ntext `libc`: no item\n");
        assert_eq!(given, BTreeSet::from(["memchr".to_owned()]));
    }

    #[test]
    fn allowed_imports_have_no_circle() {
        let mut done: Vec<&str> = Vec::new();
        while done.len() < MAY_USE.len() {
            let next = MAY_USE
                .iter()
                .find(|(name, used)| !done.contains(name) && used.iter().all(|below| done.contains(below)));
            done.push(next.expect("some member uses only what is done").0);
        }
    }
}
