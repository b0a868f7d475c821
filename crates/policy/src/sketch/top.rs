//! Heavy hitters in constant memory: Space-Saving (Metwally, Agrawal, El Abbadi, ICDT 2005).
//!
//! For top prefixes, hot keys (weight 1 a use) and traffic by key (weight its bytes). Each of the names kept has a count that
//! is at most `over` too high and never too low; a name that is not kept has had no more than the least count. So whoever
//! has more than the whole weight by the number of names is kept for certain.
//! For the largest keys use [`Top::largest`], which keeps maxima instead of sums.
//! Invariant: the heap is ordered by count, and each name's place in it is known; `check` compares.

use foldhash::{HashMap, HashMapExt};

/// A name and what it has had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The key or prefix.
    pub name: Box<[u8]>,
    /// Its weight, or a little more.
    pub count: u64,
    /// How much more at most.
    pub over: u64,
}

/// The sketch.
#[derive(Debug)]
pub struct Top {
    names_max: usize,
    /// Longer names are cut, so that memory is bounded.
    name_bytes_max: usize,
    /// By a fast hash with a seed of the sketch's own. Whoever found names that collide all the same would have them looked for among
    /// so few names as there are.
    places: HashMap<Box<[u8]>, usize>,
    /// A binary heap, the least count first.
    heap: Vec<Counted>,
}

impl Top {
    /// A sketch of so many names of at most so many bytes.
    #[must_use]
    pub fn new(names_max: usize, name_bytes_max: usize) -> Self {
        Top { names_max: names_max.max(1), name_bytes_max, places: HashMap::new(), heap: Vec::new() }
    }

