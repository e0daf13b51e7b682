"""The server measured beside its peers and its limits: `make bench`, or `python -m benchmarks --row NAME`."""
