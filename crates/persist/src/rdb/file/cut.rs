//! Cuts a file into pieces of whole records, by lengths alone.
//!
//! The caller reads bytes and offers them from where the last cut ended; a cut takes as many whole records as are
//! there. What concerns the file and not a key (aux fields, functions, sizes) is told on the way.

use super::super::{Reader, VERSION};
use super::error::{FileError, Why};
use super::records::Records;
use super::scan::{Halt, Scan, has_nodes, module_name};
use super::{CHECKSUM_SINCE, Dialect, HEADER_BYTES, MAGIC, MAGIC_VALKEY, VALKEY_VERSIONS, kind, opcode};
use crate::crc64;

/// On what terms a file is read.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// How many databases there are.
    pub databases: u64,
    /// Data of modules is left out rather than refused.
    pub skips_modules: bool,
    /// The checksum at the end is looked at.
    pub sums: bool,
    /// A cut ends behind an aux field of this name; empty for none.
    pub stops_behind: &'static [u8],
    /// A value of nodes (a list, a stream) that is not all there when so many bytes are offered is cut between its nodes.
    pub whole_max: usize,
}

/// What a file says that is not a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// Name and value about the file or who wrote it, or about what is behind it.
    Aux {
        /// The name.
        name: Vec<u8>,
        /// The value.
        value: Vec<u8>,
        /// How many keys of the file stand in front of it.
        keys_before: u64,
    },
    /// The text of a library of functions.
    Library(Vec<u8>),
    /// How many keys the database has, and how many of them end.
    Sizes {
        /// Number of the database.
        db: u64,
        /// All keys.
        keys: u64,
        /// Those that end.
        ending: u64,
    },
    /// What a module keeps beside keys was left out.
    SkippedModule(String),
}

/// Which part of a value a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its key stands in front of it.
    pub is_first: bool,
    /// What stands behind its nodes is there too.
    pub is_last: bool,
    /// Nodes in it.
    pub nodes: u64,
    /// The value's type.
    pub(super) of: u8,
}

/// A piece of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Bytes of it. 0: more bytes have to be there, see [`Cutter::wanted`].
    pub bytes: usize,
    /// The database that was selected in front of it.
    pub db: u64,
    /// Where it begins, in bytes from the file's start.
    pub at: u64,
    /// Keys in it. A value in parts counts with its last one.
    pub keys: u64,
    /// The file ended behind it.
    pub is_last: bool,
    /// It is a part of one value, and nothing else.
    pub part: Option<Part>,
}

/// Where a file has been cut so far.
pub struct Cutter {
    terms: Terms,
    version: u32,
    dialect: Dialect,
    at: u64,
    db: u64,
    /// Keys that were taken.
    keys: u64,
    sum: Option<crc64::Running>,
    wanted: u64,
    likely: u64,
    /// The value that is being cut between its nodes.
    long: Option<Long>,
}

/// A value of which parts were taken.
struct Long {
    of: u8,
    key: Box<[u8]>,
    /// Nodes that were not taken yet.
    left: u64,
}

/// What stands next in a file.
enum Next {
    /// Records that are whole; a key among them or not.
    Whole {
        is_key: bool,
    },
    /// The aux field that a cut ends behind.
    Stop,
    End,
}

impl Cutter {
    /// A cutter at a file's start.
    #[must_use]
    pub fn new(terms: Terms) -> Cutter {
        let sum = terms.sums.then(crc64::Running::new);
        Cutter {
            terms,
            version: 0,
            dialect: Dialect::Redis,
            at: 0,
            db: 0,
            keys: 0,
            sum,
            wanted: HEADER_BYTES as u64,
            likely: 0,
            long: None,
        }
    }

    /// Whose file it is, once its header was read.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The version of the file, once its header was read.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// How many bytes are to be offered at least for the next cut to take any.
    #[must_use]
    pub fn wanted(&self) -> u64 {
        self.wanted
    }

    /// How many bytes the next cut takes, if it wants more than were offered and the record at hand goes on as it began. No
    /// more than a guess.
    #[must_use]
    pub fn likely(&self) -> u64 {
        self.likely
    }

