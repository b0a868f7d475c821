//! Values on their way between replies and Lua: the rules of `convert.rs` once more, slow and plain, with a script in between.

use super::replies::Reply;
use crate::engine::{Ended, Engine, Failure, Host, Info, Verdict, Words};
use larder_resp::{Output, Protocol};
use std::cell::RefCell;
use std::fmt::Write as _;

/// Replies and values within each other.
const DEPTH_MAX: usize = 6;
/// Replies or values in all.
const COUNT_MAX: usize = 60;
/// Whole numbers of at least this size do not fit 64 bits.
const WHOLE_MAX: f64 = 9_223_372_036_854_775_808.0;
const INFO: Info = Info { version: "8.2.3", version_number: 0x0008_0203, memory_max: 64 << 20 };
/// Names of fields that say what a table stands for, and one that says nothing.
const FIELDS: [&str; 10] =
    ["err", "ok", "double", "map", "set", "big_number", "verbatim_string", "format", "string", "other"];

thread_local! {
    static ENGINE: RefCell<Engine> = RefCell::new(Engine::new(&INFO).expect("a state can be made"));
}

/// A value of Lua.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    Nil,
    Function,
    Bool(bool),
    Number(f64),
    Text(Vec<u8>),
    /// Elements, and what else is in the table, in the order in which it was put there.
    Table(Vec<Value>, Vec<(Value, Value)>),
}

/// A reply goes through a script, values of a script become a reply, and they become words of a command.
pub fn fuzz_lua_values(bytes: &[u8]) {
    let Some((&choice, bytes)) = bytes.split_first() else { return };
    let mut seeds = Seeds { bytes, left: COUNT_MAX };
    match choice % 3 {
        0 => reply_through_script(&seeds.reply(choice & 4 == 0, 0), choice & 4 == 0),
        1 => value_of_script(&seeds.value(0), choice & 4 == 0),
        _ => words_of_command(&seeds.values(0), choice),
    }
}

/// What a command answers and a script returns is what the rules make of it.
fn reply_through_script(reply: &Reply, is_resp3: bool) {
    let script =
        if is_resp3 { "redis.setresp(3) return redis.pcall('x')" } else { "return redis.pcall('x')" };
    let mut host = Answering { answer: reply.written(), words: Vec::new() };
    let (ended, written) = run(script.as_bytes(), &mut host, Protocol::Resp3);
    match Value::of_reply(reply) {
        Some(value) => {
            assert_eq!(ended, Ended::Answered, "{reply:?}");
            assert_eq!(Reply::read_all(&written), Some(value.reply(is_resp3).sorted()), "{reply:?}");
        }
        // Nothing can be found under nil.
        None => assert!(matches!(ended, Ended::Failed(_)), "{reply:?}: {ended:?}"),
    }
}

/// What a script returns becomes the reply that the rules make of it.
fn value_of_script(value: &Value, is_resp3: bool) {
    let mut script = if is_resp3 { "redis.setresp(3) return " } else { "return " }.to_owned();
    value.write_source(&mut script);
    let mut host = Answering { answer: b"+OK\r\n".to_vec(), words: Vec::new() };
    let (ended, written) = run(script.as_bytes(), &mut host, Protocol::Resp3);
    assert_eq!(ended, Ended::Answered, "{script}");
    assert_eq!(Reply::read_all(&written), Some(value.reply(is_resp3).sorted()), "{script}");
    let (ended, written) = run(script.as_bytes(), &mut host, Protocol::Resp2);
    assert_eq!(ended, Ended::Answered, "{script}");
    assert!(Reply::read_all(&written).is_some(), "{script}: {}", written.escape_ascii());
}

/// Strings and numbers are words of a command, as they are; others are refused before anything is asked.
fn words_of_command(values: &[Value], choice: u8) {
    let mut words = String::new();
    for value in values {
        if !words.is_empty() {
            words.push_str(", ");
        }
        value.write_source(&mut words);
    }
    let script = match choice & 12 {
        0 => format!("return redis.call({words})"),
        4 => format!("return redis.call(unpack({{{words}}}, 1, {}))", values.len()),
        8 => format!(
            "local ok, e = pcall(redis.call{}{words}) return e",
            if words.is_empty() { "" } else { ", " }
        ),
        _ => format!("return redis.pcall({words})"),
    };
    let mut host = Answering { answer: b"+OK\r\n".to_vec(), words: Vec::new() };
    let (ended, written) = run(script.as_bytes(), &mut host, Protocol::Resp2);
    let refused = match values {
        [] => Some("ERR Please specify at least one argument for this redis lib call"),
        _ if !values.iter().all(Value::is_word) => {
            Some("ERR Lua redis lib command arguments must be strings or integers")
        }
        _ => None,
    };
    let told = match &ended {
        Ended::Answered => written,
        Ended::Failed(Failure { text, .. }) => text.clone(),
        Ended::Stopped(_) => panic!("{script} was stopped"),
    };
    let Some(refused) = refused else {
        assert!(told.starts_with(b"+OK"), "{script}: {}", told.escape_ascii());
        let words = std::mem::take(&mut host.words);
        assert_eq!(words.len(), values.len(), "{script}");
        for (value, word) in values.iter().zip(&words) {
            assert!(value.is_written_as(word), "{script}: {value:?} is {}", word.escape_ascii());
        }
        return;
    };
    assert!(host.words.is_empty(), "{script}: what is refused is not asked");
    assert!(told.windows(refused.len()).any(|part| part == refused.as_bytes()), "{}", told.escape_ascii());
}

