//! Who we are: SCRAM-SHA-256 (RFC 5802, 7677) and MD5.

use larder_source::Failure;
use larder_source_net::{base64, garbled, refused, unbase64};
use md5::{Digest, Md5};
use ring::digest::{SHA256, digest};
use ring::hmac::{HMAC_SHA256, Key, sign};
use ring::pbkdf2::{PBKDF2_HMAC_SHA256, derive};
use ring::rand::{SecureRandom, SystemRandom};
use std::borrow::Cow;
use std::num::NonZeroU32;

/// A server that asks for more rounds only wants to keep us busy.
const ROUNDS_MAX: u32 = 1_000_000;

/// The exchange, from our side.
pub struct Scram {
    password: Vec<u8>,
    nonce: String,
    /// What both signatures are over, once it is known, with the salted password.
    signed: Option<(String, [u8; 32])>,
}

impl Scram {
    pub fn new(password: &str) -> Result<Scram, Failure> {
        let mut random = [0_u8; 18];
        SystemRandom::new().fill(&mut random).map_err(|_| refused("the system gives no random numbers"))?;
        Ok(Scram { password: prepared(password).into_bytes(), nonce: base64(&random), signed: None })
    }

    /// The name is that of the startup message; channels are not bound.
    pub fn first(&self) -> String {
        format!("n,,{}", self.first_bare())
    }

    fn first_bare(&self) -> String {
        format!("n=,r={}", self.nonce)
    }

    /// The answer to the server's first message.
    pub fn last(&mut self, server_first: &str) -> Result<String, Failure> {
        let field = |name: &str| server_first.split(',').find_map(|field| field.strip_prefix(name));
        let wrong = || garbled("PostgreSQL's SCRAM message makes no sense");
        let nonce = field("r=").filter(|nonce| nonce.starts_with(&self.nonce)).ok_or_else(wrong)?;
        let salt = field("s=").and_then(unbase64).ok_or_else(wrong)?;
        let rounds = field("i=").and_then(|rounds| rounds.parse().ok()).ok_or_else(wrong)?;
        let rounds = NonZeroU32::new(rounds).filter(|rounds| rounds.get() <= ROUNDS_MAX).ok_or_else(wrong)?;
        let mut salted = [0; 32];
        derive(PBKDF2_HMAC_SHA256, rounds, &salt, &self.password, &mut salted);
        let without_proof = format!("c=biws,r={nonce}");
        let signed = format!("{},{server_first},{without_proof}", self.first_bare());
        let client_key = hmac(&salted, b"Client Key");
        let signature = hmac(digest(&SHA256, &client_key).as_ref(), signed.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(key, mask)| key ^ mask).collect();
        self.signed = Some((signed, salted));
        Ok(format!("{without_proof},p={}", base64(&proof)))
    }

    /// Whether the server knows the password too.
    pub fn verify(&self, server_last: &str) -> Result<(), Failure> {
        let given = server_last.strip_prefix("v=").and_then(|text| unbase64(text.split(',').next()?));
        let (signed, salted) =
            self.signed.as_ref().ok_or_else(|| garbled("PostgreSQL ended SCRAM too early"))?;
        let key = Key::new(HMAC_SHA256, &hmac(salted, b"Server Key"));
        let is_right = given.is_some_and(|given| ring::hmac::verify(&key, signed.as_bytes(), &given).is_ok());
        if is_right { Ok(()) } else { Err(refused("the server does not know the password that it asks for")) }
    }
}

/// A password as PostgreSQL hashes it: by SASLprep (RFC 4013), and as it is where that forbids it or leaves nothing.
fn prepared(password: &str) -> String {
    let prepared = stringprep::saslprep(password).ok().filter(|prepared| !prepared.is_empty());
    prepared.map_or_else(|| password.to_owned(), Cow::into_owned)
}

fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let tag = sign(&Key::new(HMAC_SHA256, key), text);
    tag.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// The answer to a request for MD5: `md5` and the hash of the hash and the salt.
pub fn md5_answer(user: &str, password: &str, salt: [u8; 4]) -> String {
    let inner = hex(&Md5::digest([password.as_bytes(), user.as_bytes()].concat()));
    format!("md5{}", hex(&Md5::digest([inner.as_bytes(), &salt].concat())))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The exchange of RFC 7677, whose user stands in the first message, as PostgreSQL's does not.
    #[test]
    fn the_proof_is_that_of_the_standard() {
        let mut salted = [0; 32];
        let salt = unbase64("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        derive(PBKDF2_HMAC_SHA256, NonZeroU32::new(4096).unwrap(), &salt, b"pencil", &mut salted);
        let signed = "n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
            s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let scram =
            Scram { password: vec![], nonce: String::new(), signed: Some((signed.to_owned(), salted)) };
        assert!(scram.verify("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").is_ok());
        assert!(scram.verify("v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").is_err());
    }

    /// RFC 4013, section 3, and what is left as it is.
    #[test]
    fn passwords_are_prepared_as_in_the_standard() {
        for (given, expected) in [
            ("I\u{ad}X", "IX"),
            ("user", "user"),
            ("\u{aa}", "a"),
            ("\u{2168}", "IX"),
            ("a\u{a0}b", "a b"),
            ("\u{7}", "\u{7}"),
            ("\u{627}1", "\u{627}1"),
            ("\u{ad}", "\u{ad}"),
            ("\u{1f980}\u{aa}", "\u{1f980}\u{aa}"),
        ] {
            assert_eq!(prepared(given), expected);
        }
    }

    #[test]
    fn md5_is_postgres_own() {
        assert_eq!(md5_answer("u", "p", [1, 2, 3, 4]).len(), 35);
        assert_eq!(hex(&Md5::digest(b"")), "d41d8cd98f00b204e9800998ecf8427e");
    }
}
