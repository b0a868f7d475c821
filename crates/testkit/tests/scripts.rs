//! Scripts: atomic on all threads, whatever keys they touch; killed when they spin, while everybody else is answered.
//! Invariant: each test runs with more than one thread, and those about one worker's own clients with one, too.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use larder_testkit::{Client, Larder, Server, Value};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

const BUSY: &str = "-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.";

fn start(threads: &str) -> Server {
    Larder::start_with_threads(threads).unwrap()
}

fn eval(client: &mut Client, script: &str, words: &[&str]) -> Value {
    client.command(&[&["EVAL", script], words].concat()).unwrap()
}

fn notation(value: &Value) -> String {
    value.notation().join("\n")
}

/// Begins a script that spins, and waits until it is busy.
fn spin(server: &Server, script: &str, words: &[&str]) -> Client {
    let mut other = server.client();
    other.run("CONFIG SET busy-reply-threshold 50").unwrap();
    let mut spinning = server.client();
    spinning.send(&[&["EVAL", script], words].concat()).unwrap();
    sleep(Duration::from_millis(150));
    spinning
}

/// Runs `work` on `clients` connections at once, so many times each.
fn at_once(server: &Server, clients: usize, times: usize, work: impl Fn(&mut Client, usize) + Sync) {
    scope(|scope| {
        for number in 0..clients {
            let work = &work;
            scope.spawn(move || {
                let mut client = server.client();
                for _ in 0..times {
                    work(&mut client, number);
                }
            });
        }
    });
}

#[test]
fn a_spinning_script_is_killed_and_everybody_is_answered_meanwhile() {
    for threads in ["1", "2", "3"] {
        let server = start(threads);
        let mut clients: Vec<Client> = (0..4).map(|_| server.client()).collect();
        for script in [
            "while true do end",
            "while true do pcall(redis.call, 'get', 'x') end",
            "while true do pcall(function() while true do end end) end",
        ] {
            let mut spinning = spin(&server, script, &["0"]);
            clients.push(server.client());
            for client in &mut clients {
                assert_eq!(notation(&client.run("GET x").unwrap()), BUSY, "{threads} {script}");
                assert_eq!(notation(&client.run("FLUSHALL").unwrap()), BUSY);
                assert_eq!(notation(&client.run("MULTI").unwrap()), "+OK");
                assert_eq!(notation(&client.run("SET x 1").unwrap()), BUSY);
                let refused = notation(&client.run("EXEC").unwrap());
                assert!(
                    refused.starts_with("-EXECABORT Transaction discarded because of: BUSY"),
                    "{refused}"
                );
            }
            assert_eq!(notation(&clients[0].run("FUNCTION STATS").unwrap()), BUSY);
            assert_eq!(notation(&clients[0].run("SCRIPT KILL").unwrap()), "+OK");
            let end = notation(&spinning.read().unwrap());
            assert!(end.starts_with("-ERR Script killed by user with SCRIPT KILL... script: "), "{end}");
            for client in &mut clients {
                assert_eq!(client.run("PING").unwrap().text(), "PONG");
            }
            let calm = notation(&clients[0].run("SCRIPT KILL").unwrap());
            assert_eq!(calm, "-NOTBUSY No scripts in execution right now.");
            assert_eq!(spinning.run("PING").unwrap().text(), "PONG");
        }
    }
}

#[test]
fn a_spinning_function_is_told_of_and_killed() {
    for threads in ["1", "2"] {
        let server = start(threads);
        let library = "#!lua name=lib\nredis.register_function('spin', function() while true do end end)";
        let mut client = server.client();
        client.command(&["FUNCTION", "LOAD", library]).unwrap();
        client.run("CONFIG SET busy-reply-threshold 50").unwrap();
        let mut spinning = server.client();
        spinning.send(&["FCALL", "spin", "0", "x"]).unwrap();
        sleep(Duration::from_millis(150));
        let busy = BUSY.replace("SCRIPT KILL", "FUNCTION KILL");
        assert_eq!(notation(&client.run("PING").unwrap()), busy);
        assert_eq!(notation(&client.run("SCRIPT KILL").unwrap()), busy);
        let running = client.run("FUNCTION STATS").unwrap().field("running_script").unwrap();
        assert_eq!(running.field("name").unwrap().text(), "spin");
        assert_eq!(
            notation(&running.field("command").unwrap()),
            "*4\n  \"FCALL\"\n  \"spin\"\n  \"0\"\n  \"x\""
        );
        assert_eq!(notation(&client.run("FUNCTION KILL").unwrap()), "+OK");
        let end = notation(&spinning.read().unwrap());
        assert_eq!(end, "-ERR Script killed by user with SCRIPT KILL... script: spin, on @user_function:2.");
        assert_eq!(notation(&client.run("FUNCTION STATS").unwrap().field("running_script").unwrap()), "$-1");
    }
}

