// One process of pg-boss.
import { act, config, repeat, serve } from "./gate.mjs";
import { open, queue } from "./queue.mjs";

const boss = await open({ useListenNotify: config.at_rest, supervise: false, schedule: false });

async function batch() {
  const jobs = await boss.fetch(queue, { batchSize: config.batch });
  for (const job of jobs) await act(job.data);
  if (jobs.length) await boss.complete(queue, jobs.map((job) => job.id));
  return jobs.length;
}

await serve(async () => {
  if (!config.at_rest) return repeat(batch);
  const options = { batchSize: config.batch, pollingIntervalSeconds: 0.5 };
  await boss.work(queue, options, async (jobs) => { for (const job of jobs) await act(job.data); });
  return () => boss.offWork(queue);
});