    /// How many bytes of the file were taken.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.at
    }

    /// The error of a file that ends here, though more was wanted.
    #[must_use]
    pub fn short(&self, offered: &[u8]) -> FileError {
        self.error(offered.len(), Why::Short)
    }

    /// How many keys of the file were taken.
    #[must_use]
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// The checksum of what was taken, where one is kept.
    #[must_use]
    pub fn sum(&self) -> Option<u64> {
        self.sum.as_ref().map(crc64::Running::value)
    }

    fn error(&self, ahead: usize, why: Why) -> FileError {
        FileError { at: self.at + ahead as u64, key: None, why }
    }

    /// Takes as many whole records of `bytes` as are there, the header first. What is wrong behind
    /// records, and the end with its checksum, are left for the next cut: values are looked at cut by
    /// cut, so the first thing wrong in the file is the one told, in whatever pieces the file arrives.
    ///
    /// # Errors
    /// What is wrong with the file, as far as lengths show it.
    pub fn cut(&mut self, bytes: &[u8], tell: &mut dyn FnMut(About)) -> Result<Cut, FileError> {
        if self.version == 0 {
            return self.cut_header(bytes);
        }
        (self.wanted, self.likely) = (1, 0);
        if self.long.is_some() {
            return self.cut_part(bytes, 0);
        }
        let (mut cut, mut is_last, mut is_stopped) = (0, false, false);
        let (first_db, keys_before) = (self.db, self.keys);
        while !is_last && !is_stopped {
            let rest = bytes.get(cut..).unwrap_or_default();
            let mut scan = Scan::new(rest);
            match self.record(&mut scan, rest, tell) {
                Ok(Some(Next::Whole { is_key })) => self.keys += u64::from(is_key),
                Ok(Some(Next::Stop)) => is_stopped = true,
                Ok(Some(Next::End)) if cut == 0 => is_last = true,
                Err(error) if cut == 0 => return Err(error),
                Ok(Some(Next::End) | None) | Err(_) => break,
            }
            cut += scan.at();
        }
        if cut == 0
            && bytes.len() >= self.terms.whole_max
            && let Some(nodes_at) = self.begin_parts(bytes)
        {
            return self.cut_part(bytes, nodes_at);
        }
        let keys = self.keys - keys_before;
        let piece = Cut { bytes: cut, db: first_db, at: self.at, keys, is_last, part: None };
        self.take(bytes.get(..cut).unwrap_or_default(), is_last)?;
        Ok(piece)
    }

    /// Has the record that `bytes` begin with be cut between its nodes, if it has any and the first of them is there. Answers where they
    /// begin.
    fn begin_parts(&mut self, bytes: &[u8]) -> Option<usize> {
        let whole = Cut { bytes: bytes.len(), db: self.db, at: self.at, keys: 0, is_last: false, part: None };
        let record = Records::new(bytes, &whole, self.dialect).next_key().ok()??;
        let of = record.kind();
        let mut scan = Scan::new(bytes.get(record.value_at()..)?);
        let left = has_nodes(of).then(|| scan.length().ok()).flatten()?;
        let nodes_at = record.value_at() + scan.at();
        scan.node(of).ok().filter(|()| left > 0)?;
        self.long = Some(Long { of, key: record.key.as_ref().into(), left });
        Some(nodes_at)
    }

    /// Takes as many nodes from `start` on as are there, and what stands behind them if that is all there.
    fn cut_part(&mut self, bytes: &[u8], start: usize) -> Result<Cut, FileError> {
        let Some(mut long) = self.long.take() else { return Err(self.error(0, Why::Bad("a record"))) };
        let mut scan = Scan::new(bytes.get(start..).unwrap_or_default());
        let mut part = Part { is_first: start > 0, is_last: false, nodes: 0, of: long.of };
        let mut end = 0;
        while !part.is_last {
            let step = if long.left > 0 { scan.node(long.of) } else { scan.behind_nodes(long.of) };
            match step {
                Ok(()) => {
                    end = start + scan.at();
                    part.is_last = long.left == 0;
                    part.nodes += u64::from(!part.is_last);
                    long.left = long.left.saturating_sub(1);
                }
                // What is wrong behind nodes is left for the next cut, as elsewhere.
                Err(_) if part.nodes > 0 => break,
                Err(Halt::Short(wanted)) => {
                    self.wanted = wanted + start as u64;
                    self.likely = self.wanted;
                    break;
                }
                Err(halt) => {
                    let why = Why::Bad(if let Halt::Bad(what) = halt { what } else { "a node" });
                    let error = self.error(start + scan.at(), why);
                    return Err(FileError { key: Some((self.db, long.key)), ..error });
                }
            }
        }
        let keys = u64::from(part.is_last);
        let part = (end > 0).then_some(part);
        let cut = Cut { bytes: end, db: self.db, at: self.at, keys, is_last: false, part };
        self.keys += keys;
        if keys == 0 {
            self.long = Some(long);
        }
        self.take(bytes.get(..end).unwrap_or_default(), false)?;
        Ok(cut)
    }

    fn cut_header(&mut self, bytes: &[u8]) -> Result<Cut, FileError> {
        let nothing = Cut { bytes: 0, db: 0, at: 0, keys: 0, is_last: false, part: None };
        let Some(header) = bytes.get(..HEADER_BYTES) else { return Ok(nothing) };
        let not_rdb = || FileError { at: 0, key: None, why: Why::NotRdb };
        let (digits, dialect) = if let Some(digits) = header.strip_prefix(MAGIC) {
            (digits, Dialect::Redis)
        } else {
            (header.strip_prefix(MAGIC_VALKEY).ok_or_else(not_rdb)?, Dialect::Valkey)
        };
        let digit =
            |version, digit: &u8| digit.is_ascii_digit().then(|| version * 10 + u32::from(digit - b'0'));
        let version = digits.iter().try_fold(0, digit).ok_or_else(not_rdb)?;
        let is_read = match dialect {
            Dialect::Redis => (1..=u32::from(VERSION)).contains(&version),
            Dialect::Valkey => VALKEY_VERSIONS.contains(&version),
        };
        if !is_read {
            return Err(FileError { at: 0, key: None, why: Why::Version(version) });
        }
        (self.version, self.dialect) = (version, dialect);
        self.take(header, false)?;
        Ok(Cut { bytes: HEADER_BYTES, ..nothing })
    }

    /// Sums what was taken, and compares where it was all.
    fn take(&mut self, bytes: &[u8], is_last: bool) -> Result<(), FileError> {
        if is_last && self.version >= CHECKSUM_SINCE {
            let (summed, stored) = bytes.split_last_chunk::<8>().unwrap_or((bytes, &[0; 8]));
            let stored = u64::from_le_bytes(*stored);
            if let Some(sum) = &mut self.sum {
                sum.update(summed);
                let summed_up = sum.value();
                if stored != 0 && stored != summed_up {
                    return Err(self.error(summed.len(), Why::Checksum { stored, summed: summed_up }));
                }
            }
        } else if let Some(sum) = &mut self.sum {
            sum.update(bytes);
        }
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Passes the next record, with what is known of its key in front of it. `None`: it is not all there.
    fn record(
        &mut self,
        scan: &mut Scan<'_>,
        bytes: &[u8],
        tell: &mut dyn FnMut(About),
    ) -> Result<Option<Next>, FileError> {
        let mut key = None;
        match self.scan_record(scan, bytes, &mut key, tell) {
            Ok(Ok(next)) => Ok(Some(next)),
            Err(Halt::Short(wanted)) => {
                (self.wanted, self.likely) = (wanted, scan.likely().max(wanted));
                Ok(None)
            }
            Err(Halt::Bad(what)) => Err(self.error_in(bytes, scan.at(), key, Why::Bad(what))),
            Err(Halt::Type(byte)) => {
                let why = kind::name(byte).map_or(Why::Unknown(byte), Why::Foreign);
                Err(self.error_in(bytes, scan.at(), key, why))
            }
            Ok(Err(why)) => Err(self.error_in(bytes, scan.at(), key, why)),
        }
    }

    fn error_in(
        &self,
        bytes: &[u8],
        ahead: usize,
        key: Option<std::ops::Range<usize>>,
        why: Why,
    ) -> FileError {
        let key = key.and_then(|range| Reader::new(bytes.get(range)?).string(usize::MAX).ok());
        FileError { key: key.map(|key| (self.db, key.into())), ..self.error(ahead, why) }
    }

    /// As [`Cutter::record`]. Where a key stands is put in `key`, for whoever tells what is wrong.
    fn scan_record(
        &mut self,
        scan: &mut Scan<'_>,
        bytes: &[u8],
        key: &mut Option<std::ops::Range<usize>>,
        tell: &mut dyn FnMut(About),
    ) -> Result<Result<Next, Why>, Halt> {
        loop {
            let is_first = scan.at() == 0;
            let byte = scan.byte()?;
            match byte {
                opcode::END_MS => scan.pass(8)?,
                opcode::END_SECONDS => scan.pass(4)?,
                opcode::IDLE => scan.lengths(1)?,
                opcode::FREQUENCY => drop(scan.byte()?),
                opcode::DRAGONFLY_MASK => {
                    // Its second bit says that flags of memcached's protocol follow.
                    let mask = u32::from_le_bytes(scan.array()?);
                    scan.pass(if mask & 2 == 0 { 0 } else { 4 })?;
                }
                opcode::FIRST.. if is_first => return self.scan_about(byte, scan, bytes, tell),
                opcode::FIRST.. => {
                    return Ok(Err(Why::Bad("what is known of a key, with no key behind it,")));
                }
                byte => return self.scan_key(kind::of(byte, self.dialect), scan, key),
            }
        }
    }

    /// Passes a key and its value.
    fn scan_key(
        &self,
        of: u8,
        scan: &mut Scan<'_>,
        key: &mut Option<std::ops::Range<usize>>,
    ) -> Result<Result<Next, Why>, Halt> {
        let start = scan.at();
        scan.string()?;
        *key = Some(start..scan.at());
        if !self.terms.skips_modules {
            match of {
                kind::MODULE => return Ok(Err(Why::Module(module_name(scan.length()?)))),
                kind::JSON => return Err(Halt::Type(of)),
                _ => {}
            }
        }
        scan.object(of)?;
        Ok(Ok(Next::Whole { is_key: true }))
    }

    /// Passes a record that is no key.
    fn scan_about(
        &mut self,
        byte: u8,
        scan: &mut Scan<'_>,
        bytes: &[u8],
        tell: &mut dyn FnMut(About),
    ) -> Result<Result<Next, Why>, Halt> {
        let start = scan.at();
        match byte {
            opcode::END => {
                let sum_bytes = if self.version >= CHECKSUM_SINCE { 8 } else { 0 };
                scan.pass(sum_bytes)?;
                return Ok(Ok(Next::End));
            }
            opcode::SELECT => {
                let db = scan.length()?;
                if db >= self.terms.databases {
                    return Ok(Err(Why::Databases(db)));
                }
                self.db = db;
            }
            opcode::RESIZE => {
                let (keys, ending) = (scan.length()?, scan.length()?);
                tell(About::Sizes { db: self.db, keys, ending });
            }
            opcode::SLOT => scan.lengths(3)?,
            opcode::AUX => {
                scan.strings(2)?;
                let mut reader = Reader::new(bytes.get(start..).unwrap_or_default());
                let (Ok(name), Ok(value)) = (reader.string(usize::MAX), reader.string(usize::MAX)) else {
                    return Ok(Err(Why::Bad("an aux field")));
                };
                let is_stop = !name.is_empty() && name == self.terms.stops_behind;
                tell(About::Aux { name, value, keys_before: self.keys });
                if is_stop {
                    return Ok(Ok(Next::Stop));
                }
            }
            opcode::LIBRARY => {
                scan.string()?;
                let mut reader = Reader::new(bytes.get(start..).unwrap_or_default());
                let Ok(text) = reader.string(usize::MAX) else {
                    return Ok(Err(Why::Bad("a library's text")));
                };
                tell(About::Library(text));
            }
            opcode::LIBRARY_EARLY => return Ok(Err(Why::EarlyFunctions)),
            opcode::MODULE => {
                let name = module_name(scan.length()?);
                if !self.terms.skips_modules {
                    return Ok(Err(Why::Module(name)));
                }
                scan.module()?;
                tell(About::SkippedModule(name));
            }
            opcode::SLOT_IMPORT => {
                return Ok(Err(Why::Foreign("a snapshot taken while slots of a cluster were moved in")));
            }
            byte => return Ok(Err(Why::Unknown(byte))),
        }
        Ok(Ok(Next::Whole { is_key: false }))
    }
}
