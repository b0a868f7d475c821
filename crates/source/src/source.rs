//! A source: a store by name, how it is reached, and how much is asked of it at once.
//!
//! ```text
//! source shop postgres://app@db.internal/shop password-env SHOP_PASSWORD connections 8
//! ```

use crate::template::Language;
use crate::words::{LineError, Words, bytes, duration, duration_text, number, unknown};
use std::time::Duration;

/// One `source` line.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceSpec {
    /// Its name in routes.
    pub name: String,
    /// Where it is. Holds no password.
    pub url: String,
    /// Loads and writes under way at once, each over a connection of its own.
    pub connections: usize,
    /// Loads that wait for one of them; one more is refused.
    pub queue: usize,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long a load may take, waiting for its turn included.
    pub timeout: Duration,
    /// How often a load that failed in passing is tried again.
    pub retries: u32,
    /// Failures in a row after which the source is left alone for a while.
    pub breaker: u32,
    /// The user, where the URL has none.
    pub user: Option<String>,
    /// Where the password is.
    pub password: Option<Secret>,
    /// A file with certificates to trust, in PEM, instead of the system's.
    pub ca_file: Option<String>,
    /// Headers to send (HTTP).
    pub headers: Vec<(String, String)>,
    /// How often a store that cannot tell of changes by itself is asked for them.
    pub poll: Duration,
    /// How long a change that is told may not be seen yet by queries, where the store tells early.
    pub settle: Duration,
    /// When what is queued for it is made to survive a power cut.
    pub behind_fsync: Fsync,
    /// How many queued writes it is given at once, at most.
    pub behind_batch: usize,
    /// How much may be queued for it, in bytes.
    pub behind_bytes_max: usize,
    /// The words it was made of.
    pub words: Vec<String>,
}

/// When writes that are queued on disk are made to survive a power cut; the words of `appendfsync`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fsync {
    /// Before the client is answered.
    Always,
    /// Once a second.
    EverySec,
    /// When the system likes.
    No,
}

impl Fsync {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Fsync::Always => "always",
            Fsync::EverySec => "everysec",
            Fsync::No => "no",
        }
    }

    fn parse(word: &str) -> Result<Fsync, String> {
        [Fsync::Always, Fsync::EverySec, Fsync::No]
            .into_iter()
            .find(|fsync| fsync.name() == word)
            .ok_or_else(|| format!("'{word}' is none of always, everysec, no"))
    }
}

/// Where a password is to be read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Secret {
    /// An environment variable.
    Env(String),
    /// The first line of a file.
    File(String),
}

const OPTIONS: &[&str] = &[
    "connections",
    "queue",
    "connect-timeout",
    "timeout",
    "retries",
    "breaker",
    "user",
    "password-env",
    "password-file",
    "ca-file",
    "header",
    "poll",
    "behind-fsync",
    "behind-batch",
    "behind-max-bytes",
    "settle",
];

impl SourceSpec {
    /// Reads the words behind `source`.
    ///
    /// # Errors
    /// What is wrong, and at which word.
    pub fn parse(words: &[String]) -> Result<SourceSpec, LineError> {
        let mut reader = Words::new(words);
        let name = reader.expect("a name for the source")?;
        let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
        if !is_name || name.is_empty() || name.len() > 64 {
            let what = "the name of a source has letters, digits, '_', '-' and '.', 64 of them at most";
            return Err(LineError::new(0, what));
        }
        let url = reader.expect("the URL of the source")?;
        check_url(url).map_err(|what| LineError::new(1, what))?;
        let mut spec = SourceSpec::bare(name, url);
        while let Some(option) = reader.next() {
            spec.take_option(&option.to_ascii_lowercase(), &mut reader)?;
        }
        spec.words = words.to_vec();
        Ok(spec)
    }

    fn bare(name: &str, url: &str) -> SourceSpec {
        SourceSpec {
            name: name.to_owned(),
            url: url.to_owned(),
            connections: 8,
            queue: 10_000,
            connect_timeout: Duration::from_secs(2),
            timeout: Duration::from_secs(5),
            retries: 2,
            breaker: 5,
            user: None,
            password: None,
            ca_file: None,
            headers: Vec::new(),
            poll: Duration::from_millis(50),
            settle: Duration::from_millis(100),
            behind_fsync: Fsync::EverySec,
            behind_batch: 100,
            behind_bytes_max: 256 << 20,
            words: Vec::new(),
        }
    }

