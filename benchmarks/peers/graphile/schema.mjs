// Installs Graphile Worker's schema.
import { runMigrations } from "graphile-worker";
import { config } from "./gate.mjs";

await runMigrations({ preset: { worker: { connectionString: config.postgres } } });
