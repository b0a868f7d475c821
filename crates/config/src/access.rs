//! CONFIG GET and CONFIG SET, without the wire: who may change what, all or nothing, in Redis' words.
//!
//! Invariant: a set that fails has changed nothing, since it works on a copy.
//! Read next: `rewrite.rs` for CONFIG REWRITE.

use crate::kind::{Kind, Reason};
use crate::load::LINE_BYTES_MAX;
use crate::nearest::nearest;
use crate::options::{Flags, OPTIONS, OptionSpec, Settings, lookup, words_of};
use crate::value::Context;

/// Longest value that CONFIG SET takes, in bytes: quoted, it still fits a line of a file.
pub const VALUE_BYTES_MAX: usize = 128 << 10;

const _: () = assert!(VALUE_BYTES_MAX * 4 < LINE_BYTES_MAX - 1024);

/// A CONFIG SET that can take effect.
#[derive(Debug, Clone)]
pub struct Change {
    /// The settings from then on.
    pub settings: Settings,
    /// The options whose value is another than before, in the order given.
    pub changed: Vec<&'static OptionSpec>,
}

/// Why a CONFIG SET is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetError {
    /// Names and values do not pair up.
    Syntax,
    /// No such option.
    Unknown {
        /// The name as given.
        name: Vec<u8>,
    },
    /// The option can't have this value, or not in this way, or not together with the others.
    Refused {
        /// The name as given; in lower case, as in Redis, when it is the value that is refused.
        name: Vec<u8>,
        /// Why.
        reason: Reason,
    },
}

impl SetError {
    /// The server could not put the new value into effect, for instance bind to an address.
    #[must_use]
    pub fn refused(name: &[u8], reason: &str) -> SetError {
        SetError::Refused { name: name.to_vec(), reason: Reason::new(reason) }
    }

    /// The error reply, from `ERR` on, in one line.
    #[must_use]
    pub fn text(&self) -> Vec<u8> {
        let parts: [&[u8]; 5] = match self {
            SetError::Syntax => [b"ERR syntax error", b"", b"", b"", b""],
            SetError::Unknown { name } => {
                // As a C string has it.
                let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
                [b"ERR Unknown option or number of arguments for CONFIG SET - '", name, b"'", b"", b""]
            }
            SetError::Refused { name, reason } => [
                b"ERR CONFIG SET failed (possibly related to argument '",
                name,
                b"') - ",
                reason.text().as_bytes(),
                b"",
            ],
        };
        let mut text = parts.concat();
        text.iter_mut().filter(|byte| matches!(byte, b'\r' | b'\n')).for_each(|byte| *byte = b' ');
        text
    }

    /// The option that was probably meant by an unknown name, for the log: the reply is Redis' own.
    #[must_use]
    pub fn nearest_option(&self) -> Option<&'static str> {
        if let SetError::Unknown { name } = self { nearest(name) } else { None }
    }
}

