"""The ledger's memory: one SQLite database."""
