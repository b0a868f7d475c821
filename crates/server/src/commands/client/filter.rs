//! Which connections CLIENT LIST shows and CLIENT KILL closes.
//!
//! Redis knows a few filters, and for LIST one at a time; Valkey has more, each of them also the other way round
//! (`NOT-NAME`), and takes them together. What Redis refuses and Valkey has is obeyed; what both have is as in Redis.

use super::super::connection::shown_name;
use super::list::{Kind, flags, kind_of};
use crate::clients::Client;
use crate::execute::Host;
use larder_commands::{Args, Error};
use larder_values::number;
use std::sync::atomic::Ordering::Relaxed;

/// The letters of connections' states in Redis and in Valkey, whether or not a connection is ever in the state here.
const FLAG_LETTERS: &[u8] = b"bcdeirtuxABEIMNOPRSTU";

/// The letters of what clients say that they can do: follow a redirection.
const CAPABILITY_LETTERS: &[u8] = b"r";

/// The command that asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asking {
    List,
    Kill,
}

/// Which connections are meant; an absent filter lets all pass.
#[derive(Debug, Default)]
pub(super) struct Filter<'a> {
    is: Traits<'a>,
    is_not: Traits<'a>,
    idle_secs_min: Option<u64>,
    age_secs_min: Option<u64>,
    skips_asker: bool,
}

/// What a connection may be asked to have, or to lack.
#[derive(Debug, Default)]
struct Traits<'a> {
    /// In ascending order.
    ids: Option<Vec<u64>>,
    kind: Option<Kind>,
    db: Option<u32>,
    /// A text for each of [`Text`].
    texts: [Option<&'a [u8]>; 9],
}

/// Traits that are texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Text {
    User,
    Address,
    LocalAddress,
    Flags,
    Name,
    Library,
    LibraryVersion,
    Capabilities,
    Ip,
}

const TEXTS: [(&[u8], Text); 9] = [
    (b"user", Text::User),
    (b"addr", Text::Address),
    (b"laddr", Text::LocalAddress),
    (b"flags", Text::Flags),
    (b"name", Text::Name),
    (b"lib-name", Text::Library),
    (b"lib-ver", Text::LibraryVersion),
    (b"capa", Text::Capabilities),
    (b"ip", Text::Ip),
];

impl<'a> Filter<'a> {
    /// The connection of an address.
    pub(super) fn of_address(address: &'a [u8]) -> Filter<'a> {
        let mut filter = Filter::default();
        filter.is.texts[Text::Address as usize] = Some(address);
        filter
    }

    /// The filters from the third word on.
    pub(super) fn parse(host: &Host<'_>, args: &Args<'a>, asking: Asking) -> Result<Filter<'a>, Error> {
        let mut filter = Filter { skips_asker: asking == Asking::Kill, ..Filter::default() };
        // What Redis' own form of CLIENT LIST does not end with is a syntax error, whatever else is wrong.
        let is_more = asking == Asking::List && args.len() > 4 && args.is(2, b"type");
        let mut at = 2;
        while at < args.len() {
            let words = filter.parse_one(host, args, at, asking);
            at += words.map_err(|error| if is_more { Error::Syntax } else { error })?;
        }
        Ok(filter)
    }

    /// One filter: how many words it is.
    fn parse_one(
        &mut self,
        host: &Host<'_>,
        args: &Args<'a>,
        at: usize,
        asking: Asking,
    ) -> Result<usize, Error> {
        let value = args.try_get(at + 1).ok_or(Error::Syntax)?;
        if args.is(at, b"skipme") {
            self.skips_asker = match value.to_ascii_lowercase().as_slice() {
                b"yes" => true,
                b"no" => false,
                _ => return Err(Error::Syntax),
            };
        } else if args.is(at, b"idle") {
            self.idle_secs_min = Some(seconds("idle", value)?);
        } else if args.is(at, b"maxage") {
            self.age_secs_min = Some(seconds("maxage", value)?);
        } else {
            let (is_not, name) = negated(args.get(at));
            if name.eq_ignore_ascii_case(b"id") {
                let (ids, words) = parse_ids(args, at + 1, asking)?;
                self.traits(is_not).ids = Some(ids);
                return Ok(1 + words);
            }
            self.parse_trait(host, name, value, is_not)?;
        }
        Ok(2)
    }