    fn take_option(&mut self, option: &str, reader: &mut Words<'_>) -> Result<(), LineError> {
        let text = |word: &str| Ok(word.to_owned());
        match option {
            "connections" => self.connections = reader.read(option, |word| number(word, 1, 1024))? as usize,
            "queue" => self.queue = reader.read(option, |word| number(word, 0, 1_000_000))? as usize,
            "connect-timeout" => self.connect_timeout = reader.read(option, some_time)?,
            "timeout" => self.timeout = reader.read(option, some_time)?,
            "retries" => self.retries = reader.read(option, |word| number(word, 0, 20))? as u32,
            "breaker" => self.breaker = reader.read(option, |word| number(word, 1, 1_000_000))? as u32,
            "poll" => self.poll = reader.read(option, some_time)?,
            "settle" => self.settle = reader.read(option, duration)?,
            "behind-fsync" => self.behind_fsync = reader.read(option, Fsync::parse)?,
            "behind-batch" => {
                self.behind_batch = reader.read(option, |word| number(word, 1, 10_000))? as usize;
            }
            "behind-max-bytes" => self.behind_bytes_max = reader.read(option, bytes)?,
            "user" => self.user = Some(reader.read(option, text)?),
            "password-env" => self.password = Some(Secret::Env(reader.read(option, text)?)),
            "password-file" => self.password = Some(Secret::File(reader.read(option, text)?)),
            "ca-file" => self.ca_file = Some(reader.read(option, text)?),
            "header" => {
                let name = reader.value(option)?.to_owned();
                let value = reader.value(option)?.to_owned();
                self.headers.push((name, value));
            }
            _ => return Err(unknown(reader.place(), option, OPTIONS)),
        }
        Ok(())
    }

    /// The part of the URL that says which kind of store it is.
    pub fn scheme(&self) -> &str {
        self.url.split_once(':').map_or("", |(scheme, _)| scheme)
    }

    /// How its statements are written.
    pub fn language(&self) -> Language {
        match self.scheme() {
            "sqlite" | "postgres" | "postgresql" | "mysql" | "mariadb" => Language::Sql,
            _ => Language::Plain,
        }
    }

    /// The password, read now from where it is.
    ///
    /// # Errors
    /// Where it was to be found, and why it was not.
    pub fn read_password(&self) -> Result<Option<String>, String> {
        match &self.password {
            None => Ok(None),
            Some(Secret::Env(name)) => match std::env::var(name) {
                Ok(password) => Ok(Some(password)),
                Err(_) => {
                    Err(format!("the environment has no variable {name} with the password of {}", self.name))
                }
            },
            Some(Secret::File(path)) => match std::fs::read_to_string(path) {
                Ok(text) => Ok(Some(text.lines().next().unwrap_or_default().to_owned())),
                Err(error) => Err(format!("the file {path} with the password of {}: {error}", self.name)),
            },
        }
    }

    /// Its options, each with its value, for people.
    pub fn describe(&self) -> Vec<(&'static str, String)> {
        let password = match &self.password {
            None => "none".to_owned(),
            Some(Secret::Env(name)) => format!("from the environment variable {name}"),
            Some(Secret::File(path)) => format!("from the file {path}"),
        };
        vec![
            ("url", self.url.clone()),
            ("password", password),
            ("connections", self.connections.to_string()),
            ("queue", self.queue.to_string()),
            ("connect-timeout", duration_text(self.connect_timeout)),
            ("timeout", duration_text(self.timeout)),
            ("retries", self.retries.to_string()),
            ("breaker", self.breaker.to_string()),
            ("behind-fsync", self.behind_fsync.name().to_owned()),
            ("behind-batch", self.behind_batch.to_string()),
            ("behind-max-bytes", self.behind_bytes_max.to_string()),
        ]
    }
}

/// A duration that is not zero.
fn some_time(word: &str) -> Result<Duration, String> {
    let time = duration(word)?;
    if time.is_zero() { Err("it must be longer than nothing".to_owned()) } else { Ok(time) }
}

fn check_url(url: &str) -> Result<(), String> {
    let Some((_, rest)) = url.split_once(':') else {
        return Err(format!("'{url}' is no URL: it begins with the kind of store, like sqlite:shop.db"));
    };
    let authority =
        rest.strip_prefix("//").map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
    let user = authority.and_then(|authority| authority.rsplit_once('@')).map(|(user, _)| user);
    if user.is_some_and(|user| user.contains(':')) {
        return Err(
            "a password must not stand in a URL, where it would be shown: write password-env NAME or \
                    password-file PATH"
                .to_owned(),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(line: &[&str]) -> Result<SourceSpec, LineError> {
        SourceSpec::parse(&line.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_line_is_read() {
        let spec = source(&["shop", "postgres://app@db/shop", "password-env", "PW", "connections", "3"])
            .expect("a source");
        assert_eq!((spec.connections, spec.scheme(), spec.language()), (3, "postgres", Language::Sql));
        assert_eq!(spec.password, Some(Secret::Env("PW".to_owned())));
    }

    #[test]
    fn wrong_lines_say_at_which_word() {
        let wrong: [(&[&str], usize); 7] = [
            (&[], 0),
            (&["sh op", "sqlite:a"], 0),
            (&["shop"], 1),
            (&["shop", "shop.db"], 1),
            (&["shop", "postgres://app:secret@db/shop"], 1),
            (&["shop", "sqlite:a", "conections", "3"], 2),
            (&["shop", "sqlite:a", "connections", "0"], 3),
        ];
        for (line, word) in wrong {
            let error = source(line).expect_err("wrong");
            assert_eq!(error.word, word, "{line:?}: {error}");
            assert!(!error.what.contains("secret"), "{error}");
        }
    }
}
