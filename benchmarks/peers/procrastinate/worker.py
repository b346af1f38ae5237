"""One process of procrastinate's worker."""

import asyncio
import threading
import time

import procrastinate

from peers.gate import CONFIG, began_and_ended, turns

app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=CONFIG["postgres"]))


@app.task(name="unit", queue="bench")
async def unit(n: int, r: str, s: float) -> None:
    """Be the handler."""
    began = time.monotonic_ns()
    if s:
        await asyncio.sleep(s)
    began_and_ended({"n": n, "r": r}, began)


async def work(is_over: threading.Event) -> None:
    """Work until the turn is over."""
    async with app.open_async():
        options = {"concurrency": CONFIG["concurrency"], "delete_jobs": "always", "install_signal_handlers": False}
        worker = asyncio.create_task(app.run_worker_async(queues=["bench"], **options))
        await asyncio.to_thread(is_over.wait)
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)


for over in turns():
    asyncio.run(work(over))
