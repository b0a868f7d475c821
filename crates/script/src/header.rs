//! The first line of a script, `#!lua flags=...`: which language it is in and what it promises.

/// What a script says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags {
    /// It writes nothing.
    pub no_writes: bool,
    /// It runs also when memory is over its limit.
    pub allow_oom: bool,
    /// It runs also on a replica that lost its master.
    pub allow_stale: bool,
    /// It does not run on a cluster.
    pub no_cluster: bool,
    /// It may touch keys of several slots.
    pub allow_cross_slot_keys: bool,
    /// It says nothing: it comes from before there were such lines, and each of its commands is judged alone.
    pub is_silent: bool,
}

impl Flags {
    /// Sets a flag by its word. False where there is no such flag.
    pub fn set(&mut self, word: &[u8]) -> bool {
        let flag = match word {
            b"no-writes" => &mut self.no_writes,
            b"allow-oom" => &mut self.allow_oom,
            b"allow-stale" => &mut self.allow_stale,
            b"no-cluster" => &mut self.no_cluster,
            b"allow-cross-slot-keys" => &mut self.allow_cross_slot_keys,
            _ => return false,
        };
        *flag = true;
        true
    }

    /// Whether it is not to run while memory is over its limit.
    pub fn needs_memory(self) -> bool {
        !self.is_silent && !self.allow_oom && !self.no_writes
    }

    /// The words of the flags that are set.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        let all = [
            (self.no_writes, "no-writes"),
            (self.allow_oom, "allow-oom"),
            (self.allow_stale, "allow-stale"),
            (self.no_cluster, "no-cluster"),
            (self.allow_cross_slot_keys, "allow-cross-slot-keys"),
        ];
        all.into_iter().filter(|(is_set, _)| *is_set).map(|(_, word)| word)
    }
}

/// A script's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What it says.
    pub flags: Flags,
    /// Where its code begins: at the end of the first line, so that lines keep their numbers.
    pub code_at: usize,
}

/// Reads the header of a script for EVAL.
///
/// # Errors
/// The text of the reply where it is not to be understood.
pub fn parse(body: &[u8]) -> Result<Header, Vec<u8>> {
    if !body.starts_with(b"#!") {
        let flags = Flags { is_silent: true, ..Flags::default() };
        return Ok(Header { flags, code_at: 0 });
    }
    let Some(end) = body.iter().position(|byte| *byte == b'\n') else {
        return Err(b"ERR Invalid script shebang".to_vec());
    };
    let line = body.get(..end).unwrap_or_default();
    let words = larder_resp::split_words(line).unwrap_or_default();
    let Some((engine, options)) = words.split_first() else {
        return Err(b"ERR Invalid engine in script shebang".to_vec());
    };
    if engine != b"#!lua" {
        return Err([b"ERR Unexpected engine in script shebang: ", &engine[..]].concat());
    }
    let mut flags = Flags::default();
    for option in options {
        let Some(list) = option.strip_prefix(b"flags=") else {
            return Err([b"ERR Unknown lua shebang option: ", &option[..]].concat());
        };
        if list.is_empty() {
            continue;
        }
        if let Some(word) = list.split(|byte| *byte == b',').find(|word| !flags.set(word)) {
            return Err([b"ERR Unexpected flag in script shebang: ", word].concat());
        }
    }
    Ok(Header { flags, code_at: end })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(body: &str) -> String {
        String::from_utf8(parse(body.as_bytes()).unwrap_err()).unwrap()
    }

    #[test]
    fn a_script_without_a_header_is_silent() {
        let header = parse(b"return 1").unwrap();
        assert!(header.flags.is_silent && header.code_at == 0);
    }

    #[test]
    fn flags_are_read_and_lines_keep_their_numbers() {
        let header = parse(b"#!lua flags=no-writes,allow-oom flags=allow-stale\nreturn 1").unwrap();
        let words: Vec<&str> = header.flags.words().collect();
        assert_eq!(words, ["no-writes", "allow-oom", "allow-stale"]);
        assert_eq!(header.code_at, 49);
        assert!(!header.flags.is_silent);
        assert_eq!(parse(b"#!lua flags=\n").unwrap().flags, Flags::default());
        assert!(parse(b"#!lua flags=\"no-writes\" \n").is_ok());
    }

    #[test]
    fn what_is_not_understood_is_named() {
        assert_eq!(error("#!lua"), "ERR Invalid script shebang");
        assert_eq!(error("#!python\n"), "ERR Unexpected engine in script shebang: #!python");
        assert_eq!(error("#! lua\n"), "ERR Unexpected engine in script shebang: #!");
        assert_eq!(error("#!lua name=x\n"), "ERR Unknown lua shebang option: name=x");
        assert_eq!(error("#!lua flags=no-writes,x\n"), "ERR Unexpected flag in script shebang: x");
        assert_eq!(error("#!lua flags=no-writes,\n"), "ERR Unexpected flag in script shebang: ");
    }
}
