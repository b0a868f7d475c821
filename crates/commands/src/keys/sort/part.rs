//! Sorting no more of a sequence than is asked for.
//!
//! The quicksort of Bentley and McIlroy, "Engineering a Sort Function" (Software: Practice and Experience 23, 1993),
//! which leaves out the parts that lie outside a range. Equal elements keep no order, but always end in the same
//! one, that of Redis: its tests of order and its exchanges are done in the paper's sequence.

use std::cmp::Ordering;
use std::ops::Range;

/// Brings the elements of `wanted` to where a full sort would put them; others end anywhere outside of it.
/// O(n log n) for most sequences, O(n²) at worst.
pub(super) fn sort_part<T>(
    elements: &mut [T],
    wanted: Range<usize>,
    order: &mut impl FnMut(&T, &T) -> Ordering,
) {
    let mut rest = 0..elements.len();
    loop {
        let part = &mut elements[rest.clone()];
        if part.len() < 7 {
            return insertion_sort(part, order);
        }
        let pivot = pivot(part, order);
        part.swap(0, pivot);
        let (less, greater) = partition(part, order);
        let less = rest.start..rest.start + less;
        let greater = rest.end - greater..rest.end;
        if less.len() > 1 && overlap(&less, &wanted) {
            sort_part(
                &mut elements[less.clone()],
                wanted.start.saturating_sub(less.start)..wanted.end - less.start,
                order,
            );
        }
        if greater.len() <= 1 || !overlap(&greater, &wanted) {
            return;
        }
        rest = greater;
    }
}

fn overlap(one: &Range<usize>, other: &Range<usize>) -> bool {
    one.start < other.end && other.start < one.end
}

fn insertion_sort<T>(part: &mut [T], order: &mut impl FnMut(&T, &T) -> Ordering) {
    for sorted in 1..part.len() {
        let mut at = sorted;
        while at > 0 && order(&part[at - 1], &part[at]).is_gt() {
            part.swap(at - 1, at);
            at -= 1;
        }
    }
}

/// The element to part by: the middle one, the median of three, or of three such medians.
fn pivot<T>(part: &[T], order: &mut impl FnMut(&T, &T) -> Ordering) -> usize {
    let len = part.len();
    let (mut first, mut middle, mut last) = (0, len / 2, len - 1);
    if len == 7 {
        return middle;
    }
    let mut median = |one: usize, other: usize, third: usize| {
        if order(&part[one], &part[other]).is_lt() {
            if order(&part[other], &part[third]).is_lt() {
                other
            } else if order(&part[one], &part[third]).is_lt() {
                third
            } else {
                one
            }
        } else if order(&part[other], &part[third]).is_gt() {
            other
        } else if order(&part[one], &part[third]).is_lt() {
            one
        } else {
            third
        }
    };
    if len > 40 {
        let step = len / 8;
        first = median(first, first + step, first + 2 * step);
        middle = median(middle - step, middle, middle + step);
        last = median(last - 2 * step, last - step, last);
    }
    median(first, middle, last)
}

/// Parts by the first element: what is less comes first, what is equal in the middle, what is greater last.
/// The answer is how many are less and how many are greater.
fn partition<T>(part: &mut [T], order: &mut impl FnMut(&T, &T) -> Ordering) -> (usize, usize) {
    let len = part.len();
    // Equal elements gather before `low_equal` and from `high_equal` on; `low..high` is not looked at yet.
    let (mut low_equal, mut low, mut high, mut high_equal) = (1, 1, len, len);
    loop {
        while low < high {
            match order(&part[low], &part[0]) {
                Ordering::Greater => break,
                Ordering::Equal => {
                    part.swap(low_equal, low);
                    low_equal += 1;
                }
                Ordering::Less => {}
            }
            low += 1;
        }
        while low < high {
            match order(&part[high - 1], &part[0]) {
                Ordering::Less => break,
                Ordering::Equal => {
                    high_equal -= 1;
                    part.swap(high - 1, high_equal);
                }
                Ordering::Greater => {}
            }
            high -= 1;
        }
        if low >= high {
            break;
        }
        high -= 1;
        part.swap(low, high);
        low += 1;
    }
    let (less, greater) = (low - low_equal, high_equal - low);
    swap_blocks(part, 0, low, low_equal.min(less));
    swap_blocks(part, low, len, (len - high_equal).min(greater));
    (less, greater)
}

/// Exchanges the `count` elements from `start` on with those before `end`.
fn swap_blocks<T>(part: &mut [T], start: usize, end: usize, count: usize) {
    for at in 0..count {
        part.swap(start + at, end - count + at);
    }
}

#[cfg(test)]
mod tests {
    use super::sort_part;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_part_is_what_a_full_sort_has_there(
            mut numbers in prop::collection::vec(0u8..60, 0..200),
            bounds in (0usize..200, 0usize..200),
        ) {
            let (start, end) = (bounds.0.min(bounds.1).min(numbers.len()), bounds.0.max(bounds.1).min(numbers.len()));
            let mut all = numbers.clone();
            all.sort_unstable();
            sort_part(&mut numbers, start..end, &mut |one: &u8, other| one.cmp(other));
            prop_assert_eq!(&numbers[start..end], &all[start..end]);
            numbers.sort_unstable();
            prop_assert_eq!(numbers, all);
        }
    }

    /// Sorts the numbers from 0 on by their weights, and answers those from the second on.
    fn sorted_by(weights: &[u32]) -> Vec<usize> {
        let mut elements: Vec<(u32, usize)> = weights.iter().copied().zip(0..).collect();
        let len = elements.len();
        sort_part(&mut elements, 1..len, &mut |one, other| one.0.cmp(&other.0));
        elements[1..].iter().map(|(_, number)| *number).collect()
    }

    /// What redis-server 8.2.3 answers to `SORT numbers BY nokey* ALPHA LIMIT 1 -1`.
    #[test]
    fn elements_that_are_all_equal_end_where_redis_has_them() {
        assert_eq!(sorted_by(&[0; 7]), [1, 2, 0, 4, 5, 6]);
        for len in [30, 60] {
            let mut expected: Vec<usize> = (1..len - 1).collect();
            expected.push(0);
            assert_eq!(sorted_by(&vec![0; len]), expected, "{len} elements");
        }
    }

    /// What it answers to `SORT numbers BY w* ALPHA LIMIT 1 -1`, where w0, w1, ... are 0, 2, 4, 1, 3, 0, ...
    #[test]
    fn equal_elements_among_others_end_where_redis_has_them() {
        let weights = |len: u32| (0..len).map(|number| number * 7 % 5).collect::<Vec<_>>();
        assert_eq!(sorted_by(&weights(7)), [5, 3, 1, 6, 4, 2]);
        assert_eq!(
            sorted_by(&weights(30)),
            [
                5, 10, 15, 20, 25, 28, 13, 18, 23, 3, 8, 6, 26, 11, 16, 21, 1, 14, 19, 4, 9, 24, 29, 7, 17,
                12, 2, 22, 27
            ]
        );
        assert_eq!(
            sorted_by(&weights(60)),
            [
                35, 50, 15, 5, 55, 20, 40, 0, 45, 10, 25, 18, 48, 38, 8, 43, 13, 3, 53, 23, 28, 33, 58, 46,
                56, 26, 51, 41, 6, 11, 1, 36, 21, 31, 16, 59, 4, 9, 14, 19, 24, 29, 34, 39, 44, 49, 54, 47,
                7, 32, 27, 52, 22, 2, 17, 12, 57, 42, 37
            ]
        );
    }
}