    fn traits(&mut self, is_not: bool) -> &mut Traits<'a> {
        if is_not { &mut self.is_not } else { &mut self.is }
    }

    /// A trait that is one word.
    fn parse_trait(
        &mut self,
        host: &Host<'_>,
        name: &[u8],
        value: &'a [u8],
        is_not: bool,
    ) -> Result<(), Error> {
        if name.eq_ignore_ascii_case(b"type") {
            self.traits(is_not).kind = Some(kind_of(value)?);
            return Ok(());
        }
        if name.eq_ignore_ascii_case(b"db") {
            self.traits(is_not).db = Some(parse_db(host, value, is_not)?);
            return Ok(());
        }
        let known = TEXTS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        let (_, text) = known.ok_or(Error::Syntax)?;
        match text {
            Text::Flags => check_letters("flags", "NOT-FLAGS", is_not, value, FLAG_LETTERS)?,
            Text::Capabilities => check_letters("capa", "NOT-CAPA", is_not, value, CAPABILITY_LETTERS)?,
            Text::User if host.server().access.users.get(value).is_none() => {
                return Err(Error::custom([b"ERR No such user '", shown_name(value), b"'"].concat()));
            }
            _ => {}
        }
        self.traits(is_not).texts[*text as usize] = Some(value);
        Ok(())
    }

    /// Whether a connection passes. `asker` is the number of the one that asks.
    pub(super) fn has(&self, client: &Client, now_ms: u64, asker: u64) -> bool {
        let secs_since = |moment_ms: u64| now_ms.saturating_sub(moment_ms) / 1000;
        !(self.skips_asker && client.id == asker)
            && self.age_secs_min.is_none_or(|secs| secs_since(client.created_ms) >= secs)
            && self.idle_secs_min.is_none_or(|secs| secs_since(client.active_ms.load(Relaxed)) >= secs)
            && self.is.answers(client).all(|has| has)
            && self.is_not.answers(client).all(|has| !has)
    }
}

impl Traits<'_> {
    /// For each trait that is asked about, whether a connection has it.
    fn answers(&self, client: &Client) -> impl Iterator<Item = bool> {
        let id = self.ids.as_ref().map(|ids| ids.binary_search(&client.id).is_ok());
        let kind = self.kind.map(|kind| kind.has(client));
        let db = self.db.map(|db| db == client.db.load(Relaxed));
        let texts = TEXTS.iter().zip(&self.texts);
        let texts = texts.filter_map(|((_, text), wanted)| Some(text.is(client, (*wanted)?)));
        [id, kind, db].into_iter().flatten().chain(texts)
    }
}

impl Text {
    fn is(self, client: &Client, wanted: &[u8]) -> bool {
        match self {
            Text::User => client.names.lock().user.name() == wanted,
            Text::Address => client.address.as_bytes() == wanted,
            Text::LocalAddress => client.local_address.as_bytes() == wanted,
            Text::Flags => {
                let letters = flags(client);
                wanted.iter().all(|letter| letters.as_bytes().contains(letter))
            }
            Text::Name => is_same(&client.names.lock().name, wanted),
            Text::Library => is_same(&client.names.lock().library, wanted),
            Text::LibraryVersion => is_same(&client.names.lock().library_version, wanted),
            // Nothing else is a capability.
            Text::Capabilities => wanted.is_empty() || client.follows_redirects.load(Relaxed),
            Text::Ip => ip_of(&client.address).as_bytes() == wanted,
        }
    }
}

/// Whether a text is what is wanted. What was never said is not even nothing.
fn is_same(said: &[u8], wanted: &[u8]) -> bool {
    !said.is_empty() && said == wanted
}

/// An address without its port, and without the brackets that set it off.
fn ip_of(address: &str) -> &str {
    let ip = address.rsplit_once(':').map_or(address, |(ip, _)| ip);
    ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip)
}

