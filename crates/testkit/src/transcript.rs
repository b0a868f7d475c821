//! Transcripts (`.rt` files): what to send, and what the reference server answered.
//! Invariant: a file is its own lines plus parsed steps that point into them, so recording changes
//! nothing but the expectations. The format is described in tests/README.md.
//! Read next: `run.rs` runs the cases.

use regex_lite::Regex;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One `.rt` file.
pub struct Transcript {
    /// Where it is.
    pub path: PathBuf,
    /// `folder/file.rt`, the name that reports and `known_differences.toml` use.
    pub name: String,
    /// Its cases from top to bottom.
    pub cases: Vec<Case>,
    /// All lines but expectations; a step's expectations follow its line.
    pub lines: Vec<String>,
}

/// One case: a title and steps on an empty server.
#[derive(Clone)]
pub struct Case {
    /// The sentence after `#`.
    pub title: String,
    /// Where it stands in the file, from 1.
    pub line: usize,
    /// What the directives above its first step say.
    pub settings: Settings,
    /// The steps from top to bottom.
    pub steps: Vec<Step>,
}

/// Directives for a whole case, or for a file when they stand above its first title.
#[derive(Clone)]
pub struct Settings {
    /// Protocol versions to run the case in.
    pub protocols: Vec<u8>,
    /// Value types or commands without which the case is skipped.
    pub needs: Vec<String>,
    /// CONFIG names and values for the time of the case.
    pub config: Vec<(String, String)>,
    /// Who is right about it.
    pub reference: Reference,
}

/// A server whose answers are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reference {
    /// redis-server 8.2
    Redis82,
    /// valkey-server 9.1
    Valkey91,
    /// None that can be had: the answers are typed, from what newer Redis versions document.
    Documented,
}

/// One line that does something.
#[derive(Clone)]
pub struct Step {
    /// Where it stands in the file, from 1.
    pub line: usize,
    /// Its place in `Transcript::lines`.
    pub source: usize,
    /// The connection it uses.
    pub client: String,
    /// What it does.
    pub action: Action,
    /// Whether the order of elements in the reply means nothing.
    pub unordered: bool,
    /// Whether an error here goes without the check for changed data, which other clients can see.
    pub unchecked: bool,
    /// Name under which the reply is kept for `${name}`.
    pub save: Option<String>,
    /// Patterns that replace the exact comparison.
    pub matches: Vec<Regex>,
    /// Whether everything that arrives now, on every connection, belongs to it: its lines then carry
    /// the connection's name (`A< +OK`).
    pub collects: bool,
    /// Recorded reply lines, with the protocol they are for where the two differ.
    pub expected: Vec<(Option<u8>, String)>,
}

/// What a step does.
#[derive(Clone)]
pub enum Action {
    /// `> CMD`: send and read one value.
    Command(Vec<Arg>),
    /// `>> CMD`: send only.
    Send(Vec<Arg>),
    /// `>raw "bytes"`: send bytes as they are and read one value.
    Raw(Vec<u8>),
    /// `>>raw "bytes"`: send bytes only.
    SendRaw(Vec<u8>),
    /// `@read`: read one more value.
    Read,
    /// `@closed`: the server closes the connection.
    Closed,
    /// `@sleep ms`
    Sleep(Duration),
    /// `@close name`: the client closes its connection, and the server has noticed.
    Hangup,
}

/// One word of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arg {
    /// The bytes.
    Bytes(Vec<u8>),
    /// `${name}`: a reply kept by `@save name`.
    Saved(String),
}

impl Case {
    /// Whether its steps name their connections.
    pub fn is_scenario(&self) -> bool {
        self.steps.iter().any(|step| step.collects)
    }
}

impl Step {
    /// The lines expected in a protocol version. Where both share a line, RESP2's nils stand for
    /// RESP3's null.
    pub fn expected_in(&self, protocol: u8) -> Vec<String> {
        let lines = self.expected.iter().filter_map(|(only, line)| match only {
            None => Some(in_protocol(line, protocol)),
            Some(only) => (*only == protocol).then(|| line.clone()),
        });
        lines.collect()
    }

