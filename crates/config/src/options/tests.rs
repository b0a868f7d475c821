//! The table of options agrees with itself: names, defaults, bounds.

use super::*;
use std::collections::BTreeSet;

fn shown(settings: &Settings, spec: &OptionSpec) -> String {
    let mut out = Vec::new();
    (spec.ops.show)(settings, spec, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn every_default_is_accepted_by_its_own_kind_and_shown_as_written() {
    let mut settings = Settings::default();
    for spec in OPTIONS {
        (spec.ops.assign)(&mut settings, spec, &words_of(&spec.kind, spec.default.as_bytes()), Context::Set)
            .expect(spec.name);
        if spec.name != "dir" {
            assert_eq!(shown(&settings, spec), spec.default, "{}", spec.name);
        }
    }
    assert_eq!(settings, Settings::default());
}

#[test]
fn names_and_aliases_are_unique_and_in_lower_case() {
    let mut seen = BTreeSet::new();
    for name in OPTIONS.iter().flat_map(OptionSpec::names).chain(RETIRED.iter().copied()) {
        assert!(seen.insert(name), "{name} stands twice");
        assert_eq!(name, name.to_ascii_lowercase());
    }
}

#[test]
fn an_accessor_is_called_as_its_option() {
    for (name, accessor) in ACCESSORS {
        assert_eq!(name.replace('-', "_"), *accessor);
    }
}

#[test]
fn every_row_has_a_sentence_and_every_difference_a_row() {
    for spec in OPTIONS {
        assert!(spec.doc.ends_with('.') && !spec.doc.contains('\n'), "{}", spec.name);
    }
    for difference in DIFFERS {
        let spec = lookup(difference.name.as_bytes()).expect(difference.name);
        assert_ne!(spec.default, difference.redis, "{}", spec.name);
        assert!(spec.difference().is_some());
    }
}

#[test]
fn the_bounds_of_a_number_fit_its_type() {
    for spec in OPTIONS {
        let (Kind::Int { min, max, .. } | Kind::Memory { min, max, .. }) = spec.kind else { continue };
        if !spec.has_field() {
            continue;
        }
        for bound in [min, max] {
            let mut settings = Settings::default();
            (spec.ops.assign)(&mut settings, spec, &[bound.to_string().as_bytes()], Context::Set)
                .expect(spec.name);
            assert_eq!(shown(&settings, spec), bound.to_string(), "{}", spec.name);
        }
    }
}
