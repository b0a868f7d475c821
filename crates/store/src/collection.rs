//! What a command can do with a collection: look at it, edit it where it lies, store a whole one.
//!
//! Invariants: a key holds no collection that is gone; a packed collection of at most
//! [`PACKED_BYTES_MAX`] bytes lies inside its entry. Type errors come before anything is changed.

use crate::db::{Db, Expire, WrongType, edited, touch};
use crate::discard::{Removal, discard};
use crate::evict::seen;
use crate::field_ends::DbTable;
use crate::item::Item;
use crate::keyspace::Hashed;
use crate::local::Local;
use crate::object::{Object, Stored, Type};
use larder_policy::Seen;
use larder_table::{DeadlineChange, Occupied, Payload, PayloadRef};

/// Longest packed collection kept inside its entry, in bytes.
pub const PACKED_BYTES_MAX: usize = 1024;
/// A collection that lies apart moves inside its entry when its packed form has shrunk to this many bytes.
const PACKED_BYTES_BACK: usize = PACKED_BYTES_MAX / 2;
/// A spare buffer larger than this is not kept.
const SPARE_BYTES_MAX: usize = 16 * 1024;

/// What came of an edit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edited<R> {
    /// What the edit answered.
    pub value: R,
    /// The key was made by it.
    pub created: bool,
    /// Nothing was left, so the key is gone; the command announces that.
    pub emptied: bool,
}

