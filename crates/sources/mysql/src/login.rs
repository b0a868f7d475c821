//! How a connection begins: the server's greeting, and who we are (mysql_native_password, caching_sha2_password).

use crate::message::{Body, put_counted, put_text};
use larder_source::Failure;
use larder_source_net::{garbled, refused};
use ring::digest::{Algorithm, Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

/// What both sides can do, by MySQL's names.
pub mod can {
    pub const LONG_PASSWORD: u32 = 1;
    pub const FOUND_ROWS: u32 = 1 << 1;
    pub const LONG_FLAG: u32 = 1 << 2;
    pub const CONNECT_WITH_DB: u32 = 1 << 3;
    pub const PROTOCOL_41: u32 = 1 << 9;
    pub const SSL: u32 = 1 << 11;
    pub const TRANSACTIONS: u32 = 1 << 13;
    pub const SECURE_CONNECTION: u32 = 1 << 15;
    pub const MULTI_RESULTS: u32 = 1 << 17;
    pub const PS_MULTI_RESULTS: u32 = 1 << 18;
    pub const PLUGIN_AUTH: u32 = 1 << 19;
    pub const CONNECT_ATTRS: u32 = 1 << 20;
    /// MariaDB's own: what a text column is besides its type ("json").
    pub const EXTENDED_METADATA: u32 = 1 << 3;
}

/// What we want, as far as the server can: affected rows are those found, whether or not they were as they were to be.
const WANTED: u32 = can::LONG_PASSWORD
    | can::FOUND_ROWS
    | can::LONG_FLAG
    | can::CONNECT_WITH_DB
    | can::PROTOCOL_41
    | can::SSL
    | can::TRANSACTIONS
    | can::SECURE_CONNECTION
    | can::MULTI_RESULTS
    | can::PS_MULTI_RESULTS
    | can::PLUGIN_AUTH
    | can::CONNECT_ATTRS;

/// utf8mb4_general_ci, which every server since MySQL 5.5 knows.
const COLLATION: u8 = 45;

/// What a server says first.
#[derive(Debug, Default)]
pub struct Greeting {
    /// The program with its version: "MariaDB 10.11.6".
    pub version: String,
    pub is_mariadb: bool,
    /// By which a connection is ended from another.
    pub thread: u32,
    pub can: u32,
    pub can_besides: u32,
    pub plugin: String,
    /// What the password is hashed with.
    pub scramble: Vec<u8>,
}

impl Greeting {
    pub fn read(packet: &[u8]) -> Result<Greeting, Failure> {
        let mut body = Body(packet);
        match body.u8()? {
            10 => {}
            other => {
                return Err(refused(format!(
                    "the store greets with version {other} of the protocol; 10 is spoken here"
                )));
            }
        }
        let named = String::from_utf8_lossy(body.until_zero()).into_owned();
        let is_mariadb = named.contains("MariaDB");
        // For old replicas MariaDB says that it is a MySQL 5.5.
        let number = if is_mariadb { named.strip_prefix("5.5.5-").unwrap_or(&named) } else { &named };
        let number = number.split(['-', ' ']).next().unwrap_or_default();
        let version = format!("{} {number}", if is_mariadb { "MariaDB" } else { "MySQL" });
        let thread = body.u32()?;
        let mut scramble = body.bytes(8)?.to_vec();
        body.u8()?;
        let mut can = u32::from(body.u16()?);
        let (mut can_besides, mut plugin) = (0, String::new());
        if !body.is_empty() {
            body.bytes(3)?;
            can |= u32::from(body.u16()?) << 16;
            let length = usize::from(body.u8()?);
            body.bytes(6)?;
            let besides = body.u32()?;
            can_besides = if can & can::LONG_PASSWORD == 0 { besides } else { 0 };
            scramble.extend_from_slice(body.bytes(length.saturating_sub(8).max(13))?);
            plugin = String::from_utf8_lossy(body.until_zero()).into_owned();
        }
        if can & can::PROTOCOL_41 == 0 || can & can::SECURE_CONNECTION == 0 {
            return Err(refused(
                "the store is too old: MySQL 5.5 and MariaDB 5.5 are the first to be understood",
            ));
        }
        scramble.truncate(20);
        Ok(Greeting { version, is_mariadb, thread, can, can_besides, plugin, scramble })
    }

    /// What is agreed on: what both can.
    pub fn agreed(&self, is_encrypted: bool, has_database: bool) -> (u32, u32) {
        let mut agreed = WANTED & (self.can | can::LONG_PASSWORD);
        if self.is_mariadb && self.can & can::LONG_PASSWORD == 0 {
            // Without this MariaDB reads what we can besides.
            agreed &= !can::LONG_PASSWORD;
        }
        if !is_encrypted {
            agreed &= !can::SSL;
        }
        if !has_database {
            agreed &= !can::CONNECT_WITH_DB;
        }
        (agreed, self.can_besides & can::EXTENDED_METADATA)
    }
}

/// The beginning of our answer; alone it asks for TLS.
pub fn put_head(out: &mut Vec<u8>, (agreed, besides): (u32, u32), packet_max: usize) {
    out.extend_from_slice(&agreed.to_le_bytes());
    out.extend_from_slice(&(packet_max as u32).to_le_bytes());
    out.push(COLLATION);
    out.extend_from_slice(&[0; 19]);
    out.extend_from_slice(&besides.to_le_bytes());
}

/// Who asks, behind the head.
pub struct Login<'a> {
    pub user: &'a str,
    pub proof: &'a [u8],
    pub database: &'a str,
    pub plugin: &'a str,
    pub program: &'a str,
}

