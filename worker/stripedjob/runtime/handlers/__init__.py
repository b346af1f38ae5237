"""The kinds of handlers: a Python function, a command, an endpoint; each one call with a unit."""
