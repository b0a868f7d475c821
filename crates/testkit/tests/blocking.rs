//! Clients that wait for elements, many of them, on two worker threads: each element goes to one client, to the one
//! that came first, and nobody takes it away.
//! Invariant: no test depends on how long anything takes, but for a lower bound of time-outs.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use larder_testkit::{Client, Larder, Server, Value};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

fn start() -> Server {
    Larder::start_with_threads("2").unwrap()
}

/// A field of INFO.
fn info(client: &mut Client, section: &str, field: &str) -> u64 {
    let text = client.run(&format!("INFO {section}")).unwrap().text();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{field}:"))).unwrap();
    line.trim().parse().unwrap()
}

fn wait_for_blocked(client: &mut Client, count: usize) {
    let end = Instant::now() + Duration::from_secs(20);
    while info(client, "clients", "blocked_clients") != count as u64 {
        assert!(Instant::now() < end, "not {count} clients wait");
        sleep(Duration::from_millis(2));
    }
}

#[test]
fn clients_are_served_in_the_order_in_which_they_came() {
    let server = start();
    let mut pusher = server.client();
    let mut waiters: Vec<Client> = (0..40).map(|_| server.client()).collect();
    for (at, waiter) in waiters.iter_mut().enumerate() {
        waiter.send(&["BLPOP", "other", "queue", "0"]).unwrap();
        wait_for_blocked(&mut pusher, at + 1);
    }
    for at in 0..waiters.len() {
        assert_eq!(pusher.run(&format!("RPUSH queue {at}")).unwrap(), Value::Integer(1));
    }
    for (at, waiter) in waiters.iter_mut().enumerate() {
        let reply = waiter.read().unwrap();
        assert_eq!(reply.items().unwrap()[1].text(), at.to_string());
    }
    assert_eq!(info(&mut pusher, "clients", "total_blocking_keys"), 0);
}

#[test]
fn every_element_goes_to_one_client() {
    const ELEMENTS: usize = 12_000;
    const QUEUES: usize = 3;
    let server = start();
    let left = AtomicUsize::new(ELEMENTS);
    let taken = scope(|scope| {
        let consumers: Vec<_> = (0..6usize)
            .map(|consumer| {
                let (server, left) = (&server, &left);
                scope.spawn(move || {
                    let (mut client, mut taken) = (server.client(), Vec::new());
                    // Each waits for all queues, in an order of its own; some give up soon, some move elements.
                    let names: Vec<String> =
                        (0..QUEUES).map(|at| format!("q{}", (at + consumer) % QUEUES)).collect();
                    let line = match consumer {
                        0 => "BLMOVE q0 q1 LEFT RIGHT 0.01".to_owned(),
                        1 => format!("BLPOP {} 0.001", names.join(" ")),
                        2 => format!("BLMPOP 0.05 {QUEUES} {} RIGHT COUNT 2", names.join(" ")),
                        _ => format!("BRPOP {} 0.05", names.join(" ")),
                    };
                    while left.load(Ordering::SeqCst) > 0 {
                        let reply = client.run(&line).unwrap();
                        let Some(items) = reply.items().filter(|_| consumer != 0) else { continue };
                        let before = taken.len();
                        match &items[1] {
                            Value::Array(several) => taken.extend(several.iter().map(Value::text)),
                            one => taken.push(one.text()),
                        }
                        left.fetch_sub(taken.len() - before, Ordering::SeqCst);
                    }
                    taken
                })
            })
            .collect();
        for producer in 0..3 {
            let server = &server;
            scope.spawn(move || {
                let mut client = server.client();
                for at in (producer..ELEMENTS).step_by(3) {
                    let queue = at % QUEUES;
                    if at % 5 == 0 {
                        let push = vec!["RPUSH".to_owned(), format!("q{queue}"), at.to_string()];
                        let lines = [vec!["MULTI".to_owned()], push, vec!["EXEC".to_owned()]];
                        client.pipeline(&lines).unwrap();
                    } else {
                        client.run(&format!("RPUSH q{queue} {at}")).unwrap();
                    }
                }
            });
        }
        consumers.into_iter().flat_map(|consumer| consumer.join().unwrap()).collect::<Vec<String>>()
    });
    let distinct: BTreeSet<&String> = taken.iter().collect();
    assert_eq!((taken.len(), distinct.len()), (ELEMENTS, ELEMENTS));
    assert_eq!(server.client().run("EXISTS q0 q1 q2").unwrap(), Value::Integer(0));
    assert_eq!(info(&mut server.client(), "clients", "total_blocking_keys"), 0);
}

