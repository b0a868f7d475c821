//! How connections are encrypted: certificates, keys and rules from the options whose names begin with `tls-`.
//!
//! Everything is read when the server starts and whenever one of these options is set; connections that are there go on with
//! what they began with. Read next: `io/tls.rs`, one connection; `tls/encrypted_key.rs`, keys behind a password.

mod encrypted_key;

use crate::clock;
use foldhash::{HashMap, HashMapExt};
use larder_config::{Settings, TlsAuthClients};
use parking_lot::Mutex;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{cipher_suite, default_provider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, NoServerSessionStorage, StoresServerSessions, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{ProtocolVersion, RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion};
use std::collections::VecDeque;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Every cipher there is, by OpenSSL's name, the first being the first choice.
const SUITES: [(&str, SupportedCipherSuite); 9] = [
    ("TLS_AES_256_GCM_SHA384", cipher_suite::TLS13_AES_256_GCM_SHA384),
    ("TLS_AES_128_GCM_SHA256", cipher_suite::TLS13_AES_128_GCM_SHA256),
    ("TLS_CHACHA20_POLY1305_SHA256", cipher_suite::TLS13_CHACHA20_POLY1305_SHA256),
    ("ECDHE-ECDSA-AES256-GCM-SHA384", cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-ECDSA-AES128-GCM-SHA256", cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("ECDHE-RSA-AES256-GCM-SHA384", cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-RSA-AES128-GCM-SHA256", cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-RSA-CHACHA20-POLY1305", cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
];

/// Files of a folder of certificates that are read.
const ENDINGS: [&str; 4] = ["pem", "crt", "cer", "0"];

/// What connections to `tls-port` are encrypted with; nothing where there is no such port.
///
/// # Errors
/// What is missing or wrong, with the option that says it.
pub fn configure(settings: &Settings) -> Result<Option<Arc<ServerConfig>>, String> {
    if settings.tls_port() == 0 {
        return Ok(None);
    }
    let chain = certificates("tls-cert-file", settings.tls_cert_file())?;
    let key = key(settings.tls_key_file(), settings.tls_key_file_pass())?;
    let provider = Arc::new(CryptoProvider { cipher_suites: suites(settings)?, ..default_provider() });
    let verifier = verifier(settings, &provider)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions(settings)?)
        .map_err(|error| format!("tls-protocols and ciphers do not go together: {error}"))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| format!("tls-cert-file and tls-key-file do not go together: {error}"))?;
    config.ignore_client_order = settings.tls_prefer_server_ciphers();
    config.session_storage = sessions(settings);
    config.send_tls13_tickets = usize::from(settings.tls_session_caching());
    Ok(Some(Arc::new(config)))
}

/// Looks whether the files and words make sense, as a start would, from the folder where a start would.
///
/// # Errors
/// As [`configure`].
pub fn check(settings: &Settings) -> Result<(), String> {
    if settings.tls_port() == 0 {
        return Ok(());
    }
    std::env::set_current_dir(settings.dir())
        .map_err(|error| format!("cannot work in the directory of 'dir': {error}"))?;
    configure(settings).map(drop)
}

fn path_of(option: &str, path: &[u8]) -> Result<PathBuf, String> {
    if path.is_empty() {
        return Err(format!("tls-port is set, and {option} is not: name a file in PEM"));
    }
    let path = std::str::from_utf8(path).map_err(|_| format!("{option}: its name is not UTF-8"))?;
    Ok(PathBuf::from(path))
}

fn certificates(option: &str, path: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let path = path_of(option, path)?;
    let wrong = |error: &dyn Display| format!("{option} {}: {error}", path.display());
    let read = CertificateDer::pem_file_iter(&path).map_err(|error| wrong(&error))?;
    let read: Vec<_> = read.collect::<Result<_, _>>().map_err(|error| wrong(&error))?;
    if read.is_empty() { Err(wrong(&"there is no certificate in it")) } else { Ok(read) }
}

fn key(path: &[u8], password: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    let path = path_of("tls-key-file", path)?;
    let read = std::fs::read(&path).map_err(|error| error.to_string()).and_then(|pem| {
        match encrypted_key::is_encrypted(&pem) {
            false => {
                PrivateKeyDer::from_pem_slice(&pem).map_err(|error| format!("there is no key in it: {error}"))
            }
            true if password.is_empty() => {
                Err("it is encrypted: set tls-key-file-pass, or write one that is not \
                 by 'openssl pkey -in KEY -out PLAIN', readable by the server alone"
                    .to_owned())
            }
            true => encrypted_key::decrypt(&pem, password),
        }
    });
    read.map_err(|error| format!("tls-key-file {}: {error}", path.display()))
}

