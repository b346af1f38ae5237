"""The process that runs the user's code, on both sides of the socket to it."""
