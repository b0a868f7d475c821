//! Command lines on sorted sets beside a live redis-server: replies, events and counts of changes.

use crate::alike::{Both, Draws};

/// Draws words from small sets, so that keys and members meet.
struct Lines(Draws);

impl Lines {
    fn key(&mut self) -> String {
        self.0.pick(&["a", "b", "c", "d", "s", "t"]).to_owned()
    }

    fn member(&mut self) -> String {
        match self.0.below(8) {
            0 => format!("\"{}\"", "long member ".repeat(6)),
            1 => self.0.below(300).to_string(),
            2 => format!("-{}", self.0.below(5)),
            3 => self.0.pick(&["\"\"", "\"\\x00\\xff\"", "01", "1.5", "9223372036854775807"]).to_owned(),
            _ => format!("m{}", self.0.below(40)),
        }
    }

    fn score(&mut self) -> String {
        let odd = ["inf", "-inf", "1e300", "-0", "0.1", "1e17", "5e18", "0x10", "nan", "abc", "\"\"", "3.25"];
        match self.0.below(8) {
            0 => self.0.pick(&odd).to_owned(),
            1 => format!("{}.5", self.0.below(20)),
            _ => (self.0.below(30) as i64 - 10).to_string(),
        }
    }

    fn bound(&mut self) -> String {
        let open = self.0.pick(&["", "", "("]);
        format!("{open}{}", self.score())
    }

    fn lex(&mut self) -> String {
        let open = self.0.pick(&["[", "(", "[", ""]);
        match self.0.below(5) {
            0 => "-".to_owned(),
            1 => "+".to_owned(),
            _ => format!("{open}m{}", self.0.below(40)),
        }
    }

    fn rank(&mut self) -> i64 {
        self.0.below(24) as i64 - 8
    }

    fn options(&mut self, words: &[&str]) -> String {
        let count = self.0.below(4);
        (0..count).map(|_| format!(" {}", self.0.pick(words))).collect()
    }

    fn keys(&mut self) -> String {
        let count = 1 + self.0.below(3);
        let keys: Vec<String> = (0..count).map(|_| self.key()).collect();
        format!("{count} {}", keys.join(" "))
    }

    fn write(&mut self) -> String {
        let (key, member, score) = (self.key(), self.member(), self.score());
        match self.0.below(12) {
            0..=3 => {
                let count = 1 + self.0.below(12);
                let pairs: Vec<String> =
                    (0..count).map(|_| format!("{} {}", self.0.below(20), self.member())).collect();
                format!("ZADD {key} {}", pairs.join(" "))
            }
            4 => {
                let options = self.options(&["NX", "XX", "GT", "LT", "CH", "INCR", "ch"]);
                format!("ZADD {key}{options} {score} {member}")
            }
            5 => {
                let options = self.options(&["NX", "XX", "GT", "LT", "CH"]);
                format!("ZADD {key}{options} {score} {member} {} {}", self.score(), self.member())
            }
            6 => format!("ZINCRBY {key} {score} {member}"),
            7 => format!("ZREM {key} {member} {} {}", self.member(), self.member()),
            8 => format!("ZREMRANGEBYRANK {key} {} {}", self.rank(), self.rank()),
            9 => format!("ZREMRANGEBYSCORE {key} {} {}", self.bound(), self.bound()),
            10 => {
                let pop = self.0.pick(&["ZPOPMIN", "ZPOPMAX"]);
                let count = self.0.pick(&["", "", "2", "0", "-1", "100"]);
                format!("{pop} {key} {count}")
            }
            _ => {
                let end = self.0.pick(&["MIN", "MAX", "max"]);
                let count = self.0.pick(&["", "COUNT 3", "COUNT 0", "COUNT 2 COUNT 3"]);
                format!("ZMPOP {} {end} {count}", self.keys())
            }
        }
    }

    fn read(&mut self) -> String {
        let (key, member) = (self.key(), self.member());
        match self.0.below(10) {
            0 => format!("ZCARD {key}"),
            1 => format!("ZCOUNT {key} {} {}", self.bound(), self.bound()),
            2 => format!("ZSCORE {key} {member}"),
            3 => format!("ZMSCORE {key} {member} {}", self.member()),
            4 | 5 => {
                let rank = self.0.pick(&["ZRANK", "ZREVRANK"]);
                let with = self.0.pick(&["", "WITHSCORE", "withscores"]);
                format!("{rank} {key} {member} {with}")
            }
            6 => format!("OBJECT ENCODING {key}"),
            7 => format!("TYPE {key}"),
            _ => format!("DUMP {key}"),
        }
    }

