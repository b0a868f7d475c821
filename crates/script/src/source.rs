//! Sources on their way to LuaJIT: what Lua 5.1 reads differently is put into words that both read alike.
//!
//! - An escape that is none (`"\."`) stands for its character, and so do `\x`, `\z` and `\u`.
//! - Operators are those of Lua 5.1: no `!=`, `&`, `<<`, `?:` or `+=`.
//! - Numbers are those of Lua 5.1: no `1LL`, which would bring LuaJIT's foreign functions in.
//! - The first line has no liberties: neither `#` nor a byte order mark is skipped.
//! - A function with `...` that has no use for it has a table `arg` in its place.
//! - `return f(x)` keeps the frame it stands in where `f` is written in C in Redis. There, only Lua's
//!   own functions are called in their caller's place; LuaJIT does it with all of them, and an error
//!   would be told of another line, or of none.
//!
//! Invariant: what comes out has the lines of what went in, and means the same. What is no Lua at all
//! comes out as it is, for LuaJIT to complain about.
//! Read next: `source/effort.rs` for what would take too long to compile, `source/shortcuts.rs` for what makes scripts faster.

mod effort;
mod shortcuts;

pub use shortcuts::Nature;

use crate::libs::number::strtod;
use effort::Effort;
use shortcuts::Shortcuts;
use std::borrow::Cow;

/// How the values that a chunk returns are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Results {
    /// Only the first one counts, as for EVAL.
    First,
    /// All of them count.
    All,
}

/// A source that LuaJIT would take and Lua 5.1 does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The line, from 1.
    pub line: usize,
    what: &'static str,
    near: Vec<u8>,
}

impl Malformed {
    /// The message as Lua has it, behind the name of the chunk: `1: malformed number near '1LL'`.
    pub fn message(&self) -> Vec<u8> {
        [self.line.to_string().as_bytes(), b": ", &self.text()].concat()
    }

    /// What is wrong: `malformed number near '1LL'`.
    pub(crate) fn text(&self) -> Vec<u8> {
        if self.near.is_empty() {
            return self.what.into();
        }
        [self.what.as_bytes(), b" near '", &self.near, b"'"].concat()
    }
}

/// How many results a function has.
#[derive(Clone, Copy, PartialEq)]
enum Count {
    /// One, or it never comes back.
    One,
    Many,
}

/// Functions that are C's in Redis, besides those of libraries.
const FUNCTIONS: &[(&[u8], Count)] = &[
    (b"assert", Count::Many),
    (b"collectgarbage", Count::One),
    (b"error", Count::One),
    (b"gcinfo", Count::One),
    (b"getmetatable", Count::One),
    (b"ipairs", Count::Many),
    (b"load", Count::Many),
    (b"loadstring", Count::Many),
    (b"next", Count::Many),
    (b"pairs", Count::Many),
    (b"pcall", Count::Many),
    (b"rawequal", Count::One),
    (b"rawget", Count::One),
    (b"rawset", Count::One),
    (b"select", Count::Many),
    (b"setmetatable", Count::One),
    (b"tonumber", Count::One),
    (b"tostring", Count::One),
    (b"type", Count::One),
    (b"unpack", Count::Many),
    (b"xpcall", Count::Many),
];

/// Tables of functions that are C's in Redis, and which of their functions have other numbers of
/// results than one.
const LIBRARIES: &[(&[u8], &[&[u8]])] = &[
    (b"redis", &[]),
    (b"server", &[]),
    (b"cjson", &[b"encode_sparse_array"]),
    (b"cmsgpack", &[b"unpack", b"unpack_one", b"unpack_limit"]),
    (b"struct", &[b"unpack"]),
    (b"bit", &[]),
    (b"coroutine", &[b"resume", b"yield", b"running"]),
    (b"os", &[]),
    (b"string", &[b"byte", b"find", b"match", b"gsub"]),
    (b"table", &[b"foreach", b"foreachi", b"sort", b"insert", b"remove"]),
    (b"math", &[b"frexp", b"modf", b"randomseed"]),
];

/// The most changes that are made to one source, for the memory that it takes to note them.
const EDITS_MAX: usize = 4 << 20;
/// Hands on all results of an expression.
const SELECT: &[u8] = b"select";

