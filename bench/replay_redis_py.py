#!/usr/bin/env python3
"""Replays a trace look-aside through redis-py against one or more servers.

The records (24 bytes each, see crates/bench/src/trace.rs) come on standard input:

    larder-bench trace-dump --trace FILE | python bench/replay_redis_py.py \\
        --target larder=127.0.0.1:6379 --target redis=127.0.0.1:6380 --maxmemory 10485760

A GET that misses is followed by a SET of the object's size. One connection to each server, one request at a time,
in the order of the trace. Servers take turns every --chunk requests, so that a drift of the machine's speed meets all
of them. Prints a table (or JSON with --json): miss ratio, requests a second, latencies.
"""

import argparse
import json
import random
import struct
import sys
import time

import redis

RECORD = struct.Struct("<QIIIBxxx")
KEY_BYTES = 16
VALUE_BYTES_UNKNOWN = 100
GET, SET, DELETE = 0, 1, 2


class Target:
    """One server: its client and what was found so far."""

    def __init__(self, text, maxmemory):
        self.name, _, address = text.rpartition("=")
        host, _, port = address.rpartition(":")
        self.client = redis.Redis(host=host, port=int(port), db=0)
        self.client.flushall()
        if maxmemory:
            self.client.config_set("maxmemory", maxmemory)
            self.client.config_set("maxmemory-policy", "allkeys-lru")
        self.gets = self.misses = self.requests = self.errors = 0
        self.seconds = 0.0
        self.latencies = []

    def replay(self, records, values, with_ttl):
        """Replays some records; what they took is added up."""
        client, latencies, clock = self.client, self.latencies, time.perf_counter_ns
        begin = time.perf_counter()
        for key, size, _seconds, ttl, operation in records:
            name = b"key:%012d" % key
            length = max(size - KEY_BYTES, 1) if size else VALUE_BYTES_UNKNOWN
            expiry = ttl if with_ttl and ttl else None
            start = clock()
            try:
                if operation == GET:
                    self.gets += 1
                    if client.get(name) is None:
                        self.misses += 1
                        client.set(name, values.take(length), ex=expiry)
                elif operation == SET:
                    client.set(name, values.take(length), ex=expiry)
                elif operation == DELETE:
                    client.delete(name)
                else:
                    raise SystemExit(f"operation {operation} is none of get, set, delete")
            except redis.ResponseError as error:
                self.errors += 1
                if self.errors == 1:
                    print(f"{self.name}: {error}", file=sys.stderr)
            latencies.append(clock() - start)
        self.requests += len(records)
        self.seconds += time.perf_counter() - begin

    def result(self):
        """The figures of this server."""
        ordered = sorted(self.latencies)
        at = lambda share: ordered[min(int(len(ordered) * share), len(ordered) - 1)] / 1000 if ordered else 0.0
        return {
            "server": self.name,
            "requests": self.requests,
            "gets": self.gets,
            "misses": self.misses,
            "errors": self.errors,
            "miss_ratio": self.misses / max(self.gets, 1),
            "requests_per_second": self.requests / max(self.seconds, 1e-9),
            "latency_us": {"p50": at(0.50), "p99": at(0.99), "p99.9": at(0.999), "max": at(1.0)},
            "evicted_keys": self.client.info("stats").get("evicted_keys", 0),
        }


class Values:
    """Values of lower-case ASCII: windows into one random string."""

    SPREAD = 65536

    def __init__(self, largest):
        letters = random.Random(23)
        self.pool = bytes(letters.choices(b"abcdefghijklmnopqrstuvwxyz", k=self.SPREAD + largest))
        self.at = 0

    def take(self, length):
        """The next value of that length."""
        self.at = (self.at * 1103515245 + 12345) % self.SPREAD
        return self.pool[self.at : self.at + length]


def table(results):
    """The results as a Markdown table."""
    lines = [
        "| through redis-py | miss ratio | requests/s | latency us p50 / p99 / p99.9 / longest | evicted | errors |",
        "|---|---|---|---|---|---|",
    ]
    for result in results:
        latency = " / ".join(f"{value:.1f}" for value in result["latency_us"].values())
        lines.append(
            f"| {result['server']} | {result['miss_ratio']:.4f} | {result['requests_per_second']:.0f} | {latency} "
            f"| {result['evicted_keys']} | {result['errors']} |"
        )
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", action="append", required=True, metavar="NAME=HOST:PORT")
    parser.add_argument("--maxmemory", type=int, help="set this limit in bytes, with allkeys-lru, before the replay")
    parser.add_argument("--ttl", action="store_true", help="give keys the TTL of the trace")
    parser.add_argument("--chunk", type=int, default=20_000, help="requests of a turn")
    parser.add_argument("--json", action="store_true", help="print JSON lines instead of a table")
    parser.add_argument("--markdown", action="store_true", help="print the table (the default)")
    arguments = parser.parse_args()

    data = sys.stdin.buffer.read()
    if len(data) % RECORD.size:
        raise SystemExit("the input ends within a record")
    largest = max((size for _, size, _, _, _ in RECORD.iter_unpack(data)), default=0)
    values = Values(max(largest, VALUE_BYTES_UNKNOWN))
    targets = [Target(text, arguments.maxmemory) for text in arguments.target]
    view = memoryview(data)
    turn = arguments.chunk * RECORD.size
    for start in range(0, len(data), turn):
        records = list(RECORD.iter_unpack(view[start : start + turn]))
        for target in targets:
            target.replay(records, values, arguments.ttl)
    results = [target.result() for target in targets]
    print("\n".join(map(json.dumps, results)) if arguments.json else table(results))


if __name__ == "__main__":
    main()
