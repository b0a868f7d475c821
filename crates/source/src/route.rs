//! A route: which keys stand for what in which source, in which form it is kept, and for how long.
//!
//! ```text
//! route user:<id:int> shop as hash query "SELECT name, email FROM users WHERE id = $id" ttl 5m
//! ```
//!
//! reads: the keys `user:` and a number come from `shop` as hashes, by this query, and are fresh for five minutes. `CACHE ROUTE
//! SET` takes the same words.

use crate::driver::{Checked, Limits, Purpose};
use crate::pattern::{Pattern, is_of, parameter_of};
use crate::shape::Shape;
use crate::stats::RouteStats;
use crate::tags::TagTemplate;
use crate::template::{Language, Parameter, ParameterType, Template};
use crate::words::{LineError, Words, bytes, duration, duration_text, large_bytes, number, unknown, yes};
use std::sync::Arc;
use std::time::Duration;

/// What a client is told when a load fails and no old copy may be given.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OnError {
    /// The error.
    Error,
    /// As if the store had nothing.
    Nil,
}

/// What becomes of copies while the changes of their source are not told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FeedDown {
    /// They are given until they end.
    Serve,
    /// Once that has lasted so long, each read asks the store first.
    BypassAfter(Duration),
}

/// What becomes of commands that write keys of a route.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Writes {
    /// Refused, but for those that only drop the copy or end it earlier (DEL, UNLINK, EXPIRE...).
    Refuse,
    /// They drop the copy, and change nothing else: the next read loads.
    Around,
    /// The route's statement runs first; the copy changes once the store has it.
    Through,
    /// They are queued on disk and answered; the route's statement runs afterwards.
    Behind,
    /// The copy is the client's to write, as without a route.
    Cache,
}

/// How much memory the keys of a route may take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Share {
    /// So many bytes.
    Bytes(usize),
    /// So much of `maxmemory`; without that no limit.
    Percent(u8),
}

/// One `route` line.
#[derive(Clone, Debug)]
pub struct Route {
    /// Which keys.
    pub pattern: Pattern,
    /// The name of the source.
    pub source: String,
    /// How what is found is kept.
    pub shape: Shape,
    /// What finds it.
    pub query: Template,
    /// What finds it for many keys at once; its first columns are what the names stand for.
    pub batch: Option<Template>,
    /// What finds the rows of all keys, those of one key behind each other; its first columns are what the names stand for.
    pub warm: Option<Template>,
    /// The type of each name of the pattern: declared, else what the store takes, else text.
    pub types: Vec<ParameterType>,
    /// The database it holds for.
    pub db: u32,
    /// How long a copy is fresh; never old if zero is given, and then nothing is kept.
    pub ttl: Duration,
    /// By how much of `ttl` a copy may end earlier, in percent, so that what was loaded together does not end together.
    pub jitter_percent: u8,
    /// How long it is known that the store has nothing.
    pub negative_ttl: Duration,
    /// How long after `ttl` a copy is still given, while it is fetched anew behind.
    pub stale_while_revalidate: Duration,
    /// How long after `ttl` a copy is given where it cannot be fetched anew.
    pub stale_if_error: Duration,
    /// How early a copy that is read is fetched anew before it ends: the beta of XFetch, 0 for never.
    pub refresh_ahead: f64,
    /// How long a client waits before it is given an old copy, if there is one, or told so.
    pub soft_timeout: Option<Duration>,
    /// How long a load may take.
    pub timeout: Option<Duration>,
    /// What clients are told when a load fails.
    pub on_error: OnError,
    /// What becomes of writes.
    pub writes: Writes,
    /// What runs in the store for SET.
    pub set: Option<Template>,
    /// What runs in the store for DEL.
    pub del: Option<Template>,
    /// What runs in the store for HSET: once for each field and value, or once with the fields by their names.
    pub hset: Option<Template>,
    /// What runs in the store for each field of HDEL.
    pub hdel: Option<Template>,
    /// Whether EXISTS and TTL load, too.
    pub exists_loads: bool,
    /// Columns of tables whose changes concern it: (table, column for each name of the pattern).
    pub invalidate: Vec<(String, Vec<String>)>,
    /// What becomes of copies while changes are not told.
    pub feed_down: FeedDown,
    /// The tags that its keys have.
    pub tags: Vec<TagTemplate>,
    /// How much one key may be.
    pub limits: Limits,
    /// How much all its keys may be, where they have room of their own.
    pub share: Option<Share>,
    /// The policy by which they leave when they would be more.
    pub policy: Option<String>,
    /// The words it was made of.
    pub words: Vec<String>,
    /// What is counted of it.
    pub stats: Arc<RouteStats>,
}

