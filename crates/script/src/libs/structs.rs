//! `struct`: numbers and strings in C's layouts, as a format says.
//!
//! Invariant: sizes are those of the 64-bit C of Redis' usual builds. Nothing is read outside of
//! the data, and padding is at most an element's size.

use super::number;
use super::{Args, Failure, Library, OutputMax, Results};
use mlua::{Lua, Value};

/// The most bytes of an integer.
const INTEGER_BYTES_MAX: usize = 32;

/// What `!` without a number aligns to.
const ALIGN_DEFAULT: i32 = 8;

/// Results that fit on Lua's stack beside the arguments.
const LUA_STACK_MAX: usize = 8000;

/// Puts `struct` into the globals.
pub fn install(lua: &Lua) -> mlua::Result<()> {
    let library = Library::new(lua)?;
    library.function("pack", |lua, args| Ok(lua.create_string(pack(args, OutputMax::of(lua))?)?))?;
    library.function_of_many("unpack", unpack)?;
    library.function("size", |_, args| size(args))?;
    lua.globals().raw_set("struct", library.into_table())
}

/// A format that is read from the left, with what it has set so far.
struct Format<'a> {
    rest: &'a [u8],
    big_endian: bool,
    align: usize,
}

/// One letter of a format, and the bytes that its element takes.
struct Item {
    letter: u8,
    size: usize,
}

impl<'a> Format<'a> {
    /// A format up to its first NUL byte, as a C string's.
    fn new(text: &'a [u8]) -> Format<'a> {
        let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
        Format { rest: &text[..end], big_endian: cfg!(target_endian = "big"), align: 1 }
    }

    fn next(&mut self) -> Result<Option<Item>, Failure> {
        let Some((&letter, rest)) = self.rest.split_first() else { return Ok(None) };
        self.rest = rest;
        let size = match letter {
            b'B' | b'b' | b'x' => 1,
            b'H' | b'h' => 2,
            b'L' | b'l' | b'T' | b'd' => 8,
            b'f' => 4,
            b'c' => self.number(1)? as usize,
            b'i' | b'I' => {
                let size = self.number(4)? as usize;
                if size > INTEGER_BYTES_MAX {
                    return Err(Failure::message(format!(
                        "integral size {size} is larger than limit of {INTEGER_BYTES_MAX}"
                    )));
                }
                size
            }
            _ => 0,
        };
        Ok(Some(Item { letter, size }))
    }

    /// The number that follows, or `default`.
    fn number(&mut self, default: i32) -> Result<i32, Failure> {
        let digits = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return Ok(default);
        }
        let (digits, rest) = self.rest.split_at(digits);
        self.rest = rest;
        digits
            .iter()
            .try_fold(0_i32, |value, digit| value.checked_mul(10)?.checked_add(i32::from(digit - b'0')))
            .ok_or_else(|| Failure::message("integral size overflow"))
    }

    /// Bytes in front of an element that starts at `position` or later.
    fn padding(&self, position: usize, item: &Item) -> usize {
        if item.size == 0 || item.letter == b'c' {
            return 0;
        }
        let size = item.size.min(self.align);
        (size - (position & (size - 1))) & (size - 1)
    }

    /// What a letter sets that stands for no element.
    fn control(&mut self, letter: u8) -> Result<(), Failure> {
        match letter {
            b' ' => {}
            b'>' => self.big_endian = true,
            b'<' => self.big_endian = false,
            b'!' => {
                let align = self.number(ALIGN_DEFAULT)?;
                if align <= 0 || !(align as u32).is_power_of_two() {
                    return Err(Failure::message(format!("alignment {align} is not a power of 2")));
                }
                self.align = align as usize;
            }
            other => {
                return Err(Failure::argument(1, [b"invalid format option '", &[other][..], b"'"].concat()));
            }
        }
        Ok(())
    }

    /// Bytes of a number, which are the processor's, in the order that is set, and back.
    fn ordered<const N: usize>(&self, mut bytes: [u8; N]) -> [u8; N] {
        if self.big_endian != cfg!(target_endian = "big") {
            bytes.reverse();
        }
        bytes
    }
}

fn pack(args: Args<'_>, max: OutputMax) -> Result<Vec<u8>, Failure> {
    args.string(1)?.with(|text| {
        let mut format = Format::new(text);
        let mut out = Vec::new();
        let mut number = 1;
        // An argument that is missing is nil: there is a nil behind the last one.
        let missing = |number: usize, expected: &str| match args.get(number) {
            None => Err(Failure::argument(number, format!("{expected} expected, got nil"))),
            Some(_) => Ok(()),
        };
        while let Some(item) = format.next()? {
            out.resize(out.len() + format.padding(out.len(), &item), 0);
            max.check(out.len())?;
            match item.letter {
                b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                    number += 1;
                    missing(number, "number")?;
                    push_integer(&mut out, to_unsigned(args.number(number)?), item.size, format.big_endian);
                }
                b'x' => out.push(0),
                b'f' => {
                    number += 1;
                    missing(number, "number")?;
                    out.extend_from_slice(&format.ordered((args.number(number)? as f32).to_ne_bytes()));
                }
                b'd' => {
                    number += 1;
                    missing(number, "number")?;
                    out.extend_from_slice(&format.ordered(args.number(number)?.to_ne_bytes()));
                }
                b'c' | b's' => {
                    number += 1;
                    missing(number, "string")?;
                    args.string(number)?.with(|text| {
                        let size = if item.size == 0 { text.len() } else { item.size };
                        let text = text.get(..size);
                        // The argument behind it is blamed, as Redis does.
                        let short = || Failure::argument(number + 1, "string too short");
                        out.extend_from_slice(text.ok_or_else(short)?);
                        Ok::<(), Failure>(())
                    })?;
                    if item.letter == b's' {
                        out.push(0);
                    }
                }
                letter => format.control(letter)?,
            }
        }
        Ok(out)
    })
}

