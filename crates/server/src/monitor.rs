//! MONITOR: every command as a line of text, for the connections that asked for it.

use crate::connection::Connection;
use crate::registry::Row;
use larder_commands::Args;
use larder_config::{Flags, lookup};
use larder_store::DbIndex;

/// Commands whose words must not be shown: all words from this one on are replaced.
const SECRETS: &[(&str, usize)] = &[
    ("auth", 1),
    ("acl|setuser", 2),
    ("acl|getuser", 2),
    ("acl|deluser", 2),
    ("migrate", usize::MAX),
    ("hello", usize::MAX),
];

/// What stands for a secret.
const REDACTED: &[u8] = b"(redacted)";

/// The words of a command with secrets replaced.
pub fn redacted<'a>(row: &Row, args: &Args<'a>) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
    let from = SECRETS.iter().find(|(name, _)| *name == row.name).map(|(_, from)| *from);
    let mut words: Vec<&'a [u8]> = args.from(0).collect();
    match from {
        // AUTH: every word is a secret. ACL: who there is, and what they may.
        Some(first) if first != usize::MAX => words.iter_mut().skip(first).for_each(|word| *word = REDACTED),
        // HELLO and MIGRATE: the one or two words behind AUTH or AUTH2.
        Some(_) => {
            let at = words
                .iter()
                .position(|word| word.eq_ignore_ascii_case(b"auth") || word.eq_ignore_ascii_case(b"auth2"));
            if let Some(at) = at {
                words.iter_mut().skip(at + 1).take(2).for_each(|word| *word = REDACTED);
            }
        }
        None if row.name == "config|set" => {
            for pair in words.get_mut(2..).unwrap_or_default().chunks_mut(2) {
                if let [name, value] = pair
                    && lookup(name).is_some_and(|option| option.flags.has(Flags::SENSITIVE))
                {
                    *value = REDACTED;
                }
            }
        }
        None => {}
    }
    words.into_iter()
}

/// One line of MONITOR as a simple string reply.
pub fn line(conn: &Connection, row: &Row, args: &Args<'_>, unix_micros: u64) -> Vec<u8> {
    let who = if conn.client.is_unix {
        format!("unix:{}", conn.client.local_address.trim_end_matches(":0"))
    } else {
        conn.client.address.clone()
    };
    line_of(&who, conn.db, row, args, unix_micros)
}

/// The same for a command of a script.
pub fn line_of_script(db: DbIndex, row: &Row, args: &Args<'_>, unix_micros: u64) -> Vec<u8> {
    line_of("lua", db, row, args, unix_micros)
}

fn line_of(who: &str, db: DbIndex, row: &Row, args: &Args<'_>, unix_micros: u64) -> Vec<u8> {
    let (secs, micros) = (unix_micros / 1_000_000, unix_micros % 1_000_000);
    let mut line = format!("+{secs}.{micros:06} [{} {who}]", db.0).into_bytes();
    for word in redacted(row, args) {
        line.push(b' ');
        quote(word, &mut line);
    }
    line.extend_from_slice(b"\r\n");
    line
}

/// Appends a word in double quotes, unprintable bytes escaped.
pub fn quote(word: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in word {
        match byte {
            b'\\' | b'"' => out.extend_from_slice(&[b'\\', *byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x07 => out.extend_from_slice(b"\\a"),
            0x08 => out.extend_from_slice(b"\\b"),
            b' '..=b'~' => out.push(*byte),
            _ => out.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
        }
    }
    out.push(b'"');
}
