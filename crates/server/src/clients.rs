//! What other threads may know of a connection: the registry behind CLIENT LIST and CLIENT KILL.
//!
//! The owning worker writes its connections' figures with relaxed stores once per turn; readers see
//! them a turn late at most.

use crate::pubsub::Kind;
use crate::tracking::Tracked;
use crossbeam_utils::CachePadded;
use larder_acl::User;
use larder_store::{Counter, Watch};
use parking_lot::Mutex;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicI64, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed,
};

/// What CLIENT LIST shows for the version of the protocol that a client of the memcached port speaks.
pub const MEMCACHED: u8 = 0;

/// What a client says about itself.
#[derive(Debug, Clone)]
pub struct ClientNames {
    /// CLIENT SETNAME.
    pub name: Vec<u8>,
    /// CLIENT SETINFO LIB-NAME.
    pub library: Vec<u8>,
    /// CLIENT SETINFO LIB-VER.
    pub library_version: Vec<u8>,
    /// Whom it speaks for.
    pub user: Arc<User>,
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
    /// 2 or 3, or [`MEMCACHED`].
    pub protocol: AtomicU8,
    /// Monitoring.
    pub monitor: AtomicBool,
    /// CLIENT NO-EVICT.
    pub no_evict: AtomicBool,
    /// It is to be closed since clients take too much memory.
    pub evicted: AtomicBool,
    /// CLIENT NO-TOUCH.
    pub no_touch: AtomicBool,
    /// CLIENT CAPA REDIRECT.
    pub follows_redirects: AtomicBool,
    /// Closing once its replies are out.
    pub closing: AtomicBool,
    /// How many channels, patterns and shard channels it is subscribed to; by `pubsub::Kind`.
    pub subscriptions: [AtomicUsize; 3],
    /// Parked: waiting for something.
    pub parked: AtomicBool,
    /// Its next request is kept until a pause is over. False once that request has been carried out, or waits for a key.
    pub held: AtomicBool,
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
    /// How it tracks, if it does.
    tracked: Mutex<Option<Arc<Tracked>>>,
    /// Bytes read from it.
    pub bytes_in: Counter,
    /// Bytes sent to it.
    pub bytes_out: Counter,
    /// Commands it ran.
    pub commands: Counter,
}

impl Client {
    /// A client that has just connected and speaks for the default user.
    pub fn new(
        (id, user): (u64, Arc<User>),
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
            names: Mutex::new(ClientNames {
                name: Vec::new(),
                library: Vec::new(),
                library_version: Vec::new(),
                user,
            }),
            active_ms: AtomicU64::new(now_ms),
            db: AtomicU32::new(0),
            protocol: AtomicU8::new(2),
            monitor: AtomicBool::new(false),
            no_evict: AtomicBool::new(false),
            evicted: AtomicBool::new(false),
            no_touch: AtomicBool::new(false),
            follows_redirects: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            subscriptions: [const { AtomicUsize::new(0) }; 3],
            parked: AtomicBool::new(false),
            held: AtomicBool::new(false),
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
            tracked: Mutex::default(),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            commands: Counter::default(),
        }
    }

    /// How it tracks, if it does.
    pub fn tracked(&self) -> Option<Arc<Tracked>> {
        self.tracked.lock().clone()
    }

    /// Notes how it tracks.
    pub fn set_tracked(&self, tracked: Option<Arc<Tracked>>) {
        *self.tracked.lock() = tracked;
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
    /// Memory of each worker's connections, in bytes.
    bytes_of_worker: Box<[CachePadded<AtomicUsize>]>,
    /// Held while clients are chosen that are to be closed for their memory.
    evicting: Mutex<()>,
}

impl Clients {
    /// No connections, for `workers` workers.
    pub fn new(workers: usize) -> Self {
        Clients {
            next_id: AtomicU64::new(0),
            by_id: Mutex::default(),
            count: AtomicUsize::new(0),
            of_worker: (0..workers).map(|_| AtomicUsize::new(0)).collect(),
            bytes_of_worker: (0..workers).map(|_| CachePadded::default()).collect(),
            evicting: Mutex::default(),
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
        self.weigh(&client, 0);
    }

    /// Notes the memory that a connection takes now, in bytes. Called by its worker.
    #[inline]
    pub fn weigh(&self, client: &Client, bytes: usize) {
        let before = client.memory.load(Relaxed);
        if before != bytes {
            client.memory.store(bytes, Relaxed);
            if let Some(all) = self.bytes_of_worker.get(client.worker) {
                all.fetch_add(bytes.wrapping_sub(before), Relaxed);
            }
        }
    }

    /// Memory that all connections take, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes_of_worker.iter().fold(0, |sum, bytes| sum.wrapping_add(bytes.load(Relaxed)))
    }

    /// Chooses the clients that are to be closed so that the others take less than `max` bytes: the largest, but none that asked
    /// to be spared (CLIENT NO-EVICT). Nobody is chosen twice. O(clients), by one thread at a time.
    pub fn evict(&self, max: usize) -> Vec<Arc<Client>> {
        let Some(_one_thread) = self.evicting.try_lock() else { return Vec::new() };
        let (gone, mut left): (Vec<_>, Vec<_>) =
            self.all().into_iter().partition(|client| client.evicted.load(Relaxed));
        let going: usize = gone.iter().map(|client| client.memory.load(Relaxed)).sum();
        let mut bytes = self.bytes().saturating_sub(going);
        left.retain(|client| !client.no_evict.load(Relaxed));
        left.sort_by_cached_key(|client| Reverse(client.memory.load(Relaxed)));
        let chosen = left.into_iter().take_while(|client| {
            let is_over = bytes >= max;
            bytes = bytes.saturating_sub(client.memory.load(Relaxed));
            is_over
        });
        chosen.inspect(|client| client.evicted.store(true, Relaxed)).collect()
    }

    /// The worker with the fewest connections, the ones on their way included.
    pub fn least_busy_worker(&self) -> usize {
        let counts = self.of_worker.iter().map(|count| count.load(Relaxed)).enumerate();
        counts.min_by_key(|(_, count)| *count).map_or(0, |(worker, _)| worker)
    }

    /// The connection of this number.
    pub fn get(&self, id: u64) -> Option<Arc<Client>> {
        self.by_id.lock().get(&id).cloned()
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
