//! Dates and times as MySQL writes them.

use std::fmt::Write;

/// A date with a time of day. Every part may be zero.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Moment {
    pub year: u32,
    pub month: u32,
    pub day: u32,
    pub hour: u32,
    pub minute: u32,
    pub second: u32,
    pub micros: u32,
}

impl Moment {
    /// `2024-02-29`
    pub fn date(self) -> String {
        format!("{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }

    /// `2024-02-29 12:00:00.500`
    pub fn date_and_time(self, digits: u32) -> String {
        let mut out = self.date();
        let _ = write!(out, " {:02}:{:02}:{:02}", self.hour, self.minute, self.second);
        put_fraction(&mut out, self.micros, digits);
        out
    }

    /// The moment so many seconds after the beginning of 1970, in UTC.
    pub fn of_unix(seconds: i64, micros: u32) -> Moment {
        let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400) as u32);
        // Howard Hinnant's days from civil, the other way: years begin in March, eras have 400 of them.
        let days = days + 719_468;
        let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * of_year + 2) / 153;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        Moment {
            year: year as u32,
            month: month as u32,
            day: (of_year - (153 * shifted + 2) / 5 + 1) as u32,
            hour: of_day / 3600,
            minute: of_day / 60 % 60,
            second: of_day % 60,
            micros,
        }
    }
}

/// A span of time: up to 838 hours in each direction.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Span {
    pub is_negative: bool,
    pub hours: u64,
    pub minutes: u32,
    pub seconds: u32,
    pub micros: u32,
}

impl Span {
    /// `-12:34:56.789`
    pub fn text(self, digits: u32) -> String {
        let sign = if self.is_negative { "-" } else { "" };
        let mut out = format!("{sign}{:02}:{:02}:{:02}", self.hours, self.minutes, self.seconds);
        put_fraction(&mut out, self.micros, digits);
        out
    }
}

/// Digits of a second; more than six stand for as many as it takes.
fn put_fraction(out: &mut String, micros: u32, digits: u32) {
    let digits = if digits > 6 { if micros == 0 { 0 } else { 6 } } else { digits };
    if digits > 0 {
        let _ = write!(out, ".{:0width$}", micros / 10_u32.pow(6 - digits), width = digits as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_have_their_texts() {
        let moment = Moment { year: 2024, month: 2, day: 9, hour: 1, micros: 1500, ..Moment::default() };
        assert_eq!(moment.date_and_time(0), "2024-02-09 01:00:00");
        assert_eq!(moment.date_and_time(3), "2024-02-09 01:00:00.001");
        assert_eq!(moment.date_and_time(31), "2024-02-09 01:00:00.001500");
        assert_eq!(Moment::default().date_and_time(39), "0000-00-00 00:00:00");
        let span = Span { is_negative: true, hours: 838, minutes: 59, seconds: 59, micros: 0 };
        assert_eq!((span.text(0), span.text(2)), ("-838:59:59".into(), "-838:59:59.00".into()));
    }

    #[test]
    fn seconds_are_dates() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_399, "2000-02-28 23:59:59"),
            (951_782_400, "2000-02-29 00:00:00"),
            (2_147_483_647, "2038-01-19 03:14:07"),
            (4_102_444_800, "2100-01-01 00:00:00"),
            (4_107_542_400, "2100-03-01 00:00:00"),
            (-3600, "1969-12-31 23:00:00"),
        ] {
            assert_eq!(Moment::of_unix(seconds, 0).date_and_time(0), text);
        }
    }
}
