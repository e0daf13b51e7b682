"""Sessions, the threads that run them, and what was measured of them."""
