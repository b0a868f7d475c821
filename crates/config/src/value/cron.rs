//! When something is to be done by the calendar: cron's five fields, in Coordinated Universal Time.
//!
//! `minute hour day-of-month month day-of-week`, each `*`, a number, a range `a-b`, either of these with a step `/n`, or several of
//! them with commas between. Months and days of the week have names of three letters, too; Sunday is 0 or 7. As in cron a day suits
//! where the month's and the week's say so, and where neither begins with `*`, one of them is enough. Schedules stand
//! behind one another with `;` between.
//!
//! Invariant: the next moment is behind the one asked from, on a full minute, and nothing between suits.

use super::{Context, Setting, as_word};
use crate::kind::{Kind, Reason};

const MINUTE_SECS: u64 = 60;
const DAY_SECS: u64 = 24 * 60 * MINUTE_SECS;
/// Days looked through for the next that suits: a 29th of February is at most eight years ahead, on a day of the week forty.
const DAYS_MAX: u64 = 41 * 366;
/// The furthest moment that is asked from, in seconds of Unix time: the end of the year 9999.
const SECS_MAX: u64 = 253_402_300_799;
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// A field: which numbers suit, a bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Field {
    bits: u64,
    /// It begins with `*`.
    is_any: bool,
}

impl Field {
    fn has(self, number: u64) -> bool {
        self.bits >> number & 1 != 0
    }

    /// Reads a field whose numbers go from `low` to `high`, of which the first have names.
    fn parse(text: &str, low: u64, high: u64, names: &[&str]) -> Option<Field> {
        let number = |word: &str| {
            let named = names.iter().position(|name| name.eq_ignore_ascii_case(word));
            let is_number = !word.is_empty() && word.len() <= 2 && word.bytes().all(|b| b.is_ascii_digit());
            let given = named.map(|at| at as u64 + low).or_else(|| word.parse().ok().filter(|_| is_number));
            given.filter(|number| (low..=high).contains(number))
        };
        let mut bits = 0;
        for part in text.split(',') {
            let (range, step) =
                part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
            let (from, to) = match range.split_once('-') {
                None if range == "*" => (low, high),
                // A number with a step goes on to the end, as in cron.
                None if step.is_some() => (number(range)?, high),
                None => (number(range)?, number(range)?),
                Some((from, to)) => (number(from)?, number(to)?),
            };
            let is_step = |step: &&str| step.len() <= 2 && step.bytes().all(|b| b.is_ascii_digit());
            let step = match step {
                None => 1,
                Some(step) => Some(step).filter(is_step)?.parse().ok().filter(|step| *step > 0)?,
            };
            if from > to {
                return None;
            }
            (from..=to).step_by(step).for_each(|number| bits |= 1 << number);
        }
        Some(Field { bits, is_any: text.starts_with('*') })
    }
}

/// One schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    minutes: Field,
    hours: Field,
    days: Field,
    months: Field,
    weekdays: Field,
    text: String,
}

impl Schedule {
    /// Reads five fields. `None` where they are not.
    #[must_use]
    pub fn parse(text: &str) -> Option<Schedule> {
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields[..] else { return None };
        let mut week = Field::parse(weekdays, 0, 7, &DAYS)?;
        // Sunday has two numbers.
        week.bits = (week.bits | week.bits >> 7) & 0x7f;
        Some(Schedule {
            minutes: Field::parse(minutes, 0, 59, &[])?,
            hours: Field::parse(hours, 0, 23, &[])?,
            days: Field::parse(days, 1, 31, &[])?,
            months: Field::parse(months, 1, 12, &MONTHS)?,
            weekdays: week,
            text: fields.join(" "),
        })
    }

    /// The first moment behind one that suits, both in seconds of Unix time. `None` where there is none, as on a 30th of February. O(days
    /// up to it).
    #[must_use]
    pub fn next_after(&self, secs: u64) -> Option<u64> {
        let from = secs.min(SECS_MAX) / MINUTE_SECS + 1;
        let (first, minutes_a_day) = (from * MINUTE_SECS / DAY_SECS, DAY_SECS / MINUTE_SECS);
        (first..first + DAYS_MAX).filter(|day| self.has_day(*day)).find_map(|day| {
            let start = if day == first { from % minutes_a_day } else { 0 };
            let minute =
                (start..minutes_a_day).find(|at| self.hours.has(at / 60) && self.minutes.has(at % 60))?;
            Some(day * DAY_SECS + minute * MINUTE_SECS)
        })
    }

