"""The worker: claim → lock → work → settle, with a heartbeat that user code cannot block.

main process (loop.py)                      executor process (executor.py), for Python handlers
    claims, locks, renews, settles    --->      runs the user's function, unit by unit
    watches the board             <---          says on the board what it runs, sends back outcomes
"""
