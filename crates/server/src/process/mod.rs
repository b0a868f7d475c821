//! What the server is to the system that runs it: a daemon, a supervised service, a candidate for the kernel when memory runs
//! out, threads on some of the cores.
//!
//! Invariant: the process is forked before it has a second thread, or never. Read next: `../start.rs`, which calls all of it.

mod cores;
mod oom_score;
mod priority;
mod supervision;

pub use cores::pin;
pub use oom_score::OomScore;
pub use priority::GivingWay;
pub use supervision::{begin as begin_supervision, tell as tell_supervisor};

use larder_config::Settings;

/// Where a daemon's process id goes when nothing else is said, as in Redis.
const DEFAULT_PID_FILE: &str = "/var/run/redis.pid";

/// Goes on in the background: the shell has its prompt back, and nothing is read from or written to the terminal any more.
///
/// # Errors
/// The system has no second process.
pub fn daemonize() -> Result<(), String> {
    // The working directory stays: it is that of 'dir'.
    nix::unistd::daemon(true, false).map_err(|error| format!("cannot go on in the background: {error}"))
}

/// The settings of a daemon: with a file for its process id, which is how it is found again.
pub fn with_pid_file(settings: &Settings) -> Settings {
    let mut settings = settings.clone();
    if let (true, Some(pidfile)) = (settings.pidfile().is_empty(), larder_config::lookup(b"pidfile")) {
        // Any text is a file name.
        let _ = settings.assign(pidfile, &[DEFAULT_PID_FILE.as_bytes()]);
    }
    settings
}

/// Writes the process id where `pidfile` says. A server that can't is as good as another, so that this is no error.
pub fn write_pid_file(settings: &Settings) {
    let path = settings.pidfile();
    if path.is_empty() {
        return;
    }
    let path = String::from_utf8_lossy(path);
    if let Err(error) = std::fs::write(path.as_ref(), format!("{}\n", std::process::id())) {
        tracing::warn!("Failed to write PID file {path}: {error}");
    }
}

/// Has a panic logged where the log goes, with where it came from, as long as `is_wanted`.
pub fn log_panics(is_wanted: impl Fn() -> bool + Send + Sync + 'static) {
    std::panic::set_hook(Box::new(move |panic| {
        if is_wanted() {
            let thread = std::thread::current();
            let trace = std::backtrace::Backtrace::force_capture();
            tracing::error!("the thread {} has {panic}\n{trace}", thread.name().unwrap_or("without a name"));
        }
    }));
}