/// The source for LuaJIT.
// Differs from Redis: scripts run on LuaJIT; docs/LUA.md lists what that changes of the language.
pub fn prepare(source: &[u8], results: Results) -> Result<Cow<'_, [u8]>, Malformed> {
    Ok(read(source, results, None)?.0)
}

/// The source of a script of EVAL for LuaJIT, and what is known of it. Where LuaJIT does not take it, what [`prepare`] makes
/// of it may still do: a chunk may have so many local variables and no more.
pub fn prepare_script(source: &[u8]) -> Result<(Cow<'_, [u8]>, Nature), Malformed> {
    read(source, Results::First, Some(Shortcuts::new()))
}

fn read<'a>(
    source: &'a [u8],
    results: Results,
    shortcuts: Option<Shortcuts<'a>>,
) -> Result<(Cow<'a, [u8]>, Nature), Malformed> {
    let first = match source {
        [first @ (b'#' | 0xef), ..] => Some(vec![*first]),
        // What bytecode starts with.
        [0x1b, ..] => Some(b"char(27)".to_vec()),
        _ => None,
    };
    if let Some(near) = first {
        return Err(Malformed { line: 1, what: "unexpected symbol", near });
    }
    let mut reader = Reader {
        source,
        at: 0,
        line: 1,
        results,
        blocks: Vec::new(),
        brackets: 0,
        functions: 0,
        returns: Vec::new(),
        edits: Vec::new(),
        before: [Token::Other(0); 2],
        shadowed: Vec::new(),
        effort: Effort::default(),
        shortcuts,
    };
    while let Some((token, start)) = reader.token()? {
        if let Some(shortcuts) = &mut reader.shortcuts {
            shortcuts.follow(token, (start, reader.at), reader.functions == 0);
        }
        reader.follow(token);
        if let Some(what) = reader.effort.follow(token, reader.nested()) {
            return Err(Malformed { line: reader.line, what, near: Vec::new() });
        }
    }
    reader.end_returns(true);
    let mut nature = Nature::default();
    if let Some(shortcuts) = reader.shortcuts.take() {
        let (known, mut edits) = shortcuts.end();
        nature = known;
        reader.edits.append(&mut edits);
    }
    Ok((reader.finish(), nature))
}

/// A piece of a source.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Token<'a> {
    Name(&'a [u8]),
    /// A number or a string.
    Literal,
    /// A sign by its first byte; of dots how many.
    Dots(usize),
    Other(u8),
}

/// What `end` or `until` ends.
enum Block {
    Function(Function),
    Other,
}

/// A function that is being read.
#[derive(Default)]
struct Function {
    /// Behind its parameters; 0 in front of that.
    body: usize,
    /// Its parameters end in `...`.
    is_variadic: bool,
    /// Its body uses `...`.
    uses_dots: bool,
    /// There is the name `arg` in it, or in a function inside.
    uses_arg: bool,
}

/// A `return` whose expression is being read.
struct Return<'a> {
    /// Behind the word.
    start: usize,
    /// Behind the last token so far.
    end: usize,
    blocks: usize,
    brackets: usize,
    is_main: bool,
    /// There is more than one expression.
    is_list: bool,
    /// The first tokens.
    head: Vec<Token<'a>>,
    /// Behind the first bracket that closed.
    closed: usize,
}

/// A change of the source: at a place, so many bytes become this text.
struct Edit<'a> {
    at: usize,
    removed: usize,
    text: &'static [u8],
    /// Nothing is changed if this name has another meaning somewhere.
    unless_shadowed: Option<&'a [u8]>,
}

struct Reader<'a> {
    source: &'a [u8],
    at: usize,
    line: usize,
    results: Results,
    blocks: Vec<Block>,
    brackets: usize,
    functions: usize,
    returns: Vec<Return<'a>>,
    edits: Vec<Edit<'a>>,
    /// The two last tokens, the very last first.
    before: [Token<'a>; 2],
    /// Names of functions and libraries that are used for something else.
    shadowed: Vec<&'a [u8]>,
    effort: Effort<'a>,
    shortcuts: Option<Shortcuts<'a>>,
}

/// The sign that Lua 5.1 stumbles over where LuaJIT has an operator of another language, as `!=`, `<<`, `?:` or `+=`.
fn foreign_sign(byte: u8, next: u8) -> Option<u8> {
    match (byte, next) {
        (b'&' | b'|' | b'!' | b'?', _) => Some(byte),
        (b'~', next) => (next != b'=').then_some(byte),
        (b'<', b'<') | (b'>' | b'-', b'>') | (b'+' | b'-' | b'*' | b'/' | b'%' | b'^', b'=') => Some(next),
        _ => None,
    }
}

