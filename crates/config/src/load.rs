//! How a start finds its settings: command line, file, standard input; includes, warnings, errors.
//!
//! Invariant: any bytes end in a plan or in errors that name source, line and reason; the work is bounded by the
//! limits below. What is read later overrides what was read before: file, standard input, then options.
//! Read next: `line.rs` for the syntax of a line, `include.rs` for patterns, `text.rs` for the help text.

use crate::include;
use crate::kind::Reason;
use crate::line;
use crate::nearest::nearest;
use crate::options::{Flags, OptionSpec, RETIRED, Settings, lookup, words_of};
use crate::rewrite::ConfigFile;
use crate::value::Context;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Largest configuration file, in bytes.
pub const FILE_BYTES_MAX: usize = 16 << 20;
/// Longest line of a configuration file, in bytes.
pub const LINE_BYTES_MAX: usize = 1 << 20;
/// How deep files may include one another.
pub const INCLUDE_DEPTH_MAX: usize = 16;
/// How many files one start may read.
pub const FILES_MAX: usize = 1024;
/// Errors and warnings beyond this many are not collected.
const PROBLEMS_MAX: usize = 1000;
/// What `--cache` sets before anything else is read.
const CACHE_DEFAULTS: &str = "maxmemory-policy allkeys-adaptive\nsave \"\"\n";
/// Bytes of a faulty line that are shown.
const SHOWN_BYTES_MAX: usize = 200;

const _: () = assert!(LINE_BYTES_MAX < FILE_BYTES_MAX);
const _: () = assert!(SHOWN_BYTES_MAX < LINE_BYTES_MAX);

/// What the command line asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Run the server.
    Start,
    /// Print [`help_text`](crate::help_text) and end.
    Help,
    /// Print the version and end.
    Version,
    /// The configuration was read and is free of errors: print the warnings and `OK`, and end.
    CheckConfig,
}

/// A command that the file renames. An empty new name removes the command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rename {
    /// The command's own name.
    pub command: Vec<u8>,
    /// What it is called instead.
    pub new_name: Vec<u8>,
}

/// A user, as a line `user NAME RULE ...` defines it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserLine {
    /// The words behind `user`.
    pub words: Vec<Vec<u8>>,
    source: Source,
    line: usize,
}

impl UserLine {
    /// Something wrong with it. What it says of passwords is not shown.
    #[must_use]
    pub fn problem(&self, reason: Reason) -> Problem {
        let name = self.words.first().map(|name| String::from_utf8_lossy(name)).unwrap_or_default();
        let text = format!("user {name} (rules not shown)").replace(|letter: char| letter.is_control(), "?");
        Problem { source: self.source.clone(), line: self.line, text, reason }
    }
}

/// All that a start needs to know.
#[derive(Debug, Clone)]
pub struct StartPlan {
    /// What to do.
    pub action: Action,
    /// The settings.
    pub settings: Settings,
    /// The file that CONFIG REWRITE writes.
    pub config_file: Option<ConfigFile>,
    /// What to log as warnings once logging works.
    pub warnings: Vec<Problem>,
    /// `--cache` was given: where `maxmemory` is 0, the server takes a part of the machine's memory for it.
    pub is_cache: bool,
    /// `rename-command` lines, in order. A server that can't honour them must refuse to start.
    pub renames: Vec<Rename>,
    /// `user` lines, in order. A server that can't make them must refuse to start.
    pub users: Vec<UserLine>,
}

impl StartPlan {
    /// What `--check-config` prints for a configuration without errors: the warnings, then `OK`.
    #[must_use]
    pub fn check_report(&self) -> String {
        let warnings = self.warnings.iter().map(|warning| format!("Warning: {warning}\n"));
        warnings.chain(["OK\n".to_owned()]).collect()
    }
}

/// Where a line of configuration stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// The standard input.
    Stdin,
    /// The command line; its "lines" are options.
    CommandLine,
}

/// Something wrong, or worth a warning, in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub source: Source,
    /// Which line or option, from 1; 0 if it concerns the source as a whole.
    pub line: usize,
    /// The line, cut when long, without its value when that is secret.
    pub text: String,
    /// What about it.
    pub reason: Reason,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.source, self.line) {
            (Source::File(path), 0) => write!(f, "Reading the configuration file '{}'", path.display())?,
            (Source::File(path), line) => {
                write!(f, "Reading the configuration file '{}', at line {line}", path.display())?;
            }
            (Source::Stdin, line) => {
                write!(f, "Reading the configuration from standard input, at line {line}")?
            }
            (Source::CommandLine, line) => write!(f, "Reading the command line, at option {line}")?,
        }
        if self.line > 0 {
            write!(f, "\n>>> '{}'", self.text)?;
        }
        write!(f, "\n{}", self.reason)
    }
}

