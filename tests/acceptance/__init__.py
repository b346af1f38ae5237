"""The acceptance table: what this project must show (table.yaml), which tests decide it, and how a run of them went."""
