//! The workspace as cargo sees it.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// Members that run on threads of their own beside the data path, with a runtime: what is below them counts for nobody above.
const ASIDE: &[&str] = &["larder-source-fetch", "larder-sources"];

/// Members of the workspace and the whole tree below them.
#[derive(Debug, Default)]
pub struct Metadata {
    /// Direct dependencies of each member on members: (name, its dependencies), build and normal ones.
    pub member_imports: BTreeMap<String, BTreeSet<String>>,
    /// The same for dev-dependencies.
    pub member_dev_imports: BTreeMap<String, BTreeSet<String>>,
    /// All that is linked into each member, by name; but for what is linked only through [`ASIDE`].
    pub linked: BTreeMap<String, BTreeSet<String>>,
    /// What members name in their manifests and is no member itself.
    pub foreign: BTreeSet<String>,
    /// What each member's manifest names, under the member's folder.
    pub named: BTreeMap<String, BTreeSet<String>>,
}

/// Asks cargo.
pub fn read(root: &Path) -> Result<Metadata, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(root)
        .args(["metadata", "--format-version", "1", "--filter-platform", "x86_64-unknown-linux-gnu"])
        .output()
        .map_err(|error| format!("cannot run cargo metadata: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr)));
    }
    let json: Value =
        serde_json::from_slice(&output.stdout).map_err(|error| format!("cargo metadata: {error}"))?;
    Ok(digest(&json, root))
}

fn digest(json: &Value, root: &Path) -> Metadata {
    let members: BTreeSet<&str> = list(&json["workspace_members"]).iter().map(text).collect();
    let names: BTreeMap<&str, &str> = list(&json["packages"])
        .iter()
        .map(|package| (text(&package["id"]), text(&package["name"])))
        .collect();
    let nodes: BTreeMap<&str, &Value> =
        list(&json["resolve"]["nodes"]).iter().map(|node| (text(&node["id"]), node)).collect();
    let name = |id: &str| names.get(id).copied().unwrap_or_default().to_owned();
    let direct = |id: &str, dev: bool| -> BTreeSet<&str> {
        list(nodes.get(id).map_or(&Value::Null, |node| &node["deps"]))
            .iter()
            .filter(|dep| list(&dep["dep_kinds"]).iter().any(|kind| (kind["kind"] == "dev") == dev))
            .map(|dep| text(&dep["pkg"]))
            .collect()
    };
    let mut metadata = Metadata::default();
    for package in list(&json["packages"]).iter().filter(|package| members.contains(text(&package["id"]))) {
        add_named(&mut metadata, package, root);
    }
    for &member in &members {
        let on_members = |ids: BTreeSet<&str>| -> BTreeSet<String> {
            ids.into_iter().filter(|id| members.contains(id)).map(name).collect()
        };
        metadata.member_imports.insert(name(member), on_members(direct(member, false)));
        metadata.member_dev_imports.insert(name(member), on_members(direct(member, true)));
        let mut linked = BTreeSet::new();
        let mut open = vec![member];
        while let Some(id) = open.pop() {
            if id == member || !ASIDE.contains(&name(id).as_str()) {
                open.extend(direct(id, false).into_iter().filter(|below| linked.insert(*below)));
            }
        }
        metadata.linked.insert(name(member), linked.into_iter().map(name).collect());
    }
    metadata
}

/// What a member's manifest names.
fn add_named(metadata: &mut Metadata, package: &Value, root: &Path) {
    let folder = Path::new(text(&package["manifest_path"])).parent().unwrap_or(root);
    let folder = folder.strip_prefix(root).unwrap_or(folder).to_string_lossy().into_owned();
    let dependencies = list(&package["dependencies"]);
    let names = dependencies.iter().map(|dependency| text(&dependency["name"]).to_owned());
    metadata.named.insert(folder, names.collect());
    let foreign = dependencies.iter().filter(|dependency| dependency["path"].is_null());
    metadata.foreign.extend(foreign.map(|dependency| text(&dependency["name"]).to_owned()));
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
