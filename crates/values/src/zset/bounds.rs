//! Bounds of ranges: of scores, and of members where scores are equal.

use super::tree::{Among, Lead};
use crate::number;
use crate::packed::Element;
use std::cmp::Ordering;

/// The text is no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadBound;

/// A score at which a range ends.
#[derive(Debug, Clone, Copy, PartialEq)]
struct ScoreBound {
    score: f64,
    is_outside: bool,
}

impl ScoreBound {
    fn parse(text: &[u8]) -> Result<ScoreBound, BadBound> {
        let (is_outside, number) = match text {
            [b'(', number @ ..] => (true, number),
            number => (false, number),
        };
        Ok(ScoreBound { score: number::parse_weight(number).ok_or(BadBound)?, is_outside })
    }
}

/// A range of scores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScoreRange {
    min: ScoreBound,
    max: ScoreBound,
}

impl ScoreRange {
    /// Every score.
    pub const ALL: ScoreRange = ScoreRange::between(f64::NEG_INFINITY, f64::INFINITY);

    /// Scores from `min` to `max`, both included.
    pub const fn between(min: f64, max: f64) -> ScoreRange {
        ScoreRange {
            min: ScoreBound { score: min, is_outside: false },
            max: ScoreBound { score: max, is_outside: false },
        }
    }

    /// Scores from `min` on and below `max`.
    pub const fn below(min: f64, max: f64) -> ScoreRange {
        ScoreRange {
            min: ScoreBound { score: min, is_outside: false },
            max: ScoreBound { score: max, is_outside: true },
        }
    }

    /// A range as commands name it: numbers, with a parenthesis in front where they are outside.
    pub fn parse(min: &[u8], max: &[u8]) -> Result<ScoreRange, BadBound> {
        Ok(ScoreRange { min: ScoreBound::parse(min)?, max: ScoreBound::parse(max)? })
    }

    /// Whether no score can be in it.
    pub fn is_empty(&self) -> bool {
        self.min.score > self.max.score
            || (self.min.score == self.max.score && (self.min.is_outside || self.max.is_outside))
    }

    /// The place before the first score in it.
    pub(super) fn start(&self) -> impl Lead {
        let is_outside = self.min.is_outside;
        Among(self.min.score, move |_| is_outside)
    }

    /// The place behind the last score in it.
    pub(super) fn end(&self) -> impl Lead {
        let is_outside = self.max.is_outside;
        Among(self.max.score, move |_| !is_outside)
    }

    /// Whether a score is before the range.
    #[inline]
    pub fn is_before(&self, score: f64) -> bool {
        score < self.min.score || (self.min.is_outside && score == self.min.score)
    }

    /// Whether a score is behind the range.
    #[inline]
    pub fn is_behind(&self, score: f64) -> bool {
        score > self.max.score || (self.max.is_outside && score == self.max.score)
    }
}

