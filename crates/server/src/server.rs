//! What all threads share: the keyspace, the commands, the settings, who is connected.
//!
//! One `Server` lives as long as the process. Everything in it is read without a lock on the path
//! of a command, or behind a lock that only commands for administrators take.

use crate::access::{Access, Check};
use crate::admin::Admin;
use crate::blocked::Blocked;
use crate::clients::{Client, Clients};
use crate::defrag::Defrag;
use crate::execute::{Core, Debts, Settled, Tidings};
use crate::io::Socket;
use crate::journal::Journal;
use crate::latency::LatencyMonitor;
use crate::listen::Listeners;
use crate::load::Loading;
use crate::mailbox::Mailbox;
use crate::process::OomScore;
use crate::pubsub::{Delivery, PubSub};
use crate::rates::Sampler;
use crate::reaper::Reaper;
use crate::registry::Registry;
use crate::resident::Resident;
use crate::scripts::{Functions, Running, Scripts, busy_text};
use crate::slowlog::CommandLogs;
use crate::snapshot::Snapshots;
use crate::stats::WorkerStats;
use crate::through::Through;
use crate::tracking::{Invalidation, Tracking};
use crate::transfer::Transfers;
use crate::{alloc, clock};
use arc_swap::{ArcSwap, ArcSwapOption};
use crossbeam_utils::CachePadded;
use larder_acl::User;
use larder_config::{Settings, StartPlan};
use larder_store::{Epochs, Keyspace, Millis};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

/// What one thread tells a worker.
#[derive(Debug)]
pub enum Message {
    /// A connection to take over.
    Accept(Socket, Arc<Client>),
    /// Close this connection, if it is still there.
    Kill(u64),
    /// Close subscribers to what this user may not hear any more.
    CheckSubscribers(Arc<User>, Option<Arc<Check>>),
    /// What a parked connection waited for.
    Answer(Answer),
    /// Something to do inside the next turn.
    Work(Work),
    /// A published message for connections of this worker.
    Publish(Arc<Delivery>),
    /// What a connection of this worker is told of keys it has copies of.
    Invalidate(Invalidation),
    /// Bytes for every connection that monitors.
    Monitor(Arc<Vec<u8>>),
    /// What a connection of this worker waited for from a source.
    Settled(Settled),
    /// What flights brought that connections of this worker waited for.
    Tidings(Tidings),
    /// Look again at parked connections.
    Resume,
    /// There are new sockets to listen on.
    Listen,
    /// Stop.
    Shutdown,
}

/// What a parked connection waited for is there.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// The client's number.
    pub client: u64,
    /// What its connection is parked under.
    pub ticket: u64,
    /// The reply.
    pub reply: Vec<u8>,
    /// How long another thread worked for it, in nanoseconds.
    pub nanos: u64,
}

impl Answer {
    /// A reply that cost nobody anything.
    pub fn new(client: u64, ticket: u64, reply: impl Into<Vec<u8>>) -> Answer {
        Answer { client, ticket, reply: reply.into(), nanos: 0 }
    }
}

/// What another thread asks a worker to do with what only the worker has.
pub struct Work(pub Box<dyn FnOnce(&mut Core) + Send>);

impl std::fmt::Debug for Work {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Work")
    }
}

/// CLIENT PAUSE.
#[derive(Debug, Default)]
pub struct Pause {
    /// Until when, in milliseconds of Unix time; 0 for not.
    pub until_ms: AtomicU64,
    /// Whether only commands that may write wait.
    pub writes_only: AtomicBool,
}

/// How long something has been so, as worker 0 finds it ten times a second.
#[derive(Debug, Default)]
pub struct HowLong {
    /// Since when, in milliseconds of Unix time; 0 for not.
    since_ms: AtomicU64,
    /// How long it was before, in milliseconds.
    past_ms: AtomicU64,
}

impl HowLong {
    /// Notes whether it is so at `now_ms`.
    pub fn note(&self, now_ms: u64, is_so: bool) {
        let since = self.since_ms.load(Relaxed);
        if is_so && since == 0 {
            self.since_ms.store(now_ms, Relaxed);
        } else if !is_so && since != 0 {
            self.past_ms.fetch_add(now_ms.saturating_sub(since), Relaxed);
            self.since_ms.store(0, Relaxed);
        }
    }