const OPTIONS: &[&str] = &[
    "query",
    "batch",
    "warm",
    "ttl",
    "jitter",
    "negative-ttl",
    "stale-while-revalidate",
    "stale-if-error",
    "refresh-ahead",
    "soft-timeout",
    "timeout",
    "on-error",
    "writes",
    "set",
    "del",
    "hset",
    "hdel",
    "exists",
    "invalidate",
    "feed-down",
    "tags",
    "max-rows",
    "max-bytes",
    "maxmemory",
    "maxmemory-policy",
    "db",
];

impl Route {
    /// Reads the words behind `route`. Statements are cut by the language of the source.
    ///
    /// # Errors
    /// What is wrong, and at which word.
    pub fn parse(words: &[String], find: impl FnOnce(&str) -> Option<Language>) -> Result<Route, LineError> {
        let mut reader = Words::new(words);
        let pattern = reader.expect("a pattern of keys, like user:<id>,")?;
        let pattern = Pattern::parse(pattern).map_err(|misfit| LineError::new(0, misfit.to_string()))?;
        let source = reader.expect("the name of a source")?.to_owned();
        let language = find(&source).ok_or_else(|| {
            LineError::new(1, format!("there is no source '{source}': a source line must come first"))
        })?;
        if !reader.expect("the word 'as' and a shape")?.eq_ignore_ascii_case("as") {
            return Err(LineError::new(2, "'as' and a shape must stand here, like: as hash"));
        }
        let shape = reader.read("as", Shape::parse)?;
        let mut route = Route::bare(pattern, source, shape);
        let mut has_query = false;
        while let Some(option) = reader.next() {
            let option = option.to_ascii_lowercase();
            has_query |= option == "query";
            route.take_option(&option, &mut reader, language)?;
        }
        if !has_query {
            return Err(LineError::new(words.len(), "a query is missing: query \"...\""));
        }
        route.words = words.to_vec();
        route.check_names()?;
        Ok(route)
    }

    fn bare(pattern: Pattern, source: String, shape: Shape) -> Route {
        let types = pattern.names().iter().map(|name| name.declared.unwrap_or(ParameterType::Text)).collect();
        Route {
            pattern,
            source,
            shape,
            query: Template::empty(),
            batch: None,
            warm: None,
            types,
            db: 0,
            ttl: Duration::from_secs(300),
            jitter_percent: 10,
            negative_ttl: Duration::from_secs(10),
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            refresh_ahead: 1.0,
            soft_timeout: None,
            timeout: None,
            on_error: OnError::Error,
            writes: Writes::Refuse,
            set: None,
            del: None,
            hset: None,
            hdel: None,
            exists_loads: false,
            invalidate: Vec::new(),
            feed_down: FeedDown::Serve,
            tags: Vec::new(),
            limits: Limits { rows: 10_000, bytes: 8 << 20 },
            share: None,
            policy: None,
            words: Vec::new(),
            stats: Arc::default(),
        }
    }

