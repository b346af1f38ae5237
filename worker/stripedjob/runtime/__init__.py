"""The worker: claim → lock → work → settle, with a heartbeat that user code cannot block.

main process (worker/loop.py)              executor process (executor/main.py), for Python handlers
    claims, locks, renews, settles    --->     runs the user's function, unit by unit
    watches the shared state          <---     says there what it runs, sends back outcomes
"""
