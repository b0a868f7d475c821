//! The manifest: which files make up a log, a line each, in the order in which they are read.
//!
//! `file appendonly.aof.1.base.rdb seq 1 type b`: a base, incremental files behind it in ascending order, and history: files
//! that are no more part of it and are to be removed.

use std::fmt::Write as _;

/// A line longer than this is none.
const LINE_BYTES_MAX: usize = 1024;

/// What a file of a log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// What everything else is behind of.
    Base,
    /// What happened since.
    Incr,
    /// It is of the past.
    History,
}

/// A file of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name, without a path.
    pub name: String,
    /// Its number among those of its kind.
    pub seq: u64,
}

impl Entry {
    /// Its line in a manifest.
    fn line(&self, kind: FileKind) -> String {
        let letter = match kind {
            FileKind::Base => 'b',
            FileKind::Incr => 'i',
            FileKind::History => 'h',
        };
        format!("file {} seq {} type {letter}\n", quoted(&self.name), self.seq)
    }
}

/// What is wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestError {
    /// In which line, from 1.
    pub line: usize,
    /// What.
    pub what: String,
}

impl std::fmt::Display for ManifestError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "line {}: {}", self.line, self.what)
    }
}

/// The files of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    /// What everything else is behind of.
    pub base: Option<Entry>,
    /// What happened since, in order.
    pub incr: Vec<Entry>,
    /// To be removed.
    pub history: Vec<Entry>,
    /// The highest number of a base so far.
    pub base_seq: u64,
    /// The highest number of an incremental file so far.
    pub incr_seq: u64,
}

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn parse(text: &[u8]) -> Result<Manifest, ManifestError> {
        let mut manifest = Manifest::default();
        let mut lines = 0;
        for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let wrong = |what: &str| ManifestError { line: index + 1, what: what.into() };
            if line.len() > LINE_BYTES_MAX {
                return Err(wrong("it is too long"));
            }
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            lines += 1;
            let (entry, kind) = parse_line(line).map_err(|what| wrong(&what))?;
            // As it will stand in the next manifest, bytes that are no letters told by their numbers.
            if entry.line(kind).len() > LINE_BYTES_MAX {
                return Err(wrong("its name is too long"));
            }
            match kind {
                FileKind::Base if manifest.base.is_some() => return Err(wrong("there is a base already")),
                FileKind::Base => {
                    manifest.base_seq = entry.seq;
                    manifest.base = Some(entry);
                }
                FileKind::Incr => {
                    if entry.seq <= manifest.incr_seq {
                        return Err(wrong("incremental files stand in ascending order"));
                    }
                    manifest.incr_seq = entry.seq;
                    manifest.incr.push(entry);
                }
                FileKind::History => manifest.history.push(entry),
            }
        }
        if lines == 0 {
            return Err(ManifestError { line: 1, what: "the manifest is empty".into() });
        }
        Ok(manifest)
    }

    /// The manifest as a file.
    #[must_use]
    pub fn print(&self) -> String {
        let mut text = String::new();
        let groups = [
            (self.base.as_slice(), FileKind::Base),
            (self.history.as_slice(), FileKind::History),
            (self.incr.as_slice(), FileKind::Incr),
        ];
        for (entries, kind) in groups {
            entries.iter().for_each(|entry| text.push_str(&entry.line(kind)));
        }
        text
    }

    /// All files that are read, in order.
    pub fn files(&self) -> impl Iterator<Item = &Entry> {
        self.base.iter().chain(&self.incr)
    }

    /// Adds an incremental file of a log named `name`, and answers its name.
    pub fn add_incr(&mut self, name: &str) -> String {
        self.incr_seq += 1;
        let entry = Entry { name: format!("{name}.{}.incr.aof", self.incr_seq), seq: self.incr_seq };
        self.incr.push(entry.clone());
        entry.name
    }

    /// Puts a base of a log named `name` in place of all files but the incremental ones from number `from` on, and answers its
    /// name. What is replaced is history.
    pub fn replace_base(&mut self, name: &str, extension: &str, from: u64) -> String {
        self.base_seq += 1;
        let entry = Entry { name: format!("{name}.{}.base.{extension}", self.base_seq), seq: self.base_seq };
        let base = self.base.replace(entry.clone());
        let (old, kept) = std::mem::take(&mut self.incr).into_iter().partition(|incr| incr.seq < from);
        self.incr = kept;
        self.history.extend(base);
        self.history.extend::<Vec<Entry>>(old);
        entry.name
    }
}

fn parse_line(line: &[u8]) -> Result<(Entry, FileKind), String> {
    let words = split(line)?;
    if words.len() < 6 || words.len() % 2 != 0 {
        return Err("a line is 'file NAME seq NUMBER type b|i|h'".into());
    }
    let (mut name, mut seq, mut kind) = (None, None, None);
    for pair in words.chunks_exact(2) {
        let [key, value] = pair else { continue };
        match key.as_slice() {
            b"file" => {
                let text = String::from_utf8(value.clone()).map_err(|_| "a file name is UTF-8")?;
                if text.is_empty() || text.contains('/') || text == ".." {
                    return Err("a file is named without a path".into());
                }
                name = Some(text);
            }
            b"seq" => {
                let number = std::str::from_utf8(value).ok().and_then(|text| text.parse::<u64>().ok());
                // Room for every number that follows.
                let number = number.filter(|number| *number > 0 && *number < u64::MAX / 2);
                seq = Some(number.ok_or("a number is positive")?);
            }
            b"type" => {
                kind = Some(match value.as_slice() {
                    b"b" => FileKind::Base,
                    b"i" => FileKind::Incr,
                    b"h" => FileKind::History,
                    _ => return Err("a type is b, i or h".into()),
                });
            }
            // What later versions may add.
            _ => {}
        }
    }
    match (name, seq, kind) {
        (Some(name), Some(seq), Some(kind)) => Ok((Entry { name, seq }, kind)),
        _ => Err("a line is 'file NAME seq NUMBER type b|i|h'".into()),
    }
}

