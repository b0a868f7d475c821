//! Replies become Lua values and Lua values become replies, as Redis' scripts have it.
//!
//! | reply | in Lua |
//! |---|---|
//! | `:1` | number |
//! | bulk string | string |
//! | array | table of its elements |
//! | `+OK` | `{ok='OK'}` |
//! | `-ERR ...` | `{err='ERR ...', ignore_error_stats_update=true}` |
//! | null of RESP2 | false |
//! | null of RESP3 | nil |
//! | map, set, double, big number, verbatim string | a table with one field of that name |
//! | `#t` | boolean |

use larder_resp::Reply;
use larder_values::number;
use mlua::{Lua, LuaString, Table, Value};

/// Tables within tables: deeper ones end in an error, as where Redis' Lua stack ends.
const DEPTH_MAX: usize = 7995;
/// After so many elements of a reply it is asked whether the script goes on.
const STEPS: u32 = 4096;
/// Whole numbers of at least this size do not fit 64 bits.
const WHOLE_MAX: f64 = 9_223_372_036_854_775_808.0;

/// Reads one reply of our own making as a Lua value. `at` is where it starts, and where it ends afterwards.
pub(crate) fn read_reply(lua: &Lua, names: &Names, reply: &[u8], at: &mut usize) -> mlua::Result<Value> {
    let Some((kind, line)) = take_line(reply, at) else { return Ok(Value::Nil) };
    Ok(match kind {
        b':' => Value::Number(number::parse_i64(line).unwrap_or(0) as f64),
        b'$' => match take_bytes(reply, at, line) {
            Some(bytes) => Value::String(lua.create_string(bytes)?),
            None => Value::Boolean(false),
        },
        b'+' => field(lua, &names.ok, lua.create_string(line)?)?,
        b'-' => error_table(lua, names, line, true)?,
        b'*' | b'>' => match length(line) {
            Some(len) => read_array(lua, names, reply, at, len)?,
            None => Value::Boolean(false),
        },
        b'%' => {
            let map = lua.create_table()?;
            for _ in 0..length(line).unwrap_or(0) {
                let key = read_reply(lua, names, reply, at)?;
                map.raw_set(key, read_reply(lua, names, reply, at)?)?;
            }
            field(lua, &names.map, map)?
        }
        b'~' => {
            let set = lua.create_table()?;
            for _ in 0..length(line).unwrap_or(0) {
                set.raw_set(read_reply(lua, names, reply, at)?, true)?;
            }
            field(lua, &names.set, set)?
        }
        b'|' => {
            for _ in 0..2 * length(line).unwrap_or(0) {
                read_reply(lua, names, reply, at)?;
            }
            read_reply(lua, names, reply, at)?
        }
        b'#' => Value::Boolean(line == b"t"),
        b',' => field(lua, &names.double, parse_double(line))?,
        b'(' => field(lua, &names.big_number, lua.create_string(line)?)?,
        b'=' => {
            let bytes = take_bytes(reply, at, line).unwrap_or_default();
            let text = lua.create_table()?;
            text.raw_set("format", lua.create_string(bytes.get(..3).unwrap_or_default())?)?;
            text.raw_set("string", lua.create_string(bytes.get(4..).unwrap_or_default())?)?;
            field(lua, &names.verbatim_string, text)?
        }
        // The null of RESP3.
        _ => Value::Nil,
    })
}

fn read_array(lua: &Lua, names: &Names, reply: &[u8], at: &mut usize, len: usize) -> mlua::Result<Value> {
    let array = lua.create_table_with_capacity(len, 0)?;
    for index in 1..=len {
        array.raw_set(index as i64, read_reply(lua, names, reply, at)?)?;
    }
    Ok(Value::Table(array))
}

/// The table that an error is. Whether it has been `counted` among the errors of the server already.
pub(crate) fn error_table(lua: &Lua, names: &Names, text: &[u8], counted: bool) -> mlua::Result<Value> {
    let table = lua.create_table_with_capacity(0, 2)?;
    table.raw_set(&names.err, lua.create_string(text)?)?;
    if counted {
        table.raw_set(&names.is_counted, true)?;
    }
    Ok(Value::Table(table))
}

fn field(lua: &Lua, name: &LuaString, value: impl mlua::IntoLua) -> mlua::Result<Value> {
    let table = lua.create_table_with_capacity(0, 1)?;
    table.raw_set(name, value)?;
    Ok(Value::Table(table))
}

fn parse_double(text: &[u8]) -> f64 {
    match text {
        b"nan" => f64::NAN,
        _ => number::parse_f64(text).unwrap_or(0.0),
    }
}