/// Who looks at the certificates of clients.
fn verifier(
    settings: &Settings,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let (file, folder) = (settings.tls_ca_cert_file(), settings.tls_ca_cert_dir());
    let mut roots = RootCertStore::empty();
    if !file.is_empty() {
        for certificate in certificates("tls-ca-cert-file", file)? {
            roots.add(certificate).map_err(|error| format!("tls-ca-cert-file: {error}"))?;
        }
    }
    // A file that is named has to be good even where nobody is asked.
    if settings.tls_auth_clients() == TlsAuthClients::No {
        return Ok(Arc::new(NoClientAuth));
    }
    if !folder.is_empty() {
        add_folder(&path_of("tls-ca-cert-dir", folder)?, &mut roots)?;
    }
    if roots.is_empty() {
        return Err("clients are to show certificates, and nobody is trusted to sign them: \
                    set tls-ca-cert-file or tls-ca-cert-dir, or tls-auth-clients to no"
            .to_owned());
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let builder = match settings.tls_auth_clients() {
        TlsAuthClients::Optional => builder.allow_unauthenticated(),
        _ => builder,
    };
    builder.build().map(|verifier| verifier as _).map_err(|error| format!("tls-ca-cert-file: {error}"))
}

fn add_folder(folder: &Path, roots: &mut RootCertStore) -> Result<(), String> {
    let wrong = |error: &dyn Display| format!("tls-ca-cert-dir {}: {error}", folder.display());
    for entry in std::fs::read_dir(folder).map_err(|error| wrong(&error))? {
        let path = entry.map_err(|error| wrong(&error))?.path();
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        if !ENDINGS.contains(&ending) || !path.is_file() {
            continue;
        }
        // A folder may have other things in it; those are not trusted.
        for certificate in CertificateDer::pem_file_iter(&path).into_iter().flatten().flatten() {
            if let Err(error) = roots.add(certificate) {
                tracing::warn!("tls-ca-cert-dir: {} is not trusted: {error}", path.display());
            }
        }
    }
    Ok(())
}

fn versions(settings: &Settings) -> Result<Vec<&'static SupportedProtocolVersion>, String> {
    let words = String::from_utf8_lossy(settings.tls_protocols()).into_owned();
    let version = |word: &str| match word.to_ascii_lowercase().as_str() {
        "tlsv1.2" => Ok(&TLS12),
        "tlsv1.3" => Ok(&TLS13),
        "tlsv1" | "tlsv1.1" => Err(format!("tls-protocols: {word} is broken, and not offered")),
        _ => Err(format!("tls-protocols: '{word}' is none of TLSv1.2 and TLSv1.3")),
    };
    let named: Vec<_> = words.split_ascii_whitespace().map(version).collect::<Result<_, _>>()?;
    Ok(if named.is_empty() { vec![&TLS13, &TLS12] } else { named })
}

fn suites(settings: &Settings) -> Result<Vec<SupportedCipherSuite>, String> {
    let mut suites = chosen("tls-ciphersuites", settings.tls_ciphersuites(), ProtocolVersion::TLSv1_3)?;
    suites.extend(chosen("tls-ciphers", settings.tls_ciphers(), ProtocolVersion::TLSv1_2)?);
    Ok(suites)
}

/// The ciphers of a version that are named, in the order in which they are; all if none is.
fn chosen(option: &str, names: &[u8], version: ProtocolVersion) -> Result<Vec<SupportedCipherSuite>, String> {
    let known = || SUITES.iter().filter(|(_, suite)| suite.version().version == version);
    let names = String::from_utf8_lossy(names).into_owned();
    if names.is_empty() {
        return Ok(known().map(|(_, suite)| *suite).collect());
    }
    let find = |name: &str| {
        let found = known().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, suite)| *suite);
        let all = || known().map(|(known, _)| *known).collect::<Vec<_>>().join(", ");
        found.ok_or_else(|| format!("{option}: '{name}' is not offered; there are {}", all()))
    };
    names.split([':', ',', ' ']).filter(|name| !name.is_empty()).map(find).collect()
}

fn sessions(settings: &Settings) -> Arc<dyn StoresServerSessions> {
    if !settings.tls_session_caching() {
        return Arc::new(NoServerSessionStorage {});
    }
    let most = match settings.tls_session_cache_size() {
        0 => usize::MAX,
        most => most as usize,
    };
    let keep = Duration::from_secs(u64::from(settings.tls_session_cache_timeout()));
    Arc::new(Sessions {
        most,
        keep,
        kept: Mutex::new(Kept { values: HashMap::new(), order: VecDeque::new() }),
    })
}