/// The words of a line; a word may be quoted.
fn split(line: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let mut words = Vec::new();
    let mut bytes = line.iter().copied().peekable();
    loop {
        while bytes.next_if(u8::is_ascii_whitespace).is_some() {}
        let Some(first) = bytes.peek().copied() else { return Ok(words) };
        let mut word = Vec::new();
        if first == b'"' {
            bytes.next();
            loop {
                match bytes.next() {
                    None => return Err("quotes are not closed".into()),
                    Some(b'"') => break,
                    Some(b'\\') => match bytes.next() {
                        Some(b'x') => {
                            let digit =
                                |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
                            let (Some(high), Some(low)) = (digit(bytes.next()), digit(bytes.next())) else {
                                return Err("\\x is followed by two digits".into());
                            };
                            word.push((high * 16 + low) as u8);
                        }
                        Some(b'n') => word.push(b'\n'),
                        Some(b'r') => word.push(b'\r'),
                        Some(b't') => word.push(b'\t'),
                        Some(b'a') => word.push(7),
                        Some(b'b') => word.push(8),
                        Some(other) => word.push(other),
                        None => return Err("quotes are not closed".into()),
                    },
                    Some(other) => word.push(other),
                }
            }
        } else {
            while let Some(byte) = bytes.next_if(|byte| !byte.is_ascii_whitespace()) {
                word.push(byte);
            }
        }
        words.push(word);
    }
}

/// A name as it stands in a manifest: in quotes where it would not be read as one word otherwise.
fn quoted(name: &str) -> String {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'\\'));
    if is_plain && !name.is_empty() {
        return name.to_owned();
    }
    let mut text = String::from("\"");
    for byte in name.bytes() {
        match byte {
            b'"' | b'\\' => text.extend(['\\', char::from(byte)]),
            b' '..=b'~' => text.push(char::from(byte)),
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\t' => text.push_str("\\t"),
            0x07 => text.push_str("\\a"),
            0x08 => text.push_str("\\b"),
            // Writing to a String does not fail.
            _ => drop(write!(text, "\\x{byte:02x}")),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "file appendonly.aof.2.base.rdb seq 2 type b\n\
                        file appendonly.aof.1.base.rdb seq 1 type h\n\
                        file appendonly.aof.4.incr.aof seq 4 type i\n\
                        file appendonly.aof.5.incr.aof seq 5 type i\n";

    #[test]
    fn a_manifest_is_read_and_written_as_redis_does() {
        let manifest = Manifest::parse(TEXT.as_bytes()).unwrap();
        assert_eq!(manifest.print(), TEXT);
        assert_eq!((manifest.base_seq, manifest.incr_seq), (2, 5));
        let names: Vec<&str> = manifest.files().map(|entry| entry.name.as_str()).collect();
        assert_eq!(
            names,
            ["appendonly.aof.2.base.rdb", "appendonly.aof.4.incr.aof", "appendonly.aof.5.incr.aof"]
        );
    }

    #[test]
    fn a_name_that_the_next_manifest_could_not_hold_is_refused() {
        let line = |name: &str| format!("file {name} seq 1 type i\n");
        assert!(Manifest::parse(line(&"n".repeat(255)).as_bytes()).is_ok());
        for name in ["\x01".repeat(300), "\x7f".repeat(255)] {
            let error = Manifest::parse(line(&name).as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), "line 1: its name is too long");
        }
    }

    #[test]
    fn a_rewrite_makes_history_of_what_it_replaces() {
        let mut manifest = Manifest::default();
        assert_eq!(manifest.replace_base("a", "rdb", 1), "a.1.base.rdb");
        assert_eq!(manifest.add_incr("a"), "a.1.incr.aof");
        assert_eq!(manifest.add_incr("a"), "a.2.incr.aof");
        assert_eq!(manifest.replace_base("a", "rdb", 2), "a.2.base.rdb");
        assert_eq!(
            manifest.print(),
            "file a.2.base.rdb seq 2 type b\nfile a.1.base.rdb seq 1 type h\nfile a.1.incr.aof seq 1 type h\n\
             file a.2.incr.aof seq 2 type i\n"
        );
    }

    #[test]
    fn what_is_no_manifest_is_refused_with_its_line() {
        for (text, line) in [
            ("", 1),
            ("file a seq 1 type x\n", 1),
            ("file a seq 1 type b\nfile b seq 2 type b\n", 2),
            ("file a seq 2 type i\nfile b seq 1 type i\n", 2),
            ("file ../a seq 2 type i\n", 1),
            ("\n#c\nfile \"a seq 2 type i\n", 3),
            ("file a seq 0 type i\n", 1),
            ("file a seq 1\n", 1),
        ] {
            assert_eq!(Manifest::parse(text.as_bytes()).unwrap_err().line, line, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn names_survive(name in "[^/\u{0}]{1,30}") {
            prop_assume!(name != "..");
            let manifest = Manifest { base: Some(Entry { name, seq: 1 }), base_seq: 1, ..Manifest::default() };
            prop_assert_eq!(Manifest::parse(manifest.print().as_bytes()), Ok(manifest));
        }

        #[test]
        fn nothing_panics(text in "[file seqtyp0-9bih\"\\\\x\n #]{0,80}") {
            let _ = Manifest::parse(text.as_bytes());
        }
    }
}