/// Runs a script that has no words.
fn run(code: &[u8], host: &mut Answering, protocol: Protocol) -> (Ended, Vec<u8>) {
    ENGINE.with_borrow_mut(|engine| {
        let compiled = engine.compile("@user_script", code);
        let compiled = compiled.unwrap_or_else(|error| {
            panic!("{} is refused: {}", code.escape_ascii(), error.escape_ascii());
        });
        let mut out = Output::default();
        let mut reply = larder_resp::Reply::new(&mut out, protocol);
        let ended = engine.run(compiled, 0, std::iter::empty(), host, &mut reply);
        engine.forget(compiled);
        (ended, out.to_vec())
    })
}

/// A host that answers the same whatever it is asked, and keeps what that was.
struct Answering {
    answer: Vec<u8>,
    words: Vec<Vec<u8>>,
}

impl Host for Answering {
    fn call(&mut self, words: Words<'_>, protocol: Protocol, reply: &mut Output) -> Verdict {
        self.words = words.spans.iter().map(|span| span.of(words.bytes).to_vec()).collect();
        larder_resp::Reply::new(reply, protocol).raw(&self.answer);
        Verdict::GoOn
    }

    fn may(&mut self, _: Words<'_>) -> Option<bool> {
        None
    }

    fn log(&mut self, _: i64, _: &[u8]) {}

    fn tick(&mut self) -> Verdict {
        Verdict::GoOn
    }
}

impl Value {
    /// A table with one field.
    fn named(name: &str, value: Value) -> Value {
        Value::Table(Vec::new(), vec![(Value::Text(name.into()), value)])
    }

    /// What Lua has of a reply; `None` where a script fails of it.
    fn of_reply(reply: &Reply) -> Option<Value> {
        let list = |replies: &[Reply]| replies.iter().map(Value::of_reply).collect::<Option<Vec<_>>>();
        let found = |pairs: Vec<(Value, Value)>| {
            let are_found = pairs.iter().all(|(key, _)| *key != Value::Nil);
            are_found.then_some(Value::Table(Vec::new(), pairs))
        };
        Some(match reply {
            Reply::Integer(number) => Value::Number(*number as f64),
            Reply::Bulk(text) => Value::Text(text.clone()),
            Reply::Status(text) => Value::named("ok", Value::Text(text.clone())),
            Reply::Error(text) => Value::named("err", Value::Text(text.clone())),
            Reply::NoBulk | Reply::NoArray => Value::Bool(false),
            Reply::Null => Value::Nil,
            Reply::Bool(truth) => Value::Bool(*truth),
            Reply::Double(number) => Value::named("double", Value::Number(*number)),
            Reply::Big(text) => Value::named("big_number", Value::Text(text.clone())),
            Reply::Verbatim(format, text) => {
                let fields = [("format", &format[..]), ("string", text)];
                let fields =
                    fields.map(|(name, text)| (Value::Text(name.into()), Value::Text(text.to_vec())));
                Value::named("verbatim_string", Value::Table(Vec::new(), fields.to_vec()))
            }
            Reply::Array(replies) => Value::Table(list(replies)?, Vec::new()),
            Reply::Map(pairs) => {
                let read = |(key, value)| Some((Value::of_reply(key)?, Value::of_reply(value)?));
                let pairs =
                    pairs.iter().map(|(key, value)| read((key, value))).collect::<Option<Vec<_>>>()?;
                Value::named("map", found(pairs)?)
            }
            Reply::Set(replies) => {
                let pairs = list(replies)?.into_iter().map(|member| (member, Value::Bool(true))).collect();
                Value::named("set", found(pairs)?)
            }
        })
    }

