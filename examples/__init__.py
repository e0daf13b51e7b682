"""Worked examples that ship with the repository; nothing in `inference` imports them."""
