//! BGREWRITEAOF: a new base for the append-only log.

use crate::execute::Host;
use crate::journal::{Asked, ask_for_rewrite};
use crate::registry::{HostCommand, HostRun};
use larder_commands::spec::{Flags, Group};
use larder_commands::{Args, Error, Spec};

/// `BGREWRITEAOF`
pub static BGREWRITEAOF: HostCommand = HostCommand {
    spec: Spec {
        name: "bgrewriteaof",
        summary: "Has the append-only log begin anew with a snapshot, in the background.",
        complexity: "O(1)",
        group: Group::Server,
        arity: 1,
        flags: Flags::ADMIN.or(Flags::NO_ASYNC_LOADING).or(Flags::NO_SCRIPT),
        ..Spec::EMPTY
    },
    run: HostRun::Host(bgrewriteaof),
    subcommands: &[],
};

fn bgrewriteaof(host: &mut Host<'_>, _: &Args<'_>) -> Result<(), Error> {
    match ask_for_rewrite(host.server(), host.conn.is_in_exec) {
        Asked::Begun => host.reply().simple("Background append only file rewriting started"),
        Asked::Scheduled => host.reply().simple("Background append only file rewriting scheduled"),
        Asked::UnderWay => {
            return Err(Error::of("ERR Background append only file rewriting already in progress"));
        }
        Asked::Impossible => {
            return Err(Error::of(
                "ERR Can't execute an AOF background rewriting. Please check the server logs for more information.",
            ));
        }
    }
    Ok(())
}
