//! JSON as values.
//!
//! Invariant: a text is read once from left to right, and what is made of it is no larger than a
//! few words for each of its bytes. A NUL byte ends a text, as a C string's would.

use super::super::{Failure, ValueStack, number};
use super::{Options, null};
use mlua::{Lua, Table, Value};

/// Places that a C function can have on Lua's stack; Redis' cjson stops where they end.
const LUA_STACK_MAX: i64 = 8000;

/// What a text is made of.
#[derive(Debug, PartialEq)]
enum Token {
    ObjectBegin,
    ObjectEnd,
    ArrayBegin,
    ArrayEnd,
    /// The string is in `Decoder::string`.
    String,
    Number(f64),
    Boolean(bool),
    Null,
    Colon,
    Comma,
    End,
    Error(&'static str),
}

impl Token {
    /// What a complaint calls it.
    fn name(&self) -> &'static str {
        match self {
            Token::ObjectBegin => "T_OBJ_BEGIN",
            Token::ObjectEnd => "T_OBJ_END",
            Token::ArrayBegin => "T_ARR_BEGIN",
            Token::ArrayEnd => "T_ARR_END",
            Token::String => "T_STRING",
            Token::Number(_) => "T_NUMBER",
            Token::Boolean(_) => "T_BOOLEAN",
            Token::Null => "T_NULL",
            Token::Colon => "T_COLON",
            Token::Comma => "T_COMMA",
            Token::End => "T_END",
            Token::Error(what) => what,
        }
    }
}

/// A table that is being read. It is on the stack.
enum Open {
    Array {
        length: i64,
    },
    /// On the stack is also the key whose value is being read.
    Object,
}

/// Reads one text.
pub(super) struct Decoder<'a> {
    lua: &'a Lua,
    text: &'a [u8],
    at: usize,
    /// Where the last token is, or where it went wrong.
    token_at: usize,
    string: Vec<u8>,
    options: &'a Options,
    open: Vec<Open>,
    values: ValueStack<'a>,
    /// Places that Redis' cjson would have on Lua's stack.
    lua_stack: i64,
}

