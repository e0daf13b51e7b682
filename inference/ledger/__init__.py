"""Jobs and their shards in a database: one contract, `ledger`, and everything that keeps it."""
