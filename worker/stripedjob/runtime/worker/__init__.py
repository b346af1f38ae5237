"""The process that holds the leases: claim, lock, hand out, settle, renew; and the pure decisions of that."""