    /// Whether the recorded reply is an error.
    pub fn expects_error(&self, protocol: u8) -> bool {
        let first = self.expected_in(protocol).into_iter().next().unwrap_or_default();
        let (client, text) = split_line(&first);
        (client.is_empty() || client == self.client) && text.starts_with(['-', '!'])
    }

    /// Whether a reply comes back that is compared.
    pub fn has_reply(&self) -> bool {
        self.collects || matches!(self.action, Action::Command(_) | Action::Raw(_) | Action::Read)
    }

    /// The lines that are compared with others': all of them, or beside patterns those of other connections.
    pub fn compared<'a>(&self, lines: &'a [String]) -> Vec<&'a String> {
        let counts =
            |line: &&String| self.matches.is_empty() || self.collects && split_line(line).0 != self.client;
        lines.iter().filter(counts).collect()
    }
}

/// The name of the connection that a reply line is from, empty where it has none, and the notation.
pub fn split_line(line: &str) -> (&str, &str) {
    match split_name(line) {
        Some((name, rest)) => (name, rest.strip_prefix("< ").unwrap_or(rest)),
        None => ("", line),
    }
}

/// The name of a connection that a line begins with, and what follows it.
fn split_name(line: &str) -> Option<(&str, &str)> {
    let end = line.find(|c: char| !c.is_ascii_alphanumeric())?;
    let (name, rest) = line.split_at(end);
    (name.starts_with(|c: char| c.is_ascii_alphabetic()) && rest.starts_with(['>', '<']))
        .then_some((name, rest))
}

/// A RESP2 line as RESP3 has it.
fn in_protocol(line: &str, protocol: u8) -> String {
    match split_line(line).1.trim_start() {
        "$-1" | "*-1" if protocol == 3 => line.replace("$-1", "_").replace("*-1", "_"),
        _ => line.to_owned(),
    }
}

/// Expectation lines for what was seen in each protocol, one copy where they say the same.
pub fn expectation_lines(seen: &[(u8, Vec<String>)]) -> Vec<String> {
    let Some((_, first)) = seen.first() else { return Vec::new() };
    let same = |(protocol, lines): &(u8, Vec<String>)| {
        lines.iter().eq(first.iter().map(|line| in_protocol(line, *protocol)).collect::<Vec<_>>().iter())
    };
    if seen.iter().all(same) {
        return first.iter().map(|line| written(None, line)).collect();
    }
    let marked =
        seen.iter().flat_map(|(protocol, lines)| lines.iter().map(|line| written(Some(*protocol), line)));
    marked.collect()
}

/// A reply line as it stands in a file.
pub fn written(protocol: Option<u8>, line: &str) -> String {
    let (name, text) = split_line(line);
    match protocol {
        Some(protocol) => format!("{name}<{protocol} {text}"),
        None => format!("{name}< {text}"),
    }
}

impl Transcript {
    /// Reads a file. Errors name the file and line.
    pub fn load(path: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut parts = path.iter().rev().map(|part| part.to_string_lossy());
        let file = parts.next().unwrap_or_default();
        let name = format!("{}/{file}", parts.next().unwrap_or_default());
        let mut parser = Parser::default();
        for (index, line) in text.lines().enumerate() {
            parser.line(index + 1, line).map_err(|error| format!("{name}:{}: {error}", index + 1))?;
        }
        parser.finish_prefix().map_err(|error| format!("{name}: {error}"))?;
        Ok(Self { path: path.to_path_buf(), name, cases: parser.cases, lines: parser.lines })
    }

    /// All files of a folder, by name.
    pub fn load_folder(folder: &Path) -> Result<Vec<Self>, String> {
        let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "rt"));
        paths.sort();
        paths.iter().map(|path| Self::load(path)).collect()
    }
}

/// What stands between two steps and belongs to the next one.
#[derive(Default)]
struct Prefix {
    unordered: bool,
    unchecked: bool,
    save: Option<String>,
    matches: Vec<Regex>,
}

