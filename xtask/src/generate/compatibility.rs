//! docs/COMPATIBILITY.md: every command of the reference servers, and whether the built binary has it.

use super::{notice, quoted_pairs};
use crate::ask::Entries;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// The reference servers and where their commands are recorded.
const REDIS: (&str, &str) = ("redis-server 8.2.3", "xtask/data/redis-8.2.3.txt");
const VALKEY: (&str, &str) = ("valkey-server 9.1.2", "xtask/data/valkey-9.1.2.txt");

/// Remarks written by hand, one a command.
const REMARKS: &str = "xtask/data/remarks.toml";

/// Commands of a recorded server: name to group.
type Recorded = BTreeMap<String, String>;

/// The document.
pub fn render(root: &Path, ours: &Entries) -> Result<String, String> {
    let (redis, valkey) = (recorded(root, REDIS.1)?, recorded(root, VALKEY.1)?);
    let remarks = quoted_pairs(root, REMARKS)?;
    let groups = by_group(ours, &redis, &valkey);
    let all: BTreeSet<&String> = groups.values().flatten().collect();
    if let Some(name) = remarks.keys().find(|name| !all.contains(name)) {
        return Err(format!("{REMARKS}: {name:?} is the name of no command"));
    }
    Ok(document(ours, &redis, &valkey, &remarks, &groups))
}

fn document(
    ours: &Entries,
    redis: &Recorded,
    valkey: &Recorded,
    remarks: &BTreeMap<String, String>,
    groups: &BTreeMap<String, BTreeSet<String>>,
) -> String {
    let mut page = format!("{}# Compatibility\n\n", notice());
    page += "Every command and subcommand of the reference servers. The column `larder` is what the built \
             binary answers to COMMAND DOCS; a command that is not there is refused as an unknown command, and one \
             that is `refused` is known, answers an error and is not counted.\n\n";
    page += "| | larder has | of |\n|---|---|---|\n";
    for (name, recorded) in [(REDIS.0, redis), (VALKEY.0, valkey)] {
        let there = recorded.keys().filter(|command| served(ours, remarks, command) == "yes").count();
        writeln!(page, "| {name} | {there} | {} |", recorded.len()).unwrap_or_default();
    }
    for (group, names) in groups {
        let there = names.iter().filter(|name| served(ours, remarks, name) == "yes").count();
        write!(page, "\n## {group} ({there} of {})\n\n", names.len()).unwrap_or_default();
        page += "| command | redis 8.2.3 | valkey 9.1.2 | larder | remarks |\n|---|---|---|---|---|\n";
        for name in names {
            let row = [redis.contains_key(name), valkey.contains_key(name)];
            let [redis, valkey] = row.map(|there| if there { "yes" } else { "no" });
            let (larder, remark) = (served(ours, remarks, name), remark(remarks, name));
            writeln!(page, "| {name} | {redis} | {valkey} | {larder} | {remark} |").unwrap_or_default();
        }
    }
    page
}

/// The remark on a command; that on a container holds for its subcommands.
fn remark<'a>(remarks: &'a BTreeMap<String, String>, name: &str) -> &'a str {
    let container = name.split(' ').next().unwrap_or(name);
    remarks.get(name).or_else(|| remarks.get(container)).map_or("", String::as_str)
}

/// Whether Larder has a command: a remark that begins so says that it has it to refuse it.
fn served(ours: &Entries, remarks: &BTreeMap<String, String>, name: &str) -> &'static str {
    match ours.contains_key(name) {
        true if remark(remarks, name).starts_with("refused") => "refused",
        true => "yes",
        false => "no",
    }
}

fn by_group(ours: &Entries, redis: &Recorded, valkey: &Recorded) -> BTreeMap<String, BTreeSet<String>> {
    let mut groups: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let names: BTreeSet<&String> = ours.keys().chain(redis.keys()).chain(valkey.keys()).collect();
    for name in names {
        let group =
            redis.get(name).or_else(|| valkey.get(name)).or_else(|| ours.get(name).map(|entry| &entry.group));
        groups.entry(group.cloned().unwrap_or_default()).or_default().insert(name.clone());
    }
    groups
}

fn recorded(root: &Path, path: &str) -> Result<Recorded, String> {
    let text = fs::read_to_string(root.join(path)).map_err(|error| format!("{path}: {error}"))?;
    let lines = text.lines().map(|line| {
        let (group, name) = line.split_once(": ").ok_or_else(|| format!("{path}: {line:?}"))?;
        Ok((name.to_owned(), group.to_owned()))
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::Entry;

    #[test]
    fn a_command_is_there_only_when_the_binary_says_so() {
        let recorded = |names: &[&str]| names.iter().map(|name| ((*name).into(), "string".into())).collect();
        let (redis, valkey): (Recorded, Recorded) = (recorded(&["GET", "SET"]), recorded(&["GET", "MSETEX"]));
        let ours = Entries::from([("GET".into(), Entry::default()), ("MSETEX".into(), Entry::default())]);
        let remarks = BTreeMap::from([("SET".into(), "later".into())]);
        let page = document(&ours, &redis, &valkey, &remarks, &by_group(&ours, &redis, &valkey));
        assert!(page.contains("| redis-server 8.2.3 | 1 | 2 |"));
        assert!(page.contains("| valkey-server 9.1.2 | 2 | 2 |"));
        assert!(page.contains("## string (2 of 3)"));
        assert!(page.contains("| GET | yes | yes | yes |  |"));
        assert!(page.contains("| MSETEX | no | yes | yes |  |"));
        assert!(page.contains("| SET | yes | no | no | later |"));
    }

    #[test]
    fn what_is_there_to_be_refused_does_not_count() {
        let redis = Recorded::from([("ROOM".into(), "server".into()), ("ROOM SIZE".into(), "server".into())]);
        let ours = redis.keys().map(|name| (name.clone(), Entry::default())).collect();
        let remarks = BTreeMap::from([("ROOM".into(), "refused for want of room".into())]);
        let groups = by_group(&ours, &redis, &Recorded::new());
        let page = document(&ours, &redis, &Recorded::new(), &remarks, &groups);
        assert!(page.contains("| redis-server 8.2.3 | 0 | 2 |"));
        assert!(page.contains("| ROOM SIZE | yes | no | refused | refused for want of room |"));
    }
}
