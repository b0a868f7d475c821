//! What waits to be sent to one peer: small replies in one buffer, large shared values by reference.
//!
//! Invariant: the pieces, in order, are the exact bytes of the replies; `len` is their sum.

use std::io::IoSlice;
use std::sync::Arc;

/// A large value shared between the keyspace and the replies that carry it.
pub type Blob = Arc<Vec<u8>>;

/// Replies waiting for their socket.
#[derive(Debug)]
pub struct Output {
    /// Bytes of everything but blobs.
    bytes: Vec<u8>,
    /// Each blob goes out before the byte of `bytes` at its position.
    blobs: Vec<(usize, Blob)>,
    /// Bytes of `bytes` already sent.
    sent: usize,
    /// Blobs already sent whole.
    blobs_sent: usize,
    /// Bytes sent of the first blob that is not sent whole.
    blob_offset: usize,
    /// Bytes of all blobs not sent yet.
    blob_bytes: usize,
    /// From how many waiting bytes on strings are left out: the peer will be let go, and gets nothing of them.
    bytes_max: usize,
}

impl Default for Output {
    fn default() -> Output {
        Output {
            bytes: Vec::new(),
            blobs: Vec::new(),
            sent: 0,
            blobs_sent: 0,
            blob_offset: 0,
            blob_bytes: 0,
            bytes_max: usize::MAX,
        }
    }
}

impl Output {
    /// Sets how many bytes may wait. Who sets it looks at [`Output::is_over`] before anything is sent.
    #[inline]
    pub fn set_bytes_max(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
    }

    /// Whether more waits than may, so that strings are missing among the replies.
    #[inline]
    pub fn is_over(&self) -> bool {
        self.len() >= self.bytes_max
    }

    /// Whether the output holds memory of its own.
    #[inline]
    pub fn has_buffer(&self) -> bool {
        self.bytes.capacity() != 0
    }

    /// Gives an output without a buffer one to use.
    #[inline]
    pub fn set_buffer(&mut self, buffer: Vec<u8>) {
        debug_assert!(self.bytes.is_empty() && buffer.is_empty());
        self.bytes = buffer;
    }

    /// Takes the buffer of an output that is through, if it has one.
    #[inline]
    pub fn take_buffer(&mut self) -> Option<Vec<u8>> {
        if self.bytes.capacity() == 0 || !self.is_empty() {
            return None;
        }
        self.clear();
        if self.blobs.capacity() != 0 {
            self.blobs = Vec::new();
        }
        Some(std::mem::take(&mut self.bytes))
    }

    /// The buffer small replies are appended to.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Queues a shared value at this point of the stream, without a copy.
    pub fn push_blob(&mut self, blob: Blob) {
        self.blob_bytes += blob.len();
        self.blobs.push((self.bytes.len(), blob));
    }

