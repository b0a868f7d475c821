//! Lua's patterns once more: where to match one might take long, a script that does so can be ended.
//!
//! Which calls come here `patterns.lua` decides: all others go to LuaJIT's own functions, which nobody can end.
//! Invariant: both answer the same, errors included (`fuzz_patterns` compares them); the host is asked once in [`STEPS`] steps.

use super::{Args, Failure, Library, OutputMax, number};
use mlua::{IntoLua, Lua, MultiValue, Table, Value};
use std::rc::Rc;

/// After so many steps it is asked whether the script goes on.
const STEPS: u32 = 1 << 18;
/// Items within each other: LuaJIT's limit.
const DEPTH_MAX: u32 = 200;
/// Captures: LuaJIT's limit.
const CAPTURES_MAX: usize = 32;
const ESCAPE: u8 = b'%';

/// Asks whether a script goes on; an error says that it does not. The host of a state sets it by [`Lua::set_app_data`].
#[derive(Clone)]
pub(crate) struct GoOn(pub(crate) Rc<Asking>);

type Asking = dyn Fn(&Lua) -> mlua::Result<()>;

/// Puts the functions into `string`. Answers those that can be ended, and LuaJIT's.
pub(crate) fn install(lua: &Lua) -> mlua::Result<(Table, Table)> {
    let library = Library::new(lua)?;
    library.function("find", |lua, args| search(lua, args, true))?;
    library.function("match", |lua, args| search(lua, args, false))?;
    library.function("step", |lua, args| match step(lua, args) {
        // Who is told of it is further up.
        Err(Failure::Message(text)) => {
            Ok(MultiValue::from_vec(vec![Value::Boolean(false), Value::String(lua.create_string(text)?)]))
        }
        answer => answer,
    })?;
    library.function("replace", replace)?;
    let functions = library.into_table();
    let function = |name| functions.raw_get::<Value>(name);
    let string: Table = lua.globals().raw_get("string")?;
    let chunk = lua.load(include_str!("patterns.lua")).set_name("=patterns");
    chunk.call((string, function("find")?, function("match")?, function("step")?, function("replace")?))
}

/// What a capture is, beside one that has an end.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Open,
    /// It answers where it is.
    Position,
    At(usize),
}

struct Matcher<'a> {
    lua: &'a Lua,
    subject: &'a [u8],
    pattern: &'a [u8],
    /// Where each capture begins and ends.
    captures: Vec<(usize, End)>,
    depth: u32,
    steps: u32,
}

/// `string.find` and `string.match`: subject, pattern, where to begin; and whether the pattern is none.
fn search(lua: &Lua, args: Args<'_>, is_find: bool) -> Result<MultiValue, Failure> {
    let (subject, pattern) = (args.string(1)?, args.string(2)?);
    let start = args.number(3)? as i64;
    let is_plain = matches!(args.get(4), Some(Value::Boolean(true)));
    subject.with(|subject| {
        pattern.with(|pattern| {
            let len = subject.len();
            let start = if start < 0 { (len as i64 + start + 1).max(0) } else { start };
            let start = usize::try_from(start - 1).unwrap_or(0).min(len);
            let mut matcher = Matcher::new(lua, subject, pattern);
            if is_find && (is_plain || !pattern.iter().any(|sign| b"^$*+?.([%-".contains(sign))) {
                let found = matcher.find_plain(pattern, start)?;
                return Ok(found.map_or_else(nothing, |at| places(at, at + pattern.len())));
            }
            let Some((from, to)) = matcher.find(start, true)? else { return Ok(nothing()) };
            let mut values = if is_find { places(from, to) } else { MultiValue::new() };
            values.extend(matcher.values(from, to, !is_find)?);
            Ok(values)
        })
    })
}

/// The first match at a place or behind it: where it begins and ends, and its captures, or all of it. Behind the place is said whether
/// an anchor is one, and whether the first capture is enough.
fn step(lua: &Lua, args: Args<'_>) -> Result<MultiValue, Failure> {
    let (subject, pattern) = (args.string(1)?, args.string(2)?);
    let start = usize::try_from(args.integer(3)?).unwrap_or(usize::MAX);
    let is_said = |number| matches!(args.get(number), Some(Value::Boolean(true)));
    let (is_anchored, wants_first) = (is_said(4), is_said(5));
    subject.with(|subject| {
        pattern.with(|pattern| {
            let mut matcher = Matcher::new(lua, subject, pattern);
            if start > subject.len() {
                return Ok(nothing());
            }
            let Some((from, to)) = matcher.find(start, is_anchored)? else { return Ok(nothing()) };
            let mut values: MultiValue = [from, to].map(|at| Value::Number(at as f64)).into_iter().collect();
            if wants_first {
                matcher.captures.truncate(1);
            }
            values.extend(matcher.values(from, to, true)?);
            Ok(values)
        })
    })
}

