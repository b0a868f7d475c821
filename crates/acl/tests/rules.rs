//! Rules against a naive model: the list of all rules ever given, read from the beginning for each question.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use larder_acl::{Catalog, Denied, RuleError, Rules, User, Users};
use larder_commands::spec::{Acl, Flags, KeyFlags};
use larder_commands::{Args, Command, Spec};
use larder_resp::Span;
use larder_values::glob;
use proptest::prelude::*;
use std::sync::OnceLock;

/// Commands on connections that the rules about databases speak of, or not.
static CONNECTIONS: [Spec; 2] =
    [Spec { name: "select", ..Spec::EMPTY }, Spec { name: "ping", ..Spec::EMPTY }];

/// The commands on data, and those.
fn catalog() -> &'static Catalog {
    static CATALOG: OnceLock<Catalog> = OnceLock::new();
    CATALOG.get_or_init(|| {
        let mut catalog = Catalog::default();
        for Command { spec, subcommands, .. } in larder_commands::commands() {
            let id = catalog.add(spec, None);
            subcommands.iter().for_each(|sub| _ = catalog.add(&sub.spec, Some(id)));
        }
        CONNECTIONS.iter().for_each(|spec| _ = catalog.add(spec, None));
        catalog
    })
}

fn words(line: &str) -> (Vec<u8>, Vec<Span>) {
    let (mut bytes, mut spans) = (Vec::new(), Vec::new());
    for word in line.split(' ') {
        spans.push(Span { start: bytes.len() as u32, len: word.len() as u32 });
        bytes.extend_from_slice(word.as_bytes());
    }
    (bytes, spans)
}

fn ask(rules: &Rules, line: &str) -> Result<(), Denied> {
    let (bytes, spans) = words(line);
    let id = catalog().find_line(line.split(' ').map(str::as_bytes)).unwrap();
    rules.check(catalog(), id, &Args::new(&bytes, &spans), 0)
}

fn user(rules: &[&str]) -> Rules {
    let mut made = Rules::new(false);
    for rule in rules {
        made.apply(catalog(), rule.as_bytes(), false).unwrap_or_else(|error| panic!("{rule}: {error:?}"));
    }
    made
}

/// The command of a line and its container, if it is a subcommand.
fn specs(line: &str) -> (String, &'static Spec, Option<&'static Spec>) {
    let mut words = line.split(' ');
    let (first, second) = (words.next().unwrap(), words.next().unwrap_or_default());
    let command = larder_commands::commands().find(|command| command.spec.name == first).unwrap();
    let sub = command.subcommands.iter().find(|sub| sub.spec.name == second);
    match sub {
        Some(sub) => (format!("{first}|{second}"), &sub.spec, Some(&command.spec)),
        None => (first.to_owned(), &command.spec, None),
    }
}

/// The command part of the model: the last rule about it decides.
fn may_run(rules: &[String], line: &str) -> bool {
    let (name, spec, container) = specs(line);
    if spec.flags.has(Flags::NO_AUTH) {
        return true;
    }
    let mut allowed = false;
    let mut first_words: Vec<&str> = Vec::new();
    for rule in rules {
        let (sign, rest) = rule.split_at(1);
        let is_about = match rest {
            _ if sign != "+" && sign != "-" => continue,
            "@all" => true,
            rest if rest.starts_with('@') => {
                let category = Acl::WORDS.iter().find(|(_, word)| *word == &rest[1..]).unwrap().0;
                spec.categories().has(category)
                    || container.is_some_and(|container| container.categories().has(category))
            }
            rest => rest == name || container.is_some_and(|container| container.name == rest),
        };
        if is_about {
            allowed = sign == "+";
            first_words.clear();
        } else if let Some(word) = rest.strip_prefix(&format!("{name}|")) {
            first_words.push(word);
        }
    }
    let word = line.split(' ').nth(if container.is_some() { 2 } else { 1 });
    allowed || word.is_some_and(|word| first_words.contains(&word))
}

/// The key part: what the patterns since the last `resetkeys` or `allkeys` come to.
fn may_touch(rules: &[String], key: &str, reads: bool, writes: bool) -> bool {
    let mut patterns: Vec<(&str, bool, bool)> = Vec::new();
    for rule in rules {
        match rule.as_str() {
            "resetkeys" => patterns.clear(),
            "allkeys" => patterns = vec![("", true, true)],
            rule if rule.starts_with("%R~") => patterns.push((&rule[3..], true, false)),
            rule if rule.starts_with("%W~") => patterns.push((&rule[3..], false, true)),
            rule if rule.starts_with('~') => patterns.push((&rule[1..], true, true)),
            _ => {}
        }
    }
    // One pattern that is given twice may both read and write.
    patterns.iter().any(|(pattern, ..)| {
        let same = || patterns.iter().filter(|(other, ..)| other == pattern);
        let (can_read, can_write) = (same().any(|(_, r, _)| *r), same().any(|(_, _, w)| *w));
        (can_read || !reads)
            && (can_write || !writes)
            && (pattern.is_empty() || glob::matches(pattern.as_bytes(), key.as_bytes()))
    })
}