/// The type of the reply at `at` and the rest of its first line.
fn take_line<'r>(reply: &'r [u8], at: &mut usize) -> Option<(u8, &'r [u8])> {
    let rest = reply.get(*at..)?;
    let end = rest.iter().position(|byte| *byte == b'\r')?;
    *at += end + 2;
    Some((*rest.first()?, rest.get(1..end)?))
}

/// The bytes that follow a line with their number; `None` where the number is -1.
fn take_bytes<'r>(reply: &'r [u8], at: &mut usize, line: &[u8]) -> Option<&'r [u8]> {
    let len = length(line)?;
    let bytes = reply.get(*at..*at + len)?;
    *at += len + 2;
    Some(bytes)
}

fn length(line: &[u8]) -> Option<usize> {
    match line {
        [digit @ b'0'..=b'9'] => Some(usize::from(digit - b'0')),
        _ => number::parse_i64(line).and_then(|len| usize::try_from(len).ok()),
    }
}

/// Appends a number as an argument of a command.
pub(crate) fn write_number(out: &mut Vec<u8>, value: f64) {
    let whole = value as i64;
    // Redis writes a whole number as one up to here, and beyond by the fewest digits that tell it from its neighbours.
    if whole as f64 == value && value.abs() <= WHOLE_MAX / 2.0 {
        number::write_i64(out, whole);
    } else if value.is_nan() {
        out.extend_from_slice(if value.is_sign_negative() { b"-nan" } else { b"nan" });
    } else {
        number::write_f64_shortest(out, value);
    }
}

/// Names as Lua has them: of fields that say what a table stands for.
pub(crate) struct Names {
    err: LuaString,
    ok: LuaString,
    double: LuaString,
    map: LuaString,
    set: LuaString,
    big_number: LuaString,
    verbatim_string: LuaString,
    is_counted: LuaString,
}

impl Names {
    /// The names in a state.
    pub(crate) fn new(lua: &Lua) -> mlua::Result<Names> {
        Ok(Names {
            err: lua.create_string("err")?,
            ok: lua.create_string("ok")?,
            double: lua.create_string("double")?,
            map: lua.create_string("map")?,
            set: lua.create_string("set")?,
            big_number: lua.create_string("big_number")?,
            verbatim_string: lua.create_string("verbatim_string")?,
            is_counted: lua.create_string("ignore_error_stats_update")?,
        })
    }
}

/// How far a table has been written: elements done, elements in all.
struct Open(usize, usize);

/// Bounds of a reply: small tables that are in each other in many places are large as a reply.
pub(crate) struct Bounds<'a> {
    /// The most bytes.
    pub(crate) bytes_max: usize,
    /// Told how it goes; an error ends it.
    pub(crate) tell: &'a mut dyn FnMut(Told<'_>) -> mlua::Result<()>,
}

/// What is told while a reply is written.
pub(crate) enum Told<'t> {
    /// [`STEPS`] elements more are written.
    Further,
    /// An error is.
    Error {
        /// Its text.
        text: &'t [u8],
        /// Whether it has been counted among the errors of the server already.
        is_counted: bool,
    },
}

/// Writes what a script returned as a reply. `resp3`: the script asked for RESP3.
///
/// It goes along by a stack of its own, since a table may hold itself; and the tables that have been begun lie in a table of Lua,
/// since few values can be held from outside at a time. Where it ends in an error something may have been written.
pub(crate) fn write_value(
    lua: &Lua,
    reply: &mut Reply<'_>,
    names: &Names,
    value: Value,
    resp3: bool,
    bounds: &mut Bounds<'_>,
) -> mlua::Result<()> {
    let Some(mut table) = write_or_begin(lua, reply, names, value, resp3, bounds)? else { return Ok(()) };
    let outer = lua.create_table()?;
    let mut open = vec![Open(0, table.len)];
    let (before, mut steps) = (reply.output().bytes_mut().len(), 0u32);
    while let Some(Open(done, all)) = open.last_mut() {
        steps = steps.wrapping_add(1);
        if reply.output().bytes_mut().len() - before > bounds.bytes_max {
            return Err(mlua::Error::MemoryError("not enough memory".into()));
        } else if steps.is_multiple_of(STEPS) {
            (bounds.tell)(Told::Further)?;
        }
        if done == all {
            open.pop();
            if !open.is_empty() {
                table.elements = outer.raw_get(open.len() as i64)?;
            }
            continue;
        }
        *done += 1;
        let value: Value = table.elements.raw_get(*done as i64)?;
        if open.len() >= DEPTH_MAX && value.is_table() {
            write_error(reply, b"ERR reached lua stack limit", false, bounds)?;
        } else if let Some(inner) = write_or_begin(lua, reply, names, value, resp3, bounds)? {
            outer.raw_set(open.len() as i64, &table.elements)?;
            open.push(Open(0, inner.len));
            table = inner;
        }
    }
    Ok(())
}