impl<'t> Db<'t> {
    /// Reads a collection: counts a hit or a miss and records the access.
    #[inline]
    pub fn read_as<C: Stored>(&mut self, key: &Hashed<'_>) -> Result<Option<C::View<'_>>, WrongType> {
        self.read(key).map(|item| item.view::<C>()).transpose()
    }

    /// Looks at a collection without counting or touching it. A value of another type is touched: that ends the
    /// command, which has used the key.
    #[inline]
    pub fn peek_as<C: Stored>(&mut self, key: &Hashed<'_>) -> Result<Option<C::View<'_>>, WrongType> {
        let found = Self::look_in(self.table, &mut self.locked, self.local, self.index, key);
        let Some(entry) = found else { return Ok(None) };
        let view = Item::new(entry).view::<C>();
        if view.is_err() {
            touch(self.local, self.table.number, key.hash, &entry);
        }
        view.map(Some)
    }

    /// A second look at a collection that this command has read, beside others: nothing is counted, and
    /// what has ended was removed by the first look.
    pub fn seen_as<C: Stored>(&self, key: &Hashed<'_>) -> Option<C::View<'_>> {
        let shard = self.locked.shard(self.table.shard_of(key.hash));
        let item = Item::new(shard.find(key.hash, key.bytes)?);
        item.view::<C>().ok()
    }

    /// Edits the collection of a key, if there is one. Where nothing is left the key goes. The end of the key stays.
    ///
    /// O(1) beside the edit itself; for a collection inside its entry O(its bytes), at most [`PACKED_BYTES_MAX`].
    #[inline]
    pub fn edit<C: Stored, R>(
        &mut self,
        key: &Hashed<'_>,
        work: impl FnOnce(&mut C) -> R,
    ) -> Result<Option<Edited<R>>, WrongType> {
        let found = Self::find_in(self.table, &mut self.locked, self.local, self.index, key);
        let Some(occupied) = found else { return Ok(None) };
        let before = self.local.uses.asks_for_sizes().then(|| seen(&occupied.view(), 0));
        let edited = edit_found(self.table, key, occupied, self.local, work);
        self.tell_edited(key, before);
        edited.map(Some)
    }

    /// Tells who asks of an edit; `before`: how the policy in force saw the key, if it asks.
    #[inline]
    fn tell_edited(&mut self, key: &Hashed<'_>, before: Option<Seen>) {
        if let Some(before) = before {
            self.tell_size(key, before);
        }
        if self.local.insight.wants_edited(key.hash) {
            self.tell_written(key);
        }
    }

    /// Tells the policy in force that a key's collection, which it saw so, was edited.
    #[cold]
    fn tell_size(&mut self, key: &Hashed<'_>, before: Seen) {
        let shard = self.locked.shard(self.table.shard_of(key.hash));
        match shard.find(key.hash, key.bytes) {
            Some(entry) => edited(self.table, self.local, key.hash, &entry, before.is_timed(), before.bytes),
            None => self.local.uses.left(self.table.number, key.hash, key.bytes, before),
        }
    }

    /// Edits the collection of a key; a missing one starts empty, and is stored unless it stays so.
    #[inline]
    pub fn edit_or_create<C: Stored, R>(
        &mut self,
        key: &Hashed<'_>,
        work: impl FnOnce(&mut C) -> R,
    ) -> Result<Edited<R>, WrongType> {
        if let Some(occupied) = Self::find_in(self.table, &mut self.locked, self.local, self.index, key) {
            let before = self.local.uses.asks_for_sizes().then(|| seen(&occupied.view(), 0));
            let edited = edit_found(self.table, key, occupied, self.local, work);
            self.tell_edited(key, before);
            return edited;
        }
        let mut collection = C::new(std::mem::take(&mut self.local.spare));
        let value = work(&mut collection);
        let created = !collection.is_gone();
        if created {
            self.put_collection(key, collection, Expire::Clear);
        } else {
            keep_spare(self.local, collection.into_spare());
        }
        Ok(Edited { value, created, emptied: false })
    }

    /// Stores a whole collection, whatever the key held; one that is gone only removes the key. Answers whether
    /// the key existed; to one that is gone a key whose time has come exists until it is removed, as in Redis.
    pub fn put_collection<C: Stored>(&mut self, key: &Hashed<'_>, collection: C, expire: Expire) -> bool {
        if collection.is_gone() {
            return self.remove_even_if_over(key);
        }
        match collection.inline() {
            Some((form, bytes)) if bytes.len() <= PACKED_BYTES_MAX => {
                let existed = self.put_payload(key, C::KINDS.start() + form, Payload::Inline(bytes), expire);
                keep_spare(self.local, collection.into_spare());
                existed
            }
            _ => self.put_payload(key, C::KIND_APART, Payload::Boxed(collection.into_object()), expire),
        }
    }

    /// Takes a collection out of its key.
    pub fn take_as<C: Stored>(&mut self, key: &Hashed<'_>) -> Result<Option<C>, WrongType> {
        let table = self.table;
        let found = Self::find_in(table, &mut self.locked, self.local, self.index, key);
        let Some(occupied) = found else { return Ok(None) };
        let item = Item::new(occupied.view());
        item.view::<C>()?;
        let packed = item.packed::<C>();
        let removed = table.remove(self.local, key.hash, key.bytes, occupied, Removal::Replaced);
        Ok(packed.or_else(|| removed.boxed.and_then(C::out_of)))
    }
}

impl<'a> Item<'a> {
    /// The value as a collection of one type.
    #[inline]
    pub fn view<C: Stored>(&self) -> Result<C::View<'a>, WrongType> {
        C::decode(self.entry.kind(), self.entry.payload())
    }

    /// A copy of the collection if it lies inside its entry.
    fn packed<C: Stored>(&self) -> Option<C> {
        let form = self.entry.kind().checked_sub(*C::KINDS.start())?;
        match self.entry.payload() {
            PayloadRef::Inline(bytes) => Some(C::from_inline(form, bytes.to_vec())),
            PayloadRef::Boxed(_) => None,
        }
    }
}

/// Keeps a buffer for the next edit.
fn keep_spare(local: &mut Local, mut spare: Vec<u8>) {
    if spare.capacity() <= SPARE_BYTES_MAX && spare.capacity() > local.spare.capacity() {
        spare.clear();
        local.spare = spare;
    }
}

/// Edits the collection of an entry, records the access, and notes when the first of its parts ends.
#[inline]
fn edit_found<C: Stored, R>(
    table: &DbTable,
    key: &Hashed<'_>,
    occupied: Occupied<'_, '_, Object>,
    local: &mut Local,
    work: impl FnOnce(&mut C) -> R,
) -> Result<Edited<R>, WrongType> {
    let entry = occupied.view();
    touch(local, table.number, key.hash, &entry);
    let (mut due_before, mut due_after) = (u64::MAX, u64::MAX);
    let (mut items_before, mut items_after) = (0, 0);
    let work = |collection: &mut C| {
        (due_before, items_before) = (C::next_due(collection.view()), C::items(collection.view()));
        let value = work(collection);
        (due_after, items_after) = (C::next_due(collection.view()), C::items(collection.view()));
        value
    };
    let edited = match entry.payload() {
        PayloadRef::Inline(_) => edit_inside(occupied, local, work),
        PayloadRef::Boxed(_) => edit_apart(key.hash, occupied, local, work),
    };
    match &edited {
        Ok(edited) if edited.emptied => {
            local.insight.removed(key.hash, Removal::Deleted, local.now);
            local.stats.deleted.add(1);
            table.sizes.went(local, C::TYPE, items_before);
            table.rest.note(table.number, key.hash, key.bytes);
        }
        // A type that did not fit was not edited: no items before, and none after.
        _ => table.sizes.changed(local, C::TYPE, items_before, items_after),
    }
    if due_before != due_after {
        table.field_ends.note(table.shard_of(key.hash), key.bytes, due_after);
    }
    edited
}

/// Edits a collection that lies inside its entry: in a buffer, then back, or apart once it has grown too large.
#[inline]
fn edit_inside<C: Stored, R>(
    mut occupied: Occupied<'_, '_, Object>,
    local: &mut Local,
    work: impl FnOnce(&mut C) -> R,
) -> Result<Edited<R>, WrongType> {
    let entry = occupied.view();
    let (kind, PayloadRef::Inline(bytes)) = (entry.kind(), entry.payload()) else { return Err(WrongType) };
    if !C::KINDS.contains(&kind) {
        return Err(WrongType);
    }
    let mut buffer = std::mem::take(&mut local.spare);
    buffer.extend_from_slice(bytes);
    let mut collection = C::from_inline(kind - C::KINDS.start(), buffer);
    let value = work(&mut collection);
    let emptied = collection.is_gone();
    if emptied {
        occupied.remove();
    } else if let Some((form, bytes)) = collection.inline()
        && bytes.len() <= PACKED_BYTES_MAX
    {
        occupied.replace(C::KINDS.start() + form, Payload::Inline(bytes), DeadlineChange::Keep);
    } else {
        let apart = Payload::Boxed(collection.into_object());
        occupied.replace(C::KIND_APART, apart, DeadlineChange::Keep);
        return Ok(Edited { value, created: false, emptied });
    }
    keep_spare(local, collection.into_spare());
    Ok(Edited { value, created: false, emptied })
}

/// Edits a collection that lies apart, where it lies; one whose packed form has become small moves inside its entry.
fn edit_apart<C: Stored, R>(
    hash: u64,
    mut occupied: Occupied<'_, '_, Object>,
    local: &mut Local,
    work: impl FnOnce(&mut C) -> R,
) -> Result<Edited<R>, WrongType> {
    let collection = occupied.boxed_mut().and_then(C::of_mut).ok_or(WrongType)?;
    let value = work(collection);
    // A stream's groups would have to be walked through; it is looked at now and then.
    if C::TYPE != Type::Stream {
        local.insight.edited(hash, collection.heap_bytes());
    }
    let emptied = collection.is_gone();
    let small = collection.inline().filter(|(_, bytes)| bytes.len() <= PACKED_BYTES_BACK);
    let small = small.map(|(form, bytes)| (form, bytes.to_vec()));
    let removed = if emptied {
        occupied.remove().boxed
    } else if let Some((form, bytes)) = small {
        let kind = C::KINDS.start() + form;
        occupied.replace(kind, Payload::Inline(&bytes), DeadlineChange::Keep).boxed
    } else {
        None
    };
    discard(local, removed, Removal::Replaced);
    Ok(Edited { value, created: false, emptied })
}