    fn take_option(
        &mut self,
        option: &str,
        reader: &mut Words<'_>,
        language: Language,
    ) -> Result<(), LineError> {
        let statement = |word: &str| Template::parse(word, language).map_err(|misfit| misfit.to_string());
        match option {
            "query" => self.query = reader.read(option, statement)?,
            "batch" => self.batch = Some(reader.read(option, statement)?),
            "warm" => self.warm = Some(reader.read(option, statement)?),
            "set" => self.set = Some(reader.read(option, statement)?),
            "del" => self.del = Some(reader.read(option, statement)?),
            "hset" => self.hset = Some(reader.read(option, statement)?),
            "hdel" => self.hdel = Some(reader.read(option, statement)?),
            "ttl" => self.ttl = reader.read(option, duration)?,
            "jitter" => self.jitter_percent = reader.read(option, |word| number(word, 0, 90))? as u8,
            "negative-ttl" => self.negative_ttl = reader.read(option, duration)?,
            "stale-while-revalidate" => self.stale_while_revalidate = reader.read(option, duration)?,
            "stale-if-error" => self.stale_if_error = reader.read(option, duration)?,
            "refresh-ahead" => self.refresh_ahead = reader.read(option, beta)?,
            "soft-timeout" => self.soft_timeout = Some(reader.read(option, duration)?),
            "timeout" => self.timeout = Some(reader.read(option, duration)?),
            "on-error" => self.on_error = reader.read(option, on_error)?,
            "writes" => self.writes = reader.read(option, writes)?,
            "exists" => self.exists_loads = reader.read(option, yes)?,
            "feed-down" => self.feed_down = reader.read(option, feed_down)?,
            "invalidate" => {
                let pair = reader.read(option, invalidation)?;
                if pair.1.len() != self.pattern.names().len() {
                    let what = "a column for each name of the pattern is wanted: table.column or table(a,b)";
                    return Err(LineError::new(reader.place(), what));
                }
                self.invalidate.push(pair);
            }
            "tags" => {
                let (names, tags) = (self.pattern.names(), &mut self.tags);
                reader.read(option, |word| TagTemplate::parse_all(word, names, tags))?;
            }
            "max-rows" => {
                self.limits.rows = reader.read(option, |word| number(word, 1, 10_000_000))? as usize
            }
            "max-bytes" => self.limits.bytes = reader.read(option, bytes)?,
            "maxmemory" => self.share = Some(reader.read(option, share)?),
            "maxmemory-policy" => {
                self.policy = Some(reader.read(option, |word| Ok(word.to_ascii_lowercase()))?)
            }
            "db" => self.db = reader.read(option, |word| number(word, 0, 16_383))? as u32,
            _ => return Err(unknown(reader.place(), option, OPTIONS)),
        }
        Ok(())
    }

    /// Every name of a statement stands in the pattern (or is the value that is written), and write-through has its
    /// statement.
    fn check_names(&self) -> Result<(), LineError> {
        let known = |name: &String| self.pattern.names().iter().any(|own| own.name == *name);
        let at = |option: &str| {
            let place = self.words.iter().skip(4).position(|word| word.eq_ignore_ascii_case(option));
            place.map_or(self.words.len(), |place| place + 5)
        };
        let reads =
            [("query", Some(&self.query)), ("batch", self.batch.as_ref()), ("del", self.del.as_ref())];
        for (option, statement) in reads {
            if let Some(name) =
                statement.and_then(|statement| statement.names().iter().find(|name| !known(name)))
            {
                let what = format!("${name} is no name of the pattern {}", self.pattern);
                return Err(LineError::new(at(option), what));
            }
        }
        if let Some(name) = self.warm.as_ref().and_then(|warm| warm.names().first()) {
            let what = format!("${name}: the statement of warm is for all keys, and takes no name");
            return Err(LineError::new(at("warm"), what));
        }
        if let Some(set) = &self.set
            && let Some(name) = set.names().iter().find(|name| *name != "value" && !known(name))
        {
            return Err(LineError::new(
                at("set"),
                format!("${name} is neither $value nor a name of the pattern"),
            ));
        }
        self.check_field_names(&known, &at)?;
        if self.feed_down != FeedDown::Serve && self.invalidate.is_empty() {
            let what = "feed-down needs something to be told of: invalidate table.column";
            return Err(LineError::new(at("feed-down"), what));
        }
        if self.policy.is_some() && self.share.is_none() {
            let what = "maxmemory-policy needs room of its own to keep to: maxmemory 20%, or a size";
            return Err(LineError::new(at("maxmemory-policy"), what));
        }
        let has_statements = matches!(self.writes, Writes::Through | Writes::Behind);
        let name = self.writes.name();
        let statements = [&self.set, &self.del, &self.hset, &self.hdel];
        if has_statements && statements.iter().all(|statement| statement.is_none()) {
            let what = format!("writes {name} needs a statement: set \"...\", del \"...\", hset or hdel");
            return Err(LineError::new(at("writes"), what));
        }
        if has_statements && self.set.is_some() && self.shape != Shape::String {
            let what = format!("SET writes {name} only where the shape is string");
            return Err(LineError::new(at("set"), what));
        }
        Ok(())
    }

