//! What a value of an option may be, and why a value is refused. The texts are Redis' own, byte for byte.
//!
//! Invariant: every parser here is total: any bytes give a value or a [`Reason`], never a panic.
//! Read next: `value.rs` for the types that options have, `options.rs` for the table.

use std::fmt;

/// Why a value was refused, as a client or the user at the terminal reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason(String);

impl Reason {
    /// A reason in these words.
    pub fn new(text: impl Into<String>) -> Reason {
        Reason(text.into())
    }

    /// The words.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }

    /// What the operating system said, without Rust's "(os error N)".
    #[must_use]
    pub fn from_io(error: &std::io::Error) -> Reason {
        let text = error.to_string();
        Reason::new(text.split(" (os error").next().unwrap_or_default())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The form of an option's value, with its bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `yes` or `no`.
    Bool,
    /// A whole number. `unsigned` only chooses Redis' text for a negative one.
    Int {
        /// Smallest value.
        min: i64,
        /// Largest value.
        max: i64,
        /// Refused below zero with another text.
        unsigned: bool,
    },
    /// A whole number from 0 that is quietly brought within `low..=high`.
    Clamped {
        /// What smaller numbers become.
        low: i64,
        /// What larger numbers become.
        high: i64,
    },
    /// Bytes, with an optional unit: k kb m mb g gb b.
    Memory {
        /// Smallest value, in bytes.
        min: i64,
        /// Largest value, in bytes.
        max: i64,
        /// Refused past `i64::MAX` with another text.
        unsigned: bool,
    },
    /// Bytes, or a share of `maxmemory` in percent.
    MemoryOrPercent,
    /// An octal file mode up to this.
    Octal {
        /// Largest mode.
        max: u16,
    },
    /// One word of `names`.
    Choice {
        /// What can be chosen.
        names: &'static [&'static str],
    },
    /// Any bytes.
    Text,
    /// A file's name without a directory.
    FileName,
    /// Letters, digits, hyphens and dots.
    HostName,
    /// What the name of a node in a cluster may be made of.
    NodeName,
    /// A name of the locale in which strings are compared by their bytes.
    Locale,
    /// A text with variables in braces, as the title of the process is made of.
    TitleTemplate,
    /// A directory that exists.
    Directory,
    /// Several words, compared as they are.
    Words,
    /// How a signal ends the server: any of `default`, `save`, `nosave`, `now` and `force`.
    EndBySignal,
    /// Pairs of seconds and changes.
    SaveRules,
    /// Cron's five fields, several times with `;` between.
    Schedules,
    /// Lines of words that the server reads: `source` and `route`.
    Lines,
    /// Client class, hard limit, soft limit, seconds; any number of such groups.
    OutputLimits,
    /// Up to [`BIND_ADDRESSES_MAX`] addresses.
    Bind,
    /// Letters of keyspace event classes.
    KeyspaceEvents,
    /// Percentiles from 0 to 100.
    Percentiles,
    /// Three whole numbers from -2000 to 2000.
    OomScores,
}

/// How many addresses `bind` takes.
pub const BIND_ADDRESSES_MAX: usize = 16;

impl Kind {
    /// Whether one value may be several words, given apart in a file or in one string with single blanks.
    #[must_use]
    pub const fn takes_words(&self) -> bool {
        matches!(
            self,
            Kind::Words
                | Kind::EndBySignal
                | Kind::SaveRules
                | Kind::OutputLimits
                | Kind::Bind
                | Kind::Percentiles
                | Kind::OomScores
        )
    }

    /// What a value looks like, for the help text.
    #[must_use]
    pub fn shape(&self) -> String {
        match self {
            Kind::Bool => "yes|no".into(),
            Kind::Int { min, max: i64::MAX, .. } => format!("<number from {min}>"),
            Kind::Int { min, max, .. } => format!("<number {min}..{max}>"),
            Kind::Clamped { low, high } => format!("<number {low}..{high}>"),
            Kind::Memory { .. } => "<bytes>[kb|mb|gb]".into(),
            Kind::MemoryOrPercent => "<bytes>[kb|mb|gb]|<percent>%".into(),
            Kind::Octal { .. } => "<octal mode>".into(),
            Kind::Choice { names } => names.join("|"),
            Kind::Text => "<text>".into(),
            Kind::FileName => "<file name>".into(),
            Kind::HostName => "<host name>".into(),
            Kind::NodeName => "<name>".into(),
            Kind::Locale => "<locale>".into(),
            Kind::TitleTemplate => "<text with {variables}>".into(),
            Kind::Directory => "<directory>".into(),
            Kind::Words => "<word> ...".into(),
            Kind::EndBySignal => "default|save|nosave|now|force ...".into(),
            Kind::SaveRules => "<seconds> <changes> ...".into(),
            Kind::Schedules => "<minute> <hour> <day> <month> <weekday> [; ...]".into(),
            Kind::Lines => "<words> ...".into(),
            Kind::OutputLimits => "<class> <hard bytes> <soft bytes> <soft seconds> ...".into(),
            Kind::Bind => "<address> ...".into(),
            Kind::KeyspaceEvents => "<letters>".into(),
            Kind::Percentiles => "<percentile> ...".into(),
            Kind::OomScores => "<main> <replica> <child>".into(),
        }
    }
}

