"""The pool in Postgres: units, stripes, leases. Everything that speaks to it goes through this package."""