/// The numbers of connections from word `first` on, in ascending order, and how many words they are.
fn parse_ids(args: &Args<'_>, first: usize, asking: Asking) -> Result<(Vec<u64>, usize), Error> {
    let numbers: Vec<i64> = args.from(first).map_while(number::parse_i64).collect();
    let words = numbers.len();
    let mut ids: Vec<u64> = numbers.into_iter().filter_map(|id| u64::try_from(id).ok()).collect();
    // In a list numbers below 1 are no client's.
    let is_wrong = match asking {
        Asking::List => words == 0 || args.try_get(first + words).is_some_and(|word| !is_filter(word)),
        Asking::Kill => words == 0 || ids.len() < words || ids.contains(&0),
    };
    if is_wrong {
        return Err(match asking {
            Asking::List => Error::of("ERR Invalid client ID"),
            Asking::Kill => Error::of("ERR client-id should be greater than 0"),
        });
    }
    ids.sort_unstable();
    Ok((ids, words))
}

/// Whether a trait is one that a connection is not to have, and its name.
fn negated(word: &[u8]) -> (bool, &[u8]) {
    match word.split_at_checked(4) {
        Some((start, name)) if start.eq_ignore_ascii_case(b"not-") => (true, name),
        _ => (false, word),
    }
}

/// Whether a word is the name of a filter.
fn is_filter(word: &[u8]) -> bool {
    let is_one_of = |names: &[&[u8]], word: &[u8]| names.iter().any(|name| name.eq_ignore_ascii_case(word));
    let (_, name) = negated(word);
    is_one_of(&[b"skipme", b"idle", b"maxage"], word)
        || is_one_of(&[b"id", b"type", b"db"], name)
        || TEXTS.iter().any(|(known, _)| known.eq_ignore_ascii_case(name))
}

/// A time in whole seconds, at least one.
fn seconds(what: &str, text: &[u8]) -> Result<u64, Error> {
    let wrong = |how: &str| Error::custom(format!("ERR {what} {how}"));
    let secs = number::parse_i64(text).ok_or_else(|| wrong("is not an integer or out of range"))?;
    let secs = u64::try_from(secs).ok().filter(|secs| *secs > 0);
    secs.ok_or_else(|| wrong("should be greater than 0"))
}

fn parse_db(host: &Host<'_>, text: &[u8], is_not: bool) -> Result<u32, Error> {
    let name = if is_not { "NOT-DB" } else { "DB" };
    let wrong = |how: &str| Error::custom(format!("ERR {name} {how}"));
    let db = number::parse_i64(text).and_then(|db| i32::try_from(db).ok());
    let db = db.ok_or_else(|| wrong("is not an integer or out of range"))?;
    let databases = host.server().settings().databases();
    let db = u32::try_from(db).ok().filter(|db| *db < databases);
    db.ok_or_else(|| wrong(&format!("number should be between 0 and {}", databases.saturating_sub(1))))
}

/// All letters of a filter are letters that there are.
fn check_letters(what: &str, negated: &str, is_not: bool, letters: &[u8], known: &[u8]) -> Result<(), Error> {
    if shown_name(letters).iter().all(|letter| known.contains(letter)) {
        return Ok(());
    }
    let mut text = match is_not {
        true => format!("ERR Unknown {what} found in the {negated} filter: "),
        false => format!("ERR Unknown {what} found in the provided filter: "),
    }
    .into_bytes();
    text.extend_from_slice(shown_name(letters));
    Err(Error::custom(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_ip_in_front_of_the_port() {
        assert_eq!(ip_of("127.0.0.1:7000"), "127.0.0.1");
        assert_eq!(ip_of("[::1]:7000"), "::1");
        assert_eq!(ip_of("/run/larder.sock:0"), "/run/larder.sock");
    }

    #[test]
    fn filters_have_names_in_any_case() {
        for name in [&b"ID"[..], b"not-id", b"Not-Name", b"skipme", b"CAPA", b"NOT-DB", b"idle"] {
            assert!(is_filter(name), "{}", name.escape_ascii());
        }
        for name in [&b"NOT-SKIPME"[..], b"NOT-IDLE", b"not-", b"", b"5", b"NAMES"] {
            assert!(!is_filter(name), "{}", name.escape_ascii());
        }
    }

    #[test]
    fn seconds_are_whole_and_more_than_none() {
        assert_eq!(seconds("idle", b"3"), Ok(3));
        for text in [&b"0"[..], b"-1", b"1.5", b""] {
            assert!(seconds("idle", text).is_err());
        }
    }
}