impl Settings {
    /// CONFIG GET: names and values of the options that the patterns fit, no option twice under one name.
    ///
    /// `fits(pattern, name)` is the server's glob matcher, blind to case. A name without wildcards is answered as
    /// it was asked; a pattern fits names and aliases. O(patterns x options).
    pub fn get<'a>(
        &self,
        patterns: &[&'a [u8]],
        fits: impl Fn(&[u8], &[u8]) -> bool,
    ) -> Vec<(&'a [u8], Vec<u8>)> {
        let mut found: Vec<(&'a [u8], Vec<u8>)> = Vec::new();
        for &pattern in patterns {
            let is_pattern = pattern.iter().any(|byte| matches!(byte, b'*' | b'?' | b'['));
            let is_shown = |spec: &&OptionSpec| !(is_pattern && spec.flags.has(Flags::HIDDEN));
            for spec in OPTIONS.iter().filter(is_shown) {
                for known in spec.names() {
                    let asked: &'a [u8] = if is_pattern { known.as_bytes() } else { pattern };
                    let is_wanted = if is_pattern {
                        fits(pattern, asked)
                    } else {
                        asked.eq_ignore_ascii_case(known.as_bytes())
                    };
                    if is_wanted && !found.iter().any(|(name, _)| name.eq_ignore_ascii_case(asked)) {
                        found.push((asked, self.show(spec)));
                    }
                }
            }
        }
        found
    }

    /// The value of an option as CONFIG GET answers it.
    #[must_use]
    pub fn show(&self, spec: &OptionSpec) -> Vec<u8> {
        let mut value = Vec::new();
        (spec.ops.show)(self, spec, &mut value);
        value
    }

    /// CONFIG SET: the settings with all of these names and values, or the first that is refused.
    ///
    /// `is_local` says that the client is on this machine, for `enable-protected-configs local`.
    ///
    /// # Errors
    /// In Redis' words; see [`SetError::text`]. Options that exist in Redis but not here are refused in our own.
    pub fn plan_set(&self, pairs: &[(&[u8], &[u8])], is_local: bool) -> Result<Change, SetError> {
        let mut specs: Vec<&'static OptionSpec> = Vec::with_capacity(pairs.len().min(OPTIONS.len()));
        for (index, (name, _)) in pairs.iter().enumerate() {
            let spec = lookup(name).ok_or_else(|| SetError::Unknown { name: name.to_vec() })?;
            self.may_change(spec, is_local).map_err(|reason| SetError::refused(name, reason))?;
            let is_repeated = pairs.iter().take(index).any(|(earlier, _)| earlier.eq_ignore_ascii_case(name));
            if is_repeated {
                return Err(SetError::refused(name, "duplicate parameter"));
            }
            specs.push(spec);
        }
        let mut settings = self.clone();
        for ((name, value), spec) in pairs.iter().zip(&specs) {
            let refused = |reason| SetError::Refused { name: name.to_ascii_lowercase(), reason };
            if value.len() > VALUE_BYTES_MAX {
                return Err(refused(Reason::new(format!("argument is longer than {VALUE_BYTES_MAX} bytes"))));
            }
            settings.assign(spec, &words_of(&spec.kind, value)).map_err(refused)?;
        }
        let mut changed: Vec<_> =
            specs.into_iter().filter(|spec| !(spec.ops.same)(self, &settings)).collect();
        let mut seen = Vec::new();
        changed.retain(|spec| {
            !seen.contains(&spec.name) && {
                seen.push(spec.name);
                true
            }
        });
        Ok(Change { settings, changed })
    }

    /// [`Settings::plan_set`] for the arguments of the command after `CONFIG SET`: name, value, name, value...
    ///
    /// # Errors
    /// As there, and a syntax error when the last name has no value.
    pub fn plan_set_args(&self, args: &[&[u8]], is_local: bool) -> Result<Change, SetError> {
        let (pairs, odd) = args.as_chunks::<2>();
        if !odd.is_empty() {
            return Err(SetError::Syntax);
        }
        let pairs: Vec<_> = pairs.iter().map(|&[name, value]| (name, value)).collect();
        self.plan_set(&pairs, is_local)
    }

    /// Sets one option without asking whether it may be changed, for what the server finds out by itself at start.
    ///
    /// # Errors
    /// The value is not one of this option.
    pub fn assign(&mut self, spec: &OptionSpec, words: &[&[u8]]) -> Result<(), Reason> {
        (spec.ops.assign)(self, spec, words, Context::Set)
    }

    /// These settings with other lines of an option that is made of lines.
    #[must_use]
    pub fn with_lines(&self, name: &str, lines: &[Vec<Vec<u8>>]) -> Settings {
        let mut settings = self.clone();
        let Some(spec) = lookup(name.as_bytes()).filter(|spec| spec.kind == Kind::Lines) else {
            return settings;
        };
        let mut context = Context::First;
        for line in std::iter::once(&Vec::new()).chain(lines) {
            let words: Vec<&[u8]> = line.iter().map(Vec::as_slice).collect();
            // Lines of any words are taken.
            let _ = (spec.ops.assign)(&mut settings, spec, &words, context);
            context = Context::Again;
        }
        settings
    }

    /// The options that differ between these settings and others, in the order of the table.
    pub fn differences<'a>(&'a self, other: &'a Settings) -> impl Iterator<Item = &'static OptionSpec> + 'a {
        OPTIONS.iter().filter(move |spec| !(spec.ops.same)(self, other))
    }

