//! Connections that are lent to one statement at a time.
//!
//! Invariant: there are never more connections than places; a place is free again when its connection is back, or gone for good.

use larder_source::Failure;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::unreachable;

/// A connection as the pool sees it.
pub trait Pooled: Send + Sized + 'static {
    /// Whether nothing has arrived that nobody asked for: the end of the connection, most often.
    fn is_quiet(&mut self) -> bool;

    /// Ends what still runs over a connection that was given back before its answer had come. The place is held meanwhile.
    fn abandon(self, place: OwnedSemaphorePermit);
}

/// Connections that wait to be used.
#[derive(Debug)]
pub struct Pool<C> {
    idle: Mutex<Vec<C>>,
    places: Arc<Semaphore>,
}

impl<C: Pooled> Pool<C> {
    /// A pool with room for so many.
    pub fn new(connections: usize) -> Arc<Pool<C>> {
        Arc::new(Pool { idle: Mutex::default(), places: Arc::new(Semaphore::new(connections.max(1))) })
    }

    /// A connection: the one used last, or a new one. It is busy until [`Lease::rest`] is called.
    ///
    /// # Errors
    /// Of `open`.
    pub async fn take<F>(self: &Arc<Self>, open: impl FnOnce() -> F) -> Result<Lease<C>, Failure>
    where
        F: Future<Output = Result<C, Failure>>,
    {
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.map_err(|_| unreachable("the source is closed"))?;
        let connection = match self.take_idle() {
            Some(connection) => connection,
            None => open().await?,
        };
        Ok(Lease { held: Some((connection, place)), resting: false, pool: Arc::clone(self) })
    }

    fn take_idle(&self) -> Option<C> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(mut connection) = idle.pop() {
            if connection.is_quiet() {
                return Some(connection);
            }
        }
        None
    }
}

/// A connection on loan.
#[derive(Debug)]
pub struct Lease<C: Pooled> {
    held: Option<(C, OwnedSemaphorePermit)>,
    resting: bool,
    pool: Arc<Pool<C>>,
}

impl<C: Pooled> Lease<C> {
    /// The answer has come whole: the connection can be used again.
    pub fn rest(mut self) {
        self.resting = true;
    }
}

impl<C: Pooled> Deref for Lease<C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.held.as_ref().expect("held until it is dropped").0
    }
}

impl<C: Pooled> DerefMut for Lease<C> {
    fn deref_mut(&mut self) -> &mut C {
        &mut self.held.as_mut().expect("held until it is dropped").0
    }
}

impl<C: Pooled> Drop for Lease<C> {
    fn drop(&mut self) {
        let Some((connection, place)) = self.held.take() else { return };
        if self.resting {
            // Before the place is free: who gets it next is to find this connection.
            self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            drop(place);
        } else {
            connection.abandon(place);
        }
    }
}
