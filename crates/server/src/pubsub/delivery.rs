//! A message on its way to the connections of a worker: encoded once, written to each.
//!
//! Both protocols and all patterns share the encoding of channel and payload; only what stands before
//! it differs.

use super::Name;
use larder_resp::{Blob, Output, Protocol, Reply};
use std::sync::Arc;

/// From this size on the encoding is shared with the outputs instead of copied into each.
const SHARED_BYTES_MIN: usize = 2 * 1024;

/// A published message and whom it is for.
#[derive(Debug)]
pub struct Delivery {
    is_sharded: bool,
    body: Body,
    /// Where the channel's name stands in the body.
    channel: (usize, usize),
    /// Patterns that match the channel and have subscribers.
    patterns: Vec<Name>,
    /// Of the subscriptions to channels and to patterns by which the message was counted.
    versions: (u64, u64),
}

/// Channel and payload as two bulk strings.
#[derive(Debug)]
enum Body {
    Copied(Vec<u8>),
    Shared(Blob),
}

impl Delivery {
    /// A message to `channel` for its subscribers and those of `patterns`.
    pub fn new(
        is_sharded: bool,
        channel: &[u8],
        payload: &[u8],
        patterns: Vec<Name>,
        versions: (u64, u64),
    ) -> Delivery {
        let mut out = Output::default();
        // Headers are short; both strings together are bounded by the limit of one request.
        out.set_buffer(Vec::with_capacity(channel.len() + payload.len() + 32));
        let mut reply = Reply::new(&mut out, Protocol::Resp3);
        reply.bulk(channel);
        let channel_end = reply.output().len() - 2;
        reply.bulk(payload);
        let bytes = std::mem::take(out.bytes_mut());
        let body =
            if bytes.len() < SHARED_BYTES_MIN { Body::Copied(bytes) } else { Body::Shared(Arc::new(bytes)) };
        let channel = (channel_end - channel.len(), channel_end);
        Delivery { is_sharded, body, channel, patterns, versions }
    }

    /// Whether it went to a shard channel.
    pub fn is_sharded(&self) -> bool {
        self.is_sharded
    }

    /// The channel it went to.
    pub fn channel(&self) -> &[u8] {
        let bytes = match &self.body {
            Body::Copied(bytes) => bytes,
            Body::Shared(blob) => &**blob,
        };
        bytes.get(self.channel.0..self.channel.1).unwrap_or_default()
    }

    /// The patterns whose subscribers get it too.
    pub fn patterns(&self) -> &[Name] {
        &self.patterns
    }

    /// The version of the subscriptions to the channel by which it was counted.
    pub fn version(&self) -> u64 {
        self.versions.0
    }

    /// The version of the subscriptions to patterns by which it was counted.
    pub fn pattern_version(&self) -> u64 {
        self.versions.1
    }

    /// Writes it to the output of a connection that is subscribed to the channel, or to `pattern`.
    pub fn write(&self, out: &mut Output, protocol: Protocol, pattern: Option<&[u8]>) {
        let mut reply = Reply::new(out, protocol);
        match pattern {
            Some(pattern) => {
                reply.push(4);
                reply.raw(b"$8\r\npmessage\r\n");
                reply.bulk(pattern);
            }
            None => {
                reply.push(3);
                reply.raw(if self.is_sharded { b"$8\r\nsmessage\r\n" } else { b"$7\r\nmessage\r\n" });
            }
        }
        match &self.body {
            Body::Copied(bytes) => reply.raw(bytes),
            Body::Shared(blob) => reply.output().push_blob(Arc::clone(blob)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::IoSlice;

    fn written(delivery: &Delivery, protocol: Protocol, pattern: Option<&[u8]>) -> Vec<u8> {
        let mut out = Output::default();
        delivery.write(&mut out, protocol, pattern);
        let mut slices = [IoSlice::new(&[]); 8];
        let filled = out.fill_slices(&mut slices);
        slices[..filled].iter().flat_map(|slice| slice.iter().copied()).collect()
    }

    #[test]
    fn the_same_message_is_written_for_both_protocols_and_for_patterns() {
        for size in [0, 5, SHARED_BYTES_MIN] {
            let payload = vec![b'x'; size];
            let delivery = Delivery::new(false, b"news", &payload, vec![Name::from(&b"n*"[..])], (3, 4));
            assert_eq!((delivery.channel(), &*delivery.patterns()[0]), (&b"news"[..], &b"n*"[..]));
            let text = String::from_utf8(payload).unwrap();
            let tail = format!("$4\r\nnews\r\n${size}\r\n{text}\r\n");
            let two = format!("*3\r\n$7\r\nmessage\r\n{tail}");
            let three = format!(">4\r\n$8\r\npmessage\r\n$2\r\nn*\r\n{tail}");
            assert_eq!(written(&delivery, Protocol::Resp2, None), two.into_bytes());
            assert_eq!(written(&delivery, Protocol::Resp3, Some(b"n*")), three.into_bytes());
        }
        let delivery = Delivery::new(true, b"", b"hi", Vec::new(), (0, 0));
        assert_eq!(
            written(&delivery, Protocol::Resp3, None),
            b">3\r\n$8\r\nsmessage\r\n$0\r\n\r\n$2\r\nhi\r\n"
        );
    }
}