    /// For how long it has been so at `now_ms`, and for how long in all, in milliseconds.
    pub fn times(&self, now_ms: u64) -> (u64, u64) {
        let since = self.since_ms.load(Relaxed);
        let current = if since == 0 { 0 } else { now_ms.saturating_sub(since) };
        (current, self.past_ms.load(Relaxed) + current)
    }

    /// Starts again from zero (CONFIG RESETSTAT).
    pub fn reset(&self) {
        self.since_ms.store(0, Relaxed);
        self.past_ms.store(0, Relaxed);
    }
}

/// The state all threads share.
pub struct Server {
    /// The data.
    pub keyspace: Keyspace,
    /// Participants of the keyspace's memory reclamation.
    pub epochs: Arc<Epochs>,
    /// The commands.
    pub registry: Registry,
    /// Who may do what.
    pub access: Access,
    settings: ArcSwap<Settings>,
    generation: AtomicU64,
    /// How the server was started: file and arguments, for CONFIG REWRITE.
    pub plan: Mutex<StartPlan>,
    /// A mailbox per worker.
    pub mailboxes: Vec<Mailbox<Message>>,
    /// The counters of each worker.
    pub stats: Vec<Arc<WorkerStats>>,
    /// Where it listens.
    pub listeners: Mutex<Listeners>,
    /// How connections are encrypted, where they may be.
    pub tls: ArcSwapOption<rustls::ServerConfig>,
    /// The admin page, where there is one.
    pub admin: Mutex<Option<Admin>>,
    /// Who is connected.
    pub clients: Clients,
    /// Clients that wait.
    pub blocked: Blocked,
    /// Keys whose waiters are still to be served.
    pub debts: Debts,
    /// Who is subscribed to what.
    pub pubsub: PubSub,
    /// Who keeps copies of what.
    pub tracking: Tracking,
    /// Connections refused because of `maxclients`.
    pub refused: AtomicU64,
    /// Connections that monitor.
    pub monitors: AtomicUsize,
    /// CLIENT PAUSE.
    pub pause: Pause,
    /// SLOWLOG and COMMANDLOG.
    pub command_logs: CommandLogs,
    /// LATENCY.
    pub latency: LatencyMonitor,
    /// Frees in the background.
    pub reaper: Reaper,
    /// Carries keys to other servers.
    pub transfers: Transfers,
    /// Fetches what is missing from slower stores.
    pub through: Through,
    /// The append-only log.
    pub journal: Journal,
    /// DEBUG SET-ACTIVE-EXPIRE.
    pub active_expire: AtomicBool,
    /// DEBUG PAUSE-CRON: periodic work rests.
    pub is_cron_paused: AtomicBool,
    /// DEBUG SET-DISABLE-DENY-SCRIPTS: scripts may call what they must not.
    pub scripts_may_all: AtomicBool,
    /// DEBUG QUICKLIST-PACKED-THRESHOLD; 0 where nothing was said.
    list_large_bytes_min: AtomicU32,
    /// The scripts that clients have sent.
    pub scripts: Scripts,
    /// The libraries of functions.
    pub functions: Functions,
    /// What is being loaded.
    pub loading: Loading,
    /// What each worker runs of scripts at the moment.
    pub running: Vec<CachePadded<Running>>,
    /// A script that has written is to have everything: who else wants it gives up, and no other such script begins.
    pub roaming: AtomicBool,
    /// How many of them have run for longer than `busy-reply-threshold`.
    pub busy: AtomicUsize,
    /// When the server started.
    pub started: Instant,
    /// 40 random hexadecimal digits that tell this run from every other.
    pub run_id: String,
    /// 40 random hexadecimal digits that name the history of the data to replicas.
    pub replication_id: String,
    /// What happens in a second.
    pub sampler: Sampler,
    /// How long memory in use has been above its limit.
    pub over_limit: HowLong,
    /// Active defragmentation.
    pub defrag: Defrag,
    /// How long it has been at work.
    pub defrag_times: HowLong,
    /// Resident memory, where the limit is held against it.
    pub resident: Resident,
    /// The most memory ever in use, in bytes.
    peak_bytes: AtomicUsize,
    /// When the peak was reached, in milliseconds of Unix time.
    peak_ms: AtomicU64,
    /// Memory in use once started, before any data, in bytes.
    pub startup_bytes: AtomicUsize,
    /// When the first database is to be emptied, in milliseconds of Unix time; 0 for never.
    pub flush_at_ms: AtomicU64,
    /// Asked to stop: 0 not, 1 once, 2 or more at once.
    pub stop: AtomicU8,
    next_ticket: AtomicU64,
    /// When LASTSAVE says the data was last saved, in seconds of Unix time.
    pub last_save_secs: AtomicU64,
    /// Snapshots.
    pub snapshots: Snapshots,
    /// How readily the kernel ends the process.
    pub oom_score: OomScore,
}

