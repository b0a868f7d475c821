//! Where a store is: its URL, taken apart.

use crate::{Options, TlsMode, refused};
use larder_source::Failure;

/// A URL of the form `scheme://user@host:port/path?name=value`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    /// In lower case.
    pub scheme: String,
    /// Decoded.
    pub user: Option<String>,
    /// A name or an address, without the brackets of IPv6. Empty where there is none.
    pub host: String,
    /// As it was given.
    pub port: Option<u16>,
    /// With its slash in front, as it was given (not decoded).
    pub path: String,
    /// Decoded.
    pub query: Vec<(String, String)>,
}

impl Place {
    /// Takes a URL apart.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(url: &str) -> Result<Place, Failure> {
        let wrong = |what: &str| refused(format!("the URL of a source: {what}"));
        let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("'://' must follow its scheme"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        if user.is_some_and(|user| user.contains(':')) {
            return Err(wrong("a password must not stand in it"));
        }
        let (host, port) = match host.strip_prefix('[') {
            Some(inner) => {
                let (host, after) = inner.split_once(']').ok_or_else(|| wrong("']' is missing"))?;
                (host, after.strip_prefix(':'))
            }
            None => host.rsplit_once(':').map_or((host, None), |(host, port)| (host, Some(port))),
        };
        let port = match port {
            None | Some("") => None,
            Some(port) => Some(port.parse().map_err(|_| wrong("its port is no number up to 65535"))?),
        };
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let query = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(name)?, decode(value)?))
        });
        Ok(Place {
            scheme: scheme.to_ascii_lowercase(),
            user: user.map(decode).unwrap_or(Some(String::new())).filter(|user| !user.is_empty()),
            host: decode(host).ok_or_else(|| wrong("its host is not UTF-8"))?,
            port,
            path: path.to_owned(),
            query: query.collect::<Option<_>>().ok_or_else(|| wrong("its query is not UTF-8"))?,
        })
    }

    /// The value of a name in the query.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Refuses names in the query that are not among these.
    ///
    /// # Errors
    /// The name, and which there are.
    pub fn allow(&self, names: &[&str]) -> Result<(), Failure> {
        match self.query.iter().find(|(name, _)| !names.contains(&name.as_str())) {
            None => Ok(()),
            Some((name, _)) if names.is_empty() => Err(refused(format!(
                "the URL of a source: '{name}' is unknown; {} has no options",
                self.scheme
            ))),
            Some((name, _)) => Err(refused(format!(
                "the URL of a source: '{name}' is unknown; there is {}",
                names.join(", ")
            ))),
        }
    }

    /// How connections are encrypted: as the options say, or the URL under one of these names, or as is usual.
    ///
    /// # Errors
    /// The URL names a mode that does not exist.
    pub fn tls_mode(&self, options: &Options, names: &[&str], usual: TlsMode) -> Result<TlsMode, Failure> {
        let given = names.iter().find_map(|name| self.option(name));
        let named = given.map(|name| {
            TlsMode::by_name(name).ok_or_else(|| {
                refused(format!(
                    "'{name}' is no way to encrypt: disable, prefer, require, verify-ca, verify-full"
                ))
            })
        });
        let usual = if options.ca_file.is_some() { TlsMode::VerifyFull } else { usual };
        Ok(options.tls.or(named.transpose()?).unwrap_or(usual))
    }
}

/// Takes `%20` and the like out of a text; none if it is not UTF-8 then.
pub fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match code.filter(|_| byte == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(decoded) => {
                out.push(decoded);
                rest = &after[2..];
            }
            None => {
                out.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8(out).ok()
}

/// Writes bytes as one component of a path: what is not unreserved (RFC 3986) becomes `%XX`.
pub fn encode(bytes: &[u8], out: &mut String) {
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(byte as char);
        } else {
            out.push('%');
            out.push(char::from(b"0123456789ABCDEF"[usize::from(byte >> 4)]));
            out.push(char::from(b"0123456789ABCDEF"[usize::from(byte & 15)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let place = Place::parse("postgres://a%40b@[::1]:5433/shop?sslmode=require&x=%41").expect("a URL");
        assert_eq!(place.user.as_deref(), Some("a@b"));
        assert_eq!((place.host.as_str(), place.port, place.path.as_str()), ("::1", Some(5433), "/shop"));
        assert_eq!((place.option("sslmode"), place.option("x")), (Some("require"), Some("A")));
        let place = Place::parse("postgres://%2Frun%2Fpg/shop").expect("a URL");
        assert_eq!((place.host.as_str(), place.user, place.port), ("/run/pg", None, None));
        let place = Place::parse("redis://h:1").expect("a URL");
        assert_eq!((place.host.as_str(), place.path.as_str(), place.port), ("h", "", Some(1)));
    }

    #[test]
    fn a_wrong_url_is_refused_without_showing_it() {
        for url in ["x", "a://u:geheim@h", "a://h:70000", "a://[::1"] {
            let failure = Place::parse(url).expect_err(url);
            assert!(!failure.text.contains("geheim"));
        }
    }

    #[test]
    fn components_are_encoded() {
        let mut out = String::new();
        encode("a/b ü?~".as_bytes(), &mut out);
        assert_eq!(out, "a%2Fb%20%C3%BC%3F~");
        assert_eq!(decode(&out).as_deref(), Some("a/b ü?~"));
        assert_eq!(decode("100%"), Some("100%".to_owned()));
    }
}
