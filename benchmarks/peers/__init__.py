"""StripedJob beside its neighbours: one adapter a folder, and what measures them all in the same way."""