struct Parser {
    lines: Vec<String>,
    cases: Vec<Case>,
    defaults: Settings,
    client: String,
    prefix: Prefix,
}

impl Default for Parser {
    fn default() -> Self {
        let defaults = Settings {
            protocols: vec![2],
            needs: Vec::new(),
            config: Vec::new(),
            reference: Reference::Redis82,
        };
        let client = MAIN_CLIENT.to_owned();
        Self { lines: Vec::new(), cases: Vec::new(), defaults, client, prefix: Prefix::default() }
    }
}

/// The name of the connection that a case starts with.
const MAIN_CLIENT: &str = "main";

impl Parser {
    fn line(&mut self, number: usize, line: &str) -> Result<(), String> {
        let (name, unnamed) = split_name(line).unwrap_or(("", line));
        if let Some(rest) = unnamed.strip_prefix('<') {
            return self.expectation(name, rest);
        }
        self.lines.push(line.to_owned());
        if let Some(title) = line.strip_prefix("# ") {
            return self.title(number, title);
        }
        if let Some(words) = line.strip_prefix('@') {
            let (name, rest) = words.split_once(' ').unwrap_or((words, ""));
            return self.directive(number, name, rest.trim());
        }
        if line.trim().is_empty() || line.starts_with("//") {
            return Ok(());
        }
        let action = parse_action(unnamed)?;
        if !name.is_empty() {
            let current = std::mem::replace(&mut self.client, name.to_owned());
            self.step(number, action, true)?;
            self.client = current;
            return Ok(());
        }
        self.step(number, action, false)
    }

    fn title(&mut self, line: usize, title: &str) -> Result<(), String> {
        self.finish_prefix()?;
        if self.cases.iter().any(|case| case.title == title) {
            return Err(format!("a second case is called {title:?}"));
        }
        self.client = MAIN_CLIENT.to_owned();
        let settings = self.defaults.clone();
        self.cases.push(Case { title: title.to_owned(), line, settings, steps: Vec::new() });
        Ok(())
    }

    fn directive(&mut self, line: usize, name: &str, rest: &str) -> Result<(), String> {
        match name {
            "match" => {
                let pattern = Regex::new(&format!("(?s){rest}")).map_err(|error| error.to_string())?;
                self.prefix.matches.push(pattern);
            }
            "unordered" => self.prefix.unordered = true,
            "unchecked" => self.prefix.unchecked = true,
            "save" => self.prefix.save = Some(rest.to_owned()),
            "client" => self.client = rest.to_owned(),
            "read" => return self.step(line, Action::Read, false),
            "closed" => return self.step(line, Action::Closed, false),
            "close" => {
                let current = std::mem::replace(&mut self.client, rest.to_owned());
                let is_scenario = self.is_scenario();
                self.step(line, Action::Hangup, is_scenario)?;
                self.client = current;
            }
            "sleep" => {
                let milliseconds = rest.parse().map_err(|_| "@sleep takes milliseconds")?;
                let is_scenario = self.is_scenario();
                return self.step(line, Action::Sleep(Duration::from_millis(milliseconds)), is_scenario);
            }
            _ => return self.setting(name, rest),
        }
        Ok(())
    }

    fn setting(&mut self, name: &str, rest: &str) -> Result<(), String> {
        let settings = match self.cases.last_mut() {
            Some(case) if case.steps.is_empty() => &mut case.settings,
            Some(_) => return Err(format!("@{name} must stand above the first step of a case")),
            None => &mut self.defaults,
        };
        match (name, rest) {
            ("both", "") => settings.protocols = vec![2, 3],
            ("resp", "2") => settings.protocols = vec![2],
            ("resp", "3") => settings.protocols = vec![3],
            ("needs", names) => settings.needs.extend(names.split(' ').map(str::to_owned)),
            ("config", pair) => {
                let (key, value) = pair.split_once(' ').ok_or("@config takes a name and a value")?;
                settings.config.push((key.to_owned(), value.to_owned()));
            }
            ("since", "redis82") => settings.reference = Reference::Redis82,
            ("since", "documented") => settings.reference = Reference::Documented,
            ("since", "valkey91") => settings.reference = Reference::Valkey91,
            _ => return Err(format!("unknown directive @{name} {rest}")),
        }
        Ok(())
    }