impl<'a> Reader<'a> {
    /// Blocks, brackets and expressions that are open.
    fn nested(&self) -> usize {
        self.blocks.len() + self.brackets + self.returns.len()
    }

    fn peek(&self, ahead: usize) -> u8 {
        self.source.get(self.at + ahead).copied().unwrap_or(0)
    }

    /// The next token, and where it begins.
    fn token(&mut self) -> Result<Option<(Token<'a>, usize)>, Malformed> {
        self.skip_blanks();
        let start = self.at;
        let Some(&byte) = self.source.get(start) else { return Ok(None) };
        let token = match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.. => {
                self.skip_while(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80);
                Token::Name(&self.source[start..self.at])
            }
            b'0'..=b'9' => self.number()?,
            b'.' if self.peek(1).is_ascii_digit() => self.number()?,
            b'.' => {
                self.skip_while(|byte| byte == b'.');
                let dots = self.at - start;
                if dots == 2 && self.peek(0) == b'=' {
                    return Err(self.unexpected(b'='));
                }
                Token::Dots(dots)
            }
            b'"' | b'\'' => {
                self.quoted(byte)?;
                Token::Literal
            }
            b'[' if self.long_bracket() => Token::Literal,
            other => {
                if let Some(sign) = foreign_sign(other, self.peek(1)) {
                    return Err(self.unexpected(sign));
                }
                self.at += 1;
                Token::Other(other)
            }
        };
        Ok(Some((token, start)))
    }

    fn unexpected(&self, sign: u8) -> Malformed {
        Malformed { line: self.line, what: "unexpected symbol", near: vec![sign] }
    }

    fn skip_while(&mut self, is_part: impl Fn(u8) -> bool) {
        while self.source.get(self.at).is_some_and(|byte| is_part(*byte)) {
            self.at += 1;
        }
    }

    fn skip_blanks(&mut self) {
        loop {
            match self.peek(0) {
                b'\n' => {
                    self.line += 1;
                    self.at += 1;
                }
                b' ' | b'\t' | b'\r' | 11 | 12 => self.at += 1,
                b'-' if self.peek(1) == b'-' => {
                    self.at += 2;
                    if !(self.peek(0) == b'[' && self.long_bracket()) {
                        self.skip_while(|byte| byte != b'\n');
                    }
                }
                _ => return,
            }
        }
    }

    /// Skips `[[...]]` or `[=[...]=]`, if that is here.
    fn long_bracket(&mut self) -> bool {
        let level = self.source[self.at + 1..].iter().take_while(|byte| **byte == b'=').count();
        if self.peek(1 + level) != b'[' {
            return false;
        }
        let closing = [&b"]"[..], &b"=".repeat(level), b"]"].concat();
        let inside = self.at + 2 + level;
        let length = memmem(&self.source[inside..], &closing);
        let end = length.map_or(self.source.len(), |length| inside + length + closing.len());
        self.line += self.source[self.at..end].iter().filter(|byte| **byte == b'\n').count();
        self.at = end;
        true
    }

    /// Skips a string in quotes; what is escaped without need loses its backslash.
    fn quoted(&mut self, quote: u8) -> Result<(), Malformed> {
        let start = self.at;
        self.at += 1;
        while let Some(&byte) = self.source.get(self.at) {
            self.at += 1;
            match byte {
                // Not finished: LuaJIT says so.
                b'\n' => {
                    self.line += 1;
                    return Ok(());
                }
                b'\\' => self.escape(start)?,
                byte if byte == quote => return Ok(()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Skips what a backslash escapes.
    fn escape(&mut self, start: usize) -> Result<(), Malformed> {
        let backslash = self.at - 1;
        let Some(&escaped) = self.source.get(self.at) else { return Ok(()) };
        self.at += 1;
        match escaped {
            b'a' | b'b' | b'f' | b'n' | b'r' | b't' | b'v' | b'\\' | b'"' | b'\'' => {}
            b'\n' => self.line += 1,
            b'\r' => {
                if self.peek(0) == b'\n' {
                    self.line += 1;
                    self.at += 1;
                }
            }
            b'0'..=b'9' => {
                let digits =
                    self.source[backslash + 1..].iter().take(3).take_while(|byte| byte.is_ascii_digit());
                let value = digits.fold(0, |value, digit| value * 10 + u32::from(digit - b'0'));
                if value > 255 {
                    let near = self.source[start..backslash].to_vec();
                    return Err(Malformed { line: self.line, what: "escape sequence too large", near });
                }
            }
            _ if self.edits.len() >= EDITS_MAX => {
                return Err(Malformed { line: self.line, what: "not enough memory", near: Vec::new() });
            }
            _ => self.edits.push(Edit { at: backslash, removed: 1, text: b"", unless_shadowed: None }),
        }
        Ok(())
    }

    /// Reads a number as far as Lua 5.1 does, and refuses it if that is none.
    fn number(&mut self) -> Result<Token<'a>, Malformed> {
        let start = self.at;
        self.skip_while(|byte| byte.is_ascii_digit() || byte == b'.');
        if matches!(self.peek(0), b'e' | b'E') {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(0), b'+' | b'-'));
        }
        self.skip_while(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let text = &self.source[start..self.at];
        match strtod(text) {
            Some((_, used)) if used == text.len() => Ok(Token::Literal),
            _ => Err(Malformed { line: self.line, what: "malformed number", near: text.to_vec() }),
        }
    }

    /// Keeps track of blocks and of expressions that are returned.
    fn follow(&mut self, token: Token<'a>) {
        if let Token::Name(b"end" | b"else" | b"elseif" | b"until") | Token::Other(b';') = token {
            self.end_returns(false);
        }
        self.look_for_shadows(token);
        if let Some(last) = self.returns.last_mut() {
            let is_outside = self.blocks.len() == last.blocks && self.brackets == last.brackets;
            last.is_list |= is_outside && token == Token::Other(b',');
            last.end = self.at;
            if last.head.len() < 4 {
                last.head.push(token);
            }
        }
        self.look_for_arguments(token);
        match token {
            Token::Name(b"function") => {
                self.blocks.push(Block::Function(Function::default()));
                self.functions += 1;
            }
            Token::Name(b"do" | b"if" | b"repeat") => self.blocks.push(Block::Other),
            Token::Name(b"end" | b"until") => self.end_block(),
            Token::Name(b"return") => self.begin_return(),
            Token::Other(b'(' | b'[' | b'{') => self.brackets += 1,
            Token::Other(b')' | b']' | b'}') => {
                self.brackets = self.brackets.saturating_sub(1);
                if let Some(last) = self.returns.last_mut()
                    && (self.blocks.len(), self.brackets) == (last.blocks, last.brackets)
                    && last.closed == 0
                {
                    last.closed = self.at;
                }
            }
            _ => {}
        }
        self.before = [token, self.before[0]];
    }

    /// Notes what the function does with its arguments.
    fn look_for_arguments(&mut self, token: Token<'a>) {
        let in_field = matches!(self.before[0], Token::Dots(1) | Token::Other(b':'));
        let functions = self.blocks.iter_mut().filter_map(|block| match block {
            Block::Function(function) => Some(function),
            Block::Other => None,
        });
        match token {
            Token::Name(b"arg") if !in_field => functions.for_each(|function| function.uses_arg = true),
            Token::Dots(3) => match functions.last() {
                Some(function) if function.body == 0 => function.is_variadic = true,
                Some(function) => function.uses_dots = true,
                None => {}
            },
            Token::Other(b')') => {
                if let Some(Block::Function(function)) = self.blocks.last_mut()
                    && function.body == 0
                {
                    function.body = self.at;
                }
            }
            _ => {}
        }
    }

    fn end_block(&mut self) {
        let Some(Block::Function(function)) = self.blocks.pop() else { return };
        self.functions -= 1;
        if function.is_variadic && !function.uses_dots && function.uses_arg {
            const ARG: &[u8] = b" local arg={n=select('#',...),...}";
            self.edits.push(Edit { at: function.body, removed: 0, text: ARG, unless_shadowed: None });
        }
    }

    fn begin_return(&mut self) {
        self.returns.push(Return {
            start: self.at,
            end: self.at,
            blocks: self.blocks.len(),
            brackets: self.brackets,
            is_main: self.functions == 0 && self.results == Results::First,
            is_list: false,
            head: Vec::new(),
            closed: 0,
        });
    }

    /// Ends the expression that the innermost `return` has, if it stands in this very block.
    fn end_returns(&mut self, is_source_end: bool) {
        while let Some(last) = self.returns.last() {
            let is_inside = last.blocks < self.blocks.len() || last.brackets < self.brackets;
            if is_inside && !is_source_end {
                return;
            }
            let Some(done) = self.returns.pop() else { return };
            // What surrounds this return ends no earlier than it does.
            if let Some(outer) = self.returns.last_mut() {
                outer.end = outer.end.max(done.end);
            }
            if done.head.is_empty() || done.is_list {
                continue;
            }
            let (opening, callee) = if done.is_main {
                (&b"("[..], None)
            } else {
                match called(&done) {
                    Some((name, Count::One)) => (&b"("[..], Some(name)),
                    Some((name, Count::Many)) => (&b" select(1,"[..], Some(name)),
                    None => continue,
                }
            };
            let edit = |at, text| Edit { at, removed: 0, text, unless_shadowed: callee };
            self.edits.push(edit(done.start, opening));
            self.edits.push(edit(done.end, &b")"[..]));
        }
    }

    /// Notes names of functions and libraries that are more than called: they may be anything.
    fn look_for_shadows(&mut self, token: Token<'a>) {
        let Token::Name(name) = self.before[0] else { return };
        let is_field = matches!(self.before[1], Token::Dots(1) | Token::Other(b':'));
        let is_called = match token {
            Token::Other(b'(') => self.before[1] != Token::Name(b"function"),
            Token::Dots(1) | Token::Other(b':') => LIBRARIES.iter().any(|library| library.0 == name),
            _ => false,
        };
        let is_known = FUNCTIONS.iter().any(|function| function.0 == name)
            || LIBRARIES.iter().any(|library| library.0 == name);
        if is_known && !is_field && !is_called && !self.shadowed.contains(&name) {
            self.shadowed.push(name);
        }
    }

    /// The source with its edits.
    fn finish(mut self) -> Cow<'a, [u8]> {
        let shadowed = self.shadowed;
        let no_select = shadowed.contains(&SELECT);
        self.edits
            .retain(|edit| edit.unless_shadowed.is_none_or(|name| !no_select && !shadowed.contains(&name)));
        if self.edits.is_empty() {
            return Cow::Borrowed(self.source);
        }
        // Stable: of edits at one place, the inner expression's comes first.
        self.edits.sort_by_key(|edit| edit.at);
        let (mut out, mut copied) = (Vec::with_capacity(self.source.len() + 2 * self.edits.len()), 0);
        for edit in &self.edits {
            out.extend_from_slice(&self.source[copied..edit.at]);
            out.extend_from_slice(edit.text);
            copied = edit.at + edit.removed;
        }
        out.extend_from_slice(&self.source[copied..]);
        Cow::Owned(out)
    }
}

