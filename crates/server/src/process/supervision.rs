//! What a service manager is told: that the server is ready, that it stops, and how it stands (`supervised`).
//!
//! systemd listens on a socket that the environment names; each message is one datagram of lines `NAME=value`. Upstart waits
//! until the process stops itself. Invariant: a manager that does not listen is a warning in the log and no more.

use larder_config::{Settings, Supervision};
use rustix::process::{Signal, getpid, kill_process};
use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Where systemd listens.
const SOCKET: &str = "NOTIFY_SOCKET";
/// What upstart sets for the processes of its jobs.
const JOB: &str = "UPSTART_JOB";

/// Who supervises the process, where anybody does.
fn supervision(settings: &Settings) -> Supervision {
    match settings.supervised() {
        Supervision::Auto if std::env::var_os(JOB).is_some() => Supervision::Upstart,
        Supervision::Auto if std::env::var_os(SOCKET).is_some() => Supervision::Systemd,
        Supervision::Auto => Supervision::No,
        said => said,
    }
}

/// Answers whether a service manager runs the process, so that it is not to go to the background by itself.
pub fn begin(settings: &Settings) -> bool {
    match supervision(settings) {
        Supervision::No | Supervision::Auto => false,
        Supervision::Systemd => {
            tracing::warn!(
                "supervised by systemd: TimeoutStartSec and TimeoutStopSec of the unit must allow for loading and saving"
            );
            tell(settings, "STATUS=Larder is loading...")
        }
        Supervision::Upstart if std::env::var_os(JOB).is_none() => {
            tracing::warn!("upstart supervision requested, but {JOB} not found");
            false
        }
        Supervision::Upstart => {
            tracing::info!("supervised by upstart, will stop to signal readiness");
            kill_process(getpid(), Signal::STOP).is_ok()
        }
    }
}

/// Tells systemd how the server stands, where it supervises the process. Answers whether it was told.
pub fn tell(settings: &Settings, message: &str) -> bool {
    if supervision(settings) != Supervision::Systemd {
        return false;
    }
    let Some(socket) = std::env::var_os(SOCKET) else {
        tracing::warn!("systemd supervision error: {SOCKET} not found!");
        return false;
    };
    match send(socket, message) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!("systemd supervision error: {error}");
            false
        }
    }
}

fn send(socket: OsString, message: &str) -> io::Result<()> {
    // A name that begins with '@' is one in no file system.
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(message.as_bytes(), &address).map(drop)
}