/// A number's bits as an unsigned integer, as C's casts give them.
fn to_unsigned(value: f64) -> u64 {
    const TOP: f64 = (1_u64 << 63) as f64;
    if value >= TOP {
        (number::to_integer(value - TOP) as u64) ^ (1 << 63)
    } else {
        number::to_integer(value) as u64
    }
}

fn push_integer(out: &mut Vec<u8>, value: u64, size: usize, big_endian: bool) {
    let start = out.len();
    out.extend((0..size).map(|index| if index < 8 { (value >> (8 * index)) as u8 } else { 0 }));
    if big_endian {
        out[start..].reverse();
    }
}

fn unpack<'l>(lua: &'l Lua, args: Args<'_>) -> Result<Results<'l>, Failure> {
    let (format, data) = (args.string(1)?, args.string(2)?);
    let position = args.integer_or(3, 1)? as u64 as usize;
    if position == 0 {
        return Err(Failure::argument(3, "offset must be 1 or greater"));
    }
    format.with(|format| {
        data.with(|data| unpack_from(lua, Format::new(format), data, position - 1, args.len()))
    })
}

fn unpack_from<'l>(
    lua: &'l Lua,
    mut format: Format<'_>,
    data: &[u8],
    mut position: usize,
    arguments: usize,
) -> Result<Results<'l>, Failure> {
    let short = || Failure::argument(2, "data string too short");
    let mut values = Results::new(lua);
    while let Some(item) = format.next()? {
        position = position.wrapping_add(format.padding(position, &item));
        let rest = data.get(position..).ok_or_else(short)?;
        let element = rest.get(..item.size).ok_or_else(short)?;
        if arguments + values.len() + 2 > LUA_STACK_MAX {
            return Err(Failure::message("stack overflow (too many results)"));
        }
        let mut used = item.size;
        match item.letter {
            letter @ (b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I') => {
                values.push(Value::Number(integer(
                    element,
                    format.big_endian,
                    letter.is_ascii_lowercase(),
                )))?;
            }
            b'x' => {}
            b'f' => {
                let bytes = *element.first_chunk().ok_or_else(short)?;
                values.push(Value::Number(f64::from(f32::from_ne_bytes(format.ordered(bytes)))))?;
            }
            b'd' => {
                let bytes = *element.first_chunk().ok_or_else(short)?;
                values.push(Value::Number(f64::from_ne_bytes(format.ordered(bytes))))?;
            }
            b'c' if item.size > 0 => values.push(Value::String(lua.create_string(element)?))?,
            b'c' => {
                let size = values.pop()?.as_ref().and_then(number::to_number);
                let size = size.ok_or_else(|| Failure::message("format 'c0' needs a previous size"))?;
                used = usize::try_from(to_unsigned(size)).map_err(|_| short())?;
                values.push(Value::String(lua.create_string(rest.get(..used).ok_or_else(short)?)?))?;
            }
            b's' => {
                let end = rest.iter().position(|byte| *byte == 0);
                let end = end.ok_or_else(|| Failure::message("unfinished string in data"))?;
                values.push(Value::String(lua.create_string(&rest[..end])?))?;
                used = end + 1;
            }
            letter => format.control(letter)?,
        }
        position += used;
    }
    values.push(Value::Integer(position as i64 + 1))?;
    Ok(values)
}

/// An integer of any size; the lowest eight bytes count.
fn integer(bytes: &[u8], big_endian: bool, signed: bool) -> f64 {
    let push = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
    let value = if big_endian { bytes.iter().fold(0, push) } else { bytes.iter().rev().fold(0, push) };
    if !signed {
        return value as f64;
    }
    let mask = u64::MAX.wrapping_shl((bytes.len() as u32 * 8).wrapping_sub(1));
    (if value & mask == 0 { value } else { value | mask }) as i64 as f64
}

fn size(args: Args<'_>) -> Result<i64, Failure> {
    args.string(1)?.with(|text| {
        let mut format = Format::new(text);
        let mut position = 0_usize;
        while let Some(item) = format.next()? {
            position = position.wrapping_add(format.padding(position, &item));
            match item.letter {
                b's' => return Err(Failure::argument(1, "option 's' has no fixed size")),
                b'c' if item.size == 0 => {
                    return Err(Failure::argument(1, "option 'c0' has no fixed size"));
                }
                letter if !letter.is_ascii_alphanumeric() => format.control(letter)?,
                _ => {}
            }
            position = position.wrapping_add(item.size);
        }
        Ok(position as i64)
    })
}
