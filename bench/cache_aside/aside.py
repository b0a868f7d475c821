"""The application of main.go in Python: redis-py and psycopg2, a thread a client."""
import argparse
import bisect
import itertools
import random
import threading
import time

import psycopg2
import redis

parser = argparse.ArgumentParser()
parser.add_argument("--mode", default="aside")
parser.add_argument("--redis")
parser.add_argument("--pg")
parser.add_argument("--clients", type=int, default=8)
parser.add_argument("--seconds", type=int, default=10)
parser.add_argument("--keys", type=int, default=10000)
parser.add_argument("--writes", type=int, default=200)
parser.add_argument("--writer", default="app")
parser.add_argument("--ttl", type=int, default=60)
options = parser.parse_args()
host, port = options.redis.split(":")
committed, since = [0] * options.keys, [0.0] * options.keys
weights = list(itertools.accumulate((10 + key) ** -1.1 for key in range(options.keys)))
over = threading.Event()


def some_key(dice):
    return bisect.bisect(weights, dice.random() * weights[-1])


def store():
    connection = psycopg2.connect(options.pg)
    connection.autocommit = True
    return connection.cursor()


def write():
    cursor, cache, dice = store(), redis.Redis(host, int(port)), random.Random(7)
    following = time.time()
    while not over.is_set():
        key = some_key(dice)
        version = committed[key] + 1
        if options.writer == "app" and options.mode == "through":
            cache.set(f"user:{key}", f"v{version}")
        else:
            cursor.execute("UPDATE users SET name = %s WHERE id = %s", (f"v{version}", key))
        if options.writer == "app" and options.mode == "aside":
            cache.delete(f"user:{key}")
        since[key], committed[key] = time.time(), version
        following += 1 / options.writes
        time.sleep(max(0, following - time.time()))


def read(seed, results):
    cursor, cache, dice = store(), redis.Redis(host, int(port), decode_responses=True), random.Random(seed)
    took, stale, asked, oldest = [], 0, 0, 0.0
    deadline = time.time() + options.seconds
    while (start := time.time()) < deadline:
        key = some_key(dice)
        known, at = committed[key], since[key]
        value = cache.get(f"user:{key}")
        if value is None:
            asked += 1
            cursor.execute("SELECT name FROM users WHERE id = %s", (key,))
            value = cursor.fetchone()[0]
            cache.set(f"user:{key}", value, ex=options.ttl)
        took.append(time.time() - start)
        if int(value[1:]) < known:
            stale, oldest = stale + 1, max(oldest, start - at)
    results.append((took, stale, asked, oldest))


results = []
threads = [threading.Thread(target=read, args=(seed, results)) for seed in range(options.clients)]
writer = threading.Thread(target=write)
for thread in [writer, *threads]:
    thread.start()
for thread in threads:
    thread.join()
over.set()
writer.join()
took = sorted(itertools.chain.from_iterable(result[0] for result in results))
stale, asked, oldest = sum(r[1] for r in results), sum(r[2] for r in results), max(r[3] for r in results)
at = lambda share: int(took[int(share * (len(took) - 1))] * 1e6)
print(
    f"{len(took) // options.seconds} reads/s, p50 {at(0.5)} us, p99 {at(0.99)} us, p99.9 {at(0.999)} us, "
    f"{asked} questions by the application, {stale} stale reads, the oldest {int(oldest * 1000)} ms"
)
