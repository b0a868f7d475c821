//! Traces as the output of MONITOR, of Redis, Valkey or Larder, as `redis-cli monitor` prints it.
//!
//! Commands become gets, sets, changes, deletions and times to live of the keys of their database; those that touch no
//! value are passed over. What a get asks for has the size its key was last stored with, or will be stored with, or the
//! mean of those known. A collection is as large as the largest command that stored something in it: of more MONITOR
//! does not tell.
//! Invariant: a line that is none of MONITOR's is an error, but for one that was cut off at the end.

use super::keys::Keys;
use super::trace::{Operation, Request, Trace, TraceError};
use std::io::BufRead;

/// What a command does to the keys it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    /// Reads the value at its first argument.
    Read,
    /// Reads the values of all its arguments.
    ReadAll,
    /// Reads it, and may set when it ends.
    ReadAndExpire,
    /// Reads it and removes it.
    Take,
    /// Reads it and stores another one.
    Swap,
    /// SET, with its options.
    Set,
    /// Stores its second argument.
    SetPlain,
    /// Stores its third argument for as many of these milliseconds as its second says.
    SetFor(u64),
    /// Stores pairs.
    SetPairs,
    /// Changes or adds to the value at its first argument.
    Change,
    /// Removes all its arguments.
    Delete,
    /// Gives it an end: milliseconds of the unit, and whether counted from 1970.
    Expire(u64, bool),
    /// Takes its end away.
    Persist,
    /// Moves the value at the first argument to the second.
    Rename,
    /// Copies the value at the first argument to the second.
    Copy,
    /// Removes all keys of the database.
    FlushDb,
    /// Removes all keys.
    FlushAll,
}

/// The commands on data. In order of their names.
const COMMANDS: &[(&str, Act)] = &[
    ("append", Act::Change),
    ("bitcount", Act::Read),
    ("bitfield", Act::Change),
    ("bitfield_ro", Act::Read),
    ("bitpos", Act::Read),
    ("copy", Act::Copy),
    ("decr", Act::Change),
    ("decrby", Act::Change),
    ("del", Act::Delete),
    ("dump", Act::Read),
    ("exists", Act::ReadAll),
    ("expire", Act::Expire(1000, false)),
    ("expireat", Act::Expire(1000, true)),
    ("flushall", Act::FlushAll),
    ("flushdb", Act::FlushDb),
    ("geoadd", Act::Change),
    ("geodist", Act::Read),
    ("geohash", Act::Read),
    ("geopos", Act::Read),
    ("georadius", Act::Read),
    ("geosearch", Act::Read),
    ("get", Act::Read),
    ("getbit", Act::Read),
    ("getdel", Act::Take),
    ("getex", Act::ReadAndExpire),
    ("getrange", Act::Read),
    ("getset", Act::Swap),
    ("hdel", Act::Change),
    ("hexists", Act::Read),
    ("hget", Act::Read),
    ("hgetall", Act::Read),
    ("hincrby", Act::Change),
    ("hincrbyfloat", Act::Change),
    ("hkeys", Act::Read),
    ("hlen", Act::Read),
    ("hmget", Act::Read),
    ("hmset", Act::Change),
    ("hrandfield", Act::Read),
    ("hscan", Act::Read),
    ("hset", Act::Change),
    ("hsetnx", Act::Change),
    ("hstrlen", Act::Read),
    ("hvals", Act::Read),
    ("incr", Act::Change),
    ("incrby", Act::Change),
    ("incrbyfloat", Act::Change),
    ("lindex", Act::Read),
    ("linsert", Act::Change),
    ("llen", Act::Read),
    ("lpop", Act::Change),
    ("lpos", Act::Read),
    ("lpush", Act::Change),
    ("lpushx", Act::Change),
    ("lrange", Act::Read),
    ("lrem", Act::Change),
    ("lset", Act::Change),
    ("ltrim", Act::Change),
    ("mget", Act::ReadAll),
    ("mset", Act::SetPairs),
    ("msetnx", Act::SetPairs),
    ("persist", Act::Persist),
    ("pexpire", Act::Expire(1, false)),
    ("pexpireat", Act::Expire(1, true)),
    ("pfadd", Act::Change),
    ("pfcount", Act::ReadAll),
    ("psetex", Act::SetFor(1)),
    ("rename", Act::Rename),
    ("renamenx", Act::Rename),
    ("restore", Act::SetFor(1)),
    ("rpop", Act::Change),
    ("rpush", Act::Change),
    ("rpushx", Act::Change),
    ("sadd", Act::Change),
    ("scard", Act::Read),
    ("set", Act::Set),
    ("setbit", Act::Change),
    ("setex", Act::SetFor(1000)),
    ("setnx", Act::SetPlain),
    ("setrange", Act::Change),
    ("sinter", Act::ReadAll),
    ("sismember", Act::Read),
    ("smembers", Act::Read),
    ("smismember", Act::Read),
    ("spop", Act::Change),
    ("srandmember", Act::Read),
    ("srem", Act::Change),
    ("sscan", Act::Read),
    ("strlen", Act::Read),
    ("substr", Act::Read),
    ("sunion", Act::ReadAll),
    ("touch", Act::ReadAll),
    ("unlink", Act::Delete),
    ("xadd", Act::Change),
    ("xlen", Act::Read),
    ("xrange", Act::Read),
    ("xrevrange", Act::Read),
    ("zadd", Act::Change),
    ("zcard", Act::Read),
    ("zcount", Act::Read),
    ("zincrby", Act::Change),
    ("zmscore", Act::Read),
    ("zpopmax", Act::Change),
    ("zpopmin", Act::Change),
    ("zrange", Act::Read),
    ("zrangebylex", Act::Read),
    ("zrangebyscore", Act::Read),
    ("zrank", Act::Read),
    ("zrem", Act::Change),
    ("zrevrange", Act::Read),
    ("zrevrangebyscore", Act::Read),
    ("zrevrank", Act::Read),
    ("zscan", Act::Read),
    ("zscore", Act::Read),
];