fn rule() -> impl Strategy<Value = String> {
    let names = prop::sample::select(vec![
        "get",
        "set",
        "object",
        "object|freq",
        "object|help",
        "xinfo",
        "xinfo|stream",
        "zadd",
    ]);
    let categories =
        prop::sample::select(vec!["all", "read", "write", "string", "slow", "fast", "stream", "keyspace"]);
    let sign = prop::sample::select(vec!["+", "-"]);
    let patterns = prop::sample::select(vec!["a", "a*", "b?", "[ab]*", "x"]);
    let access = prop::sample::select(vec!["~", "%R~", "%W~"]);
    prop_oneof![
        (sign.clone(), names).prop_map(|(sign, name)| format!("{sign}{name}")),
        (sign, categories).prop_map(|(sign, name)| format!("{sign}@{name}")),
        prop::sample::select(vec!["+get|a", "+set|b1", "+get|x"]).prop_map(str::to_owned),
        (access, patterns).prop_map(|(access, pattern)| format!("{access}{pattern}")),
        prop::sample::select(vec!["resetkeys", "allkeys"]).prop_map(str::to_owned),
    ]
}

/// A line of rules, and for some of its words where they stand and what may be done.
type Line = (&'static str, &'static [(usize, bool, bool)]);

const LINES: &[Line] = &[
    ("get a", &[(1, true, false)]),
    ("get x", &[(1, true, false)]),
    ("set b1 v", &[(1, false, true)]),
    ("set a v get", &[(1, true, true)]),
    ("object freq a", &[(2, false, false)]),
    ("object help", &[]),
    ("xinfo stream x", &[(2, true, false)]),
    ("zadd bb 1 m", &[(1, false, true)]),
    ("copy a b1", &[(1, true, false), (2, false, true)]),
    ("mget a b1 x", &[(1, true, false), (2, true, false), (3, true, false)]),
];

proptest! {
    #[test]
    fn rules_allow_what_the_list_of_them_says(given in prop::collection::vec(rule(), 0..14)) {
        let mut rules = Rules::new(false);
        let mut obeyed = Vec::new();
        for rule in given {
            // A pattern behind `allkeys` is refused, and nothing of it kept.
            if rules.apply(catalog(), rule.as_bytes(), false).is_ok() {
                obeyed.push(rule);
            }
        }
        for (line, keys) in LINES {
            let words: Vec<&str> = line.split(' ').collect();
            let expected = if !may_run(&obeyed, line) {
                Err(Denied::Command)
            } else {
                let denied = keys.iter().find(|(at, reads, writes)| !may_touch(&obeyed, words[*at], *reads, *writes));
                denied.map_or(Ok(()), |(at, ..)| Err(Denied::Key(*at)))
            };
            prop_assert_eq!(ask(&rules, line), expected, "{} after {:?}", line, obeyed);
        }
    }

    #[test]
    fn what_is_shown_makes_the_same_user(given in prop::collection::vec(rule(), 0..14), more in prop::collection::vec(rule(), 0..4)) {
        let mut rules = Rules::new(true);
        for rule in given {
            let _ = rules.apply(catalog(), rule.as_bytes(), true);
        }
        let inner: Vec<String> = more.into_iter().filter(|rule| !rule.contains("keys")).collect();
        let _ = rules.apply(catalog(), format!("({})", inner.join(" ")).as_bytes(), false);
        let _ = rules.apply(catalog(), b">secret", false);
        let shown = rules.describe();
        let words: Vec<&[u8]> = shown.split(|byte| *byte == b' ').collect();
        let mut again = Rules::new(false);
        for rule in larder_acl::merge_selectors(&words).unwrap() {
            again.apply(catalog(), &rule, false).unwrap();
        }
        prop_assert_eq!(again.describe(), shown);
        for (line, _) in LINES {
            prop_assert_eq!(ask(&again, line), ask(&rules, line), "{}", line);
        }
    }

    #[test]
    fn no_rule_breaks_anything(rule in prop::collection::vec(any::<u8>(), 0..24)) {
        let mut rules = user(&["+get", "~a"]);
        let before = rules.clone();
        if rules.apply(catalog(), &rule, false).is_err() {
            prop_assert_eq!(rules, before, "a rule that is refused has changed nothing");
        }
    }
}

#[test]
fn a_store_that_is_named_twice_is_asked_for_twice() {
    let rules = user(&["+@all", "~k", "~a"]);
    assert_eq!(ask(&rules, "georadius k 0 0 1 km STORE a"), Ok(()));
    assert_eq!(ask(&rules, "georadius k 0 0 1 km STORE a STORE b"), Err(Denied::Key(9)));
    assert_eq!(ask(&rules, "georadiusbymember k m 1 km STOREDIST b STORE a"), Err(Denied::Key(6)));
    assert_eq!(ask(&rules, "sort k STORE a STORE b"), Err(Denied::Key(5)));
}

