//! Sorted sets beside a sorted vector, in both forms.

use super::*;
use crate::collection::AHEAD_MAX;
use proptest::prelude::*;

const SMALL: PackedLimits = PackedLimits { entries_max: 8, value_bytes_max: 10 };
const LARGE: PackedLimits = PackedLimits { entries_max: 0, value_bytes_max: 10 };

type Pairs = Vec<(Vec<u8>, f64)>;

fn pairs(set: &ZSet) -> Pairs {
    set.view().iter().map(|(member, score)| (member.to_vec(), score)).collect()
}

fn sort(model: &mut Pairs) {
    model.sort_by(|one, other| compare_scores(one.1, other.1).then_with(|| one.0.cmp(&other.0)));
}

fn add(set: &mut ZSet, member: &str, score: f64, how: Add) -> Outcome {
    set.add(member.as_bytes(), score, how, SMALL)
}

#[test]
fn a_small_set_becomes_large_when_it_outgrows_its_limits() {
    let mut set = ZSet::new(Vec::new());
    for number in 0..8_u32 {
        assert_eq!(add(&mut set, &number.to_string(), 1.0, Add::default()), Outcome::Added(1.0));
    }
    assert!(!set.is_large());
    assert_eq!(add(&mut set, "3", 2.0, Add::default()), Outcome::Changed(2.0));
    assert!(!set.is_large());
    assert_eq!(add(&mut set, "8", 2.0, Add::default()), Outcome::Added(2.0));
    assert!(set.is_large());
    set.remove_span(0, 8);
    assert!(set.is_large() && set.view().len() == 1);
    set.check();
    let mut set = ZSet::new(Vec::new());
    assert_eq!(add(&mut set, "eleven bytes", 1.0, Add::default()), Outcome::Added(1.0));
    assert!(set.is_large());
    let mut set = ZSet::new(Vec::new());
    set.expect(9, 1, SMALL);
    assert!(set.is_large() && set.is_empty());
}

#[test]
fn rules_decide_what_becomes_of_a_member() {
    let (present, absent) = (Rule::Present, Rule::Absent);
    for limits in [SMALL, LARGE] {
        let mut set = ZSet::new(Vec::new());
        let mut add = |score, how| set.add(b"m", score, how, limits);
        assert_eq!(add(1.0, Add { rule: present, ..Add::default() }), Outcome::Excluded);
        assert_eq!(add(1.0, Add { only_greater: true, ..Add::default() }), Outcome::Added(1.0));
        assert_eq!(add(2.0, Add { rule: absent, ..Add::default() }), Outcome::Excluded);
        assert_eq!(add(1.0, Add { only_greater: true, ..Add::default() }), Outcome::Excluded);
        assert_eq!(add(1.0, Add::default()), Outcome::Same(1.0));
        assert_eq!(add(0.5, Add { only_less: true, ..Add::default() }), Outcome::Changed(0.5));
        let increment = Add { increment: true, ..Add::default() };
        assert_eq!(add(f64::INFINITY, increment), Outcome::Changed(f64::INFINITY));
        assert_eq!(add(f64::NEG_INFINITY, increment), Outcome::NotANumber);
        assert_eq!(add(-1.0, Add { only_less: true, ..increment }), Outcome::Excluded);
        assert_eq!(pairs(&set), [(b"m".to_vec(), f64::INFINITY)]);
    }
}

#[test]
fn scans_see_each_member() {
    for count in [5, 500] {
        let pairs: Pairs = (0..count).map(|n: u32| (n.to_string().into_bytes(), f64::from(n))).collect();
        let set = ZSet::from_pairs(pairs.clone(), SMALL);
        let (mut cursor, mut seen) = (0, Vec::new());
        loop {
            cursor = set.view().scan(cursor, 10, |member, score| seen.push((member.to_vec(), score)));
            if cursor == 0 {
                break;
            }
        }
        sort(&mut seen);
        assert_eq!(seen, pairs);
    }
}

