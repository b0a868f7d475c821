//! The connections of a worker, found by a token that is an index.
//!
//! A token is a slot's number and the slot's generation; a token of a connection that is gone finds
//! nothing, whoever uses the slot now.

use crate::connection::Connection;
use std::collections::HashMap;

/// A worker's connections.
#[derive(Debug, Default)]
pub struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Tokens by the client's number, for messages from other threads.
    by_id: HashMap<u64, u64>,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    connection: Option<Box<Connection>>,
}

/// Generations wrap below the bit that marks a listener's token.
const GENERATION_MASK: u32 = (1 << 28) - 1;

impl Slots {
    /// The token the next connection will have.
    pub fn next_token(&mut self) -> u64 {
        let slot = match self.free.last() {
            Some(slot) => *slot,
            None => {
                self.free.push(self.slots.len() as u32);
                self.slots.push(Slot::default());
                self.slots.len() as u32 - 1
            }
        };
        token(slot, self.slots[slot as usize].generation)
    }

    /// Adds a connection under the token [`Slots::next_token`] told.
    pub fn insert(&mut self, mut connection: Box<Connection>) -> u64 {
        let token = self.next_token();
        connection.token = token;
        self.free.pop();
        self.by_id.insert(connection.client.id, token);
        self.slots[token as u32 as usize].connection = Some(connection);
        token
    }

    /// The token of the connection of this client number.
    pub fn token_of(&self, id: u64) -> Option<u64> {
        self.by_id.get(&id).copied()
    }

    #[inline]
    fn slot_mut(&mut self, token: u64) -> Option<&mut Slot> {
        self.slots.get_mut(token as u32 as usize).filter(|slot| slot.generation == (token >> 32) as u32)
    }

    /// A connection.
    #[inline]
    pub fn get(&self, token: u64) -> Option<&Connection> {
        let slot =
            self.slots.get(token as u32 as usize).filter(|slot| slot.generation == (token >> 32) as u32)?;
        slot.connection.as_deref()
    }

    /// A connection, to be changed.
    #[inline]
    pub fn get_mut(&mut self, token: u64) -> Option<&mut Connection> {
        self.slot_mut(token)?.connection.as_deref_mut()
    }

    /// Takes a connection out for a while; [`Slots::put`] brings it back.
    #[inline]
    pub fn take(&mut self, token: u64) -> Option<Box<Connection>> {
        self.slot_mut(token)?.connection.take()
    }

    /// Brings a connection back that was taken.
    #[inline]
    pub fn put(&mut self, connection: Box<Connection>) {
        if let Some(slot) = self.slot_mut(connection.token) {
            slot.connection = Some(connection);
        }
    }

    /// Forgets a connection.
    pub fn remove(&mut self, token: u64) -> Option<Box<Connection>> {
        let slot = self.slot_mut(token)?;
        let connection = slot.connection.take()?;
        slot.generation = (slot.generation + 1) & GENERATION_MASK;
        self.free.push(token as u32);
        self.by_id.remove(&connection.client.id);
        Some(connection)
    }

    /// Places for connections, free ones included.
    pub fn places(&self) -> usize {
        self.slots.len()
    }

    /// The connections in `count` places from place `from` on.
    pub fn range(&self, from: usize, count: usize) -> impl Iterator<Item = &Connection> {
        self.slots.iter().skip(from).take(count).filter_map(|slot| slot.connection.as_deref())
    }

    /// All connections, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Connection> {
        self.slots.iter_mut().filter_map(|slot| slot.connection.as_deref_mut())
    }
}

fn token(slot: u32, generation: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(slot)
}
