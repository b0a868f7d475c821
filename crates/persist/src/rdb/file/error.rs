//! What can be wrong with a file, and where.

/// A file that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileError {
    /// Where, in bytes from the file's start.
    pub at: u64,
    /// Number of the database and the key that was being read, if any was.
    pub key: Option<(u64, Box<[u8]>)>,
    /// Why.
    pub why: Why,
}

/// Why a file was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// It does not begin as such files do.
    NotRdb,
    /// It is of a version that is not read.
    Version(u32),
    /// It ends before it should.
    Short,
    /// Something stands there that cannot.
    Bad(&'static str),
    /// A value whose parts do not fit together.
    Value,
    /// A key's type, or a mark, that is not known.
    Unknown(u8),
    /// A value of a type that is known and not read.
    Foreign(&'static str),
    /// A value of a module's type, or what the module keeps beside keys.
    Module(String),
    /// More databases than there are.
    Databases(u64),
    /// A library of functions in the form that was given up.
    EarlyFunctions,
    /// A library of functions that does not load.
    Library(String),
    /// A key that was there already.
    Twice,
    /// Another sum than the one at the end.
    Checksum {
        /// The one at the end.
        stored: u64,
        /// The one of what was read.
        summed: u64,
    },
    /// The file was not read.
    Io(String),
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Why::NotRdb => {
                f.write_str("this is no RDB file: it begins with neither REDIS nor VALKEY and a version")
            }
            Why::Version(version) => write!(f, "RDB version {version} is not read here"),
            Why::Short => f.write_str("the file ends in the middle"),
            Why::Bad(what) => write!(f, "{what} is not as it should be"),
            Why::Value => f.write_str("the value's parts do not fit together"),
            Why::Unknown(byte) => write!(f, "{byte} is neither a type of value nor a mark that is known"),
            Why::Foreign(what) => write!(f, "{what} is not read here"),
            Why::Module(name) => {
                write!(
                    f,
                    "data of a module's type '{name}', which is not here; load-skip-modules leaves such data out"
                )
            }
            Why::Databases(db) => {
                write!(f, "keys of database {db}, and 'databases' says that there are fewer")
            }
            Why::EarlyFunctions => {
                f.write_str("functions in the form of Redis 7.0's previews, which was given up")
            }
            Why::Library(text) => write!(f, "a library of functions does not load: {text}"),
            Why::Twice => f.write_str("the key is there twice"),
            Why::Checksum { stored, summed } => write!(
                f,
                "RDB CRC error: the checksum at the end is {stored:016x}, and that of what was read {summed:016x}: some byte is wrong"
            ),
            Why::Io(text) => write!(f, "cannot read on: {text}"),
        }
    }
}

impl std::fmt::Display for FileError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "at byte {}", self.at)?;
        if let Some((db, key)) = &self.key {
            const SHOWN: usize = 128;
            let more = if key.len() > SHOWN { "..." } else { "" };
            let key = key.get(..SHOWN).unwrap_or(key);
            write!(f, ", key '{}{more}' of database {db}", key.escape_ascii())?;
        }
        write!(f, ": {}", self.why)
    }
}

impl std::error::Error for FileError {}