fn act_of(name: &[u8]) -> Option<Act> {
    let name = name.to_ascii_lowercase();
    let at = COMMANDS.binary_search_by(|(known, _)| known.as_bytes().cmp(&name)).ok()?;
    COMMANDS.get(at).map(|(_, act)| *act)
}

/// A line, taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    /// Unix milliseconds.
    time_ms: u64,
    db: u32,
    words: Vec<Vec<u8>>,
}

const EXPECTED: &str = "no line of MONITOR, which look like 1700000000.123456 [0 127.0.0.1:50000] \"get\" \"key\"; \
                        take other lines out of the file";

/// Takes a line apart; `None` for those of the client itself.
fn line(text: &[u8]) -> Result<Option<Line>, String> {
    let text = text.trim_ascii();
    let text = text.strip_prefix(b"+").unwrap_or(text);
    if text.is_empty() || text == b"OK" {
        return Ok(None);
    }
    let (time_ms, db, rest) = head(text).ok_or(EXPECTED)?;
    let (mut words, mut rest) = (Vec::new(), rest);
    while let Some(after) = rest.strip_prefix(b"\"") {
        let (word, left) =
            quoted(after).ok_or("a quote that is not closed, or a broken escape behind '\\'")?;
        words.push(word);
        rest = left.strip_prefix(b" ").unwrap_or(left);
    }
    if words.is_empty() || !rest.is_empty() {
        return Err(EXPECTED.to_owned());
    }
    Ok(Some(Line { time_ms, db, words }))
}

/// What stands before the command: the time, the database, and the rest.
fn head(text: &[u8]) -> Option<(u64, u32, &[u8])> {
    let bracket = text.windows(2).position(|pair| pair == b" [")?;
    let time = std::str::from_utf8(text.get(..bracket)?).ok()?;
    let (seconds, micros) = time.split_once('.')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(seconds) || !is_number(micros) {
        return None;
    }
    let millis = format!("{micros:0<3}");
    let millis: u64 = millis.get(..3)?.parse().ok()?;
    let time_ms = seconds.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(millis)?;
    let inside = text.get(bracket + 2..)?;
    let blank = inside.iter().position(|byte| *byte == b' ')?;
    let db = std::str::from_utf8(inside.get(..blank)?).ok()?.parse().ok()?;
    let end = inside.windows(3).position(|three| three == b"] \"")?;
    Some((time_ms, db, inside.get(end + 2..)?))
}