    /// Statements for fields are for hashes, and say which field they mean.
    fn check_field_names(
        &self,
        known: &dyn Fn(&String) -> bool,
        at: &dyn Fn(&str) -> usize,
    ) -> Result<(), LineError> {
        for (option, statement) in [("hset", &self.hset), ("hdel", &self.hdel)] {
            let Some(statement) = statement else { continue };
            if self.shape != Shape::Hash {
                return Err(LineError::new(at(option), format!("{option} is for the shape hash")));
            }
            let has = |name: &str| statement.names().iter().any(|own| own == name);
            let others = |name: &&String| !known(name) && *name != "field" && *name != "value";
            let other = statement.names().iter().find(others);
            let what = match (option, other) {
                ("hdel", Some(name)) => format!("${name} is neither $field nor a name of the pattern"),
                ("hdel", None) if !has("field") => "it must say which field: $field".to_owned(),
                ("hset", None) if !(has("field") && has("value")) => {
                    "it must have $field and $value, or names of fields, like $email".to_owned()
                }
                ("hset", Some(name)) if has("field") || has("value") => {
                    format!("${name} is a field by its name: that goes with neither $field nor $value")
                }
                _ => continue,
            };
            return Err(LineError::new(at(option), what));
        }
        Ok(())
    }

    /// Takes what the store says of the route's statements into account: types of names that were not declared, and
    /// columns that the shape cannot hold.
    ///
    /// # Errors
    /// Why the shape cannot hold what the statement answers.
    pub fn learn(&mut self, purpose: Purpose, checked: &Checked) -> Result<(), String> {
        let names = self.pattern.names().len();
        match purpose {
            Purpose::Load => {
                self.shape.check(&checked.columns)?;
                for (name, kind) in self.query.names().iter().zip(&checked.parameters) {
                    let place = self.pattern.names().iter().position(|own| own.name == *name);
                    if let (Some(place), Some(kind)) = (place, kind)
                        && self.pattern.names()[place].declared.is_none()
                    {
                        self.types[place] = *kind;
                    }
                }
            }
            Purpose::Batch => {
                if !checked.columns.is_empty() && checked.columns.len() <= names {
                    return Err(format!(
                        "a batch answers {names} column(s) for the names of the key first, then those of the query"
                    ));
                }
                self.shape.check(checked.columns.get(names..).unwrap_or_default())?;
            }
            Purpose::Write => {}
        }
        Ok(())
    }

    /// What a statement's names stand for in a key; nothing if the key is none of the route's, or a word of it is not of its
    /// type: then the store has nothing for it, and is not asked.
    pub fn parameters(&self, statement: &Template, key: &[u8]) -> Option<Vec<Parameter>> {
        Some(self.bind(statement, &self.words_of(key)?))
    }

    /// What a statement's names stand for, where those of the pattern stand for these words.
    pub fn bind(&self, statement: &Template, words: &[Parameter]) -> Vec<Parameter> {
        let value = |name: &String| {
            let place = self.pattern.names().iter().position(|own| own.name == *name);
            place.and_then(|place| words.get(place)).cloned().unwrap_or(Parameter::Null)
        };
        statement.names().iter().map(value).collect()
    }

    /// By which statement the store changes when a key is set to something, or deleted, and what is bound to its names. Nothing
    /// where there is no such statement, or the key is none of the route's.
    pub fn statement(&self, key: &[u8], value: Option<&[u8]>) -> Option<(&Template, Vec<Parameter>)> {
        let words = self.words_of(key)?;
        let statement = if value.is_some() { self.set.as_ref() } else { self.del.as_ref() }?;
        let bind = |name: &String| {
            if let Some(value) = value
                && name == "value"
            {
                return Some(text_or_bytes(value));
            }
            let place = self.pattern.names().iter().position(|own| own.name == *name)?;
            words.get(place).cloned()
        };
        let values: Option<Vec<Parameter>> = statement.names().iter().map(bind).collect();
        Some((statement, values?))
    }

