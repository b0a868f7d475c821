//! Commands on streams. Their grammar in COMMAND DOCS does not tell that ids must grow, and most random words
//! are refused, so they are made by hand: few ids that meet, and all options.
//! Invariant: nothing waits for long.

use super::Request;
use super::random::Random;
use super::values;

const KEYS: [&str; 4] = ["e", "e", "a", "b"];
const GROUPS: [&str; 3] = ["g", "g", "h"];
const CONSUMERS: [&str; 3] = ["x", "y", "z"];
/// Texts that are an id, a special one, or none.
const WORDS_FOR_IDS: [&str; 16] = [
    "0",
    "1",
    "5",
    "0-0",
    "-",
    "+",
    "$",
    ">",
    "x",
    "",
    "1-*",
    "(1-1",
    "(3",
    "1-1-1",
    "007-01",
    "18446744073709551615-18446744073709551615",
];
/// The furthest a time jumps, by which ids are written in one byte, two, or more.
const STEPS: [usize; 5] = [0, 1, 2, 300, 70_000];

/// A request being written.
struct Words<'r>(Request, &'r mut Random);

impl Words<'_> {
    fn one(&mut self, words: &[&str]) -> &mut Self {
        let word = self.1.pick(words).as_bytes().to_vec();
        self.0.push(word);
        self
    }

    /// Words of which some are none, and some several with blanks between.
    fn any(&mut self, lines: &[&str]) -> &mut Self {
        let line = *self.1.pick(lines);
        self.0.extend(line.split_whitespace().map(|word| word.as_bytes().to_vec()));
        self
    }

    fn number(&mut self, below: usize) -> &mut Self {
        let number = self.1.below(below);
        self.0.push(number.to_string().into_bytes());
        self
    }

    fn id(&mut self) -> &mut Self {
        if self.1.one_in(8) {
            return self.one(&WORDS_FOR_IDS);
        }
        let ms = self.1.below(6);
        let id = format!("{}-{}", ms + self.1.pick(&STEPS), self.1.below(4));
        self.0.push(id.into_bytes());
        self
    }

    fn ids(&mut self) -> &mut Self {
        for _ in 0..1 + self.1.below(3) {
            self.id();
        }
        self
    }

    /// `IDS numids id ...`, mostly with the right number.
    fn counted_ids(&mut self) -> &mut Self {
        let count = 1 + self.1.below(3);
        let told = if self.1.one_in(12) { self.1.below(4) } else { count };
        self.0.extend([b"IDS".to_vec(), told.to_string().into_bytes()]);
        for _ in 0..count {
            self.id();
        }
        self
    }

    /// An id for an entry to come: mostly one that is free.
    fn new_id(&mut self) -> &mut Self {
        if self.1.one_in(4) {
            return self.id();
        }
        if self.1.one_in(40) {
            return self.one(&["*"]);
        }
        let ms = self.1.below(8) * (1 + self.1.pick(&STEPS));
        let open = if self.1.one_in(5) { "3".to_owned() } else { "*".to_owned() };
        self.0.push(format!("{ms}-{open}").into_bytes());
        self
    }

    fn fields(&mut self) -> &mut Self {
        for _ in 0..1 + self.1.below(3) {
            let value = values::string(self.1);
            self.one(&["f", "f", "f", "g"]).0.push(value);
        }
        self
    }

    fn trimming(&mut self) -> &mut Self {
        self.any(&["MAXLEN", "MAXLEN =", "MAXLEN ~"]).number(10);
        if self.1.one_in(2) {
            self.0.truncate(self.0.len().saturating_sub(2));
            self.any(&["MINID", "MINID =", "MINID ~"]).id();
        }
        self.any(&["", "", "", "LIMIT 3", "LIMIT 0"]).any(&REFERENCES)
    }

    fn key_and_group(&mut self) -> &mut Self {
        self.one(&KEYS).one(&GROUPS)
    }
}

const REFERENCES: [&str; 5] = ["", "", "KEEPREF", "DELREF", "ACKED"];
const BLOCK: [&str; 6] = ["", "", "", "BLOCK 1", "BLOCK 2", "BLOCK -1"];
const COUNT: [&str; 4] = ["", "", "COUNT 1", "COUNT 2"];

/// The names of what is made here.
pub const COMMANDS: [&str; 21] = [
    "XADD",
    "XADD",
    "XADD",
    "XADD",
    "XTRIM",
    "XDEL",
    "XDELEX",
    "XACK",
    "XACKDEL",
    "XRANGE",
    "XREVRANGE",
    "XREAD",
    "XREADGROUP",
    "XREADGROUP",
    "XGROUP",
    "XPENDING",
    "XCLAIM",
    "XAUTOCLAIM",
    "XINFO",
    "XSETID",
    "XLEN",
];