/// Checks what an option that is a text may be.
///
/// # Errors
/// In Redis' words.
pub(crate) fn text(kind: &Kind, text: &[u8]) -> Result<(), Reason> {
    let is_refused = match kind {
        Kind::FileName => text.contains(&b'/').then_some("dbfilename can't be a path, just a filename"),
        Kind::HostName => host_name_problem(text),
        Kind::NodeName => text
            .iter()
            .any(|byte| NODE_NAME_REFUSED.contains(byte))
            .then_some("Announced human node name contained invalid character"),
        // Differs from Redis: other locales than C are refused, as Redis refuses one that the system has not got.
        Kind::Locale => {
            let is_known = LOCALES.iter().any(|known| known.as_bytes() == text);
            (!is_known).then_some("Invalid locale name")
        }
        Kind::TitleTemplate => {
            (!is_title_template(text)).then_some("template format is invalid or contains unknown variables")
        }
        _ => None,
    };
    is_refused.map_or(Ok(()), |reason| Err(Reason::new(reason)))
}

/// Bytes that the name of a node is not made of, since the file with the state of a cluster gives them a meaning.
const NODE_NAME_REFUSED: &[u8] = b"!#$%&()*+:;<>?@[]^{|}~";

/// Names of locales that compare strings by their bytes; with an empty name the environment's is asked for.
const LOCALES: &[&str] = &["", "C", "POSIX", "C.UTF-8", "C.utf8"];

/// Longest host name, in bytes.
const HOST_NAME_BYTES_MAX: usize = 255;

fn host_name_problem(name: &[u8]) -> Option<&'static str> {
    if name.len() > HOST_NAME_BYTES_MAX {
        return Some("Hostnames must be less than 256 characters");
    }
    let is_fine = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    (!name.iter().all(is_fine))
        .then_some("Hostnames may only contain alphanumeric characters, hyphens or dots")
}

/// The variables of the template for the title of the process, and whether one has a value before the server runs.
const TITLE_VARIABLES: &[(&[u8], bool)] = &[
    (b"title", false),
    (b"listen-addr", true),
    (b"server-mode", false),
    (b"port", true),
    (b"tls-port", true),
    (b"unixsocket", false),
    (b"config-file", true),
];

/// Whether a template has known variables only, closes its braces, and makes a title that is not empty.
fn is_title_template(template: &[u8]) -> bool {
    let mut rest = template;
    let mut has_text = false;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'{' {
            has_text |= *byte != b' ';
        } else if let Some(after) = rest.strip_prefix(b"{") {
            has_text = true;
            rest = after;
        } else {
            let Some(end) = rest.iter().position(|byte| *byte == b'}') else { return false };
            let (name, after) = rest.split_at(end);
            let Some((_, is_filled)) = TITLE_VARIABLES.iter().find(|(known, _)| *known == name) else {
                return false;
            };
            has_text |= is_filled;
            rest = after.get(1..).unwrap_or_default();
        }
    }
    has_text
}