    /// Whether the case has had steps that name their connection.
    fn is_scenario(&self) -> bool {
        self.cases.last().is_some_and(Case::is_scenario)
    }

    fn step(&mut self, line: usize, action: Action, collects: bool) -> Result<(), String> {
        let case = self.cases.last_mut().ok_or("a step above the first title")?;
        let prefix = std::mem::take(&mut self.prefix);
        case.steps.push(Step {
            line,
            source: self.lines.len() - 1,
            client: self.client.clone(),
            action,
            unordered: prefix.unordered,
            unchecked: prefix.unchecked,
            save: prefix.save,
            matches: prefix.matches,
            collects,
            expected: Vec::new(),
        });
        Ok(())
    }

    fn expectation(&mut self, name: &str, rest: &str) -> Result<(), String> {
        let step = self.cases.last_mut().and_then(|case| case.steps.last_mut());
        let step = step.filter(|step| step.has_reply()).ok_or("an expectation without a command")?;
        if step.collects == name.is_empty() {
            return Err("an expectation has a name where its command has one, and only there".into());
        }
        let (protocol, text) = match rest.as_bytes().first() {
            Some(b' ') => (None, rest.get(1..)),
            Some(b'2') => (Some(2), rest.get(2..)),
            Some(b'3') => (Some(3), rest.get(2..)),
            _ => return Err("an expectation starts with '< ', '<2 ' or '<3 '".into()),
        };
        let text = text.unwrap_or_default();
        let line = if name.is_empty() { text.to_owned() } else { format!("{name}< {text}") };
        step.expected.push((protocol, line));
        Ok(())
    }

    fn finish_prefix(&mut self) -> Result<(), String> {
        let Prefix { unordered, unchecked, save, matches } = std::mem::take(&mut self.prefix);
        if unordered || unchecked || save.is_some() || !matches.is_empty() {
            return Err("a directive without a step after it".into());
        }
        Ok(())
    }
}

fn parse_action(line: &str) -> Result<Action, String> {
    let bytes = |rest: &str| match parse_words(rest)?.as_slice() {
        [Arg::Bytes(bytes)] => Ok(bytes.clone()),
        _ => Err("raw takes one string".to_owned()),
    };
    if let Some(rest) = line.strip_prefix(">>raw ") {
        bytes(rest).map(Action::SendRaw)
    } else if let Some(rest) = line.strip_prefix(">raw ") {
        bytes(rest).map(Action::Raw)
    } else if let Some(rest) = line.strip_prefix(">> ") {
        parse_words(rest).map(Action::Send)
    } else if let Some(rest) = line.strip_prefix("> ") {
        parse_words(rest).map(Action::Command)
    } else {
        Err("a line starts with '# ', '> ', '>> ', '>raw ', '>>raw ', '< ', '@', '//' or a name and '>'"
            .into())
    }
}

/// Splits words as redis-cli does; a quoted word may be repeated: `"x"*1000`.
pub fn parse_words(text: &str) -> Result<Vec<Arg>, String> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (word, after) = match rest.as_bytes().first() {
            Some(b'"') => parse_quoted(rest)?,
            _ => parse_plain(rest),
        };
        words.push(word);
        rest = after.trim_start();
    }
    Ok(words)
}

fn parse_plain(text: &str) -> (Arg, &str) {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    match word.strip_prefix("${").and_then(|word| word.strip_suffix('}')) {
        Some(name) => (Arg::Saved(name.to_owned()), rest),
        None => (Arg::Bytes(word.as_bytes().to_vec()), rest),
    }
}

