//! What of a command line a user may not do, and how that is said.

use crate::catalog::Catalog;

/// What is denied. Later ones are nearer to being allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Denied {
    /// The database that this word names; the one in use for 0.
    Database(usize),
    /// The command.
    Command,
    /// The key at this word.
    Key(usize),
    /// The channel at this word.
    Channel(usize),
}

impl Denied {
    /// The word that is denied; 0 for the command.
    pub fn word(self) -> usize {
        match self {
            Denied::Command => 0,
            Denied::Database(index) | Denied::Key(index) | Denied::Channel(index) => index,
        }
    }

    /// What EXEC says of a command that was allowed when it was queued.
    pub fn reason(self) -> &'static str {
        match self {
            Denied::Database(_) => "no permission",
            Denied::Command => "no permission to execute the command or subcommand",
            Denied::Key(_) => "no permission to touch the specified keys",
            Denied::Channel(_) => "no permission to access one of the channels used as arguments",
        }
    }
}

/// What the user is told, without the error's code. `word`: the denied word, where it is to be named (ACL DRYRUN).
pub fn error_text(catalog: &Catalog, user: &[u8], id: usize, denied: Denied, word: Option<&[u8]>) -> Vec<u8> {
    let named = |what: &[u8], word: &[u8]| {
        [b"User ", user, b" has no permissions to access the '", word, b"' ", what].concat()
    };
    match (denied, word) {
        (Denied::Command, _) => {
            [b"User ", user, b" has no permissions to run the '", catalog.name(id).as_bytes(), b"' command"]
                .concat()
        }
        (Denied::Database(_), None) => b"No permissions to access database".to_vec(),
        (Denied::Database(_), Some(word)) => {
            [b"User ", user, b" has no permissions to access database ", word].concat()
        }
        (Denied::Key(_), None) => b"No permissions to access a key".to_vec(),
        (Denied::Channel(_), None) => b"No permissions to access a channel".to_vec(),
        (Denied::Key(_), Some(word)) => named(b"key", word),
        (Denied::Channel(_), Some(word)) => named(b"channel", word),
    }
}
