// Puts jobs in: many through GroupMQ's batches, one by one without.
import { answer } from "./gate.mjs";
import { open } from "./queue.mjs";

const CHUNK = 5000;
const many = open({ autoBatch: { size: 500, maxWaitMs: 5 } });
const single = open();
const job = (n, resource, s) => ({ groupId: `r${resource}`, data: { n, r: `r${resource}`, s }, orderMs: n });

await answer({
  async load(units, resources, seconds) {
    for (let first = 1; first <= units; first += CHUNK) {
      const length = Math.min(CHUNK, units - first + 1);
      await Promise.all(
        Array.from({ length }, (_, i) => many.add(job(first + i, (first + i) % resources, seconds))));
    }
  },
  async enqueue(n, resource, seconds) {
    await single.add(job(n, resource, seconds));
  },
  empty: async () => (await single.getActiveCount()) + (await single.getWaitingCount()) === 0,
});
