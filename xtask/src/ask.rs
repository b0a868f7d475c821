//! What a running server says about its own commands, by COMMAND DOCS and COMMAND INFO.
//!
//! Read next: `generate/compatibility.rs` and `generate/pages.rs`, which print it.

use larder_testkit::{Client, Server, Value};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// A command or a subcommand.
#[derive(Debug, Default, Clone)]
pub struct Entry {
    /// The family, in Redis' word.
    pub group: String,
    /// What it does.
    pub summary: String,
    /// The version that had it first.
    pub since: String,
    /// Its cost.
    pub complexity: String,
    /// The version that deprecated it and what replaces it.
    pub deprecated: Option<(String, String)>,
    /// Changes: (version, what).
    pub history: Vec<(String, String)>,
    /// Its grammar in one line, without the name.
    pub syntax: String,
    /// Words it takes, name included; negative: at least so many.
    pub arity: i64,
    /// COMMAND INFO's flags.
    pub flags: Vec<String>,
    /// COMMAND INFO's access categories.
    pub acl: Vec<String>,
    /// Whether it works only through subcommands.
    pub is_container: bool,
}

/// Every command of a server under its name in upper case, subcommands as `CLIENT ID`.
pub type Entries = BTreeMap<String, Entry>;

/// Starts a server and asks it.
pub fn entries(server: &Path, options: &[&str]) -> Result<Entries, String> {
    // The server starts in a folder of its own.
    let server = server.canonicalize().map_err(|error| format!("{}: {error}", server.display()))?;
    let running = Server::start(&server, options)?;
    let mut client = Client::connect_with(&running.address(), 3).map_err(|error| error.to_string())?;
    let mut ask = |question: &str| client.run(question).map_err(|error| format!("{question}: {error}"));
    let mut entries = Entries::new();
    add_docs(&mut entries, "", &ask("COMMAND DOCS")?);
    let info = ask("COMMAND INFO")?;
    add_info(&mut entries, info.items().unwrap_or_default());
    if entries.is_empty() {
        return Err(format!("{} knows no command", server.display()));
    }
    Ok(entries)
}

/// Writes names and groups of a server's commands, a line each.
pub fn record_commands(server: &Path, out: &Path) -> Result<(), String> {
    let entries = entries(server, &["--save", "", "--appendonly", "no"])?;
    let lines = entries.iter().map(|(name, entry)| format!("{}: {name}\n", entry.group));
    fs::write(out, lines.collect::<String>()).map_err(|error| format!("{}: {error}", out.display()))?;
    println!("{}: {} commands and subcommands", out.display(), entries.len());
    Ok(())
}

fn add_docs(entries: &mut Entries, container: &str, docs: &Value) {
    for (name, doc) in docs.pairs() {
        let name = full_name(&name.text());
        let text = |field: &str| doc.field(field).map(|value| value.text()).unwrap_or_default();
        let deprecated = doc.field("deprecated_since").map(|since| (since.text(), text("replaced_by")));
        let subcommands = doc.field("subcommands");
        let entry = Entry {
            group: text("group"),
            summary: text("summary"),
            since: text("since"),
            complexity: text("complexity"),
            deprecated,
            history: history(doc.field("history").as_ref()),
            syntax: syntax(doc.field("arguments").as_ref().and_then(Value::items).unwrap_or_default()),
            is_container: subcommands.is_some(),
            ..Entry::default()
        };
        if let Some(subcommands) = subcommands {
            add_docs(entries, &name, &subcommands);
        }
        debug_assert!(name.starts_with(container), "a subcommand carries its container's name");
        entries.insert(name, entry);
    }
}

fn add_info(entries: &mut Entries, info: &[Value]) {
    for row in info.iter().filter_map(Value::items) {
        let column = |index: usize| row.get(index).and_then(Value::items).unwrap_or_default();
        let words = |index: usize| column(index).iter().map(Value::text).collect();
        let name = row.first().map(|name| full_name(&name.text())).unwrap_or_default();
        if let Some(entry) = entries.get_mut(&name) {
            entry.arity = row.get(1).and_then(Value::integer).unwrap_or_default();
            entry.flags = words(2);
            entry.acl = words(6);
        }
        add_info(entries, column(9));
    }
}

