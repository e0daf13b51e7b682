"""Other ways to serve the same models, each run in an environment of its own under .bench/."""
