//! Libraries of functions as plain data: their headers, names, flags, and which of them a server has.
//!
//! Invariant: no two libraries have the same name, and no two functions, in whatever library they are.
//! Nothing here runs Lua: what a library registers is found by `engine/functions.rs`.

use crate::header::Flags;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is said of a name that is none.
const NAME: &str = "ERR Library names can only contain letters, numbers, or underscores(_) and must be at least one character long";

/// What a library's first line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata<'a> {
    /// The library's name.
    pub name: Vec<u8>,
    /// Its code, from the end of the first line, so that lines keep their numbers.
    pub code: &'a [u8],
}

/// Reads the first line of a library, `#!lua name=...`.
///
/// # Errors
/// The text of the reply where it is not to be understood.
pub fn parse(text: &[u8]) -> Result<Metadata<'_>, Vec<u8>> {
    if !text.starts_with(b"#!") {
        return Err(b"ERR Missing library metadata".to_vec());
    }
    // A NUL byte ends what is searched for the line's end.
    let end = text.iter().position(|byte| matches!(byte, b'\n' | 0)).filter(|end| text[*end] == b'\n');
    let invalid = || b"ERR Invalid library metadata".to_vec();
    let (line, code) = text.split_at(end.ok_or_else(invalid)?);
    let words = larder_resp::split_words(line).ok_or_else(invalid)?;
    let (engine, options) = words.split_first().ok_or_else(invalid)?;
    let mut name = None;
    for option in options {
        match option.split_at_checked(5) {
            Some((key, value)) if key.eq_ignore_ascii_case(b"name=") => {
                if name.replace(value.to_vec()).is_some() {
                    return Err(
                        b"ERR Invalid metadata value, name argument was given multiple times".to_vec()
                    );
                }
            }
            _ => return Err([b"ERR Invalid metadata value given: ", &option[..]].concat()),
        }
    }
    let name = name.ok_or("ERR Library name was not given")?;
    if !is_name(&name) {
        return Err(NAME.into());
    }
    let engine = engine.get(2..).unwrap_or_default();
    if !engine.eq_ignore_ascii_case(b"lua") {
        return Err([b"ERR Engine '", engine, b"' not found"].concat());
    }
    Ok(Metadata { name, code })
}

/// Whether a library or a function can have this name.
pub(crate) fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

/// A function that a library registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// Its name.
    pub name: Vec<u8>,
    /// What it does, if the library says so.
    pub description: Option<Vec<u8>>,
    /// What it promises.
    pub flags: Flags,
}

/// A library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Library {
    /// Its name.
    pub name: Vec<u8>,
    /// All of its text, the first line included.
    pub text: Vec<u8>,
    /// Its functions, in the order in which they were registered.
    pub functions: Vec<Declared>,
}

/// A function and where it is found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its library.
    pub library: Arc<Library>,
    /// Its place there.
    pub index: usize,
}

impl Found {
    /// What the library says of the function.
    pub fn declared(&self) -> &Declared {
        &self.library.functions[self.index]
    }
}

/// What becomes of the libraries that are there when others are restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// They go.
    Flush,
    /// They stay, and none of them may come again.
    Append,
    /// They stay unless they come again.
    Replace,
}

impl Policy {
    /// A policy by its word.
    ///
    /// # Errors
    /// The text of the reply where there is no such policy.
    pub fn parse(word: &[u8]) -> Result<Policy, &'static str> {
        [("flush", Policy::Flush), ("append", Policy::Append), ("replace", Policy::Replace)]
            .into_iter()
            .find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, policy)| policy)
            .ok_or("ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.")
    }
}

/// What FUNCTION LIST is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// A pattern of names, upper and lower case being the same; all of them if there is none.
    pub pattern: Option<Vec<u8>>,
    /// The libraries' texts as well.
    pub with_code: bool,
}

impl Listing {
    /// Reads the arguments of FUNCTION LIST.
    ///
    /// # Errors
    /// The text of the reply where they are not to be understood.
    pub fn parse<'a>(arguments: impl IntoIterator<Item = &'a [u8]>) -> Result<Listing, Vec<u8>> {
        let (mut listing, mut arguments) = (Listing::default(), arguments.into_iter());
        while let Some(word) = arguments.next() {
            if !listing.with_code && word.eq_ignore_ascii_case(b"withcode") {
                listing.with_code = true;
            } else if listing.pattern.is_none() && word.eq_ignore_ascii_case(b"libraryname") {
                let pattern = arguments.next().ok_or("ERR library name argument was not given")?;
                listing.pattern = Some(pattern.to_vec());
            } else {
                return Err([b"ERR Unknown argument ", word].concat());
            }
        }
        Ok(listing)
    }
}