impl Server {
    /// A server with `mailboxes` for its workers.
    pub fn new(
        plan: StartPlan,
        settings: Settings,
        registry: Registry,
        keyspace: Keyspace,
        epochs: Arc<Epochs>,
        mailboxes: Vec<Mailbox<Message>>,
    ) -> Server {
        let clients = Clients::new(mailboxes.len());
        let stats = mailboxes.iter().map(|_| Arc::new(WorkerStats::new(registry.ids()))).collect();
        let running = mailboxes.iter().map(|_| CachePadded::default()).collect();
        let now = clock::unix_millis();
        let blocked = Blocked::new(mailboxes.len(), Arc::clone(&keyspace.followed));
        let reaper = Reaper::start(settings.bio_cpulist());
        Server {
            keyspace,
            epochs,
            access: Access::new(registry.catalog()),
            registry,
            settings: ArcSwap::from_pointee(settings),
            generation: AtomicU64::new(1),
            plan: Mutex::new(plan),
            mailboxes,
            stats,
            clients,
            listeners: Mutex::default(),
            tls: ArcSwapOption::empty(),
            admin: Mutex::default(),
            blocked,
            debts: Debts::default(),
            pubsub: PubSub::default(),
            tracking: Tracking::default(),
            refused: AtomicU64::new(0),
            monitors: AtomicUsize::new(0),
            pause: Pause::default(),
            command_logs: CommandLogs::default(),
            latency: LatencyMonitor::default(),
            reaper,
            transfers: Transfers::default(),
            through: Through::default(),
            journal: Journal::default(),
            active_expire: AtomicBool::new(true),
            is_cron_paused: AtomicBool::new(false),
            scripts_may_all: AtomicBool::new(false),
            list_large_bytes_min: AtomicU32::new(0),
            scripts: Scripts::default(),
            functions: Functions::default(),
            loading: Loading::default(),
            running,
            busy: AtomicUsize::new(0),
            roaming: AtomicBool::new(false),
            started: clock::now(),
            run_id: random_hex(40),
            replication_id: random_hex(40),
            sampler: Sampler::default(),
            over_limit: HowLong::default(),
            defrag: Defrag::default(),
            defrag_times: HowLong::default(),
            resident: Resident::default(),
            peak_bytes: AtomicUsize::new(0),
            peak_ms: AtomicU64::new(now.0),
            startup_bytes: AtomicUsize::new(0),
            flush_at_ms: AtomicU64::new(0),
            stop: AtomicU8::new(0),
            next_ticket: AtomicU64::new(0),
            last_save_secs: AtomicU64::new(now.0 / 1000),
            snapshots: Snapshots::default(),
            oom_score: OomScore::default(),
        }
    }

    /// The settings in force.
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// Which settings are in force; changes with every CONFIG SET.
    #[inline]
    pub fn generation(&self) -> u64 {
        self.generation.load(Relaxed)
    }

    /// Puts other settings into force; every worker sees them from its next turn on.
    pub fn set_settings(&self, settings: Settings) {
        self.settings.store(Arc::new(settings));
        self.generation.fetch_add(1, std::sync::atomic::Ordering::Release);
        self.wake_all();
    }

    /// Has every worker look at the settings anew, and at what else it takes over with them.
    pub fn touch_settings(&self) {
        self.generation.fetch_add(1, std::sync::atomic::Ordering::Release);
        self.wake_all();
    }

    /// From which length on an element of a list has a chunk of its own, where DEBUG said so; else 0.
    pub fn list_large_bytes_min(&self) -> u32 {
        self.list_large_bytes_min.load(Relaxed)
    }