/// A table whose header has been written: what follows, in order.
struct Begun {
    elements: Table,
    len: usize,
}

/// Writes a value that is one reply, or the beginning of one that is many.
fn write_or_begin(
    lua: &Lua,
    reply: &mut Reply<'_>,
    names: &Names,
    value: Value,
    resp3: bool,
    bounds: &mut Bounds<'_>,
) -> mlua::Result<Option<Begun>> {
    match value {
        Value::String(text) => reply.bulk(&text.as_bytes()),
        Value::Boolean(truth) if resp3 => reply.boolean(truth),
        Value::Boolean(true) => reply.integer(1),
        Value::Integer(number) => reply.integer(number),
        Value::Number(number) => reply.integer(truncated(number)),
        Value::Table(table) => return begin_table(lua, reply, names, table, bounds),
        _ => reply.null(),
    }
    Ok(None)
}

fn begin_table(
    lua: &Lua,
    reply: &mut Reply<'_>,
    names: &Names,
    table: Table,
    bounds: &mut Bounds<'_>,
) -> mlua::Result<Option<Begun>> {
    if let Value::String(text) = table.raw_get(&names.err)? {
        let is_counted = table.raw_get::<Option<bool>>(&names.is_counted)?.unwrap_or(false);
        write_error(reply, until_nul(&text.as_bytes()), is_counted, bounds)?;
    } else if let Value::String(text) = table.raw_get(&names.ok)? {
        let text = one_line(until_nul(&text.as_bytes()));
        [&b"+"[..], &text, b"\r\n"].iter().for_each(|part| reply.raw(part));
    } else if let Some(number) = as_number(&table.raw_get(&names.double)?) {
        let mut text = Vec::new();
        number::write_f64(&mut text, number);
        reply.double_text(&text);
    } else if let Value::Table(map) = table.raw_get(&names.map)? {
        let (elements, pairs) = flat(lua, &map, true)?;
        reply.map(pairs);
        return Ok(Some(Begun { elements, len: 2 * pairs }));
    } else if let Value::Table(set) = table.raw_get(&names.set)? {
        let (elements, members) = flat(lua, &set, false)?;
        reply.set(members);
        return Ok(Some(Begun { elements, len: members }));
    } else if let Value::String(text) = table.raw_get(&names.big_number)? {
        reply.big_number(&one_line(&text.as_bytes()));
    } else if let Some((format, text)) = verbatim(table.raw_get(&names.verbatim_string)?)? {
        let mut three = [b' '; 3];
        three.iter_mut().zip(format.as_bytes().iter()).for_each(|(to, from)| *to = *from);
        reply.verbatim(&three, &text.as_bytes());
    } else {
        let len = elements(&table)?;
        reply.array(len);
        return Ok(Some(Begun { elements: table, len }));
    }
    Ok(None)
}

fn write_error(
    reply: &mut Reply<'_>,
    text: &[u8],
    is_counted: bool,
    bounds: &mut Bounds<'_>,
) -> mlua::Result<()> {
    reply.error(text);
    (bounds.tell)(Told::Error { text, is_counted })
}

/// The keys of a table as elements of another, each followed by its value where `with_values`; and how many keys there are.
fn flat(lua: &Lua, table: &Table, with_values: bool) -> mlua::Result<(Table, usize)> {
    let (elements, mut at) = (lua.create_table()?, 0i64);
    let mut count = 0;
    table.for_each(|key: Value, value: Value| {
        at += 1;
        elements.raw_set(at, key)?;
        if with_values {
            at += 1;
            elements.raw_set(at, value)?;
        }
        count += 1;
        Ok(())
    })?;
    Ok((elements, count))
}

fn verbatim(value: Value) -> mlua::Result<Option<(LuaString, LuaString)>> {
    let Value::Table(table) = value else { return Ok(None) };
    Ok(match (table.raw_get("format")?, table.raw_get("string")?) {
        (Value::String(format), Value::String(text)) => Some((format, text)),
        _ => None,
    })
}

/// How many elements a table has before its first nil.
fn elements(table: &Table) -> mlua::Result<usize> {
    // A length that Lua finds is one end of the elements; there may be an earlier one.
    let end = table.raw_len();
    for index in 1..end {
        if table.raw_get::<Value>(index as i64)?.is_nil() {
            return Ok(index - 1);
        }
    }
    Ok(end)
}

