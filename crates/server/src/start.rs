//! From a command line to a running server, and back to an exit code.

use crate::access::Access;
use crate::admin::Admin;
use crate::io::Poller;
use crate::listen::Listeners;
use crate::load::LoadError;
use crate::mailbox::Mailbox;
use crate::registry::Registry;
use crate::server::{Server, fill_random};
use crate::snapshot::{self, Ending};
use crate::worker::Worker;
use crate::{
    REDIS_VERSION, VERSION, alloc, commands, journal, load, logging, machine, process, through, tls,
};
use larder_config::{Action, HashFunction, Settings, StartPlan};
use larder_store::{Epochs, Hasher, Keyspace};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// File descriptors the server needs beside its connections.
const OTHER_FILES: u64 = 64;

/// Does what the command line says.
pub fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let mut args = args.peekable();
    // A configuration of that name is ./sim.
    if args.next_if(|word| word == "sim").is_some() {
        return match larder_policy::sim::run(args, &mut std::io::stdout().lock()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(text) => fail(&format!("sim: {text}")),
        };
    }
    if args.next_if(|word| word == "check-aof").is_some() {
        return check_aof(args);
    }
    if args.next_if(|word| word == "check-rdb").is_some() {
        return check_rdb(args);
    }
    let plan = match larder_config::from_args_and(args, &mut std::io::stdin()) {
        Ok(plan) => plan,
        Err(error) => return fail(&error.to_string()),
    };
    match plan.action {
        Action::Help => say(&larder_config::help_text()),
        Action::Version => say(&format!("Larder {VERSION} (speaks Redis {REDIS_VERSION})\n")),
        Action::CheckConfig => {
            for warning in &plan.warnings {
                say(&format!("warning: {warning}\n"));
            }
            let checked = through::parse_lines(&plan.settings)
                .and_then(|_| tls::check(&plan.settings))
                .and_then(|()| check_users(&plan));
            if let Err(text) = checked {
                return fail(&text);
            }
            say("OK\n")
        }
        Action::Start => match start(plan) {
            Ok(code) => code,
            Err(text) => fail(&text),
        },
    }
}

/// Looks through an append-only log.
fn check_aof(args: impl Iterator<Item = OsString>) -> ExitCode {
    let options = match load::CheckAof::parse(args) {
        Ok(options) => options,
        Err(text) => return fail(&text),
    };
    match load::check_aof(&options, &mut std::io::stdout().lock()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => fail(&format!("check-aof: {}: {error}", options.path.display())),
    }
}

/// Looks through a snapshot.
fn check_rdb(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let (Some(path), None) = (args.next(), args.next()) else { return fail("check-rdb wants one file") };
    match load::check_rdb(path.as_ref(), &mut std::io::stdout().lock()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => fail(&format!("check-rdb: {}: {error}", path.display())),
    }
}

/// Looks whether the users of a configuration are right, and those of its file of users.
fn check_users(plan: &StartPlan) -> Result<(), String> {
    std::env::set_current_dir(plan.settings.dir())
        .map_err(|error| format!("cannot work in the directory of 'dir': {error}"))?;
    Access::new(Registry::new(commands::COMMANDS, commands::MEMCACHED, &[]).catalog()).begin(plan)
}

fn say(text: &str) -> ExitCode {
    // Nobody reads: nothing to tell.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn fail(text: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "larder: {text}");
    ExitCode::FAILURE
}

/// Runs the server until it is asked to stop.
fn start(mut plan: StartPlan) -> Result<ExitCode, String> {
    if plan.is_cache && plan.settings.maxmemory() == 0 {
        plan.settings = with_memory_of_machine(&plan.settings)?;
    }
    let settings = plan.settings.clone();
    std::env::set_current_dir(settings.dir())
        .map_err(|error| format!("cannot work in the directory of 'dir': {error}"))?;
    let level = logging::start(&settings).map_err(|error| format!("cannot open the log file: {error}"))?;
    process::pin(settings.server_cpulist());
    let is_supervised = process::begin_supervision(&settings);
    for warning in &plan.warnings {
        tracing::warn!("{warning}");
    }
    through::parse_lines(&settings)?;
    let tls = tls::configure(&settings)?;
    let listeners = Listeners::open(&settings)?;
    raise_file_limit(u64::from(settings.maxclients()));
    if settings.daemonize() && !is_supervised {
        // What is wrong with the settings was told to whoever started it; no thread has begun yet.
        process::daemonize()?;
        plan.settings = process::with_pid_file(&settings);
    }
    let settings = plan.settings.clone();
    let workers = worker_count(&settings);
    let (server, pollers) = build(plan, workers)?;
    server.access.begin(&server.plan.lock())?;
    commands::set_level_handle(level);
    server.tls.store(tls);
    server.through.begin(server, &settings)?;
    through::behind::begin(server)?;
    process::write_pid_file(&settings);
    // The log says why it can't be.
    let _ = server.oom_score.follow(&settings);
    process::log_panics(|| server.settings().crash_log_enabled());
    banner(&settings, workers);
    let to_load = load::plan(server, &settings)?;
    stop_on_signals(server)?;
    *server.listeners.lock() = listeners;
    *server.admin.lock() = Admin::start(server, &settings)?;
    let threads = spawn_workers(server, pollers)?;
    look_after_pages(&settings)?;
    tracing::info!("Server initialized");
    // The workers' own buffers are part of what a server without data takes.
    server.startup_bytes.store(server.used_memory(), Relaxed);
    let loaded = match to_load {
        Some(plan) => load::run(server, plan).map(|()| through::follow(server)),
        None => {
            // At once, since clients are served already: a load waits for a feed only where one is to begin.
            through::follow(server);
            journal::begin(server, None).map_err(LoadError::Log)
        }
    };
    match loaded {
        Ok(()) => {
            say_ready(&settings);
            process::tell_supervisor(&settings, "STATUS=Ready to accept connections\nREADY=1");
        }
        Err(LoadError::Stopped) => {}
        Err(error @ (LoadError::File(..) | LoadError::Log(_))) => {
            tracing::error!("{error}");
            remove_files(&settings);
            return Ok(ExitCode::FAILURE);
        }
    }
    finish(server, threads, &settings);
    Ok(ExitCode::SUCCESS)
}