/// A member at which a range ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LexBound<'a> {
    /// Before every member.
    Least,
    /// Behind every member.
    Greatest,
    Inside(&'a [u8]),
    Outside(&'a [u8]),
}

impl<'a> LexBound<'a> {
    fn parse(text: &'a [u8]) -> Result<LexBound<'a>, BadBound> {
        match text {
            // What follows a zero byte is not looked at, as in Redis.
            [b'-'] | [b'-', 0, ..] => Ok(LexBound::Least),
            [b'+'] | [b'+', 0, ..] => Ok(LexBound::Greatest),
            [b'[', member @ ..] => Ok(LexBound::Inside(member)),
            [b'(', member @ ..] => Ok(LexBound::Outside(member)),
            _ => Err(BadBound),
        }
    }

    fn is_outside(self) -> bool {
        !matches!(self, LexBound::Inside(_))
    }

    /// How the place of a member compares with the bound's.
    #[inline]
    fn compare(self, member: Element<'_>) -> Ordering {
        match self {
            LexBound::Least => Ordering::Greater,
            LexBound::Greatest => Ordering::Less,
            LexBound::Inside(bound) | LexBound::Outside(bound) => super::compare_text(member, bound),
        }
    }
}

/// A range of members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LexRange<'a> {
    min: LexBound<'a>,
    max: LexBound<'a>,
}

impl<'a> LexRange<'a> {
    /// A range as commands name it: `-` and `+` for the ends, members behind `[` or, where they are
    /// outside, behind `(`.
    pub fn parse(min: &'a [u8], max: &'a [u8]) -> Result<LexRange<'a>, BadBound> {
        Ok(LexRange { min: LexBound::parse(min)?, max: LexBound::parse(max)? })
    }

    /// Whether no member can be in it.
    pub fn is_empty(&self) -> bool {
        let order = match (self.min, self.max) {
            (LexBound::Least, LexBound::Least) | (LexBound::Greatest, LexBound::Greatest) => Ordering::Equal,
            (LexBound::Greatest, _) | (_, LexBound::Least) => Ordering::Greater,
            (LexBound::Least, _) | (_, LexBound::Greatest) => Ordering::Less,
            (
                LexBound::Inside(min) | LexBound::Outside(min),
                LexBound::Inside(max) | LexBound::Outside(max),
            ) => min.cmp(max),
        };
        match order {
            Ordering::Less => false,
            Ordering::Equal => self.min.is_outside() || self.max.is_outside(),
            Ordering::Greater => true,
        }
    }

    /// Whether a member is before the range.
    #[inline]
    pub fn is_before(&self, member: Element<'_>) -> bool {
        match self.min.compare(member) {
            Ordering::Less => true,
            Ordering::Equal => self.min.is_outside(),
            Ordering::Greater => false,
        }
    }

    /// Whether a member is behind the range.
    #[inline]
    pub fn is_behind(&self, member: Element<'_>) -> bool {
        match self.max.compare(member) {
            Ordering::Less => false,
            Ordering::Equal => self.max.is_outside(),
            Ordering::Greater => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(min: &str, max: &str) -> ScoreRange {
        ScoreRange::parse(min.as_bytes(), max.as_bytes()).unwrap()
    }

    #[test]
    fn scores_have_bounds_inside_or_outside() {
        let range = scores("1", "(3");
        assert!(!range.is_empty() && range.is_before(0.9) && !range.is_before(1.0));
        assert!(range.is_behind(3.0) && !range.is_behind(2.9));
        let range = scores("(1", "inf");
        assert!(range.is_before(1.0) && !range.is_before(1.1) && !range.is_behind(f64::INFINITY));
        assert!(scores("3", "1").is_empty() && scores("(1", "1").is_empty() && !scores("1", "1").is_empty());
        assert!(!scores("-0", "0").is_empty());
        assert_eq!(scores("", "("), ScoreRange::below(0.0, 0.0));
        for bad in ["nan", "((1", " 1", "1 ", "0x10", "-", "x"] {
            assert_eq!(ScoreRange::parse(bad.as_bytes(), b"1"), Err(BadBound), "{bad}");
            assert_eq!(ScoreRange::parse(b"1", bad.as_bytes()), Err(BadBound), "{bad}");
        }
    }

    #[test]
    fn members_have_bounds_inside_or_outside() {
        let parse = |min: &'static str, max: &'static str| LexRange::parse(min.as_bytes(), max.as_bytes());
        let range = parse("[b", "(d").unwrap();
        let of = |text: &'static str| Element::of(text.as_bytes());
        assert!(range.is_before(of("a")) && !range.is_before(of("b")) && !range.is_before(of("ba")));
        assert!(range.is_behind(of("d")) && !range.is_behind(of("cz")) && range.is_behind(of("da")));
        let range = parse("(10", "[2").unwrap();
        assert!(range.is_before(of("10")) && !range.is_before(of("100")) && !range.is_behind(of("19")));
        for (min, max, empty) in [
            ("-", "+", false),
            ("+", "-", true),
            ("-", "-", true),
            ("+", "+", true),
            ("[a", "-", true),
            ("+", "[a", true),
            ("[a", "[a", false),
            ("[a", "(a", true),
            ("[b", "[a", true),
        ] {
            assert_eq!(parse(min, max).unwrap().is_empty(), empty, "{min} {max}");
        }
        for bad in ["", "a", "-a", "+a", " [a"] {
            assert_eq!(LexRange::parse(bad.as_bytes(), b"+"), Err(BadBound), "{bad}");
        }
        assert!(parse("-\0x", "+\0").is_ok());
    }
}
