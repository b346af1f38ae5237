"""Brings a database to the schema of this version, records what it made, and takes it away again."""
