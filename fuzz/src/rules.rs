//! Rules of users, and files of them.

use larder_acl::{Catalog, Rules, Selector, Users, merge_selectors, parse_file, write_file};
use larder_commands::Args;
use larder_resp::{Span, split_words};
use std::sync::OnceLock;

/// Any lines of rules make a user or are refused; what is shown of a user makes the same user; no command line breaks a
/// check; a file that is accepted is written and read as the same.
pub fn rules(data: &[u8]) {
    let catalog = catalog();
    let mut rules = Rules::new(false);
    for line in data.split(|byte| *byte == b'\n') {
        let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        for rule in merge_selectors(&words).unwrap_or_default() {
            let before = rules.clone();
            if rules.apply(catalog, &rule, false).is_err() {
                assert_eq!(rules, before, "a rule that is refused has changed nothing");
            }
        }
    }
    // Redis shows what stands in selectors without the quotes it had, and so do we: what needs them is not read again.
    if data.iter().any(|byte| b"\"'\\".contains(byte)) || !is_plain(&rules) {
        return;
    }
    let shown = rules.describe();
    let words: Vec<&[u8]> = shown.split(|byte| *byte == b' ').collect();
    let mut again = Rules::new(false);
    for rule in merge_selectors(&words).expect("what is shown can be read") {
        again.apply(catalog, &rule, false).expect("what is shown are rules");
    }
    assert_eq!(again.describe(), shown, "what is shown makes the same user");
    for line in data.split(|byte| *byte == b'\n') {
        check(&rules, &again, line);
    }
    if let Ok(users) = parse_file(catalog, b"file", data, false)
        && users.values().all(is_plain)
    {
        let all = Users::new(catalog);
        all.replace(users);
        let text = write_file(&all);
        let read = parse_file(catalog, b"file", &text, false).expect("what is written can be read");
        all.replace(read);
        assert_eq!(write_file(&all), text);
    }
}

/// Whether no bracket stands inside of a selector.
fn is_plain(rules: &Rules) -> bool {
    let texts = |selector: &Selector| {
        [selector.commands_text(), selector.keys_text(), selector.channels_text()].concat()
    };
    rules.selectors().skip(1).all(|selector| !texts(selector).iter().any(|byte| b"()".contains(byte)))
}

/// Both users may do the same with a command line.
fn check(one: &Rules, other: &Rules, line: &[u8]) {
    let Some(words) = split_words(line).filter(|words| !words.is_empty()) else { return };
    let Some(id) = catalog().find_line(words.iter().map(Vec::as_slice)) else { return };
    let mut start = 0;
    let spans: Vec<Span> = words
        .iter()
        .map(|word| {
            let span = Span { start, len: word.len() as u32 };
            start += span.len;
            span
        })
        .collect();
    let bytes = words.concat();
    let args = Args::new(&bytes, &spans);
    assert_eq!(one.check(catalog(), id, &args, 0), other.check(catalog(), id, &args, 0));
}

fn catalog() -> &'static Catalog {
    static CATALOG: OnceLock<Catalog> = OnceLock::new();
    CATALOG.get_or_init(|| {
        let mut catalog = Catalog::default();
        for command in larder_commands::commands() {
            let id = catalog.add(&command.spec, None);
            for sub in command.subcommands {
                catalog.add(&sub.spec, Some(id));
            }
        }
        catalog
    })
}