/// One command, mostly well-formed.
pub fn command(random: &mut Random) -> Request {
    let name = *random.pick(&COMMANDS);
    let mut words = Words(vec![name.as_bytes().to_vec()], random);
    match name {
        "XADD" => {
            words.one(&KEYS).any(&["", "", "", "", "NOMKSTREAM", "ACKED", "DELREF"]);
            if words.1.one_in(5) {
                words.trimming();
            }
            words.new_id().fields()
        }
        "XTRIM" => words.one(&KEYS).trimming(),
        "XDEL" => words.one(&KEYS).ids(),
        "XDELEX" => words.one(&KEYS).any(&REFERENCES).counted_ids(),
        "XACK" => words.key_and_group().ids(),
        "XACKDEL" => words.key_and_group().any(&REFERENCES).counted_ids(),
        "XRANGE" | "XREVRANGE" => words.one(&KEYS).id().id().any(&COUNT),
        "XREAD" => words.any(&COUNT).any(&BLOCK).any(&["STREAMS e", "STREAMS a", "STREAMS e"]).id(),
        "XREADGROUP" => read_group(&mut words),
        "XGROUP" => group(&mut words),
        "XPENDING" => pending(&mut words),
        "XCLAIM" => {
            let options = [
                "",
                "FORCE",
                "JUSTID",
                "RETRYCOUNT 3",
                "IDLE 5",
                "TIME 1 JUSTID",
                "LASTID 3-1",
                "FORCE JUSTID",
            ];
            words.key_and_group().one(&CONSUMERS).one(&["0", "0", "9999999999"]).ids().any(&options)
        }
        "XAUTOCLAIM" => {
            words.key_and_group().one(&CONSUMERS).one(&["0", "0", "9999999999"]).id();
            words.any(&["", "COUNT 1", "COUNT 2", "JUSTID"])
        }
        "XINFO" => words.any(&[
            "STREAM e",
            "STREAM a",
            "GROUPS e",
            "GROUPS b",
            "STREAM e FULL",
            "STREAM a FULL COUNT 1",
            "STREAM e FULL COUNT 0",
            "CONSUMERS e g",
            "CONSUMERS a h",
        ]),
        "XSETID" => words.one(&KEYS).id().any(&["", "ENTRIESADDED 9", "MAXDELETEDID 2-2"]),
        _ => words.one(&KEYS),
    };
    words.0
}

fn read_group<'w, 'r>(words: &'w mut Words<'r>) -> &'w mut Words<'r> {
    words.any(&["GROUP"]).one(&GROUPS).one(&CONSUMERS).any(&COUNT).any(&BLOCK).any(&["", "", "NOACK"]);
    if words.1.one_in(4) {
        return words.any(&["STREAMS e", "STREAMS a"]).id();
    }
    words.any(&["STREAMS e >", "STREAMS e >", "STREAMS a >", "STREAMS e a > >"])
}

fn pending<'w, 'r>(words: &'w mut Words<'r>) -> &'w mut Words<'r> {
    words.key_and_group();
    if words.1.one_in(3) {
        return words;
    }
    words.any(&["", "", "IDLE 0", "IDLE 9999999"]).any(&["- +", "- +", "(1-1 +", "0 5"]);
    words.one(&["10", "1", "0", "-1"]).any(&["", "", "x", "y", "nobody"])
}

fn group<'w, 'r>(words: &'w mut Words<'r>) -> &'w mut Words<'r> {
    match words.1.below(7) {
        0..3 => {
            words.any(&["CREATE"]).key_and_group();
            words.any(&["0", "0", "$", "2-1", "x"]);
            words.any(&["", "", "MKSTREAM", "ENTRIESREAD 2", "ENTRIESREAD -1"])
        }
        3 => {
            words.any(&["SETID"]).key_and_group();
            words.any(&["0", "$", "2-1", "-"]).any(&["", "ENTRIESREAD 2", "ENTRIESREAD 100"])
        }
        4 => words.any(&["CREATECONSUMER"]).key_and_group().one(&CONSUMERS),
        5 if words.1.one_in(2) => words.any(&["DESTROY"]).key_and_group(),
        _ => words.any(&["DELCONSUMER"]).key_and_group().one(&CONSUMERS),
    }
}