/// A quoted word from behind its first quote, and what follows it.
fn quoted(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut word = Vec::new();
    loop {
        let (first, after) = rest.split_first()?;
        rest = after;
        match first {
            b'"' => return Some((word, rest)),
            b'\\' => {
                let (kind, after) = rest.split_first()?;
                rest = after;
                match kind {
                    b'n' => word.push(b'\n'),
                    b'r' => word.push(b'\r'),
                    b't' => word.push(b'\t'),
                    b'a' => word.push(7),
                    b'b' => word.push(8),
                    b'x' => {
                        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
                        word.push(u8::from_str_radix(digits, 16).ok()?);
                        rest = rest.get(2..)?;
                    }
                    other => word.push(*other),
                }
            }
            other => word.push(*other),
        }
    }
}

/// Whether a text begins with a line of MONITOR.
pub(super) fn is_monitor(text: &[u8]) -> bool {
    let mut lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let first = lines.find(|line| !line.is_empty() && !matches!(*line, b"OK" | b"+OK"));
    // Not even one whole line may fit in what is looked at.
    match first {
        Some(first) => head(first.strip_prefix(b"+").unwrap_or(first)).is_some(),
        None => text.trim_ascii().ends_with(b"OK"),
    }
}

/// Unix milliseconds as a number of seconds to come, rounded up; `None` when that is over.
fn until(end_ms: u64, now_ms: u64) -> Option<u32> {
    let left = end_ms.checked_sub(now_ms).filter(|left| *left > 0)?;
    Some(u32::try_from(left.div_ceil(1000)).unwrap_or(u32::MAX))
}

fn number(text: Option<&Vec<u8>>) -> Option<i64> {
    std::str::from_utf8(text?).ok()?.parse().ok()
}

/// What the options of SET and GETEX say about the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Nothing.
    Untold,
    /// It stays what it was.
    Kept,
    /// There is none.
    Never,
    /// In so many seconds.
    In(u32),
    /// It is over.
    Over,
}

fn end_of(options: &[Vec<u8>], now_ms: u64) -> End {
    let units: [(&[u8], u64, bool); 4] =
        [(b"EX", 1000, false), (b"PX", 1, false), (b"EXAT", 1000, true), (b"PXAT", 1, true)];
    for (at, option) in options.iter().enumerate() {
        if option.eq_ignore_ascii_case(b"KEEPTTL") {
            return End::Kept;
        }
        if option.eq_ignore_ascii_case(b"PERSIST") {
            return End::Never;
        }
        if let Some((_, unit, is_absolute)) =
            units.iter().find(|(word, ..)| option.eq_ignore_ascii_case(word))
        {
            return end(number(options.get(at + 1)), *unit, *is_absolute, now_ms);
        }
    }
    End::Untold
}

fn end(number: Option<i64>, unit: u64, is_absolute: bool, now_ms: u64) -> End {
    let Some(number) = number else { return End::Untold };
    let millis = u64::try_from(number).unwrap_or(0).saturating_mul(unit);
    let at = if is_absolute { millis } else { now_ms.saturating_add(millis) };
    until(at, now_ms).map_or(End::Over, End::In)
}

/// What is known while lines are read.
#[derive(Default)]
struct Reader {
    keys: Keys,
    start_ms: Option<u64>,
    requests: Vec<Request>,
    /// Keys named since the last flush, with their databases.
    named: Vec<(u32, u32)>,
    name: Vec<u8>,
    second: u32,
    db: u32,
}

impl Reader {
    fn number(&mut self, key: &[u8]) -> u32 {
        self.name.clear();
        self.name.extend_from_slice(&self.db.to_be_bytes());
        self.name.extend_from_slice(key);
        self.keys.number(&self.name)
    }

    fn push(&mut self, key: u32, bytes: u32, operation: Operation) {
        if !self.keys.known(key).is_named && operation != Operation::Delete {
            self.named.push((self.db, key));
        }
        self.keys.note(key, bytes);
        let known = self.keys.known(key);
        let (second, ttl_seconds) = (self.second, known.ttl_seconds);
        self.requests.push(Request { key, bytes: known.bytes, second, ttl_seconds, operation });
    }

    fn read(&mut self, key: &[u8]) {
        let key = self.number(key);
        self.push(key, 0, Operation::Get);
    }

    fn delete(&mut self, key: &[u8]) {
        let key = self.number(key);
        self.keys.forget(key);
        self.push(key, 0, Operation::Delete);
        self.keys.forget(key);
    }