#[test]
fn nobody_steals_what_a_client_waits_for() {
    let server = start();
    let stop = AtomicBool::new(false);
    scope(|scope| {
        let thieves: Vec<_> = (0..3)
            .map(|_| {
                let (server, stop) = (&server, &stop);
                scope.spawn(move || {
                    let mut client = server.client();
                    while !stop.load(Ordering::Relaxed) {
                        assert_eq!(client.run("LPOP queue").unwrap(), Value::NilBulk, "stolen");
                        assert_eq!(client.run("LPOP moved").unwrap(), Value::NilBulk, "stolen");
                    }
                })
            })
            .collect();
        let _end = End(&stop);
        let (mut waiter, mut pusher) = (server.client(), server.client());
        for round in 0..600 {
            waiter.send(&["BLPOP", "queue", "moved", "0"]).unwrap();
            wait_for_blocked(&mut pusher, 1);
            pusher.run(&format!("RPUSH {} {round}", if round % 2 == 0 { "queue" } else { "moved" })).unwrap();
            assert_eq!(waiter.read().unwrap().items().unwrap()[1].text(), round.to_string());
            if thieves.iter().any(|thief| thief.is_finished()) {
                break;
            }
        }
    });
}

/// Ends a trial, also where it fails: the threads of others go on until they are told.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs rounds in which one client waits, another makes what it waits for, and others try to steal that meanwhile. Each
/// round waits with `wait`, runs `make`, which makes the list `queue` in database 0, and expects the element that it
/// makes. `disturb` runs all the time from one more connection.
fn let_thieves_try(
    rounds: usize,
    prepare: &[&str],
    wait: &str,
    disturb: &str,
    make: impl Fn(usize) -> Vec<String>,
) {
    let server = start();
    let stop = AtomicBool::new(false);
    let mut pusher = server.client();
    for line in prepare {
        assert!(!pusher.run(line).unwrap().is_error(), "{line}");
    }
    scope(|scope| {
        let (server, stop) = (&server, &stop);
        let _end = End(stop);
        let repeat = |line: &str, check: fn(&Value)| {
            let line = line.to_owned();
            scope.spawn(move || {
                let mut client = server.client();
                // Relaxed: only the end of the trial is told, no data goes with it.
                while !stop.load(Ordering::Relaxed) {
                    check(&client.run(&line).unwrap());
                }
            })
        };
        let mut others: Vec<_> = (0..3)
            .map(|_| repeat("LPOP queue", |reply| assert_eq!(*reply, Value::NilBulk, "stolen")))
            .collect();
        others.extend((0..2).map(|_| repeat(disturb, |reply| assert!(!reply.is_error(), "{reply:?}"))));
        let mut waiter = server.client();
        waiter.set_reply_timeout(Duration::from_secs(20)).unwrap();
        let words: Vec<&str> = wait.split(' ').collect();
        for round in 0..rounds {
            waiter.send(&words).unwrap();
            wait_for_blocked(&mut pusher, 1);
            for line in make(round) {
                assert!(!pusher.run(&line).unwrap().is_error(), "{line}");
            }
            if others.iter().any(|other| other.is_finished()) {
                break;
            }
            let reply = waiter.read().unwrap();
            let element = reply.items().map_or_else(|| reply.text(), |items| items[1].text());
            assert_eq!(element, round.to_string());
        }
    });
}

#[test]
fn nobody_steals_what_is_to_be_moved_to_a_busy_list() {
    // `LPOS` keeps the destination locked for as long as it takes to look at all its elements.
    let elements = (0..4000).map(|at| at.to_string()).collect::<Vec<_>>().join(" ");
    let fill = format!("RPUSH moved {elements}");
    let push = |round: usize| vec![format!("RPUSH queue {round}"), "RPOP moved".to_owned()];
    let_thieves_try(400, &[&fill], "BLMOVE queue moved LEFT RIGHT 0", "LPOS moved none", push);
    let push = |round: usize| vec![format!("LPUSH queue {round}"), "LPOP moved".to_owned()];
    let_thieves_try(200, &[&fill], "BRPOPLPUSH queue moved 0", "LPOS moved none", push);
}

/// The commands that make a list, in a round of this number.
type Make = fn(usize) -> Vec<String>;

