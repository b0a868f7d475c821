"""Workers, locks and rate limiters against a running Larder, unmodified: dramatiq with a real worker, redlock-py, limits.

The server's port is in LARDER_PORT; crates/testkit/tests/clients.rs starts the server and this file.
"""

import os
import threading
import time
import unittest

import dramatiq
import limits
import limits.storage
import limits.strategies
import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.rate_limits import ConcurrentRateLimiter, WindowRateLimiter
from dramatiq.rate_limits.backends import RedisBackend
from redlock import Redlock

PORT = int(os.environ["LARDER_PORT"])
JOBS = 2000
# Often enough that its upkeep, which is a part of its scripts, is seen at work.
broker = RedisBroker(host="localhost", port=PORT, maintenance_chance=100_000, heartbeat_timeout=1000)
dramatiq.set_broker(broker)
counters = redis.Redis(host="localhost", port=PORT)


@dramatiq.actor(queue_name="work", max_retries=0)
def add_to(counter, number):
    counters.incrby(counter, number)


@dramatiq.actor(queue_name="flaky", max_retries=5, min_backoff=10, max_backoff=20)
def fail_twice(counter):
    if counters.incr(counter) < 3:
        raise RuntimeError("again")


class Dramatiq(unittest.TestCase):
    def setUp(self):
        counters.flushall()

    def work(self, *queues):
        worker = dramatiq.Worker(broker, worker_timeout=50, worker_threads=4)
        worker.start()
        self.addCleanup(worker.stop)
        for queue in queues:
            broker.join(queue, interval=20, timeout=60_000)
        worker.join()

    def test_every_message_is_worked_on_once(self):
        for _ in range(JOBS):
            add_to.send("sum", 1)
        self.work("work")
        self.assertEqual(int(counters.get("sum")), JOBS)

    def test_what_fails_and_what_is_delayed_comes_again(self):
        fail_twice.send("tries")
        add_to.send_with_options(args=("late", 1), delay=200)
        self.work("flaky", "work")
        self.assertEqual(int(counters.get("tries")), 3)
        self.assertEqual(int(counters.get("late")), 1)

    def test_messages_of_a_dead_worker_come_back(self):
        add_to.send("saved", 1)
        message = next(broker.consume("work", timeout=1000))
        self.assertEqual(message.actor_name, "add_to")
        self.assertEqual(counters.get("saved"), None)
        # Its worker is another one as far as the server can tell, and says nothing any more.
        lost, broker.broker_id = broker.broker_id, "another"
        self.addCleanup(setattr, broker, "broker_id", lost)
        time.sleep(1.2)
        add_to.send("saved", 1)
        self.work("work")
        self.assertEqual(int(counters.get("saved")), 2)

    def test_rate_limits(self):
        backend = RedisBackend(client=redis.Redis(host="localhost", port=PORT))
        mutex = ConcurrentRateLimiter(backend, "mutex", limit=1)
        with mutex.acquire():
            with mutex.acquire(raise_on_failure=False) as acquired:
                self.assertFalse(acquired)
        window = WindowRateLimiter(backend, "window", limit=3, window=60)
        taken = []
        for _ in range(5):
            with window.acquire(raise_on_failure=False) as acquired:
                taken.append(acquired)
        self.assertEqual(taken, [True, True, True, False, False])


class Locks(unittest.TestCase):
    def test_redlock_lets_one_in(self):
        counters.flushall()
        locks = Redlock([{"host": "localhost", "port": PORT, "db": db} for db in range(3)], retry_count=1)
        lock = locks.lock("resource", 10_000)
        self.assertTrue(lock)
        self.assertFalse(locks.lock("resource", 10_000))
        locks.unlock(lock)
        self.assertTrue(locks.lock("resource", 10_000))

    def test_nobody_is_in_together(self):
        counters.flushall()
        inside, seen = [], []

        def work():
            locks = Redlock([{"host": "localhost", "port": PORT}], retry_count=2000, retry_delay=0.002)
            for _ in range(25):
                lock = locks.lock("shared", 30_000)
                inside.append(1)
                seen.append(len(inside))
                inside.pop()
                locks.unlock(lock)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(seen, [1] * 100)


class Limiters(unittest.TestCase):
    def test_windows_that_move(self):
        counters.flushall()
        storage = limits.storage.storage_from_string(f"redis://localhost:{PORT}")
        for strategy in [
            limits.strategies.FixedWindowRateLimiter,
            limits.strategies.MovingWindowRateLimiter,
            limits.strategies.SlidingWindowCounterRateLimiter,
        ]:
            limiter, limit = strategy(storage), limits.parse("5 per minute")
            name = strategy.__name__
            self.assertEqual([limiter.hit(limit, name) for _ in range(7)], [True] * 5 + [False] * 2, name)
            self.assertFalse(limiter.test(limit, name))
            self.assertEqual(limiter.get_window_stats(limit, name).remaining, 0)
            limiter.clear(limit, name)
            self.assertTrue(limiter.hit(limit, name))

    def test_a_moving_window_moves(self):
        counters.flushall()
        limiter = limits.strategies.MovingWindowRateLimiter(
            limits.storage.storage_from_string(f"redis://localhost:{PORT}")
        )
        limit = limits.parse("2 per second")
        self.assertEqual([limiter.hit(limit, "moving") for _ in range(3)], [True, True, False])
        time.sleep(1.1)
        self.assertTrue(limiter.hit(limit, "moving"))


if __name__ == "__main__":
    unittest.main()