#[derive(Debug, Clone)]
enum Do {
    Add(u8, f64, Add),
    Remove(u8),
    RemoveSpan(usize, usize),
    Scores(f64, f64, bool, bool),
    Members(u8, u8, bool, bool),
    Copy,
}

fn member(number: u8) -> Vec<u8> {
    match number % 3 {
        0 => i64::from(number).to_string().into_bytes(),
        1 => format!("m{number}").into_bytes(),
        _ => vec![number; usize::from(number % 5)],
    }
}

fn score() -> impl Strategy<Value = f64> {
    prop_oneof![
        6 => (-3_i8..4).prop_map(f64::from),
        2 => (-20_i8..20).prop_map(|eighths| f64::from(eighths) / 8.0),
        1 => proptest::sample::select(vec![f64::INFINITY, f64::NEG_INFINITY, -0.0, 1e300, 0.1]),
    ]
}

fn how() -> impl Strategy<Value = Add> {
    let rule = prop_oneof![4 => Just(Rule::Any), 1 => Just(Rule::Absent), 1 => Just(Rule::Present)];
    (rule, 0..8_u8).prop_map(|(rule, bits)| Add {
        rule,
        only_greater: bits == 1,
        only_less: bits == 2,
        increment: bits >= 6,
    })
}

fn steps() -> impl Strategy<Value = Vec<Do>> {
    let step = prop_oneof![
        8 => (any::<u8>(), score(), how()).prop_map(|(number, score, how)| Do::Add(number, score, how)),
        3 => any::<u8>().prop_map(Do::Remove),
        1 => (0..20_usize, 0..20_usize).prop_map(|(first, count)| Do::RemoveSpan(first, count)),
        2 => (score(), score(), any::<bool>(), any::<bool>()).prop_map(|(a, b, c, d)| Do::Scores(a, b, c, d)),
        2 => (any::<u8>(), any::<u8>(), any::<bool>(), any::<bool>())
            .prop_map(|(a, b, c, d)| Do::Members(a, b, c, d)),
        1 => Just(Do::Copy),
    ];
    proptest::collection::vec(step, 0..120)
}

fn bound(text: &[u8], is_outside: bool, inside: &[u8]) -> Vec<u8> {
    [if is_outside { b"(" } else { inside }, text].concat()
}

fn look(set: &ZSet, model: &Pairs, step: &Do) {
    match step {
        Do::Scores(min, max, min_out, max_out) => {
            let text = |score: &f64| score.to_string().into_bytes();
            let (min_text, max_text) = (bound(&text(min), *min_out, b""), bound(&text(max), *max_out, b""));
            let range = ScoreRange::parse(&min_text, &max_text).unwrap();
            let is_in = |score: f64| {
                (score > *min || (!min_out && score == *min)) && (score < *max || (!max_out && score == *max))
            };
            let expected: Vec<&(Vec<u8>, f64)> = model.iter().filter(|pair| is_in(pair.1)).collect();
            let span = set.view().span_of_scores(&range);
            assert_eq!(model[span].iter().collect::<Vec<_>>(), expected);
        }
        Do::Members(min, max, min_out, max_out) => {
            // With the members alone, as all scores are equal.
            let members = model.iter().map(|(member, _)| (member.clone(), 0.0)).collect();
            let limits = if set.is_large() { LARGE } else { SMALL };
            let equal = ZSet::from_pairs(members, limits);
            let (min_text, max_text) =
                (bound(&member(*min), *min_out, b"["), bound(&member(*max), *max_out, b"["));
            let range = LexRange::parse(&min_text, &max_text).unwrap();
            let (min, max) = (member(*min), member(*max));
            let is_in = |text: &Vec<u8>| {
                (*text > min || (!min_out && *text == min)) && (*text < max || (!max_out && *text == max))
            };
            let sorted = pairs(&equal);
            let expected: Vec<&(Vec<u8>, f64)> = sorted.iter().filter(|pair| is_in(&pair.0)).collect();
            for backwards in [false, true] {
                let span = equal.view().span_of_members(&range, backwards);
                assert_eq!(sorted[span].iter().collect::<Vec<_>>(), expected);
            }
        }
        _ => {}
    }
}

