//! What containers of subcommands answer in the same way: HELP, in Redis' shape of an array of lines,
//! and the refusal of a subcommand that was not understood.

use super::connection::shown_name;
use crate::execute::Host;
use larder_commands::Error;

/// Bytes of a word that an error repeats.
const WORD_BYTES_MAX: usize = 128;

/// Answers the help of `container`: a heading, `lines`, and HELP itself.
pub(super) fn help(host: &mut Host<'_>, container: &str, lines: &[&str]) {
    let mut reply = host.reply();
    reply.array(lines.len() + 3);
    reply.simple(&format!("{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    for line in lines {
        reply.simple(line);
    }
    reply.simple("HELP");
    reply.simple("    Prints this text.");
}

/// The refusal of a subcommand that does not exist or not with so many words; `word` as it was given.
pub(super) fn misused(container: &str, word: &[u8]) -> Error {
    let mut text = b"ERR unknown subcommand or wrong number of arguments for '".to_vec();
    text.extend_from_slice(shown_name(word.get(..WORD_BYTES_MAX).unwrap_or(word)));
    text.extend_from_slice(b"'. Try ");
    text.extend_from_slice(container.as_bytes());
    text.extend_from_slice(b" HELP.");
    Error::custom(text)
}
