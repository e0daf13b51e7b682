"""The batch path: jobs over datasets, shard by shard."""
