//! INFO has the sections and figures of redis-server 8.2, in its order.
//! Invariant: tools look figures up by their names, so none is missing and none has another name;
//! what only one of the two can have is listed here with the reason.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use larder_testkit::{Larder, Redis82, Server, available};

/// Figures that only one of the two has.
const OWN: [&str; 4] = [
    // Which server it really is.
    "larder_version:",
    // Redis has a vector set module built in; Larder has no modules.
    "module:",
    // As in Valkey: users of Redis are not limited to databases.
    "acl_access_denied_db:",
    // Histograms of sizes that every command that changes a value would have to keep up.
    "db0_distrib_strings_sizes:",
];

#[test]
fn info_has_the_figures_of_redis_in_their_order() {
    let Some(redis) = available(Redis82::start()) else { return };
    let larder = Larder::start_with_threads("1").unwrap();
    let (ours, theirs) = (names(&larder), names(&redis));
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(ours.len(), theirs.len());
    assert!(ours.len() > 200, "{}", ours.len());
}

/// Headings and names of figures, after the same commands.
fn names(server: &Server) -> Vec<String> {
    let mut client = server.client();
    client.run("SET k v EX 1000").unwrap();
    client.run("GET k").unwrap();
    assert!(client.run("INCR k").unwrap().is_error());
    let text = client.run("INFO everything").unwrap().text();
    // Redis tells nothing of what a cache of another size would do: the last section is Larder's own.
    let text = text.split("\r\n# Cache\r\n").next().unwrap_or_default();
    let lines = text.split("\r\n").map(|line| match line.split_once(':') {
        Some((name, _)) => format!("{name}:"),
        None => line.to_owned(),
    });
    let lines = lines.filter(|line| !OWN.contains(&line.as_str()));
    // Redis lists commands in the order of a hash table.
    let is_of_command =
        |line: &String| line.starts_with("cmdstat_") || line.starts_with("latency_percentiles_usec_");
    let (mut of_commands, mut names): (Vec<String>, Vec<String>) = lines.partition(is_of_command);
    of_commands.sort_unstable();
    names.append(&mut of_commands);
    names
}
