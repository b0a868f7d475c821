//! What a script does the short way: its chunk is given `KEYS`, `ARGV`, `redis.call` and `redis.pcall`, and looks none of them up
//! among globals, which nobody can change and which cost it a metatable each time.
//!
//! Invariant: a script that could tell the difference is left alone. So each use of `KEYS` and `ARGV` is one that reads, calls of
//! `redis.call` are calls of that very function, and there is no way to the globals as a table or to a chunk that sees them.

use super::{Edit, Token};

/// What is known of a script before it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Nature {
    /// It has neither loops nor functions, nor a way to get any: it ends by itself.
    pub is_straight: bool,
    /// Its chunk is to be called with `redis.call`, `redis.pcall`, `KEYS` and `ARGV`, and looks none of them up.
    pub is_given_words: bool,
}

/// What stands in front of a script that is given its words. No line is added.
const OPENING: &[u8] = b"local _redis_call,_redis_pcall,KEYS,ARGV=...;";
/// Names that the opening takes for itself.
const OWN_NAMES: &[&[u8]] = &[b"_redis_call", b"_redis_pcall"];
/// Names by which globals are reached in other ways than by their names.
const WAYS_TO_GLOBALS: &[&[u8]] = &[b"_G", b"load", b"loadstring"];
/// Names without which nothing runs twice: a metatable may make something of C's call itself.
const WAYS_AROUND: &[&[u8]] = &[
    b"_G",
    b"coroutine",
    b"for",
    b"function",
    b"goto",
    b"load",
    b"loadstring",
    b"repeat",
    b"setmetatable",
    b"while",
];

/// A token with its place.
#[derive(Clone, Copy)]
struct Placed<'a> {
    token: Token<'a>,
    start: usize,
    end: usize,
}

/// Watches for what stands against the short way.
pub(super) struct Shortcuts<'a> {
    /// The last tokens, the very last first.
    before: [Placed<'a>; 4],
    /// Calls that become calls of what the chunk was given.
    calls: Vec<Edit<'a>>,
    nature: Nature,
}

impl<'a> Shortcuts<'a> {
    pub(super) fn new() -> Shortcuts<'a> {
        let nothing = Placed { token: Token::Other(0), start: 0, end: 0 };
        let nature = Nature { is_straight: true, is_given_words: true };
        Shortcuts { before: [nothing; 4], calls: Vec::new(), nature }
    }

    /// Takes the next token, which begins and ends there. `in_main`: it stands in no function.
    pub(super) fn follow(&mut self, token: Token<'a>, (start, end): (usize, usize), in_main: bool) {
        self.judge_words(Some(token));
        match token {
            Token::Name(name) => {
                self.nature.is_straight &= !WAYS_AROUND.contains(&name);
                self.nature.is_given_words &= !WAYS_TO_GLOBALS.contains(&name) && !OWN_NAMES.contains(&name);
            }
            // A script has no words in `...`.
            Token::Dots(3) if in_main => self.nature.is_given_words = false,
            Token::Other(b'(') => self.shorten_call(),
            _ => {}
        }
        self.before.rotate_right(1);
        self.before[0] = Placed { token, start, end };
    }

    /// Looks at how `KEYS` or `ARGV` is used, if that was the last token.
    fn judge_words(&mut self, next: Option<Token<'a>>) {
        let [last, before, ..] = self.before;
        if !matches!(last.token, Token::Name(b"KEYS" | b"ARGV")) || is_access(before.token) {
            return;
        }
        let opens = before.token == Token::Other(b'(');
        let is_read = match next {
            Some(Token::Other(b'[')) => true,
            Some(Token::Other(b')')) => opens || before.token == Token::Other(b','),
            Some(Token::Other(b',')) => opens,
            _ => false,
        };
        self.nature.is_given_words &= is_read || before.token == Token::Other(b'#');
    }

    /// Notes a call of `redis.call` or `redis.pcall`, whose bracket was found.
    fn shorten_call(&mut self) {
        let [function, dot, redis, before] = self.before;
        let own = match function.token {
            Token::Name(b"call") => &b"_redis_call"[..],
            Token::Name(b"pcall") => &b"_redis_pcall"[..],
            _ => return,
        };
        let is_whole = function.start == dot.end && dot.start == redis.end;
        let is_other = is_access(before.token) || before.token == Token::Name(b"function");
        let table = match redis.token {
            Token::Name(b"redis") => &b"redis"[..],
            Token::Name(b"server") => b"server",
            _ => return,
        };
        if dot.token == Token::Dots(1) && is_whole && !is_other {
            self.calls.push(Edit {
                at: redis.start,
                removed: function.end - redis.start,
                text: own,
                unless_shadowed: Some(table),
            });
        }
    }

    /// What is known once the source has ended, and the edits that go with it.
    pub(super) fn end(mut self) -> (Nature, Vec<Edit<'a>>) {
        self.judge_words(None);
        if !self.nature.is_given_words {
            return (self.nature, Vec::new());
        }
        // Of edits at one place the first one comes first.
        self.calls.insert(0, Edit { at: 0, removed: 0, text: OPENING, unless_shadowed: None });
        (self.nature, self.calls)
    }
}