fn as_number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => Some(*number),
        Value::Integer(number) => Some(*number as f64),
        _ => None,
    }
}

/// A number as C makes an integer of it: towards zero, and the least where none fits.
fn truncated(number: f64) -> i64 {
    if (-WHOLE_MAX..WHOLE_MAX).contains(&number) { number as i64 } else { i64::MIN }
}

/// A text as a string of C has it, where Redis takes it for one.
pub(crate) fn until_nul(text: &[u8]) -> &[u8] {
    text.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn one_line(text: &[u8]) -> Vec<u8> {
    text.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_resp::{Output, Protocol};

    fn bounds(tell: &mut dyn FnMut(Told<'_>) -> mlua::Result<()>) -> Bounds<'_> {
        Bounds { bytes_max: 1 << 20, tell }
    }

    fn round(lua: &Lua, reply: &str, resp3: bool) -> String {
        let names = Names::new(lua).unwrap();
        let value = read_reply(lua, &names, reply.as_bytes(), &mut 0).unwrap();
        let mut out = Output::default();
        let reply = &mut Reply::new(&mut out, Protocol::Resp3);
        write_value(lua, reply, &names, value, resp3, &mut bounds(&mut |_| Ok(()))).unwrap();
        String::from_utf8(out.to_vec()).unwrap()
    }

    fn written(lua: &Lua, script: &str, protocol: Protocol) -> String {
        let value: Value = lua.load(script).eval().unwrap();
        let mut out = Output::default();
        let names = Names::new(lua).unwrap();
        let reply = &mut Reply::new(&mut out, protocol);
        write_value(lua, reply, &names, value, false, &mut bounds(&mut |_| Ok(()))).unwrap();
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn replies_come_back_as_they_were() {
        let lua = Lua::new();
        for reply in [
            ":12\r\n",
            "$3\r\na\r\n\r\n",
            "+OK\r\n",
            "-ERR no\r\n",
            "*2\r\n:1\r\n*1\r\n$0\r\n\r\n",
            "%1\r\n$1\r\na\r\n:1\r\n",
            "~1\r\n$1\r\na\r\n",
            ",1.5\r\n",
            ",inf\r\n",
            "(123\r\n",
            "=6\r\ntxt:hi\r\n",
            "#t\r\n",
            "#f\r\n",
            "_\r\n",
        ] {
            assert_eq!(round(&lua, reply, true), reply);
        }
        assert_eq!(round(&lua, "$-1\r\n", true), "#f\r\n");
        assert_eq!(round(&lua, "*-1\r\n", false), "_\r\n");
        assert_eq!(round(&lua, "#t\r\n", false), ":1\r\n");
    }

    #[test]
    fn a_table_ends_at_its_first_nil() {
        let lua = Lua::new();
        assert_eq!(written(&lua, "{1, 2, nil, 4}", Protocol::Resp2), "*2\r\n:1\r\n:2\r\n");
        assert_eq!(written(&lua, "{nil, 2}", Protocol::Resp2), "*0\r\n");
        assert_eq!(written(&lua, "{}", Protocol::Resp2), "*0\r\n");
    }

    #[test]
    fn a_table_within_itself_ends_in_an_error() {
        let lua = Lua::new();
        let text = written(&lua, "(function() local t = {} t[1] = t return t end)()", Protocol::Resp2);
        assert_eq!(text.len(), 32010);
        assert!(text.ends_with("-ERR reached lua stack limit\r\n"));
    }

    #[test]
    fn numbers_become_whole_and_arguments_stay_exact() {
        let lua = Lua::new();
        for (script, reply) in [
            ("3.99", ":3"),
            ("-3.99", ":-3"),
            ("1e300", ":-9223372036854775808"),
            ("0/0", ":-9223372036854775808"),
        ] {
            assert_eq!(written(&lua, script, Protocol::Resp2), format!("{reply}\r\n"));
        }
        let argument = |value: f64| {
            let mut out = Vec::new();
            write_number(&mut out, value);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(argument(3.0), "3");
        assert_eq!(argument(-0.0), "0");
        assert_eq!(argument(0.1), "0.1");
        assert_eq!(argument(1e20), "1e+20");
        assert_eq!(argument(1e-7), "1e-7");
        assert_eq!(argument(123_456_789_012_345_680_000.0), "123456789012345680000");
        assert_eq!(argument(f64::INFINITY), "inf");
        assert_eq!(argument(9_007_199_254_740_992.0), "9007199254740992");
    }
}
