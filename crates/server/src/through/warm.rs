//! Warming: the whole of a route brought in at once, before anybody asks.
//!
//! The store's rows come as a stream and are kept in pieces of some hundred keys, each by a message to a worker; the stream waits where
//! pieces lie unread. What a write or an invalidation overtakes meanwhile is not kept, as with a flight. Nothing is evicted
//! for it: it ends where memory does.

use crate::server::{Message, Server, Work};
use larder_source::{Limits, Request, Route, Row, Shaped, joined, text_of};
use larder_source_fetch::{FetchError, Source, blocking};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// Keys kept at a time.
const PIECE: usize = 256;
/// How often the log tells how far it is.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// How long keeping a piece may take.
const KEEP_MAX: Duration = Duration::from_secs(10);

/// Keys to keep, and who wants to know how many were.
#[derive(Debug)]
pub struct Piece {
    /// The route of all of them.
    pub route: Arc<Route>,
    /// What they stand for.
    pub keys: Vec<(Box<[u8]>, Shaped)>,
    /// Of the keys that stood here before, so many were kept.
    pub kept: usize,
    /// Where that is told.
    pub done: SyncSender<Done>,
}

/// What became of a piece: how many keys were kept, and whether there is room for more.
pub type Done = (usize, bool);

/// What warming came to.
#[derive(Debug, Default)]
pub struct Warmed {
    /// Rows read.
    pub rows: u64,
    /// Keys kept.
    pub kept: u64,
    /// Whether memory was full before the end.
    pub is_full: bool,
}

/// Brings the whole of a route in, or so many keys of it.
///
/// # Errors
/// Why it ended before its time; what was kept until then stays.
pub async fn warm(
    server: &'static Server,
    route: Arc<Route>,
    source: &Source,
    limit: Option<u64>,
) -> Result<Warmed, String> {
    let Some(statement) = route.warm.as_ref() else {
        return Err(format!("ERR route {} has no statement for it: warm \"SELECT ...\"", route.pattern));
    };
    let Some(_warming) = server.through.flights.begin_warming() else {
        return Err("ERR a route is being warmed already".to_owned());
    };
    let mut warmer = Warmer::new(server, Arc::clone(&route), limit);
    let limits = Limits { rows: usize::MAX, bytes: usize::MAX };
    let request = Request { statement, parameters: &[], validator: None, limits };
    let streamed = source.stream(request, &mut |rows| warmer.take(&rows.columns, rows.rows)).await;
    warmer.end_key();
    warmer.send();
    blocking(|| warmer.settle(0));
    if let Some(text) = warmer.failure {
        return Err(FetchError::Failed(format!("source '{}': {text}", source.spec.name)).reply());
    }
    streamed.map_err(|error| error.reply())?;
    if server.through.flights.is_warming_spoilt() {
        return Err("ERR so much changed meanwhile that not all could be kept: warm it again".to_owned());
    }
    Ok(warmer.warmed)
}

/// Rows on their way into the cache.
struct Warmer {
    server: &'static Server,
    route: Arc<Route>,
    left: u64,
    columns: Arc<[larder_source::Column]>,
    /// The words of the key whose rows are being gathered, and the rows.
    words: Vec<Vec<u8>>,
    rows: Vec<Row>,
    /// Bytes of the rows.
    bytes: usize,
    keys: Vec<(Box<[u8]>, Shaped)>,
    told: (SyncSender<Done>, Receiver<Done>),
    /// Pieces that nobody has told the end of.
    unsettled: usize,
    worker: usize,
    warmed: Warmed,
    failure: Option<String>,
    last_told: std::time::Instant,
}

impl Warmer {
    fn new(server: &'static Server, route: Arc<Route>, limit: Option<u64>) -> Warmer {
        Warmer {
            server,
            route,
            left: limit.unwrap_or(u64::MAX),
            columns: Arc::from([]),
            words: Vec::new(),
            rows: Vec::new(),
            bytes: 0,
            keys: Vec::new(),
            told: sync_channel(server.mailboxes.len() * 2 + 1),
            unsettled: 0,
            worker: 0,
            warmed: Warmed::default(),
            failure: None,
            last_told: crate::clock::now(),
        }
    }

