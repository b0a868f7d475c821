//! Random rules of users, on Larder and on redis-server: the same are refused, the same are shown, and they allow the same.
//! Invariant: a run depends on its seed alone, and a difference tells all lines that led to it.

#![forbid(unsafe_code)]

use larder_testkit::client::encode;
use larder_testkit::{Client, Larder, Redis82, available};

/// Users made and asked. Each is some twenty lines.
const USERS: usize = 1000;
/// Command lines tried with each user.
const LINES: usize = 16;

const RULES: &[&str] = &[
    "on",
    "off",
    "nopass",
    "resetpass",
    "reset",
    ">a",
    ">b",
    "<a",
    "<zz",
    "#abc",
    "!abc",
    "",
    "foo",
    "+",
    "-",
    "+@",
    "%",
    "%R",
    "~",
    "&",
    "~*",
    "allkeys",
    "resetkeys",
    "&*",
    "allchannels",
    "resetchannels",
    "+@all",
    "-@all",
    "allcommands",
    "nocommands",
    "+get",
    "-get",
    "+GET",
    "+set",
    "-set",
    "+mget",
    "+config",
    "-config",
    "+config|get",
    "-config|get",
    "+config|set",
    "+Config|Set",
    "+config|nope",
    "+config|",
    "+client|id",
    "-client|id",
    "+nope",
    "-nope",
    "+@read",
    "-@read",
    "+@write",
    "-@write",
    "+@string",
    "-@string",
    "+@slow",
    "-@slow",
    "+@fast",
    "-@fast",
    "+@admin",
    "-@admin",
    "+@dangerous",
    "-@dangerous",
    "+@keyspace",
    "-@keyspace",
    "+@pubsub",
    "-@pubsub",
    "+@connection",
    "+@nope",
    "+select|0",
    "+select|1",
    "-select",
    "+select",
    "+select|0|1",
    "-select|0",
    "+config|get|x",
    "+get|a",
    "~a*",
    "~b",
    "~[ab]1",
    "%R~a*",
    "%W~a*",
    "%RW~b",
    "%wr~c",
    "%R~b",
    "%X~b",
    "%RR~b",
    "~a b",
    "&c*",
    "&d",
    "&[cd]1",
    "& x",
    "(",
    ")",
    "()",
    "(+get",
    "~a*)",
    "(+@all ~a*)",
    "(+get %R~b)",
    "(-@all +set|a)",
    "(~* ~a)",
    "(on)",
    "clearselectors",
    "sanitize-payload",
    "skip-sanitize-payload",
    "+object|freq",
    "-object",
    "+@sortedset",
    "-@sortedset",
    "+zadd",
    "+@stream",
    "+xread",
    "+xreadgroup",
    "+copy",
    "+sort",
    "+bitfield",
    "-bitfield",
    "+publish",
    "+psubscribe",
    "+subscribe",
];

