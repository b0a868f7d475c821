//! What a command gets: its keys, a reply writer, the limits in force. Nothing else exists for it.

use crate::args::Args;
use crate::error::Error;
use crate::wait::Wait;
use larder_resp::Reply;
use larder_store::{
    Db, DbIndex, Elsewhere, Hashed, Held, Keyspace, LOCK_ATTEMPTS, Local, Millis, Place, Str,
};
use larder_values::collection::PackedLimits;
use larder_values::{ascii7, number};

/// Settings that data commands obey. A snapshot taken once per loop turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// `proto-max-bulk-len`, in bytes: no string grows beyond it.
    pub string_bytes_max: usize,
    /// `hll-sparse-max-bytes`.
    pub hll_sparse_bytes_max: usize,
    /// `hash-max-listpack-entries` and `-value`.
    pub hash_packed: PackedLimits,
    /// `set-max-listpack-entries` and `-value`.
    pub set_packed: PackedLimits,
    /// `set-max-intset-entries`.
    pub set_integers_max: usize,
    /// `zset-max-listpack-entries` and `-value`.
    pub zset_packed: PackedLimits,
    /// `list-max-listpack-size` and `list-compress-depth`.
    pub list: larder_values::list::Limit,
    /// `stream-node-max-bytes`; 0 for no limit.
    pub stream_node_bytes_max: usize,
    /// `stream-node-max-entries`; 0 for no limit.
    pub stream_node_entries_max: usize,
    /// Whether the eviction policy counts frequency (OBJECT FREQ answers, OBJECT IDLETIME does not).
    pub counts_frequency: bool,
    /// `lfu-decay-time`, in minutes.
    pub lfu_decay_minutes: u32,
    /// `lazyfree-lazy-user-flush`: FLUSHALL without an option is asynchronous.
    pub flush_is_lazy: bool,
    /// `ttl-jitter-percent`: how much earlier than asked keys may end, in percent of the time they are to live.
    pub ttl_jitter_percent: u32,
    /// `maxmemory-max-entry`, in bytes: no value is stored that is longer; `usize::MAX` for no limit.
    pub entry_bytes_max: usize,
    /// `lease-time`, in milliseconds.
    pub lease_ms: u64,
    /// A log is replayed: what it says was agreed to before.
    pub is_replay: bool,
    /// `maxmemory` is set: OBJECT REFCOUNT never answers that small integers are shared.
    pub maxmemory_is_set: bool,
}

impl Default for Limits {
    /// Those of a server without a configuration file.
    fn default() -> Limits {
        let packed = |entries_max| PackedLimits { entries_max, value_bytes_max: 64 };
        Limits {
            string_bytes_max: 512 * 1024 * 1024,
            hll_sparse_bytes_max: 3000,
            hash_packed: packed(512),
            set_packed: packed(128),
            set_integers_max: 512,
            zset_packed: packed(128),
            list: larder_values::list::Limit::of(-2),
            stream_node_bytes_max: 4096,
            stream_node_entries_max: 100,
            counts_frequency: false,
            lfu_decay_minutes: 1,
            flush_is_lazy: false,
            ttl_jitter_percent: 0,
            entry_bytes_max: usize::MAX,
            lease_ms: 10_000,
            is_replay: false,
            maxmemory_is_set: false,
        }
    }
}

impl Limits {
    /// The length of a string of so many bytes, if it may be as long.
    ///
    /// # Errors
    /// Where it may not.
    pub fn string_len(&self, len: Option<usize>) -> Result<usize, Error> {
        let len = len.filter(|&len| len <= self.string_bytes_max).ok_or(Error::StringTooLong)?;
        if len > self.entry_bytes_max { Err(Error::EntryTooLarge) } else { Ok(len) }
    }
}

/// When keys end that are to live for some time from now on.
#[derive(Debug, Clone, Copy)]
pub struct Ends {
    /// The time of this turn.
    pub now: Millis,
    jitter_percent: u32,
    random: u64,
}

impl Ends {
    /// The end of a key that is to end at `at` and may do so earlier, by a random part of its time within
    /// `ttl-jitter-percent`: so keys that are set together do not end together.
    #[must_use]
    pub fn spread(self, at: Millis) -> Millis {
        let time = at.0.saturating_sub(self.now.0);
        let most = (u128::from(time) * u128::from(self.jitter_percent) / 100) as u64;
        Millis(at.0 - if most == 0 { 0 } else { self.random % (most + 1) })
    }
}