    /// Whether a day suits, counted from the first of January 1970.
    fn has_day(&self, day: u64) -> bool {
        let (month, of_month) = date_of(day);
        // The first was a Thursday.
        let (of_month, of_week) = (self.days.has(of_month), self.weekdays.has((day + 4) % 7));
        let suits =
            if self.days.is_any || self.weekdays.is_any { of_month && of_week } else { of_month || of_week };
        suits && self.months.has(month)
    }
}

/// Month and day of a day counted from the first of January 1970: by years that begin in March (Howard Hinnant, chrono-compatible
/// low-level date algorithms).
fn date_of(day: u64) -> (u64, u64) {
    // From the first of March of the year 0 on.
    let day = day + 719_468;
    let of_era = day % 146_097;
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    (if month < 10 { month + 3 } else { month - 9 }, of_year - (153 * month + 2) / 5 + 1)
}

/// The `snapshot-cron` option: any number of schedules, none for never.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Schedules(Vec<Schedule>);

/// Schedules of one option, at most.
const SCHEDULES_MAX: usize = 64;

impl Schedules {
    fn parse(text: &[u8]) -> Option<Vec<Schedule>> {
        let text = std::str::from_utf8(text).ok()?;
        text.split(';').filter(|one| !one.trim().is_empty()).map(Schedule::parse).collect()
    }
}

impl Setting for Schedules {
    type View<'a> = &'a [Schedule];

    fn assign(&mut self, _: &Kind, words: &[&[u8]], context: Context) -> Result<(), Reason> {
        // A line of a file need not have quotes around its fields.
        let text = match words {
            [word] => word.to_vec(),
            words => words.join(&b' '),
        };
        let parsed = Schedules::parse(&text).ok_or_else(|| {
            Reason::new("a schedule is 'minute hour day-of-month month day-of-week', as in cron; several have ';' between")
        })?;
        let mut schedules = if context == Context::Again { self.0.clone() } else { Vec::new() };
        schedules.extend(parsed);
        if schedules.len() > SCHEDULES_MAX {
            return Err(Reason::new(format!("at most {SCHEDULES_MAX} schedules")));
        }
        self.0 = schedules;
        Ok(())
    }

    fn show(&self, _: &Kind, out: &mut Vec<u8>) {
        let texts: Vec<&str> = self.0.iter().map(|schedule| schedule.text.as_str()).collect();
        out.extend_from_slice(texts.join("; ").as_bytes());
    }

    fn lines(&self, kind: &Kind) -> Vec<Vec<u8>> {
        let mut shown = Vec::new();
        self.show(kind, &mut shown);
        vec![as_word(&shown)]
    }