/// Why the server can't start with this configuration. Shows every problem found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// At least one.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n*** FATAL CONFIG FILE ERROR (Larder {}) ***", env!("CARGO_PKG_VERSION"))?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n{problem}"))
    }
}

impl std::error::Error for ConfigError {}

impl Settings {
    /// Reads the command line (without the program's name), the file it names and, for `-`, the standard input.
    ///
    /// # Errors
    /// The first thing that is wrong; with `--check-config` everything.
    pub fn from_args(args: impl IntoIterator<Item = OsString>) -> Result<StartPlan, ConfigError> {
        from_args_and(args, &mut std::io::stdin())
    }
}

/// [`Settings::from_args`] with the given standard input.
///
/// # Errors
/// As there.
pub fn from_args_and(
    args: impl IntoIterator<Item = OsString>,
    stdin: &mut dyn Read,
) -> Result<StartPlan, ConfigError> {
    let args: Vec<Vec<u8>> = args.into_iter().map(OsStringExt::into_vec).collect();
    let command_line = CommandLine::parse(&args);
    let mut loader = Loader::new(command_line.action != Action::CheckConfig);
    if matches!(command_line.action, Action::Help | Action::Version) {
        return loader.finish(command_line.action, None);
    }
    if command_line.is_cache {
        loader.is_cache = true;
        loader.text(CACHE_DEFAULTS.as_bytes(), &Source::CommandLine);
    }
    let config_file = command_line.config_file.map(|path| ConfigFile::new(&path, loader.settings.dir()));
    if let Some(file) = &config_file {
        loader.root(file.path());
    }
    if command_line.reads_stdin {
        loader.stdin(stdin);
    }
    for (index, option) in command_line.options.into_iter().enumerate() {
        loader.option(index.saturating_add(1), option);
    }
    loader.finish(command_line.action, config_file)
}

/// Reads settings from a text alone. `include` is refused.
///
/// # Errors
/// Everything that is wrong with it.
pub fn from_text(text: &[u8]) -> Result<StartPlan, ConfigError> {
    let mut loader = Loader::new(false);
    loader.may_include = false;
    loader.text(text, &Source::Stdin);
    loader.finish(Action::Start, None)
}

/// Reads a file as a start would, and everything that it includes.
///
/// # Errors
/// Everything that is wrong with it, not only the first thing.
pub fn check_config(path: &Path) -> Result<StartPlan, ConfigError> {
    let mut loader = Loader::new(false);
    let file = ConfigFile::new(path, loader.settings.dir());
    loader.root(file.path());
    loader.finish(Action::CheckConfig, Some(file))
}

/// Reads a text as if it were the contents of this file, or of none.
///
/// # Errors
/// The first thing that is wrong with it.
pub(crate) fn from_contents(text: &[u8], file: Option<&ConfigFile>) -> Result<Settings, ConfigError> {
    let mut loader = Loader::new(true);
    match file {
        Some(file) => {
            loader.settings = file.base_settings();
            let path = file.path().to_owned();
            loader.open.push(path.canonicalize().unwrap_or_else(|_| path.clone()));
            loader.text(text, &Source::File(path));
        }
        None => {
            loader.may_include = false;
            loader.text(text, &Source::Stdin);
        }
    }
    loader.finish(Action::Start, None).map(|plan| plan.settings)
}

/// An option of the command line with its values, or what is wrong with it.
type OptionWords = Result<Vec<Vec<u8>>, (String, Reason)>;

/// The command line, cut into its parts.
struct CommandLine {
    action: Action,
    config_file: Option<PathBuf>,
    reads_stdin: bool,
    is_cache: bool,
    options: Vec<OptionWords>,
}

