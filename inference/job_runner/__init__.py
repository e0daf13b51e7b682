"""The batch path: claims shards, reads, prepares, predicts, writes and commits them."""