#[test]
fn what_was_asked_while_a_script_was_busy_is_answered_in_order() {
    let server = start("1");
    let mut spinning = spin(&server, "while true do end", &["0"]);
    let mut client = server.client();
    let commands = [["GET", "x"], ["SCRIPT", "KILL"], ["GET", "y"]].map(Vec::from);
    let replies = client.pipeline(&commands).unwrap();
    assert_eq!(notation(&replies[0]), BUSY);
    assert_eq!(notation(&replies[1]), "+OK");
    assert!([BUSY, "$-1"].contains(&notation(&replies[2]).as_str()));
    assert!(notation(&spinning.read().unwrap()).starts_with("-ERR Script killed"));
}

#[test]
fn a_script_that_has_written_goes_on() {
    for threads in ["1", "2"] {
        let mut server = start(threads);
        let mut spinning = spin(
            &server,
            "redis.call('set', 'a', 'b') local t = os.clock() repeat until os.clock() - t > 0.6 return 'through'",
            &["0"],
        );
        let mut client = server.client();
        let refused = notation(&client.run("SCRIPT KILL").unwrap());
        assert!(
            refused.starts_with("-UNKILLABLE Sorry the script already executed write commands"),
            "{refused}"
        );
        assert_eq!(spinning.read().unwrap().text(), "through");
        assert_eq!(client.run("GET a").unwrap().text(), "b");
        // SHUTDOWN ends the server all the same.
        let _spinning = spin(&server, "redis.call('set', 'a', 'b') while true do end", &["0"]);
        server.client().send(&["SHUTDOWN", "NOSAVE"]).unwrap();
        assert_eq!(server.wait_for_end(Duration::from_secs(5)), Some(true));
    }
}

#[test]
fn a_script_that_keeps_to_its_keys_holds_nobody_else_up() {
    let server = start("2");
    let script =
        "while ARGV[1] == 'spin' do redis.call('get', KEYS[1]) end return redis.call('get', KEYS[1])";
    // Its first run shows which keys it touches.
    eval(&mut server.client(), script, &["1", "mine", "no"]);
    let mut spinning = spin(&server, script, &["1", "mine", "spin"]);
    let (mut served, mut held_up) = (0, 0);
    let mut clients: Vec<Client> = (0..8).map(|_| server.client()).collect();
    for client in &mut clients {
        match notation(&client.run("SET other 1").unwrap()).as_str() {
            "+OK" => {
                served += 1;
                assert_eq!(notation(&client.run("GET mine").unwrap()), BUSY);
                assert_eq!(notation(&client.run("FLUSHALL").unwrap()), BUSY);
                assert_eq!(client.run("GET other").unwrap().text(), "1");
            }
            BUSY => held_up += 1,
            other => panic!("{other}"),
        }
    }
    // Those on the script's own worker are told to wait, the others are served.
    assert!(served > 0 && held_up > 0, "{served} {held_up}");
    assert_eq!(notation(&server.client().run("SCRIPT KILL").unwrap()), "+OK");
    assert!(notation(&spinning.read().unwrap()).starts_with("-ERR Script killed"));
    assert_eq!(server.client().run("FLUSHALL").unwrap().text(), "OK");
}

/// Moves one from an account to another, and answers how much there is on both.
const TRANSFER: &str = "redis.call('incrby', K1, -1) redis.call('incrby', K2, 1) return redis.call('get', K1) + redis.call('get', K2)";

