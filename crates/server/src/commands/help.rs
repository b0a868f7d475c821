//! The texts of HELP subcommands, in Redis' shape: an array of lines.

use crate::execute::Host;

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
