"""How stripe-locked work was done before, retold in Python with its defects, for tests that show them beside ours.

A userspace mutex (mutex.py) and a delegator (delegator.py), each worker with connections of its own to a real Postgres
and a real Valkey. What used to happen by chance happens here by construction: a worker is a generator that stops
wherever another process could come in between, and a seeded die says who goes on (steps.py). The same seed gives the
same run.
"""