#[test]
fn scripts_are_atomic_over_declared_and_undeclared_keys() {
    let server = start("2");
    let declared = format!("local K1, K2 = KEYS[1], KEYS[2] {TRANSFER}");
    let undeclared = format!("local K1, K2 = ARGV[1], ARGV[2] {TRANSFER}");
    // Learned as one that keeps to its keys, it changes its ways.
    let treacherous = format!(
        "local K1, K2 = KEYS[1], KEYS[2] if ARGV[1] == '7' then K1, K2 = ARGV[2], ARGV[3] end {TRANSFER}"
    );
    for (round, script) in [declared, undeclared, treacherous].iter().enumerate() {
        server.client().run("FLUSHALL").unwrap();
        let mut client = server.client();
        for account in 0..4 {
            client.run(&format!("SET a{account} 1000")).unwrap();
        }
        let keys = if round == 1 { "0" } else { "2" };
        eval(&mut client, script, &[keys, "a0", "a1", "a0", "a1", "a1"]);
        if round == 2 {
            // Once it has done so, it is known to.
            eval(&mut client, script, &["2", "b0", "b1", "7", "a0", "a1"]);
        }
        at_once(&server, 6, 300, |client, number| {
            let pair =
                [["a0", "a1"], ["a1", "a0"], ["a2", "a3"], ["a3", "a2"], ["a0", "a1"], ["a3", "a2"]][number];
            let words = match round {
                0 => vec!["2", pair[0], pair[1]],
                1 => vec!["0", pair[0], pair[1]],
                _ => vec!["2", "b0", "b1", "7", pair[0], pair[1]],
            };
            let sum = eval(client, script, &words);
            assert_eq!(sum.integer(), Some(2000), "{round}: {}", notation(&sum));
        });
    }
}

#[test]
fn scripts_that_roam_after_they_wrote_do_not_wait_for_ever() {
    let server = start("2");
    // Each writes its own key and then one that another such script holds.
    let start = Instant::now();
    let mut failed = 0;
    for round in 0..40 {
        let script = format!(
            "redis.call('incr', KEYS[1]) if ARGV[1] == 'go' then for i = 1, 3000 do local x = i end redis.call('incr', ARGV[2]) end return {round}"
        );
        eval(&mut server.client(), &script, &["1", "k", "no"]);
        scope(|scope| {
            let workers: Vec<_> = [["x", "y"], ["y", "x"]]
                .into_iter()
                .map(|[own, other]| {
                    let (server, script) = (&server, &script);
                    scope.spawn(move || eval(&mut server.client(), script, &["1", own, "go", other]))
                })
                .collect();
            for worker in workers {
                let answer = notation(&worker.join().unwrap());
                let is_last_resort = answer.contains("touches a key that it did not declare");
                assert!(answer == format!(":{round}") || is_last_resort, "{answer}");
                failed += u32::from(is_last_resort);
            }
        });
    }
    let mut client = server.client();
    let sum = ["x", "y"].map(|key| client.run(&format!("GET {key}")).unwrap().text().parse::<u32>().unwrap());
    assert_eq!(sum[0] + sum[1] + failed, 160);
    assert!(start.elapsed() < Duration::from_secs(30), "{failed} of 80 failed");
}

/// A figure of INFO's section on memory.
fn memory(client: &mut Client, name: &str) -> u64 {
    let info = client.run("INFO memory").unwrap().text();
    let found = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok());
    found.unwrap_or_else(|| panic!("INFO has no {name}"))
}

#[test]
fn a_script_that_allocates_without_end_leaves_the_server_healthy() {
    let server = start("2");
    let mut client = server.client();
    client.run("SET other kept").unwrap();
    client.run("SETRANGE large 1000000 x").unwrap();
    for endless in [
        "local t = {} while true do t[#t + 1] = string.rep('x', 1000000) .. #t end",
        "local s = string.rep('x', 1000) while true do s = s .. s end",
        "return string.rep('x', 600 * 2^20)",
        "return #string.rep('x', 400 * 2^20)",
        "local t = {} while true do t[#t + 1] = {t, #t} end",
        "local t = {} for i = 1, 600 do t[i] = string.rep('x', 2^20) .. i end return table.concat(t)",
        "local t = {} while true do t[#t + 1] = redis.call('GETRANGE', KEYS[1], 0, -1) .. #t end",
        // Whatever it catches, there is no more for it.
        "local t = {} while true do if not pcall(function() t[#t + 1] = string.rep('x', 2^20) .. #t end) then error('not enough memory') end end",
    ] {
        let error =
            notation(&eval(&mut client, &format!("if ARGV[1] then {endless} end"), &["1", "large", "go"]));
        assert!(error.contains("not enough memory"), "{endless}: {error}");
        assert_eq!(
            notation(&eval(&mut client, "return redis.call('GET', KEYS[1])", &["1", "other"])),
            "\"kept\""
        );
    }
    let used = memory(&mut client, "used_memory");
    assert!(used < 96 << 20, "{used}");
}

