"""Processes that are forked off one that has imported what tests need and is not ours: a third of their CPU."""

import multiprocessing

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["pytest", "hypothesis", "kopf", "kubernetes", "psycopg_pool", "pydantic", "redis.asyncio", "click", "yaml"]
)