    /// The statements by which the store changes when fields of a key are set, or removed where they have no value, and what is
    /// bound to their names.
    ///
    /// # Errors
    /// The key is not of the types of the route's names, or a field is none that its statement names.
    pub fn field_statements(
        &self,
        key: &[u8],
        fields: &[(&[u8], Option<&[u8]>)],
    ) -> Result<Vec<(&Template, Vec<Parameter>)>, String> {
        let words =
            self.words_of(key).ok_or("the key is not of the types that the names of its route have")?;
        let is_set = fields.iter().any(|(_, value)| value.is_some());
        let (option, statement) = if is_set { ("hset", &self.hset) } else { ("hdel", &self.hdel) };
        let statement = statement.as_ref().ok_or_else(|| format!("the route has no statement {option}"))?;
        let of_pattern = |name: &String| {
            let place = self.pattern.names().iter().position(|own| own.name == *name)?;
            words.get(place).cloned()
        };
        if statement.names().iter().any(|name| name == "field") {
            let one = |(field, value): &(&[u8], Option<&[u8]>)| {
                let bind = |name: &String| match (name.as_str(), value) {
                    ("field", _) => text_or_bytes(field),
                    ("value", Some(value)) => text_or_bytes(value),
                    _ => of_pattern(name).unwrap_or(Parameter::Null),
                };
                (statement, statement.names().iter().map(bind).collect())
            };
            return Ok(fields.iter().map(one).collect());
        }
        let named = |field: &[u8]| statement.names().iter().any(|name| name.as_bytes() == field);
        let is_of_pattern =
            |field: &[u8]| self.pattern.names().iter().any(|own| own.name.as_bytes() == field);
        if let Some((field, _)) = fields.iter().find(|(field, _)| !named(field) || is_of_pattern(field)) {
            let field = String::from_utf8_lossy(field);
            return Err(format!("its route has no field '{field}' in its statement {option}"));
        }
        let bind = |name: &String| {
            // Of several values of one field the last counts, as in Redis.
            let given = fields.iter().rev().find(|(field, _)| *field == name.as_bytes());
            let value = given.and_then(|(_, value)| *value).map(text_or_bytes);
            value.or_else(|| of_pattern(name)).unwrap_or(Parameter::Null)
        };
        Ok(vec![(statement, statement.names().iter().map(bind).collect())])
    }

    /// What the pattern's names stand for in a key.
    pub fn words_of(&self, key: &[u8]) -> Option<Vec<Parameter>> {
        let mut words = Vec::with_capacity(self.types.len());
        self.push_words_of(key, &mut words).then_some(words)
    }

    /// Puts the same behind other words; false if the key has none.
    fn push_words_of(&self, key: &[u8], words: &mut Vec<Parameter>) -> bool {
        let mut types = self.types.iter();
        let count = words.len() + self.types.len();
        let is_one = self.pattern.each(key, &mut |word| {
            words.extend(types.next().and_then(|kind| parameter_of(word, *kind)));
        });
        is_one && words.len() == count
    }

    /// Whether a key is one of the route's. O(length of the key).
    pub fn has(&self, db: u32, key: &[u8]) -> bool {
        self.db == db && self.pattern.has(key)
    }

    /// Whether a key of the route has words of the types that its names have, and so may be asked for. O(length of the key).
    pub fn has_words(&self, key: &[u8]) -> bool {
        let mut types = self.pattern.names().iter().zip(&self.types);
        if types.all(|(name, kind)| name.declared == Some(*kind)) {
            // Or it would not be one of the route's.
            return true;
        }
        let (mut types, mut fits) = (self.types.iter(), true);
        let is_one = self.pattern.each(key, &mut |word| {
            fits &= types.next().is_some_and(|kind| is_of(word, *kind));
        });
        is_one && fits
    }

