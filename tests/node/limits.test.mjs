// node-redlock and rate-limiter-flexible, unmodified, against a running Larder.
//
// The server's port is in LARDER_PORT; crates/testkit/tests/clients.rs starts the server and this file.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { after, before, it } from "node:test";

const require = createRequire(process.env.LARDER_NODE_MODULES + "/");
const Redis = require("ioredis");
const Redlock = require("redlock");
const { RateLimiterRedis } = require("rate-limiter-flexible");
let client;

before(async () => {
  client = new Redis(Number(process.env.LARDER_PORT), "localhost");
  await client.flushall();
});

after(() => client.quit());

it("a lock is held by one, extended, and given back", async () => {
  const impatient = new Redlock([client], { retryCount: 0 });
  const lock = await impatient.acquire(["a", "b"], 5000);
  await assert.rejects(impatient.acquire(["b"], 5000));
  const longer = await lock.extend(8000);
  assert.ok((await client.pttl("a")) > 5000);
  await longer.unlock();
  await (await impatient.acquire(["b"], 5000)).unlock();
});

it("nobody is inside of a lock together", async () => {
  const patient = new Redlock([client], { retryCount: -1, retryDelay: 2, retryJitter: 2 });
  let [inside, runs] = [0, 0];
  const work = async () => {
    for (let n = 0; n < 10; n += 1) {
      const lock = await patient.acquire(["shared"], 30_000);
      inside += 1;
      await new Promise((resolve) => setImmediate(resolve));
      assert.equal(inside, 1);
      inside -= 1;
      runs += 1;
      await lock.unlock();
    }
  };
  await Promise.all(Array.from({ length: 8 }, work));
  assert.equal(runs, 80);
});

it("a limiter counts, blocks, and rewards", async () => {
  const limiter = new RateLimiterRedis({
    storeClient: client, keyPrefix: "limit", points: 5, duration: 60, blockDuration: 30,
  });
  const answers = await Promise.allSettled(Array.from({ length: 8 }, () => limiter.consume("client")));
  assert.equal(answers.filter((answer) => answer.status === "fulfilled").length, 5);
  const refused = answers.find((answer) => answer.status === "rejected").reason;
  assert.equal(refused.remainingPoints, 0);
  assert.ok(refused.msBeforeNext > 25_000);
  await limiter.delete("client");
  await limiter.consume("client", 3);
  await limiter.reward("client", 2);
  assert.equal((await limiter.get("client")).consumedPoints, 1);
});
