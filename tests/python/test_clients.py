"""Real clients against a running Larder: redis-py, redis-cli and redis-benchmark, unmodified.

The server's port is in LARDER_PORT; crates/testkit/tests/clients.rs starts the server and this file.
"""

import asyncio
import concurrent.futures
import os
import pty
import resource
import shutil
import socket
import subprocess
import time
import unittest

import redis
import redis.asyncio
import redis.cache

PORT = int(os.environ["LARDER_PORT"])
CONNECTIONS_WANTED = 10_000


def connect(**options):
    return redis.Redis(host="localhost", port=PORT, db=0, **options)


class ServerTest(unittest.TestCase):
    """Begins every test on an empty server."""

    def setUp(self):
        self.r = connect()
        self.addCleanup(self.r.close)
        self.r.flushall()


class RedisPy(ServerTest):
    def test_the_example_of_the_readme(self):
        r = redis.Redis(host="localhost", port=PORT, db=0)
        r.set("foo", "bar")
        self.assertEqual(r.get("foo"), b"bar")
        r.close()

    def test_client_side_caching(self):
        with connect(protocol=3, cache_config=redis.cache.CacheConfig(), decode_responses=True) as r:
            for number in range(50):
                self.r.set("k", number)
                end = time.monotonic() + 5
                while r.get("k") != str(number):
                    self.assertLess(time.monotonic(), end, "a copy that is old stays")
            before = self.r.info("commandstats")["cmdstat_get"]["calls"]
            self.assertEqual([r.get("k") for _ in range(100)], ["49"] * 100)
            self.assertLessEqual(self.r.info("commandstats")["cmdstat_get"]["calls"], before + 1)
            self.assertEqual(self.r.info("clients")["tracking_clients"], 1)

    def test_the_example_of_leases(self):
        with open(os.path.join(os.path.dirname(__file__), "../../docs/READ-THROUGH.md"), encoding="utf-8") as file:
            code = file.read().split("```python\n")[1].split("```")[0]
        example = {}
        exec(code, example)
        loads = []

        def load(key):
            loads.append(key)
            time.sleep(0.2)
            return "loaded " + str(len(loads))

        def ask(_):
            with connect(decode_responses=True) as r:
                return example["cached"](r, "k", load)

        with concurrent.futures.ThreadPoolExecutor(20) as pool:
            self.assertEqual(set(pool.map(ask, range(20))), {"loaded 1"})
        self.assertEqual(loads, ["k"])

        def load_and_lose(key):
            self.r.execute_command("CACHE", "INVALIDATE", "KEYS", 1, key)
            return load(key)

        with connect(decode_responses=True) as r:
            r.delete("k")
            self.assertEqual(example["cached"](r, "k", load_and_lose), "loaded 2")
            self.assertIsNone(r.get("k"))
            self.assertEqual(example["cached"](r, "k", load), "loaded 3")
            self.assertEqual(r.get("k"), "loaded 3")

    def test_decoded_responses(self):
        with connect(decode_responses=True) as r:
            r.set("k", "grüße")
            self.assertEqual(r.get("k"), "grüße")
            self.assertIsNone(r.get("none"))

    def test_bytes_are_kept(self):
        value = bytes(range(256)) * 1000
        self.r.set(b"\x00\xff", value)
        self.assertEqual(self.r.get(b"\x00\xff"), value)

    def test_options_of_set(self):
        self.assertTrue(self.r.set("k", "v", ex=100, nx=True))
        self.assertIsNone(self.r.set("k", "w", nx=True))
        self.assertEqual(self.r.set("k", "w", keepttl=True, get=True), b"v")
        self.assertTrue(95 < self.r.ttl("k") <= 100)

    def test_errors_are_exceptions(self):
        self.r.set("k", "v")
        with self.assertRaisesRegex(redis.ResponseError, "not an integer or out of range"):
            self.r.incr("k")
        with self.assertRaisesRegex(redis.ResponseError, "unknown command"):
            self.r.execute_command("NOSUCH")

    def test_pipeline(self):
        pipe = self.r.pipeline(transaction=False)
        for n in range(1000):
            pipe.set(f"k{n}", n)
        pipe.incr("k5")
        pipe.incr("k5x")
        replies = pipe.execute()
        self.assertEqual(replies[:1000], [True] * 1000)
        self.assertEqual(replies[1000:], [6, 1])

    def test_pipeline_with_an_error(self):
        pipe = self.r.pipeline(transaction=False)
        pipe.set("k", "v").incr("k").get("k")
        replies = pipe.execute(raise_on_error=False)
        self.assertEqual(replies[0], True)
        self.assertIsInstance(replies[1], redis.ResponseError)
        self.assertEqual(replies[2], b"v")

    def test_resp3(self):
        with connect(protocol=3, decode_responses=True) as r:
            r.mset({"a": 1, "b": 2})
            self.assertEqual(r.mget("a", "none", "b"), ["1", None, "2"])
            self.assertEqual(r.config_get("maxmemory-policy"), {"maxmemory-policy": "noeviction"})
            self.assertEqual(r.execute_command("HELLO")["proto"], 3)

    def test_info(self):
        self.r.set("k", "v", ex=100)
        info = self.r.info()
        major, minor = (int(part) for part in info["redis_version"].split(".")[:2])
        self.assertGreaterEqual((major, minor), (7, 4))
        self.assertGreater(info["used_memory"], 0)
        self.assertGreaterEqual(info["connected_clients"], 1)
        self.assertEqual(info["role"], "master")
        self.assertEqual(info["db0"]["keys"], 1)
        self.assertEqual(info["db0"]["expires"], 1)
        self.assertIn("cmdstat_set", self.r.info("commandstats"))

    def test_scan_iter(self):
        keys = {f"key:{n}".encode() for n in range(5000)}
        self.r.mset({key: 1 for key in keys})
        self.r.set("other", 1)
        found = list(self.r.scan_iter(match="key:*", count=100))
        self.assertEqual(set(found), keys)

    def test_client_list(self):
        with connect(client_name="it-is-me") as r:
            clients = r.client_list()
            self.assertIn("it-is-me", [client["name"] for client in clients])
            mine = r.client_info()
            self.assertEqual(mine["lib-name"].split("(")[0], "redis-py")

    def test_several_databases(self):
        with redis.Redis(host="localhost", port=PORT, db=3) as r:
            r.set("k", "three")
            self.assertIsNone(self.r.get("k"))
            self.assertEqual(r.get("k"), b"three")

    def test_expiry(self):
        self.r.set("k", "v", px=30)
        self.assertEqual(self.r.get("k"), b"v")
        time.sleep(0.06)
        self.assertIsNone(self.r.get("k"))

    def test_bitmaps_and_hyperloglogs(self):
        self.r.setbit("bits", 7, 1)
        self.assertEqual(self.r.bitcount("bits"), 1)
        self.assertEqual(self.r.bitfield("field").set("u8", 0, 200).incrby("u8", 0, 100).execute(), [0, 44])
        self.r.pfadd("hll", *range(1000))
        self.assertTrue(980 <= self.r.pfcount("hll") <= 1020)

    def test_command_docs(self):
        self.assertIn("get", self.r.command())
        self.assertGreater(self.r.command_count(), 50)

    def test_asyncio(self):
        async def work():
            r = redis.asyncio.Redis(host="localhost", port=PORT, max_connections=500)
            await asyncio.gather(*(r.set(f"k{n}", n) for n in range(200)))
            values = await asyncio.gather(*(r.get(f"k{n}") for n in range(200)))
            await r.aclose()
            return values

        self.assertEqual(asyncio.run(work()), [str(n).encode() for n in range(200)])

    def test_users_and_their_rights(self):
        r = self.r
        self.addCleanup(r.acl_deluser, "shop")
        r.acl_setuser(
            "shop",
            enabled=True,
            passwords=["+secret"],
            categories=["+@read", "+@transaction"],
            commands=["+set", "+publish", "-mget"],
            keys=["shop:*"],
            channels=["news"],
            selectors=[("+get", "%R~prices:*")],
        )
        user = r.acl_getuser("shop")
        self.assertEqual(user["flags"], ["on", "sanitize-payload"])
        self.assertIn("-mget", user["commands"])
        self.assertIn("+set", user["commands"])
        self.assertEqual(len(user["passwords"]), 1)
        r.set("prices:1", "7")
        once = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
        with self.assertRaises(redis.AuthenticationError):
            connect(username="shop", password="wrong", retry=once).ping()
        for protocol in (2, 3):
            shop = connect(username="shop", password="secret", protocol=protocol, decode_responses=True)
            self.addCleanup(shop.close)
            shop.set("shop:1", "a")
            self.assertEqual((shop.get("shop:1"), shop.get("prices:1")), ("a", "7"))
            for denied in (
                lambda: shop.set("prices:1", "8"),
                lambda: shop.get("other"),
                lambda: shop.mget("shop:1"),
                lambda: shop.delete("shop:1"),
                lambda: shop.config_get("port"),
                lambda: shop.publish("other", "x"),
            ):
                with self.assertRaises(redis.exceptions.NoPermissionError):
                    denied()
            with self.assertRaises(redis.exceptions.NoPermissionError):
                with shop.pipeline() as pipe:
                    pipe.set("shop:2", "b")
                    pipe.get("other")
                    pipe.execute()
            self.assertIsNone(shop.get("shop:2"))
        self.assertEqual(r.acl_log(1)[0]["username"], "shop")
        self.assertIn("shop", r.acl_users())
        self.assertTrue(r.acl_log_reset())
        waiting = connect(username="shop", password="secret", retry=once)
        waiting.get("shop:1")
        r.acl_deluser("shop")
        with self.assertRaises((redis.ConnectionError, redis.AuthenticationError)):
            waiting.get("shop:1")