    /// What the names of the statement for many keys stand for, in these.
    pub fn lists_of<'k>(
        &self,
        batch: &Template,
        keys: impl ExactSizeIterator<Item = &'k [u8]>,
    ) -> Vec<Parameter> {
        let place = |name: &String| self.pattern.names().iter().position(|own| own.name == *name);
        let places: Vec<Option<usize>> = batch.names().iter().map(place).collect();
        let mut lists: Vec<Vec<Parameter>> = places.iter().map(|_| Vec::with_capacity(keys.len())).collect();
        let mut words = Vec::with_capacity(self.types.len());
        for key in keys {
            words.clear();
            self.push_words_of(key, &mut words);
            for (list, place) in lists.iter_mut().zip(&places) {
                let word = place.and_then(|place| words.get(place));
                list.push(word.cloned().unwrap_or(Parameter::Null));
            }
        }
        lists.into_iter().map(Parameter::List).collect()
    }

    /// Shows the tags of a key. O(length of the key and of its tags).
    pub fn tags_of(&self, key: &[u8], visit: &mut dyn FnMut(&[u8])) {
        if !self.tags.is_empty()
            && let Some(words) = self.pattern.capture(key)
        {
            self.tags.iter().for_each(|tag| visit(&tag.of(&words)));
        }
    }

    /// How long after it was loaded a copy may still be given in some case.
    pub fn grace(&self) -> Duration {
        self.stale_while_revalidate.max(self.stale_if_error)
    }

    /// The options as a line of text, each with its value, for people.
    pub fn describe(&self) -> Vec<(&'static str, String)> {
        let mut lines = vec![
            ("source", self.source.clone()),
            ("shape", self.shape.name().to_owned()),
            ("query", self.query.text().to_owned()),
        ];
        lines.extend(self.batch.as_ref().map(|batch| ("batch", batch.text().to_owned())));
        lines.extend(self.warm.as_ref().map(|warm| ("warm", warm.text().to_owned())));
        lines.extend([
            ("ttl", duration_text(self.ttl)),
            ("jitter", format!("{}%", self.jitter_percent)),
            ("negative-ttl", duration_text(self.negative_ttl)),
            ("stale-while-revalidate", duration_text(self.stale_while_revalidate)),
            ("stale-if-error", duration_text(self.stale_if_error)),
            ("refresh-ahead", self.refresh_ahead.to_string()),
            ("writes", self.writes.name().to_owned()),
        ]);
        let tables: Vec<String> = self.invalidate.iter().map(invalidation_text).collect();
        if !tables.is_empty() {
            lines.push(("invalidate", tables.join(" ")));
            lines.push(("feed-down", self.feed_down.text()));
        }
        if !self.tags.is_empty() {
            let tags: Vec<&str> = self.tags.iter().map(TagTemplate::text).collect();
            lines.push(("tags", tags.join(" ")));
        }
        if let Some(share) = self.share {
            lines.push(("maxmemory", share.text()));
            lines
                .push(("maxmemory-policy", self.policy.clone().unwrap_or_else(|| DEFAULT_POLICY.to_owned())));
        }
        lines
    }
}

/// The policy of a route with room of its own that names none.
pub const DEFAULT_POLICY: &str = "adaptive";

impl Share {
    /// As it is written in a line.
    pub fn text(self) -> String {
        match self {
            Share::Bytes(bytes) => bytes.to_string(),
            Share::Percent(percent) => format!("{percent}%"),
        }
    }

    /// In bytes, where `maxmemory` is so much; `None` for no limit at all.
    pub fn bytes(self, maxmemory: Option<usize>) -> Option<usize> {
        match self {
            Share::Bytes(bytes) => Some(bytes),
            Share::Percent(percent) => maxmemory.map(|bytes| bytes / 100 * usize::from(percent)),
        }
    }
}

fn share(word: &str) -> Result<Share, String> {
    match word.strip_suffix('%') {
        Some(percent) => match percent.parse() {
            Ok(percent @ 1..=100) => Ok(Share::Percent(percent)),
            _ => Err(format!("'{word}' is no share from 1% to 100%")),
        },
        None => large_bytes(word).map(Share::Bytes),
    }
}

impl FeedDown {
    /// As it is written in a line.
    pub fn text(self) -> String {
        match self {
            FeedDown::Serve => "serve".to_owned(),
            FeedDown::BypassAfter(Duration::ZERO) => "bypass".to_owned(),
            FeedDown::BypassAfter(time) => duration_text(time),
        }
    }
}

impl Writes {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Writes::Refuse => "refuse",
            Writes::Around => "around",
            Writes::Through => "through",
            Writes::Behind => "behind",
            Writes::Cache => "cache",
        }
    }
}

