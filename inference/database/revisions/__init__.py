"""The steps that make a database what `tables` says, one a file, in the order of their numbers."""