#[test]
fn nobody_steals_what_comes_by_another_name() {
    let idle = "PING";
    let made: [(&str, Make); 6] = [
        ("RENAME", |round| vec![format!("RPUSH {{q}}other {round}"), "RENAME {q}other queue".into()]),
        ("COPY", |round| vec![format!("RPUSH other {round}"), "COPY other queue".into(), "DEL other".into()]),
        ("SORT", |round| {
            vec![format!("RPUSH other {round}"), "SORT other STORE queue".into(), "DEL other".into()]
        }),
        ("MOVE", |round| {
            let there =
                ["SELECT 1".into(), format!("RPUSH queue {round}"), "MOVE queue 0".into(), "SELECT 0".into()];
            there.to_vec()
        }),
        ("SWAPDB", |round| {
            ["SELECT 1".into(), format!("RPUSH queue {round}"), "SWAPDB 0 1".into(), "SELECT 0".into()]
                .to_vec()
        }),
        ("EXEC", |round| {
            let lines = [
                "MULTI".into(),
                format!("RPUSH other {round}"),
                "COPY other queue".into(),
                "DEL other".into(),
            ];
            lines.into_iter().chain(["EXEC".into()]).collect()
        }),
    ];
    for (name, make) in made {
        println!("{name}");
        let_thieves_try(400, &[], "BLPOP queue 0", idle, make);
    }
}

#[test]
fn nobody_is_forgotten_who_waits_for_two_keys_that_come_at_once() {
    let server = start();
    let (mut first, mut second) = (server.client(), server.client());
    let (mut one, mut other, mut asker) = (server.client(), server.client(), server.client());
    for round in 0..1500 {
        // The first takes what comes to `a`; the second is looked after there in vain while something comes to `b`.
        first.send(&["BLPOP", "a", "0"]).unwrap();
        wait_for_blocked(&mut asker, 1);
        second.send(&["BLMPOP", "0", "2", "a", "b", "LEFT"]).unwrap();
        wait_for_blocked(&mut asker, 2);
        one.send(&["RPUSH", "a", "x"]).unwrap();
        other.send(&["RPUSH", "b", "y"]).unwrap();
        let replies =
            [first.read().unwrap(), second.read().unwrap(), one.read().unwrap(), other.read().unwrap()];
        assert_eq!(replies[0].items().unwrap()[1].text(), "x", "round {round}");
        assert_eq!(replies[1].items().unwrap()[0].text(), "b", "round {round}");
    }
}

#[test]
fn a_wait_lasts_as_long_as_it_says() {
    let server = start();
    scope(|scope| {
        for (seconds, millis) in [("0.05", 50), ("0.1234", 124), ("0.2", 200), ("0.0001", 1)] {
            let mut client = server.client();
            scope.spawn(move || {
                let start = Instant::now();
                assert_eq!(client.run(&format!("BLPOP nokey {seconds}")).unwrap(), Value::NilArray);
                assert!(start.elapsed() >= Duration::from_millis(millis), "{seconds}: {:?}", start.elapsed());
            });
        }
    });
}

#[test]
fn a_wait_is_ended_by_a_push_or_by_another_client_and_never_by_both() {
    let server = start();
    let (mut waiter, mut pusher, mut ender) = (server.client(), server.client(), server.client());
    let id = waiter.run("CLIENT ID").unwrap().integer().unwrap();
    let mut ended = 0;
    for round in 0..1500 {
        waiter.send(&["BLMPOP", "0", "2", "queue", "other", "LEFT"]).unwrap();
        wait_for_blocked(&mut pusher, 1);
        pusher.send(&["RPUSH", "queue", &round.to_string()]).unwrap();
        let was_ended = ender.run(&format!("CLIENT UNBLOCK {id}")).unwrap() == Value::Integer(1);
        assert_eq!(pusher.read().unwrap(), Value::Integer(1));
        let reply = waiter.read().unwrap();
        let left = pusher.run("LPOP queue").unwrap();
        if was_ended {
            assert_eq!((reply, left.text()), (Value::NilArray, round.to_string()));
        } else {
            let taken = reply.items().unwrap()[1].items().unwrap()[0].text();
            assert_eq!((taken, left), (round.to_string(), Value::NilBulk));
        }
        ended += usize::from(was_ended);
    }
    println!("{ended} of the waits were ended by CLIENT UNBLOCK");
}

