//! What a command can do with the keys it declared.
//!
//! Invariants: a key whose time has come does not exist for any caller of this file; a lookup
//! removes it on the way. Those that leave it where it is say so ([`Db::is_over`], [`Db::glance`],
//! [`Db::peek_raw`]). An edit that fails has changed nothing. The access field is written on reads and
//! writes of values, not when a key is merely looked at.
//! Read next: `db/edit.rs` for strings and integers changed in place, `db/tell.rs` for what is told of changes.

use crate::discard::{Removal, discard};
use crate::effects::Event;
use crate::evict::bytes_of;
use crate::field_ends::DbTable;
use crate::insight::{Found, bytes_of as bytes_apart};
use crate::item::{Item, Owned, Value};
use crate::keyspace::{Database, DbIndex, Hashed, Keyspace, Locked, TableNumber};
use crate::local::{Access, Local, Millis};
use crate::object::{Object, next_due_of};
use crate::sizes::Replacing;
use crate::snapshot::save_first;
use crate::string::{self, INLINE_BYTES_MAX, Str, kind};
use larder_table::{DeadlineChange, Entry, NewEntry, Occupied, Payload, PayloadRef};
use larder_values::number;
use std::sync::Arc;

mod edit;
mod tell;

pub use edit::EditIntegerError;

/// The key holds another type than the command works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrongType;

/// What a write does to the time to live of the key it writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expire {
    /// Leaves it as it is.
    Keep,
    /// Takes it away.
    Clear,
    /// Sets it.
    At(Millis),
}

/// How a string may be kept when it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// The smallest form.
    Any,
    /// Never as an integer.
    Text,
    /// As assembled: OBJECT ENCODING answers `raw`.
    Edited,
}

/// The keys of one command in one database.
pub struct Db<'t> {
    pub(crate) table: &'t DbTable,
    pub(crate) locked: Locked<'t>,
    pub(crate) index: DbIndex,
    /// The calling thread's companion.
    pub local: &'t mut Local,
}

/// The side of a command on two databases that it is not looking at; see [`Db::switch`].
pub struct Elsewhere<'t> {
    table: &'t DbTable,
    locked: Locked<'t>,
    index: DbIndex,
}

impl<'t> Elsewhere<'t> {
    /// The keys whose shards `locked` holds.
    pub fn new(keyspace: &'t Keyspace, index: DbIndex, locked: Locked<'t>) -> Self {
        Elsewhere { table: keyspace.table(index), locked, index }
    }
}

impl<'t> Db<'t> {
    /// Access to the keys whose shards `locked` holds.
    #[inline]
    pub fn new(keyspace: &'t Keyspace, index: DbIndex, locked: Locked<'t>, local: &'t mut Local) -> Self {
        Db { table: keyspace.table(index), locked, index, local }
    }

    /// Access to the keys of an open database whose shards `locked` holds.
    #[inline]
    pub fn on(database: Database<'t>, locked: Locked<'t>, local: &'t mut Local) -> Self {
        Db { table: database.table, locked, index: database.index, local }
    }

    /// Turns to the other database of a command on two; what was here is elsewhere then. O(1).
    pub fn switch(&mut self, elsewhere: &mut Elsewhere<'t>) {
        std::mem::swap(&mut self.table, &mut elsewhere.table);
        std::mem::swap(&mut self.locked, &mut elsewhere.locked);
        std::mem::swap(&mut self.index, &mut elsewhere.index);
    }

    /// The database's number.
    pub fn index(&self) -> DbIndex {
        self.index
    }

    /// Whether the shard of a key is locked for this command. False for some keys of a command that waited for
    /// several and runs again.
    pub fn holds(&self, key: &Hashed<'_>) -> bool {
        self.locked.has(self.table.shard_of(key.hash))
    }

    /// Whether what a key's shard holds has been promised to a client that waits; see `held.rs`. Only who waited for
    /// the lock meets that.
    pub fn is_owed(&self, key: &Hashed<'_>) -> bool {
        self.locked.shard(self.table.shard_of(key.hash)).is_owed()
    }

    /// The locks, and the thread's companion.
    pub fn into_parts(self) -> (DbIndex, Locked<'t>, &'t mut Local) {
        (self.index, self.locked, self.local)
    }

    /// The time of this turn.
    #[inline]
    pub fn now(&self) -> Millis {
        self.local.now
    }