impl Login<'_> {
    pub fn put(&self, out: &mut Vec<u8>, agreed: u32) {
        put_text(out, self.user);
        // A proof is a hash of 20 or 32 bytes, or nothing.
        out.push(self.proof.len() as u8);
        out.extend_from_slice(self.proof);
        if agreed & can::CONNECT_WITH_DB != 0 {
            put_text(out, self.database);
        }
        if agreed & can::PLUGIN_AUTH != 0 {
            put_text(out, self.plugin);
        }
        if agreed & can::CONNECT_ATTRS != 0 {
            let mut pairs = Vec::new();
            for (name, value) in [("_client_name", "larder"), ("program_name", self.program)] {
                put_counted(&mut pairs, name.as_bytes());
                put_counted(&mut pairs, value.as_bytes());
            }
            put_counted(out, &pairs);
        }
    }
}

pub const NATIVE: &str = "mysql_native_password";
pub const CACHING: &str = "caching_sha2_password";
pub const CLEAR: &str = "mysql_clear_password";

/// What shows that we know the password, without telling it; none where the way is not known.
pub fn proof(plugin: &str, password: &str, scramble: &[u8]) -> Option<Vec<u8>> {
    // Servers send a zero byte behind it.
    let scramble = scramble.get(..20).unwrap_or(scramble);
    match plugin {
        NATIVE | CACHING if password.is_empty() => Some(Vec::new()),
        NATIVE => {
            let once = hash(&SHA1_FOR_LEGACY_USE_ONLY, &[password.as_bytes()]);
            let twice = hash(&SHA1_FOR_LEGACY_USE_ONLY, &[&once]);
            Some(masked(&once, &hash(&SHA1_FOR_LEGACY_USE_ONLY, &[scramble, &twice])))
        }
        CACHING => {
            let once = hash(&SHA256, &[password.as_bytes()]);
            let twice = hash(&SHA256, &[&once]);
            Some(masked(&once, &hash(&SHA256, &[&twice, scramble])))
        }
        _ => None,
    }
}

fn hash(algorithm: &'static Algorithm, parts: &[&[u8]]) -> Vec<u8> {
    let mut context = Context::new(algorithm);
    parts.iter().for_each(|part| context.update(part));
    context.finish().as_ref().to_vec()
}

fn masked(bytes: &[u8], mask: &[u8]) -> Vec<u8> {
    bytes.iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect()
}

/// What the server asks in the middle of logging in.
#[derive(Debug, Eq, PartialEq)]
pub enum Asked {
    /// To prove it in another way.
    Other { plugin: String, scramble: Vec<u8> },
    /// The hash was the right one.
    Known,
    /// The password itself, since the server has no hash of it in memory.
    Password,
}

