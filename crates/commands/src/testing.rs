//! Runs command lines against a keyspace in memory: what the server does around a command, without
//! the server.

use crate::args::Args;
use crate::cx::{Ctx, KeyspaceCtx, Limits};
use crate::error::Error;
use crate::keys_of::keys_of;
use crate::spec::{Command, Run};
use larder_resp::{Output, Protocol, Reply, Span, split_words};
use larder_store::{
    Access, Db, DbIndex, Effect, Epochs, EventClass, Expire, Hasher, Held, Keyspace, Local, Millis,
    StoreStats,
};
use std::io::IoSlice;
use std::sync::Arc;

/// A keyspace and one client of it.
pub(crate) struct World {
    pub(crate) keyspace: Keyspace,
    pub(crate) local: Local,
    pub(crate) limits: Limits,
    pub(crate) db: DbIndex,
    pub(crate) protocol: Protocol,
}

/// A moment far from the epoch, so that tests can go back.
const START: Millis = Millis(1_800_000_000_000);

impl World {
    pub(crate) fn new() -> Self {
        let mut local = Local::new(42, Arc::new(StoreStats::default()));
        local.now = START;
        local.access = Access::Lru;
        // Clients hear of all but what is silent.
        local.effects.set_interest(!(EventClass::Silent as u32));
        World {
            keyspace: Keyspace::new(16, 1, Hasher::keyed([1, 2]), Epochs::new(4)),
            local,
            limits: Limits::default(),
            db: DbIndex(0),
            protocol: Protocol::Resp2,
        }
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, milliseconds: u64) {
        self.local.now = Millis(self.local.now.0 + milliseconds);
    }

    /// Stores a string.
    pub(crate) fn put(&mut self, key: &[u8], value: &[u8]) {
        let locked = self.keyspace.lock_many(self.db, &[self.keyspace.hash(key)]);
        let mut db = Db::new(&self.keyspace, self.db, locked, &mut self.local);
        let key = db.key(key);
        db.put_string(&key, value, Expire::Clear);
    }

    /// The string that a key holds.
    pub(crate) fn get(&mut self, key: &[u8]) -> Option<Vec<u8>> {
        let locked = self.keyspace.lock_many(self.db, &[self.keyspace.hash(key)]);
        let mut db = Db::new(&self.keyspace, self.db, locked, &mut self.local);
        let key = db.key(key);
        Some(db.peek(&key)?.string().unwrap().to_vec())
    }

    /// What was announced since the last call: database, event and key of each.
    pub(crate) fn effects(&mut self) -> Vec<String> {
        let told = |effect: Effect| {
            format!("{} {} {}", effect.db.0, effect.event.name, String::from_utf8_lossy(&effect.key))
        };
        self.local.effects.take_log().into_iter().map(told).collect()
    }

    /// Runs one command of any words and answers the bytes of its reply.
    pub(crate) fn run_words(&mut self, words: &[&[u8]]) -> Vec<u8> {
        let (request, spans) = spans_of_words(words);
        let args = Args::new(&request, &spans);
        let mut out = Output::default();
        if let Err(error) = self.execute(&args, &mut out) {
            out.clear();
            Reply::new(&mut out, self.protocol).error(error.text());
        }
        let mut slices = [IoSlice::new(&[]); 64];
        let filled = out.fill_slices(&mut slices);
        slices[..filled].iter().flat_map(|slice| slice.iter().copied()).collect()
    }

    fn execute(&mut self, args: &Args<'_>, out: &mut Output) -> Result<(), Error> {
        let command = find(args)?;
        let World { keyspace, local, limits, db, protocol } = self;
        let reply = Reply::new(out, *protocol);
        match command.run {
            Run::Keys(run) => {
                let keys = keys_of(&command.spec, args).unwrap_or_default();
                let hash = |index: u32| keyspace.hash(args.get(index as usize));
                let hashes: Vec<u64> = keys.iter().map(|key| hash(key.index)).collect();
                let first = keys.first().map_or((0, 0), |key| (key.index as usize, hashes[0]));
                let locked = keyspace.lock_many(*db, &hashes);
                run(&mut Ctx::new(Db::new(keyspace, *db, locked, local), reply, limits, first), args)
            }
            Run::Keyspace(run) | Run::Exclusive(run) => {
                let (held, is_busy) = (Held::default(), false);
                let may_read_any = true;
                run(
                    &mut KeyspaceCtx {
                        keyspace,
                        db: *db,
                        local,
                        reply,
                        limits,
                        held,
                        is_busy,
                        may_read_any,
                        logs: false,
                    },
                    args,
                )
            }
            Run::Container => Err(Error::of("ERR a container does not run")),
        }
    }
}

/// Runs a command line, quoted as on redis-cli's prompt, and answers its reply as text.
pub(crate) fn run(world: &mut World, line: &str) -> String {
    let words = split_words(line.as_bytes()).unwrap();
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    if words[0].eq_ignore_ascii_case(b"select") {
        world.db = DbIndex(String::from_utf8_lossy(words[1]).parse().unwrap());
        return "+OK\r\n".into();
    }
    String::from_utf8_lossy(&world.run_words(&words)).into_owned()
}

/// The command that the first word names, or the first two, with its number of words checked.
fn find(args: &Args<'_>) -> Result<&'static Command, Error> {
    let is_named = |command: &Command, word: &[u8]| command.spec.name.as_bytes().eq_ignore_ascii_case(word);
    let unknown = Error::of("ERR unknown command");
    let mut command =
        crate::commands().find(|command| is_named(command, args.get(0))).ok_or(unknown.clone())?;
    let mut name = command.spec.name.to_owned();
    if !command.subcommands.is_empty() && args.len() > 1 {
        command = command.subcommands.iter().find(|command| is_named(command, args.get(1))).ok_or(unknown)?;
        name = format!("{name}|{}", command.spec.name);
    }
    if command.spec.takes(args.len()) { Ok(command) } else { Err(Error::arity(&name)) }
}

/// Words one after the other, and where each lies.
pub(crate) fn spans_of_words(words: &[&[u8]]) -> (Vec<u8>, Vec<Span>) {
    let mut request = Vec::new();
    let mut spans = Vec::new();
    for word in words {
        spans.push(Span { start: request.len() as u32, len: word.len() as u32 });
        request.extend_from_slice(word);
    }
    (request, spans)
}

/// The words of a command line, quoted as on redis-cli's prompt.
pub(crate) fn spans_of(line: &str) -> (Vec<u8>, Vec<Span>) {
    let words = split_words(line.as_bytes()).unwrap();
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    spans_of_words(&words)
}
