"""Frameworks against a running Larder, unmodified: RQ with a real worker, Django's cache and sessions.

The server's port is in LARDER_PORT; crates/testkit/tests/clients.rs starts the server and this file.
"""

import os
import unittest

import django
import redis
import rq
from django.conf import settings

PORT = int(os.environ["LARDER_PORT"])
URL = f"redis://localhost:{PORT}/0"
JOBS = 10_000

settings.configure(
    CACHES={"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": URL}},
    SESSION_ENGINE="django.contrib.sessions.backends.cache",
    INSTALLED_APPS=["django.contrib.sessions"],
)
django.setup()


def connect():
    return redis.Redis(host="localhost", port=PORT, db=0)


def add_to(counter, number):
    """The work of a job: found by its name, as a worker finds it."""
    connect_once().incrby(counter, number)
    return number


_connection = None


def connect_once():
    global _connection
    _connection = _connection or connect()
    return _connection


class Frameworks(unittest.TestCase):
    def setUp(self):
        self.r = connect()
        self.addCleanup(self.r.close)
        self.r.flushall()

    def test_rq_works_through_ten_thousand_jobs(self):
        queue = rq.Queue("work", connection=self.r)
        job = rq.Queue.prepare_data
        for start in range(0, JOBS, 1000):
            queue.enqueue_many([job(add_to, ("sum", 1), result_ttl=500) for _ in range(start, start + 1000)])
        self.assertEqual(len(queue), JOBS)
        worker = rq.SimpleWorker([queue], connection=self.r)
        worker.work(burst=True, logging_level="ERROR")
        self.assertEqual(int(self.r.get("sum")), JOBS)
        self.assertEqual(len(queue), 0)
        self.assertEqual(queue.failed_job_registry.count, 0)
        self.assertEqual(queue.finished_job_registry.count, JOBS)

    def test_django_caches(self):
        from django.core.cache import cache

        cache.set("k", {"a": [1, 2]}, timeout=100)
        self.assertEqual(cache.get("k"), {"a": [1, 2]})
        self.assertTrue(cache.add("once", 1))
        self.assertFalse(cache.add("once", 2))
        self.assertEqual(cache.incr("once", 5), 6)
        cache.set_many({f"many{n}": n for n in range(100)})
        self.assertEqual(len(cache.get_many([f"many{n}" for n in range(100)])), 100)
        self.assertTrue(cache.touch("k", 200))
        cache.delete_many(["k", "once"])
        self.assertIsNone(cache.get("k"))
        cache.clear()
        self.assertEqual(self.r.dbsize(), 0)

    def test_django_sessions(self):
        from django.contrib.sessions.backends.cache import SessionStore

        session = SessionStore()
        session["user"] = 42
        session.save()
        again = SessionStore(session_key=session.session_key)
        self.assertEqual(again["user"], 42)
        again.flush()
        self.assertFalse(SessionStore().exists(session.session_key))


if __name__ == "__main__":
    unittest.main()