fn step(set: &mut ZSet, model: &mut Pairs, step: &Do, limits: PackedLimits) {
    match step {
        Do::Add(number, score, how) => {
            let member = member(*number);
            let at = model.iter().position(|pair| pair.0 == member);
            let expected = how.outcome(at.map(|at| model[at].1), *score);
            assert_eq!(set.add(&member, *score, *how, limits), expected);
            match (expected, at) {
                (Outcome::Added(score), _) => model.push((member, score)),
                (Outcome::Changed(score), Some(at)) => model[at].1 = score,
                _ => {}
            }
        }
        Do::Remove(number) => {
            let member = member(*number);
            let at = model.iter().position(|pair| pair.0 == member);
            assert_eq!(set.remove(&member), at.is_some());
            at.map(|at| model.remove(at));
        }
        Do::RemoveSpan(first, count) => {
            let end = model.len().min(first + count);
            let removed = if *first < end { model.drain(first..&end).count() } else { 0 };
            assert_eq!(set.remove_span(*first, *count), removed);
        }
        Do::Copy => *set = set.duplicate(),
        Do::Scores(..) | Do::Members(..) => look(set, model, step),
    }
    sort(model);
}

fn compare(set: &ZSet, model: &Pairs) {
    set.check();
    assert_eq!(pairs(set), *model);
    for (rank, (member, score)) in model.iter().enumerate() {
        assert_eq!(set.view().rank(member), Some((rank, *score)));
        assert_eq!(set.view().score(member), Some(*score));
        let (seen, seen_score) = set.view().get(rank).unwrap();
        assert!(seen.is(member) && seen_score == *score);
    }
    assert_eq!(set.view().score(b"nobody"), None);
    assert_eq!(set.view().rank(b"nobody"), None);
    let mut backwards: Pairs = set
        .view()
        .range(model.len().saturating_sub(1), usize::MAX, true)
        .map(|(member, score)| (member.to_vec(), score))
        .collect();
    backwards.reverse();
    assert_eq!(backwards, *model);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn does_what_a_sorted_vector_does(steps in steps(), form in 0..3_usize) {
        let limits = [SMALL, LARGE, PackedLimits { entries_max: 1000, value_bytes_max: 100 }][form];
        let (mut set, mut model) = (ZSet::new(Vec::new()), Pairs::new());
        for each in &steps {
            step(&mut set, &mut model, each, limits);
            compare(&set, &model);
        }
        let built = ZSet::from_pairs(model.clone(), limits);
        compare(&built, &model);
        if let Some((form, bytes)) = set.inline() {
            compare(&ZSet::from_inline(form, bytes.to_vec()), &model);
        }
        while !set.free_step(3) {}
    }
}

#[test]
fn records_and_leaves_are_told_before_they_are_looked_for() {
    let mut set = ZSet::new(Vec::new());
    let member = |number: u32| format!("member {number}").into_bytes();
    for number in 0..5_000 {
        set.add(&member(number), f64::from(number % 700), Add::default(), LARGE);
    }
    let before = pairs(&set);
    let lines = std::cell::RefCell::new(std::collections::BTreeSet::new());
    for first in (0..5_000).step_by(AHEAD_MAX) {
        let members: Vec<Vec<u8>> = (first..).take(AHEAD_MAX).map(member).collect();
        let members: Vec<&[u8]> = members.iter().map(Vec::as_slice).collect();
        set.look_ahead(&members, &|line| {
            lines.borrow_mut().insert(line.addr() / 64);
        });
    }
    let Form::Large(large) = &set.form else { panic!("a large set was made") };
    let told = large.tree().range(0, u32::MAX, false).filter(|item| {
        let record = large.member(item.record).as_ptr().addr();
        lines.borrow().contains(&(record / 64))
    });
    let told = told.count();
    assert!(told > 4_500, "{told} of 5000 records told");
    assert_eq!(pairs(&set), before);
    set.check();
    ZSet::new(Vec::new()).look_ahead(&[b"nobody"], &|_| panic!("a small set is read at once"));
}
