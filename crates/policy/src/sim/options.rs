//! The words behind `larder sim`. Read next: `report.rs`.

use super::csv::Columns;
use super::replay::Subject;
use std::ffi::OsString;
use std::path::PathBuf;

/// What is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The trace; `-` for standard input.
    pub file: PathBuf,
    /// Through what it is replayed.
    pub subjects: Vec<Subject>,
    /// Sizes of the cache.
    pub sizes: Vec<Size>,
    /// Counts objects: every size is one.
    pub is_by_objects: bool,
    /// Where a chart of miss ratios over sizes goes; its sizes are twenty steps up to the largest.
    pub chart: Option<PathBuf>,
    /// Compares the live estimator of hit ratios with full simulation.
    pub is_estimating: bool,
    /// The share of misses saved against this subject is shown.
    pub against: Subject,
    /// The trace is CSV with these columns.
    pub columns: Option<Columns>,
    /// Prints comma-separated values.
    pub is_csv: bool,
    /// Threads; 0 for as many as there are processors.
    pub jobs: usize,
}

/// A size of the cache.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Size {
    /// A part of the trace's footprint.
    Share(f64),
    /// Bytes, or objects where these are counted.
    Fixed(u64),
}

/// What the words ask for.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    /// To be told how to ask.
    Help,
    /// A replay.
    Replay(Box<Options>),
}

/// How to ask.
pub(super) const USAGE: &str = "\
Usage: larder sim TRACE [options]

Replays a trace of requests through eviction policies, the very code of the server, and tells what
each would have hit, by object and by byte, at each size of the cache. All of them advance together,
in one pass over the trace. Misses count from the first request on; a get that misses stores.

TRACE is KVT1, CSV, or what `redis-cli monitor` prints, compressed with zstd or not; - is standard
input. The form is told from the contents.

  --policies NAME,...    which; `all`, or names such as adaptive, lru, volatile-lfu, redis-lru, belady
                         Default: adaptive,lru,lfu,s3fifo,wtinylfu,gdsf,redis-lru,belady
  --sizes SIZE,...       of the cache: percent of the bytes of all keys, or bytes such as 64mb
                         Default: 0.1%,1%,10%,20%
  --objects              every object counts as one, whatever its size; so do sizes of the cache
  --against NAME         whom the misses are compared with. Default: redis-lru
  --svg FILE             draws the miss ratios over sizes, in twenty steps up to the largest
  --csv                  prints comma-separated values, with counts
  --columns NAME,...     the trace is CSV without a header, with these columns: time, key, size (or
                         key_size and value_size), op, ttl; others are passed over
  --estimate             shows what the server's estimator of hit ratios says of LRU beside the truth,
                         from half to eight times each size
  --jobs N               threads. Default: one for each processor
  -h, --help             this text

Examples:
  redis-cli monitor > trace; larder sim trace
  larder sim requests.csv.zst --policies all --sizes 64mb,1gb --svg curve.svg
  larder sim cluster52.csv --columns time,key,key_size,value_size,client,op,ttl

Policies: ";

/// What is replayed unless told.
const SUBJECTS: &[&str] = &["adaptive", "lru", "lfu", "s3fifo", "wtinylfu", "gdsf", "redis-lru", "belady"];
const SHARES: &[f64] = &[0.001, 0.01, 0.1, 0.2];

/// The help.
pub(super) fn help() -> String {
    let mut text = USAGE.to_owned();
    let mut column = "Policies: ".len();
    for (at, subject) in Subject::all().enumerate() {
        let name = subject.name();
        text.push_str(match at {
            0 => "",
            _ if column + name.len() > 96 => ",\n  ",
            _ => ", ",
        });
        column = if text.ends_with("\n  ") { 2 } else { column + 2 } + name.len();
        text.push_str(name);
    }
    text + "\n"
}

impl Options {
    /// Reads the words behind `sim`. The error is a sentence for the user.
    pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Asked, String> {
        let mut words = words.into_iter();
        let mut options = Options {
            file: PathBuf::new(),
            subjects: SUBJECTS.iter().filter_map(|name| Subject::by_name(name)).collect(),
            sizes: SHARES.iter().map(|share| Size::Share(*share)).collect(),
            is_by_objects: false,
            chart: None,
            is_estimating: false,
            against: Subject::RedisLru,
            columns: None,
            is_csv: false,
            jobs: 0,
        };
        while let Some(word) = words.next() {
            let mut path = || words.next().ok_or_else(|| format!("{} needs a value", word.display()));
            let mut value = || path().map(|value| value.to_string_lossy().into_owned());
            match word.to_string_lossy().as_ref() {
                "-h" | "--help" => return Ok(Asked::Help),
                "--policies" => options.subjects = subjects(&value()?)?,
                "--sizes" => options.sizes = sizes(&value()?)?,
                "--objects" => options.is_by_objects = true,
                "--estimate" => options.is_estimating = true,
                "--csv" => options.is_csv = true,
                "--svg" => options.chart = Some(PathBuf::from(path()?)),
                "--against" => options.against = subject(&value()?)?,
                "--columns" => options.columns = Some(columns(&value()?)?),
                "--jobs" => options.jobs = jobs(&value()?)?,
                option if option.starts_with('-') && option != "-" => {
                    return Err(format!("{option} is no option; see larder sim --help"));
                }
                _ if options.file.as_os_str().is_empty() => options.file = PathBuf::from(word),
                other => return Err(format!("{other} is one file too many; see larder sim --help")),
            }
        }
        if options.file.as_os_str().is_empty() {
            return Err("no trace is named; see larder sim --help".to_owned());
        }
        Ok(Asked::Replay(Box::new(options)))
    }
}