    /// What becomes of a value as a reply.
    fn reply(&self, is_resp3: bool) -> Reply {
        match self {
            Value::Nil | Value::Function => Reply::Null,
            Value::Bool(truth) if is_resp3 => Reply::Bool(*truth),
            Value::Bool(true) => Reply::Integer(1),
            Value::Bool(false) => Reply::Null,
            Value::Number(number) if (-WHOLE_MAX..WHOLE_MAX).contains(number) => {
                Reply::Integer(*number as i64)
            }
            Value::Number(_) => Reply::Integer(i64::MIN),
            Value::Text(text) => Reply::Bulk(text.clone()),
            Value::Table(..) => self.reply_of_table(is_resp3),
        }
    }

    fn reply_of_table(&self, is_resp3: bool) -> Reply {
        let one_line =
            |text: &[u8]| text.iter().map(|byte| if b"\r\n".contains(byte) { b' ' } else { *byte }).collect();
        let until_nul = |text: &[u8]| one_line(text.split(|byte| *byte == 0).next().unwrap_or_default());
        let text_of = |value: &Value, name| match value.field(name) {
            Some(Value::Text(text)) => Some(text.clone()),
            _ => None,
        };
        if let Some(text) = text_of(self, "err") {
            return Reply::Error(until_nul(&text));
        }
        if let Some(text) = text_of(self, "ok") {
            return Reply::Status(until_nul(&text));
        }
        if let Some(Value::Number(number)) = self.field("double") {
            return Reply::Double(*number);
        }
        if let Some(map) = self.field("map").and_then(Value::content) {
            let both = |(key, value): (Value, Value)| (key.reply(is_resp3), value.reply(is_resp3));
            return Reply::Map(map.into_iter().map(both).collect());
        }
        if let Some(set) = self.field("set").and_then(Value::content) {
            return Reply::Set(set.into_iter().map(|(key, _)| key.reply(is_resp3)).collect());
        }
        if let Some(text) = text_of(self, "big_number") {
            return Reply::Big(one_line(&text));
        }
        if let Some(inner) = self.field("verbatim_string")
            && let (Some(format), Some(text)) = (text_of(inner, "format"), text_of(inner, "string"))
        {
            let mut three = [b' '; 3];
            three.iter_mut().zip(format).for_each(|(to, from)| *to = from);
            return Reply::Verbatim(three, text);
        }
        let content = self.content().unwrap_or_default();
        let find = |index: usize| {
            let at = Value::Number(index as f64);
            content.iter().find(|(key, _)| key.is_same_key(&at)).map(|(_, value)| value.reply(is_resp3))
        };
        Reply::Array((1..).map_while(find).collect())
    }

    fn field(&self, name: &str) -> Option<&Value> {
        let Value::Table(_, pairs) = self else { return None };
        let is_named = |(key, _): &&(Value, Value)| *key == Value::Text(name.into());
        pairs.iter().rfind(is_named).map(|(_, value)| value)
    }

    /// All keys of a table, each once, with their values.
    fn content(&self) -> Option<Vec<(Value, Value)>> {
        let Value::Table(list, pairs) = self else { return None };
        let listed = (1..).map(|index| Value::Number(f64::from(index))).zip(list.iter().cloned());
        let mut content: Vec<(Value, Value)> = Vec::new();
        for (key, value) in listed.chain(pairs.iter().cloned()) {
            content.retain(|(known, _)| !known.is_same_key(&key));
            if value != Value::Nil {
                content.push((key, value));
            }
        }
        Some(content)
    }

    /// A table is the same as none but itself.
    fn is_same_key(&self, other: &Value) -> bool {
        !matches!(self, Value::Table(..)) && self == other
    }

    fn is_word(&self) -> bool {
        matches!(self, Value::Text(_) | Value::Number(_))
    }

    /// Whether a word says what the value is.
    fn is_written_as(&self, word: &[u8]) -> bool {
        let number = || std::str::from_utf8(word).ok()?.parse::<f64>().ok();
        match self {
            Value::Text(text) => text == word,
            Value::Number(value) if value.is_nan() => matches!(word, b"nan" | b"-nan"),
            Value::Number(value) => number() == Some(*value),
            _ => false,
        }
    }

    /// How a script writes it.
    fn write_source(&self, out: &mut String) {
        match self {
            Value::Nil => out.push_str("nil"),
            Value::Function => out.push_str("redis.call"),
            Value::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
            Value::Number(number) if number.is_nan() => out.push_str("(0/0)"),
            Value::Number(number) if number.is_infinite() => {
                out.push_str(if *number > 0.0 { "(1/0)" } else { "(-1/0)" });
            }
            Value::Number(number) => _ = write!(out, "({number:e})"),
            Value::Text(text) => {
                out.push('"');
                text.iter().for_each(|byte| _ = write!(out, "\\{byte:03}"));
                out.push('"');
            }
            Value::Table(list, pairs) => {
                out.push('{');
                for (key, value) in pairs {
                    out.push('[');
                    key.write_source(out);
                    out.push_str("]=");
                    value.write_source(out);
                    out.push(',');
                }
                for value in list {
                    value.write_source(out);
                    out.push(',');
                }
                out.push('}');
            }
        }
    }
}