    /// Bytes still to be sent.
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes.len() - self.sent + self.blob_bytes
    }

    /// Whether nothing waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Memory held by the buffer itself, in bytes; shared values are counted where they live.
    pub fn memory(&self) -> usize {
        self.bytes.capacity() + self.blobs.capacity() * size_of::<(usize, Blob)>()
    }

    /// The one slice that is left when no blob waits; the common case of one `write`.
    #[inline]
    pub fn as_single_slice(&self) -> Option<&[u8]> {
        if self.blobs_sent == self.blobs.len() { Some(&self.bytes[self.sent..]) } else { None }
    }

    /// Fills `slices` with the next pieces to send and answers how many were filled.
    pub fn fill_slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        let mut at = self.sent;
        let mut blob_offset = self.blob_offset;
        let mut push = |piece: &'a [u8], filled: &mut usize| {
            if piece.is_empty() {
                return true;
            }
            match slices.get_mut(*filled) {
                Some(slot) => {
                    *slot = IoSlice::new(piece);
                    *filled += 1;
                    true
                }
                None => false,
            }
        };
        for (position, blob) in &self.blobs[self.blobs_sent..] {
            if !push(&self.bytes[at..*position], &mut filled) || !push(&blob[blob_offset..], &mut filled) {
                return filled;
            }
            at = *position;
            blob_offset = 0;
        }
        push(&self.bytes[at..], &mut filled);
        filled
    }

    /// All that waits, as one piece. O(length).
    pub fn to_vec(&self) -> Vec<u8> {
        let mut all = Vec::with_capacity(self.len());
        let (mut at, mut blob_offset) = (self.sent, self.blob_offset);
        for (position, blob) in &self.blobs[self.blobs_sent..] {
            all.extend_from_slice(&self.bytes[at..*position]);
            all.extend_from_slice(&blob[blob_offset..]);
            (at, blob_offset) = (*position, 0);
        }
        all.extend_from_slice(&self.bytes[at..]);
        all
    }

    /// Marks `count` bytes as sent, releasing blobs that are through.
    pub fn advance(&mut self, mut count: usize) {
        debug_assert!(count <= self.len());
        while self.blobs_sent < self.blobs.len() {
            let position = self.blobs[self.blobs_sent].0;
            let before = position - self.sent;
            if count < before {
                self.sent += count;
                return;
            }
            self.sent = position;
            count -= before;
            let left = self.blobs[self.blobs_sent].1.len() - self.blob_offset;
            if count < left {
                self.blob_offset += count;
                self.blob_bytes -= count;
                return;
            }
            count -= left;
            self.blob_bytes -= left;
            self.blob_offset = 0;
            // The value may be large and its last owner may be us: let it go now.
            self.blobs[self.blobs_sent].1 = Arc::default();
            self.blobs_sent += 1;
        }
        self.sent += count;
        if self.sent == self.bytes.len() {
            self.clear();
        }
    }

    /// Drops everything that waits, keeping the buffer's memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.blobs.clear();
        (self.sent, self.blobs_sent, self.blob_offset, self.blob_bytes) = (0, 0, 0, 0);
    }

    /// Position of the end of what has been appended, for [`Output::truncate`].
    pub fn mark(&self) -> (usize, usize) {
        (self.bytes.len(), self.blobs.len())
    }

    /// Bytes appended since `mark` was taken. Nothing of them may have been sent. O(shared values since then).
    #[must_use]
    pub fn since(&self, mark: (usize, usize)) -> usize {
        let blobs = self.blobs.get(mark.1..).unwrap_or_default();
        self.bytes.len().saturating_sub(mark.0) + blobs.iter().map(|(_, blob)| blob.len()).sum::<usize>()
    }

    /// Takes back everything appended since `mark` was taken. Nothing of it may have been sent.
    pub fn truncate(&mut self, mark: (usize, usize)) {
        for (_, blob) in self.blobs.drain(mark.1..) {
            self.blob_bytes -= blob.len();
        }
        self.bytes.truncate(mark.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn drain(output: &mut Output, step: usize) -> Vec<u8> {
        let mut sent = Vec::new();
        while !output.is_empty() {
            let mut slices = [IoSlice::new(&[]); 4];
            let filled = output.fill_slices(&mut slices);
            let chunk: Vec<u8> = slices[..filled].iter().flat_map(|s| s.iter().copied()).take(step).collect();
            assert!(!chunk.is_empty());
            sent.extend_from_slice(&chunk);
            output.advance(chunk.len());
        }
        sent
    }

    proptest! {
        #[test]
        fn pieces_go_out_in_order_whatever_the_socket_takes(
            pieces in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 0..50)), 0..20),
            step in 1usize..70,
        ) {
            let mut output = Output::default();
            let mut expected = Vec::new();
            for (shared, piece) in pieces {
                expected.extend_from_slice(&piece);
                if shared { output.push_blob(Arc::new(piece)) } else { output.bytes_mut().extend_from_slice(&piece) }
            }
            prop_assert_eq!(output.len(), expected.len());
            prop_assert_eq!(drain(&mut output, step), expected);
        }
    }

    #[test]
    fn an_output_that_is_over_its_limit_takes_no_more_strings() {
        let mut output = Output::default();
        output.set_bytes_max(100);
        for _ in 0..1000 {
            let mut reply = crate::Reply::new(&mut output, crate::Protocol::Resp2);
            reply.bulk(&[b'x'; 30]);
            reply.bulk_with(30, |bytes| bytes.extend_from_slice(&[b'y'; 30]));
            reply.bulk_shared(Arc::new(vec![b'z'; 30]));
        }
        assert!(output.is_over() && output.len() < 200, "{}", output.len());
        output.clear();
        assert!(!output.is_over());
    }

    #[test]
    fn truncate_takes_back_what_came_after_the_mark() {
        let mut output = Output::default();
        output.bytes_mut().extend_from_slice(b"keep");
        let mark = output.mark();
        output.push_blob(Arc::new(vec![1; 9]));
        output.bytes_mut().extend_from_slice(b"gone");
        output.truncate(mark);
        assert_eq!(drain(&mut output, 100), b"keep");
    }
}
