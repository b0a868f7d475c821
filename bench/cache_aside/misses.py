"""What a miss adds to the store's own time, and MGET of 10,000 cold keys beside the store's own query for them.

    misses.py larder [FOLDER-OF-POSTGRES-PROGRAMS]

Over SQLite, and with those programs over PostgreSQL on the loopback, which needs psycopg2, and root or the user postgres. Medians.
"""
import os
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time

LARDER, POSTGRES = (*sys.argv[1:3], None)[:2]
KEYS, MISSES = 10_000, 5_000
NAMES = [f"name-{number}" * 3 for number in range(KEYS)]


def request(*words):
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def milliseconds(work):
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1e3


class Cache:
    def __init__(self, port):
        while True:
            try:
                self.socket = socket.create_connection(("127.0.0.1", port))
                break
            except OSError:
                time.sleep(0.05)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, message, size=1):
        self.socket.sendall(message)
        while size > 0:
            size -= len(self.socket.recv(1 << 20))


def compare(cache, prefix, one, many):
    """`one` asks the store for a row, `many` for all rows of a list of keys."""
    keys = [prefix + b":%d" % number for number in range(KEYS)]
    median = statistics.median
    cache.ask(request(b"FLUSHALL"))
    cache.ask(request(b"GET", keys[-1]))
    misses = median(milliseconds(lambda: cache.ask(request(b"GET", key))) for key in keys[:MISSES])
    hits = median(milliseconds(lambda: cache.ask(request(b"GET", key))) for key in keys[:MISSES])
    queries = median(milliseconds(lambda: one(number)) for number in range(MISSES))
    mget = request(b"MGET", *keys)
    size = len(b"*%d\r\n" % KEYS) + sum(len(b"$%d\r\n%s\r\n" % (len(name), name.encode())) for name in NAMES)
    cold, own = [], []
    for _ in range(11):
        cache.ask(request(b"FLUSHALL"))
        cold.append(milliseconds(lambda: cache.ask(mget, size)))
        own.append(milliseconds(lambda: many(list(range(KEYS)))))
    cold, own = median(cold), median(own)
    print(
        f"{prefix.decode()}: miss {misses * 1e3:.0f} us, hit {hits * 1e3:.0f} us, the store's own {queries * 1e3:.0f} us; "
        f"MGET of {KEYS} cold keys {cold:.1f} ms, the store's own {own:.1f} ms: {cold / own:.2f}"
    )


class Postgres:
    """A server of its own, in a folder of its own."""

    def __init__(self):
        import psycopg2
        from psycopg2.extras import execute_values

        self.folder = tempfile.mkdtemp()
        if os.getuid() == 0:
            shutil.chown(self.folder, "postgres")
        os.chmod(self.folder, 0o755)
        self.run("initdb", "-U", "larder", "-A", "trust", "-E", "UTF8", "--locale=C")
        options = f"-p 7431 -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        self.run("pg_ctl", "-w", "-l", self.folder + "/log", "-o", options, "start")
        connection = psycopg2.connect("host=127.0.0.1 port=7431 user=larder dbname=postgres")
        connection.autocommit = True
        self.cursor = connection.cursor()
        self.cursor.execute("CREATE TABLE users (id int PRIMARY KEY, name text)")
        execute_values(self.cursor, "INSERT INTO users VALUES %s", list(enumerate(NAMES)))
        self.cursor.execute("ANALYZE users; PREPARE one(int) AS SELECT name FROM users WHERE id = $1")

    def run(self, program, *words):
        before = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        words = [*before, f"{POSTGRES}/{program}", "-D", self.folder + "/data", *words]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)

    def fetch(self, statement, values):
        self.cursor.execute(statement, values)
        return self.cursor.fetchall()

    def end(self):
        self.run("pg_ctl", "-m", "immediate", "stop")
        shutil.rmtree(self.folder)


QUERY = ["query", "SELECT name FROM users WHERE id = $id", "batch"]
file = tempfile.mkdtemp() + "/users.db"
lite = sqlite3.connect(file)
lite.execute("PRAGMA journal_mode = WAL")
lite.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)")
lite.executemany("INSERT INTO users VALUES (?, ?)", enumerate(NAMES))
lite.commit()
stores = ["--source", "lite", "sqlite:" + file, "--route", "sqlite:<id:int>", "lite", "as", "string", *QUERY]
stores += ["SELECT id, name FROM users WHERE id IN ($id)"]
postgres = server = None
try:
    if POSTGRES:
        postgres = Postgres()
        stores += ["--source", "postgres", "postgres://larder@127.0.0.1:7431/postgres"]
        stores += ["--route", "postgres:<id:int>", "postgres", "as", "string", *QUERY]
        stores += ["SELECT id, name FROM users WHERE id = ANY($id)"]
    server = subprocess.Popen([LARDER, "--port", "7446", *stores], stderr=subprocess.DEVNULL)
    cache = Cache(7446)
    marks = ",".join("?" * KEYS)
    compare(
        cache,
        b"sqlite",
        lambda number: lite.execute("SELECT name FROM users WHERE id = ?", (number,)).fetchall(),
        lambda keys: lite.execute(f"SELECT id, name FROM users WHERE id IN ({marks})", keys).fetchall(),
    )
    if POSTGRES:
        compare(
            cache,
            b"postgres",
            lambda number: postgres.fetch("EXECUTE one(%s)", (number,)),
            lambda keys: postgres.fetch("SELECT id, name FROM users WHERE id = ANY(%s)", (keys,)),
        )
finally:
    if server:
        server.terminate()
    if postgres:
        postgres.end()
    shutil.rmtree(os.path.dirname(file))
