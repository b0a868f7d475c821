//! What listeners and counters are told of fields that went because their time had come.

use crate::cx::Ctx;
use larder_store::{Db, Event, Hashed};
use larder_values::hash::{Before, Found, Hash};

/// What one command found in the places that it took fields from.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally<'f> {
    /// Fields that were there.
    pub(super) live: u64,
    /// Fields whose time had come.
    pub(super) due: Vec<&'f [u8]>,
}

impl<'f> Tally<'f> {
    #[inline]
    pub(super) fn note(&mut self, field: &'f [u8], before: Before) {
        match before {
            Before::Absent => {}
            Before::Live => self.live += 1,
            Before::Due => self.due.push(field),
        }
    }
}

/// Counts so many changes of a key and announces them by one event.
#[inline]
pub(super) fn changed(cx: &mut Ctx<'_>, key: &Hashed<'_>, event: Event, count: u64) {
    cx.db.changed(key, event);
    if count > 1 {
        cx.db.local.effects.changed_many(count - 1);
    }
}

/// Counts and announces fields that were removed by an end in the past: they count as ended, too.
pub(super) fn removed_by_end(cx: &mut Ctx<'_>, key: &Hashed<'_>, count: u64) {
    cx.db.local.stats.expired_fields.add(count);
    changed(cx, key, Event::HDEL, count);
}

/// Counts and announces that fields' time had come.
#[inline]
pub(super) fn expired(cx: &mut Ctx<'_>, key: &Hashed<'_>, fields: &[&[u8]]) {
    if !fields.is_empty() {
        cx.db.fields_expired(key, fields.iter().copied());
    }
}

/// Says that a command is logged as the removal of fields, one by one.
pub(super) fn log_removed(cx: &mut Ctx<'_>, key: &Hashed<'_>, fields: &[&[u8]]) {
    if cx.is_logged() {
        for field in fields {
            cx.log_also([b"HDEL", key.bytes, field]);
        }
        cx.log().nothing();
    }
}

/// Removes those of these fields whose time has come: a read met them.
#[cold]
pub(crate) fn remove_due<'f>(db: &mut Db<'_>, key: &Hashed<'_>, fields: impl Iterator<Item = &'f [u8]>) {
    let now = db.now_of_fields();
    let edited = db.edit::<Hash, _>(key, |hash| {
        let due = |field: &&[u8]| hash.look().find(field, now) == Found::Due;
        let mut fields: Vec<&[u8]> = fields.filter(due).collect();
        fields.retain(|field| hash.remove(field, now) == Before::Due);
        fields
    });
    if let Ok(Some(edited)) = edited {
        if !edited.value.is_empty() {
            db.fields_expired(key, edited.value.iter().copied());
        }
        if edited.emptied {
            db.notify(key, Event::DEL);
        }
    }
}
