//! Command lines in memory: no line breaks its command, an error has changed nothing, and what the lines leave
//! behind can be dumped and restored.

use larder_commands::{Args, Command, Ctx, Error, KeyspaceCtx, Limits, Run, command_info, keys_of};
use larder_resp::{Output, Protocol, Reply, Span, split_words};
use larder_store::{
    Access, Db, DbIndex, Epochs, EventClass, Hasher, Held, Keyspace, Local, Millis, StoreStats,
};
use larder_values::list::Limit;
use std::collections::BTreeSet;
use std::io::IoSlice;
use std::sync::Arc;

/// What strings may grow to here, in bytes, so that no line takes seconds.
const STRING_BYTES_MAX: usize = 16 * 1024;
/// The most elements that a line may draw by chance with repetitions; more is an answer without end.
const DRAWN_MAX: i64 = 1000;
/// Lines looked at, since each may make the values that the next one works on longer.
const LINES_MAX: usize = 64;
/// A moment far from the epoch, so that times can be past.
const NOW: Millis = Millis(1_800_000_000_000);

/// The first byte chooses protocol and limits; lines follow, with words as on redis-cli's prompt.
pub fn commands(data: &[u8]) {
    let Some((&choice, text)) = data.split_first() else { return };
    let mut world = World::new(choice);
    let lines = text.split(|&byte| byte == b'\n').filter_map(split_words).take(LINES_MAX);
    let mut names = BTreeSet::new();
    for words in lines.filter(|words| !words.is_empty() && !is_endless(words)) {
        world.run(&words);
        names.extend(words);
    }
    names.iter().for_each(|name| world.copy_by_payload(name));
}

/// Whether a line draws more by chance than there is time for, or is a self-test of seconds.
fn is_endless(words: &[Vec<u8>]) -> bool {
    let is = |name: &[u8]| words.first().is_some_and(|word| word.eq_ignore_ascii_case(name));
    let count = words.get(2).and_then(|word| str::from_utf8(word).ok()?.parse::<i64>().ok());
    let draws = is(b"srandmember") || is(b"hrandfield") || is(b"zrandmember");
    is(b"pfselftest") || draws && count.is_some_and(|count| count < -DRAWN_MAX)
}

struct World {
    keyspace: Keyspace,
    local: Local,
    limits: Limits,
    protocol: Protocol,
}

impl World {
    fn new(choice: u8) -> World {
        let mut local = Local::new(42, Arc::new(StoreStats::default()));
        local.now = NOW;
        local.access = Access::Lru;
        // Clients hear of all but what is silent.
        local.effects.set_interest(!(EventClass::Silent as u32));
        let mut limits = Limits { string_bytes_max: STRING_BYTES_MAX, ..Limits::default() };
        if choice & 2 != 0 {
            let packed = [&mut limits.hash_packed, &mut limits.set_packed, &mut limits.zset_packed];
            packed.into_iter().for_each(|packed| (packed.entries_max, packed.value_bytes_max) = (2, 6));
            (limits.set_integers_max, limits.stream_node_entries_max) = (2, 2);
            limits.list = Limit::of(2).compressed_from(1);
            limits.hll_sparse_bytes_max = 40;
        }
        let protocol = if choice & 1 == 0 { Protocol::Resp2 } else { Protocol::Resp3 };
        World {
            keyspace: Keyspace::new(2, 1, Hasher::keyed([1, 2]), Epochs::new(2)),
            local,
            limits,
            protocol,
        }
    }

    /// Runs a line; the answer is its reply, or the error's.
    fn run(&mut self, words: &[Vec<u8>]) -> Vec<u8> {
        let (request, spans) = request_of(words);
        let args = Args::new(&request, &spans);
        let Some((full, command)) = find(&args) else { return Vec::new() };
        let mut out = Output::default();
        let _ = command_info::write_keys(
            &mut Reply::new(&mut out, self.protocol),
            &full,
            &command.spec,
            &args,
            true,
        );
        out.clear();
        self.local.effects.take_log();
        match self.execute(command, &args, &mut out) {
            Ok(waits) => {
                let reply = bytes_of(&out);
                assert_eq!(reply.is_empty(), waits, "{full}: what waits answers nothing");
                let rest = if waits { Some(&[][..]) } else { after_value(&reply) };
                assert_eq!(rest, Some(&[][..]), "{full} answers {}", reply.escape_ascii());
                reply
            }
            Err(error) => {
                let told = self.local.effects.take_log();
                assert!(
                    told.iter().all(|effect| matches!(effect.event.name, "expired" | "keymiss")),
                    "{full} refuses and changes: {} {:?}",
                    error.text().escape_ascii(),
                    told.iter().map(|effect| effect.event.name).collect::<Vec<_>>()
                );
                [b"-", error.text(), b"\r\n"].concat()
            }
        }
    }

