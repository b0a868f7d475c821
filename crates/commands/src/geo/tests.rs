//! Command lines on places beside a live redis-server: replies, events and counts of changes.

use crate::alike::{Both, Draws};

/// Draws words so that places and shapes meet.
struct Lines(Draws);

impl Lines {
    /// A point near a few towns, anywhere, or at an edge.
    fn point(&mut self) -> String {
        let (longitude, latitude) = match self.0.below(12) {
            0 => (self.0.unit_interval() * 360.0 - 180.0, self.0.unit_interval() * 170.0 - 85.0),
            1 => (179.9 + self.0.unit_interval() * 0.1, self.0.unit_interval() * 20.0),
            2 => (-179.9 - self.0.unit_interval() * 0.1, self.0.unit_interval() * 20.0),
            3 => (self.0.unit_interval() * 360.0 - 180.0, 84.0 + self.0.unit_interval()),
            4 => (self.0.unit_interval() * 360.0 - 180.0, -84.0 - self.0.unit_interval()),
            5 => (self.0.unit_interval() * 2.0 - 1.0, self.0.unit_interval() * 2.0 - 1.0),
            6 => (200.0, 95.5),
            _ => (10.0 + self.0.unit_interval() * 5.0, 50.0 + self.0.unit_interval() * 3.0),
        };
        format!("{longitude} {latitude}")
    }

    fn key(&mut self) -> &'static str {
        self.0.pick(&["a", "b", "c"])
    }

    fn member(&mut self) -> String {
        format!("p{}", self.0.below(60))
    }

    fn unit(&mut self) -> &'static str {
        self.0.pick(&["m", "km", "km", "mi", "FT", "KM", "cm"])
    }

    fn length(&mut self) -> String {
        match self.0.below(10) {
            0 => self.0.pick(&["0", "-1", "x", "1e300", "inf", "1e-9"]).to_owned(),
            1 => format!("{}", self.0.unit_interval() * 20_000_000.0),
            2 => format!("{}", self.0.unit_interval() * 10_000.0),
            _ => format!("{:.3}", self.0.unit_interval() * 400.0),
        }
    }

    fn options(&mut self) -> String {
        let words =
            ["ASC", "DESC", "WITHDIST", "WITHHASH", "WITHCOORD", "COUNT 3", "COUNT 3 ANY", "ANY", "COUNT 0"];
        let count = self.0.below(4);
        (0..count).map(|_| format!(" {}", self.0.pick(&words))).collect()
    }

    fn shape(&mut self) -> String {
        let from = if self.0.below(3) == 0 {
            format!("FROMMEMBER {}", self.member())
        } else {
            format!("FROMLONLAT {}", self.point())
        };
        let (one, other, unit) = (self.length(), self.length(), self.unit());
        let by = if self.0.below(2) == 0 {
            format!("BYRADIUS {one} {unit}")
        } else {
            format!("BYBOX {one} {other} {unit}")
        };
        match self.0.below(20) {
            0 => from,
            1 => by,
            2 => format!("{from} {by} {from}"),
            3 => format!("{from} {by} BYBOX 1 1 m"),
            _ => format!("{from} {by}"),
        }
    }

    fn line(&mut self) -> String {
        let (key, other, member) = (self.key(), self.key(), self.member());
        match self.0.below(16) {
            0..=3 => {
                let options = self.0.pick(&["", "", "NX", "XX", "CH", "XX NX"]);
                let count = 1 + self.0.below(8);
                let places: String =
                    (0..count).map(|_| format!(" {} {}", self.point(), self.member())).collect();
                format!("GEOADD {key} {options}{places}")
            }
            4 => format!(
                "GEODIST {key} {member} {} {}",
                self.member(),
                self.0.pick(&["", "km", "mi", "ft", "x"])
            ),
            5 => format!("GEOHASH {key} {member} {}", self.member()),
            6 => format!("GEOPOS {key} {member} {}", self.member()),
            7 => format!(
                "GEORADIUS {key} {} {} {}{}",
                self.point(),
                self.length(),
                self.unit(),
                self.options()
            ),
            8 => format!(
                "GEORADIUSBYMEMBER_RO {key} {member} {} {}{}",
                self.length(),
                self.unit(),
                self.options()
            ),
            9 => {
                let store = self.0.pick(&["STORE", "STOREDIST", "STORE c STOREDIST"]);
                format!("GEORADIUSBYMEMBER {key} {member} {} {} {store} {other}", self.length(), self.unit())
            }
            10 => {
                let store = self.0.pick(&["", "STOREDIST"]);
                format!("GEOSEARCHSTORE {other} {key} {} {store}{}", self.shape(), self.options())
            }
            // Scores that no place has. Each for one member, or the order of equal distances would matter.
            11 => format!("ZADD {key} {}", self.0.pick(&["-1 odd", "5.5 near"])),
            12 => format!("DUMP {key}"),
            _ => format!("GEOSEARCH {key} {}{}", self.shape(), self.options()),
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
        for _ in 0..100 {
            let line = lines.line();
            // Shown when the test fails: how it came to that.
            println!("{line}");
            both.same(&line);
        }
    }
}
