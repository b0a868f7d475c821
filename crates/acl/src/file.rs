//! The file of `aclfile`: a line `user NAME RULE ...` for each user.

use crate::catalog::Catalog;
use crate::rules::{RuleError, Rules};
use crate::users::Users;
use crate::words::{has_spaces, merge_selectors, up_to_zero};
use std::collections::BTreeMap;

/// Reads a file of users. `path` is how errors name it.
///
/// # Errors
/// Everything that is wrong with it, in Redis' words.
pub fn parse_file(
    catalog: &Catalog,
    path: &[u8],
    text: &[u8],
    all_channels: bool,
) -> Result<BTreeMap<Vec<u8>, Rules>, Vec<u8>> {
    let mut users = BTreeMap::new();
    let mut errors = Vec::new();
    for (index, line) in up_to_zero(text).split(|byte| *byte == b'\n').enumerate() {
        let line = trim(line, b" \t\r\n");
        if line.is_empty() {
            continue;
        }
        let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let place = [path, b":", (index + 1).to_string().as_bytes()].concat();
        let [b"user", name, rules @ ..] = words.as_slice() else {
            errors.extend_from_slice(&place);
            errors.extend_from_slice(b" should start with user keyword followed by the username. ");
            continue;
        };
        if has_spaces(name) {
            let text = [b"'", place.as_slice(), b": username '", name, b"' contains invalid characters. "];
            errors.extend_from_slice(&text.concat());
            continue;
        }
        if users.contains_key(*name) {
            let line = (index + 1).to_string();
            let text = [b"WARNING: Duplicate user '", *name, b"' found on line ", line.as_bytes(), b". "];
            errors.extend_from_slice(&text.concat());
            continue;
        }
        let mut user = Rules::new(all_channels);
        apply(catalog, &mut user, rules, all_channels, &place, &mut errors);
        users.insert(name.to_vec(), user);
    }
    if errors.is_empty() {
        return Ok(users);
    }
    errors.extend_from_slice(
        b"WARNING: ACL errors detected, no change to the previously active ACL rules was performed",
    );
    Err(errors)
}

/// Has a user obey the rules of a line; what is wrong with them goes into `errors`.
fn apply(
    catalog: &Catalog,
    user: &mut Rules,
    rules: &[&[u8]],
    all_channels: bool,
    place: &[u8],
    errors: &mut Vec<u8>,
) {
    let Ok(rules) = merge_selectors(rules) else {
        errors.extend_from_slice(place);
        errors.extend_from_slice(b": Unmatched parenthesis in selector definition.");
        return;
    };
    let mut is_told = false;
    for rule in rules {
        let rule = trim(&rule, b"\t\r\n");
        let Err(error) = user.apply(catalog, rule, all_channels) else { continue };
        // A name of a command is no secret; of what else is wrong the first is told, and nothing of its text.
        let text = error.text().as_bytes();
        if error == RuleError::Unknown {
            let parts = [place, b": Error in applying operation '", up_to_zero(rule), b"': ", text, b". "];
            errors.extend_from_slice(&parts.concat());
        } else if !std::mem::replace(&mut is_told, true) {
            errors.extend_from_slice(&[place, b": ", text, b". "].concat());
        }
    }
}

/// Writes a file of all users.
pub fn write_file(users: &Users) -> Vec<u8> {
    let mut text = Vec::new();
    for user in users.all() {
        text.extend_from_slice(&[b"user ", user.name(), b" ", &user.rules().describe(), b"\n"].concat());
    }
    text
}

fn trim<'t>(text: &'t [u8], blanks: &[u8]) -> &'t [u8] {
    let is_text = |byte: &u8| !blanks.contains(byte);
    match (text.iter().position(is_text), text.iter().rposition(is_text)) {
        (Some(from), Some(to)) => &text[from..=to],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(text: &str) -> String {
        let catalog = Catalog::default();
        let errors = parse_file(&catalog, b"f", text.as_bytes(), false).err().unwrap_or_default();
        let text = String::from_utf8(errors).unwrap();
        text.split("WARNING: ACL errors detected").next().unwrap_or_default().trim_end().to_owned()
    }

    #[test]
    fn errors_name_file_and_line() {
        assert_eq!(errors("user default on\n\n  user ann on ~*  \n"), "");
        assert_eq!(errors("# a comment"), "f:1 should start with user keyword followed by the username.");
        assert_eq!(errors("\nuser"), "f:2 should start with user keyword followed by the username.");
        assert_eq!(errors("user a\tb on"), "'f:1: username 'a\tb' contains invalid characters.");
        assert_eq!(errors("user a on\nuser a on"), "WARNING: Duplicate user 'a' found on line 2.");
        assert_eq!(errors("user a (~x"), "f:1: Unmatched parenthesis in selector definition.");
        // Of what may be a secret nothing is told, and once.
        assert_eq!(
            errors("user a #zz <secret"),
            "f:1: The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters."
        );
        assert_eq!(
            errors("user a +nope"),
            "f:1: Error in applying operation '+nope': Unknown command or category name in ACL."
        );
    }

    #[test]
    fn what_is_written_is_read_as_the_same() {
        let catalog: &'static Catalog = Box::leak(Box::default());
        let users = Users::new(catalog);
        let rules: Vec<Vec<u8>> = [&b"on"[..], b">pw", b"%R~a*", b"&c", b"(~b)"].map(<[u8]>::to_vec).into();
        users.set(b"ann", &rules, false).unwrap();
        let text = write_file(&users);
        let read = parse_file(catalog, b"f", &text, false).unwrap();
        assert_eq!(read.get(&b"ann"[..]), Some(&*users.get(b"ann").unwrap().rules()));
        users.replace(read);
        assert_eq!(write_file(&users), text);
    }
}