/// Bytes of which replies and values are made.
struct Seeds<'a> {
    bytes: &'a [u8],
    /// How many more there may be.
    left: usize,
}

impl Seeds<'_> {
    fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.bytes.split_first() else { return 0 };
        self.bytes = rest;
        first
    }

    fn text(&mut self) -> Vec<u8> {
        let len = usize::from(self.byte() % 24).min(self.bytes.len());
        let (text, rest) = self.bytes.split_at(len);
        self.bytes = rest;
        text.to_vec()
    }

    /// Text that a line can hold.
    fn line(&mut self) -> Vec<u8> {
        self.text().into_iter().filter(|byte| !b"\r\n".contains(byte)).collect()
    }

    fn eight(&mut self) -> [u8; 8] {
        [(); 8].map(|()| self.byte())
    }

    fn number(&mut self) -> f64 {
        match self.byte() % 4 {
            0 => f64::from(self.byte()),
            1 => i64::from_le_bytes(self.eight()) as f64,
            _ => f64::from_le_bytes(self.eight()),
        }
    }

    /// How many there are in what is at this depth.
    fn count(&mut self, depth: usize) -> usize {
        let count = if depth < DEPTH_MAX { usize::from(self.byte() % 8) } else { 0 };
        let count = count.min(self.left);
        self.left -= count;
        count
    }

    fn reply(&mut self, is_resp3: bool, depth: usize) -> Reply {
        match self.byte() % if is_resp3 { 14 } else { 7 } {
            0 => Reply::Integer(i64::from(self.byte()) - 100),
            1 => Reply::Bulk(self.text()),
            2 => Reply::Status(self.line()),
            3 => Reply::Error([b"ERR ".to_vec(), self.line()].concat()),
            4 => Reply::NoBulk,
            5 => Reply::NoArray,
            6 => Reply::Array((0..self.count(depth)).map(|_| self.reply(is_resp3, depth + 1)).collect()),
            7 => Reply::Null,
            8 => Reply::Bool(self.byte().is_multiple_of(2)),
            9 => Reply::Double(self.number()),
            10 => Reply::Big(self.line()),
            11 => Reply::Verbatim(*b"txt", self.text()),
            12 => {
                let both = |seeds: &mut Self| (seeds.reply(true, depth + 1), seeds.reply(true, depth + 1));
                Reply::Map((0..self.count(depth)).map(|_| both(self)).collect())
            }
            _ => Reply::Set((0..self.count(depth)).map(|_| self.reply(true, depth + 1)).collect()),
        }
    }

    fn value(&mut self, depth: usize) -> Value {
        match self.byte() % 10 {
            0 => Value::Nil,
            1 => Value::Function,
            2 => Value::Bool(self.byte().is_multiple_of(2)),
            3 | 4 => Value::Number(self.number()),
            5 | 6 => Value::Text(self.text()),
            _ => {
                let both = |seeds: &mut Self| (seeds.key(depth), seeds.value(depth + 1));
                // Which of two values under one key it has in the end, Lua leaves open.
                let mut pairs: Vec<(Value, Value)> = Vec::new();
                for (key, value) in (0..self.count(depth)).map(|_| both(self)) {
                    if !pairs.iter().any(|(known, _)| known.is_same_key(&key)) {
                        pairs.push((key, value));
                    }
                }
                // An element and a number as a key may be the same place.
                let has_numbers = pairs.iter().any(|(key, _)| matches!(key, Value::Number(_)));
                Value::Table(if has_numbers { Vec::new() } else { self.values(depth) }, pairs)
            }
        }
    }

    fn values(&mut self, depth: usize) -> Vec<Value> {
        (0..self.count(depth)).map(|_| self.value(depth + 1)).collect()
    }

    /// What something can be found under in a table.
    fn key(&mut self, depth: usize) -> Value {
        let kind = self.byte();
        match kind % 12 {
            number @ 0..8 => Value::Text(FIELDS[usize::from(number)].into()),
            8 => Value::Text(FIELDS[8 + usize::from(kind / 12) % 2].into()),
            9 => Value::Number(f64::from(self.byte() % 6)),
            _ => match self.value(depth + 1) {
                Value::Nil => Value::Bool(true),
                Value::Number(number) if number.is_nan() => Value::Bool(false),
                other => other,
            },
        }
    }
}