/// Whether a name behind this token is a field.
fn is_access(token: Token<'_>) -> bool {
    matches!(token, Token::Dots(1) | Token::Other(b':'))
}

#[cfg(test)]
mod tests {
    use super::super::prepare_script;
    use super::*;

    fn shortened(source: &str) -> String {
        let (text, nature) = prepare_script(source.as_bytes()).unwrap();
        let text = String::from_utf8(text.into_owned()).unwrap();
        let opening = std::str::from_utf8(OPENING).unwrap();
        assert_eq!(nature.is_given_words, text.starts_with(opening), "{source}");
        text.strip_prefix(opening).unwrap_or(&text).to_owned()
    }

    #[test]
    fn calls_of_commands_go_to_what_was_given() {
        for (source, result) in [
            ("redis.call('a')", "_redis_call('a')"),
            ("server.pcall('a')", "_redis_pcall('a')"),
            ("return redis.pcall('a', KEYS[1])", "return( _redis_pcall('a', KEYS[1]))"),
            ("f(redis.call)", "f(redis.call)"),
            ("redis.call'a'", "redis.call'a'"),
            ("redis.call = f", "redis.call = f"),
            ("redis.call, x = f", "redis.call, x = f"),
            ("redis . call('a')", "redis . call('a')"),
            ("x.redis.call('a')", "x.redis.call('a')"),
            ("function redis.call(x) end", "function redis.call(x) end"),
            ("local redis = x redis.call('a')", "local redis = x redis.call('a')"),
            ("f(redis) redis.call('a')", "f(redis) redis.call('a')"),
            ("redis.call('a', redis.call('b'))", "_redis_call('a', _redis_call('b'))"),
            ("redis.call('a') --[[_G]] x = 'load'", "_redis_call('a') --[[_G]] x = 'load'"),
        ] {
            assert_eq!(shortened(source), result);
        }
    }

    #[test]
    fn a_script_that_could_tell_the_difference_is_left_alone() {
        for source in [
            "redis.call('a') KEYS = {}",
            "redis.call('a') KEYS, x = 1, 2",
            "redis.call('a') x, KEYS = 1, 2",
            "redis.call('a') return KEYS",
            "redis.call('a') return KEYS .. 'x'",
            "redis.call('a') return -KEYS",
            "redis.call('a') KEYS()",
            "redis.call('a') _G.KEYS = 1",
            "redis.call('a') loadstring('return KEYS')()",
            "redis.call('a', ...)",
            "local _redis_call = 1 redis.call('a')",
            "redis.call('a') local x = ARGV",
            "redis.call('a') function KEYS() end",
            "redis.call('a') for KEYS = 1, 2 do end",
        ] {
            let (text, nature) = prepare_script(source.as_bytes()).unwrap();
            let text = String::from_utf8_lossy(&text).into_owned();
            assert!(!nature.is_given_words && text.contains("redis.call('a'"), "{text}");
        }
        for source in [
            "f(unpack(KEYS))",
            "f(x, ARGV)",
            "f(ARGV, x)",
            "x = #KEYS",
            "x = #KEYS == #ARGV",
            "x = #ARGV - 1",
            "KEYS[1] = KEYS[2] .. ARGV[1]",
            "for i, key in ipairs(KEYS) do f(key) end",
            "x = y.KEYS",
            "f(function(...) g(...) end)",
        ] {
            let (_, nature) = prepare_script(source.as_bytes()).unwrap();
            assert!(nature.is_given_words, "{source}");
        }
    }

    #[test]
    fn what_ends_by_itself_is_told() {
        for (source, is_straight) in [
            ("redis.call('set', KEYS[1], ARGV[1]) return redis.call('get', KEYS[1])", true),
            ("if x then return 1 else return 'for' end -- while", true),
            ("do local t = {1, 2} return t[1] end", true),
            ("for i = 1, 2 do end", false),
            ("while x do end", false),
            ("repeat until x", false),
            ("local function f() end", false),
            ("goto a", false),
            ("_G['lo' .. 'ad']('x')", false),
            ("loadstring('x')()", false),
            ("setmetatable(t, {__call = pcall})", false),
        ] {
            assert_eq!(prepare_script(source.as_bytes()).unwrap().1.is_straight, is_straight, "{source}");
        }
    }
}