fn parse_quoted(text: &str) -> Result<(Arg, &str), String> {
    let mut bytes = Vec::new();
    let mut rest = text.get(1..).unwrap_or_default();
    loop {
        let first = rest.chars().next().ok_or("a quote is not closed")?;
        let mut length = first.len_utf8();
        match first {
            '"' => break,
            '\\' => {
                let (byte, escape_length) = parse_escape(rest)?;
                bytes.push(byte);
                length = escape_length;
            }
            other => bytes.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    let after = rest.get(1..).unwrap_or_default();
    let (suffix, after) = after.split_once(' ').unwrap_or((after, ""));
    Ok((Arg::Bytes(with_suffix(bytes, suffix)?), after))
}

/// What stands behind a closing quote: nothing, `*count` or `+crc`.
fn with_suffix(mut bytes: Vec<u8>, suffix: &str) -> Result<Vec<u8>, String> {
    if suffix == "+crc" {
        let checksum = crc64(&bytes).to_le_bytes();
        bytes.extend_from_slice(&checksum);
    } else if let Some(times) = suffix.strip_prefix('*') {
        bytes = bytes.repeat(times.parse().map_err(|_| "a number follows the * after a string")?);
    } else if !suffix.is_empty() {
        return Err("a closing quote is followed by a space, *count or +crc".into());
    }
    Ok(bytes)
}

/// The checksum at the end of a DUMP payload: CRC-64 by Jones, reflected, bit by bit.
fn crc64(bytes: &[u8]) -> u64 {
    const POLYNOMIAL: u64 = 0x95ac_9329_ac4b_c9b5;
    bytes.iter().fold(0, |crc, &byte| {
        (0..8).fold(crc ^ u64::from(byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { POLYNOMIAL } else { 0 })
    })
}

/// The byte that an escape stands for, and the escape's length.
fn parse_escape(text: &str) -> Result<(u8, usize), String> {
    let simple = match text.as_bytes().get(1) {
        Some(b'n') => b'\n',
        Some(b'r') => b'\r',
        Some(b't') => b'\t',
        Some(b'x') => {
            let digits = text.get(2..4).ok_or("\\x takes two digits")?;
            let byte = u8::from_str_radix(digits, 16).map_err(|_| "\\x takes two digits")?;
            return Ok((byte, 4));
        }
        Some(b'\\') => b'\\',
        Some(b'"') => b'"',
        _ => return Err("an unknown escape".into()),
    };
    Ok((simple, 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Vec<Arg> {
        vec![Arg::Bytes(text.as_bytes().to_vec())]
    }

    #[test]
    fn words_are_quoted_as_in_redis_cli() {
        let words = parse_words(r#"SET "a b\x00\"" ${id} "xy"*2"#).unwrap();
        let expected = [bytes("SET"), bytes("a b\0\""), vec![Arg::Saved("id".into())], bytes("xyxy")];
        assert_eq!(words, expected.concat());
        assert!(parse_words("\"open").is_err());
        assert!(parse_words(r#""a"b"#).is_err());
    }

    #[test]
    fn the_checksum_is_the_one_of_dump_payloads() {
        assert_eq!(crc64(b"123456789"), 0xe9c6_d914_c4b8_d9ca);
        assert_eq!(
            parse_words("\"1\"+crc").unwrap(),
            [Arg::Bytes([b"1".as_slice(), &crc64(b"1").to_le_bytes()].concat())]
        );
    }

    #[test]
    fn both_protocols_share_lines_where_only_nils_differ() {
        let two = vec!["*2".to_owned(), "  $-1".to_owned(), "  :1".to_owned()];
        let three = vec!["*2".to_owned(), "  _".to_owned(), "  :1".to_owned()];
        let shared = expectation_lines(&[(2, two.clone()), (3, three)]);
        assert_eq!(shared, ["< *2", "<   $-1", "<   :1"]);
        let differing = expectation_lines(&[(2, two), (3, vec!["_".to_owned()])]);
        assert_eq!(differing, ["<2 *2", "<2   $-1", "<2   :1", "<3 _"]);
    }
}