/// A whole number written the one canonical way: no sign but '-', no leading zero, no blank.
#[must_use]
pub(crate) fn strict_int(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let canonical = match digits {
        [b'0'] => text == digits,
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !canonical {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A number of bytes with its unit. `None`: not written as one; a number past `u64` saturates.
///
// Differs from Redis: a unit without a number ("gb") is refused, where Redis takes it for zero.
#[must_use]
pub fn memory(text: &[u8]) -> Option<u64> {
    let digits_end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at_checked(digits_end)?;
    let factor: u64 = match unit.to_ascii_lowercase().as_slice() {
        b"" | b"b" => 1,
        b"k" => 1_000,
        b"kb" => 1 << 10,
        b"m" => 1_000_000,
        b"mb" => 1 << 20,
        b"g" => 1_000_000_000,
        b"gb" => 1 << 30,
        _ => return None,
    };
    if digits.is_empty() && !unit.is_empty() {
        return None;
    }
    let number = digits
        .iter()
        .fold(0_u64, |sum, digit| sum.saturating_mul(10).saturating_add(u64::from(digit.wrapping_sub(b'0'))));
    Some(number.saturating_mul(factor))
}

/// A number of bytes as a file best shows it: in the largest unit that divides it.
#[must_use]
pub(crate) fn memory_in_units(bytes: u64) -> String {
    for (unit, factor) in [("gb", 1_u64 << 30), ("mb", 1 << 20), ("kb", 1 << 10)] {
        if bytes != 0 && bytes.is_multiple_of(factor) {
            return format!("{}{unit}", bytes / factor);
        }
    }
    bytes.to_string()
}

/// Parses an `Int` or `Clamped` value.
pub(crate) fn int(kind: &Kind, text: &[u8]) -> Result<i64, Reason> {
    let number =
        strict_int(text).ok_or_else(|| Reason::new("argument couldn't be parsed into an integer"))?;
    match *kind {
        Kind::Int { min, max, unsigned } => within(number, min, max, unsigned),
        Kind::Clamped { low, high } => {
            within(number, 0, i64::from(i32::MAX), false).map(|number| number.clamp(low, high))
        }
        _ => Ok(number),
    }
}

/// Parses a `Memory` value.
pub(crate) fn bytes(kind: &Kind, text: &[u8]) -> Result<i64, Reason> {
    let number = memory(text).ok_or_else(|| Reason::new("argument must be a memory value"))?;
    let Kind::Memory { min, max, unsigned } = *kind else {
        return Ok(i64::try_from(number).unwrap_or(i64::MAX));
    };
    match i64::try_from(number) {
        Ok(number) => within(number, min, max, unsigned),
        Err(_) if unsigned => Err(Reason::new("argument must be greater or equal to 0")),
        Err(_) => Err(outside(min, max)),
    }
}

fn within(number: i64, min: i64, max: i64, unsigned: bool) -> Result<i64, Reason> {
    if unsigned && number < 0 {
        return Err(Reason::new("argument must be greater or equal to 0"));
    }
    if number < min || number > max { Err(outside(min, max)) } else { Ok(number) }
}

fn outside(min: i64, max: i64) -> Reason {
    Reason::new(format!("argument must be between {min} and {max} inclusive"))
}

/// Parses an octal file mode.
pub(crate) fn octal(text: &[u8], max: u16) -> Result<u16, Reason> {
    let is_octal = !text.is_empty() && text.iter().all(|digit| matches!(digit, b'0'..=b'7'));
    if !is_octal {
        return Err(Reason::new("argument couldn't be parsed as an octal number"));
    }
    let mode = text.iter().fold(0_u32, |mode, digit| {
        mode.saturating_mul(8).saturating_add(u32::from(digit.wrapping_sub(b'0')))
    });
    match u16::try_from(mode) {
        Ok(mode) if mode <= max => Ok(mode),
        _ => Err(Reason::new(format!("argument must be between 0 and {max:o} inclusive"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_powers_of_two_with_a_b_and_of_ten_without() {
        for (text, bytes) in
            [("1k", 1000), ("1kb", 1024), ("2M", 2_000_000), ("2MB", 2 << 20), ("3g", 3_000_000_000)]
        {
            assert_eq!(memory(text.as_bytes()), Some(bytes), "{text}");
        }
        assert_eq!(memory(b"3Gb"), Some(3 << 30));
        assert_eq!(memory(b"7b"), Some(7));
        assert_eq!(memory(b""), Some(0));
        assert_eq!(memory(b"99999999999999999999gb"), Some(u64::MAX));
        for text in ["gb", "1.5gb", "-1", "+1", " 1", "1 kb", "1kbx", "5%", "0x10"] {
            assert_eq!(memory(text.as_bytes()), None, "{text}");
        }
        assert_eq!(memory_in_units(3 << 30), "3gb");
        assert_eq!(memory_in_units(1000), "1000");
        assert_eq!(memory_in_units(0), "0");
    }

    #[test]
    fn numbers_have_one_spelling() {
        assert_eq!(strict_int(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(strict_int(b"0"), Some(0));
        for text in ["", "-", "-0", "007", "+7", "7 ", "9223372036854775808", "1e1"] {
            assert_eq!(strict_int(text.as_bytes()), None, "{text}");
        }
    }
}