    /// Whether the command waits.
    fn execute(&mut self, command: &Command, args: &Args<'_>, out: &mut Output) -> Result<bool, Error> {
        let World { keyspace, local, limits, protocol } = self;
        let reply = Reply::new(out, *protocol);
        match command.run {
            Run::Keys(run) => {
                let keys = keys_of(&command.spec, args).unwrap_or_default();
                let hashes: Vec<u64> =
                    keys.iter().map(|key| keyspace.hash(args.get(key.index as usize))).collect();
                let first = keys.first().map_or((0, 0), |key| (key.index as usize, hashes[0]));
                let locked = keyspace.lock_many(DbIndex(0), &hashes);
                let mut cx = Ctx::new(Db::new(keyspace, DbIndex(0), locked, local), reply, limits, first);
                run(&mut cx, args)?;
                Ok(cx.take_wait().is_some())
            }
            Run::Keyspace(run) | Run::Exclusive(run) => {
                let (db, held, is_busy) = (DbIndex(0), Held::default(), false);
                let may_read_any = true;
                run(
                    &mut KeyspaceCtx {
                        keyspace,
                        db,
                        local,
                        reply,
                        limits,
                        held,
                        is_busy,
                        may_read_any,
                        logs: false,
                    },
                    args,
                )?;
                Ok(false)
            }
            Run::Container => Ok(true),
        }
    }

    /// What DUMP says of a key, RESTORE takes.
    fn copy_by_payload(&mut self, name: &[u8]) {
        let dumped = self.run(&[b"DUMP".to_vec(), name.to_vec()]);
        let Some(end) = dumped.iter().position(|&byte| byte == b'\n') else { return };
        if dumped.starts_with(b"$") && !dumped.starts_with(b"$-1") {
            let payload = dumped[end + 1..dumped.len() - 2].to_vec();
            let restore =
                [b"RESTORE".to_vec(), b"a copy".to_vec(), b"0".to_vec(), payload, b"REPLACE".to_vec()];
            let answer = self.run(&restore);
            assert_eq!(answer, b"+OK\r\n", "a payload of ours is refused: {}", dumped.escape_ascii());
        }
    }
}

/// The command that the first word names, or the first two, and its full name, if it takes so many words.
fn find(args: &Args<'_>) -> Option<(String, &'static Command)> {
    let is_named = |command: &Command, word: &[u8]| command.spec.name.as_bytes().eq_ignore_ascii_case(word);
    let mut command = larder_commands::commands().find(|command| is_named(command, args.get(0)))?;
    let mut full = command.spec.name.to_owned();
    if !command.subcommands.is_empty() {
        command = command.subcommands.iter().find(|command| is_named(command, args.get(1)))?;
        full = command_info::full_name(&full, &command.spec);
    }
    command.spec.takes(args.len()).then_some((full, command))
}

fn request_of(words: &[Vec<u8>]) -> (Vec<u8>, Vec<Span>) {
    let (mut request, mut spans) = (Vec::new(), Vec::new());
    for word in words {
        spans.push(Span { start: request.len() as u32, len: word.len() as u32 });
        request.extend_from_slice(word);
    }
    (request, spans)
}

fn bytes_of(out: &Output) -> Vec<u8> {
    let mut slices = [IoSlice::new(&[]); 1024];
    let filled = out.fill_slices(&mut slices);
    slices[..filled].iter().flat_map(|slice| slice.iter().copied()).collect()
}

/// What follows on the value that a reply begins with; `None` if that is none.
fn after_value(reply: &[u8]) -> Option<&[u8]> {
    let end = reply.windows(2).position(|pair| pair == b"\r\n")?;
    let (line, rest) = (&reply[..end], &reply[end + 2..]);
    let (&kind, head) = line.split_first()?;
    let number = || str::from_utf8(head).ok()?.parse::<i64>().ok();
    match kind {
        b'+' | b'-' | b'_' | b'#' | b',' | b'(' => Some(rest),
        b':' => number().map(|_| rest),
        b'$' | b'=' => match usize::try_from(number()?) {
            Ok(length) => rest.get(length..)?.strip_prefix(b"\r\n"),
            Err(_) => Some(rest),
        },
        b'*' | b'~' | b'>' => (0..number()?).try_fold(rest, |rest, _| after_value(rest)),
        b'%' => (0..number()? * 2).try_fold(rest, |rest, _| after_value(rest)),
        _ => None,
    }
}
