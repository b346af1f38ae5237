// The worker's side of the gate, for Node: ready at once, at work between `go` and `stop` on stdin; see gate.py.
import { appendFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

export const config = JSON.parse(process.argv[2]);
const records = [];
const say = (word) => process.stdout.write(`${word}\n`);

export async function act({ n, r, s }) {
  const began = process.hrtime.bigint();
  if (s) await sleep(s * 1000);
  if (config.records) records.push(`${n} ${r} ${began} ${process.hrtime.bigint()}\n`);
}

// begin() starts to work and gives the function that stops it.
export async function serve(begin) {
  let stop;
  say("ready");
  for await (const line of createInterface({ input: process.stdin })) {
    if (line === "go") stop = await begin();
    if (line === "stop") {
      await stop();
      if (config.records) appendFileSync(config.records, records.splice(0).join(""));
      say("stopped");
    }
  }
  process.exit(0);
}

// One request a line, `name arguments…`, answered with a line of JSON when it is done.
export async function answer(requests) {
  say("ready");
  for await (const line of createInterface({ input: process.stdin })) {
    const [name, ...words] = line.split(" ");
    say(JSON.stringify((await requests[name](...words.map(Number))) ?? null));
  }
  process.exit(0);
}

// Steps one after the other until told to stop; a rest after one that found nothing.
export function repeat(step) {
  let over = false;
  const loop = (async () => {
    while (!over) if (!(await step())) await sleep(config.rest_seconds * 1000);
  })();
  return () => ((over = true), loop);
}
