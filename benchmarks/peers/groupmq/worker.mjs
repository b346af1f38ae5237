// One process of GroupMQ.
import { Worker } from "groupmq";
import { act, config, serve } from "./gate.mjs";
import { open } from "./queue.mjs";

await serve(async () => {
  const worker = new Worker({ queue: open(), handler: ({ data }) => act(data), concurrency: config.concurrency });
  worker.on("error", (error) => console.error(error));
  worker.run();
  return () => worker.close();
});