fn writes(word: &str) -> Result<Writes, String> {
    [Writes::Refuse, Writes::Around, Writes::Through, Writes::Behind, Writes::Cache]
        .into_iter()
        .find(|writes| writes.name() == word)
        .ok_or_else(|| format!("'{word}' is none of refuse, around, through, behind, cache"))
}

fn feed_down(word: &str) -> Result<FeedDown, String> {
    match word {
        "serve" => Ok(FeedDown::Serve),
        "bypass" => Ok(FeedDown::BypassAfter(Duration::ZERO)),
        _ => match duration(word) {
            Ok(time) => Ok(FeedDown::BypassAfter(time)),
            Err(_) => Err(format!("'{word}' is neither serve, bypass nor how long to serve, like 30s")),
        },
    }
}

fn on_error(word: &str) -> Result<OnError, String> {
    match word {
        "error" => Ok(OnError::Error),
        "nil" => Ok(OnError::Nil),
        _ => Err(format!("'{word}' is neither error nor nil")),
    }
}

fn beta(word: &str) -> Result<f64, String> {
    match word {
        "no" => Ok(0.0),
        "yes" => Ok(1.0),
        _ => match word.parse::<f64>() {
            Ok(beta) if (0.0..=10.0).contains(&beta) => Ok(beta),
            _ => Err(format!("'{word}' is neither yes, no nor a number from 0 to 10")),
        },
    }
}

/// A value that a client wrote, as text where it is any.
fn text_or_bytes(value: &[u8]) -> Parameter {
    parameter_of(value, ParameterType::Text).unwrap_or_else(|| Parameter::Bytes(value.into()))
}

/// As [`invalidation`] reads it.
fn invalidation_text((table, columns): &(String, Vec<String>)) -> String {
    match columns.as_slice() {
        [column] => format!("{table}.{column}"),
        _ => format!("{table}({})", columns.join(",")),
    }
}

/// `users.id` or `orders(tenant,id)`.
fn invalidation(word: &str) -> Result<(String, Vec<String>), String> {
    let wrong = || format!("'{word}' is neither table.column nor table(column,column)");
    if let Some(inner) = word.strip_suffix(')') {
        let (table, columns) = inner.split_once('(').ok_or_else(wrong)?;
        let columns: Vec<String> = columns.split(',').map(|column| column.trim().to_owned()).collect();
        let is_whole = !table.is_empty() && columns.iter().all(|column| !column.is_empty());
        return if is_whole { Ok((table.to_owned(), columns)) } else { Err(wrong()) };
    }
    let (table, column) = word.rsplit_once('.').ok_or_else(wrong)?;
    if table.is_empty() || column.is_empty() {
        return Err(wrong());
    }
    Ok((table.to_owned(), vec![column.to_owned()]))
}

