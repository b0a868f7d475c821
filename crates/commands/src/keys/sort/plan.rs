//! The grammar of SORT, and the patterns of BY and GET.

use crate::args::Args;
use crate::error::Error;
use larder_values::number;
use smallvec::SmallVec;

const BY_DENIED: Error = Error::of("ERR BY option of SORT denied due to insufficient ACL permissions.");
const GET_DENIED: Error = Error::of("ERR GET option of SORT denied due to insufficient ACL permissions.");

/// What a SORT was asked for.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    /// What elements are compared by.
    pub(super) by: By<'a>,
    /// Whether they are compared as text.
    pub(super) alpha: bool,
    /// Whether the order is turned round.
    pub(super) descending: bool,
    /// How many elements are left out at the beginning.
    pub(super) skip: i64,
    /// How many are taken; negative: all.
    pub(super) take: i64,
    /// What is answered for each element; nothing: the element.
    pub(super) gets: SmallVec<[Get<'a>; 2]>,
    /// Where the rows go.
    pub(super) store: Option<&'a [u8]>,
}

/// What elements are compared by.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum By<'a> {
    /// The elements themselves.
    Element,
    /// A pattern without `*`: they stay in their own order.
    Nothing,
    /// Values that their names lead to.
    Value(Pattern<'a>),
}

/// What is answered for an element.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Get<'a> {
    /// `#`: the element.
    Element,
    /// A pattern without `*`: null.
    Nothing,
    /// A value that its name leads to.
    Value(Pattern<'a>),
}

/// `prefix*suffix` or `prefix*suffix->field`: the key of an element, and the field of its hash.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pattern<'a> {
    prefix: &'a [u8],
    suffix: &'a [u8],
    /// The field, when the key is to hold a hash.
    pub(super) field: Option<&'a [u8]>,
}

impl<'a> Pattern<'a> {
    /// Reads a pattern; `None` when it has no `*`. An arrow with nothing behind it is part of the key.
    fn parse(text: &'a [u8]) -> Option<Self> {
        let star = text.iter().position(|byte| *byte == b'*')?;
        let (prefix, rest) = (&text[..star], &text[star + 1..]);
        let arrow = rest.windows(2).position(|pair| pair == b"->").filter(|arrow| arrow + 2 < rest.len());
        Some(match arrow {
            Some(arrow) => Pattern { prefix, suffix: &rest[..arrow], field: Some(&rest[arrow + 2..]) },
            None => Pattern { prefix, suffix: rest, field: None },
        })
    }

    /// The key that the pattern names for an element.
    pub(super) fn key_for(&self, element: &[u8]) -> Vec<u8> {
        [self.prefix, element, self.suffix].concat()
    }
}

impl<'a> Plan<'a> {
    /// Reads the words behind the key. `may_read_any`: whether patterns may lead to keys.
    pub(super) fn parse(args: &Args<'a>, may_store: bool, may_read_any: bool) -> Result<Self, Error> {
        let mut plan = Plan {
            by: By::Element,
            alpha: false,
            descending: false,
            skip: 0,
            take: -1,
            gets: SmallVec::new(),
            store: None,
        };
        let mut index = 2;
        while index < args.len() {
            let left = args.len() - index - 1;
            index += if args.is(index, b"asc") {
                plan.descending = false;
                1
            } else if args.is(index, b"desc") {
                plan.descending = true;
                1
            } else if args.is(index, b"alpha") {
                plan.alpha = true;
                1
            } else if args.is(index, b"limit") && left >= 2 {
                plan.skip = number::parse_i64(args.get(index + 1)).ok_or(Error::NotAnInteger)?;
                plan.take = number::parse_i64(args.get(index + 2)).ok_or(Error::NotAnInteger)?;
                3
            } else if may_store && args.is(index, b"store") && left >= 1 {
                plan.store = Some(args.get(index + 1));
                2
            } else if args.is(index, b"by") && left >= 1 {
                plan.set_by(args.get(index + 1));
                if !may_read_any && args.get(index + 1).contains(&b'*') {
                    return Err(BY_DENIED);
                }
                2
            } else if args.is(index, b"get") && left >= 1 {
                if !may_read_any {
                    return Err(GET_DENIED);
                }
                plan.add_get(args.get(index + 1));
                2
            } else {
                return Err(Error::Syntax);
            };
        }
        Ok(plan)
    }

    fn set_by(&mut self, text: &'a [u8]) {
        // A pattern without `*` anywhere in the command stays in force, as in Redis.
        self.by = match Pattern::parse(text) {
            Some(pattern) if self.by != By::Nothing => By::Value(pattern),
            _ => By::Nothing,
        };
    }

    fn add_get(&mut self, text: &'a [u8]) {
        self.gets.push(match Pattern::parse(text) {
            _ if text == b"#" => Get::Element,
            Some(pattern) => Get::Value(pattern),
            None => Get::Nothing,
        });
    }

    fn patterns(&self) -> impl Iterator<Item = &Pattern<'a>> {
        let by = if let By::Value(pattern) = &self.by { Some(pattern) } else { None };
        let gets = self
            .gets
            .iter()
            .filter_map(|get| if let Get::Value(pattern) = get { Some(pattern) } else { None });
        by.into_iter().chain(gets)
    }

    /// Whether elements lead to further keys.
    pub(super) fn names_keys(&self) -> bool {
        self.patterns().next().is_some()
    }

    /// The keys that elements lead to.
    pub(super) fn keys_named(&self, elements: &[Vec<u8>]) -> Vec<Vec<u8>> {
        self.patterns().flat_map(|pattern| elements.iter().map(|element| pattern.key_for(element))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_name_keys_and_fields() {
        let pattern = Pattern::parse(b"w_*_x->f").unwrap();
        assert_eq!(pattern.key_for(b"1"), b"w_1_x");
        assert_eq!(pattern.field, Some(&b"f"[..]));
        let pattern = Pattern::parse(b"a->b*c*->").unwrap();
        assert_eq!(pattern.key_for(b"1"), b"a->b1c*->");
        assert_eq!(pattern.field, None);
        assert_eq!(Pattern::parse(b"nosort"), None);
    }
}
