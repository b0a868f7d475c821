//! Access control: users, their rules, and whether a command line is within them.
//!
//! Plain data: no socket, no clock, no random numbers. A user's rules are a snapshot behind one pointer; who changes
//! them puts another in its place, so that a check never waits. What a user without limits costs is one flag.
//!
//! Read next: `rules.rs` for what a user is, `selector.rs` for what one list of rules allows, `users.rs` for who there is.
#![forbid(unsafe_code)]

mod catalog;
mod check;
mod file;
mod log;
mod password;
mod rules;
mod selector;
mod users;
mod words;

pub use catalog::Catalog;
pub use check::{Denied, error_text};
pub use file::{parse_file, write_file};
pub use log::{Context, Entry, Log, Reason};
pub use password::{Password, hash_password};
pub use rules::{RuleError, Rules};
pub use selector::Selector;
pub use users::{Changed, DEFAULT, Replaced, User, Users};
pub use words::{has_spaces, merge_selectors};
