"""Where rows come from and where predictions go: one contract, `connector`, and everything that keeps it."""