    fn set(&mut self, key: &[u8], bytes: usize, end: End) {
        if end == End::Over {
            return self.delete(key);
        }
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let key = self.number(key);
        if end == End::Kept {
            return self.push(key, bytes, Operation::Update);
        }
        self.keys.set_ttl(key, if let End::In(seconds) = end { seconds } else { 0 });
        self.push(key, bytes, Operation::Set);
    }

    fn expire(&mut self, key: &[u8], end: End) {
        match end {
            End::Untold | End::Kept => {}
            End::Over => self.delete(key),
            End::Never | End::In(_) => {
                let key = self.number(key);
                self.keys.set_ttl(key, if let End::In(seconds) = end { seconds } else { 0 });
                self.push(key, 0, Operation::Expire);
            }
        }
    }

    /// Adds to the value at a key, or changes it.
    fn change(&mut self, key: &[u8], arguments: &[Vec<u8>]) {
        // A number that is counted takes eight bytes or less.
        let told = arguments.iter().map(Vec::len).sum::<usize>().max(8).saturating_add(key.len());
        let key = self.number(key);
        let bytes = u32::try_from(told).unwrap_or(u32::MAX).max(self.keys.known(key).bytes);
        self.push(key, bytes, Operation::Update);
    }

    fn flush(&mut self, db: Option<u32>) {
        let named = std::mem::take(&mut self.named);
        for (of, key) in named {
            if db.is_some_and(|db| db != of) {
                self.named.push((of, key));
            } else if self.keys.known(key).is_named {
                self.keys.forget(key);
                self.push(key, 0, Operation::Delete);
                self.keys.forget(key);
            }
        }
    }

    fn rename(&mut self, [from, to]: [&[u8]; 2], is_copy: bool) {
        let old = self.number(from);
        let known = self.keys.known(old);
        if is_copy {
            self.push(old, 0, Operation::Get);
        } else {
            self.delete(from);
        }
        let ttl = known.ttl_seconds;
        self.set(to, known.bytes as usize, if ttl > 0 { End::In(ttl) } else { End::Untold });
    }

    /// False when the command touches no value.
    fn command(&mut self, line: &Line) -> bool {
        let Some((name, arguments)) = line.words.split_first() else { return false };
        let Some(act) = act_of(name) else { return false };
        self.db = line.db;
        let start = *self.start_ms.get_or_insert(line.time_ms);
        self.second = u32::try_from(line.time_ms.saturating_sub(start) / 1000).unwrap_or(u32::MAX);
        match act {
            Act::FlushAll => self.flush(None),
            Act::FlushDb => self.flush(Some(line.db)),
            Act::ReadAll => arguments.iter().for_each(|key| self.read(key)),
            Act::Delete => arguments.iter().for_each(|key| self.delete(key)),
            Act::SetPairs => {
                for pair in arguments.chunks_exact(2) {
                    if let [key, value] = pair {
                        self.set(key, key.len() + value.len(), End::Untold);
                    }
                }
            }
            act => {
                let Some((key, rest)) = arguments.split_first() else { return false };
                self.on_key(act, key, rest, line.time_ms);
            }
        }
        true
    }

    /// A command whose first argument is its key.
    fn on_key(&mut self, act: Act, key: &[u8], rest: &[Vec<u8>], now_ms: u64) {
        let size = |value: Option<&Vec<u8>>| key.len() + value.map_or(0, Vec::len);
        match act {
            Act::ReadAndExpire => {
                self.read(key);
                self.expire(key, end_of(rest, now_ms));
            }
            Act::Take => {
                self.read(key);
                self.delete(key);
            }
            Act::Swap => {
                self.read(key);
                self.set(key, size(rest.first()), End::Untold);
            }
            Act::Set => self.set(key, size(rest.first()), end_of(rest.get(1..).unwrap_or_default(), now_ms)),
            Act::SetPlain => self.set(key, size(rest.first()), End::Untold),
            Act::SetFor(unit) => {
                let number = number(rest.first()).filter(|number| *number > 0);
                self.set(key, size(rest.get(1)), end(number, unit, false, now_ms));
            }
            Act::Change => self.change(key, rest),
            Act::Expire(unit, is_absolute) => {
                self.expire(key, end(number(rest.first()), unit, is_absolute, now_ms));
            }
            Act::Persist => self.expire(key, End::Never),
            Act::Rename | Act::Copy => {
                if let Some(to) = rest.first() {
                    self.rename([key, to], act == Act::Copy);
                }
            }
            // The rest have keys in other places, and are carried out where they are told apart.
            _ => self.read(key),
        }
    }
}