/// Waits until no worker is left, and ends what is beside them.
fn finish(server: &'static Server, workers: Vec<std::thread::JoinHandle<()>>, settings: &Settings) {
    for worker in workers {
        if worker.join().is_err() {
            tracing::error!("a worker ended by a panic");
        }
    }
    journal::finish(server);
    snapshot::finish(server);
    through::behind::finish(server);
    through::leave(server);
    *server.admin.lock() = None;
    remove_files(settings);
    tracing::info!("Larder is now ready to exit, bye bye...");
}

/// The settings with three quarters of the memory there is for `maxmemory`: the rest is for what is beside the data.
fn with_memory_of_machine(settings: &Settings) -> Result<Settings, String> {
    let bytes = machine::memory_bytes() / 4 * 3;
    if bytes == 0 {
        return Err("--cache cannot find out how much memory there is; give --maxmemory too".into());
    }
    let pair = (&b"maxmemory"[..], bytes.to_string());
    let change = settings.plan_set(&[(pair.0, pair.1.as_bytes())], true);
    Ok(change.map_err(|error| format!("--cache cannot set maxmemory: {error:?}"))?.settings)
}

/// Removes what the server leaves in the file system while it runs.
pub fn remove_files(settings: &Settings) {
    for path in [settings.pidfile(), settings.unixsocket()] {
        if !path.is_empty() {
            let _ = std::fs::remove_file(String::from_utf8_lossy(path).as_ref());
        }
    }
}

fn worker_count(settings: &Settings) -> usize {
    match settings.threads() {
        // Rust's count respects the scheduler's affinity mask and the cgroup's quota.
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads as usize,
    }
}

fn build(plan: StartPlan, workers: usize) -> Result<(&'static Server, Vec<Poller>), String> {
    let settings = plan.settings.clone();
    let renames: Vec<_> =
        plan.renames.iter().map(|rename| (rename.command.clone(), rename.new_name.clone())).collect();
    let registry = Registry::new(commands::COMMANDS, commands::MEMCACHED, &renames);
    let pollers: Vec<Poller> = (0..workers)
        .map(|_| Poller::new())
        .collect::<Result<_, _>>()
        .map_err(|error| format!("cannot create an event loop: {error}"))?;
    let mailboxes = pollers.iter().map(|poller| Mailbox::new(poller.waker())).collect();
    let hasher = match settings.hash_function() {
        HashFunction::Keyed => Hasher::random(),
        HashFunction::SipHash => Hasher::sip(Hasher::random_key()),
        HashFunction::Fast => Hasher::fast(random_u64()),
    };
    larder_values::index::set_hash_seed(random_u64());
    let epochs = Epochs::new(workers);
    let keyspace = Keyspace::new(settings.databases(), workers, hasher, Arc::clone(&epochs));
    let server = Server::new(plan, settings, registry, keyspace, epochs, mailboxes);
    Ok((Box::leak(Box::new(server)), pollers))
}

fn random_u64() -> u64 {
    let mut bytes = [0; 8];
    fill_random(&mut bytes);
    u64::from_ne_bytes(bytes)
}

fn spawn_workers(
    server: &'static Server,
    pollers: Vec<Poller>,
) -> Result<Vec<std::thread::JoinHandle<()>>, String> {
    let mut threads = Vec::new();
    for (id, poller) in pollers.into_iter().enumerate() {
        let mut worker = Worker::new(id, server, poller, random_u64())
            .map_err(|error| format!("cannot watch the listening sockets: {error}"))?;
        let thread = std::thread::Builder::new()
            .name(format!("larder-{id}"))
            .spawn(move || worker.run())
            .map_err(|error| format!("cannot start a worker thread: {error}"))?;
        threads.push(thread);
    }
    Ok(threads)
}

/// Huge pages made ready between two looks at what is needed; each takes the kernel up to some milliseconds.
const PAGES_AT_A_TIME: usize = 4;