    fn range(&mut self) -> String {
        let key = self.key();
        let options = ["WITHSCORES", "LIMIT 1 3", "LIMIT 0 -1", "LIMIT -1 2", "LIMIT 2 x", "REV"];
        match self.0.below(8) {
            0 => format!("ZRANGE {key} {} {}{}", self.rank(), self.rank(), self.options(&options)),
            1 => {
                let more = self.options(&options);
                format!("ZRANGE {key} {} {} BYSCORE{more}", self.bound(), self.bound())
            }
            2 => format!("ZREVRANGE {key} {} {}{}", self.rank(), self.rank(), self.options(&options)),
            3 => format!("ZRANGEBYSCORE {key} {} {}{}", self.bound(), self.bound(), self.options(&options)),
            4 => {
                format!("ZREVRANGEBYSCORE {key} {} {}{}", self.bound(), self.bound(), self.options(&options))
            }
            5 => format!(
                "ZRANGESTORE {} {key} {} {} BYSCORE LIMIT 1 20",
                self.key(),
                self.bound(),
                self.bound()
            ),
            6 => format!("ZRANGESTORE {} {key} {} {}", self.key(), self.rank(), self.rank()),
            _ => format!("SORT {key} BY nosort{}", self.0.pick(&["", " DESC", " LIMIT 1 2"])),
        }
    }

    fn lexical(&mut self) -> String {
        let key = self.0.pick(&["x", "y"]);
        let (min, max) = (self.lex(), self.lex());
        match self.0.below(9) {
            0..=3 => {
                let count = 1 + self.0.below(8);
                let pairs: Vec<String> = (0..count)
                    .map(|_| format!("0 m{}{}", self.0.below(40), self.0.pick(&["", "z"])))
                    .collect();
                format!("ZADD {key} {}", pairs.join(" "))
            }
            4 => format!("ZLEXCOUNT {key} {min} {max}"),
            5 => format!("ZRANGEBYLEX {key} {min} {max}{}", self.options(&["LIMIT 1 3", "WITHSCORES"])),
            6 => format!("ZREVRANGEBYLEX {key} {min} {max}{}", self.options(&["LIMIT 1 3"])),
            7 => format!("ZRANGE {key} {min} {max} BYLEX{}", self.options(&["REV", "LIMIT 0 4"])),
            _ => format!("ZREMRANGEBYLEX {key} {min} {max}"),
        }
    }

    fn combine(&mut self) -> String {
        let (keys, destination) = (self.keys(), self.key());
        let weights =
            self.0.pick(&["", "", "WEIGHTS 2", "WEIGHTS 2 0.5", "WEIGHTS 1 -1 0", "WEIGHTS inf 1 x"]);
        let aggregate =
            self.0.pick(&["", "", "AGGREGATE MIN", "AGGREGATE max", "AGGREGATE SUM", "AGGREGATE x"]);
        let with = self.0.pick(&["", "WITHSCORES"]);
        match self.0.below(8) {
            0 => format!("ZUNION {keys} {weights} {aggregate} {with}"),
            1 => format!("ZINTER {keys} {weights} {aggregate} {with}"),
            2 => format!("ZDIFF {keys} {with}"),
            3 => format!("ZUNIONSTORE {destination} {keys} {weights} {aggregate}"),
            4 => format!("ZINTERSTORE {destination} {keys} {weights} {aggregate}"),
            5 => format!("ZDIFFSTORE {destination} {keys}"),
            6 => format!("ZINTERCARD {keys} {}", self.0.pick(&["", "LIMIT 2", "LIMIT 0", "LIMIT -1", "x"])),
            _ => format!("ZUNION {keys} {with} {weights}"),
        }
    }

    fn line(&mut self) -> String {
        match self.0.below(12) {
            0..=4 => self.write(),
            5 | 6 => self.read(),
            7 | 8 => self.range(),
            9 => self.lexical(),
            10 => self.combine(),
            _ => {
                let (key, other) = (self.key(), self.key());
                match self.0.below(5) {
                    0 => format!("COPY {key} {other} REPLACE"),
                    1 => format!("RENAME {key} {other}"),
                    2 => format!("DEL {key}"),
                    3 => format!("SET {key} text"),
                    _ => format!("GET {key}"),
                }
            }
        }
    }
}

#[test]
fn random_lines_do_what_they_do_in_redis() {
    let Some(mut both) = Both::start() else { return };
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let mut lines = Lines(Draws::new(seed));
    for round in 0..30 {
        if round == 15 {
            both.speak_resp3();
        }
        both.same("FLUSHALL");
        for _ in 0..120 {
            let line = lines.line();
            // Shown when the test fails: how it came to that.
            println!("{line}");
            both.same(&line);
        }
    }
}
