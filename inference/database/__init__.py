"""SQLite or PostgreSQL: connections, transactions, tables, and how an older database becomes one of this version."""
