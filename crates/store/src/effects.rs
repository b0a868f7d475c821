//! The one place that sees every change: database, key, what happened, in order.
//!
//! A command that changes something says so once, here. Nobody listening costs one addition; a
//! listener (keyspace notifications; a log, replicas later) hears of each effect when it is
//! made, before the locks of the command's keys are released.

use crate::followed::Followed;
use crate::keyspace::DbIndex;
use crate::log::Log;
use std::sync::Arc;

/// The class of an event, as `notify-keyspace-events` names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum EventClass {
    /// `g`: commands of any type, such as DEL, EXPIRE, RENAME.
    Generic = 1 << 2,
    /// `$`: strings.
    String = 1 << 3,
    /// `l`: lists.
    List = 1 << 4,
    /// `s`: sets.
    Set = 1 << 5,
    /// `h`: hashes.
    Hash = 1 << 6,
    /// `z`: sorted sets.
    SortedSet = 1 << 7,
    /// `x`: a key's time had come.
    Expired = 1 << 8,
    /// `e`: a key left to make room.
    Evicted = 1 << 9,
    /// `t`: streams.
    Stream = 1 << 10,
    /// `m`: a read missed.
    Miss = 1 << 11,
    /// `d`: module types.
    Module = 1 << 13,
    /// `n`: a key came into being.
    New = 1 << 14,
    /// `o`: a key was given a whole new value.
    Overwritten = 1 << 15,
    /// `c`: a key was given a value of another type.
    TypeChanged = 1 << 16,
    /// No letter names it: a change that only a log, replicas, WATCH and tracking hear of.
    Silent = 1 << 31,
}

/// What happened to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// The class by which listeners choose.
    pub class: EventClass,
    /// The name that listeners are told.
    pub name: &'static str,
}

