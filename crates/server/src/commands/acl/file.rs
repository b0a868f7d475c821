//! ACL LOAD and ACL SAVE: users in a file of their own.

use super::users::end_subscribers;
use crate::connection::Closing;
use crate::execute::Host;
use larder_acl::Replaced;
use larder_commands::{Args, Error};

const NO_FILE: Error = Error::of(
    "ERR This Redis instance is not configured to use an ACL file. You may want to specify users via the ACL SETUSER command and then issue a CONFIG REWRITE (assuming you have a Redis configuration file set) in order to store users in the Redis configuration.",
);

/// ACL LOAD
pub(super) fn load(host: &mut Host<'_>, _: &Args<'_>) -> Result<(), Error> {
    let server = host.server();
    let settings = server.settings();
    if settings.aclfile().is_empty() {
        return Err(NO_FILE);
    }
    let loaded = server.access.load(&settings);
    let Replaced { changed, gone } = loaded.map_err(|text| {
        tracing::warn!("ACL LOAD: {}", String::from_utf8_lossy(&text));
        Error::custom([&b"ERR "[..], &text].concat())
    })?;
    if server.end_connections(&gone, host.conn.client.id) {
        host.conn.closing = Closing::AfterReplies;
    }
    end_subscribers(host, &changed);
    Ok(())
}

/// ACL SAVE
pub(super) fn save(host: &mut Host<'_>, _: &Args<'_>) -> Result<(), Error> {
    let server = host.server();
    let settings = server.settings();
    if settings.aclfile().is_empty() {
        return Err(NO_FILE);
    }
    server.access.save(&settings).map_err(|error| {
        tracing::warn!(%error, "ACL SAVE: the file of users cannot be written");
        Error::of(
            "ERR There was an error trying to save the ACLs. Please check the server logs for more information",
        )
    })?;
    host.reply().ok();
    Ok(())
}
