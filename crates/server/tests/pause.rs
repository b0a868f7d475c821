//! CLIENT PAUSE: commands wait, in order, without the server being busy, and go on afterwards.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod scenario;

use larder_testkit::client::encode;
use larder_testkit::{Client, Value};
use scenario::{cpu_ticks, larder, ok, until};
use std::io::ErrorKind;
use std::time::{Duration, Instant};

/// Long enough to see that nothing comes.
const A_WHILE: Duration = Duration::from_millis(150);

fn is_silent(client: &mut Client) -> bool {
    client.set_reply_timeout(A_WHILE).unwrap();
    let silent = matches!(client.read(), Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
    client.set_reply_timeout(scenario::SOON).unwrap();
    silent
}

#[test]
fn pause_write_holds_writes_back_and_lets_reads_pass() {
    for threads in [1, 2] {
        let server = larder(threads, &[]);
        let mut admin = server.client();
        let (mut readers, mut writers): (Vec<Client>, Vec<Client>) =
            (0..4).map(|_| (server.client(), server.client())).unzip();
        ok(&mut admin, "SET k before");
        ok(&mut admin, "CLIENT PAUSE 60000 WRITE");
        for (number, writer) in writers.iter_mut().enumerate() {
            let pipeline =
                [encode(&["GET", "k"]), encode(&["INCR", "n"]), encode(&["ECHO", &number.to_string()])];
            writer.send_raw(&pipeline.concat()).unwrap();
            assert_eq!(writer.read().unwrap().text(), "before");
            assert!(is_silent(writer));
        }
        for reader in &mut readers {
            assert_eq!(reader.run("GET k").unwrap().text(), "before");
            assert_eq!(reader.run("GET n").unwrap(), Value::NilBulk);
        }
        ok(&mut admin, "CLIENT UNPAUSE");
        let mut numbers: Vec<i64> =
            writers.iter_mut().map(|writer| writer.read().unwrap().integer().unwrap()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [1, 2, 3, 4]);
        for (number, writer) in writers.iter_mut().enumerate() {
            assert_eq!(writer.read().unwrap().text(), number.to_string());
        }
    }
}

#[test]
fn pause_all_holds_everything_back_until_its_time_is_over() {
    for threads in [1, 2] {
        let server = larder(threads, &[]);
        let mut admin = server.client();
        let mut clients: Vec<Client> = (0..4).map(|_| server.client()).collect();
        for client in &mut clients {
            client.run("PING").unwrap();
        }
        let start = Instant::now();
        ok(&mut admin, "CLIENT PAUSE 700");
        for client in &mut clients {
            client.send_raw(&encode(&["INCR", "n"]).repeat(1000)).unwrap();
        }
        assert!(is_silent(&mut clients[0]));
        for client in &mut clients {
            for _ in 0..1000 {
                assert!(client.read().unwrap().integer().is_some());
            }
        }
        assert!(start.elapsed() >= Duration::from_millis(700), "{:?}", start.elapsed());
        assert_eq!(admin.run("GET n").unwrap().text(), "4000");
    }
}

#[test]
fn paused_connections_with_unread_bytes_keep_no_worker_busy() {
    let server = larder(2, &[]);
    let mut admin = server.client();
    let mut clients: Vec<Client> = (0..4).map(|_| server.client()).collect();
    ok(&mut admin, "CLIENT PAUSE 60000");
    for client in &mut clients {
        client.send(&["INCR", "n"]).unwrap();
    }
    std::thread::sleep(A_WHILE);
    for client in &mut clients {
        // Behind a request that waits: these bytes stay in the kernel.
        client.send(&["INCR", "n"]).unwrap();
    }
    std::thread::sleep(A_WHILE);
    let before = cpu_ticks(&server);
    std::thread::sleep(Duration::from_millis(1000));
    let used = cpu_ticks(&server) - before;
    assert!(used < 50, "{used} ticks of 10 ms in a second of waiting");
    // A client that leaves is noticed all the same, and its commands are not carried out for it.
    let gone = clients.pop();
    drop(gone);
    ok(&mut admin, "CLIENT UNPAUSE");
    for client in &mut clients {
        assert!(client.read().unwrap().integer().is_some());
        assert!(client.read().unwrap().integer().is_some());
    }
    until("the one that left is forgotten", || admin.run("CLIENT LIST").unwrap().text().lines().count() == 4);
    for client in &mut clients {
        assert_eq!(client.run("PING").unwrap().text(), "PONG");
    }
}
