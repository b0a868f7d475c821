//! Options that are lines of words with a grammar that the server knows: `source` and `route`.
//!
//! Invariant: as in `value.rs`, what `lines` writes parses back to an equal value.

use super::{Context, Setting, as_word};
use crate::kind::{Kind, Reason};

/// Lines of words, each a directive of its own: what they mean is the server's to say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lines(Vec<Vec<Vec<u8>>>);

impl Lines {
    /// These lines.
    #[must_use]
    pub fn new(lines: Vec<Vec<Vec<u8>>>) -> Lines {
        Lines(lines)
    }

    fn texts(&self) -> Vec<Vec<u8>> {
        let text =
            |words: &Vec<Vec<u8>>| words.iter().map(|word| as_word(word)).collect::<Vec<_>>().join(&b' ');
        self.0.iter().map(text).collect()
    }
}

impl Setting for Lines {
    type View<'a> = &'a [Vec<Vec<u8>>];

    fn assign(&mut self, _: &Kind, words: &[&[u8]], context: Context) -> Result<(), Reason> {
        if context != Context::Again {
            self.0.clear();
        }
        if !matches!(words, [[]] | []) {
            self.0.push(words.iter().map(|word| word.to_vec()).collect());
        }
        Ok(())
    }

    fn show(&self, _: &Kind, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.texts().join(&b'\n'));
    }

    fn lines(&self, _: &Kind) -> Vec<Vec<u8>> {
        if self.0.is_empty() { vec![b"\"\"".to_vec()] } else { self.texts() }
    }

    fn view(&self) -> &[Vec<Vec<u8>>] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use crate::options::Settings;

    #[test]
    fn lines_are_kept_word_by_word() {
        let line = |words: &[&str]| words.iter().map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>();
        let lines = [line(&["shop", "sqlite:a b.db"]), line(&["k:<id>", "\"q\"", ""])];
        let settings = Settings::default().with_lines("route", &lines);
        assert_eq!(settings.route(), lines);
        let file = crate::rewritten(b"", &settings).expect("a file");
        let text = String::from_utf8_lossy(&file).into_owned();
        assert!(text.contains("route shop \"sqlite:a b.db\"\nroute k:<id> \"\\\"q\\\"\" \"\"\n"), "{text}");
        assert_eq!(settings.with_lines("route", &[]), Settings::default());
    }
}
