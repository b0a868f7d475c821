//! What a peer may announce or send before it is refused. One table, so that no parser invents its own.

/// Longest inline request or length line, in bytes, terminator excluded.
pub const LINE_BYTES_MAX: usize = 64 * 1024;
/// Arguments a connection may announce before it has authenticated.
pub const UNAUTHENTICATED_ITEMS_MAX: i64 = 10;
/// Bytes in one argument a connection may announce before it has authenticated.
pub const UNAUTHENTICATED_BULK_BYTES_MAX: i64 = 16_384;
/// Arguments in one request; `COMMAND` counts them in 32 bits.
pub const ITEMS_MAX: i64 = i32::MAX as i64;
/// Bytes of one request that positions can address.
pub const REQUEST_BYTES_MAX: usize = u32::MAX as usize;

/// The limits in force for one connection.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// `proto-max-bulk-len`: bytes in one argument.
    pub bulk_bytes_max: i64,
    /// Whether the peer may use the full limits; a peer that still has to authenticate may not.
    pub authenticated: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { bulk_bytes_max: 512 * 1024 * 1024, authenticated: true }
    }
}