    fn may_change(&self, spec: &OptionSpec, is_local: bool) -> Result<(), &'static str> {
        if spec.flags.has(Flags::IMMUTABLE) {
            return Err("can't set immutable config");
        }
        if spec.flags.has(Flags::PROTECTED) && !self.enable_protected_configs().allows(is_local) {
            return Err("can't set protected config");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stands in for the server's matcher: only a star at the end.
    fn fits(pattern: &[u8], name: &[u8]) -> bool {
        let start = pattern.strip_suffix(b"*").unwrap_or(pattern);
        name.get(..start.len()).is_some_and(|name| name.eq_ignore_ascii_case(start))
    }

    fn get(settings: &Settings, patterns: &[&str]) -> Vec<(String, String)> {
        let patterns: Vec<_> = patterns.iter().map(|pattern| pattern.as_bytes()).collect();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        settings.get(&patterns, fits).iter().map(|(name, value)| (text(name), text(value))).collect()
    }

    fn set(settings: &Settings, args: &[&str]) -> Result<Change, String> {
        let args: Vec<_> = args.iter().map(|arg| arg.as_bytes()).collect();
        settings.plan_set_args(&args, false).map_err(|error| String::from_utf8(error.text()).unwrap())
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    #[test]
    fn get_answers_names_as_asked_and_each_once() {
        let settings = Settings::default();
        assert_eq!(get(&settings, &["HZ", "hz", "hz*"]), pairs(&[("HZ", "10")]));
        assert_eq!(get(&settings, &["slave-priority"]), pairs(&[("slave-priority", "100")]));
        assert_eq!(
            get(&settings, &["replica-prio*", "slave-prio*"]),
            pairs(&[("replica-priority", "100"), ("slave-priority", "100")])
        );
        assert_eq!(get(&settings, &["nope", ""]), pairs(&[]));
        let shown = OPTIONS.iter().filter(|spec| !spec.flags.has(Flags::HIDDEN));
        assert_eq!(get(&settings, &["*"]).len(), shown.flat_map(OptionSpec::names).count());
        // Hidden from patterns, not from who knows them.
        assert_eq!(get(&settings, &["key-load*", "Key-Load-Delay"]), pairs(&[("Key-Load-Delay", "0")]));
    }

    #[test]
    fn set_is_all_or_nothing_and_tells_what_changed() {
        let settings = Settings::default();
        let change = set(&settings, &["maxmemory", "1gb", "hz", "10", "TIMEOUT", "5"]).unwrap();
        assert_eq!(change.settings.maxmemory(), 1 << 30);
        assert_eq!(change.changed.iter().map(|spec| spec.name).collect::<Vec<_>>(), ["maxmemory", "timeout"]);
        assert!(set(&settings, &["maxmemory", "1gb", "timeout", "x"]).is_err());
        assert!(
            set(&settings, &["slave-priority", "100", "replica-priority", "100"])
                .is_ok_and(|change| change.changed.is_empty())
        );
        let names: Vec<_> = settings.differences(&change.settings).map(|spec| spec.name).collect();
        assert_eq!(names, ["timeout", "maxmemory"]);
    }

    #[test]
    fn protected_options_follow_enable_protected_configs() {
        let mut settings = Settings::default();
        let refused =
            b"ERR CONFIG SET failed (possibly related to argument 'dir') - can't set protected config";
        let attempt = |settings: &Settings, is_local| {
            settings.plan_set(&[(b"dir", b"/")], is_local).map(|_| ()).map_err(|error| error.text())
        };
        assert_eq!(attempt(&settings, true), Err(refused.to_vec()));
        let guard = lookup(b"enable-protected-configs").unwrap();
        settings.assign(guard, &[b"local"]).unwrap();
        assert_eq!(attempt(&settings, true), Ok(()));
        assert_eq!(attempt(&settings, false), Err(refused.to_vec()));
        settings.assign(guard, &[b"yes"]).unwrap();
        assert_eq!(attempt(&settings, false), Ok(()));
    }

    #[test]
    fn what_tunes_something_absent_is_kept_and_what_would_be_a_lie_is_refused_in_words() {
        let settings = Settings::default();
        let change = set(&settings, &["repl-timeout", "5", "cluster-node-timeout", "7"]).unwrap();
        assert_eq!(change.changed.len(), 2);
        assert_eq!(get(&change.settings, &["repl-timeout"]), pairs(&[("repl-timeout", "5")]));
        let text = crate::rewritten(b"", &change.settings).unwrap();
        assert_eq!(crate::from_text(&text).unwrap().settings, change.settings);
        assert_eq!(
            set(&settings, &["tls-cluster", "yes"]).unwrap_err(),
            "ERR CONFIG SET failed (possibly related to argument 'tls-cluster') - \
             this version of Larder supports only tls-cluster 'no': MIGRATE goes unencrypted, and cluster mode is not there yet"
        );
        let unknown = settings.plan_set(&[(b"maxmemry", b"1")], false).unwrap_err();
        assert_eq!(unknown.nearest_option(), Some("maxmemory"));
    }

    #[test]
    fn a_value_longer_than_a_file_could_hold_is_refused() {
        let settings = Settings::default();
        let value = vec![0_u8; VALUE_BYTES_MAX];
        let change = settings.plan_set(&[(b"requirepass", &value)], false).unwrap();
        let text = crate::rewritten(b"", &change.settings).unwrap();
        assert_eq!(crate::from_text(&text).unwrap().settings, change.settings);
        let longer = [&value[..], b"x"].concat();
        let error = settings.plan_set(&[(b"requirepass", &longer)], false).unwrap_err();
        assert!(error.text().ends_with(b"longer than 131072 bytes"));
    }

    #[test]
    fn a_reply_is_one_line() {
        let error = Settings::default().plan_set(&[(b"a\r\nb", b"1")], false).unwrap_err();
        assert_eq!(error.text(), b"ERR Unknown option or number of arguments for CONFIG SET - 'a  b'");
    }

    proptest::proptest! {
        #[test]
        fn any_value_for_any_option_is_answered(
            option in 0..OPTIONS.len(),
            value in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40),
        ) {
            let settings = Settings::default();
            let name = OPTIONS[option].name.as_bytes();
            // What was accepted reads back from CONFIG GET and is accepted again, as the same.
            if let Ok(change) = settings.plan_set(&[(name, &value)], true) {
                let shown = change.settings.show(&OPTIONS[option]);
                let again = change.settings.plan_set(&[(name, &shown)], true).unwrap();
                proptest::prop_assert!(again.changed.is_empty());
            }
        }
    }
}
