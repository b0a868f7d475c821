//! Strings and integers that are changed where they lie.
//!
//! Invariant: an edit that fails has changed nothing.

use super::{Db, Expire, WrongType, edited, touch};
use crate::evict::bytes_of;
use crate::item::Item;
use crate::keyspace::Hashed;
use crate::object::{Object, Type};
use crate::sizes::Replacing;
use crate::string::{INLINE_BYTES_MAX, Str, kind};
use larder_table::{DeadlineChange, Payload};
use std::sync::Arc;

/// Why an integer could not be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EditIntegerError<E> {
    /// The key holds no string.
    WrongType,
    /// The string spells no integer.
    NotAnInteger,
    /// The change itself was refused.
    Refused(E),
}

impl Db<'_> {
    /// Changes an integer in place, or stores a first one.
    ///
    /// `change` gets the present value, `None` where the key is absent, and answers the new one.
    /// `Err(None)` says that the key holds no integer.
    pub fn edit_integer<E>(
        &mut self,
        key: &Hashed<'_>,
        change: impl FnOnce(i64) -> Result<i64, E>,
    ) -> Result<i64, EditIntegerError<E>> {
        let found = Self::find_in(self.table, &mut self.locked, self.local, self.index, key);
        let Some(mut occupied) = found else {
            let value = change(0).map_err(EditIntegerError::Refused)?;
            self.put_integer(key, value, Expire::Clear);
            return Ok(value);
        };
        let item = Item::new(occupied.view());
        let string = item.string().map_err(|WrongType| EditIntegerError::WrongType)?;
        let present = string.to_i64().ok_or(EditIntegerError::NotAnInteger)?;
        let value = change(present).map_err(EditIntegerError::Refused)?;
        if matches!(string, Str::Int(_))
            && let Some(bytes) = occupied.inline_mut()
        {
            bytes.copy_from_slice(&value.to_le_bytes());
            self.table.counted(self.local, present, value);
        } else {
            let bytes = value.to_le_bytes();
            let payload = Payload::Inline(&bytes);
            let replacing = Replacing::of(&occupied.view(), kind::INT, &payload);
            let removed = occupied.replace(kind::INT, payload, DeadlineChange::Keep);
            self.table.replaced(self.local, replacing, &removed, Some(bytes.len()));
            debug_assert!(removed.boxed.is_none());
        }
        touch(self.local, self.table.number, key.hash, &occupied.view());
        if self.local.insight.wants_edited(key.hash) {
            self.tell_written(key);
        }
        Ok(value)
    }

    /// Changes a string's bytes through a buffer; an absent key starts empty. Answers what `edit`
    /// answers.
    ///
    /// A long string is edited where it lies unless a reply still holds it. `edit` says through its
    /// second answer whether the value is to be stored; a value left empty and unstored creates no
    /// key. The time to live stays.
    pub fn edit_string<R>(
        &mut self,
        key: &Hashed<'_>,
        edit: impl FnOnce(&mut Vec<u8>) -> (R, bool),
    ) -> Result<R, WrongType> {
        let mut buffer = std::mem::take(&mut self.local.scratch);
        buffer.clear();
        let result = self.edit_string_with(key, &mut buffer, edit);
        buffer.clear();
        if buffer.capacity() <= 64 * 1024 {
            self.local.scratch = buffer;
        }
        result
    }

    fn edit_string_with<R>(
        &mut self,
        key: &Hashed<'_>,
        buffer: &mut Vec<u8>,
        edit: impl FnOnce(&mut Vec<u8>) -> (R, bool),
    ) -> Result<R, WrongType> {
        let found = Self::find_in(self.table, &mut self.locked, self.local, self.index, key);
        if let Some(mut occupied) = found {
            Item::new(occupied.view()).string()?;
            if let Some(blob) = occupied.boxed_mut().and_then(Object::blob_mut) {
                let (before, capacity) = (blob.len(), blob.capacity());
                let (answer, _) = edit(Arc::make_mut(blob));
                self.table.sizes.changed(self.local, Type::String, before, blob.len());
                let grown = blob.capacity().wrapping_sub(capacity) as u32;
                let view = occupied.view();
                touch(self.local, self.table.number, key.hash, &view);
                if self.local.uses.asks_for_sizes() {
                    let bytes_before = bytes_of(&view).wrapping_sub(grown);
                    let had_end = view.deadline().is_some();
                    edited(self.table, self.local, key.hash, &view, had_end, bytes_before);
                }
                if self.local.insight.wants_written(key.hash, capacity.wrapping_add(grown as usize)) {
                    self.tell_written(key);
                }
                return Ok(answer);
            }
            Item::new(occupied.view()).string()?.write_to(buffer);
        }
        let (answer, store) = edit(buffer);
        if store {
            if buffer.len() > INLINE_BYTES_MAX {
                // The buffer becomes the value: no second copy.
                let blob = Payload::Boxed(Object::Blob(Arc::new(std::mem::take(buffer))));
                self.put_payload(key, kind::BLOB, blob, Expire::Keep);
            } else {
                self.put_payload(key, kind::EDITED, Payload::Inline(buffer), Expire::Keep);
            }
        } else {
            // Looked at and left as it was: an access all the same.
            self.touch(key);
        }
        Ok(answer)
    }
}