    /// Takes rows in; false to have no more.
    fn take(&mut self, columns: &Arc<[larder_source::Column]>, rows: Vec<Row>) -> bool {
        self.columns = Arc::clone(columns);
        let names = self.route.pattern.names().len();
        for row in rows {
            self.warmed.rows += 1;
            let words: Vec<Vec<u8>> =
                row.iter().take(names).map(|cell| text_of(cell).unwrap_or_default()).collect();
            if words != self.words {
                self.end_key();
                self.words = words;
            }
            if self.left == 0 || self.warmed.is_full || self.failure.is_some() {
                return false;
            }
            self.bytes += row.iter().map(larder_source::Cell::size).sum::<usize>();
            let limits = self.route.limits;
            if self.rows.len() >= limits.rows || self.bytes > limits.bytes {
                let Limits { rows, bytes } = limits;
                self.failure =
                    Some(format!("a key has over {rows} rows (max-rows) or {bytes} bytes (max-bytes)"));
                return false;
            }
            self.rows.push(row);
        }
        if self.last_told.elapsed() >= TELL_EVERY {
            self.last_told = crate::clock::now();
            let (rows, kept) = (self.warmed.rows, self.warmed.kept);
            tracing::info!("warming {}: {rows} rows read, {kept} keys kept", self.route.pattern);
        }
        !self.server.through.flights.is_warming_spoilt()
    }

    /// The rows of a key are there.
    fn end_key(&mut self) {
        let mut rows = std::mem::take(&mut self.rows);
        let words = std::mem::take(&mut self.words);
        self.bytes = 0;
        if rows.is_empty() || self.left == 0 {
            return;
        }
        let key = self.route.pattern.key_of(&words);
        // A value that would be read as another key's, as one with a colon, has no key.
        let captured = self.route.pattern.capture(&key).map(joined);
        if captured != Some(joined(words)) || self.route.words_of(&key).is_none() {
            return;
        }
        match self.route.shape.shape(&self.columns, &mut rows, self.route.pattern.names().len()) {
            Ok(Some(shaped)) if shaped.size() <= self.route.limits.bytes => {
                self.left -= 1;
                self.keys.push((key.into(), shaped));
            }
            Ok(_) => {}
            Err(text) => self.failure = Some(text),
        }
        if self.keys.len() >= PIECE {
            self.send();
        }
    }

    /// Gives the keys that are gathered to a worker; waits where several pieces lie unread.
    fn send(&mut self) {
        let keys = std::mem::take(&mut self.keys);
        if keys.is_empty() {
            return;
        }
        let piece = Piece { route: Arc::clone(&self.route), keys, kept: 0, done: self.told.0.clone() };
        let mailboxes = &self.server.mailboxes;
        self.worker = (self.worker + 1) % mailboxes.len();
        mailboxes[self.worker].send(Message::Work(Work(Box::new(move |core| core.keep_piece(piece)))));
        self.unsettled += 1;
        if self.unsettled > mailboxes.len() {
            blocking(|| self.settle(mailboxes.len()));
        }
    }

    /// Waits until so many pieces at most are unread.
    fn settle(&mut self, left: usize) {
        while self.unsettled > left {
            // A worker that ends drops its pieces, and we hold a sender ourselves: waiting has an end of its own.
            let Ok((kept, has_room)) = self.told.1.recv_timeout(KEEP_MAX) else {
                self.failure = Some(format!("what it sent was not kept within {} s", KEEP_MAX.as_secs()));
                self.unsettled = 0;
                return;
            };
            self.unsettled -= 1;
            self.warmed.kept += kept as u64;
            self.warmed.is_full |= !has_room;
            self.route.stats.warmed.fetch_add(kept as u64, Relaxed);
        }
    }
}