/// What a command on declared keys gets.
pub struct Ctx<'a> {
    /// The keys.
    pub db: Db<'a>,
    /// Where the answer goes.
    pub reply: Reply<'a>,
    /// Settings in force.
    pub limits: &'a Limits,
    /// Position and hash of the first key, which the executor has computed.
    first_key: (usize, u64),
    /// What the command waits for, if it does.
    wait: Option<Box<Wait>>,
}

impl<'a> Ctx<'a> {
    /// When keys end that are to live for some time; each call spreads anew.
    #[inline]
    pub fn ends(&mut self) -> Ends {
        let jitter_percent = self.limits.ttl_jitter_percent;
        let random = if jitter_percent == 0 { 0 } else { self.db.local.random() };
        Ends { now: self.db.now(), jitter_percent, random }
    }

    /// A context for a command whose first key is the word at `first_key.0` with hash `first_key.1`.
    #[inline]
    pub fn new(db: Db<'a>, reply: Reply<'a>, limits: &'a Limits, first_key: (usize, u64)) -> Self {
        Ctx { db, reply, limits, first_key, wait: None }
    }

    /// The key at word `index`, with its hash.
    #[inline]
    pub fn key<'k>(&self, args: &Args<'k>, index: usize) -> Hashed<'k> {
        let bytes = args.get(index);
        if index == self.first_key.0 { Hashed { bytes, hash: self.first_key.1 } } else { self.db.key(bytes) }
    }
}

impl<'a> Ctx<'a> {
    /// Says that the command waits, having changed and answered nothing; see [`crate::wait`].
    pub fn wait(&mut self, wait: Wait) {
        self.wait = Some(Box::new(wait));
    }

    /// What the command waits for, if it does.
    #[inline]
    pub fn take_wait(&mut self) -> Option<Box<Wait>> {
        self.wait.take()
    }

    /// Whether a key may be looked at. Always, but for a command that waited for several keys and runs again:
    /// some of them may be out of its reach then, and hold nothing.
    pub fn is_at_hand(&self, key: &Hashed<'_>) -> bool {
        self.db.holds(key)
    }

    /// The keys, once the command is over.
    #[inline]
    pub fn into_db(self) -> Db<'a> {
        self.db
    }
}

impl Ctx<'_> {
    /// Reads a key that must hold a string, as bytes, wherever and in whatever form they are kept;
    /// `work` gets `None` where there is no such key. Counts a hit or a miss.
    pub fn read_bytes<R>(
        &mut self,
        key: &Hashed<'_>,
        work: impl FnOnce(Option<&[u8]>) -> R,
    ) -> Result<R, Error> {
        let mut scratch = std::mem::take(&mut self.db.local.scratch);
        let answer =
            self.db.string(key).map(|value| work(value.as_ref().map(|value| value.bytes(&mut scratch))));
        scratch.clear();
        self.db.local.scratch = scratch;
        Ok(answer?)
    }
}

/// What a command on whole databases gets. It locks what it needs through the keyspace, shard by
/// shard; an `Exclusive` command runs while no other thread touches any key.
pub struct KeyspaceCtx<'a> {
    /// All databases.
    pub keyspace: &'a Keyspace,
    /// The connection's database.
    pub db: DbIndex,
    /// The thread's companion.
    pub local: &'a mut Local,
    /// Where the answer goes.
    pub reply: Reply<'a>,
    /// Settings in force.
    pub limits: &'a Limits,
    /// The shards of what was changed, where somebody waits for it: whoever runs the command serves them first.
    pub held: Held<'a>,
    /// A key was locked elsewhere: the command has changed nothing and is to be run again.
    pub is_busy: bool,
    /// Who asks may read any key: also those that only the data name (SORT's BY and GET).
    pub may_read_any: bool,
    /// What it does to the keys in `held` is being collected for the log.
    pub logs: bool,
}

impl<'a> KeyspaceCtx<'a> {
    /// Runs `work` on keys of one database with their shards locked. `None` where one is locked elsewhere; then the
    /// command ends, having done nothing.
    pub fn with_keys<R>(
        &mut self,
        db: DbIndex,
        keys: &[&[u8]],
        work: impl FnOnce(&mut Db<'_>, &mut Reply<'a>) -> R,
    ) -> Option<R> {
        let mut places: smallvec::SmallVec<[Place; 16]> =
            keys.iter().map(|key| self.keyspace.place(db, self.keyspace.hash(key))).collect();
        self.hold(places.to_vec())?;
        let locked = self.held.lend(&mut places);
        let mut at = Db::new(self.keyspace, db, locked, self.local);
        if at.local.settles {
            keys.iter().for_each(|key| at.settle(&at.key(key), true));
        }
        let answer = work(&mut at, &mut self.reply);
        drop(at);
        self.release();
        Some(answer)
    }

