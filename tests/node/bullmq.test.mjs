// BullMQ, unmodified, against a running Larder: its scripts compute the names of most keys they touch.
//
// The server's port is in LARDER_PORT; crates/testkit/tests/clients.rs starts the server and this file.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { it } from "node:test";

const require = createRequire(process.env.LARDER_NODE_MODULES + "/");
const { FlowProducer, Queue, QueueEvents, Worker } = require("bullmq");
const connection = { host: "localhost", port: Number(process.env.LARDER_PORT), maxRetriesPerRequest: null };
const JOBS = Number(process.env.LARDER_JOBS ?? 10000);

/** A worker whose errors fail the test. */
function start(name, work, failures, concurrency) {
  const worker = new Worker(name, work, { connection, concurrency });
  worker.on("error", (error) => failures.push(error));
  return worker;
}

it("every job of many, with priorities, is done once", async () => {
  const queue = new Queue("work", { connection });
  const jobs = Array.from({ length: JOBS }, (_, n) => ({
    name: "job",
    data: { n },
    opts: { priority: n % 7, removeOnComplete: true },
  }));
  for (let from = 0; from < JOBS; from += 500) await queue.addBulk(jobs.slice(from, from + 500));
  const counts = await queue.getJobCounts("prioritized", "waiting");
  assert.equal(counts.prioritized + counts.waiting, JOBS);

  const [done, failures] = [[], []];
  const work = async (job) => void done.push(job.data.n);
  const workers = [start("work", work, failures, 25), start("work", work, failures, 25)];
  const end = Date.now() + 120_000;
  while (done.length < JOBS && failures.length === 0 && Date.now() < end) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  await Promise.all(workers.map((worker) => worker.close()));
  assert.deepEqual(failures, []);
  assert.equal(done.length, JOBS);
  assert.equal(new Set(done).size, JOBS);
  assert.ok(Object.values(await queue.getJobCounts()).every((count) => count === 0));
  await queue.close();
});

it("a parent waits for its children, late and flaky ones too", async () => {
  const [order, failures] = [[], []];
  const work = async (job) => {
    order.push(job.name);
    if (job.name === "parent") {
      return Object.values(await job.getChildrenValues()).reduce((sum, value) => sum + value, 0);
    }
    if (job.name === "flaky" && job.attemptsMade < 2) throw new Error("again");
    return 1;
  };
  const worker = start("flow", work, failures, 4);
  const events = new QueueEvents("flow", { connection });
  await events.waitUntilReady();
  const flow = new FlowProducer({ connection });
  const child = (name, opts) => ({ name, queueName: "flow", opts });
  const children = Array.from({ length: 20 }, () => child("child"));
  children.push(child("flaky", { attempts: 5, backoff: 10 }), child("late", { delay: 200 }));
  const tree = await flow.add({ name: "parent", queueName: "flow", children });
  assert.equal(await tree.job.waitUntilFinished(events, 10_000), 22);
  assert.equal(order.at(-1), "parent");
  assert.equal(order.filter((name) => name === "flaky").length, 3);
  await Promise.all([worker.close(), events.close(), flow.close()]);
  assert.deepEqual(failures, []);
});
