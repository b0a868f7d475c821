//! What is said of a source besides its URL.

use std::fmt;
use std::time::Duration;

/// How a source is reached.
#[derive(Clone, Debug)]
pub struct Options {
    /// Connections at most; as many statements run at once.
    pub connections: usize,
    /// How long connecting, with all greetings, may take.
    pub connect_timeout: Duration,
    /// The user, where the URL names none.
    pub user: Option<String>,
    /// The password.
    pub password: Option<Secret>,
    /// Whether and how connections are encrypted. None: as the URL says, or else as is usual for the store.
    pub tls: Option<TlsMode>,
    /// A file with certificates to trust, in PEM, instead of the system's.
    pub ca_file: Option<String>,
    /// Headers to send with each request (HTTP).
    pub headers: Vec<(String, String)>,
    /// How often a store that cannot tell of changes by itself is asked for them.
    pub poll: Duration,
    /// A name for what following changes leaves in the store (slot, publication), and for this program among the store's clients.
    pub name: String,
    /// The number under which this program shows itself as a replica where the store wants one (MySQL).
    pub replica_id: Option<u32>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            connections: 8,
            connect_timeout: Duration::from_secs(2),
            user: None,
            password: None,
            tls: None,
            ca_file: None,
            headers: Vec::new(),
            poll: Duration::from_millis(50),
            name: "larder".to_owned(),
            replica_id: None,
        }
    }
}

/// A password: shown to nobody.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Keeps a password.
    pub fn new(password: impl Into<String>) -> Secret {
        Secret(password.into())
    }

    /// The password itself, for the store alone.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("(not shown)")
    }
}

/// How a connection is encrypted, and what is checked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TlsMode {
    /// Never.
    Off,
    /// When the store can; nothing is checked, so it is no help against who can change what is sent.
    Prefer,
    /// Always; nothing is checked.
    Require,
    /// Always; the certificate is signed by one that is trusted.
    VerifyCa,
    /// Always; and it is for the host's name.
    VerifyFull,
}

impl TlsMode {
    /// The mode by its name in PostgreSQL's `sslmode` and MySQL's `ssl-mode`.
    pub fn by_name(name: &str) -> Option<TlsMode> {
        Some(match name.to_ascii_lowercase().replace('_', "-").as_str() {
            "disable" | "disabled" | "off" => TlsMode::Off,
            "allow" | "prefer" | "preferred" => TlsMode::Prefer,
            "require" | "required" => TlsMode::Require,
            "verify-ca" => TlsMode::VerifyCa,
            "verify-full" | "verify-identity" => TlsMode::VerifyFull,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        let options = Options { password: Some(Secret::new("geheim")), ..Options::default() };
        assert!(!format!("{options:?}").contains("geheim"));
    }
}