class Sockets(ServerTest):
    def test_one_byte_at_a_time(self):
        with socket.create_connection(("localhost", PORT)) as s:
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nhello\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n":
                s.sendall(bytes([byte]))
                time.sleep(0.001)
            received = b""
            while len(received) < len(b"+OK\r\n$5\r\nhello\r\n"):
                received += s.recv(100)
            self.assertEqual(received, b"+OK\r\n$5\r\nhello\r\n")

    def test_ten_thousand_connections(self):
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        maxclients = int(self.r.config_get("maxclients")["maxclients"])
        count = min(CONNECTIONS_WANTED, hard - 100, maxclients - 20)
        if count < CONNECTIONS_WANTED:
            print(f"{count} instead of {CONNECTIONS_WANTED} connections: "
                  f"the limits are {hard} files and {maxclients} clients")
        connections = []
        try:
            for _ in range(count):
                connections.append(socket.create_connection(("127.0.0.1", PORT)))
            for s in connections:
                s.sendall(b"PING\r\n")
            for s in connections:
                s.settimeout(10)
                self.assertEqual(s.recv(100), b"+PONG\r\n")
            self.assertGreaterEqual(self.r.info("clients")["connected_clients"], count)
        finally:
            for s in connections:
                s.close()
        for _ in range(100):
            if self.r.info("clients")["connected_clients"] < 10:
                break
            time.sleep(0.05)
        self.assertLess(self.r.info("clients")["connected_clients"], 10)