    /// Runs `work` on a key of the connection's database and one of another, both locked. `None` as in
    /// [`KeyspaceCtx::with_keys`].
    pub fn across<R>(
        &mut self,
        here: &Hashed<'_>,
        (database, there): (DbIndex, &Hashed<'_>),
        work: impl for<'t> FnOnce(&mut Db<'t>, &mut Elsewhere<'t>) -> R,
    ) -> Option<R> {
        let places = [self.keyspace.place(self.db, here.hash), self.keyspace.place(database, there.hash)];
        self.hold(places.to_vec())?;
        let [locked_here, locked_there] = self.held.lend_two(places);
        let mut elsewhere = Elsewhere::new(self.keyspace, database, locked_there);
        let mut at = Db::new(self.keyspace, self.db, locked_here, self.local);
        if at.local.settles {
            at.settle(here, true);
            at.switch(&mut elsewhere);
            at.settle(there, true);
            at.switch(&mut elsewhere);
        }
        let answer = work(&mut at, &mut elsewhere);
        drop(at);
        drop(elsewhere);
        self.release();
        Some(answer)
    }

    /// Locks `places` and nothing else.
    fn hold(&mut self, mut places: Vec<Place>) -> Option<()> {
        if std::mem::take(&mut self.logs) {
            // What went because its time had come is told before it is unlocked.
            self.local.effects.log.close();
        }
        self.held = Held::default();
        self.is_busy = !self.keyspace.try_hold(&mut places, LOCK_ATTEMPTS, &mut self.held);
        if !self.is_busy && self.local.effects.log.is_on() {
            self.local.effects.log.open();
            self.logs = true;
        }
        (!self.is_busy).then_some(())
    }

    /// Unlocks, unless those who wait for what was changed must be served before, or it is to be logged.
    fn release(&mut self) {
        if !self.local.effects.has_ready() && !self.logs {
            self.held = Held::default();
        }
    }

    /// Begins a command that may have to be logged.
    pub fn begin_logged(&mut self) {
        if self.local.effects.log.is_on() {
            self.local.effects.begin_logged();
            // What it removes on its way is a unit of its own, but while it holds keys.
            self.local.effects.log.close();
        }
    }

    /// Ends it, with what it changed still locked.
    pub fn end_logged(&mut self, args: &Args<'_>) {
        if self.local.effects.log.is_on() {
            if !std::mem::take(&mut self.logs) {
                self.local.effects.log.open();
            }
            self.local.effects.end_logged(self.db, args.from(0));
        }
    }

    /// A database number given as an argument.
    pub fn database(&self, text: &[u8]) -> Result<DbIndex, Error> {
        database_number(self.keyspace, text)
    }
}

/// A database of `keyspace`, by its number as a client writes it.
///
/// # Errors
/// Where the text is no 32-bit integer, or no database has that number.
pub fn database_number(keyspace: &Keyspace, text: &[u8]) -> Result<DbIndex, Error> {
    let number = number::parse_i64(text).ok_or(Error::NotAnInteger)?;
    if i32::try_from(number).is_err() {
        return Err(Error::of("ERR value is out of range, value must between -2147483648 and 2147483647"));
    }
    match u32::try_from(number) {
        Ok(number) if number < keyspace.databases() => Ok(DbIndex(number)),
        _ => Err(Error::DbOutOfRange),
    }
}

/// Strings as replies. Large ones go out without a copy.
pub trait ReplyStr {
    /// The string as a bulk string.
    fn string(&mut self, value: &Str<'_>);
    /// The string as a bulk string, or null where there is none.
    fn string_or_null(&mut self, value: Option<Str<'_>>);
}

/// A string at least this long is sent from where it lies.
const SHARED_BYTES_MIN: usize = 16 * 1024;

impl ReplyStr for Reply<'_> {
    #[inline(always)]
    fn string(&mut self, value: &Str<'_>) {
        match value {
            Str::Bytes(bytes) => self.bulk(bytes),
            Str::Blob(blob) if blob.len() >= SHARED_BYTES_MIN => {
                self.bulk_shared(std::sync::Arc::clone(blob))
            }
            Str::Blob(blob) => self.bulk(blob),
            Str::Int(integer) => self.bulk_integer(*integer),
            Str::Ascii7(packed, len) => self.bulk_with(
                *len,
                #[inline(always)]
                |out| {
                    let whole = ascii7::unpack_into(packed, *len, out);
                    debug_assert!(whole, "the length was told by the packed bytes");
                },
            ),
        }
    }

    #[inline(always)]
    fn string_or_null(&mut self, value: Option<Str<'_>>) {
        match value {
            Some(value) => self.string(&value),
            None => self.null(),
        }
    }
}