impl Trace {
    /// Reads the output of MONITOR; answers how many of its commands were passed over, too.
    pub fn parse_monitor(mut input: impl BufRead) -> Result<(Trace, u64), TraceError> {
        let (mut reader, mut passed_over) = (Reader::default(), 0);
        let mut text = Vec::new();
        for at in 1.. {
            text.clear();
            if input.read_until(b'\n', &mut text)? == 0 {
                break;
            }
            match line(&text) {
                Ok(None) => {}
                Ok(Some(line)) => passed_over += u64::from(!reader.command(&line)),
                // Whoever stops a MONITOR cuts its last line.
                Err(_) if !text.ends_with(b"\n") => break,
                Err(what) => return Err(TraceError::in_line(at, what)),
            }
        }
        Ok((reader.keys.into_trace(reader.requests), passed_over))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Operation::{Delete, Expire, Get, Set, Update};

    /// Key, second, bytes, time to live and operation of each request.
    fn requests(text: &str) -> Vec<(u32, u32, u32, u32, Operation)> {
        let (trace, _) = Trace::parse_monitor(text.as_bytes()).unwrap();
        trace.requests.iter().map(|r| (r.key, r.second, r.bytes, r.ttl_seconds, r.operation)).collect()
    }

    /// Commands a second apart, as MONITOR shows them.
    fn commands(commands: &[&str]) -> Vec<(u32, u32, u32, u32, Operation)> {
        let line = |(at, command): (usize, &&str)| {
            let words: Vec<String> = command.split(' ').map(|word| format!("\"{word}\"")).collect();
            format!("{}.000000 [0 127.0.0.1:1] {}\n", 1_700_000_000 + at, words.join(" "))
        };
        requests(&commands.iter().enumerate().map(line).collect::<String>())
    }

    #[test]
    fn commands_are_found_by_their_names() {
        assert!(COMMANDS.windows(2).all(|pair| pair[0].0 < pair[1].0), "in order");
        assert_eq!(act_of(b"GETEX"), Some(Act::ReadAndExpire));
        assert_eq!(act_of(b"ping"), None);
    }

    #[test]
    fn lines_become_requests() {
        let text = "+OK\r\n1339518083.107412 [0 127.0.0.1:60866] \"set\" \"a\\x00\\\"b\" \"12345\" \"ex\" \"9\"\r\n\
            1339518084.9 [0 lua] \"GET\" \"a\\x00\\\"b\"\n1339518085.200000 [0 [::1]:1] \"mget\" \"c\" \"d\"\n\
            1339518086.000001 [0 unix:/run/my redis.sock] \"ping\"\n1339518087.1 [0 127.0.0.1:1] \"del\" \"c\"\n\
            1339518087.0 [0 127.0.0.1:1] \"get\" \"cut";
        let expected = [
            (0, 0, 9, 9, Set),
            (0, 1, 9, 9, Get),
            (1, 2, 9, 0, Get),
            (2, 2, 9, 0, Get),
            (1, 3, 0, 0, Delete),
        ];
        assert_eq!(requests(text), expected);
        let (_, passed_over) = Trace::parse_monitor(text.as_bytes()).unwrap();
        assert_eq!(passed_over, 1);
    }

    #[test]
    fn every_escape_is_read() {
        let (word, rest) = quoted(br#"a\\b\"c\n\r\t\a\b\x00\xff" "next""#).unwrap();
        assert_eq!(word, b"a\\b\"c\n\r\t\x07\x08\x00\xff");
        assert_eq!(rest, b" \"next\"");
        for broken in [&b"open"[..], b"\\", b"\\x1\"", b"\\xzz\""] {
            assert_eq!(quoted(broken), None);
        }
    }

    #[test]
    fn keys_of_two_databases_are_two() {
        let text = "1.0 [0 a:1] \"set\" \"k\" \"1\"\n1.0 [7 a:1] \"set\" \"k\" \"1\"\n1.0 [7 a:1] \"flushdb\"\n1.0 [0 a:1] \"flushall\"\n";
        let expected = [(0, 0, 2, 0, Set), (1, 0, 2, 0, Set), (1, 0, 2, 0, Delete), (0, 0, 2, 0, Delete)];
        assert_eq!(requests(text), expected);
    }

    #[test]
    fn options_set_ends() {
        let expected = [
            (0, 0, 4, 60, Set),
            (0, 1, 4, 2, Set),
            (0, 2, 4, 98, Set),
            (0, 3, 5, 98, Update),
            (0, 4, 5, 98, Get),
            (0, 5, 5, 98, Get),
            (0, 5, 5, 7, Expire),
            (0, 6, 5, 7, Get),
            (0, 6, 5, 0, Expire),
            (0, 7, 4, 30, Set),
            (0, 8, 4, 0, Set),
            (0, 9, 4, 5, Expire),
            (0, 10, 4, 0, Expire),
            (0, 11, 4, 0, Delete),
            (0, 12, 4, 0, Delete),
        ];
        let seen = commands(&[
            "SET key 1 EX 60",
            "set key 1 nx px 1500 get",
            "set key 1 exat 1700000100",
            "set key 22 keepttl",
            "get key",
            "getex key px 7000",
            "getex key persist",
            "setex key 30 1",
            "set key 1",
            "pexpire key 4001",
            "persist key",
            "expireat key 1",
            "set key 1 pxat 5",
        ]);
        assert_eq!(seen, expected);
    }

    #[test]
    fn collections_and_counters_keep_their_ends_and_their_largest_size() {
        let expected = [
            (0, 0, 9, 0, Update),
            (0, 1, 9, 60, Expire),
            (0, 2, 9, 60, Update),
            (1, 3, 22, 0, Update),
            (1, 4, 22, 0, Update),
            (1, 5, 22, 0, Get),
        ];
        let seen = commands(&[
            "incr c",
            "expire c 60",
            "incr c",
            "hset h field valuevaluevalue1",
            "hset h f v",
            "hgetall h",
        ]);
        assert_eq!(seen, expected);
    }

    #[test]
    fn values_move_with_their_sizes() {
        let expected = [
            (0, 0, 9, 0, Set),
            (0, 1, 9, 0, Delete),
            (1, 1, 9, 0, Set),
            (1, 2, 9, 0, Get),
            (2, 2, 9, 0, Set),
            (2, 3, 9, 0, Get),
            (2, 3, 9, 0, Delete),
            (1, 4, 9, 0, Get),
            (1, 4, 2, 0, Set),
            (3, 5, 3, 0, Set),
            (4, 5, 4, 0, Set),
        ];
        let seen = commands(&[
            "set a 12345678",
            "rename a b",
            "copy b c",
            "getdel c",
            "getset b 1",
            "mset d 12 e 123 odd",
        ]);
        assert_eq!(seen, expected);
    }

    #[test]
    fn unknown_sizes_are_those_to_come_or_the_mean() {
        let expected = [(0, 0, 3, 0, Get), (1, 1, 4, 0, Get), (2, 2, 5, 0, Set), (0, 3, 3, 0, Set)];
        assert_eq!(commands(&["get a", "get b", "set c 1234", "set a 12"]), expected);
    }

    #[test]
    fn what_is_no_line_is_named() {
        for text in [
            "1.0 [0 a:1] \"get\" \"k\"\nhello\n",
            "OK\n1.0 [0 a:1] get k\n",
            "OK\n1.0 [x a:1] \"get\" \"k\"\n",
            "OK\n-1.0 [0 a:1] \"get\" \"k\"\n",
            "OK\n1.0 [0 a:1] \"get\" \"k\" more\n",
            "OK\n1.0 [0 a:1] \"get\" \"k\n",
        ] {
            let error = Trace::parse_monitor(text.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("line 2: "), "{error}");
        }
    }

    #[test]
    fn a_monitor_is_told_from_other_texts() {
        assert!(
            is_monitor(b"OK\n1.0 [0 a:1] \"get\" \"k\"\n") && is_monitor(b"\n1.0 [0 a:1] \"get\" \"long")
        );
        assert!(is_monitor(b"OK\n"));
        assert!(!is_monitor(b"time,key\n1,k\n") && !is_monitor(b"1.0,[k] \"x\"\n") && !is_monitor(b""));
    }
}
