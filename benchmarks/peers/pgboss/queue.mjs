// What worker and client have in common.
import { PgBoss } from "pg-boss";
import { config } from "./gate.mjs";

export const queue = "bench";

export async function open(options = {}) {
  const boss = new PgBoss({ connectionString: config.postgres, ...options });
  boss.on("error", (error) => console.error(error));
  await boss.start();
  return boss;
}
