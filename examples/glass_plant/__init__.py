"""A simulated float-glass line, and the training of the two bundled models on what it produces."""
