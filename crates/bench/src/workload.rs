//! What a load asks for: templates with weights, the distribution of keys, the kind of values.
//! Read next: `load.rs`.

use crate::distribution::Distribution;
use crate::random::Random;
use crate::template::{Filling, Template};

/// What the bytes of a value look like: it decides how well a server that packs values can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ValueKind {
    /// Random letters and digits.
    Ascii,
    /// Random bytes of all 256 kinds.
    Bytes,
    /// Random decimal digits, the first not 0.
    Digits,
}

/// Random bytes made once; a value is a window into them at a random place.
#[derive(Clone, Debug)]
struct ValuePool {
    bytes: Vec<u8>,
    windows: u64,
    digits: bool,
}

const POOL_SPREAD_BYTES: usize = 256 * 1024;

impl ValuePool {
    fn new(kind: ValueKind, value_bytes: usize, random: &mut Random) -> ValuePool {
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        let bytes = (0..POOL_SPREAD_BYTES + value_bytes)
            .map(|_| match kind {
                ValueKind::Bytes => (random.next() >> 56) as u8,
                ValueKind::Digits => b'0' + random.below(10) as u8,
                ValueKind::Ascii => {
                    let letter = usize::try_from(random.below(LETTERS.len() as u64)).unwrap_or(0);
                    LETTERS.get(letter).copied().unwrap_or(b'a')
                }
            })
            .collect();
        ValuePool { bytes, windows: POOL_SPREAD_BYTES as u64, digits: kind == ValueKind::Digits }
    }

    #[inline]
    fn fill(&self, value: &mut [u8], random: &mut Random) {
        let start = usize::try_from(random.below(self.windows)).unwrap_or(0);
        if let Some(window) = self.bytes.get(start..start + value.len()) {
            value.copy_from_slice(window);
        }
        if self.digits
            && let Some(first) = value.first_mut()
            && *first == b'0'
        {
            *first = b'1';
        }
    }
}

/// Draws requests.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    templates: Vec<Template>,
    weights_below: Vec<u64>,
    /// Which template comes next, where they come in turn.
    turn: Option<usize>,
    source: Source,
}

/// Keys, numbers and values for the templates.
#[derive(Clone, Debug)]
struct Source {
    random: Random,
    keys: Distribution,
    values: ValuePool,
    /// The key of the whole round, where templates come in turn.
    held: Option<u64>,
}

impl Filling for Source {
    #[inline]
    fn key_index(&mut self) -> u64 {
        self.held.unwrap_or_else(|| self.keys.draw(&mut self.random))
    }

    #[inline]
    fn integer(&mut self) -> u64 {
        self.random.below(100_000_000)
    }

    #[inline]
    fn value(&mut self, value: &mut [u8]) {
        self.values.fill(value, &mut self.random);
    }
}

impl Workload {
    /// A workload of `(template, weight)` pairs; a weight of 0 never comes up unless it is the only one.
    pub(crate) fn new(
        choices: Vec<(Template, u64)>,
        keys: Distribution,
        kind: ValueKind,
        value_bytes: usize,
        seed: u64,
    ) -> Workload {
        let mut random = Random::new(seed);
        let values = ValuePool::new(kind, value_bytes, &mut random);
        let mut total = 0;
        let mut weights_below = Vec::with_capacity(choices.len());
        let mut templates = Vec::with_capacity(choices.len());
        for (template, weight) in choices {
            total += weight;
            weights_below.push(total);
            templates.push(template);
        }
        let source = Source { random, keys, values, held: None };
        Workload { templates, weights_below, turn: None, source }
    }

    /// The templates one after the other, again and again, instead of by weight; one key for each round.
    pub(crate) fn in_turn(mut self) -> Workload {
        self.turn = Some(0);
        self
    }

    /// Appends the next request to `out`.
    #[inline]
    pub(crate) fn append(&mut self, out: &mut Vec<u8>) {
        let chosen = self.choose();
        if let Some(template) = self.templates.get(chosen) {
            template.append(out, &mut self.source);
        }
    }

    #[inline]
    fn choose(&mut self) -> usize {
        if let Some(turn) = &mut self.turn {
            let chosen = *turn;
            *turn = (chosen + 1) % self.templates.len().max(1);
            if chosen == 0 {
                self.source.held = Some(self.source.keys.draw(&mut self.source.random));
            }
            return chosen;
        }
        if self.templates.len() <= 1 {
            return 0;
        }
        let total = self.weights_below.last().copied().unwrap_or(0);
        let ticket = self.source.random.below(total);
        self.weights_below.iter().position(|&below| ticket < below).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::{Expiry, KeyShape, Protocol};

    fn mixed(kind: ValueKind) -> Workload {
        let keys = KeyShape::new("key:", 1000, 16).unwrap();
        let get = Template::get(Protocol::Resp, &keys).unwrap();
        let set = Template::set(Protocol::Resp, &keys, 32, Expiry::Never).unwrap();
        Workload::new(vec![(get, 10), (set, 1)], Distribution::Uniform { keys: 1000 }, kind, 32, 9)
    }

    #[test]
    fn requests_come_in_the_ratio_of_their_weights() {
        let mut workload = mixed(ValueKind::Ascii);
        let mut gets = 0;
        for _ in 0..11_000 {
            let mut out = Vec::new();
            workload.append(&mut out);
            gets += u32::from(out.starts_with(b"*2\r\n$3\r\nGET"));
        }
        assert!((9_850..10_150).contains(&gets), "{gets}");
    }

    #[test]
    fn in_turn_each_round_has_one_key() {
        let keys = KeyShape::new("", 1000, 4).unwrap();
        let template = |text: &[u8]| (Template::raw(text, &keys, 0), 1);
        let choices = vec![template(b"a__key__ "), template(b"b__key__ ")];
        let sequence = Distribution::Sequential { keys: 1000, next: 0 };
        let mut workload = Workload::new(choices, sequence, ValueKind::Ascii, 0, 1).in_turn();
        let mut out = Vec::new();
        (0..5).for_each(|_| workload.append(&mut out));
        assert_eq!(out, b"a0000 b0000 a0001 b0001 a0002 ");
    }

    #[test]
    fn values_are_of_their_kind_and_differ() {
        for (kind, fits) in [
            (ValueKind::Digits, u8::is_ascii_digit as fn(&u8) -> bool),
            (ValueKind::Ascii, u8::is_ascii_alphanumeric),
        ] {
            let mut source = mixed(kind).source;
            let (mut a, mut b) = ([0u8; 32], [0u8; 32]);
            source.value(&mut a);
            source.value(&mut b);
            assert_ne!(a, b);
            assert!(a.iter().chain(&b).all(fits));
        }
        let mut source = mixed(ValueKind::Bytes).source;
        let mut big = [0u8; 32];
        let high = (0..100).filter(|_| {
            source.value(&mut big);
            !big.is_ascii()
        });
        assert!(high.count() > 90);
    }
}