impl CommandLine {
    fn parse(args: &[Vec<u8>]) -> CommandLine {
        let mut parsed = CommandLine {
            action: Action::Start,
            config_file: None,
            reads_stdin: false,
            is_cache: false,
            options: Vec::new(),
        };
        let mut expects_name = true;
        for (index, arg) in args.iter().enumerate() {
            let is_first = index == 0 || (index == 1 && parsed.action == Action::CheckConfig);
            let is_last = index.saturating_add(1) == args.len();
            let next = args.get(index.saturating_add(1)).map(Vec::as_slice);
            match arg.as_slice() {
                b"-" if is_first || is_last => parsed.reads_stdin = true,
                b"-h" if is_first => parsed.action = Action::Help,
                b"-v" if is_first => parsed.action = Action::Version,
                b"--help" if expects_name => parsed.action = Action::Help,
                b"--version" if expects_name => parsed.action = Action::Version,
                b"--cache" if expects_name => parsed.is_cache = true,
                b"--check-config" if expects_name => parsed.action = Action::CheckConfig,
                _ if expects_name && arg.starts_with(b"--") => expects_name = parsed.name(arg, next),
                _ if is_first && !arg.starts_with(b"-") => {
                    parsed.config_file = Some(PathBuf::from(OsStr::from_bytes(arg)));
                }
                _ => {
                    parsed.value(arg);
                    expects_name = true;
                }
            }
        }
        parsed
    }

    /// Takes `--name` or `"--name value"`. Says whether another name may follow at once.
    fn name(&mut self, arg: &[u8], next: Option<&[u8]>) -> bool {
        let written = arg.strip_prefix(b"--").unwrap_or(arg);
        let Ok(mut words) = line::split(written) else {
            self.options.push(Err((shown(arg), unbalanced())));
            return true;
        };
        let Some(name) = words.first() else {
            self.options.push(Err((shown(arg), Reason::new("the name of an option must follow '--'"))));
            return true;
        };
        // `--save` with nothing behind it means "no snapshots", as in Redis.
        let is_bare_save = words.len() == 1
            && name.eq_ignore_ascii_case(b"save")
            && next.is_none_or(|next| next.starts_with(b"--"));
        if is_bare_save {
            words.push(Vec::new());
        }
        let has_value = words.len() > 1;
        self.options.push(Ok(words));
        has_value
    }

    fn value(&mut self, arg: &[u8]) {
        match self.options.last_mut() {
            Some(Ok(words)) => words.push(arg.to_vec()),
            _ => {
                let reason = Reason::new("expected '--' and the name of an option here; see larder --help");
                self.options.push(Err((shown(arg), reason)));
            }
        }
    }
}

/// Collects settings line by line.
struct Loader {
    settings: Settings,
    seen: BTreeSet<&'static str>,
    warnings: Vec<Problem>,
    problems: Vec<Problem>,
    is_cache: bool,
    renames: Vec<Rename>,
    users: Vec<UserLine>,
    /// The files being read, each included by the one before it.
    open: Vec<PathBuf>,
    files: usize,
    bytes: usize,
    may_include: bool,
    stops_at_first: bool,
}

/// A line with its place, while it is being looked at.
struct Spot<'a> {
    source: &'a Source,
    line: usize,
    text: &'a str,
}

impl Loader {
    fn new(stops_at_first: bool) -> Loader {
        Loader {
            settings: Settings::default(),
            seen: BTreeSet::new(),
            warnings: Vec::new(),
            problems: Vec::new(),
            is_cache: false,
            renames: Vec::new(),
            users: Vec::new(),
            open: Vec::new(),
            files: 0,
            bytes: 0,
            may_include: true,
            stops_at_first,
        }
    }

    fn finish(self, action: Action, config_file: Option<ConfigFile>) -> Result<StartPlan, ConfigError> {
        if !self.problems.is_empty() {
            return Err(ConfigError { problems: self.problems });
        }
        Ok(StartPlan {
            action,
            settings: self.settings,
            config_file,
            warnings: self.warnings,
            is_cache: self.is_cache,
            renames: self.renames,
            users: self.users,
        })
    }

    fn is_done(&self) -> bool {
        (self.stops_at_first && !self.problems.is_empty()) || self.problems.len() >= PROBLEMS_MAX
    }

    fn fail(&mut self, spot: &Spot<'_>, reason: Reason) {
        self.problems.push(spot.problem(reason));
    }

    fn warn(&mut self, spot: &Spot<'_>, reason: impl Into<String>) {
        if self.warnings.len() < PROBLEMS_MAX {
            self.warnings.push(spot.problem(Reason::new(reason)));
        }
    }

    /// Reads the file that the command line names.
    fn root(&mut self, path: &Path) {
        self.file(path, &Source::File(path.to_owned()), 0, "");
    }