/// Sessions that clients may go on with.
///
/// Invariant: `order` has each key of `values`, oldest first, and at most `most` keys.
#[derive(Debug)]
struct Sessions {
    most: usize,
    keep: Duration,
    kept: Mutex<Kept>,
}

struct Kept {
    values: HashMap<Vec<u8>, (Instant, Vec<u8>)>,
    order: VecDeque<(Instant, Vec<u8>)>,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // What they are is secret.
        out.debug_struct("Kept").field("sessions", &self.values.len()).finish_non_exhaustive()
    }
}

impl Sessions {
    fn put_at(&self, now: Instant, key: Vec<u8>, value: Vec<u8>) {
        let kept = &mut *self.kept.lock();
        while let Some((since, _)) = kept.order.front()
            && (kept.order.len() >= self.most || now.duration_since(*since) >= self.keep)
        {
            let Some((since, key)) = kept.order.pop_front() else { break };
            // A key that was put again later stays until then.
            if kept.values.get(&key).is_some_and(|(newest, _)| *newest == since) {
                kept.values.remove(&key);
            }
        }
        kept.order.push_back((now, key.clone()));
        kept.values.insert(key, (now, value));
    }

    fn get_at(&self, now: Instant, key: &[u8], takes: bool) -> Option<Vec<u8>> {
        let kept = &mut *self.kept.lock();
        let (since, value) = kept.values.get(key)?;
        let found = (now.duration_since(*since) < self.keep).then(|| value.clone());
        if takes {
            kept.values.remove(key);
        }
        found
    }
}

impl StoresServerSessions for Sessions {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.put_at(clock::now(), key, value);
        true
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.get_at(clock::now(), key, false)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.get_at(clock::now(), key, true)
    }

    fn can_cache(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        Settings::default().plan_set(&pairs, true).expect("good settings").settings
    }

    #[test]
    fn versions_and_ciphers_are_chosen_by_name_and_unknown_ones_refused() {
        let names = |option: &str, value: &str| {
            suites(&settings(&[(option, value)])).map(|suites| {
                suites.iter().map(|suite| format!("{:?}", suite.suite())).collect::<Vec<_>>().join(" ")
            })
        };
        assert_eq!(suites(&settings(&[])).map(|all| all.len()), Ok(9));
        let only = names("tls-ciphers", "ECDHE-RSA-AES128-GCM-SHA256").expect("it is known");
        assert!(
            only.ends_with("TLS13_CHACHA20_POLY1305_SHA256 TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
            "{only}"
        );
        let two = names("tls-ciphersuites", "tls_chacha20_poly1305_sha256:TLS_AES_128_GCM_SHA256");
        assert!(
            two.expect("both").starts_with("TLS13_CHACHA20_POLY1305_SHA256 TLS13_AES_128_GCM_SHA256 TLS_E")
        );
        for (option, value) in [
            ("tls-ciphers", "DEFAULT:!MEDIUM"),
            ("tls-ciphers", "AES128-SHA"),
            ("tls-ciphersuites", "ECDHE-RSA-AES128-GCM-SHA256"),
        ] {
            let error = names(option, value).expect_err(value);
            assert!(error.starts_with(option) && error.contains("there are "), "{error}");
        }
        let of = |value: &str| versions(&settings(&[("tls-protocols", value)])).map(|all| all.len());
        assert_eq!((of(""), of("TLSv1.3"), of("tlsv1.2  TLSv1.3")), (Ok(2), Ok(1), Ok(2)));
        assert!(of("TLSv1.1").is_err_and(|error| error.contains("broken")));
        assert!(of("SSLv3").is_err());
    }

    #[test]
    fn sessions_are_kept_for_their_time_and_no_more_than_allowed() {
        let kept = Mutex::new(Kept { values: HashMap::new(), order: VecDeque::new() });
        let sessions = Sessions { most: 2, keep: Duration::from_secs(5), kept };
        let begun = clock::now();
        let at = |secs| begun + Duration::from_secs(secs);
        let put = |secs, key: &[u8]| sessions.put_at(at(secs), key.to_vec(), vec![secs as u8]);
        put(0, b"a");
        put(1, b"b");
        assert_eq!(sessions.get_at(at(2), b"a", false), Some(vec![0]));
        put(2, b"c");
        assert_eq!(sessions.get_at(at(2), b"a", false), None, "there is room for two");
        assert_eq!(sessions.get_at(at(5), b"b", true), Some(vec![1]));
        assert_eq!(sessions.get_at(at(5), b"b", true), None, "it was taken");
        assert_eq!(sessions.get_at(at(7), b"c", false), None, "its time is over");
        put(8, b"d");
        let kept = sessions.kept.lock();
        assert_eq!((kept.values.len(), kept.order.len()), (1, 1));
    }
}
