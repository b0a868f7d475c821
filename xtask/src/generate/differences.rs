//! docs/DIFFERENCES.md: every `Differs from Redis:` of the sources, the defaults of options that
//! are not Redis', and the transcripts that are answered otherwise.

use super::{notice, quoted_pairs};
use crate::source::Source;
use std::fmt::Write;
use std::path::Path;

/// What marks a deviation in a comment.
const MARK: &str = "Differs from Redis:";

/// Transcripts in which Larder answers otherwise on purpose.
const KNOWN: &str = "tests/known_differences.toml";

/// The document.
pub fn render(root: &Path, sources: &[Source]) -> Result<String, String> {
    let mut page = format!("{}# Differences from Redis 8.2\n\n", notice());
    page +=
        "What is not listed here and answers otherwise than redis-server 8.2.3 is a bug.\n\n## Behaviour\n\n";
    for source in sources {
        for text in differences(&source.text) {
            writeln!(page, "- {text} ([{}](../{}))", short(&source.path), source.path).unwrap_or_default();
        }
    }
    page += "\n## Defaults of options\n\n| option | Redis | Larder | why |\n|---|---|---|---|\n";
    for difference in larder_config::DIFFERS {
        let ours = larder_config::lookup(difference.name.as_bytes()).map_or("", |option| option.default);
        let quoted = |value: &str| if value.is_empty() { "`\"\"`".into() } else { format!("`{value}`") };
        let (name, reason) = (difference.name, difference.reason);
        writeln!(page, "| {name} | {} | {} | {reason} |", quoted(difference.redis), quoted(ours))
            .unwrap_or_default();
    }
    page += "\n## Transcripts\n\n";
    let known = quoted_pairs(root, KNOWN)?;
    if known.is_empty() {
        page += "Every recorded transcript is answered as Redis answers it.\n";
    }
    for (case, reason) in known {
        writeln!(page, "- `{case}`: {reason}").unwrap_or_default();
    }
    Ok(page)
}

/// The marked remarks of a file; a remark goes on to the end of its paragraph of comments.
fn differences(text: &str) -> Vec<String> {
    let mut lines = text.lines().map(comment).peekable();
    let mut found = Vec::new();
    while let Some(line) = lines.next() {
        let Some((_, start)) = line.and_then(|line| line.split_once(MARK)) else { continue };
        let mut remark = start.trim().to_owned();
        while let Some(Some(more)) = lines.peek() {
            if more.is_empty() || more.contains(MARK) {
                break;
            }
            remark = format!("{remark} {more}");
            lines.next();
        }
        found.push(remark);
    }
    found
}

/// What a line that is a comment says; a comment behind code counts when it has the mark.
fn comment(line: &str) -> Option<&str> {
    let line = line.trim();
    let line = if line.contains(MARK) { line.get(line.find("//")?..)? } else { line };
    line.starts_with("//").then(|| line.trim_start_matches(['/', '!']).trim())
}

/// A path without `crates/` and `src/`.
fn short(path: &str) -> String {
    path.trim_start_matches("crates/").replacen("/src/", "/", 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remark_goes_on_to_the_end_of_its_comment() {
        let text = "/// Does a thing.\n///\n/// Differs from Redis: it answers\n/// two.\n///\n/// More.\nfn a() {}\n\
                    let b = 1; // Differs from Redis: three.\nlet c = 2;\n// Differs from Redis: a\n// Differs from Redis: b\n";
        assert_eq!(differences(text), ["it answers two.", "three.", "a", "b"]);
    }
}