    /// Reads a file. `source`, `line` and `text` tell who asked for it.
    fn file(&mut self, path: &Path, source: &Source, line: usize, text: &str) {
        let spot = Spot { source, line, text };
        let identity = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if self.open.contains(&identity) {
            return self.fail(&spot, Reason::new(format!("file '{}' includes itself", path.display())));
        }
        if self.open.len() > INCLUDE_DEPTH_MAX {
            return self
                .fail(&spot, Reason::new(format!("includes go deeper than {INCLUDE_DEPTH_MAX} files")));
        }
        match self.contents(path) {
            Ok(contents) => {
                self.open.push(identity);
                self.text(&contents, &Source::File(path.to_owned()));
                self.open.pop();
            }
            Err(reason) => {
                self.fail(
                    &spot,
                    Reason::new(format!("can't open config file '{}': {reason}", path.display())),
                );
            }
        }
    }

    fn contents(&mut self, path: &Path) -> Result<Vec<u8>, Reason> {
        self.files = self.files.saturating_add(1);
        if self.files > FILES_MAX {
            return Err(Reason::new(format!("more than {FILES_MAX} files")));
        }
        let mut file = std::fs::File::open(path).map_err(|error| Reason::from_io(&error))?;
        self.bounded(&mut file)
    }

    /// All of a stream, if together with what was read before it stays within [`FILE_BYTES_MAX`].
    fn bounded(&mut self, stream: &mut dyn Read) -> Result<Vec<u8>, Reason> {
        let left = FILE_BYTES_MAX.saturating_sub(self.bytes);
        let ask = u64::try_from(left).unwrap_or(u64::MAX).saturating_add(1);
        let mut contents = Vec::new();
        stream.take(ask).read_to_end(&mut contents).map_err(|error| Reason::from_io(&error))?;
        if contents.len() > left {
            return Err(Reason::new(format!("the configuration is larger than {FILE_BYTES_MAX} bytes")));
        }
        self.bytes = self.bytes.saturating_add(contents.len());
        Ok(contents)
    }

    fn stdin(&mut self, stdin: &mut dyn Read) {
        if self.is_done() {
            return;
        }
        match self.bounded(stdin) {
            Ok(contents) => self.text(&contents, &Source::Stdin),
            Err(reason) => self.fail(&Spot { source: &Source::Stdin, line: 0, text: "" }, reason),
        }
    }

    fn text(&mut self, text: &[u8], source: &Source) {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        for (index, raw) in text.split(|&byte| byte == b'\n').enumerate() {
            if self.is_done() {
                return;
            }
            let trimmed = line::trim(raw);
            if trimmed.is_empty() || trimmed.starts_with(b"#") {
                continue;
            }
            let shown = shown(trimmed);
            let spot = Spot { source, line: index.saturating_add(1), text: &shown };
            if trimmed.len() > LINE_BYTES_MAX {
                self.fail(&spot, Reason::new(format!("the line is longer than {LINE_BYTES_MAX} bytes")));
                continue;
            }
            match line::split(trimmed) {
                Ok(words) => self.directive(&spot, &words),
                Err(line::Unbalanced) => self.fail(&spot, unbalanced()),
            }
        }
    }

    fn option(&mut self, index: usize, option: OptionWords) {
        if self.is_done() {
            return;
        }
        let source = &Source::CommandLine;
        match option {
            Ok(words) => {
                let text = shown(&[b"--", words.join(&b' ').as_slice()].concat());
                self.directive(&Spot { source, line: index, text: &text }, &words);
            }
            Err((text, reason)) => self.fail(&Spot { source, line: index, text: &text }, reason),
        }
    }

    fn directive(&mut self, spot: &Spot<'_>, words: &[Vec<u8>]) {
        let Some((name, values)) = words.split_first() else { return };
        let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
        if let Some(spec) = lookup(name) {
            return self.set(spot, spec, &values);
        }
        match name.to_ascii_lowercase().as_slice() {
            b"include" => self.include(spot, &values),
            b"rename-command" => self.rename(spot, &values),
            b"user" if values.is_empty() => self.fail(spot, bad_directive()),
            b"user" => self.users.push(UserLine {
                words: values.iter().map(|word| word.to_vec()).collect(),
                source: spot.source.clone(),
                line: spot.line,
            }),
            b"loadmodule" | b"sentinel" => {
                let name = String::from_utf8_lossy(name);
                self.fail(
                    spot,
                    Reason::new(format!("'{name}' is known to Redis, but not in this version of Larder")),
                );
            }
            name if RETIRED.iter().any(|retired| retired.as_bytes() == name) => {
                self.warn(spot, "has no effect any more, here as in Redis: ignored");
            }
            _ => self.fail(spot, unknown(name)),
        }
    }