    /// Sets it. Every worker does so from its next turn on.
    pub fn set_list_large_bytes_min(&self, bytes: u32) {
        self.list_large_bytes_min.store(bytes, Relaxed);
        self.generation.fetch_add(1, std::sync::atomic::Ordering::Release);
        self.wake_all();
    }

    /// Whether nobody else is to have everything for the moment: a script is busy, or one is about to have it.
    pub fn is_kept_from_everything(&self) -> bool {
        self.busy.load(Relaxed) != 0 || self.roaming.load(Relaxed)
    }

    /// What is answered instead of carrying a command out while a script is busy; `None` while none is.
    pub fn busy_text(&self) -> Option<&'static [u8]> {
        if self.busy.load(Relaxed) == 0 {
            return None;
        }
        let busy = self.running.iter().find(|running| running.is_busy.load(Relaxed))?;
        Some(busy_text(busy.is_function.load(Relaxed)))
    }

    /// Lets every worker look at its mailbox and its parked connections.
    pub fn wake_all(&self) {
        for mailbox in &self.mailboxes {
            mailbox.send(Message::Resume);
        }
    }

    /// Forgets a pause whose time is over, so that nothing asks about it any more.
    pub fn end_pause(&self, now_ms: u64) {
        let until = self.pause.until_ms.load(Relaxed);
        if until != 0 && until <= now_ms {
            // One that was asked for meanwhile stays.
            let _ = self.pause.until_ms.compare_exchange(until, 0, Relaxed, Relaxed);
        }
    }

    /// Whether more memory is in use than `maxmemory` allows.
    pub fn is_over_limit(&self) -> bool {
        let limit = self.settings().maxmemory();
        limit != 0 && self.used_memory() as u64 > limit
    }

    /// Memory in use: what the allocator holds for us and what the tables map for entries.
    pub fn used_memory(&self) -> usize {
        let used = alloc::allocated_bytes() + self.keyspace.arena_bytes();
        if used > self.peak_bytes.load(Relaxed) {
            self.peak_bytes.store(used, Relaxed);
            self.peak_ms.store(clock::unix_millis().0, Relaxed);
        }
        used
    }

    /// The most memory in use so far, in bytes, and when that was, in milliseconds of Unix time.
    pub fn peak_memory(&self) -> (usize, u64) {
        let used = self.used_memory();
        (self.peak_bytes.load(Relaxed).max(used), self.peak_ms.load(Relaxed))
    }

    /// A ticket for a connection that waits.
    pub fn next_ticket(&self) -> u64 {
        self.next_ticket.fetch_add(1, Relaxed) + 1
    }

    /// Sums one counter over all workers.
    pub fn sum(&self, counter: impl Fn(&WorkerStats) -> u64) -> u64 {
        self.stats.iter().map(|stats| counter(stats)).sum()
    }

    /// Asks all workers to stop; a second call asks them to stop at once.
    pub fn ask_to_stop(&self) -> u8 {
        let asked = self.stop.fetch_add(1, Relaxed) + 1;
        // Before any connection ends: who sees its own end finds nobody who would take the next.
        self.listeners.lock().close();
        for mailbox in &self.mailboxes {
            mailbox.send(Message::Shutdown);
        }
        asked
    }

    /// Whether requests of a command that may write (`writes`) or of any command wait.
    #[inline]
    pub fn is_paused(&self, now: Millis, writes: bool) -> bool {
        let until = self.pause.until_ms.load(Relaxed);
        until != 0 && until > now.0 && (writes || !self.pause.writes_only.load(Relaxed))
    }
}

/// `digits` random hexadecimal digits.
pub fn random_hex(digits: usize) -> String {
    let mut bytes = vec![0u8; digits.div_ceil(2)];
    fill_random(&mut bytes);
    let mut hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    hex.truncate(digits);
    hex
}

/// A number that nobody can guess.
pub fn random_token() -> u64 {
    let mut bytes = [0; size_of::<u64>()];
    fill_random(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// Fills `bytes` from the kernel's random numbers.
pub fn fill_random(bytes: &mut [u8]) {
    let mut filled = 0;
    while filled < bytes.len() {
        match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            // Without the system call (kernels before 3.17) the time must do for an identifier.
            Err(_) => {
                for (index, byte) in bytes[filled..].iter_mut().enumerate() {
                    *byte = (clock::unix_micros() >> (index % 8)) as u8;
                }
                return;
            }
        }
    }
}