    fn view(&self) -> &[Schedule] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Seconds of Unix time of a moment, counted day by day.
    fn at(year: u64, month: u64, day: u64, hour: u64, minute: u64) -> u64 {
        let is_leap =
            |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let days_of = |year: u64, month: u64| match month {
            2 => 28 + u64::from(is_leap(year)),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let years: u64 = (1970..year).map(|year| 365 + u64::from(is_leap(year))).sum();
        let months: u64 = (1..month).map(|month| days_of(year, month)).sum();
        (years + months + day - 1) * DAY_SECS + hour * 3600 + minute * 60
    }

    fn next(text: &str, from: u64) -> Option<u64> {
        Schedule::parse(text).unwrap_or_else(|| panic!("{text}")).next_after(from)
    }

    #[test]
    fn the_next_moment_is_the_calendars() {
        let now = at(2026, 11, 29, 1, 22) + 30;
        for (text, expected) in [
            ("* * * * *", at(2026, 11, 29, 1, 23)),
            ("22 1 * * *", at(2026, 11, 30, 1, 22)),
            ("*/15 * * * *", at(2026, 11, 29, 1, 30)),
            ("7/20 * * * *", at(2026, 11, 29, 1, 27)),
            ("0 3 * * *", at(2026, 11, 29, 3, 0)),
            ("0 0 1 * *", at(2026, 12, 1, 0, 0)),
            ("0 0 1 JAN *", at(2027, 1, 1, 0, 0)),
            ("30 4 1,15 * 5", at(2026, 12, 1, 4, 30)),
            ("0 12 * * mon-fri", at(2026, 11, 30, 12, 0)),
            ("0 12 * * 7", at(2026, 11, 29, 12, 0)),
            ("0 0 29 2 *", at(2028, 2, 29, 0, 0)),
            // Both have to suit where one begins with a star.
            ("0 0 13 * */5", at(2026, 12, 13, 0, 0)),
            ("0 0 31 12 *", at(2026, 12, 31, 0, 0)),
        ] {
            assert_eq!(next(text, now), Some(expected), "{text}");
        }
        assert_eq!(next("0 0 30 2 *", now), None);
        // 2100 is no leap year.
        assert_eq!(next("0 0 29 feb *", at(2096, 3, 1, 0, 0)), Some(at(2104, 2, 29, 0, 0)));
        assert!(next("59 23 31 12 *", u64::MAX).is_some());
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for text in [
            "",
            "* * * *",
            "* * * * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * 32 * *",
            "* * * 13 *",
            "* * * * 8",
            "5-1 * * * *",
            "*/0 * * * *",
            "a * * * *",
            "1,,2 * * * *",
            "-1 * * * *",
            "+1 * * * *",
            "1- * * * *",
            "*/ * * * *",
            "* * * * sunday",
            "001 * * * *",
            "*/1000 * * * *",
            "* * * mon *",
        ] {
            assert_eq!(Schedule::parse(text), None, "{text}");
        }
    }

    #[test]
    fn several_schedules_are_shown_as_they_are_read() {
        let (kind, mut schedules) = (Kind::Schedules, Schedules::default());
        schedules.assign(&kind, &[b"0 3 * * *;  */5  1-4 * * sat"], Context::First).expect("two");
        schedules.assign(&kind, &[b"1", b"2", b"*", b"*", b"*"], Context::Again).expect("a third");
        let mut shown = Vec::new();
        schedules.show(&kind, &mut shown);
        assert_eq!(shown, b"0 3 * * *; */5 1-4 * * sat; 1 2 * * *");
        assert!(schedules.assign(&kind, &[b"0 3 * * *; x"], Context::Set).is_err());
        assert_eq!(schedules.view().len(), 3);
        schedules.assign(&kind, &[b""], Context::Set).expect("none");
        assert!(schedules.view().is_empty());
    }

    /// A field, and which numbers it has.
    fn field(low: u64, high: u64) -> impl Strategy<Value = (String, Vec<u64>)> {
        let part = (low..=high, low..=high, 1..20_usize, 0..4_u8);
        prop::collection::vec(part, 1..4).prop_map(move |parts| {
            let (mut texts, mut numbers) = (Vec::new(), Vec::new());
            for (one, other, step, form) in parts {
                let (from, to) = (one.min(other), one.max(other));
                match form {
                    0 => (texts.push(from.to_string()), numbers.push(from)),
                    1 => (texts.push(format!("{from}-{to}")), numbers.extend(from..=to)),
                    2 => {
                        (texts.push(format!("{from}-{to}/{step}")), numbers.extend((from..=to).step_by(step)))
                    }
                    _ => (texts.push(format!("*/{step}")), numbers.extend((low..=high).step_by(step))),
                };
            }
            (texts.join(","), numbers)
        })
    }

    proptest! {
        /// What is found suits and nothing in front of it does, minute by minute.
        #[test]
        fn nothing_between_suits(
            minutes in field(0, 59), hours in field(0, 23), weekdays in field(0, 6), from in 0u64..4_000_000_000
        ) {
            let text = format!("{} {} * * {}", minutes.0, hours.0, weekdays.0);
            let found = next(&text, from).expect("every week has one");
            let suits = |minute: u64| {
                minutes.1.contains(&(minute % 60))
                    && hours.1.contains(&(minute / 60 % 24))
                    && weekdays.1.contains(&((minute / 1440 + 4) % 7))
            };
            let first = (from / 60 + 1..).find(|minute| suits(*minute)).expect("as above");
            prop_assert_eq!(found, first * 60, "{}", text);
        }

        #[test]
        fn dates_are_the_calendars(year in 1970u64..2400, month in 1u64..=12, day in 1u64..=28) {
            prop_assert_eq!(date_of(at(year, month, day, 0, 0) / DAY_SECS), (month, day));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[ -~]{0,40}") {
            if let Some(schedule) = Schedule::parse(&text) {
                prop_assert!(schedule.next_after(1_800_000_000).is_none_or(|next| next > 1_800_000_000));
            }
        }
    }
}