    fn set(&mut self, spot: &Spot<'_>, spec: &'static OptionSpec, values: &[&[u8]]) {
        let words = match values {
            // No words are no rules, no addresses: what takes any number of words takes none.
            [] if spec.kind.takes_words() => Vec::new(),
            [] => return self.fail(spot, Reason::new("wrong number of arguments")),
            [value] => words_of(&spec.kind, value),
            several => several.to_vec(),
        };
        let context = if self.seen.insert(spec.name) { Context::First } else { Context::Again };
        let outcome = (spec.ops.assign)(&mut self.settings, spec, &words, context);
        match outcome {
            Ok(()) => {
                if let Some(why) = spec.idle_because()
                    && self.settings.show(spec) != spec.default.as_bytes()
                {
                    self.warn(spot, format!("'{}' is kept, but changes nothing: {why}", spec.name));
                }
            }
            Err(reason) => match spec.difference() {
                Some(difference) if words.join(&b' ').eq_ignore_ascii_case(difference.redis.as_bytes()) => {
                    self.warn(spot, format!("Redis' default, ignored here: {}", difference.reason));
                }
                _ => self.fail(spot, reason),
            },
        }
    }

    fn include(&mut self, spot: &Spot<'_>, values: &[&[u8]]) {
        let [pattern] = values else { return self.fail(spot, bad_directive()) };
        if !self.may_include {
            return self.fail(spot, Reason::new("include is not possible here"));
        }
        let base = self.settings.dir().to_owned();
        let paths = match include::expand(&base, pattern) {
            Ok(paths) => paths,
            Err(reason) => return self.fail(spot, reason),
        };
        for path in paths {
            if self.is_done() {
                return;
            }
            self.file(&path, spot.source, spot.line, spot.text);
        }
    }

    fn rename(&mut self, spot: &Spot<'_>, values: &[&[u8]]) {
        match values {
            [command, new_name] => {
                self.renames.push(Rename { command: command.to_vec(), new_name: new_name.to_vec() });
            }
            _ => self.fail(spot, bad_directive()),
        }
    }
}

impl Spot<'_> {
    fn problem(&self, reason: Reason) -> Problem {
        Problem { source: self.source.clone(), line: self.line, text: self.text.to_owned(), reason }
    }
}

fn bad_directive() -> Reason {
    Reason::new("Bad directive or wrong number of arguments")
}

fn unbalanced() -> Reason {
    Reason::new("Unbalanced quotes in configuration line")
}

/// Why a name is refused, with the option that was probably meant.
pub(crate) fn unknown(name: &[u8]) -> Reason {
    let shown_name = shown(name);
    if let Some(end) = name.iter().position(|&byte| byte == b'=')
        && let Some(spec) = name.get(..end).and_then(lookup)
    {
        return Reason::new(format!(
            "unknown option '{shown_name}': write '{}' and its value apart",
            spec.name
        ));
    }
    Reason::new(match nearest(name) {
        Some(known) => format!("unknown option '{shown_name}': did you mean '{known}'?"),
        None => format!("unknown option '{shown_name}': larder --help lists all options"),
    })
}

/// A line as an error shows it: printable, cut when long, without a secret.
fn shown(text: &[u8]) -> String {
    let name_end = text.iter().position(u8::is_ascii_whitespace).unwrap_or(text.len());
    let name = text.get(..name_end).unwrap_or(text);
    let spec = lookup(name.strip_prefix(b"--").unwrap_or(name));
    if name.eq_ignore_ascii_case(b"user") || name.eq_ignore_ascii_case(b"--user") {
        let words = line::split(text.get(name_end..).unwrap_or_default()).unwrap_or_default();
        let user = words.first().map(|user| String::from_utf8_lossy(user).into_owned()).unwrap_or_default();
        return format!("{} {user} (rules not shown)", String::from_utf8_lossy(name));
    }
    if spec.is_some_and(|spec| spec.flags.has(Flags::SENSITIVE)) {
        return format!("{} (not shown)", String::from_utf8_lossy(name));
    }
    let cut = text.get(..SHOWN_BYTES_MAX).unwrap_or(text);
    let printable = String::from_utf8_lossy(cut).replace(|letter: char| letter.is_control(), "?");
    if cut.len() < text.len() { format!("{printable}...") } else { printable }
}

#[cfg(test)]
#[path = "load/tests.rs"]
mod tests;
