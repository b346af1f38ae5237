// One process of Graphile Worker.
import { Logger, run } from "graphile-worker";
import { act, config, serve } from "./gate.mjs";

const preset = {
  worker: {
    connectionString: config.postgres,
    concurrentJobs: config.concurrency,
    maxPoolSize: Math.max(10, config.concurrency + 2),
    localQueue: { size: config.batch },
    // One process that fetches locks all queues; the other finds nothing then, and would rest for two seconds.
    pollInterval: config.at_rest ? 2000 : config.rest_seconds * 1000,
    completeJobBatchDelay: 0,
    failJobBatchDelay: 0,
    logger: new Logger(() => () => {}),
  },
};

await serve(async () => {
  const runner = await run({ preset, taskList: { unit: act }, noHandleSignals: true });
  return () => runner.stop();
});