impl Asked {
    pub fn read(packet: &[u8]) -> Result<Asked, Failure> {
        let mut body = Body(packet);
        match (body.u8()?, body.0) {
            (0xfe, []) => Err(refused("the store asks for the passwords of MySQL 4.0, which are not safe")),
            (0xfe, _) => {
                let plugin = String::from_utf8_lossy(body.until_zero()).into_owned();
                Ok(Asked::Other { plugin, scramble: body.0.to_vec() })
            }
            (1, [3]) => Ok(Asked::Known),
            (1, [4]) => Ok(Asked::Password),
            _ => Err(garbled("the store asks for what is not known while logging in")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting(version: &str, low: u16, high: u16, besides: u32) -> Vec<u8> {
        let mut out = vec![10];
        put_text(&mut out, version);
        out.extend_from_slice(&7_u32.to_le_bytes());
        out.extend_from_slice(b"12345678\0");
        out.extend_from_slice(&low.to_le_bytes());
        out.extend_from_slice(&[45, 2, 0]);
        out.extend_from_slice(&high.to_le_bytes());
        out.push(21);
        out.extend_from_slice(&[0; 6]);
        out.extend_from_slice(&besides.to_le_bytes());
        out.extend_from_slice(b"abcdefghijkl\0");
        put_text(&mut out, NATIVE);
        out
    }

    #[test]
    fn greetings_are_read() {
        let packet = greeting("5.5.5-10.11.6-MariaDB-1:log", 0xfffe, 0x81ff, 0x1d);
        let maria = Greeting::read(&packet).unwrap();
        assert_eq!((maria.version.as_str(), maria.thread), ("MariaDB 10.11.6", 7));
        assert_eq!(maria.scramble, b"12345678abcdefghijkl");
        assert_eq!(maria.agreed(false, true).0 & (can::LONG_PASSWORD | can::SSL), 0);
        assert_eq!(maria.agreed(true, true).1, can::EXTENDED_METADATA);
        let mysql = Greeting::read(&greeting("8.0.36", 0xffff, 0xdfff, 0)).unwrap();
        assert_eq!((mysql.version.as_str(), mysql.plugin.as_str()), ("MySQL 8.0.36", NATIVE));
        let (agreed, besides) = mysql.agreed(true, false);
        assert_eq!((agreed & (can::SSL | can::CONNECT_WITH_DB), besides), (can::SSL, 0));
        assert!(Greeting::read(&greeting("4.0", 0, 0, 0)).is_err());
        assert!(Greeting::read(b"\x09x").is_err());
        for end in 0..packet.len() - NATIVE.len() - 1 {
            assert!(Greeting::read(&packet[..end]).is_err() || end < 50, "{end}");
        }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn proofs_are_those_that_servers_check() {
        // What a server does: it keeps the hash of the hash, and finds the hash in the proof.
        let scramble = b"01234567890123456789\0";
        for (plugin, algorithm) in [(NATIVE, &SHA1_FOR_LEGACY_USE_ONLY), (CACHING, &SHA256)] {
            let kept = hash(algorithm, &[&hash(algorithm, &[b"sesame"])]);
            let proof = proof(plugin, "sesame", scramble).unwrap();
            let mask = match plugin {
                NATIVE => hash(algorithm, &[&scramble[..20], &kept]),
                _ => hash(algorithm, &[&kept, &scramble[..20]]),
            };
            assert_eq!(hex(&hash(algorithm, &[&masked(&proof, &mask)])), hex(&kept), "{plugin}");
        }
        assert_eq!(proof(NATIVE, "", scramble), Some(Vec::new()));
        assert_eq!(proof("client_ed25519", "x", scramble), None);
    }

    #[test]
    fn what_is_asked_is_understood() {
        let other = Asked::read(b"\xfecaching_sha2_password\0abc\0").unwrap();
        assert_eq!(other, Asked::Other { plugin: CACHING.to_owned(), scramble: b"abc\0".to_vec() });
        assert_eq!(Asked::read(b"\x01\x04").unwrap(), Asked::Password);
        assert_eq!(Asked::read(b"\x01\x03").unwrap(), Asked::Known);
        assert!(
            Asked::read(b"\xfe").is_err() && Asked::read(b"").is_err() && Asked::read(b"\x01\x05").is_err()
        );
    }
}
