// Makes the queue, and puts jobs in.
import { answer, config } from "./gate.mjs";
import { open, queue } from "./queue.mjs";

const CHUNK = 5000;
const boss = await open();
await boss.createQueue(queue, { policy: "key_strict_fifo", notify: config.at_rest });
const job = (n, resource, s) => ({ data: { n, r: `r${resource}`, s }, singletonKey: `r${resource}` });

await answer({
  async load(units, resources, seconds) {
    for (let first = 1; first <= units; first += CHUNK) {
      const length = Math.min(CHUNK, units - first + 1);
      await boss.insert(queue, Array.from({ length }, (_, i) => job(first + i, (first + i) % resources, seconds)));
    }
  },
  async enqueue(n, resource, seconds) {
    const { data, singletonKey } = job(n, resource, seconds);
    await boss.send(queue, data, { singletonKey });
  },
});
