//! Transactions among other commands, from many connections on two worker threads: nothing is torn, lost or seen
//! too late.
//! Invariant: what is checked is exact; a history that no single server could have answered fails the test.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use larder_testkit::history::{Operation, Step, is_linearizable};
use larder_testkit::{Client, Larder, Server, Value};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::scope;
use std::time::{Duration, Instant};

const ACCOUNTS: usize = 12;
const MONEY: i64 = 1200;

/// A stream of numbers that depends on its seed alone.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

fn account(at: usize) -> String {
    format!("account:{at}")
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

/// The sum of all accounts, read as one.
fn sum(client: &mut Client, by_transaction: bool, databases: bool) -> i64 {
    let names: Vec<String> = (0..ACCOUNTS).map(account).collect();
    let all = if by_transaction {
        let mut lines = vec![words("MULTI")];
        if databases {
            // More than its keys: it has everything to itself.
            lines.push(words("DBSIZE"));
        }
        lines.extend(names.iter().map(|name| words(&format!("GET {name}"))));
        lines.push(words("EXEC"));
        client.pipeline(&lines).unwrap().pop().unwrap()
    } else {
        client.run(&format!("MGET {}", names.join(" "))).unwrap()
    };
    let values = all.items().unwrap();
    let values = values.get(values.len() - ACCOUNTS..).unwrap();
    values.iter().map(|value| value.text().parse::<i64>().unwrap()).sum()
}

/// Moves money from one account to another, by a plain transaction.
fn transfer(client: &mut Client, numbers: &mut Numbers) {
    let (from, to) = (account(numbers.below(ACCOUNTS)), account(numbers.below(ACCOUNTS)));
    let amount = 1 + numbers.below(9);
    let lines = [
        words("MULTI"),
        words(&format!("DECRBY {from} {amount}")),
        words(&format!("INCRBY {to} {amount}")),
        words("EXEC"),
    ];
    let replies = client.pipeline(&lines).unwrap();
    assert_eq!(replies.last().unwrap().items().unwrap().len(), 2);
}

/// Moves money as a client does that computes the new balances itself: only if nobody changed them.
fn transfer_watching(client: &mut Client, numbers: &mut Numbers) -> bool {
    let from = numbers.below(ACCOUNTS);
    let to = (from + 1 + numbers.below(ACCOUNTS - 1)) % ACCOUNTS;
    let (from, to) = (account(from), account(to));
    client.run(&format!("WATCH {from} {to}")).unwrap();
    let balance = |client: &mut Client, name: &str| -> i64 {
        client.run(&format!("GET {name}")).unwrap().text().parse().unwrap()
    };
    let (left, right) = (balance(client, &from), balance(client, &to));
    let lines = [
        words("MULTI"),
        words(&format!("SET {from} {}", left - 1)),
        words(&format!("SET {to} {}", right + 1)),
        words("EXEC"),
    ];
    client.pipeline(&lines).unwrap().pop().unwrap() != Value::NilArray
}

#[test]
fn money_is_neither_made_nor_lost() {
    let server = Larder::start_with_threads("2").unwrap();
    let mut client = server.client();
    for at in 0..ACCOUNTS {
        client.run(&format!("SET {} {}", account(at), MONEY / ACCOUNTS as i64)).unwrap();
    }
    let stop = AtomicBool::new(false);
    let moved = scope(|scope| {
        let work = |seed: u64, watching: bool| {
            let (server, stop) = (&server, &stop);
            scope.spawn(move || {
                let (mut client, mut numbers, mut moved) = (server.client(), Numbers(seed), 0);
                // Relaxed: only the end of the trial is told, no data goes with it.
                while !stop.load(Ordering::Relaxed) {
                    moved += if watching {
                        usize::from(transfer_watching(&mut client, &mut numbers))
                    } else {
                        transfer(&mut client, &mut numbers);
                        1
                    };
                }
                moved
            })
        };
        let workers: Vec<_> = (0..6).map(|seed| work(seed, seed % 2 == 0)).collect();
        let end = Instant::now() + Duration::from_millis(1500);
        let mut kind = 0;
        while Instant::now() < end && !workers.iter().any(|worker| worker.is_finished()) {
            kind += 1;
            assert_eq!(sum(&mut client, kind % 3 != 0, kind % 3 == 1), MONEY);
        }
        stop.store(true, Ordering::Relaxed);
        workers.into_iter().map(|worker| worker.join().unwrap()).collect::<Vec<usize>>()
    });
    assert!(moved.iter().all(|count| *count > 0), "somebody starved: {moved:?}");
    assert_eq!(sum(&mut client, true, false), MONEY);
}

const REGISTERS: usize = 3;
const CLIENTS: usize = 4;
const OPERATIONS: usize = 8;
const ROUNDS: usize = 150;

fn line_of(step: Step, round: usize) -> String {
    match step {
        Step::Get(at) => format!("GET {round}:{at}"),
        Step::Increase(at) => format!("INCR {round}:{at}"),
        Step::Exchange(at, value) => format!("GETSET {round}:{at} {value}"),
        Step::Take(at) => format!("GETDEL {round}:{at}"),
    }
}

fn number(value: &Value) -> Option<i64> {
    value.integer().or_else(|| value.text().parse().ok())
}

fn random_step(numbers: &mut Numbers) -> Step {
    let at = numbers.below(REGISTERS);
    match numbers.below(7) {
        0..=2 => Step::Get(at),
        3..=4 => Step::Increase(at),
        // Values of their own, so that no change can hide behind another.
        5 => Step::Exchange(at, 1000 + numbers.below(1 << 20) as i64 * 1000),
        _ => Step::Take(at),
    }
}

/// One command.
fn single(client: &mut Client, numbers: &mut Numbers, round: usize) -> Operation {
    let step = random_step(numbers);
    let called = Instant::now();
    let reply = client.run(&line_of(step, round)).unwrap();
    let steps = vec![(step, number(&reply))];
    Operation { called, returned: Instant::now(), condition: Vec::new(), steps }
}

/// A transaction; with `watched`, one that is to happen only if that register has not changed since it was read.
fn transaction(
    client: &mut Client,
    numbers: &mut Numbers,
    round: usize,
    watched: Option<usize>,
) -> Vec<Operation> {
    let mut done = Vec::new();
    let mut condition = Vec::new();
    if let Some(at) = watched {
        client.run(&format!("WATCH {round}:{at}")).unwrap();
        let called = Instant::now();
        let seen = number(&client.run(&format!("GET {round}:{at}")).unwrap());
        condition.push((at, seen));
        let steps = vec![(Step::Get(at), seen)];
        done.push(Operation { called, returned: Instant::now(), condition: Vec::new(), steps });
    }
    let steps: Vec<Step> = (0..1 + numbers.below(4)).map(|_| random_step(numbers)).collect();
    let mut lines = vec![words("MULTI")];
    if numbers.below(8) == 0 {
        lines.push(words("SELECT 0"));
        lines.push(words("RANDOMKEY"));
    }
    let extra = lines.len() - 1;
    lines.extend(steps.iter().map(|step| words(&line_of(*step, round))));
    lines.push(words("EXEC"));
    let called = Instant::now();
    let reply = client.pipeline(&lines).unwrap().pop().unwrap();
    let returned = Instant::now();
    if let Some(replies) = reply.items() {
        let replies = replies.iter().skip(extra).map(number);
        let steps = steps.into_iter().zip(replies).collect();
        done.push(Operation { called, returned, condition, steps });
    } else {
        assert!(watched.is_some(), "nothing was watched, and the transaction did not happen");
    }
    done
}

fn round_of_client(server: &Server, start: &Barrier, seed: u64) -> Vec<Vec<Operation>> {
    let (mut client, mut numbers) = (server.client(), Numbers(seed));
    let one_round = |round| {
        start.wait();
        let mut done = Vec::new();
        while done.len() < OPERATIONS {
            match numbers.below(4) {
                0..=1 => done.push(single(&mut client, &mut numbers, round)),
                2 => done.extend(transaction(&mut client, &mut numbers, round, None)),
                _ => {
                    let at = numbers.below(REGISTERS);
                    done.extend(transaction(&mut client, &mut numbers, round, Some(at)));
                }
            }
        }
        done
    };
    (0..ROUNDS).map(one_round).collect()
}

#[test]
fn histories_are_those_of_a_single_server() {
    let server = Larder::start_with_threads("2").unwrap();
    let start = Barrier::new(CLIENTS);
    let of_clients = scope(|scope| {
        let (server, start) = (&server, &start);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| scope.spawn(move || round_of_client(server, start, client as u64)))
            .collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect::<Vec<_>>()
    });
    for round in 0..ROUNDS {
        let history: Vec<Operation> = of_clients.iter().flat_map(|rounds| rounds[round].clone()).collect();
        assert!(is_linearizable(REGISTERS, &history), "round {round}: {history:#?}");
    }
}