/// How many connections a test may open: ten thousand, or fewer where the system allows only fewer files.
#[test]
fn who_waits_from_the_end_of_a_pause_on_can_be_unblocked_at_once() {
    let server = start();
    let (mut main, mut other) = (server.client(), server.client());
    let Value::Integer(waiter) = other.run("CLIENT ID").unwrap() else { panic!("no number") };
    for round in 0..200 {
        main.run("CLIENT PAUSE 60000 WRITE").unwrap();
        other.send(&["BLPOP", "nothing", "0"]).unwrap();
        let end = Instant::now() + Duration::from_secs(20);
        while !main.run(&format!("CLIENT LIST ID {waiter}")).unwrap().text().contains(" flags=b ") {
            assert!(Instant::now() < end, "it is not held back");
        }
        main.run("CLIENT UNPAUSE").unwrap();
        let unblocked = main.run(&format!("CLIENT UNBLOCK {waiter}")).unwrap();
        assert_eq!(unblocked, Value::Integer(1), "in round {round}");
        assert!(matches!(other.read().unwrap(), Value::NilArray), "in round {round}");
    }
    // Who is still held back waits for nothing yet.
    main.run("CLIENT PAUSE 60000 WRITE").unwrap();
    other.send(&["BLPOP", "nothing", "0"]).unwrap();
    while !main.run(&format!("CLIENT LIST ID {waiter}")).unwrap().text().contains(" flags=b ") {}
    assert_eq!(main.run(&format!("CLIENT UNBLOCK {waiter}")).unwrap(), Value::Integer(0));
    main.run("CLIENT UNPAUSE").unwrap();
}

fn connections_max() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let files =
        limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next());
    // A client has two descriptors of its connection here.
    let files: usize = files.and_then(|files| files.parse().ok()).unwrap_or(1024);
    (files.saturating_sub(100) / 2).min(10_000)
}

/// Processor time the server has taken, in microseconds.
fn cpu_micros(client: &mut Client) -> u64 {
    let text = client.run("INFO cpu").unwrap().text();
    let field = |name: &str| -> f64 {
        text.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().parse().unwrap()
    };
    ((field("used_cpu_user:") + field("used_cpu_sys:")) * 1e6) as u64
}

#[test]
fn thousands_who_wait_cost_nothing() {
    let waiting = connections_max();
    let server = start();
    let mut client = server.client();
    client.run("CONFIG SET maxclients 20000").unwrap();
    let mut waiters: Vec<Client> = (0..waiting).map(|_| server.client()).collect();
    for (at, waiter) in waiters.iter_mut().enumerate() {
        let timeout = if at % 2 == 0 { "1000" } else { "0" };
        waiter.send(&["BLPOP", &format!("key:{}", at % 500), "shared", timeout]).unwrap();
        if at == 0 {
            // The others may be read in any order; this one came first.
            wait_for_blocked(&mut client, 1);
        }
    }
    wait_for_blocked(&mut client, waiting);
    assert_eq!(info(&mut client, "clients", "clients_in_timeout_table"), waiting.div_ceil(2) as u64);
    // Neither is a matter of how busy the machine is: how often it woke, and how long it computed then.
    let turns = |client: &mut Client| info(client, "stats", "eventloop_cycles");
    let (start, before) = (Instant::now(), (turns(&mut client), cpu_micros(&mut client)));
    sleep(Duration::from_millis(500));
    let (after, millis) = ((turns(&mut client), cpu_micros(&mut client)), start.elapsed().as_millis() as u64);
    let (turns, micros) = (after.0 - before.0, after.1 - before.1);
    assert!(turns < millis / 2, "{turns} turns in {millis} ms of rest");
    assert!(micros < millis * 100, "{micros} microseconds of work in {millis} ms of rest");
    // The first who came for `shared` is served by a push there, and half of them just go away.
    client.run("RPUSH shared x").unwrap();
    assert_eq!(waiters[0].read().unwrap().items().unwrap()[0].text(), "shared");
    waiters.truncate(waiting / 2);
    wait_for_blocked(&mut client, waiting / 2 - 1);
    drop(waiters);
    wait_for_blocked(&mut client, 0);
    assert_eq!(info(&mut client, "clients", "total_blocking_keys"), 0);
    assert_eq!(client.run("RPUSH shared y").unwrap(), Value::Integer(1));
    assert_eq!(client.run("LPOP shared").unwrap().text(), "y");
}
