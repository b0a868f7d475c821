//! Whether who asks may: the check of a command line against the rules of a connection's user, and what becomes of it
//! where it may not.

use super::{Core, Waiters};
use crate::access::entry_of;
use crate::clients::Client;
use crate::connection::{Closing, Connection};
use crate::registry::Row;
use larder_acl::{Context, Denied, User, error_text};
use larder_commands::{Args, Error};

impl Core {
    /// Sees that a connection's user may run a command.
    ///
    /// # Errors
    /// The refusal. A connection whose user is gone ends.
    #[inline]
    pub(super) fn check_access(
        &self,
        conn: &mut Connection,
        row: &'static Row,
        args: &Args<'_>,
    ) -> Result<(), Error> {
        if conn.user.is_free() { Ok(()) } else { self.check_rules(conn, row, args) }
    }

    #[inline(never)]
    fn check_rules(&self, conn: &mut Connection, row: &'static Row, args: &Args<'_>) -> Result<(), Error> {
        let catalog = self.server.registry.catalog();
        let Err(denied) = conn.user.check(catalog, row.id, args, conn.db.0) else { return Ok(()) };
        if conn.user.is_gone() {
            conn.closing = Closing::Now;
        }
        let context = if conn.transaction.is_some() { Context::Multi } else { Context::TopLevel };
        self.note_denied(&conn.user, &conn.client, (row, denied), args, context);
        Err(refusal(catalog, &conn.user, row.id, denied))
    }

    /// What EXEC answers for a command that was allowed when it was queued and is not any more.
    pub(super) fn denied_in_exec(
        &self,
        conn: &Connection,
        row: &'static Row,
        args: &Args<'_>,
    ) -> Option<Vec<u8>> {
        let catalog = self.server.registry.catalog();
        let denied = conn.user.check(catalog, row.id, args, conn.db.0).err()?;
        self.note_denied(&conn.user, &conn.client, (row, denied), args, Context::Multi);
        let text = b"NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. \
            This command is no longer allowed for the following reason: ";
        Some([&text[..], denied.reason().as_bytes()].concat())
    }

    /// Sees that a connection's user may run a command that its script calls.
    ///
    /// # Errors
    /// The refusal.
    #[inline]
    pub(super) fn check_access_in_script(
        &self,
        conn: &Connection,
        row: &'static Row,
        args: &Args<'_>,
    ) -> Result<(), Error> {
        if conn.user.is_free() {
            return Ok(());
        }
        let catalog = self.server.registry.catalog();
        let Err(denied) = conn.user.check(catalog, row.id, args, conn.db.0) else { return Ok(()) };
        self.note_denied(&conn.user, &conn.client, (row, denied), args, Context::Lua);
        let text = error_text(catalog, conn.user.name(), row.id, denied, None);
        Err(Error::custom([&b"ERR ACL failure in script: "[..], &text].concat()))
    }

    /// Notes in ACL LOG, and in the counters of INFO, that a command line was denied.
    fn note_denied(
        &self,
        user: &User,
        client: &Client,
        (row, denied): (&Row, Denied),
        args: &Args<'_>,
        context: Context,
    ) {
        let now_ms = self.local.now.0;
        let catalog = self.server.registry.catalog();
        let word = args.get(denied.word());
        let entry = entry_of(catalog, user, (row.id, denied), word, context, now_ms);
        let line = || crate::commands::client_line(self.server, now_ms, client);
        self.server.access.note_denied(entry, line, &self.settings);
    }
}

/// The error reply for what is denied.
fn refusal(catalog: &larder_acl::Catalog, user: &User, id: usize, denied: Denied) -> Error {
    let mut text = b"NOPERM ".to_vec();
    text.extend_from_slice(&error_text(catalog, user.name(), id, denied, None));
    Error::custom(text)
}

impl Waiters<'_> {
    /// Whether a client that waits may still run its command: its rules may have changed meanwhile.
    ///
    /// # Errors
    /// The refusal.
    pub(super) fn check_access(
        self,
        client: u64,
        kept: &crate::blocked::Kept,
        now_ms: u64,
    ) -> Result<(), Error> {
        let (user, args, row) = (&kept.user, kept.args(), kept.row);
        let catalog = self.server.registry.catalog();
        let Err(denied) = user.check(catalog, row.id, &args, kept.db.0) else { return Ok(()) };
        let word = args.get(denied.word());
        let entry = entry_of(catalog, user, (row.id, denied), word, Context::TopLevel, now_ms);
        let line = || {
            let client = self.server.clients.get(client);
            client.map_or_else(Vec::new, |client| crate::commands::client_line(self.server, now_ms, &client))
        };
        self.server.access.note_denied(entry, line, &self.server.settings());
        Err(refusal(catalog, user, row.id, denied))
    }
}
