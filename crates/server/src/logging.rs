//! The log: Redis' levels over `tracing`, as text for people or JSON for programs, to the standard
//! error stream or a file.

use crate::syslog::Syslog;
use larder_config::{LogFormat, LogLevel, Settings};
use std::fs::{File, OpenOptions};
use std::io;
use std::sync::Mutex;
use tracing::Level;
use tracing_subscriber::fmt::time::SystemTime;
use tracing_subscriber::{Registry, fmt, prelude::*, reload};

/// Changes the level of the log while the server runs.
pub type LevelHandle = reload::Handle<tracing_subscriber::filter::LevelFilter, Registry>;

/// Starts the log that `settings` ask for.
///
/// # Errors
/// When the log file cannot be opened.
pub fn start(settings: &Settings) -> io::Result<LevelHandle> {
    let (filter, handle) = reload::Layer::new(level(settings.loglevel()));
    let path = String::from_utf8_lossy(settings.logfile()).into_owned();
    let writer = if path.is_empty() { Writer::Stderr } else { Writer::File(open(&path)?) };
    let is_terminal = goes_to_terminal(settings);
    let writer = Mutex::new(writer);
    let syslog =
        settings.syslog_enabled().then(|| Syslog::new(settings.syslog_ident(), settings.syslog_facility()));
    // The system gives time and level itself.
    let syslog = syslog.transpose()?.map(|syslog| {
        let layer = fmt::layer().without_time().with_level(false).with_target(false).with_ansi(false);
        layer.with_writer(syslog)
    });
    let registry = Registry::default().with(filter).with(syslog);
    match settings.log_format() {
        LogFormat::Json => {
            registry.with(fmt::layer().json().with_timer(SystemTime).with_writer(writer)).init()
        }
        LogFormat::Text => registry
            .with(
                fmt::layer()
                    .with_timer(SystemTime)
                    .with_target(false)
                    .with_ansi(is_terminal)
                    .with_writer(writer),
            )
            .init(),
    }
    Ok(handle)
}

/// Whether somebody may be reading the log at a terminal.
pub fn goes_to_terminal(settings: &Settings) -> bool {
    settings.logfile().is_empty() && io::IsTerminal::is_terminal(&io::stderr())
}

/// The level of `tracing` for one of Redis'.
pub fn level(level: LogLevel) -> tracing_subscriber::filter::LevelFilter {
    match level {
        LogLevel::Debug => tracing_subscriber::filter::LevelFilter::TRACE,
        LogLevel::Verbose => tracing_subscriber::filter::LevelFilter::DEBUG,
        LogLevel::Notice => Level::INFO.into(),
        LogLevel::Warning => Level::WARN.into(),
        LogLevel::Nothing => tracing_subscriber::filter::LevelFilter::OFF,
    }
}

fn open(path: &str) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

enum Writer {
    Stderr,
    File(File),
}

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Writer::Stderr => io::stderr().write(bytes),
            Writer::File(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Writer::Stderr => io::stderr().flush(),
            Writer::File(file) => file.flush(),
        }
    }
}
