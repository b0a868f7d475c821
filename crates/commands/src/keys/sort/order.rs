//! From elements to rows: weights, order, the part asked for, what is answered for each.
//!
//! Knows no keyspace: values that BY and GET name come from a function.

use super::part::sort_part;
use super::plan::{By, Get, Pattern, Plan};
use crate::error::Error;
use larder_values::number;
use std::cmp::Ordering;

/// Finds the value that a pattern names for an element.
pub(super) type Lookup<'l> = &'l mut dyn FnMut(&Pattern<'_>, &[u8]) -> Option<Vec<u8>>;

/// An element and what it is compared by.
struct Weighed {
    element: Vec<u8>,
    /// The number, where numbers are compared; 0 where a value is missing.
    number: f64,
    /// The text that BY leads to, where texts are compared.
    text: Option<Vec<u8>>,
}

/// The rows of a SORT: one for each element within LIMIT, or one for each GET of it.
pub(super) fn rows(
    plan: &Plan<'_>,
    elements: Vec<Vec<u8>>,
    lookup: Lookup<'_>,
) -> Result<Vec<Option<Vec<u8>>>, Error> {
    let (start, end) = range(plan, elements.len());
    let sorted = match plan.by {
        By::Nothing if plan.descending => elements.into_iter().rev().collect(),
        By::Nothing => elements,
        By::Element | By::Value(_) => sorted(plan, elements, lookup)?,
    };
    let chosen = sorted.into_iter().take(end).skip(start);
    if plan.gets.is_empty() {
        return Ok(chosen.map(Some).collect());
    }
    let mut rows = Vec::with_capacity((end - start) * plan.gets.len());
    for element in chosen {
        rows.extend(plan.gets.iter().map(|get| match get {
            Get::Element => Some(element.clone()),
            Get::Nothing => None,
            Get::Value(pattern) => lookup(pattern, &element),
        }));
    }
    Ok(rows)
}

/// The part of `len` elements within LIMIT, from the first to before the last.
fn range(plan: &Plan<'_>, len: usize) -> (usize, usize) {
    let start = usize::try_from(plan.skip).unwrap_or(0).min(len);
    let end = usize::try_from(plan.take).map_or(len, |take| start.saturating_add(take).min(len));
    (start, end)
}

fn sorted(plan: &Plan<'_>, elements: Vec<Vec<u8>>, lookup: Lookup<'_>) -> Result<Vec<Vec<u8>>, Error> {
    let mut weighed = Vec::with_capacity(elements.len());
    for element in elements {
        let value = match &plan.by {
            By::Value(pattern) => lookup(pattern, &element),
            By::Element | By::Nothing => None,
        };
        let number = match &plan.by {
            _ if plan.alpha => 0.0,
            By::Value(_) => value.as_deref().map_or(Ok(0.0), weight)?,
            By::Element | By::Nothing => weight(&element)?,
        };
        weighed.push(Weighed { element, number, text: if plan.alpha { value } else { None } });
    }
    let (start, end) = range(plan, weighed.len());
    let mut order = |one: &Weighed, other: &Weighed| {
        let order = compare(plan, one, other);
        if plan.descending { order.reverse() } else { order }
    };
    // Which of equal elements comes first shows: Redis sorts a part by quicksort, all of them stably.
    match plan.by {
        By::Value(_) if end - start < weighed.len() => sort_part(&mut weighed, start..end, &mut order),
        _ => weighed.sort_by(order),
    }
    Ok(weighed.into_iter().map(|weighed| weighed.element).collect())
}

/// The number a text stands for.
fn weight(text: &[u8]) -> Result<f64, Error> {
    number::parse_weight(text).ok_or(Error::of("ERR One or more scores can't be converted into double"))
}

fn compare(plan: &Plan<'_>, one: &Weighed, other: &Weighed) -> Ordering {
    match (&plan.by, plan.alpha) {
        // A missing value comes first: `None` is the least.
        (By::Value(_), true) => one.text.cmp(&other.text),
        (_, true) => one.element.cmp(&other.element),
        // Equal numbers are told apart by the elements, so the order is always the same.
        (_, false) => {
            let order = one.number.partial_cmp(&other.number).unwrap_or(Ordering::Equal);
            order.then_with(|| one.element.cmp(&other.element))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Args;
    use crate::testing::spans_of;

    /// Sorts a list under the options of a command line; values come from a few fixed keys.
    fn sort(options: &str, elements: &[&str]) -> Result<Vec<Option<String>>, Error> {
        let (request, spans) = spans_of(&format!("SORT l {options}"));
        let plan = Plan::parse(&Args::new(&request, &spans), true, true)?;
        let values: &[(&str, &str)] =
            &[("w1", "3"), ("w2", "1"), ("w3", "2"), ("o1", "a"), ("o2", "b"), ("bad2", "x")];
        let elements = elements.iter().map(|element| element.as_bytes().to_vec()).collect();
        let rows = rows(&plan, elements, &mut |pattern, element| {
            let key = pattern.key_for(element);
            let found = values.iter().find(|(name, _)| pattern.field.is_none() && name.as_bytes() == key)?;
            Some(found.1.as_bytes().to_vec())
        })?;
        Ok(rows.into_iter().map(|row| row.map(|row| String::from_utf8(row).unwrap())).collect())
    }

    fn words(options: &str, elements: &[&str]) -> String {
        let rows = sort(options, elements).unwrap();
        rows.iter().map(|row| row.as_deref().unwrap_or("-")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn elements_are_ordered_as_numbers_or_as_text() {
        let numbers = &["3", "1", "2", "10", "-1", "1.5"];
        assert_eq!(words("", numbers), "-1 1 1.5 2 3 10");
        assert_eq!(words("DESC", numbers), "10 3 2 1.5 1 -1");
        assert_eq!(words("DESC ASC", numbers), "-1 1 1.5 2 3 10");
        assert_eq!(words("ALPHA", numbers), "-1 1 1.5 10 2 3");
        assert_eq!(words("ALPHA DESC", numbers), "3 2 10 1.5 1 -1");
        let refused = Error::of("ERR One or more scores can't be converted into double");
        assert_eq!(sort("", &["3", "a"]), Err(refused.clone()));
        assert_eq!(sort("BY bad*", &["1", "2"]), Err(refused));
    }

    #[test]
    fn limit_takes_a_part() {
        let numbers = &["3", "1", "2", "10", "-1", "1.5"];
        assert_eq!(words("LIMIT 1 2", numbers), "1 1.5");
        assert_eq!(words("LIMIT -1 2", numbers), "-1 1");
        assert_eq!(words("LIMIT 0 -1", numbers), "-1 1 1.5 2 3 10");
        assert_eq!(words("LIMIT 100 1", numbers), "");
        assert_eq!(words("LIMIT 5 100", numbers), "10");
        assert_eq!(words("LIMIT 0 9223372036854775807", &["1"]), "1");
        assert_eq!(words("DESC LIMIT 0 3", numbers), "10 3 2");
    }

    #[test]
    fn by_and_get_follow_patterns() {
        let list = &["1", "2", "3"];
        assert_eq!(words("BY w*", list), "2 3 1");
        assert_eq!(words("BY w* GET #", list), "2 3 1");
        assert_eq!(words("BY w* GET o*", list), "b - a");
        assert_eq!(words("BY w* GET # GET o* GET h*->f", list), "2 b - 3 - - 1 a -");
        assert_eq!(words("BY nosort", list), "1 2 3");
        assert_eq!(words("BY nosort DESC", list), "3 2 1");
        assert_eq!(words("BY o* ALPHA", list), "3 1 2");
        assert_eq!(words("BY none*", &["3", "1", "2"]), "1 2 3");
        assert_eq!(words("BY w* LIMIT 1 1 GET # GET fixed", list), "3 -");
    }
}