impl Route {
    /// How long before its end a copy of this route needs a look.
    pub(crate) fn attention(&self) -> Duration {
        // XFetch reaches ahead by the time of a load, times a logarithm that is over 12 once in 160,000 reads.
        let ahead = Duration::from_secs_f64(self.stats.recent_ms() * self.refresh_ahead * 12.0 / 1000.0);
        self.grace() + ahead.min(self.ttl)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::{Column, ColumnKind};

    fn words(line: &[&str]) -> Vec<String> {
        line.iter().map(|word| (*word).to_owned()).collect()
    }

    fn route(line: &[&str]) -> Result<Route, LineError> {
        Route::parse(&words(line), |name| (name == "shop").then_some(Language::Sql))
    }

    const QUERY: &str = "SELECT name FROM users WHERE id = $id";

    #[test]
    fn a_line_is_read() {
        let line =
            ["user:<id:int>", "shop", "as", "hash", "query", QUERY, "ttl", "5m", "stale-if-error", "1h"];
        let route = route(&line).expect("a route");
        assert_eq!((route.ttl.as_secs(), route.grace().as_secs()), (300, 3600));
        assert_eq!(route.parameters(&route.query, b"user:42"), Some(vec![Parameter::Integer(42)]));
        assert_eq!(route.parameters(&route.query, b"user:4x"), None);
    }

    #[test]
    fn wrong_lines_say_at_which_word() {
        let wrong: [(&[&str], usize); 17] = [
            (&[], 0),
            (&["user:<id", "shop"], 0),
            (&["user:<id>", "crm", "as", "hash"], 1),
            (&["user:<id>", "shop", "in", "hash"], 2),
            (&["user:<id>", "shop", "as", "bag"], 3),
            (&["user:<id>", "shop", "as", "hash", "tll", "5m"], 4),
            (&["user:<id>", "shop", "as", "hash", "ttl", "5x"], 5),
            (&["user:<id>", "shop", "as", "hash", "ttl", "5m"], 6),
            (&["user:<key>", "shop", "as", "hash", "query", QUERY], 5),
            (&["user:<id>", "shop", "as", "hash", "query", QUERY, "invalidate", "users(a,b)"], 7),
            (&["user:<id>", "shop", "as", "hash", "query", QUERY, "maxmemory", "101%"], 7),
            (&["user:<id>", "shop", "as", "string", "query", QUERY, "hset", "U $id $field $value"], 7),
            (&["user:<id>", "shop", "as", "hash", "query", QUERY, "hset", "U $id $field"], 7),
            (&["user:<id>", "shop", "as", "hash", "query", QUERY, "hset", "U $id $field $name"], 7),
            (&["user:<id>", "shop", "as", "hash", "query", QUERY, "hdel", "D $id"], 7),
            (&["user:<id>", "shop", "as", "hash", "query", QUERY, "hdel", "D $id $field $x"], 7),
            (&["user:<id>", "shop", "as", "hash", "query", QUERY, "maxmemory-policy", "lru"], 7),
        ];
        for (line, word) in wrong {
            let error = route(line).expect_err("wrong");
            assert_eq!(error.word, word, "{line:?}: {error}");
        }
    }

    #[test]
    fn fields_are_bound_one_by_one_or_by_their_names() {
        let text = |text: &str| Parameter::Text(text.into());
        let (one, two) = ((&b"name"[..], Some(&b"Ada"[..])), (&b"email"[..], Some(&b"a@x"[..])));
        let line = ["user:<id:int>", "shop", "as", "hash", "query", QUERY, "hset", "U $id $field $value"];
        let each = route(&line).expect("a route");
        let bound = each.field_statements(b"user:7", &[one, two]).expect("fits");
        let values: Vec<_> = bound.into_iter().map(|(_, values)| values).collect();
        let seven = Parameter::Integer(7);
        assert_eq!(values[0], [seven.clone(), text("name"), text("Ada")]);
        assert_eq!(values[1], [seven.clone(), text("email"), text("a@x")]);
        assert!(each.field_statements(b"user:x", &[one]).is_err());
        assert!(each.field_statements(b"user:7", &[(b"name", None)]).is_err(), "no hdel");
        let line = ["user:<id:int>", "shop", "as", "hash", "query", QUERY, "hset", "U $id $name $email"];
        let once = route(&line).expect("a route");
        let values = |fields: &[(&[u8], Option<&[u8]>)]| {
            once.field_statements(b"user:7", fields).map(|bound| bound[0].1.clone())
        };
        assert_eq!(values(&[two]), Ok(vec![seven.clone(), Parameter::Null, text("a@x")]));
        assert_eq!(values(&[one, (b"name", Some(b"Eve"))]), Ok(vec![seven, text("Eve"), Parameter::Null]));
        for field in [&b"age"[..], b"id"] {
            assert!(values(&[(field, Some(b"8"))]).is_err());
        }
    }

    #[test]
    fn the_store_says_what_types_are() {
        let mut route = route(&["user:<id>", "shop", "as", "string", "query", QUERY]).expect("a route");
        let column = |kind| Column { name: "name".to_owned(), kind };
        let checked = Checked {
            columns: vec![column(ColumnKind::Text)],
            parameters: vec![Some(ParameterType::Integer)],
        };
        assert!(route.has_words(b"user:x"));
        route.learn(Purpose::Load, &checked).expect("fits");
        assert_eq!(route.parameters(&route.query, b"user:x"), None);
        assert!(!route.has_words(b"user:x") && route.has_words(b"user:7"));
        let two = Checked { columns: vec![column(ColumnKind::Text); 2], parameters: Vec::new() };
        assert!(route.learn(Purpose::Load, &two).is_err());
    }
}
