//! Certificates for tests of TLS, made by the program `openssl`: two authorities, and whatever they are to sign.
//! Invariant: the folder with all of them goes when the value is dropped.

use crate::server::fresh_dir;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A folder with certificates. The authorities are `ca` and `other-ca`; only the first signs.
#[derive(Debug)]
pub struct Certificates {
    folder: PathBuf,
}

const CURVE: [&str; 4] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];

impl Certificates {
    /// The authorities; none, with a message, where there is no `openssl` and need not be one.
    ///
    /// # Panics
    /// Where there is none and must be one: in continuous integration.
    pub fn make() -> Option<Certificates> {
        if Command::new("openssl").arg("version").stdout(Stdio::null()).status().is_err() {
            assert!(env::var_os("CI").is_none(), "openssl is missing: run ./scripts/fetch-peers");
            eprintln!("skipped: there is no openssl");
            return None;
        }
        let made = Certificates { folder: fresh_dir().expect("a folder can be made") };
        for name in ["ca", "other-ca"] {
            let subject = format!("/CN={name}");
            let (key, pem) = (format!("{name}.key"), format!("{name}.pem"));
            let arguments =
                ["req", "-x509", "-nodes", "-days", "2", "-subj", &subject, "-keyout", &key, "-out", &pem];
            made.openssl(&[&arguments[..], &CURVE].concat());
        }
        Some(made)
    }

    /// Makes the key `name.key` and the certificate `name.pem`, signed by `ca`, for a host, and for so many days.
    pub fn issue(&self, name: &str, host: &str, days: i32) {
        let subject = format!("/CN={name}");
        let [key, request, pem] = ["key", "csr", "pem"].map(|end| format!("{name}.{end}"));
        let asked = ["req", "-nodes", "-subj", &subject, "-keyout", &key, "-out", &request];
        self.openssl(&[&asked[..], &CURVE].concat());
        fs::write(self.folder.join("extensions"), format!("subjectAltName=DNS:{host}")).expect("it is ours");
        let days = days.to_string();
        self.openssl(&[
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            &days,
            "-extfile",
            "extensions",
            "-out",
            &pem,
        ]);
    }

    /// Runs `openssl` in the folder.
    ///
    /// # Panics
    /// It fails.
    pub fn openssl(&self, arguments: &[&str]) {
        let made = Command::new("openssl").current_dir(&self.folder).args(arguments).output();
        let made = made.expect("openssl is there");
        assert!(made.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&made.stderr));
    }

    /// Where a file of the folder is.
    pub fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}
