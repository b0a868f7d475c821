//! Commands that no sequence has.
//! Invariant: each stands here with its reason; a test asks for every other command of the server.

/// A command, or `*` and the end of its name, and why it is left out.
pub const LEFT_OUT: [(&str, &str); 62] = [
    ("*|help", "its text is each server's own"),
    ("bgrewriteaof", "answers by whether one before is still under way"),
    ("bgsave", "answers by whether one before is still under way"),
    ("cache|bigkeys", "no command of Redis"),
    ("cache|get", "no command of Redis"),
    ("cache|hotkeys", "no command of Redis"),
    ("cache|invalidate", "no command of Redis"),
    ("cache|mrc", "no command of Redis"),
    ("cache|refresh", "no command of Redis"),
    ("cache|route", "no command of Redis"),
    ("cache|source", "no command of Redis"),
    ("cache|stats", "no command of Redis"),
    ("cache|tags", "no command of Redis"),
    ("cache|warm", "no command of Redis"),
    ("cl.throttle", "no command of Redis"),
    ("client|capa", "no command of Redis"),
    ("client|load", "no command of Redis"),
    ("client|reply", "switches off the replies that are compared"),
    ("client|tracking", "has messages come between replies; its own tests compare them"),
    ("clusterscan", "no command of redis-server 8.2"),
    ("cluster|cancelslotmigrations", "no command of redis-server 8.2"),
    ("cluster|flushslot", "no command of redis-server 8.2"),
    ("cluster|getslotmigrations", "no command of redis-server 8.2"),
    ("cluster|migrateslots", "no command of redis-server 8.2"),
    ("cluster|syncslots", "no command of redis-server 8.2"),
    ("commandlog|get", "no command of redis-server 8.2"),
    ("commandlog|len", "no command of redis-server 8.2"),
    ("commandlog|reset", "no command of redis-server 8.2"),
    ("command|count", "tells how many commands a server has, and Redis has modules"),
    ("command|docs", "compared in full for every command by other tests"),
    ("command|info", "compared in full for every command by other tests"),
    ("command|list", "tells which commands a server has"),
    ("debug", "looks into the server's own structures; DIGEST-VALUE compares the data of every sequence"),
    ("delex", "no command of redis-server 8.2"),
    ("delifeq", "no command of redis-server 8.2"),
    ("digest", "no command of redis-server 8.2"),
    ("getlease", "no command of Redis"),
    ("increx", "no command of redis-server 8.2"),
    ("info", "tells of the server itself"),
    ("latency|doctor", "its text is each server's own"),
    ("latency|histogram", "tells how long commands took"),
    ("lolwut", "its text is each server's own"),
    ("memory|doctor", "its text is each server's own"),
    ("memory|malloc-stats", "tells of the server's allocator"),
    ("memory|stats", "tells of the server's allocator"),
    ("migrate", "needs a third server"),
    ("module|list", "Redis has modules, and we have none"),
    ("module|load", "Redis has modules, and we have none"),
    ("module|loadex", "Redis has modules, and we have none"),
    ("module|unload", "Redis has modules, and we have none"),
    ("monitor", "answers without end"),
    ("msetex", "no command of redis-server 8.2"),
    ("pfselftest", "takes seconds, and answers OK"),
    ("quit", "ends the connection"),
    ("replicaof", "makes redis-server the replica of another"),
    ("save", "answers by whether one in the background is still under way"),
    ("script|debug", "there is no debugger for scripts"),
    ("script|show", "no command of redis-server 8.2"),
    ("setlease", "no command of Redis"),
    ("shutdown", "ends the server"),
    ("slaveof", "makes redis-server the replica of another"),
    ("waitsource", "no command of Redis"),
];

/// Why a command (`get`, `client|reply`) is in no sequence; `None` if it may be in one.
pub fn reason(name: &str) -> Option<&'static str> {
    LEFT_OUT.iter().find(|(pattern, _)| meets(pattern, name)).map(|(_, reason)| *reason)
}

/// Whether a name is what stands in the list.
pub fn meets(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(end) => name.ends_with(end),
        None => name == pattern,
    }
}