/// The name of the known function or library that an expression calls, if that is all it does.
fn called<'a>(expression: &Return<'a>) -> Option<(&'a [u8], Count)> {
    if expression.closed != expression.end {
        return None;
    }
    match *expression.head {
        [Token::Name(name), Token::Other(b'('), ..] => {
            FUNCTIONS.iter().find(|function| function.0 == name).map(|function| (name, function.1))
        }
        [
            Token::Name(name),
            Token::Dots(1) | Token::Other(b':'),
            Token::Name(function),
            Token::Other(b'('),
        ] => {
            let library = LIBRARIES.iter().find(|library| library.0 == name)?;
            Some((name, if library.1.contains(&function) { Count::Many } else { Count::One }))
        }
        _ => None,
    }
}

fn memmem(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(source: &str) -> String {
        match prepare(source.as_bytes(), Results::First) {
            Ok(text) => String::from_utf8(text.into_owned()).unwrap(),
            Err(malformed) => String::from_utf8(malformed.message()).unwrap(),
        }
    }

    #[test]
    fn frames_are_kept_for_functions_of_c() {
        for (source, result) in [
            ("return f(x)", "return( f(x))"),
            ("return f(x), 1", "return f(x), 1"),
            ("return", "return"),
            ("do return end", "do return end"),
            (
                "if a then return f{1, 2} else return g() end",
                "if a then return( f{1, 2}) else return( g()) end",
            ),
            ("return f(x); -- so", "return( f(x)); -- so"),
            ("return -- why\nf(x)", "return( -- why\nf(x))"),
            ("return function() return g() end", "return( function() return g() end)"),
            (
                "local function f() return redis.call('get', x) end",
                "local function f() return( redis.call('get', x)) end",
            ),
            ("f(function() return redis.call(a)[1] end)", "f(function() return redis.call(a)[1] end)"),
            ("f(function() return redis.call(a)(b) end)", "f(function() return redis.call(a)(b) end)"),
            ("f(function() return string.find(a) end)", "f(function() return select(1, string.find(a)) end)"),
            (
                "local select = 1 f(function() return unpack(a) end)",
                "local select = 1 f(function() return unpack(a) end)",
            ),
            ("f(function() return error(a) end)", "f(function() return( error(a)) end)"),
            ("f(function(error) return error(a) end)", "f(function(error) return error(a) end)"),
            (
                "local function error() end f(function() return error(a) end)",
                "local function error() end f(function() return error(a) end)",
            ),
            (
                "local redis = x f(function() return redis.call(a) end)",
                "local redis = x f(function() return redis.call(a) end)",
            ),
            (
                "return redis.call(function() return error(function() return redis.call(1) end) end)",
                "return( redis.call(function() return( error(function() return( redis.call(1)) end)) end))",
            ),
            ("return {f = function() return g() end, 1}", "return( {f = function() return g() end, 1})"),
            ("repeat return f() until x", "repeat return( f()) until x"),
            ("while x do return f() end", "while x do return( f()) end"),
            ("return ...", "return( ...)"),
            ("return {1; f()}", "return( {1; f()})"),
        ] {
            assert_eq!(prepared(source), result);
        }
        assert_eq!(prepare(b"return f(x)", Results::All).unwrap(), &b"return f(x)"[..]);
        assert_eq!(prepare(b"return error(x)", Results::All).unwrap(), &b"return( error(x))"[..]);
    }

    #[test]
    fn escapes_and_numbers_are_those_of_lua_5_1() {
        for (source, result) in [
            (r#"x = "\.\x41\n\065\z\"\\""#, r#"x = ".x41\n\065z\"\\""#),
            (r"x = '\%d' -- '\.'", r"x = '%d' -- '\.'"),
            (r"x = [[\.]] y = [==[\.]]]==] z = '\.'", r"x = [[\.]] y = [==[\.]]]==] z = '.'"),
            ("x = 1LL", "1: malformed number near '1LL'"),
            ("x = 1\n\n + 0x10ull", "3: malformed number near '0x10ull'"),
            ("x = [[\n\n]] + 1i", "3: malformed number near '1i'"),
            ("x = 0b11", "1: malformed number near '0b11'"),
            ("x = 1..2", "1: malformed number near '1..2'"),
            ("x = a..2 y = .5e-3 + 0xfF + 1e5 + 3.", "x = a..2 y = .5e-3 + 0xfF + 1e5 + 3."),
            ("#x", "1: unexpected symbol near '#'"),
            ("x = '\\\n1LL' y = 2LL", "2: malformed number near '2LL'"),
            (r"x = 'a\255\256'", r"1: escape sequence too large near ''a\255'"),
        ] {
            assert_eq!(prepared(source), result);
        }
    }

    #[test]
    fn functions_that_make_no_use_of_their_dots_have_a_table() {
        const ARG: &str = "local arg={n=select('#',...),...}";
        for (source, result) in [
            ("f(function(...) g(arg) end)", "f(function(...) ARG g(arg) end)"),
            ("function f(a, ...) g(arg.n) end", "function f(a, ...) ARG g(arg.n) end"),
            ("function f(...) g(arg, ...) end", "function f(...) g(arg, ...) end"),
            ("function f(...) g(x.arg) end", "function f(...) g(x.arg) end"),
            ("function f(a) g(arg) end", "function f(a) g(arg) end"),
            (
                "function f(...) h(function(...) g(...) end, arg) end",
                "function f(...) ARG h(function(...) g(...) end, arg) end",
            ),
            ("g(arg, ...)", "g(arg, ...)"),
        ] {
            assert_eq!(prepared(source), result.replace("ARG", ARG));
        }
    }

    #[test]
    fn what_is_no_lua_comes_out() {
        for source in [
            "end end",
            "return (",
            "x = '\\",
            "x = [==[",
            "return f(x",
            "--[[",
            "'",
            "until )",
            "return return",
        ] {
            let _ = prepare(source.as_bytes(), Results::First);
        }
    }
}