/// `string.gsub` by a text: subject, pattern, text, how many at most.
fn replace(lua: &Lua, args: Args<'_>) -> Result<MultiValue, Failure> {
    let (subject, pattern, text) = (args.string(1)?, args.string(2)?, args.string(3)?);
    let most = args.number(4)? as i64;
    subject.with(|subject| {
        pattern.with(|pattern| {
            let is_anchored = pattern.first() == Some(&b'^');
            let mut matcher = Matcher::new(lua, subject, pattern);
            let (mut out, mut count, mut at, max) = (Vec::new(), 0i64, 0, OutputMax::of(lua));
            let mut copied = 0;
            while count < most && at <= subject.len() {
                let Some((from, to)) = matcher.find(at, is_anchored)? else { break };
                count += 1;
                out.extend_from_slice(&subject[copied..from]);
                text.with(|text| matcher.write(&mut out, text, from, to))?;
                max.check(out.len())?;
                copied = to;
                at = if to > from { to } else { to + 1 };
                if is_anchored {
                    break;
                }
            }
            out.extend_from_slice(&subject[copied..]);
            let values = [lua.create_string(out)?.into_lua(lua)?, Value::Number(count as f64)];
            Ok(values.into_iter().collect())
        })
    })
}

fn nothing() -> MultiValue {
    MultiValue::from_vec(vec![Value::Nil])
}

/// The places of a match as Lua counts them.
fn places(from: usize, to: usize) -> MultiValue {
    MultiValue::from_vec(vec![Value::Number((from + 1) as f64), Value::Number(to as f64)])
}

