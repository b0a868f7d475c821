//! Dependencies that a manifest names and no file of the member uses.

use crate::metadata::Metadata;
use crate::source::Source;

/// Problems with what manifests name.
pub fn check(metadata: &Metadata, sources: &[Source]) -> Vec<String> {
    let mut problems = Vec::new();
    for (folder, dependencies) in &metadata.named {
        let own = || sources.iter().filter(|source| source.path.starts_with(&format!("{folder}/")));
        let unused = dependencies.iter().filter(|name| {
            // The only package here whose library has another name.
            let word = if name.as_str() == "md-5" { "md5".to_owned() } else { name.replace('-', "_") };
            !own().any(|source| !source.find_word(&word).is_empty())
        });
        problems.extend(unused.map(|name| format!("{folder}/Cargo.toml: nothing uses {name}")));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn a_name_in_a_comment_is_no_use() {
        let named =
            BTreeMap::from([("crates/store".to_owned(), BTreeSet::from(["crossbeam-utils".to_owned()]))]);
        let metadata = Metadata { named, ..Metadata::default() };
        let source = |text: &str| vec![Source::new("crates/store/src/a.rs".into(), text.into())];
        assert!(check(&metadata, &source("use crossbeam_utils::CachePadded;")).is_empty());
        assert_eq!(check(&metadata, &source("// crossbeam_utils")).len(), 1);
        assert_eq!(check(&metadata, &[]).len(), 1);
    }
}
