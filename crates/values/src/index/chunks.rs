//! A vector in chunks, so that a push never moves more than one chunk's worth of elements.
//!
//! Invariant: every chunk but the last is full, and the last is not empty.

/// Elements of a full chunk.
const CHUNK: usize = 512;

/// Elements addressed by position, pushed and popped at the end.
#[derive(Debug, Clone)]
pub(super) struct Chunks<T> {
    chunks: Vec<Vec<T>>,
}

impl<T> Default for Chunks<T> {
    fn default() -> Self {
        Chunks { chunks: Vec::new() }
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
            Some(last) if last.len() < CHUNK => last.push(element),
            // The first chunk doubles, as a small collection has no more; the others are made whole.
            previous => {
                let mut chunk = Vec::with_capacity(if previous.is_some() { CHUNK } else { 1 });
                chunk.push(element);
                self.chunks.push(chunk);
            }
        }
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        let last = self.chunks.last_mut()?;
        let element = last.pop();
        if last.len() * 4 <= last.capacity() && last.capacity() > 8 {
            last.shrink_to(last.len() * 2);
        }
        if last.is_empty() {
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
        let elements: usize = self.chunks.iter().map(Vec::capacity).sum();
        elements * size_of::<T>() + self.chunks.capacity() * size_of::<Vec<T>>()
    }
}
