"""pymemcache, unmodified, against the memcached door of a running Larder, and the same keys by redis-py.

The ports are in LARDER_PORT and LARDER_MEMCACHED_PORT; crates/testkit/tests/memcached.rs starts the server and this file.
"""

import os
import pickle
import unittest

import pymemcache
import redis
from pymemcache import serde
from pymemcache.client.hash import HashClient

DOOR = ("localhost", int(os.environ["LARDER_MEMCACHED_PORT"]))
PORT = int(os.environ["LARDER_PORT"])


class PyMemcache(unittest.TestCase):
    def setUp(self):
        self.r = redis.Redis(host="localhost", port=PORT)
        self.addCleanup(self.r.close)
        self.r.flushall()
        self.mc = self.open()

    def open(self, **options):
        client = pymemcache.Client(DOOR, timeout=10, **options)
        self.addCleanup(client.close)
        return client

    def test_values_of_all_kinds(self):
        mc = self.open(serde=serde.pickle_serde)
        values = {"text": "text", "bytes": b"\0\r\n", "number": 7, "list": [1, {"a": None}], "long": "x" * 500_000}
        self.assertEqual(mc.set_many(values), [])
        self.assertEqual(mc.get_many(values), values)
        for key, value in values.items():
            self.assertEqual(mc.get(key), value)
        self.assertEqual(pickle.loads(self.r.get("list")), values["list"])

    def test_conditions(self):
        mc = self.mc
        self.assertTrue(mc.add("k", "1", noreply=False))
        self.assertFalse(mc.add("k", "2", noreply=False))
        self.assertTrue(mc.replace("k", "3", noreply=False))
        self.assertFalse(mc.replace("no", "3", noreply=False))
        self.assertTrue(mc.append("k", "4", noreply=False))
        self.assertTrue(mc.prepend("k", "2", noreply=False))
        value, version = mc.gets("k")
        self.assertEqual(value, b"234")
        self.assertTrue(mc.cas("k", "5", version))
        self.assertFalse(mc.cas("k", "6", version))
        self.assertIsNone(mc.cas("no", "6", version))
        _, version = mc.gets("k")
        self.r.set("k", "7")
        self.assertFalse(mc.cas("k", "8", version))
        value, version = mc.gets("k")
        self.assertEqual(value, b"7")
        self.assertTrue(mc.cas("k", "9", version))
        self.assertEqual(self.r.get("k"), b"9")

    def test_numbers_and_ends(self):
        mc = self.mc
        mc.set("n", "10", expire=100)
        self.assertEqual(mc.incr("n", 5), 15)
        self.assertEqual(mc.decr("n", 20), 0)
        self.assertIsNone(mc.incr("no", 1))
        self.assertTrue(95 < self.r.ttl("n") <= 100)
        self.assertTrue(mc.touch("n", 1000, noreply=False))
        self.assertTrue(995 < self.r.ttl("n") <= 1000)
        self.assertTrue(mc.touch("n", 0, noreply=False))
        self.assertEqual(mc.get("n"), b"0 ")
        self.assertEqual(self.r.ttl("n"), -1)
        self.assertTrue(mc.delete("n", noreply=False))
        self.assertFalse(mc.delete("n", noreply=False))

    def test_commands_that_are_not_answered(self):
        mc = self.mc
        for number in range(1000):
            mc.set(f"k{number}", str(number), noreply=True)
        mc.incr("k1", 1, noreply=True)
        mc.delete("k2", noreply=True)
        mc.append("k3", "x" * 10, noreply=True)
        found = mc.get_many([f"k{number}" for number in range(1000)])
        self.assertEqual(len(found), 999)
        self.assertEqual((found["k1"], found["k3"]), (b"2", b"3xxxxxxxxxx"))

    def test_the_rest(self):
        mc = self.mc
        mc.set("k", "v")
        self.assertEqual(mc.version(), b"1.6.18")
        stats = mc.stats()
        self.assertEqual(stats[b"curr_items"], 1)
        self.assertGreaterEqual(stats[b"cmd_set"], 1)
        self.assertTrue(mc.flush_all(noreply=False))
        self.assertIsNone(mc.get("k"))
        with self.assertRaises(pymemcache.MemcacheIllegalInputError):
            mc.get("x" * 251)
        hashing = HashClient([DOOR], use_pooling=True)
        self.addCleanup(hashing.close)
        hashing.set("k", "v")
        self.assertEqual(hashing.get("k"), b"v")


if __name__ == "__main__":
    unittest.main(verbosity=2)
