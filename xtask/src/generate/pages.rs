//! docs/commands: a page for each family, from the declarations as COMMAND DOCS and COMMAND INFO
//! of the built binary show them.

use super::{Files, notice};
use crate::ask::{Entries, Entry};
use std::collections::BTreeMap;
use std::fmt::Write;

/// All pages, and an index of them.
pub fn render(folder: &str, entries: &Entries) -> Files {
    let mut groups: BTreeMap<&str, Vec<(&String, &Entry)>> = BTreeMap::new();
    for (name, entry) in entries {
        groups.entry(&entry.group).or_default().push((name, entry));
    }
    let mut files = Files::new();
    let mut index = format!("{}# Commands\n\n| family | commands |\n|---|---|\n", notice());
    for (group, commands) in &groups {
        let links = commands.iter().filter(|(_, entry)| !entry.is_container);
        let links: Vec<String> =
            links.map(|(name, _)| format!("[{name}]({group}.md#{})", anchor(name))).collect();
        writeln!(index, "| [{group}]({group}.md) | {} |", links.join(", ")).unwrap_or_default();
        files.insert(format!("{folder}/{group}.md"), page(group, commands));
    }
    files.insert(format!("{folder}/README.md"), index);
    files
}

fn page(group: &str, commands: &[(&String, &Entry)]) -> String {
    let mut page = format!("{}# Commands: {group}\n", notice());
    for (name, entry) in commands.iter().filter(|(_, entry)| !entry.is_container) {
        page += &section(name, entry);
    }
    page
}

fn section(name: &str, entry: &Entry) -> String {
    let syntax = format!("{name} {}", entry.syntax);
    let mut text = format!("\n## {name}\n\n    {}\n\n{}\n\n", syntax.trim(), entry.summary);
    let mut fact = |what: &str, value: &str| {
        if !value.is_empty() {
            writeln!(text, "- {what}: {value}").unwrap_or_default();
        }
    };
    fact("Cost", &entry.complexity);
    fact("Since", &entry.since);
    fact("Words", &words(entry.arity));
    fact("Flags", &entry.flags.join(", "));
    fact("Categories", &entry.acl.join(", "));
    if let Some((since, replacement)) = &entry.deprecated {
        fact("Deprecated", &format!("since {since}; use {replacement}"));
    }
    for (version, change) in &entry.history {
        fact(version, change);
    }
    text
}

/// An arity in words.
fn words(arity: i64) -> String {
    if arity < 0 { format!("at least {}", arity.unsigned_abs()) } else { arity.to_string() }
}

/// The anchor that a Markdown heading gets.
fn anchor(name: &str) -> String {
    name.to_lowercase().replace(' ', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_tells_what_is_declared_and_the_index_links_to_it() {
        let entry = Entry {
            group: "string".into(),
            summary: "Answers the value.".into(),
            since: "1.0.0".into(),
            syntax: "key".into(),
            arity: 2,
            ..Entry::default()
        };
        let files = render("docs", &Entries::from([("GET".into(), entry)]));
        let page = &files["docs/string.md"];
        assert!(page.contains("## GET\n\n    GET key\n\nAnswers the value.\n\n- Since: 1.0.0\n- Words: 2\n"));
        assert!(files["docs/README.md"].contains("[GET](string.md#get)"));
    }
}
