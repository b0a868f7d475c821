//! What a trace's requests are to a server with keys of a fixed length: values, and bytes altogether.
//! Read next: `replay.rs`; traces are read by `larder_policy::sim`.

use larder_policy::sim::{Request, Trace};

/// The value's size where the trace does not know it.
const VALUE_BYTES_UNKNOWN: u32 = 100;

/// The bytes of all keys and values, each key with its last size.
pub(crate) fn footprint_bytes(trace: &Trace, key_bytes: usize) -> u64 {
    let mut sizes = vec![0u64; trace.keys as usize];
    for request in &trace.requests {
        if let Some(place) = sizes.get_mut(request.key as usize) {
            *place = key_bytes as u64 + value_bytes(request, key_bytes) as u64;
        }
    }
    sizes.iter().sum()
}

/// The length of the value that stands for a request's object.
pub(crate) fn value_bytes(request: &Request, key_bytes: usize) -> usize {
    match request.bytes {
        0 => VALUE_BYTES_UNKNOWN as usize,
        bytes => (bytes as usize).saturating_sub(key_bytes).max(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_policy::sim::Operation::{Delete, Get, Set};

    #[test]
    fn the_last_size_of_a_key_counts() {
        let request = |key, bytes, operation| Request { key, bytes, second: 0, ttl_seconds: 0, operation };
        let requests = vec![request(0, 500, Get), request(1, 0, Set), request(0, 300, Delete)];
        assert_eq!(value_bytes(&requests[0], 16), 484);
        assert_eq!(value_bytes(&request(0, 5, Get), 16), 1);
        assert_eq!(footprint_bytes(&Trace { requests, keys: 2 }, 16), 300 + 116);
    }
}
