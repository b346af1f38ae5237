// What worker and client have in common.
import { Queue } from "groupmq";
import Redis from "ioredis";
import { config } from "./gate.mjs";

export const open = (options = {}) =>
  new Queue({ redis: new Redis(config.valkey, { maxRetriesPerRequest: null }), namespace: config.namespace, ...options });