/// `client|no-evict` is `CLIENT NO-EVICT`.
fn full_name(name: &str) -> String {
    name.to_uppercase().replace('|', " ")
}

/// RESP2 and RESP3 both answer a list of pairs.
fn history(history: Option<&Value>) -> Vec<(String, String)> {
    let rows = history.and_then(Value::items).unwrap_or_default();
    rows.iter()
        .filter_map(|row| match row.items()? {
            [version, change] => Some((version.text(), change.text())),
            _ => None,
        })
        .collect()
}

/// A grammar in the usual notation.
fn syntax(arguments: &[Value]) -> String {
    arguments.iter().map(argument).collect::<Vec<_>>().join(" ")
}

fn argument(argument: &Value) -> String {
    let text = |field: &str| argument.field(field).map(|value| value.text()).unwrap_or_default();
    let flags = argument.field("flags");
    let has = |flag: &str| {
        let words = flags.as_ref().and_then(Value::items).unwrap_or_default();
        words.iter().any(|word| word.bytes() == Some(flag.as_bytes()))
    };
    let inner = argument.field("arguments");
    let inner = inner.as_ref().and_then(Value::items).unwrap_or_default();
    let body = match text("type").as_str() {
        "pure-token" => String::new(),
        "oneof" => {
            let choices = inner.iter().map(self::argument).collect::<Vec<_>>().join(" | ");
            if has("optional") && text("token").is_empty() && !has("multiple") {
                choices
            } else {
                format!("<{choices}>")
            }
        }
        "block" => syntax(inner),
        _ => Some(text("display_text")).filter(|shown| !shown.is_empty()).unwrap_or_else(|| text("name")),
    };
    // An empty token is one that must be sent: `""`.
    let token = argument
        .field("token")
        .map(|token| if token.text().is_empty() { "\"\"".into() } else { token.text() });
    let once = [token.clone().unwrap_or_default(), body.clone()].join(" ").trim().to_owned();
    let all = match (has("multiple"), has("multiple_token")) {
        (false, _) => once,
        (true, true) => format!("{once} [{once} ...]"),
        (true, false) => format!("{once} [{body} ...]"),
    };
    if has("optional") { format!("[{all}]") } else { all }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::Bulk(text.as_bytes().to_vec())
    }

    fn arg(kind: &str, fields: &[(&str, Value)]) -> Value {
        let named = [("name", bulk("x")), ("type", bulk(kind))];
        Value::Map(named.iter().chain(fields).map(|(name, value)| (bulk(name), value.clone())).collect())
    }

    fn flags(words: &[&str]) -> Value {
        Value::Set(words.iter().map(|word| bulk(word)).collect())
    }

    #[test]
    fn a_grammar_is_one_line() {
        let token = |word: &str| arg("pure-token", &[("token", bulk(word))]);
        let one_of = arg(
            "oneof",
            &[("flags", flags(&["optional"])), ("arguments", Value::Array(vec![token("NX"), token("XX")]))],
        );
        let key = arg("key", &[("display_text", bulk("key")), ("flags", flags(&["multiple"]))]);
        let get = arg(
            "pattern",
            &[("token", bulk("GET")), ("flags", flags(&["optional", "multiple", "multiple_token"]))],
        );
        assert_eq!(syntax(&[key, one_of, get]), "key [key ...] [NX | XX] [GET x [GET x ...]]");
    }

    #[test]
    fn subcommands_are_entries_of_their_own() {
        let doc = |fields: Vec<(Value, Value)>| Value::Map(fields);
        let id = doc(vec![(bulk("client|id"), doc(vec![(bulk("group"), bulk("connection"))]))]);
        let docs = doc(vec![(bulk("client"), doc(vec![(bulk("subcommands"), id)]))]);
        let mut entries = Entries::new();
        add_docs(&mut entries, "", &docs);
        assert!(entries["CLIENT"].is_container);
        assert_eq!(entries["CLIENT ID"].group, "connection");
    }
}