macro_rules! events {
    ($($(#[$doc:meta])* $constant:ident = $class:ident $name:literal;)*) => {
        impl Event {
            $($(#[$doc])* pub const $constant: Event = Event { class: EventClass::$class, name: $name };)*
        }
    };
}

events! {
    /// A string was stored.
    SET = String "set";
    /// A string grew at its end.
    APPEND = String "append";
    /// A part of a string was overwritten.
    SETRANGE = String "setrange";
    /// A bit was set or cleared.
    SETBIT = String "setbit";
    /// An integer was increased or decreased.
    INCRBY = String "incrby";
    /// A float was increased or decreased.
    INCRBYFLOAT = String "incrbyfloat";
    /// A HyperLogLog gained elements.
    PFADD = String "pfadd";
    /// Elements were put in front of a list.
    LPUSH = List "lpush";
    /// Elements were put behind a list.
    RPUSH = List "rpush";
    /// The first elements of a list were taken.
    LPOP = List "lpop";
    /// The last elements of a list were taken.
    RPOP = List "rpop";
    /// An element was put beside another of a list.
    LINSERT = List "linsert";
    /// An element of a list was replaced.
    LSET = List "lset";
    /// Elements of one value were taken out of a list.
    LREM = List "lrem";
    /// A list was cut.
    LTRIM = List "ltrim";
    /// Members joined a set.
    SADD = Set "sadd";
    /// Members left a set.
    SREM = Set "srem";
    /// Members chosen by chance left a set.
    SPOP = Set "spop";
    /// An intersection was stored.
    SINTERSTORE = Set "sinterstore";
    /// A union was stored.
    SUNIONSTORE = Set "sunionstore";
    /// A difference was stored.
    SDIFFSTORE = Set "sdiffstore";
    /// Fields of a hash were set.
    HSET = Hash "hset";
    /// Fields of a hash were removed.
    HDEL = Hash "hdel";
    /// A field was increased or decreased by an integer.
    HINCRBY = Hash "hincrby";
    /// A field was increased or decreased by a float.
    HINCRBYFLOAT = Hash "hincrbyfloat";
    /// Fields got a time to live.
    HEXPIRE = Hash "hexpire";
    /// Fields lost their time to live.
    HPERSIST = Hash "hpersist";
    /// Fields' time had come.
    HEXPIRED = Hash "hexpired";
    /// Members joined a sorted set or got other scores.
    ZADD = SortedSet "zadd";
    /// A score was increased or decreased.
    ZINCR = SortedSet "zincr";
    /// Members left a sorted set.
    ZREM = SortedSet "zrem";
    /// Members of some ranks left a sorted set.
    ZREMRANGEBYRANK = SortedSet "zremrangebyrank";
    /// Members of some scores left a sorted set.
    ZREMRANGEBYSCORE = SortedSet "zremrangebyscore";
    /// Members between two texts left a sorted set.
    ZREMRANGEBYLEX = SortedSet "zremrangebylex";
    /// The lowest members of a sorted set were taken.
    ZPOPMIN = SortedSet "zpopmin";
    /// The highest members of a sorted set were taken.
    ZPOPMAX = SortedSet "zpopmax";
    /// An intersection of sorted sets was stored.
    ZINTERSTORE = SortedSet "zinterstore";
    /// A union of sorted sets was stored.
    ZUNIONSTORE = SortedSet "zunionstore";
    /// A difference of sorted sets was stored.
    ZDIFFSTORE = SortedSet "zdiffstore";
    /// A range of a sorted set was stored.
    ZRANGESTORE = SortedSet "zrangestore";
    /// The places found around another were stored.
    GEORADIUSSTORE = SortedSet "georadiusstore";
    /// The places found in an area were stored.
    GEOSEARCHSTORE = SortedSet "geosearchstore";
    /// An entry joined a stream.
    XADD = Stream "xadd";
    /// Entries left a stream.
    XDEL = Stream "xdel";
    /// A stream was cut.
    XTRIM = Stream "xtrim";
    /// The last ID of a stream was set.
    XSETID = Stream "xsetid";
    /// A consumer group was made.
    XGROUP_CREATE = Stream "xgroup-create";
    /// The position of a consumer group was set.
    XGROUP_SETID = Stream "xgroup-setid";
    /// A consumer group was removed.
    XGROUP_DESTROY = Stream "xgroup-destroy";
    /// A consumer was made.
    XGROUP_CREATECONSUMER = Stream "xgroup-createconsumer";
    /// A consumer was removed.
    XGROUP_DELCONSUMER = Stream "xgroup-delconsumer";
    /// A key was removed by a command.
    DEL = Generic "del";
    /// A key got a time to live.
    EXPIRE = Generic "expire";
    /// A key lost its time to live.
    PERSIST = Generic "persist";
    /// A key was renamed: the old name.
    RENAME_FROM = Generic "rename_from";
    /// A key was renamed: the new name.
    RENAME_TO = Generic "rename_to";
    /// A key left for another database.
    MOVE_FROM = Generic "move_from";
    /// A key came from another database.
    MOVE_TO = Generic "move_to";
    /// A key was made by copying another.
    COPY_TO = Generic "copy_to";
    /// A key was made from a serialised value.
    RESTORE = Generic "restore";
    /// A sorted result was stored.
    SORTSTORE = List "sortstore";
    /// A key's time had come.
    EXPIRED = Expired "expired";
    /// A key left to make room.
    EVICTED = Evicted "evicted";
    /// A key came into being.
    NEW = New "new";
    /// A read missed.
    MISS = Miss "keymiss";
    /// A key that held something was given a whole new value.
    OVERWRITTEN = Overwritten "overwritten";
    /// A key that was overwritten had another type before.
    TYPE_CHANGED = TypeChanged "type_changed";
    /// A value's bytes changed and clients are not told, such as the estimate that PFCOUNT keeps.
    TOUCHED = Silent "";
}

/// One change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// The database of the key.
    pub db: DbIndex,
    /// What happened.
    pub event: Event,
    /// The key.
    pub key: Box<[u8]>,
}

/// A key that has changed, of which clients may have copies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The key, in whichever database.
    pub key: Box<[u8]>,
    /// The number of the client that changed it, as [`Effects::set_client`] said; else 0.
    pub by: u64,
    /// It was evicted, to make room before a command ran.
    pub was_evicted: bool,
    /// When, as [`Followed::tick`] counts.
    pub at: u64,
}

/// Hears of events at once, while the shard of the key is locked.
pub trait Listener: std::fmt::Debug + Send {
    /// Is told of one event, after all earlier ones of its key.
    fn hear(&self, db: DbIndex, key: &[u8], event: Event);
}

/// Who is to hear of effects again, behind [`Effects::hush`].
#[derive(Debug)]
#[must_use]
pub struct Hushed {
    interest: u32,
    followed: Option<Arc<Followed>>,
}

/// Collects what the commands of one thread change.
#[derive(Debug, Default)]
pub struct Effects {
    /// Union of the [`EventClass`] bits somebody wants to hear of.
    interest: u32,
    changes: u64,
    /// Who hears of them; without a listener they are logged.
    listener: Option<Box<dyn Listener>>,
    heard: Vec<Effect>,
    /// Who follows keys, once [`Effects::tell`] has said it.
    followed: Option<Arc<Followed>>,
    /// Changed keys for which somebody waits.
    ready: Vec<(DbIndex, Box<[u8]>)>,
    /// Changed keys of which clients may have copies.
    copied: Vec<Changed>,
    /// A database was emptied while anybody followed keys.
    is_flushed: bool,
    /// Whose command is at hand, where that matters.
    client: u64,
    /// What goes to the append-only log.
    pub log: Log,
}

impl Effects {
    /// Has events of these classes logged, a union of [`EventClass`] bits, for [`Effects::take_log`].
    pub fn set_interest(&mut self, classes: u32) {
        self.interest = classes;
    }

    /// Has followers of keys told of changes.
    pub fn tell(&mut self, followed: Arc<Followed>) {
        self.followed = Some(followed);
    }

    /// Says whose command is at hand, for [`Changed::by`]; 0 for nobody's.
    pub fn set_client(&mut self, client: u64) {
        self.client = client;
    }

    /// Whether keys have changed of which clients may have copies.
    #[inline]
    pub fn has_copied(&self) -> bool {
        !self.copied.is_empty() || self.is_flushed
    }

    /// The keys that changed since the last call and of which clients may have copies, in the order of their changes,
    /// and whether a database was emptied.
    pub fn take_copied(&mut self) -> (Vec<Changed>, bool) {
        (std::mem::take(&mut self.copied), std::mem::take(&mut self.is_flushed))
    }

    /// A database was emptied.
    pub(crate) fn flushed(&mut self) {
        self.is_flushed |= self.is_followed();
    }

    #[inline]
    fn is_followed(&self) -> bool {
        self.followed.as_ref().is_some_and(|followed| followed.any())
    }

    /// Has nobody told of what is stored from now on, since it is no change: until [`Effects::speak`] is called with the answer.
    pub fn hush(&mut self) -> Hushed {
        Hushed { interest: std::mem::take(&mut self.interest), followed: self.followed.take() }
    }

    /// Ends [`Effects::hush`].
    pub fn speak(&mut self, hushed: Hushed) {
        (self.interest, self.followed) = (hushed.interest, hushed.followed);
    }

    /// Has a listener hear of events of these classes, a union of [`EventClass`] bits; or nobody.
    pub fn set_listener(&mut self, classes: u32, listener: Option<Box<dyn Listener>>) {
        self.interest = if listener.is_some() { classes } else { 0 };
        self.listener = listener;
    }

    /// Records a change of a key.
    #[inline]
    pub fn changed(&mut self, db: DbIndex, key: &[u8], event: Event) {
        self.changes += 1;
        self.notify(db, key, event);
    }

    /// As [`Effects::changed`], where the key is at hand only if somebody asks for it.
    #[inline]
    pub(crate) fn changed_by<'k>(&mut self, db: DbIndex, event: Event, key: impl FnOnce() -> &'k [u8]) {
        self.changes += 1;
        if self.interest & event.class as u32 != 0 || self.is_followed() {
            self.record(db, key(), event);
        }
    }

    /// Records an event that changes no data by itself, or a second event of one change.
    #[inline]
    pub fn notify(&mut self, db: DbIndex, key: &[u8], event: Event) {
        if self.interest & event.class as u32 != 0 || self.is_followed() {
            self.record(db, key, event);
        }
    }

    /// Whether changed keys wait to be served.
    #[inline]
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The keys that changed since the last call and for which somebody waits, in the order of their changes.
    pub fn take_ready(&mut self) -> Vec<(DbIndex, Box<[u8]>)> {
        std::mem::take(&mut self.ready)
    }

    /// Adds keys that changed all at once and for which somebody waits.
    pub(crate) fn ready_all(&mut self, db: DbIndex, keys: Vec<Box<[u8]>>) {
        self.ready.extend(keys.into_iter().map(|key| (db, key)));
    }

    /// Whether somebody listens to events of this class.
    #[inline]
    pub fn is_heard(&self, event: Event) -> bool {
        self.interest & event.class as u32 != 0
    }

    /// Counts changes that have no single key, such as a flush.
    pub fn changed_many(&mut self, count: u64) {
        self.changes += count;
    }

    /// Tells listeners of an event and nobody else: to those who watch the key it is as it was.
    pub fn mention(&mut self, db: DbIndex, key: &[u8], event: Event) {
        if self.interest & event.class as u32 != 0 {
            match &self.listener {
                Some(listener) => listener.hear(db, key, event),
                None => self.heard.push(Effect { db, event, key: key.into() }),
            }
        }
    }

    /// Has those who wait for a key looked after; nobody else is told anything.
    pub fn wake(&mut self, db: DbIndex, key: &[u8]) {
        if let Some(followed) = self.followed.as_ref().filter(|followed| followed.any())
            && followed.next_waiting(db, key, 0).is_some()
        {
            self.note_ready(db, key);
        }
    }

    /// Tells clients that keep copies of a key's value that it is another, though no command has changed it; nobody else. The caller
    /// has its shard locked.
    pub fn tell_copiers(&mut self, key: &[u8]) {
        if let Some(followed) = self.followed.as_ref().filter(|followed| followed.any())
            && followed.is_copied(key)
        {
            let at = followed.tick();
            self.copied.push(Changed { key: key.into(), by: self.client, was_evicted: false, at });
        }
    }

    fn note_ready(&mut self, db: DbIndex, key: &[u8]) {
        if self.ready.last().is_none_or(|(ready_db, ready)| *ready_db != db || **ready != *key) {
            self.ready.push((db, key.into()));
        }
    }

    #[cold]
    fn record(&mut self, db: DbIndex, key: &[u8], event: Event) {
        self.mention(db, key, event);
        // A read that missed has changed nothing.
        let Some(followed) = &self.followed else { return };
        if event.class == EventClass::Miss {
            return;
        }
        // Of events that come in addition to others the others tell.
        let is_second =
            matches!(event.class, EventClass::New | EventClass::Overwritten | EventClass::TypeChanged);
        if !is_second && followed.is_copied(key) {
            let was_evicted = event.class == EventClass::Evicted;
            self.copied.push(Changed { key: key.into(), by: self.client, was_evicted, at: followed.tick() });
        }
        if followed.change(db, key, event) {
            self.note_ready(db, key);
        }
    }

    /// Begins a command that may have to be logged. Only where [`Log::is_on`].
    #[inline]
    pub fn begin_logged(&mut self) {
        self.log.open();
        self.log.begin(self.changes);
    }

    /// Ends it: it is logged in these words if it has changed anything and did not say otherwise. What it touched is locked.
    #[inline]
    pub fn end_logged<'w>(&mut self, db: DbIndex, words: impl ExactSizeIterator<Item = &'w [u8]>) {
        let has_changed = self.changes != self.log.changes_before;
        self.log.end(db, has_changed, words);
        self.log.close();
    }

    /// Changes counted since they were last taken.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Changes counted since the last call.
    #[inline]
    pub fn take_changes(&mut self) -> u64 {
        std::mem::take(&mut self.changes)
    }

    /// The effects logged since the last call, in order.
    pub fn take_log(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.heard)
    }
}