@unittest.skipUnless(shutil.which("redis-cli"), "there is no redis-cli")
class RedisCli(ServerTest):
    def cli(self, *args, stdin=None, seconds=60):
        done = subprocess.run(
            ["redis-cli", "-p", str(PORT), *args], input=stdin, capture_output=True, timeout=seconds
        )
        self.assertEqual(done.returncode, 0, done.stderr.decode(errors="replace"))
        return done.stdout.decode(errors="replace")

    def cli_for_a_second(self, *args):
        """For modes that go on until they are stopped, on a terminal, so that lines come at once."""
        ours, theirs = pty.openpty()
        process = subprocess.Popen(["redis-cli", "-p", str(PORT), *args], stdout=theirs, stderr=theirs)
        os.close(theirs)
        time.sleep(1.3)
        process.terminate()
        process.wait(timeout=10)
        out = b""
        try:
            while chunk := os.read(ours, 65536):
                out += chunk
        except OSError:
            pass  # How a terminal without another end says that there is no more.
        os.close(ours)
        return out.decode(errors="replace")

    def test_single_commands(self):
        self.assertEqual(self.cli("SET", "k", "v"), "OK\n")
        self.assertEqual(self.cli("GET", "k"), "v\n")
        self.assertEqual(self.cli("-3", "CONFIG", "GET", "maxmemory-policy").split(), ["maxmemory-policy", "noeviction"])

    def test_piped_input(self):
        out = self.cli(stdin=b"SET k \"a b\"\nGET k\nINCR n\nNOSUCH\nSELECT 2\nDBSIZE\n")
        self.assertEqual(out.splitlines()[:3], ["OK", "a b", "1"])
        self.assertIn("unknown command", out)
        self.assertEqual(out.split()[-2:], ["OK", "0"])

    def test_pipe_mode(self):
        requests = b"".join(b"*3\r\n$3\r\nSET\r\n$%d\r\nk%d\r\n$1\r\nv\r\n" % (len(str(n)) + 1, n) for n in range(20000))
        out = self.cli("--pipe", stdin=requests)
        self.assertIn("errors: 0, replies: 20000", out)
        self.assertEqual(self.r.dbsize(), 20000)

    def test_scan_bigkeys_and_memkeys(self):
        self.r.mset({f"key:{n}": "x" * n for n in range(300)})
        found = self.cli("--scan", "--pattern", "key:1*").split()
        self.assertEqual(sorted(found), sorted(f"key:{n}" for n in range(300) if str(n)[0] == "1"))
        self.r.set("the biggest", "x" * 5000)
        out = self.cli("--bigkeys")
        self.assertIn("Sampled 301 keys in the keyspace", out)
        self.assertRegex(out, "Biggest string found .*the biggest.* has 5000 bytes")
        out = self.cli("--memkeys")
        self.assertRegex(out, r"Biggest string found .*the biggest.* has [5-9]\d{3} bytes")

    def test_latency(self):
        out = self.cli_for_a_second("--latency", "--raw", "-i", "1")
        lowest, highest, average, samples = out.split()[:4]
        self.assertGreater(int(samples), 10)
        self.assertLessEqual(float(lowest), float(average))
        self.assertLessEqual(float(average), float(highest))

    def test_stat(self):
        self.r.set("k", "v")
        out = self.cli_for_a_second("--stat", "-i", "0.3")
        rows = [line.split() for line in out.splitlines() if line.strip()[:1].isdigit()]
        self.assertGreaterEqual(len(rows), 2, out)
        self.assertEqual(rows[-1][0], "1", out)


@unittest.skipUnless(shutil.which("redis-benchmark"), "there is no redis-benchmark")
class RedisBenchmark(ServerTest):
    def benchmark(self, *args):
        done = subprocess.run(
            ["redis-benchmark", "-p", str(PORT), "-n", "20000", "--csv", *args],
            capture_output=True, timeout=120, text=True,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertNotIn("Error", done.stdout + done.stderr)
        return [line.split(",")[0].strip('"') for line in done.stdout.splitlines()[1:]]

    def test_strings(self):
        self.assertEqual(self.benchmark("-t", "set,get,incr,mset"), ["SET", "GET", "INCR", "MSET (10 keys)"])

    def test_pipelines_and_random_keys(self):
        rows = self.benchmark("-t", "set,get", "-P", "16", "-r", "1000", "-d", "1000")
        self.assertEqual(rows, ["SET", "GET"])
        self.assertGreater(self.r.dbsize(), 900)


if __name__ == "__main__":
    unittest.main(verbosity=2)
