"""Scripts of real clients against a running Larder: redis-py's Lock and register_script, a sliding-window rate limiter, a queue
whose scripts compute the names of their keys, Redlock's release.

The server's port is in LARDER_PORT; crates/testkit/tests/clients.rs starts the server and this file.
"""

import os
import threading
import time
import unittest

import redis

PORT = int(os.environ["LARDER_PORT"])

# At most ARGV[3] entries in any window of ARGV[2] microseconds.
LIMITER = """
local now = redis.call('TIME')
now = now[1] * 1000000 + now[2]
redis.call('ZREMRANGEBYSCORE', KEYS[1], 0, now - ARGV[2])
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[3]) then
  return 0
end
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('PEXPIRE', KEYS[1], math.ceil(ARGV[2] / 1000))
return 1
"""

# Adds a job: its number, its hash and its place in the queue are found from the prefix alone.
ADD = """
local prefix = KEYS[1]
local id = redis.call('INCR', prefix .. ':id')
local key = prefix .. ':' .. id
redis.call('HMSET', key, 'data', ARGV[1], 'state', 'waiting', 'opts', cmsgpack.pack({priority = tonumber(ARGV[2])}))
redis.call('ZADD', prefix .. ':waiting', ARGV[2], key)
redis.call('PUBLISH', prefix .. ':events', cjson.encode({event = 'added', id = id}))
return id
"""

# Takes the first job; its key is read from the queue.
TAKE = """
local first = redis.call('ZPOPMIN', KEYS[1] .. ':waiting')
if #first == 0 then
  return nil
end
redis.call('HSET', first[1], 'state', 'active')
redis.call('LPUSH', KEYS[1] .. ':active', first[1])
local opts = cmsgpack.unpack(redis.call('HGET', first[1], 'opts'))
return {first[1], redis.call('HGET', first[1], 'data'), opts.priority}
"""

DONE = """
if redis.call('LREM', KEYS[1] .. ':active', 1, ARGV[1]) == 0 then
  return redis.error_reply('MISSING job is not active')
end
redis.call('DEL', ARGV[1])
return redis.call('INCR', KEYS[1] .. ':done')
"""

RELEASE = "if redis.call('get',KEYS[1]) == ARGV[1] then return redis.call('del',KEYS[1]) else return 0 end"


def connect():
    return redis.Redis(host="localhost", port=PORT, decode_responses=True)


class Scripts(unittest.TestCase):
    def setUp(self):
        self.r = connect()
        self.addCleanup(self.r.close)
        self.r.flushall()

    def at_once(self, count, work):
        failures = []

        def run(number):
            r = connect()
            try:
                work(r, number)
            except Exception as failure:  # noqa: BLE001: told below
                failures.append(failure)
            finally:
                r.close()

        threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        self.assertEqual(failures, [])

    def test_locks_exclude(self):
        self.r.set("n", 0)

        def work(r, _):
            for _ in range(25):
                with r.lock("lock", timeout=10, sleep=0.001):
                    r.set("n", int(r.get("n")) + 1)

        self.at_once(6, work)
        self.assertEqual(int(self.r.get("n")), 150)
        lock = self.r.lock("lock", timeout=1)
        self.assertTrue(lock.acquire())
        self.assertTrue(lock.extend(10))
        self.assertGreater(self.r.pttl("lock"), 5000)
        self.assertTrue(lock.reacquire())
        lock.release()
        with self.assertRaises(redis.exceptions.LockError):
            lock.release()

    def test_registered_scripts_load_themselves(self):
        double = self.r.register_script("return redis.call('GET', KEYS[1]) * ARGV[1]")
        self.r.set("a", 21)
        self.assertEqual(double(keys=["a"], args=[2]), 42)
        self.r.script_flush()
        self.assertEqual(double(keys=["a"], args=[3]), 63)
        pipe = self.r.pipeline()
        pipe.set("a", 5)
        double(keys=["a"], args=[2], client=pipe)
        pipe.incr("a")
        self.assertEqual(pipe.execute(), [True, 10, 6])

    def test_a_sliding_window_lets_so_many_through(self):
        limiter = self.r.register_script(LIMITER)
        passed = []

        def work(r, number):
            for turn in range(40):
                passed.append(limiter(keys=["window"], args=[f"{number}-{turn}", 60_000_000, 50], client=r))

        self.at_once(5, work)
        self.assertEqual(sum(passed), 50)
        self.assertEqual(self.r.zcard("window"), 50)
        time.sleep(0.002)
        self.assertEqual(limiter(keys=["window"], args=["later", 1000, 50]), 1)

    def test_a_queue_of_computed_keys_loses_and_doubles_nothing(self):
        add, take, done = (self.r.register_script(script) for script in (ADD, TAKE, DONE))
        listener = self.r.pubsub()
        listener.subscribe("q:events")
        seen = []

        def work(r, number):
            if number < 3:
                for job in range(200):
                    add(keys=["q"], args=[f"{number}-{job}", job % 5], client=r)
                return
            idle = 0
            while idle < 200:
                job = take(keys=["q"], client=r)
                if job is None:
                    idle += 1
                    time.sleep(0.001)
                    continue
                idle = 0
                seen.append(job[1])
                done(keys=["q"], args=[job[0]], client=r)

        self.at_once(6, work)
        self.assertEqual(len(seen), 600)
        self.assertEqual(len(set(seen)), 600)
        self.assertEqual(int(self.r.get("q:done")), 600)
        self.assertEqual(sorted(self.r.keys("*")), ["q:done", "q:id"])
        with self.assertRaisesRegex(redis.ResponseError, "MISSING job is not active"):
            done(keys=["q"], args=["q:1"])
        events = [message for _ in range(700) if (message := listener.get_message(timeout=0.01))]
        self.assertEqual(len(events), 601)

    def test_a_lock_is_released_by_its_owner_only(self):
        self.assertTrue(self.r.set("resource", "mine", nx=True, px=10_000))
        self.assertEqual(self.r.eval(RELEASE, 1, "resource", "theirs"), 0)
        self.assertEqual(self.r.eval(RELEASE, 1, "resource", "mine"), 1)
        self.assertIsNone(self.r.get("resource"))

    def test_functions_by_the_client(self):
        code = "#!lua name=mylib\nredis.register_function('sum', function(keys, args) return redis.call('INCRBY', keys[1], args[1]) end)"
        self.assertEqual(self.r.function_load(code), "mylib")
        self.assertEqual(self.r.fcall("sum", 1, "n", 5), 5)
        self.assertEqual(self.r.fcall("sum", 1, "n", 5), 10)
        payload = redis.Redis(host="localhost", port=PORT).function_dump()
        self.r.function_flush()
        self.r.function_restore(payload)
        self.assertEqual(self.r.fcall("sum", 1, "n", 5), 15)
        self.r.function_delete("mylib")


if __name__ == "__main__":
    unittest.main()