impl<'a> Decoder<'a> {
    /// A decoder at the start of a text.
    pub(super) fn new(lua: &'a Lua, text: &'a [u8], options: &'a Options) -> Decoder<'a> {
        let (string, open, values) = (Vec::new(), Vec::new(), ValueStack::new(lua));
        Decoder { lua, text, at: 0, token_at: 0, string, options, open, values, lua_stack: 1 }
    }

    /// The value of the whole text.
    pub(super) fn decode(mut self) -> Result<Value, Failure> {
        if self.text.len() >= 2 && (self.text[0] == 0 || self.text[1] == 0) {
            return Err(Failure::message("JSON parser does not support UTF-16 or UTF-32"));
        }
        let mut token = self.token();
        loop {
            let mut value = match self.begin(token)? {
                Begun::Whole(value) => value,
                Begun::Inside(first) => {
                    token = first;
                    continue;
                }
            };
            // A whole value goes into what is open, and may be the last one in there.
            token = loop {
                match self.put(value)? {
                    Put::Root(root) => return self.at_end(root),
                    Put::Closed(table) => value = Value::Table(table),
                    Put::Next(token) => break token,
                }
            };
        }
    }

    fn at_end(mut self, root: Value) -> Result<Value, Failure> {
        let token = self.token();
        if token == Token::End { Ok(root) } else { Err(self.unexpected("the end", &token)) }
    }

    /// A value that starts with a token: the whole of it, or the first token inside of it.
    fn begin(&mut self, token: Token) -> Result<Begun, Failure> {
        Ok(Begun::Whole(match token {
            Token::String => Value::String(self.lua.create_string(&self.string)?),
            Token::Number(number) => Value::Number(number),
            Token::Boolean(value) => Value::Boolean(value),
            Token::Null => null(),
            Token::ObjectBegin => {
                self.descend(3)?;
                let table = self.lua.create_table()?;
                let token = self.token();
                if token != Token::ObjectEnd {
                    let key = self.key(token)?;
                    self.lua_stack += 2;
                    self.values.push(Value::Table(table))?;
                    self.values.push(key)?;
                    self.open.push(Open::Object);
                    return Ok(Begun::Inside(self.token()));
                }
                Value::Table(table)
            }
            Token::ArrayBegin => {
                self.descend(2)?;
                let table = self.lua.create_table()?;
                let token = self.token();
                if token != Token::ArrayEnd {
                    self.lua_stack += 1;
                    self.values.push(Value::Table(table))?;
                    self.open.push(Open::Array { length: 0 });
                    return Ok(Begun::Inside(token));
                }
                Value::Table(table)
            }
            other => return Err(self.unexpected("value", &other)),
        }))
    }

    /// Puts a value into the table that is open, and reads what follows it.
    fn put(&mut self, value: Value) -> Result<Put, Failure> {
        match self.open.pop() {
            None => Ok(Put::Root(value)),
            Some(Open::Array { length }) => {
                let (table, length) = (self.values.pop_table()?, length + 1);
                table.raw_set(length, value)?;
                match self.token() {
                    Token::Comma => {}
                    Token::ArrayEnd => {
                        self.lua_stack -= 1;
                        return Ok(Put::Closed(table));
                    }
                    other => return Err(self.unexpected("comma or array end", &other)),
                }
                self.values.push(Value::Table(table))?;
                self.open.push(Open::Array { length });
                Ok(Put::Next(self.token()))
            }
            Some(Open::Object) => {
                let (key, table) = (self.values.pop()?, self.values.pop_table()?);
                table.raw_set(key, value)?;
                match self.token() {
                    Token::Comma => {}
                    Token::ObjectEnd => {
                        self.lua_stack -= 2;
                        return Ok(Put::Closed(table));
                    }
                    other => return Err(self.unexpected("comma or object end", &other)),
                }
                let token = self.token();
                let key = self.key(token)?;
                self.values.push(Value::Table(table))?;
                self.values.push(key)?;
                self.open.push(Open::Object);
                Ok(Put::Next(self.token()))
            }
        }
    }

    /// A key and the colon behind it.
    fn key(&mut self, token: Token) -> Result<Value, Failure> {
        if token != Token::String {
            return Err(self.unexpected("object key string", &token));
        }
        let key = Value::String(self.lua.create_string(&self.string)?);
        let token = self.token();
        if token == Token::Colon { Ok(key) } else { Err(self.unexpected("colon", &token)) }
    }

    /// Counts one table more, for which Redis' cjson needs so many places.
    fn descend(&self, places: i64) -> Result<(), Failure> {
        let depth = self.open.len() as i64 + 1;
        if depth <= self.options.decode_depth_max && self.lua_stack + places <= LUA_STACK_MAX {
            return Ok(());
        }
        Err(Failure::message(format!(
            "Found too many nested data structures ({depth}) at character {}",
            self.at
        )))
    }

    fn unexpected(&self, expected: &str, found: &Token) -> Failure {
        let (found, character) = (found.name(), self.token_at + 1);
        Failure::message(format!("Expected {expected} but found {found} at character {character}"))
    }

    /// The byte that is `ahead` bytes away; 0 behind the end.
    fn peek(&self, ahead: usize) -> u8 {
        self.text.get(self.at + ahead).copied().unwrap_or(0)
    }

    /// Reads a token.
    fn token(&mut self) -> Token {
        while matches!(self.peek(0), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
        self.token_at = self.at;
        let single = match self.peek(0) {
            0 => return Token::End,
            b'{' => Token::ObjectBegin,
            b'}' => Token::ObjectEnd,
            b'[' => Token::ArrayBegin,
            b']' => Token::ArrayEnd,
            b',' => Token::Comma,
            b':' => Token::Colon,
            b'"' => return self.string_token(),
            b'-' | b'0'..=b'9' => {
                return if !self.options.decode_invalid && self.is_invalid_number() {
                    Token::Error("invalid number")
                } else {
                    self.number_token()
                };
            }
            _ => return self.word_token(),
        };
        self.at += 1;
        single
    }

    fn word_token(&mut self) -> Token {
        let rest = &self.text[self.at..];
        for (word, token) in
            [(&b"true"[..], Token::Boolean(true)), (b"false", Token::Boolean(false)), (b"null", Token::Null)]
        {
            if rest.starts_with(word) {
                self.at += word.len();
                return token;
            }
        }
        let may_be_number = matches!(self.peek(0), b'+' | b'i' | b'I' | b'n' | b'N');
        if may_be_number && self.options.decode_invalid && self.is_invalid_number() {
            return self.number_token();
        }
        Token::Error("invalid token")
    }

    fn number_token(&mut self) -> Token {
        match number::strtod(&self.text[self.at..]) {
            Some((value, used)) => {
                self.at += used;
                Token::Number(value)
            }
            None => Token::Error("invalid number"),
        }
    }

    /// Whether what follows is a number that JSON does not have.
    fn is_invalid_number(&self) -> bool {
        let rest = &self.text[self.at..];
        let rest = match rest {
            [b'+', ..] => return true,
            [b'-', rest @ ..] => rest,
            rest => rest,
        };
        match rest {
            [b'0', b'x' | b'X' | b'0'..=b'9', ..] => true,
            [..=b'9', ..] | [] => false,
            rest => rest
                .get(..3)
                .is_some_and(|name| name.eq_ignore_ascii_case(b"inf") || name.eq_ignore_ascii_case(b"nan")),
        }
    }

    /// A string into `self.string`; its quote comes next.
    fn string_token(&mut self) -> Token {
        self.at += 1;
        self.string.clear();
        loop {
            let rest = &self.text[self.at..];
            let plain = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0)).unwrap_or(rest.len());
            self.string.extend_from_slice(&rest[..plain]);
            self.at += plain;
            let escaped = match self.peek(0) {
                b'"' => {
                    self.at += 1;
                    return Token::String;
                }
                b'\\' => match self.peek(1) {
                    same @ (b'"' | b'\\' | b'/') => same,
                    b'b' => 8,
                    b't' => 9,
                    b'n' => 10,
                    b'f' => 12,
                    b'r' => 13,
                    b'u' => {
                        if self.unicode_escape().is_none() {
                            return self.string_error("invalid unicode escape code");
                        }
                        continue;
                    }
                    _ => return self.string_error("invalid escape code"),
                },
                _ => return self.string_error("unexpected end of string"),
            };
            self.string.push(escaped);
            self.at += 2;
        }
    }