    /// The time by which fields are judged, in milliseconds: none ends while a log is replayed.
    #[inline]
    pub fn now_of_fields(&self) -> u64 {
        if self.local.keep_expired { 0 } else { self.local.now.0 }
    }

    /// A key with its hash.
    #[inline]
    pub fn key<'k>(&self, bytes: &'k [u8]) -> Hashed<'k> {
        Hashed { bytes, hash: self.table.hash(bytes) }
    }

    /// Prefetches what looking up these keys will read, some dozens at the most: their buckets, then their entries.
    pub fn prefetch(&mut self, keys: &[Hashed<'_>]) {
        for Hashed { hash, .. } in keys {
            self.locked.shard_mut(self.table.shard_of(*hash)).prefetch_home(*hash);
        }
        for Hashed { hash, .. } in keys {
            self.locked.shard_mut(self.table.shard_of(*hash)).prefetch_entry(*hash);
        }
    }

    /// The live entry of a key; one whose time has come is removed on the way.
    #[inline]
    fn find(&mut self, key: &Hashed<'_>) -> Option<Entry<'_, Object>> {
        Self::look_in(self.table, &mut self.locked, self.local, self.index, key)
    }

    /// Like `find`, for callers that need the thread's companion beside the entry.
    #[inline]
    pub(crate) fn look_in<'s>(
        table: &DbTable,
        locked: &'s mut Locked<'t>,
        local: &mut Local,
        index: DbIndex,
        key: &Hashed<'_>,
    ) -> Option<Entry<'s, Object>> {
        Self::found_in(table, locked, local, index, key).map(Occupied::into_view)
    }

    /// The live entry of a key that is about to be changed or removed: a snapshot in force has what it needs of it.
    #[inline]
    pub(crate) fn find_in<'s>(
        table: &DbTable,
        locked: &'s mut Locked<'t>,
        local: &mut Local,
        index: DbIndex,
        key: &Hashed<'_>,
    ) -> Option<Occupied<'s, 't, Object>> {
        save_first((table, index), locked.shard_mut(table.shard_of(key.hash)), local, key.hash);
        Self::found_in(table, locked, local, index, key)
    }

    /// The live entry of a key. To be changed it goes through [`Db::find_in`].
    #[inline]
    fn found_in<'s>(
        table: &DbTable,
        locked: &'s mut Locked<'t>,
        local: &mut Local,
        index: DbIndex,
        key: &Hashed<'_>,
    ) -> Option<Occupied<'s, 't, Object>> {
        let shard = locked.shard_mut(table.shard_of(key.hash));
        let occupied = shard.find_mut(key.hash, key.bytes)?;
        debug_assert!(table.is_settled(local, index, key));
        if let Some(deadline) = occupied.view().deadline()
            && deadline <= local.now.0
            && !local.keep_expired
        {
            if local.leaves_expired {
                return None;
            }
            let removed = table.remove(local, key.hash, key.bytes, occupied, Removal::Expired);
            ended(local, index, key.bytes, removed.boxed);
            return None;
        }
        Some(occupied)
    }

    /// Looks at a key without counting or touching it.
    #[inline]
    pub fn peek(&mut self, key: &Hashed<'_>) -> Option<Item<'_>> {
        self.find(key).map(Item::new)
    }

    /// Looks at a key that may be there though its time has come, without counting, touching or removing it.
    pub fn peek_raw(&self, key: &Hashed<'_>) -> Option<Item<'_>> {
        self.locked.shard(self.table.shard_of(key.hash)).find(key.hash, key.bytes).map(Item::new)
    }

    /// Looks at a live key without counting or touching it; one whose time has come stays where it is.
    pub fn glance(&self, key: &Hashed<'_>) -> Option<Item<'_>> {
        self.peek_raw(key).filter(|item| !self.has_ended(item))
    }

    /// Looks at a key and counts a hit or a miss, without touching it.
    pub fn look(&mut self, key: &Hashed<'_>) -> Option<Item<'_>> {
        if self.local.insight.wants_read(key.hash) {
            self.tell_read(key);
        }
        if !self.exists(key) {
            missed(self.local, self.index, key.bytes);
            return None;
        }
        self.local.stats.hits.add(1);
        self.peek(key)
    }

    /// Reads a key: counts a hit or a miss and records the access.
    #[inline(always)]
    pub fn read(&mut self, key: &Hashed<'_>) -> Option<Item<'_>> {
        if self.local.insight.wants_read(key.hash) {
            self.tell_read(key);
        }
        let shard = self.locked.shard_mut(self.table.shard_of(key.hash));
        let Some(occupied) = shard.find_mut(key.hash, key.bytes) else {
            missed(self.local, self.index, key.bytes);
            return None;
        };
        debug_assert!(self.table.is_settled(self.local, self.index, key));
        let entry = occupied.view();
        if let Some(deadline) = entry.deadline()
            && deadline <= self.local.now.0.saturating_add(self.local.unfound.ahead_ms)
        {
            if deadline > self.local.now.0 {
                self.local.unfound.note(self.index, key.bytes, Some(Millis(deadline)));
            } else if !self.local.keep_expired {
                if !self.local.leaves_expired {
                    let removed =
                        self.table.remove(self.local, key.hash, key.bytes, occupied, Removal::Expired);
                    ended(self.local, self.index, key.bytes, removed.boxed);
                }
                missed(self.local, self.index, key.bytes);
                return None;
            }
        }
        if !self.local.no_touch {
            entry.set_access(self.local.access_touched(self.table.number, key.hash, &entry));
        }
        self.local.stats.hits.add(1);
        Some(Item::new(occupied.into_view()))
    }

    /// Reads a key that must hold a string.
    #[inline(always)]
    pub fn string(&mut self, key: &Hashed<'_>) -> Result<Option<Str<'_>>, WrongType> {
        // Without a closure, which would be called rather than inlined once there are several callers.
        match self.read(key) {
            Some(item) => item.string().map(Some),
            None => Ok(None),
        }
    }

    /// Looks at a string that is about to be changed: no hit or miss is counted.
    pub fn string_for_edit(&mut self, key: &Hashed<'_>) -> Result<Option<Str<'_>>, WrongType> {
        self.peek(key).map(|item| item.string()).transpose()
    }

    /// Looks at a key that is about to be changed as a whole (EXPIRE, RENAME, MOVE): records the
    /// access and counts neither hit nor miss.
    pub fn touch(&mut self, key: &Hashed<'_>) -> Option<Item<'_>> {
        let shard = self.locked.shard_mut(self.table.shard_of(key.hash));
        let occupied = shard.find_mut(key.hash, key.bytes)?;
        debug_assert!(self.table.is_settled(self.local, self.index, key));
        let entry = occupied.view();
        if let Some(deadline) = entry.deadline()
            && deadline <= self.local.now.0
            && !self.local.keep_expired
        {
            if !self.local.leaves_expired {
                let removed = self.table.remove(self.local, key.hash, key.bytes, occupied, Removal::Expired);
                ended(self.local, self.index, key.bytes, removed.boxed);
            }
            return None;
        }
        if !self.local.no_touch {
            entry.set_access(self.local.access_touched(self.table.number, key.hash, &entry));
        }
        Some(Item::new(occupied.into_view()))
    }

    /// Whether a key is still there though its time has come. Does not remove it.
    pub fn is_over(&self, key: &Hashed<'_>) -> bool {
        self.peek_raw(key).is_some_and(|item| self.has_ended(&item))
    }

    fn has_ended(&self, item: &Item<'_>) -> bool {
        item.deadline().is_some_and(|deadline| deadline <= self.local.now) && !self.local.keep_expired
    }

    /// Whether a key exists.
    pub fn exists(&mut self, key: &Hashed<'_>) -> bool {
        self.find(key).is_some()
    }

    /// Whether nothing that a file still has of a key may come over what is known of it; see `rest.rs`. Only while
    /// [`Keyspace::expect_rest`](crate::Keyspace::expect_rest) is in force.
    pub fn is_decided(&mut self, key: &Hashed<'_>) -> bool {
        self.exists(key) || self.table.rest.has(self.table.number, key.hash, key.bytes)
    }

    /// Stores a string in its smallest form, whatever the key held. Answers whether it existed.
    ///
    /// O(length). Announces nothing but the birth of a key: the command says what it did.
    #[inline]
    pub fn put_string(&mut self, key: &Hashed<'_>, value: &[u8], expire: Expire) -> bool {
        self.put(key, value, Form::Any, expire)
    }

    /// Stores a string that Redis would not keep as an integer.
    pub fn put_text(&mut self, key: &Hashed<'_>, value: &[u8], expire: Expire) -> bool {
        self.put(key, value, Form::Text, expire)
    }

    /// Stores a string that a command assembled.
    pub fn put_edited(&mut self, key: &Hashed<'_>, value: &[u8], expire: Expire) -> bool {
        self.put(key, value, Form::Edited, expire)
    }

    /// Stores a string that a command assembled in a buffer, which becomes the value where it is long.
    /// Answers whether the key existed.
    pub fn put_assembled(&mut self, key: &Hashed<'_>, value: Vec<u8>, expire: Expire) -> bool {
        if value.len() > INLINE_BYTES_MAX {
            return self.put_payload(key, kind::BLOB, Payload::Boxed(Object::Blob(Arc::new(value))), expire);
        }
        self.put_payload(key, kind::EDITED, Payload::Inline(&value), expire)
    }

    /// Stores an integer, whatever the key held. Answers whether it existed.
    pub fn put_integer(&mut self, key: &Hashed<'_>, value: i64, expire: Expire) -> bool {
        self.put_payload(key, kind::INT, Payload::Inline(&value.to_le_bytes()), expire)
    }

    #[inline]
    fn put(&mut self, key: &Hashed<'_>, value: &[u8], form: Form, expire: Expire) -> bool {
        if value.len() > INLINE_BYTES_MAX {
            let blob = Payload::Boxed(Object::Blob(Arc::new(value.to_vec())));
            return self.put_payload(key, kind::BLOB, blob, expire);
        }
        if form == Form::Edited {
            return self.put_payload(key, kind::EDITED, Payload::Inline(value), expire);
        }
        if form == Form::Any
            && value.len() <= 20
            && let Some(integer) = number::parse_i64(value)
        {
            return self.put_payload(key, kind::INT, Payload::Inline(&integer.to_le_bytes()), expire);
        }
        let fixed =
            ENTRY_HEADER_BYTES + key.bytes.len() + if matches!(expire, Expire::At(_)) { 6 } else { 0 };
        // Filling a kilobyte with zeros would be the dearest part of storing a short value.
        let (mut short, mut long);
        let scratch = if value.len() <= SHORT_BYTES {
            short = [0; SHORT_BYTES];
            &mut short[..]
        } else {
            long = [0; INLINE_BYTES_MAX];
            &mut long[..]
        };
        let (kind, payload) = string::choose(value, fixed, scratch);
        // Over a key that has an end Redis stores the new value with it, and sets the new end after.
        let with_end = expire != Expire::Clear
            && string::has_room_to_spare(key.bytes.len(), value.len())
            && self.deadline(key).flatten().is_some();
        let existed = self.put_payload(key, kind, Payload::Inline(payload), expire);
        if with_end {
            self.stored_with_end(key);
        }
        existed
    }

    /// Replaces or inserts an entry's payload.
    #[inline]
    pub(crate) fn put_payload(
        &mut self,
        key: &Hashed<'_>,
        kind: u8,
        payload: Payload<'_, Object>,
        expire: Expire,
    ) -> bool {
        let bytes = match &payload {
            Payload::Inline(bytes) => bytes.len(),
            Payload::Boxed(object) => bytes_apart(object),
        };
        let existed = self.store_payload(key, kind, payload, expire);
        if self.local.insight.wants_written(key.hash, bytes) {
            self.tell_written(key);
        }
        if self.local.effects.log.is_outside() {
            self.log_state(key);
        }
        existed
    }

    /// Logs what a key holds that was changed by no command: a copy that landed, an end that an invalidation set.
    #[cold]
    #[inline(never)]
    pub(crate) fn log_state(&mut self, key: &Hashed<'_>) {
        let shard = self.locked.shard(self.table.shard_of(key.hash));
        let Local { effects, .. } = &mut *self.local;
        match shard.find(key.hash, key.bytes) {
            Some(entry) => effects.log.holds(self.index, key.bytes, &Item::new(entry)),
            None => effects.log.removed(self.index, key.bytes, false),
        }
    }

    /// Tells of a read before it is done: what it is going to find.
    #[cold]
    #[inline(never)]
    fn tell_read(&mut self, key: &Hashed<'_>) {
        let found = self.find(key).map(|entry| Found::of(&entry));
        self.local.insight.read(TableNumber(self.table.number), key, found, self.local.now);
    }

    /// Tells what a key holds that was written.
    #[cold]
    #[inline(never)]
    pub(crate) fn tell_written(&mut self, key: &Hashed<'_>) {
        let shard = self.locked.shard(self.table.shard_of(key.hash));
        if let Some(entry) = shard.find(key.hash, key.bytes) {
            let found = Found::of(&entry);
            self.local.insight.wrote(TableNumber(self.table.number), key, found, self.local.now);
        } else {
            self.local.insight.passed();
        }
    }

    #[inline]
    fn store_payload(
        &mut self,
        key: &Hashed<'_>,
        kind: u8,
        payload: Payload<'_, Object>,
        expire: Expire,
    ) -> bool {
        debug_assert!(self.table.is_settled_for_writing(self.local, key));
        let access = self.local.access_of_new();
        let due = next_due_of_new(kind, &payload);
        let shard = self.locked.shard_mut(self.table.shard_of(key.hash));
        save_first((self.table, self.index), shard, self.local, key.hash);
        if let Some(mut occupied) = shard.find_mut(key.hash, key.bytes) {
            let dead = occupied.view().deadline().is_some_and(|deadline| deadline <= self.local.now.0)
                && !self.local.keep_expired;
            let deadline = match expire {
                Expire::Keep if !dead => DeadlineChange::Keep,
                Expire::Keep | Expire::Clear => DeadlineChange::Set(None),
                Expire::At(at) => DeadlineChange::Set(Some(at.0)),
            };
            let view = occupied.view();
            let table = self.table.number;
            let field = if dead { access } else { self.local.access_written(table, key.hash, &view) };
            let had_end = view.deadline().is_some();
            let bytes_before = if self.local.uses.asks_for_sizes() { bytes_of(&view) } else { 0 };
            self.local.replaced_kind = view.kind();
            let replacing = Replacing::of(&view, kind, &payload);
            let inline_len = match &payload {
                Payload::Inline(bytes) => Some(bytes.len()),
                Payload::Boxed(_) => None,
            };
            let removed = occupied.replace(kind, payload, deadline);
            let view = occupied.view();
            view.set_access(field);
            if self.local.uses.is_followed() {
                if dead {
                    self.local.uses.made_again(self.table.number, key.hash, bytes_before, &view);
                } else {
                    edited(self.table, self.local, key.hash, &view, had_end, bytes_before);
                }
            }
            self.table.replaced(self.local, replacing, &removed, inline_len);
            self.table.forget(key.hash, key.bytes, &removed);
            if due != u64::MAX {
                self.table.field_ends.note(self.table.shard_of(key.hash), key.bytes, due);
            }
            if dead {
                self.local.insight.removed(key.hash, Removal::Expired, self.local.now);
                ended(self.local, self.index, key.bytes, removed.boxed);
                self.local.effects.mention(self.index, key.bytes, Event::NEW);
            } else {
                discard(self.local, removed.boxed, Removal::Replaced);
            }
            return !dead;
        }
        let deadline = match expire {
            Expire::At(at) => Some(at.0),
            Expire::Keep | Expire::Clear => None,
        };
        self.table.storing(self.local, kind, &payload);
        let occupied = shard.insert(key.hash, key.bytes, NewEntry { kind, access, deadline, payload });
        if self.local.uses.is_followed() {
            self.local.uses.made(self.table.number, key.hash, &occupied.view());
        }
        if due != u64::MAX {
            self.table.field_ends.note(self.table.shard_of(key.hash), key.bytes, due);
        }
        self.local.effects.mention(self.index, key.bytes, Event::NEW);
        false
    }

    /// Removes a key on the way of a command that is about something else. Answers whether it existed.
    pub fn remove(&mut self, key: &Hashed<'_>) -> bool {
        self.remove_for(key, Removal::Replaced)
    }

    /// Removes a key as one that exists, also if its time has come and nobody has met it. Answers whether there was one.
    pub fn remove_even_if_over(&mut self, key: &Hashed<'_>) -> bool {
        let keep_expired = std::mem::replace(&mut self.local.keep_expired, true);
        let existed = self.remove(key);
        self.local.keep_expired = keep_expired;
        existed
    }

    /// Removes a key for a reason, which decides who frees its value. Answers whether it existed.
    pub fn remove_for(&mut self, key: &Hashed<'_>, removal: Removal) -> bool {
        let table = self.table;
        match Self::find_in(table, &mut self.locked, self.local, self.index, key) {
            Some(occupied) => {
                let kind = occupied.view().kind();
                let removed = table.remove(self.local, key.hash, key.bytes, occupied, removal);
                self.local.replaced_kind = kind;
                discard(self.local, removed.boxed, removal);
                if self.local.effects.log.is_outside() {
                    self.local.effects.log.removed(self.index, key.bytes, false);
                }
                true
            }
            None => false,
        }
    }

    /// Takes a value out, to be put under another key.
    pub fn take(&mut self, key: &Hashed<'_>) -> Option<Value> {
        let table = self.table;
        let occupied = Self::find_in(table, &mut self.locked, self.local, self.index, key)?;
        let view = occupied.view();
        let (kind, deadline) = (Item::new(view).lasting_kind(), view.deadline().map(Millis));
        let inline: Option<Box<[u8]>> = match view.payload() {
            PayloadRef::Inline(bytes) => Some(bytes.into()),
            PayloadRef::Boxed(_) => None,
        };
        let removed = table.remove(self.local, key.hash, key.bytes, occupied, Removal::Replaced);
        let payload = match (removed.boxed, inline) {
            (Some(object), _) => Owned::Boxed(object),
            (None, inline) => Owned::Inline(inline.unwrap_or_default()),
        };
        Some(Value { kind, deadline, payload })
    }

    /// Puts a value under a key that does not exist. The end comes along; the access field is that
    /// of a new key, as Redis has it for renamed and copied keys.
    pub fn put_value(&mut self, key: &Hashed<'_>, value: Value) {
        self.put_moved(key, value);
        self.stored_with_end(key);
    }

    /// Like [`Db::put_value`], for a value that keeps its key and so stays as it is (MOVE).
    pub fn put_moved(&mut self, key: &Hashed<'_>, value: Value) {
        let expire = value.deadline.map_or(Expire::Clear, Expire::At);
        match value.payload {
            Owned::Inline(bytes) => self.put_payload(key, value.kind, Payload::Inline(&bytes), expire),
            Owned::Boxed(object) => self.put_payload(key, value.kind, Payload::Boxed(object), expire),
        };
    }

    /// Writes the access field (RESTORE's IDLETIME and FREQ).
    pub fn set_access(&mut self, key: &Hashed<'_>, field: u32) {
        if let Some(entry) = self.find(key) {
            entry.set_access(field);
        }
    }

    /// Sets how often a key was used, by the count of the policy in force; see [`crate::uses_of`].
    pub fn set_uses(&mut self, key: &Hashed<'_>, uses: u8) {
        if let Some(view) = self.find(key) {
            view.set_access(larder_policy::policies::levels::with_uses(view.access(), uses));
        }
    }

    /// How accesses to a key are recorded, and so what its access field means.
    #[must_use]
    pub fn access_to(&self, key: &Hashed<'_>) -> Access {
        self.local.access_to(self.table.number, key.bytes)
    }

    /// How long ago a key was used, by its access field; `None` where its policy's fields do not tell.
    #[must_use]
    pub fn idle_ms(&self, key: &Hashed<'_>, field: u32) -> Option<u64> {
        self.local.uses.idle_ms(self.table.number, (key.hash, key.bytes), field, self.local.now)
    }

    /// Sets how long a key has not been used, as far as the policy in force tells.
    pub fn set_idle(&mut self, key: &Hashed<'_>, idle_ms: u64) {
        let Some(field) = self.peek(key).map(|item| item.access()) else { return };
        let (table, key_hashed) = (self.table.number, (key.hash, key.bytes));
        if let Some(field) = self.local.uses.used_before(table, key_hashed, field, idle_ms, self.local.now) {
            self.set_access(key, field);
        }
    }

    /// When a key ends: `None` for no such key, `Some(None)` for one that does not end.
    pub fn deadline(&mut self, key: &Hashed<'_>) -> Option<Option<Millis>> {
        self.find(key).map(|entry| entry.deadline().map(Millis))
    }

    /// Sets or takes away a key's end. Answers whether the key exists.
    pub fn set_deadline(&mut self, key: &Hashed<'_>, deadline: Option<Millis>) -> bool {
        match Self::find_in(self.table, &mut self.locked, self.local, self.index, key) {
            Some(mut occupied) => {
                keep_raw(&mut occupied);
                let had_end = occupied.view().deadline().is_some();
                let is_asked = self.local.uses.asks_for_sizes() || self.local.uses.asks_for_ends();
                let bytes_before = if is_asked { bytes_of(&occupied.view()) } else { 0 };
                occupied.set_deadline(deadline.map(|at| at.0));
                keep_raw(&mut occupied);
                if is_asked {
                    edited(self.table, self.local, key.hash, &occupied.view(), had_end, bytes_before);
                }
                if self.local.insight.follows(key.hash) {
                    self.tell_written(key);
                }
                if self.local.effects.log.is_outside() {
                    self.log_state(key);
                }
                true
            }
            None => false,
        }
    }

    /// Says that a value came with its end and not before it (RENAME, COPY, RESTORE): in Redis it is
    /// embedded only where there is room for both. What OBJECT ENCODING answers follows.
    pub fn stored_with_end(&mut self, key: &Hashed<'_>) {
        let found = Self::find_in(self.table, &mut self.locked, self.local, self.index, key);
        let Some(mut occupied) = found else { return };
        let view = occupied.view();
        let Ok(value) = Item::new(view).string() else { return };
        if view.deadline().is_some() && !string::embeds(key.bytes.len(), value.len(), true) {
            occupied.set_kind(string::raw_kind(view.kind()));
        }
    }
}

/// Values of up to this many bytes are packed in a small buffer.
const SHORT_BYTES: usize = 128;
/// Bytes of an entry beside key, payload and deadline: the header word and two short lengths.
const ENTRY_HEADER_BYTES: usize = 6;

/// The earliest moment at which a part of a value that is about to be stored ends by itself.
#[inline]
fn next_due_of_new(kind: u8, payload: &Payload<'_, Object>) -> u64 {
    match payload {
        _ if kind < kind::STRINGS_END => u64::MAX,
        Payload::Inline(bytes) => next_due_of(kind, PayloadRef::Inline(bytes)),
        Payload::Boxed(object) => object.next_due(),
    }
}

/// A command met a key whose time had come, and removed it.
#[cold]
fn ended(local: &mut Local, db: DbIndex, key: &[u8], object: Option<Object>) {
    discard(local, object, Removal::Expired);
    local.stats.expired_on_access.add(1);
    expired(local, db, key);
}

/// Counts and announces a key that was removed because its time had come.
pub(crate) fn expired(local: &mut Local, db: DbIndex, key: &[u8]) {
    local.stats.expired.add(1);
    local.effects.log.removed(db, key, local.lazy_free.expired);
    // No client asked for it: Redis does not count it among the changes since the last save.
    local.effects.notify(db, key, Event::EXPIRED);
}

/// Has a string that is raw beside the end it has, or has not, stay so when that changes.
fn keep_raw(occupied: &mut Occupied<'_, '_, Object>) {
    let item = Item::new(occupied.view());
    let (kind, lasting) = (item.entry.kind(), item.lasting_kind());
    if lasting != kind {
        occupied.set_kind(lasting);
    }
}

/// Records an access, unless the client asked for none to be.
#[inline]
pub(crate) fn touch(local: &mut Local, table: u32, hash: u64, entry: &Entry<'_, Object>) {
    if !local.no_touch {
        entry.set_access(local.access_touched(table, hash, entry));
    }
}

/// Tells the policy in force of an entry's change, as far as it asks: what was its size, and whether it had an end.
#[inline]
pub(crate) fn edited(
    table: &DbTable,
    local: &mut Local,
    hash: u64,
    entry: &Entry<'_, Object>,
    had_end: bool,
    bytes_before: u32,
) {
    if local.uses.asks_for_sizes() {
        local.uses.resized(table.number, hash, bytes_before, entry);
    }
    if local.uses.asks_for_ends() && had_end != entry.deadline().is_some() {
        local.uses.end_changed(table.number, hash, entry);
    }
}

#[inline]
fn missed(local: &mut Local, db: DbIndex, key: &[u8]) {
    local.stats.misses.add(1);
    if local.unfound.is_on {
        local.unfound.note(db, key, None);
    }
    local.effects.notify(db, key, Event::MISS);
}
