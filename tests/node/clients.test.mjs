// node-redis and ioredis, unmodified, against a running Larder.
//
// The server's port is in LARDER_PORT; crates/testkit/tests/clients.rs starts the server and this file.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { after, before, beforeEach, describe, it } from "node:test";

const require = createRequire(process.env.LARDER_NODE_MODULES + "/");
const { createClient } = require("redis");
const Redis = require("ioredis");
const port = Number(process.env.LARDER_PORT);

/** Waits until `condition` holds, at most five seconds. */
async function until(condition) {
  const end = Date.now() + 5000;
  while (!condition()) {
    assert.ok(Date.now() < end, "what was waited for did not happen");
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

describe("node-redis' client-side cache", () => {
  it("is told of changes", async () => {
    const cache = { ttl: 0, maxEntries: 100, evictPolicy: "LRU" };
    const client = createClient({ socket: { port }, RESP: 3, clientSideCache: cache });
    const writer = createClient({ socket: { port } });
    await Promise.all([client.connect(), writer.connect()]);
    try {
      for (let number = 0; number < 50; number++) {
        await writer.set("cached", String(number));
        let copy = await client.get("cached");
        for (let tries = 0; copy !== String(number); tries++) {
          assert.ok(tries < 1000, "an old copy stays");
          await new Promise((resolve) => setTimeout(resolve, 5));
          copy = await client.get("cached");
        }
      }
    } finally {
      await Promise.all([client.close(), writer.close()]);
    }
  });
});

for (const RESP of [2, 3]) {
  describe(`node-redis over RESP${RESP}`, () => {
    let client;
    before(async () => {
      client = createClient({ socket: { port }, RESP });
      await client.connect();
    });
    after(() => client.close());
    beforeEach(() => client.flushAll());

    it("stores strings with options", async () => {
      assert.equal(await client.set("k", "v", { expiration: { type: "EX", value: 100 } }), "OK");
      assert.equal(await client.get("k"), "v");
      assert.ok((await client.ttl("k")) > 90);
      assert.equal(await client.get("none"), null);
    });

    it("keeps hashes, lists, sets and sorted sets", async () => {
      await client.hSet("h", { name: "Ada", born: "1815" });
      assert.deepEqual({ ...(await client.hGetAll("h")) }, { name: "Ada", born: "1815" });
      assert.equal(await client.hIncrBy("h", "born", 1), 1816);
      await client.rPush("l", ["a", "b", "c"]);
      assert.deepEqual(await client.lRange("l", 0, -1), ["a", "b", "c"]);
      await client.sAdd("s", ["x", "y"]);
      assert.deepEqual([...(await client.sMembers("s"))].sort(), ["x", "y"]);
      await client.zAdd("z", [{ score: 1.5, value: "one" }, { score: 2, value: "two" }]);
      assert.deepEqual(await client.zRangeWithScores("z", 0, -1), [
        { value: "one", score: 1.5 },
        { value: "two", score: 2 },
      ]);
    });

    it("reads streams through a group", async () => {
      await client.xGroupCreate("x", "g", "$", { MKSTREAM: true });
      const id = await client.xAdd("x", "*", { field: "value" });
      const read = await client.xReadGroup("g", "c", { key: "x", id: ">" });
      assert.equal(read[0].messages[0].id, id);
      assert.equal(await client.xAck("x", "g", id), 1);
    });

    it("carries out transactions and notices what was watched", async () => {
      assert.deepEqual(await client.multi().set("a", "1").incr("a").exec(), ["OK", 2]);
      await client.watch("a");
      const other = client.duplicate();
      await other.connect();
      await other.set("a", "9");
      await assert.rejects(client.multi().incr("a").exec());
      await other.close();
      assert.equal(await client.get("a"), "9");
    });

    it("delivers what is published", async () => {
      const heard = [];
      const subscriber = client.duplicate();
      await subscriber.connect();
      await subscriber.subscribe("news", (message) => heard.push(message));
      await subscriber.pSubscribe("n*", (message, channel) => heard.push(`${channel}:${message}`));
      assert.equal(await client.publish("news", "hello"), 2);
      await until(() => heard.length === 2);
      assert.deepEqual(heard.sort(), ["hello", "news:hello"]);
      await subscriber.close();
    });

    it("waits for elements", async () => {
      const other = client.duplicate();
      await other.connect();
      const popped = other.blPop("queue", 5);
      await new Promise((resolve) => setTimeout(resolve, 20));
      await client.rPush("queue", "job");
      assert.deepEqual({ ...(await popped) }, { key: "queue", element: "job" });
      await other.close();
    });

    it("iterates over everything", async () => {
      const names = Array.from({ length: 500 }, (_, n) => `key:${n}`);
      await Promise.all(names.map((name) => client.set(name, "v")));
      const seen = new Set();
      for await (const keys of client.scanIterator({ MATCH: "key:*", COUNT: 50 })) {
        for (const key of keys) seen.add(key);
      }
      assert.equal(seen.size, names.length);
    });
  });
}

describe("ioredis", () => {
  let client;
  before(() => {
    client = new Redis(port);
  });
  after(() => client.quit());
  beforeEach(() => client.flushall());

  it("pipelines thousands of commands", async () => {
    const pipeline = client.pipeline();
    for (let n = 0; n < 5000; n++) pipeline.set(`k${n}`, n);
    pipeline.incr("k1").hset("k1", "f", "v");
    const replies = await pipeline.exec();
    assert.deepEqual(replies[4999], [null, "OK"]);
    assert.deepEqual(replies[5000], [null, 2]);
    assert.match(replies[5001][0].message, /^WRONGTYPE/);
  });

  it("carries out transactions", async () => {
    const replies = await client.multi().set("a", "1").lpush("a", "x").get("a").exec();
    assert.equal(replies[0][1], "OK");
    assert.match(replies[1][0].message, /^WRONGTYPE/);
    assert.equal(replies[2][1], "1");
  });

  it("subscribes and publishes", async () => {
    const subscriber = new Redis(port);
    const heard = [];
    subscriber.on("message", (channel, message) => heard.push([channel, message]));
    assert.equal(await subscriber.subscribe("a", "b"), 2);
    await client.publish("b", "hi");
    await until(() => heard.length === 1);
    assert.deepEqual(heard, [["b", "hi"]]);
    await subscriber.quit();
  });

  it("moves elements between lists while others wait", async () => {
    const waiting = new Redis(port);
    const moved = waiting.blmove("from", "to", "LEFT", "RIGHT", 5);
    await new Promise((resolve) => setTimeout(resolve, 20));
    await client.rpush("from", "element");
    assert.equal(await moved, "element");
    assert.deepEqual(await client.lrange("to", 0, -1), ["element"]);
    await waiting.quit();
  });

  it("scans hashes and sets", async () => {
    const fields = Object.fromEntries(Array.from({ length: 1000 }, (_, n) => [`f${n}`, `${n}`]));
    await client.hset("h", fields);
    const seen = {};
    for await (const page of client.hscanStream("h", { count: 100 })) {
      for (let at = 0; at < page.length; at += 2) seen[page[at]] = page[at + 1];
    }
    assert.deepEqual(seen, fields);
  });
});
