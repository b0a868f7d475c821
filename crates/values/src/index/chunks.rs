//! A vector in chunks, so that a push never moves more than one chunk's worth of elements.
//!
//! Invariants: every chunk but the last is full, and the last is not empty; `room` is what all of them have room for.

/// Elements of a full chunk.
const CHUNK: usize = 512;

/// Elements addressed by position, pushed and popped at the end.
#[derive(Debug)]
pub(super) struct Chunks<T> {
    chunks: Vec<Vec<T>>,
    room: usize,
}

impl<T: Clone> Clone for Chunks<T> {
    fn clone(&self) -> Self {
        let chunks = self.chunks.clone();
        // The copies of vectors have no room for more.
        Chunks { room: room_of(&chunks), chunks }
    }
}

impl<T> Default for Chunks<T> {
    fn default() -> Self {
        Chunks { chunks: Vec::new(), room: 0 }
    }
}

impl<T> Chunks<T> {
    pub(super) fn len(&self) -> usize {
        self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.len())
    }

    #[inline]
    pub(super) fn get(&self, at: usize) -> &T {
        &self.chunks[at / CHUNK][at % CHUNK]
    }

    #[inline]
    pub(super) fn get_mut(&mut self, at: usize) -> &mut T {
        &mut self.chunks[at / CHUNK][at % CHUNK]
    }

    pub(super) fn push(&mut self, element: T) {
        match self.chunks.last_mut() {
            Some(last) if last.len() < CHUNK => {
                self.room -= last.capacity();
                last.push(element);
                self.room += last.capacity();
            }
            // The first chunk doubles, as a small collection has no more; the others are made whole.
            previous => {
                let mut chunk = Vec::with_capacity(if previous.is_some() { CHUNK } else { 1 });
                chunk.push(element);
                self.room += chunk.capacity();
                self.chunks.push(chunk);
            }
        }
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        let last = self.chunks.last_mut()?;
        let element = last.pop();
        if last.len() * 4 <= last.capacity() && last.capacity() > 8 {
            self.room -= last.capacity();
            last.shrink_to(last.len() * 2);
            self.room += last.capacity();
        }
        if last.is_empty() {
            self.room -= last.capacity();
            self.chunks.pop();
        }
        element
    }

    /// Takes out the element at `at`; the last one takes its place.
    pub(super) fn swap_remove(&mut self, at: usize) -> T {
        let last = self.pop().expect("there is an element at `at`");
        if at == self.len() { last } else { std::mem::replace(self.get_mut(at), last) }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> + Clone {
        self.chunks.iter().flatten()
    }

    /// Bytes of the vectors themselves.
    pub(super) fn heap_bytes(&self) -> usize {
        self.room * size_of::<T>() + self.chunks.capacity() * size_of::<Vec<T>>()
    }

    /// Panics if an invariant does not hold.
    pub(super) fn check(&self) {
        assert_eq!(room_of(&self.chunks), self.room, "what the chunks have room for is counted wrong");
    }
}

fn room_of<T>(chunks: &[Vec<T>]) -> usize {
    chunks.iter().map(Vec::capacity).sum()
}