/// The libraries of a server.
#[derive(Clone, Debug, Default)]
pub struct Libraries {
    libraries: BTreeMap<Vec<u8>, Arc<Library>>,
    /// By their names in lower case: of two that differ in it only, the later is found.
    functions: BTreeMap<Vec<u8>, Found>,
}

impl Libraries {
    /// The function of that name, in any case.
    pub fn find(&self, function: &[u8]) -> Option<&Found> {
        self.functions.get(&function.to_ascii_lowercase())
    }

    /// The library of that name.
    pub fn get(&self, name: &[u8]) -> Option<&Arc<Library>> {
        self.libraries.get(name)
    }

    /// All libraries, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Library>> {
        self.libraries.values()
    }

    /// How many libraries there are.
    pub fn len(&self) -> usize {
        self.libraries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.libraries.is_empty()
    }

    /// How many functions there are.
    pub fn function_count(&self) -> usize {
        self.libraries.values().map(|library| library.functions.len()).sum()
    }

    /// Whether a library of that name may be loaded, which is asked before it runs.
    ///
    /// # Errors
    /// The text of the reply where it may not.
    pub fn may_load(&self, name: &[u8], replace: bool) -> Result<(), Vec<u8>> {
        if replace || !self.libraries.contains_key(name) {
            return Ok(());
        }
        Err([b"ERR Library '", name, b"' already exists"].concat())
    }

    /// Adds a library that has run, in place of the one with its name. Nothing changes where it can't be.
    ///
    /// # Errors
    /// The text of the reply where the library has no functions, or one that another library has.
    pub fn add(&mut self, library: Arc<Library>) -> Result<(), Vec<u8>> {
        if library.functions.is_empty() {
            return Err(b"ERR No functions registered".to_vec());
        }
        let is_taken = |function: &&Declared| {
            self.find(&function.name).is_some_and(|found| found.library.name != library.name)
        };
        if let Some(taken) = library.functions.iter().find(is_taken) {
            return Err([b"ERR Function ", &taken.name[..], b" already exists"].concat());
        }
        self.delete(&library.name);
        for (index, function) in library.functions.iter().enumerate() {
            let found = Found { library: Arc::clone(&library), index };
            self.functions.insert(function.name.to_ascii_lowercase(), found);
        }
        self.libraries.insert(library.name.clone(), library);
        Ok(())
    }

    /// Removes a library and its functions; whether it was there.
    pub fn delete(&mut self, name: &[u8]) -> bool {
        let Some(library) = self.libraries.remove(name) else { return false };
        for function in &library.functions {
            self.functions.remove(&function.name.to_ascii_lowercase());
        }
        true
    }

    /// Takes in the libraries of a payload. Nothing changes where that can't be.
    ///
    /// # Errors
    /// The text of the reply where a library or a function is there already.
    pub fn restore(&mut self, restored: Libraries, policy: Policy) -> Result<(), Vec<u8>> {
        if policy == Policy::Flush {
            *self = restored;
            return Ok(());
        }
        let mut joined = self.clone();
        for name in restored.libraries.keys() {
            if joined.delete(name) && policy == Policy::Append {
                return Err([b"ERR Library ", &name[..], b" already exists"].concat());
            }
        }
        for library in restored.libraries.into_values() {
            joined.add(library)?;
        }
        *self = joined;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        String::from_utf8(parse(text.as_bytes()).unwrap_err()).unwrap()
    }

    #[test]
    fn first_lines_are_read() {
        for (text, name, code) in [
            ("#!lua name=a_b\nx", "a_b", "\nx"),
            ("#!LUA Name=a\n", "a", "\n"),
            ("#!lua  name=\"zz\"  \nx\ny", "zz", "\nx\ny"),
            ("#!lua\tname=tab\r\n", "tab", "\n"),
            ("#!lua name='q'\n\0", "q", "\n\0"),
        ] {
            let metadata = parse(text.as_bytes()).unwrap();
            assert_eq!((&metadata.name[..], metadata.code), (name.as_bytes(), code.as_bytes()), "{text}");
        }
    }

    #[test]
    fn first_lines_that_are_not_understood() {
        let name = NAME;
        for (text, expected) in [
            ("", "ERR Missing library metadata"),
            ("x", "ERR Missing library metadata"),
            ("#!lua name=a", "ERR Invalid library metadata"),
            ("#!lua name=\"a\n", "ERR Invalid library metadata"),
            ("#!lua name=a\0b\n", "ERR Invalid library metadata"),
            ("#!lua\n", "ERR Library name was not given"),
            ("#!\n", "ERR Library name was not given"),
            ("#!lua name=\n", name),
            ("#!lua name=a-b\n", name),
            ("#!js name=a-b\n", name),
            ("#!lua name=a b\n", "ERR Invalid metadata value given: b"),
            ("#! lua name=a\n", "ERR Invalid metadata value given: lua"),
            ("#!lua flags=no-writes name=a\n", "ERR Invalid metadata value given: flags=no-writes"),
            ("#!js name=a\nx", "ERR Engine 'js' not found"),
            ("#!lua name=a name=b\n", "ERR Invalid metadata value, name argument was given multiple times"),
        ] {
            assert_eq!(error(text), expected, "{text:?}");
        }
    }

    fn library(name: &str, functions: &[&str]) -> Arc<Library> {
        let declared = |name: &&str| Declared {
            name: name.as_bytes().to_vec(),
            description: None,
            flags: Flags::default(),
        };
        Arc::new(Library {
            name: name.into(),
            text: name.into(),
            functions: functions.iter().map(declared).collect(),
        })
    }

    fn libraries(all: &[(&str, &[&str])]) -> Libraries {
        let mut libraries = Libraries::default();
        for (name, functions) in all {
            libraries.add(library(name, functions)).unwrap();
        }
        libraries
    }

    /// Names of libraries, and of functions with their libraries.
    fn shown(libraries: &Libraries) -> String {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let names: Vec<_> = libraries.iter().map(|library| text(&library.name)).collect();
        let functions: Vec<_> = libraries
            .functions
            .iter()
            .map(|(name, found)| {
                assert_eq!(*name, found.declared().name);
                format!("{}:{}", text(name), text(&found.library.name))
            })
            .collect();
        format!("{} | {}", names.join(" "), functions.join(" "))
    }

    #[test]
    fn names_are_taken_once() {
        let mut all = libraries(&[("a", &["f", "g"])]);
        assert_eq!(all.add(library("b", &[])).unwrap_err(), b"ERR No functions registered");
        assert_eq!(all.add(library("b", &["h", "g"])).unwrap_err(), b"ERR Function g already exists");
        assert_eq!(all.may_load(b"a", false).unwrap_err(), b"ERR Library 'a' already exists");
        assert!(all.may_load(b"a", true).is_ok() && all.may_load(b"b", false).is_ok());
        assert_eq!(shown(&all), "a | f:a g:a");
        all.add(library("a", &["g", "h"])).unwrap();
        assert_eq!(shown(&all), "a | g:a h:a");
        assert!(all.delete(b"a") && !all.delete(b"a"));
        assert_eq!(shown(&all), " | ");
    }

    #[test]
    fn libraries_are_restored_by_a_policy() {
        let there: &[(&str, &[&str])] = &[("a", &["f"]), ("b", &["g"])];
        for (restored, policy, result) in [
            (&[("c", &["h"][..])][..], "append", Ok("a b c | f:a g:b h:c")),
            (&[("c", &["f"])], "append", Err("ERR Function f already exists")),
            (&[("a", &["h"])], "append", Err("ERR Library a already exists")),
            (&[("a", &["h"])], "replace", Ok("a b | g:b h:a")),
            (&[("a", &["g"])], "replace", Err("ERR Function g already exists")),
            // Libraries that come again give up their functions to each other.
            (&[("a", &["g"]), ("b", &["f"])], "REPLACE", Ok("a b | f:b g:a")),
            (&[("a", &["g"])], "flush", Ok("a | g:a")),
            (&[], "Flush", Ok(" | ")),
            (&[], "append", Ok("a b | f:a g:b")),
        ] {
            let mut all = libraries(there);
            let policy = Policy::parse(policy.as_bytes()).unwrap();
            let outcome = all.restore(libraries(restored), policy).map(|()| shown(&all));
            let outcome = outcome.map_err(|text| String::from_utf8(text).unwrap());
            assert_eq!(outcome.as_deref().map_err(String::as_str), result, "{restored:?}");
            if result.is_err() {
                assert_eq!(shown(&all), "a b | f:a g:b", "{restored:?}");
            }
        }
        assert!(Policy::parse(b"x").is_err());
    }

    #[test]
    fn what_is_listed() {
        let parse = |words: &str| Listing::parse(words.split_whitespace().map(str::as_bytes));
        let listing = parse("withcode LIBRARYNAME a*").unwrap();
        assert_eq!(listing, Listing { pattern: Some(b"a*".to_vec()), with_code: true });
        for (words, expected) in [
            ("libraryname", "ERR library name argument was not given"),
            ("foo", "ERR Unknown argument foo"),
            ("withcode WITHCODE", "ERR Unknown argument WITHCODE"),
            ("libraryname a LIBRARYNAME b", "ERR Unknown argument LIBRARYNAME"),
        ] {
            assert_eq!(parse(words).unwrap_err(), expected.as_bytes());
        }
    }
}
