//! Private keys that are encrypted with a password: as PKCS#8 (`ENCRYPTED PRIVATE KEY`, what openssl writes today), and as openssl
//! wrote them before that (`Proc-Type: 4,ENCRYPTED`).
//!
//! What is read is a file of the operator's own; that it is one's own password that opens it is all that is checked.

use aes::{Aes128, Aes192, Aes256};
use base64ct::{Base64, Encoding};
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockCipherDecrypt, BlockModeDecrypt, KeyInit, KeyIvInit};
use des::TdesEde3;
use md5::{Digest, Md5};
use pkcs8::{EncryptedPrivateKeyInfoRef, pkcs5};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};

/// How a key that cannot be read is made one that can.
const CONVERT: &str = "write it anew by 'openssl pkcs8 -topk8 -in KEY -out NEW'";

/// A part of a PEM file.
struct Section {
    label: String,
    /// Lines `name: value` in front of the bytes.
    headers: Vec<(String, String)>,
    bytes: Vec<u8>,
}

impl Section {
    fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    fn is_encrypted(&self) -> bool {
        self.label == "ENCRYPTED PRIVATE KEY"
            || (self.label.ends_with("PRIVATE KEY") && self.header("Proc-Type") == Some("4,ENCRYPTED"))
    }
}

/// Whether the first key of a PEM file is encrypted.
pub(super) fn is_encrypted(pem: &[u8]) -> bool {
    let first = sections(pem).into_iter().find(|section| section.label.ends_with("PRIVATE KEY"));
    first.is_some_and(|section| section.is_encrypted())
}

/// The first encrypted key of a PEM file.
///
/// # Errors
/// Why it can't be read.
pub(super) fn decrypt(pem: &[u8], password: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    let section = sections(pem).into_iter().find(Section::is_encrypted);
    let section = section.ok_or("there is no encrypted key in it")?;
    if section.label == "ENCRYPTED PRIVATE KEY" {
        return decrypt_pkcs8(&section.bytes, password);
    }
    let plain = decrypt_old(&section, password)?;
    match section.label.as_str() {
        "RSA PRIVATE KEY" => Ok(PrivateKeyDer::Pkcs1(PrivatePkcs1KeyDer::from(plain))),
        "EC PRIVATE KEY" => Ok(PrivateKeyDer::Sec1(PrivateSec1KeyDer::from(plain))),
        label => Err(format!("a '{label}' is not for TLS; it takes keys for RSA, ECDSA or Ed25519")),
    }
}

/// The sections of a PEM file whose bytes can be read.
fn sections(pem: &[u8]) -> Vec<Section> {
    let text = String::from_utf8_lossy(pem);
    let mut lines = text.lines().map(str::trim);
    let mut sections = Vec::new();
    while let Some(line) = lines.next() {
        let label = line.strip_prefix("-----BEGIN ").and_then(|line| line.strip_suffix("-----"));
        let Some(label) = label else { continue };
        let (mut headers, mut body) = (Vec::new(), String::new());
        for line in lines.by_ref().take_while(|line| !line.starts_with("-----END ")) {
            match line.split_once(':') {
                Some((name, value)) => headers.push((name.to_owned(), value.trim().to_owned())),
                None => body.push_str(line),
            }
        }
        if let Ok(bytes) = Base64::decode_vec(&body) {
            sections.push(Section { label: label.to_owned(), headers, bytes });
        }
    }
    sections
}

fn decrypt_pkcs8(der: &[u8], password: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    let key = EncryptedPrivateKeyInfoRef::try_from(der)
        .map_err(|error| format!("its encryption is not known: {error}; {CONVERT}"))?;
    let plain = key.decrypt(password).map_err(|error| match error {
        pkcs8::Error::EncryptedPrivateKey(error) if error != pkcs5::Error::DecryptFailed => {
            format!("its encryption is not known: {error}; {CONVERT}")
        }
        // Padding may look right by chance, and what is in front of it is no key then.
        _ => wrong_password(),
    })?;
    Ok(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(plain.as_bytes().to_vec())))
}

fn wrong_password() -> String {
    "the password of tls-key-file-pass does not open it".to_owned()
}

/// Decrypts what stands behind `DEK-Info: CIPHER,IV`.
fn decrypt_old(section: &Section, password: &[u8]) -> Result<Vec<u8>, String> {
    let malformed = || format!("its line DEK-Info is malformed; {CONVERT}");
    let info = section.header("DEK-Info").and_then(|info| info.split_once(','));
    let (cipher, iv) = info.ok_or_else(malformed)?;
    let iv = from_hex(iv).ok_or_else(malformed)?;
    let decrypt = match cipher {
        "AES-128-CBC" => decrypt_cbc::<Aes128>,
        "AES-192-CBC" => decrypt_cbc::<Aes192>,
        "AES-256-CBC" => decrypt_cbc::<Aes256>,
        "DES-EDE3-CBC" => decrypt_cbc::<TdesEde3>,
        _ => return Err(format!("it is encrypted by '{cipher}', which is not known here; {CONVERT}")),
    };
    decrypt(&section.bytes, password, &iv)
}

