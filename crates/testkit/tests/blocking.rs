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
        stop.store(true, Ordering::Relaxed);
    });
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
fn thousands_who_wait_cost_nothing() {
    const WAITERS: usize = 3000;
    let server = start();
    let mut client = server.client();
    let mut waiters: Vec<Client> = (0..WAITERS).map(|_| server.client()).collect();
    for (at, waiter) in waiters.iter_mut().enumerate() {
        let timeout = if at % 2 == 0 { "1000" } else { "0" };
        waiter.send(&["BLPOP", &format!("key:{}", at % 500), "shared", timeout]).unwrap();
        if at == 0 {
            // The others may be read in any order; this one came first.
            wait_for_blocked(&mut client, 1);
        }
    }
    wait_for_blocked(&mut client, WAITERS);
    assert_eq!(info(&mut client, "clients", "clients_in_timeout_table"), WAITERS as u64 / 2);
    let cycles = |client: &mut Client| info(client, "stats", "eventloop_duration_sum");
    let before = cycles(&mut client);
    sleep(Duration::from_millis(500));
    let busy_micros = cycles(&mut client) - before;
    assert!(busy_micros < 50_000, "{busy_micros} microseconds of work in half a second of rest");
    // The first who came for `shared` is served by a push there, and half of them just go away.
    client.run("RPUSH shared x").unwrap();
    assert_eq!(waiters[0].read().unwrap().items().unwrap()[0].text(), "shared");
    waiters.truncate(WAITERS / 2);
    wait_for_blocked(&mut client, WAITERS / 2 - 1);
    drop(waiters);
    wait_for_blocked(&mut client, 0);
    assert_eq!(info(&mut client, "clients", "total_blocking_keys"), 0);
    assert_eq!(client.run("RPUSH shared y").unwrap(), Value::Integer(1));
    assert_eq!(client.run("LPOP shared").unwrap().text(), "y");
}
