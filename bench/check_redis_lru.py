#!/usr/bin/env python3
"""Checks the simulator's model of Redis' sampled LRU against a real redis-server.

    bench/check_redis_lru.py --larder target/release/larder --redis redis-server --share 10 --share 20 TRACE.kvt.zst ...

Each trace is replayed look-aside, one request at a time, through a server whose memory limit holds as many entries as the
share of the trace's keys says: keys and values of one size, the limit what that many took. The server's clock runs a
thousand times as fast (fast_clock.c), since Redis tells uses apart by the second. Then the model is run with room for as
many entries as the server held on the average, and both miss ratios are printed. Every object counts as one.
"""

import argparse
import csv
import io
import os
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RECORD = struct.Struct("<QIIIBxxx")
GET, SET, DELETE = 0, 1, 2
# Large beside what connections take and give back, which counts too.
VALUE = b"v" * 4000
CHECK_EVERY = 500


class Server:
    """A redis-server with a fast clock on a socket of its own."""

    def __init__(self, binary, clock, folder):
        path = str(Path(folder) / "redis.sock")
        options = ["--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no", "--hz", "500"]
        options += ["--dir", folder, "--maxmemory-policy", "allkeys-lru", "--maxmemory-samples", "5"]
        environment = dict(os.environ, LD_PRELOAD=str(clock))
        self.process = subprocess.Popen([binary, *options], env=environment, stdout=subprocess.DEVNULL)
        self.socket = socket.socket(socket.AF_UNIX)
        for _ in range(200):
            try:
                self.socket.connect(path)
                break
            except OSError:
                time.sleep(0.02)
        self.buffer = b""

    def line(self):
        while b"\r\n" not in self.buffer:
            self.buffer += self.socket.recv(65536)
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line

    def call(self, *words):
        """Sends a command; answers a number, bytes or None."""
        parts = [b"*%d\r\n" % len(words)]
        parts += [b"$%d\r\n%b\r\n" % (len(word), word) for word in words]
        self.socket.sendall(b"".join(parts))
        line = self.line()
        if line[:1] == b"-":
            raise SystemExit(line.decode())
        if line[:1] == b"$":
            length = int(line[1:])
            if length < 0:
                return None
            while len(self.buffer) < length + 2:
                self.buffer += self.socket.recv(65536)
            value, self.buffer = self.buffer[:length], self.buffer[length + 2 :]
            return value
        return int(line[1:]) if line[:1] == b":" else line[1:]

    def used_memory(self):
        info = self.call(b"INFO", b"memory").decode()
        return int(info.split("used_memory:")[1].split("\r\n")[0])

    def limit_to(self, entries):
        """Sets the memory limit to what so many entries take."""
        self.call(b"CONFIG", b"SET", b"maxmemory", b"0")
        self.call(b"FLUSHALL", b"SYNC")
        for key in range(entries):
            self.call(b"SET", b"key:%012d" % key, VALUE)
        # A growing table is moved a little with each look.
        for key in range(2 * entries + 1000):
            self.call(b"GET", b"key:%012d" % (key % entries))
        limit = self.used_memory() + len(VALUE) // 2
        self.call(b"FLUSHALL", b"SYNC")
        self.call(b"CONFIG", b"SET", b"maxmemory", b"%d" % limit)

    def stop(self):
        self.socket.close()
        self.process.terminate()
        self.process.wait()


def replay(server, records, capacity):
    """Answers gets, misses, and the mean of entries held since the cache was full."""
    gets = misses = 0
    held = []
    for at, (key, _size, _second, _ttl, operation) in enumerate(records):
        name = b"key:%012d" % key
        if operation == GET:
            gets += 1
            if server.call(b"GET", name) is None:
                misses += 1
                server.call(b"SET", name, VALUE)
        elif operation == SET:
            server.call(b"SET", name, VALUE)
        else:
            server.call(b"DEL", name)
        if at % CHECK_EVERY == 0:
            entries = server.call(b"DBSIZE")
            if held or entries >= capacity * 0.99:
                held.append(entries)
    return gets, misses, round(statistics.mean(held)) if held else capacity


def model(larder, trace, capacity):
    """The model's misses, and those of exact LRU."""
    words = [larder, "sim", trace, "--objects", "--policies", "redis-lru,exact-lru", "--sizes", f"{capacity}b", "--csv"]
    out = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    rows = {row["policy"]: int(row["misses"]) for row in csv.DictReader(io.StringIO(out))}
    return rows["redis-lru"], rows["exact-lru"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("traces", nargs="+", metavar="TRACE")
    parser.add_argument("--larder", required=True, help="the program whose `sim` is checked")
    parser.add_argument("--redis", required=True, help="the server to check against")
    parser.add_argument("--share", type=float, action="append", help="size in percent of the keys (10 and 20)")
    arguments = parser.parse_args()
    shares = arguments.share or [10, 20]
    print("| trace | entries | requests | misses a get, redis-server | misses a get, model | model's misses | exact LRU's |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        clock = Path(folder) / "fast_clock.so"
        source = Path(__file__).with_name("fast_clock.c")
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", clock, source], check=True)
        for trace in arguments.traces:
            data = subprocess.run(["zstd", "-dc", "--long=27", trace], check=True, capture_output=True).stdout
            records = list(RECORD.iter_unpack(data))
            keys = 1 + max(record[0] for record in records)
            for share in shares:
                server = Server(arguments.redis, clock, folder)
                try:
                    capacity = max(int(keys * share / 100), 1)
                    server.limit_to(capacity)
                    gets, misses, held = replay(server, records, capacity)
                finally:
                    server.stop()
                modelled, exact = model(arguments.larder, trace, held)
                off = lambda other: f"{100 * (other / misses - 1):+.2f}%"
                name = Path(trace).name.split(".")[0]
                print(
                    f"| {name} | {held} | {len(records)} | {misses / gets:.4f} | {modelled / gets:.4f} "
                    f"| {off(modelled)} | {off(exact)} |",
                    flush=True,
                )


if __name__ == "__main__":
    sys.exit(main())