    fn cut<'n>(&self, name: &'n [u8]) -> &'n [u8] {
        name.get(..self.name_bytes_max).unwrap_or(name)
    }

    /// Adds to a name's weight.
    pub fn add(&mut self, name: &[u8], weight: u64) {
        let name = self.cut(name);
        if let Some(place) = self.places.get(name).copied() {
            let count = self.heap[place].count.saturating_add(weight);
            return self.set(place, count);
        }
        if self.heap.len() < self.names_max {
            return self.push(name, weight, 0);
        }
        let least = self.heap.first().map_or(0, |least| least.count);
        self.replace_least(name, least.saturating_add(weight), least);
    }

    /// Tells a name's size: the largest are kept, each with what was told last.
    pub fn largest(&mut self, name: &[u8], size: u64) {
        let name = self.cut(name);
        if let Some(place) = self.places.get(name).copied() {
            return self.set(place, size);
        }
        if self.heap.len() < self.names_max {
            return self.push(name, size, 0);
        }
        if self.heap.first().is_some_and(|least| least.count < size) {
            self.replace_least(name, size, 0);
        }
    }

    /// Forgets a name.
    pub fn remove(&mut self, name: &[u8]) {
        let Some(place) = self.places.remove(self.cut(name)) else { return };
        self.heap.swap_remove(place);
        if let Some(moved) = self.heap.get(place) {
            self.places.insert(moved.name.clone(), place);
            self.sift(place);
        }
    }

    /// Takes a share off all counts, so that what was heavy long ago makes room.
    pub fn fade(&mut self, kept: f64) {
        for counted in &mut self.heap {
            counted.count = (counted.count as f64 * kept) as u64;
            counted.over = (counted.over as f64 * kept) as u64;
        }
    }

    /// The heaviest, in descending order.
    #[must_use]
    pub fn heaviest(&self, most: usize) -> Vec<Counted> {
        let mut all = self.heap.clone();
        all.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.name.cmp(&b.name)));
        all.truncate(most);
        all
    }

    /// Whether a name is kept.
    #[must_use]
    pub fn contains(&self, name: &[u8]) -> bool {
        self.places.contains_key(self.cut(name))
    }

    /// The least size or count by which a name is kept; `None` while there is room for more names.
    #[must_use]
    pub fn least(&self) -> Option<u64> {
        if self.heap.len() < self.names_max { None } else { self.heap.first().map(|least| least.count) }
    }

    /// Memory held, in bytes, about.
    #[must_use]
    pub fn memory(&self) -> usize {
        let names: usize = self.heap.iter().map(|counted| counted.name.len()).sum();
        2 * names
            + self.heap.capacity() * size_of::<Counted>()
            + self.places.capacity() * (size_of::<(Box<[u8]>, usize)>() + 1) * 8 / 7
    }

    fn push(&mut self, name: &[u8], count: u64, over: u64) {
        let place = self.heap.len();
        self.places.insert(name.into(), place);
        self.heap.push(Counted { name: name.into(), count, over });
        self.sift(place);
    }

    fn replace_least(&mut self, name: &[u8], count: u64, over: u64) {
        let new = Counted { name: name.into(), count, over };
        if let Some(least) = self.heap.first_mut() {
            let old = std::mem::replace(least, new);
            self.places.remove(&old.name);
            self.places.insert(name.into(), 0);
            self.sift(0);
        }
    }

    fn set(&mut self, place: usize, count: u64) {
        self.heap[place].count = count;
        self.sift(place);
    }

    /// Moves what stands at a place to where it belongs.
    fn sift(&mut self, mut place: usize) {
        while place > 0 && self.heap[place].count < self.heap[(place - 1) / 2].count {
            self.exchange(place, (place - 1) / 2);
            place = (place - 1) / 2;
        }
        loop {
            let children = [2 * place + 1, 2 * place + 2];
            let least = children.into_iter().filter(|child| *child < self.heap.len());
            let Some(least) = least.min_by_key(|child| self.heap[*child].count) else { return };
            if self.heap[place].count <= self.heap[least].count {
                return;
            }
            self.exchange(place, least);
            place = least;
        }
    }

    fn exchange(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        for place in [a, b] {
            if let Some(known) = self.places.get_mut(&self.heap[place].name) {
                *known = place;
            }
        }
    }

    /// Compares what is kept twice.
    ///
    /// # Panics
    /// When heap and places disagree or the heap is out of order.
    pub fn check(&self) {
        assert_eq!(self.places.len(), self.heap.len());
        for (place, counted) in self.heap.iter().enumerate() {
            assert_eq!(self.places.get(&counted.name), Some(&place));
            assert!(place == 0 || self.heap[(place - 1) / 2].count <= counted.count);
            assert!(counted.over <= counted.count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn counts_are_never_too_low_and_errors_are_told(
            uses in proptest::collection::vec((0u8..60, 1u64..9), 1..1500), names in 1usize..40
        ) {
            let mut top = Top::new(names, 8);
            let mut exact = HashMap::new();
            let mut whole = 0;
            for (name, weight) in uses {
                top.add(&[name], weight);
                *exact.entry(name).or_insert(0u64) += weight;
                whole += weight;
                top.check();
            }
            let kept = top.heaviest(usize::MAX);
            prop_assert!(kept.len() <= names);
            for counted in &kept {
                let true_count = exact[&counted.name[0]];
                prop_assert!(counted.count >= true_count && counted.count - counted.over <= true_count);
            }
            for (name, count) in exact {
                let is_kept = kept.iter().any(|counted| *counted.name == [name]);
                prop_assert!(is_kept || count <= whole / names as u64);
            }
        }

        #[test]
        fn the_largest_are_kept_exactly(sizes in proptest::collection::vec(1u64..1000, 1..200)) {
            let mut top = Top::new(8, 8);
            for (name, size) in sizes.iter().enumerate() {
                top.largest(&name.to_le_bytes(), *size);
                top.check();
            }
            let mut expected = sizes.clone();
            expected.sort_unstable_by(|a, b| b.cmp(a));
            expected.truncate(8);
            let kept: Vec<u64> = top.heaviest(usize::MAX).iter().map(|counted| counted.count).collect();
            prop_assert_eq!(kept, expected);
        }
    }

    #[test]
    fn under_skewed_load_the_top_ten_are_the_true_ones() {
        let (mut top, mut exact, mut random) = (Top::new(256, 64), HashMap::new(), Random::new(6));
        for _ in 0..200_000 {
            let key = format!("key:{}", 50_000f64.powf(random.share().powi(2)) as u64);
            top.add(key.as_bytes(), 1);
            *exact.entry(key).or_insert(0u64) += 1;
        }
        let mut true_ones: Vec<(u64, &String)> = exact.iter().map(|(key, count)| (*count, key)).collect();
        true_ones.sort_unstable_by(|a, b| b.cmp(a));
        for (counted, (count, key)) in top.heaviest(10).iter().zip(&true_ones) {
            assert_eq!(*counted.name, *key.as_bytes());
            assert!(counted.count - count <= count / 20, "{key}: {} for {count}", counted.count);
        }
        assert!(top.memory() < 128 * 1024, "{}", top.memory());
    }

    #[test]
    fn removal_and_fading_keep_the_order() {
        let mut top = Top::new(50, 8);
        for name in 0..50u8 {
            top.add(&[name], u64::from(name) * 7 % 31 + 1);
        }
        for name in (0..50u8).step_by(3) {
            top.remove(&[name]);
            top.check();
        }
        top.fade(0.5);
        top.check();
        assert_eq!(top.heaviest(100).len(), 33);
    }
}