#[test]
fn keys_of_a_payload_that_is_no_key_are_not_asked_for() {
    assert!(user(&["+@all", "~a"]).allows_key(b"a", KeyFlags::RW));
    assert!(!user(&["+@all", "%R~a"]).allows_key(b"a", KeyFlags::UPDATE));
    assert!(user(&["+@all", "%R~a"]).allows_key(b"a", KeyFlags::RO.or(KeyFlags::ACCESS)));
    assert_eq!(ask(&user(&["+@all"]), "object help"), Ok(()));
}

#[test]
fn a_user_keeps_its_identity_while_its_rules_change() {
    let users = Users::new(catalog());
    assert!(users.is_open() && users.default_user().is_free());
    let rules = |words: &[&str]| words.iter().map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>();
    assert!(users.set(b"ann", &rules(&["on", ">pw", "+@all", "~*"]), false).unwrap().is_none());
    let ann = users.log_in(b"ann", b"pw").unwrap();
    assert!(ann.is_free_on_keys() && !ann.is_free());
    assert!(users.log_in(b"ann", b"other").is_none() && users.log_in(b"bob", b"pw").is_none());
    // A rule that is wrong changes nothing.
    assert_eq!(users.set(b"ann", &rules(&["-get", "nonsense"]), false).unwrap_err().0, 1);
    assert!(ann.is_free_on_keys());
    users.set(b"ann", &rules(&["-get"]), false).unwrap();
    assert!(!ann.is_free_on_keys() && !ann.is_gone());
    let replaced = users.replace(Default::default());
    assert_eq!((replaced.changed.len(), replaced.gone.len()), (1, 1));
    assert!(ann.is_gone() && users.get(b"ann").is_none());
    let (bytes, spans) = words("ping");
    assert!(User::check(&ann, catalog(), 0, &Args::new(&bytes, &spans), 0).is_err());
}

#[test]
fn who_is_off_does_not_log_in() {
    let users = Users::new(catalog());
    let rules = |words: &[&str]| words.iter().map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>();
    users.set(b"ann", &rules(&["nopass"]), false).unwrap();
    assert!(users.log_in(b"ann", b"").is_none());
    users.set(b"ann", &rules(&["on"]), false).unwrap();
    assert!(users.log_in(b"ann", b"anything").is_some());
    users.set(b"default", &rules(&["off"]), false).unwrap();
    assert!(!users.is_open() && users.log_in(b"default", b"").is_none());
}

#[test]
fn databases_are_allowed_by_their_numbers() {
    let rules = user(&["+@all", "allkeys", "allchannels", "db=2,0,002"]);
    for line in
        ["get k", "select 0", "select 2", "select x", "swapdb 0 2", "move k 2", "copy a b db 2", "ping"]
    {
        assert_eq!(ask(&rules, line), Ok(()), "{line}");
    }
    for (line, word) in [
        ("select 1", 1),
        ("swapdb 0 1", 2),
        ("swapdb 1 0", 1),
        ("move k 1", 2),
        ("copy a b replace db 1", 5),
        ("copy a b db 2 db 1", 6),
        ("flushall", 0),
    ] {
        assert_eq!(ask(&rules, line), Err(Denied::Database(word)), "{line}");
    }
    assert!(!rules.is_free() && !rules.is_free_on_keys());
    assert_eq!(rules.describe(), b"off sanitize-payload ~* &* db=0,2 +@all");

    let rules = user(&["+@all", "allkeys", "allchannels", "resetdbs"]);
    for line in ["get k", "keys x", "scan 0", "dbsize", "randomkey", "flushdb", "flushall", "move k 0"] {
        assert_eq!(ask(&rules, line), Err(Denied::Database(0)), "{line}");
    }
    assert_eq!(ask(&rules, "ping"), Ok(()));
    let rules = user(&["+@all", "allkeys", "allchannels", "resetdbs", "ALLDBS"]);
    assert!(rules.is_free());
}

#[test]
fn a_rule_about_databases_has_their_numbers() {
    for (rule, error) in [
        ("db=", RuleError::Syntax),
        ("db=1,", RuleError::Syntax),
        ("db=x", RuleError::Syntax),
        ("db=1,,2", RuleError::Syntax),
        ("db", RuleError::Syntax),
        ("db=-1", RuleError::BadDatabase),
        ("db=2147483648", RuleError::BadDatabase),
        ("db=99999999999999999999", RuleError::BadDatabase),
    ] {
        assert_eq!(Rules::new(false).apply(catalog(), rule.as_bytes(), false), Err(error), "{rule}");
    }
}

#[test]
fn of_several_lists_that_of_the_database_has_the_last_word() {
    let rules = user(&["+@all", "allkeys", "resetdbs", "(+get ~k db=0)"]);
    assert_eq!(ask(&rules, "get k"), Ok(()));
    assert_eq!(ask(&rules, "get x"), Err(Denied::Key(1)));
    assert_eq!(ask(&rules, "set k v"), Err(Denied::Command));
}