    fn string_error(&mut self, what: &'static str) -> Token {
        self.token_at = self.at;
        Token::Error(what)
    }

    /// Reads `\uXXXX`, or two of them that are one character.
    fn unicode_escape(&mut self) -> Option<()> {
        let mut point = self.hex4(2)?;
        let mut used = 6;
        if point & 0xf800 == 0xd800 {
            if point & 0x400 != 0 || self.peek(6) != b'\\' || self.peek(7) != b'u' {
                return None;
            }
            let low = self.hex4(8)?;
            if low & 0xfc00 != 0xdc00 {
                return None;
            }
            point = ((point & 0x3ff) << 10 | low & 0x3ff) + 0x10000;
            used = 12;
        }
        let character = char::from_u32(point)?;
        self.string.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        self.at += used;
        Some(())
    }

    fn hex4(&self, ahead: usize) -> Option<u32> {
        (0..4).try_fold(0, |value, digit| Some(value << 4 | (self.peek(ahead + digit) as char).to_digit(16)?))
    }
}

/// What a token starts.
enum Begun {
    /// A value that has ended.
    Whole(Value),
    /// A table, now open, whose first value starts with this token.
    Inside(Token),
}

/// What became of a value.
enum Put {
    /// There is nothing that it could be in.
    Root(Value),
    /// It was the last one in this table.
    Closed(Table),
    /// Another one follows, which starts with this token.
    Next(Token),
}
