//! What other threads may know of a connection: the registry behind CLIENT LIST and CLIENT KILL.
//!
//! The owning worker writes its connections' figures with relaxed stores once per turn; readers see
//! them a turn late at most.

use crate::pubsub::Kind;
use larder_store::{Counter, Watch};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicI64, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed,
};

/// What a client says about itself.
#[derive(Debug, Default, Clone)]
pub struct ClientNames {
    /// CLIENT SETNAME.
    pub name: Vec<u8>,
    /// CLIENT SETINFO LIB-NAME.
    pub library: Vec<u8>,
    /// CLIENT SETINFO LIB-VER.
    pub library_version: Vec<u8>,
    /// The user it authenticated as.
    pub user: Vec<u8>,
}

/// One connection, as all threads see it.
#[derive(Debug)]
pub struct Client {
    /// Its number, never given twice.
    pub id: u64,
    /// Worker that owns it.
    pub worker: usize,
    /// The peer's address, `ip:port` or `path:0`.
    pub address: String,
    /// Our side's address.
    pub local_address: String,
    /// The socket's number.
    pub socket: i32,
    /// Whether it came by the Unix socket.
    pub is_unix: bool,
    /// When it connected, in milliseconds of Unix time.
    pub created_ms: u64,
    /// What it says about itself.
    pub names: Mutex<ClientNames>,
    /// When it last asked something, in milliseconds of Unix time.
    pub active_ms: AtomicU64,
    /// Its database.
    pub db: AtomicU32,
    /// 2 or 3.
    pub protocol: AtomicU8,
    /// Monitoring.
    pub monitor: AtomicBool,
    /// CLIENT NO-EVICT.
    pub no_evict: AtomicBool,
    /// CLIENT NO-TOUCH.
    pub no_touch: AtomicBool,
    /// Closing once its replies are out.
    pub closing: AtomicBool,
    /// How many channels, patterns and shard channels it is subscribed to; by `pubsub::Kind`.
    pub subscriptions: [AtomicUsize; 3],
    /// Parked: waiting for something.
    pub parked: AtomicBool,
    /// Commands since MULTI; -1 outside of a transaction.
    pub multi: AtomicI64,
    /// Memory they take, in bytes.
    pub multi_bytes: AtomicUsize,
    /// Keys it watches.
    pub watched: AtomicUsize,
    /// Whether one of them has changed.
    pub watch: Arc<Watch>,
    /// Bytes waiting in the query buffer.
    pub query_bytes: AtomicUsize,
    /// Capacity of the query buffer that is free.
    pub query_free: AtomicUsize,
    /// Bytes of arguments of an incomplete request.
    pub argv_bytes: AtomicUsize,
    /// Reply bytes waiting.
    pub output_bytes: AtomicUsize,
    /// Memory held for the connection, in bytes.
    pub memory: AtomicUsize,
    /// `Row::id` of the last command plus one.
    pub last_command: AtomicUsize,
    /// Bytes read from it.
    pub bytes_in: Counter,
    /// Bytes sent to it.
    pub bytes_out: Counter,
    /// Commands it ran.
    pub commands: Counter,
}

impl Client {
    /// A client that has just connected.
    pub fn new(
        id: u64,
        worker: usize,
        address: String,
        local_address: String,
        socket: i32,
        is_unix: bool,
        now_ms: u64,
    ) -> Self {
        Client {
            id,
            worker,
            address,
            local_address,
            socket,
            is_unix,
            created_ms: now_ms,
            names: Mutex::new(ClientNames { user: b"default".to_vec(), ..ClientNames::default() }),
            active_ms: AtomicU64::new(now_ms),
            db: AtomicU32::new(0),
            protocol: AtomicU8::new(2),
            monitor: AtomicBool::new(false),
            no_evict: AtomicBool::new(false),
            no_touch: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            subscriptions: [const { AtomicUsize::new(0) }; 3],
            parked: AtomicBool::new(false),
            multi: AtomicI64::new(-1),
            multi_bytes: AtomicUsize::new(0),
            watched: AtomicUsize::new(0),
            watch: Arc::default(),
            query_bytes: AtomicUsize::new(0),
            query_free: AtomicUsize::new(0),
            argv_bytes: AtomicUsize::new(0),
            output_bytes: AtomicUsize::new(0),
            memory: AtomicUsize::new(0),
            last_command: AtomicUsize::new(0),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            commands: Counter::default(),
        }
    }

    /// Keys it watches, none of which has changed.
    pub fn keys_watched(&self) -> usize {
        if self.watch.has_changed() { 0 } else { self.watched.load(Relaxed) }
    }

    /// How many subscriptions of a kind it has.
    pub fn subscribed(&self, kind: Kind) -> usize {
        self.subscriptions[kind as usize].load(Relaxed)
    }

    /// Whether it has any subscription.
    pub fn is_subscriber(&self) -> bool {
        self.subscriptions.iter().any(|count| count.load(Relaxed) != 0)
    }

    /// Whether it comes from this machine: by the Unix socket or a loopback address.
    pub fn is_local(&self) -> bool {
        let ip =
            || self.address.parse::<std::net::SocketAddr>().ok().map(|address| address.ip().to_canonical());
        self.is_unix || ip().is_some_and(|ip| ip.is_loopback())
    }
}

/// All connections.
#[derive(Debug)]
pub struct Clients {
    next_id: AtomicU64,
    by_id: Mutex<BTreeMap<u64, Arc<Client>>>,
    count: AtomicUsize,
    of_worker: Box<[AtomicUsize]>,
}

impl Clients {
    /// No connections, for `workers` workers.
    pub fn new(workers: usize) -> Self {
        Clients {
            next_id: AtomicU64::new(0),
            by_id: Mutex::default(),
            count: AtomicUsize::new(0),
            of_worker: (0..workers).map(|_| AtomicUsize::new(0)).collect(),
        }
    }

    /// A number for a new connection.
    pub fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Relaxed) + 1
    }

    /// Makes a connection known.
    pub fn add(&self, client: Arc<Client>) {
        if let Some(count) = self.of_worker.get(client.worker) {
            count.fetch_add(1, Relaxed);
        }
        self.by_id.lock().insert(client.id, client);
    }

    /// Forgets a connection.
    pub fn remove(&self, id: u64) {
        let Some(client) = self.by_id.lock().remove(&id) else { return };
        if let Some(count) = self.of_worker.get(client.worker) {
            count.fetch_sub(1, Relaxed);
        }
    }

    /// The worker with the fewest connections, the ones on their way included.
    pub fn least_busy_worker(&self) -> usize {
        let counts = self.of_worker.iter().map(|count| count.load(Relaxed)).enumerate();
        counts.min_by_key(|(_, count)| *count).map_or(0, |(worker, _)| worker)
    }

    /// All connections by ascending number.
    pub fn all(&self) -> Vec<Arc<Client>> {
        self.by_id.lock().values().cloned().collect()
    }

    /// Connections now, those still on their way to their worker included.
    pub fn count(&self) -> usize {
        self.count.load(Relaxed)
    }

    /// Takes a place under `limit`, or answers false.
    pub fn take_place(&self, limit: usize) -> bool {
        self.count.fetch_update(Relaxed, Relaxed, |count| (count < limit).then_some(count + 1)).is_ok()
    }

    /// Gives a place back.
    pub fn give_place(&self) {
        self.count.fetch_sub(1, Relaxed);
    }
}
