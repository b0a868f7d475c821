//! What is told of changed keys: to those who watch, wait and listen, to the count of changes, and to the log.

use super::Db;
use crate::effects::Event;
use crate::keyspace::Hashed;
use crate::object::Type;

impl Db<'_> {
    /// Announces a change of a key; see [`crate::Effects`].
    #[inline]
    pub fn changed(&mut self, key: &Hashed<'_>, event: Event) {
        self.local.effects.changed(self.index, key.bytes, event);
    }

    /// Has those who wait for a key looked after, though its value has not changed.
    pub fn wake(&mut self, key: &Hashed<'_>) {
        self.local.effects.wake(self.index, key.bytes);
    }

    /// Announces an event that stands for several changes.
    pub fn changed_times(&mut self, key: &Hashed<'_>, event: Event, times: u64) {
        self.local.effects.changed_many(times.saturating_sub(1));
        self.local.effects.changed(self.index, key.bytes, event);
    }

    /// Counts changes of what stands beside a value, such as the groups of a stream, and tells listeners of
    /// an event. To those who watch the key it is as it was, as in Redis.
    pub fn changed_unwatched(&mut self, key: &Hashed<'_>, times: u64, event: Option<Event>) {
        self.local.effects.changed_many(times);
        if let Some(event) = event {
            self.local.effects.mention(self.index, key.bytes, event);
        }
    }

    /// Counts and announces fields that were removed because their time had come.
    pub fn fields_expired<'f>(&mut self, key: &Hashed<'_>, fields: impl ExactSizeIterator<Item = &'f [u8]>) {
        self.local.stats.expired_fields.add(fields.len() as u64);
        if self.local.effects.log.is_on() {
            for field in fields {
                self.local.effects.log.also(self.index, [b"HDEL", key.bytes, field]);
            }
        }
        // As for keys: no client asked for it.
        self.local.effects.notify(self.index, key.bytes, Event::HEXPIRED);
    }

    /// Announces that a key was given a whole new value, as a further event of that change, and that the
    /// value is of another type than the one just replaced or removed, where it is.
    #[inline]
    pub fn overwritten(&mut self, key: &Hashed<'_>) {
        self.notify(key, Event::OVERWRITTEN);
        let before = self.local.replaced_kind;
        if self.local.effects.is_heard(Event::TYPE_CHANGED)
            && self.peek(key).is_some_and(|item| item.value_type() != Type::of_kind(before))
        {
            self.notify(key, Event::TYPE_CHANGED);
        }
    }

    /// Announces a further event of a change already counted.
    pub fn notify(&mut self, key: &Hashed<'_>, event: Event) {
        self.local.effects.notify(self.index, key.bytes, event);
    }
}