fn decrypt_cbc<C>(bytes: &[u8], password: &[u8], iv: &[u8]) -> Result<Vec<u8>, String>
where
    C: BlockCipherDecrypt + KeyInit,
{
    let salt = iv.get(..8).ok_or("its line DEK-Info is malformed")?;
    let key = stretch(password, salt, C::key_size());
    let cipher = cbc::Decryptor::<C>::new_from_slices(&key, iv)
        .map_err(|_| format!("its line DEK-Info is malformed; {CONVERT}"))?;
    let plain = cipher.decrypt_padded_vec::<Pkcs7>(bytes).map_err(|_| wrong_password())?;
    // One in 256 wrong passwords leaves something that looks padded: a key begins with the tag of a sequence.
    if plain.first() == Some(&0x30) { Ok(plain) } else { Err(wrong_password()) }
}

/// The key that openssl makes of a password: MD5 over all before, password and salt, until there is enough of it.
fn stretch(password: &[u8], salt: &[u8], len: usize) -> Vec<u8> {
    let mut key = Vec::new();
    let mut last: Vec<u8> = Vec::new();
    while key.len() < len {
        last = Md5::new().chain_update(&last).chain_update(password).chain_update(salt).finalize().to_vec();
        key.extend_from_slice(&last);
    }
    key.truncate(len);
    key
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).map(|digit| digit as u8)).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_testkit::Certificates;

    /// Keys in each of the forms that openssl writes, with the same in plain.
    #[test]
    fn keys_that_openssl_encrypted_are_read() {
        let Some(files) = Certificates::make() else { return };
        let run = |line: &str| files.openssl(&line.split(' ').collect::<Vec<_>>());
        let bytes = |name: &str| std::fs::read(files.path(name)).unwrap();
        run("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa.pem");
        run("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ec.pem");
        run("genpkey -algorithm ED25519 -out ed.pem");
        let mut read = 0;
        for key in ["rsa", "ec", "ed"] {
            let old = if key == "rsa" { "rsa -traditional" } else { "ec" };
            run(&format!("pkcs8 -topk8 -nocrypt -in {key}.pem -outform DER -out {key}.der"));
            for way in [
                "pkcs8 -topk8",
                "pkcs8 -topk8 -v2 aes-128-cbc",
                "pkcs8 -topk8 -v2 aes-256-cbc -v2prf hmacWithSHA512",
                "pkcs8 -topk8 -v2 aes-256-cbc -v2prf hmacWithSHA1",
                "pkcs8 -topk8 -v2 des3",
                "pkcs8 -topk8 -scrypt -scrypt_N 1024",
                "-aes128",
                "-aes192",
                "-aes256",
                "-des3",
            ] {
                let way = if way.starts_with('-') { format!("{old} {way}") } else { way.to_owned() };
                if key == "ed" && way.starts_with("ec") {
                    continue;
                }
                let line = format!("{way} -in {key}.pem -passout pass:secret -out {key}.enc");
                run(&line);
                let pem = bytes(&format!("{key}.enc"));
                assert!(is_encrypted(&pem), "{line}");
                let opened = decrypt(&pem, b"secret").unwrap_or_else(|error| panic!("{line}: {error}"));
                if let PrivateKeyDer::Pkcs8(opened) = &opened {
                    assert_eq!(opened.secret_pkcs8_der(), bytes(&format!("{key}.der")), "{line}");
                }
                rustls::crypto::ring::sign::any_supported_type(&opened).expect(&line);
                let wrong = decrypt(&pem, b"other").expect_err(&line);
                assert!(wrong.contains("tls-key-file-pass"), "{line}: {wrong}");
                read += 1;
            }
        }
        assert_eq!(read, 26);
    }

    #[test]
    fn what_is_no_encrypted_key_is_told() {
        let old = |info: &str| {
            format!(
                "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n{info}\n\nAAAA\n-----END RSA PRIVATE KEY-----\n"
            )
        };
        for (pem, part) in [
            ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n".to_owned(), "no encrypted key"),
            (
                "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----".to_owned(),
                "openssl",
            ),
            (old("DEK-Info: DES-CBC,0011223344556677"), "'DES-CBC', which is not known"),
            (old("DEK-Info: AES-128-CBC,zz"), "malformed"),
            (old("DEK-Info: AES-128-CBC,0011"), "malformed"),
            (old("DEK-Info: AES-128-CBC,00112233445566778899"), "malformed"),
            (old("Something: else"), "malformed"),
            (old("DEK-Info: AES-128-CBC,00112233445566778899aabbccddeeff"), "does not open it"),
        ] {
            let error = decrypt(pem.as_bytes(), b"secret").expect_err(part);
            assert!(error.contains(part), "{error}");
        }
        assert!(!is_encrypted(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"));
        assert!(!is_encrypted(b"ENCRYPTED"));
    }
}
