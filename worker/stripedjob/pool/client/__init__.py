"""The typed side of the functions in api/: one class for each role."""
