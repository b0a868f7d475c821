//! Commands of the append-only log, carried out again when the server starts.
//!
//! They go the way of any command, but nobody is asked whether they may: no user, no limit of memory, no source. Nothing
//! ends meanwhile: a key or field whose time has come is there until the log says that it is gone, as it was when what
//! follows was logged.

use super::Core;
use crate::clients::Client;
use crate::clock;
use crate::connection::Connection;
use crate::io::Socket;
use crate::server::Server;
use larder_acl::Users;
use larder_commands::Args;
use larder_resp::{Output, Span};
use larder_store::{Db, Hashed, Note};
use std::ops::Range;
use std::sync::Arc;

/// A command of a log.
#[derive(Debug)]
pub struct Logged {
    /// Where it begins.
    pub at: usize,
    /// Its words from there.
    pub words: Vec<Range<usize>>,
    /// What is noted of the value that it stores, where anything is.
    pub note: Option<Note>,
}

/// A command that waits for its EXEC: its bytes, where its words lie in them, and what is noted of its value.
type Queued = (Vec<u8>, Vec<Span>, Option<Note>);

/// Replays a log; see the module.
pub struct Replay {
    conn: Connection,
    out: Output,
    /// The commands since MULTI.
    transaction: Option<Vec<Queued>>,
    /// Commands carried out.
    pub commands: u64,
    /// Commands that failed.
    pub failures: u64,
}

impl Replay {
    /// Gets ready to replay a log.
    ///
    /// # Errors
    /// Where the system has no file left.
    pub fn new(server: &'static Server) -> Result<Replay, String> {
        let nothing = std::fs::File::open("/dev/null").map_err(|error| format!("/dev/null: {error}"))?;
        let user = Arc::clone(Users::new(server.registry.catalog()).default_user());
        let now = clock::unix_millis();
        let client = Client::new((0, user), 0, String::new(), String::new(), -1, false, now.0);
        let conn = Connection::new(Arc::new(client), Socket::new(nothing.into()), true);
        Ok(Replay { conn, out: Output::default(), transaction: None, commands: 0, failures: 0 })
    }

    /// Carries out commands, inside a turn.
    ///
    /// # Errors
    /// Where one is no command that a log holds: what is wrong, and which it is of those.
    pub fn run(&mut self, core: &mut Core, bytes: &[u8], commands: &[Logged]) -> Result<(), (usize, String)> {
        let was_on = core.local.unfound.is_on;
        (core.local.keep_expired, core.limits.is_replay, core.local.unfound.is_on) = (true, true, false);
        let mut result = Ok(());
        for (index, Logged { at, words, note }) in commands.iter().enumerate() {
            let span = |word: &Range<usize>| Span { start: (at + word.start) as u32, len: word.len() as u32 };
            let spans: Vec<Span> = words.iter().map(span).collect();
            if let Err(what) = self.command(core, bytes, &spans, *note) {
                result = Err((index, what));
                break;
            }
        }
        (core.local.keep_expired, core.limits.is_replay, core.local.unfound.is_on) = (false, false, was_on);
        // What is loaded is no change since the last snapshot.
        core.local.effects.take_changes();
        result
    }

    fn command(
        &mut self,
        core: &mut Core,
        bytes: &[u8],
        spans: &[Span],
        note: Option<Note>,
    ) -> Result<(), String> {
        let args = Args::new(bytes, spans);
        if args.is(0, b"multi") {
            self.transaction = Some(Vec::new());
            return Ok(());
        }
        if args.is(0, b"exec") {
            for (bytes, spans, note) in self.transaction.take().unwrap_or_default() {
                self.carry_out(core, &Args::new(&bytes, &spans), note)?;
            }
            return Ok(());
        }
        match &mut self.transaction {
            Some(transaction) => {
                let (mut own, mut places) = (Vec::new(), Vec::new());
                for word in args.from(0) {
                    places.push(Span { start: own.len() as u32, len: word.len() as u32 });
                    own.extend_from_slice(word);
                }
                transaction.push((own, places, note));
                Ok(())
            }
            None => self.carry_out(core, &args, note),
        }
    }

    fn carry_out(&mut self, core: &mut Core, args: &Args<'_>, note: Option<Note>) -> Result<(), String> {
        let server = core.server;
        let name = || String::from_utf8_lossy(args.get(0)).into_owned();
        let row = server.registry.find_original(args.get(0));
        let row = row.ok_or_else(|| format!("unknown command '{}'", name()))?;
        let row = match args.try_get(1) {
            Some(word) if !row.subcommands.is_empty() => {
                row.subcommand(word).ok_or_else(|| format!("unknown subcommand of '{}'", name()))?
            }
            _ => row,
        };
        if !row.takes(args.len()) {
            return Err(format!("wrong number of words for '{}'", name()));
        }
        self.commands += 1;
        let hash = if row.first_key == 0 { 0 } else { server.keyspace.hash(args.get(row.first_key)) };
        self.out.clear();
        loop {
            match core.dispatch(&mut self.conn, &mut self.out, row, args, hash, None) {
                Ok(true) => break,
                // Somebody else has its key, for a moment.
                Ok(false) => {
                    self.conn.parked = None;
                    std::thread::yield_now();
                }
                Err(error) => {
                    self.failures += 1;
                    tracing::debug!("a command of the log fails: {}", core.shown(error.text()));
                    break;
                }
            }
        }
        (self.conn.parked, self.conn.unfinished) = (None, None);
        if let Some(note) = note
            && row.first_key != 0
        {
            self.note(core, args.get(row.first_key), hash, note);
        }
        Ok(())
    }

    /// Notes of a value what its command had not said.
    fn note(&self, core: &mut Core, key: &[u8], hash: u64, note: Note) {
        let keyspace = &core.server.keyspace;
        let locked = keyspace.lock_many(self.conn.db, &[hash]);
        let mut db = Db::new(keyspace, self.conn.db, locked, &mut core.local);
        let key = Hashed { bytes: key, hash };
        db.settle(&key, true);
        db.set_note(&key, note);
    }
}