/// Has a background thread make huge pages ready for the tables to grow with, which halve the cost of
/// reaching a random key, and give back what they no longer need. No worker waits for it.
fn look_after_pages(settings: &Settings) -> Result<(), String> {
    let cores = settings.bio_cpulist().to_vec();
    std::thread::Builder::new()
        .name("larder-pages".into())
        .spawn(move || {
            process::pin(&cores);
            loop {
                larder_store::keep_pages(PAGES_AT_A_TIME);
                larder_store::blocks::release(false);
            }
        })
        .map(drop)
        .map_err(|error| format!("cannot start the thread that looks after pages: {error}"))
}

/// Lets the process open a file for each connection, as far as the system allows it; answers for
/// how many connections it does.
pub fn raise_file_limit(connections: u64) -> u64 {
    let wanted = connections + OTHER_FILES;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return connections;
    }
    let maximum = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    if setrlimit(
        Resource::Nofile,
        Rlimit { current: Some(wanted), maximum: limit.maximum.map(|m| m.max(wanted)) },
    )
    .is_ok()
    {
        return connections;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: Some(maximum), maximum: limit.maximum }) {
        Ok(()) if maximum >= wanted => return connections,
        _ => tracing::warn!(
            "the limit of open files allows {} connections, not the {connections} of 'maxclients'; raise it with 'ulimit -n {wanted}'",
            maximum.saturating_sub(OTHER_FILES)
        ),
    }
    maximum.saturating_sub(OTHER_FILES)
}

/// The logo: a larder, and who lives there. Seen at a terminal, and in any log with `always-show-logo`.
fn logo(settings: &Settings) {
    let beside = [
        format!("Larder {VERSION}"),
        format!("speaks Redis {REDIS_VERSION}"),
        match settings.port() {
            0 => "no port".to_owned(),
            port => format!("port {port}"),
        },
        format!("process {}", std::process::id()),
    ];
    let shelves = [r" _______ ", r"|_o_0_8_|", r"|_8_o_o_|", r"|_0_8_0_|"];
    for (shelf, text) in shelves.iter().zip(beside) {
        tracing::info!("{shelf}   {text}");
    }
}

/// A few lines that say what is running.
fn banner(settings: &Settings, workers: usize) {
    let limit = match settings.maxmemory() {
        0 => "no memory limit".to_owned(),
        bytes => format!("memory limit {} MiB", bytes >> 20),
    };
    if settings.always_show_logo() || logging::goes_to_terminal(settings) {
        logo(settings);
    }
    tracing::info!("Larder {VERSION}, speaks Redis {REDIS_VERSION}, process {}", std::process::id());
    tracing::info!("{workers} worker thread{}, {limit}", if workers == 1 { "" } else { "s" });
    let _ = alloc::allocated_bytes();
}

/// Says where clients are served, from now on.
fn say_ready(settings: &Settings) {
    let mut places: Vec<String> = Vec::new();
    let addresses: Vec<_> =
        settings.bind().iter().map(|address| String::from_utf8_lossy(address).into_owned()).collect();
    for (kind, port) in [
        ("port", settings.port()),
        ("TLS port", settings.tls_port()),
        ("memcached port", settings.memcached_port()),
    ] {
        if port != 0 {
            places.push(format!("{kind} {port} on {}", addresses.join(" ")));
        }
    }
    if !settings.unixsocket().is_empty() {
        places.push(String::from_utf8_lossy(settings.unixsocket()).into_owned());
    }
    // In the words that those who watch logs of Redis look for, as in other places where the same is said.
    tracing::info!("Ready to accept connections: {}", places.join(", "));
}

/// Stops the server cleanly on the first SIGTERM or SIGINT, at once on the second.
fn stop_on_signals(server: &'static Server) -> Result<(), String> {
    use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
    // A file that may not grow is an error of who writes it, and not the end.
    signal_hook::flag::register(SIGXFSZ, Arc::default())
        .map_err(|error| format!("cannot handle signals: {error}"))?;
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])
        .map_err(|error| format!("cannot handle signals: {error}"))?;
    std::thread::Builder::new()
        .name("larder-signals".into())
        .spawn(move || {
            for signal in signals.forever() {
                let name = if signal == SIGINT { "SIGINT" } else { "SIGTERM" };
                tracing::info!("Received {name} scheduling shutdown...");
                // While data is being loaded there is nothing to end in an orderly way, unless some of it is served already.
                let is_closed = server.loading.is_on() && !server.loading.is_partly_served();
                let is_second = server.snapshots.signals.fetch_add(1, Relaxed) > 0;
                if is_second || server.stop.load(Relaxed) > 0 || is_closed {
                    remove_files(&server.settings());
                    snapshot::remove_aside(server);
                    std::process::exit(i32::from(!server.loading.is_on()));
                }
                let settings = server.settings();
                let how = if signal == SIGINT {
                    settings.shutdown_on_sigint()
                } else {
                    settings.shutdown_on_sigterm()
                };
                snapshot::stop(server, Ending { saves: how.saves(), force: how.is_forced() });
            }
        })
        .map_err(|error| format!("cannot start the signal thread: {error}"))?;
    Ok(())
}