fn subject(name: &str) -> Result<Subject, String> {
    Subject::by_name(name).ok_or_else(|| {
        let names: Vec<&str> = Subject::all().map(Subject::name).collect();
        format!("{name} is no policy; there are {}", names.join(", "))
    })
}

fn subjects(text: &str) -> Result<Vec<Subject>, String> {
    if text == "all" {
        return Ok(Subject::all().collect());
    }
    let mut subjects = Vec::new();
    for name in text.split(',') {
        let subject = subject(name)?;
        if !subjects.contains(&subject) {
            subjects.push(subject);
        }
    }
    Ok(subjects)
}

const UNITS: &[(&str, u64)] = &[
    ("kb", 1 << 10),
    ("mb", 1 << 20),
    ("gb", 1 << 30),
    ("k", 1_000),
    ("m", 1_000_000),
    ("g", 1_000_000_000),
    ("b", 1),
];

fn sizes(text: &str) -> Result<Vec<Size>, String> {
    text.split(',').map(size).collect()
}

fn size(word: &str) -> Result<Size, String> {
    let wrong = || {
        format!(
            "{word} is no size: percent of the footprint, above 0 and at most 100, or bytes with a unit such as 64mb"
        )
    };
    let lower = word.to_ascii_lowercase();
    for (unit, bytes) in UNITS {
        if let Some(number) = lower.strip_suffix(unit) {
            let fixed = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*bytes));
            return fixed.filter(|fixed| *fixed > 0).map(Size::Fixed).ok_or_else(wrong);
        }
    }
    match lower.trim_end_matches('%').parse::<f64>() {
        Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(Size::Share(percent / 100.0)),
        _ => Err(wrong()),
    }
}

fn columns(text: &str) -> Result<Columns, String> {
    Columns::named(text).ok_or_else(|| format!("--columns {text} names no column 'key'"))
}

fn jobs(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(jobs) if (1..=1024).contains(&jobs) => Ok(jobs),
        _ => Err(format!("--jobs {text} is no number of threads from 1 to 1024")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Options, String> {
        match Options::parse(words.iter().map(OsString::from))? {
            Asked::Help => Err("help".to_owned()),
            Asked::Replay(options) => Ok(*options),
        }
    }

    #[test]
    fn options_are_read_and_wrong_ones_named() {
        let options =
            parse(&["t.csv", "--policies", "lru,arc,lru", "--sizes", "5%,50,2kb", "--objects"]).unwrap();
        assert_eq!(options.subjects.len(), 2);
        assert_eq!(options.sizes, [Size::Share(0.05), Size::Share(0.5), Size::Fixed(2048)]);
        assert!(options.is_by_objects && options.columns.is_none());
        assert!(parse(&["t.csv", "--policies", "lruu"]).unwrap_err().contains("adaptive"));
        for size in ["0", "101", "0mb", "x", "-1", "99999999999999999999gb", ""] {
            assert!(parse(&["t.csv", "--sizes", size]).unwrap_err().contains("no size"), "{size}");
        }
        assert!(parse(&["t.csv", "--sizes"]).unwrap_err().contains("needs a value"));
        assert!(parse(&["t.csv", "--columns", "time,size"]).unwrap_err().contains("no column 'key'"));
        assert!(parse(&["t.csv", "--jobs", "0"]).is_err());
        assert!(parse(&["a", "b"]).is_err() && parse(&["--x"]).is_err() && parse(&[]).is_err());
        assert_eq!(parse(&["t", "--policies", "all"]).unwrap().subjects.len(), Subject::all().count());
        assert_eq!(parse(&["-"]).unwrap().file, PathBuf::from("-"));
        assert_eq!(parse(&["t", "--x", "--help"]).unwrap_err(), "--x is no option; see larder sim --help");
    }

    #[test]
    fn every_name_finds_its_subject() {
        for subject in Subject::all() {
            assert_eq!(Subject::by_name(subject.name()), Some(subject));
            if let Subject::Policy(kind) = subject {
                assert_eq!(Subject::by_name(&format!("allkeys-{}", kind.name())), Some(subject));
                let volatile = Subject::by_name(kind.volatile_name()).unwrap();
                assert!(volatile == subject || volatile.name() == kind.volatile_name());
            }
        }
        assert_eq!(Subject::by_name("volatile-belady"), None);
    }

    #[test]
    fn the_help_names_every_policy_and_is_not_too_wide() {
        let text = help();
        assert!(Subject::all().all(|subject| text.contains(subject.name())));
        assert!(text.lines().all(|line| line.len() <= 104), "{text}");
    }
}