/// One that has shown that it keeps to its keys holds memory while it runs, and nobody else is held up.
#[test]
fn what_a_running_script_holds_is_counted_and_harms_nobody() {
    let server = start("2");
    let script = "local t = {} if ARGV[1] == 'go' then for i = 1, 100 do t[i] = string.rep('x', 2^20) .. i end \
        while true do redis.call('GET', KEYS[1]) end end return redis.call('GET', KEYS[1])";
    eval(&mut server.client(), script, &["1", "mine", "no"]);
    let before = memory(&mut server.client(), "used_memory");
    let mut holding = spin(&server, script, &["1", "mine", "go"]);
    let mut clients: Vec<Client> = (0..8).map(|_| server.client()).collect();
    let client = clients.iter_mut().find_map(|client| {
        let reply = notation(&client.run("SET other 1").unwrap());
        assert!(reply == "+OK" || reply == BUSY, "{reply}");
        (reply == "+OK").then_some(client)
    });
    let client = client.expect("there are clients on the other worker");
    let end = Instant::now() + Duration::from_secs(20);
    while memory(client, "used_memory") < before + (100 << 20) {
        assert!(Instant::now() < end, "what it holds is not counted");
        assert!(client.run("INCR other").unwrap().integer().is_some());
    }
    while notation(&client.run("SCRIPT KILL").unwrap()) != "+OK" {
        assert!(Instant::now() < end, "it cannot be ended");
    }
    assert!(notation(&holding.read().unwrap()).starts_with("-ERR Script killed"));
    // What it held is given back, and its worker goes on.
    assert!(eval(&mut holding, script, &["1", "other", "no"]).text().parse::<u64>().is_ok());
    let after = memory(&mut holding, "used_memory");
    assert!(after < before + (64 << 20), "{after} {before}");
}

#[test]
fn the_scripts_of_eval_make_room_for_each_other() {
    let server = start("2");
    let mut client = server.client();
    let kept = client.command(&["SCRIPT", "LOAD", "return 'kept'"]).unwrap().text();
    for number in 0..520 {
        assert_eq!(eval(&mut client, &format!("return {number}"), &["0"]).integer(), Some(number));
    }
    let info = client.run("INFO").unwrap().text();
    assert!(info.contains("number_of_cached_scripts:501\r\n"), "{info}");
    assert!(info.contains("evicted_scripts:20\r\n"), "{info}");
    assert_eq!(client.command(&["EVALSHA", &kept, "0"]).unwrap().text(), "kept");
}

#[test]
fn what_scripts_hold_is_told_in_every_place() {
    let server = start("2");
    let mut client = server.client();
    let library = "#!lua name=lib\nredis.register_function('f', function() return 1 end)";
    eval(&mut client, "return 1", &["0"]);
    client.command(&["FUNCTION", "LOAD", library]).unwrap();
    let info = client.run("INFO memory").unwrap().text();
    let info = |name: &str| -> i64 {
        let line = info.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
        line.unwrap_or_else(|| panic!("INFO has no {name}")).parse().unwrap()
    };
    let counted = ["number_of_cached_scripts", "number_of_functions", "number_of_libraries"];
    assert_eq!(counted.map(info), [1, 1, 1]);
    let (scripts, functions) = (info("used_memory_scripts_eval"), info("used_memory_functions"));
    assert!(scripts > 8 && functions > library.len() as i64);
    assert_eq!(info("used_memory_scripts"), scripts + functions);
    assert!(info("used_memory_vm_total") > 10_000);
    let stats = notation(&client.run("MEMORY STATS").unwrap()).replace('\n', " ");
    for (name, bytes) in [
        ("lua.caches", scripts),
        ("functions.caches", functions),
        ("script.VMs", info("used_memory_vm_total")),
    ] {
        let found = stats.split(name).nth(1).and_then(|rest| rest.split(':').nth(1)).unwrap();
        assert_eq!(found.split_whitespace().next(), Some(&*bytes.to_string()), "{name}");
    }
}