const COMMANDS: &[&str] = &[
    "GET a1",
    "GET b",
    "get c",
    "SET a1 v",
    "SET b v GET",
    "SET b v get",
    "MGET a1 b c",
    "MSET a1 1 b 2",
    "DEL a1 b",
    "EXISTS a1",
    "TYPE b",
    "COPY a1 b",
    "COPY b a1",
    "RENAME a1 b",
    "CONFIG GET x",
    "CONFIG SET x y",
    "CONFIG",
    "CONFIG NOPE",
    "CLIENT ID",
    "CLIENT LIST",
    "SELECT 0",
    "SELECT 1",
    "PING",
    "AUTH x",
    "NOPE",
    "GET",
    "OBJECT FREQ a1",
    "OBJECT HELP",
    "PUBLISH c1 m",
    "PUBLISH d m",
    "SPUBLISH e m",
    "SUBSCRIBE c1 d",
    "PSUBSCRIBE c*",
    "PSUBSCRIBE c1",
    "UNSUBSCRIBE x",
    "SSUBSCRIBE d",
    "BITFIELD a1 GET u8 0",
    "BITFIELD a1 SET u8 0 1",
    "BITFIELD_RO b GET u8 0",
    "SORT a1",
    "SORT a1 BY b* STORE c",
    "SORT a1 STORE b STORE a1",
    "SORT_RO a1 GET #",
    "ZADD a1 1 m",
    "ZUNIONSTORE a1 2 b c",
    "ZUNIONSTORE b x a1",
    "ZUNION 2 a1 b",
    "ZUNION 9 a1 b",
    "ZMPOP 2 a1 b MIN",
    "LMPOP 1 a1 LEFT",
    "SINTERCARD 2 a1 b",
    "LMOVE a1 b LEFT RIGHT",
    "XADD a1 * f v",
    "XREAD COUNT 1 STREAMS a1 b 0 0",
    "XREADGROUP GROUP g c STREAMS a1 >",
    "XGROUP CREATE a1 g 0",
    "XINFO STREAM a1",
    "GEORADIUS a1 0 0 1 km",
    "GEORADIUS a1 0 0 1 km STORE b",
    "GEORADIUS_RO b 0 0 1 km",
    "GEOADD a1 1 1 m",
    "GEOSEARCHSTORE a1 b FROMMEMBER m BYRADIUS 1 km",
    "PFCOUNT a1 b",
    "PFMERGE a1 b",
    "MIGRATE h 1 a1 0 1",
    "MIGRATE h 1 - 0 1 KEYS a1 b",
    "EXPIRE a1 1",
    "TTL a1",
    "PERSIST b",
    "GETEX a1",
    "GETDEL a1",
    "INCR a1",
    "APPEND b x",
    "STRLEN a1",
    "GETRANGE a1 0 1",
    "SETRANGE a1 0 x",
    "HSET a1 f v",
    "HGET b f",
    "SADD a1 m",
    "SMOVE a1 b m",
    "RPOPLPUSH a1 b",
    "BLPOP a1 b 0",
    "BZPOPMIN b 0",
    "BLMPOP 0 1 a1 LEFT",
    "WATCH a1",
    "TOUCH a1 b",
    "DUMP a1",
    "RESTORE a1 0 x",
    "MOVE a1 1",
    "KEYS *",
    "SCAN 0",
    "FLUSHALL",
    "INFO",
    "ACL WHOAMI",
    "ACL LIST",
    "MULTI",
    "EXEC",
    "MEMORY USAGE a1",
    "DEBUG OBJECT a1",
    "LCS a1 b",
    "BITOP AND a1 b c",
    "HRANDFIELD a1",
    "ZRANGESTORE a1 b 0 1",
    "ZDIFFSTORE a1 1 b",
];

/// Numbers from a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }

    fn pick(&mut self, from: &'static [&'static str]) -> &'static str {
        from[self.roll(from.len())]
    }
}

/// The lines about one user: some changes, each followed by what it looks like, and what the user may then.
fn about_a_user(dice: &mut Dice) -> Vec<Vec<&'static str>> {
    let mut lines = vec![vec!["ACL", "DELUSER", "u"]];
    for _ in 0..1 + dice.roll(3) {
        let mut line = vec!["ACL", "SETUSER", "u"];
        // Most rules are refused behind a wrong one: half of the lines are right.
        let is_right = dice.roll(2) == 0;
        for _ in 0..dice.roll(7) {
            let rule = dice.pick(RULES);
            if !is_right || rule.starts_with(['+', '-', '~']) || rule.starts_with("(+") && rule.ends_with(')')
            {
                line.push(rule);
            }
        }
        lines.push(line);
        lines.push(vec!["ACL", "GETUSER", "u"]);
    }
    lines.push(vec!["ACL", "LIST"]);
    for _ in 0..LINES {
        let line = dice.pick(COMMANDS);
        let words = line.split(' ').map(|word| if word == "-" { "" } else { word });
        lines.push(["ACL", "DRYRUN", "u"].into_iter().chain(words).collect());
    }
    lines
}

#[test]
fn random_rules_mean_what_they_mean_in_redis() {
    let Some(redis) = available(Redis82::start()) else { return };
    let larder = Larder::start_with_threads("1").unwrap();
    let seed =
        std::env::var("LARDER_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0x9e37_79b9_7f4a_7c15);
    let mut dice = Dice(seed);
    let connect = |address: &str| Client::connect_with(address, 3).unwrap();
    let (mut ours, mut theirs) = (connect(&larder.address()), connect(&redis.address()));
    for _ in 0..USERS {
        let lines = about_a_user(&mut dice);
        let bytes: Vec<u8> = lines.iter().flat_map(|line| encode(line)).collect();
        let seen = ours.pipeline_raw(&bytes, lines.len()).unwrap();
        let expected = theirs.pipeline_raw(&bytes, lines.len()).unwrap();
        if let Some(at) = (0..lines.len()).find(|at| seen[*at] != expected[*at]) {
            let so_far: Vec<String> = lines[..=at].iter().map(|line| format!("{line:?}\n")).collect();
            panic!("seed {seed}:\n{}redis:  {:?}\nlarder: {:?}", so_far.concat(), expected[at], seen[at]);
        }
    }
}