impl<'a> Matcher<'a> {
    fn new(lua: &'a Lua, subject: &'a [u8], pattern: &'a [u8]) -> Matcher<'a> {
        // A zero byte ends a pattern, as in Lua 5.1.
        let pattern = pattern.split(|byte| *byte == 0).next().unwrap_or_default();
        Matcher { lua, subject, pattern, captures: Vec::new(), depth: 0, steps: 0 }
    }

    /// Counts a step.
    #[inline]
    fn step(&mut self) -> Result<(), Failure> {
        self.steps += 1;
        if self.steps >= STEPS {
            self.steps = 0;
            let go_on = self.lua.app_data_ref::<GoOn>().map(|go_on| go_on.clone());
            if let Some(GoOn(go_on)) = go_on {
                go_on(self.lua)?;
            }
        }
        Ok(())
    }

    /// The first match at `start` or behind it; an anchor in front lets it be at `start` only.
    fn find(&mut self, start: usize, takes_anchor: bool) -> Result<Option<(usize, usize)>, Failure> {
        let is_anchored = takes_anchor && self.pattern.first() == Some(&b'^');
        for at in start..=self.subject.len() {
            self.step()?;
            self.captures.clear();
            self.depth = 0;
            if let Some(end) = self.matched(at, usize::from(is_anchored))? {
                return Ok(Some((at, end)));
            }
            if is_anchored {
                break;
            }
        }
        Ok(None)
    }

    /// Where a text stands.
    fn find_plain(&mut self, text: &[u8], start: usize) -> Result<Option<usize>, Failure> {
        let subject = self.subject;
        for at in start..=subject.len().saturating_sub(text.len()) {
            let same = subject[at..].iter().zip(text).take_while(|(one, other)| one == other).count();
            if same == text.len() {
                return Ok(Some(at));
            }
            for _ in 0..=same / 64 {
                self.step()?;
            }
        }
        Ok(None)
    }

    fn sign(&self, at: usize) -> Option<u8> {
        self.pattern.get(at).copied()
    }

    /// Where a match ends of what the pattern says from `sign` on, if there is one at `at`.
    fn matched(&mut self, mut at: usize, mut sign: usize) -> Result<Option<usize>, Failure> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Failure::message("pattern too complex"));
        }
        let end = loop {
            self.step()?;
            let next = self.sign(sign + 1);
            match self.sign(sign) {
                None => break Some(at),
                Some(b'(') if next == Some(b')') => break self.open(at, sign + 2, End::Position)?,
                Some(b'(') => break self.open(at, sign + 1, End::Open)?,
                Some(b')') => break self.close(at, sign + 1)?,
                Some(b'$') if next.is_none() => break (at == self.subject.len()).then_some(at),
                Some(ESCAPE) if matches!(next, Some(b'b' | b'f' | b'0'..=b'9')) => {
                    let Some(passed) = self.special(at, sign + 1)? else { break None };
                    (at, sign) = passed;
                    continue;
                }
                Some(_) => {}
            }
            let after = self.end_of_class(sign)?;
            let fits = self.fits(at, sign, after);
            match self.sign(after) {
                Some(b'?') => {
                    if fits && let Some(end) = self.matched(at + 1, after + 1)? {
                        break Some(end);
                    }
                    sign = after + 1;
                }
                Some(b'*') => break self.most(at, sign, after)?,
                Some(b'+') => break if fits { self.most(at + 1, sign, after)? } else { None },
                Some(b'-') => break self.least(at, sign, after)?,
                _ if fits => (at, sign) = (at + 1, after),
                _ => break None,
            }
        };
        self.depth -= 1;
        Ok(end)
    }

    /// What an escape says that is no class: where subject and pattern go on.
    fn special(&mut self, at: usize, sign: usize) -> Result<Option<(usize, usize)>, Failure> {
        match self.sign(sign) {
            Some(b'b') => Ok(self.balanced(at, sign + 1)?.map(|end| (end, sign + 3))),
            Some(b'f') => {
                if self.sign(sign + 1) != Some(b'[') {
                    return Err(Failure::message("missing '[' after '%f' in pattern"));
                }
                let after = self.end_of_class(sign + 1)?;
                let before = at.checked_sub(1).and_then(|at| self.subject.get(at)).copied().unwrap_or(0);
                let here = self.subject.get(at).copied().unwrap_or(0);
                let is_edge =
                    !self.in_set(before, sign + 1, after - 1) && self.in_set(here, sign + 1, after - 1);
                Ok(is_edge.then_some((at, after)))
            }
            digit => Ok(self.repeated(at, digit.unwrap_or(0))?.map(|end| (end, sign + 1))),
        }
    }

    /// Behind the class that begins at `sign`.
    fn end_of_class(&self, sign: usize) -> Result<usize, Failure> {
        match self.sign(sign) {
            Some(ESCAPE) if self.sign(sign + 1).is_none() => {
                Err(Failure::message("malformed pattern (ends with '%')"))
            }
            Some(ESCAPE) => Ok(sign + 2),
            Some(b'[') => {
                let mut at = sign + 1 + usize::from(self.sign(sign + 1) == Some(b'^'));
                // The first sign is no end.
                loop {
                    match self.sign(at) {
                        None => return Err(Failure::message("malformed pattern (missing ']')")),
                        Some(ESCAPE) => at += 2,
                        Some(_) => at += 1,
                    }
                    if self.sign(at) == Some(b']') {
                        return Ok(at + 1);
                    }
                }
            }
            _ => Ok(sign + 1),
        }
    }

    /// Whether the byte at `at` is of the class from `sign` to `after`.
    fn fits(&self, at: usize, sign: usize, after: usize) -> bool {
        let Some(&byte) = self.subject.get(at) else { return false };
        match self.sign(sign) {
            Some(b'.') => true,
            Some(ESCAPE) => self.sign(sign + 1).is_some_and(|class| is_of_class(byte, class)),
            Some(b'[') => self.in_set(byte, sign, after - 1),
            other => other == Some(byte),
        }
    }

    /// Whether a byte is in the set whose brackets are at `sign` and `last`.
    fn in_set(&self, byte: u8, sign: usize, last: usize) -> bool {
        let is_negated = self.sign(sign + 1) == Some(b'^');
        let mut at = sign + 1 + usize::from(is_negated);
        while at < last {
            let (first, next) = (self.sign(at).unwrap_or(0), self.sign(at + 1));
            if first == ESCAPE {
                if next.is_some_and(|class| is_of_class(byte, class)) {
                    return !is_negated;
                }
                at += 2;
            } else if next == Some(b'-') && at + 2 < last {
                if (first..=self.sign(at + 2).unwrap_or(0)).contains(&byte) {
                    return !is_negated;
                }
                at += 3;
            } else {
                if first == byte {
                    return !is_negated;
                }
                at += 1;
            }
        }
        is_negated
    }

    /// As many as there are, then fewer, until the rest fits.
    fn most(&mut self, at: usize, sign: usize, after: usize) -> Result<Option<usize>, Failure> {
        let mut end = at;
        while self.fits(end, sign, after) {
            self.step()?;
            end += 1;
        }
        for end in (at..=end).rev() {
            if let Some(found) = self.matched(end, after + 1)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// As few as possible until the rest fits.
    fn least(&mut self, mut at: usize, sign: usize, after: usize) -> Result<Option<usize>, Failure> {
        loop {
            if let Some(found) = self.matched(at, after + 1)? {
                return Ok(Some(found));
            }
            if !self.fits(at, sign, after) {
                return Ok(None);
            }
            at += 1;
        }
    }

    fn open(&mut self, at: usize, sign: usize, end: End) -> Result<Option<usize>, Failure> {
        if self.captures.len() >= CAPTURES_MAX {
            return Err(Failure::message("too many captures"));
        }
        self.captures.push((at, end));
        let found = self.matched(at, sign)?;
        if found.is_none() {
            self.captures.pop();
        }
        Ok(found)
    }

    fn close(&mut self, at: usize, sign: usize) -> Result<Option<usize>, Failure> {
        let Some(last) = self.captures.iter().rposition(|(_, end)| *end == End::Open) else {
            return Err(Failure::message("invalid pattern capture"));
        };
        self.captures[last].1 = End::At(at);
        let found = self.matched(at, sign)?;
        if found.is_none() {
            self.captures[last].1 = End::Open;
        }
        Ok(found)
    }

    /// Behind what begins with one sign and ends with its counterpart.
    fn balanced(&mut self, at: usize, sign: usize) -> Result<Option<usize>, Failure> {
        let (Some(opens), Some(closes)) = (self.sign(sign), self.sign(sign + 1)) else {
            return Err(Failure::message("unbalanced pattern"));
        };
        if self.subject.get(at) != Some(&opens) {
            return Ok(None);
        }
        let mut open = 1;
        for end in at + 1..self.subject.len() {
            self.step()?;
            let byte = self.subject[end];
            if byte == closes {
                open -= 1;
                if open == 0 {
                    return Ok(Some(end + 1));
                }
            } else if byte == opens {
                open += 1;
            }
        }
        Ok(None)
    }

    /// Behind what an earlier capture has.
    fn repeated(&mut self, at: usize, digit: u8) -> Result<Option<usize>, Failure> {
        let capture = usize::from(digit).checked_sub(usize::from(b'1'));
        let (from, to) = match capture.and_then(|index| self.captures.get(index)) {
            Some(&(from, End::At(to))) => (from, to),
            Some((_, End::Position)) => return Ok(None),
            _ => return Err(Failure::message("invalid capture index")),
        };
        for _ in 0..=(to - from) / 64 {
            self.step()?;
        }
        Ok(self.subject[at..].starts_with(&self.subject[from..to]).then_some(at + to - from))
    }

    /// A capture of a match, or all of it.
    fn value(&self, index: usize, (from, to): (usize, usize)) -> Result<Captured<'a>, Failure> {
        match self.captures.get(index) {
            None if index == 0 => Ok(Captured::Text(&self.subject[from..to])),
            None => Err(Failure::message("invalid capture index")),
            Some((_, End::Open)) => Err(Failure::message("unfinished capture")),
            Some((from, End::Position)) => Ok(Captured::Place(from + 1)),
            Some((from, End::At(to))) => Ok(Captured::Text(&self.subject[*from..*to])),
        }
    }

    /// All captures; or all of the match where there are none, if that is wanted.
    fn values(&self, from: usize, to: usize, all_if_none: bool) -> Result<Vec<Value>, Failure> {
        let count = self.captures.len().max(usize::from(all_if_none));
        let value = |index| match self.value(index, (from, to))? {
            Captured::Text(text) => Ok(Value::String(self.lua.create_string(text)?)),
            Captured::Place(at) => Ok(Value::Number(at as f64)),
        };
        (0..count).map(value).collect()
    }

    /// Writes the text that stands in for a match.
    fn write(&self, out: &mut Vec<u8>, text: &[u8], from: usize, to: usize) -> Result<(), Failure> {
        let mut rest = text;
        while let Some((&byte, after)) = rest.split_first() {
            rest = after;
            if byte != ESCAPE {
                out.push(byte);
                continue;
            }
            // Lua's texts end in a zero byte.
            let escaped = rest.first().copied().unwrap_or(0);
            rest = rest.get(1..).unwrap_or_default();
            match escaped {
                b'0' => out.extend_from_slice(&self.subject[from..to]),
                b'1'..=b'9' => match self.value(usize::from(escaped - b'1'), (from, to))? {
                    Captured::Text(text) => out.extend_from_slice(text),
                    Captured::Place(at) => out.extend_from_slice(number::lua_text(at as f64).as_bytes()),
                },
                other => out.push(other),
            }
        }
        Ok(())
    }
}

enum Captured<'a> {
    Text(&'a [u8]),
    Place(usize),
}

/// Whether a byte is of a class, which is named by a letter, a capital for all others; any other sign is itself.
fn is_of_class(byte: u8, class: u8) -> bool {
    let is_in = match class.to_ascii_lowercase() {
        b'a' => byte.is_ascii_alphabetic(),
        b'c' => byte.is_ascii_control(),
        b'd' => byte.is_ascii_digit(),
        b'g' => byte.is_ascii_graphic(),
        b'l' => byte.is_ascii_lowercase(),
        b'p' => byte.is_ascii_punctuation(),
        b's' => byte.is_ascii_whitespace() || byte == 11,
        b'u' => byte.is_ascii_uppercase(),
        b'w' => byte.is_ascii_alphanumeric(),
        b'x' => byte.is_ascii_hexdigit(),
        b'z' => byte == 0,
        _ => return byte == class,
    };
    is_in != class.is_ascii_uppercase()
}
